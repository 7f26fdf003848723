"""The sha256 of every input, and from the same read its DATASUM, where the header has one.

Every product names its inputs' sha256, so each file is read whole anyway, beside the reduction. The
32-bit sum of the image's data (FITS Standard 4.0, 4.4.2.7) is added up on the way: a flipped bit is
then an error with the file's name. Of a tile-compressed image it is the sum of the compressed
table; what is inside a gzip file is guarded by gzip's own checksum.

CHECKSUM, the sum of header and data, is not compared: whoever mends a card with an editor leaves it
wrong, and such a frame is as good as before.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import IO

from arrayred.errors import ArrayredError
from arrayred.io.cards import BLOCK
from arrayred.io.file_sum import require_datasum
from arrayred.io.frames import Frame
from arrayred.io.hashes import Hashes
from arrayred.io.hdu import ones_complement_sum
from arrayred.io.patience import patiently
from arrayred.io.remote.address import Address
from arrayred.io.remote.store import Stamp
from arrayred.io.sources import FrameReader, ImageHDU, unreadable
from arrayred.io.spool import copied

Examined = Mapping[Path, str | ArrayredError]
"""By path a file's sha256, or why it must not be used."""

_PIECE = 1 << 18


def examine(
    frames: Iterable[Frame], hashes: Hashes | None = None, stop: Event | None = None
) -> Examined:
    """Return the sha256 of every frame's file, or the error of one whose data are damaged.

    Parameters
    ----------
    frames : whose files are read.
    hashes : what is known already of files that have not changed since; they are not read. If
        it is not to be trusted, a cache is not either: all of it is compared with its sums.
    stop : once it is set, the rest is left out.
    """
    images = {frame.path: frame.image for frame in frames}
    is_trusted = hashes is None or hashes.trust
    damaged = {} if is_trusted else _damaged_caches(images.values())
    return {
        path: damaged.get(image.source.shelf) or _sha256_or_error(image, hashes)
        for path, image in images.items()
        if stop is None or not stop.is_set()
    }


def _damaged_caches(images: Iterable[ImageHDU]) -> dict[FrameReader | None, ArrayredError]:
    """Return the frames that lie in caches some file of which is not as it was written."""
    from arrayred.io.cache.contents import cache_of, sums_of

    caches: dict[Path, list[FrameReader]] = {}
    for shelf in (image.source.shelf for image in images):
        if shelf is not None:
            caches.setdefault(cache_of(shelf), []).append(shelf)
    found: dict[FrameReader | None, ArrayredError] = {}
    for cache, shelves in caches.items():
        try:
            sums_of(cache)
        except ArrayredError as error:
            found |= dict.fromkeys(shelves, error)
    return found


def required(examined: Examined, frames: Iterable[Frame]) -> dict[Path, str]:
    """Return the sha256 of some frames' files.

    Raises
    ------
    FrameError
        The data of one are damaged, or it could not be read.
    """
    sums = {}
    for frame in frames:
        found = examined[frame.path]
        if isinstance(found, ArrayredError):
            raise found
        sums[frame.path] = found
    return sums


def _sha256_or_error(image: ImageHDU, hashes: Hashes | None) -> str | ArrayredError:
    path = image.source.path
    if image.source.shelf is not None:
        if hashes is not None and isinstance(path, Address):
            hashes.note(path, image.source.shelf.sha256)
        return image.source.shelf.sha256
    try:
        known = None if hashes is None else hashes.known(path)
        if isinstance(path, Address):
            return known or _sha256_of_copy(image, hashes)
        if known is not None:
            image.source.require_unchanged(path.stat())
            return known
        return patiently(partial(_verified_sha256, image, hashes))
    except ArrayredError as error:
        return error
    except OSError as error:
        return unreadable(path, error)


def _sha256_of_copy(image: ImageHDU, hashes: Hashes | None) -> str:
    """Return the sha256 of a file behind a URL, its copy held against DATASUM."""
    path, sha256 = copied(image)
    near = replace(image.source, path=path, stamp=Stamp.of(path.stat()))
    try:
        _verified_sha256(replace(image, source=near), None)
    except ArrayredError as error:
        error.path = str(image.source.path)
        raise
    if hashes is not None:
        hashes.note(image.source.path, sha256)
    return sha256


def _verified_sha256(image: ImageHDU, hashes: Hashes | None) -> str:
    """Return the sha256 of a file; raise FrameError if its DATASUM is not that of its data."""
    told, path, first = datasum_of(image), image.source.path, image.source.offset
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        image.source.require_unchanged(status)
        if told is None:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            digest, total = _sums_of(file, first, first + _data_bytes(image))
            require_datasum(path, total, told)
    if hashes is not None:
        hashes.note(path, digest, status)
    return digest


def _sums_of(file: IO[bytes], first: int, stop: int) -> tuple[str, int]:
    """Return the sha256 of a file, and the sum of its bytes first..stop, missing ones being 0."""
    digest, total, position = hashlib.sha256(), 0, 0
    while piece := file.read(_PIECE):
        digest.update(piece)
        inside = piece[max(first - position, 0) : max(stop - position, 0)]
        total = ones_complement_sum(inside + bytes(-len(inside) % 4), total)
        position += len(piece)
    return digest.hexdigest(), total


def datasum_of(image: ImageHDU) -> int | None:
    """Return what the header says the sum of the data is; None where it says nothing usable."""
    value = str(image.header.readable("DATASUM") or "").strip()
    is_told = value.isdecimal() and image.packing != "gzip"
    return int(value) if is_told else None


def _data_bytes(image: ImageHDU) -> int:
    """Return how long the data of an image's HDU are, padding included."""
    size = image.source.n_bytes
    if image.packing == "tiles":
        facts = [image.header.readable(keyword) for keyword in ("NAXIS1", "NAXIS2", "PCOUNT")]
        width, rows, heap = (value if isinstance(value, int) else 0 for value in facts)
        size = width * rows + heap
    return -(-size // BLOCK) * BLOCK
