"""Make frames plain and near: each is copied or decoded once into a file of raw pixels.

Reading a band of a gzip file inflates all of it, every time; so a frame that is not plain is
decoded once to the spool, a folder of this process that goes when it ends, and from then on is read
like any other. A frame behind a URL is copied there first. What is written is bounded by what the
header promises: a crafted file cannot fill the disk. Several files are decoded at once, since zlib
works without the interpreter's lock.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from weakref import finalize

from arrayred.bands import at_once
from arrayred.errors import ArrayredError, StorageError
from arrayred.io.remote.address import Address, address_of
from arrayred.io.remote.store import Stamp
from arrayred.io.sources import ImageHDU, PixelSource, unreadable

if TYPE_CHECKING:
    from arrayred.io.remote.files import Copy

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MOST_PROBED = 256 << 20
"""Bytes of a frame that is unpacked merely to look at a few of its rows, at most."""
_COPIED_AT_ONCE = 8
_locks: dict[_Key, Lock] = {}
_locking = Lock()
_copies: dict[_Key, Copy] = {}


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

    Of a file behind a URL this is a copy.

    Raises
    ------
    FrameError
        The compressed data are damaged, or of a kind that is refused.
    """
    source = image.source
    if image.at_hand:
        return source
    if isinstance(source.path, Address):
        return _plain_copy(image, source.path)
    _require_unchanged(source)
    key = _Key(image, source.path, source.stamp, os.getpid())
    with _locking:
        decoding = _locks.setdefault(key, Lock())
    with decoding:
        path = _spooled(key)
    return replace(source, path=path, offset=0, stamp=Stamp.of(path.stat()))


def copied(image: ImageHDU) -> Copy:
    """Return the copy of an image's file, which lies behind a URL, made once in a process.

    Raises
    ------
    FrameError
        The file has changed since its header was read, or cannot be had.
    StorageError
        There is no room for it.
    """
    key = _Key(image, image.source.path, image.source.stamp, os.getpid())
    with _locking:
        copying = _locks.setdefault(key, Lock())
    with copying:
        if key not in _copies:
            _copies[key] = _copied(key)
        return _copies[key]


def release(images: Iterable[ImageHDU]) -> None:
    """Remove the copies of images' files, which are at hand elsewhere by now."""
    for image in images:
        key = _Key(image, image.source.path, image.source.stamp, os.getpid())
        if copy := _copies.pop(key, None):
            copy.path.unlink(missing_ok=True)


def file_of(image: ImageHDU) -> Path:
    """Return the file of an image, or its copy where it lies behind a URL; as `copied`."""
    return copied(image).path if image.is_remote else image.source.path


def _plain_copy(image: ImageHDU, address: Address) -> PixelSource:
    """Return where the plain pixels of an image behind a URL lie: in a copy, or made from one."""
    path = copied(image).path
    near = replace(image.source, path=path, stamp=Stamp.of(path.stat()))
    try:
        return plain(replace(image, source=near))
    except ArrayredError as error:
        error.path = str(address)
        raise


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
        many = _COPIED_AT_ONCE if packed[0].is_remote else threads
        at_once(work, min(many, len(packed)), fail)
    return [plain(image) for image in images]


def _require_unchanged(source: PixelSource) -> None:
    try:
        status = source.path.stat()
    except OSError as error:
        raise unreadable(source.path, error) from error
    source.require_unchanged(status)


@cache
def _spooled(key: _Key) -> Path:
    from arrayred.io.decoding import decode_into

    with _new_file(key, "unpacked") as path:
        with path.open("wb") as target:
            decode_into(target, key.image)
        return path


def _copied(key: _Key) -> Copy:
    from arrayred.io.remote.files import copy_of

    with _new_file(key, "fetched") as path:
        return copy_of(address_of(str(key.path)), key.stamp, path)


@contextmanager
def _new_file(key: _Key, done: str) -> Iterator[Path]:
    """Make an empty file in the spool; it goes again if it cannot be filled."""
    import tempfile

    with _locking:  # a second folder would be dropped by the cache, and removed
        folder = _folder(key.pid)
    handle, name = tempfile.mkstemp(suffix=".pixels", dir=folder.path)
    os.close(handle)
    try:
        yield Path(name)
    except BaseException as error:
        os.unlink(name)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            raise StorageError(
                f"The frame cannot be {done} ({error.strerror})",
                path=key.path,
                hint="Make room in the folder for temporary files, or set TMPDIR.",
            ) from error
        raise
