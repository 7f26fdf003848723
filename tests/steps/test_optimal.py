"""Extracted stars against the light that was drawn."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import xarray as xr

from arrayred.errors import MismatchError, UsageError
from arrayred.steps import ExtractWeights, extract_along, fit_trace, half_height_of
from benchmarks.truth.kinds import KINDS, misses, outcome
from tests.stars import Drawn, draw, flat_sky, image_of

ALL: tuple[ExtractWeights, ...] = ("optimal", "sum", "mean")


OUT_OF_FOCUS = 3.0 + 5.0 * (np.linspace(-1, 1, 600) - 0.3) ** 2
"""Seeing of a spectrograph that is in focus in a part of the spectrum, rows."""


def extracted(star: Drawn, weights: ExtractWeights = "optimal") -> tuple[xr.Dataset, np.ndarray]:
    """Return the spectrum of a star, and its true light in the same aperture."""
    trace = fit_trace(star.image, star.rows)
    half = half_height_of(star.rows, trace)
    sky = flat_sky(20.0, star.flux.size)
    spectrum = extract_along(star.image, trace, sky, half_height=half, weights=weights)
    return spectrum, star.enclosed(trace, half)


@pytest.mark.parametrize("weights", ["optimal", "sum"])
@pytest.mark.parametrize("seeing", [2.0, 5.0, 12.0])
@pytest.mark.parametrize("tilt", [0.0, 8.0])
def test_a_bright_stars_flux_is_its_light_to_a_thousandth(
    tilt: float, seeing: float, weights: ExtractWeights
) -> None:
    star = draw(300.0, seeing=seeing, tilt=tilt)
    spectrum, truth = extracted(star, weights)
    assert spectrum.flux.values.sum() / truth.sum() == pytest.approx(1, abs=1e-3)
    assert np.median(spectrum.flux.values / truth) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("snr", "seeing", "tilt"),  # each twice; further ones are below
    [
        *((3.0, 2.0, 0.0), (3.0, 5.0, 8.0), (30.0, 2.0, 8.0)),
        *((30.0, 12.0, 0.0), (300.0, 2.0, 8.0), (300.0, 12.0, 0.0)),
    ],
)
def test_pulls_are_normal(snr: float, seeing: float, tilt: float) -> None:
    pulls = []
    for seed in range(4):
        spectrum, truth = extracted(draw(snr, seeing=seeing, tilt=tilt, seed=seed))
        pulls.append((spectrum.flux.values - truth) / np.sqrt(spectrum.variance.values))
    values = np.concatenate(pulls)
    assert abs(values.mean()) < 0.1
    assert values.std() == pytest.approx(1, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("snr", "seeing", "tilt"),
    [
        *((3.0, 2.0, 8.0), (3.0, 5.0, 0.0), (3.0, 12.0, 8.0)),
        *((10.0, 2.0, 0.0), (10.0, 12.0, 0.0)),
        *((50.0, 2.0, 8.0), (50.0, 5.0, 0.0)),
        *((300.0, 2.0, 0.0), (300.0, 5.0, 8.0), (300.0, 12.0, 0.0)),
    ],
)
def test_many_pulls_are_normal(snr: float, seeing: float, tilt: float) -> None:
    pulls = []
    for seed in range(40):
        star = draw(snr, seeing=seeing, tilt=tilt, seed=seed, shape=(100, 1000))
        spectrum, truth = extracted(star)
        pulls.append((spectrum.flux.values - truth) / np.sqrt(spectrum.variance.values))
    values = np.concatenate(pulls)
    assert abs(values.mean()) < 0.02
    assert values.std() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("snr", [20.0, 300.0])
@pytest.mark.parametrize("seeing", [5.0 + 2.0 * np.linspace(-1, 1, 600), OUT_OF_FOCUS])
def test_a_width_that_changes_along_the_columns_is_followed(snr: float, seeing: np.ndarray) -> None:
    star = draw(snr, seeing=seeing, tilt=2.0)
    spectrum, truth = extracted(star)
    trace = fit_trace(star.image, star.rows)
    assert trace.fwhm.values == pytest.approx(seeing, rel=0.1)
    assert spectrum.attrs["extraction"] == "optimal"
    assert np.count_nonzero(spectrum.dq) <= 1
    pulls = (spectrum.flux.values - truth) / np.sqrt(spectrum.variance.values)
    assert abs(pulls.mean()) < 0.15
    assert pulls.std() == pytest.approx(1, abs=0.1)
    for third in (pulls[:200], pulls[200:400], pulls[400:]):
        assert abs(third.mean()) < 0.35
    summed, _ = extracted(star, "sum")
    assert float(spectrum.flux.sum() / summed.flux.sum()) == pytest.approx(1, abs=5e-3)
    enclosed = spectrum.get("enclosed", spectrum.attrs["enclosed_fraction"])
    assert np.abs(enclosed - truth / star.flux).max() < 5e-3


def test_a_constant_width_is_one_number() -> None:
    star = draw(300.0)
    trace = fit_trace(star.image, star.rows)
    assert "fwhm" not in trace
    assert isinstance(half_height_of(star.rows, trace), float)
    assert not {"enclosed", "half_height"} & set(extracted(star)[0])


def test_lines_of_another_width_are_summed_and_that_is_said() -> None:
    columns = np.arange(600)
    near = np.min([np.abs(columns - middle) for middle in (90, 300, 500)], axis=0) < 10
    star = draw(100.0, seeing=np.where(near, 9.0, 6.0), tilt=2.0)
    light = star.flux * np.where(near, 6.0, 1.0)
    counts = np.random.default_rng(0).poisson((light * star.profile + 20) * 4.5) / 4.5
    star = dataclasses.replace(star, image=image_of(counts), flux=light)
    spectrum, truth = extracted(star)
    assert spectrum.attrs["extraction"] == "sum"
    assert "weights would change the flux near column" in spectrum.attrs["remarks"][-1]
    assert spectrum.flux.values == pytest.approx(truth, rel=0.1)


@pytest.mark.parametrize(
    "name",
    [
        "lines 1.5 times as wide as the continuum",
        "lines twice as wide as the continuum",
        "glow beside the star",
        "glow of a corner",
    ],
)
def test_lines_wider_than_the_continuum_and_glows_are_said_to_be(name: str) -> None:
    assert list(misses(KINDS[name], [outcome(KINDS[name], 0)])) == []


def test_lines_of_the_continuums_width_are_not() -> None:
    columns = np.arange(600)
    near = np.min([np.abs(columns - middle) for middle in (90, 300, 500)], axis=0)
    star = draw(100.0, seeing=6.0, tilt=2.0)
    light = star.flux * (1 + 2 * np.exp(-0.5 * (near / 2.5) ** 2))
    counts = np.random.default_rng(0).poisson((light * star.profile + 20) * 4.5) / 4.5
    spectrum, _ = extracted(dataclasses.replace(star, image=image_of(counts), flux=light))
    assert spectrum.attrs["extraction"] == "optimal"
    assert "remarks" not in spectrum.attrs


def test_optimal_weights_reach_the_least_noise_there_is() -> None:
    star = draw(50.0, seeing=5.0, tilt=2.0)
    spectrum, truth = extracted(star)
    variance = 25.0 + (star.flux * star.profile + 20.0) / 4.5
    best = np.sqrt(((star.flux * star.profile) ** 2 / variance).sum(axis=0))
    assert np.median(truth / np.sqrt(spectrum.variance) / best) > 0.99
    summed, _ = extracted(star, "sum")
    assert np.median(summed.variance / spectrum.variance) > 1.2


def test_a_sum_over_whole_rows_is_the_sum() -> None:
    star = draw(50.0)
    trace = fit_trace(star.image, star.rows, straight=True)
    half = star.rows.n_rows / 2
    spectrum = extract_along(star.image, trace, None, half_height=half, weights="sum")
    expected = star.image.counts.sel(y=star.rows.span).values.sum(axis=0)
    assert spectrum.flux.values == pytest.approx(expected, rel=1e-12)
    assert "sky" not in spectrum
    mean = extract_along(star.image, trace, None, half_height=half, weights="mean")
    assert mean.flux.values == pytest.approx(expected / star.rows.n_rows)
    assert mean.variance.values == pytest.approx(spectrum.variance / star.rows.n_rows**2)


def test_the_skys_own_uncertainty_counts_for_the_weight_it_has() -> None:
    star = draw(50.0)
    trace = fit_trace(star.image, star.rows, straight=True)
    half, sky = star.rows.n_rows / 2, flat_sky(20.0)
    known = extract_along(star.image, trace, sky, half_height=half, weights="sum")
    sky["variance"] = sky["variance"] + 2.0
    unsure = extract_along(star.image, trace, sky, half_height=half, weights="sum")
    added = (unsure.variance - known.variance).values
    assert added == pytest.approx(2.0 * star.rows.n_rows**2)
    assert known.sky.values == pytest.approx(20.0 * star.rows.n_rows)


def test_a_sloping_sky_is_taken_where_the_trace_is() -> None:
    star = draw(300.0, seed=None)
    y = star.image.y.values[:, np.newaxis]
    image = image_of(star.image.counts.values + 3.0 * (y - star.center))
    trace = fit_trace(image, star.rows)
    sky = flat_sky(20.0)
    sky["level"] = sky["level"] + 3.0 * (trace.center.values - star.center)
    sky["slope"] = sky["slope"] + 3.0
    flux = extract_along(image, trace, sky, half_height=8.0).flux
    assert flux.values == pytest.approx(star.enclosed(trace, 8.0), rel=2e-3)


@pytest.mark.parametrize("weights", ["optimal", "sum"])
def test_bad_and_saturated_pixels_are_filled_and_flagged(weights: ExtractWeights) -> None:
    star = draw(300.0, seeing=4.0, tilt=3.0)
    whole, truth = extracted(star, weights)
    star.image.counts[49:51, 200], star.image.dq[49:51, 200] = 65535.0, 2
    star.image.counts[50, 300], star.image.dq[50, 300] = 0.0, 1
    star.image.counts[49:51, 400] = np.nan
    spectrum, _ = extracted(star, weights)
    assert spectrum.dq.values[[200, 300, 400]].tolist() == [2, 1, 8]
    assert np.count_nonzero(spectrum.dq) == 3
    assert spectrum.flux.values[[200, 300, 400]] == pytest.approx(truth[[200, 300, 400]], rel=0.03)
    assert (spectrum.variance > whole.variance).values[[200, 300, 400]].all()
    assert spectrum.attrs["masked_fraction"] > 0


def test_pixels_that_other_frames_stand_in_for_are_used_and_flagged() -> None:
    star = draw(50.0)
    plain, _ = extracted(star)
    star.image.dq[50, 100], star.image.dq[50, 200] = 16, 8
    spectrum, _ = extracted(star)
    assert np.array_equal(spectrum.flux, plain.flux)
    assert spectrum.dq.values[[100, 200]].tolist() == [16, 0]


def test_a_column_that_lost_a_little_of_its_profile_is_not_spoilt() -> None:
    star = draw(300.0, seeing=4.0)
    star.image.dq[47, 200], star.image.dq[45:55, 300] = 1, 1
    spectrum, _ = extracted(star)
    assert spectrum.dq.values[[200, 300]].tolist() == [0, 1 | 8]


@pytest.mark.parametrize("weights", ["optimal", "sum"])
def test_cosmic_rays_in_a_single_frame_do_not_count(weights: ExtractWeights) -> None:
    star = draw(30.0, tilt=2.0)
    columns = np.arange(30, 600, 60)
    star.image.counts[50, columns] += 900.0
    star.image.counts[52, columns + 7] += 2500.0
    star.image["variance"] = image_of(star.image.counts.values)["variance"]
    spectrum, truth = extracted(star, weights)
    hit = np.sort([*columns, *(columns + 7)])
    assert set(np.flatnonzero(spectrum.dq.values & (4 | 16))) >= set(hit)
    pulls = (spectrum.flux.values - truth) / np.sqrt(spectrum.variance.values)
    assert np.abs(pulls[hit]).max() < 4
    assert abs(pulls.mean()) < 0.15


def test_a_line_is_no_cosmic_ray() -> None:
    star = draw(300.0, seeing=3.0, seed=None)
    x = np.arange(600)
    boost = 1 + 30 * np.exp(-0.5 * ((x - 300) / 1.2) ** 2)
    light = star.flux * boost * star.profile + 20
    counts = np.random.default_rng(0).poisson(light * 4.5) / 4.5
    trace = fit_trace(image_of(counts), star.rows)
    spectrum = extract_along(image_of(counts), trace, flat_sky(20.0), half_height=6.0)
    assert not spectrum.dq.any()
    assert float(spectrum.flux[300]) == pytest.approx(star.flux[300] * 31, rel=0.01)


@pytest.mark.parametrize("seed", range(3))
def test_a_profile_too_faint_is_summed_and_that_is_said(seed: int) -> None:
    star = draw(0.05, seed=seed)
    trace = fit_trace(star.image, star.rows, straight=True)
    spectrum = extract_along(star.image, trace, flat_sky(20.0), half_height=5.0)
    assert spectrum.attrs["profile_snr"] < 5
    assert spectrum.attrs["extraction"] == "sum"
    assert "below 5" in spectrum.attrs["remarks"][-1]
    summed = extract_along(star.image, trace, flat_sky(20.0), half_height=5.0, weights="sum")
    assert np.array_equal(spectrum.flux, summed.flux)
    assert "remarks" not in summed.attrs


def test_without_a_variance_it_is_summed_and_has_none() -> None:
    star = draw(50.0)
    trace = fit_trace(star.image, star.rows, straight=True)
    image = star.image.drop_vars("variance")
    spectrum = extract_along(image, trace, flat_sky(20.0), half_height=8.0)
    assert "variance" not in spectrum
    assert "the noise is not known" in spectrum.attrs["remarks"][-1]
    with_noise = extract_along(star.image, trace, None, half_height=8.0, weights="sum")
    assert np.allclose(spectrum.flux + 16 * 20, with_noise.flux, rtol=1e-9)


def test_the_gain_is_seen_where_no_attribute_tells_it() -> None:
    star = draw(50.0)
    told, _ = extracted(star)
    star.image.attrs.clear()
    seen, _ = extracted(star)
    assert np.allclose(seen.flux, told.flux, rtol=1e-4)
    assert np.allclose(seen.variance, told.variance, rtol=1e-3)


@pytest.mark.parametrize("exponent", [2.5, np.inf])
def test_the_part_of_the_light_that_is_enclosed_is_told(exponent: float) -> None:
    from arrayred.steps import Moffat

    star = draw(300.0, seed=None)
    bell = Moffat(5.0, 0.0, exponent)
    profile = bell.on_pixels(star.image.y.values[:, np.newaxis] - star.center)
    counts = np.random.default_rng(1).poisson((star.flux * profile + 20) * 4.5) / 4.5
    trace = fit_trace(image_of(counts), star.rows)
    spectrum = extract_along(image_of(counts), trace, flat_sky(20.0), half_height=6.0)
    inside = np.diff(bell.below(np.array([-6.0, 6.0])))[0]
    assert spectrum.attrs["enclosed_fraction"] == pytest.approx(inside, abs=3e-3)
    assert spectrum.flux.sum() == pytest.approx((star.flux * inside).sum(), rel=2e-3)


def test_light_off_the_image_is_made_up_for_and_flagged() -> None:
    star = draw(300.0, tilt=6.0)
    image = star.image.sel(y=slice(1, 52))
    trace = fit_trace(star.image, star.rows)
    spectrum = extract_along(image, trace, flat_sky(20.0), half_height=7.0)
    assert spectrum.flux.values == pytest.approx(star.enclosed(trace, 7.0), rel=0.03)
    assert (spectrum.dq.values & 8).all()


@pytest.mark.parametrize("weights", ALL)
def test_a_column_without_a_good_pixel_is_no_number(weights: ExtractWeights) -> None:
    star = draw(50.0)
    star.image.counts[:, 77] = np.nan
    spectrum, _ = extracted(star, weights)
    assert np.flatnonzero(np.isnan(spectrum.flux)).tolist() == [77]
    assert spectrum.dq.values[77] & 8


def test_in_a_straight_aperture_the_profile_follows_the_star_all_the_same() -> None:
    star = draw(300.0, seeing=2.0, tilt=8.0)
    trace = fit_trace(star.image, star.rows, straight=True)
    spectrum = extract_along(star.image, trace, flat_sky(20.0), half_height=9.0)
    assert spectrum.attrs["extraction"] == "optimal"
    assert float(spectrum.flux.sum()) == pytest.approx(star.flux.sum(), rel=1e-3)


def test_light_that_no_profile_fits_is_summed_and_that_is_said() -> None:
    star = draw(300.0, seeing=2.0, tilt=8.0)
    trace = fit_trace(star.image, star.rows, straight=True).drop_vars("star")
    spectrum = extract_along(star.image, trace, flat_sky(20.0), half_height=9.0)
    assert spectrum.attrs["extraction"] == "sum"
    assert "no profile fits" in spectrum.attrs["remarks"][-1]
    assert float(spectrum.flux.sum()) == pytest.approx(star.flux.sum(), rel=1e-3)


def test_the_image_is_not_changed_and_its_facts_are_kept() -> None:
    star = draw(50.0)
    image = star.image.assign_coords(exptime=600.0)
    before = image.copy(deep=True)
    trace = fit_trace(image, star.rows)
    spectrum = extract_along(image, trace, flat_sky(20.0), half_height=6.0)
    assert image.identical(before)
    assert spectrum.exptime.item() == 600.0
    assert spectrum.flux.attrs["units"] == "adu"
    assert spectrum.variance.attrs["units"] == "adu2"
    assert "12.00 rows" in spectrum.attrs["history"][-1]


@pytest.mark.parametrize(("weights", "half"), [("best", 5.0), ("sum", 0.0), ("sum", float("nan"))])
def test_what_is_no_extraction_is_an_error(weights: str, half: float) -> None:
    star = draw(50.0)
    trace = fit_trace(star.image, star.rows)
    with pytest.raises(UsageError, match="is not possible"):
        extract_along(star.image, trace, None, half_height=half, weights=weights)  # type: ignore[arg-type]


def test_a_chunked_image_is_refused() -> None:
    star = draw(50.0)
    trace = fit_trace(star.image, star.rows)
    with pytest.raises(MismatchError, match="chunked"):
        extract_along(star.image.chunk({"y": 10}), trace, None, half_height=5.0)
