"""The sha256 of files that were hashed before and have not changed since: `Hashes`.

A file is taken for unchanged by its stamp: size, times of change, inode. The time of the inode's
own change is among them, which nobody can set back: a copy that keeps the times, or ``touch -r``,
is found out. And a file is only trusted if it was hashed more than two seconds after its last
change (git's rule for racily clean files): clocks tick coarsely, and a second change within one
tick would leave the same stamp. Hints are hints: without them, or on request, files are hashed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

from arrayred.io.patience import patiently
from arrayred.io.publish import publish
from arrayred.io.remote.address import Address, located

FILE = "hashes.json"
_COARSE_NS = 2_000_000_000


class Hashes:
    """The known sha256 of files, kept in a folder.

    Parameters
    ----------
    folder : where they are kept; read at once if there.
    trust : take what is known of unchanged files; else every file is hashed once more.
    """

    def __init__(self, folder: Path, *, trust: bool = True) -> None:
        self._path = folder / FILE
        self._known: dict[str, list[Any]] = {}
        self._is_new = False
        self.trust = trust
        with suppress(OSError, ValueError):
            read = json.loads(self._path.read_bytes())
            if isinstance(read, dict):
                self._known = read

    def known(self, path: Path) -> str | None:
        """Return the sha256 of an unchanged file, or None."""
        path = located(path)
        entry = self._known.get(str(path.absolute())) if self.trust else None
        if entry is None:
            return None
        if isinstance(path, Address):
            return str(entry[-1]) if entry[:-1] == _remote_stamp(path) else None
        with suppress(OSError, ValueError, TypeError):
            *stamp, noted, sha256 = entry
            if stamp == _stamp(os.stat(path)) and noted - max(stamp[1:3]) > _COARSE_NS:
                return str(sha256)
        return None

    def note(self, path: Path, sha256: str, status: os.stat_result | None = None) -> None:
        """Keep the sha256 of a file.

        Parameters
        ----------
        path : the file.
        sha256 : of its content.
        status : of the file, from before it was read; None of a file behind a URL, which is known
            by what its store tells: one that tells neither a time nor a tag is not kept.
        """
        if isinstance(path, Address):
            self._note_remote(path, sha256)
            return
        if status is None:
            return
        self._known[str(path.absolute())] = [*_stamp(status), time.time_ns(), sha256]
        self._is_new = True

    def _note_remote(self, address: Address, sha256: str) -> None:
        from arrayred.io.remote.store import is_listed

        stamp = _remote_stamp(address) if is_listed(address) else []  # not of a frame in a cache
        if stamp and self._known.get(str(address)) != [*stamp, sha256]:
            self._known[str(address)] = [*stamp, sha256]
            self._is_new = True

    def of(self, path: Path) -> str:
        """Return the sha256 of a file, known or computed and kept.

        Raises
        ------
        OSError
            The file cannot be read.
        FrameError
            The file is behind a URL, and its store does not give it.
        """
        path = located(path)
        known = self.known(path)
        if known is not None:
            return known
        if isinstance(path, Address):
            from arrayred.io.remote.files import sum_of

            sha256 = sum_of(path)
            self._note_remote(path, sha256)
            return sha256
        sha256, status = patiently(partial(sha256_of, path))
        self.note(path, sha256, status)
        return sha256

    def save(self) -> None:
        """Write what is known, if there is anything new."""
        if self._is_new:
            publish({self._path: _as_json(self._known)}, overwrite=True, durable=False)
            self._is_new = False


def sha256_of(path: Path) -> tuple[str, os.stat_result]:
    """Return the sha256 of a file, and its status from before it was read.

    Raises
    ------
    OSError
        It cannot be read, or is no regular file.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would keep us waiting
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest(), status


def _remote_stamp(address: Address) -> list[Any]:
    """Return what tells that a file behind a URL has changed; nothing where its store does not."""
    from arrayred.io.remote.store import is_identified, stamp_of

    stamp = stamp_of(address)
    return [*astuple(stamp)] if is_identified(stamp) else []


def _stamp(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _as_json(known: Mapping[str, list[Any]]) -> bytes:
    lines = (f"{json.dumps(path)}: {json.dumps(known[path])}" for path in sorted(known))
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()
