"""Cubes: eager and lazy are identical, through `open_frames` and through xarray's own functions."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

import arrayred as ar
from arrayred.errors import InputError, MismatchError, UsageError
from arrayred.io import write_frames
from arrayred.model import SETUP_COORDS
from arrayred.simulate import SimulatedNight

COUNTERS = Path("/proc/self/io")
SIZES = {"frame": 8, "y": 160, "x": 120}


@pytest.fixture(scope="module")
def folder(simulated: SimulatedNight, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the simulated night's folder, not to be changed."""
    path = tmp_path_factory.mktemp("open") / "night"
    write_frames(simulated.frames(), path)
    return path


@pytest.fixture(scope="module")
def eager(folder: Path) -> xr.Dataset:
    return ar.open_frames(folder, chunks=None)


@pytest.fixture(scope="module")
def lazy(folder: Path) -> xr.Dataset:
    """Return the night as xarray opens it: no pixel read, no dask."""
    return xr.open_dataset(folder, engine="arrayred", cache=False)


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def alike(opened: xr.Dataset, cube: xr.Dataset) -> bool:
    """Return whether xarray's cube is that of `open_frames`, but for labels and settings."""
    own = ["frame", "gain", "gain_from", "read_noise", "saturation", *SETUP_COORDS]
    ours, theirs = (ds.drop_vars(own, errors="ignore") for ds in (cube, opened))
    return theirs.identical(ours)


def test_the_cube_holds_what_astropy_reads(folder: Path, eager: xr.Dataset) -> None:
    files = files_of(folder)
    assert eager.counts.dims == ("frame", "y", "x")
    assert np.array_equal(eager.counts, [fits.getdata(path) for path in files])
    assert list(eager.frame.values) == [path.stem for path in files]
    assert list(eager.path.values) == [str(path) for path in files]
    headers = [fits.getheader(path) for path in files]
    assert list(eager.exptime.values) == [header["EXPTIME"] for header in headers]
    assert np.allclose(eager.ccd_temp, [header["CCD-TEMP"] for header in headers])
    assert list(eager.time.values) == [np.datetime64(header["DATE-OBS"]) for header in headers]
    assert list(eager.frame_type.values) == ["dark"] * 5 + ["light"] * 3


@pytest.mark.parametrize("chunks", ["auto", 1, 7, 160, 1000])
def test_lazy_and_eager_cubes_are_identical(chunks: Any, folder: Path, eager: xr.Dataset) -> None:
    cube = ar.open_frames(folder, chunks)
    assert cube.counts.chunks is not None
    assert (cube.counts.chunks[0], cube.counts.chunks[2]) == ((8,), (120,))
    assert cube.identical(eager)
    assert cube.counts.dtype == eager.counts.dtype


def test_the_same_files_in_any_order_are_the_same_cube(folder: Path, eager: xr.Dataset) -> None:
    files = files_of(folder)
    assert ar.open_frames(files[::-1]).identical(eager)
    assert ar.open_frames(list(map(str, files))).identical(eager)
    assert ar.open_frames(str(folder)).identical(eager)


def test_labels_of_pixels_are_fits_pixel_numbers(folder: Path, eager: xr.Dataset) -> None:
    cube = ar.open_frames(folder, 7)
    pixels = fits.getdata(folder / "light-002.fit")
    for opened in (cube, eager, xr.open_dataset(folder, engine="arrayred", root=folder)):
        light = opened.counts.sel(frame="light-002")
        assert int(light.sel(y=1, x=1)) == pixels[0, 0]
        assert int(light.sel(y=160, x=120)) == pixels[159, 119]
        assert np.array_equal(light.sel(y=slice(85, 90), x=[3, 9]), pixels[84:90, [2, 8]])


CHOICES: dict[str, dict[str, Any]] = {
    "one frame": {"frame": 3},
    "last frame": {"frame": -1},
    "one pixel": {"frame": 0, "y": -2, "x": 5},
    "slices": {"frame": slice(1, 4), "y": slice(10, 20), "x": slice(None, None, 7)},
    "backwards": {"frame": slice(None, None, -1), "y": slice(50, 10, -3), "x": slice(-5, None)},
    "nothing": {"y": slice(5, 5)},
    "list of frames": {"frame": [4, 0, 0, -1]},
    "lists": {"frame": [4, 0], "y": [7, 3, 155], "x": [-1, 5]},
    "mask": {"y": np.arange(160) % 50 == 0},
    "list and number": {"frame": 2, "y": [30, 3], "x": slice(0, 9, 2)},
    "points": {
        "frame": xr.DataArray([0, 5, -1], dims="point"),
        "y": xr.DataArray([9, 100, 0], dims="point"),
        "x": xr.DataArray([1, 2, -3], dims="point"),
    },
    "points and a slice": {
        "y": xr.DataArray([[9, 100], [3, 0]], dims=("a", "b")),
        "x": slice(None, 9),
    },
}


@pytest.mark.parametrize("opened", ["dask", "xarray", "xarray with chunks"])
@pytest.mark.parametrize("choice", CHOICES)
def test_any_selection_of_a_lazy_cube_equals_that_of_the_eager_one(
    choice: str, opened: str, folder: Path, eager: xr.Dataset
) -> None:
    openers: dict[str, Callable[[], xr.Dataset]] = {
        "dask": lambda: ar.open_frames(folder, 7),
        "xarray": lambda: xr.open_dataset(folder, engine="arrayred"),
        "xarray with chunks": lambda: xr.open_dataset(folder, engine="arrayred", chunks={}),
    }
    chosen = openers[opened]().isel(CHOICES[choice])
    assert alike(chosen, eager.isel(CHOICES[choice]))


def indices(n: int) -> st.SearchStrategy[Any]:
    """Draw numbers, lists and slices; xarray itself fails on an empty slice backwards."""
    slices = st.slices(n).filter(lambda s: (s.step or 1) > 0 or len(range(n)[s]) > 0)
    return st.integers(-n, n - 1) | slices | st.lists(st.integers(-n, n - 1), max_size=5)


@settings(deadline=None, max_examples=60)
@given(st.fixed_dictionaries({}, optional={dim: indices(n) for dim, n in SIZES.items()}))
def test_any_indices_of_a_lazy_array_equal_those_of_numpy(
    lazy: xr.Dataset, eager: xr.Dataset, choice: dict[str, Any]
) -> None:
    once = lazy.counts.isel(choice)
    assert np.array_equal(once, eager.counts.isel(choice))
    twice = {dim: slice(None, None, -2) for dim, n in once.sizes.items() if n}
    assert np.array_equal(once.isel(twice), eager.counts.isel(choice).isel(twice))


def test_a_selection_after_another_is_still_lazy(folder: Path, eager: xr.Dataset) -> None:
    cube = xr.open_dataset(folder, engine="arrayred").isel(y=slice(10, 20))
    assert not cube.counts.variable._in_memory
    assert np.array_equal(cube.isel(y=-1).counts, eager.counts[:, 19])


@pytest.mark.parametrize("chunks", [None, {}])
def test_xarray_opens_a_folder_as_open_frames_does(
    chunks: Any, folder: Path, eager: xr.Dataset
) -> None:
    for paths in (folder, str(folder), files_of(folder), list(map(str, files_of(folder)))):
        cube = xr.open_dataset(paths, engine="arrayred", chunks=chunks)  # type: ignore[arg-type]
        assert (cube.counts.chunks is None) == (chunks is None)
        assert alike(cube, eager)
        assert list(cube.frame.values) == list(map(str, files_of(folder)))


@pytest.mark.parametrize("chunks", ["auto", -1, {"frame": -1}, {"frame": 1}, {"frame": 3, "x": 50}])
def test_other_chunks_of_xarray_hold_the_same(chunks: Any, folder: Path, eager: xr.Dataset) -> None:
    cube = xr.open_dataset(folder, engine="arrayred", chunks=chunks)
    assert alike(cube, eager)
    assert [name for name in cube.coords if cube[name].chunks] == []
    assert alike(ar.open_frames(folder, {"frame": -1} if chunks == -1 else chunks), eager)


@pytest.mark.skipif(not COUNTERS.exists(), reason="the system does not count bytes read")
@pytest.mark.parametrize("chunks", [None, {}])
def test_only_what_is_asked_for_is_read(chunks: Any, folder: Path) -> None:
    before = int(COUNTERS.read_text().split()[1])
    cube = xr.open_dataset(folder, engine="arrayred", chunks=chunks)
    _ = cube.counts.isel(y=slice(5, 7)).values
    assert int(COUNTERS.read_text().split()[1]) - before < cube.counts.nbytes / 2


def test_the_chunks_of_xarray_are_bands_of_all_frames(folder: Path) -> None:
    cube = xr.open_dataset(folder, engine="arrayred", chunks={})
    assert cube.counts.chunks == ((8,), (160,), (120,))
    assert cube.counts.chunks == ar.open_frames(folder, "auto").counts.chunks


@pytest.mark.parametrize("chunks", [None, {}])
def test_xarray_opens_one_file_as_a_cube_of_one_frame(
    chunks: Any, folder: Path, eager: xr.Dataset
) -> None:
    cube = xr.open_dataset(folder / "light-001.fit", engine="arrayred", chunks=chunks)
    assert cube.counts.dims == ("frame", "y", "x")
    assert alike(cube, eager.sel(frame=["light-001"]))


def test_xarray_finds_the_engine_itself(folder: Path, eager: xr.Dataset) -> None:
    assert alike(xr.open_dataset(folder), eager)
    assert alike(xr.open_dataset(folder / "dark-001.fit"), eager.sel(frame=["dark-001"]))


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("defaults", ["as they are", "to be"])
def test_open_mfdataset_makes_a_cube_of_single_files(
    defaults: str, parallel: bool, folder: Path, eager: xr.Dataset
) -> None:
    with (
        dask.config.set(scheduler="threads", num_workers=2),
        xr.set_options(use_new_combine_kwarg_defaults=defaults == "to be"),
    ):
        cube = xr.open_mfdataset(f"{folder}/*.fit", engine="arrayred", parallel=parallel)
        assert alike(cube.compute(), eager)
        assert [name for name in cube.coords if cube[name].chunks] == []
        xr.testing.assert_equal(
            ar.combine(cube, "median").compute(), ar.combine(eager, "median").compute()
        )


@pytest.mark.parametrize("defaults", ["as they are", "to be"])
def test_nights_that_xarray_opens_by_file_or_by_folder_lose_no_frame(
    defaults: str, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in files_of(folder)[1:]:
        (other / path.name).write_bytes(path.read_bytes())
        fits.setval(other / path.name, "EGAIN", value=2.5)
    with xr.set_options(use_new_combine_kwarg_defaults=defaults == "to be"):
        for paths in ([folder, other], [*files_of(folder), *files_of(other)]):
            cube = xr.open_mfdataset(paths, engine="arrayred")  # type: ignore[arg-type]
            assert cube.sizes["frame"] == 15
            assert cube.indexes["frame"].is_unique
            assert cube.gain.values.tolist() == [
                2.5 if "other" in f else 1.5 for f in cube.path.values
            ]
    with pytest.warns(UserWarning, match="count, twice"):
        both = ar.open_frames([folder, other], root=folder.parent)
    assert both.indexes["frame"].is_unique
    assert "gain" not in ar.combine(cube).coords


def test_labels_are_paths_in_the_working_directory_or_relative_to_a_root(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def labels(**options: Any) -> set[str]:
        return {*xr.open_dataset(folder, engine="arrayred", **options).frame.values[:1]}

    assert labels(root=folder.parent) == {f"{folder.name}/dark-001"}
    assert {*ar.open_frames(folder, root=folder.parent).frame.values[:1]} == labels(
        root=folder.parent
    )
    monkeypatch.chdir(folder.parent)
    assert labels() == {f"{folder.name}/dark-001.fit"}
    assert labels(root=folder.name) == {"dark-001"}


@pytest.mark.parametrize(
    ("chunks", "lengths"),
    [
        ({}, (8, 160, 120)),
        ({"frame": 1}, (1, 160, 120)),
        ({"frame": 1, "y": 64}, (1, 64, 120)),
        ({"frame": -1, "y": 40, "x": "auto"}, (8, 40, 120)),
        ({"y": 1000, "x": 7}, (8, 160, 7)),
    ],
)
def test_chunks_may_be_given_by_dimension(chunks: Any, lengths: Any, folder: Path) -> None:
    cube = ar.open_frames(folder, chunks)
    assert cube.counts.data.chunksize == lengths
    assert cube.identical(ar.open_frames(folder, chunks=None))


@pytest.mark.parametrize("chunks", [{"row": 3}, {"y": 1.5}, "all", {"y": None}])
def test_chunks_that_are_no_lengths_are_refused(chunks: Any, folder: Path) -> None:
    with pytest.raises(UsageError, match="not lengths along frame, y and x"):
        ar.open_frames(folder, chunks)


@pytest.mark.parametrize("opened", ["open_frames", "xarray"])
def test_cards_become_coordinates(opened: str, night: Path) -> None:
    fits.setval(night / "light-001.fit", "AIRMASS", value=0.0, comment="at the start")
    fits.setval(night / "light-002.fit", "AIRMASS", value=2)
    fits.setval(night / "light-002.fit", "FILTER", value="R")
    cards = ["AIRMASS", "ccd-temp", "FILTER", "NONE"]
    if opened == "xarray":
        cube = xr.open_dataset(night, engine="arrayred", cards=cards, root=night)
    else:
        cube = ar.open_frames(night, cards=cards)
    lights = cube.sel(frame=["light-001", "light-002", "light-003"])
    assert lights["AIRMASS"].values[:2].tolist() == [0.0, 2.0]
    assert np.isnan(lights["AIRMASS"].values[2])
    assert cube["AIRMASS"].attrs == {"long_name": "at the start"}
    assert np.array_equal(cube["ccd-temp"], cube.ccd_temp)
    assert lights["FILTER"].values.tolist() == ["", "R", ""]
    assert np.isnan(cube["NONE"]).all()


def test_options_reach_the_reader(folder: Path) -> None:
    cube = xr.open_dataset(folder, engine="arrayred", unsigned="as-declared", instrument="barber20")
    assert cube.attrs["unsigned_unwrapped"] == 0
    with pytest.raises(ar.UsageError, match="no_such_camera"):
        xr.open_dataset(folder, engine="arrayred", instrument="no_such_camera")


@pytest.mark.parametrize("where", ["", "light-001.fit"])
@pytest.mark.parametrize(
    "names", ["exptime", ["exptime", "time"], ["x"], ["counts"], ["no_such_name"], []]
)
def test_dropped_variables_are_left_out_and_no_others(names: Any, where: str, folder: Path) -> None:
    whole = xr.open_dataset(folder / where, engine="arrayred")
    cube = xr.open_dataset(folder / where, engine="arrayred", drop_variables=names)
    dropped = {names} if isinstance(names, str) else set(names)
    assert set(cube.variables) == set(whole.variables) - dropped


@pytest.fixture
def candidates(folder: Path, tmp_path: Path) -> Path:
    """Return a folder of things that are frames or only look like it."""
    frame = (folder / "dark-001.fit").read_bytes()
    for name in ("x.fit", "X.FITS", "x.nc", "night/x.fit"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(frame)
    (tmp_path / "text.fit").write_text("No frames")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "x.txt").touch()
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(tmp_path / "x.fits.gz")
    fits.CompImageHDU(np.zeros((9, 9), "i2")).writeto(tmp_path / "x.fits.fz")
    xr.Dataset({"a": ("x", [1.0])}).to_zarr(tmp_path / "store.zarr", consolidated=False)
    (tmp_path / "store.zarr" / "x.fit").write_bytes(frame)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "can"),
    [
        *(("x.fit", True), ("X.FITS", True), ("x.fits.gz", True), ("x.fits.fz", True)),
        *(("night", True), ("text.fit", False), ("x.nc", False), ("notes", False)),
        *(("store.zarr", False), ("absent.fit", False), ("absent", False)),
    ],
)
def test_the_engine_knows_what_it_can_open(name: str, can: bool, candidates: Path) -> None:
    engine = xr.backends.list_engines()["arrayred"]
    assert engine.guess_can_open(candidates / name) is can
    assert engine.guess_can_open(str(candidates / name)) is can


@pytest.mark.parametrize("other", [b"bytes", 3, "https://example.org/x.fit", ["x.fit"]])
def test_the_engine_leaves_what_is_no_path_to_others(other: Any) -> None:
    assert xr.backends.list_engines()["arrayred"].guess_can_open(other) is False


@pytest.mark.parametrize("chunks", [None, {}])
def test_an_opened_dataset_travels_between_processes(
    chunks: Any, folder: Path, eager: xr.Dataset
) -> None:
    cube = xr.open_dataset(folder, engine="arrayred", chunks=chunks)
    assert alike(pickle.loads(pickle.dumps(cube)), eager)


def test_dask_names_follow_the_content(night: Path) -> None:
    def names() -> set[str]:
        return {ar.open_frames(night, chunks).counts.data.name for chunks in (7, 7)}

    first = names()
    assert len(first) == 1
    os.utime(night / "light-001.fit", ns=(1, 1))
    assert names() != first


def test_headers_are_found_by_label(folder: Path, eager: xr.Dataset) -> None:
    found = ar.headers(eager)
    assert list(found) == [path.stem for path in files_of(folder)]
    for path in files_of(folder):
        assert found[path.stem].tostring() == fits.getheader(path).tostring()
    assert list(ar.headers(eager.isel(frame=[3, 1]))) == ["dark-004", "dark-002"]
    assert list(ar.headers(eager.sel(frame="light-001"))) == ["light-001"]


def test_headers_of_two_frames_with_one_label_are_refused(folder: Path, night: Path) -> None:
    both = xr.concat([ar.open_frames(place) for place in (folder, night)], "frame")
    with pytest.raises(MismatchError, match=r"same labels.*open_frames\(\[one, other\]\)"):
        ar.headers(both)


def test_headers_of_an_extension_hold_the_primary_cards_too(tmp_path: Path) -> None:
    primary, image = fits.PrimaryHDU(), fits.ImageHDU(np.zeros((4, 4), "i2"))
    primary.header["EXPTIME"], image.header["FILTER"] = 30.0, "R"
    fits.HDUList([primary, image]).writeto(tmp_path / "a.fits")
    header = ar.headers(ar.open_frames(tmp_path))["a"]
    assert (header["EXPTIME"], header["FILTER"]) == (30.0, "R")


def test_settings_in_which_all_frames_agree_are_scalar_coordinates(night: Path) -> None:
    fits.setval(night / "dark-001.fit", "READOUTM", value="Fast")
    for path in night.iterdir():
        fits.setval(path, "XORGSUBF", value=16)
    cube = ar.open_frames(night)
    assert (cube.binning.item(), cube.origin.item()) == ("1x1", "16")
    assert "readout" not in cube.coords


def test_unknown_facts_are_missing_values_not_errors(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros((4, 4), "i2")).writeto(tmp_path / "a.fits")
    cube = ar.open_frames(tmp_path)
    assert np.isnan(cube.exptime.item())
    assert np.isnan(cube.ccd_temp.item())
    assert np.isnat(cube.time.values[0])
    assert (cube.frame_type.item(), cube.object.item()) == ("", "")


@pytest.mark.parametrize("date", ["0001-01-01T00:00:00", "1600-01-01", "2300-01-01T00:00:00"])
def test_a_date_out_of_range_is_missing_not_another_date(date: str, tmp_path: Path) -> None:
    image = fits.PrimaryHDU(np.zeros((4, 4), "i2"))
    image.header["DATE-OBS"] = date
    image.writeto(tmp_path / "a.fits")
    assert np.isnat(ar.open_frames(tmp_path).time.values[0])


def test_every_unreadable_frame_is_told_at_once(night: Path) -> None:
    for name in ("dark-002.fit", "light-001.fit"):
        (night / name).write_bytes((night / name).read_bytes()[:9000])
    with pytest.raises(InputError) as caught:
        ar.open_frames(night)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{night / 'dark-002.fit'}, light-001.fit: ")


@pytest.mark.parametrize("paths", [[], "", "absent.fit", "absent"])
def test_no_frame_is_an_error(paths: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        ar.open_frames(paths)


def test_relative_and_absolute_paths_may_be_mixed(
    folder: Path, eager: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    first, *others = files_of(folder)
    assert np.array_equal(ar.open_frames([first.name, *others]).counts, eager.counts)


def test_frames_of_other_shapes_are_refused_by_name(night: Path) -> None:
    fits.PrimaryHDU(np.zeros((4, 4), "u2")).writeto(night / "odd.fit")
    with pytest.raises(MismatchError) as caught:
        ar.open_frames(night)
    assert caught.value.path == str(night / "odd.fit")


def test_memory_sets_the_height_of_lazy_bands(night: Path) -> None:
    heights = [ar.open_frames(night, "auto", memory=m << 20).chunks["y"][0] for m in (1, 4, 64)]
    assert heights == sorted(heights)
    assert 1 <= heights[0] < heights[-1]
    lazy = ar.combine(ar.open_frames(night, "auto", memory=1 << 20), "median")
    assert np.array_equal(lazy.counts, ar.combine(ar.open_frames(night), "median").counts)


def test_memory_for_less_than_a_row_is_refused_with_what_is_needed(night: Path) -> None:
    with pytest.raises(UsageError, match="not enough for one row of 8 frames") as caught:
        ar.open_frames(night, "auto", memory=1000)
    needed = int(caught.value.hint.split()[1])
    assert ar.open_frames(night, "auto", memory=needed).chunks["y"][0] == 1


def test_frames_that_are_there_twice_are_remarked(folder: Path) -> None:
    first = sorted(folder.glob("dark-*"))[0]
    copy = first.with_name("dark-copy.fit")
    copy.write_bytes(first.read_bytes())
    try:
        with pytest.warns(UserWarning, match="dark-copy is the same frame as"):
            cube = ar.open_frames(folder)
        assert cube.attrs["remarks"] == [f"dark-copy is the same frame as {first.stem}"]
        with pytest.warns(UserWarning, match="dark-copy.fit is the same frame as"):
            xr.open_dataset(folder, engine="arrayred")
    finally:
        copy.unlink()
    assert "remarks" not in ar.open_frames(folder).attrs
