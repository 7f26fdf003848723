"""Read text files of the user, and check TOML settings.

An unknown key is an error that names the nearest valid one.
"""

from __future__ import annotations

import codecs
import errno
import json
import os
import stat
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from arrayred.errors import UsageError


@contextmanager
def errors_name(path: Path | None) -> Iterator[None]:
    """Add the file of the settings, if any, to errors about them."""
    try:
        yield
    except UsageError as error:
        error.path = error.path if path is None else error.path or str(path)
        raise


_MOST_BYTES = 64 << 20
"""A list of 200,000 paths of 100 characters has 20 MB."""
READ_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""To open a file that is there: without waiting for the writer of a pipe."""


def open_plain_file(path: Path) -> BufferedReader:
    """Open a regular file: a pipe could keep one waiting for ever, and a device has no end.

    Raises
    ------
    OSError
        It cannot be opened or, with EINVAL, is no regular file.
    """
    handle = os.open(path, READ_FLAGS)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return open(handle, "rb")


def read_text_file(path: Path, what: str, *, errors: str = "strict") -> str:
    """Return the text of a file that a user wrote, in UTF-8.

    Parameters
    ----------
    path : a regular file.
    what : is to be read, for messages: "The list of files".
    errors : how bytes that are no UTF-8 are decoded.

    Raises
    ------
    UsageError
        It cannot be read, is no regular file, is larger than 64 MiB, or is no text in UTF-8.
    """

    def refused(why: str, hint: str) -> UsageError:
        return UsageError(f"{what} cannot be read ({why})", path=path, hint=hint)

    try:
        with open_plain_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            raw = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise refused(error.strerror or str(error), "Name a text file.") from error
    if len(raw) > _MOST_BYTES:
        raise refused(f"{size} bytes", "Name a text file of at most 64 MiB.")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise refused("it is UTF-16", "Save it as UTF-8.")
    if b"\0" in raw:
        raise refused("it has NUL bytes and is not text", "Name a text file, saved as UTF-8.")
    try:
        return raw.decode("utf-8-sig", errors)
    except UnicodeDecodeError as error:
        raise refused(f"byte {error.start} is not UTF-8", "Save it as UTF-8.") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file; raise UsageError if it cannot be read."""
    with errors_name(path):
        return toml_tables(read_text_file(path, "The settings"))


def toml_tables(text: str) -> dict[str, Any]:
    """Return the tables of a text; raise UsageError if it is not TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"This is not TOML: {error}", hint="Correct it.") from error


def require_known(name: str, known: set[str], what: str) -> None:
    """Raise UsageError, with the nearest known name, unless a name is known."""
    if name not in known:
        import difflib  # wanted for a mistake only

        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"Valid are {', '.join(sorted(known))}."
        raise UsageError(f"{name!r} is not a known {what}", keyword=name, hint=hint)


def require_table(name: str, table: object, *, of_lists: bool) -> None:
    """Raise UsageError unless a value is a table of lists of strings, or of strings and numbers."""
    if not isinstance(table, dict):
        raise UsageError(f"{name} must be a table, not {table!r}", keyword=name, value=table)
    for key, value in table.items():
        if of_lists:
            require_texts(key, value)
        elif not isinstance(value, str | int | float):
            raise UsageError(f"{key} must be a string or a number, not {value!r}", keyword=key)


def require_texts(name: str, value: object) -> None:
    """Raise UsageError unless a value is a list of strings."""
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise UsageError(f"{name} must be a list of strings, not {value!r}", keyword=name)


def toml_lines(entries: Iterable[tuple[str, object]]) -> list[str]:
    """Return keys and values as lines of TOML."""
    return [f"{key} = {toml_text(value)}" for key, value in entries]


def toml_text(value: object) -> str:
    r"""Return a value as TOML.

    Examples
    --------
    >>> toml_text(["a\"b", "é"]), toml_text((484, 518)), toml_text(True), toml_text(4.0)
    ('["a\\"b", "é"]', '[484, 518]', 'true', '4.0')
    """
    if isinstance(value, str):
        readable = value.encode("utf-8", "replace").decode().replace("\x7f", "?")
        return json.dumps(readable, ensure_ascii=False)
    if isinstance(value, Sequence):
        return f"[{', '.join(map(toml_text, value))}]"
    return json.dumps(value)
