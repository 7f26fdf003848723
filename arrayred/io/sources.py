"""Where the pixels of a frame lie and how they are encoded: what a header scan finds out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from arrayred.errors import FrameError
from arrayred.io.cards import Header
from arrayred.io.remote.address import Address
from arrayred.io.remote.store import Stamp

Packing = Literal["plain", "gzip", "tiles"]


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How the pixels of an image are encoded: BITPIX, BZERO, BSCALE, BLANK.

    `wrapped` says that the camera wrote unsigned counts as if they were signed, so that the top
    half of the range appears negative; the bits are then read as unsigned.
    """

    bitpix: int
    bzero: float = 0.0
    bscale: float = 1.0
    blank: int | None = None
    wrapped: bool = False


Wanted = tuple[Path, int, int]
"""A shard of a cache, how many chunks it has, and the number of the one that is wanted."""
Chunks = Mapping[tuple[Path, int], bytes]
"""Chunks of a cache as they are stored, by shard and number."""


class RemoteChunks(Protocol):
    """Chunks of one cache behind a URL."""

    @property
    def cache(self) -> Address:
        """The cache's address."""

    def fetched(self, wanted: Sequence[Wanted]) -> Chunks:
        """Return chunks as they are stored."""


class ChunkGrid(Protocol):
    """How an array of a cache is cut."""

    @property
    def chunk_rows(self) -> int:
        """Rows of one frame in a chunk."""

    @property
    def chunk_bytes(self) -> int:
        """Bytes of the plain pixels of a chunk."""


class FrameReader(Protocol):
    """What reads the pixels of one frame from elsewhere than its file: a cache.

    Readers of pixels know this much of caches and no more; `io.cache` implements it.
    """

    @property
    def array(self) -> Path:
        """The folder of the array in which the frame lies."""

    @property
    def grid(self) -> ChunkGrid:
        """How that array is cut."""

    @property
    def sha256(self) -> str:
        """The SHA-256 of the frame's file."""

    @property
    def proof(self) -> str:
        """What frames that are not in the cache showed about its sign, or ""."""

    @property
    def sample(self) -> bytes:
        """The stored pixels by which the frame is judged, little-endian; b"": not known."""

    @property
    def far(self) -> RemoteChunks | None:
        """How chunks are read if the cache lies behind a URL."""

    def fill(
        self, target: NDArray[Any], first: int, pixels: PixelFormat, near: Chunks | None = None
    ) -> None:
        """Fill target with pixels from number first on, in reading order, as an encoding says."""

    def wanted(self, first: int, n_pixels: int) -> list[Wanted]:
        """Return the chunks that hold so many pixels from number first on."""


@dataclass(frozen=True, slots=True)
class PixelSource:
    """Where the pixels of one frame lie.

    Parameters
    ----------
    path : the file.
    offset : where its pixels begin, in bytes (of the inflated file).
    shape : (n_rows, n_columns).
    pixels : their encoding.
    stamp : the file's size, time and inode at the scan.
    shelf : where they lie in a cache; None: they are read from the file.
    """

    path: Path
    offset: int
    shape: tuple[int, int]
    pixels: PixelFormat
    stamp: Stamp
    shelf: FrameReader | None = None

    def require_unchanged(self, status: os.stat_result) -> None:
        """Raise FrameError if the file's status is no longer that of the scan."""
        if Stamp.of(status) != self.stamp:
            raise FrameError(
                "The file has changed since its header was read", path=self.path, hint="Run again."
            )

    @property
    def step(self) -> int:
        """Return how many rows are read at the cost of one: 1, or those of a cache's chunk."""
        return 1 if self.shelf is None else self.shelf.grid.chunk_rows

    @property
    def n_bytes(self) -> int:
        """Return the size of the pixels on disk, inflated."""
        return self.shape[0] * self.shape[1] * abs(self.pixels.bitpix) // 8


@dataclass(frozen=True, slots=True)
class ImageHDU:
    """The first image of one file.

    Parameters
    ----------
    source : where its pixels lie.
    header : its cards, the primary header's behind the extension's.
    hdu : which HDU holds the image, from 0.
    packing : "plain", "gzip" (the whole file) or "tiles" (a tile-compressed HDU).
    """

    source: PixelSource
    header: Header
    hdu: int
    packing: Packing

    @property
    def at_hand(self) -> bool:
        """Tell whether pixels can be read where they are: in a plain file here, or in a cache."""
        return self.source.shelf is not None or (self.packing == "plain" and not self.is_remote)

    @property
    def is_remote(self) -> bool:
        """Tell whether the file lies behind a URL."""
        return isinstance(self.source.path, Address)


def unreadable(path: Path, error: OSError) -> FrameError:
    """Return the error of a frame that was there when it was scanned and cannot be read now."""
    return FrameError(
        f"The file cannot be read ({error.strerror})",
        path=path,
        hint="Bring it back and run again.",
    )
