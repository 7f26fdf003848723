"""A store of objects in memory that counts what travels, and fails when it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fsspec
import pytest

from arrayred.io import remote

BUCKET = "memory://bucket"


@dataclass
class Store:
    """The bucket: ``asked`` are the reads of it (path, first, bytes that came)."""

    system: Any
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    fail: Callable[[str], None] = lambda path: None

    def put(self, folder: Path, name: str) -> str:
        """Copy a folder into the bucket, and return its URL."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.write(f"{name}/{path.relative_to(folder).as_posix()}", path.read_bytes())
        return f"{BUCKET}/{name}"

    def write(self, name: str, content: bytes) -> None:
        self.system.pipe_file(f"/bucket/{name}", content)

    def content(self, name: str) -> bytes:
        return bytes(self.system.store[f"/bucket/{name}"].getvalue())

    def names(self) -> list[str]:
        return sorted(name.removeprefix("/bucket/") for name in self.system.store)

    @property
    def n_bytes(self) -> int:
        """Return how many bytes travelled."""
        return sum(n for _, _, n in self.asked)


@contextmanager
def store_in_memory() -> Iterator[Store]:
    """Give an empty bucket that is watched."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    store, real = Store(system), type(system).cat_file

    def cat_file(
        self: Any, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        store.fail(path)
        raw = real(self, path, start=start, end=end)
        store.asked.append((self._strip_protocol(path), start or 0, len(raw)))
        return bytes(raw)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(system), "cat_file", cat_file)
        patch.setattr(remote, "_secrets", {})
        yield store
    system.store.clear()
    system.pseudo_dirs[:] = [""]
