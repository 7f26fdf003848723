"""A night file is read key by key; what means nothing is told, with the nearest that does."""

from __future__ import annotations

from pathlib import Path

import pytest

from arrayred.config import NightFile, TargetFile
from arrayred.errors import UsageError

EVERYTHING = """\
instrument = "barber20"
frames = "*hr*"
unsigned = "wrapped"
exclude = ["*-07*", "x-1..3"]
calibrations = ["../darks", "/library"]

[masters]
dark = "masters/dark.fits"
bias = "/masters/bias.fits"

[types]
arc = ["*neon*"]
bias = ["zero"]

[recipe]
combine = "median"
background_rows = [3, 9]

[cards]
OBSERVER = "Me"
LINES = 1200

[targets."59 Cyg"]
frames = ["hr-10..12", "hr-20"]
lamps = ["neon-1"]
rows = [484, 518]
n_sigma = 3
object = "59 Cyg"
grating = "1200"
grating_angle = 26.0
cards = { SLIT = 2.5 }

[targets.moon]
rows_from = "59 Cyg"
"""


def read(folder: Path, text: str) -> NightFile:
    path = folder / "night.toml"
    path.write_text(text, "utf-8")
    return NightFile.from_toml(path)


def test_every_key_is_read(tmp_path: Path) -> None:
    cards = {"SLIT": 2.5, "OBJECT": "59 Cyg", "GRATING": "1200", "GRATANG": 26.0}
    star = TargetFile(
        ("hr-10..12", "hr-20"), ("neon-1",), "", cards, {"rows": [484, 518], "n_sigma": 3}
    )
    assert read(tmp_path, EVERYTHING) == NightFile(
        instrument="barber20",
        frames="*hr*",
        unsigned="wrapped",
        exclude=("*-07*", "x-1..3"),
        calibrations=(tmp_path / "../darks", Path("/library")),
        masters={"dark": tmp_path / "masters/dark.fits", "bias": Path("/masters/bias.fits")},
        types={"arc": ("*neon*",), "bias": ("zero",)},
        recipe={"combine": "median", "background_rows": [3, 9]},
        cards={"OBSERVER": "Me", "LINES": 1200},
        targets={"59 Cyg": star, "moon": TargetFile(rows_from="59 Cyg")},
        path=tmp_path / "night.toml",
    )


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "# nothing\n") == NightFile(path=tmp_path / "night.toml")
    assert read(tmp_path, "[targets.Vega]\n").targets == {"Vega": TargetFile()}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("instrumnt = 'x'", "instrument"),
        ("target = {}", "targets"),
        ("[calibration]", "calibrations"),
        ("[masters]\ndarks = 'x'", "dark"),
        ("[types]\nlights = ['x']", "light"),
        ("[recipe]\nn_sgima = 3", "n_sigma"),
        ("[targets.Vega]\nframe = ['x']", "frames"),
        ("[targets.Vega]\nrow_from = 'x'", "rows_from"),
        ("[targets.Vega]\ngrating_angel = 26", "grating_angle"),
        ("[targets.Vega]\nbackground_row = [1, 2]", "background_rows"),
    ],
)
def test_an_unknown_key_names_the_nearest_and_the_file(
    tmp_path: Path, text: str, meant: str
) -> None:
    with pytest.raises(UsageError, match=f"Did you mean '{meant}'") as caught:
        read(tmp_path, text)
    assert caught.value.path == str(tmp_path / "night.toml")


def test_the_path_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'path' is not a known key"):
        read(tmp_path, "path = 'x'")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("instrument = 3", "instrument must be a string"),
        ("frames = ['x']", "frames must be a string"),
        ("unsigned = true", "unsigned must be a string"),
        ("unsigned = 'yes'", "'yes' is not a known way to read counts"),
        ("exclude = 'x'", "exclude must be a list of strings"),
        ("calibrations = [1]", "calibrations must be a list of strings"),
        ("masters = 'x'", "masters must be a table"),
        ("[masters]\ndark = ['x']", "dark must be a string"),
        ("types = ['x']", "types must be a table"),
        ("[types]\narc = '*neon*'", "arc must be a list of strings"),
        ("recipe = 'x'", "recipe must be a table"),
        ("[recipe]\ncombine = 'mean'", "combine must be one of average, median"),
        ("[recipe]\nrows = [9, 3]", "rows must be two rows"),
        ("cards = []", "cards must be a table"),
        ("[cards]\nX = [1]", "X must be a string or a number"),
        ("targets = 5", "targets must be a table"),
        ("[targets]\nVega = 'x'", "targets.Vega must be a table"),
        ("[targets.Vega]\nframes = 'x'", "frames must be a list of strings"),
        ("[targets.Vega]\nlamps = 'x'", "lamps must be a list of strings"),
        ("[targets.Vega]\nrows_from = ['x']", "rows_from must be a string"),
        ("[targets.Vega]\ncards = 5", "cards must be a table"),
        ("[targets.Vega.cards]\nX = {}", "X must be a string or a number"),
        ("[targets.Vega]\nobject = ['x']", "OBJECT must be a string or a number"),
        ("[targets.Vega]\nn_sigma = 'x'", "n_sigma must be a number"),
        ("[targets.Vega]\nrows = 5", "rows must be two rows"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_name(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        read(tmp_path, text)
    assert caught.value.path == str(tmp_path / "night.toml")


@pytest.mark.parametrize(
    "key", ["dark_method = 'median'", "keep_duplicates = true", "max_frame_mb = 5"]
)
def test_what_would_touch_other_targets_is_refused_for_one(tmp_path: Path, key: str) -> None:
    with pytest.raises(UsageError, match="would affect other targets too") as caught:
        read(tmp_path, f"[targets.Vega]\n{key}\n")
    assert "[recipe]" in caught.value.hint
    assert read(tmp_path, f"[recipe]\n{key}\n").recipe


def test_rows_and_rows_from_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'Vega' has both rows and rows_from"):
        read(tmp_path, "[targets.Vega]\nrows = [1, 2]\nrows_from = 'Deneb'\n")


@pytest.mark.parametrize("content", [b"frames = ", b"[targets"])
def test_what_is_no_toml_is_said_with_the_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "night.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="not TOML") as caught:
        NightFile.from_toml(path)
    assert caught.value.path == str(path)


@pytest.mark.parametrize("name", ["mine.toml", "../mine.toml"])
def test_an_instrument_file_lies_beside_the_night_file(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, f"instrument = '{name}'").instrument == str(tmp_path / name)
    assert NightFile.from_tables({"instrument": name}).instrument == name


def test_a_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    file = read(tmp_path, "calibrations = ['~/darks']\n")
    assert file.calibrations == (tmp_path / "me" / "darks",)


def test_settings_that_something_else_decides_are_left_out(tmp_path: Path) -> None:
    file = read(tmp_path, EVERYTHING).without({"combine", "rows"})
    assert file.recipe == {"background_rows": [3, 9]}
    assert file.targets["59 Cyg"].recipe == {"n_sigma": 3}
    assert file.targets["59 Cyg"].frames == ("hr-10..12", "hr-20")
