"""Read the cache of a night, local or remote: check it, list its frames, read their pixels.

::

    CACHE.zarr/zarr.json                             the tree, consolidated, and its mark
    CACHE.zarr/raw/<type>/<group>/counts, exptime, time, header, ...
    CACHE.zarr/masters/<type>/<group>/...            masters that came with the frames
    CACHE.zarr/left_out/<number>/...                 frames of no group: duplicates, products
    CACHE.zarr/records                               each frame's file, SHA-256, cards, encoding

Each node is a plain Dataset, which ``xarray.open_datatree(CACHE.zarr, engine="zarr")`` opens. The
mark is the attribute ``arrayred`` of the root, written last: it lists every other file with its
size and SHA-256. The records are JSON in an array of bytes, since a file that is no part of the
tree makes zarr warn.

`chunks_of` is the chunking of an array, `check_cache` decides whether a cache is complete and safe,
`FrameRecord` and `CachedFrames` describe its frames, `CachedArray` reads pixels. `io.caching`
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
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Any, Self, get_args

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import ArrayredError, ForeignFileError, FrameError, UsageError
from arrayred.io.header import CARD, Header
from arrayred.io.remote import (
    Address,
    Stamp,
    is_fits_name,
    is_there,
    read_range,
    remote_address,
    retry_remote,
    sha256_of_remote,
    stamp_of,
)
from arrayred.io.scan import CachedPixels, ImageHDU, Packing, PixelFormat, PixelSource

_open_caches: dict[Path, CachedFrames] = {}
"""Remote caches as last opened: frames in them are found without a request."""


@dataclass(frozen=True)
class CachedFrames:
    """Contents of a cache.

    Parameters
    ----------
    cache : its folder.
    marker : SHA-256 of its mark, which changes with its content.
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
    def band_rows(self) -> int:
        """Return the rows of a shard of its largest array: bands in which it is read fastest."""
        cached = (image.source.cached for image in self.images.values())
        arrays = (one.array for one in cached if one and isinstance(one.array, CachedArray))
        largest = max(arrays, key=lambda array: math.prod(array.shape))
        return chunks_of(largest.shape, largest.dtype)[1][1]

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
    stamp = _stamp_of_mark(cache)
    contents = (
        _load_cached_frames(cache, stamp, wholly=True) if wholly else _open_once(cache, stamp)
    )
    if isinstance(cache, Address):
        _open_caches[cache] = contents
    return contents


def cached_checksums(cache: Path) -> dict[Path, str]:
    """Return the SHA-256 of each frame's file by path, after comparing all of the cache.

    Raises
    ------
    FrameError
        A file of the cache, pixels included, has changed since it was written.
    """
    sources = (image.source for image in open_cache(cache, wholly=True).images.values())
    return {source.path: source.cached.sha256 for source in sources if source.cached}


def _stamp_of_mark(cache: Path) -> Stamp:
    """Return the stamp of the file that changes whenever a cache is written."""
    if isinstance(cache, Address):
        return stamp_of(cache / METADATA, anew=True)
    path = cache / METADATA
    try:
        return Stamp.of(path.stat())
    except OSError as error:
        raise refused_cache_error(path, f"cannot be read ({error.strerror})") from error


@lru_cache(maxsize=16)
def _open_once(cache: Path, stamp: Stamp) -> CachedFrames:
    return _load_cached_frames(cache, stamp, wholly=False)


def _load_cached_frames(cache: Path, stamp: Stamp, *, wholly: bool) -> CachedFrames:
    marker, arrays = check_cache(cache, stamp, wholly=wholly)
    try:
        records, foreign = records_from_json(_read_records(cache, marker))
        images = {record.name: _cached_frame(cache, record, arrays) for record in records}
    except UsageError as error:
        raise refused_cache_error(cache, f"is refused: {error.args[0]}") from error
    n_bytes = sum(size for size, _ in marker.files.values())
    return CachedFrames(cache, marker.sha256, marker.key, images, dict(foreign), n_bytes)


def _cached_frame(cache: Path, record: FrameRecord, arrays: Mapping[str, CachedArray]) -> ImageHDU:
    """Return a frame whose pixels are read from the cache."""
    array, source = arrays.get(record.array), record.image.source
    if array is None or record.index >= array.shape[0] or source.shape != array.shape[1:]:
        raise UsageError(f"{record.name} lies in no array of the cache")
    cached = CachedPixels(
        array, record.index, record.coding, record.sha256, record.proof, record.sample
    )
    return replace(record.image, source=replace(source, path=cache / record.name, cached=cached))


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
        return next((folder for folder in likely if is_there(folder / METADATA)), None)
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
        raise ForeignFileError(contents.foreign[name], path=path, hint="Move or rename it.")
    return contents.images.get(name)


# Chunks and shards of a cube: `chunks_of`, and their reader: `CachedArray`.
#
# A chunk is three frames x up to 128 rows, at most 1 MB: one frame costs three, which is bounded,
# while zarr needs a third of the calls. Median of 60 frames 1024 x 1024 by xarray, processor
# seconds: dask's stack of the FITS files 2.4; with chunks={} of chunks of one frame x 64 rows 5.4,
# of three x 64 3.3, of three x 128 2.4; with whole bands 2.0. A shard is all frames x as many rows
# as stay under 64 MB, so that a band is one file or two, and little memory builds it; of many
# frames chunks have fewer rows, down to 8, so that such a band is a whole number of them.

SHARD_BYTES = 64 << 20
CHUNK_BYTES = 1 << 20
CHUNK_FRAMES = 3
_CHUNK_ROWS = 128
_LEAST_CHUNK_ROWS = 8
_MAX_ARRAY_PIXELS = 2**40
DTYPES = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
DTYPES += ("float32", "float64")
"""The dtypes that pixels may have."""

Shape = tuple[int, int, int]


def chunks_of(shape: Shape, dtype: str) -> tuple[Shape, Shape]:
    """Return the shapes (frame, y, x) of the chunks and of the shards of a cube.

    Examples
    --------
    >>> chunks_of((100, 1024, 1024), "uint16")
    ((3, 128, 1024), (102, 256, 1024))
    """
    n_frames, n_rows, n_columns = shape
    row = n_columns * np.dtype(dtype).itemsize
    frames, rows = min(CHUNK_FRAMES, n_frames), _CHUNK_ROWS
    while rows > _LEAST_CHUNK_ROWS and (
        frames * rows * row > CHUNK_BYTES or n_frames * rows * row > SHARD_BYTES
    ):
        rows //= 2
    rows = -(-n_rows // -(-n_rows // rows))  # nearly equal ones, so that none is mostly padding
    chunk = frames * rows * row
    along = min(-(-n_frames // frames), max(SHARD_BYTES // chunk, 1))
    down = min(-(-n_rows // rows), max(SHARD_BYTES // (along * chunk), 1))
    return (frames, rows, n_columns), (along * frames, down * rows, n_columns)


@dataclass(frozen=True)
class CachedArray:
    """An array (frame, y, x) of a cache, read through zarr a band at a time.

    Parameters
    ----------
    cache : folder or address of the cache.
    node : name of the array in it.
    shape : (n_frames, n_rows, n_columns).
    dtype : name of its dtype, one of `DTYPES`.
    stamp : of the cache's mark: an array of a cache that was replaced is not read.
    metadata : its zarr.json.
    """

    cache: Path
    node: str
    shape: Shape
    dtype: str
    stamp: Stamp
    metadata: str = field(repr=False)

    @property
    def chunk_rows(self) -> int:
        """Return the number of rows of a chunk."""
        return chunks_of(self.shape, self.dtype)[0][1]

    @property
    def chunk_bytes(self) -> int:
        """Return the uncompressed size of a chunk, bytes."""
        return math.prod(chunks_of(self.shape, self.dtype)[0]) * np.dtype(self.dtype).itemsize

    @property
    def is_remote(self) -> bool:
        """Return whether the cache is behind a URL."""
        return isinstance(self.cache, Address)

    def read(self, frames: Sequence[int], first: int, n_pixels: int) -> NDArray[Any]:
        """Return pixels (frame, pixel) from number first on, in reading order, as they are stored.

        Raises
        ------
        FrameError
            The cache is damaged, cannot be read, or has changed since it was opened.
        """
        n_columns = self.shape[2]
        top, bottom = first // n_columns, -(-(first + n_pixels) // n_columns)
        rows = chunks_of(self.shape, self.dtype)[1][1]
        edges = [top, *range((top // rows + 1) * rows, bottom, rows), bottom]
        # Shard by shard, so that a damaged one is named.
        parts = [self._rows(frames, *ends) for ends in pairwise(edges)]
        if _stamp_of_mark(self.cache) != self.stamp:
            raise FrameError(
                "The cache has changed since it was opened", path=self.cache, hint="Run again."
            )
        band = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        start = first - top * n_columns
        return band.reshape(len(frames), -1)[:, start : start + n_pixels]

    def _rows(self, frames: Sequence[int], top: int, bottom: int) -> NDArray[Any]:
        """Return rows (frame, y, x) of frames; no other row of shards."""
        from arrayred.io.zarr_store import damaged_cache_error, open_pixels

        least, most = min(frames), max(frames)
        is_run = list(frames) == list(range(least, most + 1))
        which = slice(least, most + 1) if is_run else np.array(frames)
        _, (n_frames, rows, _) = chunks_of(self.shape, self.dtype)
        shard = self.cache / self.node / "c"
        if least // n_frames == most // n_frames:
            shard = shard / str(least // n_frames) / str(top // rows) / "0"

        def look() -> NDArray[Any]:
            array = open_pixels(self.cache, self.node, self.metadata)
            try:
                return np.asarray(array.oindex[which, slice(top, bottom)])
            except (RuntimeError, ValueError) as error:
                raise damaged_cache_error(shard, f"a chunk cannot be read ({error})") from error

        if isinstance(self.cache, Address):
            found: NDArray[Any] = retry_remote(look, remote_address(str(shard)))
            return found
        try:
            return look()
        except OSError as error:
            raise damaged_cache_error(shard, f"it cannot be read ({error.strerror})") from error


# Check that a cache is complete and safe before anything in it is used: `check_cache`.
#
# A cache may come from anybody, as frames may. Anything that is not exactly what arrayred writes
# is refused: every file must be a regular one that the mark lists with its size, metadata must
# have the SHA-256 listed there, and arrays must have the dtypes, codecs and shards that we write.
# Nothing is allocated by a stated size, or imported by a name from a file.
#
# Accidental damage is found in the same way: a file that is missing, truncated, zeroed or has one
# bit flipped differs in size or checksum. The checksums of shards are compared on request, since
# that reads them all; without it a damaged chunk is an error when it is read (`io.zarr_store`).
#
# Of a remote cache only the root's zarr.json is fetched, which has the metadata of all arrays, and
# the records; other files are assumed to exist until they are read.

METADATA = "zarr.json"
MARK = "arrayred"
"""The attribute of the root that marks a complete cache."""
RECORDS = "records"
SCHEMA = 3
"""Version of the format, to be raised whenever a cache is written or read in another way."""
MOST_METADATA = 256 << 20
"""Largest metadata file, bytes."""
_WRONG_CHECKSUM = "has a checksum that differs from the recorded one"
_MOST_FILES = 10**6
_MOST_DEEP = 16
_MOST_VALUES = 2**32
_SAFE_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._+,@=-]{1,255}")
_CODECS = {"bytes", "blosc", "crc32c", "vlen-utf8", "sharding_indexed"}
_COORD_DTYPES = (*DTYPES, "bool", "string")
_PIXEL_CODINGS = ("counts", "stored")


@dataclass(frozen=True)
class Marker:
    """The mark of a complete cache, and the metadata of its arrays.

    Parameters
    ----------
    key : hash of its inputs; see `io.caching.cache_key`.
    files : size and SHA-256 of every other file, by its name relative to the cache.
    sha256 : of the mark and the metadata.
    nodes : metadata of each group and array, by name.
    """

    key: str
    files: Mapping[str, tuple[int, str]]
    sha256: str
    nodes: Mapping[str, Any]


def is_cache(folder: Path) -> bool:
    """Return whether a folder is a complete cache."""
    try:
        return _is_marked(folder / METADATA, Stamp.of((folder / METADATA).stat()))
    except OSError:
        return False


@lru_cache(maxsize=64)
def _is_marked(path: Path, _stamp: Stamp) -> bool:
    try:
        return MARK in json.loads(_read_metadata(path))["attributes"]
    except (KeyError, RecursionError, TypeError, ValueError):
        return False


def marker_in(raw: bytes, cache: Path) -> Marker:
    """Return the mark in the bytes of the zarr.json of a cache's root.

    Raises
    ------
    FrameError
        It is invalid, or was written by another version.
    """
    try:
        root = json.loads(raw)
        if MARK not in root["attributes"]:
            raise FrameError(
                "This is not a readable cache: its marker file is missing",
                path=cache,
                hint="Build it again with `arrayred cache NIGHT`.",
            )
        mark = root["attributes"][MARK]
        if mark["schema"] != SCHEMA:
            raise FrameError(
                "The cache was written by another version of arrayred",
                path=cache,
                hint="Build it again with `arrayred cache NIGHT --to PATH --overwrite`.",
            )
        files = {str(name): (int(size), str(sha)) for name, (size, sha) in mark["files"].items()}
        nodes = dict(root["consolidated_metadata"]["metadata"])
        if mark["sha256"] != sum_of_mark(root):
            raise refused_cache_error(cache / METADATA, _WRONG_CHECKSUM)
        return Marker(str(mark["key"]), files, str(mark["sha256"]), nodes)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise refused_cache_error(cache / METADATA, f"it is invalid ({error!r})") from error


def sum_of_mark(root: Any) -> str:
    """Return the SHA-256 of a root's metadata, but for that in its mark."""
    mark = {name: told for name, told in root["attributes"][MARK].items() if name != "sha256"}
    rest = {name: told for name, told in root.items() if name != "attributes"}
    return hashlib.sha256(json.dumps([mark, rest], sort_keys=True).encode()).hexdigest()


def check_cache(
    cache: Path, stamp: Stamp | None = None, *, wholly: bool = False
) -> tuple[Marker, dict[str, CachedArray]]:
    """Return a cache's mark, and its arrays of pixels by name, if complete and safe.

    Parameters
    ----------
    cache : the folder.
    stamp : of the mark; None: as it is now.
    wholly : compare the checksums of pixels too.

    Raises
    ------
    FrameError
        It is damaged, or not what arrayred writes.
    """
    stamp = stamp or _stamp_of_mark(cache)
    marker = marker_in(_read_metadata(cache / METADATA), cache)
    for name in (*marker.files, *marker.nodes):
        require_safe(name, cache)
    if isinstance(cache, Address):
        _check_remote_files(cache, marker, wholly)
    else:
        try:
            _check_local_files(cache, marker, wholly)
        except OSError as error:
            where = Path(error.filename or cache)
            raise refused_cache_error(where, f"cannot be read ({error.strerror})") from error
    found = (_pixels_at(cache, name, marker, stamp) for name in marker.nodes)
    return marker, {array.node: array for array in found if array is not None}


def _check_local_files(cache: Path, marker: Marker, wholly: bool) -> None:
    """Raise FrameError unless the files of a local cache are exactly the listed ones."""
    found = dict(_cache_files(cache))
    if odd := sorted(found.keys() ^ marker.files.keys()):
        what = "is not listed" if odd[0] in found else "is missing"
        raise refused_cache_error(cache / odd[0], what)
    for name, (size, sha256) in marker.files.items():
        if found[name] != size:
            raise refused_cache_error(cache / name, f"has {found[name]} bytes instead of {size}")
        if (wholly or name.endswith(".json")) and _sha256_of_file(cache / name) != sha256:
            raise refused_cache_error(cache / name, _WRONG_CHECKSUM)


def _check_remote_files(cache: Address, marker: Marker, wholly: bool) -> None:
    """Raise FrameError if a file of a remote cache has changed; they are read only if `wholly`."""
    for name, (_, sha256) in marker.files.items() if wholly else ():
        if sha256_of_remote(remote_address(str(cache / name))) != sha256:
            raise refused_cache_error(cache / name, _WRONG_CHECKSUM)


def _cache_files(cache: Path, below: str = "", depth: int = 0) -> Iterator[tuple[str, int]]:
    """Yield name and size of all files but the mark's; links and strange names are refused."""
    with os.scandir(cache / below) as entries:
        for count, entry in enumerate(entries):
            name = f"{below}{entry.name}"
            status = entry.stat(follow_symlinks=False)
            is_safe = _SAFE_NAME.fullmatch(entry.name) is not None and count < _MOST_FILES
            if stat.S_ISDIR(status.st_mode) and is_safe and depth < _MOST_DEEP:
                yield from _cache_files(cache, f"{name}/", depth + 1)
            elif stat.S_ISREG(status.st_mode) and is_safe:
                if name != METADATA:
                    yield name, status.st_size
            else:
                raise refused_cache_error(cache / name, "is not a regular file written by arrayred")


def require_safe(name: str, cache: Path) -> None:
    """Raise FrameError unless a file's name is one that arrayred gives, inside the cache."""
    parts = name.split("/")
    if len(parts) > _MOST_DEEP + 1 or not all(map(_SAFE_NAME.fullmatch, parts)):
        raise refused_cache_error(cache / METADATA, f"lists the name {name!r}")


def _pixels_at(cache: Path, node: str, marker: Marker, stamp: Stamp) -> CachedArray | None:
    """Return the array of pixels of a name; None for any other node, which must be harmless."""
    from arrayred.io.zarr_store import is_as_written, open_pixels

    path, told = cache / node / METADATA, marker.nodes[node]
    try:
        _require_harmless(told)
        if PurePosixPath(node).name not in _PIXEL_CODINGS:
            return None
        text = json.dumps(told, sort_keys=True)
        array = open_pixels(cache, node, text)
        n_frames, n_rows, n_columns = array.shape
        shape, dtype = (n_frames, n_rows, n_columns), str(array.dtype)
        if dtype not in DTYPES or not is_as_written(array) or math.prod(shape) > _MAX_ARRAY_PIXELS:
            raise UsageError("the pixels have an unexpected format")
        if (array.chunks, array.shards) != (ours := chunks_of(shape, dtype)):
            raise UsageError("the pixels have unexpected chunks")
        files = [name for name in marker.files if name.startswith(f"{node}/c/")]
        across, down = -(-n_frames // ours[1][0]), -(-n_rows // ours[1][1])
        if len(files) != across * down or set(files) != {
            f"{node}/c/{i}/{j}/0" for i in range(across) for j in range(down)
        }:
            raise UsageError("its shards do not match its shape")
        return CachedArray(cache, node, shape, dtype, stamp, text)
    except ArrayredError as error:
        raise refused_cache_error(path, f"is refused: {error.args[0]}") from error
    except Exception as error:  # zarr's, of metadata that it does not know
        raise refused_cache_error(path, f"is refused: {error!r}") from error


def _require_harmless(told: Any) -> None:
    """Raise ValueError unless a node is a group, or an array with a dtype and codecs of ours."""
    if told["node_type"] == "group":
        return
    if told["node_type"] != "array" or told["zarr_format"] != 3 or told["storage_transformers"]:
        raise ValueError("this is not a Zarr format 3 array")
    if told["data_type"] not in _COORD_DTYPES:
        raise ValueError(f"the type {told['data_type']!r}")
    if math.prod(told["shape"]) > _MOST_VALUES * (2**8 if len(told["shape"]) == 3 else 1):
        raise ValueError(f"the shape {told['shape']}")
    codecs = [codec["name"] for codec in told["codecs"]]
    if odd := set(codecs) - _CODECS:
        raise ValueError(f"the codecs {sorted(odd)}")


def _read_records(cache: Path, marker: Marker) -> bytes:
    """Return the records of a cache, JSON."""
    from arrayred.io.zarr_store import open_bytes

    told = marker.nodes.get(RECORDS)
    if told is None or told["data_type"] != "uint8" or math.prod(told["shape"]) > MOST_METADATA:
        raise refused_cache_error(cache / METADATA, "lists no records")
    path = cache / RECORDS / "c" / "0"

    def look() -> bytes:
        try:
            return open_bytes(cache, RECORDS, json.dumps(told, sort_keys=True))
        except (RuntimeError, ValueError) as error:
            raise refused_cache_error(path, f"cannot be read ({error})") from error

    return retry_remote(look, path) if isinstance(path, Address) else look()


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


def size_and_sum(path: Path) -> tuple[int, str]:
    """Return size and SHA-256 of a file."""
    return path.stat().st_size, _sha256_of_file(path)


def _sha256_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refused_cache_error(path: Path, what: str) -> FrameError:
    """Return the error for a cache that is damaged, or not written by arrayred."""
    return FrameError(
        f"The cache is damaged or was not written by arrayred: it {what}",
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
            raise ValueError("a name occurs twice")
        return records, tuple(
            (_require_string(name), _require_string(why)) for name, why in table["foreign"]
        )
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise UsageError(f"The records of its frames are invalid ({error!r})") from error


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
