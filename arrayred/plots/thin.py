"""Which points of a line are to be seen: `thinned`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def thinned(x: Values, y: Values, step: float) -> NDArray[np.intp]:
    """Return which points of a line suffice: the lowest and the highest within each step of x.

    Neighbours on the line within one step are one run; the first and the last point stay.

    Parameters
    ----------
    x, y : where the points are, in the order of the line, which may turn back.
    step : of x.

    Examples
    --------
    >>> thinned(np.array([0.0, 0.2, 0.4, 0.6, 1.1]), np.array([1.0, 3.0, 0.0, 2.0, 5.0]), 1.0)
    array([0, 1, 2, 4])
    """
    if x.size < 3:
        return np.arange(x.size)
    starts = np.concatenate(([0], np.flatnonzero(np.diff(np.floor(x / step))) + 1))
    run = np.repeat(np.arange(starts.size), np.diff(np.append(starts, x.size)))
    order = np.lexsort((y, run))
    stops = np.append(starts[1:], x.size) - 1
    return np.unique(np.concatenate((order[starts], order[stops], [0, x.size - 1])))
