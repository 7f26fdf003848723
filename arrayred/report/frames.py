"""The frames of a night: what each is, what became of it, and how the detector drifted.

Each frame has a line, and a picture where there are few. Of more than 300 frames those of one kind
share a line, with a picture of the first; what was left out is told by its reason and names. So
the page of 10,000 frames stays a page, and says of what it shows only a part.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime

import numpy as np

from arrayred.errors import FrameError
from arrayred.io.frames import Frame
from arrayred.io.pixel_checks import affordable, sample_of
from arrayred.io.pixels import FrameStack, plain
from arrayred.night.groups import listed
from arrayred.report import charts
from arrayred.report.account import FrameLine
from arrayred.report.axes import around, seconds_of, times
from arrayred.report.gather import MOST_ROWS, Finished, group_of, levelled, pictured
from arrayred.report.html import Markup, joined, picture, tag
from arrayred.report.pixels import thumbnail
from arrayred.report.texts import counted, number, seconds, table

_HEADS = ("", "frame", "type", "#exposure", "start, UTC", "#°C", "#level, adu", "used for")
_GROUP_HEADS = (
    "",
    "frames",
    "type",
    "#exposure",
    "from, to, UTC",
    "#°C",
    "#level, adu",
    "used for",
)
_KINDS = ("bias", "dark", "flat", "arc", "light")
_SERIES = 6


def section(finished: Finished) -> Markup:
    """Return what the page shows of the frames."""
    lines: Sequence[FrameLine] = finished.account.frames
    if not lines:
        told = "The run left no account of its frames: reduce the night once more to have one."
        return tag("p.muted", told)
    lines, shared = _without_shared(lines)
    small, levels = _thumbnails(finished), _levels(finished)
    one_by_one = len(lines) <= MOST_ROWS
    rows = (
        [_line(line, small, levels) for line in _in_order(lines)]
        if one_by_one
        else [_group(group, small, levels) for group in _groups(lines)]
    )
    heads = _HEADS if one_by_one else _GROUP_HEADS
    caption = "Each frame" if one_by_one else f"{len(lines)} frames, a line for those of one kind"
    return joined(
        _notes(finished, small),
        [tag("p.muted", f"{who}: {what}.") for what, who in shared.items()],
        table("table.frames", heads, rows, caption),
        _foreign(finished.account.left_out),
        _drift(lines, levels),
    )


def _without_shared(lines: Sequence[FrameLine]) -> tuple[list[FrameLine], dict[str, str]]:
    """Return frames without the remarks that more than three share, and these, each with whose."""
    whose: dict[str, list[str]] = defaultdict(list)
    for line in lines:
        for remark in line.remarks:
            whose[remark].append(line.label)
    shared = {remark: listed(labels) for remark, labels in whose.items() if len(labels) > 3}
    own = [
        dataclasses.replace(line, remarks=tuple(r for r in line.remarks if r not in shared))
        for line in lines
    ]
    return own, shared


def _thumbnails(finished: Finished) -> dict[str, bytes]:
    """Return pictures of the frames that are shown, by label."""
    found: dict[str, bytes] = {}
    shown = [line.label for line in pictured(finished.account.frames)]
    for frame in affordable([finished.frames[name] for name in shown if name in finished.frames]):
        with suppress(FrameError):  # what cannot be read has no picture
            found[frame.label] = _small(frame)
    return found


def _small(frame: Frame) -> bytes:
    return thumbnail(FrameStack([plain(frame.image)])[0, :, :])


def _levels(finished: Finished) -> dict[str, float]:
    """Return the median count of a few rows of frames, adu, by label."""
    levels = {}
    for line in levelled(finished.account.frames):
        frame = finished.frames.get(line.label)
        sample = None if frame is None else sample_of(frame)
        if sample is not None:
            levels[line.label] = sample.level
    return levels


def _notes(finished: Finished, small: Mapping[str, bytes]) -> Markup:
    """Return what is not shown, and why."""
    lines = finished.account.frames
    notes = []
    gone = [line.label for line in pictured(lines) if finished.raw.get(line.path) == "gone"]
    changed = [line.label for line in pictured(lines) if finished.raw.get(line.path) == "changed"]
    if gone:
        notes.append(f"No longer where they were, and so without a picture: {listed(gone)}.")
    if changed:
        notes.append(f"Changed since, and so without a picture: {listed(changed)}.")
    if len(pictured(lines)) < len(lines):
        notes.append(f"Pictures are of {len(small)} of {len(lines)} frames, the first of a kind.")
    if len(lines) > MOST_ROWS:
        n = len(levelled(lines))
        notes.append(f"Levels are of {counted(n, 'bias or dark', 'biases and darks')} among them.")
    return joined([tag("p.muted", note) for note in notes])


def _in_order(lines: Sequence[FrameLine]) -> list[FrameLine]:
    """Return frames in the order of time, those that took no part last."""
    return sorted(lines, key=lambda line: not line.use)


def _line(line: FrameLine, small: Mapping[str, bytes], levels: Mapping[str, float]) -> Markup:
    return tag(
        "tr" if line.use else "tr.out",
        tag("td.thumb", _picture(line, small)),
        tag("th", line.label, _shows(line), attributes={"scope": "row"}),
        tag("td", line.kind),
        tag("td.n", seconds(line.exptime)),
        tag("td.time", _clock(line.time)),
        tag("td.n", _maybe(line.temperature, 1)),
        tag("td.n", _maybe(levels.get(line.label), 0)),
        tag("td", _use(line), [tag("small", remark) for remark in line.remarks]),
    )


def _shows(line: FrameLine) -> list[Markup]:
    return [tag("small", line.shows)] if line.shows else []


def _picture(line: FrameLine, small: Mapping[str, bytes]) -> list[Markup]:
    shown = small.get(line.label)
    return [] if shown is None else [picture(shown, f"{line.kind} frame {line.label}")]


def _use(line: FrameLine) -> Markup:
    if line.use:
        return joined(line.use)
    return joined(tag("b", "left out: "), line.out or "not needed")


def _clock(time: str) -> str:
    return time[:19].replace("T", " ")


def _maybe(value: float | None, decimals: int) -> str:
    return "" if value is None else number(value, decimals)


def _groups(lines: Sequence[FrameLine]) -> list[list[FrameLine]]:
    groups: dict[object, list[FrameLine]] = defaultdict(list)
    for line in _in_order(lines):
        groups[group_of(line)].append(line)
    return list(groups.values())


def _group(
    lines: Sequence[FrameLine], small: Mapping[str, bytes], levels: Mapping[str, float]
) -> Markup:
    first = lines[0]
    shown = next((line for line in lines if line.label in small), first)
    known = sorted(line.time for line in lines if line.time)
    ends = dict.fromkeys(_clock(time) for time in (known[0], known[-1])) if known else {}
    remarks = dict.fromkeys(remark for line in lines for remark in line.remarks)
    return tag(
        "tr" if first.use else "tr.out",
        tag("td.thumb", _picture(shown, small)),
        tag("th", listed([line.label for line in lines]), attributes={"scope": "row"}),
        tag("td", first.kind),
        tag("td.n", seconds(first.exptime)),
        tag("td.time", " to ".join(ends)),
        tag("td.n", _range([line.temperature for line in lines], 1)),
        tag("td.n", _range([levels.get(line.label) for line in lines], 0)),
        tag("td", _use(first), [tag("small", remark) for remark in list(remarks)[:5]],
            [tag("small", f"and {len(remarks) - 5} more remarks")] if len(remarks) > 5 else []),
    )  # fmt: skip


def _range(values: Sequence[float | None], decimals: int) -> str:
    known = [value for value in values if value is not None]
    ends = dict.fromkeys(number(f(known), decimals) for f in (min, max)) if known else {}
    return " to ".join(ends)


def _foreign(left_out: Sequence[tuple[str, str]]) -> Markup:
    """Return the files that are no frames of the night."""
    if not left_out:
        return joined()
    names: dict[str, list[str]] = defaultdict(list)
    for name, reason in left_out:
        names[reason].append(name.rpartition("/")[2])
    items = [tag("li", f"{listed(who)}: {why}") for why, who in names.items()]
    return joined(tag("h3", "Not frames of this night"), tag("ul", items))


def _drift(lines: Sequence[FrameLine], levels: Mapping[str, float]) -> Markup:
    """Return temperature and dark level in time."""
    timed = [line for line in lines if line.time]
    if len(timed) < 2:
        return joined()
    warm = [line for line in timed if line.temperature is not None]
    dark = [line for line in timed if line.kind in ("bias", "dark") and line.label in levels]
    charts_of = []
    if len({line.time for line in warm}) > 1:
        values = {line.label: float(line.temperature or 0.0) for line in warm}
        charts_of.append(_in_time(warm, values, "Temperature of the detector", "°C", _by_kind))
    if len({line.time for line in dark}) > 1:
        charts_of.append(_in_time(dark, levels, "Level of biases and darks", "adu", _by_exposure))
    return tag("div.halves", charts_of) if charts_of else joined()


def _by_kind(line: FrameLine) -> str:
    return line.kind if line.kind in _KINDS else "other"


def _by_exposure(line: FrameLine) -> str:
    return "bias" if line.kind == "bias" else f"dark {seconds(line.exptime)}"


def _in_time(
    lines: Sequence[FrameLine],
    values: Mapping[str, float],
    title: str,
    unit: str,
    series: Callable[[FrameLine], str],
) -> Markup:
    """Return values of frames in time, a colour for each series."""
    moments = [datetime.fromisoformat(line.time) for line in lines]
    x = times(f"UTC, from {min(moments):%Y-%m-%d}", min(moments), max(moments), n_ticks=4)
    y = around(unit, [values[line.label] for line in lines], n_ticks=5, margin=0.12)
    names = list(dict.fromkeys(series(line) for line in lines))
    marks, keys = [], []
    for i, name in enumerate(names[:_SERIES]):
        own = [k for k, line in enumerate(lines) if series(line) == name]
        points = np.array([seconds_of(moments[k]) for k in own])
        counts = np.array([values[lines[k].label] for k in own])
        marks.append(charts.dots(f"series-{i}", x, y, points, counts))
        keys.append(tag("span.key", tag(f"i.series-{i}"), name))
    if len(names) > _SERIES:
        keys.append(tag("span.key", f"and {len(names) - _SERIES} more, not shown"))
    told = f"{title} of {counted(len(lines), 'frame')}, from {y.low:g} to {y.high:g} {unit}"
    drawn = charts.chart("drift", x, y, marks, told)
    return tag("figure", tag("figcaption", tag("b", title), keys), drawn)
