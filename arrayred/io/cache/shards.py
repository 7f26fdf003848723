"""What stands in a shard beside its chunks: the table at its end, and sums: `table_in`.

Each chunk ends with the CRC-32C of what stands before it; so does the table, which tells offset and
size of every chunk. Both are compared before anything is believed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import FrameError

CRC_BYTES = 4
LEAST_BYTES = 16 + CRC_BYTES
"""Of a chunk: what tells its sizes, and its sum."""
_ENTRY_BYTES = 16


def table_bytes(n_chunks: int) -> int:
    """Return how long the table of a shard is.

    Examples
    --------
    >>> table_bytes(100)
    1604
    """
    return n_chunks * _ENTRY_BYTES + CRC_BYTES


def table_in(raw: bytes, path: Path, n_chunks: int) -> NDArray[np.uint64]:
    """Return offset and size of each chunk (chunk, 2) as the last bytes of a shard tell them.

    Raises
    ------
    FrameError
        They are not as they were written.
    """
    if len(raw) != table_bytes(n_chunks) or not is_whole(raw):
        raise damaged(path, "the checksum of its table is wrong")
    table: NDArray[np.uint64] = np.frombuffer(raw, "<u8", 2 * n_chunks).reshape(-1, 2)
    return table


def is_whole(raw: bytes) -> bool:
    """Tell whether bytes end with the CRC-32C of what stands before it."""
    from google_crc32c import value as crc32c

    return bool(crc32c(raw[:-CRC_BYTES]) == int.from_bytes(raw[-CRC_BYTES:], "little"))


def damaged(path: Path, what: str) -> FrameError:
    """Return the error of a part of a cache that is not what was written."""
    return FrameError(
        f"The cache is damaged: {what}",
        path=path,
        hint="Build it again with `arrayred cache NIGHT`, or reduce the night without it.",
    )
