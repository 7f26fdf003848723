"""What is too sharp to be light that optics have blurred: `without_hot_rows`, `blurred_means`.

A star of a full width of 2 rows, the sharpest there is, is at most 4 times as bright as the middle
of five neighbours, and no brighter than both neighbours together. A hot pixel, a hot row and the
track of a cosmic ray are.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.rows import robust_std

Values = NDArray[np.float64]
Units = NDArray[np.float32]

_LIMIT = 3.0
_GAIN = 4.5
_BESIDE = 1.1


def middle_of_five(values: NDArray[np.floating], axis: int) -> NDArray[np.floating]:
    """Return the median of five neighbours along an axis, mirrored at the ends.

    Examples
    --------
    >>> middle_of_five(np.array([9.0, 0.0, 0.0, 1.0, 2.0, 3.0]), 0)
    array([0., 0., 1., 1., 2., 2.])
    """
    lanes = np.moveaxis(values, axis, 0)
    n = len(lanes)
    if n < 3:
        return values
    padded = np.concatenate((lanes[2:0:-1], lanes, lanes[-2:-4:-1]))
    a, b, c, d, e = (padded[i : i + n] for i in range(5))
    lower = np.maximum(np.minimum(a, b), np.minimum(d, e))
    upper = np.minimum(np.maximum(a, b), np.maximum(d, e))
    low, high = np.minimum(lower, upper), np.maximum(lower, upper)
    return np.moveaxis(np.maximum(low, np.minimum(high, c)), 0, axis)


def limited(units: Units) -> Units:
    """Return pixels (y, x), none brighter than light of its neighbourhood can make it.

    Parameters
    ----------
    units : pixels in standard deviations of the noise, background 0.

    Examples
    --------
    >>> units = np.zeros((9, 9), np.float32)
    >>> units[4, 4] = 500.0
    >>> float(limited(units).max())
    3.0
    """
    shown = np.minimum(middle_of_five(units, 0), middle_of_five(units, 1))
    np.maximum(shown, 0.0, out=shown)
    shown *= _GAIN
    shown += _LIMIT
    np.minimum(shown, units, out=shown)
    return np.asarray(np.maximum(shown, -_LIMIT, out=shown))


def without_hot_rows(series: Values, noise: float) -> Values:
    """Return a series of rows (y), in which what is sharper than any star is no light.

    A star of a full width of 2 rows gives its two neighbours together at least its peak. A row that
    stands out by 3 standard deviations more than 1.1 times their sum becomes their mean.

    Parameters
    ----------
    series : the light of each row, background 0.
    noise : its standard deviation.

    Examples
    --------
    >>> without_hot_rows(np.array([0.0, 0.0, 0.0, 50.0, 0.0, 5.0, 10.0, 5.0, 0.0]), 1.0)
    array([ 0.,  0.,  0.,  0.,  0.,  5., 10.,  5.,  0.])
    """
    if series.size < 2:
        return series
    beside = np.concatenate((series[1:2], series, series[-2:-1]))
    shown = np.maximum(beside[:-2] + beside[2:], 0.0)
    return np.where(series > _LIMIT * noise + _BESIDE * shown, shown / 2, series)


def blurred_means(rows: Values, sample: Values) -> Values:
    """Return the mean of each row (y) of a few, as far as optics can have made its light.

    Parameters
    ----------
    rows : counts (y, x), some rows beyond those of interest on both sides.
    sample : counts of the background, any shape.

    Examples
    --------
    >>> rows = np.zeros((9, 50))
    >>> rows[4] = 1000.0
    >>> sample = np.random.default_rng(0).normal(0, 1, (50, 50))
    >>> bool(blurred_means(rows, sample)[4] < 5)
    True
    """
    pixels = sample[np.isfinite(sample)]
    level, noise = float(np.median(pixels)), robust_std(pixels) or float(np.std(pixels)) or 1.0
    units = np.where(np.isfinite(rows), (rows - level) / noise, 0.0).astype(np.float32)
    means = np.asarray(np.mean(limited(units), axis=1, dtype=np.float64))
    return level + noise * without_hot_rows(means, 1.0 / math.sqrt(rows.shape[1]))
