"""Spectra of simulated nights against the noiseless truth, in units of the noise."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import arrayred as ar
from arrayred.model import X, Y
from arrayred.simulate import Detector, SimulatedNight, Sky, Star

DETECTOR = Detector(shape=(100, 1000), read_noise=8.0)
ROWS, OFFSET = (50, 61), 20
BAND = slice(61 + OFFSET, 61 + OFFSET + 11)


def spectrum_of(night: SimulatedNight) -> xr.Dataset:
    """Reduce a night in memory, its rows given."""
    frames = np.stack([frame.pixels for frame in night.frames()])
    dims, coords = (("frame", Y, X)), {Y: np.arange(1, 101), X: np.arange(1, 1001), "gain": 1.5}
    cube = xr.Dataset({"counts": (dims, frames, {"units": "adu"})}, coords)
    n_darks = night.n_darks
    darks, lights = cube.isel(frame=slice(n_darks)), cube.isel(frame=slice(n_darks, None))
    dark = ar.measure_noise(ar.combine(darks, "median"), darks)
    image = ar.estimate_noise(ar.combine(lights, minus=dark), lights, minus=dark)
    rows = ar.detect_rows(image, rows=ROWS)
    return ar.subtract_sky(ar.extract(image, rows), image, rows, offset=OFFSET)


def net(plane: xr.DataArray) -> NDArray[np.float64]:
    """Return the sum over the spectrum's rows less that over the sky band."""
    return np.asarray(plane.sel({Y: slice(*ROWS)}).sum(Y) - plane.sel({Y: BAND}).sum(Y))


@pytest.mark.parametrize("profile", ["gaussian", "moffat"])
def test_spectra_scatter_about_the_truth_as_the_simulator_says(profile: str) -> None:
    star = Star(row=55.5, tilt=2.0, seeing=4.0, profile=profile)  # type: ignore[arg-type]
    sky = Sky(level=0.2, lines=((500.0, 1.0, 2.0),))
    pulls = []
    for seed in range(20):
        night = SimulatedNight(DETECTOR, star, sky=sky, n_darks=1, n_lights=1, seed=seed)
        truth = night.truth()
        noise = truth.light_variance + truth.dark_variance
        variance = noise.sel({Y: slice(*ROWS)}).sum(Y) + noise.sel({Y: BAND}).sum(Y)
        flux = spectrum_of(night).flux.values
        pulls.append((flux - net(truth.star)) / np.sqrt(variance.values))
    values = np.concatenate(pulls)
    assert values.size == 20_000
    assert abs(values.mean()) < 0.03
    assert abs(values.std() - 1) < 0.05


def test_the_uncertainty_of_the_flux_is_its_scatter() -> None:
    night = SimulatedNight(DETECTOR, Star(row=55.5), n_darks=25, n_lights=9, seed=3)
    spectrum = spectrum_of(night)
    pulls = (spectrum.flux.values - net(night.truth().star)) / np.sqrt(spectrum.variance.values)
    assert abs(pulls.std() - 1) < 0.1
