"""Frames of every encoding come back from a cache as astropy reads them, and as zarr does."""

from __future__ import annotations

import gzip
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from numpy.typing import NDArray

import arrayred as ar
from arrayred.io import CachedArray, FrameStack, PixelFormat, find_image, read_band
from arrayred.night import cache_night
from tests.io.conftest import cached

Pixels = NDArray[Any]
SHAPE = (150, 30)
RNG = np.random.default_rng(3)


def whole(dtype: str) -> Pixels:
    """Return numbers from all of a type's range, its ends among them."""
    info = np.iinfo(dtype)
    numbers = RNG.integers(info.min, info.max, SHAPE, dtype, endpoint=True)
    numbers[0, :2] = info.min, info.max
    return numbers


def real(dtype: str) -> Pixels:
    numbers = RNG.normal(0, 1e3, SHAPE).astype(dtype)
    numbers[0, :3] = np.nan, np.inf, -0.0
    return numbers


def scaled() -> fits.PrimaryHDU:
    hdu = fits.PrimaryHDU(whole("i2"), do_not_scale_image_data=True)
    hdu.header["BSCALE"], hdu.header["BZERO"] = 0.37, 1234.5
    return hdu


def with_blank() -> fits.PrimaryHDU:
    hdu = fits.PrimaryHDU(whole("i2"))
    hdu.data[3:9] = -99
    hdu.header["BLANK"] = -99
    return hdu


HDUS = {dtype: fits.PrimaryHDU(whole(dtype)) for dtype in ("u1", "i1", "i2", "u2", "i4", "u4")}
HDUS |= {dtype: fits.PrimaryHDU(whole(dtype)) for dtype in ("i8", "u8")}
HDUS |= {dtype: fits.PrimaryHDU(real(dtype)) for dtype in ("f4", "f8")}
HDUS |= {"scaled": scaled(), "blank": with_blank()}


def write(folder: Path, **hdus: fits.PrimaryHDU) -> Path:
    folder.mkdir()
    for i, (name, hdu) in enumerate(hdus.items()):
        hdu.header["EXPTIME"], hdu.header["IMAGETYP"] = 60.0, "Light Frame"
        hdu.header["OBJECT"], hdu.header["DATE-OBS"] = "Vega", f"2024-03-09T20:00:{i:02}"
        hdu.writeto(folder / f"{name}.fit")
    return folder


def bits(values: Pixels) -> bytes:
    return np.ascontiguousarray(values).tobytes()


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("formats") / "night", **HDUS)


@pytest.fixture(scope="module")
def store(night: Path) -> Path:
    single = night.parent / "single"
    single.mkdir()
    for name in HDUS:
        folder = single / name
        folder.mkdir()
        (folder / f"{name}.fit").write_bytes((night / f"{name}.fit").read_bytes())
        cached(folder, single / f"{name}.zarr")
    return single


@pytest.mark.parametrize("name", HDUS)
def test_pixels_are_to_the_bit_those_of_the_file(name: str, store: Path) -> None:
    from_file = ar.open_frames(store / name, unsigned="as-declared")
    found = ar.open_frames(store / f"{name}.zarr", unsigned="as-declared")
    assert found.counts.dtype == from_file.counts.dtype
    assert bits(found.counts.values) == bits(from_file.counts.values)


@pytest.mark.parametrize("name", ["i2", "u2", "i4", "u4", "f4", "f8", "u1"])
def test_pixels_are_those_that_astropy_reads(name: str, store: Path) -> None:
    found = ar.open_frames(store / f"{name}.zarr", unsigned="as-declared").counts.values[0]
    assert np.array_equal(found, fits.getdata(store / name / f"{name}.fit"), equal_nan=True)


@pytest.mark.parametrize("name", HDUS)
def test_zarr_and_xarray_read_the_same_values(name: str, store: Path) -> None:
    tree = xr.open_datatree(store / f"{name}.zarr", engine="zarr")
    (cube,) = (node for node in tree.leaves if "counts" in node)
    found = ar.open_frames(store / f"{name}.zarr", unsigned="as-declared")
    assert bits(cube.counts.values) == bits(found.counts.values)


def test_frames_of_several_types_share_a_group_without_loss(tmp_path: Path) -> None:
    folder = write(tmp_path / "night", **{name: HDUS[name] for name in ("i2", "u2", "f4", "blank")})
    one, other = folder, cached(folder, tmp_path / "x.zarr")
    for name in ("i2", "u2", "f4", "blank"):
        stacks = [FrameStack([find_image(at / f"{name}.fit").source]) for at in (one, other)]
        read = [stack[:, :, :] for stack in stacks]
        assert stacks[0].dtype == stacks[1].dtype
        assert bits(read[0]) == bits(read[1])


def test_frames_that_no_type_holds_together_are_refused_by_name(tmp_path: Path) -> None:
    folder = write(tmp_path / "night", **{name: HDUS[name] for name in ("i8", "f8")})
    with pytest.raises(ar.InputError, match="without loss"):
        cached(folder, tmp_path / "x.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["night"]


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_frame_can_be_read_with_the_other_sign(wrapped: bool, tmp_path: Path) -> None:
    folder = write(tmp_path / "night", i2=HDUS["i2"])
    unsigned: Any = "wrapped" if wrapped else "as-declared"
    other: Any = "as-declared" if wrapped else "wrapped"
    store = cache_night(ar.open_night(folder, unsigned=unsigned), tmp_path / "x.zarr")
    for choice in (unsigned, other):
        cubes = [ar.open_frames(place, unsigned=choice).counts for place in (folder, store)]
        assert cubes[0].dtype == cubes[1].dtype
        assert np.array_equal(*cubes)


@pytest.mark.parametrize("first", [0, 1, 29, 30, 75 * 30 - 1, 75 * 30, 75 * 30 + 1, 4000])
@pytest.mark.parametrize("size", [1, 30, 75 * 30, 75 * 30 + 7, 500])
def test_any_run_of_pixels_is_that_of_the_frame(first: int, size: int, store: Path) -> None:
    source = find_image(store / "u2.zarr" / "u2.fit").source
    truth = fits.getdata(store / "u2" / "u2.fit").ravel()[first : first + size]
    target = np.empty((1, truth.size), np.uint16)
    read_band([source], first, target)
    assert np.array_equal(target[0], truth)


def test_a_target_with_gaps_is_filled(store: Path) -> None:
    source = find_image(store / "i4.zarr" / "i4.fit").source
    room = np.zeros((SHAPE[0], 2 * SHAPE[1]), np.int64)
    read_band([source], 0, room[None, :, ::2])
    assert np.array_equal(room[:, ::2], fits.getdata(store / "i4" / "i4.fit"))
    assert not room[:, 1::2].any()


def test_the_stored_bits_can_be_read_as_such(store: Path) -> None:
    source = find_image(store / "u2.zarr" / "u2.fit").source
    found = np.empty((1, 30), np.int16)
    read_band([replace(source, pixels=PixelFormat(16))], 0, found)
    data = fits.getdata(store / "u2" / "u2.fit", do_not_scale_image_data=True)
    assert np.array_equal(found[0], data[0])


@pytest.mark.parametrize("chunks", [None, 7, "auto"])
def test_a_cached_cube_travels_between_processes(chunks: Any, store: Path) -> None:
    cube = ar.open_frames(store / "u2.zarr", chunks, unsigned="as-declared")
    again = pickle.loads(pickle.dumps(cube))
    assert again.identical(cube.compute())


def test_bands_end_where_chunks_do(tmp_path: Path) -> None:
    hdu = fits.PrimaryHDU(np.zeros((600, 20), "u2"))
    store = cached(write(tmp_path / "night", a=hdu), tmp_path / "x.zarr")
    cube = ar.open_frames(store, chunks="auto", memory=6 * 2 * 20 * 2 * 220 * 8)
    rows = cube.counts.chunks[1]
    assert len(rows) > 1
    assert all(n % 120 == 0 for n in rows[:-1])


def test_compressed_frames_are_cached_as_their_pixels(tmp_path: Path) -> None:
    folder = write(tmp_path / "night", a=HDUS["u2"])
    with gzip.open(folder / "b.fit.gz", "wb") as file:
        file.write((folder / "a.fit").read_bytes())
    tiled = fits.CompImageHDU(HDUS["u2"].data, HDUS["u2"].header, compression_type="RICE_1")
    tiled.writeto(folder / "c.fits.fz")
    store = cached(folder, tmp_path / "x.zarr")
    with pytest.warns(UserWarning, match="b is the same frame as a; c is the same frame as a"):
        found = ar.open_frames(store, chunks=10)
    assert len(found.frame) == 3
    assert all(np.array_equal(frame, HDUS["u2"].data) for frame in found.counts.values)


def test_frames_say_where_they_are_read_from(store: Path) -> None:
    cached = find_image(store / "u2.zarr" / "u2.fit").source.cached
    assert cached is not None
    assert isinstance(cached.array, CachedArray)
    assert cached.array.cache == store / "u2.zarr"


def test_what_darks_elsewhere_proved_is_known_without_them(tmp_path: Path) -> None:
    lights = np.full((60, 50), 200, "u2")
    lights[30] = 40000
    darks = RNG.normal(200, 4, (60, 50)).astype("i2")
    folder = write(tmp_path / "lights", star=fits.PrimaryHDU(lights.view("i2")))
    write(tmp_path / "darks", dark=fits.PrimaryHDU(darks))
    fits.setval(tmp_path / "darks" / "dark.fit", "IMAGETYP", value="Dark Frame")
    (tmp_path / "away").mkdir()
    store = cached(folder, tmp_path / "away" / "x.zarr")
    for path in (folder / "star.fit", tmp_path / "darks" / "dark.fit"):
        path.unlink()
    assert np.array_equal(ar.open_frames(store).counts.values[0], lights)
