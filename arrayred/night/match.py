"""Match biases, darks and flats to the frames that they calibrate.

A dark must have the same pixels, read out with the same settings, contain (or lack) the bias as the
light frames do, and agree in exposure and temperature. Of the darks that fit, the nearest exposure
is taken; among equal exposures, a dark of equal temperature, then the nearest in time. The name of
the instrument and the date are not criteria: darks may come from a library, written months ago by
another program. Those of a library (``--calibrations``, or other nights) are used only where none
of the night itself fits: what else is at hand never changes the result of a complete night.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from arrayred.config import Recipe
from arrayred.errors import NoDarkError, UsageError
from arrayred.io.frames import ROUNDING_SLACK, Frame, observing_runs
from arrayred.io.pixel_checks import row_order, target_change_warnings, why_flat_unusable
from arrayred.model import to_check
from arrayred.night.groups import (
    Group,
    list_of_names,
    slug,
    split_by_target,
    state_of,
    stem_and_number,
    target_name,
    with_unique_names,
)

EQUAL_TEMPERATURE = 1.0
"""deg C: smaller differences between the lights and their dark are not reported."""
_FRESH_DAYS = 2.0
OTHER_EXPOSURE = "different exposure time"
_NEAR_ENOUGH = 0.2
"""Part of the exposure by which a dark may differ for the user to be told how to accept it."""


def match_dark(
    lights: Group,
    darks: Sequence[Group],
    tolerance: float,
    temperature_tolerance: float = 3.0,
    *,
    may_scale: bool = True,
) -> Group:
    """Return the best matching darks; on a tie the first.

    Parameters
    ----------
    lights : the frames that need a dark.
    darks : the groups to choose from.
    tolerance : largest difference of exposures, s, inclusive.
    temperature_tolerance : largest difference of the detector's temperatures, deg C; unknown
        temperatures match any.
    may_scale : where none fits, scaling a longer one is proposed.

    Raises
    ------
    NoDarkError
        None fits; the error gives the reason for each.
    """
    reasons = [why_dark_unfit(lights, dark, tolerance, temperature_tolerance) for dark in darks]
    fitting = [dark for dark, reason in zip(darks, reasons, strict=True) if not reason]
    if fitting:
        nearest = min(fitting, key=lambda dark: abs(dark.exptime - lights.exptime))
        alike = [dark for dark in fitting if dark.exptime == nearest.exptime]
        return min(alike, key=lambda dark: match_distance(lights, dark))
    if not darks:
        raise NoDarkError(
            "No dark frames found",
            hint="Add a folder of darks (--calibrations DIR), or reduce without darks (--no-dark).",
        )
    found = "; ".join(
        f"{_requirements_of(dark)} ({reason})" for dark, reason in zip(darks, reasons, strict=True)
    )
    raise NoDarkError(
        f"No dark within {tolerance:g} s fits {lights.name}: {_requirements_of(lights)} "
        f"(darks: {found})",
        path=lights.frames[0].path,
        keyword="EXPTIME",
        value=lights.exptime,
        hint=" ".join(_ways_to_a_dark(lights, darks, reasons, may_scale)),
    )


def _ways_to_a_dark(
    lights: Group, darks: Sequence[Group], reasons: Sequence[str], may_scale: bool
) -> Iterator[str]:
    """Yield what can be done where no dark fits, in sentences.

    Parameters
    ----------
    lights, darks : the frames.
    reasons : why each of the darks does not fit.
    may_scale : whether scaling a longer one is proposed.
    """
    others = [d for d, why in zip(darks, reasons, strict=True) if why == OTHER_EXPOSURE]
    nearest = min((abs(dark.exptime - lights.exptime) for dark in others), default=math.inf)
    if nearest <= _NEAR_ENOUGH * lights.exptime:
        yield (
            f"To use the nearest exposure time, set dark_tolerance = {nearest:.3g} in the recipe."
        )
    if may_scale and any(dark.exptime > lights.exptime for dark in others):
        yield "Use --scale-dark to scale the longer dark (needs a bias)."
    yield "Add a folder of matching darks (--calibrations DIR), exclude the frame,"
    yield "or reduce without darks (--no-dark)."


def match_bias(
    lights: Group, biases: Sequence[Group], temperature_tolerance: float = 3.0
) -> Group | None:
    """Return the best matching biases, or None; see `match_dark`."""
    fitting = [b for b in biases if not why_dark_unfit(lights, b, None, temperature_tolerance)]
    return min(own_first(fitting), key=lambda bias: match_distance(lights, bias), default=None)


def own_first(groups: Sequence[Group]) -> Sequence[Group]:
    """Return the groups of the night's own frames; all where there is none."""
    return [group for group in groups if group.is_own] or groups


def dark_remarks(lights: Group, dark: Group) -> tuple[str, ...]:
    """Return the remarks for the user on a match that is not ideal."""
    remarks = []
    kind = dark.frames[0].frame_type
    difference = warmer(lights, dark)
    if difference is not None and abs(difference) > EQUAL_TEMPERATURE:
        remarks.append(to_check(f"the {kind} is {difference:+.1f} deg C from the light frames"))
    if (lights.temperature is None) != (dark.temperature is None):
        whose = "lights" if lights.temperature is None else kind
        remarks.append(f"the temperature of the {whose} is unknown")
    age = age_in_days(lights, dark)
    if age is not None and age > _FRESH_DAYS:
        remarks.append(to_check(f"the {kind} was taken {age:.0f} days apart"))
    if len(dark.frames) == 1 and not dark.is_master:
        remarks.append(
            f"the master {kind} is a single frame, whose noise remains in every light frame"
        )
    flips = {frame.flip for frame in (*lights.frames, *dark.frames) if frame.flip is not None}
    if len(flips) > 1:
        told = f"frames are flipped differently: {', '.join(map(repr, sorted(flips)))}"
        remarks.append(to_check(told))
    orders = {row_order(frame) for frame in (*lights.frames, *dark.frames)}
    if "" in orders and len(orders) > 1:
        told = "only some frames have ROWORDER (TOP-DOWN or BOTTOM-UP): others may be upside down"
        remarks.append(to_check(told))
    return tuple(remarks)


def gain_remarks(lights: Group, dark: Group | None) -> tuple[str, ...]:
    """Return a remark if the gains of lights, or of them and their dark or bias, differ by 1 %."""
    frames = (*lights.frames, *(() if dark is None else dark.frames))
    gains = sorted({frame.gain for frame in frames if frame.gain is not None})
    if not gains or gains[-1] <= 1.01 * gains[0]:
        return ()
    listed = ", ".join(f"{gain:g}" for gain in gains)
    return (to_check(f"the gains of the frames differ ({listed} electrons per ADU): so do counts"),)


def pixel_remarks(lights: Group) -> tuple[str, ...]:
    """Return the oddities found in the pixels of a target's lights."""
    return tuple(map(to_check, target_change_warnings(lights.frames)))


class Misfit(NamedTuple):
    """The reason why a calibration frame cannot be subtracted from a frame.

    `reason` is a few words, for a list; `keyword` is the header keyword; `ours` and `theirs` are
    the values of the frame and of the calibration frame.
    """

    reason: str
    keyword: str
    ours: str
    theirs: str


def misfit(
    frame: Frame,
    master: Frame,
    tolerance: float | None,
    *,
    any_bias: bool = False,
    any_unit: bool = False,
    whole: bool = False,
) -> Misfit | None:
    """Return why a calibration frame does not fit a frame, or None if it fits.

    This is the only place that decides it: for the plan of a night, for each frame of a flat, and
    for `arrayred combine --minus`.

    Parameters
    ----------
    frame, master : as their headers describe them.
    tolerance : largest difference of exposures, s; None: any exposure is accepted.
    any_bias : the corrections applied to them may differ, as for the parts of a synthetic dark.
    any_unit : they may differ in unit.
    whole : frames are used as stored: not trimmed, no overscan subtracted.
    """
    if whole and frame.shape != master.shape:
        return Misfit("different shape", "NAXIS", f"{frame.shape} pixels", f"{master.shape}")
    if not whole and frame.window != master.window:
        reason = "different shape" if frame.shape != master.shape else "trimmed differently"
        return Misfit(reason, "NAXIS", f"{frame.window}", f"{master.window}")
    if not whole and frame.loses_overscan != master.loses_overscan:
        reason = "overscan subtracted from one of them only"
        return Misfit(reason, "BIASSEC", f"{frame.loses_overscan}", f"{master.loses_overscan}")
    if frame.unit != master.unit and not any_unit:
        reason = f"in {master.unit}, the light frame in {frame.unit}"
        return Misfit(reason, "BUNIT", f"the unit {frame.unit}", master.unit)
    theirs = dict(master.setup)
    for name, value in frame.setup:
        if theirs.get(name, value) != value:
            return Misfit(
                f"different {name.replace('_', ' ')}", name, f"{name} {value}", theirs[name]
            )
    if not any_bias and (unlike_state := _unlike_states(frame, master)) is not None:
        return unlike_state
    if tolerance is None or frame.exptime is None or master.exptime is None:
        return None
    if abs(master.exptime - frame.exptime) > tolerance + ROUNDING_SLACK:
        return Misfit(OTHER_EXPOSURE, "EXPTIME", f"{frame.exptime:g} s", f"{master.exptime:g} s")
    return None


def _unlike_states(frame: Frame, master: Frame) -> Misfit | None:
    """Return the misfit of corrections (CALSTAT) between a frame and a master, or None."""
    taken, reason = letters_taken_by(master), ""
    if master.frame_type == "dark" and "D" in master.state:
        reason = "a dark from which a dark was subtracted"
    elif taken and ("B" in frame.state) != ("B" in master.state):
        reason = "bias subtracted from one of them only"
    elif "D" in frame.state and "D" in taken:
        reason = "the dark is already subtracted"
    elif taken and "F" in frame.state:
        reason = f"the frame was divided by a flat, the {master.frame_type} was not"
    return Misfit(reason, "CALSTAT", repr(frame.calstat), repr(master.calstat)) if reason else None


def letters_taken_by(master: Frame) -> str:
    """Return the CALSTAT letters that subtracting an image adds: a raw dark contains the bias."""
    if master.frame_type == "bias":
        return "B"
    if master.frame_type == "dark":
        return "D" if "B" in master.state else "BD"
    return ""


def why_dark_unfit(
    lights: Group,
    dark: Group,
    tolerance: float | None,
    temperature_tolerance: float,
    *,
    any_bias: bool = False,
    any_unit: bool = False,
) -> str:
    """Return why a dark cannot be used for the lights, or "".

    Parameters
    ----------
    lights, dark : the frames.
    tolerance : largest difference of exposures, s; None: any exposure is accepted.
    temperature_tolerance : largest difference of temperatures, deg C.
    any_bias : the bias may be subtracted from one of them only.
    any_unit : they may differ in unit.
    """
    light, other = lights.frames[0], dark.frames[0]
    found = misfit(light, other, tolerance, any_bias=any_bias, any_unit=any_unit)
    if found is not None:
        return found.reason
    difference = warmer(lights, dark)
    if difference is not None and abs(difference) > temperature_tolerance:
        return f"{difference:+.1f} deg C"
    return ""


def match_distance(lights: Group, dark: Group) -> tuple[bool, float]:
    """Return the distance of two groups: whether temperatures differ, then the time, days."""
    difference, age = warmer(lights, dark), age_in_days(lights, dark)
    unlike = difference is not None and abs(difference) > EQUAL_TEMPERATURE
    return unlike, float("inf") if age is None else age


def warmer(lights: Group, dark: Group) -> float | None:
    """Return the mean temperature of the darks minus that of the lights, deg C; None if unknown."""
    ours, theirs = lights.temperature, dark.temperature
    return None if ours is None or theirs is None else theirs - ours


def age_in_days(lights: Group, dark: Group) -> float | None:
    """Return the time between lights and darks, days; None if unknown."""
    ours, theirs = lights.frames[0].time, dark.frames[0].time
    return None if ours is None or theirs is None else abs(ours - theirs) / timedelta(days=1)


def _requirements_of(group: Group) -> str:
    """Return the properties to match as text: number, exposure, pixels, detector setup."""
    rows, columns = group.frames[0].shape
    setup = "".join(f", {name} {value}" for name, value in group.frames[0].setup)
    count = "master" if group.is_master else str(len(group.frames))
    return f"{count} x {group.exptime:g} s of {columns} x {rows} pixels{setup}"


# Synthetic darks: with a bias added or subtracted, or scaled from another exposure.
#
# The state of a frame is whether its bias and its dark have been subtracted. A dark is used for
# lights in the same state; if there is none, a synthetic one is made:
#
# ================  ================  ==========================================
# lights            darks             what is subtracted from the lights
# ================  ================  ==========================================
# raw               raw               the dark
# raw               bias subtracted   dark + bias
# bias subtracted   raw               dark - bias
# bias subtracted   bias subtracted   the dark
# raw               raw, longer       bias + (dark - bias) * t / T, on request
# ================  ================  ==========================================
#
# Only dark current is scaled: without a bias nothing is scaled. Scaling from a longer exposure is
# harmless; from a shorter one the noise grows with the factor, so it has an option of its own
# (`scale_dark = "both"`).

Calibrations = Mapping[str, Sequence[Group]]


@dataclass(frozen=True)
class SyntheticDark(Group):
    """A master dark made from another dark and a bias.

    Parameters
    ----------
    name : its own.
    frames : of the darks it is made from.
    dark : the darks.
    bias : the biases; None: neither the darks nor the lights contain the bias.
    wanted : the exposure that it is made for, s.
    keep_bias : whether the lights contain the bias, so that it is subtracted with the dark.
    """

    dark: Group
    bias: Group | None
    wanted: float
    keep_bias: bool

    def __repr__(self) -> str:
        """Return name, darks and biases, in a line."""
        return f"Made({self.name}: {self.dark!r}, {self.bias!r})"

    @property
    def is_master(self) -> bool:
        """Return False: it has to be made, even from masters."""
        return False

    @property
    def has_bias(self) -> bool:
        """Return whether the darks that it is made from contain the bias."""
        return "B" not in self.state

    @property
    def factor(self) -> float:
        """Return the factor by which the dark current is scaled."""
        same = self.wanted == self.dark.exptime
        return 1.0 if same else self.wanted / self.dark.exptime

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return a remark for the user if it was scaled, and whether its noise grew."""
        if self.factor == 1.0:
            return ()
        grown = ", which increased its noise by the same factor" if self.factor > 1 else ""
        told = f"the dark of {self.dark.exptime:g} s was scaled by {self.factor:.4g}{grown}"
        return (to_check(told),)

    @property
    def inputs(self) -> tuple[Frame, ...]:
        """Return the frames of the darks and of the biases."""
        return (*self.frames, *(self.bias.frames if self.bias else ()))

    @property
    def parts(self) -> tuple[Group, ...]:
        """Return the darks and, where they are needed, the biases."""
        return (self.dark,) if self.bias is None else (self.dark, self.bias)


def dark_for(lights: Group, calibrations: Calibrations, recipe: Recipe) -> Group:
    """Return the darks that match frames, or a synthetic dark made for them.

    Parameters
    ----------
    lights : the frames that need a dark.
    calibrations : the groups of biases and darks.
    recipe : `dark_tolerance`, `temperature_tolerance` and `scale_dark` are used.

    Raises
    ------
    NoDarkError
        None fits; the error gives the reason for each.
    """
    degrees = recipe.temperature_tolerance
    own = {kind: [g for g in groups if g.is_own] for kind, groups in calibrations.items()}
    for known in (own, calibrations):
        with suppress(NoDarkError):
            return match_dark(lights, known["dark"], recipe.dark_tolerance, degrees)
        made = _make_synthetic_dark(lights, known, recipe)
        if made is not None:
            return made
    darks, may_scale = calibrations["dark"], recipe.scale_dark == "no"
    try:
        return match_dark(lights, darks, recipe.dark_tolerance, degrees, may_scale=may_scale)
    except NoDarkError as error:
        if may_scale or not darks:
            raise
        both = recipe.replace(scale_dark="both")
        if not calibrations["bias"]:
            lacking, remedy = "no bias frames", "Add a folder of biases (--calibrations DIR)."
        elif _make_synthetic_dark(lights, calibrations, both) is not None:
            lacking, remedy = "they are shorter", 'Set scale_dark = "both" in the recipe.'
        else:
            lacking, remedy = "no matching dark and bias", ""
        raise NoDarkError(
            f"{error.args[0]}; none can be scaled: {lacking}",
            path=error.path,
            keyword=error.keyword,
            value=error.value,
            hint=f"{remedy} {error.hint}".lstrip(),
        ) from error


def _make_synthetic_dark(
    lights: Group, calibrations: Calibrations, recipe: Recipe
) -> SyntheticDark | None:
    """Return a synthetic dark for lights, an unscaled one if possible."""
    for tolerance in [recipe.dark_tolerance, *([None] if recipe.scale_dark != "no" else [])]:
        fitting = [
            dark
            for dark in calibrations["dark"]
            if not why_dark_unfit(
                lights, dark, tolerance, recipe.temperature_tolerance, any_bias=True
            )
            and (tolerance is not None or _may_scale(dark, lights, recipe))
        ]
        nearest = sorted(
            fitting,
            key=lambda dark: (abs(dark.exptime - lights.exptime), match_distance(lights, dark)),
        )
        for dark in nearest:
            made = _synthetic_dark_from(
                dark, lights, calibrations["bias"], scaled=tolerance is None
            )
            if made is not None:
                return made
    return None


def _may_scale(dark: Group, lights: Group, recipe: Recipe) -> bool:
    longer = dark.exptime >= lights.exptime
    return lights.exptime > 0 and dark.exptime > 0 and (longer or recipe.scale_dark == "both")


def _synthetic_dark_from(
    dark: Group, lights: Group, biases: Sequence[Group], *, scaled: bool
) -> SyntheticDark | None:
    """Return the synthetic dark from one dark and the nearest matching bias, if it needs one."""
    has_bias, keep_bias = "B" not in dark.state, "B" not in lights.state
    fitting = [
        bias
        for bias in biases
        if "B" not in bias.state
        and not why_dark_unfit(lights, bias, None, float("inf"), any_bias=True)
    ]
    bias = min(own_first(fitting), key=lambda bias: match_distance(dark, bias), default=None)
    if bias is None and (has_bias or keep_bias):
        return None
    change = "" if has_bias == keep_bias else "_with_bias" if keep_bias else "_less_bias"
    name = f"{lights.exptime:g}s_from_{dark.name}" if scaled else dark.name
    wanted = lights.exptime if scaled else dark.exptime
    needed = bias if has_bias or keep_bias else None
    return SyntheticDark(f"{name}{change}", dark.frames, dark, needed, wanted, keep_bias)


# Flats: group them, calibrate them, match them to targets.
#
# Flats whose headers give the grating become one master flat for each setup of detector and optics
# (GRATING, GRATANG, FILTER, SLIT) and each observing run, whatever their exposures. Others are
# grouped like lights, by OBJECT or file name, since flats through two gratings must not be mixed;
# if there are several such groups none is used, since nothing shows which one fits. A filter alone
# decides nothing: at Stony Brook the flats of both gratings have "Clear". Every flat needs the dark
# of its own exposure, or a synthetic one, or at least a bias.


@dataclass(frozen=True)
class Flat:
    """The frames of a master flat, and the darks or biases subtracted from each of them.

    Parameters
    ----------
    frames : flats of one setup, or a single master flat.
    darks : for each frame, the darks or biases whose master is subtracted from it, or None.
    """

    frames: Group
    darks: tuple[Group | None, ...]

    @property
    def key(self) -> str:
        """Return the key of the flat, unique among the masters of a night."""
        return self.frames.key

    @property
    def name(self) -> str:
        """Return its name, unique among the plan's flats."""
        return self.frames.name

    @property
    def master_name(self) -> str:
        """Return the file name of the master flat."""
        if self.is_finished:
            return self.frames.frames[0].path.name
        return f"master_{self.frames.title.replace(' ', '_')}.fits"

    @property
    def is_finished(self) -> bool:
        """Return whether this is a master flat made by arrayred, which is used unchanged."""
        return self.frames.frames[0].is_own

    @property
    def masters(self) -> tuple[Group, ...]:
        """Return the groups of its darks and biases, each once."""
        return tuple({group.key: group for group in self.darks if group is not None}.values())

    @property
    def inputs(self) -> tuple[Frame, ...]:
        """Return all frames used to make it."""
        return (*self.frames.inputs, *(f for group in self.masters for f in group.inputs))

    @property
    def calstat(self) -> str:
        """Return the CALSTAT letters of the corrections applied to all of its frames."""
        states = []
        for frame, master in zip(self.frames.frames, self.darks, strict=True):
            here = "" if master is None else "B" if master.kind == "bias" else "BD"
            states.append({*here, *frame.state})
        return "".join(letter for letter in "BD" if all(letter in state for state in states))


def flats_of(frames: Sequence[Frame]) -> list[Group]:
    """Return groups of flats, one for each setup and optics, whatever their exposures.

    Flats whose headers do not give the grating are grouped like lights. Those of libraries come
    last, and do not change the names of the night's own.
    """
    own = _named_flats([frame for frame in frames if not frame.library], ())
    return [*own, *_named_flats([frame for frame in frames if frame.library], own)]


def _named_flats(frames: Sequence[Frame], others: Sequence[Group]) -> list[Group]:
    """Return groups of flats, their names unique also among others."""
    known: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    for frame in frames:
        if _tells_grating(frame) and not frame.is_master:
            known[frame.optics, state_of(frame)].append(frame)
    runs = [run for group in known.values() for run in observing_runs(group)]
    told = with_unique_names(
        [(slug("_".join(filter(None, run[0].optics))), run) for run in runs], others
    )
    rest = [frame for frame in frames if frame.is_master or not _tells_grating(frame)]
    return [
        *told,
        *with_unique_names(
            [(target_name(g), g) for g in split_by_target(rest, ())], [*others, *told]
        ),
    ]


def plan_flats(
    frames: Sequence[Frame], calibrations: Calibrations, recipe: Recipe
) -> tuple[list[Flat], dict[str, str]]:
    """Return the flats that can be made, and the labels of those that cannot, with the reason.

    Parameters
    ----------
    frames : all flats of a night.
    calibrations : the groups of biases and darks.
    recipe : how they are matched.
    """
    flats, unfit = [], {}
    for group in flats_of(frames):
        serving = {
            frame.label: _flat_calibration(frame, calibrations, recipe) for frame in group.frames
        }
        kept = []
        for frame in group.frames:
            reason = _why_flat_unusable(frame, serving[frame.label])
            if reason:
                unfit[frame.label] = reason
            else:
                kept.append(frame)
        if kept:
            darks = tuple(serving[frame.label] for frame in kept)
            flats.append(Flat(Group(group.name, tuple(kept)), darks))
    return flats, unfit


def _flat_calibration(frame: Frame, calibrations: Calibrations, recipe: Recipe) -> Group | None:
    """Return the group whose master is subtracted from a flat: darks, else biases, else None."""
    if frame.is_own or {"B", "D"} <= {*frame.state}:
        return None
    alone = Group(frame.label, (frame,))
    if recipe.dark and frame.exptime is not None and "D" not in frame.state:
        try:
            return dark_for(alone, calibrations, recipe)
        except NoDarkError:
            pass
    return match_bias(alone, calibrations["bias"], recipe.temperature_tolerance)


def _why_flat_unusable(frame: Frame, master: Group | None) -> str:
    """Return why a flat cannot be used, or ""."""
    if frame.refusals:
        return str(frame.refusals[0].args[0])
    if frame.is_own:
        return ""
    if master is None and "B" not in frame.state:
        exposure = "its exposure" if frame.exptime is None else f"{frame.exptime:g} s"
        return f"no matching dark of {exposure} and no matching bias"
    return why_flat_unusable(frame, None if master is None else master.frames[0])


def match_flat(lights: Group, flats: Sequence[Flat]) -> tuple[Flat | None, tuple[str, ...]]:
    """Return the flat for lights, the nearest in time, and remarks on the match.

    Parameters
    ----------
    lights : the frames.
    flats : the flats to choose from.
    """
    reasons = {flat.name: _why_flat_unfit(lights, flat) for flat in flats}
    fitting = [flat for flat in flats if not reasons[flat.name]]
    if not fitting:
        told = "; ".join(f"{name} ({why})" for name, why in reasons.items())
        return None, ((f"not divided by a flat: none matches: {told}",) if told else ())
    fitting = [flat for flat in fitting if flat.frames.is_own] or fitting
    untold = [flat for flat in fitting if not _same_optics(lights, flat)]
    best = min(
        [f for f in fitting if f not in untold] or fitting, key=lambda f: _flat_age(lights, f)
    )
    remarks = []
    if best in untold:
        kinds = {(frame.target, stem_and_number(frame.label)[0]): flat.name
                 for flat in untold for frame in flat.frames.frames}  # fmt: skip
        if len(kinds) > 1:
            names = ", ".join(dict.fromkeys(kinds.values()))
            told = (
                f"not divided by a flat: no header keyword shows which of {names} to use; "
                "exclude the others"
            )
            return None, (to_check(told),)
        remarks.append(
            f"cannot check that the flat {best.name} used the same optics: no header "
            "keyword records it"
        )
    days = age_in_days(lights, best.frames)
    if days is not None and days > _FRESH_DAYS:
        remarks.append(to_check(f"the flat was taken {days:.0f} days apart"))
    return best, tuple(remarks)


def _same_optics(lights: Group, flat: Flat) -> bool:
    """Return whether the headers of lights and of a flat give the grating and the same optics."""
    own = lights.frames[0]
    return _tells_grating(own) and own.optics == flat.frames.frames[0].optics


def _tells_grating(frame: Frame) -> bool:
    """Return whether a header gives more of the optics than FILTER and SLIT, the last two."""
    return any(frame.optics[:-2])


def _flat_age(lights: Group, flat: Flat) -> float:
    days = age_in_days(lights, flat.frames)
    return float("inf") if days is None else days


def _why_flat_unfit(lights: Group, flat: Flat) -> str:
    """Return why a flat cannot be used for lights, or ""."""
    if "F" in lights.state:
        return "the light frames are already flat-fielded"
    own, theirs = lights.frames[0].optics, flat.frames.frames[0].optics
    if any(a != b for a, b in zip(own, theirs, strict=True) if a and b):
        return "different optics"
    return why_dark_unfit(lights, flat.frames, None, float("inf"), any_bias=True, any_unit=True)


# Lamps: the arc frames that are extracted with a target, and what is subtracted: `lamps_for`.
#
# Every arc frame of the target's setting fits: of its pixels (shape, binning, place on the
# detector), and of its grating and angle where headers give them. FILTER and SLIT move no line.
# Frames are never averaged: what a lamp is called says too little of its gas. Observers take a few
# lamps in a row, between stars: those of the last row before the target are used, those of the
# first row after it, and all between its frames; those of other nights only where its own night has
# none. A lamp beyond a nearer one is not: at Stony Brook no card tells that the grating was turned
# between the neon and the mercury lamp, and the neon would give the mercury's stars wrong
# wavelengths.

LONG_GAP = 60.0
"""Minutes between a target and its nearest lamp above which a warning is given."""
_LONGEST_IN_MINUTES = 120.0


@dataclass(frozen=True)
class Lamp:
    """An arc (comparison lamp) frame, extracted with the aperture of a target.

    Parameters
    ----------
    frames : the frame.
    master : the frames of the dark or bias that is subtracted from it, or None.
    minutes : from the target to it: below 0 it was taken before, above 0 after; 0: between its
        frames; NaN: a time is unknown.
    between : the targets that the telescope was pointed to in the meantime.
    other_night : it was taken on another night than the target.
    note : what is not ideal about `master`, or "".
    """

    frames: Group
    master: Group | None
    minutes: float = math.nan
    between: tuple[str, ...] = ()
    other_night: bool = False
    note: str = ""

    @property
    def name(self) -> str:
        """Return the label of the frame."""
        return self.frames.name

    @property
    def text(self) -> str:
        """Return its name and when it was taken, in a few words."""
        if math.isnan(self.minutes):
            return f"{self.name}, at an unknown time"
        if self.minutes == 0:
            return f"{self.name}, between its frames"
        apart = abs(self.minutes)
        time = f"{apart:.0f} min" if apart < _LONGEST_IN_MINUTES else f"{apart / 60:.1f} h"
        return f"{self.name}, {time} {'before' if self.minutes < 0 else 'after'}"

    @property
    def slew(self) -> str:
        """Return the targets in between as text, or ""."""
        return f" ({list_of_names(self.between)} in between)" if self.between else ""


def lamps_for(
    lights: Group,
    arcs: Sequence[Frame],
    named: Sequence[Frame],
    calibrations: Calibrations,
    recipe: Recipe,
    targets: Sequence[Group],
) -> tuple[Lamp, ...]:
    """Return the lamps of a target, in canonical order.

    Parameters
    ----------
    lights : its frames.
    arcs : all arc frames.
    named : those that the night file names; they are used instead of any others, even if the
        recipe wants no wavelengths.
    calibrations : the groups of biases and darks.
    recipe : how they are matched.
    targets : the lights of all targets.

    Raises
    ------
    UsageError
        A named lamp has another setting than the target.
    """
    for frame in named:
        why = why_lamp_unfit(lights.frames[0], frame)
        if why:
            raise UsageError(
                f"The lamp {frame.label} has a different {why} from {lights.name}",
                value=frame.label,
                hint="Use arc frames of the same shape, binning, grating and angle.",
            )
    fitting = [frame for frame in arcs if not why_lamp_unfit(lights.frames[0], frame)]
    known = [frame for frame in fitting if not frame.library] or fitting
    chosen = named or (_lamps_around(lights, known, targets) if recipe.wavelength else ())
    lamps = []
    for frame in chosen:
        alone = Group(frame.label, (frame,))
        master, note = _lamp_calibration(alone, calibrations, recipe)
        minutes = _minutes_apart(lights, frame)
        between = _targets_between(lights, frame, targets)
        other_night = frame.time is not None and frame.night != lights.frames[0].night
        lamps.append(Lamp(alone, master, minutes, between, other_night, note))
    return tuple(lamps)


def nearest_lamps(lamps: Sequence[Lamp]) -> tuple[Lamp, ...]:
    """Return the lamps nearest to a target before it, between its frames, and after it."""
    sides = [
        [lamp for lamp in lamps if lamp.minutes < 0],
        [lamp for lamp in lamps if not lamp.minutes < 0 and not lamp.minutes > 0],
        [lamp for lamp in lamps if lamp.minutes > 0],
    ]
    return tuple(min(side, key=lambda lamp: abs(lamp.minutes)) for side in sides if side)


def lamp_remarks(lamps: Sequence[Lamp]) -> tuple[str, ...]:
    """Return the remarks for the user on the lamps of a target: their darks, and a long gap."""
    notes = dict.fromkeys(lamp.note for lamp in lamps if lamp.note)
    remarks = [
        f"{list_of_names([lamp.name for lamp in lamps if lamp.note == note])}: {note}"
        for note in notes
    ]
    near = min(nearest_lamps(lamps), key=lambda lamp: abs(lamp.minutes), default=None)
    if near is not None and (near.other_night or abs(near.minutes) > LONG_GAP):
        night = ", on another night" if near.other_night else ""
        told = f"its nearest arc frame is {near.text}{night}: the spectrograph may have flexed"
        remarks.append(to_check(told))
    return tuple(remarks)


def why_lamp_unfit(light: Frame, arc: Frame) -> str:
    """Return in what setting an arc frame differs from a light, or ""."""
    if (light.window, light.dispersion_axis) != (arc.window, arc.dispersion_axis):
        return "shape"
    theirs = dict(arc.setup)
    for name, value in light.setup:
        if name in ("binning", "origin") and theirs.get(name, value) != value:
            return name
    pairs = zip(light.optics[:-2], arc.optics[:-2], strict=True)
    return "grating or angle" if any(a != b for a, b in pairs if a and b) else ""


def _lamps_around(
    lights: Group, arcs: Sequence[Frame], targets: Sequence[Group]
) -> Sequence[Frame]:
    """Return the arcs of the nearest rows of lamps before and after a target; in their own order.

    A row of lamps ends where a light was taken.
    """
    start, end = span_of(lights)
    if start is None or end is None or any(arc.time is None for arc in arcs):
        return arcs
    night = lights.frames[0].night
    arcs = [arc for arc in arcs if arc.night == night] or arcs
    moments = [frame.time for group in targets for frame in group.frames if frame.time is not None]
    before = [arc for arc in arcs if arc.time is not None and arc.time < start]
    after = [arc for arc in arcs if arc.time is not None and arc.time > end]
    chosen = {arc.label for arc in arcs if arc not in before and arc not in after}
    chosen |= _nearest_row(before[::-1], moments) | _nearest_row(after, moments)
    return [arc for arc in arcs if arc.label in chosen]


def _nearest_row(arcs: Sequence[Frame], moments: Sequence[datetime]) -> set[str]:
    """Return the labels of the first arcs, up to the one before which a light was taken."""
    row: set[str] = set()
    for i, arc in enumerate(arcs):
        if i:
            one, other = sorted(frame.time for frame in arcs[i - 1 : i + 1] if frame.time)
            if any(one < moment < other for moment in moments):
                break
        row.add(arc.label)
    return row


def span_of(lights: Group) -> tuple[datetime | None, datetime | None]:
    """Return the start and the end of the exposures of frames; None where a time is unknown."""
    if any(frame.time is None for frame in lights.frames):
        return None, None
    starts = [frame.time for frame in lights.frames if frame.time is not None]
    ends = [
        frame.time + timedelta(seconds=frame.exptime or 0.0)
        for frame in lights.frames
        if frame.time is not None
    ]
    return min(starts), max(ends)


def _minutes_apart(lights: Group, arc: Frame) -> float:
    """Return the minutes between the exposures of a target and of an arc (`Lamp.minutes`)."""
    start, end = span_of(lights)
    if start is None or end is None or arc.time is None:
        return math.nan
    over = arc.time + timedelta(seconds=arc.exptime or 0.0)
    gap = timedelta()
    if over <= start:
        gap = over - start
    elif arc.time >= end:
        gap = arc.time - end
    return gap / timedelta(minutes=1)


def _targets_between(lights: Group, arc: Frame, targets: Sequence[Group]) -> tuple[str, ...]:
    """Return the names of the other targets whose lights were taken between a target and an arc."""
    start, end = span_of(lights)
    if start is None or end is None or arc.time is None:
        return ()
    first, last = (arc.time, start) if arc.time < start else (end, arc.time)
    own = lights.frames[0].target
    return tuple(
        group.name
        for group in targets
        if group.name != lights.name
        and not (own and group.frames[0].target == own)
        and any(f.time is not None and first <= f.time <= last for f in group.frames)
    )


def _lamp_calibration(
    lamp: Group, calibrations: Calibrations, recipe: Recipe
) -> tuple[Group | None, str]:
    """Return the dark or bias whose master is subtracted from a lamp, and a note on it.

    Its dark; else the bias, which suffices for a short exposure and needs no note; else the dark of
    the nearest exposure, since a pedestal and hot pixels matter more to lines than a few counts of
    dark current.
    """
    if {"B", "D"} <= {*lamp.state}:
        return None, ""
    bias = match_bias(lamp, calibrations["bias"], recipe.temperature_tolerance)
    if lamp.is_dark_subtracted:
        return bias, ""
    if recipe.dark:
        with suppress(NoDarkError):
            return dark_for(lamp, calibrations, recipe), ""
    if bias is not None:
        return bias, ""
    others = [
        dark
        for dark in calibrations["dark"]
        if recipe.dark and not why_dark_unfit(lamp, dark, None, math.inf)
    ]
    if others:
        near = min(own_first(others), key=lambda dark: abs(dark.exptime - lamp.exptime))
        return near, f"no matching dark: that of {near.exptime:g} s was subtracted"
    return None, "no matching dark or bias: its own background level was subtracted"
