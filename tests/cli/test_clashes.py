"""Options that contradict each other, or decide nothing, are refused before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Call


@pytest.mark.usefixtures("night")
@pytest.mark.parametrize(
    "options",
    [
        ("--no-sky", "--sky-rows", "1:40"),
        ("--no-sky", "--sky-model", "mean"),
        ("--no-dark", "--master-dark", "dark.fits"),
        ("--no-dark", "--scale-dark"),
        ("--no-flat", "--master-flat", "flat.fits"),
        ("--quiet", "--verbose"),
    ],
)
def test_options_that_exclude_each_other_are_named(
    arrayred: Call, options: tuple[str, ...]
) -> None:
    told = arrayred("reduce", "night", "-o", "out", *options)
    assert (told.code, told.out) == (2, "")
    named = [option for option in options if option.startswith("--")]
    assert " and ".join(named) + " cannot be used together" in told.err
    assert not Path("out").exists()


@pytest.mark.usefixtures("night")
@pytest.mark.parametrize(
    ("option", "way"), [("clip-sigma", "clip"), ("minmax-low", "minmax"), ("minmax-high", "minmax")]
)
def test_an_option_of_another_combination_is_refused(arrayred: Call, option: str, way: str) -> None:
    told = arrayred("reduce", "night", "-o", "out", f"--{option}", 2)
    assert told.code == 2
    assert f"--{option} is for --combine {way}, but combine is average" in told.err
    assert f"Add --combine {way}" in told.err


@pytest.mark.usefixtures("night")
def test_what_a_target_of_the_night_file_combines_by_counts(arrayred: Call) -> None:
    Path("night.toml").write_text('[targets.star]\nframes = ["light*"]\ncombine = "clip"\n')
    options = ("--night-file", "night.toml", "--clip-sigma", 4, "--no-figures")
    told = arrayred("reduce", "night", "-o", "out", *options)
    assert told.code == 0, told.err
