"""Show the explorer in a browser: its page, controls, background tasks and server."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shlex
import signal
import socket
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import panel as pn
from bokeh.core.validation import silence
from bokeh.core.validation.warnings import MISSING_RENDERERS
from bokeh.document import without_document_lock
from bokeh.events import MouseMove, RangesUpdate, Tap
from panel.io.server import get_server
from tornado.httputil import HTTPServerRequest
from tornado.routing import Matcher, Rule
from tornado.web import ErrorHandler

from arrayred.config.night_file import entry_text
from arrayred.config.recipe import RowRange
from arrayred.errors import ArrayredError, ResourceError, UsageError, counted
from arrayred.explore.data import (
    BlockStatistic,
    CalibrationStage,
    Choices,
    ExplorerModel,
    LampLines,
    ShownImage,
    View,
    format_rows,
    parse_rows,
)
from arrayred.explore.figures import (
    PALETTES,
    ImageView,
    PanelView,
    Window,
    levels,
    picture,
)
from arrayred.io.frames import Frame
from arrayred.night import Group
from arrayred.plots.figures import (
    extraction,
    history_panel,
    lamp_lines,
    row_marks,
    sky_bands,
    span_of,
)
from arrayred.plots.panels import Scale, Span, Stretch, stretch_of
from arrayred.progress import handled
from arrayred.report.render import fragment
from arrayred.steps.solution import Solved
from arrayred.steps.wavelength import LAMPS

if TYPE_CHECKING:
    import xarray as xr

_MOST_LIGHT_BYTES = 256 << 20
_MOUSE_MS = 40
_GROWING: dict[str, Any] = {
    "sizing_mode": "stretch_width",
    "styles": {"flex": "1 1 340px", "min-width": "0"},
}
"""Of what takes the room beside it, and a line of its own where the window is narrow."""


_WIDE: dict[str, Any] = {"sizing_mode": "stretch_width"}
_TABS = ("Spectrum", "Pixel vs. frame", "Lamp lines", "Reduction")
_REDUCE, _ALL, _OVERWRITE = "Reduce", "All targets", "Overwrite"
_STOPPED = (130, -signal.SIGINT)
"""Exit codes of a command that was interrupted, once it runs and while it starts."""


_DARK = """
@media screen and (prefers-color-scheme: dark) {
  html { background: #14171a; }
  body { background: transparent; filter: invert(1) hue-rotate(180deg); }
}
"""
"""In a dark browser the page is its own negative with its hues kept; the image is turned back."""


class ExplorerPage:
    """The page of one browser window.

    Parameters
    ----------
    model : the night that is shown.
    """

    def __init__(self, model: ExplorerModel) -> None:
        self.model, self.view = model, View(next(iter(model.groups)))
        self._document = pn.state.curdoc
        self.controls = Controls(model.groups, self.view)
        self.image_view = ImageView(self._set_rows)
        self.lines, self.through = PanelView(hover=True), PanelView(hover=True)
        self.pointed, self.said, self.about = (pn.pane.HTML("") for _ in range(3))
        self.outcome, self.printed = (pn.pane.HTML("", **_WIDE) for _ in range(2))
        self.lamp = LampTab(lambda: self._request("fit"))
        shown = (
            pn.Column(self.about, self.lines.figure, **_WIDE),
            self.through.figure,
            self.lamp.layout(),
            pn.Column(self.outcome, self.printed, **_WIDE),
        )
        self.tabs = pn.Tabs(*zip(_TABS, shown, strict=True), **_WIDE)
        self._shown: ShownImage | None = None
        self._group = self.view.group
        self._stretch: Stretch | None = None
        self._bands: tuple[Span, ...] = ()
        self._is_following = False
        raw, made = (partial(self._image, is_raw=is_raw) for is_raw in (True, False))
        self._tasks = {
            "raw": Task(_no_announcement, raw, self._put_image),
            "made": Task(self._announce_image, made, self._put_image),
            "through": Task(_no_announcement, self._through, self._put_through),
            "spectrum": Task(self._announce_spectrum, model.spectrum, self._put_spectrum),
            "lamp": Task(self._announce_lamp, self._lamp_lines, self._put_lamp),
            "fit": Task(_no_announcement, lambda _view: self.lamp.solved(), self._put_fit),
            "save": Task(_no_announcement, self._save, self._put_saved),
            "reduce": Task(self._announce_reduction, self._reduce, self._put_reduction),
        }
        self._requested: set[str] = set()
        self._running: set[str] = set()
        self._mouse: tuple[float, float] | None = None
        self._lines_printed: list[str] = []
        if model.choices is not None:
            told = f"Output folder: {model.choices.command.out}"
            self.controls.saved.object = message_html(told)
        self._connect()
        self._turn_to(self.view)
        self._put_image(self.view, model.image(self.view))

    def layout(self) -> Any:
        """Return the layout of the whole page."""
        cuts = pn.Column(self.image_view.figure, self.image_view.row_cut.figure, **_GROWING)
        beside = pn.Column(self.image_view.column_cut.figure, self.pointed, width=200)
        main = pn.Column(
            self.said,
            pn.FlexBox(cuts, beside, sizing_mode="stretch_width"),
            self.tabs,
            **_GROWING,
        )
        controls = self.controls.layout(self.model.title)
        return pn.FlexBox(controls, main, sizing_mode="stretch_width")

    def _connect(self) -> None:
        """Connect the events of widgets and figures to their actions."""
        c, view = self.controls, self.image_view.figure
        self._watch(c.group, lambda name: self._turn_to(self.view.on(name), new_group=True))
        self._watch(c.player, lambda number: self._go(frame=number - 1))
        self._watch(c.number, lambda number: self._go(frame=number - 1))
        self._watch(c.stage, lambda stage: self._go(stage=stage))
        self._watch(c.stretch, lambda stretch: self._redraw(stretch=stretch))
        self._watch(c.blocks, lambda blocks: self._redraw(blocks=blocks))
        self._watch(c.low, lambda low: self._redraw(low=low, new_limits=True))
        self._watch(c.high, lambda high: self._redraw(high=high, new_limits=True))
        self._watch(c.colour, self.image_view.colour)
        self._watch(c.row, lambda row: self._cut(row, c.column.value))
        self._watch(c.column, lambda column: self._cut(c.row.value, column))
        self._watch(c.rows, lambda text: self._typed("rows", text))
        self._watch(c.sky, lambda text: self._typed("sky", text))
        c.save.on_click(lambda _: self._request("save"))
        c.reduce.on_click(lambda _: self._reduce_or_stop())
        self._watch(self.lamp.names, lambda _: self._request("lamp"))
        self.tabs.param.watch(lambda _: self._request_tab(), "active")
        view.on_event(Tap, lambda event: self._cut(round(event.y), round(event.x)))
        view.on_event(MouseMove, self._point)
        view.on_event(RangesUpdate, lambda _: self._draw())

    def _watch(self, widget: Any, act: Callable[[Any], None]) -> None:
        """Call a function with a widget's new value, unless the page itself set that value."""

        def changed(event: Any) -> None:
            if not self._is_following and event.new is not None:
                act(event.new)

        widget.param.watch(changed, "value")

    def _go(self, **changes: Any) -> None:
        """Show another frame or stage of the group."""
        self._turn_to(replace(self.view, **changes))
        self._want_image()
        if changes.get("stage") == "combined" and self.model.can_combine(self.view):
            self._request("spectrum")

    def _turn_to(self, view: View, *, new_group: bool = False) -> None:
        """Change the view and update all widgets."""
        self.view, self._is_following = view, True
        n_frames = len(self.model.groups[view.group].frames)
        self.controls.follow(view, n_frames, self.model.stages(view))
        self._is_following = False
        self.controls.facts.object = header_table(self.model.frame(view))
        self._tell_entry()
        if new_group:
            self._stretch, self._bands = None, ()
            self._mark()
            self.lines.show(None)
            self._want_image()
            self._request("through")
            self.begin()

    def begin(self) -> None:
        """Extract the spectrum of the group in view, if its frames are few enough."""
        if not self.model.can_combine(self.view):
            self.about.object = message_html("Spectra are extracted from light frames only.")
        elif self.model.groups[self.view.group].n_bytes <= _MOST_LIGHT_BYTES:
            self._request("spectrum")
        else:
            size = self.model.groups[self.view.group].size
            self.about.object = message_html(
                f"{size}: enter rows, or choose “combined”, to combine them."
            )

    def _redraw(self, *, new_limits: bool = False, **changes: Any) -> None:
        """Show the same image with other display settings."""
        self.view = replace(self.view, **changes)
        self._stretch = None if new_limits else self._stretch
        self._draw()

    def _cut(self, row: int, column: int) -> None:
        """Move the cuts to a pixel."""
        if self._shown is None:
            return
        self.view = self.view.at(row, column, self._shown.shape, self._shown.first)
        self._turn_to(self.view)
        self._put_cuts(self._shown)
        self._request("through")

    def _typed(self, kind: str, text: str) -> None:
        try:
            self._set_rows(kind, parse_rows(text))
        except UsageError as error:
            self._tell(str(error), is_error=True)

    def _set_rows(self, kind: str, rows: RowRange | None) -> None:
        """Set the rows of the spectrum or the sky."""
        self._tell("")
        view = self.view
        is_star = kind == "rows"
        self._turn_to(replace(view, rows=rows) if is_star else replace(view, sky_rows=rows))
        if self.model.can_combine(self.view):
            self._request("spectrum")

    def _tell_entry(self) -> None:
        name = self.model.name(self.view)
        self.controls.entry.value = entry_text(name, self.view.rows, self.view.sky_rows)
        self.controls.copied.value = ""

    def _tell(self, text: str, *, is_error: bool = False) -> None:
        self.said.object = message_html(text, is_error=is_error) if text else ""

    def _request(self, name: str) -> None:
        """Request a task; one that is running already is run again afterwards, for the view then.

        A slider dragged over a thousand frames shows as many as there is time for, and always the
        last one.
        """
        if self._document is None:
            return
        self._requested.add(name)
        if name not in self._running:
            self._running.add(name)
            run = partial(self._run, self._tasks[name], name)
            self._document.add_next_tick_callback(without_document_lock(run))

    async def _run(self, task: Task, name: str) -> None:
        """Run a task as long as it is requested; other events are handled meanwhile."""
        try:
            while name in self._requested:
                self._requested.discard(name)
                view = self.view
                self._on_page(task.announce, view)
                self._on_page(task.put, view, await asyncio.to_thread(make_result, task.make, view))
        finally:
            self._running.discard(name)

    def _on_page(self, act: Callable[..., None], *values: Any) -> None:
        """Change the page as soon as it may be changed; from any thread."""
        document = self._document

        def change() -> None:
            document.hold("combine")  # all of it in one message: the page is laid out once
            try:
                act(*values)
            finally:
                document.unhold()

        document.add_next_tick_callback(change)

    def _want_image(self) -> None:
        """Request the image in view; a raw frame does not wait until others are combined."""
        self._request("raw" if self.view.stage == "raw" else "made")

    def _image(self, view: View, *, is_raw: bool) -> ShownImage | None:
        return self.model.image(view) if (view.stage == "raw") is is_raw else None

    def _announce_image(self, view: View) -> None:
        if view.stage != "raw":
            self._tell("Calibrating…")

    def _put_image(self, view: View, image: ShownImage | ArrayredError | None) -> None:
        """Show an image, unless the group or stage in view has changed."""
        if image is None or (view.group, view.stage) != (self.view.group, self.view.stage):
            return
        if isinstance(image, ArrayredError):
            self._tell(str(image), is_error=True)
            return
        self._tell("" if view.stage == "raw" else f"{view.stage}: {self.model.corrected(view)}")
        before, self._shown = self._shown, image
        if before is None or (before.shape, before.first) != (image.shape, image.first):
            self.image_view.fit(image.extent)
        if not self.controls.hold.value or view.group != self._group:
            self._stretch = None
        self._group = view.group
        self._draw()
        n_rows, n_columns = image.shape
        row, column = self.view.row, self.view.column
        middle = image.first[0] + n_rows // 2, image.first[1] + n_columns // 2
        row, column = middle[0] if row is None else row, middle[1] if column is None else column
        self.view = self.view.at(row, column, image.shape, image.first)
        self._put_cuts(image)
        self._tell_pointed()

    def _draw(self) -> None:
        """Show the part of the image that the axes span."""
        image, view = self._shown, self.view
        if image is None:
            return
        window = self.image_view.window(image.shape, image.first)
        values, factor = picture(image.pixels, window, view.blocks)
        if self._stretch is None:
            whole = Window.whole(image.shape)
            seen = window == whole
            all_of_it = values if seen else picture(image.pixels, whole, view.blocks).values
            try:
                self._stretch = stretch_of(all_of_it, (view.low, view.high))
            except UsageError as error:
                self._tell(str(error), is_error=True)
                return
        dots = levels(values, self._stretch._replace(scale=view.stretch))
        self.image_view.show(dots, window, image.first, factor)

    def _put_cuts(self, image: ShownImage) -> None:
        view = self.view
        if view.row is None or view.column is None:
            return
        self.image_view.cut(image.pixels, image.extent, view.row, view.column, image.unit)
        self._is_following = True
        self.controls.row.value, self.controls.column.value = view.row, view.column
        self._is_following = False

    def _through(self, view: View) -> Any:
        """Return one pixel through all frames, if its tab is open."""
        if not self._is_open("Pixel vs. frame") or view.row is None or view.column is None:
            return None
        return self.model.through_frames(view, view.row, view.column)

    def _put_through(self, view: View, values: Any) -> None:
        if isinstance(values, ArrayredError):
            self._tell(str(values), is_error=True)
        elif values is not None:
            numbers = np.arange(1, len(values) + 1)
            unit, title = self.model.frame(view).unit, f"row {view.row}, column {view.column}, raw"
            self.through.show(history_panel(numbers, values, unit, title))

    def _announce_spectrum(self, view: View) -> None:
        if not self.model.is_combined(view):
            self.about.object = message_html("Combining…")

    def _put_spectrum(self, view: View, spectrum: Any) -> None:
        """Show a spectrum with its rows, or the reason why there is none."""
        if view.group != self.view.group:
            return
        if isinstance(spectrum, ArrayredError):
            self.lines.show(None)
            chosen = (("aperture", view.rows), ("sky", view.sky_rows))
            self._bands = tuple(span_of(rows, "y", role) for role, rows in chosen if rows)
            self.about.object = message_html(str(spectrum), is_error=True)
        else:
            along = "row" if self.model.is_turned(view) else "column"
            self.lines.show(extraction(spectrum, along))
            self._bands = row_marks(spectrum, "y")
            note = " (rows are the columns of the file)" if along == "row" else ""
            self.about.object = message_html(rows_line(spectrum) + note)
        if (view.rows, view.sky_rows) == (self.view.rows, self.view.sky_rows):
            self._mark()  # else a band is being dragged on, and would jump back
            self._request("lamp")

    def _request_tab(self) -> None:
        """Request what the tab that was opened shows."""
        self._request("through")
        self._request("lamp")

    def _is_open(self, tab: str) -> bool:
        return _TABS[self.tabs.active] == tab

    def _announce_lamp(self, _view: View) -> None:
        if self._is_open("Lamp lines"):
            self.lamp.tell("Extracting the lamp…")

    def _lamp_lines(self, view: View) -> LampLines | None:
        """Return the lines of the lamp in view, if its tab is open."""
        if not self._is_open("Lamp lines"):
            return None
        return self.model.lamp_lines(view, self.lamp.names.value or "")

    def _put_lamp(self, view: View, made: LampLines | ArrayredError | None) -> None:
        if made is not None and view.group == self.view.group:
            self._is_following = True
            self.lamp.put(made)
            self._is_following = False

    def _put_fit(self, _view: View, fitted: Any) -> None:
        self.lamp.put_fit(fitted)

    def _save(self, view: View) -> Path:
        return self._choices.save(view)

    def _put_saved(self, _view: View, saved: Path | ArrayredError) -> None:
        if isinstance(saved, ArrayredError):
            self.controls.saved.object = message_html(str(saved), is_error=True)
        else:
            self.controls.saved.object = message_html(f"Saved in {saved}")

    @property
    def _choices(self) -> Choices:
        """Return where choices are saved; raise UsageError where they cannot be."""
        if self.model.choices is None:
            raise UsageError("This page has no output folder", hint="Use `arrayred explore`.")
        return self.model.choices

    def _reduce_or_stop(self) -> None:
        """Start the reduction, or stop the one that runs."""
        if "reduce" in self._running:
            self._choices.stop()
        else:
            self._request("reduce")

    def _announce_reduction(self, _view: View) -> None:
        self.controls.reduce.name = "Stop"
        self.outcome.object, self.printed.object = message_html("Reducing…"), ""
        self.tabs.active = _TABS.index("Reduction")

    def _reduce(self, view: View) -> tuple[int, str]:
        self._lines_printed, how = [], self.controls.how.value
        return self._choices.reduce(
            view, self._print, all_targets=_ALL in how, overwrite=_OVERWRITE in how
        )

    def _print(self, line: str) -> None:
        """Show a line that the reduction printed; called in its thread."""
        self._lines_printed.append(line)
        self._on_page(self._put_printed, tuple(self._lines_printed))

    def _put_printed(self, lines: tuple[str, ...]) -> None:
        self.printed.object = _said("printed", lines)

    def _put_reduction(self, _view: View, done: tuple[int, str] | ArrayredError) -> None:
        """Show how the reduction ended: its summary, or what is wrong."""
        self.controls.reduce.name = _REDUCE
        if isinstance(done, ArrayredError):
            self.outcome.object = message_html(str(done), is_error=True)
            return
        code, end = done
        if code in _STOPPED:
            self.outcome.object = message_html("Stopped. Finished products are kept.")
        elif code == 0:
            out = self._choices.command.out
            self.outcome.object = message_html(f"Reduced into {out}: {end}")
        else:
            self.outcome.object = message_html(f"Exit code {code}. {end}", is_error=True)

    def _mark(self) -> None:
        self.image_view.mark(self._bands, is_turned=self.model.is_turned(self.view))

    def _point(self, event: Any) -> None:
        """Note the position of the mouse, and show the pixel there 40 ms later."""
        waiting, self._mouse = self._mouse is not None, (event.x, event.y)
        if not waiting and self._document is not None:
            self._document.add_timeout_callback(self._tell_pointed, _MOUSE_MS)

    def _tell_pointed(self) -> None:
        """Show the value of the pixel under the mouse, or else of that of the cuts."""
        if self._mouse is not None:
            column, row = (round(number) for number in self._mouse)
            self._mouse = None
        elif self.view.row is not None and self.view.column is not None:
            column, row = self.view.column, self.view.row
        else:
            return
        value = None if self._shown is None else self._shown.value(row, column)
        if self._shown is not None and value is not None:
            between = None if self._stretch is None else self._stretch[:2]
            self.pointed.object = pixel_text(column, row, value, self._shown.unit, between)


# The controls beside the image: choices, numbers, and the entry for the night file.

CONTROLS_WIDTH = 300
_COPY = """
navigator.clipboard.writeText(entry.value).then(() => { told.text = done; })
"""


class Controls:
    """The widgets of the page.

    Parameters
    ----------
    groups : the groups of frames that can be shown, by name.
    view : the first view.
    """

    def __init__(self, groups: Mapping[str, Group], view: View) -> None:
        w = pn.widgets
        by_type: dict[str, dict[str, str]] = defaultdict(dict)
        for name, group in groups.items():
            by_type[name.partition("/")[0]][f"{group.name} ({group.size})"] = name
        self.group = w.Select(
            name="Group", groups=dict(by_type), value=view.group, width=CONTROLS_WIDTH
        )
        self.player = w.Player(
            name="Frame", start=1, end=2, value=1, interval=400, loop_policy="loop", width=190,
            show_loop_controls=False, visible_buttons=["previous", "pause", "play", "next"],
        )  # fmt: skip
        self.number = w.IntInput(name="Frame", start=1, end=1, value=1, width=90)
        self.stage = w.RadioButtonGroup(
            name="Stage", options=["raw"], value="raw", width=CONTROLS_WIDTH
        )
        self.stretch = w.RadioButtonGroup(
            name="Stretch", options=list(get_args(Scale)), value=view.stretch, width=CONTROLS_WIDTH
        )
        self.low = _number_input("Black point (percentile)", view.low)
        self.high = _number_input("White point (percentile)", view.high)
        self.colour = w.Select(name="Colours", options=list(PALETTES), value="grey", width=140)
        self.blocks = w.Select(
            name="Downsampling", options=list(get_args(BlockStatistic)),
            value=view.blocks, width=140,
        )  # fmt: skip
        self.hold = w.CheckBoxGroup(options=["Lock display limits"])  # its text is clicked too
        self.column = w.IntInput(name="Column", start=1, value=1, width=90)
        self.row = w.IntInput(name="Row", start=1, value=1, width=90)
        self.rows = w.TextInput(name="Aperture rows", placeholder="automatic", width=140)
        self.sky = w.TextInput(name="Sky rows", placeholder="automatic", width=140)
        self.entry = w.TextAreaInput(name="Night-file entry", height=88, width=CONTROLS_WIDTH)
        self.entry.stylesheets = ["textarea { font-family: monospace; font-size: 12px; }"]
        self.copy = w.Button(name="Copy", width=80, button_type="primary")
        self.copied = pn.widgets.StaticText(value="", width=60)
        self.save = w.Button(name="Save to night.toml", width=150, button_type="primary")
        self.saved = pn.pane.HTML("", width=CONTROLS_WIDTH)
        self.saved.stylesheets = ["div { overflow-wrap: anywhere; }"]
        self.reduce = w.Button(name=_REDUCE, width=80, button_type="primary")
        self.how = w.CheckBoxGroup(options=[_ALL, _OVERWRITE], inline=True, align="center")
        self.facts = pn.pane.HTML("", width=CONTROLS_WIDTH)
        self.copy.js_on_click(
            args={"entry": self.entry, "told": self.copied, "done": COPIED}, code=_COPY
        )

    def layout(self, title: str) -> Any:
        """Return the widgets, one below the other, under a title."""
        return pn.Column(
            pn.pane.HTML(_said("title", title), sizing_mode="stretch_width"),
            self.group,
            self.stage,
            pn.Row(self.number, self.player),
            self.facts,
            _heading("Display"),
            self.stretch,
            pn.Row(self.low, self.high),
            self.hold,
            pn.Row(self.colour, self.blocks),
            _heading("Cuts"),
            pn.Row(self.column, self.row),
            _heading("Spectrum"),
            pn.Row(self.rows, self.sky),
            self.entry,
            pn.Row(self.save, self.copy, self.copied),
            self.saved,
            pn.Row(self.reduce, self.how),
            width=CONTROLS_WIDTH + 24,
        )

    def follow(self, view: View, n_frames: int, stages: Sequence[CalibrationStage]) -> None:
        """Set the widgets to a view, of a group with so many frames and these stages."""
        self.player.param.update(end=max(n_frames, 2), value=view.frame + 1, disabled=n_frames < 2)
        self.number.param.update(end=n_frames, value=view.frame + 1, name=f"Frame of {n_frames}")
        self.stage.param.update(options=list(stages), value=view.stage)
        self.rows.value, self.sky.value = format_rows(view.rows), format_rows(view.sky_rows)
        if view.row is not None and view.column is not None:
            self.row.value, self.column.value = view.row, view.column


def _heading(text: str) -> Any:
    """Return the heading of a block of widgets."""
    return pn.pane.HTML(_said("heading", text), sizing_mode="stretch_width")


def _number_input(name: str, value: float) -> Any:
    return pn.widgets.FloatInput(name=name, value=value, start=0, end=100, step=0.5, width=140)


# The tab in which the lines of a lamp are named: `LampTab`.


class LampTab:
    """A lamp with its lines: a click picks one, which is then named by its wavelength.

    Parameters
    ----------
    request_fit : asks for the solution of the named lines, which is given to `put_fit`.
    """

    def __init__(self, request_fit: Callable[[], None]) -> None:
        w, self._request_fit = pn.widgets, request_fit
        self.lines: LampLines | None = None
        self._picked: float | None = None
        self._fitted: Solved | None = None
        self._of_targets: dict[str, LampLines] = {}
        self.arc = PanelView(260, hover=True)
        self.residuals = PanelView(110, x=self.arc.figure.x_range, tools="")
        self.residuals.figure.visible = False
        self.said, self.picked = (pn.pane.HTML("", **_WIDE) for _ in range(2))
        self.names = w.Select(name="Arc frame", options=[], width=180)
        self.gas = w.Select(name="Gas", options=list(LAMPS), width=110)
        self.listed = w.Select(name="Listed lines", options={}, width=150)
        self.wavelength = w.TextInput(name="Wavelength (Angstrom, air)", width=180)
        self.name, self.remove, self.save = (
            w.Button(name=name, button_type="primary", width=width)
            for name, width in (("Name line", 100), ("Remove name", 120), ("Save lines", 100))
        )
        self.gas.param.watch(lambda _: self._choose_gas(), "value")
        self.listed.param.watch(lambda _: self._take_listed(), "value")
        self.name.on_click(lambda _: self._edit("name"))
        self.remove.on_click(lambda _: self._edit("remove"))
        self.save.on_click(lambda _: self._save())
        self.arc.figure.on_event(Tap, lambda event: self._pick(event.x))

    def layout(self) -> Any:
        """Return the tab."""
        choices = self.names, self.gas, self.listed, self.wavelength
        buttons = self.name, self.remove, self.save
        return pn.Column(
            self.said, self.arc.figure, self.residuals.figure, self.picked,
            pn.FlexBox(*choices, *buttons, align_items="end"), **_WIDE,
        )  # fmt: skip

    def put(self, lines: LampLines | ArrayredError) -> None:
        """Show the lines of a lamp; those of a target keep the names given to them here."""
        self._fitted = self._picked = None
        if isinstance(lines, ArrayredError):
            self.lines = None
            self.names.options = []
            self._show()
            self.tell(str(lines), is_error=True)
            return
        before = self._of_targets.get(lines.target)
        if before is not None:
            lines = replace(lines, named=before.named, gas=before.gas)
        self.lines = lines
        self.names.param.update(options=lines.lamps, value=lines.lamp)
        self.gas.value = lines.gas
        self.tell("")
        self._show()
        self._suggest()
        self._request_fit()

    def solved(self) -> tuple[LampLines, Solved] | None:
        """Return the named lines and their solution; None without lines."""
        lines = self.lines
        return None if lines is None else (lines, lines.solved())

    def put_fit(self, fitted: tuple[LampLines, Solved] | ArrayredError | None) -> None:
        """Show the solution of the named lines, unless they have changed since."""
        if isinstance(fitted, ArrayredError):
            self._fitted = None
            self.tell(str(fitted), is_error=self.lines is not None and self.lines.named is not None)
        elif fitted is not None and fitted[0] is self.lines:
            self._fitted = fitted[1]
            self.tell(solution_line(self._fitted))
        self._show()
        self._suggest()

    def tell(self, text: str, *, is_error: bool = False) -> None:
        """Show a message above the lamp."""
        self.said.object = message_html(text, is_error=is_error) if text else ""

    def _pick(self, x: float) -> None:
        """Pick the line nearest to a click."""
        if self.lines is None:
            return
        self._picked = self.lines.nearest(x)
        self._show()
        self._suggest()
        if self._picked is None:
            self.picked.object = message_html(f"No line was found at column {x:.0f}.")

    def _edit(self, what: Literal["name", "remove"]) -> None:
        """Name the picked line, or remove its name, and fit the lines again."""
        if self.lines is None or self._picked is None:
            self.tell("Click a line first.", is_error=True)
            return
        try:
            if what == "name":
                self.lines = self.lines.with_name(self._picked, self.wavelength.value_input)
            else:
                self.lines = self.lines.without_name(self._picked)
        except UsageError as error:
            self.tell(str(error), is_error=True)
            return
        self._of_targets[self.lines.target] = self.lines
        self._show()
        self._request_fit()

    def _save(self) -> None:
        try:
            if self.lines is None:
                raise UsageError("No lamp is shown", hint="Choose light frames with an arc frame.")
            path = self.lines.save()
        except ArrayredError as error:
            self.tell(str(error), is_error=True)
        else:
            told = shlex.join([str(path.parent), self.lines.target, "--lines", str(path)])
            self.tell(f"Saved in {path}. After the reduction: arrayred wavelength {told}")

    def _choose_gas(self) -> None:
        if self.lines is not None and self.gas.value != self.lines.gas:
            self.lines = replace(self.lines, gas=self.gas.value)
            self._suggest()

    def _take_listed(self) -> None:
        if self.listed.value:
            self._fill_in(self.listed.value)

    def _fill_in(self, text: str) -> None:
        self.wavelength.value = self.wavelength.value_input = text

    def _suggest(self) -> None:
        """List the wavelengths that the picked line may have, the nearest one chosen."""
        lines, x = self.lines, self._picked
        if lines is None or x is None:
            self.listed.options = {}
            self.picked.object = "" if lines is None else message_html("Click a line to name it.")
            return
        named, (listed, likeliest) = lines.name_of(x), lines.listed(x, self._fitted)
        options = {f"{line.wave:.2f} {line.ion}": f"{line.wave:.4f}" for line in listed}
        self.listed.param.update(options=options, value=f"{likeliest.wave:.4f}")
        self._fill_in(f"{likeliest.wave if named is None else named[0]:.4f}")
        told = "without a name" if named is None else f"{named[0]:.4f} Angstrom {named[1]}".rstrip()
        near = ""
        if self._fitted is not None:
            near = f"; the solution gives {self._fitted.dispersion.wavelength(x):.2f} Angstrom"
        self.picked.object = message_html(f"Line at column {x:.2f}: {told}{near}")

    def _show(self) -> None:
        """Draw the lamp, its lines and their residuals."""
        lines = self.lines
        below = None
        if lines is None:
            self.arc.show(None)
        else:
            fitted = None if self._fitted is None else self._fitted.lines
            lamp = lines.arc.sel(lamp=lines.lamp)
            above, below = lamp_lines(lamp, lines.found, lines.named, fitted, self._picked)
            self.arc.show(above)
        self.residuals.show(below)
        self.residuals.figure.visible = below is not None


def solution_line(solved: Solved) -> str:
    """Return number of lines, order and rms of a solution, and what to know of it, in one line."""
    found = solved.dispersion
    words = [counted(found.n_lines, "line") + " named", f"order {found.order}"]
    if found.has_residuals:
        words.append(f"rms {found.rms_pixel:.3f} pixel ({found.rms:.3f} Angstrom)")
    return "; ".join([", ".join(words), *solved.told])


# Server of the page, on the loopback: `serve_page`.
#
# Other users of the machine can reach the loopback too, so the page has a path that cannot be
# guessed and that no index lists. A page from elsewhere in the same browser is refused: by Host if
# its own name was made to lead here (DNS rebinding), by Origin if it opens the socket: tornado lets
# in whoever sends none. All its files are served from here: it works without a network.

HOST = "127.0.0.1"
_TRIES = 5


def serve_page(model: ExplorerModel, port: int = 0, *, announce: Callable[[str], None]) -> None:
    """Serve the page until interrupted.

    Parameters
    ----------
    model : the night that is shown.
    port : the port to listen on; 0: any that is free.
    announce : called with the address of the page once it can be opened.

    Raises
    ------
    ResourceError
        The port is taken.
    """
    token = secrets.token_urlsafe(18)
    server = _open_server(model, port, token)
    server.start()
    try:
        announce(f"http://{HOST}:{server.port}/{token}")
        server.io_loop.start()
    finally:
        _server_has_stopped.set()
        if model.choices is not None:
            model.choices.stop()
        server.stop()


def _open_server(model: ExplorerModel, port: int, token: str) -> Any:
    """Return a server on a port, or on any free one for port 0."""
    for left in reversed(range(_TRIES)):
        try:
            return _server_on_port(model, port or _any_free_port(), token)
        except OSError as error:
            if port or not left:
                raise ResourceError(
                    f"Port {port} of {HOST} cannot be used ({error.strerror})",
                    keyword="port",
                    value=port,
                    hint="Use another --port, or omit it.",
                ) from error
    raise AssertionError("unreachable")


def _server_on_port(model: ExplorerModel, port: int, token: str) -> Any:
    title = f"{model.title} - arrayred"

    def app() -> Any:
        try:
            page = ExplorerPage(model)
        except ArrayredError as error:
            return pn.pane.HTML(message_html(str(error), is_error=True))
        pn.state.curdoc.add_next_tick_callback(page.begin)
        return page.layout()

    silence(MISSING_RENDERERS)  # a figure is empty until its curves are made
    pn.config.raw_css = [_DARK]
    server = get_server(
        {f"/{token}": app},
        port=port,
        address=HOST,
        websocket_origin=f"{HOST}:{port}",
        title={f"/{token}": title},
        use_index=False,
        redirect_root=False,
        location=False,
    )
    refused = Rule(_FromElsewhere(f"{HOST}:{port}"), ErrorHandler, {"status_code": 403})
    server._tornado.default_router.rules.insert(0, refused)
    return server


class _FromElsewhere(Matcher):
    """Matches requests of another Host, and sockets whose Origin is not the page itself.

    Parameters
    ----------
    host : of the page, with its port.
    """

    def __init__(self, host: str) -> None:
        self._host, self._origin = host, f"http://{host}"

    def match(self, request: HTTPServerRequest) -> dict[str, Any] | None:
        """Return no parameters of a handler if the request is to be refused, else None."""
        headers = request.headers
        is_own = headers.get_list("Host") == [self._host]
        if "Upgrade" in headers:
            is_own = is_own and headers.get_list("Origin") == [self._origin]
        return None if is_own else {}


def _any_free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


# What takes long: `Task`, made in a thread, so that the page stays responsive.


class Task(NamedTuple):
    """What is made of a view in a thread, and shown.

    Parameters
    ----------
    announce : called before the result is made.
    make : makes the result, in a thread.
    put : shows the result on the page; if `make` failed, it is given the `ArrayredError` instead.
    """

    announce: Callable[[View], None]
    make: Callable[[View], Any]
    put: Callable[[View, Any], None]


class ServerStoppedError(Exception):
    """The server has stopped, and nobody waits for the result any more."""


_server_has_stopped = Event()


class _Stopping(logging.Handler):
    """Ends the work of a thread, at its next record, once the server has stopped.

    The interpreter waits for threads: without it, to end the program one would have to wait until
    two thousand frames are combined. It ends with the band that is at work.
    """

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)

    def emit(self, record: logging.LogRecord) -> None:
        """Raise ServerStoppedError where a stage begins or has made progress."""
        if _server_has_stopped.is_set() and not hasattr(record, "ended"):
            raise ServerStoppedError


def make_result(make: Callable[[View], Any], view: View) -> Any:
    """Return what is made of a view, or its `ArrayredError`; None once the server has stopped."""
    try:
        with handled(_Stopping()):
            return make(view)
    except ArrayredError as error:
        return error
    except ServerStoppedError:
        return None


def _no_announcement(_view: View) -> None:
    """Announce nothing, for a task that takes no time."""


# Texts of the page as HTML: headers and file names may hold anything, a template escapes them.

COPIED = "copied"
_said = partial(fragment, "explorer.html")


def header_table(frame: Frame) -> str:
    """Return the header values of a frame as a small HTML table."""
    values = {
        "file": frame.label,
        "object": frame.target,
        "type": frame.frame_type or "unknown",
        "exposure": "" if frame.exptime is None else f"{frame.exptime:g} s",
        "start": "" if frame.time is None else f"{frame.time:%Y-%m-%d %H:%M:%S} UTC",
        "CCD": "" if frame.ccd_temp is None else f"{frame.ccd_temp:.1f} °C",
    }
    return _said("header", [(name, value) for name, value in values.items() if value])


def rows_line(spectrum: xr.Dataset) -> str:
    """Return aperture and sky rows, S/N and enclosed fraction of a spectrum, in one line.

    Examples
    --------
    >>> import xarray as xr
    >>> facts = {"first_row": 484, "last_row": 518, "sky_below": (334, 433), "snr": 387.2}
    >>> rows_line(xr.Dataset(attrs=facts))
    'rows 484:518, sky 334:433, S/N 387 per pixel'
    """
    facts = spectrum.attrs
    words = [f"rows {facts['first_row']}:{facts['last_row']}"]
    sides = sky_bands(spectrum)
    if sides:
        words.append("sky " + " and ".join(f"{first}:{last}" for first, last in sides))
    if facts.get("snr", 0) > 0:
        note = f" ({facts['snr_note']})" if "snr_note" in facts else ""
        words.append(f"S/N {facts['snr']:.0f} per pixel{note}")
    if facts.get("enclosed_fraction", 0) > 0:
        words.append(f"{facts['enclosed_fraction'] * 100:.1f}% of flux in aperture")
    return ", ".join(words)


def message_html(text: str, *, is_error: bool = False) -> str:
    """Return a message as a line of HTML."""
    return _said("message", text, is_error=is_error)


def pixel_text(
    column: int, row: int, value: float, unit: str, between: tuple[float, float] | None
) -> str:
    """Return the position of a pixel, FITS numbers, and its value, as HTML.

    Parameters
    ----------
    column, row, value, unit : of the pixel.
    between : the values that are shown darkest and brightest.
    """
    limits = "" if between is None else f"{between[0]:.4g} to {between[1]:.4g}"
    return _said("pixel", column, row, f"{value:.7g} {unit}", limits)
