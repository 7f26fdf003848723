"""Scales that change slowly along the columns, against those that light was made with."""

from __future__ import annotations

import numpy as np

from arrayred.kernels import quantile, smooth_scales

XI = np.linspace(-1.0, 1.0, 48)
COMMON = np.full((1, 48), 2000.0)


def found(known: np.ndarray) -> np.ndarray:
    return smooth_scales(known[np.newaxis, np.newaxis], COMMON, np.full((1, 1, 48), 1e-2))[0, 0]


def test_a_parabola_is_followed() -> None:
    truth = 1.2 + 0.1 * XI - 0.05 * XI**2
    np.testing.assert_allclose(found(truth * COMMON[0]), truth, atol=2e-3)


def test_what_stands_out_counts_little() -> None:
    truth = 0.8 + 0.1 * XI
    known = truth * COMMON[0]
    known[20:26] += 30_000.0
    np.testing.assert_allclose(found(known), truth, atol=0.02)


def test_without_light_the_scale_is_one() -> None:
    nothing = np.zeros((1, 48))
    assert np.allclose(smooth_scales(nothing[np.newaxis], nothing, np.ones((1, 1, 48))), 1.0)


def test_a_quantile_is_the_value_at_its_place() -> None:
    values = np.random.default_rng(0).permutation(100.0 * np.arange(100)).reshape(1, 100)
    assert quantile(values, 0.75).tolist() == [[7500.0]]
    assert quantile(values, 1.0).tolist() == [[9900.0]]
