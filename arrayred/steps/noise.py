"""Estimate the variance of images, masters and flats, and flag pixels: `estimate_noise`, `flag`.

Calibration is linear and the same for all frames of a target, so the variance is computed once, for
the combined image, and not carried along the cube::

    of a frame    v = r^2 + (max(light - level, 0) + hot) / gain
    combined      k(n)/n v + k(m)/m (r_dark^2 + hot / gain)

r is the noise of a pixel without light (read-out and dark current), `light` the signal after the
master is subtracted, `hot` the excess of the master over its own median, k the factor of a median
(`kernels.noise.median_factor`), for n light frames and m frames of the master. The master's own
noise is common to all n frames and is added once, after the combination: on the night where this
was found the sky scatters by 11.2 counts, but by 9.2 if that noise is taken as independent.

`find_read_noise` measures r; `level` is the signal whose noise r already contains. The combined
image is divided by the flat last, and its variance by the flat's square; the flat's own noise, also
common to all frames (`estimate_flat_noise`), is added then, once.

Where the image has a best estimate, `clean`, the variance is that of `clean`, with its
`VarianceFactor` in place of k(n)/n; in a pixel that lost frames only the remaining ones count.

The estimate follows the counts themselves, so the variance of low counts is slightly too small:
means weighted by it are low by half a sigma divided by the noise in electrons, 0.01 sigma at 50.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from arrayred.bands import map_frames
from arrayred.config import Combination
from arrayred.errors import FrameError, MismatchError, UsageError
from arrayred.kernels.combine import LARGEST_COUNT, mean_near, without_impossible
from arrayred.kernels.noise import (
    PixelNoise,
    clip_factor,
    clipped_std,
    finite_median,
    finite_medians,
    frame_variance,
    frame_variances,
    photon_transfer,
    rounding_variance,
    variance_by_method,
)
from arrayred.kernels.reject import FrameOutliers
from arrayred.model import (
    BAD_PIXEL,
    CLEAN,
    COSMIC_RAY,
    COUNTS,
    DQ,
    FRAME,
    GUESSED_GAIN,
    INSTRUMENT_FILE,
    N_REJECTED,
    NO_DATA,
    PEAK,
    SATURATED,
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
from arrayred.steps.calibrate import quotient_variance, subtract_dark

if TYPE_CHECKING:
    import xarray as xr

_HOT_PIXEL_SIGMA = 5.0
"""Threshold of a hot pixel, in sigma of the master, so that noise is not taken for charge."""


Indices = NDArray[np.intp]
Values = NDArray[np.float64]


class MasterNoise(NamedTuple):
    """Noise of a master: its variance relative to one of its frames, and its hot pixels.

    Parameters
    ----------
    share : variance of the master over that of a frame; 0 where unknown or without a master.
    variance : variance of a pixel of one of its frames, unexposed, adu^2.
    where, charge : flat indices of the hot pixels, and their charge, adu.
    note : text for HISTORY.
    level, hot : its median, and the counts above which a pixel is hot; infinite where it has no
        charge of its own.
    """

    share: float
    variance: float
    where: Indices
    charge: Values
    note: str = ""
    level: float = math.inf
    hot: float = math.inf

    def charge_of(self, counts: Values) -> Values:
        """Return the charge of pixels of the master by their counts (...), adu; 0 if not hot."""
        return np.where(counts > self.hot, counts - self.level, 0.0)


def measure_noise(master: xr.Dataset, cube: xr.Dataset) -> xr.Dataset:
    """Measure the noise of a pixel in the frames of a master, and record it on the master.

    Parameters
    ----------
    master : computed (y, x).
    cube : its frames, counts (frame, y, x) in adu or electron; a sample of their rows is read.

    Returns
    -------
    master : with the coordinate `frame_type`, and the attribute `noise`, standard deviation in the
        master's unit, unless there is only one frame.
    """
    check_image(master)
    cube = with_pixels_of(master, cube, (FRAME, Y, X))
    kinds = set(np.atleast_1d(cube["frame_type"].values)) if "frame_type" in cube.coords else set()
    if len(kinds) == 1:
        master = master.assign_coords(frame_type=string_coord(str(kinds.pop())))
    if cube.sizes[FRAME] < 2:
        return master
    sample = sample_pixels(cube)
    noise = math.sqrt(frame_variance(sample))
    master = master.assign_attrs(noise=noise)
    if noise**2 > 12 * rounding_variance(sample) or cube.sizes[FRAME] < 3:
        return master
    return _with_unrounded_mean(master, cube)


def _with_unrounded_mean(master: xr.Dataset, cube: xr.Dataset) -> xr.Dataset:
    """Add `clean` to a master median: the mean of its frames without outliers.

    Where the noise is less than a step of the converter, a median of whole numbers is one of them,
    up to half a step beside the level. With a noise of 0.3 adu the flux of a star of 100 adu a
    column was off by up to 1.2 %; that of the mean, by 0.1 %.
    """
    if "method" not in master.coords or master["method"].item() != "median":
        return master
    counts = master[COUNTS].values
    excess = np.maximum(counts - finite_median(counts), 0.0)
    reach = _HOT_PIXEL_SIGMA * master.attrs["noise"] + 1.0 + np.sqrt(excess)
    mean = np.asarray(map_frames(cube[COUNTS].data, mean_near, counts, reach), np.float64)
    attrs = {**master[COUNTS].attrs, "long_name": "mean of the frames without outliers"}
    return master.assign({CLEAN: ((Y, X), mean, attrs)})


def unrounded(master: xr.Dataset) -> xr.Dataset:
    """Return a master whose counts are its best estimate, `clean`."""
    best = master.assign({COUNTS: master[COUNTS].copy(data=master[CLEAN].values)})
    return best.drop_vars(CLEAN).assign_coords(method=string_coord("average"))


def with_unrounded_dark(image: xr.Dataset, dark: xr.Dataset) -> xr.Dataset:
    """Return a combined image with `clean`, from which a dark's best estimate is subtracted."""
    counts, rounded = image[COUNTS], dark[COUNTS].values - dark[CLEAN].values
    attrs = {**counts.attrs, "long_name": "best estimate of the pixel values"}
    image = image.assign({CLEAN: ((Y, X), counts.values + rounded, attrs)})
    return add_history(
        image, "clean: mean of the darks subtracted, because their median is rounded"
    )


def estimate_noise(
    image: xr.Dataset,
    lights: xr.Dataset,
    *,
    minus: xr.Dataset | None = None,
    flat: xr.Dataset | None = None,
) -> xr.Dataset:
    """Add the variance of its pixels to a combined image.

    Parameters
    ----------
    image : counts (y, x), computed, of `combine`, perhaps with the `clean` of `add_clean`; its
        coordinates `gain` (electron/adu) and `read_noise` (electron) are used where present.
    lights : its light frames, counts (frame, y, x), eager or chunked; read only where the master
        does not give their noise.
    minus : the master (y, x) that was subtracted, of `measure_noise`.
    flat : the response (y, x) by which the combined image was divided afterwards; its `variance`,
        where present, is propagated.

    Returns
    -------
    image : with `variance` (y, x), float32, in the square of its unit, unless the noise is unknown;
        HISTORY records that, or the numbers used. Where some frames lack a pixel (`dq`), or were
        rejected in it (`n_rejected`), the variance is that of the remaining frames.

    Raises
    ------
    UsageError
        The variance of the combination method is unknown.
    MismatchError
        The lights, the master or the flat lack pixels of the image.
    """
    check_image(image)
    lights = with_pixels_of(image, lights, (FRAME, Y, X))
    minus = None if minus is None else with_pixels_of(image, minus)
    flat = None if flat is None else with_pixels_of(image, flat)
    share = _variance_factor_of(image)
    kept = {name: told for name, told in image.attrs.items() if name != "clean_share"}
    image = image.drop_attrs(deep=False).assign_attrs(kept)
    undivided = image if flat is None else _before_flat_division(image, flat)
    gain, gain_by = find_gain(undivided, lights, minus)
    floor = find_read_noise(undivided, lights, minus, gain)
    if floor is None:
        return add_history(image, "variance unknown: the noise of a frame is not known")
    master = master_noise(minus, floor.variance)
    variance = _combined_variance(undivided, lights, floor.of_pixel(gain), master, share)
    if flat is not None:
        of_flat = flat[VARIANCE].values if VARIANCE in flat else None
        variance = quotient_variance(
            variance, _best_estimate_of(image), flat[COUNTS].values, of_flat
        )
    units = image[COUNTS].attrs.get("units", "adu")
    attrs = {"units": f"{units}2", "long_name": "variance of a pixel"}
    sigma = f"dark-frame noise {math.sqrt(floor.variance):.4g} {units} per frame"
    line = f"variance: {sigma}, {floor.source}; gain {gain_by}{master.note}"
    image = add_history(image.assign({VARIANCE: ((Y, X), variance, attrs)}), line)
    return image.assign_attrs(_effective_gain_noise(floor, gain, share))


def _before_flat_division(image: xr.Dataset, flat: xr.Dataset) -> xr.Dataset:
    """Return an image multiplied by the flat it was divided by."""
    response = flat[COUNTS].values
    names = [name for name in (COUNTS, CLEAN) if name in image]
    return image.assign(
        {name: image[name].copy(data=image[name].values * response) for name in names}
    )


def _variance_factor_of(image: xr.Dataset) -> VarianceFactor:
    """Return the variance factor of the combination of an image, or of its best estimate."""
    if "clean_share" in image.attrs:
        return VarianceFactor(*image.attrs["clean_share"])
    left_out = image.attrs.get("left_out", (0, 0))
    return VarianceFactor.of_equal(image["method"].item(), int(image["n_frames"].item()), left_out)


def _best_estimate_of(image: xr.Dataset) -> NDArray[np.float64]:
    """Return `clean` (y, x) where there is one, else `counts`."""
    return np.asarray(image[CLEAN if CLEAN in image else COUNTS].values)


def _combined_variance(
    image: xr.Dataset,
    lights: xr.Dataset,
    noise: PixelNoise,
    master: MasterNoise,
    share: VarianceFactor,
) -> NDArray[np.float32]:
    """Return the variance of a combined image (y, x), from the noise of a pixel of one frame."""
    common = share.common * master.share
    of_master = common * master.variance
    floor = share.floor * noise.floor + of_master
    combined = PixelNoise(floor, noise.level, share.photons * noise.per_photon)
    variance = np.asarray(frame_variances(_best_estimate_of(image)[np.newaxis], noise=combined)[0])
    hot = master.charge * noise.per_photon
    variance.flat[master.where] += (share.floor + common) * hot
    for where, growth in _pixels_lacking_frames(image, lights, share):
        rest = of_master + _values_at(where, master.where, common * hot)
        variance.flat[where] = (variance.flat[where] - rest) * growth + rest
    return variance


def master_noise(minus: xr.Dataset | None, floor: float) -> MasterNoise:
    """Return the noise of a master; a bias has a pattern, but no hot charge.

    Parameters
    ----------
    minus : the master (y, x), or None.
    floor : variance of a light frame without light, where the master's own is not known.
    """
    nowhere, nothing = np.empty(0, np.intp), np.empty(0, np.float64)
    if minus is None:
        return MasterNoise(0.0, 0.0, nowhere, nothing)
    variance, share = minus.attrs.get("noise", math.sqrt(floor)) ** 2, 0.0
    note = "; noise of the master unknown and not included"
    if "n_frames" in minus.coords:
        method = minus["method"].item() if "method" in minus.coords else "median"
        left_out = minus.attrs.get("left_out", (0, 0))
        share, note = variance_factor(method, int(minus["n_frames"].item()), left_out), ""
    if kind_of_master(minus) == "bias":
        return MasterNoise(share, variance, nowhere, nothing, note)
    counts, level = minus[COUNTS].values, finite_median(sample_pixels(minus))
    hot = level + _HOT_PIXEL_SIGMA * math.sqrt(variance * (share or 1.0))
    where = np.flatnonzero(counts > hot)
    return MasterNoise(share, variance, where, counts.flat[where] - level, note, level, hot)


def _pixels_lacking_frames(
    image: xr.Dataset, lights: xr.Dataset, share: VarianceFactor
) -> Iterator[tuple[Indices, Values]]:
    """Yield the pixels that lack frames, with the growth of the variance there; or nothing."""
    n_frames = lights.sizes[FRAME]
    growth = np.array(share.of_fewer(n_frames))
    rejected = image[N_REJECTED].values if N_REJECTED in image else None
    if rejected is not None:
        where = np.flatnonzero(rejected)
        yield where, growth[np.maximum(n_frames - rejected.flat[where].astype(np.intp), 1)]
    if DQ not in image or lights[COUNTS].dtype.kind != "f":
        return
    where = np.flatnonzero(image[DQ].values & NO_DATA)
    if where.size:
        left = np.count_nonzero(~np.isnan(pixels_at(lights, where)), axis=0)
        if rejected is None:
            yield where, growth[left]
            return
        lost = rejected.flat[where].astype(np.intp)
        yield where, growth[left - lost] / growth[n_frames - lost]


def _values_at(where: Indices, places: Indices, values: Values) -> Values:
    """Return the values given at `places` for the indices `where`; 0 where there is none."""
    position = np.minimum(np.searchsorted(places, where), max(places.size - 1, 0))
    if not places.size:
        return np.zeros(where.size)
    return np.where(places[position] == where, values[position], 0.0)


def _effective_gain_noise(
    floor: ReadNoise, gain: float | None, share: VarianceFactor
) -> dict[str, float]:
    """Return the gain and noise of an equivalent single frame, where they are known.

    And the signal whose noise is already contained, where it is not 0.
    """
    if gain is None:
        return {}
    noise = math.sqrt(floor.variance * share.floor) * gain
    level = {"noise_level": floor.level} if floor.level and math.isfinite(floor.level) else {}
    return {"gain_effective": gain / share.photons, "noise_effective": noise, **level}


# Flags of the pixels of a combined image: `flag`.
#
# Flags are set for the combined image, not for the cube: calibration is the same for all frames of
# a target, so the highest raw value of each pixel, computed in the same pass as the combination
# (`combine_with_peak`), gives the same flags. **A combined pixel carries a bit if any of its frames
# does**: an average contains every frame.
#
# Saturation is determined from raw values, from the given level (an instrument file's ``[detector]
# saturation``); else from the largest integer that the file can hold; or, below it, from a plateau
# at the limit of a converter with fewer bits: ten pixels or more of exactly the highest value, and
# hardly any just below it.
#
# Where the wells of the pixels are full before the converter is, no two pixels end at the same
# value: wells differ by a percent or more. But a full pixel has the same value in every frame, with
# the read noise in place of the photons' (`full_well_of_frames`); and a star whose core is full is
# flat-topped where it is bright, and not where it is faint (`full_well_of_image`), which tells a
# single frame. A broad star, a smooth continuum, and light that fills the slit do neither.

Mask = NDArray[np.bool_]

_MIN_PLATEAU_PIXELS = 10
_NEAR_PLATEAU = 0.02
_PLATEAU_CONTRAST = 4
_LEAST_CUT_OFF = 0.02
_BRIGHT_PART = 0.75
_MOST_BRIGHT_PIXELS = 1 << 16
_STILL = 0.05
"""A pixel whose variance is below this part of that of its photons may be full."""
_LEAST_STILL = 0.3
_WELL_BINS = 25
_WELL_SIGMA = 4.0
_LEAST_WELL_SCATTER = 0.005
_HIGH, _HALF, _PLATEAU = 0.93, 0.5, 0.85
_FLAT_TOP, _PEAKED = 0.55, 0.45
"""Width at 93 % over that at 50 % of the height: 0.32 of a Gaussian, less of a Moffat profile,
0.59 of a Gaussian that is cut off 23 % below its peak."""
_MIN_FLAT_COLUMNS, _MOST_FLAT_COLUMNS = 10, 64
_SAME_TOP = 0.05


class Saturation(NamedTuple):
    """The lowest saturated raw count, adu, and its source."""

    level: float
    source: str


def drop_impossible(cube: xr.Dataset) -> xr.Dataset:
    """Set values that no converter writes to NaN: infinite ones, and those beyond 2^32.

    Parameters
    ----------
    cube : counts (frame, y, x), eager or chunked. Integers are returned unchanged.

    Returns
    -------
    cube : such values are NaN, as lazy as it came.
    """
    check_cube(cube)
    counts = cube[COUNTS]
    if counts.dtype.kind != "f":
        return cube
    kept = map_frames(counts.data, without_impossible, keeps_frames=True, dtype=counts.dtype)
    return cube.assign({COUNTS: counts.copy(data=kept)})


def drop_flagged(cube: xr.Dataset) -> xr.Dataset:
    """Set values to NaN of which the flags `dq` (frame, y, x) of their files say that they are bad.

    Parameters
    ----------
    cube : counts (frame, y, x), eager or chunked.

    Returns
    -------
    cube : without `dq`, and without the `variance` of the files: noise is measured.
    """
    if DQ in cube:
        counts = cube[COUNTS].where((cube[DQ] & SPOILT) == 0).assign_attrs(cube[COUNTS].attrs)
        cube = cube.assign({COUNTS: counts})
    return cube.drop_vars([DQ, VARIANCE], errors="ignore")


def flag(image: xr.Dataset, cube: xr.Dataset, *, bad: Mask | None = None) -> xr.Dataset:
    """Add the flags of its pixels to a combined image.

    Parameters
    ----------
    image : computed, of `combine_with_peak`; its coordinate `bad` (y, x), where present, as of a
        flat that could not correct a pixel, is flagged as well.
    cube : its raw frames, counts (frame, y, x). Only the pixels that lack a value are read again,
        to count them; missing ones are NaN (`drop_impossible`).
    bad : (y, x), True where the detector is known to be bad.

    Returns
    -------
    image : with `dq` (y, x), uint8, in place of `peak`: bad_pixel 1, saturated 2, no_data 8, of any
        frame, and with the attribute `saturated_from`, the saturation level, where known. A remark
        names the frames that lack pixels.

    Raises
    ------
    FrameError
        A frame has no data, is saturated everywhere, or has one value everywhere.
    MismatchError
        The bad pixels are those of an image of another shape.
    """
    check_image(image)
    cube = with_pixels_of(image, cube, (FRAME, Y, X))
    if PEAK not in image:
        raise MismatchError(
            "The image has no variable 'peak'",
            keyword=PEAK,
            hint="Use the result of combine_with_peak.",
        )
    peak = image[PEAK].values
    top = saturation_of(peak, cube)
    top = full_well_of(image, cube, top) or top
    samples = sample_pixels(cube)
    require_light(cube, samples, top)
    share = share_cut_off(samples)
    if share:
        text = (
            f"{share:.0%} of the pixels are clipped at 0, so that the sky and faint flux are wrong"
        )
        image = add_check(image, f"{text}. Raise the offset of the camera")
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
    line = _flag_counts(dq, top)
    return add_history(flagged, line) if line else flagged


def _flag_missing(
    dq: NDArray[np.uint8], image: xr.Dataset, cube: xr.Dataset, top: Saturation | None
) -> xr.Dataset:
    """Flag the pixels that some frames lack, from the other frames; remark on those frames."""
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
            image = add_remark(image, f"{label}: {lacks} no data; the other frames are used")
    return image


def _require_shape(bad: Mask, dq: NDArray[np.uint8]) -> None:
    if bad.shape != dq.shape:
        raise MismatchError(
            f"The bad-pixel mask has {bad.shape[1]} x {bad.shape[0]} pixels, but the image has "
            f"{dq.shape[1]} x {dq.shape[0]}",
            keyword="bad_pixels",
            value=bad.shape,
            hint="Use a mask with the shape and binning of the frames.",
        )


def _flag_counts(dq: NDArray[np.uint8], top: Saturation | None) -> str:
    """Return the text with the number of pixels per flag, or ""."""
    by = "" if top is None else f" (from {top.level:g}, {top.source})"
    names = {BAD_PIXEL: "known to be bad", SATURATED: f"saturated{by}", NO_DATA: "lack data"}
    counts = {bit: int(np.count_nonzero(dq & bit)) for bit in names}
    told = [f"{n} {names[bit]}" for bit, n in counts.items() if n]
    return f"pixels flagged: {', '.join(told)}" if told else ""


def saturation_of(peak: NDArray[Any], cube: xr.Dataset) -> Saturation | None:
    """Return the saturation level of raw counts, adu, or None where it is unknown.

    Parameters
    ----------
    peak : (y, x), the highest raw value of each pixel.
    cube : the frames, counts (frame, y, x); their coordinate `saturation` is used where present.
    """
    stated = common_value(cube, "saturation")
    if stated is not None:
        return Saturation(float(stated), "stated")
    dtype = cube[COUNTS].dtype
    if dtype.kind in "iu" and dtype.itemsize <= 2:
        top = float(np.iinfo(dtype).max)
        if peak.size and float(peak.max()) >= top:
            return Saturation(top, f"maximum of {dtype}")
    level = plateau_level(peak)
    return None if level is None else Saturation(level, "accumulation of pixels")


def plateau_level(peak: NDArray[Any]) -> float | None:
    """Return the highest value if many pixels have exactly it and few are close to it; else None.

    Examples
    --------
    >>> star = np.random.default_rng(0).exponential(1500, (200, 200)).round()
    >>> plateau_level(np.minimum(star, 4095)), plateau_level(star)
    (4095.0, None)
    """
    highest = np.fmax.reduce(peak, axis=None, initial=-np.inf)
    if not 0 < highest < LARGEST_COUNT:
        return None
    at_top = int(np.count_nonzero(peak == highest))
    if at_top < _MIN_PLATEAU_PIXELS or at_top == peak.size:
        return None
    near = int(np.count_nonzero(peak >= highest - max(8.0, _NEAR_PLATEAU * highest))) - at_top
    return float(highest) if near * _PLATEAU_CONTRAST <= at_top else None


def full_well_of(image: xr.Dataset, cube: xr.Dataset, top: Saturation | None) -> Saturation | None:
    """Return the level of full wells below the end of the converter; None where there is none.

    Parameters
    ----------
    image : `peak` (y, x), the highest raw value of each pixel, and the coordinate `gain`,
        electron/adu, without which frames are not compared.
    cube : the raw frames, counts (frame, y, x); bands that hold bright pixels are read.
    top : the saturation that is known from elsewhere; that of an instrument file is kept.
    """
    if common_value(cube, "saturation") is not None:
        return None
    peak = image[PEAK].values
    dark = finite_median(sample_pixels(image[[PEAK]].rename({PEAK: COUNTS})))
    end = np.inf if top is None else top.level
    highest = _highest_of_many(peak, dark, end)
    if highest is None:
        return None
    level = None
    if cube.sizes[FRAME] > 1:
        if "gain" not in image.coords:
            return None
        where = np.flatnonzero((peak > dark + 0.3 * (highest - dark)) & (peak < end))
        values = pixels_at(cube, where[:: 1 + where.size // _MOST_BRIGHT_PIXELS])
        level = full_well_of_frames(values - dark, float(image["gain"].item()))
    else:
        level = full_well_of_image((peak.T if is_upright(image) else peak) - dark)
    return None if level is None else Saturation(dark + level, "full well")


def _highest_of_many(peak: NDArray[Any], dark: float, end: float) -> float | None:
    """Return the value that the brightest pixels below an end have, but for a few odd ones."""
    highest = min(float(np.fmax.reduce(peak, axis=None, initial=dark)), end) - dark
    light = peak[peak > dark + highest / 8] - dark
    light = light[light < end - dark]
    while light.size >= _MIN_PLATEAU_PIXELS:
        highest = float(light.max())
        if np.count_nonzero(light > _BRIGHT_PART * highest) >= _MIN_PLATEAU_PIXELS:
            return dark + highest
        light = light[light <= _BRIGHT_PART * highest]
    return None


def full_well_of_frames(light: NDArray[Any], gain: float) -> float | None:
    """Return the level above which pixels do not change from frame to frame; None for none.

    Parameters
    ----------
    light : signal (frame, pixel) of pixels from a third of the brightest on, adu, two frames or
        more. Pixels of less light show that the others could change.
    gain : electrons per adu.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> light = rng.poisson(rng.uniform(9000, 40_000, 2000), (3, 2000))
    >>> wells = rng.normal(30_000, 300, 2000)
    >>> level = full_well_of_frames(np.minimum(light, wells) + rng.normal(0, 5, (3, 2000)), 1.0)
    >>> 28_500 < level < 29_500, full_well_of_frames(light, 1.0) is None
    (True, True)
    """
    light = light[:, np.isfinite(light).all(axis=0)]
    if light.shape[1] < _MIN_PLATEAU_PIXELS:
        return None
    mean, freedom = light.mean(axis=0), len(light) - 1
    still = light.var(axis=0, ddof=1) < _STILL * mean / gain
    highest = float(np.sort(mean)[-_MIN_PLATEAU_PIXELS // 2])
    below = mean < 0.6 * highest
    chance = 0.2 if freedom == 1 else 0.05
    if np.count_nonzero(below) >= _MIN_PLATEAU_PIXELS:
        chance = max(chance, float(np.mean(still[below])))
    edges = np.linspace(_BRIGHT_PART, 1.05, _WELL_BINS + 1) * highest
    n_still = np.histogram(mean[still], edges)[0]
    n_all = np.histogram(mean, edges)[0]
    full = (n_still >= _MIN_PLATEAU_PIXELS // 2) & (
        n_still > np.maximum(_LEAST_STILL, 3 * chance) * n_all
    )
    if not full.any():
        return None
    least = edges[np.argmax(full)]
    kept = mean[still & (mean >= least)]
    n_bright = np.count_nonzero(mean >= least)
    by_chance = chance * n_bright
    if kept.size < _MIN_PLATEAU_PIXELS + by_chance + 5 * math.sqrt(by_chance):
        return None
    return _lowest_well(kept)


def full_well_of_image(light: NDArray[Any]) -> float | None:
    """Return the level at which the bright columns of a star are cut off; None for none.

    Parameters
    ----------
    light : signal (y, x) of one frame, adu, the dispersion along x.

    Examples
    --------
    >>> rows = np.exp(-0.5 * ((np.arange(60) - 30.3) / 2) ** 2)[:, np.newaxis]
    >>> star = rows * np.linspace(1000, 9000, 300)
    >>> wells = np.random.default_rng(0).normal(5000, 50, star.shape)
    >>> level = full_well_of_image(np.minimum(star, wells))
    >>> 4500 < level < 4950, full_well_of_image(star) is None
    (True, True)
    """
    light = np.nan_to_num(light)
    tops = light.max(axis=0)
    highest = float(np.sort(tops)[-min(_MIN_FLAT_COLUMNS, tops.size) // 2])
    same = np.flatnonzero(np.abs(tops - highest) < _SAME_TOP * highest)
    fainter = np.flatnonzero((tops > 0.1 * highest) & (tops < _BRIGHT_PART * highest))
    n_bright = np.count_nonzero(tops > _PLATEAU * highest)
    if min(same.size, fainter.size) < _MIN_FLAT_COLUMNS or same.size < n_bright / 2:
        return None
    bright, faint = (
        light[:, where[:: 1 + where.size // _MOST_FLAT_COLUMNS]].T for where in (same, fainter)
    )
    flat = np.array([_flatness(column) > _FLAT_TOP for column in bright])
    n_flat = same.size * float(np.mean(flat))
    if n_flat < max(_MIN_FLAT_COLUMNS, n_bright / 2):
        return None
    if np.median([_flatness(column) for column in faint]) > _PEAKED:
        return None
    return _lowest_well(bright[flat][bright[flat] > _PLATEAU * highest])


def _flatness(column: NDArray[Any]) -> float:
    """Return the width of the peak at 93 % of its height over that at half of it; 0 where none."""
    peak = int(np.argmax(column))
    top = float(np.mean(column[column >= _PLATEAU * column[peak]]))
    if not top > 0:
        return 0.0
    widths = []
    for part in (_HIGH, _HALF):
        width = -1.0
        for side in (column[peak:], column[peak::-1]):
            below = np.flatnonzero(side < part * top)
            if not below.size:
                return 0.0
            i = int(below[0])
            before, after = (float(side[i - 1]), float(side[i])) if i else (top, float(side[0]))
            width += i + (1.0 if before == after else (before - part * top) / (before - after))
        widths.append(width - 1.0)
    return max(widths[0], 0.0) / widths[1] if widths[1] > 1.0 else 0.0


def _lowest_well(full: NDArray[Any]) -> float:
    """Return the level of the smallest wells, from the values of full pixels."""
    middle = float(np.median(full))
    scatter = 1.4826 * float(np.median(np.abs(full - middle)))
    return middle - _WELL_SIGMA * max(scatter, _LEAST_WELL_SCATTER * middle)


def share_cut_off(pixels: NDArray[Any]) -> float:
    """Return the share of pixels at 0 if most are, or the noise goes on above it; else 0.0.

    Examples
    --------
    >>> sky = np.random.default_rng(0).normal(2, 4, 10_000).round()
    >>> round(share_cut_off(np.maximum(sky, 0)), 1), share_cut_off(sky + 20)
    (0.4, 0.0)
    """
    if not pixels.size or pixels.min() < 0:
        return 0.0
    share = np.count_nonzero(pixels == 0) / pixels.size
    above = np.count_nonzero((pixels > 2) & (pixels <= 10)) / pixels.size
    is_cut = share > 0.5 or above > share / 5
    return float(share) if share > _LEAST_CUT_OFF and is_cut else 0.0


def require_light(cube: xr.Dataset, samples: NDArray[Any], top: Saturation | None) -> None:
    """Raise FrameError for a frame without data, saturated everywhere, or of a single value.

    Parameters
    ----------
    cube : counts (frame, y, x). A frame whose sample is suspect is checked as a whole.
    samples : its `sample_pixels`.
    top : the saturation level, or None.
    """
    for i, sample in enumerate(samples):
        if _why_no_exposure(sample, top):
            wrong = _why_no_exposure(cube[COUNTS].isel({FRAME: i}).values, top)
            if wrong:
                label = str(cube[FRAME].values[i]) if FRAME in cube.coords else f"frame {i + 1}"
                path = str(cube["path"].values[i]) if "path" in cube.coords else None
                raise FrameError(
                    f"{label} has no signal: {wrong}", path=path, hint="Exclude the frame."
                )


def _why_no_exposure(pixels: NDArray[Any], top: Saturation | None) -> str:
    """Return the reason why pixels are not a valid exposure, or ""."""
    present = pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels
    if not present.size:
        return "no pixel has a value"
    lowest, highest = present.min(), present.max()
    if top is not None and lowest >= top.level:
        return f"every pixel is saturated, at {lowest:g} or above"
    return f"every pixel is {lowest:g}" if lowest == highest and present.size > 1 else ""


def find_bad_pixels(image: xr.Dataset) -> Mask:
    """Return the mask of pixels of a master that deviate from their neighbours (`ccdmask`).

    Parameters
    ----------
    image : counts (y, x) of a master dark or flat, computed. Pixels that are not finite, as where a
        lamp gave no signal, are not tested.

    Returns
    -------
    bad : (y, x), True where a pixel or column deviates.
    """
    import ccdproc  # takes a second, which few reductions need

    check_image(image)
    values = image[COUNTS].values
    judged = np.isfinite(values)
    if not judged.all():
        values = np.where(judged, values, finite_median(values) if judged.any() else 0.0)
    return np.asarray(ccdproc.ccdmask(values) & judged, np.bool_)


# Dark-frame noise (read-out and dark current) and gain: `find_read_noise`, `find_gain`.
#
# The noise is measured from the frames of the master where there are at least two, since header and
# manual include neither dark current nor interference. Else the given read noise is used; else the
# light frames are compared in the darker half of the rows, or, for a single light frame,
# neighbouring pixels.

_MASTER_PLURALS = {"bias": "biases", "dark": "darks"}
_PIXELS_OF_GAIN, _PIXELS_OF_CHECK = 1 << 17, 1 << 14
_MOVED, _MOVED_SIGMA = 0.3, 3.0
"""Change of a row's light from frame to frame, in units of the brightest row, and of how it differs
from row to row, above which the gain cannot be measured."""
_FRAMES_OF_GAIN = 5
_ROWS_OF_GAIN = 32
_DISAGREE = 2.0
_USUAL_NOISE = (0.4, 8.0)
"""Noise of a dark frame over the read noise, with hot detectors and coarse converters."""
_FLATS_ALIKE = 0.2
_EVERY_COLUMN = 4
_GAIN_REMEDY = "Set gain under [detector] in an instrument file (--instrument)"
_NO_GAIN = "gain unknown, read noise only"


class ReadNoise(NamedTuple):
    """The noise of an unexposed pixel of one frame, and its source.

    Parameters
    ----------
    variance : adu^2.
    level : the signal whose noise it already contains, adu.
    source : the text for HISTORY, such as "measured from 5 darks".
    """

    variance: float
    level: float
    source: str

    def of_pixel(self, gain: float | None) -> PixelNoise:
        """Return it with that of photons, by the gain in electrons per count; None: unknown."""
        return PixelNoise(self.variance, self.level, 0.0 if gain is None else 1.0 / gain)


class MeasuredGain(NamedTuple):
    """A measured gain and its error, electrons per adu, and the frames it was measured from."""

    gain: float
    error: float
    source: str

    def __str__(self) -> str:
        """Return the gain, its error and the frames."""
        return f"{self.gain:.3g} +- {self.error:.1g}, measured from {self.source}"


class ChosenGain(NamedTuple):
    """The gain that is used, electrons per adu or None; its source for HISTORY; a remark or ""."""

    gain: float | None
    told: str
    remark: str = ""


def with_gain(
    image: xr.Dataset,
    lights: xr.Dataset,
    *,
    minus: xr.Dataset | None = None,
    flat: xr.Dataset | None = None,
) -> xr.Dataset:
    """Choose the gain of a combined image: the stated one, unless the pixels contradict it.

    Parameters
    ----------
    image, lights, minus : as in `estimate_noise`. The gain is measured from two light frames or
        more where they constrain it.
    flat : the master flat of `estimate_flat_noise`; the gain that was measured from its frames
        comes before that of the lights.

    Returns
    -------
    image : with the coordinate `gain`, electron/adu, if it is known; the attribute `gain_told`, its
        value and source, which `find_gain` returns from then on; and a remark if the gain is
        unknown, or the header's is far from the measured one. Unchanged in electrons.
    """
    if "gain_told" in image.attrs or image[COUNTS].attrs.get("units", "adu") == "electron":
        return image
    if "gain_told" in lights.attrs:
        return with_gain_of(image, lights)
    found = None if flat is None else flat.attrs.get("gain_measured")
    if found is None:
        found = _gain_of_lights(image, lights, minus)
    chosen = choose_gain(image, minus, found)
    image = image.drop_vars(["gain", "gain_from"], errors="ignore")
    image = image.assign_attrs(gain_told=chosen.told)
    if chosen.gain is None:
        image = image.assign_attrs(snr_note=_NO_GAIN)
    else:
        image = image.assign_coords(gain=chosen.gain)
    return add_check(image, chosen.remark) if chosen.remark else image


def with_gain_of(frames: xr.Dataset, image: xr.Dataset) -> xr.Dataset:
    """Return frames with the gain that was chosen for an image of them (`with_gain`)."""
    told = {name: image.attrs[name] for name in ("gain_told", "snr_note") if name in image.attrs}
    frames = frames.drop_vars(["gain", "gain_from"], errors="ignore").assign_attrs(told)
    if "gain" not in image.coords:
        return frames
    return frames.assign_coords(gain=image["gain"].variable)


def choose_gain(
    image: xr.Dataset, minus: xr.Dataset | None, found: MeasuredGain | None
) -> ChosenGain:
    """Return the gain to use: the stated one, unless it is not half to twice the measured one.

    Within that factor the stated one is more precise. Beyond it the header's is wrong: a default,
    that of another mode, or that of 12 bits where the pixels have 16; but an instrument file is
    believed. A GAIN without a unit counts only as far as the pixels do not contradict it.

    Parameters
    ----------
    image : its coordinates `gain`, electron/adu, and `gain_from`.
    minus : the master dark or bias, whose noise contradicts a camera's setting.
    found : the measured gain, or None.
    """
    stated = float(image["gain"].item()) if "gain" in image.coords else None
    source = str(image["gain_from"].item()) if "gain_from" in image.coords else "the header"
    if stated is not None and source == GUESSED_GAIN and _noise_contradicts(stated, image, minus):
        stated = None
    if stated is None:
        if found is not None:
            return ChosenGain(found.gain, str(found))
        text = f"S/N: {_NO_GAIN}; photon noise is not included. {_GAIN_REMEDY}"
        return ChosenGain(None, "unknown, photon noise not included", text)
    told = f"{stated:.4g} (from {source.removeprefix('the ')})"
    if found is None or 1 / _DISAGREE < found.gain / stated < _DISAGREE:
        return ChosenGain(stated, told)
    apart = f"the gain is {stated:.4g} electron/adu by {source}, but {found}"
    if source == INSTRUMENT_FILE:
        return ChosenGain(stated, told, f"{apart}; the gain of the instrument file is used")
    text = f"{apart}; the measured gain is used. {_GAIN_REMEDY} to use another"
    return ChosenGain(found.gain, str(found), "" if source == GUESSED_GAIN else text)


def _noise_contradicts(gain: float, image: xr.Dataset, minus: xr.Dataset | None) -> bool:
    """Return whether the dark frames' noise and the read noise contradict a gain."""
    if minus is None or "noise" not in minus.attrs or "read_noise" not in image.coords:
        return False
    ratio = float(minus.attrs["noise"]) * gain / float(image["read_noise"].item())
    return not _USUAL_NOISE[0] <= ratio <= _USUAL_NOISE[1]


def _gain_of_lights(
    image: xr.Dataset, lights: xr.Dataset, minus: xr.Dataset | None
) -> MeasuredGain | None:
    """Return the gain measured from light frames; None where they do not constrain it."""
    n_frames = lights.sizes[FRAME]
    if n_frames < 2:
        return None
    part = _section_of_gain(image, _PIXELS_OF_CHECK if "gain" in image.coords else _PIXELS_OF_GAIN)
    frames = _pixels_of_gain(lights, part)
    level = 0.0 if minus is None else _pixels_of_gain(minus, part)
    if _scene_moves(frames - level):
        return None
    unlit = None if minus is None else minus.attrs.get("noise")
    found = photon_transfer(frames, level, None if unlit is None else float(unlit) ** 2)
    return None if found is None else MeasuredGain(*found, f"{n_frames} light frames")


def _scene_moves(frames: NDArray[np.float64]) -> bool:
    """Return whether the light of frames (frame, across, along) lies in other rows of each.

    The lines of a star that moved differ from frame to frame by far more than their photons: of
    two lights 15 rows apart the gain came out 6 times too low.
    """
    rows = np.median(frames, axis=2)
    rows = rows - np.median(rows, axis=1, keepdims=True)
    light = np.add.reduce(np.maximum(rows, 0.0), axis=1, keepdims=True)
    parts = rows / np.where(light > 0, light, 1.0)
    usual = np.add.reduce(parts, axis=0) / len(parts)
    off = parts - usual
    noise = float(np.median(np.abs(np.diff(off, axis=1))))
    return float(np.abs(off).max()) > max(_MOVED * float(usual.max()), _MOVED_SIGMA * noise)


def _section_of_gain(image: xr.Dataset, n_pixels: int) -> dict[str, slice]:
    """Return a band of rows around the brightest, as positions along both dimensions of an image.

    A star that lights five rows of a thousand is missed by rows spread over the image. The
    brightest row has the highest 90 % quantile, which hot pixels and cosmic rays do not change.
    """
    across, along = (X, Y) if is_upright(image) else (Y, X)
    counts = np.nan_to_num(image[COUNTS].transpose(across, along).values[:, ::_EVERY_COLUMN])
    quantile = int(0.9 * (counts.shape[1] - 1))
    brightest = int(np.argmax(np.partition(counts, quantile, axis=1)[:, quantile]))
    n_columns = min(image.sizes[along], n_pixels // _ROWS_OF_GAIN)
    n_rows = min(image.sizes[across], max(_ROWS_OF_GAIN, n_pixels // n_columns))
    first = min(max(brightest - n_rows // 2, 0), image.sizes[across] - n_rows)
    left = (image.sizes[along] - n_columns) // 2
    return {across: slice(first, first + n_rows), along: slice(left, left + n_columns)}


def _pixels_of_gain(cube: xr.Dataset, part: dict[str, slice]) -> NDArray[Any]:
    """Return a section of at most five of the frames (frame, across, along), or of an image."""
    counts = cube[COUNTS].isel(part)
    if FRAME in counts.dims:
        last, n = counts.sizes[FRAME] - 1, min(counts.sizes[FRAME], _FRAMES_OF_GAIN)
        counts = counts.isel({FRAME: [i * last // (n - 1) for i in range(n)]})
    return np.asarray(counts.transpose(..., *part).values)


def find_gain(
    image: xr.Dataset, lights: xr.Dataset, minus: xr.Dataset | None
) -> tuple[float | None, str]:
    """Return the gain, electrons per count, or None, and its source for HISTORY.

    Parameters
    ----------
    image, lights, minus : as in `with_gain`, whose choice is used where it was made.
    """
    if image[COUNTS].attrs.get("units", "adu") == "electron":
        return 1.0, "1, counts are electrons"
    image = with_gain(image, lights, minus=minus)
    gain = float(image["gain"].item()) if "gain" in image.coords else None
    return gain, str(image.attrs["gain_told"])


def find_read_noise(
    image: xr.Dataset, lights: xr.Dataset, minus: xr.Dataset | None, gain: float | None
) -> ReadNoise | None:
    """Return the noise without light, from the master's frames, as given, or from light frames.

    None where it is unknown.

    Parameters
    ----------
    image, lights, minus : as in `estimate_noise`.
    gain : electrons per count, or None.
    """
    if minus is not None and "noise" in minus.attrs:
        kinds = _MASTER_PLURALS.get(kind_of_master(minus), "calibration frames")
        told = f"measured from {int(minus['n_frames'].item())} {kinds}"
        return ReadNoise(minus.attrs["noise"] ** 2, 0.0, told)
    if "read_noise" in image.coords and gain is not None:
        stated = (float(image["read_noise"].item()) / gain) ** 2
        return ReadNoise(max(stated, rounding_variance(sample_pixels(lights))), 0.0, "stated")
    rows, level = _darker_rows(image)
    frames = sample_pixels(lights)[:, rows]
    if frames.shape[0] > 1:
        told = f"measured from {frames.shape[0]} light frames off the spectrum"
        return ReadNoise(frame_variance(frames), level, told)
    pixels = np.asarray(frames[0], np.float64)
    variance = clipped_std(pixels[:, 1:] - pixels[:, :-1]) ** 2 / 2
    variance = max(variance, rounding_variance(pixels))
    if not math.isfinite(variance):
        return None
    return ReadNoise(variance, level, "measured from adjacent pixels off the spectrum")


def _darker_rows(image: xr.Dataset) -> tuple[Indices, float]:
    """Return the darker half of the sample's rows, as positions in it, and their median."""
    pixels = sample_pixels(image)
    order = np.argsort(finite_medians(pixels), kind="stable")
    rows = np.sort(order[: max(len(order) // 2, 1)])
    return rows, finite_median(pixels[rows])


def kind_of_master(minus: xr.Dataset) -> str:
    """Return the type of the frames that made a master, or ""."""
    return str(minus["frame_type"].item()) if "frame_type" in minus.coords else ""


class VarianceFactor(NamedTuple):
    """The variance of a combination relative to that of one of its frames.

    Parameters
    ----------
    floor : factor of the noise without light, which is the same in all frames.
    photons : factor of the photon noise, which is larger in bright frames.
    method : method that scales the variance where a pixel has fewer frames (`variance_factor`).
    left_out : as in `variance_factor`.
    common : factor of the noise common to all frames, the master's: 1 except for weighted frames.
    """

    floor: float
    photons: float
    method: str = "average"
    left_out: tuple[int, int] = (0, 0)
    common: float = 1.0

    @classmethod
    def of_equal(
        cls, method: str, n_frames: int, left_out: tuple[int, int] = (0, 0)
    ) -> VarianceFactor:
        """Return the variance factor of a combination of equal frames."""
        share = variance_factor(method, n_frames, left_out)
        return cls(share, share, method, left_out)

    def of_fewer(self, n_frames: int) -> list[float]:
        """Return the growth of the variance where 0 ... n_frames of the frames remain."""
        own = [variance_factor(self.method, n, self.left_out) for n in range(1, n_frames + 1)]
        return [math.nan, *(share / own[-1] for share in own)]


def variance_factor(method: str, n_frames: int, left_out: Sequence[int] = (0, 0)) -> float:
    """Return the variance of a combination of equal frames relative to that of one of them.

    Parameters
    ----------
    method, n_frames, left_out : as in `variance_by_method`.

    Raises
    ------
    UsageError
        The variance of this method is unknown.

    Examples
    --------
    >>> round(variance_factor("median", 5), 3), round(variance_factor("minmax", 5, (1, 1)), 3)
    (0.287, 0.227)
    """
    variance = variance_by_method(method, n_frames, left_out)
    if variance is None:
        *others, last = get_args(Combination)
        raise UsageError(
            f"The noise of frames combined by {method!r} is not known",
            keyword="method",
            value=method,
            hint=f"Combine by {', '.join(others)} or {last}.",
        )
    return variance


def variance_factor_of_mean(
    weights: Sequence[float], flux: Sequence[float], n_sigma: float | None
) -> VarianceFactor:
    """Return the variance factor of a weighted mean of frames of different flux.

    The mean is ``sum(w (frame - level)) / sum(w flux)``.

    Parameters
    ----------
    weights, flux : those of the frames.
    n_sigma : clipping threshold in sigma of the known noise; None: not clipped.

    Examples
    --------
    >>> variance_factor_of_mean((1.0, 1.0), (0.5, 1.5), None)
    VarianceFactor(floor=0.5, photons=0.5, method='average', left_out=(0, 0), common=1.0)
    """
    both = list(zip(weights, flux, strict=True))
    total = math.fsum(weight * scale for weight, scale in both)
    factor = 1.0 if n_sigma is None else clip_factor(len(both), n_sigma)
    floor = math.fsum(weight**2 for weight in weights)
    photons = math.fsum(weight**2 * scale for weight, scale in both)
    common = (math.fsum(weights) / total) ** 2
    return VarianceFactor(factor * floor / total**2, factor * photons / total**2, common=common)


def variance_factor_of_order(
    method: str, flux: Sequence[float], left_out: tuple[int, int] = (0, 0)
) -> VarianceFactor:
    """Return the variance factor of a median, or mean without extremes, of scaled frames.

    Scaling up a faint frame scales its noise. In a mean this enters with the mean of the squares; a
    median follows the less noisy frames and is unaffected to first order; a mean without extremes
    lies between, by the number of values it keeps. In simulations with a flux scatter of up to 20 %
    the variance is accurate to 4 %.

    Parameters
    ----------
    method : "median" or "minmax".
    flux : flux of the frames, 1 on average.
    left_out : as in `variance_factor`.

    Examples
    --------
    >>> [round(share, 3) for share in variance_factor_of_order("minmax", (0.8, 1.2))[:2]]
    [0.564, 0.521]
    """
    n_frames = len(flux)
    share = variance_factor(method, n_frames, left_out)
    if method == "median" or n_frames < 2:
        return VarianceFactor(share, share, method, left_out)
    pays = (n_frames - sum(left_out) - 1) / (n_frames - 1)
    of_floor = math.fsum(1 / scale**2 for scale in flux) / n_frames - 1
    of_photons = math.fsum(1 / scale for scale in flux) / n_frames - 1
    of_floor, of_photons = 1 + pays * of_floor, 1 + pays * of_photons
    return VarianceFactor(share * of_floor, share * of_photons, method, left_out)


# Variance of a master bias or dark: `with_own_noise`.
#
# `measure_noise` records the noise of a master's frames; in their combination a fraction k(m)/m of
# that variance remains, and in hot pixels the same fraction of the photon noise of their charge::
#
#     variance = k(m)/m (r_dark^2 + hot / gain)
#
# `estimate_noise` recomputes it once for each combined image that the master is subtracted from;
# the variance stored here is for other uses of the master.


def with_own_noise(master: xr.Dataset) -> xr.Dataset:
    """Add the variance of its pixels to a master bias or dark.

    Parameters
    ----------
    master : counts (y, x), computed, of `measure_noise`: its attribute `noise` and its coordinates
        `n_frames`, `method` and `gain` are used.

    Returns
    -------
    master : with `variance` (y, x), float32, in the square of its unit; unchanged where its noise
        is unknown, as for a single frame or an external master. Without a gain the photon noise of
        hot pixels is not included.

    Examples
    --------
    >>> import xarray as xr
    >>> counts = (("y", "x"), np.zeros((2, 3)), {"units": "adu"})
    >>> labels = {"y": [1, 2], "x": [1, 2, 3], "method": "average", "n_frames": 4}
    >>> master = xr.Dataset({"counts": counts}, labels, {"noise": 6.0, "history": []})
    >>> float(with_own_noise(master).variance[0, 0])
    9.0
    """
    check_image(master)
    if "noise" not in master.attrs or "n_frames" not in master.coords:
        return master
    noise, gain = float(master.attrs["noise"]), master.coords.get("gain")
    own = master_noise(master, noise**2)
    variance = np.full(master[COUNTS].shape, own.share * own.variance, np.float32)
    if gain is not None:
        variance.flat[own.where] += own.share * own.charge / float(gain.item())
    units = master[COUNTS].attrs.get("units", "adu")
    attrs = {"units": f"{units}2", "long_name": "variance of a pixel"}
    sigma = f"{noise:.4g} {units} per frame, of which {math.sqrt(own.share):.3g} remains"
    line = f"variance: dark-frame noise {sigma}{'' if gain is not None else '; gain unknown'}"
    return add_history(master.assign({VARIANCE: ((Y, X), variance, attrs)}), line)


# Variance of a master flat: `estimate_flat_noise`.
#
# A flat is a median of n frames, each dark-subtracted and divided by its level L. A pixel that
# receives the fraction f of that level has the variance::
#
#     of a frame    (r^2 + f L / gain) / L^2
#     of the flat   k(n)/n (r^2 / <L>^2 + f / (gain <sqrt L>^2)) + k(m)/m r_dark^2 / <L>^2
#
# A median follows its most precise values: for frames of unequal sigma it has the variance of equal
# ones whose 1/sigma is the mean of theirs, which scales with L where r dominates and with its root
# where photons do. For three frames at 1000 : 1000 : 2000 and 1000 : 2000 : 4000 adu that is 4 %
# and 8 % too small; the mean of the variances, right for two frames, would be 6 % and 21 % too
# large or more. The dark's contribution is common to all frames. Its correlation with the light
# frames, where they use the same dark, is neglected: of the dark's own variance it takes
# 2 x light / <L>.
#
# The spectrum of the lamp is a smooth curve through the medians of whole columns, so that dividing
# by it adds negligible noise. Without a gain, given or measured, the variance is unknown: it is
# nearly all photon noise.


def estimate_flat_noise(
    image: xr.Dataset,
    cube: xr.Dataset,
    levels: Sequence[float],
    darks: Sequence[xr.Dataset | None] = (),
) -> xr.Dataset:
    """Add the variance of its pixels to a combined flat.

    Parameters
    ----------
    image : counts (y, x), about 1, computed, of `combine_flats`; its coordinates `gain`
        (electron/adu) and `read_noise` (electron) are used where present.
    cube : its frames, counts (frame, y, x) in adu or electron, eager or chunked; read only where
        the gain is not given.
    levels : the level of each frame after its dark is subtracted, in the unit of the cube.
    darks : the dark subtracted from each frame, of `measure_noise`, or None; or empty.

    Returns
    -------
    image : with `variance` (y, x), float32, without a unit, unless the gain is unknown; HISTORY
        records that, or the numbers used.

    Raises
    ------
    UsageError
        The number of levels differs from the number of frames.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> frames = np.random.default_rng(0).poisson(900.0, (1, 200, 300)).astype(float)
    >>> cube = xr.Dataset({"counts": (("frame", "y", "x"), frames)}, {"gain": 1.0})
    >>> image = (cube / 900.0).isel(frame=0).assign_coords(n_frames=1)
    >>> found = estimate_flat_noise(image, cube, [900.0])
    >>> round(float(image.counts.std()), 4), round(float(found.variance.mean()) ** 0.5, 4)
    (0.0334, 0.0333)
    """
    check_image(image)
    check_cube(cube)
    n_frames = int(image["n_frames"].item())
    if len(levels) != n_frames:
        raise UsageError(
            f"{n_frames} flats, but {len(levels)} levels", hint="Use one for every frame."
        )
    used = list({id(dark): dark for dark in darks if dark is not None}.values())
    found = _gain_of_flats(image, cube, levels, darks)
    gain, gain_by, _ = choose_gain(image, used[0] if used else None, found)
    if found is not None:
        image = image.assign_attrs(gain_measured=found)
    if gain is None:
        return add_history(image, "variance of the flat unknown: gain not known")
    share = variance_factor("median", n_frames)
    without_light = share * _variance_without_light(image, used, gain) + _mean_master_variance(used)
    floor, photons = (
        without_light * _mean_inverse_level(levels, 2),
        share * _mean_inverse_level(levels, 1) / gain,
    )
    noise = PixelNoise(floor, 0.0, photons)
    variance = frame_variances(image[COUNTS].values[np.newaxis], noise=noise)[0]
    attrs = {"units": "", "long_name": "variance of the response"}
    line = f"variance of the flat: from levels of {min(levels):.4g} to {max(levels):.4g}"
    told = add_history(image, f"{line}; gain {gain_by}")
    return told.assign({VARIANCE: ((Y, X), variance, attrs)})


def _gain_of_flats(
    image: xr.Dataset,
    cube: xr.Dataset,
    levels: Sequence[float],
    darks: Sequence[xr.Dataset | None],
) -> MeasuredGain | None:
    """Return the gain measured from flats of about the same level; None where not constrained.

    They are scaled to that level: a lamp that drifts by 5 % would else leave 0.05 of the structure
    of fringes and edges in their differences.
    """
    middle = finite_median(np.array(levels))
    alike = [i for i, level in enumerate(levels) if abs(level / middle - 1) < _FLATS_ALIKE]
    if len(alike) < 2:
        return None
    part, frames, noises = _section_of_gain(image, _PIXELS_OF_GAIN), [], []
    for i in alike[:: -(-len(alike) // _FRAMES_OF_GAIN)]:
        dark = darks[i] if darks else None
        frame = _pixels_of_gain(cube.isel({FRAME: i}), part).astype(np.float64)
        frames.append(
            (frame - (0.0 if dark is None else _pixels_of_gain(dark, part))) * (middle / levels[i])
        )
        noises.append(None if dark is None else dark.attrs.get("noise"))
    known = [noise**2 for noise in noises if noise is not None]
    unlit = sum(known) / len(known) if len(known) == len(noises) else None
    found = photon_transfer(np.array(frames), 0.0, unlit)
    return None if found is None else MeasuredGain(*found, f"{len(cube[FRAME])} flats")


def _mean_inverse_level(levels: Sequence[float], power: int) -> float:
    """Return the effective 1/L^power in the variance of the median of frames of several levels."""
    if len(levels) < 3:
        return math.fsum(level**-power for level in levels) / len(levels)
    return (math.fsum(math.sqrt(level**power) for level in levels) / len(levels)) ** -2


def _variance_without_light(image: xr.Dataset, darks: Sequence[xr.Dataset], gain: float) -> float:
    """Return the variance of an unexposed pixel of one frame: measured, else as given."""
    noises = [dark.attrs["noise"] for dark in darks if "noise" in dark.attrs]
    if noises:
        return float(sum(noise**2 for noise in noises) / len(noises))
    told = float(image["read_noise"].item()) if "read_noise" in image.coords else 0.0
    return (told / gain) ** 2


def _mean_master_variance(darks: Sequence[xr.Dataset]) -> float:
    """Return the mean variance of the subtracted masters, 0 where unknown."""
    known = [dark for dark in darks if "noise" in dark.attrs and "n_frames" in dark.coords]
    shares = [
        variance_factor(_dark_method_of(dark), int(dark["n_frames"].item())) for dark in known
    ]
    parts = [share * dark.attrs["noise"] ** 2 for share, dark in zip(shares, known, strict=True)]
    return float(sum(parts) / len(parts)) if parts else 0.0


def _dark_method_of(dark: xr.Dataset) -> str:
    return str(dark["method"].item()) if "method" in dark.coords else "median"


# Sample of the pixels of every frame, for noise estimates and the check for empty frames.
#
# Sixteen stripes of rows, evenly over the frame, 16,000 pixels per frame: noise is then known to
# 0.6 % from one pair of frames, at a hundredth of the cost of all pixels. The rows depend on the
# frame's shape alone, never on chunks.

_STRIPES = 16
_SAMPLE_PIXELS = 1 << 14


def sample_rows(n_rows: int, n_columns: int, n_pixels: int = _SAMPLE_PIXELS) -> list[slice]:
    """Return the stripes of rows of a sample; all rows of a small image.

    Examples
    --------
    >>> sample_rows(1024, 1536)[:2], len(sample_rows(1024, 1536)), sample_rows(12, 100)
    ([slice(32, 33, None), slice(96, 97, None)], 16, [slice(0, 12, None)])
    """
    height = -(-n_pixels // (_STRIPES * max(n_columns, 1)))
    if height * _STRIPES >= n_rows:
        return [slice(0, n_rows)]
    middles = [(2 * i + 1) * n_rows // (2 * _STRIPES) for i in range(_STRIPES)]
    return [slice(middle - height // 2, middle - height // 2 + height) for middle in middles]


def sample_pixels(cube: xr.Dataset, n_pixels: int = _SAMPLE_PIXELS) -> NDArray[Any]:
    """Return the sample's pixels of every frame (frame, row, x), in the dtype of the counts.

    Parameters
    ----------
    cube : counts (frame, y, x), or an image (y, x); of a lazy one only these rows are read.
    n_pixels : approximate number of pixels of each frame.
    """
    counts = cube[COUNTS].variable  # without labels, which take four times as long as the rows
    rows = sample_rows(counts.sizes[Y], counts.sizes[X], n_pixels)
    n_rows = sum(part.stop - part.start for part in rows)
    sample = np.empty((*counts.shape[:-2], n_rows, counts.sizes[X]), counts.dtype)
    first = 0
    for part in rows:  # a list of the stripes would be held beside their sum
        stop = first + part.stop - part.start
        sample[..., first:stop, :] = counts[..., part, :].values
        first = stop
    return sample


def pixels_at(cube: xr.Dataset, where: NDArray[np.intp]) -> NDArray[Any]:
    """Return the values (frame, pixel) at flat indices of (y, x), in ascending order.

    Parameters
    ----------
    cube : counts (frame, y, x); of a lazy one only bands that hold such a pixel are read.
    where : indices, ascending.
    """
    parts = list(_pixels_by_band(cube, where))
    empty = np.empty((cube.sizes[FRAME], 0), cube[COUNTS].dtype)
    return np.concatenate([empty, *parts], axis=1)


def _pixels_by_band(cube: xr.Dataset, where: NDArray[np.intp]) -> Iterator[NDArray[Any]]:
    """Yield the values of each band that has any; a lazy cube's bands are its chunks."""
    counts, n_columns = cube[COUNTS], cube.sizes[X]
    heights = (counts.sizes[Y],) if counts.chunks is None else counts.chunksizes[Y]
    first = 0
    for height in heights:
        low, high = np.searchsorted(where, [first * n_columns, (first + height) * n_columns])
        if low < high:
            band = counts.isel({Y: slice(first, first + height)}).values
            yield band.reshape(counts.shape[0], -1)[:, where[low:high] - first * n_columns]
        first += height


# Noise and flags of single calibrated frames: `find_frame_planes`, `with_frame_planes`.
#
# Properties common to all frames of a target (dark-frame noise, bad pixels, saturation level) are
# measured once, from all of them; the rest is pixel by pixel, and as lazy as the frames. The flags
# of all frames together are those of their combination.

_DIMS = (FRAME, Y, X)


class FrameNoise(NamedTuple):
    """Noise model of each frame of a target.

    Parameters
    ----------
    of_pixel : noise of a pixel that is not hot, including the master's.
    floor : variance of an unexposed pixel (y, x), including the master's and that of hot pixels.
    note : source of the numbers, for HISTORY.
    common : the part of the variance (y, x) that all frames share, the master's.
    """

    of_pixel: PixelNoise
    floor: NDArray[np.float32]
    note: str
    common: NDArray[np.float32]


class FramePlanes(NamedTuple):
    """Noise and flags common to the frames of a target, and their cosmic rays.

    Parameters
    ----------
    noise : None: it is unknown, and no frame has a variance.
    flags : the bits (y, x) that every frame has.
    saturated_from : the raw count at which saturation begins; infinity where unknown.
    outliers : values hit by cosmic rays; None: none found, or not searched.
    """

    noise: FrameNoise | None
    flags: NDArray[np.uint8]
    saturated_from: float
    outliers: FrameOutliers | None = None


def find_frame_planes(
    lights: xr.Dataset,
    dark: xr.Dataset | None,
    combined: xr.Dataset,
    outliers: FrameOutliers | None = None,
) -> FramePlanes:
    """Measure the noise and flags common to all frames of a target.

    Parameters
    ----------
    lights : counts (frame, y, x), eager or chunked.
    dark : the master (y, x) that is subtracted from them, of `measure_noise`, or None.
    combined : their combination (y, x), of `flag`: source of bad pixels and saturation level.
    outliers : values hit by cosmic rays, of `find_cosmic_rays`, or None.
    """
    check_image(combined)
    cube = lights if dark is None else subtract_dark(lights, dark)
    flags = combined[DQ].values & np.uint8(BAD_PIXEL)
    noise = _noise_of_frames(cube, with_gain_of(lights, combined), dark)
    return FramePlanes(noise, flags, combined.attrs.get("saturated_from", np.inf), outliers)


def _noise_of_frames(
    cube: xr.Dataset, lights: xr.Dataset, minus: xr.Dataset | None
) -> FrameNoise | None:
    """Return the noise model of calibrated frames; None where the noise is unknown.

    A frame has its own noise and that of the master. The master's is the same in all frames, so
    that combining them by these variances would treat it as independent in each frame.

    Parameters
    ----------
    cube : calibrated, not yet divided by a flat: counts (frame, y, x), eager or chunked.
    lights : the same frames raw.
    minus : the master (y, x) that was subtracted, of `measure_noise`.
    """
    first = cube.isel({FRAME: 0})
    gain, gain_by = find_gain(first, lights, minus)
    floor = find_read_noise(first, lights, minus, gain)
    if floor is None:
        return None
    master = master_noise(minus, floor.variance)
    noise, of_master = floor.of_pixel(gain), master.share * master.variance
    noise = noise._replace(floor=noise.floor + of_master)
    charge = noise.per_photon * master.charge
    plane = np.full(first[COUNTS].shape, noise.floor, np.float32)
    plane.flat[master.where] += (1.0 + master.share) * charge
    common = np.full(plane.shape, of_master, np.float32)
    common.flat[master.where] += master.share * charge
    units = cube[COUNTS].attrs.get("units", "adu")
    sigma = f"{math.sqrt(floor.variance):.4g} {units}, {floor.source}"
    note = f"variance of a frame: read and dark noise {sigma}; gain {gain_by}{master.note}"
    return FrameNoise(noise, plane, note, common)


def with_frame_planes(cube: xr.Dataset, lights: xr.Dataset, planes: FramePlanes) -> xr.Dataset:
    """Add noise and flags to calibrated frames, as lazy as they came.

    Parameters
    ----------
    cube : counts (frame, y, x), not yet divided by a flat.
    lights : the same frames raw, missing pixels NaN (`drop_impossible`).
    planes : noise and flags common to the frames of their target.

    Returns
    -------
    cube : with `dq` (frame, y, x), uint8, and, where the noise is known, `variance` (frame, y, x),
        float32, in the square of the cube's unit: that of the frame and that of the master, which
        is common to all frames.
    """
    check_cube(cube)
    check_cube(lights)
    cube = cube.assign(
        {DQ: (_DIMS, _flags_of_frames(lights, planes), dq_attrs("flags of a pixel"))}
    )
    if planes.noise is None:
        return cube
    noise = planes.noise
    variance = map_frames(
        cube[COUNTS].data,
        partial(frame_variances, noise=noise.of_pixel._replace(floor=0.0)),
        noise.floor,
        keeps_frames=True,
        dtype=np.dtype(np.float32),
    )
    units = cube[COUNTS].attrs.get("units", "adu")
    attrs = {"units": f"{units}2", "long_name": "variance of a pixel"}
    return add_history(cube.assign({VARIANCE: (_DIMS, variance, attrs)}), noise.note)


def _flags_of_frames(lights: xr.Dataset, planes: FramePlanes) -> Any:
    """Return the flags (frame, y, x) of frames, eager or chunked as they are."""
    counts, outliers = lights[COUNTS].data, planes.outliers
    kernel: Any = partial(frame_flags, saturated_from=planes.saturated_from)
    images: list[NDArray[Any]] = [planes.flags]
    if outliers is not None:
        where, struck = outliers.of(map(str, lights[FRAME].values))
        kernel = partial(kernel, struck=struck)
        place = np.full(planes.flags.shape, -1, np.int32)
        place.flat[where] = np.arange(where.size)
        images.append(place)
    return map_frames(counts, kernel, *images, keeps_frames=True, dtype=np.dtype(np.uint8))


def frame_flags(
    block: NDArray[Any],
    flags: NDArray[np.uint8],
    place: NDArray[np.int32] | None = None,
    *,
    saturated_from: float,
    struck: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """Return the flags of each frame: common ones, saturation, missing values and cosmic rays.

    Parameters
    ----------
    block : raw counts (frame, y, x).
    flags : the bits (y, x) that every frame has.
    place : the position in `struck` of each pixel (y, x), or -1; None: there are none.
    saturated_from : the count at which saturation begins.
    struck : whether a pixel of a frame was hit by a cosmic ray (frame, pixel).

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
    if place is not None and struck is not None:
        here = place >= 0
        dq[:, here] |= struck[:, place[here]] * np.uint8(COSMIC_RAY)
    return dq
