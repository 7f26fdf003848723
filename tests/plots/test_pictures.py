"""Pictures show counts under their FITS numbers, where the spectrum says its rows are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_hex

import arrayred as ar
from arrayred.model import BAD_PIXEL, COSMIC_RAY, SATURATED
from arrayred.plots.figures import _shortened
from arrayred.plots.panels import FLAG_COLOURS, SKY_BLUE, VERMILION, reduced, stretch_of
from tests.plots.conftest import texts

Products = tuple[xr.Dataset, xr.Dataset]


def test_the_aperture_follows_the_trace_between_the_bands_of_sky(products: Products) -> None:
    image, spectrum = products
    low, high, *sky = ar.plots.image(image, spectrum).axes[0].lines
    center, half = spectrum["trace"].values, spectrum.attrs["half_height"]
    assert np.allclose(low.get_ydata(), center - half)
    assert np.allclose(high.get_ydata(), center + half)
    told = [spectrum.attrs["sky_below"], spectrum.attrs["sky_above"]]
    edges = [edge for first, last in told for edge in (first - 0.5, last + 0.5)]
    assert [line.get_ydata()[0] for line in sky[:4]] == edges
    assert [to_hex(line.get_color()) for line in (low, sky[0])] == [
        colour.lower() for colour in (VERMILION, SKY_BLUE)
    ]


def test_the_picture_of_a_small_image_is_its_counts(products: Products) -> None:
    (shown, *_) = ar.plots.image(products[0], flags=False).axes[0].images
    assert np.array_equal(shown.get_array(), products[0].counts)
    assert shown.get_extent() == [0.5, 120.5, 0.5, 160.5]


def test_a_part_of_an_image_keeps_its_numbers(products: Products) -> None:
    part = products[0].sel(y=slice(31, 90), x=slice(11, 100))
    axes = ar.plots.image(part).axes[0]
    assert (axes.get_xlim(), axes.get_ylim()) == ((10.5, 100.5), (30.5, 90.5))


def test_flags_are_coloured_where_they_are_and_counted(products: Products) -> None:
    flags = np.zeros(products[0].counts.shape, np.uint8)
    flags[3, 5], flags[7, 9:12], flags[20, 30] = BAD_PIXEL, COSMIC_RAY, SATURATED
    image = products[0].assign(dq=(("y", "x"), flags))
    axes = ar.plots.image(image).axes[0]
    dots = np.asarray(axes.images[1].get_array())
    assert np.array_equal(dots[..., 3] > 0, flags > 0)
    assert to_hex(dots[7, 10]) == FLAG_COLOURS[COSMIC_RAY].lower()
    assert texts(axes) == ["bad pixel: 1 pixel", "saturated: 1 pixel", "cosmic ray: 3 pixels"]
    assert len(ar.plots.image(image, flags=False).axes[0].images) == 1


def test_an_image_dispersed_along_columns_is_turned_to_its_spectrum(products: Products) -> None:
    image, spectrum = products
    along = image.rename(x="y", y="x").transpose("y", "x").assign_coords(dispersion_axis=2)
    one, other = (ar.plots.image(each, spectrum) for each in (image, along))
    assert ar.plots.png(one) == ar.plots.png(other)


def test_white_and_black_are_the_percentiles(products: Products) -> None:
    shown = ar.plots.image(products[0], stretch=(5, 90)).axes[0].images[0]
    counts = products[0].counts.values
    assert (shown.norm.vmin, shown.norm.vmax) == pytest.approx(
        tuple(np.percentile(counts, (5, 90)))
    )


@pytest.mark.parametrize("stretch", [(50, 50), (90, 10), (-1, 99), (1, 101)])
def test_a_stretch_that_makes_no_sense_is_refused(
    products: Products, stretch: tuple[float, float]
) -> None:
    with pytest.raises(ar.UsageError, match="increasing numbers"):
        ar.plots.image(products[0], stretch=stretch)


@pytest.mark.parametrize("value", [0.0, 1e6, -3.5, np.nan])
def test_an_even_image_is_drawn(value: float) -> None:
    image = xr.DataArray(np.full((20, 30), value), dims=("y", "x"))
    assert ar.plots.png(ar.plots.image(image)).startswith(b"\x89PNG")


def test_the_grey_of_counts_rises_from_black_to_white() -> None:
    counts = np.random.default_rng(1).normal(1000.0, 5.0, (50, 60))
    stretch = stretch_of(counts)
    greys = stretch.grey(np.linspace(stretch.low - 9, stretch.high + 9, 99))
    assert (greys[0], greys[-1]) == (0.0, 1.0)
    assert (np.diff(greys) >= 0).all()
    shown = ar.plots.image(xr.DataArray(counts, dims=("y", "x"))).axes[0].images[0]
    assert shown.norm(stretch.level) == pytest.approx(float(stretch.grey(np.array(stretch.level))))


def test_greys_are_linear_within_twice_the_noise_about_the_sky() -> None:
    counts = np.random.default_rng(4).normal(1000.0, 5.0, (50, 60))
    counts[20:22] = 30_000.0
    stretch = stretch_of(counts)
    scatter = 1.4826 * np.median(np.abs(counts - np.median(counts)))
    assert (stretch.level, stretch.width) == pytest.approx((np.median(counts), 2 * scatter))
    assert stretch.grey(np.array(1000.0 + 2 * scatter)) - stretch.grey(np.array(1000.0)) > 0.08


def test_the_ticks_of_a_scale_are_within_it_and_differ() -> None:
    for level, noise in ((0.0, 1.0), (1e4, 0.01), (-30.0, 1e-6), (5.0, 1e5)):
        stretch = stretch_of(np.random.default_rng(2).normal(level, noise, (40, 50)))
        ticks = stretch.ticks()
        assert len(set(ticks)) == 5
        assert stretch.low < min(ticks) < max(ticks) < stretch.high


@pytest.mark.parametrize("shape", [(37, 41), (10, 10), (1, 300), (64, 3)])
def test_a_reduced_image_has_the_means_of_its_blocks(shape: tuple[int, int]) -> None:
    counts = np.random.default_rng(3).normal(size=shape)
    counts[0, 0] = np.nan
    small = reduced(counts, 10, 12)
    high, wide = (-(-n // -(-n // most)) for n, most in zip(shape, (10, 12), strict=True))
    assert small.shape == (high, wide)
    rows, columns = -(-shape[0] // 10), -(-shape[1] // 12)
    for i, j in ((0, 0), (high - 1, wide - 1)):
        block = counts[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
        known = block[np.isfinite(block)]
        assert known.size == 0 or small[i, j] == pytest.approx(known.mean())


def test_a_sheet_shows_the_first_and_the_last_frame_with_one_stretch(folder: Path) -> None:
    cube = ar.open_frames(folder, chunks=16)
    figure = ar.plots.cube(cube, n=3)
    names = [axes.get_title().partition(",")[0] for axes in figure.axes]
    assert names == [str(cube.frame.values[i]) for i in (0, 4, 7)]
    assert len({axes.images[0].norm.vmax for axes in figure.axes}) == 1
    assert np.array_equal(figure.axes[1].images[0].get_array(), cube.counts[4])


def test_a_sheet_of_no_frame_is_refused(folder: Path) -> None:
    with pytest.raises(ar.UsageError, match="0 frames requested"):
        ar.plots.cube(ar.open_frames(folder), n=0)


def test_a_frame_is_titled_by_what_it_is(folder: Path) -> None:
    figure = ar.plots.frame(ar.open_frames(folder).isel(frame=0))
    assert figure.get_suptitle() == "dark-001, dark, 600 s"
    assert _shortened("a-very-long-name-of-a-frame", 11) == "a-ver…frame"
