"""The simulated night is what its model says: deterministic, with the right mean and scatter."""

from __future__ import annotations

import json
import tracemalloc
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import arrayred as ar
from arrayred.io import write_frames
from arrayred.simulate import Detector, Lamps, SimulatedNight, Sky, Star

SMALL = Detector(shape=(20, 30))
QUIET = Detector(shape=(60, 40), hot_fraction=0.0)
NO_SKY = Sky(0.0, ())


def pixels_of(night: SimulatedNight, prefix: str = "") -> dict[str, NDArray[Any]]:
    return {frame.name: frame.pixels for frame in night.frames() if frame.name.startswith(prefix)}


def mean_of(night: SimulatedNight, prefix: str) -> NDArray[np.float64]:
    return np.asarray(np.mean(list(pixels_of(night, prefix).values()), axis=0))


def test_the_same_seed_gives_the_same_night() -> None:
    one, two = (list(SimulatedNight(SMALL, cosmic_rays=200.0, seed=3).frames()) for _ in range(2))
    assert [(frame.name, frame.cards) for frame in one] == [(f.name, f.cards) for f in two]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(one, two, strict=True))


def test_another_seed_gives_another_night_and_no_two_frames_are_alike() -> None:
    frames = [p for seed in (3, 4) for p in pixels_of(SimulatedNight(SMALL, seed=seed)).values()]
    assert len({pixels.tobytes() for pixels in frames}) == len(frames) == 16


def test_a_frame_does_not_depend_on_those_around_it() -> None:
    few = pixels_of(SimulatedNight(SMALL, n_darks=2, n_lights=1, seed=5))
    many = pixels_of(SimulatedNight(SMALL, n_darks=4, n_lights=9, n_flats=2, n_biases=1, seed=5))
    assert all(np.array_equal(pixels, many[name]) for name, pixels in few.items())
    night = SimulatedNight(SMALL, seed=5)
    (fourth,) = islice(night.frames(), 3, 4)
    assert np.array_equal(fourth.pixels, list(night.frames())[3].pixels)


def test_frames_come_by_type_with_types_exposures_and_times_on_their_cards() -> None:
    night = SimulatedNight(
        SMALL, n_biases=1, n_darks=2, n_flats=1, n_arcs=1, n_lights=2, exptime=90.0, prefix="s-"
    )
    frames = list(night.frames())
    assert len(frames) == len(night.exposures())
    expected = ["bias-001", "dark-001", "dark-002", "flat-001", "arc-001", "light-001", "light-002"]
    assert [frame.name for frame in frames] == [f"s-{name}.fit" for name in expected]
    assert [frame.cards["EXPTIME"] for frame in frames] == [0, 90, 90, 10, 10, 90, 90]
    times = [str(frame.cards["DATE-OBS"]) for frame in frames]
    assert times == sorted(set(times))


@pytest.mark.parametrize("dialect", ["maxim", "nina", "observatory"])
def test_every_dialect_is_read_back(dialect: Any, tmp_path: Path) -> None:
    night = SimulatedNight(
        SMALL, Star("59 Cyg"), n_biases=1, n_darks=2, n_flats=1, n_arcs=1, dialect=dialect
    )
    frames = list(night.frames())
    write_frames(frames, tmp_path)
    cube = ar.open_frames(tmp_path)
    assert np.array_equal(cube.counts, [frame.pixels for frame in frames])
    types = ["bias", "dark", "dark", "flat", "arc", "light", "light", "light"]
    assert cube.frame_type.values.tolist() == types
    assert cube.exptime.values.tolist() == [0, 600, 600, 10, 10, 600, 600, 600]
    assert cube.object.values.tolist()[-3:] == ["59 Cyg"] * 3
    assert np.datetime_as_string(cube.time.values[0], "s") == "2024-03-09T19:30:00"


@pytest.mark.parametrize("gain", [0.8, 1.5, 4.0])
@pytest.mark.parametrize("rate", [0.0, 0.5, 10.0])
def test_mean_and_variance_follow_the_photon_transfer_curve(gain: float, rate: float) -> None:
    detector = Detector(
        shape=(64, 64), gain=gain, read_noise=12.0, dark_current=rate, hot_fraction=0.0
    )
    night = SimulatedNight(detector, n_darks=40, n_lights=0, exptime=200.0, seed=1)
    frames = np.stack(list(pixels_of(night).values())).astype(np.float64)
    signal = rate * 200.0 / gain
    variance = signal / gain + (12.0 / gain) ** 2 + 1 / 12
    assert frames.mean() == pytest.approx(1000.0 + signal, abs=5 * np.sqrt(variance / frames.size))
    assert frames.var(axis=0, ddof=1).mean() == pytest.approx(variance, rel=0.03)


def test_lights_scatter_about_the_truth_as_the_truth_says() -> None:
    detector = Detector(shape=(60, 40), response_scatter=0.05, vignetting=0.3, bias_level=500.0)
    night = SimulatedNight(detector, sky=Sky(0.3), n_darks=40, n_lights=40, exptime=300.0)
    truth = night.truth()
    sky = truth.sky.values * truth.response.values
    expected = truth.star.values + truth.dark.values + sky
    for kind, mean in (("light", expected), ("dark", truth.dark.values)):
        deviations = np.stack(list(pixels_of(night, kind).values())) - mean
        normalised = deviations / np.sqrt(truth[f"{kind}_variance"].values)
        assert normalised.mean() == pytest.approx(0.0, abs=0.02)
        assert normalised.var() == pytest.approx(1.0, rel=0.03)


def test_lights_differ_from_darks_by_star_and_sky() -> None:
    star = Star(flux=40.0, lines=((15.0, 0.5, 3.0),))
    night = SimulatedNight(QUIET, star, sky=Sky(0.5, ()), n_darks=60, n_lights=60, exptime=100.0)
    found = (mean_of(night, "light") - mean_of(night, "dark") - 0.5 * 100.0 / 1.5).sum(axis=0)
    assert found == pytest.approx(night.truth().flux.values, rel=0.03)


def test_the_true_flux_is_that_of_the_star_image() -> None:
    truth = SimulatedNight(Detector(shape=(80, 50)), Star(row=33.0)).truth()
    assert truth.flux.values == pytest.approx(truth.star.values.sum(axis=0), rel=1e-14)


def test_the_star_image_holds_every_star_and_the_flux_the_first() -> None:
    one, other = Star(row=25.0, lines=()), Star(row=60.0, flux=20.0, lines=())
    truth = SimulatedNight(Detector(shape=(80, 50)), one, companions=(other,)).truth()
    of_each = truth.star.sel(y=slice(1, 42)).sum("y"), truth.star.sel(y=slice(43, 80)).sum("y")
    assert of_each[0].values == pytest.approx(truth.flux.values, rel=1e-6)
    assert of_each[1].values == pytest.approx(truth.flux.values / 3, rel=1e-6)


def test_the_truth_has_the_labels_of_a_cube(tmp_path: Path) -> None:
    night = SimulatedNight(SMALL, n_darks=0, n_lights=1)
    write_frames(night.frames(), tmp_path)
    cube, truth = ar.open_frames(tmp_path), night.truth()
    for dim in ("y", "x"):
        assert truth.indexes[dim].equals(cube.indexes[dim])
        assert truth.indexes[dim].dtype == cube.indexes[dim].dtype


@pytest.mark.parametrize("seeing", [3.0, 5.0, 9.0])
@pytest.mark.parametrize(("profile", "lost"), [("gaussian", 1e-6), ("moffat", 1e-2)])
def test_a_star_without_lines_has_its_continuum(seeing: float, profile: Any, lost: float) -> None:
    star = Star(flux=60.0, seeing=seeing, lines=(), tilt=4.0, profile=profile)
    truth = SimulatedNight(Detector(shape=(160, 50), gain=2.0), star, exptime=100.0).truth()
    continuum = 60.0 * 100.0 / 2.0 * (1 - 0.3 * np.arange(1, 51) / 50)
    assert truth.flux.values == pytest.approx(continuum, rel=lost)


@pytest.mark.parametrize("profile", ["gaussian", "moffat"])
def test_the_seeing_is_the_full_width_at_half_maximum(profile: Any) -> None:
    star = Star(row=41.0, seeing=8.0, tilt=0.0, profile=profile)
    column = SimulatedNight(Detector(shape=(81, 50)), star).truth().star[:, 10].values
    assert column[36] == pytest.approx(column[40] / 2)
    assert column[44] == pytest.approx(column[40] / 2)


@pytest.mark.parametrize(("row", "middle"), [(33.0, 33.0), (None, 40.5)])
def test_the_trace_runs_through_its_row_with_its_tilt(row: float | None, middle: float) -> None:
    star = SimulatedNight(Detector(shape=(80, 51)), Star(row=row, tilt=6.0)).truth().star
    centre = (star * star.y).sum("y") / star.sum("y")
    assert centre[25].item() == pytest.approx(middle, abs=1e-3)
    assert (centre[-1] - centre[0]).item() == pytest.approx(6.0, abs=1e-3)


@pytest.mark.parametrize("depth", [0.6, -0.5])
def test_a_line_takes_its_part_of_the_light_or_adds_it(depth: float) -> None:
    detector = Detector(shape=(80, 50))
    with_line = SimulatedNight(detector, Star(lines=((20.0, depth, 3.0),))).truth().flux
    ratio = (with_line / SimulatedNight(detector, Star(lines=())).truth().flux).values
    assert ratio[19] == pytest.approx(1 - depth)
    assert ratio[22] == pytest.approx(1 - depth * np.exp(-0.5))
    assert ratio[49] == pytest.approx(1.0)


def test_the_trace_drifts_and_the_light_varies_where_asked() -> None:
    star = Star(flux=3000.0, row=20.0, lines=(), tilt=0.0)
    settings: dict[str, Any] = {"sky": NO_SKY, "n_darks": 0, "n_lights": 5, "exptime": 10.0}
    night = SimulatedNight(QUIET, star, trace_drift=4.0, flux_scatter=0.2, **settings)
    light = np.stack(list(pixels_of(night).values())) - 1000.0
    centres = (light.sum(axis=2) * np.arange(1, 61)).sum(axis=1) / light.sum(axis=(1, 2))
    assert centres == pytest.approx([20, 24, 28, 32, 36], abs=0.5)
    assert 0.02 < np.std(light.sum(axis=(1, 2))) / light.sum(axis=(1, 2)).mean() < 0.5


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_counts_saturate_at_the_largest_value_of_the_dtype(dtype: str) -> None:
    detector = Detector((60, 20), bias_level=100.0, hot_fraction=0.0, full_well=1e12, dtype=dtype)
    frames = pixels_of(SimulatedNight(detector, Star(flux=5e5), n_darks=1, n_lights=1))
    star = frames["light-001.fit"][30, 10]
    assert frames["light-001.fit"].dtype == dtype
    limit = np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else np.inf
    assert star == limit if limit < 70_000 else 1e6 < star < limit
    assert 60 < frames["dark-001.fit"].mean() < 140


def test_a_pixel_holds_no_more_than_its_full_well() -> None:
    detector = Detector((60, 20), read_noise=0.0, gain=2.0, hot_fraction=0.0, full_well=5e4)
    light = pixels_of(SimulatedNight(detector, Star(flux=5e5), n_darks=0))["light-001.fit"]
    assert light.max() == 1000 + 25_000


@pytest.mark.parametrize(("dtype", "has_sign"), [("uint16", False), ("int16", True)])
def test_counts_below_zero_stay_at_zero_where_the_dtype_has_no_sign(
    dtype: str, has_sign: bool
) -> None:
    detector = Detector(shape=(40, 40), dtype=dtype, bias_level=0.0, dark_current=0.0)
    (dark,) = pixels_of(SimulatedNight(detector, n_darks=1, n_lights=0)).values()
    assert bool(dark.min() < -15) is has_sign
    assert bool(dark.min() == 0) is not has_sign
    assert 15 < dark.max() < 60


def test_hot_pixels_are_those_of_the_truth_in_every_frame() -> None:
    detector = Detector(shape=(50, 50), hot_fraction=0.05, dark_current=0.5)
    night = SimulatedNight(detector, n_darks=3, n_lights=0, exptime=600.0)
    level = night.truth().dark.values
    assert 20 < (level > 2000).sum() < 200
    for pixels in pixels_of(night).values():
        assert pixels[level > 2000].min() > pixels[level < 1300].max()


def test_cosmic_rays_hit_the_pixels_that_are_told() -> None:
    night = SimulatedNight(QUIET, n_darks=12, n_lights=0, exptime=3600.0, cosmic_rays=10.0)
    rays = [night.hits(exposure) for exposure in night.exposures()]
    for frame, hits in zip(night.frames(), rays, strict=True):
        struck = np.zeros(frame.pixels.shape, bool)
        for y, x, _ in hits:
            struck[y - 1, x - 1] = True
        assert frame.pixels[struck].min() > 1000 + 180 / 1.5 + 100
        assert frame.pixels[~struck].max() < 1000 + 180 / 1.5 + 100
    assert 60 < len({charge for hits in rays for _, _, charge in hits}) < 180


def test_facts_are_all_that_the_night_is_made_of() -> None:
    night = SimulatedNight(SMALL, Star("59 Cyg"), n_lights=1, cosmic_rays=500.0, seed=9)
    facts = json.loads(json.dumps(night.facts()))
    assert (facts["seed"], facts["star"]["name"], facts["detector"]["shape"]) == (
        9,
        "59 Cyg",
        [20, 30],
    )
    hits = [[list(hit) for hit in night.hits(exposure)] for exposure in night.exposures()]
    assert list(facts["cosmic_ray_hits"].values()) == hits
    assert list(facts["cosmic_ray_hits"]) == [frame.name for frame in night.frames()]


def test_the_bias_level_drifts_by_the_hour() -> None:
    detector = Detector(shape=(40, 40), bias_drift=30.0, dark_current=0.0)
    night = SimulatedNight(detector, n_darks=5, n_lights=0, exptime=880.0)
    levels = [pixels.mean() for pixels in pixels_of(night).values()]
    assert levels == pytest.approx([1000 + 7.5 * i for i in range(5)], abs=1.5)


def test_flats_show_the_response_and_arcs_their_lines() -> None:
    detector = Detector((60, 40), response_scatter=0.1, vignetting=0.3, hot_fraction=0.0)
    lamps = Lamps(arc_lines=((12.0, 900.0, 1.5), (30.0, 400.0, 1.5)), arc_tilt=4.0)
    night = SimulatedNight(detector, lamps=lamps, n_flats=30, n_arcs=30, n_darks=0, n_lights=0)
    ratio = (mean_of(night, "flat") - 1000.0) / night.truth().response.values
    assert np.std(ratio, axis=0).max() / ratio.mean() < 0.01
    arc = mean_of(night, "arc")
    assert [arc[30, :20].argmax() + 1, arc[30, 20:].argmax() + 21] == [12, 30]
    lean = arc[-1, 20:].argmax() - arc[0, 20:].argmax()
    assert abs(lean) in (3, 4, 5)


def mean_flat(**settings: float) -> NDArray[np.float64]:
    detector = Detector((51, 61), hot_fraction=0.0, dark_current=0.0, **settings)  # type: ignore[arg-type]
    return mean_of(SimulatedNight(detector, n_flats=25, n_darks=0, n_lights=0), "flat") - 1000.0


@pytest.mark.parametrize("scatter", [0.02, 0.1])
def test_the_mean_of_flats_shows_the_scatter_of_the_response(scatter: float) -> None:
    ratio = mean_flat(response_scatter=scatter) / mean_flat()
    assert ratio.std() == pytest.approx(scatter, rel=0.05)
    assert ratio.mean() == pytest.approx(1.0, abs=4 * scatter / np.sqrt(ratio.size))


@pytest.mark.parametrize("vignetting", [0.3, 1.0])
def test_the_mean_of_flats_shows_the_vignetting(vignetting: float) -> None:
    ratio = mean_flat(vignetting=vignetting) / mean_flat()
    corners, edges = ratio[[0, 0, -1, -1], [0, -1, 0, -1]], ratio[[0, 25], [30, -1]]
    assert corners == pytest.approx(np.full(4, 1 - vignetting), abs=0.01)
    assert edges == pytest.approx(np.full(2, 1 - vignetting / 2), abs=0.01)
    assert ratio[25, 30] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("tilt", [-6.0, 0.0, 6.0])
def test_an_arc_line_leans_about_its_column_and_has_its_light(tilt: float) -> None:
    lamps = Lamps(arc_lines=((25.0, 800.0, 2.0),), arc_tilt=tilt, exptime=5.0)
    detector = Detector((41, 50), hot_fraction=0.0, dark_current=0.0, read_noise=2.0)
    night = SimulatedNight(detector, lamps=lamps, n_arcs=20, n_darks=0, n_lights=0)
    arc = mean_of(night, "arc") - 1000.0
    centres = arc @ np.arange(1, 51) / arc.sum(axis=1)
    slope, middle = np.polyfit(np.arange(41) - 20, centres, 1)
    assert slope * 40 == pytest.approx(tilt, abs=0.1)
    assert middle == pytest.approx(25.0, abs=0.05)
    light = 800.0 * 5.0 / 1.5 * 2.0 * np.sqrt(2 * np.pi)
    assert arc.sum(axis=1) == pytest.approx(np.full(41, light), rel=0.03)


@pytest.mark.parametrize("seeing", [4.0, 6.0, 10.0])
def test_all_of_the_moffats_light_falls_on_some_row(seeing: float) -> None:
    star = Star(flux=1.5, seeing=seeing, lines=(), tilt=0.0, profile="moffat")
    column = SimulatedNight(Detector((4001, 2)), star, exptime=1.0).truth().star[:, 0].values
    assert column.sum() == pytest.approx(1.0 - 0.3 / 2, rel=1e-7)
    far, farther = column[2000 + 500], column[2000 + 1000]
    assert far / farther == pytest.approx(2.0**5, rel=0.01)


def test_a_sky_line_shines_on_every_row_of_its_column() -> None:
    sky = Sky(level=0.5, lines=((12.0, 3.0, 2.0), (30.0, 1.0, 1.0)))
    night = SimulatedNight(QUIET, Star(flux=0.0), sky=sky, n_darks=40, n_lights=40, exptime=300.0)
    found = mean_of(night, "light") - mean_of(night, "dark")
    x = np.arange(1, 41)
    glow = 0.5 + 3.0 * np.exp(-((x - 12) ** 2) / 8) + np.exp(-((x - 30) ** 2) / 2)
    assert found.mean(axis=0) == pytest.approx(glow * 300 / 1.5, rel=0.01)
    assert abs(found.mean(axis=1) / found.mean() - 1).max() < 0.01


def test_a_companion_shines_on_the_same_frames_and_moves_along() -> None:
    star, other = (Star(flux=f, row=row, tilt=0.0, lines=()) for f, row in ((900, 15), (450, 30)))
    night = SimulatedNight(
        QUIET, star, (other,), sky=NO_SKY, n_darks=0, n_lights=3, exptime=100.0, trace_drift=5.0
    )
    for i, light in enumerate(pixels_of(night).values()):
        rows = light.sum(axis=1) - 1000.0 * 40
        parts = rows[: 22 + 5 * i], rows[22 + 5 * i :]
        peaks = [parts[0].argmax() + 1, parts[1].argmax() + 23 + 5 * i]
        assert peaks == [15 + 5 * i, 30 + 5 * i]
        assert parts[0].sum() / parts[1].sum() == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("scatter", [0.05, 0.2])
def test_the_stars_light_varies_by_the_scatter_and_nothing_else_does(scatter: float) -> None:
    star = Star(flux=5000.0, seeing=12.0, lines=())
    settings: dict[str, Any] = {"sky": NO_SKY, "n_lights": 200, "n_darks": 3, "exptime": 10.0}
    night = SimulatedNight(Detector((40, 10)), star, flux_scatter=scatter, **settings)
    light = np.array([pixels.sum() - 400_000.0 for pixels in pixels_of(night, "light").values()])
    assert light.std() / light.mean() == pytest.approx(scatter, rel=0.2)
    steady = pixels_of(SimulatedNight(Detector((40, 10)), star, **settings), "dark")
    assert all(np.array_equal(steady[name], p) for name, p in pixels_of(night, "dark").items())


def test_the_light_of_a_wildly_varying_star_is_never_negative() -> None:
    star = Star(flux=3000.0, lines=())
    night = SimulatedNight(QUIET, star, sky=NO_SKY, n_darks=0, n_lights=40, flux_scatter=3.0)
    light = np.array([pixels.mean() - 1000.0 for pixels in pixels_of(night).values()])
    assert light.min() > 0.0
    assert 5 < np.count_nonzero(light < 100) < 35


def test_a_bias_holds_the_bias_level_and_read_noise_alone() -> None:
    detector = Detector((60, 60), dark_current=50.0, hot_fraction=0.5, response_scatter=0.3)
    night = SimulatedNight(detector, n_biases=20, cosmic_rays=1e5, n_darks=0, n_lights=0)
    biases = np.stack(list(pixels_of(night).values())).astype(np.float64)
    assert biases.mean() == pytest.approx(1000.0, abs=0.2)
    assert biases.var() == pytest.approx((12.0 / 1.5) ** 2 + 1 / 12, rel=0.03)


def test_the_response_is_to_light_and_not_to_the_dark_current() -> None:
    even, uneven = (
        SimulatedNight(Detector((30, 30), dark_current=3.0, response_scatter=scatter), n_darks=3)
        for scatter in (0.0, 0.3)
    )
    darks = pixels_of(uneven, "dark")
    assert all(np.array_equal(darks[name], p) for name, p in pixels_of(even, "dark").items())


@pytest.mark.parametrize(("exptime", "expected"), [(1800.0, 10.0), (360.0, 2.0)])
def test_cosmic_rays_come_as_often_as_was_asked(exptime: float, expected: float) -> None:
    night = SimulatedNight(n_darks=300, n_lights=0, exptime=exptime, cosmic_rays=20.0)
    rays = [len({charge for _, _, charge in night.hits(e)}) for e in night.exposures()]
    assert np.mean(rays) == pytest.approx(expected, abs=5 * np.sqrt(expected / 300))
    assert np.var(rays) == pytest.approx(expected, rel=0.4)


def test_the_pixels_of_a_ray_touch_and_lie_within_the_frame() -> None:
    night = SimulatedNight(SMALL, n_darks=40, n_lights=0, exptime=3600.0, cosmic_rays=5.0)
    tracks: dict[float, list[tuple[int, int]]] = {}
    for exposure in night.exposures():
        for y, x, charge in night.hits(exposure):
            tracks.setdefault(charge, []).append((y, x))
    assert max(map(len, tracks.values())) > 5
    for pixels in tracks.values():
        assert len(set(pixels)) == len(pixels)
        assert all(1 <= y <= 20 and 1 <= x <= 30 for y, x in pixels)
        assert max(np.ptp(pixels, axis=0)) < len(pixels)


def test_frames_are_made_one_by_one_in_the_memory_of_one() -> None:
    detector = Detector((100, 100), dtype="float64")

    def peak(n_lights: int) -> int:
        night = SimulatedNight(detector, n_darks=0, n_lights=n_lights, cosmic_rays=50.0)
        tracemalloc.start()
        for frame in night.frames():
            assert frame.pixels.nbytes == 80_000
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return largest

    few, many = peak(2), peak(50)
    assert many < 1.1 * few
    assert many < 50 * 80_000 / 3


def test_the_sky_brightens_along_the_rows_by_its_gradient() -> None:
    sky = Sky(level=1.0, lines=((20.0, 3.0, 2.0),), gradient=0.4)
    night = SimulatedNight(QUIET, Star(flux=0.0), sky=sky, n_darks=20, n_lights=20, exptime=900.0)
    rows = (mean_of(night, "light") - mean_of(night, "dark")).mean(axis=1)
    expected = night.truth().sky.mean().item() * (1 + 0.4 * np.linspace(-0.5, 0.5, 60))
    assert rows == pytest.approx(expected, rel=0.02)


def test_a_sky_that_would_be_below_zero_is_dark() -> None:
    night = SimulatedNight(QUIET, sky=Sky(level=1.0, gradient=-9.0))
    assert (night.truth().glow.values >= 0).all()
    assert night.truth().glow[-1].max() == 0.0


@pytest.mark.parametrize("tilt", [-6.0, 6.0])
def test_a_sky_line_leans_about_its_column_in_the_middle_row(tilt: float) -> None:
    glow = SimulatedNight(QUIET, sky=Sky(0.0, ((20.0, 3.0, 2.0),), tilt=tilt)).truth().glow.values
    centres = glow @ np.arange(1, 41) / glow.sum(axis=1)
    assert centres == pytest.approx(20.0 + tilt * np.linspace(-0.5, 0.5, 60), abs=1e-6)
    assert glow.sum(axis=1) == pytest.approx(np.full(60, glow[0].sum()), rel=1e-6)


def test_headers_may_state_a_wrong_gain_and_the_pixels_keep_the_true_one() -> None:
    right, wrong = (
        SimulatedNight(Detector((20, 30), stated_gain=stated), n_darks=1, n_lights=1)
        for stated in (None, 1.575)
    )
    for one, other in zip(right.frames(), wrong.frames(), strict=True):
        assert np.array_equal(one.pixels, other.pixels)
        assert (one.cards["EGAIN"], other.cards["EGAIN"]) == (1.5, 1.575)
    assert wrong.cube("light").gain.item() == 1.575
    assert wrong.truth().identical(right.truth())


def test_a_hot_row_is_in_every_frame_and_a_raised_one_in_the_lights() -> None:
    detector = Detector((60, 40), hot_fraction=0.0, hot_rows=((7, 2.0),), raised_rows=((50, 90.0),))
    night = SimulatedNight(detector, Star(flux=0.0), sky=NO_SKY, n_darks=9, n_lights=9)
    light, dark = mean_of(night, "light").mean(axis=1), mean_of(night, "dark").mean(axis=1)
    expected = np.full(60, 1000 + 0.05 * 600 / 1.5)
    expected[6] += 2.0 * 600 / 1.5
    assert dark == pytest.approx(expected, abs=3)
    expected[49] += 90.0
    assert light == pytest.approx(expected, abs=3)
    assert night.truth().dark[6].mean().item() == pytest.approx(expected[6])


def test_what_the_detector_records_is_the_light_times_its_response() -> None:
    detector = Detector((80, 50), response_scatter=0.05, vignetting=0.4)
    truth = SimulatedNight(detector, Star(row=20.0), (Star(row=60.0),)).truth()
    alone = SimulatedNight(detector, Star(row=20.0)).truth()
    assert truth.flux_recorded.values == pytest.approx(alone.star.values.sum(axis=0), rel=1e-12)
    assert (truth.flux_recorded < truth.flux).all()
    plain = SimulatedNight(Detector((80, 50)), Star(row=20.0)).truth()
    assert plain.flux_recorded.values == pytest.approx(plain.flux.values, rel=1e-12)


def test_the_brightness_of_a_light_is_that_of_its_frame() -> None:
    star = Star(flux=300.0, lines=())
    night = SimulatedNight(QUIET, star, sky=NO_SKY, n_darks=0, n_lights=5, flux_scatter=0.3)
    light = [frame.pixels.sum() - 1000.0 * 2400 for frame in night.frames()]
    brightness = [night.brightness_of(exposure) for exposure in night.exposures()]
    steady = SimulatedNight(QUIET, star, sky=NO_SKY, n_darks=0, n_lights=1)
    assert steady.brightness_of(steady.exposures()[0]) == 1.0
    assert np.std(brightness) > 0.1
    assert light / light[0] == pytest.approx(brightness / np.array(brightness[0]), rel=0.02)


def test_frames_of_some_types_are_those_among_all() -> None:
    night = SimulatedNight(SMALL, n_biases=1, n_flats=1, seed=2)
    chosen = [frame.name for frame in night.frames("light", "bias")]
    assert chosen == ["bias-001.fit", "light-001.fit", "light-002.fit", "light-003.fit"]
    every = pixels_of(night)
    assert all(np.array_equal(f.pixels, every[f.name]) for f in night.frames("light", "bias"))


@pytest.mark.parametrize("kind", ["bias", "dark", "light"])
def test_a_cube_without_files_is_that_of_the_files(kind: Any, tmp_path: Path) -> None:
    night = SimulatedNight(SMALL, n_biases=2)
    write_frames(night.frames(kind), tmp_path)
    cube, opened = night.cube(kind), ar.open_frames(tmp_path)
    assert cube.counts.dtype == opened.counts.dtype
    assert set(cube.coords) < set(opened.coords)
    for name, values in cube.variables.items():
        assert np.array_equal(values, opened[name]), name
        assert values.attrs == opened[name].attrs


def test_a_cube_of_no_frames_is_empty() -> None:
    assert SimulatedNight(SMALL).cube("flat").counts.shape == (0, 20, 30)


@pytest.mark.parametrize("dispersion", [3.2, -3.2])
def test_the_lines_of_neon_lie_where_the_truth_says_and_drift_about_the_lights(
    dispersion: float,
) -> None:
    lamps = Lamps(dispersion=dispersion, arc_drift=2.0, arc_tilt=0.0)
    night = SimulatedNight(Detector((11, 384)), lamps=lamps, n_arcs=2, n_darks=0, n_lights=1)
    truth = night.truth()["wavelength"].values
    near = np.abs(truth - 6929.4671) < 20  # the only bright line there
    x = np.arange(1, 385)
    expected = np.interp(6929.4671, truth[near][:: int(np.sign(dispersion))],
                         x[near][:: int(np.sign(dispersion))])  # fmt: skip
    found = []
    for pixels in pixels_of(night, "arc").values():
        light = pixels[:, near].mean(axis=0) - 1000.0
        found.append(float((light * x[near]).sum() / light.sum()))
    shifts = [night.arc_shift(one) for one in night.exposures() if one.frame_type == "arc"]
    assert shifts[0] == pytest.approx(-shifts[1])
    assert shifts[1] > 0.1
    assert found == pytest.approx([expected + shift for shift in shifts], abs=0.05)
    assert [one.frame_type for one in night.exposures()] == ["arc", "light", "arc"]
