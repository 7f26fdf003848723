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
_ROUNDED_SAMPLE = 1 << 12
_CLIP_SIGMA = 3.0
_STD_WITHIN_CUT = 0.986577866
"""The standard deviation of a normal distribution truncated at 3 sigma."""
_N_CLIP_ROUNDS = 8
_N_FRAME_PAIRS = 4
_N_LIGHT_BINS = 12
_FEWEST_IN_A_BIN = 50
_WIDTH_OF_LOWEST_BIN = 5.0
_MEDIAN_OF_SQUARES = 0.454936423119573
"""The median of the square of a standard normal variable."""
_N_LINE_ROUNDS = 12
_SAME_SLOPE = 1e-3
_LEAST_PART = 0.1
_COLLAPSED = 0.8
_LEAST_SLOPE = 10.0
_WORST_PART = 0.1
_WORST_FIT = 3.0
_MIN_CORRELATION = 0.9
"""The correlation from which on a variance is taken to follow the counts."""


_NOISE_STRIP_PIXELS = 1 << 15


class PixelNoise(NamedTuple):
    """The noise of a pixel of one frame: ``floor + per_photon * max(light - level, 0)``.

    Parameters
    ----------
    floor : variance without light, adu^2.
    level : signal whose noise the floor already contains, adu.
    per_photon : adu per electron; 0: unknown.
    """

    floor: float
    level: float
    per_photon: float

    def variance(self, light: Pixels, more: Pixels | float = 0.0) -> Values:
        """Return the variance at some signal, plus further variance, adu^2."""
        photons = np.asarray(np.subtract(light, self.level, dtype=np.float64))
        np.maximum(photons, 0.0, out=photons)
        photons *= self.per_photon
        photons += self.floor + more
        return photons


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


def frame_variances(
    block: Pixels, more: Pixels | None = None, *, noise: PixelNoise
) -> NDArray[np.float32]:
    """Return the variance of the pixels of frames, strip by strip in the cache.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype; the variance of missing values (NaN) is NaN.
    more : further variance (y, x), or None.
    noise : of a pixel.

    Examples
    --------
    >>> block, more = np.array([[[-3, 10]], [[20, 2]]], np.int16), np.array([[4.0, 5.0]])
    >>> frame_variances(block, more, noise=PixelNoise(0.0, 0.0, 0.5)).tolist()
    [[[4.0, 10.0]], [[14.0, 6.0]]]
    """
    variance = np.empty(block.shape, np.float32)
    for frame, out in zip(block, variance, strict=True):
        for rows in strips(frame[np.newaxis], _NOISE_STRIP_PIXELS):
            out[rows] = noise.variance(frame[rows], 0.0 if more is None else more[rows])
    return variance


def frame_variance(frames: Pixels) -> float:
    """Return the variance of a pixel of one frame, from differences of frames.

    Structure common to all frames, as hot pixels and steps of the bias, cancels; so does a change
    of level from frame to frame. At most four pairs of successive frames, spread over all, are
    used.

    Parameters
    ----------
    frames : counts (frame, ...), at least two frames. The noise is at least that of their
        rounding, without which frames that are alike, of 8 bits or cut off at 0, have none.

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
    return float(max(variance, rounding_variance(frames)))


def rounding_variance(values: Pixels) -> float:
    """Return the variance of the rounding of whole numbers, step^2 / 12; 0 of fractions.

    The step is that of the converter: 16 where 12 bits were shifted to 16.

    Parameters
    ----------
    values : any shape and real dtype; NaN is ignored.

    Examples
    --------
    >>> rounding_variance(np.array([48, 16, 32])) * 12, rounding_variance(np.array([7.0, 7.0])) * 12
    (256.0, 1.0)
    >>> rounding_variance(np.array([0.5, 0.7]))
    0.0
    """
    sample = values.ravel()[:: 1 + values.size // _ROUNDED_SAMPLE]
    if sample.dtype.kind == "f":
        sample = sample[np.isfinite(sample) & (np.abs(sample) < 2.0**53)]
        if not np.array_equal(sample, np.rint(sample)):
            return 0.0
    whole = sample.astype(np.int64)
    step = int(np.gcd.reduce(whole - whole[0])) if whole.size else 0
    return max(step, 1) ** 2 * _ROUNDING


def photon_transfer(
    frames: Pixels, minus: Values | float = 0.0, unlit: float | None = None
) -> PhotonTransfer | None:
    """Measure the gain from the growth of the noise with the signal; None if not constrained.

    Of frames of the same scene the contrasts are taken, and of those the differences between
    neighbours along x: what the frames have in common cancels, and so do smooth changes of the
    signal from frame to frame. Their variance, in bins of the signal, is fitted by a straight
    line, whose slope is 1/gain (Janesick, Photon Transfer, 2007). Contrasts are clipped in units
    of the noise that the line predicts, until the line no longer changes: a bin with few lit
    pixels among many unlit ones, clipped by its own scatter, loses the lit ones, and where a star
    lights 3 % of the pixels the gain came out twice too high.

    The gain is accepted only if photon noise dominates the brightest bin, the slope is ten times
    its error, and a line fits within a tenth: the variance of moving or flickering sources grows
    with the square of the signal. Bins above that of the largest variance whose noise has
    collapsed, as that of saturated pixels does, are left out.

    Parameters
    ----------
    frames : counts (frame, y, x), at least two frames.
    minus : dark or bias level to subtract (y, x).
    unlit : variance of a pixel where the signal above `minus` is 0, adu^2; None: not known.

    Examples
    --------
    >>> light = np.linspace(10, 4000, 300)[:, np.newaxis] * np.ones(400)
    >>> found = photon_transfer(np.random.default_rng(0).poisson(light, (2, 300, 400)) / 2.0)
    >>> round(found.gain, 1)
    2.0
    """
    if len(frames) < 2:
        return None
    signal, squares = _signal_and_squares(frames, minus)
    if signal.size * len(squares) < _FEWEST_IN_A_BIN:
        return None
    inner = _bin_edges(signal, squares, len(frames))
    which, n_bins = np.searchsorted(inner, signal), inner.size + 1
    sizes = np.bincount(which, minlength=n_bins) * len(squares)
    levels = np.bincount(which, signal, n_bins) * len(squares) / np.maximum(sizes, 1)
    used = sizes >= _FEWEST_IN_A_BIN
    medians = [np.median(squares[:, which == i]) if used[i] else 0.0 for i in range(n_bins)]
    variances = np.array(medians) / _MEDIAN_OF_SQUARES
    line, expected = None, variances
    for _ in range(_N_LINE_ROUNDS):
        bins = _Bins(levels[used], variances[used], expected[used], sizes[used])
        before, line = line, _fitted_line(bins, unlit)
        if line is None:
            return None
        if before is not None and abs(line.slope - before.slope) <= _SAME_SLOPE * line.slope:
            break
        expected, relative = line.variance(levels), squares / line.variance(signal)
        inside = relative.max(axis=0) <= _CLIP_SIGMA**2
        counts = np.bincount(which[inside], minlength=n_bins) * len(squares)
        totals = np.bincount(which[inside], relative[:, inside].sum(axis=0), n_bins)
        used = counts >= np.maximum(sizes / 2, _FEWEST_IN_A_BIN)
        scale = totals / np.maximum(counts, 1.0) / _STD_WITHIN_CUT**2
        variances = expected * scale
    if line is None or not line.fits or line.slope < _LEAST_SLOPE * line.error:
        return None
    return PhotonTransfer(1.0 / line.slope, line.error / line.slope**2)


def _signal_and_squares(frames: Pixels, minus: Values | float) -> tuple[Values, Values]:
    """Return the signal of pairs of neighbours (pair), and squared contrasts (contrast, pair).

    The contrasts of n frames are the n - 1 differences between a frame and the mean of those
    before it, scaled so that the expectation of their square is the variance of a pixel.

    The signal is the median of the frames, of two the lower: a cosmic ray that hits both neighbours
    alike leaves no contrast, and would pass for a signal without noise. It is made of the sum of
    the neighbours, the contrasts of their difference, so that the noise of the one is independent
    of that of the other.
    """
    even = frames.shape[-1] // 2 * 2
    one, other = (np.asarray(frames[..., i:even:2], np.float64) for i in (0, 1))
    sums, differences, squares = (one + other) / 2, one - other, []
    for k in range(1, len(frames)):
        contrast = np.sum(differences[:k], axis=0) - k * differences[k]
        squares.append((contrast**2 / (2.0 * k * (k + 1))).ravel())
    signal = np.median(sums, axis=0) if len(frames) > 2 else sums.min(axis=0)
    if not isinstance(minus, float):
        minus = (minus[..., :even:2] + minus[..., 1:even:2]) / 2
    signal, square = (signal - minus).ravel(), np.array(squares)
    finite = np.isfinite(signal) & np.isfinite(square).all(axis=0)
    return signal[finite], square[:, finite]


def _bin_edges(signal: Values, squares: Values, n_frames: int) -> Values:
    """Return the edges between bins of the signal, equally apart in its root.

    So photon noise is the same part of each bin. The lowest bin is wider than the noise of the
    signal in it; the highest begins where enough pixels lie above it that hot ones and cosmic rays
    do not fill it.
    """
    n_top = min(max(signal.size // 1000, 50), signal.size // 2)
    ordered = np.partition(signal, (signal.size // 20, signal.size - n_top))
    bottom, top = float(ordered[signal.size // 20]), float(ordered[signal.size - n_top])
    unlit = np.median(squares[:, signal <= np.median(signal)]) / _MEDIAN_OF_SQUARES
    edges = bottom + (top - bottom) * (np.arange(1, _N_LIGHT_BINS) / _N_LIGHT_BINS) ** 2
    return edges[edges > bottom + _WIDTH_OF_LOWEST_BIN * math.sqrt(unlit / n_frames / 2)]


class _Bins(NamedTuple):
    """Signal, variance, expected variance and number of squared contrasts of each bin."""

    level: Values
    variance: Values
    expected: Values
    size: NDArray[np.intp]


class _TransferLine(NamedTuple):
    """A line of variance over signal, the error of its slope, and whether the bins lie on it."""

    floor: float
    slope: float
    error: float
    least: float
    fits: bool

    def variance(self, signal: Values) -> Values:
        """Return the variance at a signal; above 0 where the line is not."""
        return np.maximum(self.floor + self.slope * signal, self.least)


def _fitted_line(bins: _Bins, unlit: float | None) -> _TransferLine | None:
    """Return the line through the bins whose noise has not collapsed; None where none rises.

    Bins are weighted by the variance that is expected of them: by their own, those that came out
    too low would weigh most.
    """
    error = bins.expected * np.sqrt(2.2 / np.maximum(bins.size, 1))
    kept = error > 0
    if kept.any():
        brightest = int(np.argmax(bins.variance - error))
        lost = bins.variance + 3 * error < _COLLAPSED * bins.variance[brightest]
        kept &= ~(lost & (bins.level > bins.level[brightest]))
    x, y, error = bins.level[kept], bins.variance[kept], error[kept]
    if unlit:
        x, y, error = (
            np.append(x, 0.0),
            np.append(y, unlit),
            np.append(error, 0.03 * unlit + 0.5 * _ROUNDING),
        )
    weight = 1.0 / error**2
    centre = np.sum(weight * x) / np.sum(weight) if x.size else 0.0
    spread = float(np.sum(weight * (x - centre) ** 2))
    slope = float(np.sum(weight * (x - centre) * y)) / spread if spread > 0 else 0.0
    if not slope > 0:
        return None
    floor = float(np.sum(weight * y) / np.sum(weight)) - slope * centre
    misfit = np.sum((y - floor - slope * x) ** 2 / (error**2 + (_WORST_PART * y) ** 2))
    fits = y.max() > 2 * y.min() and misfit <= _WORST_FIT * max(x.size - 2, 1)
    return _TransferLine(floor, slope, spread**-0.5, _LEAST_PART * float(y.min()), bool(fits))
