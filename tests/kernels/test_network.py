"""The selection network finds the middle value: proven by the zero-one principle where it is small.

A network that selects the middle of every sequence of zeros and ones selects the middle of every
sequence (Knuth, The Art of Computer Programming 3, 5.3.4, theorem Z).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from arrayred.kernels import median_network

NOBODY_READS_THIS = np.int64(-99)


def middle_of(columns: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Run the network on columns (n, case); results that it says nobody reads are spoilt."""
    n = len(columns)
    lanes = list(columns)
    for low, high, keep_low, keep_high in median_network(n):
        a, b = lanes[low], lanes[high]
        lanes[low] = np.minimum(a, b) if keep_low else np.full_like(a, NOBODY_READS_THIS)
        lanes[high] = np.maximum(a, b) if keep_high else np.full_like(b, NOBODY_READS_THIS)
    return lanes[(n - 1) // 2], lanes[n // 2]


@pytest.mark.parametrize("n", range(1, 13))
def test_the_middle_of_every_zero_one_input_is_found(n: int) -> None:
    cases = (np.arange(2**n) >> np.arange(n)[:, np.newaxis]) & 1
    ones = cases.sum(axis=0)
    lower, upper = middle_of(cases)
    assert np.array_equal(lower, ones > n // 2)
    assert np.array_equal(upper, ones > (n - 1) // 2)


@pytest.mark.parametrize("n", [*range(13, 34), 40, 63, 64, 65, 101, 128, 150])
def test_the_middle_of_random_inputs_is_found(n: int) -> None:
    rng = np.random.default_rng(n)
    cases = rng.permuted(np.repeat(np.arange(n)[:, np.newaxis], 200, axis=1), axis=0)
    cases[:, 100:] //= 3
    lower, upper = middle_of(cases)
    in_order = np.sort(cases, axis=0)
    assert np.array_equal(lower, in_order[(n - 1) // 2])
    assert np.array_equal(upper, in_order[n // 2])


@pytest.mark.parametrize(("n", "comparators"), [(5, 8), (11, 31), (25, 113), (101, 905)])
def test_the_network_is_as_small_as_promised(n: int, comparators: int) -> None:
    assert len(median_network(n)) == comparators


@pytest.mark.parametrize("n", [2, 5, 8, 25])
def test_no_comparator_is_idle_or_points_astray(n: int) -> None:
    for low, high, keep_low, keep_high in median_network(n):
        assert 0 <= low < high < n
        assert keep_low or keep_high
