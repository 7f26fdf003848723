"""How stored bits become pixel values: types and decoding.

Values are those of the FITS Standard (4.0, 4.4.2.5): BZERO + BSCALE * stored, BLANK as NaN;
integers stay native integers wherever BZERO is 0 or the offset that means unsigned.

Byte order is turned in a copy, which costs no more than a plain copy (0.05 ns a pixel of 16 bits);
`numpy.ndarray.byteswap` in place takes six times that, and holds the interpreter's lock.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayred.io.sources import PixelFormat

Pixels = NDArray[Any]
DType = np.dtype[Any]


@cache
def dtype_of(pixels: PixelFormat) -> DType:
    """Return the native dtype in which an encoding is read.

    Examples
    --------
    >>> dtype_of(PixelFormat(16, bzero=32768.0)), dtype_of(PixelFormat(16, bscale=0.5))
    (dtype('uint16'), dtype('float64'))
    """
    stored = stored_dtype(pixels).newbyteorder("=")
    if stored.kind == "f" and not _scaled(pixels):
        return stored
    if _needs_arithmetic(pixels):
        exact_in_single = stored.itemsize <= 2 and not _scaled(pixels)
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
    """Return the BZERO that turns signed into unsigned, or for bytes unsigned into signed."""
    return -128.0 if pixels.bitpix == 8 else 2.0 ** (pixels.bitpix - 1)


def _scaled(pixels: PixelFormat) -> bool:
    """Tell whether values are not stored as they are, nor merely as unsigned."""
    if pixels.bscale != 1.0 or pixels.bitpix < 0:
        return (pixels.bzero, pixels.bscale) != (0.0, 1.0)
    return pixels.bzero not in (0.0, _flip_of(pixels)) or (pixels.wrapped and pixels.bzero != 0.0)


def _needs_arithmetic(pixels: PixelFormat) -> bool:
    """Tell whether values are more than the stored bits in another order."""
    return _scaled(pixels) or pixels.blank is not None


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
    native, bits, flip = _plan(pixels)
    if native is None:
        target[...] = _computed(raw, pixels)
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
    """Tell whether the stored bits can be had back from the values: no arithmetic made them."""
    return not _needs_arithmetic(pixels)


def encode(values: Pixels, pixels: PixelFormat) -> Pixels:
    """Return the stored bits of values, in the dtype `stored_dtype` returns: undo `decode`.

    Parameters
    ----------
    values : of any dtype that holds those of the encoding.
    pixels : the encoding; `is_exact` of it is True.

    Examples
    --------
    >>> encode(np.array([0, 32768], np.uint16), PixelFormat(16, bzero=32768.0)).tolist()
    [-32768, 0]
    """
    native, bits, flip = _plan(pixels)
    stored = values.astype(native).view(bits)
    if flip is not None:
        np.bitwise_xor(stored, flip, out=stored)
    return stored.astype(bits.newbyteorder(">")).view(stored_dtype(pixels))


@cache
def _plan(pixels: PixelFormat) -> tuple[DType | None, DType, Any]:
    """Return the type of the values, that of their bits, and the bit to be flipped or None.

    The first is None where values must be computed.
    """
    native = dtype_of(pixels)
    bits = np.dtype(f"u{native.itemsize}")
    is_flipped = pixels.bitpix > 0 and pixels.bzero == _flip_of(pixels)
    flip = bits.type(1 << (pixels.bitpix - 1)) if is_flipped else None
    return None if _needs_arithmetic(pixels) else native, bits, flip


def _computed(raw: Pixels, pixels: PixelFormat) -> Pixels:
    """Return BZERO + BSCALE * stored in float64, NaN for BLANK."""
    values = raw.astype(np.float64)
    values *= pixels.bscale
    values += pixels.bzero
    if pixels.blank is not None:
        values[raw == (pixels.blank % (1 << pixels.bitpix) if pixels.wrapped else pixels.blank)] = (
            np.nan
        )
    return values
