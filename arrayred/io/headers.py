"""What lies where in a FITS file, from its headers alone: `scan`.

Headers are read in blocks of 2880 bytes up to END, never a pixel; a file's size is compared with
what its header promises, so that a truncated frame is found before anything is computed. The image
is the first HDU that holds one; the cards of the primary header stand behind its own.

gzip is seen by its magic number, whatever the file is called, and only its headers are inflated.
"""

from __future__ import annotations

import errno
import gzip
import math
import os
import stat
import zlib
from functools import lru_cache, partial
from pathlib import Path
from typing import IO, cast

from arrayred.errors import ForeignFileError, FrameError, HeaderError
from arrayred.io.card import CARD
from arrayred.io.cards import BLOCK, Header
from arrayred.io.patience import patiently
from arrayred.io.remote.address import Address, located
from arrayred.io.remote.files import opened
from arrayred.io.remote.store import Stamp, stamp_of
from arrayred.io.sources import ImageHDU, Packing, PixelFormat, PixelSource

_MOST_BLOCKS = 1000
_MOST_PIXELS = 2**40
_MOST_INFLATED = 256 << 20
_BITPIX = (8, 16, 32, 64, -32, -64)
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def scan(path: Path) -> ImageHDU:
    """Return where the first image of a file lies, reading its headers only.

    Raises
    ------
    FrameError
        The file is no regular file, no FITS, holds no image, or is shorter than its header says.
    HeaderError
        A card that describes the pixels is missing or makes no sense.
    """
    path = located(path)
    if isinstance(path, Address):
        return _remote(path)
    return patiently(partial(_nearby, path))


def _nearby(path: Path) -> ImageHDU:
    """Return where the first image of a local file lies."""
    try:
        with open_regular(path) as file:
            return _scanned(path, file, Stamp.of(os.fstat(file.fileno())))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            raise ForeignFileError("There is no such file", path=path) from error
        raise FrameError(
            f"The file cannot be read ({error.strerror or error})",
            path=path,
            hint="Make it readable, or move it away.",
        ) from error


def _remote(address: Address) -> ImageHDU:
    """Return the frame behind an address, its headers read once as long as it stays the same."""
    return _remotely_scanned(address, stamp_of(address))


@lru_cache(maxsize=4096)
def _remotely_scanned(address: Address, _stamp: Stamp) -> ImageHDU:
    file, stamp = opened(address)
    return _scanned(address, file, stamp)


def _scanned(path: Path, file: IO[bytes], stamp: Stamp) -> ImageHDU:
    """Return where the first image of an open file lies."""
    zipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    stream = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if zipped else file
    try:
        image = _first_image(path, stream, stamp, "gzip" if zipped else "plain")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FrameError(
            f"The compressed file is damaged ({error})", path=path, hint="Copy it again."
        ) from error
    promised = image.source.offset + image.source.n_bytes
    if image.packing == "plain" and stamp.size < promised:
        raise FrameError(
            f"The file has {stamp.size} bytes, but its header promises {promised}",
            path=path,
            hint="It was cut short: copy it again or move it away.",
        )
    return image


def open_regular(path: Path) -> IO[bytes]:
    """Open a regular file; a pipe, folder or device is refused without blocking on it."""
    handle = os.open(path, _OPEN_FLAGS)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ForeignFileError("This is no regular file", path=path, hint="Move it away.")
    return open(handle, "rb")


def _first_image(path: Path, stream: IO[bytes], stamp: Stamp, packing: Packing) -> ImageHDU:
    primary: Header | None = None
    offset = 0
    for hdu in range(1000):
        raw = header_bytes(path, stream, first=hdu == 0)
        if raw is None:
            break
        header = Header.from_bytes(raw)
        offset += len(raw)
        try:
            tiled = header.get("ZIMAGE") is True
            if tiled or _holds_image(header):
                prefix = "Z" if tiled else ""
                source = PixelSource(
                    path, offset, _shape(header, prefix), _pixel_format(header, prefix), stamp
                )
                whole = header if primary is None else header.inherit(primary)
                return ImageHDU(source, whole, hdu, "tiles" if tiled else packing)
            size = data_size(header)
        except HeaderError as error:
            error.path = str(path)
            error.hint = error.hint or f"Mend {error.keyword} in the header, or move the file away."
            raise
        primary = header if primary is None else primary
        offset += size
        if packing == "gzip" and offset > _MOST_INFLATED:
            raise FrameError(
                f"The compressed file holds {offset} bytes before its image",
                path=path,
                hint="Decompress it by hand.",
            )
        stream.seek(offset)
    if primary is not None and hdu <= 1 and "IMAGETYP" in primary:
        raise HeaderError(
            "NAXIS says that the frame has no pixels",
            path=path,
            keyword="NAXIS",
            hint="Copy it again or move it away.",
        )
    raise ForeignFileError(
        "The file holds no image", path=path, hint="Move it away, or exclude it."
    )


def header_bytes(path: Path, stream: IO[bytes], *, first: bool) -> bytes | None:
    """Read blocks up to END; None where the file ends properly before a further HDU."""
    blocks: list[bytes] = []
    while len(blocks) < _MOST_BLOCKS:
        block = stream.read(BLOCK)
        if not blocks and (not block or (not first and not block.startswith(b"XTENSION"))):
            if first:
                raise FrameError(
                    "The file is empty", path=path, hint="Copy it again or move it away."
                )
            return None
        if not blocks and first and not block.startswith(b"SIMPLE  ="):
            raise ForeignFileError("This is no FITS file", path=path, hint="Move it away.")
        if len(block) < BLOCK:
            raise FrameError(
                "The file ends within its header",
                path=path,
                hint="It was cut short: copy it again.",
            )
        blocks.append(block)
        if any(block[i : i + CARD].rstrip() == b"END" for i in range(0, BLOCK, CARD)):
            return b"".join(blocks)
    raise FrameError(
        f"No END card within {_MOST_BLOCKS} blocks of header", path=path, hint="Move it away."
    )


def _holds_image(header: Header) -> bool:
    is_image = "XTENSION" not in header or header["XTENSION"] == "IMAGE"
    return is_image and _whole(header, "NAXIS") > 0 and all(_axes(header, ""))


def _axes(header: Header, prefix: str) -> list[int]:
    return [
        _whole(header, f"{prefix}NAXIS{i + 1}") for i in range(_whole(header, f"{prefix}NAXIS"))
    ]


def _whole(header: Header, keyword: str) -> int:
    value = header[keyword]
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST_PIXELS:
        raise HeaderError(
            f"{keyword} is {value!r}, which describes no image", keyword=keyword, value=value
        )
    if keyword.endswith("NAXIS") and value > 999:
        raise HeaderError(
            f"{keyword} is {value}, more than FITS knows", keyword=keyword, value=value
        )
    return value


def _shape(header: Header, prefix: str) -> tuple[int, int]:
    axes = _axes(header, prefix)
    if len(axes) < 2 or any(n != 1 for n in axes[2:]) or math.prod(axes) > _MOST_PIXELS:
        raise HeaderError(
            f"The image has the axes {axes}, but a frame has two",
            keyword=f"{prefix}NAXIS",
            value=len(axes),
            hint="Split cubes into frames first; move spectra away.",
        )
    return axes[1], axes[0]


def _pixel_format(header: Header, prefix: str) -> PixelFormat:
    bitpix = header[f"{prefix}BITPIX"]
    if bitpix not in _BITPIX or not isinstance(bitpix, int):
        raise HeaderError(
            f"BITPIX is {bitpix!r}, but FITS knows {_BITPIX}", keyword="BITPIX", value=bitpix
        )
    blank = header.get("BLANK") if bitpix > 0 else None
    return PixelFormat(
        bitpix,
        _number(header, "BZERO", 0.0),
        _number(header, "BSCALE", 1.0),
        blank if isinstance(blank, int) and not isinstance(blank, bool) else None,
    )


def _number(header: Header, keyword: str, default: float) -> float:
    value = header.get(keyword, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise HeaderError(
            f"{keyword} is {value!r}, which is no number", keyword=keyword, value=value
        )
    return float(value)


def data_size(header: Header) -> int:
    """Return the bytes of an HDU's data, padded to whole blocks (FITS Standard 4.0, 4.4.1.2)."""
    axes = _axes(header, "")
    bits = header["BITPIX"]
    if not axes or not isinstance(bits, int):
        return 0
    extra = _whole(header, "PCOUNT") if "PCOUNT" in header else 0
    groups = _whole(header, "GCOUNT") if "GCOUNT" in header else 1
    size = abs(bits) // 8 * groups * (extra + math.prod(axes))
    return -(-size // BLOCK) * BLOCK
