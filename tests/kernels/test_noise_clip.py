"""Values that noise does not explain, against a slow loop over pixels and what was put in."""

from __future__ import annotations

import math

import numpy as np
import pytest

from arrayred.kernels import NoiseClip, PixelNoise, Scales, line_widths, mean, noise_clipped_mean

SHAPE = (12, 200)
NOISE = NoiseClip(3.0, PixelNoise(64.0, 0.0, 0.5))
Array = np.ndarray


def equal(n: int) -> Scales:
    return Scales.none(n)


def frames_of(n: int, light: Array | float = 400.0, flux: tuple[float, ...] = ()) -> Array:
    rng = np.random.default_rng(n)
    bright = np.reshape(flux or (1.0,) * n, (-1, 1, 1)) * np.broadcast_to(light, SHAPE)
    return bright + rng.normal(0, 1, (n, *SHAPE)) * np.sqrt(64 + 0.5 * bright)


def cleaned(frames: Array, scales: Scales | None = None, noise: NoiseClip = NOISE) -> Array:
    n = len(frames)
    return noise_clipped_mean(frames, scales=scales or equal(n), weights=(1.0,) * n, noise=noise)


@pytest.mark.parametrize("n", [3, 4, 5, 8, 11, 25])
def test_what_is_kept_is_what_a_slow_loop_keeps(n: int) -> None:
    frames = frames_of(n)
    frames[0, ::3, ::7] += 500.0
    ones = np.ones(SHAPE[1])
    planes = noise_clipped_mean(
        frames, scales=equal(n), weights=(1.0,) * n, noise=NOISE, widths=ones
    )
    for (y, x), found in np.ndenumerate(planes[0]):
        values = frames[:, y, x]
        reach = 3 * math.sqrt(64 + 0.5 * max(np.median(values), 0))
        kept = values[np.abs(values - np.median(values)) <= reach]
        assert found == pytest.approx(kept.mean())
        assert planes[1, y, x] == n - kept.size


@pytest.mark.parametrize("n", [3, 5, 10])
def test_few_frames_lose_their_cosmic_rays(n: int) -> None:
    frames = frames_of(n)
    clean = mean(frames)
    frames[1, ::2, ::9] += 1000.0
    found = cleaned(frames)
    assert (found[1, ::2, ::9] >= 1).all()
    assert np.abs(found[0] - clean).max() < 60
    assert (found[1] > 0).mean() < 0.12


def test_a_pixel_that_lost_nothing_has_the_average_of_its_frames() -> None:
    frames = frames_of(4, flux=(0.8, 0.9, 1.1, 1.2))
    found = cleaned(frames, Scales((0.8, 0.9, 1.1, 1.2), (-2.0, 1.0, 1.0, 0.0)))
    whole = found[1] == 0
    assert whole.mean() > 0.9
    assert np.allclose(found[0][whole], frames.mean(axis=0)[whole])


def test_frames_of_different_flux_keep_their_core() -> None:
    flux = (0.8, 1.0, 1.2)
    frames = frames_of(3, 20_000.0, flux)
    ones = np.ones(SHAPE[1])
    three = {"weights": (1.0,) * 3, "noise": NOISE, "widths": ones}
    as_they_are = noise_clipped_mean(frames, scales=equal(3), **three)
    scaled = noise_clipped_mean(frames, scales=Scales(flux, (0.0,) * 3), **three)
    assert (as_they_are[1] > 0).mean() > 0.99
    assert (scaled[1] > 0).mean() < 0.03


def test_a_row_that_repeats_badly_is_judged_by_how_it_does() -> None:
    frames = frames_of(3, 5000.0)
    frames[2, 4:6] *= 1.15
    frames[0, 5, 50] += 20_000.0
    found = cleaned(frames)[1]
    assert found[5, 50] == 1
    assert (found[4:6] > 0).mean() < 0.05
    assert (found[:4] > 0).mean() < 0.05


def test_two_values_cannot_tell_which_is_wrong() -> None:
    frames = np.array([[[100.0, 100.0]], [[5000.0, 5000.0]], [[np.nan, 102.0]]])
    assert cleaned(frames)[:, 0].tolist() == [[2550.0, 101.0], [0.0, 1.0]]


def test_two_hits_among_four_leave_the_other_two() -> None:
    frames = np.reshape([100.0, 4000.0, 104.0, 9000.0], (4, 1, 1))
    assert cleaned(frames)[:, 0, 0].tolist() == [102.0, 2.0]


def test_missing_values_are_as_if_never_taken() -> None:
    frames = frames_of(5)
    holed = np.concatenate([frames, np.full((1, *SHAPE), np.nan)])
    ones = np.ones(SHAPE[1])
    few = noise_clipped_mean(frames, scales=equal(5), weights=(1.0,) * 5, noise=NOISE, widths=ones)
    more = noise_clipped_mean(holed, scales=equal(6), weights=(1.0,) * 6, noise=NOISE, widths=ones)
    assert np.allclose(few, more)
    assert np.isnan(cleaned(np.full((3, *SHAPE), np.nan))[0]).all()


def test_the_noise_of_dark_charge_is_allowed_for() -> None:
    frames, charge = frames_of(3), np.zeros(SHAPE)
    frames[0, :, 7] += 130.0
    charge[:, 7] = 8000.0
    three = {"scales": equal(3), "weights": (1.0,) * 3, "noise": NOISE, "widths": np.ones(200)}
    zero = np.zeros(SHAPE)
    assert (noise_clipped_mean(frames, zero, **three)[1, :, 7] > 0).sum() > 6
    assert noise_clipped_mean(frames, zero, charge, **three)[1, :, 7].sum() == 0


@pytest.mark.parametrize("noise", [None, NOISE])
def test_weights_are_those_of_a_weighted_mean(noise: NoiseClip | None) -> None:
    frames, flux = frames_of(3, flux=(0.5, 1.0, 1.5)), (0.5, 1.0, 1.5)
    weights = (0.2, 1.0, 1.8)
    wide = None if noise is None else noise._replace(n_sigma=50.0)
    found = noise_clipped_mean(frames, scales=Scales(flux, (0.0,) * 3), weights=weights, noise=wide)
    expected = np.tensordot(weights, frames, 1) / np.dot(weights, flux)
    assert np.allclose(found[0], expected)
    assert not found[1].any()


@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("dtype", ["u2", "f4", "f8"])
def test_no_bit_depends_on_the_bands(rows: int, dtype: str) -> None:
    frames = frames_of(4).astype(dtype)
    whole = cleaned(frames)
    for y in range(0, SHAPE[0], rows):
        assert np.array_equal(cleaned(frames[:, y : y + rows]), whole[:, y : y + rows])


@pytest.mark.parametrize("n", [2, 3, 5, 20])
@pytest.mark.parametrize("axis", [0, 1])
def test_lines_tell_how_much_worse_than_their_noise_they_repeat(n: int, axis: int) -> None:
    worse = np.expand_dims(np.linspace(0.5, 3, 6), axis)
    shape = (6, 40_000) if axis == 1 else (40_000, 6)
    off = np.random.default_rng(n).normal(size=(n, *shape)) * worse
    off[0].flat[:1000] += 1e5
    assert line_widths(off, axis) == pytest.approx(worse.ravel(), rel=0.035)


def test_lines_that_tell_nothing_are_as_good_as_their_noise() -> None:
    assert line_widths(np.full((3, 4, 50), np.nan), 1).tolist() == [1.0] * 4
    assert line_widths(np.ones((1, 4, 50)), 1).tolist() == [1.0] * 4
    assert line_widths(np.full((3, 2, 5), 1e3), 1).tolist() == [1.0] * 2


def test_frames_of_unequal_noise_are_not_left_out_for_the_noise_of_the_centre() -> None:
    flux = (0.5, 0.5, 2.0)
    frames = np.random.default_rng(6).normal(0, 8, (3, *SHAPE))
    three = {"weights": (1.0,) * 3, "noise": NOISE, "widths": np.ones(SHAPE[1])}
    found = noise_clipped_mean(frames, scales=Scales(flux, (0.0,) * 3), **three)
    assert (found[1] > 0).mean() < 0.02
