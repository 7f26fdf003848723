"""Noise and flags of single calibrated frames, against the simulator and their combination."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.io import write_frames
from arrayred.kernels import clipped_std, median_factor
from arrayred.model import BAD_PIXEL, COSMIC_RAY, NO_DATA, REPAIRED, SATURATED
from arrayred.pipeline import calibrate, combine_frames
from arrayred.simulate import Detector, Lamps, SimulatedNight, Sky, Star
from arrayred.steps import find_frame_planes, with_bad_pixels
from tests.steps import Array, image_of
from tests.steps.test_noise import GAIN, cubes

RECIPE, SHAPE = ar.Recipe(calibrated=True), (60, 80)
NIGHT = SimulatedNight(
    Detector(shape=(200, 384), response_scatter=0.02),
    Star(flux=500.0, lines=(), row=120.5),
    sky=Sky(level=5.0, lines=()), lamps=Lamps(flat_level=200.0),
    n_biases=5, n_flats=3, n_lights=4,
)  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> xr.DataTree:
    folder = tmp_path_factory.mktemp("frames")
    write_frames(NIGHT.frames(), folder)
    return ar.reduce_night(folder, ar.Recipe(calibrated=True))


def light() -> Array:
    """Return the light that fell on each pixel of a frame, adu."""
    truth = NIGHT.truth()
    return np.asarray((truth.star / truth.response + truth.sky).values)


def test_each_frame_scatters_about_the_truth_as_its_variance_says(tree: xr.DataTree) -> None:
    frames = tree["targets/Simulated_star/calibrated"]
    for counts, variance in zip(frames.counts.values, frames.variance.values, strict=True):
        assert clipped_std((counts - light()) / np.sqrt(variance)) == pytest.approx(1, abs=0.015)


def test_frames_scatter_about_each_other_by_their_own_part_alone(tree: xr.DataTree) -> None:
    frames, flat = tree["targets/Simulated_star/calibrated"], tree["masters/flat/Flat_lamp"]
    dark, counts = tree["masters/dark/600s"], frames.counts.values
    of_dark = median_factor(5) / 5 * dark.attrs["noise"] ** 2 / flat.counts.values**2
    of_flat = (counts / flat.counts.values) ** 2 * flat.variance.values
    own = frames.variance.values - of_dark - of_flat
    pulls = (counts[1] - counts[0]) / np.sqrt(own[0] + own[1])
    assert clipped_std(pulls) == pytest.approx(1, abs=0.015)
    assert clipped_std((counts[1] - counts[0]) / np.sqrt(frames.variance.values[:2].sum(0))) < 0.95


def test_the_history_tells_where_the_noise_comes_from(tree: xr.DataTree) -> None:
    history = tree["targets/Simulated_star/calibrated"].attrs["history"]
    (line,) = (text for text in history if text.startswith("variance of a frame"))
    assert "measured from 5 darks; gain 1.5 (from header)" in line


def spoilt() -> tuple[xr.Dataset, xr.Dataset]:
    """Return lights with saturated and missing pixels, and their master dark."""
    lights, darks = cubes(3, 5, shape=SHAPE)
    pixels = lights.counts.values.astype("f4")
    pixels[0, 10, 10], pixels[1, 20, 20], pixels[:, 30, 30] = 60_000, np.nan, np.inf
    master = ar.measure_noise(ar.combine(darks, "median"), darks)
    spoilt_lights = lights.assign(counts=lights.counts.copy(data=pixels))
    return spoilt_lights.assign_coords(saturation=50_000.0), master


def struck() -> xr.Dataset:
    """Return lights of which each was hit at a place of its own, and two at a common one."""
    lights, _ = cubes(4, 1, shape=SHAPE)
    pixels = lights.counts.values.astype("f4")
    for i in range(4):
        pixels[i, 10 + 10 * i, 40] += 5000
    pixels[:2, 15, 60] += 5000
    labels = {"frame": [f"light-{i}" for i in range(4)]}
    return lights.assign(counts=lights.counts.copy(data=pixels)).assign_coords(labels)


@pytest.mark.parametrize("rows", [None, 7])
def test_hits_of_cosmic_rays_are_flagged_in_their_own_frames(rows: int | None) -> None:
    lights = struck()
    lights = lights if rows is None else lights.chunk(y=rows)
    frames = judged(lights, None)
    flagged = frames.dq.values & COSMIC_RAY != 0
    combined, _ = combine_frames(lights, None, RECIPE)
    assert np.array_equal(flagged.any(axis=0), combined.dq.values & REPAIRED != 0)
    assert np.array_equal(flagged[:, [10, 20, 30, 40], 40], np.eye(4, dtype=bool))
    assert list(flagged[:, 15, 60]) == [True, True, False, False]
    assert flagged.sum() < 20


def test_a_frame_by_itself_has_its_own_hits() -> None:
    lights = struck()
    combined, hits = combine_frames(lights, None, RECIPE)
    together = judged(lights, None).dq.values
    for i in range(4):
        one = lights.isel(frame=[i])
        alone = calibrate(one, None, None, find_frame_planes(lights, None, combined, hits))
        assert np.array_equal(alone.dq.values[0], together[i])


def judged(
    lights: xr.Dataset, dark: xr.Dataset | None, flat: Any = None, recipe: ar.Recipe = RECIPE
) -> xr.Dataset:
    combined, hits = combine_frames(lights, dark, recipe, flat)
    return calibrate(lights, dark, flat, find_frame_planes(lights, dark, combined, hits))


@pytest.mark.parametrize("flat", [None, np.where(np.arange(80) < 5, 0.01, 2.0)])
def test_the_flags_of_all_frames_are_those_of_their_combination(flat: Any) -> None:
    lights, dark = spoilt()
    if flat is not None:
        flat = with_bad_pixels(image_of(np.broadcast_to(flat, SHAPE).copy()))
    recipe = RECIPE.replace(bad_pixels="dark", cosmic_rays="off")
    combined, frames = (
        combine_frames(lights, dark, recipe, flat)[0],
        judged(lights, dark, flat, recipe),
    )
    assert np.array_equal(np.bitwise_or.reduce(frames.dq.values), combined.dq.values)
    assert list(frames.dq.values[:, 10, 10] & SATURATED) == [SATURATED, 0, 0]
    assert list(frames.dq.values[:, 20, 20] & NO_DATA) == [0, NO_DATA, 0]
    assert list(frames.dq.values[:, 30, 30] & NO_DATA) == [NO_DATA] * 3
    assert (frames.dq.values & BAD_PIXEL).any()


def test_a_missing_pixel_has_no_variance() -> None:
    frames = judged(*spoilt())
    lacks = (frames.dq.values & NO_DATA) != 0
    assert np.array_equal(np.isnan(frames.variance.values), lacks)
    assert np.array_equal(np.isnan(frames.counts.values), lacks)


@pytest.mark.parametrize("rows", [7, 60])
@pytest.mark.parametrize("flat", [None, 1.25])
def test_planes_are_as_lazy_as_the_frames_and_do_not_depend_on_chunks(
    rows: int, flat: float | None
) -> None:
    lights, dark = spoilt()
    flat_image = None if flat is None else with_bad_pixels(image_of(np.full(SHAPE, flat)))
    eager = judged(lights, dark, flat_image)
    lazy = judged(lights.chunk({"y": rows}), dark, flat_image)
    assert all(lazy[name].chunks is not None for name in ("counts", "variance", "dq"))
    assert lazy.compute().identical(eager)
    assert (eager.variance.dtype, eager.dq.dtype) == (np.float32, np.uint8)


def test_the_formula_is_the_documented_one() -> None:
    lights, darks = cubes(3, 5)
    dark = ar.measure_noise(ar.combine(darks, "median"), darks)
    frames, noise = judged(lights, dark), dark.attrs["noise"]
    hot = dark.counts.values - np.median(dark.counts.values)
    hot = np.where(hot > 100, hot, 0) / GAIN
    own = noise**2 + np.maximum(frames.counts.values, 0) / GAIN + hot
    expected = own + median_factor(5) / 5 * (noise**2 + hot)
    np.testing.assert_allclose(frames.variance.values, expected, rtol=1e-5)


def test_the_frames_mean_variance_without_the_masters_is_that_of_their_average() -> None:
    lights, darks = cubes(4, 5, 300.0)
    dark = ar.measure_noise(ar.combine(darks, "average"), darks)
    frames, combined = judged(lights, dark), combine_frames(lights, dark, RECIPE)[0]
    master = dark.attrs["noise"] ** 2 / 5
    assert float(frames.variance.median()) - master == pytest.approx(
        4 * (float(combined.variance.median()) - master), rel=1e-3
    )


def test_frames_whose_noise_nothing_tells_have_flags_alone() -> None:
    lights, _ = cubes(1, 2, shape=(40, 1))
    frames = judged(lights.drop_vars("gain"), None)
    assert "dq" in frames
    assert "variance" not in frames


def test_lights_alone_tell_the_noise_of_their_frames() -> None:
    lights, _ = cubes(5, 2, 0.0)
    cube = lights.assign(counts=lights.counts.astype("f8") - 1000.0)
    frames = judged(cube, None)
    typical = math.sqrt(float(frames.variance.median()))
    assert typical == pytest.approx(math.hypot(12 / GAIN, math.sqrt(30) / GAIN), rel=0.05)
