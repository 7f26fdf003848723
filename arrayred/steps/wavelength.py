"""Find the lines of a comparison lamp, tell which they are, and fit the dispersion solution.

`find_lamp_lines` measures lines in pixels, `identify` gives them wavelengths without any guess, and
`fit_dispersion` makes of both a polynomial, `Dispersion`. Pixels are FITS pixels, the middle of the
first one at 1; wavelengths are in air, Angstrom.

A lamp is recognised as one recognises a tune: a pair of its bright lines is laid on each pair of
lines of an element, in both directions and for a range of curvatures, and all the other lines say
whether it fits. What is found is judged by the number of lamps as good that chance alone would
make, the NFA (number of false alarms; Desolneux, Moisan & Morel 2000, IJCV 40, 7), by the share of
the light explained, and by the share of the list's strong lines that are there. A lamp that is not
told with certainty is refused: a wrong wavelength looks as good as a right one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np
from numpy.polynomial.polynomial import polyder, polyval, polyvander
from numpy.typing import NDArray

from arrayred.config.recipe import LampName
from arrayred.config.toml import read_text_file
from arrayred.errors import LampError, UsageError, counted
from arrayred.kernels.noise import finite_median
from arrayred.kernels.rows import robust_std
from arrayred.model import (
    BAD_PIXEL,
    COSMIC_RAY,
    COUNTS,
    DQ,
    FLUX,
    NO_DATA,
    SATURATED,
    VARIANCE,
    X,
    check_dataset,
)
from arrayred.steps.trace import FWHM_PER_SIGMA

if TYPE_CHECKING:
    import xarray as xr

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

LAMPS: Mapping[str, tuple[str, ...]] = {name: tuple(name.split("+")) for name in get_args(LampName)}
"""The elements of the lamps that are known; the simplest first."""


# The dispersion solution.


@dataclass(frozen=True, slots=True)
class Dispersion:
    """The wavelength of each pixel, as a polynomial.

    Parameters
    ----------
    coefficients : of the powers 0, 1, 2 ... of u = (2 x - first - last) / (last - first), Angstrom.
    first_pixel, last_pixel : x of the outermost lines used; beyond, the solution is extrapolated.
    n_lines : number of lines used.
    rms, rms_pixel : of the residuals of the lines used, Angstrom and pixel; NaN without any.
    chi2 : sum of (residual / error)**2 per degree of freedom; NaN without residuals.
    resolving_power : median of wavelength / FWHM of the lines used; NaN if not known.
    lamp : its elements, such as "Ne+Ar".
    shift : of the second set of lines against the first, pixel, where one was fitted.
    lines : what was fitted: the lines with `residual`, `used` and `why_not`; kept in no file.

    Examples
    --------
    >>> line = Dispersion((5500.0, 500.0), 1.0, 1001.0, 12, 0.05, 0.05, 1.0)
    >>> line.wavelength([1.0, 501.0]).tolist(), line.is_extrapolated([0.0, 1.0]).tolist()
    ([5000.0, 5500.0], [True, False])
    >>> Dispersion.from_dict(line.to_dict()) == line
    True
    """

    coefficients: tuple[float, ...]
    first_pixel: float
    last_pixel: float
    n_lines: int
    rms: float
    rms_pixel: float
    chi2: float
    resolving_power: float = math.nan
    lamp: str = ""
    shift: float = 0.0
    lines: xr.Dataset | None = field(default=None, repr=False, compare=False)

    @property
    def order(self) -> int:
        """Return the order of the polynomial."""
        return len(self.coefficients) - 1

    @property
    def has_residuals(self) -> bool:
        """Return whether there were more lines than coefficients, so that an error is known."""
        return math.isfinite(self.rms)

    def wavelength(self, x: Any) -> Any:
        """Return the wavelength of pixels x, air, Angstrom."""
        return polyval(self._place(x), self.coefficients)[()]

    def dispersion(self, x: Any) -> Any:
        """Return the wavelength step per pixel at pixels x, Angstrom; negative if it falls."""
        slope = polyder(self.coefficients)
        return (polyval(self._place(x), slope) * 2 / self._span)[()]

    def is_extrapolated(self, x: Any) -> Any:
        """Return whether pixels x lie beyond the outermost lines used."""
        x = np.asarray(x, np.float64)
        return ((x < self.first_pixel) | (x > self.last_pixel))[()]

    def shifted(self, pixels: float) -> Dispersion:
        """Return the solution of a spectrum that lies higher in x by so many pixels."""
        first, last = self.first_pixel + pixels, self.last_pixel + pixels
        return replace(self, first_pixel=first, last_pixel=last)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a TOML file; what is not known is left out."""
        names = [one.name for one in fields(self) if one.name not in ("coefficients", "lines")]
        found = {name: getattr(self, name) for name in names}
        known = {name: v for name, v in found.items() if isinstance(v, str) or math.isfinite(v)}
        return {"coefficients": list(self.coefficients), **known}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Dispersion:
        """Return the solution that `to_dict` wrote.

        Raises
        ------
        UsageError
            A value is missing, or is no number.
        """
        try:
            rms, rms_pixel, chi2, power = (
                float(values.get(name, math.nan))
                for name in ("rms", "rms_pixel", "chi2", "resolving_power")
            )
            found = cls(
                tuple(float(value) for value in values["coefficients"]),
                float(values["first_pixel"]),
                float(values["last_pixel"]),
                int(values["n_lines"]),
                rms,
                rms_pixel,
                chi2,
                power,
                str(values.get("lamp", "")),
                float(values.get("shift", 0.0)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"This is not a dispersion solution: {error!r}",
                hint="Use a file *_solution.toml written by arrayred.",
            ) from error
        if not found.coefficients or not np.isfinite(found.coefficients).all():
            raise UsageError(
                "The dispersion solution has no coefficients, or invalid ones",
                hint="Use a file *_solution.toml written by arrayred.",
            )
        return found

    @property
    def _span(self) -> float:
        return self.last_pixel - self.first_pixel or 2.0

    def _place(self, x: Any) -> Values:
        middle = (self.first_pixel + self.last_pixel) / 2
        return (np.asarray(x, np.float64) - middle) * 2 / self._span


def interpolate_dispersion(before: Dispersion, after: Dispersion, fraction: float) -> Dispersion:
    """Return the solution between two lamps, at a fraction of the time between them.

    Parameters
    ----------
    before, after : of the two lamps.
    fraction : 0 at the first lamp, 1 at the second.

    Returns
    -------
    dispersion : the mean of both, weighted; it covers what both cover.

    Raises
    ------
    UsageError
        The fraction lies outside, or the lamps cover no common pixels.

    Examples
    --------
    >>> one = Dispersion((5500.0, 500.0), 1.0, 1001.0, 12, 0.05, 0.05, 1.0)
    >>> float(interpolate_dispersion(one, one.shifted(1.0), 0.5).wavelength(501.5))
    5500.0
    """
    first = max(before.first_pixel, after.first_pixel)
    last = min(before.last_pixel, after.last_pixel)
    if not 0 <= fraction <= 1 or not first < last:
        raise UsageError(
            f"A fraction of {fraction:g} between lamps that cover x = {before.first_pixel:.0f} to "
            f"{before.last_pixel:.0f} and {after.first_pixel:.0f} to {after.last_pixel:.0f}",
            hint="Use two arc spectra of the same setup, and a fraction between 0 and 1.",
        )
    order = max(before.order, after.order)
    u = np.cos(np.pi * (np.arange(order + 1) + 0.5) / (order + 1))
    x = first + (last - first) * (u + 1) / 2
    wave = (1 - fraction) * before.wavelength(x) + fraction * after.wavelength(x)
    coefficients = np.linalg.solve(polyvander(u, order), wave)
    ours, theirs = 1 - fraction, fraction
    return replace(
        before,
        coefficients=tuple(map(float, coefficients)),
        first_pixel=first,
        last_pixel=last,
        n_lines=min(before.n_lines, after.n_lines),
        rms=ours * before.rms + theirs * after.rms,
        rms_pixel=ours * before.rms_pixel + theirs * after.rms_pixel,
        chi2=ours * before.chi2 + theirs * after.chi2,
        lines=None,
    )


_MOST_ORDER = 5
_AS_GOOD = 1.07
_N_OUTLYING = 4.0
_CLIP_ROUNDS = 8
_MANY_LINES = 10
_SPARE_LINES = 2
"""Lines beyond those that a polynomial goes through exactly, so that residuals tell its error."""
_MOST_OUTLYING = 0.15
"""Share of the lines that may contradict a solution: above it, one wrong line may bend it."""


def fit_dispersion(
    lines: xr.Dataset,
    order: int | None = None,
    *,
    given: bool = False,
    shift_between: str | None = None,
) -> Dispersion:
    """Fit wavelength as a polynomial of the pixel.

    Parameters
    ----------
    lines : `x` and `wavelength` (line), pixel and Angstrom; `x_err`, pixel (without it all lines
        weigh the same), `width`, pixel (for the resolving power), and `problem`, "" for none.
    order : of the polynomial, 1 to 5; None: the lowest whose leave-one-out error is within 7 % of
        the best, which asks for at least order + 3 lines, and does not swing between lines.
    given : the user vouches for the lines: none is rejected, and order + 1 of them suffice, though
        then nothing tells the error (`Dispersion.has_residuals`).
    shift_between : name of a variable (line) that tells two sets of lines apart, such as those of
        the lamp and those of the star, which may be shifted against each other. The solution is
        that of the set of the first line.

    Returns
    -------
    dispersion : each line weighs by its error and by the scatter that all lines have beyond their
        errors; lines further off than 4 times that are not used. Its `lines` tell each residual,
        Angstrom, whether it was used, and why not.

    Raises
    ------
    LampError
        There are too few lines for the order, or for the bends of the dispersion; they leave a gap
        in which nothing tells the wavelengths; or the polynomial swings there, or turns back.
    UsageError
        The order is none from 1 to 5, or the lines have no x and wavelength.

    Examples
    --------
    >>> import xarray as xr
    >>> x = np.array([10.0, 250.0, 480.0, 700.0, 900.0])
    >>> lines = xr.Dataset({"x": ("line", x), "wavelength": ("line", 5000 + 2 * x)})
    >>> found = fit_dispersion(lines)
    >>> found.order, round(float(found.wavelength(500.0)), 6)
    (1, 6000.0)
    """
    check_dataset(lines, "the lines")
    if order is not None and order not in range(1, _MOST_ORDER + 1):
        raise UsageError(
            f"The order of a dispersion solution is 1 to {_MOST_ORDER}, not {order}",
            keyword="order",
            value=order,
            hint="Omit it to choose the order by leave-one-out error.",
        )
    if "x" not in lines or "wavelength" not in lines:
        raise UsageError(
            f"Lines have x and wavelength, but these have {', '.join(map(str, lines.data_vars))}",
            hint="Use the result of identify.",
        )
    x, wave = (np.asarray(lines[name].values, np.float64) for name in ("x", "wavelength"))
    error = np.asarray(lines["x_err"].values, np.float64) if "x_err" in lines else np.ones(x.size)
    problem = lines["problem"].values.astype(str) if "problem" in lines else np.full(x.size, "")
    if "wavelength_err" in lines:
        # The error of a blend's wavelength, as one of its position.
        known = np.isfinite(x) & np.isfinite(wave)
        slope = (
            abs(np.polyfit(x[known], wave[known], 1)[0]) if np.unique(x[known]).size > 1 else np.inf
        )
        doubt = np.nan_to_num(np.asarray(lines["wavelength_err"].values, np.float64))
        error = np.hypot(error, doubt / slope)
    why = np.where(problem != "", problem, np.where(np.isfinite(wave), "", "not identified"))
    why = np.where((why == "") & ~(np.isfinite(x) & (error > 0)), "no position", why)
    moved = np.zeros(x.size)
    if shift_between is not None:
        labels = lines[shift_between].values
        moved = (labels != labels[:1]).astype(np.float64)
    allowed = order
    while True:
        fit = _fit_order(x, error, wave, why, moved, allowed, given, with_errors="x_err" in lines)
        found = _dispersion_of(fit, lines, x, error, wave)
        if given:
            return found
        is_lowered = allowed != order
        detector = _detector_of(lines)
        told = _require_lines_enough(found, fit, detector, x, error, is_highest=is_lowered)
        swing = _swing(found, fit, told)
        if swing is None:
            return found
        if order is not None or found.order == 1:
            raise swing
        allowed = found.order - 1


class _Fit(NamedTuple):
    """A fitted polynomial.

    Parameters
    ----------
    coefficients : of the powers of u, Angstrom.
    ends : x of the outermost lines used.
    residual : (line), Angstrom.
    why : (line), why a line is not used, "" if it is.
    shift : of the second set, pixel.
    """

    coefficients: Values
    ends: tuple[float, float]
    residual: Values
    why: NDArray[np.str_]
    shift: float


def _fit_order(
    x: Values,
    error: Values,
    wave: Values,
    why: NDArray[np.str_],
    moved: Values,
    order: int | None,
    given: bool,
    *,
    with_errors: bool,
) -> _Fit:
    """Fit the polynomial of an order, or of the order that predicts left-out lines best."""
    why = why.astype("U16")
    n_sets = int(moved[why == ""].any())
    for _ in range(_CLIP_ROUNDS):
        used = why == ""
        n = int(np.count_nonzero(used))
        orders = _orders_allowed(n - n_sets, order, given, why)
        # Scale u to the lines used, so that powers of it are well conditioned.
        first, last = float(x[used].min()), float(x[used].max())
        u = (2 * x - first - last) / (last - first or 2.0)
        step = np.abs(np.polyfit(u[used], wave[used], 1)[0]) * 2 / (last - first) if n > 1 else 1.0
        sigma = np.hypot(error, _scatter(u, wave / step, error, used, max(orders), moved))
        sigma = sigma if with_errors else np.ones(x.size)
        fits = [_weighted_fit(u, wave, sigma, used, k, moved) for k in orders]
        best = min(fit[2] for fit in fits)
        chosen = next(fit for fit in fits if fit[2] <= _AS_GOOD * best)
        coefficients, residual, _ = chosen
        away = np.where(used, np.abs(residual) / (sigma * step), 0.0)
        if given or not with_errors:
            limit = np.inf if given else _N_OUTLYING * max(robust_std(away[used]), 1e-9)
        else:
            limit = _N_OUTLYING
        worst = int(np.argmax(away))
        if not away[worst] > limit or n - 1 - n_sets < min(orders) + 1 + _SPARE_LINES:
            break
        why[worst] = "outlier"
    n_outlying = int(np.count_nonzero(why == "outlier"))
    if n_outlying > _MOST_OUTLYING * (n_outlying + n):
        raise LampError(
            f"{n_outlying} of {n_outlying + n} lines contradict the others",
            hint="Check which lines are which, or name them by hand (--lines FILE).",
        )
    shift = 0.0
    if n_sets:
        shift = float(coefficients[-1] / step)
        coefficients = coefficients[:-1]
    slope = polyval(np.linspace(-1, 1, 101), polyder(coefficients))
    if n > 1 and not _is_steady(slope):
        raise LampError(
            f"The wavelengths of {n} lines do not rise or fall steadily from x = {first:.1f} to "
            f"{last:.1f}",
            hint="Check the wavelengths of the lines, or use a lower order.",
        )
    return _Fit(coefficients, (first, last), residual, why, shift)


def _is_steady(slope: NDArray[np.floating[Any]]) -> Any:
    """Return whether all slopes (..., place) are of one sign."""
    return (slope > 0).all(axis=-1) | (slope < 0).all(axis=-1)


def _orders_allowed(n: int, order: int | None, given: bool, why: NDArray[np.str_]) -> range:
    """Return the orders that n lines allow; raise LampError, which says why others are not used."""
    most = n - 1 if given else n - 1 - _SPARE_LINES
    if order is None:
        highest = min(_MOST_ORDER, most if not given or n < 4 else n - 1 - _SPARE_LINES)
        if highest >= 1:
            return range(1, highest + 1)
    elif order <= most:
        return range(order, order + 1)
    least = (order or 1) + 1 + (0 if given else _SPARE_LINES)
    reasons, n_of = np.unique(why[why != ""], return_counts=True)
    others = ", ".join(f"{k} {reason}" for k, reason in zip(n_of, reasons, strict=True))
    hint = "Identify lines yourself (--lines FILE), or use a longer exposure of the lamp."
    if given:
        hint = "Identify more lines, or use a lower order."
    elif np.count_nonzero(why == "saturated") >= least - n:
        hint = "Use a shorter exposure of the lamp."
    raise LampError(
        f"{counted(n, 'line')} can be used, and a solution of order {order or 1} needs {least}"
        + (f" (not used: {others})" if others else ""),
        hint=hint,
    )


def _weighted_fit(
    u: Values, wave: Values, sigma: Values, used: Flags, order: int, moved: Values
) -> tuple[Values, Values, float]:
    """Return coefficients, residuals (line), and the rms of lines predicted by all the others."""
    basis = polyvander(u, order)
    if moved[used].any():
        basis = np.column_stack([basis, moved])
    weighted = basis[used] / sigma[used, np.newaxis]
    q, r = np.linalg.qr(weighted)
    coefficients = np.linalg.solve(r, q.T @ (wave[used] / sigma[used]))
    residual = wave - basis @ coefficients
    leverage = np.add.reduce(q**2, axis=1)
    n = leverage.size
    if n <= basis.shape[1]:
        return coefficients, residual, 0.0
    weight = 1 / sigma[used] ** 2
    alone = residual[used] / np.maximum(1 - leverage, 1e-9)
    predicted = math.sqrt(float(np.add.reduce(weight * alone**2) / np.add.reduce(weight)))
    return coefficients, residual, predicted


def _scatter(
    u: Values, place: Values, error: Values, used: Flags, order: int, moved: Values
) -> float:
    """Return the scatter beyond the errors (pixel) that explains the residuals, outliers aside.

    The shapes of real lines leave residuals of 0.03 to 0.1 pixel where photons allow 0.003.
    """
    dof = int(np.count_nonzero(used)) - order - 1 - int(moved[used].any())
    if dof < 1:
        return 0.0

    n = dof + order + 1 + int(moved[used].any())

    def excess(scatter: float) -> float:
        sigma = np.hypot(error, scatter)
        left = _weighted_fit(u, place, sigma, used, order, moved)[1][used] / sigma[used]
        if n >= _MANY_LINES:
            return robust_std(left) ** 2 * n / dof - 1
        return float(np.add.reduce(left**2)) / dof - 1

    low, high = 0.0, 0.01
    if excess(low) <= 0:
        return 0.0
    while excess(high) > 0 and high < 1e3:
        low, high = high, 2 * high
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return high


def _dispersion_of(
    fit: _Fit, lines: xr.Dataset, x: Values, error: Values, wave: Values
) -> Dispersion:
    """Return the solution with its measures of quality, and the lines it was fitted to."""
    used = fit.why == ""
    n = int(np.count_nonzero(used))
    plain = Dispersion(tuple(map(float, fit.coefficients)), *fit.ends, n, *(math.nan,) * 3)
    step = np.abs(plain.dispersion(x))
    dof = n - fit.coefficients.size - int(fit.shift != 0)
    rms = rms_pixel = chi2 = power = math.nan
    if dof > 0:
        left, in_pixels = fit.residual[used], fit.residual[used] / step[used]
        rms = math.sqrt(float(np.add.reduce(left**2)) / n)
        rms_pixel = math.sqrt(float(np.add.reduce(in_pixels**2)) / n)
        chi2 = float(np.add.reduce((in_pixels / error[used]) ** 2)) / dof
    if "width" in lines:
        width = np.asarray(lines["width"].values, np.float64)
        known = used & (width > 0)
        if known.any():
            power = finite_median(wave[known] / (width[known] * step[known]))
    told = lines.assign(
        residual=("line", fit.residual, {"units": "Angstrom"}),
        used=("line", used),
        why_not=("line", fit.why),
    )
    return replace(
        plain,
        rms=rms,
        rms_pixel=rms_pixel,
        chi2=chi2,
        resolving_power=power,
        lamp=str(lines.attrs.get("lamp", "")),
        shift=fit.shift,
        lines=told,
    )


_MOST_CURVED, _MOST_CUBIC = 0.08, 0.005
"""Terms of dispersions, as parts of the half range: what gratings and prisms have at most."""
_LEAST_RMS = 0.05
_MOST_UNSURE = 0.5
"""Pixels; where wavelengths are known less well than so, a solution does not cover them."""


def _foreseen(u: Values, sigma: Values, half: float, at: Values) -> tuple[Values, Values]:
    """Return how lines foretell the places of others, and how unsure these are, pixel.

    The dispersion is a cubic, with terms as gratings and prisms have: what the lines do not tell
    of it is unknown within those, whatever polynomial goes through the lines.

    Parameters
    ----------
    u : (line), from -1 to 1 on the detector.
    sigma : (line), the error of its place, which is its wavelength over the dispersion, pixel.
    half : of the detector, pixel.
    at : (other), from -1 to 1.

    Returns
    -------
    weights, unsure : (other, line), by which places of lines add up to those of others; (other).
    """
    weighted = polyvander(u, 3) / sigma[:, np.newaxis]
    prior = np.diag([0.0, 0.0, (_MOST_CURVED * half) ** -2, (_MOST_CUBIC * half) ** -2])
    covariance = np.linalg.inv(weighted.T @ weighted + prior)
    basis = polyvander(at, 3)
    unsure = np.sqrt(np.einsum("ai,ij,aj->a", basis, covariance, basis))
    return basis @ covariance @ (weighted / sigma[:, np.newaxis]).T, unsure


class _Foretold(NamedTuple):
    """What the lines of a solution foretell of places: their own, then between each two of them.

    Parameters
    ----------
    x : (place), pixel.
    residual : (line), Angstrom.
    weights : (place, line), by which places of lines add up to it.
    """

    x: Values
    residual: Values
    weights: Values


def _require_lines_enough(
    found: Dispersion,
    fit: _Fit,
    detector: tuple[float, float],
    x: Values,
    error: Values,
    *,
    is_highest: bool,
) -> _Foretold:
    """Return what the lines of a solution foretell, or raise LampError if that is too little.

    They lie off every polynomial that so few of them allow, or leave a gap.

    Parameters
    ----------
    is_highest : no higher order can be taken; else that is told by the number of lines.
    """
    used = fit.why == ""
    middle, half = detector
    order = np.argsort(x[used], kind="stable")
    lit, own, residual = (each[used][order] for each in (x, error, fit.residual))
    dof = lit.size - fit.coefficients.size - int(fit.shift != 0)
    off = residual / np.abs(found.dispersion(lit))
    misfit = float(np.add.reduce(off**2 / (own**2 + _MOST_UNSURE**2)))
    is_highest |= dof <= _SPARE_LINES and found.order < _MOST_ORDER
    if is_highest and misfit > dof:
        is_saturated = "saturated" in fit.why
        raise LampError(
            f"{counted(lit.size, 'line')} can be used, which allow order {found.order} at most, "
            f"and lie {found.rms_pixel:.1f} pixel (rms) from it",
            hint="Use a shorter exposure of the lamp: some lines are saturated."
            if is_saturated
            else "Identify more lines yourself (--lines FILE), or use another lamp.",
        )
    sigma = np.hypot(own, max(found.rms_pixel, _LEAST_RMS))
    places = np.concatenate([lit, (lit[1:] + lit[:-1]) / 2])
    weights, unsure = _foreseen((lit - middle) / half, sigma, half, (places - middle) / half)
    # Beyond what the lines beside a gap are in doubt themselves.
    more = _more_between(unsure**2, lit.size)
    worst = int(np.argmax(more))
    if more[worst] > _MOST_UNSURE**2:
        low, high = lit[worst], lit[worst + 1]
        is_saturated = "saturated" in fit.why[(x > low) & (x < high)]
        raise LampError(
            f"Between x = {low:.1f} and {high:.1f} no line can be used, and the others leave the "
            f"wavelengths there unknown by {unsure[lit.size + worst]:.1f} pixel",
            hint="Use a shorter exposure of the lamp: lines there are saturated."
            if is_saturated
            else "Identify a line there yourself (--lines FILE), or use another lamp.",
        )
    return _Foretold(places, residual, weights)


def _swing(found: Dispersion, fit: _Fit, told: _Foretold) -> LampError | None:
    """Return the error of a polynomial that swings in a gap, where no line holds it; else None."""
    n = told.residual.size
    first, last = fit.ends
    step = abs(found.wavelength(last) - found.wavelength(first)) / (last - first)
    place = (found.wavelength(told.x) - found.wavelength(first)) / step
    away = np.abs(told.weights @ (place[:n] + told.residual / step) - place)
    swing = _more_between(away, n)
    worst = int(np.argmax(swing))
    if swing[worst] <= _MOST_UNSURE:
        return None
    return LampError(
        f"Between x = {told.x[worst]:.1f} and {told.x[worst + 1]:.1f} a polynomial of order "
        f"{found.order} swings by {swing[worst]:.1f} pixel",
        hint="Use a lower order, or identify a line there yourself (--lines FILE).",
    )


def _more_between(doubts: Values, n: int) -> Values:
    """Return how much more doubt is between n lines than at those beside, of both in one array."""
    at_lines, between = doubts[:n], doubts[n:]
    return between - np.maximum(at_lines[1:], at_lines[:-1])


# The lines of a lamp, in pixels.

_LEAST_SNR = 5.0
_FREE_WIDTH_SNR = 15.0
_ROUNDS = 12
_LEAST_PIXELS = 20
_MOST_LINES = 400
_WIDE = 1.25
_BESIDE = 0.05


def find_lamp_lines(arc: xr.Dataset) -> xr.Dataset:
    """Find the emission lines of a lamp's spectrum, and measure their centroids.

    Parameters
    ----------
    arc : `flux` (x), or `counts`; its `variance`, in its unit squared, and `dq`, where it has them.

    Returns
    -------
    lines : (line), in order of x: `x` and its standard deviation `x_err`, pixel, of a Gaussian
        integrated over pixels; its `flux` and `flux_err`, in the unit of the arc; `width`, its
        FWHM, pixel; and `problem`: "" for none, "blend" (two lines in one, or one on the flank of
        another), "saturated", "edge" (cut by the edge), or "sharp" (a cosmic ray or a hot pixel).
        Lines weaker than 5 times their noise are not listed. Attributes are `fwhm` (the lines'
        median), `first_pixel` and `last_pixel` of the arc, the share of its pixels that are
        `saturated`, and its `continuum`, the median over the highest pixel.

    Raises
    ------
    LampError
        The arc is no spectrum of lines: it has less than 20 pixels with data.
    UsageError
        It is no Dataset with `flux` or `counts` along x.

    Examples
    --------
    >>> import xarray as xr
    >>> x = np.arange(1.0, 301)
    >>> light = 100 + 5000 * np.exp(-((x - 100.3) ** 2) / 4)
    >>> light += 2000 * np.exp(-((x - 200.6) ** 2) / 4)
    >>> arc = xr.Dataset({"flux": ("x", light), "variance": ("x", light + 25)}, {"x": x})
    >>> find_lamp_lines(arc).x.values.round(2).tolist()
    [100.3, 200.6]
    """
    import xarray as xr

    check_dataset(arc, "the arc")
    name = FLUX if FLUX in arc else COUNTS
    if name not in arc or arc[name].dims != (X,):
        raise UsageError(
            f"An arc has flux or counts along x, but this has "
            f"{', '.join(f'{n} {v.dims}' for n, v in arc.data_vars.items()) or 'nothing'}",
            hint="Use the arc spectrum extracted with a target.",
        )
    flux = np.asarray(arc[name].values, np.float64)
    numbers = np.asarray(arc[X].values if X in arc.coords else np.arange(1, flux.size + 1), float)
    flags = arc[DQ].values if DQ in arc else np.zeros(flux.size, np.int64)
    good = np.isfinite(flux) & ((flags & (BAD_PIXEL | COSMIC_RAY | NO_DATA)) == 0)
    if np.count_nonzero(good) < _LEAST_PIXELS:
        raise LampError(
            f"The arc has {np.count_nonzero(good)} pixels with data, of {flux.size}",
            hint="Check the arc frame and the rows of the target.",
        )
    if VARIANCE in arc:
        variance = np.asarray(arc[VARIANCE].values, np.float64)
        good &= np.isfinite(variance) & (variance > 0)
    else:
        # Second differences of pixels beside each other: lines are few among them.
        jumps = flux[2:] - 2 * flux[1:-1] + flux[:-2]
        variance = np.full(flux.size, robust_std(jumps[np.isfinite(jumps)]) ** 2 / 6)
        variance = np.maximum(variance, 1e-12 * max(float(np.nanmax(np.abs(flux))), 1e-300) ** 2)
    found, fwhm = _measure_lines(_Arc(flux, variance, good, (flags & SATURATED) != 0))
    units = str(arc[name].attrs.get("units", "adu"))
    pixel = {"units": "pix"}
    highest = float(np.max(flux[good]))
    origin = float(numbers[0]) if numbers.size else 1.0
    return xr.Dataset(
        {
            "x": ("line", found.x + origin, {**pixel, "long_name": "centroid, FITS pixel"}),
            "x_err": ("line", found.x_err, pixel),
            "flux": ("line", found.flux, {"units": units}),
            "flux_err": ("line", found.flux_err, {"units": units}),
            "width": ("line", found.width, {**pixel, "long_name": "FWHM"}),
            "problem": ("line", found.problem),
        },
        attrs={
            "fwhm": fwhm,
            "first_pixel": origin,
            "last_pixel": origin + flux.size - 1,
            "saturated": float(np.count_nonzero(flags & SATURATED) / flux.size),
            "continuum": finite_median(flux[good]) / highest if highest > 0 else 0.0,
        },
    )


class _Arc(NamedTuple):
    """The spectrum of a lamp: (x) counts, their variance, which are good, and which saturated."""

    flux: Values
    variance: Values
    good: Flags
    saturated: Flags


class _Lines(NamedTuple):
    """Lines: (line) x from 0, its error, flux, its error, FWHM in pixels, and what is wrong."""

    x: Values
    x_err: Values
    flux: Values
    flux_err: Values
    width: Values
    problem: NDArray[np.str_]


def _measure_lines(arc: _Arc) -> tuple[_Lines, float]:
    """Return the lines of a lamp, and their typical FWHM, pixels."""
    light = np.interp(np.arange(arc.flux.size), np.flatnonzero(arc.good), arc.flux[arc.good])
    noise = np.sqrt(np.where(arc.good, arc.variance, np.median(arc.variance[arc.good])))
    fwhm = _typical_fwhm(light, noise, arc.saturated)
    empty = np.empty(0)
    lines = _Lines(empty, empty, empty, empty, empty, np.empty(0, "U9"))
    if not fwhm > 0:
        return lines, math.nan
    peaks = _find_peaks(light, noise, fwhm, np.zeros_like(light))
    for _ in range(2):
        # A second look, at what the lines found leave, finds those on the flanks of brighter ones.
        parameters, errors, chi2 = _fit_lines(arc._replace(flux=light), peaks, fwhm)
        known = np.abs(parameters[:, 0]) > 0
        if known.any():
            bright = parameters[:, 0] > _FREE_WIDTH_SNR * errors[:, 0]
            pool = parameters[bright if bright.any() else known, 2] * FWHM_PER_SIGMA
            fwhm = float(np.median(pool))
        model = _model_of(parameters, light.size)
        more = _find_peaks(light, noise, fwhm, model)
        apart = np.abs(more[:, np.newaxis] - parameters[:, 1]).min(axis=1, initial=np.inf)
        more = more[apart > 0.8 * fwhm]
        if not more.size or peaks.size + more.size > _MOST_LINES:
            break
        found = parameters[:, 1]  # one that left the image in its fit is no line
        found = found[(found > -0.5) & (found < light.size - 0.5)]
        peaks = np.sort(np.concatenate([found, more]))
    else:
        parameters, errors, chi2 = _fit_lines(arc._replace(flux=light), peaks, fwhm)
    return _judge_lines(arc, parameters, errors, chi2, fwhm), fwhm


def _typical_fwhm(light: Values, noise: Values, saturated: Flags) -> float:
    """Return the FWHM (pixel) of the brightest lines, the median; NaN where there is none."""
    floor = _baseline(light, 51)
    above = light - floor
    inner = (above[1:-1] >= above[:-2]) & (above[1:-1] > above[2:])
    peaks = np.flatnonzero(inner & (above[1:-1] > _LEAST_SNR * noise[1:-1])) + 1
    peaks = peaks[~saturated[peaks]]
    widths = []
    for peak in peaks[np.argsort(-above[peaks], kind="stable")][:25]:
        half = above[peak] / 2
        sides = []
        for step in (-1, 1):
            i = peak
            while 0 < i < light.size - 1 and above[i] > half:
                i += step
            sides.append(
                abs(i - peak) - (half - above[i]) / max(above[i - step] - above[i], 1e-300)
            )
        widths.append(sum(sides))
    if not widths:
        return math.nan
    return float(np.clip(np.percentile(widths, 40), 1.2, light.size / 5))


def _baseline(light: Values, width: int) -> Values:
    """Return the continuum under lines: a low percentile of the pixels around each, smoothed.

    By numpy: `scipy.ndimage` takes longer to import than a lamp to be measured.
    """
    width = min(width, light.size // 2 * 2 - 1)
    rank = width // 4
    around = np.lib.stride_tricks.sliding_window_view
    low = np.partition(around(np.pad(light, width // 2, mode="edge"), width), rank, axis=1)[:, rank]
    padded = np.pad(low, width // 2, mode="edge")
    return np.convolve(padded, np.full(width, 1 / width), "valid")


def _find_peaks(light: Values, noise: Values, fwhm: float, model: Values) -> Values:
    """Return where light beyond a model stands out as a line of a FWHM, pixels from 0."""
    sigma = fwhm / FWHM_PER_SIGMA
    reach = max(int(np.ceil(1.5 * fwhm)), 2)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    left = light - model
    left = left - _baseline(left, max(int(12 * fwhm) // 2 * 2 + 1, 31))
    if model.any():
        kernel = kernel - np.add.reduce(kernel) / kernel.size
    padded = np.pad(left, reach, mode="edge")
    sums = np.convolve(padded, kernel, "valid")
    spread = np.sqrt(np.convolve(np.pad(noise**2, reach, mode="edge"), kernel**2, "valid"))
    snr = sums / spread
    peak = (sums[1:-1] >= sums[:-2]) & (sums[1:-1] > sums[2:]) & (snr[1:-1] > _LEAST_SNR)
    found = np.flatnonzero(peak) + 1
    if model.any():
        # Wings that no Gaussian has must not become lines of their own.
        beside = np.array([model[max(i - 2 * reach, 0) : i + 2 * reach + 1].max() for i in found])
        found = found[left[found] > _BESIDE * beside] if found.size else found
    if found.size > _MOST_LINES:
        found = np.sort(found[np.argsort(-snr[found], kind="stable")[:_MOST_LINES]])
    return found.astype(np.float64)


def _model_of(parameters: Values, n_pixels: int) -> Values:
    """Return the light of lines (flux, x, sigma, base) on pixels (x), without their bases."""
    from scipy.special import ndtr  # type: ignore[import-untyped]

    model = np.zeros(n_pixels)
    if not len(parameters):
        return model
    flux, x, sigma, _ = parameters.T
    reach = int(np.ceil(4 * sigma.max())) + 1
    pixel = np.rint(x).astype(np.intp)[:, np.newaxis] + np.arange(-reach, reach + 1)
    away = (pixel - x[:, np.newaxis]) / sigma[:, np.newaxis]
    half = 0.5 / sigma[:, np.newaxis]
    light = flux[:, np.newaxis] * (ndtr(away + half) - ndtr(away - half))
    inside = (pixel >= 0) & (pixel < n_pixels)
    np.add.at(model, pixel[inside], light[inside])
    return model


def _fit_lines(arc: _Arc, peaks: Values, fwhm: float) -> tuple[Values, Values, Values]:
    """Fit Gaussians, integrated over pixels, on constant bases, to all lines at once.

    Each line is fitted in a window of its own by damped Newton steps, with the light of its
    neighbours, as they stand, taken away. The widths of faint lines are that of the bright ones.

    Returns
    -------
    parameters, errors, chi2 : (line, 4) flux, x, sigma and base; (line, 4); and per degree (line).
    """
    from scipy.special import ndtr

    sigma0 = fwhm / FWHM_PER_SIGMA
    reach = max(int(np.ceil(1.4 * fwhm)), 3)
    n = arc.flux.size
    offsets = np.arange(-reach, reach + 1)
    centre = np.rint(peaks).astype(np.intp)
    pixel = centre[:, np.newaxis] + offsets
    inside = (pixel >= 0) & (pixel < n)
    at = np.clip(pixel, 0, n - 1)
    weight = np.where(inside & arc.good[at] & ~arc.saturated[at], 1 / arc.variance[at], 0.0)
    data = arc.flux[at]
    base = np.percentile(data, 15, axis=1) if len(peaks) else np.empty(0)
    height = np.maximum(arc.flux[centre] - base, 0.0)
    p = np.stack([height * sigma0 * 2.5066, peaks, np.full(peaks.size, sigma0), base], axis=1)
    if not len(p):
        return p, p.copy(), np.empty(0)
    # With less than six pixels a width cannot be told.
    enough = np.count_nonzero(weight, axis=1) >= 6
    for turn in range(_ROUNDS):
        others = _model_of(p, n)[at] * inside
        away = (pixel - p[:, 1:2]) / p[:, 2:3]
        half = 0.5 / p[:, 2:3]
        up, down = away + half, away - half
        share = ndtr(up) - ndtr(down)
        bell_up, bell_down = np.exp(-0.5 * up**2) / 2.5066, np.exp(-0.5 * down**2) / 2.5066
        own = p[:, :1] * share
        left = data - (others - own * inside) - own - p[:, 3:]
        by_x = -p[:, :1] / p[:, 2:3] * (bell_up - bell_down)
        by_sigma = -p[:, :1] / p[:, 2:3] * (up * bell_up - down * bell_down)
        slopes = np.stack([share, by_x, by_sigma, np.ones_like(share)], axis=2)
        normal = np.einsum("lpi,lp,lpj->lij", slopes, weight, slopes)
        right = np.einsum("lpi,lp,lp->li", slopes, weight, left)
        if turn == 3:
            enough &= p[:, 0] ** 2 * _solved(normal)[1][:, 0] ** -1 > _FREE_WIDTH_SNR**2
            bright = p[enough, 2]
            sigma0 = float(np.median(bright)) if bright.size else sigma0
            p[~enough, 2] = sigma0
        fixed = ~enough
        normal[fixed, 2, :] = normal[fixed, :, 2] = 0.0
        normal[fixed, 2, 2] = 1.0
        right[fixed, 2] = 0.0
        step, variances = _solved(normal, right)
        step[:, 1] = np.clip(step[:, 1], -0.7 * sigma0, 0.7 * sigma0)
        step[:, 2] = np.clip(step[:, 2], -0.25 * p[:, 2], 0.25 * p[:, 2])
        p = p + (0.7 if turn < 4 else 1.0) * step
        p[:, 1] = np.clip(p[:, 1], centre - 1.2 * fwhm, centre + 1.2 * fwhm)
        p[:, 2] = np.clip(p[:, 2], 0.3 * sigma0, 3 * sigma0)
    dof = np.maximum(np.count_nonzero(weight, axis=1) - np.where(enough, 4, 3), 1)
    chi2 = np.add.reduce(weight * left**2, axis=1) / dof
    errors = np.sqrt(np.maximum(variances, 0.0))
    errors[fixed, 2] = 0.0
    return p, errors, chi2


def _solved(normal: Values, right: Values | None = None) -> tuple[Values, Values]:
    """Return the solutions of small linear systems (line, 4, 4), and their variances (line, 4)."""
    scale = np.sqrt(np.maximum(np.einsum("lii->li", normal), 1e-100))
    scaled = normal / scale[:, :, np.newaxis] / scale[:, np.newaxis, :]
    scaled = scaled + 1e-9 * np.eye(normal.shape[1])
    inverse = np.linalg.inv(scaled)
    variances = np.einsum("lii->li", inverse) / scale**2
    if right is None:
        return variances, variances
    step = np.einsum("lij,lj->li", inverse, right / scale) / scale
    return step, variances


def _judge_lines(
    arc: _Arc, parameters: Values, errors: Values, chi2: Values, fwhm: float
) -> _Lines:
    """Return the lines that are real, with what is wrong with each."""
    flux, x, sigma, _ = parameters.T
    n = arc.flux.size
    # Real lines are no Gaussians: where the fit is that bad, the errors tell it.
    worse = np.sqrt(np.where(chi2 > 3, chi2, 1.0))
    errors = errors * worse[:, np.newaxis]
    centre = np.clip(np.rint(x).astype(np.intp), 0, n - 1)
    reach = max(int(np.ceil(0.7 * fwhm)), 1)
    around = centre[:, np.newaxis] + np.arange(-reach, reach + 1)
    inside = (around >= 0) & (around < n)
    around = np.clip(around, 0, n - 1)
    saturated = (arc.saturated[around] & inside).any(axis=1)
    real = (flux > _LEAST_SNR * errors[:, 0]) | saturated
    real &= (x >= 0) & (x <= n - 1) & np.isfinite(parameters).all(axis=1)
    typical = float(np.median(sigma[real])) if real.any() else fwhm / FWHM_PER_SIGMA
    free = errors[:, 2] > 0
    wide = free & (sigma > _WIDE * typical) & (sigma - typical > 3 * errors[:, 2])
    sharp = free & (sigma < 0.6 * typical) & (typical - sigma > 3 * errors[:, 2])
    gap = np.abs(x[:, np.newaxis] - x)
    near = (gap > 0) & (gap < 1.3 * fwhm) & real
    wide |= (near & (flux > _BESIDE * flux[:, np.newaxis])).any(axis=1)
    spoilt = (~arc.good[around] & inside).any(axis=1)
    edge = (x < 0.75 * fwhm) | (x > n - 1 - 0.75 * fwhm) | spoilt
    problem = np.full(x.size, "", "U9")
    for name, flagged in (
        ("sharp", sharp),
        ("blend", wide),
        ("edge", edge),
        ("saturated", saturated),
    ):
        problem[flagged] = name
    order = np.flatnonzero(real)[np.argsort(x[real], kind="stable")]
    return _Lines(
        x[order],
        np.maximum(errors[order, 1], 1e-6),
        flux[order],
        errors[order, 0],
        sigma[order] * FWHM_PER_SIGMA,
        problem[order],
    )


# Lines of the elements.


def air_wavelength(vacuum: Any) -> Any:
    """Return wavelengths in air of wavelengths in vacuum, Angstrom (Morton 2000, ApJS 130, 403).

    Examples
    --------
    >>> round(float(air_wavelength(5854.1101)), 4)
    5852.4877
    """
    vacuum = np.asarray(vacuum, np.float64)
    square = (1e4 / vacuum) ** 2
    excess = 8.34254e-5 + 2.406147e-2 / (130 - square) + 1.5998e-4 / (38.9 - square)
    return (vacuum / (1 + excess))[()]


class _Atlas(NamedTuple):
    """Known lines, in order of wavelength.

    Parameters
    ----------
    wave : (line), air, Angstrom.
    strength : (line), relative to the strongest of the ion within 500 Angstrom.
    is_short : (line), whether it is in the short list, which identifies.
    ion : (line), such as "NeI".
    """

    wave: Values
    strength: Values
    is_short: Flags
    ion: NDArray[np.str_]


_NEIGHBOURHOOD = 500.0


@lru_cache(maxsize=64)
def _atlas_of(elements: tuple[str, ...]) -> _Atlas:
    """Return the lines of elements."""
    rows: list[tuple[float, float, str, str]] = []
    for element in elements:
        text = resources.files("arrayred").joinpath("lamps", f"{element}.txt").read_text("utf-8")
        for line in text.splitlines():
            if line and not line.startswith("#"):
                words = line.split()
                rows.append((float(words[0]), float(words[1]), words[2], words[3]))
    rows.sort()
    wave = np.array([row[0] for row in rows], np.float64)
    strength = np.array([row[1] for row in rows], np.float64)
    ion = np.array([row[2] for row in rows])
    near = (np.abs(wave[:, np.newaxis] - wave) < _NEIGHBOURHOOD) & (ion[:, np.newaxis] == ion)
    strength = strength / np.where(near, strength, 0.0).max(axis=1)
    return _Atlas(wave, strength, np.array([row[3] == "1" for row in rows]), ion)


class _Features(NamedTuple):
    """Peaks that lines of a lamp make at a resolution, in order of wavelength.

    Parameters
    ----------
    wave : (feature), of the peak, Angstrom.
    error : (feature), by what it may shift, Angstrom, as the strength of each line in it is known
        to a factor of two only, and those of two ions against each other to one of five.
    strength : (feature), of its strongest line.
    is_short : (feature), whether that line is in the short list.
    ion : (feature), of that line.
    """

    wave: Values
    error: Values
    strength: Values
    is_short: Flags
    ion: NDArray[np.str_]


_RESOLUTION_STEP = 1.12
_LINE_ERROR, _ION_ERROR = 0.7, 1.1
"""Of the ln of the strength of a line among those of its ion, and of all lines of an ion."""
_N_DRAWN = 64
"""Number of strengths drawn of each part of a line."""


def _features_at(elements: tuple[str, ...], fwhm: float) -> _Features:
    """Return the peaks of elements at a resolution (FWHM, Angstrom), known to 6 %."""
    return _features(elements, round(math.log(fwhm) / math.log(_RESOLUTION_STEP)))


@lru_cache(maxsize=512)
def _features(elements: tuple[str, ...], number: int) -> _Features:
    """Return the peaks of elements where the FWHM is that power of `_RESOLUTION_STEP`, Angstrom."""
    atlas = _atlas_of(elements)
    fwhm = _RESOLUTION_STEP**number
    sigma = fwhm / FWHM_PER_SIGMA
    hidden = np.zeros(atlas.wave.size, bool)
    light, first, second = atlas.strength.copy(), np.zeros(hidden.size), np.zeros(hidden.size)
    for k in range(1, atlas.wave.size):
        gap = atlas.wave[k:] - atlas.wave[:-k]
        if not (gap < 2 * fwhm).any():
            break
        # A line makes a peak unless it lies on the flank of one that is stronger there.
        for mine, other, distance in (
            (slice(None, -k), slice(k, None), gap),
            (slice(k, None), slice(None, -k), -gap),
        ):
            away = np.minimum((distance / sigma) ** 2, 60.0)
            rival = atlas.strength[other] > atlas.strength[mine]
            shade = atlas.strength[other] * np.exp(-0.5 * away)
            near = np.abs(distance) < 1.2 * fwhm
            flank = (np.abs(distance) < 0.85 * fwhm) | (shade > 0.7 * atlas.strength[mine])
            hidden[mine] |= rival & near & flank
            weight = atlas.strength[other] * np.exp(-0.25 * away)
            light[mine] += weight
            first[mine] += weight * distance
            alike = atlas.ion[other] == atlas.ion[mine]
            # Of the ratio of two lines, which their ions share or do not.
            unsure = math.sqrt(2) * np.where(
                alike, _LINE_ERROR, math.hypot(_LINE_ERROR, _ION_ERROR)
            )
            second[mine] += (unsure * weight * distance) ** 2
    at = np.flatnonzero(~hidden)
    shift = first[at] / light[at]
    wave = atlas.wave[at] + shift
    error = np.sqrt(second[at]) / light[at]
    order = np.argsort(wave, kind="stable")
    at = at[order]
    return _Features(
        wave[order], error[order], atlas.strength[at], atlas.is_short[at], atlas.ion[at]
    )


# Which line is which.

_N_PAIRED = 6
_N_JUDGED = 12
_N_LINES = 45
_FIRST_WAVE, _LAST_WAVE = 2900.0, 11000.0
_LEAST_DISPERSION, _MOST_DISPERSION = 0.05, 15.0
_MOST_RANK = 14
_COARSE, _LANDMARK = 6.0, 25.0
_NARROW, _AROUND = 0.08, 0.25
_KEPT_OF_PAIR, _KEPT_OF_ELEMENT = 400, 1500
_LEAST_SCORE = 4.0
_WORTH = 0.4
_LEAST_LINES = 6


class _Effort(NamedTuple):
    """How far a search goes.

    Parameters
    ----------
    n_refined, n_kept : candidates refined for each lamp, and of these judged.
    """

    n_refined: int
    n_kept: int


# A search of fewer pairs or curvatures is no shortcut: it found a variant, 10^-17 expected by
# chance and one end 19 pixels off, where the whole one finds the lamp with 10^-34.
_BLIND = _Effort(300, 8)
_FOR_HINT = _Effort(60, 3)


class _Guess(NamedTuple):
    """Candidates for a solution, polynomials of u (candidate, power), and their dispersion."""

    coefficients: Values
    step: Values


class _Comb(NamedTuple):
    """What is known of the lines before they are identified, the brightest first.

    Parameters
    ----------
    x, error, width, flux : (line), pixel, pixel, pixel, and the arc's unit.
    u : (line), place on the detector, from -1 to 1.
    middle, half : of the detector, pixel.
    fwhm : typical, pixel.
    number : (line), its place among the lines as given.
    is_loose : (line), whether its centroid may be wrong: it is saturated, or a blend.
    """

    x: Values
    error: Values
    width: Values
    flux: Values
    u: Values
    middle: float
    half: float
    fwhm: float
    number: NDArray[np.intp]
    is_loose: Flags


class _Evidence(NamedTuple):
    """A candidate, refined and judged.

    Parameters
    ----------
    coefficients : of the powers of u, Angstrom.
    log10_nfa : of the expected number of solutions as good by chance.
    wave, wave_error : (line), of the feature matched, NaN for none, Angstrom.
    ion : (line), "" for none.
    flux_explained : share of the light in lines that are matched.
    list_seen : share of the strong lines of the list, in the range of the lines, that are there;
        NaN where the rest of the evidence is too weak.
    n_matched : number of lines matched.
    lamp : its name.
    step : Angstrom per pixel.
    """

    coefficients: Values
    log10_nfa: float
    wave: Values
    wave_error: Values
    ion: NDArray[np.str_]
    flux_explained: float
    list_seen: float
    n_matched: int
    lamp: str
    step: float

    @property
    def is_strong(self) -> bool:
        """Return whether a solution could be told from chance by itself."""
        return (
            self.log10_nfa <= _LOG10_NFA
            and self.n_matched >= _LEAST_MATCHED
            and self.flux_explained >= _LEAST_EXPLAINED
            and self.list_seen >= _LEAST_SEEN
        )


def _detector_of(lines: xr.Dataset) -> tuple[float, float]:
    """Return the middle of the detector along the dispersion, and half of its length, pixel."""
    x = np.asarray(lines["x"].values, np.float64)
    x = x[np.isfinite(x)]
    first = float(lines.attrs.get("first_pixel", x.min(initial=1.0)))
    last = float(lines.attrs.get("last_pixel", x.max(initial=2.0)))
    return (first + last) / 2, max((last - first) / 2, 1.0)


def _comb_of(lines: xr.Dataset) -> _Comb:
    """Return the lines that can be identified, brightest first: neither cut nor sharp."""
    x = np.asarray(lines["x"].values, np.float64)
    flux = np.asarray(lines["flux"].values, np.float64)
    error = np.asarray(lines["x_err"].values, np.float64)
    width = np.asarray(lines["width"].values, np.float64)
    problem = lines["problem"].values.astype(str)
    fits = np.isfinite(x) & (flux > 0) & ~np.isin(problem, ("edge", "sharp"))
    index = np.flatnonzero(fits)
    index = index[np.argsort(-flux[index], kind="stable")]
    middle, half = _detector_of(lines)
    fwhm = float(lines.attrs.get("fwhm", finite_median(width) if width.size else 3.0))
    is_loose = np.isin(problem[index], ("saturated", "blend"))
    return _Comb(
        x[index], error[index], width[index], flux[index], (x[index] - middle) / half,
        middle, half, fwhm, index, is_loose,
    )  # fmt: skip


def _prominent(comb: _Comb, n: int) -> NDArray[np.intp]:
    """Return the n most prominent lines: bright, and bright for where they lie.

    A detector is blind at one end, and a lamp bright at another: the brightest lines alone may all
    lie in a tenth of the range.
    """
    stronger = np.arange(comb.u.size)
    near = np.abs(comb.u[:, np.newaxis] - comb.u) < 0.3
    local = np.array([np.count_nonzero(near[i, :i]) for i in range(comb.u.size)])
    rank = np.minimum(stronger, 3 * local + 2)
    return np.argsort(rank, kind="stable")[:n]


def _guesses_of_pairs(
    comb: _Comb,
    element: str,
    lamps: tuple[str, ...],
    dispersion: float | None,
    center: float | None,
    is_coarse: bool,
) -> dict[str, _Guess]:
    """Return candidates by lamp: pairs of bright lines laid on pairs of lines of an element.

    Each pair of a pair sets a line through two points; the curvature of a grating's dispersion, a
    change of up to 16 % from the middle to an end, is tried in steps that a line's width covers.
    All the elements of a lamp together say how many of its bright lines fit: in a mixture, an
    element alone explains too few of them to stand out.
    """
    bright = _prominent(comb, _N_PAIRED)
    u = comb.u[_prominent(comb, _N_JUDGED)]
    tolerance = _first_tolerance(comb) / comb.half
    n_curves = max(int(np.ceil(_MOST_CURVED / (2.5 * tolerance))), 1)
    curves = np.linspace(-_MOST_CURVED, _MOST_CURVED, 2 * n_curves + 1)
    wave_low, wave_high = _listed_pairs(element, is_coarse)
    gap = wave_high - wave_low
    search = _Search(lamps, is_coarse, u.size)
    pools: dict[str, list[tuple[Values, Values, Values]]] = {lamp: [] for lamp in lamps}
    for i, one in enumerate(bright):
        for other in bright[i + 1 :]:
            a, b = sorted((float(comb.u[one]), float(comb.u[other])))
            if b - a < 0.12:
                continue
            slope = gap / (b - a)
            step = slope / comb.half
            fits = (step > _LEAST_DISPERSION) & (step < _MOST_DISPERSION)
            fits &= (step * comb.fwhm > _COARSE) == is_coarse
            if dispersion is not None:
                fits &= np.abs(step / abs(dispersion) - 1) < _NARROW
            for sign in (1.0, -1.0):
                start = wave_low if sign > 0 else wave_high
                at_low = start - sign * slope * (a + 1)
                at_high = start + sign * slope * (1 - a)
                inside = fits & (np.minimum(at_low, at_high) > _FIRST_WAVE)
                inside &= np.maximum(at_low, at_high) < _LAST_WAVE
                if center is not None:
                    inside &= np.abs((at_low + at_high) / 2 - center) < _AROUND * slope
                if not inside.any():
                    continue
                first, tilt = start[inside], sign * slope[inside]
                # wave(u) = first + tilt ((u - a) + curve (u - a)(u - b))
                shape = (u - a) + curves[:, np.newaxis] * (u - a) * (u - b)
                ends = np.sort(
                    first[:, np.newaxis] + tilt[:, np.newaxis] * np.array([-1 - a, 1 - a])
                )
                width = 2 * tolerance * np.abs(tilt)
                chance = -np.expm1(-search.held(ends) * width / np.ptp(ends, axis=1))
                kept = search.kept(first, tilt, shape, tolerance * np.abs(tilt), chance)
                for lamp, own, (row, column, hits) in zip(lamps, chance, kept, strict=True):
                    if not row.size:
                        continue
                    value = _surprise(hits / u.size, own[row]) * u.size
                    if value.size > _KEPT_OF_PAIR:
                        best = np.argsort(-value, kind="stable")[:_KEPT_OF_PAIR]
                        row, column, value = row[best], column[best], value[best]
                    t, c = tilt[row], curves[column]
                    poly = np.stack(
                        [first[row] + t * (-a + c * a * b), t * (1 - c * (a + b)), t * c], axis=1
                    )
                    pools[lamp].append((value, poly, np.abs(t) / comb.half))
    found = {}
    for lamp, pool in pools.items():
        if pool:
            value, poly, step = (np.concatenate(parts) for parts in zip(*pool, strict=True))
            best = _distinct(poly, step, value, comb, _KEPT_OF_ELEMENT)
            found[lamp] = _Guess(poly[best], step[best])
    return found


@lru_cache(maxsize=64)
def _list_for(elements: tuple[str, ...], is_coarse: bool) -> tuple[Values, Values]:
    """Return wavelengths and strengths of the short list; at low resolution of landmarks alone.

    Where a line is 6 Angstrom wide or more, a short list has a line within its width nearly
    anywhere, and fits anything.
    """
    atlas = _atlas_of(elements)
    wave, strength = atlas.wave[atlas.is_short], atlas.strength[atlas.is_short]
    if is_coarse:
        near = np.abs(wave[:, np.newaxis] - wave) < _LANDMARK
        alone = ~(near & (strength > strength[:, np.newaxis])).any(axis=1)
        wave, strength = wave[alone], strength[alone]
    return wave, strength


@lru_cache(maxsize=64)
def _listed_pairs(element: str, is_coarse: bool) -> tuple[Values, Values]:
    """Return the wavelengths of the pairs of lines of an element to try, by their distance."""
    wave, strength = _list_for((element,), is_coarse)
    low, high = np.triu_indices(wave.size, 1)
    gap = wave[high] - wave[low]
    kept = np.flatnonzero(_ranks(wave, strength, gap, low, high) <= _MOST_RANK)
    kept = kept[np.argsort(gap[kept], kind="stable")]
    return wave[low[kept]], wave[high[kept]]


def _ranks(
    wave: Values, strength: Values, gap: Values, low: NDArray[np.intp], high: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Return by how many stronger lines, at most, the lines of pairs are surrounded.

    Bright lines of the lamp are bright ones of the list: within the range that a pair spans, few
    are stronger.
    """
    order = np.argsort(gap)
    rank = np.zeros(gap.size, np.intp)
    for part in np.array_split(order, 12):
        if part.size:
            reach = float(np.median(gap[part])) * 0.75
            near = np.abs(wave[:, np.newaxis] - wave) < reach
            n = np.count_nonzero(near & (strength > strength[:, np.newaxis]), axis=1)
            rank[part] = np.maximum(n[low[part]], n[high[part]])
    return rank


_TABLE_STEP = 0.25
_LOG_TOLERANCE = math.log(1.25)
_BITS = 5
_BLOCK = 1 << 14
_TABLE_START, _TABLE_END = _FIRST_WAVE - 1500, _LAST_WAVE + 1500
_CHANCES = np.linspace(-7.0, 0.0, 141)


class _Search:
    """How many lines of candidates lie near to lines of the lists of lamps, all lamps at once.

    Parameters
    ----------
    lamps : their names, at most 12.
    is_coarse : whether of landmarks alone (`_list_for`).
    n_lines : that are laid on the lists, at most 31.
    """

    def __init__(self, lamps: tuple[str, ...], is_coarse: bool, n_lines: int) -> None:
        self._lamps, self._is_coarse = lamps, is_coarse
        self._count = np.stack([_count_table(lamp, is_coarse) for lamp in lamps])
        # The least number of lines that chance (by its log) does not make.
        share = np.arange(n_lines + 1) / n_lines
        score = _surprise(share, np.exp(_CHANCES)[:, np.newaxis]) * n_lines
        self._needed = np.maximum(np.count_nonzero(score <= _LEAST_SCORE, axis=1), 4)

    def kept(
        self, first: Values, tilt: Values, shape: Values, tolerance: Values, chance: Values
    ) -> list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64]]]:
        """Return for each lamp which candidates and curves are worth keeping, and their lines.

        Parameters
        ----------
        first, tilt : (candidate), wavelength, and its slope.
        shape : (curve, line), so that a line lies at first + tilt * shape.
        tolerance : (candidate), Angstrom; it is taken to 12 %.
        chance : (lamp, candidate), that a line is near to one of the lamp's list by chance.
        """
        level = np.rint(np.log(tolerance) / _LOG_TOLERANCE).astype(int)
        lowest = int(level.min())
        levels = range(lowest, int(level.max()) + 1)
        tables = [_near_table(self._lamps, self._is_coarse, one) for one in levels]
        table = np.concatenate(tables)
        begins = np.cumsum([0] + [one.size for one in tables[:-1]])[level - lowest]
        cell = np.array([_cell_of(one) for one in levels])[level - lowest] * _TABLE_STEP
        origin = (begins + (first - _TABLE_START) / cell).astype(np.float32)[:, np.newaxis]
        scale = (tilt / cell).astype(np.float32)[:, np.newaxis]
        # As many lines as needed carry into the highest of a lamp's bits.
        needed = self._needed.take(np.searchsorted(_CHANCES, np.log(chance)), mode="clip")
        shift = _BITS * np.arange(len(self._lamps))[:, np.newaxis]
        lacking = np.add.reduce((2 ** (_BITS - 1) - needed) << shift, axis=0)[:, np.newaxis]
        enough = int(np.add.reduce(2 ** (_BITS - 1) << shift, axis=None))
        parts = []
        # Few candidates at a time, so that all of it stays in the processor's cache.
        n_rows = max(_BLOCK // len(shape), 1)
        for begin in range(0, first.size, n_rows):
            rows = slice(begin, begin + n_rows)
            total = np.zeros((origin[rows].size, len(shape)), np.int64)
            for line in shape.T.astype(np.float32):
                place = scale[rows] * line
                place += origin[rows]
                total += table.take(place.astype(np.intp), mode="clip")
            row, column = np.nonzero((total + lacking[rows]) & enough)
            parts.append((row + begin, column, total[row, column]))
        row, column, total = (np.concatenate(part) for part in zip(*parts, strict=True))
        found = []
        for k in range(len(self._lamps)):
            hits = (total >> (_BITS * k)) & (2**_BITS - 1)
            own = hits >= needed[k, row]
            found.append((row[own], column[own], hits[own]))
        return found

    def held(self, ends: Values) -> Values:
        """Return how many lines each list has between ends (candidate, 2): (lamp, candidate)."""
        cell = ((ends - _TABLE_START) / _TABLE_STEP).astype(np.intp)
        count = self._count.take(cell, axis=1, mode="clip")
        return np.maximum(count[..., 1] - count[..., 0], 1.0)


def _table_grid() -> Values:
    """Return the wavelengths of the tables' cells, Angstrom."""
    return np.arange(_TABLE_START, _TABLE_END, _TABLE_STEP)


@lru_cache(maxsize=64)
def _count_table(lamp: str, is_coarse: bool) -> Values:
    """Return how many lines of a list lie below each cell."""
    return np.searchsorted(_list_for(LAMPS[lamp], is_coarse)[0], _table_grid()).astype(np.float64)


@lru_cache(maxsize=64)
def _distance_table(lamp: str, is_coarse: bool) -> NDArray[np.float32]:
    """Return how far each cell is from the nearest line of a list, Angstrom."""
    grid = _table_grid()
    wave, _ = _list_for(LAMPS[lamp], is_coarse)
    nearest = wave[np.searchsorted((wave[1:] + wave[:-1]) / 2, grid)]
    return np.abs(nearest - grid).astype(np.float32)


def _cell_of(level: int) -> int:
    """Return the width of a table's cells, in `_TABLE_STEP`: a quarter of the tolerance or less."""
    tolerance = math.exp(level * _LOG_TOLERANCE)
    return int(2 ** max(math.floor(math.log2(tolerance / (4 * _TABLE_STEP))), 0))


@lru_cache(maxsize=512)
def _near_table(lamps: tuple[str, ...], is_coarse: bool, level: int) -> NDArray[np.int64]:
    """Return for each cell which lamps have a line within a tolerance of 1.25**level, in bits."""
    tolerance, cell = math.exp(level * _LOG_TOLERANCE), _cell_of(level)
    near = (_distance_table(lamp, is_coarse)[cell // 2 :: cell] <= tolerance for lamp in lamps)
    table = np.zeros(_distance_table(lamps[0], is_coarse)[cell // 2 :: cell].size, np.int64)
    for k, one in enumerate(near):
        table |= one.astype(np.int64) << (_BITS * k)
    return table


def _surprise(share: Values, chance: Values) -> Values:
    """Return -ln of the chance (per line) that at least a share of lines match (Hoeffding 1963)."""
    p = np.clip(chance, 1e-9, 1 - 1e-9)
    k = np.clip(share, 1e-12, 1 - 1e-12)
    distance = k * np.log(k / p) + (1 - k) * np.log((1 - k) / (1 - p))
    return np.where(k > p, distance, 0.0)


def _distinct(poly: Values, step: Values, score: Values, comb: _Comb, n: int) -> NDArray[np.intp]:
    """Return the n best of candidates, one of those that agree within 3 FWHM at both ends."""
    order = np.argsort(-score, kind="stable")[: 40 * n]
    ends = poly[order] @ polyvander(np.array([-0.7, 0.0, 0.7]), poly.shape[1] - 1).T
    grid = np.rint(ends / (3 * comb.fwhm * step[order, np.newaxis])).astype(np.int64)
    # One number for each cell: np.unique of rows takes ten times as long.
    key = np.rint(np.log(step[order]) / 0.05).astype(np.int64)
    for column in grid.T:
        key = (key << 18) ^ (column & (2**18 - 1))
    _, first = np.unique(key, return_index=True)
    return order[np.sort(first)[:n]]


def _refined(comb: _Comb, guess: _Guess, wave: Values) -> tuple[Values, Values]:
    """Pull candidates onto the lines of a list; return coefficients (candidate, 4) and scores."""
    n = min(comb.u.size, _N_LINES)
    u = comb.u[:n]
    basis = polyvander(u, 3)
    poly = np.zeros((len(guess.step), 4))
    poly[:, :3] = guess.coefficients
    start = _first_tolerance(comb)
    bounds = [start, 0.7 * start, *(f * comb.fwhm for f in (0.8, 0.6, 0.45, 0.35, 0.35))]
    middle = (wave[1:] + wave[:-1]) / 2
    for turn, bound in enumerate(bounds):
        bound = min(bound, start)
        place = poly @ basis.T
        left = (wave[np.searchsorted(middle, place)] - place) / guess.step[:, np.newaxis]
        weight = np.where(np.abs(left) < bound, (1 - (left / bound) ** 2) ** 2, 0.0)
        terms = 3 if turn < 3 else 4
        prior = np.diag(np.array([0.02, 0.02, 0.2, 1.0])[:terms])
        b = basis[:, :terms]
        normal = np.einsum("cl,li,lj->cij", weight, b, b) + prior
        right = np.einsum("cl,cl,li->ci", weight, left, b)
        poly[:, :terms] += (
            np.linalg.solve(normal, right[..., np.newaxis])[..., 0] * (guess.step[:, np.newaxis])
        )
    score = _scored(comb, poly @ basis.T, guess.step, wave, 0.35 * comb.fwhm)
    slope = poly[:, 1:2] + 2 * poly[:, 2:3] * u + 3 * poly[:, 3:4] * u**2
    return poly, np.where(_is_steady(slope), score, 0.0)


def _scored(comb: _Comb, place: Values, step: Values, wave: Values, tolerance: float) -> Values:
    """Return how little chance makes as many lines (candidate, line) match a list, nats.

    Parameters
    ----------
    place : (candidate, line), Angstrom, of the brightest lines.
    step : (candidate), Angstrom per pixel.
    wave : of the list.
    tolerance : pixel.
    """
    n = place.shape[1]
    near = np.searchsorted((wave[1:] + wave[:-1]) / 2, place)
    left = np.abs(wave[near] - place) / step[:, np.newaxis]
    share = np.count_nonzero(left < tolerance, axis=1) / n
    u = comb.u[:n]
    ends = np.sort(place[:, [np.argmin(u), np.argmax(u)]], axis=1)
    held = np.searchsorted(wave, ends[:, 1]) - np.searchsorted(wave, ends[:, 0])
    span = np.maximum(np.ptp(ends, axis=1), 1e-9)
    chance = -np.expm1(-(held + 1) * 2 * tolerance * step / span)
    return np.asarray(_surprise(share, chance) * n, np.float64)


def _first_tolerance(comb: _Comb) -> float:
    """Return by how much a first guess may miss a line, pixel."""
    return max(1.0 * comb.fwhm, 0.0024 * comb.half)


_LOG10_NFA = -2.0
_LEAST_EXPLAINED = 0.7
_LEAST_SEEN = 0.7
_LEAST_MATCHED = 8
_LEAST_MARGIN = 3.0
_ALIKE, _NEARLY_ALL = 0.8, 0.8
_MOST_MIXED = 0.3
"""Lines whose parts, of unknown strengths, shift the centroid by more (pixel) are blends."""
_TOLERANCES = (0.06, 0.12, 0.2, 0.35)
_BEYOND = _TOLERANCES[-1]


def _judged(
    comb: _Comb, poly: Values, step: float, lamp: str, log10_tests: float
) -> _Evidence | None:
    """Fit a candidate to the peaks of a lamp at its resolution, and weigh the evidence for it.

    Returns
    -------
    evidence : None where fewer than `_LEAST_LINES` lines match.
    """
    features = _features_at(LAMPS[lamp], comb.fwhm * step)
    n = min(comb.u.size, _N_LINES)
    u, error, flux = comb.u, comb.error, comb.flux
    middle = (features.wave[1:] + features.wave[:-1]) / 2
    bound = 0.4
    degree = 2
    for _ in range(6):
        place = np.asarray(polyval(u, poly), np.float64)
        near = np.searchsorted(middle, place)
        left = (features.wave[near] - place) / step
        matched = np.abs(left) < bound * comb.fwhm
        matched &= _first_of_each(near, matched, np.abs(left))
        count = int(np.count_nonzero(matched))
        if count < _LEAST_LINES:
            return None
        degree = 2 if count < 10 else 3 if count < 24 else 4
        spread = max(1.4826 * float(np.median(np.abs(left[matched]))), 0.01)
        sigma = np.sqrt(error**2 + (features.error[near] / step) ** 2 + spread**2)
        basis = polyvander(u[matched], degree) / sigma[matched, np.newaxis]
        goal = features.wave[near][matched] / sigma[matched]
        poly = np.asarray(np.linalg.lstsq(basis, goal, rcond=None)[0], np.float64)
        bound = float(np.clip(5 * spread / comb.fwhm, 0.12, 0.35))
    place = np.asarray(polyval(u, poly), np.float64)
    slope = polyval(np.linspace(u[matched].min(), u[matched].max(), 64), polyder(poly))
    if not _is_steady(slope):
        return None
    near = np.searchsorted(middle, place)
    left = np.abs(features.wave[near] - place) / step
    single = _first_of_each(near, left < 0.5 * comb.fwhm, left)
    low, high = np.sort(place[matched][[np.argmin(u[matched]), np.argmax(u[matched])]])
    inside = (features.wave >= low - step) & (features.wave <= high + step)
    best = 0.0
    lost = max(degree - 2, 0)
    sizes = np.unique(np.linspace(min(_LEAST_LINES, n), n, 8).astype(int))
    for is_short in (True, False):
        held = inside & features.is_short if is_short else inside
        density = np.count_nonzero(held) / max(high - low, step)
        known = features.is_short[near] if is_short else np.ones(u.size, bool)
        for tolerance in _TOLERANCES:
            p = _chance_near(density, tolerance, comb.fwhm, step)
            hits = np.cumsum(single & known & (left < tolerance * comb.fwhm))
            for size in sizes:
                k = int(hits[size - 1]) - lost
                if k > p * size:
                    best = min(best, _log10_chance_of(k, size - lost, p))
    tests = log10_tests + math.log10(2 * len(_TOLERANCES) * len(sizes))
    ion = np.where(matched, features.ion[near], "")
    known = matched | (comb.is_loose & (left < comb.fwhm))
    explained = float(np.add.reduce(flux[known]) / np.add.reduce(flux))
    seen = math.nan
    if best + tests <= _LOG10_NFA and explained >= _LEAST_EXPLAINED:
        seen = _share_seen(comb, features, near, matched, place, inside, step)
    return _Evidence(
        poly,
        best + tests,
        np.where(matched, features.wave[near], np.nan),
        features.error[near],
        ion,
        explained,
        seen,
        count,
        lamp,
        step,
    )


def _chance_near(density: float, tolerance: float, fwhm: float, step: float) -> float:
    """Return the chance that a line lies near to one of so many features per Angstrom.

    Parameters
    ----------
    tolerance : how near, FWHM.
    fwhm, step : pixel, and Angstrom per pixel.
    """
    return min(-math.expm1(-density * 2 * tolerance * fwhm * step), 1 - 1e-9)


def _log10_chance_of(k: int, n: int, p: float) -> float:
    """Return log10 of the chance that of n lines k or more match, each with a chance p."""
    from scipy.special import betainc

    return math.log10(max(float(betainc(k, n - k + 1, p)), 1e-300))


def _first_of_each(near: NDArray[np.intp], allowed: Flags, away: Values) -> Flags:
    """Return which lines are the closest, of those allowed, to the feature they are near to."""
    order = np.lexsort((away, ~allowed, near))
    first = np.zeros(near.size, bool)
    first[order[np.concatenate(([True], np.diff(near[order]) > 0))]] = True
    return first & allowed


def _share_seen(
    comb: _Comb,
    features: _Features,
    near: NDArray[np.intp],
    matched: Flags,
    place: Values,
    inside: Flags,
    step: float,
) -> float:
    """Return the share of the features in the range that should be bright and are there.

    The light that a line of unit strength gives is told by the matched lines of its ion nearby.
    """
    expected = np.zeros(features.wave.size)
    ratio = np.log(comb.flux / features.strength[near])
    span = max(float(np.ptp(place[matched])), step)
    for ion in np.unique(features.ion[near[matched]]):
        own = matched & (features.ion[near] == ion)
        if np.count_nonzero(own) < 3:
            continue
        mine = np.flatnonzero(inside & features.is_short & (features.ion == ion))
        level, away = _level_near(features.wave[mine], place[own], ratio[own])
        told = away < 0.4 * span
        expected[mine] = np.where(told, features.strength[mine] * np.exp(level), 0.0)
    limit = float(np.quantile(comb.flux, 0.1))
    hoped = np.flatnonzero(expected > 0)
    if not hoped.size:
        return 0.0
    hoped = hoped[np.argsort(-expected[hoped], kind="stable")]
    n_due = max(int(np.count_nonzero(expected[hoped[: (hoped.size + 1) // 2]] > 4 * limit)), 4)
    due = hoped[:n_due]
    distance = np.abs(features.wave[due, np.newaxis] - place).min(axis=1)
    return float(np.count_nonzero(distance < 0.6 * comb.fwhm * step) / due.size)


def _level_near(wave: Values, place: Values, ratio: Values) -> tuple[Values, Values]:
    """Return the median ratio of the seven lines closest to wavelengths, and the way to the first.

    Parameters
    ----------
    wave : (wavelength), Angstrom.
    place, ratio : (line), Angstrom, and ln of its light over its strength in the list.
    """
    away = np.abs(wave[:, np.newaxis] - place)
    closest = np.argsort(away, axis=1, kind="stable")[:, :7]
    level = np.median(ratio[closest], axis=1)
    return level, np.take_along_axis(away, closest[:, :1], axis=1)[:, 0]


def _with_own_strengths(comb: _Comb, best: _Evidence) -> _Evidence:
    """Return a solution with the wavelength of each line as its parts, as bright as here, make it.

    Lines of the list that are not resolved shift the one that is measured. How bright each ion is
    in this lamp is told by its other lines; a part is known to a factor of two (`_LINE_ERROR`),
    and to less where fewer than three lines tell of its ion. What that does to the place of the
    sum is no Gaussian: strengths are drawn, always the same ones.
    """
    atlas = _atlas_of(LAMPS[best.lamp])
    features = _features_at(LAMPS[best.lamp], comb.fwhm * best.step)
    named = np.isfinite(best.wave)
    near = np.searchsorted(features.wave, best.wave[named])
    ratio = np.log(comb.flux[named] / features.strength[near])
    light = np.log(atlas.strength) + float(np.median(ratio))
    doubt = np.full(light.size, math.hypot(_LINE_ERROR, _ION_ERROR))
    for ion in np.unique(best.ion[named]):
        own = best.ion[named] == ion
        if np.count_nonzero(own) < 3:
            continue
        mine = atlas.ion == ion
        level, _ = _level_near(atlas.wave[mine], best.wave[named][own], ratio[own])
        light[mine] = np.log(atlas.strength[mine]) + level
        doubt[mine] = _LINE_ERROR
    place = np.asarray(polyval(comb.u, best.coefficients), np.float64)
    slope = polyval(comb.u, polyder(best.coefficients))
    sigma = np.abs(slope) / comb.half * comb.fwhm / FWHM_PER_SIGMA
    # A line of the list shines in the measured line that it is nearest to.
    order = np.argsort(place, kind="stable")
    ends = np.searchsorted(atlas.wave, (place[order][1:] + place[order][:-1]) / 2)
    first, last = np.append(0, ends), np.append(ends, atlas.wave.size)
    wave, error = best.wave.copy(), best.wave_error.copy()
    normal = np.random.default_rng(0).normal(size=(_N_DRAWN, int((last - first).max())))
    for i, low, high in zip(order, first, last, strict=True):
        if not named[i] or low == high:
            continue
        here = atlas.wave[low:high]
        weight = np.exp(light[low:high] - 0.25 * ((here - place[i]) / sigma[i]) ** 2)
        main = here[np.argmax(weight)]
        weight = light[low:high] - 0.25 * ((here - main) / sigma[i]) ** 2
        drawn = np.exp(weight + doubt[low:high] * normal[:, : high - low])
        place_drawn = np.add.reduce(drawn * here, axis=1) / np.add.reduce(drawn, axis=1)
        middle = float(np.add.reduce(place_drawn)) / _N_DRAWN
        if abs(middle - best.wave[i]) > 0.35 * FWHM_PER_SIGMA * sigma[i]:
            continue  # it would be another line
        wave[i] = middle
        error[i] = math.sqrt(float(np.add.reduce((place_drawn - middle) ** 2)) / _N_DRAWN)
    return best._replace(wave=wave, wave_error=error)


def identify(
    lines: xr.Dataset,
    lamp: str = "auto",
    *,
    dispersion: float | None = None,
    center: float | None = None,
    near: Dispersion | None = None,
) -> xr.Dataset:
    """Tell which lines of a lamp are which, without a guess.

    Parameters
    ----------
    lines : as `find_lamp_lines` returns them.
    lamp : one of `LAMPS`, such as "Ne+Ar"; "auto" takes the simplest that explains the lines.
    dispersion : Angstrom per pixel, known to 5 %, of either sign; it narrows the search.
    center : wavelength in the middle of the detector, Angstrom, known to a tenth of the range.
    near : the solution of another lamp of the setting; a shift of up to 30 pixels and a change of
        scale of up to 1 % are searched.

    Returns
    -------
    lines : the same with `wavelength` (air, Angstrom; NaN where not identified, or where variants
        of the solution nearly as good take the line for another), `wavelength_err`
        (of blends, by the unknown strengths of their lines), and `element` ("NeI"). Lines that are
        two of the list in one get the problem "blend". Attributes: `lamp`, `log10_nfa`,
        `flux_explained`, `list_seen`, `n_lines` (identified), `margin` (by which log10_nfa of the
        best other solution is higher), `dispersion` and `center`, Angstrom.

    Raises
    ------
    LampError
        There are too few lines, or no lamp explains them with certainty.
    UsageError
        The lamp is not known.
    """
    check_dataset(lines, "the lines")
    lamps = _lamps_asked_for(lamp)
    comb = _comb_of(lines)
    if comb.x.size < _LEAST_LINES:
        raise _not_identified(
            lines,
            f"{counted(comb.x.size, 'line')} can be used, and at least {_LEAST_MATCHED} are needed "
            "to identify a lamp",
            "Use a longer exposure of the lamp, or identify lines yourself (--lines FILE).",
        )
    tests = _log10_tests(comb, dispersion, center, near) + math.log10(len(lamps))
    is_hinted = near is not None or (dispersion is not None and center is not None)
    effort = _FOR_HINT if is_hinted else _BLIND
    hint = _OTHER_HINTS if dispersion is None or center is None else _HINTS_IF_HINTED
    guesses = _all_guesses(comb, lamps, dispersion, center, near)
    found = _judged_guesses(comb, lamps, guesses, effort, tests)
    if not any(one.is_strong for one in found):
        raise _not_identified(lines, _closest(comb, found, lamp), hint)
    best, margin = _decide(comb, found, hint)
    if near is not None:
        _require_alike(comb, best, near)
    return _with_identities(lines, comb, _with_own_strengths(comb, best), margin)


def _judged_guesses(
    comb: _Comb,
    lamps: tuple[str, ...],
    guesses: dict[str, _Guess],
    effort: _Effort,
    log10_tests: float,
) -> list[_Evidence]:
    """Return the evidence for the best candidates of all lamps."""
    candidates = [one for name in lamps for one in _candidates_for(comb, name, guesses, effort)]
    best_score = max((one.score for one in candidates), default=0.0)
    judged = (
        _judged(comb, one.coefficients, one.step, one.lamp, log10_tests)
        for one in candidates
        if one.score > _WORTH * best_score
    )
    found = [one for one in judged if one is not None]
    strong = [one for one in found if one.is_strong]
    if strong:
        # What else may shine in the lamp is asked of the surest solution itself.
        surest = min(strong, key=lambda one: one.log10_nfa)
        others = (
            _judged(comb, surest.coefficients, surest.step, name, log10_tests)
            for name in lamps
            if name != surest.lamp
        )
        found += [one for one in others if one is not None]
    return found


def _lamps_asked_for(lamp: str) -> tuple[str, ...]:
    """Return the names of the lamps to try."""
    if lamp == "auto":
        return tuple(LAMPS)
    for name, elements in LAMPS.items():
        if sorted(elements) == sorted(part.strip() for part in lamp.split("+")):
            return (name,)
    raise UsageError(
        f"Unknown lamp {lamp!r}",
        keyword="lamp",
        value=lamp,
        hint=f"Use one of {', '.join(LAMPS)}, or auto.",
    )


def _all_guesses(
    comb: _Comb,
    lamps: tuple[str, ...],
    dispersion: float | None,
    center: float | None,
    near: Dispersion | None,
) -> dict[str, _Guess]:
    """Return candidates by lamp."""
    if near is not None:
        return dict.fromkeys(lamps, _guesses_near(comb, near))
    found: dict[str, list[_Guess]] = {}
    for element in dict.fromkeys(element for name in lamps for element in LAMPS[name]):
        own = tuple(name for name in lamps if element in LAMPS[name])
        for is_coarse in (False, True):
            for name, guess in _guesses_of_pairs(
                comb, element, own, dispersion, center, is_coarse
            ).items():
                found.setdefault(name, []).append(guess)
    return {name: _Guess(*map(np.concatenate, zip(*g, strict=True))) for name, g in found.items()}


def _guesses_near(comb: _Comb, near: Dispersion) -> _Guess:
    """Return candidates that another solution makes, shifted and stretched."""
    u = np.linspace(-1, 1, 41)
    x = comb.middle + comb.half * u
    found = []
    for shift in np.arange(-30, 30.01, max(0.4 * comb.fwhm, 0.5)):
        for scale in (0.99, 0.995, 1.0, 1.005, 1.01):
            wave = near.wavelength(comb.middle + (x - comb.middle) * scale - shift)
            found.append(np.polynomial.polynomial.polyfit(u, wave, 2))
    step = abs(float(near.dispersion(comb.middle)))
    return _Guess(np.array(found), np.full(len(found), step))


def _log10_tests(
    comb: _Comb, dispersion: float | None, center: float | None, near: Dispersion | None
) -> float:
    """Return log10 of the number of solutions that can be told apart in the range searched."""
    cell = 0.35 * comb.fwhm
    n_curves = max(2 * _MOST_CURVED / (4 * 2 * cell / comb.half), 1.0)
    if near is not None:
        return math.log10(max(60 / (2 * cell), 1) * max(0.02 * comb.half / cell, 1) * n_curves)
    n_steps = math.log(_MOST_DISPERSION / _LEAST_DISPERSION) * comb.half / (2 * cell) * 2
    if dispersion is not None:
        n_steps = max(0.1 * comb.half / (2 * cell), 1.0) * 2
    n_places = 3 * comb.half / cell
    if center is not None:
        n_places = max(0.2 * comb.half / cell, 1.0)
    return math.log10(n_steps * n_places * n_curves)


class _Candidate(NamedTuple):
    """A refined candidate: coefficients (power), Angstrom per pixel, lamp and score, nats."""

    coefficients: Values
    step: float
    lamp: str
    score: float


def _candidates_for(
    comb: _Comb, lamp: str, guesses: dict[str, _Guess], effort: _Effort
) -> Iterator[_Candidate]:
    """Yield the best distinct candidates with a lamp."""
    guess = guesses.get(lamp)
    if guess is None:
        return
    for is_coarse in (False, True):
        own = (guess.step * comb.fwhm > _COARSE) == is_coarse
        if own.any():
            part = _Guess(guess.coefficients[own], guess.step[own])
            wave, _ = _list_for(LAMPS[lamp], is_coarse)
            yield from _best_refined(comb, lamp, part, wave, effort)


def _best_refined(
    comb: _Comb, lamp: str, guess: _Guess, wave: Values, effort: _Effort
) -> Iterator[_Candidate]:
    """Yield the best distinct of some guesses, pulled onto the lines of a list."""
    place = polyval(comb.u[:_N_LINES], guess.coefficients.T, tensor=True)
    score = _scored(comb, np.asarray(place), guess.step, wave, _first_tolerance(comb))
    chosen = np.argsort(-score, kind="stable")[: effort.n_refined]
    guess = _Guess(guess.coefficients[chosen], guess.step[chosen])
    poly, score = _refined(comb, guess, wave)
    for i in _distinct(poly, guess.step, score, comb, effort.n_kept):
        if score[i] > 0:
            yield _Candidate(poly[i], float(guess.step[i]), lamp, float(score[i]))


_BY_HAND = "identify lines yourself (--lines FILE)."
_OTHER_HINTS = f"Try another --lamp, add --dispersion and --center, or {_BY_HAND}"
_HINTS_IF_HINTED = f"Try another --lamp, check --dispersion and --center, or {_BY_HAND}"
_MOST_SATURATED, _MOST_CONTINUUM = 0.02, 0.25
"""Share of pixels, and height of the continuum, from which they are why no lamp is identified."""


def _not_identified(lines: xr.Dataset, found: str, hint: str) -> LampError:
    """Return the error of lines that no lamp explains; what the arc lacks decides the remedy."""
    continuum = float(lines.attrs.get("continuum", 0.0))
    saturated = float(lines.attrs.get("saturated", 0.0))
    if continuum > _MOST_CONTINUUM:
        found += (
            f"; the median pixel has {continuum:.0%} of the flux of the highest, as in a flat or a "
            "star"
        )
        hint = "Check that this frame is one of an arc lamp."
    elif saturated > _MOST_SATURATED:
        found += f"; {saturated:.0%} of the pixels are saturated"
        hint = "Use a shorter exposure of the lamp."
    return LampError(found, hint=hint)


def _closest(comb: _Comb, found: list[_Evidence], lamp: str) -> str:
    """Return how far the lamp that explains the lines best is from being certain."""
    if not found:
        return f"The arc lines match no line list ({lamp})"
    best = min(found, key=lambda one: one.log10_nfa)
    seen = "" if math.isnan(best.list_seen) else f", {best.list_seen:.0%} of its lines seen"
    return (
        f"No lamp explains the lines with certainty: {best.lamp} comes closest "
        f"({best.n_matched} of {comb.x.size} lines, {best.flux_explained:.0%} of their flux, "
        f"10^{best.log10_nfa:.1f} expected by chance{seen})"
    )


def _decide(
    comb: _Comb, found: list[_Evidence], hint: str = _OTHER_HINTS
) -> tuple[_Evidence, float]:
    """Return the solution that is certain, and its margin; raise LampError if two are alike."""
    strong = [one for one in found if one.is_strong]
    # The simplest of the lamps that lead to the same solution nearly as surely, and name nearly as
    # many lines: those of a missing gas would pass for outliers, or shift the lines beside them.
    surest = min(strong, key=lambda one: one.log10_nfa)
    alike = [
        one
        for one in strong
        if one.log10_nfa <= surest.log10_nfa + _LEAST_MARGIN and not _differs(comb, surest, one)
    ]
    most = max(one.n_matched for one in alike)
    best = next(
        one
        for name in LAMPS
        for one in alike
        if one.lamp == name and one.n_matched >= _NEARLY_ALL * most
    )
    # A variant that is surer, though too few of its strong lines are seen, must not be passed over.
    surer = best.log10_nfa - _LEAST_MARGIN
    rivals = [
        one.log10_nfa
        for one in found
        if _is_distinct(comb, best, one) or (one.log10_nfa < surer and _differs(comb, best, one))
    ]
    margin = min(rivals, default=math.inf) - best.log10_nfa
    if margin < _LEAST_MARGIN:
        raise LampError(
            f"Two solutions explain the lines almost equally well: {best.lamp} with "
            f"10^{best.log10_nfa:.1f} expected by chance, and another with 10^{min(rivals):.1f}",
            hint=hint,
        )
    certain = _without_doubt(comb, best, found)
    if not certain.is_strong:
        raise LampError(
            f"{best.lamp} fits, but too few lines are certain: {certain.n_matched} of "
            f"{comb.x.size}, with {certain.flux_explained:.0%} of their flux",
            hint=hint,
        )
    return certain, margin


def _without_doubt(comb: _Comb, best: _Evidence, found: list[_Evidence]) -> _Evidence:
    """Return a solution without the lines that its variants, nearly as sure, name differently.

    Variants agree where there are many lines, and part at the ends, where there are few. Nor does
    a line remain that all others, far away, do not tell (`_told_by_none`).
    """
    doubtful = np.zeros(comb.u.size, bool)
    for one in found:
        near = one.log10_nfa <= best.log10_nfa + _LEAST_MARGIN and one.is_strong
        if near and not _is_distinct(comb, best, one) and _differs(comb, best, one):
            doubtful |= np.isfinite(best.wave) & ~_named_alike(comb, best, one)
    doubtful |= _told_by_none(comb, best, np.isfinite(best.wave) & ~doubtful)
    lost = float(np.add.reduce(comb.flux[doubtful]) / np.add.reduce(comb.flux))
    return best._replace(
        wave=np.where(doubtful, np.nan, best.wave),
        ion=np.where(doubtful, "", best.ion),
        flux_explained=best.flux_explained - lost,
        n_matched=best.n_matched - int(np.count_nonzero(doubtful)),
    )


def _told_by_none(comb: _Comb, best: _Evidence, named: Flags) -> Flags:
    """Return which lines at an end lie so far from the others that nothing tells which they are.

    Where the others foretell a line no better than to a pixel, or a pixel away, another would
    have been found to fit as well, and the polynomial to bend: the lines from there on have to
    stand by themselves (`_log10_nfa_beyond`).
    """
    features = _features_at(LAMPS[best.lamp], comb.fwhm * best.step)
    # Places are large: about the detector's middle, for the sake of the digits.
    place = (best.wave - best.coefficients[0]) / best.step
    left = (best.wave - polyval(comb.u, best.coefficients)) / best.step
    scatter = max(1.4826 * finite_median(np.abs(left[named])), _LEAST_RMS)
    sigma = np.hypot(np.hypot(comb.error, best.wave_error / best.step), scatter)
    doubtful = np.zeros(named.size, bool)
    for side in (-1.0, 1.0):
        rest = np.flatnonzero(named & ~doubtful)
        rest = rest[np.argsort(side * comb.u[rest], kind="stable")]
        for n_core in range(max(_LEAST_LINES, (rest.size + 1) // 2), rest.size):
            core, nearest = rest[:n_core], rest[n_core : n_core + 1]
            weights, unsure = _foreseen(comb.u[core], sigma[core], comb.half, comb.u[nearest])
            away = np.add.reduce(weights[0] * place[core]) - place[nearest[0]]
            doubt = math.hypot(float(away), float(unsure[0]))
            if doubt <= max(1.0, 0.25 * comb.fwhm):
                continue
            beyond = side * comb.u > side * comb.u[core[-1]]
            if _log10_nfa_beyond(comb, best, features, named & beyond, beyond, doubt) > _LOG10_NFA:
                doubtful[rest[n_core:]] = True
                break
    return doubtful


def _log10_nfa_beyond(
    comb: _Comb, best: _Evidence, features: _Features, named: Flags, beyond: Flags, unsure: float
) -> float:
    """Return log10 of how often chance matches as many lines of a part whose place is not known.

    Parameters
    ----------
    named, beyond : (line), which lines of the part are matched, and which are in it.
    unsure : by what the place may be wrong, pixel.
    """
    # One line is spent on the place; so many places can be told apart.
    log10_places = math.log10(max(4 * unsure / (_BEYOND * comb.fwhm), 1.0))
    k, n = int(np.count_nonzero(named)) - 1, int(np.count_nonzero(beyond)) - 1
    if k < 1:
        return log10_places
    wave = polyval(comb.u[beyond], best.coefficients)
    low, high = float(wave.min()), float(wave.max())
    inside = (features.wave >= low - best.step) & (features.wave <= high + best.step)
    density = np.count_nonzero(inside) / max(high - low, best.step)
    chance = _chance_near(density, _BEYOND, comb.fwhm, best.step)
    return log10_places + _log10_chance_of(k, n, chance)


def _named_alike(comb: _Comb, one: _Evidence, other: _Evidence) -> Flags:
    """Return which lines two solutions take for the same."""
    return np.abs(one.wave - other.wave) < 0.5 * comb.fwhm * one.step


def _is_distinct(comb: _Comb, one: _Evidence, other: _Evidence) -> bool:
    """Return whether two solutions take the lines for others, and are no variants of one."""
    both = int(np.count_nonzero(np.isfinite(one.wave) & np.isfinite(other.wave)))
    alike = int(np.count_nonzero(_named_alike(comb, one, other)))
    return both < 0.5 * min(one.n_matched, other.n_matched) or alike < _ALIKE * both


def _require_alike(comb: _Comb, best: _Evidence, near: Dispersion) -> None:
    """Raise LampError where another solution fits decidedly worse here than where it is from."""
    place = polyval(comb.u, best.coefficients)
    left = (place - best.wave)[np.isfinite(best.wave)] / best.step
    rms = math.sqrt(float(np.add.reduce(left**2)) / left.size)
    if math.isfinite(near.rms_pixel) and rms > 3 * max(near.rms_pixel, _LEAST_RMS):
        raise LampError(
            f"The lines lie {rms:.2f} pixel (rms) from the solution, and "
            f"{near.rms_pixel:.2f} where it was made",
            hint="Identify this lamp without the solution: it may be from another setup.",
        )


def _differs(comb: _Comb, one: _Evidence, other: _Evidence) -> bool:
    """Return whether two solutions differ by more than a pixel where the first has lines."""
    u = comb.u[np.isfinite(one.wave)]
    ours, theirs = (polyval(u, e.coefficients) for e in (one, other))
    return bool(np.abs(ours - theirs).max() > max(1.0, 0.5 * comb.fwhm) * one.step)


def _with_identities(lines: xr.Dataset, comb: _Comb, best: _Evidence, margin: float) -> xr.Dataset:
    """Return the lines with what a solution says of them."""
    n = lines.sizes["line"]
    wave, error = np.full(n, np.nan), np.full(n, np.nan)
    element = np.full(n, "", "U5")
    wave[comb.number] = best.wave
    error[comb.number] = np.where(np.isfinite(best.wave), best.wave_error, np.nan)
    element[comb.number] = best.ion
    problem = lines["problem"].values.astype("U16")
    mixed = np.isfinite(error) & (error > _MOST_MIXED * best.step)
    problem = np.where(mixed & (problem == ""), "blend", problem)
    unit = {"units": "Angstrom", "medium": "air"}
    return lines.assign(
        wavelength=("line", wave, unit),
        wavelength_err=("line", error, unit),
        element=("line", element),
        problem=("line", problem),
    ).assign_attrs(
        lamp=best.lamp,
        log10_nfa=best.log10_nfa,
        flux_explained=best.flux_explained,
        list_seen=best.list_seen,
        n_lines=best.n_matched,
        margin=margin,
        dispersion=float(best.coefficients[1] / comb.half),
        center=float(best.coefficients[0]),
    )


# Lines that the user names, and lines of several exposures.

_VACUUM_NEAR, _AIR_FAR = 0.08, 0.35


def read_line_list(path: str | Path, n_pixels: int | None = None) -> xr.Dataset:
    """Read the lines that a user identified: a file of text, a line for each.

    A line holds x (FITS pixel), the wavelength in air (Angstrom), and, if wanted, the element and
    ``lamp`` or ``star``, parted by blanks or commas; what follows a # is a remark. Lines of the
    star, such as the Balmer lines, may be shifted against those of the lamp: see `fit_dispersion`.

    Parameters
    ----------
    path : the file.
    n_pixels : of the detector along the dispersion, to notice pixels that lie off it.

    Returns
    -------
    lines : (line), in order of x: `x`, `wavelength`, `element`, and `source`, "lamp" or "star".

    Raises
    ------
    UsageError
        The file cannot be read; a line is not understood, or lies off the detector (the message
        names it); a pixel stands twice; the wavelengths are in nanometres or in vacuum, or neither
        rise nor fall steadily.
    """
    path = Path(path)
    return parse_line_list(read_text_file(path, "The list of lines"), path, n_pixels)


def parse_line_list(text: str, path: Path, n_pixels: int | None = None) -> xr.Dataset:
    """Return the lines of a text as `read_line_list` reads it from a file; errors name the path."""
    import xarray as xr

    rows: list[tuple[float, float, str, str]] = []
    numbers: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].replace(",", " ").split()
        if words:
            rows.append(_row_of(words, number, path, n_pixels))
            numbers.append(number)
    if not rows:
        raise UsageError(
            "The list of lines is empty",
            path=path,
            hint="Write x and wavelength, one line per row.",
        )
    order = np.argsort([row[0] for row in rows], kind="stable")
    rows, numbers = [rows[i] for i in order], [numbers[i] for i in order]
    x, wave = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    for i in np.flatnonzero(np.diff(x) == 0):
        raise UsageError(
            f"Lines {numbers[i]} and {numbers[i + 1]} name the same pixel, {x[i]:g}",
            path=path,
            hint="Remove one of them.",
        )
    _require_air(wave, [row[2] for row in rows], numbers, path)
    for source in ("lamp", "star"):
        _require_steady([i for i, row in enumerate(rows) if row[3] == source], rows, numbers, path)
    return xr.Dataset(
        {
            "x": ("line", x, {"units": "pix"}),
            "wavelength": ("line", wave, {"units": "Angstrom", "medium": "air"}),
            "element": ("line", np.array([row[2] for row in rows])),
            "source": ("line", np.array([row[3] for row in rows])),
        }
    )


def line_list_text(lines: xr.Dataset) -> str:
    """Return lines of a lamp as the text that `read_line_list` reads.

    Parameters
    ----------
    lines : `x`, `wavelength` and `element` (line), as `read_line_list` returns them.

    Examples
    --------
    >>> import xarray as xr
    >>> columns = {"x": [23.41, 629.67], "wavelength": [4358.33, 4916.07], "element": ["Hg", ""]}
    >>> print(line_list_text(xr.Dataset({name: ("line", v) for name, v in columns.items()})))
    # x (pixel), wavelength in air (Angstrom), element
    23.410  4358.33  Hg
    629.670  4916.07
    <BLANKLINE>
    """
    columns = (lines[name].values.tolist() for name in ("x", "wavelength", "element"))
    rows = [
        f"{x:.3f}  {round(wave, 4)!r}  {name}".rstrip()
        for x, wave, name in zip(*columns, strict=True)
    ]
    return "\n".join(["# x (pixel), wavelength in air (Angstrom), element", *rows]) + "\n"


class ListedLine(NamedTuple):
    """A line of a list: wavelength in air, Angstrom, ion, and relative strength."""

    wave: float
    ion: str
    strength: float


def listed_lines(lamp: str, near: float | None = None, most: int = 15) -> list[ListedLine]:
    """Return the lines of a lamp that are listed, in order of wavelength.

    Parameters
    ----------
    lamp : its elements, such as "Ne+Ar".
    near : a wavelength, Angstrom; None: the bright lines of the whole list are returned.
    most : number of lines that are nearest to it.

    Examples
    --------
    >>> [line[:2] for line in listed_lines("Ne", 5852.0, 2)]
    [(5852.4877, 'NeI'), (5868.4164, 'NeI')]
    """
    atlas = _atlas_of(LAMPS[lamp])
    chosen = np.flatnonzero(atlas.is_short)
    if near is not None:
        chosen = np.sort(np.argsort(np.abs(atlas.wave - near), kind="stable")[:most])
    columns = (column[chosen].tolist() for column in (atlas.wave, atlas.ion, atlas.strength))
    return [ListedLine(*line) for line in zip(*columns, strict=True)]


def _row_of(
    words: list[str], number: int, path: Path, n_pixels: int | None
) -> tuple[float, float, str, str]:
    """Return x, wavelength, element and source of a line of a list."""

    def refused(what: str, hint: str) -> UsageError:
        return UsageError(f"Line {number}: {what}", path=path, value=" ".join(words), hint=hint)

    source = "lamp"
    if words[-1].lower() in ("lamp", "star"):
        source = words[-1].lower()
        words = words[:-1]
    if not 2 <= len(words) <= 3:
        raise refused(
            f"{len(words)} values where x, wavelength and perhaps an element should be",
            "Write x (pixel) and the wavelength (Angstrom, air), separated by a space.",
        )
    try:
        x, wave = float(words[0]), float(words[1])
    except ValueError:
        raise refused(
            f"{' '.join(words[:2])!r} is not two numbers",
            "Write x (pixel) and the wavelength (Angstrom, air), separated by a space.",
        ) from None
    if not (math.isfinite(x) and math.isfinite(wave)) or (wave <= 0):
        raise refused(
            f"x {x:g} and wavelength {wave:g}",
            "Use numbers; the wavelength, in Angstrom, must be above 0.",
        )
    if n_pixels is not None and not 0.5 <= x <= n_pixels + 0.5:
        raise refused(
            f"x {x:g} lies off the detector, which has pixels 1 to {n_pixels}",
            "Count pixels from 1.",
        )
    return x, wave, words[2] if len(words) == 3 else "", source


def _require_steady(
    own: list[int], rows: list[tuple[float, float, str, str]], numbers: list[int], path: Path
) -> None:
    """Raise UsageError where wavelengths of lines, in order of x, do not all rise or all fall."""
    falls = [rows[j][1] <= rows[i][1] for i, j in pairwise(own)]
    if not falls or all(falls) or not any(falls):
        return
    most_fall = 2 * sum(falls) > len(falls)
    at = falls.index(not most_fall)
    i, j = own[at], own[at + 1]
    raise UsageError(
        f"The wavelengths {'fall' if most_fall else 'rise'} with x, but not from line {numbers[i]} "
        f"(x {rows[i][0]:g}: {rows[i][1]:g}) to line {numbers[j]} (x {rows[j][0]:g}: "
        f"{rows[j][1]:g})",
        path=path,
        hint="Correct one of these two lines.",
    )


def _require_air(wave: Values, elements: list[str], numbers: list[int], path: Path) -> None:
    """Raise UsageError where wavelengths are in nanometres, or lie where lines are in vacuum."""
    lit = wave[wave > 10]
    if lit.size and np.all(lit < 1200) and np.all(lit > 250):
        raise UsageError(
            f"The wavelengths, {lit.min():g} to {lit.max():g}, seem to be nanometres",
            path=path,
            hint="Use Angstrom: 656.28 nm = 6562.8 Angstrom.",
        )
    known = sorted({element for names in LAMPS.values() for element in names})
    for_vacuum, certain = np.zeros(wave.size, bool), np.zeros(wave.size, bool)
    for i, (value, named) in enumerate(zip(wave, elements, strict=True)):
        own = [element for element in known if named.rstrip("IVX") == element] if named else []
        # Without a name, the densest spectra would hold a line anywhere.
        air = _atlas_of(tuple(own or [e for e in known if e not in ("Cu", "Fe")]))
        lines = air.wave if own else air.wave[air.is_short]
        vacuum = lines + (lines - air_wavelength(lines))
        for_vacuum[i] = (
            np.abs(vacuum - value).min() < _VACUUM_NEAR and np.abs(lines - value).min() > _AIR_FAR
        )
        certain[i] = bool(own)
    n = int(np.count_nonzero(for_vacuum))
    is_few = n < 0.3 * wave.size and n < 3 and not (for_vacuum & certain).any()
    if not n or is_few or (n < 2 and not (for_vacuum & certain).any()):
        return
    which = ", ".join(str(numbers[i]) for i in np.flatnonzero(for_vacuum)[:5])
    what = "All wavelengths" if n >= 0.7 * wave.size else f"Of the wavelengths {n}"
    lines_named = f"line{'s' * (n > 1)} {which}{' ...' * (n > 5)}"
    raise UsageError(
        f"{what} are those of known lines in vacuum ({lines_named})",
        path=path,
        hint="Use air wavelengths for all: at 6000 Angstrom 1.66 less than in vacuum.",
    )


def merge_lines(*exposures: xr.Dataset) -> xr.Dataset:
    """Merge the lines of exposures of a setting: short and long ones, or of separate lamps.

    Parameters
    ----------
    exposures : as `find_lamp_lines` returns them, of the same pixels.

    Returns
    -------
    lines : each line once, from the exposure that measures it best: without a problem if any has
        it so, and with the smallest error. Fluxes are in the scale of the first exposure, where
        exposures have two lines or more in common. `exposure` tells where a line is from, from 0.

    Raises
    ------
    UsageError
        There is no exposure.
    """
    if not exposures:
        raise UsageError("There are no lines to merge", hint="Use at least one exposure.")
    fwhm = finite_median(np.array([one.attrs.get("fwhm", math.nan) for one in exposures]))
    reach = 0.5 * (fwhm if math.isfinite(fwhm) else 3.0)
    merged: xr.Dataset | None = None
    for i, one in enumerate(exposures):
        own = one.assign(exposure=("line", np.full(one.sizes["line"], i)))
        merged = own if merged is None else _merge_two(merged, own, reach)
    assert merged is not None
    first = exposures[0].attrs
    return merged.assign_attrs({**first, "fwhm": fwhm, "n_exposures": len(exposures)})


def _merge_two(one: xr.Dataset, other: xr.Dataset, reach: float) -> xr.Dataset:
    """Return the lines of two exposures, each once."""
    import xarray as xr

    ours, theirs = one["x"].values, other["x"].values
    away = np.abs(ours[:, np.newaxis] - theirs)
    mine, yours = np.nonzero(away < reach)
    fine = [not one["problem"].values[i] and not other["problem"].values[j] for i, j in
            zip(mine, yours, strict=True)]  # fmt: skip
    ratio = 1.0
    if sum(fine) >= 2:
        both = one["flux"].values[mine[fine]] / other["flux"].values[yours[fine]]
        ratio = finite_median(both)
    scaled = other.assign({n: other[n] * ratio for n in ("flux", "flux_err") if n in other})
    rank = [
        np.where(part["problem"].values == "", 0.0, 1e6) + part["x_err"].values
        for part in (one, scaled)
    ]
    keep, take = np.ones(ours.size, bool), np.ones(theirs.size, bool)
    for i, j in zip(mine, yours, strict=True):
        if rank[0][i] <= rank[1][j]:
            take[j] = False
        else:
            keep[i] = False
    both_sets = xr.concat(
        [one.isel(line=keep), scaled.isel(line=take)], "line", combine_attrs="drop_conflicts"
    )
    return both_sets.isel(line=np.argsort(both_sets["x"].values, kind="stable"))
