"""Make compressed frames plain: each is decoded once into a file of raw pixels.

Reading a band of a gzip file inflates all of it, every time; so a frame that is not plain is
decoded once to the spool, a folder of this process that goes when it ends, and from then on is
read like any other. What is written is bounded by what the header promises: a crafted file cannot
fill the disk. Several files are decoded at once, since zlib works without the interpreter's lock.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from threading import Lock
from weakref import finalize

from arrayred.bands import at_once
from arrayred.errors import StorageError
from arrayred.io.sources import ImageHDU, PixelSource, Stamp, unreadable

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MOST_PROBED = 256 << 20
"""Bytes of a frame that is unpacked merely to look at a few of its rows, at most."""
_locks: dict[_Key, Lock] = {}
_locking = Lock()


class _Folder:
    """A temporary folder that is removed when the process that made it ends."""

    def __init__(self) -> None:
        import tempfile  # takes longer to import than all of a plain frame's reading

        self.path = Path(tempfile.mkdtemp(prefix="arrayred-"))
        self._close = finalize(self, _remove_own, self.path, os.getpid())


def _remove_own(path: Path, pid: int) -> None:
    if os.getpid() == pid:
        import shutil

        shutil.rmtree(path, ignore_errors=True)


@cache
def _folder(_pid: int) -> _Folder:
    return _Folder()


@dataclass(frozen=True)
class _Key:
    """An image known by its file and HDU, so that one content is decoded once in a process."""

    image: ImageHDU = field(compare=False)
    path: Path
    stamp: Stamp
    pid: int


def plain(image: ImageHDU) -> PixelSource:
    """Return where the plain pixels of an image lie: in its own file, a cache, else the spool.

    Raises
    ------
    FrameError
        The compressed data are damaged, or of a kind that is refused.
    """
    source = image.source
    if image.at_hand:
        return source
    _require_unchanged(source)
    key = _Key(image, source.path, source.stamp, os.getpid())
    with _locking:
        decoding = _locks.setdefault(key, Lock())
    with decoding:
        path = _spooled(key)
    return replace(source, path=path, offset=0, stamp=Stamp.of(path.stat()))


def plain_all(images: Sequence[ImageHDU], threads: int = 1) -> list[PixelSource]:
    """Return where the uncompressed pixels of images lie, decoding several files at once.

    Parameters
    ----------
    images : of any packing.
    threads : how many files are decoded at once; each takes some megabytes.

    Raises
    ------
    FrameError
        The compressed data of one are damaged, or of a kind that is refused.
    """
    packed = [image for image in images if not image.at_hand]
    left = iter(packed)
    taking = Lock()

    def work() -> None:
        while True:
            with taking:
                image = next(left, None)
            if image is None:
                return
            plain(image)

    def fail() -> None:
        with taking:
            for _ in left:
                pass

    if packed:
        at_once(work, min(threads, len(packed)), fail)
    return [plain(image) for image in images]


def _require_unchanged(source: PixelSource) -> None:
    try:
        status = source.path.stat()
    except OSError as error:
        raise unreadable(source.path, error) from error
    source.require_unchanged(status)


@cache
def _spooled(key: _Key) -> Path:
    import tempfile

    from arrayred.io.decoding import decode_into

    with _locking:  # a second folder would be dropped by the cache, and removed
        folder = _folder(key.pid)
    handle, name = tempfile.mkstemp(suffix=".pixels", dir=folder.path)
    os.close(handle)
    try:
        with open(name, "wb") as target:
            decode_into(target, key.image)
    except BaseException as error:
        os.unlink(name)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise StorageError(
                f"The frame cannot be unpacked ({error.strerror})",
                path=key.path,
                hint="Make room in the folder for temporary files, or set TMPDIR.",
            ) from error
        raise
    return Path(name)
