"""Interpret the extensions of an image: masks, flags and noise of its pixels.

An extension of one of these names belongs to the image before it, and is not a frame. Its meaning
is decided here alone:

- MASK, BPM: not 0 (NaN too) is bad, as `astropy.nddata.CCDData` and IRAF write it.
- DQ, FLAGS, QUALITY: the bits of `dq` in products of arrayred. Other programs' bits have other
  meanings, but 0 is good in all of them (HST, Gemini, LCO): any bit is bad. Beside a mask these
  bits only name what the mask says.
- UNCERT (by its UTYPE a standard deviation, a variance or an inverse variance), ERR, SIGMA and the
  like: standard deviations; VAR, VARIANCE; IVAR. Beside CLEAN, the best estimate, the noise is that
  of CLEAN and not of the image.
- Weights, sky, models and pictures: nothing about the pixels as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from arrayred.io.header import Header
from arrayred.model import BAD_PIXEL, DQ, REPAIRED, SPOILT, VARIANCE

Pixels = NDArray[Any]
Kind = Literal["mask", "bits", "foreign bits", "std", "var", "ivar"]
UNCERTAINTIES: Mapping[Any, tuple[Kind, int]] = {
    "StdDevUncertainty": ("std", 1),
    "VarianceUncertainty": ("var", 2),
    "InverseVariance": ("ivar", -2),
}
"""Kind and power of the image's unit for each UTYPE, the uncertainties of astropy."""
_KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(("MASK", "BPM"), "mask"),
    **dict.fromkeys(("DQ", "FLAGS", "QUALITY"), "bits"),
    **dict.fromkeys(
        ("UNCERT", "ERR", "ERROR", "SIGMA", "STDDEV", "STD", "NOISE", "RMS"), "std"
    ),
    **dict.fromkeys(("VAR", "VARIANCE"), "var"),
    "IVAR": "ivar",
}  # fmt: skip
BEST_NAME = "CLEAN"
BESIDE_AN_IMAGE = {
    *_KINDS, BEST_NAME, "NREJECT",
    "WHT", "WEIGHT", "WEIGHTS", "EXPMAP", "CTX", "SKY", "BACKGROUND", "BKG", "MODEL",
    "PSFIMAGE", "PSF", "PREVIEW", "THUMBNAIL", "THUMB",
}  # fmt: skip
"""Names of extensions that belong to the image before them, and are no frames."""


def kind_of(name: str, header: Header, product_card: str) -> Kind | None:
    """Return what an extension holds; None for one that says nothing about the pixels.

    Parameters
    ----------
    name : its EXTNAME.
    header : its cards, then those of the primary header.
    product_card : the card that tells a product of arrayred.
    """
    kind = _KINDS.get(name.upper())
    if kind == "bits":
        return "bits" if product_card in header else "foreign bits"
    told = UNCERTAINTIES.get(header.readable("UTYPE")) if kind == "std" else None
    return kind if told is None else told[0]


def variable_of(kind: Kind) -> str:
    """Return the variable, `dq` or `variance`, that an extension of a kind gives."""
    return DQ if kind in ("mask", "bits", "foreign bits") else VARIANCE


def flags_of(mask: Pixels | None, bits: Pixels) -> NDArray[np.uint8]:
    """Return the bits of `dq` from bits, and a mask if there is one (not 0 is bad).

    A pixel that is masked without a reason is a bad_pixel; one that is not masked may be used.

    Examples
    --------
    >>> flags_of(np.array([0, 1, 1]), np.array([4, 4, 16], np.uint8))
    array([ 0,  4, 17], dtype=uint8)
    """
    told: NDArray[np.uint8] = bits.astype(np.uint8)
    if mask is None:
        return told
    named = np.where(told & SPOILT == 0, told | np.uint8(BAD_PIXEL), told)
    return np.where(mask != 0, named, told & np.uint8(REPAIRED))


def pixels_of_planes(
    variable: str, stored: Mapping[Kind, Pixels], shape: tuple[int, ...]
) -> Pixels:
    """Return `dq` (uint8) or `variance` (float64) from the pixels of extensions.

    Parameters
    ----------
    variable : which of the two.
    stored : the pixels of each kind of extension; without any, flags are 0 and a variance is NaN.
    shape : of the pixels.
    """
    if variable == DQ:
        mask = stored.get("mask", stored.get("foreign bits"))
        return flags_of(mask, stored.get("bits", np.zeros(shape, np.uint8)))
    if "std" in stored:
        return np.square(stored["std"], dtype=np.float64)
    if "var" in stored:
        return stored["var"].astype(np.float64)
    if "ivar" in stored:
        with np.errstate(divide="ignore"):
            return np.asarray(1.0 / stored["ivar"].astype(np.float64))
    return np.full(shape, np.nan)
