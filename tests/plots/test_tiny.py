"""Thumbnails and sparklines are true to the numbers, small, and need no matplotlib."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

import arrayred as ar
from arrayred.plots.images import encode_png
from arrayred.plots.style import thinned

Products = tuple[xr.Dataset, xr.Dataset]


def picture(counts: np.ndarray, width: int = 160) -> np.ndarray:
    """Return the greys of a thumbnail, the first row below, as a library reads them."""
    content = ar.plots.thumbnail(xr.DataArray(counts, dims=("y", "x")), width=width)
    return np.asarray(imread(io.BytesIO(content)))[::-1]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((100, 200), (100, 100)),
        ((1024, 1536), (147, 154)),
        ((500, 20), (125, 20)),
        ((1, 1), (1, 1)),
    ],
)
def test_a_thumbnail_is_no_larger_than_asked(
    shape: tuple[int, int], expected: tuple[int, int]
) -> None:
    greys = picture(np.random.default_rng(0).normal(size=shape))
    assert greys.shape == expected
    assert max(greys.shape) <= 160


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32", "float64", ">u2"])
def test_a_thumbnail_is_bright_where_the_light_is(dtype: str) -> None:
    counts = np.full((300, 400), 10.0)
    counts[210:230] = 90.0
    greys = picture(counts.astype(dtype), 100)
    rows = greys.mean(axis=1)
    assert greys.shape == (100, 100)
    assert (rows.argmax() * 3 + 1) in range(210, 230)
    assert rows.max() - np.median(rows) > 0.4


def test_missing_pixels_are_black_in_a_thumbnail() -> None:
    counts = np.random.default_rng(1).normal(100.0, 1.0, (20, 30))
    counts[5:8] = np.nan
    greys = picture(counts)
    assert (greys[5:8] == 0).all()
    assert greys[10:].mean() > 0.2


@pytest.mark.parametrize("palette", [False, True])
def test_a_png_is_read_back_as_it_was_written(palette: bool) -> None:
    pixels = np.random.default_rng(2).integers(0, 7, (13, 31)).astype(np.uint8)
    colours = np.random.default_rng(3).integers(0, 256, (7, 4)).astype(np.uint8)
    content = encode_png(pixels, colours if palette else None)
    read = np.round(imread(io.BytesIO(content)) * 255)
    assert np.array_equal(read, colours[pixels] if palette else pixels)


def points(text: str) -> np.ndarray:
    (path,) = re.findall(r' d="([^"]*)"', text)
    return np.array(re.findall(r"[ML]([-.\d]+) ([-.\d]+)", path), float)


def test_a_sparkline_reaches_from_the_lowest_to_the_highest_flux(products: Products) -> None:
    places = points(ar.plots.sparkline(products[1], width=200, height=50))
    assert (places[:, 1].min(), places[:, 1].max()) == (1.0, 49.0)
    flux = products[1].flux.values
    highest = places[places[:, 1].argmin(), 0]
    assert highest == pytest.approx((flux.argmax() + 0.5) * 200 / flux.size, abs=0.1)
    assert 0 <= places[:, 0].min() <= places[:, 0].max() <= 200


def test_a_narrow_line_of_many_columns_stays_in_a_sparkline() -> None:
    flux = np.ones(8000)
    flux[5001] = 9.0
    text = ar.plots.sparkline(xr.DataArray(flux, dims="x"))
    assert points(text)[:, 1].min() == 1.0
    assert len(text) < 5_000


def test_a_sparkline_says_what_it_is_and_nothing_more() -> None:
    text = ar.plots.sparkline(xr.DataArray(np.arange(5.0), dims="x"), label='<a> "&" \x1b b')
    assert 'aria-label="&lt;a&gt; &quot;&amp;&quot; \\x1b b"' in text
    assert text.count("<") == 3


@pytest.mark.parametrize("keyword", ["width", "height"])
def test_a_size_of_nothing_is_refused(products: Products, keyword: str) -> None:
    with pytest.raises(ar.UsageError, match=f"{keyword} of 0"):
        ar.plots.sparkline(products[1], **{keyword: 0})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=300), st.floats(0.1, 40.0))
def test_a_thinned_line_keeps_the_range_of_each_step(heights: list[float], step: float) -> None:
    y = np.array(heights)
    x = np.arange(y.size) * 1.0
    keep = thinned(x, y, step)
    cells = np.floor(x / step)
    for cell in np.unique(cells):
        inside = cells == cell
        kept = y[keep][cells[keep] == cell]
        assert (kept.min(), kept.max()) == (y[inside].min(), y[inside].max())
    assert {0, y.size - 1} <= set(keep.tolist())
    assert (np.diff(keep) > 0).all()


def test_neither_importing_nor_tiny_ones_need_matplotlib() -> None:
    script = (
        "import sys, numpy as np, xarray as xr, arrayred as ar\n"
        "assert 'arrayred.plots' not in sys.modules\n"
        "ar.plots.thumbnail(xr.DataArray(np.eye(9), dims=('y', 'x')))\n"
        "ar.plots.sparkline(xr.DataArray(np.arange(9.0), dims='x'))\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
