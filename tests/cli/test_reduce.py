"""``arrayred reduce``: every option does what it says, every mistake is told in one line."""

from __future__ import annotations

import gzip
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from arrayred.cli.reduce import reduce
from arrayred.io import LOG_FILE, PAGE, STATE_FOLDER
from tests.cli.conftest import Call, contents, whole
from tests.conftest import Run
from tests.procedure import Tables, run_procedure

STAR = Path("out/targets/Simulated_star")
QUIET = ("--no-figures", "-q")


def pixels(night: Path, pattern: str) -> list[NDArray[np.float64]]:
    return [fits.getdata(path).astype(np.float64) for path in sorted(night.glob(pattern))]


def combined(out: str = "out") -> tuple[fits.Header, NDArray[Any]]:
    """Return header and pixels of the one combined image."""
    (path,) = Path(out).glob("targets/*/*_combined.fits")
    image, header = fits.getdata(path, header=True)
    return header, image


def spectrum_header(out: str = "out") -> fits.Header:
    (path,) = Path(out).glob("targets/*/*_spectrum.fits")
    return fits.getheader(path)


def procedure(night: Path, **settings: Any) -> Tables:
    lights = [(600.0, image) for image in pixels(night, "light*")]
    return run_procedure({600.0: pixels(night, "dark*")}, lights, **settings)


def names(folder: Path | str) -> set[str]:
    files = (path for path in Path(folder).rglob("*") if STATE_FOLDER not in path.parts)
    return {path.name for path in files if path.is_file() and path.name != LOG_FILE}


# What the options do


@pytest.mark.parametrize(
    ("options", "cards"),
    [
        (
            "--object|59 Cyg|--grating|1200|--grating-angle|26.0"
            "|--card|LINES=1200|--card|slit = 2.5|--card|NOTE=a=b",
            {
                "OBJECT": "59 Cyg",
                "GRATING": "1200",
                "GRATANG": 26.0,
                "LINES": 1200,
                "SLIT": 2.5,
                "NOTE": "a=b",
            },
        ),
        (
            f"--object|{'x' * 100}|--grating-angle|26.0 degrees|--card|LINES='1200'|--card|NOTE=",
            {"OBJECT": "x" * 100, "GRATANG": 26.0, "LINES": "1200", "NOTE": ""},
        ),
        (
            "--card|A=1|--card|NOTE=nan|--object|first|--object|last",
            {"A": 1, "NOTE": "nan", "OBJECT": "last"},
        ),
    ],
    ids=["one", "two", "three"],
)
def test_a_card_option_reaches_every_product_of_the_target(
    night: Path, arrayred: Call, options: str, cards: dict[str, object]
) -> None:
    assert arrayred("reduce", night, "-o", "out", *QUIET, *options.split("|")).code == 0
    for header in (combined()[0], spectrum_header()):
        found = {keyword: header[keyword] for keyword in cards}
        assert found == cards
        assert {key: type(value) for key, value in found.items()} == {
            key: type(value) for key, value in cards.items()
        }
        assert header["INSTRUME"] == "Simulated camera"


@pytest.mark.parametrize("method", ["average", "median"])
def test_combine_chooses_how_lights_become_one(night: Path, arrayred: Call, method: str) -> None:
    arrayred("reduce", night, "-o", "out", *QUIET, "--combine", method)
    expected = procedure(night, combine=method).data
    header, image = combined()
    assert np.array_equal(image, expected.astype(np.float32))
    assert f"{method} of 3 frames" in str(header["HISTORY"])


def test_sigma_sets_the_threshold(night: Path, arrayred: Call) -> None:
    arrayred("reduce", night, "-o", "out", *QUIET, "--sigma", "10.5")
    image, header = procedure(night).data, spectrum_header()
    assert header["THRESH"] == pytest.approx(image[:50].mean() + 10.5 * image[:50].std())
    bright = np.flatnonzero(image.mean(axis=1) > header["THRESH"]) + 1
    assert (header["SPFIRST"], header["SPLAST"]) == (bright.min(), bright.max())


def test_a_sigma_of_zero_is_taken_as_given(night: Path, arrayred: Call) -> None:
    arrayred("reduce", night, "-o", "out", *QUIET, "--sigma", "0", "--no-sky")
    assert spectrum_header()["THRESH"] == spectrum_header()["BKGMEAN"]


def test_background_rows_choose_the_sample(night: Path, arrayred: Call) -> None:
    arrayred("reduce", night, "-o", "out", *QUIET, "--background-rows", "110:159")
    sample = procedure(night).data[109:159]
    assert spectrum_header()["BKGMEAN"] == pytest.approx(sample.mean())
    assert spectrum_header()["BKGSTD"] == pytest.approx(sample.std())


def test_rows_are_taken_as_given(night: Path, arrayred: Call) -> None:
    arrayred("reduce", night, "-o", "out", *QUIET, "--rows", "70:75")
    header = spectrum_header()
    assert (header["SPFIRST"], header["SPLAST"]) == (70, 75)
    table = np.loadtxt(STAR / "Simulated_star_raw_extraction.txt", skiprows=1)
    assert np.allclose(table[:, 1], procedure(night).data[69:75].mean(axis=0))


def test_no_sky_leaves_the_sky_in(night: Path, arrayred: Call) -> None:
    straight = ("--trace", "straight", "--extraction", "sum")
    arrayred("reduce", night, "-o", "out", *QUIET, "--no-sky", *straight)
    assert "Simulated_star_skysubtracted.txt" not in names("out")
    assert "SKYFIRST" not in spectrum_header()
    table = fits.getdata(STAR / "Simulated_star_spectrum.fits")
    rows = slice(spectrum_header()["SPFIRST"] - 1, spectrum_header()["SPLAST"])
    assert np.allclose(table["flux"], procedure(night).data[rows].sum(axis=0))


def test_save_calibrated_writes_each_light_less_its_dark(night: Path, arrayred: Call) -> None:
    arrayred("reduce", night, "-o", "out", *QUIET, "--save-calibrated")
    dark = np.median(pixels(night, "dark*"), axis=0)
    written = sorted((STAR / "calibrated").iterdir())
    assert [path.name for path in written] == [f"light-00{i}_calibrated.fits" for i in (1, 2, 3)]
    for path, light in zip(written, pixels(night, "light*"), strict=True):
        assert np.array_equal(fits.getdata(path), (light - dark).astype(np.float32))


def test_a_default_run_draws_a_picture_and_a_page_which_no_figures_leaves_out_alone(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes]
) -> None:
    arrayred("reduce", night, "-o", "out")
    suffixes = ("combined.fits", "raw_extraction.txt", "skysubtracted.txt", "spectrum.fits")
    assert names("out") == {
        "master_dark_600s.fits",
        "report.html",
        "Simulated_star.png",
        "Simulated_star_spectrum.ecsv",
        *(f"Simulated_star_{suffix}" for suffix in suffixes),
    }
    assert (STAR / "Simulated_star.png").read_bytes().startswith(b"\x89PNG")
    assert names("out") - names("undisturbed") == {"Simulated_star.png", "report.html"}
    assert undisturbed.items() <= whole("out").items()


def test_a_recipe_from_a_file_is_followed_and_options_go_before_it(
    night: Path, arrayred: Call
) -> None:
    Path("mine.toml").write_text('combine = "median"\nn_sigma = 6\nbackground_rows = [5, 40]\n')
    told = arrayred("reduce", night, "-o", "out", *QUIET, "--recipe", "mine.toml", "--sigma", "7")
    assert told.code == 0, told.err
    image, header = procedure(night, combine="median").data, spectrum_header()
    assert np.array_equal(combined()[1], image.astype(np.float32))
    assert header["THRESH"] == pytest.approx(image[4:40].mean() + 7 * image[4:40].std())


def test_reference_is_the_procedure_to_the_byte(night: Path, arrayred: Call) -> None:
    told = arrayred("reduce", night, "-o", "out", "--reference", "--no-figures")
    expected, (header, image) = procedure(night), combined()
    assert np.array_equal(image, expected.data)
    assert header["BITPIX"] == -64
    for name, table in (
        ("raw_extraction", expected.raw_extraction),
        ("skysubtracted", expected.skysubtracted),
    ):
        assert (STAR / f"Simulated_star_{name}.txt").read_text() == table
    found = re.findall(r"(?:is|than|y=|spectrum:|\)|selected:) (?:is )?(-?[\d.]+)$", told.out, re.M)
    assert found == [str(number) for number in expected.printed]


def test_frames_takes_matching_files_only(night: Path, arrayred: Call) -> None:
    arrayred("reduce", night, "-o", "out", *QUIET, "--frames", "*-00[23].fit")
    inputs = combined()[0]["ARIN*"].values()
    assert {name for name in inputs if "light" in name} == {"light-002.fit", "light-003.fit"}
    assert combined()[0]["NCOMBINE"] == 2


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_scheduler_is_daskss_and_changes_no_byte(
    night: Path,
    arrayred: Call,
    undisturbed: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    scheduler: str,
) -> None:
    import dask

    from arrayred import batch
    from arrayred.night import groups

    seen: list[object] = []
    original = batch.reduce_to

    def watched(*args: Any, **options: Any) -> Any:
        seen.append(dask.config.get("scheduler", None))
        return original(*args, **options)

    monkeypatch.setattr(batch, "reduce_to", watched)
    monkeypatch.setattr(groups, "_EAGER_BYTES", 0)
    arrayred("reduce", night, "-o", "lazy", *QUIET, "--scheduler", scheduler)
    assert seen == [scheduler]
    assert whole("lazy") == undisturbed


def test_quiet_says_nothing_and_verbose_names_files_and_seconds(
    night: Path, arrayred: Call
) -> None:
    assert arrayred("reduce", night, "-o", "out", *QUIET) == (0, "", "")
    usual = arrayred("reduce", night, "-o", "out", "--no-figures").out
    verbose = arrayred("reduce", night, "-o", "out", "--no-figures", "-v").out
    assert "Simulated_star_spectrum.ecsv" not in usual
    assert all(name in verbose for name in names(STAR))
    assert re.search(
        r"0 targets reduced, 1 up to date, 0 failed, 0 frames unused, \d+\.\d s", usual
    )


def test_a_run_prints_what_the_procedure_prints(night: Path, arrayred: Call) -> None:
    told = arrayred("reduce", night, "-o", "out", "--no-figures", "-v")
    header = spectrum_header()
    assert f"Bottom edge of the spectrum: y= {header['SPFIRST']}" in told.out
    assert f"Top edge of the spectrum: y= {header['SPLAST']}" in told.out
    assert f"must be more than {header['THRESH']}" in told.out
    assert re.search("Simulated_star +3 x 600 s, dark-subtracted, averaged", told.out)


def test_help_shows_its_examples_line_by_line(arrayred: Call) -> None:
    told = arrayred("reduce", "--help")
    assert "\\b" not in told.out
    examples = [line for line in told.out.splitlines() if line.startswith("  arrayred reduce ")]
    assert len(examples) >= 3


def test_every_option_is_tried_in_this_folder() -> None:
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    options = [option.opts for option in reduce.params if option.opts[0].startswith("-")]
    assert [names for names in options if not any(f'"{name}"' in text for name in names)] == []


# Instruments and the cards they require


@pytest.fixture
def nameless(night: Path) -> Path:
    for path in night.iterdir():
        fits.setval(path, "OBJECT", value="")
    return night


BARBER = ("--instrument", "barber20", "--object", "59 Cyg", "--grating", "1200")


def test_barber20_lists_every_missing_card_with_its_option_in_one_line(
    nameless: Path, arrayred: Call
) -> None:
    told = arrayred("reduce", nameless, "-o", "out", "--instrument", "barber20", "--no-input")
    assert told.code == 2
    (line,) = told.err.splitlines()
    for word in ("OBJECT", "GRATING", "GRATANG", "--object", "--grating", "--grating-angle"):
        assert re.search(rf"{word}\b", line)
    assert not Path("out").exists()


def test_barber20_names_telescope_and_spectrograph_and_keeps_the_camera(
    nameless: Path, arrayred: Call
) -> None:
    arrayred("reduce", nameless, "-o", "out", *QUIET, *BARBER, "--grating-angle", "26.0 degrees")
    for header in (combined()[0], spectrum_header()):
        assert header["TELESCOP"] == "Barber20"
        assert header["INSTRUME"] == "10-C Spectrograph"
        assert header["DETECTOR"] == "Simulated camera"
        assert (header["OBJECT"], header["GRATING"], header["GRATANG"]) == ("59 Cyg", "1200", 26.0)
        assert header["CALSTAT"] == "BD"


def test_allow_missing_leaves_blanks_and_says_which(nameless: Path, arrayred: Call) -> None:
    command = ("reduce", nameless, "-o", "out", "--no-figures", *BARBER, "--allow-missing")
    told = arrayred(*command)
    assert told.code == 0
    assert combined()[0]["GRATANG"] == ""
    assert re.search(r"^arrayred: warning: .*GRATANG$", told.err, re.M)
    assert "GRATING" not in told.err


def test_an_instrument_file_says_what_headers_mean(night: Path, arrayred: Call) -> None:
    for path in night.glob("light*"):
        fits.setval(path, "IMAGETYP", value="Quux")
        fits.setval(path, "EXPTIME", value=0.01)
        fits.setval(path, "SECONDS", value=600.0)
    Path("mine.toml").write_text(
        'required = ["OBSERVER"]\n[cards]\nTELESCOP = "Mine"\n[types]\nlight = ["quux"]\n'
        '[keywords]\nexptime = ["SECONDS", "EXPTIME"]\n'
    )
    assert arrayred("reduce", night, "-o", "out", *QUIET).code == 4
    told = arrayred("reduce", night, "-o", "out", *QUIET, "--instrument", "mine.toml")
    assert (told.code, "--card OBSERVER=" in told.err) == (2, True)
    mine = ("--instrument", "mine.toml", "--card", "OBSERVER=Me")
    assert arrayred("reduce", night, "-o", "out", *QUIET, *mine).code == 0
    assert (combined()[0]["TELESCOP"], combined()[0]["EXPTIME"]) == ("Mine", 600.0)


def test_an_instrument_file_may_spell_types_as_the_headers_do(night: Path, arrayred: Call) -> None:
    for path in night.glob("light*"):
        fits.setval(path, "IMAGETYP", value="Quux Frame")
    Path("mine.toml").write_text('[types]\nlight = ["Quux Frame"]\n')
    told = arrayred("reduce", night, "-o", "out", *QUIET, "--instrument", "mine.toml")
    assert told.code == 0, told.err


# What goes wrong, and what is said of it


def cut_short(night: Path) -> None:
    os.truncate(night / "light-002.fit", 30000)


def cut_in_the_header(night: Path) -> None:
    os.truncate(night / "light-002.fit", 1000)


def emptied(night: Path) -> None:
    (night / "light-002.fit").write_bytes(b"")


def without_darks(night: Path) -> None:
    for path in night.glob("dark*"):
        path.unlink()


def without_lights(night: Path) -> None:
    for path in night.glob("light*"):
        path.unlink()


def without_files(night: Path) -> None:
    without_darks(night)
    without_lights(night)


def other_exposure(night: Path) -> None:
    for path in night.glob("light*"):
        fits.setval(path, "EXPTIME", value=300.0)


def other_shape(night: Path) -> None:
    path = night / "light-002.fit"
    image, header = fits.getdata(path, header=True)
    fits.writeto(path, image[:100], header, overwrite=True)


def other_binning(night: Path) -> None:
    for path in night.glob("dark*"):
        fits.setval(path, "XBINNING", value=2)


def untyped(night: Path) -> None:
    fits.delval(night / "light-002.fit", "IMAGETYP")


def without_exposure(night: Path) -> None:
    fits.delval(night / "light-002.fit", "EXPTIME")


def odd_exposure(night: Path) -> None:
    fits.setval(night / "light-002.fit", "EXPTIME", value="600,0")


BAD_NIGHTS = [
    (without_files, r"night: No FITS files found\. Name the folder"),
    (without_darks, r"No dark frames found\. Add a folder of darks \(--calibrations DIR\), or"),
    (without_lights, r"night: No light \(science\) frames found\. Check the frame types"),
    (
        other_exposure,
        r"light-001\.fit: No dark within 0\.5 s fits.*300 s.*5 x 600 s.*\. Add a folder",
    ),
    (other_binning, r"light-001\.fit: No dark.*binning.*\. Add a folder of matching"),
    (cut_short, r"light-002\.fit: The file has 30000 bytes, .* states \d+\. It is truncated: c"),
    (
        cut_in_the_header,
        r"light-002\.fit: The file is truncated: the header is incomplete\. Copy it again",
    ),
    (emptied, r"light-002\.fit: The file is empty\. Copy it again"),
    (untyped, r"light-002\.fit: Frame type unknown.*\. Add IMAGETYP"),
    (without_exposure, r"light-002\.fit: The header has no exposure time\. Correct EXPTIME"),
    (odd_exposure, r"light-002\.fit: EXPTIME is '600,0'.*\. Correct EXPTIME"),
]


@pytest.mark.parametrize(
    ("spoil", "message"), BAD_NIGHTS, ids=[spoil.__name__ for spoil, _ in BAD_NIGHTS]
)
def test_a_night_that_cannot_be_reduced_is_refused_by_name_and_nothing_is_written(
    night: Path, arrayred: Call, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(night)
    told = arrayred("reduce", night, "-o", "out", *QUIET)
    assert (told.code, told.out) == (4, "")
    (line,) = told.err.splitlines()
    assert re.search(rf"^arrayred: error: .*{message}", line)
    assert not Path("out").exists()


def test_lights_that_were_all_cut_short_are_the_cause_alone(night: Path, arrayred: Call) -> None:
    for path in sorted(night.glob("light*")):
        os.truncate(path, 30000)
    told = arrayred("reduce", night, "-o", "out", *QUIET)
    assert (told.code, told.err.count("It is truncated"), told.err.count("\n")) == (4, 1, 1)


def test_a_night_of_spoilt_darks_alone_still_has_no_light(night: Path, arrayred: Call) -> None:
    without_lights(night)
    fits.delval(night / "dark-001.fit", "EXPTIME")
    told = arrayred("reduce", night, "-o", "out", *QUIET)
    assert "The header has no exposure time" in told.err
    assert "No light (science) frames found" in told.err


def test_a_pattern_that_no_light_has_is_told_the_lights(night: Path, arrayred: Call) -> None:
    told = arrayred("reduce", night, "-o", "out", *QUIET, "--frames", "vega*")
    assert told.code == 4
    assert (
        "has a name that matches 'vega*'. The light frames are light-001, light-002, light-003"
        in told.err
    )


@pytest.mark.parametrize(("name", "what"), [("nope", "No such folder"),
                                            ("night/light-001.fit", "This is a file")])  # fmt: skip
def test_what_is_no_folder_of_frames_is_named(
    night: Path, arrayred: Call, name: str, what: str
) -> None:
    told = arrayred("reduce", night.parent / name, "-o", "out")
    assert (told.code, told.out) == (4, "")
    assert what in told.err


def test_all_problems_of_a_night_are_told_at_once(night: Path, arrayred: Call) -> None:
    fits.delval(night / "light-003.fit", "IMAGETYP")
    for spoil in (other_exposure, cut_short):
        spoil(night)
    told = arrayred("reduce", night, "-o", "out", *QUIET)
    assert told.code == 4
    for name in ("light-002.fit", "light-001.fit", "light-003.fit"):
        assert sum(name in line for line in told.err.splitlines()) == 1


A_REMEDY = r".*\. [A-Z].*[.?]$"
BAD_COMMANDS: list[tuple[list[str], int, str]] = [
    (["nowhere", "-o", "out"], 4, "nowhere: No such folder" + A_REMEDY),
    (["night/light-001.fit", "-o", "out"], 4, "light-001.fit: .*" + A_REMEDY),
    (["night", "-o", "night"], 2, "night: The output lies inside the night" + A_REMEDY),
    (["night", "-o", "night/a/b"], 2, "night/a/b: The output lies inside" + A_REMEDY),
    (["night", "-o", "night/../night/a"], 2, "The output lies inside" + A_REMEDY),
    (["night", "-o", "afile"], 5, "afile: .*" + A_REMEDY),
    (["night", "-o", "afile/sub"], 5, "afile.*: .*" + A_REMEDY),
    (["night", "-o", "out", "--frames", "hr*"], 4, "night: .*'hr\\*'" + A_REMEDY),
    (["night", "-o", "out", "--recipe", "no.toml"], 2, "no.toml: .*No such file" + A_REMEDY),
    (["night", "-o", "out", "--recipe", "broken.toml"], 2, "broken.toml: .*line 1.*" + A_REMEDY),
    (["night", "-o", "out", "--recipe", "key.toml"], 2, "'sigma'.*Did you mean 'n_sigma'\\?"),
    (["night", "-o", "out", "--recipe", "range.toml"], 2, "range.toml.*rows.*\\[9, 3\\]"),
    (["night", "-o", "out", "--recipe", "type.toml"], 2, "n_sigma must be a number"),
    (["night", "-o", "out", "--recipe", "key.toml", "--reference"], 2, "cannot be used together"),
    (["night", "-o", "out", "--instrument", "barber2"], 2, "Did you mean 'barber20'\\?"),
    (["night", "-o", "out", "--instrument", "no.toml"], 2, "no.toml: .*" + A_REMEDY),
    (
        ["night", "-o", "out", "--instrument", "type.toml"],
        2,
        "type.toml.*'n_sigma' is not a known key",
    ),
    (["night", "-o", "out", "--rows", "9:3"], 2, "--rows.*'9:3' is not a row range A:B"),
    (["night", "-o", "out", "--rows", "0:3"], 2, "--rows.*'0:3' is not a row range A:B"),
    (["night", "-o", "out", "--rows", "150:161"], 2, "150:161.*1:160" + A_REMEDY),
    (["night", "-o", "out", "--background-rows", "161:170"], 2, "161:170.*1:160" + A_REMEDY),
    (["night", "-o", "out", "--background-rows", "all"], 2, "--background-rows.*'all' is not"),
    (["night", "-o", "out", "--sigma", "-1"], 2, "--sigma"),
    (["night", "-o", "out", "--sigma", "nan"], 2, "n_sigma must be a number.*nan"),
    (["night", "-o", "out", "--combine", "sum"], 2, "'sum' is not one of 'average', 'median'"),
    (["night", "-o", "out", "--grating-angle", "steep"], 2, "'steep' is not an angle" + A_REMEDY),
    (["night", "-o", "out", "--grating-angle", "nan"], 2, "nan.*" + A_REMEDY),
    (["night", "-o", "out", "--object", "Mitä"], 2, "OBJECT = 'Mitä'.*" + A_REMEDY),
    (["night", "-o", "out", "--object", "a\nEND"], 2, "OBJECT = .*" + A_REMEDY),
    (["night", "-o", "out", "--card", "NAXIS=3"], 2, "NAXIS describes the file itself" + A_REMEDY),
    (["night", "-o", "out", "--card", "MUCHTOOLONG=3"], 2, "MUCHTOOLONG.*" + A_REMEDY),
    (["night", "-o", "out", "--card", "KEY"], 2, "'KEY' is not KEY=VALUE"),
    (["night"], 2, "Missing option '-o'"),
    (["night", "-o", "out", "--overwrit"], 2, "Did you mean .*'--overwrite'"),
]


@pytest.mark.parametrize(
    ("args", "code", "message"), BAD_COMMANDS, ids=[" ".join(args) for args, _, _ in BAD_COMMANDS]
)
def test_a_wrong_command_is_told_in_one_line_and_nothing_is_written(
    night: Path, arrayred: Call, args: list[str], code: int, message: str
) -> None:
    settings = {"broken": "rows = ", "key": "sigma = 3", "range": "rows = [9, 3]"}
    for name, text in {**settings, "type": "n_sigma = 'x'"}.items():
        Path(f"{name}.toml").write_text(f"{text}\n")
    Path("afile").write_text("here first")
    told = arrayred("reduce", *args, "--no-figures")
    assert (told.code, bool(re.search(message, told.err, re.M))) == (code, True), told.err
    errors = [line for line in told.err.splitlines() if "rror: " in line]
    assert len(errors) == 1
    assert not Path("out").exists()
    assert Path("afile").read_text() == "here first"


def test_the_output_is_no_input_of_a_second_run(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes]
) -> None:
    assert undisturbed
    shutil.copytree("undisturbed", night / "products")
    told = arrayred("reduce", night, "-o", "again", *QUIET)
    assert told.code == 0, told.err
    assert combined("again")[0]["NCOMBINE"] == 3


CHANGED = ("_combined.fits", "_spectrum.ecsv", "_skysubtracted.txt")


def test_a_product_changed_by_hand_is_made_anew_and_that_is_said(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes]
) -> None:
    arrayred("reduce", night, "-o", "out", *QUIET)
    for name in CHANGED:
        product = STAR / f"Simulated_star{name}"
        product.write_bytes(product.read_bytes() + b"by hand")
        told = arrayred("reduce", night, "-o", "out", "--no-figures")
        assert told.code == 0, told.err
        said = f"Simulated_star{name} was changed after it was written, and is made again"
        assert said in told.out
        assert whole("out") == undisturbed, name


def test_what_nobody_finished_stays_unless_overwrite_is_given(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes]
) -> None:
    for name in CHANGED:
        shutil.rmtree("out", ignore_errors=True)
        shutil.copytree("undisturbed", "out")
        product = STAR / f"Simulated_star{name}"
        product.write_bytes(product.read_bytes() + b"by hand")
        shutil.rmtree(Path("out") / STATE_FOLDER)
        told = arrayred("reduce", night, "-o", "out", *QUIET)
        assert told.code == 2
        error = rf"^arrayred: error: .*{name}: .*already exists .*\. Use --overwrite"
        assert re.search(error, told.err)
        assert product.read_bytes().endswith(b"by hand")
    assert arrayred("reduce", night, "-o", "out", *QUIET, "--overwrite").code == 0
    assert whole("out") == undisturbed


def test_a_deleted_product_is_made_again(night: Path, arrayred: Call) -> None:
    arrayred("reduce", night, "-o", "out", *QUIET)
    before = contents(Path("out"))
    for name in list(before)[::2]:
        Path("out", name).unlink()
    assert arrayred("reduce", night, "-o", "out", *QUIET).code == 0
    assert {n: c for n, (c, _) in contents(Path("out")).items()} == {
        n: c for n, (c, _) in before.items()
    }


def test_without_a_bright_row_the_combined_image_is_written_still(
    night: Path, arrayred: Call
) -> None:
    told = arrayred("reduce", night, "-o", "out", *QUIET, "--detect", "threshold", "--sigma", "1e6")
    assert told.code == 4
    (line,) = told.err.splitlines()
    assert re.search(r"Simulated_star: No row's mean exceeds .*brightest.*85.*lower --sigma", line)
    assert np.array_equal(combined()[1], procedure(night).data.astype(np.float32))
    assert names(STAR) == {"Simulated_star_combined.fits"}


def add_target(night: Path, name: str, like: str) -> None:
    """Add three lights that show what some frames show."""
    for i, source in enumerate(sorted(night.glob(like))[:3], 1):
        image, header = fits.getdata(source, header=True)
        header.update(OBJECT=name, IMAGETYP="Light Frame", **{"DATE-OBS": f"2024-03-10T0{i}:00:00"})
        fits.writeto(night / f"{name}-{i}.fit", image, header)


def test_two_targets_are_published_side_by_side(night: Path, arrayred: Call) -> None:
    add_target(night, "Twin", like="light*")
    assert arrayred("reduce", night, "-o", "out", *QUIET).code == 0
    twins = [Path(f"out/targets/{n}/{n}_skysubtracted.txt") for n in ("Twin", "Simulated_star")]
    assert twins[0].read_bytes() == twins[1].read_bytes()


@pytest.mark.parametrize("option", [("--object", "Vega"), ("--rows", "80:90")])
def test_what_is_for_one_target_is_refused_for_two(
    night: Path, arrayred: Call, option: tuple[str, str]
) -> None:
    add_target(night, "Twin", like="light*")
    told = arrayred("reduce", night, "-o", "out", *QUIET, *option)
    assert told.code == 2
    assert re.search(rf"error: {option[0]} is for a single target.*Twin.*--target", told.err)
    assert not Path("out").exists()


def test_the_advice_for_several_targets_can_be_followed(night: Path, arrayred: Call) -> None:
    add_target(night, "Twin", like="light*")
    told = arrayred("reduce", night, "-o", "out", *QUIET, "--object", "Vega", "--target", "Twin")
    assert told.code == 0, told.err
    assert combined()[0]["OBJECT"] == "Vega"


def test_a_frame_of_another_shape_is_no_part_of_the_group(night: Path, arrayred: Call) -> None:
    other_shape(night)
    told = arrayred("reduce", night, "-o", "out", *QUIET)
    assert told.code == 3
    message = r"light-002\.fit: No dark .* 120 x 100 pixels.*120 x 160 pixels.*\. Add a folder"
    assert re.search(message, told.err)
    assert [fits.getval(path, "NCOMBINE") for path in Path("out").rglob("*combined.fits")] == [2]


def test_what_is_excluded_takes_no_part_and_is_said(night: Path, arrayred: Call) -> None:
    cut_short(night)
    told = arrayred("reduce", night, "-o", "out", "--no-figures", "--exclude", "light-002*")
    assert told.code == 0, told.err
    assert re.search(r"not used +light-002\.fit: excluded", told.out)
    assert combined()[0]["NCOMBINE"] == 2


def test_one_target_failing_leaves_the_other_published(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes]
) -> None:
    add_target(night, "Dim", like="dark*")
    told = arrayred("reduce", night, "-o", "out", *QUIET)
    assert told.code == 3
    assert [line.split(": ")[:3] for line in told.err.splitlines()] == [
        ["arrayred", "error", "Dim"]
    ]
    assert names("out/targets/Dim") == {"Dim_combined.fits"}
    assert undisturbed.items() <= whole("out").items()


@pytest.mark.parametrize("pattern", ["light-002", "dark-002"])
def test_a_damaged_frame_fails_only_the_targets_that_need_it(
    night: Path, arrayred: Call, pattern: str
) -> None:
    add_target(night, "Short", like="light*")
    for source in sorted(night.glob("dark*")):
        short = night / f"short-{source.name}"
        shutil.copy(source, short)
    for path in [*night.glob("Short*"), *night.glob("short*")]:
        fits.setval(path, "EXPTIME", value=60.0)
    packed = gzip.compress((night / f"{pattern}.fit").read_bytes(), mtime=0)
    (night / f"{pattern}.fit").unlink()
    (night / f"{pattern}.fit.gz").write_bytes(packed[:-3000])
    told = arrayred("reduce", night, "-o", "out", *QUIET)
    assert told.code == 3, told.err
    assert f"{pattern}.fit.gz" in told.err
    assert "Short_spectrum.ecsv" in names("out")
    assert "Simulated_star_spectrum.ecsv" not in names("out")


def test_lights_already_dark_subtracted_keep_what_was_done_to_them(
    night: Path, arrayred: Call
) -> None:
    dark = np.median(pixels(night, "dark*"), axis=0)
    for path in night.glob("light*"):
        image, header = fits.getdata(path, header=True)
        header["CALSTAT"] = "BD"
        del header["DATASUM"], header["CHECKSUM"]
        fits.writeto(path, (image - dark).astype(np.float32), header, overwrite=True)
    assert arrayred("reduce", night, "-o", "out", *QUIET).code == 0
    header, image = combined()
    assert header["CALSTAT"] == "BD"
    assert np.allclose(image, np.mean(pixels(night, "light*"), axis=0))
    assert "dark subtracted" not in str(header["HISTORY"])


# The whole program


def test_two_runs_in_different_places_give_the_same_bytes(
    night: Path, arrayred: Call, run: Run, tmp_path: Path
) -> None:
    shutil.copytree(night, tmp_path / "elsewhere" / "another night")
    options = ("--save-calibrated", "--card", "OBSERVER=Me")
    done = run("reduce", "another night", "-o", "o", *options, cwd=tmp_path / "elsewhere")
    assert (done.returncode, done.stderr) == (0, "")
    assert arrayred("reduce", night, "-o", "deep/out", *options).code == 0
    here, there = contents(tmp_path / "deep" / "out"), contents(tmp_path / "elsewhere" / "o")
    assert any(name.endswith(".png") for name in here)
    pages = [folder.pop(PAGE)[0].decode().splitlines() for folder in (here, there)]
    assert {n: c for n, (c, _) in here.items()} == {n: c for n, (c, _) in there.items()}
    ((own, other),) = (pair for pair in zip(*pages, strict=True) if len({*pair}) == 2)
    start = "<pre><code>arrayred reduce "  # the command that makes a page again names its folders
    assert own.startswith(f"{start}{night} -o {tmp_path}/deep/out ")
    assert other.startswith(f"{start}&#39;{tmp_path}/elsewhere/another night&#39; -o ")


def test_a_relative_and_an_absolute_night_give_the_same_bytes(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes]
) -> None:
    for out, folder in (("two", "night"), ("three", "./night/../night/")):
        assert arrayred("reduce", folder, "-o", out, *QUIET).code == 0
        assert whole(out) == undisturbed


def test_an_error_in_a_process_of_its_own_is_one_line(night: Path, fork: Run) -> None:
    cut_short(night)
    done = fork("reduce", night, "-o", "out")
    assert (done.returncode, done.stdout) == (4, "")
    assert re.fullmatch(r"arrayred: error: .*light-002\.fit: .*\n", done.stderr)


@pytest.mark.parametrize("stem", ["Véga", "x" * 230 + "é", "глаз", "a b", "e\u0301toile"])
def test_frames_of_any_name_are_calibrated_and_named_in_headers(
    stem: str, night: Path, arrayred: Call
) -> None:
    for path in sorted(night.glob("light*")):
        path.rename(night / f"{stem}-{path.stem[-1]}.fit")
    reduced = arrayred("reduce", night, "-o", "out", "--save-calibrated", *QUIET, "--allow-missing")
    assert (reduced.code, reduced.err) == (0, "")
    written = sorted(Path("out").rglob("*_calibrated.fits"))
    n_lights = len(list(night.glob("*.fit"))) - len(list(night.glob("dark*")))
    assert len(written) == len({path.name for path in written}) == n_lights
    assert all(fits.getval(path, "FILENAME").isascii() for path in written)
    lights = sorted(night.glob(f"{stem[:5]}*"))
    assert arrayred("combine", *lights, "-o", f"{stem[:20]}.fits").code == 0
    named = fits.getval(f"{stem[:20]}.fits", "FILENAME")
    assert named == ("Vega.fits" if stem == "Véga" else named)
    assert named.isascii()
