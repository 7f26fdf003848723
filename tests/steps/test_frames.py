"""Spectra frame by frame: one aperture that goes with the star, and the middle of each exposure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from arrayred.model import Rows
from arrayred.steps import extract_along, extract_frames, trace_offset
from tests.steps import cube_of, image_of

SHAPE, ROW, NOISE = (60, 240), 30.0, 4.0
ROWS = Rows(23, 37, 15, 0.0, 1.0, 4.0, 4.0)
DRIFTS, LIGHT = (0.0, 1.3, -2.2), (20_000.0, 24_000.0, 16_000.0)
STARTS = np.array(["2024-03-09T20:00", "2024-03-09T20:10", "NaT"], "datetime64[ns]")


def star(drift: float, light: float, seed: int) -> xr.Dataset:
    """Return an image of a star whose trace rises by 2 rows, with its variance."""
    y, x = np.arange(1.0, SHAPE[0] + 1)[:, np.newaxis], np.linspace(-1, 1, SHAPE[1])
    bell = np.exp(-0.5 * ((y - ROW - drift - x) / 2.0) ** 2) / (2.0 * np.sqrt(2 * np.pi))
    variance = NOISE**2 + light * bell
    counts = light * bell + np.random.default_rng(seed).normal(0, np.sqrt(variance))
    return image_of(counts).assign(variance=(("y", "x"), variance.astype("f4")))


def trace() -> xr.Dataset:
    x = np.arange(1, SHAPE[1] + 1)
    attrs = {"fwhm": 4.71, "trace": "fit"}
    return xr.Dataset({"center": ("x", ROW + np.linspace(-1, 1, x.size))}, {"x": x}, attrs)


def extract(image: xr.Dataset, moved: xr.Dataset) -> xr.Dataset:
    return extract_along(image, moved, half_height=6.0)


@pytest.fixture(scope="module")
def frames() -> xr.Dataset:
    images = [
        star(drift, light, i) for i, (drift, light) in enumerate(zip(DRIFTS, LIGHT, strict=True))
    ]
    return extract_frames(images, lights(), trace(), ROWS, extract)


def lights() -> xr.Dataset:
    coords: dict[str, Any] = {
        "frame": ["star-1", "star-2", "star-3"],
        "time": ("frame", STARTS),
        "exptime": ("frame", [60.0, 90.0, 60.0]),
    }
    return cube_of(np.zeros((3, 2, 2)), **coords)


def test_each_frame_has_its_own_light(frames: xr.Dataset) -> None:
    assert frames.flux.dims == ("frame", "x")
    within = 0.9973 * np.array(LIGHT)[:, np.newaxis]  # three sigma of a bell curve
    pulls = (frames.flux.values - within) / np.sqrt(frames.variance.values)
    assert np.abs(pulls.mean(axis=1)).max() < 0.25
    assert pulls.std() == pytest.approx(1, abs=0.1)
    assert frames.flux.attrs["units"] == "adu"


def test_the_aperture_goes_with_the_star(frames: xr.Dataset) -> None:
    assert frames.offset.values == pytest.approx(DRIFTS, abs=0.05)
    assert frames.offset.attrs["units"] == "pix"
    stays = extract_frames(
        [star(-2.2, 16_000.0, 2)], lights().isel(frame=[2]), trace(), ROWS, extract, follow=False
    )
    assert stays.offset.values.tolist() == [0.0]
    assert stays.flux.values.mean() < 0.995 * frames.flux.values[2].mean()


def test_the_middle_of_an_exposure_is_half_of_it_after_its_start(frames: xr.Dataset) -> None:
    middles = frames.time_mid.values
    assert list(middles[:2]) == list(
        np.array(["2024-03-09T20:00:30", "2024-03-09T20:10:45"], "datetime64[ns]")
    )
    assert np.isnat(middles[2])
    assert frames.exptime.values.tolist() == [60.0, 90.0, 60.0]


def test_a_star_too_faint_to_be_followed_keeps_the_trace_and_it_is_said() -> None:
    images = [star(0.0, 20_000.0, 0), star(1.3, 0.0, 1), star(0.0, 20_000.0, 2)]
    found = extract_frames(images, lights(), trace(), ROWS, extract)
    assert found.offset.values[1] == 0
    assert found.extraction.values.tolist() == ["optimal", "sum", "optimal"]
    (remark,) = found.attrs["remarks"]
    assert remark.startswith("1 frame is too faint")


def test_light_far_from_the_trace_is_another_star() -> None:
    assert np.isnan(trace_offset(star(0.0, 0.0, 0), trace(), ROWS))
    assert trace_offset(star(0.7, 9000.0, 0), trace(), ROWS) == pytest.approx(0.7, abs=0.05)


def test_frames_without_a_time_have_no_middle() -> None:
    cube = cube_of(np.zeros((1, 2, 2)), frame=["star-1"])
    found = extract_frames([star(0.0, 20_000.0, 0)], cube, trace(), ROWS, extract)
    assert not {"time_mid", "exptime"} & set(found.coords)
