"""The frames of a folder, as their headers describe them: `open_night`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from arrayred.config import Instrument, NightFile
from arrayred.config.toml import errors_name
from arrayred.errors import ArrayredError, ForeignFileError, InputError, UsageError
from arrayred.io.files import files_at, list_files, unreached
from arrayred.io.frames import Frame, read_frames, without_suffix
from arrayred.io.pixel_checks import confirm_arcs, duplicates_of, judge
from arrayred.io.remote import located
from arrayred.model import Unsigned
from arrayred.night.picking import is_named, pick_any, require_named
from arrayred.watching import stage

_CALIBRATIONS = ("bias", "dark", "flat")

if TYPE_CHECKING:
    import xarray as xr

    from arrayred.night.caching import Caching
    from arrayred.night.group import Group


@dataclass(frozen=True)
class Night:
    """The frames of one folder, headers read, pixels not.

    Printing it tells what is there, `make_plan` what each frame is used for;
    ``night["light/<target>"]`` is the lazy cube of a group.

    Parameters
    ----------
    folder : where they lie.
    instrument : what their headers mean.
    file : what else is known of the night.
    frames : raw frames, and masters from elsewhere, in canonical order (time, then name).
    left_out : frames that take no part, each with the reason.
    foreign : files that are no frames, and folders not reached, each with the reason.
    problems : files that should be frames but cannot be read.
    duplicates : labels of frames that repeat another, with that one's label.
    scanned : all frames that were read, those left out included.
    """

    folder: Path
    instrument: Instrument
    file: NightFile
    frames: tuple[Frame, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    foreign: tuple[tuple[str, str], ...] = ()
    problems: tuple[ArrayredError, ...] = ()
    duplicates: Mapping[str, str] = field(default_factory=dict)
    scanned: tuple[Frame, ...] = ()

    def __repr__(self) -> str:
        """Return the night at a glance."""
        from arrayred.night.glance import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        """Return the night at a glance, for notebooks."""
        from arrayred.night.glance import as_html

        return as_html(self)

    @cached_property
    def groups(self) -> dict[str, Group]:
        """The groups of its frames, under ``<type>/<group>``."""
        from arrayred.night.tree import raw_groups

        return raw_groups(self)

    @cached_property
    def tree(self) -> xr.DataTree:
        """Its pixels, lazy: a cube (frame, y, x) under ``/raw/<type>/<group>`` for each group."""
        from arrayred.night.tree import tree_of

        return tree_of(self.groups)

    def __getitem__(self, name: str) -> xr.Dataset:
        """Return the lazy cube of one group, such as ``night["light/59_Cyg"]``."""
        from arrayred.night.tree import cube_at

        return cube_at(self.groups, name)

    def __iter__(self) -> Iterator[str]:
        """Yield the names of its groups, ``<type>/<group>``."""
        return iter(self.groups)

    def _ipython_key_completions_(self) -> list[str]:
        return list(self.groups)


@stage("reading headers")
def open_night(
    folder: str | os.PathLike[str],
    file: NightFile | None = None,
    *,
    unsigned: Unsigned | None = None,
    depth: int = 3,
    advance: Callable[[int], None] | None = None,
    caching: Caching | None = None,
) -> Night:
    """Read the headers of a night, and as many pixels as tell what headers do not.

    Parameters
    ----------
    folder : where the frames lie; a cache of a night does as well, or the URL of either.
    file : what is known of the night beside its headers; by default nothing.
    unsigned : over what the file says of it: "auto" recognises unsigned counts that were written
        as signed; "wrapped" takes all raw counts with BZERO 0 for such, "as-declared" none.
    depth : how many folders deep they may lie, the folder itself being the first.
    advance : is called after each file with the number of files left.
    caching : whether pixels may be read from a cache of these frames; by default they are not.

    Raises
    ------
    InputError
        A folder does not exist or holds no FITS file.
    UsageError
        The night file names a frame that is not there, or what is to be excluded is not.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from arrayred.io.products import write_frames
    >>> from arrayred.simulate import Detector, SimulatedNight
    >>> with TemporaryDirectory() as folder:
    ...     _ = write_frames(SimulatedNight(Detector(shape=(40, 60))).frames(), Path(folder))
    ...     night = open_night(folder)
    >>> list(night)
    ['dark/600s', 'light/Simulated_star']
    """
    where, file = located(folder), file or NightFile()
    file = replace(file, unsigned=unsigned or file.unsigned)
    meaning = Instrument.load(file.instrument)
    own = list_files(where, depth=depth)
    file, library = _with_library(file, own, depth)
    listed = list(dict.fromkeys([*own, *sorted(library)]))
    excluded = _excluded(listed, where, file.exclude)
    files = [path for path in listed if path not in excluded]
    deeper = _beyond((where, *file.calibrations), depth)
    if excluded.issuperset(own):
        hint = (
            f"Raise depth: {deeper[0][0]} has some."
            if deeper
            else "Name the folder of the raw frames."
        )
        raise InputError("There is no FITS file", path=where, hint=hint)
    found, failures = read_frames(files, meaning, where, advance)
    if caching is not None:
        found = caching.shelved(found, where, file, meaning)
    out = [*excluded, *(Path(error.path) for error in failures if error.path)]
    with errors_name(file.path):
        _require_all_named(found, [(_label(path, where), path) for path in out], file)
        frames = confirm_arcs(judge(retyped(found, file), meaning, file.unsigned))
    reasons = {frame.label: _why_out(frame, file, library) for frame in frames}
    chosen = [frame for frame in frames if not reasons[frame.label]]
    left_out = [(path.name, "excluded") for path in listed if path in excluded]
    left_out += [(label, reason) for label, reason in reasons.items() if reason]
    foreign = [error for error in failures if isinstance(error, ForeignFileError)]
    return Night(
        folder=where,
        instrument=meaning,
        file=file,
        frames=tuple(chosen),
        left_out=tuple(left_out),
        foreign=(*((str(error.path), str(error.args[0])) for error in foreign), *deeper),
        problems=tuple(error for error in failures if error not in foreign),
        duplicates=duplicates_of(chosen),
        scanned=tuple(frames),
    )


def _excluded(listed: Sequence[Path], folder: Path, patterns: Iterable[str]) -> set[Path]:
    """Return the files that take no part; raise UsageError if a pattern names none."""
    labels = {path: _label(path, folder) for path in listed}
    excluded: set[Path] = set()
    for name in patterns:
        found = {p for p, label in labels.items() if p.match(name) or is_named(label, p, name)}
        if listed and not found:
            require_named([], [(label, path) for path, label in labels.items()], [name], "exclude")
        excluded |= found
    return excluded


def _beyond(folders: Iterable[Path], depth: int) -> list[tuple[str, str]]:
    """Return the folders with FITS files that lie too deep, each with the reason."""
    reason = f"lies deeper than {depth} folder{'s' * (depth != 1)}"
    return [(str(path), reason) for folder in folders for path in unreached(folder, depth)]


def _label(path: Path, folder: Path) -> str:
    return without_suffix(os.path.relpath(path, folder))


def _with_library(file: NightFile, own: Sequence[Path], depth: int) -> tuple[NightFile, set[Path]]:
    """Return the file, paths spelt as the night spells them, and the calibrations it names.

    A file of the night that lies in a folder of calibrations too, or is reached by a link, is the
    night's own and read once.
    """
    file = replace(file, masters={kind: located(path) for kind, path in file.masters.items()})
    for path in file.masters.values():
        if not path.is_file() or not files_at(path):
            raise UsageError("There is no such master", path=path, hint="Name a FITS file.")
    listed = [path for folder in file.calibrations for path in list_files(folder, depth=depth)]
    if not listed and not file.masters:
        return file, set()
    spelt = {os.path.realpath(path): path for path in [*reversed(listed), *own]}
    masters = {k: spelt.get(os.path.realpath(path), path) for k, path in file.masters.items()}
    elsewhere = {spelt[os.path.realpath(path)] for path in listed} - set(own)
    return replace(file, masters=masters), elsewhere | set(masters.values())


def _require_all_named(
    frames: Sequence[Frame], others: Sequence[tuple[str, Path]], file: NightFile
) -> None:
    """Raise UsageError if the night file names a frame that is not there."""
    for frame_type, names in file.types.items():
        require_named(frames, others, names, f"types.{frame_type}")
    for name, target in file.targets.items():
        require_named(frames, others, target.frames, f"target {name!r}")
        require_named(frames, others, target.lamps, f"lamps of {name!r}")


def retyped(frames: Sequence[Frame], file: NightFile) -> list[Frame]:
    """Return the frames, those of the types that the night file says, whatever headers say.

    The frames of its targets are lights, those of their lamps are arcs.
    """
    told = [
        *file.types.items(),
        *(("light", target.frames) for target in file.targets.values()),
        *(("arc", target.lamps) for target in file.targets.values()),
    ]
    types = {f.label: kind for kind, names in told for f in pick_any(frames, names)}
    masters = {path: frame_type for frame_type, path in file.masters.items()}
    types |= {f.label: masters[f.path] for f in frames if f.path in masters}
    typed = [_typed(f, types[f.label]) if f.label in types else f for f in frames]
    return [replace(f, named_master=True) if f.path in masters else f for f in typed]


def _typed(frame: Frame, frame_type: str) -> Frame:
    """Return a frame as of a type that is known for certain: no name makes it an arc."""
    told = tuple(text for text in frame.warnings if not text.startswith("taken for"))
    return replace(frame, frame_type=frame_type, warnings=told, maybe_arc="")


def _why_out(frame: Frame, file: NightFile, library: set[Path]) -> str:
    """Return why a frame takes no part, or ""."""
    if frame.path in library:
        is_calibration = frame.frame_type in _CALIBRATIONS
        return "" if is_calibration else "in a folder of calibrations, but no calibration"
    if frame.is_product:
        return "made from frames, not raw"
    if frame.frame_type == "light" and not frame.path.match(file.frames):
        return unlike(file.frames)
    return ""


def unlike(pattern: str) -> str:
    """Return why a light is left out whose name does not match a pattern."""
    return f"its name is not {pattern!r}"
