"""Draw the explorer's figures: the image with its cuts and bands, and lines below it.

Axes count FITS pixels, so that a pixel's middle is a whole number. Nothing that a header says
stands in a figure, where Bokeh would take some of it for mathematics.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from bokeh.models import BoxAnnotation, ColumnDataSource, LinearColorMapper, Range1d, Span
from bokeh.palettes import Cividis256, Greys256, Inferno256, Viridis256
from bokeh.plotting import figure
from numpy.typing import NDArray

from arrayred.config.recipe import RowRange
from arrayred.explore.data import Blocks, Stretch
from arrayred.kernels.blocks import block_factor, block_mean, block_peak

PALETTES = {
    "grey": Greys256,
    "grey, inverted": tuple(reversed(Greys256)),
    "viridis": Viridis256,
    "inferno": Inferno256,
    "cividis": Cividis256,
}
_NO_DATA = "#9ecae9"
_STAR, _SKY, _CUT = "#f58518", "#54a24b", "#e45756"
_LEFT, _RIGHT = 64, 12
_TALL = 400
_WIDE: dict[str, Any] = {"sizing_mode": "stretch_width"}
_LINES = ("#4c78a8", "#54a24b", "#f58518")


class Bands(NamedTuple):
    """Which rows are marked: those of the star, and the bands of the sky."""

    rows: RowRange | None
    sky: tuple[RowRange, ...]


class ImageView:
    """An image with the bands of rows on it, and its cuts beside and below.

    Parameters
    ----------
    on_drag : is called with "rows" or "sky" and the rows to which a band was dragged.
    """

    def __init__(self, on_drag: Callable[[str, RowRange], None]) -> None:
        self._on_drag, self._is_applying = on_drag, False
        self._x, self._y = Range1d(0.5, 1.5), Range1d(0.5, 1.5)
        self._pixels = ColumnDataSource({"image": [], "x": [], "y": [], "dw": [], "dh": []})
        self._mapper = LinearColorMapper(palette=_palette("grey"), low=0, high=N_LEVELS)
        self.figure = _figure(self._x, self._y, _TALL, "pan,wheel_zoom,box_zoom,reset")
        self.figure.grid.visible = False
        self.figure.xaxis.major_label_text_font_size = "0px"
        self.figure.image("image", source=self._pixels, color_mapper=self._mapper, level="image")
        self.figure.yaxis.axis_label = "row"
        self._cross = (
            Span(dimension="width", line_color=_CUT),
            Span(dimension="height", line_color=_CUT),
        )
        for span in self._cross:
            span.line_width, span.line_alpha = 1, 0.7
            self.figure.add_layout(span)
        self._bands = {"rows": [self._band(_STAR, "rows")]}
        self._bands["sky"] = [self._band(_SKY, "sky") for _ in range(2)]
        self._is_turned = False
        self.row_cut = _figure(self._x, None, 110)
        self.column_cut = _figure(None, self._y, _TALL, width=140)
        self.column_cut.min_border_left = 12
        self._cuts = [ColumnDataSource({"x": [], "y": []}) for _ in range(2)]
        for view, source in zip((self.row_cut, self.column_cut), self._cuts, strict=True):
            view.line("x", "y", source=source, color=_CUT, line_width=1)
        self.row_cut.xaxis.axis_label = "column"
        self.column_cut.yaxis.major_label_text_font_size = "0px"
        self.column_cut.xaxis.ticker.desired_num_ticks = 2

    def fit(self, shape: tuple[int, int], first: tuple[int, int]) -> None:
        """Let the axes span an image of so many rows and columns."""
        for axis, start, n in zip((self._y, self._x), first, shape, strict=True):
            low, high = start - 0.5, start + n - 0.5
            axis.update(start=low, end=high, reset_start=low, reset_end=high, bounds=(low, high))

    def window(self, shape: tuple[int, int], first: tuple[int, int]) -> Window:
        """Return the part of an image that the axes span."""
        y = self._y.start - first[0] + 0.5, self._y.end - first[0] + 0.5
        x = self._x.start - first[1] + 0.5, self._x.end - first[1] + 0.5
        return Window.around(y, x, shape)

    def show(
        self, dots: NDArray[np.uint8], window: Window, first: tuple[int, int], factor: int
    ) -> None:
        """Show levels (y, x), each a block of so many pixels a side, of a window of an image."""
        n_rows, n_columns = dots.shape
        self._pixels.data = {
            "image": [dots],
            "x": [first[1] + window.column - 0.5],
            "y": [first[0] + window.row - 0.5],
            "dw": [n_columns * factor],
            "dh": [n_rows * factor],
        }

    def colour(self, name: str) -> None:
        """Show levels in the colours of a name of `PALETTES`."""
        self._mapper.palette = _palette(name)

    def cut(
        self, pixels: NDArray[Any], first: tuple[int, int], row: int, column: int, unit: str
    ) -> None:
        """Show the row and the column through a pixel, FITS numbers, of an image (y, x)."""
        y, x = row - first[0], column - first[1]
        across = np.arange(first[1], first[1] + pixels.shape[1])
        along = np.arange(first[0], first[0] + pixels.shape[0])
        self._cuts[0].data = {"x": across, "y": pixels[y].astype(np.float64)}
        self._cuts[1].data = {"x": pixels[:, x].astype(np.float64), "y": along}
        self._cross[0].location, self._cross[1].location = row, column
        self.row_cut.yaxis.axis_label = unit
        self.column_cut.xaxis.axis_label = unit

    def mark(self, bands: Bands, *, is_turned: bool) -> None:
        """Mark bands of rows; of columns in an image whose spectrum runs along its columns."""
        self._is_turned, self._is_applying = is_turned, True
        wanted = {"rows": [bands.rows], "sky": [*bands.sky, None, None][:2]}
        for kind, boxes in self._bands.items():
            for box, rows in zip(boxes, wanted[kind], strict=True):
                self._place(box, rows)
        self._is_applying = False

    def _place(self, box: BoxAnnotation, rows: RowRange | None) -> None:
        box.visible = rows is not None
        low, high = (0.0, 1.0) if rows is None else (rows[0] - 0.5, rows[1] + 0.5)
        edges = ("left", "right") if self._is_turned else ("bottom", "top")
        others = ("bottom", "top") if self._is_turned else ("left", "right")
        free = (self._y, self._x)[not self._is_turned].bounds
        way = "x" if self._is_turned else "y"
        box.update(movable=way, resizable=way)
        box.update(**dict(zip((*edges, *others), (low, high, *free), strict=True)))

    def _band(self, colour: str, kind: str) -> BoxAnnotation:
        """Return a band that can be dragged, and by its edges made wider."""
        box = BoxAnnotation(
            name=kind,
            visible=False,
            editable=True,
            fill_color=colour,
            fill_alpha=0.07,
            line_color=colour,
            line_width=1,
            hover_fill_alpha=0.25,
            hover_fill_color=colour,
        )

        def moved(_attr: str, _old: object, _new: object) -> None:
            self._dragged(box, kind)

        for edge in ("top", "bottom", "left", "right"):
            box.on_change(edge, moved)
        self.figure.add_layout(box)
        return box

    def _dragged(self, box: BoxAnnotation, kind: str) -> None:
        edges = (box.left, box.right) if self._is_turned else (box.bottom, box.top)
        if self._is_applying or not all(isinstance(edge, int | float) for edge in edges):
            return
        low, high = sorted(edges)
        first = max(round(low + 0.5), 1)
        self._on_drag(kind, (first, max(round(high - 0.5), first)))


class LinesView:
    """Some lines over one axis, with a legend that hides and shows them.

    Parameters
    ----------
    names : of the lines.
    height : of the figure.
    marks : whether each value gets a dot.
    """

    def __init__(self, names: Sequence[str], height: int = 200, *, marks: bool = False) -> None:
        self.figure = _figure(None, None, height, "pan,wheel_zoom,box_zoom,reset")
        self.figure.x_range.range_padding = 0.01
        self._sources = {name: ColumnDataSource({"x": [], "y": []}, name=name) for name in names}
        for (name, source), colour in zip(self._sources.items(), _LINES, strict=False):
            label = {"legend_label": name} if len(names) > 1 else {}
            self.figure.line("x", "y", source=source, color=colour, line_width=1.3, **label)
            if marks:
                self.figure.scatter("x", "y", source=source, color=colour, size=4)
        if len(names) > 1:
            legend = self.figure.legend[0]
            legend.update(click_policy="hide", orientation="horizontal", padding=2, margin=4)
            legend.update(background_fill_alpha=0.6, border_line_alpha=0)

    def show(self, lines: dict[str, tuple[Any, Any]], unit: str, x_label: str) -> None:
        """Show x and y of lines by their names; those that are left out are empty."""
        self.figure.xaxis.axis_label = x_label
        for name, source in self._sources.items():
            x, y = lines.get(name, ([], []))
            source.data = {"x": x, "y": y}
        self.figure.yaxis.axis_label = unit


def _palette(name: str) -> list[str]:
    return [_NO_DATA, *PALETTES[name][1:]]


def _figure(
    x: Range1d | None, y: Range1d | None, height: int, tools: str = "", width: int | None = None
) -> Any:
    """Return a figure with a frame of some height; without a width it takes the room there is."""
    ranges = {name: value for name, value in (("x_range", x), ("y_range", y)) if value is not None}
    made = figure(
        frame_height=height,
        tools=tools,
        toolbar_location="right" if tools else None,
        min_border_left=_LEFT,
        min_border_right=_RIGHT,
        min_border_top=6,
        **(_WIDE if width is None else {"frame_width": width, "width": None, "height": None}),
        **ranges,
    )
    made.toolbar.logo = None
    made.grid.grid_line_alpha = 0.5
    made.outline_line_color = "#cccccc"
    for axis in made.axis:
        axis.update(axis_label_text_font_style="normal", axis_label_text_font_size="12px")
        axis.update(minor_tick_line_alpha=0, axis_line_color="#cccccc")
    return made


# From pixel values to the levels of a screen: `picture`, `limits`, `levels`.
#
# What goes to the browser is one byte for each dot, at most a million of them, whatever the
# detector: 4096 x 4096 pixels of 8 bytes would be 134 MB a step. The window that is zoomed into is
# made smaller by itself, so that single pixels are seen as soon as they have room.

MOST_DOTS = 1_000_000
"""Dots that are sent for one image, at most."""
N_LEVELS = 255
"""Levels of brightness, 1 to 255; 0 means no data."""
_SOFTENING = {"asinh": 20.0, "log": 500.0}
_SAMPLE = 200_000
_BLOCKS = {"mean": block_mean, "peak": block_peak}


class Window(NamedTuple):
    """A part of an image, in array numbers: rows and columns, the second of each left out."""

    row: int
    row_stop: int
    column: int
    column_stop: int

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> Window:
        """Return the window that shows all of an image."""
        return cls(0, shape[0], 0, shape[1])

    @classmethod
    def around(cls, y: tuple[float, float], x: tuple[float, float], shape: Any) -> Window:
        """Return the window of all pixels that lie between two edges along y and x.

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
    """A window of an image made small enough: its values (y, x), and the side of a block."""

    values: NDArray[np.float64]
    factor: int


def picture(
    pixels: NDArray[Any], window: Window, blocks: Blocks = "mean", most: int = MOST_DOTS
) -> Picture:
    """Return a window of an image, in blocks where it has too many pixels.

    Parameters
    ----------
    pixels : (y, x), any real dtype.
    window : the part that is shown.
    blocks : what is shown of a block.
    most : dots it may have.
    """
    part = pixels[window.row : window.row_stop, window.column : window.column_stop]
    factor = block_factor((part.shape[0], part.shape[1]), most)
    values = part.astype(np.float64) if factor == 1 else _BLOCKS[blocks](part, factor)
    return Picture(values, factor)


def limits(values: NDArray[Any], low: float, high: float) -> tuple[float, float]:
    """Return two percentiles of the finite values, of a regular sample where they are many.

    Parameters
    ----------
    values : of any shape.
    low, high : percentiles.

    Examples
    --------
    >>> limits(np.array([0.0, 1.0, 2.0, np.nan]), 0, 100)
    (0.0, 2.0)
    """
    step = max(values.size // _SAMPLE, 1)
    sample = values.reshape(-1)[::step]
    finite = sample[np.isfinite(sample)]
    if not finite.size:
        return 0.0, 1.0
    first, second = np.percentile(finite, (low, high))
    return float(first), float(second if second > first else first + 1.0)


def levels(
    values: NDArray[Any], between: tuple[float, float], stretch: Stretch
) -> NDArray[np.uint8]:
    """Return brightness, 1 to 255, of values; 0 where there is no number.

    Parameters
    ----------
    values : of any shape.
    between : the values of the lowest and the highest brightness.
    stretch : how it grows between them.

    Examples
    --------
    >>> levels(np.array([np.nan, -5.0, 0.0, 50.0, 100.0, 1e9]), (0.0, 100.0), "linear")
    array([  0,   1,   1, 128, 255, 255], dtype=uint8)
    """
    low, high = between
    share = np.clip((values - low) / (high - low), 0.0, 1.0)
    if stretch == "asinh":
        share = np.arcsinh(share * _SOFTENING["asinh"]) / np.arcsinh(_SOFTENING["asinh"])
    elif stretch == "log":
        share = np.log1p(share * _SOFTENING["log"]) / np.log1p(_SOFTENING["log"])
    known = np.isfinite(share)
    shown = np.rint(np.where(known, share, 0.0) * (N_LEVELS - 1)) + 1
    return np.where(known, shown, 0).astype(np.uint8)
