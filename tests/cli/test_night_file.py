"""What an observer knows of a night, through the command line: night files, and options over them.

Pictures are not drawn here, and truth is plain numpy on what astropy reads.
"""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from tests.cli.conftest import Call
from tests.cli.two_stars import (
    QUIET,
    contents_of,
    less,
    made,
    noted,
    pixels,
    product,
    reduced,
)

# What the night file says


def test_a_night_file_says_which_frames_are_a_target(stars: Path, arrayred: Call) -> None:
    reduced(arrayred, *noted('[targets."59 Cyg"]\nframes = ["d-light-001..002"]\n'))
    assert made() == {"59_Cyg", "Deneb", "Vega"}
    dark = np.median(pixels(stars, "dark*"), axis=0)
    expected = less(pixels(stars, "d-light-00[12]*"), dark)
    assert np.array_equal(fits.getdata(product("59_Cyg")), expected)
    assert fits.getheader(product("Deneb"))["NCOMBINE"] == 1


def test_a_log_says_the_same(stars: Path, arrayred: Call) -> None:
    reduced(arrayred, *noted('[targets."59 Cyg"]\nframes = ["d-light-00?"]\nobject = "59 Cyg"\n'))
    log = noted("Files,Target,Notes\nd-light-001..003,59 Cyg,windy\n", "log.csv")
    reduced(arrayred, *log, out="of_log")
    assert contents_of("out") == contents_of("of_log")


def test_night_toml_in_the_output_is_used_and_said(stars: Path, arrayred: Call) -> None:
    noted('[targets.Altair]\nframes = ["v-*"]\n', "out/night.toml")
    told = arrayred("reduce", stars, "-o", "out", "--no-figures")
    assert told.code == 0, told.err
    assert "night file           out/night.toml\n" in told.out
    assert made() == {"Altair", "Deneb"}


def test_night_toml_among_the_raw_frames_is_never_used(stars: Path, arrayred: Call) -> None:
    (stars / "night.toml").write_text("this is no TOML")
    told = arrayred("reduce", stars, "-o", "out", "--no-figures")
    assert told.code == 0, told.err
    assert "night file" not in told.out
    assert arrayred("inspect", stars).code == 0


def test_a_night_file_that_is_named_is_the_only_one(stars: Path, arrayred: Call) -> None:
    noted("this is no TOML", "out/night.toml")
    reduced(arrayred, *noted('[targets.Altair]\nframes = ["v-*"]\n'))
    assert made() == {"Altair", "Deneb"}


def test_cards_of_the_night_file_are_in_the_products(stars: Path, arrayred: Call) -> None:
    cards = '[cards]\nOBSERVER = "Me"\nGRATING = "600"\n[targets.Vega]\ngrating = "1200"\n'
    reduced(arrayred, *noted(cards + 'grating_angle = "26.0 deg"\ncards = { SEEING = 2.5 }\n'))
    for name in ("combined.fits", "spectrum.fits"):
        of_vega = fits.getheader(product("Vega", name))
        found = [of_vega[card] for card in ("OBSERVER", "GRATING", "GRATANG", "SEEING")]
        assert found == ["Me", "1200", 26.0, 2.5]
        of_deneb = fits.getheader(product("Deneb", name))
        assert (of_deneb["OBSERVER"], of_deneb["GRATING"]) == ("Me", "600")
        assert "SEEING" not in of_deneb


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[cards]\nNAXIS1 = 5\n', "NAXIS1 describes the file itself"),
        ('[cards]\nOBSERVER = "Zoë"\n', "OBSERVER"),
        ('[cards]\n"TOO LONG A KEY" = 5\n', "TOO LONG A KEY"),
        ('[targets.Vega]\ngrating_angle = "steep"\n', "'steep' is not an angle in degrees"),
        ('[targets.Vegga]\n', "Did you mean 'Vega'"),
        ('[targets.Vega]\nframes = ["v-ligth-001"]\n', "Did you mean 'v-light-001'"),
        ('[targets.Vega]\nlamps = ["neon"]\n', "no frame has this name"),
        ('[targets.Vega]\nrows_from = "Denep"\n', "Did you mean 'Deneb'"),
        ('[types]\narc = ["neon"]\n', "types.arc names 'neon'"),
        ('[recipe]\nn_sgima = 3\n', "Did you mean 'n_sigma'"),
        ('[targets.Vega]\nn_sgima = 3\n', "Did you mean 'n_sigma'"),
        ('[recipe', "not TOML"),
    ],
)  # fmt: skip
def test_an_error_of_the_night_file_is_one_line_that_names_it(
    stars: Path, arrayred: Call, text: str, words: str
) -> None:
    told = arrayred("reduce", stars, "-o", "out", *QUIET, *noted(text))
    assert told.code == 2
    (line,) = told.err.splitlines()
    assert line.startswith("arrayred: error: mine.toml: ")
    assert words in line
    assert not Path("out").exists()


# Options come before the night file, and that before the headers


@pytest.mark.parametrize(
    ("options", "expected"), [(("--sigma", "7"), 7.0), (("--reference",), 4.0)]
)
def test_an_option_goes_before_the_night_file(
    stars: Path, arrayred: Call, options: tuple[str, ...], expected: float
) -> None:
    told = arrayred(
        "reduce", stars, "-o", "out", "--no-figures", "--target", "Vega", *options,
        *noted("[recipe]\nn_sigma = 6\n[targets.Vega]\nn_sigma = 5\n"),
    )  # fmt: skip
    assert told.code == 0, told.err
    of_vega = told.out.partition("\nVega ")[2]
    assert re.search(rf"(\+ |Sigma \(){expected:g} x ", of_vega)


def test_the_night_file_goes_before_the_recipe(stars: Path, arrayred: Call) -> None:
    Path("my_recipe.toml").write_text("n_sigma = 3\n")
    note = noted("[recipe]\nn_sigma = 6\n[targets.Vega]\nn_sigma = 5\n")
    options = ("--recipe", "my_recipe.toml", "--no-figures", *note)
    told = arrayred("reduce", stars, "-o", "out", *options)
    deneb, vega = told.out.split("\nDeneb ")[1].split("\nVega ")
    assert "+ 6 x " in deneb
    assert "+ 5 x " in vega


def test_a_card_option_goes_before_the_night_file(stars: Path, arrayred: Call) -> None:
    note = noted('[targets.Vega]\nobject = "alf Lyr"\ngrating = "600"\n')
    reduced(arrayred, *note, "--grating", "1200", "--target", "Vega")
    header = fits.getheader(product("Vega"))
    assert (header["OBJECT"], header["GRATING"]) == ("alf Lyr", "1200")


def test_types_of_the_night_file_go_before_headers(stars: Path, arrayred: Call) -> None:
    reduced(arrayred, *noted('[types]\narc = ["v-*"]\nlight = ["arc-00?"]\n'), "--frames", "d-*")
    assert made() == {"Deneb"}
    told = arrayred("inspect", stars, "--format", "csv", "--night-file", "mine.toml")
    kinds = {line.split(",")[0]: line.split(",")[2] for line in told.out.splitlines()[1:]}
    assert (kinds["v-light-001.fit"], kinds["d-light-001.fit"]) == ("arc", "light")


@pytest.mark.parametrize(
    "options",
    [("--object", "Altair"), ("--rows", "70:90")],
)
def test_what_is_for_one_target_is_refused_for_two(
    stars: Path, arrayred: Call, options: tuple[str, str]
) -> None:
    told = arrayred("reduce", stars, "-o", "out", *QUIET, *options)
    assert told.code == 2
    assert f"{options[0]} is for a single target, but the night has 2: Deneb, Vega" in told.err
    assert "--target NAME" in told.err
    reduced(arrayred, *options, "--target", "Vega")
    assert made() == {"Vega"}


def test_target_reduces_that_one_alone(
    stars: Path, arrayred: Call, plain: dict[str, bytes]
) -> None:
    assert plain
    told = arrayred("reduce", stars, "-o", "out", "--no-figures", "--target", "Vega")
    assert told.code == 0
    assert made() == {"Vega"}
    assert (
        "not used             d-light-001, d-light-002, d-light-003: of a target that was not"
        in told.out
    )
    for name in ("combined.fits", "spectrum.fits", "skysubtracted.txt"):
        assert product("Vega", name).read_bytes() == product("Vega", name, "plain").read_bytes()


def test_a_target_may_be_called_as_its_object_card_does(stars: Path, arrayred: Call) -> None:
    for path in stars.glob("v-*"):
        fits.setval(path, "OBJECT", value="alf Lyr")
    reduced(arrayred, "--target", "alf Lyr")
    reduced(arrayred, "--target", "alf_Lyr", out="slug")
    assert made() == made("slug") == {"alf_Lyr"}


def test_a_target_that_is_not_there_names_the_nearest(stars: Path, arrayred: Call) -> None:
    told = arrayred("reduce", stars, "-o", "out", *QUIET, "--target", "Vga")
    assert (told.code, Path("out").exists()) == (2, False)
    assert told.err == (
        "arrayred: error: 'Vga' is not a known target of this night. Did you mean 'Vega'?\n"
    )


def test_rows_are_taken_from_another_target(stars: Path, arrayred: Call) -> None:
    note = noted('[targets.Deneb]\nrows_from = "Vega"\n')
    reduced(arrayred, *note)
    of_deneb, of_vega = (fits.getheader(product(t, "spectrum.fits")) for t in ("Deneb", "Vega"))
    rows = of_deneb["SPFIRST"], of_deneb["SPLAST"]
    assert rows == (of_vega["SPFIRST"], of_vega["SPLAST"])
    table = np.loadtxt(product("Deneb", "raw_extraction.txt"), skiprows=1)[:, 1]
    image = fits.getdata(product("Deneb"))[rows[0] - 1 : rows[1]]
    assert np.allclose(table, image.mean(axis=0, dtype=np.float64), rtol=1e-5)
    reduced(arrayred, *note, "--target", "Deneb", out="alone")
    assert made("alone") == {"Deneb", "Vega"}


def test_rows_of_a_target_that_fails_are_not_made_up(stars: Path, arrayred: Call) -> None:
    vega = '[targets.Vega]\nn_sigma = 1e6\ndetect = "threshold"\n'
    note = noted(f'[targets.Deneb]\nrows_from = "Vega"\n{vega}')
    told = arrayred("reduce", stars, "-o", "out", *QUIET, *note)
    assert told.code == 4
    vega, deneb = told.err.splitlines()
    assert vega.startswith("arrayred: error: Vega: No row's mean exceeds")
    assert "Deneb uses the rows of Vega, which has none" in deneb


def test_sky_rows_are_the_sky(stars: Path, arrayred: Call) -> None:
    reduced(arrayred, "--target", "Vega", "--sky-rows", "3:22", "--reference")
    header, image = fits.getheader(product("Vega", "spectrum.fits")), fits.getdata(product("Vega"))
    first, last = header["SPFIRST"], header["SPLAST"]
    assert (header["SKYFIRST"], header["SKYLAST"]) == (3, 22)
    expected = image[first - 1 : last].mean(axis=0) - image[2:22].mean(axis=0)
    table = np.loadtxt(product("Vega", "skysubtracted.txt"), skiprows=1)[:, 1]
    assert np.allclose(table * (last - first + 1), expected * (last - first + 1), rtol=1e-9)


@pytest.mark.parametrize(
    ("excluded", "left"),
    [
        ("d-light-002", ["d-light-001.fit", "d-light-003.fit"]),
        ("d-light-002.fit", ["d-light-001.fit", "d-light-003.fit"]),
        ("*-00[13].fit", ["d-light-002.fit"]),
        ("d-light-1..2", ["d-light-003.fit"]),
        ("d-light-002-003", ["d-light-001.fit"]),
    ],
)
def test_files_are_left_out_by_label_name_glob_or_range(
    stars: Path, arrayred: Call, excluded: str, left: list[str]
) -> None:
    plans = [
        arrayred("inspect", stars, "--plan", *note).out
        for note in (noted(f'exclude = ["{excluded}"]\n'), ("--exclude", excluded))
    ]
    assert f"Deneb                {len(left)} x 600 s" in plans[0]
    assert plans[0] == plans[1]
    reduced(arrayred, "--target", "Deneb", "--exclude", excluded)
    inputs = fits.getheader(product("Deneb"))["ARIN*"].values()
    assert [name for name in inputs if "light" in name] == left


@pytest.mark.parametrize("command", [("reduce", "-o", "out"), ("inspect", "--plan")])
@pytest.mark.parametrize(
    ("excluded", "hint"),
    [
        ("d-light-02", "Did you mean 'd-light-002'?"),
        ("vega-7..9", "See `arrayred inspect`."),
        ("*.text", "See `arrayred inspect`."),
    ],
)
@pytest.mark.parametrize("by", ["option", "file"])
def test_what_is_to_be_left_out_must_be_there(
    stars: Path, arrayred: Call, excluded: str, hint: str, by: str, command: tuple[str, ...]
) -> None:
    note = noted(f'exclude = ["v-*", "{excluded}"]\n') if by == "file" else ("--exclude", excluded)
    told = arrayred(command[0], stars, *command[1:], *note)
    assert told.code == 2
    assert told.err == (
        f"arrayred: error: exclude names {excluded!r}, but no frame has this name. {hint}\n"
    )


def test_a_packed_frame_is_left_out_by_its_label(stars: Path, arrayred: Call) -> None:
    plain = stars / "d-light-002.fit"
    (stars / "d-light-002.fit.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    reduced(arrayred, "--exclude", "d-light-002", "--target", "Deneb")
    assert fits.getheader(product("Deneb"))["NCOMBINE"] == 2


# A night file that inspect writes


def test_what_inspect_writes_leads_to_the_same_products(
    stars: Path, arrayred: Call, plain: dict[str, bytes]
) -> None:
    told = arrayred("inspect", stars, "--write", "notes/mine.toml")
    assert told == (0, told.out, "")
    assert "notes/mine.toml: edit it, then `arrayred reduce" in told.out
    reduced(arrayred, "--night-file", "notes/mine.toml")
    assert contents_of("out") == plain


def test_what_inspect_writes_says_what_the_options_did(stars: Path, arrayred: Call) -> None:
    options = ("--sigma", "7", "--combine", "median", "--exclude", "v-light-001", "--no-sky")
    assert arrayred("inspect", stars, *options, "--write", "mine.toml").code == 0
    reduced(arrayred, *options, out="plain")
    reduced(arrayred, "--night-file", "mine.toml")
    assert contents_of("plain") == contents_of("out")


def test_an_edited_file_is_not_written_over(stars: Path, arrayred: Call) -> None:
    Path("mine.toml").write_text("# mine\n")
    told = arrayred("inspect", stars, "--write", "mine.toml")
    assert told.code == 2
    assert told.err == (
        "arrayred: error: mine.toml: A file with different content already exists. "
        "Move it or choose another file name.\n"
    )
    assert Path("mine.toml").read_text() == "# mine\n"


def test_a_written_file_names_the_lamps_and_fewer_may_be_left(stars: Path, arrayred: Call) -> None:
    arrayred("inspect", stars, "--write", "mine.toml")
    text = Path("mine.toml").read_text()
    assert text.count('\nlamps = ["arc-001", "arc-002"]') == 2
    Path("mine.toml").write_text(text.replace('"arc-001", ', ""))
    reduced(arrayred, "--night-file", "mine.toml")
    arc = Table.read(product("Vega", "arc.ecsv"), format="ascii.ecsv")
    assert set(arc["lamp"]) == {"arc-002"}


def test_a_file_may_be_written_beside_the_products(stars: Path, arrayred: Call) -> None:
    assert arrayred("inspect", stars, "--write", "out/night.toml").code == 0
    told = arrayred("reduce", stars, "-o", "out", "--no-figures")
    assert (told.code, "night file           out/night.toml" in told.out) == (0, True)


def test_targets_that_are_dropped_by_an_option_are_no_error(stars: Path, arrayred: Call) -> None:
    arrayred("inspect", stars, "--write", "mine.toml")
    for option in (("--frames", "d-*"), ("--exclude", "v-*")):
        reduced(arrayred, "--night-file", "mine.toml", *option, out=option[0][2:])
        assert made(option[0][2:]) == {"Deneb"}


def test_a_damaged_frame_that_the_file_names_is_told_by_its_problem(
    stars: Path, arrayred: Call
) -> None:
    arrayred("inspect", stars, "--write", "mine.toml")
    path = stars / "v-light-002.fit"
    path.write_bytes(path.read_bytes()[:20000])
    told = arrayred("reduce", stars, "-o", "out", *QUIET, "--night-file", "mine.toml")
    assert told.code == 3
    assert re.fullmatch(r"arrayred: error: .*v-light-002\.fit: .* is truncated.*\n", told.err)
