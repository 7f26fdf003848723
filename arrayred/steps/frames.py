"""Noise and flags of single calibrated frames: `planes_of_frames`, `with_planes`.

What is the same for all frames of a target, the noise without light, bad pixels, where saturation
begins, is found once, with all of them at hand; the rest is pixel by pixel, and as lazy as the
frames. The flags of all frames together are those of their combination.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.bands import over_frames
from arrayred.kernels.noise import frame_variances
from arrayred.model import (
    BAD_PIXEL,
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
from arrayred.steps.noise import FrameNoise

if TYPE_CHECKING:
    import xarray as xr

_DIMS = (FRAME, Y, X)


class FramePlanes(NamedTuple):
    """What the planes of single frames are made of.

    Parameters
    ----------
    noise : of `noise_of_frames`; None: it is unknown, and no frame has a variance.
    flags : the bits (y, x) that every frame has.
    saturated_from : the raw count at which saturation begins; infinity where nothing tells.
    """

    noise: FrameNoise | None
    flags: NDArray[np.uint8]
    saturated_from: float


def planes_of_frames(combined: xr.Dataset, noise: FrameNoise | None) -> FramePlanes:
    """Return what the planes of a target's frames are made of.

    Parameters
    ----------
    combined : the combination (y, x) of the frames, of `flag`.
    noise : of `noise_of_frames`, or None.
    """
    check_image(combined)
    flags = combined[DQ].values & np.uint8(BAD_PIXEL)
    return FramePlanes(noise, flags, combined.attrs.get("saturated_from", np.inf))


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
    top = planes.saturated_from
    dq = over_frames(
        lights[COUNTS].data,
        partial(frame_flags, saturated_from=top),
        planes.flags,
        keeps_frames=True,
        dtype=np.dtype(np.uint8),
    )
    cube = cube.assign({DQ: (_DIMS, dq, dq_attrs("flags of a pixel"))})
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


def frame_flags(
    block: NDArray[Any], flags: NDArray[np.uint8], *, saturated_from: float
) -> NDArray[np.uint8]:
    """Return the flags of each frame: those of all, saturated pixels and missing ones.

    Parameters
    ----------
    block : raw counts (frame, y, x).
    flags : the bits (y, x) that every frame has.
    saturated_from : the count at which saturation begins.

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
    return dq
