"""Flats are made and divided by: truth by plain numpy, and the same bits in any bands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.errors import InputError, MismatchError, UsageError
from arrayred.simulate import Detector, SimulatedNight
from arrayred.steps import combine_flats, divide_flat, flat_level, normalise_flat, with_bad_pixels
from arrayred.steps.combine import combine
from tests.steps import cube_of, image_of

RNG = np.random.default_rng(0)
RESPONSE = 1 + 0.02 * RNG.standard_normal((60, 80))
LAMP = 8000 * (1 - 0.3 * np.linspace(-1, 1, 80) ** 2)
BIAS = image_of(np.full((60, 80), 300.0)).assign_attrs(kind="bias")


@pytest.fixture
def flats() -> xr.Dataset:
    brightness = np.array([1.0, 1.3, 0.7])[:, None, None]
    return cube_of(np.rint(300 + brightness * LAMP * RESPONSE).astype(np.uint16))


def master(cube: xr.Dataset) -> xr.Dataset:
    levels = [flat_level(image_of(frame - 300.0)) for frame in cube.counts.values.astype(float)]
    return normalise_flat(combine_flats(cube, levels, [BIAS] * 3))


def test_a_master_flat_is_the_response_without_the_lamps_colour(flats: xr.Dataset) -> None:
    ratio = master(flats).counts.values / RESPONSE
    assert ratio.mean() == pytest.approx(1, abs=0.005)
    assert ratio.std() < 0.003


def test_bands_change_no_bit_of_a_flat(flats: xr.Dataset) -> None:
    levels = [1.0, 2.0, 3.0]
    whole = combine_flats(flats, levels, [BIAS, None, BIAS])
    for rows in (1, 7, 60):
        lazy = combine_flats(flats.chunk({"y": rows}), levels, [BIAS, None, BIAS])
        assert lazy.counts.chunks is not None
        assert lazy.compute().identical(whole)


def test_a_vertical_flat_is_the_horizontal_one_turned(flats: xr.Dataset) -> None:
    upright = cube_of(np.ascontiguousarray(flats.counts.values.swapaxes(1, 2)))
    levels = [flat_level(image_of(frame)) for frame in flats.counts.values.astype(float)]
    turned = normalise_flat(combine_flats(upright.assign_coords(dispersion_axis=2), levels))
    flat = normalise_flat(combine_flats(flats, levels))
    assert np.array_equal(turned.counts.values.T, flat.counts.values)


def test_vignetting_along_the_slit_stays_in_the_flat() -> None:
    slit = 1 - 0.2 * np.linspace(-1, 1, 60)[:, None] ** 2
    flat = normalise_flat(image_of(slit * LAMP))
    ends = flat.counts.values[[0, 59]] / flat.counts.values[30]
    assert ends == pytest.approx(0.8 / slit[30, 0], rel=1e-6)


def test_pixels_with_little_light_are_bad_and_left_undivided(flats: xr.Dataset) -> None:
    response = np.ones((60, 80))
    response[:3], response[5, 5], response[6, 6] = 0.04, np.nan, 0.0
    flat = with_bad_pixels(image_of(response))
    assert int(flat.bad.sum()) == 3 * 80 + 2
    divided = divide_flat(flats, flat)
    assert np.array_equal(divided.counts, flats.counts)
    assert divided.bad.identical(flat.bad)


def test_bad_pixels_are_flagged_beside_other_flags_and_a_variance_follows() -> None:
    response = np.full((60, 80), 0.5)
    response[0, 0] = 0.0
    flat, image = with_bad_pixels(image_of(response)), image_of(np.ones((60, 80)))
    assert divide_flat(image, flat).dq.values.sum() == divide_flat(image, flat).dq[0, 0] == 1
    planes = {"dq": (("y", "x"), np.full((60, 80), 4, np.uint8)), "variance": image.counts * 3}
    found = divide_flat(image.assign(planes), flat)
    assert (found.dq[0, 0], found.dq[1, 1], found.dq.dtype) == (5, 4, np.uint8)
    assert (found.variance[0, 0], found.variance[1, 1]) == (3, 12)


def fading(steepness: float) -> xr.Dataset:
    """Return a flat whose lamp fades towards the first column, and a slit vignetted to 0.8."""
    lamp = np.exp(-steepness * (1 - np.arange(400) / 400))
    slit = 1 - 0.2 * np.linspace(-1, 1, 60)[:, None] ** 2
    rng = np.random.default_rng(2)
    pixels = 20_000 * lamp * slit * (1 + 0.01 * rng.standard_normal((60, 400)))
    return image_of(pixels + rng.normal(0, 5, pixels.shape))


@pytest.mark.parametrize("steepness", [7.0, 25.0])
def test_faint_columns_are_flagged_and_the_slit_is_divided_out_all_the_same(
    steepness: float,
) -> None:
    image = fading(steepness)
    flat = normalise_flat(image)
    slit = 1 - 0.2 * np.linspace(-1, 1, 60) ** 2
    flags = flat.dq.values
    assert not flat.bad.values.any()
    assert (flags[:, :100] == 32).all()
    assert (flags[:, 350:] == 0).all()
    for part in (slice(0, 20), slice(20, 100), slice(350, 400)):
        along = np.median(flat.counts.values[:, part], axis=1)
        assert along == pytest.approx(slit / np.median(slit), rel=0.03)
    divided = divide_flat(image_of(np.ones((60, 400))), flat)
    assert np.array_equal(divided.dq.values, flags)


def test_columns_in_doubt_are_the_same_of_a_vertical_flat() -> None:
    image = fading(25.0)
    flat = normalise_flat(image.assign(variance=image.counts))
    upright = image_of(np.ascontiguousarray(image.counts.values.T))
    upright = upright.assign(variance=upright.counts).assign_coords(dispersion_axis=2)
    turned = normalise_flat(upright)
    for name in ("counts", "dq", "variance"):
        assert np.array_equal(turned[name].values.T, flat[name].values)
    assert np.isfinite(flat.variance.values).all()


def test_pixels_with_too_much_light_are_bad_whatever_the_flat_is_scaled_to() -> None:
    response = np.ones((60, 80))
    response[5, 5], response[6, 6], response[7, 7] = 2.0, 3.5, 40.0
    for scale in (1.0, 500.0):
        bad = with_bad_pixels(image_of(scale * response)).bad.values
        assert set(zip(*np.nonzero(bad), strict=True)) == {(6, 6), (7, 7)}


def test_one_division_of_the_combined_image_is_that_of_every_frame(flats: xr.Dataset) -> None:
    flat = with_bad_pixels(image_of(RESPONSE))
    for method in ("average", "median"):
        once = divide_flat(combine(flats, method), flat).counts.values
        each = combine(divide_flat(flats, flat), method).counts.values
        np.testing.assert_array_max_ulp(once, each, 3)


def test_a_lazy_cube_is_divided_lazily_to_the_same_bits(flats: xr.Dataset) -> None:
    flat = with_bad_pixels(image_of(RESPONSE))
    lazy = divide_flat(flats.chunk({"y": 7}), flat)
    assert lazy.counts.chunks is not None
    assert lazy.compute().identical(divide_flat(flats, flat))


def test_a_flat_has_no_unit_and_counts_keep_theirs(flats: xr.Dataset) -> None:
    flat = master(flats)
    assert "units" not in flat.counts.attrs
    assert divide_flat(flats, flat).counts.attrs["units"] == "adu"


def test_the_history_tells_what_was_done(flats: xr.Dataset) -> None:
    flat = master(flats)
    assert flat.attrs["history"][1:] == [
        "bias subtracted",
        "median of 3 flats, each normalised by its level",
        "lamp spectrum removed",
    ]  # fmt: skip
    told = divide_flat(flats, flat).attrs["history"][-1]
    assert told == "divided by the flat; 0 pixels with too little flat signal unchanged"


def test_a_flat_of_other_pixels_is_refused(flats: xr.Dataset) -> None:
    with pytest.raises(MismatchError, match="y runs over"):
        divide_flat(flats, with_bad_pixels(image_of(RESPONSE, first_row=2)))


def test_a_dark_lamp_is_refused_by_name() -> None:
    dark = image_of(np.zeros((4, 5))).assign_coords(frame="flat-003")
    with pytest.raises(InputError, match="flat-003 has no signal"):
        flat_level(dark)


def test_saturated_pixels_count_neither_in_levels_nor_in_the_flat() -> None:
    lamp = np.where((np.arange(80) > 38) & (np.arange(80) < 42), 3.0, 1.0)
    cube = cube_of(np.minimum(np.rint(brightness(lamp)), 65535).astype(np.uint16))
    saturated = (cube.counts.values == 65535).any(axis=0)
    assert saturated.any()
    levels = [flat_level(image_of(one), saturated) for one in cube.counts.values.astype(float)]
    assert np.divide(levels, levels[0]) == pytest.approx([1, 2, 3], rel=1e-4)
    image = combine_flats(cube, levels, saturated_from=65535)
    expected = brightness(lamp)[0] / levels[0]
    assert image.counts.values == pytest.approx(expected, rel=1e-3)


def brightness(lamp: np.ndarray) -> np.ndarray:
    return np.asarray(np.array([10_000.0, 20_000.0, 30_000.0])[:, None, None] * lamp * RESPONSE)


def test_a_column_that_every_flat_saturates_is_in_doubt_and_the_slit_is_divided_out() -> None:
    slit = 1 - 0.2 * np.linspace(-1, 1, 60)[:, None] ** 2
    pixels = np.array(slit * LAMP)
    pixels[:, 40:42] = np.nan
    flat = normalise_flat(image_of(pixels))
    assert set(np.flatnonzero(flat.dq.values.all(axis=0))) == {40, 41}
    assert not flat.bad.values.any()
    assert flat.counts.values[:, 40] == pytest.approx(slit[:, 0] / np.median(slit), rel=1e-3)


def test_flats_of_which_most_of_the_light_is_saturated_are_refused() -> None:
    image = image_of(np.full((60, 80), 900.0))
    saturated = np.arange(80) < 50
    with pytest.raises(InputError, match="62% of the signal in a flat"):
        flat_level(image, np.broadcast_to(saturated, (60, 80)))


def test_lines_that_lean_are_taken_out_in_every_row_and_flagged() -> None:
    column, away = np.arange(600), np.arange(120)[:, None] - 59.5
    lamp = 1 + np.exp(-0.5 * ((column - 300 - 0.05 * away) / 2.0) ** 2)
    pixels = 20_000 * lamp * (1 + 0.01 * np.random.default_rng(3).standard_normal(lamp.shape))
    flat = normalise_flat(image_of(pixels))
    for rows in np.split(np.arange(120), 10):
        assert np.abs(flat.counts.values[rows].mean(axis=0) - 1).max() < 0.1
    assert (flat.dq.values[:, 296:304] == 32).all()
    assert not flat.dq.values[:, np.r_[0:280, 320:600]].any()


def test_fringes_that_lean_where_the_lamp_does_not_stay_in_the_flat() -> None:
    column, away = np.arange(600), np.arange(120)[:, None] - 59.5
    lamp = 0.1 + 0.9 / (1 + np.exp(-(column - 240) / 4.0))
    fringes = 1 + 0.03 * np.sin(2 * np.pi * (column + 0.3 * away) / 30)
    flat = normalise_flat(image_of(20_000 * lamp * fringes))
    left = flat.counts.values / fringes
    assert np.abs(left / np.median(left, axis=0) - 1).max() < 0.01


def test_levels_and_darks_are_one_for_each_frame(flats: xr.Dataset) -> None:
    with pytest.raises(UsageError, match="3 flats, but 2 levels"):
        combine_flats(flats, [1.0, 2.0])


# The master flat of frames at hand


def test_a_flat_of_frames_at_hand_is_that_of_a_reduced_night(tmp_path: Path) -> None:
    night = SimulatedNight(Detector(shape=(120, 300)), n_darks=3, n_lights=2, n_biases=3, n_flats=4)
    ar.write_frames(night.frames(), tmp_path)
    cube = ar.open_frames(tmp_path, chunks=7)
    kinds = {kind: cube.isel(frame=cube.frame_type.values == kind) for kind in ("bias", "flat")}
    bias = ar.compute(ar.combine(kinds["bias"], "median"))
    tree = ar.reduce_night(tmp_path, ar.Recipe())
    (reduced,) = tree["masters/flat"].children.values()
    flat = ar.make_flat(kinds["flat"], bias)
    assert np.array_equal(flat.counts, reduced.ds.counts)
    assert flat.bad.dims == ("y", "x")
    middle = ar.divide_flat(kinds["flat"].isel(frame=0), flat).counts
    assert abs(float(middle.mean() / kinds["flat"].isel(frame=0).counts.mean()) - 1) < 0.01


@pytest.mark.parametrize("darks", [[None], [None] * 4])
def test_flats_and_darks_of_other_numbers_are_refused(darks: list[None]) -> None:
    cube = cube_of(np.full((3, 4, 5), 1000, "u2"))
    with pytest.raises(UsageError, match=f"3 flats, but {len(darks)} darks"):
        ar.make_flat(cube, darks)
