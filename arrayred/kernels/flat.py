"""Flat fields: frames of a lamp scaled to each other, the lamp's colour, the division.

The colour of the lamp is a cubic spline through the logarithms of the columns' levels, of sixteen
pieces, refitted without what lies off by more than four of its robust standard deviations. Sixteen
pieces follow a lamp that falls to a twentieth, or a filter's edge over an eighth of the columns, to
0.25 %, where twelve are off by 0.6 %; thirty-two would follow the pixels' own scatter as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.rows import robust_std
from arrayred.kernels.stack import median

Block = NDArray[Any]
Image = NDArray[np.float64]
Curve = NDArray[np.float64]

_PIECES = 16
_DEGREE = 3
_FAR = 4.0
_FITS = 5
_EXACT = 1e-9
_LIT = 0.3
_STRIP_BYTES = 4 << 20


def level_of(image: Image) -> float:
    """Return the level of the illuminated part of an image: the median of what is bright.

    Bright is more than half of what one pixel in twenty exceeds, so that unlit rows do not count.

    Examples
    --------
    >>> level_of(np.array([[0.0, 0.0, 0.0, 0.0], [7.0, 8.0, 9.0, 8.0]]))
    8.0
    """
    values = image[np.isfinite(image)]
    if values.size == 0:
        return float("nan")
    return float(np.median(values[values > 0.5 * _upper(values)])) if _upper(values) > 0 else 0.0


def _upper(values: NDArray[np.float64]) -> float:
    """Return what one value in twenty reaches."""
    position = int(0.95 * (values.size - 1))
    return float(np.partition(values, position)[position])


def scaled_median(
    block: Block, *darks: Image, levels: tuple[float, ...], which: tuple[int, ...]
) -> Image:
    """Return the median of frames, each less a dark and divided by its level.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype; NaN is missing.
    darks : images (y, x).
    levels : of each frame less its dark.
    which : the dark of each frame, its position among `darks`, or -1 for none.

    Returns
    -------
    image (y, x), float64, about 1.

    Examples
    --------
    >>> block = np.array([[[30, 50]], [[50, 90]], [[10, 10]]], dtype=np.uint16)
    >>> scaled_median(block, np.array([[10.0, 10.0]]), levels=(20.0, 40.0, 10.0), which=(0, 0, -1))
    array([[1., 2.]])
    """
    n_frames, n_rows, n_columns = block.shape
    out = np.empty((n_rows, n_columns), np.float64)
    step = max(_STRIP_BYTES // (8 * n_frames * n_columns), 1)
    for first in range(0, n_rows, step):
        rows = slice(first, first + step)
        strip = block[:, rows].astype(np.float64)
        for frame, dark, level in zip(strip, which, levels, strict=True):
            if dark >= 0:
                frame -= darks[dark][rows]
            frame /= level
        out[rows] = median(strip)
    return out


def colour(image: Image) -> Curve:
    """Return the smooth change of a flat along its columns (x): the colour of the lamp.

    Parameters
    ----------
    image : a flat (y, x), dispersed along x.

    Returns
    -------
    curve (x), positive. It goes through the medians of the columns within the illuminated rows, so
    that a flat divided by it is 1 in the middle of the slit in every column. NaN in columns whose
    pixels scatter by more than three tenths of their level: there is no light.

    Examples
    --------
    >>> lamp = 100.0 + np.arange(60.0)
    >>> bool(np.allclose(colour(np.tile(lamp, (5, 1))), lamp, rtol=1e-4))
    True
    """
    finite = np.where(np.isfinite(image), image, 0.0)
    rows = np.median(finite, axis=1)
    slit = finite[(rows > 0.5 * _upper(rows)) & (rows > 0)]
    if slit.size == 0:
        return np.full(image.shape[1], np.nan)
    columns = np.median(slit, axis=0)
    scatter = 1.4826 * np.median(np.abs(slit - columns), axis=0)
    lit = np.flatnonzero((columns > 0) & (scatter < _LIT * columns))
    curve = np.full(columns.size, np.nan)
    if lit.size:
        curve[lit] = np.exp(_smooth(lit, np.log(columns[lit])))
    return curve


def _smooth(x: NDArray[Any], values: Curve) -> Curve:
    """Return the spline through values at positions x that few outliers do not move."""
    basis, kept = _splines(x), np.ones(x.size, bool)
    fitted = values
    for _ in range(_FITS):
        fitted = basis @ np.linalg.lstsq(basis[kept], values[kept], rcond=None)[0]
        off = values - fitted
        still = np.abs(off) <= max(_FAR * robust_std(off[kept]), _EXACT)
        if np.array_equal(still, kept):
            break
        kept = still
    return np.asarray(fitted)


def _splines(x: NDArray[Any]) -> NDArray[np.float64]:
    """Return the cubic B-splines on even knots at positions x: (x, spline). De Boor (1978)."""
    pieces = int(min(_PIECES, max((np.ptp(x) + 1) // 4, 1)))
    u = (x - x.min()) / max(np.ptp(x), 1) * pieces
    knots = np.arange(-_DEGREE, pieces + _DEGREE + 1, dtype=np.float64)
    within = np.minimum(np.floor(u), pieces - 1)[:, np.newaxis]
    basis = (knots[:-1] == within).astype(np.float64)
    for degree in range(1, _DEGREE + 1):
        n = basis.shape[1] - 1
        rising = (u[:, np.newaxis] - knots[:n]) / degree
        falling = (knots[degree + 1 : degree + 1 + n] - u[:, np.newaxis]) / degree
        basis = rising * basis[:, :-1] + falling * basis[:, 1:]
    return np.asarray(basis, np.float64)


def quotient(block: Block, flat: Image) -> Block:
    """Return counts (..., y, x) divided by a flat (y, x), in float64.

    Examples
    --------
    >>> quotient(np.array([[[10, 9]]], dtype=np.uint16), np.array([[1.0, 0.5]]))
    array([[[10., 18.]]])
    """
    return np.divide(block, flat, dtype=np.float64)


def quotient_variance(
    variance: Block, quotient: Block, flat: Image, of_flat: Block | None = None
) -> Block:
    """Return the variance of counts divided by a flat, float32.

    Parameters
    ----------
    variance : of the counts (..., y, x).
    quotient : counts / flat (..., y, x).
    flat : what they were divided by (y, x).
    of_flat : the flat's own variance (y, x); None: it is taken for certain.

    Examples
    --------
    >>> variance, flat = np.array([[8.0]]), np.array([[2.0]])
    >>> quotient_variance(variance, np.array([[10.0]]), flat, np.array([[0.04]]))
    array([[3.]], dtype=float32)
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        total = variance if of_flat is None else variance + quotient**2 * of_flat
        return (total / flat**2).astype(np.float32)
