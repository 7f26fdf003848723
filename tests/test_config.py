"""Settings: read from TOML, checked by name, type and choice; instruments and their spellings."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import arrayred as ar
from arrayred.config import NightFile, builtin_instruments
from arrayred.errors import UsageError
from arrayred.io.files import paths_in
from arrayred.model import FRAME_TYPES


def toml(folder: Path, text: str, name: str = "settings.toml") -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_a_recipe_is_read_and_the_rest_keeps_its_default(tmp_path: Path) -> None:
    path = toml(
        tmp_path,
        'combine = "median"\nn_sigma = 5\nrows = [3, 9]\nbackground_rows = [10, 20]\nsky = false\n',
    )
    assert ar.Recipe.from_toml(path) == ar.Recipe(
        combine="median", n_sigma=5, rows=(3, 9), background_rows=(10, 20), sky=False
    )


def test_an_empty_file_is_the_default_recipe(tmp_path: Path) -> None:
    recipe = ar.Recipe.from_toml(toml(tmp_path, "# nothing\n"))
    assert recipe == ar.Recipe()
    assert hash(recipe) == hash(ar.Recipe())


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("n_sgima", "n_sigma"), ("background_row", "background_rows"), ("sky_ofset", "sky_offset")],
)
def test_an_unknown_setting_names_the_nearest(tmp_path: Path, typed: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"Did you mean '{meant}'") as caught:
        ar.Recipe.from_toml(toml(tmp_path, f"{typed} = 4\n"))
    assert caught.value.keyword == typed


def test_a_setting_that_resembles_none_lists_all() -> None:
    with pytest.raises(UsageError, match=r"Valid are .*n_sigma.*whole_span"):
        ar.Recipe().replace(zzzzzzzz=1)


@pytest.mark.parametrize("content", [b"n_sigma = ", b"[recipe"])
def test_what_is_no_toml_is_said_with_the_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="not TOML") as caught:
        ar.Recipe.from_toml(path)
    assert caught.value.path == str(path)


UNREADABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: None, "No such file"),
    "a folder": (lambda path: path.mkdir(), "not a regular file|directory"),
    "a pipe that nobody writes": (lambda path: os.mkfifo(path), "not a regular file"),
    "a device without end": (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    "larger than any list": (lambda path: (path.touch(), os.truncate(path, 1 << 40)), "1099511627"),
    "UTF-16": (lambda path: path.write_text("n_sigma = 4\n", "utf-16"), "it is UTF-16"),
    "NUL bytes": (lambda path: path.write_bytes(b"n_sigma\0= 4\n"), "NUL bytes"),
    "latin": (lambda path: path.write_bytes(b"n_sigma = '\xff'\n"), "byte 11 is not UTF-8"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_a_text_that_cannot_be_read_is_refused_with_its_path(tmp_path: Path, kind: str) -> None:
    make, why = UNREADABLE[kind]
    make(tmp_path / "x")
    for read in (ar.Recipe.from_toml, NightFile.from_toml, paths_in):
        if kind == "latin" and read is paths_in:
            continue  # a path may have any bytes
        with pytest.raises(UsageError, match=f"cannot be read .*({why})") as caught:
            read(tmp_path / "x")
        assert caught.value.path == str(tmp_path / "x")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dark_method", "mean"),
        ("combine", "Median"),
        ("combine", None),
        ("scale", "exposure"),
        ("weights", "exptime"),
        ("minmax_low", -1),
        ("minmax_high", 1.5),
        ("sky_side", "left"),
        ("output_dtype", "int16"),
        ("sky", "yes"),
        ("sky", 1),
        ("whole_span", 0),
        ("skip_last_column", 1.0),
        ("n_sigma", "4"),
        ("n_sigma", -1),
        ("n_sigma", True),
        ("n_sigma", float("nan")),
        ("n_sigma", float("inf")),
        ("n_sigma", [4]),
        ("dark_tolerance", -0.1),
        ("dark_tolerance", None),
        ("max_gap", 2.5),
        ("max_gap", -1),
        ("max_gap", False),
        ("sky_offset", "50"),
        ("sky_offset", 50.0),
        ("background_rows", None),
        ("background_rows", 50),
        ("background_rows", [50]),
        ("background_rows", [50, 1]),
        ("background_rows", [0, 50]),
        ("background_rows", [1.0, 50.0]),
        ("background_rows", [True, 50]),
        ("background_rows", "1:50"),
        ("rows", [1, 2, 3]),
        ("rows", [7, 6]),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"{name} must be") as caught:
        ar.Recipe().replace(**{name: value})
    assert caught.value.keyword == name
    assert caught.value.value is value


@pytest.mark.parametrize(
    "changes",
    [
        {"dark_method": "average", "combine": "median", "dark_tolerance": 0},
        {"rows": None, "sky": False, "max_gap": 0},
        {"rows": (5, 5), "background_rows": (1, 1), "n_sigma": 0.0},
        {"sky_side": "below", "sky_offset": 0, "output_dtype": "float64"},
    ],
)
def test_values_of_the_right_kind_are_taken(changes: dict[str, Any]) -> None:
    recipe = ar.Recipe().replace(**changes)
    assert {name: getattr(recipe, name) for name in changes} == changes
    assert ar.Recipe() == ar.Recipe().replace()


@pytest.mark.parametrize("combine", ["median", "minmax"])
def test_weights_without_a_mean_are_refused(combine: Any) -> None:
    with pytest.raises(UsageError, match="Use --combine average or clip") as caught:
        ar.Recipe(combine=combine, weights="noise")
    assert caught.value.keyword == "weights"


def test_a_clip_that_leaves_out_more_than_it_keeps_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"clip_sigma must be a number of at least 1, not 0\.5"
    ) as caught:
        ar.Recipe(clip_sigma=0.5)
    assert caught.value.keyword == "clip_sigma"


def test_the_reference_is_the_published_procedure() -> None:
    published = {
        "dark_method": "median",
        "dark_tolerance": 0.5,
        "combine": "average",
        "n_sigma": 4.0,
        "background_rows": (1, 50),
        "skip_last_column": True,
        "whole_span": True,
        "sky_offset": 50,
        "sky_side": "clipped",
        "sky_per_bright_row": True,
        "output_dtype": "float64",
    }
    reference = ar.Recipe.reference()
    assert {name: getattr(reference, name) for name in published} == published


def test_the_instruments_that_come_along_load() -> None:
    assert builtin_instruments() == ["barber20", "generic"]
    for name in builtin_instruments():
        instrument = ar.Instrument.load(name)
        assert instrument.name == name
        assert set(instrument.types) == set(FRAME_TYPES)


def test_barber20_has_the_cards_of_the_published_procedure() -> None:
    instrument = ar.Instrument.load("barber20")
    assert instrument.cards == {"TELESCOP": "Barber20", "INSTRUME": "10-C Spectrograph"}
    assert instrument.required == ("OBJECT", "GRATING", "GRATANG")
    assert instrument.keywords == ar.Instrument.load("generic").keywords


@pytest.mark.parametrize(
    ("spelling", "frame_type"),
    [
        ("Light Frame", "light"),
        ("LIGHT_FRAME", "light"),
        ("  light   frame ", "light"),
        ("Science", "light"),
        ("object", "light"),
        ("Dark Frame", "dark"),
        ("DARK", "dark"),
        ("Bias Frame", "bias"),
        ("zero", "bias"),
        ("Flat Field", "flat"),
        ("FLAT", "flat"),
        ("comp", "arc"),
        ("Arc", "arc"),
        ("Tricolor Image", None),
        ("darkish", None),
        ("", None),
        ("None", None),
    ],
)
def test_spellings_mean_frame_types(spelling: str, frame_type: str | None) -> None:
    assert ar.Instrument.load("generic").frame_type_of(spelling) == frame_type


def test_every_spelling_means_one_type_and_is_written_as_it_is_compared() -> None:
    types = ar.Instrument.load("generic").types
    spellings = [spelling for group in types.values() for spelling in group]
    assert len(set(spellings)) == len(spellings)
    assert all(spelling == " ".join(spelling.lower().split()) for spelling in spellings)


INSTRUMENT = """
required = ["GRATING"]
[keywords]
exptime = ["DURATION"]
[types]
dark = ["dunkelbild"]
[cards]
TELESCOP = "Backyard"
SITELAT = 50.5
"""


@pytest.mark.parametrize("as_text", [True, False])
def test_an_instrument_from_a_file_is_completed_from_generic(tmp_path: Path, as_text: bool) -> None:
    path = toml(tmp_path, INSTRUMENT, "backyard.toml")
    instrument = ar.Instrument.load(str(path) if as_text else path)
    generic = ar.Instrument.load("generic")
    assert instrument.name == "backyard"
    exptime, dark = generic.keywords["exptime"], generic.types["dark"]
    assert instrument.keywords == {**generic.keywords, "exptime": ("DURATION", *exptime)}
    assert instrument.types == {**generic.types, "dark": ("dunkelbild", *dark)}
    assert instrument.cards == {"TELESCOP": "Backyard", "SITELAT": 50.5}
    assert instrument.required == ("GRATING",)
    assert instrument.frame_type_of("Dunkelbild") == "dark"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("require = ['OBJECT']", "required"),
        ("[keyword]\nexptime = ['T']", "keywords"),
        ("[keywords]\nexposure_time = ['T']\n", "exptime"),
        ("[types]\ndarks = ['d']", "dark"),
    ],
)
def test_an_unknown_key_of_an_instrument_names_the_nearest(
    tmp_path: Path, text: str, meant: str
) -> None:
    with pytest.raises(UsageError, match=f"Did you mean '{meant}'"):
        ar.Instrument.load(toml(tmp_path, text))


def test_an_unknown_instrument_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'barber20'"):
        ar.Instrument.load("barber")


@pytest.mark.parametrize(
    "text",
    [
        "[keywords]\nexptime = 'DURATION'",
        "[keywords]\nexptime = 5",
        "[types]\ndark = 'dunkelbild'",
        "required = 'GRATING'",
        "required = 3",
        "keywords = 3",
        "types = ['dark']",
        "cards = 'TELESCOP'",
        "[cards]\nTELESCOP = ['a', 'b']",
    ],
)
def test_an_instrument_setting_of_the_wrong_kind_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError):
        ar.Instrument.load(toml(tmp_path, text))


@pytest.mark.parametrize("choice", [{"near_row": 30}, {"all_spectra": True}])
@pytest.mark.parametrize("other", [{"rows": (3, 9)}, {"whole_span": True}])
def test_a_choice_among_spectra_goes_with_no_rows(
    choice: dict[str, Any], other: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="chooses among detected spectra"):
        ar.Recipe().replace(**choice, **other)


def test_a_night_file_is_no_recipe_and_the_error_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"settings\.toml: .*night files.* --night-file"):
        ar.Recipe.from_toml(toml(tmp_path, "[recipe]\nn_sigma = 3.0\n"))
