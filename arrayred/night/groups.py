"""Group frames of the same type that become one image, and name and select them: `Group`.

Frames of one type form a group if they share target, exposure, shape, detector setup, optics and
calibration state, and if light frames lie less than six hours apart. If OBJECT is blank, file names
and arc frames separate the targets: another stem, a gap in the numbering, or an arc taken in
between begins another target, since headers cannot distinguish two stars of the same exposure.
"""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arrayred.bands import bytes_of_a_row, rows_of_bands, rows_within
from arrayred.config import TargetFile
from arrayred.errors import UsageError
from arrayred.io.cube import make_cube
from arrayred.io.frames import Frame, exposure_tolerance, observing_runs
from arrayred.io.scan import dtype_of
from arrayred.model import Chunks

if TYPE_CHECKING:
    import xarray as xr


_SPREAD_OF_ONE_MASTER = 1.5  # deg C, from its first dark


def darks_of(frames: Iterable[Frame]) -> list[Group]:
    """Return groups of darks, one for each exposure and setup, named by their exposure."""
    return _own_then_others([(exposure_label(group[0]), group) for group in _same_setup(frames)])


def biases_of(frames: Iterable[Frame]) -> list[Group]:
    """Return groups of biases, one for each setup."""
    return _own_then_others([("bias", group) for group in _same_setup(frames)])


def _own_then_others(groups: Sequence[tuple[str, Sequence[Frame]]]) -> list[Group]:
    """Return named groups: those of libraries do not change the names of the night's own."""
    own = with_unique_names([(name, frames) for name, frames in groups if not frames[0].library])
    others = [(name, frames) for name, frames in groups if frames[0].library]
    return [*own, *with_unique_names(others, own)]


def lights_of(
    frames: Sequence[Frame],
    targets: Mapping[str, TargetFile] | None = None,
    arcs: Sequence[Frame] = (),
) -> list[Group]:
    """Return groups of light frames, one for each target, named by it.

    Parameters
    ----------
    frames : the lights.
    targets : frames given as one target, by its name; the rest is grouped by headers and file
        names. A target of which no frame is used gives no group.
    arcs : the arc frames of the night.

    Raises
    ------
    UsageError
        A target names another target's frame, or frames that cannot be combined.
    """
    given: dict[str, list[Frame]] = {}
    owners: dict[str, str] = {}
    for name, target in (targets or {}).items():
        if chosen := select_by_any(frames, target.frames):
            given[name] = chosen
            require_one_kind(f"Target {name!r} has", chosen)
            for frame in chosen:
                _require_free(frame, name, owners)
    rest = [frame for frame in frames if frame.label not in owners]
    own = [Group(slug(name), tuple(group)) for name, group in given.items()]
    found = with_unique_names(
        [(target_name(group), group) for group in split_by_target(rest, arcs)], own
    )
    return sorted([*own, *found], key=lambda group: group.frames[0].order)


def require_one_kind(who: str, frames: Sequence[Frame]) -> None:
    """Raise UsageError if frames that should become one image differ in more than time."""
    for frame in frames:
        if not _belongs(frame, frames[0]):
            raise UsageError(
                f"{who} both {frames[0].label} and {frame.label}, which differ in exposure time, "
                "shape, setup, optics or calibration",
                value=frame.label,
                hint="Split them into two targets.",
            )


def _require_free(frame: Frame, name: str, owners: dict[str, str]) -> None:
    other = owners.setdefault(frame.label, name)
    if other != name:
        raise UsageError(
            f"{frame.label} belongs to both {other!r} and {name!r}",
            value=frame.label,
            hint="Name it for one of them.",
        )


def _same_setup(frames: Iterable[Frame]) -> list[list[Frame]]:
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
    """Return the properties that frames must share to form one cube.

    Frames of the night and of a library, or of two libraries, never form one: what else is at hand
    would change the masters of the night itself.
    """
    return frame.shape, frame.setup, frame.state, frame.unit, frame.sections, frame.library


def _same_epoch(dark: Frame, first: Frame) -> bool:
    """Return whether two darks or biases were taken in one night, at one temperature."""
    if dark.time is not None and first.time is not None and dark.night != first.night:
        return False
    if dark.ccd_temp is None or first.ccd_temp is None:
        return True
    return abs(dark.ccd_temp - first.ccd_temp) <= _SPREAD_OF_ONE_MASTER


def split_by_target(lights: Iterable[Frame], arcs: Sequence[Frame]) -> list[list[Frame]]:
    """Return the lights of each target: by OBJECT, else by stem, unbroken numbering and arcs."""
    by_object: dict[str, list[Frame]] = defaultdict(list)
    for frame in lights:
        by_object[frame.target].append(frame)
    named = [g for name, frames in by_object.items() if name for g in _same_setup(frames)]
    groups = [night for group in named for night in observing_runs(group)]
    for group in _same_setup(by_object[""]):
        runs = [part for run in _sequences(group) for part in _between_lamps(run, arcs)]
        groups += [night for run in runs for night in observing_runs(run)]
    return sorted(groups, key=lambda g: g[0].order)


def _sequences(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Split frames where the stem of the name changes or the numbering has a gap."""
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
    """Split frames, in order of time, where an arc was taken between two of them."""
    lamps = [arc.time for arc in arcs if arc.time is not None]
    runs: list[list[Frame]] = []
    for frame in frames:
        start, before = frame.time, runs[-1][-1].time if runs else None
        lit = start and before and any(before < lamp < start for lamp in lamps)
        if not runs or lit:
            runs.append([])
        runs[-1].append(frame)
    return runs


def with_unique_names(
    groups: Sequence[tuple[str, Sequence[Frame]]], others: Sequence[Group] = ()
) -> list[Group]:
    """Return groups with unique names, also among others, lengthened where needed."""
    facets: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for name, frames in groups:
        facets[name.lower()].append(_distinguishing_facts(frames))
    telling = {
        name: [i for i, values in enumerate(zip(*rivals, strict=True)) if len(set(values)) > 1]
        for name, rivals in facets.items()
    }
    named: list[Group] = []
    taken = {group.name.lower() for group in others}
    for name, frames in groups:
        own = _distinguishing_facts(frames)
        full = lengthened(name, "_".join(own[i] for i in telling[name.lower()] if own[i]))
        candidates = chain([full], (lengthened(full, str(i)) for i in count(2)))
        unique = next(n for n in candidates if n.lower() not in taken)
        taken.add(unique.lower())
        named.append(Group(unique, tuple(frames)))
    return named


def _distinguishing_facts(frames: Sequence[Frame]) -> tuple[str, str, str, str, str]:
    """Return what may distinguish groups of one name: exposure, binning, unit, deg C, evening."""
    first = frames[0]
    temperature = "" if first.ccd_temp is None else f"{first.ccd_temp:.0f}C"
    binning = dict(first.setup).get("binning", "")
    if first.frame_type in ("bias", "dark"):
        return "", binning, first.unit, temperature, first.night
    return exposure_label(first), binning, first.unit, "", first.night


# Select frames by label, file name, glob or range, as in observing notes: `select_frames`.

_NUMBERED = re.compile(r"(.*?)(\d+)$", re.DOTALL)
_TAIL = re.compile(
    r"(?:[ _-]+(?:-?\d+(?:\.\d+)?(?:s|sec|secs|ms|c|deg)|\d+x\d+|bin\d+))+$", re.IGNORECASE
)
_RANGE = re.compile(r"(.*?)(\d+)\s*(?:\.\.|-|:|–)\s*(\d+)$", re.DOTALL)


def stem_and_digits(label: str) -> tuple[str, str]:
    """Return the part of a label before its running number, and the number's digits or "".

    An exposure, temperature or binning after the number is ignored.

    Examples
    --------
    >>> stem_and_digits("201103hr8047-10"), stem_and_digits("vega_007_600s"), stem_and_digits("m31")
    (('201103hr8047-', '10'), ('vega_', '007'), ('m', '31'))
    """
    match = _NUMBERED.match(_TAIL.sub("", label))
    return (match[1], match[2]) if match else (label, "")


def stem_and_number(label: str) -> tuple[str, int]:
    """Return the part of a label before its running number, and the number; -1 if there is none.

    Examples
    --------
    >>> stem_and_number("201103hr8047-10"), stem_and_number("vega")
    (('201103hr8047-', 10), ('vega', -1))
    """
    stem, digits = stem_and_digits(label)
    return stem, int(digits) if digits else -1


def select_frames(frames: Iterable[Frame], pattern: str) -> list[Frame]:
    """Return the frames that a pattern names.

    Parameters
    ----------
    frames : the frames to choose from.
    pattern : a label, a file's name, a glob of either, or a range: ``hr8047-10..12`` or
        ``hr8047-10-12`` names the files whose stem is ``hr8047-`` and whose number is 10 to 12,
        with or without leading zeros. An exact label or name takes precedence.
    """
    frames = list(frames)
    exact = [frame for frame in frames if frame.label == pattern] or [
        frame for frame in frames if pattern in (os.path.basename(frame.label), frame.path.name)
    ]
    return exact or [frame for frame in frames if is_named(frame.label, frame.path, pattern)]


def is_named(label: str, path: Path, pattern: str) -> bool:
    """Return whether a pattern names the file of a label; see `select_frames`.

    Examples
    --------
    >>> [is_named("raw/hr-10", Path("raw/hr-10.fit"), p) for p in ("hr-10", "*.fit", "hr-9..11")]
    [True, True, True]
    """
    names = (label, os.path.basename(label), path.name)
    match = _RANGE.match(pattern)
    in_range = match is not None and any(
        stem == match[1] and int(match[2]) <= number <= int(match[3])
        for stem, number in map(stem_and_number, names[:2])
    )
    return in_range or any(name == pattern or fnmatchcase(name, pattern) for name in names)


def select_by_any(frames: Sequence[Frame], patterns: Iterable[str]) -> list[Frame]:
    """Return the frames that any of the patterns names, in their own order."""
    chosen = {frame.label for pattern in patterns for frame in select_frames(frames, pattern)}
    return [frame for frame in frames if frame.label in chosen]


def shortest_patterns(frames: Sequence[Frame], labels: Sequence[str]) -> list[str]:
    """Return patterns that select these frames and no other: a range if there is one, or labels."""
    (stem, first), (_, last) = stem_and_digits(labels[0]), stem_and_digits(labels[-1])
    span = f"{stem}{first}..{last}"
    of_span = [frame.label for frame in select_frames(frames, span)]
    return [span] if len(labels) > 1 and of_span == list(labels) else list(labels)


def require_named(
    frames: Sequence[Frame], others: Iterable[tuple[str, Path]], patterns: Iterable[str], what: str
) -> None:
    """Raise UsageError if a pattern names no file of a night.

    Parameters
    ----------
    frames : the frames.
    others : label and path of files that cannot be read or are not used.
    patterns : see `select_frames`.
    what : the setting that the patterns are from, for the error.
    """
    out = list(others)
    for pattern in patterns:
        if select_frames(frames, pattern) or any(
            is_named(label, path, pattern) for label, path in out
        ):
            continue
        labels = [*(frame.label for frame in frames), *(label for label, _ in out)]
        near = difflib.get_close_matches(pattern, labels, n=1, cutoff=0.5)
        raise UsageError(
            f"{what} names {pattern!r}, but no frame has this name",
            value=pattern,
            hint=f"Did you mean {near[0]!r}?" if near else "See `arrayred inspect`.",
        )


# Names of targets, safe as file names: `target_name`, `slug`.

_LONGEST = 60
_MOST_LISTED = 3
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)


def target_name(frames: Sequence[Frame]) -> str:
    """Return a target's name: its OBJECT, else its files' common stem and numbers, as a slug."""
    if frames[0].target:
        return slug(frames[0].target)
    names = [os.path.basename(frame.label) for frame in frames]
    (stem, first), (other, last) = stem_and_digits(names[0]), stem_and_digits(names[-1])
    if len(names) > 1 and first and last and stem == other:
        return slug(f"{stem}{first}-{last}")
    return slug(names[0])


def slug(text: str) -> str:
    """Return text as a file name of letters, digits and ``._+-``, at most 60 characters.

    Examples
    --------
    >>> slug("59 Cyg (SAO 50335)"), slug("../../etc/x")
    ('59_Cyg_SAO_50335', 'etc_x')
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9.+-]+", "_", plain).strip("._-")[:_LONGEST].rstrip("._-")
    return _RESERVED.sub(r"\1_", name, count=1) if _RESERVED.match(name) else name or "target"


def lengthened(name: str, more: str) -> str:
    """Return a slug with a suffix, the slug being cut if the name grows too long.

    Examples
    --------
    >>> lengthened("Vega", "60s"), len(lengthened("x" * 60, "60s"))
    ('Vega_60s', 60)
    """
    return f"{name[: _LONGEST - len(more) - 1].rstrip('._-')}_{more}" if more else name


def list_of_names(names: Sequence[str]) -> str:
    """Return names as text: up to three in full, of more the first, the last and their number.

    Examples
    --------
    >>> list_of_names(["a", "b"]), list_of_names(["a-1", "a-2", "a-3", "a-4"])
    ('a, b', 'a-1 to a-4 (4)')
    """
    few = len(names) <= _MOST_LISTED
    return ", ".join(names) if few else f"{names[0]} to {names[-1]} ({len(names)})"


def names_by_text(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return for each text the names that it is about, as `list_of_names`, of (name, text).

    Examples
    --------
    >>> names_by_text([("a", "too short"), ("b", "saturated"), ("c", "too short")])
    {'too short': 'a, c', 'saturated': 'b'}
    """
    names: dict[str, list[str]] = defaultdict(list)
    for name, text in pairs:
        names[text].append(name)
    return {text: list_of_names(whose) for text, whose in names.items()}


# Groups of frames: `Group`.

_EAGER_BYTES = 256 << 20


@dataclass(frozen=True)
class Group:
    """Frames of one type that become one image.

    Parameters
    ----------
    name : unique among the groups of its type, safe as a file name.
    frames : its frames, in canonical order.
    """

    name: str
    frames: tuple[Frame, ...]

    def __repr__(self) -> str:
        """Return name, number, type, exposure and shape of the frames, in a line."""
        rows, columns = self.frames[0].shape
        kind, exposure = self.frames[0].frame_type or "unknown", exposure_label(self.frames[0])
        return f"Group({self.name}: {self.size}, {kind}, {exposure}, {columns} x {rows})"

    @property
    def kind(self) -> str:
        """Return the type of the frames."""
        return self.frames[0].frame_type or ""

    @property
    def key(self) -> str:
        """Return the key of the group, unique in a night: type and name."""
        return f"{self.kind}/{self.name}"

    @property
    def title(self) -> str:
        """Return the name of the group in a text: "dark 600s", "bias"."""
        return self.name if self.kind == self.name.partition("_")[0] else f"{self.kind} {self.name}"

    @property
    def is_master(self) -> bool:
        """Return whether the group is a single master, already made from frames."""
        return self.frames[0].is_master

    @property
    def is_own(self) -> bool:
        """Return whether the frames are the night's own, not those of a folder of calibrations."""
        return not self.frames[0].library

    @property
    def master_name(self) -> str:
        """Return the file name of the group's master."""
        if self.is_master:
            return self.frames[0].path.name
        return f"master_{self.title.replace(' ', '_')}.fits"

    @property
    def inputs(self) -> tuple[Frame, ...]:
        """Return all frames that go into the group's image."""
        return self.frames

    @property
    def parts(self) -> tuple[Group, ...]:
        """Return the groups whose masters it is made from; none if made from its own frames."""
        return ()

    @property
    def exptime(self) -> float:
        """Return the exposure of one frame, s."""
        return self.frames[0].exptime or 0.0

    @property
    def size(self) -> str:
        """Return the number of frames, in words."""
        return "1 frame" if len(self.frames) == 1 else f"{len(self.frames)} frames"

    @property
    def temperature(self) -> float | None:
        """Return the mean temperature of the detector, deg C; None unless all frames have one."""
        known = [frame.ccd_temp for frame in self.frames if frame.ccd_temp is not None]
        return sum(known) / len(known) if len(known) == len(self.frames) else None

    @property
    def state(self) -> str:
        """Return the corrections applied to every frame: letters of "BDF" (`Frame.state`)."""
        return self.frames[0].state

    @property
    def is_dark_subtracted(self) -> bool:
        """Return whether the camera program has already subtracted a dark."""
        return "D" in self.state

    @property
    def n_bytes(self) -> int:
        """Return the size of all pixels as stored, uncompressed, bytes."""
        return sum(frame.image.source.n_bytes for frame in self.frames)

    def least_memory(self, *, widened: bool = True) -> int:
        """Return the bytes of the lowest bands: one row of all frames for every thread."""
        shape = (len(self.frames), *self.frames[0].shape)
        return bytes_of_a_row(shape, self._dtype, widened=widened)

    @property
    def _dtype(self) -> np.dtype[Any]:
        return np.result_type(*{dtype_of(frame.image.source.pixels) for frame in self.frames})

    def band_rows(self, memory: int | None = None, *, widened: bool = True) -> int:
        """Return the number of rows read at a time; all rows of a small group.

        Parameters
        ----------
        memory : bytes that may be held, beyond the results; None: up to 256 MB at once, else bands
            of 64 MB per thread.
        widened : as in `bands.bytes_per_pixel`.

        Raises
        ------
        UsageError
            The memory does not hold one row of all frames for every thread.
        """
        n_rows, n_columns = self.frames[0].shape
        shape = (len(self.frames), n_rows, n_columns)
        dtype = self._dtype
        step = max(frame.image.source.step for frame in self.frames)
        at_once = self.n_bytes <= _EAGER_BYTES
        if memory is not None:
            enough = self.n_bytes
            at_once = rows_within(shape, dtype, memory, widened=widened, enough=enough) >= n_rows
        return n_rows if at_once else rows_of_bands(shape, dtype, memory, step, widened=widened)

    def cube(
        self, chunks: Chunks = "auto", memory: int | None = None, *, widened: bool = True
    ) -> xr.Dataset:
        """Open the frames as a cube; "auto" reads a small group at once and chunks a large one."""
        if chunks != "auto":
            return make_cube(self.frames, chunks)
        rows = self.band_rows(memory, widened=widened)
        return make_cube(self.frames, None if rows >= self.frames[0].shape[0] else rows)


def exposure_label(frame: Frame) -> str:
    """Return a frame's exposure as a name: ``600s``."""
    return "unknown" if frame.exptime is None else f"{frame.exptime:g}s"
