"""Flats against slow, obvious arithmetic, and lamps whose colour is known."""

from __future__ import annotations

import numpy as np
import pytest

from arrayred.steps import divide_by_flat, illuminated_level, lamp_colour, scaled_median

X = np.linspace(-1, 1, 400)
LAMPS = {
    "even": np.ones_like(X),
    "steep": 1.0 + 0.9 * X,
    "curved": 1.0 - 0.4 * (X - 0.2) ** 2,
    "cool": np.exp(2.5 * X),
    "filtered": (1.0 + 0.3 * X) / (1 + np.exp(-(X + 0.5) / 0.15)),
}


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
