"""The vocabulary: what a cube and an image must be, and when two hold the same pixels."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
import xarray as xr

from arrayred.errors import ArrayredError, MismatchError
from arrayred.model import (
    FRAME_TYPES,
    SETUP_COORDS,
    Rows,
    Run,
    add_history,
    add_remark,
    check_cube,
    check_image,
    is_check,
    remark_about,
    to_check,
    with_pixels_of,
    without_level,
)

ROWS = Rows(484, 518, 35, 16.3, 11.6, 4.0, 62.6, others=(Run(600, 601),))


def dataset(*dims: str, name: str = "counts") -> xr.Dataset:
    sizes = {"frame": 2, "y": 3, "x": 4}
    labels = {dim: np.arange(1, sizes[dim] + 1) for dim in dims}
    return xr.Dataset({name: (dims, np.zeros([sizes[dim] for dim in dims]))}, labels)


def test_rows_include_both_ends() -> None:
    assert ROWS.n_rows == 35
    image = xr.DataArray(np.arange(1, 1025), coords=[("y", np.arange(1, 1025))])
    taken = image.sel(y=ROWS.span).values
    assert (taken[0], taken[-1], taken.size) == (484, 518, 35)


def test_rows_are_frozen_and_travel_between_processes() -> None:
    assert pickle.loads(pickle.dumps(ROWS)) == ROWS
    with pytest.raises(FrozenInstanceError):
        ROWS.first = 1  # type: ignore[misc]


def test_the_frame_types_are_the_five_of_the_glossary() -> None:
    assert set(FRAME_TYPES) == {"bias", "dark", "flat", "arc", "light"}


@pytest.mark.parametrize(
    ("check", "fitting"), [(check_cube, ("frame", "y", "x")), (check_image, ("y", "x"))]
)
def test_the_right_dims_pass_and_others_are_named(
    check: Callable[[xr.Dataset], None], fitting: tuple[str, ...]
) -> None:
    check(dataset(*fitting))
    for dims in [("frame", "y", "x"), ("y", "x"), ("x", "y"), ("y", "x", "frame"), ("x",)]:
        if dims != fitting:
            with pytest.raises(MismatchError, match="counts"):
                check(dataset(*dims))


@pytest.mark.parametrize("check", [check_cube, check_image])
def test_without_counts_the_variables_found_are_named(check: Callable[[xr.Dataset], None]) -> None:
    with pytest.raises(MismatchError, match="flux"):
        check(dataset("y", "x", name="flux"))


def test_an_image_must_lie_in_memory() -> None:
    with pytest.raises(MismatchError, match="compute"):
        check_image(dataset("y", "x").chunk({"y": 1}))
    check_cube(dataset("frame", "y", "x").chunk({"y": 1}))


def test_the_same_pixels_are_the_same_object() -> None:
    image = dataset("y", "x")
    assert with_pixels_of(dataset("frame", "y", "x"), image) is image


@pytest.mark.parametrize("dim", ["y", "x"])
@pytest.mark.parametrize("shift", [1, -1])
def test_other_labels_are_other_pixels_though_the_shape_agrees(dim: str, shift: int) -> None:
    one = dataset("y", "x")
    other = one.assign_coords({dim: one[dim] + shift})
    with pytest.raises(MismatchError, match=f"{dim} runs over 1:.*{dim}=slice") as caught:
        with_pixels_of(one, other)
    first, stop = one[dim].values[[0, -1]]
    both = slice(max(first, first + shift), min(stop, stop + shift))
    assert f".sel({dim}=slice({both.start}, {both.stop}))" in str(caught.value)
    cut = one.sel({dim: both})
    assert with_pixels_of(cut, other).indexes[dim].equals(cut.indexes[dim])


@pytest.mark.parametrize("part", [slice(2, 3), [3, 1], [2]])
def test_an_image_that_has_all_pixels_is_cut_to_them_by_their_numbers(part: Any) -> None:
    whole = dataset("y", "x")
    whole["counts"][...] = 10 * whole.y + whole.x
    for chunked in (whole, whole.chunk({"y": 2})):
        cut = with_pixels_of(dataset("frame", "y", "x").sel(y=part, x=slice(2, 4)), chunked)
        xr.testing.assert_identical(cut.compute(), whole.sel(y=part, x=slice(2, 4)))


def test_nothing_at_all_is_other_pixels() -> None:
    with pytest.raises(ArrayredError, match="0 along y"):
        with_pixels_of(dataset("y", "x"), dataset("y", "x").isel(y=slice(0, 0)))


def test_pixels_without_numbers_are_never_matched() -> None:
    with pytest.raises(MismatchError, match="no numbers y"):
        with_pixels_of(dataset("y", "x"), dataset("y", "x").drop_vars("y"))


@pytest.mark.parametrize("name", SETUP_COORDS)
def test_setups_are_compared_where_both_sides_know_them(name: str) -> None:
    plain = dataset("y", "x")
    one, other = plain.assign_coords({name: "1x1"}), plain.assign_coords({name: "2x2"})
    with_pixels_of(one, one)
    with_pixels_of(one, plain)
    with_pixels_of(plain, other)
    with pytest.raises(MismatchError, match=f"{name} is '1x1' here and '2x2' there") as caught:
        with_pixels_of(one, other)
    assert (caught.value.keyword, caught.value.value) == (name, "2x2")


WRONG: dict[str, tuple[Any, str]] = {
    "an array": (np.zeros((2, 3, 4)), "is an xarray.Dataset, but this is numpy.ndarray"),
    "a DataArray": (dataset("frame", "y", "x").counts, "is an xarray.Dataset"),
    "nothing": (None, "is an xarray.Dataset"),
    "objects": (dataset("frame", "y", "x").astype(object), "dtype object"),
    "truth": (dataset("frame", "y", "x").astype(bool), "dtype bool"),
    "No frames": (dataset("frame", "y", "x").isel(frame=slice(0)), "0 along frame"),
    "no rows": (dataset("frame", "y", "x").isel(y=slice(0)), "0 along y"),
    "a number twice": (dataset("frame", "y", "x").isel(x=[0, 1, 1]), "number 2 occurs twice"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_cube_is_refused_with_what_it_is(name: str) -> None:
    wrong, told = WRONG[name]
    with pytest.raises(ArrayredError, match=told) as caught:
        check_cube(wrong)
    assert caught.value.hint


@pytest.mark.parametrize(("add", "attr"), [(add_remark, "remarks"), (add_history, "history")])
def test_lines_are_added_in_order_to_a_new_dataset(
    add: Callable[[xr.Dataset, str], xr.Dataset], attr: str
) -> None:
    first = add(dataset("y", "x"), "one")
    second = add(first, "two")
    assert second.attrs[attr] == ["one", "two"]
    assert first.attrs[attr] == ["one"]


def test_a_remark_keeps_its_level_whatever_it_is_about() -> None:
    assert remark_about("Vega", to_check("saturated")) == to_check("Vega: saturated")
    assert not is_check(remark_about("Vega", "the lamp is an arc"))
    assert without_level(remark_about("Vega", to_check("saturated"))) == "Vega: saturated"
