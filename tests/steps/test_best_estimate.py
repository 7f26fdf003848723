"""The best estimate of a combined image, against the simulator's truth."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.errors import UsageError
from arrayred.model import X, Y
from arrayred.simulate import Detector, SimulatedNight, Sky, Star
from arrayred.steps import find_scales
from benchmarks.truth.kinds import KINDS, misses, outcome
from tests.steps import Array, cube_of

DETECTOR = Detector(shape=(120, 1000), hot_fraction=0.0)
NIGHT = SimulatedNight(DETECTOR, Star(row=60.0, flux=200.0), n_darks=11, flux_scatter=0.1, seed=2)


class Scene:
    """The frames of a simulated night as cubes, and what is true of them."""

    def __init__(self, night: SimulatedNight) -> None:
        frames = np.stack([frame.pixels for frame in night.frames()])
        cube = cube_of(frames, gain=1.5).assign_coords(frame=[f"f-{i}" for i in range(len(frames))])
        darks = cube.isel(frame=slice(night.n_darks))
        darks = darks.assign_coords(frame_type=("frame", ["dark"] * night.n_darks))
        self.lights = cube.isel(frame=slice(night.n_darks, None))
        self.dark = ar.measure_noise(ar.combine(darks, "median"), darks)
        exposures = [e for e in night.exposures() if e.frame_type == "light"]
        draws = [night._rng(1, exposure).standard_normal() for exposure in exposures]
        bright = 1 + night.flux_scatter * np.array(draws)
        truth = night.truth()
        self.flux = bright / bright.mean()
        self.star = bright.mean() * truth.star.values
        self.light = self.star + truth.sky.values
        self.core = self.star > 0.2 * self.star.max(axis=0)
        self.hits = np.zeros(self.star.shape, int)
        for y, x, _ in (hit for exposure in exposures for hit in night.hits(exposure)):
            self.hits[y - 1, x - 1] += 1

    def cleaned(self, how: ar.Cleaning, lights: xr.Dataset | None = None) -> xr.Dataset:
        lights = self.lights if lights is None else lights
        image = ar.settle(ar.combine(lights, how.plain, minus=self.dark))
        image = ar.add_clean(image, lights, how, minus=self.dark)
        return ar.estimate_noise(image, lights, minus=self.dark)

    def pulls(self, how: ar.Cleaning, lights: xr.Dataset | None = None) -> Array:
        """Return the errors in units of what the variance says where it knows the true light."""
        lights = self.lights if lights is None else lights
        plain = ar.settle(ar.combine(lights, how.plain, minus=self.dark))
        image = ar.add_clean(plain, lights, how, minus=self.dark)
        name = "clean" if "clean" in image else "counts"
        true = image.assign({name: image[name].copy(data=self.light)})
        variance = ar.estimate_noise(true, lights, minus=self.dark).variance.values
        return np.asarray((image[name].values - self.light) / np.sqrt(variance))


@cache
def scene(n_lights: int = 3, **changes: Any) -> Scene:
    return Scene(replace(NIGHT, n_lights=n_lights, **changes))


@pytest.mark.parametrize("n", [3, 4, 9])
@pytest.mark.parametrize("how", [ar.Cleaning("median"), ar.Cleaning("minmax")])
def test_scaled_lights_scatter_as_their_variance_says(how: ar.Cleaning, n: int) -> None:
    night = scene(n)
    pulls = night.pulls(how)
    assert abs(pulls[night.core].mean()) < 0.03  # of 10,000 pixels
    assert abs(pulls[night.core].std() - 1) < 0.03
    assert abs(pulls.mean()) < 0.01
    assert abs(pulls.std() - 1) < 0.03


@pytest.mark.parametrize("n", [3, 9])
def test_unscaled_their_median_does_not(n: int) -> None:
    night = scene(n)
    pulls = night.pulls(ar.Cleaning("median", scale="none"))
    assert pulls[night.core].std() > 1.5
    assert abs(pulls[night.core].mean()) > 2


@pytest.mark.parametrize("n", [2, 3, 4, 9])
@pytest.mark.parametrize("weights", ["none", "noise"])
def test_clipped_lights_scatter_as_their_variance_says(n: int, weights: Any) -> None:
    night = scene(n)
    pulls = night.pulls(ar.Cleaning("clip", weights=weights))
    assert abs(pulls.mean()) < 0.01
    assert abs(pulls[night.core].std() - 1) < 0.03
    assert abs(pulls[~night.core].std() - 1) < 0.03


@pytest.mark.parametrize("n", [3, 4, 9])
def test_clipping_finds_the_cosmic_rays_and_leaves_the_core(n: int) -> None:
    night = scene(n, cosmic_rays=1000.0)
    image = night.cleaned(ar.Cleaning("clip"))
    rejected = image.n_rejected.values
    hit = night.hits == 1
    assert (rejected[hit] >= 1).mean() > 0.98
    assert (rejected[night.core & (night.hits == 0)] > 0).mean() < 0.04
    pulls = night.pulls(ar.Cleaning("clip"))[hit]
    assert abs(np.median(pulls)) < 0.15
    assert abs(pulls.std() - 1) < 0.15
    assert (image.n_rejected.dtype, image.clean.dtype) == (np.uint8, np.float64)


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("minus", [True, False])
def test_the_flux_of_each_frame_is_found(n: int, minus: bool) -> None:
    night = scene(n)
    dark = night.dark if minus else None
    image = ar.combine(night.lights, minus=dark)
    found = find_scales(night.lights, image, minus=dark, variance=64.0)
    assert found.scales.flux == pytest.approx(night.flux, rel=0.003)
    assert sum(found.scales.flux) == pytest.approx(n)
    assert sum(found.scales.level) == pytest.approx(0.0, abs=1e-9)


def test_a_sky_that_changes_is_no_flux() -> None:
    night = scene(3)
    extra = np.array([0, 400, 90], "u2").reshape(3, 1, 1)
    lights = night.lights.assign(counts=night.lights.counts + extra)
    image = ar.combine(lights, minus=night.dark)
    found = find_scales(lights, image, minus=night.dark, variance=64.0)
    assert found.scales.flux == pytest.approx(night.flux, rel=0.003)
    assert np.diff(found.skies) == pytest.approx([400, -310], abs=0.5)
    level = find_scales(lights, image, "level", minus=night.dark).scales
    assert level.flux == (1.0, 1.0, 1.0)
    assert level.level == pytest.approx(extra.ravel() - extra.mean(), abs=0.5)


def test_a_star_too_faint_to_tell_its_flux_scales_nothing() -> None:
    night = scene(3, star=Star(row=60.0, flux=0.1))
    image = night.cleaned(ar.Cleaning("median"))
    assert any("is not known to 2%" in line for line in image.attrs["history"])
    assert abs(night.pulls(ar.Cleaning("median"))[night.core].std() - 1) < 0.03


def test_a_frame_that_hardly_shows_the_star_is_named() -> None:
    night = scene(3)
    dim = np.where(np.arange(3) == 1, 0.001, 1.0).reshape(3, 1, 1)
    light = (night.lights.counts.values - night.dark.counts.values) * dim
    lights = night.lights.assign(counts=(("frame", "y", "x"), light))
    found = find_scales(lights, ar.combine(lights), variance=64.0)
    assert "barely detected in f-12" in found.told
    assert found.scales.flux == (1.0, 1.0, 1.0)


def test_weights_by_noise_are_best_for_a_faint_star() -> None:
    night, how = scene(4, star=Star(row=60.0, flux=8.0), flux_scatter=0.4), ar.Cleaning()
    plain, weighted = night.cleaned(how), night.cleaned(replace(how, weights="noise"))
    assert weighted.variance.values.mean() < 0.98 * plain.variance.values.mean()
    assert abs(night.pulls(replace(how, weights="noise")).std() - 1) < 0.03
    spread = [np.std(image.values - night.light) for image in (plain.counts, weighted.clean)]
    assert spread[1] < 0.99 * spread[0]


def test_lines_of_the_sky_are_no_star() -> None:
    sky = Sky(level=0.2, lines=((300.0, 30.0, 2.0), (700.0, 8.0, 1.5)))
    night = scene(3, star=Star(row=60.0, flux=30.0), sky=sky)
    image = ar.combine(night.lights, minus=night.dark)
    found = find_scales(night.lights, image, minus=night.dark, variance=64.0)
    assert found.scales.flux == pytest.approx(night.flux, rel=0.01)
    rejected = night.cleaned(ar.Cleaning("clip")).n_rejected.values > 0
    assert rejected[:40, 298:303].mean() < 0.05
    assert abs(night.pulls(ar.Cleaning("median"))[:40, 295:306].std() - 1) < 0.06


@pytest.mark.parametrize(("method", "rows"), [("median", 33), ("clip", 7), ("minmax", 33)])
def test_no_bit_depends_on_chunks(method: Any, rows: int) -> None:
    night, how = scene(3, cosmic_rays=1000.0), ar.Cleaning(method)
    lazy = night.lights.chunk({"frame": 2, "y": rows, "x": 400})
    assert night.cleaned(how, lazy).identical(night.cleaned(how))


@pytest.mark.parametrize("method", ["median", "clip", "minmax"])
def test_a_spectrum_along_the_columns_is_cleaned_alike(method: Any) -> None:
    night = scene(3, cosmic_rays=1000.0)
    upright = Scene.__new__(Scene)
    turned = night.lights.rename(x=Y, y=X).transpose("frame", Y, X)
    upright.lights = turned.assign_coords(dispersion_axis=2)
    upright.dark = night.dark.rename(x=Y, y=X).transpose(Y, X)
    image, flat = (one.cleaned(ar.Cleaning(method)) for one in (upright, night))
    off = np.abs(image.clean.values.T - flat.clean.values) / np.sqrt(flat.variance.values)
    assert np.quantile(off, 0.99) < 0.1
    assert image.attrs["history"][-2][:40] == flat.attrs["history"][-2][:40]


def test_the_procedures_own_image_stays() -> None:
    night = scene(3)
    for method in ("median", "clip", "minmax"):
        how = ar.Cleaning(method)
        image = night.cleaned(how)
        plain = ar.combine(night.lights, how.plain, minus=night.dark)
        assert np.array_equal(image.counts, plain.counts)
        assert image["method"].item() == how.plain
        assert "clean_share" not in image.attrs


@pytest.mark.parametrize("how", [ar.Cleaning(), ar.Cleaning("median", scale="none")])
def test_where_nothing_is_to_be_made_better_nothing_is_done(how: ar.Cleaning) -> None:
    image = ar.combine(scene(3).lights)
    assert ar.add_clean(image, scene(3).lights, how) is image


def test_two_lights_are_averaged_and_that_is_said() -> None:
    night = scene(2)
    image = night.cleaned(ar.Cleaning("clip"))
    assert np.allclose(image.clean, image.counts)
    assert "2 frames are too few to identify outliers" in image.attrs["remarks"][-1]


def test_pixels_that_lost_frames_are_noisier() -> None:
    night = scene(4, cosmic_rays=1000.0)
    image = night.cleaned(ar.Cleaning("clip"))
    sky = ~night.core & (np.abs(image.clean.values - 20) < 5)
    variance = [image.variance.values[sky & (image.n_rejected.values == n)].mean() for n in (0, 1)]
    own = night.dark.attrs["noise"] ** 2 * 1.509 / 11
    assert (variance[1] - own) / (variance[0] - own) == pytest.approx(4 / 3, rel=0.01)


def test_missing_pixels_are_as_if_never_taken() -> None:
    night = scene(4)
    frames = night.lights.counts.values.astype("f4")
    frames[1, :, 200:300] = np.nan
    holed = night.lights.assign(counts=(("frame", "y", "x"), frames, {"units": "adu"}))
    for method in ("median", "clip", "minmax"):
        pulls = night.pulls(ar.Cleaning(method), holed)[:, 200:300]
        assert abs(pulls.mean()) < 0.05
        assert pulls.std() < 1.25  # of the variance of all frames: nothing flagged these


def test_too_few_frames_for_extremes_are_refused() -> None:
    with pytest.raises(UsageError, match="2 lowest and 1 highest of the frames would be rejected"):
        scene(3).cleaned(ar.Cleaning("minmax", low=2))


def test_a_flat_divides_the_best_estimate_too() -> None:
    night = scene(3)
    image = night.cleaned(ar.Cleaning("median"))
    response = np.full(image.clean.shape, 0.5)
    flat = night.dark.drop_attrs().assign(counts=(("y", "x"), response))
    flat = flat.assign_coords(bad=(("y", "x"), response < 0))
    divided = ar.divide_flat(image, flat)
    assert np.array_equal(divided.clean, 2 * image.clean)
    assert np.allclose(divided.variance, 4 * image.variance)


@pytest.mark.parametrize("method", ["median", "minmax", "clip"])
def test_frames_that_differ_by_more_than_noise_widen_the_variance(method: str) -> None:
    kind = KINDS[f"clouds and seeing, {method}"]
    assert list(misses(kind, [outcome(kind, 0)])) == []
