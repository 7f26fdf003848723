"""A night's pixels from a cache, and into one: `Caching`, `cache_night`.

A compressed night is unpacked once: the run that reduces it first leaves a cache in the library,
later ones read from there what they would otherwise inflate again. Files are known by their
SHA-256, taken anew each time: a file that was changed behind its date is another file. Whatever
was decided about a frame is decided again, from the same header and the same bits, so that results
do not depend on where pixels come from.

A night behind a URL goes the same way, before it is reduced (`brought_near`): its frames are
copied, hashed on the way, and put into a cache. What tells a file there apart is what its store
says of it, size and ETag or time; the SHA-256 that belongs to it is kept beside the caches, so that
a later run finds the cache without fetching a frame. A store that tells neither is not believed,
and its files are fetched anew.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from arrayred.config import Instrument, NightFile
from arrayred.errors import ArrayredError, FrameError, NightError, UsageError
from arrayred.io.cache import contents_of
from arrayred.io.caching import Library, fetch, key_of, upload
from arrayred.io.frames import Frame
from arrayred.io.ledger import Hashes, examine, required
from arrayred.io.pixels import release
from arrayred.io.remote import Address, is_fits_name, located
from arrayred.night.groups import state_of

if TYPE_CHECKING:
    from arrayred.io.caching import Night as Content
    from arrayred.io.scan import FrameReader
    from arrayred.night.records import Night


def say_nothing(_warning: str) -> None:
    """Pass a warning by."""


@dataclass(frozen=True)
class Caching:
    """When pixels are read from the library of caches.

    Parameters
    ----------
    library : the caches.
    always : for plain nights too, not only for those with compressed frames.
    say : is called with what is odd about a cache.
    """

    library: Library
    always: bool = False
    say: Callable[[str], None] = say_nothing

    def is_for(self, frames: Iterable[Frame]) -> bool:
        """Tell whether frames would be read from a cache if there were one."""
        frames = list(frames)
        from_files = [frame for frame in frames if frame.image.source.shelf is None]
        packed = any(not frame.image.at_hand for frame in from_files)
        return packed or (self.always and bool(from_files))

    def shelved(
        self, frames: Sequence[Frame], folder: Path, file: NightFile, instrument: Instrument
    ) -> list[Frame]:
        """Return frames, to be read from their cache if there is a whole one.

        Parameters
        ----------
        frames : as their headers describe them.
        folder : of the night.
        file, instrument : what else decides what their cache holds.
        """
        if not self.is_for(frames) or self.library.is_empty():
            return list(frames)
        checksums = self._checksums(frames)
        if checksums is None:
            return list(frames)
        key = _key(frames, checksums, folder, _options(file, instrument))
        try:
            contents = self.library.find(key)
        except FrameError as error:
            self.say(f"{error.path}: {error.args[0]}; it is built again")
            self.library.drop(key)
            return list(frames)
        if contents is None:
            return list(frames)
        known = contents.by_sha256
        return [*_on({p: known[sha].source.shelf for p, sha in checksums.items()}, frames)]

    def _checksums(self, frames: Sequence[Frame]) -> dict[Path, str] | None:
        """Return the sha256 of frames' files; None where one is damaged, or not known from afar."""
        try:
            if not any(frame.image.is_remote for frame in frames):
                return required(examine(frames), frames)
            hashes = self.hashes
            known = [(frame.path, hashes.known(frame.path)) for frame in frames]
            sums = {path: sha256 for path, sha256 in known if sha256}
            return sums if len(sums) == len(known) else None
        except ArrayredError:  # of a damaged frame, which is reported where it is needed
            return None

    @property
    def hashes(self) -> Hashes:
        """Return what is known of files behind URLs."""
        return Hashes(self.library.folder)


def brought_near(night: Night, caching: Caching) -> Night:
    """Return a night whose pixels are read from this machine, from a cache made now if need be.

    Parameters
    ----------
    night : one that does not lie behind a URL is returned as it is, as is one that cannot be
        cached: then its frames are copied when they are read, and what was wrong is said.
    caching : the library, and whom to tell.
    """
    sources = [frame.image.source for frame in night.scanned]
    far = next((s.shelf.far for s in sources if s.shelf is not None and s.shelf.far), None)
    is_far = any(
        frame.image.is_remote and frame.image.source.shelf is None for frame in night.scanned
    )
    if far is None and not is_far:
        return night
    try:
        if far is not None:
            images = contents_of(fetch(far.cache, caching.library)).images
        else:
            images = contents_of(cache_night(night, caching.library)).images
            release([frame.image for frame in night.scanned])
    except ArrayredError as error:
        caching.say(f"no cache was made: {error}")
        return night
    names = _names(night.scanned, night.folder)
    shelves = {path: images[name].source.shelf for path, name in names.items() if name in images}
    frames, scanned = (_on(shelves, frames) for frames in (night.frames, night.scanned))
    return replace(night, frames=frames, scanned=scanned)


def _on(shelves: Mapping[Path, FrameReader | None], frames: Iterable[Frame]) -> tuple[Frame, ...]:
    """Return frames, to be read from the shelves that have them."""
    return tuple(
        replace(f, image=replace(f.image, source=replace(f.image.source, shelf=shelf)))
        if (shelf := shelves.get(f.path)) is not None
        else f
        for f in frames
    )


def cache_night(night: Night, place: str | Path | Library, *, overwrite: bool = False) -> Path:
    """Write the cache of a night, and return where it lies.

    Parameters
    ----------
    night : all of its frames are cached, those that take no part included.
    place : the folder or the URL that it becomes, or the library that it is put into.
    overwrite : replace a folder that is there.

    Raises
    ------
    NightError
        A file should be a frame but cannot be read.
    FrameError
        A frame is damaged, or cannot be stored without loss.
    UsageError
        zarr is not installed, a folder is there already, or lies inside the night.
    StorageError
        The disk is full or refuses.
    """
    from tempfile import TemporaryDirectory

    from arrayred.io.caching import build, require_zarr

    require_zarr()
    if night.problems:
        raise NightError(night.problems)
    if isinstance(place, Library):
        is_far = any(frame.image.is_remote for frame in night.scanned)
        hashes = Hashes(place.folder) if is_far else None
        added = place.add(_content_of(night, hashes))
        if hashes is not None:
            hashes.save()
        return added
    content = _content_of(night)
    place = located(place)
    if isinstance(place, Address):
        with TemporaryDirectory(prefix="arrayred-") as folder:
            build(content, Path(folder) / "night.zarr")
            upload(Path(folder) / "night.zarr", place, overwrite=overwrite)
        return place
    if night.folder.resolve() in (place.resolve(), *place.resolve().parents):
        raise UsageError("The cache lies inside the night", path=place, hint="Choose another.")
    build(content, place, overwrite=overwrite)
    return place


def _content_of(night: Night, hashes: Hashes | None = None) -> Content:
    from arrayred.io.caching import Night as Content

    checksums = required(examine(night.scanned, hashes), night.scanned)
    key = _key(night.scanned, checksums, night.folder, _options(night.file, night.instrument))
    foreign = [(Path(path), why) for path, why in night.foreign if is_fits_name(path)]
    return Content(
        _nodes(night),
        _names(night.scanned, night.folder),
        checksums,
        tuple(
            (_relative(path, night.folder), why)
            for path, why in foreign
            if path.is_relative_to(night.folder)
        ),
        key,
    )


def _nodes(night: Night) -> dict[str, Sequence[Frame]]:
    """Return all frames by the node of the tree that they become, those of no group last."""
    nodes: dict[str, Sequence[Frame]] = {
        f"{'masters' if group.is_master else 'raw'}/{name}": group.frames
        for name, group in night.groups.items()
    }
    grouped = {frame.label for frames in nodes.values() for frame in frames}
    others: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    for frame in night.scanned:
        if frame.label not in grouped:
            others[state_of(frame), frame.image.source.pixels].append(frame)
    left_out = {f"left_out/{i}": frames for i, frames in enumerate(others.values(), 1)}
    return nodes | left_out


def _options(file: NightFile, instrument: Instrument) -> str:
    """Return what beside the frames decides what a cache holds, as text."""
    return repr((file.unsigned, file.types, file.targets, instrument))


def _key(frames: Sequence[Frame], checksums: dict[Path, str], folder: Path, options: str) -> str:
    names = _names(frames, folder)
    return key_of([(names[frame.path], checksums[frame.path]) for frame in frames], options)


def _names(frames: Iterable[Frame], folder: Path) -> dict[Path, str]:
    """Return how the files of frames are called in a cache: as in the folder, or by number."""
    paths = [frame.path for frame in frames]
    outside = [path for path in paths if not path.is_relative_to(folder)]
    names = {path: _relative(path, folder) for path in paths if path.is_relative_to(folder)}
    return names | {path: f"elsewhere/{i}/{path.name}" for i, path in enumerate(outside)}


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
