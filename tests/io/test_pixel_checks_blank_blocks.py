"""Blocks of the lowest value, as a program leaves them that marks missing pixels by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import arrayred as ar
from tests.io.test_pixel_checks_unsigned import bright, counts, wrapped_night, write


def warnings_of(folder: Path) -> list[str]:
    return [warning for frame in ar.open_night(folder).frames for warning in frame.warnings]


def test_a_block_of_the_lowest_value_is_warned_of(tmp_path: Path) -> None:
    pixels = counts(0.0).astype(np.int16)
    pixels[10:20, 30:40] = -32768
    write(tmp_path / "light.fit", pixels, "Light Frame")
    (warning,) = warnings_of(tmp_path)
    assert "of the pixels are -32768, as if missing, but BLANK is not set" in warning


def test_a_block_in_wrapped_counts_is_warned_of(tmp_path: Path) -> None:
    light = wrapped_night(tmp_path)
    pixels = bright().view(np.int16).copy()
    pixels[10:20, 30:40] = -32768
    light.unlink()
    write(light, pixels, "Light Frame")
    (warning,) = warnings_of(tmp_path)
    assert "are 32768" in warning


@pytest.mark.parametrize("blank", [None, -32768])
def test_single_pixels_and_marked_blocks_are_not(blank: int | None, tmp_path: Path) -> None:
    pixels = counts(0.0).astype(np.int16)
    pixels[10:20, 30:40] = -32768 if blank else pixels[10:20, 30:40]
    pixels[3, 3] = -32768
    write(tmp_path / "light.fit", pixels, "Light Frame", **({"BLANK": blank} if blank else {}))
    assert warnings_of(tmp_path) == []


def test_a_broad_level_at_that_value_is_none(tmp_path: Path) -> None:
    light = wrapped_night(tmp_path)
    light.unlink()
    write(light, counts(32768.0).astype(np.uint16).view(np.int16), "Flat Field")
    assert warnings_of(tmp_path) == []
