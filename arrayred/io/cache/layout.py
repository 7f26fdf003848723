"""How a cube is cut into shards and chunks, and the metadata that say so: `Grid`.

A shard is all frames x as many rows as stay under 128 MB, so that a band is one file; in it lie
chunks of one frame x 64 rows, so that a single frame costs no more than itself; of many frames they
are lower, down to 16 rows, so that a shard has four rows of chunks at least, and a row of pixels
through all frames costs a part of one shard, not all of it. Each chunk is
shuffled by bytes, compressed (zstd, level 1: 0.33 of the size on frames of pure noise), and guarded
by a CRC-32C, since 52 of 60 flipped bits came back as wrong pixels without one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from arrayred.errors import UsageError

SHARD_BYTES = 128 << 20
CHUNK_ROWS = 64
_FEWEST_ROWS = 8
_LOW_ROWS = 16
_ROWS_OF_CHUNKS = 4
_MOST_PIXELS = 2**40
DTYPES = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
DTYPES += ("float32", "float64")
"""The types that pixels may have."""
_LITTLE: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC: dict[str, Any] = {"name": "crc32c"}


@dataclass(frozen=True, slots=True)
class Grid:
    """An array (frame, y, x) cut into shards (frame, row) of chunks of one frame.

    Parameters
    ----------
    shape : (n_frames, n_rows, n_columns).
    dtype : the name of one of `DTYPES`.
    frames : of a shard.
    rows : of a shard.
    chunk_rows : of a chunk; a shard has a whole number of chunks.
    """

    shape: tuple[int, int, int]
    dtype: str
    frames: int
    rows: int
    chunk_rows: int

    @classmethod
    def of(cls, shape: tuple[int, int, int], dtype: str) -> Self:
        """Return the grid of a cube.

        Examples
        --------
        >>> Grid.of((100, 1024, 1024), "uint16")
        Grid(shape=(100, 1024, 1024), dtype='uint16', frames=100, rows=640, chunk_rows=64)
        """
        n_frames, n_rows, n_columns = shape
        row = n_columns * np.dtype(dtype).itemsize
        chunk_rows = CHUNK_ROWS
        while chunk_rows > _FEWEST_ROWS and _is_tall(n_frames * chunk_rows * row, chunk_rows):
            chunk_rows //= 2
        frames = min(n_frames, max(SHARD_BYTES // (chunk_rows * row), 1))
        most = SHARD_BYTES // (frames * chunk_rows * row)
        rows = max(min(most, -(-n_rows // chunk_rows)), 1) * chunk_rows
        return cls(shape, dtype, frames, rows, chunk_rows)

    @property
    def chunk_pixels(self) -> int:
        """Return the pixels of one chunk."""
        return self.chunk_rows * self.shape[2]

    @property
    def chunk_bytes(self) -> int:
        """Return the bytes of one chunk, plain."""
        return self.chunk_pixels * np.dtype(self.dtype).itemsize

    @property
    def chunks_per_shard(self) -> tuple[int, int]:
        """Return how many chunks a shard has along frames and rows."""
        return self.frames, self.rows // self.chunk_rows

    @property
    def n_shards(self) -> tuple[int, int]:
        """Return how many shards there are along frames and rows."""
        return -(-self.shape[0] // self.frames), -(-self.shape[1] // self.rows)

    def shard_names(self) -> Iterator[str]:
        """Yield the names of the shards' files, relative to the array."""
        frames, rows = self.n_shards
        yield from (f"c/{i}/{j}/0" for i in range(frames) for j in range(rows))

    def metadata(self) -> dict[str, Any]:
        """Return the part of the array's zarr.json that says how pixels lie."""
        size = np.dtype(self.dtype).itemsize
        blosc = {
            "typesize": size, "cname": "zstd", "clevel": 1, "shuffle": "shuffle", "blocksize": 0,
        }  # fmt: skip
        inner = [
            _LITTLE if size > 1 else {"name": "bytes"},
            {"name": "blosc", "configuration": blosc},
            _CRC,
        ]
        sharding = {
            "chunk_shape": [1, self.chunk_rows, self.shape[2]],
            "codecs": inner,
            "index_codecs": [_LITTLE, _CRC],
            "index_location": "end",
        }
        chunk_shape = [self.frames, self.rows, self.shape[2]]
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk_shape}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "storage_transformers": [],
        }

    @classmethod
    def from_metadata(cls, found: Any) -> Self:
        """Return the grid of an array's zarr.json.

        Raises
        ------
        UsageError
            It is not of the one kind that arrayred writes, or its size makes no sense.
        """
        try:
            shape = found["shape"]
            frames, rows, _ = found["chunk_grid"]["configuration"]["chunk_shape"]
            chunk = found["codecs"][0]["configuration"]["chunk_shape"]
            _require_counts([*shape, frames, rows, *chunk])
            grid = cls((shape[0], shape[1], shape[2]), found["data_type"], frames, rows, chunk[1])
            is_ours = grid.dtype in DTYPES and rows % chunk[1] == 0 and len(shape) == 3
            parts = {key: found.get(key) for key in grid.metadata()} if is_ours else None
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"The pixels are described by no words of ours ({error!r})") from error
        if not is_ours or parts != grid.metadata():
            raise UsageError("The pixels are not stored as arrayred stores them")
        plain = max(SHARD_BYTES, _FEWEST_ROWS * shape[2] * 8)
        if math.prod(shape) > _MOST_PIXELS or grid.chunk_bytes > plain:
            raise UsageError(f"The shape {tuple(shape)} is no night's")
        return grid


def _is_tall(n_bytes: int, chunk_rows: int) -> bool:
    """Tell whether chunks of so many bytes over all frames are too tall for their shard."""
    return n_bytes > SHARD_BYTES or (
        chunk_rows > _LOW_ROWS and n_bytes * _ROWS_OF_CHUNKS > SHARD_BYTES
    )


def _require_counts(numbers: list[Any]) -> None:
    """Raise ValueError unless all are whole numbers from 1 on."""
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 2**31:
            raise ValueError(number)
