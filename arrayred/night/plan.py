"""What will be done with a night, decided from headers alone: `make_plan`.

Every problem is collected instead of stopping at the first, and a frame that is not used stands in
`left_out` with the reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from arrayred.config import Recipe
from arrayred.errors import ArrayredError, InputError, NoDarkError
from arrayred.io.frames import Frame
from arrayred.night.groups import Group, darks_of, lights_of
from arrayred.night.matching import match_dark, remarks_on
from arrayred.night.records import Night

_FEW = 3


@dataclass(frozen=True)
class Target:
    """The lights of one target and the darks that serve them.

    Parameters
    ----------
    lights : the frames.
    darks : the frames of its master dark; None: a dark has been subtracted already.
    remarks : what is not ideal about the match.
    """

    lights: Group
    darks: Group | None
    remarks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the target's name."""
        return self.lights.name


@dataclass(frozen=True)
class Plan:
    """What will be done, what is left out, and what stands in the way.

    Parameters
    ----------
    darks : the groups that become master darks.
    targets : what will be reduced.
    left_out : frames that take no part, each with the reason.
    problems : what keeps the whole night from being reduced.
    warnings : what is odd, but no obstacle.
    failed : targets that cannot be reduced while others can, each with the reason.
    """

    darks: tuple[Group, ...]
    targets: tuple[Target, ...]
    left_out: tuple[tuple[str, str], ...]
    problems: tuple[ArrayredError, ...]
    warnings: tuple[str, ...] = ()
    failed: tuple[tuple[str, ArrayredError], ...] = ()

    def __str__(self) -> str:
        """Return the plan as a few lines of text."""
        lines = [f"master dark {g.name}: {g.size} of {g.exptime:g} s" for g in self.darks]
        for target in self.targets:
            dark = f"dark {target.darks.name}" if target.darks else "dark already subtracted"
            lights = target.lights
            lines.append(f"target {target.name}: {lights.size} of {lights.exptime:g} s, {dark}")
        lines += [f"target {name} cannot be reduced" for name, _ in self.failed]
        lines += [f"left out {line}" for line in self.left_out_lines()]
        return "\n".join([*lines, *(f"problem: {problem}" for problem in self.problems)])

    def left_out_lines(self) -> list[str]:
        """Return what is left out, a line for each reason."""
        names: dict[str, list[str]] = defaultdict(list)
        for name, reason in self.left_out:
            names[reason].append(name)
        return [f"{_listed(who)}: {why}" for why, who in names.items()]


def _listed(names: list[str]) -> str:
    few = len(names) <= _FEW
    return ", ".join(names) if few else f"{names[0]} to {names[-1]} ({len(names)})"


def make_plan(night: Night, recipe: Recipe | None = None) -> Plan:
    """Decide which frames become which masters and targets.

    Parameters
    ----------
    night : the frames.
    recipe : its `dark_tolerance` and `temperature_tolerance` say how far a light and its dark may
        differ, its `max_frame_mb` how large a frame may be.

    Returns
    -------
    plan : with every problem found, not only the first. It can be carried out if there is none.
        A target without a dark fails alone, unless no other is left.
    """
    recipe = recipe or Recipe()
    usable, left_out, problems = _sort_out(
        night, {} if recipe.keep_duplicates else night.duplicates
    )
    problems += [_too_large(f) for f in night.frames if _megabytes(f) > recipe.max_frame_mb]
    darks, lights = darks_of(usable["dark"]), lights_of(usable["light"])
    targets, failed = [], []
    for group in lights:
        try:
            targets.append(_target(group, darks, recipe))
        except NoDarkError as error:
            failed.append((group.name, error))
    if not lights:
        problems.append(_no_lights(night))
    if not targets:
        problems += [error for _, error in failed]
    needed = tuple(dark for dark in darks if any(target.darks is dark for target in targets))
    left_out += [
        (frame.label, "a dark that no light needs")
        for dark in darks
        if dark not in needed
        for frame in dark.frames
    ]
    return Plan(
        needed,
        tuple(targets),
        tuple(left_out),
        tuple(problems),
        warnings_of(night),
        tuple(failed if targets else ()),
    )


def _target(lights: Group, darks: list[Group], recipe: Recipe) -> Target:
    if lights.is_dark_subtracted:
        return Target(lights, None)
    dark = match_dark(lights, darks, recipe.dark_tolerance, recipe.temperature_tolerance)
    return Target(lights, dark, remarks_on(lights, dark))


def _sort_out(
    night: Night, duplicates: Mapping[str, str]
) -> tuple[dict[str, list[Frame]], list[tuple[str, str]], list[ArrayredError]]:
    """Return the usable frames by type, what is left out and why, and what is wrong."""
    usable: dict[str, list[Frame]] = defaultdict(list)
    left_out, problems = [*night.left_out, *night.foreign], list(night.problems)
    for frame in night.frames:
        wrong = problems_of(frame)
        if wrong:
            problems += wrong
        elif frame.label in duplicates:
            left_out.append((frame.label, f"the same frame as {duplicates[frame.label]}"))
        elif frame.frame_type in ("dark", "light") and not _is_spoilt_dark(frame):
            usable[frame.frame_type].append(frame)
        else:
            left_out.append((frame.label, _why_left_out(frame)))
    return usable, left_out, problems


def problems_of(frame: Frame) -> list[ArrayredError]:
    """Return what keeps a frame from being used though it should be."""
    if frame.frame_type is None and not frame.type_found:
        return [_untyped(frame), *frame.problems]
    if frame.frame_type not in ("dark", "light"):
        return []
    if frame.exptime == 0:
        return [_unexposed(frame)]
    return list(frame.problems) if frame.exptime is None else []


def _is_spoilt_dark(frame: Frame) -> bool:
    """Tell whether a dark was subtracted from this dark: it serves nothing any more."""
    return frame.frame_type == "dark" and "D" in frame.calstat


def _why_left_out(frame: Frame) -> str:
    if frame.frame_type is None:
        return f"the frame type {frame.type_found!r} is unknown"
    if _is_spoilt_dark(frame):
        return f"a dark from which a dark was subtracted (CALSTAT={frame.calstat!r})"
    return f"of type {frame.frame_type}, not used"


def warnings_of(night: Night) -> tuple[str, ...]:
    """Return a line for everything that is odd about a night, but no obstacle."""
    odd = [f"{frame.label}: {warning}" for frame in night.frames for warning in frame.warnings]
    unknown = [
        f"{frame.label}: the frame type {frame.type_found!r} is unknown"
        for frame in night.frames
        if frame.frame_type is None and frame.type_found
    ]
    foreign = [f"{name}: {reason}; left out" for name, reason in night.foreign]
    return (*foreign, *unknown, *odd)


def _megabytes(frame: Frame) -> float:
    return frame.image.source.n_bytes / 1e6


def _too_large(frame: Frame) -> InputError:
    return InputError(
        f"The frame has {_megabytes(frame):.0f} MB",
        path=frame.path,
        hint="If that is right, raise max_frame_mb in the recipe.",
    )


def _unexposed(frame: Frame) -> InputError:
    return InputError(
        f"A {frame.frame_type} of 0 s cannot be",
        path=frame.path,
        keyword="EXPTIME",
        value=0.0,
        hint="Mend EXPTIME in the header, or exclude the frame.",
    )


def _no_lights(night: Night) -> InputError:
    matching = "" if night.pattern == "*" else f" whose name matches {night.pattern!r}"
    return InputError(
        f"There is no light frame{matching}",
        path=night.folder,
        hint="Check the frame types; spellings of your own go into an instrument file.",
    )


def _untyped(frame: Frame) -> InputError:
    return InputError(
        "No card says what kind of frame this is",
        path=frame.path,
        keyword="IMAGETYP",
        hint="Add IMAGETYP to the header, or exclude the frame.",
    )
