"""Coordinates, pixel numbers and notes as cards and back."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from arrayred.config import Instrument
from arrayred.errors import MismatchError
from arrayred.io import (
    Header,
    attrs_of,
    complete_header,
    coords_of,
    header_of,
    own_cards,
    pixel_numbers_of,
    read_notes,
)

GENERIC = Instrument.load("generic")


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300)))
@settings(deadline=None, max_examples=60)
def test_notes_are_put_together_as_they_were(lines: list[str]) -> None:
    clean = [" ".join(line.split()) for line in lines]
    header = Header(["HISTORY the camera's own"])
    for line in clean:
        header.note("HISTORY", f"arrayred: {line}")
    assert read_notes(Header.from_bytes(header.to_bytes()), "HISTORY") == clean


def test_a_note_cut_at_a_blank_is_whole_again() -> None:
    header, line = Header(), "x" * 61 + " and on"
    header.note("HISTORY", f"arrayred: {line}")
    assert (len(header), read_notes(header, "HISTORY")) == (2, [line])


def test_what_others_noted_is_not_ours() -> None:
    header = Header()
    for line in ("theirs", "arrayred: ours", "theirs again", "arrayred: " + "x" * 100, "theirs"):
        header.note("HISTORY", line)
    assert read_notes(header, "HISTORY") == ["ours", "x" * 100]


def test_a_header_survives_as_an_attribute() -> None:
    header = Header()
    header.set("OBJECT", "a 'quoted' name " * 9)
    header.note("COMMENT", "")
    header.set("EXPTIME", 600.0, "[s] exposure")
    kept = header_of(attrs_of(header))
    assert kept is not None
    assert kept.images() == header.images()
    assert header_of({}) is None


def test_an_empty_header_stays_empty() -> None:
    kept = header_of(attrs_of(Header()))
    assert kept is not None
    assert len(kept) == 0


@pytest.mark.parametrize(
    ("y", "x", "card"),
    [
        ((1, 5), (1, 4), []),
        ((484, 518), (1, 4), ["[1:4,484:518]"]),
        ((1, 5), (3, 3), ["[3:3,1:5]"]),
    ],
)
def test_pixels_are_numbered_where_they_do_not_begin_at_one(
    y: tuple[int, int], x: tuple[int, int], card: list[str]
) -> None:
    labels = {"y": np.arange(y[0], y[1] + 1), "x": np.arange(x[0], x[1] + 1)}
    shape = len(labels["y"]), len(labels["x"])
    image = xr.Dataset({"counts": (("y", "x"), np.zeros(shape))}, labels)
    header = Header()
    for own in own_cards(image):
        header.set(*own)
    assert [header[k] for k in header] == card
    assert all(
        np.array_equal(found, labels[dim]) for dim, found in pixel_numbers_of(header, shape).items()
    )


def test_numbers_of_another_shape_are_refused() -> None:
    header = Header()
    header.set("ARPIXELS", "[1:4,484:518]")
    with pytest.raises(MismatchError, match=r"ARPIXELS is \[1:4,484:518\], but .* 30 rows and 4"):
        pixel_numbers_of(header, (30, 4))


def test_coordinates_are_told_once_and_only_where_they_differ() -> None:
    header = Header()
    header.set("EXPOSURE", 600.0, "[s]")
    header.set("DATE-OBS", "2020-11-03T01:02:03Z", "as the camera spells it")
    before = header.images()
    coords = {"exptime": 600.0, "time": np.datetime64("2020-11-03T01:02:03", "ns"), "n_frames": 3}
    image = xr.Dataset({"counts": ((), 1.0)}, coords)
    complete_header(header, image)
    assert header.images()[:2] == before
    assert (len(header), header["NCOMBINE"]) == (3, 3)
    complete_header(header, image.assign_coords(exptime=60.0))
    assert coords_of(header, GENERIC)["exptime"] == 60.0


def test_unknown_coordinates_leave_no_card() -> None:
    header = Header()
    coords = {"exptime": np.nan, "ccd_temp": np.nan, "time": np.datetime64("NaT", "ns")}
    complete_header(header, xr.Dataset({"counts": ((), 1.0)}, coords))
    assert len(header) == 0
