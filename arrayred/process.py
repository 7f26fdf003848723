"""Set up a process that runs arrayred alone: memory, garbage collection, BLAS: `make_process_own`.

The command line and the processes that it starts call it, before numpy is imported where possible;
a program that imports arrayred keeps its own settings. No number changes. A night of 8 frames of
1024 x 1536 takes 1.5 s of processor time in a process of its own and 0.4 s as one of many in a
process; this saves 0.3 s and 0.04 s of that:

* Freed memory is kept for the next image. By default the C library returns it to the system, which
  has to clear each page again: 12,500 page faults a night, and 140 if it is kept.
  Where memory is limited, it would be held in addition to the memory in use, 100 MiB for a night of
  60 frames of 2048 x 2048: there `release_freed_memory` returns blocks of 4 MiB or more.
* Garbage is rarely collected: that takes a seventh of the time of the imports. At the end it is not
  collected at all: everything is garbage then, and the system frees it anyway.
* BLAS has no threads. The systems solved here have a few dozen unknowns; its threads would only
  wait busily for work, and its sums would depend on their number.

Warnings of libraries are not printed: they name lines of programs, not frames. Problems of frames
are reported by arrayred itself; in the tests every warning is an error. ``python -W`` shows them.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

_BLAS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_TRIM, _MMAP = 256 << 20, 32 << 20
"""Free memory that is kept, and size from which an array has a mapping of its own, bytes (32 MiB is
the largest allowed)."""
_LITTLE_TRIM, _LITTLE_MMAP, _ARENAS = 24 << 20, 4 << 20, 2
_AGAIN_S = 0.01
"""Time after which an end that was ignored is raised again."""
_is_own = False


def make_process_own() -> None:
    """Set up this process for reductions alone; a second call changes nothing."""
    global _is_own
    _is_own = True
    for name in _BLAS:
        os.environ.setdefault(name, "1")
    gc.set_threshold(100_000, 50, 50)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    _set_up_memory((_M_MMAP_THRESHOLD, _MMAP), (_M_TRIM_THRESHOLD, _TRIM))
    if not sys.warnoptions:
        warnings.showwarning = _show_no_warning


@contextmanager
def interrupts_held(*, spawned: bool = False) -> Iterator[None]:
    """Keep SIGINT from the processes and threads that are started within, for as long as they live.

    Ctrl-C reaches all processes of a terminal, and one that still imports would print a traceback.
    They are ended by this process, which gets a signal that came meanwhile on leaving.

    Parameters
    ----------
    spawned : processes of `multiprocessing` are started: its tracker of resources, which unblocks
        SIGINT when it starts, is started before.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    if spawned:
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_from_handler(number: int, end: SystemExit) -> NoReturn:
    """Raise the exception that ends the program, in the handler of a signal.

    A handler runs between any two steps of the main thread, also in a finalizer or in the callback
    of a weak reference. Nothing can be raised out of these: Python prints the exception as one that
    is ignored, and goes on. Then it is not printed, and raised again a little later.

    Parameters
    ----------
    number : the signal; it is ignored from here on.
    end : the exception.
    """
    signal.signal(number, signal.SIG_IGN)
    report = sys.unraisablehook

    def raise_again(_number: int, _frame: object) -> NoReturn:
        sys.unraisablehook = report
        end_from_handler(number, end)

    def notice(unraisable: sys.UnraisableHookArgs) -> None:
        if unraisable.exc_value is not end:
            report(unraisable)
            return
        signal.signal(number, raise_again)
        again = threading.Timer(_AGAIN_S, os.kill, [os.getpid(), number])
        again.daemon = True
        again.start()

    sys.unraisablehook = notice
    raise end


def _show_no_warning(*_args: object, **_kwargs: object) -> None:
    """Print no warning, in the place of `warnings.showwarning`."""


def release_freed_memory() -> None:
    """Return freed memory to the system at once from now on, if this process is arrayred's own."""
    if _is_own:
        _set_up_memory(
            (_M_MMAP_THRESHOLD, _LITTLE_MMAP),
            (_M_TRIM_THRESHOLD, _LITTLE_TRIM),
            (_M_ARENA_MAX, _ARENAS),
        )


def _set_up_memory(*settings: tuple[int, int]) -> None:
    """Set options of the C library's `mallopt`, where it is glibc."""
    if sys.platform != "linux":
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in settings:
            mallopt(name, value)
