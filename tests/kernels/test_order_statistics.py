"""What leaving values out costs, against published variances and random numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from arrayred.kernels import clip_factor, median_factor, minmax_factor

# Variances of medians of normal samples: Teichroew, Ann. Math. Stat. 27 (1956) 410, to 5 digits.
EXACT = {1: 1.0, 3: 0.44867, 5: 0.28683, 7: 0.21045, 9: 0.16610}


@pytest.mark.parametrize("n", EXACT)
def test_the_factor_of_a_median_is_the_published_one(n: int) -> None:
    assert median_factor(n) == pytest.approx(n * EXACT[n], rel=3e-5)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6, 8, 11, 25, 50])
def test_the_factor_of_a_median_is_that_of_random_medians(n: int) -> None:
    frames = np.random.default_rng(n).normal(size=(n, 100_000))
    assert np.var(np.median(frames, axis=0)) * n == pytest.approx(median_factor(n), rel=0.02)


def test_the_factor_of_a_median_tends_to_half_pi() -> None:
    assert median_factor(2001) == pytest.approx(math.pi / 2, rel=1e-3)
    assert median_factor(2000) == pytest.approx(math.pi / 2, rel=1e-3)


@pytest.mark.parametrize("n", [3, 5, 9])
def test_a_mean_of_the_middle_value_alone_is_the_median(n: int) -> None:
    assert minmax_factor(n, n // 2, n // 2) == pytest.approx(median_factor(n), rel=1e-4)


@pytest.mark.parametrize("n", [4, 10])
def test_a_mean_of_the_two_middle_values_is_the_median(n: int) -> None:
    assert minmax_factor(n, n // 2 - 1, n // 2 - 1) == pytest.approx(median_factor(n), rel=1e-4)


@pytest.mark.parametrize(
    ("n", "low", "high"),
    [(3, 1, 1), (4, 0, 1), (5, 1, 1), (5, 1, 2), (11, 1, 1), (25, 3, 5), (100, 20, 1)],
)
def test_the_factor_of_a_mean_without_extremes_is_that_of_random_ones(
    n: int, low: int, high: int
) -> None:
    frames = np.sort(np.random.default_rng(n).normal(size=(n, 60_000)), axis=0)
    found = np.var(frames[low : n - high].mean(axis=0)) * n
    assert found == pytest.approx(minmax_factor(n, low, high), rel=0.025)


def test_a_mean_of_all_costs_nothing() -> None:
    assert minmax_factor(7, 0, 0) == clip_factor(1, 3.0) == clip_factor(2, 1.0) == 1.0
    assert clip_factor(6, 9.0) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("n", [3, 4, 5, 8, 24, 60])
@pytest.mark.parametrize("n_sigma", [1.5, 3.0])
def test_the_factor_of_clipping_is_that_of_random_clipped_means(n: int, n_sigma: float) -> None:
    frames = np.random.default_rng(n).normal(size=(n, 100_000))
    centre = np.median(frames, axis=0)
    kept = np.abs(frames - centre) <= n_sigma
    n_kept = kept.sum(axis=0)
    means = np.where(n_kept > 0, (frames * kept).sum(axis=0) / np.maximum(n_kept, 1), centre)
    assert np.var(means) * n == pytest.approx(clip_factor(n, n_sigma), rel=0.02)
