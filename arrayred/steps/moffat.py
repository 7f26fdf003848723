"""Analytic profile of a star along the slit: Moffat or Gaussian.

All curves are integrated over pixels: the flux of a pixel is the mean over its height, which for
a star two rows wide is 6 % less than the value at its middle. Moffat (1969, A&A 3, 455):
``(1 + (r/w)^2) ** -b``; b to infinity is the Gaussian.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_PER_ROW = 8
_TABLE_STEP = 0.02
"""Step of the table, in FWHM of the curve."""
_TABLE_EXTENT = 40.0
"""Extent of the table from the middle, in FWHM: 0.1 % of the widest wings lie beyond 20."""
MOFFAT_EXPONENTS = (np.inf, 6.0, 3.5, 2.5, 2.0)
_CHI2_GAIN = 9.0
"""Decrease of chi-square required to accept wings."""
_ROUNDS, _NET = 6, 7


class Moffat(NamedTuple):
    """A Moffat curve: full width at half maximum and middle, rows, and exponent."""

    fwhm: float
    middle: float
    exponent: float

    def below(self, away: Values) -> Values:
        """Return the fraction of the flux below a distance from the trace, rows."""
        distance, part = _moffat_table(self.exponent)
        return np.asarray(np.interp((away - self.middle) / self.fwhm, distance, part))

    def within(self, half_height: float) -> float:
        """Return the fraction of the flux within a distance from the trace, rows."""
        low, high = self.below(np.array([-half_height, half_height]))
        return float(high - low)

    def on_pixels(self, away: Values, pixel: float | Values = 1.0) -> Values:
        """Return the fraction of the flux on pixels of a height at a distance, rows."""
        return self.below(away + 0.5 * pixel) - self.below(away - 0.5 * pixel)

    def on_rows(self, lowest: Values, n_rows: int, pixel: float | Values = 1.0) -> Values:
        """Return the same (row, x) for consecutive rows, the lowest at a distance (x)."""
        edges = lowest - 0.5 * pixel + np.arange(n_rows + 1)[:, np.newaxis] * pixel
        return np.diff(self.below(edges), axis=0)


_MOFFAT_TABLES: dict[float, tuple[Values, Values]] = {}


def _moffat_table(exponent: float) -> tuple[Values, Values]:
    """Return distances in FWHM, and the fraction of the flux below each."""
    if exponent not in _MOFFAT_TABLES:
        distance = np.arange(-_TABLE_EXTENT, _TABLE_EXTENT + _TABLE_STEP / 2, _TABLE_STEP)
        if np.isinf(exponent):
            light = np.exp(-4 * np.log(2) * distance**2)
        else:
            light = (1 + 4 * (2 ** (1 / exponent) - 1) * distance**2) ** -exponent
        below = np.cumsum(light) - light / 2
        _MOFFAT_TABLES[exponent] = (distance, below / np.sum(light))
    return _MOFFAT_TABLES[exponent]


class ColumnStack(NamedTuple):
    """Stacked profile of all columns by distance from the trace, in units of a column's flux.

    Parameters
    ----------
    away : (bin), weighted mean distance of the pixels, rows.
    light : (bin), flux per pixel.
    weight : (bin), the inverse of its variance.
    """

    away: Values
    light: Values
    weight: Values


class TracePixels(NamedTuple):
    """Sky-subtracted pixels of a trace, with their weights.

    Parameters
    ----------
    counts : (row, x), sky-subtracted.
    weight : (row, x), the inverse of their variance; 0 where a pixel is masked.
    flux : (x) or (row, x), approximate flux of the star in each column.
    """

    counts: Values
    weight: Values
    flux: Values


def stack_columns(light: TracePixels, away: Values) -> ColumnStack:
    """Return the profile of all columns in fine bins of the distance (row, x) from the trace.

    Bins broaden the profile by a twelfth of the square of their width: bins of half a row cost
    0.1 % of the flux at a FWHM of 5 rows, bins of an eighth of a row nothing measurable.
    """
    lowest = float(np.floor(away.min()))
    number = ((away - lowest) * _PER_ROW).astype(np.intp).ravel()
    weight = light.weight * light.flux**2
    total = sums_by_number(weight, number)
    sums = sums_by_number(light.weight * light.flux * light.counts, number)
    distance = sums_by_number(weight * away, number)
    lit = total > 0
    return ColumnStack(distance[lit] / total[lit], sums[lit] / total[lit], total[lit])


def sums_by_number(values: Values, number: NDArray[np.intp], size: int = 0) -> Values:
    """Return the sums of the values with the same bin number."""
    return np.asarray(np.bincount(number, values.ravel(), size), np.float64)


def fit_moffat(stack: ColumnStack, fwhm: float, *, wings: bool = True) -> Moffat:
    """Fit a Moffat curve to a stacked profile.

    Parameters
    ----------
    stack : the stacked profile.
    fwhm : initial guess of the FWHM, rows. Widths from a third to three times of it are tried, and
        several exponents; wings are accepted only where chi-square falls by 9.
    wings : try finite exponents besides the Gaussian.

    Examples
    --------
    >>> away = np.arange(-15.0, 16)
    >>> light = Moffat(4.0, 0.3, np.inf).on_pixels(away)
    >>> found = fit_moffat(ColumnStack(away, light, np.full(31, 1e8)), 5.0)
    >>> round(found.fwhm, 2), round(found.middle, 2), found.exponent
    (4.0, 0.3, inf)
    """
    best, least = Moffat(fwhm, 0.0, np.inf), np.inf
    for exponent in MOFFAT_EXPONENTS if wings else MOFFAT_EXPONENTS[:1]:
        moffat, chi2 = _refine_moffat(stack, Moffat(best.fwhm, best.middle, exponent), fwhm)
        if chi2 < least - (_CHI2_GAIN if exponent < np.inf else 0.0):
            best, least = moffat, chi2
    return best


def _refine_moffat(stack: ColumnStack, moffat: Moffat, guess: float) -> tuple[Moffat, float]:
    """Return the curve of best width and middle, and its chi-square, by ever finer grids."""
    chi2, wide, aside = np.inf, np.log(3.0), guess / 2
    for _ in range(_ROUNDS):
        widths = np.clip(moffat.fwhm * np.exp(np.linspace(-wide, wide, _NET)), guess / 3, guess * 3)
        middles = np.clip(moffat.middle + np.linspace(-aside, aside, _NET), -guess, guess)
        fwhm, middle = (net.ravel() for net in np.meshgrid(widths, middles))
        costs = _moffat_chi2(stack, fwhm, middle, moffat.exponent)
        at = int(np.argmin(costs))
        moffat, chi2 = Moffat(float(fwhm[at]), float(middle[at]), moffat.exponent), float(costs[at])
        wide, aside = wide / 3, aside / 3
    return moffat, chi2


def _moffat_chi2(stack: ColumnStack, fwhm: Values, middle: Values, exponent: float) -> Values:
    """Return the chi-square (net) of curves of best height against a stack."""
    distance, part = _moffat_table(exponent)
    low = (stack.away - 0.5 - middle[:, np.newaxis]) / fwhm[:, np.newaxis]
    high = low + 1.0 / fwhm[:, np.newaxis]
    model = np.interp(high, distance, part) - np.interp(low, distance, part)
    weighted = model * stack.weight
    cross, power = (
        np.add.reduce(weighted * stack.light, axis=1),
        np.add.reduce(weighted * model, axis=1),
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        gain = np.where((cross > 0) & (power > 0), cross**2 / power, 0.0)
    return float(np.add.reduce(stack.weight * stack.light**2)) - gain
