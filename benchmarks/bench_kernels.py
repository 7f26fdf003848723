"""Kernels beside numpy; once as tests; timed: ``pytest benchmarks -n0 --benchmark-enable``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from arrayred.kernels.stack import mean, median

Kernel = Callable[[NDArray[Any]], NDArray[Any]]
RIVALS: dict[str, Kernel] = {
    "arrayred median": median,
    "numpy median": lambda block: np.median(block, axis=0),
    "arrayred mean": mean,
    "numpy mean": lambda block: np.mean(block, axis=0),
}


@pytest.fixture(scope="module", params=[5, 11, 25])
def block(request: pytest.FixtureRequest) -> NDArray[np.uint16]:
    rng = np.random.default_rng(0)
    return rng.integers(900, 1300, (request.param, 512, 1536), dtype=np.uint16)


@pytest.mark.parametrize("name", RIVALS)
def test_kernel(benchmark: Any, block: NDArray[np.uint16], name: str) -> None:
    oracle = RIVALS[f"numpy {name.split()[1]}"]
    assert np.array_equal(benchmark(RIVALS[name], block), oracle(block))
