"""The profile of a trace: what part of a column's light falls on a pixel, by its distance.

It is a bell curve (`kernels.shape`) and cubic splines on top, which change along the columns as
slowly as a polynomial of second order; both are functions of the distance from the trace, so that
a leaning trace shows them at all phases of the pixels, and one that does not needs no others. Rows
of an image would not do: where a star two rows wide crosses from one to the next, the light of a
row changes within a few columns, and no smooth function of the column follows (Marsh 1989, PASP
101, 1032).

How much the splines may do is told by the light itself: their size is that of highest evidence
(MacKay 1992, Neural Computation 4, 415), so that a faint star gets a bell and no noise, and a
bright one whatever its telescope makes of it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.chain import solve_chain
from arrayred.kernels.shape import Bell, Stack, fit_bell

Values = NDArray[np.float64]

_BINS = 32
_PER_ROW = 8
_FINEST, _COARSEST = 0.5, 2.0
_SIZES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Of what the splines add, in units of the bell."""
_CHANGES = (0.03, 0.1, 0.3, 1.0)
"""Of how it changes along the columns, in units of the same."""
_QUICK = 0.1
_WINGS = 0.03
_ORDER = 2
_KNOTS = 3


class Knots(NamedTuple):
    """Cubic B-splines on gathered pixels.

    Parameters
    ----------
    away : (row, x), of the pixels: rows from the trace.
    interval : (row, x), between which knots they lie.
    basis : (4, row, x), the four splines that are not 0 there.
    middles : (knot), rows from the trace to the middle of each spline.
    """

    away: Values
    interval: NDArray[np.intp]
    basis: Values
    middles: Values


class Light(NamedTuple):
    """Gathered pixels of a trace.

    Parameters
    ----------
    counts : (row, x), less the sky.
    weight : (row, x), the inverse of their variance; 0 where a pixel does not count.
    flux : (x), about what a column has.
    """

    counts: Values
    weight: Values
    flux: Values


class Profile(NamedTuple):
    """A bell and splines.

    Parameters
    ----------
    bell : the curve beneath.
    coefficients : (order, knot) of the splines, by Legendre orders along the columns; or none.
    """

    bell: Bell
    coefficients: Values | None = None

    def on_pixels(self, knots: Knots) -> Values:
        """Return the part of a column's light on gathered pixels (row, x): none below 0."""
        n_rows, n_columns = knots.away.shape
        light = self.bell.on_rows(knots.away[0], n_rows)
        if self.coefficients is not None and self.coefficients.any():
            along = np.linspace(-1.0, 1.0, n_columns)
            orders = np.polynomial.legendre.legvander(along, len(self.coefficients) - 1).T
            for order, coefficients in zip(orders, self.coefficients, strict=True):
                added = coefficients[knots.interval] * knots.basis[0]
                for i in range(1, 4):
                    added += coefficients[knots.interval + i] * knots.basis[i]
                light += added * order
        return without_negative(light)


def without_negative(light: Values) -> Values:
    """Return profiles (row, x) without what is below 0, taken from the wings to keep their sum.

    Noise in the wings would otherwise count where it is positive alone: 0.05 % of the light of a
    star with a signal to noise of 50, which its core would miss.

    Examples
    --------
    >>> without_negative(np.array([[-0.01], [0.01], [1.0], [0.01]])).ravel().tolist()
    [0.0, 0.005, 1.0, 0.005]
    """
    above = np.maximum(light, 0.0)
    excess = np.add.reduce(above - light, axis=0)
    if not excess.any():
        return above
    wings = above < _WINGS * above.max(axis=0)
    held = np.add.reduce(np.where(wings, above, 0.0), axis=0)
    kept = np.maximum(1.0 - excess / np.where(held > 0, held, np.inf), 0.0)
    return np.asarray(np.where(wings, above * kept, above))


def knots_of(away: Values, fwhm: float) -> Knots:
    """Return splines a fifth of a width apart, but from half a row to two.

    Parameters
    ----------
    away : (row, x), rows from the trace; each a row above the one before.
    fwhm : about how wide the light is, rows.
    """
    step = float(np.clip(fwhm / 5, _FINEST, _COARSEST))
    first = float(np.floor(away.min()))
    n_knots = int(np.ceil((away.max() - first) / step)) + 3
    n_knots += -n_knots % _KNOTS
    place = (away - first) / step
    interval = np.clip(place.astype(np.intp), 0, n_knots - 4)
    t = place - interval
    ahead, square = 1 - t, t * t
    basis = np.empty((4, *away.shape), np.float64)
    basis[3] = square * t / 6
    basis[2] = (1 + 3 * (t + square)) / 6 - 3 * basis[3]
    basis[0] = ahead * ahead * ahead / 6
    basis[1] = 1.0 - basis[0] - basis[2] - basis[3]
    middles = np.asarray(first + step * (np.arange(n_knots) - 1.0), np.float64)
    return Knots(away, interval, basis, middles)


def fit_profile(light: Light, knots: Knots, fwhm: float, *, quick: bool = False) -> Profile:
    """Return the profile of a trace.

    Parameters
    ----------
    light : its pixels.
    knots : the splines on them.
    fwhm : a guess of its width, rows.
    quick : a bell without wings and splines of one size, the same for all columns: good enough to
        tell what does not belong to it.

    Examples
    --------
    >>> away = np.arange(-12.0, 13)[:, np.newaxis] + np.linspace(-0.5, 0.5, 300)
    >>> truth = Bell(3.0, 0.0, 2.5).on_pixels(away)
    >>> light = Light(1e5 * truth, np.full(away.shape, 1e-3), np.full(300, 1e5))
    >>> knots = knots_of(away, 3.5)
    >>> bool(np.abs(fit_profile(light, knots, 3.5).on_pixels(knots) - truth).max() < 1e-3)
    True
    """
    stack = stacked(light, knots.away)
    bell = fit_bell(stack, fwhm, wings=not quick)
    light = light._replace(flux=light.flux * _height(stack, bell))
    normal, right, places = _equations(light, knots, bell)
    peak = float(bell.on_pixels(np.array([bell.middle]))[0])
    size = 0.3 * bell.on_pixels(knots.middles) + 0.01 * peak
    if quick:
        return Profile(bell, _solved(normal, right, places, _QUICK * size[np.newaxis])[0])
    return Profile(bell, _most_likely(normal, right, places, size))


def stacked(light: Light, away: Values) -> Stack:
    """Return the light of all columns in fine bins of the distance (row, x) from the trace.

    Bins broaden the bell by a twelfth of their width's square: of half a row they cost 0.1 % of the
    flux at a seeing of 5 rows, of an eighth nothing that can be measured.
    """
    lowest = float(np.floor(away.min()))
    number = ((away - lowest) * _PER_ROW).astype(np.intp).ravel()
    weight = light.weight * light.flux**2
    total = _sums(weight, number)
    sums = _sums(light.weight * light.flux * light.counts, number)
    distance = _sums(weight * away, number)
    lit = total > 0
    return Stack(distance[lit] / total[lit], sums[lit] / total[lit], total[lit])


def _sums(values: Values, number: NDArray[np.intp], size: int = 0) -> Values:
    """Return the sums of the values of each number."""
    return np.asarray(np.bincount(number, values.ravel(), size), np.float64)


def _height(stack: Stack, bell: Bell) -> float:
    """Return by what a bell is to be multiplied to be as high as a stack."""
    shape = bell.on_pixels(stack.away)
    height = float(np.add.reduce(stack.weight * stack.light * shape))
    power = float(np.add.reduce(stack.weight * shape**2))
    return height / power if height > 0 else 1.0


def _equations(light: Light, knots: Knots, bell: Bell) -> tuple[Values, Values, Values]:
    """Return the normal equations of the splines in each of some bins of columns.

    Returns
    -------
    normal, right, places : (bin, knot, 4), the products of a knot with itself and the next three;
        (bin, knot), with what the bell leaves; and (bin), the bins' middles from -1 to 1.
    """
    (n_rows, n_columns), n_knots = knots.away.shape, knots.middles.size
    n_bins = min(_BINS, n_columns)
    bins = np.arange(n_columns) * n_bins // n_columns
    number = (bins * n_knots + knots.interval).ravel()
    weight = light.weight * light.flux
    power = weight * light.flux
    left = weight * (light.counts - light.flux * bell.on_rows(knots.away[0], n_rows))
    normal, right = np.zeros((n_bins * n_knots, 4)), np.zeros(n_bins * n_knots)
    for i in range(4):
        sums = _sums(left * knots.basis[i], number, right.size)
        right[i:] += sums[: right.size - i]
        weighted = power * knots.basis[i]
        for j in range(i, 4):
            sums = _sums(weighted * knots.basis[j], number, right.size)
            normal[i:, j - i] += sums[: right.size - i]
    places = (np.arange(n_bins) + 0.5) * 2 / n_bins - 1
    return normal.reshape(n_bins, n_knots, 4), right.reshape(n_bins, n_knots), places


def _most_likely(normal: Values, right: Values, places: Values, size: Values) -> Values:
    """Return the coefficients (order, knot) whose prior size has the highest evidence."""
    best, most = np.zeros((1, size.size)), 0.0
    chosen = 0.0
    for scale in _SIZES:
        found, evidence = _solved(normal, right, places, scale * size[np.newaxis])
        if evidence > most:
            best, most, chosen = found, evidence, scale
    for change in _CHANGES if places.size > _ORDER else ():
        sizes = np.stack([max(chosen, change) * size, *[change * size] * _ORDER])
        found, evidence = _solved(normal, right, places, sizes)
        if evidence > most:
            best, most = found, evidence
    return best


def _solved(normal: Values, right: Values, places: Values, sizes: Values) -> tuple[Values, float]:
    """Return coefficients (order, knot) of given prior sizes, and the log of their evidence.

    The unknowns of three neighbouring knots are a block, and only neighbouring blocks touch. The
    sizes have one ratio between the orders at all knots.
    """
    n_orders, n_knots = sizes.shape
    along = np.polynomial.legendre.legvander(places, n_orders - 1)
    products = np.add.reduce(
        normal[:, :, :, np.newaxis, np.newaxis]
        * (along[:, :, np.newaxis] * along[:, np.newaxis])[:, np.newaxis, np.newaxis],
        axis=0,
    )
    side = np.add.reduce(right[:, :, np.newaxis] * along[:, np.newaxis], axis=0)
    scale = sizes.T
    n_blocks, width = n_knots // _KNOTS, _KNOTS * n_orders
    diagonal, upper = np.zeros((2, n_blocks, _KNOTS, n_orders, _KNOTS, n_orders))
    for gap in range(4):
        first, second = scale[: n_knots - gap], scale[gap:]
        parts = products[: n_knots - gap, gap] * first[:, :, np.newaxis] * second[:, np.newaxis]
        for i in range(_KNOTS):
            ahead, j = divmod(i + gap, _KNOTS)
            own = parts[i::_KNOTS]
            if ahead:
                upper[: len(own), i, :, j] = own
            else:
                diagonal[:, i, :, j] = own
                diagonal[:, j, :, i] = own
    shape = (n_blocks, width, width)
    unit = diagonal.reshape(shape) + np.eye(width)
    found, log_det = solve_chain(
        unit, upper.reshape(shape), (side * scale).reshape(n_blocks, width)
    )
    evidence = 0.5 * float(np.add.reduce(found * (side * scale).ravel())) - 0.5 * log_det
    return (found.reshape(n_knots, n_orders) * scale).T, evidence
