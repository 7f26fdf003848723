"""Choose the colours and grey levels of figures, reduce images to visible detail, write PNGs.

With numpy alone: the report and the explorer need no matplotlib.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import UsageError
from arrayred.kernels.rows import robust_std
from arrayred.model import (
    BAD_PIXEL,
    COSMIC_RAY,
    DOUBTFUL_FLAT,
    DQ_MEANINGS,
    NO_DATA,
    REPAIRED,
    SATURATED,
)

Values = NDArray[np.float64]
BLACK, BLUE, SKY_BLUE, GREEN = "#000000", "#0072B2", "#56B4E9", "#009E73"
ORANGE, VERMILION, PURPLE, GREY = "#E69F00", "#D55E00", "#CC79A7", "#666666"
"""From the palette of Okabe and Ito, which colour-blind readers can distinguish."""
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY_BLUE, BLACK)
"""The colours of several curves in one panel, in order."""
FLAG_COLOURS = {
    BAD_PIXEL: BLACK,
    SATURATED: PURPLE,
    COSMIC_RAY: BLUE,
    NO_DATA: GREEN,
    REPAIRED: SKY_BLUE,
    DOUBTFUL_FLAT: ORANGE,
}


def flag_role(bit: int) -> str:
    """Return the role of the mark of a flag.

    Examples
    --------
    >>> flag_role(COSMIC_RAY)
    'flag-cosmic-ray'
    """
    return f"flag-{DQ_MEANINGS[bit].replace('_', '-')}"


COLOURS: dict[str, str] = {
    "flux": VERMILION, "noise": GREY, "aperture": VERMILION, "sky": SKY_BLUE, "other": GREY,
    "means": GREY, "threshold": BLACK, "median": BLACK, "scatter": GREY, "outlier": VERMILION,
    "trace": VERMILION, "edge": GREY, "cut": GREEN, "line": BLACK,
    "bias": GREY, "dark": BLACK, "flat": ORANGE, "arc": PURPLE, "light": BLUE, "unknown": VERMILION,
    **{f"series-{i}": colour for i, colour in enumerate(SERIES)},
    **{flag_role(bit): colour for bit, colour in FLAG_COLOURS.items()},
}  # fmt: skip
"""The colour of each role on white paper; `report/style.css` has those of the page's themes."""


# From counts to grey: `stretch_of` shows the noise of the sky and a bright star at once.
#
# Between two percentiles, linear within twice the noise about the median and logarithmic beyond:
# the inverse hyperbolic sine (Lupton, Gunn and Szalay 1999). Images of more pixels than the paper
# shows are averaged in blocks first (`reduced`), so that the cost of a figure depends on its own
# size.

Counts = NDArray[np.floating[Any]] | NDArray[np.bool_]
Scale = Literal["asinh", "linear", "log"]
_SAMPLE = 1 << 17
USUAL = (1.0, 99.7)
"""The percentiles that are black and white."""
_SOFTENING = 500.0
"""Steepness of the "log" scale: grey goes as ln(1 + 500 s), s from 0 to 1 between the limits."""


class Stretch(NamedTuple):
    """Scale of greys: counts that are black and white; level and width of the linear part."""

    low: float
    high: float
    level: float
    width: float
    scale: Scale = "asinh"

    def bend(self, counts: Any) -> Any:
        """Return counts on the scale on which grey is linear."""
        if self.scale == "linear":
            return counts
        if self.scale == "log":
            share = (counts - self.low) / (self.high - self.low)
            return np.log1p(_SOFTENING * np.maximum(share, 0.0))
        return np.arcsinh((counts - self.level) / self.width)

    def straighten(self, bent: Any) -> Any:
        """Return counts from their values on the scale of `bend` (its inverse)."""
        if self.scale == "linear":
            return bent
        if self.scale == "log":
            return self.low + (self.high - self.low) * np.expm1(bent) / _SOFTENING
        return self.level + self.width * np.sinh(bent)

    def grey(self, counts: Counts) -> NDArray[np.float64]:
        """Return grey values from 0 to 1; 0 where counts are not finite."""
        low, high = float(self.bend(self.low)), float(self.bend(self.high))
        grey = (self.bend(counts) - low) / (high - low)
        return np.where(np.isfinite(grey), np.clip(grey, 0.0, 1.0), 0.0)

    def ticks(self, n: int = 5) -> list[float]:
        """Return n counts evenly spaced in grey, rounded as far as their distances allow."""
        low, high = float(self.bend(self.low)), float(self.bend(self.high))
        counts = self.straighten(np.linspace(low, high, 2 * n + 1)[1::2])
        gaps = np.minimum(np.gradient(counts), np.diff(counts, append=np.inf))
        digits = np.ceil(-np.log10(np.maximum(gaps, 1e-300))).astype(int)
        return [round(float(c), int(d)) for c, d in zip(counts, digits, strict=True)]


def stretch_of(
    counts: Counts, percentiles: tuple[float, float] = USUAL, scale: Scale = "asinh"
) -> Stretch:
    """Return the stretch of counts (y, x), any dtype; also for a constant or empty image.

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
            f"The stretch limits are {low} and {high} percent",
            keyword="stretch",
            value=percentiles,
            hint="Use two increasing numbers from 0 to 100.",
        )
    flat = np.ascontiguousarray(counts).reshape(-1)
    sample = flat[:: max(flat.size // _SAMPLE, 1)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return Stretch(0.0, 1.0, 0.0, 1.0, scale)
    first, middle, last = map(float, np.percentile(sample, (low, 50.0, high)))
    noise = robust_std(sample) or (last - first) / 10 or max(abs(middle), 1.0) * 1e-3
    if not last > first:
        first, last = middle - noise, middle + noise
    return Stretch(first, last, middle, 2 * noise, scale)


def reduced(counts: Counts, most_rows: int, most_columns: int) -> NDArray[np.float64]:
    """Return an image (y, x) of at most so many rows and columns, averaged in blocks.

    Pixels that are not finite are not used. The last block may be smaller.

    Examples
    --------
    >>> reduced(np.array([[1.0, 3.0, 5.0], [1.0, np.nan, 5.0]]), 1, 2)
    array([[1.66666667, 5.        ]])
    """
    most = (most_rows, most_columns)
    steps = [-(-size // limit) for size, limit in zip(counts.shape, most, strict=True)]
    if steps == [1, 1]:
        return np.asarray(counts, np.float64)
    sums = _summed(counts, steps)
    heights, widths = (
        np.diff(np.append(np.arange(0, size, step), size))
        for size, step in zip(counts.shape, steps, strict=True)
    )
    numbers = np.outer(heights, widths).astype(np.float64)
    if not np.isfinite(sums).all():
        known = np.isfinite(counts)
        sums, numbers = _summed(np.where(known, counts, 0.0), steps), _summed(known, steps)
    with np.errstate(invalid="ignore"):
        return sums / numbers


def _summed(values: NDArray[Any], steps: Sequence[int]) -> NDArray[np.float64]:
    """Return the sums of blocks of so many rows and columns; the last ones may be smaller.

    Row is added to row, which takes a fifth of the time of `np.add.reduceat`.
    """
    for step in steps:  # of the rows; then of the columns, as rows of the turned image
        sums: NDArray[np.float64] = values[::step].astype(np.float64)
        for part in (values[i::step] for i in range(1, step)):
            sums[: len(part)] += part
        values = sums.T
    return values


# PNG with numpy and zlib: `encode_png`.
#
# A dozen lines, a tenth of the time that the import of a library takes, and the same bytes wherever
# zlib is the same.

_PALETTE = 3
_KINDS = {1: 0, 3: 2, 4: 6}
"""The types of pixels in a PNG, by the number of their values."""
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode_png(
    pixels: NDArray[np.uint8],
    palette: NDArray[np.uint8] | None = None,
    *,
    level: int = 6,
    dpi: float = 0.0,
) -> bytes:
    r"""Return greys, indices of a palette, or colours, as a PNG.

    Parameters
    ----------
    pixels : (row, column), the first row on top; greys from 0 to 255, or indices of the palette;
        (row, column, 3 or 4), red, green, blue and opacity.
    palette : (n, 4), red, green, blue and opacity, n <= 256; None: greys or colours.
    level : of zlib, from 1, fastest, to 9, smallest.
    dpi : pixels an inch, to be told; 0: unknown.

    Examples
    --------
    >>> encode_png(np.zeros((2, 3), np.uint8))[:8]
    b'\x89PNG\r\n\x1a\n'
    """
    n_rows, n_columns, *each = pixels.shape
    kind = _KINDS[each[0] if each else 1] if palette is None else _PALETTE
    lines = np.zeros((n_rows, pixels[0].size + 1), np.uint8)
    lines[:, 1:] = pixels.reshape(n_rows, -1)
    parts = [_chunk(b"IHDR", struct.pack(">IIBBBBB", n_columns, n_rows, 8, kind, 0, 0, 0))]
    if palette is not None:
        parts.append(_chunk(b"PLTE", palette[:, :3].tobytes()))
        if (palette[:, 3] < 255).any():
            parts.append(_chunk(b"tRNS", palette[:, 3].tobytes()))
    if dpi:
        per_metre = round(dpi / 0.0254)
        parts.append(_chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)))
    parts += [_chunk(b"IDAT", zlib.compress(lines.tobytes(), level)), _chunk(b"IEND", b"")]
    return _SIGNATURE + b"".join(parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)
