"""SVG texts are small, the same each time, whole, and leave the page around them alone."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from xml.etree.ElementTree import fromstring

import numpy as np
import pytest
import xarray as xr
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.image import imread

import arrayred as ar
from arrayred.plots.images import compacted

Products = tuple[xr.Dataset, xr.Dataset]
HEAD = '<svg xmlns="http://www.w3.org/2000/svg" width="9pt" height="9pt">'


@pytest.fixture
def wide() -> xr.Dataset:
    """Return 4,000 columns of noise, a tenth of them flagged: nothing is harder to make small."""
    draw, n = np.random.default_rng(0), 4000
    flux = draw.normal(1000.0, 30.0, n) + 200 * np.sin(np.arange(n) / 300)
    return xr.Dataset(
        {
            "flux": ("x", flux),
            "variance": ("x", draw.uniform(700, 1100, n)),
            "sky": ("x", draw.normal(50, 5, n)),
            "dq": ("x", (draw.random(n) < 0.1).astype(np.uint8) * 4),
        },
        {"x": np.arange(1, n + 1)},
    )


@pytest.fixture(params=["spectrum", "image", "trace", "profile", "frames"])
def drawn(request: pytest.FixtureRequest, target: xr.DataTree) -> Callable[[], Figure]:
    """Return how to draw one figure of a target."""
    image, spectrum = target["combined"], target["spectrum"]
    given = {
        "spectrum": (spectrum,), "image": (image, spectrum), "trace": (image, spectrum),
        "profile": (image, spectrum), "frames": (target["frames"],),
    }[request.param]  # fmt: skip
    return lambda: getattr(ar.plots, request.param)(*given, title="a <b> & $c$")


def test_a_wide_spectrum_is_below_60_kb_and_keeps_its_extremes(wide: xr.Dataset) -> None:
    wide["flux"][2345] = 2000.0
    text = ar.plots.svg(ar.plots.spectrum(wide))
    assert len(text.encode()) < 60_000
    full = ar.plots.svg(ar.plots.spectrum(wide.isel(x=slice(2300, 2400))))
    assert len(full) < len(text)


def lines(text: str) -> list[np.ndarray]:
    """Return the places of each long line of an SVG."""
    found = []
    for path in re.findall(r' d="(M[^"MCQ]{300,})"', text):
        start, _, steps = path.rstrip("z").partition("l")
        first, rest = (re.findall(r"-?(?:\d+\.?\d*|\.\d+)", part) for part in (start[1:], steps))
        moves = np.array(first + rest, float).reshape(-1, 2)
        found.append(np.cumsum(moves, axis=0))
    return found


def test_a_thinned_line_lies_on_that_of_the_numbers(wide: xr.Dataset) -> None:
    figure = ar.plots.spectrum(wide.drop_vars(["variance", "dq", "sky"]))
    (places,) = lines(ar.plots.svg(figure))
    axes = figure.axes[0]
    size = figure.get_size_inches() * 72
    at = axes.transData.transform(np.stack((wide.x, wide.flux), axis=1)) * 72 / figure.dpi
    at[:, 1] = size[1] - at[:, 1]
    for place in places[::37]:
        assert np.abs(at - place).max(axis=1).min() < 0.06
    assert places[:, 1].min() == pytest.approx(at[:, 1].min(), abs=0.06)
    assert places[:, 1].max() == pytest.approx(at[:, 1].max(), abs=0.06)


def test_the_same_figure_gives_the_same_text(drawn: Callable[[], Figure]) -> None:
    figure = drawn()
    once = ar.plots.svg(figure)
    assert once == ar.plots.svg(figure)
    with rc_context({"font.size": 22, "svg.fonttype": "path", "lines.linewidth": 9}):
        assert once == ar.plots.svg(drawn())


def test_a_text_is_whole_and_free_of_what_leaks(drawn: Callable[[], Figure]) -> None:
    text = ar.plots.svg(drawn(), label='"star" <1>')
    root = fromstring(text)
    assert root.get("aria-label") == '"star" <1>'
    assert not re.search(r"<style|<script|<metadata|<!|\d{4}-\d\d-\d\dT|[Mm]atplotlib", text)
    assert "a &lt;b&gt; &amp; $c$" in text
    names = re.findall(r' id="([^"]*)"', text)
    assert len(names) == len(set(names))
    assert set(names) == set(re.findall(r"#(f[0-9a-f]{8}-\d+)[\")]", text))


def test_names_of_two_figures_differ(products: Products) -> None:
    texts = [ar.plots.svg(draw(products[1])) for draw in (ar.plots.spectrum, ar.plots.noise)]
    one, other = (set(re.findall(r' id="([^"]*)"', text)) for text in texts)
    assert one
    assert not one & other


def test_pictures_within_are_small_and_look_alike(products: Products) -> None:
    figure = ar.plots.image(*products)
    text = ar.plots.svg(figure)
    found = re.findall(r"data:image/png;base64,([^\"]*)\"", text)
    pictures = [imread(io.BytesIO(base64.b64decode(content))) for content in found]
    greys = max(pictures, key=lambda picture: picture.size)
    assert 2 < np.unique(greys).size <= 32
    rows = greys.reshape(greys.shape[0], greys.shape[1], -1)[..., 0].mean(axis=1)
    star = float(products[1]["trace"].mean()) / products[0].sizes["y"]
    assert rows.argmax() / rows.size == pytest.approx(star, abs=0.02)


def test_marks_of_one_kind_are_one_path() -> None:
    mark = '<defs><path id="m1" d="M 0 3 L 0 -3"/></defs>'
    uses = "".join(
        f'<use xmlns:xlink="http://www.w3.org/1999/xlink" xlink:href="#m1" x="{x}" y="5"'
        ' style="stroke: #000"/>'
        for x in (1, 2, 2, 4.04)
    )
    text = compacted(f"{HEAD}{mark}<g>{uses}</g></svg>")
    assert '<path d="M1 8l0-6M2 8l0-6M4 8l0-6" style="stroke:#000"/>' in text


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("M 0 0 \nL 10 -20.5 \nz \n", "M0 0l10-20.5z"),
        ("M 1.25 2 L 2 2 M 5 5 L 5 6", "M1.25 2l.75 0M5 5l0 1"),
        ("M 0 1.123456 C 1 2 3 4 5 6.987654", "M 0 1.12 C 1 2 3 4 5 6.99"),
    ],
)
def test_short_paths_keep_every_place(path: str, expected: str) -> None:
    assert f'<path d="{expected}"/>' in compacted(f'{HEAD}<path d="{path}"/></svg>')
