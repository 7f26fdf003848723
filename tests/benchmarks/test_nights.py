"""The benchmark of many nights: no two have the same frames, and the difference is told."""

from __future__ import annotations

from pathlib import Path

from benchmarks.nights import Row, section, simulated_nights, table
from benchmarks.process import Timing
from benchmarks.results import machine


def test_no_two_frames_of_the_nights_are_the_same(tmp_path: Path) -> None:
    nights = simulated_nights(tmp_path, 3, (60, 40))
    assert [len(list(night.iterdir())) for night in nights] == [8] * 3
    assert len({path.read_bytes() for night in nights for path in night.iterdir()}) == 24


def test_what_one_more_night_costs_is_a_difference() -> None:
    rows = [Row("a", 10, Timing(3.0, 2.0, 90.0)), Row("a", 110, Timing(13.0, 7.0, 95.0))]
    assert rows[1].per_one(rows[0]) == (0.1, 0.05)
    assert rows[0].per_one(None) == (0.3, 0.2)
    assert table("nights", rows).splitlines()[-1] == "| a | 110 | 13.0 | 0.1000 | 0.0500 | 95 |"


def test_the_page_says_if_the_machine_was_busy_otherwise() -> None:
    quiet, busy = (
        section({**machine(), "load_before": load}, "| a |", "| b |") for load in (0.2, 7.0)
    )
    assert quiet.startswith("## Many nights\n\nNights of 5 darks and 3 lights of 1024 x 1536")
    assert ("busy" in quiet, "busy otherwise (load 7)" in busy) == (False, True)
