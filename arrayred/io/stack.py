"""FrameStack: N equal frames as one array-like that reads exactly the bytes of a band.

Frames are uncompressed images (`io.spool` makes them so). No handle stays open: a stack pickles as
paths and offsets. `io.reading.Pass` holds files open for the length of one pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import MismatchError
from arrayred.io.encoding import dtype_of
from arrayred.io.reading import read_frames, read_rows
from arrayred.io.sources import PixelSource

Pixels = NDArray[Any]
Index = int | slice | NDArray[np.integer]


class FrameStack:
    """Equal frames, readable by bands of rows.

    Parameters
    ----------
    sources : where the pixels of each frame lie, all of one shape.

    Raises
    ------
    MismatchError
        Frames differ in shape.
    """

    ndim = 3

    def __init__(self, sources: Sequence[PixelSource]) -> None:
        first = sources[0]
        for source in sources:
            if source.shape != first.shape:
                raise MismatchError(
                    f"The frame has {source.shape} pixels, but {first.path.name} has {first.shape}",
                    path=source.path,
                    keyword="NAXIS",
                    value=source.shape,
                    hint="Stack frames of one shape only.",
                )
        self.sources = tuple(sources)
        self.shape = (len(sources), *first.shape)
        self.dtype = np.result_type(*{dtype_of(source.pixels) for source in sources})
        self.step = max(source.step for source in sources)

    def __repr__(self) -> str:
        """Return shape, dtype and the first file's name."""
        return f"FrameStack({self.shape}, {self.dtype}, {self.sources[0].path.name} ...)"

    def __getitem__(self, key: tuple[Index, Index, Index]) -> Pixels:
        """Return pixels as numpy would, reading whole rows only, from the first to the last wanted.

        Parameters
        ----------
        key : for frames, rows and columns each a number, a slice, or (for one of them) an array.
        """
        frames, rows, columns = key
        picked, wanted = np.arange(self.shape[0])[frames], np.arange(self.shape[1])[rows]
        first, stop = (int(wanted.min()), int(wanted.max()) + 1) if wanted.size else (0, 0)
        sources = [self.sources[i] for i in np.atleast_1d(picked)]
        band = np.empty((len(sources), stop - first, self.shape[2]), self.dtype)
        read_frames(sources, first * self.shape[2], band)
        if isinstance(rows, slice) and wanted.size:
            rows_of_band: Index = slice(int(wanted[0]) - first, None, rows.step)
        else:
            rows_of_band = wanted - first
        return (band if picked.ndim else band[0])[..., rows_of_band, :][..., columns]

    def read(self, first: int, stop: int, out: Pixels) -> None:
        """Read rows first..stop (from 0, half-open) of every frame into out (frame, row, x).

        Raises
        ------
        FrameError
            A file has changed since the scan, has ended early, or cannot be read.
        """
        read_frames(self.sources, first * self.shape[2], out[:, : stop - first])

    def rows(self, frame: int, wanted: Sequence[int]) -> Pixels:
        """Return single rows (row, x) of a frame, in any order; what lies between is not read."""
        out = np.empty((len(wanted), self.shape[2]), self.dtype)
        read_rows(self.sources[frame], wanted, out)
        return out

    @property
    def token(self) -> str:
        """Return a name that changes when a file does: paths, stamps, offsets and encodings."""
        text = repr(
            [(str(i.path), i.stamp, i.offset, i.shape, i.pixels, i.shelf) for i in self.sources]
        )
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    def __dask_tokenize__(self) -> str:
        """Return the token, for dask's deterministic names."""
        return self.token
