"""The sky on both sides of a spectrum: where the bands lie, what they yield, when there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from arrayred.errors import MismatchError, SkyBandError
from arrayred.model import Rows, Run
from arrayred.steps import aperture_edges, clearance, fit_sky
from tests.steps import Array, image_of

NOISE = 6.0


def sky_at(sky: xr.Dataset, trace: xr.Dataset, y: np.ndarray) -> np.ndarray:
    """Return the sky (y, x) on some rows, FITS numbers."""
    if "on_rows" in sky:
        return np.asarray(sky["on_rows"].sel(y=y).values)
    distance = y[:, np.newaxis] - trace["center"].values
    return np.asarray(sky["level"].values + sky["slope"].values * distance)


def rows_at(first: int, last: int, *others: tuple[int, int]) -> Rows:
    runs = tuple(Run(a, b) for a, b in others)
    return Rows(first, last, last - first + 1, 0.0, 1.0, 4.0, 4.0, runs)


def trace_at(center: float, n: int = 50, *, tilt: float = 0.0, fwhm: float = 4.0) -> xr.Dataset:
    rows = center + tilt * np.linspace(-0.5, 0.5, n)
    return xr.Dataset({"center": ("x", rows)}, {"x": np.arange(1, n + 1)}, {"fwhm": fwhm})


def noisy(shape: tuple[int, int] = (400, 50), level: Any = 100.0, seed: int = 0) -> xr.Dataset:
    """Return an image of sky with the variance of its noise."""
    counts = np.random.default_rng(seed).normal(level, NOISE, shape)
    variance = np.full(shape, NOISE**2, "f4")
    return image_of(counts).assign(variance=(("y", "x"), variance))


def bands(sky: xr.Dataset) -> tuple[Any, Any]:
    return sky.attrs.get("sky_below"), sky.attrs.get("sky_above")


@pytest.mark.parametrize(
    ("height", "center", "found"),
    [
        (400, 200.0, ((84, 143), (257, 316))),  # room for the offset on both sides
        (400, 80.0, ((1, 60), (137, 196))),  # nearer, not lower, below
        (400, 70.0, ((1, 55), (127, 186))),  # lower, for 8 rows are the least distance
        (400, 20.0, (None, (77, 136))),  # no room below
        (400, 380.0, ((264, 323), None)),
        (160, 80.0, ((1, 60), (101, 160))),
    ],
)
def test_bands_are_far_and_high_as_the_image_has_room(
    height: int, center: float, found: tuple[Any, Any]
) -> None:
    first = round(center)
    sky = fit_sky(
        noisy((height, 50)), trace_at(center), rows_at(first - 5, first + 5), half_height=7.0
    )
    assert bands(sky) == found


def test_bands_keep_clear_of_a_trace_wherever_it_goes() -> None:
    trace = trace_at(200.0, tilt=20.0)
    sky = fit_sky(noisy(), trace, rows_at(195, 205), half_height=6.0, offset=10)
    assert aperture_edges(trace, rows_at(195, 205), 6.0) == (184, 216)
    (_, low), (high, _) = bands(sky)
    assert (low, high) == (174, 226)


@pytest.mark.parametrize(("fwhm", "rows"), [(4.0, 8), (4.2, 9), (0.5, 3), (np.nan, 8)])
def test_the_least_distance_is_twice_the_seeing(fwhm: float, rows: int) -> None:
    assert clearance(trace_at(50, fwhm=fwhm), rows_at(45, 56)) == rows


@pytest.mark.parametrize(("reach", "rows"), [(26.0, 5), (45.0, 100), (24.0, 3)])
def test_light_that_ends_sharply_leaves_more_room_to_the_sky(reach: float, rows: int) -> None:
    trace = trace_at(50, fwhm=50.0).assign_attrs(reach=reach)
    assert clearance(trace, rows_at(45, 56)) == rows
    fwhm, bell = 10.0, 0.911  # of a bell curve, to a tenth of its peak
    trace = trace_at(50, fwhm=fwhm).assign_attrs(reach=bell * fwhm)
    assert clearance(trace, rows_at(45, 56)) in (20, 21)


def test_other_spectra_are_kept_clear_of() -> None:
    image = noisy()
    image["counts"].values[279:290] += 500
    sky = fit_sky(image, trace_at(200.0), rows_at(195, 205, (280, 290)), half_height=7.0)
    assert bands(sky)[1] == (257, 343)
    assert abs(float(np.mean(sky.level)) - 100) < 0.3
    assert sky.attrs["sky_rows_used"] == 120


def test_a_given_band_is_the_band_and_the_spectrum_in_it_is_left_out() -> None:
    image = noisy()
    image["counts"].values[192:207] += 900
    given = {"half_height": 7.0, "band": (180, 259)}
    sky = fit_sky(image, trace_at(200.0), rows_at(195, 205), **given)
    assert bands(sky) == ((180, 192), (208, 259))
    assert abs(float(np.mean(sky.level)) - 100) < 0.5
    one = fit_sky(image, trace_at(200.0), rows_at(195, 205), half_height=7.0, band=(250, 259))
    assert bands(one) == (None, (250, 259))


def test_a_given_band_on_the_star_is_refused() -> None:
    with pytest.raises(SkyBandError, match="196:204 overlap the spectrum"):
        fit_sky(noisy(), trace_at(200.0), rows_at(195, 205), half_height=7.0, band=(196, 204))


def test_one_side_makes_a_line_a_mean_and_says_so() -> None:
    sky = fit_sky(noisy(), trace_at(20.0), rows_at(15, 25), half_height=7.0)
    assert sky.attrs["sky_model"] == "mean"
    assert not sky.slope.any()
    (remark,) = sky.attrs["remarks"]
    assert "one side only, rows 77 to 136" in remark
    assert "mean" in remark
    assert (
        "remarks" not in fit_sky(noisy(), trace_at(200.0), rows_at(195, 205), half_height=7.0).attrs
    )


@pytest.mark.parametrize(
    ("height", "others", "band"),
    [(30, (), None), (120, ((1, 50), (75, 120)), None), (400, (), (390, 410))],
)
def test_where_there_is_no_sky_an_error_tells_the_rows(
    height: int, others: Any, band: tuple[int, int] | None
) -> None:
    middle = height / 2
    rows = rows_at(round(middle) - 5, round(middle) + 5, *others)
    with pytest.raises(SkyBandError, match=f"1:{height}"):
        fit_sky(noisy((height, 50)), trace_at(middle), rows, half_height=7.0, band=band)


@pytest.mark.parametrize("method", ["mean", "median", "linear"])
@pytest.mark.parametrize("tilt", [0.0, 8.0])
def test_the_sky_under_a_star_is_known_as_well_as_it_says(method: Any, tilt: float) -> None:
    pulls = []
    for seed in range(8):
        image = noisy((300, 400), seed=seed)
        trace = trace_at(150.0, 400, tilt=tilt)
        sky = fit_sky(image, trace, rows_at(145, 155), method=method, half_height=7.0)
        pulls.append((sky.level.values - 100) / np.sqrt(sky.variance.values))
    assert abs(np.mean(pulls)) < 0.08
    assert np.std(pulls) == pytest.approx(1, abs=0.05)


def sloping(kind: str, n: int = 300) -> Array:
    """Return a sky (y, x) of 400 rows without noise, with a gradient or with leaning lines."""
    y, x = np.arange(1.0, 401)[:, np.newaxis], np.arange(1.0, n + 1)
    if kind == "gradient":
        return np.asarray(200 * (1 + 0.2 * (y - 200.5) / 400) * np.ones_like(x))
    lean = 0.005 * (y - 200.5)
    lines = [300 * np.exp(-0.5 * ((x - at - lean) / 1.5) ** 2) for at in (60, 110, 190)]
    return np.asarray(100 + sum(lines))


@pytest.mark.parametrize("kind", ["gradient", "leaning lines"])
@pytest.mark.parametrize("center", [120.3, 201.0])
def test_a_gradient_and_leaning_lines_cost_a_star_less_than_a_per_cent(
    kind: str, center: float
) -> None:
    glow = sloping(kind)
    trace = trace_at(center, 300, tilt=4.0)
    first = round(center)
    sky = fit_sky(noisy(glow.shape, glow), trace, rows_at(first - 7, first + 7), half_height=9.0)
    y = np.arange(first - 9, first + 10)
    missed = (sky_at(sky, trace, y) - glow[y - 1]).sum(axis=0)
    star = 20 * NOISE * np.sqrt(y.size)  # of a signal-to-noise ratio of 20
    assert abs(np.mean(missed)) < 0.01 * star
    assert np.abs(missed)[5:-5].max() < 0.02 * 300 * y.size  # of a line of 300
    assert sky.attrs["sky_lean"] == pytest.approx(0.005 * (kind != "gradient"), abs=3e-4)


def test_the_sky_of_a_row_lies_on_the_line_through_the_trace() -> None:
    trace = trace_at(200.0, tilt=4.0)
    values = {"level": ("x", np.full(50, 100.0)), "slope": ("x", np.full(50, 0.5))}
    found = sky_at(xr.Dataset(values), trace, np.array([198, 200]))
    assert found.shape == (2, 50)
    assert (found[0, 0], found[1, -1]) == (100.0, 99.0)


def test_bad_and_saturated_pixels_do_not_count_but_replaced_ones_do() -> None:
    image = noisy()
    flags = np.zeros(image.counts.shape, "u1")
    clean = fit_sky(image, trace_at(200.0), rows_at(195, 205), half_height=7.0)
    image["counts"].values[260:290, 5] += 10.0
    for bit, counts in ((1, False), (2, False), (4, True), (8, True)):
        flags[260:290, 5] = bit
        flagged = image.assign(dq=(("y", "x"), flags))
        sky = fit_sky(flagged, trace_at(200.0), rows_at(195, 205), half_height=7.0)
        assert (sky.level[5].item() - clean.level[5].item() > 1.5) is counts
    assert sky.level[6].item() == clean.level[6].item()


def test_bands_without_a_good_pixel_are_an_error() -> None:
    image = noisy()
    flags = np.ones(image.counts.shape, "u1")
    with pytest.raises(SkyBandError, match="120 sky rows has a good pixel"):
        fit_sky(
            image.assign(dq=(("y", "x"), flags)),
            trace_at(200.0),
            rows_at(195, 205),
            half_height=7.0,
        )


def test_missing_pixels_and_noise_do_not_count() -> None:
    image = noisy()
    image["counts"].values[260:270, 5] = np.nan
    image["variance"].values[260:270, 6] = np.nan
    sky = fit_sky(image, trace_at(200.0), rows_at(195, 205), half_height=7.0)
    assert np.isfinite(sky.level.values).all()
    assert sky.variance[5].item() > sky.variance[4].item() < sky.variance[6].item()


def test_without_a_variance_the_noise_is_that_of_the_pixels() -> None:
    image = noisy().drop_vars("variance")
    sky = fit_sky(image, trace_at(200.0), rows_at(195, 205), half_height=7.0, method="mean")
    assert np.median(sky.variance) == pytest.approx(NOISE**2 / 120, rel=0.15)
    assert "sky_scatter" not in sky.attrs


def test_rows_are_those_of_the_file_in_a_part_of_an_image() -> None:
    image, trace, rows = noisy(), trace_at(200.0), rows_at(195, 205)
    whole = fit_sky(image, trace, rows, half_height=7.0)
    part = fit_sky(image.sel(y=slice(61, 380)), trace, rows, half_height=7.0)
    assert part.identical(whole)


def test_units_history_and_input() -> None:
    image, trace = noisy(), trace_at(200.0)
    before = image.copy(deep=True)
    sky = fit_sky(image, trace, rows_at(195, 205), half_height=7.0)
    assert image.identical(before)
    assert {name: sky[name].attrs["units"] for name in sky.data_vars} == {
        "level": "adu", "slope": "adu", "variance": "adu2",
    }  # fmt: skip
    assert sky.attrs["history"] == ["sky model: linear of rows 84 to 143 and 257 to 316"]
    with pytest.raises(MismatchError, match="chunked"):
        fit_sky(image.chunk({"y": 50}), trace, rows_at(195, 205), half_height=7.0)


N = 240
FLUX = 4000.0


def star_in(glow: Any, flux: Any = FLUX, seed: int = 0) -> xr.Dataset:
    """Return a star of a FWHM of 4 rows on row 200 in light (y, x) that fills the slit."""
    y = np.arange(1.0, 401)[:, np.newaxis]
    profile = np.exp(-4 * np.log(2) * ((y - 200) / 4.0) ** 2)
    level = 100.0 + glow + flux * profile / profile.sum() * np.ones(N)
    return noisy(level.shape, level, seed)


def bell(peak: float, fwhm: float, row: float = 200.0) -> Array:
    y = np.arange(1.0, 401)[:, np.newaxis]
    return np.asarray(peak * np.exp(-4 * np.log(2) * ((y - row) / fwhm) ** 2))


@pytest.mark.parametrize(
    ("glow", "at_star"),
    [(bell(60.0, 100.0), 60.0), (bell(20.0, 60.0), 20.0), (bell(40.0, 100.0, 290.0), 4.23)],
)
def test_light_that_only_rows_beside_the_star_see_moves_the_bands_there(
    glow: Array, at_star: float
) -> None:
    sky = fit_sky(star_in(glow), trace_at(200.0, N), rows_at(195, 205), half_height=6.0)
    assert bands(sky) == ((161, 186), (214, 239))
    (remark,) = (text for text in sky.attrs["remarks"] if "farther away" in text)
    assert "161 to 186 and 214 to 239" in remark
    missed = (sky.level.values - 100 - at_star) / np.sqrt(sky.variance.values)
    assert abs(np.mean(sky.level) - 100 - at_star) * 12 < 0.01 * FLUX
    assert np.std(missed) < 1.15


@pytest.mark.parametrize(
    ("glow", "flux"),
    [
        (0.0, FLUX),
        (bell(1.0, 100.0), FLUX),  # 0.3 % of the flux
        (bell(8.0, 100.0) * np.linspace(0.2, 2.0, N), FLUX * np.linspace(0.2, 2.0, N)),  # wings
    ],
)
def test_the_bands_stay_where_the_light_is_little_or_the_stars_own(glow: Any, flux: Any) -> None:
    image, rows = star_in(glow, flux), rows_at(195, 205)
    sky = fit_sky(image, trace_at(200.0, N), rows, half_height=6.0)
    assert bands(sky) == ((93, 144), (256, 307))
    assert not {"sky_nearest", "remarks"} & sky.attrs.keys()
    near = fit_sky(image, trace_at(200.0, N), rows, half_height=6.0, nearest=True)
    assert near.attrs["sky_nearest"]
    assert bands(near) == ((161, 186), (214, 239))


def test_a_sky_that_scatters_more_than_its_noise_is_told() -> None:
    image = star_in(0.0)
    image["variance"] /= 2.0
    sky = fit_sky(image, trace_at(200.0, N), rows_at(195, 205), half_height=6.0)
    assert "1.4 times its expected noise" in sky.attrs["remarks"][0]


@pytest.mark.parametrize(("lean", "said"), [(0.1, False), (0.3, True)])
def test_lines_that_lean_are_followed_or_told(lean: float, said: bool) -> None:
    y, x = np.arange(1.0, 401)[:, np.newaxis], np.arange(1.0, N + 1)
    lines = sum(800 * np.exp(-0.5 * ((x - at - lean * (y - 200)) / 1.0) ** 2) for at in (80, 150))
    sky = fit_sky(star_in(lines), trace_at(200.0, N), rows_at(195, 205), half_height=6.0)
    told = [text for text in sky.attrs.get("remarks", ()) if "sky lines are tilted" in text]
    assert bool(told) is said
    if not said:
        rows = np.arange(194, 207)
        missed = sky_at(sky, trace_at(200.0, N), rows) - 100 - lines[rows - 1]
        assert np.abs(missed).max() < 6
