"""Read and check TOML settings; an unknown key is an error that names the nearest valid one."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
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


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file; raise UsageError if it cannot be read."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(
            f"The settings cannot be read ({error.strerror})", path=path, hint="Name a TOML file."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"This is not TOML: {error}", path=path, hint="Mend it.") from error


def require_known(name: str, known: set[str], what: str) -> None:
    """Raise UsageError, with the nearest known name, unless a name is known."""
    if name not in known:
        import difflib  # wanted for a mistake only

        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"Valid are {', '.join(sorted(known))}."
        raise UsageError(f"{name!r} is no {what}", keyword=name, hint=hint)


def require_table(name: str, table: object, *, of_lists: bool) -> None:
    """Raise UsageError unless a value is a table of lists of strings, or of strings and numbers."""
    if not isinstance(table, dict):
        raise UsageError(f"{name} must be a table, not {table!r}", keyword=name, value=table)
    for key, value in table.items():
        if of_lists:
            require_texts(key, value)
        elif not isinstance(value, str | int | float):
            raise UsageError(f"{key} must be text or a number, not {value!r}", keyword=key)


def require_texts(name: str, value: object) -> None:
    """Raise UsageError unless a value is a list of strings."""
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise UsageError(f"{name} must be a list of texts, not {value!r}", keyword=name)


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
