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
from arrayred.io.cache.check import COMPLETE, checked, is_cache, marker_of, read_records, refused
from arrayred.io.cache.far import Far, far_of
from arrayred.io.cache.layout import Grid
from arrayred.io.cache.records import Record, from_text
from arrayred.io.cache.shelf import Shelf
from arrayred.io.remote.address import Address
from arrayred.io.remote.store import Stamp, is_there
from arrayred.io.sources import FrameReader, ImageHDU

_opened: dict[Path, Contents] = {}
"""Caches behind URLs, as they were when last asked for: frames in them are found without asking."""


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
    n_bytes : of all its files.
    """

    cache: Path
    marker: str
    key: str
    images: Mapping[str, ImageHDU]
    foreign: Mapping[str, str]
    n_bytes: int

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
    if isinstance(cache, Address):
        contents = _load(cache, wholly=True) if wholly else _remote_once(cache, _mark_of(cache))
        _opened[cache] = contents
        return contents
    return _load(cache, wholly=True) if wholly else _once(cache, Stamp.of(_status(cache)))


def sums_of(cache: Path) -> dict[Path, str]:
    """Return the SHA-256 of each frame's file, for which a cache vouches if it is whole.

    Raises
    ------
    FrameError
        A file of the cache, pixels included, is not as it was written.
    """
    sources = (image.source for image in contents_of(cache, wholly=True).images.values())
    return {source.path: source.shelf.sha256 for source in sources if source.shelf}


def cache_of(shelf: FrameReader) -> Path:
    """Return the cache in which a frame lies."""
    if shelf.far is not None:
        return shelf.far.cache
    return next((folder for folder in shelf.array.parents if is_cache(folder)), shelf.array)


def _mark_of(cache: Path) -> str:
    """Return what changes with a cache behind a URL: the sum of its mark, fetched anew."""
    return marker_of(cache).sha256


@lru_cache(maxsize=16)
def _remote_once(cache: Address, _mark: str) -> Contents:
    return _load(cache, wholly=False)


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
        records, foreign = from_text(read_records(cache, marker))
        far = far_of(cache, marker) if isinstance(cache, Address) else None
        images = {r.name: _on_shelf(cache, r, grids, marker.sha256, far) for r in records}
    except UsageError as error:
        raise refused(cache, f"is refused: {error.args[0]}") from error
    n_bytes = marker.n_bytes + sum(size for size, _ in marker.files.values())
    return Contents(cache, marker.sha256, marker.key, images, dict(foreign), n_bytes)


def _on_shelf(
    cache: Path, record: Record, grids: Mapping[str, Grid], marker: str, far: Far | None
) -> ImageHDU:
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
        record.sample,
        far,
    )
    return replace(record.image, source=replace(source, path=cache / record.name, shelf=shelf))


def cache_around(path: Path) -> Path | None:
    """Return the cache that a path is, or in which it lies where no file has it; or None."""
    if isinstance(path, Address):
        return _remote_cache_around(path)
    if is_cache(path):
        return path
    return None if path.exists() else next(filter(is_cache, path.parents), None)


def _remote_cache_around(address: Address) -> Address | None:
    """Return the cache behind a URL that an address is or lies in; asked only of likely folders."""
    around = [address, *address.parents]
    known = next((folder for folder in around if folder in _opened), None)
    if known is None:
        likely = (folder for folder in around if folder.suffix == ".zarr")
        return next((folder for folder in likely if is_there(folder / COMPLETE)), None)
    return known


def files_in(cache: Path, folder: Path, depth: int) -> list[Path]:
    """Return the paths of the files that a cache holds below a folder, at most so deep, sorted."""
    paths = sorted(contents_of(cache).names(folder))
    return [path for path in paths if len(path.relative_to(folder).parts) <= depth]


def forget(cache: Path) -> None:
    """Forget what was behind a URL, so that it is asked again."""
    _opened.pop(cache, None)


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
    contents = _opened.get(cache) or contents_of(cache)
    name = path.relative_to(cache).as_posix()
    if name in contents.foreign:
        raise ForeignFileError(contents.foreign[name], path=path, hint="Move it away.")
    return contents.images.get(name)
