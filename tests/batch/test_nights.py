"""Nights are told apart by their paths, and one that is done leaves nothing behind in memory."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from arrayred.batch import night_labels, reduce_nights, reduce_one
from arrayred.batch import nights as module
from arrayred.errors import UsageError
from arrayred.io import STATE_FOLDER
from tests.batch.disturbed import job_of


@pytest.mark.parametrize(
    ("folders", "labels"),
    [
        (["/data/2020-11-03/raw", "/data/2020-11-04/raw"], ["2020-11-03", "2020-11-04"]),
        (["/a/x/raw", "/b/y/raw"], ["x", "y"]),
        (["/a/n1", "/a/n2", "/a/deep/n1"], ["a_n1", "n2", "deep_n1"]),
        (["/a/only"], ["only"]),
        (["/a", "/a/b"], ["a", "b"]),
    ],
)
def test_a_night_is_called_by_what_tells_it_from_the_others(
    folders: list[str], labels: list[str]
) -> None:
    assert night_labels([Path(folder) for folder in folders]) == labels


@pytest.mark.parametrize("folders", [["/a/n", "/a/n"], ["/a/x y", "/a/x_y"]])
def test_two_nights_of_one_name_are_refused(folders: list[str]) -> None:
    with pytest.raises(UsageError):
        night_labels([Path(folder) for folder in folders])


GROWTH = """
import gc, sys, tracemalloc
from pathlib import Path
from arrayred.batch import reduce_nights
from tests.batch.disturbed import job_of, write_nights

out = Path(sys.argv[1])
jobs = [job_of(n, out / n.name, allow_missing=True) for n in write_nights(out / "nights", 6)]
held = []
for report, _ in reduce_nights(jobs):
    assert report.exit_code == 0
    if not held:  # what is imported and made once is there
        tracemalloc.start()
    gc.collect()
    held.append(tracemalloc.get_traced_memory()[0])
print((held[-1] - held[1]) // (len(held) - 2))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_nights(tmp_path: Path) -> None:
    """Samples and headers of its frames would be 56 KiB a night; their reports are 3 KiB."""
    command = [sys.executable, "-c", GROWTH, str(tmp_path)]
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 15_000


def test_pictures_do_not_pile_up_in_memory(three: Path, tmp_path: Path) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure
    gc.collect()
    gc.disable()
    try:
        assert reduce_one(job_of(three / "night-0", tmp_path / "0", figures=True)).exit_code == 0
        assert not [one for one in gc.get_objects() if isinstance(one, figure)]
    finally:
        gc.enable()


def test_a_bug_in_one_night_is_told_and_is_not_the_others(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = module.check_night

    def fail_once(night: object, *rest: object) -> object:
        if str(three / "night-1") in str(night.folder):  # type: ignore[attr-defined]
            raise ZeroDivisionError("boom")
        return original(night, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "check_night", fail_once)
    jobs = [job_of(three / f"night-{i}", tmp_path / str(i)) for i in range(3)]
    reports = [report for report, _ in reduce_nights(jobs)]
    assert [report.exit_code for report in reports] == [0, 1, 0]
    assert "ZeroDivisionError: boom" in reports[1].bug
    assert "internal error, please report it: ZeroDivisionError" in reports[1].lines[0].reason


def test_a_failed_night_leaves_no_state(three: Path, tmp_path: Path) -> None:
    for path in (three / "night-0").glob("light*"):
        path.unlink()
    assert reduce_one(job_of(three / "night-0", tmp_path / "out")).exit_code == 4
    assert not (tmp_path / "out" / STATE_FOLDER).exists()
