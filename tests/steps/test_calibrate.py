"""A dark is subtracted from frames of the same pixels, in float64, as lazily as they come."""

from __future__ import annotations

from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.errors import MismatchError
from arrayred.steps import adapt_dark, with_bad_pixels
from tests.steps import Array, cube_of, image_of


@pytest.fixture
def pixels() -> Array:
    return np.random.default_rng(0).integers(0, 65535, (3, 8, 5), np.uint16)


@pytest.fixture
def dark() -> xr.Dataset:
    return image_of(np.random.default_rng(1).normal(1000, 300, (8, 5)))


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", ">i4", "f4", "f8"])
def test_every_frame_is_less_the_dark_in_float64(
    dtype: str, pixels: Array, dark: xr.Dataset
) -> None:
    frames = (pixels % 100).astype(dtype)
    calibrated = ar.subtract_dark(cube_of(frames), dark)
    assert calibrated.counts.dtype == np.float64
    expected = np.stack([frame.astype(np.float64) - dark.counts.values for frame in frames])
    assert np.array_equal(calibrated.counts, expected)


def test_unsigned_counts_below_the_dark_become_negative() -> None:
    cube = cube_of(np.full((1, 2, 2), 10, np.uint16))
    assert (ar.subtract_dark(cube, image_of(np.full((2, 2), 20, np.uint16))).counts == -10).all()


@pytest.mark.parametrize("chunks", [{"y": 3}, {"frame": 1, "y": 5, "x": 2}])
@pytest.mark.parametrize("lazy_dark", [True, False])
def test_a_lazy_cube_stays_lazy_and_gives_the_same_bits(
    chunks: dict[str, int], lazy_dark: bool, pixels: Array, dark: xr.Dataset
) -> None:
    cube = cube_of(pixels)
    lazy = ar.subtract_dark(cube.chunk(chunks), dark.chunk({"y": 4}) if lazy_dark else dark)
    assert dask.is_dask_collection(lazy.counts.data)
    assert lazy.compute().identical(ar.subtract_dark(cube, dark))


def test_all_else_stays_and_the_history_says_so(pixels: Array, dark: xr.Dataset) -> None:
    cube = cube_of(pixels, exptime=("frame", [1.0, 2.0, 3.0]), binning="1x1")
    calibrated = ar.subtract_dark(cube, dark)
    expected = cube.assign_attrs(history=["opened", "dark subtracted"])
    assert calibrated.assign(counts=cube.counts).identical(expected)
    assert calibrated.counts.attrs == {"units": "adu"}


def test_the_input_is_not_changed(pixels: Array, dark: xr.Dataset) -> None:
    cube = cube_of(pixels)
    before, dark_before = cube.copy(deep=True), dark.copy(deep=True)
    ar.subtract_dark(cube, dark)
    assert cube.identical(before)
    assert dark.identical(dark_before)


@pytest.mark.parametrize("chunks", [None, {"y": 3}])
@pytest.mark.parametrize(
    "part", [{"y": slice(2, 6)}, {"x": slice(1, 4)}, {"y": slice(2, 3), "x": [4]}]
)
def test_a_dark_of_the_whole_detector_is_cut_to_a_trimmed_light(
    part: dict[str, Any], chunks: Any, pixels: Array, dark: xr.Dataset
) -> None:
    flags = (("y", "x"), np.arange(dark.counts.size, dtype=np.uint8).reshape(dark.counts.shape))
    whole, dark = cube_of(pixels), dark.assign(dq=flags)
    expected = ar.subtract_dark(whole, dark).isel(part)
    cut = whole.isel(part) if chunks is None else whole.chunk(chunks).isel(part)
    for turned in (dark, dark.isel(y=slice(None, None, -1))):
        xr.testing.assert_identical(ar.subtract_dark(cut, turned).compute(), expected)
        combined = ar.combine(cut, minus=turned).compute()
        xr.testing.assert_equal(combined, ar.combine(whole, minus=dark).isel(part))
    divided = ar.divide_flat(cut, with_bad_pixels(dark.drop_vars("dq"))).compute()
    of_whole = ar.divide_flat(whole, with_bad_pixels(dark.drop_vars("dq"))).isel(part)
    assert np.array_equal(divided.counts, of_whole.counts)


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ({"y": slice(0, 7)}, "y runs over"),
        ({"y": slice(1, 8)}, "y runs over"),
        ({"x": slice(0, 4)}, "x runs over"),
    ],
)
def test_a_dark_of_other_pixels_is_refused(
    part: dict[str, slice], named: str, pixels: Array, dark: xr.Dataset
) -> None:
    with pytest.raises(MismatchError, match=named):
        ar.subtract_dark(cube_of(pixels), dark.isel(part))


@pytest.mark.parametrize("name", ["binning", "origin", "readout", "gain_setting"])
def test_a_dark_of_another_setup_is_refused(name: str, pixels: Array, dark: xr.Dataset) -> None:
    ours: dict[str, Any] = {name: "one"}
    with pytest.raises(MismatchError, match=name) as caught:
        ar.subtract_dark(cube_of(pixels, **ours), dark.assign_coords({name: "other"}))
    assert caught.value.keyword == name


def test_one_image_is_no_cube(dark: xr.Dataset) -> None:
    with pytest.raises(MismatchError, match="cube"):
        ar.subtract_dark(dark, dark)


@pytest.mark.parametrize("factor", [1.0, 0.5, 0.1, 3.0])
@pytest.mark.parametrize(
    ("has_bias", "keep_bias"), [(True, True), (True, False), (False, True), (False, False)]
)
def test_a_dark_is_adapted_in_bias_and_exposure(
    has_bias: bool, keep_bias: bool, factor: float
) -> None:
    current, bias = np.full((2, 3), 40.0), np.arange(6.0).reshape(2, 3) + 300
    dark, level = image_of(current + bias * has_bias), image_of(bias)
    found = adapt_dark(dark, level, has_bias=has_bias, keep_bias=keep_bias, factor=factor)
    assert found.counts.values == pytest.approx(current * factor + bias * keep_bias, rel=1e-12)


def test_what_was_done_to_a_dark_is_told() -> None:
    dark, bias = image_of(np.full((2, 2), 9.0)), image_of(np.full((2, 2), 3.0))
    made = adapt_dark(dark, bias, keep_bias=False, factor=0.25)
    assert made.attrs["history"][1:] == ["bias subtracted", "dark current scaled by 0.25"]


def test_no_dark_with_a_bias_is_scaled_without_it() -> None:
    with pytest.raises(ar.UsageError, match="without a bias"):
        adapt_dark(image_of(np.ones((2, 2))), factor=0.5)


def test_the_history_names_the_kind_of_master(pixels: Array, dark: xr.Dataset) -> None:
    calibrated = ar.subtract_dark(cube_of(pixels), dark.assign_attrs(kind="bias"))
    assert calibrated.attrs["history"] == ["opened", "bias subtracted"]


def test_the_noise_of_an_adapted_dark_is_that_of_its_parts() -> None:
    rng = np.random.default_rng(3)
    darks, biases = rng.normal(0, 5, (4, 20_000)), rng.normal(0, 3, (2, 20_000))
    known = [(5.0, 4, darks), (3.0, 2, biases)]
    dark, bias = (
        image_of(each.mean(axis=0)[np.newaxis]).assign_attrs(noise=noise).assign_coords(n_frames=n)
        for noise, n, each in known
    )
    made = adapt_dark(dark, bias, factor=0.3)
    assert made.counts.values.std() * 2 == pytest.approx(made.attrs["noise"], rel=0.02)
