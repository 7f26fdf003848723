"""What is refused says what can be done about it, and doing it works."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from tests.cli.conftest import Call

QUIET = ("--no-figures", "-q")


@pytest.fixture
def two(night: Path) -> Path:
    """Return a night of two targets, Simulated star and Deneb."""
    for path in sorted(night.glob("light*")):
        other = night / path.name.replace("light", "deneb")
        shutil.copy(path, other)
        with fits.open(other, mode="update") as hdus:
            hdus[0].header["OBJECT"] = "Deneb"
            hdus[0].header["DATE-OBS"] = hdus[0].header["DATE-OBS"].replace("T2", "T1")
    return night


def test_no_dark_at_all_is_said_once_for_all_targets(two: Path, arrayred: Call) -> None:
    for path in two.glob("dark*"):
        path.rename(path.with_suffix(".away"))
    told = arrayred("reduce", two, "-o", "out", *QUIET)
    assert (told.code, told.err.count("No dark frames found."), told.err.count("\n")) == (4, 1, 1)
    assert "--calibrations DIR" in told.err
    assert arrayred("reduce", two, "-o", "out", *QUIET, "--no-dark").code == 0


@pytest.mark.parametrize(("kind", "word"), [("light", "Aufnahme"), ("dark", "dark,lamp off")])
def test_a_type_word_that_is_unknown_is_named_with_the_line_that_tells_it(
    night: Path, arrayred: Call, kind: str, word: str
) -> None:
    for path in sorted(night.glob(f"{kind}*")):
        fits.setval(path, "IMAGETYP", value=word)
    last = len(list(night.glob(f"{kind}*")))
    told = arrayred("reduce", night, "-o", "out", *QUIET)
    assert told.code == 4
    (line,) = (line for line in told.err.splitlines() if "is unknown" in line)
    assert f"{kind}-001" in line
    assert f"the frame type {word!r} is unknown. Set it in a night file (" in line
    (remedy,) = re.findall(r"\(\[types\] TYPE = (.*?)\)", line)
    assert remedy == f'["{kind}-001..00{last}"]'
    Path("types.toml").write_text(f"[types]\n{kind} = {remedy}\n")
    assert arrayred("reduce", night, "-o", "out", *QUIET, "--night-file", "types.toml").code == 0


@pytest.mark.parametrize(("exptime", "scaled"), [(590.0, False), (660.0, True), (5.0, False)])
def test_a_dark_of_another_exposure_is_offered_only_where_that_makes_sense(
    night: Path, arrayred: Call, exptime: float, scaled: bool
) -> None:
    for path in night.glob("dark*"):
        fits.setval(path, "EXPTIME", value=exptime)
    told = arrayred("reduce", night, "-o", "out", *QUIET)
    assert told.code == 4
    offered = re.search(r"dark_tolerance = (\d+) in the recipe", told.err)
    assert ("--scale-dark" in told.err) == scaled
    assert (offered is not None) == (exptime > 500)
    if offered:
        Path("mine.toml").write_text(f"dark_tolerance = {offered[1]}\n")
        assert arrayred("reduce", night, "-o", "out", *QUIET, "--recipe", "mine.toml").code == 0


def test_a_dark_that_cannot_be_scaled_says_what_is_lacking(night: Path, arrayred: Call) -> None:
    for path in night.glob("dark*"):
        fits.setval(path, "EXPTIME", value=900.0)
    told = arrayred("reduce", night, "-o", "out", *QUIET, "--scale-dark")
    assert (told.code, "none can be scaled: no bias frames" in told.err) == (4, True)
    assert "Add a folder of biases" in told.err
    assert "Use --scale-dark" not in told.err


def test_a_shorter_dark_is_scaled_by_the_setting_that_the_error_names(
    night: Path, arrayred: Call
) -> None:
    for path in sorted(night.glob("dark*")):
        bias = path.with_name(path.name.replace("dark", "bias"))
        shutil.copy(path, bias)
        with fits.open(bias, mode="update") as hdus:
            hdus[0].header.update({"IMAGETYP": "Bias Frame", "EXPTIME": 0.0})
            hdus[0].data = hdus[0].data - np.uint16(20)
        fits.setval(path, "EXPTIME", value=300.0)
    told = arrayred("reduce", night, "-o", "out", *QUIET, "--scale-dark")
    assert told.code == 4
    assert 'none can be scaled: they are shorter. Set scale_dark = "both" in the rec' in told.err
    Path("both.toml").write_text('scale_dark = "both"\n')
    assert arrayred("reduce", night, "-o", "out", *QUIET, "--recipe", "both.toml").code == 0


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:30_000])


def untype(path: Path) -> None:
    fits.delval(path, "IMAGETYP")


@pytest.mark.parametrize("spoil", [cut_short, untype])
def test_a_bad_file_fails_its_target_and_not_the_others(
    two: Path, arrayred: Call, spoil: object
) -> None:
    spoil(two / "light-002.fit")  # type: ignore[operator]
    told = arrayred("reduce", two, "-o", "out", *QUIET)
    assert told.code == 3
    assert re.search(r"error: Simulated_star: \S*light-002\.fit: ", told.err)
    assert [path.name for path in Path("out/targets").iterdir()] == ["Deneb"]


def test_every_bad_file_is_named(two: Path, arrayred: Call) -> None:
    for number in (1, 3):
        cut_short(two / f"light-00{number}.fit")
    told = arrayred("reduce", two, "-o", "out", *QUIET)
    assert all(f"light-00{number}.fit: " in told.err for number in (1, 3))
    assert Path("out/targets/Deneb").is_dir()


def test_a_bad_dark_fails_every_target_that_needs_it(two: Path, arrayred: Call) -> None:
    cut_short(two / "dark-002.fit")
    told = arrayred("reduce", two, "-o", "out", *QUIET)
    assert (told.code, Path("out/targets").exists()) == (4, False)
    assert told.err.count("dark-002.fit: The file has") == 1


def test_a_bad_file_of_no_target_fails_alone(two: Path, arrayred: Call) -> None:
    (two / "stray.fit").write_bytes((two / "light-001.fit").read_bytes()[:30_000])
    told = arrayred("reduce", two, "-o", "out", *QUIET)
    assert (told.code, "stray.fit: The file has" in told.err) == (3, True)
    assert sorted(p.name for p in Path("out/targets").iterdir()) == ["Deneb", "Simulated_star"]


def test_products_given_as_a_night_are_called_that(night: Path, arrayred: Call) -> None:
    assert arrayred("reduce", night, "-o", "out", *QUIET).code == 0
    told = arrayred("reduce", "out", "-o", "again", *QUIET)
    assert told.code == 4
    assert re.search(r"products of a reduction .*Name the folder of the raw frames", told.err)


@pytest.mark.parametrize("name", ["SIMULATED_STAR", "simulated star"])
def test_a_target_is_found_without_regard_to_case(night: Path, arrayred: Call, name: str) -> None:
    assert arrayred("reduce", night, "-o", "out", *QUIET, "--target", name).code == 0


def test_settings_that_reference_overrides_are_named(night: Path, arrayred: Call) -> None:
    Path("mine.toml").write_text("[recipe]\nn_sigma = 5.0\n")
    options = (*QUIET, "--night-file", "mine.toml", "--reference")
    told = arrayred("reduce", night, "-o", "out", *options)
    assert "mine.toml: not used with --reference: n_sigma" in told.err
    told = arrayred("reduce", night, "-o", "other", *QUIET, "--night-file", "mine.toml")
    assert "not used" not in told.err


@pytest.mark.parametrize("command", ["report", "verify", "wavelength"])
def test_a_folder_that_is_no_output_is_left_as_it_is(
    night: Path, arrayred: Call, command: str
) -> None:
    before = sorted(night.iterdir())
    told = arrayred(command, night)
    assert (told.code, "No finished products found here" in told.err) == (2, True)
    assert sorted(night.iterdir()) == before


def test_a_processed_light_is_called_that(night: Path, arrayred: Call) -> None:
    for path in night.glob("light*"):
        pixels, header = fits.getdata(path).astype(np.float32), fits.getheader(path)
        for card in ("BZERO", "BSCALE", "CHECKSUM", "DATASUM"):
            header.remove(card, ignore_missing=True)
        pixels -= 1000
        pixels[:2] = np.nan
        fits.writeto(path, pixels * 1.37, header, overwrite=True)
    told = arrayred("reduce", night, "-o", "out", "--no-figures")
    assert "a processed frame of floating-point pixels: a dark has been subtracted" in told.err


# Mistakes: each is told in a sentence, with the words that help


def test_a_folder_in_another_case_is_named(night: Path, arrayred: Call) -> None:
    if Path("NIGHT").exists():
        pytest.skip("upper and lower case are the same here")
    told = arrayred("reduce", "NIGHT", "-o", "out")
    assert told.err == "arrayred: error: NIGHT: No such folder. Did you mean night?\n"


def test_a_pattern_in_another_case_is_corrected(night: Path, arrayred: Call) -> None:
    told = arrayred("reduce", "night", "-o", "out", "--frames", "LIGHT*")
    (helps,) = re.findall(r"use (--frames \S+)\.$", told.err, re.M)
    assert (told.code, helps) == (4, "--frames 'light*'")
    assert arrayred("reduce", "night", "-o", "out", "-q", *shlex.split(helps)).code == 0


def test_products_in_place_of_a_night_name_the_raw_frames(night: Path, arrayred: Call) -> None:
    assert arrayred("reduce", "night", "-o", "out", "--no-figures", "-q").code == 0
    for command in (["inspect", "out"], ["reduce", "out", "-o", "again"]):
        told = arrayred(*command)
        assert (told.code, told.out) == (4, "")
        assert "These are products of a reduction" in told.err
        (helps,) = re.findall(r": arrayred (inspect .*)$", told.err, re.M)
        assert arrayred(*shlex.split(helps)).out.count("dark-00") == 5


def test_an_output_in_a_night_or_of_another_night_names_a_folder_that_works(
    night: Path, arrayred: Call
) -> None:
    shutil.copytree("night", "other")
    for path in Path("other").iterdir():
        pixels, header = fits.getdata(path, header=True)
        header.remove("DATASUM", ignore_missing=True)
        header.remove("CHECKSUM", ignore_missing=True)
        fits.writeto(path, pixels + 1, header, overwrite=True)
    told = arrayred("reduce", "night", "-o", "night/out", "--no-figures", "-q")
    (helps,) = re.findall(r"such as (-o \S+)\.$", told.err, re.M)
    assert arrayred("reduce", "night", "--no-figures", "-q", *shlex.split(helps)).code == 0
    told = arrayred("reduce", "other", "--no-figures", "-q", *shlex.split(helps))
    assert told.code == 2
    (helps,) = re.findall(r"such as (-o \S+),", told.err)
    assert arrayred("reduce", "other", "--no-figures", "-q", *shlex.split(helps)).code == 0


def test_a_command_that_is_refused_for_other_settings_works_with_what_it_names(
    night: Path, arrayred: Call
) -> None:
    command = ("reduce", "night", "-o", "out", "--no-figures", "-q")
    assert arrayred(*command).code == 0
    told = arrayred(*command, "--sigma", "5")
    assert told.code == 2
    assert "--overwrite" in told.err
    assert arrayred(*command, "--sigma", "5", "--overwrite").code == 0


def test_a_night_without_darks_is_reduced_with_what_the_error_names(
    night: Path, arrayred: Call
) -> None:
    darks = Path("darks")
    darks.mkdir()
    for path in night.glob("dark*"):
        path.rename(darks / path.name)
    told = arrayred("reduce", "night", "-o", "out", "--no-figures", "-q")
    assert told.code == 4
    assert "--calibrations DIR" in told.err
    assert "--no-dark" in told.err
    for name, helps in (("a", ["--calibrations", "darks"]), ("b", ["--no-dark"])):
        assert arrayred("reduce", "night", "-o", name, "--no-figures", "-q", *helps).code == 0


def test_a_frame_whose_name_hides_that_it_is_one_is_named(night: Path, arrayred: Call) -> None:
    (night / "light-003.fit").rename(night / "light-003.new")
    (night / "light-009.xisf").write_bytes(b"XISF0100" + bytes(100))
    (night / "notes.txt").write_text("clear")
    told = arrayred("reduce", night, "-o", "out", "--no-figures")
    assert told.code == 0
    assert "light-003.new: a FITS file without a FITS suffix: rename it to .fits" in told.err
    assert "light-009.xisf: an XISF image: convert it to FITS" in told.err
    assert "notes.txt" not in told.err
    for path in night.glob("light-00[12].fit"):
        path.rename(path.with_suffix(""))
    told = arrayred("reduce", night, "-o", "out2", "--no-figures")
    assert told.code != 0
    assert "Look at" in told.err
    assert "light-001, a FITS file without a FITS suffix: rename it to .fits." in told.err
