"""Caches in object stores and on servers: `upload`, `fetch`.

Wherever fsspec gets (``s3://``, ``gs://``, ``https://``, ``memory://``) a cache may lie. A store of
objects knows no renaming, so COMPLETE.json is written last and removed first. Whoever slices a
cache there gets the chunks that are asked for (`io.cache.far`); whoever reduces it reads all of it
several times, so it is fetched once, whole, into the library, where it is checked like any other:
0.4 of the plain bytes, and every later run reads from the disk.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from arrayred.errors import ArrayredError, InputError, StorageError, UsageError
from arrayred.io.cache.check import COMPLETE, MOST_METADATA, Marker, marker_in, require_safe
from arrayred.io.cache.contents import contents_of
from arrayred.io.cache.library import Library, default_folder
from arrayred.io.publish import require_room
from arrayred.io.remote.address import Address, address_of
from arrayred.io.remote.store import Part, is_there, persistently, read, read_parts, system_of

_TOGETHER = 32 << 20


def upload(cache: Path, url: Address, *, overwrite: bool = False) -> None:
    """Copy a cache to a URL; it is complete there when the last of its files is.

    Raises
    ------
    UsageError
        There is one already and `overwrite` is not given, or nothing opens such URLs.
    StorageError
        The store refuses.
    """
    system, root = system_of(url)
    names = sorted(p.relative_to(cache).as_posix() for p in cache.rglob("*") if p.is_file())
    try:
        if persistently(lambda: system.exists(root), url):
            if not overwrite:
                raise UsageError(
                    "There is something already", path=url, hint="Give --overwrite to replace it."
                )
            if is_there(url / COMPLETE):
                persistently(lambda: system.rm(f"{root}/{COMPLETE}"), url)
            persistently(lambda: system.rm(root, recursive=True), url)
        for name in (*(name for name in names if name != COMPLETE), COMPLETE):
            content = (cache / name).read_bytes()
            persistently(lambda to=f"{root}/{name}", raw=content: system.pipe_file(to, raw), url)
    except UsageError:
        raise
    except ArrayredError as error:
        raise StorageError(
            f"The cache cannot be written ({error.args[0]})",
            path=url,
            hint="Look after address and rights.",
        ) from error


def fetch(url: Address, library: Library | None = None) -> Path:
    """Return the copy of a URL's cache in the library, made if need be.

    Raises
    ------
    InputError
        There is no cache at the URL, or it cannot be read.
    FrameError
        It is damaged, or not what arrayred writes.
    UsageError
        Nothing opens such URLs, or the library is not the user's own, or too small.
    StorageError
        There is no room for it.
    """
    library = library or Library(default_folder())
    try:
        raw = read(url / COMPLETE, 0, MOST_METADATA)
    except ArrayredError as error:
        raise InputError(
            f"There is no cache that can be read ({COMPLETE}: {error.args[0]})",
            path=url,
            hint=error.hint,
        ) from error
    place = library.place_of(hashlib.sha256(raw).hexdigest())
    library.prepare()
    if not os.path.lexists(place):
        _fetch(url, raw, place, library.most_bytes)
    contents_of(place, wholly=True)
    return place


def _fetch(url: Address, complete: bytes, place: Path, most_bytes: int) -> None:
    """Copy the files that a mark of completeness lists, and take the name when all are right."""
    partial = place.parent / f".{place.name}.{os.getpid()}-{os.urandom(4).hex()}.partial"
    marker = marker_in(complete, url)
    n_bytes = sum(size for size, _ in marker.files.values())
    if n_bytes > most_bytes:
        raise UsageError(
            "The cache is larger than all caches may be", path=url, hint="Raise --cache-size."
        )
    for name in marker.files:
        require_safe(name, url)
    require_room(place.parent, n_bytes, "the cache needs")
    try:
        for parts in _portions(url, marker):
            for part, raw in zip(parts, read_parts(parts), strict=True):
                target = partial / part.address.relative_to(url).as_posix()
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("ab") as file:
                    file.write(raw)
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


def _portions(url: Address, marker: Marker) -> list[Sequence[Part]]:
    """Return all of a cache's files in parts, as many together as may be held at once."""
    portions: list[list[Part]] = [[]]
    held = 0
    for name, (size, _) in sorted(marker.files.items()):
        for first in range(0, max(size, 1), _TOGETHER):
            part = Part(address_of(str(url / name)), first, min(first + _TOGETHER, size))
            if held + part.stop - first > _TOGETHER and portions[-1]:
                portions.append([])
                held = 0
            portions[-1].append(part)
            held += part.stop - first
    return list(portions)
