"""FITS bytes from arrays and headers: images, extensions, binary tables, checksums included.

FITS Standard 4.0: 4.4 (headers), 7.3 (binary tables), appendix J (checksums). The bytes depend on
the content alone: astropy would put the time of writing into the checksum's comment. astropy reads
and verifies every product in the tests.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.io.card import Value, card_images
from arrayred.io.cards import BLOCK, Header

_STRUCTURE = re.compile(
    r"SIMPLE|XTENSION|BITPIX|Z?NAXIS\d*|EXTEND|NEXTEND|[PG]COUNT|GROUPS|BZERO|BSCALE|BLANK|INHERIT"
    r"|CHECKSUM|DATASUM|DATAMIN|DATAMAX|EXT(NAME|VER|LEVEL)|TFIELDS|THEAP|T(TYPE|FORM|UNIT|DIM)\d+"
    r"|ZIMAGE|ZSIMPLE|ZTENSION|ZBITPIX|ZCMPTYPE|ZQUANTIZ|ZDITHER0|ZBLANK|ZEXTEND|Z[PG]COUNT"
    r"|ZHECKSUM|ZDATASUM|ZMASKCMP|ZBLOCKED|ZTABLE|Z(TILE|NAME|VAL)\d+|FZ[A-Z]+"
)


DType = np.dtype[Any]
COLUMN_FORMS = {"int64": "K", "float64": "D", "uint8": "B"}
"""TFORM of the types that a column of numbers may have; one of bytes is text."""
TABLE_UNITS = {"electron": "ct"}
"""Units that FITS tables spell otherwise: the standard knows no electron, so that astropy warns of
each column and specutils finds no flux; a count (FITS Standard 4.0, table 5) is what it reads."""


class Column(NamedTuple):
    """One column of a table: name, unit as everywhere, what it is, and its values."""

    name: str
    unit: str
    description: str
    values: NDArray[Any]


class Plane(NamedTuple):
    """One image extension: EXTNAME, cards, values (y, x), and the type in which they are written.

    The type is uint8, float32 or float64: one that needs no BZERO.
    """

    name: str
    cards: Sequence[tuple[str, Value, str]]
    values: NDArray[Any]
    dtype: str


def is_structural(keyword: str) -> bool:
    """Tell whether a card describes the layout of its own file.

    Examples
    --------
    >>> is_structural("NAXIS2"), is_structural("EXPTIME")
    (True, False)
    """
    return _STRUCTURE.fullmatch(keyword) is not None


def image_bytes(
    header: Header, counts: NDArray[Any], dtype: str, planes: Sequence[Plane] = ()
) -> bytearray:
    """Return a file with one primary image, and an extension for each plane.

    Parameters
    ----------
    header : the cards that follow the structural ones.
    counts : image (y, x).
    dtype : the type in which it is written; integers of a sign that FITS has no BITPIX for get
        the BZERO that stands for it.
    planes : what is known of the same pixels beside their counts.
    """
    kind = np.dtype(dtype)
    structure = _image_structure(counts.shape, kind)
    if planes:
        structure.append(("EXTEND", True, "extensions follow"))
    is_native = kind.kind == "f" or (kind.kind == "u") == (kind.itemsize == 1)
    if not is_native:
        bits = np.dtype(f"u{kind.itemsize}")
        half = 1 << (8 * kind.itemsize - 1)
        structure += [("BZERO", half if kind.kind == "u" else -half, ""), ("BSCALE", 1, "")]
        counts, kind = counts.astype(kind).view(bits) ^ bits.type(half), bits
    units = [_unit(structure, header, counts, kind), *map(_extension, planes)]
    return _file_of(units)


def _extension(plane: Plane) -> _Unit:
    kind = np.dtype(plane.dtype)
    _, *axes = _image_structure(plane.values.shape, kind)
    structure: list[tuple[str, Value, str]] = [
        ("XTENSION", "IMAGE", "image extension"),
        *axes,
        ("PCOUNT", 0, ""),
        ("GCOUNT", 1, ""),
        ("EXTNAME", plane.name, ""),
        *plane.cards,
    ]
    return _unit(structure, Header(), plane.values, kind)


def image_head(header: Header, shape: tuple[int, int], dtype: str, data_sum: int) -> bytes:
    """Return the head of a file with one primary image whose pixels are written by themselves.

    Its length does not depend on the checksums.

    Parameters
    ----------
    header : the cards that follow the structural ones.
    shape : (n_rows, n_columns).
    dtype : the type of the pixels, "float32" or "float64".
    data_sum : the ones' complement sum of the padded pixels.
    """
    cards = _with_room_for_sums(_image_structure(shape, np.dtype(dtype)), header)
    return _summed(cards, data_sum)


def _image_structure(shape: tuple[int, ...], kind: DType) -> list[tuple[str, Value, str]]:
    return [
        ("SIMPLE", True, "FITS Standard 4.0"),
        ("BITPIX", (-8 if kind.kind == "f" else 8) * kind.itemsize, ""),
        ("NAXIS", 2, ""),
        ("NAXIS1", shape[1], "columns"),
        ("NAXIS2", shape[0], "rows"),
    ]


def table_bytes(header: Header, name: str, columns: Sequence[Column]) -> bytearray:
    """Return a file with an empty primary HDU that carries the header, and one binary table.

    Parameters
    ----------
    header : the cards of the primary header.
    name : EXTNAME of the table.
    columns : of equal length, int64, float64, uint8 or bytes; one of two dimensions has a row of
        numbers in each cell.
    """
    primary = _unit(
        [
            ("SIMPLE", True, "FITS Standard 4.0"),
            ("BITPIX", 8, ""),
            ("NAXIS", 0, ""),
            ("EXTEND", True, ""),
        ],
        header,
        np.empty(0, np.uint8),
    )
    fields = [
        (column.name, column.values.dtype.newbyteorder(">"), column.values.shape[1:])
        for column in columns
    ]
    records = np.empty(len(columns[0].values), np.dtype(fields))
    for column in columns:
        records[column.name] = column.values
    structure: list[tuple[str, Value, str]] = [
        ("XTENSION", "BINTABLE", "binary table"),
        ("BITPIX", 8, ""),
        ("NAXIS", 2, ""),
        ("NAXIS1", records.dtype.itemsize, "bytes of a row"),
        ("NAXIS2", len(records), "rows"),
        ("PCOUNT", 0, ""),
        ("GCOUNT", 1, ""),
        ("TFIELDS", len(columns), "columns"),
    ]
    for i, column in enumerate(columns, 1):
        structure.append((f"TTYPE{i}", column.name, column.description))
        structure.append((f"TFORM{i}", form_of(column.values), ""))
        if column.unit:
            spelled = TABLE_UNITS.get(column.unit, column.unit)
            said = "" if spelled == column.unit else f"{column.unit}s"
            structure.append((f"TUNIT{i}", spelled, said))
    structure.append(("EXTNAME", name, ""))
    return _file_of([primary, _unit(structure, Header(), records)])


def form_of(values: NDArray[Any]) -> str:
    """Return the TFORM of a column.

    Examples
    --------
    >>> form_of(np.zeros(5)), form_of(np.zeros((5, 3))), form_of(np.array([b"dark", b"light"]))
    ('D', '3D', '5A')
    """
    if values.dtype.kind == "S":
        return f"{values.dtype.itemsize}A"
    repeat = "" if values.ndim == 1 else str(values.shape[1])
    return repeat + COLUMN_FORMS[values.dtype.name]


class _Unit(NamedTuple):
    """One HDU before it is written.

    Parameters
    ----------
    cards : the whole header, with room for the checksums, on which its length does not depend.
    values : any shape.
    stored : the type, big-endian, in which they are written.
    """

    cards: Header
    values: NDArray[Any]
    stored: DType


def _unit(
    structure: Sequence[tuple[str, Value, str]],
    header: Header,
    values: NDArray[Any],
    kind: DType | None = None,
) -> _Unit:
    """Return one HDU: structural cards, header, and the values, to be written as kind."""
    cards = _with_room_for_sums(structure, header)
    return _Unit(cards, values, (kind or values.dtype).newbyteorder(">"))


def _file_of(units: Sequence[_Unit]) -> bytearray:
    """Return HDUs one after the other, each with its checksums and padded.

    The values are cast straight into their place in the only buffer of the file's size.
    """
    starts = [len(unit.cards.to_bytes()) for unit in units]
    sizes = [-(-unit.values.size * unit.stored.itemsize // BLOCK) * BLOCK for unit in units]
    file, first = bytearray(sum(starts) + sum(sizes)), 0
    for unit, start, size in zip(units, starts, sizes, strict=True):
        place = memoryview(file)[first : first + start + size]
        values = np.frombuffer(place, unit.stored, unit.values.size, start)
        values.reshape(unit.values.shape)[...] = unit.values
        place[:start] = _summed(unit.cards, ones_complement_sum(place[start:]))
        first += start + size
    return file


def _with_room_for_sums(structure: Sequence[tuple[str, Value, str]], header: Header) -> Header:
    """Return structural cards, header and blank checksums as one header."""
    cards = Header(card for entry in structure for card in card_images(*entry))
    cards = Header([*cards.images(), *header.images()])
    cards.set("DATASUM", "0", "checksum of the data")
    cards.set("CHECKSUM", "0" * 16, "checksum of the HDU")
    return cards


def _summed(cards: Header, data_sum: int) -> bytes:
    """Return a header's bytes with both checksums filled in."""
    cards.set("DATASUM", str(data_sum), "checksum of the data")
    total = ones_complement_sum(cards.to_bytes(), data_sum)
    cards.set("CHECKSUM", encode_checksum(~total & 0xFFFFFFFF), "checksum of the HDU")
    return cards.to_bytes()


def ones_complement_sum(raw: bytes | memoryview, start: int = 0) -> int:
    r"""Return the 32-bit ones' complement sum of big-endian words (FITS Standard 4.0, J.1).

    Examples
    --------
    >>> ones_complement_sum(b"\xff\xff\xff\xff" + b"\0\0\0\2")
    2
    """
    return fold_sum(start + int(np.frombuffer(raw, ">u4").sum(dtype=np.uint64)))


def fold_sum(total: int) -> int:
    """Return a plain sum of 32-bit words as their ones' complement sum.

    Examples
    --------
    >>> fold_sum(0xFFFFFFFF + 2)
    2
    """
    while total >> 32:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    return total


def encode_checksum(value: int) -> str:
    """Return a 32-bit value as 16 letters and digits (FITS Standard 4.0, J.2).

    Examples
    --------
    >>> encode_checksum(~868229149 & 0xFFFFFFFF)
    'hcHjjc9ghcEghc9g'
    """
    letters = np.empty((4, 4), np.int64)
    for i, byte in enumerate(value.to_bytes(4, "big")):
        quarter = [byte // 4 + (byte % 4 if j == 0 else 0) + 48 for j in range(4)]
        while any(58 <= c <= 64 or 91 <= c <= 96 for c in quarter):
            for j in (0, 2):
                if any(58 <= c <= 64 or 91 <= c <= 96 for c in quarter[j : j + 2]):
                    quarter[j] += 1
                    quarter[j + 1] -= 1
        letters[:, i] = quarter
    text = "".join(map(chr, letters.ravel()))
    return text[-1] + text[:-1]
