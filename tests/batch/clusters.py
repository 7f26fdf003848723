"""Clusters to be disturbed: a scheduler and workers as processes, and traps inside workers."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from distributed import Client
from distributed.diagnostics.plugin import WorkerPlugin

from arrayred.batch import Job, reduce_nights
from tests.batch.disturbed import job_of, products

ROOT = Path(__file__).parents[2]
LOAD = "arrayred.night.groups.make_cube"
COMBINE = "arrayred.pipeline.combine_frames"
WRITE = "arrayred.batch.run.publish"


def jobs_of(nights: Path, out: Path) -> list[Job]:
    return [job_of(night, out / night.name) for night in sorted(nights.iterdir())]


def truth_of(nights: Path, out: Path) -> dict[str, bytes]:
    assert not any(report.exit_code for report, _ in reduce_nights(jobs_of(nights, out)))
    return products(out)


class Trap(WorkerPlugin):
    """Something that happens to a worker before it does one thing to one night.

    Parameters
    ----------
    where : the name under which what it does is called.
    night : part of the paths that it is called with.
    what : "kill", "die noted", "hold" (600 MiB, for 3 s) or "linger" (1 s).
    once : a file that is left at the first time; then it does not happen again. Of "die noted" it
        is a folder, in which every death leaves a file.
    """

    def __init__(self, where: str, night: str, what: str, once: Path | None = None) -> None:
        self.where, self.night, self.what, self.once = where, night, what, once
        self.name = f"trap-{where}-{night}-{what}"

    def setup(self, worker: object) -> None:
        module, _, name = self.where.rpartition(".")
        call = getattr(importlib.import_module(module), name)

        def trapped(*args: Any, **options: Any) -> Any:
            if self.night in path_of(args[0]) and self._is_due():
                happen(self.what)
            return call(*args, **options)

        setattr(sys.modules[module], name, trapped)

    def _is_due(self) -> bool:
        if self.once is None:
            return True
        if self.what == "die noted":
            (self.once / str(os.getpid())).touch()
            return True
        try:
            os.close(os.open(self.once, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True


def path_of(told: Any) -> str:
    """Return the path of the first of some frames, sources, or files, or of a cube's frames."""
    if isinstance(told, tuple | list):
        return str(told[0].path)
    return str(next(iter(told), "")) if isinstance(told, dict) else str(told["path"].values[0])


def happen(what: str) -> None:
    if what in ("kill", "die noted"):
        os.kill(os.getpid(), signal.SIGKILL)
    held = np.ones(600 << 17) if what == "hold" else None
    time.sleep(1 if held is None else 3)


@contextmanager
def trapped(client: Client, trap: Trap) -> Iterator[None]:
    client.register_plugin(trap)
    try:
        yield
    finally:
        client.unregister_worker_plugin(trap.name)


class Processes(NamedTuple):
    """A scheduler and its workers, each without anybody who would begin it anew."""

    address: str
    scheduler: subprocess.Popen[bytes]
    workers: list[subprocess.Popen[bytes]]


@contextmanager
def started(folder: Path, n_workers: int) -> Iterator[Processes]:
    """Start a scheduler and workers on the loopback, and end them."""
    file, port = folder / "scheduler.json", "127.0.0.1:0"
    named = ["--scheduler-file", str(file)]
    scheduler = begun("scheduler", *named, "--host", "127.0.0.1", "--dashboard-address", port)
    once = ["--no-nanny", "--nthreads", "1", "--host", "127.0.0.1", "--dashboard-address", port]
    own = ["--local-directory", str(folder)]
    processes = Processes("", scheduler, [])
    try:
        while not file.exists():
            time.sleep(0.05)
        address = json.loads(file.read_bytes())["address"]
        workers = [begun("worker", address, *once, *own) for _ in range(n_workers)]
        processes = Processes(address, scheduler, workers)
        yield processes
    finally:
        for process in [*processes.workers, scheduler]:
            process.kill()
            process.wait()


def begun(what: str, *options: str) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-m", "dask", what, *options],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def listening(pids: Callable[[], list[int]]) -> list[str]:
    """Return the addresses, in hexadecimal, on which processes listen."""
    inodes = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            cells = line.split()
            if cells[3] == "0A":
                inodes[f"socket:[{cells[9]}]"] = cells[1].partition(":")[0]
    found = []
    for pid in pids():
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found += [inodes[told] for told in [str(handle.readlink())] if told in inodes]
            except FileNotFoundError:
                continue
    return found
