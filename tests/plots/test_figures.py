"""A figure is described once: paper and page show what its description says."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.plots import figures, paper
from arrayred.plots.panels import Axis, Curve, Level, Panel, Pixels, Points, Span
from arrayred.report import render
from tests.plots.conftest import NAME

Products = tuple[xr.Dataset, xr.Dataset]


def test_descriptions_need_no_renderer() -> None:
    script = (
        "import sys; import arrayred.plots.figures, arrayred.plots.figures\n"
        "import arrayred.report.pages\n"
        "assert not {'matplotlib', 'bokeh', 'panel'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_paper_and_page_have_the_limits_and_labels_of_the_description(products: Products) -> None:
    sheet = figures.quick_look(*products, NAME)
    shown = [chart for row in render.figure(sheet) for chart in row.charts]
    panels = [panel for row in sheet.rows for panel in row]
    for panel, chart, axes in zip(panels, shown, paper.draw(sheet).axes, strict=True):
        assert axes.get_xlim() == (panel.x.low, panel.x.high)
        assert axes.get_ylim() == (panel.y.low, panel.y.high)
        assert chart.title.lower() == panel.title.lower()
        labels = [getattr(mark, "label", "") for mark in panel.marks]
        assert [key.label for key in chart.keys] == list(filter(None, labels))
        assert set(axes.get_legend_handles_labels()[1]) == set(filter(None, labels))


def test_rows_beside_an_image_share_its_axis(products: Products) -> None:
    (image, rows), _ = figures.quick_look(*products, NAME).rows
    assert image.y is rows.y
    drawn = paper.draw(figures.quick_look(*products, NAME)).axes
    assert drawn[0].get_shared_y_axes().joined(drawn[0], drawn[1])


def test_a_row_far_above_the_threshold_bends_the_scale_of_the_means(products: Products) -> None:
    image, spectrum = products
    low = figures.profile(image, spectrum, threshold=1e9).rows[0][0]
    high = figures.profile(image, spectrum, threshold=50.0).rows[0][0]
    assert (low.y.scale, high.y.scale, high.y.width) == ("linear", "symlog", 100.0)


@pytest.mark.parametrize("scale", ["linear", "log", "symlog"])
def test_values_lie_where_matplotlib_draws_them(scale: str) -> None:
    axis = Axis("", 1.0, 1000.0, scale, 20.0)  # type: ignore[arg-type]
    values = np.array([1.0, 5.0, 20.0, 70.0, 1000.0])
    panel = Panel(axis, Axis(), (Curve(values, values * 0, "flux"),))
    axes = paper.draw(figures.Sheet(((panel,),), (4, 3))).axes[0]
    there = axes.transAxes.inverted().transform(
        axes.transData.transform(np.stack((values, values * 0), axis=1))
    )
    assert axis.place(values) == pytest.approx(there[:, 0])


def test_a_target_whose_facts_are_lost_is_described(products: Products) -> None:
    image, spectrum = products
    sheet = figures.quick_look(image, spectrum.assign_attrs(background_mean=np.nan), NAME)
    assert isinstance(sheet.rows[0][0].marks[0], Pixels)
    bare = spectrum.copy()
    bare.attrs = {}
    (shown, rows), _ = figures.quick_look(image, bare, NAME).rows
    assert not any(isinstance(mark, Curve | Level | Span) for mark in shown.marks)
    assert len(rows.marks) == 1


@dataclass(frozen=True)
class Timed:
    """A frame by what a run noted of it."""

    label: str
    kind: str
    exptime: float | None
    time: str
    temperature: float | None = -10.0


def test_darks_of_more_exposures_than_there_are_colours_share_one() -> None:
    frames = [Timed(str(i), "dark", float(i), f"2024-03-01T20:{i:02d}") for i in range(8)]
    frames.append(Timed("b", "bias", 0.0, "2024-03-01T21:00", None))
    sheet = figures.detector(frames, {frame.label: 1000.0 for frame in frames})
    assert sheet is not None
    (warm, dark), *_ = sheet.rows
    labels = [mark.label for mark in dark.marks if isinstance(mark, Points)]
    assert labels == [*(f"dark {i} s" for i in range(5)), "other darks", "bias"]
    assert sum(np.size(mark.x) for mark in dark.marks if isinstance(mark, Points)) == 9
    assert re.search("8 frames", warm.summary)
    assert figures.detector(frames[:1], {}) is None


def test_drawn_functions_keep_name_signature_and_documentation() -> None:
    assert ar.plots.image.__name__ == "image"
    assert "Draw an image" in (ar.plots.image.__doc__ or "")
    with pytest.raises(TypeError, match="colour"):
        ar.plots.image(None, colour="red")  # type: ignore[call-arg]
