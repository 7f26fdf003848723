"""Rows of an image: their statistics, the background's, and the runs of bright ones.

Each row is reduced by itself in float64 from contiguous memory, so that a row's numbers do not
depend on its neighbours in the block.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
Values = NDArray[np.float64]


class Background(NamedTuple):
    """Mean and standard deviation of the pixels of a background sample."""

    mean: float
    std: float


def row_statistics(block: Pixels) -> Values:
    """Return mean, standard deviation and median of each row.

    Parameters
    ----------
    block : counts (..., y, x), any real dtype; NaN makes its row's numbers NaN.

    Returns
    -------
    statistics (3, ..., y), float64: mean, population standard deviation, median along x.

    Examples
    --------
    >>> row_statistics(np.array([[1, 2, 6]], dtype=np.uint16))[:, 0].round(3)
    array([3.  , 2.16, 2.  ])
    """
    statistics = np.empty((3, *block.shape[:-1]), np.float64)
    for frame in np.ndindex(block.shape[:-2]):
        values = np.ascontiguousarray(block[frame], np.float64)
        statistics[(0, *frame)] = np.mean(values, axis=-1)
        statistics[(1, *frame)] = np.std(values, axis=-1)
        statistics[(2, *frame)] = np.median(values, axis=-1)
    return statistics


def row_means(image: Values) -> Values:
    """Return the mean of each row (y) of an image (y, x), float64, over its finite pixels.

    Examples
    --------
    >>> row_means(np.array([[1.0, 2.0], [3.0, 5.0]]))
    array([1.5, 4. ])
    """
    means = np.asarray(np.mean(image, axis=1))
    for row in np.flatnonzero(~np.isfinite(means)):
        present = image[row][np.isfinite(image[row])]
        means[row] = np.mean(present) if present.size else np.nan
    return means


def background(sample: Values) -> Background:
    """Return mean and population standard deviation of the finite pixels of a sample (y, x).

    Examples
    --------
    >>> background(np.array([[1.0, 3.0]]))
    Background(mean=2.0, std=1.0)
    """
    finite = np.isfinite(sample)
    pixels = sample if finite.all() else sample[finite]
    if pixels.size == 0:
        return Background(float("nan"), float("nan"))
    return Background(float(np.mean(pixels)), float(np.std(pixels)))


def robust_std(sample: Values) -> float:
    """Return the standard deviation of a sample from its median absolute deviation.

    Hot pixels and cosmic rays do not count; 1.4826 makes it that of a normal distribution.

    Examples
    --------
    >>> round(robust_std(np.array([1.0, 2.0, 3.0, 4.0, 1000.0])), 4)
    1.4826
    """
    return 1.4826 * float(np.median(np.abs(sample - np.median(sample))))


def line_levels(band: Values) -> Values:
    """Return by how much each column (x) of a band (y, x) is brighter than the whole, from 0.

    Examples
    --------
    >>> line_levels(np.array([[1.0, 1.0, 8.0], [1.0, 1.0, 8.0]]))
    array([0., 0., 7.])
    """
    return np.asarray(np.maximum(np.median(band, axis=0) - np.median(band), 0.0))


def runs(bright: NDArray[np.bool_], *, max_gap: int = 0) -> list[tuple[int, int]]:
    """Return the runs of True as half-open (start, stop) pairs, small gaps bridged.

    Parameters
    ----------
    bright : flags (y).
    max_gap : how many False in a row do not part a run.

    Examples
    --------
    >>> runs(np.array([True, False, True, False, False, True]), max_gap=1)
    [(0, 3), (5, 6)]
    """
    where = np.flatnonzero(bright)
    if where.size == 0:
        return []
    breaks = np.flatnonzero(np.diff(where) > max_gap + 1)
    starts = where[np.concatenate(([0], breaks + 1))]
    stops = where[np.concatenate((breaks, [where.size - 1]))] + 1
    return [(int(a), int(b)) for a, b in zip(starts, stops, strict=True)]


def sum_of_rows(band: Values) -> Values:
    """Return the sum over rows of a band (y, x), rows added one by one in order: (x), float64.

    Examples
    --------
    >>> sum_of_rows(np.array([[1.0, 2.0], [3.0, 5.0]]))
    array([4., 7.])
    """
    return np.asarray(np.add.reduce(np.ascontiguousarray(band), axis=0))
