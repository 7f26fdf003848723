"""Draw the panels of the explorer: the image with its cuts and bands of rows, and curves below.

The content of panels is described by `arrayred.plots`; here it can be zoomed, dragged and changed.
This is the renderer for Bokeh, as `report.render` is that for pages; `app` knows what people do.

Axes count FITS pixels, so that the centre of a pixel is a whole number. No header text is put in a
figure, where Bokeh would interpret some of it as mathematics.

The interactive page of a reduced night (`write_interactive`) is one file for any browser, without
network. Its figures are those of `arrayred.plots` too, drawn by Bokeh, whose script is part of the
file. The page has a policy of its own: only that script runs, nothing is loaded or sent. It may
evaluate code, since the boxes that mask flagged columns are code that Bokeh compiles; the page of
`arrayred.report` has no script and stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from bokeh.core.property.descriptors import UnsetValueError
from bokeh.embed import components
from bokeh.layouts import column
from bokeh.models import (
    BasicTickFormatter,
    BoxAnnotation,
    CheckboxGroup,
    ColumnDataSource,
    CustomJS,
    FixedTicker,
    HoverTool,
    InlineStyleSheet,
    Legend,
    LegendItem,
    LinearColorMapper,
    Range1d,
)
from bokeh.models import Span as Cross
from bokeh.palettes import Cividis256, Greys256, Inferno256, Viridis256
from bokeh.plotting import figure
from bokeh.resources import Resources
from numpy.typing import NDArray

from arrayred.config.recipe import RowRange
from arrayred.errors import ArrayredError, UsageError
from arrayred.explore.data import BlockStatistic
from arrayred.io.ledger import Entry, Ledger
from arrayred.model import DQ, DQ_MEANINGS, FLUX, VARIANCE, X
from arrayred.plots.figures import compare, cuts, image_axes
from arrayred.plots.figures import spectrum as spectrum_sheet
from arrayred.plots.panels import (
    COLOURS,
    Area,
    Axis,
    Bars,
    Curve,
    Extent,
    Flags,
    Level,
    Mark,
    Panel,
    Pixels,
    Points,
    Span,
    Stretch,
    Strokes,
    block_factor,
    block_mean,
    block_peak,
    days,
)
from arrayred.report.pages import publish_page, spectra_of
from arrayred.report.render import page
from arrayred.report.run import evening_of, gathered

PALETTES = {
    "grey": Greys256,
    "grey, inverted": tuple(reversed(Greys256)),
    "viridis": Viridis256,
    "inferno": Inferno256,
    "cividis": Cividis256,
}
_NO_DATA = "#9ecae9"
_ON_ANY = "#808080"
"""A colour of letters that can be read on paper and on a dark page."""
_POSITIVE = """
@media screen and (prefers-color-scheme: dark) { :host { filter: invert(1) hue-rotate(180deg); } }
"""
_DRAGGED = {"aperture": "rows", "sky": "sky"}
"""Names of the bands that can be dragged, by role."""
_AT_FIRST = {"aperture": 1, "sky": 2}
_IMAGES = Pixels | Flags
_LEFT, _RIGHT = 64, 12
_TALL = 400
_WITH_NAMES = 450
"""Width of a panel, screen pixels, that has room for the names of lines."""
_WIDE: dict[str, Any] = {"sizing_mode": "stretch_width"}


class ImageView:
    """An image with the bands of rows on it, and its cuts beside and below.

    Parameters
    ----------
    on_drag : called with "rows" or "sky" and the rows to which a band was dragged.
    """

    def __init__(self, on_drag: Callable[[str, RowRange], None]) -> None:
        self._on_drag, self._is_applying = on_drag, False
        self._x, self._y = Range1d(0.5, 1.5), Range1d(0.5, 1.5)
        self._pixels = ColumnDataSource({"image": [], "x": [], "y": [], "dw": [], "dh": []})
        self._mapper = LinearColorMapper(palette=_palette("grey"), low=0, high=N_LEVELS)
        self.figure = _figure(self._x, self._y, _TALL, "pan,wheel_zoom,box_zoom,reset")
        self.figure.grid.visible = False
        self.figure.update(stylesheets=[InlineStyleSheet(css=_POSITIVE)])
        for axis in self.figure.axis:
            axis.update(axis_label_text_color=_ON_ANY, major_label_text_color=_ON_ANY)
        self.figure.xaxis.major_label_text_font_size = "0px"
        self.figure.image("image", source=self._pixels, color_mapper=self._mapper, level="image")
        self.figure.yaxis.axis_label = image_axes((0, 1, 0, 1))[1].label
        self._cross = (
            Cross(dimension="width", line_color=COLOURS["cut"]),
            Cross(dimension="height", line_color=COLOURS["cut"]),
        )
        for span in self._cross:
            span.line_width, span.line_alpha = 1, 0.7
            self.figure.add_layout(span)
        self._bands = {role: [self._band(role) for _ in range(n)] for role, n in _AT_FIRST.items()}
        self._is_turned, self._placed = False, dict[str, tuple[float, float]]()
        self.row_cut = PanelView(110, x=self._x, tools="")
        self.column_cut = PanelView(_TALL, y=self._y, tools="", width=140)
        self.column_cut.figure.min_border_left = 12

    def fit(self, extent: Extent) -> None:
        """Set the axes to an image, given the edges of its outer pixels, FITS numbers."""
        for shown, axis in zip((self._x, self._y), image_axes(extent), strict=True):
            ends = {"start": axis.low, "end": axis.high, "bounds": (axis.low, axis.high)}
            shown.update(reset_start=axis.low, reset_end=axis.high, **ends)

    def window(self, shape: tuple[int, int], first: tuple[int, int]) -> Window:
        """Return the part of an image that the axes span."""
        y = self._y.start - first[0] + 0.5, self._y.end - first[0] + 0.5
        x = self._x.start - first[1] + 0.5, self._x.end - first[1] + 0.5
        return Window.around(y, x, shape)

    def show(
        self, dots: NDArray[np.uint8], window: Window, first: tuple[int, int], factor: int
    ) -> None:
        """Show a window of an image as levels (y, x) of blocks of `factor` pixels a side."""
        n_rows, n_columns = dots.shape
        self._pixels.data = {
            "image": [dots],
            "x": [first[1] + window.column - 0.5],
            "y": [first[0] + window.row - 0.5],
            "dw": [n_columns * factor],
            "dh": [n_rows * factor],
        }

    def colour(self, name: str) -> None:
        """Set the palette, by its name in `PALETTES`."""
        self._mapper.palette = _palette(name)

    def cut(self, pixels: NDArray[Any], extent: Extent, row: int, column: int, unit: str) -> None:
        """Show the row and the column through a pixel, FITS numbers, of an image (y, x)."""
        below, beside = cuts(pixels, extent, row, column, unit)
        self.row_cut.show(below)
        self.column_cut.show(beside)
        self._cross[0].location, self._cross[1].location = row, column

    def mark(self, spans: Sequence[Span], *, is_turned: bool) -> None:
        """Mark bands of rows, or of columns where the spectrum runs along the columns."""
        self._is_turned, self._is_applying = is_turned, True
        for role in {*self._bands, *(span.role for span in spans)}:
            boxes, own = self._bands.setdefault(role, []), [s for s in spans if s.role == role]
            boxes += [self._band(role) for _ in own[len(boxes) :]]
            for i, box in enumerate(boxes):
                self._place(box, own[i] if i < len(own) else None)
        self._is_applying = False

    def _place(self, box: BoxAnnotation, span: Span | None) -> None:
        box.visible = span is not None
        low, high = (0.0, 1.0) if span is None else (span.low, span.high)
        edges = ("left", "right") if self._is_turned else ("bottom", "top")
        others = ("bottom", "top") if self._is_turned else ("left", "right")
        free = (self._y, self._x)[not self._is_turned].bounds
        self._placed[box.id] = low, high
        way = "x" if self._is_turned else "y"
        box.update(movable=way, resizable=way)
        box.update(**dict(zip((*edges, *others), (low, high, *free), strict=True)))

    def _band(self, role: str) -> BoxAnnotation:
        """Return a band; those of the spectrum and its sky can be dragged and resized."""
        colour, kind = COLOURS[role], _DRAGGED.get(role, "")
        box = BoxAnnotation(
            name=kind or role,
            visible=False,
            editable=bool(kind),
            fill_color=colour,
            fill_alpha=0.12,
            line_color=colour,
            line_alpha=0.9,
            line_width=2 if kind else 1,
            hover_fill_alpha=0.25,
            hover_fill_color=colour,
            hover_line_color=colour,
            hover_line_width=4,
        )

        def moved(_attr: str, _old: object, _new: object) -> None:
            self._dragged(box, kind)

        for edge in ("top", "bottom", "left", "right") if kind else ():
            box.on_change(edge, moved)
        self.figure.add_layout(box)
        return box

    def _dragged(self, box: BoxAnnotation, kind: str) -> None:
        edges = (box.left, box.right) if self._is_turned else (box.bottom, box.top)
        if self._is_applying or not all(isinstance(edge, int | float) for edge in edges):
            return
        low, high = sorted(edges)
        if not box.visible or (low, high) == self._placed.get(box.id):
            return  # the browser tells where it was placed
        first = max(round(low + 0.5), 1)
        self._on_drag(kind, (first, max(round(high - 0.5), first)))


class Drawn(NamedTuple):
    """A mark that is drawn: its type and role, its values, its glyphs."""

    kind: tuple[type, str]
    source: ColumnDataSource
    glyphs: list[Any]


class PanelView:
    """A panel that is redrawn when its description changes, with a legend that can hide marks.

    Parameters
    ----------
    height : of its frame, screen pixels.
    x, y : ranges shared with an image beside it; None: the limits given by the description.
    tools : names of Bokeh tools, separated by commas.
    width : of its frame, screen pixels; None: as wide as there is room.
    hover : show the values of the curves under the mouse.
    """

    def __init__(
        self,
        height: int = 200,
        *,
        x: Range1d | None = None,
        y: Range1d | None = None,
        tools: str = "pan,wheel_zoom,box_zoom,reset",
        width: int | None = None,
        hover: bool = False,
    ) -> None:
        self._hover = HoverTool(mode="vline")
        self._own = [Range1d(0, 1) if one is None else None for one in (x, y)]
        ranges = [own or given for own, given in zip(self._own, (x, y), strict=True)]
        self.figure = _figure(ranges[0], ranges[1], height, tools, width)
        # a legend that is added once the page is shown has no view in the browser
        self._legend = Legend(click_policy="hide", ncols=2, padding=0, margin=2, location="left")
        self._legend.update(label_text_font_size="12px", label_height=14, glyph_height=14)
        self._legend.update(background_fill_alpha=0, border_line_alpha=0, visible=False)
        self.figure.add_layout(self._legend, "above")
        self.drawn: list[Drawn] = []
        if hover:
            self.figure.add_tools(self._hover)

    def show(self, panel: Panel | None) -> None:
        """Show a panel; its first marks keep their glyphs while types and roles are the same."""
        if panel is not None:
            for own, axis in zip(self._own, (panel.x, panel.y), strict=True):
                low, high = _limits(axis)
                if own is not None and (own.reset_start, own.reset_end) != (low, high):
                    own.update(reset_start=low, reset_end=high, start=low, end=high)
            self._name_axes(panel)
            value = "y" if panel.y.scale == "linear" else "value"
            told = (panel.x.label, "@x{0.[00]}"), (panel.y.label, f"@{value}{{0.[00]}}")
            self._hover.tooltips = [*told]
        marks = [] if panel is None else [m for m in panel.marks if not isinstance(m, _IMAGES)]
        before, self.drawn, items = self.drawn, [], []
        for i, mark in enumerate(marks):
            assert panel is not None
            data, kind = _columns(mark, panel), (type(mark), mark.role)
            label = getattr(mark, "label", "")
            if i < len(before) and before[i].kind == kind:
                drawn = before[i]
                drawn.source.data = data
            else:
                before = []
                source = ColumnDataSource(data, name=label if type(mark) is Curve else mark.role)
                drawn = Drawn(kind, source, self._add(mark, source))
            self.drawn.append(drawn)
            if label:
                seen = [glyph for glyph in drawn.glyphs if glyph.visible]
                items.append(LegendItem(label={"value": label}, renderers=seen))
        self.figure.renderers = [glyph for drawn in self.drawn for glyph in drawn.glyphs]
        curves = [drawn for drawn in self.drawn if drawn.kind[0] in (Curve, Points)]
        curves = [drawn for drawn in curves if drawn.kind[1] == "flux"] or curves
        self._hover.renderers = [drawn.glyphs[0] for drawn in curves]
        self._legend.update(items=items, visible=bool(items))

    def _name_axes(self, panel: Panel) -> None:
        self.figure.title.text = panel.title
        shown_axes = self.figure.xaxis, self.figure.yaxis
        for side, shown, axis in zip("xy", shown_axes, (panel.x, panel.y), strict=True):
            shown.axis_label = "" if side in panel.unnumbered else axis.label
            shown.major_label_text_font_size = "0px" if side in panel.unnumbered else "11px"
            if axis.ticks is not None:
                places = _placed(axis, [at for at, _ in axis.ticks]).tolist()
                shown.ticker = FixedTicker(ticks=places)
                names = (name for _, name in axis.ticks)
                shown.major_label_overrides = dict(zip(places, names, strict=True))
            else:
                shown.ticker.desired_num_ticks = axis.n_ticks
                shown.ticker.min_interval = 1 if axis.kind == "integer" else 0

    def _add(self, mark: Mark, source: ColumnDataSource) -> list[Any]:
        """Add the glyphs of a mark."""
        assert not isinstance(mark, _IMAGES)
        figure, colour = self.figure, COLOURS[mark.role]
        if isinstance(mark, Curve | Level):
            dash = "solid" if isinstance(mark, Curve) else "dotted"
            return [figure.line(source=source, color=colour, line_width=1.3, line_dash=dash)]
        if isinstance(mark, Points):
            size, fill = (9, None) if mark.role == "outlier" else (4, colour)
            glyphs = [figure.scatter(source=source, line_color=colour, fill_color=fill, size=size)]
            if mark.is_joined:
                glyphs.append(figure.line(source=source, color=colour))
            if mark.error is not None:
                glyphs.append(figure.segment("x", "low", "x", "high", source=source, color=colour))
            return glyphs
        if isinstance(mark, Area):
            return [figure.varea(source=source, color=colour, alpha=0.35)]
        if isinstance(mark, Strokes):
            glyphs = [figure.scatter(source=source, marker="dash", angle=np.pi / 2, color=colour)]
            if mark.names:
                upwards = {"angle": np.pi / 2, "text_baseline": "middle", "y_offset": -5}
                font = {"text_font_size": "11px", "text_color": colour}
                glyphs.append(figure.text(text="names", source=source, **upwards, **font))
                with suppress(UnsetValueError):  # it has no width before it is shown
                    glyphs[-1].visible = figure.inner_width >= _WITH_NAMES
            return glyphs
        return [figure.quad(source=source, color=colour, alpha=0.3)]


def _columns(mark: Mark, panel: Panel) -> dict[str, Any]:
    """Return the coordinates of the glyphs of a mark; lines across a panel end at its limits."""
    x, y = panel.x, panel.y
    if isinstance(mark, Curve | Points):
        value = days(mark.y)
        found = {"x": days(mark.x), "y": _placed(y, value)}
        found |= {} if y.scale == "linear" else {"value": value}
        if isinstance(mark, Points) and mark.error is not None:
            found["low"] = _placed(y, value - mark.error)
            found["high"] = _placed(y, value + mark.error)
        return found
    if isinstance(mark, Area):
        return {"x": days(mark.x), "y1": mark.low, "y2": mark.high}
    if isinstance(mark, Level):
        if mark.along == "x":
            return {"x": [mark.at, mark.at], "y": list(_limits(y))}
        return {"x": list(_limits(x)), "y": _placed(y, [mark.at, mark.at])}
    if isinstance(mark, Span):
        edges = [mark.low, mark.high]
        across, along = (
            (edges, _limits(y)) if mark.along == "x" else (_limits(x), _placed(y, edges))
        )
        names = ("left", "right", "bottom", "top")
        return {name: [end] for name, end in zip(names, (*across, *along), strict=True)}
    if isinstance(mark, Strokes):
        low, high = _limits(y)
        height = low + mark.height * (high - low)
        told = {"names": list(mark.names)} if mark.names else {}
        return {"x": days(mark.x), "y": np.full(np.size(mark.x), height), **told}
    assert isinstance(mark, Bars)
    lanes = {"bottom": mark.lane - 0.35, "top": mark.lane + 0.35}
    return {"left": days(mark.start), "right": days(mark.end), **lanes}


def _limits(axis: Axis) -> tuple[float, float]:
    """Return the limits of an axis in a figure, whose scales are all linear."""
    return (axis.low, axis.high) if axis.scale == "linear" else (0.0, 1.0)


def _placed(axis: Axis, values: Any) -> NDArray[np.float64]:
    """Return where values of an axis lie in a figure."""
    return days(values) if axis.scale == "linear" else axis.place(values)


def _palette(name: str) -> list[str]:
    return [_NO_DATA, *PALETTES[name][1:]]


def _figure(
    x: Range1d | None, y: Range1d | None, height: int, tools: str = "", width: int | None = None
) -> Any:
    """Return a figure with a frame of a height; without a width it fills the space available."""
    ranges = {name: value for name, value in (("x_range", x), ("y_range", y)) if value is not None}
    made = figure(
        frame_height=height,
        tools=tools,
        toolbar_location="right" if tools else None,
        min_border_left=_LEFT,
        min_border_right=_RIGHT,
        min_border_top=6,
        background_fill_color=None,
        border_fill_color=None,
        **(_WIDE if width is None else {"frame_width": width, "width": None, "height": None}),
        **ranges,
    )
    made.toolbar.logo = None
    made.grid.grid_line_alpha = 0.5
    made.outline_line_color = "#cccccc"
    for axis in made.axis:
        axis.update(axis_label_text_font_style="normal", axis_label_text_font_size="12px")
        axis.update(minor_tick_line_alpha=0, axis_line_color="#cccccc")
        axis.formatter = BasicTickFormatter(use_scientific=False)
    return made


# Brightness levels of the pixels that are sent to the browser: `picture`, `levels`.
#
# The browser receives one byte for each dot, at most a million of them, whatever the detector:
# 4096 x 4096 pixels of 8 bytes would be 134 MB a step. Only the window that is zoomed into is
# binned, so that single pixels are seen as soon as there is room for them.

MOST_DOTS = 1_000_000
"""Maximum number of dots sent for one image."""
N_LEVELS = 255
"""Number of brightness levels, 1 to 255; 0 means no data."""
_BLOCKS = {"mean": block_mean, "peak": block_peak}


class Window(NamedTuple):
    """A part of an image, in array numbers: rows and columns, stops excluded."""

    row: int
    row_stop: int
    column: int
    column_stop: int

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> Window:
        """Return the window of a whole image."""
        return cls(0, shape[0], 0, shape[1])

    @classmethod
    def around(cls, y: tuple[float, float], x: tuple[float, float], shape: Any) -> Window:
        """Return the window of all pixels between two edges along y and x.

        Parameters
        ----------
        y, x : edges in array numbers, 0 being the lower edge of the first pixel.
        shape : (n_rows, n_columns) of the image.

        Examples
        --------
        >>> Window.around((-3.0, 4.2), (1.5, 99.0), (10, 20))
        Window(row=0, row_stop=5, column=1, column_stop=20)
        """
        edges = []
        for (low, high), n in zip((y, x), shape, strict=True):
            start = min(max(int(np.floor(low)), 0), n - 1)
            edges += [start, max(min(int(np.ceil(high)), n), start + 1)]
        return cls(*edges)


class Picture(NamedTuple):
    """A window of an image, binned: its values (y, x), and the side of a block, pixels."""

    values: NDArray[np.float64]
    factor: int


def picture(
    pixels: NDArray[Any], window: Window, blocks: BlockStatistic = "mean", most: int = MOST_DOTS
) -> Picture:
    """Return a window of an image, binned into blocks where it has too many pixels.

    Parameters
    ----------
    pixels : (y, x), any real dtype.
    window : the part that is shown.
    blocks : statistic of the pixels of a block.
    most : maximum number of dots.
    """
    part = pixels[window.row : window.row_stop, window.column : window.column_stop]
    factor = block_factor((part.shape[0], part.shape[1]), most)
    values = part.astype(np.float64) if factor == 1 else _BLOCKS[blocks](part, factor)
    return Picture(values, factor)


def levels(values: NDArray[Any], stretch: Stretch) -> NDArray[np.uint8]:
    """Return brightness levels, 1 to 255, of values of any shape; 0 where not finite.

    Examples
    --------
    >>> levels(np.array([np.nan, -5.0, 0.0, 50.0, 1e9]), Stretch(0.0, 100.0, 0.0, 1.0, "linear"))
    array([  0,   1,   1, 128, 255], dtype=uint8)
    """
    shown = np.rint(stretch.grey(values) * (N_LEVELS - 1)) + 1
    return np.where(np.isfinite(values), shown, 0).astype(np.uint8)


INTERACTIVE = "interactive.html"
"""The file of the page, in the output folder."""
INTERACTIVE_ENTRY = "report/interactive"
_TOOLS = "pan,wheel_zoom,box_zoom,reset,save"
_HEIGHT, _LOWER_HEIGHT = 300, 130


def write_interactive(out: Path, *, overwrite: bool = False) -> Path:
    """Write the interactive page of a finished night.

    Parameters
    ----------
    out : the output folder.
    overwrite : replace a file of the page's name that is not ours.

    Returns
    -------
    path : of the page.

    Raises
    ------
    UsageError
        No spectrum was finished there, or a file not written by arrayred has the page's name.
    StorageError
        It cannot be written.
    """
    ledger = Ledger(out)
    finished = gathered(out, ledger)
    spectra: dict[str, xr.Dataset] = {}
    for target in finished.targets:
        with suppress(ArrayredError):  # of damaged products the report tells
            spectra |= spectra_of(finished, target)
    if not spectra:
        raise UsageError(
            "No spectrum was finished here", path=out, hint="Name an output folder with spectra."
        )
    figures = {stem: _spectrum_figure(spectrum) for stem, spectrum in spectra.items()}
    together = _overlay(spectra) if len(spectra) > 1 else None
    whole = [*([] if together is None else [together]), *figures.values()]
    script, roots = _with_fixed_ids(*components(whole, wrap_script=False, wrap_plot_info=False))
    name = evening_of(finished.account.frames) or "a night without a date"
    names = [*([] if together is None else ["All spectra, each divided by its median"]), *figures]
    content = page(
        "interactive.html",
        code="\n".join(
            [*Resources("inline", components=["bokeh", "bokeh-widgets"]).js_raw, script]
        ),
        title=f"{name}: interactive spectra",
        heading=f"Night of {name}" if name[:1].isdecimal() else name.capitalize(),
        sections=list(zip(names, roots, strict=True)),
    )
    may_replace = overwrite or ledger.read(INTERACTIVE_ENTRY) is not None
    publish_page(ledger, INTERACTIVE, content, Entry(INTERACTIVE_ENTRY, finished.key), may_replace)
    return out / INTERACTIVE


_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=\")p[0-9]{4,}(?=\")")


def _with_fixed_ids(script: str, roots: Any) -> tuple[str, list[tuple[str, str]]]:
    """Return a script of Bokeh and the ids of its figures, numbered: else no run gives the same."""
    found = {text: f"p{i}" for i, text in enumerate(dict.fromkeys(_ID.findall(script)), 1)}
    named = [(found[root.elementid], found[root.id]) for root in roots]
    return _ID.sub(lambda match: found[match[0]], script), named


def _overlay(spectra: dict[str, xr.Dataset]) -> Any:
    """Return all spectra over each other; a click on the legend hides one."""
    sheet = compare(spectra, normalised=True)
    view = PanelView(_HEIGHT, tools=_TOOLS)
    view.show(sheet.rows[0][0])
    view.figure.legend.update(orientation="vertical", location="top_left")
    return view.figure


def _spectrum_figure(spectrum: xr.Dataset) -> Any:
    """Return the flux, its S/N and the sky of a spectrum, zoomed together, with boxes for flags."""
    panels, values = [row[0] for row in spectrum_sheet(spectrum).rows], _column_values(spectrum)
    axis = panels[0].x
    if VARIANCE in spectrum:
        panels.insert(1, _snr_panel(values["snr"], axis, panels[0]))
    shared = Range1d(axis.low, axis.high, reset_start=axis.low, reset_end=axis.high)
    views = [
        PanelView(_LOWER_HEIGHT if i else _HEIGHT, x=shared, tools=_TOOLS)
        for i in range(len(panels))
    ]
    for view, panel in zip(views, panels, strict=True):
        view.show(panel)
    flux = next(drawn for drawn in views[0].drawn if drawn.kind == (Curve, "flux"))
    flux.source.data = {**flux.source.data, **values}
    views[0].figure.add_tools(
        HoverTool(
            renderers=flux.glyphs,
            mode="vline",
            tooltips=[
                (axis.label, "@x{0.00}"),
                ("column", "@column{0}"),
                ("flux", "@y{0.00} ± @sigma{0.00}"),
                ("S/N", "@snr{0.0}"),
                ("flags", "@flags"),
            ],
        )
    )
    boxes = _flag_boxes(flux.source, spectrum)
    figures = [view.figure for view in views]
    return column(*figures, *boxes, sizing_mode="stretch_width")


def _snr_panel(snr: NDArray[np.float64], axis: Axis, above: Panel) -> Panel:
    curve = next(mark for mark in above.marks if isinstance(mark, Curve))
    top = float(np.nanmax(snr, initial=1.0))
    return Panel(axis, Axis("S/N per pixel", 0.0, 1.05 * top), (Curve(curve.x, snr, "means"),))


def _column_values(spectrum: xr.Dataset) -> dict[str, Any]:
    """Return the values of each column that the page shows or masks by."""
    flux = spectrum[FLUX].values.astype(np.float64)
    sigma = np.full(flux.shape, np.nan)
    if VARIANCE in spectrum:
        sigma = np.sqrt(spectrum[VARIANCE].values.astype(np.float64))
    flags = spectrum[DQ].values if DQ in spectrum else np.zeros(flux.shape, np.uint8)
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = np.where(sigma > 0, flux / sigma, np.nan)
    told = [
        ", ".join(name.replace("_", " ") for bit, name in DQ_MEANINGS.items() if bit & flag)
        or "none"
        for flag in map(int, flags)
    ]
    numbers = {"column": spectrum[X].values, "dq": flags.astype(np.int32), "whole": flux}
    return {**numbers, "sigma": sigma, "snr": snr, "flags": told}


_MASK = """
const masked = box.active.map(i => bits[i]).reduce((all, bit) => all | bit, 0);
const {whole, dq, y} = source.data;
for (let i = 0; i < y.length; i++) y[i] = (dq[i] & masked) ? NaN : whole[i];
source.change.emit();
"""


def _flag_boxes(source: Any, spectrum: xr.Dataset) -> list[Any]:
    """Return boxes that mask the columns of a flag, for the flags that there are."""
    flags = int(np.bitwise_or.reduce(spectrum[DQ].values, initial=0)) if DQ in spectrum else 0
    bits = [bit for bit in DQ_MEANINGS if bit & flags]
    if not bits:
        return []
    names = [f"mask {DQ_MEANINGS[bit].replace('_', ' ')}" for bit in bits]
    box = CheckboxGroup(labels=names, active=[], inline=True)
    box.js_on_change(
        "active", CustomJS(args={"source": source, "box": box, "bits": bits}, code=_MASK)
    )
    return [box]
