"""The centres that are drawn beside a trace are where the light is."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.steps import measure_centres
from tests.plots.conftest import texts
from tests.stars import draw

Products = tuple[xr.Dataset, xr.Dataset]


def test_points_and_residuals_are_drawn_about_the_trace(products: Products) -> None:
    image, spectrum = products
    found = measure_centres(image, spectrum)
    above, below = ar.plots.trace(image, spectrum).axes
    curve = next(line for line in above.lines if line.get_label() == "trace")
    assert np.array_equal(curve.get_ydata(), spectrum["trace"])
    points = above.containers[0].lines[0]
    assert np.array_equal(points.get_ydata(), found["row"])
    left = below.containers[0].lines[0].get_ydata()
    assert np.allclose(left, found["row"] - found["trace"])
    assert np.abs(left).max() < below.get_ylim()[1]


def test_the_band_of_residuals_is_the_scatter_that_is_told(products: Products) -> None:
    spectrum = products[1].assign_attrs(trace_rms=0.125)
    below = ar.plots.trace(products[0], spectrum).axes[1]
    (band,) = below.patches
    assert (band.get_y(), band.get_height()) == (-0.125, 0.25)
    assert texts(below) == ["rms 0.125 rows"]


@pytest.mark.parametrize("tilt", [0.0, -3.0, 8.0])
def test_centres_are_measured_where_the_star_is(tilt: float) -> None:
    star = draw(50.0, seeing=5.0, tilt=tilt)
    trace = ar.fit_trace(star.image, star.rows)
    spectrum = xr.Dataset({"trace": trace.center}, attrs={**trace.attrs, "half_height": 8.0})
    found = measure_centres(star.image, spectrum)
    truth = np.interp(found.x, star.image.x, star.center)
    assert np.sqrt(np.mean((found["row"] - truth) ** 2)) < 0.1
    assert np.mean(np.abs(found["row"] - truth) < 3 * found["error"]) > 0.9


def test_a_trace_that_lies_beside_the_star_shows_it() -> None:
    star = draw(50.0, seeing=5.0)
    trace = ar.fit_trace(star.image, star.rows)
    spectrum = xr.Dataset({"trace": trace.center + 0.5}, attrs={**trace.attrs, "half_height": 8.0})
    found = measure_centres(star.image, spectrum)
    assert float(np.median(found["row"] - found["trace"])) == pytest.approx(-0.5, abs=0.1)


def test_a_spectrum_of_straight_rows_has_no_trace_to_draw(products: Products) -> None:
    with pytest.raises(ar.UsageError, match="straight rows"):
        ar.plots.trace(products[0], products[1].drop_vars("trace"))


def test_an_image_of_other_columns_is_refused(products: Products) -> None:
    with pytest.raises(ar.UsageError, match="100 columns, but this has 120"):
        ar.plots.trace(products[0].isel(x=slice(100)), products[1])


def test_without_light_no_centre_is_drawn(products: Products) -> None:
    image, spectrum = products
    dark = image.drop_vars("clean").assign(counts=image.counts * 0.0)
    assert measure_centres(dark, spectrum).sizes["x"] == 0
    assert ar.plots.png(ar.plots.trace(dark, spectrum)).startswith(b"\x89PNG")
