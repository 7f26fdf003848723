"""The page: what people do becomes a new `Look`, and what that shows is made and put in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import panel as pn
from bokeh.events import MouseMove, RangesUpdate, Tap

from arrayred.config.recipe import RowRange
from arrayred.errors import ArrayredError, UsageError
from arrayred.explore.controls import Controls
from arrayred.explore.display import Window, levels, limits, picture
from arrayred.explore.entry import entry_text
from arrayred.explore.errands import Errand, Errands
from arrayred.explore.figures import Bands, ImageView, LinesView
from arrayred.explore.look import Look, rows_from
from arrayred.explore.study import LINES, Image, Study, lines_of
from arrayred.explore.text import about_rows, facts_of, pixel_text, sky_of, told

_AT_ONCE = 256 << 20
_MOUSE_MS = 40


class Page:
    """One window on a night.

    Parameters
    ----------
    study : the night.
    """

    def __init__(self, study: Study) -> None:
        self.study, self.look = study, Look(next(iter(study.groups)))
        self.controls = Controls(study.groups, self.look)
        self.view = ImageView(self._set_rows)
        self.lines = LinesView(LINES)
        self.through = LinesView(("counts",), marks=True)
        self.pointed, self.said, self.about = (pn.pane.HTML("") for _ in range(3))
        self.tabs = pn.Tabs(
            ("Spectrum", pn.Column(self.about, self.lines.figure, sizing_mode="stretch_width")),
            ("Pixel through the frames", self.through.figure),
            sizing_mode="stretch_width",
        )
        self._shown: Image | None = None
        self._group = self.look.group
        self._between: tuple[float, float] | None = None
        self._bands = Bands(None, ())
        self._is_following = False
        raw, made = (partial(self._image, is_raw=is_raw) for is_raw in (True, False))
        self._errands = Errands(
            {
                "raw": Errand(_nothing, raw, self._put_image),
                "made": Errand(self._announce_image, made, self._put_image),
                "through": Errand(_nothing, self._through, self._put_through),
                "spectrum": Errand(self._announce_spectrum, study.spectrum, self._put_spectrum),
            },
            lambda: self.look,
        )
        self._mouse: tuple[float, float] | None = None
        self._connect()
        self._turn_to(self.look)
        self._put_image(self.look, study.image(self.look))

    def layout(self) -> Any:
        """Return everything on the page."""
        cuts = pn.Column(self.view.figure, self.view.row_cut, sizing_mode="stretch_width")
        beside = pn.Column(self.view.column_cut, self.pointed, width=200)
        main = pn.Column(
            self.said,
            pn.Row(cuts, beside, sizing_mode="stretch_width"),
            self.tabs,
            sizing_mode="stretch_width",
        )
        return pn.Row(self.controls.layout(self.study.title), main, sizing_mode="stretch_width")

    def _connect(self) -> None:
        """Let widgets and figures say what people do."""
        c, view = self.controls, self.view.figure
        self._watch(c.group, lambda name: self._turn_to(self.look.on(name), new_group=True))
        self._watch(c.player, lambda number: self._go(frame=number - 1))
        self._watch(c.number, lambda number: self._go(frame=number - 1))
        self._watch(c.stage, lambda stage: self._go(stage=stage))
        self._watch(c.stretch, lambda stretch: self._redraw(stretch=stretch))
        self._watch(c.blocks, lambda blocks: self._redraw(blocks=blocks))
        self._watch(c.low, lambda low: self._redraw(low=low, new_limits=True))
        self._watch(c.high, lambda high: self._redraw(high=high, new_limits=True))
        self._watch(c.colour, self.view.colour)
        self._watch(c.row, lambda row: self._cut(row, c.column.value))
        self._watch(c.column, lambda column: self._cut(c.row.value, column))
        self._watch(c.rows, lambda text: self._typed("rows", text))
        self._watch(c.sky, lambda text: self._typed("sky", text))
        self.tabs.param.watch(lambda _: self._errands.want("through"), "active")
        view.on_event(Tap, lambda event: self._cut(round(event.y), round(event.x)))
        view.on_event(MouseMove, self._point)
        view.on_event(RangesUpdate, lambda _: self._draw())

    def _watch(self, widget: Any, act: Callable[[Any], None]) -> None:
        """Call with a widget's new value, unless it follows what was done elsewhere."""

        def changed(event: Any) -> None:
            if not self._is_following and event.new is not None:
                act(event.new)

        widget.param.watch(changed, "value")

    def _go(self, **changes: Any) -> None:
        """Look at another frame or stage of the group."""
        self._turn_to(replace(self.look, **changes))
        self._want_image()
        if changes.get("stage") == "combined" and self.study.can_combine(self.look):
            self._errands.want("spectrum")

    def _turn_to(self, look: Look, *, new_group: bool = False) -> None:
        """Look at something else, all widgets following."""
        self.look, self._is_following = look, True
        n_frames = len(self.study.groups[look.group].frames)
        self.controls.follow(look, n_frames, self.study.stages(look))
        self._is_following = False
        self.controls.facts.object = facts_of(self.study.frame(look))
        self._tell_entry()
        if new_group:
            self._between, self._bands = None, Bands(None, ())
            self._mark()
            self.lines.show({}, "", "")
            self._want_image()
            self._errands.want("through")
            self.begin()

    def begin(self) -> None:
        """Take the spectrum of the group that is looked at, where its frames are few enough."""
        if not self.study.can_combine(self.look):
            self.about.object = told("No spectrum is taken from frames of this kind.")
        elif self.study.groups[self.look.group].n_bytes <= _AT_ONCE:
            self._errands.want("spectrum")
        else:
            size = self.study.groups[self.look.group].size
            self.about.object = told(f"{size}: type rows, or choose “combined”, to combine them.")

    def _redraw(self, *, new_limits: bool = False, **changes: Any) -> None:
        """Show the same image in another way."""
        self.look = replace(self.look, **changes)
        self._between = None if new_limits else self._between
        self._draw()

    def _cut(self, row: int, column: int) -> None:
        """Move the cuts to a pixel."""
        if self._shown is None:
            return
        self.look = self.look.at(row, column, self._shown.shape, self._shown.first)
        self._turn_to(self.look)
        self._put_cuts(self._shown)
        self._errands.want("through")

    def _typed(self, kind: str, text: str) -> None:
        try:
            self._set_rows(kind, rows_from(text))
        except UsageError as error:
            self._tell(str(error), is_error=True)

    def _set_rows(self, kind: str, rows: RowRange | None) -> None:
        """Take other rows for the spectrum or the sky."""
        self._tell("")
        look = self.look
        is_star = kind == "rows"
        self._turn_to(replace(look, rows=rows) if is_star else replace(look, sky_rows=rows))
        if self.study.can_combine(self.look):
            self._errands.want("spectrum")

    def _tell_entry(self) -> None:
        name = self.study.name(self.look)
        self.controls.entry.value = entry_text(name, self.look.rows, self.look.sky_rows)
        self.controls.copied.value = ""

    def _tell(self, text: str, *, is_error: bool = False) -> None:
        self.said.object = told(text, is_error=is_error) if text else ""

    def _want_image(self) -> None:
        """Want what is looked at; a frame as it is need not wait until others are combined."""
        self._errands.want("raw" if self.look.stage == "raw" else "made")

    def _image(self, look: Look, *, is_raw: bool) -> Image | None:
        return self.study.image(look) if (look.stage == "raw") is is_raw else None

    def _announce_image(self, look: Look) -> None:
        if look.stage != "raw":
            self._tell(f"making the {look.stage} image ...")

    def _put_image(self, look: Look, image: Image | ArrayredError | None) -> None:
        """Show an image, unless something else is looked at by now."""
        if image is None or (look.group, look.stage) != (self.look.group, self.look.stage):
            return
        if isinstance(image, ArrayredError):
            self._tell(str(image), is_error=True)
            return
        self._tell("" if look.stage == "raw" else f"{look.stage}: {self.study.corrected(look)}")
        before, self._shown = self._shown, image
        if before is None or (before.shape, before.first) != (image.shape, image.first):
            self.view.fit(image.shape, image.first)
        if not self.controls.hold.value or look.group != self._group:
            self._between = None
        self._group = look.group
        self._draw()
        n_rows, n_columns = image.shape
        row, column = self.look.row, self.look.column
        middle = image.first[0] + n_rows // 2, image.first[1] + n_columns // 2
        row, column = middle[0] if row is None else row, middle[1] if column is None else column
        self.look = self.look.at(row, column, image.shape, image.first)
        self._put_cuts(image)
        self._tell_pointed()

    def _draw(self) -> None:
        """Show the part of the image that the axes span."""
        image, look = self._shown, self.look
        if image is None:
            return
        window = self.view.window(image.shape, image.first)
        values, factor = picture(image.pixels, window, look.blocks)
        if self._between is None:
            whole = Window.whole(image.shape)
            seen = window == whole
            all_of_it = values if seen else picture(image.pixels, whole, look.blocks).values
            self._between = limits(all_of_it, look.low, look.high)
        dots = levels(values, self._between, look.stretch)
        self.view.show(dots, window, image.first, factor)

    def _put_cuts(self, image: Image) -> None:
        look = self.look
        if look.row is None or look.column is None:
            return
        self.view.cut(image.pixels, image.first, look.row, look.column, image.unit)
        self._is_following = True
        self.controls.row.value, self.controls.column.value = look.row, look.column
        self._is_following = False

    def _through(self, look: Look) -> Any:
        """Return one pixel through all frames, if that is what is looked at."""
        if self.tabs.active != 1 or look.row is None or look.column is None:
            return None
        return self.study.through_frames(look, look.row, look.column)

    def _put_through(self, look: Look, values: Any) -> None:
        if isinstance(values, ArrayredError):
            self._tell(str(values), is_error=True)
        elif values is not None:
            numbers = np.arange(1, len(values) + 1)
            unit = f"raw {self.study.frame(look).unit} at {look.column}, {look.row}"
            self.through.show({"counts": (numbers, values)}, unit, "frame")

    def _announce_spectrum(self, look: Look) -> None:
        if not self.study.is_combined(look):
            self.about.object = told(f"combining {self.study.groups[look.group].size} ...")

    def _put_spectrum(self, look: Look, spectrum: Any) -> None:
        """Show a spectrum and where it comes from, or why there is none."""
        if look.group != self.look.group:
            return
        if isinstance(spectrum, ArrayredError):
            self.lines.show({}, "", "")
            self._bands = Bands(look.rows, (look.sky_rows,) if look.sky_rows else ())
            self.about.object = told(str(spectrum), is_error=True)
        else:
            facts, unit = spectrum.attrs, str(spectrum["flux"].attrs.get("units", "adu"))
            along = "row" if self.study.is_turned(look) else "column"
            self.lines.show(lines_of(spectrum), unit, along)
            self._bands = Bands((facts["first_row"], facts["last_row"]), sky_of(facts))
            note = " (rows are the columns of the file)" if along == "row" else ""
            self.about.object = told(about_rows(facts) + note)
        self._mark()

    def _mark(self) -> None:
        self.view.mark(self._bands, is_turned=self.study.is_turned(self.look))

    def _point(self, event: Any) -> None:
        """Note where the mouse is, and tell the pixel there a moment later."""
        waiting, self._mouse = self._mouse is not None, (event.x, event.y)
        document = pn.state.curdoc
        if not waiting and document is not None:
            document.add_timeout_callback(self._tell_pointed, _MOUSE_MS)

    def _tell_pointed(self) -> None:
        """Tell the pixel under the mouse, or else that of the cuts."""
        if self._mouse is not None:
            column, row = (round(number) for number in self._mouse)
            self._mouse = None
        elif self.look.row is not None and self.look.column is not None:
            column, row = self.look.column, self.look.row
        else:
            return
        value = None if self._shown is None else self._shown.value(row, column)
        if self._shown is not None and value is not None:
            self.pointed.object = pixel_text(column, row, value, self._shown.unit, self._between)


def _nothing(_look: Look) -> None:
    """Announce nothing: it takes no time."""
