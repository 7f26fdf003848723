"""The clipped mean is that of astropy, bit for bit: `sigma_clip` along the frames, then the mean.

Where the centre is a median astropy adds in the order that its selection leaves behind, so the last
bits differ: there 4 units in the last place are allowed.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
import pytest
from astropy.stats import sigma_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from arrayred.kernels import clipped_mean, mean

Array = NDArray[Any]
DTYPES = ["u1", "u2", "i2", ">u2", "u4", "i8", "f4", "f8", ">f4"]
SHAPE = (7, 9)


def by_astropy(values: Array, **settings: Any) -> Array:
    """Return the mean of what `sigma_clip` leaves, frames added one by one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that NaN were clipped
        clipped = np.ma.getmaskarray(sigma_clip(values, axis=0, stdfunc="std", **settings))
    total, n = np.zeros(values.shape[1:]), np.zeros(values.shape[1:])
    for frame, out in zip(values, clipped, strict=True):
        total += np.where(out, 0.0, frame)
        n += ~out
    with np.errstate(invalid="ignore"):
        return np.asarray(total / n)


def frames_with_outliers(dtype: str, n: int, seed: int = 0) -> Array:
    rng = np.random.default_rng((seed, n))
    values = rng.normal(100, 8, (n, *SHAPE))
    hit = rng.random(values.shape) < 0.05
    values[hit] *= rng.uniform(0, 2, hit.sum())
    return values.astype(dtype)


def dark_of(kind: str | None) -> Array | None:
    rng = np.random.default_rng(7)
    darks = {"half": rng.integers(0, 90, SHAPE) * 0.5, "any": rng.random(SHAPE) * 30}
    return None if kind is None else darks[kind]


@pytest.mark.parametrize("dark_kind", [None, "half", "any"])
@pytest.mark.parametrize("iterations", [1, 2, None])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_bits_are_those_of_astropy(
    dtype: str, iterations: int | None, dark_kind: str | None
) -> None:
    dark = dark_of(dark_kind)
    for n in (1, 2, 5, 11, 25, 40):
        for n_sigma in (0.5, 1.0, 2.0, 3.0):
            block = frames_with_outliers(dtype, n)
            ours = clipped_mean(block, dark, n_sigma=n_sigma, iterations=iterations)
            values = block.astype(np.float64) - (0.0 if dark is None else dark)
            theirs = by_astropy(values, sigma=n_sigma, maxiters=iterations, cenfunc="mean")
            assert np.array_equal(ours, theirs, equal_nan=True), (n, n_sigma)


@pytest.mark.parametrize("iterations", [1, 3, None])
@pytest.mark.parametrize("dtype", ["u2", "f8"])
def test_about_the_median_it_is_astropy_to_the_last_places(
    dtype: str, iterations: int | None
) -> None:
    for n in (2, 5, 12, 25):
        block = frames_with_outliers(dtype, n)
        ours = clipped_mean(block, n_sigma=1.7, iterations=iterations, centre="median")
        values = block.astype(np.float64)
        theirs = by_astropy(values, sigma=1.7, maxiters=iterations, cenfunc="median")
        np.testing.assert_array_max_ulp(ours, theirs, 4)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_missing_and_infinite_values_are_left_out_beforehand(dtype: str) -> None:
    block = frames_with_outliers(dtype, 20)
    choose = np.random.default_rng(1).random(block.shape)
    block[choose < 0.2], block[choose > 0.98] = np.nan, np.inf
    block[:, 0, 0] = np.nan
    ours = clipped_mean(block, n_sigma=2.0, iterations=None)
    theirs = by_astropy(block.astype(np.float64), sigma=2.0, maxiters=None, cenfunc="mean")
    assert np.array_equal(ours, theirs, equal_nan=True)
    assert np.isnan(ours).sum() == 1


def test_masked_values_do_not_widen_the_bounds() -> None:
    block = frames_with_outliers("u2", 16)
    mask = np.random.default_rng(2).random(block.shape) < 0.1
    block[mask] = 60_000
    values = np.where(mask, np.nan, block.astype(np.float64))
    theirs = by_astropy(values, sigma=2.0, maxiters=1, cenfunc="mean")
    assert np.array_equal(clipped_mean(block, mask=mask, n_sigma=2.0), theirs)


def test_a_cosmic_ray_is_rejected_from_eleven_frames_on() -> None:
    for n, clean in ((10, False), (11, True)):
        frames = np.full((n, 1, 1), 100, np.uint16)
        frames[::2], frames[3] = 101, 40_000
        assert (clipped_mean(frames).item() < 102) == clean


def test_values_on_the_bound_stay() -> None:
    block = np.array([9.0, 11.0, 9.0, 11.0]).reshape(4, 1, 1)
    assert clipped_mean(block, n_sigma=1.0).item() == 10
    assert np.isnan(clipped_mean(block, n_sigma=0.999)).all()


def test_nothing_to_clip_gives_the_bits_of_the_mean() -> None:
    block = np.random.default_rng(3).random((9, *SHAPE))
    assert np.array_equal(clipped_mean(block), mean(block))


@settings(deadline=None, max_examples=40)
@given(cut=st.integers(1, 6), n=st.integers(1, 30), iterations=st.sampled_from([1, 2, None]))
def test_the_result_does_not_depend_on_how_rows_are_cut(
    cut: int, n: int, iterations: Literal[1, 2] | None
) -> None:
    block = frames_with_outliers("f4", n)
    block[np.random.default_rng(n).random(block.shape) < 0.05] = np.nan
    whole = clipped_mean(block, n_sigma=1.5, iterations=iterations)
    parts = [block[:, :cut], block[:, cut:]]
    pieces = [clipped_mean(part, n_sigma=1.5, iterations=iterations) for part in parts]
    assert np.array_equal(np.concatenate(pieces), whole, equal_nan=True)


@pytest.mark.parametrize("wrong", [{"n_sigma": 0.0}, {"n_sigma": np.nan}, {"iterations": 0}])
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Use a positive number of sigma"):
        clipped_mean(np.zeros((3, 2, 2)), **wrong)
