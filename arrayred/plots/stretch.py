"""How counts become grey: `stretch_of` shows the noise of the sky and a bright star at once.

Between two percentiles, linear within twice the noise about the sky and logarithmic beyond: the
inverse hyperbolic sine (Lupton, Gunn and Szalay 1999). What is finer than the paper is averaged in
blocks first (`reduced`), so that a picture costs what its size does.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import UsageError
from arrayred.kernels.rows import robust_std

if TYPE_CHECKING:
    from matplotlib.colors import FuncNorm

Values = NDArray[np.floating[Any]]
_SAMPLE = 1 << 17


class Stretch(NamedTuple):
    """The grey of counts: black and white, and the level and width about which it is linear."""

    low: float
    high: float
    level: float
    width: float

    @property
    def norm(self) -> FuncNorm:
        """Return it as matplotlib's norm."""
        from matplotlib.colors import FuncNorm

        pair = (partial(_bent, self.level, self.width), partial(_straight, self.level, self.width))
        return FuncNorm(pair, vmin=self.low, vmax=self.high)

    def grey(self, counts: Values) -> NDArray[np.float64]:
        """Return greys from 0 to 1; what is not finite is 0."""
        low, high = (float(_bent(self.level, self.width, end)) for end in (self.low, self.high))
        grey = (_bent(self.level, self.width, counts) - low) / (high - low)
        return np.where(np.isfinite(grey), np.clip(grey, 0.0, 1.0), 0.0)

    def ticks(self, n: int = 5) -> list[float]:
        """Return counts evenly spread over the greys, as round as their distances allow."""
        low, high = (float(_bent(self.level, self.width, end)) for end in (self.low, self.high))
        counts = _straight(self.level, self.width, np.linspace(low, high, 2 * n + 1)[1::2])
        gaps = np.minimum(np.gradient(counts), np.diff(counts, append=np.inf))
        digits = np.ceil(-np.log10(np.maximum(gaps, 1e-300))).astype(int)
        return [round(float(c), int(d)) for c, d in zip(counts, digits, strict=True)]


def _bent(level: float, width: float, counts: Any) -> Any:
    return np.arcsinh((counts - level) / width)


def _straight(level: float, width: float, bent: Any) -> Any:
    return level + width * np.sinh(bent)


def stretch_of(counts: Values, percentiles: tuple[float, float] = (1.0, 99.7)) -> Stretch:
    """Return how to show counts (y, x), any dtype; an even or empty image has a stretch too.

    Raises
    ------
    UsageError
        The percentiles are not two rising numbers from 0 to 100.

    Examples
    --------
    >>> stretch = stretch_of(np.arange(101.0).reshape(1, 101), (0, 100))
    >>> stretch.low, stretch.high, stretch.level
    (0.0, 100.0, 50.0)
    """
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise UsageError(
            f"A stretch from {low} to {high} percent was asked for",
            keyword="stretch",
            value=percentiles,
            hint="Give two rising numbers from 0 to 100.",
        )
    flat = np.ascontiguousarray(counts).reshape(-1)
    sample = flat[:: max(flat.size // _SAMPLE, 1)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return Stretch(0.0, 1.0, 0.0, 1.0)
    first, middle, last = map(float, np.percentile(sample, (low, 50.0, high)))
    noise = robust_std(sample) or (last - first) / 10 or max(abs(middle), 1.0) * 1e-3
    if not last > first:
        first, last = middle - noise, middle + noise
    return Stretch(first, last, middle, 2 * noise)


def reduced(counts: Values, most_rows: int, most_columns: int) -> NDArray[np.float64]:
    """Return an image (y, x) averaged in blocks, the finite pixels of each, so that it fits.

    Rows and columns that fill no block at the end are a smaller block.

    Examples
    --------
    >>> reduced(np.array([[1.0, 3.0, 5.0], [1.0, np.nan, 5.0]]), 1, 2)
    array([[1.66666667, 5.        ]])
    """
    rows, columns = (
        np.arange(0, size, -(-size // most))
        for size, most in zip(counts.shape, (most_rows, most_columns), strict=True)
    )
    if rows.size == counts.shape[0] and columns.size == counts.shape[1]:
        return np.asarray(counts, np.float64)
    values = np.asarray(counts, np.float64)
    sums = _summed(values, rows, columns)
    if np.isfinite(sums).all():
        high, wide = (
            np.diff(starts, append=size)
            for starts, size in zip((rows, columns), counts.shape, strict=True)
        )
        return np.asarray(sums / (high[:, np.newaxis] * wide))
    known = np.isfinite(values)
    numbers = _summed(known.astype(np.float64), rows, columns)
    with np.errstate(invalid="ignore"):
        return _summed(np.where(known, values, 0.0), rows, columns) / numbers


def _summed(values: NDArray[np.float64], rows: Any, columns: Any) -> NDArray[np.float64]:
    """Return the sums of blocks that begin at some rows and columns."""
    return np.asarray(np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1))
