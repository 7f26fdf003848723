"""Nights whose headers contradict themselves, or say nothing: what a user reads and gets of them.

Each night has five darks and three lights of 60 s, a star of 8000 adu a column in row 111, and a
sky of 50 adu.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from tests.cli.conftest import Call

SHAPE = (160, 240)
FLUX = 8000.0
REDUCE = ("reduce", "night", "-o", "out", "--no-figures")
Image = NDArray[np.float64]
Change = Callable[[Image, fits.Header], Image]


def same(image: Image, _head: fits.Header) -> Image:
    return image


def make_night(folder: Path, darks: Change = same, lights: Change = same) -> Path:
    """Write the frames of a night, each changed before."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(5)
    y = np.arange(SHAPE[0])[:, np.newaxis]
    pattern = 1000 + 0.5 * y + 800.0 * (rng.random(SHAPE) < 0.01)
    star = 50 + FLUX * np.exp(-0.5 * ((y - 110) / 1.7) ** 2) / (1.7 * (2 * np.pi) ** 0.5)
    for n in range(8):
        is_dark = n < 5
        light = 0.0 if is_dark else rng.poisson(np.broadcast_to(star, SHAPE)).astype(np.float64)
        head = fits.Header({
            "IMAGETYP": "Dark Frame" if is_dark else "Light Frame",
            "EXPTIME": 60.0,
            "DATE-OBS": f"2024-03-09T20:{n:02}:00",
            "EGAIN": 1.0,
            "RDNOISE": 3.0,
        })  # fmt: skip
        if not is_dark:
            head["OBJECT"] = "Vega"
        image = (darks if is_dark else lights)(pattern + light + rng.normal(0, 3, SHAPE), head)
        name = f"dark-{n + 1:03}" if is_dark else f"star-{n - 4:03}"
        pixels = np.rint(image).astype(np.uint16)
        fits.writeto(folder / f"{name}.fits", pixels, head, overwrite=True)
    return folder


def median_flux(name: str = "Vega") -> float:
    table = fits.getdata(f"out/targets/{name}/{name}_spectrum.fits", 1)
    return float(np.median(table["flux"]))


def assert_right(call: Call, *options: str, warned: str = "") -> str:
    """Check that a night gives the star's flux and at most one warning; return the output."""
    told = call(*REDUCE, *options)
    assert told.code == 0, told.err
    lines = told.err.splitlines()
    assert len(lines) == bool(warned), told.err
    assert all(warned in line for line in lines), told.err
    assert median_flux() == pytest.approx(FLUX, rel=0.01)
    assert "Vega                   3 x 60 s, dark-subtracted" in told.out
    return told.out


# Types


def twice(image: Image, head: fits.Header) -> Image:
    """Give OBSTYPE twice, as Lick Observatory does: a word, and a number without a meaning."""
    is_dark = "Dark" in head.pop("IMAGETYP")
    head.append(("OBSTYPE", "DARK" if is_dark else "OBJECT"), end=True)
    head.append(("OBSTYPE", 0 if is_dark else 1), end=True)
    return image


def test_of_a_doubled_type_card_the_word_with_a_meaning_counts_with_one_warning(
    tmp_path: Path, arrayred: Call
) -> None:
    make_night(tmp_path / "night", twice, twice)
    warned = "dark-001 to star-003 (8): OBSTYPE appears 2 times in the header"
    assert_right(arrayred, warned=warned)


def contradicted(image: Image, head: fits.Header) -> Image:
    kind = "DARK" if "Dark" in head.pop("IMAGETYP") else "OBJECT"
    head.append(("OBSTYPE", kind), end=True)
    head.append(("OBSTYPE", "FLAT"), end=True)
    return image


def test_types_that_the_user_tells_settle_a_doubled_card(tmp_path: Path, arrayred: Call) -> None:
    make_night(tmp_path / "night", contradicted, contradicted)
    refused = arrayred(*REDUCE)
    assert refused.code == 4
    assert '([types] TYPE = ["dark-001"])' in refused.err.splitlines()[0]
    file = tmp_path / "types.toml"
    file.write_text('[types]\ndark = ["dark-*"]\nlight = ["star-*"]\n')
    assert_right(arrayred, "--night-file", str(file))


def typed_as_light(image: Image, head: fits.Header) -> Image:
    head.update({"IMAGETYP": "Light", "FRAME": "Dark", "OBJECT": "Vega"})
    return image


def test_darks_that_are_typed_as_lights_are_darks_where_they_show_no_star(
    tmp_path: Path, arrayred: Call
) -> None:
    make_night(tmp_path / "night", typed_as_light)
    warned = "dark-001 to dark-005 (5): used as dark: FRAME is 'Dark'"
    assert_right(arrayred, warned=warned)


def test_the_procedure_takes_the_type_card_literally(tmp_path: Path, arrayred: Call) -> None:
    make_night(tmp_path / "night", typed_as_light)
    told = arrayred(*REDUCE, "--reference")
    assert told.code == 4
    assert "No dark frames found" in told.err


def without_exposure(image: Image, head: fits.Header) -> Image:
    head.update({"IMAGETYP": "DARK", "EXPTIME": 0, "OBJECT": "Bias"})
    return image


def test_darks_of_0_s_are_biases_and_said_so(tmp_path: Path, arrayred: Call) -> None:
    make_night(tmp_path / "night", without_exposure)
    told = arrayred(*REDUCE)
    assert told.code == 0
    assert "dark-001 to dark-005 (5): used as bias: a dark of 0 s" in told.err
    assert "Vega                   3 x 60 s, bias-subtracted" in told.out
    assert median_flux() == pytest.approx(FLUX, rel=0.01)
    for path in (tmp_path / "night").glob("dark*"):
        path.unlink()
    again = arrayred("reduce", "night", "-o", "again", "-q", "--calibrations", "out/masters")
    assert again.code == 0, again.err


# Exposures


def exposed(**cards: object) -> Change:
    """Return a function that gives the exposure on other cards."""

    def change(image: Image, head: fits.Header) -> Image:
        del head["EXPTIME"]
        head.update(cards)
        return image

    return change


LOG = """\
frames,object,type,exptime
dark-001..005,,dark,60
star-001..003,Vega,,60 s
"""


@pytest.mark.parametrize(
    ("card", "way"),
    [
        ({"EXPOSURE": 60.0}, "instrument"),
        ({"EXPOSURE": 60.0}, "night file"),
        ({"EXPOSURE": (60000, "[ms] exposure")}, "instrument"),
        ({"EXPTIME": "60,0"}, "card"),
        ({"ITIME": "60s"}, "night file"),
        ({"EXPOS": 60.0}, "instrument"),
        ({}, "log"),
    ],
)
def test_every_card_of_an_exposure_has_a_way(
    tmp_path: Path, arrayred: Call, card: dict[str, object], way: str
) -> None:
    change = exposed(**card)
    make_night(tmp_path / "night", change, change)
    refused = arrayred(*REDUCE)
    assert refused.code == 4
    for remedy in ("--card EXPTIME=SECONDS", "[exptime]", "[keywords] exptime = "):
        assert remedy in refused.err.splitlines()[0]
    keyword, value = next(iter(card.items()), ("", ""))
    is_offered = f'exptime = ["{keyword}"]' in refused.err  # only where that card is a number
    assert is_offered == (keyword == "EXPOSURE" and not isinstance(value, str))
    ways = {
        "instrument": ("--instrument", "own.toml", f'[keywords]\nexptime = ["{keyword}"]\n'),
        "night file": ("--night-file", "own.toml", '[exptime]\n"*" = 60\n'),
        "log": ("--night-file", "own.csv", LOG),
        "card": ("--card", "EXPTIME=60", ""),
    }
    option, given, text = ways[way]
    (tmp_path / given).write_text(text)
    assert_right(arrayred, option, given)


def test_a_told_exposure_overrides_the_header_only_in_the_night_file(
    tmp_path: Path, arrayred: Call
) -> None:
    def wrong(image: Image, head: fits.Header) -> Image:
        head["EXPTIME"] = 6.0
        return image

    make_night(tmp_path / "night", lights=wrong)
    (tmp_path / "log.csv").write_text("frames,object,exptime\nstar-001..003,Vega,60\n")
    (tmp_path / "night.toml").write_text('[exptime]\n"star-*" = 60\n')
    for options in (("--night-file", "log.csv"), ("--card", "EXPTIME=60")):
        assert "No dark within 0.5 s fits Vega: 3 x 6 s" in arrayred(*REDUCE, *options).err
    assert_right(arrayred, "--night-file", "night.toml")


# The axis of the dispersion


def turned(image: Image, _head: fits.Header) -> Image:
    return image.T


def test_a_night_dispersed_along_the_columns_is_turned_and_said_so(
    tmp_path: Path, arrayred: Call
) -> None:
    make_night(tmp_path / "night", turned, turned)
    warned = "dispersed along the columns (no DISPAXIS card): the trace of star-001 runs along"
    out = assert_right(
        arrayred, warned=f"{warned} column 111; use --dispersion-axis x if this is wrong"
    )
    assert fits.getval("out/targets/Vega/Vega_combined.fits", "DISPAXIS") == 2
    assert "rows are the file's columns" in out


@pytest.mark.parametrize("way", ["option", "night file", "instrument"])
def test_the_axis_that_the_user_tells_counts(tmp_path: Path, arrayred: Call, way: str) -> None:
    make_night(tmp_path / "night", turned, turned)
    (tmp_path / "night.toml").write_text('dispersion_axis = "y"\n')
    (tmp_path / "camera.toml").write_text("[detector]\ndispersion_axis = 2\n")
    ways = {
        "option": ("--dispersion-axis", "y"),
        "night file": ("--night-file", "night.toml"),
        "instrument": ("--instrument", "camera.toml"),
    }
    assert_right(arrayred, *ways[way])


def test_an_axis_told_wins_over_the_card(tmp_path: Path, arrayred: Call) -> None:
    def carded(image: Image, head: fits.Header) -> Image:
        head["DISPAXIS"] = 2
        return image

    make_night(tmp_path / "night", carded, carded)
    assert_right(arrayred, "--dispersion-axis", "x")


def test_where_no_dark_shows_that_the_column_is_good_there_is_a_hint(
    tmp_path: Path, arrayred: Call
) -> None:
    make_night(tmp_path / "night", lights=turned)
    for path in (tmp_path / "night").glob("dark*"):
        path.unlink()
    told = arrayred(*REDUCE, "--no-dark")
    assert told.code != 0
    assert "a peak of star-001 runs along column 111" in told.err
    assert "use --dispersion-axis y" in told.err
    again = arrayred(*REDUCE, "--no-dark", "--dispersion-axis", "y", "--overwrite")
    assert again.code == 0, again.err


def carded(**cards: object) -> Change:
    """Return a change that sets cards of each frame."""

    def change(image: Image, head: fits.Header) -> Image:
        head.update(cards)
        return image

    return change


def test_where_a_word_leaves_no_light_the_error_names_it_and_the_line_that_settles_it(
    tmp_path: Path, arrayred: Call
) -> None:
    make_night(tmp_path / "night", lights=carded(OBJECT="Flat nebula"))
    told = arrayred(*REDUCE)
    assert told.code != 0
    assert "(star-001, star-002, star-003: used as flat: its name contains 'flat')" in told.err
    line = told.err.partition("a night file (")[2].rpartition(")")[0]
    (tmp_path / "night.toml").write_text(line.replace("[types] ", "[types]\n"))
    again = arrayred(*REDUCE, "--night-file", "night.toml")
    assert again.code == 0, again.err
    assert abs(median_flux("Flat_nebula") - 8000) < 20


def test_a_wrong_axis_card_is_overruled_as_the_error_says(tmp_path: Path, arrayred: Call) -> None:
    make_night(tmp_path / "night", carded(DISPAXIS=2), carded(DISPAXIS=2))
    told = arrayred(*REDUCE)
    assert told.code != 0
    assert "use --dispersion-axis if the spectrum runs along the other axis" in told.err
    assert_right(arrayred, "--dispersion-axis", "x", "--overwrite")


def test_lights_and_darks_of_other_gains_are_to_be_checked(tmp_path: Path, arrayred: Call) -> None:
    make_night(tmp_path / "night", carded(EGAIN=1.0), carded(EGAIN=0.5))
    told = arrayred(*REDUCE)
    assert told.code == 0, told.err
    assert "check: Vega: the gains of the frames differ (0.5, 1 electrons per ADU)" in told.err


@pytest.mark.parametrize("scale", ["TAI", "local", "UTC", "ut"])
def test_times_that_are_not_utc_are_to_be_checked(
    tmp_path: Path, arrayred: Call, scale: str
) -> None:
    change = carded(TIMESYS=scale, **{"DATE-OBS": "2024-01-01T20:00:00"})
    make_night(tmp_path / "night", change, change)
    told = arrayred(*REDUCE)
    assert told.code == 0, told.err
    found = f"the times are on the scale '{scale}' (TIMESYS), but are read as UTC" in told.err
    assert found == (scale in ("TAI", "local"))
