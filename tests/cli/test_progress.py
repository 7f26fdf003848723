"""Bars and lines: what is shown of stages, where, and from when on."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import time
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from arrayred.cli import layout
from arrayred.cli.layout import ProgressBar, shown_stages
from arrayred.progress import handled, progressed, stage
from tests.cli.conftest import Call
from tests.cli.test_prompts import Terminal


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Return a terminal, for `redirect_stderr`, on which nobody need wait for long."""
    monkeypatch.setattr(layout, "_BAR_DELAY_S", 0.02)
    for name, value in {"TERM": "xterm", "COLUMNS": "100"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Screen()


def until(screen: Screen, text: str) -> None:
    """Wait until a text is on the screen."""
    limit = time.monotonic() + 20
    while text not in screen.getvalue():
        assert time.monotonic() < limit, screen.getvalue()
        time.sleep(0.02)


def test_a_stage_that_takes_long_has_a_bar_which_goes_with_it(screen: Screen) -> None:
    with redirect_stderr(screen), shown_stages(), stage("Vega"), stage("combine"):
        progressed(3, 8)
        until(screen, "Vega: combine")
        until(screen, "3/8")
        progressed(7, 8)
        until(screen, "7/8")
    assert screen.getvalue().rstrip().endswith("\x1b[2K")  # what was there is erased


def test_a_stage_that_takes_no_time_has_none(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "_BAR_DELAY_S", 30.0)
    with redirect_stderr(screen), shown_stages(), stage("combine"):
        progressed(1, 2)
    assert screen.getvalue() == ""


def test_bars_come_and_go_one_after_the_other(screen: Screen) -> None:
    with redirect_stderr(screen), handled(ProgressBar()):
        for name in ("Vega", "Deneb"):
            with stage(name):
                until(screen, name)


@pytest.mark.parametrize("how", ["quiet", "pipe", "dumb"])
def test_where_nobody_looks_there_is_no_bar(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    if how == "pipe":
        monkeypatch.setattr(screen, "isatty", lambda: False)
    if how == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    with redirect_stderr(screen), shown_stages(quiet=how == "quiet"), stage("combine"):
        time.sleep(0.1)
    assert screen.getvalue() == ""


def test_names_do_not_steer_the_terminal(screen: Screen) -> None:
    with redirect_stderr(screen), shown_stages(verbose=True), stage("a\x1b[31m[red]b"):
        until(screen, "a\\x1b[31m[red]b")
    assert "\x1b[31m" not in screen.getvalue()


@pytest.mark.usefixtures("night")
def test_verbose_tells_stages_on_stderr(arrayred: Call) -> None:
    told = arrayred("reduce", "night", "-o", "out", "--no-figures", "-v")
    assert told.code == 0
    stages = re.findall(r"^  (.+?) +\d+\.\d{3} s", told.err, re.M)
    stages_of_star = ("read", "combine", "extract", "compare frames", "write")
    star = [f"Simulated_star: {name}" for name in stages_of_star]
    dark = [f"master_dark_600s: {name}" for name in ("read", "combine", "write")]
    expected = ["reading headers", "plan", *dark, "master_dark_600s", *star, "Simulated_star"]
    assert [name for name in stages if not re.search("draw|load", name)] == expected
    assert re.search(r"Simulated_star: read .* s +0\.1 MB read, +\d+ MB/s", told.err)


def test_what_libraries_take_is_not_told_as_reading(night: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "arrayred", "reduce", str(night), "-o", "out", "-v"]
    told = subprocess.run(
        [*command, "--no-figures"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    seconds = dict(re.findall(r"^  master_dark_600s: (.+?) +(\d+\.\d{3}) s", told.stderr, re.M))
    assert list(seconds)[:2] == ["load xarray and dask", "read"]
    assert float(seconds["read"]) < float(seconds["load xarray and dask"])


@pytest.mark.usefixtures("night")
def test_in_a_pipe_nothing_is_shown_unasked(arrayred: Call) -> None:
    assert arrayred("reduce", "night", "-o", "out", "--no-figures").err == ""


def test_a_reduction_on_a_terminal_ends_with_what_was_found_alone(
    night: Path, tmp_path: Path
) -> None:
    command = ("reduce", str(night), "-o", "out", "--no-figures")
    with Terminal(*command, cwd=tmp_path) as terminal:
        assert terminal.ended() == 0
    end = r"Files +5 in out/targets/Simulated_star\s+1 target reduced, .* s\s*$"
    assert re.search(end, terminal.screen)
