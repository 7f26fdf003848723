"""Reject outliers in a block of frames: by their noise, against each other, or by their scatter.

Where the noise is known (`PixelNoise`), a value is judged by its distance from the median of the
frames of its pixel, in standard deviations; where a line of pixels scatters by more than its noise,
in units of its scatter. This is done by one of two rules:

- Clipping (`noise_clipped_mean`): each frame has one scale, which is given; high and low values are
  rejected, at the user's threshold, and the others averaged.
- The comparison (`compare_tiles`) finds the cosmic rays of each frame, on a star whose flux, seeing
  and place differ from frame to frame: the scale of a frame is slow along the dispersion, and only
  high values are flagged.

Neither can stand for the other, nor can they share more. Clipping in place of the comparison: of
three frames of a star two rows wide at S/N 300 that moves by half a row the pulls became 3.1 wide
and the S/N half as large (comparison: 1.00 and 0.99 of the best). The comparison of high and low
values in place of clipping: with 1000 cosmic rays an hour on four frames of different flux the
pulls of pixels that were hit became 1.8 wide (clipping: 1.02), since a slow scale follows a track.
The noise of the reference: clipping widens the threshold of bright frames by one factor
(`_scale_leeway`); by that of each pixel, as the comparison has it (`_in_sigma`), one column in 400
was off by 5 sigma on a night of clouds and seeing. The mean: clipping divides the sum of the light
by that of the scales; where the scale of a frame at a pixel is far from 1 this moved columns of a
real nebula by 1.1 sigma, so the comparison adds the mean residual (`mean_without`).

Two ways know no noise, by their definitions, and share nothing with these: a mean without extremes
(`kernels.combine.minmax_mean`), which has 0.82 to 0.97 of the best S/N, and sigma clipping
(`clipped_mean`), which is that of `astropy.stats.sigma_clip` along the frames, followed by the mean
of the remaining values, in the same operations of float64 in the same order: the results are equal
bit for bit (to the last few ulp where the centre is the median, since astropy then adds in another
order).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.combine import (
    Block,
    Flags,
    Image,
    Scales,
    by_strips,
    columns,
    corrected,
    count,
    mean_of_strip,
    median,
    median_of_strip,
    pixels_at_once,
    strips,
    to_one_level,
)
from arrayred.kernels.noise import PixelNoise

# Sigma clipping: `clipped_mean`.
#
# Why it is fast: one pass over a strip gives mean and bounds, and the least and the greatest value
# of a pixel show whether any value lies outside. Only such pixels (3 % of them at 25 frames of
# Gaussian noise and 3 sigma, 22 % at 100) are gathered and iterated. Exact integer sums of squares
# would be no faster than float64: numpy adds uint32 to uint64 at 0.37 ns a value, as long as it
# takes to square and add float64.

Centre = Literal["mean", "median"]
Values = NDArray[np.float64]

_CLIP_STRIP_PIXELS = 1 << 14  # five float64 strips of these fill half a second-level cache


class _ClipRule(NamedTuple):
    """Threshold, number of iterations and centre of sigma clipping."""

    n_sigma: float
    iterations: int | None
    centre: Centre


def clipped_mean(
    block: Block,
    minus: Image | None = None,
    *,
    mask: Flags | None = None,
    n_sigma: float = 3.0,
    iterations: int | None = 1,
    centre: Centre = "mean",
) -> Image:
    r"""Return the sigma-clipped mean over frames, less an image.

    With the centre c of the values of a pixel and their population standard deviation s about the
    mean, values outside ``c - n_sigma*s .. c + n_sigma*s`` are rejected. This is repeated with the
    remaining values until no more are rejected or the iterations are used up. The result is the
    mean of the values within the last bounds.

    Among n values none lies farther from their mean than ``sqrt(n - 1)`` of this s: 3 sigma reject
    nothing below 11 frames.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype; NaN and infinite values are missing. Not changed.
    minus : image (y, x) to subtract from every frame.
    mask : flags (frame, y, x), True where a value is not used.
    n_sigma : rejection threshold, in standard deviations.
    iterations : number of iterations, at least 1; None: until nothing changes.
    centre : "mean" or "median".

    Returns
    -------
    image (y, x), float64; NaN where no value remains.

    Raises
    ------
    ValueError
        `n_sigma` is not positive, or `iterations` is below 1.

    Examples
    --------
    >>> frames = np.array([10, 11, 9, 10, 10, 9, 11, 10, 10, 10, 900], dtype=np.uint16)
    >>> clipped_mean(frames.reshape(11, 1, 1))
    array([[10.]])
    """
    if not n_sigma > 0 or (iterations is not None and iterations < 1):
        raise ValueError(
            f"Values cannot be clipped at {n_sigma} sigma {iterations} times. Use a positive "
            "number of sigma, and at least one iteration or None."
        )
    clip = partial(_clipped_strip_mean, rule=_ClipRule(n_sigma, iterations, centre))
    return by_strips(block, minus, mask, clip, present=np.isfinite, pixels=_CLIP_STRIP_PIXELS)


def _clipped_strip_mean(frames: Block, minus: Image | None, rule: _ClipRule) -> Image:
    """Return the clipped mean of frames without missing values."""
    with np.errstate(invalid="ignore", over="ignore"):
        average = mean_of_strip(frames, minus)
        centre = average if rule.centre == "mean" else median_of_strip(frames, minus)
        reach = rule.n_sigma * _std(frames, minus, average)
        low, high = centre - reach, centre + reach
        outside = corrected(frames.min(axis=0), minus) < low
        outside |= corrected(frames.max(axis=0), minus) > high
        if outside.any():
            dark = None if minus is None else minus[outside]
            values = corrected(columns(frames, np.flatnonzero(outside)), dark)
            low, high = _last_bounds(values, low[outside], high[outside], rule)
            average[outside] = _mean_where(values, _within(values, low, high))
    return average


def _std(frames: Block, minus: Image | None, average: Image) -> Image:
    """Return the population standard deviation of frames less an image about their mean."""
    total = np.zeros_like(average)
    deviation = np.empty_like(average)
    for frame in frames:
        np.copyto(deviation, frame)
        if minus is not None:
            deviation -= minus
        deviation -= average
        deviation *= deviation
        total += deviation
    total /= frames.shape[0]
    return np.sqrt(total, out=total)


def _last_bounds(values: Image, low: Image, high: Image, rule: _ClipRule) -> tuple[Image, Image]:
    """Return the bounds of columns (frame, pixel) after all iterations, from those of the first."""
    pixels = np.arange(low.size)  # those that still change; values and kept are theirs alone
    kept = _within(values, low, high)
    changes = np.ones(low.shape, bool)
    passes = 1
    while changes.any() and (rule.iterations is None or passes < rule.iterations):
        passes += 1
        chosen = np.flatnonzero(changes)
        pixels = pixels[chosen]
        values, kept = np.take(values, chosen, axis=1), np.take(kept, chosen, axis=1)
        low[pixels], high[pixels] = _bounds(values, kept, rule)
        before = count(kept)
        kept &= _within(values, low[pixels], high[pixels])
        changes = count(kept) < before
    return low, high


def _within(values: Image, low: Image, high: Image) -> Flags:
    kept = values >= low
    kept &= values <= high
    return kept


def _bounds(values: Image, kept: Flags, rule: _ClipRule) -> tuple[Image, Image]:
    """Return the bounds of columns (frame, pixel) from the values kept."""
    average = _mean_where(values, kept)
    centre = average if rule.centre == "mean" else _median_where(values, kept)
    squares, deviation = np.zeros_like(average), np.empty_like(average)
    for frame, there in zip(values, kept, strict=True):
        np.subtract(frame, average, out=deviation)
        deviation *= there
        deviation *= deviation
        squares += deviation
    reach = rule.n_sigma * np.sqrt(squares / count(kept))
    return centre - reach, centre + reach


def _mean_where(values: Image, kept: Flags) -> Image:
    """Return the mean of the values kept, added in order.

    The others, finite as all are here, are multiplied by 0: 0.6 ns a value whatever their pattern,
    where adding under a mask takes 1 to 5.
    """
    total, value = np.zeros(values.shape[1]), np.empty(values.shape[1])
    for frame, there in zip(values, kept, strict=True):
        total += np.multiply(frame, there, out=value)
    return np.asarray(total / count(kept))


def _median_where(values: Image, kept: Flags) -> Image:
    """Return the median of the values kept, of which there is at least one."""
    in_order = np.sort(np.where(kept, values, np.inf), axis=0)
    n = kept.sum(axis=0)
    middle = np.take_along_axis(in_order, np.stack([(n - 1) // 2, n // 2]), axis=0)
    return np.asarray((middle[0] + middle[1]) * 0.5)


# Mean of a block (frame, y, x), clipped by a noise model: `noise_clipped_mean`.
#
# Few values never lie far from their mean in units of their own scatter: at most (n - 1)/sqrt(n)
# standard deviations, 1.15 for three. So the scatter is not used. The expected deviation is known
# beforehand, from dark-frame noise and photon noise; the centre is the median of the scaled frames.
#
# The noise model does not include changes of seeing and trace. Where a whole line along the
# dispersion varies more from frame to frame than its noise allows, its values are compared with
# that measured variation. It is the median, over the pixels of the line, of the variance between
# frames relative to the known one, which a few cosmic rays cannot change; the median of a chi
# squared variable is that of Wilson & Hilferty (1931, PNAS 17, 684).
#
# The remaining values are summed and divided by the sum of the frames' fluxes. So a pixel without
# rejected values has the average of its frames, to the rounding, and frames are weighted by flux.

_MIN_VALUES = 3
"""Least number of values for clipping: of two, the outlier cannot be identified."""
_SHORTEST_LINE = 16
"""Least number of pixels in a line for its variation between frames to be measured."""


class NoiseClip(NamedTuple):
    """The rejection threshold, and the noise of a pixel of one frame.

    Parameters
    ----------
    n_sigma : rejection threshold in standard deviations.
    of_pixel : the noise; its level is 0 where `minus` holds the sky.
    """

    n_sigma: float
    of_pixel: PixelNoise


def noise_clipped_mean(
    block: Block,
    minus: Image | None = None,
    charge: Image | None = None,
    *,
    scales: Scales,
    weights: tuple[float, ...],
    noise: NoiseClip | None,
    widths: Values | None = None,
) -> Values:
    """Return the mean of the values consistent with their noise, and the number of the others.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype; NaN is missing.
    minus : image (y, x) to subtract from every frame.
    charge : further charge that adds noise (y, x), counts: the dark charge of hot pixels, and the
        sky in `minus`.
    scales : scales of the frames.
    weights : weights of the frames; all 1 to weight by flux.
    noise : noise of a frame; None: no value is rejected.
    widths : variation of each column (x) over its noise; None: measured for each row.

    Returns
    -------
    planes (2, y, x), float64: the mean, NaN where every frame is missing, and the number of
    rejected values.

    Examples
    --------
    >>> frames = np.array([[[100.0]], [[104.0]], [[900.0]]])
    >>> three = (1.0, 1.0, 1.0)
    >>> scales = Scales(three, (0.0, 0.0, 0.0))
    >>> noise = NoiseClip(3.0, PixelNoise(25.0, 0.0, 0.0))
    >>> noise_clipped_mean(frames, scales=scales, weights=three, noise=noise)[:, 0, 0]
    array([102.,   1.])
    """
    planes = np.empty((2, *block.shape[1:]), np.float64)
    shape = (-1, 1, 1)
    flux, level = np.reshape(scales.flux, shape), np.reshape(scales.level, shape)
    weight = np.reshape(weights, shape)
    for rows in strips(block, pixels_at_once(block)):
        dark = None if minus is None else minus[rows]
        hot = None if charge is None else charge[rows]
        frames = np.asarray(corrected(block[:, rows], dark))
        kept = np.isfinite(frames)
        n_present = count(kept)
        if noise is not None:
            kept &= _within_noise(frames, hot, scales, noise, widths)
        planes[1, rows] = n_present - count(kept).astype(np.int64)
        light = np.where(kept, (frames - level) * weight, 0.0)
        with np.errstate(invalid="ignore"):
            planes[0, rows] = _sum_in_order(light) / _sum_in_order(kept * (weight * flux))
    return planes


def _sum_in_order(frames: Values) -> Values:
    """Return the sum of frames, added one by one in order."""
    total = np.zeros(frames.shape[1:])
    for frame in frames:
        total += frame
    return total


def _within_noise(
    frames: Values, charge: Image | None, scales: Scales, noise: NoiseClip, widths: Values | None
) -> Flags:
    """Return which values are consistent with the noise; all where fewer than three are present."""
    centre = median(to_one_level(frames, None, scales))
    off = noise_distances(frames, centre, charge, scales, noise)
    found = line_widths(off, axis=1)[:, np.newaxis] if widths is None else widths
    reach = noise.n_sigma * np.maximum(found, 1.0) * _scale_leeway(scales.flux)
    present = np.isfinite(frames)
    kept = present & (np.abs(off) <= reach)
    lonely = np.flatnonzero(present.any(axis=0) & ~kept.any(axis=0))
    if lonely.size:
        _keep_lower_middle(kept, frames, lonely, charge, scales, noise, reach)
    return kept | (present & (count(present) < _MIN_VALUES))


def _scale_leeway(flux: tuple[float, ...]) -> Values:
    """Return the factor of the threshold for frames of unequal flux (frame, 1, 1), at least 1.

    The centre is scaled to each frame together with its noise, most of which is that of the faint
    frames: a bright frame deviates by the sum. That noise is computed as that of a mean, relative
    to equal frames.
    """
    n = len(flux)
    if n < _MIN_VALUES:
        return np.ones((n, 1, 1))
    of_centre = math.fsum(one**-2 for one in flux) / n
    own = np.reshape(flux, (-1, 1, 1))
    return np.asarray(np.sqrt(np.maximum((n - 2 + own**2 * of_centre) / (n - 1), 1.0)))


def _keep_lower_middle(
    kept: Flags,
    frames: Values,
    where: NDArray[np.intp],
    charge: Image | None,
    scales: Scales,
    noise: NoiseClip,
    reach: Values,
) -> None:
    """Clip pixels without a value near the centre about their lower middle value instead."""
    n_frames = frames.shape[0]
    own = frames.reshape(n_frames, 1, -1)[:, :, where]
    in_order = np.sort(to_one_level(own, None, scales), axis=0)
    n_present = np.count_nonzero(np.isfinite(own), axis=0)
    centre = np.take_along_axis(in_order, ((n_present - 1) // 2)[np.newaxis], axis=0)[0]
    hot = None if charge is None else charge.reshape(1, -1)[:, where]
    off = noise_distances(own, centre, hot, scales, noise)
    bound = np.broadcast_to(reach, frames.shape).reshape(n_frames, 1, -1)[:, :, where]
    kept.reshape(n_frames, 1, -1)[:, :, where] = np.isfinite(own) & (np.abs(off) <= bound)


def noise_distances(
    frames: Values, centre: Image, charge: Image | None, scales: Scales, noise: NoiseClip
) -> Values:
    """Return the deviations of values from a common centre, in standard deviations.

    Parameters
    ----------
    frames : counts (frame, y, x), float64, less the master.
    centre : (y, x), centre of the scaled frames.
    charge, scales, noise : as in `noise_clipped_mean`.

    Examples
    --------
    >>> scales = Scales((0.5, 1.5), (0.0, 0.0))
    >>> frames = np.array([[[50.0]], [[160.0]]])
    >>> noise = NoiseClip(3.0, PixelNoise(25.0, 0.0, 0.0))
    >>> noise_distances(frames, np.array([[100.0]]), None, scales, noise)[:, 0, 0]
    array([0., 2.])
    """
    shape = (-1, *[1] * centre.ndim)
    flux, level = np.reshape(scales.flux, shape), np.reshape(scales.level, shape)
    expected, model = flux * centre + level, noise.of_pixel
    variance = model.variance(expected, 0.0 if charge is None else charge * model.per_photon)
    return np.asarray((frames - expected) / np.sqrt(variance))


def line_widths(off: Values, axis: int) -> Values:
    """Return the variation of lines from frame to frame, relative to their noise.

    Parameters
    ----------
    off : deviations (frame, y, x) of values from a common centre, in standard deviations.
    axis : axis of (y, x) along which the lines run: 0 or 1.

    Returns
    -------
    widths : one of every line, about 1 where the noise explains all; 1 where undetermined.

    Examples
    --------
    >>> off = np.random.default_rng(0).normal(0, 2, (4, 1, 20_000))
    >>> line_widths(off, axis=1).round(1)
    array([2.])
    """
    n_free = off.shape[0] - 1
    lines = off.shape[2 - axis]
    if n_free < 1:
        return np.ones(lines)
    deviation = off - _sum_in_order(off) / off.shape[0]
    squares = _sum_in_order(deviation**2)
    typical = n_free * (1 - 2 / (9 * n_free)) ** 3
    there = np.isfinite(squares)
    in_order = np.sort(np.where(there, squares, np.inf), axis=axis)
    n_there = np.count_nonzero(there, axis=axis)
    middle = np.expand_dims(np.maximum(n_there - 1, 0) // 2, axis)
    found = np.take_along_axis(in_order, middle, axis).squeeze(axis)
    return np.where(n_there >= _SHORTEST_LINE, np.sqrt(found / typical), 1.0)


# Cosmic rays: values of a pixel that are too high against the other frames (`compare_tiles`).
#
# Exposures of one star differ by a fifth in flux, the seeing changes and the trace moves, so frames
# cannot be compared directly: clipping by their noise rejects a third of a star's core. But along
# the dispersion all of this changes slowly. So *tiles* are compared, pieces of a row some 48
# columns long: in each a frame is modelled as a slow polynomial of the column times the common
# signal of the frames (`smooth_scales`).
#
# The excess of a value is measured in units of its noise and that of the reference; where a tile
# scatters more than that, in units of its scatter. Sharp lines may be shifted by a fifth of a
# pixel. Only high values are flagged: no hit removes charge.
#
# A parabola over 48 columns follows even a star 2 rows wide whose trace rises by 8 rows within 400
# columns: at a S/N of 300, 0.09 % of its core is flagged as hits.
#
# Every tile is processed by itself, so that no number depends on the tiles processed with it.

Indices = NDArray[np.intp]

_BRIGHT_PIXEL_SNR = 4.0
"""S/N of a pixel above which its tile is scaled."""
_BRIGHT_HALF_SNR = 1.0
"""The same for half the pixels of a tile in any frame."""
_SCREEN_SIGMA = 3.4
"""Excess from which on a value is compared closely, sigma: less than that of the neighbour of a hit
by more than the rounding of float32."""
_SCATTER_QUANTILE = 0.75
_NOISE_ALONE = 1.2
"""Quantile of the distances from a median that is about 1 for normal noise: 0.92 for 3 frames, 1.04
for 5."""
_SHIFT_TOLERANCE = 0.2
_SCALE_TOLERANCE = 0.01


class TileComparison(NamedTuple):
    """Result of the comparison of the frames of some tiles.

    Parameters
    ----------
    scale : (frame, tile, x), scale of each frame relative to their common signal.
    excess : (frame, tile, x), excess of a value over the others, in standard deviations.
    """

    scale: Values
    excess: Values


class ScreenedStrip(NamedTuple):
    """Values and tiles of a strip that have to be compared closely.

    Parameters
    ----------
    common : (y, x), the median of the frames, less dark and sky; NaN where none has a value.
    reference : (y, x), what a value is compared with: of two values the lower one, NaN of one.
    n_there : (y, x), the number of frames that have a value.
    frame, where : the frames and flat indices (y, x) of values that may be too high.
    may_shine : (y, tile), whether a tile may be bright.
    """

    common: Values
    reference: Values
    n_there: NDArray[np.integer[Any]]
    frame: Indices
    where: Indices
    may_shine: Flags


def screen_strip(
    block: Block,
    sky: tuple[Block, Values],
    noise: PixelNoise,
    dark: Values,
    more: Values,
    places: Indices,
) -> ScreenedStrip:
    """Find the values and the tiles of a strip that have to be compared closely.

    Without light every frame has the scale 1, so that a value is compared with the median of its
    pixel. Its noise is the least that it can have: what is considered later, such as the sky of its
    own frame, slopes and the scatter of its tile, only lowers its excess.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype, at least two frames; NaN is missing. Small enough
        for the CPU cache.
    sky : (frame, x), the sky to subtract from each frame, in the type in which they are compared:
        float32, or float64 for wider integers; and the least of the frames (x).
    noise : noise of a frame.
    dark, more : (y, x), the dark to subtract, and further variance, as of hot pixels.
    places : (tile, x), the columns of the tiles, fewer than 256 each.

    Examples
    --------
    >>> frames = np.full((3, 1, 4), 9, np.uint16)
    >>> frames[1, 0, 2] = 90
    >>> sky = np.full((3, 4), 9.0, np.float32), np.full(4, 9.0)
    >>> none, noise = np.zeros((1, 4)), PixelNoise(25.0, 0.0, 1.0)
    >>> found = screen_strip(frames, sky, noise, none, none, np.arange(4)[np.newaxis])
    >>> found.frame, found.where, found.may_shine
    (array([1]), array([2]), array([[False]]))
    """
    each, least = sky
    kind = each.dtype
    values = block.astype(kind)
    values -= each[:, np.newaxis]
    middle = median(values)
    n_there: NDArray[Any] = np.broadcast_to(len(block), middle.shape)
    if block.dtype.kind == "f":
        n_there = count(~np.isnan(values))
    reference = _reference_of(values, middle, n_there)
    values -= reference.astype(kind)
    common = middle - dark
    light = common if reference is middle else reference - dark
    sigma = noise.variance(light + least, more)
    np.sqrt(sigma, out=sigma)
    high = np.flatnonzero(values > (_SCREEN_SIGMA * sigma).astype(kind))
    frame, where = np.divmod(high, sigma.size)
    reaching = values > (_BRIGHT_HALF_SNR * sigma - light).astype(kind)
    shines = _any_in_tiles(light > _BRIGHT_PIXEL_SNR * sigma, places)
    may_shine = shines | _half_reach(reaching, places)
    return ScreenedStrip(common, light, n_there, frame, where, may_shine)


def _any_in_tiles(flags: Flags, places: Indices) -> Flags:
    """Return whether a flag (y, x) is set in each tile (y, tile)."""
    ends = np.stack([places[:, 0], places[:, -1] + 1], axis=1).ravel()[:-1]
    return np.asarray(np.logical_or.reduceat(flags, ends, axis=1)[:, ::2])


def _half_reach(reaching: Flags, places: Indices) -> Flags:
    """Return whether half of the pixels of tiles (y, tile) may be set in any frame (frame, y, x).

    Tiles overlap where they do not fit evenly; they are counted up to the next, and the pixels
    beyond it are taken as set.
    """
    first, width = places[:, 0], places.shape[1]
    counted = np.add.reduceat(reaching.view(np.uint8), first, axis=2, dtype=np.uint8)
    n_apart = width - np.diff(np.append(first, reaching.shape[2]))
    return np.asarray(2 * (np.maximum.reduce(counted, axis=0) + n_apart) >= width)


def dark_excess(
    values: Values,
    sky: Values,
    noise: PixelNoise,
    more: Values,
    reference: Values,
    of_mean: tuple[Values, Values],
    n_frames: int,
) -> Values:
    """Return the excess of values in tiles without light over the other frames, as `compare_tiles`.

    Parameters
    ----------
    values : (tile, x), tiles of single frames, less dark and sky; NaN is missing.
    sky : (tile, x), the subtracted sky of these frames.
    noise : noise of a frame.
    more : (tile, x), further variance, as of hot pixels.
    reference : (tile, x), of `screen_strip`.
    of_mean : (tile, x) each, the mean sky of all frames, and the number of frames with the noise of
        that sky that would know as much as all of them that have a value.
    n_frames : number of frames.

    Returns
    -------
    excess (tile, x), in standard deviations; of a tile without a high value, undivided by its
    scatter, which only lowers it.
    """
    variance = noise.variance(reference + sky, more)
    mean_sky, n_alike = of_mean
    known = n_alike / noise.variance(reference + mean_sky, more)
    with np.errstate(divide="ignore"):
        of_others = 1.0 / (known - 1.0 / variance)
    above = _beyond_tolerance(values - reference, reference)
    excess = _in_sigma(above, variance, of_others, n_frames)
    excess[~np.isfinite(excess)] = 0.0
    high = np.flatnonzero((excess > _SCREEN_SIGMA).any(axis=-1))
    excess[high] /= np.maximum(_tile_scatter(excess[high]), 1.0)
    return excess


def compare_tiles(
    values: Values, sky: Values, noise: PixelNoise, more: Values, struck: Flags | None = None
) -> TileComparison:
    """Compare the frames of tiles with each other.

    Parameters
    ----------
    values : (frame, tile, x), at least two frames, less dark and sky; NaN is missing.
    sky : (frame, tile, x), the subtracted sky, for its photon noise.
    noise : noise of a frame.
    more : (tile, x), further variance, as of hot pixels.
    struck : (frame, tile, x), values that are known to be hits, or lie beside one: they are
        compared, but have no part in the scale, unless they fill half of their tile. A tile that
        scatters more than by noise is then left alone: without its core, the scale of a narrow
        bright star follows its flanks.
    """
    scale, reference, bright = _scaled_tiles(values, sky, noise, more, struck)
    reference[bright] = _median_frame(values[:, bright] / scale[:, bright])
    expected = scale * reference
    variance = noise.variance(expected + sky, more)
    of_others = _variance_of_others(scale, variance, ~np.isnan(values))
    above = _beyond_tolerance(values - expected, expected)
    excess = _in_sigma(above, variance, of_others, len(values))
    excess[~np.isfinite(excess)] = 0.0
    scatter = _tile_scatter(excess)
    if struck is not None:
        excess[np.broadcast_to(scatter > _NOISE_ALONE, excess.shape)] = 0.0
    return TileComparison(scale, excess / np.maximum(scatter, 1.0))


def tile_scales(
    values: Values, sky: Values, noise: PixelNoise, more: Values, struck: Flags | None = None
) -> Values:
    """Return only the scale (frame, tile, x) of `compare_tiles`, in half the time."""
    return _scaled_tiles(values, sky, noise, more, struck)[0]


def _scaled_tiles(
    values: Values, sky: Values, noise: PixelNoise, more: Values, struck: Flags | None
) -> tuple[Values, Values, Indices]:
    """Return scales (frame, tile, x), the common signal (tile, x), and the bright tiles."""
    there = ~np.isnan(values)
    if struck is not None:
        few = 2 * np.count_nonzero(struck, axis=-1, keepdims=True) < struck.shape[-1]
        there &= ~(struck & few)
    known = np.where(there, values, 0.0)
    reference = _median_frame(values)
    common = np.nan_to_num(reference)
    weight = there / noise.variance(common + sky, more)
    bright = np.flatnonzero(_has_light(known, common, np.sqrt(weight)))
    scale = np.ones_like(known)
    scale[:, bright] = smooth_scales(known[:, bright], common[bright], weight[:, bright])
    return scale, reference, bright


def _tile_scatter(excess: Values) -> Values:
    """Return the width (..., 1) of the scatter in a tile, about 1 if the noise explains it.

    That of both sides, or of the lower one where it is less: a long track widens the upper one.
    """
    both = quantile(np.abs(excess), _SCATTER_QUANTILE)
    return np.minimum(both, -quantile(excess, (1.0 - _SCATTER_QUANTILE) / 2))


def _has_light(known: Values, common: Values, root: Values) -> Flags:
    """Return which tiles are bright, by their brightest pixel or half the pixels of any frame.

    The median is at the threshold only where half of the pixels are, so it is computed only there.
    """
    shines = np.asarray((common * root.max(axis=0)).max(axis=-1) > _BRIGHT_PIXEL_SNR)
    light = known * root
    reaching = np.count_nonzero(light > _BRIGHT_HALF_SNR, axis=-1)
    open_ = np.flatnonzero(~shines & (2 * reaching >= light.shape[-1]).any(axis=0))
    shines[open_] = np.median(light[:, open_], axis=-1).max(axis=0) > _BRIGHT_HALF_SNR
    return shines


def _variance_of_others(scale: Values, variance: Values, there: Flags) -> Values:
    """Return the variance of what the other frames tell of each value (frame, ...), at best."""
    squares = scale**2
    known = np.where(there, squares / variance, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(squares / (np.add.reduce(known, axis=0) - known))


def _in_sigma(off: Values, variance: Values, of_others: Values, n_frames: Values | int) -> Values:
    """Return differences from the median of frames in standard deviations of a value.

    Only what the other frames' noise has in excess of that of equal frames is added: a bright frame
    is compared with faint ones, whose noise is scaled with their light.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        more = np.maximum(of_others - variance / (n_frames - 1), 0.0)
    return np.asarray(off / np.sqrt(variance + more))


def _beyond_tolerance(above: Values, expected: Values) -> Values:
    """Return by how much high values exceed the expected ones; lines may shift a little."""
    tolerance = _SHIFT_TOLERANCE * _steepest_slope(expected) + _SCALE_TOLERANCE * np.maximum(
        expected, 0.0
    )
    return np.asarray(np.fmax(above - tolerance, np.minimum(above, 0.0)))


def _steepest_slope(light: Values) -> Values:
    """Return the largest difference of the signal from its neighbours along x."""
    steps = np.abs(np.diff(light, axis=-1))
    slope = np.zeros_like(light)
    slope[..., 1:] = steps
    slope[..., :-1] = np.fmax(slope[..., :-1], steps)
    return slope


def _median_frame(scaled: Values) -> Values:
    """Return the median of frames; of two, the lower one; NaN of fewer."""
    return _reference_of(scaled, median(scaled), count(~np.isnan(scaled)))


def _reference_of(frames: Block, middle: Values, n_there: NDArray[np.integer[Any]]) -> Values:
    """Return the median of frames, or the lower one where only two are there; NaN of fewer."""
    if n_there.size and n_there.min() > 2:
        return middle
    middle = np.where(n_there == 2, np.fmin.reduce(frames, axis=0), middle)
    return np.where(n_there < 2, np.nan, middle)


def mean_without(values: Values, offsets: Values, scale: Values, flagged: Flags) -> Values:
    """Return the mean of frames at some pixels without the flagged values, adu.

    Parameters
    ----------
    values : (frame, pixel), less dark and sky; NaN is missing.
    offsets : (frame, pixel), the sky that was subtracted.
    scale : (frame, pixel).
    flagged : (frame, pixel), values to reject.

    Returns
    -------
    counts (pixel): the common signal, scaled to all frames present, plus the mean residual of the
    remaining ones, so that rejecting the brightest frame does not lower the flux; NaN where none
    remains.

    Examples
    --------
    >>> values, scale = np.array([[50.0], [900.0], [150.0]]), np.array([[0.5], [1.0], [1.5]])
    >>> mean_without(values, np.full((3, 1), 7.0), scale, np.array([[False], [True], [False]]))
    array([107.])
    """
    there = ~np.isnan(values)
    kept = there & ~flagged
    common = median(np.where(kept, values / scale, np.nan)[:, np.newaxis])[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = _sum_in_order(np.where(there, scale * common + offsets, 0.0)) / there.sum(axis=0)
        rest = _sum_in_order(np.where(kept, values - scale * common, 0.0)) / kept.sum(axis=0)
    return np.asarray(expected + rest)


# Scale of a frame against the others, slow along the columns: `smooth_scales`.
#
# In each tile, a short piece of a row, a frame is a polynomial of the column times the common
# signal of the frames, fitted by weighted least squares in which outliers have little weight
# (Holland & Welsch 1977, Communications in Statistics 6, 813). Where there is hardly any signal, a
# prior keeps the scale at 1. Where a star shines in half of the pixels of a tile, and one scale for
# all fits half of them as well, it is taken: a polynomial follows a cosmic ray along the row at an
# end of its tile, and kept 6 % of the hits on a star's core.

_SCALE_PRIOR = 32.0
"""Weight of the prior scale 1, in squares of the S/N of a tile."""
_SCALE_ORDER = 3
_SCALE_PARTS = 8
_SCALE_ROUNDS = ((0.85, 1.44), (0.7, 1.036), (0.5, 0.6745))
"""Quantile of the distances that measures their width, and its value for a normal distribution, per
round: first one beyond all parts of the tile that have a scale of their own, last the median."""
_TUNING = 3.0
_NORMAL_MEDIAN = 0.6745
_EVEN_TOLERANCE = 1.15
_LEAST_SNR_OF_EVEN, _MOST_SNR_OF_EVEN, _LEAST_EVEN = 3.0, 100.0, 0.5
"""S/N of a pixel, and faintest to brightest light, of a tile with one scale. A star two rows wide
that crosses a row within the tile, and moves from frame to frame, has no one scale: where it is
bright, 3 % of its core was taken for hits."""
_LEAST_SCALE = 0.05


def smooth_scales(known: Values, common: Values, weight: Values) -> Values:
    """Return the scale of each frame relative to their common signal: slow, and 1 without signal.

    Parameters
    ----------
    known : (frame, tile, x), less dark and sky; missing values have weight 0.
    common : (tile, x), the common signal of the frames.
    weight : (frame, tile, x), the inverse of the variance.

    Returns
    -------
    scale (frame, tile, x).

    Examples
    --------
    >>> common = np.full((1, 48), 900.0)
    >>> frames = np.stack([common, 2 * common])
    >>> smooth_scales(frames, common, np.ones((2, 1, 48)))[:, 0, 24].round(3)
    array([1., 2.])
    """
    xi = np.linspace(-1.0, 1.0, common.shape[-1])
    first = _first_scale(known, common, weight)
    scale = np.broadcast_to(first, known.shape)
    root = np.sqrt(weight)
    constant = _even_scale(known, common, weight, first)
    in_even = quantile(np.abs(known - constant * common) * root, 0.5)
    for share, normal in _SCALE_ROUNDS:
        distance = np.abs(known - scale * common) * root
        spread = quantile(distance, share) / normal
        distance /= _TUNING * np.maximum(spread, 1.0)
        trust = weight * common / (1.0 + distance * distance) ** 2
        scale = _fit_scale(trust * common, trust * known, xi)
    in_slow = quantile(np.abs(known - scale * common) * root, 0.5)
    is_even = in_even <= _EVEN_TOLERANCE * np.maximum(in_slow, _NORMAL_MEDIAN)
    snr = quantile(common * root, 0.5)
    is_even &= (snr > _LEAST_SNR_OF_EVEN) & (snr < _MOST_SNR_OF_EVEN)
    is_even &= quantile(common, 0.1) > _LEAST_EVEN * quantile(common, 0.9)
    return np.maximum(np.where(is_even, constant, scale), _LEAST_SCALE)


def _even_scale(known: Values, common: Values, weight: Values, first: Values) -> Values:
    """Return one scale for each frame and tile (frame, tile, 1): least squares near a first one."""
    distance = np.abs(known - first * common) * np.sqrt(weight)
    distance /= _TUNING * np.maximum(quantile(distance, 0.5) / _NORMAL_MEDIAN, 1.0)
    trust = weight * common / (1.0 + distance * distance) ** 2
    squares = np.add.reduce(trust * common, axis=-1, keepdims=True) + _SCALE_PRIOR
    products = np.add.reduce(trust * known, axis=-1, keepdims=True) + _SCALE_PRIOR
    return np.asarray(products / squares)


def quantile(values: Values, share: float) -> Values:
    """Return the value (..., 1) below which a fraction of the values along x lies."""
    which = min(int(values.shape[-1] * share), values.shape[-1] - 1)
    return np.partition(values, which, axis=-1)[..., which : which + 1]


def _first_scale(known: Values, common: Values, weight: Values) -> Values:
    """Return one scale for each frame and tile: the weighted median of those of its parts."""
    edges = np.unique(np.linspace(0, common.shape[-1], _SCALE_PARTS + 1)[:-1].astype(np.intp))
    squares = np.add.reduceat(weight * common**2, edges, axis=-1)
    products = np.add.reduceat(weight * known * common, edges, axis=-1)
    own = _SCALE_PRIOR / len(edges)
    ratios = (products + own) / (squares + own)
    order = np.argsort(ratios, axis=-1, kind="stable")
    below = np.cumsum(np.take_along_axis(squares + own, order, -1), axis=-1)
    middle = np.argmax(below >= below[..., -1:] / 2, axis=-1)[..., np.newaxis]
    return np.take_along_axis(ratios, np.take_along_axis(order, middle, -1), -1)


def _fit_scale(squares: Values, products: Values, xi: Values) -> Values:
    """Return the least-squares polynomial (frame, tile, x) with a prior of 1."""
    moments = [np.add.reduce(squares * xi**i, axis=-1) for i in range(2 * _SCALE_ORDER - 1)]
    matrix = np.stack(
        [np.stack(moments[i : i + _SCALE_ORDER], -1) for i in range(_SCALE_ORDER)], -2
    )
    matrix += _SCALE_PRIOR * np.eye(_SCALE_ORDER)
    right = np.stack([np.add.reduce(products * xi**i, axis=-1) for i in range(_SCALE_ORDER)], -1)
    right[..., 0] += _SCALE_PRIOR
    found = np.linalg.solve(matrix, right[..., np.newaxis])
    scale = found[..., 0, :] + found[..., 1, :] * xi
    scale += found[..., 2, :] * (xi * xi)
    return np.asarray(scale)


# What was rejected: `FrameOutliers`.


class PixelOutliers(NamedTuple):
    """Rejected values, sorted by pixel and then by frame.

    In 320 frames one pixel in fifteen has an outlier, and hardly ever a second one: as planes
    (frame, pixel) they took 1.2 GiB, and as a list 17 bytes each.

    Parameters
    ----------
    frame : frame of each value.
    where : flat index of each value in (y, x), ascending.
    """

    frame: NDArray[np.integer[Any]]
    where: NDArray[np.integer[Any]]

    @classmethod
    def of(cls, frame: NDArray[np.integer[Any]], where: NDArray[np.integer[Any]]) -> PixelOutliers:
        """Sort values, given in any order, by pixel and then by frame."""
        order = np.lexsort((frame, where))
        return cls(frame[order], where[order])

    def flags(self, n_frames: int, pixels: Indices) -> Flags:
        """Return whether each pixel, ascending, is rejected in each frame (frame, pixel)."""
        flagged = np.zeros((n_frames, pixels.size), np.bool_)
        if pixels.size:
            ends = np.array([pixels[0], pixels[-1] + 1], self.where.dtype)
            first, stop = np.searchsorted(self.where, ends)
            where = self.where[first:stop].astype(np.intp)
            at = np.searchsorted(pixels, where)
            here = pixels[at] == where
            flagged[self.frame[first:stop][here], at[here]] = True
        return flagged


class FrameOutliers(NamedTuple):
    """Values rejected from each frame.

    Parameters
    ----------
    frames : labels of the frames.
    outliers : the rejected values.
    """

    frames: tuple[str, ...]
    outliers: PixelOutliers

    def of(self, labels: Iterable[str]) -> tuple[Indices, Flags]:
        """Return the pixels rejected from some frames, and their flags (frame, pixel)."""
        frames = [self.frames.index(label) for label in labels if label in self.frames]
        row = np.full(len(self.frames), -1)
        row[frames] = np.arange(len(frames))
        own = row[self.outliers.frame] >= 0
        outliers = PixelOutliers(row[self.outliers.frame[own]], self.outliers.where[own])
        where = np.unique(outliers.where).astype(np.intp)
        return where, outliers.flags(len(frames), where)
