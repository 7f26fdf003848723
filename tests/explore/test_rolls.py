"""A look reads the bytes it needs and no others."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import arrayred as ar
from arrayred.explore import GroupReader
from arrayred.io import pixels as reading
from arrayred.io import zarr_store
from arrayred.night import open_night

N_BYTES = 160 * 120 * 2


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Return the sizes of what is read of pixels, as it is."""
    sizes: list[int] = []
    real: Callable[[int, memoryview, int], int] = reading._read_at

    def counted(handle: int, view: memoryview, offset: int) -> int:
        sizes.append(real(handle, view, offset))
        return sizes[-1]

    monkeypatch.setattr(reading, "_read_at", counted)
    return sizes


def lights_of(night: Path) -> GroupReader:
    opened = open_night(night)
    return GroupReader(opened.groups["light/Simulated_star"])


def test_a_frame_is_read_once_and_no_other(night: Path, read: list[int]) -> None:
    roll = lights_of(night)
    read.clear()
    pixels = roll.frame(1)
    assert sum(read) == N_BYTES
    np.testing.assert_array_equal(pixels, ar.open_frames(night / "light-002.fit").counts[0])


def test_one_pixel_through_the_frames_reads_that_pixel_alone(night: Path, read: list[int]) -> None:
    roll = lights_of(night)
    read.clear()
    values = roll.through(85, 33)
    assert read == [2, 2, 2]
    cube = ar.open_frames(night).counts.sel(y=85, x=33)
    np.testing.assert_array_equal(values, cube[cube.frame_type == "light"])


def test_compressed_frames_show_the_same(night: Path) -> None:
    plain = lights_of(night).through(85, 33)
    for path in night.glob("light-*.fit"):
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    roll = lights_of(night)
    np.testing.assert_array_equal(roll.through(85, 33), plain)
    assert roll.frame(0)[84, 32] == plain[0]


def test_a_cache_shows_the_same_and_inflates_three_frames_at_most(
    night: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arrayred.night import cache_night

    store = tmp_path / "night.zarr"
    cache_night(open_night(night), store)
    files, cache = lights_of(night), lights_of(store)
    inflated: list[int] = []
    real = zarr_store._require_chunk_size

    def counted(path: Path, chunk: memoryview, n_bytes: int) -> None:
        inflated.append(n_bytes)
        real(path, chunk, n_bytes)

    monkeypatch.setattr(zarr_store, "_require_chunk_size", counted)
    np.testing.assert_array_equal(cache.frame(2), files.frame(2))
    assert sum(inflated) <= 3 * N_BYTES  # of whole chunks of three frames
    np.testing.assert_array_equal(cache.through(85, 33), files.through(85, 33))
