"""Charts and markup of the report's pages.

What is drawn is stretched to its box, and the box to the screen; strokes keep their width and
labels their size, since those are HTML at so many percent of the box. Colours are classes of the
style sheet. Coordinates are whole numbers of a grid of 2000 x 1000, each line one path of steps:
some 5 bytes a point. A line of more points than a screen has columns is drawn by the lowest and the
highest of each run, so that no narrow line of a spectrum is lost.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeGuard
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import printable
from arrayred.kernels.rows import row_means
from arrayred.model import COUNTS, DQ, DQ_MEANINGS, VARIANCE, X, Y
from arrayred.plots.images import encode_png
from arrayred.plots.style import aperture, bands, reduced, sky_bands, stretch_of

if TYPE_CHECKING:
    import xarray as xr

_WIDTH, _HEIGHT = 2000, 1000
_MOST_RUNS = 400
"""Runs of points that a line is drawn by."""
_SPARK_RUNS = 48


def chart(
    kind: str,
    x: Axis,
    y: Axis,
    marks: Iterable[Markup],
    told: str,
    *,
    png: bytes = b"",
) -> Markup:
    """Return a chart.

    Parameters
    ----------
    kind : classes of the style sheet that set its shape, parted by points.
    x, y : its axes; an axis without label has ticks but no numbers.
    marks : what is drawn, the last on top.
    told : what it shows, for who does not see it.
    png : a picture that fills the box beneath the marks.
    """
    drawing = tag(
        "svg",
        _grid(x, y),
        marks,
        attributes={
            "viewBox": f"0 0 {_WIDTH} {_HEIGHT}",
            "preserveAspectRatio": "none",
            "role": "img",
            "aria-label": told,
        },
    )
    under = [picture(png, "")] if png else []
    labels = [*_labels(x, "x"), *_labels(y, "y")]
    return tag(f"div.chart.{kind}", tag("div.box", under, drawing, labels))


def _labels(axis: Axis, side: str) -> list[Markup]:
    """Return the numbers and the name of an axis; nothing where it has no name."""
    if not axis.label:
        return []
    places = axis.place([value for value, _ in axis.ticks]) * 100
    where = "left" if side == "x" else "bottom"
    ticks = [
        tag(f"span.{side}", text, attributes={"style": f"{where}:{place:.4g}%"})
        for (_, text), place in zip(axis.ticks, places, strict=True)
    ]
    return [*ticks, tag(f"span.{side}-name", axis.label)]


def spark_path(values: Values) -> str:
    """Return the shape of a spectrum as a path in a box of 120 x 30: some 400 bytes.

    Examples
    --------
    >>> spark_path(np.array([0.0, 2.0, 1.0]))
    'M0 29l60-28 60 14'
    """
    finite = values[np.isfinite(values)]
    if not finite.size or values.size < 2:
        return ""
    low, high = float(finite.min()), float(finite.max())
    places, thin = _thinned(np.linspace(0, 120, values.size), values, _SPARK_RUNS)
    down = 29 - 28 * (thin - low) / ((high - low) or 1.0)
    return _steps(np.rint(places), np.rint(down))


def spark(path: str, told: str) -> Markup:
    """Return a path of `spark_path` as a drawing of a line's height."""
    return tag(
        "svg.spark",
        _path("flux", path),
        attributes={
            "viewBox": "0 0 120 30",
            "preserveAspectRatio": "none",
            "role": "img",
            "aria-label": told,
        },
    )


def _grid(x: Axis, y: Axis) -> Markup:
    """Return faint lines at the ticks."""
    across = (f"M0 {round((1 - p) * _HEIGHT)}h{_WIDTH}" for p in y.place([t for t, _ in y.ticks]))
    upright = (f"M{round(p * _WIDTH)} 0v{_HEIGHT}" for p in x.place([t for t, _ in x.ticks]))
    return _path("grid", "".join((*across, *upright)))


def _path(kind: str, steps: str) -> Markup:
    return tag(f"path.{kind}", attributes={"d": steps})


def line(kind: str, x: Axis, y: Axis, points: Values, values: Values) -> Markup:
    """Return a line through points and values, broken where they are not finite."""
    points, values = _thinned(points, values)
    return _path(kind, _steps(*_on_grid(x, y, points, values)))


def profile(kind: str, x: Axis, y: Axis, places: Values, values: Values) -> Markup:
    """Return a line of values, along x, at places along y: it runs upwards."""
    places, values = _thinned(places, values)
    return _path(kind, _steps(*_on_grid(x, y, values, places)))


def band(kind: str, x: Axis, y: Axis, points: Values, low: Values, high: Values) -> Markup:
    """Return the area between two curves, where both are finite, in runs of their extremes."""
    known = np.isfinite(low) & np.isfinite(high)
    points, low, high = points[known], low[known], high[known]
    if not points.size:
        return joined()
    starts = _starts(points.size)
    edges = np.append(starts, points.size)[1:]
    centers = (points[starts] + points[edges - 1]) / 2
    lower, upper = np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)
    there = _steps(*_on_grid(x, y, centers, upper))
    back = _steps(*_on_grid(x, y, centers[::-1], lower[::-1]))
    return _path(kind, f"{there}L{back.removeprefix('M')}z" if "l" in there else "")


def rows(kind: str, y: Axis, first: float, last: float) -> Markup:
    """Return a band across the whole width, between two values."""
    low, high = (float(place) for place in np.clip(y.place([first, last]), 0, 1))
    top, height = round((1 - high) * _HEIGHT, 1), round((high - low) * _HEIGHT, 1)
    return _path(kind, f"M0 {top:g}h{_WIDTH}v{height:g}H0z")


def across(kind: str, y: Axis, value: float) -> Markup:
    """Return a line across the whole width."""
    return _path(kind, f"M0 {round((1 - float(y.place(value))) * _HEIGHT, 1):g}h{_WIDTH}")


def upright(kind: str, x: Axis, value: float) -> Markup:
    """Return a line over the whole height."""
    return _path(kind, f"M{round(float(x.place(value)) * _WIDTH, 1):g} 0v{_HEIGHT}")


def dots(kind: str, x: Axis, y: Axis, points: Values, values: Values) -> Markup:
    """Return a dot at each finite point: a stroke of no length, whose ends are round."""
    across, down = _on_grid(x, y, points, values)
    known = np.isfinite(across) & np.isfinite(down)
    pairs = zip(across[known].astype(int), down[known].astype(int), strict=True)
    return _path(kind, "".join(f"M{a} {d}h0" for a, d in pairs))


def ticks(kind: str, x: Axis, points: Values, level: float) -> Markup:
    """Return short upright strokes at points, so far up as a level from 0 to 1 says."""
    places = sorted({round(float(p) * _WIDTH) for p in x.place(points)})
    bottom = round((1 - level) * _HEIGHT)
    return _path(kind, "".join(f"M{p} {bottom}v-26" for p in places))


def _on_grid(x: Axis, y: Axis, points: Values, values: Values) -> tuple[Values, Values]:
    """Return points and values on the grid, whole numbers, somewhat beyond the box at most."""
    known = np.isfinite(points) & np.isfinite(values)
    across = np.clip(x.place(points), -0.1, 1.1) * _WIDTH
    down = (1 - np.clip(y.place(values), -0.1, 1.1)) * _HEIGHT
    return np.where(known, np.rint(across), np.nan), np.where(known, np.rint(down), np.nan)


def _steps(across: Values, down: Values) -> str:
    """Return a path as steps from point to point, anew behind each gap."""
    known = np.isfinite(across) & np.isfinite(down)
    pieces = []
    for first, stop in _runs(known):
        right, low = across[first:stop].astype(int), down[first:stop].astype(int)
        steps = zip(np.diff(right).tolist(), np.diff(low).tolist(), strict=True)
        moves = "".join(f"{a}{' ' if b >= 0 else ''}{b} " for a, b in steps)
        pieces.append(f"M{right[0]} {low[0]}" + (f"l{moves.rstrip()}" if moves else "h0"))
    return "".join(pieces)


def _runs(known: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], known, [False])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _starts(size: int, most: int = _MOST_RUNS) -> NDArray[np.intp]:
    """Return where runs of a line begin."""
    return np.unique(np.linspace(0, size, min(size, most) + 1)[:-1].astype(np.intp))


def _thinned(points: Values, values: Values, most: int = _MOST_RUNS) -> tuple[Values, Values]:
    """Return a line by the lowest and the highest value of each run, in their order."""
    if points.size <= 2 * most:
        return points, values
    chosen: list[int] = []
    starts = _starts(points.size, most)
    for first, stop in zip(starts, np.append(starts[1:], points.size), strict=True):
        run = values[first:stop]
        if not np.isfinite(run).all():
            chosen.extend(range(int(first), int(stop)))
            continue
        chosen.extend(sorted({int(first + np.argmin(run)), int(first + np.argmax(run))}))
    return points[chosen], values[chosen]


# Axes of a chart: where a value lies between two ends, and round numbers along it: `Axis`.

Values = NDArray[np.float64]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR, _DAY = 3600, 86400
_STEPS_OF_TIME = (
    *(60 * minutes for minutes in (1, 2, 5, 10, 20, 30)),
    *(_HOUR * hours for hours in (1, 2, 3, 6, 12)),
    *(_DAY * days for days in (1, 2, 5, 10, 30, 60, 120, 365, 730, 3650)),
)


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Parameters
    ----------
    label : what it is, and its unit.
    low, high : its ends; the high one is above the low one.
    ticks : values where it is labelled, and their labels.
    width : values are linear within this of zero and logarithmic beyond; 0: linear everywhere.
    """

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...] = ()
    width: float = 0.0

    def place(self, values: Any) -> Values:
        """Return where values lie: 0 at the low end, 1 at the high one."""
        low, high = self._bent(self.low), self._bent(self.high)
        return np.asarray((self._bent(values) - low) / (high - low), np.float64)

    def _bent(self, values: Any) -> Values:
        plain = np.asarray(values, np.float64)
        return np.arcsinh(plain / self.width) if self.width else plain


_LEAST = 1e-290
"""What lies closer together than this is one: of less there are no round parts."""


def linear(label: str, low: float, high: float, *, n_ticks: int = 6) -> Axis:
    """Return an axis with round numbers; its ends are those given, parted if they are one.

    Examples
    --------
    >>> [text for _, text in linear("column", 1, 1536, n_ticks=4).ticks]
    ['500', '1000', '1500']
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        low, high = 0.0, 1.0
    if not high - low > _LEAST:
        low, high = low - 0.5 * max(abs(low), 1.0), high + 0.5 * max(abs(high), 1.0)
    step = _round_step((high - low) / max(n_ticks, 1))
    first, last = math.ceil(low / step), math.floor(high / step)
    values = [i * step for i in range(first, last + 1)]
    return Axis(label, low, high, tuple(zip(values, _told(values, step), strict=True)))


def around(label: str, values: Any, *, n_ticks: int = 5, margin: float = 0.06) -> Axis:
    """Return a linear axis that holds all finite values with some room about them."""
    found = np.asarray(values, np.float64)
    found = found[np.isfinite(found)]
    if not found.size:
        return linear(label, 0.0, 1.0, n_ticks=n_ticks)
    low, high = float(found.min()), float(found.max())
    room = margin * ((high - low) or max(abs(high), 1.0))
    return linear(label, low - room, high + room, n_ticks=n_ticks)


def bent(label: str, low: float, high: float, width: float) -> Axis:
    """Return an axis that is linear about zero and logarithmic beyond, labelled by powers of ten.

    Examples
    --------
    >>> [text for _, text in bent("mean", -5, 3000, 60).ticks]
    ['0', '100', '1000']
    """
    if high <= 4 * width:
        return linear(label, low, high, n_ticks=3)
    powers = range(math.ceil(math.log10(1.2 * width)), math.floor(math.log10(high)) + 1)
    values = [0.0, *(10.0**power for power in powers)]
    shown = [value for value in values if low <= value <= high]
    return Axis(label, low, high, tuple((value, short(value)) for value in shown), width)


def times(label: str, low: datetime, high: datetime, *, n_ticks: int = 6) -> Axis:
    """Return an axis of time, in seconds of UTC, labelled by the clock or the calendar."""
    first, last = seconds_of(low), seconds_of(high)
    room = 0.03 * ((last - first) or _HOUR)
    first, last = first - room, last + room
    step = next((s for s in _STEPS_OF_TIME if (last - first) / s <= n_ticks), _STEPS_OF_TIME[-1])
    values = np.arange(math.ceil(first / step) * step, last, step)
    moments = [_EPOCH + timedelta(seconds=float(value)) for value in values]
    ticks = tuple((float(v), _clock(m, step)) for v, m in zip(values, moments, strict=True))
    return Axis(label, first, last, ticks)


def _clock(moment: datetime, step: int) -> str:
    """Return a tick of time: the clock, at midnight the day, of long times the date."""
    if step >= _DAY:
        return f"{moment:%Y-%m-%d}"
    return f"{moment:%H:%M}" if moment.hour or moment.minute else f"{moment:%m-%d}"


def seconds_of(moment: datetime) -> float:
    """Return a moment of UTC as a number."""
    return (moment.replace(tzinfo=UTC) - _EPOCH).total_seconds()


def _round_step(rough: float) -> float:
    """Return 1, 2 or 5 times a power of ten, not less than a rough step."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _told(values: Sequence[float], step: float) -> list[str]:
    """Return ticks as text, as many decimals as their step needs."""
    largest = max(map(abs, values), default=0.0)
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if largest >= 100 * factor or largest >= factor > 1e3:
            return [f"{value / factor:g}{letter}" if value else "0" for value in values]
    decimals = max(-math.floor(math.log10(step)), 0)
    return [f"{value:.{decimals}f}" for value in values]


def short(value: float) -> str:
    """Return a number as a short text.

    Examples
    --------
    >>> short(1000.0), short(2.5e6), short(150000)
    ('1000', '2.5M', '150k')
    """
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= (100 * factor if letter == "k" else factor):
            return f"{value / factor:.4g}{letter}"
    return f"{value:g}"


# A target drawn: its image with aperture and sky, the means of its rows, its spectrum.
#
# What is marked is what the figures mark (`plots.marks`).

_NOISES = 3
"""Standard deviations of the band about a spectrum."""
_KIND_OF = {"spectrum": "aperture", "sky": "sky"}
"""Which class of the style sheet draws what a band is called by its first word."""


def _axes_of(image: xr.Dataset) -> tuple[Axis, Axis]:
    """Return the axes of an image: its columns and rows, at the outer edges of its pixels."""
    x, y = image[X].values, image[Y].values
    return (
        linear("column", float(x[0]) - 0.5, float(x[-1]) + 0.5),
        linear("row", float(y[0]) - 0.5, float(y[-1]) + 0.5, n_ticks=5),
    )


def pictures(image: xr.Dataset, spectrum: xr.Dataset, name: str) -> Markup:
    """Return image, rows and spectrum of a target.

    Parameters
    ----------
    image : the combined image, counts (y, x), upright.
    spectrum : flux (x).
    name : what they are called.
    """
    return joined(
        tag(
            "div.pair",
            _figure(_image(image, spectrum, name), "Combined image", _keys(spectrum)),
            _figure(_profile(image, spectrum), "Mean of each row", _rows_keys(spectrum)),
        ),
        _figure(_spectrum(spectrum, name), _title(spectrum, name), _flag_keys(spectrum)),
    )


def _figure(drawn: Markup, title: str, keys: list[tuple[str, str]]) -> Markup:
    """Return a chart under its title and the meaning of its colours."""
    shown = [tag("span.key", tag(f"i.{kind}"), text) for kind, text in keys]
    return tag("figure", tag("figcaption", tag("b", title), shown), drawn)


def _image(image: xr.Dataset, spectrum: xr.Dataset, name: str) -> Markup:
    x, y = _axes_of(image)
    marks = [rows("sky", y, a - 0.5, b + 0.5) for a, b in sky_bands(spectrum)]
    columns = spectrum[X].values.astype(np.float64)
    marks += [line("aperture", x, y, columns, edge) for edge in aperture(spectrum)]
    first, last = spectrum.attrs.get("first_row"), spectrum.attrs.get("last_row")
    told = f"Combined image of {name}: the spectrum lies in rows {first} to {last}"
    return chart("image", x, y, marks, told, png=framed(image[COUNTS].values))


def _keys(spectrum: xr.Dataset) -> list[tuple[str, str]]:
    return [("aperture", "aperture")] + [("sky", "sky")] * bool(sky_bands(spectrum))


def _profile(image: xr.Dataset, spectrum: xr.Dataset) -> Markup:
    """Return the mean of each row beside the image, with what was found and the threshold."""
    threshold = float(spectrum.attrs.get("threshold", np.nan))
    marks = [(_KIND_OF.get(b.label.split()[0], "other"), b) for b in bands(spectrum)]
    return _rows_chart(
        image,
        threshold,
        [(kind, found.first - 0.5, found.last + 0.5) for kind, found in marks],
        "Mean of each row; " + ", ".join(found.label for _, found in marks),
    )


def _rows_chart(
    image: xr.Dataset, threshold: float, spans: list[tuple[str, float, float]], told: str
) -> Markup:
    means = row_means(image[COUNTS].values)
    y = dataclasses.replace(_axes_of(image)[1], label="")
    finite = means[np.isfinite(means)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    known = is_number(threshold)
    top = max(high, threshold) if known else high
    room = 0.15 * max(abs(top), 1e-9)
    width = 2 * threshold if known and threshold > 0 else 0.0
    unit = image[COUNTS].attrs.get("units", "adu")
    name = f"mean ({unit})"
    x = bent(name, min(low, 0.0) - room / 4, top + room, width) if width else around(name, means)
    marks = [rows(kind, y, first, last) for kind, first, last in spans]
    marks += [upright("threshold", x, threshold)] if known else []
    marks.append(profile("means", x, y, image[Y].values.astype(np.float64), means))
    return chart("rows", x, y, marks, told)


def _rows_keys(spectrum: xr.Dataset) -> list[tuple[str, str]]:
    keys = []
    if is_number(spectrum.attrs.get("threshold")):
        keys.append(("threshold", f"threshold {spectrum.attrs['threshold']:.1f}"))
    others = [found for found in bands(spectrum) if found.label.split()[0] not in _KIND_OF]
    return keys + [("other", found.label) for found in others[:3]]


def _spectrum(spectrum: xr.Dataset, name: str) -> Markup:
    """Return the flux with its noise and its flags."""
    columns = spectrum[X].values.astype(np.float64)
    flux = spectrum["flux"].values.astype(np.float64)
    x = linear("column", float(columns[0]), float(columns[-1]), n_ticks=8)
    unit = spectrum["flux"].attrs.get("units", "adu")
    y = around(f"flux ({unit})", flux)
    marks = []
    if y.low < 0 < y.high:
        marks.append(across("zero", y, 0.0))
    if VARIANCE in spectrum:
        reach = _NOISES * np.sqrt(spectrum[VARIANCE].values.astype(np.float64))
        marks.append(band("noise", x, y, columns, flux - reach, flux + reach))
    marks.append(line("flux", x, y, columns, flux))
    for i, (kind, where) in enumerate(_flags(spectrum)):
        marks.append(ticks(kind, x, columns[where], 0.02 + 0.04 * i))
    told = f"Spectrum of {name}: {flux.size} columns, {_quality(spectrum)}"
    return chart("spectrum", x, y, marks, told)


def _quality(spectrum: xr.Dataset) -> str:
    return f"median signal to noise {number(spectrum.attrs.get('snr'))}"


def _title(spectrum: xr.Dataset, name: str) -> str:
    sky = "less the sky" if "sky" in spectrum else "sky included"
    return f"Spectrum of {name}, {sky}"


def _flags(spectrum: xr.Dataset) -> Iterator[tuple[str, Any]]:
    """Yield each flag that is set in some column, as a class of the style sheet, with where."""
    if DQ in spectrum:
        flags = spectrum[DQ].values
        for bit, name in DQ_MEANINGS.items():
            if (flags & bit).any():
                yield f"flag-{name.replace('_', '-')}", (flags & bit) != 0


def _flag_keys(spectrum: xr.Dataset) -> list[tuple[str, str]]:
    keys = [("noise", f"± {_NOISES} sigma")] if VARIANCE in spectrum else []
    for kind, where in _flags(spectrum):
        name = kind.removeprefix("flag-").replace("-", " ")
        keys.append((kind, f"{name}: {counted(int(np.count_nonzero(where)), 'column')}"))
    return keys


def searched(image: xr.Dataset, threshold: float | None) -> Markup:
    """Return what was searched where nothing was found.

    Parameters
    ----------
    image : the combined image, counts (y, x), upright.
    threshold : what no row's mean exceeded, where it is known.
    """
    x, y = _axes_of(image)
    told = "Combined image in which no spectrum was found"
    drawn = chart("image", x, y, [], told, png=framed(image[COUNTS].values))
    level = float("nan") if threshold is None else threshold
    rows = _rows_chart(image, level, [], "Mean of each row; none exceeds the threshold")
    keys = [("threshold", f"threshold {threshold:.1f}")] if threshold is not None else []
    return tag(
        "div.pair",
        _figure(drawn, "Combined image, no spectrum found", []),
        _figure(rows, "Mean of each row", keys),
    )


# Pixels as small pictures: `framed` for the image of a target, `thumbnail` for a raw frame.
#
# Greys are those of the figures (`plots.stretch`), in fewer steps: noise does not compress, and 24
# greys take half the bytes of 256 and look the same beside a letter of text.

_ROWS, _COLUMNS = 220, 480
_SMALL = 72, 96
_STEPS = 24


def framed(counts: NDArray[Any]) -> bytes:
    """Return an image (y, x) as a PNG of at most 220 x 480 pixels, row 1 at the bottom."""
    return _png(counts, _ROWS, _COLUMNS)


def thumbnail(counts: NDArray[Any]) -> bytes:
    """Return a frame (y, x) as a PNG of at most 72 x 96 pixels, row 1 at the bottom."""
    return _png(counts, *_SMALL)


def _png(counts: NDArray[Any], most_rows: int, most_columns: int) -> bytes:
    small = reduced(counts, most_rows, most_columns)
    grey = np.round(stretch_of(small).grey(small)[::-1] * (_STEPS - 1))
    return encode_png(np.round(grey * (255 / (_STEPS - 1))).astype(np.uint8))


# HTML as text: `tag` is the one place where texts of headers and files become markup.
#
# A text is escaped unless it is `Markup`, which only this module makes. Names of elements and
# attributes are ours; what an attribute may hold is narrowed further: a link leads into the page
# or to a path below it, a picture is part of the page. So no name of a target, however it is
# spelt, can become an element, an attribute, a script or a visit to another host.

_VOID = frozenset({"img", "input", "link", "meta"})
_NOTHING: Mapping[str, str] = MappingProxyType({})
_LINK = re.compile(r"(?!/)[\w./+%-]*(#[\w.+%-]+)?")
_PICTURE = "data:image/png;base64,"
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


Node = str | Iterable["Markup"]
"""What may stand in an element: a text, which is escaped, or pieces of markup."""


def tag(name: str, *children: Node, attributes: Mapping[str, str] = _NOTHING) -> Markup:
    """Return an element.

    Parameters
    ----------
    name : of the element, its classes behind dots.
    children : texts, which are escaped, and pieces of markup, which are not.
    attributes : by name; their values are escaped.

    Raises
    ------
    ValueError
        A link or a picture would lead out of the page and the folders below it: our own mistake.

    Examples
    --------
    >>> tag("p.note", "a < b", tag("b", "!"), attributes={"id": "x"})
    '<p class="note" id="x">a &lt; b<b>!</b></p>'
    """
    name, *classes = name.split(".")
    told = {"class": " ".join(classes)} if classes else {}
    told.update(attributes)
    if "href" in told and not _LINK.fullmatch(told["href"]):
        raise ValueError(f"{told['href']!r} leads out of the page")
    if not told.get("src", _PICTURE).startswith(_PICTURE):
        raise ValueError("a picture must be part of the page")
    head = "".join(f' {key}="{_escaped(value)}"' for key, value in told.items())
    if name in _VOID:
        return Markup(f"<{name}{head}>")
    return Markup(f"<{name}{head}>{joined(*children)}</{name}>")


def joined(*nodes: Node) -> Markup:
    """Return nodes one behind the other, texts escaped."""
    return Markup("".join(map(_text, nodes)))


def _text(node: Node) -> str:
    if isinstance(node, Markup):
        return node
    return _escaped(node) if isinstance(node, str) else joined(*node)


def _escaped(text: str) -> str:
    """Return a text that is nothing but text, whatever it was."""
    return escape(text if text.isprintable() else printable(text), quote=True)


def anchor(name: str) -> str:
    """Return a link to the element of an id in this page.

    Examples
    --------
    >>> anchor("target-59_Cyg")
    '#target-59_Cyg'
    """
    return f"#{quote(name, safe='', errors='replace')}"


def path_below(*names: str) -> str:
    """Return a link to a file in a folder below that of the page, given by the names of its parts.

    Examples
    --------
    >>> path_below("2020-11-03", "report.html")
    '2020-11-03/report.html'
    """
    return "/".join(quote(name, safe="+", errors="replace") for name in names)


def picture(png: bytes, told: str, name: str = "img") -> Markup:
    """Return a picture as part of the page.

    Parameters
    ----------
    png : its bytes.
    told : what it shows, for who does not see it.
    name : the element with its classes.
    """
    source = _PICTURE + base64.b64encode(png).decode("ascii")
    return tag(name, attributes={"src": source, "alt": told})


def page(title: str, body: Node, *, script: str = "") -> bytes:
    """Return a whole page, in UTF-8.

    Parameters
    ----------
    title : of the page.
    body : all of it.
    script : the file of this package with the only script that may run, or "".
    """
    style, code = read("style.css"), read(script) if script else ""
    allowed = f"; script-src '{_hash_of(code)}'" if code else ""
    head = tag(
        "head",
        tag("meta", attributes={"charset": "utf-8"}),
        tag("meta", attributes={"http-equiv": "Content-Security-Policy",
                                "content": f"{_POLICY}{allowed}"}),
        tag("meta", attributes={"name": "viewport",
                                "content": "width=device-width, initial-scale=1"}),
        tag("meta", attributes={"name": "color-scheme", "content": "light dark"}),
        tag("meta", attributes={"name": "referrer", "content": "no-referrer"}),
        tag("title", title),
        Markup(f"<style>\n{style}</style>"),
    )  # fmt: skip
    run = [Markup(f"<script>{code}</script>")] if code else []
    whole = tag("html", head, tag("body", body, run), attributes={"lang": "en"})
    return f"<!DOCTYPE html>\n{whole}\n".encode()


@cache
def read(name: str) -> str:
    """Return a file of this package: the style sheet, or the script of the index."""
    return Path(__file__).with_name(name).read_text("utf-8")


def _hash_of(code: str) -> str:
    digest = hashlib.sha256(code.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


# Numbers, times and counts as the page tells them.

UNKNOWN = "unknown"


def number(value: Any, decimals: int = 0, unit: str = "") -> str:
    """Return a number with so many decimals and its unit; "unknown" for none.

    Examples
    --------
    >>> number(387.4), number(-40.04, 1, "°C"), number(None)
    ('387', '-40.0 °C', 'unknown')
    """
    if not is_number(value):
        return UNKNOWN
    text = f"{value:.{decimals}f}"
    text = text.removeprefix("-") if float(text) == 0 else text
    return f"{text} {unit}" if unit else text


def is_number(value: Any) -> TypeGuard[float]:
    """Tell whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def share(value: Any) -> str:
    """Return a share in percent.

    Examples
    --------
    >>> share(0.9921)
    '99.2 %'
    """
    return f"{value:.1%}".replace("%", " %") if is_number(value) else UNKNOWN


def span(pair: Any) -> str:
    """Return first and last row.

    Examples
    --------
    >>> span((484, 518))
    '484 to 518'
    """
    return f"{pair[0]} to {pair[1]}"


def counted(n: int, what: str, many: str = "") -> str:
    """Return a number of things.

    Examples
    --------
    >>> counted(1, "frame"), counted(3, "frame"), counted(0, "bias", "biases")
    ('1 frame', '3 frames', '0 biases')
    """
    return f"{n} {what if n == 1 else many or what + 's'}"


def seconds(value: float | None) -> str:
    """Return an exposure."""
    return "unknown" if value is None else f"{value:g} s"


def setting(value: Any) -> str:
    """Return the value of a setting as a recipe would write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(setting, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def facts(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Return names and values as a list; those without a value are left out."""
    return tag(
        "dl.facts",
        [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs if value],
    )


def bullets(lines: Iterable[str], name: str = "ul") -> Markup:
    """Return lines as a list."""
    return tag(name, [tag("li", line) for line in lines])


def table(name: str, heads: Iterable[str], body: Iterable[Markup], caption: str) -> Markup:
    """Return a table that scrolls by itself where the screen is narrow.

    Parameters
    ----------
    name : of the element, with its classes.
    heads : of the columns; one that begins with "#" is of numbers.
    body : its rows.
    caption : what it tells.
    """
    cells = [
        tag(f"th{'.n' * head.startswith('#')}", head.removeprefix("#"), attributes={"scope": "col"})
        for head in heads
    ]
    return tag(
        "div.scroll",
        tag(
            name,
            tag("caption", caption),
            tag("thead", tag("tr", cells)),
            tag("tbody", body),
        ),
        attributes={"tabindex": "0", "role": "region", "aria-label": caption},
    )
