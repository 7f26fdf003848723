"""Pieces of images along the dispersion."""

from __future__ import annotations

import numpy as np
import pytest

from arrayred.steps import TileGrid, values_at
from tests.steps import cube_of

SHAPES = [(5, 30), (7, 48), (3, 100), (4, 131)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("upright", [False, True])
def test_every_pixel_is_one_cells_own(shape: tuple[int, int], upright: bool) -> None:
    grid = TileGrid(shape[::-1] if upright else shape, upright)
    cells = np.arange(shape[0] * grid.n_blocks)
    own = np.sort(grid.pixels(cells)[grid.own(cells)])
    assert np.array_equal(own, np.arange(shape[0] * shape[1]))


@pytest.mark.parametrize("upright", [False, True])
def test_a_pixel_is_held_by_the_cell_that_owns_it(upright: bool) -> None:
    grid = TileGrid((131, 4) if upright else (4, 131), upright)
    for pixel in range(0, 524, 13):
        (cell,) = grid.holding(np.array([pixel]))
        assert pixel in grid.pixels(np.array([cell]))[grid.own(np.array([cell]))]


def test_neighbours_stay_in_the_image() -> None:
    assert TileGrid((3, 4)).around(np.array([0])).tolist() == [0, 1, 4, 5]
    assert TileGrid((3, 4)).around(np.array([11, 6])).tolist() == [1, 2, 3, 5, 6, 7, 9, 10, 11]


@pytest.mark.parametrize("chunks", [None, 2])
def test_values_come_in_any_order(chunks: int | None) -> None:
    pixels = np.arange(2 * 5 * 6).reshape(2, 5, 6)
    cube = cube_of(pixels) if chunks is None else cube_of(pixels).chunk({"y": chunks})
    where = np.array([[17, 3], [3, 29]])
    assert np.array_equal(values_at(cube, where), pixels.reshape(2, -1)[:, where])
