"""Lay out what commands print: labelled lines, tables and messages, as wide as the terminal.

On a terminal lines end at blanks, a table drops its least important columns, and errors and
warnings are coloured (not with NO_COLOR set, as https://no-color.org asks). In a pipe nothing is
wrapped, dropped or coloured, so that a program finds what it looks for.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TextIO

import click

from arrayred.errors import printable

Level = Literal["error", "problem", "warning", "check", "note"]
_COLOURS = {"error": "red", "problem": "red", "warning": "yellow", "check": "yellow"}
_LABEL = 21
"""Characters of a label; a longer one has a line of its own."""
_NARROWEST_NAME = 12
_UNLIMITED = 1_000_000


def terminal_width(stream: TextIO) -> int:
    """Return the number of columns of the terminal that a stream is; in a pipe a very large one."""
    return shutil.get_terminal_size().columns if stream.isatty() else _UNLIMITED


def coloured(text: str, level: Level) -> str:
    """Return a text in the colour of its level; `click.echo` drops the colour in a pipe."""
    wanted = level in _COLOURS and not os.environ.get("NO_COLOR")
    return click.style(text, fg=_COLOURS[level]) if wanted else text


def message(level: Level, text: str) -> None:
    """Print a message to stderr, such as ``arrayred: warning: ...``."""
    start = f"arrayred: {level}: "
    lines = _wrapped(text, start, 2, sys.stderr)
    click.echo(lines.replace(level, coloured(level, level), 1), err=True)


def remark(text: str) -> None:
    """Print a remark on a night to stderr, under its level."""
    from arrayred.model import level_of

    level, told = level_of(text)
    message(level, printable(told))


def labelled(label: str, text: str, indent: int = 2) -> str:
    """Return a label, and a text beside it that is wrapped at blanks.

    Examples
    --------
    >>> labelled("S/N", "387 per pixel")
    '  S/N                  387 per pixel'
    """
    start = " " * indent + label
    column = _LABEL + 2
    head = start.ljust(column)
    lines = [] if len(head) == column and (head[-1] == " " or not text) else [start]
    head = " " * column if lines else head
    return "\n".join([*lines, _wrapped(text, head, column, sys.stdout)]).rstrip()


def _wrapped(text: str, head: str, column: int, stream: TextIO) -> str:
    width = terminal_width(stream)
    if len(head) + len(text) <= width:
        return head + text
    return textwrap.fill(
        text,
        max(width, column + _NARROWEST_NAME),
        initial_indent=head,
        subsequent_indent=" " * column,
        break_long_words=False,
        break_on_hyphens=False,
    )


def wrapped(text: str) -> str:
    """Return a text wrapped at blanks, further lines indented."""
    return _wrapped(text, "", 2, sys.stdout)


def table(
    columns: Mapping[str, Sequence[str]], right: Iterable[str] = (), drop: Sequence[str] = ()
) -> list[str]:
    """Return the lines of a table that is no wider than the terminal.

    Parameters
    ----------
    columns : the cells of each column by its heading; the first has the names of the rows.
    right : headings of the columns that are aligned to the right.
    drop : headings of the columns to leave out, in this order, while the table is too wide. If it
        still is, a long name has a line of its own, above the rest of its row.

    Examples
    --------
    >>> print("\\n".join(table({"file": ["a.fit", "b.fit"], "exp (s)": ["5", "600"]}, ["exp (s)"])))
     file   exp (s)
     --------------
     a.fit        5
     b.fit      600
    """
    room, shown = terminal_width(sys.stdout) - 1, dict(columns)
    widths = {name: max(map(len, (name, *cells))) for name, cells in columns.items()}
    for name in drop:
        if _total(widths[name] for name in shown) <= room:
            break
        shown.pop(name, None)
    first, *others = shown
    left = room - _total(widths[name] for name in others) - 2
    widths[first] = min(widths[first], max(left, _NARROWEST_NAME))
    aligned = set(right)

    def line(cells: Sequence[str]) -> str:
        name, *rest = cells
        above = f" {name}\n" if len(name) > widths[first] else ""
        padded = ["" if above else name, *rest]
        words = [
            cell.rjust(widths[head]) if head in aligned else cell.ljust(widths[head])
            for head, cell in zip(shown, padded, strict=True)
        ]
        return above + f" {'  '.join(words)}".rstrip()

    rule = " " + "-" * _total(widths[name] for name in shown)
    return [line([*shown]), rule, *map(line, zip(*shown.values(), strict=True))]


def _total(widths: Iterable[int]) -> int:
    """Return the width of columns with two blanks between them."""
    every = list(widths)
    return sum(every) + 2 * max(len(every) - 1, 0)
