"""A cache as the frames it holds, opened where files would be: `contents_of`, `image_in`.

Frames of ``CACHE.zarr`` go by the paths ``CACHE.zarr/<name>``, which no file has: whoever lists a
folder gets them (`folders.list_files`), whoever scans one gets its image (`headers.scan`). A plain
night meets none of this but one question of a folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from arrayred.errors import ForeignFileError, UsageError
from arrayred.io.cache.check import COMPLETE, checked, is_cache, read_records, refused
from arrayred.io.cache.layout import Grid
from arrayred.io.cache.records import Record, from_text
from arrayred.io.cache.shelf import Shelf
from arrayred.io.sources import ImageHDU, Stamp


@dataclass(frozen=True)
class Contents:
    """What a cache holds.

    Parameters
    ----------
    cache : its folder.
    marker : what changes with it.
    key : what it was made from.
    images : its frames by name, each on its shelf.
    foreign : files of the night that are no frames, by name, each with the reason.
    """

    cache: Path
    marker: str
    key: str
    images: Mapping[str, ImageHDU]
    foreign: Mapping[str, str]

    def names(self, below: Path) -> list[Path]:
        """Return the paths by which its files go, of those below a folder."""
        paths = [self.cache / name for name in (*self.images, *self.foreign)]
        return [path for path in paths if below in path.parents]

    @property
    def by_sha256(self) -> dict[str, ImageHDU]:
        """Return its frames by the SHA-256 of their files."""
        shelves = [(image.source.shelf, image) for image in self.images.values()]
        return {shelf.sha256: image for shelf, image in shelves if shelf is not None}


def contents_of(cache: Path, *, wholly: bool = False) -> Contents:
    """Return what a cache holds, once it was checked.

    Parameters
    ----------
    cache : the folder.
    wholly : compare the sums of pixels too.

    Raises
    ------
    FrameError
        It is damaged, or not what arrayred writes.
    """
    return _load(cache, wholly=True) if wholly else _once(cache, Stamp.of(_status(cache)))


def _status(cache: Path) -> os.stat_result:
    try:
        return (cache / COMPLETE).stat()
    except OSError as error:
        raise refused(cache / COMPLETE, f"cannot be read ({error.strerror})") from error


@lru_cache(maxsize=16)
def _once(cache: Path, _stamp: Stamp) -> Contents:
    return _load(cache, wholly=False)


def _load(cache: Path, *, wholly: bool) -> Contents:
    marker, grids = checked(cache, wholly=wholly)
    try:
        records, foreign = from_text(read_records(cache))
        images = {r.name: _on_shelf(cache, r, grids, marker.sha256) for r in records}
    except UsageError as error:
        raise refused(cache, f"is refused: {error.args[0]}") from error
    return Contents(cache, marker.sha256, marker.key, images, dict(foreign))


def _on_shelf(cache: Path, record: Record, grids: Mapping[str, Grid], marker: str) -> ImageHDU:
    """Return a frame whose pixels are read from the cache."""
    grid, source = grids.get(record.array), record.image.source
    if grid is None or record.index >= grid.shape[0] or source.shape != grid.shape[1:]:
        raise UsageError(f"{record.name} lies in no array of the cache")
    shelf = Shelf(
        cache / record.array,
        grid,
        record.index,
        record.coding,
        record.sha256,
        marker,
        record.proof,
    )
    return replace(record.image, source=replace(source, path=cache / record.name, shelf=shelf))


def cache_around(path: Path) -> Path | None:
    """Return the cache that a path is, or in which it lies where no file has it; or None."""
    if is_cache(path):
        return path
    return None if path.exists() else next(filter(is_cache, path.parents), None)


def files_in(cache: Path, folder: Path, depth: int) -> list[Path]:
    """Return the paths of the files that a cache holds below a folder, at most so deep, sorted."""
    paths = sorted(contents_of(cache).names(folder))
    return [path for path in paths if len(path.relative_to(folder).parts) <= depth]


def image_at(path: Path) -> ImageHDU | None:
    """Return the frame that goes by a path that no file has, or None.

    Raises
    ------
    ForeignFileError
        The file was no frame when the cache was built.
    """
    cache = cache_around(path)
    if cache is None:
        return None
    contents, name = contents_of(cache), path.relative_to(cache).as_posix()
    if name in contents.foreign:
        raise ForeignFileError(contents.foreign[name], path=path, hint="Move it away.")
    return contents.images.get(name)
