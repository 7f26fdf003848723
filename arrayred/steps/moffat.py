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


# Two stars in one profile: `fit_pair`.
#
# Two curves of one width are fitted jointly. Of real stars out of focus the profile is that of a
# ring, which two equal curves about a FWHM apart describe to 0.8 to 2 % of the peak; those of eight
# real nights and of trailed and ring-shaped images differ from two curves by more than 0.5 %, or
# the curves are equal, or nearer to each other than 0.6 FWHM. Two stars of a smooth profile follow
# two curves within the noise.

_MODEL_ERROR = 0.004
"""Error of a curve, as a fraction of the peak, that counts with the noise."""
_LARGEST_CHI2 = 1.5
"""Chi-square of a bin up to which curves describe a profile."""
_PAIR_GAIN = 100.0
"""Decrease of chi-square required to accept a second star."""
_LEAST_APART, _FAINTEST = 0.6, 0.05
"""Least distance of two stars, FWHM, and least flux of the fainter, in units of the brighter's."""
_REACH_OF_PAIR = 3.0
"""Distance from the middle up to which the profile is compared, FWHM of the single curve."""
_WIDTHS_OF_PAIR = np.geomspace(0.35, 1.0, 12)
"""Widths tried, in units of that of the single curve."""
_PLACES_OF_PAIR = np.linspace(-2.5, 2.5, 51)
"""Middles tried, in the same units."""
_PAIR_ROUNDS, _PAIR_STEP, _PAIR_DONE = 20, 0.01, 0.1
"""Largest number of rounds, step of the derivatives in FWHM, change of chi-square at the end."""


class Pair(NamedTuple):
    """Two stars of one profile: FWHM, middle of the brighter and of the fainter, rows; flux ratio.

    The ratio is that of the fainter to the brighter.
    """

    fwhm: float
    brighter: float
    fainter: float
    ratio: float

    @property
    def apart(self) -> float:
        """Return their distance in units of the FWHM."""
        return abs(self.fainter - self.brighter) / self.fwhm

    @property
    def dip(self) -> float:
        """Return the row between them at which Gaussians of both are equally bright."""
        step = (self.fwhm**2 * np.log(1 / self.ratio)) / (8 * np.log(2))
        apart = self.fainter - self.brighter
        return float(self.brighter + apart / 2 + step / apart)


def fit_pair(stack: ColumnStack, fwhm: float) -> Pair | None:
    """Fit two curves of one width to a stacked profile that a single one does not describe.

    Parameters
    ----------
    stack : the stacked profile.
    fwhm : approximate FWHM of the whole, rows.

    Returns
    -------
    pair : None where one curve describes the profile within the noise and 0.4 % of the peak, or two
        do not, or the second is too faint or too near to be told from an error of the profile.

    Examples
    --------
    >>> away = np.arange(-12.0, 12.0, 0.125)
    >>> light = Moffat(4.0, 0.0, np.inf).on_pixels(away)
    >>> light += 0.5 * Moffat(4.0, 3.0, np.inf).on_pixels(away)
    >>> pair = fit_pair(ColumnStack(away, light, np.full(away.size, 1e7)), 5.0)
    >>> round(pair.fwhm, 1), round(pair.fainter - pair.brighter, 1), round(pair.ratio, 1)
    (4.0, 3.0, 0.5)
    """
    error = _MODEL_ERROR * float(np.max(stack.light, initial=0.0))
    stack = stack._replace(weight=1.0 / (1.0 / stack.weight + error**2))
    one = fit_moffat(stack, fwhm)
    near = np.abs(stack.away - one.middle) < _REACH_OF_PAIR * one.fwhm
    stack = ColumnStack(stack.away[near], stack.light[near], stack.weight[near])
    if not stack.away.size:
        return None
    alone = _refined_curves(stack, one.fwhm, [one.middle], one.exponent)[0]
    if alone <= _PAIR_GAIN:
        return None
    fwhm, middles = _best_of_net(stack, one)
    fits = [_refined_curves(stack, fwhm, middles, exponent) for exponent in MOFFAT_EXPONENTS]
    chi2, fwhm, middles, heights = min(fits, key=lambda fit: fit[0])
    faint, bright = np.argsort(heights).tolist()
    if not heights[bright] > 0:
        return None
    pair = Pair(fwhm, middles[bright], middles[faint], float(heights[faint] / heights[bright]))
    most = _LARGEST_CHI2 * stack.away.size
    fits_better = chi2 <= most and alone - chi2 >= _PAIR_GAIN
    if not fits_better or pair.ratio < _FAINTEST or pair.apart < _LEAST_APART:
        return None
    return pair


def _best_of_net(stack: ColumnStack, one: Moffat) -> tuple[float, list[float]]:
    """Return FWHM and middles of the best two Gaussians of a net in units of a single curve's.

    The heights of each two solve their normal equations; both must be positive.
    """
    middles = one.middle + one.fwhm * _PLACES_OF_PAIR
    most, best = 0.0, (one.fwhm, [one.middle, one.middle + one.fwhm])
    for fwhm in one.fwhm * _WIDTHS_OF_PAIR:
        away = (stack.away - middles[:, np.newaxis]) / fwhm
        curves = np.exp(-4 * np.log(2) * away**2)
        weighted = curves * stack.weight
        side, cross = weighted @ stack.light, weighted @ curves.T
        power = np.diagonal(cross)
        size = power[:, np.newaxis] * power - cross**2
        size = np.where(size > 1e-9 * power[:, np.newaxis] * power, size, np.inf)
        low = (side[:, np.newaxis] * power - side * cross) / size
        gain = np.where((low > 0) & (low.T > 0), low * side[:, np.newaxis] + low.T * side, 0.0)
        i, j = divmod(int(np.argmax(gain)), len(middles))
        if gain[i, j] > most:
            most, best = float(gain[i, j]), (float(fwhm), middles[[i, j]].tolist())
    return best


def _refined_curves(
    stack: ColumnStack, fwhm: float, middles: list[float], exponent: float
) -> tuple[float, float, list[float], Values]:
    """Return chi-square, FWHM, middles and heights of curves, by Levenberg and Marquardt.

    The heights are solved for at every width and middles, and with them a line below all curves:
    the background is subtracted beside a star, where another may shine.
    """
    root, n = np.sqrt(stack.weight), len(middles)
    line = np.stack((np.ones_like(stack.away), stack.away), axis=1)

    def fitted(place: Values) -> tuple[Values, Values]:
        """Return residuals and heights at the logarithm of a FWHM and some middles."""
        curves = [Moffat(float(np.exp(place[0])), m, exponent) for m in place[1:].tolist()]
        shapes = [curve.on_pixels(stack.away) for curve in curves]
        design = np.column_stack((*shapes, line)) * root[:, np.newaxis]
        heights = np.linalg.lstsq(design, stack.light * root, rcond=None)[0]
        return np.asarray(stack.light * root - design @ heights), np.asarray(heights[:n])

    place = np.array([np.log(fwhm), *middles])
    steps = np.diag([_PAIR_STEP, *[_PAIR_STEP * fwhm] * n])
    left, heights = fitted(place)
    chi2, damping = float(left @ left), 1e-3
    for _ in range(_PAIR_ROUNDS):
        slope = np.stack([fitted(place + step)[0] - left for step in steps])
        normal = np.asarray(slope @ slope.T)
        normal += np.diag(damping * np.diagonal(normal) + 1e-12)
        near = place - np.clip(np.linalg.solve(normal, slope @ left), -50, 50) @ steps
        left_there, heights_there = fitted(near)
        there = float(left_there @ left_there)
        damping *= 0.1 if there < chi2 else 10.0
        if there < chi2:
            done = chi2 - there < _PAIR_DONE
            place, left, heights, chi2 = near, left_there, heights_there, there
            if done:
                break
    return chi2, float(np.exp(place[0])), place[1:].tolist(), heights
