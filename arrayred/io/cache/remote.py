"""Caches in object stores and on servers: `upload`, `fetch`.

Wherever fsspec gets (``s3://``, ``gs://``, ``https://``, ``memory://``) a cache may lie. A store of
objects knows no renaming, so COMPLETE.json is written last and removed first. arrayred fetches a
cache once, whole, into the library, where it is checked like any other: 0.4 of the plain bytes, and
every later run reads from the disk. xarray reads the same URL piecemeal, as it does any zarr store.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from arrayred.errors import ArrayredError, InputError, StorageError, UsageError
from arrayred.io.cache.check import COMPLETE, MOST_METADATA, marker_in, require_safe
from arrayred.io.cache.contents import contents_of
from arrayred.io.cache.library import Library, default_folder


def upload(cache: Path, url: str, *, overwrite: bool = False) -> None:
    """Copy a cache to a URL; it is complete there when the last of its files is.

    Raises
    ------
    UsageError
        There is one already and `overwrite` is not given, or nothing opens such URLs.
    StorageError
        The store refuses.
    """
    system, root = _system(url)
    names = sorted(p.relative_to(cache).as_posix() for p in cache.rglob("*") if p.is_file())
    try:
        if system.exists(root) and not overwrite:
            raise UsageError(
                "There is something already", path=url, hint="Give --overwrite to replace it."
            )
        if system.exists(root):
            if system.exists(f"{root}/{COMPLETE}"):
                system.rm(f"{root}/{COMPLETE}")
            system.rm(root, recursive=True)
        for name in (*(name for name in names if name != COMPLETE), COMPLETE):
            system.pipe_file(f"{root}/{name}", (cache / name).read_bytes())
    except ArrayredError:
        raise
    except Exception as error:  # each of fsspec's file systems has errors of its own
        raise StorageError(
            f"The cache cannot be written ({error})",
            path=url,
            hint="Look after address and rights.",
        ) from error


def fetch(url: str, library: Library | None = None) -> Path:
    """Return the copy of a URL's cache in the library, made if need be; see `urls.fetched`."""
    library = library or Library(default_folder())
    system, root = _system(url)
    raw = _get(system, root, COMPLETE, MOST_METADATA)
    place = library.place_of(hashlib.sha256(raw).hexdigest())
    library.prepare()
    if not os.path.lexists(place):
        _fetch(system, root, raw, place, library.most_bytes)
    contents_of(place, wholly=True)
    return place


def _fetch(system: Any, root: str, complete: bytes, place: Path, most_bytes: int) -> None:
    """Copy the files that a mark of completeness lists, and take the name when all are right."""
    partial = place.parent / f".{place.name}.{os.getpid()}-{os.urandom(4).hex()}.partial"
    files = marker_in(complete, Path(root)).files
    if sum(size for size, _ in files.values()) > most_bytes:
        raise UsageError(
            "The cache is larger than all caches may be", path=root, hint="Raise --cache-size."
        )
    try:
        for name, (size, _) in files.items():
            require_safe(name, Path(root))
            target = partial / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(_get(system, root, name, size))
        (partial / COMPLETE).write_bytes(complete)
        contents_of(partial, wholly=True)
        if not os.path.lexists(place):
            partial.rename(place)
    except OSError as error:
        raise StorageError(
            f"The cache cannot be fetched ({error.strerror or error})",
            path=place,
            hint="Make room, or choose another folder with --cache-dir.",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _get(system: Any, root: str, name: str, most: int) -> bytes:
    """Return a file's content, no more bytes of it than promised."""
    try:
        raw: bytes = system.cat_file(f"{root}/{name}", start=0, end=most + 1)
    except Exception as error:  # each of fsspec's file systems has errors of its own
        raise InputError(
            f"There is no cache that can be read ({name}: {error})",
            path=root,
            hint="Look after address and rights.",
        ) from error
    return raw


def _system(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it."""
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise UsageError(
            f"Nothing opens such URLs ({error})",
            path=url,
            hint="For s3:// install it: pip install 'arrayred[s3]'.",
        ) from error
    return system, root.rstrip("/")
