"""Profiles against those that the light was made with."""

from __future__ import annotations

import numpy as np
import pytest

from arrayred.steps import Moffat, TracePixels, fit_profile, knots_of
from arrayred.steps import extract as kernel

COLUMNS = 500


def away_of(tilt: float, half: int = 15) -> np.ndarray:
    center = tilt * np.linspace(-0.5, 0.5, COLUMNS)
    return np.arange(-half, half + 1)[:, np.newaxis] - (center - np.rint(center))


def fitted(away: np.ndarray, truth: np.ndarray, snr: float, seed: int = 0) -> np.ndarray:
    """Return the profile found in light with noise of the same size in all pixels."""
    noise = 1 / (snr * np.sqrt((truth**2).sum(axis=0).mean()) ** -1)
    rng = np.random.default_rng(seed)
    counts = truth + rng.normal(0, noise, truth.shape) if snr < 1e6 else truth
    light = TracePixels(counts, np.full(truth.shape, noise**-2), np.ones(truth.shape[1]))
    knots = knots_of(away, 4.0)
    found = fit_profile(light, knots, 4.0).on_pixels(knots)
    return found * truth.sum(axis=0) / found.sum(axis=0)


@pytest.mark.parametrize("tilt", [0.0, 8.0])
@pytest.mark.parametrize("fwhm", [2.0, 5.0])
def test_a_bright_stars_profile_is_found_to_a_thousandth_of_its_light(
    fwhm: float, tilt: float
) -> None:
    away = away_of(tilt)
    truth = Moffat(fwhm, 0.1, 2.5).on_pixels(away)
    assert np.abs(fitted(away, truth, 300.0) - truth).max() < 1.5e-3


def test_two_peaks_are_a_profile_too() -> None:
    away = away_of(3.0)
    truth = 0.6 * Moffat(3.0, -3, np.inf).on_pixels(away) + 0.4 * Moffat(4.0, 3, np.inf).on_pixels(
        away
    )
    assert np.abs(fitted(away, truth, 300.0) - truth).max() < 2e-3


def test_a_seeing_that_changes_along_the_columns_is_followed() -> None:
    away = away_of(0.0)
    widths = np.linspace(4, 6, COLUMNS)
    truth = np.column_stack([Moffat(w, 0.0, np.inf).on_pixels(away[:, 0]) for w in widths])
    found = fitted(away, truth, 100.0)
    assert np.abs(found - truth).max() < 4e-3
    assert found[15, 0] > 1.3 * found[15, -1]


def test_a_faint_star_has_a_bell_without_bumps() -> None:
    away = away_of(2.0)
    truth = Moffat(5.0, 0.0, np.inf).on_pixels(away)
    errors = [
        np.abs(fitted(away, truth, 3.0, seed) - truth).sum(axis=0).mean() for seed in range(8)
    ]
    assert np.mean(errors) < 0.03


def test_no_profile_is_negative() -> None:
    away = away_of(2.0)
    assert (fitted(away, Moffat(3.0, 0.0, np.inf).on_pixels(away), 5.0) >= 0).all()


def test_splines_add_up_to_one_everywhere() -> None:
    knots = knots_of(away_of(5.0), 3.0)
    assert np.allclose(knots.basis.sum(axis=0), 1.0)
    assert (knots.interval >= 0).all()
    assert (knots.interval + 3 < knots.middles.size).all()


def test_the_blocks_solve_what_numpy_solves_whole() -> None:
    rng = np.random.default_rng(5)
    n_bins, n_knots = 6, 9
    places = np.linspace(-1, 1, n_bins)
    basis = rng.random((n_bins, 200, n_knots)) * (rng.random((n_bins, 200, 1)) > 0.2)
    start = rng.integers(0, n_knots - 3, (n_bins, 200, 1))
    index = np.arange(n_knots)
    basis = np.where((index >= start) & (index < start + 4), basis, 0.0)
    full = np.einsum("bpi,bpj->bij", basis, basis)
    normal = np.zeros((n_bins, n_knots, 4))
    for gap in range(4):
        normal[:, : n_knots - gap, gap] = np.diagonal(full, gap, 1, 2)
    right, sizes = rng.normal(size=(n_bins, n_knots)), np.full((3, n_knots), 0.5)
    found, evidence = kernel._solve_splines(normal, right, places, sizes)
    along = np.polynomial.legendre.legvander(places, 2)
    matrix = np.einsum("bij,bp,bq->ipjq", full, along, along).reshape(27, 27)
    side = np.einsum("bi,bp->ip", right, along).ravel()
    truth = np.linalg.solve(matrix + 4 * np.eye(27), side)
    assert np.allclose(found.T.ravel(), truth)
    determinant = np.linalg.slogdet(np.eye(27) + matrix / 4)[1]
    assert evidence == pytest.approx(0.5 * side @ truth - 0.5 * determinant)


@pytest.mark.parametrize("n_orders", [1, 3])
@pytest.mark.parametrize("n_knots", [3, 6, 21])
def test_splines_solve_their_normal_equations(n_knots: int, n_orders: int) -> None:
    rng = np.random.default_rng(n_knots)
    basis = np.zeros((8, 60, n_knots))
    for start in range(max(n_knots - 3, 1)):
        basis[:, start::n_knots, start : start + 4] = rng.random((8, 1, min(4, n_knots)))
    full = np.einsum("bpk,bpl->bkl", basis, basis)
    bands = [np.pad(np.diagonal(full, i, 1, 2), ((0, 0), (0, i))) for i in range(4)]
    right, places = rng.normal(size=(8, n_knots)), np.linspace(-1, 1, 8)
    sizes = rng.uniform(0.5, 2, (n_orders, 1)) * rng.uniform(0.5, 2, n_knots)
    along = np.polynomial.legendre.legvander(places, n_orders - 1)
    matrix = np.einsum("bkl,bi,bj->kilj", full, along, along).reshape(2 * (n_knots * n_orders,))
    side = np.einsum("bk,bi->ki", right, along).ravel()
    wanted = np.linalg.solve(matrix + np.diag(1 / sizes.T.ravel() ** 2), side)
    found, _ = kernel._solve_splines(np.stack(bands, -1), right, places, sizes)
    np.testing.assert_allclose(found.T.ravel(), wanted, rtol=1e-9, atol=1e-12)
