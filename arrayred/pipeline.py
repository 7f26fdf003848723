"""The whole reduction on one page: what is done to a night, in order, in ordinary Python.

Masters settle first: they are two-dimensional, written anyway, and reusable. Then each target goes
by itself from its lights to its spectrum. Everything up to the combined image may be lazy;
`settle` is the one place where dask computes. Beyond it every step works on one contiguous float64
block, because sums over rows of a block that is chunked or laid out otherwise end in other bits.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from arrayred.config import Recipe
from arrayred.errors import NightError
from arrayred.model import COUNTS, Chunks, turn
from arrayred.night import Group, Night, make_plan, open_night
from arrayred.steps.calibrate import subtract_dark
from arrayred.steps.combine import combine
from arrayred.steps.detect import detect_rows
from arrayred.steps.extract import extract
from arrayred.steps.sky import subtract_sky

if TYPE_CHECKING:
    import xarray as xr


def reduce_night(
    night: str | os.PathLike[str] | Night, recipe: Recipe | None = None, *, chunks: Chunks = "auto"
) -> xr.DataTree:
    """Reduce every target of a night, in memory.

    Parameters
    ----------
    night : a folder, or what `open_night` returned.
    recipe : what to do; the defaults of `Recipe` if left out.
    chunks : None reads frames at once; a number makes dask chunks of that many rows; "auto" reads
        at once what is small (256 MB a group) and chunks the rest. The result does not depend on
        it.

    Returns
    -------
    tree : /masters/dark/<exposure> and /targets/<target>/{combined, spectrum}, with `calibrated`
        where the recipe asks for it.

    Raises
    ------
    NightError
        The plan has problems: all of them.
    """
    import xarray as xr

    recipe = recipe or Recipe()
    opened = night if isinstance(night, Night) else open_night(night)
    plan = make_plan(opened, recipe)
    if plan.problems or plan.failed:
        raise NightError((*plan.problems, *(error for _, error in plan.failed)))
    masters = {group.name: make_dark(group, recipe, chunks) for group in plan.darks}
    nodes = {f"/masters/dark/{name}": master for name, master in masters.items()}
    for target in plan.targets:
        dark = masters[target.darks.name] if target.darks else None
        products = reduce_target(target.lights.cube(chunks), dark, recipe)
        nodes |= {f"/targets/{target.name}/{name}": product for name, product in products.items()}
    return xr.DataTree.from_dict(nodes)


def make_dark(darks: Group, recipe: Recipe, chunks: Chunks = "auto") -> xr.Dataset:
    """Return the settled master (y, x) of the darks of one exposure."""
    return settle(combine(darks.cube(chunks), recipe.dark_method))


def reduce_target(
    lights: xr.Dataset, dark: xr.Dataset | None, recipe: Recipe
) -> dict[str, xr.Dataset]:
    """Reduce the lights of one target to its spectrum.

    Parameters
    ----------
    lights : cube, counts (frame, y, x) in adu.
    dark : the matched master dark (y, x); None: nothing is to be subtracted.
    recipe : what to do.

    Returns
    -------
    products : `combined` (y, x) and `spectrum` (x); `calibrated` (frame, y, x) if the recipe asks.

    Raises
    ------
    NoSpectrumError
        No row stands out from the background.
    SkyBandError
        The sky band lies off the image.
    """
    combined = combine_target(lights, dark, recipe)
    calibrated = {"calibrated": calibrate(lights, dark)} if recipe.calibrated else {}
    return {**calibrated, "combined": combined, "spectrum": extract_spectrum(combined, recipe)}


def calibrate(lights: xr.Dataset, dark: xr.Dataset | None) -> xr.Dataset:
    """Return the calibrated frames, as lazy as the lights."""
    return lights if dark is None else subtract_dark(lights, dark)


def combine_target(lights: xr.Dataset, dark: xr.Dataset | None, recipe: Recipe) -> xr.Dataset:
    """Return the settled combination of the calibrated lights."""
    return settle(combine(lights, recipe.combine, minus=dark))


def extract_spectrum(image: xr.Dataset, recipe: Recipe) -> xr.Dataset:
    """Return the spectrum of a combined image: its rows found, summed, the sky subtracted."""
    image = turn(image)
    rows = detect_rows(
        image,
        n_sigma=recipe.n_sigma,
        background_rows=recipe.background_rows,
        skip_last_column=recipe.skip_last_column,
        max_gap=recipe.max_gap,
        whole_span=recipe.whole_span,
        rows=recipe.rows,
    )
    spectrum = extract(image, rows)
    if not recipe.sky:
        return spectrum
    return subtract_sky(
        spectrum,
        image,
        rows,
        offset=recipe.sky_offset,
        side=recipe.sky_side,
        per_bright_row=recipe.sky_per_bright_row,
    )


def settle(image: xr.Dataset) -> xr.Dataset:
    """Compute an image and hold its counts as one C-contiguous float64 block.

    Parameters
    ----------
    image : counts (y, x), eager or chunked.
    """
    counts = image[COUNTS]
    pixels: Any = counts.data if isinstance(counts.data, np.ndarray) else counts.data.compute()
    return image.assign({COUNTS: counts.copy(data=np.ascontiguousarray(pixels, np.float64))})
