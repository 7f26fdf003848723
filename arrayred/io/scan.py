"""Scan the headers of a FITS file for the position and encoding of its image, reading no pixels.

Headers are read in blocks of 2880 bytes up to END, never a pixel; a file's size is compared with
the size its header states, so that a truncated frame is found before anything is computed. The
image is the first HDU that holds one, or the one that is asked for; the cards of the primary header
follow its own. Further images of the file are `ImageHDU.further`: a part of a file is never used
silently as the frame. Masks, flags and noise of an image are its `ImageHDU.planes`
(`kind_of`).

Compressed files are recognised by their first bytes, whatever their names; only headers are
inflated, and what lies before them.

*Extensions of an image*: masks, flags and noise of its pixels. An extension of one of these names
belongs to the image before it, and is not a frame. Its meaning is decided here alone:

- MASK, BPM: not 0 (NaN too) is bad, as `astropy.nddata.CCDData` and IRAF write it.
- DQ, FLAGS, QUALITY: the bits of `dq` in products of arrayred. Other programs' bits have other
  meanings, but 0 is good in all of them (HST, Gemini, LCO): any bit is bad. Beside a mask these
  bits only name what the mask says.
- UNCERT (by its UTYPE a standard deviation, a variance or an inverse variance), ERR, SIGMA and the
  like: standard deviations; VAR, VARIANCE; IVAR. Beside CLEAN, the best estimate, the noise is that
  of CLEAN and not of the image.
- Weights, sky, models and pictures: nothing about the pixels as they are.

*Several images of a file* are joined into one frame, and a frame is transposed: `with_all_images`,
`turned`. A detector read by several amplifiers, or several detectors, are often one image extension
each. DETSEC (else CCDSEC) of each says which of the detector's pixels it holds, the first number of
a pair being the end from which it was read; DATASEC where they lie in the image; BIASSEC where its
overscan is (IRAF's mosaic conventions; NOAO, Gemini and Keck write them). The images are joined if
these sections agree with them, do not overlap and fill a rectangle. Otherwise only the first image
is read, and `ImageHDU.warning` reports that with the remedy.

The amplifiers differ in level and gain, and the frame would have a step between them: from each the
level of its own overscan is subtracted row by row, and its counts are multiplied by its gain over
that of the first. Different read noises become their root mean square.
"""

from __future__ import annotations

import errno
import gzip
import math
import os
import re
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from arrayred.config.toml import open_plain_file
from arrayred.errors import ArrayredError, ForeignFileError, FrameError, HeaderError
from arrayred.io.header import BLOCK, CARD, Header
from arrayred.io.remote import Address, Stamp, open_remote, path_or_address, stamp_of
from arrayred.kernels.rows import overscan_levels
from arrayred.model import (
    BAD_PIXEL,
    DQ,
    REPAIRED,
    SPOILT,
    VARIANCE,
    Section,
    Sections,
    consistent_sections,
    section_numbers,
)

_MAX_HEADER_BLOCKS = 1000
_MAX_IMAGE_PIXELS = 2**40
_MOST_INFLATED = 256 << 20
_MOST_SOUGHT = 1 << 40
_MOST_FIELDS = 999  # TFIELDS: FITS Standard 4.0, 7.2.1
_BITPIX = (8, 16, 32, 64, -32, -64)


def scan(path: Path, extension: str = "") -> ImageHDU:
    """Return an image of a file: position, encoding and header, from headers only.

    Parameters
    ----------
    path : the file.
    extension : number of the HDU (0 is the primary) or EXTNAME of the image; "": the first one. The
        image of a product of arrayred is its first, whatever is asked for.

    Raises
    ------
    FrameError
        The file is not a regular file, not FITS, holds no such image, or is shorter than its header
        states.
    HeaderError
        A card that describes the pixels is missing or invalid.
    """
    path = path_or_address(path)
    if isinstance(path, Address):
        return _scan_remote(path, stamp_of(path), extension)
    return retry(partial(_scan_local, path, extension))


def _scan_local(path: Path, extension: str) -> ImageHDU:
    """Return the image of a local file."""
    try:
        with open_regular(path) as file:
            return _scan_open_file(path, file, Stamp.of(os.fstat(file.fileno())), extension)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            raise ForeignFileError("No such file", path=path) from error
        raise FrameError(
            f"The file cannot be read ({error.strerror or error})",
            path=path,
            hint="Make it readable, or move it elsewhere.",
        ) from error


@lru_cache(maxsize=4096)
def _scan_remote(address: Address, _stamp: Stamp, extension: str) -> ImageHDU:
    """Return the image of a remote file; headers are read again only if the file changed."""
    file, stamp = open_remote(address)
    return _scan_open_file(address, file, stamp, extension)


def _scan_open_file(path: Path, file: IO[bytes], stamp: Stamp, extension: str) -> ImageHDU:
    """Return the image of an open file."""
    packing = _packing_of(path, file)
    with damage_told(path), unpacked_stream(path, file, packing) as stream:
        size = stamp.size if packing == "plain" else _unpacked_size(file, packing)
        found = _images(path, stream, stamp, packing, size)
        image = _chosen(path, found, extension) if extension else next(found)
        image, *further = _with_planes(image, found)
        if PRODUCT_CARD not in image.header and not extension:
            image = replace(image, further=tuple(further))
    return image


def _with_planes(first: ImageHDU, found: Iterable[ImageHDU]) -> list[ImageHDU]:
    """Return the images that may be frames, each with the extensions that belong to it."""
    groups = [[first]]
    for one in found:
        if one.is_frame:
            groups.append([one])
        else:
            groups[-1].append(one)
    return [_keeping_planes(image, beside) for image, *beside in groups]


def _keeping_planes(image: ImageHDU, beside: Sequence[ImageHDU]) -> ImageHDU:
    """Return an image with those of the extensions behind it that tell its mask, flags or noise."""
    has_best = any(one.name.upper() == BEST_NAME for one in beside)
    planes = [
        one
        for one in beside
        if image.is_frame
        and one.kind is not None
        and not (has_best and variable_of(one.kind) == VARIANCE)
    ]
    if not planes:
        return image
    same = tuple(one for one in planes if one.source.shape == image.source.shape)
    other = [one.title for one in planes if one not in same]
    told = f"{', '.join(other)} was not used: its shape is not the image's" if other else ""
    return replace(image, planes=same, warning=told)


def _chosen(path: Path, found: Iterator[ImageHDU], extension: str) -> ImageHDU:
    """Return the image with a number or a name; the first of a product of arrayred."""
    names: list[str] = []
    for image in found:
        is_it = extension.upper() in (str(image.hdu), image.name.upper())
        if is_it or (not names and PRODUCT_CARD in image.header):
            return image
        names.append(image.title)
    raise FrameError(
        f"The file has no image {extension}, but {', '.join(names)}",
        path=path,
        hint="Use another --extension number or name, or exclude the file.",
    )


# Files that are compressed as a whole: which ways are known, and the stream of their content.

MAGIC: dict[bytes, Packing] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"PK\x03\x04": "zip",
}
_UNREADABLE_MAGIC = {
    b"\x1f\x9d": "compress (.Z)",
    b"\x1f\xa0": "pack (.z)",
    b"\x28\xb5\x2f\xfd": "zstd (.zst)",
    b"\x04\x22\x4d\x18": "lz4 (.lz4)",
    b"7z\xbc\xaf\x27\x1c": "7-Zip (.7z)",
    b"Rar!\x1a\x07": "RAR (.rar)",
}


def _packing_of(path: Path, file: IO[bytes]) -> Packing:
    """Return how a whole file is compressed, by its first bytes."""
    start = file.read(6)
    file.seek(0)
    for magic, name in _UNREADABLE_MAGIC.items():
        if start.startswith(magic):
            raise ForeignFileError(
                f"It is compressed by {name}, which is not supported",
                path=path,
                hint="Decompress it and run again.",
            )
    return next((how for magic, how in MAGIC.items() if start.startswith(magic)), "plain")


@contextmanager
def unpacked_stream(path: Path, file: IO[bytes], packing: Packing) -> Iterator[IO[bytes]]:
    """Yield the content of a file, unpacked if it is compressed as a whole.

    Raises
    ------
    ForeignFileError
        It is an archive of several files.
    """
    if packing == "gzip":
        yield cast(IO[bytes], gzip.GzipFile(fileobj=file))
    elif packing == "bzip2":
        import bz2  # like lzma and zipfile: few nights need it

        yield cast(IO[bytes], bz2.BZ2File(file))
    elif packing == "xz":
        import lzma

        with lzma.LZMAFile(file) as stream:
            yield cast(IO[bytes], stream)
    elif packing == "zip":
        import zipfile

        with zipfile.ZipFile(file) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            if len(names) != 1:
                raise ForeignFileError(
                    f"It is an archive of {len(names)} files, not a frame",
                    path=path,
                    hint="Decompress it and run again.",
                )
            with archive.open(names[0]) as member:
                yield member
    else:
        yield file


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Raise FrameError where the decoder of a compressed file fails."""
    try:
        yield
    except ArrayredError:
        raise
    except OSError as error:
        if error.errno is not None:  # the disk's, not the decoder's
            raise
        raise _damaged(path, error) from error
    except (EOFError, zlib.error) as error:
        raise _damaged(path, error) from error
    except Exception as error:
        # Of modules that are imported only where such a file is read; zipfile raises the last two
        # for passwords and methods that it does not know.
        known = ("LZMAError", "BadZipFile", "RuntimeError", "NotImplementedError")
        if type(error).__name__ not in known:
            raise
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> FrameError:
    return FrameError(f"The compressed file is damaged ({error})", path=path, hint="Copy it again.")


def _unpacked_size(file: IO[bytes], packing: Packing) -> int | None:
    """Return the size of the content of a compressed file, bytes; None where only its end tells.

    A gzip file ends with its size modulo 2^32 (RFC 1952), so that the headers behind the pixels
    need not be looked for, which would inflate all of them.
    """
    if packing != "gzip":
        return None
    here = file.tell()
    size = int.from_bytes(_tail(file, 4), "little")
    file.seek(here)
    return size


def _tail(file: IO[bytes], n_bytes: int) -> bytes:
    file.seek(0, os.SEEK_END)
    file.seek(max(file.tell() - n_bytes, 0))
    return file.read(n_bytes)


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file; raise ForeignFileError for a pipe, a folder or a device."""
    try:
        return open_plain_file(path)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise ForeignFileError(
            "This is not a regular file", path=path, hint="Move or rename it."
        ) from error


def _images(
    path: Path, stream: IO[bytes], stamp: Stamp, packing: Packing, size: int | None
) -> Iterator[ImageHDU]:
    """Yield the images of a file, in order.

    Parameters
    ----------
    path : the file.
    stream : its content, unpacked.
    stamp : the file's size, time and inode.
    packing : how the whole file is compressed.
    size : of the content, bytes; None if unknown.

    Raises
    ------
    FrameError, HeaderError
        There is no image, or the first one cannot be read.
    """
    primary: Header | None = None
    offset = n_images = 0
    for hdu in range(1000):
        raw = header_bytes(path, stream, first=hdu == 0)
        if raw is None:
            break
        header = Header.from_bytes(raw)
        offset += len(raw)
        try:
            image = _image_of(path, stamp, header, offset)
        except HeaderError as error:
            if not n_images:
                raise _named(error, path) from None
            image = None  # a cube or a spectrum behind the image is no frame
        try:
            n_bytes = _data_bytes(header)
        except HeaderError as error:
            if not n_images:
                raise _named(error, path) from None
            return
        if packing == "plain" and (image is not None or not n_images):
            _require_whole(path, stamp.size, offset + n_bytes)
        if image is not None:
            whole = header if primary is None else header.inherit(primary)
            packed: Packing = image.packing if image.packing == "tiles" else packing
            yield replace(image, header=whole, hdu=hdu, packing=packed)
            n_images += 1
        primary = header if primary is None else primary
        offset += -(-n_bytes // BLOCK) * BLOCK
        if n_images and offset >= (_MOST_SOUGHT if size is None else size):
            break
        if packing != "plain" and not n_images and offset > _MOST_INFLATED:
            raise FrameError(
                f"The compressed file holds {offset} bytes before its image",
                path=path,
                hint="Decompress it yourself.",
            )
        stream.seek(offset)
    if n_images:
        return
    is_frame = primary is not None and "IMAGETYP" in primary and PRODUCT_CARD not in primary
    if primary is not None and hdu <= 1 and is_frame:
        raise HeaderError(
            "The frame has no pixels (NAXIS)",
            path=path,
            keyword="NAXIS",
            hint="Copy it again or move it elsewhere.",
        )
    raise ForeignFileError(
        "The file contains no image", path=path, hint="Move it elsewhere, or exclude it."
    )


def _require_whole(path: Path, size: int, promised: int) -> None:
    """Raise FrameError where a file is smaller than a header of it states."""
    if size < promised:
        raise FrameError(
            f"The file has {size} bytes, but its header states {promised}",
            path=path,
            hint="It is truncated: copy it again or move it elsewhere.",
        )


def _named(error: HeaderError, path: Path) -> HeaderError:
    """Return an error with the file's path, and a remedy."""
    error.path = str(path)
    error.hint = error.hint or f"Correct {error.keyword} in the header, or move the file."
    return error


def _image_of(path: Path, stamp: Stamp, header: Header, offset: int) -> ImageHDU | None:
    """Return the image that an HDU holds, or None."""
    tiled = header.get("ZIMAGE") is True
    if not tiled and not _holds_image(header):
        return None
    prefix = "Z" if tiled else ""
    _require_one_value(header, prefix)
    pixels = _pixel_format(header, prefix)
    shape = _shape_of_axes(header, prefix)
    if tiled:
        _require_bounded_tiles(header, shape)
    source = PixelSource(path, offset, shape, pixels, stamp)
    return ImageHDU(source, header, 0, "tiles" if tiled else "plain")


def _require_one_value(header: Header, prefix: str) -> None:
    """Raise HeaderError where two cards of one keyword describe the pixels differently.

    Readers differ in which of them they believe.
    """
    axes = [f"{prefix}{keyword}" for keyword in ("BITPIX", "NAXIS", "NAXIS1", "NAXIS2")]
    layout = [*axes, "BZERO", "BSCALE", "BLANK", "XTENSION", "PCOUNT", "GCOUNT"]
    if prefix:
        layout += ["NAXIS1", "NAXIS2", "ZCMPTYPE", "ZTILE1", "ZTILE2", "TFIELDS"]
    there = [name for card in header if (name := card.removeprefix("HIERARCH ")) in layout]
    if len(there) == len(set(there)):
        return
    for keyword in layout:
        values = header.all(keyword)
        if any(value != values[0] for value in values):
            raise HeaderError(
                f"{keyword} is {' and '.join(str(value) for value in values)}",
                keyword=keyword,
                value=values[0],
                hint=f"Remove the wrong {keyword} card, or move the file elsewhere.",
            )


def _require_bounded_tiles(header: Header, shape: tuple[int, int]) -> None:
    """Raise HeaderError where the table of a tile-compressed image cannot hold its tiles.

    Its decoder believes TFIELDS, and makes room for what ZTILEn says. A table has a row for each
    tile (FITS Standard 4.0, 10.1).
    """
    if not isinstance(header["ZCMPTYPE"], str):
        raise HeaderError("ZCMPTYPE names no compression", keyword="ZCMPTYPE")
    n_fields = _whole_number_of(header, "TFIELDS")
    if n_fields > _MOST_FIELDS:
        raise HeaderError(
            f"TFIELDS is {n_fields}, more than FITS allows", keyword="TFIELDS", value=n_fields
        )
    n_tiles = 1
    for axis, (n_pixels, default) in enumerate(zip(shape[::-1], (shape[1], 1), strict=True), 1):
        keyword = f"ZTILE{axis}"
        n_along = _whole_number_of(header, keyword) if keyword in header else default
        if n_along < 1:
            raise HeaderError(f"{keyword} is {n_along}", keyword=keyword, value=n_along)
        n_tiles *= -(-n_pixels // n_along)
    n_rows = _whole_number_of(header, "NAXIS2")
    if n_tiles != n_rows:
        raise HeaderError(
            f"The image has {n_tiles} tiles, but its table {n_rows} rows",
            keyword="NAXIS2",
            value=n_rows,
        )


def header_bytes(path: Path, stream: IO[bytes], *, first: bool) -> bytes | None:
    """Read blocks up to END; None where the file ends properly before a further HDU."""
    blocks: list[bytes] = []
    while len(blocks) < _MAX_HEADER_BLOCKS:
        block = stream.read(BLOCK)
        if not blocks and (not block or (not first and not block.startswith(b"XTENSION"))):
            if first:
                raise FrameError(
                    "The file is empty", path=path, hint="Copy it again or move it elsewhere."
                )
            return None
        if not blocks and first and not block.startswith(b"SIMPLE  ="):
            raise ForeignFileError("This is not a FITS file", path=path, hint="Move or rename it.")
        if len(block) < BLOCK:
            raise FrameError(
                "The file is truncated: the header is incomplete",
                path=path,
                hint="Copy it again.",
            )
        blocks.append(block)
        if any(block[i : i + CARD].rstrip() == b"END" for i in range(0, BLOCK, CARD)):
            return b"".join(blocks)
    raise FrameError(
        f"No END card within {_MAX_HEADER_BLOCKS} blocks of header",
        path=path,
        hint="Move or rename it.",
    )


def _holds_image(header: Header) -> bool:
    is_image = "XTENSION" not in header or header["XTENSION"] == "IMAGE"
    return is_image and _whole_number_of(header, "NAXIS") > 0 and all(_axes(header, ""))


def _axes(header: Header, prefix: str) -> list[int]:
    return [
        _whole_number_of(header, f"{prefix}NAXIS{i + 1}")
        for i in range(_whole_number_of(header, f"{prefix}NAXIS"))
    ]


def _whole_number_of(header: Header, keyword: str) -> int:
    value = header[keyword]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MAX_IMAGE_PIXELS:
        raise HeaderError(
            f"{keyword} is {value!r}, which does not describe an image",
            keyword=keyword,
            value=value,
        )
    if keyword.endswith("NAXIS") and value > 999:
        raise HeaderError(
            f"{keyword} is {value}, more than FITS allows", keyword=keyword, value=value
        )
    return value


def _shape_of_axes(header: Header, prefix: str) -> tuple[int, int]:
    axes = _axes(header, prefix)
    if len(axes) < 2 or any(n != 1 for n in axes[2:]) or math.prod(axes) > _MAX_IMAGE_PIXELS:
        raise HeaderError(
            f"The image has the axes {axes}, but a frame has two",
            keyword=f"{prefix}NAXIS",
            value=len(axes),
            hint="Split cubes into frames; move spectra elsewhere.",
        )
    return axes[1], axes[0]


def _pixel_format(header: Header, prefix: str) -> PixelFormat:
    bitpix = header[f"{prefix}BITPIX"]
    if bitpix not in _BITPIX or not isinstance(bitpix, int):
        raise HeaderError(
            f"BITPIX is {bitpix!r}, but FITS allows {_BITPIX}", keyword="BITPIX", value=bitpix
        )
    blank = header.get("BLANK") if bitpix > 0 else None
    return PixelFormat(
        bitpix,
        _number_of(header, "BZERO", 0.0),
        _number_of(header, "BSCALE", 1.0),
        blank if isinstance(blank, int) and not isinstance(blank, bool) else None,
    )


def _number_of(header: Header, keyword: str, default: float) -> float:
    value = header.get(keyword, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise HeaderError(
            f"{keyword} is {value!r}, which is not a number", keyword=keyword, value=value
        )
    return float(value)


def data_size(header: Header) -> int:
    """Return the size of an HDU's data in bytes, whole blocks (FITS Standard 4.0, 4.4.1.2)."""
    return -(-_data_bytes(header) // BLOCK) * BLOCK


def _data_bytes(header: Header) -> int:
    """Return the size of an HDU's data, bytes, without the padding behind it."""
    axes = _axes(header, "")
    bits = header["BITPIX"]
    if not axes or not isinstance(bits, int):
        return 0
    extra = _whole_number_of(header, "PCOUNT") if "PCOUNT" in header else 0
    groups = _whole_number_of(header, "GCOUNT") if "GCOUNT" in header else 1
    return abs(bits) // 8 * groups * (extra + math.prod(axes))


def datasum_of(image: ImageHDU) -> int | None:
    """Return the DATASUM from the header; None where missing or not usable (a packed file)."""
    value = str(image.header.readable("DATASUM") or "").strip()
    is_told = value.isdecimal() and image.packing in ("plain", "tiles")
    return int(value) if is_told else None


def require_datasum(path: Path, total: int, told: int) -> None:
    """Raise FrameError if the sum of a file's data differs from its DATASUM."""
    if total != told:
        raise FrameError(
            f"The checksum of the pixels is {total}, but DATASUM says {told}",
            path=path,
            keyword="DATASUM",
            value=told,
            hint="Copy it again; if the pixels were changed on purpose, remove DATASUM.",
        )


# The result of a scan: position and encoding of a frame's pixels.

Packing = Literal["plain", "gzip", "bzip2", "xz", "zip", "tiles", "parts"]
PRODUCT_CARD = "ARVERSN"
"""The card that every product has, and no raw frame."""
OVERSCAN_CARD = "AROVSCAN"
"""The card of images whose overscan was subtracted."""


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """Encoding of the pixels of an image: BITPIX, BZERO, BSCALE, BLANK.

    `wrapped` means unsigned counts stored as signed, so that the top half of the range appears
    negative; the bits are then read as unsigned.
    """

    bitpix: int
    bzero: float = 0.0
    bscale: float = 1.0
    blank: int | None = None
    wrapped: bool = False


class PixelArray(Protocol):
    """Frames of one shape that lie in one array instead of in their files.

    The only interface that pixel readers have to caches; `io.cache` implements it.
    """

    @property
    def cache(self) -> Path:
        """Return the folder or address of the cache that holds the array."""

    @property
    def chunk_rows(self) -> int:
        """Return the number of rows that are read at the cost of one."""

    @property
    def chunk_bytes(self) -> int:
        """Return the size of what is decompressed at a time, bytes."""

    @property
    def is_remote(self) -> bool:
        """Return whether pixels are fetched when they are read."""

    def read(self, frames: Sequence[int], first: int, n_pixels: int) -> NDArray[Any]:
        """Return pixels (frame, pixel) from number first on, in reading order."""


@dataclass(frozen=True, slots=True)
class CachedPixels:
    """The pixels of one frame in an array of a cache.

    Parameters
    ----------
    array : the array.
    index : the frame's number in it, from 0.
    coding : the encoding with which stored bits were decoded to the array's values; None: the array
        holds the bits.
    sha256 : of the frame's file.
    proof : evidence from frames outside the cache about its sign, or "".
    sample : its sampled stored pixels, little-endian; b"" if unknown.
    """

    array: PixelArray
    index: int
    coding: PixelFormat | None
    sha256: str
    proof: str = ""
    sample: bytes = field(default=b"", repr=False)

    def decode(self, values: NDArray[Any], target: NDArray[Any], pixels: PixelFormat) -> None:
        """Write values of the array into a target of the same shape, decoded as `pixels`."""
        if self.coding == pixels:
            target[...] = values
        elif self.coding is None:
            decode(values.astype(stored_dtype(pixels)), target, pixels)
        else:
            decode(encode(values, self.coding).view(stored_dtype(pixels)), target, pixels)


@dataclass(frozen=True, slots=True)
class PixelSource:
    """Position and encoding of the pixels of one frame.

    Parameters
    ----------
    path : the file.
    offset : first byte of its pixels (in the inflated file).
    shape : (n_rows, n_columns).
    pixels : their encoding.
    stamp : the file's size, time and inode at the scan.
    cached : their place in a cache; None: they are read from the file.
    """

    path: Path
    offset: int
    shape: tuple[int, int]
    pixels: PixelFormat
    stamp: Stamp
    cached: CachedPixels | None = None

    def require_unchanged(self, status: os.stat_result) -> None:
        """Raise FrameError if the file's status is no longer that of the scan."""
        if Stamp.of(status) != self.stamp:
            raise FrameError(
                "The file has changed since its header was read", path=self.path, hint="Run again."
            )

    @property
    def step(self) -> int:
        """Return the number of rows read at the cost of one: 1, or the rows of a cache's chunk."""
        return 1 if self.cached is None else self.cached.array.chunk_rows

    @property
    def n_bytes(self) -> int:
        """Return the size of the pixels on disk, inflated."""
        return self.shape[0] * self.shape[1] * abs(self.pixels.bitpix) // 8


@dataclass(frozen=True, slots=True)
class Part:
    """An image of a frame that is assembled: what of it is kept, and where it lies in the frame.

    Parameters
    ----------
    image : the image.
    sections : its overscan, which is subtracted from it first, and the section that is kept.
    first_row, first_column : of the frame, from 0, where the section begins.
    rows_reversed, columns_reversed : whether the section is turned before.
    factor : by which its counts are multiplied, so that all parts have one gain.
    """

    image: ImageHDU
    sections: Sections
    first_row: int = 0
    first_column: int = 0
    rows_reversed: bool = False
    columns_reversed: bool = False
    factor: float = 1.0


@dataclass(frozen=True, slots=True)
class ImageHDU:
    """One image of one file.

    Parameters
    ----------
    source : position and encoding of its pixels.
    header : its cards, the extension's first, then the primary header's.
    hdu : number of the HDU that holds the image, from 0.
    packing : "plain", a way in which the whole file is compressed, "tiles" (a tile-compressed HDU),
        or "parts": the pixels are put together from several images, or turned.
    parts : the images that it is put together from.
    further : other images of the file, which may be frames or parts of this one.
    planes : extensions that tell mask, flags or noise of its pixels (``).
    note : what was decided about the images of the file, for the user; "" if it has only one.
    warning : which images of the file are not read, and the remedy; "" if there are none.
    """

    source: PixelSource
    header: Header
    hdu: int
    packing: Packing
    parts: tuple[Part, ...] = ()
    further: tuple[ImageHDU, ...] = ()
    planes: tuple[ImageHDU, ...] = ()
    note: str = ""
    warning: str = ""

    @property
    def name(self) -> str:
        """Return its EXTNAME, or ""."""
        return str(self.header.readable("EXTNAME") or "").strip()

    @property
    def title(self) -> str:
        """Return its EXTNAME, or else the number of its HDU."""
        return self.name or str(self.hdu)

    @property
    def is_frame(self) -> bool:
        """Return whether it may be a frame by itself: no mask, noise or preview of another."""
        return self.name.upper() not in BESIDE_AN_IMAGE

    @property
    def kind(self) -> Kind | None:
        """Return what it tells of the pixels of the image before it; None: nothing."""
        return kind_of(self.name, self.header, PRODUCT_CARD)

    def decoded_with(self, **changes: Any) -> ImageHDU:
        """Return the image with pixels that are decoded with some changes."""
        pixels = replace(self.source.pixels, **changes)
        return replace(self, source=replace(self.source, pixels=pixels))

    def planes_of(self, variable: str) -> list[ImageHDU]:
        """Return its planes from which `dq` or `variance` is made."""
        return [one for one in self.planes if one.kind and variable_of(one.kind) == variable]

    @property
    def is_local(self) -> bool:
        """Return whether pixels can be read in place: from a plain local file or a cache."""
        return self.source.cached is not None or (self.packing == "plain" and not self.is_remote)

    @property
    def is_remote(self) -> bool:
        """Return whether the file is remote (behind a URL)."""
        return isinstance(self.source.path, Address)

    @property
    def is_far(self) -> bool:
        """Return whether its pixels are fetched when they are read."""
        cached = self.source.cached
        return self.is_remote if cached is None else cached.array.is_remote


def as_in_file(image: ImageHDU) -> ImageHDU:
    """Return an image as it lies in its file, if it was turned."""
    return image.parts[0].image if len(image.parts) == 1 else image


def unreadable(path: Path, error: OSError) -> FrameError:
    """Return the error for a frame that could be scanned but cannot be read now."""
    return FrameError(
        f"The file cannot be read ({error.strerror})",
        path=path,
        hint="Restore it and run again.",
    )


# Retries of reads that fail briefly on a network folder: `retry`.
#
# Few errors are transient: a server restarts (EIO, ETIMEDOUT, ENETDOWN), a file was moved to
# another server (ESTALE), another machine gives back a lease (EAGAIN). All others are permanent
# and raised at once: waiting for a missing file is of no use.
#
# Single reads are retried, not the whole night, so that nothing already done is repeated.

Result = TypeVar("Result")
TRANSIENT = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.ENETDOWN})
"""Errors that may be gone a moment later."""
TRANSIENT_OPEN_FILE = TRANSIENT - {errno.ESTALE}
"""The same for an open file: a stale handle stays stale, and the file must be opened again."""
RETRY_DELAYS_S = (0.2, 1.0, 5.0)


def retry(call: Callable[[], Result], errnos: Collection[int] = TRANSIENT) -> Result:
    """Return the result of a call, repeated up to three times after transient errors.

    Parameters
    ----------
    call : reads something; it may be called again after it failed.
    errnos : system errors after which it is; for an ArrayredError its cause counts.

    Raises
    ------
    OSError, ArrayredError
        The call's last error, or its first that is not transient.

    Examples
    --------
    >>> retry(lambda: 7)
    7
    """
    for seconds in RETRY_DELAYS_S:
        try:
            return call()
        except (OSError, ArrayredError) as error:
            cause = error.__cause__ if isinstance(error, ArrayredError) else error
            if not isinstance(cause, OSError) or cause.errno not in errnos:
                raise
        time.sleep(seconds)
    return call()


# Decoding of stored bits into pixel values, and their dtypes.
#
# Values are those of the FITS Standard (4.0, 4.4.2.5): BZERO + BSCALE * stored, BLANK as NaN;
# integers stay native integers wherever BZERO is 0 or the offset that means unsigned.
#
# Byte order is swapped in a copy, which costs no more than a plain copy (0.05 ns per 16-bit
# pixel); `numpy.ndarray.byteswap` in place takes six times that, and holds the interpreter's lock.

Pixels = NDArray[Any]
DType = np.dtype[Any]


@cache
def dtype_of(pixels: PixelFormat) -> DType:
    """Return the native dtype of the decoded values of an encoding.

    Examples
    --------
    >>> dtype_of(PixelFormat(16, bzero=32768.0)), dtype_of(PixelFormat(16, bscale=0.5))
    (dtype('uint16'), dtype('float64'))
    """
    stored = stored_dtype(pixels).newbyteorder("=")
    if stored.kind == "f" and not _is_scaled(pixels):
        return stored
    if _needs_arithmetic(pixels):
        exact_in_single = stored.itemsize <= 2 and not _is_scaled(pixels)
        return np.dtype(np.float32 if exact_in_single else np.float64)
    if pixels.bzero == _flip_of(pixels):
        return np.dtype(f"{'i' if stored.kind == 'u' else 'u'}{stored.itemsize}")
    return stored


@cache
def stored_dtype(pixels: PixelFormat) -> DType:
    """Return the big-endian dtype of the stored bits."""
    size = abs(pixels.bitpix) // 8
    if pixels.bitpix < 0:
        return np.dtype(f">f{size}")
    return np.dtype(f">{'u' if size == 1 or pixels.wrapped else 'i'}{size}")


def _flip_of(pixels: PixelFormat) -> float:
    """Return the BZERO that makes signed integers unsigned, or unsigned bytes signed."""
    return -128.0 if pixels.bitpix == 8 else 2.0 ** (pixels.bitpix - 1)


def _is_scaled(pixels: PixelFormat) -> bool:
    """Return whether values need BZERO and BSCALE beyond the offset that means unsigned."""
    if pixels.bscale != 1.0 or pixels.bitpix < 0:
        return (pixels.bzero, pixels.bscale) != (0.0, 1.0)
    return pixels.bzero not in (0.0, _flip_of(pixels)) or (pixels.wrapped and pixels.bzero != 0.0)


def _needs_arithmetic(pixels: PixelFormat) -> bool:
    """Return whether values must be computed, not merely reordered from the stored bits."""
    return _is_scaled(pixels) or pixels.blank is not None


def decode(raw: Pixels, target: Pixels, pixels: PixelFormat) -> None:
    """Write the values of stored bits into a target of the same shape.

    Parameters
    ----------
    raw : stored bits, in the dtype `stored_dtype` returns. Not changed.
    target : any dtype that holds the values.
    pixels : the encoding.

    Examples
    --------
    >>> target = np.empty(2, np.uint16)
    >>> decode(np.array([-32768, 0], ">i2"), target, PixelFormat(16, bzero=32768.0))
    >>> target
    array([    0, 32768], dtype=uint16)
    """
    native, bits, flip = _decoding_types(pixels)
    if native is None:
        target[...] = _scaled_values(raw, pixels)
    elif target.dtype != native:
        values = np.empty(target.shape, native)
        decode(raw, values, pixels)
        target[...] = values
    else:
        stored = target.view(bits)
        stored[...] = raw.view(bits.newbyteorder(">"))
        if flip is not None:
            np.bitwise_xor(stored, flip, out=stored)


def is_exact(pixels: PixelFormat) -> bool:
    """Return whether the stored bits can be recovered from the values (no arithmetic applied)."""
    return not _needs_arithmetic(pixels)


def encode(values: Pixels, pixels: PixelFormat) -> Pixels:
    """Return the stored bits of values, in the dtype `stored_dtype` returns: inverse of `decode`.

    Parameters
    ----------
    values : of any dtype that holds those of the encoding.
    pixels : the encoding, for which `is_exact` must be True.

    Examples
    --------
    >>> encode(np.array([0, 32768], np.uint16), PixelFormat(16, bzero=32768.0)).tolist()
    [-32768, 0]
    """
    native, bits, flip = _decoding_types(pixels)
    stored = values.astype(native).view(bits)
    if flip is not None:
        np.bitwise_xor(stored, flip, out=stored)
    return stored.astype(bits.newbyteorder(">")).view(stored_dtype(pixels))


@cache
def _decoding_types(pixels: PixelFormat) -> tuple[DType | None, DType, Any]:
    """Return the dtype of the values, that of their bits, and the bit to be flipped or None.

    The first is None where values must be computed.
    """
    native = dtype_of(pixels)
    bits = np.dtype(f"u{native.itemsize}")
    is_flipped = pixels.bitpix > 0 and pixels.bzero == _flip_of(pixels)
    flip = bits.type(1 << (pixels.bitpix - 1)) if is_flipped else None
    return None if _needs_arithmetic(pixels) else native, bits, flip


def _scaled_values(raw: Pixels, pixels: PixelFormat) -> Pixels:
    """Return BZERO + BSCALE * stored in float64, NaN for BLANK."""
    values = raw.astype(np.float64)
    values *= pixels.bscale
    values += pixels.bzero
    if pixels.blank is not None:
        values[raw == (pixels.blank % (1 << pixels.bitpix) if pixels.wrapped else pixels.blank)] = (
            np.nan
        )
    return values


Kind = Literal["mask", "bits", "foreign bits", "std", "var", "ivar"]
UNCERTAINTIES: Mapping[Any, tuple[Kind, int]] = {
    "StdDevUncertainty": ("std", 1),
    "VarianceUncertainty": ("var", 2),
    "InverseVariance": ("ivar", -2),
}
"""Kind and power of the image's unit for each UTYPE, the uncertainties of astropy."""
_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("MASK", "BPM"), "mask"),
    **dict.fromkeys(("DQ", "FLAGS", "QUALITY"), "bits"),
    **dict.fromkeys(
        ("UNCERT", "ERR", "ERROR", "SIGMA", "STDDEV", "STD", "NOISE", "RMS"), "std"
    ),
    **dict.fromkeys(("VAR", "VARIANCE"), "var"),
    "IVAR": "ivar",
}  # fmt: skip
BEST_NAME = "CLEAN"
BESIDE_AN_IMAGE = {
    *_KINDS, BEST_NAME, "NREJECT",
    "WHT", "WEIGHT", "WEIGHTS", "EXPMAP", "CTX", "SKY", "BACKGROUND", "BKG", "MODEL",
    "PSFIMAGE", "PSF", "PREVIEW", "THUMBNAIL", "THUMB",
}  # fmt: skip
"""Names of extensions that belong to the image before them, and are no frames."""


def kind_of(name: str, header: Header, product_card: str) -> Kind | None:
    """Return what an extension holds; None for one that says nothing about the pixels.

    Parameters
    ----------
    name : its EXTNAME.
    header : its cards, then those of the primary header.
    product_card : the card that tells a product of arrayred.
    """
    kind = _KINDS.get(name.upper())
    if kind == "bits":
        return "bits" if product_card in header else "foreign bits"
    told = UNCERTAINTIES.get(header.readable("UTYPE")) if kind == "std" else None
    return kind if told is None else told[0]


def variable_of(kind: Kind) -> str:
    """Return the variable, `dq` or `variance`, that an extension of a kind gives."""
    return DQ if kind in ("mask", "bits", "foreign bits") else VARIANCE


def flags_of(mask: Pixels | None, bits: Pixels) -> NDArray[np.uint8]:
    """Return the bits of `dq` from bits, and a mask if there is one (not 0 is bad).

    A pixel that is masked without a reason is a bad_pixel; one that is not masked may be used.

    Examples
    --------
    >>> flags_of(np.array([0, 1, 1]), np.array([4, 4, 16], np.uint8))
    array([ 0,  4, 17], dtype=uint8)
    """
    told: NDArray[np.uint8] = bits.astype(np.uint8)
    if mask is None:
        return told
    named = np.where(told & SPOILT == 0, told | np.uint8(BAD_PIXEL), told)
    return np.where(mask != 0, named, told & np.uint8(REPAIRED))


def pixels_of_planes(
    variable: str, stored: Mapping[Kind, Pixels], shape: tuple[int, ...]
) -> Pixels:
    """Return `dq` (uint8) or `variance` (float64) from the pixels of extensions.

    Parameters
    ----------
    variable : which of the two.
    stored : the pixels of each kind of extension; without any, flags are 0 and a variance is NaN.
    shape : of the pixels.
    """
    if variable == DQ:
        mask = stored.get("mask", stored.get("foreign bits"))
        return flags_of(mask, stored.get("bits", np.zeros(shape, np.uint8)))
    if "std" in stored:
        return np.square(stored["std"], dtype=np.float64)
    if "var" in stored:
        return stored["var"].astype(np.float64)
    if "ivar" in stored:
        with np.errstate(divide="ignore"):
            return np.asarray(1.0 / stored["ivar"].astype(np.float64))
    return np.full(shape, np.nan)


_PLACES = ("DETSEC", "CCDSEC")
_GAINS = ("EGAIN", "GAIN")
_READ_NOISES = ("RDNOISE", "READNOIS")
_OF_ONE_IMAGE = re.compile(
    r"(DATA|BIAS|TRIM|DET|CCD|AMP|ORIG)SEC|EXT(NAME|VER)|CHECKSUM|DATASUM"
    r"|(CRPIX|CRVAL|CDELT|CTYPE|CUNIT|CROTA)\d[A-Z]?|(CD|PC)\d_\d[A-Z]?|(LT|AT|DT)[VM]\d(_\d)?"
)
"""Cards that describe the pixels of one image, not of the frame."""


def with_all_images(image: ImageHDU, given: str = "") -> ImageHDU:
    """Return the frame that the images of a file are parts of, or the first with a warning.

    Parameters
    ----------
    image : the first image of a file, with the further ones.
    given : the image that the user asked for, or "": `image` is that one then.
    """
    if given:
        return replace(image, note=f"read from image {image.title} of their files, as requested")
    images = (replace(image, further=()), *image.further)
    names = ", ".join(one.title for one in images)
    parts, why = _placed_parts(images)
    if why:
        told = (
            f"{len(images)} images per file ({names}): only the first, {image.title}, is read "
            f"because {why}; use --extension NAME for another"
        )
        return replace(image, further=(), warning=told)
    levelled = any(part.sections.overscan is not None for part in parts)
    scaled = any(part.factor != 1.0 for part in parts)
    corrected = ["each overscan-subtracted"] * levelled + ["in the ADU of the first"] * scaled
    told = f"joined from {len(images)} images ({names})"
    return ImageHDU(
        replace(
            image.source,
            shape=_frame_shape(parts),
            pixels=_frame_format(parts),
        ),
        _frame_header(images, levelled=levelled),
        image.hdu,
        "parts",
        parts,
        note=", ".join([told, *corrected]),
        planes=(planes := _planes_of(parts)),
        warning=_planes_left_out(parts, planes),
    )


def _planes_of(parts: Sequence[Part]) -> tuple[ImageHDU, ...]:
    """Return the masks and flags of a frame, put together as its pixels are."""
    planes = []
    for kind in dict.fromkeys(plane.kind for plane in parts[0].image.planes_of(DQ)):
        found = [next((p for p in q.image.planes if p.kind == kind), None) for q in parts]
        own = tuple(
            replace(part, image=plane, sections=replace(part.sections, overscan=None), factor=1.0)
            for part, plane in zip(parts, found, strict=True)
            if plane is not None
        )
        if len(own) == len(parts):
            shape, pixels = _frame_shape(own), _frame_format(own)
            source = replace(own[0].image.source, shape=shape, pixels=pixels)
            planes.append(replace(own[0].image, source=source, packing="parts", parts=own))
    return tuple(planes)


def _planes_left_out(parts: Sequence[Part], planes: Sequence[ImageHDU]) -> str:
    """Return which extensions of the parts are not used, as a warning."""
    kinds = {plane.kind for plane in planes}
    unused = [p.title for part in parts for p in part.image.planes if p.kind not in kinds]
    if not unused:
        return ""
    return (
        f"{', '.join(unused)} not used: the noise of the images is not joined, and masks only if "
        "each image has one"
    )


def turned(image: ImageHDU) -> ImageHDU:
    """Return an image with its rows in the opposite order."""
    n_rows, n_columns = image.source.shape
    whole = Sections(None, Section((1, n_columns), (1, n_rows)))
    header = image.header.copy()
    header.drop(["CHECKSUM", "DATASUM"])
    return replace(
        image,
        source=replace(image.source, cached=None),
        header=header,
        packing="parts",
        parts=(Part(image, whole, rows_reversed=True),),
        planes=tuple(map(turned, image.planes)),
    )


# From the sections of the images to the parts of a frame.


class _Span(NamedTuple):
    """First and last pixel along one axis, in the order of the read-out."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return abs(self.last - self.first) + 1


def _placed_parts(images: Sequence[ImageHDU]) -> tuple[tuple[Part, ...], str]:
    """Return the parts of a frame, or none and the reason."""
    keyword = next((k for k in _PLACES if all(k in image.header for image in images)), None)
    if keyword is None:
        return (), "DETSEC is missing"
    placed = []
    for image in images:
        section, kept = _spans(image.header, keyword), _section_kept(image)
        if section is None or kept is None:
            return (), f"{keyword} and DATASEC of {image.title} cannot be understood"
        placed.append((image, section, kept))
    binnings = {
        tuple(round(span.length / n) for span, n in zip(section, _size(kept), strict=True))
        for _, section, kept in placed
    }
    x_binning, y_binning = next(iter(binnings))
    if len(binnings) > 1 or not (x_binning and y_binning):
        return (), f"{keyword} and DATASEC differ in size"
    left = min(min(columns) for _, (columns, _), _ in placed)
    bottom = min(min(rows) for _, (_, rows), _ in placed)
    factors = _gain_factors(images)
    parts = []
    for (image, (columns, rows), kept), factor in zip(placed, factors, strict=True):
        overscan = _own_section(image, "BIASSEC")
        sections, why = consistent_sections(overscan, kept, image.source.shape)
        if sections is None:
            return (), f"BIASSEC and DATASEC of {image.title} do not fit: {why}"
        parts.append(
            Part(
                image,
                sections,
                (min(rows) - bottom) // y_binning,
                (min(columns) - left) // x_binning,
                rows.first > rows.last,
                columns.first > columns.last,
                factor,
            )
        )
    if not _fill_a_rectangle(parts):
        return (), f"their {keyword} overlap or leave gaps"
    return tuple(parts), ""


def _spans(header: Header, keyword: str) -> tuple[_Span, _Span] | None:
    """Return the columns and rows of a section, either of which may run backwards."""
    found = section_numbers(str(header.readable(keyword) or ""))
    return None if found is None else (_Span(*found[:2]), _Span(*found[2:]))


def _own_section(image: ImageHDU, keyword: str) -> Section | None:
    return Section.parse(str(image.header.readable(keyword) or ""))


def _section_kept(image: ImageHDU) -> Section | None:
    """Return the section of an image that holds the detector's pixels: all without a DATASEC."""
    n_rows, n_columns = image.source.shape
    known = [k for k in ("DATASEC", "TRIMSEC") if k in image.header]
    kept = _own_section(image, known[0]) if known else Section((1, n_columns), (1, n_rows))
    return kept if kept is not None and kept.lies_in(image.source.shape) else None


def _size(section: Section) -> tuple[int, int]:
    """Return the numbers of columns and rows of a section."""
    _, _, n_rows, n_columns = section.window
    return n_columns, n_rows


def _area_of(part: Part) -> tuple[slice, slice]:
    """Return the rows and columns of the frame that a part fills."""
    assert part.sections.trim is not None
    n_columns, n_rows = _size(part.sections.trim)
    return (
        slice(part.first_row, part.first_row + n_rows),
        slice(part.first_column, part.first_column + n_columns),
    )


def _frame_shape(parts: Sequence[Part]) -> tuple[int, int]:
    areas = [_area_of(part) for part in parts]
    return max(rows.stop for rows, _ in areas), max(columns.stop for _, columns in areas)


def _fill_a_rectangle(parts: Sequence[Part]) -> bool:
    """Return whether parts fill their rectangle, each pixel once."""
    edges_y = sorted({edge for rows, _ in map(_area_of, parts) for edge in (rows.start, rows.stop)})
    edges_x = sorted({edge for _, xs in map(_area_of, parts) for edge in (xs.start, xs.stop)})
    n_parts = np.zeros((len(edges_y) - 1, len(edges_x) - 1), int)
    for rows, columns in map(_area_of, parts):
        n_parts[
            edges_y.index(rows.start) : edges_y.index(rows.stop),
            edges_x.index(columns.start) : edges_x.index(columns.stop),
        ] += 1
    return bool(np.all(n_parts == 1))


def _gain_factors(images: Sequence[ImageHDU]) -> list[float]:
    """Return the gain of each image over that of the first; 1 where no card tells them apart."""
    for keyword in _GAINS:
        gains = [_positive(image.header, [keyword]) for image in images]
        known = [gain for gain in gains if gain is not None]
        if len(known) == len(images) and len(set(known)) > 1:
            return [gain / known[0] for gain in known]
    return [1.0] * len(images)


def _positive(header: Header, keywords: Sequence[str]) -> float | None:
    """Return the first of some cards that is a positive number, or None."""
    values = (header.readable(keyword) for keyword in keywords)
    numbers = (v for v in values if isinstance(v, int | float) and not isinstance(v, bool))
    return next((float(number) for number in numbers if number > 0), None)


def _frame_format(parts: Sequence[Part]) -> PixelFormat:
    """Return the encoding of a frame: that of all images, or single or double floats."""
    formats = [part.image.source.pixels for part in parts]
    if not _is_computed(parts):
        return formats[0]
    is_short = all(dtype_of(each).itemsize <= 2 or each.bitpix == -32 for each in formats)
    return PixelFormat(-32 if is_short else -64)


def _is_computed(parts: Sequence[Part]) -> bool:
    """Return whether the pixels of a frame are computed, not only moved."""
    changed = any(p.sections.overscan is not None or p.factor != 1.0 for p in parts)
    return changed or len({part.image.source.pixels for part in parts}) > 1


def _frame_header(images: Sequence[ImageHDU], *, levelled: bool) -> Header:
    """Return the header of a frame: the first image's, less the cards of that image alone."""
    header = images[0].header.copy()
    header.drop([keyword for keyword in header if _OF_ONE_IMAGE.fullmatch(keyword)])
    noises = [_positive(image.header, _READ_NOISES) for image in images]
    known = [noise for noise in noises if noise is not None]
    if len(known) == len(images) and len(set(known)) > 1:
        card = next(keyword for keyword in _READ_NOISES if keyword in header)
        mean_square = sum(noise**2 for noise in known) / len(known)
        header.set(card, mean_square**0.5, "root mean square of the amplifiers'")
    if levelled:
        header.set(OVERSCAN_CARD, "of each amplifier", "overscan that was subtracted")
    return header


# The pixels of a frame from those of its parts.


def put_together(
    target: IO[bytes],
    image: ImageHDU,
    sources: Iterable[PixelSource],
    pixels_of: Callable[[PixelSource], NDArray[Any]],
) -> None:
    """Write the stored pixels of a frame, big-endian, into a new file.

    One part is held in memory at a time.

    Parameters
    ----------
    target : the file.
    image : the frame.
    sources : of the plain pixels of each part.
    pixels_of : returns the pixels (y, x) of a source.
    """
    stored, n_columns = stored_dtype(image.source.pixels), image.source.shape[1]
    is_computed = _is_computed(image.parts)
    for part, source in zip(image.parts, sources, strict=True):
        if is_computed:
            values = _corrected(part, pixels_of(source))
        else:  # the bits, whatever they were found to mean
            bits = PixelFormat(source.pixels.bitpix)
            values = _kept(part, pixels_of(replace(source, pixels=bits)))
        ordered = values[
            :: -1 if part.rows_reversed else 1, :: -1 if part.columns_reversed else 1
        ].astype(stored)
        for row, y in zip(
            ordered, range(part.first_row, part.first_row + len(ordered)), strict=True
        ):
            target.seek((y * n_columns + part.first_column) * stored.itemsize)
            target.write(row.tobytes())


def _kept(part: Part, values: NDArray[Any]) -> NDArray[Any]:
    assert part.sections.trim is not None
    row, column, n_rows, n_columns = part.sections.trim.window
    return values[row - 1 : row - 1 + n_rows, column - 1 : column - 1 + n_columns]


def _corrected(part: Part, values: NDArray[Any]) -> NDArray[Any]:
    """Return the part that is kept, less its overscan level, times its factor, float64."""
    kept = _kept(part, values).astype(np.float64)
    overscan, trim = part.sections.overscan, part.sections.trim
    if overscan is not None and trim is not None:
        (x0, x1), (y0, y1) = overscan.columns, overscan.rows
        if part.sections.by_row:
            (first, last) = trim.rows
            kept -= overscan_levels(values[first - 1 : last, x0 - 1 : x1])[:, np.newaxis]
        else:
            (first, last) = trim.columns
            kept -= overscan_levels(values[y0 - 1 : y1, first - 1 : last].T)
    kept *= part.factor
    return kept
