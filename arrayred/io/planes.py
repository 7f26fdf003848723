"""Variance and flags of an image as the neighbours keep them: a standard deviation and a mask.

In FITS they are the extensions UNCERT, MASK and DQ, which `astropy.nddata.CCDData.read` understands
(DQ with ``hdu_flags="DQ"``). MASK says whether to use a pixel, DQ why not.

Where an image has a best estimate beside the procedure's own, CLEAN holds it, and UNCERT is of that
one; NREJECT counts the frames that were left out of a pixel.

A standard deviation loses nothing here: the square root of a rounded square is the number itself
(IEEE 754, barring over- and underflow), so that what was read as sigma is written as the same
sigma; and a float32 variance, whose root is kept in float64, comes back as itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from arrayred.io.hdu import Plane
from arrayred.model import (
    CLEAN,
    COUNTS,
    DQ,
    DQ_MEANINGS,
    N_REJECTED,
    VARIANCE,
    X,
    Y,
    dq_attrs,
)

if TYPE_CHECKING:
    import xarray as xr

Variables = dict[str, tuple[Any, NDArray[Any], dict[str, Any]]]
"""What a Dataset is made of: by name dims, values and attributes."""
UNCERT, MASK, FLAGS, BEST, LEFT_OUT = "UNCERT", "MASK", "DQ", "CLEAN", "NREJECT"
REJECTED_ATTRS = {"units": "", "long_name": "frames left out of a pixel"}


def planes_of(image: xr.Dataset, dtype: str) -> list[Plane]:
    """Return the extensions of an image (y, x): none where nothing is known beside its counts.

    Parameters
    ----------
    image : counts, and `clean`, `variance`, `dq` and `n_rejected` where known.
    dtype : the type of the standard deviations and of the best estimate.
    """
    planes = []
    best = "CLEAN" if CLEAN in image else "the image"
    if CLEAN in image:
        unit = image[CLEAN].attrs.get("units", "adu")
        told = [("BUNIT", unit, "unit of the pixel values")]
        planes.append(Plane(BEST, told, image[CLEAN].values, dtype))
    if VARIANCE in image:
        cards = [
            ("UTYPE", "StdDevUncertainty", f"standard deviation of {best}"),
            ("BUNIT", _unit_of_sigma(image), "unit of the standard deviation"),
        ]
        planes.append(Plane(UNCERT, cards, sigma_of(image[VARIANCE].values, dtype), dtype))
    if DQ in image:
        flags = image[DQ].values
        named = [(f"FLAG{bit}", name, f"what bit {bit} says") for bit, name in DQ_MEANINGS.items()]
        planes.append(Plane(MASK, [], flags != 0, "uint8"))
        planes.append(Plane(FLAGS, named, flags, "uint8"))
    if N_REJECTED in image:
        planes.append(Plane(LEFT_OUT, [], image[N_REJECTED].values, "uint8"))
    return planes


def _unit_of_sigma(image: xr.Dataset) -> str:
    """Return the root of the unit of an image's variance, "" for a response; else its own unit."""
    told = image[VARIANCE].attrs.get("units")
    own = image[COUNTS].attrs.get("units", "adu")
    return str(own if told is None else told.removesuffix("2"))


def sigma_of(variance: NDArray[Any], dtype: str = "float64") -> NDArray[Any]:
    """Return standard deviations; NaN where the variance is no square.

    Parameters
    ----------
    variance : float32 or float64.
    dtype : in which they are written. The root of a float32, taken in float32, is to the bit the
        one that is taken in float64 and rounded: 53 digits are more than twice 24 and 2 more
        (Figueroa 1995, SIGNUM Newsletter 30, 21), so a third of the time suffices.
    """
    kind = np.result_type(variance, np.dtype(dtype))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(variance, dtype=kind))


def variance_of(sigma: NDArray[Any]) -> NDArray[Any]:
    """Return the variances whose `sigma_of` is the given one to the bit: float32 where that serves.

    Examples
    --------
    >>> variance = np.array([2.0, 3.0], np.float32)
    >>> variance_of(sigma_of(variance)).dtype, variance_of(np.array([1.1])).dtype
    (dtype('float32'), dtype('float64'))
    """
    exact = np.square(sigma, dtype=np.float64)
    with np.errstate(over="ignore"):
        narrow = exact.astype(np.float32)
    same = np.array_equal(sigma_of(narrow), sigma.astype(np.float64), equal_nan=True)
    return np.asarray(narrow if same else exact)


def labelled_planes(
    counts: NDArray[Any], units: str, sigma: NDArray[Any] | None, flags: NDArray[np.uint8] | None
) -> Variables:
    """Return an image's pixels (y, x) as variables: `counts`, and `variance` and `dq` if known."""
    dims = (Y, X)
    variables: Variables = {COUNTS: (dims, counts, {"units": units, "long_name": "pixel values"})}
    if sigma is not None:
        told = {"units": f"{units}2" if units else "", "long_name": "variance of a pixel"}
        variables[VARIANCE] = (dims, variance_of(sigma), told)
    if flags is not None:
        variables[DQ] = (dims, flags, dq_attrs("flags of a pixel"))
    return variables
