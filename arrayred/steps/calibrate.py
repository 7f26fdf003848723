"""Calibrate frames: overscan, bias, dark, flat field and units."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from arrayred.bands import map_frames
from arrayred.errors import InputError, MismatchError, UnknownGainError, UsageError
from arrayred.kernels.combine import difference, median
from arrayred.kernels.rows import robust_std
from arrayred.model import (
    BAD,
    BAD_PIXEL,
    CLEAN,
    COUNTS,
    DQ,
    FRAME,
    VARIANCE,
    Section,
    X,
    Y,
    add_history,
    check_cube,
    check_image,
    dq_attrs,
    require_same_pixels,
)

if TYPE_CHECKING:
    import xarray as xr


def subtract_dark(cube: xr.Dataset, dark: xr.Dataset) -> xr.Dataset:
    """Subtract a master dark from every frame, in float64.

    Parameters
    ----------
    cube : counts (frame, y, x) in adu or electron, eager or chunked.
    dark : counts (y, x) in adu or electron; the exposures have been matched before.

    Returns
    -------
    The cube with calibrated counts (frame, y, x), float64, as lazy as it came.

    Raises
    ------
    MismatchError
        The two do not hold the same pixels of a detector.
    """
    check_cube(cube)
    require_same_pixels(cube, dark)
    counts = cube[COUNTS].copy(
        data=map_frames(cube[COUNTS].data, difference, dark[COUNTS].data, keeps_frames=True)
    )
    return add_history(
        cube.assign({COUNTS: counts}), f"{dark.attrs.get('kind', 'dark')} subtracted"
    )


def adapt_dark(
    dark: xr.Dataset,
    bias: xr.Dataset | None = None,
    *,
    has_bias: bool = True,
    keep_bias: bool = True,
    factor: float = 1.0,
) -> xr.Dataset:
    """Return a dark scaled to another exposure, with its bias added or subtracted.

    Parameters
    ----------
    dark : counts (y, x), computed.
    bias : counts (y, x), computed; not needed if neither the dark nor the result contains a bias.
    has_bias : the dark still contains the bias.
    keep_bias : the result contains the bias.
    factor : requested exposure over that of the dark: the dark current grows with time, the bias
        does not, so that the result is bias + (dark - bias) * factor.

    Raises
    ------
    UsageError
        The bias is needed and is not given.
    MismatchError
        The two do not hold the same pixels of a detector.
    """
    check_image(dark)
    if bias is None and (has_bias or keep_bias):
        raise UsageError("A dark with a bias cannot be scaled without it", hint="Give the bias.")
    if bias is not None:
        require_same_pixels(dark, bias)
    planes = {}
    for name in (COUNTS, CLEAN):
        if name in dark:
            current, level = dark[name].values, np.zeros(1)
            if bias is not None:
                level = bias[name if name in bias else COUNTS].values
            current = (current - level if has_bias else current) * factor
            planes[name] = dark[name].copy(data=current + level if keep_bias else current)
    share = float(keep_bias) - factor * float(has_bias)
    told = dark.assign(planes).assign_attrs(_adapted_noise(dark, bias, factor, share))
    if has_bias != keep_bias:
        told = add_history(told, "bias added" if keep_bias else "bias subtracted")
    return told if factor == 1.0 else add_history(told, f"dark current scaled by {factor:g}")


def _adapted_noise(
    dark: xr.Dataset, bias: xr.Dataset | None, factor: float, share: float
) -> dict[str, float]:
    """Return the noise per dark frame of factor x dark + share x bias, where known."""
    masters = [dark] if bias is None or share == 0.0 else [dark, bias]
    if any("noise" not in one.attrs or "n_frames" not in one.coords for one in masters):
        return {}
    n_darks = dark["n_frames"].item()
    weights = (factor, share)
    variance = sum(
        (weight * one.attrs["noise"]) ** 2 * n_darks / one["n_frames"].item()
        for weight, one in zip(weights, masters, strict=False)
    )
    return {"noise": float(np.sqrt(variance))}


# Overscan levels: one level per row or column of each frame, and its subtraction.
#
# The mean excludes the lowest and the highest tenth of the pixels, so that a cosmic ray or a hot
# column has no effect. Of normal noise it keeps 97 % of the information of all pixels, where a
# median keeps 65 % (the level of 50 pixels is then known to 0.144 instead of 0.176 of the noise of
# one). It is computed row by row, so that no number depends on where a band of rows ends.

Block = NDArray[Any]
Levels = NDArray[np.float64]

_LEFT_OUT = 0.1


def overscan_levels(strip: Block, method: str = "mean") -> Levels:
    """Return the level along the last axis of an overscan strip, adu.

    Parameters
    ----------
    strip : counts (..., n), any real dtype; NaN is missing.
    method : "mean", without the lowest and the highest tenth of the values, or "median".

    Returns
    -------
    levels (...), float64; NaN where all values are missing.

    Examples
    --------
    >>> overscan_levels(np.array([[10, 11, 10, 11, 10, 11, 10, 11, 10, 900]], dtype=np.uint16))
    array([10.5])
    """
    ordered = np.sort(np.asarray(strip, np.float64), axis=-1)
    found = _trimmed_mean(ordered, method)
    for spoilt in zip(*np.nonzero(np.isnan(found)), strict=True):
        present = ordered[spoilt][~np.isnan(ordered[spoilt])]
        found[spoilt] = _trimmed_mean(present[np.newaxis], method)[0] if present.size else np.nan
    return found


def _trimmed_mean(ordered: Block, method: str) -> Levels:
    """Return the mean of sorted values (..., n) without the lowest and highest ones."""
    n = ordered.shape[-1]
    cut = (n - 1) // 2 if method == "median" else int(_LEFT_OUT * n)
    return np.asarray(np.mean(np.ascontiguousarray(ordered[..., cut : n - cut]), axis=-1))


def subtract_row_levels(block: Block, *, first: int, stop: int, method: str) -> Levels:
    """Subtract from each row of frames the level of its overscan columns.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype.
    first, stop : the columns of the overscan, positions from 0, half-open.
    method : as for `overscan_levels`.

    Returns
    -------
    counts (frame, y, x), float64.

    Examples
    --------
    >>> subtract_row_levels(np.array([[[9, 9, 12]]]), first=0, stop=2, method="median")
    array([[[0., 0., 3.]]])
    """
    found = overscan_levels(block[..., first:stop], method)
    return np.subtract(block, found[..., np.newaxis], dtype=np.float64)


def column_levels(strip: Block, *, method: str) -> Levels:
    """Return the level of every column of a strip (frame, y, x) of overscan rows: (frame, 1, x)."""
    return overscan_levels(np.swapaxes(strip, -1, -2), method)[..., np.newaxis, :]


# Flat field: scaled frames, spectrum of the lamp, division.
#
# The spectrum of the lamp (its colour) is a cubic spline of sixteen pieces through the logarithms
# of the column levels, refitted without columns that deviate by more than four robust standard
# deviations. Sixteen pieces follow a lamp that falls to a twentieth, or a filter's edge over an
# eighth of the columns, to 0.25 %, where twelve are off by 0.6 %; thirty-two would follow the
# pixels' own scatter as well.

Image = NDArray[np.float64]
LampColour = NDArray[np.float64]

_N_SPLINE_PIECES = 16
_DEGREE = 3
_SPLINE_CLIP_SIGMA = 4.0
_N_SPLINE_FITS = 5
_EXACT = 1e-9
_MAX_COLUMN_SCATTER = 0.3
_STRIP_BYTES = 4 << 20


def illuminated_level(image: Image) -> float:
    """Return the level of the illuminated part of an image: the median of its bright pixels.

    A pixel is bright above half of the value that one pixel in twenty exceeds, so that unlit rows
    do not count.

    Examples
    --------
    >>> illuminated_level(np.array([[0.0, 0.0, 0.0, 0.0], [7.0, 8.0, 9.0, 8.0]]))
    8.0
    """
    values = image[np.isfinite(image)]
    if values.size == 0:
        return float("nan")
    return (
        float(np.median(values[values > 0.5 * _high_quantile(values)]))
        if _high_quantile(values) > 0
        else 0.0
    )


def _high_quantile(values: NDArray[np.float64]) -> float:
    """Return the 95th percentile of values."""
    position = int(0.95 * (values.size - 1))
    return float(np.partition(values, position)[position])


def scaled_median(
    block: Block, *darks: Image, levels: tuple[float, ...], which: tuple[int, ...]
) -> Image:
    """Return the median of frames, each dark-subtracted and divided by its level.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype; NaN is missing.
    darks : images (y, x).
    levels : the level of each frame after its dark is subtracted.
    which : the position among `darks` of the dark of each frame, or -1 for none.

    Returns
    -------
    image (y, x), float64, about 1.

    Examples
    --------
    >>> block = np.array([[[30, 50]], [[50, 90]], [[10, 10]]], dtype=np.uint16)
    >>> scaled_median(block, np.array([[10.0, 10.0]]), levels=(20.0, 40.0, 10.0), which=(0, 0, -1))
    array([[1., 2.]])
    """
    n_frames, n_rows, n_columns = block.shape
    out = np.empty((n_rows, n_columns), np.float64)
    step = max(_STRIP_BYTES // (8 * n_frames * n_columns), 1)
    for first in range(0, n_rows, step):
        rows = slice(first, first + step)
        strip = block[:, rows].astype(np.float64)
        for frame, dark, level in zip(strip, which, levels, strict=True):
            if dark >= 0:
                frame -= darks[dark][rows]
            frame /= level
        out[rows] = median(strip)
    return out


def lamp_colour(image: Image) -> LampColour:
    """Return the smooth variation of a flat along its columns (x): the spectrum of the lamp.

    Parameters
    ----------
    image : a flat (y, x), dispersed along x.

    Returns
    -------
    curve (x), positive. It is fitted to the medians of the columns within the illuminated rows, so
    that a flat divided by it is 1 in the middle of the slit in every column. NaN in columns whose
    pixels scatter by more than three tenths of their level: they are not illuminated.

    Examples
    --------
    >>> lamp = 100.0 + np.arange(60.0)
    >>> bool(np.allclose(lamp_colour(np.tile(lamp, (5, 1))), lamp, rtol=1e-4))
    True
    """
    finite = np.where(np.isfinite(image), image, 0.0)
    rows = np.median(finite, axis=1)
    slit = finite[(rows > 0.5 * _high_quantile(rows)) & (rows > 0)]
    if slit.size == 0:
        return np.full(image.shape[1], np.nan)
    columns = np.median(slit, axis=0)
    scatter = 1.4826 * np.median(np.abs(slit - columns), axis=0)
    lit = np.flatnonzero((columns > 0) & (scatter < _MAX_COLUMN_SCATTER * columns))
    curve = np.full(columns.size, np.nan)
    if lit.size:
        curve[lit] = np.exp(_fit_spline(lit, np.log(columns[lit])))
    return curve


def _fit_spline(x: NDArray[Any], values: LampColour) -> LampColour:
    """Return the spline fitted to values at positions x, robust to a few outliers."""
    basis, kept = _b_splines(x), np.ones(x.size, bool)
    fitted = values
    for _ in range(_N_SPLINE_FITS):
        fitted = basis @ np.linalg.lstsq(basis[kept], values[kept], rcond=None)[0]
        off = values - fitted
        still = np.abs(off) <= max(_SPLINE_CLIP_SIGMA * robust_std(off[kept]), _EXACT)
        if np.array_equal(still, kept):
            break
        kept = still
    return np.asarray(fitted)


def _b_splines(x: NDArray[Any]) -> NDArray[np.float64]:
    """Return the cubic B-splines on equidistant knots at positions x: (x, spline), de Boor 1978."""
    pieces = int(min(_N_SPLINE_PIECES, max((np.ptp(x) + 1) // 4, 1)))
    u = (x - x.min()) / max(np.ptp(x), 1) * pieces
    knots = np.arange(-_DEGREE, pieces + _DEGREE + 1, dtype=np.float64)
    within = np.minimum(np.floor(u), pieces - 1)[:, np.newaxis]
    basis = (knots[:-1] == within).astype(np.float64)
    for degree in range(1, _DEGREE + 1):
        n = basis.shape[1] - 1
        rising = (u[:, np.newaxis] - knots[:n]) / degree
        falling = (knots[degree + 1 : degree + 1 + n] - u[:, np.newaxis]) / degree
        basis = rising * basis[:, :-1] + falling * basis[:, 1:]
    return np.asarray(basis, np.float64)


def divide_by_flat(block: Block, flat: Image) -> Block:
    """Divide counts (..., y, x) by a flat (y, x), in float64.

    Examples
    --------
    >>> divide_by_flat(np.array([[[10, 9]]], dtype=np.uint16), np.array([[1.0, 0.5]]))
    array([[[10., 18.]]])
    """
    return np.divide(block, flat, dtype=np.float64)


def quotient_variance(
    variance: Block, quotient: Block, flat: Image, of_flat: Block | None = None
) -> Block:
    """Return the variance of counts divided by a flat, float32.

    Parameters
    ----------
    variance : variance of the counts (..., y, x).
    quotient : counts / flat (..., y, x).
    flat : the divisor (y, x).
    of_flat : variance of the flat (y, x); None: the flat is taken as exact.

    Examples
    --------
    >>> variance, flat = np.array([[8.0]]), np.array([[2.0]])
    >>> quotient_variance(variance, np.array([[10.0]]), flat, np.array([[0.04]]))
    array([[3.]], dtype=float32)
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        total = variance if of_flat is None else variance + quotient**2 * of_flat
        return (total / flat**2).astype(np.float32)


# Overscan steps: `subtract_overscan`, `trim`.
#
# An overscan is read without a pixel behind it: its level is that of the electronics at that
# moment, which drifts between frames and, row by row, within one. Both steps keep the pixel numbers
# of the file, so that a row keeps its number whether or not its frame was trimmed.

Statistic = Literal["mean", "median"]


def subtract_overscan(
    cube: xr.Dataset, section: Section, *, by_row: bool = True, method: Statistic = "mean"
) -> xr.Dataset:
    """Subtract from every row (or column) of every frame the level of its own overscan.

    Parameters
    ----------
    cube : counts (frame, y, x) in adu or electron, eager or chunked.
    section : the overscan.
    by_row : one level per row, from overscan columns; else one per column, from overscan rows.
    method : "mean", without the lowest and the highest tenth of the pixels, or "median".

    Returns
    -------
    The cube with overscan-subtracted counts (frame, y, x), float64, as lazy as it came.

    Raises
    ------
    MismatchError
        The section lies outside the frames.

    Examples
    --------
    >>> import xarray as xr
    >>> pixels = np.array([[[500, 502, 611, 713], [505, 505, 615, 715]]], dtype=np.uint16)
    >>> labels = {"y": [1, 2], "x": [1, 2, 3, 4]}
    >>> cube = xr.Dataset({"counts": (("frame", "y", "x"), pixels)}, labels)
    >>> level = Section(columns=(1, 2), rows=(1, 2))
    >>> subtract_overscan(cube, level).counts.sel(x=slice(3, 4)).values
    array([[[110., 212.],
            [110., 210.]]])
    """
    check_cube(cube)
    _require_section_on_cube(cube, section)
    first, last = section.columns if by_row else section.rows
    start = first - int(cube[X if by_row else Y][0])
    stop = start + last - first + 1
    pixels = cube[COUNTS].data
    if by_row:
        kernel = partial(subtract_row_levels, first=start, stop=stop, method=method)
        pixels = map_frames(pixels, kernel, keeps_frames=True)
    else:
        pixels = np.subtract(pixels, _column_levels(pixels[:, start:stop], method), dtype=float)
    counts = cube[COUNTS].copy(data=pixels)
    what = f"columns {first} to {last}" if by_row else f"rows {first} to {last}"
    told = f"overscan of {what} subtracted ({method} of each {'row' if by_row else 'column'})"
    return add_history(cube.assign({COUNTS: counts}), told)


def _column_levels(strip: Any, method: Statistic) -> Any:
    """Return the levels (frame, 1, x) of overscan rows, as lazy as they came."""
    kernel = partial(column_levels, method=method)
    if isinstance(strip, np.ndarray):
        return kernel(strip)
    whole = strip.rechunk({1: -1})
    chunks = (whole.chunks[0], (1,), whole.chunks[2])
    return whole.map_blocks(kernel, chunks=chunks, dtype=np.float64)


def trim(cube: xr.Dataset, section: Section) -> xr.Dataset:
    """Trim a cube to its image section; rows and columns keep their numbers in the file.

    Parameters
    ----------
    cube : counts (frame, y, x).
    section : the part to keep.

    Raises
    ------
    MismatchError
        The section lies outside the frames.

    Examples
    --------
    >>> import xarray as xr
    >>> labels = {"y": [1, 2, 3], "x": [1, 2, 3, 4]}
    >>> cube = xr.Dataset({"counts": (("frame", "y", "x"), np.zeros((1, 3, 4)))}, labels)
    >>> trim(cube, Section(columns=(1, 3), rows=(2, 3))).y.values
    array([2, 3])
    """
    check_cube(cube)
    _require_section_on_cube(cube, section)
    kept = cube.sel({Y: slice(*section.rows), X: slice(*section.columns)})
    return add_history(kept, f"trimmed to {section}")


def _require_section_on_cube(cube: xr.Dataset, section: Section) -> None:
    rows, columns = cube[Y].values[[0, -1]], cube[X].values[[0, -1]]
    inside = rows[0] <= section.rows[0] and section.rows[1] <= rows[1]
    if not (inside and columns[0] <= section.columns[0] and section.columns[1] <= columns[1]):
        raise MismatchError(
            f"The section {section} was asked for, but the {cube.sizes[FRAME]} frames have "
            f"[{columns[0]}:{columns[1]},{rows[0]}:{rows[1]}]",
            value=str(section),
            hint="Mend the sections in the instrument file or the headers, or do without.",
        )


# Flat-field steps, which correct the response of the pixels: `combine_flats`, `divide_flat`.
#
# Each flat is first scaled to its own level, since lamps drift. The spectrum of the lamp along the
# dispersion is removed: a star divided by a flat that contained it would be redder by as much as
# the lamp is bluer. The flat then holds the response of single pixels and the losses along the
# slit. Vignetting along the dispersion is removed with the lamp spectrum, since the two cannot be
# separated; it stays in the star's spectrum as in one without a flat.
#
# One flat calibrates all light frames of a target, so that the combined image is divided, once: the
# same as dividing every frame, for averages and medians alike.

LOWEST_RESPONSE = 0.05
"""The response below which a pixel is bad, relative to the middle of the slit."""


def flat_level(image: xr.Dataset) -> float:
    """Return the level of the illuminated part of a dark-subtracted flat.

    Parameters
    ----------
    image : counts (y, x), computed.

    Raises
    ------
    InputError
        The level is not positive: the flat is not illuminated.
    """
    check_image(image)
    level = illuminated_level(np.asarray(image[COUNTS].values, np.float64))
    if not level > 0:
        name = str(image[FRAME].item()) if FRAME in image.coords else "a flat"
        raise InputError(
            f"There is no light in {name}: its level less its dark is {level:g}",
            value=level,
            hint="Exclude the frame.",
        )
    return level


def combine_flats(
    cube: xr.Dataset, levels: Sequence[float], darks: Sequence[xr.Dataset | None] = ()
) -> xr.Dataset:
    """Return the median of flats, each dark-subtracted and divided by its level.

    Parameters
    ----------
    cube : counts (frame, y, x), eager or chunked.
    levels : the level of each frame after its dark is subtracted (`flat_level`).
    darks : image (y, x) to subtract from each frame, or None; empty: all are dark-subtracted.

    Returns
    -------
    image : counts (y, x), float64, about 1, without a unit, as lazy as the cube came.

    Raises
    ------
    MismatchError
        A dark does not hold the same pixels.
    """
    import xarray as xr

    check_cube(cube)
    each = list(darks) or [None] * cube.sizes[FRAME]
    if len(each) != cube.sizes[FRAME] or len(levels) != cube.sizes[FRAME]:
        raise UsageError(
            f"{cube.sizes[FRAME]} flats meet {len(levels)} levels and {len(each)} darks",
            hint="Give one of each for every frame.",
        )
    different = list({id(dark): dark for dark in each if dark is not None}.values())
    for dark in different:
        require_same_pixels(cube, dark)
    which = tuple(
        next((i for i, other in enumerate(different) if other is dark), -1) for dark in each
    )
    median = partial(scaled_median, levels=tuple(levels), which=which)
    counts = map_frames(cube[COUNTS].data, median, *(dark[COUNTS].data for dark in different))
    scalars = {name: coord for name, coord in cube.coords.items() if not coord.dims}
    image = xr.Dataset(
        {COUNTS: ((Y, X), counts, {"long_name": "response relative to the middle of the slit"})},
        coords={Y: cube[Y], X: cube[X], **scalars, "n_frames": cube.sizes[FRAME]},
        attrs=cube.attrs,
    )
    kinds = dict.fromkeys(dark.attrs.get("kind", "dark") for dark in different)
    for kind in kinds:
        image = add_history(image, f"{kind} subtracted")
    return add_history(image, f"median of {cube.sizes[FRAME]} flats, each scaled to its level")


def normalise_flat(image: xr.Dataset) -> xr.Dataset:
    """Divide a flat by the spectrum of its lamp, to make a master flat.

    Parameters
    ----------
    image : a flat (y, x), computed; its coordinate `dispersion_axis`, where present, is 1 or 2. A
        `variance` is divided by the square of the lamp spectrum, which is taken as exact.

    Returns
    -------
    flat : counts (y, x), 1 in the middle of the slit, with the coordinate `bad`
        (`with_bad_pixels`); NaN where the lamp gave no signal.

    Raises
    ------
    InputError
        No column is illuminated.
    """
    check_image(image)
    pixels = np.asarray(image[COUNTS].values, np.float64)
    along_y = "dispersion_axis" in image.coords and image["dispersion_axis"].item() == 2
    curve = lamp_colour(np.ascontiguousarray(pixels.T) if along_y else pixels)
    if np.isnan(curve).all():
        raise InputError("The flats have no light", hint="Exclude them, or give --no-flat.")
    lamp = curve[:, np.newaxis] if along_y else curve
    flat = image.assign({COUNTS: image[COUNTS].copy(data=pixels / lamp)})
    if VARIANCE in image:
        variance = np.asarray(image[VARIANCE].values / lamp**2, np.float32)
        flat = flat.assign({VARIANCE: image[VARIANCE].copy(data=variance)})
    return with_bad_pixels(add_history(flat, "colour taken out"))


def with_bad_pixels(flat: xr.Dataset) -> xr.Dataset:
    """Mark the pixels of a master flat with a response below 5 % as `bad`.

    Parameters
    ----------
    flat : counts (y, x), 1 in the middle of the slit; their unit, if any, is dropped.
    """
    bad = ~(flat[COUNTS].values >= LOWEST_RESPONSE)
    attrs = {name: value for name, value in flat[COUNTS].attrs.items() if name != "units"}
    flat = flat.assign({COUNTS: (flat[COUNTS].dims, flat[COUNTS].values, attrs)})
    return flat.assign_coords({BAD: ((Y, X), bad, {"long_name": "no response to correct by"})})


def divide_flat(ds: xr.Dataset, flat: xr.Dataset) -> xr.Dataset:
    """Divide an image or every frame of a cube by a master flat, except at bad pixels.

    Parameters
    ----------
    ds : counts (..., y, x) in adu or electron, eager or chunked.
    flat : a master flat (y, x) with the coordinate `bad`, computed; its `variance`, where present,
        is propagated.

    Returns
    -------
    The same with counts divided, float64, as lazy as it came, and with `bad` (y, x). A variance
    receives the flat's contribution and is divided by the square of the flat; `dq` flags the bad
    pixels. An image without `dq` gets one if there are bad pixels.

    Raises
    ------
    MismatchError
        The two do not hold the same pixels of a detector.

    Examples
    --------
    >>> import xarray as xr
    >>> labels = {"y": [1], "x": [1, 2, 3]}
    >>> image = xr.Dataset({"counts": (("y", "x"), np.array([[100.0, 110.0, 2.0]]))}, labels)
    >>> response = xr.Dataset({"counts": (("y", "x"), np.array([[1.0, 1.1, 0.01]]))}, labels)
    >>> flat = with_bad_pixels(response)
    >>> divide_flat(image, flat).counts.values
    array([[100., 100.,   2.]])
    """
    require_same_pixels(ds, flat)
    bad = flat[BAD]
    divisor = np.where(bad.values, 1.0, flat[COUNTS].values)
    pixels = ds[COUNTS].data
    if FRAME in ds[COUNTS].dims:
        divided = map_frames(pixels, divide_by_flat, divisor, keeps_frames=True)
    else:
        divided = divide_by_flat(pixels, divisor)
    counts = ds[COUNTS].copy(data=divided)
    n_bad = int(np.count_nonzero(bad.values))
    noisy = ", whose noise was added" if VARIANCE in ds and VARIANCE in flat else ""
    told = f"divided by the flat{noisy}; {n_bad} pixels get too little light and were left"
    plane = (bad.dims, bad.values, bad.attrs)
    divided_ds = ds.assign({COUNTS: counts}).assign_coords({BAD: plane})
    return add_history(_with_divided_planes(divided_ds, divisor, flat), told)


def _with_divided_planes(
    ds: xr.Dataset, divisor: NDArray[np.float64], flat: xr.Dataset
) -> xr.Dataset:
    """Return a divided Dataset with its `clean` and variance divided, and bad pixels flagged.

    Where there is a best estimate, `clean`, the variance is that of `clean`.
    """
    if CLEAN in ds:
        ds = ds.assign({CLEAN: ds[CLEAN].copy(data=divide_by_flat(ds[CLEAN].data, divisor))})
    if VARIANCE in ds:
        known = VARIANCE in flat
        of_flat = np.where(ds[BAD].values, 0.0, flat[VARIANCE].values) if known else None
        best = ds[CLEAN if CLEAN in ds else COUNTS].data
        variance = quotient_variance(ds[VARIANCE].data, best, divisor, of_flat)
        ds = ds.assign({VARIANCE: ds[VARIANCE].copy(data=variance)})
    flags = np.where(ds[BAD].values, np.uint8(BAD_PIXEL), np.uint8(0))
    if DQ in ds:
        return ds.assign({DQ: ds[DQ].copy(data=ds[DQ].data | flags)})
    if FRAME in ds[COUNTS].dims or not flags.any():
        return ds
    return ds.assign({DQ: ((Y, X), flags, dq_attrs("flags of the pixels"))})


_ATTRS_IN_ADU = ("background_mean", "background_std", "threshold", "noise_level")


def to_electrons(ds: xr.Dataset) -> xr.Dataset:
    """Convert an image, a cube or a spectrum from adu to electrons.

    Parameters
    ----------
    ds : variables in adu or adu2, and the scalar coordinate `gain`, electrons per adu. Variables in
        electrons or other units are unchanged.

    Returns
    -------
    The same, multiplied by the gain, variances by its square; its `gain` is 1.

    Raises
    ------
    UnknownGainError
        A variable is in adu, and the gain is unknown.

    Examples
    --------
    >>> import xarray as xr
    >>> flux = xr.Dataset({"flux": ("x", [10.0, 20.0], {"units": "adu"})}, {"gain": 1.5})
    >>> to_electrons(flux).flux.values.tolist()
    [15.0, 30.0]
    """
    powers = {"adu": 1, "adu2": 2}
    found = {name: powers.get(v.attrs.get("units", ""), 0) for name, v in ds.data_vars.items()}
    if not any(found.values()):
        return ds
    if "gain" not in ds.coords:
        raise UnknownGainError.of()
    gain = float(ds["gain"].item())
    changed = {
        name: (ds[name] * gain**power).assign_attrs(
            {**ds[name].attrs, "units": "electron" if power == 1 else "electron2"}
        )
        for name, power in found.items()
        if power
    }
    facts = {name: ds.attrs[name] * gain for name in _ATTRS_IN_ADU if name in ds.attrs}
    if "gain_effective" in ds.attrs:
        facts["gain_effective"] = ds.attrs["gain_effective"] / gain
    converted = ds.assign(changed).assign_attrs(facts).assign_coords(gain=1.0)
    return add_history(converted, f"multiplied by {gain:g} electrons per adu")
