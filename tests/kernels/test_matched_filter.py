"""Faint light: what many columns or several lines share, and not what is merely bright."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from arrayred.kernels import matched_filter
from arrayred.kernels.rows import _filtered_series
from tests.faint_fields import SHAPE, blank_field

Image = NDArray[np.float64]
BAR = 5.0


def noise(seed: int = 0, shape: tuple[int, int] = SHAPE) -> Image:
    return np.random.default_rng(seed).normal(100, 5, shape)


@pytest.mark.parametrize("width", [2, 3, 6, 40])
def test_matching_is_a_convolution_with_a_triangle_of_unit_noise(width: int) -> None:
    series = np.random.default_rng(2).normal(0, 1, 200)
    kernel = np.convolve(np.ones(width), np.ones(width))
    expected = np.convolve(series, kernel, "same")
    norm = np.sqrt(np.convolve(np.ones(200), kernel**2, "same"))
    assert np.allclose(_filtered_series(series[:, np.newaxis], width)[:, 0], expected / norm)


@pytest.mark.parametrize("seeing", [2.0, 5.0, 12.0])
def test_the_brightness_of_a_row_is_that_of_its_mean(seeing: float) -> None:
    profile = np.exp(-0.5 * ((np.arange(160) - 80) / (seeing / 2.355)) ** 2)
    found = [
        matched_filter(noise(i) + 20 * 5 / np.sqrt(240) * profile[:, None]).snr[80]
        for i in range(9)
    ]
    assert np.mean(found) == pytest.approx(20, abs=2)


def test_three_lines_without_a_continuum_are_light() -> None:
    image = noise()
    for column in (40, 120, 200):
        image[70:76, column - 1 : column + 2] += 60
    assert 69 <= int(np.argmax(matched_filter(image).score)) <= 76
    assert matched_filter(image).score.max() > BAR
    assert abs(np.median(image[70:76], axis=1) - 100).max() < 1.5


@pytest.mark.parametrize("columns", [(40,), (40, 160)])
def test_one_or_two_worms_of_cosmic_rays_are_none(columns: tuple[int, ...]) -> None:
    image = noise()
    for column in columns:
        image[70:76, column : column + 4] += 500
    assert matched_filter(image).score.max() < BAR


def test_tracks_hot_pixels_and_bad_columns_are_none() -> None:
    image, rng = noise(), np.random.default_rng(6)
    image[rng.integers(0, 160, 60), rng.integers(0, 240, 60)] += 5000
    image[70, 20:90] += 800
    image[90:150, 33] += 800
    image[:, 200] += 3000
    assert matched_filter(image).score.max() < BAR


def test_what_is_missing_is_left_out() -> None:
    image = noise()
    image[60:66] += 4
    whole = matched_filter(image)
    image[10], image[:, 50], image[62, 7] = np.nan, np.nan, np.inf
    found = matched_filter(image)
    assert np.isfinite(found.score).all()
    assert abs(int(np.argmax(found.score)) - int(np.argmax(whole.score))) <= 1
    assert found.snr.max() == pytest.approx(whole.snr.max(), rel=0.1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (4, 50), (7, 7), (9, 12), (50, 2)])
@pytest.mark.parametrize("value", [0.0, 7.0, np.nan])
def test_of_an_image_with_nothing_nothing_is_said(shape: tuple[int, int], value: float) -> None:
    found = matched_filter(np.full(shape, value))
    assert found.score.shape == found.snr.shape == (shape[0],)
    assert not (found.score > 0).any()


def test_a_level_or_a_factor_changes_nothing() -> None:
    image = blank_field(3).counts
    plain, changed = matched_filter(image), matched_filter(4 * image + 512)
    assert np.allclose(plain.score, changed.score, atol=1e-2)
