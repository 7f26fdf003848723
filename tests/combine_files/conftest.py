"""Frames on disk whose combination is known: `write`, a function that makes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

BASE = {"IMAGETYP": "Dark Frame", "EXPTIME": 60.0, "DATE-OBS": "2026-01-02T03:00:00"}
Write = Callable[..., list[str]]


def write_frame(path: Path, pixels: NDArray[Any], **cards: Any) -> str:
    """Write one frame; a card of None is left out, underscores stand for hyphens."""
    header = fits.Header()
    for keyword, value in (BASE | {k.replace("_", "-"): v for k, v in cards.items()}).items():
        if value is not None:
            header[keyword] = value
    fits.PrimaryHDU(pixels, header).writeto(path)
    return str(path)


@pytest.fixture
def cube() -> NDArray[Any]:
    """Return 7 frames of 13 x 17 uint16 pixels over the whole range."""
    return np.random.default_rng(1).integers(0, 65536, (7, 13, 17), np.uint16)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes frames f0.fits, f1.fits, ... and returns their paths."""

    def frames(pixels: NDArray[Any], **cards: Any) -> list[str]:
        return [write_frame(tmp_path / f"f{i}.fits", p, **cards) for i, p in enumerate(pixels)]

    return frames
