"""The benchmark of many nights: links are nights of their own, and the difference is told."""

from __future__ import annotations

from pathlib import Path

from benchmarks.nights import Row, linked_nights, section, table
from benchmarks.process import Timing
from benchmarks.results import machine


def test_further_nights_are_links_to_the_first(tmp_path: Path) -> None:
    nights = linked_nights(tmp_path, 5, 2, (60, 40))
    assert [len(list(night.iterdir())) for night in nights] == [8] * 5
    light = [(night / "light-001.fit").stat().st_ino for night in nights]
    assert light[2:] == [light[0], light[1], light[0]]
    assert light[0] != light[1]


def test_what_one_more_night_costs_is_a_difference() -> None:
    rows = [Row("a", 10, Timing(3.0, 2.0, 90.0)), Row("a", 110, Timing(13.0, 7.0, 95.0))]
    assert rows[1].per_night(rows[0]) == (0.1, 0.05)
    assert rows[0].per_night(None) == (0.3, 0.2)
    assert table(iter(rows)).splitlines()[-1] == "| a | 110 | 13.0 | 8.5 | 0.1000 | 0.0500 | 95 |"


def test_the_page_says_if_the_machine_was_busy_otherwise() -> None:
    quiet, busy = (section({**machine(), "load_before": load}, "| a |") for load in (0.2, 7.0))
    assert quiet.startswith("## Many nights\n\nNights of 5 darks and 3 lights of 1024 x 1536")
    assert ("busy" in quiet, "busy otherwise (load 7)" in busy) == (False, True)
