"""Stars that move between light frames: along the slit, and along the dispersion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

import arrayred as ar
from arrayred.steps.motion import Values, spectral_shifts
from benchmarks.truth.independent import Exposure, IndependentNight, Sky, Source
from benchmarks.truth.kinds import KINDS, misses, outcome

RIGHT = [
    "nod along the slit",
    "nod of two lights",
    "nod of a faint star",
    "nod in a leaning slit",
    "drift along the slit",
    "drift by less than a FWHM, tracks",
    "two stars of one name",
    "drift along the dispersion",
]


@pytest.mark.parametrize("name", RIGHT)
def test_a_moving_star_keeps_its_flux_and_is_said_to_move(name: str) -> None:
    assert list(misses(KINDS[name], [outcome(KINDS[name], 0)])) == []


LINES = tuple((15.0 + 24 * i, 5000.0, 1.6) for i in range(16))


STAR = Source(60.6, 12_000.0, tilt=2.0, lines=LINES)
NOD = IndependentNight((STAR,), exposures=[Exposure(rows=row) for row in (0.0, 20.0, 0.0)])


def spectrum_of(folder: Path, exposures: list[Exposure], **more: Any) -> Any:
    night = IndependentNight((STAR,), exposures=exposures, **more).write(folder)
    return ar.reduce_night(night)["targets/Star/spectrum"].to_dataset()


@pytest.fixture(scope="module")
def nod(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the frames of a nod by 20 rows."""
    return NOD.write(tmp_path_factory.mktemp("nod"))


@pytest.fixture(scope="module")
def products(nod: Path) -> xr.DataTree:
    """Return what the nod is reduced to."""
    return ar.reduce_night(nod, ar.Recipe(per_frame=True), chunks=None)["targets/Star"]


def test_each_frame_of_a_nod_is_extracted_at_its_star(products: xr.DataTree) -> None:
    frames = products["frames"].to_dataset()
    assert np.abs(frames["offset"].values - [0, 20, 0]).max() < 0.1
    flux = frames["flux"].values.sum(axis=1)
    assert np.ptp(flux) < 0.01 * flux.mean()


def test_light_that_leans_across_the_slit_is_put_upright(tmp_path: Path) -> None:
    nod = [Exposure(rows=row) for row in (0.0, 50.0, 0.0)]
    spectrum = spectrum_of(tmp_path, nod, sky=Sky(lean=0.027))
    assert abs(spectrum.attrs["drift_rows"] - 50) < 0.1
    assert abs(spectrum.attrs["drift_columns"] - 1.35) < 0.15
    peaks = spectrum["flux"].values[[int(at) - 1 for at, _, _ in LINES[1:-1]]]
    assert peaks.mean() > 8000 + 0.96 * 831


def test_an_ordinary_drift_is_measured_and_no_remark(tmp_path: Path) -> None:
    drift = [Exposure(rows=0.3 * n) for n in range(3)]
    spectrum = spectrum_of(tmp_path, drift)
    assert abs(spectrum.attrs["drift_rows"] - 0.6) < 0.05
    assert "remarks" not in spectrum.attrs


def test_the_order_of_the_frames_does_not_matter(tmp_path: Path) -> None:
    nod = [Exposure(rows=row) for row in (0.0, 20.0, 0.0, 20.0)]
    night = IndependentNight((Source(60.6, 12_000.0, lines=LINES),), exposures=nod)
    opened = ar.open_night(night.write(tmp_path))
    (target,) = ar.make_plan(opened).targets
    lights = target.lights.cube()
    forth = ar.reduce_target(lights, None, ar.Recipe())["spectrum"]
    back = ar.reduce_target(lights.isel(frame=[3, 1, 2, 0]), None, ar.Recipe())["spectrum"]
    np.testing.assert_allclose(forth["flux"].values, back["flux"].values, rtol=1e-6)


def test_chunks_do_not_matter_to_a_nod(nod: Path, products: xr.DataTree) -> None:
    banded = ar.reduce_night(nod, chunks=61)["targets/Star/spectrum"]
    for name in ("flux", "variance", "dq"):
        np.testing.assert_array_equal(products["spectrum"][name].values, banded[name].values)


def test_a_night_dispersed_along_columns_moves_alike(products: xr.DataTree, tmp_path: Path) -> None:
    for name, (pixels, header) in NOD.frames().items():
        header["DISPAXIS"] = 2
        fits.PrimaryHDU(pixels.T.copy(), header).writeto(tmp_path / name)
    upright = ar.reduce_night(tmp_path)["targets/Star/spectrum"].flux.values
    np.testing.assert_allclose(products["spectrum"].flux.values, upright, rtol=2e-3)


def lights_of(depth: float, n_frames: int, tracks: int) -> tuple[Values, Values]:
    """Return spectra (frame, x) with 20 lines and noise of 4 % each, and their shifts, pixels."""
    rng = np.random.default_rng(5)
    x, shifts = np.arange(600.0), rng.normal(0.0, 0.3, n_frames)
    places = rng.uniform(30, 570, 20)[:, np.newaxis]
    spectra = []
    for by in shifts:
        lines = np.add.reduce(np.exp(-((x - places - by) ** 2) / 8))
        one = 100 * (1 - depth * lines) + rng.normal(0, 4, x.size)
        one[rng.integers(0, x.size, tracks)] += rng.uniform(50, 800, tracks)
        spectra.append(one)
    return np.array(spectra), shifts - shifts.mean()


@pytest.mark.parametrize("n_frames", [2, 3, 4, 10])
def test_a_star_without_lines_is_not_said_to_drift(n_frames: int) -> None:
    rng = np.random.default_rng(n_frames)
    told = [spectral_shifts(100 + rng.normal(0, 8, (n_frames, 600)))[0] for _ in range(20)]
    assert not np.isfinite(told).any()


@pytest.mark.parametrize("n_frames", [2, 3, 4, 10])
def test_tracks_of_cosmic_rays_are_no_lines_that_moved(n_frames: int) -> None:
    spectra, shifts = lights_of(0.5, n_frames, tracks=3)
    assert np.abs(spectral_shifts(spectra)[0] - shifts).max() < 0.1
    assert not np.isfinite(spectral_shifts(lights_of(0.0, n_frames, tracks=2)[0])[0]).any()


def test_columns_of_more_noise_are_no_lines_that_drift() -> None:
    told = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        noise = np.where(rng.random(400) < 0.01, 30.0, 5.0)
        shifts, _ = spectral_shifts(100.0 + noise * rng.standard_normal((3, 400)))
        told += bool(np.isfinite(shifts).all())
    assert told == 0
