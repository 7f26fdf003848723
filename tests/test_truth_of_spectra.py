"""Spectra of simulated nights against the light that was put in: a few cells of the grid.

`python -m benchmarks.truth` measures the whole grid; its aims are those of `benchmarks.truth.aims`.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from benchmarks.truth.aims import FALSE_FINDS, misses
from benchmarks.truth.cells import Cell, quick_grid
from benchmarks.truth.measures import measures_of
from benchmarks.truth.nights import compare, is_blank
from benchmarks.truth.results import measure, measure_blank

FEW = [
    Cell(10.0),
    Cell(30.0, 2.0, 8.0),
    Cell(300.0, 12.0, 0.0),
    Cell(30.0, hot=True, rays=True, flux_scatter=0.2),
    Cell(100.0, surprise="all of them"),
    Cell(30.0, surprise="bright tilted sky lines"),
]


@pytest.mark.parametrize("cell", FEW, ids=lambda cell: cell.name)
def test_spectra_are_right_and_know_how_well(cell: Cell) -> None:
    nights = [compare(cell, seed, ["default"])["default"] for seed in range(3)]
    assert misses(cell, measures_of(nights)) == []


def test_nothing_is_found_where_nothing_is() -> None:
    assert [is_blank(seed)["default"] for seed in range(6)] == [""] * 6


@pytest.mark.slow
def test_the_corners_of_the_grid_hold_its_aims() -> None:
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        missed = {cell.name: misses(cell, measure(cell, pool)["default"]) for cell in quick_grid(4)}
    assert {name: why for name, why in missed.items() if why} == {}


@pytest.mark.slow
def test_false_finds_are_rare() -> None:
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        found = measure_blank(150, pool)["default"]
    assert sum(map(bool, found)) <= FALSE_FINDS * len(found), [what for what in found if what]
