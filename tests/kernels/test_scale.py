"""How bright frames are, against the brightness they were made with."""

from __future__ import annotations

import numpy as np
import pytest

from arrayred.kernels import (
    Scales,
    combine_scaled,
    median,
    row_slopes,
    to_one_level,
    weighted_median,
)

STAR = 900 * np.exp(-0.5 * ((np.arange(40) - 20) / 3) ** 2)[:, np.newaxis] * np.ones(300)
FLUX, SKIES = (0.8, 1.0, 1.2), (20.0, 35.0, 50.0)
ALL = np.ones(STAR.shape, bool)


def exposures(noise: float = 10.0) -> np.ndarray:
    rng = np.random.default_rng(1)
    return np.stack(
        [f * STAR + s + rng.normal(0, noise, STAR.shape) for f, s in zip(FLUX, SKIES, strict=True)]
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_weighted_median_is_that_of_repeated_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, weights = rng.normal(size=(3, 7)), rng.integers(0, 4, (3, 7))
    for row, times, found in zip(values, weights, weighted_median(values, weights), strict=True):
        assert found == np.quantile(np.repeat(row, times), 0.5, method="inverted_cdf")


def test_without_weight_there_is_no_median() -> None:
    assert np.isnan(weighted_median(np.array([1.0, 2.0]), np.zeros(2)))
    assert np.isnan(weighted_median(np.empty((2, 0)), np.empty((2, 0)))).all()


def test_rows_of_the_star_tell_the_flux_and_rows_of_sky_nothing() -> None:
    found = row_slopes(exposures(), None, ALL, skies=SKIES, least=60.0)
    assert found[:3, 20] == pytest.approx(FLUX, rel=0.005)
    assert np.isnan(found[:3, 0]).all()
    assert found[3:, 0].tolist() == [0.0, 0.0]
    assert found[3, 20] == pytest.approx(900 * 300, rel=0.01)


def test_cosmic_rays_do_not_move_a_slope() -> None:
    frames = exposures()
    frames[1, 20, :15] += 30_000.0
    found = row_slopes(frames, None, ALL, skies=SKIES, least=60.0)
    assert found[:3, 20] == pytest.approx(FLUX, rel=0.01)


def test_what_is_not_usable_or_missing_is_not_looked_at() -> None:
    frames, usable = exposures(), ALL.copy()
    frames[0, 20, :150], usable[20, :150] = 65_535.0, False
    frames[2, 20, 200] = np.nan
    found = row_slopes(frames, None, usable, skies=SKIES, least=60.0)
    assert found[:3, 20] == pytest.approx(FLUX, rel=0.01)


def test_a_dark_is_subtracted_first() -> None:
    dark = np.random.default_rng(2).uniform(0, 5000, STAR.shape)
    plain = row_slopes(exposures(), None, ALL, skies=SKIES, least=60.0)
    less = row_slopes(exposures() + dark, dark, ALL, skies=SKIES, least=60.0)
    assert np.allclose(less, plain, equal_nan=True)


@pytest.mark.parametrize("rows", [1, 7])
def test_slopes_do_not_depend_on_bands(rows: int) -> None:
    frames, whole = exposures(), row_slopes(exposures(), None, ALL, skies=SKIES, least=60.0)
    for y in range(0, 40, rows):
        part = slice(y, y + rows)
        own = row_slopes(frames[:, part], None, ALL[part], skies=SKIES, least=60.0)
        assert np.array_equal(own, whole[:, part], equal_nan=True)


def test_frames_at_one_level_show_the_same_star() -> None:
    levels = tuple(s - f * 35.0 for f, s in zip(FLUX, SKIES, strict=True))
    found = to_one_level(exposures(0.0), None, Scales(FLUX, levels))
    assert np.allclose(found, STAR + 35.0)


@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
def test_a_scaled_median_is_that_of_numpy(dtype: str) -> None:
    frames, dark = (exposures() + 1000).astype(dtype), np.full(STAR.shape, 1000.5)
    scales = Scales(FLUX, (-3.0, 0.0, 3.0))
    own = [(f - dark - c) / s for f, s, c in zip(frames, *scales, strict=True)]
    assert np.array_equal(
        combine_scaled(frames, dark, kernel=median, scales=scales), np.median(own, 0)
    )
