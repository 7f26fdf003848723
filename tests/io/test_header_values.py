"""Facts that stand twice, hold odd bytes, or tell how an image was flipped."""

from __future__ import annotations

import pytest

from arrayred.io import Frame, Header, ImageHDU
from arrayred.io.scan import scan
from tests.io.test_frames import frame_with, write


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> ImageHDU:
    return scan(write(tmp_path_factory.mktemp("one") / "x.fit"))


def told(image: ImageHDU, *cards: str) -> Frame:
    return frame_with(image, *cards)


@pytest.mark.parametrize("second", ["600", "600.0", "6E2", "'600'", "600 / other comment"])
def test_an_exposure_that_stands_twice_alike_counts(second: str, image: ImageHDU) -> None:
    frame = told(image, "EXPTIME = 600.0", f"EXPTIME = {second}")
    assert (frame.exptime, frame.problems) == (600.0, ())


@pytest.mark.parametrize("second", ["60", "'600,0'", "T", "600.1"])
def test_exposures_that_contradict_each_other_are_a_problem(second: str, image: ImageHDU) -> None:
    frame = told(image, "EXPTIME = 600.0", f"EXPTIME = {second}")
    (problem,) = frame.problems
    assert frame.exptime is None
    assert (problem.keyword, problem.path) == ("EXPTIME", str(image.source.path))
    assert "EXPTIME appears 2 times in the header, with 600.0 and" in str(problem)


def test_types_that_mean_the_same_agree(image: ImageHDU) -> None:
    frame = told(image, "IMAGETYP= 'Dark Frame'", "IMAGETYP= 'DARK'")
    assert (frame.frame_type, frame.refusals) == ("dark", ())


def test_types_that_contradict_each_other_are_refused(image: ImageHDU) -> None:
    frame = told(image, "IMAGETYP= 'Dark Frame'", "IMAGETYP= 'Light Frame'")
    (refusal,) = frame.refusals
    assert (refusal.keyword, refusal.hint) == (
        "IMAGETYP",
        "Remove one of the cards, or exclude the frame, "
        'or set its type in a night file ([types] TYPE = ["x"]).',
    )


def test_of_types_one_of_which_means_nothing_the_other_counts(image: ImageHDU) -> None:
    frame = told(image, "IMAGETYP= 'Quux'", "IMAGETYP= 'Dark Frame'")
    assert (frame.frame_type, frame.refusals) == ("dark", ())
    (warning,) = frame.warnings
    assert "IMAGETYP appears 2 times" in warning


def test_types_under_different_keywords_are_tried_in_order(image: ImageHDU) -> None:
    frame = told(image, "IMAGETYP= 'Dark Frame'", "FRAME   = 'Light'")
    assert (frame.frame_type, frame.refusals) == ("dark", ())


@pytest.mark.parametrize("odd", ["\xe9", "\x1b[31m", "in\0side", "\x7f", "\n"])
def test_bytes_that_no_header_may_hold_are_told_with_their_keywords(
    odd: str, image: ImageHDU
) -> None:
    frame = told(image, "EXPTIME = 600.0", f"OBJECT  = 'a{odd}b'", f"COMMENT {odd}.")
    assert frame.warnings == ("characters not allowed by FITS in OBJECT, COMMENT",)


@pytest.mark.parametrize("card", ["OBJECT  = 'plain ~'", "OBJECT  = 'x'\0\0\0", "\0" * 80])
def test_plain_cards_and_trailing_zeros_are_fine(card: str, image: ImageHDU) -> None:
    assert told(image, "EXPTIME = 600.0", card).warnings == ()


@pytest.mark.parametrize(
    ("cards", "flip"),
    [([], None), (["FLIPSTAT= ''"], ""), (["FLIPSTAT= 'Mirror'"], "Mirror"), (["FLIPSTAT="], None)],
)
def test_a_flip_is_known_only_where_a_card_tells_it(
    cards: list[str], flip: str | None, image: ImageHDU
) -> None:
    assert told(image, *cards).flip == flip


def test_all_cards_of_a_keyword_are_found() -> None:
    header = Header(["A       = 1", "AB      = 2", "A       = 'x", "A       = 'y'"])
    assert header.all("A") == [1, None, "y"]
    assert header.all("B") == []


def test_checksums_of_the_primary_are_not_those_of_an_extension() -> None:
    own = Header(["XTENSION= 'IMAGE'"])
    merged = own.inherit(Header(["DATASUM = '0'", "CHECKSUM= 'x'", "OBJECT  = 'y'"]))
    assert ("DATASUM" in merged, "CHECKSUM" in merged, merged["OBJECT"]) == (False, False, "y")
