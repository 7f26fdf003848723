"""Many frames become one image: `combine`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from arrayred.bands import over_frames
from arrayred.config import Method
from arrayred.errors import UsageError
from arrayred.kernels.stack import mean, median
from arrayred.model import (
    COUNTS,
    FRAME,
    SETUP_COORDS,
    X,
    Y,
    check_cube,
    note_history,
    require_same_pixels,
)

if TYPE_CHECKING:
    import xarray as xr

_KERNELS = {"average": mean, "median": median}


def combine(
    cube: xr.Dataset, method: Method = "average", *, minus: xr.Dataset | None = None
) -> xr.Dataset:
    """Combine the frames of a cube into one image, optionally each less an image.

    Parameters
    ----------
    cube : counts (frame, y, x), eager or chunked; missing values (NaN) are left out.
    method : "average" or "median".
    minus : image (y, x), such as a master dark, subtracted from every frame inside the kernel. The
        result equals that of subtracting first, bit for bit.

    Returns
    -------
    image : counts (y, x), float64, as lazy as the cube came. Per-frame coordinates become the
        scalar ones n_frames, exptime (of one frame), exptime_total, time (first start), ccd_temp
        (mean).

    Raises
    ------
    MismatchError
        `minus` does not hold the same pixels.
    """
    import xarray as xr

    check_cube(cube)
    if method not in _KERNELS or cube.sizes[FRAME] == 0:
        raise UsageError(
            f"{cube.sizes[FRAME]} frames cannot be combined by {method!r}",
            hint=f"Take at least one frame, and one of {', '.join(_KERNELS)}.",
        )
    if minus is not None:
        require_same_pixels(cube, minus)
    images = () if minus is None else (minus[COUNTS].data,)
    counts = over_frames(cube[COUNTS].data, _KERNELS[method], *images)
    image = xr.Dataset(
        {COUNTS: ((Y, X), counts, cube[COUNTS].attrs)},
        coords={Y: cube[Y], X: cube[X], "method": method, **_summary(cube)},
        attrs=cube.attrs,
    )
    for line in [
        *(["dark subtracted"] if minus is not None else []),
        f"{method} of {cube.sizes[FRAME]} frames",
    ]:
        image = note_history(image, line)
    return image


def _summary(cube: xr.Dataset) -> dict[str, Any]:
    """Return what remains of the per-frame coordinates."""
    scalars: dict[str, Any] = {"n_frames": cube.sizes[FRAME]}
    scalars |= {
        name: cube[name]
        for name in (*SETUP_COORDS, "gain", "dispersion_axis")
        if name in cube.coords
    }
    if "exptime" in cube.coords:
        exposures = np.atleast_1d(cube["exptime"].values)
        scalars |= {"exptime": float(exposures[0]), "exptime_total": float(sum(exposures))}
    if "ccd_temp" in cube.coords:
        temperatures = np.atleast_1d(cube["ccd_temp"].values)
        scalars["ccd_temp"] = float(sum(temperatures) / len(temperatures))
    if "time" in cube.coords:
        scalars["time"] = np.atleast_1d(cube["time"].values).min()
    return scalars
