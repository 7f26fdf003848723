"""Flats: which are of one kind, what corrects them, and which targets they serve.

Flats whose headers tell the grating become one master flat for each setup of detector and optics
(GRATING, GRATANG, FILTER, SLIT) and each run of nights, whatever their exposures. Others are
grouped like lights, by OBJECT or by the names of their files, since flats through two gratings must
not be mixed; where they are of several kinds none is taken, since nothing tells which one fits. A
filter alone tells nothing: at Stony Brook the flats of both gratings say "Clear". Every flat needs
the dark of its own exposure, or one made for it, or at least a bias.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from arrayred.config import Recipe
from arrayred.errors import NoDarkError
from arrayred.io.frames import Frame, runs_of
from arrayred.io.pixel_checks import why_unfit
from arrayred.night.group import Group
from arrayred.night.groups import by_target, state_of, under_names
from arrayred.night.making import Calibrations, dark_for
from arrayred.night.matching import age_in_days, match_bias, why_not
from arrayred.night.naming import slug, target_name
from arrayred.night.picking import stem_and_number

_FRESH_DAYS = 2.0


@dataclass(frozen=True)
class Flat:
    """The frames of a master flat, and what is subtracted from each of them.

    Parameters
    ----------
    frames : flats of one kind, or one that is a master already.
    darks : the darks or biases of the master that each frame needs, or None.
    """

    frames: Group
    darks: tuple[Group | None, ...]

    @property
    def key(self) -> str:
        """Return what tells the flat from all other masters of a night."""
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
        """Tell whether this is a master flat that arrayred made: taken as it is."""
        return self.frames.frames[0].is_own

    @property
    def masters(self) -> tuple[Group, ...]:
        """Return the groups of its darks and biases, each once."""
        return tuple({group.key: group for group in self.darks if group is not None}.values())

    @property
    def inputs(self) -> tuple[Frame, ...]:
        """Return all frames that go into it."""
        return (*self.frames.inputs, *(f for group in self.masters for f in group.inputs))

    @property
    def calstat(self) -> str:
        """Return the letters of what was corrected in every frame of it."""
        states = []
        for frame, master in zip(self.frames.frames, self.darks, strict=True):
            here = "" if master is None else "B" if master.kind == "bias" else "BD"
            states.append({*here, *frame.state})
        return "".join(letter for letter in "BD" if all(letter in state for state in states))


def flats_of(frames: Sequence[Frame]) -> list[Group]:
    """Return groups of flats, one for each setup and optics, whatever their exposures.

    Those whose headers do not tell the optics are grouped like lights.
    """
    known: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    for frame in frames:
        if _tells_grating(frame) and not frame.is_master:
            known[frame.optics, state_of(frame)].append(frame)
    runs = [run for group in known.values() for run in runs_of(group)]
    told = under_names([(slug("_".join(filter(None, run[0].optics))), run) for run in runs])
    rest = [frame for frame in frames if frame.is_master or not _tells_grating(frame)]
    return [*told, *under_names([(target_name(g), g) for g in by_target(rest, ())], told)]


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
        serving = {frame.label: _serving(frame, calibrations, recipe) for frame in group.frames}
        kept = []
        for frame in group.frames:
            reason = _why_unfit(frame, serving[frame.label])
            if reason:
                unfit[frame.label] = reason
            else:
                kept.append(frame)
        if kept:
            darks = tuple(serving[frame.label] for frame in kept)
            flats.append(Flat(Group(group.name, tuple(kept)), darks))
    return flats, unfit


def _serving(frame: Frame, calibrations: Calibrations, recipe: Recipe) -> Group | None:
    """Return what is subtracted from a flat: a dark, else a bias, else None."""
    if frame.is_own or {"B", "D"} <= {*frame.state}:
        return None
    alone = Group(frame.label, (frame,))
    if recipe.dark and frame.exptime is not None and "D" not in frame.state:
        try:
            return dark_for(alone, calibrations, recipe)
        except NoDarkError:
            pass
    return match_bias(alone, calibrations["bias"], recipe.temperature_tolerance)


def _why_unfit(frame: Frame, master: Group | None) -> str:
    """Return why a flat cannot be used, or ""."""
    if frame.refusals:
        return str(frame.refusals[0].args[0])
    if frame.is_own:
        return ""
    if master is None and "B" not in frame.state:
        exposure = "its exposure" if frame.exptime is None else f"{frame.exptime:g} s"
        return f"no dark of {exposure} and no bias fits it"
    return why_unfit(frame, None if master is None else master.frames[0])


def match_flat(lights: Group, flats: Sequence[Flat]) -> tuple[Flat | None, tuple[str, ...]]:
    """Return the flat that serves lights, the nearest in time, and what should be known of it.

    Parameters
    ----------
    lights : the frames.
    flats : those to choose from.
    """
    reasons = {flat.name: _why_not(lights, flat) for flat in flats}
    fitting = [flat for flat in flats if not reasons[flat.name]]
    if not fitting:
        told = "; ".join(f"{name} ({why})" for name, why in reasons.items())
        return None, ((f"not divided by a flat: none fits: {told}",) if told else ())
    untold = [flat for flat in fitting if not _same_optics(lights, flat)]
    best = min([f for f in fitting if f not in untold] or fitting, key=lambda f: _age(lights, f))
    remarks = []
    if best in untold:
        kinds = {(frame.target, stem_and_number(frame.label)[0]): flat.name
                 for flat in untold for frame in flat.frames.frames}  # fmt: skip
        if len(kinds) > 1:
            names = ", ".join(dict.fromkeys(kinds.values()))
            return None, (
                f"not divided by a flat: no card tells which of {names} fits; exclude the others",
            )
        remarks.append(f"no card tells whether the flat {best.name} was taken through its optics")
    days = age_in_days(lights, best.frames)
    if days is not None and days > _FRESH_DAYS:
        remarks.append(f"the flat was taken {days:.0f} days apart")
    return best, tuple(remarks)


def _same_optics(lights: Group, flat: Flat) -> bool:
    """Tell whether lights and a flat tell their optics, and the same."""
    own = lights.frames[0]
    return _tells_grating(own) and own.optics == flat.frames.frames[0].optics


def _tells_grating(frame: Frame) -> bool:
    """Tell whether a header says more of the optics than the last two facts, FILTER and SLIT."""
    return any(frame.optics[:-2])


def _age(lights: Group, flat: Flat) -> float:
    days = age_in_days(lights, flat.frames)
    return float("inf") if days is None else days


def _why_not(lights: Group, flat: Flat) -> str:
    """Return what keeps a flat from serving lights, or ""."""
    if "F" in lights.state:
        return "the lights were divided by one already"
    own, theirs = lights.frames[0].optics, flat.frames.frames[0].optics
    if any(a != b for a, b in zip(own, theirs, strict=True) if a and b):
        return "other optics"
    return why_not(lights, flat.frames, None, float("inf"), any_bias=True, any_unit=True)
