"""Shards stay below their size, and hold all of a cube; a chunk holds three frames at most."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arrayred.io import DTYPES, SHARD_BYTES, chunks_of

SHAPES = st.tuples(st.integers(1, 5000), st.integers(1, 9000), st.integers(1, 9000))


@given(SHAPES, st.sampled_from(DTYPES))
def test_shards_are_whole_chunks_and_stay_below_64_mb(
    shape: tuple[int, int, int], dtype: str
) -> None:
    chunk, shard = chunks_of(shape, dtype)
    assert all(outer % inner == 0 for outer, inner in zip(shard, chunk, strict=True))
    assert chunk[0] <= 3
    assert chunk[2] == shard[2] == shape[2]
    assert np.prod(shard) * np.dtype(dtype).itemsize <= SHARD_BYTES
    for along in (0, 1):  # no shard lies wholly outside the cube
        assert shard[along] - chunk[along] < shape[along]


def test_a_shard_is_all_frames_wherever_they_fit() -> None:
    assert chunks_of((900, 2048, 4096), "uint16") == ((3, 8, 4096), (900, 8, 4096))
    assert chunks_of((9000, 64, 9000), "float64")[1][0] < 9000
