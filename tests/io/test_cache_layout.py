"""Shards stay below their size, and hold all of a cube."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrayred.errors import UsageError
from arrayred.io import DTYPES, SHARD_BYTES, ShardGrid

SHAPES = st.tuples(st.integers(1, 5000), st.integers(1, 9000), st.integers(1, 9000))


@given(SHAPES, st.sampled_from(DTYPES))
def test_shards_cover_a_cube_and_stay_below_128_mb(shape: tuple[int, int, int], dtype: str) -> None:
    grid = ShardGrid.of(shape, dtype)
    frames, rows = grid.n_shards
    assert (frames - 1) * grid.frames < shape[0] <= frames * grid.frames
    assert (rows - 1) * grid.rows < shape[1] <= rows * grid.rows
    assert grid.rows % grid.chunk_rows == 0
    assert grid.frames * grid.rows * shape[2] * np.dtype(dtype).itemsize <= SHARD_BYTES


def test_a_shard_is_all_frames_wherever_they_fit() -> None:
    assert ShardGrid.of((1000, 2048, 4096), "uint16").frames == 1000
    assert ShardGrid.of((9000, 64, 9000), "float64").frames < 9000


@pytest.mark.parametrize("n_frames", [8, 100, 200, 400])
def test_a_row_through_all_frames_is_a_part_of_its_shard(n_frames: int) -> None:
    grid = ShardGrid.of((n_frames, 2048, 2048), "uint16")
    assert grid.frames == n_frames
    assert grid.chunks_per_shard[1] >= 4


@given(SHAPES, st.sampled_from(DTYPES))
def test_metadata_tell_the_grid(shape: tuple[int, int, int], dtype: str) -> None:
    grid = ShardGrid.of(shape, dtype)
    assert ShardGrid.from_metadata(grid.metadata()) == grid
    assert len(list(grid.shard_names())) == math.prod(grid.n_shards)


@pytest.mark.parametrize("told", [None, [], {}, {"shape": [1, 2]}, 5, "x"])
def test_what_is_no_metadata_is_refused(told: object) -> None:
    with pytest.raises(UsageError):
        ShardGrid.from_metadata(told)
