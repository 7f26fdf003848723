"""Spectra are drawn with their noise, flags and sky, over wavelengths where these are known."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.report import render
from tests.plots.conftest import texts

Products = tuple[xr.Dataset, xr.Dataset]


@pytest.fixture
def spectrum(products: Products) -> xr.Dataset:
    return products[1]


def test_the_flux_lies_in_its_noise_above_the_sky(spectrum: xr.Dataset) -> None:
    flux, sky = ar.plots.spectrum(spectrum).axes
    assert np.array_equal(flux.lines[0].get_ydata(), spectrum.flux)
    assert np.array_equal(sky.lines[0].get_ydata(), spectrum.sky)
    (band,) = flux.collections
    edges = band.get_paths()[0].get_extents()
    reach = 3 * np.sqrt(spectrum.variance)
    assert edges.y0 == pytest.approx(float((spectrum.flux - reach).min()))
    assert edges.y1 == pytest.approx(float((spectrum.flux + reach).max()))
    assert texts(flux)[0] == "±3σ"


def test_without_noise_and_sky_the_flux_is_alone(spectrum: xr.Dataset) -> None:
    figure = ar.plots.spectrum(spectrum.drop_vars(["variance", "sky", "dq"]))
    assert len(figure.axes) == 1
    assert (len(figure.axes[0].collections), texts(figure.axes[0])) == (0, [])


def test_flags_are_counted(spectrum: xr.Dataset) -> None:
    flags = np.zeros(120, np.uint8)
    flags[[3, 7]], flags[[20]] = 2, 4
    axes = ar.plots.spectrum(spectrum.assign(dq=("x", flags))).axes[0]
    assert texts(axes)[1:] == ["saturated: 2 columns", "cosmic ray: 1 column"]
    assert list(axes.lines[1].get_xdata()) == [4, 8]


@pytest.mark.parametrize("rising", [True, False])
def test_a_known_wavelength_runs_below_and_the_columns_above(
    spectrum: xr.Dataset, rising: bool
) -> None:
    scale = 6500.0 + 0.5 * np.arange(120) * (1 if rising else -1)
    known = spectrum.assign(wavelength=("x", scale, {"units": "Angstrom"}))
    figure = ar.plots.spectrum(known)
    flux, sky = figure.axes
    assert sky.get_xlabel() == "wavelength (Angstrom)"
    assert sky.get_xlim() == (scale.min(), scale.max())
    assert np.array_equal(flux.lines[0].get_xdata(), scale)
    ar.plots.png(figure)
    (above,) = flux.child_axes
    place, same = above.transData.transform((30, 0)), flux.transData.transform((scale[29], 0))
    assert place[0] == pytest.approx(same[0])
    assert all(1 <= tick <= 120 for tick in above.get_xticks())


def test_compared_spectra_are_drawn_as_they_are_and_named(spectrum: xr.Dataset) -> None:
    axes = ar.plots.compare({"one": spectrum, "$two_2$": 2 * spectrum[["flux"]]}).axes[0]
    assert np.array_equal(axes.lines[0].get_ydata(), spectrum.flux)
    assert np.array_equal(axes.lines[1].get_ydata(), 2 * spectrum.flux)
    assert texts(axes) == ["one", "$two_2$"]
    assert not any(text.get_parse_math() for text in axes.get_legend().get_texts())


def test_stacked_spectra_keep_apart(spectrum: xr.Dataset) -> None:
    spectra = dict.fromkeys("abc", spectrum)
    lines = ar.plots.compare(dict(spectra), stacked=True, normalised=True).axes[0].lines
    steps = [lines[i + 1].get_ydata() - lines[i].get_ydata() for i in range(1)]
    assert all(step.min() > 0 and np.ptp(step) < 1e-9 for step in steps)
    assert np.median(lines[0].get_ydata()) == pytest.approx(1.0)


def test_spectra_of_two_units_are_compared_only_by_shape(spectrum: xr.Dataset) -> None:
    other = spectrum.copy()
    other["flux"] = other["flux"].assign_attrs(units="electron")
    with pytest.raises(ar.UsageError, match="in ADU and in electron"):
        ar.plots.compare({"a": spectrum, "b": other})
    axes = ar.plots.compare({"a": spectrum, "b": other}, normalised=True).axes[0]
    assert axes.get_ylabel() == "Flux / median"


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(ar.UsageError, match="these are none"):
        ar.plots.compare({})


def test_the_signal_to_noise_is_that_of_each_column(spectrum: xr.Dataset) -> None:
    axes = ar.plots.noise(spectrum).axes[0]
    assert np.allclose(axes.lines[0].get_ydata(), spectrum.flux / np.sqrt(spectrum.variance))
    assert axes.lines[1].get_ydata()[0] == spectrum.attrs["snr"]


def test_without_noise_there_is_no_signal_to_noise(spectrum: xr.Dataset) -> None:
    with pytest.raises(ar.UsageError, match="no variance"):
        ar.plots.noise(spectrum.drop_vars("variance"))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_columns_without_flux_or_noise_leave_gaps(spectrum: xr.Dataset, value: float) -> None:
    broken = spectrum.copy(deep=True)
    broken["flux"][5:9], broken["variance"][40:50] = np.nan, value
    for draw in (ar.plots.spectrum, ar.plots.noise):
        assert ar.plots.png(draw(broken)).startswith(b"\x89PNG")
        assert "<svg" in ar.plots.svg(draw(broken))
    assert render.spark(broken["flux"].values).count("M") == 2


def test_a_spectrum_of_nothing_is_drawn(spectrum: xr.Dataset) -> None:
    empty = spectrum.copy(deep=True)
    empty["flux"][:] = np.nan
    for draw in (ar.plots.spectrum, ar.plots.noise, lambda s: ar.plots.compare({"a": s})):
        assert ar.plots.png(draw(empty)).startswith(b"\x89PNG")
