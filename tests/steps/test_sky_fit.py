"""The sky of a column: unbiased to 0.01 of a pixel's noise, with a variance that is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from arrayred.steps import SkyModel, SkyPixels, column_medians, fit_columns, typical_rows

Array = NDArray[Any]
MODELS: tuple[SkyModel, ...] = ("mean", "median", "linear")
N_ROWS, N_COLUMNS = 120, 3000


def band_of(pixels: Array, n_below: int | None = None, gap: float = 40.0) -> SkyPixels:
    """Return pixels as two sides of a star, half the rows on each if not said otherwise."""
    n = len(pixels) // 2 if n_below is None else n_below
    rows = np.arange(len(pixels), dtype=float) - n + 0.5
    distance = (rows + gap * np.sign(rows))[:, np.newaxis] * np.ones((1, pixels.shape[1]))
    return SkyPixels(pixels, np.isfinite(pixels), distance, n)


@pytest.fixture(scope="module")
def noisy() -> Array:
    return np.random.default_rng(1).normal(100, 5, (N_ROWS, N_COLUMNS))


@pytest.mark.parametrize("model", MODELS)
def test_level_and_variance_are_right_on_plain_noise(noisy: Array, model: SkyModel) -> None:
    fit = fit_columns(band_of(noisy), np.full(N_COLUMNS, 5.0), model)
    pulls = (fit.level - 100) / np.sqrt(fit.variance)
    assert abs(pulls.mean()) < 0.06
    assert pulls.std() == pytest.approx(1, abs=0.05)
    assert fit.scatter == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("light", [3, 10, 100])
def test_few_photons_bias_the_mean_by_less_than_a_hundredth_of_their_noise(light: int) -> None:
    pixels = np.random.default_rng(2).poisson(light, (N_ROWS, 6000)).astype(float)
    fit = fit_columns(band_of(pixels), np.full(6000, light**0.5), "linear")
    assert abs(np.mean(fit.level) - light) < 0.008 * light**0.5


def test_a_line_without_outliers_is_that_of_polyfit(noisy: Array) -> None:
    band = band_of(noisy[:, :5].clip(90, 110), 50)
    fit = fit_columns(band, np.full(5, 50.0), "linear")
    for x in range(5):
        slope, level = np.polyfit(band.distance[:, x], band.pixels[:, x], 1)
        assert (fit.level[x], fit.slope[x]) == pytest.approx((level, slope), rel=1e-9)
    _, covariance = np.polyfit(band.distance[:, 0], band.pixels[:, 0], 1, cov="unscaled")
    assert fit.variance == pytest.approx(np.full(5, 2500 * covariance[1, 1]))


@pytest.mark.parametrize(("model", "reduce"), [("mean", np.nanmean), ("median", np.nanmedian)])
def test_mean_and_median_are_those_of_numpy(noisy: Array, model: SkyModel, reduce: Any) -> None:
    pixels = noisy[:, :50].copy()
    pixels[3:9, 7] = np.nan
    fit = fit_columns(band_of(pixels, 20), np.full(50, 50.0), model)
    assert fit.level == pytest.approx(reduce(pixels, axis=0), rel=1e-13)
    assert not fit.slope.any()


def spoilt(pixels: Array, by: str) -> Array:
    """Return the pixels with what does not belong to a sky."""
    rng = np.random.default_rng(3)
    found = pixels.copy()
    if by == "hits":
        hit = rng.random(pixels.shape) < 0.01
        found[hit] += rng.exponential(300, np.count_nonzero(hit))
    if by == "cold pixels":
        found[rng.random(pixels.shape) < 0.01] = 0.0
    if by == "hot row":
        found[30] += 4.0
    if by == "faint neighbour":
        found[70:90] += np.exp(-0.5 * ((np.arange(20) - 10) / 3.0) ** 2)[:, np.newaxis] * 3.0
    if by == "bright neighbour":
        found[70:90] += 500.0
    return found


SPOILERS = ["hits", "cold pixels", "hot row", "faint neighbour", "bright neighbour"]


@pytest.mark.parametrize("by", SPOILERS)
@pytest.mark.parametrize("model", ["mean", "linear"])
def test_what_is_no_sky_is_left_out(noisy: Array, by: str, model: SkyModel) -> None:
    fit = fit_columns(band_of(spoilt(noisy, by)), np.full(N_COLUMNS, 5.0), model)
    assert abs(np.mean(fit.level) - 100) < 0.01 * 5.0 + 4 * 5.0 / np.sqrt(N_ROWS * N_COLUMNS)
    assert fit.n_rows >= 95


def test_a_gradient_is_fitted_and_does_not_count_as_noise(noisy: Array) -> None:
    band = band_of(noisy)
    slope = np.linspace(-2, 2, N_COLUMNS)
    steep = band._replace(pixels=noisy + slope * band.distance)
    fit, even = (fit_columns(b, np.full(N_COLUMNS, 5.0), "linear") for b in (steep, band))
    assert np.abs(fit.level - even.level).max() < 0.5 * np.sqrt(fit.variance[0])
    assert np.median(np.abs(fit.slope - even.slope - slope)) < 1e-9
    assert fit.scatter == pytest.approx(even.scatter, rel=1e-3)


def test_without_a_known_noise_it_is_measured(noisy: Array) -> None:
    fit = fit_columns(band_of(spoilt(noisy, "hits")), None, "mean")
    assert np.median(fit.variance) == pytest.approx(25 / N_ROWS, rel=0.05)
    assert np.isnan(fit.scatter)


def test_a_noise_that_is_told_too_small_shows_in_the_scatter(noisy: Array) -> None:
    fit = fit_columns(band_of(noisy), np.full(N_COLUMNS, 4.0), "linear")
    assert fit.scatter == pytest.approx(1.25, abs=0.01)


@pytest.mark.parametrize("model", MODELS)
def test_one_side_of_a_column_suffices(noisy: Array, model: SkyModel) -> None:
    pixels = noisy[:, :9].copy()
    pixels[:60, 4] = np.nan
    fit = fit_columns(band_of(pixels), np.full(9, 5.0), model)
    assert abs(fit.level[4] - 100) < 5 * np.sqrt(fit.variance[4])
    assert fit.variance[4] >= 1.9 * fit.variance[3]


@pytest.mark.parametrize("model", MODELS)
def test_a_column_without_pixels_has_the_sky_of_its_neighbours(
    noisy: Array, model: SkyModel
) -> None:
    pixels = noisy[:, :9] + 10.0 * np.arange(9)
    pixels[:, 2] = np.nan
    fit = fit_columns(band_of(pixels), np.full(9, 5.0), model)
    assert fit.level[2] == pytest.approx((fit.level[1] + fit.level[3]) / 2)
    assert fit.variance[2] > 400 > 10 > fit.variance[1]
    assert np.isnan(fit_columns(band_of(pixels * np.nan), np.full(9, 5.0), model).level).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(0, 99))
def test_medians_of_columns_are_those_of_numpy(n_rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_rows, 8))
    good = rng.random(values.shape) < 0.7
    found = column_medians(values, good)
    for x in range(8):
        expected = np.median(values[good[:, x], x]) if good[:, x].any() else np.nan
        assert found[x] == pytest.approx(expected, nan_ok=True)


def test_rows_that_stand_out_are_told_from_those_that_do_not(noisy: Array) -> None:
    rest = noisy - 100
    rest[[5, 80]] += [[1.0], [-1.0]]
    even = typical_rows(rest, np.ones(rest.shape, bool))
    assert list(np.flatnonzero(~even)) == [5, 80]
