"""Progress on a terminal, and nothing anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_MANY = 100
Advance = Callable[[int], None]


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
