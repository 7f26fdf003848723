"""SVG files are whole, the same each time, and not much larger where the marks are many."""

from __future__ import annotations

import re
from collections.abc import Callable
from xml.etree.ElementTree import fromstring

import numpy as np
import pytest
import xarray as xr
from matplotlib import rc_context
from matplotlib.figure import Figure

import arrayred as ar


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


def test_the_many_marks_of_a_wide_spectrum_are_images_and_its_texts_are_texts(
    wide: xr.Dataset,
) -> None:
    text = ar.plots.svg(ar.plots.spectrum(wide))
    assert len(text.encode()) < 200_000
    assert text.count("<image") == 2
    assert "±3σ" in text
    narrow = ar.plots.svg(ar.plots.spectrum(wide.isel(x=slice(0, 1500))))
    assert "<image" not in narrow


def test_the_same_figure_gives_the_same_text(drawn: Callable[[], Figure]) -> None:
    figure = drawn()
    once = ar.plots.svg(figure)
    assert once == ar.plots.svg(figure)
    with rc_context({"font.size": 22, "svg.fonttype": "path", "lines.linewidth": 9}):
        assert once == ar.plots.svg(drawn())


def test_a_text_is_whole_and_tells_neither_time_nor_maker(drawn: Callable[[], Figure]) -> None:
    text = ar.plots.svg(drawn(), label='"star" <1>\x1b')
    root = fromstring(text)
    assert next(node.text for node in root if node.tag.endswith("title")) == '"star" <1>\\x1b'
    assert not re.search(r"<script|\d{4}-\d\d-\d\dT|[Mm]atplotlib (version|v\d)", text)
    assert "a &lt;b&gt; &amp; $c$" in text
