"""Write the cache of a night, upload and fetch caches, and remove the least recently used.

A store is written in a hidden folder beside its destination, gets its mark last, is checked by
the same code that will open it, and is then renamed. A killed run leaves a folder that is not a
cache. Nothing is synced: what a failing disk damages does not pass the check.

Decoded values are stored, since those are what analysts slice; the stored bits can be recovered
from them, unless scaling or BLANK was applied: then the array ``stored`` has the bits too.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import stat
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred._version import __version__
from arrayred.errors import ArrayredError, FrameError, InputError, StorageError, UsageError
from arrayred.io.cache import (
    CHUNK_BYTES,
    MARK,
    METADATA,
    MOST_METADATA,
    RECORDS,
    SCHEMA,
    SHARD_BYTES,
    CachedFrames,
    ForeignFiles,
    FrameRecord,
    check_cache,
    chunks_of,
    is_cache,
    marker_in,
    open_cache,
    records_to_json,
    require_safe,
    size_and_sum,
    sum_of_mark,
)
from arrayred.io.cube import labelled_cube
from arrayred.io.frames import Frame, require_same_unit
from arrayred.io.ledger import HASHES_FILE
from arrayred.io.pixel_checks import sample_bytes
from arrayred.io.pixels import FrameStack, all_plain_pixels
from arrayred.io.publish import require_room
from arrayred.io.remote import (
    Address,
    file_system_of,
    is_there,
    read_range,
    retry_remote,
)
from arrayred.io.scan import PixelFormat, dtype_of, is_exact
from arrayred.model import COUNTS, DQ, FRAME, X, Y
from arrayred.progress import progressed, stage

if TYPE_CHECKING:
    import xarray as xr

STORED_ARRAY = "stored"
_STRING_KINDS = "OUT"
_AT_BEST = 4  # frames of pure noise take a third of their plain bytes


@dataclass(frozen=True)
class CacheInput:
    """Inputs of a cache.

    Parameters
    ----------
    groups : frames of one array, by its node in the tree.
    names : name of each frame's file in the cache, by its path.
    checksums : the SHA-256 of each frame's file.
    foreign : files that are not frames, by the name they would have, with the reason.
    key : hash of the inputs; see `cache_key`.
    """

    groups: Mapping[str, Sequence[Frame]]
    names: Mapping[Path, str]
    checksums: Mapping[Path, str]
    foreign: ForeignFiles
    key: str


@stage("writing the cache")
def build_cache(
    night: CacheInput, place: Path, *, overwrite: bool = False, threads: int = 2
) -> None:
    """Write a cache.

    Parameters
    ----------
    night : its frames, with names and checksums.
    place : folder of the cache.
    overwrite : replace an existing file or folder.
    threads : number of compressed files unpacked at once.

    Raises
    ------
    UsageError
        The folder exists already, or Python runs without assertions.
    FrameError
        A frame cannot be read, or not be stored without loss.
    StorageError
        The disk is full or cannot be written.
    """
    if os.path.lexists(place) and not overwrite:
        raise UsageError(
            "The path already exists", path=place, hint="Use --overwrite to replace it."
        )
    if sys.flags.optimize:
        raise UsageError(
            "Python runs without assertions, and zarr does some of its work in them",
            path=place,
            hint="Unset PYTHONOPTIMIZE, or leave out -O.",
        )
    plain = sum(frame.image.source.n_bytes for frames in night.groups.values() for frame in frames)
    require_room(place.parent, plain // _AT_BEST, "the cache needs")
    partial = place.parent / f".{place.name}.{os.getpid()}-{os.urandom(4).hex()}.partial"
    try:
        partial.mkdir(parents=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr's, about strings and consolidated metadata
            _write_store(night, partial, threads)
        check_cache(partial)
        _rename_into_place(partial, place, overwrite=overwrite)
    except OSError as error:
        raise StorageError(
            f"The cache cannot be written ({error.strerror or error})",
            path=place,
            hint="Free some disk space, or choose another folder with --cache-dir or --to.",
        ) from error
    finally:
        _remove_unfinished(partial)


def _remove_unfinished(partial: Path) -> None:
    """Remove an unfinished store, after the writes of zarr that an error left under way.

    Of several files written at once, zarr raises the first error and lets the others go on; one
    that came after the removal would make the folder again.
    """
    if not partial.exists():
        return
    from zarr.core.sync import sync

    sync(_end_of_writes())
    shutil.rmtree(partial, ignore_errors=True)


async def _end_of_writes() -> None:
    """Wait for all other tasks of the event loop, whatever comes of them."""
    others = asyncio.all_tasks() - {task for task in [asyncio.current_task()] if task}
    await asyncio.gather(*others, return_exceptions=True)


def _rename_into_place(partial: Path, place: Path, *, overwrite: bool) -> None:
    """Rename a complete store to its destination; a cache put there by another run is kept."""
    if overwrite and os.path.lexists(place):
        old = partial.with_suffix(".old")
        place.rename(old)
        partial.rename(place)
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.unlink()
        return
    try:
        partial.rename(place)
    except OSError:
        if not is_cache(place):
            raise


def _write_store(night: CacheInput, store: Path, threads: int) -> None:
    """Write groups and records, and mark the root."""
    import zarr

    from arrayred.io.zarr_store import compressors

    zarr.create_group(store, zarr_format=3)
    records: list[FrameRecord] = []
    for node, frames in night.groups.items():
        records += _write_group(night, store, node, frames, threads)
    raw = np.frombuffer(records_to_json(records, night.foreign), np.uint8)
    zarr.create_array(
        store,
        name=RECORDS,
        data=raw,
        chunks=raw.shape,
        compressors=compressors(1),
        dimension_names=("byte",),
        attributes={"long_name": "headers and positions of the frames, JSON"},
    )
    root = zarr.consolidate_metadata(store)
    files = {
        path.relative_to(store).as_posix(): size_and_sum(path)
        for path in sorted(store.rglob("*"))
        if path.is_file() and path != store / METADATA
    }
    mark = {"schema": SCHEMA, "version": __version__, "key": night.key, "files": files}
    told = json.loads((store / METADATA).read_bytes()) | {"attributes": {MARK: mark}}
    root.update_attributes({MARK: mark | {"sha256": sum_of_mark(told)}})


def _write_group(
    night: CacheInput, store: Path, node: str, frames: Sequence[Frame], threads: int
) -> Iterator[FrameRecord]:
    """Write the cube of one group, and yield the records of its frames."""
    require_same_unit(frames, "Cache only frames of the same unit together.")
    for frame in frames:
        if frame.image.planes_of(DQ) and not frame.is_own:
            masks = ", ".join(plane.title for plane in frame.image.planes_of(DQ))
            raise FrameError(
                f"The frame has a mask ({masks}), which a cache does not hold",
                path=frame.path,
                hint="Reduce the night without a cache.",
            )
    stack = FrameStack(all_plain_pixels([frame.image for frame in frames], threads))
    cube = labelled_cube(stack, frames, np.broadcast_to(stack.dtype.type(0), stack.shape))
    texts = {
        "header": ["".join(frame.image.header.images()) for frame in frames],
        "sha256": [night.checksums[frame.path] for frame in frames],
    }
    cube = cube.assign_coords({name: (FRAME, values) for name, values in texts.items()})
    _write_labels(store, node, cube.drop_vars(COUNTS))
    _write_pixels(store, f"{node}/{COUNTS}", stack, dict(cube[COUNTS].attrs))
    is_plain = all(is_exact(frame.image.source.pixels) for frame in frames)
    as_values = is_plain and _holds_all(stack)
    if not as_values:
        bits = FrameStack([replace(s, pixels=PixelFormat(s.pixels.bitpix)) for s in stack.sources])
        if not _holds_all(bits):
            raise FrameError(
                "The frame and others of its group have no common type without loss",
                path=frames[0].path,
                hint="Reduce the night without a cache.",
            )
        _write_pixels(store, f"{node}/{STORED_ARRAY}", bits, {"long_name": "stored bits"})
    for index, frame in enumerate(frames):
        source = frame.image.source
        proof = next((v.text for v in frame.verdicts if v.source == "probe"), "")
        declared = replace(source, pixels=replace(source.pixels, wrapped=False), cached=None)
        yield FrameRecord(
            night.names[frame.path],
            night.checksums[frame.path],
            replace(frame.image, source=declared),
            f"{node}/{COUNTS if as_values else STORED_ARRAY}",
            index,
            source.pixels if as_values else None,
            proof if source.pixels.wrapped else "",
            sample_bytes(frame.image),
        )


def _holds_all(stack: FrameStack) -> bool:
    """Return whether the dtype of a stack holds the values of every frame exactly."""
    kinds = [dtype_of(source.pixels) for source in stack.sources]
    rounded = stack.dtype.kind == "f" and any(k.kind in "iu" and k.itemsize == 8 for k in kinds)
    return not rounded and all(np.can_cast(kind, stack.dtype) for kind in kinds)


def _write_labels(store: Path, node: str, cube: xr.Dataset) -> None:
    """Write the coordinates of a cube, strings as UTF-8."""
    from arrayred.io.zarr_store import compressors

    spoken = cube.assign_coords(
        {
            name: (variable.dims, _utf8_texts(variable.values))
            for name, variable in cube.coords.items()
            if variable.dtype.kind in _STRING_KINDS
        }
    )
    encoding = {
        name: {"compressors": compressors(max(spoken[name].dtype.itemsize, 1))}
        for name in spoken.variables
    }
    spoken.to_zarr(
        store, group=node, mode="a", zarr_format=3, consolidated=False, encoding=encoding
    )


def _utf8_texts(texts: NDArray[Any]) -> NDArray[Any]:
    """Return strings as objects, with undecodable bytes (of a file name) escaped for UTF-8."""
    spoken = np.empty(texts.shape, object)
    for where in np.ndindex(texts.shape):
        spoken[where] = str(texts[where]).encode("utf-8", "backslashreplace").decode("utf-8")
    return spoken


def _write_pixels(store: Path, node: str, stack: FrameStack, attributes: dict[str, Any]) -> None:
    """Write the pixels of a stack, shard by shard."""
    import zarr

    from arrayred.io.zarr_store import compressors

    n_frames, n_rows, n_columns = stack.shape
    chunk, shard = chunks_of(stack.shape, stack.dtype.name)
    array = zarr.create_array(
        store,
        name=node,
        shape=stack.shape,
        dtype=stack.dtype.name,
        chunks=chunk,
        shards=shard,
        compressors=compressors(stack.dtype.itemsize),
        dimension_names=(FRAME, Y, X),
        attributes=attributes,
        fill_value=0,
        config={"write_empty_chunks": True},
    )
    for start in range(0, n_frames, shard[0]):
        part = FrameStack(stack.sources[start : start + shard[0]])
        for first in range(0, n_rows, shard[1]):
            stop = min(first + shard[1], n_rows)
            block = np.empty((part.shape[0], stop - first, n_columns), stack.dtype)
            part.read(first, stop, block)
            array[start : start + part.shape[0], first:stop] = block
            progressed(start * n_rows + part.shape[0] * stop, n_frames * n_rows)


# Folder of the caches of many nights, limited in size: `CacheFolder`.
#
# The folder must be the user's own: others who can write into it could replace pixels. A cache is
# named by the SHA-256 of its inputs, so that two runs that make the same cache write the same
# bytes, and the second finds that of the first.

DEFAULT_CACHE_BYTES = 20 << 30
"""Default limit of the total size of the caches in a folder, bytes."""
_DAY_IN_SECONDS = 86400.0
_SUFFIX = ".zarr"


class CacheEntry(NamedTuple):
    """One cache of a cache folder: its path, its size in bytes, and the time of its last use."""

    place: Path
    n_bytes: int
    used: float


def cache_key(files: Iterable[tuple[str, str]], options: str) -> str:
    """Return the key of a cache: a hash of its inputs, arrayred's version and the layout.

    Parameters
    ----------
    files : name and SHA-256 of every frame.
    options : other settings that its content depends on.
    """
    parts = [SCHEMA, __version__, SHARD_BYTES, CHUNK_BYTES, options, sorted(files)]
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()


def default_cache_folder() -> Path:
    """Return the default folder of caches, such as ``~/.cache/arrayred`` on Linux."""
    from platformdirs import user_cache_path

    return user_cache_path("arrayred")


@dataclass(frozen=True)
class CacheFolder:
    """A folder of caches.

    Parameters
    ----------
    folder : made, readable by its owner alone, when the first cache is added.
    most_bytes : limit of their total size.
    """

    folder: Path
    most_bytes: int = DEFAULT_CACHE_BYTES

    def find(self, key: str) -> CachedFrames | None:
        """Return the cache of a key after comparing all its checksums; None if there is none.

        Raises
        ------
        FrameError
            There is one, but it is damaged.
        UsageError
            The folder is not the user's own.
        """
        place = self.place_of(key)
        if not os.path.lexists(self.folder):
            return None
        self._require_own()
        if not os.path.lexists(place):
            return None
        contents = open_cache(place, wholly=True)
        if contents.key != key:
            raise FrameError("The cache contains other frames", path=place, hint="Remove it.")
        with contextlib.suppress(OSError):
            os.utime(place)
        return contents

    def is_empty(self) -> bool:
        """Return whether there is no cache at all, so that no frame needs to be hashed.

        Raises
        ------
        UsageError
            The folder is not the user's own.
        """
        if not os.path.lexists(self.folder):
            return True
        self._require_own()
        return next(self.folder.glob(f"*{_SUFFIX}"), None) is None

    def add(self, night: CacheInput, threads: int = 2) -> Path:
        """Write the cache of a night, remove old ones above the limit, and return its path.

        Raises
        ------
        UsageError
            The folder is not the user's own.
        StorageError
            The disk is full or cannot be written.
        """
        self.prepare()
        place = self.place_of(night.key)
        if not os.path.lexists(place):
            build_cache(night, place, threads=threads)
        self._trim(place)
        return place

    def prepare(self) -> None:
        """Make the folder if it is missing, and remove incomplete caches of killed runs.

        Raises
        ------
        UsageError
            The folder is not the user's own.
        StorageError
            It cannot be made.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"The folder of caches cannot be made ({error.strerror})",
                path=self.folder,
                hint="Choose another with --cache-dir, or use --no-cache.",
            ) from error
        self._require_own()
        self._sweep()

    def drop(self, key: str) -> None:
        """Remove the cache of a key, or whatever is at its path."""
        self._require_own()
        _remove_cache(self.place_of(key))

    def clear(self) -> list[CacheEntry]:
        """Remove every cache, and return the removed ones."""
        there = self.entries()
        for entry in there:
            _remove_cache(entry.place)
        if os.path.lexists(self.folder):
            (self.folder / HASHES_FILE).unlink(missing_ok=True)
        if there:
            self._sweep(age=0.0)
        return there

    def entries(self) -> list[CacheEntry]:
        """Return the caches, the least recently used first."""
        if not self.folder.is_dir():
            return []
        self._require_own()
        places = [p for p in self.folder.glob(f"*{_SUFFIX}") if not p.name.startswith(".")]
        sized = [CacheEntry(p, _size_of(p), p.lstat().st_mtime) for p in places]
        return sorted(sized, key=lambda entry: entry.used)

    def place_of(self, key: str) -> Path:
        """Return the path of the cache of a key."""
        return self.folder / f"{key}{_SUFFIX}"

    def _require_own(self) -> None:
        """Raise UsageError if anybody else owns the folder, or can write into it."""
        status = self.folder.lstat()
        if not hasattr(os, "geteuid"):
            return
        theirs = status.st_uid != os.geteuid()
        if theirs or status.st_mode & stat.S_IWOTH or not stat.S_ISDIR(status.st_mode):
            why = "belongs to another user" if theirs else "is writable by others, or is a link"
            raise UsageError(
                f"The folder of caches {why}",
                path=self.folder,
                hint="Choose your own with --cache-dir, or use --no-cache.",
            )

    def _sweep(self, age: float = _DAY_IN_SECONDS) -> None:
        """Remove incomplete caches of killed runs, if too old to be in use."""
        for partial in [*self.folder.glob(".*.partial"), *self.folder.glob(".*.old")]:
            with contextlib.suppress(OSError):
                if time.time() - partial.lstat().st_mtime > age:
                    _remove_cache(partial)

    def _trim(self, newest: Path) -> None:
        """Remove the least recently used caches until within the limit; the newest is kept."""
        there = self.entries()
        total = sum(entry.n_bytes for entry in there)
        for entry in there:
            if total > self.most_bytes and entry.place != newest:
                _remove_cache(entry.place)
                total -= entry.n_bytes


def _size_of(place: Path) -> int:
    return sum(path.lstat().st_size for path in place.rglob("*") if not path.is_dir())


def _remove_cache(place: Path) -> None:
    """Remove a cache, its mark first, so that a partial one never counts as complete."""
    if place.is_symlink() or not place.is_dir():
        place.unlink(missing_ok=True)
        return
    (place / METADATA).unlink(missing_ok=True)
    shutil.rmtree(place, ignore_errors=True)


# Caches in object stores and on servers: `upload_cache`, `fetch_cache`.
#
# A cache may be at any URL that fsspec opens (``s3://``, ``gs://``, ``https://``, ``memory://``).
# Object stores cannot rename, so the root's zarr.json, with the mark, is written last and removed
# first. Slicing a remote cache fetches only the chunks needed; reducing reads all of it several
# times, so it is fetched once, whole, into the cache folder, where it is checked like any other:
# 0.4 of the plain bytes, and every later run reads from the disk.


def upload_cache(cache: Path, url: Address, *, overwrite: bool = False) -> None:
    """Copy a cache to a URL; it counts as complete there only when all files are.

    Raises
    ------
    UsageError
        There is one already and `overwrite` is not given, or such URLs cannot be opened.
    StorageError
        The store cannot be written.
    """
    system, root = file_system_of(url)
    names = sorted(p.relative_to(cache).as_posix() for p in cache.rglob("*") if p.is_file())
    names = [*(name for name in names if name != METADATA), METADATA]
    try:
        if retry_remote(lambda: system.exists(root), url):
            if not overwrite:
                raise UsageError(
                    "The path already exists", path=url, hint="Use --overwrite to replace it."
                )
            if is_there(url / METADATA):
                retry_remote(lambda: system.rm(f"{root}/{METADATA}"), url)
            retry_remote(lambda: system.rm(root, recursive=True), url)
        for some in (names[:-1], names[-1:]):  # the mark last
            here, there = [str(cache / name) for name in some], [f"{root}/{name}" for name in some]
            retry_remote(lambda here=here, there=there: system.put(here, there), url)
    except UsageError:
        raise
    except ArrayredError as error:
        raise StorageError(
            f"The cache cannot be written ({error.args[0]})",
            path=url,
            hint="Check the address and your permissions.",
        ) from error


def fetch_cache(url: Address, library: CacheFolder | None = None) -> Path:
    """Return the copy of a remote cache in the cache folder, made if missing.

    Raises
    ------
    InputError
        There is no cache at the URL, or it cannot be read.
    FrameError
        It is damaged, or not what arrayred writes.
    UsageError
        Such URLs cannot be opened, or the cache folder is not the user's own, or its limit is too
        small.
    StorageError
        There is not enough disk space for it.
    """
    library = library or CacheFolder(default_cache_folder())
    try:
        raw = read_range(url / METADATA, 0, MOST_METADATA)
    except ArrayredError as error:
        raise InputError(
            f"No readable cache found ({METADATA}: {error.args[0]})",
            path=url,
            hint=error.hint,
        ) from error
    place = library.place_of(hashlib.sha256(raw).hexdigest())
    library.prepare()
    if not os.path.lexists(place):
        _fetch_files(url, raw, place, library.most_bytes)
    open_cache(place, wholly=True)
    return place


def _fetch_files(url: Address, root: bytes, place: Path, most_bytes: int) -> None:
    """Copy the files that the mark of a root lists, and rename the copy when all are correct."""
    partial = place.parent / f".{place.name}.{os.getpid()}-{os.urandom(4).hex()}.partial"
    marker = marker_in(root, url)
    n_bytes = sum(size for size, _ in marker.files.values())
    if n_bytes > most_bytes:
        raise UsageError(
            "The cache exceeds the maximum size of all caches", path=url, hint="Raise --cache-size."
        )
    for name in marker.files:
        require_safe(name, url)
    require_room(place.parent, n_bytes, "the cache needs")
    system, top = file_system_of(url)
    try:
        for folder in {(partial / name).parent for name in marker.files}:
            folder.mkdir(parents=True, exist_ok=True)
        there = [f"{top}/{name}" for name in marker.files]
        here = [str(partial / name) for name in marker.files]
        retry_remote(lambda: system.get(there, here), url)
        (partial / METADATA).write_bytes(root)
        open_cache(partial, wholly=True)
        if not os.path.lexists(place):
            partial.rename(place)
    except OSError as error:
        raise StorageError(
            f"The cache cannot be downloaded ({error.strerror or error})",
            path=place,
            hint="Free some disk space, or choose another folder with --cache-dir.",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
