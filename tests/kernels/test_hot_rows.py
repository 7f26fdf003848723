"""Sharp things: hot pixels, hot rows and cosmic rays are, the sharpest star is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import median_filter

from arrayred.kernels import blurred_means, middle_of_five, without_hot_rows


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(3, 4), (9, 5), (30, 40)])
def test_the_middle_of_five_is_scipys(shape: tuple[int, int], axis: int) -> None:
    values = np.random.default_rng(1).normal(0, 1, shape)
    size = (5, 1) if axis == 0 else (1, 5)
    assert np.array_equal(middle_of_five(values, axis), median_filter(values, size, mode="mirror"))


@pytest.mark.parametrize("row", [0, 1, 5, 98, 99])
def test_a_hot_row_holds_no_light_wherever_it_is(row: int) -> None:
    series = np.random.default_rng(5).normal(0, 1, 100)
    series[row] = 500
    assert without_hot_rows(series, 1.0)[row] < 3


@pytest.mark.parametrize("seeing", [2.0, 3.0, 8.0])
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_a_star_of_two_rows_and_more_loses_nothing(seeing: float, offset: float) -> None:
    star = 50 * np.exp(-0.5 * ((np.arange(60) - 30 - offset) / (seeing / 2.355)) ** 2)
    assert np.array_equal(without_hot_rows(star, 1.0)[25:36], star[25:36])


def test_means_of_blurred_light_leave_sharp_things_out() -> None:
    sample = np.random.default_rng(7).normal(100, 5, (160, 240))
    rows = np.random.default_rng(8).normal(100, 5, (20, 240))
    rows[4:10] += 200.0
    rows[15] += 5000.0
    rows[13, 5:9] += 60000.0
    means = blurred_means(rows, sample)
    assert np.allclose(means[4:10], 300, atol=3)
    assert (np.abs(means[[13, 15]] - 100) < 2).all()
