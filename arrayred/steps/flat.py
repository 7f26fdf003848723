"""Take out that pixels differ in their response to light: `combine_flats`, `divide_flat`.

Each flat is scaled to its own level first, since lamps drift. The colour of the lamp along the
dispersion is taken out: a star divided by a flat that held it would be redder by as much as the
lamp is bluer. What the flat then holds is the response of single pixels, and the light that is
lost along the slit. Vignetting along the dispersion goes with the colour, since nothing can tell
the two apart; it stays in the star's spectrum as in one without a flat.

One flat serves all lights of a target, so that the combined image is divided, once: the same as
dividing every frame, for averages and medians alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from arrayred.bands import over_frames
from arrayred.errors import InputError, UsageError
from arrayred.kernels import flat as kernel
from arrayred.model import (
    BAD,
    BAD_PIXEL,
    CLEAN,
    COUNTS,
    DQ,
    FRAME,
    VARIANCE,
    X,
    Y,
    check_cube,
    check_image,
    dq_attrs,
    note_history,
    require_same_pixels,
)

if TYPE_CHECKING:
    import xarray as xr

LOWEST = 0.05
"""The response below which a pixel is bad, 1 being that in the middle of the slit."""


def flat_level(image: xr.Dataset) -> float:
    """Return the level of the illuminated part of a flat less its dark.

    Parameters
    ----------
    image : counts (y, x), settled.

    Raises
    ------
    InputError
        It has no light.
    """
    check_image(image)
    level = kernel.level_of(np.asarray(image[COUNTS].values, np.float64))
    if not level > 0:
        name = str(image[FRAME].item()) if FRAME in image.coords else "a flat"
        raise InputError(
            f"There is no light in {name}: its level less its dark is {level:g}",
            value=level,
            hint="Exclude the frame.",
        )
    return level


def combine_flats(
    cube: xr.Dataset, levels: Sequence[float], darks: Sequence[xr.Dataset | None] = ()
) -> xr.Dataset:
    """Return the median of flats, each less its dark and divided by its level.

    Parameters
    ----------
    cube : counts (frame, y, x), eager or chunked.
    levels : of each frame less its dark (`flat_level`).
    darks : image (y, x) to subtract from each frame, or None; none at all: they are corrected.

    Returns
    -------
    image : counts (y, x), float64, about 1, without a unit, as lazy as the cube came.

    Raises
    ------
    MismatchError
        A dark does not hold the same pixels.
    """
    import xarray as xr

    check_cube(cube)
    each = list(darks) or [None] * cube.sizes[FRAME]
    if len(each) != cube.sizes[FRAME] or len(levels) != cube.sizes[FRAME]:
        raise UsageError(
            f"{cube.sizes[FRAME]} flats meet {len(levels)} levels and {len(each)} darks",
            hint="Give one of each for every frame.",
        )
    different = list({id(dark): dark for dark in each if dark is not None}.values())
    for dark in different:
        require_same_pixels(cube, dark)
    which = tuple(
        next((i for i, other in enumerate(different) if other is dark), -1) for dark in each
    )
    median = partial(kernel.scaled_median, levels=tuple(levels), which=which)
    counts = over_frames(cube[COUNTS].data, median, *(dark[COUNTS].data for dark in different))
    scalars = {name: coord for name, coord in cube.coords.items() if not coord.dims}
    image = xr.Dataset(
        {COUNTS: ((Y, X), counts, {"long_name": "response relative to the middle of the slit"})},
        coords={Y: cube[Y], X: cube[X], **scalars, "n_frames": cube.sizes[FRAME]},
        attrs=cube.attrs,
    )
    kinds = dict.fromkeys(dark.attrs.get("kind", "dark") for dark in different)
    for kind in kinds:
        image = note_history(image, f"{kind} subtracted")
    return note_history(image, f"median of {cube.sizes[FRAME]} flats, each scaled to its level")


def normalise_flat(image: xr.Dataset) -> xr.Dataset:
    """Return a flat without the colour of its lamp: a master flat.

    Parameters
    ----------
    image : a flat (y, x), settled; its coordinate `dispersion_axis`, if there, says 1 or 2. A
        `variance` is divided by the square of the colour, which is taken for certain.

    Returns
    -------
    flat : counts (y, x), 1 in the middle of the slit, with the coordinate `bad` (`with_bad`); NaN
        where the lamp gave no light.

    Raises
    ------
    InputError
        It has no light at all.
    """
    check_image(image)
    pixels = np.asarray(image[COUNTS].values, np.float64)
    along_y = "dispersion_axis" in image.coords and image["dispersion_axis"].item() == 2
    curve = kernel.colour(np.ascontiguousarray(pixels.T) if along_y else pixels)
    if np.isnan(curve).all():
        raise InputError("The flats have no light", hint="Exclude them, or give --no-flat.")
    lamp = curve[:, np.newaxis] if along_y else curve
    flat = image.assign({COUNTS: image[COUNTS].copy(data=pixels / lamp)})
    if VARIANCE in image:
        variance = np.asarray(image[VARIANCE].values / lamp**2, np.float32)
        flat = flat.assign({VARIANCE: image[VARIANCE].copy(data=variance)})
    return with_bad(note_history(flat, "colour taken out"))


def with_bad(flat: xr.Dataset) -> xr.Dataset:
    """Return a master flat whose pixels that get less than 5 % of the light are marked `bad`.

    Parameters
    ----------
    flat : counts (y, x), 1 in the middle of the slit; a unit they may have means nothing.
    """
    bad = ~(flat[COUNTS].values >= LOWEST)
    attrs = {name: value for name, value in flat[COUNTS].attrs.items() if name != "units"}
    flat = flat.assign({COUNTS: (flat[COUNTS].dims, flat[COUNTS].values, attrs)})
    return flat.assign_coords({BAD: ((Y, X), bad, {"long_name": "no response to correct by"})})


def divide_flat(ds: xr.Dataset, flat: xr.Dataset) -> xr.Dataset:
    """Divide an image or every frame of a cube by a master flat, bad pixels left as they are.

    Parameters
    ----------
    ds : counts (..., y, x) in adu or electron, eager or chunked.
    flat : a master flat (y, x) with the coordinate `bad`, settled; where it has a `variance`, that
        counts.

    Returns
    -------
    The same with counts divided, float64, as lazy as it came, and with `bad` (y, x); a variance is
    divided by the square, once the flat's own part is in it, and `dq` flags the bad pixels. An
    image of which nothing is flagged gets a `dq` where there are some.

    Raises
    ------
    MismatchError
        The two do not hold the same pixels of a detector.

    Examples
    --------
    >>> import xarray as xr
    >>> labels = {"y": [1], "x": [1, 2, 3]}
    >>> image = xr.Dataset({"counts": (("y", "x"), np.array([[100.0, 110.0, 2.0]]))}, labels)
    >>> flat = with_bad(xr.Dataset({"counts": (("y", "x"), np.array([[1.0, 1.1, 0.01]]))}, labels))
    >>> divide_flat(image, flat).counts.values
    array([[100., 100.,   2.]])
    """
    require_same_pixels(ds, flat)
    bad = flat[BAD]
    divisor = np.where(bad.values, 1.0, flat[COUNTS].values)
    pixels = ds[COUNTS].data
    if FRAME in ds[COUNTS].dims:
        divided = over_frames(pixels, kernel.quotient, divisor, keeps_frames=True)
    else:
        divided = kernel.quotient(pixels, divisor)
    counts = ds[COUNTS].copy(data=divided)
    n_bad = int(np.count_nonzero(bad.values))
    noisy = ", whose noise was added" if VARIANCE in ds and VARIANCE in flat else ""
    told = f"divided by the flat{noisy}; {n_bad} pixels get too little light and were left"
    plane = (bad.dims, bad.values, bad.attrs)
    divided_ds = ds.assign({COUNTS: counts}).assign_coords({BAD: plane})
    return note_history(_with_planes(divided_ds, divisor, flat), told)


def _with_planes(ds: xr.Dataset, divisor: NDArray[np.float64], flat: xr.Dataset) -> xr.Dataset:
    """Return what was divided with a variance that follows, and flags that tell bad pixels.

    Where there is a best estimate, `clean`, it is divided as well, and the variance is that one's.
    """
    if CLEAN in ds:
        ds = ds.assign({CLEAN: ds[CLEAN].copy(data=kernel.quotient(ds[CLEAN].data, divisor))})
    if VARIANCE in ds:
        known = VARIANCE in flat
        of_flat = np.where(ds[BAD].values, 0.0, flat[VARIANCE].values) if known else None
        best = ds[CLEAN if CLEAN in ds else COUNTS].data
        variance = kernel.quotient_variance(ds[VARIANCE].data, best, divisor, of_flat)
        ds = ds.assign({VARIANCE: ds[VARIANCE].copy(data=variance)})
    flags = np.where(ds[BAD].values, np.uint8(BAD_PIXEL), np.uint8(0))
    if DQ in ds:
        return ds.assign({DQ: ds[DQ].copy(data=ds[DQ].data | flags)})
    if FRAME in ds[COUNTS].dims or not flags.any():
        return ds
    return ds.assign({DQ: ((Y, X), flags, dq_attrs("flags of the pixels"))})
