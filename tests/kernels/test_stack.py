"""Median, mean and difference of a block: the bits of the obvious loop over float64 frames.

The oracle converts every frame to float64, subtracts the dark from each, and then takes
`numpy.median` of the stack, or adds frame to frame in order and divides once: no integers, no
strips, no shortcut for darks.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from arrayred.kernels import difference, mean, median

Array = NDArray[Any]
DTYPES = ["u1", "i1", *(f"{order}{kind}" for order in "<>" for kind in
          ("u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"))]  # fmt: skip
N_FRAMES = (1, 2, 3, 4, 5, 8, 11, 25, 40)
SHAPE = (7, 9)
KERNELS = {mean: "mean", median: "median"}


def plain(kernel: Callable[..., Array], block: Array, dark: Array | float = 0.0) -> Array:
    """Return what the module's docstring calls the obvious loop."""
    frames = [frame.astype(np.float64) - dark for frame in block]
    if kernel is median:
        return np.asarray(np.median(np.stack(frames), axis=0))
    total = frames[0]
    for frame in frames[1:]:
        total = total + frame
    return total / len(frames)


def plain_mean_of_present(block: Array) -> Array:
    """Return the mean over frames, NaN left out, frames added one by one."""
    present = ~np.isnan(block)
    total = np.zeros(block.shape[1:])
    for frame, there in zip(block, present, strict=True):
        total = total + np.where(there, frame, 0.0)
    return total / present.sum(axis=0)


def random_block(dtype: str, n: int, seed: int = 0, shape: tuple[int, int] = SHAPE) -> Array:
    """Return a block that uses the whole range of an integer dtype."""
    rng = np.random.default_rng((seed, n))
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return rng.normal(1000, 300, (n, *shape)).astype(kind)
    limits = np.iinfo(kind)
    native = kind.newbyteorder("=").type
    return rng.integers(limits.min, limits.max, (n, *shape), native, endpoint=True).astype(kind)


def random_dark(kind: str) -> Array:
    rng = np.random.default_rng(5)
    whole = rng.integers(-500, 3000, SHAPE).astype(np.float64)
    extra = {"integer": 0.0, "half-integer": 0.5, "arbitrary": rng.random(SHAPE)}
    return whole + extra[kind]


@pytest.mark.parametrize("dark_kind", [None, "integer", "half-integer", "arbitrary"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", KERNELS, ids=KERNELS.get)
def test_kernel_gives_the_bits_of_the_plain_order(
    kernel: Callable[..., Array], dtype: str, dark_kind: str | None
) -> None:
    dark = None if dark_kind is None else random_dark(dark_kind)
    for n in N_FRAMES:
        block = random_block(dtype, n)
        result = kernel(block, dark)
        assert result.dtype == np.float64
        assert np.array_equal(result, plain(kernel, block, 0.0 if dark is None else dark)), n


@pytest.mark.parametrize("dtype", DTYPES)
def test_difference_is_that_of_float64_frames(dtype: str) -> None:
    block, dark = random_block(dtype, 3), random_dark("arbitrary")
    result = difference(block, dark)
    assert result.dtype == np.float64
    assert np.array_equal(result, block.astype(np.float64) - dark)


@pytest.mark.parametrize("kernel", KERNELS, ids=KERNELS.get)
@pytest.mark.parametrize("dtype", ["u2", "f8"])
def test_blocks_of_several_strips_leave_no_seam(kernel: Callable[..., Array], dtype: str) -> None:
    block = random_block(dtype, 4, shape=(20, 60_000))
    assert np.array_equal(kernel(block), plain(kernel, block))


@pytest.mark.parametrize("kernel", KERNELS, ids=KERNELS.get)
@pytest.mark.parametrize("n", N_FRAMES)
@pytest.mark.parametrize("dtype", ["f4", "f8", ">f4"])
def test_missing_values_are_left_out(kernel: Callable[..., Array], n: int, dtype: str) -> None:
    block = random_block(dtype, n)
    block[np.random.default_rng(n).random(block.shape) < 0.3] = np.nan
    block[0, 0, 0] = 1.0
    there = ~np.isnan(block).all(axis=0)
    values = block[:, there].astype(np.float64)
    by_numpy = np.nanmedian(values, axis=0) if kernel is median else plain_mean_of_present(values)
    assert np.array_equal(kernel(block)[there], by_numpy)
    assert np.isnan(kernel(block)[~there]).all()


@pytest.mark.parametrize("kernel", KERNELS, ids=KERNELS.get)
def test_missing_values_are_left_out_after_the_dark(kernel: Callable[..., Array]) -> None:
    block, dark = random_block("f8", 6), random_dark("arbitrary")
    expected = plain(kernel, block, dark)
    expected[2, :4] = plain(kernel, block[[1, 2, 4], 2, :4], dark[2, :4])
    block[[0, 3, 5], 2, :4] = np.nan
    assert np.array_equal(kernel(block, dark), expected)


@pytest.mark.parametrize("kernel", KERNELS, ids=KERNELS.get)
@pytest.mark.parametrize("minus", [None, np.ones((2, 3))])
def test_a_pixel_missing_in_every_frame_is_nan_without_a_warning(
    kernel: Callable[..., Array], minus: Array | None
) -> None:
    block = np.full((4, 2, 3), np.nan)
    block[:, 1] = 5.0
    result = kernel(block, minus)
    assert np.isnan(result[0]).all()
    assert (result[1] == (5.0 if minus is None else 4.0)).all()


@pytest.mark.parametrize("kernel", KERNELS, ids=KERNELS.get)
@pytest.mark.parametrize("dtype", ["u2", "f8"])
def test_a_missing_pixel_of_the_dark_is_missing_in_the_result(
    kernel: Callable[..., Array], dtype: str
) -> None:
    block, dark = random_block(dtype, 5), random_dark("integer")
    dark[3, 4] = np.nan
    found = np.isnan(kernel(block, dark))
    assert found[3, 4]
    assert found.sum() == 1


@pytest.mark.parametrize(
    ("values", "of_mean", "of_median"),
    [
        ([np.inf, 1.0, 2.0], np.inf, 2.0),
        ([-np.inf, 1.0, 2.0], -np.inf, 1.0),
        ([np.inf, np.inf, 2.0], np.inf, np.inf),
        ([1.0, np.inf], np.inf, np.inf),
        ([np.nan, np.inf, 7.0, 8.0], np.inf, 8.0),
    ],
)
def test_infinite_values_count_as_values(
    values: list[float], of_mean: float, of_median: float
) -> None:
    block = np.array(values).reshape(-1, 1, 1)
    assert mean(block).item() == of_mean
    assert median(block).item() == of_median
    assert mean(block, np.ones((1, 1))).item() == of_mean
    assert median(block, np.ones((1, 1))).item() == of_median - 1


@pytest.mark.parametrize("kernel", [*KERNELS, difference], ids=lambda kernel: kernel.__name__)
@pytest.mark.parametrize("dtype", ["u2", ">u2", "f8"])
def test_neither_block_nor_dark_is_changed(kernel: Callable[..., Array], dtype: str) -> None:
    block, dark = random_block(dtype, 5), random_dark("half-integer")
    before = block.tobytes(), dark.tobytes()
    for array in (block, dark):
        array.setflags(write=False)
    result = kernel(block, dark)
    assert not np.shares_memory(result, block)
    assert (block.tobytes(), dark.tobytes()) == before


@pytest.mark.parametrize("kernel", KERNELS, ids=KERNELS.get)
@settings(deadline=None, max_examples=60)
@given(
    cuts=st.sets(st.integers(1, 15)),
    dtype=st.sampled_from(["u2", ">i2", "u4", "f4", "f8"]),
    n=st.integers(1, 20),
    with_dark=st.booleans(),
    missing=st.floats(0, 0.3),
)
def test_the_result_does_not_depend_on_how_rows_are_cut(
    kernel: Callable[..., Array],
    cuts: set[int],
    dtype: str,
    n: int,
    with_dark: bool,
    missing: float,
) -> None:
    block = random_block(dtype, n, shape=(16, 3))
    if block.dtype.kind == "f":
        block[np.random.default_rng(n).random(block.shape) < missing] = np.nan
    dark = np.random.default_rng(1).random((16, 3)).round(1) * 100 if with_dark else None
    marks = [0, *sorted(cuts), 16]
    bands = [slice(first, stop) for first, stop in pairwise(marks)]
    pieces = [kernel(block[:, rows], None if dark is None else dark[rows]) for rows in bands]
    assert np.array_equal(np.concatenate(pieces), kernel(block, dark), equal_nan=True)


@pytest.mark.parametrize("kernel", [*KERNELS, difference], ids=lambda kernel: kernel.__name__)
@pytest.mark.parametrize("dtype", ["u2", "f8"])
def test_the_result_does_not_depend_on_the_layout_in_memory(
    kernel: Callable[..., Array], dtype: str
) -> None:
    block, dark = random_block(dtype, 11), random_dark("arbitrary")
    if dtype == "f8":
        block[4, 3, 2:] = block[0, 1, 1] = np.nan
    wide = np.zeros((22, 7, 18), dtype)
    wide[::2, :, ::2] = block
    reference = kernel(block, dark)
    for same in (np.asfortranarray(block), wide[::2, :, ::2], block[::-1].copy()[::-1]):
        assert np.array_equal(kernel(same, dark), reference, equal_nan=True)


@pytest.mark.parametrize(
    ("dtype", "value", "n"),
    [
        ("u1", 255, 300),
        ("u2", 65535, 300),
        ("u2", 65535, 70_000),
        ("i2", -32768, 300),
        ("i2", -32768, 70_000),
        ("i2", 32767, 70_000),
        ("u4", 2**32 - 1, 300),
        ("i4", -(2**31), 300),
        ("u8", 2**53, 300),
    ],
)
def test_integer_extremes_do_not_overflow(dtype: str, value: int, n: int) -> None:
    block = np.full((n, 1, 2), value, dtype)
    assert (mean(block) == value).all()
    assert (mean(block, np.full((1, 2), 0.5)) == value - 0.5).all()
    assert (difference(block, np.full((1, 2), 70_000.0)) == value - 70_000.0).all()
    assert (median(block[:300], np.full((1, 2), -0.5)) == value + 0.5).all()


@pytest.mark.parametrize(("dtype", "low", "high"), [("i2", -32768, 32767), ("u4", 0, 2**32 - 1)])
def test_the_two_middle_values_are_not_added_as_integers(dtype: str, low: int, high: int) -> None:
    assert median(np.array([[[low]], [[high]]], dtype)).item() == (low + high) / 2
    assert median(np.array([[[high]], [[high]]], dtype)).item() == high
