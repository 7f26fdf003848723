"""Flats against slow, obvious arithmetic, and lamps whose colour is known."""

from __future__ import annotations

import numpy as np
import pytest

from arrayred.steps import divide_by_flat, illuminated_level, scaled_median
from arrayred.steps.calibrate import _spectrum_of_lamp

X = np.linspace(-1, 1, 400)
LAMPS = {
    "even": np.ones_like(X),
    "steep": 1.0 + 0.9 * X,
    "curved": 1.0 - 0.4 * (X - 0.2) ** 2,
    "cool": np.exp(2.5 * X),
    "filtered": (1.0 + 0.3 * X) / (1 + np.exp(-(X + 0.5) / 0.15)),
}


def lamp_colour(image: np.ndarray) -> np.ndarray:
    """Return the spectrum of the lamp (x), NaN where it is not known."""
    lamp = _spectrum_of_lamp(image)
    return np.where(lamp.doubtful, np.nan, lamp.level)


@pytest.mark.parametrize("dtype", ["u2", "i4", "f4", ">f8"])
@pytest.mark.parametrize("n_frames", [1, 2, 5, 8])
def test_frames_are_scaled_less_their_darks_and_their_median_taken(
    dtype: str, n_frames: int
) -> None:
    rng = np.random.default_rng(n_frames)
    block = rng.integers(100, 30000, (n_frames, 300, 7)).astype(dtype)
    darks = [rng.normal(50, 5, (300, 7)) for _ in range(2)]
    which = tuple(int(i) for i in rng.integers(-1, 2, n_frames))
    levels = tuple(rng.uniform(1e3, 1e4, n_frames))
    scaled = [
        (frame.astype("f8") - (darks[w] if w >= 0 else 0.0)) / level
        for frame, w, level in zip(block, which, levels, strict=True)
    ]
    found = scaled_median(block, *darks, levels=levels, which=which)
    assert np.array_equal(found, np.median(scaled, axis=0))


def test_the_level_is_that_of_the_lit_rows() -> None:
    image = np.random.default_rng(0).normal(0, 3, (100, 50))
    image[:30] += 5000
    assert illuminated_level(image) == pytest.approx(5000, abs=1)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 5)), np.full((4, 5), -3.0), np.full((4, 5), np.nan)]
)
def test_an_image_without_light_has_no_positive_level(image: np.ndarray) -> None:
    assert not illuminated_level(image) > 0


@pytest.mark.parametrize("lamp", LAMPS.values(), ids=LAMPS.keys())
def test_the_colour_of_a_lamp_is_found_to_a_quarter_of_a_percent(lamp: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    flat = 20000 * lamp * (1 + 0.02 * rng.standard_normal((200, 400)))
    inner = slice(5, -5)
    assert lamp_colour(flat)[inner] / (20000 * lamp)[inner] == pytest.approx(1, abs=0.0025)


def test_pixels_are_left_in_the_flat() -> None:
    flat = np.full((50, 400), 100.0)
    flat[:, 200] = 80.0
    assert lamp_colour(flat) == pytest.approx(100, rel=1e-6)


def test_dark_columns_do_not_draw_the_colour_towards_them() -> None:
    flat = 1000 * (1 + 0.005 * np.random.default_rng(4).standard_normal((50, 400)))
    flat[:, 195:203] *= 0.5
    assert np.delete(lamp_colour(flat), range(195, 203)) == pytest.approx(1000, rel=0.002)


COLUMN = np.arange(600)
FRINGES = 1 + 0.05 * np.sin(2 * np.pi * COLUMN / 30)


def edge(at: float, width: float, low: float) -> np.ndarray:
    """Return a lamp that falls to a part over a part of the columns, 10 to 90 % of its height."""
    away = (COLUMN / COLUMN.size - at) / width * 4.4
    return np.asarray(low + (1 - low) / (1 + np.exp(-away)))


def line(at: float, height: float, sigma: float) -> np.ndarray:
    return np.asarray(1 + height * np.exp(-0.5 * ((COLUMN - at * COLUMN.size) / sigma) ** 2))


SHARP = {
    "dichroic of 1 %": edge(0.4, 0.01, 0.1),
    "dichroic of 3 %": edge(0.4, 0.03, 0.1),
    "dichroic of 10 %": edge(0.4, 0.1, 0.1),
    "shallow edge": edge(0.6, -0.02, 0.6),
    "arm's end": edge(0.95, -0.05, 0.0),
    "arm's sharp end": edge(0.95, -0.01, 0.0),
    "lines": line(0.3, 1.0, 1.5) * line(0.62, 0.3, 3.0) * line(0.8, 0.1, 1.5),
    "close lines": line(0.3, 1.0, 1.5) * line(0.3 + 10 / 600, 0.7, 1.5),
}


def measured_flat(lamp: np.ndarray) -> np.ndarray:
    """Return a flat (y, x) with the scatter of its pixels and of the read-out."""
    rng = np.random.default_rng(0)
    response = 1 + 0.02 * rng.standard_normal((100, lamp.size))
    return np.asarray(20_000 * lamp * response + rng.normal(0, 5, response.shape))


@pytest.mark.parametrize("lamp", SHARP.values(), ids=SHARP.keys())
def test_edges_and_lines_of_the_lamp_are_followed(lamp: np.ndarray) -> None:
    found = lamp_colour(measured_flat(lamp)) / (20_000 * lamp)
    lit = lamp > 0.05
    assert np.isfinite(found[lit]).all()
    assert found[lit] == pytest.approx(1, abs=0.02)
    assert np.isnan(found[lamp < 0.008]).all()


@pytest.mark.parametrize(
    "lamp",
    [
        np.where(COLUMN < 301, 1.0, 0.98),
        np.where(COLUMN < 301, 1.0, 0.97),
        edge(0.5, 0.02, 0.92),
        line(0.5, 0.02, 2.0),
    ],
    ids=["step of 2 %", "step of 3 %", "edge of 8 %", "line of 2 %"],
)
def test_small_steps_of_the_lamp_of_a_calm_flat_are_followed(lamp: np.ndarray) -> None:
    found = lamp_colour(measured_flat(lamp)) / (20_000 * lamp)
    known = np.isfinite(found)
    assert known.mean() > 0.99
    assert found[known] / np.median(found[known]) == pytest.approx(1, abs=0.0125)


@pytest.mark.parametrize("lamp", SHARP.values(), ids=SHARP.keys())
def test_fringes_stay_in_the_flat_or_the_columns_are_doubtful(lamp: np.ndarray) -> None:
    found = lamp_colour(measured_flat(lamp * FRINGES)) / (20_000 * lamp)
    known = np.isfinite(found[15:-15])
    assert known.mean() > 0.6
    assert np.abs(found[15:-15][known] - 1).max() < 0.1
    assert np.percentile(np.abs(found[15:-15][known] - 1), 90) < 0.02


def test_fringes_alone_leave_no_column_in_doubt() -> None:
    found = lamp_colour(measured_flat(FRINGES))
    assert np.isfinite(found).all()
    assert found[15:-15] == pytest.approx(20_000, rel=0.01)


def test_columns_that_are_bright_or_dull_alone_are_no_lines() -> None:
    lamp = np.ones(600)
    lamp[200], lamp[400:406], lamp[500] = 1.5, 0.7, 0.2
    assert lamp_colour(measured_flat(lamp)) == pytest.approx(20_000, rel=0.005)


def test_a_charge_that_trails_behind_the_last_lit_column_is_no_light() -> None:
    for strength in (190, 900):
        flat = measured_flat(np.where(COLUMN < 584, 1.0, 0.0))
        flat[:, 584:] += strength * np.exp(-np.arange(16) / 8)
        found = lamp_colour(flat)
        assert found[:584] == pytest.approx(20_000, rel=0.005)
        assert np.isnan(found[584:]).all()


def test_unlit_rows_and_columns_do_not_count() -> None:
    flat = np.random.default_rng(2).normal(0, 1, (90, 400))
    flat[20:60, 50:350] += 1000 * LAMPS["curved"][50:350]
    expected = 1000 * LAMPS["curved"][55:345]
    found = lamp_colour(flat)
    assert found[55:345] == pytest.approx(expected, rel=0.002)
    assert np.isnan(found[:50]).all()
    assert np.isnan(found[350:]).all()


def test_nothing_lit_has_no_colour() -> None:
    assert np.isnan(lamp_colour(np.zeros((4, 9)))).all()


def test_a_quotient_is_float_and_exact() -> None:
    block, flat = np.array([[[7, 9]]], np.uint8), np.array([[2.0, 0.3]])
    assert np.array_equal(divide_by_flat(block, flat), block / flat)
