"""The variance of a master flat, against the scatter about the response that made it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.errors import UsageError
from arrayred.kernels import median_factor
from arrayred.steps import (
    combine_flats,
    divide_flat,
    estimate_flat_noise,
    normalise_flat,
    with_bad_pixels,
    with_gain,
)
from tests.steps import Array, cube_of, image_of

GAIN, READ, SHAPE = 1.5, 12.0, (200, 400)
RESPONSE = 1 + 0.02 * np.random.default_rng(0).standard_normal(SHAPE)
LAMP = 1 - 0.3 * np.linspace(-1, 1, SHAPE[1]) ** 2


def flats(levels: Sequence[float], seed: int = 1, light: Array = RESPONSE * LAMP) -> xr.Dataset:
    """Return flats over a bias of 1000 adu whose pixels get the given parts of some levels, adu."""
    rng = np.random.default_rng(seed)
    electrons = [rng.poisson(level * GAIN * light) + rng.normal(0, READ, SHAPE) for level in levels]
    return cube_of((np.stack(electrons) / GAIN + 1000).round().astype("u2"), gain=GAIN)


def bias(seed: int = 2) -> xr.Dataset:
    cube = flats([0.0] * 5, seed).assign_coords(frame_type=("frame", ["bias"] * 5))
    return ar.measure_noise(ar.combine(cube, "median"), cube).assign_attrs(kind="bias")


def master(levels: Sequence[float], seed: int = 1, light: Array = RESPONSE * LAMP) -> xr.Dataset:
    cube, darks = flats(levels, seed, light), [bias()] * len(levels)
    return normalise_flat(
        estimate_flat_noise(combine_flats(cube, levels, darks), cube, levels, darks)
    )


def width(flat: xr.Dataset) -> float:
    pulls = (flat.counts.values / RESPONSE - 1) * RESPONSE / np.sqrt(flat.variance.values)
    return float(np.std(pulls))


@pytest.mark.parametrize(
    "levels",
    [[500.0], [300.0] * 2, [300.0] * 3, [150.0] * 3, [400.0, 520.0, 280.0], [3000.0] * 11],
)
def test_a_flat_scatters_about_the_response_as_its_variance_says(levels: list[float]) -> None:
    assert width(master(levels)) == pytest.approx(1, abs=0.02)


def test_levels_of_one_to_four_leave_the_scatter_known_to_a_twentieth() -> None:
    assert 1 <= width(master([1000.0, 2000.0, 4000.0])) < 1.05


def test_where_the_lamp_is_faint_the_flat_is_noisy() -> None:
    flat = master([500.0] * 3)
    edge, middle = (float(flat.variance[:, part].mean()) for part in (slice(9), slice(196, 205)))
    dark = READ**2 / GAIN / 500
    assert edge / middle == pytest.approx((0.7 + dark) / (1 + dark) / 0.7**2, rel=0.02)


def test_the_formula_is_the_documented_one() -> None:
    levels, dark = [400.0, 520.0, 280.0], bias()
    cube = flats(levels)
    image = combine_flats(cube, levels, [dark] * 3)
    root, r2 = np.mean(np.sqrt(levels)), dark.attrs["noise"] ** 2
    photons = np.maximum(image.counts.values, 0) / (GAIN * root**2)
    expected = median_factor(3) / 3 * (r2 / 400**2 + photons) + median_factor(5) / 5 * r2 / 400**2
    found = estimate_flat_noise(image, cube, levels, [dark] * 3)
    np.testing.assert_allclose(found.variance.values, expected, rtol=1e-5)
    assert (found.variance.dtype, found.variance.attrs["units"]) == (np.float32, "")
    line = "variance of the flat: from levels of 280 to 520; gain 1.5 (from header)"
    assert found.attrs["history"][-1] == line


def test_a_vertical_flats_variance_is_the_horizontal_ones_turned() -> None:
    cube = flats([500.0] * 3)
    image = estimate_flat_noise(combine_flats(cube, [500.0] * 3), cube, [500.0] * 3)
    upright = image.rename(x="y", y="x").transpose("y", "x").assign_coords(dispersion_axis=2)
    turned = normalise_flat(upright).variance.values.T
    assert np.array_equal(turned, normalise_flat(image).variance.values)


def test_a_gain_that_nobody_tells_is_measured_from_the_flats() -> None:
    light = RESPONSE * np.linspace(0.05, 1, SHAPE[0])[:, np.newaxis]
    cube, levels, dark = (
        flats([20_000.0] * 4, light=light).drop_vars("gain"),
        [20_000.0] * 4,
        bias(),
    )
    found = estimate_flat_noise(combine_flats(cube, levels, [dark] * 4), cube, levels, [dark] * 4)
    pulls = (found.counts - light).values / np.sqrt(found.variance.values)
    assert np.std(pulls) == pytest.approx(1, abs=0.05)


def test_without_any_gain_the_variance_is_unknown_and_that_is_said() -> None:
    cube = flats([500.0]).drop_vars("gain")
    found = estimate_flat_noise(combine_flats(cube, [500.0]), cube, [500.0])
    assert "variance" not in found
    assert "gain not known" in found.attrs["history"][-1]


def test_a_read_noise_that_is_told_counts_where_no_bias_tells_it() -> None:
    cube = flats([500.0])
    plain, told = (
        estimate_flat_noise(combine_flats(one, [500.0]), one, [500.0])
        for one in (cube, cube.assign_coords(read_noise=READ))
    )
    more = told.variance.values - plain.variance.values
    np.testing.assert_allclose(more, (READ / GAIN / 500) ** 2, rtol=1e-2)


def test_each_flat_has_a_level() -> None:
    cube = flats([500.0] * 3)
    with pytest.raises(UsageError, match="3 flats, but 2 levels"):
        estimate_flat_noise(combine_flats(cube, [500.0] * 3), cube, [500.0] * 2)


# What the flat's noise does to what it divides


def lit(flat: xr.Dataset, light: float) -> xr.Dataset:
    """Return lights of one level divided by a flat."""
    cube = flats([light] * 3, 5, RESPONSE)
    dark = bias(6)
    image = ar.estimate_noise(ar.combine(cube, minus=dark), cube, minus=dark)
    return divide_flat(image, flat)


@pytest.mark.parametrize("light", [30.0, 3000.0])
def test_an_image_divided_by_a_noisy_flat_scatters_as_its_variance_says(light: float) -> None:
    image = lit(master([300.0] * 3), light)
    pulls = (image.counts.values - light) / np.sqrt(image.variance.values)
    assert np.std(pulls) == pytest.approx(1, abs=0.02)
    assert "with its noise" in image.attrs["history"][-1]
    assert image.variance.dtype == np.float32


def test_without_the_flats_noise_the_scatter_would_be_twice_what_is_said() -> None:
    image = lit(master([300.0] * 3).drop_vars("variance"), 3000.0)
    pulls = (image.counts.values - 3000.0) / np.sqrt(image.variance.values)
    assert np.std(pulls) > 2
    assert "whose noise" not in image.attrs["history"][-1]


def test_what_is_left_undivided_gets_no_noise_of_the_flat() -> None:
    response = np.array([[1.0, 0.01, np.nan, 2.0]])
    flat = with_bad_pixels(image_of(response).assign(variance=(("y", "x"), np.full((1, 4), 0.5))))
    image = image_of(np.full((1, 4), 10.0)).assign(variance=(("y", "x"), np.full((1, 4), 4.0)))
    expected = [[4 + 100 * 0.5, 4, 4, (4 + 25 * 0.5) / 4]]
    assert np.array_equal(divide_flat(image, flat).variance, expected)


def test_noise_estimated_after_the_division_is_that_of_before() -> None:
    flat, dark, cube = master([300.0] * 3), bias(), flats([900.0] * 3, 5, RESPONSE)
    image = ar.combine(cube, minus=dark)
    before = divide_flat(ar.estimate_noise(image, cube, minus=dark), flat)
    divided = image.assign(counts=image.counts / flat.counts)
    after = ar.estimate_noise(divided, cube, minus=dark, flat=flat)
    np.testing.assert_allclose(before.variance, after.variance, rtol=1e-5)


def test_the_gain_of_the_flats_comes_before_that_of_the_lights() -> None:
    levels = [8000.0, 7500.0, 8200.0]
    cube, darks = flats(levels).drop_vars("gain"), [bias()] * 3
    flat = estimate_flat_noise(combine_flats(cube, levels, darks), cube, levels, darks)
    assert flat.attrs["gain_measured"].gain == pytest.approx(GAIN, rel=0.05)
    assert "measured from 3 flats" in flat.attrs["history"][-1]
    light = cube.isel(frame=[0])
    image = with_gain(ar.settle(ar.combine(light)), light, flat=flat)
    assert image.gain.item() == flat.attrs["gain_measured"].gain
    assert "remarks" not in image.attrs
    assert "S/N" in with_gain(ar.settle(ar.combine(light)), light).attrs["remarks"][0]
