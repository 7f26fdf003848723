"""Both visitors of a stack give what the kernel gives on the whole, however the bands are cut."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import arrayred as ar
from arrayred.bands import (
    band_edges,
    band_rows,
    bytes_per_pixel,
    map_frames,
    rows_within,
    run_in_threads,
    visit,
    visit_into,
)
from arrayred.errors import MismatchError
from arrayred.io import write_frames
from arrayred.kernels import difference, mean, median
from arrayred.simulate import Detector, SimulatedNight

Array = NDArray[Any]
N_ROWS = 11


class MemoryStack:
    """Frames in memory that note which rows were read."""

    def __init__(self, pixels: Array) -> None:
        self.pixels, self.shape, self.dtype = pixels, pixels.shape, pixels.dtype
        self.rows_read: list[int] = []

    def read(self, first: int, stop: int, out: Array) -> None:
        self.rows_read += range(first, stop)
        out[...] = self.pixels[:, first:stop]


@pytest.fixture
def pixels() -> Array:
    return np.random.default_rng(0).integers(0, 65535, (5, N_ROWS, 6), np.uint16)


@pytest.fixture
def dark() -> Array:
    return np.random.default_rng(1).normal(1000, 30, (N_ROWS, 6))


@settings(deadline=None)
@given(
    n_frames=st.integers(1, 500),
    n_rows=st.integers(1, 5000),
    n_columns=st.integers(1, 9000),
    dtype=st.sampled_from(["u1", "u2", "f8"]),
    memory=st.integers(1, 10**8),
)
def test_a_band_is_as_high_as_memory_allows(
    n_frames: int, n_rows: int, n_columns: int, dtype: str, memory: int
) -> None:
    rows = band_rows((n_frames, n_rows, n_columns), np.dtype(dtype), memory)
    row = n_frames * n_columns * np.dtype(dtype).itemsize
    assert 1 <= rows <= n_rows
    assert rows == 1 or rows * row <= memory
    assert rows == n_rows or (rows + 1) * row > memory


@given(n_rows=st.integers(0, 300), rows=st.integers(1, 400))
def test_bands_cover_each_row_once_in_order(n_rows: int, rows: int) -> None:
    bands = list(band_edges(n_rows, rows))
    assert [y for first, stop in bands for y in range(first, stop)] == list(range(n_rows))
    assert all(stop - first == rows for first, stop in bands[:-1])


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [None, *range(1, N_ROWS + 3)])
@pytest.mark.parametrize("kernel", [mean, median])
def test_visit_equals_the_kernel_on_the_whole(
    kernel: Callable[..., Array], rows: int | None, threads: int, pixels: Array, dark: Array
) -> None:
    stack = MemoryStack(pixels)
    result = visit(stack, kernel, dark, rows=rows, threads=threads)
    assert result.dtype == np.float64
    assert np.array_equal(result, kernel(pixels, dark))
    assert sorted(stack.rows_read) == list(range(N_ROWS))


def test_visit_needs_no_further_image(pixels: Array) -> None:
    assert np.array_equal(visit(MemoryStack(pixels), mean, rows=4), mean(pixels))


def test_visit_reuses_the_memory_of_one_band(pixels: Array) -> None:
    buffers = set()

    def watching(band: Array) -> Array:
        buffers.add(band.__array_interface__["data"][0])
        assert band.shape[1] <= 2
        return mean(band)

    visit(MemoryStack(pixels), watching, rows=2, threads=1)
    assert len(buffers) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_kernel_propagates(threads: int, pixels: Array) -> None:
    def fails_late(band: Array) -> Array:
        if band[0, 0, 0] == pixels[0, 8, 0]:
            raise ZeroDivisionError("row 8")
        return mean(band)

    with pytest.raises(ZeroDivisionError, match="row 8"):
        visit(MemoryStack(pixels), fails_late, rows=1, threads=threads)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_while_reading_propagates(threads: int, pixels: Array) -> None:
    class TornStack(MemoryStack):
        def read(self, first: int, stop: int, out: Array) -> None:
            raise OSError("torn")

    with pytest.raises(OSError, match="torn"):
        visit(TornStack(pixels), mean, rows=3, threads=threads)


@settings(deadline=None)
@given(
    n_frames=st.integers(1, 500),
    n_columns=st.integers(1, 9000),
    dtype=st.sampled_from(["u1", "u2", "f4", "f8"]),
    memory=st.integers(1, 10**9),
    threads=st.integers(1, 8),
    widened=st.booleans(),
)
def test_all_threads_together_stay_within_memory(
    n_frames: int, n_columns: int, dtype: str, memory: int, threads: int, widened: bool
) -> None:
    shape, kind = (n_frames, 3000, n_columns), np.dtype(dtype)
    rows = rows_within(shape, kind, memory, threads=threads, widened=widened)
    each = n_columns * bytes_per_pixel(n_frames, kind, widened=widened)
    assert 0 <= rows <= 3000
    assert rows * each * threads <= memory


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_target_gets_each_row_once(threads: int, pixels: Array, dark: Array) -> None:
    got: dict[int, Array] = {}

    class Target:
        def __setitem__(self, rows: slice, values: Array) -> None:
            got.update(zip(range(rows.start, rows.stop), values, strict=True))

    visit_into(Target(), MemoryStack(pixels), median, dark, rows=2, threads=threads)
    assert sorted(got) == list(range(N_ROWS))
    assert np.array_equal([got[y] for y in range(N_ROWS)], median(pixels, dark))


def test_others_are_told_when_a_band_fails(pixels: Array) -> None:
    told, read = [], MemoryStack(pixels)

    def fails(band: Array) -> Array:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        visit_into(np.empty((N_ROWS, 6)), read, fails, rows=1, give_up=lambda: told.append(1))
    assert told == [1]
    assert read.rows_read == [0]


def test_an_interrupt_waits_for_the_other_threads() -> None:
    main, ended = threading.current_thread(), []

    def work() -> None:
        if threading.current_thread() is main:
            raise KeyboardInterrupt
        time.sleep(0.1)
        ended.append(1)

    with pytest.raises(KeyboardInterrupt):
        run_in_threads(work, 3, lambda: None)
    assert ended == [1, 1]


@st.composite
def chunkings(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return random chunk sizes along every axis."""
    chunks = []
    for length in shape:
        cuts = sorted(draw(st.sets(st.integers(1, length - 1), max_size=4)))
        chunks.append(tuple(int(step) for step in np.diff([0, *cuts, length])))
    return tuple(chunks)


@pytest.mark.parametrize("kernel", [mean, median, difference])
@settings(deadline=None, max_examples=30)
@given(
    chunks=chunkings((5, N_ROWS, 6)),
    dark_chunks=st.none() | chunkings((N_ROWS, 6)),
    dtype=st.sampled_from(["u2", ">i4", "f8"]),
)
def test_over_frames_equals_the_kernel_for_any_chunks(
    kernel: Callable[..., Array],
    chunks: tuple[tuple[int, ...], ...],
    dark_chunks: tuple[tuple[int, ...], ...] | None,
    dtype: str,
) -> None:
    frames = np.random.default_rng(0).integers(0, 65535, (5, N_ROWS, 6)).astype(dtype)
    dark = np.random.default_rng(1).normal(1000, 30, (N_ROWS, 6))
    image = dark if dark_chunks is None else da.from_array(dark, chunks=dark_chunks)
    lazy = map_frames(
        da.from_array(frames, chunks=chunks), kernel, image, keeps_frames=kernel is difference
    )
    result = lazy.compute(scheduler="sync")
    assert isinstance(lazy, da.Array)
    assert (lazy.shape, lazy.dtype) == (result.shape, result.dtype)
    assert np.array_equal(result, kernel(frames, dark))


def test_over_frames_is_a_plain_call_on_arrays_in_memory(pixels: Array, dark: Array) -> None:
    result = map_frames(pixels, mean, dark)
    assert isinstance(result, np.ndarray)
    assert np.array_equal(result, mean(pixels, dark))


def test_over_frames_calls_no_kernel_before_it_is_computed(pixels: Array) -> None:
    def never(band: Array) -> Array:
        raise AssertionError("called while the graph was built")

    lazy = map_frames(da.from_array(pixels, chunks=(1, 4, 3)), never)
    assert lazy.chunks == ((4, 4, 3), (6,))


@pytest.mark.parametrize("shape", [(N_ROWS - 1, 6), (N_ROWS, 5), (N_ROWS + 1, 6), (1, 6), (6,)])
@pytest.mark.parametrize("lazy", [True, False])
def test_an_image_of_another_shape_is_refused(
    shape: tuple[int, ...], lazy: bool, pixels: Array
) -> None:
    frames = da.from_array(pixels, chunks=(5, 4, 6)) if lazy else pixels
    with pytest.raises(MismatchError, match=str(N_ROWS)):
        map_frames(frames, mean, np.zeros(shape))


def tasks_of_combine(folder: Path, n_frames: int, rows: int) -> int:
    """Count the tasks that remain of combining n_frames frames of 64 rows less a dark."""
    night = SimulatedNight(Detector(shape=(64, 20)), n_darks=0, n_lights=n_frames)
    write_frames(night.frames(), folder, overwrite=True)
    cube = ar.open_frames(folder, chunks=rows)
    image = ar.combine(cube, "median", minus=ar.settle(ar.combine(cube)))
    return len(dict(dask.optimize(image)[0].__dask_graph__()))


def test_tasks_follow_the_bands_and_not_the_frames(tmp_path: Path) -> None:
    few = {rows: tasks_of_combine(tmp_path / "2", 2, rows) for rows in (32, 16, 8)}
    many = {rows: tasks_of_combine(tmp_path / "9", 9, rows) for rows in (32, 16, 8)}
    assert few == many
    assert few[8] - few[16] == 2 * (few[16] - few[32])
    assert few[8] <= 5 * (64 // 8)


@pytest.mark.parametrize("index", [{"frame": 1}, {"y": 5}, {"frame": [0, 2]}, {"x": slice(3, 9)}])
def test_a_part_of_a_lazy_cube_is_that_of_the_eager_one(
    index: dict[str, Any], tmp_path: Path
) -> None:
    night = SimulatedNight(Detector(shape=(64, 20)), n_darks=0, n_lights=3)
    write_frames(night.frames(), tmp_path)
    lazy = ar.open_frames(tmp_path, chunks=16).isel(index)
    assert np.array_equal(lazy.counts.compute(), ar.open_frames(tmp_path).isel(index).counts)
