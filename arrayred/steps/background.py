"""The sky beside a star, and what of it lies under the star: `fit_sky`, `sky_at`.

The bands are whole rows of the image, the same for all columns, clear of the trace wherever it
goes. They do not follow a tilted trace: the sky is a matter of the slit, not of the star. Rows that
are the same everywhere can be named in a card, leave the pattern of a detector's rows the same in
all columns, and cost nothing: of a trace that tilts by 8 rows the bands keep 4 rows more distance,
and a gradient is fitted at the distance that each pixel has from the trace of its column.

They begin `offset` rows beyond the aperture, which on both sides of a bright star is where its
wings are below a thousandth of a per cent. An image with no room for that gets nearer bands, not
lower ones, down to twice the seeing (of a Moffat's light 0.03 % is taken for sky then). A band of
100 rows on each side, four times as many as most apertures have, leaves 2 % of the best S/N to the
noise of the sky; higher ones would gain less than the curvature of slit and lines costs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import SkyBandError
from arrayred.kernels import sky as kernel
from arrayred.kernels.sky import Model
from arrayred.model import (
    BAD_PIXEL,
    COUNTS,
    DQ,
    SATURATED,
    VARIANCE,
    Rows,
    X,
    Y,
    check_image,
    note_history,
    remark,
)
from arrayred.steps.sky import within_spectrum

if TYPE_CHECKING:
    import xarray as xr

Labels = NDArray[np.int64]
RowRange = tuple[int, int]

_TIMES_APERTURE = 4
_FEWEST, _LOWEST, _HIGHEST = 8, 40, 100
"""Rows of a side: fewer make no side; what a low aperture gets; what suffices for any."""
_WIDTHS_AWAY = 2.0
"""How many widths of the star its sky keeps from any star, at least."""
_WINGS_AWAY = 5.0
"""The same in widths of the star's edge, from half its peak to a tenth."""


class Bands(NamedTuple):
    """The rows (FITS numbers) of the sky below and above a spectrum; either may be empty."""

    below: Labels
    above: Labels


def fit_sky(
    image: xr.Dataset,
    trace: xr.Dataset,
    rows: Rows,
    *,
    method: Model = "linear",
    offset: int = 50,
    band: RowRange | None = None,
    half_height: float,
) -> xr.Dataset:
    """Fit the sky of each column from bands of rows on both sides of a spectrum.

    Parameters
    ----------
    image : counts (y, x) in adu or electron, settled, dispersed along x; `variance` and `dq` where
        it has them: what is bad, saturated or not finite is left out.
    trace : `center` (x), the star's row; its attribute `fwhm`, rows, tells how far the wings reach.
    rows : the rows of the spectrum, and the other spectra on the image, which are kept clear of.
    method : the clipped "mean", the "median", or a "linear" fit along the rows of a column.
    offset : rows from the edge of the aperture to the band; fewer where the image has no room.
    band : first and last row of the sky, where it is not to be chosen. If it holds the spectrum
        too, what is beside that counts.
    half_height : how far from the trace the aperture reaches, rows.

    Returns
    -------
    sky : `level` (x) and `slope` (x, per row) about the trace, `variance` (x) of the level, in the
        image's unit or its square; a column without a good pixel has the sky of its neighbours and
        the variance of all levels. Attributes: `sky_below` and `sky_above`, first and last row of
        each side that there is; `sky_rows_used`, how many rows counted; `sky_model`, the method
        really used (one side alone tells no slope); `sky_scatter`, what the pixels scatter by over
        what the variance predicts; `sky_lean`, by how many columns per row its lines lean.

    Raises
    ------
    SkyBandError
        There is no room for a band, no good pixel in it, or the given one lies off the image or
        wholly on the spectrum.

    Examples
    --------
    >>> import xarray as xr
    >>> y, x = np.arange(1, 101), np.arange(1, 21)
    >>> counts = np.broadcast_to(100.0 + 0.5 * (y[:, np.newaxis] - 50), (100, 20))
    >>> image = xr.Dataset({"counts": (("y", "x"), counts)}, {"y": y, "x": x})
    >>> trace = xr.Dataset({"center": ("x", np.full(20, 50.0))}, {"x": x}, {"fwhm": 3.0})
    >>> rows = Rows(47, 53, 7, 0.0, 1.0, 4.0, 4.0)
    >>> sky = fit_sky(image, trace, rows, half_height=3.5)
    >>> sky.attrs["sky_below"], sky.attrs["sky_above"], round(float(sky.level[0]), 6)
    ((1, 40), (61, 100), 100.0)
    """
    import xarray as xr

    check_image(image)
    chosen = _chosen(image, trace, rows, offset, half_height) if band is None else None
    bands = chosen or _given(image, trace, rows, band or (0, 0), half_height)
    used: Model = method if min(map(len, bands)) > 0 or method != "linear" else "mean"
    pixels, noise = _pixels(image, trace, bands)
    fit = kernel.fit_sky(pixels, noise, used)
    if not np.isfinite(fit.level).all():
        raise SkyBandError(
            f"None of the {len(pixels.pixels)} rows of sky has a good pixel",
            value=band,
            hint="Give other --sky-rows A:B, or --no-sky.",
        )
    units = image[COUNTS].attrs.get("units", "adu")
    sky = xr.Dataset(
        {
            "level": (X, fit.level, {"units": units, "long_name": "sky of a row at the trace"}),
            "slope": (X, fit.slope, {"units": units, "long_name": "change of the sky per row"}),
            VARIANCE: (X, fit.variance, {"units": f"{units}2", "long_name": "variance of level"}),
        },
        coords={X: image[X]},
        attrs=_facts(bands, fit, used),
    )
    return _told(sky, bands, method, used)


def sky_at(sky: xr.Dataset, trace: xr.Dataset, y: Labels) -> NDArray[np.float64]:
    """Return the sky on some rows of each column.

    Parameters
    ----------
    sky : what `fit_sky` found.
    trace : `center` (x).
    y : FITS numbers of rows.

    Returns
    -------
    values (y, x), in the unit of the sky's level.
    """
    distance = np.asarray(y)[:, np.newaxis] - trace["center"].values
    return np.asarray(sky["level"].values + sky["slope"].values * distance)


def edges_of(trace: xr.Dataset, rows: Rows, half_height: float) -> RowRange:
    """Return the lowest and the highest row that the aperture reaches in any column."""
    center = trace["center"].values
    low = math.floor(float(np.min(center)) - half_height + 0.5)
    high = math.ceil(float(np.max(center)) + half_height - 0.5)
    return min(low, rows.first), max(high, rows.last)


def clearance(trace: xr.Dataset, rows: Rows) -> int:
    """Return how many rows the sky keeps from the edge of a star, at least.

    Light that ends within few rows, as that of a slit filled by a lamp or a nebula does, needs less
    than its width tells: five times the rows from half its peak to a tenth, where the trace tells
    them as `reach`, are twice the width of a bell curve.
    """
    fwhm = trace.attrs.get("fwhm", math.nan)
    width = float(fwhm) if fwhm is not None and math.isfinite(fwhm) else rows.n_rows / 3
    away = _WIDTHS_AWAY * width
    if "reach" in trace.attrs:
        away = min(away, _WINGS_AWAY * (float(trace.attrs["reach"]) - width / 2))
    return max(math.ceil(away), 3)


def _chosen(
    image: xr.Dataset, trace: xr.Dataset, rows: Rows, offset: int, half_height: float
) -> Bands:
    """Return bands on both sides, or on that which has room."""
    low, high = edges_of(trace, rows, half_height)
    near = clearance(trace, rows)
    numbers = image[Y].values
    dark = numbers[~_near_others(numbers, rows, near)]
    height = round(_TIMES_APERTURE * min(high - low + 1, 2 * half_height + 1))
    wanted = min(max(height, _LOWEST), _HIGHEST)
    below = _side(low - dark[dark < low][::-1], min(near, offset), offset, wanted)
    above = _side(dark[dark > high] - high, min(near, offset), offset, wanted)
    if max(below.size, above.size) == 0:
        raise SkyBandError(
            f"There is no room for a sky band beside the spectrum of rows {low}:{high}: "
            f"{_FEWEST} rows are needed, {min(near, offset)} rows or more away from it and from "
            f"other spectra (the image has rows {numbers[0]}:{numbers[-1]})",
            value=offset,
            hint="Give --sky-rows A:B, or --no-sky.",
        )
    return Bands((low - below)[::-1], high + above)


def _near_others(numbers: Labels, rows: Rows, near: int) -> NDArray[np.bool_]:
    """Return which rows lie on another spectrum or near it."""
    bright = np.zeros(numbers.size, np.bool_)
    for run in rows.others:
        bright |= (numbers >= run.first - near) & (numbers <= run.last + near)
    return bright


def _side(away: Labels, near: int, offset: int, wanted: int) -> Labels:
    """Return which distances from the aperture make a band, ascending; none if too few.

    Parameters
    ----------
    away : distances of the dark rows of one side, ascending.
    near, offset : rows must be so far away, and should be.
    wanted : how many are enough.

    Examples
    --------
    >>> _side(np.arange(1, 100), 4, 50, 10), _side(np.arange(1, 24), 4, 50, 9)
    (array([50, 51, 52, 53, 54, 55, 56, 57, 58, 59]), array([15, 16, 17, 18, 19, 20, 21, 22, 23]))
    """
    within = away[(away >= near) & (away < offset + 2 * wanted)]
    far = within[within >= offset]
    found = far[:wanted] if far.size >= wanted else within[-wanted:]
    return found if found.size >= _FEWEST else found[:0]


def _given(
    image: xr.Dataset, trace: xr.Dataset, rows: Rows, band: RowRange, half_height: float
) -> Bands:
    """Return the parts of a given band beside the spectrum."""
    numbers = image[Y].values
    if not numbers[0] <= band[0] <= band[1] <= numbers[-1]:
        raise SkyBandError(
            f"The sky rows {band[0]}:{band[1]} are off the image "
            f"(it has rows {numbers[0]}:{numbers[-1]})",
            value=band,
            hint="Give rows that exist, both ends included.",
        )
    low, high = edges_of(trace, rows, half_height)
    inside = numbers[(numbers >= band[0]) & (numbers <= band[1])]
    bands = Bands(inside[inside < low], inside[inside > high])
    if max(map(len, bands)) == 0:
        raise within_spectrum(band, (low, high))
    return bands


def _pixels(
    image: xr.Dataset, trace: xr.Dataset, bands: Bands
) -> tuple[kernel.Band, NDArray[np.float64] | None]:
    """Return the pixels of the bands, and the noise of one of each column where it is known."""
    numbers = np.concatenate(bands)
    where = numbers - int(image[Y][0])
    pixels = np.ascontiguousarray(image[COUNTS].values[where], np.float64)
    good = np.isfinite(pixels)
    if DQ in image:
        good &= (image[DQ].values[where] & (BAD_PIXEL | SATURATED)) == 0
    noise = None
    if VARIANCE in image:
        variance = image[VARIANCE].values[where].astype(np.float64)
        good &= np.isfinite(variance)
        noise = np.sqrt(kernel.column_medians(variance, good))
    distance = numbers[:, np.newaxis] - trace["center"].values
    return kernel.Band(pixels, good, distance, len(bands.below)), noise


def _facts(bands: Bands, fit: kernel.SkyFit, used: Model) -> dict[str, Any]:
    sides = {"sky_below": bands.below, "sky_above": bands.above}
    facts: dict[str, Any] = {
        name: (int(side[0]), int(side[-1])) for name, side in sides.items() if side.size
    }
    facts |= {"sky_rows_used": fit.n_rows, "sky_model": used, "sky_lean": fit.lean}
    return facts | ({"sky_scatter": fit.scatter} if math.isfinite(fit.scatter) else {})


def _told(sky: xr.Dataset, bands: Bands, method: Model, used: Model) -> xr.Dataset:
    """Return the sky with what its user should know of its bands."""
    spans = [f"{side[0]} to {side[-1]}" for side in bands if side.size]
    if len(spans) == 1:
        model = "" if used == method else f": a {used}, since one side tells no slope"
        sky = remark(sky, f"the spectrum's sky is from one side, rows {spans[0]}{model}")
    return note_history(sky, f"sky under the spectrum: {used} of rows {' and '.join(spans)}")
