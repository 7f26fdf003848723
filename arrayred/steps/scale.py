"""How bright each light shows its star, and what sky lies beneath: `find_scales`.

Exposures of one star differ by 20 % in flux where its light misses the slit or haze passes by, and
unscaled their median is no median: on the night that taught this 61 % of the medians of a star's
core are one and the same frame. What is scaled is the light above the sky; the sky and the level
of the electronics are added, and come by themselves.

The sky is that of each column, or row where the star runs along the columns: a line of the sky
lies on all rows, together outshines a faint star, and would be stretched with it. One number a
frame: how the light lies across the trace may change too, and with the wavelength, and neither is
taken up here.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.noise import finite_median
from arrayred.kernels.scale import Scales, row_slopes, weighted_median
from arrayred.kernels.stack import median
from arrayred.model import COUNTS, DQ, FRAME, check_cube, check_image
from arrayred.steps.sample import sample_of

if TYPE_CHECKING:
    import xarray as xr

Scale = Literal["flux", "level", "none"]

_BRIGHT = 5.0
"""How many sigma of the combined image a pixel's light must reach to tell the flux."""
_LARGEST_ERROR = 0.02
_L1 = math.sqrt(math.pi / 2)
"""The standard deviation of a slope of least absolute residuals over that of least squares."""
_FAINTEST = 0.05

Values = NDArray[np.float64]


class FrameScales(NamedTuple):
    """What brings frames to one level, what sky each shows, and what is to be said of it.

    A frame less the master is ``flux * (light - sky) + sky + level``.

    Parameters
    ----------
    scales : flux and level of every frame.
    sky : (y, x), which is not scaled, adu.
    skies : what every frame shows where there is no star, less the master, adu.
    told : "scaled by flux: 0.912, 1.088".
    """

    scales: Scales
    sky: Values
    skies: tuple[float, ...]
    told: str


def find_scales(
    lights: xr.Dataset,
    image: xr.Dataset,
    scale: Scale = "flux",
    *,
    minus: xr.Dataset | None = None,
    variance: float = 0.0,
) -> FrameScales:
    """Find what brings the lights of one star to one level.

    Parameters
    ----------
    lights : counts (frame, y, x), eager or chunked. All are read once, band by band, for "flux".
    image : their combination (y, x), settled; pixels with a flag in `dq` are not looked at.
    scale : "flux": by the star's light, with the sky apart; "level": by a constant alone; "none".
    minus : the master (y, x) that was subtracted.
    variance : of a pixel of a frame without light, adu^2: it tells which pixels are bright.

    Returns
    -------
    found : fluxes are 1 where the star is too faint to tell them to 2 %. The numbers depend neither
        on chunks nor on the order of the frames.
    """
    check_cube(lights)
    check_image(image)
    n_frames = lights.sizes[FRAME]
    least = _BRIGHT * math.sqrt(max(variance, 1e-12) / max(n_frames, 1))
    typical, above = _levels(lights, image, minus, least)
    skies = tuple(typical + one for one in above)
    none, sky = Scales.none(n_frames), sky_of_lines(image)
    if n_frames < 2 or scale == "none":
        return FrameScales(none, sky, skies, "not scaled")
    mean = math.fsum(above) / n_frames
    levels = tuple(one - mean for one in above)
    if scale == "level":
        return FrameScales(Scales(none.flux, levels), sky, skies, "brought to one level")
    base = sky if minus is None else sky + minus[COUNTS].values
    flux, told = _flux(lights, image, base, above, least, variance)
    return FrameScales(Scales(flux, levels), sky, skies, told)


def sky_of_lines(image: xr.Dataset) -> Values:
    """Return the sky (y, x) of an image, the median across the dispersion; 0 where unknown."""
    counts = np.asarray(image[COUNTS].values, np.float64)
    upright = "dispersion_axis" in image.coords and image["dispersion_axis"].item() == 2
    across = counts.T if upright else counts
    line = median(across[:, np.newaxis])[0]
    sky = np.broadcast_to(np.where(np.isfinite(line), line, 0.0), across.shape)
    return sky.T if upright else sky


def _levels(
    lights: xr.Dataset, image: xr.Dataset, minus: xr.Dataset | None, least: float
) -> tuple[float, tuple[float, ...]]:
    """Return the sky of the combined image, and by how much that of every frame lies above it."""
    pixels = np.asarray(sample_of(image), np.float64)
    sky = finite_median(pixels)
    if not math.isfinite(sky):
        return 0.0, (0.0,) * lights.sizes[FRAME]
    dark = pixels <= sky + least
    base = pixels[dark] + (0.0 if minus is None else np.asarray(sample_of(minus))[dark])
    found = (finite_median(frame[dark] - base) for frame in sample_of(lights))
    return sky, tuple(one if math.isfinite(one) else 0.0 for one in found)


def _flux(
    lights: xr.Dataset,
    image: xr.Dataset,
    base: Values,
    above: tuple[float, ...],
    least: float,
    variance: float,
) -> tuple[tuple[float, ...], str]:
    """Return the flux of every frame, 1 on average, and what is to be said of it."""
    n_frames = len(above)
    equal = (1.0,) * n_frames
    usable = np.isfinite(image[COUNTS].values)
    if DQ in image:
        usable &= image[DQ].values == 0
    slopes = _slopes(lights, base, usable, partial(row_slopes, skies=above, least=least))
    light, squares = slopes[n_frames:]
    lit = light > 0
    total = math.fsum(squares[lit].tolist())
    if total == 0 or _L1 * math.sqrt(variance / total) > _LARGEST_ERROR:
        return equal, "not scaled: the star is too faint to tell its flux in a frame to 2 %"
    found = [float(weighted_median(row[lit], light[lit])) for row in slopes[:n_frames]]
    mean = math.fsum(found) / n_frames
    faint = [
        str(label)
        for label, one in zip(np.atleast_1d(lights[FRAME].values), found, strict=True)
        if not one > _FAINTEST * mean
    ]
    if faint:
        return equal, f"not scaled: the star is hardly seen in {', '.join(faint)}"
    flux = tuple(one / mean for one in found)
    return flux, f"scaled by flux: {', '.join(f'{one:.3f}' for one in flux)}"


def _slopes(
    lights: xr.Dataset, base: Values, usable: NDArray[np.bool_], kernel: Any
) -> NDArray[np.float64]:
    """Return what a kernel finds in each row of the lights, (frame + 2, y)."""
    frames = lights[COUNTS].data
    if isinstance(frames, np.ndarray):
        return np.asarray(kernel(frames, base, usable))
    import dask.array as da

    bands = frames.rechunk({0: -1, 2: -1})
    in_bands = [da.from_array(image, chunks=(bands.chunks[1], -1)) for image in (base, usable)]
    found = da.map_blocks(
        kernel,
        bands,
        *in_bands,
        drop_axis=2,
        chunks=((frames.shape[0] + 2,), bands.chunks[1]),
        dtype=np.float64,
        meta=np.empty((0, 0)),
    )
    return np.asarray(found)
