"""What headers say in our words: facts by many spellings, problems kept, labels, order, folders."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from arrayred.config import Instrument
from arrayred.errors import HeaderError, InputError
from arrayred.io import Frame, Header, ImageHDU, frame_from_header, list_files, read_frames
from arrayred.io.scan import scan
from arrayred.model import INSTRUMENT_FILE

GENERIC = Instrument.load("generic")
PRINTABLE = "".join(map(chr, range(32, 127)))


def write(path: Path, *cards: str) -> Path:
    """Write a frame of 2 x 3 pixels with card images as given, legible or not."""
    structure = ["SIMPLE  = T", "BITPIX  = 16", "NAXIS   = 2", "NAXIS1  = 3", "NAXIS2  = 2"]
    header = "".join(card.ljust(80) for card in (*structure, *cards, "END"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header.ljust(-(-len(header) // 2880) * 2880).encode() + bytes(2880))
    return path


@pytest.fixture(scope="module")
def plain_image(tmp_path_factory: pytest.TempPathFactory) -> ImageHDU:
    return scan(write(tmp_path_factory.mktemp("one") / "x.fit"))


def frame_with(image: ImageHDU, *cards: str) -> Frame:
    return frame_from_header("x", replace(image, header=Header(cards)), GENERIC)


SPELLINGS = {
    "light": (
        "Light Frame",
        "LIGHT",
        "light_frame",
        "object",
        "Science",
        " Target ",
        "Light  Frame",
    ),
    "dark": ("Dark Frame", "DARK", "dark", "Darks", "DARK_FRAME"),
    "bias": ("Bias Frame", "BIAS", "zero", "Zero Frame"),
    "flat": ("Flat Field", "FLAT", "Flat_Frame", "dome flat", "Sky Flat"),
    "arc": ("Arc", "COMP", "comparison", "Lamp"),
    None: ("", "Tracking", "darkness", "light dark", "0"),
}


@pytest.mark.parametrize(
    ("spelling", "kind"),
    [(spelling, kind) for kind, spellings in SPELLINGS.items() for spelling in spellings],
)
@pytest.mark.parametrize("keyword", ["IMAGETYP", "IMAGETYPE", "OBSTYPE", "FRAME"])
def test_types_are_known_by_many_spellings(
    keyword: str, spelling: str, kind: str | None, plain_image: ImageHDU
) -> None:
    frame = frame_with(plain_image, f"{keyword[:8]:8}= '{spelling}'")
    assert frame.frame_type == kind
    assert frame.type_found == spelling.strip()


@pytest.mark.parametrize(
    ("cards", "seconds"),
    [
        (["EXPTIME = 600"], 600.0),
        (["EXPTIME = 600.0 / anything"], 600.0),
        (["EXPTIME = 6D2"], 600.0),
        (["EXPTIME = '600.0'"], 600.0),
        (["EXPTIME = ' 600 '"], 600.0),
        (["EXPTIME = 0"], 0.0),
        (["EXPTIME = 1E-4"], 1e-4),
        (["EXP_TIME= 5.5"], 5.5),
        (["EXPOSURE= 600.0 / Exposure time in seconds"], 600.0),
        (["EXPOSURE= 600.0 / [s] total"], 600.0),
        (["EXPOSURE= 600.0 / [sec]"], 600.0),
        (["EXPOSURE= 600000 / ms", "EXPTIME = 600.0"], 600.0),
        (["EXPTIME =", "EXPOSURE= 30.0 / s"], 30.0),
        (["EXPTIME = ''", "EXPOSURE= 30.0 / s"], 30.0),
        (["EXPTIME = 30.0 / [s] of at most 10 minutes"], 30.0),
    ],
)
def test_an_exposure_is_read_in_seconds(
    cards: list[str], seconds: float, plain_image: ImageHDU
) -> None:
    frame = frame_with(plain_image, *cards)
    assert frame.exptime == seconds
    assert type(frame.exptime) is float
    assert frame.problems == ()


@pytest.mark.parametrize(
    ("cards", "keyword", "value"),
    [
        ([], "EXPTIME", None),
        (["EXPTIME ="], "EXPTIME", None),
        (["EXPTIME = '  '"], "EXPTIME", None),
        (["EXPTIME = -1.0"], "EXPTIME", -1.0),
        (["EXPTIME = 1E9"], "EXPTIME", 1e9),
        (["EXPTIME = T"], "EXPTIME", True),
        (["EXPTIME = 'abc'"], "EXPTIME", "abc"),
        (["EXPTIME = 'nan'"], "EXPTIME", "nan"),
        (["EXPTIME = '-inf'"], "EXPTIME", "-inf"),
        (["EXPTIME = '10 min'"], "EXPTIME", "10 min"),
        (["EXPTIME = '1:00'", "EXPOSURE= 60.0 / s"], "EXPTIME", "1:00"),
        (["EXPOSURE= 600.0"], "EXPOSURE", 600.0),
        (["EXPOSURE= 600.0 / total"], "EXPOSURE", 600.0),
        (["EXPOSURE= 600000 / [ms]"], "EXPOSURE", 600000),
        (["EXPOSURE= 600000 / milliseconds"], "EXPOSURE", 600000),
        (["EXPOSURE= 600000 / camera's time in ms"], "EXPOSURE", 600000),
        (["EXPTIME = 6000 / [us]"], "EXPTIME", 6000),
        (["EXPTIME = 6000 / exposure, microseconds"], "EXPTIME", 6000),
        (["EXPTIME = 10 / [min]"], "EXPTIME", 10),
        (["EXPTIME = 10 / exposure in minutes"], "EXPTIME", 10),
        (["EXPTIME = 0.5 / exposure (hr)"], "EXPTIME", 0.5),
    ],
)
def test_an_exposure_that_makes_no_sense_is_a_problem_kept(
    cards: list[str], keyword: str, value: object, plain_image: ImageHDU
) -> None:
    frame = frame_with(plain_image, *cards)
    assert frame.exptime is None
    (problem,) = frame.problems
    assert isinstance(problem, HeaderError)
    assert (problem.keyword, problem.value) == (keyword, value)
    assert str(problem).startswith(f"{frame.path}: ")


def test_an_illegible_card_is_a_problem_and_the_next_keyword_is_tried(
    plain_image: ImageHDU,
) -> None:
    frame = frame_with(plain_image, "EXPTIME = 6oo", "EXPOSURE= 30.0 / s", "OBJECT  = HR 8047")
    assert frame.exptime == 30.0
    assert frame.target == ""
    assert {problem.keyword for problem in frame.problems} == {"EXPTIME", "OBJECT"}
    assert all(str(problem).startswith(f"{frame.path}: ") for problem in frame.problems)


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        (["EXPTIME = '600.0'"], ["EXPTIME", "'600.0'"]),
        (["EXPTIME = 600", "EXPOSURE= 60.0 / s"], ["600", "EXPOSURE", "60"]),
        (["EXPTIME = 600", "EXPOSURE= 600.0 / s"], []),
        (["EXPTIME = 600", "EXPOSURE= 600000 / ms"], []),
        (["EXPTIME = 600", "EXPOSURE= 'long' / s"], []),
        (["EXPTIME = 600.0"], []),
    ],
)
def test_an_odd_exposure_is_a_warning_not_a_problem(
    cards: list[str], words: list[str], plain_image: ImageHDU
) -> None:
    frame = frame_with(plain_image, *cards)
    assert (frame.exptime, frame.problems, len(frame.warnings)) == (600.0, (), bool(words))
    assert all(word in frame.warnings[0] for word in words)


@pytest.mark.parametrize(
    ("cards", "time"),
    [
        (["DATE-OBS= '2020-11-03T01:02:03'"], (2020, 11, 3, 1, 2, 3)),
        (["DATE-OBS= '2020-11-03T01:02:03.250'"], (2020, 11, 3, 1, 2, 3, 250000)),
        (["DATE-OBS= '2020-11-03T01:02:03Z'"], (2020, 11, 3, 1, 2, 3)),
        (["DATE-OBS= '2020-11-03T01:02'"], (2020, 11, 3, 1, 2)),
        (["DATE-OBS= '2020-11-3T1:2:3'"], (2020, 11, 3, 1, 2, 3)),
        (["DATE-OBS= '2016-12-31T23:59:60'"], (2017, 1, 1)),
        (["DATE-OBS= '2020-11-03'", "TIME-OBS= '01:02:03.5'"], (2020, 11, 3, 1, 2, 3, 500000)),
        (["TIME-OBS= '01:02'", "DATE-OBS= '2020-11-03'"], (2020, 11, 3, 1, 2)),
        (["DATE-OBS= '2020-11-03'", "UT      = '01:02:03'"], (2020, 11, 3, 1, 2, 3)),
        (["DATE-OBS= '2020-11-03T04:05:06'", "TIME-OBS= '01:02:03'"], (2020, 11, 3, 4, 5, 6)),
        (["DATE-BEG= '2020-11-03T01:02:03'"], (2020, 11, 3, 1, 2, 3)),
        (["DATE_OBS= '2020-11-03T01:02:03'"], (2020, 11, 3, 1, 2, 3)),
        (["DATE-UTC= '2020-11-03T01:02:03Z'"], (2020, 11, 3, 1, 2, 3)),
        (["DATE-OBS= '2020-11-03'", "UTSTART = '01:02:03Z'"], (2020, 11, 3, 1, 2, 3)),
        (["DATE-OBS= '2020-11-03'", "UT      =                 22.5"], (2020, 11, 3, 22, 30)),
        (["DATE-OBS= '2020-11-03'", "UT      = '1.5'"], (2020, 11, 3, 1, 30)),
        (["DATE-OBS= '03/11/98'", "UT      = '01:02:03'"], (1998, 11, 3, 1, 2, 3)),
        (["DATE-OBS= '2020-11-03'", "DATE-BEG= '2020-11-03T01:02:03'"], (2020, 11, 3, 1, 2, 3)),
        (["DATE-OBS= 'unknown'", "DATE-UTC= '2020-11-03T01:02:03'"], (2020, 11, 3, 1, 2, 3)),
        (["MJD-OBS =        59156.0625"], (2020, 11, 3, 1, 30)),
    ],
)
def test_a_start_is_read_in_utc(
    cards: list[str], time: tuple[int, int, int], plain_image: ImageHDU
) -> None:
    assert frame_with(plain_image, *cards).time == datetime(*time, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        *("", "yesterday", "2020", "2020-13-03", "2020-02-30T00:00:00", "0000-01-01", "11/03/2020"),
        *("2020-11-03T", "2020-11-03 at 1", "2020-11-03T01:02:03 local", "9999-12-31T99:99:99"),
        *("2020-11-03T25:00:00", "2020-11-03T01:60:00", "2020-11-03T01:02:61", "2020-11-03"),
        *("9999-12-31T23:59:59", "2020-11-03T01:02:03-05:00"),
    ],
)
def test_what_is_no_date_is_no_time_and_said(text: str, plain_image: ImageHDU) -> None:
    frame = frame_with(plain_image, f"DATE-OBS= '{text}'")
    said = [line for line in frame.warnings if f"'{text}' is not a valid UTC time" in line]
    is_day = text in ("", "2020-11-03", "2020-13-03", "0000-01-01")
    assert (frame.time, len(said)) == (None, 0 if is_day else 1)


def test_other_facts_are_read_by_their_keywords(plain_image: ImageHDU) -> None:
    frame = frame_with(
        plain_image,
        *("OBJECT  = ' HR 8047 '", "CCD-TEMP= '-20.5'", "CALSTAT = 'bd'", "XBINNING= 2"),
        *("YBINNING= 1", "XORGSUBF= 0", "YORGSUBF= 16", "READOUTM= 'Fast'", "GRATING = 300"),
    )
    assert (frame.target, frame.ccd_temp, frame.calstat) == ("HR 8047", -20.5, "BD")
    assert dict(frame.setup) == {"binning": "2x1", "origin": "0,16", "readout": "Fast"}
    assert frame.optics[0] == "300"
    assert (frame.shape, frame.is_product) == ((2, 3), False)


@pytest.mark.parametrize(
    ("cards", "celsius"),
    [
        (["SET-TEMP= -15"], -15.0),
        (["CCD-TEMP= -20.0", "SET-TEMP= -15"], -20.0),
        (["CCD-TEMP= T"], None),
        (["CCD-TEMP= 'cold'"], None),
        ([], None),
    ],
)
def test_a_temperature_is_a_number_or_nothing(
    cards: list[str], celsius: float | None, plain_image: ImageHDU
) -> None:
    assert frame_with(plain_image, *cards).ccd_temp == celsius


@pytest.mark.parametrize(
    ("cards", "gain"),
    [
        (["EGAIN   = 1.5"], 1.5),
        (["EGAIN   = '1.5'", "GAIN    = 100"], 1.5),
        (["GAIN    = 1.5", "RDNOISE = 4.0"], 1.5),
        (["GAIN    = 100"], None),
        (["GAIN    = 2.3 / [electrons/count] Pixel gain"], 2.3),
        (["GAIN    = 2 / Nominal Photo-electrons per ADU."], 2.0),
        (["GAIN    = 2 / gain, e-/ADU"], 2.0),
        (["GAIN    = 0.5 / [ADU/e-]"], 2.0),
        (["GAIN    = 0.5 / Conversion from electrons to ADU"], 2.0),
        (["GAIN    = 0.5", "CONAD   = 2.0"], 2.0),
        (["HIERARCH ESO DET OUT1 GAIN = 0.5", "HIERARCH ESO DET OUT1 CONAD = 2.0"], 2.0),
        (["GAIN    = 1.7"], 1.7),
        (["GAIN    = 2"], None),
        (["GAIN    = 1 / DCS GAIN INDEX"], None),
        (["GAIN    = 120 / Sensor gain", "RDNOISE = 3.0"], None),
        (["GAIN    = 120", "EGAIN   = 0.9"], 0.9),
        (["EGAIN   = 0"], None),
        (["EGAIN   = -1.5"], None),
        (["EGAIN   = 'high'"], None),
        ([], None),
    ],
)
def test_a_gain_is_electrons_per_adu_not_a_setting(
    cards: list[str], gain: float | None, plain_image: ImageHDU
) -> None:
    assert frame_with(plain_image, *cards).gain == gain


def test_the_gain_of_an_instrument_file_comes_before_the_header(
    plain_image: ImageHDU, tmp_path: Path
) -> None:
    (tmp_path / "camera.toml").write_text("[detector]\ngain = 0.8\n")
    image = replace(plain_image, header=Header(["EGAIN   = 1.5"]))
    frame = frame_from_header("a", image, Instrument.load(tmp_path / "camera.toml"))
    assert (frame.gain, frame.gain_from) == (0.8, INSTRUMENT_FILE)


@settings(deadline=None, max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from([word for words in GENERIC.keywords.values() for word in words]),
        st.text(PRINTABLE, max_size=70)
        | st.text("0123456789.-+eED", max_size=70)
        | st.from_regex(r"'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?'", fullmatch=True),
    )
)
def test_no_header_is_too_odd_to_be_described(plain_image: ImageHDU, cards: dict[str, str]) -> None:
    frame = frame_with(plain_image, *(f"{key[:8]:8}= {text}" for key, text in cards.items()))
    assert all(str(problem).startswith(f"{frame.path}: ") for problem in frame.problems)


def test_a_frame_that_arrayred_wrote_is_a_product(plain_image: ImageHDU) -> None:
    assert frame_with(plain_image, "ARVERSN = '0.1'").is_product


def test_what_cannot_be_read_stands_beside_what_can(tmp_path: Path) -> None:
    good, odd = write(tmp_path / "b.fit", "EXPTIME = 1"), write(tmp_path / "c.fit", "EXPTIME = T")
    (tmp_path / "a.fit").write_bytes(b"")
    frames, failures = read_frames([tmp_path / "a.fit", good, odd], GENERIC)
    assert [frame.label for frame in frames] == ["b", "c"]
    assert [failure.path for failure in failures] == [str(tmp_path / "a.fit")]
    assert [len(frame.problems) for frame in frames] == [0, 1]


@pytest.mark.parametrize("count", [1, 3, 40])
def test_progress_is_told_after_each_file(count: int, tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.fit") for i in range(count - 1)]
    left: list[int] = []
    read_frames([*paths, tmp_path / "absent.fit"], GENERIC, advance=left.append)
    assert left == list(range(count))[::-1]


def labels(folder: Path, *names: str) -> dict[str, str]:
    paths = [write(folder / name) for name in names]
    frames, failures = read_frames(paths, GENERIC, folder)
    assert failures == []
    return {str(frame.path.relative_to(folder)): frame.label for frame in frames}


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["a.fit", "b.FITS", "c.fts", "d.fits.gz", "e.fit.fz", "f.Fit"], list("abcdef")),
        (["a.fit", "a.fits", "b.fit"], ["a.fit", "a.fits", "b"]),
        (["a.fits", "a.fits.gz", "a.FITS"], ["a.fits", "a.fits.gz", "a.FITS"]),
        (["x/a.fit", "y/a.fit", "y/z/a.fit"], ["x/a", "y/a", "y/z/a"]),
        (["2020.11.03-1.fit", "no.fit.fit"], ["2020.11.03-1", "no.fit"]),
    ],
)
def test_a_label_is_the_path_without_suffix_unless_twins_need_it(
    names: list[str], wanted: list[str], tmp_path: Path
) -> None:
    assert labels(tmp_path, *names) == dict(zip(names, wanted, strict=True))


@pytest.mark.parametrize("count", [2, 3, 4])
def test_labels_are_unique_for_any_twins(count: int, tmp_path: Path) -> None:
    names = ["a.fit", "a.fits", "a.fit.fits", "a.fits.fit"][:count]
    assert len(set(labels(tmp_path, *names).values())) == count


def test_labels_are_relative_to_the_common_folder(tmp_path: Path) -> None:
    paths = [write(tmp_path / "night" / name) for name in ("one/a.fit", "two/b.fit")]
    assert [frame.label for frame in read_frames(paths, GENERIC)[0]] == ["one/a", "two/b"]
    assert [frame.label for frame in read_frames(paths[:1], GENERIC)[0]] == ["a"]


def test_the_order_is_by_time_then_name_with_undated_frames_last(tmp_path: Path) -> None:
    starts = {"d": "01", "a": "02", "c": "02", "e": "03", "b": None, "f": None}
    paths = [
        write(tmp_path / f"{name}.fit", *([f"DATE-OBS= '2020-11-03T{hour}:00'"] if hour else []))
        for name, hour in starts.items()
    ]
    for order in itertools.islice(itertools.permutations(paths), 0, 720, 37):
        frames, _ = read_frames(order, GENERIC)
        assert "".join(frame.label for frame in frames) == "dacebf"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder of files, some of them frames, three levels deep and deeper."""
    for name in (
        *("a.fit", "B.FITS", "c.fts", "d.fit.gz", "e.fits.fz", "notes.txt", "x.fit.bak", ".a.fit"),
        *("one/a.fit", "one/two/a.fit", "one/two/three/a.fit", ".hidden/a.fit", "f.fit/a.fit"),
        "fit",
    ):
        write(tmp_path / name)
    (tmp_path / "link.fit").symlink_to("a.fit")
    (tmp_path / "linked").symlink_to("one")
    return tmp_path


@pytest.mark.parametrize(
    ("depth", "below"),
    [
        (1, []),
        (2, ["f.fit/a.fit", "one/a.fit"]),
        (3, ["f.fit/a.fit", "one/a.fit", "one/two/a.fit"]),
    ],
)
def test_fits_files_are_found_by_name_down_to_a_depth(
    depth: int, below: list[str], tree: Path
) -> None:
    top = ["B.FITS", "a.fit", "c.fts", "d.fit.gz", "e.fits.fz", "link.fit"]
    found = [str(path.relative_to(tree)) for path in list_files(tree, depth=depth)]
    assert sorted(found) == sorted([*top, *below])
    assert list_files(tree, depth=depth) == sorted(list_files(tree, depth=depth))


def test_three_levels_are_the_default(tree: Path) -> None:
    assert list_files(tree) == list_files(tree, depth=3)


@pytest.mark.parametrize("name", ["absent", "a.fit"])
def test_what_is_no_folder_is_an_error_with_its_name(name: str, tree: Path) -> None:
    with pytest.raises(InputError) as caught:
        list_files(tree / name)
    assert str(caught.value).startswith(f"{tree / name}: ")


def test_facts_of_an_astropy_file_are_those_it_was_written_with(tmp_path: Path) -> None:
    header = fits.Header({"IMAGETYP": "Dark Frame", "EXPTIME": 600.0, "CCD-TEMP": -20.0})
    header["DATE-OBS"] = "2020-11-03T01:02:03.004"
    fits.PrimaryHDU(np.zeros((4, 6), "u2"), header).writeto(tmp_path / "dark.fit")
    (frame,), _ = read_frames([tmp_path / "dark.fit"], GENERIC)
    assert (frame.frame_type, frame.exptime, frame.ccd_temp) == ("dark", 600.0, -20.0)
    assert frame.time == datetime(2020, 11, 3, 1, 2, 3, 4000, UTC)
    assert (frame.shape, frame.problems) == ((4, 6), ())
