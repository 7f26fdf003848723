"""What changes in time is drawn at its time, with what is far off marked."""

from __future__ import annotations

import datetime
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.dates import num2date

import arrayred as ar
from arrayred.plots.panels import time_axis
from tests.plots.conftest import texts


def test_light_curve_and_shapes_are_those_of_the_frames(target: xr.DataTree) -> None:
    spectra = target["frames"].to_dataset()
    light, shapes = ar.plots.frames(spectra).axes
    sums = spectra.flux.sum("x").values
    assert np.allclose(light.lines[0].get_ydata(), sums / np.median(sums))
    assert np.array_equal(light.lines[0].get_xdata(), spectra.time_mid)
    assert texts(shapes) == list(spectra.frame.values)
    for i, line in enumerate(shapes.lines):
        one = spectra.flux.values[i]
        step = np.asarray(line.get_ydata()) - one / np.median(one)
        assert np.ptp(step) < 1e-9
        assert step[0] >= 0.1 * i


def test_the_bars_of_a_light_curve_are_exposure_and_noise(target: xr.DataTree) -> None:
    spectra = target["frames"].to_dataset()
    container = ar.plots.frames(spectra).axes[0].containers[0]
    across, upright = container.lines[2]
    length = np.diff(across.get_segments()[0][:, 0])[0]
    assert length * 86400 == pytest.approx(600.0)
    noise = np.diff(upright.get_segments()[0][:, 1])[0] / 2
    flux = spectra.flux.sum("x").values
    expected = np.sqrt(spectra.variance.sum("x").values[0]) / np.median(flux)
    assert noise == pytest.approx(expected)


def test_a_single_frame_has_no_light_curve(target: xr.DataTree) -> None:
    (shapes,) = ar.plots.frames(target["frames"].to_dataset().isel(frame=[1])).axes
    assert shapes.get_ylabel() == "Flux / median"


def test_each_quantity_has_a_panel_on_one_time_axis() -> None:
    times = np.datetime64("2020-11-02T23:00", "ns") + np.arange(6) * np.timedelta64(10, "m")
    quantities = {"dark level (ADU)": np.arange(6.0), "CCD_temp ($C$)": np.ones(6)}
    figure = ar.plots.drift(times, quantities)
    assert [axes.get_ylabel() for axes in figure.axes] == list(quantities)
    assert np.array_equal(figure.axes[0].lines[0].get_ydata(), np.arange(6.0))
    assert figure.axes[0].get_shared_x_axes().joined(*figure.axes)


@pytest.mark.parametrize("quantities", [{}, {"a": [1.0, 2.0]}, {"a": np.zeros((3, 3))}])
def test_quantities_unlike_the_times_are_refused(quantities: dict[str, Any]) -> None:
    with pytest.raises(ar.UsageError, match="the shape of the times"):
        ar.plots.drift(np.arange(3), quantities)


def test_the_history_of_a_pixel_is_its_counts_with_robust_scatter(folder: Path) -> None:
    cube = ar.open_frames(folder, chunks=16)
    darks = cube.sel(frame=cube.frame_type == "dark")
    axes = ar.plots.pixel_history(darks, 33, 44).axes[0]
    counts = darks.counts.sel(y=33, x=44).values.astype(float)
    assert np.array_equal(axes.lines[0].get_ydata(), counts)
    middle = np.median(counts)
    scatter = 1.4826 * np.median(np.abs(counts - middle))
    assert axes.lines[1].get_ydata()[0] == middle
    assert axes.patches[0].get_height() == pytest.approx(2 * scatter)
    assert texts(axes) == [f"median {middle:.1f}", f"robust scatter {scatter:.1f}"]


def test_frames_in_which_a_pixel_is_far_off_are_marked() -> None:
    counts = np.random.default_rng(5).normal(100.0, 2.0, (40, 3, 3))
    counts[[7, 21], 1, 2] = 160.0, 20.0
    cube = xr.Dataset({"counts": (("frame", "y", "x"), counts)})
    axes = ar.plots.pixel_history(cube, 2, 3).axes[0]
    assert list(axes.lines[-1].get_xdata()) == [8, 22]
    assert texts(axes)[-1] == "outliers > 5σ: 2"


@pytest.mark.parametrize(("y", "x", "name"), [(0, 1, "y"), (161, 1, "y"), (1, 121, "x")])
def test_a_pixel_off_the_frames_is_refused(folder: Path, y: int, x: int, name: str) -> None:
    with pytest.raises(ar.UsageError, match=f"is outside {name}=1:"):
        ar.plots.pixel_history(ar.open_frames(folder, chunks=16), y, x)


@pytest.mark.parametrize(
    "length", ["0s", "1s", "90s", "40m", "5h", "30h", "6D", "40D", "400D", "9000D"]
)
@pytest.mark.parametrize("most", [2, 8])
def test_ticks_are_few_and_within_the_axes_for_any_length(length: str, most: int) -> None:
    first = np.datetime64("2020-02-28T19:47:31", "ns")
    when = np.array([first, first + np.timedelta64(int(length[:-1]), length[-1])])  # type: ignore[call-overload]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        axis = time_axis(when, most=most)
        ar.plots.png(ar.plots.drift(when, {"a": [1.0, 2.0]}))
    shown = [tick for tick, _ in axis.ticks or () if axis.low <= tick <= axis.high]
    assert 1 <= len(shown) <= max(most, 3) + 1


def test_ticks_stand_at_the_time_they_name() -> None:
    when = np.array(["2020-11-02T22:10", "2020-11-03T02:40"], "M8[ns]")
    axes = ar.plots.drift(when, {"a": [1.0, 2.0]}).axes[0]
    names = [text.get_text() for text in axes.get_xticklabels()]
    assert names[:3] == ["22:00\n2020-11-02", "23:00", "00:00\n11-03"]
    at = [num2date(tick).replace(tzinfo=None) for tick in axes.get_xticks()]
    assert at[2] == datetime.datetime(2020, 11, 3)


def test_without_times_frames_are_numbered() -> None:
    axes = ar.plots.drift([1, 2, 3], {"a": [1.0, 2.0, 3.0]}).axes[0]
    assert axes.get_xlabel() == "frame"
