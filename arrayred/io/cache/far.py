"""Chunks of a cache behind a URL: only those that are wanted travel, all at once: `Far`.

A row through 400 frames lies in 400 chunks of one shard. Asked for one after the other they would
take as many round trips; `Far.fetched` asks for all of them together, once the table of the shard
is known, which is read once. What comes is held against the sums that each chunk carries, and
against the cache's mark: a cache that was replaced meanwhile has another one, and none of its
pixels are mixed with those before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import FrameError
from arrayred.io.cache.check import COMPLETE, Marker
from arrayred.io.cache.shards import LEAST_BYTES, damaged, table_bytes, table_in
from arrayred.io.remote.address import Address, address_of
from arrayred.io.remote.store import Part, read, read_parts
from arrayred.io.sources import Chunks, Wanted

_MOST_TABLES = 256
_tables: dict[tuple[Path, str], NDArray[np.uint64]] = {}
_keeping = Lock()


@dataclass(frozen=True, eq=False)
class Far:
    """How shards of one cache behind a URL are read.

    Parameters
    ----------
    cache : its address.
    mark : the SHA-256 of its COMPLETE.json.
    n_mark : the bytes of that.
    sizes : of its files, by name.
    """

    cache: Address
    mark: str
    n_mark: int
    sizes: Mapping[str, int]

    def fetched(self, wanted: Sequence[Wanted]) -> Chunks:
        """Return chunks as they are stored.

        Raises
        ------
        FrameError
            The cache is damaged, has changed since it was opened, or is not given.
        """
        tables = self._tables({(path, n_chunks) for path, n_chunks, _ in wanted})
        parts = []
        for path, n_chunks, slot in wanted:
            offset, size = map(int, tables[path][slot])
            if not LEAST_BYTES <= size <= self._size(path) - table_bytes(n_chunks) - offset:
                raise damaged(path, "a chunk is missing")
            parts.append(Part(_address(path), offset, offset + size))
        found = read_parts(parts)
        self._require_same()
        return {(path, slot): raw for (path, _, slot), raw in zip(wanted, found, strict=True)}

    def _tables(self, shards: set[tuple[Path, int]]) -> dict[Path, NDArray[np.uint64]]:
        """Return the tables of shards, each with its number of chunks, read once."""
        with _keeping:
            known = {path: _tables.get((path, self.mark)) for path, _ in shards}
        new = [(path, n) for path, n in sorted(shards) if known[path] is None]
        ends = [self._size(path) for path, _ in new]
        parts = [
            Part(_address(path), max(end - table_bytes(n), 0), end)
            for (path, n), end in zip(new, ends, strict=True)
        ]
        read_now = {
            path: table_in(raw, path, n)
            for (path, n), raw in zip(new, read_parts(parts), strict=True)
        }
        with _keeping:
            while len(_tables) > _MOST_TABLES:
                _tables.pop(next(iter(_tables)))
            _tables.update({(path, self.mark): table for path, table in read_now.items()})
        return {path: table for path, table in known.items() if table is not None} | read_now

    def _size(self, path: Path) -> int:
        name = path.relative_to(self.cache).as_posix()
        return self.sizes[name]

    def _require_same(self) -> None:
        raw = read(self.cache / COMPLETE, 0, self.n_mark + 1)
        if hashlib.sha256(raw).hexdigest() != self.mark:
            raise FrameError(
                "The cache has changed since it was opened", path=self.cache, hint="Run again."
            )


def far_of(cache: Address, marker: Marker) -> Far:
    """Return how the shards of a cache behind a URL are read."""
    sizes = {name: size for name, (size, _) in marker.files.items()}
    return Far(cache, marker.sha256, marker.n_bytes, sizes)


def _address(path: Path) -> Address:
    return path if isinstance(path, Address) else address_of(str(path))
