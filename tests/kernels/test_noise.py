"""How much pixels scatter, against random numbers of known noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from arrayred.kernels import (
    clipped_std,
    finite_median,
    finite_medians,
    frame_variance,
    photon_transfer,
    rounding_variance,
)


@pytest.mark.parametrize("noise", [0.7, 3.0, 14.26, 400.0])
def test_the_scatter_of_whole_numbers_is_no_whole_number(noise: float) -> None:
    counts = np.random.default_rng(1).normal(1000, noise, 200_000).round()
    assert clipped_std(counts) == pytest.approx(math.hypot(noise, 12**-0.5), rel=0.02)


def test_neither_hot_pixels_nor_missing_ones_change_the_scatter() -> None:
    values = np.random.default_rng(2).normal(0, 5, 100_000)
    values[:1000] = 1e4
    values[1000:2000] = np.nan
    assert clipped_std(values) == pytest.approx(5, rel=0.02)


def test_nothing_scatters_where_there_is_nothing() -> None:
    assert clipped_std(np.full(10, 7.0)) == 0.0
    assert math.isnan(clipped_std(np.full(10, np.nan)))


@pytest.mark.parametrize("n", [2, 3, 5, 11])
@pytest.mark.parametrize("dtype", ["u2", "i4", "f4"])
def test_pairs_tell_the_noise_of_a_frame_whatever_they_share(n: int, dtype: str) -> None:
    rng = np.random.default_rng(n)
    shared = 1000 + rng.exponential(300, (200, 300))
    drift = 10 * np.arange(n)[:, np.newaxis, np.newaxis]
    frames = (shared + drift + rng.normal(0, 8, (n, 200, 300))).round().astype(dtype)
    assert math.sqrt(frame_variance(frames)) == pytest.approx(8, rel=0.02)


def test_integers_scatter_at_least_by_their_rounding() -> None:
    assert frame_variance(np.full((2, 5, 5), 7, "u2")) == 1 / 12
    assert frame_variance(np.full((2, 5, 5), 7.0)) == 1 / 12
    assert frame_variance(np.full((2, 5, 5), 7.5)) == 0.0


@pytest.mark.parametrize("step", [1, 4, 16, 64])
@pytest.mark.parametrize("dtype", ["u2", "i4", "f4"])
def test_the_step_of_a_converter_is_found(step: int, dtype: str) -> None:
    counts = np.random.default_rng(0).normal(500, 3, (2, 50, 60)).round() * step
    assert rounding_variance(counts.astype(dtype)) == step**2 / 12
    assert rounding_variance(counts / 7) == 0.0


def lit(gain: float, n: int, top: float = 4000.0, flicker: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(int(10 * gain))
    light = np.linspace(10, top, 256)[:, np.newaxis] * np.ones(400)
    frames = [rng.poisson(light * gain * (1 + flicker * rng.normal(size=light.shape)))
              for _ in range(n)]  # fmt: skip
    return np.array(frames) / gain + rng.normal(0, 5, (n, *light.shape))


@pytest.mark.parametrize("gain", [0.4, 1.5, 3.0])
@pytest.mark.parametrize("n", [2, 4])
def test_the_gain_is_measured_within_its_error(gain: float, n: int) -> None:
    found = photon_transfer(lit(gain, n))
    assert found is not None
    assert abs(found.gain - gain) < 4 * found.error < 0.2 * gain


def night_of_a_star(gain: float, n: int, hits: int) -> np.ndarray:
    """Return frames of a star that lights 3 % of the pixels, with cosmic rays two pixels wide."""
    rng = np.random.default_rng(int(10 * gain))
    profile = np.exp(-0.5 * ((np.arange(200) - 100.3) / 1.7) ** 2)[:, np.newaxis]
    frames = rng.poisson(50 + 2800 * profile * np.ones(400), (n, 200, 400)).astype(float)
    frames += rng.normal(0, 5, frames.shape)
    for y, x in rng.integers(0, (200, 398), (hits, 2)):
        frames[rng.integers(n), y, x : x + 2] += rng.uniform(600, 3000)
    return (frames / gain + 1000).round().astype("u2")


@pytest.mark.parametrize("gain", [0.4, 1.5, 4.0, 10.0])
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("hits", [0, 300])
def test_the_gain_is_measured_from_a_star_on_a_dark_sky(gain: float, n: int, hits: int) -> None:
    found = photon_transfer(night_of_a_star(gain, n, hits))
    assert found is not None
    assert found.gain == pytest.approx(gain, rel=0.1)


@pytest.mark.parametrize("gain", [1.5, 10.0])
def test_the_gain_is_measured_from_flats_of_one_level_above_the_noise_of_darks(gain: float) -> None:
    rng = np.random.default_rng(3)
    response = rng.normal(1, 0.01, (60, 400))
    frames = rng.poisson(20_000 * response, (3, 60, 400)) + rng.normal(0, 5, (3, 60, 400))
    found = photon_transfer(frames / gain, 0.0, (5 / gain) ** 2)
    assert found is not None
    assert found.gain == pytest.approx(gain, rel=0.03)
    assert photon_transfer(frames / gain) is None


def test_saturated_pixels_do_not_change_the_gain() -> None:
    frames = np.minimum(lit(1.5, 3), 3000.0 + np.random.default_rng(1).normal(0, 30, (256, 400)))
    found = photon_transfer(frames)
    assert found is not None
    assert found.gain == pytest.approx(1.5, rel=0.1)


def test_a_star_that_flickers_tells_no_gain() -> None:
    assert photon_transfer(lit(1.5, 2, flicker=0.1)) is None


def test_noise_without_light_tells_no_gain() -> None:
    assert photon_transfer(lit(1.5, 2, top=12.0)) is None
    assert photon_transfer(np.ones((2, 10, 10))) is None


@given(
    arrays_of.arrays(
        "f8",
        st.tuples(st.integers(1, 4), st.integers(1, 9)),
        elements=st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf]),
    )
)
def test_medians_of_rows_are_those_of_each_row_to_the_bit(rows: NDArray[np.float64]) -> None:
    assert finite_medians(rows).tolist() == [finite_median(row) for row in rows]
