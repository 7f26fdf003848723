"""Headers that are split over HDUs: the image's own cards, then the primary's."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import arrayred as ar
from arrayred.config import Instrument
from arrayred.io import Frame, frame_from_header
from arrayred.io.scan import scan

PRIMARY = {"OBJECT": "59 Cyg", "DATE-OBS": "2020-11-03T01:02:03", "EXPTIME": 600.0, "GAIN": 9}
IMAGE = {"IMAGETYP": "Light Frame", "CCD-TEMP": -40.0, "GAIN": 2}


def write(path: Path, *, tiled: bool = False, **image_cards: object) -> Path:
    primary = fits.PrimaryHDU()
    pixels = np.arange(64, dtype="i2").reshape(8, 8)
    image = fits.CompImageHDU(pixels) if tiled else fits.ImageHDU(pixels)
    primary.header.update(PRIMARY)
    image.header.update({**IMAGE, **image_cards})
    fits.HDUList([primary, image]).writeto(path)
    return path


def described(path: Path) -> Frame:
    return frame_from_header(path.stem, scan(path), Instrument.load("generic"))


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("cards", [{}, {"INHERIT": True}])
def test_facts_come_from_both_headers_the_images_first(
    tiled: bool, cards: dict[str, bool], tmp_path: Path
) -> None:
    path = write(tmp_path / "a.fits", tiled=tiled, **cards)
    frame = described(path)
    assert (frame.frame_type, frame.target, frame.exptime) == ("light", "59 Cyg", 600.0)
    assert frame.time == datetime(2020, 11, 3, 1, 2, 3, tzinfo=UTC)
    assert (frame.ccd_temp, dict(frame.setup)["gain_setting"]) == (-40.0, "2")
    assert (frame.problems, frame.warnings) == ((), ())
    header = ar.headers(ar.open_frames(path))["a"]
    merged = PRIMARY | IMAGE
    assert {keyword: header[keyword] for keyword in merged} == merged


def test_an_extension_that_does_not_inherit_stands_alone_and_says_so(tmp_path: Path) -> None:
    frame = described(write(tmp_path / "a.fits", INHERIT=False, EXPTIME=5.0))
    assert (frame.exptime, frame.target, frame.time) == (5.0, "", None)
    assert frame.warnings == ("INHERIT=F: the primary header is not used",)


def test_what_is_then_missing_is_a_problem_of_the_frame(tmp_path: Path) -> None:
    frame = described(write(tmp_path / "a.fits", INHERIT=False))
    assert frame.exptime is None
    assert "The header has no exposure time" in str(frame.problems[0])


def test_a_primary_image_with_an_extension_behind_it_keeps_its_own_header(tmp_path: Path) -> None:
    primary = fits.PrimaryHDU(np.zeros((4, 4), "i2"))
    primary.header.update(PRIMARY)
    other = fits.ImageHDU(np.ones((2, 2), "i2"))
    other.header["OBJECT"] = "guide star"
    fits.HDUList([primary, other]).writeto(tmp_path / "a.fits")
    frame = described(tmp_path / "a.fits")
    assert (frame.target, frame.shape) == ("59 Cyg", (4, 4))


def test_a_real_frame_says_the_same_plain_and_tiled(nights: Path) -> None:
    name = "coj2m002-en12-20200321-0023-w00.fits"
    plain, tiled = (described(nights / "formats" / "floyds" / f) for f in (name, f"{name}.fz"))
    for fact in ("frame_type", "exptime", "time", "target", "setup", "unit", "gain"):
        assert getattr(plain, fact) == getattr(tiled, fact)
    with fits.open(nights / "formats" / "floyds" / name) as hdus:
        known = next(hdu.header for hdu in hdus if "OBJECT" in hdu.header)
    assert (plain.target, plain.exptime) == (known["OBJECT"], known["EXPTIME"])
