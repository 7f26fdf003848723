"""Help pages: every option is explained, and stands under a heading of its kind."""

from __future__ import annotations

import re

import click
import pytest

from arrayred.cli import COMMANDS, cli
from arrayred.cli.options import REST, SECTIONS, Sectioned
from tests.cli.conftest import Call


def command_of(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained_in_a_sentence(name: str) -> None:
    options = [param for param in command_of(name).params if isinstance(param, click.Option)]
    for option in options:
        assert option.help, option.name
        assert option.help.rstrip(".]")[0].isupper() or option.help[0].isupper(), option.help


@pytest.mark.parametrize("name", COMMANDS)
def test_help_fits_into_80_columns(
    name: str, arrayred: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, arrayred(name, "--help").out.splitlines())) <= 80


def test_a_mistyped_command_is_told_the_nearest(arrayred: Call) -> None:
    assert "No such command 'redcue'. Did you mean 'reduce'?" in arrayred("redcue").err
    assert "Did you mean" not in arrayred("zzz").err


@pytest.mark.parametrize("name", ["reduce", "inspect", "cache", "simulate"])
def test_options_stand_under_headings_each_once(arrayred: Call, name: str) -> None:
    command = command_of(name)
    assert isinstance(command, Sectioned)
    told = arrayred(name, "--help").out
    titles = [line[:-1] for line in told.splitlines() if line.endswith(":") and line[0] != " "]
    assert set(titles) <= {*command.headings, REST, "Usage"}
    for option in (param for param in command.params if isinstance(param, click.Option)):
        entry = rf"^  (-\w, )?{re.escape(option.opts[-1])}(?![\w-])"
        assert len(re.findall(entry, told, re.MULTILINE)) == 1, option.opts


def test_headings_name_options_that_exist() -> None:
    commands = [command_of(name) for name in ("reduce", "inspect", "cache")]
    known = {param.name for command in commands for param in command.params}
    assert {name for names in SECTIONS.values() for name in names.split()} <= known


def test_explore_helps_with_its_own_options_and_takes_all_others(arrayred: Call) -> None:
    told = arrayred("explore", "--help")
    assert "--port" in told.out
    assert "--sigma" not in told.out
    assert "arrayred reduce --help" in told.out
    assert arrayred("explore", "nowhere", "--sigma", "3").code == 4
