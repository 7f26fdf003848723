"""A reduced night to draw, and how to look at what was drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
import xarray as xr
from matplotlib.axes import Axes

import arrayred as ar
from arrayred.io import write_frames

NAME = "Simulated_star"


@pytest.fixture(scope="session")
def folder(simulated: ar.SimulatedNight, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the simulated night."""
    folder = tmp_path_factory.mktemp("plots")
    write_frames(simulated.frames(), folder)
    return folder


@pytest.fixture(scope="session")
def target(folder: Path) -> xr.DataTree:
    """Return the reduced target: rows 80 to 90, sky 20 rows above."""
    recipe = ar.Recipe(rows=(80, 90), sky_offset=20, per_frame=True)
    return ar.reduce_night(folder, recipe)[f"targets/{NAME}"]


@pytest.fixture(scope="session")
def products(target: xr.DataTree) -> tuple[xr.Dataset, xr.Dataset]:
    """Return its combined image and its spectrum."""
    return target["combined"].to_dataset(), target["spectrum"].to_dataset()


def texts(axes: Axes) -> list[str]:
    """Return what the legend says."""
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]
