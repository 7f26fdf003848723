"""One writer per output folder: `one_writer`.

The lock is the kernel's (flock) and dies with its holder, however that dies. What the file says of
the holder is for people alone. It is never deleted: deleting a lock is a race. A library would not
be safer: each of the popular ones had to mend links followed and stale locks broken wrongly.

Where the kernel cannot lock (some network folders, Windows) the run goes on without: products
appear whole or not at all and depend on their inputs alone, so that two writers cost work, not
products.

Whoever may wait asks again and again: a wait inside the kernel could not be interrupted.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from arrayred.errors import LockedError, printable
from arrayred.io.publish import storage_error, sweep

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

STATE = ".arrayred"
"""The folder, inside an output folder, of what is known about its products."""
_LOCK = "lock"
_CANNOT = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_MOST = 4096
_ASKS_AGAIN_S = 0.1


@contextmanager
def one_writer(out: Path, *, break_lock: bool = False, wait: float = 0.0) -> Iterator[bool]:
    """Hold the lock of an output folder, which is made if need be, and tidy it up.

    What runs that were killed left half written is removed: nobody else writes there now.

    Parameters
    ----------
    out : the output folder.
    break_lock : begin a new lock, whoever holds the old one; for a holder on a host that is gone.
    wait : for so many seconds, if another run holds it.

    Yields
    ------
    locked : False where the kernel cannot lock there.

    Raises
    ------
    LockedError
        Another run holds it, and still does after the wait.
    StorageError
        The folder cannot be written.
    """
    path = out / STATE / _LOCK
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if break_lock:
            path.unlink(missing_ok=True)
        handle, locked = _acquired(path, time.monotonic() + wait)
    except OSError as error:
        raise storage_error(error, path, 0) from error
    try:
        if locked:
            _sign(handle)
            sweep(_folders_of(out))
        yield locked
    finally:
        os.close(handle)


def _folders_of(out: Path) -> Iterator[Path]:
    """Yield the folders of a night's products, and those of what is known about them."""
    yield from (out, out / STATE)
    for branch in (out / "masters", out / "targets", out / STATE / "done"):
        for folder, _, _ in os.walk(branch):
            yield Path(folder)


def _acquired(path: Path, until: float) -> tuple[int, bool]:
    """Return a handle of the lock's file, and whether the kernel locked it.

    Parameters
    ----------
    path : of the lock.
    until : how long it is asked for, as of `time.monotonic`.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    while True:
        handle = os.open(path, flags, 0o600)
        try:
            locked = _lock(handle)
        except BlockingIOError:
            held = _held(path, handle)
            os.close(handle)
            if time.monotonic() >= until:
                raise held from None
            time.sleep(_ASKS_AGAIN_S)
            continue
        if not locked or _is_at(handle, path):
            return handle, locked
        os.close(handle)  # somebody began a new one meanwhile


def _lock(handle: int) -> bool:
    """Lock a file; return False where the kernel cannot; raise BlockingIOError if another has."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno in _CANNOT:
            return False
        raise
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def _sign(handle: int) -> None:
    """Write into the lock who holds it."""
    facts = {
        "pid": os.getpid(),
        "host": platform.node(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
    }
    os.ftruncate(handle, 0)
    os.pwrite(handle, (json.dumps(facts) + "\n").encode(), 0)


def _held(path: Path, handle: int) -> LockedError:
    """Return the error that names who holds the lock."""
    try:
        facts = json.loads(os.pread(handle, _MOST, 0))
        who = f"process {facts['pid']} on {facts['host']}, since {facts['started']}"
    except (ValueError, KeyError, TypeError, OSError):
        who = "a process that has not signed it"
    return LockedError(
        f"Another run writes to this folder: {printable(who)}",
        path=path.parent.parent,
        hint="Wait for it, choose another output folder, or, if its host is gone, --break-lock.",
    )
