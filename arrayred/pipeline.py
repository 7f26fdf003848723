"""Reduce a night, in order: from its frames to masters, combined images and spectra.

`Masters` makes the masters and `target` yields the products of one target, each with its name, in
the order in which they are made. No other module knows that order: `reduce_night` collects the
products, `batch.run` writes them and keeps none in memory, the explorer stops after the first. The
unit of failure, of resuming and of retrying is a master or a target.

The masters are a mapping rather than a generator, each made on first access: a rerun that finds a
target finished makes none of its masters, and a master that fails stops only the targets that need
it.

Masters are computed first: they are two-dimensional, written anyway, and reusable. Then each target
is reduced on its own, from its light frames to its spectrum. Everything up to the combined image
may be lazy.

Each image gives two spectra. The procedure's, means over rows of `counts`, goes to the text tables,
whatever the recipe. The best one is made from the image's `clean`, if it has that: along the trace
of the star, with the sky of both sides, by optimal weights; its `flux` goes to every other product.
A recipe with straight rows, their sum and the procedure's sky band gives the procedure's flux, to
the last bit.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib import import_module
from pathlib import Path, PurePath
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.config import BETRAYED_BY, Method, Overscan, Recipe, RowRange
from arrayred.errors import (
    ArrayredError,
    InputError,
    LampError,
    NightError,
    NoSpectrumError,
    ResourceError,
    UsageError,
)
from arrayred.io.cube import read_mask
from arrayred.io.pixels import local_file_of
from arrayred.io.products import open_product, solution_of
from arrayred.kernels.noise import finite_median
from arrayred.kernels.reject import FrameOutliers
from arrayred.kernels.rows import bright_runs
from arrayred.model import (
    BAD_PIXEL,
    CLEAN,
    COSMIC_RAY,
    COUNTS,
    DQ,
    FRAME,
    LAMP,
    VARIANCE,
    Chunks,
    Rows,
    Run,
    X,
    Y,
    add_check,
    add_history,
    add_remark,
    check_cube,
    check_pixels,
    transpose_to_x,
    without_level,
)
from arrayred.night import Flat, Group, Lamp, Night, SyntheticDark, Target, make_plan, open_night
from arrayred.night.match import span_of
from arrayred.progress import is_watched, progressed, stage
from arrayred.steps.calibrate import (
    adapt_dark,
    combine_flats,
    divide_flat,
    flat_level,
    normalise_flat,
    subtract_dark,
    subtract_overscan,
    to_electrons,
    trim,
    with_bad_pixels,
)
from arrayred.steps.combine import (
    Cleaning,
    add_clean,
    combine,
    combine_with_peak,
    widen_variance,
)
from arrayred.steps.cosmic import (
    find_cosmic_rays,
    grid_of,
    moved_outliers,
    replace_hit_columns,
    without_hits,
)
from arrayred.steps.extract import (
    extract,
    extract_along,
    extract_frames,
    extract_lamp,
    moved_rows,
    part_neighbours,
    row_attrs,
    sky_along,
)
from arrayred.steps.find import Threshold, find_all_rows, find_rows
from arrayred.steps.motion import (
    LARGEST_DRIFT,
    MOVED_FWHM,
    StarMotion,
    align_star,
    combine_aligned,
    frames_as_cube,
    measure_motion,
)
from arrayred.steps.noise import (
    FramePlanes,
    drop_flagged,
    drop_impossible,
    estimate_flat_noise,
    estimate_noise,
    find_bad_pixels,
    find_frame_planes,
    flag,
    measure_noise,
    saturation_of,
    unrounded,
    with_frame_planes,
    with_gain,
    with_gain_of,
    with_unrounded_dark,
)
from arrayred.steps.sky import fit_sky, subtract_sky, why_no_band
from arrayred.steps.solution import (
    Corrections,
    Solved,
    brightest_rows,
    frames_with_wavelengths,
    solve_lamps,
    with_wavelengths,
)
from arrayred.steps.trace import Neighbour, fit_trace, half_height_of, neighbours_of
from arrayred.steps.wavelength import find_lamp_lines, identify, merge_lines

if TYPE_CHECKING:
    import xarray as xr


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
    night : a folder, or the `Night` of `open_night`.
    recipe : settings of the reduction; by default those of the night file, else the defaults.
    chunks : None reads frames at once; a number makes dask chunks of that many rows; "auto" reads
        small groups (up to 256 MB) at once and chunks the others. The result does not depend on
        it.
    memory : with "auto", bytes that may be held beyond the results.

    Returns
    -------
    tree : /masters/dark/<exposure>, /masters/bias/<name>, /masters/flat/<name> and
        /targets/<target>/{combined, spectrum}, with `calibrated` and `frames`, the spectra of the
        single frames, if the recipe asks for them, and `arc` (lamp, x) where there are lamps.

    Raises
    ------
    NightError
        The plan has problems; the error lists all of them.
    """
    import xarray as xr

    opened = night if isinstance(night, Night) else open_night(night)
    plan = make_plan(opened, recipe)
    if plan.problems or plan.failed:
        raise NightError((*plan.problems, *(error for _, error in plan.failed)))
    settings = recipe or Recipe().replace(**opened.file.recipe)
    reading = ReadOptions(chunks, memory, settings.overscan)
    masters = Masters(settings.dark_method, reading)
    nodes = {f"/masters/{group.key}": masters[group] for group in plan.masters_in_order}
    found: dict[str, RowRange] = {}
    for planned in plan.targets:
        one = with_rows(planned, found)
        products = _collect_products(target(one, masters, reading), one.recipe)
        found[one.name] = row_range_of(products["spectrum"])
        nodes |= {f"/targets/{one.name}/{name}": product for name, product in products.items()}
    return xr.DataTree.from_dict(nodes)


def reduce_target(
    lights: xr.Dataset, dark: xr.Dataset | None, recipe: Recipe, flat: xr.Dataset | None = None
) -> dict[str, xr.Dataset]:
    """Reduce the light frames of one target to its spectrum.

    Parameters
    ----------
    lights : cube, counts (frame, y, x) in adu or electron.
    dark : the matched master dark or bias (y, x); None: nothing is subtracted.
    recipe : settings of the reduction.
    flat : the matched master flat (y, x); None: no flat-field correction.

    Returns
    -------
    products : `combined` (y, x) and `spectrum` (x); if the recipe asks, `calibrated` (frame, y, x),
        `frames` (frame, x), and the further spectra, `spectrum_2`, `frames_2` and so on.

    Raises
    ------
    NoSpectrumError
        No row stands out from the background.
    SkyBandError
        The sky band lies outside the image.
    """
    check_cube(lights)
    with cluster_errors():
        return _collect_products(_from_lights(lights, dark, recipe, flat), recipe)


class Masters:
    """The masters of a night, each made once, on first access.

    ``masters[group]`` is the computed master (y, x) of a group of biases or darks, or of a flat.
    If making it failed, every access raises the same error.

    Parameters
    ----------
    method : how the frames of a master dark or bias are combined.
    reading : how frames are read.
    """

    def __init__(self, method: Method, reading: ReadOptions) -> None:
        self.method, self.reading = method, reading
        self._made: dict[str, xr.Dataset | ArrayredError] = {}
        self._lines: dict[str, xr.Dataset] = {}
        self._identified: dict[tuple[object, ...], xr.Dataset | ArrayredError] = {}
        self._making = RLock()

    def __getitem__(self, group: Group | Flat) -> xr.Dataset:
        """Return the master of a group.

        Raises
        ------
        ArrayredError
            It cannot be made.
        """
        with self._making:
            if group.key not in self._made:
                try:
                    with stage(group.master_name.removesuffix(".fits")), cluster_errors():
                        self._made[group.key] = self.make(group)
                except ArrayredError as error:
                    self._made[group.key] = error
            made = self._made[group.key]
        if isinstance(made, ArrayredError):
            raise made
        return made

    def of(self, group: Group | Flat | None) -> xr.Dataset | None:
        """Return the master of a group; None for None."""
        return None if group is None else self[group]

    def identified(self, lamps: Sequence[Lamp], recipe: Recipe) -> xr.Dataset:
        """Return the identified lines of lamps, in their brightest rows, whatever the target.

        Raises
        ------
        ArrayredError
            They cannot be read, or not be identified with certainty.
        """
        if recipe.lamp_solution:
            return solution_of(Path(recipe.lamp_solution))
        hint = recipe.lamp_dispersion, recipe.lamp_center
        key = (*(lamp.name for lamp in lamps), recipe.lamp, *hint)
        if key not in self._identified:
            try:
                with stage("identify lamp"):
                    lines = merge_lines(*(self._lines_of(lamp) for lamp in lamps))
                    self._identified[key] = identify(
                        lines, recipe.lamp, dispersion=hint[0], center=hint[1]
                    )
            except ArrayredError as error:
                self._identified[key] = error
        found = self._identified[key]
        if isinstance(found, ArrayredError):
            raise found
        return found

    def _lines_of(self, lamp: Lamp) -> xr.Dataset:
        """Return the lines of a lamp, which is read once: it is tried alone, and with others."""
        if lamp.name not in self._lines:
            self._lines[lamp.name] = brightest_lines(lamp, self)
        return self._lines[lamp.name]

    def make(self, group: Group | Flat) -> xr.Dataset:
        """Make a master from its frames and the masters that they need."""
        if isinstance(group, Flat):
            return master_flat(
                group, {part.key: self[part] for part in group.masters}, self.reading
            )
        ready = {part.key: self[part] for part in group.parts}
        return make_master(group, self.method, self.reading, ready)


def target(one: Target, masters: Masters, reading: ReadOptions) -> Iterator[tuple[str, xr.Dataset]]:
    """Yield the products of one target in the order in which they are made.

    Parameters
    ----------
    one : as planned; rows taken from another target must be filled in (`with_rows`).
    masters : of the night.
    reading : how frames are read.

    Yields
    ------
    name, product : in adu (`in_wanted_units`):

        ====================  =======================================================
        combined              the calibrated lights as one image (y, x), computed
        calibrated/<frame>    one calibrated frame (frame, y, x), as lazy as its cube
        spectrum              (x); further ones are spectrum_2, spectrum_3, ...
        arc                   its lamps, extracted with the aperture of the spectrum (lamp, x)
        lines                 the lines of its lamps, and its dispersion solution (line)
        frames                the spectrum of each frame (frame, x)
        ====================  =======================================================

    Raises
    ------
    ArrayredError
        A master cannot be made, frames cannot be read, or there is no spectrum.
    """
    dark, flat = masters.of(one.master), masters.of(one.flat)
    with cluster_errors():
        solved: Solved | None = None
        for name, product in _from_lights(reading.open(one.lights), dark, one.recipe, flat):
            arc = None
            if one.lamps and name.startswith("spectrum"):
                solved = None
                arc, told = extract_lamps(one, masters, reading, product)
                for text in told:
                    product = add_check(product, text)
            lines = None
            if arc is not None and one.recipe.wavelength:
                product, lines, solved = calibrate_wavelengths(one, masters, product, arc)
                spectrum = product
            if name.startswith("frames") and solved is not None:
                product = frames_with_wavelengths(product, solved, spectrum, _cards_of(one))
            yield name, product
            if arc is not None:
                yield name.replace("spectrum", "arc"), arc
            if lines is not None:
                yield name.replace("spectrum", "lines"), lines


def _from_lights(
    lights: xr.Dataset, dark: xr.Dataset | None, recipe: Recipe, flat: xr.Dataset | None
) -> Iterator[tuple[str, xr.Dataset]]:
    """Yield the products of a target's light frames, as `target` does, without arcs."""
    combined, hits = combine_frames(lights, dark, recipe, flat)
    yield "combined", combined
    if recipe.calibrated:
        judged = find_frame_planes(lights, dark, combined, hits)
        for i, label in enumerate(lights[FRAME].values):
            alone = lights.isel({FRAME: [i]})
            yield f"calibrated/{label}", calibrate(alone, dark, flat, judged)
    found = rows_to_extract(combined, recipe)
    first = extract_spectrum(combined, recipe, found[0])
    motion = motion_of(lights, dark, combined, first)
    aligned, of_tables = None, found
    if motion is not None and motion.moved:
        aligned, motion = align_lights(lights, dark, recipe, flat, (combined, first, motion))
        hits = aligned.hits_in_lights()
        near = None if recipe.rows else round(float(first.attrs["center_middle"]))
        found = rows_to_extract(aligned.image, recipe.replace(near_row=near))
        of_tables = of_tables[:1] + found[1:]
    i = 0
    for rows, own in zip(found, of_tables, strict=True):
        try:
            if aligned is not None:
                spectrum = extract_spectrum(combined, recipe, own, (aligned.image, rows))
                spectrum = without_hit_columns(spectrum, aligned, recipe)
            else:
                spectrum = first if i == 0 else extract_spectrum(combined, recipe, rows)
        except NoSpectrumError:
            if i == 0:
                raise
            continue
        spectrum = spectrum if motion is None else with_motion(spectrum, motion)
        yield numbered("spectrum", i), spectrum
        if recipe.per_frame:
            each = extract_each(lights, dark, recipe, flat, spectrum, hits=hits, motion=motion)
            yield numbered("frames", i), each
        i += 1


def motion_of(
    lights: xr.Dataset, dark: xr.Dataset | None, combined: xr.Dataset, spectrum: xr.Dataset
) -> StarMotion | None:
    """Return where the star is in each light; None for one light, or without a trace."""
    if lights.sizes[FRAME] < 2 or "trace" not in spectrum:
        return None
    with stage("compare frames"):
        return measure_motion(lights, combined, spectrum, dark)


class AlignedLights(NamedTuple):
    """The calibrated lights of a star that moved, aligned by whole pixels.

    Parameters
    ----------
    image : their average, counts (y, x), computed, with `variance`, `dq`, and `clean` where cosmic
        rays were found; remarks name the frames that are not used.
    cube : the frames, counts (frame, y, x), as lazy as they came.
    shifts : (frame, 2), by which they were moved back.
    hits : the cosmic rays found, at their pixels in the cube; None: not searched, or none.
    """

    image: xr.Dataset
    cube: xr.Dataset
    shifts: NDArray[np.intp]
    hits: FrameOutliers | None

    def hits_in_lights(self) -> FrameOutliers | None:
        """Return the cosmic rays at their pixels in the lights."""
        if self.hits is None:
            return None
        return moved_outliers(self.hits, self.shifts, grid_of(self.image))

    def frames(self) -> Iterator[xr.Dataset]:
        """Yield each frame (y, x), computed, without its cosmic rays, dispersed along x."""
        n_frames, facts = self.cube.sizes[FRAME], dict(self.image.attrs)
        if "gain_effective" in facts:
            facts["gain_effective"] /= n_frames
        for i, label in enumerate(self.cube[FRAME].values):
            one = compute(self.cube.isel({FRAME: i})).assign_attrs(facts)
            if self.hits is not None:
                one = without_hits(one, *self.hits.of([str(label)]))
            yield transpose_to_x(one)


def align_lights(
    lights: xr.Dataset,
    dark: xr.Dataset | None,
    recipe: Recipe,
    flat: xr.Dataset | None,
    known: tuple[xr.Dataset, xr.Dataset, StarMotion],
) -> tuple[AlignedLights, StarMotion]:
    """Return the lights of a star that moved, aligned, and its motion along the columns too.

    Parameters
    ----------
    lights, dark, recipe, flat : as in `reduce_target`.
    known : their plain combination, the spectrum extracted from it, and the motion of the star.
    """
    combined, spectrum, motion = known
    planes = find_frame_planes(lights, dark, combined)
    cube = calibrate(lights, dark, flat, planes)
    cube, motion, shifts, told = align_star(cube, combined, spectrum, motion)
    noise, common = planes.noise, None
    if noise is not None:
        response = 1.0 if flat is None else flat[COUNTS].values
        common = noise.common / response**2
    image = compute(combine_aligned(cube, common, shifts, motion.fwhm))
    own = None if noise is None else noise.of_pixel
    if own is not None and own.per_photon:
        image = image.assign_attrs(gain_effective=len(shifts) / own.per_photon)
        if own.level and np.isfinite(own.level):
            image = image.assign_attrs(noise_level=own.level)
    image = image.assign_attrs(remarks=told)
    hits = None
    if own is not None:
        image, hits = find_cosmic_rays(image, cube, search=recipe.cosmic_rays, noise=own)
    return AlignedLights(image, cube, shifts, hits), motion


def without_hit_columns(spectrum: xr.Dataset, aligned: AlignedLights, recipe: Recipe) -> xr.Dataset:
    """Return the spectrum of aligned lights with the flux of other frames where one is hit.

    A star that moves changes the light of its rows from frame to frame, and a track along the
    dispersion passes for that. It does not pass for a change of the star's flux.
    """
    if recipe.cosmic_rays == "off" or VARIANCE not in spectrum or wants_procedure(recipe):
        return spectrum
    each = spectra_of_frames(aligned.frames(), aligned.cube, spectrum, recipe)
    return replace_hit_columns(spectrum, each)


def with_motion(spectrum: xr.Dataset, motion: StarMotion) -> xr.Dataset:
    """Return a spectrum with the motion of its star, and a remark where it was large."""
    facts = {"drift_rows": motion.drift_rows, "drift_columns": motion.drift_columns}
    known = {name: value for name, value in facts.items() if np.isfinite(value)}
    spectrum = spectrum.assign_attrs(known)
    if motion.moved and motion.drift_rows > MOVED_FWHM * motion.fwhm:
        text = (
            f"the star drifts along the slit by {motion.drift_rows:.1f} rows between light frames: "
            "they were aligned before averaging; the text tables use the unaligned frames"
        )
        spectrum = add_remark(spectrum, text)
    left = motion.drift_columns_left
    if np.isfinite(left) and left > LARGEST_DRIFT:
        text = (
            f"the light frames drift by {left:.2f} pixels along the dispersion (by {motion.by}), "
            "which broadens lines: use --per-frame for the spectrum of each frame"
        )
        spectrum = add_check(spectrum, text)
    if not known:
        return spectrum
    words = [f"{facts['drift_rows']:.2f} rows along the slit"]
    if "drift_columns" in known:
        words.append(f"{facts['drift_columns']:.2f} pixels along the dispersion by {motion.by}")
    return add_history(spectrum, f"drift between frames: {', '.join(words)}")


def _collect_products(
    products: Iterable[tuple[str, xr.Dataset]], recipe: Recipe
) -> dict[str, xr.Dataset]:
    """Return the products by name in the recipe's units, the calibrated frames as one cube."""
    found: dict[str, xr.Dataset] = {}
    frames: list[xr.Dataset] = []
    for name, product in products:
        wanted = in_wanted_units(product, recipe)
        if name.startswith("calibrated/"):
            frames.append(wanted)
        else:
            found[name] = wanted
    return {"calibrated": frames_as_cube(frames), **found} if frames else found


def with_rows(one: Target, found: Mapping[str, RowRange]) -> Target:
    """Return a target with its rows filled in if they are those of another target.

    Parameters
    ----------
    one : as planned.
    found : the rows of the targets reduced so far, by name.

    Raises
    ------
    InputError
        The other target has no rows.
    """
    if not one.rows_from:
        return one
    if one.rows_from not in found:
        raise InputError(
            f"{one.name} uses the rows of {one.rows_from}, which has none",
            keyword="rows_from",
            hint="Correct that target, or set rows.",
        )
    rows = found[one.rows_from]
    recipe = one.recipe.replace(rows=rows, near_row=None, all_spectra=False)
    return replace(one, recipe=recipe)


# Masters: `make_master`, `make_flat`, `master_flat`.


def make_master(
    frames: Group,
    method: Method,
    reading: ReadOptions | None = None,
    ready: Mapping[str, xr.Dataset] | None = None,
) -> xr.Dataset:
    """Return the computed master (y, x) of biases or of the darks of one exposure.

    Parameters
    ----------
    frames : the frames; or one master, used unchanged; or a synthetic dark, made of other masters.
    method : how frames are combined.
    reading : how frames are read.
    ready : masters computed already, by key: a synthetic dark made of them reads no frame again.
    """
    if isinstance(frames, SyntheticDark):
        known = ready or {}
        dark, *others = (
            known[part.key] if part.key in known else make_master(part, method, reading)
            for part in frames.parts
        )
        bias = others[0] if others else None
        kept = {"has_bias": frames.has_bias, "keep_bias": frames.keep_bias}
        return adapt_dark(dark, bias, factor=frames.factor, **kept)
    cube = (reading or ReadOptions()).open(frames)
    if frames.is_master:
        master = _with_number(compute(cube.isel({FRAME: 0})), frames)
    else:
        with stage("combine"), dask_progress(cube):
            master = measure_noise(compute(combine(cube, method)), cube)
    return master.assign_attrs(kind=frames.kind)


def _with_number(master: xr.Dataset, frames: Group) -> xr.Dataset:
    """Return an existing master with the number of its frames, if its header has NCOMBINE."""
    n_frames = frames.frames[0].image.header.readable("NCOMBINE")
    known = isinstance(n_frames, int) and n_frames > 0
    return master.assign_coords(n_frames=n_frames) if known else master


def make_flat(
    flats: xr.Dataset,
    darks: xr.Dataset | Sequence[xr.Dataset | None] | None = None,
    *,
    is_master: bool = False,
) -> xr.Dataset:
    """Make a master flat, for `divide_flat`.

    Frames are dark-subtracted and scaled to the same level; their median is divided by the
    spectrum of the lamp.

    Parameters
    ----------
    flats : counts (frame, y, x) in adu or electron, eager or chunked; its coordinates `gain`
        (electron/adu), `read_noise` (electron) and `dispersion_axis` (1 or 2) are used where
        present.
    darks : master dark or bias (y, x) of all frames; or one of each frame, or None where it is
        subtracted already; None: of none.
    is_master : the frames are masters themselves, whose noise is not known from their counts.

    Returns
    -------
    flat : counts (y, x), computed, 1 in the middle of the slit, without a unit; `variance` (y, x)
        where the gain is known or can be measured; the coordinate `bad` (y, x), True where the
        response cannot be corrected; `dq` where that of a column is doubtful.

    Raises
    ------
    InputError
        A flat has no signal, or is saturated.
    MismatchError
        A dark lacks pixels of the flats, or was made with another setting.
    UsageError
        The number of darks is not that of the flats.

    Examples
    --------
    >>> import xarray as xr
    >>> rng, response = np.random.default_rng(1), np.ones((40, 200))
    >>> response[20, 100] = 0.8
    >>> lamp = 20_000.0 + 50.0 * np.arange(200)
    >>> labels = {"y": np.arange(1, 41), "x": np.arange(1, 201), "gain": 1.0}
    >>> frames = rng.poisson(lamp * response, (9, 40, 200)) + 300
    >>> flats = xr.Dataset({"counts": (("frame", "y", "x"), frames, {"units": "adu"})}, labels)
    >>> bias = xr.Dataset({"counts": (("y", "x"), np.full((40, 200), 300.0))}, labels)
    >>> flat = make_flat(flats, bias)
    >>> [round(float(flat.counts.sel(y=y, x=101)), 2) for y in (20, 21)]
    [1.0, 0.8]
    """
    check_cube(flats)
    n_frames = flats.sizes[FRAME]
    each = list(darks) if isinstance(darks, Sequence) else [darks] * n_frames
    if len(each) != n_frames:
        raise UsageError(
            f"{n_frames} flats, but {len(each)} darks",
            hint="Use one dark for all flats, or one for each.",
        )
    levels, saturated_from = _levels_of_flats(flats, each)
    image = compute(combine_flats(flats, levels, each, saturated_from=saturated_from))
    if not is_master:
        image = estimate_flat_noise(image, flats, levels, each)
    return normalise_flat(image).assign_attrs(kind="flat")


def master_flat(
    flat: Flat, masters: Mapping[str, xr.Dataset], reading: ReadOptions | None = None
) -> xr.Dataset:
    """Return the master flat (y, x) that a night plans; see `make_flat`.

    Parameters
    ----------
    flat : its frames, or a single master flat, whose noise is that of its file (UNCERT).
    masters : the master darks and biases that it needs, by key.
    reading : how frames are read.
    """
    cube = (reading or ReadOptions()).open(flat.frames)
    if flat.is_finished:
        return with_bad_pixels(_with_own_planes(compute(cube.isel({FRAME: 0})), flat.frames))
    darks = [None if group is None else masters[group.key] for group in flat.darks]
    return make_flat(cube, darks, is_master=flat.frames.is_master)


def _levels_of_flats(
    cube: xr.Dataset, darks: Sequence[xr.Dataset | None]
) -> tuple[list[float], float]:
    """Return the level of each flat less its dark, and the counts from which they are saturated.

    Pixels that any of them saturates count in none.
    """
    peak, levels = np.full(cube[COUNTS].shape[1:], -np.inf), []
    for i, dark in enumerate(darks):
        single = compute(cube.isel({FRAME: [i]}))
        np.fmax(peak, single[COUNTS].values[0], out=peak)
        levels.append(flat_level(compute(calibrate(single, dark).isel({FRAME: 0}))))
    top = saturation_of(peak, cube)
    if top is None or not (peak >= top.level).any():
        return levels, np.inf
    for i, dark in enumerate(darks):
        single = calibrate(cube.isel({FRAME: [i]}), dark).isel({FRAME: 0})
        levels[i] = flat_level(compute(single), peak >= top.level)
    return levels, top.level


def _with_own_planes(master: xr.Dataset, frames: Group) -> xr.Dataset:
    """Return a master made by arrayred with the variance and flags of its file, if it has any."""
    image = frames.frames[0].image
    if image.packing != "plain":
        return master
    product = open_product(local_file_of(image))
    same = (name for name in (VARIANCE, DQ) if name in product)
    planes = {name: product[name].variable for name in same}
    return master.assign(
        {name: plane for name, plane in planes.items() if plane.shape == master[COUNTS].shape}
    )


# Calibrate and combine the frames of a target: `calibrate`, `combine_frames`.


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
    judged : planes of `find_frame_planes`, which give each frame its own `dq` and, if known,
        `variance`. The variance is the sum of the frame's own and that of the masters, which all
        frames have in common.
    """
    lights = lights if judged is None else drop_impossible(lights)
    cube = lights if dark is None else subtract_dark(lights, dark)
    cube = cube if judged is None else with_frame_planes(cube, lights, judged)
    return cube if flat is None else divide_flat(cube, flat)


def combine_frames(
    lights: xr.Dataset, dark: xr.Dataset | None, recipe: Recipe, flat: xr.Dataset | None = None
) -> tuple[xr.Dataset, FrameOutliers | None]:
    """Return the computed combination of the calibrated lights, with its variance and flags.

    The second value is the cosmic rays found in each frame, None if there are none or they were
    not searched for.

    The combined image is divided by the flat once; its variance is scaled with it. `counts` is the
    procedure's own; where the recipe combines otherwise or cosmic rays are found, `clean` is the
    best estimate.
    """
    with stage("combine"), dask_progress(lights):
        lights, how = drop_impossible(lights), combine_settings(recipe)
        image = compute(combine_with_peak(lights, how.plain, minus=dark))
        image = with_gain(image, lights, minus=dark, flat=flat)
        image = flag(image, lights, bad=bad_pixels(recipe.bad_pixels, dark, flat))
        if dark is not None and CLEAN in dark and not wants_procedure(recipe):
            image, dark = with_unrounded_dark(image, dark), unrounded(dark)
        image = add_clean(image, lights, how, minus=dark)
        image = widen_variance(estimate_noise(image, lights, minus=dark))
        image, hits = find_cosmic_rays(image, lights, minus=dark, search=recipe.cosmic_rays)
        return image if flat is None else divide_flat(image, flat), hits


def combine_settings(recipe: Recipe) -> Cleaning:
    """Return a recipe's settings for combining the lights."""
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
    """Return the mask of bad pixels (y, x), from a file or detected in the masters; None for none.

    Parameters
    ----------
    wanted : a file's name; "dark", "flat" or "dark+flat"; or "" for none.
    dark, flat : the masters (y, x) to search, if not None.
    """
    if wanted not in BETRAYED_BY:
        return read_mask(wanted) if wanted else None
    masters = {"dark": dark, "flat": flat}
    known = [masters[kind] for kind in BETRAYED_BY[wanted]]
    found = [find_bad_pixels(master) for master in known if master is not None]
    return np.logical_or.reduce(found) if found else None


def in_wanted_units(product: xr.Dataset, recipe: Recipe) -> xr.Dataset:
    """Return a product in the units of the recipe; arcs stay in adu."""
    is_arc = product.attrs.get("kind") == "arc"
    return to_electrons(product) if recipe.units == "electron" and not is_arc else product


# From a combined image to its spectra: find the rows, extract.


def numbered(name: str, i: int) -> str:
    """Return the name of the i-th spectrum or of its arc or frames; the first has no number.

    Examples
    --------
    >>> numbered("spectrum", 0), numbered("spectrum", 1)
    ('spectrum', 'spectrum_2')
    """
    return f"{name}_{i + 1}" if i else name


def row_range_of(spectrum: xr.Dataset) -> RowRange:
    """Return the first and last row of a spectrum."""
    return spectrum.attrs["first_row"], spectrum.attrs["last_row"]


def rows_to_extract(image: xr.Dataset, recipe: Recipe) -> tuple[Rows, ...]:
    """Return the rows of the spectrum of a combined image, or of all its spectra (`recipe`)."""
    threshold = Threshold(
        recipe.n_sigma,
        recipe.background_rows,
        recipe.skip_last_column,
        recipe.max_gap,
        recipe.whole_span,
    )
    image, method, near, rows = transpose_to_x(image), recipe.detect, recipe.near_row, recipe.rows
    if recipe.all_spectra:
        return find_all_rows(image, threshold, method=method, near_row=near, rows=rows)
    return (find_rows(image, threshold, method=method, near_row=near, rows=rows),)


@stage("extract")
def extract_spectrum(
    image: xr.Dataset,
    recipe: Recipe,
    rows: Rows | None = None,
    aligned: tuple[xr.Dataset, Rows] | None = None,
) -> xr.Dataset:
    """Return a spectrum of a combined image: find its rows, then extract it.

    Parameters
    ----------
    image : counts (y, x), computed; `clean`, `variance`, `dq` if it has them.
    recipe : settings of the reduction.
    rows : the rows, one of `rows_to_extract`; by default the first of them.
    aligned : the image of `align_lights` and the rows of the star in it, for the best flux.
    """
    image = transpose_to_x(image)
    rows = rows_to_extract(image, recipe)[0] if rows is None else rows
    if aligned is None:
        return spectrum_at_rows(image, rows, recipe)
    return spectrum_at_rows(image, rows, recipe, (transpose_to_x(aligned[0]), aligned[1]))


@stage("extract frames")
def extract_each(
    lights: xr.Dataset,
    dark: xr.Dataset | None,
    recipe: Recipe,
    flat: xr.Dataset | None,
    spectrum: xr.Dataset,
    *,
    hits: FrameOutliers | None = None,
    motion: StarMotion | None = None,
) -> xr.Dataset:
    """Return the spectrum of each light frame of a target (frame, x), for its light curve.

    Parameters
    ----------
    lights, dark, recipe, flat : as for `reduce_target`.
    spectrum : of the combined lights; its aperture is used for each frame.
    hits : the cosmic rays found in the frames, which are left out of them.
    motion : of the star; where it moved far, the aperture follows it.
    """
    alone = recipe.replace(combine="average", scale="none", weights="none", cosmic_rays="off")
    lights = with_gain_of(lights, spectrum)

    def image_of(i: int) -> xr.Dataset:
        with cluster_errors():
            one = lights.isel({FRAME: [i]}).load()  # once: it is combined, sampled and flagged
        image = combine_frames(one, dark, alone, flat)[0]
        if hits is not None:
            image = without_hits(image, *hits.of([str(lights[FRAME].values[i])]))
        return transpose_to_x(image)

    images = map(image_of, range(lights.sizes[FRAME]))
    known = motion.rows if motion is not None and motion.moved else None
    return spectra_of_frames(images, lights, spectrum, recipe, known)


_LAMP_MARGIN = 100
"""Rows beside the aperture that are read of a lamp: enough lit ones to tell where it saturates."""


@stage("extract lamps")
def extract_lamps(
    one: Target, masters: Masters, reading: ReadOptions, spectrum: xr.Dataset
) -> tuple[xr.Dataset | None, list[str]]:
    """Return the lamps of a target through the aperture of its spectrum, and why others failed.

    Parameters
    ----------
    one : the target.
    masters : of the night.
    reading : how frames are read.
    spectrum : the star's: its trace, aperture and weights are those of the lamps, whose lines lean
        along the slit.

    Returns
    -------
    arc : (lamp, x), `counts`, `variance` and `dq` of `extract_lamp`, adu, with the coordinates
        `exptime` (s), `time_mid` (UTC), `minutes` and `subtracted` (lamp); None if no lamp could be
        extracted.
    told : a remark on each lamp that failed: it costs no star its spectrum.
    """
    import xarray as xr

    trace = _trace_of(spectrum)
    half_height = spectrum.attrs.get("half_height", spectrum.attrs["n_rows"] / 2)
    if "half_height" in spectrum:
        half_height = spectrum["half_height"].values
    weights, center = spectrum.attrs.get("extraction", "sum"), trace["center"].values
    margin = np.max(half_height) + _LAMP_MARGIN
    beside = slice(math.floor(np.min(center) - margin), math.ceil(np.max(center) + margin))
    found, told = [], []
    for lamp in one.lamps:
        try:
            image = lamp_image(lamp, masters, reading, beside, spectrum)
            arc = extract_lamp(image, trace, half_height=half_height, weights=weights)
        except ArrayredError as error:
            told.append(f"the arc frame {lamp.name} was not extracted: {error.args[0]}")
            continue
        if lamp.master is None and not lamp.frames.is_dark_subtracted:
            arc[COUNTS] -= finite_median(image[COUNTS].values) * arc.attrs["n_rows"]
        found.append(arc.expand_dims(LAMP).assign_coords(lamp_coords(lamp)))
    if not found:
        return None, told
    arc = xr.concat(found, LAMP, coords="minimal", compat="override", combine_attrs="override")
    return arc.assign_attrs(kind="arc"), told


def lamp_image(
    lamp: Lamp,
    masters: Masters,
    reading: ReadOptions,
    rows: slice | None = None,
    spectrum: xr.Dataset | None = None,
) -> xr.Dataset:
    """Return a lamp (y, x), dispersed along x, less its master: all rows or some.

    Parameters
    ----------
    lamp, masters, reading : the frame, and how it is read.
    rows : labels of the rows.
    spectrum : its gain is that of the lamp, which shows none of its own.
    """
    cube = reading.open(lamp.frames)
    if rows is not None:
        cube = cube.sel({X if lamp.frames.frames[0].dispersion_axis == 2 else Y: rows})
    cube = cube if spectrum is None else with_gain_of(cube, spectrum)
    return transpose_to_x(
        combine_frames(cube, masters.of(lamp.master), Recipe(cosmic_rays="off"))[0]
    )


def brightest_lines(lamp: Lamp, masters: Masters) -> xr.Dataset:
    """Return the lines of a lamp in its brightest rows."""
    image = lamp_image(lamp, masters, masters.reading)
    trace, half_height = brightest_rows(image)
    return find_lamp_lines(extract_lamp(image, trace, half_height=half_height, weights="sum"))


def calibrate_wavelengths(
    one: Target, masters: Masters, spectrum: xr.Dataset, arc: xr.Dataset
) -> tuple[xr.Dataset, xr.Dataset | None, Solved | None]:
    """Return a spectrum with wavelengths, the lines of its lamps, and what these give.

    Where they give nothing, the spectrum has a remark on why not.

    Parameters
    ----------
    one : the target.
    masters : of the night, which know its identified lamps.
    spectrum, arc : its own, and its lamps through the same aperture.
    """
    lamps = {lamp.name: lamp for lamp in one.lamps}
    start, end = span_of(one.lights)
    middle = None
    if start is not None and end is not None:
        middle = np.datetime64((start + (end - start) / 2).replace(tzinfo=None), "ns")
    try:
        with stage("solve wavelengths"):
            solved = solve_lamps(
                arc,
                lambda names: masters.identified([lamps[name] for name in names], one.recipe),
                middle,
                order=one.recipe.wavelength_order,
            )
    except ArrayredError as error:
        told = f"no wavelengths: {error.args[0]}. {error.hint}".rstrip()
        told += " (arrayred wavelength OUT tries again without reducing anew)"
        return add_check(spectrum, told), None, None
    cards, recipe = _cards_of(one), one.recipe
    wanted = Corrections(recipe.zero_point, recipe.star_velocity, recipe.heliocentric)
    try:
        spectrum = with_wavelengths(spectrum, solved, cards, middle, wanted)
    except LampError as error:
        spectrum = with_wavelengths(spectrum, solved, cards, middle)
        told = f"wavelength zero point not corrected: {error.args[0]}. {error.hint}"
        spectrum = add_check(spectrum, told)
    for text in solved.told:
        spectrum = add_remark(spectrum, text)
    facts = {"solution": solved.dispersion.to_dict(), "lamps": solved.lamps, "kind": "arc"}
    return spectrum, solved.lines.assign_attrs(facts), solved


def _cards_of(one: Target) -> dict[str, Any]:
    """Return the cards of the first light frame of a target, and those that are given for it."""
    return one.lights.frames[0].image.header.values() | dict(one.cards)


def lamp_coords(lamp: Lamp) -> dict[str, Any]:
    """Return the coordinates (lamp) of one lamp: label, object, exposure, time, its master."""
    frame = lamp.frames.frames[0]
    middle: Any = np.datetime64("NaT", "ns")
    if frame.time is not None:
        half = timedelta(seconds=(frame.exptime or 0.0) / 2)
        middle = np.datetime64((frame.time + half).replace(tzinfo=None), "ns")
    taken = "" if lamp.master is None else lamp.master.title
    return {
        LAMP: [lamp.name],
        "object": (LAMP, [frame.target]),
        "exptime": (LAMP, [math.nan if frame.exptime is None else frame.exptime]),
        "time_mid": (LAMP, [middle]),
        "minutes": (LAMP, [lamp.minutes]),
        "subtracted": (LAMP, [taken]),
    }


_PROCEDURE_TABLES = ("counts_mean", "counts_mean_sky_subtracted")
_TRACE_ATTRS = ("trace", "tilt", "fwhm", "trace_rms", "trace_order", "n_bins")


def spectrum_at_rows(
    image: xr.Dataset,
    rows: Rows,
    recipe: Recipe,
    aligned: tuple[xr.Dataset, Rows] | None = None,
) -> xr.Dataset:
    """Return the spectrum of a combined image whose rows are known.

    Parameters
    ----------
    image : counts (y, x), computed, dispersed along x; `clean`, `variance`, `dq` if it has them.
    rows : of the star.
    recipe : settings of the reduction.
    aligned : another image, and the rows of the star in it, from which the best flux is made.

    Returns
    -------
    spectrum : (x): `counts_mean` and `counts_mean_sky_subtracted`, the procedure's, from `counts`;
        `flux`, `variance`, `sky`, `dq` and `trace`, the best, with the settings and measurements
        behind them as attributes.

    Raises
    ------
    SkyBandError
        There is no room for the sky.
    NoSpectrumError
        Rows that were found, not given, hold no signal.
    """
    tables, best = procedure_spectrum(image, rows, recipe), best_estimate(image)
    if aligned is not None:
        bright = [run.remark for run in rows.others]
        told = [line for line in tables.attrs.get("remarks", ()) if line not in bright]
        best, rows = best_estimate(aligned[0]), aligned[1]
        told += [run.remark for run in rows.others if run.remark not in told]
        kept = {name: value for name, value in tables.attrs.items() if name != "other_rows"}
        tables = tables.drop_attrs(deep=False)
        tables = tables.assign_attrs({**kept, **row_attrs(rows), "remarks": told})
    if wants_procedure(recipe):
        found = tables if CLEAN not in image else procedure_spectrum(best, rows, recipe)
        return found.assign({name: tables[name] for name in _PROCEDURE_TABLES if name in tables})
    trace = fit_trace(best, rows, straight=recipe.trace == "straight")
    half_height = half_height_of(rows, trace)
    sky = sky_under_trace(best, trace, rows, recipe, tables, half_height) if recipe.sky else None
    others = list(neighbours_of(best, rows, trace))
    if others and recipe.trace == "fit":
        alone = Neighbour(rows, trace, half_height)
        alone, *others = part_neighbours(best, alone, others, sky)
        sky = None if sky is None else sky_along(sky, trace, alone.trace)
        trace, half_height = alone.trace, alone.half_height
    weights = recipe.extraction
    found = extract_along(best, trace, sky, half_height=half_height, weights=weights, others=others)
    spectrum = with_best_flux(tables, found, trace, sky).assign_attrs(
        rule=rows.rule,
        first_row=rows.first,
        last_row=rows.last,
        n_rows=rows.n_rows,
        half_height=finite_median(np.asarray(half_height)),
        **snr_of(found),
    )
    if below := background_below_zero(image, rows):
        spectrum = add_check(spectrum, below)
    return spectrum if rows.rule == "given" else checked_for_signal(spectrum, rows, image.sizes[Y])


_FAR_BELOW_ZERO_SIGMA = 3.0
"""Noise of a pixel in one frame: small offsets drift by less, and the sky takes them away."""


def background_below_zero(image: xr.Dataset, rows: Rows) -> str:
    """Return a remark if the background beside a spectrum is far below zero, or "".

    No light is negative: what was subtracted is too high.

    Parameters
    ----------
    image : counts (y, x), less a dark or bias, with the coordinate `n_frames`.
    rows : of the spectrum, with the mean and the scatter of the background's pixels.
    """
    n_frames = int(image["n_frames"]) if "n_frames" in image.coords else 1
    noise = rows.background_std * math.sqrt(n_frames)
    if not rows.background_mean < -_FAR_BELOW_ZERO_SIGMA * noise:
        return ""
    return (
        f"the background is {rows.background_mean:.0f} ADU, far below zero: the dark or bias does "
        "not belong to these frames (compare their levels; use another, --calibrations DIR)"
    )


def wants_procedure(recipe: Recipe) -> bool:
    """Return whether a recipe asks for the procedure's own flux."""
    wanted = (recipe.trace, recipe.extraction, recipe.sky_model)
    return wanted == ("straight", "sum", "band")


def best_estimate(image: xr.Dataset) -> xr.Dataset:
    """Return an image whose counts are the best estimate, with its variance and flags.

    Each plane is made C-contiguous, so that a transposed image gives the same bits.
    """
    planes = {COUNTS: image[CLEAN if CLEAN in image else COUNTS]}
    planes |= {name: image[name] for name in (VARIANCE, DQ) if name in image}
    whole = {
        name: plane.copy(data=np.ascontiguousarray(plane.values)) for name, plane in planes.items()
    }
    whole[COUNTS].attrs = dict(image[COUNTS].attrs)
    return image.drop_vars(list(image.data_vars)).assign(whole)


def procedure_spectrum(image: xr.Dataset, rows: Rows, recipe: Recipe) -> xr.Dataset:
    """Return the procedure's spectrum of an image's counts, minus its sky band.

    If the sky is modelled otherwise and there is no room for the band, only the table of the
    sky-subtracted means is missing; a remark says so. Rows that were parted between two stars are
    the procedure's as a whole.
    """
    own, rows = rows, rows.of_procedure
    spectrum = extract(image, rows)
    if own.procedure is not None:
        pair = f"{rows.first} to {rows.last}, two stars that the procedure treats as one"
        spectrum = add_remark(spectrum, f"the text tables are of rows {pair}")
    if not recipe.sky:
        return spectrum
    where: dict[str, Any] = {"offset": recipe.sky_offset, "side": recipe.sky_side}
    is_of_tables = recipe.sky_rows is None and recipe.sky_model != "band"
    if is_of_tables:
        error = why_no_band(image, rows, **where)
        if error is not None:
            return add_remark(spectrum, f"no sky-subtracted text table: {error.args[0]}")
    told = list(spectrum.attrs.get("remarks", ()))
    spectrum = subtract_sky(
        spectrum,
        image,
        rows,
        band=recipe.sky_rows,
        per_bright_row=recipe.sky_per_bright_row,
        **where,
    )
    if is_of_tables and "remarks" in spectrum.attrs:  # no flux depends on that band
        of_band = spectrum.attrs["remarks"][len(told) :]
        spectrum = spectrum.assign_attrs(remarks=[*told, *map(without_level, of_band)])
    return spectrum


def sky_under_trace(
    image: xr.Dataset,
    trace: xr.Dataset,
    rows: Rows,
    recipe: Recipe,
    tables: xr.Dataset,
    half_height: float | NDArray[np.float64],
) -> xr.Dataset:
    """Return the sky under a trace, from both sides of it or from a band of rows.

    Parameters
    ----------
    image : the best counts (y, x).
    trace, rows : of the star.
    recipe : the sky model, and the sky rows if they are given.
    tables : the procedure's spectrum, whose sky band is used by the model "band"; or, for a single
        frame, the spectrum of all, whose choice of the nearest rows is kept.
    half_height : half-width of the aperture, rows, a number or (x).
    """
    band = recipe.sky_rows
    if recipe.sky_model == "band":
        band = tables.attrs["sky_first_row"], tables.attrs["sky_last_row"]
    sky: xr.Dataset = fit_sky(
        image,
        trace,
        rows,
        method="mean" if recipe.sky_model == "band" else recipe.sky_model,
        offset=recipe.sky_offset,
        band=band,
        nearest=tables.attrs.get("sky_nearest", False) if "sky_model" in tables.attrs else None,
        half_height=half_height,
    )
    return sky.assign_attrs(sky_model="band") if recipe.sky_model == "band" else sky


def with_best_flux(
    tables: xr.Dataset, found: xr.Dataset, trace: xr.Dataset, sky: xr.Dataset | None
) -> xr.Dataset:
    """Return the procedure's spectrum with the best flux in place of its own.

    Parameters
    ----------
    tables : of `procedure_spectrum`.
    found : of `extract_along`.
    trace, sky : the trace it was extracted along, and the sky that was subtracted.
    """
    own = {name: tables[name] for name in _PROCEDURE_TABLES if name in tables}
    center = trace["center"]
    spectrum = found.assign({**own, "trace": center})
    if "fwhm" in trace:
        spectrum = spectrum.assign(fwhm=trace["fwhm"])
    sources = (trace, *([] if sky is None else [sky]), found)
    facts = {name: trace.attrs[name] for name in _TRACE_ATTRS if name in trace.attrs}
    if sky is not None:
        facts |= {name: value for name, value in sky.attrs.items() if name.startswith("sky_")}
    attrs = {**tables.attrs, **facts, "center_middle": float(center[center.size // 2])}
    attrs |= {name: value for name, value in found.attrs.items() if name not in _LIST_ATTRS}
    attrs |= {name: _merged_lines(name, tables, sources) for name in _LIST_ATTRS}
    spectrum.attrs = {name: value for name, value in attrs.items() if value != []}
    return spectrum


_LIST_ATTRS = ("history", "remarks")


def _merged_lines(name: str, tables: xr.Dataset, sources: tuple[xr.Dataset, ...]) -> list[str]:
    """Return the lines of all sources, each once: those of the image are in several sources."""
    lines = list(tables.attrs.get(name, []))
    for source in sources:
        lines += [line for line in source.attrs.get(name, []) if line not in lines]
    return lines


_LEAST_SNR, _LINE_SNR = 1.0, 5.0
_LEAST_LINES = 3
_SNR_BLOCKS, _FEWEST_COLUMNS = 16, 16
_LARGEST_PART, _LARGEST_APERTURE = 0.2, 60.0


def checked_for_signal(spectrum: xr.Dataset, rows: Rows, n_rows: int) -> xr.Dataset:
    """Return a spectrum of rows that were found, with remarks where they may be no star's.

    Parameters
    ----------
    spectrum : (x), `flux`, and `variance` and `dq` if it has them.
    rows : as they were found.
    n_rows : number of rows of the image.

    Raises
    ------
    NoSpectrumError
        The S/N per pixel is below 1 everywhere and there is no line: none of S/N 5, and none but
        two for the robust rule, which needs three where there is no continuum.
    """
    if VARIANCE not in spectrum:
        return spectrum
    levels, n_lines = signal_of(spectrum)
    lines = n_lines >= (_LEAST_LINES if rows.rule == "robust" else 1)
    if levels.size and levels.max() < _LEAST_SNR and not lines:
        raise NoSpectrumError(
            f"The detection in rows {rows.first} to {rows.last} has an S/N of "
            f"{max(float(levels.max()), 0.0):.1f} per pixel at best, and no lines",
            value=rows.threshold,
            hint="Use --rows A:B to extract these rows anyway.",
        )
    height = 2 * float(spectrum.attrs["half_height"])
    lit = levels >= _LEAST_SNR
    if height > max(_LARGEST_PART * n_rows, _LARGEST_APERTURE) and n_lines < _LEAST_LINES:
        spectrum = add_check(
            spectrum,
            f"the aperture is {height:.0f} rows high, {height / n_rows:.0%} of the slit: check it, "
            "or use --rows A:B",
        )
    at_edge = lit.size > 1 and bool(lit[0]) != bool(lit[-1])
    if at_edge and 2 * np.count_nonzero(lit) < lit.size and n_lines < _LEAST_LINES:
        spectrum = add_check(
            spectrum,
            f"{1 - np.count_nonzero(lit) / lit.size:.0%} of the columns, up to one end, have S/N "
            "below 1: check the spectrum, or use --rows A:B",
        )
    return spectrum


def signal_of(spectrum: xr.Dataset) -> tuple[NDArray[np.float64], int]:
    """Return the median S/N per pixel in up to 16 blocks of columns, and the number of lines.

    A line is two columns or more of S/N 5 without a cosmic ray. A block without a good column has
    the S/N 0.
    """
    flux, variance = spectrum["flux"].values, spectrum[VARIANCE].values
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = flux / np.sqrt(variance)
    flags = spectrum[DQ].values if DQ in spectrum else np.zeros(ratio.size, np.uint8)
    known = np.isfinite(ratio)
    good = known & ((flags & BAD_PIXEL) == 0)
    good = good if good.any() else known
    n_blocks = min(_SNR_BLOCKS, max(ratio.size // _FEWEST_COLUMNS, 1))
    edges = np.arange(n_blocks + 1) * ratio.size // n_blocks
    parts = [slice(edges[i], edges[i + 1]) for i in range(n_blocks)]
    levels = [finite_median(ratio[p][good[p]]) if good[p].any() else 0.0 for p in parts]
    return np.array(levels), len(lines_of(ratio, good & ((flags & COSMIC_RAY) == 0), columns=2))


def lines_of(
    ratio: NDArray[np.float64], usable: NDArray[np.bool_], *, columns: int
) -> list[tuple[int, int]]:
    """Return the first and one past the last column of each line of a spectrum.

    Parameters
    ----------
    ratio : S/N of each column (x), above 5 in each of those of a line.
    usable : the columns (x) that may be part of one.
    columns : the fewest that make a line.
    """
    runs = bright_runs(usable & (ratio > _LINE_SNR))
    return [(first, stop) for first, stop in runs if stop - first >= columns]


_FAINTEST_CONTINUUM = 3.0


def snr_of(spectrum: xr.Dataset) -> dict[str, Any]:
    """Return the median S/N per pixel of a spectrum, as attributes.

    It is that of the central half, or, where this is below 3, of the emission lines: three columns
    or more with a S/N above 5 each. The attribute `snr_columns` then says so: the continuum of a
    nebula or a lamp has no flux, and its median S/N says nothing of the spectrum.
    """
    snr = median_snr(spectrum)
    if not snr < _FAINTEST_CONTINUUM:
        return {"snr": snr}
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = spectrum["flux"].values / np.sqrt(spectrum[VARIANCE].values)
    lines = lines_of(ratio, np.ones(ratio.size, bool), columns=3)
    if not lines:
        return {"snr": snr}
    lit = np.concatenate([ratio[first:stop] for first, stop in lines])
    return {"snr": finite_median(lit), "snr_columns": "emission lines"}


def median_snr(spectrum: xr.Dataset) -> float:
    """Return the median S/N per pixel of a spectrum, over the central half of its columns.

    NaN if the noise is unknown. The outer quarters, where gratings and detectors are inefficient,
    would describe the instrument more than the exposure.
    """
    if VARIANCE not in spectrum:
        return float("nan")
    n = spectrum.sizes[X]
    middle = slice(n // 4, n - n // 4)
    flux, variance = (spectrum[name].values[middle] for name in ("flux", VARIANCE))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = flux / np.sqrt(variance)
    return finite_median(ratio) if np.isfinite(ratio).any() else float("nan")


def spectra_of_frames(
    images: Iterable[xr.Dataset],
    lights: xr.Dataset,
    spectrum: xr.Dataset,
    recipe: Recipe,
    known: NDArray[np.float64] | None = None,
) -> xr.Dataset:
    """Return the spectrum of each frame of a target, with the aperture of its combined spectrum.

    Parameters
    ----------
    images : each light frame processed like a combined image, dispersed along x.
    lights : the cube they are from.
    spectrum : of the combined lights, from `spectrum_at_rows`.
    recipe : settings of the reduction.
    known : offsets of a star that moved far, rows (`extract_frames`).

    Returns
    -------
    frames : (frame, x), see `extract_frames`; the history is that of the spectrum, then their own.
    """
    rows, trace = _rows_in_attrs(spectrum), _trace_of(spectrum)
    near = tuple(Run(first, last) for first, last in spectrum.attrs.get("neighbour_rows", ()))
    beside = replace(rows, others=near)
    half_height = spectrum.attrs.get("half_height", rows.n_rows / 2)
    if "half_height" in spectrum:
        half_height = spectrum["half_height"].values

    def extracted(image: xr.Dataset, moved: xr.Dataset) -> xr.Dataset:
        by = 0
        if known is not None:
            by = round(float(moved["center"].values[0] - trace["center"].values[0]))
        own, there = moved_rows(rows, by), moved_rows(beside, by)
        sky = None
        if recipe.sky:
            sky = sky_under_trace(image, moved, own, recipe, spectrum, half_height)
        others = list(neighbours_of(image, there, moved))
        if others:
            alone = Neighbour(there, moved, half_height)
            alone, *others = part_neighbours(image, alone, others, sky)
            sky = None if sky is None else sky_along(sky, moved, alone.trace)
            moved = alone.trace
        weights = recipe.extraction
        return extract_along(
            image, moved, sky, half_height=half_height, weights=weights, others=others
        )

    follow = recipe.trace == "fit"
    frames = extract_frames(
        map(best_estimate, images), lights, trace, rows, extracted, follow=follow, known=known
    )
    common = [f"of all frames: {line}" for line in spectrum.attrs.get("history", ())]
    return frames.assign_attrs(history=[*common, *frames.attrs["history"]])


def _rows_in_attrs(spectrum: xr.Dataset) -> Rows:
    """Return the rows of a spectrum, from its attributes."""
    facts = spectrum.attrs
    return Rows(
        facts["first_row"],
        facts["last_row"],
        facts["n_bright_rows"],
        facts["background_mean"],
        facts["background_std"],
        facts["n_sigma"],
        facts["threshold"],
        tuple(Run(first, last) for first, last in facts.get("other_rows", ())),
        facts.get("rule", "threshold"),
    )


def _trace_of(spectrum: xr.Dataset) -> xr.Dataset:
    """Return the trace of a spectrum; the middle of its rows if it has none."""
    facts = spectrum.attrs
    own = {name: facts[name] for name in _TRACE_ATTRS if name in facts}
    if "trace" in spectrum:
        along = {"center": spectrum["trace"]}
        along |= {name: spectrum[name] for name in ("fwhm",) if name in spectrum}
        return spectrum[[]].assign(along).assign_attrs(own)
    middle = np.full(spectrum.sizes[X], (facts["first_row"] + facts["last_row"]) / 2)
    rows = facts["last_row"] - facts["first_row"] + 1
    return spectrum[[]].assign(center=(X, middle)).assign_attrs(own | {"fwhm": rows / 3})


# How frames are read, and where laziness ends: `ReadOptions`, `compute`.
#
# `compute` is the only place where dask computes. After it every step works on one contiguous
# float64 block, because sums over rows of a block that is chunked or has another memory layout
# differ in the last bits.


@dataclass(frozen=True)
class ReadOptions:
    """How the frames of a night are read.

    Parameters
    ----------
    chunks, memory : as in `reduce_night`.
    overscan : how the overscan level of a row is computed: "mean" or "median"; "off": frames are
        neither corrected nor trimmed.
    widened : frames may be clipped or scaled, so bands are a sixth as high for the same memory.
    """

    chunks: Chunks = "auto"
    memory: int | None = None
    overscan: Overscan = "mean"
    widened: bool = True

    def open(self, frames: Group) -> xr.Dataset:
        """Return frames as a cube, overscan-subtracted and trimmed where sections are known."""
        _preload_modules()
        with stage("read"):
            return self._cube(frames)

    def _cube(self, frames: Group) -> xr.Dataset:
        cube = frames.cube(self.chunks, self.memory, widened=self.widened)
        # The flags of a master are taken from its own file, those of a flat alone.
        cube = cube.drop_vars([DQ, VARIANCE], errors="ignore") if frames.is_master else cube
        cube = drop_flagged(cube)
        sections = frames.frames[0].sections
        if sections is None or self.overscan == "off":
            return cube
        if sections.overscan is not None:
            cube = subtract_overscan(
                cube, sections.overscan, by_row=sections.by_row, method=self.overscan
            )
        return cube if sections.trim is None else trim(cube, sections.trim)


def _preload_modules() -> None:
    """Import xarray and dask here: one second, reported as its own stage and not as reading.

    In a thread beside the scan of headers a night took 1.49 s instead of 1.33, and 1.35 s of the
    processor instead of 1.24: imports hold the interpreter.
    """
    if "dask.array" not in sys.modules:
        with stage("load xarray and dask"):
            for name in ("xarray", "dask.array"):
                import_module(name)


def compute(image: xr.Dataset) -> xr.Dataset:
    """Compute an image and hold its counts as one C-contiguous float64 block.

    Parameters
    ----------
    image : counts (y, x), or single frames (frame, y, x), eager or chunked. All its variables are
        computed in one pass: by threads, or by the cluster of an active dask client, whose workers
        read the bands and send back only the image.

    Raises
    ------
    ResourceError
        The cluster's workers died while computing it, or its scheduler is gone.
    """
    check_pixels(image)
    with cluster_errors():
        computed = image if isinstance(image[COUNTS].data, np.ndarray) else image.compute()
    counts = computed[COUNTS]
    pixels = np.ascontiguousarray(counts.values, np.float64)
    if pixels is counts.data:
        return computed.copy()
    return computed.assign({COUNTS: counts.copy(data=pixels)})


settle = compute
"""Former name of `compute`."""


# Progress of dask computations: `dask_progress`.

_TASK_STATES = ("finished", "running", "ready", "waiting")


def dask_progress(cube: xr.Dataset) -> AbstractContextManager[object]:
    """Return a context manager that reports finished dask tasks as progress.

    It does nothing if the cube is eager or progress is not watched; tasks on a cluster are not
    reported.
    """
    if cube[COUNTS].chunks is None or not is_watched():
        return nullcontext()
    from dask.callbacks import Callback

    within: AbstractContextManager[object] = Callback(posttask=_count_finished_task)
    return within


def _count_finished_task(
    _key: Any, _result: Any, _dsk: Any, state: Mapping[str, Sized], _worker: Any
) -> None:
    """Report that a task is finished."""
    progressed(len(state["finished"]), sum(len(state[name]) for name in _TASK_STATES))


# Cluster failures as ResourceError: `cluster_errors`, `cluster_error`.
#
# If a dask.distributed client is active, dask computes on its cluster, where more can go wrong than
# in one process: workers die, and the scheduler disappears. Such errors say nothing about the
# frames, so they become a ResourceError: the target fails, finished products stay, and the run can
# be repeated. Errors of arrayred come back from workers unchanged.

RUN_AGAIN = "Finished products are kept: repeat the command."


@contextmanager
def cluster_errors() -> Iterator[None]:
    """Raise ResourceError for failures of a cluster; let all other errors pass.

    It wraps whole units of work, since these compute samples of frames as well as images.
    """
    try:
        yield
    except ArrayredError:
        raise
    except Exception as error:
        told = cluster_error(error)
        if told is None:
            raise
        raise told from error


def cluster_error(error: Exception) -> ResourceError | None:
    """Return the ResourceError for an error of dask.distributed; None for any other.

    Parameters
    ----------
    error : raised by a computation, or returned as the result of a task.
    """
    if "distributed" not in sys.modules:
        return None
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError
    from distributed.scheduler import NoValidWorkerError, NoWorkerError

    if isinstance(error, KilledWorker):
        return _workers_lost_error(error)
    if isinstance(error, NoWorkerError | NoValidWorkerError):
        return ResourceError("No worker accepted the task", hint="Start workers. " + RUN_AGAIN)
    if isinstance(error, CancelledError | CommClosedError):
        return scheduler_lost_error(getattr(error, "reason", "") or str(error))
    return None


def scheduler_lost_error(why: str) -> ResourceError:
    """Return the error for a scheduler that no longer answers."""
    found = " ".join(why.replace("-", " ").split()) or "no answer"
    return ResourceError(f"Connection to the cluster scheduler lost ({found})", hint=RUN_AGAIN)


def _workers_lost_error(error: Any) -> ResourceError:
    """Return the error for a task whose workers died on every attempt."""
    worker = error.last_worker
    deaths = error.allowed_failures + 1
    limit = f", with a limit of {worker.memory_limit >> 20} MiB" if worker.memory_limit else ""
    return ResourceError(
        f"{deaths} worker{'s' * (deaths > 1)} died, the last at "
        f"{PurePath(worker.address).name}{limit}",
        hint="Increase the memory of workers, or lower --memory; see their logs.",
    )
