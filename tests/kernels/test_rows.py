"""Statistics of rows, the background sample and runs of bright rows, against slow obvious sums."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from arrayred.kernels import (
    background,
    bright_runs,
    robust_std,
    row_means,
    statistics_of_rows,
    sum_of_rows,
)


@pytest.mark.parametrize("dtype", ["u1", "u2", ">i2", "u4", ">f4", "f8"])
def test_row_statistics_are_mean_population_deviation_and_median(dtype: str) -> None:
    block = np.random.default_rng(3).integers(0, 255, (2, 4, 101)).astype(dtype)
    means, deviations, medians = statistics_of_rows(block)
    for frame, y in np.ndindex(2, 4):
        values = [float(value) for value in block[frame, y]]
        assert means[frame, y] == pytest.approx(statistics.fmean(values), rel=1e-14)
        assert deviations[frame, y] == pytest.approx(statistics.pstdev(values), rel=1e-13)
        assert medians[frame, y] == statistics.median(values)


@pytest.mark.parametrize("shape", [(5, 60), (3, 5, 60), (2, 3, 5, 60)])
def test_row_statistics_keep_every_axis_but_the_last(shape: tuple[int, ...]) -> None:
    block = np.random.default_rng(3).random(shape)
    result = statistics_of_rows(block)
    assert result.shape == (3, *shape[:-1])
    last = (-1,) * (len(shape) - 1)
    assert result[2][last] == statistics.median(block[last].tolist())


@settings(deadline=None, max_examples=50)
@given(first=st.integers(0, 19), height=st.integers(1, 20), width=st.integers(1, 300))
def test_the_numbers_of_a_row_do_not_depend_on_its_neighbours(
    first: int, height: int, width: int
) -> None:
    image = np.random.default_rng(width).normal(100, 30, (20, 300))[:, :width]
    part = slice(first, first + height)
    assert np.array_equal(statistics_of_rows(image[part]), statistics_of_rows(image)[:, part])
    assert np.array_equal(statistics_of_rows(np.asfortranarray(image)), statistics_of_rows(image))


def test_a_missing_pixel_makes_its_row_missing_and_no_other() -> None:
    image = np.ones((4, 30))
    image[2, 7] = np.nan
    missing = np.isnan(statistics_of_rows(image))
    assert missing[:, 2].all()
    assert missing.sum() == 3


def test_row_means_are_the_means_of_rows() -> None:
    image = np.random.default_rng(2).normal(100, 30, (30, 257))
    expected = [math.fsum(row) / 257 for row in image]
    assert row_means(image) == pytest.approx(expected, rel=1e-14)


def test_background_is_mean_and_population_deviation_of_all_pixels() -> None:
    sample = np.random.default_rng(2).normal(100, 30, (50, 63))
    found = background(sample)
    assert found.mean == pytest.approx(statistics.fmean(sample.ravel()), rel=1e-14)
    assert found.std == pytest.approx(statistics.pstdev(sample.ravel()), rel=1e-12)


def test_robust_deviation_is_that_of_a_normal_sample_whatever_is_hot() -> None:
    sample = np.random.default_rng(4).normal(100, 30, (100, 200))
    assert robust_std(sample) == pytest.approx(30, rel=0.02)
    sample[::10, ::10] = 60_000
    assert robust_std(sample) == pytest.approx(30, rel=0.03)


def obvious_runs(bright: list[bool], max_gap: int) -> list[tuple[int, int]]:
    """Walk along the rows: a bright row joins the run before it if the gap is small enough."""
    found: list[tuple[int, int]] = []
    for y, is_bright in enumerate(bright):
        if is_bright and found and y - found[-1][1] <= max_gap:
            found[-1] = (found[-1][0], y + 1)
        elif is_bright:
            found.append((y, y + 1))
    return found


@settings(deadline=None, max_examples=200)
@given(bright=st.lists(st.booleans(), max_size=60), max_gap=st.integers(0, 8))
def test_runs_are_those_of_the_obvious_walk(bright: list[bool], max_gap: int) -> None:
    assert bright_runs(np.array(bright, bool), max_gap=max_gap) == obvious_runs(bright, max_gap)


@settings(deadline=None, max_examples=50)
@given(
    band=hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 40), st.integers(2, 20)),
        elements=st.floats(-1e6, 1e6),
        fill=st.nothing(),
    )
)
def test_rows_are_added_one_by_one_in_order(band: np.ndarray) -> None:
    total = np.zeros(band.shape[1])
    for row in band:
        total = total + row
    assert np.array_equal(sum_of_rows(band), total)
    assert np.array_equal(sum_of_rows(np.asfortranarray(band)), total)


def test_no_row_at_all_adds_up_to_nothing() -> None:
    assert np.array_equal(sum_of_rows(np.empty((0, 4))), np.zeros(4))
