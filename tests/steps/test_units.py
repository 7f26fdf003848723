"""Electrons are adu times the gain, variances times its square, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

import arrayred as ar
from arrayred.errors import MismatchError, UnknownGainError
from arrayred.steps import to_electrons
from tests.steps import cube_of, image_of


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
    assert found.attrs["history"] == ["multiplied by 2.5 electrons per ADU"]


def test_the_effective_gain_is_that_of_electrons(spectrum: xr.Dataset) -> None:
    assert to_electrons(spectrum.assign_attrs(gain_effective=7.5)).attrs["gain_effective"] == 3.0


def test_a_second_time_changes_nothing(spectrum: xr.Dataset) -> None:
    once = to_electrons(spectrum)
    assert to_electrons(once).identical(once)


def test_an_unknown_gain_is_an_error_that_names_the_card() -> None:
    with pytest.raises(UnknownGainError, match="EGAIN"):
        to_electrons(image_of(np.ones((2, 2))))


# Gains of single frames


def test_each_frame_is_multiplied_by_its_own_gain() -> None:
    cube = cube_of(np.ones((2, 3, 4), "u2"), gain=("frame", [1.5, 2.0]))
    cube = cube.assign(variance=(cube.counts.dims, np.ones((2, 3, 4)), {"units": "adu2"}))
    for wanted in (cube, cube.chunk({"y": 2})):
        found = to_electrons(wanted).compute()
        assert found.counts[:, 0, 0].values.tolist() == [1.5, 2.0]
        assert found.variance[:, 0, 0].values.tolist() == [2.25, 4.0]
        assert (found.gain.item(), found.counts.dims) == (1.0, cube.counts.dims)
        assert found.attrs["history"][-1] == "multiplied by 1.5, 2 electrons per ADU"


def test_what_all_frames_share_has_no_gain_of_its_own() -> None:
    cube = cube_of(np.ones((2, 3, 4)), gain=("frame", [1.5, 2.0]))
    shared = cube.assign(variance=(("y", "x"), np.ones((3, 4)), {"units": "adu2"}))
    with pytest.raises(MismatchError, match="variance is common to all frames"):
        to_electrons(shared)


@pytest.mark.parametrize("gain", [0.0, -1.0, np.nan])
def test_a_gain_that_is_none_is_unknown(spectrum: xr.Dataset, gain: float) -> None:
    with pytest.raises(UnknownGainError):
        to_electrons(spectrum.assign_coords(gain=gain))


def test_gains_of_frames_that_differ_come_with_their_cube(tmp_path: Path) -> None:
    for i, gain in enumerate((1.5, 2.0)):
        header = fits.Header({"EGAIN": gain, "EXPTIME": 60.0})
        counts = np.ones((3, 4), np.uint16)
        counts[2, 3] = i  # frames alike in each pixel are one
        fits.PrimaryHDU(counts, header).writeto(tmp_path / f"{i}.fits")
    cube = ar.open_frames(tmp_path)
    assert to_electrons(cube).counts[:, 0, 0].values.tolist() == [1.5, 2.0]
    assert "gain" not in ar.combine(cube).coords


# Cards of pixels in electrons


@pytest.mark.parametrize(
    ("cards", "ones"),
    [
        ({"EGAIN": 1.5}, ["EGAIN"]),
        ({"EGAIN": 1.5, "GAIN": 2}, ["EGAIN"]),  # a setting of the camera
        ({"GAIN": (1.5, "electrons per ADU")}, ["GAIN"]),
        ({"GAIN": 1.57}, ["GAIN"]),
        ({"EGAIN": 1.5, "GAIN": (0.7, "[adu/electron]")}, ["EGAIN", "GAIN"]),
    ],
)
def test_the_gain_of_an_image_in_electrons_is_one(
    cards: dict[str, Any], ones: list[str], tmp_path: Path
) -> None:
    header = fits.Header()
    for keyword, value in (cards | {"EXPTIME": 60.0}).items():
        header[keyword] = value
    fits.PrimaryHDU(np.ones((3, 4), np.uint16), header).writeto(tmp_path / "a.fits")
    ccd = ar.to_ccddata(to_electrons(ar.open_frames(tmp_path / "a.fits")).isel(frame=0))
    assert ccd.unit == "electron"
    told = {keyword: ccd.header[keyword] for keyword in cards}
    given = {k: header[k] for k in cards}
    assert told == given | dict.fromkeys(ones, 1.0)


def test_the_exposure_of_equal_frames_that_were_joined_is_their_sum() -> None:
    one = cube_of(np.ones((1, 3, 4)), exptime=60.0).isel(frame=0)
    cube = xr.concat([one, one, one], "frame")
    assert cube.exptime.dims == ()
    image = ar.combine(cube)
    assert (image.exptime.item(), image.exptime_total.item()) == (60.0, 180.0)
    assert ar.combine(xr.concat([image, image], "frame")).exptime_total.item() == 360.0
