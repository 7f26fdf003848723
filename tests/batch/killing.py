"""``python -m tests.batch.killing NIGHTS WORK FIRST STEP``: a small batch, killed at its nth step.

A step is anything that a run does to a file in its output folder: to create, write, sync, rename or
remove it. For n = FIRST, FIRST + STEP, ... until a run ends before its nth step: the run is killed
there, run again, and what it wrote compared with what an undisturbed one wrote. Runs are forks of
this process, in which all is imported and no thread runs.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from arrayred.batch import reduce_nights, serial_executor
from arrayred.io import Ledger, publish
from tests.batch.disturbed import Watched, inodes, job_of, products, temporaries

xr.Dataset({"x": ("x", np.zeros(1))}).chunk()  # imports what is imported late
EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def main(nights: Path, work: Path, first: int, step: int) -> None:
    """Kill and complete one run after the other."""
    in_fork(lambda: run(nights, work / "undisturbed"))
    truth = products(work / "undisturbed")
    assert len(truth) >= 6
    n_kept = 0
    for nth in itertools.count(first, step):
        out = work / str(nth)
        out.mkdir()
        was_killed = in_fork(lambda out=out, nth=nth: killed_run(nights, out, nth))
        left = products(out)
        assert all(truth[name] == left[name] for name in left if not name.endswith(".tmp")), nth
        done = finished(out)
        before = inodes(out, done)
        assert not in_fork(lambda out=out: run(nights, out))
        assert products(out) == truth, nth
        assert inodes(out, done) == before, f"{nth}: what was finished was done again"
        assert not temporaries(out), nth
        n_kept += len(done)
        shutil.rmtree(out)
        if not was_killed:
            break
    print(nth, n_kept)


def run(nights: Path, out: Path) -> None:
    """Reduce every night; leave with what went wrong, if anything did."""
    jobs = [job_of(night, out / night.name) for night in sorted(nights.iterdir())]
    reports = [report for report, _ in reduce_nights(jobs, serial_executor)]
    assert not any(report.exit_code for report in reports), reports


def killed_run(nights: Path, out: Path, nth: int) -> None:
    """Reduce every night until the nth step."""
    steps = itertools.count(1)

    def step() -> None:
        if next(steps) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, args: tuple[object, ...]) -> None:
        is_step = event in EVENTS or (event == "open" and int(str(args[2])) & WRITING)
        if is_step and str(args[0]).startswith(str(out)):
            step()

    watched = Watched(step, ("write", "fsync"))
    publish.os = watched  # type: ignore[assignment]
    publish.open = watched.file  # type: ignore[attr-defined]
    sys.addaudithook(hook)
    run(nights, out)


def in_fork(work: Callable[[], None]) -> bool:
    """Do work in a fork of this process, and return whether it was killed."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def finished(out: Path) -> list[str]:
    """Return the products of everything that is finished."""
    return [
        (night / name).relative_to(out).as_posix()
        for night in out.iterdir()
        for entry in Ledger(night).entries()
        for name in entry.products
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
