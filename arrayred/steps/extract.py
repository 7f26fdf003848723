"""Extract spectra: row sums, optimal extraction along a trace, and frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import UsageError
from arrayred.kernels.noise import common_slope, finite_median, finite_medians
from arrayred.kernels.rows import bright_runs, sum_of_rows
from arrayred.model import (
    BAD_PIXEL,
    COSMIC_RAY,
    COUNTS,
    DOUBTFUL_FLAT,
    DQ,
    FRAME,
    NO_DATA,
    REPAIRED,
    SATURATED,
    SPOILT,
    VARIANCE,
    Rows,
    X,
    Y,
    add_check,
    add_history,
    add_remark,
    check_image,
    dq_attrs,
    with_columns_of,
)
from arrayred.steps.trace import (
    ColumnStack,
    Moffat,
    Neighbour,
    TracePixels,
    fit_moffat,
    fit_trace,
    half_height_of,
    relative_width,
    stack_columns,
    sums_by_number,
    touching_rows,
)

if TYPE_CHECKING:
    import xarray as xr

RowSelection = slice | NDArray[np.int64]
"""Labels of rows: a range, both ends included, or an array of row numbers."""


def extract(image: xr.Dataset, rows: Rows) -> xr.Dataset:
    """Sum the rows of a spectrum, column by column.

    Parameters
    ----------
    image : counts (y, x) in adu or electron, computed, dispersed along x.
    rows : the rows of the spectrum.

    Returns
    -------
    spectrum : `flux` (x), the sum over the rows, and `counts_mean` (x), the procedure's mean of a
        row, both float64 in the image's unit; the rows and the numbers of their detection as
        attributes. Where the image has them, `variance` (x) of the flux, the sum over the rows, and
        `dq` (x), the flags of any of their pixels.
    """
    import xarray as xr

    check_image(image)
    total = sum_of_rows(image[COUNTS].sel({Y: rows.span}).values)
    units = image[COUNTS].attrs.get("units", "adu")
    scalars = {name: coord for name, coord in image.coords.items() if not coord.dims}
    spectrum = xr.Dataset(
        {
            "flux": (X, total, {"units": units, "long_name": "sum over the rows"}),
            "counts_mean": (X, total / rows.n_rows, {"units": units, "long_name": "mean of a row"}),
        },
        coords={X: image[X], **scalars},
        attrs={**image.attrs, **row_attrs(rows)},
    )
    spectrum = spectrum.assign(with_errors(image, rows.span, f"{units}2"))
    if DQ in spectrum and (n := int(np.count_nonzero(spectrum[DQ].values & SATURATED))):
        columns = "1 column holds" if n == 1 else f"{n} columns hold"
        spectrum = add_check(spectrum, f"{columns} saturated pixels")
    for text in (*rows.remarks, *(run.remark for run in rows.others)):
        spectrum = add_remark(spectrum, text)
    return add_history(spectrum, f"rows {rows.first} to {rows.last} summed")


def with_errors(image: xr.Dataset, span: RowSelection, units: str) -> dict[str, Any]:
    """Return the variance of a sum over rows and the flags of its pixels, where the image has them.

    Parameters
    ----------
    image : `variance` and `dq` (y, x), or one of them, or none.
    span : labels of the rows.
    units : unit of the variance.

    Returns
    -------
    variables (x) by name: pixels are independent, so their variances are summed; flags are ORed.
    """
    found: dict[str, Any] = {}
    if VARIANCE in image:
        rows = image[VARIANCE].sel({Y: span}).values.astype(np.float64)
        attrs: dict[str, object] = {"units": units, "long_name": "variance of the flux"}
        found[VARIANCE] = (X, sum_of_rows(rows), attrs)
    if DQ in image:
        flags = np.bitwise_or.reduce(image[DQ].sel({Y: span}).values, axis=0)
        found[DQ] = (X, flags, dq_attrs("flags of the pixels summed"))
    return found


def row_attrs(rows: Rows) -> dict[str, Any]:
    """Return rows and the numbers of their detection as attributes of a spectrum."""
    others = [(run.first, run.last) for run in rows.others]
    return {
        **({} if rows.snr is None else {"row_snr": rows.snr}),
        **({"other_rows": others} if others else {}),
        "rule": rows.rule,
        "first_row": rows.first,
        "last_row": rows.last,
        "n_rows": rows.n_rows,
        "n_bright_rows": rows.n_bright,
        "n_sigma": rows.n_sigma,
        "threshold": rows.threshold,
        "background_mean": rows.background_mean,
        "background_std": rows.background_std,
    }


# Spatial profile of a trace: the fraction of a column's flux on a pixel, by its distance.
#
# The profile is a Moffat curve (`Moffat`) plus cubic splines, which change along the columns as
# slowly as a polynomial of second order. Both are functions of the distance from the trace, so that
# a tilted trace samples them at all phases of the pixels, and a straight one needs no others. Where
# the width of the star changes along the columns (`widths_along`), distances are divided by it.
# Functions of the row would not do: where a star two rows wide crosses from one row to the next,
# the flux of a row changes within a few columns, and no smooth function of the column follows
# (Marsh 1989, PASP 101, 1032).
#
# The prior size of the splines is that of highest evidence (MacKay 1992, Neural Computation 4,
# 415), so that the profile of a faint star is a Moffat curve without noise, and that of a bright
# one follows the data.

Values = NDArray[np.float64]

_N_PROFILE_BINS = 32
_FINEST, _COARSEST = 0.5, 2.0
_PRIOR_SIZES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Prior sizes of the splines, in units of the Moffat curve."""
_PRIOR_CHANGES = (0.03, 0.1, 0.3, 1.0)
"""Prior sizes of the splines' change along the columns, in the same units."""
_QUICK_PRIOR_SIZE = 0.1
_WING_FRACTION = 0.03
_PROFILE_ORDER = 2
_KNOTS_PER_BLOCK = 3


class Knots(NamedTuple):
    """Cubic B-splines on aperture pixels.

    Parameters
    ----------
    away : (row, x), distance of the pixels from the trace, rows.
    interval : (row, x), the interval between knots that holds each pixel.
    basis : (4, row, x), the four splines that are not 0 there; beyond all knots all are 0.
    middles : (knot), distance of the middle of each spline from the trace, rows.
    pixel : (x), height of a pixel, rows: all distances are divided by the width of the star over
        its common width, and so is it; 1 where the width is constant.
    """

    away: Values
    interval: NDArray[np.intp]
    basis: Values
    middles: Values
    pixel: Values


class SpatialProfile(NamedTuple):
    """A spatial profile: a Moffat curve plus splines.

    Parameters
    ----------
    moffat : the Moffat curve.
    coefficients : (order, knot) of the splines, by Legendre orders along the columns; or None.
    """

    moffat: Moffat
    coefficients: Values | None = None

    def on_pixels(self, knots: Knots) -> Values:
        """Return the fraction of a column's flux on aperture pixels (row, x), never below 0."""
        n_rows, n_columns = knots.away.shape
        light = self.moffat.on_rows(knots.away[0], n_rows, knots.pixel)
        if self.coefficients is not None and self.coefficients.any():
            along = np.linspace(-1.0, 1.0, n_columns)
            orders = np.polynomial.legendre.legvander(along, len(self.coefficients) - 1).T
            for order, coefficients in zip(orders, self.coefficients, strict=True):
                added = coefficients[knots.interval] * knots.basis[0]
                for i in range(1, 4):
                    added += coefficients[knots.interval + i] * knots.basis[i]
                light += added * (order * knots.pixel)
        return without_negative(light)


def without_negative(light: Values) -> Values:
    """Set negative values of profiles (row, x) to 0 and scale the wings to keep the sum.

    Otherwise only the positive noise in the wings would count: 0.05 % of the flux of a star with a
    S/N of 50, which its core would miss.

    Examples
    --------
    >>> without_negative(np.array([[-0.01], [0.01], [1.0], [0.01]])).ravel().tolist()
    [0.0, 0.005, 1.0, 0.005]
    """
    above = np.maximum(light, 0.0)
    excess = np.add.reduce(above - light, axis=0)
    if not excess.any():
        return above
    wings = above < _WING_FRACTION * above.max(axis=0)
    held = np.add.reduce(np.where(wings, above, 0.0), axis=0)
    kept = np.maximum(1.0 - excess / np.where(held > 0, held, np.inf), 0.0)
    return np.asarray(np.where(wings, above * kept, above))


def knots_of(
    away: Values,
    fwhm: float,
    width: Values | None = None,
    span: tuple[float, float] | None = None,
) -> Knots:
    """Return splines a fifth of the FWHM apart, but at least half a row and at most two rows.

    Parameters
    ----------
    away : (row, x), distance from the trace, rows; each a row above the one before.
    fwhm : approximate spatial FWHM, rows.
    width : (x), width of the star over its common width; None: 1.
    span : lowest and highest distance that the splines cover; None: that of the pixels.
    """
    pixel = 1.0 / (np.ones(away.shape[1]) if width is None else width)
    away = away * pixel
    step = float(np.clip(fwhm / 5, _FINEST, _COARSEST))
    lowest, highest = (float(away.min()), float(away.max())) if span is None else span
    first = float(np.floor(lowest))
    n_knots = int(np.ceil((highest - first) / step)) + 3
    n_knots += -n_knots % _KNOTS_PER_BLOCK
    place = (away - first) / step
    interval = np.clip(place.astype(np.intp), 0, n_knots - 4)
    basis = cubic_splines(place - interval)
    if span is not None:
        t = place - interval
        basis *= (t >= 0) & (t <= 1)
    middles = np.asarray(first + step * (np.arange(n_knots) - 1.0), np.float64)
    return Knots(away, interval, basis, middles, pixel)


def cubic_splines(part: Values) -> Values:
    """Return the four uniform cubic B-splines (4, ...) that are not 0 at a part of an interval.

    Examples
    --------
    >>> (6 * cubic_splines(np.array([0.0]))).ravel().round(9).tolist()
    [1.0, 4.0, 1.0, 0.0]
    """
    ahead, square = 1 - part, part * part
    basis = np.empty((4, *part.shape), np.float64)
    basis[3] = square * part / 6
    basis[2] = (1 + 3 * (part + square)) / 6 - 3 * basis[3]
    basis[0] = ahead * ahead * ahead / 6
    basis[1] = 1.0 - basis[0] - basis[2] - basis[3]
    return basis


def fit_profile(
    light: TracePixels, knots: Knots, fwhm: float, *, quick: bool = False
) -> SpatialProfile:
    """Fit the spatial profile of a trace.

    Parameters
    ----------
    light : its pixels.
    knots : the splines on them.
    fwhm : initial guess of the spatial FWHM, rows.
    quick : fit a Gaussian and splines of one prior size, the same for all columns: good enough to
        find outliers.

    Examples
    --------
    >>> away = np.arange(-12.0, 13)[:, np.newaxis] + np.linspace(-0.5, 0.5, 300)
    >>> truth = Moffat(3.0, 0.0, 2.5).on_pixels(away)
    >>> light = TracePixels(1e5 * truth, np.full(away.shape, 1e-3), np.full(300, 1e5))
    >>> knots = knots_of(away, 3.5)
    >>> bool(np.abs(fit_profile(light, knots, 3.5).on_pixels(knots) - truth).max() < 1e-3)
    True
    """
    stack = stack_columns(light._replace(flux=light.flux * knots.pixel), knots.away)
    moffat = fit_moffat(stack, fwhm, wings=not quick)
    light = light._replace(flux=light.flux * _bell_height(stack, moffat))
    normal, right, places = _normal_equations(light, knots, moffat)
    peak = float(moffat.on_pixels(np.array([moffat.middle]))[0])
    size = 0.3 * moffat.on_pixels(knots.middles) + 0.01 * peak
    if quick:
        return SpatialProfile(
            moffat, _solve_splines(normal, right, places, _QUICK_PRIOR_SIZE * size[np.newaxis])[0]
        )
    return SpatialProfile(moffat, _highest_evidence(normal, right, places, size))


def _bell_height(stack: ColumnStack, moffat: Moffat) -> float:
    """Return the factor that scales a Moffat curve to a stack."""
    shape = moffat.on_pixels(stack.away)
    height = float(np.add.reduce(stack.weight * stack.light * shape))
    power = float(np.add.reduce(stack.weight * shape**2))
    return height / power if height > 0 else 1.0


def _normal_equations(
    light: TracePixels, knots: Knots, moffat: Moffat
) -> tuple[Values, Values, Values]:
    """Return the normal equations of the splines in bins of columns.

    Returns
    -------
    normal, right, places : (bin, knot, 4), the products of a knot with itself and the next three;
        (bin, knot), those with the residuals of the Moffat curve; and (bin), the middles of the
        bins from -1 to 1.
    """
    n_columns, n_knots = knots.away.shape[1], knots.middles.size
    n_bins = min(_N_PROFILE_BINS, n_columns)
    bins = np.arange(n_columns) * n_bins // n_columns
    number = (bins * n_knots + knots.interval).ravel()
    flux = light.flux * knots.pixel
    weight = light.weight * flux
    power = weight * flux
    smooth = moffat.on_pixels(knots.away, knots.pixel)
    left = weight * (light.counts - light.flux * smooth)
    normal, right = np.zeros((n_bins * n_knots, 4)), np.zeros(n_bins * n_knots)
    for i in range(4):
        sums = sums_by_number(left * knots.basis[i], number, right.size)
        right[i:] += sums[: right.size - i]
        weighted = power * knots.basis[i]
        for j in range(i, 4):
            sums = sums_by_number(weighted * knots.basis[j], number, right.size)
            normal[i:, j - i] += sums[: right.size - i]
    places = (np.arange(n_bins) + 0.5) * 2 / n_bins - 1
    return normal.reshape(n_bins, n_knots, 4), right.reshape(n_bins, n_knots), places


def _highest_evidence(normal: Values, right: Values, places: Values, size: Values) -> Values:
    """Return the coefficients (order, knot) whose prior size has the highest evidence."""
    best, most = np.zeros((1, size.size)), 0.0
    chosen = 0.0
    for scale in _PRIOR_SIZES:
        found, evidence = _solve_splines(normal, right, places, scale * size[np.newaxis])
        if evidence > most:
            best, most, chosen = found, evidence, scale
    for change in _PRIOR_CHANGES if places.size > _PROFILE_ORDER else ():
        sizes = np.stack([max(chosen, change) * size, *[change * size] * _PROFILE_ORDER])
        found, evidence = _solve_splines(normal, right, places, sizes)
        if evidence > most:
            best, most = found, evidence
    return best


def _solve_splines(
    normal: Values, right: Values, places: Values, sizes: Values
) -> tuple[Values, float]:
    """Return coefficients (order, knot) for given prior sizes, and the log of their evidence.

    The unknowns of three neighbouring knots form a block, and only neighbouring blocks are coupled.
    The ratio of the sizes between the orders is the same at all knots.
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
    n_blocks, width = n_knots // _KNOTS_PER_BLOCK, _KNOTS_PER_BLOCK * n_orders
    diagonal, upper = np.zeros(
        (2, n_blocks, _KNOTS_PER_BLOCK, n_orders, _KNOTS_PER_BLOCK, n_orders)
    )
    for gap in range(4):
        first, second = scale[: n_knots - gap], scale[gap:]
        parts = products[: n_knots - gap, gap] * first[:, :, np.newaxis] * second[:, np.newaxis]
        for i in range(_KNOTS_PER_BLOCK):
            ahead, j = divmod(i + gap, _KNOTS_PER_BLOCK)
            own = parts[i::_KNOTS_PER_BLOCK]
            if ahead:
                upper[: len(own), i, :, j] = own
            else:
                diagonal[:, i, :, j] = own
                diagonal[:, j, :, i] = own
    shape = (n_blocks, width, width)
    unit = diagonal.reshape(shape) + np.eye(width)
    found, log_det = solve_block_tridiagonal(
        unit, upper.reshape(shape), (side * scale).reshape(n_blocks, width)
    )
    evidence = 0.5 * float(np.add.reduce(found * (side * scale).ravel())) - 0.5 * log_det
    return (found.reshape(n_knots, n_orders) * scale).T, evidence


# Flux of a column from the pixels of its aperture: their sum, or with optimal weights.
#
# Horne (1986, PASP 98, 609): with P the fraction of the flux on a pixel, D its sky-subtracted
# counts and V its variance, ``F = sum(P D / V) / sum(P^2 / V)`` has the least noise of all unbiased
# estimates. Two conditions keep it unbiased. V must come from a model of the flux: where it follows
# the noise of the counts, low counts weigh more and the flux is low by one electron a pixel. And P
# must not contain the noise of the column that it weights, which is why P is fitted to all columns
# with a flux that is smooth where the spectrum is faint (`profile_template`).
#
# Both fluxes are those of the aperture: P sums to 1 over the pixels inside, edge pixels counted by
# their fraction inside. Masked pixels raise the uncertainty; they do not change the quantity
# measured.

Flags = NDArray[np.bool_]

_STEADY_ROUNDS = 2
"""Iterations of variance and flux in a column that lost a pixel."""
_REJECTION_SIGMA = 5.0
"""Standard deviations from the model beyond which a pixel is rejected."""
_MODEL_ERROR, _PEAK_ERROR = 0.05, 0.01
"""Allowed error of the model, as a fraction of itself and of the column's brightest pixel: lines
are tilted."""
_MOST_ROUNDS = 12
_SUSPECT, _CORE = 3.0, 0.3
_LIT = 0.1
"""Part of the profile's peak above which a pixel tells the flux of its column: of a star four rows
wide these are seven, so that three may be hit. From 0.3 on they are five."""
_TEMPLATE_WIDTH = 200.0
"""Columns over which a profile's flux is smoothed, times their S/N: a flux that contains the noise
of its own pixels widens the profile, by 0.04 % of the flux at a S/N of 50, else by 0.01 %."""
_LINE_SIGMA = 4.0
_MOST_HIT_COLUMNS = 2
"""Columns in which cosmic rays may be mistaken for lines."""
_LEAST_VARIANCE_RATIO = 0.5
_LEAST_PROFILE_PART = 0.05
"""The fraction of the profile that must remain for a flux to be measured."""


class AperturePixels(NamedTuple):
    """Pixels (row, x) of an aperture.

    Parameters
    ----------
    counts : sky-subtracted.
    sky : the sky that was subtracted.
    floor : variance without signal.
    per_count : variance per count.
    level : signal whose noise the floor already contains.
    part : fraction of the pixel inside the aperture.
    good : whether the pixel is used.
    """

    counts: Values
    sky: Values
    floor: Values
    per_count: float
    level: float
    part: Values
    good: Flags

    def variance(self, light: Values) -> Values:
        """Return the variance of pixels that receive some flux of the star (row, x)."""
        received = light + (self.sky - self.level)
        return self.floor + self.per_count * np.maximum(received, 0.0)


class ExtractedFlux(NamedTuple):
    """Extracted flux and its variance (x), the sum of the weights (x), and the pixels used."""

    flux: Values
    variance: Values
    weight: Values
    good: Flags


def read_noise_variance(
    variance: Values, counts: Values, per_count: float, level: float, good: Flags
) -> Values:
    """Return the variance that pixels would have without signal.

    Parameters
    ----------
    variance, counts : those of the pixels, the variance being that of these counts.
    per_count, level : as in `AperturePixels`.
    good : the pixels that are used. The floor is at least half of the median floor: a flat makes
        the variance of bright pixels differ slightly from that of their counts.

    Examples
    --------
    >>> counts = np.array([[-3.0, 100.0]])
    >>> read_noise_variance(9.0 + 0.5 * np.maximum(counts, 0), counts, 0.5, 0.0, counts == counts)
    array([[9., 9.]])
    """
    light = np.where(good, np.maximum(counts - level, 0.0), 0.0)
    floor = np.where(good, variance, 1.0) - per_count * light
    known = floor[good]
    typical = float(np.median(known)) if known.size else 1.0
    least = (
        _LEAST_VARIANCE_RATIO * typical if typical > 0 else float(np.median(variance[good])) * 1e-3
    )
    return np.maximum(floor, least)


def sum_flux(pixels: AperturePixels, profile: Values, variance: Values) -> ExtractedFlux:
    """Sum the aperture, corrected for masked pixels by the profile.

    Parameters
    ----------
    pixels : pixels of the aperture.
    profile : the fraction of the flux on each pixel (row, x), summing to 1 inside the aperture.
    variance : variance of the pixels (row, x).

    Returns
    -------
    The flux: the sum of the good pixels, divided by their fraction of the profile where others are
    missing; NaN where less than 5 % of the profile remains.
    """
    weight = np.where(pixels.good, pixels.part, 0.0)
    total = np.add.reduce(weight * np.where(pixels.good, pixels.counts, 0.0), axis=0)
    noise = np.add.reduce(weight**2 * variance, axis=0)
    missing = ((pixels.part > 0) & ~pixels.good).any(axis=0)
    left = np.where(missing, np.add.reduce(weight * profile, axis=0), 1.0)
    left = np.where(left >= _LEAST_PROFILE_PART, left, np.nan)
    all_weight = np.add.reduce(weight, axis=0)
    return ExtractedFlux(total / left, noise / left**2, all_weight / left, pixels.good)


def optimal_flux(
    pixels: AperturePixels, profile: Values, model: Values, *, reject: bool = True
) -> ExtractedFlux:
    """Return the flux with optimal weights; outliers are rejected one at a time in each column.

    Parameters
    ----------
    pixels, profile : as in `sum_flux`.
    model : approximate flux (x), from which the variance is computed. Where it is a
        `profile_template`, the uncertainty of a faint flux does not follow its noise.
    reject : reject pixels more than 5 standard deviations from the model, the worst first.

    Examples
    --------
    >>> shape = np.array([[0.2], [0.6], [0.2]]) * np.ones(2)
    >>> counts, nothing = np.array([[20.0, 20], [60, 60], [20, 900]]), np.zeros((3, 2))
    >>> inside = shape > 0
    >>> pixels = AperturePixels(counts, nothing, nothing + 4, 0.5, 0.0, inside * 1.0, inside)
    >>> found = optimal_flux(pixels, shape, np.array([100.0, 100]))
    >>> found.flux.round(6).tolist(), found.good[2].tolist()
    ([100.0, 100.0], [True, False])
    """
    usable = pixels.part > 0
    pixels = pixels._replace(good=pixels.good & usable)
    flux = np.where(np.isfinite(model), model, 0.0)
    found = _optimal_flux_once(pixels, profile, flux)
    if not reject:
        return found
    own = _flux_without_hits(pixels, profile, found)
    good, columns = pixels.good.copy(), np.arange(flux.size)
    for _ in range(_MOST_ROUNDS):
        few = _select_columns(pixels._replace(good=good), columns)
        worst = _worst_outliers(few, profile[:, columns], own[columns])
        outlying = worst >= 0
        columns = columns[outlying]
        if not columns.size:
            break
        good[worst[outlying], columns] = False
        few = _select_columns(pixels._replace(good=good), columns)
        for _ in range(_STEADY_ROUNDS):
            again = _optimal_flux_once(few, profile[:, columns], own[columns])
            own[columns] = _flux_without_hits(few, profile[:, columns], again)
        flux[columns] = own[columns]
    return _optimal_flux_once(pixels._replace(good=good), profile, flux)


def _select_columns(pixels: AperturePixels, columns: NDArray[np.intp]) -> AperturePixels:
    """Return the pixels of some columns."""
    return AperturePixels(
        pixels.counts[:, columns],
        pixels.sky[:, columns],
        pixels.floor[:, columns],
        pixels.per_count,
        pixels.level,
        pixels.part[:, columns],
        pixels.good[:, columns],
    )


def _optimal_flux_once(pixels: AperturePixels, profile: Values, flux: Values) -> ExtractedFlux:
    """Return the flux with weights from the variance of a given flux."""
    variance = pixels.variance(np.maximum(flux, 0.0) * profile)
    weight = np.where(pixels.good, profile / variance, 0.0)
    power = np.add.reduce(weight * profile, axis=0)
    left = np.add.reduce(np.where(pixels.good, profile * pixels.part, 0.0), axis=0)
    power = np.where((power > 0) & (left >= _LEAST_PROFILE_PART), power, np.nan)
    total = np.add.reduce(weight * np.where(pixels.good, pixels.counts, 0.0), axis=0)
    return ExtractedFlux(
        total / power, 1.0 / power, np.add.reduce(weight, axis=0) / power, pixels.good
    )


def _flux_without_hits(pixels: AperturePixels, profile: Values, found: ExtractedFlux) -> Values:
    """Return reference fluxes (x) for outlier rejection, robust to hits on a star's core.

    Several bright pixels in the core raise the flux until none is an outlier; the median of the
    fluxes from single lit pixels is not affected. It is used where it differs by far.
    """
    own = np.where(np.isfinite(found.flux), found.flux, 0.0)
    columns = np.flatnonzero(_squared_residuals(pixels, profile, own).max(axis=0) > _SUSPECT**2)
    few, shape = _select_columns(pixels, columns), profile[:, columns]
    lit = few.good & (shape > _LIT * shape.max(axis=0, initial=0.0))
    told = np.sort(np.where(lit, few.counts / np.where(lit, shape, 1.0), np.inf), axis=0)
    number = np.count_nonzero(lit, axis=0)
    middle = np.take_along_axis(told, np.maximum(number - 1, 0)[np.newaxis] // 2, axis=0)[0]
    error = np.sqrt(2 * found.variance[columns]) + _MODEL_ERROR * np.abs(own[columns])
    off = (number > 2) & (np.abs(middle - own[columns]) > _SUSPECT * error)
    own[columns[off]] = middle[off]
    return own


def _squared_residuals(pixels: AperturePixels, profile: Values, flux: Values) -> Values:
    """Return the squared residuals of pixels, in units of their expected variance."""
    light = np.maximum(flux, 0.0) * profile
    error = _MODEL_ERROR * light + _PEAK_ERROR * np.max(light, axis=0)
    left = np.where(pixels.good, pixels.counts - flux * profile, 0.0)
    return np.asarray(left**2 / (pixels.variance(light) + error**2))


def _worst_outliers(pixels: AperturePixels, profile: Values, flux: Values) -> NDArray[np.intp]:
    """Return the row of the worst outlier of each column (x), -1 where there is none."""
    square = _squared_residuals(pixels, profile, flux)
    worst = np.argmax(square, axis=0)
    far = np.take_along_axis(square, worst[np.newaxis], axis=0)[0] > _REJECTION_SIGMA**2
    enough = np.count_nonzero(pixels.good, axis=0) > 2
    return np.where(far & enough, worst, -1)


def profile_template(flux: Values, variance: Values) -> Values:
    """Return a flux (x) for fitting profiles: smoothed, but unchanged in lines.

    A running mean over more columns the fainter they are; where a column lies 4 standard deviations
    from it, the column itself.

    Examples
    --------
    >>> flux = np.array([1.0, -1.0, 1.0, -1.0, 50.0, 1.0, -1.0, 1.0])
    >>> profile_template(flux, np.ones(8))[4]
    np.float64(50.0)
    """
    known = np.isfinite(flux) & np.isfinite(variance) & (variance > 0)
    if not known.any():
        return np.zeros_like(flux)
    values, noise = np.where(known, flux, 0.0), np.where(known, variance, 0.0)
    snr = float(np.median(flux[known] / np.sqrt(variance[known])))
    most = max(flux.size // 4, 1)
    half = int(min(_TEMPLATE_WIDTH / max(snr, 1e-3), most)) // 2
    smooth = running_mean(values, known, half) if half else values
    level = running_mean(noise, known, half)
    line = known & (np.abs(values - smooth) > _LINE_SIGMA * np.sqrt(np.maximum(noise, level)))
    return np.maximum(np.where(line, values, smooth), 0.0)


def running_mean(values: Values, known: Flags, half: int) -> Values:
    """Return the running mean of known values (x), the window truncated at the ends.

    Examples
    --------
    >>> running_mean(np.array([1.0, 2.0, 6.0]), np.array([True, True, True]), 1)
    array([1.5, 3. , 4. ])
    """
    sums = np.concatenate(([0.0], np.cumsum(np.where(known, values, 0.0))))
    number = np.concatenate(([0], np.cumsum(known)))
    place = np.arange(values.size)
    low, high = np.maximum(place - half, 0), np.minimum(place + half + 1, values.size)
    return np.asarray((sums[high] - sums[low]) / np.maximum(number[high] - number[low], 1))


def total_snr(found: ExtractedFlux) -> float:
    """Return the S/N of a spectrum in total: of all columns, or of its lines if that is higher.

    Examples
    --------
    >>> flux = ExtractedFlux(np.full(100, 2.0), np.ones(100), np.ones(100), np.ones((1, 100), bool))
    >>> total_snr(flux)
    20.0
    """
    known = np.isfinite(found.flux) & np.isfinite(found.variance) & (found.variance > 0)
    flux, variance = found.flux[known], found.variance[known]
    if not flux.size:
        return 0.0
    spread = float(np.add.reduce(flux) / np.sqrt(np.add.reduce(variance)))
    ratio = flux / np.sqrt(variance)
    lines = np.sort(ratio)[: max(ratio.size - _MOST_HIT_COLUMNS, 0)]
    in_lines = float(np.sqrt(np.add.reduce(lines[lines > _LINE_SIGMA] ** 2)))
    return max(spread, in_lines)


# Aperture along a trace: its pixels, with the fraction of each inside.
#
# A pixel is a row high, so an aperture whose edges lie between rows includes a fraction of the two
# pixels at its ends. Aperture pixels are (row, x), row 0 being the lowest inside in its column.

Indices = NDArray[np.intp]


class Aperture(NamedTuple):
    """Positions of the pixels of an aperture.

    Parameters
    ----------
    position : (row, x), position of the row in the image; off the image, that of the nearest row.
    away : (row, x), distance from the trace to the middle of the pixel, rows.
    part : (row, x), fraction of the pixel inside the aperture, 0 to 1.
    on_image : (row, x), whether the pixel is on the image.
    """

    position: Indices
    away: Values
    part: Values
    on_image: Flags


def aperture_pixels(center: Values, half_height: float | Values, n_rows: int) -> Aperture:
    """Return the pixels within a distance of a trace.

    Parameters
    ----------
    center : (x), centre of the trace, as positions of rows from 0.
    half_height : half-width of the aperture, rows from the trace to either edge; a number or (x).
    n_rows : number of rows of the image.

    Examples
    --------
    >>> found = aperture_pixels(np.array([5.0, 5.25]), 1.5, 20)
    >>> found.position.T.tolist(), found.part.T.tolist()
    ([[4, 5, 6, 7], [4, 5, 6, 7]], [[1.0, 1.0, 1.0, 0.0], [0.75, 1.0, 1.0, 0.25]])
    """
    lowest = np.floor(center - half_height + 0.5)
    height = int(np.floor(2 * np.max(half_height))) + 2
    place = lowest + np.arange(height)[:, np.newaxis]
    away = place - center
    inside = np.minimum(away + 0.5, half_height) - np.maximum(away - 0.5, -half_height)
    part = np.clip(inside, 0.0, 1.0)
    on_image = (place >= 0) & (place < n_rows)
    held: Any = np.clip(place, 0, n_rows - 1).astype(np.intp)
    used = max(int(np.count_nonzero(part.any(axis=1))), 1)
    return Aperture(held[:used], away[:used], part[:used], on_image[:used])


def gather_pixels(plane: NDArray[Any], found: Aperture) -> NDArray[Any]:
    """Return the pixels (row, x) of a plane (y, x) in an aperture."""
    return np.take_along_axis(plane, found.position, axis=0)


# Block-tridiagonal solver, Gaussian elimination by blocks: the cost grows with the number of
# blocks, and the elimination yields the determinant as well, which the evidence needs.


def solve_block_tridiagonal(diagonal: Values, upper: Values, right: Values) -> tuple[Values, float]:
    """Return the solution of a symmetric block-tridiagonal system, and its log determinant.

    Parameters
    ----------
    diagonal, upper : (block, row, column), the blocks on the diagonal, and right of it; the last of
        `upper` is not used.
    right : (block, row).

    Examples
    --------
    >>> diagonal, upper = np.full((2, 1, 1), 2.0), np.ones((2, 1, 1))
    >>> found, log_det = solve_block_tridiagonal(diagonal, upper, np.array([[5.0], [4.0]]))
    >>> found.round(6).tolist(), round(log_det, 6) == round(float(np.log(3)), 6)
    ([2.0, 1.0], True)
    """
    n_blocks = len(diagonal)
    pivot, side, log_det = diagonal[0], right[0], 0.0
    kept: list[tuple[Values, Values]] = []
    for i in range(n_blocks):
        log_det += float(np.linalg.slogdet(pivot)[1])
        ahead = upper[i] if i + 1 < n_blocks else np.zeros_like(upper[0])
        solved = np.linalg.solve(pivot, np.column_stack((ahead, side)))
        kept.append((solved[:, :-1], solved[:, -1]))
        if i + 1 < n_blocks:
            pivot = diagonal[i + 1] - upper[i].T @ solved[:, :-1]
            side = right[i + 1] - upper[i].T @ solved[:, -1]
    found = np.empty_like(right)
    behind = np.zeros(right.shape[1])
    for i in range(n_blocks - 1, -1, -1):
        behind = kept[i][1] - kept[i][0] @ behind
        found[i] = behind
    return found.ravel(), log_det


# Extraction along a trace: `extract_along`.
#
# The flux is that of the aperture, whatever the weights: a sum and an optimal extraction of a
# bright star agree. The fraction of the star's flux inside the aperture is reported as
# `enclosed_fraction`, from the Moffat curve fitted to the pixels inside.
#
# All finite pixels are used, unless flagged bad or saturated. A pixel that a cosmic ray hit in some
# frames, or that some frames lack, holds the value of the other frames and is used.

ExtractWeights = Literal["optimal", "sum", "mean"]

_MIN_PROFILE_SNR = 5.0
"""S/N of all columns together below which no profile is fitted."""
_MOST_PROFILE_LOST = 0.2
"""Fraction of its profile that a column may lose to bad pixels and cosmic rays."""
_LEAST_ENCLOSED_CHANGE = 0.002
"""Change of the enclosed fraction along the columns above which it is given for each."""
_MOST_EDGE_COLUMNS, _COLUMNS_BESIDE_EDGE = 3, 8
_EDGE_CHANGE, _EDGE_SIGMA = 0.2, 6.0
_SHARED_ROUNDS, _PARTING_ROUNDS = 4, 3
_LEAST_SHARED = 0.001
"""Fraction of the flux below which the light of a neighbour is left where it is."""
_MOST_MIXED = 0.25
"""Largest product of the parts of two fluxes that are extracted as each other's; 0.25 is reached by
stars about a FWHM apart."""
_MOST_WIDTH_RATIO = 1.7
"""Largest ratio of the widths of stars with one profile: stars 1.5 FWHM apart, which cut each
other's rows, seem to differ by 1.4."""
_LEAST_ROWS_OF_WIDTH = 2.0
_MOST_OF_DISTANCE = 0.8
"""Largest half-width of an aperture, in units of the distance to the neighbour."""
_MOST_DIFFERENCE = 0.01
"""Largest difference of optimal and summed flux, as a fraction of the flux."""
_FAINT_PART = 0.3
"""The same fraction of this part of the typical flux, where the flux is fainter: there the sky that
is left counts more."""
_LINE_HEIGHT = 1.2
"""Flux of a column, in units of the level beside it, above which it belongs to an emission line."""
_SKY_LEFT = 0.1
"""Part of the sky in the aperture below which a line may be what is left of one of the sky."""
_CONTINUUM_OFF = 0.1
_WIDE_LINES = 0.15
"""Light that lines must lack in the core of the profile to be said to be wider than the continuum:
it is 0.2 of lines 1.5 times as wide, of which the aperture holds 99 %, and 0.37 at twice the width,
where it holds 95 %."""
_LONGEST_LINE = 2.0
_LEAST_COLUMNS_COMPARED, _FEWEST_COLUMNS_COMPARED = 12, 3
"""Least columns of a bin, and of a continuum or lines in it, in which the two are compared."""
_MAD_TO_STD = 1.482602218505602
_MOST_REJECTED = 0.05
"""Fraction of rejected pixels above which the profile, not cosmic rays, must be the cause."""


class _ApertureScene(NamedTuple):
    """An aperture: its place, splines about the star, pixels, flags, whether noise is known."""

    place: Aperture
    knots: Knots
    pixels: AperturePixels
    flags: NDArray[np.uint8]
    noise_known: bool


class _Extraction(NamedTuple):
    """Flux, profile, its part on each pixel, weights used, S/N, why it is not used, its error."""

    flux: ExtractedFlux
    profile: SpatialProfile
    shape: Values
    used: ExtractWeights
    snr: float
    why: str
    misfit: float = 0.0


def extract_along(
    image: xr.Dataset,
    trace: xr.Dataset,
    sky: xr.Dataset | None = None,
    *,
    half_height: float | Values,
    weights: ExtractWeights = "optimal",
    others: Sequence[Neighbour] = (),
) -> xr.Dataset:
    """Extract the spectrum within an aperture that follows a trace.

    Parameters
    ----------
    image : counts (y, x) in adu or electron, computed, dispersed along x; `variance` and `dq`
        where it has them. With the attribute `gain_effective` the variance is known to follow the
        counts, and is recomputed from the model of the flux.
    trace : `center` (x), FITS row numbers, and the attribute `fwhm`, rows; where the star is not
        centred on it, `star` (x), and where its width changes, `fwhm` (x).
    sky : `level` (x) of a row at the trace, `slope` (x) per row, `variance` (x) of the level; None:
        no sky is subtracted.
    half_height : half-width of the aperture, rows from the trace to either edge, a number or (x);
        pixels are weighted by their fraction inside.
    weights : "optimal" (Horne 1986, PASP 98, 609); "sum"; "mean", the sum divided by the width.
    others : nearby spectra: their flux in the aperture is subtracted, by a joint fit of all
        profiles and fluxes.

    Returns
    -------
    spectrum : (x), float64: `flux`, sky-subtracted, in the image's unit; its `variance`, where the
        noise is known; `sky`, the sum of the sky in the aperture (its mean for "mean"); `dq`,
        uint8, the flags of its pixels, with cosmic_ray for those rejected by the profile fit.
        Where they change along the columns, `enclosed` (x), the fraction of the star's flux in the
        aperture, less that in the bands of the sky, and `half_height` (x).
        Attributes: `neighbour_rows`, where light of others was subtracted; `extraction`, the
        weights actually used; `enclosed_fraction`, the mean of
        `enclosed`; `masked_fraction` of the aperture's pixels; `profile_snr`,
        the S/N of all columns together.

    Raises
    ------
    MismatchError
        The image is chunked.
    UsageError
        The weights are unknown, or the aperture has no width.

    Examples
    --------
    >>> import xarray as xr
    >>> y, x = np.arange(1.0, 41), np.arange(1.0, 101)
    >>> light = 500 * np.exp(-((y - 20) ** 2) / 8)[:, np.newaxis] * np.ones(100)
    >>> image = xr.Dataset(
    ...     {"counts": (("y", "x"), light + 7), "variance": (("y", "x"), light / 2 + 50)},
    ...     {"y": y, "x": x}, {"gain_effective": 2.0})
    >>> trace = xr.Dataset({"center": ("x", np.full(100, 20.0))}, attrs={"fwhm": 4.7})
    >>> nothing = ("x", np.zeros(100))
    >>> sky = xr.Dataset({"level": ("x", np.full(100, 7.0)), "slope": nothing, "variance": nothing})
    >>> spectrum = extract_along(image, trace, sky, half_height=9.5)
    >>> bool(np.allclose(spectrum.flux, light[:, 0].sum(), rtol=1e-3))
    True
    """
    check_image(image)
    if weights not in ("optimal", "sum", "mean") or not np.all(np.asarray(half_height) > 0):
        raise UsageError(
            f"Extraction by {weights!r} over {half_height} rows is not possible",
            keyword="extraction",
            value=weights,
            hint="Use optimal, sum or mean, and a half-width above 0.",
        )
    trace = with_columns_of(image, trace, "a trace", "center")
    if sky is not None:
        sky = with_columns_of(image, sky, "a sky", "level", "slope", "variance")
    scene = _aperture_scene(image, trace, sky, half_height)
    star = _Source(scene, trace, _extract_scene(scene, trace, weights), scene.pixels.sky)
    found, told_of_others, spoilt = _without_neighbours(image, sky, star, others, weights)
    enclosed = _enclosed_flux(scene, found.profile.moffat)
    if sky is not None:
        enclosed = enclosed - _light_in_sky(scene, trace, sky, found.profile.moffat)
    facts = {
        "extraction": found.used,
        "enclosed_fraction": float(np.add.reduce(enclosed) / enclosed.size),
        "masked_fraction": _masked_fraction(scene, found.flux),
        "profile_snr": found.snr,
    }
    spectrum = _as_spectrum(image, scene, sky, found)
    spoilt_edge = bad_edges(found.flux.flux, found.flux.variance if scene.noise_known else None)
    spectrum[DQ].values[spoilt | spoilt_edge] |= np.uint8(BAD_PIXEL)
    spectrum = spectrum.assign_attrs(facts)
    if np.ptp(enclosed) > _LEAST_ENCLOSED_CHANGE:
        attrs = {"units": "", "long_name": "fraction of the star's flux in the aperture"}
        spectrum = spectrum.assign(enclosed=(X, enclosed, attrs))
    if np.ndim(half_height):
        attrs = {"units": "pix", "long_name": "half-width of the aperture"}
        spectrum = spectrum.assign(half_height=(X, half_height, attrs))
    told = f"{found.used} over {2 * finite_median(np.asarray(half_height)):.2f} rows along a trace"
    spectrum = add_history(spectrum, told)
    for text in told_of_others:
        spectrum = add_check(spectrum, text) if spoilt.any() else add_history(spectrum, text)
    if told_of_others and not spoilt.any():
        near = [(other.rows.first, other.rows.last) for other in others]
        spectrum = spectrum.assign_attrs(neighbour_rows=near)
    if scene.noise_known and (text := _wide_light(scene, found)):
        spectrum = add_check(spectrum, text)
    if weights != "optimal" or not found.why:
        return spectrum
    return add_remark(spectrum, f"the aperture was summed without weights: {found.why}")


def bad_edges(flux: Values, variance: Values | None) -> Flags:
    """Return which of the first and last three columns do not continue the flux of the others.

    The outermost columns of a detector may be lit in part, or hold charge of its edge. The flux of
    the eight columns next to them is continued by a line; the columns are bad if all deviate from
    it by a fifth and by six standard deviations, to which the scatter about the line counts: a line
    of the spectrum at the edge reaches into these columns, and so does not.

    Parameters
    ----------
    flux, variance : (x); None: the scatter alone tells.

    Examples
    --------
    >>> flux = np.array([185.0, 101, 100, 99, 100, 101, 100, 99, 100, 101, 99, 100])
    >>> np.flatnonzero(bad_edges(flux, np.ones(12))).tolist()
    [0]
    """
    found = np.zeros(flux.size, np.bool_)
    noise = np.zeros(flux.size) if variance is None else np.nan_to_num(variance)
    if flux.size < _MOST_EDGE_COLUMNS + _COLUMNS_BESIDE_EDGE:
        return found
    for side in (slice(None), slice(None, None, -1)):
        values, spread, flags = flux[side], noise[side], found[side]
        for n in range(1, _MOST_EDGE_COLUMNS + 1):
            beside, place = values[n : n + _COLUMNS_BESIDE_EDGE], np.arange(_COLUMNS_BESIDE_EDGE)
            if not np.isfinite(values[: n + _COLUMNS_BESIDE_EDGE]).all():
                break
            slope, start = np.polynomial.polynomial.polyfit(place, beside, 1)[::-1]
            left = beside - (start + slope * place)
            scatter = float(np.add.reduce(left**2)) / (_COLUMNS_BESIDE_EDGE - 2)
            off = np.abs(values[:n] - (start - slope * np.arange(n, 0, -1)))
            error = np.sqrt(spread[:n] + 2 * scatter)
            far = (off > _EDGE_CHANGE * np.abs(start)) & (off > _EDGE_SIGMA * error)
            flags[:n] |= far.all()
    return found


def _aperture_scene(
    image: xr.Dataset, trace: xr.Dataset, sky: xr.Dataset | None, half_height: float | Values
) -> _ApertureScene:
    """Return the sky-subtracted pixels of an aperture."""
    rows = image[Y].values
    center = trace["center"].values - float(rows[0])
    place = aperture_pixels(center, half_height, rows.size)
    counts = gather_pixels(image[COUNTS].values, place).astype(np.float64)
    noise_known = VARIANCE in image
    variance = gather_pixels(image[VARIANCE].values, place) if noise_known else np.ones_like(counts)
    variance = np.asarray(variance, np.float64)
    flags = np.zeros(counts.shape, np.uint8)
    if DQ in image:
        flags = np.asarray(gather_pixels(image[DQ].values, place), np.uint8)
    flags = np.where(place.on_image, flags, np.uint8(NO_DATA))
    missing = ~(np.isfinite(counts) & np.isfinite(variance))
    flags[missing] |= np.uint8(NO_DATA)
    good = place.on_image & ~missing & ((flags & (BAD_PIXEL | SATURATED)) == 0)
    good &= variance > 0
    glow = np.zeros_like(counts)
    if sky is not None:
        glow = _sky_on_pixels(sky, place, int(rows[0]))
    per_count = _variance_per_count(image, counts, variance, good) if noise_known else 0.0
    level = float(image.attrs.get("noise_level", 0.0))
    floor = read_noise_variance(variance, counts, per_count, level, good)
    pixels = AperturePixels(
        np.where(good, counts - glow, 0.0), glow, floor, per_count, level, place.part, good
    )
    from_star = place.away
    if "star" in trace:
        from_star = place.away + (trace["center"].values - trace["star"].values)
    fwhm = float(trace.attrs.get("fwhm", np.ptp(from_star) / 4))
    knots = knots_of(from_star, fwhm, relative_width(trace))
    return _ApertureScene(place, knots, pixels, flags, noise_known)


def _sky_on_pixels(sky: xr.Dataset, place: Aperture, first_row: int) -> Values:
    """Return the sky (row, x) on the pixels of an aperture, by row where its lines lean."""
    if "on_rows" not in sky:
        return np.asarray(sky["level"].values + sky["slope"].values * place.away)
    plane = sky["on_rows"].values
    number = place.position + first_row - int(sky[Y][0])
    return np.take_along_axis(plane, np.clip(number, 0, len(plane) - 1), axis=0)


def _variance_per_count(
    image: xr.Dataset, counts: Values, variance: Values, good: NDArray[np.bool_]
) -> float:
    """Return the variance per count, from `gain_effective` or fitted to variance and counts."""
    if "gain_effective" in image.attrs:
        return 1.0 / float(image.attrs["gain_effective"])
    return common_slope(counts[good], variance[good])


def _extract_scene(
    scene: _ApertureScene, trace: xr.Dataset, weights: ExtractWeights
) -> _Extraction:
    """Return the flux, with the requested weights where there is a profile."""
    pixels, knots = scene.pixels, scene.knots
    fwhm = float(trace.attrs.get("fwhm", np.ptp(knots.away) / 4))
    profile = SpatialProfile(Moffat(fwhm, 0.0, np.inf))
    shape = _profile_within(profile, knots, pixels)
    found = sum_flux(pixels, shape, pixels.variance(np.zeros_like(shape)))
    found = sum_flux(pixels, shape, pixels.variance(shape * np.maximum(found.flux, 0.0)))
    snr = total_snr(found) if scene.noise_known else 0.0
    if snr >= _MIN_PROFILE_SNR:
        found, profile, shape = _fit_and_extract(pixels, knots, fwhm, found)
    return _with_weights(scene, profile, shape, found, weights)


def _with_weights(
    scene: _ApertureScene,
    profile: SpatialProfile,
    shape: Values,
    found: ExtractedFlux,
    weights: ExtractWeights,
) -> _Extraction:
    """Return the flux with the requested weights, or summed where the profile is unreliable."""
    pixels, snr = scene.pixels, total_snr(found) if scene.noise_known else 0.0
    why, misfit = _why_no_profile(scene, found, snr), 1.0
    if not why:
        why, misfit = _why_no_weights(scene, shape, found)
    if weights == "optimal" and not why:
        return _Extraction(found, profile, shape, "optimal", snr, "")
    left = pixels if why else pixels._replace(good=found.good)
    flux = profile_template(found.flux, found.variance)
    summed = sum_flux(left, shape, pixels.variance(flux * shape))
    used: ExtractWeights = "sum" if weights == "optimal" else weights
    return _Extraction(summed, profile, shape, used, snr, why, misfit)


class _Source(NamedTuple):
    """A star of a joint fit: its aperture, trace, extraction, and the sky without neighbours."""

    scene: _ApertureScene
    trace: xr.Dataset
    found: _Extraction
    bare_sky: Values

    @property
    def center(self) -> Values:
        """Return the position of its light (x), FITS row numbers."""
        return np.asarray(self.trace["star" if "star" in self.trace else "center"].values)

    def knots_on(self, other: _Source, fwhm: float, span: tuple[float, float]) -> Knots:
        """Return splines about it on the pixels of another aperture."""
        away = other.scene.place.away + (other.trace["center"].values - self.center)
        return knots_of(away, fwhm, relative_width(self.trace), span)

    def light_in(self, other: _Source) -> Values:
        """Return the fraction of its extracted flux on the pixels (row, x) of another aperture."""
        moffat, knots = self.found.profile.moffat, self.scene.knots
        row = other.scene.place.away + other.trace["center"].values
        light = moffat.on_pixels((row - self.center) * knots.pixel, knots.pixel)
        return np.asarray(light / np.maximum(_enclosed_flux(self.scene, moffat), 0.1))

    def weights_of(self) -> tuple[Values, Values]:
        """Return the weights of its pixels (row, x) in its flux, and their variance."""
        pixels, flux = self.scene.pixels, self.found.flux
        shape = _profile_within(self.found.profile, self.scene.knots, pixels)
        variance = pixels.variance(shape * np.maximum(np.nan_to_num(flux.flux), 0.0))
        weight = np.where(flux.good, pixels.part, 0.0)
        if self.found.used == "optimal":
            weight = np.where(flux.good & (pixels.part > 0), shape / variance, 0.0)
            power = np.add.reduce(weight * shape, axis=0)
            weight = weight / np.where(power > 0, power, 1.0)
        return weight, variance

    def extracted_of(self, light: Values) -> Values:
        """Return the flux (x) that its extraction makes of some light (row, x)."""
        return np.asarray(np.add.reduce(self.weights_of()[0] * light, axis=0))

    def covariance(self, other: _Source, n_rows: int) -> Values:
        """Return the covariance (x) of both fluxes, before any light is subtracted."""
        weight, variance = self.weights_of()
        place = other.scene.place
        plane = np.zeros((n_rows, weight.shape[1]))
        theirs = np.where(place.on_image, other.weights_of()[0], 0.0)
        np.put_along_axis(plane, place.position[::-1], theirs[::-1], axis=0)
        own = np.where(self.scene.place.on_image, weight, 0.0)
        return np.asarray(
            np.add.reduce(own * gather_pixels(plane, self.scene.place) * variance, axis=0)
        )


def _without_neighbours(
    image: xr.Dataset,
    sky: xr.Dataset | None,
    star: _Source,
    others: Sequence[Neighbour],
    weights: ExtractWeights,
) -> tuple[_Extraction, list[str], Flags]:
    """Return the extraction of a star without the light of its neighbours.

    With ``a`` and ``b`` the parts of two fluxes that are extracted as each other's, and ``c`` their
    covariance, the variance becomes ``(v1 + a^2 v2 - 2 a c) / (1 - a b)^2``.

    Returns
    -------
    found, told, spoilt : the extraction, what was done in words, and the columns (x) whose flux
        holds the light of a neighbour that could not be subtracted.
    """
    near: list[_Source] = []
    spoilt = np.zeros(image.sizes[X], np.bool_)
    told: list[str] = []
    for other in others:
        source = _source_of(image, sky, star.trace, other, weights)
        if _light_of_neighbour(star, source)[1] > _LEAST_SHARED:
            near.append(source)
            told.append(f"rows {other.rows.first} to {other.rows.last}")
    if not near:
        return star.found, [], spoilt
    own, *rest = _share_light([star, *near], weights)
    mixed, added = np.zeros(spoilt.size), np.zeros(spoilt.size)
    for source in rest:
        part = own.extracted_of(source.light_in(own))
        mixed += part * source.extracted_of(own.light_in(source))
        added += part**2 * np.nan_to_num(source.found.flux.variance)
        added -= 2 * part * own.covariance(source, image.sizes[Y])
    if finite_median(mixed) > _MOST_MIXED or _unreliable(own, rest):
        text = (
            f"the flux contains flux of the spectrum at {' and '.join(told)}, which cannot be "
            "separated"
        )
        text += ": choose rows farther from it with --rows A:B"
        return star.found, [text], np.ones_like(spoilt)
    what = " and ".join(
        f"{rows} ({_light_of_neighbour(own, source)[1]:.1%})"
        for rows, source in zip(told, rest, strict=True)
    )
    found = own.found.flux
    variance = (found.variance + added) / np.maximum(1.0 - mixed, 1.0 - _MOST_MIXED) ** 2
    text = (
        f"flux of the nearby spectrum at {what} of the flux subtracted by a joint fit of the "
        "profiles"
    )
    return own.found._replace(flux=found._replace(variance=variance)), [text], spoilt


def _unreliable(star: _Source, others: Sequence[_Source]) -> bool:
    """Return whether the errors of neighbours' profiles change a star's flux by a hundredth.

    Stars of different widths, as a star and a galaxy, have no profile in common.
    """
    if not _have_one_width([star.trace, *(one.trace for one in others)]):
        return True
    errors = [one.found.misfit * _light_of_neighbour(star, one)[1] for one in others]
    return max(errors) > _MOST_DIFFERENCE


def _source_of(
    image: xr.Dataset,
    sky: xr.Dataset | None,
    trace: xr.Dataset,
    other: Neighbour,
    weights: ExtractWeights,
) -> _Source:
    """Return a neighbour as a star of a joint fit; the sky is that about a given trace."""
    below = None if sky is None else sky_along(sky, trace, other.trace)
    scene = _aperture_scene(image, other.trace, below, other.half_height)
    found = _extract_scene(scene, other.trace, weights)
    return _Source(scene, other.trace, found, scene.pixels.sky)


def _have_one_width(traces: Sequence[xr.Dataset]) -> bool:
    """Return whether stars may have one profile, from their widths."""
    widths = [float(trace.attrs["fwhm"]) for trace in traces]
    return max(widths) <= _MOST_WIDTH_RATIO * min(widths)


def sky_along(sky: xr.Dataset, trace: xr.Dataset, other: xr.Dataset) -> xr.Dataset:
    """Return a sky fitted along one trace as that along another."""
    apart = other["center"].values - trace["center"].values
    return sky.assign(level=sky["level"] + sky["slope"] * apart)


def part_neighbours(
    image: xr.Dataset, star: Neighbour, others: Sequence[Neighbour], sky: xr.Dataset | None
) -> tuple[Neighbour, ...]:
    """Return a star and its neighbours with traces and apertures as if each were alone.

    The traces are parallel to that of the brightest but for a line, which the residuals of the
    joint fit of all profiles tell; the width is that of the brightest. Centroids would be wrong by
    a quarter of a row for stars two FWHM apart: they are measured in rows up to the middle between
    the two. Apertures, which end there too, where 2 % of a star's flux may be lost, reach as far as
    that of a single star, but not over the middle of a neighbour.

    Parameters
    ----------
    image : counts (y, x), computed, as for `extract_along`.
    star : the star, its trace and aperture.
    others : its neighbours, of `neighbours_of`.
    sky : as in `extract_along`; or None.

    Returns
    -------
    The star and its neighbours, in the order given; unchanged where none sends light to it, one
    that does is not fitted by the profile, or two are less than about half a FWHM apart.
    """
    every = [star, *others]
    sources = [_source_of(image, sky, star.trace, one, "optimal") for one in every]
    near = [_light_of_neighbour(sources[0], other)[1] > _LEAST_SHARED for other in sources[1:]]
    if not any(near) or not _have_one_width([one.trace for one in _whole(every)]):
        return tuple(every)
    brightest = int(np.argmax([finite_median(one.found.flux.flux) for one in sources]))
    every = _parallel(every, every[brightest].trace.drop_vars("fwhm", errors="ignore"), brightest)
    for n in range(_PARTING_ROUNDS):
        every = _with_apertures(every)
        if min(float(np.min(one.half_height / one.trace.attrs["fwhm"])) for one in every) < 0.5:
            return (star, *others)
        sources = [_source_of(image, sky, star.trace, one, "optimal") for one in every]
        sources = _share_light(sources, "optimal")
        every = [
            one._replace(trace=one.trace.assign(center=one.trace["center"] + _off_trace(source)))
            for one, source in zip(every, sources, strict=True)
        ]
        if n == 0:
            others_light = [one for k, one in enumerate(sources) if k != brightest]
            alone = _without_light(image, others_light)
            line = fit_trace(alone, replace(every[brightest].rows, others=()))
            every = _parallel(every, line, brightest)
    if _unreliable(sources[0], sources[1:]):
        return (star, *others)
    return tuple(_with_apertures(every))


def _whole(stars: Sequence[Neighbour]) -> list[Neighbour]:
    """Return the stars whose width is known: none cuts the rows of another to under two FWHM."""
    fwhm = max(float(one.trace.attrs["fwhm"]) for one in stars)
    return [
        one
        for one in stars
        if touching_rows(one.rows) == (one.rows.first, one.rows.last)
        or one.rows.n_rows >= _LEAST_ROWS_OF_WIDTH * fwhm
        or float(one.trace.attrs["fwhm"]) == fwhm
    ]


def _parallel(stars: Sequence[Neighbour], line: xr.Dataset, brightest: int) -> list[Neighbour]:
    """Return stars whose traces are parallel to a new trace of the brightest."""
    old = stars[brightest].trace["center"].values
    aparts = [finite_median(one.trace["center"].values - old) for one in stars]
    return [
        one._replace(trace=line.assign(center=line["center"] + apart))
        for one, apart in zip(stars, aparts, strict=True)
    ]


def _without_light(image: xr.Dataset, sources: Sequence[_Source]) -> xr.Dataset:
    """Return an image without the light of some stars."""
    rows, left = image[Y].values[:, np.newaxis].astype(np.float64), image[COUNTS].values.copy()
    for one in sources:
        moffat, pixel = one.found.profile.moffat, one.scene.knots.pixel
        total = np.nan_to_num(one.found.flux.flux) / _enclosed_flux(one.scene, moffat)
        left -= total * moffat.on_pixels((rows - one.center) * pixel, pixel)
    return image.assign({COUNTS: image[COUNTS].copy(data=left)})


def _with_apertures(stars: Sequence[Neighbour]) -> list[Neighbour]:
    """Return stars with apertures that do not reach over the middle of another."""
    found = []
    for k, (rows, trace, _) in enumerate(stars):
        wanted = half_height_of(replace(rows, others=()), trace)
        others = [one.trace["center"].values for j, one in enumerate(stars) if j != k]
        apart = np.minimum.reduce([np.abs(center - trace["center"].values) for center in others])
        limit = _MOST_OF_DISTANCE * apart
        half_height = np.minimum(wanted, limit if np.ndim(wanted) else float(limit.min()))
        alone = half_height if np.ndim(wanted) else float(half_height)
        found.append(Neighbour(rows, trace, alone))
    return found


def _off_trace(source: _Source) -> Values:
    """Return the distance (x) of a star from its trace, rows, a line fitted to the residuals."""
    pixels, found = source.scene.pixels, source.found.flux
    shape = _profile_within(source.found.profile, source.scene.knots, pixels)
    flux = profile_template(found.flux, found.variance)
    used = found.good & (pixels.part > 0)
    weight = np.where(used, 1.0 / pixels.variance(flux * shape), 0.0)
    change = -flux * np.gradient(shape, axis=0)
    left = pixels.counts - np.nan_to_num(found.flux) * shape
    power = np.add.reduce(weight * change**2, axis=0)
    side = np.add.reduce(weight * change * left, axis=0)
    along = np.polynomial.legendre.legvander(np.linspace(-1.0, 1.0, flux.size), 1)
    normal = (along * power[:, np.newaxis]).T @ along
    if np.linalg.matrix_rank(normal) < along.shape[1]:
        return np.zeros(flux.size)
    off = along @ np.linalg.solve(normal, along.T @ side)
    return np.asarray(np.clip(off, -0.5, 0.5))


def _light_of_neighbour(star: _Source, other: _Source) -> tuple[Values, float]:
    """Return the light (x) of a neighbour in a star's flux, and its fraction of all the flux."""
    light = np.nan_to_num(other.found.flux.flux) * star.extracted_of(other.light_in(star))
    flux = np.nan_to_num(star.found.flux.flux)
    return light, float(np.add.reduce(light)) / max(float(np.add.reduce(flux)), 1e-30)


def _share_light(sources: Sequence[_Source], weights: ExtractWeights) -> list[_Source]:
    """Return stars of which each is extracted without the light of the others.

    All have one profile, that of the slit: it is fitted to the pixels of every aperture at once, of
    each star those where its own light prevails, so that the light of one cannot be taken for a
    wing of the other. The fluxes of a column solve the equations of all stars: the light of the
    others is subtracted from each aperture in turn, the brightest first, until nothing changes
    (Gauss and Seidel).
    """
    order = np.argsort([-finite_median(one.found.flux.flux) for one in sources], kind="stable")
    brightest = sources[order[0]]
    fwhm = float(brightest.trace.attrs["fwhm"])
    stars = range(len(sources))
    span = (
        min(float(one.scene.knots.away.min()) for one in sources),
        max(float(one.scene.knots.away.max()) for one in sources),
    )
    knots = [[one.knots_on(other, fwhm, span) for other in sources] for one in sources]
    sources = [
        one._replace(scene=one.scene._replace(knots=knots[k][k])) for k, one in enumerate(sources)
    ]
    bare = [one.scene.pixels for one in sources]
    found = [one.found.flux for one in sources]
    profile = SpatialProfile(Moffat(fwhm, 0.0, np.inf))
    for quick in (True, False, None):
        light = [[profile.on_pixels(knots[j][k]) for k in stars] for j in stars]
        whole = [np.add.reduce(light[k][k] * bare[k].part, axis=0) for k in stars]
        shapes = [light[k][k] / np.maximum(whole[k], 0.1) for k in stars]
        for _ in range(_SHARED_ROUNDS):
            for k in order:
                theirs = np.zeros_like(shapes[k])
                for j in stars:
                    if j != k:
                        theirs += (
                            np.nan_to_num(found[j].flux) / np.maximum(whole[j], 0.1) * light[j][k]
                        )
                counts = np.where(bare[k].good, bare[k].counts - theirs, 0.0)
                pixels = bare[k]._replace(counts=counts, sky=bare[k].sky + np.maximum(theirs, 0.0))
                sources[k] = sources[k]._replace(scene=sources[k].scene._replace(pixels=pixels))
                start = profile_template(found[k].flux, found[k].variance)
                found[k] = optimal_flux(pixels, shapes[k], start, reject=quick is not True)
        if quick is not None:
            profile = fit_profile(*_joined_pixels(sources, found, shapes, whole), fwhm, quick=quick)
    return [
        one._replace(found=_with_weights(one.scene, profile, shapes[k], found[k], weights))
        for k, one in enumerate(sources)
    ]


def _joined_pixels(
    sources: Sequence[_Source],
    found: Sequence[ExtractedFlux],
    shapes: Sequence[Values],
    whole: Sequence[Values],
) -> tuple[TracePixels, Knots]:
    """Return the pixels of several apertures, one above the other, and the splines on them."""
    parts = []
    for one, flux, shape, inside in zip(sources, found, shapes, whole, strict=True):
        pixels = one.scene.pixels
        level = profile_template(flux.flux, flux.variance)
        own = level * shape
        others = pixels.sky - one.bare_sky
        used = flux.good & (pixels.part > 0) & (own >= others)
        weight = np.where(used, 1.0 / pixels.variance(own), 0.0)
        total = np.broadcast_to(level / np.maximum(inside, 0.1), shape.shape)
        parts.append((pixels.counts, weight, total))
    light = TracePixels(*(np.concatenate(planes) for planes in zip(*parts, strict=True)))
    knots = [one.scene.knots for one in sources]
    heights = [np.broadcast_to(one.pixel, one.away.shape) for one in knots]
    return light, Knots(
        np.concatenate([one.away for one in knots]),
        np.concatenate([one.interval for one in knots]),
        np.concatenate([one.basis for one in knots], axis=1),
        knots[0].middles,
        np.concatenate(heights),
    )


def _fit_and_extract(
    pixels: AperturePixels, knots: Knots, fwhm: float, found: ExtractedFlux
) -> tuple[ExtractedFlux, SpatialProfile, Values]:
    """Return the flux with optimal weights, the profile, and its fraction on each pixel.

    The profile is fitted twice: pixels rejected by the first fit are not used in the second.
    """
    profile = SpatialProfile(Moffat(fwhm, 0.0, np.inf))
    shape, good = _profile_within(profile, knots, pixels), pixels.good
    start = profile_template(found.flux, found.variance)
    found = optimal_flux(pixels, shape, start, reject=False)
    for quick in (True, False):
        flux = profile_template(found.flux, found.variance)
        weight = np.where(good & (pixels.part > 0), 1.0 / pixels.variance(flux * shape), 0.0)
        profile = fit_profile(TracePixels(pixels.counts, weight, flux), knots, fwhm, quick=quick)
        shape = _profile_within(profile, knots, pixels)
        found = optimal_flux(pixels, shape, flux)
        good = found.good
    return found, profile, shape


def _why_no_profile(scene: _ApertureScene, found: ExtractedFlux, snr: float) -> str:
    """Return the reason why the profile is unreliable; "" where it is reliable."""
    if not scene.noise_known:
        return "the noise is not known"
    if snr < _MIN_PROFILE_SNR:
        return f"the profile has an S/N of {snr:.1f}, below {_MIN_PROFILE_SNR:g}"
    usable = scene.pixels.good & (scene.pixels.part > 0)
    lost = np.count_nonzero(usable & ~found.good)
    if lost > _MOST_REJECTED * np.count_nonzero(usable):
        return f"no profile fits, {lost} pixels are outliers"
    return ""


def _why_no_weights(
    scene: _ApertureScene, shape: Values, found: ExtractedFlux
) -> tuple[str, float]:
    """Return where the flux with optimal weights differs from the sum, and by which fraction.

    Both are empty where the two agree, as they do if the profile is right. The difference is
    compared in bins of columns, and in the emission lines of each bin, by medians, which cosmic
    rays do not move. Both fluxes are of the same pixels, so that the variance of the difference is
    the difference of theirs.
    """
    pixels, flux = scene.pixels, np.nan_to_num(found.flux)
    summed = sum_flux(pixels, shape, pixels.variance(shape * np.maximum(flux, 0.0)))
    off = summed.flux - flux
    known = np.isfinite(off) & (found.variance > 0)
    noise = np.where(known, np.maximum(summed.variance - found.variance, 0.0), 0.0)
    line, _, least = _emission_lines(flux, found.variance, known)
    level, difference, known, variance, line = map(_binned, (flux, off, known, noise, line))
    size = level.shape[1]

    def medians(values: Values, part: Flags) -> Values:
        return finite_medians(np.where(part, values, np.nan))

    worst, place = 0.0, 0
    for part in (known & ~line, known & line):
        number = np.count_nonzero(part, axis=1)
        bins = np.flatnonzero(number >= _FEWEST_COLUMNS_COMPARED)
        if not bins.size:
            continue
        part, apart = part[bins], difference[bins]
        middle = medians(apart, part)
        scatter = _MAD_TO_STD * medians(np.abs(apart - middle[:, np.newaxis]), part)
        spread = np.maximum(medians(variance[bins], part), scatter**2)
        share = middle / np.maximum(medians(level[bins], part), least)
        sure = middle**2 > _REJECTION_SIGMA**2 * np.pi / 2 * spread / number[bins]
        at = int(np.argmax(np.where(sure, np.abs(share), 0.0)))
        if sure[at] and abs(share[at]) > max(_MOST_DIFFERENCE, abs(worst)):
            worst, place = float(share[at]), int(bins[at]) * size + int(np.argmax(part[at]))
    if not worst:
        return "", 0.0
    text = f"weights would change the flux near column {place + 1} by {-100 * worst:+.1f} %"
    return text, abs(worst)


def _binned(values: NDArray[Any]) -> NDArray[Any]:
    """Return values (x) in bins (bin, column), 0 beyond the last column."""
    n_bins = max(min(_N_PROFILE_BINS, values.size // _LEAST_COLUMNS_COMPARED), 1)
    size = -(-values.size // n_bins)
    return np.pad(values, (0, n_bins * size - values.size)).reshape(n_bins, size)


def _emission_lines(flux: Values, variance: Values, known: Flags) -> tuple[Flags, Values, float]:
    """Return the columns (x) of emission lines, the flux (x) beside them, and a faint flux.

    The flux beside a bin of columns is the higher of those on both sides, each the lowest median of
    the bin and the next two: a slope raises no column above both.
    """
    values = np.where(known, flux, 0.0)
    power = float(np.add.reduce(values**2))
    least = max(_FAINT_PART * power / max(float(np.add.reduce(np.abs(values))), 1e-30), 1e-30)
    levels = finite_medians(np.where(_binned(known), _binned(flux), np.nan))
    padded = np.pad(levels, 2, mode="edge")
    near = np.stack([padded[i : i + levels.size] for i in range(5)])
    beside = np.fmax(np.fmin.reduce(near[:3], axis=0), np.fmin.reduce(near[2:], axis=0))
    beside = np.where(np.isfinite(beside), beside, np.inf)
    level = np.repeat(beside, _binned(flux).shape[1])[: flux.size]
    line = flux - level > _LINE_SIGMA * np.sqrt(np.where(known, variance, 0.0))
    return known & line & (flux > _LINE_HEIGHT * np.maximum(level, least)), level, least


def _wide_light(scene: _ApertureScene, outcome: _Extraction) -> str:
    """Return a remark on emission lines that are wider along the slit than the continuum, or "".

    What is longer along the dispersion than two spatial FWHM is a glow or a reflection, no line.

    Their light less that of the continuum is compared with the continuum's: less of it must lie in
    the core of the profile, where this is above a third of its peak, in most of their columns: a
    cosmic ray that two frames leave is no line. Nothing can be said where the continuum itself does
    not follow the profile.
    """
    pixels, shape = scene.pixels, outcome.shape
    good = outcome.flux.good & (pixels.part > 0)
    core = shape > _CORE * shape.max(axis=0)
    counts = np.where(good, pixels.counts * pixels.part, 0.0)
    whole, inner = np.add.reduce(counts, axis=0), np.add.reduce(np.where(core, counts, 0.0), axis=0)
    model = np.add.reduce(np.where(core & good, shape * pixels.part, 0.0), axis=0)
    known = np.isfinite(outcome.flux.flux) & (model > 0)
    line, level, _ = _emission_lines(np.nan_to_num(outcome.flux.flux), outcome.flux.variance, known)
    line &= whole - level > _SKY_LEFT * np.add.reduce(pixels.sky * pixels.part, axis=0)
    number = np.count_nonzero(line), np.count_nonzero(known & ~line)
    if min(number) < _LEAST_COLUMNS_COMPARED:
        return ""
    inner = inner / np.where(model > 0, model, 1.0)
    calm = known & ~line
    usual = float(np.add.reduce(inner[calm])) / float(np.add.reduce(whole[calm]))
    if abs(usual - 1.0) > _CONTINUUM_OFF:
        return ""
    in_lines = (whole - level)[line]
    less = usual - finite_median((inner - usual * level)[line] / in_lines)
    error = float(
        np.sqrt(np.add.reduce(outcome.flux.variance[line]) / np.add.reduce(in_lines) ** 2)
    )
    if not less > max(_WIDE_LINES * usual, _REJECTION_SIGMA * error):
        return ""
    above = np.where(line, whole - level, 0.0)
    half = bright_runs(above > 0.5 * float(above.max()), max_gap=1)
    first, stop = max(half, key=lambda run: run[1] - run[0])
    if stop - first > _LONGEST_LINE * outcome.profile.moffat.fwhm:
        return (
            f"the spectrum in columns {first + 1} to {stop} is wider along the slit than "
            "elsewhere: the flux there includes a glow, a reflection or a nebula (exclude these "
            "columns, or choose sky rows next to it with --sky-rows A:B)"
        )
    return (
        "emission lines are wider along the slit than the continuum: the aperture may miss part of "
        "their flux (use --rows A:B for more rows)"
    )


def _profile_within(profile: SpatialProfile, knots: Knots, pixels: AperturePixels) -> Values:
    """Return the profile on the pixels (row, x), summing to 1 inside the aperture per column."""
    light = profile.on_pixels(knots)
    total = np.add.reduce(light * pixels.part, axis=0)
    return light / np.where(total > 0, total, 1.0)


def _enclosed_flux(scene: _ApertureScene, moffat: Moffat) -> Values:
    """Return the fraction (x) of a Moffat curve in an aperture, edge pixels by their part inside.

    Not the integral between the edges: the flux is not uniform within a pixel, which makes a
    difference of 0.06 % at a FWHM of 2 rows.
    """
    light = moffat.on_pixels(scene.knots.away, scene.knots.pixel)
    return np.asarray(np.add.reduce(scene.place.part * light, axis=0))


def _light_in_sky(
    scene: _ApertureScene, trace: xr.Dataset, sky: xr.Dataset, moffat: Moffat
) -> Values:
    """Return the fraction (x) of a Moffat curve that was subtracted with the sky.

    It is the light on the rows of the sky bands, of which a line through both sides takes the mean
    at about the middle between them.
    """
    sides = [sky.attrs[name] for name in ("sky_below", "sky_above") if name in sky.attrs]
    center = trace["star" if "star" in trace else "center"].values
    levels = np.zeros((max(len(sides), 1), center.size))
    for level, (first, last) in zip(levels, sides, strict=False):
        edges = (np.array([[first - 0.5], [last + 0.5]]) - center) * scene.knots.pixel
        low, high = moffat.below(edges)
        level += (high - low) / (last - first + 1)
    height = np.add.reduce(scene.place.part, axis=0)
    return np.asarray(height * np.add.reduce(levels, axis=0) / len(levels))


def _masked_fraction(scene: _ApertureScene, found: ExtractedFlux) -> float:
    """Return the fraction of the aperture's pixels that were not used."""
    inside = scene.place.part > 0
    lost = np.count_nonzero(inside & ~found.good)
    return float(lost) / max(int(np.count_nonzero(inside)), 1)


def _as_spectrum(
    image: xr.Dataset,
    scene: _ApertureScene,
    sky: xr.Dataset | None,
    outcome: _Extraction,
) -> xr.Dataset:
    """Return an extraction as a Dataset."""
    import xarray as xr

    place, found, units = scene.place, outcome.flux, image[COUNTS].attrs.get("units", "adu")
    height = np.add.reduce(place.part, axis=0)
    share = 1.0 / height if outcome.used == "mean" else np.ones_like(height)
    joined = _column_flags(scene, outcome)
    glow = np.add.reduce(scene.pixels.sky * place.part, axis=0)
    what = "flux without sky subtraction" if sky is None else "sky-subtracted flux"
    variables: dict[str, Any] = {
        "flux": (X, found.flux * share, {"units": units, "long_name": what})
    }
    if scene.noise_known:
        variance = found.variance
        if sky is not None:
            variance = variance + found.weight**2 * sky["variance"].values
        attrs = {"units": f"{units}2", "long_name": "variance of the flux"}
        variables[VARIANCE] = (X, variance * share**2, attrs)
    if sky is not None:
        told = {"units": units, "long_name": "sky in the aperture"}
        variables["sky"] = (X, glow * share, told)
    variables[DQ] = (X, joined, dq_attrs("flags of the pixels in the aperture"))
    scalars = {name: coord for name, coord in image.coords.items() if not coord.dims}
    return xr.Dataset(variables, {X: image[X], **scalars}, dict(image.attrs))


def _column_flags(scene: _ApertureScene, outcome: _Extraction) -> NDArray[np.uint8]:
    """Return the flags of columns (x): spoilt where a fifth of the profile is lost, or repaired.

    The profile replaces what little of it is lost: such columns are as good as the others, and
    among 15 frames every third is one. An aperture that leaves the image is always said to.
    """
    part, found = scene.place.part, outcome.flux
    inside = part > 0
    lost = inside & ~found.good
    flags = scene.flags.copy()
    flags[lost & scene.pixels.good] |= np.uint8(COSMIC_RAY)
    weight = outcome.shape * part
    of_lost = np.add.reduce(np.where(lost, weight, 0.0), axis=0)
    spoilt = of_lost > _MOST_PROFILE_LOST * np.add.reduce(weight, axis=0)
    spoilt |= (inside & ~scene.place.on_image).any(axis=0)
    struck = np.where(inside, flags & (COSMIC_RAY | REPAIRED), 0).any(axis=0)
    bits = np.bitwise_or.reduce(np.where(lost, flags & np.uint8(SPOILT), np.uint8(0)), axis=0)
    joined = np.where(spoilt, bits, np.uint8(0))
    joined |= np.bitwise_or.reduce(np.where(inside, flags & np.uint8(DOUBTFUL_FLAT), 0), axis=0)
    joined[struck & (joined & COSMIC_RAY == 0)] |= np.uint8(REPAIRED)
    joined[~np.isfinite(found.flux)] |= np.uint8(NO_DATA)
    return joined


# Lamps through the aperture of a star: `extract_lamp`.
#
# The lines of a lamp lean along the slit, so its spectrum has the star's wavelengths only if it has
# the star's mean row: it is the mean of the rows weighted as the star's are, along its trace. A
# lamp fills the slit, so that a Gaussian of the star's width serves as the profile: what moves a
# line is the weights' mean row, which does not depend on the wings. Nothing is masked by comparison
# with the profile, which a lamp does not have.


def extract_lamp(
    image: xr.Dataset,
    trace: xr.Dataset,
    *,
    half_height: float | Values,
    weights: ExtractWeights = "optimal",
) -> xr.Dataset:
    """Extract a lamp with the aperture and weights of a star.

    Parameters
    ----------
    image : counts (y, x) in adu, computed, dispersed along x, with `variance` and `dq` where known.
    trace, half_height, weights : of the star, as in `extract_along`.

    Returns
    -------
    arc : (x): `counts`, the weighted mean of the rows times the height of the aperture, so that all
        weights give about the sum, with the sky and whatever else is there; `variance` (x), where
        the noise is known; `dq` (x), the flags of its pixels where a fifth of the weights is lost:
        fewer are replaced by the others. Attribute `n_rows`, the mean height of the aperture.

    Examples
    --------
    >>> import xarray as xr
    >>> y, x = np.arange(1.0, 41), np.arange(1.0, 101)
    >>> lines = np.exp(-((x - 50 - 0.1 * (y[:, np.newaxis] - 20)) ** 2) / 8)
    >>> image = xr.Dataset({"counts": (("y", "x"), 100 * lines)}, {"y": y, "x": x})
    >>> trace = xr.Dataset({"center": ("x", np.full(100, 30.0))}, attrs={"fwhm": 4.0})
    >>> arc = extract_lamp(image, trace, half_height=5.0)
    >>> round(float((arc.counts * x).sum() / arc.counts.sum()), 3)
    51.0
    """
    import xarray as xr

    check_image(image)
    trace = with_columns_of(image, trace, "a trace", "center")
    scene = _aperture_scene(image, trace, None, half_height)
    place, flags = scene.place, scene.flags
    inside = place.part > 0
    shape = place.part
    if weights == "optimal":
        fwhm = float(trace.attrs.get("fwhm", np.ptp(scene.knots.away) / 4))
        profile = SpatialProfile(Moffat(fwhm, 0.0, np.inf))
        shape = place.part * profile.on_pixels(scene.knots)
    values = gather_pixels(image[COUNTS].values, place).astype(np.float64)
    known = place.on_image & np.isfinite(values)
    usable = known & (flags & (BAD_PIXEL | SATURATED | NO_DATA) == 0)
    whole, left = np.add.reduce(shape, axis=0), np.add.reduce(np.where(usable, shape, 0.0), axis=0)
    spoilt = (whole - left > _MOST_PROFILE_LOST * whole) | (inside & ~place.on_image).any(axis=0)
    usable |= known & spoilt
    lost = np.where(inside & spoilt, flags & (BAD_PIXEL | SATURATED | NO_DATA), 0)
    dq = np.bitwise_or.reduce(lost, axis=0).astype(np.uint8)
    share = np.where(usable, shape, 0.0)
    total, height = np.add.reduce(share, axis=0), np.add.reduce(place.part, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = share * (height / total)
    counts = np.add.reduce(np.where(usable, share * values, 0.0), axis=0)
    counts[total <= 0] = np.nan
    units = image[COUNTS].attrs.get("units", "adu")
    told = {"units": units, "long_name": "flux of the lamp in the aperture"}
    variables: dict[str, Any] = {COUNTS: (X, counts, told)}
    if scene.noise_known:
        noise = np.where(usable, gather_pixels(image[VARIANCE].values, place), 0.0)
        variance = np.where(total > 0, np.add.reduce(share**2 * noise, axis=0), np.nan)
        told = {"units": f"{units}2", "long_name": "variance of the counts"}
        variables[VARIANCE] = (X, variance, told)
    variables[DQ] = (X, dq, dq_attrs("flags of the pixels in the aperture"))
    scalars = {name: coord for name, coord in image.coords.items() if not coord.dims}
    arc = xr.Dataset(variables, {X: image[X], **scalars}, dict(image.attrs))
    rows = float(np.add.reduce(height) / height.size)
    arc = arc.assign_attrs(n_rows=rows)
    return add_history(arc, f"lamp over {rows:.2f} rows along the star's trace")


# Extraction frame by frame through one aperture, for light curves: `extract_frames`.
#
# Every frame has the aperture width of the combined image, since a width per frame would follow the
# seeing and make the flux vary with it. The star drifts along the slit from frame to frame, and the
# aperture follows it. The drift is that of the whole trace, a single number for each frame: the
# median of the difference between the frame's own trace and the common one. A frame in which the
# star is too faint to trace keeps the common trace.

Extract = Callable[["xr.Dataset", "xr.Dataset"], "xr.Dataset"]
TIME_MID, OFFSET, EXTRACTION = "time_mid", "offset", "extraction"
_ALONG_X = ("flux", VARIANCE, "sky", DQ)


class _FrameSpectrum(NamedTuple):
    """The spectrum of a frame, and the offset of its star from the common trace, rows."""

    spectrum: xr.Dataset
    offset: float


def extract_frames(
    images: Iterable[xr.Dataset],
    lights: xr.Dataset,
    trace: xr.Dataset,
    rows: Rows,
    extract: Extract,
    *,
    follow: bool = True,
    known: Values | None = None,
) -> xr.Dataset:
    """Extract each frame of a target along the common trace.

    Parameters
    ----------
    images : each light frame as a calibrated image, counts (y, x), computed, dispersed along x, in
        the order of the cube. Only one is held in memory at a time.
    lights : the cube of the frames; its coordinates `time` and `exptime` (frame) give the times.
    trace : `center` (x) in the combined image.
    rows : rows of the spectrum in the combined image.
    extract : function that extracts the spectrum (x) of an image along a trace.
    follow : the aperture follows the drift of the star; else it is fixed.
    known : approximate offset of the star in each frame, rows, where it is large; NaN: not seen.

    Returns
    -------
    frames : `flux`, `variance`, `sky` and `dq` (frame, x), as far as the spectra have them.
        Coordinates along `frame`: `time_mid`, the middle of the exposure in UTC, `exptime` in s,
        `offset`, rows from the common trace, and `extraction`, the weights used.
    """
    import xarray as xr

    near = np.zeros(lights.sizes[FRAME]) if known is None else np.nan_to_num(known)
    found = []
    for image, by in zip(images, near, strict=True):
        offset = by
        if follow:
            around = trace.assign(center=trace["center"] + by)
            offset = by + trace_offset(image, around, moved_rows(rows, round(by)))
        found.append(_extract_frame(image, trace, offset, extract))
    first = found[0].spectrum
    variables = {
        name: (
            (FRAME, X),
            np.stack([one.spectrum[name].values for one in found]),
            first[name].attrs,
        )
        for name in _ALONG_X
        if all(name in one.spectrum for one in found)
    }
    offsets = np.array([one.offset for one in found])
    ways = [str(one.spectrum.attrs.get(EXTRACTION, "")) for one in found]
    coords: dict[str, Any] = {
        X: first[X],
        FRAME: lights[FRAME],
        **_exposure_times(lights),
        OFFSET: (FRAME, np.nan_to_num(offsets), {"units": "pix", "long_name": "drift of the star"}),
        EXTRACTION: (FRAME, ways, {"long_name": "weights of the extraction"}),
    }
    scalars = {name: coord for name, coord in first.coords.items() if not coord.dims}
    frames = xr.Dataset(variables, {**scalars, **coords}, {"history": []})
    frames = add_history(frames, "each frame extracted along the common trace, shifted to its star")
    if lost := int(np.count_nonzero(np.isnan(offsets))):
        what = "1 frame is" if lost == 1 else f"{lost} frames are"
        frames = add_remark(frames, f"{what} too faint to trace; common trace used")
    return frames


def moved_rows(rows: Rows, by: int) -> Rows:
    """Return the rows of a star that moved along the slit, with those of its neighbours."""
    others = tuple(replace(one, first=one.first + by, last=one.last + by) for one in rows.others)
    return replace(rows, first=rows.first + by, last=rows.last + by, others=others)


def _extract_frame(
    image: xr.Dataset, trace: xr.Dataset, offset: float, extract: Extract
) -> _FrameSpectrum:
    """Return the spectrum of a frame along the common trace, shifted to its star."""
    center = trace["center"]
    moved = trace.assign(center=center + (0.0 if np.isnan(offset) else offset))
    moved["center"].attrs = dict(center.attrs)
    return _FrameSpectrum(extract(image, moved), offset)


def trace_offset(image: xr.Dataset, trace: xr.Dataset, rows: Rows) -> float:
    """Return the offset of a star above a trace, rows; NaN where it is too faint to measure.

    Parameters
    ----------
    image : counts (y, x), computed.
    trace : `center` (x), of another image of the same star.
    rows : the rows of the star in that image.
    """
    own = fit_trace(image, rows)
    if own.attrs["trace"] != "fit":
        return float("nan")
    offset = finite_median(own["center"].values - trace["center"].values)
    return offset if abs(offset) <= rows.n_rows else float("nan")


def _exposure_times(lights: xr.Dataset) -> dict[str, Any]:
    """Return the middle of each exposure and its length, as far as they are known."""
    if "exptime" not in lights.coords:
        return {}
    n = lights.sizes[FRAME]
    exptime = np.broadcast_to(np.asarray(lights["exptime"].values, np.float64), n)
    told: dict[str, Any] = {
        "exptime": (FRAME, exptime.copy(), {"units": "s", "long_name": "exposure"})
    }
    if "time" in lights.coords:
        told[TIME_MID] = (FRAME, _exposure_middles(lights["time"].values, exptime))
    return told


def _exposure_middles(starts: NDArray[Any], exptime: NDArray[np.float64]) -> NDArray[Any]:
    """Return the middle of each exposure, to the nanosecond; NaT where its times are unknown."""
    begun = np.broadcast_to(np.asarray(starts, "datetime64[ns]"), exptime.shape)
    half = np.nan_to_num(exptime) * 0.5e9
    middles = begun + half.round().astype("timedelta64[ns]")
    return np.where(np.isfinite(exptime), middles, np.datetime64("NaT", "ns"))
