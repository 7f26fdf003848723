"""The slow course of rows: gradients are followed, spectra are not."""

from __future__ import annotations

import numpy as np
import pytest

from arrayred.kernels import fit_baseline, step_noise


@pytest.mark.parametrize("n_rows", [40, 63, 64, 300])
def test_a_drift_is_followed_and_a_spectrum_on_it_is_not(n_rows: int) -> None:
    y = np.linspace(-1, 1, n_rows)
    drift = 30 * y + (8 * y**3 if n_rows >= 64 else 0)
    series = drift + np.random.default_rng(3).normal(0, 1, n_rows)
    series[n_rows // 3 : n_rows // 2] += 100
    level, dark = fit_baseline(series)
    assert np.abs(level - drift).max() < 2.5
    assert not dark[n_rows // 3 : n_rows // 2].any()


def test_the_noise_of_steps_ignores_slow_changes() -> None:
    series = np.random.default_rng(4).normal(0, 2, 4000) + 50 * np.sin(np.arange(4000) / 300)
    assert step_noise(series) == pytest.approx(2, rel=0.05)
