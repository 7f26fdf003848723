"""The whole reduction on one page: what is done to a night, in order, in ordinary Python.

Masters settle first: they are two-dimensional, written anyway, and reusable. Then each target goes
by itself from its lights to its spectrum. Everything up to the combined image may be lazy;
`settle` is the one place where dask computes. Beyond it every step works on one contiguous float64
block, because sums over rows of a block that is chunked or laid out otherwise end in other bits.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from arrayred.config import BETRAYED_BY, Method, Overscan, Recipe, RowRange
from arrayred.errors import InputError, NightError
from arrayred.extraction import frames_of, spectrum_of
from arrayred.io.masks import read_mask
from arrayred.io.reopen import open_product
from arrayred.model import COUNTS, FRAME, VARIANCE, Chunks, Rows, turn
from arrayred.night import Flat, Group, Made, Night, Target, make_plan, open_night
from arrayred.steps.calibrate import adapt_dark, subtract_dark
from arrayred.steps.clean import Cleaning, add_clean
from arrayred.steps.combine import combine, combine_with_peak
from arrayred.steps.cosmic import flag_cosmic_rays
from arrayred.steps.detect import Threshold, detect_rows
from arrayred.steps.extract import extract
from arrayred.steps.find import find_all, find_rows
from arrayred.steps.flag import drop_absurd, find_bad_pixels, flag
from arrayred.steps.flat import combine_flats, divide_flat, flat_level, normalise_flat, with_bad
from arrayred.steps.flat_noise import estimate_flat_noise
from arrayred.steps.frame_planes import FramePlanes, judge_frames, with_planes
from arrayred.steps.noise import estimate_noise, measure_noise
from arrayred.steps.overscan import subtract_overscan, trim
from arrayred.steps.units import to_electrons

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Reading:
    """How the frames of a night are read.

    Parameters
    ----------
    chunks, memory : as in `reduce_night`.
    overscan : the level of a row: "mean" or "median"; "off": the frames stay whole.
    """

    chunks: Chunks = "auto"
    memory: int | None = None
    overscan: Overscan = "mean"

    def open(self, frames: Group) -> xr.Dataset:
        """Return frames as a cube, less their overscan and trimmed where sections are known."""
        cube, sections = frames.cube(self.chunks, self.memory), frames.frames[0].sections
        if sections is None or self.overscan == "off":
            return cube
        if sections.overscan is not None:
            cube = subtract_overscan(
                cube, sections.overscan, by_row=sections.by_row, method=self.overscan
            )
        return cube if sections.trim is None else trim(cube, sections.trim)


_USUAL = Reading()


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


def make_master(
    frames: Group,
    method: Method,
    reading: Reading = _USUAL,
    ready: Mapping[str, xr.Dataset] | None = None,
) -> xr.Dataset:
    """Return the settled master (y, x) of biases or of the darks of one exposure.

    Parameters
    ----------
    frames : the frames; or one that is a master already and is taken as it is; or what is made of
        other masters.
    method : how frames become one image.
    reading : how frames are read.
    ready : masters that are settled already, by key: what is made of them reads no frame again.
    """
    if isinstance(frames, Made):
        known = ready or {}
        dark, *others = (
            known[part.key] if part.key in known else make_master(part, method, reading)
            for part in frames.parts
        )
        bias = others[0] if others else None
        kept = {"has_bias": frames.has_bias, "keep_bias": frames.keep_bias}
        return adapt_dark(dark, bias, factor=frames.factor, **kept)
    cube = reading.open(frames)
    if frames.is_master:
        master = _with_number(settle(cube.isel({FRAME: 0})), frames)
    else:
        master = measure_noise(settle(combine(drop_absurd(cube), method)), cube)
    return master.assign_attrs(kind=frames.kind)


def _with_number(master: xr.Dataset, frames: Group) -> xr.Dataset:
    """Return a ready master with the number of its frames, where its header tells it."""
    n_frames = frames.frames[0].image.header.readable("NCOMBINE")
    known = isinstance(n_frames, int) and n_frames > 0
    return master.assign_coords(n_frames=n_frames) if known else master


def make_flat(
    flat: Flat, masters: Mapping[str, xr.Dataset], reading: Reading = _USUAL
) -> xr.Dataset:
    """Return the settled master flat (y, x), about 1, with `variance` and the coordinate `bad`.

    Its own noise is known where its frames are at hand, or its file tells it (UNCERT).

    Parameters
    ----------
    flat : its frames, or one that is a master already.
    masters : the darks and biases that it needs, by key.
    reading : how frames are read.
    """
    cube = reading.open(flat.frames)
    if flat.is_finished:
        return with_bad(_with_own_noise(settle(cube.isel({FRAME: 0})), flat.frames))
    darks = [None if group is None else masters[group.key] for group in flat.darks]
    singles = [calibrate(cube.isel({FRAME: [i]}), dark) for i, dark in enumerate(darks)]
    levels = [flat_level(settle(single.isel({FRAME: 0}))) for single in singles]
    image = settle(combine_flats(cube, levels, darks))
    if not flat.frames.is_master:
        image = estimate_flat_noise(image, cube, levels, darks)
    return normalise_flat(image).assign_attrs(kind="flat")


def _with_own_noise(master: xr.Dataset, frames: Group) -> xr.Dataset:
    """Return a master that arrayred made with the noise that its file tells, if it does."""
    image = frames.frames[0].image
    if image.packing != "plain":
        return master
    product = open_product(image.source.path)
    if VARIANCE not in product or product[VARIANCE].shape != master[COUNTS].shape:
        return master
    return master.assign({VARIANCE: product[VARIANCE].variable})


def recipe_for(target: Target, found: Mapping[str, RowRange]) -> Recipe:
    """Return what to do with a target, its rows being those of another where that is wanted.

    Parameters
    ----------
    target : as planned.
    found : the rows of the targets that have been reduced.

    Raises
    ------
    InputError
        The other target has no rows.
    """
    if not target.rows_from:
        return target.recipe
    if target.rows_from not in found:
        raise InputError(
            f"{target.name} takes the rows of {target.rows_from}, which has none",
            keyword="rows_from",
            hint="Mend that target, or give rows.",
        )
    return target.recipe.replace(rows=found[target.rows_from])


def rows_of(spectrum: xr.Dataset) -> RowRange:
    """Return the first and last row of a spectrum."""
    return spectrum.attrs["first_row"], spectrum.attrs["last_row"]


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
    combined = combine_target(lights, dark, recipe, flat)
    products = {}
    if recipe.calibrated:
        products["calibrated"] = calibrate(lights, dark, flat, judge_frames(lights, dark, combined))
    products["combined"] = combined
    for i, rows in enumerate(rows_to_extract(combined, recipe)):
        spectrum = extract_spectrum(combined, recipe, rows)
        products[numbered("spectrum", i)] = spectrum
        if recipe.per_frame:
            products[numbered("frames", i)] = extract_each(lights, dark, recipe, flat, spectrum)
    return {name: in_units(product, recipe) for name, product in products.items()}


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
    """Return the settled combination of the calibrated lights, with its variance and flags.

    One division by the flat serves them all; the variance follows. `counts` is the procedure's own;
    where the recipe wants more or cosmic rays are found, `clean` is the best estimate.
    """
    lights, how = drop_absurd(lights), cleaning(recipe)
    image = settle(combine_with_peak(lights, how.plain, minus=dark))
    image = flag(image, lights, bad=bad_pixels(recipe.bad_pixels, dark, flat))
    image = add_clean(image, lights, how, minus=dark)
    image = estimate_noise(image, lights, minus=dark)
    image = flag_cosmic_rays(image, lights, minus=dark, search=recipe.cosmic_rays)
    return image if flat is None else divide_flat(image, flat)


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


def numbered(name: str, i: int) -> str:
    """Return the name of the i-th spectrum, or what belongs to it: the first has no number.

    Examples
    --------
    >>> numbered("spectrum", 0), numbered("spectrum", 1)
    ('spectrum', 'spectrum_2')
    """
    return f"{name}_{i + 1}" if i else name


def rows_to_extract(image: xr.Dataset, recipe: Recipe) -> tuple[Rows, ...]:
    """Return the rows of the spectrum of a combined image, or of each, as the recipe wants."""
    threshold = Threshold(
        recipe.n_sigma,
        recipe.background_rows,
        recipe.skip_last_column,
        recipe.max_gap,
        recipe.whole_span,
    )
    image, method, near, rows = turn(image), recipe.detect, recipe.near_row, recipe.rows
    if recipe.all_spectra:
        return find_all(image, threshold, method=method, near_row=near, rows=rows)
    return (find_rows(image, threshold, method=method, near_row=near, rows=rows),)


def extract_spectrum(image: xr.Dataset, recipe: Recipe, rows: Rows | None = None) -> xr.Dataset:
    """Return a spectrum of a combined image: its rows found, and what `extraction` makes of them.

    Parameters
    ----------
    image : counts (y, x), settled; `clean`, `variance`, `dq` where it has them.
    recipe : what to do.
    rows : the rows, one of `rows_to_extract`; found if left out.
    """
    image = turn(image)
    rows = rows_to_extract(image, recipe)[0] if rows is None else rows
    return spectrum_of(image, rows, recipe)


def extract_each(
    lights: xr.Dataset,
    dark: xr.Dataset | None,
    recipe: Recipe,
    flat: xr.Dataset | None,
    spectrum: xr.Dataset,
) -> xr.Dataset:
    """Return the spectra (frame, x) of a target's lights, each by itself, for its light curve.

    Parameters
    ----------
    lights, dark, recipe, flat : as for `reduce_target`.
    spectrum : of all of them, whose aperture serves each.
    """
    alone = recipe.replace(combine="average", scale="none", weights="none", cosmic_rays="off")
    images = (
        turn(combine_target(lights.isel({FRAME: [i]}), dark, alone, flat))
        for i in range(lights.sizes[FRAME])
    )
    return frames_of(images, lights, spectrum, recipe)


def cut_arc(
    lamps: xr.Dataset, master: xr.Dataset | None, spectrum: xr.Dataset, recipe: Recipe
) -> xr.Dataset:
    """Return the spectrum of lamps through the rows of a star: a line tilts across the chip.

    Parameters
    ----------
    lamps : cube, counts (frame, y, x).
    master : the dark or bias (y, x) to subtract from them, or None.
    spectrum : the star's.
    recipe : how frames are combined: by median if that is wanted, else by average; lamps flicker,
        so that no cosmic rays are looked for.
    """
    plain = recipe.replace(
        combine=cleaning(recipe).plain, scale="none", weights="none", cosmic_rays="off"
    )
    image = turn(combine_target(lamps, master, plain))
    return extract(image, detect_rows(image, rows=rows_of(spectrum)))


def settle(image: xr.Dataset) -> xr.Dataset:
    """Compute an image and hold its counts as one C-contiguous float64 block.

    Parameters
    ----------
    image : counts (y, x), or single frames (frame, y, x), eager or chunked. All its variables are
        computed in one pass.
    """
    computed = image if isinstance(image[COUNTS].data, np.ndarray) else image.compute()
    counts = computed[COUNTS]
    pixels = np.ascontiguousarray(counts.values, np.float64)
    return computed.assign({COUNTS: counts.copy(data=pixels)})
