"""Centres of binned light against where it was put, and the curve through them."""

from __future__ import annotations

import numpy as np
import pytest

from arrayred.steps import (
    Centroids,
    bin_columns,
    evaluate_trace,
    find_centroids,
    fit_polynomial,
    peak_of,
    shift_rows,
    trace_tilt,
)

MIDDLE = np.linspace(-1, 1, 32)


def light_of(center: np.ndarray, sigma: float, n_rows: int = 60) -> np.ndarray:
    rows = np.arange(n_rows)[:, np.newaxis]
    return np.exp(-0.5 * ((rows - center) / sigma) ** 2)


@pytest.mark.parametrize("sigma", [0.9, 2.0, 5.0])
@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5])
def test_a_centre_is_where_the_light_is_at_any_phase_of_the_pixels(
    sigma: float, phase: float
) -> None:
    light = 100 * light_of(np.full(64, 30 + phase), sigma)
    bins = bin_columns(light, np.ones_like(light), light >= 0, 8, (5, 5))
    found = find_centroids(bins, np.full(8, 30.4), sigma)
    assert found.position == pytest.approx(30 + phase, abs=5e-3)


def test_the_variance_of_a_centre_is_its_scatter() -> None:
    rng = np.random.default_rng(1)
    clean = 40 * light_of(np.full(3000, 30.3), 2.0)
    light = clean + rng.normal(0, 5, clean.shape)
    bins = bin_columns(light, np.full(light.shape, 25.0), np.isfinite(light), 3000, (10, 10))
    found = find_centroids(bins, np.full(3000, 30.0), 2.0)
    pulls = (found.position - 30.3) / np.sqrt(found.variance)
    assert abs(np.mean(pulls)) < 0.06
    assert 1.4826 * np.median(np.abs(pulls)) == pytest.approx(1, abs=0.12)


def test_a_gradient_of_the_sky_does_not_move_a_centre() -> None:
    light = 10 * light_of(np.full(64, 30.0), 2.0) + np.linspace(100, 130, 60)[:, np.newaxis]
    bins = bin_columns(light, np.ones_like(light), light > 0, 4, (12, 12))
    assert find_centroids(bins, np.full(4, 30.5), 2.0).position == pytest.approx(30.0, abs=0.01)


def test_pixels_that_are_not_good_do_not_count() -> None:
    light = 100 * light_of(np.full(64, 30.0), 2.0)
    good = np.ones(light.shape, bool)
    light[35, 5], good[35, 5] = 1e6, False
    bins = bin_columns(light, np.ones_like(light), good, 8, (5, 5))
    assert find_centroids(bins, np.full(8, 30.0), 2.0).position == pytest.approx(30.0, abs=2e-3)


def test_one_side_of_background_does_for_both() -> None:
    light = 100 * light_of(np.full(64, 4.0), 1.5) + 7
    bins = bin_columns(light, None, light > 0, 8, (0, 20))
    assert bins.light[:, 40] == pytest.approx(0, abs=1e-9)
    assert find_centroids(bins, np.full(8, 4.0), 1.5).position == pytest.approx(4.0, abs=0.01)


@pytest.mark.parametrize("lean", [-4.0, 0.0, 1.0, 4.0])
def test_the_lean_of_faint_light_is_found(lean: float) -> None:
    rng = np.random.default_rng(2)
    clean = light_of(30 + lean * np.linspace(-1, 1, 640), 1.5)
    light = clean + rng.normal(0, 1.5, clean.shape)
    bins = bin_columns(light, np.full(light.shape, 2.25), np.isfinite(light), 32, (10, 10))
    assert trace_tilt(bins, 12.0)[0] == pytest.approx(lean, abs=1.0)


def test_rows_are_shifted_back_to_where_they_came_from() -> None:
    rows = np.arange(20.0)[np.newaxis] ** 2
    assert np.array_equal(shift_rows(rows, np.array([3.0]))[0, :17], rows[0, 3:])


def test_a_peak_is_found_beside_a_brighter_single_row() -> None:
    light = 10 * light_of(np.array([20.0]), 3.0)[:, 0]
    light[45] = 15.0
    centre, sigma = peak_of(light)
    assert centre == pytest.approx(20.0, abs=0.01)
    assert sigma == pytest.approx(3.0, abs=0.05)


def some(position: np.ndarray, error: float = 0.02, snr: float = 50.0) -> Centroids:
    return Centroids(position, np.full(position.size, error**2), np.full(position.size, snr))


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_the_order_is_as_high_as_the_trace_needs(order: int) -> None:
    truth = np.array([50.0, 3.0, 1.0, 0.5])[: order + 1]
    noise = np.random.default_rng(order).normal(0, 0.02, MIDDLE.size)
    found = fit_polynomial(MIDDLE, some(evaluate_trace(truth, MIDDLE) + noise), 3.0, 3)
    assert found is not None
    assert found.coefficients == pytest.approx(truth, abs=0.03)
    assert found.rms == pytest.approx(0.02, rel=0.5)


def test_a_bin_that_a_cosmic_ray_hit_is_left_out() -> None:
    position = evaluate_trace(np.array([50.0, 2.0]), MIDDLE)
    position[[4, 20]] += 5.0, -3.0
    found = fit_polynomial(MIDDLE, some(position), 3.0, 3)
    assert found is not None
    assert np.flatnonzero(~found.used).tolist() == [4, 20]
    assert found.coefficients == pytest.approx([50.0, 2.0], abs=1e-6)


def test_bins_without_light_carry_no_weight() -> None:
    position, snr = evaluate_trace(np.array([50.0, 2.0]), MIDDLE), np.full(32, 20.0)
    position[8:24], snr[8:24] = 70.0, 1.0
    found = fit_polynomial(MIDDLE, Centroids(position, np.full(32, 1e-3), snr), 3.0, 3)
    assert found is not None
    assert evaluate_trace(found.coefficients, MIDDLE[:1]) == pytest.approx(48.0, abs=0.01)


def test_light_in_a_corner_alone_is_not_followed_far() -> None:
    snr = np.where(MIDDLE > 0.3, 20.0, 0.0)
    noisy = 50 + np.random.default_rng(0).normal(0, 0.3, 32)
    found = fit_polynomial(MIDDLE, Centroids(noisy, np.full(32, 0.09), snr), 3.0, 3)
    assert found is not None
    assert found.coefficients.size <= 2


def test_three_bins_make_no_curve() -> None:
    assert fit_polynomial(MIDDLE, some(MIDDLE, snr=1.0), 3.0, 3) is None
