"""A star's spectrum frame by frame, through one aperture: `extract_frames`, for light curves.

Every frame has the aperture of the combined image, since a height of its own would follow the
seeing and make the star vary with it; but the star drifts along the slit from frame to frame, and
the aperture with it. The drift is that of the whole trace, a single number for each frame: the
median of the difference between the frame's own trace and the common one. A frame in which the star
is too faint to be followed keeps the common trace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.noise import finite_median
from arrayred.model import DQ, FRAME, VARIANCE, Rows, X, note_history, remark
from arrayred.steps.trace import fit_trace

if TYPE_CHECKING:
    import xarray as xr

Extract = Callable[["xr.Dataset", "xr.Dataset"], "xr.Dataset"]
TIME_MID, OFFSET, EXTRACTION = "time_mid", "offset", "extraction"
_ALONG_X = ("flux", VARIANCE, "sky", DQ)


class _One(NamedTuple):
    """The spectrum of a frame, and by how many rows its star lies beside the common trace."""

    spectrum: xr.Dataset
    offset: float


def extract_frames(
    images: Iterable[xr.Dataset],
    lights: xr.Dataset,
    trace: xr.Dataset,
    rows: Rows,
    extract: Extract,
    *,
    follow: bool = True,
) -> xr.Dataset:
    """Extract each frame of a target along the trace of all.

    Parameters
    ----------
    images : each light as a calibrated image, counts (y, x), settled, dispersed along x, in the
        order of the cube. Only one is held at a time.
    lights : the cube they are from; its coordinates `time` and `exptime` (frame) tell when.
    trace : `center` (x) in the combined image.
    rows : of the spectrum there.
    extract : makes the spectrum (x) of an image and a trace.
    follow : the aperture goes with the star; else it stays.

    Returns
    -------
    frames : `flux`, `variance`, `sky` and `dq` (frame, x), as far as the spectra have them.
        Coordinates along `frame`: `time_mid`, the middle of the exposure in UTC, `exptime` in s,
        `offset`, rows from the common trace, and `extraction`, what was done.
    """
    import xarray as xr

    found = [
        _extracted(image, trace, offset_of(image, trace, rows) if follow else 0.0, extract)
        for image in images
    ]
    first = found[0].spectrum
    variables = {
        name: (
            (FRAME, X),
            np.stack([one.spectrum[name].values for one in found]),
            first[name].attrs,
        )
        for name in _ALONG_X
        if all(name in one.spectrum for one in found)
    }
    offsets = np.array([one.offset for one in found])
    ways = [str(one.spectrum.attrs.get(EXTRACTION, "")) for one in found]
    coords: dict[str, Any] = {
        X: first[X],
        FRAME: lights[FRAME],
        **_times(lights),
        OFFSET: (FRAME, np.nan_to_num(offsets), {"units": "pix", "long_name": "drift of the star"}),
        EXTRACTION: (FRAME, ways, {"long_name": "weights of the extraction"}),
    }
    scalars = {name: coord for name, coord in first.coords.items() if not coord.dims}
    frames = xr.Dataset(variables, {**scalars, **coords}, {"history": []})
    frames = note_history(frames, "each frame extracted along the trace of all, moved to its star")
    if lost := int(np.count_nonzero(np.isnan(offsets))):
        what = "1 frame is" if lost == 1 else f"{lost} frames are"
        frames = remark(frames, f"{what} too faint to be traced, and kept the common trace")
    return frames


def _extracted(image: xr.Dataset, trace: xr.Dataset, offset: float, extract: Extract) -> _One:
    """Return the spectrum of a frame along the common trace, moved to where its star is."""
    center = trace["center"]
    moved = trace.assign(center=center + (0.0 if np.isnan(offset) else offset))
    moved["center"].attrs = dict(center.attrs)
    return _One(extract(image, moved), offset)


def offset_of(image: xr.Dataset, trace: xr.Dataset, rows: Rows) -> float:
    """Return by how many rows a star lies above a trace; NaN where it is too faint to tell.

    Parameters
    ----------
    image : counts (y, x), settled.
    trace : `center` (x), of another image of the same star.
    rows : where it was found there.
    """
    own = fit_trace(image, rows)
    if own.attrs["trace"] != "fit":
        return float("nan")
    offset = finite_median(own["center"].values - trace["center"].values)
    return offset if abs(offset) <= rows.n_rows else float("nan")


def _times(lights: xr.Dataset) -> dict[str, Any]:
    """Return the middle of each exposure and its length, as far as they are known."""
    if "exptime" not in lights.coords:
        return {}
    n = lights.sizes[FRAME]
    exptime = np.broadcast_to(np.asarray(lights["exptime"].values, np.float64), n)
    told: dict[str, Any] = {
        "exptime": (FRAME, exptime.copy(), {"units": "s", "long_name": "exposure"})
    }
    if "time" in lights.coords:
        told[TIME_MID] = (FRAME, _middles(lights["time"].values, exptime))
    return told


def _middles(starts: NDArray[Any], exptime: NDArray[np.float64]) -> NDArray[Any]:
    """Return the middle of exposures, to the nanosecond; NaT where start or length is unknown."""
    begun = np.broadcast_to(np.asarray(starts, "datetime64[ns]"), exptime.shape)
    half = np.nan_to_num(exptime) * 0.5e9
    middles = begun + half.round().astype("timedelta64[ns]")
    return np.where(np.isfinite(exptime), middles, np.datetime64("NaT", "ns"))
