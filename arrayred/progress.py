"""Report the stages of the work, their progress and their times to watchers: `stage`.

The library prints nothing. It reports where a stage of the work begins and ends; the caller makes a
bar on a terminal, lines for ``--verbose`` or the log of a run of that. Without a watcher a stage
costs less than a microsecond.

The watchers are in a context variable, not a parameter: the reduction is functions within
functions, and none of them is about progress. Threads that are started within have no watcher; the
bytes that they read are counted for the whole process (`count_read`), as the system does it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol


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


class Watcher(Protocol):
    """A receiver of the reports of stages, called in the thread that does the work."""

    def begins(self, stage: Stage) -> None:
        """Receive the begin of a stage."""

    def advances(self, done: int, total: int) -> None:
        """Receive the progress of the innermost stage."""

    def ends(self, stage: Stage) -> None:
        """Receive the end of a stage, successful or not."""


@dataclass
class _WatchState:
    """The watchers, the open stages (outermost first) and the ended ones."""

    watchers: list[Watcher]
    open: list[Stage] = field(default_factory=list)
    ended: list[Stage] = field(default_factory=list)


_WATCH_STATE: ContextVar[_WatchState | None] = ContextVar("arrayred_watching", default=None)
_COUNT_LOCK = Lock()
_read_so_far = 0


def count_read(n_bytes: int) -> None:
    """Count bytes of pixels that were read, in any thread."""
    global _read_so_far
    with _COUNT_LOCK:
        _read_so_far += n_bytes


@contextmanager
def watched(*watchers: Watcher) -> Iterator[None]:
    """Report the stages within to these watchers, in addition to present ones.

    Examples
    --------
    >>> with watched():
    ...     with stage("combine"):
    ...         pass
    ...     [stage.path for stage in ended()]
    ['combine']
    """
    scene = _WATCH_STATE.get()
    token = _WATCH_STATE.set(_WatchState([])) if scene is None else None
    present = _WATCH_STATE.get()
    assert present is not None
    present.watchers += watchers
    try:
        yield
    finally:
        for watcher in watchers:
            present.watchers.remove(watcher)
        if token is not None:
            _WATCH_STATE.reset(token)


def ended() -> Sequence[Stage]:
    """Return the stages that have ended since the outermost `watched` began."""
    scene = _WATCH_STATE.get()
    return () if scene is None else tuple(scene.ended)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Report the begin and end of a piece of work; also usable as a decorator."""
    scene = _WATCH_STATE.get()
    if scene is None:
        yield
        return
    this = Stage(name, tuple(outer.name for outer in scene.open))
    begun, read_before = time.perf_counter(), _read_so_far
    scene.open.append(this)
    for watcher in tuple(scene.watchers):
        watcher.begins(this)
    try:
        yield
    finally:
        scene.open.pop()
        scene.ended.append(this)
        this.seconds = time.perf_counter() - begun
        this.n_read = _read_so_far - read_before
        for watcher in tuple(scene.watchers):
            watcher.ends(this)


def is_watched() -> bool:
    """Return whether there is a watcher."""
    scene = _WATCH_STATE.get()
    return scene is not None and bool(scene.watchers)


def progressed(done: int, total: int) -> None:
    """Report the progress of the innermost stage."""
    scene = _WATCH_STATE.get()
    if scene is not None and scene.open:
        for watcher in tuple(scene.watchers):
            watcher.advances(done, total)
