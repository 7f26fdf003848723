"""Which frames are of one kind, and what they are called: `darks_of`, `lights_of`.

Frames of one type form a group when they share target, exposure, shape, detector setup, optics and
calibration state, and lights lie less than six hours apart. Where OBJECT is blank the file names
and the lamps speak: another stem, a gap in the numbering, or a lamp taken in between begins another
target, since two stars exposed alike look the same to every header.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count
from typing import TYPE_CHECKING

from arrayred.config import TargetFile
from arrayred.errors import UsageError
from arrayred.io.frames import Frame, exposure_tolerance, runs_of
from arrayred.night.group import Group, seconds_of
from arrayred.night.naming import lengthened, slug, target_name
from arrayred.night.picking import pick_any, stem_and_number

if TYPE_CHECKING:
    pass

_SPREAD_OF_ONE_MASTER = 1.5  # deg C, from its first dark


def darks_of(frames: Iterable[Frame]) -> list[Group]:
    """Return groups of darks, one for each exposure and setup, named by their exposure."""
    return under_names([(seconds_of(group[0]), group) for group in _alike(frames)])


def biases_of(frames: Iterable[Frame]) -> list[Group]:
    """Return groups of biases, one for each setup."""
    return under_names([("bias", group) for group in _alike(frames)])


def lights_of(
    frames: Sequence[Frame],
    targets: Mapping[str, TargetFile] | None = None,
    arcs: Sequence[Frame] = (),
) -> list[Group]:
    """Return groups of lights, one for each target, named by it.

    Parameters
    ----------
    frames : the lights.
    targets : frames that are known to belong together, by the target's name; the rest is grouped
        by what headers and file names say. A target whose frames take no part is none.
    arcs : the lamps of the night.

    Raises
    ------
    UsageError
        A target names another target's frame, or frames that cannot be combined.
    """
    given: dict[str, list[Frame]] = {}
    owners: dict[str, str] = {}
    for name, target in (targets or {}).items():
        if chosen := pick_any(frames, target.frames):
            given[name] = chosen
            require_one_kind(f"Target {name!r} has", chosen)
            for frame in chosen:
                _require_free(frame, name, owners)
    rest = [frame for frame in frames if frame.label not in owners]
    own = [Group(slug(name), tuple(group)) for name, group in given.items()]
    found = under_names([(target_name(group), group) for group in by_target(rest, arcs)], own)
    return sorted([*own, *found], key=lambda group: group.frames[0].order)


def require_one_kind(who: str, frames: Sequence[Frame]) -> None:
    """Raise UsageError if frames that are to become one image differ in more than time."""
    for frame in frames:
        if not _belongs(frame, frames[0]):
            raise UsageError(
                f"{who} both {frames[0].label} and {frame.label}, which differ in "
                "exposure, shape, setup, optics or calibration",
                value=frame.label,
                hint="Make two targets of them.",
            )


def _require_free(frame: Frame, name: str, owners: dict[str, str]) -> None:
    other = owners.setdefault(frame.label, name)
    if other != name:
        raise UsageError(
            f"{frame.label} belongs to both {other!r} and {name!r}",
            value=frame.label,
            hint="Name it once.",
        )


def _alike(frames: Iterable[Frame]) -> list[list[Frame]]:
    """Return groups of frames that share exposure, shape, setup, optics and calibration state."""
    groups: list[list[Frame]] = []
    for frame in frames:
        group = next((g for g in groups if _belongs(frame, g[0])), None)
        if group is None:
            groups.append([frame])
        else:
            group.append(frame)
    return groups


def _belongs(frame: Frame, first: Frame) -> bool:
    exptime = first.exptime or 0
    if abs((frame.exptime or 0) - exptime) > exposure_tolerance(exptime):
        return False
    if state_of(frame) != state_of(first) or frame.is_master or first.is_master:
        return False
    if frame.frame_type in ("bias", "dark"):
        return _same_epoch(frame, first)
    return frame.optics == first.optics


def state_of(frame: Frame) -> tuple[object, ...]:
    """Return what frames must share to be one array of numbers that mean the same."""
    return frame.shape, frame.setup, frame.state, frame.unit, frame.sections


def _same_epoch(dark: Frame, first: Frame) -> bool:
    """Tell whether two darks were taken in one night, at one temperature."""
    if dark.time is not None and first.time is not None and dark.night != first.night:
        return False
    if dark.ccd_temp is None or first.ccd_temp is None:
        return True
    return abs(dark.ccd_temp - first.ccd_temp) <= _SPREAD_OF_ONE_MASTER


def by_target(lights: Iterable[Frame], arcs: Sequence[Frame]) -> list[list[Frame]]:
    """Return the lights of each target: by OBJECT, else by stem, unbroken numbering and lamps."""
    by_object: dict[str, list[Frame]] = defaultdict(list)
    for frame in lights:
        by_object[frame.target].append(frame)
    named = [g for name, frames in by_object.items() if name for g in _alike(frames)]
    groups = [night for group in named for night in runs_of(group)]
    for group in _alike(by_object[""]):
        runs = [part for run in _sequences(group) for part in _between_lamps(run, arcs)]
        groups += [night for run in runs for night in runs_of(run)]
    return sorted(groups, key=lambda g: g[0].order)


def _sequences(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Part frames where the stem of the name changes or the numbering has a gap."""
    by_name = sorted(frames, key=lambda frame: stem_and_number(frame.label))
    runs: list[list[Frame]] = []
    for frame in by_name:
        stem, number = stem_and_number(frame.label)
        if runs and (stem, number - 1) == stem_and_number(runs[-1][-1].label):
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return [sorted(run, key=lambda frame: frame.order) for run in runs]


def _between_lamps(frames: Sequence[Frame], arcs: Sequence[Frame]) -> list[list[Frame]]:
    """Part frames, in order of time, where a lamp was taken between two of them."""
    lamps = [arc.time for arc in arcs if arc.time is not None]
    runs: list[list[Frame]] = []
    for frame in frames:
        start, before = frame.time, runs[-1][-1].time if runs else None
        lit = start and before and any(before < lamp < start for lamp in lamps)
        if not runs or lit:
            runs.append([])
        runs[-1].append(frame)
    return runs


def under_names(
    groups: Sequence[tuple[str, Sequence[Frame]]], others: Sequence[Group] = ()
) -> list[Group]:
    """Return groups under names that are unique, also among others, lengthened where needed."""
    facets: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for name, frames in groups:
        facets[name.lower()].append(_facets(frames))
    telling = {
        name: [i for i, values in enumerate(zip(*rivals, strict=True)) if len(set(values)) > 1]
        for name, rivals in facets.items()
    }
    named: list[Group] = []
    taken = {group.name.lower() for group in others}
    for name, frames in groups:
        own = _facets(frames)
        full = lengthened(name, "_".join(own[i] for i in telling[name.lower()] if own[i]))
        candidates = chain([full], (lengthened(full, str(i)) for i in count(2)))
        unique = next(n for n in candidates if n.lower() not in taken)
        taken.add(unique.lower())
        named.append(Group(unique, tuple(frames)))
    return named


def _facets(frames: Sequence[Frame]) -> tuple[str, str, str, str, str]:
    """Return what may tell groups of one name apart: exposure, binning, unit, deg C, evening."""
    first = frames[0]
    temperature = "" if first.ccd_temp is None else f"{first.ccd_temp:.0f}C"
    binning = dict(first.setup).get("binning", "")
    if first.frame_type in ("bias", "dark"):
        return "", binning, first.unit, temperature, first.night
    return seconds_of(first), binning, first.unit, "", first.night
