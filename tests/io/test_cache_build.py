"""A cache is complete or absent, and tells everything that the frames do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

import arrayred as ar
from arrayred.errors import StorageError, UsageError
from arrayred.io import CacheFolder, caching, find_image, open_cache, write_frames
from arrayred.night import cache_night, make_plan
from arrayred.simulate import Detector, SimulatedNight
from tests.cli import forked
from tests.io.conftest import cached


def test_headers_come_back_byte_for_byte(frames: Path, store: Path) -> None:
    for name, image in open_cache(store).images.items():
        raw = (frames / name).read_bytes()
        assert raw.startswith(image.header.to_bytes())


def test_odd_bytes_of_a_header_come_back(tmp_path: Path) -> None:
    write_frames(SimulatedNight(Detector(shape=(40, 40))).frames(), tmp_path / "night")
    path = tmp_path / "night" / "dark-001.fit"
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"Dark Frame", b"Dark Fr\xe9m\x07", 1))
    images = [
        find_image(folder / path.name)
        for folder in (path.parent, cached(path.parent, tmp_path / "c.zarr"))
    ]
    assert images[0].header.images() == images[1].header.images()


def test_xarray_opens_the_tree_of_the_night(frames: Path, store: Path) -> None:
    tree, night = xr.open_datatree(store, engine="zarr", chunks={}), ar.open_night(frames)
    truth = night.tree
    assert set(tree.groups) == set(truth.groups)
    for path in (f"raw/{name}" for name in night):
        found, cube = tree[path].to_dataset().compute(), truth[path].to_dataset().compute()
        assert found.counts.dtype == cube.counts.dtype
        xr.testing.assert_equal(found.drop_vars(["header", "sha256"]), cube)
        assert found.counts.attrs == cube.counts.attrs


def test_frames_of_a_cache_are_grouped_by_labels_in_memory(frames: Path, store: Path) -> None:
    paths = [store / name for name in open_cache(store).images]
    cube = xr.open_dataset(paths, engine="arrayred", chunks={})  # type: ignore[arg-type]
    assert [name for name in cube.coords if cube[name].chunks] == []
    found = cube.counts.groupby("frame_type").median().compute()
    raw = ar.open_frames(sorted(frames.glob("*-0*.fit")), chunks=None)
    for kind in ("dark", "light"):
        of_kind = raw.counts.values[(raw.frame_type == kind).values]
        assert np.array_equal(found.sel(frame_type=kind), np.median(of_kind, axis=0))


def test_headers_in_the_tree_are_understood_by_astropy(frames: Path, store: Path) -> None:
    cube = xr.open_datatree(store, engine="zarr")["raw/dark/600s"]
    for label, text in zip(cube.frame.values, cube.header.values, strict=True):
        expected = fits.getheader(frames / f"{label}.fit")
        assert fits.Header.fromstring(str(text)).tostring() == expected.tostring()


def test_a_night_from_a_cache_is_the_night(frames: Path, store: Path) -> None:
    one, other = ar.open_night(frames), ar.open_night(store)
    assert {name: repr(group) for name, group in one.groups.items()} == {
        name: repr(group) for name, group in other.groups.items()
    }
    assert repr(make_plan(one).targets[0].dark) == repr(make_plan(other).targets[0].dark)
    assert other.foreign == ((str(store / "notes.fit"), one.foreign[0][1]),)
    assert [f.label for f in one.frames] == [f.label for f in other.frames]


def test_frames_that_take_no_part_are_cached_too(night: Path, tmp_path: Path) -> None:
    (night / "copy.fit").write_bytes((night / "dark-001.fit").read_bytes())
    other = ar.open_night(cached(night, tmp_path / "x.zarr"))
    assert len(other.duplicates) == 1
    assert other.duplicates == ar.open_night(night).duplicates


def test_headers_of_a_cube_are_those_of_its_cache(store: Path, frames: Path) -> None:
    found = ar.headers(ar.open_frames(store / "dark-001.fit"))
    assert found["dark-001"] == fits.getheader(frames / "dark-001.fit")


def test_frames_in_folders_keep_their_names_and_depth(night: Path, tmp_path: Path) -> None:
    (night / "a" / "b").mkdir(parents=True)
    (night / "dark-001.fit").rename(night / "a" / "b" / "dark-001.fit")
    store = cached(night, tmp_path / "x.zarr")
    assert "a/b/dark-001" in [frame.label for frame in ar.open_night(store).frames]
    assert len(ar.open_night(store, depth=2).frames) == len(ar.open_night(night, depth=2).frames)


def test_what_is_there_is_replaced_only_on_request(frames: Path, store: Path) -> None:
    before = (store / "zarr.json").read_bytes()
    with pytest.raises(UsageError, match="already exists"):
        cached(frames, store)
    assert (store / "zarr.json").read_bytes() == before
    (store / "zarr.json").unlink()
    cache_night(ar.open_night(frames), store, overwrite=True)
    assert open_cache(store, wholly=True).images
    assert [path.name for path in store.parent.iterdir()] == [store.name]


def test_a_cache_inside_its_night_is_refused(night: Path) -> None:
    with pytest.raises(UsageError, match="inside the night"):
        cached(night, night / "x.zarr")


def test_a_failure_leaves_nothing(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching, "_write_pixels", full)
    with pytest.raises(StorageError, match="No space left"):
        cached(frames, tmp_path / "x.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_changed_frame_is_not_cached(frames: Path, tmp_path: Path, night: Path) -> None:
    opened = ar.open_night(night)
    with (night / "dark-001.fit").open("ab") as file:
        file.write(bytes(2880))
    with pytest.raises(ar.InputError, match="changed"):
        cache_night(opened, tmp_path / "x.zarr")


def written_slowly(frames: Path, place: Path) -> None:
    """Write a cache, and fall asleep when the first pixels are written."""
    real = caching._write_pixels

    def slow(*arguments: Any) -> None:
        real(*arguments)
        (place.parent.parent / "written").touch()
        time.sleep(60)

    caching._write_pixels = slow
    cached(frames, place)


def test_a_run_killed_while_writing_leaves_no_cache(frames: Path, tmp_path: Path) -> None:
    place = tmp_path / "library" / "x.zarr"
    place.parent.mkdir()
    process = forked.begin(written_slowly, frames, place)
    while not (tmp_path / "written").exists():
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    assert not place.exists()
    (partial,) = place.parent.iterdir()
    with pytest.raises(ar.InputError):
        ar.open_night(partial)
    assert len(ar.open_night(cached(frames, place)).frames) == 4


def made_in(library: Path, frames: Path) -> None:
    cache_night(ar.open_night(frames), CacheFolder(library))


def test_two_runs_at_once_make_one_whole_cache(frames: Path, tmp_path: Path) -> None:
    runs = [forked.begin(made_in, tmp_path / "library", frames) for _ in range(2)]
    for run in runs:
        run.join(120)
    assert [run.exitcode for run in runs] == [0, 0]
    (place,) = (tmp_path / "library").iterdir()
    assert len(open_cache(place, wholly=True).images) == 4


def test_a_finished_cache_of_another_run_stays(frames: Path, store: Path) -> None:
    partial = store.parent / ".partial"
    partial.mkdir()
    (partial / "x").touch()
    before = (store / "zarr.json").stat().st_ino
    caching._rename_into_place(partial, store, overwrite=False)
    assert (store / "zarr.json").stat().st_ino == before


def test_large_cubes_are_written_in_several_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arrayred.io import cache

    for name in ("SHARD_BYTES", "CHUNK_BYTES"):
        monkeypatch.setattr(cache, name, 3 * 16 * 40 * 2)
    detector = Detector(shape=(100, 40))
    write_frames(SimulatedNight(detector, n_darks=5, n_lights=3).frames(), tmp_path / "night")
    store = cached(tmp_path / "night", tmp_path / "x.zarr")
    assert len(list(store.glob("raw/dark/600s/counts/c/*/*/0"))) > 9
    for open_it in (ar.open_frames, lambda p: xr.open_datatree(p, engine="zarr")["raw/dark/600s"]):
        counts = open_it(store).counts.sel(frame="dark-004").values
        assert np.array_equal(counts, fits.getdata(tmp_path / "night" / "dark-004.fit"))


def test_building_takes_no_second_look_at_the_clock(frames: Path, tmp_path: Path) -> None:
    one = cached(frames, tmp_path / "a.zarr")
    time.sleep(0.01)
    other = cached(frames, tmp_path / "b.zarr")
    for path in one.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (other / path.relative_to(one)).read_bytes(), path
