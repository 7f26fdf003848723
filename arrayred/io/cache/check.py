"""Whether a cache is whole and harmless, before anything in it is used: `checked`.

A cache may come from anybody, as frames may. What is not exactly what arrayred writes is refused:
every file must be a regular one that COMPLETE.json lists with its size, metadata must have the
SHA-256 that stands there, and arrays must have the types, codecs and shards of `layout`. Nothing is
inflated, allocated by a promise, or imported by a name that stands in a file.

What was damaged by accident is found in the same way: a file that is absent, cut, zeroed or has one
bit flipped differs in size or sum. The sums of shards are compared on request, since that reads
them all; without it a damaged chunk is an error when it is read, by its own CRC-32C.

Of a cache behind a URL metadata alone are fetched, and shards are believed to be there and of their
size until a chunk is read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arrayred.errors import FrameError, UsageError
from arrayred.io.cache.layout import DTYPES, Grid
from arrayred.io.remote.address import Address, address_of
from arrayred.io.remote.files import sum_of
from arrayred.io.remote.store import Part, read, read_parts

COMPLETE = "COMPLETE.json"
RECORDS = "records.json"
METADATA = "zarr.json"
SCHEMA = 2
"""To be raised whenever a cache is written or read in another way."""
MOST_METADATA = 256 << 20
"""Bytes of one file of metadata, at most."""
_OTHER_SUM = "has not the checksum that it had when it was written"
_MOST_FILES = 10**6
_MOST_DEEP = 16
_MOST_VALUES = 2**32
_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._+,@=-]{1,255}")
_CODECS = {"bytes", "blosc", "crc32c", "zstd", "vlen-utf8", "sharding_indexed"}
_COORD_DTYPES = (*DTYPES, "bool", "string")
_PIXELS = ("counts", "stored")


@dataclass(frozen=True)
class Marker:
    """What a cache says of itself in COMPLETE.json.

    Parameters
    ----------
    key : what it was made from; see `library.key_of`.
    files : size and SHA-256 of every file, by its name relative to the cache.
    sha256 : of COMPLETE.json.
    n_bytes : of COMPLETE.json.
    """

    key: str
    files: Mapping[str, tuple[int, str]]
    sha256: str
    n_bytes: int = 0


def is_cache(folder: Path) -> bool:
    """Tell whether a folder looks like a cache, whole or not."""
    return (folder / COMPLETE).is_file()


def marker_of(cache: Path) -> Marker:
    """Return what a cache says of itself.

    Raises
    ------
    FrameError
        It says nothing that makes sense, or was written by another version.
    """
    return marker_in(_read(cache / COMPLETE), cache)


def marker_in(raw: bytes, cache: Path) -> Marker:
    """Return what the content of a COMPLETE.json says; see `marker_of`."""
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
        raise refused(cache / COMPLETE, f"it makes no sense ({error!r})") from error


def checked(cache: Path, *, wholly: bool = False) -> tuple[Marker, dict[str, Grid]]:
    """Return a cache's marker, and how its arrays of pixels are cut, if it is whole and harmless.

    Parameters
    ----------
    cache : the folder.
    wholly : compare the sums of pixels too.

    Raises
    ------
    FrameError
        It is damaged, or not what arrayred writes.
    """
    marker = marker_of(cache)
    compare = _compared_remotely if isinstance(cache, Address) else _compared
    metadata = compare(cache, marker, wholly)
    grids: dict[str, Grid] = {}
    for name, raw in metadata.items():
        grids |= _described(cache, name.removesuffix(METADATA).rstrip("/"), marker, raw)
    return marker, grids


def _compared(cache: Path, marker: Marker, wholly: bool) -> dict[str, bytes]:
    """Return the metadata of a cache whose files are those that are listed."""
    found = dict(_files(cache))
    if odd := sorted(found.keys() ^ marker.files.keys()):
        what = "is there, but not listed" if odd[0] in found else "is missing"
        raise refused(cache / odd[0], what)
    for name, (size, sha256) in marker.files.items():
        if found[name] != size:
            raise refused(cache / name, f"has {found[name]} bytes instead of {size}")
        if (wholly or name.endswith(".json")) and _sum_of(cache / name) != sha256:
            raise refused(cache / name, _OTHER_SUM)
    return {name: _read(cache / name) for name in marker.files if Path(name).name == METADATA}


def _compared_remotely(cache: Path, marker: Marker, wholly: bool) -> dict[str, bytes]:
    """Return the metadata of a cache behind a URL, all fetched at once."""
    for name in marker.files:
        require_safe(name, cache)
    told = {name: size for name, (size, _) in marker.files.items() if Path(name).name == METADATA}
    if sum(told.values()) > MOST_METADATA:
        raise refused(cache / COMPLETE, "lists more metadata than arrayred writes")
    parts = [Part(address_of(str(cache / name)), 0, size + 1) for name, size in told.items()]
    found = dict(zip(told, read_parts(parts), strict=True))
    for name, raw in found.items():
        _require_sum(raw, cache, name, marker)
    for name, (_, sha256) in marker.files.items() if wholly else ():
        if name not in found and sum_of(address_of(str(cache / name))) != sha256:
            raise refused(cache / name, _OTHER_SUM)
    return found


def _require_sum(raw: bytes, cache: Path, name: str, marker: Marker) -> None:
    if hashlib.sha256(raw).hexdigest() != marker.files[name][1]:
        raise refused(cache / name, _OTHER_SUM)


def _files(cache: Path, below: str = "", depth: int = 0) -> Iterator[tuple[str, int]]:
    """Yield name and size of every file but COMPLETE.json; links and strange names are refused."""
    with os.scandir(cache / below) as entries:
        for count, entry in enumerate(entries):
            name = f"{below}{entry.name}"
            status = entry.stat(follow_symlinks=False)
            is_safe = _NAME.fullmatch(entry.name) is not None and count < _MOST_FILES
            if stat.S_ISDIR(status.st_mode) and is_safe and depth < _MOST_DEEP:
                yield from _files(cache, f"{name}/", depth + 1)
            elif stat.S_ISREG(status.st_mode) and is_safe:
                if name != COMPLETE:
                    yield name, status.st_size
            else:
                raise refused(cache / name, "is no regular file with a name that arrayred gives")


def require_safe(name: str, cache: Path) -> None:
    """Raise FrameError unless a file's name is one that arrayred gives, and leads nowhere else."""
    parts = name.split("/")
    if len(parts) > _MOST_DEEP + 1 or not all(map(_NAME.fullmatch, parts)):
        raise refused(cache / COMPLETE, f"lists the name {name!r}")


def _described(cache: Path, node: str, marker: Marker, raw: bytes) -> dict[str, Grid]:
    """Return the grid of an array of pixels, under its name; nothing for any other node."""
    path = cache / node / METADATA
    try:
        told = json.loads(raw)
        for inner in _nodes(told):
            _require_harmless(inner)
        if Path(node).name not in _PIXELS:
            return {}
        grid = Grid.from_metadata(told)
        names = [name for name in marker.files if name.startswith(f"{node}/c/")]
        if len(names) != math.prod(grid.n_shards) or {
            f"{node}/{name}" for name in grid.shard_names()
        } != set(names):
            raise UsageError("Its shards are not those of its shape")
        return {node: grid}
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError, UsageError) as error:
        raise refused(path, f"is refused: {error}") from error


def _nodes(told: Any) -> Iterator[Any]:
    """Yield metadata, and those that are consolidated in them under safe names."""
    yield told
    inside = (told.get("consolidated_metadata") or {}).get("metadata", {})
    for name, inner in inside.items():
        if not all(_NAME.fullmatch(part) for part in name.split("/")):
            raise ValueError(f"the node name {name!r}")
        yield inner


def _require_harmless(told: Any) -> None:
    """Raise ValueError unless a node is a group, or an array of a type and codecs of ours."""
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
    """Return the file of a cache's records."""
    if RECORDS not in marker.files:
        raise refused(cache / COMPLETE, "lists no records")
    raw = _read(cache / RECORDS)
    _require_sum(raw, cache, RECORDS, marker)
    return raw


def _read(path: Path) -> bytes:
    if isinstance(path, Address):
        raw = read(path, 0, MOST_METADATA + 1)
        if len(raw) > MOST_METADATA:
            raise refused(path, "is larger than any that arrayred writes")
        return raw
    try:
        if path.stat().st_size > MOST_METADATA:
            raise refused(path, "is larger than any that arrayred writes")
        return path.read_bytes()
    except OSError as error:
        raise refused(path, f"cannot be read ({error.strerror})") from error


def sum_and_size(path: Path) -> tuple[int, str]:
    """Return size and SHA-256 of a file."""
    return path.stat().st_size, _sum_of(path)


def _sum_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refused(path: Path, what: str) -> FrameError:
    """Return the error of a cache that is damaged, or not of our making."""
    return FrameError(
        f"The cache is damaged or not arrayred's: this {what}",
        path=path,
        hint="Build it again with `arrayred cache`, or reduce the night without it.",
    )
