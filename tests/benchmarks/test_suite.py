"""The command measures what its options ask for, and keeps what it has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import suite
from benchmarks.__main__ import main
from benchmarks.frames import Stack
from benchmarks.measure import Result, Settings
from benchmarks.night import measure_night
from benchmarks.peers import contenders
from benchmarks.planes import measure_planes
from benchmarks.results import Report
from benchmarks.suite import PARTS, Plan, carry_out
from benchmarks.tables import page


def test_the_command_measures_prints_and_saves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = tmp_path / "results.json"
    options = ["--parts", "table", "--stacks", "t12", "--jobs", "median", "--rounds", "2"]
    only = ["--only", "numpy (plain", "--folder", str(tmp_path / "frames"), "--json", str(where)]
    assert main([*options, *only]) == 0
    (found,) = Report.load(where).results
    assert (found.contender, found.verdict, len(found.seconds)) == (
        "numpy (plain reads)",
        "equal",
        2,
    )
    assert "| numpy (plain reads) | " in capsys.readouterr().out
    assert not (tmp_path / "frames" / "work").exists()


@pytest.mark.parametrize("options", [["--parts", "tabel"], ["--jobs", "mode"], ["--nights", "x"]])
def test_unknown_words_are_usage_errors(options: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(options)


def test_every_cell_is_saved_as_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "measure", counted := Counted())
    saved: list[int] = []
    plan = Plan(("table",), ("t5", "t12"), ("median", "clip"))
    report = Report.begun(contenders())
    carry_out(plan, tmp_path, report, save=lambda i: saved.append(len(i.results)), say=print)
    assert saved == [1, 2, 3]
    assert counted.cells == [("t5", "median"), ("t12", "median"), ("t12", "clip")]


def test_curves_lead_over_frames_pixels_and_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "measure", counted := Counted())
    for name in ("_FRAMES", "_PIXELS", "_THREADS"):
        monkeypatch.setattr(suite, name, ("t5", "3x40x50"))
    plan = Plan(("frames", "pixels", "threads"))
    carry_out(plan, tmp_path, Report({}), save=lambda _: None, say=print)
    assert counted.cells.count(("t5", "median")) == 3
    assert counted.series == {"frames", "pixels", "threads"}


def test_the_quick_plan_is_a_part_of_the_whole() -> None:
    quick, whole = Plan.quick(), Plan()
    assert set(quick.stacks) < set(whole.stacks)
    assert set(quick.parts) < set(whole.parts) == set(PARTS)


@pytest.mark.slow
def test_a_night_is_measured_and_its_tables_agree(night: Path, tmp_path: Path) -> None:
    found = measure_night(night, Settings(rounds=1), tmp_path, say=print)
    assert [one.error for one in found] == [None] * 3
    assert [one.verdict for one in found] == ["equal", "equal", None]
    assert all(len(one.seconds) == 1 for one in found)


@pytest.mark.slow
def test_what_noise_and_flags_cost_is_measured_side_by_side(
    night: Path, tiny: Stack, report: Report, tmp_path: Path
) -> None:
    found = measure_planes([tiny], night, Settings(rounds=1), tmp_path)
    assert [one.error for one in found] == [None] * 7
    assert [one.contender for one in found[-2:]] == ["reduce without noise and flags", "reduce"]
    assert all(len(one.seconds) == len(one.cpu_seconds) == 1 for one in found)
    text = page(replace(report, results=found), [])
    assert "| image+flags+noise | 12 x 48 x 64 | " in text


@pytest.mark.slow
def test_a_night_that_cannot_be_reduced_is_reported(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    found = measure_night(tmp_path / "empty", Settings(rounds=0), tmp_path, say=print)
    assert found[0].error is not None
    assert found[2].error is None


class Counted:
    """Stands in for `measure`, and notes what it was asked for."""

    def __init__(self) -> None:
        self.cells: list[tuple[str, str]] = []
        self.series: set[str] = set()

    def __call__(self, stack, job, entrants, settings, *, folder, series, say) -> list[Result]:  # type: ignore[no-untyped-def]
        self.cells.append((stack.name, job.name))
        self.series.add(series)
        return [Result(series, stack.name, job.name, "somebody", "Python")]
