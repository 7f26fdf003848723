"""Progress on a terminal, and nothing anywhere else."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

_MANY = 100
Advance = Callable[[int], None]
Tell = Callable[[str], None]


@contextmanager
def counted(what: str) -> Iterator[Advance | None]:
    """Yield a function to be called with the number of things left; None where nobody watches.

    Parameters
    ----------
    what : stands before the bar.
    """
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, visible=False)

        def advance(left: int) -> None:
            done = bar.tasks[0].completed + 1
            worth_it = done + left >= _MANY
            bar.update(task, completed=done, total=done + left, visible=worth_it)

        yield advance


@contextmanager
def nights_done(total: int, *, quiet: bool) -> Iterator[Tell]:
    """Yield a function to be called with what became of each night that is done.

    Parameters
    ----------
    total : how many nights there are.
    quiet : say nothing; else a terminal shows a bar, and anything else gets a line a night.
    """
    if quiet:
        yield lambda _text: None
    elif not sys.stderr.isatty():
        yield _counting(total)
    else:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
        from rich.text import Text

        columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("nights", total=total)

            def advance(text: str) -> None:
                """Tell of a night above the bar."""
                bar.console.print(Text(text))
                bar.advance(task)

            yield advance


def _counting(total: int) -> Tell:
    """Return a function that writes lines to stderr, each with the number of nights done."""
    numbers = itertools.count(1)

    def tell(text: str) -> None:
        """Tell of a night in a line."""
        click.echo(f"[{next(numbers)}/{total}] {text}", err=True)

    return tell
