"""Lay out what commands print: labelled lines, tables and messages, as wide as the terminal.

On a terminal lines end at blanks, a table drops its least important columns, and errors and
warnings are coloured (not with NO_COLOR set, as https://no-color.org asks). In a pipe nothing is
wrapped, dropped or coloured, so that a program finds what it looks for.

The progress of a command is shown as bars on a terminal, and as lines for --verbose. Both are
handlers of the logger `arrayred`, for the records of stages (`arrayred.progress`). A bar appears
when a stage has taken a second, and is removed when the stage has ended, so that only the printed
lines remain. In a pipe or with --quiet nothing is shown.
"""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock, Timer
from typing import TYPE_CHECKING, Literal, TextIO

import click

from arrayred.errors import printable
from arrayred.progress import Stage, handled, is_watched, progressed

if TYPE_CHECKING:
    from rich.progress import Progress

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


Advance = Callable[[int], None]
Announce = Callable[[str], None]
_BAR_DELAY_S = 1.0
_STAGE_DEPTH = 2
_READING = ("read", "combine")
"""Stages whose reading speed is given; others do much besides reading."""
_MEGABYTE = 1e6


@contextmanager
def shown_stages(*, quiet: bool = False, verbose: bool = False) -> Iterator[None]:
    """Show the stages of the work within.

    Parameters
    ----------
    quiet : show nothing.
    verbose : write a line to stderr for each stage that has ended.
    """
    handlers: list[logging.Handler] = []
    if not quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        handlers.append(ProgressBar())
    if verbose:
        handlers.append(StageLines())
    with handled(*handlers):
        yield


class StageLines(logging.Handler):
    """Write a line for each stage that has ended: seconds, MB read and MB/s.

    An error of writing is not caught, unlike by the handlers of the standard library: it ends the
    run, as that of any other line.
    """

    def __init__(self) -> None:
        super().__init__(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line, unless the stage is nested more than two deep."""
        stage: Stage | None = getattr(record, "ended", None)
        if stage is not None and len(stage.within) < _STAGE_DEPTH:
            click.echo(f"  {stage_line(stage)}", err=True)


def stage_line(stage: Stage) -> str:
    """Return a line with the time of a stage, s, and the bytes that it read.

    Examples
    --------
    >>> stage_line(Stage("combine", ("Vega",), 0.5, 12_000_000))
    'Vega: combine                      0.500 s     12.0 MB read,    24 MB/s'
    """
    line = f"{printable(stage.path):32} {stage.seconds:7.3f} s"
    if not stage.n_read:
        return line
    line += f" {stage.n_read / _MEGABYTE:8.1f} MB read"
    rate = stage.n_read / _MEGABYTE / max(stage.seconds, 1e-9)
    return f"{line}, {rate:5.0f} MB/s" if stage.name in _READING else line


class ProgressBar(logging.Handler):
    """Bar on the terminal for work that takes longer than a second."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self._lock = Lock()
        self._open: list[Stage] = []
        self._done: tuple[int, int] | None = None
        self._timer: Timer | None = None
        self._bar: Progress | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Change the bar as a stage begins, advances or ends."""
        if hasattr(record, "begun"):
            self._begin(record.begun)
        elif hasattr(record, "progress"):
            with self._lock:
                self._done = record.progress
                self._draw()
        elif hasattr(record, "ended"):
            self._end()

    def _begin(self, stage: Stage) -> None:
        """Start the timer of the outermost stage: the bar appears after a second."""
        with self._lock:
            self._open.append(stage)
            self._done = None
            if len(self._open) == 1:
                self._timer = Timer(_BAR_DELAY_S, self._appear)
                self._timer.daemon = True
                self._timer.start()
            self._draw()

    def _end(self) -> None:
        """Show the enclosing stage; remove the bar after the outermost one."""
        with self._lock:
            self._open.pop()
            self._done = None
            self._draw()
            if self._open:
                return
            bar, timer = self._bar, self._timer
            self._bar = self._timer = None
        if timer is not None:
            timer.cancel()
        if bar is not None:
            bar.stop()

    def _appear(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        words = TextColumn("{task.description}", markup=False)
        columns = (words, BarColumn(), TextColumn("{task.fields[counted]}"), TimeElapsedColumn())
        bar = Progress(
            *columns, console=Console(stderr=True), transient=True, redirect_stdout=False
        )
        with self._lock:
            if not self._open or self._bar is not None:
                return
            self._bar = bar
            bar.add_task("", total=None, counted="")
            self._draw()
            bar.start()

    def _draw(self) -> None:
        """Update the bar, if it is shown; the lock must be held."""
        if self._bar is None or not self._open:
            return
        done, total = self._done or (None, None)
        self._bar.update(
            self._bar.task_ids[0],
            description=printable(self._open[-1].path),
            completed=done or 0,
            total=total,
            counted="" if total is None else f"{done}/{total}",
        )


def countdown() -> Advance | None:
    """Return a function to be called with the number of items left; None without a watcher."""
    numbers = itertools.count(1)

    def advance(left: int) -> None:
        """Report that one more item is done."""
        done = next(numbers)
        progressed(done, done + left)

    return advance if is_watched() else None


@contextmanager
def night_counter(total: int, *, quiet: bool) -> Iterator[Announce]:
    """Yield a function to be called with a line of text for each finished night.

    Parameters
    ----------
    total : number of nights.
    quiet : show nothing; else a terminal shows a bar, and anything else gets a line a night.
    """
    if quiet:
        yield lambda _text: None
    elif not sys.stderr.isatty():
        yield _numbered_lines(total)
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
        from rich.text import Text

        columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("nights", total=total)

            def advance(text: str) -> None:
                """Print the line of a night above the bar."""
                bar.console.print(Text(text))
                bar.advance(task)

            yield advance


def _numbered_lines(total: int) -> Announce:
    """Return a function that writes lines to stderr, each with the number of nights done."""
    numbers = itertools.count(1)

    def tell(text: str) -> None:
        """Print the line of a night."""
        click.echo(f"[{next(numbers)}/{total}] {text}", err=True)

    return tell
