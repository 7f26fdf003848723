"""Write the cache of a night, upload and fetch caches, and expire the least used ones.

A store grows in a hidden folder beside its place, gets COMPLETE.json last, is checked by the very
code that will open it, and only then takes its name. A run that is killed leaves a folder that
nobody takes for a cache. Nothing is synced: what a failing disk tears does not pass the check.

Values are stored as they are read, since that is what analysts slice; the stored bits can be had
back from them, unless scaling or BLANK made them: then an array ``stored`` has the bits beside.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
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
    CHUNK_ROWS,
    COMPLETE,
    MOST_METADATA,
    RECORDS,
    SCHEMA,
    SHARD_BYTES,
    CachedFrames,
    ForeignFiles,
    FrameRecord,
    Marker,
    ShardGrid,
    check_cache,
    marker_in,
    open_cache,
    records_to_json,
    require_safe,
    sum_and_size,
)
from arrayred.io.cube import labelled_cube
from arrayred.io.frames import Frame, require_same_unit
from arrayred.io.ledger import HASHES_FILE
from arrayred.io.pixel_checks import sample_bytes
from arrayred.io.pixels import FrameStack, all_plain_pixels
from arrayred.io.publish import publish, require_room
from arrayred.io.remote import (
    Address,
    ByteRange,
    file_system_of,
    is_there,
    read_range,
    read_ranges,
    remote_address,
    retry_remote,
)
from arrayred.io.scan import PixelFormat, dtype_of, is_exact
from arrayred.model import COUNTS, FRAME, X, Y
from arrayred.progress import progressed, stage

if TYPE_CHECKING:
    import xarray as xr

STORED_ARRAY = "stored"
_STRING_KINDS = "OUT"
_AT_BEST = 4  # frames of pure noise take a third of their plain bytes


@dataclass(frozen=True)
class CacheInput:
    """What a cache is made from.

    Parameters
    ----------
    groups : frames that are one array, by the node of the tree that they become.
    names : how each frame's file is called in the cache, by its path.
    checksums : the SHA-256 of each frame's file.
    foreign : files that are no frames, by the name they would have, with the reason.
    key : what is made from what; see `library.key_of`.
    """

    groups: Mapping[str, Sequence[Frame]]
    names: Mapping[Path, str]
    checksums: Mapping[Path, str]
    foreign: ForeignFiles
    key: str


def require_zarr() -> None:
    """Raise UsageError if zarr is not installed."""
    try:
        import zarr  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "Caches need zarr, which is not installed",
            hint="Install it: pip install 'arrayred[zarr]'.",
        ) from error


@stage("writing the cache")
def build_cache(
    night: CacheInput, place: Path, *, overwrite: bool = False, threads: int = 2
) -> None:
    """Write a cache.

    Parameters
    ----------
    night : its frames, and what is known of them.
    place : the folder that it becomes.
    overwrite : replace what is there.
    threads : how many compressed files are unpacked at once.

    Raises
    ------
    UsageError
        Something is there already, or zarr is not installed.
    FrameError
        A frame cannot be read, or not be stored without loss.
    StorageError
        The disk is full or refuses.
    """
    require_zarr()
    if os.path.lexists(place) and not overwrite:
        raise UsageError(
            "There is something already", path=place, hint="Give --overwrite to replace it."
        )
    plain = sum(frame.image.source.n_bytes for frames in night.groups.values() for frame in frames)
    require_room(place.parent, plain // _AT_BEST, "the cache needs")
    partial = place.parent / f".{place.name}.{os.getpid()}-{os.urandom(4).hex()}.partial"
    try:
        partial.mkdir(parents=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of zarr, about strings and consolidated metadata
            _write_store(night, partial, threads)
        check_cache(partial)
        _rename_into_place(partial, place, overwrite=overwrite)
    except OSError as error:
        raise StorageError(
            f"The cache cannot be written ({error.strerror or error})",
            path=place,
            hint="Make room, or choose another folder with --cache-dir or --to.",
        ) from error
    finally:
        _remove_unfinished(partial)


def _remove_unfinished(partial: Path) -> None:
    """Remove an unfinished store; threads of zarr may still write to it for a moment."""
    for delay in (0.02, 0.1, 0.5, 0.0):
        shutil.rmtree(partial, ignore_errors=True)
        if not partial.exists():
            return
        time.sleep(delay)


def _rename_into_place(partial: Path, place: Path, *, overwrite: bool) -> None:
    """Rename a complete store to its place; what another run has put there meanwhile stays."""
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
        if not (place / COMPLETE).is_file():
            raise


def _write_store(night: CacheInput, store: Path, threads: int) -> None:
    """Write groups, records and the mark of completeness."""
    import zarr

    zarr.create_group(store, zarr_format=3)
    records: list[FrameRecord] = []
    for node, frames in night.groups.items():
        records += _write_group(night, store, node, frames, threads)
    zarr.consolidate_metadata(store)
    publish({store / RECORDS: records_to_json(records, night.foreign)})
    files = {
        path.relative_to(store).as_posix(): sum_and_size(path)
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }
    table = {"schema": SCHEMA, "arrayred": __version__, "key": night.key, "files": files}
    publish({store / COMPLETE: json.dumps(table, indent=0, sort_keys=True).encode("ascii")})


def _write_group(
    night: CacheInput, store: Path, node: str, frames: Sequence[Frame], threads: int
) -> Iterator[FrameRecord]:
    """Write the cube of one group, and yield the records of its frames."""
    require_same_unit(frames, "Cache frames of one unit together.")
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
    """Tell whether the type of a stack holds the values of every frame exactly."""
    kinds = [dtype_of(source.pixels) for source in stack.sources]
    rounded = stack.dtype.kind == "f" and any(k.kind in "iu" and k.itemsize == 8 for k in kinds)
    return not rounded and all(np.can_cast(kind, stack.dtype) for kind in kinds)


def _compressors(itemsize: int) -> list[Any]:
    from zarr.codecs import BloscCodec, Crc32cCodec

    blosc = BloscCodec(typesize=itemsize, cname="zstd", clevel=1, shuffle="shuffle")
    return [blosc, Crc32cCodec()]


def _write_labels(store: Path, node: str, cube: xr.Dataset) -> None:
    """Write the coordinates of a cube, texts as such."""
    spoken = cube.assign_coords(
        {
            name: (variable.dims, _utf8_texts(variable.values))
            for name, variable in cube.coords.items()
            if variable.dtype.kind in _STRING_KINDS
        }
    )
    encoding = {
        name: {"compressors": _compressors(max(spoken[name].dtype.itemsize, 1))}
        for name in spoken.variables
    }
    spoken.to_zarr(
        store, group=node, mode="a", zarr_format=3, consolidated=False, encoding=encoding
    )


def _utf8_texts(texts: NDArray[Any]) -> NDArray[Any]:
    """Return texts as objects, without what UTF-8 cannot say (undecodable bytes of a name)."""
    spoken = np.empty(texts.shape, object)
    for where in np.ndindex(texts.shape):
        spoken[where] = str(texts[where]).encode("utf-8", "backslashreplace").decode("utf-8")
    return spoken


def _write_pixels(store: Path, node: str, stack: FrameStack, attributes: dict[str, Any]) -> None:
    """Write the pixels of a stack, shard by shard."""
    import zarr

    grid = ShardGrid.of(stack.shape, stack.dtype.name)
    n_frames, n_rows, n_columns = grid.shape
    array = zarr.create_array(
        store,
        name=node,
        shape=grid.shape,
        dtype=grid.dtype,
        chunks=(1, grid.chunk_rows, n_columns),
        shards=(grid.frames, grid.rows, n_columns),
        compressors=_compressors(stack.dtype.itemsize),
        dimension_names=(FRAME, Y, X),
        attributes=attributes,
        fill_value=0,
        config={"write_empty_chunks": True},
    )
    for start in range(0, n_frames, grid.frames):
        part = FrameStack(stack.sources[start : start + grid.frames])
        for first in range(0, n_rows, grid.rows):
            stop = min(first + grid.rows, n_rows)
            block = np.empty((part.shape[0], stop - first, n_columns), stack.dtype)
            part.read(first, stop, block)
            array[start : start + part.shape[0], first:stop] = block
            progressed(start * n_rows + part.shape[0] * stop, n_frames * n_rows)


# Caches of many nights in one folder, the least used going first: `CacheFolder`.
#
# The folder must be the user's own: whoever can write into it could put other pixels there. A
# cache goes by the SHA-256 of what it was made from, so that two runs that make the same one make
# the same bytes, and whichever comes second finds the first one's in its place.

DEFAULT_CACHE_BYTES = 20 << 30
"""What the caches of a library may take together, unless something else is said."""
_DAY_IN_SECONDS = 86400.0
_SUFFIX = ".zarr"


class CacheEntry(NamedTuple):
    """One cache of a library: its folder, its size in bytes, and when it was last used."""

    place: Path
    n_bytes: int
    used: float


def cache_key(files: Iterable[tuple[str, str]], options: str) -> str:
    """Return the key of a cache: what it is made from, by which version, in which layout.

    Parameters
    ----------
    files : name and SHA-256 of every frame.
    options : what else decides what a cache holds.
    """
    parts = [SCHEMA, __version__, SHARD_BYTES, CHUNK_ROWS, options, sorted(files)]
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()


def default_cache_folder() -> Path:
    """Return where caches lie: ``arrayred`` in $XDG_CACHE_HOME, else in ~/.cache."""
    told = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(told) if told and Path(told).is_absolute() else Path.home() / ".cache"
    return home / "arrayred"


@dataclass(frozen=True)
class CacheFolder:
    """A folder of caches.

    Parameters
    ----------
    folder : made, readable by its owner alone, when the first cache is added.
    most_bytes : what they may take together.
    """

    folder: Path
    most_bytes: int = DEFAULT_CACHE_BYTES

    def find(self, key: str) -> CachedFrames | None:
        """Return the cache of a key, every file of which is as it was written; None if none is.

        Raises
        ------
        FrameError
            There is one, but it is damaged.
        UsageError
            The library is not the user's own.
        """
        place = self.place_of(key)
        if not os.path.lexists(self.folder):
            return None
        self._require_own()
        if not os.path.lexists(place):
            return None
        contents = open_cache(place, wholly=True)
        if contents.key != key:
            raise FrameError("The cache is one of other frames", path=place, hint="Remove it.")
        with contextlib.suppress(OSError):
            os.utime(place)
        return contents

    def is_empty(self) -> bool:
        """Tell whether there is no cache at all, so that no frame need be known by its sum.

        Raises
        ------
        UsageError
            The library is not the user's own.
        """
        if not os.path.lexists(self.folder):
            return True
        self._require_own()
        return next(self.folder.glob(f"*{_SUFFIX}"), None) is None

    def add(self, night: CacheInput, threads: int = 2) -> Path:
        """Write the cache of a night, make room for it, and return its place.

        Raises
        ------
        UsageError
            The library is not the user's own.
        StorageError
            The disk is full or refuses.
        """
        self.prepare()
        place = self.place_of(night.key)
        if not os.path.lexists(place):
            build_cache(night, place, threads=threads)
        self._trim(place)
        return place

    def prepare(self) -> None:
        """Make the folder if it is not there, and sweep out what killed runs left.

        Raises
        ------
        UsageError
            The library is not the user's own.
        StorageError
            It cannot be made.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"The folder of caches cannot be made ({error.strerror})",
                path=self.folder,
                hint="Choose another with --cache-dir, or give --no-cache.",
            ) from error
        self._require_own()
        self._sweep()

    def drop(self, key: str) -> None:
        """Remove the cache of a key, whatever is in its place."""
        self._require_own()
        _remove_cache(self.place_of(key))

    def clear(self) -> list[CacheEntry]:
        """Remove every cache, and return what there was."""
        there = self.entries()
        for entry in there:
            _remove_cache(entry.place)
        if os.path.lexists(self.folder):
            (self.folder / HASHES_FILE).unlink(missing_ok=True)
        if there:
            self._sweep(age=0.0)
        return there

    def entries(self) -> list[CacheEntry]:
        """Return the caches, the least used first."""
        if not self.folder.is_dir():
            return []
        self._require_own()
        places = [p for p in self.folder.glob(f"*{_SUFFIX}") if not p.name.startswith(".")]
        sized = [CacheEntry(p, _size_of(p), p.lstat().st_mtime) for p in places]
        return sorted(sized, key=lambda entry: entry.used)

    def place_of(self, key: str) -> Path:
        """Return where the cache of a key lies."""
        return self.folder / f"{key}{_SUFFIX}"

    def _require_own(self) -> None:
        """Raise UsageError if anybody else owns the folder, or can write into it."""
        status = self.folder.lstat()
        if not hasattr(os, "geteuid"):
            return
        theirs = status.st_uid != os.geteuid()
        if theirs or status.st_mode & stat.S_IWOTH or not stat.S_ISDIR(status.st_mode):
            why = (
                "belongs to somebody else" if theirs else "can be written by anybody, or is a link"
            )
            raise UsageError(
                f"The folder of caches {why}",
                path=self.folder,
                hint="Choose your own with --cache-dir, or give --no-cache.",
            )

    def _sweep(self, age: float = _DAY_IN_SECONDS) -> None:
        """Remove what runs left behind that were killed, if it is old enough not to be alive."""
        for partial in [*self.folder.glob(".*.partial"), *self.folder.glob(".*.old")]:
            with contextlib.suppress(OSError):
                if time.time() - partial.lstat().st_mtime > age:
                    _remove_cache(partial)

    def _trim(self, newest: Path) -> None:
        """Remove the least used caches until the rest is small enough; the newest stays."""
        there = self.entries()
        total = sum(entry.n_bytes for entry in there)
        for entry in there:
            if total > self.most_bytes and entry.place != newest:
                _remove_cache(entry.place)
                total -= entry.n_bytes


def _size_of(place: Path) -> int:
    return sum(path.lstat().st_size for path in place.rglob("*") if not path.is_dir())


def _remove_cache(place: Path) -> None:
    """Remove a cache: its mark of completeness first, so that no half of it is taken for whole."""
    if place.is_symlink() or not place.is_dir():
        place.unlink(missing_ok=True)
        return
    (place / COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(place, ignore_errors=True)


# Caches in object stores and on servers: `upload_cache`, `fetch_cache`.
#
# Wherever fsspec gets (``s3://``, ``gs://``, ``https://``, ``memory://``) a cache may lie. A store
# of objects knows no renaming, so COMPLETE.json is written last and removed first. Whoever slices
# a cache there gets the chunks that are asked for (`io.cache.far`); whoever reduces it reads all
# of it several times, so it is fetched once, whole, into the library, where it is checked like any
# other: 0.4 of the plain bytes, and every later run reads from the disk.

_BATCH_BYTES = 32 << 20


def upload_cache(cache: Path, url: Address, *, overwrite: bool = False) -> None:
    """Copy a cache to a URL; it is complete there when the last of its files is.

    Raises
    ------
    UsageError
        There is one already and `overwrite` is not given, or nothing opens such URLs.
    StorageError
        The store refuses.
    """
    system, root = file_system_of(url)
    names = sorted(p.relative_to(cache).as_posix() for p in cache.rglob("*") if p.is_file())
    try:
        if retry_remote(lambda: system.exists(root), url):
            if not overwrite:
                raise UsageError(
                    "There is something already", path=url, hint="Give --overwrite to replace it."
                )
            if is_there(url / COMPLETE):
                retry_remote(lambda: system.rm(f"{root}/{COMPLETE}"), url)
            retry_remote(lambda: system.rm(root, recursive=True), url)
        for name in (*(name for name in names if name != COMPLETE), COMPLETE):
            content = (cache / name).read_bytes()
            retry_remote(lambda to=f"{root}/{name}", raw=content: system.pipe_file(to, raw), url)
    except UsageError:
        raise
    except ArrayredError as error:
        raise StorageError(
            f"The cache cannot be written ({error.args[0]})",
            path=url,
            hint="Look after address and rights.",
        ) from error


def fetch_cache(url: Address, library: CacheFolder | None = None) -> Path:
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
    library = library or CacheFolder(default_cache_folder())
    try:
        raw = read_range(url / COMPLETE, 0, MOST_METADATA)
    except ArrayredError as error:
        raise InputError(
            f"There is no cache that can be read ({COMPLETE}: {error.args[0]})",
            path=url,
            hint=error.hint,
        ) from error
    place = library.place_of(hashlib.sha256(raw).hexdigest())
    library.prepare()
    if not os.path.lexists(place):
        _fetch_files(url, raw, place, library.most_bytes)
    open_cache(place, wholly=True)
    return place


def _fetch_files(url: Address, complete: bytes, place: Path, most_bytes: int) -> None:
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
        for parts in _download_batches(url, marker):
            for part, raw in zip(parts, read_ranges(parts), strict=True):
                target = partial / part.address.relative_to(url).as_posix()
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("ab") as file:
                    file.write(raw)
        (partial / COMPLETE).write_bytes(complete)
        open_cache(partial, wholly=True)
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


def _download_batches(url: Address, marker: Marker) -> list[Sequence[ByteRange]]:
    """Return all of a cache's files in parts, as many together as may be held at once."""
    portions: list[list[ByteRange]] = [[]]
    held = 0
    for name, (size, _) in sorted(marker.files.items()):
        for first in range(0, max(size, 1), _BATCH_BYTES):
            part = ByteRange(
                remote_address(str(url / name)), first, min(first + _BATCH_BYTES, size)
            )
            if held + part.stop - first > _BATCH_BYTES and portions[-1]:
                portions.append([])
                held = 0
            portions[-1].append(part)
            held += part.stop - first
    return list(portions)
