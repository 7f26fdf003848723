"""What will be done with a night, decided from headers alone: `make_plan`.

Every problem is collected instead of stopping at the first, and a frame that is not used stands in
`left_out` with the reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from arrayred.config import Recipe
from arrayred.errors import ArrayredError, InputError, NoDarkError
from arrayred.io.frames import Frame
from arrayred.night.groups import Group, darks_of, lights_of
from arrayred.night.records import Night


@dataclass(frozen=True)
class Target:
    """The lights of one target and the darks that serve them (None: already subtracted)."""

    lights: Group
    darks: Group | None

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
        lines += [f"left out {name}: {reason}" for name, reason in self.left_out]
        return "\n".join([*lines, *(f"problem: {problem}" for problem in self.problems)])


def make_plan(night: Night, recipe: Recipe | None = None) -> Plan:
    """Decide which frames become which masters and targets.

    Parameters
    ----------
    night : the frames.
    recipe : its `dark_tolerance` says how far the exposures of a light and its dark may differ,
        its `max_frame_mb` how large a frame may be.

    Returns
    -------
    plan : with every problem found, not only the first. It can be carried out if there is none.
        A target without a dark fails alone, unless no other is left.
    """
    recipe = recipe or Recipe()
    tolerance = recipe.dark_tolerance
    usable, left_out, problems = _sort_out(night)
    problems += [_too_large(f) for f in night.frames if _megabytes(f) > recipe.max_frame_mb]
    darks, lights = darks_of(usable["dark"]), lights_of(usable["light"])
    targets, failed = [], []
    for group in lights:
        try:
            ready = group.is_dark_subtracted
            targets.append(Target(group, None if ready else match_dark(group, darks, tolerance)))
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


def _sort_out(
    night: Night,
) -> tuple[dict[str, list[Frame]], list[tuple[str, str]], list[ArrayredError]]:
    """Return the usable frames by type, what is left out and why, and what is wrong."""
    usable: dict[str, list[Frame]] = defaultdict(list)
    left_out, problems = [*night.left_out, *night.foreign], list(night.problems)
    for frame in night.frames:
        wrong = problems_of(frame)
        if wrong:
            problems += wrong
        elif frame.frame_type in ("dark", "light") and not _is_corrected_dark(frame):
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


def _is_corrected_dark(frame: Frame) -> bool:
    """Tell whether a dark has lost its bias, so that it no longer matches raw lights."""
    return frame.frame_type == "dark" and bool(set("BD") & set(frame.calstat))


def _why_left_out(frame: Frame) -> str:
    if frame.frame_type is None:
        return f"the frame type {frame.type_found!r} is unknown"
    if _is_corrected_dark(frame):
        return f"a dark already corrected (CALSTAT={frame.calstat!r})"
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


def match_dark(lights: Group, darks: Sequence[Group], tolerance: float) -> Group:
    """Return the darks of the nearest exposure; on a tie the first.

    Parameters
    ----------
    lights : the frames that need a dark.
    darks : the groups to choose from; those of another shape or setup are passed over.
    tolerance : largest difference of exposures, s, inclusive.

    Raises
    ------
    NoDarkError
        None is near enough.
    """
    fitting = [d for d in darks if _same_pixels(lights.frames[0], d.frames[0])]
    nearest = min(fitting, key=lambda d: abs(d.exptime - lights.exptime), default=None)
    if nearest is not None and abs(nearest.exptime - lights.exptime) <= tolerance:
        return nearest
    present = "; ".join(map(_described, darks)) or "none"
    raise NoDarkError(
        f"No dark within {tolerance:g} s fits {lights.name}: {_described(lights)} "
        f"(darks: {present})",
        path=lights.frames[0].path,
        keyword="EXPTIME",
        value=lights.exptime,
        hint="Take a matching dark, raise dark_tolerance in the recipe, or exclude the frame.",
    )


def _untyped(frame: Frame) -> InputError:
    return InputError(
        "No card says what kind of frame this is",
        path=frame.path,
        keyword="IMAGETYP",
        hint="Add IMAGETYP to the header, or exclude the frame.",
    )


def _described(group: Group) -> str:
    """Return what must fit: number and exposure of frames, pixels, detector setup."""
    rows, columns = group.frames[0].shape
    setup = "".join(f", {name} {value}" for name, value in group.frames[0].setup)
    return f"{len(group.frames)} x {group.exptime:g} s of {columns} x {rows} pixels{setup}"


def _same_pixels(one: Frame, other: Frame) -> bool:
    ours, theirs = dict(one.setup), dict(other.setup)
    return one.shape == other.shape and all(
        theirs.get(name, value) == value for name, value in ours.items()
    )
