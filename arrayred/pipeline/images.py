"""The frames of a target, calibrated and combined: `calibrate`, `combine_frames`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from arrayred.config import BETRAYED_BY, Recipe
from arrayred.io.cube import read_mask
from arrayred.steps.calibrate import divide_flat, subtract_dark, to_electrons
from arrayred.steps.combine import Cleaning, add_clean, combine_with_peak
from arrayred.steps.cosmic import FrameHits, FramePlanes, find_cosmic_rays, with_planes
from arrayred.steps.noise import drop_absurd, estimate_noise, find_bad_pixels, flag
from arrayred.watching import stage

if TYPE_CHECKING:
    import xarray as xr
from arrayred.pipeline.elsewhere import told_as_ours
from arrayred.pipeline.progress import told
from arrayred.pipeline.reading import settle


def calibrate(
    lights: xr.Dataset,
    dark: xr.Dataset | None,
    flat: xr.Dataset | None = None,
    judged: FramePlanes | None = None,
) -> xr.Dataset:
    """Return the calibrated frames, as lazy as the lights.

    Parameters
    ----------
    lights, dark, flat : as in `reduce_target`.
    judged : of `judge_frames`; then each frame has its own `variance`, if that is known, and `dq`.
        The variance is the frame's own and that of the masters, which all frames have in common.
    """
    lights = lights if judged is None else drop_absurd(lights)
    cube = lights if dark is None else subtract_dark(lights, dark)
    cube = cube if judged is None else with_planes(cube, lights, judged)
    return cube if flat is None else divide_flat(cube, flat)


def combine_target(
    lights: xr.Dataset, dark: xr.Dataset | None, recipe: Recipe, flat: xr.Dataset | None = None
) -> xr.Dataset:
    """Return the settled combination of the calibrated lights: the image of `combine_frames`."""
    return combine_frames(lights, dark, recipe, flat)[0]


@told_as_ours()
def combine_frames(
    lights: xr.Dataset, dark: xr.Dataset | None, recipe: Recipe, flat: xr.Dataset | None = None
) -> tuple[xr.Dataset, FrameHits | None]:
    """Return the settled combination of the calibrated lights, with its variance and flags.

    And what cosmic rays struck in which frame, where they were looked for and found.

    One division by the flat serves them all; the variance follows. `counts` is the procedure's own;
    where the recipe wants more or cosmic rays are found, `clean` is the best estimate.
    """
    with stage("combine"), told(lights):
        return _combined(lights, dark, recipe, flat)


def _combined(
    lights: xr.Dataset, dark: xr.Dataset | None, recipe: Recipe, flat: xr.Dataset | None
) -> tuple[xr.Dataset, FrameHits | None]:
    lights, how = drop_absurd(lights), cleaning(recipe)
    image = settle(combine_with_peak(lights, how.plain, minus=dark))
    image = flag(image, lights, bad=bad_pixels(recipe.bad_pixels, dark, flat))
    image = add_clean(image, lights, how, minus=dark)
    image = estimate_noise(image, lights, minus=dark)
    image, hits = find_cosmic_rays(image, lights, minus=dark, search=recipe.cosmic_rays)
    return image if flat is None else divide_flat(image, flat), hits


def cleaning(recipe: Recipe) -> Cleaning:
    """Return how a recipe wants the lights to be combined."""
    return Cleaning(
        recipe.combine,
        recipe.clip_sigma,
        recipe.minmax_low,
        recipe.minmax_high,
        recipe.scale,
        recipe.weights,
    )


def bad_pixels(
    wanted: str, dark: xr.Dataset | None, flat: xr.Dataset | None = None
) -> NDArray[np.bool_] | None:
    """Return which pixels of the detector are bad: those of a file, or those that masters betray.

    Parameters
    ----------
    wanted : a file's name; "dark", "flat" or "dark+flat"; or "" for none.
    dark, flat : the masters (y, x); what is None betrays nothing.
    """
    if wanted not in BETRAYED_BY:
        return read_mask(wanted) if wanted else None
    masters = {"dark": dark, "flat": flat}
    known = [masters[kind] for kind in BETRAYED_BY[wanted]]
    found = [find_bad_pixels(master) for master in known if master is not None]
    return np.logical_or.reduce(found) if found else None


def in_units(product: xr.Dataset, recipe: Recipe) -> xr.Dataset:
    """Return a product in the units that the recipe wants."""
    return to_electrons(product) if recipe.units == "electron" else product
