"""The arithmetic of comparing frames, on cells made here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from arrayred.kernels import (
    PixelNoise,
    compare_tiles,
    dark_excess,
    mean_without,
    screen_strip,
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


def screened(frames: Any, sky: Any) -> Any:
    none = np.zeros(frames.shape[1:])
    places = np.arange(frames.shape[2]).reshape(-1, 48)
    each = sky.astype(np.result_type(frames.dtype, np.float32))
    return screen_strip(frames, (each, sky.min(axis=0)), QUIET, none, none, places)


@pytest.mark.parametrize("dtype", ["u2", "i4", "f4", "f8"])
@pytest.mark.parametrize("n_frames", [2, 3, 8])
def test_in_dark_cells_single_values_are_judged_as_whole_cells(dtype: str, n_frames: int) -> None:
    rng = np.random.default_rng(n_frames)
    sky = np.broadcast_to(rng.uniform(500, 800, 144), (n_frames, 144))
    frames = rng.normal(sky[:, np.newaxis], 19.0, (n_frames, 30, 144))
    frames[rng.random(frames.shape) < 0.02] += 300.0
    frames = frames.astype(dtype)
    if dtype[0] == "f":
        frames[rng.random(frames.shape) < 0.05] = np.nan
    found = screened(frames, sky)
    cells = (frames - sky[:, np.newaxis]).reshape(n_frames, 90, 48)
    skies = np.broadcast_to(sky.reshape(n_frames, 1, 3, 48), (n_frames, 30, 3, 48))
    skies, more = skies.reshape(cells.shape), np.zeros((90, 48))
    whole = compare_tiles(cells, skies, QUIET, more)
    dark = (whole.scale == 1).all(axis=(0, 2))
    assert np.all(found.may_shine.ravel() | dark)
    seen = np.zeros(frames.shape, bool)
    seen.reshape(n_frames, -1)[found.frame, found.where] = True
    assert seen.reshape(cells.shape)[(whole.excess > 3.5) & dark[:, np.newaxis]].all()
    assert found.frame.size < 0.05 * frames.size
    reference, n_there = (part.reshape(90, 48) for part in (found.reference, found.n_there))
    mean = skies[0], n_there.astype(float)
    for i in range(n_frames):
        alone = dark_excess(cells[i], skies[i], QUIET, more, reference, mean, n_frames)
        both = (np.maximum(excess[dark], 3.4) for excess in (alone, whole.excess[i]))
        np.testing.assert_allclose(*both, atol=1e-4)  # of a float32


def test_a_cell_that_shines_in_one_frame_is_compared_as_a_whole() -> None:
    frames = np.random.default_rng(3).normal(0, 10.0, (5, 4, 96))
    frames[2, 1, 48:80] += 25.0
    assert np.argwhere(screened(frames, np.zeros((5, 96))).may_shine).tolist() == [[1, 1]]


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
