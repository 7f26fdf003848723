"""The whole reduction on one page: what is done to a night, in order, in ordinary Python.

Masters settle first: they are two-dimensional, written anyway, and reusable. Then each target goes
by itself from its lights to its spectrum. Everything up to the combined image may be lazy.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from arrayred.config import Recipe, RowRange
from arrayred.errors import NightError
from arrayred.model import Chunks
from arrayred.night import Night, make_plan, open_night
from arrayred.steps.cosmic import judge_frames

if TYPE_CHECKING:
    import xarray as xr
from arrayred.pipeline.images import calibrate, combine_frames, in_units
from arrayred.pipeline.masters import make_flat, make_master
from arrayred.pipeline.reading import Reading
from arrayred.pipeline.spectra import (
    cut_arc,
    extract_each,
    extract_spectrum,
    numbered,
    recipe_for,
    rows_of,
    rows_to_extract,
)


def reduce_night(
    night: str | os.PathLike[str] | Night,
    recipe: Recipe | None = None,
    *,
    chunks: Chunks = "auto",
    memory: int | None = None,
) -> xr.DataTree:
    """Reduce every target of a night, in memory.

    Parameters
    ----------
    night : a folder, or what `open_night` returned.
    recipe : what to do; what the night's file says, else the defaults, if left out.
    chunks : None reads frames at once; a number makes dask chunks of that many rows; "auto" reads
        at once what is small (256 MB a group) and chunks the rest. The result does not depend on
        it.
    memory : with "auto", bytes that may be held beyond the results.

    Returns
    -------
    tree : /masters/dark/<exposure>, /masters/bias/<name>, /masters/flat/<name> and
        /targets/<target>/{combined, spectrum}, with `calibrated` and `frames`, the spectra of the
        single frames, where the recipe asks for them and `arc` where the night file names lamps.

    Raises
    ------
    NightError
        The plan has problems: all of them.
    """
    import xarray as xr

    opened = night if isinstance(night, Night) else open_night(night)
    plan = make_plan(opened, recipe)
    if plan.problems or plan.failed:
        raise NightError((*plan.problems, *(error for _, error in plan.failed)))
    settings = recipe or Recipe().replace(**opened.file.recipe)
    method, reading = settings.dark_method, Reading(chunks, memory, settings.overscan)
    masters: dict[str, xr.Dataset] = {}
    for group in plan.to_settle:
        masters[group.key] = make_master(group, method, reading, masters)
    masters |= {key: make_flat(flat, masters, reading) for key, flat in plan.flats.items()}
    wanted = [*(group.key for group in plan.masters), *plan.flats]
    nodes = {f"/masters/{key}": masters[key] for key in wanted}
    found: dict[str, RowRange] = {}
    for target in plan.targets:
        master = None if target.master is None else masters[target.master.key]
        flat = None if target.flat is None else masters[target.flat.key]
        lights = reading.open(target.lights)
        products = reduce_target(lights, master, recipe_for(target, found), flat)
        if target.lamps:
            lamp_master = None if target.lamp_master is None else masters[target.lamp_master.key]
            lamps = reading.open(target.lamps)
            products["arc"] = cut_arc(lamps, lamp_master, products["spectrum"], target.recipe)
        found[target.name] = rows_of(products["spectrum"])
        nodes |= {f"/targets/{target.name}/{name}": product for name, product in products.items()}
    return xr.DataTree.from_dict(nodes)


def reduce_target(
    lights: xr.Dataset, dark: xr.Dataset | None, recipe: Recipe, flat: xr.Dataset | None = None
) -> dict[str, xr.Dataset]:
    """Reduce the lights of one target to its spectrum.

    Parameters
    ----------
    lights : cube, counts (frame, y, x) in adu or electron.
    dark : the matched master dark or bias (y, x); None: nothing is to be subtracted.
    recipe : what to do.
    flat : the matched master flat (y, x); None: nothing is to be divided by.

    Returns
    -------
    products : `combined` (y, x) and `spectrum` (x); if the recipe asks, `calibrated` (frame, y, x),
        `frames` (frame, x), and the further spectra, `spectrum_2`, `frames_2` and so on.

    Raises
    ------
    NoSpectrumError
        No row stands out from the background.
    SkyBandError
        The sky band lies off the image.
    """
    combined, hits = combine_frames(lights, dark, recipe, flat)
    products = {}
    if recipe.calibrated:
        judged = judge_frames(lights, dark, combined, hits)
        products["calibrated"] = calibrate(lights, dark, flat, judged)
    products["combined"] = combined
    for i, rows in enumerate(rows_to_extract(combined, recipe)):
        spectrum = extract_spectrum(combined, recipe, rows)
        products[numbered("spectrum", i)] = spectrum
        if recipe.per_frame:
            products[numbered("frames", i)] = extract_each(lights, dark, recipe, flat, spectrum)
    return {name: in_units(product, recipe) for name, product in products.items()}
