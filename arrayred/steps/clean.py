"""The best estimate of a combined image beside the procedure's own: `clean`.

The procedure averages the lights, or takes their median, as they are: `counts`, of which its two
tables are made. `add_clean` gives the image a second one, `clean` (y, x), made of the same frames
brought to one level first (`steps.scale`); the variance is that of `clean`.

- median: of the scaled frames. Unscaled, a median of three frames whose star differs by 10 % is the
  middle frame, whose noise is that of one: pulls in the core are 1.2 wide instead of 1.0.
- clip: the mean of what the noise explains (`kernels.likely`), for any number of frames from three;
  what is left out is counted in `n_rejected` (y, x).
- minmax: the mean without the extremes of each pixel.
- average: only with weights is there anything to be made better.

Weights: a plain mean counts frames by their light, which is best where photons are most of the
noise. "noise" weighs by flux over the variance of the frame's sky, which is best for a faint star.
They are of frames, never of pixels: a sum that weighs star and sky differently cannot be freed of
its sky. Weights by exposure would say nothing, for the lights of a target have one exposure.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from arrayred.bands import over_frames
from arrayred.errors import UsageError
from arrayred.kernels.likely import Noise, distances, likely_mean, line_widths
from arrayred.kernels.minmax import minmax_mean
from arrayred.kernels.noise import finite_median
from arrayred.kernels.scale import Scales, scaled
from arrayred.kernels.stack import corrected, median
from arrayred.model import (
    CLEAN,
    CLEAN_METHOD,
    COUNTS,
    FRAME,
    N_REJECTED,
    X,
    Y,
    check_cube,
    check_image,
    note_history,
    remark,
    require_same_pixels,
)
from arrayred.steps.combine import CombineMethod
from arrayred.steps.floor import Floor, find_floor, find_gain, kind_of_master
from arrayred.steps.sample import sample_of
from arrayred.steps.scale import FrameScales, Scale, find_scales
from arrayred.steps.share import Share, share_of_mean, share_of_order

if TYPE_CHECKING:
    import xarray as xr

Weights = Literal["none", "noise"]
Values = NDArray[np.float64]

_HOT = 5.0
_SAMPLE = 1 << 18
_FEWEST_TO_CLIP = 3


@dataclass(frozen=True)
class Cleaning:
    """How lights become the best estimate of one image.

    Parameters
    ----------
    method : as in `combine`.
    n_sigma : of "clip": how many standard deviations of the known noise a value may lie off.
    low, high : of "minmax": how many of the lowest and of the highest values are left out.
    scale : how frames are brought to one level: by "flux", by "level", or "none".
    weights : of frames in a mean: "none", or "noise", the inverse variance.
    """

    method: CombineMethod = "average"
    n_sigma: float = 3.0
    low: int = 1
    high: int = 1
    scale: Scale = "flux"
    weights: Weights = "none"

    @property
    def is_plain(self) -> bool:
        """Tell whether the procedure's own image is all that is wanted."""
        if self.method == "average":
            return self.weights == "none"
        return self.method == "median" and self.scale == "none"

    @property
    def plain(self) -> Literal["average", "median"]:
        """Return how the procedure's own image is made."""
        return "median" if self.method == "median" else "average"

    def check(self, n_frames: int) -> None:
        """Raise UsageError where so many frames cannot be combined in this way."""
        if self.method == "minmax" and self.low + self.high >= n_frames:
            raise UsageError(
                f"{self.low} lowest and {self.high} highest of {n_frames} frames cannot be left "
                "out",
                keyword="combine",
                value="minmax",
                hint="Lower minmax_low or minmax_high, or combine by clip or median.",
            )


def add_clean(
    image: xr.Dataset, lights: xr.Dataset, how: Cleaning, *, minus: xr.Dataset | None = None
) -> xr.Dataset:
    """Give a combined image its best estimate, `clean`, unless the image is that itself.

    Parameters
    ----------
    image : counts (y, x), settled, of `combine` by ``how.plain``, and `dq` where known.
    lights : the frames it was made of, counts (frame, y, x); read once or twice, band by band.
    how : as to method, scale and weights.
    minus : the master (y, x) that was subtracted, of `measure_noise`.

    Returns
    -------
    image : with `clean` (y, x), float64, in the unit of the counts, the coordinate `clean_method`,
        and for "clip" `n_rejected`
        (y, x), uint8, the number of frames left out; the attribute `clean_share` tells
        `estimate_noise` what remains of the variance of a frame.

    Raises
    ------
    UsageError
        The frames are too few, or clipping is wanted and nothing tells their noise.
    MismatchError
        `minus` does not hold the same pixels.
    """
    if how.is_plain:
        return image
    told = how.method if how.weights == "none" else f"{how.method}, weighted by noise"
    image = image.assign_coords({CLEAN_METHOD: told})
    check_image(image)
    check_cube(lights)
    if minus is not None:
        require_same_pixels(image, minus)
    how.check(lights.sizes[FRAME])
    gain, _ = find_gain(image, lights, minus)
    floor = find_floor(image, lights, minus, gain)
    variance = 0.0 if floor is None else floor.variance
    found = find_scales(lights, image, how.scale, minus=minus, variance=variance)
    if how.method in ("median", "minmax"):
        return _in_order(image, lights, how, found, minus)
    return _mean(image, lights, how, found, minus, floor, gain)


def _in_order(
    image: xr.Dataset,
    lights: xr.Dataset,
    how: Cleaning,
    found: FrameScales,
    minus: xr.Dataset | None,
) -> xr.Dataset:
    """Return an image with the median of its scaled frames, or their mean without extremes."""
    own: Callable[..., Any] = median
    line, left_out = f"median of frames {found.told}", (0, 0)
    if how.method == "minmax":
        own, left_out = partial(minmax_mean, low=how.low, high=how.high), (how.low, how.high)
        line = (
            f"mean of frames without the {how.low} lowest and {how.high} highest of each pixel, "
            f"{found.told}"
        )
    kernel = partial(scaled, kernel=own, scales=found.scales)
    plane = np.asarray(_visit(lights, kernel, _base(found, minus))) + found.sky
    share = share_of_order(how.method, found.scales.flux, left_out)
    return _with_clean(image, plane, share, line)


def _mean(
    image: xr.Dataset,
    lights: xr.Dataset,
    how: Cleaning,
    found: FrameScales,
    minus: xr.Dataset | None,
    floor: Floor | None,
    gain: float | None,
) -> xr.Dataset:
    """Return an image with the mean of its frames, weighted, clipped, or both."""
    if floor is None:
        raise UsageError(
            "Nothing tells the noise of the frames, which clipping and weights go by",
            keyword="combine",
            hint="Tell read_noise in the instrument file, or combine by median or minmax.",
        )
    per_photon = 0.0 if gain is None else 1.0 / gain
    noise = Noise(how.n_sigma, floor.variance, per_photon)
    n_frames, scales = lights.sizes[FRAME], found.scales
    clips = how.method == "clip" and n_frames >= _FEWEST_TO_CLIP
    weights = _weights(how, found, noise, floor.level)
    base, charge = _base(found, minus), _charge(found, minus, floor)
    kernel = partial(
        likely_mean,
        scales=scales,
        weights=weights,
        noise=noise if clips else None,
        widths=_widths(lights, image, (base, charge), scales, noise) if clips else None,
    )
    mean, rejected = np.asarray(_visit(lights, kernel, base, charge, n_planes=2))
    mean = mean + found.sky
    share = share_of_mean(weights, scales.flux, how.n_sigma if clips else None)
    weighed = ", weighted by their noise" if how.weights == "noise" else ""
    clipped = f", clipped at {how.n_sigma:g} sigma of their noise" if clips else ""
    line = f"mean of {n_frames} frames {found.told}{weighed}{clipped}"
    if how.method != "clip":
        return _with_clean(image, mean, share, line)
    if not clips:
        text = f"nothing was clipped: {n_frames} frames cannot tell which value is wrong"
        return remark(_with_clean(image, mean, share, line), text)
    image = _with_clean(image, mean, share, f"{line}: {int(np.count_nonzero(rejected))} pixels")
    attrs = {"units": "", "long_name": "frames left out of a pixel"}
    counted = np.minimum(rejected, 255).astype(np.uint8)
    return image.assign({N_REJECTED: ((Y, X), counted, attrs)})


def _with_clean(image: xr.Dataset, plane: Values, share: Share, line: str) -> xr.Dataset:
    attrs = {**image[COUNTS].attrs, "long_name": "best estimate of the pixel values"}
    clean = np.ascontiguousarray(plane, np.float64)
    image = image.assign({CLEAN: ((Y, X), clean, attrs)})
    return note_history(image.assign_attrs(clean_share=share), f"clean: {line}")


def _visit(
    lights: xr.Dataset,
    kernel: Callable[..., Any],
    *images: NDArray[Any],
    n_planes: int | None = None,
) -> Any:
    """Return what a kernel makes of the lights and images."""
    return over_frames(lights[COUNTS].data, kernel, *images, n_planes=n_planes)


def _base(found: FrameScales, minus: xr.Dataset | None) -> Values:
    """Return what lies below the star (y, x): the master and the sky."""
    return found.sky + (0.0 if minus is None else minus[COUNTS].values)


def _weights(how: Cleaning, found: FrameScales, noise: Noise, level: float) -> tuple[float, ...]:
    """Return the weights of the frames, 1 on average."""
    flux = found.scales.flux
    if how.weights == "none":
        return (1.0,) * len(flux)
    variances = [noise.floor + noise.per_photon * max(sky - level, 0.0) for sky in found.skies]
    raw = [one / variance for one, variance in zip(flux, variances, strict=True)]
    mean = math.fsum(raw) / len(raw)
    return tuple(one / mean for one in raw)


def _charge(found: FrameScales, minus: xr.Dataset | None, floor: Floor) -> Values:
    """Return what brings noise beside the star (y, x): the sky, and the dark charge of hot pixels.

    What the floor holds already is not counted again.
    """
    charge = np.maximum(found.sky - floor.level, 0.0)
    if minus is not None and kind_of_master(minus) != "bias":
        above = minus[COUNTS].values - finite_median(sample_of(minus))
        charge += np.where(above > _HOT * math.sqrt(floor.variance), above, 0.0)
    return charge


def _widths(
    lights: xr.Dataset,
    image: xr.Dataset,
    planes: tuple[Values, Values],
    scales: Scales,
    noise: Noise,
) -> Values | None:
    """Return how much worse than its noise each column repeats, where a star runs along them.

    Of one along the rows each row tells by itself, and None is returned.
    """
    if "dispersion_axis" not in image.coords or image["dispersion_axis"].item() != 2:
        return None
    counts = image[COUNTS]
    base, charge = (
        np.asarray(sample_of(image.assign({COUNTS: counts.copy(data=plane)}), _SAMPLE))
        for plane in planes
    )
    frames = np.asarray(corrected(sample_of(lights, _SAMPLE), base))
    centre = scaled(frames, kernel=median, scales=scales)
    return line_widths(distances(frames, centre, charge, scales, noise), axis=0)
