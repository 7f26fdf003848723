"""Weights and sums against formulas written out, one column at a time."""

from __future__ import annotations

import numpy as np
import pytest

from arrayred.steps import AperturePixels, ExtractedFlux, Moffat, extract

ROWS = np.arange(-10.0, 11)[:, np.newaxis]
SHAPE = Moffat(4.0, 0.2, np.inf).on_pixels(ROWS) * np.ones(400)
SHAPE /= SHAPE.sum(axis=0)


def pixels_of(counts: np.ndarray, good: np.ndarray | None = None) -> AperturePixels:
    nothing = np.zeros_like(counts)
    usable = np.ones(counts.shape, bool) if good is None else good
    return AperturePixels(counts, nothing, nothing + 9.0, 0.5, 0.0, nothing + 1.0, usable)


def noisy(flux: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    light = flux * SHAPE
    return np.asarray(rng.poisson(light * 2) / 2 + rng.normal(0, 3, light.shape))


def test_weights_are_those_of_horne() -> None:
    counts = noisy(300.0)
    found = extract.optimal_flux(pixels_of(counts), SHAPE, np.full(400, 300.0), reject=False)
    variance = 9.0 + 0.5 * SHAPE * 300.0
    expected = (SHAPE * counts / variance).sum(axis=0) / (SHAPE**2 / variance).sum(axis=0)
    assert found.flux == pytest.approx(expected, rel=1e-9)
    assert found.variance == pytest.approx(1 / (SHAPE**2 / variance).sum(axis=0), rel=1e-9)
    assert found.weight == pytest.approx(
        (SHAPE / variance).sum(axis=0) / (SHAPE**2 / variance).sum(axis=0), rel=1e-9
    )


@pytest.mark.parametrize("flux", [30.0, 300.0, 1e5])
def test_the_flux_is_unbiased_and_as_certain_as_it_says(flux: float) -> None:
    runs = [
        extract.optimal_flux(pixels_of(noisy(flux, seed)), SHAPE, np.full(400, flux))
        for seed in range(25)
    ]
    pulls = np.concatenate([(run.flux - flux) / np.sqrt(run.variance) for run in runs])
    assert abs(pulls.mean()) < 0.03
    assert pulls.std() == pytest.approx(1, abs=0.02)


def test_a_sum_is_the_sum_of_the_parts_and_their_variance() -> None:
    counts = noisy(300.0)
    pixels = pixels_of(counts)
    pixels.part[0] = 0.25
    found = extract.sum_flux(pixels, SHAPE, np.full(counts.shape, 4.0))
    assert found.flux == pytest.approx(counts[1:].sum(axis=0) + 0.25 * counts[0])
    assert found.variance == pytest.approx(4.0 * (20 + 0.25**2))
    assert found.weight == pytest.approx(20.25)


def test_a_masked_pixel_is_filled_by_the_profile() -> None:
    counts, good = 500.0 * SHAPE, np.ones(SHAPE.shape, bool)
    counts[10, 3], good[10, 3] = 1e9, False
    for found in (
        extract.sum_flux(pixels_of(counts, good), SHAPE, np.ones_like(counts)),
        extract.optimal_flux(pixels_of(counts, good), SHAPE, np.full(400, 500.0)),
    ):
        assert found.flux == pytest.approx(500.0, rel=1e-9)
        assert found.variance[3] > 1.2 * found.variance[4]


def test_nothing_left_is_no_number() -> None:
    counts, good = 500.0 * SHAPE, np.ones(SHAPE.shape, bool)
    good[:, 7] = False
    assert np.flatnonzero(
        np.isnan(extract.sum_flux(pixels_of(counts, good), SHAPE, np.ones_like(counts)).flux)
    ).tolist() == [7]
    flux = extract.optimal_flux(pixels_of(counts, good), SHAPE, np.full(400, 500.0)).flux
    assert np.flatnonzero(np.isnan(flux)).tolist() == [7]


@pytest.mark.parametrize("flux", [100.0, 1e4])
@pytest.mark.parametrize("row", [4, 9, 10, 12])
def test_cosmic_rays_are_left_out_and_only_they(flux: float, row: int) -> None:
    counts = noisy(flux, 4)
    columns = np.arange(20, 400, 40)
    counts[row, columns] += 1500.0
    counts[row + 1, columns[::2]] += 1500.0
    found = extract.optimal_flux(pixels_of(counts), SHAPE, counts.sum(axis=0))
    left_out = np.argwhere(~found.good).tolist()
    assert left_out == sorted([[row, c] for c in columns] + [[row + 1, c] for c in columns[::2]])
    pulls = (found.flux - flux) / np.sqrt(found.variance)
    assert np.abs(pulls[columns]).max() < 4


def test_no_column_loses_its_last_pixels() -> None:
    counts = np.full(SHAPE.shape, 50.0)
    counts[::2] = -1e6
    found = extract.optimal_flux(pixels_of(counts), SHAPE, np.full(400, 10.0))
    assert (found.good.sum(axis=0) >= 2).all()


def test_the_floor_is_what_noise_is_left_without_light() -> None:
    counts = noisy(1e5)
    variance = 9.0 + 0.5 * np.maximum(counts, 0)
    floor = extract.read_noise_variance(variance, counts, 0.5, 0.0, np.isfinite(counts))
    assert floor == pytest.approx(9.0)
    hot = variance + np.where(ROWS == 3, 100.0, 0.0)
    assert extract.read_noise_variance(hot, counts, 0.5, 0.0, np.isfinite(counts))[
        13
    ] == pytest.approx(109.0)


def test_a_response_above_one_makes_no_negative_floor() -> None:
    counts = noisy(1e6)
    variance = 9.0 + 0.45 * np.maximum(counts, 0)
    assert (extract.read_noise_variance(variance, counts, 0.5, 0.0, np.isfinite(counts)) > 0).all()


def test_a_template_is_smooth_where_it_is_faint_and_sharp_in_lines() -> None:
    rng = np.random.default_rng(0)
    flux = 3 + rng.normal(0, 1, 500)
    flux[200:203] = 40.0, 90.0, 40.0
    found = extract.profile_template(flux, np.ones(500))
    assert found[200:203] == pytest.approx([40, 90, 40])
    assert found[:100] == pytest.approx(3.0, abs=0.5)


def test_a_bright_template_is_hardly_smoothed() -> None:
    flux = 1e6 * (1 + 0.2 * np.sin(np.arange(500) / 3))
    assert np.array_equal(extract.profile_template(flux, np.full(500, 1e6)), flux)


def test_signal_to_noise_is_seen_in_lines_alone_but_not_in_a_cosmic_ray() -> None:
    flux, ones = np.random.default_rng(0).normal(0, 1, 1000), np.ones(1000)
    good = np.ones((1, 1000), bool)
    flux[[500, 501]] = 300.0, 200.0
    assert extract.total_snr(ExtractedFlux(flux, 400 * ones, ones, good)) < 5
    flux[100:110] = 20.0
    assert extract.total_snr(ExtractedFlux(flux, ones, ones, good)) > 50
