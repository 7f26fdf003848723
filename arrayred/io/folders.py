"""Which FITS files lie in a folder, and in which deeper ones: `list_files`, `unreached`.

A list of files or folders is a text file: `paths_in`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from arrayred.errors import InputError, UsageError
from arrayred.io.headers import is_fits_name

_MOST_LOOKED_INTO = 100
_UNREADABLE = {
    FileNotFoundError: "There is no such folder",
    NotADirectoryError: "This is a file, but a folder was asked for",
}


def list_files(folder: Path, pattern: str = "*", depth: int = 3) -> list[Path]:
    """Return the FITS files of a folder and its subfolders, sorted; links to folders not followed.

    Of a cache, or a folder in one, those that it was made from, under it.

    Parameters
    ----------
    folder : where they lie; a night's cache may be one.
    pattern : what their names must match.
    depth : how many folders deep, the folder itself being the first.

    Raises
    ------
    InputError
        The folder does not exist, is no folder, or cannot be read.
    """
    try:
        found = _cached(folder, depth) or sorted(_walk(folder, depth))
    except OSError as error:
        raise InputError(
            _UNREADABLE.get(type(error), f"The folder cannot be read ({error.strerror})"),
            path=error.filename or folder,
            hint="Name a folder of frames.",
        ) from error
    return [path for path in found if is_fits_name(path.name) and path.match(pattern)]


def _cached(folder: Path, depth: int) -> list[Path]:
    """Return the files of a cache, or of a folder in one; none where there is no cache."""
    if folder.is_dir() and not (folder / "COMPLETE.json").exists():
        return []
    from arrayred.io.cache.contents import cache_around, files_in

    cache = cache_around(folder)
    return [] if cache is None else files_in(cache, folder, depth)


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if depth > 1 and not entry.name.startswith("."):
                    yield from _walk(Path(entry.path), depth - 1)
            elif not entry.name.startswith("."):
                yield Path(entry.path)


def unreached(folder: Path, depth: int = 3) -> list[Path]:
    """Return the folders just below a depth that hold FITS files themselves, sorted.

    Parameters
    ----------
    folder, depth : as for `list_files`, which passes these folders by. One look is taken at each
        of the first hundred; what cannot be read is no concern of anybody who does not want it.
    """
    beyond = islice(_folders_at(folder, depth), _MOST_LOOKED_INTO)
    return sorted(path for path in beyond if _holds_fits(path))


def _folders_at(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the folders that lie below a folder by a number of steps."""
    if depth == 0:
        yield folder
        return
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                yield from _folders_at(Path(entry.path), depth - 1)


def _holds_fits(folder: Path) -> bool:
    with suppress(OSError), os.scandir(folder) as entries:
        return any(is_fits_name(entry.name) for entry in entries)
    return False


def paths_in(path: Path) -> list[Path]:
    """Return the paths in a text file, one a line; blank lines and those after # do not count.

    Raises
    ------
    UsageError
        The file cannot be read.
    """
    try:
        lines = path.read_text("utf-8", "surrogateescape").splitlines()
    except OSError as error:
        raise UsageError(
            f"The list of files cannot be read ({error.strerror})",
            path=path,
            hint="Name a text file with a path a line.",
        ) from error
    names = [line.strip() for line in lines]
    return [Path(name) for name in names if name and not name.startswith("#")]
