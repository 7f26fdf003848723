"""Caches at URLs: complete when their last file is, read by the chunk, checked like any other."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import fsspec
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

import arrayred as ar
from arrayred.errors import FrameError, InputError, StorageError, UsageError
from arrayred.io import CacheFolder, cache, default_cache_folder, open_cache, remote_address
from arrayred.io import caching as remote
from arrayred.night import CachePolicy, cache_night, with_local_pixels
from tests.io.conftest import forget, sign
from tests.io.remote_store import Store

URL = "memory://bucket/night.zarr"
SHARD = "night.zarr/raw/dark/600s/counts/c/0/0/0"


@pytest.fixture
def uploaded(frames: Path, bucket: Store) -> Store:
    """Return a bucket with the cache of the night, nothing of which is known."""
    cache_night(ar.open_night(frames), URL)
    forget()
    bucket.asked.clear()
    return bucket


def counts(place: str | Path) -> dict[str, Any]:
    night = ar.open_night(place)
    return {name: night[name].counts.values for name in night}


def test_a_night_opens_from_a_url_as_from_its_folder(uploaded: Store, frames: Path) -> None:
    here, there = counts(frames), counts(URL)
    assert here.keys() == there.keys()
    assert all(np.array_equal(here[name], there[name]) for name in here)
    assert repr(ar.open_night(URL)).replace(URL, str(frames)) == repr(ar.open_night(frames))


def test_frames_go_by_their_urls(uploaded: Store, frames: Path) -> None:
    cube = ar.open_frames(f"{URL}/dark-001.fit")
    assert cube.path.values[0] == f"{URL}/dark-001.fit"
    assert ar.headers(cube)["dark-001"] == fits.getheader(frames / "dark-001.fit")


def test_xarray_opens_the_url_by_itself(uploaded: Store, frames: Path) -> None:
    tree = xr.open_datatree(URL, engine="zarr", chunks={})
    dark = ar.open_night(frames)["dark/600s"]
    assert np.array_equal(tree["raw/dark/600s"].counts.sel(y=50), dark.counts.sel(y=50))


def test_opening_a_cache_fetches_no_shard(uploaded: Store) -> None:
    ar.open_night(URL)
    assert uploaded.asked
    assert not [path for path, _, _ in uploaded.asked if "/counts/c/" in path]


def test_a_row_through_all_frames_costs_their_chunks_alone(
    tmp_path: Path, bucket: Store, frames: Path
) -> None:
    from arrayred.io import write_frames
    from arrayred.simulate import Detector, SimulatedNight

    detector = Detector(shape=(640, 40))
    night = SimulatedNight(detector, n_darks=6, n_lights=1)
    write_frames(night.frames(), tmp_path / "tall")
    cache_night(ar.open_night(tmp_path / "tall"), URL)
    cube = ar.open_night(URL)["dark/600s"]
    bucket.asked.clear()
    row = cube.counts.sel(y=300).values
    assert np.array_equal(row, ar.open_night(tmp_path / "tall")["dark/600s"].counts.sel(y=300))
    shard = len(bucket.content(SHARD))
    fetched = sum(n for path, _, n in bucket.asked if path.endswith(SHARD))
    assert 0.15 * shard < fetched < 0.25 * shard  # rows 256 to 384 of 640
    assert len(bucket.asked) == 2 + 1  # chunks of three frames, and the table


def test_a_lazy_cube_of_a_url_travels_to_other_processes(uploaded: Store, frames: Path) -> None:
    cube = pickle.loads(pickle.dumps(ar.open_night(URL)["light/Simulated_star"]))
    here = ar.open_night(frames)["light/Simulated_star"]
    assert np.array_equal(cube.counts.values, here.counts.values)


def test_what_is_read_at_once_is_bounded(
    tmp_path: Path, bucket: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arrayred.io import pixels, write_frames
    from arrayred.simulate import Detector, SimulatedNight

    night = SimulatedNight(Detector(shape=(40, 40)), n_darks=7, n_lights=1)
    write_frames(night.frames(), tmp_path / "night")
    cache_night(ar.open_night(tmp_path / "night"), URL)
    cube = ar.open_night(URL)["dark/600s"]
    together: list[int] = []
    real = cache.CachedArray.read

    def read(self: cache.CachedArray, frames: Any, *which: int) -> Any:
        together.append(len(frames))
        return real(self, frames, *which)

    monkeypatch.setattr(cache.CachedArray, "read", read)
    whole = cube.counts.values
    monkeypatch.setattr(pixels, "ARRAY_BYTES", 1)
    assert np.array_equal(cube.counts.values, whole)
    assert together == [7, 3, 3, 1]  # all of them; then the frames of a chunk


def test_a_cache_that_changes_while_it_is_read_is_an_error(
    uploaded: Store, frames: Path, night: Path
) -> None:
    cube = ar.open_night(URL)["dark/600s"]
    cache_night(ar.open_night(frames, unsigned="as-declared"), URL, overwrite=True)
    with pytest.raises(FrameError, match="changed since it was opened"):
        _ = cube.counts.sel(y=50).values


def test_the_copy_lies_in_the_library_under_its_own_name(uploaded: Store) -> None:
    place = remote.fetch_cache(remote_address(URL))
    assert list(default_cache_folder().iterdir()) == [place]
    assert len(ar.open_frames(place / "dark-001.fit").frame) == 1


def test_a_cache_is_brought_near_once(uploaded: Store, tmp_path: Path, frames: Path) -> None:
    caching = CachePolicy(CacheFolder(tmp_path / "library"))
    for _ in range(2):
        near = with_local_pixels(ar.open_night(URL, caching=caching), caching)
    uploaded.asked.clear()
    pixels = near["dark/600s"].counts.values
    assert np.array_equal(pixels, ar.open_night(frames)["dark/600s"].counts.values)
    assert uploaded.asked == []
    assert len(caching.cache_folder.entries()) == 1


@pytest.mark.parametrize("broken", ["records/zarr.json", "night.zarr/zarr.json", "counts/c/0/0/0"])
def test_an_upload_that_breaks_off_leaves_no_cache(
    broken: str, frames: Path, bucket: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with broken_off(bucket, broken), pytest.raises(StorageError, match="cannot be written") as told:
        cache_night(ar.open_night(frames), URL)
    assert told.value.path == URL
    with pytest.raises(InputError, match=r"No readable cache|Nothing found|No FITS files"):
        ar.open_night(URL)
    cache_night(ar.open_night(frames), URL, overwrite=True)
    assert counts(URL)


@contextmanager
def broken_off(bucket: Store, name: str) -> Iterator[None]:
    """Let no file of a name be written."""
    kind = type(bucket.system)
    real = kind.put_file

    def put_file(self: Any, here: str, path: str, **options: Any) -> None:
        if path.endswith(name):
            raise PermissionError(path)
        real(self, here, path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "put_file", put_file)
        yield


def test_what_is_there_is_replaced_only_on_request(uploaded: Store, frames: Path) -> None:
    night = ar.open_night(frames)
    with pytest.raises(UsageError, match="already exists"):
        cache_night(night, URL)
    uploaded.write("night.zarr/old", b"x")
    cache_night(night, URL, overwrite=True)
    assert "night.zarr/old" not in uploaded.names()
    assert counts(URL)


def damaged(bucket: Store, name: str) -> None:
    raw = bytearray(bucket.content(name))
    raw[len(raw) // 4] ^= 1
    bucket.write(name, bytes(raw))


@pytest.mark.parametrize("name", ["zarr.json", "records/c/0"])
def test_damaged_metadata_are_refused(name: str, uploaded: Store) -> None:
    damaged(uploaded, f"night.zarr/{name}")
    with pytest.raises(FrameError, match="damaged"):
        ar.open_night(URL)


@pytest.mark.parametrize("change", ["flip", "cut", "lose"])
def test_a_damaged_shard_is_an_error_never_other_pixels(change: str, uploaded: Store) -> None:
    raw = bytearray(uploaded.content(SHARD))
    if change == "lose":
        uploaded.system.rm(f"/bucket/{SHARD}")
    else:
        raw[len(raw) // 4] ^= 1
        uploaded.write(SHARD, bytes(raw if change == "flip" else raw[:-1]))
    night = ar.open_night(URL)
    with pytest.raises(FrameError, match=SHARD):
        _ = night["dark/600s"].counts.values


def test_a_damaged_cache_is_not_kept(uploaded: Store, tmp_path: Path) -> None:
    damaged(uploaded, SHARD)
    said: list[str] = []
    caching = CachePolicy(CacheFolder(tmp_path / "library"), say=said.append)
    with_local_pixels(ar.open_night(URL), caching)
    assert "damaged" in said[0]
    assert list((tmp_path / "library").iterdir()) == []
    with pytest.raises(FrameError, match="checksum"):
        open_cache(remote_address(URL), wholly=True)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a//b", "raw/x\n"])
def test_files_of_strange_names_are_never_asked_for(name: str, uploaded: Store) -> None:
    told = json.loads(uploaded.content("night.zarr/zarr.json"))
    mark = told["attributes"]["arrayred"]
    mark["files"] = {name: [1, "0"]}
    mark["sha256"] = cache.sum_of_mark(told)
    uploaded.write("night.zarr/zarr.json", json.dumps(told).encode())
    uploaded.write("evil", b"x")
    for use in (lambda: ar.open_night(URL), lambda: remote.fetch_cache(remote_address(URL))):
        with pytest.raises(FrameError, match="lists the name"):
            use()
    assert not [path for path, _, _ in uploaded.asked if path.endswith("evil")]


def test_hostile_metadata_are_refused_behind_a_url_too(
    store: Path, bucket: Store, frames: Path
) -> None:
    path = store / "raw/dark/600s/counts/zarr.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data_type": "object"}))
    sign(store)
    bucket.put(store, "night.zarr")
    with pytest.raises(FrameError, match="is refused"):
        ar.open_night(URL)


def test_a_cache_that_promises_too_much_is_not_fetched(uploaded: Store, tmp_path: Path) -> None:
    said: list[str] = []
    caching = CachePolicy(CacheFolder(tmp_path / "library", most_bytes=1000), say=said.append)
    with_local_pixels(ar.open_night(URL), caching)
    assert "exceeds the maximum size" in said[0]
    with pytest.raises(UsageError, match="exceeds the maximum size"):
        remote.fetch_cache(remote_address(URL), caching.cache_folder)


def test_a_url_without_a_cache_is_an_error(bucket: Store) -> None:
    with pytest.raises(InputError, match="Nothing found"):
        ar.open_night("memory://nothing/here.zarr")
    with pytest.raises(InputError, match="No readable cache"):
        remote.fetch_cache(remote_address("memory://nothing/here.zarr"))


def test_a_cache_without_its_mark_is_none(uploaded: Store) -> None:
    uploaded.system.rm("/bucket/night.zarr/zarr.json")
    with pytest.raises(InputError, match="No FITS files"):
        ar.open_night(URL)


def test_a_url_of_a_kind_that_nothing_opens_is_an_error() -> None:
    with pytest.raises(UsageError, match="cannot be opened"):
        ar.open_night("quux://bucket/night.zarr")


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a bucket of an object store that speaks as Amazon's does."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    kind = fsspec.get_filesystem_class("s3")
    kind.clear_instance_cache()
    system = kind()
    system.mkdir("bucket")
    yield system
    server.stop()
    kind.clear_instance_cache()


def test_a_cache_lies_in_an_object_store(frames: Path, s3: Any) -> None:
    cache_night(ar.open_night(frames), "s3://bucket/night.zarr")
    here, there = counts(frames), counts("s3://bucket/night.zarr")
    assert all(np.array_equal(here[name], there[name]) for name in here)


def test_a_night_lies_in_an_object_store(frames: Path, s3: Any, tmp_path: Path) -> None:
    for path in frames.iterdir():
        s3.put_file(str(path), f"bucket/night/{path.name}")
    caching = CachePolicy(CacheFolder(tmp_path / "library"))
    near = with_local_pixels(ar.open_night("s3://bucket/night", caching=caching), caching)
    here = ar.open_night(frames)
    for name in here:
        assert np.array_equal(near[name].counts.values, here[name].counts.values)
    again = ar.open_night("s3://bucket/night", caching=caching)
    assert all(frame.image.source.cached is not None for frame in again.scanned)


@pytest.mark.parametrize("place", ["s3://nobucket/night", "s3://bucket/nothing"])
def test_what_is_not_in_an_object_store_is_an_error(place: str, s3: Any) -> None:
    with pytest.raises(InputError) as caught:
        ar.open_night(place)
    assert caught.value.path == place


def test_without_credentials_an_object_store_is_an_error(
    s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    s3.clear_instance_cache()
    with pytest.raises(InputError, match=r"s3://bucket/night.*redentials"):
        ar.open_night("s3://bucket/night")
