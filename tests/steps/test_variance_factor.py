"""What combinations make of the variance of frames that are not equally bright."""

from __future__ import annotations

import numpy as np
import pytest

from arrayred.errors import UsageError
from arrayred.steps import (
    VarianceFactor,
    variance_factor,
    variance_factor_of_mean,
    variance_factor_of_order,
)

FLUXES = [(0.9, 1.0, 1.1), (0.8, 0.9, 1.1, 1.2), (0.8, 0.9, 1.0, 1.1, 1.2)]


def scaled_noise(flux: tuple[float, ...], power: float, seed: int = 1) -> np.ndarray:
    """Return noise of frames scaled to one level: power 1 without light, 1/2 of photons."""
    scatter = np.reshape(flux, (-1, 1)) ** -power
    return np.random.default_rng(seed).normal(size=(len(flux), 200_000)) * scatter


@pytest.mark.parametrize("flux", FLUXES)
def test_a_scaled_median_scatters_as_its_share_says(flux: tuple[float, ...]) -> None:
    share = variance_factor_of_order("median", flux)
    for power, expected in ((1.0, share.floor), (0.5, share.photons)):
        found = np.median(scaled_noise(flux, power), axis=0).var()
        assert found == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("flux", FLUXES)
def test_a_scaled_mean_without_extremes_scatters_as_its_share_says(flux: tuple[float, ...]) -> None:
    share = variance_factor_of_order("minmax", flux, (1, 1))
    for power, expected in ((1.0, share.floor), (0.5, share.photons)):
        found = np.sort(scaled_noise(flux, power), axis=0)[1:-1].mean(axis=0).var()
        assert found == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("flux", FLUXES)
@pytest.mark.parametrize("faint", [0.2, 1.0])
def test_a_weighted_mean_scatters_as_its_share_says(flux: tuple[float, ...], faint: float) -> None:
    weights = (faint, *(1.0,) * (len(flux) - 1))
    share = variance_factor_of_mean(weights, flux, None)
    frame = np.reshape(flux, (-1, 1))
    for power, expected in ((0.0, share.floor), (-0.5, share.photons)):
        noise = scaled_noise(flux, power)
        found = (np.tensordot(weights, noise, 1) / np.dot(weights, frame)[0]).var()
        assert found == pytest.approx(expected, rel=0.02)


def test_frames_of_one_brightness_have_the_share_of_their_method() -> None:
    three = (1.0, 1.0, 1.0)
    assert variance_factor_of_mean(three, three, None) == VarianceFactor.of_equal("average", 3)
    assert variance_factor_of_order("median", three) == VarianceFactor.of_equal("median", 3)
    assert variance_factor_of_order("minmax", three, (0, 1)) == VarianceFactor.of_equal(
        "minmax", 3, (0, 1)
    )
    assert variance_factor_of_mean(three, three, 3.0).floor > 1 / 3


def test_fewer_frames_are_noisier_by_their_number() -> None:
    assert VarianceFactor.of_equal("average", 4).of_fewer(4)[1:] == [
        4.0,
        2.0,
        pytest.approx(4 / 3),
        1.0,
    ]
    grown = VarianceFactor.of_equal("minmax", 4, (1, 1)).of_fewer(4)
    assert np.isnan(grown[:3]).all()
    assert grown[3] == pytest.approx(
        variance_factor("median", 3) / variance_factor("median", 4), rel=1e-4
    )


def test_a_method_of_unknown_noise_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'mode'.*average, median, clip or minmax"):
        variance_factor("mode", 3)
