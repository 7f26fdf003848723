"""Tests of the verbs of the reduction, on small cubes and images made here."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Array = NDArray[Any]


def cube_of(pixels: Array, **coords: Any) -> xr.Dataset:
    """Return pixels (frame, y, x) as a cube that carries a history."""
    _, n_rows, n_columns = pixels.shape
    return xr.Dataset(
        {"counts": (("frame", "y", "x"), pixels, {"units": "adu"})},
        coords={"y": np.arange(1, n_rows + 1), "x": np.arange(1, n_columns + 1), **coords},
        attrs={"history": ["opened"]},
    )


def image_of(counts: Array, first_row: int = 1) -> xr.Dataset:
    """Return counts (y, x) as an image whose lowest row has the given number."""
    n_rows, n_columns = counts.shape
    return xr.Dataset(
        {"counts": (("y", "x"), counts, {"units": "adu"})},
        coords={
            "y": np.arange(first_row, first_row + n_rows),
            "x": np.arange(1, n_columns + 1),
        },
        attrs={"history": ["opened"]},
    )
