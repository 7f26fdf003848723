"""Charts of a page: a box of pictures and lines, labelled in HTML: `chart` and what goes into it.

What is drawn is stretched to its box, and the box to the screen; strokes keep their width and
labels their size, since those are HTML at so many percent of the box. Colours are classes of the
style sheet. Coordinates are whole numbers of a grid of 2000 x 1000, each line one path of steps:
some 5 bytes a point. A line of more points than a screen has columns is drawn by the lowest and the
highest of each run, so that no narrow line of a spectrum is lost.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from arrayred.report.axes import Axis, Values
from arrayred.report.html import Markup, joined, picture, tag

_WIDTH, _HEIGHT = 2000, 1000
_MOST_RUNS = 400
"""Runs of points that a line is drawn by."""
_SPARK_RUNS = 48


def chart(
    kind: str,
    x: Axis,
    y: Axis,
    marks: Iterable[Markup],
    told: str,
    *,
    png: bytes = b"",
) -> Markup:
    """Return a chart.

    Parameters
    ----------
    kind : classes of the style sheet that set its shape, parted by points.
    x, y : its axes; an axis without label has ticks but no numbers.
    marks : what is drawn, the last on top.
    told : what it shows, for who does not see it.
    png : a picture that fills the box beneath the marks.
    """
    drawing = tag(
        "svg",
        _grid(x, y),
        marks,
        attributes={
            "viewBox": f"0 0 {_WIDTH} {_HEIGHT}",
            "preserveAspectRatio": "none",
            "role": "img",
            "aria-label": told,
        },
    )
    under = [picture(png, "")] if png else []
    labels = [*_labels(x, "x"), *_labels(y, "y")]
    return tag(f"div.chart.{kind}", tag("div.box", under, drawing, labels))


def _labels(axis: Axis, side: str) -> list[Markup]:
    """Return the numbers and the name of an axis; nothing where it has no name."""
    if not axis.label:
        return []
    places = axis.place([value for value, _ in axis.ticks]) * 100
    where = "left" if side == "x" else "bottom"
    ticks = [
        tag(f"span.{side}", text, attributes={"style": f"{where}:{place:.4g}%"})
        for (_, text), place in zip(axis.ticks, places, strict=True)
    ]
    return [*ticks, tag(f"span.{side}-name", axis.label)]


def spark_path(values: Values) -> str:
    """Return the shape of a spectrum as a path in a box of 120 x 30: some 400 bytes.

    Examples
    --------
    >>> spark_path(np.array([0.0, 2.0, 1.0]))
    'M0 29l60-28 60 14'
    """
    finite = values[np.isfinite(values)]
    if not finite.size or values.size < 2:
        return ""
    low, high = float(finite.min()), float(finite.max())
    places, thin = _thinned(np.linspace(0, 120, values.size), values, _SPARK_RUNS)
    down = 29 - 28 * (thin - low) / ((high - low) or 1.0)
    return _steps(np.rint(places), np.rint(down))


def spark(path: str, told: str) -> Markup:
    """Return a path of `spark_path` as a drawing of a line's height."""
    return tag(
        "svg.spark",
        _path("flux", path),
        attributes={
            "viewBox": "0 0 120 30",
            "preserveAspectRatio": "none",
            "role": "img",
            "aria-label": told,
        },
    )


def _grid(x: Axis, y: Axis) -> Markup:
    """Return faint lines at the ticks."""
    across = (f"M0 {round((1 - p) * _HEIGHT)}h{_WIDTH}" for p in y.place([t for t, _ in y.ticks]))
    upright = (f"M{round(p * _WIDTH)} 0v{_HEIGHT}" for p in x.place([t for t, _ in x.ticks]))
    return _path("grid", "".join((*across, *upright)))


def _path(kind: str, steps: str) -> Markup:
    return tag(f"path.{kind}", attributes={"d": steps})


def line(kind: str, x: Axis, y: Axis, points: Values, values: Values) -> Markup:
    """Return a line through points and values, broken where they are not finite."""
    points, values = _thinned(points, values)
    return _path(kind, _steps(*_on_grid(x, y, points, values)))


def profile(kind: str, x: Axis, y: Axis, places: Values, values: Values) -> Markup:
    """Return a line of values, along x, at places along y: it runs upwards."""
    places, values = _thinned(places, values)
    return _path(kind, _steps(*_on_grid(x, y, values, places)))


def band(kind: str, x: Axis, y: Axis, points: Values, low: Values, high: Values) -> Markup:
    """Return the area between two curves, where both are finite, in runs of their extremes."""
    known = np.isfinite(low) & np.isfinite(high)
    points, low, high = points[known], low[known], high[known]
    if not points.size:
        return joined()
    starts = _starts(points.size)
    edges = np.append(starts, points.size)[1:]
    centers = (points[starts] + points[edges - 1]) / 2
    lower, upper = np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)
    there = _steps(*_on_grid(x, y, centers, upper))
    back = _steps(*_on_grid(x, y, centers[::-1], lower[::-1]))
    return _path(kind, f"{there}L{back.removeprefix('M')}z" if "l" in there else "")


def rows(kind: str, y: Axis, first: float, last: float) -> Markup:
    """Return a band across the whole width, between two values."""
    low, high = (float(place) for place in np.clip(y.place([first, last]), 0, 1))
    top, height = round((1 - high) * _HEIGHT, 1), round((high - low) * _HEIGHT, 1)
    return _path(kind, f"M0 {top:g}h{_WIDTH}v{height:g}H0z")


def across(kind: str, y: Axis, value: float) -> Markup:
    """Return a line across the whole width."""
    return _path(kind, f"M0 {round((1 - float(y.place(value))) * _HEIGHT, 1):g}h{_WIDTH}")


def upright(kind: str, x: Axis, value: float) -> Markup:
    """Return a line over the whole height."""
    return _path(kind, f"M{round(float(x.place(value)) * _WIDTH, 1):g} 0v{_HEIGHT}")


def dots(kind: str, x: Axis, y: Axis, points: Values, values: Values) -> Markup:
    """Return a dot at each finite point: a stroke of no length, whose ends are round."""
    across, down = _on_grid(x, y, points, values)
    known = np.isfinite(across) & np.isfinite(down)
    pairs = zip(across[known].astype(int), down[known].astype(int), strict=True)
    return _path(kind, "".join(f"M{a} {d}h0" for a, d in pairs))


def ticks(kind: str, x: Axis, points: Values, level: float) -> Markup:
    """Return short upright strokes at points, so far up as a level from 0 to 1 says."""
    places = sorted({round(float(p) * _WIDTH) for p in x.place(points)})
    bottom = round((1 - level) * _HEIGHT)
    return _path(kind, "".join(f"M{p} {bottom}v-26" for p in places))


def _on_grid(x: Axis, y: Axis, points: Values, values: Values) -> tuple[Values, Values]:
    """Return points and values on the grid, whole numbers, somewhat beyond the box at most."""
    known = np.isfinite(points) & np.isfinite(values)
    across = np.clip(x.place(points), -0.1, 1.1) * _WIDTH
    down = (1 - np.clip(y.place(values), -0.1, 1.1)) * _HEIGHT
    return np.where(known, np.rint(across), np.nan), np.where(known, np.rint(down), np.nan)


def _steps(across: Values, down: Values) -> str:
    """Return a path as steps from point to point, anew behind each gap."""
    known = np.isfinite(across) & np.isfinite(down)
    pieces = []
    for first, stop in _runs(known):
        right, low = across[first:stop].astype(int), down[first:stop].astype(int)
        steps = zip(np.diff(right).tolist(), np.diff(low).tolist(), strict=True)
        moves = "".join(f"{a}{' ' if b >= 0 else ''}{b} " for a, b in steps)
        pieces.append(f"M{right[0]} {low[0]}" + (f"l{moves.rstrip()}" if moves else "h0"))
    return "".join(pieces)


def _runs(known: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], known, [False])).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _starts(size: int, most: int = _MOST_RUNS) -> NDArray[np.intp]:
    """Return where runs of a line begin."""
    return np.unique(np.linspace(0, size, min(size, most) + 1)[:-1].astype(np.intp))


def _thinned(points: Values, values: Values, most: int = _MOST_RUNS) -> tuple[Values, Values]:
    """Return a line by the lowest and the highest value of each run, in their order."""
    if points.size <= 2 * most:
        return points, values
    chosen: list[int] = []
    starts = _starts(points.size, most)
    for first, stop in zip(starts, np.append(starts[1:], points.size), strict=True):
        run = values[first:stop]
        if not np.isfinite(run).all():
            chosen.extend(range(int(first), int(stop)))
            continue
        chosen.extend(sorted({int(first + np.argmin(run)), int(first + np.argmax(run))}))
    return points[chosen], values[chosen]
