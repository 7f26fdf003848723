"""Combine a block of frames: median, mean, mean without extremes; first scaled to equal flux.

Median and mean equal those of numpy on float64 frames, missing values (NaN or masked) ignored, bit
for bit for any number of rows in the block, since nothing is ever added across pixels.

`minus` is subtracted inside. For a median it may be subtracted after the selection, because
rounding keeps order. For a mean, (S - n*d)/n equals the mean of the differences bit for bit when S
and n*d are exactly representable, which `_exact_in` checks; otherwise each frame is corrected
first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

DType = np.dtype[Any]

_LARGEST_EXACT = 2.0**52


def median(block: Block, minus: Image | None = None, *, mask: Flags | None = None) -> Image:
    """Return the median over frames of a block, less an image.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype; NaN is missing. Not changed.
    minus : image (y, x) to subtract from every frame.
    mask : flags (frame, y, x), True where a value is not used.

    Returns
    -------
    image (y, x), float64; NaN where every frame is missing. For an even number of frames the mean
    of the two middle values.

    Examples
    --------
    >>> median(np.array([[[1]], [[9]], [[4]]], dtype=np.uint16))
    array([[4.]])
    """
    return by_strips(block, minus, mask, median_of_strip)


def mean(block: Block, minus: Image | None = None, *, mask: Flags | None = None) -> Image:
    """Return the mean over frames of a block, less an image.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype; NaN is missing. Not changed.
    minus : image (y, x) to subtract from every frame.
    mask : flags (frame, y, x), True where a value is not used.

    Returns
    -------
    image (y, x), float64; NaN where every frame is missing. Frames are added one by one in order,
    integers as integers.

    Examples
    --------
    >>> mean(np.array([[[1]], [[9]], [[5]]], dtype=np.uint16), minus=np.array([[2.5]]))
    array([[2.5]])
    """
    return by_strips(block, minus, mask, mean_of_strip)


def mean_near(block: Block, centre: Image, reach: Image) -> Image:
    """Return the mean over frames of the values near an image; the image where none is.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype; NaN is missing.
    centre, reach : (y, x), the values are used from `centre - reach` to `centre + reach`.

    Examples
    --------
    >>> mean_near(np.array([[[1]], [[9]], [[2]]]), np.array([[2.0]]), np.array([[1.0]]))
    array([[1.5]])
    """
    total, n_near = np.zeros(centre.shape), np.zeros(centre.shape)
    for frame in block:
        offset = np.subtract(frame, centre, dtype=np.float64)
        near = np.abs(offset) <= reach
        total += np.where(near, offset, 0.0)
        n_near += near
    return centre + total / np.maximum(n_near, 1.0)


def variance_of_combination(block: Block, factors: Sequence[float]) -> Image:
    """Return the variance (y, x) of a combination, from the frames' (frame, y, x); NaN is missing.

    Parameters
    ----------
    block : the variance of each frame.
    factors : variance of the combination of n frames over that of their average, for n from 0.

    Examples
    --------
    >>> frames = np.array([[[4.0]], [[8.0]], [[np.nan]]])
    >>> variance_of_combination(frames, [np.nan, 1.0, 1.0, 1.346])  # a median
    array([[3.]])
    """
    known = np.isfinite(block)
    number = np.add.reduce(known, axis=0, dtype=np.intp)
    total = np.add.reduce(np.where(known, block, 0.0), axis=0, dtype=np.float64)
    return np.asarray(total / np.maximum(number, 1) ** 2 * np.asarray(factors)[number])


def flags_of_lost(block: Block, spoilt: int, least: int = 1) -> Image:
    """Return the flags (y, x) of pixels that too few frames (frame, y, x) know; 0 of all others.

    Parameters
    ----------
    block : the bits of each frame.
    spoilt : the bits of values that are not used.
    least : number of values that a pixel needs.

    Examples
    --------
    >>> flags_of_lost(np.array([[[1, 1]], [[4, 0]]], dtype=np.uint8), spoilt=15)
    array([[5, 0]], dtype=uint8)
    """
    lost = np.add.reduce((block & spoilt) == 0, axis=0, dtype=np.intp) < least
    return np.where(lost, np.bitwise_or.reduce(block, axis=0), np.uint8(0))


def difference(block: Block, minus: Image) -> Block:
    """Subtract an image from every frame of a block, in float64: integers never wrap.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype.
    minus : image (y, x).

    Returns
    -------
    counts (frame, y, x), float64.

    Examples
    --------
    >>> difference(np.array([[[10]]], dtype=np.uint16), np.array([[20.0]]))
    array([[[-10.]]])
    """
    return np.subtract(block, minus, dtype=np.float64)


def corrected(frame: Block, minus: Image | None) -> Image:
    """Return a frame less an image, in float64."""
    return frame.astype(np.float64) if minus is None else difference(frame, minus)


def median_of_strip(frames: Block, minus: Image | None) -> Image:
    """Return the median of frames without missing values."""
    low, high = middle_values(frames)
    if low is high:
        return corrected(low, minus)
    total = corrected(low, minus)
    total += corrected(high, minus)
    return np.multiply(total, 0.5, out=total)


def mean_of_strip(frames: Block, minus: Image | None) -> Image:
    """Return the mean of frames without missing values."""
    n = frames.shape[0]
    sum_dtype = _sum_dtype(frames.dtype, n)
    if sum_dtype is None or not (minus is None or _exact_in(minus, n)):
        return mean_of(frames, n, frames.dtype, minus)
    return _mean_of_sum(np.add.reduce(frames, axis=0, dtype=sum_dtype), n, minus)


def mean_of(frames: Iterable[Block], n: int, dtype: DType, minus: Image | None) -> Image:
    """Return the mean of an iterable of n frames (y, x), added in order, less an image."""
    sum_dtype = _sum_dtype(dtype, n)
    if sum_dtype is not None and (minus is None or _exact_in(minus, n)):
        each = iter(frames)
        summed = next(each).astype(sum_dtype)
        for frame in each:
            np.add(summed, frame, out=summed, casting="unsafe")
        return _mean_of_sum(summed, n, minus)
    total: Image | float = 0.0
    for frame in frames:
        total += corrected(frame, minus)
    return np.asarray(total / n)


def _sum_dtype(dtype: DType, n: int) -> DType | None:
    """Return the integer type that holds the sum of n values without overflow, or None."""
    if dtype.kind not in "iub" or dtype.itemsize > 4:
        return None
    if dtype.itemsize <= 2 and n <= 1 << 15:
        return np.dtype(np.int32 if dtype.kind == "i" else np.uint32)
    return np.dtype(np.int64) if n < 1 << 20 else None


def _exact_in(dark: Image, n: int) -> bool:
    """Return whether n times a dark is exact beside integer sums: multiples of a half, not huge."""
    doubled = dark * 2
    return bool(
        np.all(doubled == np.rint(doubled)) and np.all(np.abs(dark) < _LARGEST_EXACT / n / 2)
    )


def _mean_of_sum(total: Block, n: int, minus: Image | None) -> Image:
    """Return the mean of n frames of integers from their sum, less an image."""
    if minus is None:
        return np.asarray(np.true_divide(total, n, dtype=np.float64))
    result = np.multiply(minus, -float(n), dtype=np.float64)
    result += total
    result /= n
    return result


# Selection networks: the middle of n values by a fixed list of compare-exchanges.
#
# A sorting network compares positions, not values, so each comparator is one `numpy.minimum` and
# one `numpy.maximum` of whole strips of pixels: no gather, no branch, the native dtype. Batcher's
# odd-even merge network (Knuth, The Art of Computer Programming 3, 5.3.4) is pruned from the
# outputs backwards to the comparators that the middle needs: 8 for 5 frames, 31 for 11, 113 for 25,
# 905 for 101.
#
# The comparators are ordered depth first: one half is sorted completely before the other is begun,
# so that the frames in use stay in the cache. For 200 uint16 frames that takes 2.1 ns a value;
# sorting all pairs first, then all fours, and so on, takes 3.8.


class Exchange(NamedTuple):
    """One comparator: the positions it compares, and which of its two results are used."""

    low: int
    high: int
    keep_low: bool
    keep_high: bool


@cache
def median_network(n: int) -> tuple[Exchange, ...]:
    """Return the comparators that move the middle of n values to its sorted position.

    Parameters
    ----------
    n : the number of values, at least 1.

    Returns
    -------
    The comparators in order. Afterwards position ``n // 2`` holds the upper middle value and, for
    an even n, position ``n // 2 - 1`` the lower one; other positions are undefined.

    Examples
    --------
    >>> [len(median_network(n)) for n in (1, 2, 3, 5, 11, 25)]
    [0, 1, 3, 8, 31, 113]
    """
    wanted = {n // 2, (n - 1) // 2}
    kept = []
    for low, high in reversed(list(_sort(0, 1 << (n - 1).bit_length(), n))):
        if low in wanted or high in wanted:
            kept.append(Exchange(low, high, low in wanted, high in wanted))
            wanted |= {low, high}
    return tuple(reversed(kept))


def _sort(start: int, size: int, n: int) -> Iterator[tuple[int, int]]:
    """Yield the comparators that sort size positions (a power of two), without those from n on."""
    half = size // 2
    if half:
        yield from _sort(start, half, n)
    if half and start + half < n:
        yield from _sort(start + half, half, n)
        yield from _merge(start, half, n)


def _merge(start: int, half: int, n: int) -> Iterator[tuple[int, int]]:
    """Yield the comparators that merge two consecutive sorted halves."""
    apart = half
    while apart:
        for first in range(start + apart % half, start + 2 * half - apart, 2 * apart):
            for low in range(first, min(first + apart, n - apart)):
                yield low, low + apart
        apart //= 2


# Middle values of each pixel of a stack of frames, by a selection network or by sorting.
#
# Numpy's calls on strips are limited by memory bandwidth: a minimum of two strips runs at 70 to 100
# GB/s, whatever the dtype, so that the cost is the number of times each byte is touched.
# Nanoseconds a value, one thread of a busy machine (AVX-512), Gaussian noise of 20 counts:
#
#     frames             5    25    50   101   200   400   800
#     uint8    network  .09   .39   .65   1.1   1.3   2.2   2.9
#              sorting               16    19    21    24    25
#     uint16   network  .18   .60   1.4   2.0   2.9   3.1   5.5
#              sorting              1.5   1.2   1.1   1.2   3.4
#              counting       3.3   2.6   1.9   2.7   3.3
#              numpy    9.2   6.6    17   9.9   9.4
#     float32  network  .37   1.7   2.2   2.9   5.4   8.4    12
#              sorting              2.3   2.0   2.2   2.3   5.4
#     float64  network  .95   2.9   5.3   8.1   8.9    16    30
#              sorting              2.9   3.1   3.7   7.9    13
#
# *network*: below. *sorting*: pieces of 256 KB are copied and transposed, and
# `numpy.sort` sorts each pixel's values with vector instructions; `numpy.partition` around two
# places has none and takes 10 to 15. *counting*: bisection of the value between the least and the
# greatest median of groups of five frames; it depends on the noise. *numpy*: `numpy.median`.
# Batching the network's comparators into few calls takes 1.5 times as long as strips one by one.
#
# Hence the network up to the number of frames below, and sorting from there. The limit for 16-bit
# integers is high: only the newest processors sort those with vector instructions, others take 10
# ns. Numba's version of the network takes 1.2 ns at 25 and 1.3 at 100 frames of uint16, after half
# a second of import and half a second of loading the compiled code: no gain below some 1000 frames
# of 1024 x 1536.

_SORT_FROM = {1: 4096, 2: 1024, 4: 96, 8: 48}  # frames, by the bytes of a value
_PIECE_BYTES = 256 << 10


def middle_values(frames: Block) -> tuple[Block, Block]:
    """Return the lower and the upper middle value of each pixel, one array if they are the same.

    Parameters
    ----------
    frames : counts (frame, y, x), at least one frame, any real dtype. Not changed.

    Returns
    -------
    lower, upper : (y, x), of the same dtype in native byte order; NaN where a frame is NaN. For one
        frame a view of it.
    """
    frames = frames.astype(frames.dtype.newbyteorder("="), copy=False)
    if frames.shape[0] >= _SORT_FROM.get(frames.itemsize, 64):
        return _by_sorting(frames)
    return _by_network(frames)


def _by_network(frames: Block) -> tuple[Block, Block]:
    """Run the selection network; NaN propagates through every comparator to the middle.

    The first comparators read the frames in place; results go to strips of our own, and the strip
    released last, which is still in the cache, is written next.
    """
    n = frames.shape[0]
    lanes = list(frames if frames[0].flags.c_contiguous else np.ascontiguousarray(frames))
    ours = [False] * n
    spare: list[Block] = []

    def meet(keep: Callable[..., Block], a: Block, b: Block) -> Block:
        return keep(a, b, out=spare.pop() if spare else np.empty_like(a))

    for low, high, keep_low, keep_high in median_network(n):
        a, b = lanes[low], lanes[high]
        if keep_low:
            lanes[low] = meet(np.minimum, a, b)
        if keep_high and ours[high]:
            lanes[high] = np.maximum(a, b, out=b)
        elif keep_high:
            lanes[high] = meet(np.maximum, a, b)
        elif ours[high]:
            spare.append(b)
        if ours[low]:
            spare.append(a)
        ours[low] = ours[high] = True
    return lanes[(n - 1) // 2], lanes[n // 2]


def _by_sorting(frames: Block) -> tuple[Block, Block]:
    """Sort each pixel's values, piece by piece; NaN sort last, and a pixel with one is NaN.

    A piece is copied before it is transposed, to rows of an odd length: those of frames lie a power
    of two apart, which fall on the same lines of the cache.
    """
    n = frames.shape[0]
    places = (n - 1) // 2, n // 2
    pixels = frames.reshape(n, -1)
    both = np.empty((2, pixels.shape[1]), frames.dtype)
    step = max(8, _PIECE_BYTES // (n * frames.itemsize)) | 1
    for first in range(0, pixels.shape[1], step):
        piece = pixels[:, first : first + step].copy().T.copy()
        piece.sort(axis=1)
        both[:, first : first + step] = piece[:, places].T
        if frames.dtype.kind == "f":
            both[:, first : first + step][:, np.isnan(piece[:, -1])] = np.nan
    low, high = both.reshape(2, *frames.shape[1:])
    return (low, high) if n % 2 == 0 else (low, low)


# Iteration of a kernel over a block: strip by strip, then again for pixels with missing values.
#
# A kernel receives a *strip*, all frames x some rows, without missing values. `by_strips` passes it
# one strip after the other, so that its working set stays in the cache and no copy is ever larger
# than a strip. Pixels that lack some frames, NaN or masked, are gathered, sorted by the number of
# their frames, and passed to the same kernel as stacks of just those frames: a missing value is
# treated as if its frame had not been taken, in one place for every kernel.
#
# Why strips of 128 KB a frame: one call on whole frames is 3 times slower, and each call of numpy
# costs half a microsecond, as much as the work on 16 KB; the more so where two threads take turns.

Block = NDArray[Any]
Image = NDArray[np.float64]
Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]
StripKernel = Callable[[Block, Image | None], Image]

LANE_BYTES = 128 << 10
STRIP_BYTES = 16 << 20


def not_nan(values: Block) -> Flags:
    """Return which values are present; infinite ones are."""
    return np.asarray(~np.isnan(values))


def count(flags: Flags) -> NDArray[np.integer[Any]]:
    """Return the number of flags (frame, ...) set in each pixel; bytes are added as bytes."""
    dtype = np.uint8 if flags.shape[0] < 256 else np.uint32
    return np.asarray(np.add.reduce(flags.view(np.uint8), axis=0, dtype=dtype))


def by_strips(
    block: Block,
    minus: Image | None,
    mask: Flags | None,
    kernel: StripKernel,
    *,
    present: Callable[[Block], Flags] = not_nan,
    pixels: int | None = None,
) -> Image:
    """Reduce a block over its frames, strip by strip; missing values are not used.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype.
    minus : image (y, x) to subtract from every frame, or None.
    mask : flags (frame, y, x), True where a value is not used, or None.
    kernel : reduces frames without missing values, and the same rows of `minus`, to an image. A
        missing value must propagate: there the kernel returns a value that `present` rejects.
    present : returns which values of a floating dtype are used.
    pixels : number of pixels of a strip; by default 128 KB of each frame. All frames together make
        16 MB at most.

    Returns
    -------
    image (y, x), float64; NaN where no value is present.
    """
    if mask is not None and mask.shape != block.shape:
        raise ValueError(
            f"A mask of shape {mask.shape} does not match frames of shape {block.shape}. Use one "
            "flag for each value."
        )
    if block.shape[0] == 0:
        return np.full(block.shape[1:], np.nan)
    out = np.empty(block.shape[1:])
    floating = block.dtype.kind == "f"
    for rows in strips(block, pixels):
        strip, dark = block[:, rows], None if minus is None else minus[rows]
        hidden = None if mask is None else mask[:, rows]
        out[rows] = kernel(strip, dark)
        if hidden is None and not floating:
            continue
        spoilt = ~present(out[rows]) if floating else np.zeros(strip.shape[1:], bool)
        if hidden is not None:
            spoilt |= hidden.any(axis=0)
        where = np.flatnonzero(spoilt)
        if where.size:
            there = _present_in_strip(strip, hidden, where, present)
            out[rows][spoilt] = _combine_present(
                strip, there, where, None if dark is None else dark[spoilt], kernel
            )
    return out


def columns(frames: Block, where: Indices) -> Block:
    """Return the values (frame, pixel) of the pixels with these flat indices."""
    return np.take(frames.reshape(frames.shape[0], -1), where, axis=1)


def strips(block: Block, pixels: int | None = None) -> Iterator[slice]:
    """Yield the row slices of a block that make its strips, of at least one row each.

    Examples
    --------
    >>> list(strips(np.zeros((5, 100, 1000)), 40_000))
    [slice(0, 40, None), slice(40, 80, None), slice(80, 120, None)]
    """
    n_frames, n_rows, n_columns = block.shape
    pixels = pixels or LANE_BYTES // block.itemsize
    fit = STRIP_BYTES // (n_frames * block.itemsize)
    step = max(1, min(pixels, fit) // max(n_columns, 1))
    for first in range(0, n_rows, step):
        yield slice(first, first + step)


def _present_in_strip(
    strip: Block, hidden: Flags | None, where: Indices, present: Callable[[Block], Flags]
) -> Flags:
    """Return which values (frame, pixel) of some pixels are present."""
    shown = None if hidden is None else ~columns(hidden, where)
    if strip.dtype.kind != "f":
        return np.ones((len(strip), where.size), bool) if shown is None else shown
    there = present(columns(strip, where))
    return there if shown is None else there & shown


def _combine_present(
    strip: Block, there: Flags, where: Indices, minus: Image | None, kernel: StripKernel
) -> Image:
    """Reduce some pixels of a strip over their present frames, pixels of equal number at once.

    Sorted by number, the values of all pixels are contiguous, frames in order; those of m pixels
    with n frames each are then m x n of them.
    """
    counts = count(there)
    order = np.argsort(counts, kind="stable")
    there = np.ascontiguousarray(np.take(there, order, axis=1).T)
    values = np.ascontiguousarray(columns(strip, where[order]).T)[there]
    result = np.full(counts.shape, np.nan)
    first = 0
    for n, m in zip(*np.unique(counts[counts > 0], return_counts=True), strict=True):
        pixels = order[counts[order] == n]
        own = values[first : first + int(n) * m].reshape(m, n)
        frames = np.ascontiguousarray(own.T)[:, np.newaxis]
        result[pixels] = kernel(frames, None if minus is None else minus[pixels][np.newaxis])[0]
        first += int(n) * m
    return result


# Mean of a block (frame, y, x) without the lowest and highest values of each pixel.
#
# Each value is compared with the lowest and the highest ones held so far and replaces one of them
# where it is more extreme; the value left over at the end is added to the sum. So nothing is added
# that is subtracted again: integers are exact, and floating sums lose no precision to an outlier of
# 1e30.


def minmax_mean(
    block: Block,
    minus: Image | None = None,
    *,
    mask: Flags | None = None,
    low: int = 1,
    high: int = 1,
) -> Image:
    """Return the mean over frames without the extremes of each pixel, less an image.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype; NaN is missing. Not changed.
    minus : image (y, x) to subtract from every frame.
    mask : flags (frame, y, x), True where a value is not used.
    low, high : how many of the lowest and of the highest values of a pixel are rejected. Missing
        values are not counted among them.

    Returns
    -------
    image (y, x), float64; NaN where no more than low + high values are present.

    Raises
    ------
    ValueError
        `low` or `high` is negative.

    Examples
    --------
    >>> minmax_mean(np.array([[[900]], [[5]], [[7]], [[0]]], dtype=np.uint16))
    array([[6.]])
    """
    if low < 0 or high < 0:
        raise ValueError(
            f"{low} lowest and {high} highest values cannot be rejected. Use counts of at least 0."
        )

    def without_extremes(frames: Block, dark: Image | None) -> Image:
        n = frames.shape[0] - low - high
        if n < 1:
            return np.full(frames.shape[1:], np.nan)
        return mean_of(_neither_low_nor_high(frames, low, high), n, frames.dtype, dark)

    return by_strips(block, minus, mask, without_extremes)


def _neither_low_nor_high(frames: Block, low: int, high: int) -> Iterator[Block]:
    """Yield all but the lowest and highest values of each pixel; each yield reuses memory."""
    sides = [(np.minimum, np.maximum)] * low + [(np.maximum, np.minimum)] * high
    held: list[Block] = []
    dtype = frames.dtype.newbyteorder("=")
    spare, value = (np.empty(frames.shape[1:], dtype) for _ in range(2))
    for frame in frames:
        np.copyto(value, frame)
        for place, (keep, pass_on) in enumerate(sides[: len(held)]):
            keep(held[place], value, out=spare)
            pass_on(held[place], value, out=value)
            held[place], spare = spare, held[place]
        if len(held) < len(sides):
            held.append(value.copy())
        else:
            yield value


# Highest raw value of each pixel, in the same pass as the combination: `with_peak`.
#
# Saturation is determined from raw values, which are all in memory only during the combination: the
# files are not read again. The second plane adds 1.3 ms to 3 frames of 1024 x 1536, 10 ms to the
# median of 25 (30 ms).

LARGEST_COUNT = 2.0**32
"""Limit of valid counts: no converter has more bits."""

_PEAK_STRIP_PIXELS = 1 << 18


def with_peak(block: Block, minus: Image | None = None, *, kernel: StripKernel) -> Image:
    """Return the combination of a block, and the highest of the raw values, as two planes.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype.
    minus : image (y, x) to subtract from every frame of the combination.
    kernel : computes the combination.

    Returns
    -------
    planes (2, y, x), float64: the combination, and the highest value, NaN where a frame has NaN.

    Examples
    --------
    >>> from arrayred.kernels.combine import mean
    >>> with_peak(np.array([[[1]], [[9]]], dtype=np.uint16), kernel=mean)[:, 0, 0]
    array([5., 9.])
    """
    planes = np.empty((2, *block.shape[1:]), np.float64)
    for rows in strips(block, _PEAK_STRIP_PIXELS):
        strip = block[:, rows]
        planes[0, rows] = kernel(strip, None if minus is None else minus[rows])
        planes[1, rows] = np.maximum.reduce(strip, axis=0)
    return planes


def without_impossible(block: Block) -> Block:
    """Set values of a block of floats beyond any valid count, and infinite ones, to NaN.

    Examples
    --------
    >>> without_impossible(np.array([[[7.0, 3e38, -np.inf]]], np.float32))
    array([[[ 7., nan, nan]]], dtype=float32)
    """
    with np.errstate(invalid="ignore"):
        absurd = ~(np.abs(block) < LARGEST_COUNT)
    return np.where(absurd, block.dtype.type(np.nan), block) if absurd.any() else block


# Relative flux of frames: the slope of each row, and their weighted median.
#
# The model of a frame is ``flux * light + level``. For every row with flux the ratio of frame and
# reference is the median over its pixels weighted by flux, which is the regression through the sky
# of least absolute residuals; the flux of a frame is the median over the rows, weighted likewise.
# Medians, because one cosmic ray of 30,000 counts changes the slope of a least-squares fit by as
# much as a night's haze does; and they need no sums that would depend on the bands.

_VALUES_AT_ONCE = 1 << 16


class Scales(NamedTuple):
    """Scales that normalise frames: a frame is ``flux * light + level``.

    Parameters
    ----------
    flux : flux of every frame, 1 on average.
    level : level of every frame, in its own counts, 0 on average.
    """

    flux: tuple[float, ...]
    level: tuple[float, ...]

    @classmethod
    def none(cls, n_frames: int) -> Scales:
        """Return the scales of equal frames."""
        return cls((1.0,) * n_frames, (0.0,) * n_frames)


def weighted_median(values: Values, weights: Values) -> Values:
    """Return the weighted median along the last axis.

    Parameters
    ----------
    values : (..., n).
    weights : (n) or like values, 0 or more.

    Returns
    -------
    medians (...): the least value with half the weight at or below it; NaN without any weight.

    Examples
    --------
    >>> weighted_median(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 5.0]))
    array(2.)
    """
    weights = np.broadcast_to(weights, values.shape)
    if values.shape[-1] == 0:
        return np.full(values.shape[:-1], np.nan)
    order = np.argsort(values, axis=-1, kind="stable")
    heaped = np.cumsum(np.take_along_axis(weights, order, -1), axis=-1)
    place = np.argmax(2 * heaped >= heaped[..., -1:], axis=-1)[..., np.newaxis]
    chosen = np.take_along_axis(np.take_along_axis(values, order, -1), place, -1)[..., 0]
    return np.asarray(np.where(heaped[..., -1] > 0, chosen, np.nan))


def row_slopes(
    block: Block,
    minus: Image | None,
    usable: NDArray[np.bool_],
    *,
    skies: tuple[float, ...],
    least: float,
) -> Values:
    """Return the relative flux of every frame in each row, and the flux of the row.

    The reference is the median of the frames; for two frames, their mean.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype.
    minus : image (y, x) to subtract from every frame, or None.
    usable : (y, x), False where a pixel is not used.
    skies : sky of each frame, less `minus`.
    least : counts of the reference above its sky from which on a pixel is used.

    Returns
    -------
    slopes (frame + 2, y), float64: the slopes of the frames, NaN where no pixel is bright enough;
    then the sum of the flux of the pixels used, and the sum of its squares.

    Examples
    --------
    >>> frames = np.array([[[10, 110, 210]], [[10, 90, 170]]])
    >>> row_slopes(frames, None, np.ones((1, 3), bool), skies=(10.0, 10.0), least=5.0)[:, 0]
    array([1.11111111e+00, 8.88888889e-01, 2.70000000e+02, 4.05000000e+04])
    """
    n_frames, n_rows, _ = block.shape
    slopes = np.full((n_frames + 2, n_rows), np.nan)
    slopes[n_frames:] = 0.0
    reference = (median if n_frames > 2 else mean)(block, minus)
    reference -= sorted(skies)[n_frames // 2] if n_frames > 2 else sum(skies) / n_frames
    bright = usable & (reference > least)
    own = np.array(skies)[:, np.newaxis]
    for y in np.flatnonzero(bright.any(axis=1)):
        light = reference[y, bright[y]]
        dark = None if minus is None else minus[y, bright[y]]
        frames = corrected(block[:, y, bright[y]], dark) - own
        there = np.isfinite(frames).all(axis=0)
        frames, light = frames[:, there], light[there]
        slopes[:n_frames, y] = weighted_median(frames / light, light)
        slopes[n_frames:, y] = float(np.sum(light)), float(np.sum(light**2))
    return slopes


def to_one_level(frames: Block, minus: Image | None, scales: Scales) -> Values:
    """Return frames (frame, y, x) less an image, normalised by their scales, in float64."""
    values = np.asarray(corrected(frames, minus))
    shape = (-1, *[1] * (values.ndim - 1))
    values -= np.reshape(scales.level, shape)
    values /= np.reshape(scales.flux, shape)
    return values


def pixels_at_once(block: Block) -> int:
    """Return the number of pixels of a block processed at once: half a megabyte in float64."""
    return int(max(1, _VALUES_AT_ONCE // max(block.shape[0], 1)))


def combine_scaled(
    block: Block, minus: Image | None = None, *, kernel: StripKernel, scales: Scales
) -> Image:
    """Return the combination of frames normalised by their scales.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype; NaN is missing.
    minus : image (y, x) to subtract from every frame.
    kernel : computes the combination.
    scales : scales of the frames.

    Returns
    -------
    image (y, x), float64.

    Examples
    --------
    >>> frames = np.array([[[110.0]], [[80.0]], [[100.0]]])
    >>> scales = Scales((1.1, 0.8, 1.1), (0.0, 0.0, 0.0))
    >>> combine_scaled(frames, kernel=median, scales=scales).round(9)
    array([[100.]])
    """
    image = np.empty(block.shape[1:], np.float64)
    for rows in strips(block, pixels_at_once(block)):
        dark = None if minus is None else minus[rows]
        image[rows] = kernel(to_one_level(block[:, rows], dark, scales), None)
    return image
