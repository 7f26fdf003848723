"""Fill the templates of pages: the one place where texts of headers and files become HTML.

jinja2 escapes every text that a template shows, and control characters are made visible first. No
template turns escaping off; links and pictures are written by filters of this module, so that no
name of a target, however it is spelt, can become an element, an attribute, a script or a request to
another host. jinja2 is imported when the first page is made (40 ms).

Figures are laid out here for the templates, as paths, labels and images: their content is described
by `arrayred.plots`, and drawn for a screen, light or dark. A drawing is stretched to its box, and
the box to the screen; strokes keep their width and labels their size, since labels are HTML placed
at a percentage of the box. The role of a mark is a class of the style sheet. Coordinates are whole
numbers of a grid of 2000 x 1000, each curve one path of steps: some 5 bytes a point. A curve of
more points than a screen has columns is drawn by the lowest and the highest of each run, so that no
narrow line of a spectrum is lost.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import counted, printable
from arrayred.kernels.rows import bright_runs
from arrayred.plots.panels import (
    COLOURS,
    Area,
    Axis,
    Bars,
    Counts,
    Curve,
    Flags,
    Level,
    Mark,
    Panel,
    Pixels,
    Points,
    Sheet,
    Span,
    Stretch,
    Strokes,
    Values,
    days,
    encode_png,
    reduced,
    stretch_of,
)

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")
UNKNOWN = "unknown"
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render(template: str, **values: Any) -> str:
    """Return a template filled with values, every text escaped.

    Parameters
    ----------
    template : its file in the folder of templates.
    values : by the names that the template gives them.
    """
    return _environment().get_template(template).render(values)


def fragment(template: str, macro: str, *values: Any, **named: Any) -> str:
    """Return what a macro of a template makes of values, every text escaped."""
    return str(getattr(_environment().get_template(template).module, macro)(*values, **named))


def page(template: str, *, script: str = "", code: str = "", **values: Any) -> bytes:
    """Return a whole page, in UTF-8: one file that needs no other and no network.

    Parameters
    ----------
    template : its file in the folder of templates.
    script : file of the only script that is allowed to run, or "".
    code : that script itself, if it is no file; it may evaluate code, as Bokeh does.
    values : by the names that the template gives them.
    """
    from markupsafe import Markup

    may_evaluate = " 'unsafe-eval'" if code else ""
    code = code or (read(script) if script else "")
    policy = f"{_POLICY}; script-src '{_hash_of(code)}'{may_evaluate}" if code else _POLICY
    whole = render(
        template, policy=policy, style=Markup(read("style.css")), script=Markup(code), **values
    )
    return f"{whole}\n".encode()


@cache
def read(name: str) -> str:
    """Return the text of a file beside the templates: the style sheet or the script."""
    return (TEMPLATES / name).read_text("utf-8")


def _hash_of(code: str) -> str:
    digest = hashlib.sha256(code.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


@cache
def _environment() -> Environment:
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        finalize=_visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "anchor": anchor, "below": below, "png": png_source, "number": number,
        "difference": difference, "seconds": seconds, "counted": counted, "setting": setting,
    }  # fmt: skip
    return made


def _visible(value: Any) -> Any:
    """Return a value with its control characters made visible, if it is a text and not markup."""
    is_plain = not isinstance(value, str) or hasattr(value, "__html__") or value.isprintable()
    return value if is_plain else printable(value)


# Links and pictures.


def anchor(name: str) -> str:
    """Return a link to the element with an id on the same page.

    Examples
    --------
    >>> anchor("target-59_Cyg")
    '#target-59_Cyg'
    """
    return f"#{quote(name, safe='', errors='replace')}"


def below(path: str) -> str:
    """Return a link to a file below the folder of the page, its path with slashes.

    Examples
    --------
    >>> below("2020-11-03/report.html"), below("javascript:alert(1)")
    ('2020-11-03/report.html', 'javascript%3Aalert%281%29')
    """
    parts = (quote(name, safe="+", errors="replace") for name in path.split("/"))
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def png_source(content: bytes) -> str:
    """Return the bytes of a PNG as the source of a picture that is part of the page."""
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"


# Numbers, times and counts as text.


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


def difference(value: float | None) -> str:
    """Return a difference with its sign and one decimal; "unknown" if it is None.

    Examples
    --------
    >>> difference(1.25), difference(-0.04)
    ('+1.2', '+0.0')
    """
    return UNKNOWN if value is None else f"{round(value, 1) + 0.0:+.1f}"


def is_number(value: Any) -> TypeGuard[float]:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def seconds(value: float | None) -> str:
    """Return an exposure time, s, as text; "unknown" if it is None."""
    return UNKNOWN if value is None else f"{value:g} s"


def setting(value: Any) -> str:
    """Return the value of a setting as written in a recipe."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(setting, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value)


_WIDTH, _HEIGHT = 2000, 1000
_SPARK_WIDTH, _SPARK_HEIGHT = 120, 30
_MOST_RUNS = 400
"""Runs of points of a curve, at most; two points of each are drawn."""
_SPARK_RUNS = 48
_DOTS, _SMALL = (220, 480), (72, 96)
"""Rows and columns of the PNG of an image, and of the thumbnail of a raw frame."""
_GREYS = 24
"""Grey levels of a PNG. Noise does not compress: 24 take half the bytes of 256, and look the same
beside a letter of text."""


class Key(NamedTuple):
    """An entry of a legend: the classes of its sign, and its text."""

    role: str
    label: str


class Stroke(NamedTuple):
    """A path: its classes, and its steps in the notation of SVG."""

    role: str
    steps: str


class Label(NamedTuple):
    """A tick label, or the name of a stroke.

    Parameters
    ----------
    side : "x", "y", or "name" of a stroke.
    place : along the side, percent.
    text, day : what is written, and the date below it.
    bottom : of a name, percent of the height.
    """

    side: str
    place: float
    text: str
    day: str = ""
    bottom: float = 0.0


class Chart(NamedTuple):
    """A panel laid out for a template.

    Parameters
    ----------
    name : type of the panel, a class of the style sheet.
    title, summary : written above; alternative text.
    keys : its legend.
    view : width and height of the drawing.
    images : PNGs below the strokes, the lowest first.
    strokes : the grid and the marks, the lowest first.
    labels : of the ticks.
    x_label, y_label : of the axes; "" where an axis has none.
    """

    name: str
    title: str
    summary: str
    keys: list[Key]
    view: tuple[int, int]
    images: list[bytes]
    strokes: list[Stroke]
    labels: list[Label]
    x_label: str
    y_label: str

    @property
    def is_dated(self) -> bool:
        """Whether a tick label of the x axis has a date below it."""
        return any(label.day for label in self.labels)


class ChartRow(NamedTuple):
    """Charts side by side: "alone", "halves" of equal widths, or a "pair" of unequal ones."""

    form: str
    charts: list[Chart]


def figure(sheet: Sheet) -> list[ChartRow]:
    """Return a figure as rows of charts."""
    form = "halves" if len(set(sheet.widths)) < 2 else "pair"
    return [
        ChartRow(form if len(row) > 1 else "alone", [chart(panel) for panel in row])
        for row in sheet.rows
    ]


def chart(panel: Panel) -> Chart:
    """Return a panel laid out."""
    x, y = panel.x, panel.y
    at_x, at_y = ticks(x), ticks(y)
    has_x, has_y = "x" not in panel.unnumbered, "y" not in panel.unnumbered
    labels = _labels(x, at_x, "x") if has_x else []
    labels += _labels(y, at_y, "y") if has_y else []
    labels += [
        Label("name", float(f"{place:.4g}"), name, bottom=100 * mark.height + 3)
        for mark in panel.marks
        if isinstance(mark, Strokes)
        for place, name in zip(x.place(mark.x) * 100, mark.names, strict=False)
        if name
    ]
    return Chart(
        name=panel.name,
        title=panel.title[:1].upper() + panel.title[1:],
        summary=panel.summary or panel.title,
        keys=[key for mark in panel.marks for key in _keys(mark)],
        view=(_WIDTH, _HEIGHT),
        images=[dots(mark) for mark in panel.marks if isinstance(mark, Pixels | Flags)],
        strokes=[
            _grid(x.place([value for value, _ in at_x]), y.place([value for value, _ in at_y])),
            *(stroke(mark, x, y) for mark in panel.marks if not isinstance(mark, Pixels | Flags)),
        ],
        labels=labels,
        x_label=x.label if has_x else "",
        y_label=y.label if has_y else "",
    )


def _keys(mark: Mark) -> list[Key]:
    """Return the legend entries of a mark; none for a mark without label."""
    if isinstance(mark, Flags):
        return [Key(role, label) for role, _, label in mark.masks]
    if isinstance(mark, Bars | Pixels) or not mark.label:
        return []
    form = {Points: " dots", Span: " span", Area: " span"}.get(type(mark), "")
    return [Key(mark.role + form, mark.label)]


def _labels(axis: Axis, named: Sequence[tuple[float, str]], side: str) -> list[Label]:
    """Return the tick labels of an axis; a date is put below the time."""
    places = axis.place([value for value, _ in named]) * 100
    found = []
    for (_, text), place in zip(named, places, strict=True):
        clock, _, day = text.partition("\n")
        found.append(Label(side, float(f"{place:.4g}"), clock, day))
    return found


def _grid(across: Values, upright: Values) -> Stroke:
    """Return grid lines at the ticks."""
    level = (f"M0 {round((1 - p) * _HEIGHT)}h{_WIDTH}" for p in upright)
    return Stroke("grid", "".join((*level, *(f"M{round(p * _WIDTH)} 0v{_HEIGHT}" for p in across))))


def stroke(mark: Curve | Points | Area | Span | Level | Strokes | Bars, x: Axis, y: Axis) -> Stroke:
    """Return a mark between two axes as a path; its first class is its role."""
    if isinstance(mark, Curve):
        return Stroke(mark.role, _steps(*_on_grid(x, y, *_thinned(days(mark.x), days(mark.y)))))
    if isinstance(mark, Points):
        return Stroke(f"{mark.role} dots", _dotted(x, y, mark))
    if isinstance(mark, Area):
        return Stroke(mark.role, _surrounded(x, y, mark))
    if isinstance(mark, Span):
        axis = x if mark.along == "x" else y
        low, high = (float(place) for place in np.clip(axis.place([mark.low, mark.high]), 0, 1))
        if mark.along == "x":
            left, width = round(low * _WIDTH, 1), round((high - low) * _WIDTH, 1)
            return Stroke(f"{mark.role} span", f"M{left:g} 0h{width:g}v{_HEIGHT}h-{width:g}z")
        top, height = round((1 - high) * _HEIGHT, 1), round((high - low) * _HEIGHT, 1)
        return Stroke(f"{mark.role} span", f"M0 {top:g}h{_WIDTH}v{height:g}H0z")
    if isinstance(mark, Level):
        place = float((x if mark.along == "x" else y).place(mark.at))
        if mark.along == "x":
            return Stroke(mark.role, f"M{round(place * _WIDTH, 1):g} 0v{_HEIGHT}")
        return Stroke(mark.role, f"M0 {round((1 - place) * _HEIGHT, 1):g}h{_WIDTH}")
    if isinstance(mark, Strokes):
        places = sorted({round(float(p) * _WIDTH) for p in x.place(mark.x)})
        bottom = round((1 - mark.height) * _HEIGHT) + 13
        return Stroke(mark.role, "".join(f"M{p} {bottom}v-26" for p in places))
    return Stroke(f"{mark.role} span", _lanes(x, y, mark))


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
        return _grey_png(image.counts, image.stretch, _DOTS)
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
    return _grey_png(small, stretch_of(small), _SMALL)


def _on_grid(x: Axis, y: Axis, points: Values, values: Values) -> tuple[Values, Values]:
    """Return points and values in whole grid units, clipped to 10 % beyond the box."""
    known = np.isfinite(points) & np.isfinite(values)
    across = np.clip(x.place(points), -0.1, 1.1) * _WIDTH
    down = (1 - np.clip(y.place(values), -0.1, 1.1)) * _HEIGHT
    return np.where(known, np.rint(across), np.nan), np.where(known, np.rint(down), np.nan)


def spark(values: Values) -> str:
    """Return a spectrum as the path of a sparkline in a box of 120 x 30: some 400 bytes.

    Examples
    --------
    >>> spark(np.array([0.0, 2.0, 1.0]))
    'M0 29l60-28 60 14'
    """
    finite = values[np.isfinite(values)]
    if not finite.size or values.size < 2:
        return ""
    low, high = float(finite.min()), float(finite.max())
    across = np.linspace(0, _SPARK_WIDTH, values.size)
    places, thin = _thinned(across, values, _SPARK_RUNS)
    down = (_SPARK_HEIGHT - 1) - (_SPARK_HEIGHT - 2) * (thin - low) / ((high - low) or 1.0)
    return _steps(np.rint(places), np.rint(down))


def _steps(across: Values, down: Values) -> str:
    """Return a path as steps from point to point, restarted after each gap."""
    known = np.isfinite(across) & np.isfinite(down)
    pieces = []
    for first, stop in bright_runs(known):
        right, low = across[first:stop].astype(int), down[first:stop].astype(int)
        steps = zip(np.diff(right).tolist(), np.diff(low).tolist(), strict=True)
        moves = "".join(f"{a}{' ' if b >= 0 else ''}{b} " for a, b in steps)
        pieces.append(f"M{right[0]} {low[0]}" + (f"l{moves.rstrip()}" if moves else "h0"))
    return "".join(pieces)


def _starts(size: int, most: int = _MOST_RUNS) -> NDArray[np.intp]:
    """Return the indices at which the runs of a curve begin."""
    return np.unique(np.linspace(0, size, min(size, most) + 1)[:-1].astype(np.intp))


def _thinned(points: Values, values: Values, most: int = _MOST_RUNS) -> tuple[Values, Values]:
    """Return the points of a curve with the lowest and the highest value of each run, in order."""
    if points.size <= 2 * most:
        return points, values
    along = values if np.all(np.diff(points) > 0) else points  # a profile beside an image runs up
    starts = _starts(points.size, most)
    run = np.repeat(np.arange(starts.size), np.diff(starts, append=points.size))
    chosen = ~np.logical_and.reduceat(np.isfinite(along), starts)[run]
    for extreme in (np.minimum, np.maximum):
        places = np.flatnonzero(along == extreme.reduceat(along, starts)[run])
        chosen[places[np.unique(run[places], return_index=True)[1]]] = True
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
    multiples = range(math.ceil(low / step), math.floor(high / step) + 1)
    # Where the axis is as narrow as the steps of floats, multiples are equal, or lie outside.
    slack = 1e-9 * (high - low)
    distinct = dict.fromkeys(i * step for i in multiples)
    values = [value for value in distinct if low - slack <= value <= high + slack]
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


def _grey_png(counts: Counts, stretch: Stretch, most: tuple[int, int]) -> bytes:
    """Return counts (y, x) as a grey PNG of at most so many rows and columns, row 1 at the bottom.

    Counts of more pixels are averaged in blocks.
    """
    grey = np.round(stretch.grey(reduced(counts, *most))[::-1] * (_GREYS - 1))
    return encode_png(np.round(grey * (255 / (_GREYS - 1))).astype(np.uint8))
