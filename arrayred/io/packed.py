"""Compressed frames as a stack that costs nothing until it is read: `PackedStack`.

A night of compressed frames is opened, looked at and sliced like any other; a frame is unpacked
(`io.spool`) when one of its pixels is wanted for the first time, in the process that wants it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arrayred.io.sources import ImageHDU
from arrayred.io.spool import plain
from arrayred.io.stack import FrameStack, Index, Pixels


class PackedStack:
    """Equal frames, some of them compressed, unpacked when first read.

    Parameters
    ----------
    images : where the pixels of each frame lie, all of one shape.

    Raises
    ------
    MismatchError
        Frames differ in shape.
    """

    ndim = 3

    def __init__(self, images: Sequence[ImageHDU]) -> None:
        self.images = tuple(images)
        packed = FrameStack([image.source for image in images])
        self.shape, self.dtype, self.token = packed.shape, packed.dtype, packed.token
        self.step = packed.step

    def __repr__(self) -> str:
        """Return shape, dtype and the first file's name."""
        return f"PackedStack({self.shape}, {self.dtype}, {self.images[0].source.path.name} ...)"

    def __getitem__(self, key: tuple[Index, Index, Index]) -> Pixels:
        """Return pixels as numpy would, unpacking the frames that are asked for.

        Parameters
        ----------
        key : as for `FrameStack`.
        """
        frames, rows, columns = key
        picked = np.arange(self.shape[0])[frames]
        if not picked.size:
            return np.empty(self.shape, self.dtype)[:0][:, rows][..., columns]
        stack = FrameStack([plain(self.images[i]) for i in np.atleast_1d(picked)])
        pixels = stack[:, rows, columns].astype(self.dtype, copy=False)
        return pixels if picked.ndim else pixels[0]

    def __dask_tokenize__(self) -> str:
        """Return the token, for dask's deterministic names."""
        return self.token
