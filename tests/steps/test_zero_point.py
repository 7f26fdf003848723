"""The zero point of wavelengths, by lines of the sky, of the air and of a star."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from arrayred.errors import LampError
from arrayred.steps.zero_point import (
    BALMER_LINES,
    SKY_LINES,
    measure_zero_point,
    oxygen_absorption,
)

X = np.arange(1, 1001)
FINE = np.arange(4000.0, 7600.0, 0.1)


def spectrum_of(
    light: Any, power: float, first: float, step: float, shift: float, noise: float = 0.004
) -> xr.Dataset:
    """Return what a spectrograph sees of light over `FINE`, displaced by a shift, pixels."""
    rng = np.random.default_rng(3)
    wave = first + step * (X - 1)
    sigma = float(np.median(wave)) / power / 2.3548 / 0.1
    reach = np.arange(-int(5 * sigma), int(5 * sigma) + 1)
    kernel = np.exp(-0.5 * (reach / sigma) ** 2)
    smooth = np.convolve(light, kernel / kernel.sum(), "same")
    values = 1e4 * np.interp(wave - shift * step, FINE, smooth)
    sigmas = noise * 1e4 * np.ones(X.size)
    values = values + rng.normal(0.0, sigmas)
    return xr.Dataset(
        {"flux": ("x", values), "sky": ("x", values), "variance": ("x", sigmas**2)},
        coords={"x": X, "wavelength": ("x", wave), "extrapolated": ("x", X < 3)},
        attrs={"resolving_power": power},
    )


def air(column: float) -> Any:
    grid, absorbed = oxygen_absorption(column)
    return 1.0 - np.interp(FINE, grid, absorbed, left=0.0, right=0.0)


def lines(waves: Any, fwhm: float, height: float) -> Any:
    places = np.array(waves)[:, np.newaxis]
    bells = np.exp(-0.5 * ((FINE - places) * 2.3548 / fwhm) ** 2)
    return 1.0 + height * np.add.reduce(bells)


@pytest.mark.parametrize(("power", "step"), [(700.0, 3.0), (1500.0, 1.6), (3400.0, 0.98)])
@pytest.mark.parametrize("shift", [-3.4, 0.3])
@pytest.mark.parametrize("column", [0.8, 1.7])
def test_the_oxygen_of_the_air_tells_the_zero_point(
    power: float, step: float, shift: float, column: float
) -> None:
    spectrum = spectrum_of(air(column), power, 6450.0 if step < 2 else 5500.0, step, shift)
    found = measure_zero_point(spectrum, "oxygen")
    assert abs(found.pixels - shift) < 0.1
    assert found.error < 0.15


def test_the_computed_lines_of_oxygen_are_those_of_the_solar_spectrum() -> None:
    grid, absorbed = oxygen_absorption()
    known = [6883.83, 6886.74, 6889.90, 6893.31, 6896.96, 6900.87, 6905.03, 6909.43, 6914.09]
    known += [6919.00, 6924.17, 6885.75, 6888.95, 6892.37, 6896.04, 6904.12, 6908.53, 6913.20]
    for wave in known:
        near = np.abs(grid - wave) < 0.3
        assert abs(float(grid[near][np.argmax(absorbed[near])]) - wave) < 0.025


def test_a_band_of_another_kind_is_refused() -> None:
    titanium = 1.0 - 0.5 * ((FINE > 6815) & (FINE < 6930)) * (6930 - FINE) / 115
    with pytest.raises(LampError, match="cool stars"):
        measure_zero_point(spectrum_of(titanium, 1500.0, 6100.0, 1.6, 0.0), "oxygen")


def test_without_oxygen_there_is_no_zero_point_by_it() -> None:
    with pytest.raises(LampError, match="is not detected"):
        measure_zero_point(spectrum_of(np.ones(FINE.size), 1500.0, 6100.0, 1.6, 0.0), "oxygen")
    with pytest.raises(LampError, match="covers"):
        measure_zero_point(spectrum_of(air(1.0), 1500.0, 4100.0, 1.6, 0.0), "oxygen")


@pytest.mark.parametrize("shift", [-2.6, 0.45])
def test_lines_of_the_sky_tell_how_the_instrument_bent(shift: float) -> None:
    light = lines([wave for wave, _ in SKY_LINES[:4]], 0.3, 8.0)
    found = measure_zero_point(spectrum_of(light, 2000.0, 5200.0, 1.3, shift, 0.05), "sky")
    assert abs(found.pixels - shift) < max(3 * found.error, 0.05)
    assert len(found.lines) == 4


def test_a_star_of_known_velocity_tells_it_by_its_absorption() -> None:
    factor = 1 + (-13.5 + 20.0) / 299792.458
    light = lines([wave * factor for wave, _ in BALMER_LINES], 12.0, -0.5)
    spectrum = spectrum_of(light, 1500.0, 4250.0, 2.5, -1.7).assign_attrs(
        barycentric_velocity=-20.0
    )
    found = measure_zero_point(spectrum, "star", velocity=-13.5)
    assert abs(found.pixels + 1.7) < 0.1
    assert {name for name, _ in found.lines} >= {"H alpha", "H beta"}


@pytest.mark.parametrize("kind", ["emission", "filled"])
def test_emission_and_lines_filled_on_one_side_tell_nothing(kind: str) -> None:
    waves = [wave for wave, _ in BALMER_LINES]
    light = lines(waves, 12.0, 0.5 if kind == "emission" else -0.6)
    if kind == "filled":
        light = light + lines([wave + 3.5 for wave in waves], 5.0, 0.45) - 1
    with pytest.raises(LampError, match="symmetric absorption"):
        measure_zero_point(spectrum_of(light, 1500.0, 4250.0, 2.5, 0.0), "star", velocity=0.0)


@pytest.mark.parametrize("by", ["sky", "star"])
def test_noise_tells_no_zero_point(by: Any) -> None:
    spectrum = spectrum_of(np.ones(FINE.size), 1500.0, 4250.0, 2.5, 0.0, 0.05)
    with pytest.raises(LampError, match="No "):
        measure_zero_point(spectrum, by, velocity=0.0)


def test_a_spectrum_without_wavelengths_is_refused() -> None:
    spectrum = spectrum_of(air(1.0), 1500.0, 6100.0, 1.6, 0.0)
    with pytest.raises(LampError, match="no wavelengths"):
        measure_zero_point(spectrum.drop_vars("wavelength"), "oxygen")
    with pytest.raises(LampError, match="star-velocity"):
        measure_zero_point(spectrum, "star")
