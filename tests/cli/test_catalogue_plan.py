"""The catalogue of bad nights: what does not belong together is never put together.

Frames that differ from each other, calibrations that do not fit, corrections that were applied
already: each is told with its reason, or kept apart.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from tests.cli.conftest import Call

QUIET = ("--no-figures", "-q")
REDUCE = ("reduce", "night", "-o", "out", *QUIET)
Cards = dict[str, Any]


def set_cards(night: Path, pattern: str, cards: Cards) -> None:
    """Set cards of the frames of a pattern; None removes one."""
    for path in night.glob(pattern):
        with fits.open(path, mode="update") as (hdu,):
            for keyword, value in cards.items():
                if value is None:
                    hdu.header.remove(keyword, ignore_missing=True)
                else:
                    hdu.header[keyword] = value


def resize(night: Path, pattern: str, shape: tuple[int, int]) -> None:
    """Give frames another shape: crop them, or repeat their pixels."""
    for path in night.glob(pattern):
        image, header = fits.getdata(path, header=True)
        whole = np.pad(image, ((0, 200), (0, 200)), mode="wrap")[: shape[0], : shape[1]]
        fits.writeto(path, whole, header, overwrite=True)


def subtract(night: Path, pattern: str, calstat: str) -> None:
    """Subtract the median of the darks from frames, as a camera program does that says so."""
    dark = np.median(pixels(night, "dark*"), axis=0)
    for path in night.glob(pattern):
        image, header = fits.getdata(path, header=True)
        for keyword in ("BZERO", "DATASUM", "CHECKSUM"):
            header.remove(keyword, ignore_missing=True)
        header["CALSTAT"] = calstat
        fits.writeto(path, (image - dark).astype(np.float32), header, overwrite=True)


def copy(night: Path, pattern: str, prefix: str, cards: Cards) -> None:
    """Copy frames under another name, with other cards, and not quite the same pixels."""
    for path in sorted(night.glob(pattern)):
        image, header = fits.getdata(path, header=True)
        fits.writeto(night / f"{prefix}{path.name}", image + np.uint16(7), header)
    set_cards(night, f"{prefix}{pattern}", cards)


def later(night: Path, pattern: str, hours: float) -> None:
    """Move the start of frames."""
    for path in night.glob(pattern):
        start = np.datetime64(fits.getval(path, "DATE-OBS")) + np.timedelta64(
            int(hours * 3600), "s"
        )
        fits.setval(path, "DATE-OBS", value=str(start))


def pixels(night: Path, pattern: str) -> list[NDArray[np.float64]]:
    return [fits.getdata(path).astype(np.float64) for path in sorted(night.glob(pattern))]


def image_of(lights: list[NDArray[np.float64]], master: Any) -> NDArray[np.float32]:
    return np.mean(np.stack(lights) - master, axis=0).astype(np.float32)


def combined(target: str = "Simulated_star") -> Path:
    return Path("out") / "targets" / target / f"{target}_combined.fits"


def targets() -> set[str]:
    return {path.name for path in Path("out/targets").glob("*")}


# A dark of other pixels (32)

UNBINNED: Cards = {"XBINNING": None, "YBINNING": None}


@pytest.mark.parametrize(
    ("of_darks", "of_lights", "why"),
    [
        ({"XBINNING": 2, "YBINNING": 2}, {}, "different binning"),
        ({}, {"XBINNING": 1, "YBINNING": 2}, "different binning"),
        ({"XORGSUBF": 0, "YORGSUBF": 0}, {"XORGSUBF": 0, "YORGSUBF": 64}, "different origin"),
        ({"CCDSUM": "1 1", **UNBINNED}, {"CCDSUM": "2,2", **UNBINNED}, "different binning"),
        ({"BINNING": "1x1", **UNBINNED}, {"BINNING": "2 X 2", **UNBINNED}, "different binning"),
        ({"CCDYBIN": 1, **UNBINNED}, {"CCDYBIN": 2, **UNBINNED}, "different binning"),
        ({"DETSEC": "[1:120,1:160]"}, {"DETSEC": "[240:121,1:160]"}, "different origin"),
        ({"READOUTM": "Fast"}, {"READOUTM": "Slow"}, "different readout"),
        ({"GAIN": 100}, {"GAIN": 0}, "different gain setting"),
    ],
)
def test_a_dark_read_in_another_way_is_refused_with_both_named(
    night: Path, arrayred: Call, of_darks: Cards, of_lights: Cards, why: str
) -> None:
    set_cards(night, "dark*", of_darks)
    set_cards(night, "light*", of_lights)
    told = arrayred(*REDUCE)
    assert (told.code, Path("out").exists()) == (4, False)
    (line,) = told.err.splitlines()
    assert "light-001.fit: No dark within 0.5 s fits Simulated_star: 3 x 600 s" in line
    assert re.search(rf"\(darks: 5 x 600 s of 120 x 160 pixels.* \({why}\)\)", line)


@pytest.mark.parametrize("shape", [(160, 100), (150, 120), (170, 120), (120, 160)])
def test_a_dark_of_another_shape_is_refused_with_both_named(
    night: Path, arrayred: Call, shape: tuple[int, int]
) -> None:
    resize(night, "dark*", shape)
    told = arrayred(*REDUCE)
    assert (told.code, Path("out").exists()) == (4, False)
    pair = f"3 x 600 s of 120 x 160 pixels.*5 x 600 s of {shape[1]} x {shape[0]} pixels"
    assert re.search(f"{pair}.*different shape", told.err)


# Temperatures (33)


@pytest.mark.parametrize(
    ("degrees", "code", "said"),
    [
        (-20.0, 0, False),
        (-19.2, 0, False),
        (-18.0, 0, True),
        (-22.8, 0, True),
        (-16.0, 4, False),
        (-24.0, 4, False),
    ],
)
def test_a_dark_of_another_temperature_is_silent_said_or_refused(
    night: Path, arrayred: Call, degrees: float, code: int, said: bool
) -> None:
    keyword = "CCD-TEMP" if degrees > -20 else "SET-TEMP"
    set_cards(night, "light*", {"CCD-TEMP": None, keyword: -20.0})
    set_cards(night, "dark*", {"CCD-TEMP": None, keyword: degrees})
    told = arrayred("reduce", "night", "-o", "out", "--no-figures")
    assert told.code == code, told.err
    difference = f"{degrees + 20:+.1f} deg C"
    assert (f"the dark is {difference} from the light frames" in told.err) == said
    assert (difference in told.err) == (said or code == 4)
    if said:
        assert difference in str(fits.getheader(combined())["COMMENT"])


def test_how_far_temperatures_may_differ_is_a_setting(night: Path, arrayred: Call) -> None:
    set_cards(night, "dark*", {"CCD-TEMP": -10.0})
    Path("mine.toml").write_text("[recipe]\ntemperature_tolerance = 12.0\n")
    told = arrayred(*REDUCE, "--night-file", "mine.toml")
    assert told.code == 0, told.err


@pytest.mark.parametrize("nearer", ["warm-", "dark"])
def test_of_darks_alike_the_one_of_the_lights_temperature_serves(
    night: Path, arrayred: Call, nearer: str
) -> None:
    copy(night, "dark*", "warm-", {"CCD-TEMP": -18.0})
    set_cards(night, "light*", {"CCD-TEMP": -18.0 if nearer == "warm-" else -20.0})
    set_cards(night, "dark*", {"CCD-TEMP": -20.0})
    assert arrayred(*REDUCE).code == 0
    expected = image_of(pixels(night, "light*"), np.median(pixels(night, f"{nearer}*"), axis=0))
    assert np.array_equal(fits.getdata(combined()), expected)


@pytest.mark.parametrize(("pattern", "whose"), [("dark*", "dark"), ("light*", "lights")])
def test_an_unknown_temperature_fits_and_is_noted(
    night: Path, arrayred: Call, pattern: str, whose: str
) -> None:
    set_cards(night, pattern, {"CCD-TEMP": None})
    told = arrayred("reduce", "night", "-o", "out", "--no-figures")
    assert told.code == 0
    assert f"Simulated_star: the temperature of the {whose} is unknown" in told.err


# What is a target (35, 36, 37)


def test_frames_of_other_objects_are_other_targets(night: Path, arrayred: Call) -> None:
    set_cards(night, "light-002*", {"OBJECT": "Vega"})
    assert arrayred(*REDUCE).code == 0
    assert targets() == {"Simulated_star", "Vega"}
    dark = np.median(pixels(night, "dark*"), axis=0)
    assert np.array_equal(fits.getdata(combined()), image_of(pixels(night, "light*[13].fit"), dark))
    expected = image_of(pixels(night, "light-002.fit"), dark)
    assert np.array_equal(fits.getdata(combined("Vega")), expected)


def test_without_objects_a_gap_in_the_numbering_begins_another_target(
    night: Path, arrayred: Call
) -> None:
    set_cards(night, "light*", {"OBJECT": ""})
    for i in (1, 2, 3):
        shutil.copy(night / f"light-00{i}.fit", night / f"hr8047-{i + 16}.fit")
        (night / f"light-00{i}.fit").rename(night / f"hr8047-{i + 9}.fit")
    for i, path in enumerate(sorted(night.glob("hr8047*"))):
        later(night, path.name, i)
    assert arrayred(*REDUCE).code == 0
    assert targets() == {"hr8047-10-12", "hr8047-17-19"}
    for name, first in (("hr8047-10-12", 10), ("hr8047-17-19", 17)):
        inputs = fits.getheader(combined(name))["ARIN*"].values()
        lights = [file for file in inputs if "hr" in file]
        assert lights == [f"hr8047-{first + i}.fit" for i in range(3)]


def test_two_nights_in_one_folder_have_darks_and_targets_of_their_own(
    night: Path, arrayred: Call
) -> None:
    for pattern in ("dark*", "light*"):
        copy(night, pattern, "b-", {})
        later(night, f"b-{pattern}", 48)
    assert arrayred(*REDUCE).code == 0
    evenings = {"2024-03-09": "", "2024-03-11": "b-"}
    assert targets() == {f"Simulated_star_{evening}" for evening in evenings}
    for evening, prefix in evenings.items():
        dark = np.median(pixels(night, f"{prefix}dark*"), axis=0)
        expected = image_of(pixels(night, f"{prefix}light*"), dark)
        assert np.array_equal(fits.getdata(combined(f"Simulated_star_{evening}")), expected)
    masters = sorted(path.name for path in Path("out/masters").iterdir())
    assert masters == [f"master_dark_600s_{evening}.fits" for evening in evenings]


# What was corrected already (39)


@pytest.mark.parametrize("calstat", ["BDF", " bd ", "d", "DM"])
def test_a_dark_is_never_subtracted_twice(night: Path, arrayred: Call, calstat: str) -> None:
    subtract(night, "light*", calstat)
    told = arrayred("reduce", "night", "-o", "out", "--no-figures")
    assert told.code == 0, told.err
    assert "dark already subtracted" in told.out
    header, image = fits.getheader(combined()), fits.getdata(combined())
    assert np.array_equal(image, image_of(pixels(night, "light*"), 0.0))
    assert header["CALSTAT"] == ("BDF" if "F" in calstat.upper() else "BD")
    assert "ARDARK" not in header


@pytest.mark.parametrize("calstat", ["   ", "M", "none"])
def test_a_calstat_that_says_nothing_is_a_raw_frame(
    night: Path, arrayred: Call, calstat: str
) -> None:
    set_cards(night, "light*", {"CALSTAT": calstat})
    assert arrayred(*REDUCE).code == 0
    dark = np.median(pixels(night, "dark*"), axis=0)
    assert np.array_equal(fits.getdata(combined()), image_of(pixels(night, "light*"), dark))
    assert fits.getheader(combined())["CALSTAT"] == "BD"


@pytest.mark.parametrize(("pattern", "calstat"), [("dark*", "B"), ("dark*", "bm")])
def test_a_bias_that_is_gone_from_one_of_them_only_is_refused(
    night: Path, arrayred: Call, pattern: str, calstat: str
) -> None:
    set_cards(night, pattern, {"CALSTAT": calstat})
    told = arrayred(*REDUCE)
    assert told.code == 4
    assert "bias subtracted from one of them only" in told.err


def test_a_subtracted_frame_among_raw_ones_is_a_target_of_its_own(
    night: Path, arrayred: Call
) -> None:
    subtract(night, "light-002*", "BDF")
    assert arrayred(*REDUCE).code == 0
    counts = {name: fits.getval(combined(name), "NCOMBINE") for name in targets()}
    assert counts == {"Simulated_star": 2, "Simulated_star_2": 1}
    assert fits.getval(combined("Simulated_star_2"), "CALSTAT") == "BDF"


def test_darks_from_which_a_dark_was_subtracted_serve_nothing(night: Path, arrayred: Call) -> None:
    subtract(night, "dark-00[12]*", "D")
    told = arrayred("reduce", "night", "-o", "out", "--no-figures")
    assert told.code == 0
    assert "dark-001, dark-002: a dark from which a dark was subtracted" in told.out
    dark = np.median(pixels(night, "dark-00[345]*"), axis=0)
    assert np.array_equal(fits.getdata(combined()), image_of(pixels(night, "light*"), dark))


# Mixed shapes (52)


@pytest.mark.parametrize(
    ("shape", "number"),
    [((150, 110), 1), ((150, 120), 3), ((160, 110), 1), ((170, 130), 3), ((160, 130), 1)],
)
def test_a_light_of_another_shape_fails_by_name_and_crops_nobody(
    night: Path, arrayred: Call, shape: tuple[int, int], number: int
) -> None:
    odd = f"light-00{number}.fit"
    resize(night, odd, shape)
    told = arrayred(*REDUCE)
    assert told.code == 3
    (line,) = told.err.splitlines()
    assert f"{odd}: No dark" in line
    assert "different shape" in line
    header, image = fits.getheader(*combined_one()), fits.getdata(*combined_one())
    others = [path.name for path in sorted(night.glob("light*")) if path.name != odd]
    assert [name for name in header["ARIN*"].values() if "light" in name] == others
    dark = np.median(pixels(night, "dark*"), axis=0)
    lights = [*(fits.getdata(night / name).astype(np.float64) for name in others)]
    assert np.array_equal(image, image_of(lights, dark))


def combined_one() -> list[Path]:
    """Return the one combined image."""
    return list(Path("out").glob("targets/*/*_combined.fits"))


# Few darks, or none (55)


def test_one_dark_is_a_warning_and_none_an_error(night: Path, arrayred: Call) -> None:
    few = ("--exclude", "dark-00[2-5].fit", "--no-figures")
    told = arrayred("reduce", "night", "-o", "out", *few)
    assert told.code == 0
    assert re.search("note: Simulated_star: the master dark is a single frame", told.err)
    told = arrayred("reduce", "night", "-o", "none", "--exclude", "dark*")
    assert (told.code, Path("none").exists()) == (4, False)
    assert re.search(r"No dark frames found\..*--calibrations.*--no-dark", told.err)


@pytest.mark.parametrize("option", [(), ("--no-dark",)])
def test_a_bias_stands_in_for_the_dark_and_is_said(
    night: Path, arrayred: Call, option: tuple[str, ...]
) -> None:
    set_cards(night, "dark*", {"IMAGETYP": "Bias Frame", "EXPTIME": 0.0})
    told = arrayred("reduce", "night", "-o", "out", "--no-figures", *option)
    assert told.code == 0
    assert "only the bias was subtracted" in told.err
    bias = np.median(pixels(night, "dark*"), axis=0)
    assert np.array_equal(fits.getdata(combined()), image_of(pixels(night, "light*"), bias))
    assert fits.getval(combined(), "CALSTAT") == "B"
