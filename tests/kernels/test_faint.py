"""Faint light: what many columns or several lines share, and not what is merely bright."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from arrayred.kernels.faint import (
    _matched,
    blurred_means,
    faint_light,
    middle_of_five,
    slow_drift,
    step_noise,
    without_hot_rows,
)
from tests.faint_fields import SHAPE, blank_field

Image = NDArray[np.float64]
BAR = 5.0


def noise(seed: int = 0, shape: tuple[int, int] = SHAPE) -> Image:
    return np.random.default_rng(seed).normal(100, 5, shape)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(3, 4), (9, 5), (30, 40)])
def test_the_middle_of_five_is_scipys(shape: tuple[int, int], axis: int) -> None:
    values = np.random.default_rng(1).normal(0, 1, shape)
    size = (5, 1) if axis == 0 else (1, 5)
    assert np.array_equal(middle_of_five(values, axis), median_filter(values, size, mode="mirror"))


@pytest.mark.parametrize("width", [2, 3, 6, 40])
def test_matching_is_a_convolution_with_a_triangle_of_unit_noise(width: int) -> None:
    series = np.random.default_rng(2).normal(0, 1, 200)
    kernel = np.convolve(np.ones(width), np.ones(width))
    expected = np.convolve(series, kernel, "same")
    norm = np.sqrt(np.convolve(np.ones(200), kernel**2, "same"))
    assert np.allclose(_matched(series[:, np.newaxis], width)[:, 0], expected / norm)


@pytest.mark.parametrize("n_rows", [40, 63, 64, 300])
def test_a_drift_is_followed_and_a_spectrum_on_it_is_not(n_rows: int) -> None:
    y = np.linspace(-1, 1, n_rows)
    drift = 30 * y + (8 * y**3 if n_rows >= 64 else 0)
    series = drift + np.random.default_rng(3).normal(0, 1, n_rows)
    series[n_rows // 3 : n_rows // 2] += 100
    level, dark = slow_drift(series)
    assert np.abs(level - drift).max() < 2.5
    assert not dark[n_rows // 3 : n_rows // 2].any()


def test_the_noise_of_steps_ignores_slow_changes() -> None:
    series = np.random.default_rng(4).normal(0, 2, 4000) + 50 * np.sin(np.arange(4000) / 300)
    assert step_noise(series) == pytest.approx(2, rel=0.05)


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


@pytest.mark.parametrize("seeing", [2.0, 5.0, 12.0])
def test_the_brightness_of_a_row_is_that_of_its_mean(seeing: float) -> None:
    profile = np.exp(-0.5 * ((np.arange(160) - 80) / (seeing / 2.355)) ** 2)
    found = [
        faint_light(noise(i) + 20 * 5 / np.sqrt(240) * profile[:, None]).snr[80] for i in range(9)
    ]
    assert np.mean(found) == pytest.approx(20, abs=2)


def test_three_lines_without_a_continuum_are_light() -> None:
    image = noise()
    for column in (40, 120, 200):
        image[70:76, column - 1 : column + 2] += 60
    assert 69 <= int(np.argmax(faint_light(image).score)) <= 76
    assert faint_light(image).score.max() > BAR
    assert abs(np.median(image[70:76], axis=1) - 100).max() < 1.5


@pytest.mark.parametrize("columns", [(40,), (40, 160)])
def test_one_or_two_worms_of_cosmic_rays_are_none(columns: tuple[int, ...]) -> None:
    image = noise()
    for column in columns:
        image[70:76, column : column + 4] += 500
    assert faint_light(image).score.max() < BAR


def test_tracks_hot_pixels_and_bad_columns_are_none() -> None:
    image, rng = noise(), np.random.default_rng(6)
    image[rng.integers(0, 160, 60), rng.integers(0, 240, 60)] += 5000
    image[70, 20:90] += 800
    image[90:150, 33] += 800
    image[:, 200] += 3000
    assert faint_light(image).score.max() < BAR


def test_what_is_missing_is_left_out() -> None:
    image = noise()
    image[60:66] += 4
    whole = faint_light(image)
    image[10], image[:, 50], image[62, 7] = np.nan, np.nan, np.inf
    found = faint_light(image)
    assert np.isfinite(found.score).all()
    assert abs(int(np.argmax(found.score)) - int(np.argmax(whole.score))) <= 1
    assert found.snr.max() == pytest.approx(whole.snr.max(), rel=0.1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (4, 50), (7, 7), (9, 12), (50, 2)])
@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_of_an_image_with_nothing_nothing_is_said(shape: tuple[int, int], value: float) -> None:
    found = faint_light(np.full(shape, value))
    assert found.score.shape == found.snr.shape == (shape[0],)
    assert not (found.score > 0).any()


def test_a_level_or_a_factor_changes_nothing() -> None:
    image = blank_field(3).counts
    plain, changed = faint_light(image), faint_light(4 * image + 512)
    assert np.allclose(plain.score, changed.score, atol=1e-2)


def test_means_of_blurred_light_leave_sharp_things_out() -> None:
    sample, rows = noise(7), noise(8, (20, 240))
    rows[4:10] += 200.0
    rows[15] += 5000.0
    rows[13, 5:9] += 60000.0
    means = blurred_means(rows, sample)
    assert np.allclose(means[4:10], 300, atol=3)
    assert (np.abs(means[[13, 15]] - 100) < 2).all()
