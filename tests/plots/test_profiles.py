"""Profiles are the means of rows, with what was found among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

import arrayred as ar
from arrayred.model import Rows, Run
from tests.plots.conftest import texts

Products = tuple[xr.Dataset, xr.Dataset]


def spans(axes: Axes) -> list[tuple[float, float]]:
    patches = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [(patch.get_x(), patch.get_x() + patch.get_width()) for patch in patches]


def test_the_profile_is_the_mean_of_each_row(products: Products) -> None:
    line = ar.plots.profile(products[0]).axes[0].lines[0]
    assert np.allclose(line.get_ydata(), products[0].counts.mean("x"))
    assert np.array_equal(line.get_xdata(), products[0].y)


def test_the_rows_of_spectrum_and_sky_are_shaded_above_the_threshold(products: Products) -> None:
    image, spectrum = products
    axes = ar.plots.profile(image, spectrum).axes[0]
    told = [(80, 90), spectrum.attrs["sky_below"], spectrum.attrs["sky_above"]]
    assert spans(axes) == [(first - 0.5, last + 0.5) for first, last in told]
    assert axes.lines[1].get_ydata()[0] == spectrum.attrs["threshold"]
    assert texts(axes)[:2] == [f"threshold {spectrum.attrs['threshold']:.1f}", "spectrum 80:90"]
    assert axes.get_title().startswith("rows given, brightest row at S/N")


def test_candidates_are_told_with_what_became_of_them(products: Products) -> None:
    others = (Run(20, 30, 12.3), Run(50, 50, 7.0, "sharp"), Run(120, 130, None, "taken"))
    found = Rows(80, 90, 11, 0.0, 1.0, 4.0, 40.0, others, rule="robust", snr=33.0)
    axes = ar.plots.profile(products[0], found).axes[0]
    assert spans(axes) == [(79.5, 90.5), (19.5, 30.5), (49.5, 50.5), (119.5, 130.5)]
    assert texts(axes)[1:] == [
        "spectrum 80:90",
        "not extracted 20:30, S/N 12",
        "too narrow for a star 50, S/N 7",
        "separate spectrum 120:130",
    ]
    assert axes.get_title() == "detected by robust method, brightest row at S/N 33"


def test_a_threshold_that_is_given_counts_more_than_that_of_the_spectrum(
    products: Products,
) -> None:
    axes = ar.plots.profile(*products, threshold=77.0).axes[0]
    assert axes.lines[1].get_ydata()[0] == 77.0


@pytest.mark.parametrize("threshold", [np.nan, -5.0, 0.0, 1e9])
def test_any_threshold_is_drawn_or_left_out(products: Products, threshold: float) -> None:
    figure = ar.plots.profile(products[0], threshold=threshold)
    assert ar.plots.png(figure).startswith(b"\x89PNG")
    assert len(figure.axes[0].lines) == 1 + bool(np.isfinite(threshold))


def test_a_row_without_pixels_leaves_a_gap(products: Products) -> None:
    counts = products[0].counts.values.copy()
    counts[40] = np.nan
    image = products[0].assign(counts=(("y", "x"), counts))
    assert np.isnan(ar.plots.profile(image, products[1]).axes[0].lines[0].get_ydata()[40])


def test_statistics_of_rows_are_drawn_as_they_are(products: Products) -> None:
    statistics = ar.row_statistics(products[0])
    level, scatter = ar.plots.rows(statistics).axes
    drawn = [line.get_ydata() for line in (*level.lines, *scatter.lines)]
    for name, values in zip(("mean", "median", "std"), drawn, strict=True):
        assert np.array_equal(values, statistics[name])


def test_statistics_of_a_cube_have_a_line_for_each_frame(folder: Path) -> None:
    statistics = ar.row_statistics(ar.open_frames(folder, chunks=32))
    level, scatter = ar.plots.rows(statistics).axes
    assert (len(level.lines), len(scatter.lines)) == (8, 8)
    assert np.array_equal(level.lines[3].get_ydata(), statistics["median"][3])
    assert texts(level) == ["median of dark-001", "median of light-003"]
