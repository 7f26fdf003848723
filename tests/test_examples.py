"""Every example runs, with warnings as errors, and tells what the night's truth is."""

from __future__ import annotations

import runpy
import tempfile
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[0-9]*.py"))


@pytest.mark.parametrize(
    "path",
    [
        # Workers and processes are claims of tests/cli, too; here they take as long as all others.
        pytest.param(path, marks=pytest.mark.slow if "cluster" in path.stem else (), id=path.stem)
        for path in EXAMPLES
    ],
)
def test_example_runs(
    path: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    runpy.run_path(str(path))
    assert capsys.readouterr().out


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_text_between_its_lines_of_code(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert lines[:2] == ["# %% [markdown]", f"# # {lines[1][4:]}"]
    cells = [line for line in lines if line.startswith("# %%")]
    assert cells.count("# %% [markdown]") >= 4
    assert not any(line.startswith("import matplotlib") for line in lines)
