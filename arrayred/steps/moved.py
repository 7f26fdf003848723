"""Light that has moved along the slit between two frames, which is no cosmic ray: `moved_light`.

The lines of a nebula, or of a star that is guided badly, stand many rows away from where they stood
in the other frames; a real night moved by 30. Where all frames but one are dark nothing can be
scaled, and a whole line would be taken for a hit. It betrays itself: it is some rows high and
columns wide, and in the same columns, a few rows on, the other frames have a line of like strength.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from arrayred.steps.cells import Flags, Grid, Indices

Values = NDArray[np.float64]

_FULL = 9
"""Of five rows x three columns, how many pixels make something that is high and wide."""
_REACH = 3
_ALIKE = 0.3
_ROWS = np.arange(-24, 25, 4)
_COLUMNS = np.array([0, -8, 8])


def moved_light(
    where: Indices,
    above: Values,
    light_at: Callable[[Indices], tuple[Values, float]],
    grid: Grid,
) -> Indices:
    """Return which pixels of one frame that stand out of the others are light that has moved.

    Parameters
    ----------
    where : flat indices (pixel) of (y, x), ascending.
    above : (pixel), by how much they stand out, adu.
    light_at : gives the light that the frames have in common at pixels, and what is not yet any.
    grid : of the image.
    """
    if where.size < _FULL:
        return where[:0]
    strongest = above
    for _ in range(_REACH):
        full, strongest = _neighbours(where, strongest, grid)
    core = np.flatnonzero(full >= _FULL)
    if not core.size:
        return where[:0]
    contrast, nothing = _contrast(where[core], light_at, grid)
    found = where[core[contrast > np.maximum(_ALIKE * strongest[core], nothing)]]
    return _connected(where, found, grid)


def _neighbours(where: Indices, values: Values, grid: Grid) -> tuple[Indices, Values]:
    """Return how many neighbours each pixel has, and the highest value among them and it."""
    across, along = grid.steps
    full, highest = np.zeros(where.size, np.intp), values
    for i in range(-2, 3):
        for j in (-1, 0, 1):
            beside = where + (i * across + j * along)
            at = np.minimum(np.searchsorted(where, beside), where.size - 1)
            there: Flags = where[at] == beside
            full += there
            highest = np.where(there, np.maximum(highest, values[at]), highest)
    return full, highest


def _contrast(
    where: Indices, light_at: Callable[[Indices], tuple[Values, float]], grid: Grid
) -> tuple[Values, float]:
    """Return how far a line in the columns of pixels stands out of what is left and right of it."""
    y, x = np.divmod(where, grid.shape[1])
    row, column = (x, y) if grid.upright else (y, x)
    rows = np.clip(row[:, np.newaxis] + _ROWS, 0, grid.shape[1 if grid.upright else 0] - 1)
    columns = np.clip(column[:, np.newaxis] + _COLUMNS, 0, grid.length - 1)
    across, along = grid.steps
    light, nothing = light_at(rows[:, :, np.newaxis] * across + columns[:, np.newaxis] * along)
    contrast = light[..., 0] - np.maximum(light[..., 1], light[..., 2])
    return np.fmax.reduce(contrast, axis=-1, initial=-np.inf), nothing


def _connected(where: Indices, some: Indices, grid: Grid) -> Indices:
    """Return the pixels that hang together with some of them, over gaps of one pixel."""
    before = -1
    while some.size != before:
        before = some.size
        some = where[np.isin(where, grid.around(grid.around(some)))]
    return some
