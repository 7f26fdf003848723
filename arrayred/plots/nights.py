"""The frames of a night in time: `night`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from arrayred.errors import UsageError
from arrayred.plots.canvas import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    name_axes,
    name_figure,
    sheet,
    styled,
)
from arrayred.plots.series import _name_time

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from arrayred.io.frames import Frame

    class _Group(Protocol):
        """What is drawn of a group: its frames."""

        @property
        def frames(self) -> tuple[Frame, ...]: ...

    class _Night(Protocol):
        """What is drawn of a night: its folder, and its groups by name."""

        @property
        def folder(self) -> Path: ...

        @property
        def groups(self) -> Mapping[str, _Group]: ...


_COLOURS = {"bias": GREY, "dark": BLACK, "flat": ORANGE, "arc": PURPLE, "light": BLUE}
_MOST_LANES = 40


def night(night: _Night, *, title: str = "", levels: Mapping[str, float] | None = None) -> Figure:
    """Draw the frames of a night in time: a lane for each group, a bar for each exposure.

    Below it the temperature of the detector, where headers tell it.

    Parameters
    ----------
    night : as `open_night` gives it; pixels are not read.
    title : written over the figure.
    levels : of frames, adu, by label; drawn in a panel of their own.

    Raises
    ------
    UsageError
        No frame tells when it was taken, or it is no night.
    """
    lanes = _lanes_of(night)
    frames = [frame for _, members in lanes for frame in members]
    if not frames:
        raise UsageError(
            f"{night.folder} has no frame that tells when it was taken",
            keyword="DATE-OBS",
            hint="Nothing can be drawn in time.",
        )
    below = {
        "CCD (deg C)": {f.label: f.ccd_temp for f in frames if f.ccd_temp is not None},
        "level (adu)": dict(levels or {}),
    }
    below = {name: values for name, values in below.items() if values}
    with styled():
        heights = (0.6 + 0.24 * len(lanes), *(1.2 for _ in below))
        figure = sheet(8, sum(heights) + 0.6)
        panels = figure.subplots(
            len(heights), 1, sharex=True, height_ratios=heights, squeeze=False
        )[:, 0]
        _draw_lanes(panels[0], lanes)
        for axes, (name, values) in zip(panels[1:], below.items(), strict=True):
            _draw_values(axes, frames, values)
            name_axes(axes, y=name)
        _name_time(panels[-1], np.array([_began(frame) for frame in frames]))
        name_figure(figure, title)
    return figure


def _lanes_of(night: _Night) -> list[tuple[str, list[Frame]]]:
    """Return the frames of each group that tell their time, in the order of their first ones."""
    groups: Mapping[str, _Group] = night.groups
    lanes = [(name, [f for f in group.frames if f.time]) for name, group in groups.items()]
    lanes = [(name, frames) for name, frames in lanes if frames]
    lanes.sort(key=lambda lane: (min(_began(f) for f in lane[1]), lane[0]))
    return lanes[:_MOST_LANES]


def _began(frame: Frame) -> np.datetime64:
    """Return when an exposure began, UTC."""
    time = frame.time or datetime.fromtimestamp(0, UTC)
    return np.datetime64(time.replace(tzinfo=None), "us")


def _draw_lanes(axes: Axes, lanes: list[tuple[str, list[Frame]]]) -> None:
    from matplotlib.dates import date2num

    for i, (name, frames) in enumerate(lanes):
        starts = date2num([_began(frame) for frame in frames])
        spans = [(frame.exptime or 0.0) / 86400 for frame in frames]
        colour = _COLOURS.get(name.partition("/")[0], VERMILION)
        bars = list(zip(starts, spans, strict=True))
        axes.broken_barh(bars, (i - 0.35, 0.7), facecolor=colour, edgecolor=colour, linewidth=0.8)
    axes.set(ylim=(len(lanes) - 0.4, -0.6))
    axes.set_yticks(range(len(lanes)), labels=[name for name, _ in lanes], parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.xaxis_date()
    axes.grid(axis="x", alpha=0.25, linewidth=0.5)


def _draw_values(axes: Axes, frames: list[Frame], values: Mapping[str, float | None]) -> None:
    known = [frame for frame in frames if frame.label in values]
    axes.plot(
        [_began(frame) for frame in known],
        [values[frame.label] for frame in known],
        "o",
        markersize=3,
        color=GREEN,
    )
    axes.grid(alpha=0.25, linewidth=0.5)
