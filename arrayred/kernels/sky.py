"""The sky along the rows of a column: a mean, a median or a line through bands of sky.

What does not belong is left out by the noise, which is known, and to both sides alike: a value more
than four of its standard deviations from the line through the medians of the sides, and a row whose
mean stands out from those of the other rows, as a faint neighbour's or a hot one's does. Cutting at
four costs 0.006 % of good pixels, and moves the mean by less than 0.01 of a pixel's standard
deviation even where ten photons make a pixel; cutting by the estimated noise of each *pixel* would
not do: that follows the pixel's own counts, so what is low would be cut sooner than what is high.

Lines that lean are put upright first (`kernels.lean`), where there are any.

Medians are taken from columns sorted in contiguous memory: 0.8 ms for 100 rows of 1536 columns,
where `np.median` takes 3.5.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.lean import lean_between, upright
from arrayred.kernels.order import median_factor

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Model = Literal["mean", "median", "linear"]

_CUT = 4.0
_ROUNDS = 2
_FEWEST_TO_LEAN = 8
"""Rows of a side, for its lines to be told from its noise."""
_TO_STD = 1.4826
"""The standard deviation of a normal distribution over its median absolute deviation."""


class SkyFit(NamedTuple):
    """The sky of each column (x).

    Parameters
    ----------
    level : at distance 0.
    slope : per row.
    variance : of the level.
    n_rows : how many rows were used at all.
    scatter : what the pixels scatter by, in units of the noise that was told; NaN if none was.
    lean : by how many columns per row its lines lean.
    """

    level: Values
    slope: Values
    variance: Values
    n_rows: int
    scatter: float
    lean: float = 0.0


class Band(NamedTuple):
    """Pixels of sky: their values (y, x), which of them are good, and where they are.

    Parameters
    ----------
    pixels : (y, x).
    good : which to look at (y, x).
    distance : from where the level is wanted, rows (y, x).
    n_below : how many of the rows, the first ones, lie on the one side; the others on the other.
    """

    pixels: Values
    good: Flags
    distance: Values
    n_below: int

    @property
    def sides(self) -> list[slice]:
        """Return the rows of each side that there is."""
        sides = [slice(0, self.n_below), slice(self.n_below, len(self.pixels))]
        return [side for side in sides if side.stop > side.start]


def fit_sky(band: Band, noise: Values | None, model: Model) -> SkyFit:
    """Return the sky of each column from bands beside a star.

    Parameters
    ----------
    band : the pixels, of one side or two.
    noise : standard deviation of a pixel of sky in each column (x); None: that of the pixels.
    model : what is fitted along the rows of a column; a line needs two sides.

    Returns
    -------
    fit : a column without a good pixel has the sky of its neighbours; NaN where none has any.

    Examples
    --------
    >>> pixels = np.array([[8.0], [9.0], [11.0], [12.0]])
    >>> band = Band(pixels, pixels > 0, pixels - 10.0, 2)
    >>> fit = fit_sky(band, np.ones(1), "linear")
    >>> fit.level, fit.slope, fit.variance
    (array([10.]), array([1.]), array([0.25]))
    """
    lean = _lean_of(band, noise)
    if lean == 0:
        return _bridged(_clipped(band, noise, model))
    away = band.distance.mean(axis=1)
    pixels, good, factors = upright(band.pixels, band.good, lean * away)
    fit = _bridged(_clipped(band._replace(pixels=pixels, good=good), noise, model))
    leaning = -lean * np.gradient(fit.level)
    to_trace = away[0] - band.distance[0]
    return fit._replace(
        level=fit.level + leaning * to_trace,
        slope=fit.slope + leaning,
        variance=fit.variance * np.mean(factors),
        scatter=fit.scatter / float(np.sqrt(np.mean(factors))),
        lean=lean,
    )


def _lean_of(band: Band, noise: Values | None) -> float:
    """Return by how many columns per row the lines of a band lean; 0 where nothing tells."""
    parts = band.sides
    if len(parts) == 1:
        middle = len(band.pixels) // 2
        parts = [slice(0, middle), slice(middle, len(band.pixels))]
    if min(part.stop - part.start for part in parts) < _FEWEST_TO_LEAN:
        return 0.0
    one, other = (column_medians(band.pixels[part], band.good[part]) for part in parts)
    n_rows = float(np.mean(band.distance[parts[1]]) - np.mean(band.distance[parts[0]]))
    if noise is None:
        rest = np.abs(band.pixels[parts[0]] - one)
        noise = _TO_STD * column_medians(rest, band.good[parts[0]])
    fewest = min(part.stop - part.start for part in parts)
    of_median = _typical(noise) * np.sqrt(np.pi / 2 / fewest)
    known = np.isfinite(one) & np.isfinite(other)
    return lean_between(np.where(known, one, 0), np.where(known, other, 0), n_rows, of_median)


def _clipped(band: Band, noise: Values | None, model: Model) -> SkyFit:
    """Return the fit to what belongs to the sky."""
    level, slope = _through_medians(band)
    rest = _less(band, level, slope)
    spread = _TO_STD * column_medians(np.abs(rest), band.good)
    measured = spread if noise is None else np.maximum(spread, noise)
    told = spread if noise is None else noise
    for _ in range(_ROUNDS):
        kept = band.good & (np.abs(rest) <= _CUT * measured)
        kept &= even_rows(rest, kept)[:, np.newaxis]
        level, slope, share = _fitted(band, kept, model)
        line = slope if model == "linear" else _through_means(band, kept)
        rest = _less(band, level, line)
    scatter = np.nan if noise is None else _scatter(rest / noise, kept, len(band.sides))
    n_rows = int(np.count_nonzero(kept.any(axis=1)))
    return SkyFit(level, slope, share * told**2, n_rows, scatter)


def _bridged(fit: SkyFit) -> SkyFit:
    """Return a fit whose columns without a good pixel have the sky of their neighbours.

    Its variance there is that of the levels of all columns: that much may lie between neighbours.
    """
    known = np.isfinite(fit.level) & np.isfinite(fit.variance)
    if known.all() or not known.any():
        return fit
    columns = np.arange(known.size)
    level, slope = (
        np.where(known, values, np.interp(columns, columns[known], values[known]))
        for values in (fit.level, fit.slope)
    )
    spread = np.var(fit.level[known]) + np.mean(fit.variance[known])
    return fit._replace(level=level, slope=slope, variance=np.where(known, fit.variance, spread))


def column_medians(values: Values, good: Flags) -> Values:
    """Return the median of the good values of each column (y, x) -> (x); NaN without any.

    Examples
    --------
    >>> values = np.array([[1.0, 5.0], [3.0, np.nan], [9.0, 7.0]])
    >>> column_medians(values, np.isfinite(values))
    array([3., 6.])
    """
    in_order = np.ascontiguousarray(np.where(good, values, np.inf).T)
    in_order.sort(axis=1)
    n = np.count_nonzero(good, axis=0)
    low, high = np.maximum(n - 1, 0) // 2, n // 2
    columns = np.arange(n.size)
    high = np.minimum(high, max(len(values) - 1, 0))
    with np.errstate(invalid="ignore"):
        middle = (in_order[columns, low] + in_order[columns, high]) / 2
    return np.where(n > 0, middle, np.nan)


def even_rows(rest: Values, kept: Flags) -> Flags:
    """Return which rows (y) of what is left of the sky have a mean like the others'.

    Parameters
    ----------
    rest : pixels less the sky (y, x).
    kept : which of them count.
    """
    n = np.count_nonzero(kept, axis=1)
    total = np.where(kept, rest, 0.0).sum(axis=1)
    means = np.divide(total, n, out=np.full(len(rest), np.nan), where=n > 0)
    middle = _typical(means)
    deviation = np.abs(means - middle)
    return np.asarray(deviation <= _CUT * _TO_STD * _typical(deviation))


def _scatter(rest: Values, kept: Flags, n_fitted: int) -> float:
    """Return the standard deviation of the pixels kept about what was fitted to their column."""
    n = np.count_nonzero(kept, axis=0)
    free = int(np.maximum(n - n_fitted, 0).sum())
    squares = np.where(kept & (n > n_fitted), rest, 0.0) ** 2
    return float(np.sqrt(squares.sum() / free)) if free > 0 else np.nan


def _typical(values: Values) -> float:
    """Return the median of the finite values, NaN without any."""
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else np.nan


def _less(band: Band, level: Values, slope: Values) -> Values:
    return np.asarray(band.pixels - (level + slope * band.distance))


def _through_medians(band: Band) -> tuple[Values, Values]:
    """Return level and slope of the line through the medians of the sides; none from one side."""
    medians = [column_medians(band.pixels[side], band.good[side]) for side in band.sides]
    distances = [band.distance[side].mean(axis=0) for side in band.sides]
    return _line(medians, distances)


def _through_means(band: Band, kept: Flags) -> Values:
    """Return the slope of the line through the means of the sides: what a cut must go along."""
    means = [_mean(band.pixels[side], kept[side]) for side in band.sides]
    distances = [band.distance[side].mean(axis=0) for side in band.sides]
    return _line(means, distances)[1]


def _line(values: list[Values], distances: list[Values]) -> tuple[Values, Values]:
    first, last = values[0], values[-1]
    if len(values) == 1:
        return first, np.zeros_like(first)
    slope = (last - first) / (distances[-1] - distances[0])
    level = first - slope * distances[0]
    alone = np.where(np.isnan(first), last, first)
    return np.where(np.isnan(slope), alone, level), np.nan_to_num(slope)


def _mean(values: Values, kept: Flags) -> Values:
    n = np.count_nonzero(kept, axis=0)
    total = np.where(kept, values, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, n, out=np.full(n.size, np.nan), where=n > 0))


def _fitted(band: Band, kept: Flags, model: Model) -> tuple[Values, Values, Values]:
    """Return level, slope, and the variance of the level over that of a pixel."""
    n = np.count_nonzero(kept, axis=0).astype(np.float64)
    n[n == 0] = np.nan
    flat = np.zeros_like(n)
    if model == "median":
        level = column_medians(band.pixels, kept)
        return level, flat, median_factor(int(np.nan_to_num(_typical(n), nan=1.0))) / n
    mean = _mean(band.pixels, kept)
    if model == "mean":
        return mean, flat, 1.0 / n
    away = _mean(band.distance, kept)
    from_centre = np.where(kept, band.distance - away, 0.0)
    spread = (from_centre**2).sum(axis=0)
    product = (from_centre * np.where(kept, band.pixels - mean, 0.0)).sum(axis=0)
    slope = np.divide(product, spread, out=flat, where=spread > 0)
    own = np.divide(away**2, spread, out=np.zeros_like(n), where=spread > 0)
    return mean - slope * away, slope, 1.0 / n + own
