"""Charts draw values where they are, whatever their number, gaps and ends."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from arrayred.report import charts
from arrayred.report.charts import Axis, around, bent, linear, seconds_of, times

UNIT = Axis("", 0.0, 1.0)


def path_of(markup: str) -> str:
    found = re.search(r' d="([^"]*)"', markup)
    assert found is not None
    return found[1]


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
    drawn = walked(path_of(charts.line("flux", UNIT, UNIT, points, values)))
    assert drawn == [[(0, 1000), (500, 0), (2000, 500)]]


def test_a_line_is_broken_where_it_is_unknown() -> None:
    values = np.array([0.0, np.nan, 1.0, 0.5, np.inf, 1.0])
    drawn = walked(path_of(charts.line("flux", UNIT, UNIT, np.linspace(0, 1, 6), values)))
    assert drawn == [[(0, 1000)], [(800, 0), (1200, 500)], [(2000, 0)]]


@pytest.mark.parametrize("size", [801, 1536, 9999])
@pytest.mark.parametrize("where", [0.0, 0.31, 0.5, 0.999])
def test_no_line_of_one_column_is_lost(size: int, where: float) -> None:
    column = int(where * size)
    for value, row in ((1.0, 0), (-1.0, 1000)):
        flux = np.zeros(size)
        flux[column] = value
        y = linear("", -1.0, 1.0)
        x = linear("", 0, size - 1)
        (drawn,) = walked(path_of(charts.line("flux", x, y, np.arange(size) * 1.0, flux)))
        assert [p for p in drawn if p[1] == row] == [(round(2000 * column / (size - 1)), row)]
        assert len(drawn) <= 800


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=2, max_size=50))
@example([0.0, 5e-324])
@example([-1.7e308, 1.7e308])
def test_any_values_are_drawn_within_reach_of_the_box(values: list[float]) -> None:
    found = np.array(values)
    y = around("", found)
    drawn = charts.line("flux", linear("", 0, len(values)), y, np.arange(len(values)) * 1.0, found)
    for piece in walked(path_of(drawn)):
        assert all(-100 <= down <= 1100 for _, down in piece)


def test_a_band_goes_there_along_its_top_and_back_along_its_bottom() -> None:
    points = np.array([0.0, 0.5, 1.0])
    drawn = path_of(charts.band("noise", UNIT, UNIT, points, points * 0, points * 0 + 0.5))
    assert drawn == "M0 500l1000 0 1000 0L2000 1000l-1000 0-1000 0z".replace("0-1", "0 -1")


def test_rows_and_marks_lie_at_their_values() -> None:
    y = linear("", 0.5, 100.5)
    assert path_of(charts.rows("sky", y, 10.5, 20.5)) == "M0 800h2000v100H0z"
    assert path_of(charts.across("zero", y, 50.5)) == "M0 500h2000"
    assert path_of(charts.upright("threshold", y, 25.5)) == "M500 0v1000"


def test_dots_leave_out_what_is_unknown() -> None:
    values = np.array([0.5, np.nan])
    assert path_of(charts.dots("a", UNIT, UNIT, np.array([0.5, 1.0]), values)) == "M1000 500h0"


@given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e12))
def test_ticks_are_few_round_and_within(low: float, width: float) -> None:
    axis = linear("", low, low + width)
    assert len(axis.ticks) <= 8
    assert all(-1e-9 <= p <= 1 + 1e-9 for p in axis.place([value for value, _ in axis.ticks]))


def test_a_bent_axis_is_linear_within_its_width_and_holds_what_is_bright() -> None:
    axis = bent("", -10.0, 10_000.0, 100.0)
    places = axis.place([-10, 0, 10, 10_000])
    assert places[0] == 0
    assert places[3] == 1
    assert places[1] - places[0] == pytest.approx(places[2] - places[1], rel=1e-3)
    assert [text for _, text in axis.ticks] == ["0", "1000", "10000"]


@pytest.mark.parametrize(
    ("hours", "ticks"),
    [
        (0.5, ["20:00", "20:05", "20:10", "20:15", "20:20", "20:25", "20:30"]),
        (6, ["20:00", "21:00", "22:00", "23:00", "03-02", "01:00", "02:00"]),
        (24 * 30, [f"2024-03-{day:02d}" for day in (3, 8, 13, 18, 23, 28)]),
    ],
)
def test_time_is_told_by_the_clock_and_long_times_by_the_calendar(
    hours: float, ticks: list[str]
) -> None:
    start = datetime(2024, 3, 1, 20)
    axis = times("UTC", start, start + timedelta(hours=hours), n_ticks=7)
    assert [text for _, text in axis.ticks] == ticks
    assert axis.place(seconds_of(start)) > 0


@pytest.mark.parametrize("values", [[], [np.nan], [3.0], [3.0, 3.0], [0.0]])
def test_an_axis_about_nothing_is_an_axis(values: list[float]) -> None:
    axis = around("", np.array(values))
    assert axis.high > axis.low
    assert np.isfinite(axis.place(3.0))


def test_a_spark_shows_the_shape_of_a_spectrum_in_few_bytes() -> None:
    flux = np.sin(np.arange(4096) / 300) + np.random.default_rng(0).normal(0, 0.05, 4096)
    (drawn,) = walked(charts.spark_path(flux))
    assert (min(d for _, d in drawn), max(d for _, d in drawn)) == (1, 29)
    assert len(charts.spark_path(flux)) < 600
    assert charts.spark_path(np.full(9, np.nan)) == ""
