"""A way to run the command line in this process that watches over inputs and leftovers."""

from __future__ import annotations

import gc
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from arrayred.cli import main
from arrayred.io import LOG_FILE, STATE_FOLDER


class Told(NamedTuple):
    """What a command said: its exit code, and the text on both streams."""

    code: int
    out: str
    err: str


Call = Callable[..., Told]


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and time of change of every file of a folder but its state and log."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and STATE_FOLDER not in path.parts and path.name != LOG_FILE
    }


@pytest.fixture
def arrayred(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Call]:
    """Return a function that runs a command; whatever it says, it must leave the night alone."""
    handler, thresholds = signal.getsignal(signal.SIGTERM), gc.get_threshold()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CI", "1")

    def call(*args: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["arrayred", *map(str, args)])
        before = contents(tmp_path / "night")
        with pytest.raises(SystemExit) as exited:
            main()
        said = capsys.readouterr()
        assert contents(tmp_path / "night") == before
        assert not list(tmp_path.rglob("*.tmp"))
        assert "Traceback" not in said.err
        assert not [record for record in caplog.records if record.name.startswith("matplotlib")]
        return Told(int(exited.value.code or 0), said.out, said.err)

    yield call
    signal.signal(signal.SIGTERM, handler)
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    gc.enable()


@pytest.fixture(scope="session")
def _two_stars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.cli.two_stars import two_stars

    return two_stars(tmp_path_factory.mktemp("two") / "night")


@pytest.fixture
def stars(_two_stars: Path, tmp_path: Path) -> Path:
    """Return a folder with the frames of two stars, to be changed at will."""
    return Path(shutil.copytree(_two_stars, tmp_path / "night"))


@pytest.fixture
def bands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let --memory bound the bands of frames alone, so that a small night has several."""
    monkeypatch.setattr("arrayred.batch.run.memory_beside_bands", lambda *_: 0)
    monkeypatch.setattr("arrayred.batch.run.OF_LATER_STEPS", 0)
