"""How a frame's light runs beside that of the others: slowly along the columns, `slow_scales`.

In each short piece of a row, a cell, a frame is a polynomial of the column times what the frames
have in common, found by weighted least squares in which what stands out counts little (Holland &
Welsch 1977, Communications in Statistics 6, 813). Where there is hardly any light, a prior holds
the scale at 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_PRIOR = 32.0
"""What the scale 1 weighs, in squares of the signal to noise ratio of a cell."""
_ORDER = 3
_PARTS = 8
_ROUNDS = ((0.85, 1.44), (0.7, 1.036), (0.5, 0.6745))
"""Which quantile of the distances tells their width, and what it is of a normal distribution: first
one beyond all parts of the cell that have a scale of their own, at last the median."""
_TUNING = 3.0
_LEAST_SCALE = 0.05


def slow_scales(known: Values, common: Values, weight: Values) -> Values:
    """Return the scale of each frame to what they have in common: slow, and 1 without light.

    Parameters
    ----------
    known : (frame, cell, x), less dark and sky; what is missing weighs nothing.
    common : (cell, x), what the frames have in common.
    weight : (frame, cell, x), the inverse of the variance.

    Returns
    -------
    scale (frame, cell, x).

    Examples
    --------
    >>> common = np.full((1, 48), 900.0)
    >>> slow_scales(np.stack([common, 2 * common]), common, np.ones((2, 1, 48)))[:, 0, 24].round(3)
    array([1., 2.])
    """
    xi = np.linspace(-1.0, 1.0, common.shape[-1])
    scale = np.broadcast_to(_first_scale(known, common, weight), known.shape)
    root = np.sqrt(weight)
    for share, normal in _ROUNDS:
        distance = np.abs(known - scale * common) * root
        spread = quantile(distance, share) / normal
        distance /= _TUNING * np.maximum(spread, 1.0)
        trust = weight * common / (1.0 + distance * distance) ** 2
        scale = _fitted(trust * common, trust * known, xi)
    return np.maximum(scale, _LEAST_SCALE)


def quantile(values: Values, share: float) -> Values:
    """Return the value (..., 1) below which a share of the values along x lies."""
    which = min(int(values.shape[-1] * share), values.shape[-1] - 1)
    return np.partition(values, which, axis=-1)[..., which : which + 1]


def _first_scale(known: Values, common: Values, weight: Values) -> Values:
    """Return one scale for each frame and cell: the weighted median of those of its parts."""
    edges = np.unique(np.linspace(0, common.shape[-1], _PARTS + 1)[:-1].astype(np.intp))
    squares = np.add.reduceat(weight * common**2, edges, axis=-1)
    products = np.add.reduceat(weight * known * common, edges, axis=-1)
    own = _PRIOR / len(edges)
    ratios = (products + own) / (squares + own)
    order = np.argsort(ratios, axis=-1, kind="stable")
    below = np.cumsum(np.take_along_axis(squares + own, order, -1), axis=-1)
    middle = np.argmax(below >= below[..., -1:] / 2, axis=-1)[..., np.newaxis]
    return np.take_along_axis(ratios, np.take_along_axis(order, middle, -1), -1)


def _fitted(squares: Values, products: Values, xi: Values) -> Values:
    """Return the polynomial (frame, cell, x) of least squares about a prior of 1."""
    moments = [np.add.reduce(squares * xi**i, axis=-1) for i in range(2 * _ORDER - 1)]
    matrix = np.stack([np.stack(moments[i : i + _ORDER], -1) for i in range(_ORDER)], -2)
    matrix += _PRIOR * np.eye(_ORDER)
    right = np.stack([np.add.reduce(products * xi**i, axis=-1) for i in range(_ORDER)], -1)
    right[..., 0] += _PRIOR
    found = np.linalg.solve(matrix, right[..., np.newaxis])
    scale = found[..., 0, :] + found[..., 1, :] * xi
    scale += found[..., 2, :] * (xi * xi)
    return np.asarray(scale)
