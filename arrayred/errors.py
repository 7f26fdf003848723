"""Define the exceptions of arrayred, a tree; each carries path, keyword, value and hint.

::

    ArrayredError
    ├── UsageError            exit 2   the call or command requests something impossible
    │   └── MissingCardsError          required cards of a product are not given
    ├── InputError            exit 4   the frames cannot be used for the reduction
    │   ├── NightError                 all problems of a night at once
    │   ├── FrameError                 a file cannot be read as a frame
    │   │   └── ForeignFileError       it is not a frame, although its name suggests it
    │   ├── HeaderError                a card is missing or invalid
    │   ├── MismatchError              frames or images do not match
    │   ├── NoDarkError                no dark matches a frame
    │   ├── LampError                  a lamp's lines do not make a solution
    │   ├── UnknownGainError           electrons are requested, but the gain is unknown
    │   ├── NoSpectrumError            no row stands out from the background
    │   └── SkyBandError               the sky region is outside the image
    ├── StorageError          exit 5   a product cannot be written
    ├── LockedError           exit 6   another run writes to the same folder
    └── ResourceError         exit 7   memory, processes or a cluster are insufficient

Every error says what was asked, what was found and what to do. ``path``, ``keyword``, ``value`` and
``hint`` are attributes, so that a program can act on them; all of them survive pickling, because
errors are sent between processes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from typing import ClassVar

DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says of a disk that holds no more: no space, quota used up, file too large."""


def printable(text: str) -> str:
    r"""Return text with control, bidirectional and undecodable characters escaped.

    Examples
    --------
    >>> print(printable("a\x1b[31mb"))
    a\x1b[31mb
    """
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode()
        for c in text
    )


def counted(n: int, what: str, many: str = "") -> str:
    """Return a number with its noun, singular or plural.

    Examples
    --------
    >>> counted(1, "pixel"), counted(1493, "pixel"), counted(0, "bias", "biases")
    ('1 pixel', '1493 pixels', '0 biases')
    """
    return f"{n} {what if n == 1 else many or what + 's'}"


def lines_of(problems: Iterable[ArrayredError]) -> list[str]:
    """Return a line for each problem; files with the same problem and remedy share one.

    Examples
    --------
    >>> lines_of([InputError("No data", path=f"raw/{name}.fit") for name in "ab"])
    ['raw/a.fit, b.fit: No data.']
    """
    same: dict[tuple[str, str], list[ArrayredError]] = {}
    for problem in problems:
        same.setdefault((str(problem.args[0]), problem.hint), []).append(problem)
    lines: list[str] = []
    for (message, hint), those in same.items():
        paths = list(dict.fromkeys(p.path for p in those if p.path is not None))
        if len(paths) < 2:
            lines += dict.fromkeys(map(str, those))
            continue
        folder, slash, _ = paths[0].rpartition("/")
        if any(path.rpartition("/")[0] != folder for path in paths):
            folder = slash = ""
        names = ", ".join(path.removeprefix(folder + slash) for path in paths)
        lines.append(str(ArrayredError(message, path=folder + slash + names, hint=hint)))
    return lines


class ArrayredError(Exception):
    """Base class of all errors that arrayred raises on purpose.

    Parameters
    ----------
    message : what was asked and what was found, without the file's name and without a remedy.
    path : the file concerned.
    keyword, value : the FITS card or the setting concerned, as found.
    hint : what to do, one imperative sentence.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        message: str,
        *,
        path: str | os.PathLike[str] | None = None,
        keyword: str | None = None,
        value: object = None,
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.path = None if path is None else os.fspath(path)
        self.keyword = keyword
        self.value = value
        self.hint = hint

    def __str__(self) -> str:
        """Return one line: file, message, hint."""
        where = "" if self.path is None else f"{self.path}: "
        found = self.args[0].rstrip(".")
        return printable(f"{where}{found}. {self.hint}".strip())


class UsageError(ArrayredError):
    """The call or command requests something impossible."""

    exit_code = 2


class MissingCardsError(UsageError):
    """Required cards of a product are given neither by the frames nor by the user."""


class InputError(ArrayredError):
    """The frames cannot be used for the reduction."""

    exit_code = 4


class FrameError(InputError):
    """A file cannot be read as a frame."""


class ForeignFileError(FrameError):
    """A file is not a frame, although its name suggests it."""


class HeaderError(InputError):
    """A card is missing or invalid."""


class MismatchError(InputError):
    """Frames or images do not match."""


class NoDarkError(InputError):
    """No dark matches a frame."""


class UnknownGainError(InputError):
    """Electrons are requested, but the gain is unknown."""

    @classmethod
    def of(cls, path: str | os.PathLike[str] | None = None) -> UnknownGainError:
        """Return the error for a frame, or for pixels that have no file."""
        return cls(
            "--electrons needs the gain, but none is known",
            path=path,
            keyword="EGAIN",
            hint="Add EGAIN (electrons per ADU) to the headers or gain to an instrument file, or "
            "remove --electrons.",
        )


class LampError(InputError):
    """The lines of a lamp do not make a dispersion solution that can be trusted."""


class NoSpectrumError(InputError):
    """No row stands out from the background."""


class SkyBandError(InputError):
    """The sky region is outside the image."""


class NightError(InputError):
    """All problems of a night at once.

    Parameters
    ----------
    problems : the errors, in the order in which they were found.
    """

    def __init__(self, problems: tuple[ArrayredError, ...]) -> None:
        super().__init__("\n".join(lines_of(problems)))
        self.problems = problems

    def __reduce__(self) -> tuple[type[NightError], tuple[tuple[ArrayredError, ...]]]:
        """Rebuild from the problems, since the message is derived from them."""
        return type(self), (self.problems,)

    def __str__(self) -> str:
        """Return one line for each problem (`lines_of`)."""
        return str(self.args[0])


class StorageError(ArrayredError):
    """A product cannot be written."""

    exit_code = 5


class LockedError(ArrayredError):
    """Another run writes to the same folder."""

    exit_code = 6


class ResourceError(ArrayredError):
    """Memory, processes or a cluster are insufficient."""

    exit_code = 7
