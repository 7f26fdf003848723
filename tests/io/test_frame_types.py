"""What betrays a frame's kind when its type card says light, or nothing."""

from __future__ import annotations

import numpy as np
import pytest

from arrayred.config import Instrument
from arrayred.io import Frame, confirm_arcs, find_frame_type, read_frames, words_of, write_frames
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
        ("Light Frame", "x-1", "Comparison star 3", "", "arc"),
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


def test_an_element_alone_only_proposes_an_arc() -> None:
    proposed = find_frame_type("Light Frame", "201103ne-13", "", "", GENERIC)
    assert (proposed.frame_type, proposed.maybe_arc) == ("light", "ne")
    assert find_frame_type("Light Frame", "sci-ne-1", "", "", GENERIC).maybe_arc == ""


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


@pytest.fixture(scope="module")
def named_after_neon(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Frame]:
    """Return an arc and a light, both typed as lights and named after an element."""
    folder = tmp_path_factory.mktemp("lamps")
    night = SimulatedNight(Detector(shape=(160, 400)), n_darks=0, n_arcs=1, n_lights=1)
    frames = [
        SimulatedFrame(
            f"{frame.name[0]}-ne-1.fit", {"IMAGETYP": "LIGHT", "EXPTIME": 10.0}, frame.pixels
        )
        for frame in night.frames()
    ]
    found, _ = read_frames(write_frames(frames, folder), GENERIC)
    return {frame.label[0]: frame for frame in confirm_arcs(found)}


def test_pixels_confirm_a_lamp_and_acquit_a_star(named_after_neon: dict[str, Frame]) -> None:
    assert {n: f.frame_type for n, f in named_after_neon.items()} == {"a": "arc", "l": "light"}
    assert "fill the slit" in named_after_neon["a"].warnings[0]


def test_a_frame_that_proposes_nothing_is_not_read(
    named_after_neon: dict[str, Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arrayred.io.pixel_checks.FrameStack", None)
    frame = named_after_neon["l"]
    quiet = Frame(**{n: getattr(frame, n) for n in Frame.__dataclass_fields__} | {"maybe_arc": ""})
    assert confirm_arcs([quiet]) == [quiet]
    assert np.isscalar(quiet.exptime)
