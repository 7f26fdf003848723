"""What a notebook shows, in a fresh kernel in which nobody has imported pyplot."""

from __future__ import annotations

import base64
import copy
import pickle
from pathlib import Path

import nbclient
import nbformat
import pytest
import xarray as xr

import arrayred as ar

PNG = b"\x89PNG\r\n\x1a\n"
SETUP = """
import numpy as np, xarray as xr, arrayred as ar
folder = {folder!r}
night = ar.open_night(folder)
recipe = ar.Recipe(rows=(80, 90), sky_offset=20, per_frame=True)
target = ar.reduce_night(night, recipe)["targets/Simulated_star"]
image, star, frames = (target[name].to_dataset() for name in ("combined", "spectrum", "frames"))
cube = ar.open_frames(folder)
x = np.array([20.0, 50.0, 90.0])
lines = {{"x": x, "x_err": 0.1 + 0 * x, "wavelength": 6000 + 2 * x, "residual": 0.1 * x}}
lines |= {{"element": ["NeI"] * 3, "used": [True, True, False]}}
lines = xr.Dataset({{name: ("line", values) for name, values in lines.items()}})
lamp = xr.Dataset({{"counts": ("x", np.arange(100.0))}}, {{"x": np.arange(1, 101)}})
rows = ar.detect_rows(image)
"""
FIGURES = {
    "arc": "lamp, lines",
    "compare": "{'one': star, 'other': star}",
    "cube": "cube",
    "drift": "cube.time.values, {'temperature': cube.ccd_temp.values}",
    "frame": "cube.isel(frame=0)",
    "frames": "frames",
    "image": "image, star",
    "night": "night",
    "noise": "star",
    "pixel_history": "cube, 85, 60",
    "profile": "image, star",
    "quick_look": "image, star, 'Simulated star'",
    "rows": "ar.row_statistics(image)",
    "search_look": "image, 'Simulated star'",
    "spectrum": "star",
    "trace": "image, star",
}
"""Every public figure, and what it is given."""
SHOWN = ("night", "ar.make_plan(night)", "recipe", "rows", "cube", "star", "target")


def test_every_public_figure_is_shown_here() -> None:
    assert set(FIGURES) == set(ar.plots.__all__) - {"png", "svg"}


def test_a_fresh_kernel_shows_every_figure_and_table_without_pyplot(folder: Path) -> None:
    figures = [f"ar.plots.{name}({given})" for name, given in FIGURES.items()]
    last = "import sys; assert 'matplotlib.pyplot' not in sys.modules"
    cells = [SETUP.format(folder=str(folder)), *figures, *SHOWN, last]
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    shown = {
        cell.source: output.data
        for cell in notebook.cells
        for output in cell.outputs
        if output.output_type == "execute_result"
    }
    for source in figures:
        assert base64.b64decode(shown[source]["image/png"]).startswith(PNG), source
    for source in SHOWN:
        assert shown[source]["text/html"].startswith("<"), source


@pytest.mark.parametrize("way", ["as it is", "copied", "pickled"])
def test_what_a_notebook_shows_is_the_png_of_the_figure(
    way: str, products: tuple[xr.Dataset, xr.Dataset]
) -> None:
    figure = ar.plots.spectrum(products[1])
    expected = ar.plots.png(figure)
    if way == "copied":
        figure = copy.deepcopy(figure)
    elif way == "pickled":
        figure = pickle.loads(pickle.dumps(figure))
    assert figure._repr_png_() == expected  # type: ignore[attr-defined]
