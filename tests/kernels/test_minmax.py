"""The mean without extremes is that of the sorted values: exact for integers, else to rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from arrayred.kernels import mean, minmax_mean

Array = NDArray[Any]
SHAPE = (7, 9)
LOW_HIGH = [(1, 1), (0, 1), (2, 0), (3, 2), (0, 0)]


def of_sorted(values: Array, low: int, high: int) -> Array:
    """Return the mean of the sorted values without the first and the last."""
    in_order = np.sort(values.astype(np.float64), axis=0)
    return np.asarray(np.mean(in_order[low : len(values) - high], axis=0))


def random_block(dtype: str, n: int, many_ties: bool = False) -> Array:
    rng = np.random.default_rng(n)
    return rng.integers(0, 4 if many_ties else 120, (n, *SHAPE)).astype(dtype)


@pytest.mark.parametrize(("low", "high"), LOW_HIGH)
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", ">u2", "u4", "i8", "f4", "f8"])
def test_whole_numbers_give_the_bits_of_the_sorted_ones(dtype: str, low: int, high: int) -> None:
    dark = np.random.default_rng(3).integers(0, 90, SHAPE) * 0.5
    for n in (low + high + 1, 9, 26):
        for many_ties in (False, True):
            block = random_block(dtype, n, many_ties)
            expected = of_sorted(block, low, high)
            assert np.array_equal(minmax_mean(block, low=low, high=high), expected)
            less = of_sorted(block - dark, low, high)
            assert np.array_equal(minmax_mean(block, dark, low=low, high=high), less)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_fractions_are_those_of_the_sorted_ones_to_rounding(dtype: str) -> None:
    block = np.random.default_rng(1).normal(1000, 30, (20, *SHAPE)).astype(dtype)
    expected = of_sorted(block, 2, 3)
    np.testing.assert_allclose(minmax_mean(block, low=2, high=3), expected, rtol=1e-14)


@pytest.mark.parametrize("dtype", ["u2", "f4"])
def test_minus_equals_subtracting_first(dtype: str) -> None:
    block = np.random.default_rng(5).normal(1000, 30, (11, *SHAPE)).astype(dtype)
    dark = np.random.default_rng(6).random(SHAPE) * 100
    assert np.array_equal(minmax_mean(block, dark), minmax_mean(block.astype(np.float64) - dark))


def test_an_outlier_costs_no_digits() -> None:
    block = np.full((5, 1, 1), 0.1)
    block[1], block[3] = 1e30, -np.inf
    assert minmax_mean(block).item() == mean(block[[0, 2, 4]]).item()


def test_missing_values_are_not_counted_among_the_extremes() -> None:
    block = np.random.default_rng(2).normal(0, 1, (12, *SHAPE))
    block[np.random.default_rng(4).random(block.shape) < 0.3] = np.nan
    result = minmax_mean(block, low=1, high=2)
    for y, x in np.ndindex(SHAPE):
        there = block[~np.isnan(block[:, y, x]), y, x].reshape(-1, 1, 1)
        assert result[y, x] == minmax_mean(there, low=1, high=2).item()


def test_a_pixel_of_too_few_values_is_nan() -> None:
    block = np.ones((5, 1, 3))
    block[:3, 0, 0] = block[:2, 0, 1] = np.nan
    assert np.array_equal(minmax_mean(block), [[np.nan, 1.0, 1.0]], equal_nan=True)
    assert np.isnan(minmax_mean(np.ones((2, 1, 3), np.uint16))).all()


def test_masked_values_are_left_out_beforehand() -> None:
    block = random_block("u2", 15)
    mask = np.random.default_rng(8).random(block.shape) < 0.2
    as_missing = np.where(mask, np.nan, block.astype(np.float64))
    assert np.array_equal(minmax_mean(block, mask=mask), minmax_mean(as_missing))


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="-1 lowest and 1 highest"):
        minmax_mean(np.zeros((3, 2, 2)), low=-1)
