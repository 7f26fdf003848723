"""The one write path: files appear whole or not at all.

Each file is written to a temporary beside its place, synced, then renamed over it; the folders are
synced last. Several files are published together: all temporaries are complete before the first
rename, so a full disk leaves every old file as it was. A file that already has the same bytes is
left alone; one with other bytes is not replaced unless that was asked for.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from arrayred.errors import ArrayredError, StorageError, UsageError

Content = bytes | bytearray


def publish(files: Mapping[Path, Content], *, overwrite: bool = False) -> None:
    """Write files; none is touched before all are safely on the disk beside their places.

    Parameters
    ----------
    files : content by path; folders are made.
    overwrite : replace files that have other content.

    Raises
    ------
    UsageError
        A file with other content is there and `overwrite` is not given. Nothing was written.
    StorageError
        The disk is full or refuses. Every file of that name is whole, as it was or new.
    """
    for path in files:
        if path.is_dir():
            raise StorageError("A folder has the product's name", path=path, hint="Move it away.")
    fresh = {path: content for path, content in files.items() if not _is_already(path, content)}
    in_the_way = sorted(path for path in fresh if os.path.lexists(path))
    if in_the_way and not overwrite:
        more = f" (and {len(in_the_way) - 1} more)" if len(in_the_way) > 1 else ""
        raise UsageError(
            f"A file with other content is already there{more}",
            path=in_the_way[0],
            hint="Give --overwrite to replace it, or another output folder.",
        )
    temporaries: dict[Path, Path] = {}
    where = Path()
    try:
        for path, content in fresh.items():
            where = path
            path.parent.mkdir(parents=True, exist_ok=True)
            temporaries[path] = _write_temporary(path, content)
        for path, temporary in temporaries.items():
            where = path
            os.replace(temporary, path)
        for folder in {path.parent for path in temporaries}:
            where = folder
            _sync_folder(folder)
    except OSError as error:
        raise _storage_error(error, where, sum(map(len, fresh.values()))) from error
    finally:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file if it is there."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise _storage_error(error, path, 0) from error


def require_room(folder: Path, n_bytes: int) -> None:
    """Raise StorageError if a folder cannot be written or its disk has too few bytes free."""
    there = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        why = "cannot be written" if there.is_dir() else "is no folder"
        raise StorageError(f"The output {why}", path=there, hint="Choose another output folder.")
    free, needed = shutil.disk_usage(there).free, n_bytes * 11 // 10
    if free < needed:
        raise StorageError(
            f"The disk has {free} bytes free, and the products need {needed}",
            path=there,
            hint="Make room or choose another output folder.",
        )


def _is_already(path: Path, content: Content) -> bool:
    """Tell whether a regular file of this content is there."""
    try:
        return (
            not path.is_symlink()
            and path.stat().st_size == len(content)
            and path.read_bytes() == content
        )
    except OSError:
        return False


def _write_temporary(path: Path, content: Content) -> Path:
    temporary = path.parent / f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp"
    flags = (
        os.O_WRONLY
        | os.O_CREAT
        | os.O_EXCL
        | getattr(os, "O_NOFOLLOW", 0)
        | getattr(os, "O_BINARY", 0)
    )
    handle = os.open(temporary, flags, 0o666)
    try:
        with open(handle, "wb", buffering=0) as file:
            left = memoryview(content)
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _sync_folder(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _storage_error(error: OSError, path: Path, n_bytes: int) -> ArrayredError:
    return StorageError(
        f"The product cannot be written ({error.strerror}; {n_bytes} bytes are needed)",
        path=path,
        hint="Make room or choose another output folder; nothing that was there is lost.",
    )
