"""Small stores to be read, damaged and forged."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import arrayred as ar
from arrayred.io import cache, write_frames, zarr_store
from arrayred.night import cache_night
from arrayred.simulate import Detector, SimulatedNight

Edit = Callable[[str, Callable[[Any], None]], None]


def cached(folder: Path, place: Path) -> Path:
    """Write the cache of a folder of frames."""
    return cache_night(ar.open_night(folder), place)


def forget() -> None:
    """Forget what was read of caches, as another process would not know it."""
    cache._open_once.cache_clear()
    cache._is_marked.cache_clear()
    cache._open_caches.clear()
    zarr_store.open_pixels.cache_clear()


@pytest.fixture(scope="session")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 2 darks and 2 lights of 100 x 40 pixels, and a file that is no frame."""
    folder = tmp_path_factory.mktemp("cached") / "night"
    write_frames(SimulatedNight(Detector(shape=(100, 40)), n_darks=2, n_lights=2).frames(), folder)
    (folder / "notes.fit").write_text("clouds")
    return folder


@pytest.fixture(scope="session")
def _store(frames: Path) -> Path:
    return cached(frames, frames.parent / "store.zarr")


@pytest.fixture
def store(_store: Path, tmp_path: Path) -> Path:
    """Return the cache of the folder, to be changed at will."""
    forget()
    return Path(shutil.copytree(_store, tmp_path / "store.zarr"))


@pytest.fixture
def forge(store: Path) -> Edit:
    """Return a function that changes the JSON of a node, or records, and makes all sums right."""

    def edit(name: str, change: Callable[[Any], None]) -> None:
        if name == "records":
            records = zarr.open_array(store / "records", mode="r+")
            told = json.loads(bytes(records[...]))
            change(told)
            raw = np.frombuffer(json.dumps(told).encode(), np.uint8)
            options: dict[str, Any] = {"compressors": list(records.compressors), "overwrite": True}
            zarr.create_array(store, name="records", data=raw, chunks=raw.shape, **options)
        else:
            path = store / name
            told = json.loads(path.read_bytes())
            change(told)
            path.write_text(json.dumps(told))
        sign(store)

    return edit


def sign(store: Path) -> None:
    """Make the mark list what is there, and the consolidated metadata tell it."""
    root = store / "zarr.json"
    told = json.loads(root.read_bytes())
    nodes = told["consolidated_metadata"]["metadata"]
    for name in nodes:
        if (store / name / "zarr.json").exists():
            nodes[name] = json.loads((store / name / "zarr.json").read_bytes())
    mark = told["attributes"]["arrayred"]
    mark["files"] = {
        path.relative_to(store).as_posix(): (
            path.stat().st_size,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in store.rglob("*")
        if path.is_file() and path != root
    }
    mark["sha256"] = cache.sum_of_mark(told)
    root.write_text(json.dumps(told))
    forget()
