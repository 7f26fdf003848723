"""Which values of a pixel are higher than the other frames allow: what cosmic rays leave behind.

Exposures of one star differ by a fifth in flux, the seeing changes and the trace moves, so frames
cannot be compared as they are: clipping by their noise takes a third of a star's core away. But
along the dispersion all of this changes slowly. So *cells* are compared, pieces of a row some 48
columns long: in each a frame is a slow polynomial of the column times what the frames have in
common (`kernels.slow`).

A value is judged by its noise and that of what it is compared with; where a cell scatters more
than that, by its scatter. Sharp lines may be shifted by a fifth of a pixel. Only upwards: nothing
takes charge away.

A parabola over 48 columns follows even a star 2 rows wide whose trace rises by 8 rows within 400
columns: at a signal to noise ratio of 300, 0.09 % of its core is taken for hits.

Every cell is worked on by itself, so that no number depends on which ones come together.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.slow import quantile, slow_scales
from arrayred.kernels.stack import median
from arrayred.kernels.strips import Flags, strips

Values = NDArray[np.float64]
Indices = NDArray[np.intp]

_BRIGHT = 4.0
"""Standard deviations of light in a pixel beyond which its cell is scaled."""
_LEVEL = 1.0
"""The same of half the pixels of a cell in any frame."""
_MOST = 0.75
"""The quantile of the distances from a median that is 1 for normal noise: 0.92 of 3, 1.04 of 5."""
_SHIFT = 0.2
_ALIKE = 0.01
_PIXELS = 1 << 16


class Noise(NamedTuple):
    """The noise of a pixel of one frame: ``floor + per_photon * max(light - level, 0)``.

    Parameters
    ----------
    floor : variance without light, adu^2.
    level : of the light whose noise is in the floor already, adu.
    per_photon : adu per electron; 0: unknown.
    """

    floor: float
    level: float
    per_photon: float

    def variance(self, light: Values, more: Values | float = 0.0) -> Values:
        """Return the variance at some light, with what else there is to add."""
        photons = np.maximum(light - self.level, 0.0)
        return np.asarray(photons * self.per_photon + (self.floor + more))


class Compared(NamedTuple):
    """What the comparison of the frames of some cells found.

    Parameters
    ----------
    scale : (frame, cell, x), of each frame to what they have in common.
    excess : (frame, cell, x), by how many standard deviations a value is above the others.
    """

    scale: Values
    excess: Values


def highest_excess(block: NDArray[Any], offsets: Values | None = None) -> NDArray[np.float32]:
    """Return how far the highest value of a pixel is above the mean of all.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype; NaN is missing.
    offsets : (frame, x) to subtract first.

    Returns
    -------
    excess (y, x); NaN or -inf where nothing is there.

    Examples
    --------
    >>> highest_excess(np.array([[[1]], [[7]], [[1]]], np.uint16))
    array([[4.]], dtype=float32)
    """
    excess = np.empty(block.shape[1:], np.float32)
    less = None if offsets is None else offsets.astype(np.float32)
    for rows in strips(block, _PIXELS):
        excess[rows] = _highest_excess(block[:, rows], less)
    return excess


def _highest_excess(
    strip: NDArray[Any], offsets: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Return the same of a strip that stays in the cache."""
    floating = strip.dtype.kind == "f"
    highest = np.full(strip.shape[1:], -np.inf, np.float32)
    total, value = np.zeros_like(highest), np.empty_like(highest)
    for i, frame in enumerate(strip):
        np.copyto(value, frame, casting="unsafe")
        if offsets is not None:
            value -= offsets[i]
        np.fmax(highest, value, out=highest)
        total += np.nan_to_num(value, copy=False) if floating else value
    n = np.count_nonzero(~np.isnan(strip), axis=0) if floating else strip.shape[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        total /= np.asarray(n, np.float32)
        return np.subtract(highest, total, out=highest)


def standing_out(
    excess: NDArray[np.float32], counts: Values, n_frames: int, noise: Noise, n_sigma: float
) -> Indices:
    """Return the flat indices of pixels whose highest value may be too high, frames being alike.

    Parameters
    ----------
    excess : (y, x), of `highest_excess`.
    counts : (y, x), of the frames combined, less the dark.
    n_frames, noise : of the frames.
    n_sigma : by how many standard deviations above the mean of the others.
    """
    share = n_sigma * (n_frames - 1) / n_frames
    found = np.flatnonzero(excess > share * np.sqrt(noise.floor))
    above = excess.flat[found].astype(np.float64)
    others = counts.flat[found] - above / (n_frames - 1)
    return found[~(above <= share * np.sqrt(noise.variance(others)))]


def compare(values: Values, sky: Values, noise: Noise, more: Values) -> Compared:
    """Compare the frames of cells with each other.

    Parameters
    ----------
    values : (frame, cell, x), at least two frames, less dark and sky; NaN is missing.
    sky : (frame, cell, x), what was subtracted, whose photons make noise.
    noise : of a frame.
    more : (cell, x), further variance, as of hot pixels.
    """
    scale, reference, bright = _scaled(values, sky, noise, more)
    reference[bright] = _reference(values[:, bright] / scale[:, bright])
    expected = scale * reference
    known = np.where(np.isnan(values), 0.0, values)
    excess = _judged(known - expected, expected, noise.variance(expected + sky, more), scale)
    excess[np.isnan(values) | ~np.isfinite(excess)] = 0.0
    return Compared(scale, excess / np.maximum(_spread(excess), 1.0))


def scales_of(values: Values, sky: Values, noise: Noise, more: Values) -> Values:
    """Return the scale of `compare` (frame, cell, x) alone, in half the time; as there."""
    return _scaled(values, sky, noise, more)[0]


def _scaled(
    values: Values, sky: Values, noise: Noise, more: Values
) -> tuple[Values, Values, Indices]:
    """Return scales (frame, cell, x), what the frames have in common, and the cells with light."""
    there = ~np.isnan(values)
    known = np.where(there, values, 0.0)
    reference = _reference(values)
    common = np.nan_to_num(reference)
    weight = there / noise.variance(common + sky, more)
    bright = np.flatnonzero(_shines(known, common, np.sqrt(weight)))
    scale = np.ones_like(known)
    scale[:, bright] = slow_scales(known[:, bright], common[bright], weight[:, bright])
    return scale, reference, bright


def _spread(excess: Values) -> Values:
    """Return the width (..., 1) of the scatter in a cell, about 1 if the noise explains it.

    That of both sides, or of the lower one where it is less: a long track makes the upper wide.
    """
    both = quantile(np.abs(excess), _MOST)
    return np.minimum(both, -quantile(excess, (1.0 - _MOST) / 2))


def _shines(known: Values, common: Values, root: Values) -> Flags:
    """Tell which cells have light, by its brightest pixel or by half of those of any frame.

    Half of the pixels reach a median, so only where half reach the level is it looked for.
    """
    shines = np.asarray((common * root.max(axis=0)).max(axis=-1) > _BRIGHT)
    light = known * root
    reaching = np.count_nonzero(light > _LEVEL, axis=-1)
    open_ = np.flatnonzero(~shines & (2 * reaching >= light.shape[-1]).any(axis=0))
    shines[open_] = np.median(light[:, open_], axis=-1).max(axis=0) > _LEVEL
    return shines


def _judged(above: Values, expected: Values, variance: Values, scale: Values) -> Values:
    """Return by how many standard deviations values are above what is expected.

    The noise of what a frame is compared with is more than usual where the others are faint.
    """
    tolerance = _SHIFT * _slope(expected) + _ALIKE * np.maximum(expected, 0.0)
    above = np.where(above > 0, np.maximum(above - tolerance, 0.0), above)
    known = scale**2 / variance
    others = np.add.reduce(known, axis=0) - known
    more = np.maximum(scale**2 / others - variance / (len(scale) - 1), 0.0)
    return np.asarray(above / np.sqrt(variance + more))


def _slope(light: Values) -> Values:
    """Return by how much light differs from that of the neighbours along x, at most."""
    steps = np.abs(np.diff(light, axis=-1))
    slope = np.zeros_like(light)
    slope[..., 1:] = steps
    slope[..., :-1] = np.fmax(slope[..., :-1], steps)
    return slope


def _reference(scaled: Values) -> Values:
    """Return the median of frames, the lower one where there are but two."""
    n = np.count_nonzero(~np.isnan(scaled), axis=0)
    middle = np.where(n == 2, np.fmin.reduce(scaled, axis=0), median(scaled))
    return np.where(n < 2, np.nan, middle)


def without(values: Values, offsets: Values, scale: Values, flagged: Flags) -> Values:
    """Return the mean of frames at some pixels as it were without what is flagged.

    Parameters
    ----------
    values : (frame, pixel), less dark and sky; NaN is missing.
    offsets : (frame, pixel), the sky that was subtracted.
    scale : (frame, pixel).
    flagged : (frame, pixel), what is left out.

    Returns
    -------
    counts (pixel): what the frames have in common, scaled to all that are there, and the mean
    distance of those that are left from it, so that leaving out the brightest frame makes nothing
    darker; NaN where none is left.

    Examples
    --------
    >>> values, scale = np.array([[50.0], [900.0], [150.0]]), np.array([[0.5], [1.0], [1.5]])
    >>> without(values, np.full((3, 1), 7.0), scale, np.array([[False], [True], [False]]))
    array([107.])
    """
    there = ~np.isnan(values)
    kept = there & ~flagged
    common = median(np.where(kept, values / scale, np.nan)[:, np.newaxis])[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = _added(np.where(there, scale * common + offsets, 0.0)) / there.sum(axis=0)
        rest = _added(np.where(kept, values - scale * common, 0.0)) / kept.sum(axis=0)
    return np.asarray(expected + rest)


def _added(frames: Values) -> Values:
    """Return the sum of frames, one by one in order."""
    total = np.zeros(frames.shape[1:])
    for frame in frames:
        total += frame
    return total
