"""What is being done, how far it is and how long it took, told to whoever watches: `stage`.

The library prints nothing. It says where a stage of the work begins and ends; a bar on a terminal,
lines for ``--verbose`` and the log of a run are made of that by whoever called. Without a watcher a
stage costs less than a microsecond.

Who watches is a context variable, not a parameter: the reduction is functions within functions, and
none of them is about watching. Threads that are started within know of no watcher; how many bytes
they read is counted for the whole process (`count_read`), as the system does it.
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
    name : what it is, such as "combine".
    within : the names of the stages around it, the outermost first.
    seconds : how long it took, once it has ended.
    n_read : bytes of pixels that the process read meanwhile.
    """

    name: str
    within: tuple[str, ...] = ()
    seconds: float = 0.0
    n_read: int = 0

    @property
    def path(self) -> str:
        """Return its name after those of the stages around it."""
        return ": ".join((*self.within, self.name))


class Watcher(Protocol):
    """Somebody who is told of stages, in the thread that does them."""

    def begins(self, stage: Stage) -> None:
        """Hear that a stage begins."""

    def advances(self, done: int, total: int) -> None:
        """Hear how much of the innermost stage is done."""

    def ends(self, stage: Stage) -> None:
        """Hear that a stage has ended, well or not."""


@dataclass
class _WatchState:
    """Who watches, what is going on, the outermost first, and what has ended."""

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
    """Let watchers hear of the stages within, beside those who do already.

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
    """Return the stages that have ended since somebody watches."""
    scene = _WATCH_STATE.get()
    return () if scene is None else tuple(scene.ended)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Tell that a piece of work begins and ends; a function can be decorated with it too."""
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
    """Tell whether anybody hears what `progressed` tells."""
    scene = _WATCH_STATE.get()
    return scene is not None and bool(scene.watchers)


def progressed(done: int, total: int) -> None:
    """Tell how much of the innermost stage is done."""
    scene = _WATCH_STATE.get()
    if scene is not None and scene.open:
        for watcher in tuple(scene.watchers):
            watcher.advances(done, total)
