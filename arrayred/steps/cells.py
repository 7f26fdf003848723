"""Short pieces of an image along its dispersion: `Grid`, and what the frames hold in them.

A cell is one row, or one column where the spectrum stands upright, x some 48 pixels. Cells are
fixed by the shape of the image alone, so that what is found in one depends on no chunks or bands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.model import FRAME
from arrayred.steps.sample import pixels_at

if TYPE_CHECKING:
    import xarray as xr

Indices = NDArray[np.intp]
Flags = NDArray[np.bool_]

WIDTH = 48
"""Pixels of a cell along the dispersion, about: ten times what a cosmic ray covers, and little of
the way on which a trace crosses a row."""


class Grid(NamedTuple):
    """The cells of an image.

    Parameters
    ----------
    shape : (n_rows, n_columns).
    upright : the dispersion runs along the columns.

    Examples
    --------
    >>> grid = Grid((40, 300))
    >>> grid.edges.tolist(), grid.width, grid.n_blocks
    ([0, 50, 100, 150, 200, 250, 300], 50, 6)
    """

    shape: tuple[int, int]
    upright: bool = False

    @property
    def length(self) -> int:
        """Return the number of pixels along the dispersion."""
        return self.shape[0 if self.upright else 1]

    @property
    def n_blocks(self) -> int:
        """Return the number of cells along the dispersion."""
        return max(round(self.length / WIDTH), 1)

    @property
    def edges(self) -> Indices:
        """Return where cells begin, and the end of the last one."""
        return np.asarray(np.linspace(0, self.length, self.n_blocks + 1).astype(np.intp))

    @property
    def width(self) -> int:
        """Return the pixels of a cell; where they do not fit evenly, neighbours share one."""
        return int(np.diff(self.edges).max())

    def along(self, plane: NDArray[Any]) -> NDArray[Any]:
        """Return a plane (y, x) with the dispersion along its last axis."""
        return plane.T if self.upright else plane

    def places(self, cells: Indices) -> tuple[Indices, Indices]:
        """Return the row (cell, 1) and the column (cell, x) of the pixels, dispersion along x."""
        row, block = np.divmod(cells, self.n_blocks)
        start = np.minimum(self.edges[:-1], self.length - self.width)[block]
        return row[:, np.newaxis], start[:, np.newaxis] + np.arange(self.width)

    def pixels(self, cells: Indices) -> Indices:
        """Return the flat indices (cell, x) of the pixels of cells in the image (y, x)."""
        row, column = self.places(cells)
        return column * self.shape[1] + row if self.upright else row * self.shape[1] + column

    def own(self, cells: Indices) -> Flags:
        """Tell which pixels (cell, x) no other cell has before."""
        _, column = self.places(cells)
        block = cells[:, np.newaxis] % self.n_blocks
        return np.asarray((column >= self.edges[block]) & (column < self.edges[block + 1]))

    @property
    def steps(self) -> tuple[int, int]:
        """Return how far neighbours across and along the dispersion lie apart in flat indices."""
        return (1, self.shape[1]) if self.upright else (self.shape[1], 1)

    def around(self, pixels: Indices) -> Indices:
        """Return the flat indices of pixels and of their eight neighbours, ascending."""
        y, x = np.divmod(pixels, self.shape[1])
        ys, xs = (np.stack([at - 1, at, at + 1]) for at in (y, x))
        inside = (ys >= 0) & (ys < self.shape[0]), (xs >= 0) & (xs < self.shape[1])
        near = ys[:, np.newaxis] * self.shape[1] + xs
        return np.unique(near[inside[0][:, np.newaxis] & inside[1]])

    def holding(self, pixels: Indices) -> Indices:
        """Return the cells that hold some pixels, given by their flat indices, ascending."""
        row, column = np.divmod(pixels, self.shape[1])
        if self.upright:
            row, column = column, row
        block = np.searchsorted(self.edges, column, side="right") - 1
        return np.unique(row * self.n_blocks + block)


def values_at(cube: xr.Dataset, pixels: Indices) -> NDArray[np.float64]:
    """Return the values (frame, ...) at flat indices (...) of (y, x), in any order."""
    order = np.argsort(pixels, axis=None, kind="stable")
    values = np.empty((cube.sizes[FRAME], pixels.size))
    values[:, order] = pixels_at(cube, pixels.ravel()[order])
    return values.reshape(-1, *pixels.shape)
