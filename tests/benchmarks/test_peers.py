"""Every contender that is installed gives numpy's numbers, or is known to give others."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.contenders import Contender, Script, Task
from benchmarks.frames import Stack
from benchmarks.jobs import JOBS
from benchmarks.measure import Settings, measure
from benchmarks.peers import contenders, of_threads

ONCE = Settings(rounds=0, sessions=0)  # the warm-up alone, whose numbers are compared
PROGRAMS = [one for one in contenders() if not isinstance(one, Script)]
# astropy and ccdproc take a second to import: one job has to do, in which frames are subtracted.
SLOW = {"arrayred lazily", "numpy (astropy)", "bottleneck", "reducers", "ccdproc"}
# Each does two jobs that together subtract, sort and clip; ours does all, the limit does none.
ALL = [(one.name, job.name) for one in contenders() for job in JOBS.values() if one.can(job)]
FEW = {"arrayred combine": set(JOBS), "limit: read and write": {"median"}}
TWO, ONE = {"minus-median", "clip-all"}, {"minus-median"}
CASES = [(name, job) for name, job in ALL if job in FEW.get(name, ONE if name in SLOW else TWO)]
THOROUGH = [
    (name, job) for name, job in ALL
    if (name, job) not in CASES and name not in FEW and job in {"mean", "clip"}
]  # fmt: skip


def require(one: Contender) -> None:
    if (what := one.missing()) is not None:
        pytest.skip(f"{one.name} needs {what}: {one.install}")


def check(stack: Stack, name: str, job_name: str, folder: Path) -> None:
    (one,) = [one for one in contenders() if one.name == name]
    require(one)
    (found,) = measure(stack, JOBS[job_name], [one], ONCE, folder=folder, say=lambda _: None)
    assert found.error is None
    assert not found.is_wrong, f"{found.largest} adu off, {found.fraction} of the pixels"


@pytest.mark.parametrize(("name", "job"), CASES)
def test_numbers_are_numpys_or_known_to_differ(
    tiny: Stack, name: str, job: str, tmp_path: Path
) -> None:
    check(tiny, name, job, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "job"), THOROUGH)
def test_numbers_of_other_jobs_too(tiny: Stack, name: str, job: str, tmp_path: Path) -> None:
    check(tiny, name, job, tmp_path)


@pytest.mark.parametrize("one", of_threads(), ids=lambda one: one.name)
def test_threads_change_no_number(tiny: Stack, one: Contender, tmp_path: Path) -> None:
    require(one)
    (found,) = measure(tiny, JOBS["median"], [one], ONCE, folder=tmp_path, say=lambda _: None)
    assert (found.error, found.verdict) == (None, "equal")


def test_names_differ() -> None:
    names = [one.name for one in (*contenders(), *of_threads())]
    assert len(names) == len(set(names))


def test_a_missing_program_names_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "")
    missing = {one.name: one.install for one in PROGRAMS if one.missing()}
    assert missing["Siril"] == "apt-get install siril"
    assert missing["IRAF"] == "apt-get install iraf iraf-noao"


def test_sirils_dark_is_where_its_script_looks(tiny: Stack, tmp_path: Path) -> None:
    (siril,) = [one for one in contenders() if one.name == "Siril"]
    siril.prepare(Task(tiny, JOBS["minus-mean"], tmp_path))
    assert (tmp_path / "dark.fits").samefile(tiny.master)
    assert len(list((tmp_path / "in").iterdir())) == tiny.n
