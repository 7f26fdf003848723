"""Apertures with edges between rows, against areas worked out one pixel at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrayred.steps import aperture_pixels, gather_pixels


@given(st.floats(5, 25), st.floats(0.3, 12))
def test_the_parts_of_the_pixels_add_up_to_the_height(center: float, half: float) -> None:
    found = aperture_pixels(np.array([center, center + 0.4]), half, 60)
    assert found.part.sum(axis=0) == pytest.approx(2 * half)
    assert found.part.max() <= 1


@given(st.floats(10, 40), st.floats(0.3, 8))
def test_each_part_is_what_lies_between_the_edges(center: float, half: float) -> None:
    found = aperture_pixels(np.array([center]), half, 60)
    for row, part in zip(found.position[:, 0], found.part[:, 0], strict=True):
        low, high = max(row - 0.5, center - half), min(row + 0.5, center + half)
        assert part == pytest.approx(max(high - low, 0.0), abs=1e-9)


def test_whole_rows_are_taken_whole_and_no_others() -> None:
    found = aperture_pixels(np.full(3, 10.5), 3.0, 40)
    assert found.position[:, 0].tolist() == [8, 9, 10, 11, 12, 13]
    assert (found.part == 1).all()


def test_pixels_off_the_image_are_told_and_do_not_wrap() -> None:
    plane = np.arange(20.0)[:, np.newaxis] * np.ones(2)
    found = aperture_pixels(np.array([1.0, 18.0]), 3.5, 20)
    assert found.on_image[:, 0].tolist() == [False, False, True, True, True, True, True]
    assert gather_pixels(plane, found)[:, 0].tolist() == [0, 0, 0, 1, 2, 3, 4]
    assert gather_pixels(plane, found)[:, 1].tolist() == [15, 16, 17, 18, 19, 19, 19]


def test_pixels_follow_the_trace() -> None:
    plane = np.arange(50.0)[:, np.newaxis] + np.zeros(5)
    center = np.array([10.0, 12.3, 20.0, 20.9, 30.5])
    found = aperture_pixels(center, 4.0, 50)
    assert np.allclose(gather_pixels(plane, found) - center, found.away)
