"""The vocabulary: what a cube and an image must be, and when two hold the same pixels."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import xarray as xr

from arrayred.errors import MismatchError
from arrayred.model import (
    FRAME_TYPES,
    SETUP_COORDS,
    Rows,
    Run,
    add_history,
    add_remark,
    check_cube,
    check_image,
    require_same_pixels,
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


def test_the_same_pixels_are_the_same() -> None:
    require_same_pixels(dataset("frame", "y", "x"), dataset("y", "x"))


@pytest.mark.parametrize("dim", ["y", "x"])
@pytest.mark.parametrize("shift", [1, -1])
def test_other_labels_are_other_pixels_though_the_shape_agrees(dim: str, shift: int) -> None:
    one = dataset("y", "x")
    other = one.assign_coords({dim: one[dim] + shift})
    with pytest.raises(MismatchError, match=f"{dim} runs over 1:"):
        require_same_pixels(one, other)


def test_nothing_at_all_is_other_pixels() -> None:
    with pytest.raises(MismatchError, match="nothing"):
        require_same_pixels(dataset("y", "x"), dataset("y", "x").isel(y=slice(0, 0)))


@pytest.mark.parametrize("name", SETUP_COORDS)
def test_setups_are_compared_where_both_sides_know_them(name: str) -> None:
    plain = dataset("y", "x")
    one, other = plain.assign_coords({name: "1x1"}), plain.assign_coords({name: "2x2"})
    require_same_pixels(one, one)
    require_same_pixels(one, plain)
    require_same_pixels(plain, other)
    with pytest.raises(MismatchError, match=f"{name} is '1x1' here and '2x2' there") as caught:
        require_same_pixels(one, other)
    assert (caught.value.keyword, caught.value.value) == (name, "2x2")


@pytest.mark.parametrize(("add", "attr"), [(add_remark, "remarks"), (add_history, "history")])
def test_lines_are_added_in_order_to_a_new_dataset(
    add: Callable[[xr.Dataset, str], xr.Dataset], attr: str
) -> None:
    first = add(dataset("y", "x"), "one")
    second = add(first, "two")
    assert second.attrs[attr] == ["one", "two"]
    assert first.attrs[attr] == ["one"]
