"""Files behind addresses, read in parts or copied: `Ranged`, `copy_of`, `sum_of`.

A header is read by asking for five blocks of it, which hold nearly every camera's; a file that is
needed whole is copied to a folder of this process that goes when it ends, eight megabytes at a
time, hashed on the way, and must then be what it was when it was listed.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from arrayred.errors import FrameError
from arrayred.io.remote.address import Address
from arrayred.io.remote.store import Stamp, read, stamp_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_HEAD_BYTES = 5 * 2880
_PIECE = 8 << 20


class Copy(NamedTuple):
    """A copy on this machine, and the SHA-256 of its content."""

    path: Path
    sha256: str


class Ranged(io.RawIOBase):
    """A file of which only what is read travels.

    Parameters
    ----------
    address : where it is.
    size : its bytes.
    """

    def __init__(self, address: Address, size: int) -> None:
        self._address, self._size, self._position = address, size, 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read from anywhere."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Let the next read begin elsewhere."""
        starts = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}
        self._position = starts[whence] + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read as many bytes as fit and are there."""
        target = memoryview(buffer).cast("B")
        stop = min(self._position + len(target), self._size)
        raw = read(self._address, self._position, stop) if stop > self._position else b""
        target[: len(raw)] = raw
        self._position += len(raw)
        return len(raw)


def opened(address: Address) -> tuple[IO[bytes], Stamp]:
    """Open a file to be read in parts, and return what it is known by.

    Raises
    ------
    FrameError
        There is no such file, or the store does not give it.
    """
    stamp = stamp_of(address)
    return io.BufferedReader(Ranged(address, stamp.size), _HEAD_BYTES), stamp


def copy_of(address: Address, stamp: Stamp, place: Path) -> Copy:
    """Copy a file that is still what it is known by.

    Raises
    ------
    FrameError
        The store does not give it, or it has changed since it was listed.
    OSError
        The copy cannot be written.
    """
    with place.open("wb") as target:
        return Copy(place, _pass_on(address, stamp, target.write))


def sum_of(address: Address) -> str:
    """Return the SHA-256 of a file, every byte of it read; as `copy_of`."""
    return _pass_on(address, stamp_of(address, anew=True), lambda _: 0)


def _pass_on(address: Address, stamp: Stamp, take: Callable[[bytes], int]) -> str:
    """Read a file to its end, hand over its pieces, and return its SHA-256."""
    digest, done = hashlib.sha256(), 0
    while done < stamp.size:
        piece = read(address, done, min(done + _PIECE, stamp.size))
        if not piece:
            raise _changed(address)
        digest.update(piece)
        take(piece)
        done += len(piece)
    _require_same(address, stamp)
    return digest.hexdigest()


def _require_same(address: Address, stamp: Stamp) -> None:
    if stamp_of(address, anew=True) != stamp:
        raise _changed(address)


def _changed(address: Address) -> FrameError:
    return FrameError(
        "The file has changed since its header was read", path=address, hint="Run again."
    )
