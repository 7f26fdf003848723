"""Log the stages of the work, their progress and their times: `stage`, `note`, `handled`.

Progress is logged by one logger of the standard library, `arrayred`: at level INFO what has
happened (the end of a stage, a target, the beginning and the end of a run), at DEBUG the beginning
and the progress of stages. The library prints nothing: the logger has no handler but
those that a program gives it, as by ``logging.basicConfig(level="INFO")``. The command line shows
bars and lines (`cli.layout`), and a run writes a log beside its products (`batch.nights`): these
are handlers for the records of one piece of work (`handled`). Without any a stage costs less than a
microsecond.

The open stages are in a context variable, not a parameter: the reduction is functions within
functions, and none of them is about progress. Threads that are started within know of none; the
bytes that they read are counted for the whole process (`count_read`), as the system does it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from threading import Lock
from typing import Any

from arrayred.errors import printable

LOGGER = logging.getLogger("arrayred")
LOGGER.addHandler(logging.NullHandler())
_BYTES_PER_MB = 1e6


@dataclass
class Stage:
    """A piece of work.

    Parameters
    ----------
    name : of the work, such as "combine".
    within : the names of the enclosing stages, the outermost first.
    seconds : duration, s, once it has ended.
    n_read : bytes of pixels that the process read meanwhile.
    """

    name: str
    within: tuple[str, ...] = ()
    seconds: float = 0.0
    n_read: int = 0

    @property
    def path(self) -> str:
        """Return its name after those of the enclosing stages."""
        return ": ".join((*self.within, self.name))


_OPEN: ContextVar[tuple[Stage, ...]] = ContextVar("arrayred_open_stages", default=())
_RUN: ContextVar[object] = ContextVar("arrayred_run", default=None)
_LOCK = Lock()
_levels: list[int] = []
_level_before = logging.NOTSET
_read_so_far = 0


def count_read(n_bytes: int) -> None:
    """Count bytes of pixels that were read, in any thread."""
    global _read_so_far
    with _LOCK:
        _read_so_far += n_bytes


def note(event: str, facts: Mapping[str, Any], level: int = logging.INFO) -> None:
    """Log an event, with the facts that a log in JSON has of it.

    Examples
    --------
    >>> note("target", {"target": "Vega", "status": "reduced"})
    """
    if LOGGER.isEnabledFor(level):
        told = printable(", ".join(f"{name} {value}" for name, value in facts.items()))
        LOGGER.log(level, "%s: %s", event, told, extra={"event": event, "facts": facts})


@contextmanager
def handled(*handlers: logging.Handler, apart: bool = False) -> Iterator[None]:
    """Give the records of the work within to these handlers, in addition to present ones.

    They get no record of other threads: a worker of a cluster may reduce several nights at once.

    Parameters
    ----------
    handlers : their levels decide which records are made.
    apart : the work is a run of its own, and handlers given further out get none of its records.
    """
    outer = _RUN.get()
    run = object() if outer is None or apart else outer
    _RUN.set(run)
    for handler in handlers:
        handler.addFilter(lambda _record: _RUN.get() is run)
        LOGGER.addHandler(handler)
    levels = [handler.level for handler in handlers]
    _change_levels(added=levels)
    try:
        yield
    finally:
        for handler in handlers:
            LOGGER.removeHandler(handler)
        _change_levels(gone=levels)
        _RUN.set(outer)


def _change_levels(added: list[int] | None = None, gone: list[int] | None = None) -> None:
    """Let the logger make the records that any handler wants, and else those it made before."""
    global _level_before
    with _LOCK:
        if not _levels:
            _level_before = LOGGER.level
        _levels.extend(added or ())
        for level in gone or ():
            _levels.remove(level)
        wanted = [*_levels, *([_level_before] if _level_before or not _levels else [])]
        LOGGER.setLevel(min(wanted))


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Log the begin and end of a piece of work; also usable as a decorator."""
    if not LOGGER.isEnabledFor(logging.INFO):
        yield
        return
    outer = _OPEN.get()
    this = Stage(name, tuple(one.name for one in outer))
    begun, read_before = time.perf_counter(), _read_so_far
    _OPEN.set((*outer, this))
    try:
        LOGGER.debug("%s begins", printable(this.path), extra={"begun": this})
        yield
    finally:
        _OPEN.set(outer)
        this.seconds = time.perf_counter() - begun
        this.n_read = _read_so_far - read_before
        facts: dict[str, Any] = {"stage": this.path, "seconds": round(this.seconds, 4)}
        if this.n_read:
            facts["mb_read"] = round(this.n_read / _BYTES_PER_MB, 3)
        extra = {"event": "stage", "facts": facts, "ended": this}
        LOGGER.info("%s: %.3f s", printable(this.path), this.seconds, extra=extra)


def is_watched() -> bool:
    """Return whether anybody wants to know the progress of stages."""
    return LOGGER.isEnabledFor(logging.DEBUG)


def progressed(done: int, total: int) -> None:
    """Log the progress of the innermost stage."""
    if is_watched() and (stages := _OPEN.get()):
        extra = {"progress": (done, total)}
        LOGGER.debug("%s: %d of %d", printable(stages[-1].path), done, total, extra=extra)
