"""Which bytes a look at a group needs: `Roll`.

A frame costs its own bytes, read from start to end; one pixel through all frames costs as many
bytes as it has in each, not a row of every frame: of 2,000 frames of 1024 x 1536 that is 4 kB
instead of 6 MB. From a cache whole chunks are inflated, compressed frames are unpacked once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayred.io.cube import stack_of
from arrayred.io.pixels import FrameStack, read_frames
from arrayred.night import Group

Pixels = NDArray[Any]


class Roll:
    """The frames of a group, to be read one by one or pixel by pixel.

    Parameters
    ----------
    group : frames of one shape and unit.

    Raises
    ------
    MismatchError
        They are not.
    """

    def __init__(self, group: Group) -> None:
        self.frames = group.frames
        self.first_pixel = group.frames[0].first_pixel
        self._stack = stack_of(group.frames, lazy=True)

    @property
    def shape(self) -> tuple[int, int]:
        """Return (n_rows, n_columns) of a frame."""
        return self._stack.shape[1], self._stack.shape[2]

    def frame(self, i: int) -> Pixels:
        """Return the pixels (y, x) of the i-th frame, from 0, as they are on disk.

        Raises
        ------
        FrameError
            The file has changed since the scan, or cannot be read.
        """
        return self._stack[i, :, :]

    def through(self, row: int, column: int) -> Pixels:
        """Return one pixel in every frame (frame).

        Parameters
        ----------
        row, column : FITS numbers, within the frames.
        """
        y, x = row - self.first_pixel[0], column - self.first_pixel[1]
        if not isinstance(self._stack, FrameStack):
            return self._stack[:, slice(y, y + 1), slice(x, x + 1)][:, 0, 0]
        values = np.empty((len(self.frames), 1), self._stack.dtype)
        read_frames(self._stack.sources, y * self.shape[1] + x, values)
        return values[:, 0]
