"""A night of a spectrograph's CCD frames becomes spectra; an analyst slices the pixels on the way.

Importing this package imports nothing else: each public name is looked up when it is first used.

Examples
--------
>>> import arrayred as ar
>>> ar.Recipe(combine="median").n_sigma
4.0
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from arrayred._version import __version__

if TYPE_CHECKING:
    from arrayred import plots
    from arrayred.config import Instrument, NightFile, Recipe
    from arrayred.errors import ArrayredError, InputError, StorageError, UsageError
    from arrayred.io.ccd import from_ccddata, to_ccddata, to_spectrum
    from arrayred.io.cube import headers, open_frames
    from arrayred.io.products import open_product, write_frames
    from arrayred.model import Rows
    from arrayred.night import Night, Plan, make_plan, open_night
    from arrayred.pipeline import compute, reduce_night, reduce_target, settle
    from arrayred.simulate import SimulatedNight
    from arrayred.steps.calibrate import subtract_dark
    from arrayred.steps.combine import Cleaning, add_clean, combine, combine_with_peak
    from arrayred.steps.cosmic import flag_cosmic_rays
    from arrayred.steps.extract import extract, extract_along
    from arrayred.steps.find import detect_rows, find_rows, row_statistics
    from arrayred.steps.noise import estimate_noise, flag, measure_noise
    from arrayred.steps.sky import fit_sky, subtract_sky
    from arrayred.steps.trace import fit_trace, half_height_of

_HOMES = {
    "ArrayredError": "errors",
    "InputError": "errors",
    "Instrument": "config",
    "Night": "night",
    "NightFile": "config",
    "Plan": "night",
    "Recipe": "config",
    "Rows": "model",
    "Section": "model",
    "StorageError": "errors",
    "UsageError": "errors",
    "Cleaning": "steps.combine",
    "add_clean": "steps.combine",
    "combine": "steps.combine",
    "compute": "pipeline",
    "combine_with_peak": "steps.combine",
    "detect_rows": "steps.find",
    "divide_flat": "steps.calibrate",
    "estimate_noise": "steps.noise",
    "extract": "steps.extract",
    "extract_along": "steps.extract",
    "find_rows": "steps.find",
    "fit_sky": "steps.sky",
    "fit_trace": "steps.trace",
    "from_ccddata": "io.ccd",
    "flag": "steps.noise",
    "flag_cosmic_rays": "steps.cosmic",
    "half_height_of": "steps.trace",
    "headers": "io.cube",
    "make_plan": "night",
    "measure_noise": "steps.noise",
    "open_frames": "io.cube",
    "open_night": "night",
    "open_product": "io.products",
    "plots": "plots",
    "reduce_night": "pipeline",
    "reduce_target": "pipeline",
    "row_statistics": "steps.find",
    "settle": "pipeline",
    "SimulatedNight": "simulate",
    "subtract_dark": "steps.calibrate",
    "subtract_overscan": "steps.calibrate",
    "subtract_sky": "steps.sky",
    "to_ccddata": "io.ccd",
    "to_electrons": "steps.calibrate",
    "to_spectrum": "io.ccd",
    "trim": "steps.calibrate",
    "write_frames": "io.products",
}

__all__ = [
    "ArrayredError",
    "Cleaning",
    "InputError",
    "Instrument",
    "Night",
    "NightFile",
    "Plan",
    "Recipe",
    "Rows",
    "Section",
    "SimulatedNight",
    "StorageError",
    "UsageError",
    "__version__",
    "add_clean",
    "combine",
    "combine_with_peak",
    "compute",
    "detect_rows",
    "divide_flat",
    "estimate_noise",
    "extract",
    "extract_along",
    "find_rows",
    "fit_sky",
    "fit_trace",
    "flag",
    "flag_cosmic_rays",
    "from_ccddata",
    "half_height_of",
    "headers",
    "make_plan",
    "measure_noise",
    "open_frames",
    "open_night",
    "open_product",
    "plots",
    "reduce_night",
    "reduce_target",
    "row_statistics",
    "settle",
    "subtract_dark",
    "subtract_overscan",
    "subtract_sky",
    "to_ccddata",
    "to_electrons",
    "to_spectrum",
    "trim",
    "write_frames",
]


def __getattr__(name: str) -> Any:
    """Return a public name from the module it lives in."""
    if name not in _HOMES:
        raise AttributeError(f"module 'arrayred' has no attribute {name!r}")
    home = import_module(f"arrayred.{_HOMES[name]}")
    return home if _HOMES[name] == name else getattr(home, name)


def __dir__() -> list[str]:
    """Return the public names."""
    return list(__all__)
