"""Caches of many nights in one folder, the least used going first: `Library`.

The folder must be the user's own: whoever can write into it could put other pixels there. A cache
goes by the SHA-256 of what it was made from, so that two runs that make the same one make the same
bytes, and whichever comes second finds the first one's in its place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from arrayred._version import __version__
from arrayred.errors import FrameError, StorageError, UsageError
from arrayred.io.cache.build import Night, build
from arrayred.io.cache.check import COMPLETE, SCHEMA
from arrayred.io.cache.contents import Contents, contents_of
from arrayred.io.cache.layout import CHUNK_ROWS, SHARD_BYTES
from arrayred.io.hashes import FILE

MOST_BYTES = 20 << 30
"""What the caches of a library may take together, unless something else is said."""
_DAY = 86400.0
_SUFFIX = ".zarr"


class Entry(NamedTuple):
    """One cache of a library: its folder, its size in bytes, and when it was last used."""

    place: Path
    n_bytes: int
    used: float


def key_of(files: Iterable[tuple[str, str]], options: str) -> str:
    """Return the key of a cache: what it is made from, by which version, in which layout.

    Parameters
    ----------
    files : name and SHA-256 of every frame.
    options : what else decides what a cache holds.
    """
    parts = [SCHEMA, __version__, SHARD_BYTES, CHUNK_ROWS, options, sorted(files)]
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()


def default_folder() -> Path:
    """Return where caches lie: ``arrayred`` in $XDG_CACHE_HOME, else in ~/.cache."""
    told = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(told) if told and Path(told).is_absolute() else Path.home() / ".cache"
    return home / "arrayred"


@dataclass(frozen=True)
class Library:
    """A folder of caches.

    Parameters
    ----------
    folder : made, readable by its owner alone, when the first cache is added.
    most_bytes : what they may take together.
    """

    folder: Path
    most_bytes: int = MOST_BYTES

    def find(self, key: str) -> Contents | None:
        """Return the cache of a key, every file of which is as it was written; None if none is.

        Raises
        ------
        FrameError
            There is one, but it is damaged.
        UsageError
            The library is not the user's own.
        """
        place = self.place_of(key)
        if not os.path.lexists(self.folder):
            return None
        self._require_own()
        if not os.path.lexists(place):
            return None
        contents = contents_of(place, wholly=True)
        if contents.key != key:
            raise FrameError("The cache is one of other frames", path=place, hint="Remove it.")
        with contextlib.suppress(OSError):
            os.utime(place)
        return contents

    def is_empty(self) -> bool:
        """Tell whether there is no cache at all, so that no frame need be known by its sum.

        Raises
        ------
        UsageError
            The library is not the user's own.
        """
        if not os.path.lexists(self.folder):
            return True
        self._require_own()
        return next(self.folder.glob(f"*{_SUFFIX}"), None) is None

    def add(self, night: Night, threads: int = 2) -> Path:
        """Write the cache of a night, make room for it, and return its place.

        Raises
        ------
        UsageError
            The library is not the user's own.
        StorageError
            The disk is full or refuses.
        """
        self.prepare()
        place = self.place_of(night.key)
        if not os.path.lexists(place):
            build(night, place, threads=threads)
        self._trim(place)
        return place

    def prepare(self) -> None:
        """Make the folder if it is not there, and sweep out what killed runs left.

        Raises
        ------
        UsageError
            The library is not the user's own.
        StorageError
            It cannot be made.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"The folder of caches cannot be made ({error.strerror})",
                path=self.folder,
                hint="Choose another with --cache-dir, or give --no-cache.",
            ) from error
        self._require_own()
        self._sweep()

    def drop(self, key: str) -> None:
        """Remove the cache of a key, whatever is in its place."""
        self._require_own()
        _remove(self.place_of(key))

    def clear(self) -> list[Entry]:
        """Remove every cache, and return what there was."""
        there = self.entries()
        for entry in there:
            _remove(entry.place)
        if os.path.lexists(self.folder):
            (self.folder / FILE).unlink(missing_ok=True)
        if there:
            self._sweep(age=0.0)
        return there

    def entries(self) -> list[Entry]:
        """Return the caches, the least used first."""
        if not self.folder.is_dir():
            return []
        self._require_own()
        places = [p for p in self.folder.glob(f"*{_SUFFIX}") if not p.name.startswith(".")]
        sized = [Entry(p, _size_of(p), p.lstat().st_mtime) for p in places]
        return sorted(sized, key=lambda entry: entry.used)

    def place_of(self, key: str) -> Path:
        """Return where the cache of a key lies."""
        return self.folder / f"{key}{_SUFFIX}"

    def _require_own(self) -> None:
        """Raise UsageError if anybody else owns the folder, or can write into it."""
        status = self.folder.lstat()
        if not hasattr(os, "geteuid"):
            return
        theirs = status.st_uid != os.geteuid()
        if theirs or status.st_mode & stat.S_IWOTH or not stat.S_ISDIR(status.st_mode):
            why = (
                "belongs to somebody else" if theirs else "can be written by anybody, or is a link"
            )
            raise UsageError(
                f"The folder of caches {why}",
                path=self.folder,
                hint="Choose your own with --cache-dir, or give --no-cache.",
            )

    def _sweep(self, age: float = _DAY) -> None:
        """Remove what runs left behind that were killed, if it is old enough not to be alive."""
        for partial in [*self.folder.glob(".*.partial"), *self.folder.glob(".*.old")]:
            with contextlib.suppress(OSError):
                if time.time() - partial.lstat().st_mtime > age:
                    _remove(partial)

    def _trim(self, newest: Path) -> None:
        """Remove the least used caches until the rest is small enough; the newest stays."""
        there = self.entries()
        total = sum(entry.n_bytes for entry in there)
        for entry in there:
            if total > self.most_bytes and entry.place != newest:
                _remove(entry.place)
                total -= entry.n_bytes


def _size_of(place: Path) -> int:
    return sum(path.lstat().st_size for path in place.rglob("*") if not path.is_dir())


def _remove(place: Path) -> None:
    """Remove a cache: its mark of completeness first, so that no half of it is taken for whole."""
    if place.is_symlink() or not place.is_dir():
        place.unlink(missing_ok=True)
        return
    (place / COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(place, ignore_errors=True)
