"""Cubes and products are cut by the pixel numbers of FITS, from 1, eager and lazy alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

import arrayred as ar


@pytest.fixture(params=[None, 33], ids=["eager", "lazy"])
def cube(request: pytest.FixtureRequest, night: Path) -> xr.Dataset:
    return ar.open_frames(night, chunks=request.param)


def pixels(night: Path, label: str) -> Any:
    return fits.getdata(night / f"{label}.fit")


def test_a_slice_holds_both_of_its_ends(cube: xr.Dataset, night: Path) -> None:
    found = cube.counts.sel(frame="light-002", y=slice(84, 88), x=slice(119, 120))
    assert np.array_equal(found, pixels(night, "light-002")[83:88, 118:120])
    assert (list(found.y.values), list(found.x.values)) == ([84, 85, 86, 87, 88], [119, 120])


def test_a_list_takes_rows_in_its_order(cube: xr.Dataset, night: Path) -> None:
    found = cube.counts.sel(frame=["light-003", "dark-001"], y=[160, 1, 40], x=7)
    for label, row in zip(("light-003", "dark-001"), found, strict=True):
        assert np.array_equal(row, pixels(night, label)[[159, 0, 39], 6])


@pytest.mark.parametrize(("asked", "row"), [(84.4, 84), (84.6, 85), (999, 160), (-5, 1)])
def test_the_nearest_row_is_one_of_the_image(
    cube: xr.Dataset, night: Path, asked: float, row: int
) -> None:
    found = cube.counts.sel(y=asked, method="nearest").sel(frame="light-001")
    assert found.y == row
    assert np.array_equal(found, pixels(night, "light-001")[row - 1])


@pytest.mark.parametrize("where", [{"y": 0}, {"y": 161}, {"x": 121}, {"y": [84, 161]}])
def test_a_pixel_off_the_image_is_refused_not_taken_for_another(
    cube: xr.Dataset, where: dict[str, Any]
) -> None:
    with pytest.raises(KeyError, match="not all values found in index"):
        cube.counts.sel(where)


def test_what_is_cut_out_keeps_its_numbers_to_the_product_and_back(night: Path) -> None:
    image = ar.settle(ar.combine(ar.open_frames(night).isel(frame=slice(5, 8))))
    part = image.sel(y=slice(70, 100), x=slice(11, 90))
    again = ar.from_ccddata(ar.to_ccddata(part))
    assert again.counts.sel(y=84, x=50) == image.counts.sel(y=84, x=50)
