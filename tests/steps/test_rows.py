"""Statistics of rows: the same bits for any chunks and with any accelerator of xarray."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import arrayred as ar
from tests.steps import Array, cube_of, image_of


@pytest.fixture(scope="module")
def pixels() -> Array:
    return np.random.default_rng(0).normal(1000, 300, (3, 6, 41))


def test_the_numbers_are_mean_population_deviation_and_median(pixels: Array) -> None:
    found = ar.row_statistics(cube_of(pixels))
    row = np.ascontiguousarray(pixels[1, 4])
    numbers = [found[name].values[1, 4] for name in ("mean", "std", "median")]
    assert numbers == [np.mean(row), np.std(row), np.median(row)]


@settings(deadline=None, max_examples=30)
@given(
    frame=st.integers(1, 3),
    y=st.integers(1, 6),
    x=st.integers(1, 41),
    dtype=st.sampled_from(["u2", ">f4", "f8"]),
)
def test_lazy_numbers_are_identical_for_any_chunks(
    pixels: Array, frame: int, y: int, x: int, dtype: str
) -> None:
    cube = cube_of(pixels.astype(dtype))
    lazy = ar.row_statistics(cube.chunk({"frame": frame, "y": y, "x": x}))
    assert dask.is_dask_collection(lazy["std"].data)
    assert {variable.dtype for variable in lazy.values()} == {np.dtype(np.float64)}
    assert lazy.compute(scheduler="sync").identical(ar.row_statistics(cube))


def test_numbers_do_not_depend_on_bottleneck(pixels: Array) -> None:
    pytest.importorskip("bottleneck")
    found = []
    for use in (True, False):
        with xr.set_options(use_bottleneck=use):
            found.append(ar.row_statistics(cube_of(pixels).chunk({"y": 3})).compute())
    assert found[0].identical(found[1])


def test_an_image_has_rows_too(pixels: Array) -> None:
    found = ar.row_statistics(image_of(pixels[0]))
    assert found["mean"].dims == ("y",)
    assert np.array_equal(found["mean"], ar.row_statistics(cube_of(pixels))["mean"][0])


def test_coordinates_but_those_along_x_are_kept(pixels: Array) -> None:
    cube = cube_of(pixels, exptime=("frame", [1.0, 2.0, 3.0]), binning="1x1")
    found = ar.row_statistics(cube)
    assert set(found.coords) == {"y", "exptime", "binning"}
    assert found["mean"].attrs["units"] == "adu"


def test_the_cube_is_not_changed(pixels: Array) -> None:
    cube = cube_of(pixels)
    before = cube.copy(deep=True)
    ar.row_statistics(cube)
    assert cube.identical(before)
