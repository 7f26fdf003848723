"""A cache on a bad disk, in a process of its own: what listens to the disk stays there.

For n = FIRST, FIRST + STEP, ... the nth time that a cache being built opens a file to write, makes
a folder or renames one, the disk refuses; with LASTING it refuses everything from then on. The
cache must be absent or complete, and the next run must make it.
"""

from __future__ import annotations

import errno
import itertools
import os
import sys
from pathlib import Path

import arrayred as ar
from arrayred.errors import StorageError
from arrayred.io import CacheFolder, is_cache, open_cache
from arrayred.night import cache_night

EVENTS = {"open", "os.mkdir", "os.rename"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Disk:
    """Counts what is done in a folder, and refuses from the nth time on, once or lastingly."""

    def __init__(self, folder: Path, number: int, *, lasting: bool) -> None:
        self.folder, self.number, self.lasting = str(folder), number, lasting
        self.left: float = float("inf")
        self.n_refused = 0

    def hook(self, event: str, args: tuple[object, ...]) -> None:
        is_read = event == "open" and not int(str(args[2])) & WRITING
        if event not in EVENTS or is_read or not str(args[0]).startswith(self.folder):
            return
        self.left -= 1
        if self.left == 0 or (self.lasting and self.left < 0):
            self.n_refused += 1
            raise OSError(self.number, os.strerror(self.number), str(args[0]))


def refused(
    night: Path, work: Path, name: str, lasting: bool, first: int, step: int
) -> tuple[int, int]:
    """Build, fail and build again; return the last n, and how often the disk refused."""
    disk = Disk(work, getattr(errno, name), lasting=lasting)
    opened = ar.open_night(night)
    sys.addaudithook(disk.hook)
    for nth in itertools.count(first, step):
        library = CacheFolder(work / str(nth))
        disk.left, before = nth, disk.n_refused
        said = f"not refused at {nth}"
        try:
            cache_night(opened, library)
        except StorageError as error:
            said = str(error)
        assert disk.n_refused > before or said.startswith("not refused"), said
        assert said.startswith("not refused") or os.strerror(disk.number) in said, said
        disk.left = float("inf")
        left = list(library.folder.iterdir()) if library.folder.exists() else []
        assert all(is_cache(path) for path in left), left
        place = cache_night(opened, library)
        assert len(open_cache(place, wholly=True).images) == 4
        assert list(library.folder.iterdir()) == [place]
        if disk.n_refused == before:
            break
    return nth, disk.n_refused
