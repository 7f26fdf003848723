"""Open a night: its frames, their groups as a tree, a summary and its cache."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from arrayred.config import Instrument, NightFile
from arrayred.config.night_file import DISPERSION_AXES, MASTERS
from arrayred.config.toml import errors_name
from arrayred.errors import (
    ArrayredError,
    ForeignFileError,
    FrameError,
    InputError,
    NightError,
    UsageError,
    counted,
    printable,
)
from arrayred.io.cache import open_cache
from arrayred.io.caching import CacheFolder, cache_key, fetch_cache, upload_cache
from arrayred.io.cube import make_cube
from arrayred.io.files import files_at, folders_too_deep, list_files, misnamed_files
from arrayred.io.frames import Frame, read_frames, without_suffix, without_type_warnings
from arrayred.io.ledger import Hashes, examine, required_checksums
from arrayred.io.pixel_checks import (
    check_night_pixels,
    confirm_types,
    find_dispersion_axis,
    repeated_frames,
)
from arrayred.io.pixels import release_copies
from arrayred.io.remote import Address, is_fits_name, path_or_address
from arrayred.io.scan import as_in_file
from arrayred.model import FRAME_TYPES, Chunks, Unsigned
from arrayred.night.groups import (
    Group,
    biases_of,
    darks_of,
    is_named,
    lights_of,
    require_named,
    select_by_any,
    select_frames,
    state_of,
)
from arrayred.night.match import flats_of
from arrayred.progress import stage

if TYPE_CHECKING:
    import xarray as xr

    from arrayred.io.caching import CacheInput as Content
    from arrayred.io.scan import CachedPixels


PRODUCT = "a combined image, not a raw frame"
"""The reason for a product that is not used."""


@dataclass(frozen=True)
class Night:
    """The frames of one folder, with headers read but not pixels.

    Printing it shows a summary, `make_plan` decides what each frame is used for;
    ``night["light/<target>"]`` is the lazy cube of a group.

    Parameters
    ----------
    folder : of the frames.
    instrument : the meaning of their headers.
    file : the night file.
    frames : raw frames, and masters from elsewhere, in canonical order (time, then name).
    left_out : frames that are not used, each with the reason.
    foreign : files that are not frames, and folders not reached, each with the reason.
    problems : files that should be frames but cannot be read.
    duplicates : labels of frames that repeat another, with that one's label.
    scanned : all frames whose headers were read, unused ones included.
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
        """Return a summary of the night."""
        return summary_text(self)

    def _repr_html_(self) -> str:
        """Return a summary of the night as HTML, for notebooks."""
        return summary_html(self)

    @cached_property
    def groups(self) -> dict[str, Group]:
        """The groups of its frames, under ``<type>/<group>``."""
        return raw_groups(self)

    @cached_property
    def tree(self) -> xr.DataTree:
        """Its pixels, lazy: a cube (frame, y, x) under ``/raw/<type>/<group>`` for each group."""
        import xarray as xr

        cubes = {
            f"/{'masters' if group.is_master else 'raw'}/{name}": make_cube(group.frames, "auto")
            for name, group in self.groups.items()
        }
        return xr.DataTree.from_dict(cubes)

    def __getitem__(self, name: str) -> xr.Dataset:
        """Return the lazy cube of one group, such as ``night["light/59_Cyg"]``."""
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
    caching: CachePolicy | None = None,
) -> Night:
    """Read the headers of a night, and samples of pixels where headers do not suffice.

    Parameters
    ----------
    folder : of the frames, or a cache of a night, or the URL of either.
    file : the night file, with information missing from the headers; by default empty.
    unsigned : overrides the file: "auto" recognises unsigned integers stored as signed; "wrapped"
        reads all raw counts with BZERO 0 as unsigned, "as-declared" none.
    depth : how many levels of folders are searched, the folder itself being the first.
    advance : called after each file with the number of files left.
    caching : when pixels may be read from a cache of these frames; by default never.

    Raises
    ------
    InputError
        A folder does not exist or has no FITS file.
    UsageError
        The night file names or excludes a frame that does not exist.

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
    where, file = path_or_address(folder), file or NightFile()
    file = replace(file, unsigned=unsigned or file.unsigned)
    meaning = Instrument.load(file.instrument)
    own = list_files(where, depth=depth)
    file, library = _with_named_calibrations(file, own, depth)
    listed = list(dict.fromkeys([*own, *sorted(library)]))
    excluded = _excluded_files(listed, where, file.exclude)
    files = [path for path in listed if path not in excluded]
    deeper = _folders_beyond_depth((where, *file.calibrations), depth)
    misnamed = misnamed_files(where, depth)
    if excluded.issuperset(own):
        hint = "Name the folder of the raw frames."
        if deeper:
            hint = f"Raise depth: {deeper[0][0]} has some."
        elif misnamed:
            hint = f"Look at {misnamed[0][0]}, {misnamed[0][1]}."
        raise InputError("No FITS files found", path=where, hint=hint)
    found, failures = read_frames(files, meaning, where, advance, file.extension)
    found = [replace(f, library=library[f.path]) if f.path in library else f for f in found]
    if caching is not None:
        found = caching.with_cached_pixels(found, where, file, meaning)
    out = [*excluded, *(Path(error.path) for error in failures if error.path)]
    with errors_name(file.path):
        _require_all_named(found, [(_label_in_folder(path, where), path) for path in out], file)
        told = types_told(found, file)
        frames = with_told_exposures(retyped(found, file, meaning), file)
        frames = check_night_pixels(frames, meaning, file.unsigned)
        frames = find_dispersion_axis(frames, meaning, DISPERSION_AXES.get(file.dispersion_axis))
        frames = confirm_types(frames, told)
    reasons = {frame.label: _why_excluded(frame, file) for frame in frames}
    chosen = [frame for frame in frames if not reasons[frame.label]]
    left_out = [(path.name, "excluded") for path in listed if path in excluded]
    left_out += [(label, reason) for label, reason in reasons.items() if reason]
    lent = {str(path) for path in library}
    foreign = [e for e in failures if isinstance(e, ForeignFileError) or e.path in lent]
    return Night(
        folder=where,
        instrument=meaning,
        file=file,
        frames=tuple(chosen),
        left_out=tuple(left_out),
        foreign=(*((str(error.path), str(error.args[0])) for error in foreign), *deeper, *misnamed),
        problems=tuple(error for error in failures if error not in foreign),
        duplicates=repeated_frames(chosen),
        scanned=tuple(frames),
    )


def _excluded_files(listed: Sequence[Path], folder: Path, patterns: Iterable[str]) -> set[Path]:
    """Return the excluded files; raise UsageError if a pattern names none."""
    labels = {path: _label_in_folder(path, folder) for path in listed}
    excluded: set[Path] = set()
    for name in patterns:
        found = {p for p, label in labels.items() if p.match(name) or is_named(label, p, name)}
        if listed and not found:
            require_named([], [(label, path) for path, label in labels.items()], [name], "exclude")
        excluded |= found
    return excluded


def _folders_beyond_depth(folders: Iterable[Path], depth: int) -> list[tuple[str, str]]:
    """Return the folders with FITS files that are too deep, each with the reason."""
    reason = f"lies deeper than {depth} folder{'s' * (depth != 1)}"
    return [(str(path), reason) for folder in folders for path in folders_too_deep(folder, depth)]


def _label_in_folder(path: Path, folder: Path) -> str:
    return without_suffix(os.path.relpath(path, folder))


def _with_named_calibrations(
    file: NightFile, own: Sequence[Path], depth: int
) -> tuple[NightFile, dict[Path, str]]:
    """Return the night file with paths spelt as the night spells them, and the calibration files.

    The second value is the folder of calibrations of each file, "" for a named master. A file of
    the night that is also in a folder of calibrations, or is reached by a link, counts as the
    night's own and is read once.
    """
    file = replace(
        file, masters={kind: path_or_address(path) for kind, path in file.masters.items()}
    )
    for path in file.masters.values():
        if not path.is_file() or not files_at(path):
            raise UsageError("No such master file", path=path, hint="Name a FITS file.")
    listed = {
        path: str(folder)
        for folder in reversed(file.calibrations)
        for path in list_files(folder, depth=depth)
    }
    if not listed and not file.masters:
        return file, {}
    spelt = {os.path.realpath(path): path for path in [*reversed(listed), *own]}
    masters = {k: spelt.get(os.path.realpath(path), path) for k, path in file.masters.items()}
    elsewhere = {spelt[os.path.realpath(path)]: folder for path, folder in listed.items()}
    elsewhere = {path: folder for path, folder in elsewhere.items() if path not in set(own)}
    return replace(file, masters=masters), elsewhere | dict.fromkeys(masters.values(), "")


def _require_all_named(
    frames: Sequence[Frame], others: Sequence[tuple[str, Path]], file: NightFile
) -> None:
    """Raise UsageError if the night file names a frame that does not exist."""
    for frame_type, names in file.types.items():
        require_named(frames, others, names, f"types.{frame_type}")
    require_named(frames, others, file.exptime, "exptime")
    for name, target in file.targets.items():
        require_named(frames, others, target.frames, f"target {name!r}")
        require_named(frames, others, target.lamps, f"lamps of {name!r}")


def types_told(frames: Sequence[Frame], file: NightFile) -> dict[str, str]:
    """Return the types that the night file gives, by the labels of the frames.

    The frames of its targets are lights, those of their lamps are arcs.
    """
    told = [
        *file.types.items(),
        *(("light", target.frames) for target in file.targets.values()),
        *(("arc", target.lamps) for target in file.targets.values()),
    ]
    types = {f.label: kind for kind, names in told for f in select_by_any(frames, names)}
    masters = {path: frame_type for frame_type, path in file.masters.items()}
    return types | {f.label: masters[f.path] for f in frames if f.path in masters}


def retyped(frames: Sequence[Frame], file: NightFile, instrument: Instrument) -> list[Frame]:
    """Return the frames with the types that the night file gives, which override the headers."""
    types, cards = types_told(frames, file), instrument.keywords["frame_type"]
    masters = set(file.masters.values())
    typed = [_with_frame_type(f, types[f.label], cards) if f.label in types else f for f in frames]
    return [replace(f, named_master=True) if f.path in masters else f for f in typed]


def _with_frame_type(frame: Frame, frame_type: str, cards: Collection[str]) -> Frame:
    """Return a frame with a type given by the user, whatever its cards, name and pixels say."""
    return replace(
        frame,
        frame_type=frame_type,
        warnings=without_type_warnings(frame),
        doubt=None,
        refusals=tuple(error for error in frame.refusals if error.keyword not in cards),
    )


def with_told_exposures(frames: Sequence[Frame], file: NightFile) -> list[Frame]:
    """Return the frames with the exposures that the user gives.

    Those of ``[exptime]`` override the headers. An observing log may round them or give sums, and
    the card EXPTIME of products holds for all of them, so that these two are used only where the
    header gives no exposure, or 0 s.
    """
    cards = [(("*",), file.cards)] + [(t.frames, t.cards) for t in file.targets.values()]
    spare = {name: c["EXPTIME"] for names, c in cards for name in names if "EXPTIME" in c}
    told: dict[str, float] = {}
    for patterns, is_spare in ((spare | dict(file.logged_exptime), True), (file.exptime, False)):
        asked = [f for f in frames if not (is_spare and f.exptime)] if patterns else []
        for name, seconds in patterns.items():
            if isinstance(seconds, int | float) and seconds >= 0:
                told |= {f.label: float(seconds) for f in select_frames(asked, name)}
    return [replace(f, exptime=told[f.label]) if f.label in told else f for f in frames]


def _why_excluded(frame: Frame, file: NightFile) -> str:
    """Return why a frame is not used, or ""."""
    if frame.library or frame.path in file.masters.values():
        is_calibration = frame.frame_type in MASTERS
        return "" if is_calibration else "in a calibrations folder, but not a calibration frame"
    if frame.is_product:
        return PRODUCT
    if frame.frame_type == "light" and not frame.path.match(file.frames):
        return pattern_mismatch(file.frames)
    return ""


def pattern_mismatch(pattern: str) -> str:
    """Return the reason for a light that is not used since its name does not match a pattern."""
    return f"its name does not match {pattern!r}"


# The groups of a night as cubes: `raw_groups`, `cube_at`.
#
# ``/raw/<type>/<group>`` is the cube of one group: lights by the names of their targets in the
# plan, darks by exposure, others by what they show. Frames of other shapes, settings or units form
# groups of their own by the rules of `night.groups`, and repeated frames are not used, so every
# cube can be combined unchanged. Masters that came with the frames are cubes of one frame under
# ``/masters/<type>/<group>``. Pixels are read on demand, those of compressed frames too.


def raw_groups(night: Night) -> dict[str, Group]:
    """Return the groups of a night's frames under ``<type>/<group>``, in the order of the types.

    Raises
    ------
    UsageError
        The night file contradicts itself or the frames.
    """
    by_type: dict[str, list[Frame]] = defaultdict(list)
    for frame in night.frames:
        if frame.label not in night.duplicates:
            by_type[frame.frame_type or "unknown"].append(frame)
    grouped: dict[str, Callable[[list[Frame]], list[Group]]] = {
        "bias": biases_of,
        "dark": darks_of,
        "flat": flats_of,
        "light": lambda lights: lights_of(lights, night.file.targets, by_type["arc"]),
    }
    return {
        f"{kind}/{group.name}": group
        for kind in (*FRAME_TYPES, "unknown")
        if kind in by_type
        for group in grouped.get(kind, lights_of)(by_type[kind])
    }


def cube_at(groups: Mapping[str, Group], name: str, chunks: Chunks = "auto") -> xr.Dataset:
    """Return the lazy cube (frame, y, x) of the group under ``<type>/<group>``.

    Raises
    ------
    KeyError
        There is no such group; the error names similar ones.
    """
    if name not in groups:
        near = get_close_matches(name, groups, n=3, cutoff=0.3) or list(groups)[:3]
        meant = ", ".join(map(repr, near)) or "none"
        raise KeyError(f"The night has no group {name!r}; there is {meant}")
    return make_cube(groups[name].frames, chunks)


# The summary of a night, as text and as HTML: its groups, and the frames that are not used.
#
# One row per group. The HTML is a table and a few lines, without style sheet or script, every text
# from a header or a file name escaped; of a night of a thousand groups the first 40 are shown.

_TABLE_HEADING = ("type", "group", "frames", "exposure", "size", "deg C", "night")
_MOST_ROWS = 40
_MOST_LINES = 5


@dataclass(frozen=True)
class NightSummary:
    """The contents of a night's summary.

    Parameters
    ----------
    title : its folder, number of frames and dates.
    rows : a row of texts for each group, under `_TABLE_HEADING`.
    remarks : lines on frames that are not used, repeated or unreadable.
    """

    title: str
    rows: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...]


def summary_text(night: Night) -> str:
    """Return the summary of a night as lines of text."""
    seen = summarise_night(night)
    table = [_TABLE_HEADING, *seen.rows] if seen.rows else []
    columns = [i for i in range(len(_TABLE_HEADING)) if any(row[i] for row in seen.rows)]
    widths = {i: max(len(row[i]) for row in table) for i in columns}
    lines = ["  ".join(row[i].ljust(widths[i]) for i in columns).rstrip() for row in table]
    return "\n".join([seen.title, *(f"  {line}" for line in (*lines, *seen.remarks))])


def summary_html(night: Night) -> str:
    """Return the summary of a night as a piece of HTML."""
    seen = summarise_night(night)
    head = "".join(f"<th>{name}</th>" for name in _TABLE_HEADING)
    rows = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in seen.rows]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    remarks = "".join(f"<li>{escape(remark)}</li>" for remark in seen.remarks)
    return (
        f"<div><p><b>{escape(seen.title)}</b></p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"<ul>{remarks}</ul></div>"
    )


def summarise_night(night: Night) -> NightSummary:
    """Return the contents of a night's summary."""
    rows = [_group_row(name, group) for name, group in night.groups.items()]
    more = f"... and {len(rows) - _MOST_ROWS} more groups"
    cut = [(more, *[""] * (len(_TABLE_HEADING) - 1))] if len(rows) > _MOST_ROWS else []
    shown = [tuple(printable(cell) for cell in row) for row in (*rows[:_MOST_ROWS], *cut)]
    n, evenings = len(night.frames), _night_range(night.frames)
    when = f", {'nights' if ' ' in evenings else 'night'} of {evenings}" if evenings else ""
    title = f"{night.folder}: {n} frame{'s' * (n != 1)}{when}"
    return NightSummary(printable(title), tuple(shown), tuple(map(printable, _remarks(night))))


def _group_row(name: str, group: Group) -> tuple[str, ...]:
    kind, _, own_name = name.partition("/")
    rows, columns = group.frames[0].shape
    return (
        kind,
        own_name,
        str(len(group.frames)),
        _group_exposure(group),
        f"{columns} x {rows}",
        "" if group.temperature is None else f"{group.temperature:.1f}",
        _night_range(group.frames),
    )


def _group_exposure(group: Group) -> str:
    return "?" if group.frames[0].exptime is None else f"{group.exptime:g} s"


def _night_range(frames: Iterable[Frame]) -> str:
    """Return the night of frames, or the first and the last one."""
    evenings = sorted({frame.night for frame in frames if frame.night})
    return " to ".join(dict.fromkeys((evenings[0], evenings[-1]))) if evenings else ""


def _remarks(night: Night) -> Iterator[str]:
    """Yield the numbers of unused, repeated and unreadable files, and the first of each."""
    for why, n in Counter(why for _, why in night.left_out).items():
        yield f"not used: {counted(n, 'frame')}: {why}"
    yield from _first_of_each(
        "duplicates", [f"{one} is {other}" for one, other in night.duplicates.items()]
    )
    yield from _first_of_each(
        "not used", [f"{path}: {why}; not used" for path, why in night.foreign]
    )
    yield from _first_of_each("problems", [str(problem) for problem in night.problems])
    if not (night.left_out or night.duplicates or night.foreign or night.problems):
        yield "no frames skipped; make_plan shows the use of each frame"


def _first_of_each(what: str, lines: Iterable[str]) -> Iterator[str]:
    told = list(lines)
    if told:
        yield f"{what}: {len(told)}"
    yield from (f"  {line}" for line in told[:_MOST_LINES])
    if len(told) > _MOST_LINES:
        yield f"  ... and {len(told) - _MOST_LINES} more"


# Read a night's pixels from a cache, and write one: `CachePolicy`, `cache_night`.
#
# A compressed night is decompressed once: the run that reduces it first leaves a cache in the cache
# folder, and later runs read from it what they would otherwise decompress again. Files are
# identified by their SHA-256, computed each time: a file changed without a change of its date is
# another file. Every decision about a frame is made again, from the same header and the same bits,
# so results do not depend on where pixels come from.
#
# A night behind a URL is cached before it is reduced (`with_local_pixels`): its frames are copied,
# hashed while copying, and put into a cache. A remote file is identified by what its store reports,
# size and ETag or time; its SHA-256 is saved beside the caches, so that a later run finds the cache
# without fetching a frame. If a store reports neither ETag nor time, its files are fetched again.


def ignore_warning(_warning: str) -> None:
    """Ignore a warning."""


@dataclass(frozen=True)
class CachePolicy:
    """When pixels are read from caches.

    Parameters
    ----------
    cache_folder : the folder of the caches.
    always : for uncompressed nights too, not only for those with compressed frames.
    say : called with each warning about a cache.
    """

    cache_folder: CacheFolder
    always: bool = False
    say: Callable[[str], None] = ignore_warning

    def is_for(self, frames: Iterable[Frame]) -> bool:
        """Return whether frames would be read from a cache if there were one."""
        frames = list(frames)
        from_files = [frame for frame in frames if frame.image.source.cached is None]
        packed = any(not frame.image.is_local for frame in from_files)
        return packed or (self.always and bool(from_files))

    def with_cached_pixels(
        self, frames: Sequence[Frame], folder: Path, file: NightFile, instrument: Instrument
    ) -> list[Frame]:
        """Return frames that read their pixels from their cache, if there is a complete one.

        Parameters
        ----------
        frames : as their headers describe them.
        folder : of the night.
        file, instrument : the settings that the content of a cache depends on.
        """
        if not self.is_for(frames) or self.cache_folder.is_empty():
            return list(frames)
        checksums = self._checksums(frames)
        if checksums is None:
            return list(frames)
        key = _key_of_frames(frames, checksums, folder, _cache_options(file, instrument))
        try:
            contents = self.cache_folder.find(key)
        except FrameError as error:
            self.say(f"{error.path}: {error.args[0]}; built again")
            self.cache_folder.drop(key)
            return list(frames)
        if contents is None:
            return list(frames)
        known = contents.by_sha256
        return [
            *_with_cached_frames(
                {p: known[sha].source.cached for p, sha in checksums.items()}, frames
            )
        ]

    def _checksums(self, frames: Sequence[Frame]) -> dict[Path, str] | None:
        """Return the SHA-256 of frames' files; None if one is damaged, or remote and unknown."""
        try:
            if not any(frame.image.is_remote for frame in frames):
                return required_checksums(examine(frames), frames)
            hashes = self.hashes
            known = [(frame.path, hashes.known(frame.path)) for frame in frames]
            sums = {path: sha256 for path, sha256 in known if sha256}
            return sums if len(sums) == len(known) else None
        except ArrayredError:  # of a damaged frame, which is reported where it is needed
            return None

    @property
    def hashes(self) -> Hashes:
        """Return the saved checksums of files behind URLs."""
        return Hashes(self.cache_folder.folder)


def with_local_pixels(night: Night, caching: CachePolicy) -> Night:
    """Return a night whose pixels are read from this machine, from a cache made now if need be.

    Parameters
    ----------
    night : returned unchanged if it is not behind a URL, or cannot be cached: then its frames are
        copied when they are read, and a warning says why.
    caching : the cache folder, and where warnings go.
    """
    sources = [frame.image.source for frame in night.scanned]
    caches = (s.cached.array for s in sources if s.cached is not None)
    far = next((array.cache for array in caches if isinstance(array.cache, Address)), None)
    is_far = any(
        frame.image.is_remote and frame.image.source.cached is None for frame in night.scanned
    )
    if far is None and not is_far:
        return night
    try:
        if far is not None:
            images = open_cache(fetch_cache(far, caching.cache_folder)).images
        else:
            images = open_cache(cache_night(night, caching.cache_folder)).images
            release_copies([frame.image for frame in night.scanned])
    except ArrayredError as error:
        caching.say(f"no cache was made: {error}")
        return night
    names = _names_in_cache(night.scanned, night.folder)
    shelves = {path: images[name].source.cached for path, name in names.items() if name in images}
    frames, scanned = (
        _with_cached_frames(shelves, frames) for frames in (night.frames, night.scanned)
    )
    told = DISPERSION_AXES.get(night.file.dispersion_axis)
    frames, scanned = (
        tuple(find_dispersion_axis(some, night.instrument, told)) for some in (frames, scanned)
    )
    return replace(night, frames=frames, scanned=scanned)


def _with_cached_frames(
    shelves: Mapping[Path, CachedPixels | None], frames: Iterable[Frame]
) -> tuple[Frame, ...]:
    """Return frames that read their pixels from a cache, if `shelves` has a reader for them."""
    return tuple(
        replace(f, image=replace(f.image, source=replace(f.image.source, cached=shelf)))
        if (shelf := shelves.get(f.path)) is not None
        else f
        for f in frames
    )


def cache_night(night: Night, place: str | Path | CacheFolder, *, overwrite: bool = False) -> Path:
    """Write the cache of a night, and return its path.

    Parameters
    ----------
    night : all of its frames are cached, unused ones included.
    place : the folder or the URL of the cache, or the cache folder to add it to.
    overwrite : replace an existing folder.

    Raises
    ------
    NightError
        A file should be a frame but cannot be read.
    FrameError
        A frame is damaged, or cannot be stored without loss.
    UsageError
        The folder exists already, or is inside the night.
    StorageError
        The disk is full or not writable.
    """
    from tempfile import TemporaryDirectory

    from arrayred.io.caching import build_cache

    if night.problems:
        raise NightError(night.problems)
    if isinstance(place, CacheFolder):
        is_far = any(frame.image.is_remote for frame in night.scanned)
        hashes = Hashes(place.folder) if is_far else None
        added = place.add(_cache_input(night, hashes))
        if hashes is not None:
            hashes.save()
        return added
    content = _cache_input(night)
    place = path_or_address(place)
    if isinstance(place, Address):
        with TemporaryDirectory(prefix="arrayred-") as folder:
            build_cache(content, Path(folder) / "night.zarr")
            upload_cache(Path(folder) / "night.zarr", place, overwrite=overwrite)
        return place
    if night.folder.resolve() in (place.resolve(), *place.resolve().parents):
        raise UsageError(
            "The cache is inside the night folder", path=place, hint="Choose another folder."
        )
    build_cache(content, place, overwrite=overwrite)
    return place


def _cache_input(night: Night, hashes: Hashes | None = None) -> Content:
    from arrayred.io.caching import CacheInput as Content

    checksums = required_checksums(examine(night.scanned, hashes), night.scanned)
    key = _key_of_frames(
        night.scanned, checksums, night.folder, _cache_options(night.file, night.instrument)
    )
    foreign = [(Path(path), why) for path, why in night.foreign if is_fits_name(path)]
    return Content(
        _frames_by_node(night),
        _names_in_cache(night.scanned, night.folder),
        checksums,
        tuple(
            (_relative(path, night.folder), why)
            for path, why in foreign
            if path.is_relative_to(night.folder)
        ),
        key,
    )


def _frames_by_node(night: Night) -> dict[str, Sequence[Frame]]:
    """Return all frames by their node in the cache's tree, those of no group last.

    They are as in their files: whether to turn one is decided anew whenever they are read.
    """
    nodes: dict[str, Sequence[Frame]] = {
        f"{'masters' if group.is_master else 'raw'}/{name}": group.frames
        for name, group in night.groups.items()
    }
    grouped = {frame.label for frames in nodes.values() for frame in frames}
    others: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    for frame in night.scanned:
        if frame.label not in grouped:
            others[state_of(frame), frame.image.source.pixels].append(frame)
    left_out = {f"left_out/{i}": frames for i, frames in enumerate(others.values(), 1)}
    return {
        node: [replace(frame, image=as_in_file(frame.image)) for frame in frames]
        for node, frames in (nodes | left_out).items()
    }


def _cache_options(file: NightFile, instrument: Instrument) -> str:
    """Return the settings that the content of a cache depends on, as text."""
    image = (file.extension,) if file.extension else ()
    return repr((file.unsigned, *image, file.types, file.exptime, file.targets, instrument))


def _key_of_frames(
    frames: Sequence[Frame], checksums: dict[Path, str], folder: Path, options: str
) -> str:
    names = _names_in_cache(frames, folder)
    return cache_key([(names[frame.path], checksums[frame.path]) for frame in frames], options)


def _names_in_cache(frames: Iterable[Frame], folder: Path) -> dict[Path, str]:
    """Return the names of frames' files in a cache: as in the folder, or numbered if outside."""
    paths = [frame.path for frame in frames]
    outside = [path for path in paths if not path.is_relative_to(folder)]
    names = {path: _relative(path, folder) for path in paths if path.is_relative_to(folder)}
    return names | {path: f"elsewhere/{i}/{path.name}" for i, path in enumerate(outside)}


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path, folder)).as_posix()
