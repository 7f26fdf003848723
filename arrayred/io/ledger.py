"""What was finished in an output folder, and of what: `Ledger`.

Each master and each target has an entry, a small JSON file. It is published with the products it
names and is the last of them to appear: a product without its entry does not count. An entry names
the key of the work (of its inputs' content, its settings, and the version of the algorithm) and
each product's sha256; work is done if its key is the same and its products are intact. So a run
that was killed anywhere goes on where it stopped, and one that was not does nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from arrayred.io.hashes import Hashes
from arrayred.io.lock import STATE
from arrayred.io.publish import Content, remove

ALGORITHM = 1
"""Raised by hand whenever the numbers of any product can change."""
_SCHEMA = 1
DONE = "done"
"""The folder of the entries, in that of the state."""


@dataclass(frozen=True)
class Entry:
    """One finished master or target.

    Parameters
    ----------
    name : where its products lie, as ``masters/dark_600s`` or ``targets/hr8047``.
    key : of what it was made; see `key_of`.
    inputs : sha256 of each input, by path.
    products : sha256 of each product, by path relative to the output folder.
    facts : what is known of it and is to be told again without reading a product.
    """

    name: str
    key: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    products: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


_FIELDS = tuple(field.name for field in dataclasses.fields(Entry))


def products_of(out: Path, files: Mapping[Path, Content]) -> dict[str, str]:
    """Return the sha256 of files to be published, by path relative to the output folder."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(content).hexdigest()
        for path, content in files.items()
    }


def key_of(inputs: Mapping[str, list[str]], settings: Mapping[str, Any]) -> str:
    """Return the key of a piece of work: it changes if anything of this does.

    Parameters
    ----------
    inputs : sha256 of the files in each role.
    settings : whatever the numbers and products depend on; numbers, texts, lists, mappings.
    """
    work = {"algorithm": ALGORITHM, "inputs": inputs, "settings": settings}
    text = json.dumps(work, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


class Ledger:
    """The entries of an output folder.

    Parameters
    ----------
    out : the output folder.
    verify : hash each product before it is taken for intact, whatever its stamp says.
    """

    def __init__(self, out: Path, *, verify: bool = False) -> None:
        self.out = out
        self.hashes = Hashes(out / STATE, trust=not verify)

    def read(self, name: str) -> Entry | None:
        """Return the entry of a name; None where there is none that can be read."""
        return _read(self._path(name))

    def entries(self) -> Iterator[Entry]:
        """Yield every entry, in the order of their names."""
        for path in self.files():
            entry = _read(path)
            if entry is not None:
                yield entry

    def files(self) -> list[Path]:
        """Return the files of all entries, in the order of their names."""
        return sorted((self.out / STATE / DONE).glob("*/*.json"))

    def path_of(self, entry: Entry) -> Path:
        """Return where an entry is kept."""
        return self._path(entry.name)

    def damaged(self, entry: Entry) -> dict[str, str]:
        """Return the products of an entry that are missing or changed, and which they are."""
        found = {}
        for name, sha256 in entry.products.items():
            try:
                if self.hashes.of(self.out / name) != sha256:
                    found[name] = "changed"
            except OSError as error:
                found[name] = "missing" if isinstance(error, FileNotFoundError) else str(error)
        return found

    def file_of(self, entry: Entry) -> dict[Path, Content]:
        """Return an entry as a file, by path: to be published behind the products it names."""
        whole = {"schema": _SCHEMA, **{name: getattr(entry, name) for name in _FIELDS}}
        text = json.dumps(whole, indent=1, sort_keys=True, default=_plain)
        return {self.path_of(entry): (text + "\n").encode("utf-8", "backslashreplace")}

    def forget(self, name: str) -> None:
        """Remove the entry of a name, so that its work is done anew."""
        remove(self._path(name))

    def _path(self, name: str) -> Path:
        return self.out / STATE / DONE / f"{name}.json"


def _read(path: Path) -> Entry | None:
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        whole = json.loads(path.read_bytes())
        if whole["schema"] == _SCHEMA:
            products = {_inside(name): sha256 for name, sha256 in whole["products"].items()}
            return Entry(whole["name"], whole["key"], whole["inputs"], products, whole["facts"])
    return None


def _inside(name: str) -> str:
    """Return a product's name; raise ValueError for one that leads out of its folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(name)
    return name


def _plain(value: Any) -> Any:
    """Return a number of numpy as Python's."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{value!r} cannot be written as JSON")
