"""The variance of master darks and biases, against the scatter of masters about their truth."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.steps import with_own_noise
from tests.steps import Array, cube_of

GAIN, READ = 1.5, 12.0
SHAPE = (250, 400)


def master_of(
    charge: Array, n: int, method: str, *, gain: float | None = GAIN, kind: str = "dark"
) -> xr.Dataset:
    """Return the master of n frames of a detector with a bias of 1000 adu."""
    rng = np.random.default_rng(n)
    electrons = rng.poisson(charge, (n, *SHAPE)) + rng.normal(0, READ, (n, *SHAPE))
    frames = (electrons / GAIN + 1000).round().astype("u2")
    cube = cube_of(frames, **({} if gain is None else {"gain": gain}))
    cube = cube.assign_coords(frame_type=("frame", [kind] * n))
    return with_own_noise(ar.measure_noise(ar.combine(cube, method), cube))  # type: ignore[arg-type]


def hot_pixels() -> tuple[Array, Array]:
    rng = np.random.default_rng(1)
    hot = rng.random(SHAPE) < 0.02
    return np.where(hot, rng.uniform(2000, 20_000, SHAPE), 30.0), hot


@pytest.mark.parametrize("method", ["average", "median"])
@pytest.mark.parametrize("n", [2, 5, 11])
def test_masters_scatter_as_their_variance_says(method: str, n: int) -> None:
    charge, hot = hot_pixels()
    master = master_of(charge, n, method)
    pulls = (master.counts.values - charge / GAIN - 1000) / np.sqrt(master.variance.values)
    assert np.std(pulls[~hot]) == pytest.approx(1, abs=0.04)
    assert np.std(pulls[hot]) == pytest.approx(1, abs=0.08)
    assert (master.variance.dtype, master.variance.units) == (np.float32, "adu2")


def test_the_pattern_of_a_bias_is_no_charge() -> None:
    bias = master_of(hot_pixels()[0], 5, "median", kind="bias")
    assert np.unique(bias.variance.values).size == 1


def test_without_a_gain_hot_pixels_are_as_the_others_and_that_is_said() -> None:
    master = master_of(hot_pixels()[0], 5, "median", gain=None)
    assert np.unique(master.variance.values).size == 1
    assert master.attrs["history"][-1].endswith("gain unknown")


def test_a_single_frame_tells_no_noise() -> None:
    assert "variance" not in master_of(hot_pixels()[0], 1, "average")
