"""Kernels beside numpy; once as tests; timed: ``pytest benchmarks -n0 --benchmark-enable``.

Small frames, few of them, and no rivals as a test; ``ROWS=1024`` takes the frames of the table in
`arrayred.kernels.combine`, and times the rivals as well.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from astropy.stats import sigma_clip
from numpy.typing import NDArray

from arrayred.kernels import clipped_mean, mean, median, minmax_mean

Array = NDArray[Any]
Kernel = Callable[[Array], Array]
ROWS = int(os.environ.get("ROWS", "4"))
TIMED = "ROWS" in os.environ
WHO = ("arrayred", "rival") if TIMED else ("arrayred",)
FRAMES = [5, 11, 25, 50, 101, 200, 400] if TIMED else [5, 25, 101]


def numpy_mean(block: Array) -> Array:
    """Return the mean, added frame by frame as numpy does along the first axis."""
    return np.asarray(np.mean(block, axis=0, dtype=np.float64))


def numpy_median(block: Array) -> Array:
    return np.asarray(np.median(block.astype(np.float64), axis=0))


def astropy_clip(block: Array, maxiters: int | None) -> Array:
    """Return the mean of what astropy leaves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = block.astype(np.float64)
        clipped = sigma_clip(values, axis=0, cenfunc="mean", stdfunc="std", maxiters=maxiters)
    return np.asarray(np.add.reduce(clipped.filled(0.0), axis=0) / clipped.count(axis=0))


def numpy_minmax(block: Array) -> Array:
    in_order = np.sort(block.astype(np.float64), axis=0)[1:-1]
    return np.asarray(np.add.reduce(in_order, axis=0) / len(in_order))


KERNELS: dict[str, tuple[Kernel, Kernel]] = {
    "mean": (mean, numpy_mean),
    "median": (median, numpy_median),
    "clip once": (clipped_mean, partial(astropy_clip, maxiters=1)),
    "clip until done": (
        partial(clipped_mean, iterations=None),
        partial(astropy_clip, maxiters=None),
    ),
    "minmax": (minmax_mean, numpy_minmax),
}
DTYPES = ["uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"]


def block_of(n: int, dtype: str) -> Array:
    """Return noise of 12 counts about 100, whole numbers, and cosmic rays on a value in 500."""
    rng = np.random.default_rng(0)
    noise = rng.normal(100, 12, (n, ROWS, 1536)).round()
    return np.where(rng.random(noise.shape) < 0.002, 250, noise).astype(dtype)


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", FRAMES)
@pytest.mark.parametrize("name", KERNELS)
def test_kernel(benchmark: Any, name: str, n: int, dtype: str, who: str) -> None:
    ours, theirs = KERNELS[name]
    block = block_of(n, dtype)
    result = benchmark(ours if who == "arrayred" else theirs, block)
    if who == "arrayred":
        assert np.array_equal(result, theirs(block))
