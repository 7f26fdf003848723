"""What the tests share: the real nights where they are at hand, and simulated ones on disk."""

from __future__ import annotations

import functools
import gc
import itertools
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import xarray as xr
from hypothesis import settings

from arrayred import pipeline
from arrayred.batch import wavelengths
from arrayred.errors import ArrayredError
from arrayred.io import write_frames
from arrayred.simulate import Detector, SimulatedNight, Star
from tests.io.remote_store import Store, store_in_memory

REAL_NIGHTS = Path(
    os.environ.get("ARRAYRED_NIGHTS", Path(__file__).parents[2] / "shared" / "nights")
)
Run = Callable[..., "subprocess.CompletedProcess[str]"]

# Modules are compiled once, whatever the environment says: without their bytecode each process that
# a test starts takes 0.5 s longer, and collecting the tests twice the time (35 s for 17 s).
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Nor is a list of the system's fonts made by each process, which has caches of its own: 1.2 s.
os.environ.setdefault("MPLCONFIGDIR", matplotlib.get_cachedir())


# How long an example takes is no claim: on a busy machine it takes ten times as long.
settings.register_profile("arrayred", deadline=None)
settings.load_profile("arrayred")


ALL_ITEMS = pytest.StashKey[list[pytest.Item]]()
"""What was collected, whatever is run of it."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the slow tests, so that no process waits for one of them at the end."""
    config.stash[ALL_ITEMS] = items[:]
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Let garbage be looked for as seldom as in a command, and not in what was collected.

    A look through all of that takes 0.5 s: it was a tenth of the time of the suite.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


@pytest.fixture(scope="session")
def _numbered_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("caches")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _caches_of_its_own(_numbered_caches: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test find or leave anything among the user's caches."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(next(_numbered_caches)))


@pytest.fixture(scope="session", autouse=True)
def _lamps_identified_once() -> Iterator[None]:
    """Let commands identify equal lines once in a process: it takes ten times all the rest.

    The tests of `identify` call it by itself, and processes that tests start are as they are.
    """
    known: dict[bytes, xr.Dataset | ArrayredError] = {}
    identify = pipeline.identify

    def identified(lines: xr.Dataset, lamp: str, **hints: Any) -> xr.Dataset:
        key = pickle.dumps((lines.to_dict(), lamp, hints))
        if key not in known:
            try:
                known[key] = identify(lines, lamp, **hints)
            except ArrayredError as error:
                known[key] = error
        found = known[key]
        if isinstance(found, ArrayredError):
            raise found
        return found.copy(deep=True)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline, "identify", identified)
        patched.setattr(wavelengths, "identify", identified)
        yield


@pytest.fixture(scope="session")
def nights() -> Path:
    """Return the folder of real nights, or skip."""
    if not REAL_NIGHTS.is_dir():
        pytest.skip(f"real nights are not at {REAL_NIGHTS}; set ARRAYRED_NIGHTS")
    return REAL_NIGHTS


@pytest.fixture(scope="session")
def barber(nights: Path) -> Path:
    """Return the raw frames of the published night."""
    return nights / "barber-2020-11-03" / "raw"


@pytest.fixture(scope="session")
def reduced_real(nights: Path) -> Callable[[str], xr.DataTree]:
    """Return a function that reduces a real night without a setting, once: nobody changes it."""
    return functools.cache(lambda name: pipeline.reduce_night(nights / name))


@pytest.fixture(scope="session")
def reduced_barber(reduced_real: Callable[[str], xr.DataTree]) -> xr.DataTree:
    """Return what the published night is reduced to."""
    return reduced_real("barber-2020-11-03/raw")


@pytest.fixture(scope="session")
def simulated() -> SimulatedNight:
    """Return a small night: 5 darks and 3 lights of 160 x 120 pixels, one star."""
    star = Star(lines=((40.0, 0.6, 3.0),), row=85.0)
    return SimulatedNight(Detector(shape=(160, 120)), star, seed=7)


@pytest.fixture(scope="session")
def _written_night(simulated: SimulatedNight, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "night"
    write_frames(simulated.frames(), folder)
    return folder


@pytest.fixture
def night(_written_night: Path, tmp_path: Path) -> Path:
    """Return a folder with the simulated night's frames, to be changed at will."""
    folder = tmp_path / "night"
    folder.mkdir()
    for path in _written_night.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


@pytest.fixture
def bucket() -> Iterator[Store]:
    """Return an empty store of objects in memory that counts what travels."""
    with store_in_memory() as store:
        yield store


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs the command line in a process of its own."""

    def call(*args: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "arrayred", *map(str, args)]
        settings = {"cwd": tmp_path, "capture_output": True, "text": True, "timeout": 120}
        return subprocess.run(command, check=False, **(settings | options))  # type: ignore[call-overload, no-any-return]

    return call
