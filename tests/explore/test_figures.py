"""The image and its bands count pixels as FITS does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from bokeh.models import GlyphRenderer, LinearColorMapper

from arrayred.explore.figures import PALETTES, Bands, ImageView, Window

Dragged = list[tuple[str, tuple[int, int]]]


@pytest.fixture
def dragged() -> Dragged:
    return []


@pytest.fixture
def view(dragged: Dragged) -> ImageView:
    made = ImageView(lambda kind, rows: dragged.append((kind, rows)))
    made.fit((160, 120), (1, 1))
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
    view.mark(Bands((10, 20), ()), is_turned=False)
    box = band(view, "rows")
    assert (box.visible, box.bottom, box.top, dragged) == (True, 9.5, 20.5, [])
    box.update(bottom=14.7, top=25.7)
    assert dragged[-1] == ("rows", (15, 25))


def test_a_band_cannot_be_dragged_to_rows_that_are_none(view: ImageView, dragged: Dragged) -> None:
    view.mark(Bands((10, 20), ((30, 40),)), is_turned=False)
    band(view, "sky").update(bottom=-9.0, top=-4.0)
    assert dragged[-1] == ("sky", (1, 1))


def test_bands_of_a_spectrum_along_the_columns_stand_upright(
    view: ImageView, dragged: Dragged
) -> None:
    view.mark(Bands((10, 20), ()), is_turned=True)
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
