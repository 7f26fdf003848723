"""What is wrong with a pixel of a combined image: `flag`.

Flags are made for the combined image, not for the cube: calibration is the same for all frames of a
target, so what the cube's flags would tell is told by the highest raw value of each pixel, which
comes out of the same visit as the combination (`combine_with_peak`). **A combined pixel carries a
bit if any of its frames does**: an average holds a part of every frame.

Saturation is judged on raw values. A level that is told (an instrument file's
``[detector] saturation``) counts; else the top of the integers that the file can hold; or, below
it, a plateau, where a converter with fewer bits ends: ten pixels or more of exactly the highest
value, and hardly any just below it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.bands import over_frames
from arrayred.errors import FrameError, MismatchError
from arrayred.kernels.noise import finite_median
from arrayred.kernels.peak import LARGEST, without_absurd
from arrayred.model import (
    BAD_PIXEL,
    COUNTS,
    DQ,
    FRAME,
    NO_DATA,
    PEAK,
    SATURATED,
    X,
    Y,
    check_cube,
    check_image,
    dq_attrs,
    note_history,
    remark,
)
from arrayred.steps.borrowed import ccdproc_for
from arrayred.steps.sample import pixels_at, sample_of

if TYPE_CHECKING:
    import xarray as xr

Mask = NDArray[np.bool_]

_PLATEAU = 10
_NEAR = 0.02
_FEWER_NEAR = 4


class Saturation(NamedTuple):
    """The lowest raw count that means nothing any more, adu, and who says so."""

    level: float
    told_by: str


def drop_absurd(cube: xr.Dataset) -> xr.Dataset:
    """Make missing what no converter writes: infinite values, and those beyond 2^32.

    Parameters
    ----------
    cube : counts (frame, y, x), eager or chunked. Integers are returned as they are.

    Returns
    -------
    cube : such values are NaN, as lazy as it came.
    """
    check_cube(cube)
    counts = cube[COUNTS]
    if counts.dtype.kind != "f":
        return cube
    kept = over_frames(counts.data, without_absurd, keeps_frames=True, dtype=counts.dtype)
    return cube.assign({COUNTS: counts.copy(data=kept)})


def flag(image: xr.Dataset, cube: xr.Dataset, *, bad: Mask | None = None) -> xr.Dataset:
    """Give a combined image the flags of its pixels.

    Parameters
    ----------
    image : settled, of `combine_with_peak`; where it has the coordinate `bad` (y, x), as of a flat
        that could not correct a pixel, that counts as well.
    cube : its raw frames, counts (frame, y, x). Only the pixels that lack a value are read again,
        to count them; missing ones are NaN (`drop_absurd`).
    bad : (y, x), True where the detector is known to be bad.

    Returns
    -------
    image : with `dq` (y, x), uint8, in place of `peak`: bad_pixel 1, saturated 2, no_data 8, of any
        frame, and with the attribute `saturated_from`, where saturation begins, if it is known.
        Frames that lack pixels are remarked on.

    Raises
    ------
    FrameError
        A frame has no data, is saturated everywhere, or has one value everywhere.
    MismatchError
        The bad pixels are those of an image of another shape.
    """
    check_image(image)
    peak = image[PEAK].values
    top = saturation_of(peak, cube)
    require_light(cube, top)
    dq = np.zeros(peak.shape, np.uint8)
    if top is not None:
        dq[peak >= top.level] = SATURATED
    if cube[COUNTS].dtype.kind == "f":
        image = _flag_missing(dq, image, cube, top)
    dq.flat[np.flatnonzero(~np.isfinite(image[COUNTS].values))] |= NO_DATA
    for known in (bad, image.coords["bad"].values if "bad" in image.coords else None):
        if known is not None:
            _require_shape(known, dq)
            dq[known] |= BAD_PIXEL
    flagged = image.drop_vars(PEAK).assign({DQ: ((Y, X), dq, dq_attrs("flags of a pixel"))})
    if top is not None:
        flagged = flagged.assign_attrs(saturated_from=top.level)
    line = _counted(dq, top)
    return note_history(flagged, line) if line else flagged


def _flag_missing(
    dq: NDArray[np.uint8], image: xr.Dataset, cube: xr.Dataset, top: Saturation | None
) -> xr.Dataset:
    """Flag the pixels that some frames lack, by what the others say; remark on those frames."""
    where = np.flatnonzero(np.isnan(image[PEAK].values))
    if not where.size:
        return image
    values = pixels_at(cube, where)
    dq.flat[where] |= NO_DATA
    if top is not None:
        dq.flat[where[(values >= top.level).any(axis=0)]] |= SATURATED
    counts = np.count_nonzero(np.isnan(values), axis=1)
    for label, n in zip(cube[FRAME].values, counts, strict=True):
        if n:
            lacks = "1 pixel has" if n == 1 else f"{n} pixels have"
            image = remark(image, f"{label}: {lacks} no data, and the other frames stand in")
    return image


def _require_shape(bad: Mask, dq: NDArray[np.uint8]) -> None:
    if bad.shape != dq.shape:
        raise MismatchError(
            f"The bad pixels are those of {bad.shape[1]} x {bad.shape[0]}, but the image has "
            f"{dq.shape[1]} x {dq.shape[0]}",
            keyword="bad_pixels",
            value=bad.shape,
            hint="Give a mask of the frames' own shape and binning.",
        )


def _counted(dq: NDArray[np.uint8], top: Saturation | None) -> str:
    """Return how many pixels carry which flag, or ""."""
    by = "" if top is None else f" (from {top.level:g}, {top.told_by})"
    names = {BAD_PIXEL: "known to be bad", SATURATED: f"saturated{by}", NO_DATA: "lack data"}
    counts = {bit: int(np.count_nonzero(dq & bit)) for bit in names}
    told = [f"{n} {names[bit]}" for bit, n in counts.items() if n]
    return f"pixels flagged: {', '.join(told)}" if told else ""


def saturation_of(peak: NDArray[Any], cube: xr.Dataset) -> Saturation | None:
    """Return the level from which raw counts mean nothing, or None where nothing tells.

    Parameters
    ----------
    peak : (y, x), the highest raw value of each pixel.
    cube : the frames, counts (frame, y, x); their coordinate `saturation` is believed.
    """
    if "saturation" in cube.coords:
        return Saturation(float(cube["saturation"].item()), "as told")
    dtype = cube[COUNTS].dtype
    if dtype.kind in "iu" and dtype.itemsize <= 2:
        top = float(np.iinfo(dtype).max)
        if peak.size and float(peak.max()) >= top:
            return Saturation(top, f"the top of {dtype}")
    level = plateau(peak)
    return None if level is None else Saturation(level, "where many pixels end")


def plateau(peak: NDArray[Any]) -> float | None:
    """Return the highest value if many pixels have exactly it, and few nearly; else None.

    Examples
    --------
    >>> star = np.random.default_rng(0).exponential(1500, (200, 200)).round()
    >>> plateau(np.minimum(star, 4095)), plateau(star)
    (4095.0, None)
    """
    highest = np.fmax.reduce(peak, axis=None, initial=-np.inf)
    if not 0 < highest < LARGEST:
        return None
    at_top = int(np.count_nonzero(peak == highest))
    if at_top < _PLATEAU or at_top == peak.size:
        return None
    near = int(np.count_nonzero(peak >= highest - max(8.0, _NEAR * highest))) - at_top
    return float(highest) if near * _FEWER_NEAR <= at_top else None


def require_light(cube: xr.Dataset, top: Saturation | None) -> None:
    """Raise FrameError for a frame without data, saturated everywhere, or of a single value.

    Parameters
    ----------
    cube : counts (frame, y, x). A frame whose sample is suspect is looked at as a whole.
    top : the level of saturation, or None.
    """
    for i, sample in enumerate(sample_of(cube)):
        if _what_is_wrong(sample, top):
            wrong = _what_is_wrong(cube[COUNTS].isel({FRAME: i}).values, top)
            if wrong:
                label = str(cube[FRAME].values[i]) if FRAME in cube.coords else f"frame {i + 1}"
                path = str(cube["path"].values[i]) if "path" in cube.coords else None
                raise FrameError(
                    f"{label} shows no light: {wrong}", path=path, hint="Exclude the frame."
                )


def _what_is_wrong(pixels: NDArray[Any], top: Saturation | None) -> str:
    """Return why pixels are no exposure, or ""."""
    present = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
    if not present.size:
        return "no pixel holds a number"
    lowest, highest = present.min(), present.max()
    if top is not None and lowest >= top.level:
        return f"every pixel is saturated, at {lowest:g} or above"
    return f"every pixel is {lowest:g}" if lowest == highest and present.size > 1 else ""


def find_bad_pixels(image: xr.Dataset) -> Mask:
    """Return which pixels of a master behave unlike their neighbours, by `ccdproc.ccdmask`.

    Parameters
    ----------
    image : counts (y, x) of a master dark or flat, settled. What is no number, as where a lamp gave
        no light, is not judged.

    Returns
    -------
    bad : (y, x), True where a pixel or column stands out.

    Raises
    ------
    UsageError
        ccdproc is not installed.
    """
    ccdproc = ccdproc_for("Finding bad pixels in the masters")
    check_image(image)
    values = image[COUNTS].values
    judged = np.isfinite(values)
    if not judged.all():
        values = np.where(judged, values, finite_median(values) if judged.any() else 0.0)
    return np.asarray(ccdproc.ccdmask(values) & judged, np.bool_)
