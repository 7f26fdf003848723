"""Settings of a process that belongs to arrayred alone: `make_process_own`.

The command line and the processes that it starts call it, before numpy is imported where that can
be; who imports arrayred into a process of their own keeps their settings. No number changes. Of a
night of 8 frames of 1024 x 1536, 1.53 s of the processor in a process of its own and 0.29 s as one
of many in a process, this saves 0.3 s and 0.04 s:

* Memory that was freed is kept for the next image. The C library hands it back to the system, which
  has to clear each page anew: 12,500 page faults a night, and 140 if it is kept.
  Where memory is bounded that would be held beside what is used, 100 MiB of a night of 60 frames of
  2048 x 2048: there `release_freed_memory` gives back what takes 4 MiB or more.
* Garbage is rarely looked for: that takes a seventh of the time of the imports. At the end it is
  not looked for at all, what is left is everything, and the system takes it back anyway.
* BLAS has no threads. The systems solved here have a few dozen unknowns; its threads would only
  wait for work, busily, and what it adds up would depend on how many there are.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys

_BLAS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_TRIM, _MMAP = 256 << 20, 32 << 20
"""Bytes: of free memory that are kept, and from which on an array has a mapping of its own (more is
not allowed)."""
_LITTLE_TRIM, _LITTLE_MMAP, _ARENAS = 24 << 20, 4 << 20, 2
_is_own = False


def make_process_own() -> None:
    """Set up this process for reductions and nothing else; a second call changes nothing."""
    global _is_own
    _is_own = True
    for name in _BLAS:
        os.environ.setdefault(name, "1")
    gc.set_threshold(100_000, 50, 50)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
    _set_up_memory((_M_MMAP_THRESHOLD, _MMAP), (_M_TRIM_THRESHOLD, _TRIM))


def release_freed_memory() -> None:
    """Give freed memory back at once from now on, if this process is arrayred's own."""
    if _is_own:
        _set_up_memory(
            (_M_MMAP_THRESHOLD, _LITTLE_MMAP),
            (_M_TRIM_THRESHOLD, _LITTLE_TRIM),
            (_M_ARENA_MAX, _ARENAS),
        )


def _set_up_memory(*settings: tuple[int, int]) -> None:
    """Tell the C library how to keep what is freed, where that is glibc."""
    if sys.platform != "linux":
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for name, value in settings:
            mallopt(name, value)
