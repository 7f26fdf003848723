"""FITS files as bytes: astropy opens, verifies and returns what was put in."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from arrayred.io import (
    Column,
    Header,
    encode_checksum,
    fits_table_bytes,
    image_bytes,
    ones_complement_sum,
)

DTYPES = (
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float32",
    "float64",
)
QUICK = settings(deadline=None, max_examples=60)


def opened(content: bytes | bytearray) -> fits.HDUList:
    """Open a file as astropy does, checksums and standard verified, every pixel read."""
    hdus = fits.open(io.BytesIO(content), checksum=True, memmap=False)
    hdus.verify("exception")
    assert len(content) % 2880 == 0
    for hdu in hdus:
        assert hdu.verify_checksum() == hdu.verify_datasum() == 1
        assert hdu.data is None or hdu.data.size
    return hdus


def extremes(dtype: str) -> NDArray[Any]:
    """Return an image of 2 x 5 pixels with the largest and smallest values of its type."""
    kind = np.dtype(dtype)
    limits: Any = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
    odd = [limits.min, limits.max, 0, 1, limits.max // 3]
    return np.array([odd, odd[::-1]], kind)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_image_comes_back_with_its_values_and_type(dtype: str) -> None:
    pixels = extremes(dtype)
    with opened(image_bytes(Header(), pixels, dtype)) as hdus:
        assert hdus[0].data.dtype.newbyteorder("=") == np.dtype(dtype)
        assert np.array_equal(hdus[0].data, pixels)


def test_signed_bytes_come_back_with_their_values() -> None:
    pixels = extremes("int8")
    with opened(image_bytes(Header(), pixels, "int8")) as hdus:
        assert np.array_equal(hdus[0].data, pixels)


@given(
    pixels=st.sampled_from(DTYPES).flatmap(
        lambda dtype: arrays_of.arrays(dtype, st.tuples(st.integers(1, 7), st.integers(1, 7)))
    ),
    n_cards=st.integers(0, 80),
)
@QUICK
def test_every_image_has_valid_checksums_and_its_own_pixels(
    pixels: NDArray[Any], n_cards: int
) -> None:
    header = Header()
    for i in range(n_cards):
        header.set(f"CARD{i}", i)
    with opened(image_bytes(header, pixels, pixels.dtype.name)) as hdus:
        assert np.array_equal(hdus[0].data, pixels, equal_nan=pixels.dtype.kind == "f")
        assert [hdus[0].header[f"CARD{i}"] for i in range(n_cards)] == list(range(n_cards))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bytes_depend_on_the_values_alone(dtype: str) -> None:
    pixels = extremes(dtype)
    spread = np.zeros((4, 10), dtype)
    spread[::2, ::2] = pixels
    twins = (
        pixels,
        np.asfortranarray(pixels),
        spread[::2, ::2],
        pixels.astype(f">{pixels.dtype.str[1:]}"),
    )
    assert len({bytes(image_bytes(Header(), twin, dtype)) for twin in twins}) == 1


@pytest.mark.parametrize("dtype", ["float32", "int16", "int32"])
def test_float64_pixels_are_written_in_the_type_asked_for(dtype: str) -> None:
    pixels = np.array([[1.0, -2.0, 3.125], [300.0, 0.0, -7.0]])
    with opened(image_bytes(Header(), pixels, dtype)) as hdus:
        assert np.array_equal(hdus[0].data, pixels.astype(dtype))
        assert hdus[0].data.dtype.newbyteorder("=") == np.dtype(dtype)


def test_the_given_cards_follow_the_structure_unchanged() -> None:
    header = Header()
    header.set("OBJECT", "59 Cyg", "what it shows")
    header.note("HISTORY", "made by hand")
    with opened(image_bytes(header, np.zeros((2, 3), "i2"), "int16")) as hdus:
        cards = hdus[0].header
        assert list(cards)[:5] == ["SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2"]
        assert (cards["NAXIS1"], cards["NAXIS2"]) == (3, 2)
        assert (cards["OBJECT"], cards.comments["OBJECT"]) == ("59 Cyg", "what it shows")
        assert list(cards["HISTORY"]) == ["made by hand"]


COLUMNS = [
    Column("x", "pix", "column of the image", np.arange(1, 6)),
    Column("flux", "adu", "sum over the rows", np.array([1.5, -2e300, 5e-324, np.inf, np.nan])),
]


def test_a_table_comes_back_with_its_columns_units_and_cards() -> None:
    header = Header()
    header.set("OBJECT", "59 Cyg")
    with opened(fits_table_bytes(header, "SPECTRUM", COLUMNS)) as hdus:
        table = hdus["SPECTRUM"]
        assert hdus[0].header["OBJECT"] == "59 Cyg"
        assert hdus[0].data is None
        assert (table.columns.names, table.columns.units) == (["x", "flux"], ["pix", "adu"])
        assert table.header.comments["TTYPE2"] == "sum over the rows"
        for column in COLUMNS:
            assert np.array_equal(table.data[column.name], column.values, equal_nan=True)
            assert table.data[column.name].dtype.newbyteorder("=") == column.values.dtype


@given(
    values=arrays_of.arrays("f8", st.integers(1, 500)),
    n_columns=st.integers(1, 12),
)
@QUICK
def test_every_table_has_valid_checksums_and_its_own_values(
    values: NDArray[np.float64], n_columns: int
) -> None:
    columns = [Column(f"c{i}", "adu", "", np.roll(values, i)) for i in range(n_columns)]
    with opened(fits_table_bytes(Header(), "T", columns)) as hdus:
        for column in columns:
            assert np.array_equal(hdus[1].data[column.name], column.values, equal_nan=True)


def test_the_same_table_gives_the_same_bytes() -> None:
    assert fits_table_bytes(Header(), "T", COLUMNS) == fits_table_bytes(Header(), "T", COLUMNS)


@given(st.binary(max_size=600).map(lambda raw: raw.ljust(-(-len(raw) // 4) * 4, b"\0")), st.data())
@QUICK
def test_sums_are_those_of_astropy(raw: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, 2**32 - 1))
    theirs = fits.PrimaryHDU()._compute_checksum(np.frombuffer(raw, "u1"), start)
    assert ones_complement_sum(raw, start) == int(theirs)


@given(st.binary(min_size=4, max_size=64).map(lambda raw: raw[: len(raw) // 4 * 4]))
@QUICK
def test_the_sum_of_parts_is_the_sum_of_the_whole(raw: bytes) -> None:
    cut = len(raw) // 8 * 4
    assert ones_complement_sum(raw[cut:], ones_complement_sum(raw[:cut])) == ones_complement_sum(
        raw
    )


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=400)
def test_checksums_are_spelt_as_astropy_spells_them(value: int) -> None:
    text = encode_checksum(value)
    assert text == fits.PrimaryHDU()._char_encode(value)
    assert text.isalnum()


def test_every_byte_is_spelt_in_letters_and_digits() -> None:
    for byte in range(256):
        value = int.from_bytes([byte] * 4, "big")
        assert encode_checksum(value) == fits.PrimaryHDU()._char_encode(value)


@pytest.mark.parametrize("mark", [b"columns", b"\0\7\0\7"])
def test_a_flipped_bit_is_found_by_astropy(mark: bytes) -> None:
    content = bytearray(image_bytes(Header(), np.full((40, 40), 7, "i2"), "int16"))
    content[content.index(mark)] ^= 1
    with fits.open(io.BytesIO(content), memmap=False) as hdus:
        assert hdus[0].verify_checksum() == 0
