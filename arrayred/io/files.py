"""List the FITS files of folders and caches, and scan them: `list_files`, `find_image`.

`find_image` looks for a path on disk and then in a cache. `folders_too_deep` finds folders with
FITS files below the depth that is searched, `misnamed_files` those whose names hide what they are.
`paths_in` reads a text file of paths.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

from arrayred.config.toml import read_text_file
from arrayred.errors import ForeignFileError, FrameError, HeaderError, InputError, printable
from arrayred.io import remote
from arrayred.io.remote import Address, is_fits_name, list_remote, path_or_address, stamp_of
from arrayred.io.scan import PRODUCT_CARD, ImageHDU, scan, with_all_images

_MOST_LOOKED_INTO = 100
_UNREADABLE = {
    FileNotFoundError: "No such folder",
    NotADirectoryError: "This is a file, not a folder",
}


def list_files(folder: Path, depth: int = 3) -> list[Path]:
    """Return the FITS files of a folder and its subfolders, sorted; links to folders not followed.

    For a cache, or a folder in one, these are the paths of the cached files.

    Parameters
    ----------
    folder : a folder or a night's cache, either also as a URL.
    depth : number of folder levels, the folder itself being the first.

    Raises
    ------
    InputError
        The folder does not exist, is not a folder, or cannot be read.
    """
    folder = path_or_address(folder)
    try:
        if isinstance(folder, Address):
            found = _remote_files(folder, depth)
        else:
            found = _files_in_cache(folder, depth) or sorted(_walk(folder, depth))
    except OSError as error:
        raise InputError(
            _UNREADABLE.get(type(error), f"The folder cannot be read ({error.strerror})"),
            path=error.filename or folder,
            hint=_other_spelling(folder) or "Name a folder of raw frames.",
        ) from error
    return [path for path in found if is_fits_name(path.name)]


_SIGNATURES = {
    b"SIMPLE  =": "a FITS file without a FITS suffix: rename it to .fits",
    b"XISF0100": "an XISF image: convert it to FITS",
}


def misnamed_files(folder: Path, depth: int = 3) -> list[tuple[str, str]]:
    """Return the files that are images by their first bytes, but not by their names, with remedies.

    Parameters
    ----------
    folder, depth : as for `list_files`, which passes these files over. None of a cache or a URL.
    """
    if isinstance(folder, Address) or (folder / "zarr.json").exists():
        return []
    found = []
    for path in sorted(_walk(folder, depth)):
        if not is_fits_name(path.name) and path.is_file():
            with suppress(OSError), path.open("rb") as file:
                start = file.read(max(map(len, _SIGNATURES)))
                found += [(str(path), why) for s, why in _SIGNATURES.items() if start.startswith(s)]
    return found


def _other_spelling(folder: Path) -> str:
    """Return a hint that names the folder with the same letters in another case, or ""."""
    if isinstance(folder, Address) or folder.exists() or not folder.parent.is_dir():
        return ""
    for other in sorted(folder.parent.iterdir()):
        if other.name.casefold() == folder.name.casefold():
            return f"Did you mean {printable(str(other))}?"
    return ""


def files_at(place: Path, depth: int = 3) -> list[Path]:
    """Return a file itself, or the FITS files of a folder; see `list_files`."""
    if place.is_dir():
        return list_files(place, depth=depth)
    if isinstance(place, Address):
        from arrayred.io.cache import enclosing_cache

        if enclosing_cache(place) is None:
            stamp_of(place, anew=True)  # a listing may be old
    return [place]


def _remote_files(folder: Address, depth: int) -> list[Path]:
    """Return the files of a folder behind a URL, or of a cache there."""
    from arrayred.io.cache import cached_files, enclosing_cache, forget_cache

    forget_cache(folder)
    if (cache := enclosing_cache(folder)) is not None:
        return cached_files(cache, folder, depth)
    there = list_remote(folder, depth)
    if folder / "zarr.json" in there and not any(is_fits_name(path.name) for path in there):
        return cached_files(folder, folder, depth)
    return sorted(there)


def _files_in_cache(folder: Path, depth: int) -> list[Path]:
    """Return the files of a cache, or of a folder in one; none if there is no cache."""
    if folder.is_dir() and not (folder / "zarr.json").exists():
        return []
    from arrayred.io.cache import cached_files, enclosing_cache

    cache = enclosing_cache(folder)
    return [] if cache is None else cached_files(cache, folder, depth)


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if depth > 1 and not entry.name.startswith("."):
                    yield from _walk(Path(entry.path), depth - 1)
            elif not entry.name.startswith("."):
                yield Path(entry.path)


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder.

    Raises
    ------
    OSError, InputError
        It cannot be read.
    """
    if isinstance(folder, Address):
        return list(remote.remote_folders_in(folder))
    return [path for path in folder.iterdir() if path.is_dir()]


def folders_too_deep(folder: Path, depth: int = 3) -> list[Path]:
    """Return the folders below a depth that hold FITS files themselves, sorted.

    Parameters
    ----------
    folder, depth : as for `list_files`, which skips these folders. Only the first hundred are
        searched, of remote ones those just below; unreadable ones are ignored, since they were not
        requested.
    """
    folder = path_or_address(folder)
    if isinstance(folder, Address):
        return _remote_folders_too_deep(folder, depth)
    beyond = islice(_folders_below(folder, depth), _MOST_LOOKED_INTO)
    return sorted(path for path in beyond if _holds_fits(path))


def _remote_folders_too_deep(folder: Address, depth: int) -> list[Path]:
    """Return the remote folders just below a depth that hold FITS files, from one listing."""
    with suppress(InputError):
        there = list_remote(folder, depth + 1)
        if folder / "zarr.json" in there:
            return []
        deep = (p for p in there if len(p.relative_to(folder).parts) > depth)
        return sorted({path.parent for path in deep if is_fits_name(path.name)})
    return []


def _folders_below(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the folders that are a number of levels or more below a folder."""
    if depth <= 0:
        yield folder
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                yield from _folders_below(Path(entry.path), depth - 1)


def _holds_fits(folder: Path) -> bool:
    with suppress(OSError), os.scandir(folder) as entries:
        return any(is_fits_name(entry.name) for entry in entries)
    return False


def scan_all(
    paths: Iterable[Path], threads: int = 8, extension: str = ""
) -> Iterator[ImageHDU | FrameError | HeaderError]:
    """Yield the image of each file, in order, or the error of an unreadable one."""
    paths, find = list(paths), partial(_scan_or_error, extension=extension)
    if len(paths) < 32 and not any(isinstance(path, Address) for path in paths):
        yield from map(find, paths)
        return
    from concurrent.futures import ThreadPoolExecutor  # takes as long as 30 headers

    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(find, paths)


def find_image(path: Path, extension: str = "") -> ImageHDU:
    """Return the image of a file, or the cached frame with that path if there is no file.

    Parameters
    ----------
    path : the file.
    extension : number of the HDU or EXTNAME of the image; "": the first one, or the frame that all
        of them are parts of (`io.scan`).

    Raises
    ------
    FrameError, HeaderError
        As in `scan`, and where the cache is damaged.
    """
    path = path_or_address(path)
    if isinstance(path, Address):
        cached = _image_in_cache(path, extension)
        return _whole_frame(path, extension) if cached is None else cached
    try:
        return _whole_frame(path, extension)
    except ForeignFileError as error:
        is_missing = isinstance(error.__cause__, FileNotFoundError)
        if is_missing and (cached := _image_in_cache(path, extension)) is not None:
            return cached
        raise


def _whole_frame(path: Path, extension: str) -> ImageHDU:
    image = scan(path, extension)
    if not (image.further or extension) or PRODUCT_CARD in image.header:
        return image
    return with_all_images(image, extension)


def _image_in_cache(path: Path, extension: str) -> ImageHDU | None:
    """Return the frame of a cache at a path that no file has, or None."""
    from arrayred.io.cache import cached_image  # 26 ms, which a plain night need not wait for

    image = cached_image(path)
    if image is not None and extension and extension.upper() not in (str(image.hdu), image.name):
        raise FrameError(
            f"The cache contains image {image.title} of the file, not {extension}",
            path=path,
            hint="Name the folder of the files themselves.",
        )
    return image


def _scan_or_error(path: Path, extension: str) -> ImageHDU | FrameError | HeaderError:
    try:
        return find_image(path, extension)
    except (FrameError, HeaderError) as error:
        return error


def paths_in(path: Path) -> list[Path]:
    """Return the paths in a text file, one a line; blank lines and # comments are skipped.

    Raises
    ------
    UsageError
        The file cannot be read.
    """
    text = read_text_file(path, "The list of files", errors="surrogateescape")
    names = [line.strip() for line in text.splitlines()]
    return [Path(name) for name in names if name and not name.startswith("#")]
