"""Charts draw values where they are, whatever their number, gaps and ends."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.image import imread

from arrayred.plots.panels import (
    COLOURS,
    Area,
    Axis,
    Bars,
    Curve,
    Flags,
    Level,
    Panel,
    Pixels,
    Points,
    Span,
    Strokes,
    around,
    encode_png,
    ends_of,
    stretch_of,
    time_axis,
)
from arrayred.report import read, render

UNIT = Axis("", 0.0, 1.0)


def path_of(mark: Any, x: Axis, y: Axis) -> str:
    return render.stroke(mark, x, y).steps


def walked(path: str) -> list[list[tuple[int, int]]]:
    """Return the points of a path of moves and steps, a list for each piece."""
    pieces = []
    for piece in path.split("M")[1:]:
        start, _, steps = piece.partition("l")
        numbers = [int(n) for n in re.findall(r"-?\d+", steps)]
        points = [tuple(map(int, re.findall(r"-?\d+", start)))[:2]]
        for a, b in zip(numbers[::2], numbers[1::2], strict=True):
            points.append((points[-1][0] + a, points[-1][1] + b))
        pieces.append(points)
    return pieces  # type: ignore[return-value]


def test_a_line_runs_through_its_points() -> None:
    points, values = np.array([0.0, 0.25, 1.0]), np.array([0.0, 1.0, 0.5])
    drawn = walked(path_of(Curve(points, values, "flux"), UNIT, UNIT))
    assert drawn == [[(0, 1000), (500, 0), (2000, 500)]]


def test_a_line_is_broken_where_it_is_unknown() -> None:
    values = np.array([0.0, np.nan, 1.0, 0.5, np.inf, 1.0])
    drawn = walked(path_of(Curve(np.linspace(0, 1, 6), values, "flux"), UNIT, UNIT))
    assert drawn == [[(0, 1000)], [(800, 0), (1200, 500)], [(2000, 0)]]


@pytest.mark.parametrize("size", [801, 1536, 9999])
@pytest.mark.parametrize("where", [0.0, 0.31, 0.5, 0.999])
def test_no_line_of_one_column_is_lost(size: int, where: float) -> None:
    column = int(where * size)
    for value, row in ((1.0, 0), (-1.0, 1000)):
        flux = np.zeros(size)
        flux[column] = value
        curve = Curve(np.arange(size), flux, "flux")
        (drawn,) = walked(path_of(curve, Axis("", 0, size - 1), Axis("", -1.0, 1.0)))
        assert [p for p in drawn if p[1] == row] == [(round(2000 * column / (size - 1)), row)]
        assert len(drawn) <= 800


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=2, max_size=50))
@example([0.0, 5e-324])
@example([-1.7e308, 1.7e308])
def test_any_values_are_drawn_within_reach_of_the_box(values: list[float]) -> None:
    found = np.array(values)
    y = Axis("", *around(found))
    curve = Curve(np.arange(len(values)), found, "flux")
    for piece in walked(path_of(curve, Axis("", 0, len(values)), y)):
        assert all(-100 <= down <= 1100 for _, down in piece)


def test_a_band_goes_there_along_its_top_and_back_along_its_bottom() -> None:
    points = np.array([0.0, 0.5, 1.0])
    drawn = path_of(Area(points, points * 0, points * 0 + 0.5, "noise"), UNIT, UNIT)
    assert drawn == "M0 500l1000 0 1000 0L2000 1000l-1000 0-1000 0z".replace("0-1", "0 -1")


def test_rows_and_marks_lie_at_their_values() -> None:
    y = Axis("", 0.5, 100.5)
    rows, columns = (Span(10.5, 20.5, along, "sky") for along in ("y", "x"))
    assert path_of(rows, UNIT, y) == "M0 800h2000v100H0z"
    assert path_of(columns, y, UNIT) == "M200 0h200v1000h-200z"
    assert path_of(Level(50.5, "y", "sky"), UNIT, y) == "M0 500h2000"
    assert path_of(Level(25.5, "x", "threshold"), y, UNIT) == "M500 0v1000"
    strokes = Strokes(np.array([25.5, 25.5]), "flag-saturated", "", 0.02)
    assert path_of(strokes, y, UNIT) == "M500 993v-26"


def test_bars_are_boxes_in_their_lanes() -> None:
    names = Axis("", 1.6, -0.6, ticks=((0, "dark"), (1, "light")), kind="names")
    bars = Bars(np.array([0.0, 0.5]), np.array([0.25, 1.0]), np.array([0, 1]), "light")
    assert path_of(bars, UNIT, names) == "M0 114h500v318H0zM1000 568h1000v318H1000z"


def test_flagged_pixels_are_laid_over_their_image_and_explained() -> None:
    mask = np.eye(5, dtype=bool)
    pixels = Pixels(np.ones((5, 5)), (0.5, 5.5, 0.5, 5.5), stretch_of(np.ones((5, 5))))
    flags = Flags((("flag-saturated", mask, "saturated: 5 pixels"),), (0.5, 5.5, 0.5, 5.5))
    assert len(render.chart(Panel(UNIT, UNIT, (pixels, flags))).images) == 2
    assert render.dots(flags) != render.dots(Flags(((*flags.masks[0][:1], ~mask, ""),), (0,) * 4))


def test_dots_leave_out_what_is_unknown() -> None:
    values = np.array([0.5, np.nan])
    assert path_of(Points(np.array([0.5, 1.0]), values, "light"), UNIT, UNIT) == "M1000 500h0"


@given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e12))
@example(3602879702.203125, 1e-06)
def test_ticks_are_few_round_and_within(low: float, width: float) -> None:
    axis = Axis("", *ends_of([low, low + width]))
    ticks = render.ticks(axis)
    assert len(ticks) <= 8
    assert all(-1e-9 <= p <= 1 + 1e-9 for p in axis.place([value for value, _ in ticks]))


def test_a_bent_axis_is_linear_within_its_width_and_holds_what_is_bright() -> None:
    axis = Axis("", -10.0, 10_000.0, "symlog", 100.0)
    places = axis.place([-10, 0, 10, 10_000])
    assert places[0] == 0
    assert places[3] == 1
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], rel=1e-3)
    assert [text for _, text in render.ticks(axis)] == ["0", "1000", "10000"]


def test_the_day_stands_below_the_time_where_it_changes() -> None:
    start = np.datetime64("2024-03-01T20:00")
    x = time_axis(np.array([start, start + np.timedelta64(6, "h")]))
    drawn = render.chart(Panel(x, UNIT, (), name="drift"))
    names = [(label.text, label.day) for label in drawn.labels if label.side == "x"]
    assert names[0] == ("20:00", "2024-03-01")
    assert names[4] == ("00:00", "03-02")
    assert x.place(start) > 0


@pytest.mark.parametrize("values", [[], [np.nan], [3.0], [3.0, 3.0], [0.0]])
def test_an_axis_about_nothing_is_an_axis(values: list[float]) -> None:
    axis = Axis("", *around(np.array(values)))
    assert axis.high > axis.low
    assert np.isfinite(axis.place(3.0))


def test_a_spark_shows_the_shape_of_a_spectrum_in_few_bytes() -> None:
    flux = np.sin(np.arange(4096) / 300) + np.random.default_rng(0).normal(0, 0.05, 4096)
    (drawn,) = walked(render.spark(flux))
    assert (min(d for _, d in drawn), max(d for _, d in drawn)) == (1, 29)
    assert len(render.spark(flux)) < 600
    assert render.spark(np.full(9, np.nan)) == ""


@pytest.mark.parametrize("role", COLOURS)
def test_each_role_has_a_colour_in_both_themes(role: str) -> None:
    assert re.search(rf"\.{role}\b", read("style.css"))


@pytest.mark.parametrize("palette", [False, True])
def test_a_png_is_read_back_as_it_was_written(palette: bool) -> None:
    pixels = np.random.default_rng(2).integers(0, 7, (13, 31)).astype(np.uint8)
    colours = np.random.default_rng(3).integers(0, 256, (7, 4)).astype(np.uint8)
    content = encode_png(pixels, colours if palette else None)
    read_back = np.round(imread(io.BytesIO(content)) * 255)
    assert np.array_equal(read_back, colours[pixels] if palette else pixels)
