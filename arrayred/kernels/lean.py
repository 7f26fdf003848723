"""Lines of the sky that lean: how much, and a band of sky put upright.

A line of a spectrograph crosses the chip at an angle: on the night of the reference tables neon
moves by three columns in 300 rows. Between two bands 117 rows off a star the mean of a line 1.5
columns wide then is a quarter too low at its peak. The lean is told by the two sides together:
their structure along the columns is correlated at the shift between them. It counts only if that
correlation beats the one without a shift by five times its noise, so that a sky without lines is
left as it is, to the bit.

Rows are shifted by cubic interpolation (Keys 1981, IEEE ASSP 29, 1153), which leaves the shape of a
line two columns wide and lowers the noise of a pixel by a known factor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

_STEEPEST = 0.03
"""Columns per row."""
_STEP = 0.25
_SURE = 5.0
_WIDE = 31
"""Columns; what changes more slowly is no line."""


def lean_between(below: Values, above: Values, n_rows: float, noise: float) -> float:
    """Return by how many columns per row lines lean, 0 where nothing tells.

    Parameters
    ----------
    below, above : the sky (x) of two bands.
    n_rows : from one to the other.
    noise : standard deviation of their columns.

    Examples
    --------
    >>> x = np.arange(200.0)
    >>> line = lambda at: 100 * np.exp(-0.5 * ((x - at) / 1.5) ** 2)
    >>> round(lean_between(line(90.0), line(92.0), 200.0, 1.0), 3)
    0.01
    >>> lean_between(line(90.0), line(90.0), 200.0, 1.0)
    0.0
    """
    one, other = _structure(below), _structure(above)
    reach = int(min(_STEEPEST * n_rows, one.size / 8) / _STEP)
    if reach < 1 or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return 0.0
    shifts = _STEP * np.arange(-reach, reach + 1)
    alike = np.array([np.add.reduce(_moved(one, -t / 2) * _moved(other, t / 2)) for t in shifts])
    best = int(np.argmax(alike))
    doubt = _SURE * np.sqrt(2.0 * one.size) * noise**2
    if not 0 < best < shifts.size - 1 or alike[best] - alike[reach] < doubt:
        return 0.0
    before, at, after = alike[best - 1 : best + 2]
    curvature = before - 2 * at + after
    shift = shifts[best] + (_STEP * (before - after) / (2 * curvature) if curvature < 0 else 0.0)
    return float(shift / n_rows)


def upright(pixels: Values, good: Flags, shifts: Values) -> tuple[Values, Flags, Values]:
    """Return rows moved to where their lines would be without a lean.

    Parameters
    ----------
    pixels, good : (y, x).
    shifts : of each row (y), columns by which its lines lie too far along x.

    Returns
    -------
    pixels, good : (y, x); what takes part in a bad one is bad, and so are the ends.
    factors : (y), the variance of a moved pixel over that of one that was not.

    Examples
    --------
    >>> moved, good, factors = upright(np.eye(3, 9) + 1, np.full((3, 9), True), np.arange(3.0))
    >>> moved[:, :3].tolist(), factors.tolist()
    ([[2.0, 1.0, 1.0], [2.0, 1.0, 1.0], [2.0, 1.0, 1.0]], [1.0, 1.0, 1.0])
    """
    moved, usable, factors = np.empty_like(pixels), np.empty_like(good), np.empty(len(pixels))
    filled = np.where(good, pixels, 0.0)
    for i, shift in enumerate(shifts):
        moved[i] = _moved(filled[i], shift)
        usable[i] = _moved(1.0 * ~good[i], shift, bad_ends=True) == 0
        factors[i] = float(np.add.reduce(_weights(shift - np.floor(shift)) ** 2))
    return moved, usable, factors


def _structure(sky: Values) -> Values:
    """Return what of a sky (x) changes within few columns."""
    half = _WIDE // 2
    padded = np.concatenate((np.repeat(sky[:1], half), sky, np.repeat(sky[-1:], half)))
    return np.asarray(sky - np.convolve(padded, np.full(_WIDE, 1.0 / _WIDE), "valid"))


def _weights(part: float) -> Values:
    """Return the weights of the pixels at -1, 0, 1, 2 for the value at a part of a pixel."""
    p = part
    return np.array(
        [
            -0.5 * p + p**2 - 0.5 * p**3,
            1 - 2.5 * p**2 + 1.5 * p**3,
            0.5 * p + 2 * p**2 - 1.5 * p**3,
            -0.5 * p**2 + 0.5 * p**3,
        ]
    )


def _moved(row: Values, shift: float, *, bad_ends: bool = False) -> Values:
    """Return the values (x) of a row `shift` columns further on; ends are repeated.

    Parameters
    ----------
    row : (x).
    shift : columns.
    bad_ends : the row counts what is bad: weights count as they are, whatever their sign, and
        beyond the ends all is.
    """
    whole = int(np.floor(shift))
    weights: Any = _weights(shift - whole)
    n, margin = row.size, abs(whole) + 3
    ends = (np.ones(margin), np.ones(margin))
    if bad_ends:
        weights = np.abs(weights)
    else:
        ends = (np.repeat(row[:1], margin), np.repeat(row[-1:], margin))
    padded = np.concatenate((ends[0], row, ends[1]))
    start = margin + whole - 1
    total = np.zeros(n)
    for k, weight in enumerate(weights):
        if weight != 0:
            total += weight * padded[start + k : start + k + n]
    return total
