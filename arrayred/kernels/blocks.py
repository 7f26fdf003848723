"""Downsample images for display: `block_mean`, `block_peak`.

A mean shows faint features, a peak small ones: of a hot pixel or a cosmic ray a mean over 4 x 4
leaves a sixteenth. The pixels left over at the far edges form smaller blocks of their own.

Only screens need them; they stand apart from the kernels whose numbers reach a product.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.combine import Image


def block_factor(shape: tuple[int, int], most: int) -> int:
    """Return the side of the smallest square blocks that make an image small enough, pixels.

    Parameters
    ----------
    shape : (n_rows, n_columns).
    most : largest number of pixels of the small image.

    Examples
    --------
    >>> block_factor((1024, 1536), 1 << 20), block_factor((1000, 1000), 1 << 20)
    (2, 1)
    """
    factor = 1
    while math.prod(-(-n // factor) for n in shape) > most:
        factor += 1
    return factor


def block_mean(image: NDArray[Any], factor: int) -> Image:
    """Return the mean of each block (y, x), float64; NaN where a pixel is.

    Parameters
    ----------
    image : (y, x), any real dtype.
    factor : pixels along the side of a block.

    Examples
    --------
    >>> block_mean(np.array([[1, 3, 10], [5, 7, 20]], np.uint8), 2)
    array([[ 4., 15.]])
    """
    rows, columns = _starts(image.shape, factor)
    sums = np.add.reduceat(image, rows, axis=0, dtype=np.float64)
    sums = np.add.reduceat(sums, columns, axis=1)
    heights, widths = (np.diff([*s, n]) for s, n in zip((rows, columns), image.shape, strict=True))
    return sums / np.multiply.outer(heights, widths)


def block_peak(image: NDArray[Any], factor: int) -> Image:
    """Return the highest value of each block (y, x), float64; NaN where a pixel is.

    Parameters
    ----------
    image, factor : as for `block_mean`.

    Examples
    --------
    >>> block_peak(np.array([[1, 3, 10], [5, 7, 20]], np.uint8), 2)
    array([[ 7., 20.]])
    """
    rows, columns = _starts(image.shape, factor)
    peaks = np.maximum.reduceat(np.maximum.reduceat(image, rows, axis=0), columns, axis=1)
    return peaks.astype(np.float64)


def _starts(shape: tuple[int, ...], factor: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first pixel of the blocks, along rows and columns."""
    return np.arange(0, shape[0], factor), np.arange(0, shape[1], factor)
