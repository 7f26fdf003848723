"""Electrons are adu times the gain, variances times its square, once."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from arrayred.errors import UnknownGainError
from arrayred.steps import to_electrons
from tests.steps import image_of


@pytest.fixture
def spectrum() -> xr.Dataset:
    flux = np.arange(5.0)
    return xr.Dataset(
        {
            "flux": ("x", flux, {"units": "adu", "long_name": "sum"}),
            "variance": ("x", flux + 1, {"units": "adu2"}),
            "dq": ("x", np.arange(5, dtype=np.uint8)),
        },
        coords={"gain": 2.5},
        attrs={"threshold": 10.0, "background_mean": 4.0, "background_std": 2.0, "n_sigma": 3.0},
    )


def test_values_and_variances_are_multiplied(spectrum: xr.Dataset) -> None:
    found = to_electrons(spectrum)
    assert np.array_equal(found.flux, spectrum.flux * 2.5)
    assert np.array_equal(found.variance, spectrum.variance * 6.25)
    assert (found.flux.units, found.variance.units) == ("electron", "electron2")
    assert found.flux.long_name == "sum"


def test_numbers_in_the_units_follow_and_others_stay(spectrum: xr.Dataset) -> None:
    found = to_electrons(spectrum)
    facts = [found.attrs[n] for n in ("threshold", "background_mean", "background_std", "n_sigma")]
    assert facts == [25.0, 10.0, 5.0, 3.0]
    assert found.dq.identical(spectrum.dq.assign_coords(gain=1.0))
    assert found.attrs["history"] == ["multiplied by 2.5 electrons per adu"]


def test_the_effective_gain_is_that_of_electrons(spectrum: xr.Dataset) -> None:
    assert to_electrons(spectrum.assign_attrs(gain_effective=7.5)).attrs["gain_effective"] == 3.0


def test_a_second_time_changes_nothing(spectrum: xr.Dataset) -> None:
    once = to_electrons(spectrum)
    assert to_electrons(once).identical(once)


def test_an_unknown_gain_is_an_error_that_names_the_card() -> None:
    with pytest.raises(UnknownGainError, match="EGAIN"):
        to_electrons(image_of(np.ones((2, 2))))
