"""Fit the trace of a star along the dispersion axis.

Columns are binned, since a single column rarely has enough flux. The tilt of the trace is measured
first, for all bins at once, by shifting them against each other until the profile is sharpest; each
bin's centroid is then measured near that line, and a polynomial of the lowest sufficient order is
fitted to the centroids.

A centroid is the mean of the flux under a Gaussian window that follows it and is as wide as the
star (the windowed centroid of SExtractor): least squares have 1.0 times its scatter, a plain mean
over ten rows 2 times, and other sources a few widths away do not shift it.

The width of the star is measured in the same bins and with the same window. It is one number for
all columns unless the bins differ by more than a tenth: spectrographs with lenses are in focus in a
part of the spectrum only, and the width may then double towards its ends.

The spectra of a spectrograph are tilted and curved by some rows: a straight band of rows is then
either too narrow at both ends or includes more sky than necessary. Where the star is too faint to
trace, the trace is straight, through the centre of the flux, and a remark reports it.

The curve of a star along the slit is a Moffat or a Gaussian (`fit_moffat`), or two of them
(`fit_pair`), integrated over pixels: the flux of a pixel is the mean over its height, which for a
star two rows wide is 6 % less than the value at its middle. Moffat (1969, A&A 3, 455):
``(1 + (r/w)^2) ** -b``; b to infinity is the Gaussian.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import UsageError
from arrayred.kernels.noise import finite_median
from arrayred.kernels.rows import parts_at_dips, robust_std, smoothed
from arrayred.model import (
    BAD_PIXEL,
    CLEAN,
    COUNTS,
    DQ,
    VARIANCE,
    Rows,
    Run,
    X,
    Y,
    add_check,
    add_history,
    check_image,
)

if TYPE_CHECKING:
    import xarray as xr

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

FWHM_PER_SIGMA = 2.3548200450309493
_CENTROID_ROUNDS = 12
_N_TILTS = 61
_CENTROID_ERROR = 0.02
"""Least uncertainty of a centroid, rows: the response of pixels differs."""
_CLIP = 4.0
_CLIP_ROUNDS = 5


class ColumnBins(NamedTuple):
    """Rows of binned columns.

    Parameters
    ----------
    light : (bin, y), means of the good pixels less the background beside the star.
    variance : (bin, y), variance of `light`.
    middle : (bin), mean position of the columns, from -1 at the first column to 1 at the last.
    """

    light: Values
    variance: Values
    middle: Values


class Centroids(NamedTuple):
    """Centroids (bin): position in rows, variance, S/N."""

    position: Values
    variance: Values
    snr: Values


class Widths(NamedTuple):
    """Widths of a star along the slit.

    Parameters
    ----------
    sigma : common width of all columns (standard deviation), rows.
    relative : (x), the width in each column over the common one; None: the same in all columns.
    """

    sigma: float
    relative: Values | None = None


class TracePolynomial(NamedTuple):
    """A polynomial fitted to centroids: Legendre coefficients, rms in rows, bins used."""

    coefficients: Values
    rms: float
    used: Flags


def bin_columns(
    counts: Values, variance: Values | None, good: Flags, n_bins: int, beside: tuple[int, int]
) -> ColumnBins:
    """Bin columns, and subtract a linear background through the rows at both ends.

    Parameters
    ----------
    counts : (y, x), the rows about a star.
    variance : (y, x), variance of the counts; None: measured from the rows at the ends.
    good : (y, x), whether a pixel is used.
    n_bins : number of bins.
    beside : number of background rows below the star and above it; with none on one side the other
        is used for both.

    Examples
    --------
    >>> counts = np.tile([[3.0], [3.0], [9.0], [3.0], [3.0]], (1, 8))
    >>> bin_columns(counts, None, counts > 0, 2, (2, 2)).light
    array([[0., 0., 6., 0., 0.],
           [0., 0., 6., 0., 0.]])
    """
    n_rows, n_columns = counts.shape
    n_bins = min(n_bins, n_columns)
    starts = np.arange(n_bins) * n_columns // n_bins
    number = np.add.reduceat(good, starts, axis=1, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        light = np.add.reduceat(np.where(good, counts, 0.0), starts, axis=1) / number
    known = number > 0
    light = np.where(known, light, 0.0)
    sides = _background_sides(np.where(known, light, 0.0), beside)
    light -= _background_line(sides, n_rows, beside)
    light[~known] = 0.0
    if variance is None:
        ends = np.concatenate(_background_sides(light, beside))
        spread = 1.4826 * np.median(np.abs(ends), axis=0) if ends.size else np.ones(n_bins)
        noise = np.broadcast_to(np.maximum(spread, 1e-12) ** 2, light.shape)
    else:
        summed = np.add.reduceat(np.where(good, variance, 0.0), starts, axis=1)
        noise = np.where(known, summed / np.maximum(number, 1.0) ** 2, np.inf)
    stops = np.append(starts[1:], n_columns)
    middle = (starts + stops - 1) / max(n_columns - 1, 1) - 1.0
    return ColumnBins(np.ascontiguousarray(light.T), np.ascontiguousarray(noise.T), middle)


def _background_sides(light: Values, beside: tuple[int, int]) -> list[Values]:
    """Return the rows below and above a star (y, bin) that hold the background."""
    below, above = beside
    return [light[:below], light[len(light) - above :]]


def _background_line(sides: list[Values], n_rows: int, beside: tuple[int, int]) -> Values | float:
    """Return the line (y, bin) through the medians of the rows on both sides."""
    levels = [np.median(side, axis=0) for side in sides if len(side)]
    if len(levels) < 2:
        return np.asarray(levels[0]) if levels else 0.0
    below, above = beside
    first, last = (below - 1) / 2, n_rows - 1 - (above - 1) / 2
    rows = np.arange(n_rows, dtype=np.float64)[:, np.newaxis]
    low, high = levels
    return np.asarray(low + (high - low) * (rows - first) / max(last - first, 1.0))


def shift_rows(light: Values, shift: Values) -> Values:
    """Return bins (bin, y) shifted down by some rows (bin) each, with linear interpolation.

    Examples
    --------
    >>> shift_rows(np.array([[0.0, 2.0, 4.0]]), np.array([0.5]))
    array([[1., 3., 4.]])
    """
    n_rows = light.shape[1]
    place = np.clip(np.arange(n_rows) + shift[:, np.newaxis], 0, n_rows - 1)
    low = np.minimum(place.astype(np.intp), n_rows - 2)
    part = place - low
    below = np.take_along_axis(light, low, axis=1)
    return np.asarray(below + part * (np.take_along_axis(light, low + 1, axis=1) - below))


def trace_tilt(bins: ColumnBins, most: float) -> tuple[float, Values]:
    """Return the tilt of the trace, from the middle to the last column, and its mean profile.

    Parameters
    ----------
    bins : binned columns.
    most : the largest tilt searched, rows.

    Returns
    -------
    lean, upright : the tilt, rows; and the mean of the bins (y) with the tilt removed.
    """
    best, energy, upright = 0.0, -np.inf, np.zeros(bins.light.shape[1])
    leans = np.linspace(-most, most, _N_TILTS)
    for lean in leans[np.argsort(np.abs(leans), kind="stable")]:
        rows = np.add.reduce(shift_rows(bins.light, lean * bins.middle), axis=0) / len(bins.light)
        smooth = smoothed(rows)
        if (power := float(np.add.reduce(np.maximum(smooth, 0.0) ** 2))) > energy:
            best, energy, upright = float(lean), power, rows
    return best, upright


def peak_of(light: Values, within: tuple[int, int] | None = None) -> tuple[float, float]:
    """Return centre and width (standard deviation) of the brightest source on rows (y), rows.

    Parameters
    ----------
    light : (y), background-subtracted.
    within : first and last position at which the source is searched; None: all.

    Examples
    --------
    >>> rows = np.arange(60.0)
    >>> centre, sigma = peak_of(np.exp(-((rows - 31.3) ** 2) / (2 * 2.0**2)))
    >>> round(centre, 2), round(sigma, 2)
    (31.3, 2.0)
    """
    rows = np.arange(light.size, dtype=np.float64)
    first, last = (0, light.size - 1) if within is None else within
    start = min(max(first - 1, 0), light.size - 3)
    smooth = smoothed(light)[start : max(last, start + 1)]
    centre = float(np.argmax(smooth)) + start + 1.0
    low, high = max(first - 0.5, 0.0), min(last + 0.5, light.size - 1.0)
    sigma = 1.0
    for _ in range(4 * _CENTROID_ROUNDS):
        weight = np.exp(-0.5 * ((rows - centre) / sigma) ** 2)
        total = float(np.add.reduce(weight * light))
        if total <= 0:
            break
        away = rows - centre
        centre += 2 * float(np.add.reduce(weight * light * away)) / total
        spread = 2 * float(np.add.reduce(weight * light * away**2)) / total
        centre = min(max(centre, low), high)
        sigma = min(max(spread, 0.25) ** 0.5, light.size / 4)
    return centre, sigma


def width_of(bins: ColumnBins, position: Values, sigma: float) -> float:
    """Return the common width (standard deviation) of the flux about its centroids (bin), rows.

    Parameters
    ----------
    bins : binned columns.
    position : rows of the centroids.
    sigma : initial guess, rows.
    """
    away = np.arange(bins.light.shape[1], dtype=np.float64) - position[:, np.newaxis]
    for _ in range(_CENTROID_ROUNDS):
        weighted = np.exp(-0.5 * (away / sigma) ** 2) * bins.light
        total = float(np.add.reduce(weighted, axis=None))
        spread = 2 * float(np.add.reduce(weighted * away**2, axis=None))
        if total <= 0:
            break
        sigma = min(max(spread / total, 0.25) ** 0.5, bins.light.shape[1] / 4)
    return sigma


def widths_along(bins: ColumnBins, position: Values, sigma: float, n_columns: int) -> Widths:
    """Return the widths of a star in all columns, from those in bins of columns.

    Parameters
    ----------
    bins : binned columns.
    position : rows of the centroids (bin).
    sigma : common width (standard deviation), rows.
    n_columns : number of columns.

    Returns
    -------
    widths : a polynomial of the lowest sufficient order, where it changes by more than a tenth over
        the bins with enough flux; constant beyond the first and last of these.

    Examples
    --------
    >>> middle, rows = np.linspace(-0.97, 0.97, 32), np.arange(80.0)
    >>> sigma = (3.0 + middle)[:, np.newaxis]
    >>> light = 1e4 * np.exp(-0.5 * ((rows - 40) / sigma) ** 2) / sigma
    >>> bins = ColumnBins(light, np.full(light.shape, 100.0), middle)
    >>> found = widths_along(bins, np.full(32, 40.0), 3.0, 201).relative
    >>> found[[10, 100, 190]].round(2).tolist()
    [0.7, 1.0, 1.3]
    """
    rows = np.arange(bins.light.shape[1], dtype=np.float64)
    away = rows - position[:, np.newaxis]
    square = np.full(len(position), sigma**2)
    noise = np.where(np.isfinite(bins.variance), bins.variance, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        for _ in range(_CENTROID_ROUNDS):
            weight = np.exp(-0.5 * away**2 / square[:, np.newaxis])
            total = np.add.reduce(weight * bins.light, axis=1)
            spread = 2 * np.add.reduce(weight * bins.light * away**2, axis=1) / total
            spread = np.where(np.isfinite(spread), spread, sigma**2)
            square = np.clip(spread, 0.25, (bins.light.shape[1] / 4) ** 2)
        snr = total / np.sqrt(np.add.reduce(weight**2 * noise, axis=1))
        off = weight * (away**2 - square[:, np.newaxis] / 2)
        error = 4 * np.add.reduce(off**2 * noise, axis=1) / (total**2 * square * sigma**2)
    known = np.isfinite(snr) & np.isfinite(error)
    width = Centroids(
        np.sqrt(square) / sigma, np.where(known, error, np.inf), np.where(known, snr, 0.0)
    )
    fit = fit_polynomial(bins.middle, width, _LEAST_WIDTH_SNR, _MOST_WIDTH_ORDER)
    if fit is None:
        return Widths(sigma)
    measured = bins.middle[fit.used]
    place = np.clip(np.linspace(-1.0, 1.0, n_columns), measured[0], measured[-1])
    relative = evaluate_trace(fit.coefficients, place)
    lowest, highest = float(relative.min()), float(relative.max())
    varies = lowest > 0.1 and highest > _LEAST_WIDTH_CHANGE * lowest
    varies = varies and highest - lowest > _LEAST_WIDTH_CHANGE_SNR * fit.rms
    return Widths(sigma, relative if varies else None)


def find_centroids(bins: ColumnBins, guess: Values, sigma: float) -> Centroids:
    """Return the centroid of each bin near a guess (bin), in a Gaussian window of width sigma."""
    rows = np.arange(bins.light.shape[1], dtype=np.float64)
    position = np.asarray(guess, np.float64).copy()
    with np.errstate(invalid="ignore", divide="ignore"):
        for _ in range(_CENTROID_ROUNDS):
            away = rows - position[:, np.newaxis]
            weighted = np.exp(-0.5 * (away / sigma) ** 2) * bins.light
            step = 2 * np.add.reduce(weighted * away, axis=1) / np.add.reduce(weighted, axis=1)
            position += np.clip(np.where(np.isfinite(step), step, 0.0), -sigma, sigma)
            position = np.clip(position, guess - 3 * sigma, guess + 3 * sigma)
        away = rows - position[:, np.newaxis]
        weight = np.exp(-0.5 * (away / sigma) ** 2)
        noise = np.where(np.isfinite(bins.variance), bins.variance, 0.0)
        total = np.add.reduce(weight * bins.light, axis=1)
        snr = total / np.sqrt(np.add.reduce(weight**2 * noise, axis=1))
        variance = 4 * np.add.reduce((weight * away) ** 2 * noise, axis=1) / total**2
    known = np.isfinite(snr) & np.isfinite(variance)
    return Centroids(position, np.where(known, variance, np.inf), np.where(known, snr, 0.0))


def fit_polynomial(
    middle: Values, found: Centroids, least_snr: float, most_order: int
) -> TracePolynomial | None:
    """Fit a polynomial to centroids, rejecting outliers; None where too few bins have flux.

    Parameters
    ----------
    middle : (bin), positions of the bins, from -1 to 1.
    found : their centroids.
    least_snr : lowest S/N of a bin that is used.
    most_order : the highest order tried. The order of least Bayesian information criterion is used:
        an order more must lower chi-square, scaled by that of the highest order, by at least the
        logarithm of the number of bins (Schwarz 1978).
    """
    lit = found.snr >= least_snr
    if np.count_nonzero(lit) < 4:
        return None
    reach = float(np.ptp(middle[lit]))
    most_order = min(most_order, int(np.count_nonzero(lit)) // 3, most_order if reach > 1.0 else 1)
    fits = [_clipped_fit(middle, found, lit, order) for order in range(most_order, -1, -1)]
    used = fits[0].used
    n = int(np.count_nonzero(used))
    weight = 1.0 / (found.variance[used] + _CENTROID_ERROR**2)
    fits = [
        fits[0],
        *(_clipped_fit(middle, found, used, f.coefficients.size - 1) for f in fits[1:]),
    ]
    chi2 = [_residual_chi2(middle, found, used, weight, fit) for fit in fits]
    scale = max(chi2[0] / max(n - fits[0].coefficients.size, 1), 1.0)
    costs = [c / scale + f.coefficients.size * np.log(n) for c, f in zip(chi2, fits, strict=True)]
    return fits[int(np.argmin(costs))]


def _residual_chi2(
    middle: Values, found: Centroids, used: Flags, weight: Values, fit: TracePolynomial
) -> float:
    """Return the chi-square of a fit over the bins used."""
    left = found.position[used] - evaluate_trace(fit.coefficients, middle[used])
    return float(np.add.reduce(weight * left**2))


def _clipped_fit(middle: Values, found: Centroids, lit: Flags, order: int) -> TracePolynomial:
    """Return the polynomial of an order fitted to lit bins, rejecting outliers."""
    used, sigma2 = lit.copy(), found.variance + _CENTROID_ERROR**2
    coefficients, rms = np.zeros(order + 1), 0.0
    for _ in range(_CLIP_ROUNDS):
        design = np.polynomial.legendre.legvander(middle[used], order)
        scale = 1.0 / np.sqrt(sigma2[used])
        scaled = (design * scale[:, np.newaxis], found.position[used] * scale)
        coefficients = np.asarray(np.linalg.lstsq(*scaled, rcond=None)[0], np.float64)
        left = found.position - evaluate_trace(coefficients, middle)
        weight = 1.0 / sigma2[used]
        rms = float(np.sqrt(np.add.reduce(weight * left[used] ** 2) / np.add.reduce(weight)))
        typical = 1.4826 * float(np.median(np.abs(left[used] / np.sqrt(sigma2[used]))))
        near = lit & (np.abs(left) <= _CLIP * max(typical, 1.0) * np.sqrt(sigma2))
        if np.array_equal(near, used) or np.count_nonzero(near) < max(4, order + 2):
            break
        used = near
    return TracePolynomial(coefficients, rms, used)


def evaluate_trace(coefficients: Values, place: Values) -> Values:
    """Return a Legendre polynomial at positions from -1 to 1.

    Examples
    --------
    >>> evaluate_trace(np.array([5.0, 2.0]), np.array([-1.0, 0.0, 1.0]))
    array([3., 5., 7.])
    """
    return np.asarray(np.polynomial.legendre.legval(place, coefficients), np.float64)


CENTER, STAR, FWHM = "center", "star", "fwhm"
_MOST_ORDER = 3
_LEAST_SNR = 3.0
_LEAST_WIDTH_SNR = 10.0
"""Least S/N of a bin whose width is measured."""
_MOST_WIDTH_ORDER = 5
_LEAST_WIDTH_CHANGE = 1.1
"""Least ratio of the largest width to the smallest that is followed; the splines of the profile
follow smaller changes."""
_LEAST_WIDTH_CHANGE_SNR = 20.0
"""Least range of the widths in units of their scatter about the polynomial: 60 to 800 where the
focus changes, 6 for a nebula whose lines and continuum fill the slit differently."""
_BIN_COUNTS = (32, 16, 8)
"""Numbers of bins tried: fewer bins have more flux each."""
_STEEPEST_TILT = 12.0
"""Largest tilt searched, rows from the middle to the last column."""
_APERTURE_WIDTHS = 1.5
"""Least half-width of an aperture, in FWHM: all but 0.04 % of a Gaussian."""
_WINGS_REACH = 3.0
"""Distance from the rows of a star, in FWHM, within which other spectra may reach its aperture."""
_EDGE_NOISE_LIMIT = 0.05
"""Noise, as a fraction of the peak, above which the edge of the profile cannot be measured."""
_EDGE_FRACTION = 0.1
_LEAST_MARGIN = 12
"""Rows beside a star that are looked at, where no other spectrum is nearer."""
_BINS_SEEN = 8
"""Bins in which a tilted pair of stars is still seen apart."""
_BINS_OF_TRACKS = 2
"""Brightest bins of a row that may hold cosmic rays: stars must lie apart in the others."""
_PEAK_SNR = 4.0
"""Height of a star's light within given rows over the rows beside it, standard deviations."""
_BACKGROUND_ROWS = 12
"""Largest number of background rows on each side of the star."""


class _TraceFound(NamedTuple):
    """A trace on a window: centre (x) as row position, bins used, rms, order, widths, reach."""

    center: Values
    n_bins: int
    rms: float
    order: int
    widths: Widths
    reach: float


def fit_trace(
    image: xr.Dataset, rows: Rows, *, straight: bool = False, order: int | None = None
) -> xr.Dataset:
    """Fit the row of a star as a smooth function of the column.

    Parameters
    ----------
    image : counts (y, x) in adu or electron, computed, dispersed along x; `variance` and `dq` are
        used where it has them.
    rows : the rows of the star.
    straight : use a straight trace: the centre is the middle of the rows.
    order : highest order of the polynomial tried; None: 3.

    Returns
    -------
    trace : `center` (x), float64, FITS row numbers. Attributes: `trace`, "fit" or "straight";
        `tilt`, rows, first to last column; `fwhm`, spatial FWHM, rows; `reach`, distance at which
        the profile falls to a tenth of its peak, rows, where measurable; `trace_rms`, the scatter
        of the bins about it, rows; `trace_order`; `n_bins`, the number of bins of columns used. A
        remark where the star is too faint. A straight trace has `star` (x) as well: the measured
        position of the star, for the profile. Where the width changes by more than a tenth along
        the columns, `fwhm` (x), rows.

    Raises
    ------
    MismatchError
        The image is chunked.

    Examples
    --------
    >>> import xarray as xr
    >>> y, x = np.arange(1.0, 61)[:, np.newaxis], np.arange(1.0, 401)
    >>> counts = 1000 * np.exp(-((y - 30 - x / 200) ** 2) / 8)
    >>> image = xr.Dataset({"counts": (("y", "x"), counts)}, {"y": y[:, 0], "x": x})
    >>> trace = fit_trace(image, Rows(26, 36, 11, 0.0, 1.0, 4.0, 4.0))
    >>> round(trace.attrs["tilt"], 1), trace.center.values[[0, 399]].round(1).tolist()
    (2.0, [30.0, 32.0])
    """
    import xarray as xr

    check_image(image)
    lowest = int(image[Y][0])
    span = _rows_about_star(image, rows)
    found = _find_trace(image, rows, span, _MOST_ORDER if order is None else order)
    star = found.center + span.start + lowest
    center = np.full(star.size, (rows.first + rows.last) / 2) if straight else star
    attrs = {"units": "pix", "long_name": "row of the star"}
    trace = xr.Dataset({CENTER: (X, center, attrs)}, {X: image[X]}).assign_attrs(
        trace="fit" if found.n_bins and not straight else "straight",
        tilt=float(center[-1] - center[0]),
        fwhm=FWHM_PER_SIGMA * found.widths.sigma,
        trace_order=0 if straight else found.order,
        n_bins=0 if straight else found.n_bins,
    )
    if found.n_bins and not straight:
        trace.attrs["trace_rms"] = found.rms
    if math.isfinite(found.reach):
        trace.attrs["reach"] = found.reach
    if straight:
        trace = trace.assign({STAR: (X, star, attrs)})
    if not straight and rows.rule == "given" and not found.n_bins:
        where = f"rows {rows.first} to {rows.last}"
        return add_check(trace, f"no star in {where}: straight aperture used")
    if found.widths.relative is not None:
        told_width = {"units": "pix", "long_name": "spatial FWHM"}
        trace = trace.assign({FWHM: (X, trace.attrs[FWHM] * found.widths.relative, told_width)})
        span_of = f"{float(trace[FWHM].min()):.1f} to {float(trace[FWHM].max()):.1f}"
        trace = add_history(trace, f"the spatial FWHM varies along the columns: {span_of} rows")
    if straight or found.n_bins:
        told = f"traced in {found.n_bins} bins: order {found.order}, rms {found.rms:.3f} rows"
        return add_history(trace, "straight aperture" if straight else told)
    return add_check(trace, "star too faint to trace; straight aperture used")


def relative_width(trace: xr.Dataset) -> Values:
    """Return the width of a star in each column (x) over its common width; 1 where it is constant.

    Both are those before the light is averaged over the height of a pixel, which adds a twelfth of
    a square row to the square of the standard deviation.
    """
    if FWHM not in trace:
        return np.ones(trace.sizes[X])
    pixel = FWHM_PER_SIGMA**2 / 12
    of_column = np.maximum(trace[FWHM].values ** 2 - pixel, pixel)
    return np.asarray(np.sqrt(of_column / max(float(trace.attrs[FWHM]) ** 2 - pixel, pixel)))


def half_height_of(rows: Rows, trace: xr.Dataset) -> float | Values:
    """Return the half-width of an aperture about the trace, rows; (x) where the width changes.

    Half of the detected rows less the tilt of the trace; at least 1.5 FWHM, but less where the
    profile ends earlier, as that of a filled slit, or where another spectrum would be nearer than
    the star's own rows. It ends at the dip between two spectra that touch. About a star in given
    rows it stays within these, but where the star is within half its FWHM of their edge it keeps
    their height, up to 1.5 FWHM to either side.

    Parameters
    ----------
    rows : the detected or given rows.
    trace : the trace of `fit_trace`.

    Examples
    --------
    >>> import xarray as xr
    >>> center = {"center": ("x", [30.0, 31.0, 32.0])}
    >>> trace = xr.Dataset(center, attrs={"tilt": 2.0, "fwhm": 4.0, "trace": "fit"})
    >>> half_height_of(Rows(28, 34, 7, 0.0, 1.0, 4.0, 4.0), trace)
    6.0
    """
    center = trace[CENTER].values
    middle, lean = finite_median(center), float(np.ptp(center))
    if lean == 0 and middle == (rows.first + rows.last) / 2:
        return rows.n_rows / 2
    fwhm = float(trace.attrs["fwhm"])
    low, high = rows.first - 0.5, rows.last + 0.5
    bottom, top = touching_rows(rows)
    free = [middle - (run.last + rows.first) / 2 for run in rows.others if run.last < bottom]
    free += [(run.first + rows.last) / 2 - middle for run in rows.others if run.first > top]
    space = min((one - lean / 2 for one in free), default=math.inf)
    if rows.rule == "given":
        own = min(middle - low, high - middle)
        if own >= fwhm / 2:
            return own
        return max(own, min(_APERTURE_WIDTHS * fwhm, rows.n_rows / 2, space), 0.5)
    own = max((rows.n_rows - lean) / 2, 1.0)
    wished = _APERTURE_WIDTHS * fwhm
    if "reach" in trace.attrs:
        wished = min(wished, _APERTURE_WIDTHS * float(trace.attrs["reach"]))
    dips = [middle - low] * (bottom < rows.first) + [high - middle] * (top > rows.last)
    most = min((max(dip, 1.0) for dip in dips), default=math.inf)
    if FWHM not in trace:
        return min(max(own, min(wished, space)), most)
    wide = wished * trace[FWHM].values / float(trace.attrs[FWHM])
    return np.asarray(np.minimum(np.maximum(own, np.minimum(wide, space)), most))


class Neighbour(NamedTuple):
    """Another spectrum whose light may reach into an aperture.

    Parameters
    ----------
    rows : its rows.
    trace : its trace, of `fit_trace`.
    half_height : half-width of its own aperture, rows, a number or (x).
    """

    rows: Rows
    trace: xr.Dataset
    half_height: float | Values


def neighbours_of(image: xr.Dataset, rows: Rows, trace: xr.Dataset) -> tuple[Neighbour, ...]:
    """Return the other spectra near enough for their wings to reach the aperture of a star.

    Parameters
    ----------
    image : counts (y, x), computed, as for `fit_trace`.
    rows : the rows of the star, and the others.
    trace : of the star. A neighbour too faint to be traced is taken to be parallel to it.
    """
    reach = _WINGS_REACH * float(trace.attrs[FWHM])
    star = trace[STAR if STAR in trace else CENTER]
    low, high = rows.first - reach, rows.last + reach
    found = []
    for run in rows.others:
        if run.state == "sharp" or run.last < low or run.first > high:
            continue
        rest = (Run(rows.first, rows.last), *(other for other in rows.others if other is not run))
        own = replace(rows, first=run.first, last=run.last, others=rest, rule="robust")
        line = fit_trace(image, own)
        if line.attrs["trace"] != "fit":
            line = line.assign({CENTER: line[CENTER] + star - finite_median(star.values)})
            line.attrs[FWHM] = trace.attrs[FWHM]
        found.append(Neighbour(own, line, half_height_of(own, line)))
    return tuple(found)


def _rows_about_star(image: xr.Dataset, rows: Rows) -> slice:
    """Return the rows of a star and of the background beside it, as positions.

    Spectra that touch the star's rows are inside, since the background lies beyond them.
    """
    low, high = int(image[Y][0]), int(image[Y][-1])
    margin = max(_LEAST_MARGIN, rows.n_rows)
    bottom, top = touching_rows(rows)
    first, last = max(bottom - margin, low), min(top + margin, high)
    for run in rows.others:
        if run.last < bottom:
            first = max(first, min((run.last + bottom) // 2 + 1, bottom))
        elif run.first > top:
            last = min(last, max((run.first + top) // 2, top))
    return slice(first - low, last - low + 1)


def touching_rows(rows: Rows) -> tuple[int, int]:
    """Return first and last row of a spectrum and of those that touch it without a dark row.

    Examples
    --------
    >>> from arrayred.model import Run
    >>> touching_rows(Rows(20, 25, 6, 0.0, 1.0, 4.0, 4.0, (Run(26, 30), Run(31, 33), Run(40, 44))))
    (20, 33)
    """
    first, last = rows.first, rows.last
    for run in sorted(rows.others, key=lambda run: run.first):
        last = max(last, run.last) if run.first == last + 1 else last
    for run in sorted(rows.others, key=lambda run: -run.last):
        first = min(first, run.first) if run.last == first - 1 else first
    return first, last


def _find_trace(image: xr.Dataset, rows: Rows, span: slice, most_order: int) -> _TraceFound:
    """Return the trace on a window, with the largest number of bins that have enough flux."""
    counts, variance, good = pixels_of_rows(image, span)
    first = rows.first - int(image[Y][0]) - span.start
    own = first, first + rows.n_rows - 1
    bottom, top = (row - int(image[Y][0]) - span.start for row in touching_rows(rows))
    beside = background_rows_beside((bottom, top), counts.shape[0])
    place = np.linspace(-1.0, 1.0, counts.shape[1])
    bins = bin_columns(counts, variance, good, _BIN_COUNTS[0], beside)
    lean, upright = trace_tilt(bins, min(_STEEPEST_TILT, counts.shape[0] / 2))
    limits = (own[0] if bottom < own[0] else 0, own[1] if top > own[1] else len(upright) - 1)
    light = _light_between(upright[np.newaxis], limits, np.zeros(1))[0]
    given = rows.rule == "given"
    if given and not _has_peak(upright, bins, own):
        return _straight_trace(own, place.size)
    middle, sigma = peak_of(light, within=own if given or bottom < top - rows.n_rows + 1 else None)
    reach = _light_extent(light, middle, beside)
    for n_bins in _BIN_COUNTS:
        if n_bins != _BIN_COUNTS[0]:
            bins = bin_columns(counts, variance, good, n_bins, beside)
        bins = bins._replace(light=_light_between(bins.light, limits, lean * bins.middle))
        found = find_centroids(bins, middle + lean * bins.middle, sigma)
        fit = fit_polynomial(bins.middle, found, _LEAST_SNR, most_order)
        if fit is None:
            continue
        found = find_centroids(bins, evaluate_trace(fit.coefficients, bins.middle), sigma)
        fit = fit_polynomial(bins.middle, found, _LEAST_SNR, most_order) or fit
        center, n_used = evaluate_trace(fit.coefficients, place), int(np.count_nonzero(fit.used))
        if given and not own[0] - 0.5 <= finite_median(center) <= own[1] + 0.5:
            continue
        position = evaluate_trace(fit.coefficients, bins.middle)
        widths = widths_along(bins, position, width_of(bins, position, sigma), place.size)
        return _TraceFound(center, n_used, fit.rms, fit.coefficients.size - 1, widths, reach)
    if given:
        return _straight_trace(own, place.size)
    flat = np.add.reduce(bins.light, axis=0) / len(bins.light)
    middle, sigma = peak_of(flat)
    return _TraceFound(np.full(place.size, middle), 0, 0.0, 0, Widths(sigma), math.inf)


class StarInRows(NamedTuple):
    """A star among touching ones.

    Parameters
    ----------
    peak, dip : position of its peak, and of the dip above it.
    height : of its peak.
    pair : two stars that its light is of, too near to each other to be parted.
    """

    peak: int
    dip: int
    height: float
    pair: Pair | None = None


_LEAST_PARTED, _LEAST_PARTED_TWINS, _TWINS = 0.9, 1.2, 0.85
"""Distance from which two stars are parted, FWHM: below 0.7 a joint fit of their fluxes is unsure
by more than a factor of two, and a skewed star looks like two. From 1.2 where one has 0.85 of the
flux of the other or more: a star that trailed or is out of focus looks like two equal ones up to a
FWHM apart."""


def stars_in_rows(image: xr.Dataset, span: slice, own: tuple[int, int]) -> list[StarInRows]:
    """Return the stars in a run of rows, parted at the dips of its upright profile, from below.

    Parameters
    ----------
    image : counts (y, x), computed; `variance` and `dq` are used where it has them.
    span : the rows and some beside them, as positions.
    own : first and last position in the span that hold light; the background is beyond.

    Returns
    -------
    stars : at least one, with positions in the span, in the middle column where they are tilted.
    """
    counts, variance, good = pixels_of_rows(image, span)
    beside = background_rows_beside(own, len(counts))
    bins = bin_columns(counts, variance, good, _BIN_COUNTS[0], beside)
    lean, tilted = trace_tilt(bins, min(_STEEPEST_TILT, len(counts) / 2))
    middle, sigma = peak_of(tilted, within=own)
    found = find_centroids(bins, middle + lean * bins.middle, sigma)
    fit = fit_polynomial(bins.middle, found, _LEAST_SNR, _MOST_ORDER)
    trace = middle + lean * bins.middle
    center = middle
    if fit is not None:
        trace = evaluate_trace(fit.coefficients, bins.middle)
        center = float(evaluate_trace(fit.coefficients, np.zeros(1))[0])
    upright = np.sort(shift_rows(bins.light, trace - center), axis=0)
    n = max(len(upright) - _BINS_OF_TRACKS, 1)
    light, noise = np.add.reduce(upright[:n], axis=0) / n, _mean_of_bins(bins)[1]
    seen = [slice(None), *(slice(i, i + _BINS_SEEN) for i in range(0, len(trace), _BINS_SEEN))]
    dips = any(len(parts_at_dips(*_mean_of_bins(bins, part))) > 1 for part in seen)
    stars = [(int(np.argmax(light)), len(light))]
    stars = parts_at_dips(light, noise) if dips else stars
    pair = fit_pair(_stack_of_bins(bins, trace, own), FWHM_PER_SIGMA * sigma)
    if len(stars) > 1 or pair is None:
        return [StarInRows(*part, float(light[part[0]])) for part in stars]
    least = _LEAST_PARTED_TWINS if pair.ratio > _TWINS else _LEAST_PARTED
    if pair.apart < least:
        return [StarInRows(*stars[0], float(light[stars[0][0]]), pair)]
    low, high = sorted((pair.brighter, pair.fainter))
    peaks = [int(np.clip(round(center + one), 0, len(light) - 1)) for one in (low, high)]
    dip = max(min(peaks[0] + math.floor(pair.dip - low), peaks[1] - 1), peaks[0])
    heights = (1.0, pair.ratio) if low == pair.brighter else (pair.ratio, 1.0)
    top = float(np.max(light))
    return [
        StarInRows(peak, end, top * height)
        for peak, end, height in zip(peaks, (dip, len(light)), heights, strict=True)
    ]


def _stack_of_bins(bins: ColumnBins, trace: Values, own: tuple[int, int]) -> ColumnStack:
    """Return the profile of bins of columns about a trace (bin), in units of their flux.

    Parameters
    ----------
    bins : binned columns.
    trace : position of the star.
    own : first and last position whose light is its flux.
    """
    flux = np.maximum(np.add.reduce(bins.light[:, own[0] : own[1] + 1], axis=1), 0.0)
    weight = 1.0 / np.where(bins.variance > 0, bins.variance, np.inf)
    away = np.arange(bins.light.shape[1]) - trace[:, np.newaxis]
    return stack_columns(TracePixels(bins.light.T, weight.T, flux), away.T)


def _mean_of_bins(bins: ColumnBins, part: slice = slice(None)) -> tuple[Values, Values]:
    """Return the mean of some bins (y) and its standard deviation."""
    light, variance = bins.light[part], bins.variance[part]
    known = np.where(np.isfinite(variance), variance, 0.0)
    noise = np.sqrt(np.add.reduce(known, axis=0)) / len(light)
    return np.add.reduce(light, axis=0) / len(light), noise


def _straight_trace(own: tuple[int, int], n_columns: int) -> _TraceFound:
    """Return a trace along the middle of rows (first, last) that show no star of their own."""
    sigma = (own[1] - own[0] + 1) / 3 / FWHM_PER_SIGMA
    return _TraceFound(
        np.full(n_columns, (own[0] + own[1]) / 2), 0, 0.0, 0, Widths(sigma), math.inf
    )


def pixels_of_rows(image: xr.Dataset, span: slice) -> tuple[Values, Values | None, Flags]:
    """Return counts, variance where known, and which pixels are good, of rows as positions."""
    counts = image[COUNTS].values[span]
    variance = image[VARIANCE].values[span] if VARIANCE in image else None
    good = np.isfinite(counts)
    if DQ in image:
        good &= (image[DQ].values[span] & BAD_PIXEL) == 0
    if variance is not None:
        good &= np.isfinite(variance)
    return counts, variance, good


def background_rows_beside(own: tuple[int, int], n_rows: int) -> tuple[int, int]:
    """Return the numbers of background rows at both ends of a window about rows (first, last)."""
    below, above = own[0], n_rows - own[1] - 1
    return min(below // 2, _BACKGROUND_ROWS), min(above // 2, _BACKGROUND_ROWS)


def _light_between(light: Values, limits: tuple[int, int], shift: Values) -> Values:
    """Return bins (bin, y) without the light beyond two rows that shift with the bin (bin)."""
    n_rows = light.shape[1]
    if limits == (0, n_rows - 1):
        return light
    away = np.arange(n_rows) - shift[:, np.newaxis]
    low = limits[0] - 0.5 if limits[0] > 0 else -np.inf
    high = limits[1] + 0.5 if limits[1] < n_rows - 1 else np.inf
    return np.where((away >= low) & (away <= high), light, 0.0)


def _has_peak(upright: Values, bins: ColumnBins, own: tuple[int, int]) -> bool:
    """Return whether light has a maximum within rows, not only the wing of a neighbour.

    It must exceed the lowest rows on both sides by 4 standard deviations, up to one row beyond.
    """
    noise, last = _mean_of_bins(bins)[1], upright.size - 1
    first, stop = max(own[0] - 1, 1), min(own[1] + 1, last - 1) + 1
    seen, spread = smoothed(upright)[first - 1 : stop - 1], smoothed(noise**2)[first - 1 : stop - 1]
    if seen.size < 3:
        return False
    peak = int(np.argmax(seen[1:-1])) + 1
    dips = (int(np.argmin(seen[:peak])), peak + 1 + int(np.argmin(seen[peak + 1 :])))
    return all(
        seen[peak] - seen[dip] > _PEAK_SNR * math.sqrt((spread[peak] + spread[dip]) / 3)
        for dip in dips
    )


def _light_extent(upright: Values, middle: float, beside: tuple[int, int]) -> float:
    """Return the distance at which a profile falls to a tenth, rows; infinity where too noisy."""
    below, above = beside
    ends = np.concatenate((upright[:below], upright[upright.size - above :]))
    peak = float(upright[min(max(round(middle), 0), upright.size - 1)])
    if not peak > 0 or not ends.size or robust_std(ends) > _EDGE_NOISE_LIMIT * peak:
        return math.inf
    bright = np.flatnonzero(upright > _EDGE_FRACTION * peak)
    return max(abs(float(bright[0]) - middle), abs(float(bright[-1]) - middle)) + 0.5


# Centroids for display beside the trace: `measure_centres`.

_N_BINS = 32


def measure_centres(image: xr.Dataset, spectrum: xr.Dataset) -> xr.Dataset:
    """Measure the centroids of a star in bins of columns, near the trace of its spectrum.

    Parameters
    ----------
    image : counts (y, x) in adu or electron, computed, dispersed along x; `clean`, `variance` and
        `dq` are used where it has them.
    spectrum : `trace` (x) with the attributes `fwhm` and `half_height`, rows.

    Returns
    -------
    centres : `row`, its standard deviation `error`, and `trace` there, rows; `x` are the middles
        of the bins. Bins without enough flux are not included.

    Raises
    ------
    UsageError
        The spectrum has no trace, or another number of columns.

    Examples
    --------
    >>> import xarray as xr
    >>> y, x = np.arange(1.0, 61)[:, np.newaxis], np.arange(1.0, 401)
    >>> counts = 1000 * np.exp(-((y - 30 - x / 200) ** 2) / 8)
    >>> image = xr.Dataset({"counts": (("y", "x"), counts)}, {"y": y[:, 0], "x": x})
    >>> spectrum = xr.Dataset({"trace": ("x", 30 + x / 200)}, attrs={"fwhm": 4.7})
    >>> found = measure_centres(image, spectrum)
    >>> found.sizes["x"], float(abs(found.row - found.trace).max()) < 0.02
    (32, True)
    """
    import xarray as xr

    check_image(image)
    if "trace" not in spectrum or spectrum.sizes[X] != image.sizes[X]:
        raise UsageError(
            f"Centroids need the trace of a spectrum with {image.sizes[X]} columns, but this has "
            f"{'no trace' if 'trace' not in spectrum else spectrum.sizes[X]}",
            hint="Use the image and the spectrum extracted from it.",
        )
    center, sigma = spectrum["trace"].values, _width_of(spectrum)
    bins, lowest = _bins_about(image, center, float(spectrum.attrs.get("half_height", 4 * sigma)))
    place = np.linspace(-1.0, 1.0, center.size)
    at_bins = np.interp(bins.middle, place, center)
    found = find_centroids(bins, at_bins - lowest, sigma)
    lit = (found.snr >= _LEAST_SNR) & np.isfinite(found.variance)
    columns = np.interp(bins.middle, place, image[X].values.astype(np.float64))
    variables = {
        "row": found.position + lowest,
        "error": np.sqrt(np.maximum(found.variance, 0.0)),
        "trace": at_bins,
    }
    return xr.Dataset(
        {name: (X, value[lit], {"units": "pix"}) for name, value in variables.items()},
        {X: columns[lit]},
    )


def _bins_about(image: xr.Dataset, center: Values, half_height: float) -> tuple[ColumnBins, int]:
    """Return background-subtracted bins of the columns about a trace, and the first row.

    Parameters
    ----------
    image : counts (y, x).
    center : rows of the trace (x).
    half_height : half-width of the aperture, rows.
    """
    reach, lowest = half_height + _BACKGROUND_ROWS, int(image[Y][0])
    first = max(int(np.floor(center.min() - reach)) - lowest, 0)
    span = slice(first, max(int(np.ceil(center.max() + reach)) - lowest + 1, first + 2))
    counts = image[CLEAN if CLEAN in image else COUNTS].values[span]
    variance = image[VARIANCE].values[span] if VARIANCE in image else None
    good = np.isfinite(counts) if variance is None else np.isfinite(counts + variance)
    if DQ in image:
        good &= (image[DQ].values[span] & BAD_PIXEL) == 0
    beside = min(_BACKGROUND_ROWS // 2, counts.shape[0] // 4)
    return bin_columns(counts, variance, good, _N_BINS, (beside, beside)), first + lowest


def _width_of(spectrum: xr.Dataset) -> float:
    """Return the width (standard deviation) of the star, rows."""
    half = float(spectrum.attrs.get("half_height", 6.0))
    return float(spectrum.attrs.get("fwhm", half * 2 / 3)) / FWHM_PER_SIGMA


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
