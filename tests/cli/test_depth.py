"""``--depth``: how many folders deep frames are looked for, and that a deeper one is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Run


@pytest.fixture
def buried(night: Path, tmp_path: Path) -> Path:
    """Return a folder whose lights lie three folders deep and its darks four."""
    top = tmp_path / "top"
    for path in night.iterdir():
        deep = top / "2024" / "03" / ("darks" if path.name.startswith("dark") else ".")
        deep.mkdir(parents=True, exist_ok=True)
        path.rename(deep / path.name)
    return top


def test_inspect_tells_what_it_does_not_reach_and_reaches_it_with_depth(
    buried: Path, fork: Run
) -> None:
    shallow = json.loads(fork("inspect", buried, "--format", "json").stdout)
    assert [frame["type"] for frame in shallow["frames"]] == ["light"] * 3
    deeper = f"{buried / '2024' / '03' / 'darks'}: lies deeper than 3 folders; not used"
    assert deeper in shallow["problems"]
    deep = json.loads(fork("inspect", buried, "--format", "json", "--depth", 4).stdout)
    assert (len(deep["frames"]), deep["problems"]) == (8, [])


def test_frames_are_told_however_deep_they_lie(buried: Path, fork: Run) -> None:
    deepest = buried / "2024" / "03" / "a" / "b" / "c"
    deepest.parent.mkdir(parents=True)
    (buried / "2024" / "03" / "darks").rename(deepest)
    told = json.loads(fork("inspect", buried, "--format", "json").stdout)
    assert f"{deepest}: lies deeper than 3 folders; not used" in told["problems"]


def test_reduce_warns_of_what_it_does_not_reach_and_reaches_it_with_depth(
    buried: Path, fork: Run, tmp_path: Path
) -> None:
    shallow = fork("reduce", buried, "-o", tmp_path / "a", "--no-figures")
    assert shallow.returncode == 4
    assert "No dark frames found" in shallow.stderr
    deep = fork("reduce", buried, "-o", tmp_path / "b", "--no-figures", "--depth", 4)
    assert (deep.returncode, deep.stderr) == (0, "")
    one = fork("reduce", buried / "2024" / "03", "-o", tmp_path / "c", "--no-figures", "--depth", 1)
    assert one.returncode == 4


@pytest.mark.parametrize("depth", ["0", "-1", "deep"])
def test_a_depth_that_makes_no_sense_is_a_usage_error(depth: str, night: Path, fork: Run) -> None:
    result = fork("inspect", night, "--depth", depth)
    assert result.returncode == 2
    assert "--depth" in result.stderr
