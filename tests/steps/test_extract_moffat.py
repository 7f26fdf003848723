"""Bell curves against integrals that astropy and a fine sum know."""

from __future__ import annotations

import math

import numpy as np
import pytest

from arrayred.steps import ColumnStack, Moffat, fit_moffat, fit_pair
from tests.steps import Array

AWAY = np.arange(-20.0, 21)


@pytest.mark.parametrize("fwhm", [2.0, 5.0, 12.0])
def test_a_normal_bell_is_the_error_function(fwhm: float) -> None:
    scale = fwhm / 2.3548200450309493 * math.sqrt(2)
    away = np.linspace(-2 * fwhm, 2 * fwhm, 57)
    truth = [0.5 * (1 + math.erf(d / scale)) for d in away]
    assert Moffat(fwhm, 0.0, np.inf).below(away) == pytest.approx(truth, abs=2e-4)


@pytest.mark.parametrize("exponent", [2.0, 2.5, 6.0])
def test_a_moffat_is_that_of_astropy_summed_over_pixels(exponent: float) -> None:
    from astropy.modeling.functional_models import Moffat1D

    width = 5.0 / (2 * math.sqrt(2 ** (1 / exponent) - 1))
    fine = np.arange(-400, 400, 0.01) + 0.005
    light = Moffat1D(1.0, 0.3, width, exponent)(fine)
    light /= light.sum()
    truth = [light[(fine > a - 0.5) & (fine < a + 0.5)].sum() for a in AWAY]
    assert Moffat(5.0, 0.3, exponent).on_pixels(AWAY) == pytest.approx(truth, abs=4e-4)


def test_rows_one_above_the_other_get_what_pixels_get() -> None:
    bell, lowest = Moffat(3.0, 0.2, 2.5), np.array([-9.0, -9.3, -8.6])
    away = lowest + np.arange(19)[:, np.newaxis]
    assert np.allclose(bell.on_rows(lowest, 19), bell.on_pixels(away), atol=1e-12)


@pytest.mark.parametrize(
    "truth", [Moffat(2.0, 0.3, np.inf), Moffat(6.0, -1.0, 2.5), Moffat(3.0, 0.0, 2)]
)
def test_a_bell_is_found_again(truth: Moffat) -> None:
    rng = np.random.default_rng(0)
    light = truth.on_pixels(AWAY) + rng.normal(0, 1e-4, AWAY.size)
    found = fit_moffat(ColumnStack(AWAY, light, np.full(AWAY.size, 1e8)), 4.0)
    assert found.fwhm == pytest.approx(truth.fwhm, rel=0.01)
    assert found.middle == pytest.approx(truth.middle, abs=0.02)
    assert found.exponent == truth.exponent


def test_noise_makes_no_wings() -> None:
    truth = Moffat(4.0, 0.0, np.inf).on_pixels(AWAY)
    rng = np.random.default_rng(3)
    stacks = [
        ColumnStack(AWAY, truth + rng.normal(0, 0.02, 41), np.full(41, 2500.0)) for _ in range(20)
    ]
    assert sum(fit_moffat(stack, 4.0).exponent < np.inf for stack in stacks) <= 1


FINE = np.arange(-60.0, 60.0, 0.02)


def stack_of(shape: Array, noise: float = 0.003) -> ColumnStack:
    """Return a stack of eight bins a row of a profile on a fine grid, with noise of its peak."""
    below = np.cumsum(shape) / shape.sum()
    away = np.arange(-16.0, 16.0, 0.125)
    light = np.interp(away + 0.5, FINE, below) - np.interp(away - 0.5, FINE, below)
    spread = noise * light.max()
    light = light + np.random.default_rng(3).normal(0.0, spread, away.size)
    return ColumnStack(away, light, np.full(away.size, spread**-2))


def star_of(fwhm: float, row: float = 0.0) -> Array:
    return np.asarray(np.exp(-4 * math.log(2) * ((FINE - row) / fwhm) ** 2))


@pytest.mark.parametrize(
    ("apart", "ratio"),
    [(3.0, 1.0), (3.0, 0.5), (3.0, 0.2), (4.0, 0.1), (5.0, 1.0), (6.0, 0.1), (-6.0, 0.5)],
)
def test_two_stars_are_found_in_one_profile(apart: float, ratio: float) -> None:
    pair = fit_pair(stack_of(star_of(4.0) + ratio * star_of(4.0, apart)), 5.0)
    assert pair is not None
    assert pair.ratio == pytest.approx(ratio, abs=0.02)
    if ratio < 1:
        assert pair.fainter - pair.brighter == pytest.approx(apart, abs=0.2)


def ring(radius: float, hole: float) -> Array:
    """Return the light of a star out of focus along the slit, blurred."""
    disc, middle = (np.sqrt(np.maximum(r**2 - FINE**2, 0)) for r in (radius, hole * radius))
    return np.convolve(disc - middle, star_of(4.0), "same")


SINGLE = {
    "a Gaussian": star_of(4.0),
    "wings": (1 + (FINE / 3) ** 2) ** -2.5,
    "two widths": star_of(4.0) + 0.3 * star_of(9.0),
    "a shifted halo": star_of(4.0) + 0.3 * star_of(9.0, 0.5),
    "a skewed star": np.convolve(np.where(FINE >= 0, np.exp(-FINE / 4), 0), star_of(4.0), "same"),
    "a galaxy": np.convolve(np.exp(-np.abs(FINE) / 4), star_of(4.0), "same"),
    "a short trail": np.convolve(np.abs(FINE) < 2, star_of(4.0), "same"),
    "a long trail": np.convolve(np.abs(FINE) < 6, star_of(4.0), "same"),
    "out of focus": ring(8.0, 0.4),
}


@pytest.mark.parametrize("shape", SINGLE.values(), ids=SINGLE)
def test_one_source_is_no_pair(shape: Array) -> None:
    assert fit_pair(stack_of(shape), 5.0) is None
