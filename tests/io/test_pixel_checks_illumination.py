"""Flats that correct nothing are told from some of their pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from arrayred.config import Instrument
from arrayred.io import Frame, read_frames, why_flat_unusable, write_frames
from arrayred.simulate import SimulatedFrame

SHAPE = (120, 200)
RNG = np.random.default_rng(0)


def written(folder: Path, kind: str, pixels: NDArray[np.float64]) -> Frame:
    cards = {"IMAGETYP": kind, "EXPTIME": 10.0}
    counts = np.clip(np.rint(pixels), 0, 65535).astype(np.uint16)
    paths = write_frames([SimulatedFrame(f"{kind}.fit", cards, counts)], folder)
    return read_frames(paths, Instrument.load("generic"))[0][0]


@pytest.fixture
def bias(tmp_path: Path) -> Frame:
    return written(tmp_path, "bias", RNG.normal(1000, 8, SHAPE))


def lamp(level: float, top: float = 65535.0) -> NDArray[np.float64]:
    """Return a lit slit in a dark frame, cut at a highest value."""
    light = np.zeros(SHAPE)
    light[20:100] = level * np.linspace(0.5, 1, SHAPE[1])
    return np.minimum(1000 + light + RNG.normal(0, 8, SHAPE) * np.sqrt(1 + light / 64), top)


@pytest.mark.parametrize("level", [200, 2000, 30000, 60000])
def test_a_lit_flat_is_fit(tmp_path: Path, bias: Frame, level: float) -> None:
    assert why_flat_unusable(written(tmp_path, "flat", lamp(level)), bias) == ""


@pytest.mark.parametrize("top", [65535, 16383, 4095, 40000])
def test_a_plateau_is_saturation_at_any_level(tmp_path: Path, bias: Frame, top: float) -> None:
    reason = why_flat_unusable(written(tmp_path, "flat", lamp(1.6 * top, top)), bias)
    assert reason.startswith("saturated")
    assert f"at {top:g}" in reason


@pytest.mark.parametrize("level", [0, 5])
def test_a_lamp_that_was_off_is_too_faint(tmp_path: Path, bias: Frame, level: float) -> None:
    assert why_flat_unusable(written(tmp_path, "flat", lamp(level)), bias).startswith("too faint")


def test_a_corrected_flat_needs_no_dark(tmp_path: Path) -> None:
    assert why_flat_unusable(written(tmp_path, "flat", lamp(5000) - 1000), None) == ""


@pytest.mark.parametrize(("n_lit", "fits"), [(60, True), (20, True), (8, False), (4, False)])
def test_a_star_is_no_flat_and_a_short_slit_is_one(
    tmp_path: Path, bias: Frame, n_lit: int, fits: bool
) -> None:
    pixels = RNG.normal(1000, 8, SHAPE)
    pixels[55 : 55 + n_lit] += 5000
    reason = why_flat_unusable(written(tmp_path, "flat", pixels), bias)
    assert (reason == "") == fits
    assert fits or "% of its pixels only" in reason or "too faint" in reason
