"""Settings are declared once: options, files, keys, help and documentation follow from that.

``python -m tests.test_settings`` writes the table of settings into the documentation anew.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

import arrayred as ar
from arrayred.cli import cli
from arrayred.cli.options import SECTIONS, settle_settings
from arrayred.config import (
    OF_MASTERS,
    PER_NIGHT,
    SETTINGS,
    NightFile,
    TargetFile,
    check_value,
    default_of,
    toml_text,
)
from arrayred.config.recipe import meaning_of, value_name
from arrayred.errors import UsageError

PAGE = Path(__file__).parents[1] / "docs" / "reducing.md"
REFRESH = "python -m tests.test_settings"
TABLE = re.compile(r"(?<=<!-- settings -->\n).*?(?=<!-- end of settings -->)", re.DOTALL)
EACH = pytest.mark.parametrize("name", SETTINGS)


def settings_table() -> str:
    """Return all settings as a table in Markdown, under the headings of the help."""
    lines = ["| setting | option | default | what it does |", "| --- | --- | --- | --- |"]
    section = ""
    for name, known in SETTINGS.items():
        if known.section != section:
            section = known.section
            lines.append(f"| **{section}** | | | |")
        typed = f"`{f'{known.option} {value_name(name)}'.rstrip()}`" if known.option else ""
        default, unit = default_of(name), known.unit and f" {known.unit}"
        shown = "none" if default is None else f"`{toml_text(default)}`{unit}"
        cells = f"`{name}`", typed, shown, meaning_of(name)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def options_of_reduce() -> dict[str, click.Option]:
    command = cli.get_command(click.Context(cli), "reduce")
    assert command is not None
    return {str(p.name): p for p in command.params if isinstance(p, click.Option)}


@EACH
def test_a_setting_is_a_field_whose_default_fits_and_survives_a_file(
    name: str, tmp_path: Path
) -> None:
    default = default_of(name)
    assert getattr(ar.Recipe(), name) == default
    check_value(name, default)
    if default is not None:  # TOML has no word for it
        (path := tmp_path / "recipe.toml").write_text(f"{name} = {toml_text(default)}\n")
        assert tomllib.loads(path.read_text())
        assert ar.Recipe.from_toml(path) == ar.Recipe()


@EACH
def test_a_setting_has_the_option_that_it_declares(name: str) -> None:
    known, options = SETTINGS[name], options_of_reduce()
    if not known.option:
        assert name not in options
        return
    option = options[name]
    assert option.opts == [known.option]
    assert option.is_flag == (known.sets is not None)
    if known.sets is None:
        assert option.help is not None
        assert option.help.startswith(known.help)
    assert name in SECTIONS[known.section].split()


def typed(name: str) -> tuple[list[str], Any]:
    """Return the words of an option, and the value that they mean: not the default."""
    known, option = SETTINGS[name], options_of_reduce()[name]
    if known.sets is not None:
        return [known.option], known.sets
    if isinstance(option.type, click.Choice):
        value = next(choice for choice in option.type.choices if choice != default_of(name))
        return [known.option, value], value
    if option.type.name == "A:B":
        return [known.option, "3:7"], (3, 7)
    if option.type is click.STRING:
        return [known.option, "mask.fits"], "mask.fits"
    number = (default_of(name) or int(known.at_least)) + 1
    return [known.option, str(number)], number


@pytest.mark.parametrize("name", [name for name, known in SETTINGS.items() if known.option])
def test_an_option_decides_its_setting_and_no_other(name: str) -> None:
    words, value = typed(name)
    command = cli.get_command(click.Context(cli), "reduce")
    assert command is not None
    given = command.make_context("reduce", ["night", "-o", "out", *words]).obj
    night_file = NightFile(targets={"a": TargetFile(recipe={"combine": "clip"}),
                                    "b": TargetFile(recipe={"combine": "minmax"})})  # fmt: skip
    recipe, _ = settle_settings(given, night_file)
    assert recipe.changed() == {name: value}


@EACH
def test_what_a_setting_goes_with_exists(name: str) -> None:
    known, options = SETTINGS[name], options_of_reduce()
    assert set(known.excludes) <= set(options)
    assert known.section in SECTIONS
    if known.only_with is not None:
        check_value(*known.only_with)
    assert known.help.endswith(".")
    assert known.help[0].isupper()


@pytest.mark.parametrize(
    ("name", "least"), [(n, s.at_least) for n, s in SETTINGS.items() if s.at_least]
)
def test_less_than_the_least_is_refused(name: str, least: float) -> None:
    with pytest.raises(UsageError, match=f"{name} must be .* at least {least:g}, not"):
        ar.Recipe().replace(**{name: type(least)(least - 1)})


def test_settings_of_a_night_and_of_its_masters_are_those_declared() -> None:
    assert {
        "dark_method",
        "keep_duplicates",
        "literal_types",
        "max_frame_mb",
        "overscan",
    } == PER_NIGHT
    assert set(OF_MASTERS) == {"dark_method", "overscan", "output_dtype"}


@EACH
def test_the_help_of_the_recipe_explains_every_field(name: str) -> None:
    told = " ".join((inspect.getdoc(ar.Recipe) or "").split())
    assert f"{name} : {' '.join(SETTINGS[name].help.split())}" in told


def test_the_table_of_settings_in_the_documentation_is_that_of_the_recipe() -> None:
    found = TABLE.search(PAGE.read_text("utf-8"))
    assert found is not None
    assert found[0] == settings_table(), f"{PAGE.name} is out of date. Refresh it: {REFRESH}"
    assert found[0].count("\n| `") == len(dataclasses.fields(ar.Recipe))


if __name__ == "__main__":
    page = PAGE.read_text("utf-8")
    PAGE.write_text(TABLE.sub(lambda _: settings_table(), page), "utf-8")
