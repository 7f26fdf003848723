"""Describe a figure without a renderer: panels with axes, curves, bands of rows and images.

A figure is described once, by `figures`, and drawn on paper (`plots.paper`), on the
report's page (`report.render`) and in the explorer (`explore.figures`). The description holds
everything that affects the reading of a figure: the limits, the stretch, the shaded rows, the
labels. A renderer chooses what belongs to its medium: fonts, line widths, round tick values, the
number of dots of an image, and the colour of a *role*: the meaning of a mark, such as "flux",
"aperture" or "sky" (`COLOURS` lists them; the page's colours follow its theme).

Grey levels are decided here too (`stretch_of`), images are reduced to visible detail, and PNGs are
written, with
numpy alone: the report and the explorer need no matplotlib.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import UsageError
from arrayred.kernels.combine import Image
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


def stretch_of(counts: Counts, percentiles: tuple[float, float] = USUAL) -> Stretch:
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
        return Stretch(0.0, 1.0, 0.0, 1.0)
    first, middle, last = map(float, np.percentile(sample, (low, 50.0, high)))
    noise = robust_std(sample) or (last - first) / 10 or max(abs(middle), 1.0) * 1e-3
    if not last > first:
        first, last = middle - noise, middle + noise
    return Stretch(first, last, middle, 2 * noise)


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
    n_values = each[0] if each else 1
    kind = _KINDS[n_values] if palette is None else _PALETTE
    lines = np.zeros((n_rows, n_columns * n_values + 1), np.uint8)
    for i in range(n_values):  # a sixth of the time of copying three bytes after three
        lines[:, 1 + i :: n_values] = pixels[..., i] if each else pixels
    parts = [_chunk(b"IHDR", struct.pack(">IIBBBBB", n_columns, n_rows, 8, kind, 0, 0, 0))]
    if palette is not None:
        parts.append(_chunk(b"PLTE", palette[:, :3].tobytes()))
        if (palette[:, 3] < 255).any():
            parts.append(_chunk(b"tRNS", palette[:, 3].tobytes()))
    if dpi:
        per_metre = round(dpi / 0.0254)
        parts.append(_chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, 1)))
    parts += [_chunk(b"IDAT", zlib.compress(lines.data, level)), _chunk(b"IEND", b"")]
    return _SIGNATURE + b"".join(parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


# For screens, blocks are pixels of the image whole: a mean shows faint features, a peak small ones,
# for of a hot pixel or a cosmic ray a mean over 4 x 4 leaves a sixteenth. The pixels left over at
# the far edges form smaller blocks of their own.


def block_factor(shape: tuple[int, int], most: int) -> int:
    """Return the side of the smallest square blocks that make an image small enough, pixels.

    Parameters
    ----------
    shape : (n_rows, n_columns).
    most : largest number of pixels of the small image.

    Examples
    --------
    >>> block_factor((1024, 1536), 1 << 20), block_factor((1000, 1000), 1 << 20)
    (2, 1)
    """
    factor = 1
    while math.prod(-(-n // factor) for n in shape) > most:
        factor += 1
    return factor


def block_mean(image: NDArray[Any], factor: int) -> Image:
    """Return the mean of each block (y, x), float64; NaN where a pixel is.

    Parameters
    ----------
    image : (y, x), any real dtype.
    factor : pixels along the side of a block.

    Examples
    --------
    >>> block_mean(np.array([[1, 3, 10], [5, 7, 20]], np.uint8), 2)
    array([[ 4., 15.]])
    """
    steps = (factor, factor)
    return _summed(image, steps) / _summed(np.ones(image.shape, np.bool_), steps)


def block_peak(image: NDArray[Any], factor: int) -> Image:
    """Return the highest value of each block (y, x), float64; NaN where a pixel is.

    Parameters
    ----------
    image, factor : as for `block_mean`.

    Examples
    --------
    >>> block_peak(np.array([[1, 3, 10], [5, 7, 20]], np.uint8), 2)
    array([[ 7., 20.]])
    """
    rows, columns = (np.arange(0, size, factor) for size in image.shape)
    peaks = np.maximum.reduceat(np.maximum.reduceat(image, rows, axis=0), columns, axis=1)
    return peaks.astype(np.float64)


Along = Literal["x", "y"]
Place = Literal["", "above", "best", "upper right", "lower right"]
Extent = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Axis:
    """An axis of a panel; panels that share one are given the same object.

    Parameters
    ----------
    label : quantity and unit.
    low, high : its limits; an axis of names runs downwards, from the higher limit to the lower one.
        Time is in days since 1970.
    scale : "symlog" is linear within `width` of zero and logarithmic beyond.
    width : of the linear part.
    ticks : values and their labels; None: round numbers, chosen by the renderer.
    kind : type of the values: numbers, whole numbers, time, or names at 0, 1, 2 ...
    n_ticks : number of round numbers there is room for.
    """

    label: str = ""
    low: float = 0.0
    high: float = 1.0
    scale: Literal["linear", "log", "symlog"] = "linear"
    width: float = 0.0
    ticks: tuple[tuple[float, str], ...] | None = None
    kind: Literal["number", "integer", "time", "names"] = "number"
    n_ticks: int = 6

    def place(self, values: Any) -> Values:
        """Return the positions of values along the axis: 0 at `low`, 1 at `high`."""
        low, high = self._bent(self.low), self._bent(self.high)
        return np.asarray((self._bent(values) - low) / (high - low), np.float64)

    def _bent(self, values: Any) -> Values:
        plain = days(values)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.scale == "log":
                return np.log10(plain)
            if self.scale == "symlog":  # the linear part is as long as 10 / 9 decades
                far = np.sign(plain) * (10 / 9 + np.log10(np.abs(plain) / self.width))
                return np.where(np.abs(plain) <= self.width, plain / self.width * 10 / 9, far)
        return plain


def days(values: Any) -> Values:
    """Return times as days since 1970; numbers unchanged.

    Examples
    --------
    >>> days(np.datetime64("1970-01-02T12:00"))
    array(1.5)
    """
    found = np.asarray(values)
    if np.issubdtype(found.dtype, np.datetime64):
        return np.asarray((found - np.datetime64(0, "s")) / np.timedelta64(86400, "s"), np.float64)
    return found.astype(np.float64)


def around(*values: Any, margin: float = 0.05) -> tuple[float, float]:
    """Return limits that include all finite values, with a margin.

    Examples
    --------
    >>> around(np.array([0.0, np.nan, 10.0]))
    (-0.5, 10.5)
    """
    found = np.concatenate([days(one).reshape(-1) for one in values])
    found = found[np.isfinite(found)]
    low, high = (float(found.min()), float(found.max())) if found.size else (0.0, 1.0)
    if max(-low, high) > 1e307:  # high - low may overflow
        return 0.0, 1.0
    if not high - low > max(1e-13 * max(abs(low), abs(high)), _CLOSE):
        room = max(0.05 * abs(high), 0.05)
    else:
        room = margin * (high - low)
    return low - room, high + room


_CLOSE = 1e-290
"""Values closer together than this count as equal: the range has no round divisions."""


def ends_of(values: Any) -> tuple[float, float]:
    """Return the first and the last of values, 0.5 beyond them if they are the same.

    Examples
    --------
    >>> ends_of(np.arange(1, 1537)), ends_of([7])
    ((1.0, 1536.0), (6.5, 7.5))
    """
    first, last = float(values[0]), float(values[-1])
    return (first, last) if last > first else (first - 0.5, last + 0.5)


# Marks of a panel; those with a label are in the legend.


@dataclass(frozen=True, eq=False)
class Curve:
    """A line through points, broken where a value is not finite."""

    x: Any
    y: Any
    role: str
    label: str = ""


@dataclass(frozen=True, eq=False)
class Points:
    """Dots, with error bars: one standard deviation along y, half a length along x."""

    x: Any
    y: Any
    role: str
    label: str = ""
    error: Values | None = None
    length: Any = None
    is_joined: bool = False


@dataclass(frozen=True, eq=False)
class Area:
    """The area between two curves over x."""

    x: Any
    low: Values
    high: Values
    role: str
    label: str = ""


@dataclass(frozen=True, eq=False)
class Span:
    """A band across the whole panel, between two values of the axis `along`."""

    low: float
    high: float
    along: Along
    role: str
    label: str = ""


@dataclass(frozen=True, eq=False)
class Level:
    """A line across the whole panel, at a value of one axis."""

    at: float
    along: Along
    role: str
    label: str = ""


@dataclass(frozen=True, eq=False)
class Strokes:
    """Short vertical strokes at values of x: flagged columns, lines of a lamp."""

    x: Any
    role: str
    label: str
    height: float
    """Of their middle, as a fraction of the panel's height."""
    names: tuple[str, ...] = ()
    """Written upwards from each stroke; "": no name."""


@dataclass(frozen=True, eq=False)
class Bars:
    """Exposures: bars from start to end in lanes, numbered like the names of the y axis."""

    start: Values
    end: Values
    lane: NDArray[np.intp]
    role: str


@dataclass(frozen=True, eq=False)
class Pixels:
    """An image: counts (y, x), the edges of its outer pixels, and its stretch.

    If a unit is given, a colour bar is drawn.
    """

    counts: Counts
    extent: Extent
    stretch: Stretch
    unit: str = ""


@dataclass(frozen=True, eq=False)
class Flags:
    """Coloured pixels of an image: those of each role where its mask (y, x) is set."""

    masks: tuple[tuple[str, NDArray[np.bool_], str], ...]
    """Role, mask, label."""
    extent: Extent


Mark = Curve | Points | Area | Span | Level | Strokes | Bars | Pixels | Flags


@dataclass(frozen=True, eq=False)
class Panel:
    """Marks between two axes.

    Parameters
    ----------
    x, y : its axes.
    marks : in the order of drawing, the last on top.
    title : written above.
    name : type of the panel; the page gives each type a height.
    summary : alternative text.
    legend : place of the legend on paper; "": no legend.
    unnumbered : axes without tick labels, which a neighbour has: "", "x", "y" or "xy".
    grid : axes at whose ticks grid lines are drawn.
    above : values of x, their values on a second scale above, and its label, such as wavelengths,
        columns and "column".
    """

    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    title: str = ""
    name: Literal["image", "rows", "spectrum", "drift", "frame"] = "spectrum"
    summary: str = ""
    legend: Place = "above"
    unnumbered: str = ""
    grid: Literal["", "x", "xy"] = ""
    above: tuple[Values, Values, str] | None = None


@dataclass(frozen=True, eq=False)
class Sheet:
    """A whole figure: rows of panels.

    Parameters
    ----------
    rows : from the top; a single panel in a row is as wide as the sheet.
    size : width and height on paper, inches.
    title : written over it.
    widths, heights : of columns and rows, relative to each other; empty: all equal.
    x_label : label shared by all x axes, or "".
    """

    rows: tuple[tuple[Panel, ...], ...]
    size: tuple[float, float]
    title: str = ""
    widths: Sequence[float] = ()
    heights: Sequence[float] = ()
    x_label: str = ""


# Time axes: ISO dates, UTC; frame numbers where the times are unknown.
#
# Names of months would depend on the language of the machine, and the choice of matplotlib on its
# version: ticks are whole steps of the clock, as many as there is room for.

_STEPS: tuple[tuple[Literal["m", "D", "M", "Y"], int], ...] = (
    *(("m", step) for step in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720)),
    *(("D", step) for step in (1, 2, 5, 10)),
    *(("M", step) for step in (1, 2, 3, 6)),
    *(("Y", step) for step in (1, 2, 5, 10, 20, 50)),
)
"""Steps between ticks: minutes, days, months, years."""
_LEAST = np.timedelta64(600, "s")
"""Shortest range of a time axis."""


def time_axis(when: NDArray[Any], *, label: str = "time (UTC)", most: int = 8) -> Axis:
    """Return an axis of time in UTC, or of frame numbers.

    Parameters
    ----------
    when : datetime64, or frame numbers; the axis spans the first to the last, with a margin.
    label : of an axis of time.
    most : maximum number of ticks.
    """
    if not np.issubdtype(when.dtype, np.datetime64):
        low, high = around(when)
        return Axis("frame", low, high, kind="integer")
    if not when.size:
        return Axis(label, kind="time", ticks=())
    first, last = (time.astype("datetime64[s]") for time in (when.min(), when.max()))
    pad = max((last - first) / 25, (_LEAST - (last - first)) / 2)
    unit, ticks = _ticks(first - pad, last + pad, most)
    named = tuple(zip(map(float, days(ticks)), _names(ticks, unit), strict=True))
    low, high = (float(days(end)) for end in (first - pad, last + pad))
    return Axis(label, low, high, ticks=named, kind="time")


def _ticks(first: np.datetime64, last: np.datetime64, most: int) -> tuple[str, NDArray[Any]]:
    """Return the unit of the ticks, and at most `most` (at least one) round times between two.

    Examples
    --------
    >>> unit, ticks = _ticks(np.datetime64("2020-11-02T22:10"), np.datetime64("2020-11-03T05"), 3)
    >>> unit, ticks.astype(str).tolist()
    ('m', ['2020-11-03T00:00', '2020-11-03T02:00', '2020-11-03T04:00'])
    """
    found: tuple[str, NDArray[Any]] = ("m", np.array([first], "datetime64[m]"))
    for unit, step in _STEPS:
        low, high = (int(time.astype(f"datetime64[{unit}]").astype(int)) for time in (first, last))
        if (high - low) // step > 20 * most:
            continue
        counts = np.arange(-(-low // step) * step, high + 1, step)
        ticks = counts.astype(f"datetime64[{unit}]")
        ticks = ticks[ticks >= first]
        if not ticks.size:
            break
        found = unit, ticks
        if ticks.size <= most:
            break
    return found


def _names(ticks: NDArray[Any], unit: str) -> list[str]:
    r"""Return labels of ticks: time of day, or month and day; below it the rest where it changes.

    Examples
    --------
    >>> _names(np.array(["2020-11-02T22:00", "2020-11-02T23:00", "2020-11-03T00:00"], "M8[m]"), "m")
    ['22:00\n2020-11-02', '23:00', '00:00\n11-03']
    >>> _names(np.array(["2020-12-30", "2021-01-01"], "M8[D]"), "D")
    ['12-30\n2020', '01-01\n2021']
    """
    texts = [str(tick) for tick in ticks]
    if unit in ("M", "Y"):
        return texts
    split = 10 if unit == "m" else 4
    names = []
    for i, text in enumerate(texts):
        rest = text[:split] if i == 0 or unit == "D" else text[5:split]
        is_new = i == 0 or text[:split] != texts[i - 1][:split]
        names.append(text[split + 1 :] + (f"\n{rest}" if is_new else ""))
    return names
