"""Pedestals: taken off where letters and pixels tell of one, whatever their sign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

import arrayred as ar
from tests.io.test_pixel_checks_unsigned import counts, write

KINDS = {"i2": np.int16, "u2": np.uint16, "i4": np.int32, "f4": np.float32, "f8": np.float64}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pedestal", [-100, 100, 100.0])
@pytest.mark.parametrize("chunks", [None, 7])
def test_a_pedestal_is_taken_off_whatever_its_sign(
    kind: str, pedestal: float, chunks: int | None, tmp_path: Path
) -> None:
    values = counts(118.0).astype(KINDS[kind])
    write(tmp_path / "light.fit", values, "Light Frame", CALSTAT="D", PEDESTAL=pedestal)
    cube = ar.open_frames(tmp_path, chunks)
    assert np.array_equal(cube.counts.values[0], values.astype(float) - 100.0)


@pytest.mark.parametrize(
    "cards", [{"CALSTAT": ""}, {"CALSTAT": "B"}, {"PEDESTAL": 0}, {"PEDESTAL": "100"}]
)
def test_other_frames_keep_what_they_hold(cards: dict[str, Any], tmp_path: Path) -> None:
    values = counts(118.0).astype(np.float32)
    write(
        tmp_path / "light.fit", values, "Light Frame", **{"CALSTAT": "D", "PEDESTAL": 100} | cards
    )
    assert np.array_equal(ar.open_frames(tmp_path).counts.values[0], values)


def test_a_pedestal_that_the_pixels_do_not_hold_is_only_remarked(tmp_path: Path) -> None:
    values = counts(18.0).astype(np.float32)
    path = write(tmp_path / "light.fit", values, "Light Frame", CALSTAT="D", PEDESTAL=-100)
    (found,) = ar.open_night(tmp_path).frames
    (warning,) = found.warnings
    assert "PEDESTAL is 100, but the pixels do not contain it (level 1" in warning
    assert np.array_equal(ar.open_frames(path).counts.values[0], fits.getdata(path))


def test_a_pedestal_is_a_verdict_of_the_plan(tmp_path: Path) -> None:
    values = counts(118.0).astype(np.int16)
    write(tmp_path / "light.fit", values, "Light Frame", CALSTAT="D", PEDESTAL=-100)
    (found,) = ar.open_night(tmp_path).frames
    assert found.verdicts == (("header", "read with the pedestal 100 subtracted"),)


def test_compressed_frames_lose_their_pedestal_too(tmp_path: Path) -> None:
    header = fits.Header({"IMAGETYP": "Light Frame", "EXPTIME": 60.0, "CALSTAT": "D"})
    header["PEDESTAL"] = 100
    values = counts(118.0).astype(np.int16)
    fits.CompImageHDU(values, header, compression_type="RICE_1").writeto(tmp_path / "light.fits.fz")
    assert np.array_equal(ar.open_frames(tmp_path).counts.values[0], values - 100.0)
