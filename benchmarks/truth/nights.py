"""One night against its truth: `compare`."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import arrayred as ar
from arrayred.errors import NoSpectrumError
from arrayred.model import X, Y
from arrayred.simulate import SimulatedNight
from benchmarks.truth.cells import Cell, best_sigma, blank_night

Values = NDArray[np.float64]
Found = Literal["found", "nothing", "elsewhere", "failed"]
WAYS = {
    "default": ar.Recipe(),
    "plain": ar.Recipe(
        cosmic_rays="off",
        detect="threshold",
        trace="straight",
        extraction="sum",
        sky_model="band",
    ),
}
"""The recipes that are compared: ours, and the procedure's band of rows, summed, less its band."""
_NONE = np.empty(0)


@dataclass(frozen=True)
class Outcome:
    """What became of a night.

    Parameters
    ----------
    found : the star; "nothing"; something "elsewhere"; or the reduction "failed".
    why : the error, if it failed.
    flux, sigma : of each column (x), adu.
    truth : the star's light that the detector answers to (x), adu.
    best : the smallest possible sigma of that (x), adu.
    enclosed : the part of the light that the flux is said to hold (x).
    extraction : how the spectrum says it was made.
    """

    found: Found
    why: str = ""
    flux: Values = field(default_factory=lambda: _NONE)
    sigma: Values = field(default_factory=lambda: _NONE)
    truth: Values = field(default_factory=lambda: _NONE)
    best: Values = field(default_factory=lambda: _NONE)
    enclosed: Values = field(default_factory=lambda: _NONE)
    extraction: str = ""


def compare(cell: Cell, seed: int, ways: Collection[str] = WAYS) -> dict[str, Outcome]:
    """Make one night of a cell, reduce it in some ways, and set it beside its truth."""
    night = cell.night(seed)
    lights, dark = night.cube("light"), master_dark(night)
    truth = night.truth()
    found = {}
    for way in ways:
        try:
            spectrum = ar.reduce_target(lights, dark, WAYS[way])["spectrum"]
        except NoSpectrumError as error:
            found[way] = Outcome("nothing", str(error))
        except ar.ArrayredError as error:
            found[way] = Outcome("failed", f"{type(error).__name__}: {error}")
        else:
            found[way] = outcome_of(spectrum, truth, night)
    return found


def master_dark(night: SimulatedNight) -> xr.Dataset:
    """Return the master dark of a night, as the pipeline makes it."""
    darks = night.cube("dark")
    master = ar.measure_noise(ar.settle(ar.combine(darks, "median")), darks)
    return master.assign_attrs(kind="dark")


def outcome_of(spectrum: xr.Dataset, truth: xr.Dataset, night: SimulatedNight) -> Outcome:
    """Return a spectrum beside its truth."""
    first, last = spectrum.attrs["first_row"], spectrum.attrs["last_row"]
    if not first - 1 <= night.star.row <= last + 1:
        return Outcome("elsewhere", f"rows {first} to {last}")
    lights = [e for e in night.exposures() if e.frame_type == "light"]
    brightness = float(np.mean([night.brightness_of(exposure) for exposure in lights]))
    recorded = truth["flux_recorded"].values * brightness
    return Outcome(
        "found",
        flux=spectrum["flux"].values,
        sigma=np.sqrt(spectrum["variance"].values),
        truth=recorded,
        best=best_sigma(truth, night.n_lights, night.n_darks),
        enclosed=enclosed_by(spectrum, truth),
        extraction=str(spectrum.attrs.get("extraction", "sum of a band")),
    )


def enclosed_by(spectrum: xr.Dataset, truth: xr.Dataset) -> Values:
    """Return the part of the light that a flux holds (x): as it says, or as its rows truly do."""
    if "enclosed" in spectrum:
        return np.asarray(spectrum["enclosed"].values)
    told = spectrum.attrs.get("enclosed_fraction")
    if told is not None:
        return np.full(spectrum.sizes[X], float(told))
    held = _sum_of_rows(truth["star"], spectrum.attrs["first_row"], spectrum.attrs["last_row"])
    if "sky_first_row" in spectrum.attrs:
        band = spectrum.attrs["sky_first_row"], spectrum.attrs["sky_last_row"]
        held = held - _sum_of_rows(truth["star"], *band)
    return np.asarray(held / truth["flux_recorded"].values)


def _sum_of_rows(plane: xr.DataArray, first: int, last: int) -> Values:
    return np.asarray(plane.sel({Y: slice(first, last)}).values.sum(axis=0))


def is_blank(seed: int) -> dict[str, str]:
    """Return what each way finds on a night without a star: "" for nothing."""
    night = blank_night(seed)
    lights, dark = night.cube("light"), master_dark(night)
    found = {}
    for way, recipe in WAYS.items():
        try:
            spectrum = ar.reduce_target(lights, dark, recipe)["spectrum"]
        except ar.ArrayredError as error:
            found[way] = "" if isinstance(error, NoSpectrumError) else type(error).__name__
        else:
            found[way] = f"rows {spectrum.attrs['first_row']} to {spectrum.attrs['last_row']}"
    return found
