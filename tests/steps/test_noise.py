"""The variance of combined images, against the scatter about the simulator's truth."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.kernels import clipped_std, median_factor
from arrayred.model import NO_DATA
from arrayred.steps import variance_factor
from arrayred.steps.noise import sample_pixels
from tests.steps import Array, cube_of

GAIN, READ = 1.5, 12.0
R = math.hypot(READ / GAIN, 12**-0.5)


def exposures(n: int, electrons: Array | float, shape: tuple[int, int], seed: int) -> Array:
    """Return frames (frame, y, x), uint16, of light and dark charge over a bias of 1000 adu."""
    rng = np.random.default_rng(seed)
    charge = rng.poisson(np.broadcast_to(electrons, shape), (n, *shape))
    return ((charge + rng.normal(0, READ, (n, *shape))) / GAIN + 1000).round().astype("u2")


def cubes(
    n_lights: int, n_darks: int, light: Array | float = 2000.0, shape: tuple[int, int] = (250, 400)
) -> tuple[xr.Dataset, xr.Dataset]:
    """Return lights and darks of a detector with hot pixels."""
    rng = np.random.default_rng(1)
    dark = np.where(rng.random(shape) < 0.01, rng.uniform(1000, 20_000, shape), 30.0)
    lights = exposures(n_lights, dark + light, shape, 2)
    darks = exposures(n_darks, dark, shape, 3)
    return (
        cube_of(lights, gain=GAIN),
        cube_of(darks, gain=GAIN).assign_coords(frame_type=("frame", ["dark"] * n_darks)),
    )


def reduced(
    lights: xr.Dataset, darks: xr.Dataset, method: Any = "average", dark_method: Any = "median"
) -> xr.Dataset:
    master = ar.measure_noise(ar.combine(darks, dark_method), darks)
    return ar.estimate_noise(ar.combine(lights, method, minus=master), lights, minus=master)


def pulls(image: xr.Dataset, truth: Array | float) -> Array:
    return np.asarray((image.counts.values - truth) / np.sqrt(image.variance.values))


@pytest.mark.parametrize("method", ["average", "median"])
@pytest.mark.parametrize(("n_lights", "n_darks"), [(1, 5), (2, 3), (3, 5), (4, 11), (9, 4)])
def test_combined_images_scatter_as_their_variance_says(
    method: str, n_lights: int, n_darks: int
) -> None:
    found = pulls(reduced(*cubes(n_lights, n_darks), method), 2000 / GAIN)
    assert abs(found.mean()) < 0.03
    assert abs(found.std() - 1) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "dark_method", "n_lights", "n_darks"),  # each pair of methods, even and odd numbers
    [
        *(("average", "average", 2, 3), ("average", "median", 11, 4), ("median", "median", 25, 11)),
        *(("median", "average", 3, 5), ("median", "median", 2, 4)),
    ],
)
def test_a_million_pixels_scatter_as_their_variance_says(
    method: str, dark_method: str, n_lights: int, n_darks: int
) -> None:
    lights, darks = cubes(n_lights, n_darks, 4000.0, (1000, 1000))
    found = pulls(reduced(lights, darks, method, dark_method), 4000 / GAIN)
    assert abs(found.mean()) < 0.01
    assert abs(found.std() - 1) < 0.02


@pytest.mark.parametrize("light", [0.0, 30.0, 30_000.0])
def test_faint_and_bright_pixels_are_both_right(light: float) -> None:
    found = pulls(reduced(*cubes(3, 5, light)), light / GAIN)
    assert abs(clipped_std(found) - 1) < 0.02


def test_hot_pixels_are_as_noisy_as_their_charge() -> None:
    lights, darks = cubes(3, 5, 30.0)
    hot = ar.combine(darks, "median").counts.values > 1300
    found = pulls(reduced(lights, darks), 20.0)[hot]
    assert found.size > 800
    assert abs(found.std() - 1) < 0.08


def test_a_bias_brings_its_noise_and_its_pattern_brings_none() -> None:
    pattern = np.random.default_rng(4).integers(0, 3000, (250, 400)).astype("u2")
    biases = cube_of(exposures(5, 0.0, (250, 400), 5) + pattern, gain=GAIN)
    biases = biases.assign_coords(frame_type=("frame", ["bias"] * 5))
    image = reduced(cube_of(exposures(3, 300.0, (250, 400), 6) + pattern, gain=GAIN), biases)
    assert abs(pulls(image, 200.0).std() - 1) < 0.02
    assert "measured from 5 biases" in image.attrs["history"][-1]


def test_the_formula_is_the_documented_one() -> None:
    lights, darks = cubes(4, 5, 900.0)
    master = ar.measure_noise(ar.combine(darks, "median"), darks)
    image = ar.estimate_noise(ar.combine(lights, "median", minus=master), lights, minus=master)
    noise, above = master.attrs["noise"], master.counts.values - np.median(master.counts.values)
    hot = np.where(above > 100, above, 0) / GAIN
    frame = noise**2 + np.maximum(image.counts.values, 0) / GAIN + hot
    expected = median_factor(4) / 4 * frame + median_factor(5) / 5 * (noise**2 + hot)
    assert noise == pytest.approx(math.hypot(R, math.sqrt(30) / GAIN), rel=0.02)
    np.testing.assert_allclose(image.variance.values, expected, rtol=1e-5)
    assert (image.variance.dtype, image.variance.attrs["units"]) == (np.float32, "adu2")


def test_a_read_noise_that_is_told_counts_where_one_dark_tells_nothing() -> None:
    lights, darks = cubes(3, 1)
    image = reduced(lights.assign_coords(read_noise=READ), darks)
    assert "stated" in image.attrs["history"][-1]
    assert 0 < clipped_std(pulls(image, 2000 / GAIN)) - 1 < 0.03  # dark current is not told


@pytest.mark.parametrize("n_lights", [1, 2, 5])
def test_lights_alone_tell_their_noise_off_the_spectrum(n_lights: int) -> None:
    star = 9000 * np.exp(-0.5 * ((np.arange(250) - 120) / 5) ** 2)[:, np.newaxis] + 200
    pixels = exposures(n_lights, star, (250, 400), 7) - np.uint16(1000)
    lights = cube_of(pixels.astype("i2"), gain=GAIN)
    image = ar.estimate_noise(ar.combine(lights), lights)
    assert "off the spectrum" in image.attrs["history"][-1]
    assert abs(pulls(image, star / GAIN).std() - 1) < 0.05


def test_a_gain_that_nobody_tells_is_measured_where_the_light_suffices() -> None:
    slope = np.linspace(100, 40_000, 250)[:, np.newaxis]
    lights, darks = cubes(4, 5, slope)
    image = reduced(lights.drop_vars("gain"), darks)
    assert "measured from 4 light frames" in image.attrs["history"][-1]
    assert image.attrs["gain_effective"] == pytest.approx(4 * GAIN, rel=0.1)
    assert abs(pulls(image, slope / GAIN).std() - 1) < 0.05


def test_without_a_gain_photon_noise_is_left_out_and_said() -> None:
    lights, darks = cubes(3, 5, 30.0)
    image = reduced(lights.drop_vars("gain"), darks)
    assert np.ptp(image.variance.values) == 0
    assert "photon noise not included" in image.attrs["history"][-1]
    assert "gain_effective" not in image.attrs


@pytest.mark.parametrize("n_lights", [1, 3])
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_frames_without_any_scatter_have_the_noise_of_their_rounding(
    n_lights: int, dtype: str
) -> None:
    frames = np.zeros((n_lights, 60, 80))
    frames[:, 30] = 100
    lights = cube_of(frames.astype(dtype), gain=20.0)
    image = ar.estimate_noise(ar.combine(lights), lights)
    assert image.variance.values[0] == pytest.approx(1 / 12 / n_lights, rel=1e-5)


def test_steps_of_many_counts_are_the_least_noise() -> None:
    frames = np.full((3, 60, 80), 640)
    frames[:, 20:30] = 704
    lights = cube_of(frames.astype("u2"), gain=1.5, read_noise=1.0)
    image = ar.estimate_noise(ar.combine(lights), lights)
    assert float(image.variance.min()) == pytest.approx(64**2 / 12 / 3 + 640 / 1.5 / 3, rel=1e-5)


def test_the_mean_of_coarse_darks_is_their_best_estimate_and_their_median_stays() -> None:
    rng = np.random.default_rng(1)
    level = 1000 + np.linspace(0, 1, 200)[:, np.newaxis] * np.ones(300)
    level[50, 60] += 400
    frames = (level + rng.normal(0, 0.3, (5, 200, 300))).round().astype("u2")
    frames[2, 100, 100] += 90
    darks = cube_of(frames)
    master = ar.measure_noise(ar.settle(ar.combine(darks, "median")), darks)
    assert np.array_equal(master.counts.values, np.median(frames, axis=0))
    error = master.clean.values - level
    assert abs(error.mean(axis=1)).max() < 0.1
    assert abs((master.counts.values - level).mean(axis=1)).max() > 0.2
    assert abs(error[[50, 100], [60, 100]]).max() < 1
    fine = cube_of(frames + rng.normal(0, 3, frames.shape).round().astype("u2"))
    assert "clean" not in ar.measure_noise(ar.settle(ar.combine(fine, "median")), fine)


def test_a_ready_master_whose_frames_nobody_counts_adds_nothing_and_that_is_said() -> None:
    lights, darks = cubes(3, 5)
    ready = ar.combine(darks, "median").drop_vars(["n_frames", "method"])
    lights = lights.assign_coords(read_noise=READ)
    image = ar.estimate_noise(ar.combine(lights, minus=ready), lights, minus=ready)
    assert "noise of the master unknown" in image.attrs["history"][-1]
    known = ready.assign_coords(n_frames=5)
    more = ar.estimate_noise(ar.combine(lights, minus=known), lights, minus=known)
    assert float((more.variance - image.variance).min()) > median_factor(5) / 5 * R**2 * 0.99


@pytest.mark.parametrize("rows", [1, 33, 250])
def test_the_variance_does_not_depend_on_chunks(rows: int) -> None:
    lights, darks = cubes(3, 5)
    lazy = [cube.chunk({"y": rows}) for cube in (lights, darks)]
    master = ar.measure_noise(ar.settle(ar.combine(lazy[1], "median")), lazy[1])
    image = ar.settle(ar.combine(lazy[0], minus=master))
    found = ar.estimate_noise(image, lazy[0], minus=master)
    assert found.identical(reduced(lights, darks))


def test_a_pixel_that_frames_lack_is_noisier() -> None:
    lights, darks = cubes(3, 5)
    pixels = lights.counts.values.astype("f4")
    pixels[0, 10, 10], pixels[:2, 20, 20], pixels[:, 30, 30] = np.nan, np.nan, np.nan
    holed = lights.assign(counts=lights.counts.copy(data=pixels))
    dq = np.where(np.isnan(pixels).any(axis=0), NO_DATA, 0).astype("u1")
    master = ar.measure_noise(ar.combine(darks, "median"), darks)
    image = ar.combine(holed, minus=master).assign(dq=(("y", "x"), dq))
    image = ar.estimate_noise(image, holed, minus=master)
    own = image.variance.values - median_factor(5) / 5 * master.attrs["noise"] ** 2
    frame = master.attrs["noise"] ** 2 + image.counts.values / GAIN
    assert own[10, 10] == pytest.approx(frame[10, 10] / 2, rel=1e-4)
    assert own[20, 20] == pytest.approx(frame[20, 20], rel=1e-4)
    assert np.isnan(own[30, 30])


def test_counts_that_are_electrons_have_a_gain_of_one() -> None:
    lights, darks = cubes(3, 5)
    for cube in (lights, darks):
        cube["counts"] = cube.counts.copy(data=(cube.counts.values - 1000.0) * GAIN)
        cube.counts.attrs["units"] = "electron"
    image = reduced(lights.assign_coords(gain=1.0), darks.assign_coords(gain=1.0))
    assert abs(pulls(image, 2000.0).std() - 1) < 0.02
    assert image.variance.attrs["units"] == "electron2"


def test_a_flat_divides_the_noise_and_brings_its_own() -> None:
    response = np.linspace(0.4, 1.6, 400) * np.ones((250, 1))
    lights, darks = cubes(3, 5, 2000 * response)
    rng = np.random.default_rng(8)
    flat = cube_of((response + rng.normal(0, 0.01, response.shape))[np.newaxis])[{"frame": 0}]
    flat["variance"] = flat.counts * 0 + 0.01**2
    flat.counts.attrs.clear()
    master = ar.measure_noise(ar.combine(darks, "median"), darks)
    image = ar.combine(lights, minus=master)
    image["counts"] = image.counts.copy(data=image.counts.values / flat.counts.values)
    found = pulls(ar.estimate_noise(image, lights, minus=master, flat=flat), 2000 / GAIN)
    assert abs(found[:, :100].std() - 1) < 0.03
    assert abs(found[:, 300:].std() - 1) < 0.03


@pytest.mark.parametrize(("method", "share"), [("average", 0.2), ("median", 0.28683)])
def test_the_share_of_a_frame_is_that_of_its_method(method: str, share: float) -> None:
    assert variance_factor(method, 5) == pytest.approx(share, rel=1e-4)


@pytest.mark.parametrize(("low", "high"), [(1, 1), (0, 2)])
def test_a_mean_without_extremes_scatters_as_its_variance_says(low: int, high: int) -> None:
    lights, darks = cubes(5, 5)
    master = ar.measure_noise(ar.combine(darks, "minmax", low=1, high=1), darks)
    image = ar.combine(lights, "minmax", minus=master, low=low, high=high)
    found = pulls(ar.estimate_noise(image, lights, minus=master), 2000 / GAIN)
    assert abs(found.std() - 1) < 0.02


def test_a_sample_of_pixels_takes_hardly_more_memory_than_it_holds() -> None:
    cube = cube_of(np.zeros((40, 640, 500), np.uint16)).chunk({"y": 64})
    sample_pixels(cube, 64 * 500)  # what dask imports is not counted
    tracemalloc.start()
    sample = sample_pixels(cube, 64 * 500)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sample.shape == (40, 64, 500)
    assert peak < 1.5 * sample.nbytes
