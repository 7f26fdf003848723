"""From pixel values to levels of a screen."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrayred.explore import MOST_DOTS, BlockStatistic, Window, levels, picture
from arrayred.plots.panels import Scale, Stretch, stretch_of

SCALES = get_args(Scale)


def test_a_large_detector_is_sent_as_a_million_dots_at_most() -> None:
    pixels = np.zeros((4096, 4096), np.uint16)
    values, factor = picture(pixels, Window.whole((4096, 4096)))
    assert factor == 5
    assert values.size <= MOST_DOTS


def test_a_small_window_of_a_large_detector_shows_single_pixels() -> None:
    pixels = np.arange(4096 * 4096, dtype=np.int32).reshape(4096, 4096)
    values, factor = picture(pixels, Window(4000, 4100, 10, 20))
    assert factor == 1
    np.testing.assert_array_equal(values, pixels[4000:4100, 10:20])


def test_a_peak_keeps_what_a_mean_dilutes() -> None:
    pixels = np.zeros((2, 2), np.uint16)
    pixels[1, 0] = 4000
    whole = Window.whole((2, 2))
    shown = [picture(pixels, whole, how, most=1).values.item() for how in get_args(BlockStatistic)]
    assert shown == [1000.0, 4000.0]


@given(st.floats(-50, 50), st.floats(0, 50), st.integers(1, 40))
def test_a_window_is_never_empty_and_never_off_the_image(low: float, size: float, n: int) -> None:
    window = Window.around((low, low + size), (low, low + size), (n, n))
    assert 0 <= window.row < window.row_stop <= n
    assert 0 <= window.column < window.column_stop <= n


@pytest.mark.parametrize("scale", SCALES)
def test_brighter_pixels_never_look_darker(scale: Scale) -> None:
    shown = levels(np.linspace(-10, 200, 500), Stretch(0.0, 100.0, 0.0, 5.0, scale))
    assert shown.min() == 1
    assert shown.max() == 255
    assert (np.diff(shown.astype(int)) >= 0).all()


def test_faint_pixels_are_lifted_by_asinh_and_log() -> None:
    faint = np.array([5.0])
    shown = {scale: levels(faint, Stretch(0.0, 100.0, 0.0, 5.0, scale))[0] for scale in SCALES}
    assert shown["linear"] < shown["asinh"] < shown["log"]


def test_pixels_without_a_number_have_a_level_of_their_own() -> None:
    stretch = Stretch(0.0, 1.0, 0.0, 1.0, "linear")
    assert levels(np.array([np.nan, np.inf, 1.0]), stretch).tolist() == [0, 0, 255]


def test_limits_are_percentiles_of_what_is_finite() -> None:
    values = np.append(np.arange(101.0), [np.nan, np.inf])
    assert stretch_of(values, (1, 99))[:2] == pytest.approx((1.0, 99.0))


@pytest.mark.parametrize("values", [np.full(9, 7.0), np.full(9, np.nan)])
def test_limits_of_a_flat_or_empty_image_are_apart(values: np.ndarray) -> None:
    low, high = stretch_of(values, (1, 99))[:2]
    assert low < high
