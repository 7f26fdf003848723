"""Small images show what the large ones hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrayred.plots.panels import block_factor, block_mean, block_peak


def one_by_one(image: np.ndarray, factor: int, of: object) -> np.ndarray:
    rows, columns = (range(0, n, factor) for n in image.shape)
    return np.array(
        [[of(image[y : y + factor, x : x + factor]) for x in columns] for y in rows]  # type: ignore[operator]
    )


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (8, 8), (3, 20)])
@pytest.mark.parametrize("factor", [1, 2, 3, 8])
def test_blocks_are_means_and_peaks(shape: tuple[int, int], factor: int, dtype: str) -> None:
    image = np.random.default_rng(1).integers(0, 200, shape).astype(dtype)
    np.testing.assert_allclose(block_mean(image, factor), one_by_one(image, factor, np.mean))
    np.testing.assert_array_equal(block_peak(image, factor), one_by_one(image, factor, np.max))


def test_sums_of_large_counts_do_not_wrap() -> None:
    assert block_mean(np.full((4, 4), 65535, np.uint16), 4) == 65535.0


def test_a_pixel_without_a_number_takes_its_block_along() -> None:
    image = np.ones((4, 4))
    image[0, 0] = np.nan
    assert np.isnan(block_mean(image, 2)).sum() == np.isnan(block_peak(image, 2)).sum() == 1


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 10**6))
def test_the_factor_is_the_smallest_that_suffices(ny: int, nx: int, most: int) -> None:
    def dots(factor: int) -> int:
        return -(-ny // factor) * -(-nx // factor)

    factor = block_factor((ny, nx), most)
    assert dots(factor) <= most
    assert factor == 1 or dots(factor - 1) > most
