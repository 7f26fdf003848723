"""Lines that lean: found where there are any, and the sky between them known with its noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from arrayred.steps import LineShift, SkyPixels, fit_columns, lean_of_lines

Array = NDArray[Any]
N = 400
PLACES = (50.0, 133.3, 180.8, 260.1, 340.6)
NOISE = 5.0


def lines(at: Array | float = 0.0, strength: float = 200.0, width: float = 1.5) -> Array:
    """Return five lines of the sky, moved by some columns."""
    place = np.arange(N) - at
    bells = (np.exp(-0.5 * ((place - middle) / width) ** 2) for middle in PLACES)
    return np.asarray(strength * sum(bells))


def away(n_sides: int = 2) -> Array:
    """Return the rows (y, 1) of one or two bands of 80 rows, from the star."""
    below = np.arange(-120.0, -40)[:, np.newaxis]
    return np.concatenate((below, -below[::-1])) if n_sides == 2 else -below[::-1]


def band_of(sky: Array, n_sides: int = 2, seed: int = 0) -> SkyPixels:
    """Return bands of a sky (y, x) with its noise."""
    variance = NOISE**2 + np.maximum(sky, 0.0)
    pixels = np.random.default_rng(seed).normal(sky, np.sqrt(variance))
    distance = away(n_sides) * np.ones(N)
    good = np.ones(pixels.shape, bool)
    return SkyPixels(pixels, good, distance, 80 * (n_sides - 1), variance)


@pytest.mark.parametrize("lean", [0.002, -0.01, 0.03, -0.06, 0.1, 0.19])
@pytest.mark.parametrize("n_sides", [1, 2])
def test_the_lean_of_lines_is_found(lean: float, n_sides: int) -> None:
    shift = lean_of_lines(band_of(lines(lean * away(n_sides)), n_sides))
    assert shift.lean == pytest.approx(lean, abs=6e-4)
    assert not shift.at_border


@pytest.mark.parametrize("shift", [LineShift(bend=1e-4), LineShift(0.05, 1e-4, 3e-3)])
def test_curved_lines_and_a_lean_that_changes_are_found(shift: LineShift) -> None:
    moved = shift.on_rows(away(), N)
    found = lean_of_lines(band_of(lines(moved, 1000.0)))
    missed = found.on_rows(away(), N) - moved
    assert np.abs(missed).max() < 0.06


@pytest.mark.parametrize("strength", [0.0, 4.0, 200.0])
def test_no_lean_is_found_where_there_is_none(strength: float) -> None:
    sky = lines(0.0, strength) * np.ones((160, 1))
    for seed in range(12):
        assert lean_of_lines(band_of(sky, seed=seed)) == LineShift()


def test_columns_that_are_hot_do_not_lean() -> None:
    hot = np.zeros((160, N))
    hot[:, [40, 300, 301]] = 500.0
    hot[[20, 90, 150], [100, 180, 260]] = 1e5
    assert lean_of_lines(band_of(hot)) == LineShift()


def test_rows_off_the_slit_and_bad_columns_do_not_hide_a_lean() -> None:
    band = band_of(100 + lines(0.02 * away(), 400.0))
    band.pixels[:30] -= 100 + lines(0.02 * away(), 400.0)[:30]
    band.pixels[:, 300:303] += 600.0
    assert lean_of_lines(band).lean == pytest.approx(0.02, abs=1e-3)


@pytest.mark.parametrize("lean", [0.25, -0.4])
def test_lines_that_lean_more_than_is_searched_for_are_told(lean: float) -> None:
    assert lean_of_lines(band_of(lines(lean * away()))) == LineShift(at_border=True)


@pytest.mark.parametrize("width", [0.8, 1.5])
@pytest.mark.parametrize("lean", [0.01, -0.05, 0.1])
@pytest.mark.parametrize(("n_sides", "model"), [(2, "linear"), (2, "mean"), (1, "mean")])
def test_a_sky_whose_lines_lean_is_known_on_the_rows_of_the_star(
    width: float, lean: float, n_sides: int, model: Any
) -> None:
    band = band_of(100 + lines(lean * away(n_sides), 2000.0, width), n_sides)
    fit = fit_columns(band, np.sqrt(np.median(band.variance, axis=0)), model)  # type: ignore[arg-type]
    assert fit.leaning is not None
    rows = np.arange(-10.0, 11)[:, np.newaxis]
    # A column whose light reaches only the far rows of one side is known less well.
    inner = slice(13, -13)
    truth = 100 + lines(lean * rows, 2000.0, width)
    pulls = ((fit.level - truth[10]) / np.sqrt(fit.variance))[inner]
    assert np.abs(pulls).max() < 5.5
    assert 0.8 < pulls.std() < 1.15
    missed = (fit.leaning.on_rows(rows) - truth).sum(axis=0)[inner]
    noise = np.sqrt((truth + NOISE**2).sum(axis=0))[inner]
    assert np.abs(missed / noise).max() < (2.5 if n_sides == 2 else 4)
    assert fit.scatter == pytest.approx(1, abs=0.03)
    assert np.median(fit.variance) < 1.1 * 125 / len(band.pixels)


def test_a_gradient_along_the_slit_does_not_make_lines_lean() -> None:
    sky = (100 + lines(0.0, 1000.0)) * (1 + 1e-3 * away())
    assert lean_of_lines(band_of(sky)) == LineShift()
    sky = (100 + lines(0.05 * away(), 1000.0)) * (1 + 1e-3 * away())
    fit = fit_columns(band_of(sky), np.full(N, NOISE), "linear")
    beside = fit.level + fit.slope - (100 + lines(0.05, 1000.0)) * 1.001
    assert np.abs(beside[10:-10]).max() < 12


def test_hits_and_bad_pixels_on_leaning_lines_do_not_count() -> None:
    band = band_of(100 + lines(0.05 * away(), 1000.0))
    rng = np.random.default_rng(3)
    hit = rng.random(band.pixels.shape) < 0.01
    band.pixels[hit] += rng.exponential(300, np.count_nonzero(hit))
    band.good[40:70, 200:204] = False
    band.pixels[40:70, 200:204] = np.nan
    fit = fit_columns(band, np.full(N, NOISE), "linear")
    pulls = ((fit.level - 100 - lines(0.0, 1000.0)) / np.sqrt(fit.variance))[10:-10]
    assert np.abs(pulls).max() < 5.5
    assert abs(pulls.mean()) < 0.4
