"""The image and its bands count pixels as FITS does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr
from bokeh.models import GlyphRenderer, LinearColorMapper

from arrayred.explore import PALETTES, ImageView, PanelView, Window
from arrayred.plots.figures import extraction, span_of
from arrayred.plots.panels import (
    COLOURS,
    Area,
    Axis,
    Bars,
    Curve,
    Level,
    Mark,
    Panel,
    Points,
    Span,
    Strokes,
    time_axis,
)

ROWS_AND_SKY = span_of((10, 20), "y", "aperture"), span_of((30, 40), "y", "sky")
Dragged = list[tuple[str, tuple[int, int]]]


@pytest.fixture
def dragged() -> Dragged:
    return []


@pytest.fixture
def view(dragged: Dragged) -> ImageView:
    made = ImageView(lambda kind, rows: dragged.append((kind, rows)))
    made.fit((0.5, 120.5, 0.5, 160.5))
    return made


def band(view: ImageView, name: str) -> Any:
    """Return the first band of a name."""
    return next(box for box in view.figure.center if box.name == name)


def test_the_axes_span_all_pixels_and_their_middles_are_whole_numbers(view: ImageView) -> None:
    x, y = view.figure.x_range, view.figure.y_range
    assert (x.start, x.end, y.start, y.end) == (0.5, 120.5, 0.5, 160.5)
    assert view.window((160, 120), (1, 1)) == Window(0, 160, 0, 120)


def test_what_is_zoomed_into_is_the_window(view: ImageView) -> None:
    view.figure.x_range.update(start=10.5, end=20.5)
    assert view.window((160, 120), (1, 1)) == Window(0, 160, 10, 20)


@pytest.mark.parametrize("first", [(1, 1), (101, 51)])
def test_blocks_lie_where_their_pixels_are(view: ImageView, first: tuple[int, int]) -> None:
    view.show(np.ones((5, 4), np.uint8), Window(10, 20, 40, 48), first, 2)
    data = view.figure.select_one(GlyphRenderer).data_source.data
    place = [data[name][0] for name in ("x", "y", "dw", "dh")]
    assert place == [first[1] + 40 - 0.5, first[0] + 10 - 0.5, 8, 10]


def test_a_band_covers_its_rows_and_tells_where_it_is_dragged(
    view: ImageView, dragged: Dragged
) -> None:
    view.mark((span_of((10, 20), "y", "aperture"),), is_turned=False)
    box = band(view, "rows")
    assert (box.visible, box.bottom, box.top, dragged) == (True, 9.5, 20.5, [])
    box.update(bottom=14.7, top=25.7)
    assert dragged[-1] == ("rows", (15, 25))


def test_a_band_cannot_be_dragged_to_rows_that_are_none(view: ImageView, dragged: Dragged) -> None:
    view.mark(ROWS_AND_SKY, is_turned=False)
    band(view, "sky").update(bottom=-9.0, top=-4.0)
    assert dragged[-1] == ("sky", (1, 1))


def test_bands_of_a_spectrum_along_the_columns_stand_upright(
    view: ImageView, dragged: Dragged
) -> None:
    view.mark((span_of((10, 20), "y", "aperture"),), is_turned=True)
    box = band(view, "rows")
    assert (box.left, box.right, box.bottom, box.top) == (9.5, 20.5, 0.5, 160.5)
    box.update(left=29.5, right=40.5)
    assert dragged[-1] == ("rows", (30, 40))


def test_what_has_no_data_has_a_colour_of_its_own(view: ImageView) -> None:
    for name in PALETTES:
        view.colour(name)
        colours = view.figure.select_one(LinearColorMapper).palette
        assert len(colours) == 256
        assert colours[0] not in colours[1:]


def test_rows_that_were_not_extracted_are_shown_but_not_dragged(
    view: ImageView, dragged: Dragged
) -> None:
    others = [span_of((first, first + 5), "y", "other") for first in (40, 60, 80)]
    view.mark(others, is_turned=False)
    shown = [box for box in view.figure.center if box.name == "other"]
    assert [(box.bottom, box.editable) for box in shown] == [(39.5, False), (59.5, False),
                                                             (79.5, False)]  # fmt: skip
    view.mark((), is_turned=False)
    assert not any(box.visible for box in shown)


LINE = np.arange(3.0)
MARKS: tuple[Mark, ...] = (
    Curve(LINE, LINE, "flux", "flux"),
    Points(LINE, LINE, "light", error=LINE),
    Area(LINE, LINE - 1, LINE + 1, "noise", "3 sigma"),
    Span(0.5, 1.5, "x", "aperture"),
    Span(0.5, 1.5, "y", "sky"),
    Level(1.0, "y", "threshold", "threshold 1.0"),
    Strokes(LINE, "flag-saturated", "saturated: 3 columns", 0.02),
    Bars(LINE, LINE + 1, np.array([0, 0, 1]), "dark"),
)


def test_every_mark_is_drawn_and_keeps_its_place_when_its_values_change() -> None:
    view = PanelView()
    x, y = Axis("column", 0.0, 2.0), Axis("flux (adu)", -1.0, 3.0)
    view.show(Panel(x, y, MARKS))
    before = list(view.figure.renderers)
    assert len(before) == len(MARKS) + 1
    assert (view.figure.x_range.start, view.figure.y_range.end) == (0.0, 3.0)
    labels = [item.label.value for item in view.figure.legend[0].items]
    assert labels == ["flux", "3 sigma", "threshold 1.0", "saturated: 3 columns"]
    view.show(Panel(x, y, (Curve(LINE, 2 * LINE, "flux", "flux"), *MARKS[1:])))
    assert view.figure.renderers == before
    assert list(before[0].data_source.data["y"]) == [0.0, 2.0, 4.0]
    view.show(None)
    assert (view.figure.renderers, view.figure.legend[0].items) == ([], [])


def test_time_is_told_by_its_own_ticks() -> None:
    view, when = PanelView(), np.array(["2020-11-02T22:10", "2020-11-03T02:40"], "M8[s]")
    axis = time_axis(when)
    view.show(Panel(axis, Axis(), (Points(when, LINE[:2], "light"),)))
    assert view.figure.xaxis[0].ticker.ticks == [at for at, _ in axis.ticks or ()]
    assert "23:00" in view.figure.xaxis[0].major_label_overrides.values()


def test_a_role_has_the_colour_that_it_has_in_all_figures(view: ImageView) -> None:
    view.mark(ROWS_AND_SKY, is_turned=False)
    assert band(view, "rows").line_color == COLOURS["aperture"] == COLOURS["flux"]
    assert band(view, "sky").line_color == COLOURS["sky"]
    x, one = np.arange(1, 5), np.ones(4)
    columns = {"flux": one, "counts_mean": one, "counts_mean_sky_subtracted": one}
    spectrum = xr.Dataset({n: ("x", v) for n, v in columns.items()}, {"x": x}, {"n_rows": 3})
    shown = PanelView()
    shown.show(extraction(spectrum))
    colours = {drawn.source.name: drawn.glyphs[0].glyph.line_color for drawn in shown.drawn}
    assert colours["extracted flux"] == COLOURS["flux"]
    assert len({*colours.values(), COLOURS["sky"]}) == 4


def test_figures_take_the_colour_of_the_page(view: ImageView) -> None:
    for figure in (view.figure, view.row_cut.figure, PanelView().figure):
        assert (figure.background_fill_color, figure.border_fill_color) == (None, None)


def test_a_logarithmic_axis_is_drawn_on_a_linear_one_with_its_own_numbers() -> None:
    axis = Axis("counts", -10.0, 1e5, "symlog", 100.0, ((0.0, "0"), (1e4, "10k")))
    x, counts = np.arange(1, 4), np.array([0.0, 100.0, 1e5])
    marks = Curve(x, counts, "arc"), Strokes(x, "line", "", 0.5, ("a", "b", "c"))
    shown = PanelView(hover=True)
    shown.show(Panel(Axis("column", 1.0, 3.0), axis, marks))
    assert (shown.figure.y_range.start, shown.figure.y_range.end) == (0.0, 1.0)
    curve, strokes = (drawn.source.data for drawn in shown.drawn)
    np.testing.assert_allclose(curve["y"], axis.place(counts))
    np.testing.assert_array_equal(curve["value"], counts)
    assert (list(strokes["y"]), strokes["names"]) == ([0.5] * 3, ["a", "b", "c"])
    (ticker,) = {tuple(a.ticker.ticks) for a in shown.figure.yaxis}
    names = shown.figure.yaxis[0].major_label_overrides
    assert [names[tick] for tick in ticker] == ["0", "10k"]
