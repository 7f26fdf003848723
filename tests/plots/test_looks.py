"""The picture of a target shows the rows that were taken; the same numbers draw it alike."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Rectangle

from arrayred.config import Recipe
from arrayred.pipeline import extract_spectrum
from arrayred.plots import png, quick_look, search_look
from tests.plots.conftest import NAME


def axes_of(figure: Figure) -> tuple[Axes, Axes, Axes]:
    """Return the axes of the image, the rows and the spectrum."""
    image, rows, spectrum = figure.axes
    return image, rows, spectrum


def texts(axes: Axes) -> list[str]:
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def bands(axes: Axes) -> list[tuple[float, float]]:
    """Return the lowest and highest row of each shaded band."""
    patches = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return [(patch.get_y(), patch.get_y() + patch.get_height()) for patch in patches]


def with_pixels(image: xr.Dataset, pixels: Any) -> xr.Dataset:
    return image.assign(counts=(("y", "x"), pixels, image["counts"].attrs))


def test_the_image_is_shown_with_its_rows_numbered_upwards(
    products: tuple[xr.Dataset, xr.Dataset],
) -> None:
    image, _, _ = axes_of(quick_look(*products, NAME))
    (shown,) = image.images
    assert np.array_equal(shown.get_array(), products[0]["counts"])
    assert shown.origin == "lower"
    assert list(shown.get_extent()) == [0.5, 120.5, 0.5, 160.5]
    assert (image.get_xlabel(), image.get_ylabel()) == ("column", "row")


def test_the_stretch_shows_the_noise_of_the_sky_and_the_star(
    products: tuple[xr.Dataset, xr.Dataset],
) -> None:
    (shown,) = axes_of(quick_look(*products, NAME))[0].images
    counts = products[0]["counts"].values
    grey = np.asarray(shown.norm(counts))
    assert 0.05 < np.median(grey) < 0.6
    assert np.std(grey[:50]) > 0.02
    assert np.mean(grey <= 0) < 0.01
    assert np.mean(grey >= 1) < 0.01
    assert grey[85].mean() - np.median(grey) > 0.3


def test_the_aperture_follows_the_trace_between_bands_of_sky(
    products: tuple[xr.Dataset, xr.Dataset],
) -> None:
    image, rows, _ = axes_of(quick_look(*products, NAME))
    spectrum = products[1]
    center, half = spectrum["trace"].values, spectrum.attrs["half_height"]
    low, high, *sky = [line.get_ydata() for line in image.lines]
    assert np.allclose(low, center - half)
    assert np.allclose(high, center + half)
    told = [spectrum.attrs["sky_below"], spectrum.attrs["sky_above"]]
    edges = [(first - 0.5, last + 0.5) for first, last in told]
    assert [edge[0] for edge in sky] == [row for pair in edges for row in pair]
    assert bands(rows) == [(79.5, 90.5), *edges]
    assert {"spectrum 80:90", *(f"sky {a}:{b}" for a, b in told)} < set(texts(rows))
    colours = [to_hex(line.get_color()) for line in image.lines[::2]]
    assert colours == [to_hex(patch.get_facecolor()) for patch in rows.patches]
    assert len(set(colours)) == 2


def test_the_procedures_rows_and_band_are_straight(products: tuple[xr.Dataset, xr.Dataset]) -> None:
    spectrum = extract_spectrum(products[0], Recipe.reference().replace(rows=(80, 90)))
    image, rows, _ = axes_of(quick_look(products[0], spectrum, NAME))
    assert [line.get_ydata()[0] for line in image.lines] == [79.5, 90.5, 139.5, 150.5]
    assert bands(rows) == [(79.5, 90.5), (139.5, 150.5)]


def test_spectra_that_were_not_taken_are_shaded(products: tuple[xr.Dataset, xr.Dataset]) -> None:
    spectrum = products[1].assign_attrs(other_rows=[(20, 30), (130, 140)])
    rows = axes_of(quick_look(products[0], spectrum, NAME))[1]
    assert bands(rows)[-2:] == [(19.5, 30.5), (129.5, 140.5)]
    assert texts(rows)[-2:] == ["not extracted 20:30", "not extracted 130:140"]


def test_flagged_columns_are_marked_and_counted(products: tuple[xr.Dataset, xr.Dataset]) -> None:
    flags = np.zeros(120, np.uint8)
    flags[[3, 7]], flags[[7, 20, 30]] = 2, 6
    spectrum = products[1].assign(dq=("x", flags))
    axes = axes_of(quick_look(products[0], spectrum, NAME))[2]
    _, saturated, hit = axes.lines
    assert list(saturated.get_xdata()) == [4, 8, 21, 31]
    assert list(hit.get_xdata()) == [8, 21, 31]
    assert texts(axes) == ["±3σ", "saturated: 4 columns", "cosmic ray: 3 columns"]
    assert saturated.get_color() != hit.get_color()


@pytest.mark.parametrize("rows", [(5, 15), (80, 90), (145, 155)])
def test_the_legend_hides_no_spectrum(
    products: tuple[xr.Dataset, xr.Dataset], rows: tuple[int, int]
) -> None:
    spectrum = extract_spectrum(products[0], Recipe(rows=rows, sky_offset=20))
    figure = quick_look(products[0], spectrum, NAME)
    FigureCanvasAgg(figure).draw()
    axes = axes_of(figure)[1]
    legend = axes.get_legend().get_window_extent()
    (_, lowest), (_, highest) = axes.transData.transform([(0, rows[0]), (0, rows[1])])
    right = axes.get_window_extent().x1
    assert legend.y0 > highest or legend.y1 < lowest or legend.x0 > right


def test_the_profile_is_the_mean_of_each_row_with_the_threshold(
    products: tuple[xr.Dataset, xr.Dataset],
) -> None:
    image, rows, _ = axes_of(quick_look(*products, NAME))
    profile, threshold = rows.lines
    assert np.allclose(profile.get_xdata(), products[0]["counts"].mean("x"))
    assert np.array_equal(profile.get_ydata(), np.arange(1, 161))
    assert set(threshold.get_xdata()) == {products[1].attrs["threshold"]}
    assert f"threshold {products[1].attrs['threshold']:.1f}" in texts(rows)
    assert rows.get_ylim() == image.get_ylim() == (0.5, 160.5)
    low, high = rows.get_xlim()
    assert low <= np.min(profile.get_xdata()) < np.max(profile.get_xdata()) < high


@pytest.mark.parametrize("sky", [True, False])
def test_the_spectrum_is_drawn_with_three_standard_deviations(
    products: tuple[xr.Dataset, xr.Dataset], sky: bool
) -> None:
    combined, spectrum = products
    if not sky:
        spectrum = extract_spectrum(combined, Recipe(rows=(80, 90), sky=False))
        spectrum = spectrum.assign(variance=products[1]["variance"])
    _, rows, axes = axes_of(quick_look(combined, spectrum, NAME))
    (line,) = axes.lines
    assert np.array_equal(line.get_ydata(), spectrum["flux"])
    assert np.array_equal(line.get_xdata(), np.arange(1, 121))
    (band,) = axes.collections
    lowest = (spectrum["flux"] - 3 * np.sqrt(spectrum["variance"])).min()
    assert band.get_paths()[0].get_extents().y0 == pytest.approx(lowest.item())
    title = "sky-subtracted spectrum" if sky else "spectrum without sky subtraction"
    assert axes.get_title() == f"{title} (optimal)"
    assert [text.startswith("sky ") for text in texts(rows)].count(True) == 2 * sky


def test_without_a_variance_there_is_no_band(products: tuple[xr.Dataset, xr.Dataset]) -> None:
    combined, spectrum = products
    axes = axes_of(quick_look(combined, spectrum.drop_vars("variance"), NAME))[2]
    assert (len(axes.collections), texts(axes)) == (0, [])


def test_without_a_sky_band_only_the_spectrum_is_marked(
    products: tuple[xr.Dataset, xr.Dataset],
) -> None:
    combined = products[0]
    spectrum = extract_spectrum(combined, Recipe(rows=(80, 90), sky=False))
    image, rows, _ = axes_of(quick_look(combined, spectrum, NAME))
    assert len(image.lines) == 2
    assert bands(rows) == [(79.5, 90.5)]


def spoil(pixels: Any, where: str) -> Any:
    """Return pixels with NaN at the background, the spectrum, the sky, a row or a column."""
    spoilt = pixels.copy()
    places: dict[str, Any] = {
        "background": (10, 30),
        "spectrum": (84, 30),
        "sky": (115, 30),
        "row": 130,
        "column": (slice(None), 7),
        "half": slice(100, None),
    }
    spoilt[places[where]] = np.nan
    return spoilt


@pytest.mark.parametrize("where", ["background", "spectrum", "sky", "row", "column", "half"])
def test_missing_pixels_are_left_blank_and_the_others_stay_visible(
    products: tuple[xr.Dataset, xr.Dataset], where: str
) -> None:
    image = with_pixels(products[0], spoil(products[0]["counts"].values, where))
    spectrum = extract_spectrum(image, Recipe(rows=(80, 90), sky_offset=20))
    figure = quick_look(image, spectrum, NAME)
    (shown,) = axes_of(figure)[0].images
    grey = np.ma.filled(shown.norm(shown.get_array()), np.nan)
    assert np.array_equal(np.isnan(grey), np.isnan(image["counts"]))
    assert np.nanmean(grey[85]) - np.nanmedian(grey) > 0.3


def test_an_image_with_missing_pixels_of_all_kinds_is_drawn(
    products: tuple[xr.Dataset, xr.Dataset],
) -> None:
    pixels = products[0]["counts"].values
    for where in ("background", "spectrum", "sky", "row", "column"):
        pixels = spoil(pixels, where)
    image = with_pixels(products[0], pixels)
    spectrum = extract_spectrum(image, Recipe(rows=(80, 90), sky_offset=20))
    assert png(quick_look(image, spectrum, NAME)).startswith(b"\x89PNG")


@pytest.mark.parametrize("value", [0.0, -5.0])
def test_an_even_image_is_drawn(products: tuple[xr.Dataset, xr.Dataset], value: float) -> None:
    image = with_pixels(products[0], np.full((160, 120), value))
    spectrum = extract_spectrum(image, Recipe(rows=(80, 90), sky_offset=20))
    assert png(quick_look(image, spectrum, NAME)).startswith(b"\x89PNG")


@pytest.mark.parametrize(("factor", "offset"), [(-1e12, 0.0), (1e-12, 0.0), (1.0, -1e6)])
def test_counts_of_any_size_and_sign_are_all_in_view(
    products: tuple[xr.Dataset, xr.Dataset], factor: float, offset: float
) -> None:
    image = with_pixels(products[0], products[0]["counts"].values * factor + offset)
    spectrum = extract_spectrum(image, Recipe(rows=(80, 90), sky_offset=20))
    figure = quick_look(image, spectrum, NAME)
    assert png(figure).startswith(b"\x89PNG")
    low, high = axes_of(figure)[1].get_xlim()
    means = image["counts"].mean("x").values
    assert low <= means.min() < means.max() <= high


TITLES = ["$a$ and $x_1$", "$\\frac$", "a\\$b"]  # formulas, one of them broken, and none


@pytest.mark.parametrize("title", TITLES)
def test_a_title_is_drawn_letter_by_letter(
    products: tuple[xr.Dataset, xr.Dataset], title: str
) -> None:
    figure = quick_look(*products, title)
    drawn = figure._suptitle  # type: ignore[attr-defined]
    plain = figure.text(0, 0, title, fontproperties=drawn.get_fontproperties(), parse_math=False)
    renderer = FigureCanvasAgg(figure).get_renderer()
    assert drawn.get_window_extent(renderer).width == plain.get_window_extent(renderer).width


# Bytes


DRAW = """
import hashlib, sys
from arrayred.config import Recipe
from arrayred.pipeline import reduce_night
from arrayred.plots import png, quick_look
target = reduce_night(sys.argv[1], Recipe(rows=(80, 90), sky_offset=20))["targets/Simulated_star"]
products = [target[name].to_dataset() for name in ("combined", "spectrum")]
print(hashlib.sha256(png(quick_look(*products, "Simulated_star"))).hexdigest())
print("matplotlib.pyplot" in sys.modules)
"""


@pytest.fixture(scope="module")
def content(products: tuple[xr.Dataset, xr.Dataset]) -> bytes:
    """Return the picture of the target."""
    return png(quick_look(*products, NAME))


def test_the_bytes_are_those_of_another_process_whatever_a_user_has_set_and_need_no_pyplot(
    content: bytes, folder: Path, tmp_path: Path
) -> None:
    settings = "font.size: 22\naxes.facecolor: red\nsavefig.bbox: tight"
    (tmp_path / "matplotlibrc").write_text(settings)
    env = {**os.environ, "PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo"}
    command = [sys.executable, "-c", DRAW, str(folder)]
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.split() == [hashlib.sha256(content).hexdigest(), "False"], done.stderr


def test_other_numbers_and_another_title_give_other_bytes(
    products: tuple[xr.Dataset, xr.Dataset], content: bytes
) -> None:
    other = products[0].copy(deep=True)
    other["counts"].values[85, 60] += 1000.0
    figures = [quick_look(*products, "Other"), quick_look(other, products[1], NAME)]
    assert len({content, *map(png, figures)}) == 3


def test_a_figure_gives_the_same_bytes_each_time_and_changes_no_product(
    products: tuple[xr.Dataset, xr.Dataset], content: bytes
) -> None:
    before = [product.copy(deep=True) for product in products]
    figure = quick_look(*products, NAME)
    assert png(figure) == png(figure) == content
    assert all(a.identical(b) for a, b in zip(before, products, strict=True))


def test_the_bytes_name_no_software_and_no_date(content: bytes) -> None:
    assert not re.search(rb"tEXt|iTXt|tIME|[Mm]atplotlib", content)


def test_the_picture_is_of_the_promised_size_and_not_blank(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(content)
    picture = imread(tmp_path / "picture.png")
    assert picture.shape[:2] == (880, 1210)
    assert 0.3 < (picture[..., :3] == 1.0).all(axis=2).mean() < 0.8


@pytest.mark.parametrize("threshold", [1234.5, np.nan, None])
def test_an_image_without_a_spectrum_is_drawn_with_its_rows_and_threshold(
    products: tuple[xr.Dataset, xr.Dataset], threshold: float | None
) -> None:
    combined, _ = products
    figure = search_look(combined, NAME, threshold=threshold)
    image, rows = figure.axes
    assert image.get_images()[0].get_array().shape == combined.counts.shape
    means = np.asarray(rows.lines[0].get_xdata())
    assert np.allclose(means, combined.counts.values.mean(axis=1))
    assert texts(rows) == (["threshold 1234.5"] if threshold == 1234.5 else [])
    drawn = png(figure)
    assert threshold is not None or drawn == png(search_look(combined, NAME))


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_an_image_with_nothing_at_all_is_drawn(
    products: tuple[xr.Dataset, xr.Dataset], value: float
) -> None:
    combined, _ = products
    empty = with_pixels(combined, np.full(combined.counts.shape, value))
    assert png(search_look(empty, NAME)).startswith(b"\x89PNG")
