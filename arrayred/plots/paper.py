"""Draw descriptions of figures with matplotlib: for paper, PNG, SVG and notebooks.

A figure is drawn in the style of this module, whatever the user's settings, so that the same
numbers give the same bytes everywhere. Texts of headers and files are drawn literally: a dollar in
the name of a target does not start a formula, and unprintable characters are escaped.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial, wraps
from inspect import signature
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec

import numpy as np

from arrayred.errors import printable
from arrayred.plots.panels import (
    COLOURS,
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
    encode_png,
    reduced,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
_MOST_ROWS, _MOST_COLUMNS = 600, 1200
"""Most pixels of an image; one with more is averaged in blocks."""
_DENSE = 2000
"""Most points of a mark that is a path in an SVG; one of more is an image: so a spectrum of 4,000
columns takes 190 kB instead of 430 kB."""
_COMPRESSION = 3
"""Of zlib. Unfiltered colours take half the time of matplotlib's own writer, whose filters find
nothing in areas that are alike, and for a target 15 % fewer bytes."""
_NOTHING: dict[str, str | None] = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_LINE = 110
"""Letters of a legend that fit above the axes."""
_LINES: dict[tuple[type, str], dict[str, Any]] = {
    (Curve, "aperture"): {"linewidth": 1.2},
    (Curve, "edge"): {"linewidth": 0.7, "linestyle": "--"},
    (Curve, "trace"): {"linewidth": 0.9},
    (Level, "sky"): {"linewidth": 1.2},
    (Level, "threshold"): {"linewidth": 1, "linestyle": ":"},
    (Level, "median"): {"linewidth": 1, "linestyle": ":"},
}
"""Styles of lines other than the plain one of 0.8 points."""
_STYLE: dict[str, object] = {
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 5),
    "axes.formatter.useoffset": False,
    "axes.linewidth": 0.7,
    "axes.titlesize": 10,
    "font.size": 9,
    "image.composite_image": False,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 0.9,
    "svg.fonttype": "none",
    "svg.hashsalt": "arrayred",
    "xtick.direction": "in",
    "xtick.top": True,
    "ytick.direction": "in",
    "ytick.right": True,
}

P = ParamSpec("P")


def drawn(describe: Callable[P, Sheet]) -> Callable[P, Figure]:
    """Return a function that draws the figures of another, with its name and parameters."""

    @wraps(describe)
    def draw_described(*args: P.args, **kwargs: P.kwargs) -> Figure:
        return draw(describe(*args, **kwargs))

    ours = signature(describe).replace(return_annotation="Figure")
    draw_described.__signature__ = ours  # type: ignore[attr-defined]
    return draw_described


def styled() -> AbstractContextManager[None]:
    """Return a context with the style of all figures, whatever the user's settings."""
    from matplotlib import style

    _keep_log_off_terminal()
    return style.context(["default", _STYLE])


@cache
def _keep_log_off_terminal() -> None:
    """Keep the log of matplotlib, about ticks or fonts, off a terminal where no log is set up."""
    import logging

    logging.getLogger("matplotlib").addHandler(logging.NullHandler())


def draw(sheet: Sheet) -> Figure:
    """Draw a figure; panels with the same axis object share that axis."""
    from matplotlib.figure import Figure

    n_columns = max(map(len, sheet.rows))
    with styled():
        figure = Figure(figsize=sheet.size, dpi=DPI)
        grid = figure.add_gridspec(
            len(sheet.rows), n_columns,
            width_ratios=sheet.widths or None, height_ratios=sheet.heights or None,
        )  # fmt: skip
        shared: dict[int, Axes] = {}
        for i, row in enumerate(sheet.rows):
            for j, panel in enumerate(row):
                place = grid[i, :] if len(row) == 1 else grid[i, j]
                axes = figure.add_subplot(
                    place, sharex=shared.get(id(panel.x)), sharey=shared.get(id(panel.y))
                )
                shared.setdefault(id(panel.x), axes)
                shared.setdefault(id(panel.y), axes)
                _draw_panel(axes, panel)
        _make_room(figure, sheet)
        if sheet.x_label:
            figure.supxlabel(sheet.x_label, y=_EDGE / sheet.size[1], fontsize="medium")
        if sheet.title:
            top = 1 - _EDGE / sheet.size[1]
            figure.suptitle(printable(sheet.title), y=top, parse_math=False)
    # So that a notebook shows it: matplotlib makes figures known to one in pyplot alone.
    figure._repr_png_ = partial(png, figure)  # type: ignore[attr-defined]
    return figure


# Room for the letters beside the axes, inches: `_make_room`.
#
# A layout of matplotlib's draws each letter once more to find how much it takes, which lasts as
# long as the picture itself. Here letters are counted: digits are equally wide.

_DIGIT, _NUMBERS, _TICK = 0.08, 0.155, 0.06
"""Width of a digit, height of a line of numbers, and their distance from the axis."""
_EDGE, _LABEL, _HEADING, _ABOVE = 0.07, 0.21, 0.25, 0.38
"""The blank edge, the label of an axis, a title or a line of the legend, a second scale above."""


class _Room(NamedTuple):
    """Room for the letters around a panel, inches."""

    left: float
    right: float
    below: float
    above: float


def _make_room(figure: Figure, sheet: Sheet) -> None:
    """Set the panels of a figure apart, and the labels of their axes beside the numbers."""
    width, height = sheet.size
    each = iter(axes for axes in figure.axes if axes.get_label() != "<colorbar>")
    rooms = [[_room_of(next(each), panel) for panel in row] for row in sheet.rows]
    left = _EDGE + max(row[0].left for row in rooms)
    right = _EDGE + max(row[-1].right for row in rooms)
    below = _EDGE + max(room.below for room in rooms[-1]) + _LABEL * bool(sheet.x_label)
    above = _EDGE + max(room.above for room in rooms[0]) + _HEADING * bool(sheet.title)
    aside = max((a.right + b.left for row in rooms for a, b in pairwise(row)), default=0.0)
    apart = max((max(a.below for a in upper) + max(b.above for b in lower)
                 for upper, lower in pairwise(rooms)), default=0.0)  # fmt: skip
    n_rows, n_columns = len(rooms), max(map(len, rooms))
    wide = (width - left - right - (n_columns - 1) * aside) / n_columns
    high = (height - below - above - (n_rows - 1) * apart) / n_rows
    figure.subplots_adjust(
        left / width, below / height, 1 - right / width, 1 - above / height, aside / wide,
        apart / high,
    )  # fmt: skip


def _room_of(axes: Axes, panel: Panel) -> _Room:
    """Return the room that the letters around a panel take."""
    beside, under = _numbers(axes.yaxis), _numbers(axes.xaxis)
    left, below, right = 0.0, _TICK, 0.0
    if "y" not in panel.unnumbered:
        left = _TICK + _DIGIT * max(map(len, beside), default=0) + _LABEL * bool(panel.y.label)
    if "x" not in panel.unnumbered:
        lines = max((name.count("\n") + 1 for name in under), default=0)
        below = _TICK + _NUMBERS * lines + _LABEL * bool(panel.x.label)
        right = _DIGIT * max(map(len, under[-1].split("\n"))) / 2 if under else 0.0
    for image in axes.images:
        if image.colorbar is not None:
            right = _TICK + _DIGIT * max(map(len, _numbers(image.colorbar.ax.yaxis))) + _LABEL
    above = _HEADING * bool(panel.title) + _ABOVE * (panel.above is not None)
    if panel.legend == "above" and (legend := axes.get_legend()) is not None:
        names = [text.get_text() for text in legend.get_texts()]
        above = max(above, _HEADING * -(-len(names) // _columns(names)))
    return _Room(left, right, below, above)


def _numbers(axis: Any) -> list[str]:
    """Return the numbers or names at the ticks of an axis."""
    names: list[str] = axis.get_major_formatter().format_ticks(axis.get_majorticklocs())
    return names


def _draw_panel(axes: Axes, panel: Panel) -> None:
    if panel.name == "drift" and panel.x.kind == "time":
        axes.xaxis_date()
    for mark in panel.marks:
        _draw_mark(axes, mark, panel)
    _draw_axis(axes, "x", panel.x, panel.unnumbered)
    _draw_axis(axes, "y", panel.y, panel.unnumbered)
    if panel.title:
        where = None if panel.above else 1.0  # above a second scale matplotlib finds it
        axes.set_title(printable(panel.title), y=where, parse_math=False)
        if panel.name == "frame":
            axes.title.set_fontsize("small")
    if panel.grid:
        which: Any = {"x": "x", "xy": "both"}[panel.grid]
        axes.grid(axis=which, alpha=0.25, linewidth=0.5)
    if panel.above is not None:
        _draw_above(axes, *panel.above)
    if panel.legend:
        _draw_legend(axes, panel.legend)


def _draw_mark(axes: Axes, mark: Mark, panel: Panel) -> None:
    if isinstance(mark, Pixels):
        _draw_pixels(axes, mark)
        return
    if isinstance(mark, Flags):
        _draw_flags(axes, mark)
        return
    label, colour = getattr(mark, "label", "") or None, _colour(mark.role)
    line = {"linewidth": 0.8, "color": colour, **_LINES.get((type(mark), mark.role), {})}
    is_dense = np.size(getattr(mark, "x", ())) > _DENSE
    if isinstance(mark, Curve):
        axes.plot(mark.x, mark.y, label=label, rasterized=is_dense, **line)
    elif isinstance(mark, Points):
        _draw_points(axes, mark, label, colour)
    elif isinstance(mark, Area):
        axes.fill_between(
            mark.x, mark.low, mark.high, color=colour, alpha=0.35, lw=0, label=label,
            rasterized=is_dense,
        )  # fmt: skip
    elif isinstance(mark, Span):
        across = axes.axvspan if mark.along == "x" else axes.axhspan
        alpha = 0.25 if mark.role == "scatter" else 0.35
        across(mark.low, mark.high, color=colour, alpha=alpha, lw=0, label=label)
    elif isinstance(mark, Level):
        (axes.axvline if mark.along == "x" else axes.axhline)(mark.at, label=label, **line)
    elif isinstance(mark, Strokes):
        heights = np.full(np.size(mark.x), mark.height)
        axes.plot(
            mark.x, heights, "|", transform=axes.get_xaxis_transform(), markersize=6,
            color=colour, label=label, rasterized=is_dense,
        )  # fmt: skip
        for x, name in zip(mark.x, mark.names, strict=False):
            axes.text(
                x, mark.height + 0.03, printable(name), transform=axes.get_xaxis_transform(),
                rotation=90, ha="center", va="bottom", fontsize=7, parse_math=False,
            )  # fmt: skip
    else:
        _draw_bars(axes, mark, colour, abs(panel.x.high - panel.x.low) / 80)


def _colour(role: str) -> Any:
    """Return the colour of a role; "ramp-0" to "ramp-100" run from blue to yellow."""
    if role.startswith("ramp-"):
        from matplotlib import colormaps

        return colormaps["cividis"](int(role.removeprefix("ramp-")) / 100)
    return COLOURS[role]


def _draw_pixels(axes: Axes, image: Pixels) -> None:
    """Draw an image, averaged in blocks if it is large, and a colour bar if it has a unit."""
    from matplotlib.colors import FuncNorm

    stretch = image.stretch
    axes.imshow(
        reduced(image.counts, _MOST_ROWS, _MOST_COLUMNS),
        origin="lower",
        aspect="auto",
        extent=image.extent,
        cmap="gray",
        norm=FuncNorm((stretch.bend, stretch.straighten), vmin=stretch.low, vmax=stretch.high),
        interpolation_stage="data",
    )
    if image.unit:
        bar = axes.figure.colorbar(axes.images[0], ax=axes, pad=0.01, fraction=0.04)
        ticks = stretch.ticks()
        bar.set_ticks(ticks, labels=[f"{tick:.10g}" for tick in ticks])
        bar.ax.minorticks_off()
        bar.ax.set_ylabel(printable(f"counts ({image.unit})"), parse_math=False)


def _draw_flags(axes: Axes, flags: Flags) -> None:
    """Colour flagged pixels; a block with a flagged pixel is one coloured dot."""
    from matplotlib.colors import to_rgba

    layers = [reduced(mask, _MOST_ROWS, _MOST_COLUMNS) > 0 for _, mask, _ in flags.masks]
    colours = np.zeros((*layers[0].shape, 4))
    for (role, _, label), dots in zip(flags.masks, layers, strict=True):
        colours[dots] = to_rgba(COLOURS[role])
        axes.plot([], [], "s", markersize=4, color=COLOURS[role], label=label)
    axes.imshow(colours, origin="lower", aspect="auto", extent=flags.extent,
                interpolation="nearest")  # fmt: skip


def _draw_points(axes: Axes, points: Points, label: str | None, colour: Any) -> None:
    if points.error is not None or points.length is not None:
        axes.errorbar(
            points.x, points.y, yerr=points.error, xerr=points.length, fmt="o", markersize=3,
            color=colour, lw=0.8, label=label,
        )  # fmt: skip
        return
    ring = {"markersize": 7, "mfc": "none"} if points.role == "outlier" else {"markersize": 3}
    form = "o-" if points.is_joined else "o"
    axes.plot(points.x, points.y, form, linewidth=0.6, color=colour, label=label, **ring)


def _draw_bars(axes: Axes, bars: Bars, colour: Any, least: float) -> None:
    """Draw bars, with white edges where they are longer than `least`, days."""
    lengths = days(bars.end) - days(bars.start)
    for start, length, lane in zip(days(bars.start), lengths, bars.lane, strict=True):
        axes.broken_barh(
            [(float(start), float(length))], (int(lane) - 0.35, 0.7), facecolor=colour,
            edgecolor="white" if length > least else colour, linewidth=0.7,
        )  # fmt: skip


def _draw_axis(axes: Axes, side: str, axis: Axis, unnumbered: str) -> None:
    """Set limits, scale, ticks and label of an axis."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter, SymmetricalLogLocator

    def put(what: str, *args: Any, **options: Any) -> None:
        getattr(axes, f"set_{side}{what}")(*args, **options)

    ours = getattr(axes, f"{side}axis")
    if axis.scale == "symlog":
        put("scale", "symlog", linthresh=axis.width)
        if axis.n_ticks > 4:
            parts = SymmetricalLogLocator(base=10, linthresh=axis.width, subs=[1, 2, 5])
            ours.set_major_locator(parts)
    elif axis.scale == "log":
        put("scale", "log")
    if axis.scale != "linear":
        ours.set_major_formatter(StrMethodFormatter("{x:g}"))  # no formula, which is slow to draw
    if axis.kind == "integer":
        ours.set_major_locator(MaxNLocator(integer=True))
    if axis.ticks is not None:
        plain = {"parse_math": False} if axis.kind == "names" else {}
        names = [printable(name) if plain else name for _, name in axis.ticks]
        put("ticks", [at for at, _ in axis.ticks], labels=names, **plain)
    if axis.kind == "names":
        axes.tick_params(axis=side, length=0)  # type: ignore[arg-type]
    put("lim", axis.low, axis.high)
    if side in unnumbered:
        axes.tick_params(**{"labelbottom" if side == "x" else "labelleft": False})  # type: ignore[arg-type]
    elif axis.label:
        put("label", printable(axis.label), parse_math=False)


def _draw_above(axes: Axes, values: Any, names: Any, label: str) -> None:
    """Draw a second scale above, such as the columns over wavelengths."""
    from matplotlib.ticker import MaxNLocator

    rising = np.argsort(names)
    above = axes.secondary_xaxis(
        "top", functions=(partial(np.interp, xp=values, fp=names),
                          partial(np.interp, xp=names[rising], fp=values[rising])),
    )  # fmt: skip
    first, last = float(names.min()), float(names.max())
    ticks = MaxNLocator(8, integer=True).tick_values(first, last)
    above.set_xticks([tick for tick in ticks if first <= tick <= last])
    above.set_xlabel(label)
    axes.tick_params(top=False)


def _draw_legend(axes: Axes, place: Any) -> None:
    """Draw the legend of labelled marks, above the right end of the axes or in the given place."""
    handles, names = axes.get_legend_handles_labels()
    if not handles:
        return
    names = [printable(name) for name in names]
    if place == "above":
        legend = axes.legend(
            handles, names, ncols=_columns(names), loc="lower right", borderaxespad=0.2,
            columnspacing=1.2,
        )  # fmt: skip
        legend.set_bbox_to_anchor((1.0, 1.0), axes.transAxes)
    else:
        legend = axes.legend(handles, names, loc=place)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _columns(names: Sequence[str]) -> int:
    """Return the number of columns of a legend above the axes."""
    return max(min(len(names), _LINE // (max(map(len, names)) + 6)), 1)


def png(figure: Figure, *, dpi: float = DPI) -> bytes:
    """Return a figure as PNG bytes, the same for the same figure.

    Parameters
    ----------
    figure : from a function of this package.
    dpi : pixels an inch.

    Examples
    --------
    >>> import arrayred as ar
    >>> truth = ar.SimulatedNight().truth()
    >>> png(ar.plots.spectrum(truth))[1:4]
    b'PNG'
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with painting(figure, dpi):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()  # type: ignore[no-untyped-call]
        pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    opaque = bool((pixels[:, :, 3] == 255).all())
    return encode_png(pixels[:, :, :3] if opaque else pixels, level=_COMPRESSION, dpi=dpi)


def drawn_png(sheet: Sheet) -> bytes:
    """Return a figure, drawn for this alone, as PNG bytes.

    Its images are let go at once: axes are a ring of references, which would hold 20 MiB. Clearing
    the figure would also make new axes of the old ones, which takes 5 % of the time.
    """
    figure = draw(sheet)
    content = png(figure)
    for axes in figure.axes:
        for image in list(axes.images):
            image.remove()
    return content


def svg(figure: Figure, *, label: str = "") -> str:
    """Return a figure as the text of an SVG file, the same for the same figure.

    Texts stay texts. Marks of more than 2,000 points are images, so that a spectrum with its noise
    stays below 200 kB. A page shows it as an image: its style would apply to the page around it.

    Parameters
    ----------
    figure : from a function of this package.
    label : title of the file, which is read out in place of the figure.

    Examples
    --------
    >>> import arrayred as ar
    >>> text = svg(ar.plots.spectrum(ar.SimulatedNight().truth()), label="a star")
    >>> "<title>a star</title>" in text
    True
    """
    buffer = io.StringIO()
    with painting(figure, DPI):
        about = _NOTHING | ({"Title": printable(label)} if label else {})
        figure.savefig(buffer, format="svg", metadata=about)
    return buffer.getvalue()


@contextmanager
def painting(figure: Figure, dpi: float) -> Iterator[None]:
    """Set a figure up for drawing at a resolution; canvas and resolution are restored afterwards.

    matplotlib's own `savefig` also draws the figure once in vain, which takes a third of its time.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas, own_dpi = figure.canvas, figure.dpi
    with styled():
        try:
            figure.set_canvas(FigureCanvasAgg(figure))
            figure.dpi = dpi
            yield
        finally:
            figure.dpi = own_dpi
            figure.set_canvas(canvas)
