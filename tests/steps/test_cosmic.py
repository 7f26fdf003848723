"""Cosmic rays that are left out, against what the simulator put in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.errors import MismatchError, UsageError
from arrayred.kernels import smooth_scales
from arrayred.model import COSMIC_RAY, NO_DATA, REPAIRED, SPOILT
from arrayred.steps import TileGrid, moved_star_pixels, noise
from arrayred.steps.cosmic import Neighbours, guiding_shift_pixels
from benchmarks.truth.kinds import KINDS, misses, outcome
from tests.steps.struck import GAIN, Scene, Score, Struck, averaged, found_by, struck


@pytest.fixture(scope="module")
def hit() -> Struck:
    return struck(Scene())


@pytest.fixture(scope="module")
def cleaned(hit: Struck) -> xr.Dataset:
    return ar.flag_cosmic_rays(hit.image, hit.lights, minus=hit.dark)


def score(n_seeds: int, **scene: Any) -> Score:
    total = Score()
    for seed in range(n_seeds):
        frames = struck(Scene(seed=seed, **scene))
        total.add(frames, found_by(frames))
    return total


@pytest.mark.parametrize(("snr", "seeing"), [(10, 5.0), (100, 3.0), (300, 5.0), (30, 12.0)])
def test_hits_are_found_and_the_star_is_spared(snr: float, seeing: float) -> None:
    found = score(2, snr=snr, seeing=seeing)
    assert found.off_star > 0.93
    assert found.on_star > 0.8
    assert found.core_taken < 1e-3


def test_a_pixel_that_the_dark_lacks_keeps_no_other_from_being_searched(
    hit: Struck, cleaned: xr.Dataset
) -> None:
    found = np.flatnonzero(cleaned.n_rejected.values.any(axis=1))
    row = int(found[np.argmax(hit.image.counts.values[found].mean(axis=1))])
    lacking = int(np.flatnonzero(cleaned.n_rejected.values[row] == 0)[0])
    dark = hit.dark.copy(deep=True)
    dark.counts[row, lacking : lacking + 1] = np.nan
    image = ar.combine(hit.lights, minus=dark)
    again = ar.flag_cosmic_rays(image, hit.lights, minus=dark)
    same = again.n_rejected.values[row] == cleaned.n_rejected.values[row]
    assert same.all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("snr", "seeing", "tilt"),  # each pair of two
    [
        *((10, 2.0, 0.0), (300, 2.0, 8.0), (10, 5.0, 8.0), (300, 5.0, 0.0)),
        *((10, 12.0, 0.0), (300, 12.0, 8.0)),
    ],
)
def test_hits_are_found_over_all_seeings_and_brightnesses(
    snr: float, seeing: float, tilt: float
) -> None:
    found = score(6, snr=snr, seeing=seeing, tilt=tilt)
    assert found.off_star > (0.95 if seeing > 2 else 0.93)
    assert found.on_star > 0.8
    assert found.core_taken < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("n_frames", [2, 4, 9])
def test_more_frames_or_two_find_them_as_well(n_frames: int) -> None:
    found = score(4, n_frames=n_frames)
    assert found.off_star > 0.95
    assert found.on_star > 0.8
    assert found.core_taken < 1e-3


def test_exposures_that_differ_without_hits_are_left_alone() -> None:
    quiet = struck(Scene(n_hits=0, snr=200, seeing=3.0, seed=4))
    image = ar.flag_cosmic_rays(quiet.image, quiet.lights, minus=quiet.dark)
    assert "clean" not in image or np.count_nonzero(image.n_rejected) < 5
    assert "cosmic rays: " in image.attrs["history"][-1]


@pytest.mark.parametrize(("snr", "seed"), [(10, 2), (100, 1)])  # off the star, and on it
def test_the_two_values_of_a_pixel_that_one_frame_lacks_are_no_hits(snr: float, seed: int) -> None:
    quiet = struck(Scene(n_hits=0, snr=snr, seeing=3.0, seed=seed))
    pixels = quiet.lights.counts.values.astype(np.float32)
    pixels[np.random.default_rng(4).random(pixels.shape) < 0.05] = np.nan
    lights = quiet.lights.assign(counts=quiet.lights.counts.copy(data=pixels))
    image = ar.flag_cosmic_rays(ar.combine(lights, minus=quiet.dark), lights, minus=quiet.dark)
    assert not image.n_rejected.values[np.isnan(pixels).any(axis=0)].any()


def test_the_procedures_image_stays_to_the_bit(hit: Struck, cleaned: xr.Dataset) -> None:
    assert cleaned.counts.values.tobytes() == hit.image.counts.values.tobytes()
    assert "clean" not in hit.image
    untouched = cleaned.n_rejected.values == 0
    assert np.array_equal(cleaned.clean.values[untouched], cleaned.counts.values[untouched])
    assert np.array_equal(cleaned.variance.values[untouched], hit.image.variance.values[untouched])


def test_the_best_image_has_neither_hits_nor_bias() -> None:
    pulls = []
    for seed in range(6):
        frames = struck(Scene(seed=seed, n_hits=40))
        image = ar.flag_cosmic_rays(frames.image, frames.lights, minus=frames.dark)
        truth = (frames.star + frames.sky[:, np.newaxis]).mean(axis=0)
        off = (image.clean.values - truth) / np.sqrt(image.variance.values)
        once = np.count_nonzero(frames.hits, axis=0) == 1
        pulls.append(off[once & (frames.hits.max(axis=0) > 20) & (image.n_rejected.values == 1)])
    found = np.concatenate(pulls)
    assert found.size > 1000
    assert abs(np.mean(found)) < 0.1
    assert abs(1.4826 * np.median(np.abs(found - np.median(found))) - 1) < 0.12


@pytest.mark.parametrize(
    "name", ["tracks on the star", "tracks in two lights", "tracks on a star with lines"]
)
def test_tracks_on_a_star_are_found_and_its_columns_given_back(name: str) -> None:
    assert list(misses(KINDS[name], [outcome(KINDS[name], 0)])) == []


def test_a_track_along_the_end_of_a_tile_is_found() -> None:
    frames = np.random.default_rng(0).normal(3000.0, 55.0, (5, 1, 48))
    frames[0, :, -10:] += 1000.0
    weight = np.full(frames.shape, 55.0**-2)
    scale = smooth_scales(frames, np.median(frames, axis=0), weight)
    assert np.abs(scale - 1).max() < 0.02


def test_a_star_that_moved_is_no_cosmic_ray() -> None:
    grid = TileGrid((40, 300))
    row, column = np.meshgrid(np.arange(18, 23), np.arange(300), indexing="ij")
    star = (row * 300 + column).ravel()
    track = np.arange(5 * 300 + 20, 5 * 300 + 30)
    moved = moved_star_pixels(np.concatenate((track, star)), grid)
    assert not moved[: track.size].any()
    assert moved[track.size :].all()


def test_each_frame_knows_its_hits(tmp_path: Path) -> None:
    night = KINDS["tracks on the star"].make(0)
    folder = night.write(tmp_path)
    frames = ar.reduce_night(folder, ar.Recipe(per_frame=True))["targets/Star/frames"].to_dataset()
    truth = night.spectrum_of() / night.camera.gain
    pulls = (frames["flux"].values - truth) / np.sqrt(frames["variance"].values)
    spoilt = (frames["dq"].values & SPOILT) != 0
    assert np.abs(pulls[~spoilt]).max() < 6
    assert spoilt.mean() < 0.1


def test_what_was_left_out_is_flagged_and_told(hit: Struck, cleaned: xr.Dataset) -> None:
    flagged = (cleaned.dq.values & REPAIRED) > 0
    assert np.array_equal(flagged, cleaned.n_rejected.values > 0)
    assert cleaned.n_rejected.dtype == cleaned.dq.dtype == np.uint8
    n = int(flagged.sum())
    told = f"cosmic rays: {n} pixels in 3 frames flagged by comparison at 5 sigma"
    assert cleaned.attrs["history"][-1] == told


def test_the_noise_is_that_of_the_frames_that_are_left(hit: Struck, cleaned: xr.Dataset) -> None:
    dark_sky = (cleaned.n_rejected.values == 1) & (hit.star.max(axis=0) < 1)
    counts, floor = cleaned.clean.values[dark_sky], hit.dark.attrs["noise"] ** 2
    calm = (cleaned.n_rejected.values == 0) & (hit.star.max(axis=0) < 1)
    light = np.median(counts) / GAIN
    of_dark = np.median(hit.image.variance.values[calm]) - (floor + light) / 3
    expected = (floor + light) / 2 + of_dark
    assert np.median(cleaned.variance.values[dark_sky]) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("rows", [2, 96])
def test_the_result_does_not_depend_on_chunks(hit: Struck, cleaned: xr.Dataset, rows: int) -> None:
    lazy = hit.lights.chunk({"frame": 2, "y": rows, "x": -1})
    image = ar.flag_cosmic_rays(hit.image, lazy, minus=hit.dark)
    xr.testing.assert_identical(image, cleaned)


def test_the_order_of_frames_does_not_matter(hit: Struck, cleaned: xr.Dataset) -> None:
    lights = hit.lights.isel(frame=[2, 0, 1])
    image = ar.flag_cosmic_rays(hit.image, lights, minus=hit.dark)
    assert np.array_equal(image.n_rejected, cleaned.n_rejected)
    np.testing.assert_allclose(image.clean, cleaned.clean, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("chunks", [None, 7, 50])
@pytest.mark.parametrize("n_columns", [400, 391])
def test_an_upright_spectrum_is_the_same_turned(
    hit: Struck, chunks: int | None, n_columns: int
) -> None:
    swap, part = {"x": "y", "y": "x"}, {"x": slice(n_columns)}
    level = [ds.isel(part) for ds in (hit.lights, hit.dark, hit.image)]
    lights, dark, image = (ds.rename(swap).transpose(..., "y", "x") for ds in level)
    lights = lights if chunks is None else lights.chunk({"y": chunks})
    image = ar.settle(image.assign_coords(dispersion_axis=2))
    found = ar.flag_cosmic_rays(image, lights, minus=dark)
    cleaned = ar.flag_cosmic_rays(level[2], level[0], minus=level[1])
    assert np.array_equal(found.n_rejected.values.T, cleaned.n_rejected.values)
    np.testing.assert_allclose(found.clean.values.T, cleaned.clean.values, rtol=1e-12)


def test_a_frame_without_data_is_no_reference(hit: Struck) -> None:
    pixels = hit.lights.counts.values.astype(np.float32)
    pixels[1, 30:60] = np.nan
    lights = hit.lights.assign(counts=(("frame", "y", "x"), pixels))
    image = averaged(lights, hit.dark)
    found = ar.flag_cosmic_rays(image, lights, minus=hit.dark)
    assert np.isfinite(found.clean).all()
    assert np.isfinite(found.variance).all()
    alone = hit.hits[:, 30:60].copy()
    alone[1] = 0
    assert np.mean(found.n_rejected.values[30:60][alone.max(axis=0) > 20] == 1) > 0.8


def test_without_a_gain_only_what_stands_out_by_far_is_taken(
    hit: Struck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise, "_gain_of_lights", lambda *_: None)
    lights = hit.lights.drop_vars("gain").isel(y=slice(0, 30))
    dark = hit.dark.isel(y=slice(0, 30))
    found = ar.flag_cosmic_rays(averaged(lights, dark), lights, minus=dark)
    assert "at 8 sigma, gain unknown" in found.attrs["history"][-1]
    assert (found.n_rejected.values[hit.hits[:, :30].max(axis=0) > 30] > 0).mean() > 0.9


def test_two_frames_are_compared_at_eight_sigma(hit: Struck) -> None:
    lights = hit.lights.isel(frame=slice(0, 2))
    image = averaged(lights, hit.dark)
    found = ar.flag_cosmic_rays(image, lights, minus=hit.dark)
    assert "at 8 sigma" in found.attrs["history"][-1]
    assert (found.n_rejected.values[hit.hits[:2].max(axis=0) > 200] > 0).mean() > 0.8
    assert np.count_nonzero(found.n_rejected.values[hit.hits[:2].max(axis=0) < 1]) < 10
    assert ar.flag_cosmic_rays(hit.image, hit.lights, minus=hit.dark, search="off") is hit.image


def test_a_single_frame_has_nothing_to_stand_in_for_a_hit() -> None:
    hit = struck(Scene(n_frames=1, n_hits=30))
    found = ar.flag_cosmic_rays(hit.image, hit.lights, minus=hit.dark, search="lacosmic")
    flagged = found.n_rejected.values > 0
    assert flagged[hit.hits[0] > 20].mean() > 0.8
    assert np.array_equal(np.isnan(found.clean.values), flagged)
    assert np.array_equal(np.isnan(found.variance.values), flagged)
    assert np.all(found.dq.values[flagged] & (COSMIC_RAY | NO_DATA) == COSMIC_RAY | NO_DATA)
    assert np.isfinite(found.counts).all()


def test_hits_with_sharp_edges_are_replaced_by_the_other_frames(hit: Struck) -> None:
    found = ar.flag_cosmic_rays(hit.image, hit.lights, minus=hit.dark, search="lacosmic")
    assert "by their sharp edges" in found.attrs["history"][-1]
    far = (hit.hits.max(axis=0) > 50) & (found.n_rejected.values > 0)
    truth = (hit.star + hit.sky[:, np.newaxis]).mean(axis=0)
    off = (found.clean.values - truth)[far] / np.sqrt(found.variance.values[far])
    assert abs(np.median(off)) < 0.3


def test_a_line_that_moved_along_the_slit_is_no_cosmic_ray() -> None:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:100, :200]
    frames = [
        rng.normal(1000 + 800 * np.exp(-(((y - row) / 6) ** 2) - ((x - 80) / 2) ** 2), 8)
        for row in (40, 42, 41, 40, 62)
    ]
    frames[1][20, 150] += 900
    lights = xr.Dataset(
        {"counts": (("frame", "y", "x"), np.stack(frames))},
        {"y": np.arange(100), "x": np.arange(200), "gain": 30.0, "read_noise": 240.0},
    )
    dark = xr.zeros_like(lights.isel(frame=0)) + 1000.0
    found = ar.flag_cosmic_rays(ar.combine(lights, minus=dark), lights, minus=dark)
    assert found.n_rejected.values[20, 150] == 1
    assert np.count_nonzero(found.n_rejected.values[:, 70:90]) <= 5


def test_a_star_in_another_place_in_each_frame_is_no_cosmic_ray_nor_are_its_wings() -> None:
    rng = np.random.default_rng(3)
    y = np.mgrid[:100, :300][0]
    frames = [rng.normal(500 + 400 * np.exp(-(((y - row) / 3) ** 2)), 8) for row in (30, 70)]
    frames[0][50, 150] += 900
    lights = xr.Dataset(
        {"counts": (("frame", "y", "x"), np.stack(frames))},
        {"y": np.arange(100), "x": np.arange(300), "gain": 30.0, "read_noise": 240.0},
    )
    dark = xr.zeros_like(lights.isel(frame=0)) + 500.0
    found = ar.flag_cosmic_rays(ar.combine(lights, minus=dark), lights, minus=dark)
    assert np.argwhere(found.n_rejected.values > 0).tolist() == [[50, 150]]


def test_no_frame_is_read_again_for_an_extended_hit_where_the_others_show_no_line() -> None:
    grid = TileGrid((60, 100))
    row, column = np.meshgrid(np.arange(20, 25), np.arange(50, 54), indexing="ij")
    where, asked = (row * 100 + column).ravel(), []

    def light_of_frame(pixels: Any) -> Any:
        asked.append(pixels.shape)
        return np.zeros(pixels.shape)

    common = np.zeros(grid.shape, np.float32)
    above = np.full(where.size, 300.0)
    found = [guiding_shift_pixels(where, above, common, light_of_frame, Neighbours(grid), 9.0)]
    common[36:41, 50:54] = 250.0  # the line, where it lies in the other frames
    found.append(guiding_shift_pixels(where, above, common, light_of_frame, Neighbours(grid), 9.0))
    assert [len(asked), found[0].any(), found[1].any()] == [1, False, True]


def test_what_cannot_be_searched_is_refused(hit: Struck) -> None:
    with pytest.raises(UsageError, match="compare, lacosmic or off"):
        ar.flag_cosmic_rays(hit.image, hit.lights, search="sigma")  # type: ignore[arg-type]
    with pytest.raises(MismatchError):
        ar.flag_cosmic_rays(hit.image, hit.lights, minus=hit.dark.isel(y=slice(0, 5)))


def test_a_frame_by_itself_is_said_not_to_be_compared(hit: Struck) -> None:
    lights = hit.lights.isel(frame=[0])
    image = averaged(lights, hit.dark)
    told = ar.flag_cosmic_rays(image, lights, minus=hit.dark, search="compare")
    assert "cannot be compared with others" in told.attrs["remarks"][-1]
    said = ar.flag_cosmic_rays(image, lights, minus=hit.dark)
    assert "one frame" in said.attrs["history"][-1]
    assert said.drop_attrs(deep=False).identical(image.drop_attrs(deep=False))
