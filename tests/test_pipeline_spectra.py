"""What becomes of a combined image: the procedure's tables, and the best spectrum beside them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.errors import NoSpectrumError
from arrayred.model import Rows, Run, is_check
from arrayred.pipeline import extract_spectrum, spectrum_at_rows
from benchmarks.truth.kinds import KINDS, misses, outcome
from tests import stars
from tests.stars import Drawn, draw, image_of

TABLES = ("counts_mean", "counts_mean_sky_subtracted")
STAR = draw(100.0, tilt=3.0, shape=(220, 500))


def cleaned(star: Drawn) -> xr.Dataset:
    """Return an image with cosmic rays in its counts, and without them in `clean`."""
    clean = star.image.counts
    hit = clean.copy(deep=True)
    hit[50, ::25] += 5000.0
    return star.image.assign(counts=hit, clean=clean)


def procedure(image: xr.Dataset, star: Drawn = STAR) -> xr.Dataset:
    return ar.subtract_sky(ar.extract(image, star.rows), image, star.rows)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"trace": "straight"},
        {"extraction": "sum"},
        {"extraction": "mean"},
        {"sky_model": "band"},
        {"sky_model": "median", "trace": "straight", "extraction": "sum"},
        {"trace": "straight", "extraction": "sum", "sky_model": "band"},
    ],
)
def test_the_tables_are_the_procedures_in_every_recipe(changes: dict[str, str]) -> None:
    image = cleaned(STAR)
    found, expected = spectrum_at_rows(image, STAR.rows, ar.Recipe(**changes)), procedure(image)
    for name in TABLES:
        assert np.array_equal(found[name], expected[name])
        assert found[name].attrs == expected[name].attrs


def test_the_reference_is_the_procedure_and_nothing_else() -> None:
    recipe = ar.Recipe.reference().replace(sky_side="auto", sky_per_bright_row=False)
    assert spectrum_at_rows(STAR.image, STAR.rows, recipe).identical(procedure(STAR.image))


def test_the_procedures_flux_is_that_of_the_clean_image() -> None:
    recipe = ar.Recipe(trace="straight", extraction="sum", sky_model="band")
    found = spectrum_at_rows(cleaned(STAR), STAR.rows, recipe)
    assert np.array_equal(found.flux, procedure(STAR.image).flux)
    assert not np.array_equal(found.counts_mean, procedure(STAR.image).counts_mean)


def test_the_flux_is_the_stars_light_from_the_clean_image() -> None:
    found = spectrum_at_rows(cleaned(STAR), STAR.rows, ar.Recipe())
    trace = xr.Dataset({"center": found.trace})
    truth = STAR.enclosed(trace, found.attrs["half_height"])
    pulls = (found.flux.values - truth) / np.sqrt(found.variance.values)
    assert abs(pulls.mean()) < 0.15
    assert pulls.std() == pytest.approx(1, abs=0.1)
    assert np.abs(found.trace - STAR.center).max() < 0.1


def test_what_was_done_is_told() -> None:
    attrs = spectrum_at_rows(STAR.image, STAR.rows, ar.Recipe()).attrs
    assert (attrs["extraction"], attrs["trace"], attrs["sky_model"]) == ("optimal", "fit", "linear")
    assert attrs["tilt"] == pytest.approx(3.0, abs=0.1)
    assert attrs["snr"] == pytest.approx(90, rel=0.2)
    assert attrs["center_middle"] == pytest.approx(50.3, abs=0.1)
    assert (attrs["first_row"], attrs["last_row"]) == (STAR.rows.first, STAR.rows.last)
    assert len(attrs["history"]) == len(set(attrs["history"])) == 5


def test_without_a_sky_none_is_subtracted() -> None:
    found = spectrum_at_rows(STAR.image, STAR.rows, ar.Recipe(sky=False))
    assert "sky" not in found
    assert "counts_mean_sky_subtracted" not in found
    less = spectrum_at_rows(STAR.image, STAR.rows, ar.Recipe()).flux.values
    height = 2 * found.attrs["half_height"]
    assert np.median(found.flux.values - less) == pytest.approx(20 * height, rel=0.1)


def test_an_impossible_band_costs_the_sky_subtracted_table_alone() -> None:
    image = STAR.image.sel(y=slice(1, 90))
    found = spectrum_at_rows(image, STAR.rows, ar.Recipe())
    assert "counts_mean" in found
    assert "counts_mean_sky_subtracted" not in found
    assert any("no sky-subtracted text table" in text for text in found.attrs["remarks"])
    with pytest.raises(ar.ArrayredError, match="sky band"):
        spectrum_at_rows(image, STAR.rows, ar.Recipe(sky_model="band"))


def test_the_procedures_band_can_be_the_sky_of_an_optimal_spectrum() -> None:
    found = spectrum_at_rows(STAR.image, STAR.rows, ar.Recipe(sky_model="band"))
    band = (found.attrs["sky_first_row"], found.attrs["sky_last_row"])
    assert band in (found.attrs.get("sky_above"), found.attrs.get("sky_below"))
    assert found.attrs["sky_model"] == "band"


def test_a_turned_image_gives_the_same_bits() -> None:
    from arrayred.model import transpose_to_x

    upright = STAR.image.rename(x="y", y="x").transpose("y", "x").assign_coords(dispersion_axis=2)
    turned = transpose_to_x(upright)
    turned.attrs.pop("remarks")
    one, other = (spectrum_at_rows(image, STAR.rows, ar.Recipe()) for image in (STAR.image, turned))
    for name in one.data_vars:
        assert np.array_equal(one[name], other[name]), name


def test_the_image_is_not_changed() -> None:
    image = cleaned(STAR)
    before = image.copy(deep=True)
    spectrum_at_rows(image, STAR.rows, ar.Recipe())
    assert image.identical(before)


@pytest.fixture(scope="module")
def demo_image() -> xr.Dataset:
    """Return the combined image of the demo night, its star in rows 121 to 136."""
    night = ar.SimulatedNight()
    frames = {
        kind: [f.pixels for f in night.frames() if kind in f.name] for kind in ("dark", "light")
    }
    return image_of(np.mean(frames["light"], axis=0) - np.median(frames["dark"], axis=0))


def test_given_rows_are_those_extracted(demo_image: xr.Dataset) -> None:
    rows = (145, 160)
    spectrum = extract_spectrum(demo_image, ar.Recipe(rows=rows))
    center, half = spectrum.trace.values, spectrum.attrs["half_height"]
    assert (center - half >= 144).all()
    assert (center + half <= 161).all()
    assert abs(float(spectrum.flux.mean())) < 100
    recipe = ar.Recipe(rows=rows, trace="straight", extraction="sum")
    exact = extract_spectrum(demo_image, recipe)
    summed = demo_image.counts.sel(y=slice(*rows)).values.sum(axis=0)
    kept = exact.dq.values == 0
    assert kept.mean() > 0.99
    assert np.allclose((exact.flux + exact.sky)[kept], summed[kept], rtol=1e-12)


def test_a_find_without_signal_is_refused_but_not_given_rows(demo_image: xr.Dataset) -> None:
    recipe = ar.Recipe()
    given = Rows(40, 52, 0, 0.0, 1.0, 4.0, 4.0, rule="given")
    assert spectrum_at_rows(demo_image, given, recipe).attrs["snr"] < 1
    with pytest.raises(NoSpectrumError, match="per pixel at best, and no lines") as caught:
        spectrum_at_rows(demo_image, dataclasses.replace(given, rule="robust"), recipe)
    assert "--rows A:B" in caught.value.hint


def pair(
    apart: float, ratio: float, *, width: float = 4.0, seed: int = 0
) -> tuple[xr.Dataset, Rows, np.ndarray]:
    """Return an image of two stars, the rows of the first parted at the dip, and its flux."""
    y, x = np.arange(1.0, 101)[:, np.newaxis], np.linspace(-0.5, 0.5, 500)
    flux = 8000 * (1 + 0.5 * np.sin(8 * x))
    second = ratio * 8000 * (1 - 0.4 * np.cos(11 * x))
    light = np.full((100, 500), 20.0)
    for total, row in ((flux, 50.3), (second, 50.3 + apart)):
        bell = np.exp(-4 * np.log(2) * ((y - row - 2 * x) / width) ** 2)
        light += total * bell / bell.sum(axis=0)
    rng = np.random.default_rng(seed)
    counts = rng.poisson(light * 4.5) / 4.5 + rng.normal(0, 5.0, light.shape)
    means = light.mean(axis=1)
    dip = 50 + int(np.argmin(means[49 : int(50 + apart)]))
    bright = np.flatnonzero(means > 50) + 1
    run = Run(dip + 1, int(bright[-1]))
    rows = Rows(int(bright[0]), dip, dip + 1 - int(bright[0]), 20.0, 6.0, 4.0, 44.0, (run,))
    return stars.image_of(counts), rows, flux


@pytest.mark.parametrize(
    ("apart", "ratio", "way"),
    [(6, 0.5, "optimal"), (6, 0.5, "sum"), (8, 3.0, "optimal"), (11, 1.0, "sum")],
)
def test_light_of_a_neighbour_is_subtracted(apart: float, ratio: float, way: Any) -> None:
    image, rows, flux = pair(apart, ratio)
    found = spectrum_at_rows(image, rows, ar.Recipe(extraction=way))
    assert found.attrs["extraction"] == way
    truth = flux * found.attrs["enclosed_fraction"]
    pulls = (found.flux.values - truth) / np.sqrt(found.variance.values)
    assert abs(pulls.mean()) < 0.2
    assert pulls.std() == pytest.approx(1, abs=0.12)
    assert found.flux.values.sum() == pytest.approx(truth.sum(), rel=2e-3)
    assert not (found.dq.values & 1).any()
    if apart < 11:
        assert any("joint fit" in line for line in found.attrs["history"])


def test_a_neighbour_without_light_changes_nothing() -> None:
    rows = dataclasses.replace(STAR.rows, others=(Run(66, 72),))
    found = spectrum_at_rows(STAR.image, rows, ar.Recipe())
    assert "neighbour_rows" not in found.attrs
    assert not found.dq.any()
    alone = spectrum_at_rows(STAR.image, STAR.rows, ar.Recipe())
    assert found.flux.values == pytest.approx(alone.flux.values, rel=0.01)


@pytest.mark.parametrize("level", [40.0, 1500.0])
def test_light_of_a_neighbour_that_no_profile_parts_is_flagged_and_said(level: float) -> None:
    image, rows, _ = pair(14, 0.0)
    y = image.y.values[:, np.newaxis]
    lamp = np.where(np.abs(y - 64) < 9, level, 0.0) * (1 + np.sin(y))
    image = stars.image_of(image.counts.values + lamp)
    rows = dataclasses.replace(rows, others=(Run(56, 74),))
    found = spectrum_at_rows(image, rows, ar.Recipe())
    assert (found.dq.values & 1).all()
    assert any(
        "rows 56 to 74, which cannot be separated" in text for text in found.attrs["remarks"]
    )


@pytest.mark.parametrize("exponent", [2.0, 2.5])
def test_the_enclosed_fraction_is_less_the_light_in_the_sky(exponent: float) -> None:
    from arrayred.steps import Moffat

    star = draw(300.0, seeing=16.0, shape=(160, 400), seed=None)
    y = star.image.y.values[:, np.newaxis]
    shape = Moffat(16.0, 0.0, exponent).on_pixels(y - star.center - 30)
    light = star.flux * shape * 20
    counts = np.random.default_rng(0).poisson((light + 20) * 4.5) / 4.5
    rows = Rows(66, 95, 30, 20.0, 6.0, 4.0, 44.0)
    found = spectrum_at_rows(stars.image_of(counts), rows, ar.Recipe())
    held = found.attrs["enclosed_fraction"]
    assert held < 0.98
    assert float(found.flux.sum() / (20 * star.flux.sum())) == pytest.approx(held, abs=4e-3)


def test_the_signal_to_noise_of_an_emission_spectrum_is_that_of_its_lines() -> None:
    star = draw(30.0, seed=None)
    x = np.arange(star.flux.size)
    lines = np.add.reduce([np.exp(-0.5 * ((x - at) / 2.0) ** 2) for at in (60, 290, 520)])
    light = 5000.0 * lines * star.profile
    rng = np.random.default_rng(0)
    counts = rng.poisson((light + 20) * 4.5) / 4.5 + rng.normal(0, 5.0, light.shape)
    found = spectrum_at_rows(stars.image_of(counts), star.rows, ar.Recipe())
    assert found.attrs["snr_columns"] == "emission lines"
    ratio = (found.flux / np.sqrt(found.variance)).values
    assert found.attrs["snr"] == pytest.approx(np.median(ratio[lines > 0.02]), rel=0.25)
    assert "snr_columns" not in spectrum_at_rows(STAR.image, STAR.rows, ar.Recipe()).attrs


@pytest.mark.parametrize("columns", [[0], [-1], [-2, -1]])
def test_columns_at_the_edge_of_the_detector_that_differ_are_flagged(columns: list[int]) -> None:
    star = draw(100.0, tilt=3.0)
    assert not spectrum_at_rows(star.image, star.rows, ar.Recipe()).dq.values[[0, -1]].any()
    counts = star.image.counts.values.copy()
    counts[:, columns] = 20 + (counts[:, columns] - 20) * 1.85
    found = spectrum_at_rows(stars.image_of(counts), star.rows, ar.Recipe())
    assert (found.dq.values[columns] & 1).all()
    assert np.count_nonzero(found.dq.values & 1) == len(columns)


def test_a_line_at_the_edge_is_no_bad_column() -> None:
    star = draw(100.0, seed=None)
    x = np.arange(star.flux.size)
    light = star.flux * (1 + 4 * np.exp(-0.5 * (x / 1.7) ** 2)) * star.profile
    rng = np.random.default_rng(0)
    counts = rng.poisson((light + 20) * 4.5) / 4.5 + rng.normal(0, 5.0, light.shape)
    found = spectrum_at_rows(stars.image_of(counts), star.rows, ar.Recipe())
    assert not (found.dq.values & 1).any()


@pytest.mark.parametrize(
    "name",
    ["half as bright 6 rows away", "a fifth as bright 4 rows away", "equal pair 3 rows apart"],
)
def test_close_stars_are_parted_or_named(name: str) -> None:
    assert list(misses(KINDS[name], [outcome(KINDS[name], 0)])) == []


def test_tracks_along_a_star_that_moves_are_left_out() -> None:
    name = "drift by less than a FWHM, tracks"
    assert list(misses(KINDS[name], [outcome(KINDS[name], seed) for seed in (3, 9)])) == []


def test_a_background_far_below_zero_is_told_with_the_spectrum() -> None:
    """What was subtracted is too high; the small drifts of an offset are below the noise."""
    noise = float(STAR.image.counts[:40].std())
    told = {
        n_sigma: [
            text
            for text in extract_spectrum(lowered(n_sigma * noise), ar.Recipe()).remarks
            if "below zero" in text
        ]
        for n_sigma in (0, 2, 50)
    }
    assert told[0] == told[2] == []
    assert is_check(told[50][0])
    assert "the background is -2" in told[50][0]


def lowered(counts: float) -> xr.Dataset:
    """Return the image of a star, less counts."""
    return STAR.image.assign(counts=STAR.image.counts - counts)
