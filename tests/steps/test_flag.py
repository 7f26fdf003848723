"""Flags of a combined image, against frames whose faults were put in by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.errors import FrameError, MismatchError
from arrayred.model import BAD_PIXEL, NO_DATA, SATURATED
from arrayred.steps import drop_impossible, find_bad_pixels, plateau_level, saturation_of
from benchmarks.truth.independent import Camera, Exposure, IndependentNight, Source
from tests.steps import Array, cube_of

LABELS = ["light-1", "light-2", "light-3"]


def frames(dtype: str = "u2") -> Array:
    return np.random.default_rng(0).normal(1000, 10, (3, 40, 60)).round().astype(dtype)


def flagged(pixels: Array, bad: Array | None = None, **coords: Any) -> xr.Dataset:
    cube = drop_impossible(cube_of(pixels, frame=LABELS[: len(pixels)], **coords))
    return ar.flag(ar.settle(ar.combine_with_peak(cube)), cube, bad=bad)


def bits(image: xr.Dataset) -> dict[tuple[int, int], int]:
    """Return the flags that are set, by position."""
    where = zip(*np.nonzero(image.dq.values), strict=True)
    return {(int(y), int(x)): int(image.dq.values[y, x]) for y, x in where}


@pytest.mark.parametrize("frame", [0, 1, 2])
@pytest.mark.parametrize(("dtype", "top"), [("u2", 65535), ("i2", 32767)])
def test_a_pixel_is_saturated_if_it_is_in_any_frame(frame: int, dtype: str, top: int) -> None:
    pixels = frames(dtype)
    pixels[frame, 5, 6], pixels[frame, 7, 8] = top, top - 1
    image = flagged(pixels)
    assert bits(image) == {(5, 6): SATURATED}
    assert image.dq.dtype == np.uint8
    assert image.attrs["history"][-1].startswith("pixels flagged: 1 saturated")


def test_a_level_that_is_told_comes_before_the_top_of_the_integers() -> None:
    pixels = frames()
    pixels[1, 5, 6], pixels[1, 7, 8] = 50_000, 49_999
    assert bits(flagged(pixels, saturation=50_000.0)) == {(5, 6): SATURATED}
    assert bits(flagged(pixels)) == {}


@pytest.mark.parametrize("top", [255, 4095, 16383, 65532])
@pytest.mark.parametrize("dtype", ["u2", "i4", "f4"])
def test_a_converter_betrays_itself_where_many_pixels_end(top: int, dtype: str) -> None:
    star = top * 2 * np.exp(-0.5 * ((np.arange(40) - 20) / 4) ** 2)[:, np.newaxis]
    light = np.random.default_rng(1).normal(star + 20, 5, (3, 40, 60))
    pixels = np.clip(light, 0, top).round().astype(dtype)
    image = flagged(pixels)
    assert np.array_equal(image.dq.values & SATURATED > 0, (pixels == top).any(axis=0))
    assert image.dq.values.any()


def test_noise_and_faint_stars_have_no_plateau() -> None:
    rng = np.random.default_rng(2)
    for level, noise in [(1000, 0.4), (1000, 10), (20, 3), (3, 1)]:
        assert plateau_level(rng.normal(level, noise, (200, 300)).round()) is None
    assert plateau_level(np.full((20, 20), 7.0)) is None
    assert plateau_level(np.full((20, 20), np.nan)) is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38])
def test_a_pixel_without_a_count_is_left_out_flagged_and_counted(value: float) -> None:
    pixels = frames("f4")
    pixels[1, 5, 6] = value
    image = flagged(pixels)
    assert bits(image) == {(5, 6): NO_DATA}
    assert image.counts.values[5, 6] == pixels[[0, 2], 5, 6].astype(float).mean()
    assert image.attrs["remarks"] == ["light-2: 1 pixel has no data; the other frames are used"]


def test_a_pixel_may_be_lost_in_one_frame_and_saturated_in_another() -> None:
    pixels = frames("f4")
    pixels[0, 5, 6], pixels[2, 5, 6] = np.nan, 60_000
    assert bits(flagged(pixels, saturation=60_000.0)) == {(5, 6): NO_DATA | SATURATED}


def test_a_pixel_lost_in_all_frames_has_no_count() -> None:
    pixels = frames("f4")
    pixels[:, 5, 6] = np.nan
    image = flagged(pixels)
    assert bits(image) == {(5, 6): NO_DATA}
    assert np.isnan(image.counts.values[5, 6])


@pytest.mark.parametrize("rows", [1, 7, 40])
def test_flags_do_not_depend_on_chunks(rows: int) -> None:
    pixels = frames("f4")
    pixels[1, 5, 6], pixels[2, 38:, :9], pixels[0, 20, 20] = np.nan, np.inf, 60_000
    cube = cube_of(pixels, frame=LABELS, saturation=60_000.0).chunk({"y": rows})
    image = ar.settle(ar.combine_with_peak(drop_impossible(cube)))
    assert ar.flag(image, drop_impossible(cube)).identical(flagged(pixels, saturation=60_000.0))


def test_the_combination_is_that_without_a_peak() -> None:
    cube = cube_of(frames())
    minus = cube_of(frames())[{"frame": 0}]
    for method in ("average", "median"):
        both = ar.combine_with_peak(cube, method, minus=minus)
        assert both.drop_vars("peak").identical(ar.combine(cube, method, minus=minus))
        assert np.array_equal(both.peak, cube.counts.values.max(axis=0))


def test_each_band_is_visited_once_for_both_planes() -> None:
    import dask.array as da

    visited = []

    def read(block: Array, block_info: Any = None) -> Array:
        visited.append(block_info[0]["chunk-location"])
        return block

    lazy = da.from_array(frames(), chunks=(3, 10, 60)).map_blocks(
        read, dtype="u2", meta=np.empty(0)
    )
    cube = cube_of(frames()).assign(counts=(("frame", "y", "x"), lazy))
    ar.settle(ar.combine_with_peak(cube))
    assert sorted(visited) == [(0, i, 0) for i in range(4)]


def test_known_bad_pixels_are_flagged_and_their_counts_stay() -> None:
    bad = np.zeros((40, 60), bool)
    bad[3, 4] = True
    assert bits(flagged(frames(), bad)) == {(3, 4): BAD_PIXEL}
    assert np.array_equal(flagged(frames(), bad).counts, flagged(frames()).counts)


def test_pixels_that_a_flat_could_not_correct_are_bad() -> None:
    bad = np.zeros((40, 60), bool)
    bad[3, 4] = True
    cube = cube_of(frames())
    image = ar.settle(ar.combine_with_peak(cube)).assign_coords(bad=(("y", "x"), bad))
    assert bits(ar.flag(image, cube)) == {(3, 4): BAD_PIXEL}


def test_bad_pixels_of_another_detector_are_refused() -> None:
    with pytest.raises(MismatchError, match=r"60 x 41.*60 x 40"):
        flagged(frames(), np.zeros((41, 60), bool))


@pytest.mark.parametrize(
    ("value", "why"), [(np.nan, "no pixel"), (7.0, "every pixel is 7"), (65535, "every pixel")]
)
def test_a_frame_without_light_is_an_error_with_its_name(value: float, why: str) -> None:
    pixels = frames("f4")
    pixels[1] = value
    with pytest.raises(FrameError, match=f"light-2 has no signal: {why}"):
        flagged(pixels)


def test_a_frame_saturated_everywhere_is_an_error() -> None:
    pixels = frames()
    pixels[2] = np.maximum(pixels[2], 1000) * 60
    with pytest.raises(FrameError, match=r"light-3 .* saturated, at 60000 or above"):
        flagged(pixels, saturation=60_000.0)


def test_a_dark_sky_beside_a_star_is_no_dead_frame() -> None:
    pixels = np.zeros((3, 2000, 60), "u2")
    pixels[:, 1000:1004] = np.arange(60)
    assert bits(flagged(pixels)) == {}


def test_the_top_of_a_wide_integer_is_no_saturation() -> None:
    cube = cube_of(frames("i4"))
    assert saturation_of(cube.counts.values.max(axis=0).astype(float), cube) is None


def test_integers_are_not_copied_to_look_for_absurd_values() -> None:
    cube = cube_of(frames())
    assert drop_impossible(cube) is cube


def test_hot_pixels_of_a_dark_are_found_by_ccdmask() -> None:
    dark = np.random.default_rng(3).normal(1000, 5, (60, 80))
    dark[10, 20] = dark[30, 40] = 4000
    image = cube_of(dark[np.newaxis]).isel(frame=0)
    found = find_bad_pixels(image)
    assert found[10, 20]
    assert found[30, 40]
    assert found.sum() < 10


def test_pixels_without_a_number_are_not_judged_and_mislead_nobody() -> None:
    flat = np.random.default_rng(3).normal(1, 0.01, (60, 80))
    flat[10, 20] = 0.5
    plain = find_bad_pixels(cube_of(flat[np.newaxis]).isel(frame=0))
    flat[:, 70:] = np.nan
    found = find_bad_pixels(cube_of(flat[np.newaxis]).isel(frame=0))
    assert found[10, 20]
    assert not found[:, 70:].any()
    assert np.array_equal(found[:, :50], plain[:, :50])
    assert not find_bad_pixels(cube_of(flat[np.newaxis] * np.nan).isel(frame=0)).any()


def test_frames_that_are_cut_off_below_say_so() -> None:
    sky = np.random.default_rng(3).normal(2, 5, (3, 60, 80)).round()
    told = flagged(np.maximum(sky, 0).astype("u2")).attrs["remarks"]
    assert told[0].startswith("check: 3")
    assert told[0].endswith("Raise the offset of the camera")
    assert "remarks" not in flagged((sky + 30).astype("u2")).attrs
    framed = sky + 30
    framed[:, :, :10] = 0
    assert "remarks" not in flagged(framed.astype("u2")).attrs
    dark = flagged(np.maximum(sky - 20, 0).astype("u1") + (sky == 2).astype("u1"))
    assert "clipped at 0" in dark.attrs["remarks"][0]


def night_of(n_lights: int, fwhm: float, well: float | None, **changes: Any) -> IndependentNight:
    """Return a night whose star is 30 times as bright at one end of the columns as at the other."""
    star = Source(60.3, np.linspace(1_000, 30_000, 300) * fwhm / 4, fwhm=fwhm, tilt=2.0)
    lights = [Exposure(flux) for flux in (1.0, 0.8, 1.1)][:n_lights]
    camera = Camera((120, 300), full_well=well)
    return IndependentNight((star,), camera, exposures=lights, **changes)


@pytest.mark.parametrize("n_lights", [1, 2, 3])
@pytest.mark.parametrize("fwhm", [4.0, 9.0])
def test_full_wells_that_differ_by_a_percent_are_saturated(n_lights: int, fwhm: float) -> None:
    night = night_of(n_lights, fwhm, 3000.0)
    pixels = np.stack([light for name, (light, _) in night.frames().items() if "star" in name])
    image = flagged(pixels, gain=1.5)
    light = np.max([night.light_of(exposure=one) for one in night.exposures], axis=0)
    found = (image.dq.values & SATURATED) > 0
    assert found[light > 3300].mean() > 0.995
    assert found[light < 2700].mean() < 0.001
    assert 1000 + 2700 / 1.5 < image.attrs["saturated_from"] < 1000 + 3000 / 1.5
    assert "full well" in image.attrs["history"][-1]


@pytest.mark.parametrize("n_lights", [1, 2, 3])
@pytest.mark.parametrize("fwhm", [3.0, 12.0, 40.0])
def test_smooth_and_broad_stars_are_not_saturated(n_lights: int, fwhm: float) -> None:
    night = night_of(n_lights, fwhm, None)
    pixels = np.stack([light for name, (light, _) in night.frames().items() if "star" in name])
    assert not (flagged(pixels, gain=1.5).dq.values & SATURATED).any()


@pytest.mark.parametrize("n_lights", [1, 2, 3])
@pytest.mark.parametrize("filled", ["slit", "slit of one colour", "frame", "lines and a star"])
def test_light_that_fills_the_slit_is_not_saturated(n_lights: int, filled: str) -> None:
    slit = np.zeros((120, 300))
    slit[30:90] = 20_000 if filled == "slit of one colour" else np.linspace(2000, 30_000, 300)
    if filled == "frame":
        slit = np.full((120, 300), 20_000.0)
    if filled == "lines and a star":
        slit = 9000 * np.exp(-0.5 * ((np.arange(300) % 60 - 30) / 3) ** 2) * (slit > 0)
        slit += 3000 * np.exp(-0.5 * ((np.arange(120) - 60.2) / 1.7) ** 2)[:, np.newaxis]
    rng = np.random.default_rng(n_lights)
    pixels = rng.poisson(slit, (n_lights, 120, 300)) / 1.5 + rng.normal(1000, 3, slit.shape)
    assert not (flagged(pixels.round().astype("u2"), gain=1.5).dq.values & SATURATED).any()


def test_frames_that_are_copies_and_gains_that_are_wrong_saturate_nothing() -> None:
    night = night_of(3, 4.0, None)
    pixels = np.stack([light for name, (light, _) in night.frames().items() if "star" in name])
    assert not flagged(pixels[[0, 0, 0]], gain=1.5).dq.values.any()
    assert not flagged(pixels, gain=0.05).dq.values.any()
