"""Publish files atomically (complete or not at all), with one writer per output folder.

Each file is written to a temporary file beside its destination, synced, then renamed; the folders
are synced last. Several files are published together: all temporaries are complete before the first
rename, so a full disk leaves every old file unchanged. A file that already has the same bytes is
not rewritten; one with other bytes is replaced only on request.

A run that is killed leaves its temporaries behind; `remove_temporaries` removes them.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import re
import shlex
import shutil
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from arrayred.errors import LockedError, StorageError, UsageError, printable
from arrayred.io.remote import without_secrets

Content = bytes | bytearray
_EXIT_WAIT_S = 0.5
_TEMPORARY = re.compile(r"\.(.+)\.(\d+)\.[0-9a-f]{8}\.tmp")


def publish(
    files: Mapping[Path, Content], *, overwrite: bool = False, durable: bool = True
) -> None:
    """Write files; none is replaced before all are on disk as temporaries.

    Parameters
    ----------
    files : content by path; folders are made.
    overwrite : replace files that have other content.
    durable : sync to disk. Without it files are complete or absent only as long as the machine
        runs; for files that can be made again.

    Raises
    ------
    UsageError
        A file with other content exists and `overwrite` is not given. Nothing was written.
    StorageError
        The disk is full or cannot be written. Every file is complete, either old or new.
    """
    for path in files:
        if path.is_dir():
            raise StorageError(
                "A folder with the name of the product exists", path=path, hint="Move or rename it."
            )
    fresh = {
        path: content
        for path, content in files.items()
        if not _is_already(path, content, overwrite=overwrite)
    }
    in_the_way = sorted(path for path in fresh if os.path.lexists(path))
    if in_the_way and not overwrite:
        raise place_taken_error(in_the_way[0], len(in_the_way) - 1)
    temporaries: dict[Path, Path] = {}
    where = Path()
    try:
        for path, content in fresh.items():
            where = path
            path.parent.mkdir(parents=True, exist_ok=True)
            temporaries[path] = _write_temporary(path, content, durable)
        for path, temporary in temporaries.items():
            where = path
            os.replace(temporary, path)
        for folder in {path.parent for path in temporaries if durable}:
            where = folder
            sync_folder(folder)
    except OSError as error:
        raise storage_error(error, where, sum(map(len, fresh.values()))) from error
    finally:
        for temporary in temporaries.values():
            drop_temporary(temporary)


def drop_temporary(path: Path) -> None:
    """Remove a temporary file, if it is there and can be: the product does not depend on it."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file if it is there."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise storage_error(error, path, 0) from error


def remove_temporaries(folders: Iterable[Path], product: str = "") -> None:
    """Remove the temporaries that killed runs on this machine left in folders.

    A process that is being killed releases its locks before it ends, so one that still seems to be
    alive is given a moment to end.

    Parameters
    ----------
    folders : searched, but not their subfolders; missing ones are skipped.
    product : only temporaries of a product of this name.
    """
    for folder in folders:
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                made = _TEMPORARY.fullmatch(entry.name)
                if (
                    made
                    and product in ("", made[1])
                    and _is_ours(entry)
                    and _has_ended(int(made[2]))
                ):
                    os.unlink(entry.path)


def _is_ours(entry: os.DirEntry[str]) -> bool:
    status = entry.stat(follow_symlinks=False)
    is_ours = not hasattr(os, "getuid") or status.st_uid == os.getuid()
    return is_ours and stat.S_ISREG(status.st_mode)


def _has_ended(pid: int) -> bool:
    """Return whether a process has ended, waiting a moment for it (not for this process)."""
    until = time.monotonic() + _EXIT_WAIT_S * (pid != os.getpid())
    while is_there := _is_alive(pid):
        if time.monotonic() >= until:
            break
        time.sleep(_EXIT_WAIT_S / 50)
    return not is_there


def _is_alive(pid: int) -> bool:
    """Return whether a process exists; True where the system cannot tell.

    A process that has ended but was not yet collected by its parent (a zombie, where the system
    reports those) does not count: in a container it may stay for ever.
    """
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in b"ZX"
    except (ProcessLookupError, OverflowError):
        return False
    except (OSError, IndexError):
        return True


def require_room(folder: Path, n_bytes: int, what: str = "the products need") -> None:
    """Raise StorageError if a folder cannot be written or its disk has too few bytes free."""
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "cannot be written" if there.is_dir() else "is not a folder"
        raise StorageError(f"The output {why}", path=there, hint="Choose another output folder.")
    free, needed = shutil.disk_usage(there).free, n_bytes * 11 // 10
    if free < needed:
        raise StorageError(
            f"The disk has {free} bytes free, but {what} {needed}",
            path=there,
            hint="Free some disk space or choose another output folder.",
        )


def _is_already(path: Path, content: Content, *, overwrite: bool) -> bool:
    """Return whether a regular file with this content exists.

    One that cannot be read is no other content, unless it may be replaced whatever it holds.
    """
    try:
        return (
            not path.is_symlink()
            and path.stat().st_size == len(content)
            and path.read_bytes() == content
        )
    except FileNotFoundError:
        return False
    except OSError as error:
        if overwrite:
            return False
        raise storage_error(error, path, len(content)) from error


def place_taken_error(path: Path, n_more: int = 0) -> UsageError:
    """Return the error for a product whose path has a file with other content."""
    also, them = (f" and {n_more} more", "them") if n_more else ("", "it")
    return UsageError(
        f"This file{also} already {'exist' if n_more else 'exists'} with different content",
        path=path,
        hint=f"Use --overwrite to replace {them}, or choose another output.",
    )


def _write_temporary(path: Path, content: Content, durable: bool) -> Path:
    handle, temporary = open_temporary(path)
    try:
        with open(handle, "wb", buffering=0) as file:
            left = memoryview(content)
            while left:
                left = left[file.write(left) :]
            if durable:
                os.fsync(file.fileno())
    except BaseException:
        drop_temporary(temporary)
        raise
    return temporary


def open_temporary(path: Path) -> tuple[int, Path]:
    """Return a read-write handle of a new hidden file beside a product's path, and its path.

    Parameters
    ----------
    path : the product's; its folder exists.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    flags = (
        os.O_RDWR
        | os.O_CREAT
        | os.O_EXCL
        | getattr(os, "O_NOFOLLOW", 0)
        | getattr(os, "O_BINARY", 0)
    )
    try:
        return os.open(temporary, flags, 0o666), temporary
    except OSError:  # not made, or not by us
        raise
    except BaseException:  # a signal that came while it was made
        drop_temporary(temporary)
        raise


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to disk."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def storage_error(error: OSError, path: Path, n_bytes: int) -> StorageError:
    """Return the error for a product that cannot be written."""
    return StorageError(
        f"The product cannot be written ({error.strerror}; {n_bytes} bytes are needed)",
        path=path,
        hint="Free some disk space or choose another output folder; nothing that was there is "
        "lost.",
    )


# One writer per output folder: `output_lock`.
#
# The lock is the kernel's (flock) and ends with its holder, however that ends. The holder named in
# the file is only for people. The file is never deleted: deleting a lock is a race. A library would
# not be safer: each of the popular ones had to fix followed links and stale locks wrongly broken.
#
# Where the kernel cannot lock (some network folders, Windows) the run continues without: products
# are complete or absent and depend on their inputs alone, so that two writers cost work, not
# products.
#
# A run that may wait polls the lock: a wait inside the kernel could not be interrupted.

try:
    import fcntl
except ImportError:  # Windows has none
    fcntl = None  # type: ignore[assignment]

STATE_FOLDER = ".arrayred"
"""The folder, inside an output folder, of the manifest and the lock."""
_LOCK_FILE = "lock"
_LOCK_UNSUPPORTED = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_MAX_LOCK_BYTES = 4096
_LOCK_POLL_S = 0.1


@contextmanager
def output_lock(out: Path, *, break_lock: bool = False, wait: float = 0.0) -> Iterator[bool]:
    """Hold the lock of an output folder, which is made if missing, and remove old temporaries.

    Files that killed runs left incomplete are removed, since no other run writes there now.

    Parameters
    ----------
    out : the output folder.
    break_lock : begin a new lock even if the old one is held; for a holder on a host that is gone.
    wait : time to wait if another run holds it, s.

    Yields
    ------
    locked : False where the kernel cannot lock there.

    Raises
    ------
    LockedError
        Another run holds it, also after the wait.
    StorageError
        The folder cannot be written.
    """
    path = out / STATE_FOLDER / _LOCK_FILE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if break_lock:
            path.unlink(missing_ok=True)
        handle, locked = _acquired_lock(path, time.monotonic() + wait)
    except OSError as error:
        raise storage_error(error, path, 0) from error
    try:
        if locked:
            _write_lock_owner(handle, path)
            remove_temporaries(_folders_of(out))
        yield locked
    finally:
        os.close(handle)


def _folders_of(out: Path) -> Iterator[Path]:
    """Yield the folders of a night's products, and that of its manifest."""
    yield from (out, out / STATE_FOLDER)
    for branch in (out / "masters", out / "targets"):
        for folder, _, _ in os.walk(branch):
            yield Path(folder)


def _acquired_lock(path: Path, until: float) -> tuple[int, bool]:
    """Return a handle of the lock's file, and whether the kernel locked it.

    Parameters
    ----------
    path : of the lock.
    until : time at which waiting ends, on the clock of `time.monotonic`, s.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    while True:
        handle = os.open(path, flags, 0o600)
        try:
            locked = _lock_handle(handle)
        except BlockingIOError:
            held = _locked_error(path, handle)
            os.close(handle)
            if time.monotonic() >= until:
                raise held from None
            time.sleep(_LOCK_POLL_S)
            continue
        if not locked or _is_at(handle, path):
            return handle, locked
        os.close(handle)  # another run began a new one meanwhile


def _lock_handle(handle: int) -> bool:
    """Lock a file; return False where the kernel cannot; raise BlockingIOError if another has."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno in _LOCK_UNSUPPORTED:
            return False
        raise
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def _write_lock_owner(handle: int, path: Path) -> None:
    """Write the holder (process, host, start, command) into the lock.

    Raises
    ------
    StorageError
        It cannot be written: a run that begins so would end no better.
    """
    facts = {
        "pid": os.getpid(),
        "host": platform.node(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": without_secrets(shlex.join(sys.argv)),
    }
    content = (json.dumps(facts) + "\n").encode()
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, content, 0)
    except OSError as error:
        raise storage_error(error, path, len(content)) from error


def _locked_error(path: Path, handle: int) -> LockedError:
    """Return the error that names the holder of the lock."""
    try:
        facts = json.loads(os.pread(handle, _MAX_LOCK_BYTES, 0))
        who = f"process {facts['pid']} on {facts['host']}, since {facts['started']}"
    except (ValueError, KeyError, TypeError, OSError):
        who = "an unknown process"
    return LockedError(
        f"Another run writes to this folder: {printable(who)}",
        path=path.parent.parent,
        hint="Wait for it, choose another output folder, or use --break-lock if its host is down.",
    )
