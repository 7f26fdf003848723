"""Caches at URLs: complete when their last file is, fetched once, checked like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.errors import FrameError, InputError, UsageError
from arrayred.io.cache import remote
from arrayred.io.cache.library import Library, default_folder
from arrayred.night.caching import Caching, cache_night

URL = "memory://bucket/night.zarr"


@pytest.fixture
def memory() -> Iterator[Any]:
    """Return an object store in memory, empty."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def uploaded(frames: Path, memory: Any) -> Any:
    cache_night(ar.open_night(frames), URL)
    return memory


def counts(place: str | Path) -> dict[str, Any]:
    night = ar.open_night(place)
    return {name: night[name].counts.values for name in night}


def test_a_night_opens_from_a_url_as_from_its_folder(uploaded: Any, frames: Path) -> None:
    here, there = counts(frames), counts(URL)
    assert here.keys() == there.keys()
    assert all(np.array_equal(here[name], there[name]) for name in here)


def test_xarray_opens_the_url_by_itself(uploaded: Any, frames: Path) -> None:
    tree = xr.open_datatree(URL, engine="zarr", chunks={})
    dark = ar.open_night(frames)["dark/600s"]
    assert np.array_equal(tree["raw/dark/600s"].counts.sel(y=50), dark.counts.sel(y=50))


def test_the_copy_lies_in_the_library_under_its_own_name(uploaded: Any) -> None:
    place = remote.fetch(URL)
    assert list(default_folder().iterdir()) == [place]
    assert len(ar.open_frames(place / "dark-001.fit").frame) == 1


def test_a_url_is_fetched_once(uploaded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counts(URL)
    asked: list[str] = []
    real = remote._get
    monkeypatch.setattr(
        remote, "_get", lambda s, r, name, n: asked.append(name) or real(s, r, name, n)
    )
    counts(URL)
    assert asked == ["COMPLETE.json"]


@pytest.mark.parametrize("broken", ["records.json", "COMPLETE.json", "counts/c/0/0/0"])
def test_an_upload_that_breaks_off_leaves_no_cache(
    broken: str, frames: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = memory.pipe_file

    def pipe_file(_: object, path: str, content: bytes) -> None:
        if path.endswith(broken):
            raise ConnectionError(path)
        real(path, content)

    monkeypatch.setattr(type(memory), "pipe_file", pipe_file)
    with pytest.raises(ar.StorageError, match="cannot be written"):
        cache_night(ar.open_night(frames), URL)
    with pytest.raises(InputError, match="no cache"):
        ar.open_night(URL)


def test_what_is_there_is_replaced_only_on_request(uploaded: Any, frames: Path) -> None:
    night = ar.open_night(frames)
    with pytest.raises(UsageError, match="something already"):
        cache_night(night, URL)
    uploaded.pipe_file("/bucket/night.zarr/old", b"x")
    cache_night(night, URL, overwrite=True)
    assert not uploaded.exists("/bucket/night.zarr/old")
    assert counts(URL)


def damaged(store: dict[str, Any], name: str) -> None:
    file = store[f"/bucket/night.zarr/{name}"]
    raw = bytearray(file.getvalue())
    raw[len(raw) // 2] ^= 1
    file.seek(0)
    file.write(raw)


@pytest.mark.parametrize("name", ["zarr.json", "records.json", "raw/dark/600s/counts/c/0/0/0"])
def test_a_damaged_cache_is_refused_and_not_kept(name: str, uploaded: Any) -> None:
    damaged(uploaded.store, name)
    with pytest.raises(FrameError, match="damaged"):
        ar.open_night(URL)
    assert list(default_folder().iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a//b", "raw/x\n"])
def test_files_of_strange_names_are_never_written(name: str, uploaded: Any) -> None:
    path = "/bucket/night.zarr/COMPLETE.json"
    told = json.loads(uploaded.cat_file(path))
    told["files"] = {name: [1, "0"]}
    uploaded.pipe_file(path, json.dumps(told).encode())
    uploaded.pipe_file("/bucket/evil", b"x")
    with pytest.raises(FrameError, match="lists the name"):
        ar.open_night(URL)


def test_a_cache_that_promises_too_much_is_not_fetched(uploaded: Any, tmp_path: Path) -> None:
    caching = Caching(Library(tmp_path / "library", most_bytes=1000))
    with pytest.raises(UsageError, match="larger than all"):
        ar.open_night(URL, caching=caching)


def test_a_url_without_a_cache_is_an_error(memory: Any) -> None:
    with pytest.raises(InputError, match="no cache"):
        ar.open_night("memory://nothing/here.zarr")


def test_a_url_of_a_kind_that_nothing_opens_is_an_error() -> None:
    with pytest.raises(UsageError, match="Nothing opens"):
        ar.open_night("quux://bucket/night.zarr")


def test_a_cache_lies_in_an_object_store(
    frames: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    try:
        fsspec.filesystem("s3").mkdir("bucket")
        cache_night(ar.open_night(frames), "s3://bucket/night.zarr")
        here, there = counts(frames), counts("s3://bucket/night.zarr")
    finally:
        server.stop()
    assert all(np.array_equal(here[name], there[name]) for name in here)
