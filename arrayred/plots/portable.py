"""Pixels as the bytes of a PNG, written by numpy and zlib: `encode_png`.

A dozen lines, a tenth of the time that a library takes to be imported, and the same bytes wherever
zlib is the same.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_GREY, _PALETTE = 0, 3
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode_png(pixels: NDArray[np.uint8], palette: NDArray[np.uint8] | None = None) -> bytes:
    r"""Return greys, or numbers of colours, as a PNG.

    Parameters
    ----------
    pixels : (row, column), the first row above; greys from 0 to 255, or places in the palette.
    palette : (n, 4), red, green, blue and how opaque, n being 256 at most; None: greys.

    Examples
    --------
    >>> encode_png(np.zeros((2, 3), np.uint8))[:8]
    b'\x89PNG\r\n\x1a\n'
    """
    n_rows, n_columns = pixels.shape
    kind = _GREY if palette is None else _PALETTE
    lines = np.zeros((n_rows, n_columns + 1), np.uint8)
    lines[:, 1:] = pixels
    parts = [_chunk(b"IHDR", struct.pack(">IIBBBBB", n_columns, n_rows, 8, kind, 0, 0, 0))]
    if palette is not None:
        parts.append(_chunk(b"PLTE", palette[:, :3].tobytes()))
        if (palette[:, 3] < 255).any():
            parts.append(_chunk(b"tRNS", palette[:, 3].tobytes()))
    parts += [_chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)), _chunk(b"IEND", b"")]
    return _SIGNATURE + b"".join(parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)
