"""How frames are read, and where laziness ends: `Reading`, `settle`.

`settle` is the one place where dask computes. Beyond it every step works on one contiguous float64
block, because sums over rows of a block that is chunked or laid out otherwise end in other bits.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from arrayred.config import Overscan
from arrayred.model import COUNTS, Chunks
from arrayred.night import Group
from arrayred.pipeline.elsewhere import told_as_ours
from arrayred.steps.calibrate import subtract_overscan, trim
from arrayred.watching import stage

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Reading:
    """How the frames of a night are read.

    Parameters
    ----------
    chunks, memory : as in `reduce_night`.
    overscan : the level of a row: "mean" or "median"; "off": the frames stay whole.
    widened : frames may be clipped or scaled, which takes bands a sixth as high within a memory.
    """

    chunks: Chunks = "auto"
    memory: int | None = None
    overscan: Overscan = "mean"
    widened: bool = True

    def open(self, frames: Group) -> xr.Dataset:
        """Return frames as a cube, less their overscan and trimmed where sections are known."""
        _load()
        with stage("read"):
            return self._cube(frames)

    def _cube(self, frames: Group) -> xr.Dataset:
        cube = frames.cube(self.chunks, self.memory, widened=self.widened)
        sections = frames.frames[0].sections
        if sections is None or self.overscan == "off":
            return cube
        if sections.overscan is not None:
            cube = subtract_overscan(
                cube, sections.overscan, by_row=sections.by_row, method=self.overscan
            )
        return cube if sections.trim is None else trim(cube, sections.trim)


def _load() -> None:
    """Import what cubes are made of: a second of the first master, and none of its reading."""
    if "dask.array" not in sys.modules:
        with stage("load xarray and dask"):
            for name in ("xarray", "dask.array"):
                import_module(name)


@told_as_ours()
def settle(image: xr.Dataset) -> xr.Dataset:
    """Compute an image and hold its counts as one C-contiguous float64 block.

    Parameters
    ----------
    image : counts (y, x), or single frames (frame, y, x), eager or chunked. All its variables are
        computed in one pass: by threads, or by the cluster of an active client of dask, where the
        bands are read by its workers and only the image travels.

    Raises
    ------
    ResourceError
        The cluster's workers died of it, or its scheduler has gone.
    """
    computed = image if isinstance(image[COUNTS].data, np.ndarray) else image.compute()
    counts = computed[COUNTS]
    pixels = np.ascontiguousarray(counts.values, np.float64)
    if pixels is counts.data:
        return computed.copy()
    return computed.assign({COUNTS: counts.copy(data=pixels)})
