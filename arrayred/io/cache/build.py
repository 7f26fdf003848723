"""Write a night as a zarr store, complete or not at all: `build`.

A store grows in a hidden folder beside its place, gets COMPLETE.json last, is checked by the very
code that will open it, and only then takes its name. A run that is killed leaves a folder that
nobody takes for a cache. Nothing is synced: what a failing disk tears does not pass the check.

Values are stored as they are read, since that is what analysts slice; the stored bits can be had
back from them, unless scaling or BLANK made them: then an array ``stored`` has the bits beside.
"""

from __future__ import annotations

import json
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from arrayred._version import __version__
from arrayred.errors import FrameError, StorageError, UsageError
from arrayred.io.cache.check import COMPLETE, RECORDS, SCHEMA, checked, sum_and_size
from arrayred.io.cache.layout import Grid
from arrayred.io.cache.records import Foreign, Record, as_text
from arrayred.io.encoding import dtype_of, is_exact
from arrayred.io.fits import labelled
from arrayred.io.frames import Frame, require_same_unit
from arrayred.io.probes.sample import sample_bytes
from arrayred.io.publish import publish, require_room
from arrayred.io.sources import PixelFormat
from arrayred.io.spool import plain_all
from arrayred.io.stack import FrameStack
from arrayred.model import COUNTS, FRAME, X, Y

if TYPE_CHECKING:
    import xarray as xr

STORED = "stored"
_TEXTS = "OUT"
_AT_BEST = 4  # frames of pure noise take a third of their plain bytes


@dataclass(frozen=True)
class Night:
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
    foreign: Foreign
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


def build(night: Night, place: Path, *, overwrite: bool = False, threads: int = 2) -> None:
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
            _write(night, partial, threads)
        checked(partial)
        _take_name(partial, place, overwrite=overwrite)
    except OSError as error:
        raise StorageError(
            f"The cache cannot be written ({error.strerror or error})",
            path=place,
            hint="Make room, or choose another folder with --cache-dir or --to.",
        ) from error
    finally:
        _remove(partial)


def _remove(partial: Path) -> None:
    """Remove an unfinished store; threads of zarr may still write to it for a moment."""
    for delay in (0.02, 0.1, 0.5, 0.0):
        shutil.rmtree(partial, ignore_errors=True)
        if not partial.exists():
            return
        time.sleep(delay)


def _take_name(partial: Path, place: Path, *, overwrite: bool) -> None:
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


def _write(night: Night, store: Path, threads: int) -> None:
    """Write groups, records and the mark of completeness."""
    import zarr

    zarr.create_group(store, zarr_format=3)
    records: list[Record] = []
    for node, frames in night.groups.items():
        records += _write_group(night, store, node, frames, threads)
    zarr.consolidate_metadata(store)
    publish({store / RECORDS: as_text(records, night.foreign)})
    files = {
        path.relative_to(store).as_posix(): sum_and_size(path)
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }
    table = {"schema": SCHEMA, "arrayred": __version__, "key": night.key, "files": files}
    publish({store / COMPLETE: json.dumps(table, indent=0, sort_keys=True).encode("ascii")})


def _write_group(
    night: Night, store: Path, node: str, frames: Sequence[Frame], threads: int
) -> Iterator[Record]:
    """Write the cube of one group, and yield the records of its frames."""
    require_same_unit(frames, "Cache frames of one unit together.")
    stack = FrameStack(plain_all([frame.image for frame in frames], threads))
    cube = labelled(stack, frames, np.broadcast_to(stack.dtype.type(0), stack.shape))
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
        _write_pixels(store, f"{node}/{STORED}", bits, {"long_name": "stored bits"})
    for index, frame in enumerate(frames):
        source = frame.image.source
        proof = next((v.text for v in frame.verdicts if v.source == "probe"), "")
        declared = replace(source, pixels=replace(source.pixels, wrapped=False), shelf=None)
        yield Record(
            night.names[frame.path],
            night.checksums[frame.path],
            replace(frame.image, source=declared),
            f"{node}/{COUNTS if as_values else STORED}",
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
            name: (variable.dims, _spoken(variable.values))
            for name, variable in cube.coords.items()
            if variable.dtype.kind in _TEXTS
        }
    )
    encoding = {
        name: {"compressors": _compressors(max(spoken[name].dtype.itemsize, 1))}
        for name in spoken.variables
    }
    spoken.to_zarr(
        store, group=node, mode="a", zarr_format=3, consolidated=False, encoding=encoding
    )


def _spoken(texts: NDArray[Any]) -> NDArray[Any]:
    """Return texts as objects, without what UTF-8 cannot say (undecodable bytes of a name)."""
    spoken = np.empty(texts.shape, object)
    for where in np.ndindex(texts.shape):
        spoken[where] = str(texts[where]).encode("utf-8", "backslashreplace").decode("utf-8")
    return spoken


def _write_pixels(store: Path, node: str, stack: FrameStack, attributes: dict[str, Any]) -> None:
    """Write the pixels of a stack, shard by shard."""
    import zarr

    grid = Grid.of(stack.shape, stack.dtype.name)
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
