"""What a shell is told to complete: asked the way bash, zsh and fish ask."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Call

MAIN = "import sys; sys.argv[0] = 'arrayred'; from arrayred.cli import main; main()"


def completed(line: str, *python: str) -> list[str]:
    """Return what bash is told for a line whose last word is incomplete."""
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    result = subprocess.run(
        [sys.executable, *python, "-c", MAIN],
        env={**os.environ, **asked, "_ARRAYRED_COMPLETE": "bash_complete"},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return (result.stdout + result.stderr).splitlines()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("arrayred com", ["plain,combine", "plain,completion"]),
        ("arrayred reduce --sky", ["plain,--sky-rows", "plain,--sky-model"]),
        ("arrayred reduce --combine m", ["plain,median", "plain,minmax"]),
        ("arrayred reduce raw -o out --instrument b", ["plain,barber20"]),
        ("arrayred reduce --instrument my", ["file,my"]),
        ("arrayred reduce raw/2", ["dir,raw/2"]),
        ("arrayred combine raw/dark", ["file,raw/dark"]),
    ],
)
def test_what_can_follow_is_known(line: str, expected: list[str]) -> None:
    assert completed(line) == expected


def test_targets_of_the_night_are_completed(night: Path) -> None:
    line = f"arrayred reduce {night} -o out --target"
    assert completed(f"{line} sim") == ["plain,Simulated_star"]
    assert completed(f"{line} Vega") == [""]
    assert completed("arrayred reduce nowhere -o out --target sim") == [""]
    assert completed("arrayred reduce --target sim") == [""]


def test_an_answer_imports_no_numpy() -> None:
    imports = completed("arrayred reduce --s", "-X", "importtime")
    names = {line.rpartition("|")[2].strip() for line in imports}
    assert "arrayred.cli.options" in names
    assert not names & {"numpy", "xarray", "astropy", "rich"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_arrayred_and_the_shell_takes_it(arrayred: Call, shell: str) -> None:
    told = arrayred("completion", shell)
    assert (told.code, told.err) == (0, "")
    assert f"_ARRAYRED_COMPLETE={shell}_complete" in told.out
    if where := shutil.which(shell):
        Path("script").write_text(told.out)
        subprocess.run([where, "-n", "script"], check=True, timeout=60)


def test_bash_completes_by_the_script(arrayred: Call, tmp_path: Path) -> None:
    bash = shutil.which("bash") or pytest.skip("there is no bash")
    script = tmp_path / "script"
    script.write_text(arrayred("completion", "bash").out)
    (tmp_path / "arrayred").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{MAIN}" "$@"\n')
    (tmp_path / "arrayred").chmod(0o755)
    asked = "COMP_WORDS=(arrayred reduce --no-s); COMP_CWORD=2; _arrayred_completion arrayred"
    told = subprocess.run(
        [bash, "-c", f"source {script}; {asked}; echo ${{COMPREPLY[@]}}"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert told.stdout.split() == ["--no-sky"]


def test_an_unknown_shell_is_refused(arrayred: Call) -> None:
    told = arrayred("completion", "tcsh")
    assert told.code == 2
    assert "'bash', 'zsh', 'fish'" in told.err
