"""Units of pixels: from BUNIT into cubes and out again into products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits

import arrayred as ar
from arrayred.config import Instrument
from arrayred.errors import MismatchError, UsageError
from arrayred.io import frame_from_header
from arrayred.io.scan import scan


def write(path: Path, unit: str | None, **cards: str | float) -> Path:
    image = fits.PrimaryHDU(np.full((4, 4), 7, "u2"))
    image.header.update({**cards, **({} if unit is None else {"BUNIT": unit})})
    image.writeto(path)
    return path


@pytest.mark.parametrize(
    ("spelling", "unit"),
    [
        (None, "adu"), ("", "adu"), ("ADU", "adu"), ("adu", "adu"), ("Counts", "adu"),
        ("DN", "adu"), ("electron", "electron"), ("ELECTRONS", "electron"), ("e-", "electron"),
    ],
)  # fmt: skip
def test_a_unit_is_known_by_many_spellings(spelling: str | None, unit: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.fit", spelling)
    for chunks in (None, 2):
        assert ar.open_frames(path, chunks).counts.attrs["units"] == unit
    assert u.Unit(unit) in (u.adu, u.electron)
    assert frame_from_header("a", scan(path), Instrument.load("generic")).warnings == ()


@pytest.mark.parametrize("spelling", ["Jy", "electron/s", "adu/s"])
def test_an_unknown_unit_is_taken_for_adu_with_a_warning(spelling: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.fit", spelling)
    frame = frame_from_header("a", scan(path), Instrument.load("generic"))
    assert frame.unit == "adu"
    told = f"check: the unit {spelling!r} of the pixels is unknown; ADU assumed"
    assert frame.warnings == (told,)


def test_frames_of_two_units_are_no_cube(tmp_path: Path) -> None:
    write(tmp_path / "a.fit", None)
    write(tmp_path / "b.fit", "electron")
    for chunks in (None, 2):
        with pytest.raises(
            MismatchError, match=r"b\.fit: The frame is in electron.*a\.fit"
        ) as caught:
            ar.open_frames(tmp_path, chunks)
        assert caught.value.keyword == "BUNIT"


def test_steps_refuse_a_dark_of_another_unit(tmp_path: Path) -> None:
    lights = ar.open_frames(write(tmp_path / "a.fit", "electron"))
    dark = ar.combine(ar.open_frames(write(tmp_path / "b.fit", "adu")))
    for subtract in (
        lambda: ar.subtract_dark(lights, dark),
        lambda: ar.combine(lights, minus=dark),
    ):
        with pytest.raises(MismatchError, match="electron here and in adu there"):
            subtract()


def test_an_electron_counts_for_one_whatever_the_gain(tmp_path: Path) -> None:
    counted = ar.open_frames(write(tmp_path / "a.fit", "electron", EGAIN=2.5))
    raw = ar.open_frames(write(tmp_path / "b.fit", "adu", EGAIN=2.5))
    assert (counted.gain.item(), raw.gain.item()) == (1.0, 2.5)


def test_an_instrument_file_adds_spellings_of_its_own(tmp_path: Path) -> None:
    settings = tmp_path / "camera.toml"
    settings.write_text('[units]\nelectron = ["Zaehler"]\n')
    path = write(tmp_path / "a.fit", "zaehler")
    assert ar.open_frames(path, instrument=str(settings)).counts.attrs["units"] == "electron"
    settings.write_text('[units]\nelectron = ["Counts"]\n')
    assert Instrument.load(settings).unit_of("counts") == "electron"
    settings.write_text('[units]\nphoton = ["x"]\n')
    with pytest.raises(UsageError, match="photon"):
        Instrument.load(settings)
