"""What stands out of single frames, value by value: `Hits`, and what they are chosen from.

A night of 320 lights of 2048 x 2048 has two million values that stand out. They come cell by cell,
a few hundred at a time, and are gathered in large blocks: as many small arrays would, when they are
let go, leave 60 MiB of memory in pieces that nothing else fits into.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.steps.cells import Flags, Indices

OUTLIER = np.dtype([("frame", "u4"), ("where", "u4"), ("above", "f8"), ("hit", "?")])
"""A value that stands out enough to be the neighbour of a hit: of which frame and pixel it is, by
how much it is above the median of its pixel, adu, and whether it is one by itself."""
_BLOCK = 1 << 19
Outliers = NDArray[np.void]


class Hits(NamedTuple):
    """Single values that are left out, one by one, by pixel and then by frame.

    Of 320 frames a pixel in fifteen has a value that stands out, and then hardly a second one: as
    planes (frame, pixel) what is known of them took 1.2 GiB, and as a list 17 bytes each.

    Parameters
    ----------
    frame : of each value.
    where : its flat index in (y, x), ascending.
    """

    frame: NDArray[np.integer[Any]]
    where: NDArray[np.integer[Any]]

    @classmethod
    def of(cls, frame: NDArray[np.integer[Any]], where: NDArray[np.integer[Any]]) -> Hits:
        """Return values, given in any order, by pixel and then by frame."""
        order = np.lexsort((frame, where))
        return cls(frame[order], where[order])

    def flags(self, n_frames: int, pixels: Indices) -> Flags:
        """Tell which pixels, ascending, are left out of which frame (frame, pixel)."""
        flagged = np.zeros((n_frames, pixels.size), np.bool_)
        if pixels.size:
            ends = np.array([pixels[0], pixels[-1] + 1], self.where.dtype)
            first, stop = np.searchsorted(self.where, ends)
            where = self.where[first:stop].astype(np.intp)
            at = np.searchsorted(pixels, where)
            here = pixels[at] == where
            flagged[self.frame[first:stop][here], at[here]] = True
        return flagged


def gathered(parts: Iterable[Outliers]) -> list[Outliers]:
    """Return parts in few large blocks: small ones, let go, would leave memory in pieces."""
    blocks: list[Outliers] = []
    n_used = _BLOCK
    for part in parts:
        while part.size:
            if n_used == _BLOCK:
                blocks.append(np.empty(_BLOCK, OUTLIER))
                n_used = 0
            fits = part[: _BLOCK - n_used]
            blocks[-1][n_used : n_used + fits.size] = fits
            n_used, part = n_used + fits.size, part[fits.size :]
    if blocks:
        blocks[-1] = blocks[-1][:n_used]
    return blocks
