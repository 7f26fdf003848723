"""How well a master flat is known: `estimate_flat_noise`.

A flat is a median of n frames, each less its dark and divided by its level L. A pixel that receives
the part f of that level has the variance::

    of a frame    (r^2 + f L / gain) / L^2
    of the flat   k(n)/n (r^2 / <L>^2 + f / (gain <sqrt L>^2)) + k(m)/m r_dark^2 / <L>^2

A median follows its sharpest values: of frames of unequal sigma it has the variance of equal ones
whose 1/sigma is the mean of theirs, which goes with L where r decides and with its root where
photons do. Of three frames at 1000 : 1000 : 2000 and 1000 : 2000 : 4000 adu that is 4 % and 8 % too
small; the mean of the variances, right for two frames, would be 6 % and 21 % too large or more. The
dark's part is common to all frames. That it may be common with the lights too is left out: of the
dark's own variance it takes 2 x light / <L>.

The colour of the lamp is a smooth curve through the medians of whole columns, so that dividing by
it adds nothing worth counting. Without a gain, told or measured, the variance is unknown: photons
are nearly all of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from arrayred.errors import UsageError
from arrayred.kernels.noise import light_variance
from arrayred.model import COUNTS, VARIANCE, X, Y, check_cube, check_image, note_history
from arrayred.steps.floor import find_gain
from arrayred.steps.noise import share_of

if TYPE_CHECKING:
    import xarray as xr


def estimate_flat_noise(
    image: xr.Dataset,
    cube: xr.Dataset,
    levels: Sequence[float],
    darks: Sequence[xr.Dataset | None] = (),
) -> xr.Dataset:
    """Give a combined flat the variance of its pixels.

    Parameters
    ----------
    image : counts (y, x), about 1, settled, of `combine_flats`; its coordinates `gain`
        (electron/adu) and `read_noise` (electron) are believed.
    cube : the frames it was made of, counts (frame, y, x) in adu or electron, eager or chunked;
        looked at only where nothing tells the gain.
    levels : of each frame less its dark, in the unit of the cube.
    darks : what was subtracted from each frame, of `measure_noise`, or None; or none at all.

    Returns
    -------
    image : with `variance` (y, x), float32, without a unit. Without it where the gain is unknown;
        the history says so, and what was used otherwise.

    Raises
    ------
    UsageError
        There is not one level for each frame.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> frames = np.random.default_rng(0).poisson(900.0, (1, 200, 300)).astype(float)
    >>> cube = xr.Dataset({"counts": (("frame", "y", "x"), frames)}, {"gain": 1.0})
    >>> image = (cube / 900.0).isel(frame=0).assign_coords(n_frames=1)
    >>> found = estimate_flat_noise(image, cube, [900.0])
    >>> round(float(image.counts.std()), 4), round(float(found.variance.mean()) ** 0.5, 4)
    (0.0334, 0.0333)
    """
    check_image(image)
    check_cube(cube)
    n_frames = int(image["n_frames"].item())
    if len(levels) != n_frames:
        raise UsageError(
            f"{n_frames} flats meet {len(levels)} levels", hint="Give one for every frame."
        )
    used = list({id(dark): dark for dark in darks if dark is not None}.values())
    gain, gain_by = find_gain(image, cube, used[0] if used else None)
    if gain is None:
        return note_history(image, "variance of the flat unknown: nothing tells the gain")
    share = share_of("median", n_frames)
    without_light = share * _without_light(image, used, gain) + _of_masters(used)
    floor, photons = without_light * _per_level(levels, 2), share * _per_level(levels, 1) / gain
    variance = light_variance(image[COUNTS].values, 0.0, photons, floor)
    attrs = {"units": "", "long_name": "variance of the response"}
    line = f"variance of the flat: from levels of {min(levels):.4g} to {max(levels):.4g}"
    told = note_history(image, f"{line}; gain {gain_by}")
    return told.assign({VARIANCE: ((Y, X), variance, attrs)})


def _per_level(levels: Sequence[float], power: int) -> float:
    """Return what 1/L^power is in the variance of the median of frames of several levels."""
    if len(levels) < 3:
        return math.fsum(level**-power for level in levels) / len(levels)
    return (math.fsum(math.sqrt(level**power) for level in levels) / len(levels)) ** -2


def _without_light(image: xr.Dataset, darks: Sequence[xr.Dataset], gain: float) -> float:
    """Return the variance of a pixel of one frame without light: as measured, else as told."""
    noises = [dark.attrs["noise"] for dark in darks if "noise" in dark.attrs]
    if noises:
        return float(sum(noise**2 for noise in noises) / len(noises))
    told = float(image["read_noise"].item()) if "read_noise" in image.coords else 0.0
    return (told / gain) ** 2


def _of_masters(darks: Sequence[xr.Dataset]) -> float:
    """Return the mean variance of the masters that were subtracted, where it is known."""
    known = [dark for dark in darks if "noise" in dark.attrs and "n_frames" in dark.coords]
    shares = [share_of(_method_of(dark), int(dark["n_frames"].item())) for dark in known]
    parts = [share * dark.attrs["noise"] ** 2 for share, dark in zip(shares, known, strict=True)]
    return float(sum(parts) / len(parts)) if parts else 0.0


def _method_of(dark: xr.Dataset) -> str:
    return str(dark["method"].item()) if "method" in dark.coords else "median"
