"""Which values of a target's frames are too high beside the other frames: `compare_frames`.

The arithmetic is that of `kernels.cosmic`; here it is decided where to look. Two things are looked
at closely: cells in which something stands out of the mean of the frames by itself, and cells that
a star lights up, since stars differ from frame to frame. On a real night they are a
fourteenth of the image.

The sky of each frame is taken off first, by column, because its lines do not grow with the star's
light: it is the median of a few dozen of the darker rows.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.bands import over_frames
from arrayred.kernels import cosmic as kernel
from arrayred.kernels.cosmic import Noise
from arrayred.kernels.noise import finite_median, finite_medians
from arrayred.kernels.stack import median
from arrayred.model import COUNTS, FRAME, X, Y
from arrayred.steps.cells import Flags, Grid, Indices, values_at
from arrayred.steps.floor import kind_of_master
from arrayred.steps.moved import moved_light
from arrayred.steps.sample import sample_of

if TYPE_CHECKING:
    import xarray as xr

Values = NDArray[np.float64]

_NEIGHBOUR = 3.5
"""By how many sigma the neighbour of a hit must stand out."""
_LIT = 2.0
"""Sigma of light in the mean of a cell from which on frames that differ by a fifth matter."""
_ROWS_OF_SKY = 64
_VALUES = 1 << 17
_VALUES_READ = 1 << 23
_OF_A_CHUNK = 8
"""Values read are held three times over in eight bytes each; a chunk's are often in two."""


class Scene(NamedTuple):
    """What the comparison has to know.

    Parameters
    ----------
    image, lights : counts (y, x), settled, and (frame, y, x).
    dark : what was subtracted (y, x), or None.
    level : of the dark, above which it holds charge that makes noise; infinite where it has none.
    grid : the cells.
    sky : (frame, place along the dispersion), of each frame.
    noise : of a frame.
    """

    image: xr.Dataset
    lights: xr.Dataset
    dark: Values | None
    level: float
    grid: Grid
    sky: Values
    noise: Noise


class Pixels(NamedTuple):
    """What is known of some pixels, each one once, ascending.

    Parameters
    ----------
    where : flat indices (pixel) of (y, x).
    values, sky, scale, excess : (frame, pixel), as in `kernels.cosmic`.
    """

    where: Indices
    values: Values
    sky: Values
    scale: Values
    excess: Values

    def only(self, chosen: Flags) -> Pixels:
        """Return those that are chosen."""
        rest = (each[:, chosen] for each in (self.values, self.sky, self.scale, self.excess))
        return Pixels(self.where[chosen], *rest)


def scene_of(
    image: xr.Dataset, lights: xr.Dataset, minus: xr.Dataset | None, noise: Noise
) -> Scene:
    """Return what is to be compared, with the sky of each frame."""
    upright = "dispersion_axis" in image.coords and image["dispersion_axis"].item() == 2
    n_rows, n_columns = image[COUNTS].shape
    grid = Grid((n_rows, n_columns), upright)
    dark, level = None, np.inf
    if minus is not None:
        dark = minus[COUNTS].values
        if kind_of_master(minus) != "bias":
            level = finite_median(sample_of(minus))
    return Scene(image, lights, dark, level, grid, _sky(image, lights, grid), noise)


def _sky(image: xr.Dataset, lights: xr.Dataset, grid: Grid) -> Values:
    """Return the sky (frame, place along the dispersion) of each frame less its dark."""
    combined, frames = _sample(image, grid), _sample(lights, grid)
    levels = finite_medians(combined)
    darker = np.sort(np.argsort(levels, kind="stable")[: max(len(levels) // 2, 1)])
    mean = sum(frame[darker].astype(np.float64) for frame in frames) / len(frames)
    apart = np.empty((len(frames), grid.length))
    for i, frame in enumerate(frames):
        apart[i] = median((frame[darker] - mean)[:, np.newaxis])[0]
    common = median(combined[darker][:, np.newaxis])
    return np.nan_to_num(common) + np.nan_to_num(apart)


def _sample(ds: xr.Dataset, grid: Grid) -> NDArray[Any]:
    """Return some rows (..., row, x) of frames whose dispersion is made to run along x."""
    if grid.upright:
        frames = [dim for dim in ds[COUNTS].dims if dim == FRAME]
        plain = ds[[COUNTS]].drop_vars([Y, X], errors="ignore")
        ds = plain.rename({X: Y, Y: X}).transpose(*frames, Y, X)
    return sample_of(ds, _ROWS_OF_SKY * grid.length)


def compare_frames(scene: Scene, n_sigma: float) -> tuple[Pixels, Flags]:
    """Return what stands out of the other frames: pixels, and flags (frame, pixel).

    Parameters
    ----------
    scene : at least two frames.
    n_sigma : how far a value must stand out; a neighbour of one that does, by 3.5.
    """
    cells = _suspects(scene, n_sigma)
    pixels = pixels_of(scene, cells)
    hit = (pixels.excess > n_sigma).any(axis=0)
    beside = scene.grid.holding(scene.grid.around(pixels.where[hit]))
    pixels = _joined([pixels, pixels_of(scene, np.setdiff1d(beside, cells))])
    return pixels, _grown(scene, pixels, n_sigma)


def _suspects(scene: Scene, n_sigma: float) -> Indices:
    """Return the cells that are to be looked at closely."""
    grid, counts = scene.grid, scene.image[COUNTS].values
    n_frames = scene.lights.sizes[FRAME]
    margin = 0.0 if n_frames <= 3 else 1.0
    above = np.asarray(_excess(scene))
    high = kernel.standing_out(above, counts, n_frames, scene.noise, n_sigma - margin)
    missing = np.flatnonzero(np.isnan(above))
    return np.union1d(grid.holding(np.union1d(high, missing)), _lit(scene))


def _excess(scene: Scene) -> Any:
    """Return by how much the highest value of a pixel is above the mean (y, x), a lazy plane."""
    counts, sky = scene.lights[COUNTS], scene.sky
    kind = np.dtype(np.float32)
    if not scene.grid.upright:
        return over_frames(counts.data, partial(kernel.highest_excess, offsets=sky), dtype=kind)
    less = counts.astype(kind) - _along_y(sky.astype(kind))
    return over_frames(less.data, kernel.highest_excess, dtype=kind)


def _along_y(sky: NDArray[np.float32]) -> xr.DataArray:
    import xarray as xr

    return xr.DataArray(sky, dims=(FRAME, Y))


def _lit(scene: Scene) -> Indices:
    """Return the cells that shine, or lack a pixel."""
    grid, sky = scene.grid, np.add.reduce(scene.sky, axis=0) / len(scene.sky)
    counts, first = grid.along(scene.image[COUNTS].values), grid.edges[:-1]
    light = np.add.reduceat(counts, first, axis=1) - np.add.reduceat(sky, first)
    noise = np.add.reduceat(np.sqrt(scene.noise.variance(sky)), first)
    return np.flatnonzero(~(light <= _LIT * noise))


def pixels_of(scene: Scene, cells: Indices, wanted: Indices | None = None) -> Pixels:
    """Return the pixels of cells of which some frame stands out, or those that are wanted.

    Parameters
    ----------
    scene : what to compare.
    cells : ascending.
    wanted : flat indices of the pixels to return whatever they are.
    """
    of_a_cell = scene.lights.sizes[FRAME] * scene.grid.width
    n_read, n_once = (max(n // of_a_cell, 1) for n in (_most_read(scene.lights), _VALUES))
    parts = []
    for first in range(0, len(cells), n_read):
        some = cells[first : first + n_read]
        values = values_at(scene.lights, scene.grid.pixels(some))
        for begin in range(0, len(some), n_once):
            part = slice(begin, begin + n_once)
            parts.append(_pixels_of(scene, some[part], values[:, part], wanted))
    return _joined(parts) if parts else _nothing(scene.lights.sizes[FRAME])


def _most_read(lights: xr.Dataset) -> int:
    """Return how many values are read at once: of frames in chunks, a small part of a chunk's."""
    chunks = lights[COUNTS].chunks
    if chunks is None:
        return _VALUES_READ
    of_a_chunk = math.prod(max(sizes) for sizes in chunks)
    return min(max(of_a_chunk // _OF_A_CHUNK, 1), _VALUES_READ)


def _pixels_of(scene: Scene, cells: Indices, values: Values, wanted: Indices | None) -> Pixels:
    """Return the same of few cells, which stay in the cache, whose raw values are read."""
    where, (_, place) = scene.grid.pixels(cells), scene.grid.places(cells)
    sky = scene.sky[:, place]
    values = values - sky
    more = np.zeros(where.shape)
    if scene.dark is not None:
        dark = scene.dark.reshape(-1)[where]
        values -= dark
        more = np.fmax(dark - scene.level, 0.0) * scene.noise.per_photon
    scale, excess = kernel.compare(values, sky, scene.noise, more)
    chosen = (excess > _NEIGHBOUR).any(axis=0) if wanted is None else np.isin(where, wanted)
    chosen &= scene.grid.own(cells)
    planes = (each[:, chosen] for each in (values, sky, scale, excess))
    return Pixels(where[chosen], *planes)


def _nothing(n_frames: int) -> Pixels:
    empty = np.empty((n_frames, 0))
    return Pixels(np.empty(0, np.intp), empty, empty, empty, empty)


def _joined(parts: list[Pixels]) -> Pixels:
    where = np.concatenate([part.where for part in parts])
    order = np.argsort(where, kind="stable")
    rest = zip(*((part.values, part.sky, part.scale, part.excess) for part in parts), strict=True)
    return Pixels(where[order], *(np.concatenate(each, axis=1)[:, order] for each in rest))


def _grown(scene: Scene, pixels: Pixels, n_sigma: float) -> Flags:
    """Return the hits (frame, pixel) with their neighbours, without light that has moved."""
    flagged = pixels.excess > n_sigma
    below = pixels.values - median(pixels.values[:, np.newaxis])[0]
    for hits, excess, above in zip(flagged, pixels.excess, below, strict=True):
        near = scene.grid.around(pixels.where[hits])
        hits |= (excess > _NEIGHBOUR) & np.isin(pixels.where, near)
        here = pixels.where[hits]
        moved = moved_light(here, above[hits], partial(_line, scene), scene.grid)
        hits &= ~np.isin(pixels.where, moved)
    return flagged


def _line(scene: Scene, pixels: Indices) -> tuple[Values, float]:
    """Return what the frames have in common at pixels (...), and what is nothing."""
    values = values_at(scene.lights, pixels)
    common = median(values.reshape(len(values), 1, -1)).reshape(pixels.shape)
    if scene.dark is not None:
        common -= scene.dark.reshape(-1)[pixels]
    return common, 3.0 * float(np.sqrt(scene.noise.floor))
