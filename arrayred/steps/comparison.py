"""Which values of a target's frames are too high beside the other frames: `compare_frames`.

The arithmetic is that of `kernels.cosmic`; here it is decided where to look. Two things are looked
at closely: cells in which something stands out of the mean of the frames by itself, and cells that
a star lights up, since stars differ from frame to frame. On a real night they are a
fourteenth of the image.

The sky of each frame is taken off first, by column, because its lines do not grow with the star's
light: it is the median of a few dozen of the darker rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.bands import over_frames
from arrayred.kernels import cosmic as kernel
from arrayred.kernels.cosmic import Noise
from arrayred.kernels.noise import finite_median, finite_medians
from arrayred.kernels.stack import median
from arrayred.model import COUNTS, FRAME, X, Y
from arrayred.steps.cells import Grid, Indices, values_at
from arrayred.steps.floor import kind_of_master
from arrayred.steps.hits import OUTLIER, Hits, Outliers, gathered
from arrayred.steps.moved import moved_light
from arrayred.steps.sample import sample_of

if TYPE_CHECKING:
    import xarray as xr

Values = NDArray[np.float64]
_Given = tuple[Values, Values, Noise, Values]
"""What `kernels.cosmic.compare` takes."""

_NEIGHBOUR = 3.5
"""By how many sigma the neighbour of a hit must stand out."""
_LIT = 2.0
"""Sigma of light in the mean of a cell from which on frames that differ by a fifth matter."""
_ROWS_OF_SKY = 64
_VALUES = 1 << 17
_AT_ONCE = 16
"""How many times as many values are gathered from all bands where cells lie across them."""


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
    """What is known of some pixels, each one once.

    Parameters
    ----------
    where : flat indices (pixel) of (y, x).
    values, sky, scale : (frame, pixel), as in `kernels.cosmic`.
    """

    where: Indices
    values: Values
    sky: Values
    scale: Values


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


def compare_frames(scene: Scene, n_sigma: float) -> Hits:
    """Return what stands out of the other frames.

    Parameters
    ----------
    scene : at least two frames.
    n_sigma : how far a value must stand out; a neighbour of one that does, by 3.5.
    """
    cells = _suspects(scene, n_sigma)
    blocks = gathered(_outliers(scene, cells, n_sigma))
    is_hit = np.zeros(scene.image[COUNTS].size, np.bool_)
    for block in blocks:
        is_hit[block["where"][block["hit"]]] = True
    beside = scene.grid.holding(scene.grid.around(np.flatnonzero(is_hit)))
    blocks += gathered(_outliers(scene, np.setdiff1d(beside, cells), n_sigma))
    return _grown(scene, blocks)


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


def pixels_of(scene: Scene, wanted: Indices) -> Iterator[Pixels]:
    """Yield what is known of some pixels, few at once, each part ascending.

    Parameters
    ----------
    scene : what is compared.
    wanted : flat indices of (y, x), ascending.
    """
    is_wanted = np.zeros(scene.image[COUNTS].size, np.bool_)
    is_wanted[wanted] = True
    for cells, raw in _cells_with_values(scene, scene.grid.holding(wanted)):
        where, given = _prepared(scene, cells, raw)
        chosen = is_wanted[where] & scene.grid.own(cells)
        order = np.argsort(where[chosen])
        planes = (each[:, chosen][:, order] for each in (*given[:2], kernel.scales_of(*given)))
        yield Pixels(where[chosen][order], *planes)


def _outliers(scene: Scene, cells: Indices, n_sigma: float) -> Iterator[Outliers]:
    """Yield the values of cells that stand out enough to be the neighbour of a hit."""
    for some, raw in _cells_with_values(scene, cells):
        where, given = _prepared(scene, some, raw)
        excess = kernel.compare(*given).excess
        high = (excess > _NEIGHBOUR) & scene.grid.own(some)
        pixels = high.any(axis=0)
        chosen, values = high[:, pixels], given[0][:, pixels]
        frame, pixel = np.nonzero(chosen)
        part = np.empty(frame.size, OUTLIER)
        part["frame"], part["where"] = frame, where[pixels][pixel]
        part["above"] = values[chosen] - median(values[:, np.newaxis])[0][pixel]
        part["hit"] = excess[:, pixels][chosen] > n_sigma
        yield part


def _cells_with_values(scene: Scene, cells: Indices) -> Iterator[tuple[Indices, NDArray[Any]]]:
    """Yield cells, few at once, with their raw values (frame, cell, x); each band is read once.

    A cell along a row lies in one band; one along a column does not, and is looked for in all.
    """
    grid, counts = scene.grid, scene.lights[COUNTS]
    n_once = max(_VALUES // (counts.sizes[FRAME] * grid.width), 1)
    if grid.upright:
        for some in _in_parts(cells, n_once * (1 if counts.chunks is None else _AT_ONCE)):
            values = values_at(scene.lights, grid.pixels(some))
            for first in range(0, len(some), n_once):
                part = slice(first, first + n_once)
                yield some[part], values[:, part]
        return
    for first, pixels, own in _bands(scene, cells):
        for some in _in_parts(own, n_once):
            yield some, np.take(pixels, grid.pixels(some) - first, axis=1)


def _bands(scene: Scene, cells: Indices) -> Iterator[tuple[int, NDArray[Any], Indices]]:
    """Yield of each band that holds cells its first pixel, its values (frame, pixel), and them."""
    counts, n_columns = scene.lights[COUNTS], scene.lights.sizes[X]
    heights = (counts.sizes[Y],) if counts.chunks is None else counts.chunksizes[Y]
    stops = np.cumsum(heights)
    parts = np.searchsorted(cells, stops * scene.grid.n_blocks)
    for height, stop, own in zip(heights, stops, np.split(cells, parts), strict=False):
        if own.size:
            band = counts.isel({Y: slice(stop - height, stop)}).values
            yield (stop - height) * n_columns, band.reshape(len(band), -1), own


def _in_parts(cells: Indices, n: int) -> Iterator[Indices]:
    for first in range(0, len(cells), n):
        yield cells[first : first + n]


def _prepared(scene: Scene, cells: Indices, raw: NDArray[Any]) -> tuple[Indices, _Given]:
    """Return the pixels (cell, x) of few cells, which stay in the cache, and what is compared."""
    where, (_, place) = scene.grid.pixels(cells), scene.grid.places(cells)
    sky = scene.sky[:, place]
    values = np.subtract(raw, sky, dtype=np.float64)
    more = np.zeros(where.shape)
    if scene.dark is not None:
        dark = scene.dark.reshape(-1)[where]
        values -= dark
        more = np.fmax(dark - scene.level, 0.0) * scene.noise.per_photon
    return where, (values, sky, scene.noise, more)


def _grown(scene: Scene, blocks: list[Outliers]) -> Hits:
    """Return the hits with their neighbours, without light that has moved; blocks are let go."""
    found = np.concatenate([np.empty(0, OUTLIER), *blocks])
    blocks.clear()
    order = np.lexsort((found["where"], found["frame"])).astype(np.uint32)
    stops = np.cumsum(np.bincount(found["frame"], minlength=scene.lights.sizes[FRAME]))
    kept = []
    for first, stop in pairwise([0, *stops.tolist()]):
        own = found[order[first:stop]]
        near = scene.grid.around(own["where"][own["hit"]].astype(np.intp))
        own = own[own["hit"] | np.isin(own["where"], near)]
        where, light = own["where"].astype(np.intp), own["above"].copy()
        moved = moved_light(where, light, partial(_line, scene), scene.grid)
        kept.append(own[["frame", "where"]][~np.isin(where, moved)])
    hits = np.concatenate(kept)
    return Hits.of(hits["frame"], hits["where"])


def _line(scene: Scene, pixels: Indices) -> tuple[Values, float]:
    """Return what the frames have in common at pixels (...), and what is nothing."""
    values = values_at(scene.lights, pixels)
    common = median(values.reshape(len(values), 1, -1)).reshape(pixels.shape)
    if scene.dark is not None:
        common -= scene.dark.reshape(-1)[pixels]
    return common, 3.0 * float(np.sqrt(scene.noise.floor))
