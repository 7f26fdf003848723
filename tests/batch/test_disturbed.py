"""Whatever happens to a run, nothing false stays, and the next one completes it to the byte."""

from __future__ import annotations

import errno
import itertools
import os
import re
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from arrayred.batch import reduce_one
from arrayred.config import Recipe
from arrayred.io import publish
from tests.batch.disturbed import (
    Watched,
    inodes,
    job_of,
    products,
    temporaries,
    write_nights,
)
from tests.cli import forked

posix = pytest.mark.skipif(os.name != "posix", reason="signals")


@pytest.fixture
def reference(three: Path, tmp_path: Path) -> dict[str, bytes]:
    """Return the products of the first night, undisturbed."""
    assert reduce_one(job_of(three / "night-0", tmp_path / "reference")).exit_code == 0
    return products(tmp_path / "reference")


@pytest.mark.parametrize(
    ("operation", "lasting", "first"),  # every third call; tests/test_hunt.py strikes others
    [
        ("open", False, 1),
        ("write", True, 2),
        ("replace", True, 3),
        pytest.param("fsync", True, 2, marks=pytest.mark.slow),
    ],
)
def test_whatever_call_of_the_publisher_fails_nothing_false_stays(
    three: Path,
    tmp_path: Path,
    reference: dict[str, bytes],
    operation: str,
    lasting: bool,
    first: int,
) -> None:
    for nth in itertools.count(first, 3):
        job = job_of(three / "night-0", tmp_path / str(nth))
        report = None
        with pytest.MonkeyPatch.context() as patch:
            counted = failing(patch, operation, nth, lasting=lasting)
            report = reduce_one(job)
        assert report.exit_code == (5 if nth <= next(counted) - 1 else 0), report.lines
        assert products(job.output.out).items() <= reference.items()
        assert not temporaries(job.output.out)
        assert reduce_one(job).exit_code == 0
        assert products(job.output.out) == reference
        if report.exit_code == 0:
            break
    assert nth > 9


def failing(
    patch: pytest.MonkeyPatch, operation: str, nth: int, *, lasting: bool
) -> itertools.count[int]:
    """Let the nth call of an operation, and if asked for all after it, find the disk full."""
    calls = itertools.count(1)

    def fail() -> None:
        call = next(calls)
        if call == nth or (lasting and call > nth):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    watched = Watched(fail, [operation])
    patch.setattr(publish, "os", watched)
    patch.setattr(publish, "open", watched.file, raising=False)
    return calls


class Reducing:
    """The command over all nights in a fork, and what it says on the way."""

    def __init__(self, nights: Path, out: Path, *options: str) -> None:
        command = ["reduce", *sorted(map(str, nights.iterdir())), "-o", str(out), "--no-figures"]
        ours, theirs = os.pipe()
        with open(os.devnull, "r+b") as nothing:
            streams = [nothing.fileno(), nothing.fileno(), theirs]
            env = {**os.environ, "CI": "1"}
            self.process = forked.start([*command, *options], streams, out.parent, env)
        os.close(theirs)
        self.said = os.fdopen(ours)

    def ended(self) -> tuple[int, str]:
        """Return the exit code and what else was said."""
        with self.said:
            said = self.said.read()
        self.process.join(30)
        return int(self.process.exitcode), said


@posix
@pytest.mark.parametrize(
    ("number", "code", "jobs"),
    [
        (signal.SIGINT, 130, "2"),
        (signal.SIGTERM, 143, "1"),
        pytest.param(signal.SIGINT, 130, "1", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, "2", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_is_interrupted_stops_soon_and_can_go_on(
    tmp_path: Path, number: signal.Signals, code: int, jobs: str
) -> None:
    write_nights(tmp_path / "nights", 8)
    out = tmp_path / "out"
    run = Reducing(tmp_path / "nights", out, "--jobs", jobs)
    assert "1 reduced" in run.said.readline()
    finished = [name for name in products(out) if not name.endswith(".tmp")]
    os.kill(run.process.pid, number)
    exit_code, said = run.ended()
    assert (exit_code, "Traceback" in said) == (code, False), said
    assert "repeat the command to continue" in said
    assert not temporaries(out)
    summary = (out / "summary.ecsv").read_text()
    assert all(f",{status}," in summary for status in ("interrupted", "done"))
    before = inodes(out, finished)
    assert Reducing(tmp_path / "nights", out, "--jobs", "1").ended()[0] == 0
    assert inodes(out, finished) == before
    assert len({name.split("/")[0] for name in products(out)}) == 8


@posix
def test_of_two_runs_at_once_one_is_refused_and_the_products_are_right(tmp_path: Path) -> None:
    write_nights(tmp_path / "nights", 4)
    runs = [Reducing(tmp_path / "nights", tmp_path / "out", "-q") for _ in range(2)]
    ends = [run.ended() for run in runs]
    codes = [code for code, _ in ends]
    assert sorted(codes) == [0, 6], ends
    pid = runs[codes.index(0)].process.pid
    told = rf"out: Another run writes to this folder: process {pid} on \S+, since 20\S+\. Wait"
    assert re.search(told, ends[codes.index(6)][1])
    assert Reducing(tmp_path / "nights", tmp_path / "apart", "-q").ended()[0] == 0
    assert products(tmp_path / "out") == products(tmp_path / "apart")


def test_a_reader_never_sees_a_product_in_part_or_absent(three: Path, tmp_path: Path) -> None:
    jobs = [job_of(three / "night-0", tmp_path, force=True)]
    jobs.append(replace(jobs[0], recipe=Recipe(combine="median")))
    wholes = []
    for job in jobs:
        assert reduce_one(job).exit_code == 0
        wholes.append(products(tmp_path / "targets"))
    seen: set[bytes] = set()
    stop = threading.Event()
    name = "Vega/Vega_combined.fits"
    reader = threading.Thread(target=poll, args=(tmp_path / "targets" / name, seen, stop))
    reader.start()
    for job in jobs * 2:
        assert reduce_one(job).exit_code == 0
    stop.set()
    reader.join()
    assert seen == {whole[name] for whole in wholes}


def poll(path: Path, seen: set[bytes], stop: threading.Event) -> None:
    while not stop.is_set():
        seen.add(path.read_bytes() if path.exists() else b"absent")
