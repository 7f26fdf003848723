"""Which darks serve which lights: `match_dark`.

A dark must show the same pixels read in the same way, still hold (or lack) the bias as the lights
do, and agree in exposure and temperature. Of those that do, the nearest exposure wins, of those of
one exposure an equal temperature, then the nearest time. The name of the instrument and the date
are no criterion: darks may come from a library, written months ago by another program.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from arrayred.errors import NoDarkError
from arrayred.night.groups import Group

EQUAL_TEMPERATURE = 1.0
"""deg C: a smaller difference between a light and its dark is not worth a word."""
_FRESH_DAYS = 2.0


def match_dark(
    lights: Group, darks: Sequence[Group], tolerance: float, temperature_tolerance: float = 3.0
) -> Group:
    """Return the darks that fit best; on a tie the first.

    Parameters
    ----------
    lights : the frames that need a dark.
    darks : the groups to choose from.
    tolerance : largest difference of exposures, s, inclusive.
    temperature_tolerance : largest difference of the detector's temperatures, deg C; unknown
        temperatures fit any.

    Raises
    ------
    NoDarkError
        None fits; the error says of each why not.
    """
    reasons = [_why_not(lights, dark, tolerance, temperature_tolerance) for dark in darks]
    fitting = [dark for dark, reason in zip(darks, reasons, strict=True) if not reason]
    if fitting:
        nearest = min(fitting, key=lambda dark: abs(dark.exptime - lights.exptime))
        alike = [dark for dark in fitting if dark.exptime == nearest.exptime]
        return min(alike, key=lambda dark: _distance(lights, dark))
    found = "; ".join(
        f"{_described(dark)} ({reason})" for dark, reason in zip(darks, reasons, strict=True)
    )
    raise NoDarkError(
        f"No dark within {tolerance:g} s fits {lights.name}: {_described(lights)} "
        f"(darks: {found or 'none'})",
        path=lights.frames[0].path,
        keyword="EXPTIME",
        value=lights.exptime,
        hint="Take a matching dark, raise dark_tolerance in the recipe, or exclude the frame.",
    )


def remarks_on(lights: Group, dark: Group) -> tuple[str, ...]:
    """Return what a user should know about a match that is not ideal."""
    remarks = []
    difference = warmer(lights, dark)
    if difference is not None and abs(difference) > EQUAL_TEMPERATURE:
        remarks.append(f"the dark is {difference:+.1f} deg C from the lights")
    age = age_in_days(lights, dark)
    if age is not None and age > _FRESH_DAYS:
        remarks.append(f"the dark was taken {age:.0f} days apart")
    return tuple(remarks)


def _why_not(lights: Group, dark: Group, tolerance: float, temperature_tolerance: float) -> str:
    """Return what keeps a dark from serving the lights, or ""."""
    light, other = lights.frames[0], dark.frames[0]
    theirs = dict(other.setup)
    if light.shape != other.shape:
        return "other shape"
    for name, value in light.setup:
        if theirs.get(name, value) != value:
            return f"other {name.replace('_', ' ')}"
    if ("B" in light.calstat) != ("B" in other.calstat):
        return "bias subtracted from one of them only"
    if abs(dark.exptime - lights.exptime) > tolerance:
        return "other exposure"
    difference = warmer(lights, dark)
    if difference is not None and abs(difference) > temperature_tolerance:
        return f"{difference:+.1f} deg C"
    return ""


def _distance(lights: Group, dark: Group) -> tuple[bool, float]:
    difference, age = warmer(lights, dark), age_in_days(lights, dark)
    unlike = difference is not None and abs(difference) > EQUAL_TEMPERATURE
    return unlike, float("inf") if age is None else age


def warmer(lights: Group, dark: Group) -> float | None:
    """Return by how many deg C the darks are warmer, on the mean; None where unknown."""
    ours, theirs = lights.temperature, dark.temperature
    return None if ours is None or theirs is None else theirs - ours


def age_in_days(lights: Group, dark: Group) -> float | None:
    """Return how many days lights and darks were taken apart; None where unknown."""
    ours, theirs = lights.frames[0].time, dark.frames[0].time
    return None if ours is None or theirs is None else abs(ours - theirs) / timedelta(days=1)


def _described(group: Group) -> str:
    """Return what must fit: number and exposure of frames, pixels, detector setup."""
    rows, columns = group.frames[0].shape
    setup = "".join(f", {name} {value}" for name, value in group.frames[0].setup)
    return f"{len(group.frames)} x {group.exptime:g} s of {columns} x {rows} pixels{setup}"
