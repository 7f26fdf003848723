"""How much of the work is held at once, so that a bound on memory holds: `share_of`.

Everything a combination holds beside its imports is counted: headers, the pieces being read, and
for each thread a band with what the kernel makes of it. What remains of the bound sets the size of
a band, a run of pixels that may be shorter than a row. Before a bound is refused, threads are given
up.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from arrayred.bands import bytes_per_pixel, rows_within
from arrayred.combining.how import How
from arrayred.errors import UsageError
from arrayred.io.frames import Frame
from arrayred.io.pixels import PIECE

_FEWEST_PIXELS = 1024
_MOST_THREADS = 8
_BYTES_OF_A_CARD = 320
_BYTES_OF_A_FRAME = 8 << 10
_BYTES_AT_LEAST = 4 << 20
_BYTES_OF_INFLATING = 4 << 20
_BYTES_OF_TILES = 48 << 20


class Share(NamedTuple):
    """The pixels of a band, and how many threads work on one each."""

    pixels: int
    threads: int


def share_of(
    frames: Sequence[Frame], shape: tuple[int, ...], dtype: np.dtype[Any], how: How
) -> Share:
    """Return how many pixels a band has and how many threads there are, within a bound on memory.

    Decoding comes before combining, so that only the greater of both counts.

    Parameters
    ----------
    frames : whose headers are held.
    shape, dtype : of the stack (frame, y, x).
    how : with the bound, and perhaps the threads.

    Raises
    ------
    UsageError
        The bound is too small for one short band.
    """
    fixed = _BYTES_AT_LEAST + sum(
        _BYTES_OF_A_FRAME + _BYTES_OF_A_CARD * len(frame.image.header) for frame in frames
    )
    pixels_of = (shape[0], shape[1] * shape[2], 1)
    fewest = min(_FEWEST_PIXELS, pixels_of[1])
    decoding, reading = _bytes_to_decode(frames), 2 * max(PIECE, _bytes_of_a_chunk(frames))
    for threads in range(how.threads or min(_cores(), _MOST_THREADS), 0, -1):
        left = how.memory - fixed - threads * reading
        pixels = rows_within(pixels_of, dtype, left, threads=threads, widened=how.is_widening)
        if pixels >= fewest and threads * decoding <= how.memory - fixed:
            return Share(pixels, threads)
    band = fewest * bytes_per_pixel(shape[0], dtype, widened=how.is_widening)
    needed = fixed + max(reading + band, decoding)
    raise UsageError(
        f"{how.memory} bytes of memory are too few for {shape[0]} frames",
        value=how.memory,
        hint=f"Give --memory {-(-needed >> 20)}M or more.",
    )


def _bytes_to_decode(frames: Sequence[Frame]) -> int:
    """Return what decoding one file takes, at most."""
    takes = {"plain": 0, "gzip": _BYTES_OF_INFLATING}
    tiled = [frame.image.source.n_bytes for frame in frames if frame.image.packing == "tiles"]
    return max(
        *(takes.get(frame.image.packing, 0) for frame in frames),
        *(_BYTES_OF_TILES + n_bytes for n_bytes in tiled),
        0,
    )


def _bytes_of_a_chunk(frames: Sequence[Frame]) -> int:
    """Return what is inflated at a time of a frame in a cache, at most."""
    shelves = (frame.image.source.shelf for frame in frames)
    return max((shelf.grid.chunk_bytes for shelf in shelves if shelf is not None), default=0)


def _cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
