"""Follow a star's light along the columns: `fit_trace`, and tell how far an aperture reaches.

A spectrograph's spectra lean and bend by some rows: a straight band of rows then is either too
narrow at both ends or holds more sky than it needs. Where the light is too faint to be followed,
the trace is straight, through the middle of the light, and a remark says so.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels import trace as kernel
from arrayred.kernels.noise import finite_median
from arrayred.kernels.rows import robust_std
from arrayred.model import (
    BAD_PIXEL,
    COUNTS,
    DQ,
    VARIANCE,
    Rows,
    X,
    Y,
    check_image,
    note_history,
    remark,
)

if TYPE_CHECKING:
    import xarray as xr

Values = NDArray[np.float64]

CENTER, STAR = "center", "star"
_MOST_ORDER = 3
_LEAST_SNR = 3.0
_BINS = (32, 16, 8)
"""How many bins are tried: fewer have more light each."""
_SLOPE_ROWS = 12.0
"""The steepest lean that is looked for, rows from the middle to the last column."""
_REACH = 1.5
"""How many widths an aperture reaches at least: all but 0.04 % of a bell curve."""
_FAINT = 0.05
"""Of the peak: with more noise than that, the light's edge is not to be seen."""
_EDGE = 0.1
_BESIDE = 12
"""Rows of background on each side of the star, at most."""


class _Found(NamedTuple):
    """A trace on a window: its centre (x) by position, the bins used, rms, order, width, reach."""

    center: Values
    n_bins: int
    rms: float
    order: int
    sigma: float
    reach: float


def fit_trace(
    image: xr.Dataset, rows: Rows, *, straight: bool = False, order: int | None = None
) -> xr.Dataset:
    """Return the row of a star's light as a smooth function of the column.

    Parameters
    ----------
    image : counts (y, x) in adu or electron, settled, dispersed along x; `variance` and `dq` count
        where it has them.
    rows : where the star was found.
    straight : do not follow it: the centre is the middle of the rows.
    order : of the polynomial; None: as low as does, 3 at most.

    Returns
    -------
    trace : `center` (x), float64, FITS row numbers. Attributes: `trace`, "fit" or "straight";
        `tilt`, by how many rows it rises from the first column to the last; `fwhm` of the light
        across it, rows; `reach`, rows to where the light falls to a tenth of its peak, if that is
        to be seen; `trace_rms`, the scatter of the bins about it, rows; `trace_order`; `n_bins`,
        how many bins of columns had light enough. A remark where the star is too faint. A straight
        trace has `star` (x) as well: where the light is, for the profile.

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
    span = _window(image, rows)
    found = _find(image, rows, span, _MOST_ORDER if order is None else order)
    star = found.center + span.start + lowest
    center = np.full(star.size, (rows.first + rows.last) / 2) if straight else star
    attrs = {"units": "pix", "long_name": "row of the star's light"}
    trace = xr.Dataset({CENTER: (X, center, attrs)}, {X: image[X]}).assign_attrs(
        trace="fit" if found.n_bins and not straight else "straight",
        tilt=float(center[-1] - center[0]),
        fwhm=kernel.FWHM_PER_SIGMA * found.sigma,
        trace_order=0 if straight else found.order,
        n_bins=0 if straight else found.n_bins,
    )
    if found.n_bins and not straight:
        trace.attrs["trace_rms"] = found.rms
    if math.isfinite(found.reach):
        trace.attrs["reach"] = found.reach
    if straight:
        trace = trace.assign({STAR: (X, star, attrs)})
    if straight or found.n_bins:
        told = f"traced in {found.n_bins} bins: order {found.order}, rms {found.rms:.3f} rows"
        return note_history(trace, "rows taken to be straight" if straight else told)
    return remark(trace, "the star is too faint to be traced: its rows were taken to be straight")


def half_height_of(rows: Rows, trace: xr.Dataset) -> float:
    """Return how far from the trace an aperture reaches, rows.

    As far as the rows do that were found, less what they owe to the lean of the trace; at least 1.5
    widths of the light, but not where it ends earlier, as that of a slit does, nor nearer to
    another spectrum than to the star's own rows. Rows that were given are not left.

    Parameters
    ----------
    rows : what was found or given.
    trace : of `fit_trace`.

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
    low, high = rows.first - 0.5, rows.last + 0.5
    if rows.rule == "given":
        inside = min(middle - low, high - middle)
        return inside if inside >= float(trace.attrs["fwhm"]) / 2 else rows.n_rows / 2
    own = max((rows.n_rows - lean) / 2, 1.0)
    wished = _REACH * float(trace.attrs["fwhm"])
    if "reach" in trace.attrs:
        wished = min(wished, _REACH * float(trace.attrs["reach"]))
    free = [middle - (run.last + rows.first) / 2 for run in rows.others if run.last < rows.first]
    free += [(run.first + rows.last) / 2 - middle for run in rows.others if run.first > rows.last]
    return max(own, min([wished, *(space - lean / 2 for space in free)]))


def _window(image: xr.Dataset, rows: Rows) -> slice:
    """Return where a star and the background beside it lie, as positions of rows."""
    low, high = int(image[Y][0]), int(image[Y][-1])
    margin = max(12, rows.n_rows)
    first, last = max(rows.first - margin, low), min(rows.last + margin, high)
    for run in rows.others:
        if run.last < rows.first:
            first = max(first, min((run.last + rows.first) // 2 + 1, rows.first))
        elif run.first > rows.last:
            last = min(last, max((run.first + rows.last) // 2, rows.last))
    return slice(first - low, last - low + 1)


def _find(image: xr.Dataset, rows: Rows, span: slice, most_order: int) -> _Found:
    """Return the trace on a window, measured in as many bins of columns as have light."""
    counts = image[COUNTS].values[span]
    variance = image[VARIANCE].values[span] if VARIANCE in image else None
    good = np.isfinite(counts)
    if DQ in image:
        good &= (image[DQ].values[span] & BAD_PIXEL) == 0
    if variance is not None:
        good &= np.isfinite(variance)
    below = rows.first - int(image[Y][0]) - span.start
    above = counts.shape[0] - below - rows.n_rows
    beside = min(below // 2, _BESIDE), min(above // 2, _BESIDE)
    place = np.linspace(-1.0, 1.0, counts.shape[1])
    bins = kernel.binned(counts, variance, good, _BINS[0], beside)
    lean, upright = kernel.lean_of(bins, min(_SLOPE_ROWS, counts.shape[0] / 2))
    middle, sigma = kernel.peak_of(upright)
    reach = _reach(upright, middle, beside)
    for n_bins in _BINS:
        if n_bins != _BINS[0]:
            bins = kernel.binned(counts, variance, good, n_bins, beside)
        found = kernel.centres(bins, middle + lean * bins.middle, sigma)
        fit = kernel.curve(bins.middle, found, _LEAST_SNR, most_order)
        if fit is None:
            continue
        found = kernel.centres(bins, kernel.at(fit.coefficients, bins.middle), sigma)
        fit = kernel.curve(bins.middle, found, _LEAST_SNR, most_order) or fit
        sigma = kernel.width_of(bins, kernel.at(fit.coefficients, bins.middle), sigma)
        center, n_used = kernel.at(fit.coefficients, place), int(np.count_nonzero(fit.used))
        return _Found(center, n_used, fit.rms, fit.coefficients.size - 1, sigma, reach)
    flat = np.add.reduce(bins.light, axis=0) / len(bins.light)
    middle, sigma = kernel.peak_of(flat)
    return _Found(np.full(place.size, middle), 0, 0.0, 0, sigma, math.inf)


def _reach(upright: Values, middle: float, beside: tuple[int, int]) -> float:
    """Return how far from its middle light falls to a tenth; infinity where noise hides it."""
    below, above = beside
    ends = np.concatenate((upright[:below], upright[upright.size - above :]))
    peak = float(upright[min(max(round(middle), 0), upright.size - 1)])
    if not peak > 0 or not ends.size or robust_std(ends) > _FAINT * peak:
        return math.inf
    bright = np.flatnonzero(upright > _EDGE * peak)
    return max(abs(float(bright[0]) - middle), abs(float(bright[-1]) - middle)) + 0.5
