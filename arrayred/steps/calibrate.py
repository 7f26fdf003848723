"""Calibrate frames: overscan, bias, dark, flat field and units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from arrayred.bands import map_frames
from arrayred.errors import InputError, MismatchError, UnknownGainError, UsageError
from arrayred.kernels.combine import difference, median
from arrayred.kernels.rows import bright_runs, robust_std
from arrayred.kernels.rows import overscan_levels as overscan_levels
from arrayred.model import (
    BAD,
    BAD_PIXEL,
    CLEAN,
    COUNTS,
    DOUBTFUL_FLAT,
    DQ,
    FRAME,
    VARIANCE,
    Section,
    X,
    Y,
    add_history,
    check_cube,
    check_dataset,
    check_image,
    dq_attrs,
    is_upright,
    with_pixels_of,
)

if TYPE_CHECKING:
    import xarray as xr


def subtract_dark(cube: xr.Dataset, dark: xr.Dataset) -> xr.Dataset:
    """Subtract a master dark from every frame, in float64.

    Parameters
    ----------
    cube : counts (frame, y, x) in adu or electron, eager or chunked.
    dark : counts (y, x) in adu or electron, covering the pixels of the cube. Exposure times are
        not compared.

    Returns
    -------
    The cube with calibrated counts (frame, y, x), float64, lazy if it was. If both have a
    `variance`, it is the sum; the flags `dq` are those of either.

    Raises
    ------
    MismatchError
        The dark lacks pixels of the cube, or was made with another setting.
    """
    check_cube(cube)
    dark = with_pixels_of(cube, dark)
    if VARIANCE in cube and VARIANCE in dark:
        total = (cube[VARIANCE] + dark[VARIANCE].data).assign_attrs(cube[VARIANCE].attrs)
        cube = cube.assign({VARIANCE: total})
    if DQ in dark:
        flags = cube[DQ] | dark[DQ].data if DQ in cube else dark[DQ]
        cube = cube.assign({DQ: flags.assign_attrs(dark[DQ].attrs)})
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
        raise UsageError(
            "A dark that includes the bias cannot be scaled without a bias", hint="Use a bias."
        )
    if bias is not None:
        bias = with_pixels_of(dark, bias)
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

Block = NDArray[Any]
Levels = NDArray[np.float64]


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
#
# A sharper edge and a line of the lamp are followed by more pieces, at their place alone: a piece
# is halved where two columns or more lie 3 % off on one side of the curve, or beside such a place
# one column 1 %, and off by more than the columns' own response. Where four fifths of all columns
# follow the curve to 1 %, two columns that are 1 % off are enough: a step of the lamp by 3 % and an
# edge of 8 % over 13 columns left errors of 1.7 and 2.9 %. Of real fringes of 1 to 3 % a limit of
# 1 % would have made half of the columns doubtful. That response is what a median
# filter of a piece's length takes off: fringes and scatter are left beside it, edges pass it. Dips
# that are narrower than a piece are response (dust, dull columns): no lamp has lines in absorption.
# Pieces short enough to follow fringes of more than 3 % take them for lamp: their columns are
# doubtful, and those of the pieces beside them. Elsewhere 5 % fringes of 30 columns stay.

Image = NDArray[np.float64]
LampColour = NDArray[np.float64]
Mask = NDArray[np.bool_]

_N_SPLINE_PIECES = 16
_DEGREE = 3
_SPLINE_CLIP_SIGMA = 4.0
_N_SPLINE_FITS = 5
_EXACT = 1e-9
_ROWS_OF_A_BLOCK, _MIN_BLOCKS, _N_SHIFT_FITS = 12, 4, 5
_MISSED, _MISSED_IF_CALM, _CALM_PART = 0.03, 0.01, 0.8
_MISSED_BESIDE_AN_EDGE = 0.01
_FOLLOWED = 0.6
"""The length of a piece, in periods of the fringes, below which it takes them for lamp."""
_MEDIAN_JUMP_TO_STD = 1.4826 / 2**0.5
_MAX_COLUMN_SCATTER = 0.3
_MAX_SCATTER_IN_DOUBT = 0.1
"""Scatter of a column's pixels, of its level, above which a faint one tells no pixel's response."""
_MAX_SATURATED = 0.5
_MAX_MISSING = 0.05
"""The part of a column that may be saturated before its median is too low."""
_FAINT = 0.01
"""The level of a column, of that of the lamp, below which its response is doubtful: of 20,000 adu
a charge that trails behind an arm's end gave 190."""
_ABRUPT = 10.0
"""The ratio of neighbouring columns at an end of the lit ones: overscan, a stop, a dead column."""
_STRIP_BYTES = 4 << 20
LOWEST_RESPONSE, HIGHEST_RESPONSE = 0.05, 3.0
"""The response below and above which a pixel is bad, relative to the middle of the slit."""


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
    block: Block,
    *darks: Image,
    levels: tuple[float, ...],
    which: tuple[int, ...],
    saturated_from: float = np.inf,
) -> Image:
    """Return the median of frames, each dark-subtracted and divided by its level.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype; NaN is missing.
    darks : images (y, x).
    levels : the level of each frame after its dark is subtracted.
    which : the position among `darks` of the dark of each frame, or -1 for none.
    saturated_from : counts of the block from which they are missing.

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
        strip[strip >= saturated_from] = np.nan
        for frame, dark, level in zip(strip, which, levels, strict=True):
            if dark >= 0:
                frame -= darks[dark][rows]
            frame /= level
        out[rows] = median(strip)
    return out


class _Lamp(NamedTuple):
    """The spectrum of a lamp.

    Parameters
    ----------
    level : the lamp in each column (x), where it is measured; else NaN.
    doubtful : the columns (x) whose own response is not known: the lamp gives less than 1 % of its
        light, saturates them, or changes too fast for a curve. Columns with neither light nor doubt
        are unlit.
    sharp : the columns (x) at edges and lines, where the curve has more pieces.
    """

    level: LampColour
    doubtful: Mask
    sharp: Mask


def _spectrum_of_lamp(image: Image) -> _Lamp:
    """Return the spectrum of the lamp of a flat (y, x)."""
    present = np.isfinite(image)
    finite = np.where(present, image, 0.0)
    rows = np.median(finite, axis=1)
    bright = (rows > 0.5 * _high_quantile(rows)) & (rows > 0)
    level, (doubtful, sharp) = np.full(image.shape[1], np.nan), np.zeros((2, image.shape[1]), bool)
    if not bright.any():
        return _Lamp(level, doubtful, sharp)
    slit = finite[bright]
    columns = np.median(slit, axis=0)
    scatter = 1.4826 * np.median(np.abs(slit - columns), axis=0)
    usual = illuminated_level(columns)
    overexposed = np.mean(present[bright], axis=0) < 1 - _MAX_MISSING
    within = ~_columns_beyond_an_end(np.where(overexposed, usual, columns), usual)
    measured = within & ~overexposed & (columns > 0)
    known = measured & (scatter < _MAX_COLUMN_SCATTER * columns) & (columns > _FAINT * usual)
    if not known.any():
        return _Lamp(level, doubtful, sharp)
    doubtful[within] = True
    own = measured & (scatter < _MAX_SCATTER_IN_DOUBT * columns)
    level[own] = columns[own]
    lit = np.flatnonzero(known)
    fitted, right, sharp[lit] = _fit_lamp(lit, np.log(columns[lit]))
    level[lit[right]] = np.exp(fitted[right])
    doubtful[lit[right]] = False
    return _Lamp(level, doubtful, sharp)


def _columns_beyond_an_end(columns: LampColour, usual: float) -> Mask:
    """Return the dark columns at whose borders the light ends abruptly (x).

    What they hold is charge that trails and scattered light. Where a lamp fades away, its darkness
    has no such border.
    """
    dark = ~(columns > LOWEST_RESPONSE * usual)
    beyond = np.zeros(columns.size, bool)
    for first, stop in bright_runs(dark):
        borders = [(first - 1, columns[first:stop][:2])] if first else []
        borders += [(stop, columns[first:stop][-2:])] if stop < columns.size else []
        beyond[first:stop] = all(columns[lit] > _ABRUPT * np.min(near) for lit, near in borders)
    return beyond


def _fit_lamp(x: NDArray[Any], values: LampColour) -> tuple[LampColour, Mask, Mask]:
    """Return the curve through the logarithms of a lamp, where it is right, and where it is sharp.

    Pieces of the spline are halved until they follow, or hold a single column.
    """
    n_pieces = int(min(_N_SPLINE_PIECES, max((np.ptp(x) + 1) // 4, 1)))
    column = n_pieces / max(np.ptp(x), 1)
    u = (x - x.min()) * column
    piece = whole = np.minimum(u.astype(np.intp), n_pieces - 1)
    breaks = np.arange(n_pieces + 1, dtype=np.float64)
    beside = np.zeros(u.size, bool)
    fitted = _fit_colour(_b_splines(u, breaks), values, beside)
    calm = np.quantile(np.abs(values - fitted), _CALM_PART) < _MISSED_IF_CALM
    least = _MISSED_IF_CALM if calm else _MISSED
    if not _missed_together(values - fitted, np.full(u.size, least)).any():
        return fitted, ~beside, beside
    response, period = _response_of_columns(values, whole)
    far = np.maximum(response, least)
    near = np.maximum(response, _MISSED_BESIDE_AN_EDGE)
    kept = ~_dips(values, far, max(u.size // n_pieces // 2, 1))
    while True:
        missed = _missed_together(values - fitted, far) | (
            beside & (np.abs(values - fitted) > near)
        )
        off = np.where(missed & kept, np.abs(values - fitted), 0.0)
        at_edge = (off > 0) & (off >= 0.5 * off.max())
        edges = whole[at_edge & (off > far)]
        beside |= np.isin(whole, [edges + i for i in (-1, 0, 1)])
        worst = np.unique(piece[at_edge])
        worst = worst[np.diff(breaks)[worst] >= 2 * column]
        if not worst.size:
            break
        breaks = np.sort(np.concatenate([breaks, (breaks[worst] + breaks[worst + 1]) / 2]))
        piece = np.minimum(np.searchsorted(breaks, u, side="right"), breaks.size - 1) - 1
        fitted = _least_squares(_b_splines(u, breaks), values, kept)
    length = np.diff(breaks)[piece]
    fitted = _fit_colour(_b_splines(u, breaks), values, kept & (length < 1))
    missed = _missed_together(values - fitted, far) | (beside & (np.abs(values - fitted) > near))
    followed = (length < 1) & (length < _FOLLOWED * period * column) & (response > _MISSED)
    in_doubt = np.isin(piece, [piece[followed] + i for i in (-1, 0, 1)])
    return fitted, ~(missed & kept) & ~in_doubt, beside


def _missed_together(off: LampColour, allowed: LampColour) -> Mask:
    """Return where two neighbours or more are off by more than is allowed, on the same side."""
    missed = np.zeros(off.size, bool)
    for beyond in (off > allowed, off < -allowed):
        pairs = beyond[1:] & beyond[:-1]
        missed[1:] |= pairs
        missed[:-1] |= pairs
    return missed


def _response_of_columns(
    values: LampColour, whole: NDArray[np.intp]
) -> tuple[LampColour, LampColour]:
    """Return how far the columns' own response lies off the lamp, at most, and its period.

    Parameters
    ----------
    values : logarithms of the columns (x).
    whole : the piece of the spline, before any was halved, that each column lies in (x).

    Returns
    -------
    size (x) : of the seven pieces around, so that an edge of one piece does not count: 1.6 times
        the amplitude of fringes, or four standard deviations of the scatter between neighbours.
    period (x) : columns from one fringe to the next.
    """
    n_pieces = int(whole[-1]) + 1
    reach = max(values.size // n_pieces // 2, 1)
    size, period = np.zeros(n_pieces), np.zeros(n_pieces)
    for i in range(n_pieces):
        part = values[(whole >= i - 3) & (whole <= i + 3)]
        if part.size <= 2 * reach:
            continue
        slope = float(np.median(part[2 * reach :] - part[: -2 * reach])) / (2 * reach)
        level = part - slope * np.arange(part.size)
        windows = np.lib.stride_tricks.sliding_window_view(level, 2 * reach + 1)
        thinned = slice(None, None, max(reach // 8, 1))
        off = level[reach:-reach][thinned] - np.median(windows[thinned], axis=-1)
        scatter = _MEDIAN_JUMP_TO_STD * float(np.median(np.abs(np.diff(level))))
        usual = float(np.percentile(np.abs(off), 60))
        size[i] = max(2 * usual, _SPLINE_CLIP_SIGMA * scatter)
        n_crossings = np.count_nonzero(np.diff(off > 0))
        period[i] = 2.0 * part.size / max(int(n_crossings), 1)
    return size[whole], period[whole]


def _dips(values: LampColour, depth: LampColour, reach: int) -> Mask:
    """Return the dips that are deeper than `depth` and narrower than 2 reach + 1 positions.

    By a morphological opening, which takes off the lines of the lamp, and a closing of what is left
    (Serra 1982, Image Analysis and Mathematical Morphology); both leave edges where they are.
    """
    opened = _moving_extremes(values, reach, np.min, np.max)
    return np.asarray(_moving_extremes(opened, reach, np.max, np.min) - values > depth)


def _moving_extremes(
    values: LampColour, reach: int, *extremes: Callable[..., LampColour]
) -> LampColour:
    """Return the extremes of the 2 reach + 1 positions around each, one after the other."""
    values = np.pad(values, len(extremes) * reach, mode="edge")
    for extreme in extremes:
        windows = np.lib.stride_tricks.sliding_window_view(values, 2 * reach + 1)
        values = extreme(windows, axis=-1)
    return values


def _fit_colour(basis: Image, values: LampColour, trusted: Mask) -> LampColour:
    """Return the spline fitted to values, robust to a few outliers except where trusted."""
    kept = np.ones(values.size, bool)
    fitted = values
    for _ in range(_N_SPLINE_FITS):
        fitted = _least_squares(basis, values, kept)
        off = values - fitted
        still = trusted | (np.abs(off) <= max(_SPLINE_CLIP_SIGMA * robust_std(off[kept]), _EXACT))
        if np.array_equal(still, kept):
            break
        kept = still
    return np.asarray(fitted)


def _least_squares(basis: Image, values: LampColour, kept: Mask) -> LampColour:
    """Return the least-squares fit to the values kept, by the normal equations.

    The B-splines of a cubic are so nearly orthogonal that nothing is lost by squaring them.
    """
    of_kept = basis[kept]
    normal = of_kept.T @ of_kept, of_kept.T @ values[kept]
    return np.asarray(basis @ np.linalg.lstsq(*normal, rcond=None)[0])


def _b_splines(u: LampColour, breaks: LampColour) -> NDArray[np.float64]:
    """Return the cubic B-splines between breaks at positions u: (u, spline), de Boor 1978."""
    outer = np.arange(1.0, _DEGREE + 1)
    knots = np.concatenate([breaks[0] - outer[::-1], breaks, breaks[-1] + outer])
    within = np.clip(np.searchsorted(breaks, u, side="right") - 1, 0, breaks.size - 2) + _DEGREE
    basis = (np.arange(knots.size - 1) == within[:, np.newaxis]).astype(np.float64)
    for degree in range(1, _DEGREE + 1):
        n = basis.shape[1] - 1
        first, last = knots[:n], knots[degree + 1 : degree + 1 + n]
        rising = (u[:, np.newaxis] - first) / (knots[degree : degree + n] - first)
        falling = (last - u[:, np.newaxis]) / (last - knots[1 : 1 + n])
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
    """Subtract the overscan level of each row (or column) from every frame.

    Parameters
    ----------
    cube : counts (frame, y, x) in adu or electron, eager or chunked.
    section : the overscan.
    by_row : one level per row, from overscan columns; else one per column, from overscan rows.
    method : "mean", without the lowest and the highest tenth of the pixels, or "median".

    Returns
    -------
    The cube with overscan-subtracted counts (frame, y, x), float64, lazy if it was.

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
    if method not in get_args(Statistic):
        raise UsageError(
            f"The overscan cannot be combined by {method!r}",
            keyword="overscan",
            value=method,
            hint=f"Use {' or '.join(get_args(Statistic))}.",
        )
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
    if not isinstance(section, Section):
        raise UsageError(
            f"A section is a Section, but this is {section!r}",
            value=section,
            hint="Use, for example, Section(columns=(1, 50), rows=(1, 4200)).",
        )
    rows, columns = cube[Y].values[[0, -1]], cube[X].values[[0, -1]]
    inside = rows[0] <= section.rows[0] and section.rows[1] <= rows[1]
    if not (inside and columns[0] <= section.columns[0] and section.columns[1] <= columns[1]):
        raise MismatchError(
            f"The section {section} is outside the {cube.sizes[FRAME]} frames, which have "
            f"[{columns[0]}:{columns[1]},{rows[0]}:{rows[1]}]",
            value=str(section),
            hint="Correct the sections in the instrument file or the headers, or use "
            "--no-overscan.",
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


def flat_level(image: xr.Dataset, saturated: Mask | None = None) -> float:
    """Return the level of the illuminated part of a dark-subtracted flat.

    Parameters
    ----------
    image : counts (y, x), computed.
    saturated : the pixels (y, x) to leave out: those that any of the flats saturates, so that the
        levels of all are those of the same pixels.

    Raises
    ------
    InputError
        The level is not positive, since the flat is not illuminated; or most of its light lies in
        saturated pixels.
    """
    check_image(image)
    counts = np.asarray(image[COUNTS].values, np.float64)
    name = str(image[FRAME].item()) if FRAME in image.coords else "a flat"
    level = illuminated_level(counts)
    if not level > 0:
        raise InputError(
            f"{name} has no signal: its level above the dark is {level:g}",
            value=level,
            hint="Exclude the frame.",
        )
    if saturated is None:
        return level
    of_lit = saturated[counts > 0.5 * level]
    lost = np.count_nonzero(of_lit) / of_lit.size
    if lost > _MAX_SATURATED:
        raise InputError(
            f"{lost:.0%} of the signal in {name} is in pixels saturated in a flat of its group",
            value=lost,
            hint="Exclude the overexposed flats, or use --no-flat.",
        )
    return illuminated_level(np.where(saturated, np.nan, counts))


def combine_flats(
    cube: xr.Dataset,
    levels: Sequence[float],
    darks: Sequence[xr.Dataset | None] = (),
    *,
    saturated_from: float = np.inf,
) -> xr.Dataset:
    """Return the median of flats, each dark-subtracted and divided by its level.

    Parameters
    ----------
    cube : counts (frame, y, x), eager or chunked.
    levels : the level of each frame after its dark is subtracted (`flat_level`).
    darks : image (y, x) to subtract from each frame, or None; empty: all are dark-subtracted.
    saturated_from : counts from which a pixel of a frame is saturated, and left out.

    Returns
    -------
    image : counts (y, x), float64, about 1, without a unit, as lazy as the cube came; NaN where
        every frame is saturated.

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
            f"{cube.sizes[FRAME]} flats, but {len(levels)} levels and {len(each)} darks",
            hint="Use one of each for every frame.",
        )
    different = list({id(dark): dark for dark in each if dark is not None}.values())
    which = tuple(
        next((i for i, other in enumerate(different) if other is dark), -1) for dark in each
    )
    different = [with_pixels_of(cube, dark) for dark in different]
    scaled = partial(
        scaled_median, levels=tuple(levels), which=which, saturated_from=saturated_from
    )
    counts = map_frames(cube[COUNTS].data, scaled, *(dark[COUNTS].data for dark in different))
    scalars = {name: coord for name, coord in cube.coords.items() if not coord.dims}
    image = xr.Dataset(
        {COUNTS: ((Y, X), counts, {"long_name": "response relative to the middle of the slit"})},
        coords={Y: cube[Y], X: cube[X], **scalars, "n_frames": cube.sizes[FRAME]},
        attrs=cube.attrs,
    )
    kinds = dict.fromkeys(dark.attrs.get("kind", "dark") for dark in different)
    for kind in kinds:
        image = add_history(image, f"{kind} subtracted")
    return add_history(image, f"median of {cube.sizes[FRAME]} flats, each normalised by its level")


def normalise_flat(image: xr.Dataset) -> xr.Dataset:
    """Divide a flat by the spectrum of its lamp, to make a master flat.

    Parameters
    ----------
    image : a flat (y, x), computed; its coordinate `dispersion_axis`, where present, is 1 or 2. A
        `variance` is divided by the square of the lamp spectrum, which is taken as exact.

    Returns
    -------
    flat : counts (y, x), 1 in the middle of the slit, with the coordinate `bad`
        (`with_bad_pixels`); NaN where the lamp gave no signal. Columns in which the lamp is not
        known are divided by their own level, so that only the response along the slit is left, and
        where it is too faint, that of the nearest columns stands in; `dq` flags both doubtful_flat.

    Raises
    ------
    InputError
        No column is illuminated.
    """
    check_image(image)
    pixels = np.asarray(image[COUNTS].values, np.float64)
    along_y = is_upright(image)
    lamp = _spectrum_of_lamp(np.ascontiguousarray(pixels.T) if along_y else pixels)
    if np.isnan(lamp.level).all():
        raise InputError("The flats have no signal", hint="Exclude them, or use --no-flat.")
    level = lamp.level[:, np.newaxis] if along_y else lamp.level
    response = pixels / level
    upright = response.T if along_y else response
    faint = lamp.doubtful & np.isnan(lamp.level)
    _fill_from_nearest_columns(upright, faint)
    doubtful = _correct_leaning_lamp(upright, lamp) | lamp.doubtful
    flat = image.assign({COUNTS: image[COUNTS].copy(data=response)})
    if VARIANCE in image:
        variance = np.asarray(image[VARIANCE].values / level**2, np.float32)
        (variance.T if along_y else variance)[:, faint] = 0.0
        flat = flat.assign({VARIANCE: image[VARIANCE].copy(data=variance)})
    flat = with_bad_pixels(add_history(flat, "lamp spectrum removed"))
    if not doubtful.any():
        return flat
    flags = np.where(doubtful.T if along_y else doubtful, np.uint8(DOUBTFUL_FLAT), np.uint8(0))
    flags[flat[BAD].values] = 0
    told = (
        f"the lamp spectrum is not known in {np.count_nonzero(doubtful.any(axis=0))} columns, "
        "which are flagged"
    )
    return add_history(flat.assign({DQ: ((Y, X), flags, dq_attrs("flags of a pixel"))}), told)


def _correct_leaning_lamp(response: Image, lamp: _Lamp) -> Mask:
    """Divide a response (y, x) by what sharp features of the lamp left in it off the slit's middle.

    Edges and lines lean or bend along the slit: the lamp of other rows is that of the middle, moved
    by s = a y + b y^2 columns (y from -1 to 1). Both are fitted to the medians of a dozen rows
    each, by Gauss and Newton. Fringes do not move with the lamp: where the fit leaves more than
    half of the variance, nothing is changed. Columns (x) changed by more than 3 % anywhere are
    doubtful, as pixels (y, x); they are scaled to 1 too, since the median of rows has blurred them.
    """
    doubtful = np.zeros(response.shape, bool)
    if not lamp.sharp.any():
        return doubtful
    starts = range(0, len(response), _ROWS_OF_A_BLOCK)
    blocks = [response[i : i + _ROWS_OF_A_BLOCK] for i in starts]
    along = np.array([median(np.ascontiguousarray(one)[:, np.newaxis])[0] for one in blocks])
    slit = np.array([illuminated_level(one) for one in along])
    known = np.flatnonzero(np.isfinite(lamp.level) & ~lamp.doubtful)
    sharp = lamp.sharp[known]
    lit = (slit > LOWEST_RESPONSE) & (along[:, known] > LOWEST_RESPONSE * slit[:, np.newaxis]).all(
        1
    )
    if not sharp.any() or np.count_nonzero(lit) < _MIN_BLOCKS:
        return doubtful
    reach = max(known.size // (2 * _N_SPLINE_PIECES), 1)
    off = np.log(along[lit][:, known])
    off = np.array([one - _moving_median(one, reach) for one in off])[:, sharp]
    off -= np.median(off, axis=0)
    level = np.log(lamp.level[known])

    def moved(shifts: LampColour) -> Image:
        return np.array([np.interp(known - s, known, level) for s in shifts]) - level

    y = 2 * (np.array(starts)[lit] + _ROWS_OF_A_BLOCK / 2) / len(response) - 1
    terms, found = np.stack([y, y**2]), np.zeros(2)
    for _ in range(_N_SHIFT_FITS):
        here = moved(found @ terms)[:, sharp]
        slope = (moved(found @ terms + 0.5) - moved(found @ terms - 0.5))[:, sharp]
        basis = np.stack([(term[:, np.newaxis] * slope).ravel() for term in terms], axis=1)
        found = found + np.linalg.lstsq(basis, (off - here).ravel(), rcond=None)[0]
    left = off - moved(found @ terms)[:, sharp]
    if np.var(left) > 0.5 * np.var(off):
        return doubtful
    every = 2 * (np.arange(len(response)) + 0.5) / len(response) - 1
    change = moved(found @ np.stack([every, every**2]))
    response[:, known] /= np.exp(change)
    leaning = known[(np.abs(change) > _MISSED).any(axis=0)]
    middle = np.flatnonzero(np.repeat(slit > 0.5, _ROWS_OF_A_BLOCK)[: len(response)])
    blurred = median(np.ascontiguousarray(response[np.ix_(middle, leaning)])[:, np.newaxis])[0]
    response[:, leaning] /= blurred
    doubtful[:, leaning] = True
    return doubtful


def _moving_median(values: LampColour, reach: int) -> LampColour:
    """Return the medians of 2 reach + 1 positions, between every eighth of them interpolated."""
    padded = np.pad(values, reach, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    at = np.arange(0, values.size, max(reach // 4, 1))
    return np.asarray(np.interp(np.arange(values.size), at, np.median(windows[at], axis=-1)))


def _fill_from_nearest_columns(response: Image, faint: Mask) -> None:
    """Write into faint columns of a response (y, x) the median of the nearest measured ones."""
    known = np.flatnonzero(~faint & np.isfinite(response).any(axis=0))
    for first, stop in bright_runs(faint) if known.size else ():
        away = np.abs(known - (first + stop - 1) / 2)
        nearest = known[np.argsort(away, kind="stable")[: -(-known.size // 4)]]
        along_slit = median(np.ascontiguousarray(response[:, nearest].T[:, np.newaxis]))[0]
        response[:, first:stop] = along_slit[:, np.newaxis]


def with_bad_pixels(flat: xr.Dataset) -> xr.Dataset:
    """Mark the pixels of a master flat with a response below 5 % or above 300 % as `bad`.

    Parameters
    ----------
    flat : counts (y, x), 1 in the middle of the slit; their unit, if any, is dropped. Where one is
        scaled otherwise, its largest response is that of its illuminated part, tripled.
    """
    values = flat[COUNTS].values
    highest = HIGHEST_RESPONSE
    if (values > highest).any():
        highest *= max(illuminated_level(np.asarray(values, np.float64)), 1.0)
    bad = ~((values >= LOWEST_RESPONSE) & (values <= highest))
    attrs = {name: value for name, value in flat[COUNTS].attrs.items() if name != "units"}
    flat = flat.assign({COUNTS: (flat[COUNTS].dims, values, attrs)})
    return flat.assign_coords({BAD: ((Y, X), bad, {"long_name": "no response"})})


def divide_flat(ds: xr.Dataset, flat: xr.Dataset) -> xr.Dataset:
    """Divide an image or every frame of a cube by a master flat, except at bad pixels.

    Parameters
    ----------
    ds : counts (..., y, x) in adu or electron, eager or chunked.
    flat : a master flat (y, x) with the coordinate `bad`, computed; its `variance` and `dq`, where
        present, are propagated.

    Returns
    -------
    The same with counts divided, float64, lazy if it was, and with `bad` (y, x). A variance
    receives the flat's contribution and is divided by the square of the flat; `dq` flags the bad
    and the doubtful pixels. An image without `dq` gets one if there are any.

    Raises
    ------
    MismatchError
        The flat is not a master flat, lacks pixels of the image, or has a different setting.

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
    flat = with_pixels_of(ds, flat)
    if BAD not in flat.coords:
        raise MismatchError(
            "A master flat has the coordinate 'bad', but this has none",
            keyword=BAD,
            hint="Use the result of make_flat, or a flat opened by open_product.",
        )
    bad = flat[BAD]
    divisor = np.where(bad.values, 1.0, flat[COUNTS].values)
    pixels = ds[COUNTS].data
    if FRAME in ds[COUNTS].dims:
        divided = map_frames(pixels, divide_by_flat, divisor, keeps_frames=True)
    else:
        divided = divide_by_flat(pixels, divisor)
    counts = ds[COUNTS].copy(data=divided)
    n_bad = int(np.count_nonzero(bad.values))
    noisy = ", with its noise" if VARIANCE in ds and VARIANCE in flat else ""
    told = f"divided by the flat{noisy}; {n_bad} pixels with too little flat signal unchanged"
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
    if DQ in flat:
        flags |= flat[DQ].values
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
    ds : variables in adu or adu2, and the coordinate `gain`, electrons per adu, a number or one of
        each frame (frame). Variables in electrons or other units are unchanged.

    Returns
    -------
    The same, multiplied by the gain, variances by its square; its `gain` is 1.

    Raises
    ------
    UnknownGainError
        A variable is in adu, and the gain is unknown.
    MismatchError
        Frames have gains of their own, but a variable is common to all.

    Examples
    --------
    >>> import xarray as xr
    >>> flux = xr.Dataset({"flux": ("x", [10.0, 20.0], {"units": "adu"})}, {"gain": 1.5})
    >>> to_electrons(flux).flux.values.tolist()
    [15.0, 30.0]
    """
    check_dataset(ds, "an image, a cube or a spectrum")
    powers = {"adu": 1, "adu2": 2}
    found = {name: powers.get(v.attrs.get("units", ""), 0) for name, v in ds.data_vars.items()}
    if not any(found.values()):
        return ds
    gain = ds.coords.get("gain")
    if gain is None or not np.all(np.asarray(gain.values, np.float64) > 0):
        raise UnknownGainError.of()
    in_adu = [name for name, power in found.items() if power]
    common = [str(name) for name in in_adu if not {*gain.dims} <= {*ds[name].dims}]
    if common:
        raise MismatchError(
            f"The gain is one of each frame, but {', '.join(common)} is common to all frames",
            keyword="gain",
            hint="Convert the frames first, then combine them.",
        )
    factor = gain.variable if gain.dims else float(gain.item())
    changed = {
        name: (ds[name] * factor ** found[name]).assign_attrs(
            {**ds[name].attrs, "units": "electron" if found[name] == 1 else "electron2"}
        )
        for name in in_adu
    }
    one = np.nan if gain.dims else float(gain.item())
    facts = {name: ds.attrs[name] * one for name in _ATTRS_IN_ADU if name in ds.attrs}
    if "gain_effective" in ds.attrs:
        facts["gain_effective"] = ds.attrs["gain_effective"] / one
    converted = ds.assign(changed).drop_vars("gain").assign_attrs(facts).assign_coords(gain=1.0)
    told = ", ".join(f"{number:g}" for number in np.unique(gain.values))
    return add_history(converted, f"multiplied by {told} electrons per ADU")
