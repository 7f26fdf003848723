"""A night at a glance, as text and as HTML: what is there, and what is left out.

One row a group. The HTML is a table and a few lines, without style sheet or script, every text from
a header or a file name escaped; a night of a thousand groups shows the first of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape

from arrayred.errors import printable
from arrayred.io.frames import Frame
from arrayred.night.group import Group
from arrayred.night.records import Night

_HEADING = ("type", "group", "frames", "exposure", "size", "deg C", "night")
_MOST_ROWS = 40
_MOST_LINES = 5


@dataclass(frozen=True)
class Glance:
    """What is shown of a night.

    Parameters
    ----------
    title : its folder and how many frames it has.
    rows : a row of texts for each group, under `_HEADING`.
    remarks : lines on what is left out, odd or wrong.
    """

    title: str
    rows: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...]


def as_text(night: Night) -> str:
    """Return a night at a glance as lines of text."""
    seen = glance(night)
    table = [_HEADING, *seen.rows] if seen.rows else []
    columns = [i for i in range(len(_HEADING)) if any(row[i] for row in seen.rows)]
    widths = {i: max(len(row[i]) for row in table) for i in columns}
    lines = ["  ".join(row[i].ljust(widths[i]) for i in columns).rstrip() for row in table]
    return "\n".join([seen.title, *(f"  {line}" for line in (*lines, *seen.remarks))])


def as_html(night: Night) -> str:
    """Return a night at a glance as a piece of HTML."""
    seen = glance(night)
    head = "".join(f"<th>{name}</th>" for name in _HEADING)
    rows = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in seen.rows]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    remarks = "".join(f"<li>{escape(remark)}</li>" for remark in seen.remarks)
    return (
        f"<div><p><b>{escape(seen.title)}</b></p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"<ul>{remarks}</ul></div>"
    )


def glance(night: Night) -> Glance:
    """Return what is shown of a night."""
    rows = [_row(name, group) for name, group in night.groups.items()]
    more = f"... and {len(rows) - _MOST_ROWS} more groups"
    cut = [(more, *[""] * (len(_HEADING) - 1))] if len(rows) > _MOST_ROWS else []
    shown = [tuple(printable(cell) for cell in row) for row in (*rows[:_MOST_ROWS], *cut)]
    n, evenings = len(night.frames), _evenings(night.frames)
    when = f", {'nights' if ' ' in evenings else 'night'} of {evenings}" if evenings else ""
    title = f"{night.folder}: {n} frame{'s' * (n != 1)}{when}"
    return Glance(printable(title), tuple(shown), tuple(map(printable, _remarks(night))))


def _row(name: str, group: Group) -> tuple[str, ...]:
    kind, _, own_name = name.partition("/")
    rows, columns = group.frames[0].shape
    return (
        kind,
        own_name,
        str(len(group.frames)),
        _exposure(group),
        f"{columns} x {rows}",
        "" if group.temperature is None else f"{group.temperature:.1f}",
        _evenings(group.frames),
    )


def _exposure(group: Group) -> str:
    return "?" if group.frames[0].exptime is None else f"{group.exptime:g} s"


def _evenings(frames: Iterable[Frame]) -> str:
    """Return the night of frames, or the first and the last one."""
    evenings = sorted({frame.night for frame in frames if frame.night})
    return " to ".join(dict.fromkeys((evenings[0], evenings[-1]))) if evenings else ""


def _remarks(night: Night) -> Iterator[str]:
    """Yield how much is left out, is there twice or cannot be read, and the first of each."""
    yield from _counted("left out", Counter(why for _, why in night.left_out).items())
    yield from _told(
        "there twice", [f"{one} is {other}" for one, other in night.duplicates.items()]
    )
    yield from _told("left out", [f"{path}: {why}; left out" for path, why in night.foreign])
    yield from _told("problems", [str(problem) for problem in night.problems])
    if not (night.left_out or night.duplicates or night.foreign or night.problems):
        yield "nothing is left out; make_plan tells what each frame is used for"


def _counted(what: str, reasons: Iterable[tuple[str, int]]) -> Iterator[str]:
    for why, n in reasons:
        yield f"{what}: {n} frame{'s' * (n != 1)}: {why}"


def _told(what: str, lines: Iterable[str]) -> Iterator[str]:
    told = list(lines)
    if told:
        yield f"{what}: {len(told)}"
    yield from (f"  {line}" for line in told[:_MOST_LINES])
    if len(told) > _MOST_LINES:
        yield f"  ... and {len(told) - _MOST_LINES} more"
