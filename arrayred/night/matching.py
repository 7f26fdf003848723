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
from arrayred.io.pixel_checks import unlike
from arrayred.night.group import Group

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
    reasons = [why_not(lights, dark, tolerance, temperature_tolerance) for dark in darks]
    fitting = [dark for dark, reason in zip(darks, reasons, strict=True) if not reason]
    if fitting:
        nearest = min(fitting, key=lambda dark: abs(dark.exptime - lights.exptime))
        alike = [dark for dark in fitting if dark.exptime == nearest.exptime]
        return min(alike, key=lambda dark: distance(lights, dark))
    found = "; ".join(
        f"{_described(dark)} ({reason})" for dark, reason in zip(darks, reasons, strict=True)
    )
    raise NoDarkError(
        f"No dark within {tolerance:g} s fits {lights.name}: {_described(lights)} "
        f"(darks: {found or 'none'})",
        path=lights.frames[0].path,
        keyword="EXPTIME",
        value=lights.exptime,
        hint="Take a matching dark, name a folder of darks with --calibrations, raise "
        "dark_tolerance in the recipe, exclude the frame, or give --no-dark.",
    )


def match_bias(
    lights: Group, biases: Sequence[Group], temperature_tolerance: float = 3.0
) -> Group | None:
    """Return the biases that fit best, or None; see `match_dark`."""
    fitting = [b for b in biases if not why_not(lights, b, None, temperature_tolerance)]
    return min(fitting, key=lambda bias: distance(lights, bias), default=None)


def remarks_on(lights: Group, dark: Group) -> tuple[str, ...]:
    """Return what a user should know about a match that is not ideal."""
    remarks = []
    kind = dark.frames[0].frame_type
    difference = warmer(lights, dark)
    if difference is not None and abs(difference) > EQUAL_TEMPERATURE:
        remarks.append(f"the {kind} is {difference:+.1f} deg C from the lights")
    if (lights.temperature is None) != (dark.temperature is None):
        whose = "lights" if lights.temperature is None else kind
        remarks.append(f"the temperature of the {whose} is unknown")
    age = age_in_days(lights, dark)
    if age is not None and age > _FRESH_DAYS:
        remarks.append(f"the {kind} was taken {age:.0f} days apart")
    if len(dark.frames) == 1 and not dark.is_master:
        remarks.append(f"the master {kind} is a single frame, whose noise stays in every light")
    flips = {frame.flip for frame in (*lights.frames, *dark.frames) if frame.flip is not None}
    if len(flips) > 1:
        remarks.append(
            f"frames are flipped in different ways: {', '.join(map(repr, sorted(flips)))}"
        )
    return tuple(remarks)


def remarks_from_pixels(lights: Group) -> tuple[str, ...]:
    """Return what a look at the pixels of a target's lights shows to be odd."""
    return tuple(unlike(lights.frames))


def why_not(
    lights: Group,
    dark: Group,
    tolerance: float | None,
    temperature_tolerance: float,
    *,
    any_bias: bool = False,
    any_unit: bool = False,
) -> str:
    """Return what keeps a dark from serving the lights, or "".

    Parameters
    ----------
    lights, dark : the frames.
    tolerance : largest difference of exposures, s; None: any exposure does.
    temperature_tolerance : largest difference of temperatures, deg C.
    any_bias : the bias may be gone from one of them only.
    any_unit : they may differ in unit.
    """
    light, other = lights.frames[0], dark.frames[0]
    theirs = dict(other.setup)
    if light.window != other.window:
        return "other shape" if light.shape != other.shape else "not trimmed alike"
    if light.loses_overscan != other.loses_overscan:
        return "overscan subtracted from one of them only"
    if light.unit != other.unit and not any_unit:
        return f"in {other.unit}, the light in {light.unit}"
    for name, value in light.setup:
        if theirs.get(name, value) != value:
            return f"other {name.replace('_', ' ')}"
    if not any_bias and ("B" in light.state) != ("B" in other.state):
        return "bias subtracted from one of them only"
    if tolerance is not None and abs(dark.exptime - lights.exptime) > tolerance:
        return "other exposure"
    difference = warmer(lights, dark)
    if difference is not None and abs(difference) > temperature_tolerance:
        return f"{difference:+.1f} deg C"
    return ""


def distance(lights: Group, dark: Group) -> tuple[bool, float]:
    """Return how far apart two groups are: whether in temperature, then in time, days."""
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
    count = "master" if group.is_master else str(len(group.frames))
    return f"{count} x {group.exptime:g} s of {columns} x {rows} pixels{setup}"
