"""Median and mean of a block (frame, y, x), with an optional image subtracted: float64 (y, x).

Both give what numpy gives on float64 frames, missing values (NaN) left out, and the same bits
whatever the number of rows in the block, since nothing is ever added across pixels.

`minus` is subtracted inside. For a median it may be subtracted after the selection, because
rounding keeps order. For a mean, (S - n*d)/n equals the mean of the differences bit for bit when S
and n*d are exactly representable, which `_exact_in` checks; otherwise each frame is corrected
first.

Why strips: the working set of a strip stays in the cache; one call on whole frames is 3 times
slower.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.network import median_network

Block = NDArray[Any]
Image = NDArray[np.float64]
DType = np.dtype[Any]

_STRIP_BYTES = 4 << 20
_LARGEST_EXACT = 2.0**52


def median(block: Block, minus: Image | None = None) -> Image:
    """Return the median over frames of a block, less an image.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype; NaN is missing. Not changed.
    minus : image (y, x) to subtract from every frame.

    Returns
    -------
    image (y, x), float64; NaN where every frame is missing. For an even number of frames the mean
    of the two middle values.

    Examples
    --------
    >>> median(np.array([[[1]], [[9]], [[4]]], dtype=np.uint16))
    array([[4.]])
    """
    out = np.empty(block.shape[1:], np.float64)
    network = _Strips(block)
    for rows in _strips(block):
        low, high = network.middle(block[:, rows])
        out[rows] = _mean_of_middle(low, high, None if minus is None else minus[rows])
    return _mend_missing(out, block, minus, np.nanmedian)


def mean(block: Block, minus: Image | None = None) -> Image:
    """Return the mean over frames of a block, less an image.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype; NaN is missing. Not changed.
    minus : image (y, x) to subtract from every frame.

    Returns
    -------
    image (y, x), float64; NaN where every frame is missing. Frames are added one by one in order,
    integers as integers.

    Examples
    --------
    >>> mean(np.array([[[1]], [[9]], [[5]]], dtype=np.uint16), minus=np.array([[2.5]]))
    array([[2.5]])
    """
    n = block.shape[0]
    in_integers = _sum_dtype(block.dtype, n) is not None
    out = np.empty(block.shape[1:], np.float64)
    for rows in _strips(block):
        dark = None if minus is None else minus[rows]
        if in_integers and (dark is None or _exact_in(dark, n)):
            out[rows] = _integer_mean(block[:, rows], dark)
        else:
            out[rows] = _plain_mean(block[:, rows], dark)
    return _mend_missing(out, block, minus, _mean_of_present)


def difference(block: Block, minus: Image) -> Block:
    """Return every frame of a block less an image, in float64: integers never wrap.

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


class _Strips:
    """Scratch for the selection network: one strip a frame and one to spare, reused."""

    def __init__(self, block: Block) -> None:
        n, n_rows, n_columns = block.shape
        rows = min(_strip_rows(block), n_rows)
        dtype = block.dtype.newbyteorder("=")
        self._scratch = np.empty((n + 1, rows, n_columns), dtype)
        self._network = median_network(n)

    def middle(self, strip: Block) -> tuple[Block, Block]:
        """Return the lower and the upper middle value of each pixel of a strip."""
        n, n_rows, _ = strip.shape
        lanes = [lane[:n_rows] for lane in self._scratch]
        for lane, frame in zip(lanes, strip, strict=False):
            lane[...] = frame
        spare = lanes.pop()
        for low, high, keep_low, keep_high in self._network:
            a, b = lanes[low], lanes[high]
            if keep_low and keep_high:
                np.minimum(a, b, out=spare)
                np.maximum(a, b, out=b)
                lanes[low], spare = spare, a
            elif keep_low:
                np.minimum(a, b, out=a)
            else:
                np.maximum(a, b, out=b)
        return lanes[(n - 1) // 2], lanes[n // 2]


def _strip_rows(block: Block) -> int:
    """Return how many rows of all frames fill a strip."""
    bytes_per_row = (block.shape[0] + 1) * block.shape[2] * block.dtype.itemsize
    return max(8, _STRIP_BYTES // max(int(bytes_per_row), 1))


def _strips(block: Block) -> Iterator[slice]:
    """Yield the row slices of a block that each fill a strip."""
    step = _strip_rows(block)
    for first in range(0, block.shape[1], step):
        yield slice(first, first + step)


def _mean_of_middle(low: Block, high: Block, minus: Image | None) -> Image:
    """Return the mean of the two middle values, each less an image, in the plain order."""
    if low is high:
        return _corrected(low, minus)
    total = _corrected(low, minus)
    total += _corrected(high, minus)
    return np.multiply(total, 0.5, out=total)


def _corrected(frame: Block, minus: Image | None) -> Image:
    """Return a frame less an image, in float64."""
    return frame.astype(np.float64) if minus is None else difference(frame, minus)


def _sum_dtype(dtype: DType, n: int) -> DType | None:
    """Return the integer type in which n values add up without loss, or None."""
    if dtype.kind not in "iub" or dtype.itemsize > 4:
        return None
    if dtype.itemsize <= 2 and n <= 1 << 15:
        return np.dtype(np.int32 if dtype.kind == "i" else np.uint32)
    return np.dtype(np.int64) if n < 1 << 20 else None


def _exact_in(dark: Image, n: int) -> bool:
    """Tell whether n times a dark is exact beside integer sums: multiples of a half, not huge."""
    doubled = dark * 2
    return bool(
        np.all(doubled == np.rint(doubled)) and np.all(np.abs(dark) < _LARGEST_EXACT / n / 2)
    )


def _integer_mean(strip: Block, minus: Image | None) -> Image:
    n = strip.shape[0]
    total = strip[0].astype(_sum_dtype(strip.dtype, n))
    for frame in strip[1:]:
        np.add(total, frame, out=total, casting="unsafe")
    if minus is None:
        return np.asarray(np.true_divide(total, n, dtype=np.float64))
    result = np.multiply(minus, -float(n), dtype=np.float64)
    result += total
    result /= n
    return result


def _plain_mean(strip: Block, minus: Image | None) -> Image:
    total = np.zeros(strip.shape[1:], np.float64)
    for frame in strip:
        total += frame if minus is None else difference(frame, minus)
    total /= strip.shape[0]
    return total


def _mean_of_present(pixels: Block, axis: int) -> Image:
    """Return the mean over frames (axis 0), missing values left out, frames added in order."""
    total, n = np.zeros(pixels.shape[1:]), np.zeros(pixels.shape[1:])
    for frame in pixels.swapaxes(0, axis):
        present = ~np.isnan(frame)
        total += np.where(present, frame, 0.0)
        n += present
    return np.asarray(total / n)


def _mend_missing(out: Image, block: Block, minus: Image | None, reduce: Any) -> Image:
    """Redo the pixels that a missing value spoilt, leaving the missing values out."""
    if block.dtype.kind != "f":
        return out
    spoilt = np.isnan(out)
    if spoilt.any():
        column = block[:, spoilt].astype(np.float64)
        if minus is not None:
            column -= minus[spoilt]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            out[spoilt] = reduce(column, axis=0)
    return out
