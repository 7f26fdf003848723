"""How the rows of a combined image become a spectrum: `spectrum_of`.

Two spectra come out of one image. The procedure's, means over rows of `counts`, is what the text
tables hold, whatever the recipe. The best one is made from the image's `clean`, where it has that:
along the star's trace, with the sky of both sides, by optimal weights; its `flux` is what every
other product holds. A recipe that asks for straight rows, their sum and the procedure's band of sky
gets the procedure's flux, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from arrayred.config import Recipe
from arrayred.kernels.noise import finite_median
from arrayred.model import CLEAN, COUNTS, DQ, VARIANCE, Rows, Run, X, remark
from arrayred.steps.extract import extract, extract_along, extract_frames
from arrayred.steps.sky import fit_sky, subtract_sky, why_no_band
from arrayred.steps.trace import fit_trace, half_height_of

if TYPE_CHECKING:
    import xarray as xr

_TABLES = ("counts_mean", "counts_mean_sky_subtracted")
_OF_THE_TRACE = ("trace", "tilt", "fwhm", "trace_rms", "trace_order", "n_bins")


def spectrum_of(image: xr.Dataset, rows: Rows, recipe: Recipe) -> xr.Dataset:
    """Return the spectrum of a combined image whose rows are known.

    Parameters
    ----------
    image : counts (y, x), settled, dispersed along x; `clean`, `variance`, `dq` where it has them.
    rows : of the star.
    recipe : what to do.

    Returns
    -------
    spectrum : (x): `counts_mean` and `counts_mean_sky_subtracted`, the procedure's, from `counts`;
        `flux`, `variance`, `sky`, `dq` and `trace`, the best, with how they were found as
        attributes.

    Raises
    ------
    SkyBandError
        There is no room for the sky.
    """
    tables, best = procedure_of(image, rows, recipe), best_of(image)
    if is_procedure(recipe):
        found = tables if CLEAN not in image else procedure_of(best, rows, recipe)
        return found.assign({name: tables[name] for name in _TABLES if name in tables})
    trace = fit_trace(best, rows, straight=recipe.trace == "straight")
    half_height = half_height_of(rows, trace)
    sky = sky_under(best, trace, rows, recipe, tables) if recipe.sky else None
    found = extract_along(best, trace, sky, half_height=half_height, weights=recipe.extraction)
    return joined(tables, found, trace, sky).assign_attrs(
        rule=rows.rule, half_height=half_height, snr=median_snr(found)
    )


def is_procedure(recipe: Recipe) -> bool:
    """Tell whether a recipe asks for the procedure's own flux."""
    wanted = (recipe.trace, recipe.extraction, recipe.sky_model)
    return wanted == ("straight", "sum", "band")


def best_of(image: xr.Dataset) -> xr.Dataset:
    """Return an image whose counts are the best estimate, with its variance and flags.

    Each plane is laid out by rows, so that an image that was turned gives the same bits.
    """
    planes = {COUNTS: image[CLEAN if CLEAN in image else COUNTS]}
    planes |= {name: image[name] for name in (VARIANCE, DQ) if name in image}
    whole = {
        name: plane.copy(data=np.ascontiguousarray(plane.values)) for name, plane in planes.items()
    }
    whole[COUNTS].attrs = dict(image[COUNTS].attrs)
    return image.drop_vars(list(image.data_vars)).assign(whole)


def procedure_of(image: xr.Dataset, rows: Rows, recipe: Recipe) -> xr.Dataset:
    """Return the procedure's spectrum of an image's counts, less its band of sky.

    Where the sky is modelled otherwise, a band that does not exist costs the table of the
    sky-subtracted means alone; a remark says so.
    """
    spectrum = extract(image, rows)
    if not recipe.sky:
        return spectrum
    where: dict[str, Any] = {"offset": recipe.sky_offset, "side": recipe.sky_side}
    if recipe.sky_rows is None and recipe.sky_model != "band":
        error = why_no_band(image, rows, **where)
        if error is not None:
            return remark(spectrum, f"no sky-subtracted text table: {error.args[0]}")
    return subtract_sky(
        spectrum,
        image,
        rows,
        band=recipe.sky_rows,
        per_bright_row=recipe.sky_per_bright_row,
        **where,
    )


def sky_under(
    image: xr.Dataset, trace: xr.Dataset, rows: Rows, recipe: Recipe, tables: xr.Dataset
) -> xr.Dataset:
    """Return the sky under a trace, from both sides of it or from the band that is asked for.

    Parameters
    ----------
    image : the best counts (y, x).
    trace, rows : of the star.
    recipe : which model, and which rows if not to be chosen.
    tables : the procedure's spectrum, whose band "band" means.
    """
    half_height = tables.attrs.get("half_height", half_height_of(rows, trace))
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
        half_height=half_height,
    )
    return sky.assign_attrs(sky_model="band") if recipe.sky_model == "band" else sky


def joined(
    tables: xr.Dataset, found: xr.Dataset, trace: xr.Dataset, sky: xr.Dataset | None
) -> xr.Dataset:
    """Return the procedure's spectrum with the best flux in the place of its own.

    Parameters
    ----------
    tables : of `procedure_of`.
    found : of `extract_along`.
    trace, sky : along which and less which it was extracted.
    """
    own = {name: tables[name] for name in _TABLES if name in tables}
    center = trace["center"]
    spectrum = found.assign({**own, "trace": center})
    sources = (trace, *([] if sky is None else [sky]), found)
    facts = {name: trace.attrs[name] for name in _OF_THE_TRACE if name in trace.attrs}
    if sky is not None:
        facts |= {name: value for name, value in sky.attrs.items() if name.startswith("sky_")}
    attrs = {**tables.attrs, **facts, "center_middle": float(center[center.size // 2])}
    attrs |= {name: value for name, value in found.attrs.items() if name not in _LISTS}
    attrs |= {name: _told(name, tables, sources) for name in _LISTS}
    spectrum.attrs = {name: value for name, value in attrs.items() if value != []}
    return spectrum


_LISTS = ("history", "remarks")


def _told(name: str, tables: xr.Dataset, sources: tuple[xr.Dataset, ...]) -> list[str]:
    """Return the lines of all sources, each once: the image's own stand in more than one."""
    lines = list(tables.attrs.get(name, []))
    for source in sources:
        lines += [line for line in source.attrs.get(name, []) if line not in lines]
    return lines


def median_snr(spectrum: xr.Dataset) -> float:
    """Return the median signal to noise of a column of a spectrum, over the central half of them.

    NaN where the noise is unknown. The outer quarters, where gratings and detectors give little
    light, would tell more of the instrument than of the exposure.
    """
    if VARIANCE not in spectrum:
        return float("nan")
    n = spectrum.sizes[X]
    middle = slice(n // 4, n - n // 4)
    flux, variance = (spectrum[name].values[middle] for name in ("flux", VARIANCE))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = flux / np.sqrt(variance)
    return finite_median(ratio) if np.isfinite(ratio).any() else float("nan")


def frames_of(
    images: Iterable[xr.Dataset], lights: xr.Dataset, spectrum: xr.Dataset, recipe: Recipe
) -> xr.Dataset:
    """Return the spectrum of each frame of a target, through the aperture of its spectrum.

    Parameters
    ----------
    images : each light by itself as a combined image would be, dispersed along x.
    lights : the cube they are from.
    spectrum : of all of them, what `spectrum_of` found.
    recipe : what to do.

    Returns
    -------
    frames : (frame, x), see `extract_frames`; the history is that of the spectrum, then their own.
    """
    rows, trace = _rows_of(spectrum), _trace_of(spectrum)
    half_height = spectrum.attrs.get("half_height", rows.n_rows / 2)

    def extracted(image: xr.Dataset, moved: xr.Dataset) -> xr.Dataset:
        sky = sky_under(image, moved, rows, recipe, spectrum) if recipe.sky else None
        return extract_along(image, moved, sky, half_height=half_height, weights=recipe.extraction)

    follow = recipe.trace == "fit"
    frames = extract_frames(map(best_of, images), lights, trace, rows, extracted, follow=follow)
    common = [f"of all frames: {line}" for line in spectrum.attrs.get("history", ())]
    return frames.assign_attrs(history=[*common, *frames.attrs["history"]])


def _rows_of(spectrum: xr.Dataset) -> Rows:
    """Return the rows of a spectrum, as it tells them."""
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
    """Return the trace of a spectrum; the middle of its rows where it has none."""
    facts = spectrum.attrs
    own = {name: facts[name] for name in _OF_THE_TRACE if name in facts}
    if "trace" in spectrum:
        return spectrum["trace"].rename("center").to_dataset().assign_attrs(own)
    middle = np.full(spectrum.sizes[X], (facts["first_row"] + facts["last_row"]) / 2)
    rows = facts["last_row"] - facts["first_row"] + 1
    return spectrum[[]].assign(center=(X, middle)).assign_attrs(own | {"fwhm": rows / 3})
