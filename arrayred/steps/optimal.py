"""Light along a trace becomes a spectrum: `extract_along`.

The flux is that of the aperture, whatever the weights: a sum and an optimal extraction of a bright
star agree. What of the light lies beyond the aperture is told as `enclosed_fraction`, from the bell
curve fitted to what lies inside.

Which pixels count: all with a number, unless the detector is known to be bad or full there. A pixel
that a cosmic ray hit in some frames, or that some frames lack, holds what the others saw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import UsageError
from arrayred.kernels import along, optimal
from arrayred.kernels.noise import common_slope
from arrayred.kernels.optimal import Flux, Pixels
from arrayred.kernels.profile import Knots, Light, Profile, fit_profile, knots_of
from arrayred.kernels.shape import Bell
from arrayred.model import (
    BAD_PIXEL,
    COSMIC_RAY,
    COUNTS,
    DQ,
    NO_DATA,
    SATURATED,
    VARIANCE,
    X,
    Y,
    check_image,
    dq_attrs,
    note_history,
    remark,
)

if TYPE_CHECKING:
    import xarray as xr

Values = NDArray[np.float64]
Weights = Literal["optimal", "sum", "mean"]

_FAINTEST = 5.0
"""The signal to noise of all columns together below which there is no profile."""
_MOST_REJECTED = 0.05
"""Of the pixels: more than that no cosmic rays hit, and it is the profile that is wrong."""


class _Scene(NamedTuple):
    """An aperture: its place, distances from the star, pixels, flags, and if noise is known."""

    place: along.Aperture
    from_star: Values
    pixels: Pixels
    flags: NDArray[np.uint8]
    noise_known: bool


class _Outcome(NamedTuple):
    """What was extracted, the weights used, the profile and its signal to noise, why none."""

    flux: Flux
    profile: Profile
    used: Weights
    snr: float
    why: str


def extract_along(
    image: xr.Dataset,
    trace: xr.Dataset,
    sky: xr.Dataset | None = None,
    *,
    half_height: float,
    weights: Weights = "optimal",
) -> xr.Dataset:
    """Return the spectrum within an aperture that follows a trace.

    Parameters
    ----------
    image : counts (y, x) in adu or electron, settled, dispersed along x; `variance` and `dq`
        where it has them. With the attribute `gain_effective` the variance is known to follow the
        counts, and is made anew from the model of the light.
    trace : `center` (x), FITS row numbers, and the attribute `fwhm`, rows; where the light does
        not follow it, `star` (x).
    sky : `level` (x) of a row at the trace, `slope` (x) per row, `variance` (x) of the level; None:
        there is none.
    half_height : rows from the trace to either edge of the aperture; pixels are taken by the part
        that lies inside.
    weights : "optimal" (Horne 1986, PASP 98, 609); "sum"; "mean", the sum divided by the height.

    Returns
    -------
    spectrum : (x), float64: `flux`, less the sky, in the image's unit; `variance` of it, unless
        nothing tells the noise; `sky`, the sky's sum in the aperture (its mean for "mean"); `dq`,
        uint8, the flags of its pixels, with cosmic_ray for those that were found not to fit the
        profile. Attributes: `extraction`, the weights really used; `enclosed_fraction` of the
        star's light; `masked_fraction` of the aperture's pixels that did not count; `profile_snr`,
        the signal to noise of all columns together.

    Raises
    ------
    MismatchError
        The image is chunked.
    UsageError
        There are no such weights, or the aperture has no height.

    Examples
    --------
    >>> import xarray as xr
    >>> y, x = np.arange(1.0, 41), np.arange(1.0, 101)
    >>> light = 500 * np.exp(-((y - 20) ** 2) / 8)[:, np.newaxis] * np.ones(100)
    >>> image = xr.Dataset(
    ...     {"counts": (("y", "x"), light + 7), "variance": (("y", "x"), light / 2 + 50)},
    ...     {"y": y, "x": x}, {"gain_effective": 2.0})
    >>> trace = xr.Dataset({"center": ("x", np.full(100, 20.0))}, attrs={"fwhm": 4.7})
    >>> nothing = ("x", np.zeros(100))
    >>> sky = xr.Dataset({"level": ("x", np.full(100, 7.0)), "slope": nothing, "variance": nothing})
    >>> spectrum = extract_along(image, trace, sky, half_height=9.5)
    >>> bool(np.allclose(spectrum.flux, light[:, 0].sum(), rtol=1e-3))
    True
    """
    check_image(image)
    if weights not in ("optimal", "sum", "mean") or not half_height > 0:
        raise UsageError(
            f"An extraction by {weights!r} over {half_height} rows is none",
            keyword="extraction",
            value=weights,
            hint="Choose optimal, sum or mean, and a height above 0.",
        )
    scene = _scene(image, trace, sky, half_height)
    found = _extracted(scene, trace, weights)
    facts = {
        "extraction": found.used,
        "enclosed_fraction": _enclosed(scene.place, found.profile.bell),
        "masked_fraction": _masked(scene, found.flux),
        "profile_snr": found.snr,
    }
    spectrum = _spectrum(image, scene, sky, found).assign_attrs(facts)
    told = f"{found.used} over {2 * half_height:.2f} rows along a trace"
    spectrum = note_history(spectrum, told)
    if weights != "optimal" or not found.why:
        return spectrum
    return remark(spectrum, f"the aperture was summed without weights: {found.why}")


def _scene(
    image: xr.Dataset, trace: xr.Dataset, sky: xr.Dataset | None, half_height: float
) -> _Scene:
    """Return the pixels of an aperture, less the sky."""
    rows = image[Y].values
    center = trace["center"].values - float(rows[0])
    place = along.aperture(center, half_height, rows.size)
    counts = along.gathered(image[COUNTS].values, place).astype(np.float64)
    noise_known = VARIANCE in image
    variance = (
        along.gathered(image[VARIANCE].values, place) if noise_known else np.ones_like(counts)
    )
    variance = np.asarray(variance, np.float64)
    flags = np.zeros(counts.shape, np.uint8)
    if DQ in image:
        flags = np.asarray(along.gathered(image[DQ].values, place), np.uint8)
    flags = np.where(place.on_image, flags, np.uint8(NO_DATA))
    missing = ~(np.isfinite(counts) & np.isfinite(variance))
    flags[missing] |= np.uint8(NO_DATA)
    good = place.on_image & ~missing & ((flags & (BAD_PIXEL | SATURATED)) == 0)
    good &= variance > 0
    glow = np.zeros_like(counts)
    if sky is not None:
        glow = sky["level"].values + sky["slope"].values * place.away
    per_count = _per_count(image, counts, variance, good) if noise_known else 0.0
    level = float(image.attrs.get("noise_level", 0.0))
    floor = optimal.floor_of(variance, counts, per_count, level, good)
    pixels = Pixels(
        np.where(good, counts - glow, 0.0), glow, floor, per_count, level, place.part, good
    )
    from_star = place.away
    if "star" in trace:
        from_star = place.away + (trace["center"].values - trace["star"].values)
    return _Scene(place, from_star, pixels, flags, noise_known)


def _per_count(
    image: xr.Dataset, counts: Values, variance: Values, good: NDArray[np.bool_]
) -> float:
    """Return the variance that a count brings: told, or seen where variance and counts agree."""
    if "gain_effective" in image.attrs:
        return 1.0 / float(image.attrs["gain_effective"])
    return common_slope(counts[good], variance[good])


def _extracted(scene: _Scene, trace: xr.Dataset, weights: Weights) -> _Outcome:
    """Return the flux, with the weights that were asked for where there is a profile."""
    pixels, away = scene.pixels, scene.from_star
    fwhm = float(trace.attrs.get("fwhm", np.ptp(away) / 4))
    profile, knots = Profile(Bell(fwhm, 0.0, np.inf)), knots_of(away, fwhm)
    shape = _normalised(profile, knots, pixels)
    found = optimal.summed(pixels, shape, pixels.variance(np.zeros_like(away)))
    found = optimal.summed(pixels, shape, pixels.variance(shape * np.maximum(found.flux, 0.0)))
    snr = optimal.snr_of(found) if scene.noise_known else 0.0
    if snr >= _FAINTEST:
        found, profile, shape = _profiled(pixels, knots, fwhm, found)
        snr = optimal.snr_of(found)
    why = _why_no_profile(scene, found, snr)
    if weights == "optimal" and not why:
        return _Outcome(found, profile, "optimal", snr, "")
    left = pixels if why else pixels._replace(good=found.good)
    flux = optimal.template(found.flux, found.variance)
    summed = optimal.summed(left, shape, pixels.variance(flux * shape))
    used: Weights = "sum" if weights == "optimal" else weights
    return _Outcome(summed, profile, used, snr, why)


def _profiled(
    pixels: Pixels, knots: Knots, fwhm: float, found: Flux
) -> tuple[Flux, Profile, Values]:
    """Return the flux with optimal weights, the profile, and its share on each pixel.

    Twice: what the first profile shows to be no part of the light does not enter the second.
    """
    profile = Profile(Bell(fwhm, 0.0, np.inf))
    shape, good = _normalised(profile, knots, pixels), pixels.good
    start = optimal.template(found.flux, found.variance)
    found = optimal.weighted(pixels, shape, start, reject=False)
    for quick in (True, False):
        flux = optimal.template(found.flux, found.variance)
        weight = np.where(good & (pixels.part > 0), 1.0 / pixels.variance(flux * shape), 0.0)
        profile = fit_profile(Light(pixels.counts, weight, flux), knots, fwhm, quick=quick)
        shape = _normalised(profile, knots, pixels)
        found = optimal.weighted(pixels, shape, flux)
        good = found.good
    return found, profile, shape


def _why_no_profile(scene: _Scene, found: Flux, snr: float) -> str:
    """Return why a profile cannot be relied on; "" where it can."""
    if not scene.noise_known:
        return "nothing tells the noise"
    if snr < _FAINTEST:
        return f"the profile's signal to noise is {snr:.1f}, under {_FAINTEST:g}"
    usable = scene.pixels.good & (scene.pixels.part > 0)
    lost = np.count_nonzero(usable & ~found.good)
    if lost > _MOST_REJECTED * np.count_nonzero(usable):
        return f"no profile fits the light, {lost} pixels lie off it"
    return ""


def _normalised(profile: Profile, knots: Knots, pixels: Pixels) -> Values:
    """Return the profile on the pixels (row, x), 1 in all inside the aperture of each column."""
    light = profile.on_pixels(knots)
    total = np.add.reduce(light * pixels.part, axis=0)
    return light / np.where(total > 0, total, 1.0)


def _enclosed(place: along.Aperture, bell: Bell) -> float:
    """Return which part of a bell's light the pixels of an aperture get, edge ones by their part.

    Why not the integral between the edges: within a pixel the light is not spread evenly, which at
    a seeing of 2 rows is worth 0.06 % of it.
    """
    held = np.add.reduce(place.part * bell.on_pixels(place.away), axis=0)
    return float(np.add.reduce(held) / held.size)


def _masked(scene: _Scene, found: Flux) -> float:
    """Return which part of the aperture's pixels did not count."""
    inside = scene.place.part > 0
    lost = np.count_nonzero(inside & ~found.good)
    return float(lost) / max(int(np.count_nonzero(inside)), 1)


def _spectrum(
    image: xr.Dataset,
    scene: _Scene,
    sky: xr.Dataset | None,
    outcome: _Outcome,
) -> xr.Dataset:
    """Return what was extracted as a Dataset."""
    import xarray as xr

    place, found, units = scene.place, outcome.flux, image[COUNTS].attrs.get("units", "adu")
    height = np.add.reduce(place.part, axis=0)
    share = 1.0 / height if outcome.used == "mean" else np.ones_like(height)
    inside = place.part > 0
    flags = np.where(inside, scene.flags, np.uint8(0))
    flags[inside & scene.pixels.good & ~found.good] |= np.uint8(COSMIC_RAY)
    joined = np.bitwise_or.reduce(flags, axis=0)
    joined[~np.isfinite(found.flux)] |= np.uint8(NO_DATA)
    glow = np.add.reduce(scene.pixels.sky * place.part, axis=0)
    what = "light, sky included" if sky is None else "light less the sky"
    variables: dict[str, Any] = {
        "flux": (X, found.flux * share, {"units": units, "long_name": what})
    }
    if scene.noise_known:
        variance = found.variance
        if sky is not None:
            variance = variance + found.weight**2 * sky["variance"].values
        attrs = {"units": f"{units}2", "long_name": "variance of the flux"}
        variables[VARIANCE] = (X, variance * share**2, attrs)
    if sky is not None:
        told = {"units": units, "long_name": "sky in the aperture"}
        variables["sky"] = (X, glow * share, told)
    variables[DQ] = (X, joined, dq_attrs("flags of the pixels in the aperture"))
    scalars = {name: coord for name, coord in image.coords.items() if not coord.dims}
    return xr.Dataset(variables, {X: image[X], **scalars}, dict(image.attrs))
