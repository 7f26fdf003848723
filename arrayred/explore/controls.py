"""What stands beside the image: choosers, numbers to type, and the entry for the night file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import panel as pn

from arrayred.explore.figures import PALETTES
from arrayred.explore.look import Blocks, Look, Stage, Stretch, rows_text
from arrayred.explore.text import COPIED, block, heading
from arrayred.night import Group

WIDTH = 300
_COPY = """
navigator.clipboard.writeText(entry.value).then(() => { told.text = done; })
"""


class Controls:
    """The widgets of the page.

    Parameters
    ----------
    groups : what can be looked at, by name.
    look : what is looked at first.
    """

    def __init__(self, groups: Mapping[str, Group], look: Look) -> None:
        w = pn.widgets
        by_type: dict[str, dict[str, str]] = defaultdict(dict)
        for name, group in groups.items():
            by_type[name.partition("/")[0]][f"{group.name} ({group.size})"] = name
        self.group = w.Select(name="Group", groups=dict(by_type), value=look.group, width=WIDTH)
        self.player = w.Player(
            name="Frame", start=1, end=2, value=1, interval=400, loop_policy="loop", width=190,
            show_loop_controls=False, visible_buttons=["previous", "pause", "play", "next"],
        )  # fmt: skip
        self.number = w.IntInput(name="Frame", start=1, end=1, value=1, width=90)
        self.stage = w.RadioButtonGroup(name="Stage", options=["raw"], value="raw", width=WIDTH)
        self.stretch = w.RadioButtonGroup(
            name="Stretch", options=list(get_args(Stretch)), value=look.stretch, width=WIDTH
        )
        self.low = _number("Darkest, %", look.low)
        self.high = _number("Brightest, %", look.high)
        self.colour = w.Select(name="Colours", options=list(PALETTES), value="grey", width=140)
        self.blocks = w.Select(
            name="Dots of several pixels", options=list(get_args(Blocks)), value=look.blocks,
            width=150,
        )  # fmt: skip
        self.hold = w.Checkbox(name="Same limits for every frame", value=False)
        self.column = w.IntInput(name="Column", start=1, value=1, width=90)
        self.row = w.IntInput(name="Row", start=1, value=1, width=90)
        self.rows = w.TextInput(name="Rows of the spectrum", placeholder="found", width=140)
        self.sky = w.TextInput(name="Rows of the sky", placeholder="chosen", width=150)
        self.entry = w.TextAreaInput(name="For the night file", height=88, width=WIDTH)
        self.entry.stylesheets = ["textarea { font-family: monospace; font-size: 12px; }"]
        self.copy = w.Button(name="Copy", width=80, button_type="primary")
        self.copied = pn.widgets.StaticText(value="", width=180)
        self.facts = pn.pane.HTML("", width=WIDTH)
        self.copy.js_on_click(
            args={"entry": self.entry, "told": self.copied, "done": COPIED}, code=_COPY
        )

    def layout(self, title: str) -> Any:
        """Return the widgets, one below the other, under a title."""
        return pn.Column(
            pn.pane.HTML(heading(title), sizing_mode="stretch_width"),
            self.group,
            self.stage,
            pn.Row(self.number, self.player),
            self.facts,
            block("Display"),
            self.stretch,
            pn.Row(self.low, self.high),
            self.hold,
            pn.Row(self.colour, self.blocks),
            block("Cuts"),
            pn.Row(self.column, self.row),
            block("Spectrum"),
            pn.Row(self.rows, self.sky),
            self.entry,
            pn.Row(self.copy, self.copied),
            width=WIDTH + 24,
        )

    def follow(self, look: Look, n_frames: int, stages: Sequence[Stage]) -> None:
        """Show what is looked at, among so many frames and such stages."""
        self.player.param.update(end=max(n_frames, 2), value=look.frame + 1, disabled=n_frames < 2)
        self.number.param.update(end=n_frames, value=look.frame + 1, name=f"Frame of {n_frames}")
        self.stage.param.update(options=list(stages), value=look.stage)
        self.rows.value, self.sky.value = rows_text(look.rows), rows_text(look.sky_rows)
        if look.row is not None and look.column is not None:
            self.row.value, self.column.value = look.row, look.column


def _number(name: str, value: float) -> Any:
    return pn.widgets.FloatInput(name=name, value=value, start=0, end=100, step=0.5, width=90)
