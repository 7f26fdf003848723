"""What betrays a frame's kind when its type card says light, or nothing."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits.verify import VerifyWarning

from arrayred.config import Instrument
from arrayred.io import Frame, confirm_types, find_frame_type, read_frames, words_of, write_frames
from arrayred.simulate import Detector, SimulatedFrame, SimulatedNight

GENERIC = Instrument.load("generic")


@pytest.mark.parametrize(
    ("declared", "name", "target", "lamps", "kind"),
    [
        ("Light Frame", "hr8047-10", "", "", "light"),
        ("Light Frame", "L2-sci-hg-240", "", "", "light"),
        ("Light Frame", "L2-arc-hg-10", "", "", "arc"),
        ("Light Frame", "L2-flat-hg-360", "", "", "flat"),
        ("Light Frame", "NeonCalibration", "", "", "arc"),
        ("Light Frame", "x-1", "Flat lamp", "", "flat"),
        ("Light Frame", "x-1", "Comparison star 3", "", "light"),
        ("Light Frame", "x-1", "companion", "", "light"),
        ("Light Frame", "x-1", "HgMn star", "", "light"),
        ("Light Frame", "x-1", "comp", "", "arc"),
        ("Light Frame", "x-1", "Quartz lamp", "", "flat"),
        ("Light Frame", "star-arc-1", "", "", "light"),
        ("Light Frame", "arc-1", "Barnard's star", "", "arc"),
        ("Light Frame", "dark-001", "Vega", "", "dark"),
        ("Light Frame", "DARK_60s_bin2_0001", "Vega", "", "dark"),
        ("Light Frame", "vega-dark-1", "Vega", "", "light"),
        ("Light Frame", "dark-cloud-1", "", "", "light"),
        ("Light Frame", "zero-3", "", "", "bias"),
        ("Light Frame", "x-1", "Bias", "", "bias"),
        ("OBJECT", "r125", "dome flat", "", "flat"),
        ("", "r125", "dome flat", "", "flat"),
        ("FLAT,LAMP", "x", "", "", "flat"),
        ("WAVE,LAMP", "x", "", "", "arc"),
        ("DARKFLAT", "x", "", "", "dark"),
        ("flatlamp", "x", "", "", "flat"),
        ("EXPOSE", "x", "", "", "light"),
        ("OBJECT,EXTENDED", "x", "", "", "light"),
        ("Light Frames", "x", "", "", "light"),
        ("projector flat", "x", "", "", "flat"),
        ("COMPARISON_LAMP", "x", "", "", "arc"),
        ("Light Frame", "x-1", "Arcturus", "", "light"),
        ("Light Frame", "darkcloud-dark-1", "Dark nebula", "", "light"),
        ("object", "r1", "G93-48", "CuNe+CuAr", "arc"),
        ("object", "r1", "G93-48", "Off", "light"),
        ("Dark Frame", "flat-dark-1", "", "", "dark"),
        ("DARK", "x", "Neon lamp", "CuAr", "dark"),
        ("Tricolor", "arc-1", "", "", None),
        ("", "dark_003", "", "", "dark"),
        ("", "Bias-1", "", "", "bias"),
        ("", "fomalhaut_0031", "", "", None),
        ("LAMPFLAT", "x", "AT 2019mtw", "", "flat"),
    ],
)
def test_a_role_decides_what_the_type_card_leaves_open(
    declared: str, name: str, target: str, lamps: str, kind: str | None
) -> None:
    assert find_frame_type(declared, name, target, lamps, GENERIC).frame_type == kind


@pytest.mark.parametrize(
    ("name", "target", "doubt"),
    [
        ("201103ne-13", "", ("arc", "lines", "its name contains 'ne'")),
        ("r-1", "Xenon", ("arc", "lines or short", "its name contains 'xenon'")),
        ("r-1", "Comparison star 3", ("arc", "lines", "its name contains 'comparison'")),
        ("arc-1", "", ("light", "trace", "its name contains 'arc'")),
        ("dark-1", "Vega", ("light", "trace", "its name contains 'dark'")),
        ("sci-ne-1", "", None),
        ("r-1", "Arcturus", None),
        ("flat-1", "", None),
    ],
)
def test_words_propose_a_type_which_pixels_confirm(
    name: str, target: str, doubt: tuple[str, str, str] | None
) -> None:
    assert find_frame_type("Light Frame", name, target, "", GENERIC).doubt == doubt


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("L2-sci-hg-240.00000000", ["l", "sci", "hg"]),
        ("NeonCalibration", ["neon", "calibration"]),
        ("HgArc_003", ["hg", "arc"]),
        ("201103dark-01", ["dark"]),
        ("THAR", ["thar"]),
    ],
)
def test_words_are_parted_by_digits_signs_and_capitals(name: str, words: list[str]) -> None:
    assert words_of(name) == words


Renamed = dict[str, object]


@pytest.fixture(scope="module")
def lamp_and_star() -> dict[str, SimulatedFrame]:
    """Return an arc, a light and a dark."""
    night = SimulatedNight(Detector(shape=(160, 400)), n_darks=1, n_arcs=1, n_lights=1)
    return {frame.name[0]: frame for frame in night.frames()}


def judged(
    frames: dict[str, SimulatedFrame], folder: Path, cards: dict[str, Renamed]
) -> dict[str, Frame]:
    """Return the frames under new headers, each judged by its pixels, by their letters."""
    written = [
        SimulatedFrame(
            f"{letter}-{cards[letter].pop('name', 1)}.fit", cards[letter], frames[letter].pixels
        )
        for letter in cards
    ]
    found, _ = read_frames(write_frames(written, folder), GENERIC)
    return {frame.label[0]: frame for frame in confirm_types(found)}


def typed(name: object, exptime: float = 10.0, **cards: object) -> Renamed:
    return {"name": name, "IMAGETYP": "LIGHT", "EXPTIME": exptime, **cards}


@pytest.mark.parametrize(
    ("name", "exptime", "lamp", "star"),
    [
        ("ne-1", 10.0, "arc", "light"),
        ("ne-1", 600.0, "light", "light"),
        ("neon-1", 600.0, "arc", "light"),
        ("comp", 10.0, "arc", "light"),
        ("comp-star", 10.0, "arc", "light"),
    ],
)
def test_pixels_confirm_a_lamp_and_acquit_a_star(
    lamp_and_star: dict[str, SimulatedFrame],
    tmp_path: Path,
    name: str,
    exptime: float,
    lamp: str,
    star: str,
) -> None:
    found = judged(lamp_and_star, tmp_path, {"a": typed(name, exptime), "l": typed(name, exptime)})
    assert {n: f.frame_type for n, f in found.items()} == {"a": lamp, "l": star}
    if name == "comp":
        assert found["l"].warnings == (
            "its name contains 'comp', but the pixels show a star: used as a light frame",
        )


def test_a_gas_and_a_short_exposure_make_a_lamp_of_a_frame_without_a_trace(
    lamp_and_star: dict[str, SimulatedFrame], tmp_path: Path
) -> None:
    cards = {"d": typed(1, 5.0, OBJECT="Xenon"), "l": typed(2, 600.0, OBJECT="Vega")}
    found = judged(lamp_and_star, tmp_path, cards)
    assert {n: f.frame_type for n, f in found.items()} == {"d": "arc", "l": "light"}
    assert "'xenon' and a short exposure" in found["d"].warnings[0]


def test_lines_that_fill_the_slit_alone_only_advise(
    lamp_and_star: dict[str, SimulatedFrame], tmp_path: Path
) -> None:
    cards = {"a": typed(1, 5.0, OBJECT="NGC 7000"), "l": typed(2, 600.0, OBJECT="Vega")}
    found = judged(lamp_and_star, tmp_path, cards)
    assert {f.frame_type for f in found.values()} == {"light"}
    assert "[types] arc" in found["a"].warnings[0]
    assert found["l"].warnings == ()


def test_a_second_type_card_makes_a_dark_of_a_light_unless_it_shows_a_star(
    lamp_and_star: dict[str, SimulatedFrame], tmp_path: Path
) -> None:
    cards = {letter: typed(1, 600.0, FRAME="Dark", OBJECT="Vega") for letter in "dl"}
    found = judged(lamp_and_star, tmp_path, cards)
    assert {n: f.frame_type for n, f in found.items()} == {"d": "dark", "l": "light"}
    assert found["d"].warnings == ("used as dark: FRAME is 'Dark'",)
    assert "FRAME is 'Dark', but the pixels show a star" in found["l"].warnings[0]


def test_a_frame_without_a_doubt_is_not_read(
    lamp_and_star: dict[str, SimulatedFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arrayred.io.pixel_checks.FrameStack", None)
    (star,) = judged(lamp_and_star, tmp_path, {"l": typed("star")}).values()
    assert (star.frame_type, star.warnings) == ("light", ())


@pytest.mark.parametrize("keyword", ["HIERARCH ESO DPR TYPE", "ESO DPR TYPE"])
def test_a_hierarch_card_is_found_with_and_without_that_word(
    lamp_and_star: dict[str, SimulatedFrame], tmp_path: Path, keyword: str
) -> None:
    path = tmp_path / "x.fits"
    with warnings.catch_warnings(action="ignore", category=VerifyWarning):
        head = fits.Header([("HIERARCH ESO DPR TYPE", "WAVE,LAMP"), ("EXPTIME", 5.0)])
    fits.writeto(path, lamp_and_star["a"].pixels, head)
    own = tmp_path / "own.toml"
    own.write_text(f'[keywords]\nframe_type = ["{keyword}"]\n')
    for instrument in (GENERIC, Instrument.load(own)):
        (frame,), _ = read_frames([path], instrument)
        assert (frame.frame_type, frame.type_found) == ("arc", "WAVE,LAMP")


@pytest.mark.parametrize(
    ("cards", "kind", "told"),
    [
        ([("OBSTYPE", "OBJECT"), ("OBSTYPE", 1)], "light", "OBSTYPE appears 2 times"),
        ([("OBSTYPE", 0), ("OBSTYPE", "DARK")], "dark", "OBSTYPE appears 2 times"),
        ([("IMAGETYP", "raw"), ("OBSTYPE", "DARK")], "dark", "IMAGETYP is 'raw', which is not"),
        ([("OBSTYPE", "DARK"), ("OBSTYPE", "dark")], "dark", ""),
        ([("IMAGETYP", "object"), ("FRAME", "FK5")], "light", ""),
    ],
)
def test_of_several_type_cards_the_one_with_a_meaning_counts(
    tmp_path: Path, cards: list[tuple[str, object]], kind: str, told: str
) -> None:
    path = tmp_path / "x.fits"
    fits.writeto(path, np.zeros((8, 9), np.int16), fits.Header([*cards, ("EXPTIME", 5.0)]))
    (frame,), _ = read_frames([path], GENERIC)
    assert frame.frame_type == kind
    assert [told in text for text in frame.warnings] == [True] * bool(told)
    assert not frame.refusals


def test_a_dark_of_0_s_is_a_bias_unless_it_is_a_master(tmp_path: Path) -> None:
    for name, more in {"a": {}, "m": {"NCOMBINE": 5}}.items():
        head = fits.Header({"IMAGETYP": "DARK", "EXPTIME": 0.0, **more})
        fits.writeto(tmp_path / f"{name}.fits", np.zeros((8, 9), np.int16), head)
    found, _ = read_frames(sorted(tmp_path.glob("*.fits")), GENERIC)
    assert [frame.frame_type for frame in found] == ["bias", "dark"]
    assert found[0].warnings == ("used as bias: a dark of 0 s",)
