"""The frames of a night in time: `night`.

A lane for each group, a bar for each exposure; below it what drifts: the temperature of the
detector, as headers tell it, and the level, the median of a few rows (0.3 ms a frame). Where
nothing was exposed for hours the time axis is cut, so that a month of nights shows its exposures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from arrayred.errors import UsageError
from arrayred.io.pixel_checks import affordable, sample_of
from arrayred.plots.canvas import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    VERMILION,
    name_axes,
    name_figure,
    sheet,
    styled,
)
from arrayred.plots.times import name_time

if TYPE_CHECKING:
    from datetime import datetime

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
_MOST_PARTS = 6
_PAUSE = timedelta(hours=5)
"""What is longer without an exposure is cut out."""


class _Bar(NamedTuple):
    """An exposure: its frame, when it began and ended, its lane."""

    frame: Frame
    start: datetime
    end: datetime
    lane: str

    @property
    def colour(self) -> str:
        return _COLOURS.get(self.lane.partition("/")[0], VERMILION)


def night(night: _Night, *, title: str = "", levels: bool = True) -> Figure:
    """Draw the frames of a night in time, and the temperature and the level of the detector.

    Parameters
    ----------
    night : as `open_night` gives it.
    title : written over the figure.
    levels : whether a few rows of each frame are read for its level.

    Raises
    ------
    UsageError
        It is no night, or no frame tells when it was taken.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import arrayred as ar
    >>> from arrayred.io.products import write_frames
    >>> with TemporaryDirectory() as folder:
    ...     _ = write_frames(ar.SimulatedNight().frames(), Path(folder))
    ...     figure = ar.plots.night(ar.open_night(folder))
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['', 'CCD (deg C)', 'level (adu)']
    """
    bars = list(_bars_of(night))
    lanes = list(dict.fromkeys(bar.lane for bar in bars))[:_MOST_LANES]
    shown = [bar for bar in bars if bar.lane in set(lanes)]
    parts, below = _parts_of(shown), _quantities(shown, levels=levels)
    with styled():
        heights = (0.5 + 0.24 * len(lanes), *(1.2 for _ in below))
        widths = _widths_of(parts)
        figure = sheet(8, sum(heights) + 0.6)
        panels = figure.subplots(
            len(heights),
            len(parts),
            sharex="col",
            sharey="row",
            height_ratios=heights,
            width_ratios=widths,
            squeeze=False,
        )
        for column, part, width in zip(panels.T, parts, widths, strict=True):
            _draw_part(column, part, lanes, list(below.values()))
            ticks = max(int(8 * width / sum(widths)), 2)
            span = part[0].start, part[0].start + _length_of(part)
            name_time(column[-1], np.array([_utc(time) for time in span]), label=False, most=ticks)
        for axes, name in zip(panels[1:, 0], below, strict=True):
            name_axes(axes, y=name)
        figure.supxlabel("time (UTC)", fontsize="medium")
        name_figure(figure, title)
    return figure


def _bars_of(night: Any) -> Iterator[_Bar]:
    """Yield the exposures that tell their time, by group, the earliest group first."""
    if not isinstance(getattr(night, "groups", None), Mapping):
        raise UsageError(
            f"This figure is drawn of a night, not of {type(night).__name__}",
            hint="Give what open_night returns.",
        )
    lanes = [
        [
            _Bar(f, f.time, f.time + timedelta(seconds=f.exptime or 0.0), name)
            for f in group.frames
            if f.time is not None
        ]
        for name, group in night.groups.items()
    ]
    known = sorted((min(bar.start for bar in lane), lane) for lane in lanes if lane)
    if not known:
        raise UsageError(
            f"{night.folder} has no frame that tells when it was taken",
            keyword="DATE-OBS",
            hint="Nothing can be drawn in time.",
        )
    for _, lane in known:
        yield from lane


def _parts_of(bars: list[_Bar]) -> list[list[_Bar]]:
    """Return the exposures in parts between long pauses; all at once where they are too many."""
    parts: list[list[_Bar]] = []
    latest = None
    for bar in sorted(bars, key=lambda bar: (bar.start, bar.lane)):
        if latest is None or bar.start - latest > _PAUSE:
            parts.append([])
        parts[-1].append(bar)
        latest = bar.end if latest is None else max(latest, bar.end)
    return parts if len(parts) <= _MOST_PARTS else [[bar for part in parts for bar in part]]


def _quantities(bars: list[_Bar], *, levels: bool) -> dict[str, dict[str, float]]:
    """Return what is known of the frames, by label, under the name of its axis."""
    frames = [bar.frame for bar in bars]
    found = {"CCD (deg C)": {f.label: f.ccd_temp for f in frames if f.ccd_temp is not None}}
    if levels:
        samples = {frame.label: sample_of(frame) for frame in affordable(frames)}
        found["level (adu)"] = {name: one.level for name, one in samples.items() if one is not None}
    return {name: values for name, values in found.items() if values}


def _draw_part(
    panels: Any, part: list[_Bar], lanes: list[str], quantities: list[dict[str, float]]
) -> None:
    """Draw the exposures of one part, and the quantities of their frames below."""
    _draw_bars(panels[0], part, lanes)
    for axes, values in zip(panels[1:], quantities, strict=True):
        _draw_values(axes, part, values)
    for axes in panels:
        axes.grid(axis="x", alpha=0.25, linewidth=0.5)


def _length_of(part: list[_Bar]) -> timedelta:
    """Return how long a part lasts, ten minutes at least."""
    whole = max(bar.end for bar in part) - part[0].start
    return max(whole, timedelta(minutes=10))


def _widths_of(parts: list[list[_Bar]]) -> list[float]:
    """Return how wide the parts are drawn: as long as they last, but not too narrow for a date."""
    hours = [_length_of(part) / timedelta(hours=1) for part in parts]
    return [max(each, 0.25 * max(hours)) for each in hours]


def _utc(time: datetime) -> np.datetime64:
    return np.datetime64(time.replace(tzinfo=None), "us")


def _draw_bars(axes: Axes, part: list[_Bar], lanes: list[str]) -> None:
    """Draw a bar for each exposure, white between them where they are long enough to part."""
    from matplotlib.dates import date2num

    axes.xaxis_date()
    for bar in part:
        start = float(date2num(_utc(bar.start)))  # type: ignore[no-untyped-call]
        length = bar.end - bar.start
        edge = "white" if length > _length_of(part) / 80 else bar.colour
        span = [(start, length / timedelta(days=1))]
        axes.broken_barh(
            span, (lanes.index(bar.lane) - 0.35, 0.7),
            facecolor=bar.colour, edgecolor=edge, linewidth=0.7,
        )  # fmt: skip
    axes.set(ylim=(len(lanes) - 0.4, -0.6))
    axes.set_yticks(range(len(lanes)), labels=lanes, parse_math=False)
    axes.tick_params(axis="y", length=0)


def _draw_values(axes: Axes, part: list[_Bar], values: Mapping[str, float]) -> None:
    """Draw a quantity of each frame in the colour of its type, levels far apart by their order."""
    for colour in dict.fromkeys(bar.colour for bar in part):
        known = [bar for bar in part if bar.colour == colour and bar.frame.label in values]
        axes.plot(
            [_utc(bar.start + (bar.end - bar.start) / 2) for bar in known],
            [values[bar.frame.label] for bar in known],
            "o",
            markersize=3,
            color=colour,
        )
    axes.margins(y=0.15)
    every = list(values.values())
    if min(every) > 0 and max(every) > 20 * min(every):
        axes.set_yscale("log")
