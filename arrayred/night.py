"""A night: its frames, which of them belong together, and which dark serves which lights.

`open_night` reads headers only; `make_plan` decides everything that headers can decide, before a
pixel is read, and collects every problem instead of stopping at the first. A frame that is not used
stands in `left_out` with the reason.

Frames of one type form a group when they share target, exposure, shape, detector setup, optics and
calibration state. Where OBJECT is blank the file names speak: another stem or a gap in the numbering
begins another target, since two stars exposed alike look the same to every header.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from arrayred.config import Instrument, Recipe
from arrayred.errors import ArrayredError, ForeignFile, InputError, NoDarkError
from arrayred.io.fits import cube_of
from arrayred.io.frames import Frame, list_files, read_frames
from arrayred.io.unsigned import unwrap
from arrayred.model import Chunks

if TYPE_CHECKING:
    import xarray as xr

_EAGER_BYTES = 256 << 20
_NUMBERED = re.compile(r"(.*?)(\d+)$")
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)$", re.IGNORECASE)


@dataclass(frozen=True)
class Night:
    """The frames of one folder, headers read, pixels not.

    Parameters
    ----------
    folder : where they lie.
    instrument : what their headers mean.
    frames : raw frames in canonical order (time, then name).
    left_out : files and frames that take no part, each with the reason.
    problems : files that should be frames but cannot be read.
    """

    folder: Path
    instrument: Instrument
    frames: tuple[Frame, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    problems: tuple[ArrayredError, ...] = ()


@dataclass(frozen=True)
class Group:
    """Frames of one kind that become one image.

    Parameters
    ----------
    name : unique among the plan's groups of its kind, safe as a file name.
    frames : its frames, in canonical order.
    """

    name: str
    frames: tuple[Frame, ...]

    @property
    def exptime(self) -> float:
        """Return the exposure of one frame, s."""
        return self.frames[0].exptime or 0.0

    def cube(self, chunks: Chunks = "auto") -> xr.Dataset:
        """Open the frames as a cube; "auto" reads at once what is small and chunks the rest."""
        n_bytes = sum(frame.image.source.n_bytes for frame in self.frames)
        return cube_of(
            self.frames, None if chunks == "auto" and n_bytes <= _EAGER_BYTES else chunks
        )

    @property
    def is_dark_subtracted(self) -> bool:
        """Tell whether the camera program has already subtracted a dark."""
        return "D" in self.frames[0].calstat


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
    """What will be done: which masters, which targets, what is left out, and what stands in the way."""

    darks: tuple[Group, ...]
    targets: tuple[Target, ...]
    left_out: tuple[tuple[str, str], ...]
    problems: tuple[ArrayredError, ...]

    def __str__(self) -> str:
        """Return the plan as a few lines of text."""
        lines = [
            f"master dark {g.name}: {len(g.frames)} frames of {g.exptime:g} s" for g in self.darks
        ]
        for target in self.targets:
            dark = f"dark {target.darks.name}" if target.darks else "dark already subtracted"
            lights = target.lights
            lines.append(
                f"target {target.name}: {len(lights.frames)} frames of {lights.exptime:g} s, {dark}"
            )
        lines += [f"left out {name}: {reason}" for name, reason in self.left_out]
        return "\n".join([*lines, *(f"problem: {problem}" for problem in self.problems)])


def open_night(
    folder: str | os.PathLike[str], *, instrument: str = "generic", pattern: str = "*"
) -> Night:
    """Read the headers of a night.

    Parameters
    ----------
    folder : where the frames lie, up to three folders deep.
    instrument : what headers mean: a name or the path of a TOML file.
    pattern : take files whose name matches this glob only.

    Raises
    ------
    InputError
        The folder does not exist or holds no FITS file that matches.
    """
    where = Path(folder)
    meaning = Instrument.load(instrument)
    files = list_files(where, pattern)
    if not files:
        matching = "" if pattern == "*" else f" whose name matches {pattern!r}"
        raise InputError(
            f"There is no FITS file{matching}",
            path=where,
            hint="Name the folder of the raw frames.",
        )
    found, failures = read_frames(files, meaning, where)
    raw = [frame for frame in found if not frame.is_product]
    left_out = [(frame.label, "made by arrayred, not raw") for frame in found if frame.is_product]
    left_out += [(str(e.path), str(e.args[0])) for e in failures if isinstance(e, ForeignFile)]
    problems = tuple(e for e in failures if not isinstance(e, ForeignFile))
    return Night(where, meaning, tuple(unwrap(raw, meaning)), tuple(left_out), problems)


def make_plan(night: Night, recipe: Recipe | None = None) -> Plan:
    """Decide which frames become which masters and targets.

    Parameters
    ----------
    night : the frames.
    recipe : its `dark_tolerance` says how far the exposures of a light and its dark may differ.

    Returns
    -------
    plan : with every problem found, not only the first. It can be carried out if there is none.
    """
    recipe = recipe or Recipe()
    left_out, problems = list(night.left_out), list(night.problems)
    usable: dict[str, list[Frame]] = defaultdict(list)
    for frame in night.frames:
        reason = _why_not(frame)
        if frame.frame_type in ("dark", "light") and reason is None:
            usable[frame.frame_type].append(frame)
        elif frame.frame_type is None and not frame.type_found:
            problems.append(_untyped(frame))
        elif frame.exptime is None and frame.frame_type in ("dark", "light"):
            problems += frame.problems
        else:
            left_out.append((frame.label, reason or f"a {frame.frame_type}, not used"))
    darks = _named([(f"{g[0].exptime:g}s", g) for g in _alike(usable["dark"])])
    lights = _named([(target_name(g), g) for g in _by_target(usable["light"])])
    targets = []
    for group in lights:
        try:
            targets.append(
                Target(
                    group,
                    None
                    if group.is_dark_subtracted
                    else match_dark(group, darks, recipe.dark_tolerance),
                )
            )
        except NoDarkError as error:
            problems.append(error)
    if not lights:
        problems.append(
            InputError(
                "There is no light frame",
                path=night.folder,
                hint="Check the frame types with inspect.",
            )
        )
    needed = tuple(d for d in darks if any(t.darks is d for t in targets))
    unused = [
        (f.label, "a dark of an exposure that no light has")
        for d in darks
        if d not in needed
        for f in d.frames
    ]
    return Plan(needed, tuple(targets), tuple(left_out + unused), tuple(problems))


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
    present = (
        ", ".join(f"{len(d.frames)} x {d.exptime:g} s of {d.frames[0].shape}" for d in darks)
        or "none"
    )
    raise NoDarkError(
        f"No dark within {tolerance:g} s of {lights.exptime:g} s for {lights.name} of {lights.frames[0].shape} "
        f"pixels (darks: {present})",
        path=lights.frames[0].path,
        keyword="EXPTIME",
        value=lights.exptime,
        hint="Take a matching dark, raise dark_tolerance in the recipe, or exclude the frame.",
    )


def target_name(frames: Sequence[Frame]) -> str:
    """Return a target's name: its OBJECT, else the frames' common stem and sequence, safe as a file name."""
    if frames[0].target:
        return slug(frames[0].target)
    names = [os.path.basename(frame.label) for frame in frames]
    first, last = _NUMBERED.match(names[0]), _NUMBERED.match(names[-1])
    if len(names) > 1 and first and last and first[1] == last[1]:
        return slug(f"{first[1]}{first[2]}-{last[2]}")
    return slug(names[0])


def slug(text: str) -> str:
    """Return text as a file name of letters, digits and ``._+-``, at most 60 characters.

    Examples
    --------
    >>> slug("59 Cyg (SAO 50335)"), slug("../../etc/x")
    ('59_Cyg_SAO_50335', 'etc_x')
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9.+-]+", "_", plain).strip("._-")[:60].rstrip("._-")
    return f"{name}_" if _RESERVED.match(name) else name or "target"


def _why_not(frame: Frame) -> str | None:
    """Return why a frame takes no part, or None."""
    if frame.frame_type is None:
        return f"the frame type {frame.type_found!r} is unknown"
    if frame.exptime is None:
        return "its exposure is unknown"
    if frame.frame_type == "dark" and set("BD") & set(frame.calstat):
        return f"a dark already corrected (CALSTAT={frame.calstat!r})"
    return None


def _untyped(frame: Frame) -> InputError:
    return InputError(
        "No card says what kind of frame this is",
        path=frame.path,
        keyword="IMAGETYP",
        hint="Add IMAGETYP to the header, or exclude the frame.",
    )


def _alike(frames: Iterable[Frame]) -> list[list[Frame]]:
    """Return frames that share exposure, shape, setup, optics and calibration state, in canonical order."""
    groups: list[list[Frame]] = []
    for frame in frames:
        group = next((g for g in groups if _belongs(frame, g[0])), None)
        if group is None:
            groups.append([frame])
        else:
            group.append(frame)
    return groups


def _belongs(frame: Frame, first: Frame) -> bool:
    near = abs((frame.exptime or 0) - (first.exptime or 0)) <= max(
        0.01, 0.001 * (first.exptime or 0)
    )
    same_state = (frame.shape, frame.setup, frame.calstat) == (
        first.shape,
        first.setup,
        first.calstat,
    )
    return near and same_state and (frame.frame_type == "dark" or frame.optics == first.optics)


def _by_target(lights: Iterable[Frame]) -> list[list[Frame]]:
    """Return the lights of each target: by OBJECT, else by stem and unbroken numbering."""
    by_object: dict[str, list[Frame]] = defaultdict(list)
    for frame in lights:
        by_object[frame.target].append(frame)
    groups = [g for name, frames in by_object.items() if name for g in _alike(frames)]
    for group in _alike(by_object[""]):
        groups += _sequences(group)
    return sorted(groups, key=lambda g: g[0].order)


def _sequences(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Part frames where the stem of the name changes or the numbering has a gap."""
    by_name = sorted(frames, key=lambda frame: _stem_and_number(frame.label))
    runs: list[list[Frame]] = []
    for frame in by_name:
        stem, number = _stem_and_number(frame.label)
        if runs and (stem, number - 1) == _stem_and_number(runs[-1][-1].label):
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return [sorted(run, key=lambda frame: frame.order) for run in runs]


def _stem_and_number(label: str) -> tuple[str, int]:
    match = _NUMBERED.match(label)
    return (match[1], int(match[2])) if match else (label, -1)


def _same_pixels(one: Frame, other: Frame) -> bool:
    ours, theirs = dict(one.setup), dict(other.setup)
    return one.shape == other.shape and all(
        theirs.get(name, value) == value for name, value in ours.items()
    )


def _named(groups: Sequence[tuple[str, Sequence[Frame]]]) -> list[Group]:
    """Return groups under unique names: binning, then a number, is added only where needed."""
    named: list[Group] = []
    for name, frames in groups:
        shared = [n for n, _ in groups].count(name) > 1
        full = f"{name}_{dict(frames[0].setup).get('binning', '')}".rstrip("_") if shared else name
        taken = {group.name for group in named}
        unique = next(
            n for n in [full, *(f"{full}_{i}" for i in range(2, len(groups) + 2))] if n not in taken
        )
        named.append(Group(unique, tuple(frames)))
    return named
