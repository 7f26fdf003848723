"""Levels of overscan strips against numpy, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from arrayred.steps import column_levels, overscan_levels, subtract_row_levels


@pytest.mark.parametrize("n", [1, 2, 3, 9, 10, 50, 51])
@pytest.mark.parametrize("dtype", ["u2", "i4", ">i2", "f4"])
def test_the_median_is_numpys_to_the_bit(n: int, dtype: str) -> None:
    strip = np.random.default_rng(n).integers(0, 30000, (3, 7, n)).astype(dtype)
    assert np.array_equal(overscan_levels(strip, "median"), np.median(strip.astype("f8"), axis=-1))


@pytest.mark.parametrize("n", [1, 5, 10, 19, 50])
def test_the_mean_leaves_out_a_tenth_at_either_end(n: int) -> None:
    strip = np.random.default_rng(n).normal(1000, 5, (4, n))
    cut = n // 10
    expected = [np.mean(np.sort(row)[cut : n - cut]) for row in strip]
    assert np.array_equal(overscan_levels(strip), expected)


def test_a_cosmic_ray_does_not_move_the_level() -> None:
    strip = np.full((1, 30), 500, np.uint16)
    strip[0, [4, 7, 8]] = 60000
    assert overscan_levels(strip)[0] == 500


@pytest.mark.parametrize(("method", "noise"), [("mean", 0.1435), ("median", 0.1755)])
def test_the_level_of_fifty_pixels_is_known_as_well_as_promised(method: str, noise: float) -> None:
    strip = np.random.default_rng(0).normal(0, 1, (60_000, 50))
    assert overscan_levels(strip, method).std() == pytest.approx(noise, rel=0.02)


def test_missing_pixels_are_left_out_and_a_row_of_them_has_no_level() -> None:
    strip = np.array([[1.0, np.nan, 3.0], [np.nan] * 3])
    assert np.array_equal(overscan_levels(strip), [2.0, np.nan], equal_nan=True)


@pytest.mark.parametrize("method", ["mean", "median"])
def test_no_level_depends_on_the_rows_beside_it(method: str) -> None:
    block = np.random.default_rng(2).normal(1e5, 300, (2, 11, 40)).astype("f4")
    whole = subtract_row_levels(block, first=3, stop=33, method=method)
    rows = [
        subtract_row_levels(block[:, i : i + 1], first=3, stop=33, method=method) for i in range(11)
    ]
    assert np.array_equal(whole, np.concatenate(rows, axis=1))


def test_unsigned_counts_below_their_level_become_negative() -> None:
    block = np.array([[[10, 20, 20]]], np.uint16)
    assert subtract_row_levels(block, first=1, stop=3, method="mean").tolist() == [
        [[-10.0, 0.0, 0.0]]
    ]


def test_columns_have_the_levels_of_their_rows_turned() -> None:
    strip = np.random.default_rng(3).integers(0, 99, (2, 20, 6))
    turned = overscan_levels(strip.swapaxes(1, 2))
    assert np.array_equal(column_levels(strip, method="mean"), turned[:, np.newaxis])
