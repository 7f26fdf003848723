"""Which frames are meant by files, folders and lists of files: `frames_of`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from arrayred.config.instrument import Instrument
from arrayred.errors import ArrayredError, ForeignFileError, InputError, NightError
from arrayred.io.files import files_at, list_files, paths_in
from arrayred.io.frames import Frame, read_frames
from arrayred.io.remote import Stamp, located


@dataclass(frozen=True)
class Inputs:
    """The frames to be combined, and what was noticed on the way.

    Parameters
    ----------
    frames : in canonical order (time, then name), each file once.
    warnings : what was left out, and why.
    """

    frames: tuple[Frame, ...]
    warnings: tuple[str, ...] = ()


def frames_of(arguments: Sequence[str], instrument: Instrument) -> Inputs:
    """Return the frames that files, folders and ``@lists`` name.

    A file named by itself must be a frame. What merely lies in a folder is left out, with a
    warning, if it is no frame or was made from frames.

    Parameters
    ----------
    arguments : paths of files and folders; ``@path`` is a text file with a path a line.
    instrument : what headers mean.

    Raises
    ------
    InputError
        There is no frame, or one cannot be read.
    UsageError
        A list cannot be read.
    """
    named: dict[Path, bool] = {}
    for path in _expanded(arguments):
        if path.is_dir():
            for file in list_files(path):
                named.setdefault(file, False)
        else:
            named |= dict.fromkeys(files_at(path), True)
    if not named:
        raise InputError(
            f"There is no frame in {' '.join(arguments)}", hint="Name files or their folder."
        )
    frames, failures = read_frames(list(named), instrument)
    foreign = [e for e in failures if isinstance(e, ForeignFileError) and not _was_named(e, named)]
    if grave := [error for error in failures if error not in foreign]:
        raise NightError(tuple(grave)) if len(grave) > 1 else grave[0]
    raw = [f for f in frames if named[f.path] or not f.is_product] or frames
    once = _once(raw)
    if not once:
        raise InputError("No file is a frame", path=foreign[0].path, hint="Name FITS files.")
    warnings = [f"{error.path}: {error.args[0].rstrip('.')}; left out" for error in foreign]
    warnings += [f"{f.path}: made from frames, not raw; left out" for f in frames if f not in raw]
    warnings += [f"{f.path}: named twice, used once" for f in raw if f not in once]
    return Inputs(tuple(once), tuple(warnings))


def _expanded(arguments: Iterable[str]) -> Iterator[Path]:
    """Yield the paths that arguments name, those in lists among them."""
    for argument in arguments:
        if argument.startswith("@"):
            yield from map(located, paths_in(Path(argument[1:])))
        else:
            yield located(argument)


def _was_named(error: ArrayredError, named: dict[Path, bool]) -> bool:
    return error.path is None or named.get(located(error.path), True)


def _once(frames: Sequence[Frame]) -> list[Frame]:
    """Return the frames without further names, links included, of one file."""
    by_file: dict[Stamp, Frame] = {}
    for frame in frames:
        by_file.setdefault(frame.image.source.stamp, frame)
    return list(by_file.values())
