"""The hunt for faults, for seconds: `python -m tests.hunt` goes on for hours."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hunt import shim

ROOT = Path(__file__).parents[1]
needs_compiler = pytest.mark.skipif(shim.library() is None, reason="no C compiler, or not Linux")


def hunted(kind: str, trials: int, folder: Path) -> str:
    """Return what a hunt prints that finds nothing."""
    command = [sys.executable, "-m", "tests.hunt", kind, "--minutes", "30", "--seed", "11"]
    command += ["--trials", str(trials), "--cases", str(folder / "cases")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    assert not (folder / "cases").exists()
    return done.stdout


@needs_compiler
@pytest.mark.slow
def test_runs_that_are_killed_anywhere_are_completed(tmp_path: Path) -> None:
    said = hunted("kills", 24, tmp_path)
    tried = {what: int(n) for n, what in re.findall(r"(\d+) (kills[a-z ]+|runs[a-z ]+)", said)}
    assert sum(tried.values()) == 24
    assert tried["kills at a file operation"] > 10
    assert tried["kills at a random moment"] > 0


@needs_compiler
@pytest.mark.slow
def test_storage_that_fails_leaves_nothing_false(tmp_path: Path) -> None:
    assert "exit 5" in hunted("faults", 40, tmp_path)


@pytest.mark.slow
def test_files_that_lie_are_refused_or_read_as_by_astropy(tmp_path: Path) -> None:
    said = hunted("fuzz", 400, tmp_path)
    assert "read as by astropy" in said
    assert "refused" in said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits and streams of Linux")
def test_odd_surroundings_change_no_product(tmp_path: Path) -> None:
    assert "exit 0" in hunted("surroundings", 20, tmp_path)


@needs_compiler
def test_what_the_library_strikes_fails_at_the_nth_call(tmp_path: Path) -> None:
    program = (
        "import os, sys\n"
        "for number in range(4):\n"
        "    try: print(os.open(f'{sys.argv[1]}/{number}', os.O_CREAT) > 0)\n"
        "    except OSError as error: print(error.errno)\n"
    )
    environment = {"LD_PRELOAD": str(shim.library()), "HUNT_ARM": f"open:2:28:0:{tmp_path}"}
    for strike, said in (("open:2:28:0", ["True", "28", "True", "True"]),
                         ("open:3:5:1", ["True", "True", "5", "5"]),
                         ("rename:1:5:1", ["True"] * 4)):  # fmt: skip
        environment["HUNT_ARM"] = f"{strike}:{tmp_path}"
        command = [sys.executable, "-c", program, str(tmp_path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.split() == said
