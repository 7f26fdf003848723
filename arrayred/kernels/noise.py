"""The noise of pixels: of a frame, as a function of the signal, and of a combination.

The scatter of counts is the standard deviation clipped at three sigma, corrected for the clipped
tails. Why not the median absolute deviation: that of integers is an integer, 4 % off or more at a
noise of 14 counts, and hot pixels are clipped this way as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
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


# Variance of a median, a trimmed and a clipped mean, relative to the average.
#
# All are exact for normal noise, relative to the variance of the average of as many frames, by the
# same method (David & Nagaraja, Order Statistics, 2.1 and 8.2): given one or two of the order
# statistics, the values between or beyond them are independent draws from a truncated normal
# distribution, whose mean and variance are known; what remains is an integral over the one or two.
#
# A median of n frames: 1.435 for 5, 1.195 for 4, pi/2 only in the limit. A mean without the lowest
# and the highest: 1.346 for 3, where it is the median, 1.135 for 5, 1.047 for 11. A mean of the
# values within 3 sigma of the median: 1.073 for 3, 1.055 for 5, 1.040 for 11.

_MOST_CLIPPED = 41
"""Number of frames beyond which the factor of clipping is constant, and the sums would be long."""
_INTEGRATION_LIMIT = 12.0
_NEGLIGIBLE = 40.0
_POINTS = 241


class _TruncatedNormal(NamedTuple):
    """A normal distribution truncated at both ends: probability, mean and variance."""

    chance: Values
    mean: Values
    variance: Values


def variance_by_method(
    method: str, n_frames: int, left_out: Sequence[int] = (0, 0)
) -> float | None:
    """Return the variance of a combination of equal frames relative to that of one of them.

    Parameters
    ----------
    method : "average" or "clip", which rejects too few values to matter; "median"; "minmax".
    n_frames : number of frames.
    left_out : for "minmax": how many of the lowest and of the highest values are rejected.

    Returns
    -------
    float; None for a method whose variance is unknown.
    """
    if method in ("average", "clip"):
        return 1.0 / n_frames
    if method == "median":
        return median_factor(n_frames) / n_frames
    if method == "minmax":
        low, high = left_out
        return minmax_factor(n_frames, low, high) / n_frames if low + high < n_frames else math.nan
    return None


@cache
def median_factor(n: int) -> float:
    """Return k(n), the variance of a median of n frames over that of their average.

    Parameters
    ----------
    n : the number of frames, at least 1; their noise is normal.

    Examples
    --------
    >>> [round(median_factor(n), 3) for n in (1, 2, 3, 4, 5, 11, 25)]
    [1.0, 1.0, 1.346, 1.193, 1.434, 1.509, 1.544]
    """
    if n < 3:
        return 1.0
    middle, gap, weight = _median_nodes(n)
    density = np.exp(_log_density(n, middle[:, np.newaxis], gap)) @ weight
    return float(n * np.sum(density * middle**2) * (middle[1] - middle[0]))


@cache
def clip_factor(n: int, n_sigma: float) -> float:
    """Return the variance of a clipped mean of n frames over that of their average.

    Values farther than `n_sigma` known standard deviations from the median are rejected; of fewer
    than three frames none is.

    Parameters
    ----------
    n : the number of frames, at least 1.
    n_sigma : rejection threshold, in standard deviations of a value.

    Examples
    --------
    >>> [round(clip_factor(n, 3.0), 3) for n in (2, 3, 5, 11)]
    [1.0, 1.073, 1.055, 1.04]
    """
    if n < 3:
        return 1.0
    own = min(n, _MOST_CLIPPED)
    places, gap, weight = _median_nodes(own)
    middle = places[:, np.newaxis]
    likely = np.exp(_log_density(own, middle, gap)) * weight * (places[1] - places[0])
    below = _truncated_normal(middle - n_sigma, middle - gap / 2)
    above = _truncated_normal(-middle - n_sigma, -middle - gap / 2)
    above = above._replace(mean=-above.mean)
    return float(own * np.sum(likely * _second_moment(own, middle, below, above)))


def _second_moment(
    n: int, middle: Values, below: _TruncatedNormal, above: _TruncatedNormal
) -> Values:
    """Return the mean square of a clipped mean whose middle values are given."""
    outside, inside = (n - 1) // 2, 2 - n % 2
    total = np.zeros(np.broadcast_shapes(middle.shape, below.mean.shape))
    for lower in range(outside + 1):
        of_lower = _binomial(outside, lower, below.chance)
        for upper in range(outside + 1):
            chance = of_lower * _binomial(outside, upper, above.chance)
            centre = inside * middle + lower * below.mean + upper * above.mean
            spread = lower * below.variance + upper * above.variance
            total += chance * (centre**2 + spread) / (inside + lower + upper) ** 2
    return total


@cache
def minmax_factor(n: int, low: int = 1, high: int = 1) -> float:
    """Return the variance of a mean without extremes over that of the average of all n frames.

    Parameters
    ----------
    n : the number of frames.
    low, high : how many of the lowest and the highest values are rejected, in total fewer than n.

    Examples
    --------
    >>> [round(minmax_factor(n), 3) for n in (3, 5, 11)], minmax_factor(7, 0, 0)
    ([1.346, 1.135, 1.047], 1.0)
    """
    kept = n - low - high
    if low == high == 0:
        return 1.0
    least, greatest = _order_statistic(n, low), _order_statistic(n, n - high + 1)
    lower, upper = least[:, np.newaxis], greatest[np.newaxis]
    draws = _truncated_normal(lower, upper)
    log_chance = np.where(upper > lower, np.log(np.maximum(draws.chance, 1e-300)), -np.inf)
    log_density = kept * (log_chance + _log_below(upper))
    if low:
        log_density = log_density + (low - 1) * _log_below(lower) - lower**2 / 2
    if high:
        log_density = log_density + (high - 1) * _log_below(-upper) - upper**2 / 2
    density = np.exp(log_density - log_density.max())
    density /= density.sum()
    mean = float(np.sum(density * draws.mean))
    square = float(np.sum(density * (draws.mean**2 + draws.variance / kept)))
    return n * (square - mean**2)


def _order_statistic(n: int, place: int) -> Values:
    """Return an even grid of values of an order statistic: the place, from 1, of n in order."""
    if place in (0, n + 1):
        return np.array([-_INTEGRATION_LIMIT if place == 0 else _INTEGRATION_LIMIT])
    z = np.linspace(-_INTEGRATION_LIMIT, _INTEGRATION_LIMIT, 4801)
    log_density = (place - 1) * _log_below(z) + (n - place) * _log_below(-z) - z**2 / 2
    near = z[log_density > log_density.max() - _NEGLIGIBLE]
    return np.linspace(near[0], near[-1], _POINTS)


def _truncated_normal(low: Values, high: Values) -> _TruncatedNormal:
    """Return the normal distribution between `low` and `high`; its chance is of values < `high`."""
    below_high = np.exp(_log_below(high))
    chance = np.maximum(below_high - np.exp(_log_below(low)), 0.0)
    there = chance > 1e-200
    part = np.where(there, chance, 1.0)
    at_low, at_high = _density(low), _density(high)
    mean = np.where(there, (at_low - at_high) / part, 0.0)
    square = np.where(there, 1.0 + (low * at_low - high * at_high) / part, 0.0)
    return _TruncatedNormal(chance / below_high, mean, np.clip(square - mean**2, 0.0, 1.0))


def _density(z: Values) -> Values:
    return np.asarray(np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi))


def _binomial(n: int, k: int, chance: Values) -> Values:
    return np.asarray(math.comb(n, k) * chance**k * (1.0 - chance) ** (n - k))


def _median_nodes(n: int) -> tuple[Values, Values, Values]:
    """Return grids of the middle of n values and of the gap between the middle two, and weights."""
    reach = 15.0 / math.sqrt(n)
    middle = np.linspace(-reach, reach, 161)
    if n % 2:
        return middle, np.zeros(1), np.ones(1)
    nodes, weight = np.polynomial.legendre.leggauss(64)
    widest = min(12.0, 100.0 / n)
    return middle, (nodes + 1) * widest / 2, weight * widest / 2


def _log_density(n: int, middle: Values, gap: Values) -> Values:
    """Return the log of the density of the middle value, or of two with a gap between them."""
    outside = (n - 1) // 2
    low, high = middle - gap / 2, middle + gap / 2
    at_the_values = -(middle**2) / 2 if n % 2 else -(low**2 + high**2) / 2
    ways = math.lgamma(n + 1) - 2 * math.lgamma(outside + 1)
    norm = (2 - n % 2) * math.log(2 * math.pi) / 2
    return np.asarray(ways + outside * (_log_below(low) + _log_below(-high)) + at_the_values - norm)


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _log_below(z: Values) -> Values:
    """Return the log of the probability that a normal value lies below z."""
    return np.asarray(np.log(_erfc(-z / math.sqrt(2)) / 2))
