"""Combine the frames of a cube into one image, and compute its best estimate.

Which method for which frames: the average has the least noise but rejects no outliers; the median
is robust against any outlier, at 1.5 times the variance; the clipped mean comes close to both from
11 frames on, below which 3 sigma can reject nothing; the mean without extremes replaces it for 4 to
10 frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.bands import map_frames
from arrayred.config import Combination
from arrayred.errors import UsageError
from arrayred.kernels.combine import (
    Scales,
    combine_scaled,
    corrected,
    flags_of_lost,
    mean,
    median,
    minmax_mean,
    row_slopes,
    variance_of_combination,
    weighted_median,
    with_peak,
)
from arrayred.kernels.noise import PixelNoise, finite_median, variance_by_method
from arrayred.kernels.reject import (
    NoiseClip,
    clipped_mean,
    line_widths,
    noise_clipped_mean,
    noise_distances,
)
from arrayred.model import (
    CLEAN,
    CLEAN_METHOD,
    COUNTS,
    DETECTOR_COORDS,
    DQ,
    FRAME,
    N_REJECTED,
    PEAK,
    SETUP_COORDS,
    SPOILT,
    VARIANCE,
    X,
    Y,
    add_check,
    add_history,
    add_remark,
    check_cube,
    check_image,
    common_value,
    dq_attrs,
    is_upright,
    string_coord,
    with_pixels_of,
)
from arrayred.steps.noise import (
    ReadNoise,
    VarianceFactor,
    drop_impossible,
    find_gain,
    find_read_noise,
    master_noise,
    sample_pixels,
    variance_factor_of_mean,
    variance_factor_of_order,
)

if TYPE_CHECKING:
    import xarray as xr


def combine(
    cube: xr.Dataset,
    method: Combination = "average",
    *,
    minus: xr.Dataset | None = None,
    n_sigma: float = 3.0,
    iterations: int | None = 1,
    low: int = 1,
    high: int = 1,
) -> xr.Dataset:
    """Combine the frames of a cube into one image, optionally subtracting an image from each.

    Parameters
    ----------
    cube : counts (frame, y, x), eager or chunked; values that are NaN, infinite or beyond 2^32, or
        flagged as bad in `dq` (frame, y, x), are not used.
    method : "average"; "median"; "clip", the mean of the values near the mean of their pixel; or
        "minmax", the mean without the extremes of each pixel.
    minus : image (y, x), such as a master dark, subtracted from every frame inside the kernel. The
        result equals that of subtracting first, bit for bit.
    n_sigma, iterations : for "clip": the rejection threshold in standard deviations, and the number
        of iterations; None: until nothing changes.
    low, high : for "minmax": how many of the lowest and the highest values of a pixel are rejected.

    Returns
    -------
    image : counts (y, x), float64, lazy if the cube is. Per-frame coordinates become the
        scalar ones n_frames, exptime (of one frame), exptime_total, time (first start), ccd_temp
        (mean). For "minmax" the attribute `left_out` is (low, high). Where the frames have them,
        `variance` (y, x), that of the combination of their variances and of `minus`, and `dq`
        (y, x), the flags of pixels that no frame knows, and those of `minus`.

    Raises
    ------
    MismatchError
        `minus` lacks pixels of the cube, or has a different detector setting.
    UsageError
        The method is unknown, or rejects all of these frames.

    Examples
    --------
    >>> import xarray as xr
    >>> cube = xr.Dataset(
    ...     {
    ...         "counts": (("frame", "y", "x"), np.array([[[1.0]], [[2.0]], [[1e5]]])),
    ...         "dq": (("frame", "y", "x"), np.array([[[0]], [[0]], [[4]]], np.uint8)),
    ...     },
    ...     {"y": [1], "x": [1]})
    >>> combine(cube).counts.item()
    1.5
    """
    cube = drop_impossible(cube)
    kernel, line = _method_kernel(
        method, cube.sizes[FRAME], n_sigma=n_sigma, iterations=iterations, low=low, high=high
    )
    minus = None if minus is None else with_pixels_of(cube, minus)
    planes = _visit_cube(cube, kernel, minus)
    image = _combined_image(cube, {COUNTS: planes}, method, [*_subtracted(minus), line])
    image = image.assign(_combined_errors(cube, method, minus, (low, high)))
    return image.assign_attrs(left_out=(low, high)) if method == "minmax" else image


def combine_with_peak(
    cube: xr.Dataset, method: Combination = "average", *, minus: xr.Dataset | None = None
) -> xr.Dataset:
    """Combine frames as `combine` does, and keep the highest raw value of each pixel.

    Both are computed in one pass: the frames are read once.

    Parameters
    ----------
    cube, method, minus : as in `combine`; methods have their default settings.

    Returns
    -------
    image : the image of `combine` with `peak` (y, x), the highest value before subtraction,
        float64, NaN where a frame has no value. `flag` derives flags from it.

    Raises
    ------
    MismatchError, UsageError
        As in `combine`.
    """
    check_cube(cube)
    kernel, line = _method_kernel(
        method, cube.sizes[FRAME], n_sigma=3.0, iterations=1, low=1, high=1
    )
    minus = None if minus is None else with_pixels_of(cube, minus)
    planes = _visit_cube(cube, partial(with_peak, kernel=kernel), minus, n_planes=2)
    image = {COUNTS: planes[0], PEAK: planes[1]}
    return _combined_image(cube, image, method, [*_subtracted(minus), line])


def _visit_cube(
    cube: xr.Dataset,
    kernel: Callable[..., Any],
    minus: xr.Dataset | None,
    n_planes: int | None = None,
) -> Any:
    """Apply a kernel to the frames, `minus` being subtracted from each."""
    images = () if minus is None else (minus[COUNTS].data,)
    return map_frames(_unspoilt(cube, COUNTS), kernel, *images, n_planes=n_planes)


def _unspoilt(cube: xr.Dataset, name: str) -> Any:
    """Return counts or variance (frame, y, x), NaN where a pixel is spoilt or has no count."""
    plane = cube[name] if name == COUNTS else cube[name].where(cube[COUNTS].notnull())
    if DQ not in cube or FRAME not in cube[DQ].dims:
        return plane.data
    return plane.where((cube[DQ] & SPOILT) == 0).data


def _combined_errors(
    cube: xr.Dataset, method: Combination, minus: xr.Dataset | None, left_out: tuple[int, int]
) -> dict[str, Any]:
    """Return the variance and the flags (y, x) of a combination, as far as they are known."""
    found: dict[str, Any] = {}
    n_frames, units = cube.sizes[FRAME], cube[COUNTS].attrs.get("units", "adu")
    if VARIANCE in cube and FRAME in cube[VARIANCE].dims:
        shares = (variance_by_method(method, n, left_out) for n in range(1, n_frames + 1))
        known = (math.nan if share is None else share for share in shares)
        factors = [math.nan, *(n * share for n, share in enumerate(known, 1))]
        kernel = partial(variance_of_combination, factors=factors)
        plane = map_frames(_unspoilt(cube, VARIANCE), kernel)
        if minus is not None and VARIANCE in minus:
            plane = plane + minus[VARIANCE].data
        found[VARIANCE] = ((Y, X), plane, {"units": f"{units}2", "long_name": "variance"})
    flags = cube[DQ].data if DQ in cube else None
    if DQ in cube and FRAME in cube[DQ].dims:
        least = sum(left_out) + 1 if method == "minmax" else 1
        lost = partial(flags_of_lost, spoilt=SPOILT, least=least)
        flags = map_frames(cube[DQ].data, lost, dtype=np.dtype(np.uint8))
    if minus is not None and DQ in minus:
        flags = minus[DQ].data if flags is None else flags | minus[DQ].data
    if flags is not None:
        found[DQ] = ((Y, X), flags, dq_attrs("flags of the combination"))
    return found


def _subtracted(minus: xr.Dataset | None) -> list[str]:
    return [] if minus is None else [f"{minus.attrs.get('kind', 'dark')} subtracted"]


def _combined_image(
    cube: xr.Dataset, planes: dict[str, Any], method: str, lines: list[str]
) -> xr.Dataset:
    """Return planes (y, x) of a cube as a Dataset, with the coordinates common to its frames."""
    import xarray as xr

    return xr.Dataset(
        {name: ((Y, X), plane, cube[COUNTS].attrs) for name, plane in planes.items()},
        coords={Y: cube[Y], X: cube[X], "method": string_coord(method), **_common_coords(cube)},
        attrs={**cube.attrs, "history": [*cube.attrs.get("history", []), *lines]},
    )


def _method_kernel(
    method: Combination,
    n_frames: int,
    *,
    n_sigma: float,
    iterations: int | None,
    low: int,
    high: int,
) -> tuple[Callable[..., Any], str]:
    """Return the kernel of a method with its settings, and its HISTORY line."""
    if method == "average":
        return mean, f"average of {n_frames} frames"
    if method == "median":
        return median, f"median of {n_frames} frames"
    if method == "clip":
        return _clip_kernel(n_frames, n_sigma, iterations)
    if method == "minmax":
        return _minmax_kernel(n_frames, low, high)
    raise UsageError(
        f"Frames cannot be combined by {method!r}", hint="Use average, median, clip or minmax."
    )


def _clip_kernel(
    n_frames: int, n_sigma: float, iterations: int | None
) -> tuple[Callable[..., Any], str]:
    is_number = isinstance(n_sigma, Real) and n_sigma > 0
    if not is_number or not (iterations is None or _is_count(iterations, 1)):
        raise UsageError(
            f"Frames cannot be clipped at {n_sigma!r} sigma {iterations!r} times",
            hint="Use n_sigma above 0, and iterations of at least 1 or None.",
        )
    often = {None: "until convergence", 1: "once"}.get(iterations, f"{iterations} times")
    line = f"mean of {n_frames} frames, clipped at {n_sigma:g} sigma {often}"
    return partial(clipped_mean, n_sigma=n_sigma, iterations=iterations), line


def _is_count(number: object, least: int) -> bool:
    """Return whether something is a whole number, of at least some size."""
    return isinstance(number, Integral) and int(number) >= least


def _minmax_kernel(n_frames: int, low: int, high: int) -> tuple[Callable[..., Any], str]:
    if not (_is_count(low, 0) and _is_count(high, 0)) or low + high >= n_frames:
        raise UsageError(
            f"{low!r} lowest and {high!r} highest of {n_frames} values cannot be rejected",
            hint=f"Use low and high of at least 0, together at most {n_frames - 1}.",
        )
    line = f"mean of {n_frames} frames without the {low} lowest and {high} highest of each pixel"
    return partial(minmax_mean, low=low, high=high), line


def _common_coords(cube: xr.Dataset) -> dict[str, Any]:
    """Return the scalar coordinates of a combination, from those of its frames."""
    scalars: dict[str, Any] = {"n_frames": cube.sizes[FRAME]}
    common = {name: common_value(cube, name) for name in (*SETUP_COORDS, *DETECTOR_COORDS)}
    scalars |= {
        name: string_coord(value) if isinstance(value, str) else value
        for name, value in common.items()
        if value is not None
    }
    if "exptime" in cube.coords:
        total = cube["exptime_total" if "exptime_total" in cube.coords else "exptime"].values
        scalars["exptime"] = float(np.atleast_1d(cube["exptime"].values)[0])
        # One number is the exposure of each frame: what concat makes of equal ones.
        scalars["exptime_total"] = float(sum(np.broadcast_to(total, cube.sizes[FRAME])))
    if "ccd_temp" in cube.coords:
        temperatures = np.atleast_1d(cube["ccd_temp"].values)
        scalars["ccd_temp"] = float(sum(temperatures) / len(temperatures))
    if "time" in cube.coords:
        scalars["time"] = np.atleast_1d(cube["time"].values).min()
    return scalars


# Best estimate of a combined image: `clean`.
#
# The published procedure averages the light (science) frames, or takes their median, unscaled:
# `counts`, from which its two tables are made. `add_clean` adds a second plane, `clean` (y, x),
# from the same frames scaled to a common flux first (`find_scales`); the variance is that of
# `clean`.
#
# - median: of the scaled frames. Unscaled, a median of three frames whose star differs by 10 % is
#   the middle frame, whose noise is that of one: pulls in the core are 1.2 wide instead of 1.0.
# - clip: the mean of the values that the noise explains (`noise_clipped_mean`), for three frames
#   or more; the rejected values are counted in `n_rejected` (y, x).
# - minmax: the mean without the extremes of each pixel.
# - average: `clean` differs from `counts` only with weights.
#
# Weights: a plain mean weights frames by their flux, which is best where photon noise dominates.
# "noise" weights by flux over the variance of the frame's sky, which is best for a faint star.
# Weights are per frame, never per pixel: the sky cannot be subtracted from a sum that weights star
# and sky differently. Weights by exposure would have no effect, since the light frames of a target
# have the same exposure.

FrameWeighting = Literal["none", "noise"]
Values = NDArray[np.float64]

_SAMPLED_PIXELS = 1 << 18
_FEWEST_TO_CLIP = 3
DEPARTURE = "departure"
_DEPARTURE_COLUMNS, _DEPARTURE_SIGMA, _LARGEST_DEPARTURE = 16, 4.0, 0.005
"""Columns of a block, significance of a departure in it, and the part of the flux from which on it
is said: half a percent is what flats leave."""


@dataclass(frozen=True)
class Cleaning:
    """Options for combining light frames into the best estimate of an image.

    Parameters
    ----------
    method : as in `combine`.
    n_sigma : for "clip": the rejection threshold in standard deviations of the known noise.
    low, high : for "minmax": how many of the lowest and of the highest values are rejected.
    scale : how frames are normalised: by "flux", by "level", or "none".
    weights : weights of frames in a mean: "none", or "noise", the inverse variance.
    """

    method: Combination = "average"
    n_sigma: float = 3.0
    low: int = 1
    high: int = 1
    scale: Scale = "flux"
    weights: FrameWeighting = "none"

    @property
    def is_plain(self) -> bool:
        """Return whether the best estimate equals the procedure's own image."""
        if self.method == "average":
            return self.weights == "none"
        return self.method == "median" and self.scale == "none"

    @property
    def plain(self) -> Literal["average", "median"]:
        """Return the combination method of the procedure's own image."""
        return "median" if self.method == "median" else "average"

    def require_enough(self, n_frames: int, name: str = "the cube") -> None:
        """Raise UsageError where this number of frames, of what is named, is too small."""
        if self.method == "minmax" and self.low + self.high >= n_frames:
            raise UsageError(
                f"{self.low} lowest and {self.high} highest of the frames would be rejected, but "
                f"{name} has {n_frames}",
                keyword="combine",
                value="minmax",
                hint="Lower minmax_low or minmax_high, or combine by clip or median.",
            )


def add_clean(
    image: xr.Dataset, lights: xr.Dataset, how: Cleaning, *, minus: xr.Dataset | None = None
) -> xr.Dataset:
    """Add the best estimate, `clean`, to a combined image, unless the image already is the best.

    Parameters
    ----------
    image : counts (y, x), computed, of `combine` by ``how.plain``, and `dq` where known.
    lights : its light frames, counts (frame, y, x); read once or twice, band by band.
    how : method, scale and weights.
    minus : the master (y, x) that was subtracted, of `measure_noise`.

    Returns
    -------
    image : with `clean` (y, x), float64, in the unit of the counts, the coordinate `clean_method`,
        and for "clip" `n_rejected` (y, x), uint8, the number of rejected frames; the attribute
        `clean_share` gives `estimate_noise` the variance of `clean` relative to that of a frame.

    Raises
    ------
    UsageError
        The frames are too few, or a mean needs their noise and it is unknown.
    MismatchError
        `minus` or the lights lack pixels of the image.
    """
    check_image(image)
    if not isinstance(how, Cleaning):
        raise UsageError(
            f"The method is a Cleaning, but this is {how!r}",
            value=how,
            hint='Use, for example, Cleaning("clip").',
        )
    if how.is_plain:
        return image
    told = how.method if how.weights == "none" else f"{how.method}, weighted by noise"
    image = image.assign_coords({CLEAN_METHOD: string_coord(told)})
    lights = with_pixels_of(image, lights, (FRAME, Y, X))
    minus = None if minus is None else with_pixels_of(image, minus)
    how.require_enough(lights.sizes[FRAME])
    gain, _ = find_gain(image, lights, minus)
    floor = find_read_noise(image, lights, minus, gain)
    variance = 0.0 if floor is None else floor.variance
    found = find_scales(lights, image, how.scale, minus=minus, variance=variance)
    if how.method in ("median", "minmax"):
        image = _order_statistic_image(image, lights, how, found, minus)
    else:
        image = _mean_image(image, lights, how, found, minus, floor, gain)
    return image if how.method == "average" else _with_departure(image, lights, found, minus)


def _order_statistic_image(
    image: xr.Dataset,
    lights: xr.Dataset,
    how: Cleaning,
    found: FrameScales,
    minus: xr.Dataset | None,
) -> xr.Dataset:
    """Add to an image the median of its scaled frames, or their mean without extremes."""
    own: Callable[..., Any] = median
    line, left_out = f"median of frames {found.told}", (0, 0)
    if how.method == "minmax":
        own, left_out = partial(minmax_mean, low=how.low, high=how.high), (how.low, how.high)
        line = (
            f"mean of frames without the {how.low} lowest and {how.high} highest of each pixel, "
            f"{found.told}"
        )
    kernel = partial(combine_scaled, kernel=own, scales=found.scales)
    plane = np.asarray(_visit_lights(lights, kernel, _level_below_star(found, minus))) + found.sky
    share = variance_factor_of_order(how.method, found.scales.flux, left_out)
    return _with_best_estimate(image, plane, share, line)


def _mean_image(
    image: xr.Dataset,
    lights: xr.Dataset,
    how: Cleaning,
    found: FrameScales,
    minus: xr.Dataset | None,
    floor: ReadNoise | None,
    gain: float | None,
) -> xr.Dataset:
    """Add to an image the mean of its frames, weighted, clipped, or both."""
    if floor is None:
        raise UsageError(
            "The noise of the frames is not known, which clipping and weights need",
            keyword="combine",
            hint="Set read_noise in the instrument file, or combine by median or minmax.",
        )
    noise = floor.of_pixel(gain)
    n_frames, scales = lights.sizes[FRAME], found.scales
    clips = how.method == "clip" and n_frames >= _FEWEST_TO_CLIP
    weights = _frame_weights(how, found, noise)
    clip = NoiseClip(how.n_sigma, noise._replace(level=0.0)) if clips else None
    base, charge = _level_below_star(found, minus), _charge_beside_star(found, minus, floor)
    kernel = partial(
        noise_clipped_mean,
        scales=scales,
        weights=weights,
        noise=clip,
        widths=_line_widths_of(lights, image, (base, charge), scales, clip) if clip else None,
    )
    mean, rejected = np.asarray(_visit_lights(lights, kernel, base, charge, n_planes=2))
    mean = mean + found.sky
    share = variance_factor_of_mean(weights, scales.flux, how.n_sigma if clips else None)
    weighed = ", weighted by their noise" if how.weights == "noise" else ""
    clipped = f", clipped at {how.n_sigma:g} sigma of their noise" if clips else ""
    line = f"mean of {n_frames} frames {found.told}{weighed}{clipped}"
    if how.method != "clip":
        return _with_best_estimate(image, mean, share, line)
    if not clips:
        text = f"nothing was clipped: {n_frames} frames are too few to identify outliers"
        return add_remark(_with_best_estimate(image, mean, share, line), text)
    image = _with_best_estimate(
        image, mean, share, f"{line}: {int(np.count_nonzero(rejected))} pixels"
    )
    attrs = {"units": "", "long_name": "frames excluded in a pixel"}
    counted = np.minimum(rejected, 255).astype(np.uint8)
    return image.assign({N_REJECTED: ((Y, X), counted, attrs)})


# What changes of seeing, position and transparency do to a median, or to a mean without extremes.
#
# Where frames differ by more than their noise the middle value of a pixel is not their mean: on a
# night of clouds and drift a median lost 14 % of a star's flux, and its pulls were 14 wide. The
# mean of the scaled frames has all the flux. How far `clean` departs from it, along blocks of
# columns, in which single cosmic rays do not count, is added to the variance; the rows of a column
# depart together, so that their sum does too.


def _with_departure(
    image: xr.Dataset, lights: xr.Dataset, found: FrameScales, minus: xr.Dataset | None
) -> xr.Dataset:
    """Add how far `clean` departs from the mean of the frames, as a variance (y, x), where it does.

    The plane `departure` is moved into `variance` by `widen_variance`.
    """
    kernel = partial(combine_scaled, kernel=mean, scales=found.scales)
    level = np.asarray(_visit_lights(lights, kernel, _level_below_star(found, minus)))
    upright = is_upright(image)
    off, light = image[CLEAN].values - (level + found.sky), level
    off, light = (off.T, light.T) if upright else (off, light)
    n_blocks = max(off.shape[1] // _DEPARTURE_COLUMNS, 1)
    edges = np.linspace(0, off.shape[1], n_blocks + 1).astype(np.intp)
    plane = np.zeros(off.shape, np.float32)
    shares = []
    for first, stop in pairwise(edges):
        some = off[:, first:stop].T[:, np.newaxis]
        middle = median(some)[0]
        scatter = 1.4826 * median(np.abs(some - middle))[0]
        far = np.abs(middle) > _DEPARTURE_SIGMA * scatter / math.sqrt(stop - first)
        middle = np.where(far & np.isfinite(middle), middle, 0.0)
        shining = np.where(middle != 0, median(light[:, first:stop].T[:, np.newaxis])[0], 0.0)
        total, size = float(np.add.reduce(middle)), float(np.add.reduce(np.abs(middle)))
        of_column = max(total**2, float(np.add.reduce(middle**2)))
        plane[:, first:stop] = (np.abs(middle) / (size or 1.0) * of_column)[:, np.newaxis]
        if float(np.add.reduce(shining)) > 0:
            shares.append(total / float(np.add.reduce(shining)))
    share = finite_median(np.array(shares)) if len(shares) > n_blocks // 2 else 0.0
    if abs(share) < _LARGEST_DEPARTURE:
        return image
    told = {"units": "", "long_name": "variance by differences of the frames"}
    image = image.assign({DEPARTURE: ((Y, X), plane.T.copy() if upright else plane, told)})
    text = (
        f"the frames differ by more than their noise, and their {image[CLEAN_METHOD].item()} is "
        f"{abs(100 * share):.1f} % {'below' if share < 0 else 'above'} their average: its variance "
        "was widened; consider --combine average"
    )
    return add_check(image, text)


def widen_variance(image: xr.Dataset) -> xr.Dataset:
    """Return an image with the departure of its `clean` from the mean, if any, in its variance."""
    if DEPARTURE not in image:
        return image
    departure = image[DEPARTURE].values
    image = image.drop_vars(DEPARTURE)
    if VARIANCE not in image:
        return image
    return image.assign({VARIANCE: image[VARIANCE].copy(data=image[VARIANCE].values + departure)})


def _with_best_estimate(
    image: xr.Dataset, plane: Values, share: VarianceFactor, line: str
) -> xr.Dataset:
    attrs = {**image[COUNTS].attrs, "long_name": "best estimate of the pixel values"}
    clean = np.ascontiguousarray(plane, np.float64)
    image = image.assign({CLEAN: ((Y, X), clean, attrs)})
    return add_history(image.assign_attrs(clean_share=share), f"clean: {line}")


def _visit_lights(
    lights: xr.Dataset,
    kernel: Callable[..., Any],
    *images: NDArray[Any],
    n_planes: int | None = None,
) -> Any:
    """Apply a kernel to the light frames and images."""
    return map_frames(lights[COUNTS].data, kernel, *images, n_planes=n_planes)


def _level_below_star(found: FrameScales, minus: xr.Dataset | None) -> Values:
    """Return the background of the star (y, x): the master and the sky, adu."""
    return found.sky + (0.0 if minus is None else minus[COUNTS].values)


def _frame_weights(how: Cleaning, found: FrameScales, noise: PixelNoise) -> tuple[float, ...]:
    """Return the weights of the frames, 1 on average."""
    flux = found.scales.flux
    if how.weights == "none":
        return (1.0,) * len(flux)
    variances = noise.variance(np.array(found.skies)).tolist()
    raw = [one / variance for one, variance in zip(flux, variances, strict=True)]
    mean = math.fsum(raw) / len(raw)
    return tuple(one / mean for one in raw)


def _charge_beside_star(found: FrameScales, minus: xr.Dataset | None, floor: ReadNoise) -> Values:
    """Return the background charge that adds noise (y, x), adu: the sky and that of hot pixels.

    Charge that the read-noise floor already contains is not counted again.
    """
    charge = np.maximum(found.sky - floor.level, 0.0)
    if minus is not None:
        master = master_noise(minus, floor.variance)
        charge += master.charge_of(minus[COUNTS].values)
    return charge


def _line_widths_of(
    lights: xr.Dataset,
    image: xr.Dataset,
    planes: tuple[Values, Values],
    scales: Scales,
    noise: NoiseClip,
) -> Values | None:
    """Return the scatter of each column over its noise, for a spectrum dispersed along y.

    For one dispersed along x the kernel measures it row by row, and None is returned.
    """
    if not is_upright(image):
        return None
    counts = image[COUNTS]
    base, charge = (
        np.asarray(sample_pixels(image.assign({COUNTS: counts.copy(data=plane)}), _SAMPLED_PIXELS))
        for plane in planes
    )
    frames = np.asarray(corrected(sample_pixels(lights, _SAMPLED_PIXELS), base))
    centre = combine_scaled(frames, kernel=median, scales=scales)
    return line_widths(noise_distances(frames, centre, charge, scales, noise), axis=0)


# Flux scale and sky level of each light frame: `find_scales`.
#
# Exposures of one star differ by 20 % in flux through slit losses or thin cloud, and the median of
# unscaled frames is no longer a median: on the night where this was found, 61 % of the medians in
# the star's core come from one and the same frame. Only the flux above the sky is scaled; the sky
# and the level of the electronics are additive and are measured separately.
#
# The sky is measured per column, or per row where the star runs along the columns: a sky line
# covers all rows, is brighter than a faint star in total, and would be scaled with it. One factor
# per frame: changes of the spatial profile, and with the wavelength, are not modelled here.

Scale = Literal["flux", "level", "none"]

_BRIGHT_ROW_SNR = 5.0
"""Signal of a pixel, in sigma of the combined image, from which on it is used for the flux."""
_LARGEST_ERROR = 0.02
_L1 = math.sqrt(math.pi / 2)
"""The standard deviation of a slope of least absolute residuals over that of least squares."""
_FAINTEST_FRAME = 0.05


class FrameScales(NamedTuple):
    """Scales that normalise frames, their sky, and the text for HISTORY.

    A frame less the master is ``flux * (light - sky) + sky + level``.

    Parameters
    ----------
    scales : flux and level of every frame.
    sky : (y, x), which is not scaled, adu.
    skies : the level of every frame beside the star, less the master, adu.
    told : the text, such as "scaled by flux: 0.912, 1.088".
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
    """Measure the scales that normalise the light frames of one star.

    Parameters
    ----------
    lights : counts (frame, y, x), eager or chunked. All are read once, band by band, for "flux".
    image : their combination (y, x), computed; pixels with a flag in `dq` are not used.
    scale : "flux": by the star's flux, the sky apart; "level": by a constant alone; "none".
    minus : the master (y, x) that was subtracted.
    variance : variance of an unexposed pixel of a frame, adu^2: it sets which pixels are bright.

    Returns
    -------
    found : fluxes are 1 where the star is too faint to measure them to 2 %. The numbers depend
        neither on chunks nor on the order of the frames.
    """
    check_cube(lights)
    check_image(image)
    n_frames = lights.sizes[FRAME]
    least = _BRIGHT_ROW_SNR * math.sqrt(max(variance, 1e-12) / max(n_frames, 1))
    typical, above = _frame_sky_levels(lights, image, minus, least)
    skies = tuple(typical + one for one in above)
    none, sky = Scales.none(n_frames), sky_of_lines(image)
    if n_frames < 2 or scale == "none":
        return FrameScales(none, sky, skies, "not scaled")
    mean = math.fsum(above) / n_frames
    levels = tuple(one - mean for one in above)
    if scale == "level":
        return FrameScales(Scales(none.flux, levels), sky, skies, "normalised by a constant")
    base = sky if minus is None else sky + minus[COUNTS].values
    flux, told = _frame_fluxes(lights, image, base, above, least, variance)
    return FrameScales(Scales(flux, levels), sky, skies, told)


def sky_of_lines(image: xr.Dataset) -> Values:
    """Return the sky (y, x) of an image, the median across the dispersion; 0 where unknown."""
    counts = np.asarray(image[COUNTS].values, np.float64)
    upright = is_upright(image)
    across = counts.T if upright else counts
    line = median(across[:, np.newaxis])[0]
    sky = np.broadcast_to(np.where(np.isfinite(line), line, 0.0), across.shape)
    return sky.T if upright else sky


def _frame_sky_levels(
    lights: xr.Dataset, image: xr.Dataset, minus: xr.Dataset | None, least: float
) -> tuple[float, tuple[float, ...]]:
    """Return the sky of the combined image, and the excess of every frame's sky over it, adu."""
    pixels = np.asarray(sample_pixels(image), np.float64)
    sky = finite_median(pixels)
    if not math.isfinite(sky):
        return 0.0, (0.0,) * lights.sizes[FRAME]
    dark = pixels <= sky + least
    base = pixels[dark] + (0.0 if minus is None else np.asarray(sample_pixels(minus))[dark])
    found = (finite_median(frame[dark] - base) for frame in sample_pixels(lights))
    return sky, tuple(one if math.isfinite(one) else 0.0 for one in found)


def _frame_fluxes(
    lights: xr.Dataset,
    image: xr.Dataset,
    base: Values,
    above: tuple[float, ...],
    least: float,
    variance: float,
) -> tuple[tuple[float, ...], str]:
    """Return the flux of every frame, 1 on average, and the text for HISTORY."""
    n_frames = len(above)
    equal = (1.0,) * n_frames
    usable = np.isfinite(image[COUNTS].values)
    if DQ in image:
        usable &= image[DQ].values == 0
    slopes = _row_slopes_of(lights, base, usable, partial(row_slopes, skies=above, least=least))
    light, squares = slopes[n_frames:]
    lit = light > 0
    total = math.fsum(squares[lit].tolist())
    if total == 0 or _L1 * math.sqrt(variance / total) > _LARGEST_ERROR:
        return equal, "not scaled: the flux of the star in a frame is not known to 2%"
    found = [float(weighted_median(row[lit], light[lit])) for row in slopes[:n_frames]]
    mean = math.fsum(found) / n_frames
    faint = [
        str(label)
        for label, one in zip(np.atleast_1d(lights[FRAME].values), found, strict=True)
        if not one > _FAINTEST_FRAME * mean
    ]
    if faint:
        return equal, f"not scaled: the star is barely detected in {', '.join(faint)}"
    flux = tuple(one / mean for one in found)
    return flux, f"scaled by flux: {', '.join(f'{one:.3f}' for one in flux)}"


def _row_slopes_of(
    lights: xr.Dataset, base: Values, usable: NDArray[np.bool_], kernel: Any
) -> NDArray[np.float64]:
    """Apply a kernel to each row of the light frames: (frame + 2, y)."""
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
