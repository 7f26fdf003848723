"""Draw the figures of the report's pages as SVG and HTML, and write the markup around them.

The content of a figure is described by `arrayred.plots`; here it is drawn for a screen, light or
dark. A drawing is stretched to its box, and the box to the screen; strokes keep their width and
labels their size, since labels are HTML placed at a percentage of the box. The role of a mark is a
class of the style sheet. Coordinates are whole numbers of a grid of 2000 x 1000, each curve one
path of steps: some 5 bytes a point. A curve of more points than a screen has columns is drawn by
the lowest and the highest of each run, so that no narrow line of a spectrum is lost.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import printable
from arrayred.plots.images import encode_png, grey_png
from arrayred.plots.panels import (
    Area,
    Axis,
    Bars,
    Curve,
    Flags,
    Level,
    Mark,
    Panel,
    Pixels,
    Points,
    Sheet,
    Span,
    Strokes,
    days,
)
from arrayred.plots.style import COLOURS, Values, reduced, stretch_of

_WIDTH, _HEIGHT = 2000, 1000
_MOST_RUNS = 400
"""Runs of points of a curve, at most; two points of each are drawn."""
_SPARK_RUNS = 48
_DOTS, _SMALL = (220, 480), (72, 96)
"""Rows and columns of the PNG of an image, and of the thumbnail of a raw frame."""
_GREYS = 24


def figure(sheet: Sheet) -> Markup:
    """Return a figure: its rows of panels, each panel under its title and legend.

    Panels of a row are side by side, or one below the other where the screen is narrow.
    """
    rows = []
    for row in sheet.rows:
        panels = [_titled(panel) for panel in row]
        alike = "div.halves" if len(set(sheet.widths)) < 2 else "div.pair"
        rows.append(tag(alike, panels) if len(panels) > 1 else panels[0])
    return joined(rows)


def _titled(panel: Panel) -> Markup:
    keys = [key for mark in panel.marks for key in _keys(mark)]
    title = panel.title[:1].upper() + panel.title[1:]
    return tag("figure", tag("figcaption", tag("b", title), keys), chart(panel))


def _keys(mark: Mark) -> list[Markup]:
    """Return the legend entries of a mark; none for a mark without label."""
    if isinstance(mark, Flags):
        return [tag("span.key", tag(f"i.{role}"), label) for role, _, label in mark.masks]
    if isinstance(mark, Bars | Pixels) or not mark.label:
        return []
    form = {Points: ".dots", Span: ".span", Area: ".span"}.get(type(mark), "")
    return [tag("span.key", tag(f"i.{mark.role}{form}"), mark.label)]


def chart(panel: Panel) -> Markup:
    """Return a panel without its title."""
    x, y = panel.x, panel.y
    at_x, at_y = ticks(x), ticks(y)
    drawing = tag(
        "svg",
        _grid(x.place([t for t, _ in at_x]), y.place([t for t, _ in at_y])),
        [path(mark, x, y) for mark in panel.marks if not isinstance(mark, Pixels | Flags)],
        attributes={
            "viewBox": f"0 0 {_WIDTH} {_HEIGHT}",
            "preserveAspectRatio": "none",
            "role": "img",
            "aria-label": panel.summary or panel.title,
        },
    )
    under = [picture(dots(mark), "") for mark in panel.marks if isinstance(mark, Pixels | Flags)]
    labels = [] if "x" in panel.unnumbered else _labels(x, at_x, "x")
    labels += [] if "y" in panel.unnumbered else _labels(y, at_y, "y")
    return tag(f"div.chart.{panel.name}", tag("div.box", under, drawing, labels))


def _labels(axis: Axis, named: Sequence[tuple[float, str]], side: str) -> list[Markup]:
    """Return the tick labels and the name of an axis; a date is put below the time."""
    places = axis.place([value for value, _ in named]) * 100
    where = "left" if side == "x" else "bottom"
    texts = [text.partition("\n") for _, text in named]
    numbers = [
        tag(f"span.{side}", clock, [tag("small", day)] if day else [],
            attributes={"style": f"{where}:{place:.4g}%"})
        for (clock, _, day), place in zip(texts, places, strict=True)
    ]  # fmt: skip
    name = f"span.{side}-name" + ".below" * any(day for *_, day in texts)
    return [*numbers, tag(name, axis.label)] if axis.label else numbers


def _grid(across: Values, upright: Values) -> Markup:
    """Return grid lines at the ticks."""
    level = (f"M0 {round((1 - p) * _HEIGHT)}h{_WIDTH}" for p in upright)
    return _path("grid", "".join((*level, *(f"M{round(p * _WIDTH)} 0v{_HEIGHT}" for p in across))))


def _path(role: str, steps: str) -> Markup:
    return tag(f"path.{role}", attributes={"d": steps})


def path(mark: Mark, x: Axis, y: Axis) -> Markup:
    """Return a mark between two axes as a path, its role the class; "" for an image."""
    if isinstance(mark, Curve):
        return _path(mark.role, _steps(*_on_grid(x, y, *_thinned(days(mark.x), days(mark.y)))))
    if isinstance(mark, Points):
        return _path(f"{mark.role}.dots", _dotted(x, y, mark))
    if isinstance(mark, Area):
        return _path(mark.role, _surrounded(x, y, mark))
    if isinstance(mark, Span):
        axis = x if mark.along == "x" else y
        low, high = (float(place) for place in np.clip(axis.place([mark.low, mark.high]), 0, 1))
        if mark.along == "x":
            left, width = round(low * _WIDTH, 1), round((high - low) * _WIDTH, 1)
            return _path(f"{mark.role}.span", f"M{left:g} 0h{width:g}v{_HEIGHT}h-{width:g}z")
        top, height = round((1 - high) * _HEIGHT, 1), round((high - low) * _HEIGHT, 1)
        return _path(f"{mark.role}.span", f"M0 {top:g}h{_WIDTH}v{height:g}H0z")
    if isinstance(mark, Level):
        place = float((x if mark.along == "x" else y).place(mark.at))
        if mark.along == "x":
            return _path(mark.role, f"M{round(place * _WIDTH, 1):g} 0v{_HEIGHT}")
        return _path(mark.role, f"M0 {round((1 - place) * _HEIGHT, 1):g}h{_WIDTH}")
    if isinstance(mark, Strokes):
        places = sorted({round(float(p) * _WIDTH) for p in x.place(mark.x)})
        bottom = round((1 - mark.height) * _HEIGHT) + 13
        return _path(mark.role, "".join(f"M{p} {bottom}v-26" for p in places))
    if isinstance(mark, Bars):
        return _path(f"{mark.role}.span", _lanes(x, y, mark))
    return joined()


def _dotted(x: Axis, y: Axis, points: Points) -> str:
    """Return a dot at each finite point: a stroke of no length, whose ends are round."""
    across, down = _on_grid(x, y, days(points.x), days(points.y))
    known = np.isfinite(across) & np.isfinite(down)
    pairs = zip(across[known].astype(int), down[known].astype(int), strict=True)
    return "".join(f"M{a} {d}h0" for a, d in pairs)


def _surrounded(x: Axis, y: Axis, area: Area) -> str:
    """Return the area between two curves, where both are finite, in runs of their extremes."""
    known = np.isfinite(area.low) & np.isfinite(area.high)
    points, low, high = days(area.x)[known], area.low[known], area.high[known]
    if not points.size:
        return ""
    starts = _starts(points.size)
    edges = np.append(starts, points.size)[1:]
    centers = (points[starts] + points[edges - 1]) / 2
    lower, upper = np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)
    there = _steps(*_on_grid(x, y, centers, upper))
    back = _steps(*_on_grid(x, y, centers[::-1], lower[::-1]))
    return f"{there}L{back.removeprefix('M')}z" if "l" in there else ""


def _lanes(x: Axis, y: Axis, bars: Bars) -> str:
    """Return a box for each bar, 0.7 lanes high."""
    ends = np.rint(np.array([x.place(bars.start), x.place(bars.end)]).T * _WIDTH).astype(int)
    tops = np.rint((1 - y.place(bars.lane - 0.35)) * _HEIGHT).astype(int)
    low = np.rint((1 - y.place(bars.lane + 0.35)) * _HEIGHT).astype(int)
    boxes = zip(ends.tolist(), tops.tolist(), (low - tops).tolist(), strict=True)
    return "".join(f"M{a} {top}h{max(b - a, 1)}v{high}H{a}z" for (a, b), top, high in boxes)


def dots(image: Pixels | Flags) -> bytes:
    """Return an image as a PNG, or its flagged pixels as a transparent overlay."""
    if isinstance(image, Pixels):
        return grey_png(image.counts, image.stretch, _DOTS, _GREYS)
    palette = np.zeros((len(image.masks) + 1, 4), np.uint8)
    layers = [reduced(mask, *_DOTS) > 0 for _, mask, _ in image.masks]
    dots = np.zeros(layers[0].shape, np.uint8)
    for i, ((role, *_), layer) in enumerate(zip(image.masks, layers, strict=True), 1):
        palette[i] = *bytes.fromhex(COLOURS[role][1:]), 255
        dots[layer] = i
    return encode_png(dots[::-1], palette)


def thumbnail(counts: NDArray[Any]) -> bytes:
    """Return a frame (y, x) as a PNG of at most 72 x 96 pixels, row 1 at the bottom."""
    small = reduced(counts, *_SMALL)
    return grey_png(small, stretch_of(small), _SMALL, _GREYS)


def _on_grid(x: Axis, y: Axis, points: Values, values: Values) -> tuple[Values, Values]:
    """Return points and values in whole grid units, clipped to 10 % beyond the box."""
    known = np.isfinite(points) & np.isfinite(values)
    across = np.clip(x.place(points), -0.1, 1.1) * _WIDTH
    down = (1 - np.clip(y.place(values), -0.1, 1.1)) * _HEIGHT
    return np.where(known, np.rint(across), np.nan), np.where(known, np.rint(down), np.nan)


def spark_path(values: Values) -> str:
    """Return a spectrum as a sparkline path in a box of 120 x 30: some 400 bytes.

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
    """Return a path of `spark_path` as a drawing as high as a line of text."""
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


def _steps(across: Values, down: Values) -> str:
    """Return a path as steps from point to point, restarted after each gap."""
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
    """Return the indices at which the runs of a curve begin."""
    return np.unique(np.linspace(0, size, min(size, most) + 1)[:-1].astype(np.intp))


def _thinned(points: Values, values: Values, most: int = _MOST_RUNS) -> tuple[Values, Values]:
    """Return the points of a curve with the lowest and the highest value of each run, in order."""
    if points.size <= 2 * most:
        return points, values
    chosen: list[int] = []
    along = values if np.all(np.diff(points) > 0) else points  # a profile beside an image runs up
    starts = _starts(points.size, most)
    for first, stop in zip(starts, np.append(starts[1:], points.size), strict=True):
        run = along[first:stop]
        if not np.isfinite(run).all():
            chosen.extend(range(int(first), int(stop)))
            continue
        chosen.extend(sorted({int(first + np.argmin(run)), int(first + np.argmax(run))}))
    return points[chosen], values[chosen]


def ticks(axis: Axis) -> Sequence[tuple[float, str]]:
    """Return the ticks of an axis: values, rounded unless the axis gives them, and labels.

    Examples
    --------
    >>> [text for _, text in ticks(Axis("column", 1, 1536, n_ticks=4))]
    ['500', '1000', '1500']
    >>> [text for _, text in ticks(Axis("mean", -5, 3000, "symlog", 60))]
    ['0', '100', '1000']
    """
    if axis.ticks is not None:
        return axis.ticks
    low, high = sorted((axis.low, axis.high))
    if axis.scale != "linear":
        least = 1.2 * axis.width if axis.scale == "symlog" else low
        powers = range(math.ceil(math.log10(least)), math.floor(math.log10(high)) + 1)
        values = [0.0] * (axis.scale == "symlog") + [10.0**power for power in powers]
        return [(value, short(value)) for value in values if low <= value <= high]
    step = _round_step((high - low) / max(axis.n_ticks, 1))
    if axis.kind == "integer":
        step = max(step, 1.0)
    values = [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return list(zip(values, _named(values, step), strict=True))


def _round_step(rough: float) -> float:
    """Return the least 1, 2 or 5 times a power of ten that is not below a rough step."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _named(values: Sequence[float], step: float) -> list[str]:
    """Return tick labels with as many decimals as the step needs."""
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


# HTML: `tag` is the one place where texts of headers and files become markup.
#
# A text is escaped unless it is `Markup`, which only this module makes. Names of elements and
# attributes are ours; the values of attributes are restricted further: a link leads into the page
# or to a path below it, a picture is part of the page. So no name of a target, however it is
# spelt, can become an element, an attribute, a script or a request to another host.

_VOID = frozenset({"img", "input", "link", "meta"})
_NOTHING: Mapping[str, str] = MappingProxyType({})
_LINK = re.compile(r"(?!/)[\w./+%-]*(#[\w.+%-]+)?")
_PICTURE = "data:image/png;base64,"
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


Node = str | Iterable["Markup"]
"""Content of an element: a text, which is escaped, or pieces of markup."""


def tag(name: str, *children: Node, attributes: Mapping[str, str] = _NOTHING) -> Markup:
    """Return an HTML element.

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
    """Return nodes joined, texts escaped."""
    return Markup("".join(map(_text, nodes)))


def _text(node: Node) -> str:
    if isinstance(node, Markup):
        return node
    return _escaped(node) if isinstance(node, str) else joined(*node)


def _escaped(text: str) -> str:
    """Return a text escaped for HTML, control characters made visible."""
    return escape(text if text.isprintable() else printable(text), quote=True)


def anchor(name: str) -> str:
    """Return a link to the element with an id on the same page.

    Examples
    --------
    >>> anchor("target-59_Cyg")
    '#target-59_Cyg'
    """
    return f"#{quote(name, safe='', errors='replace')}"


def path_below(*names: str) -> str:
    """Return a link to a file below the folder of the page, given the names of its path.

    Examples
    --------
    >>> path_below("2020-11-03", "report.html")
    '2020-11-03/report.html'
    """
    return "/".join(quote(name, safe="+", errors="replace") for name in names)


def picture(png: bytes, told: str, name: str = "img") -> Markup:
    """Return a PNG embedded in the page.

    Parameters
    ----------
    png : its bytes.
    told : alternative text.
    name : of the element, with its classes.
    """
    source = _PICTURE + base64.b64encode(png).decode("ascii")
    return tag(name, attributes={"src": source, "alt": told})


def page(title: str, body: Node, *, script: str = "") -> bytes:
    """Return a whole page, in UTF-8.

    Parameters
    ----------
    title : of the page.
    body : content of its body.
    script : file of this package with the only script that is allowed to run, or "".
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
    """Return the text of a file of this package: the style sheet or the script of the index."""
    return Path(__file__).with_name("templates").joinpath(name).read_text("utf-8")


def _hash_of(code: str) -> str:
    digest = hashlib.sha256(code.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


# Numbers, times and counts as text.

UNKNOWN = "unknown"


def number(value: Any, decimals: int = 0, unit: str = "") -> str:
    """Return a number with its decimals and unit; "unknown" if it is not a finite number.

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
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def share(value: Any) -> str:
    """Return a fraction in percent.

    Examples
    --------
    >>> share(0.9921)
    '99.2 %'
    """
    return f"{value:.1%}".replace("%", " %") if is_number(value) else UNKNOWN


def span(pair: Any) -> str:
    """Return the first and the last row as text.

    Examples
    --------
    >>> span((484, 518))
    '484 to 518'
    """
    return f"{pair[0]} to {pair[1]}"


def counted(n: int, what: str, many: str = "") -> str:
    """Return a number with its noun, singular or plural.

    Examples
    --------
    >>> counted(1, "frame"), counted(3, "frame"), counted(0, "bias", "biases")
    ('1 frame', '3 frames', '0 biases')
    """
    return f"{n} {what if n == 1 else many or what + 's'}"


def seconds(value: float | None) -> str:
    """Return an exposure time, s, as text; "unknown" if it is None."""
    return "unknown" if value is None else f"{value:g} s"


def setting(value: Any) -> str:
    """Return the value of a setting as written in a recipe."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(setting, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def facts(pairs: Iterable[tuple[str, str]]) -> Markup:
    """Return names and values as a list, without those whose value is empty."""
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
    heads : of the columns; "#" marks a column of numbers.
    body : its rows.
    caption : its title.
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
