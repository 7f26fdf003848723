"""The slow course of a series of rows, and how much the rows scatter about it.

A cubic follows a gradient, and what a bias or a glow drifts along the rows; it is too stiff for a
spectrum: one of 67 of 255 rows stays as it is, where a running median would swallow it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.rows import robust_std

Values = NDArray[np.float64]


def slow_drift(series: Values) -> tuple[Values, NDArray[np.bool_]]:
    """Return the smooth level of a series of rows (y), and which rows follow it.

    A cubic (of a short series a straight line), fitted to what is not brighter than it: rows that
    stand out by 2.5 of their scatter, or lie 4 below, are left out, and that is repeated.

    Examples
    --------
    >>> rows = np.linspace(0.0, 7.0, 100)
    >>> rows[40:60] += 50.0
    >>> level, dark = slow_drift(rows)
    >>> round(float(level[50]), 1), int(dark.sum())
    (3.5, 80)
    """
    basis = smooth(series.size)
    level, dark = np.full(series.size, np.median(series)), np.ones(series.size, np.bool_)
    for _ in range(8):
        above = series - level
        spread = robust_std(above[dark]) + 1e-9
        now = (above < 2.5 * spread) & (above > -4.0 * spread)
        if 3 * np.count_nonzero(now) < series.size:
            break
        dark, before = now, level
        level = basis @ fitted(basis[dark], series[dark])
        if np.allclose(level, before, rtol=0, atol=1e-3 * spread):
            break
    return level, dark


def smooth(n_rows: int) -> Values:
    """Return the polynomials (y, degree) of which the level of rows is made.

    Examples
    --------
    >>> smooth(100).shape, smooth(40).shape
    ((100, 4), (40, 2))
    """
    degree = 3 if n_rows >= 64 else 1
    basis = np.polynomial.legendre.legvander(np.linspace(-1, 1, n_rows), degree)
    return np.asarray(basis, np.float64)


def fitted(basis: Values, values: Values) -> Values:
    """Return the coefficients that fit values (y, ...) best; the polynomials are near orthogonal.

    Examples
    --------
    >>> fitted(smooth(3), np.array([1.0, 2.0, 3.0])).round(3)
    array([2., 1.])
    """
    return np.asarray(np.linalg.solve(basis.T @ basis, basis.T @ values))


def step_noise(series: Values) -> float:
    """Return the standard deviation of a series by its steps, which slow changes do not enter.

    Examples
    --------
    >>> ramp = np.arange(2000.0)
    >>> round(step_noise(ramp + np.random.default_rng(0).normal(0, 3, 2000)), 0)
    3.0
    """
    return robust_std(np.diff(series)) / math.sqrt(2.0) if series.size > 1 else 0.0
