"""Lines that lean: found where there are any, and put upright with their shape and noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from arrayred.steps import SkyPixels, fit_columns, line_tilt, without_line_tilt

Array = NDArray[Any]
X = np.arange(600.0)


def lines(at: Array | float = 0.0, strength: float = 200.0) -> Array:
    """Return five lines of the sky, moved by some columns."""
    places = (50.0, 133.3, 260.0, 401.6, 520.0)
    return np.asarray(
        sum(strength * np.exp(-0.5 * ((X - place - at) / 1.5) ** 2) for place in places)
    )


@pytest.mark.parametrize("lean", [0.004, -0.01, 0.025])
def test_the_lean_of_lines_is_that_between_two_bands(lean: float) -> None:
    noise = np.random.default_rng(0).normal(0, 2.0, (2, X.size))
    found = line_tilt(lines(-100 * lean) + noise[0], lines(100 * lean) + noise[1], 200.0, noise=2.0)
    assert found == pytest.approx(lean, abs=2e-4)


@pytest.mark.parametrize("strength", [0.0, 200.0])
def test_no_lean_is_found_where_there_is_none(strength: float) -> None:
    rng = np.random.default_rng(1)
    for _ in range(40):
        below, above = lines(0.0, strength) + rng.normal(0, 2.0, (2, X.size))
        assert line_tilt(below, above, 200.0, noise=2.0) == 0.0


def test_columns_that_are_hot_in_both_bands_do_not_lean() -> None:
    hot = np.zeros(X.size)
    hot[[40, 300, 301]] = 500.0
    assert line_tilt(hot, 0.9 * hot, 200.0, noise=2.0) == 0.0


@pytest.mark.parametrize("shift", [0.5, -1.25, 3.0])
def test_a_row_is_moved_with_the_shape_of_its_lines(shift: float) -> None:
    rows = np.stack([lines(shift), lines(shift)])
    moved, good, _ = without_line_tilt(rows, np.ones(rows.shape, bool), np.array([shift, shift]))
    assert np.abs(moved[0] - lines())[good[0]].max() < 0.015 * 200
    assert good[:, 8:-8].all()


def test_the_noise_of_a_moved_row_is_lower_by_the_factor_told() -> None:
    noise = np.random.default_rng(2).normal(0, 1.0, (4, 200_000))
    shifts = np.array([0.0, 0.25, 0.5, -1.5])
    moved, _, factors = without_line_tilt(noise, np.ones(noise.shape, bool), shifts)
    assert moved.var(axis=1) == pytest.approx(factors, rel=0.02)
    assert factors[0] == 1
    assert np.array_equal(moved[0], noise[0])


def test_a_bad_pixel_spoils_those_that_take_part_in_it() -> None:
    good = np.ones((2, 40), bool)
    good[:, 20] = False
    pixels = np.where(good, 5.0, np.nan)
    moved, usable, _ = without_line_tilt(pixels, good, np.array([0.5, 2.0]))
    assert [i for i in np.flatnonzero(~usable[0]) if 3 < i < 36] == [18, 19, 20, 21]
    assert list(np.flatnonzero(~usable[1])) == [18, 38, 39]
    assert np.all(moved[usable] == 5.0)


@pytest.mark.parametrize("model", ["mean", "linear"])
def test_a_sky_whose_lines_lean_is_known_at_the_star(model: Any) -> None:
    distance = np.concatenate((np.arange(-120.0, -40), np.arange(41.0, 121)))[:, np.newaxis]
    pixels = 100 + np.stack([lines(0.01 * d) for d in distance[:, 0]])
    pixels += np.random.default_rng(3).normal(0, 5.0, pixels.shape)
    band = SkyPixels(pixels, np.ones(pixels.shape, bool), distance * np.ones(X.size), 80)
    fit = fit_columns(band, np.full(X.size, 5.0), model)
    pulls = (fit.level - 100 - lines()) / np.sqrt(fit.variance)
    assert fit.lean == pytest.approx(0.01, abs=2e-4)
    assert np.abs(pulls).max() < 6
    assert pulls[lines() < 0.01].std() == pytest.approx(1, abs=0.07)
    assert np.median(fit.variance) < 0.9 * 25 / 160
    beside = fit.level + 10 * fit.slope - 100 - lines(0.1)
    assert np.abs(beside[10:-10]).max() < 4 < np.abs(lines(0.1) - lines()).max()
    assert fit.scatter == pytest.approx(1, abs=0.03)
