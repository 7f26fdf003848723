"""How a star's light is spread over rows, as a bell curve with wings: Moffat's, or the normal one.

All curves are integrated over pixels: what a pixel gets is the mean of the light over its height,
which for a star two rows wide is 6 % less than the light at its middle. Moffat (1969, A&A 3, 455):
``(1 + (r/w)^2) ** -b``; b to infinity is the normal curve.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_STEP = 0.02
"""Of the table, in widths of the curve."""
_EXTENT = 40.0
"""Widths from the middle at which the table ends: 0.1 % of the widest wings lie beyond 20."""
EXPONENTS = (np.inf, 6.0, 3.5, 2.5, 2.0)
_WORTH = 9.0
"""By how much chi-square must fall for wings to be believed."""
_ROUNDS, _NET = 6, 7


class Bell(NamedTuple):
    """A bell curve: its full width at half maximum and its middle, rows, and its exponent."""

    fwhm: float
    middle: float
    exponent: float

    def below(self, away: Values) -> Values:
        """Return which part of the light lies below a distance from the trace."""
        distance, part = _table(self.exponent)
        return np.asarray(np.interp((away - self.middle) / self.fwhm, distance, part))

    def within(self, half_height: float) -> float:
        """Return which part of the light lies within a distance from the trace."""
        low, high = self.below(np.array([-half_height, half_height]))
        return float(high - low)

    def on_pixels(self, away: Values) -> Values:
        """Return which part of the light falls on pixels whose middles are at a distance."""
        return self.below(away + 0.5) - self.below(away - 0.5)

    def on_rows(self, lowest: Values, n_rows: int) -> Values:
        """Return the same (row, x) for rows one above the other, the lowest at a distance (x)."""
        edges = lowest - 0.5 + np.arange(n_rows + 1)[:, np.newaxis]
        return np.diff(self.below(edges), axis=0)


_TABLES: dict[float, tuple[Values, Values]] = {}


def _table(exponent: float) -> tuple[Values, Values]:
    """Return distances in widths, and which part of the light lies below each."""
    if exponent not in _TABLES:
        distance = np.arange(-_EXTENT, _EXTENT + _STEP / 2, _STEP)
        if np.isinf(exponent):
            light = np.exp(-4 * np.log(2) * distance**2)
        else:
            light = (1 + 4 * (2 ** (1 / exponent) - 1) * distance**2) ** -exponent
        below = np.cumsum(light) - light / 2
        _TABLES[exponent] = (distance, below / np.sum(light))
    return _TABLES[exponent]


class Stack(NamedTuple):
    """The light of all columns by the distance from the trace, in units of a column's flux.

    Parameters
    ----------
    away : (bin), rows, the weighted mean of the pixels.
    light : (bin), per pixel.
    weight : (bin), the inverse of its variance.
    """

    away: Values
    light: Values
    weight: Values


def fit_bell(stack: Stack, fwhm: float, *, wings: bool = True) -> Bell:
    """Return the bell curve that is most like a stack.

    Parameters
    ----------
    stack : the light.
    fwhm : a guess of its width, rows. Widths from a third to three times of it are tried, and the
        wings of several exponents; those only where they make a difference.
    wings : try any but the normal curve.

    Examples
    --------
    >>> away = np.arange(-15.0, 16)
    >>> light = Bell(4.0, 0.3, np.inf).on_pixels(away)
    >>> found = fit_bell(Stack(away, light, np.full(31, 1e8)), 5.0)
    >>> round(found.fwhm, 2), round(found.middle, 2), found.exponent
    (4.0, 0.3, inf)
    """
    best, least = Bell(fwhm, 0.0, np.inf), np.inf
    for exponent in EXPONENTS if wings else EXPONENTS[:1]:
        bell, chi2 = _refined(stack, Bell(best.fwhm, best.middle, exponent), fwhm)
        if chi2 < least - (_WORTH if exponent < np.inf else 0.0):
            best, least = bell, chi2
    return best


def _refined(stack: Stack, bell: Bell, guess: float) -> tuple[Bell, float]:
    """Return a bell of best width and middle, and its chi-square: ever finer nets of both."""
    chi2, wide, aside = np.inf, np.log(3.0), guess / 2
    for _ in range(_ROUNDS):
        widths = np.clip(bell.fwhm * np.exp(np.linspace(-wide, wide, _NET)), guess / 3, guess * 3)
        middles = np.clip(bell.middle + np.linspace(-aside, aside, _NET), -guess, guess)
        fwhm, middle = (net.ravel() for net in np.meshgrid(widths, middles))
        costs = _chi2(stack, fwhm, middle, bell.exponent)
        at = int(np.argmin(costs))
        bell, chi2 = Bell(float(fwhm[at]), float(middle[at]), bell.exponent), float(costs[at])
        wide, aside = wide / 3, aside / 3
    return bell, chi2


def _chi2(stack: Stack, fwhm: Values, middle: Values, exponent: float) -> Values:
    """Return the weighted squares that bells (net) of the best height leave of a stack."""
    distance, part = _table(exponent)
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
