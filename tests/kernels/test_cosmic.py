"""The arithmetic of comparing frames, on cells made here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arrayred.kernels import (
    PixelNoise,
    candidate_outliers,
    compare_tiles,
    highest_excess,
    mean_without,
)
from arrayred.kernels import reject as kernel

QUIET = PixelNoise(floor=100.0, level=0.0, per_photon=0.5)


def cells(light: Any, scales: Any, seed: int = 0, n_cells: int = 40) -> Any:
    """Return frames (frame, cell, x) of light that is scaled, with photon noise."""
    rng = np.random.default_rng(seed)
    true = np.asarray(scales)[:, np.newaxis, np.newaxis] * np.broadcast_to(light, (n_cells, 48))
    return true + rng.normal(0, np.sqrt(QUIET.variance(true)))


def compared(values: Any) -> Any:
    return compare_tiles(values, np.zeros_like(values), QUIET, np.zeros(values.shape[1:]))


@pytest.mark.parametrize("width", [1, 47, 48])
def test_a_cell_shines_by_its_peak_or_by_the_median_of_any_frame(width: int) -> None:
    rng = np.random.default_rng(width)
    known = rng.normal(rng.choice([0.0, 0.9, 1.1, 3.0], (3, 500, 1)), 0.4, (3, 500, width))
    root = rng.uniform(0.8, 1.2, known.shape)
    root[0, ::9, 0] = np.nan
    common = np.median(known, axis=0)
    peak = (common * root.max(axis=0)).max(axis=-1) > 4.0
    level = np.median(known * root, axis=-1).max(axis=0) > 1.0
    assert np.array_equal(kernel._has_light(known, common, root), peak | level)
    assert 0 < np.count_nonzero(level) < 500


@pytest.mark.parametrize("dtype", ["u2", "i4", "f4", "f8"])
def test_the_highest_excess_is_the_maximum_less_the_mean(dtype: str) -> None:
    frames = np.random.default_rng(0).integers(0, 5000, (4, 30, 50)).astype(dtype)
    offsets = np.random.default_rng(1).normal(0, 9, (4, 50))
    less = frames - offsets[:, np.newaxis]
    found = highest_excess(frames, offsets)
    np.testing.assert_allclose(found, less.max(axis=0) - less.mean(axis=0), atol=0.01)


def test_missing_values_are_left_out_of_the_excess() -> None:
    frames = np.array([[[1.0, np.nan]], [[7.0, np.nan]], [[np.nan, np.nan]]])
    found = highest_excess(frames)
    assert found[0, 0] == 3
    assert not found[0, 1] > 0


def test_no_value_that_stands_out_of_equal_frames_is_overlooked() -> None:
    frames = np.random.default_rng(3).normal(50, 11, (3, 100, 200))
    frames[0, ::7, ::5] += np.random.default_rng(4).uniform(20, 200, frames[0, ::7, ::5].shape)
    middle = np.median(frames, axis=0)
    high = (frames.max(axis=0) - middle) > 5 * np.sqrt(QUIET.variance(middle))
    found = candidate_outliers(highest_excess(frames), frames.mean(axis=0), 3, QUIET, 5.0)
    assert set(np.flatnonzero(high)) <= set(found)
    assert found.size < 3 * high.sum()


def test_frames_of_different_flux_are_scaled_to_each_other() -> None:
    found = compared(cells(5000.0, [0.8, 1.0, 1.3]))
    assert np.abs(found.scale[0] / found.scale[2] - 0.8 / 1.3).max() < 0.05
    assert found.excess.max() < 5


def test_a_scale_that_changes_along_x_is_followed() -> None:
    slope = np.linspace(0.7, 1.3, 48)
    values = cells(4000.0, [1.0, 1.0, 1.0])
    values[0] = cells(4000.0 * slope, [1.0], seed=1)[0]
    assert compared(values).excess.max() < 5


def test_a_hit_is_told_by_its_strength() -> None:
    values = cells(2000.0, [0.9, 1.0, 1.2])
    sigma = np.sqrt(QUIET.variance(np.float64(2400.0)))
    values[2, :, 20] += 12 * sigma
    excess = compared(values).excess
    assert np.all(excess[2, :, 20] > 5)
    assert np.median(excess[2, :, 20]) == pytest.approx(10, abs=1.5)
    excess[2, :, 20] = 0
    assert excess.max() < 5


def test_cells_do_not_depend_on_their_company() -> None:
    values = cells(300.0, [0.8, 1.0, 1.3])
    values[1, 3, 7] += 900
    whole, alone = compared(values), compared(np.ascontiguousarray(values[:, 3:4]))
    assert np.array_equal(whole.excess[:, 3:4], alone.excess)
    assert np.array_equal(whole.scale[:, 3:4], alone.scale)


def test_a_cell_that_scatters_more_is_judged_by_its_scatter() -> None:
    values = cells(0.0, [1.0, 1.0, 1.0])
    values *= 5
    assert (compared(values).excess > 5).mean() < 1e-2


def test_of_two_frames_the_lower_is_believed() -> None:
    values = cells(1000.0, [1.0, 1.0])
    values[0, :, 5] += 2000
    found = compared(values)
    assert np.all(found.excess[0, :, 5] > 5)
    assert np.all(found.excess[1, :, 5] < 5)


def test_leaving_out_the_brightest_frame_makes_nothing_darker() -> None:
    scale = np.array([0.8, 1.0, 1.2])[:, np.newaxis] * np.ones(5)
    values, flagged = 100 * scale, np.zeros((3, 5), bool)
    flagged[2] = True
    values[2] += 5000
    np.testing.assert_allclose(mean_without(values, np.zeros((3, 5)), scale, flagged), 100)


def test_nothing_left_is_nothing() -> None:
    values = np.array([[5.0], [np.nan]])
    one = np.ones((2, 1))
    assert np.isnan(mean_without(values, 0 * one, one, np.array([[True], [False]])))
