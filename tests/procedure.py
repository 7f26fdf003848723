"""The published procedure in plain numpy, transcribed line by line: the oracle of the tables.

Only what the script hard-codes for its own frames follows the data here: the width of the table and
the sample's columns (all but the last). Names are the script's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float64]


@dataclass
class Tables:
    """What the script prints and writes."""

    printed: tuple[float, float, float, int, int, int, int]
    raw_extraction: str
    skysubtracted: str
    data: Pixels


def run_procedure(
    darks: dict[float, list[Pixels]],
    lights: list[tuple[float, Pixels]],
    *,
    combine: str = "average",
    x: float = 4.0,
) -> Tables:
    """Reduce lights (exposure, image) with darks by exposure.

    Raises
    ------
    RuntimeError
        No dark within half a second.
    ValueError
        No row is bright.
    """
    combined_darks = {t: np.median(np.stack(images), axis=0) for t, images in darks.items()}
    reduced = [image - combined_darks[_nearest(t, combined_darks)] for t, image in lights]
    stack = np.stack(reduced)
    data = np.mean(stack, axis=0) if combine == "average" else np.median(stack, axis=0)

    sky = data[0:50, 0 : data.shape[1] - 1]
    avg = np.mean(sky)
    cut = np.mean(data, axis=1)
    stv = np.std(sky) * x
    sample = avg + stv
    detect = np.argwhere(sample < cut)
    bottom = np.amin(detect)
    top = np.amax(detect) + 1
    spec = data[bottom:top]
    extract = spec.mean(axis=0)

    skybot = np.amax(detect) + 50
    skytop = skybot + np.size(spec, 0)
    sky2 = data[skybot:skytop]
    skysam = sky2.sum(axis=0)
    skyspec2 = np.subtract(spec.sum(axis=0), skysam) / np.size(detect, 0)
    printed = (avg, stv, sample, bottom + 1, top, np.size(detect, 0), np.size(spec, 0))
    return Tables(printed, _ascii(extract), _ascii(skyspec2), data)


def _nearest(exposure: float, dark_exposure_times: dict[float, Pixels]) -> float:
    dark_exposures = np.array(list(dark_exposure_times))
    closest = dark_exposures[np.argmin(np.abs(dark_exposures - exposure))]
    if np.abs(exposure - closest) > 0.5:
        raise RuntimeError(f"Closest dark exposure time is {closest}")
    return float(closest)


def _ascii(y: Pixels) -> str:
    num = np.arange(start=1, stop=y.size + 1, step=1, dtype=np.float64)
    return "x y\n" + "".join(f"{a!s} {b!s}\n" for a, b in zip(num, y, strict=True))
