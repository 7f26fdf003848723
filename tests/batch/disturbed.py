"""Runs that are disturbed: jobs over small nights, and a publisher that is watched at its work."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from arrayred.batch import Job, OutputOptions
from arrayred.io import LOG_FILE, MANIFEST, STATE_FOLDER, write_frames
from arrayred.simulate import Detector, SimulatedNight, Star

OPERATIONS = ("open", "write", "fsync", "replace")
DETECTOR = Detector(shape=(120, 60))
START = datetime(2024, 3, 1, 20)


def write_night(folder: Path, seed: int = 0, **parts: Any) -> Path:
    """Write two darks and two lights of 120 x 60 pixels, taken on the night of a number.

    Nothing in them but their sha256 tells that they were changed.
    """
    star = Star("Vega", row=70.0, lines=())
    settings = {"n_darks": 2, "n_lights": 2, "start": START + timedelta(days=seed), **parts}
    write_frames(SimulatedNight(DETECTOR, star, seed=seed, **settings).frames(), folder)
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes().replace(b"DATASUM =", b"HISTORY  ", 1))
    return folder


def write_nights(folder: Path, n_nights: int) -> list[Path]:
    return [write_night(folder / f"night-{i}", i) for i in range(n_nights)]


def job_of(night: Path, out: Path, **changes: Any) -> Job:
    order = {
        name: changes.pop(name) for name in list(changes) if name in OutputOptions.__annotations__
    }
    return Job(
        night.name, night, OutputOptions(out, **{"cards": {}, "figures": False, **order}), **changes
    )


def products(out: Path) -> dict[str, bytes]:
    """Return the bytes of every product of one or many nights, by path."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file()
        and STATE_FOLDER not in path.parts
        and path.name not in ("summary.ecsv", LOG_FILE)
    }


def temporaries(out: Path) -> list[Path]:
    return list(out.rglob("*.tmp"))


def inodes(out: Path, names: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Return what changes when a file is replaced."""
    there = {name: (out / name).stat() for name in names}
    return {name: (status.st_ino, status.st_mtime_ns) for name, status in there.items()}


@contextmanager
def changed_manifest(out: Path) -> Iterator[dict[str, Any]]:
    """Yield the content of a manifest, and write it as it was left."""
    path = out / STATE_FOLDER / MANIFEST
    whole = json.loads(path.read_bytes())
    yield whole
    path.write_text(json.dumps(whole))


class Watched:
    """The module os as the publisher sees it: before each call of some operations, we are told.

    A file is written in two pieces, all but its last byte first.
    """

    def __init__(self, told: Callable[[], None], operations: Iterable[str] = OPERATIONS) -> None:
        self._told, self._operations = told, set(operations)

    def __getattr__(self, name: str) -> Any:
        call = getattr(os, name)
        if name not in self._operations:
            return call

        def watched(*args: Any, **options: Any) -> Any:
            self._told()
            return call(*args, **options)

        return watched

    def file(self, handle: int, mode: str, **_options: Any) -> io.FileIO:
        """Stand for `open`."""
        told = self._told if "write" in self._operations else lambda: None

        class Halting(io.FileIO):
            def write(self, content: Any) -> int:
                told()
                return super().write(memoryview(content)[: max(len(content) - 1, 1)])

        return Halting(handle, mode)
