"""Sections of headers and instrument files: which are believed, and how products tell them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import arrayred as ar
from arrayred.config import Instrument
from arrayred.errors import UsageError
from arrayred.io import Frame, Header, correct_section_cards, first_pixel, read_frames
from arrayred.model import Section, Sections

BESIDE = {"BIASSEC": "[1:5,1:20]", "TRIMSEC": "[6:30,1:20]"}
ABOVE = {"BIASSEC": "[1:30,17:20]", "TRIMSEC": "[1:30,1:16]"}


def frame_of(folder: Path, detector: str = "", **cards: str) -> Frame:
    """Return a written frame of 20 rows and 30 columns, read with an instrument file."""
    known = {"IMAGETYP": "Light Frame", "EXPTIME": 60.0, **cards}
    header = fits.Header(list(known.items()))
    fits.writeto(folder / "one.fits", np.zeros((20, 30), "i2"), header)
    (folder / "own.toml").write_text(f"[detector]\n{detector}")
    (frame,), _ = read_frames([folder / "one.fits"], Instrument.load(folder / "own.toml"))
    return frame


@pytest.mark.parametrize(("cards", "by_row"), [(BESIDE, True), (ABOVE, False)])
def test_both_cards_are_believed(tmp_path: Path, cards: dict[str, str], by_row: bool) -> None:
    parts = [Section.parse(cards[name]) for name in ("BIASSEC", "TRIMSEC")]
    assert frame_of(tmp_path, **cards).sections == Sections(parts[0], parts[1], by_row)


def test_datasec_stands_for_a_missing_trimsec(tmp_path: Path) -> None:
    cards = {"BIASSEC": "[ 1:5, 1:20 ]", "DATASEC": "[6:30,1:20]"}
    sections = frame_of(tmp_path, **cards).sections
    assert sections is not None
    assert str(sections.trim) == "[6:30,1:20]"


def test_an_overscan_card_alone_is_half_a_truth(tmp_path: Path) -> None:
    frame = frame_of(tmp_path, BIASSEC=BESIDE["BIASSEC"])
    assert (frame.sections, frame.warnings, frame.refusals) == (None, (), ())


@pytest.mark.parametrize("name", ["DATASEC", "TRIMSEC"])
def test_a_part_of_the_frame_alone_is_what_it_is_trimmed_to(tmp_path: Path, name: str) -> None:
    frame = frame_of(tmp_path, **{name: "[6:30,1:20]"})
    assert frame.sections == Sections(None, Section((6, 30), (1, 20)))
    assert frame.window == (1, 6, 20, 25)


@pytest.mark.parametrize("text", ["[1:30,1:20]", "[6:40,1:20]", "all"])
def test_the_whole_frame_or_no_part_of_it_trims_nothing(tmp_path: Path, text: str) -> None:
    assert frame_of(tmp_path, DATASEC=text).sections is None


# Overscan that no card names


def night_of(folder: Path, strip: float, *, trail: float = 0.0, left: bool = False) -> ar.Night:
    """Write biases, flats and lights with twenty columns beside DATASEC, and open the night.

    Parameters
    ----------
    strip : the part of the light that reaches those columns.
    trail : the part of the light that trails into the first of them, and decays by e in each.
    """
    rng, columns = np.random.default_rng(3), np.arange(60.0)
    reach = np.where(columns < 40, 1.0, strip + trail * np.exp(40 - columns))
    section = "[21:60,1:50]" if left else "[1:40,1:50]"
    for kind, level in (("Bias Frame", 0), ("Flat Field", 20_000), ("Light Frame", 300)):
        for i in range(2):
            frame = 1000 + rng.normal(0, 5, (50, 60)) + level * reach
            cards = {"IMAGETYP": kind, "EXPTIME": float(level > 0), "DATASEC": section}
            cards["DATE-OBS"] = f"2026-01-02T03:0{i}:00"
            pixels = np.rint(frame[:, ::-1] if left else frame).astype(np.uint16)
            fits.writeto(folder / f"{kind[0]}{i}.fits", pixels, fits.Header(list(cards.items())))
    return ar.open_night(folder)


@pytest.mark.parametrize(
    ("strip", "trail", "columns"),
    [(0.0, 0.0, (41, 60)), (0.0, 0.05, (45, 60)), (0.02, 0.0, None), (1.0, 0.0, None)],
)
def test_columns_that_light_does_not_reach_are_overscan(
    tmp_path: Path, strip: float, trail: float, columns: tuple[int, int] | None
) -> None:
    night = night_of(tmp_path, strip, trail=trail)
    found = {frame.sections for frame in night.frames}
    overscan = None if columns is None else Section(columns, (1, 50))
    assert found == {Sections(overscan, Section((1, 40), (1, 50)))}
    said = [v.text for frame in night.frames for v in frame.verdicts if "overscan" in v.text]
    assert len(said) == (6 if columns else 0)
    assert all(str(overscan) in text for text in said)


def test_overscan_at_the_left_is_found_too(tmp_path: Path) -> None:
    (sections,) = {frame.sections for frame in night_of(tmp_path, 0.0, left=True).frames}
    assert sections == Sections(Section((1, 20), (1, 50)), Section((21, 60), (1, 50)))


@pytest.mark.parametrize(
    ("overscan", "trim", "why"),
    [
        ("[1:5,1:40]", "[6:30,1:20]", "30 columns and 20 rows"),
        ("[1:8,1:20]", "[6:30,1:20]", "beside it"),
        ("[1:5,1:9]", "[6:30,1:20]", "beside it"),
        ("0", "none", "neither can be understood"),
    ],
)
def test_odd_cards_are_not_used_and_said(
    tmp_path: Path, overscan: str, trim: str, why: str
) -> None:
    frame = frame_of(tmp_path, BIASSEC=overscan, TRIMSEC=trim)
    assert frame.sections is None
    assert any("were not used" in text and why in text for text in frame.warnings)
    assert frame.refusals == ()


def test_an_instrument_file_comes_before_the_cards(tmp_path: Path) -> None:
    frame = frame_of(tmp_path, 'overscan = "[26:30,1:20]"\ntrim = "[1:25,3:18]"', **BESIDE)
    assert frame.sections == Sections(Section((26, 30), (1, 20)), Section((1, 25), (3, 18)))
    assert frame.window == (3, 1, 16, 25)


@pytest.mark.parametrize(
    ("detector", "by_row"), [('overscan = "[1:5,1:20]"', True), ('overscan = "[1:30,1:2]"', False)]
)
def test_an_overscan_alone_trims_nothing(tmp_path: Path, detector: str, by_row: bool) -> None:
    frame = frame_of(tmp_path, detector)
    assert frame.sections is not None
    assert (frame.sections.trim, frame.sections.by_row) == (None, by_row)
    assert frame.window == (1, 1, 20, 30)


def test_a_frame_without_the_instruments_sections_is_refused_by_name(tmp_path: Path) -> None:
    (refusal,) = frame_of(tmp_path, 'trim = "[1:31,1:20]"').refusals
    for words in ("one.fits", "[1:31,1:20]", "30 columns and 20 rows", "--no-overscan"):
        assert words in str(refusal)


@pytest.mark.parametrize("text", ["[1:5]", "5", "[5:1,1:9]", "[0:5,1:9]"])
def test_a_section_of_an_instrument_file_must_be_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "own.toml").write_text(f'[detector]\ntrim = "{text}"')
    with pytest.raises(UsageError, match=r"trim of the detector must be a section"):
        Instrument.load(tmp_path / "own.toml")


def test_a_trimmed_product_tells_where_its_pixels_were() -> None:
    header = Header()
    for card, value in {**BESIDE, "CRPIX1": 10.0, "CRPIX2": 4.0}.items():
        header.set(card, value)
    correct_section_cards(header, Sections(Section((1, 5), (1, 20)), Section((6, 30), (3, 18))))
    assert first_pixel(header) == (3, 6)
    assert (header["CRPIX1"], header["CRPIX2"]) == (5.0, 2.0)
    assert header["AROVSCAN"] == "[1:5,1:20]"
    assert not {"BIASSEC", "TRIMSEC"} & set(header)


def test_a_header_without_sections_stays_as_it_is() -> None:
    header = Header()
    header.set("CRPIX1", 10.0)
    before = header.to_bytes()
    correct_section_cards(header, None)
    assert header.to_bytes() == before
