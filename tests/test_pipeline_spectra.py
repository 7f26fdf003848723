"""What becomes of a combined image: the procedure's tables, and the best spectrum beside them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.errors import NoSpectrumError
from arrayred.model import Rows
from arrayred.pipeline import extract_spectrum, spectrum_at_rows
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
    with pytest.raises(NoSpectrumError, match="per column at best, and no lines") as caught:
        spectrum_at_rows(demo_image, dataclasses.replace(given, rule="robust"), recipe)
    assert "--rows A:B" in caught.value.hint
