"""Measure the noise of pixels: of a frame, and as a function of the signal.

The scatter of counts is the standard deviation clipped at three sigma, corrected for the clipped
tails. Why not the median absolute deviation: that of integers is an integer, 4 % off or more at a
noise of 14 counts, and hot pixels are clipped this way as well.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.combine import strips

Pixels = NDArray[Any]
Values = NDArray[np.float64]

_ROUNDING = 1 / 12
_CLIP_SIGMA = 3.0
_STD_WITHIN_CUT = 0.986577866
"""The standard deviation of a normal distribution truncated at 3 sigma."""
_N_CLIP_ROUNDS = 8
_N_FRAME_PAIRS = 4
_N_LIGHT_BINS = 12
_FEWEST_IN_A_BIN = 400
_LEAST_SLOPE = 10.0
_WORST_FIT = 3.0
_MIN_CORRELATION = 0.9
"""The correlation from which on a variance is taken to follow the counts."""


_NOISE_STRIP_PIXELS = 1 << 15


class PhotonTransfer(NamedTuple):
    """A gain measured from the growth of noise with signal, and its error: electrons per count."""

    gain: float
    error: float


def clipped_std(values: Pixels) -> float:
    """Return the sigma-clipped standard deviation of values; NaN is ignored.

    Parameters
    ----------
    values : any shape and real dtype.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(100, 5, 100_000)
    >>> values[:500] = 4000
    >>> round(clipped_std(values), 1)
    5.0
    """
    finite = np.asarray(values[np.isfinite(values)], np.float64)
    if finite.size == 0:
        return math.nan
    centre = float(np.median(finite))
    spread = 1.4826 * float(np.median(np.abs(finite - centre))) or float(np.std(finite))
    for _ in range(_N_CLIP_ROUNDS):
        kept = finite[np.abs(finite - centre) <= _CLIP_SIGMA * spread]
        centre, before = float(np.mean(kept)), spread
        spread = float(np.std(kept)) / _STD_WITHIN_CUT
        if abs(spread - before) <= 1e-4 * spread:
            break
    return spread


def finite_median(values: Pixels) -> float:
    """Return the median of the finite values; infinity where there is none.

    Examples
    --------
    >>> finite_median(np.array([1.0, np.nan, 3.0])), finite_median(np.array([np.nan]))
    (2.0, inf)
    """
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.inf


def finite_medians(rows: Values) -> Values:
    """Return the `finite_median` of each row (row, x), float64: 64 of 1536 in a third of the time.

    Examples
    --------
    >>> finite_medians(np.array([[1.0, 2.0, 4.0, 9.0], [1.0, np.nan, 3.0, 8.0]])).tolist()
    [3.0, 3.0]
    """
    half, finite = rows.shape[-1] // 2, np.isfinite(rows)
    if not half:
        return np.array([finite_median(row) for row in rows])
    if not finite.all():
        number = np.count_nonzero(finite, axis=-1)
        middle = np.stack([np.maximum(number - 1, 0) // 2, number // 2], axis=-1)
        ordered = np.sort(np.where(finite, rows, np.inf), axis=-1)
        return np.asarray(np.take_along_axis(ordered, middle, axis=-1).sum(axis=-1) / 2)
    ordered = np.partition(rows, half, axis=-1)
    upper = ordered[:, half]
    if rows.shape[-1] % 2:
        return upper
    return np.asarray((ordered[:, :half].max(axis=-1) + upper) / 2)


def common_slope(counts: Values, variance: Values) -> float:
    """Return the slope of variance against counts; 0 where they are not correlated.

    Parameters
    ----------
    counts, variance : those of the same pixels, finite.

    Examples
    --------
    >>> counts = np.array([0.0, 10.0, 20.0, 90.0])
    >>> common_slope(counts, 5 + counts / 4), common_slope(counts, np.full(4, 5.0))
    (0.25, 0.0)
    """
    if counts.size < 2:
        return 0.0
    x, y = counts - np.mean(counts), variance - np.mean(variance)
    xx, xy, yy = (float(np.add.reduce(product)) for product in (x * x, x * y, y * y))
    return xy / xx if xy > 0 and xy**2 > _MIN_CORRELATION**2 * xx * yy else 0.0


def light_variance(
    counts: Values, level: float, per_count: float, floor: float
) -> NDArray[np.float32]:
    """Return ``floor + per_count * max(counts - level, 0)``, strip by strip in the cache.

    Parameters
    ----------
    counts : (y, x).
    level : signal whose noise the floor already contains.
    per_count : variance per count.
    floor : variance without light.

    Examples
    --------
    >>> light_variance(np.array([[-3.0, 10.0]]), 0.0, 0.5, 4.0)
    array([[4., 9.]], dtype=float32)
    """
    variance = np.empty(counts.shape, np.float32)
    for rows in strips(counts[np.newaxis], _NOISE_STRIP_PIXELS):
        light = counts[rows] - level
        np.maximum(light, 0.0, out=light)
        light *= per_count
        light += floor
        variance[rows] = light
    return variance


def frame_variances(
    block: Pixels, floor: Pixels, *, level: float, per_count: float
) -> NDArray[np.float32]:
    """Return ``floor + per_count * max(counts - level, 0)`` of each frame, strip by strip.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype; the variance of missing values (NaN) is NaN.
    floor : variance of a pixel without light (y, x).
    level, per_count : as in `light_variance`.

    Examples
    --------
    >>> block, floor = np.array([[[-3, 10]], [[20, 2]]], np.int16), np.array([[4.0, 5.0]])
    >>> frame_variances(block, floor, level=0.0, per_count=0.5).tolist()
    [[[4.0, 10.0]], [[14.0, 6.0]]]
    """
    variance = np.empty(block.shape, np.float32)
    for frame, out in zip(block, variance, strict=True):
        for rows in strips(frame[np.newaxis], _NOISE_STRIP_PIXELS):
            light = np.subtract(frame[rows], level, dtype=np.float64)
            np.maximum(light, 0.0, out=light)
            light *= per_count
            np.add(light, floor[rows], out=out[rows], casting="same_kind")
    return variance


def frame_variance(frames: Pixels) -> float:
    """Return the variance of a pixel of one frame, from differences of frames.

    Structure common to all frames, as hot pixels and steps of the bias, cancels; so does a change
    of level from frame to frame. At most four pairs of successive frames, spread over all, are
    used.

    Parameters
    ----------
    frames : counts (frame, ...), at least two frames. The noise of integers is at least that of
        their rounding.

    Examples
    --------
    >>> frames = np.random.default_rng(0).normal(1000, 5, (3, 100, 300))
    >>> round(frame_variance(frames) ** 0.5, 1)
    5.0
    """
    n_pairs = len(frames) - 1
    firsts = sorted({i * n_pairs // _N_FRAME_PAIRS for i in range(_N_FRAME_PAIRS)})
    stds = [clipped_std(np.subtract(frames[i], frames[i + 1], dtype=np.float64)) for i in firsts]
    variance = sum(std**2 for std in stds) / len(stds) / 2
    return max(variance, _ROUNDING) if frames.dtype.kind in "iu" else variance


def photon_transfer(frames: Pixels, minus: Values | float = 0.0) -> PhotonTransfer | None:
    """Measure the gain from the growth of the noise with the signal; None if not constrained.

    For each pair of frames the difference is taken, and of that the difference between neighbours
    along x: smooth changes of the signal from frame to frame cancel. Its variance, in bins of the
    signal, is fitted by a straight line, whose slope is 1/gain (Janesick, Photon Transfer, 2007).
    The gain is accepted only if photon noise dominates the brightest bin, the slope is ten times
    its error, and a line fits: the variance of moving or flickering sources grows with the square
    of the signal. Sky alone does not constrain it: 1.5 million pixels of it gave 3.5 where the gain
    was 1.6.

    Parameters
    ----------
    frames : counts (frame, y, x), at least two frames.
    minus : dark or bias level to subtract (y, x).

    Examples
    --------
    >>> light = np.linspace(10, 4000, 300)[:, np.newaxis] * np.ones(400)
    >>> found = photon_transfer(np.random.default_rng(0).poisson(light, (2, 300, 400)) / 2.0)
    >>> round(found.gain, 1)
    2.0
    """
    levels, variances, errors = _binned_transfer(frames, minus)
    if levels.size < _N_LIGHT_BINS // 2 or not 0 < 2 * variances.min() < variances.max():
        return None
    weight = 1.0 / errors**2
    centre = np.sum(weight * levels) / np.sum(weight)
    spread = float(np.sum(weight * (levels - centre) ** 2))
    if spread <= 0:
        return None
    slope = float(np.sum(weight * (levels - centre) * variances)) / spread
    floor = np.sum(weight * variances) / np.sum(weight)
    misfit = np.sum(weight * (variances - floor - slope * (levels - centre)) ** 2)
    slope_error = spread**-0.5
    if slope < _LEAST_SLOPE * slope_error or misfit > _WORST_FIT * (levels.size - 2):
        return None
    return PhotonTransfer(1.0 / slope, slope_error / slope**2)


def _binned_transfer(frames: Pixels, minus: Values | float) -> tuple[Values, Values, Values]:
    """Return level, variance of a pixel, and its error, in bins of equally many pixels."""
    even = frames.shape[-1] // 2 * 2
    light, change = [], []
    for one, other in zip(frames[:-1:2], frames[1::2], strict=False):
        half = np.add(one, other, dtype=np.float64) / 2 - minus
        steps = np.subtract(one, other, dtype=np.float64)
        light.append((half[..., :even:2] + half[..., 1:even:2]) / 2)
        change.append(steps[..., :even:2] - steps[..., 1:even:2])
    lights, changes = np.concatenate(light).ravel(), np.concatenate(change).ravel()
    finite = np.isfinite(lights) & np.isfinite(changes)
    order = np.argsort(lights[finite], kind="stable")
    n_bins = min(_N_LIGHT_BINS, order.size // _FEWEST_IN_A_BIN)
    parts = np.array_split(order, n_bins) if n_bins else []
    kept = [(lights[finite][part], changes[finite][part]) for part in parts]
    levels = np.array([np.mean(level) for level, _ in kept])
    variances = np.array([clipped_std(step) ** 2 / 4 for _, step in kept])
    errors = variances * np.array([math.sqrt(2.2 / level.size) for level, _ in kept])
    return levels, variances, errors
