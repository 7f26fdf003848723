"""A way to run the command line in this process that watches over inputs and leftovers."""

from __future__ import annotations

import functools
import gc
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from arrayred.cli import main
from arrayred.io import LOG_FILE, STATE_FOLDER
from tests.cli import forked
from tests.conftest import Run


class Told(NamedTuple):
    """What a command said: its exit code, and the text on both streams."""

    code: int
    out: str
    err: str


Call = Callable[..., Told]


def without_seconds(text: str) -> str:
    """Return what a command printed without the seconds at the end of a line."""
    return re.sub(r"[\d.]+ s$", "", text, flags=re.MULTILINE)


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return content and time of change of every file of a folder but its state and log."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and STATE_FOLDER not in path.parts and path.name != LOG_FILE
    }


def whole(folder: Path | str) -> dict[str, bytes]:
    """Return the content of every file of a folder but its state and log."""
    return {name: content for name, (content, _) in contents(Path(folder)).items()}


@contextmanager
def as_a_process(folder: Path) -> Iterator[pytest.MonkeyPatch]:
    """Let the command line run here as in a process of its own, from a folder.

    No file waits for the disk: what a power failure leaves is a claim of the tests of `publish`.
    """
    handler, thresholds = signal.getsignal(signal.SIGTERM), gc.get_threshold()
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setenv("CI", "1")
        patched.setattr(os, "fsync", lambda _: None)
        yield patched
    signal.signal(signal.SIGTERM, handler)
    gc.set_threshold(*thresholds)
    gc.enable()


@pytest.fixture
def arrayred(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Call]:
    """Return a function that runs a command; whatever it says, it must leave the night alone."""

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

    with as_a_process(tmp_path):
        yield call


def reduced_once(night: Path, folder: Path, *options: str) -> Path:
    """Return the products of a night, without figures, for several tests to read."""
    with as_a_process(folder) as patched:
        patched.setenv("XDG_CACHE_HOME", str(folder / "caches"))
        command = ["reduce", str(night), "-o", "out", "--no-figures", "-q", *options]
        patched.setattr(sys, "argv", ["arrayred", *command])
        with pytest.raises(SystemExit) as exited:
            main()
    assert not exited.value.code
    return folder / "out"


@pytest.fixture(scope="session")
def _undisturbed(_written_night: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reduced_once(_written_night, tmp_path_factory.mktemp("undisturbed"))


@pytest.fixture
def undisturbed(
    _undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, bytes]:
    """Return the products of the night as it is; they lie in a folder of this name, too."""
    monkeypatch.chdir(tmp_path)
    return whole(shutil.copytree(_undisturbed, tmp_path / "undisturbed"))


@pytest.fixture
def fork(tmp_path: Path) -> Run:
    """Return a function that runs the command line in a fork, which has its own streams."""
    return functools.partial(forked.run, cwd=tmp_path)


@pytest.fixture(scope="session")
def _two_stars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.cli.two_stars import two_stars

    return two_stars(tmp_path_factory.mktemp("two") / "night")


@pytest.fixture
def stars(_two_stars: Path, tmp_path: Path) -> Path:
    """Return a folder with the frames of two stars, to be changed at will."""
    return Path(shutil.copytree(_two_stars, tmp_path / "night"))


@pytest.fixture(scope="session")
def _plain_stars(_two_stars: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reduced_once(_two_stars, tmp_path_factory.mktemp("plain"))


@pytest.fixture
def plain(_plain_stars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Return the products of the two stars as they are; they lie in a folder of this name, too."""
    monkeypatch.chdir(tmp_path)
    return whole(shutil.copytree(_plain_stars, tmp_path / "plain"))


@pytest.fixture
def bands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let --memory bound the bands of frames alone, so that a small night has several."""
    monkeypatch.setattr("arrayred.batch.run.memory_of_images", lambda *_: (0, 0))


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each picture be a few bytes: painting takes four times as long as the reduction."""
    content = b"painted elsewhere"
    for module in ("run", "wavelengths"):
        monkeypatch.setattr(f"arrayred.batch.{module}.quick_look_png", lambda *_: content)
        monkeypatch.setattr(
            f"arrayred.batch.{module}.arc_figure", lambda *names: {f"{names[2]}_arc.png": content}
        )
