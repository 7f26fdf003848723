"""The noise of a pixel where there is no light, and the gain: measured where possible, else told.

From the frames that made the master wherever there are two, since header and manual know neither
dark current nor interference. Else a read noise that is told counts; else the lights themselves are
compared in the darker half of the rows, and of a single light neighbouring pixels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.noise import (
    clipped_std,
    finite_median,
    finite_medians,
    frame_variance,
    photon_transfer,
)
from arrayred.model import COUNTS, FRAME
from arrayred.steps.sample import sample_of

if TYPE_CHECKING:
    import xarray as xr

Indices = NDArray[np.intp]

_KINDS = {"bias": "biases", "dark": "darks"}
_PIXELS_OF_GAIN = 1 << 18


class Floor(NamedTuple):
    """The noise of a pixel of one frame where there is no light, and who says so.

    Parameters
    ----------
    variance : adu^2.
    level : the light that is in it already, adu.
    told_by : "measured from 5 darks".
    """

    variance: float
    level: float
    told_by: str


def find_gain(
    image: xr.Dataset, lights: xr.Dataset, minus: xr.Dataset | None
) -> tuple[float | None, str]:
    """Return electrons per count, or None, and what is to be said of it.

    Parameters
    ----------
    image, lights, minus : as in `estimate_noise`. Where nobody tells the gain and there are two
        lights, it is measured if they tell it well.
    """
    units = image[COUNTS].attrs.get("units", "adu")
    if "gain" in image.coords:
        gain = float(image["gain"].item())
        return gain, "1, counts are electrons" if units == "electron" else f"{gain:.4g}, as told"
    if lights.sizes[FRAME] > 1:
        dark = 0.0 if minus is None else sample_of(minus, _PIXELS_OF_GAIN)
        found = photon_transfer(sample_of(lights, _PIXELS_OF_GAIN), dark)
        if found is not None:
            told = f"{found.gain:.3g} +- {found.error:.1g}, measured from the lights"
            return found.gain, told
    return None, "unknown, photon noise left out"


def find_floor(
    image: xr.Dataset, lights: xr.Dataset, minus: xr.Dataset | None, gain: float | None
) -> Floor | None:
    """Return the noise without light: of the master's frames, told, or of the lights; else None.

    Parameters
    ----------
    image, lights, minus : as in `estimate_noise`.
    gain : electrons per count, or None.
    """
    if minus is not None and "noise" in minus.attrs:
        kinds = _KINDS.get(kind_of_master(minus), "calibration frames")
        told = f"measured from {int(minus['n_frames'].item())} {kinds}"
        return Floor(minus.attrs["noise"] ** 2, 0.0, told)
    if "read_noise" in image.coords and gain is not None:
        return Floor((float(image["read_noise"].item()) / gain) ** 2, 0.0, "as told")
    rows, level = _darker_rows(image)
    frames = sample_of(lights)[:, rows]
    if frames.shape[0] > 1:
        told = f"measured from {frames.shape[0]} lights off the spectrum"
        return Floor(frame_variance(frames), level, told)
    pixels = np.asarray(frames[0], np.float64)
    variance = clipped_std(pixels[:, 1:] - pixels[:, :-1]) ** 2 / 2
    if not math.isfinite(variance):
        return None
    return Floor(variance, level, "measured from neighbouring pixels off the spectrum")


def _darker_rows(image: xr.Dataset) -> tuple[Indices, float]:
    """Return the darker half of the sample's rows, by position in it, and their median."""
    pixels = sample_of(image)
    order = np.argsort(finite_medians(pixels), kind="stable")
    rows = np.sort(order[: max(len(order) // 2, 1)])
    return rows, finite_median(pixels[rows])


def kind_of_master(minus: xr.Dataset) -> str:
    """Return the type of the frames that made a master, or ""."""
    return str(minus["frame_type"].item()) if "frame_type" in minus.coords else ""
