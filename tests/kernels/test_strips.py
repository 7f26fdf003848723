"""A block is walked in strips: nothing is seen twice or left out, and memory stays small."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from arrayred.kernels import (
    LANE_BYTES,
    STRIP_BYTES,
    clipped_mean,
    count,
    mean,
    median,
    minmax_mean,
    strips,
)

Array = NDArray[Any]
Kernel = Callable[..., Array]
KERNELS: dict[str, Kernel] = {
    "mean": mean,
    "median": median,
    "clipped mean": partial(clipped_mean, n_sigma=1.5),
    "iterated": partial(clipped_mean, n_sigma=1.5, iterations=None),
    "about the median": partial(clipped_mean, n_sigma=1.5, centre="median"),
    "minmax": minmax_mean,
}


@pytest.fixture(params=KERNELS.values(), ids=KERNELS)
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return request.param  # type: ignore[no-any-return]


def pixel_by_pixel(kernel: Kernel, block: Array, mask: Array, dark: Array) -> Array:
    """Reduce each pixel as a stack of just the frames it has."""
    result = np.empty(block.shape[1:])
    for y, x in np.ndindex(result.shape):
        there = block[~mask[:, y, x], y, x].reshape(-1, 1, 1)
        result[y, x] = kernel(there, dark[y : y + 1, x : x + 1]).item()
    return result


@pytest.mark.parametrize(
    ("dtype", "share"),
    [
        *((dtype, 0.5) for dtype in ("u1", "i2", "u2", ">u2", "u4", "i8", "f4", "f8")),
        *((dtype, share) for dtype in ("u2", "f4") for share in (0.02, 0.97)),
    ],
)
def test_a_masked_value_counts_as_if_never_taken(kernel: Kernel, dtype: str, share: float) -> None:
    rng = np.random.default_rng(4)
    block = rng.integers(0, 120, (12, 6, 7)).astype(dtype)
    mask, dark = rng.random(block.shape) < share, rng.random((6, 7)) * 9
    expected = pixel_by_pixel(kernel, block, mask, dark)
    assert np.array_equal(kernel(block, dark, mask=mask), expected, equal_nan=True)


def test_a_masked_value_is_as_good_as_nan(kernel: Kernel) -> None:
    rng = np.random.default_rng(5)
    block, mask = rng.normal(100, 9, (15, 8, 9)), rng.random((15, 8, 9)) < 0.3
    missing = rng.random(block.shape) < 0.1
    block[missing] = np.nan
    everything = np.where(mask, np.nan, block)
    assert np.array_equal(kernel(block, mask=mask), kernel(everything), equal_nan=True)


def test_masked_means_and_medians_are_those_of_numpy() -> None:
    rng = np.random.default_rng(6)
    block = rng.integers(0, 65_536, (31, 9, 8)).astype(np.uint16)
    masked = np.ma.masked_array(block.astype(np.float64), rng.random(block.shape) < 0.4)
    assert np.array_equal(mean(block, mask=masked.mask), masked.mean(axis=0))
    assert np.array_equal(median(block, mask=masked.mask), np.ma.median(masked, axis=0))


def test_a_mask_of_false_changes_nothing(kernel: Kernel) -> None:
    block = np.random.default_rng(7).integers(0, 999, (9, 4, 5)).astype(np.uint16)
    assert np.array_equal(kernel(block, mask=np.zeros(block.shape, bool)), kernel(block))


def test_a_mask_of_another_shape_is_refused(kernel: Kernel) -> None:
    with pytest.raises(ValueError, match=r"shape \(4, 5\) does not match frames of shape \(9, 4"):
        kernel(np.zeros((9, 4, 5)), mask=np.zeros((4, 5), bool))


@pytest.mark.parametrize("shape", [(0, 3, 4), (5, 0, 4), (5, 3, 0)])
def test_nothing_gives_nothing(kernel: Kernel, shape: tuple[int, int, int]) -> None:
    for dtype in ("u2", "f4"):
        result = kernel(np.zeros(shape, dtype), mask=np.zeros(shape, bool))
        assert result.shape == shape[1:]
        assert np.isnan(result).all()


@given(
    shape=st.tuples(st.integers(1, 3000), st.integers(1, 5000), st.integers(1, 9000)),
    itemsize=st.sampled_from([1, 2, 4, 8]),
)
def test_strips_cover_each_row_once_and_stay_small(
    shape: tuple[int, int, int], itemsize: int
) -> None:
    block = np.broadcast_to(np.zeros((), f"V{itemsize}"), shape)
    slices = list(strips(block))
    assert np.array_equal(np.concatenate([np.r_[rows] for rows in slices])[: shape[1]],
                          np.arange(shape[1]))  # fmt: skip
    row = shape[2] * itemsize
    rows = slices[0].stop
    assert rows == 1 or (rows * row <= LANE_BYTES and rows * row * shape[0] <= STRIP_BYTES)


@pytest.mark.parametrize(("kind", "dtype"), [("plain", "u2"), ("minus", "f4"), ("mask", "u2")])
def test_memory_is_that_of_a_few_strips(kernel: Kernel, dtype: str, kind: str) -> None:
    block = np.random.default_rng(0).integers(900, 1100, (12, 512, 1024), "u2").astype(dtype)
    dark = np.full(block.shape[1:], 0.1) if kind == "minus" else None
    mask = np.zeros(block.shape, bool) if kind == "mask" else None
    if mask is not None:
        mask[3] = True
    strip = 12 * LANE_BYTES
    tracemalloc.start()
    image = kernel(block, dark, mask=mask)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < image.nbytes + 6 * strip < image.nbytes + block.nbytes


@pytest.mark.parametrize("n", [255, 256, 300])
def test_flags_are_counted_beyond_a_byte(n: int) -> None:
    assert (count(np.ones((n, 2, 3), bool)) == n).all()
