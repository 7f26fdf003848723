"""Measure the shift of sky, atmospheric and stellar lines from the lamp's wavelengths.

The wavelengths of a lamp are not those of the star: the lamp fills the slit and takes another path,
the instrument flexes between the two exposures, and a star off the centre of the slit shifts all of
its lines.
`measure_zero_point` finds the shift, in pixels: above 0, lines lie at higher x than the solution of
the lamp says.

- Sky lines fill the slit as the lamp does: they show the flexure.
- The oxygen lines of the atmosphere (B band, 6867 to 6944 Angstrom) are in the spectrum of the
  star: they also show the position of the star in the slit. Its lines are computed from the
  constants of both states (Babcock & Herzberg 1948, ApJ 108, 167; Rouille et al. 1992, J. Mol.
  Spectrosc. 154, 372), which agree with the lines of the solar spectrum (Moore, Minnaert & Houtgast
  1966, NBS Monograph 61) to 0.02 Angstrom.
- A star of known velocity shows it by the absorption lines of hydrogen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import LampError
from arrayred.kernels.rows import robust_std
from arrayred.model import DQ, FLUX, SPOILT, VARIANCE, WAVELENGTH, X, check_dataset
from arrayred.steps.trace import FWHM_PER_SIGMA
from arrayred.steps.wavelength import air_wavelength

if TYPE_CHECKING:
    import xarray as xr

Values = NDArray[np.float64]
Standard = Literal["sky", "oxygen", "star"]

SKY_LINES = (
    (5577.338, "[O I]"), (6300.304, "[O I]"), (6363.776, "[O I]"), (5460.735, "Hg"),
    (4358.328, "Hg"), (5889.951, "Na"), (5895.924, "Na"),
)  # fmt: skip
"""Lines of the night sky and of street lamps: air, Angstrom (NIST)."""
BALMER_LINES = (
    (6562.81, "H alpha"),
    (4861.33, "H beta"),
    (4340.47, "H gamma"),
    (4101.74, "H delta"),
)
OXYGEN_BAND = (6850.0, 6965.0)
"""Angstrom: the B band with some continuum on both sides."""
FARTHEST = 12.0
"""Pixels by which a line is looked for on either side."""
LARGEST_ERROR = 0.3
"""Pixels: a zero point known less well is refused."""
_LEAST_SIGNIFICANCE = 7.0
_SHIFT_STEP = 0.1
_LARGEST_ASYMMETRY = 0.04
LIGHT_SPEED = 299792.458
"""Of light, km/s."""


class ZeroPoint(NamedTuple):
    """Where lines lie beside the place where the lamp puts them.

    Parameters
    ----------
    pixels : shift; above 0, they lie at higher x.
    error : its standard deviation, pixels.
    by : what was measured: "sky", "oxygen" or "star".
    lines : the lines that were used, and the shift of each.
    """

    pixels: float
    error: float
    by: str
    lines: tuple[tuple[str, float], ...]


def measure_zero_point(
    spectrum: xr.Dataset, by: Standard, *, velocity: float | None = None
) -> ZeroPoint:
    """Measure the shift of lines against the solution of the lamp.

    Parameters
    ----------
    spectrum : `flux`, `variance` and, for the sky, `sky` (x), with the coordinate `wavelength` in
        air, Angstrom, as a lamp gave it; the attribute `resolving_power`, and for a star
        `barycentric_velocity`, km/s.
    by : "sky", "oxygen" or "star".
    velocity : of the star against the barycentre of the solar system, km/s; positive: it recedes.

    Returns
    -------
    zero_point : the mean of its lines, weighted; its error has the scatter of the lines.

    Raises
    ------
    LampError
        No line is there, or none tells the shift to 0.3 pixel.

    Examples
    --------
    >>> import xarray as xr
    >>> x = np.arange(1.0, 401.0)
    >>> sky = 50 + 400 * np.exp(-0.5 * ((x - 181.7) / 1.3) ** 2)  # expected at x = 181.0
    >>> wave = 5577.338 + (x - 181.0)
    >>> spectrum = xr.Dataset(
    ...     {"flux": ("x", sky), "sky": ("x", sky)},
    ...     {"x": x, "wavelength": ("x", wave)}, {"resolving_power": 1822.0})
    >>> round(measure_zero_point(spectrum, "sky").pixels, 2)
    0.7
    """
    check_dataset(spectrum, "the spectrum")
    scene = _scene_of(spectrum, "sky" if by == "sky" else FLUX)
    if by == "oxygen":
        return _by_oxygen(scene)
    if by == "sky":
        found = [(name, _of_line(scene, wave, emission=True)) for wave, name in SKY_LINES]
        what = "No sky line"
    else:
        if velocity is None:
            raise LampError(
                "The velocity of the star is not given", hint="Add --star-velocity KM/S."
            )
        towards = float(spectrum.attrs.get("barycentric_velocity", math.nan))
        towards = 0.0 if math.isnan(towards) else towards
        factor = 1.0 + (velocity - towards) / LIGHT_SPEED
        found = [
            (name, _of_line(scene, wave * factor, emission=False)) for wave, name in BALMER_LINES
        ]
        what = "No symmetric absorption line of hydrogen"
    known = [(name, one) for name, one in found if one is not None]
    if not known:
        raise LampError(
            f"{what} between {scene.first:.0f} and {scene.last:.0f} Angstrom gives the zero point",
            hint="Use another: --zero-point sky, oxygen or star.",
        )
    return _mean_of(known, by)


class _Scene(NamedTuple):
    """A spectrum to be measured: x, wavelength, values, sigma, usable (x), and sigma of a line."""

    x: Values
    wave: Values
    values: Values
    sigma: Values
    usable: NDArray[np.bool_]
    power: float

    @property
    def first(self) -> float:
        return float(self.wave[self.usable].min()) if self.usable.any() else math.nan

    @property
    def last(self) -> float:
        return float(self.wave[self.usable].max()) if self.usable.any() else math.nan

    def place_of(self, wave: float) -> float:
        """Return the x where a wavelength is expected; NaN outside what the lamp covers."""
        inside = self.usable
        if not inside.any() or not self.first < wave < self.last:
            return math.nan
        order = np.argsort(self.wave)
        return float(np.interp(wave, self.wave[order], self.x[order]))

    def fwhm_at(self, wave: float) -> float:
        """Return the width of a sharp line, pixels."""
        at = int(np.argmin(np.abs(self.wave - wave)))
        return max(wave / self.power / abs(float(np.gradient(self.wave)[at])), 1.5)


def _scene_of(spectrum: xr.Dataset, name: str) -> _Scene:
    power = float(spectrum.attrs.get("resolving_power", math.nan))
    if WAVELENGTH not in spectrum.variables or name not in spectrum or not power > 0:
        raise LampError(
            "The spectrum has no wavelengths of a lamp, with the resolving power of its lines",
            hint="Identify its lamp first: arrayred wavelength.",
        )
    x, wave, values = (
        np.asarray(spectrum[one].values, np.float64) for one in (X, WAVELENGTH, name)
    )
    usable = np.isfinite(values) & np.isfinite(wave)
    if DQ in spectrum:
        usable &= spectrum[DQ].values & SPOILT == 0
    if "extrapolated" in spectrum.variables:
        usable &= ~spectrum["extrapolated"].values.astype(bool)
    sigma = np.ones(values.size)
    if VARIANCE in spectrum and name == FLUX:
        sigma = np.sqrt(np.asarray(spectrum[VARIANCE].values, np.float64))
    usable &= np.isfinite(sigma) & (sigma > 0)
    return _Scene(x, wave, values, sigma, usable, power)


class _Fit(NamedTuple):
    """A shift and its error, pixels; the height of the template, over its error, and as it is."""

    shift: float
    error: float
    significance: float
    height: float
    chi2: float


def _fit_shift(
    x: Values, values: Values, sigma: Values, template: tuple[Values, Values], degree: int
) -> _Fit | None:
    """Fit a template to values as a polynomial plus a height of it, at the best shift.

    Parameters
    ----------
    x, values, sigma : of the window.
    template : fine x, and its values there.
    degree : of the polynomial beneath.

    Returns
    -------
    fit : None if the best shift lies at an end of the range. The errors are scaled so that chi2 per
        degree of freedom is at least 1.
    """
    shifts = np.arange(-FARTHEST, FARTHEST + _SHIFT_STEP / 2, _SHIFT_STEP)
    u = (x - float(np.add.reduce(x)) / x.size) / max(float(np.ptp(x)) / 2, 1.0)
    below = np.polynomial.polynomial.polyvander(u, degree)
    goal = values / sigma
    shapes = np.interp(x - shifts[:, np.newaxis], *template)
    rest = np.broadcast_to(below, (shifts.size, *below.shape))
    basis = np.concatenate((shapes[..., np.newaxis], rest), axis=2) / sigma[:, np.newaxis]
    turned = np.swapaxes(basis, 1, 2)
    try:
        inverse = np.linalg.inv(turned @ basis)
    except np.linalg.LinAlgError:
        return None
    solved = (inverse @ (turned @ goal)[..., np.newaxis])[..., 0]
    left = goal - (basis @ solved[..., np.newaxis])[..., 0]
    chi2, height = np.add.reduce(left**2, axis=1), solved[:, 0]
    height_error = np.sqrt(np.maximum(inverse[:, 0, 0], 0.0))
    at = int(np.argmin(np.where(height > 0, chi2, np.inf)))
    freedom = x.size - degree - 3
    if not 0 < at < shifts.size - 1 or freedom < 3 or height[at] <= 0:
        return None
    lower, least, upper = chi2[at - 1 : at + 2]
    bend = lower - 2 * least + upper
    if not bend > 0:
        return None
    shift = float(shifts[at] + _SHIFT_STEP * 0.5 * (lower - upper) / bend)
    per_degree = float(least / freedom)
    scale = math.sqrt(max(per_degree, 1.0))
    error = scale * _SHIFT_STEP * math.sqrt(2.0 / bend)
    significance = float(height[at] / height_error[at] / scale)
    return _Fit(shift, error, significance, float(height[at]), per_degree)


def _of_line(scene: _Scene, wave: float, *, emission: bool) -> tuple[float, float] | None:
    """Return the shift of a line and its error, pixels; None if it tells nothing."""
    place = scene.place_of(wave)
    if math.isnan(place):
        return None
    sharp = scene.fwhm_at(wave)
    widths = [sharp] if emission else list(sharp * np.array([1.0, 1.5, 2.2, 3.3, 5.0, 7.5]))
    best: _Fit | None = None
    width = sharp
    for fwhm in widths:
        fit = _of_window(scene, place, fwhm, emission=emission)
        if fit is not None and (best is None or fit.significance > best.significance):
            best, width = fit, fwhm
    if best is None or best.significance < _LEAST_SIGNIFICANCE or best.error > LARGEST_ERROR:
        return None
    if not emission and not _is_symmetric(scene, place + best.shift, width, best.height):
        return None
    return best.shift, best.error


def _is_symmetric(scene: _Scene, place: float, fwhm: float, depth: float) -> bool:
    """Return whether both halves of a line are alike, but for a slope: not filled, not blended."""
    away = np.arange(0.5, 1.3 * fwhm)
    red, blue = (np.interp(place + by, scene.x, scene.values) for by in (away, -away))
    noise = float(np.median(scene.sigma)) * math.sqrt(2)
    apart = red - blue
    apart -= away * float(np.add.reduce(apart * away) / np.add.reduce(away**2))
    left = math.sqrt(float(np.add.reduce(apart**2)) / away.size)
    return left < math.hypot(_LARGEST_ASYMMETRY * depth, 2.5 * noise)


def _of_window(scene: _Scene, place: float, fwhm: float, *, emission: bool) -> _Fit | None:
    """Fit a Gaussian line of a width, in a window about the place where it is expected."""
    half = 2.5 * fwhm + FARTHEST
    inside = scene.usable & (np.abs(scene.x - place) <= half)
    if np.count_nonzero(inside) < 8 or np.count_nonzero(inside) < 0.8 * 2 * half:
        return None
    sign = 1.0 if emission else -1.0
    fine = np.arange(-2 * half, 2 * half, 0.1)
    shape = np.exp(-0.5 * (fine * FWHM_PER_SIGMA / fwhm) ** 2)
    sigma = scene.sigma[inside]
    if emission:
        # The sky column has no sigma of its own: neighbours tell it.
        steps = np.diff(scene.values[scene.usable])
        sigma = np.full(sigma.size, max(robust_std(steps) / math.sqrt(2), 1e-12))
    degree = 1 if emission else 2
    return _fit_shift(
        scene.x[inside], sign * scene.values[inside], sigma, (fine + place, shape), degree
    )


def _mean_of(known: Sequence[tuple[str, tuple[float, float]]], by: str) -> ZeroPoint:
    """Return the weighted mean of the shifts of lines, an outlier of three or more left out."""
    shift, error = np.array([one for _, one in known]).T
    kept = np.ones(shift.size, bool)
    if shift.size > 2:
        middle = float(np.median(shift))
        kept = np.abs(shift - middle) <= max(0.5, 5 * float(np.median(error)))
    weight = kept / np.maximum(error, 0.02) ** 2
    mean = float(np.add.reduce(weight * shift) / np.add.reduce(weight))
    sigma = 1 / math.sqrt(float(np.add.reduce(weight)))
    n = int(np.count_nonzero(kept))
    if n > 1:
        scatter = float(np.add.reduce(weight * (shift - mean) ** 2) / (n - 1))
        sigma *= math.sqrt(max(scatter, 1.0))
    if sigma > LARGEST_ERROR:
        raise LampError(
            f"The zero point is only known to {sigma:.2f} pixel ({n} lines of the {by})",
            hint="Use another: --zero-point sky, oxygen or star.",
        )
    used = [
        (name, round(float(one[0]), 3))
        for (name, one), keep in zip(known, kept, strict=True)
        if keep
    ]
    return ZeroPoint(mean, sigma, by, tuple(used))


# The oxygen of the air: its B band, computed.


def _by_oxygen(scene: _Scene) -> ZeroPoint:
    first, last = OXYGEN_BAND
    inside = scene.usable & (scene.wave > first) & (scene.wave < last)
    if not (scene.first < first and scene.last > 6900.0) or np.count_nonzero(inside) < 15:
        raise LampError(
            f"The lamp covers {scene.first:.0f} to {scene.last:.0f} Angstrom, which does not "
            f"include telluric oxygen, {first:.0f} to 6900",
            hint="Use another: --zero-point sky or star.",
        )
    x = scene.x[inside]
    fine = np.arange(x.min() - 3 * FARTHEST, x.max() + 3 * FARTHEST, 0.1)
    wave = np.interp(fine, scene.x, scene.wave)
    level = float(np.median(scene.values[inside]))
    sharp = math.hypot(scene.fwhm_at(6880.0) / FWHM_PER_SIGMA, 1 / math.sqrt(12))
    fits = []
    for column in _COLUMNS:
        shape = np.interp(wave, *oxygen_absorption(column), left=0.0, right=0.0)
        for wider in _WIDER:
            blurred = _blurred(shape, 10 * wider * sharp)
            found = _fit_shift(x, -scene.values[inside], scene.sigma[inside], (fine, blurred), 2)
            if found is not None:
                fits.append((found.chi2, found, float(blurred.max())))
    if not fits or level <= 0 or min(fits)[1].significance < _LEAST_SIGNIFICANCE:
        raise LampError(
            "Telluric oxygen is not detected",
            hint="Use another: --zero-point sky or star.",
        )
    _, fit, deepest = min(fits)
    depth = fit.height / level
    left = math.sqrt(fit.chi2) * float(np.median(scene.sigma[inside])) / level
    if not 0.3 < depth < 2.0 or left > 0.25 * depth * deepest:
        raise LampError(
            f"The band at 6870 Angstrom is not telluric oxygen alone ({depth:.2f} times its depth; "
            "cool stars have bands of TiO there)",
            hint="Use another: --zero-point sky or star.",
        )
    if fit.error > LARGEST_ERROR:
        raise LampError(
            f"The zero point is only known to {fit.error:.2f} pixel",
            hint="Use another: --zero-point sky or star.",
        )
    return ZeroPoint(fit.shift, fit.error, "oxygen", (("O2 B", round(fit.shift, 3)),))


_ORIGIN, _B_UPPER, _D_UPPER = 14525.661, 1.37294, 5.5e-6
_B_LOWER, _D_LOWER, _LAMBDA, _GAMMA = 1.4376764, 4.841e-6, 1.984751, -0.008425
"""Constants of the states b 1Sigma+g, v = 1, and X 3Sigma-g, v = 0, cm^-1."""
_COLUMNS, _WIDER = (0.5, 1.0, 2.0, 4.0), (0.8, 1.0, 1.25, 1.6, 2.0)
"""Air masses tried, and widths of lines in those of the lamp: a star does not fill the slit, or its
picture is not sharp where the lamp is."""
_KELVIN, _HALF_WIDTH, _STRONGEST = 260.0, 0.045, 2.0
"""Temperature of the air; half-width of a line, cm^-1, and the strongest line times the column of
one air mass, cm^-1: at the middle of a line nothing is left."""


def _blurred(shape: Values, sigma: float) -> Values:
    """Return values convolved with a Gaussian of a sigma in samples."""
    reach = np.arange(-math.ceil(4 * sigma), math.ceil(4 * sigma) + 1)
    kernel = np.exp(-0.5 * (reach / sigma) ** 2)
    return np.convolve(shape, kernel / float(np.add.reduce(kernel)), "same")


@lru_cache(maxsize=8)
def oxygen_absorption(column: float = 1.0) -> tuple[Values, Values]:
    """Return wavelengths in air, Angstrom, and the part of the light that oxygen takes there.

    Parameters
    ----------
    column : of oxygen, in that of one air mass.

    Examples
    --------
    >>> wave, absorbed = oxygen_absorption()
    >>> float(absorbed[np.argmin(np.abs(wave - 6889.90))]) > 0.9
    True
    """
    number, strength = _oxygen_lines()
    waves = np.arange(6840.0, 6990.0, 0.01)
    places = air_wavelength(1e8 / number)
    depth = np.zeros(waves.size)
    width = _HALF_WIDTH * places / number
    for place, one, half in zip(places, strength, width, strict=True):
        depth += one / (math.pi * _HALF_WIDTH) / (1 + ((waves - place) / half) ** 2)
    return waves, -np.expm1(-column * depth)


def _oxygen_lines() -> tuple[Values, Values]:
    """Return wave numbers and strengths, cm^-1, of the lines of the B band."""
    n = np.arange(1.0, 40.0, 2)
    square = n * (n + 1)
    middle = _B_LOWER * square - _D_LOWER * square**2
    up, down = (2 * n + 3) * _B_LOWER, (2 * n - 1) * _B_LOWER
    root = np.sqrt(up**2 + _LAMBDA**2 - 2 * _LAMBDA * _B_LOWER)
    upper = middle + up - _LAMBDA - root + _GAMMA * (n + 1)
    root = np.sqrt(down**2 + _LAMBDA**2 - 2 * _LAMBDA * _B_LOWER)
    lower = middle - down - _LAMBDA + root - _GAMMA * n

    def of_upper(j: Values) -> Values:
        return _ORIGIN + _B_UPPER * j * (j + 1) - _D_UPPER * (j * (j + 1)) ** 2

    number = np.concatenate(
        (
            of_upper(n - 1) - middle,
            of_upper(n - 1) - lower,
            of_upper(n + 1) - middle,
            of_upper(n + 1) - upper,
        )
    )
    populated = np.exp(-1.4388 * middle / _KELVIN)
    strength = np.concatenate([w * populated for w in (n + 1, n, n, n + 1)])
    return number, _STRONGEST * strength / strength.max()
