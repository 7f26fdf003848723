"""Give the spectrum of a star the wavelengths of its lamps: `solve_lamps`, `with_wavelengths`.

A lamp is identified once, in its brightest rows, whatever the star (`brightest_rows`): what it is
then depends on no target, and the blind search is paid for once. In the aperture of each star its
lines lie elsewhere, by their tilt, and are measured anew; which is which is carried over by the
shift and scale that most lines agree on (`carry_identities`), and the solution is that of the
star's own lines.

Lamps before and after the middle of the exposure are two solutions, between which is interpolated
by time; with one lamp alone the shift is not known.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import ArrayredError, LampError
from arrayred.kernels.noise import finite_medians
from arrayred.model import COUNTS, FRAME, LAMP, WAVELENGTH, WAVELENGTH_ATTRS, X, Y, add_history
from arrayred.steps.wavelength import (
    LAMPS,
    Dispersion,
    find_lamp_lines,
    fit_dispersion,
    interpolate_dispersion,
)
from arrayred.steps.zero_point import LIGHT_SPEED, ZeroPoint, measure_zero_point

if TYPE_CHECKING:
    import xarray as xr

Values = NDArray[np.float64]

LARGEST_SHIFT = 30.0
"""Pixels by which the lines of a lamp may lie off those of a known solution."""
_LARGEST_STRETCH = 0.01
_OF_LAMP = ("lamp", "log10_nfa", "flux_explained", "rms_pixel")
_WELL_EXPLAINED = 0.9
_GASES = {
    "neon": "Ne", "argon": "Ar", "helium": "He", "mercury": "Hg", "krypton": "Kr", "xenon": "Xe",
    "cadmium": "Cd", "copper": "Cu", "iron": "Fe",
    **{e.lower(): e for names in LAMPS.values() for e in names if e != "He"},
}  # fmt: skip
"""Words that name an element of a lamp; "he" may be no helium."""
_SAME_LIGHT = 0.9
"""Share of the light named in one exposure of a lamp that must be named in another."""
_NEAR_FWHM = 0.6
_LEAST_CARRIED = 0.6
"""Fraction of the known lines within the spectrum that must be found again."""
_LEAST_LINES = 3
_ONE_VISIT = 20.0
"""Minutes within which lamps on one side of an exposure are fitted together."""
_LARGEST_RMS_RATIO, _LEAST_RMS = 3.0, 0.1
"""Times by which the scatter of the lines may exceed that of a known solution, and the scatter,
pixel, below which the noise of a faint lamp decides it."""
_ROWS = 10.0
_ERROR_BY_EYE = 0.5
"""Pixels by which a position that the user read off may be wrong."""


class Solved(NamedTuple):
    """The wavelengths of a target.

    Parameters
    ----------
    dispersion : its solution.
    lines : (line), all lines measured, with `lamp`, `wavelength`, `residual`, `used`, `why_not`.
    lamps : the names of the lamps that were used.
    minutes : from the target to the nearest of them; below 0 before it.
    log10_nfa : the expected number of chance matches of the identification, the highest; NaN if
        the user vouched for it.
    told : what to know, a line each.
    sides : the solutions of the lamps before and after, each with its time, UTC; empty if there is
        one solution for any time.
    """

    dispersion: Dispersion
    lines: xr.Dataset
    lamps: tuple[str, ...]
    minutes: float
    log10_nfa: float
    told: tuple[str, ...]
    sides: tuple[tuple[np.datetime64, Dispersion], ...] = ()

    def at(self, middle: np.datetime64) -> Dispersion:
        """Return the solution at a time between the lamps, UTC."""
        return _between(self.sides, middle) if self.sides else self.dispersion


def brightest_rows(image: xr.Dataset) -> tuple[xr.Dataset, float]:
    """Return the straight trace through the brightest rows of a lamp (y, x), and its half-width."""
    import xarray as xr

    values = np.nan_to_num(image[COUNTS].values, nan=0.0, posinf=0.0, neginf=0.0)  # NaN sort last
    brightest = np.sort(values, axis=1)[:, -max(values.shape[1] // 20, 1) :]
    profile = finite_medians(brightest)
    half = min(_ROWS, (len(profile) - 1) / 2)
    width = int(2 * half) + 1
    smooth = np.convolve(profile, np.ones(width) / width, "valid")
    row = float(image[Y].values[0]) + float(np.argmax(smooth)) + (width - 1) / 2
    center = (X, np.full(image.sizes[X], row))
    return xr.Dataset({"center": center}, {X: image[X]}), half + 0.5


def carry_identities(lines: xr.Dataset, known: xr.Dataset) -> xr.Dataset:
    """Return lines with the wavelengths of a lamp whose lines are known.

    Parameters
    ----------
    lines : of `find_lamp_lines`.
    known : `x`, `wavelength` and `element` (line); NaN where a line is not known.

    Returns
    -------
    lines : with `wavelength` and `element`, and the attributes of `known`; `carried_shift`, pixel.

    Raises
    ------
    LampError
        Fewer than 60 % of the known lines, or fewer than three, are found again, within 30 pixels.

    Examples
    --------
    >>> import xarray as xr
    >>> x = np.array([20.0, 50.0, 120.0, 200.0])
    >>> named = {"wavelength": ("line", 5000 + x), "element": ("line", ["NeI"] * 4)}
    >>> known = xr.Dataset({"x": ("line", x), **named})
    >>> found = xr.Dataset({"x": ("line", x + 2.5)}, attrs={"fwhm": 3.0})
    >>> carry_identities(found, known).wavelength.values.tolist()
    [5020.0, 5050.0, 5120.0, 5200.0]
    """
    named = np.isfinite(known["wavelength"].values)
    old, wave = known["x"].values[named], known["wavelength"].values[named]
    x = lines["x"].values
    near = max(_NEAR_FWHM * float(lines.attrs.get("fwhm", 3.0)), 1.0)
    index = np.zeros(0, np.intp)
    if x.size and old.size:
        apart = (x[:, np.newaxis] - old).ravel()
        shifts = np.unique(np.round(apart[np.abs(apart) <= LARGEST_SHIFT], 2))
        shift, scale = _shift_of_most(x, old, shifts, near), 1.0
        for _ in range(3):
            middle = float(np.add.reduce(old) / old.size)
            expected = middle + shift + scale * (old - middle)
            index = np.abs(x[:, np.newaxis] - expected).argmin(axis=0)
            fits = np.abs(x[index] - expected) <= near
            if np.count_nonzero(fits) < _LEAST_LINES:
                break
            slope, level = np.polyfit(old[fits] - middle, x[index[fits]] - middle, 1)
            scale = min(max(float(slope), 1 - _LARGEST_STRETCH), 1 + _LARGEST_STRETCH)
            shift = float(level)
        fits = np.abs(x[index] - expected) <= near
    else:
        fits, shift = np.zeros(old.size, bool), 0.0
    first, last = lines.attrs.get("first_pixel", -np.inf), lines.attrs.get("last_pixel", np.inf)
    due = np.count_nonzero((old + shift > first) & (old + shift < last))
    n = np.count_nonzero(fits)
    if n < max(_LEAST_LINES, _LEAST_CARRIED * due) or abs(shift) > LARGEST_SHIFT:
        raise LampError(
            f"{n} of the {due} lines of the known solution were found within {LARGEST_SHIFT:.0f} "
            "pixels",
            hint="Run without --solution to identify the lamp by itself.",
        )
    waves, element = np.full(x.size, np.nan), np.full(x.size, "", "U8")
    waves[index[fits]] = wave[fits]
    if "element" in known:
        element[index[fits]] = known["element"].values[named][fits]
    unit = {"units": "Angstrom", "medium": "air"}
    facts = {k: v for k, v in known.attrs.items() if k in _OF_LAMP}
    return lines.assign(wavelength=("line", waves, unit), element=("line", element)).assign_attrs(
        **facts, carried_shift=shift
    )


def _shift_of_most(x: Values, old: Values, shifts: Values, near: float) -> float:
    """Return the shift by which most known lines fall on a line; of equal ones the smallest."""
    if not shifts.size:
        return 0.0
    place = np.sort(x)
    expected = old + shifts[:, np.newaxis]
    after = np.clip(np.searchsorted(place, expected), 1, max(place.size - 1, 1))
    right = place[np.minimum(after, place.size - 1)]
    away = np.minimum(np.abs(expected - place[after - 1]), np.abs(expected - right))
    score = np.add.reduce(np.maximum(1 - (away / near) ** 2, 0.0), axis=1)
    best = np.flatnonzero(score >= score.max() - 1e-9)
    return float(shifts[best[np.argmin(np.abs(shifts[best]))]])


def solve_lamps(
    arc: xr.Dataset,
    identified: Callable[[tuple[str, ...]], xr.Dataset],
    middle: np.datetime64 | None,
    *,
    order: int | None = None,
) -> Solved:
    """Return the wavelengths that the lamps of a target give.

    Parameters
    ----------
    arc : (lamp, x), the lamps through the aperture of the target, with `time_mid` and `minutes`.
    identified : returns the identified lines of lamps, by their names, or raises an error. It is
        asked for the first lamp, and for those in which the first one's lines are not found again.
        Where none is identified by itself, short and long exposures or separate gases may be
        together.
    middle : of the target's exposures, UTC; None: unknown.
    order : of the polynomial; None: chosen by leaving out one line at a time.

    Raises
    ------
    LampError
        No lamp gives a solution; the message tells why for each.
    """
    import xarray as xr

    names = tuple(map(str, arc[LAMP].values))
    found: dict[int, xr.Dataset] = {}
    why: dict[str, ArrayredError] = {}
    known: xr.Dataset | None = None
    for i, name in enumerate(names):
        if known is not None:
            with suppress(LampError):
                found[i] = _of_same_lamp(_carried(arc, i, known), found[min(found)])
                continue
        try:
            own = identified((name,))
            found[i] = _carried(arc, i, own)
            known = own if known is None else known
        except ArrayredError as error:
            why[name] = error
    if not found and len(names) > 1:
        with suppress(ArrayredError):
            together = identified(names)
            for i in range(len(names)):
                with suppress(ArrayredError):
                    found[i] = _carried(arc, i, together)
    if not found:
        texts = {f"{name}: {error.args[0]}": error.hint for name, error in why.items()}
        raise LampError(
            "; ".join(texts) or "there is no arc frame", hint=next(iter(texts.values()), "")
        )
    why = {name: error for name, error in why.items() if names.index(name) not in found}
    sides = _sides(arc, list(found), middle)
    fits: list[tuple[list[int], Dispersion]] = []
    for side in sides:
        lines = xr.concat([found[i] for i in side], "line", combine_attrs="drop_conflicts")
        fits.append((side, fit_dispersion(lines, order)))
        _require_no_worse(fits[-1][1], found[side[0]])
    told = [f"{name}: {error.args[0]}" for name, error in why.items()]
    objects = arc["object"].values.astype(str) if "object" in arc.coords else [""] * len(names)
    told += [text for i in found for text in lamp_notes(names[i], found[i], objects[i])]
    dispersion = fits[0][1]
    both: tuple[tuple[np.datetime64, Dispersion], ...] = ()
    if len(fits) == 2 and middle is not None:
        both = tuple((_mean_time(arc, side), fit) for side, fit in fits)
        dispersion = _between(both, middle)
        moved = _shift_between(fits[0][1], fits[1][1])
        told.append(
            f"the lines shifted by {moved:+.2f} pixels between the arc frames before and after"
        )
    used = [i for side, _ in fits for i in side]
    measured = [fit.lines for _, fit in fits if fit.lines is not None]
    minutes = arc["minutes"].values[used].astype(float)
    nearest = float(minutes[np.argmin(np.nan_to_num(np.abs(minutes), nan=np.inf))])
    nfa = [float(found[i].attrs.get("log10_nfa", math.nan)) for i in used]
    gases = dict.fromkeys(str(found[i].attrs.get("lamp", "")) for i in used)
    return Solved(
        replace(dispersion, lamp=", ".join(filter(None, gases)), lines=None),
        xr.concat(measured, "line", combine_attrs="drop"),
        tuple(str(arc[LAMP].values[i]) for i in used),
        nearest,
        max(nfa, default=math.nan),
        tuple(told),
        both,
    )


def _require_no_worse(fit: Dispersion, known: xr.Dataset) -> None:
    """Raise LampError if lines scatter more than thrice as much as in the known solution."""
    limit = _LARGEST_RMS_RATIO * max(float(known.attrs.get("rms_pixel", math.inf)), _LEAST_RMS)
    if fit.rms_pixel > limit:
        raise LampError(
            f"The lines scatter by {fit.rms_pixel:.2f} pixel about order {fit.order}, and by "
            f"{known.attrs['rms_pixel']:.2f} in the known solution: it is from another setup",
            hint="Run without --solution to identify the lamp by itself.",
        )


def _between(
    sides: Sequence[tuple[np.datetime64, Dispersion]], middle: np.datetime64
) -> Dispersion:
    """Return the solution at a time between two; beyond them that of the nearer one."""
    (first, before), (last, after) = sides
    whole = (last - first) / np.timedelta64(1, "s")
    part = (middle - first) / np.timedelta64(1, "s") / whole if whole > 0 else 0.5
    return interpolate_dispersion(before, after, min(max(float(part), 0.0), 1.0))


def lamp_notes(name: str, lines: xr.Dataset, header_object: str = "") -> list[str]:
    """Return what the name of a lamp, and the light of its lines, say against its identification.

    Parameters
    ----------
    name : of the frame.
    lines : attributes `lamp`, its elements as identified, and `flux_explained`, where known.
    header_object : the card OBJECT of the frame.

    Examples
    --------
    >>> import xarray as xr
    >>> found = xr.Dataset(attrs={"lamp": "Ne", "flux_explained": 0.78})
    >>> for note in lamp_notes("Xenon_10s", found):
    ...     print(note)
    Xenon_10s: name states Xe, but its lines are those of Ne
    Xenon_10s: Ne explains 78 % of the flux of its lines; the rest is unidentified
    >>> lamp_notes("arc-neon-0012", xr.Dataset(attrs={"lamp": "Ne"}))
    []
    """
    lamp = str(lines.attrs.get("lamp", ""))
    told = []
    for what, text in (("name", name), ("header", header_object)):
        words = re.findall("[a-z]+", text.lower())
        named = {element for word, element in _GASES.items() if word in words}
        if lamp and named and named != set(lamp.split("+")):
            listed = "+".join(sorted(named))
            told.append(f"{name}: {what} states {listed}, but its lines are those of {lamp}")
    explained = float(lines.attrs.get("flux_explained", math.nan))
    if explained < _WELL_EXPLAINED:
        told.append(
            f"{name}: {lamp} explains {100 * explained:.0f} % of the flux of its lines; the rest "
            "is unidentified"
        )
    return told


def solve_given(arc: xr.Dataset, given: xr.Dataset, *, order: int | None = None) -> Solved:
    """Return the wavelengths that lines identified by the user give.

    Parameters
    ----------
    arc : (lamp, x), the lamps through the aperture of the target.
    given : `x`, `wavelength`, `element` and `source` (line), "lamp" or "star"; the centroid of a
        line of the lamp nearby takes the place of its x.
    order : of the polynomial; None: chosen.

    Raises
    ------
    LampError
        The lines do not suffice, or make no solution.
    """
    names = list(map(str, arc[LAMP].values))
    x = given["x"].values.astype(np.float64)
    error, width = np.full(x.size, _ERROR_BY_EYE), np.full(x.size, np.nan)
    source = given["source"].values.astype(str)
    for i in range(len(names)):
        try:
            found = find_lamp_lines(arc.isel({LAMP: i}))
        except LampError:
            continue
        if not found.sizes["line"]:
            continue
        away = np.abs(found["x"].values - given["x"].values[:, np.newaxis])
        nearest = away.argmin(axis=1)
        near = (away.min(axis=1) < float(found.attrs["fwhm"])) & (source == "lamp")
        near &= found["x_err"].values[nearest] < error
        x[near] = found["x"].values[nearest[near]]
        error[near] = found["x_err"].values[nearest[near]]
        width[near] = found["width"].values[nearest[near]]
    label = np.where(source == "star", "star", ", ".join(names))
    lines = given.assign(
        x=("line", x), x_err=("line", error), width=("line", width), lamp=("line", label)
    )
    between = "source" if len(set(source)) > 1 else None
    dispersion = fit_dispersion(lines, order, given=True, shift_between=between)
    told = (
        ()
        if dispersion.has_residuals
        else ("no residuals: as many coefficients as lines, error unknown",)
    )
    measured = lines if dispersion.lines is None else dispersion.lines
    minutes = arc["minutes"].values.astype(float)
    nearest_gap = float(minutes[np.argmin(np.nan_to_num(np.abs(minutes), nan=np.inf))])
    plain = replace(dispersion, lamp=dispersion.lamp or "given", lines=None)
    return Solved(plain, measured, tuple(names), nearest_gap, math.nan, told)


def _carried(arc: xr.Dataset, i: int, known: xr.Dataset) -> xr.Dataset:
    """Return the lines of the i-th lamp of a target, known again, with the lamp's name."""
    lines = carry_identities(find_lamp_lines(arc.isel({LAMP: i})), known)
    return lines.assign(lamp=("line", np.full(lines.sizes["line"], str(arc[LAMP].values[i]))))


def _of_same_lamp(lines: xr.Dataset, first: xr.Dataset) -> xr.Dataset:
    """Return lines carried from another lamp, if they name as much of the light as in the first.

    Raises
    ------
    LampError
        They do not: something else shines in this lamp.
    """
    ours, theirs = (
        float(np.add.reduce(flux[np.isfinite(one["wavelength"].values)]) / np.add.reduce(flux))
        for one in (lines, first)
        for flux in [one["flux"].values]
    )
    if ours < _SAME_LIGHT * theirs:
        raise LampError(
            f"The lines of the other lamp name {ours:.0%} of the light, and {theirs:.0%} there",
            hint="Identify this lamp separately.",
        )
    explained = float(first.attrs.get("flux_explained", math.nan)) * ours / theirs
    return lines.assign_attrs(flux_explained=min(explained, 1.0))


def _sides(arc: xr.Dataset, lamps: list[int], middle: np.datetime64 | None) -> list[list[int]]:
    """Return the lamps to be fitted together, before and after the middle of the exposure."""
    times = arc["time_mid"].values
    if middle is None or np.isnat(times[lamps]).any():
        return [lamps]
    away = {i: float((times[i] - middle) / np.timedelta64(1, "m")) for i in lamps}
    sides = [[i for i in lamps if away[i] <= 0], [i for i in lamps if away[i] > 0]]
    near = []
    for side in filter(None, sides):
        least = min(abs(away[i]) for i in side)
        near.append([i for i in side if abs(away[i]) <= least + _ONE_VISIT])
    return near


def _mean_time(arc: xr.Dataset, side: Sequence[int]) -> Any:
    times = arc["time_mid"].values[list(side)]
    start = times[0]
    return start + np.add.reduce(times - start) // len(times)


def _shift_between(one: Dispersion, other: Dispersion) -> float:
    """Return by how many pixels the lines of another solution lie higher, in the middle."""
    x = (max(one.first_pixel, other.first_pixel) + min(one.last_pixel, other.last_pixel)) / 2
    return float((one.wavelength(x) - other.wavelength(x)) / one.dispersion(x))


class Corrections(NamedTuple):
    """What is applied to the wavelengths of a lamp, beyond what the lamp says.

    Parameters
    ----------
    zero_point : the lines that tell it: "sky", "oxygen" or "star"; "none": it is measured only.
    star_velocity : of a star whose lines tell the zero point, km/s against the barycentre.
    barycentric : take the velocity of the Earth out.
    carried : a zero point that another target of the night told, by its name; it takes the place of
        `zero_point`.
    """

    zero_point: Literal["none", "sky", "oxygen", "star"] = "none"
    star_velocity: float | None = None
    barycentric: bool = False
    carried: tuple[str, ZeroPoint] | None = None


AS_THE_LAMP_SAYS = Corrections()


def with_wavelengths(
    spectrum: xr.Dataset,
    solved: Solved,
    header: Mapping[str, Any],
    middle: np.datetime64 | None,
    corrections: Corrections = AS_THE_LAMP_SAYS,
) -> xr.Dataset:
    """Return a spectrum with the wavelength of each pixel; its flux is untouched.

    Parameters
    ----------
    spectrum : (x).
    solved : of its lamps.
    header : the cards of the target: place and site give the velocity of the Earth.
    middle : of its exposures, UTC, or None.
    corrections : applied to the wavelengths; by default none.

    Returns
    -------
    spectrum : with the coordinate `wavelength` (x), Angstrom in air, topocentric unless the Earth's
        velocity is taken out, in the order of the pixels, and `extrapolated` (x), True beyond the
        outermost lines used; attributes are those of the cards (`SPECTRUM_CARDS`). The zero points
        of sky and oxygen are among them, where they can be measured, applied or not.

    Raises
    ------
    LampError
        The zero point that is asked for cannot be measured, or the Earth's velocity is not known.
    """
    dispersion, x = solved.dispersion, spectrum[X].values
    beyond = {"units": "", "long_name": "beyond the outermost arc lines"}
    ends = dispersion.wavelength(np.array([dispersion.first_pixel, dispersion.last_pixel]))
    facts: dict[str, Any] = {
        "wavelength_medium": "air",
        "wavelength_frame": "TOPOCENT",
        "wavelength_order": dispersion.order,
        "wavelength_lines": dispersion.n_lines,
        "wavelength_rms": dispersion.rms,
        "wavelength_rms_pixel": dispersion.rms_pixel,
        "wavelength_first": float(min(ends)),
        "wavelength_last": float(max(ends)),
        "wavelength_lamp": dispersion.lamp,
        "wavelength_gap": solved.minutes,
        "wavelength_nfa": solved.log10_nfa,
        "wavelength_zero": 0.0,
        "resolving_power": dispersion.resolving_power,
        **(earth_motion(header, middle) if middle is not None else {}),
    }
    told = (
        f"wavelengths: {dispersion.lamp} ({', '.join(solved.lamps)}), {dispersion.n_lines} lines, "
        f"order {dispersion.order}, rms {dispersion.rms_pixel:.3f} pixel"
    )
    known = {k: v for k, v in facts.items() if not (isinstance(v, float) and math.isnan(v))}
    wave = (X, dispersion.wavelength(x), WAVELENGTH_ATTRS)
    found = spectrum.assign_coords({WAVELENGTH: wave})
    found = found.assign(extrapolated=(X, dispersion.is_extrapolated(x), beyond))
    found = add_history(found.assign_attrs(known), told)
    return _corrected(found, dispersion, corrections)


def _corrected(spectrum: xr.Dataset, dispersion: Dispersion, wanted: Corrections) -> xr.Dataset:
    """Return a spectrum with its zero points measured, and with the corrections asked for."""
    points: dict[str, ZeroPoint] = {}
    for by in ("sky", "oxygen"):
        with suppress(LampError):
            points[by] = measure_zero_point(spectrum, by)
    if wanted.zero_point != "none" and wanted.zero_point not in points:
        points[wanted.zero_point] = measure_zero_point(
            spectrum, wanted.zero_point, velocity=wanted.star_velocity
        )
    for by, point in points.items():
        measured = {f"zero_{by}": point.pixels, f"zero_{by}_error": point.error}
        spectrum = spectrum.assign_attrs(measured)
    origin: str = wanted.zero_point
    applied = points.get(origin)
    if wanted.carried is not None:
        name, applied = wanted.carried
        origin = f"{applied.by} in {name}"
    if applied is not None:
        wave = dispersion.wavelength(spectrum[X].values - applied.pixels)
        spectrum = spectrum.assign_coords({WAVELENGTH: (X, wave, spectrum[WAVELENGTH].attrs)})
        told = f"zero point of {origin} applied: {applied.pixels:+.2f} +- {applied.error:.2f} pixel"
        spectrum = add_history(spectrum.assign_attrs(wavelength_zero=applied.pixels), told)
    if wanted.barycentric:
        velocity = spectrum.attrs.get("barycentric_velocity")
        if velocity is None:
            raise LampError(
                "The velocity of the Earth towards the star is not known: the header lacks the "
                "position of the star or the observatory",
                hint="Add RA, DEC, SITELAT and SITELONG with --card, or remove --heliocentric.",
            )
        factor = 1 + velocity / LIGHT_SPEED
        attrs = {**spectrum[WAVELENGTH].attrs, "frame": "barycentric"}
        ends = {
            name: spectrum.attrs[name] * factor for name in ("wavelength_first", "wavelength_last")
        }
        wave = (X, spectrum[WAVELENGTH].values * factor, attrs)
        spectrum = spectrum.assign_coords({WAVELENGTH: wave})
        spectrum = spectrum.assign_attrs(wavelength_frame="BARYCENT", **ends)
        spectrum = add_history(spectrum, f"barycentric correction applied: {velocity:+.3f} km/s")
    return spectrum


def frames_with_wavelengths(
    frames: xr.Dataset, solved: Solved, spectrum: xr.Dataset, header: Mapping[str, Any]
) -> xr.Dataset:
    """Return the spectra of frames with the wavelengths of each at the middle of its exposure.

    Parameters
    ----------
    frames : (frame, x), with `time_mid` (frame); without a time a frame has those of the whole.
    solved : of the lamps.
    spectrum : of all frames, with wavelengths: its zero point, and whether the velocity of the
        Earth is taken out (here at the time of each frame), hold for them too.
    header : the cards of the target.

    Returns
    -------
    frames : with the coordinate `wavelength` (frame, x), Angstrom in air.
    """
    shift = float(spectrum.attrs.get("wavelength_zero", 0.0))
    x, n = frames[X].values - shift, frames.sizes[FRAME]
    times = np.full(n, np.datetime64("NaT", "ns"))
    if "time_mid" in frames.coords:
        times = frames["time_mid"].values
    waves = np.array(
        [
            (solved.dispersion if np.isnat(middle) else solved.at(middle)).wavelength(x)
            for middle in times
        ]
    )
    if spectrum.attrs["wavelength_frame"] == "BARYCENT":
        whole = spectrum.attrs["barycentric_velocity"]
        velocity = [
            earth_motion(header, middle).get("barycentric_velocity", whole) for middle in times
        ]
        waves *= 1 + np.array(velocity)[:, np.newaxis] / LIGHT_SPEED
    attrs = spectrum[WAVELENGTH].attrs
    return frames.assign_coords({WAVELENGTH: ((FRAME, X), waves, attrs)})


def wavelength_texts(facts: Mapping[str, Any]) -> list[str]:
    """Return the range and the error of a solution, and each zero point measured, as text.

    Parameters
    ----------
    facts : the attributes of a spectrum; without wavelengths there is no text.

    Examples
    --------
    >>> facts = {"wavelength_first": 5852.6, "wavelength_last": 7032.4, "wavelength_lines": 20,
    ...          "wavelength_lamp": "Ne", "wavelength_order": 1, "wavelength_rms_pixel": 0.061,
    ...          "zero_oxygen": -3.39, "zero_oxygen_error": 0.05, "wavelength_zero": 0.0}
    >>> for text in wavelength_texts(facts):
    ...     print(text)
    5853 to 7032 Angstrom from 20 lines of Ne, order 1, rms 0.061 pixel
    oxygen lines are shifted by -3.39 +- 0.05 pixel from the arc lines (not corrected)
    """
    if "wavelength_first" not in facts:
        return []
    first, last, n = (facts[f"wavelength_{name}"] for name in ("first", "last", "lines"))
    rms = facts.get("wavelength_rms_pixel", math.nan)
    error = f"rms {rms:.3f} pixel" if math.isfinite(rms) else "no residuals"
    lamp = f" of {facts['wavelength_lamp']}" if facts.get("wavelength_lamp") else ""
    texts = [
        f"{first:.0f} to {last:.0f} Angstrom from {n} lines{lamp}, order "
        f"{facts['wavelength_order']}, {error}"
    ]
    for by in ("sky", "oxygen", "star"):
        if f"zero_{by}" in facts:
            shift, error = facts[f"zero_{by}"], facts[f"zero_{by}_error"]
            state = "corrected" if shift == facts.get("wavelength_zero") else "not corrected"
            texts.append(
                f"{by} lines are shifted by {shift:+.2f} +- {error:.2f} pixel from the "
                f"arc lines ({state})"
            )
    return texts


# The motion of the Earth towards a star: `earth_motion`.
#
# ERFA, the library that astropy calls, in 0.05 s instead of the 0.6 s that importing
# astropy.coordinates takes; it needs no file of the Earth's rotation: UT1 is taken to be UTC, which
# is wrong by up to 0.9 s, 0.0003 km/s.

_AU_PER_DAY = 149597870.7 / 86400.0  # km/s
_PLACES = (("RA", "DEC"), ("OBJCTRA", "OBJCTDEC"))
_SITES = (
    ("LATITUDE", "LONGITUD", "HEIGHT"),
    ("SITELAT", "SITELONG", "SITEELEV"),
    ("GEO_LAT", "GEO_LONG", "GEO_ELEV"),
    ("LAT-OBS", "LONG-OBS", "ALT-OBS"),
)


def earth_motion(header: Mapping[str, Any], middle: np.datetime64) -> dict[str, float]:
    """Return the barycentric correction (km/s) and the barycentric Julian date (TDB).

    Parameters
    ----------
    header : cards of place (RA, DEC: hours or degrees, J2000) and site (degrees, east positive).
    middle : of the exposures, UTC.

    Returns
    -------
    facts : `barycentric_velocity`, to be added to a velocity measured (Wright & Eastman 2014, PASP
        126, 838, to first order), and `barycentric_date`. Without a site they are those of the
        centre of the Earth, 0.5 km/s and 0.02 s off at most, and the first has the name
        `geocentric_velocity` instead; empty without a place.

    Examples
    --------
    >>> header = {"RA": "18:36:56.3", "DEC": "+38:47:01"}
    >>> found = earth_motion(header, np.datetime64("2019-10-29T23:42:05"))
    >>> {name: round(value, 2) for name, value in found.items()}
    {'geocentric_velocity': -13.21, 'barycentric_date': 2458786.49}
    """
    place = place_of(header)
    if place is None or np.isnat(middle):
        return {}
    import erfa

    days = float((middle - np.datetime64("2000-01-01T12:00:00")) / np.timedelta64(1, "D"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tt = erfa.taitt(*erfa.utctai(erfa.DJ00, days))
        earth = erfa.epv00(*tt)[1]
        position, velocity = earth["p"].copy(), earth["v"].copy()
        site = site_of(header)
        if site is not None:
            longitude, latitude, height = site
            angle = erfa.era00(erfa.DJ00, days)
            own = erfa.pvtob(longitude, latitude, height, 0.0, 0.0, 0.0, angle)
            turn = erfa.c2i06a(*tt).T
            position = position + turn @ own["p"] / erfa.DAU
            velocity = velocity + turn @ own["v"] / erfa.DAU * erfa.DAYSEC
    alpha, delta = np.radians(place)
    to_star = np.array(
        [np.cos(delta) * np.cos(alpha), np.cos(delta) * np.sin(alpha), np.sin(delta)]
    )
    name = "geocentric_velocity" if site is None else "barycentric_velocity"
    light = float(position @ to_star) * erfa.AULT / erfa.DAYSEC
    return {
        name: float(velocity @ to_star) * _AU_PER_DAY,
        "barycentric_date": float(tt[0]) + float(tt[1]) + light,
    }


def place_of(header: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return right ascension and declination of the target, degrees, or None."""
    for ra, dec in _PLACES:
        alpha, delta = angle_of(header.get(ra), hours=True), angle_of(header.get(dec))
        if alpha is not None and delta is not None:
            return alpha, delta
    return None


def site_of(header: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Return longitude (radians, east positive), latitude (radians) and height (m), or None.

    A longitude in the western style, three numbers without a sign, is not believed.
    """
    for latitude, longitude, height in _SITES:
        north, east = angle_of(header.get(latitude)), angle_of(header.get(longitude))
        unsigned = lacks_sign(header.get(longitude))
        if north is not None and east is not None and not unsigned and abs(north) <= 90:
            up = header.get(height)
            metres = float(up) if isinstance(up, int | float) else 0.0
            return math.radians(east), math.radians(north), metres
    return None


def lacks_sign(longitude: Any) -> bool:
    """Return whether a longitude is a sexagesimal text without a sign, so east or west.

    Examples
    --------
    >>> lacks_sign("89 53 30"), lacks_sign("+89:53:30"), lacks_sign(89.9), lacks_sign(None)
    (True, False, False, False)
    """
    parts = _parts_of_angle(longitude)
    return len(parts) > 1 and parts[0][:1] not in "+-"


def angle_of(value: Any, *, hours: bool = False) -> float | None:
    """Return an angle in degrees from a number of degrees or a sexagesimal text; None if neither.

    Parameters
    ----------
    value : of a card.
    hours : the text is in hours.

    Examples
    --------
    >>> angle_of("-00:30:00"), angle_of("12h30m00s", hours=True), angle_of(187.5), angle_of("N/A")
    (-0.5, 187.5, 187.5, None)
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    parts = _parts_of_angle(value)
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        return None
    if not 1 <= len(numbers) <= 3:
        return None
    size = sum(abs(number) / 60.0**i for i, number in enumerate(numbers))
    size = -size if parts[0].startswith("-") else size
    return size * 15 if hours and len(numbers) > 1 else size


def _parts_of_angle(value: Any) -> list[str]:
    """Return what the colons, blanks and signs of units of a sexagesimal text part."""
    return re.sub("[:hdms°'\"]", " ", str(value)).split()
