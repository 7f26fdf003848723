"""Spectra on a linear wavelength scale: for archives, for IRAF, and files of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from astropy.nddata import StdDevUncertainty
from astropy.wcs import WCS

import arrayred as ar
from arrayred.errors import MissingCardsError
from arrayred.export import exported
from arrayred.io.header import Header

CARDS = {
    "OBJECT": "gamma Cas", "DATE-OBS": "2024-01-01T20:20:00.000", "EXPTIME": 60.0,
    "EXPTOTAL": 180.0, "NCOMBINE": 3, "DATE-END": "2024-01-01T20:23:30.000",
    "MJD-OBS": 60310.84722222222, "MJD-END": 60310.84965277778, "MJD-AVG": 60310.84826,
    "DATE-AVG": "2024-01-01T20:21:29.664", "INSTRUME": "Alpy 600", "ARCLEAN": "average",
}  # fmt: skip
WHO = ar.Observer("A. Müller, B. Lee", "Home", longitude=-89.89, latitude=40.0, elevation=200.0)
X = np.arange(1, 401)


def spectrum_of(direction: int = 1, **cards: Any) -> xr.Dataset:
    """Return a spectrum with a line at 6562.8 Angstrom; its ends are extrapolated."""
    u = (X - 200.5) / 200
    wave = 6500 + direction * (200 * u + 5 * u**2)
    flux = (1000 + 500 * np.exp(-0.5 * ((wave - 6562.8) / 3) ** 2)) * np.abs(np.gradient(wave))
    header = Header()
    for keyword, value in {**CARDS, **cards}.items():
        header.set(keyword.replace("_", "-"), value)
    return xr.Dataset(
        {
            "flux": ("x", flux, {"units": "adu"}),
            "variance": ("x", np.full(X.size, 900.0), {"units": "adu2"}),
            "dq": ("x", np.zeros(X.size, np.uint8)),
        },
        coords={
            "x": X,
            "wavelength": ("x", wave, {"units": "Angstrom", "medium": "air"}),
            "extrapolated": ("x", (X < 21) | (X > 380)),
        },
        attrs={"header": "\n".join(header.images())},
    )


def opened(content: bytes) -> fits.HDUList:
    hdus = fits.HDUList.fromstring(content)
    hdus.verify("exception")
    return hdus


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("step", [None, 0.3, 2.5])
def test_counts_are_conserved_and_lines_stay(direction: int, step: float | None) -> None:
    spectrum = spectrum_of(direction)
    linear = ar.to_linear(spectrum, step)
    wave, width = linear.wavelength.values, linear.attrs["step"]
    assert np.allclose(np.diff(wave), width)
    inside = spectrum.where(~spectrum.extrapolated, drop=True)
    lost = inside.flux.values[[0, -1]].max() * width / 0.9
    assert 0 <= inside.flux.values.sum() - linear.flux.values.sum() <= lost
    near = np.abs(wave - 6562.8) < 15
    line = linear.flux.values[near] - linear.flux.values[near].min()
    assert abs((line * wave[near]).sum() / line.sum() - 6562.8) < 0.05


def test_noise_and_its_correlation_are_true() -> None:
    rng, spectrum, drawn = np.random.default_rng(8), spectrum_of(), []
    for _ in range(300):
        spectrum["flux"] = ("x", rng.normal(0.0, 30.0, X.size))
        linear = ar.to_linear(spectrum, 0.8)
        drawn.append(linear.flux.values / np.sqrt(linear.variance.values))
    pulls = np.array(drawn)
    assert abs(pulls.std() - 1.0) < 0.02
    both = np.mean(pulls[:, 1:] * pulls[:, :-1], axis=0)
    assert abs(np.median(both) - linear.attrs["correlation"]) < 0.02


def test_spoilt_columns_are_interpolated_and_listed_or_refused() -> None:
    spectrum = spectrum_of()
    spectrum["dq"][99:102] = 4
    spectrum["flux"][299] = np.nan
    linear = ar.to_linear(spectrum)
    first, last = linear.attrs["interpolated_ranges"]
    assert first == tuple(spectrum.wavelength.values[[99, 101]])
    assert last[0] == last[1]
    assert np.isfinite(linear.flux.values).all()
    assert 4 <= linear.interpolated.values.sum() <= 8
    comments = str(opened(exported(spectrum, "iraf"))[0].header["COMMENT"])
    assert "interpolated: " in comments
    assert f"{last[0]:.1f}" in comments
    with pytest.raises(ar.UsageError, match="4 columns are flagged"):
        ar.to_linear(spectrum, spoilt="refuse")
    spectrum["dq"][50:300] = 4
    with pytest.raises(ar.UsageError, match="too many to interpolate"):
        ar.to_linear(spectrum)


def test_repaired_columns_are_not_spoilt() -> None:
    spectrum = spectrum_of()
    spectrum["dq"][99:102] = 16
    assert ar.to_linear(spectrum).attrs["interpolated_ranges"] == []


def test_the_file_for_the_archive_is_one_that_it_takes(tmp_path: Path) -> None:
    specutils = pytest.importorskip("specutils")
    file = tmp_path / "gamma_Cas_bess.fits"
    file.write_bytes(exported(spectrum_of(), "bess", observer=WHO))
    assert ar.check_bess_file(file) == []
    header, values = fits.getheader(file), fits.getdata(file)
    assert (header["BITPIX"], header["NAXIS"], values.dtype) == (-32, 1, np.dtype(">f4"))
    assert (header["OBSERVER"], header["BSS_VHEL"]) == ("A. Muller, B. Lee", 0.0)
    assert (header["EXPTIME"], header["EXPTIME2"]) == (180.0, "3 x 60 s")
    assert (header["GEO_LONG"], header["BSS_INST"]) == (-89.89, "Alpy 600")
    assert abs(header["JD-MID"] - 2460311.34826) < 1e-9
    linear = ar.to_linear(spectrum_of())
    read = specutils.Spectrum.read(file)
    assert read.spectral_axis.unit == "Angstrom"
    assert np.abs(read.spectral_axis.value - linear.wavelength.values).max() < 1e-3
    assert np.allclose(read.flux.value, linear.flux.values)


@pytest.mark.parametrize("to", ["bess", "iraf"])
@pytest.mark.parametrize("direction", [1, -1])
def test_other_programs_read_the_same_wavelengths(
    to: Literal["bess", "iraf"], direction: int, tmp_path: Path
) -> None:
    specutils = pytest.importorskip("specutils")
    file = tmp_path / "linear.fits"
    file.write_bytes(exported(spectrum_of(direction), to, observer=WHO))
    header, linear = fits.getheader(file), ar.to_linear(spectrum_of(direction))
    cards = fits.Header([(k, header[k]) for k in ("CRPIX1", "CRVAL1", "CDELT1")])
    found = WCS(cards, naxis=1).wcs_pix2world(np.arange(linear.sizes["wavelength"]), 0)[0]
    assert np.abs(found - linear.wavelength.values).max() < 0.01
    read = specutils.Spectrum.read(file, format="wcs1d-fits")
    assert read.spectral_axis.unit == "Angstrom"
    assert np.abs(read.spectral_axis.value - linear.wavelength.values).max() < 0.01
    assert np.allclose(read.flux.value, linear.flux.values)
    if to == "iraf":
        sigma = np.sqrt(linear.variance.values)
        assert np.allclose(read.uncertainty.represent_as(StdDevUncertainty).array, sigma)


def test_the_file_for_iraf_has_its_cards() -> None:
    header = opened(exported(spectrum_of(), "iraf"))[0].header
    assert (header["DC-FLAG"], header["OBJECT"]) == (0, "gamma Cas")


@pytest.mark.parametrize("keyword", ["OBJECT", "DATE-OBS", "EXPTOTAL"])
def test_what_the_frames_do_not_tell_is_asked_for_by_name(keyword: str) -> None:
    cards = {keyword.replace("-", "_"): ""} | ({"EXPTIME": ""} if keyword == "EXPTOTAL" else {})
    with pytest.raises(MissingCardsError, match="--card"):
        exported(spectrum_of(**cards), "bess", observer=WHO)


def test_all_that_is_missing_is_named_at_once_with_the_file_to_write() -> None:
    with pytest.raises(MissingCardsError) as caught:
        exported(spectrum_of(INSTRUME=""), "bess")
    for name in ("OBSERVER", "BSS_SITE", "BSS_INST", "observer.toml", 'site = "..."'):
        assert name in str(caught.value)


def test_wavelengths_corrected_for_the_earth_are_not_exported() -> None:
    with pytest.raises(ar.UsageError, match="--heliocentric"):
        exported(spectrum_of(SPECSYS="BARYCENT"), "bess", observer=WHO)


@pytest.mark.parametrize(
    "text", ["-89 53 30", "-89:53:30", "-89d53m30s", "-89°53'30\"", "-89.89166667"]
)
def test_an_angle_is_read_however_it_is_written(text: str) -> None:
    assert ar.Observer.of({"longitude": text}).longitude == pytest.approx(-89 - 53.5 / 60)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"longitude": "89 53 30"}, "east or west"),
        ({"longitude": "home"}, "not a number"),
        ({"latitude": 400}, "at most 90"),
        ({"sight": "Home"}, "Did you mean 'site'?"),
        ({"observer": ["A", "B", "C", "D"]}, "up to three"),
        ({"site": 3}, "must be text"),
    ],
)
def test_an_observer_that_makes_no_sense_is_refused(values: Any, words: str) -> None:
    with pytest.raises(ar.UsageError, match=words.replace("?", r"\?")):
        ar.Observer.of(values)


@pytest.mark.parametrize(
    ("spectrum", "words"),
    [
        (spectrum_of().drop_vars("wavelength"), "no wavelengths"),
        (spectrum_of().assign_coords(extrapolated=("x", np.full(X.size, True))), "0 columns"),
        (spectrum_of().assign_coords(wavelength=("x", 6500 + (X - 90.0) ** 2)), "not monotonic"),
    ],
)
def test_a_spectrum_that_cannot_be_resampled_is_refused(spectrum: Any, words: str) -> None:
    with pytest.raises(ar.UsageError, match=words):
        ar.to_linear(spectrum)


@pytest.mark.parametrize("step", [-1.0, 0.0, 1000.0, float("nan")])
def test_a_step_that_fits_no_bin_is_refused(step: float) -> None:
    with pytest.raises(ar.UsageError, match="does not fit"):
        ar.to_linear(spectrum_of(), step)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"CRVAL1": 650.0}, "nanometres"),
        ({"CDELT1": -0.5}, "CDELT1"),
        ({"CTYPE1": "AWAV"}, "CTYPE1"),
        ({"CUNIT1": None}, "CUNIT1 is missing"),
        ({"CRPIX1": 5.0}, "CRPIX1"),
        ({"OBJNAME": ""}, "OBJNAME"),
        ({"OBSERVER": "A, B, C, D"}, "more than three"),
        ({"BSS_SITE": None}, "BSS_SITE"),
        ({"BSS_INST": None}, "BSS_INST is missing"),
        ({"BSS_VHEL": None}, "BSS_VHEL"),
        ({"BSS_VHEL": 3e4}, "BSS_VHEL"),
        ({"DATE-OBS": "01/01/24"}, "DATE-OBS"),
        ({"DATE-END": "2023-01-01T00:00:00"}, "not after"),
        ({"EXPTIME": 4000.0}, "but DATE-OBS to DATE-END"),
        ({"EXPTIME": None, "DATE-END": None}, "or DATE-END is missing"),
        ({"BSS_RA": 14.0}, "both or neither"),
    ],
)
def test_what_keeps_a_file_out_of_the_archive_is_named(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    hdus = opened(exported(spectrum_of(), "bess", observer=WHO))
    for keyword, value in change.items():
        if value is None:
            del hdus[0].header[keyword]
        else:
            hdus[0].header[keyword] = value
    hdus.writeto(tmp_path / "changed.fits")
    problems = ar.check_bess_file(tmp_path / "changed.fits")
    assert len(problems) == 1
    assert words in problems[0]


@pytest.mark.parametrize(
    "keyword",
    ["CRPIX1", "CRVAL1", "CDELT1", "CTYPE1", "CUNIT1", "OBJNAME", "DATE-OBS", "BSS_INST",
     "BSS_SITE", "OBSERVER", "BSS_VHEL"],
)  # fmt: skip
def test_each_card_of_the_archive_that_is_missing_is_named(keyword: str, tmp_path: Path) -> None:
    hdus = opened(exported(spectrum_of(), "bess", observer=WHO))
    del hdus[0].header[keyword]
    hdus.writeto(tmp_path / "less.fits")
    (problem,) = ar.check_bess_file(tmp_path / "less.fits")
    assert problem.startswith(f"{keyword} is missing")


def test_values_and_layout_of_a_file_are_checked(tmp_path: Path) -> None:
    file = tmp_path / "odd.fits"
    hdus = opened(exported(spectrum_of(), "bess", observer=WHO))
    values = hdus[0].data.copy()
    values[3] = np.nan
    fits.writeto(file, values, hdus[0].header)
    assert "1 of " in ar.check_bess_file(file)[0]
    fits.writeto(file, np.ones((2, 300), np.float32), overwrite=True)
    assert "one axis" in ar.check_bess_file(file)[0]
    fits.writeto(file, np.ones(300), hdus[0].header, overwrite=True)
    assert "float32" in ar.check_bess_file(file)[0]
    file.write_text("no FITS")
    with pytest.raises(ar.InputError):
        ar.check_bess_file(file)


def test_zero_points_and_the_place_of_the_star_are_told() -> None:
    cards = {"WLZERO": 0.3, "WLZSKY": 0.3, "WLZSKYE": 0.04, "WLZOXY": -1.2, "WLZOXYE": 0.1}
    star = {"RA": "00:56:42.5", "DEC": "+60:43:00"}
    header = opened(exported(spectrum_of(**cards, **star), "bess", observer=WHO))[0].header
    told = "".join(header["COMMENT"])
    assert "sky are shifted by +0.30 +- 0.04 pixel from the arc lines:corrected" in told
    assert "oxygen are shifted by -1.20 +- 0.10 pixel from the arc lines: not corrected" in told
    assert abs(header["BSS_RA"] - 14.177) < 1e-3
    assert abs(header["BSS_DEC"] - 60.717) < 1e-3
