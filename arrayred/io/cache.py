"""Read the cache of a night, local or remote: check it, list its frames, read their pixels.

::

    CACHE.zarr/zarr.json                             the tree, consolidated
    CACHE.zarr/raw/<type>/<group>/counts, exptime, time, header, ...
    CACHE.zarr/masters/<type>/<group>/...            masters that came with the frames
    CACHE.zarr/left_out/<number>/...                 frames of no group: duplicates, products
    CACHE.zarr/records.json                          each frame's file, SHA-256, cards, encoding
    CACHE.zarr/COMPLETE.json                         every file above with its size and SHA-256

`ShardGrid` is the chunking of an array, `check_cache` decides whether a cache is complete and safe,
`FrameRecord` and `CachedFrames` describe its frames, `CachedFrameReader` reads pixels. `io.caching`
writes caches (through zarr) and limits the total size of the caches of many nights.

A cache is disposable, never a source of truth. It is worth its disk space where pixels are slow to
read: compressed frames, slow disks. Plain frames on a local disk are read as fast without it.

Frames of ``CACHE.zarr`` have the paths ``CACHE.zarr/<name>``, at which there is no file: listing a
folder gives them (`io.files.list_files`), and so does finding an image (`io.files.find_image`). A
plain night costs only one look for a cache in its folder.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath
from threading import Lock, local
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import ForeignFileError, FrameError, UsageError
from arrayred.io.header import CARD, Header
from arrayred.io.remote import (
    Address,
    ByteRange,
    Stamp,
    is_fits_name,
    is_there,
    read_range,
    read_ranges,
    remote_address,
    sha256_of_remote,
)
from arrayred.io.scan import (
    ChunkBytes,
    ChunkPlace,
    FrameReader,
    ImageHDU,
    Packing,
    PixelFormat,
    PixelSource,
    decode,
    encode,
    stored_dtype,
)

_open_caches: dict[Path, CachedFrames] = {}
"""Remote caches as last opened: frames in them are found without a request."""


@dataclass(frozen=True)
class CachedFrames:
    """Contents of a cache.

    Parameters
    ----------
    cache : its folder.
    marker : SHA-256 of its COMPLETE.json, which changes with its content.
    key : hash of its inputs; see `io.caching.cache_key`.
    images : its frames by name, each with its reader.
    foreign : files of the night that are not frames, by name, each with the reason.
    n_bytes : size of all its files.
    """

    cache: Path
    marker: str
    key: str
    images: Mapping[str, ImageHDU]
    foreign: Mapping[str, str]
    n_bytes: int

    def names(self, below: Path) -> list[Path]:
        """Return the paths of its files that lie below a folder, as if they were on disk."""
        paths = [self.cache / name for name in (*self.images, *self.foreign)]
        return [path for path in paths if below in path.parents]

    @property
    def by_sha256(self) -> dict[str, ImageHDU]:
        """Return its frames by the SHA-256 of their files."""
        shelves = [(image.source.cached, image) for image in self.images.values()]
        return {shelf.sha256: image for shelf, image in shelves if shelf is not None}


def open_cache(cache: Path, *, wholly: bool = False) -> CachedFrames:
    """Return the contents of a cache after checking it.

    Parameters
    ----------
    cache : the folder.
    wholly : compare the checksums of pixels too.

    Raises
    ------
    FrameError
        It is damaged, or not what arrayred writes.
    """
    if isinstance(cache, Address):
        contents = (
            _load_cached_frames(cache, wholly=True)
            if wholly
            else _open_remote_once(cache, _marker_checksum(cache))
        )
        _open_caches[cache] = contents
        return contents
    return (
        _load_cached_frames(cache, wholly=True)
        if wholly
        else _open_local_once(cache, Stamp.of(_status(cache)))
    )


def cached_checksums(cache: Path) -> dict[Path, str]:
    """Return the SHA-256 of each frame's file by path, after comparing all of the cache.

    Raises
    ------
    FrameError
        A file of the cache, pixels included, has changed since it was written.
    """
    sources = (image.source for image in open_cache(cache, wholly=True).images.values())
    return {source.path: source.cached.sha256 for source in sources if source.cached}


def cache_of_frame(shelf: FrameReader) -> Path:
    """Return the cache that holds a frame."""
    if shelf.remote is not None:
        return shelf.remote.cache
    return next((folder for folder in shelf.array.parents if is_cache(folder)), shelf.array)


def _marker_checksum(cache: Path) -> str:
    """Return the SHA-256 of a remote cache's COMPLETE.json, fetched now."""
    return marker_of(cache).sha256


@lru_cache(maxsize=16)
def _open_remote_once(cache: Address, _mark: str) -> CachedFrames:
    return _load_cached_frames(cache, wholly=False)


def _status(cache: Path) -> os.stat_result:
    try:
        return (cache / COMPLETE).stat()
    except OSError as error:
        raise refused_cache_error(cache / COMPLETE, f"cannot be read ({error.strerror})") from error


@lru_cache(maxsize=16)
def _open_local_once(cache: Path, _stamp: Stamp) -> CachedFrames:
    return _load_cached_frames(cache, wholly=False)


def _load_cached_frames(cache: Path, *, wholly: bool) -> CachedFrames:
    marker, grids = check_cache(cache, wholly=wholly)
    try:
        records, foreign = records_from_json(read_records(cache, marker))
        far = remote_shards_of(cache, marker) if isinstance(cache, Address) else None
        images = {r.name: _image_in_cache(cache, r, grids, marker.sha256, far) for r in records}
    except UsageError as error:
        raise refused_cache_error(cache, f"is refused: {error.args[0]}") from error
    n_bytes = marker.n_bytes + sum(size for size, _ in marker.files.values())
    return CachedFrames(cache, marker.sha256, marker.key, images, dict(foreign), n_bytes)


def _image_in_cache(
    cache: Path,
    record: FrameRecord,
    grids: Mapping[str, ShardGrid],
    marker: str,
    far: RemoteShards | None,
) -> ImageHDU:
    """Return a frame whose pixels are read from the cache."""
    grid, source = grids.get(record.array), record.image.source
    if grid is None or record.index >= grid.shape[0] or source.shape != grid.shape[1:]:
        raise UsageError(f"{record.name} lies in no array of the cache")
    shelf = CachedFrameReader(
        cache / record.array,
        grid,
        record.index,
        record.coding,
        record.sha256,
        marker,
        record.proof,
        record.sample,
        far,
    )
    return replace(record.image, source=replace(source, path=cache / record.name, cached=shelf))


def enclosing_cache(path: Path) -> Path | None:
    """Return the cache that a path is, or that holds it if there is no such file; or None."""
    if isinstance(path, Address):
        return _enclosing_remote_cache(path)
    if is_cache(path):
        return path
    return None if path.exists() else next(filter(is_cache, path.parents), None)


def _enclosing_remote_cache(address: Address) -> Address | None:
    """Return the remote cache that an address is or lies in; only ``.zarr`` folders are queried."""
    around = [address, *address.parents]
    known = next((folder for folder in around if folder in _open_caches), None)
    if known is None:
        likely = (folder for folder in around if folder.suffix == ".zarr")
        return next((folder for folder in likely if is_there(folder / COMPLETE)), None)
    return known


def cached_files(cache: Path, folder: Path, depth: int) -> list[Path]:
    """Return the sorted paths of the files in a cache, below a folder and up to a depth."""
    paths = sorted(open_cache(cache).names(folder))
    return [path for path in paths if len(path.relative_to(folder).parts) <= depth]


def forget_cache(cache: Path) -> None:
    """Forget a remote cache, so that it is queried again."""
    _open_caches.pop(cache, None)


def cached_image(path: Path) -> ImageHDU | None:
    """Return the cached frame with the path of no existing file, or None.

    Raises
    ------
    ForeignFileError
        The file was not a frame when the cache was built.
    """
    cache = enclosing_cache(path)
    if cache is None:
        return None
    contents = _open_caches.get(cache) or open_cache(cache)
    name = path.relative_to(cache).as_posix()
    if name in contents.foreign:
        raise ForeignFileError(contents.foreign[name], path=path, hint="Move it away.")
    return contents.images.get(name)


# Chunks of a remote cache, only those needed, in one request: `RemoteShards`.
#
# A row through 400 frames lies in 400 chunks of one shard. Requested one after the other they would
# take as many round trips; `RemoteShards.fetch` requests all of them together, once the table of
# the shard is known, which is read once. The data are compared with the checksum of each chunk and
# with the cache's COMPLETE.json: a cache that was replaced meanwhile has another one, and its
# pixels are never mixed with those read before.

_MOST_TABLES = 256
_shard_tables: dict[tuple[Path, str], NDArray[np.uint64]] = {}
_tables_lock = Lock()


@dataclass(frozen=True, eq=False)
class RemoteShards:
    """Reader of the shards of one remote cache.

    Parameters
    ----------
    cache : its address.
    mark : the SHA-256 of its COMPLETE.json.
    n_mark : the size of that, bytes.
    sizes : of its files, by name, bytes.
    """

    cache: Address
    mark: str
    n_mark: int
    sizes: Mapping[str, int]

    def fetch(self, wanted: Sequence[ChunkPlace]) -> ChunkBytes:
        """Return chunks as they are stored.

        Raises
        ------
        FrameError
            The cache is damaged, has changed since it was opened, or cannot be fetched.
        """
        tables = self._tables({(path, n_chunks) for path, n_chunks, _ in wanted})
        parts = []
        for path, n_chunks, slot in wanted:
            offset, size = map(int, tables[path][slot])
            if not LEAST_BYTES <= size <= self._size(path) - shard_table_bytes(n_chunks) - offset:
                raise damaged_cache_error(path, "a chunk is missing")
            parts.append(ByteRange(_remote_address_of(path), offset, offset + size))
        found = read_ranges(parts)
        self._require_same()
        return {(path, slot): raw for (path, _, slot), raw in zip(wanted, found, strict=True)}

    def _tables(self, shards: set[tuple[Path, int]]) -> dict[Path, NDArray[np.uint64]]:
        """Return the tables of shards, given with their number of chunks; each is read once."""
        with _tables_lock:
            known = {path: _shard_tables.get((path, self.mark)) for path, _ in shards}
        new = [(path, n) for path, n in sorted(shards) if known[path] is None]
        ends = [self._size(path) for path, _ in new]
        parts = [
            ByteRange(_remote_address_of(path), max(end - shard_table_bytes(n), 0), end)
            for (path, n), end in zip(new, ends, strict=True)
        ]
        read_now = {
            path: parse_shard_table(raw, path, n)
            for (path, n), raw in zip(new, read_ranges(parts), strict=True)
        }
        with _tables_lock:
            while len(_shard_tables) > _MOST_TABLES:
                _shard_tables.pop(next(iter(_shard_tables)))
            _shard_tables.update({(path, self.mark): table for path, table in read_now.items()})
        return {path: table for path, table in known.items() if table is not None} | read_now

    def _size(self, path: Path) -> int:
        name = path.relative_to(self.cache).as_posix()
        return self.sizes[name]

    def _require_same(self) -> None:
        raw = read_range(self.cache / COMPLETE, 0, self.n_mark + 1)
        if hashlib.sha256(raw).hexdigest() != self.mark:
            raise FrameError(
                "The cache has changed since it was opened", path=self.cache, hint="Run again."
            )


def remote_shards_of(cache: Address, marker: Marker) -> RemoteShards:
    """Return the reader of the shards of a remote cache."""
    sizes = {name: size for name, (size, _) in marker.files.items()}
    return RemoteShards(cache, marker.sha256, marker.n_bytes, sizes)


def _remote_address_of(path: Path) -> Address:
    return path if isinstance(path, Address) else remote_address(str(path))


# Shards and chunks of a cube, and their zarr metadata: `ShardGrid`.
#
# A shard is all frames x as many rows as stay under 128 MB, so that a band is one file; it holds
# chunks of one frame x 64 rows, so that reading a single frame reads no other; with many frames
# chunks have fewer rows, down to 16, so that a shard has at least four rows of chunks, and reading
# a row of pixels through all frames reads a part of one shard, not all of it. Each chunk is
# shuffled by bytes, compressed (zstd, level 1: 0.33 of the size on frames of pure noise), and
# protected by a CRC-32C, since 52 of 60 flipped bits came back as wrong pixels without one.

SHARD_BYTES = 128 << 20
CHUNK_ROWS = 64
_MIN_CHUNK_ROWS = 8
_LOW_ROWS = 16
_ROWS_OF_CHUNKS = 4
_MAX_ARRAY_PIXELS = 2**40
DTYPES = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
DTYPES += ("float32", "float64")
"""The dtypes that pixels may have."""
_LITTLE_ENDIAN: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC_CODEC: dict[str, Any] = {"name": "crc32c"}


@dataclass(frozen=True, slots=True)
class ShardGrid:
    """An array (frame, y, x) divided into shards (frame, row) of chunks of one frame.

    Parameters
    ----------
    shape : (n_frames, n_rows, n_columns).
    dtype : the name of one of `DTYPES`.
    frames : frames of a shard.
    rows : rows of a shard.
    chunk_rows : rows of a chunk; a shard has a whole number of chunks.
    """

    shape: tuple[int, int, int]
    dtype: str
    frames: int
    rows: int
    chunk_rows: int

    @classmethod
    def of(cls, shape: tuple[int, int, int], dtype: str) -> Self:
        """Return the grid of a cube.

        Examples
        --------
        >>> ShardGrid.of((100, 1024, 1024), "uint16")
        ShardGrid(shape=(100, 1024, 1024), dtype='uint16', frames=100, rows=640, chunk_rows=64)
        """
        n_frames, n_rows, n_columns = shape
        row = n_columns * np.dtype(dtype).itemsize
        chunk_rows = CHUNK_ROWS
        while chunk_rows > _MIN_CHUNK_ROWS and _is_tall(n_frames * chunk_rows * row, chunk_rows):
            chunk_rows //= 2
        frames = min(n_frames, max(SHARD_BYTES // (chunk_rows * row), 1))
        most = SHARD_BYTES // (frames * chunk_rows * row)
        rows = max(min(most, -(-n_rows // chunk_rows)), 1) * chunk_rows
        return cls(shape, dtype, frames, rows, chunk_rows)

    @property
    def chunk_pixels(self) -> int:
        """Return the number of pixels of one chunk."""
        return self.chunk_rows * self.shape[2]

    @property
    def chunk_bytes(self) -> int:
        """Return the uncompressed size of one chunk, bytes."""
        return self.chunk_pixels * np.dtype(self.dtype).itemsize

    @property
    def chunks_per_shard(self) -> tuple[int, int]:
        """Return the number of chunks of a shard along frames and rows."""
        return self.frames, self.rows // self.chunk_rows

    @property
    def n_shards(self) -> tuple[int, int]:
        """Return the number of shards along frames and rows."""
        return -(-self.shape[0] // self.frames), -(-self.shape[1] // self.rows)

    def shard_names(self) -> Iterator[str]:
        """Yield the names of the shards' files, relative to the array."""
        frames, rows = self.n_shards
        yield from (f"c/{i}/{j}/0" for i in range(frames) for j in range(rows))

    def metadata(self) -> dict[str, Any]:
        """Return the part of the array's zarr.json that describes shape, dtype and chunking."""
        size = np.dtype(self.dtype).itemsize
        blosc = {
            "typesize": size, "cname": "zstd", "clevel": 1, "shuffle": "shuffle", "blocksize": 0,
        }  # fmt: skip
        inner = [
            _LITTLE_ENDIAN if size > 1 else {"name": "bytes"},
            {"name": "blosc", "configuration": blosc},
            _CRC_CODEC,
        ]
        sharding = {
            "chunk_shape": [1, self.chunk_rows, self.shape[2]],
            "codecs": inner,
            "index_codecs": [_LITTLE_ENDIAN, _CRC_CODEC],
            "index_location": "end",
        }
        chunk_shape = [self.frames, self.rows, self.shape[2]]
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk_shape}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "storage_transformers": [],
        }

    @classmethod
    def from_metadata(cls, found: Any) -> Self:
        """Return the grid of an array's zarr.json.

        Raises
        ------
        UsageError
            It is not an array as arrayred writes it, or its size is invalid.
        """
        try:
            shape = found["shape"]
            frames, rows, _ = found["chunk_grid"]["configuration"]["chunk_shape"]
            chunk = found["codecs"][0]["configuration"]["chunk_shape"]
            _require_counts([*shape, frames, rows, *chunk])
            grid = cls((shape[0], shape[1], shape[2]), found["data_type"], frames, rows, chunk[1])
            is_ours = grid.dtype in DTYPES and rows % chunk[1] == 0 and len(shape) == 3
            parts = {key: found.get(key) for key in grid.metadata()} if is_ours else None
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"The pixels are described by no words of ours ({error!r})") from error
        if not is_ours or parts != grid.metadata():
            raise UsageError("The pixels are not stored as arrayred stores them")
        plain = max(SHARD_BYTES, _MIN_CHUNK_ROWS * shape[2] * 8)
        if math.prod(shape) > _MAX_ARRAY_PIXELS or grid.chunk_bytes > plain:
            raise UsageError(f"The shape {tuple(shape)} is no night's")
        return grid


def _is_tall(n_bytes: int, chunk_rows: int) -> bool:
    """Return whether chunks have too many rows, given the size of a chunk row of all frames."""
    return n_bytes > SHARD_BYTES or (
        chunk_rows > _LOW_ROWS and n_bytes * _ROWS_OF_CHUNKS > SHARD_BYTES
    )


def _require_counts(numbers: list[Any]) -> None:
    """Raise ValueError unless all are whole numbers from 1 on."""
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 2**31:
            raise ValueError(number)


# Check that a cache is complete and safe before anything in it is used: `check_cache`.
#
# A cache may come from anybody, as frames may. Anything that is not exactly what arrayred writes
# is refused: every file must be a regular one that COMPLETE.json lists with its size, metadata must
# have the SHA-256 listed there, and arrays must have the dtypes, codecs and shards of `ShardGrid`.
# Nothing is inflated, allocated by a stated size, or imported by a name from a file.
#
# Accidental damage is found in the same way: a file that is missing, truncated, zeroed or has one
# bit flipped differs in size or checksum. The checksums of shards are compared on request, since
# that reads them all; without it a damaged chunk is an error when it is read, by its own CRC-32C.
#
# For a remote cache only metadata are fetched, and shards are assumed to exist with the listed size
# until a chunk is read.

COMPLETE = "COMPLETE.json"
RECORDS = "records.json"
METADATA = "zarr.json"
SCHEMA = 2
"""Version of the format, to be raised whenever a cache is written or read in another way."""
MOST_METADATA = 256 << 20
"""Largest metadata file, bytes."""
_WRONG_CHECKSUM = "has not the checksum that it had when it was written"
_MOST_FILES = 10**6
_MOST_DEEP = 16
_MOST_VALUES = 2**32
_SAFE_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._+,@=-]{1,255}")
_CODECS = {"bytes", "blosc", "crc32c", "zstd", "vlen-utf8", "sharding_indexed"}
_COORD_DTYPES = (*DTYPES, "bool", "string")
_PIXEL_CODINGS = ("counts", "stored")


@dataclass(frozen=True)
class Marker:
    """Content of a cache's COMPLETE.json.

    Parameters
    ----------
    key : hash of its inputs; see `io.caching.cache_key`.
    files : size and SHA-256 of every file, by its name relative to the cache.
    sha256 : of COMPLETE.json.
    n_bytes : size of COMPLETE.json.
    """

    key: str
    files: Mapping[str, tuple[int, str]]
    sha256: str
    n_bytes: int = 0


def is_cache(folder: Path) -> bool:
    """Return whether a folder looks like a cache, complete or not."""
    return (folder / COMPLETE).is_file()


def marker_of(cache: Path) -> Marker:
    """Return the content of a cache's COMPLETE.json.

    Raises
    ------
    FrameError
        It is invalid, or was written by another version.
    """
    return marker_in(_read_metadata(cache / COMPLETE), cache)


def marker_in(raw: bytes, cache: Path) -> Marker:
    """Return the marker in the bytes of a COMPLETE.json; see `marker_of`."""
    try:
        told = json.loads(raw)
        if told["schema"] != SCHEMA:
            raise FrameError(
                "The cache was written by another version of arrayred",
                path=cache,
                hint="Build it again with `arrayred cache`.",
            )
        files = {str(name): (int(size), str(sha)) for name, (size, sha) in told["files"].items()}
        return Marker(str(told["key"]), files, hashlib.sha256(raw).hexdigest(), len(raw))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise refused_cache_error(cache / COMPLETE, f"it makes no sense ({error!r})") from error


def check_cache(cache: Path, *, wholly: bool = False) -> tuple[Marker, dict[str, ShardGrid]]:
    """Return a cache's marker, and the grids of its pixel arrays by name, if complete and safe.

    Parameters
    ----------
    cache : the folder.
    wholly : compare the checksums of pixels too.

    Raises
    ------
    FrameError
        It is damaged, or not what arrayred writes.
    """
    marker = marker_of(cache)
    compare = _check_remote_files if isinstance(cache, Address) else _check_local_files
    metadata = compare(cache, marker, wholly)
    grids: dict[str, ShardGrid] = {}
    for name, raw in metadata.items():
        grids |= _grid_in_metadata(cache, name.removesuffix(METADATA).rstrip("/"), marker, raw)
    return marker, grids


def _check_local_files(cache: Path, marker: Marker, wholly: bool) -> dict[str, bytes]:
    """Return the metadata of a local cache by name, if its files are exactly the listed ones."""
    found = dict(_cache_files(cache))
    if odd := sorted(found.keys() ^ marker.files.keys()):
        what = "is there, but not listed" if odd[0] in found else "is missing"
        raise refused_cache_error(cache / odd[0], what)
    for name, (size, sha256) in marker.files.items():
        if found[name] != size:
            raise refused_cache_error(cache / name, f"has {found[name]} bytes instead of {size}")
        if (wholly or name.endswith(".json")) and _sha256_of_file(cache / name) != sha256:
            raise refused_cache_error(cache / name, _WRONG_CHECKSUM)
    return {
        name: _read_metadata(cache / name) for name in marker.files if Path(name).name == METADATA
    }


def _check_remote_files(cache: Path, marker: Marker, wholly: bool) -> dict[str, bytes]:
    """Return the metadata of a remote cache by name, fetched in one request."""
    for name in marker.files:
        require_safe(name, cache)
    told = {name: size for name, (size, _) in marker.files.items() if Path(name).name == METADATA}
    if sum(told.values()) > MOST_METADATA:
        raise refused_cache_error(cache / COMPLETE, "lists more metadata than arrayred writes")
    parts = [
        ByteRange(remote_address(str(cache / name)), 0, size + 1) for name, size in told.items()
    ]
    found = dict(zip(told, read_ranges(parts), strict=True))
    for name, raw in found.items():
        _require_checksum(raw, cache, name, marker)
    for name, (_, sha256) in marker.files.items() if wholly else ():
        if name not in found and sha256_of_remote(remote_address(str(cache / name))) != sha256:
            raise refused_cache_error(cache / name, _WRONG_CHECKSUM)
    return found


def _require_checksum(raw: bytes, cache: Path, name: str, marker: Marker) -> None:
    if hashlib.sha256(raw).hexdigest() != marker.files[name][1]:
        raise refused_cache_error(cache / name, _WRONG_CHECKSUM)


def _cache_files(cache: Path, below: str = "", depth: int = 0) -> Iterator[tuple[str, int]]:
    """Yield name and size of every file but COMPLETE.json; links and strange names are refused."""
    with os.scandir(cache / below) as entries:
        for count, entry in enumerate(entries):
            name = f"{below}{entry.name}"
            status = entry.stat(follow_symlinks=False)
            is_safe = _SAFE_NAME.fullmatch(entry.name) is not None and count < _MOST_FILES
            if stat.S_ISDIR(status.st_mode) and is_safe and depth < _MOST_DEEP:
                yield from _cache_files(cache, f"{name}/", depth + 1)
            elif stat.S_ISREG(status.st_mode) and is_safe:
                if name != COMPLETE:
                    yield name, status.st_size
            else:
                raise refused_cache_error(
                    cache / name, "is no regular file with a name that arrayred gives"
                )


def require_safe(name: str, cache: Path) -> None:
    """Raise FrameError unless a file's name is one that arrayred gives, inside the cache."""
    parts = name.split("/")
    if len(parts) > _MOST_DEEP + 1 or not all(map(_SAFE_NAME.fullmatch, parts)):
        raise refused_cache_error(cache / COMPLETE, f"lists the name {name!r}")


def _grid_in_metadata(cache: Path, node: str, marker: Marker, raw: bytes) -> dict[str, ShardGrid]:
    """Return the grid of an array of pixels, under its name; nothing for any other node."""
    path = cache / node / METADATA
    try:
        told = json.loads(raw)
        for inner in _nodes_in_metadata(told):
            _require_harmless(inner)
        if Path(node).name not in _PIXEL_CODINGS:
            return {}
        grid = ShardGrid.from_metadata(told)
        names = [name for name in marker.files if name.startswith(f"{node}/c/")]
        if len(names) != math.prod(grid.n_shards) or {
            f"{node}/{name}" for name in grid.shard_names()
        } != set(names):
            raise UsageError("Its shards are not those of its shape")
        return {node: grid}
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError, UsageError) as error:
        raise refused_cache_error(path, f"is refused: {error}") from error


def _nodes_in_metadata(told: Any) -> Iterator[Any]:
    """Yield metadata, and the consolidated metadata in them, whose names must be safe."""
    yield told
    inside = (told.get("consolidated_metadata") or {}).get("metadata", {})
    for name, inner in inside.items():
        if not all(_SAFE_NAME.fullmatch(part) for part in name.split("/")):
            raise ValueError(f"the node name {name!r}")
        yield inner


def _require_harmless(told: Any) -> None:
    """Raise ValueError unless a node is a group, or an array with a dtype and codecs of ours."""
    if told["node_type"] == "group":
        return
    if told["node_type"] != "array" or told["zarr_format"] != 3 or told["storage_transformers"]:
        raise ValueError("this is no array of zarr's format 3")
    if told["data_type"] not in _COORD_DTYPES:
        raise ValueError(f"the type {told['data_type']!r}")
    if math.prod(told["shape"]) > _MOST_VALUES * (2**8 if len(told["shape"]) == 3 else 1):
        raise ValueError(f"the shape {told['shape']}")
    codecs = [codec["name"] for codec in told["codecs"]]
    if odd := set(codecs) - _CODECS:
        raise ValueError(f"the codecs {sorted(odd)}")


def read_records(cache: Path, marker: Marker) -> bytes:
    """Return the bytes of a cache's records.json."""
    if RECORDS not in marker.files:
        raise refused_cache_error(cache / COMPLETE, "lists no records")
    raw = _read_metadata(cache / RECORDS)
    _require_checksum(raw, cache, RECORDS, marker)
    return raw


def _read_metadata(path: Path) -> bytes:
    if isinstance(path, Address):
        raw = read_range(path, 0, MOST_METADATA + 1)
        if len(raw) > MOST_METADATA:
            raise refused_cache_error(path, "is larger than any that arrayred writes")
        return raw
    try:
        if path.stat().st_size > MOST_METADATA:
            raise refused_cache_error(path, "is larger than any that arrayred writes")
        return path.read_bytes()
    except OSError as error:
        raise refused_cache_error(path, f"cannot be read ({error.strerror})") from error


def sum_and_size(path: Path) -> tuple[int, str]:
    """Return size and SHA-256 of a file."""
    return path.stat().st_size, _sha256_of_file(path)


def _sha256_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refused_cache_error(path: Path, what: str) -> FrameError:
    """Return the error for a cache that is damaged, or not written by arrayred."""
    return FrameError(
        f"The cache is damaged or not arrayred's: this {what}",
        path=path,
        hint="Build it again with `arrayred cache`, or reduce the night without it.",
    )


# Records of a cache: cards, encoding and checksum of each frame, as JSON: `FrameRecord`.
#
# The cards are stored byte for byte (Latin-1), so that a frame from a cache is described by the
# same code as one from a file, under any instrument and with any option.

ForeignFiles = tuple[tuple[str, str], ...]
_MOST_FRAMES = 10**6
_MOST_SAMPLED = 1 << 20


@dataclass(frozen=True)
class FrameRecord:
    """One frame of a cache.

    Parameters
    ----------
    name : of its file, relative to the night's folder.
    sha256 : of its file.
    image : position of its pixels in that file, and its cards.
    array : the array that holds its pixels, relative to the cache.
    index : its number in that array, from 0.
    coding : the encoding with which stored bits were decoded to the array's values; None: the array
        holds the bits.
    proof : evidence from frames outside the cache about its sign; "" where none was needed.
    sample : its sampled stored pixels (`io.pixel_checks.sample_bytes`), little-endian.
    """

    name: str
    sha256: str
    image: ImageHDU
    array: str
    index: int
    coding: PixelFormat | None
    proof: str = ""
    sample: bytes = b""

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON-ready values."""
        source = self.image.source
        return {
            "name": self.name,
            "sha256": self.sha256,
            "array": self.array,
            "index": self.index,
            "coding": None if self.coding is None else astuple(self.coding),
            "proof": self.proof,
            "sample": b64encode(self.sample).decode("ascii"),
            "offset": source.offset,
            "shape": source.shape,
            "pixels": astuple(source.pixels),
            "stamp": astuple(source.stamp),
            "hdu": self.image.hdu,
            "packing": self.image.packing,
            "cards": "".join(self.image.header.images()),
        }

    @classmethod
    def from_json(cls, entry: Any) -> Self:
        """Return a record; raise ValueError, KeyError or TypeError if the entry is invalid."""
        cards = _require_string(entry["cards"])
        header = Header(cards[i : i + CARD] for i in range(0, len(cards), CARD))
        n_rows, n_columns = map(_require_whole_number, entry["shape"])
        source = PixelSource(
            Path(entry["name"]),
            _require_whole_number(entry["offset"]),
            (n_rows, n_columns),
            _pixel_format_in(entry["pixels"]),
            Stamp(*map(_require_whole_number, entry["stamp"])),
        )
        if entry["packing"] not in get_args(Packing):
            raise ValueError(entry["packing"])
        return cls(
            _safe_name(entry["name"]),
            _require_string(entry["sha256"]),
            ImageHDU(source, header, _require_whole_number(entry["hdu"]), entry["packing"]),
            _require_string(entry["array"]),
            _require_whole_number(entry["index"]),
            None if entry["coding"] is None else _pixel_format_in(entry["coding"]),
            _require_string(entry["proof"]),
            _sample_in_record(entry["sample"], source.pixels.bitpix),
        )


def records_to_json(records: Iterable[FrameRecord], foreign: ForeignFiles) -> bytes:
    """Return the records of a cache, and the files that are not frames, as the bytes of a file."""
    table = {"frames": [r.to_json() for r in records], "foreign": foreign}
    return json.dumps(table, indent=0, sort_keys=True).encode("ascii")


def records_from_json(raw: bytes) -> tuple[list[FrameRecord], ForeignFiles]:
    """Return the records in a file, and the files that are not frames.

    Raises
    ------
    UsageError
        They are not what arrayred writes.
    """
    try:
        table = json.loads(raw)
        entries: Sequence[Any] = table["frames"]
        if not 0 < len(entries) <= _MOST_FRAMES:
            raise ValueError(len(entries))
        records = [FrameRecord.from_json(entry) for entry in entries]
        if len({record.name for record in records}) < len(records):
            raise ValueError("a name stands twice")
        return records, tuple(
            (_require_string(name), _require_string(why)) for name, why in table["foreign"]
        )
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise UsageError(f"The records of its frames make no sense ({error!r})") from error


def _pixel_format_in(entry: Any) -> PixelFormat:
    bitpix, bzero, bscale, blank, wrapped = entry
    told = PixelFormat(bitpix, float(bzero), float(bscale), blank, wrapped)
    known = bitpix in (8, 16, 32, 64, -32, -64) and isinstance(wrapped, bool)
    if not known or not (blank is None or isinstance(blank, int)):
        raise ValueError(entry)
    return told


def _require_whole_number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(value)
    return value


def _require_string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _sample_in_record(value: Any, bitpix: int) -> bytes:
    raw = b64decode(_require_string(value), validate=True)
    if len(raw) > _MOST_SAMPLED or len(raw) % (abs(bitpix) // 8):
        raise ValueError(len(raw))
    return raw


def _safe_name(value: Any) -> str:
    """Return a file's name if it stays below the folder and has the suffix of a frame."""
    path = PurePosixPath(_require_string(value))
    if path.is_absolute() or ".." in path.parts or "\0" in value or str(path) != value:
        raise ValueError(value)
    if not is_fits_name(value):
        raise ValueError(value)
    return str(value)


# Table and checksums of a shard: `parse_shard_table`.
#
# Each chunk ends with the CRC-32C of its bytes; so does the table at the end of the shard, which
# gives offset and size of every chunk. Both are compared before any value is used.

CRC_BYTES = 4
LEAST_BYTES = 16 + CRC_BYTES
"""Smallest chunk, bytes: the Blosc header with its sizes, and the checksum."""
_ENTRY_BYTES = 16


def shard_table_bytes(n_chunks: int) -> int:
    """Return the size of the table of a shard, bytes.

    Examples
    --------
    >>> shard_table_bytes(100)
    1604
    """
    return n_chunks * _ENTRY_BYTES + CRC_BYTES


def parse_shard_table(raw: bytes, path: Path, n_chunks: int) -> NDArray[np.uint64]:
    """Return offset and size of each chunk (chunk, 2) from the table at the end of a shard.

    Raises
    ------
    FrameError
        The table is damaged.
    """
    if len(raw) != shard_table_bytes(n_chunks) or not has_valid_crc(raw):
        raise damaged_cache_error(path, "the checksum of its table is wrong")
    table: NDArray[np.uint64] = np.frombuffer(raw, "<u8", 2 * n_chunks).reshape(-1, 2)
    return table


def has_valid_crc(raw: bytes) -> bool:
    """Return whether bytes end with the CRC-32C of those before it."""
    from google_crc32c import value as crc32c

    return bool(crc32c(raw[:-CRC_BYTES]) == int.from_bytes(raw[-CRC_BYTES:], "little"))


def damaged_cache_error(path: Path, what: str) -> FrameError:
    """Return the error for a damaged part of a cache."""
    return FrameError(
        f"The cache is damaged: {what}",
        path=path,
        hint="Build it again with `arrayred cache NIGHT`, or reduce the night without it.",
    )


# Pixels of one frame, read from a shard: `CachedFrameReader`.
#
# A shard is read here and not by zarr: it ends with a table of offsets and a CRC-32C, each chunk
# with a CRC-32C of its own, and nothing else is needed. Sizes are limited by the grid before chunks
# are inflated, a missing chunk is an error instead of zeros, threads run in parallel, and only the
# decompressor has to be imported: 100 frames 1024 x 1024 take 0.38 s on one thread, 1.0 s through
# zarr 3.1, which takes 0.3 s to import as well. Tests compare the pixels of both.

Pixels = NDArray[Any]
_thread_scratch = local()
_SHARD_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class CachedFrameReader:
    """Reader of the pixels of one frame in an array of a cache.

    Parameters
    ----------
    array : the folder of the array.
    grid : its chunking.
    index : the frame's number in it, from 0.
    coding : the encoding with which stored bits were decoded to the array's values; None: the array
        holds the bits.
    sha256 : of the frame's file.
    marker : SHA-256 of the cache's COMPLETE.json.
    proof : evidence from frames outside the cache about its sign, or "".
    sample : its sampled stored pixels, little-endian; b"" if unknown.
    remote : reader of the shards of a remote cache, or None.
    """

    array: Path
    grid: ShardGrid
    index: int
    coding: PixelFormat | None
    sha256: str
    marker: str
    proof: str = ""
    sample: bytes = field(default=b"", repr=False)
    remote: RemoteShards | None = field(default=None, repr=False, compare=False)

    def fill(
        self, target: Pixels, first: int, pixels: PixelFormat, near: ChunkBytes | None = None
    ) -> None:
        """Fill target with pixels from number first on, in reading order, decoded as `pixels`.

        Parameters
        ----------
        target, first, pixels : output, number of the first pixel, and the encoding.
        near : chunks of a remote cache that were fetched before.

        Raises
        ------
        FrameError
            The cache is damaged.
        """
        size = self.grid.chunk_pixels
        whole = (
            target.reshape(-1) if target.flags.c_contiguous else np.empty(target.size, target.dtype)
        )
        done = 0
        while done < whole.size:
            chunk, begin = divmod(first + done, size)
            part = whole[done : done + size - begin]
            if begin == 0 and part.size == size and self._is_as_stored(part, pixels):
                self._inflate(chunk, part, near)
            else:
                self._put(self._chunk(chunk, near)[begin : begin + part.size], part, pixels)
            done += part.size
        if not target.flags.c_contiguous:
            target[...] = whole.reshape(target.shape)

    def _chunk(self, chunk: int, near: ChunkBytes | None) -> Pixels:
        """Return the values of a chunk; the last one stays in memory for reading row by row."""
        if getattr(_thread_scratch, "what", None) != (self, chunk):
            values = np.empty(self.grid.chunk_pixels, np.dtype(self.grid.dtype))
            self._inflate(chunk, values, near)
            _thread_scratch.values, _thread_scratch.what = values, (self, chunk)
        last: Pixels = _thread_scratch.values
        return last

    def _is_as_stored(self, target: Pixels, pixels: PixelFormat) -> bool:
        return self.coding == pixels and target.dtype == np.dtype(self.grid.dtype)

    def _put(self, values: Pixels, target: Pixels, pixels: PixelFormat) -> None:
        """Write values into a target, decoded again if the encoding differs from theirs."""
        if self.coding == pixels:
            target[...] = values
        elif self.coding is None:
            decode(values.astype(stored_dtype(pixels)), target, pixels)
        else:
            decode(encode(values, self.coding).view(stored_dtype(pixels)), target, pixels)

    def wanted(self, first: int, n_pixels: int) -> list[ChunkPlace]:
        """Return the chunks that hold n_pixels pixels from number first on."""
        size = self.grid.chunk_pixels
        return [
            self._chunk_place(chunk)
            for chunk in range(first // size, -(-(first + n_pixels) // size))
        ]

    def _chunk_place(self, chunk: int) -> ChunkPlace:
        """Return the shard of one of the frame's chunks, its number of chunks, and the chunk's."""
        frames, rows = self.grid.chunks_per_shard
        shard, row = divmod(chunk, rows)
        path = self.array / "c" / str(self.index // frames) / str(shard) / "0"
        return path, frames * rows, self.index % frames * rows + row

    def _inflate(self, chunk: int, out: Pixels, near: ChunkBytes | None) -> None:
        """Write the decompressed values of one of the frame's chunks into out."""
        path, n_chunks, slot = lies = self._chunk_place(chunk)
        if self.remote is not None:
            raw = (self.remote.fetch([lies]) if near is None else near)[path, slot]
            _decompress(path, raw, len(raw), out)
            return
        try:
            handle = os.open(path, _SHARD_OPEN_FLAGS)
            try:
                stamp = Stamp.of(os.fstat(handle))
                offset, size = map(int, _read_shard_table(path, stamp, n_chunks)[slot])
                if not LEAST_BYTES <= size <= stamp.size or offset > stamp.size - size:
                    raise damaged_cache_error(path, "a chunk is missing")
                raw = _read_bytes_at(handle, offset, size)
            finally:
                os.close(handle)
        except OSError as error:
            raise damaged_cache_error(path, f"it cannot be read ({error.strerror})") from error
        _decompress(path, raw, size, out)


def _read_bytes_at(handle: int, offset: int, size: int) -> bytes:
    os.lseek(handle, offset, os.SEEK_SET)
    return os.read(handle, size)


def _decompress(path: Path, raw: bytes, size: int, out: Pixels) -> None:
    """Write the values of a compressed chunk into out, after checking its CRC-32C and sizes."""
    from numcodecs import blosc

    blosc.use_threads = False  # as zarr does: the bands are already read in threads
    if len(raw) != size or not has_valid_crc(raw):
        raise damaged_cache_error(path, "the checksum of a chunk is wrong")
    packed = memoryview(raw)[:-CRC_BYTES]
    promised = int.from_bytes(packed[4:8], "little"), int.from_bytes(packed[12:16], "little")
    if promised != (out.nbytes, len(packed)):
        raise damaged_cache_error(path, "a chunk has not the size that its cube needs")
    try:
        blosc.decompress(packed, out)
    except (RuntimeError, ValueError) as error:
        raise damaged_cache_error(path, f"a chunk cannot be inflated ({error})") from error


@lru_cache(maxsize=256)
def _read_shard_table(path: Path, stamp: Stamp, n_chunks: int) -> NDArray[np.uint64]:
    """Return offset and size of each chunk of a shard (chunk, 2), read once."""
    n_bytes = shard_table_bytes(n_chunks)
    if stamp.size < n_bytes:
        raise damaged_cache_error(path, "it is cut short")
    with path.open("rb", buffering=0) as file:
        return parse_shard_table(
            _read_bytes_at(file.fileno(), stamp.size - n_bytes, n_bytes), path, n_chunks
        )
