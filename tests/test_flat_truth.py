"""Flat fields and overscans of simulated nights against the truth, and beside ccdproc."""

from __future__ import annotations

from pathlib import Path

import ccdproc
import numpy as np
import pytest
import xarray as xr
from astropy import units
from astropy.nddata import CCDData
from numpy.typing import NDArray

import arrayred as ar
from arrayred.io import write_frames
from arrayred.kernels import clipped_std
from arrayred.model import Section
from arrayred.simulate import Detector, Lamps, SimulatedNight, Sky, Star
from arrayred.steps import divide_flat, subtract_overscan, trim, with_bad_pixels
from arrayred.steps.combine import combine
from tests.steps import cube_of, image_of

SHAPE = (200, 384)
NIGHT = SimulatedNight(
    Detector(shape=SHAPE, response_scatter=0.02, vignetting=0.2, full_well=1e6, gain=4.0),
    Star(flux=2000.0, lines=(), row=120.5, tilt=0.0),
    sky=Sky(lines=()), lamps=Lamps(flat_level=20000.0),
    n_biases=15, n_flats=11, n_lights=9,
)  # fmt: skip
Image = NDArray[np.float64]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flats")
    write_frames(NIGHT.frames(), folder)
    return folder


@pytest.fixture(scope="module")
def tree(written: Path) -> xr.DataTree:
    return ar.reduce_night(written)


def vignetting() -> Image:
    """Return what the detector's smooth loss of light is, without the scatter of pixels."""
    y, x = np.linspace(-1, 1, SHAPE[0])[:, np.newaxis], np.linspace(-1, 1, SHAPE[1])
    return np.asarray(1 - 0.2 * (x**2 + y**2) / 2)


def expected() -> Image:
    """Return the flat that a perfect observer would make: the slit's middle is 1 in each column."""
    return np.asarray(NIGHT.truth().response.values / np.median(vignetting(), axis=0))


def test_less_than_three_thousandths_of_the_pixels_response_are_left(tree: xr.DataTree) -> None:
    left = tree["masters/flat/Flat_lamp"].counts.values / expected()
    assert np.std(left / np.median(left, axis=0)) < 0.003
    assert expected().std() > 0.03


def test_less_than_two_thousandths_of_the_lamps_colour_are_left(tree: xr.DataTree) -> None:
    left = np.median(tree["masters/flat/Flat_lamp"].counts.values / expected(), axis=0)
    smooth = np.convolve(left, np.full(24, 1 / 24), "valid")
    assert np.ptp(smooth) / 2 < 0.002


def test_the_star_keeps_its_colour(tree: xr.DataTree) -> None:
    spectrum = tree["targets/Simulated_star/spectrum"]
    column_loss = np.median(vignetting(), axis=0)
    ratio = spectrum.flux.values / (NIGHT.truth().flux.values * column_loss)
    blue_to_red = [np.mean(part) for part in np.array_split(ratio, 8)]
    assert np.ptp(blue_to_red) / np.mean(blue_to_red) < 0.004


def test_a_flat_lowers_the_scatter_from_column_to_column_tenfold(
    tree: xr.DataTree, written: Path
) -> None:
    plain = ar.reduce_night(written, ar.Recipe(flat=False))
    scatters = [
        np.std(np.diff(one["targets/Simulated_star/spectrum"].flux / NIGHT.truth().flux))
        for one in (plain, tree)
    ]
    assert scatters[0] > 0.005
    assert scatters[0] > 10 * scatters[1]


# The flat's own noise, which is common to all lights

NOISY = SimulatedNight(
    Detector(shape=SHAPE, response_scatter=0.02),
    Star(flux=500.0, lines=(), row=120.5),
    sky=Sky(level=5.0, lines=()), lamps=Lamps(flat_level=45.0),
    n_biases=5, n_flats=3, n_lights=5,
)  # fmt: skip


def pull_width(image: xr.Dataset, variance: Image) -> float:
    """Return by how many sigma the pixels lie from the light that fell on them, typically."""
    truth = NOISY.truth()
    light = truth.star / truth.response + truth.sky
    return clipped_std(((image.counts - light) / np.sqrt(variance)).values)


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noisy")
    write_frames(NOISY.frames(), folder)
    return folder


@pytest.mark.parametrize("method", ["average", "median"])
def test_images_scatter_as_their_variance_says_only_with_the_noise_of_the_flat(
    noisy: Path, method: str
) -> None:
    tree = ar.reduce_night(noisy, ar.Recipe().replace(combine=method))
    image, flat = tree["targets/Simulated_star/combined"], tree["masters/flat/Flat_lamp"]
    assert pull_width(image, image.variance) == pytest.approx(1, abs=0.02)
    of_the_flat = (image.counts / flat.counts) ** 2 * flat.variance
    assert pull_width(image, image.variance - of_the_flat) > 2


# The same calibration by ccdproc, on frames with an overscan


def frames_with_overscan() -> tuple[Image, Image, Image]:
    """Return frames (frame, y, x) of integers, a dark that is trimmed, and a flat."""
    rng = np.random.default_rng(0)
    return (
        rng.integers(900, 30000, (3, 60, 80)).astype(np.uint16),
        rng.normal(20, 3, (60, 68)),
        rng.normal(1, 0.02, (60, 68)),
    )


def by_ccdproc(frame: Image, dark: Image, flat: Image) -> Image:
    one = CCDData(frame.astype("f8"), unit="adu")
    one = ccdproc.subtract_overscan(one, fits_section="[1:12,1:60]", median=True)
    one = ccdproc.trim_image(one, fits_section="[13:80,1:60]")
    exposure = 60 * units.second
    one = ccdproc.subtract_dark(
        one, CCDData(dark, unit="adu"), dark_exposure=exposure, data_exposure=exposure
    )
    one = ccdproc.flat_correct(one, CCDData(flat, unit="adu"), norm_value=1.0)
    return np.asarray(one.data)


def test_calibrated_frames_equal_ccdprocs_to_the_last_bit() -> None:
    pixels, dark, flat = frames_with_overscan()
    cube = subtract_overscan(cube_of(pixels), Section((1, 12), (1, 60)), method="median")
    cube = trim(cube, Section((13, 80), (1, 60)))
    images = [image_of(each).assign_coords(x=cube.x) for each in (dark, flat)]
    ours = divide_flat(ar.subtract_dark(cube, images[0]), with_bad_pixels(images[1]))
    for frame, found in zip(pixels, ours.counts.values, strict=True):
        assert np.array_equal(found, by_ccdproc(frame, dark, flat))


def test_the_combined_image_equals_that_of_ccdprocs_frames() -> None:
    pixels, dark, flat = frames_with_overscan()
    cube = subtract_overscan(cube_of(pixels), Section((1, 12), (1, 60)), method="median")
    cube = trim(cube, Section((13, 80), (1, 60)))
    images = [image_of(each).assign_coords(x=cube.x) for each in (dark, flat)]
    ours = divide_flat(combine(cube, minus=images[0]), with_bad_pixels(images[1]))
    theirs = np.mean([by_ccdproc(frame, dark, flat) for frame in pixels], axis=0)
    few_ulps_of_the_counts = 4 * np.spacing(30000.0)
    np.testing.assert_allclose(ours.counts.values, theirs, rtol=0, atol=few_ulps_of_the_counts)
