"""Noise and flags of single calibrated frames: `judge_frames`, `with_planes`.

What is the same for all frames of a target, the noise without light, bad pixels, where saturation
begins, is found once, with all of them at hand; the rest is pixel by pixel, and as lazy as the
frames. The flags of all frames together are those of their combination.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.bands import over_frames
from arrayred.kernels.noise import frame_variances
from arrayred.model import (
    BAD_PIXEL,
    COSMIC_RAY,
    COUNTS,
    DQ,
    FRAME,
    NO_DATA,
    SATURATED,
    VARIANCE,
    X,
    Y,
    check_cube,
    check_image,
    dq_attrs,
    note_history,
)
from arrayred.steps.calibrate import subtract_dark
from arrayred.steps.cosmic import FrameHits
from arrayred.steps.floor import find_floor, find_gain
from arrayred.steps.noise import part_of_master

if TYPE_CHECKING:
    import xarray as xr

_DIMS = (FRAME, Y, X)


class FrameNoise(NamedTuple):
    """What the variance of each frame of a target is made of.

    Parameters
    ----------
    floor : of a pixel without light (y, x), the master's own and that of hot pixels included.
    level : the light that is in it already.
    per_photon : counts per electron; 0 where photon noise is left out.
    note : who says so.
    """

    floor: NDArray[np.float32]
    level: float
    per_photon: float
    note: str


class FramePlanes(NamedTuple):
    """What the planes of single frames are made of.

    Parameters
    ----------
    noise : None: it is unknown, and no frame has a variance.
    flags : the bits (y, x) that every frame has.
    saturated_from : the raw count at which saturation begins; infinity where nothing tells.
    hits : what cosmic rays struck; None: nothing, or nobody looked.
    """

    noise: FrameNoise | None
    flags: NDArray[np.uint8]
    saturated_from: float
    hits: FrameHits | None = None


def judge_frames(
    lights: xr.Dataset,
    dark: xr.Dataset | None,
    combined: xr.Dataset,
    hits: FrameHits | None = None,
) -> FramePlanes:
    """Return what noise and flags of single frames are made of, once for all frames of a target.

    Parameters
    ----------
    lights : counts (frame, y, x), eager or chunked.
    dark : the master (y, x) that is subtracted from them, of `measure_noise`, or None.
    combined : their combination (y, x), of `flag`: it tells bad pixels and where saturation begins.
    hits : what cosmic rays struck, of `find_cosmic_rays`, or None.
    """
    check_image(combined)
    cube = lights if dark is None else subtract_dark(lights, dark)
    flags = combined[DQ].values & np.uint8(BAD_PIXEL)
    noise = _noise_of_frames(cube, lights, dark)
    return FramePlanes(noise, flags, combined.attrs.get("saturated_from", np.inf), hits)


def _noise_of_frames(
    cube: xr.Dataset, lights: xr.Dataset, minus: xr.Dataset | None
) -> FrameNoise | None:
    """Return what the variance of calibrated frames is made of; None where nothing tells it.

    A frame has its own noise and that of the master. The master's is the same in all frames, so
    that combining them by these variances would count it as often as there are frames.

    Parameters
    ----------
    cube : calibrated, not yet divided by a flat: counts (frame, y, x), eager or chunked.
    lights : the same frames raw.
    minus : the master (y, x) that was subtracted, of `measure_noise`.
    """
    first = cube.isel({FRAME: 0})
    gain, gain_by = find_gain(first, lights, minus)
    floor = find_floor(first, lights, minus, gain)
    if floor is None:
        return None
    master = part_of_master(minus, floor)
    without_light = floor.variance + master.share * master.variance
    plane = np.full(first[COUNTS].shape, without_light, np.float32)
    per_photon = 0.0 if gain is None else 1.0 / gain
    plane.flat[master.where] += (1.0 + master.share) * per_photon * master.charge
    units = cube[COUNTS].attrs.get("units", "adu")
    sigma = f"{math.sqrt(floor.variance):.4g} {units}, {floor.told_by}"
    note = f"variance of a frame: without light {sigma}; gain {gain_by}{master.note}"
    return FrameNoise(plane, floor.level, per_photon, note)


def with_planes(cube: xr.Dataset, lights: xr.Dataset, planes: FramePlanes) -> xr.Dataset:
    """Return calibrated frames with their noise and flags, as lazy as they came.

    Parameters
    ----------
    cube : counts (frame, y, x), not yet divided by a flat.
    lights : the same frames raw, missing pixels NaN (`drop_absurd`).
    planes : what is common to the frames of their target.

    Returns
    -------
    cube : with `dq` (frame, y, x), uint8, and, where the noise is known, `variance` (frame, y, x),
        float32, in the square of the cube's unit: the frame's own and the master's, which all
        frames have in common.
    """
    check_cube(cube)
    check_cube(lights)
    cube = cube.assign({DQ: (_DIMS, _flags_of(lights, planes), dq_attrs("flags of a pixel"))})
    if planes.noise is None:
        return cube
    floor, level, per_photon, note = planes.noise
    variance = over_frames(
        cube[COUNTS].data,
        partial(frame_variances, level=level, per_count=per_photon),
        floor,
        keeps_frames=True,
        dtype=np.dtype(np.float32),
    )
    units = cube[COUNTS].attrs.get("units", "adu")
    attrs = {"units": f"{units}2", "long_name": "variance of a pixel"}
    return note_history(cube.assign({VARIANCE: (_DIMS, variance, attrs)}), note)


def _flags_of(lights: xr.Dataset, planes: FramePlanes) -> Any:
    """Return the flags (frame, y, x) of frames, eager or chunked as they are."""
    counts, hits = lights[COUNTS].data, planes.hits
    kernel: Any = partial(frame_flags, saturated_from=planes.saturated_from)
    images: list[NDArray[Any]] = [planes.flags]
    if hits is not None:
        where, struck = hits.of(map(str, lights[FRAME].values))
        kernel = partial(kernel, struck=struck)
        place = np.full(planes.flags.shape, -1, np.int32)
        place.flat[where] = np.arange(where.size)
        images.append(place)
    return over_frames(counts, kernel, *images, keeps_frames=True, dtype=np.dtype(np.uint8))


def frame_flags(
    block: NDArray[Any],
    flags: NDArray[np.uint8],
    place: NDArray[np.int32] | None = None,
    *,
    saturated_from: float,
    struck: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Return the flags of each frame: those of all, saturated, missing and struck pixels.

    Parameters
    ----------
    block : raw counts (frame, y, x).
    flags : the bits (y, x) that every frame has.
    place : which of the pixels of `struck` each pixel (y, x) is, or -1; None: there are none.
    saturated_from : the count at which saturation begins.
    struck : which pixels of which frame were hit by a cosmic ray (frame, pixel).

    Examples
    --------
    >>> frame_flags(np.array([[[9.0, np.nan]]]), np.array([[1, 0]], np.uint8), saturated_from=9.0)
    array([[[3, 8]]], dtype=uint8)
    """
    dq = np.broadcast_to(flags, block.shape).copy()
    if np.isfinite(saturated_from):
        dq[block >= saturated_from] |= np.uint8(SATURATED)
    if block.dtype.kind == "f":
        dq[~np.isfinite(block)] |= np.uint8(NO_DATA)
    if place is not None and struck is not None:
        here = place >= 0
        dq[:, here] |= struck[:, place[here]] * np.uint8(COSMIC_RAY)
    return dq
