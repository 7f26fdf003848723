"""CCDData and Spectrum from our images and back: the same bits, or a refusal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy import units as u
from astropy.io import fits
from astropy.nddata import (
    CCDData,
    InverseVariance,
    StdDevUncertainty,
    UnknownUncertainty,
    VarianceUncertainty,
)
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import arrayred as ar
from arrayred.errors import FrameError, MismatchError, UsageError

RNG = np.random.default_rng(5)
QUICK = settings(deadline=None, max_examples=40)
BITS = np.array([[0, 1, 2], [4, 8, 15]], np.uint8)


def image(**attrs: Any) -> xr.Dataset:
    """Return an image of 2 x 3 pixels with everything an image can have."""
    return xr.Dataset(
        {
            "counts": (("y", "x"), RNG.normal(10, 3, (2, 3)), {"units": "adu"}),
            "variance": (("y", "x"), RNG.uniform(1, 9, (2, 3)).astype("f4"), {"units": "adu2"}),
            "dq": (("y", "x"), BITS.copy()),
        },
        coords={
            "y": [1, 2], "x": [1, 2, 3], "exptime": 600.0, "exptime_total": 1800.0, "n_frames": 3,
            "method": "median", "time": np.datetime64("2020-11-03T01:02:03.5", "ns"), "gain": 1.3,
            "ccd_temp": -40.0, "binning": "2x2", "origin": "8,16", "readout": "8 MHz",
            "gain_setting": "100", "dispersion_axis": 2,
        },
        attrs={"history": ["dark subtracted", "median of 3 frames"]} | attrs,
    )  # fmt: skip


def ccd() -> CCDData:
    """Return a CCDData with everything that an image can tell."""
    header = fits.Header([("OBJECT", "59 Cyg", "a Be star"), ("EXPTIME", 600.0), ("NCOMBINE", 3)])
    header["LONG"] = ("a long text " * 12, "on several cards")
    header["HIERARCH ESO DET ID"] = 7
    header.add_history("arrayred: average of 3 frames")
    header.add_history("made by hand")
    return CCDData(
        RNG.normal(10, 3, (2, 3)),
        unit="adu",
        uncertainty=StdDevUncertainty(RNG.uniform(1, 3, (2, 3))),
        mask=BITS != 0,
        flags=BITS.copy(),
        meta=header,
    )


def test_an_image_comes_back_from_a_ccddata_to_the_bit() -> None:
    source = image()
    back = ar.from_ccddata(ar.to_ccddata(source))
    for name, variable in source.variables.items():
        assert np.array_equal(back[name].values, variable.values), name
        assert back[name].dtype == variable.dtype or variable.dtype.kind == "U"
    assert back.attrs["history"] == source.attrs["history"]
    assert set(back.coords) == set(source.coords)


def test_a_ccddata_comes_back_from_an_image_to_the_bit() -> None:
    source = ccd()
    back = ar.to_ccddata(ar.from_ccddata(source))
    assert np.array_equal(back.data, source.data)
    assert back.unit == source.unit == u.adu
    assert isinstance(back.uncertainty, StdDevUncertainty)
    assert np.array_equal(back.uncertainty.array, source.uncertainty.array)
    assert np.array_equal(back.mask, source.mask)
    assert np.array_equal(back.flags, source.flags)
    assert back.header.tostring() == source.header.tostring()


@pytest.mark.parametrize("kind", ["f4", "f8"])
@given(data=st.data())
@QUICK
def test_every_standard_deviation_comes_back(kind: str, data: st.DataObject) -> None:
    floats = st.floats(2.0**-40, 2.0**40, width=32 if kind == "f4" else 64)
    sigma = data.draw(arrays_of.arrays(kind, (2, 3), elements=st.just(0.0) | floats))
    source = CCDData(np.ones((2, 3)), unit="adu", uncertainty=StdDevUncertainty(sigma))
    assert np.array_equal(ar.to_ccddata(ar.from_ccddata(source)).uncertainty.array, sigma)


@given(arrays_of.arrays("f4", (2, 3), elements=st.floats(0, 2.0**100, width=32)))
@QUICK
def test_every_float32_variance_comes_back(variance: Any) -> None:
    source = image().assign(variance=(("y", "x"), variance))
    assert np.array_equal(ar.from_ccddata(ar.to_ccddata(source)).variance.values, variance)


@pytest.mark.parametrize("absent", [["variance"], ["dq"], ["variance", "dq"]])
def test_what_is_unknown_stays_unknown(absent: list[str]) -> None:
    converted = ar.to_ccddata(image().drop_vars(absent))
    assert (converted.uncertainty is None) == ("variance" in absent)
    assert (converted.mask is None) == (converted.flags is None) == ("dq" in absent)
    assert set(ar.from_ccddata(converted)) == {"counts", "variance", "dq"} - set(absent)


def test_nothing_is_shared_between_the_two() -> None:
    source = image()
    kept, converted = source.copy(deep=True), ar.to_ccddata(source)
    for values in (converted.data, converted.uncertainty.array, converted.mask, converted.flags):
        values[...] = 0
    xr.testing.assert_identical(source, kept)
    back = ar.from_ccddata(converted)
    back.counts.values[...] = 7
    assert not converted.data.any()


@pytest.mark.parametrize("kind", ["uint8", "int16", "uint16", ">i4", "uint32"])
def test_integers_come_as_float64_and_do_not_wrap(kind: str) -> None:
    low, high = (image().assign(counts=(("y", "x"), np.full((2, 3), n, kind))) for n in (10, 20))
    difference = ar.to_ccddata(low).subtract(ar.to_ccddata(high))
    assert (difference.data == -10).all()
    assert difference.data.dtype == np.float64


@pytest.mark.parametrize("kind", [">f4", "<f4", ">f8", "uint16"])
def test_counts_of_a_ccddata_keep_their_type_in_native_order(kind: str) -> None:
    counts = ar.from_ccddata(CCDData(np.arange(6).astype(kind).reshape(2, 3), unit="adu")).counts
    assert counts.dtype == np.dtype(kind).newbyteorder("=")
    assert counts.dtype.isnative
    assert counts.values.ravel().tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "uncertainty",
    [
        StdDevUncertainty(np.full((2, 3), 2.0)),
        VarianceUncertainty(np.full((2, 3), 4.0)),
        InverseVariance(np.full((2, 3), 0.25)),
    ],
)
def test_any_kind_of_variance_is_understood(uncertainty: Any) -> None:
    source = CCDData(np.ones((2, 3)), unit="electron", uncertainty=uncertainty)
    found = ar.from_ccddata(source).variance
    assert (found == 4).all()
    assert found.attrs["units"] == "electron2"


@pytest.mark.parametrize("kind", [bool, int])
def test_a_mask_without_flags_means_bad_pixels(kind: type) -> None:
    dq = ar.from_ccddata(CCDData(np.ones((2, 3)), unit="adu", mask=np.ones((2, 3), kind))).dq
    assert dq.dtype == np.uint8
    assert (dq == 1).all()


def test_the_mask_says_which_pixels_are_flagged() -> None:
    source = ccd()
    source.mask = np.array([[True, False, True], [True, True, False]])
    assert ar.from_ccddata(source).dq.values.tolist() == [[1, 0, 2], [4, 8, 0]]


def test_flags_without_a_mask_are_the_flags() -> None:
    source = CCDData(np.ones((2, 3)), unit="adu", flags=BITS)
    assert np.array_equal(ar.from_ccddata(source).dq.values, BITS)


def test_the_bits_are_named_as_cf_does() -> None:
    attrs = ar.from_ccddata(ccd()).dq.attrs
    assert list(attrs["flag_masks"]) == [1, 2, 4, 8, 16, 32]
    meanings = "bad_pixel saturated cosmic_ray no_data repaired doubtful_flat"
    assert attrs["flag_meanings"] == meanings


def test_a_cut_image_keeps_the_numbers_of_its_pixels() -> None:
    cut = image().assign_coords(y=[484, 485], x=[10, 11, 12])
    converted = ar.to_ccddata(cut)
    assert converted.header["ARPIXELS"] == "[10:12,484:485]"
    back = ar.from_ccddata(converted)
    assert (back.y.values.tolist(), back.x.values.tolist()) == ([484, 485], [10, 11, 12])


def test_whoever_cuts_a_numbered_ccddata_must_say_so() -> None:
    converted = ar.to_ccddata(image().assign_coords(y=[484, 485], x=[10, 11, 12]))
    with pytest.raises(MismatchError, match=r"ARPIXELS is \[10:12,484:485\], but .* 2 columns"):
        ar.from_ccddata(converted[:, 1:])
    del converted.header["ARPIXELS"]
    assert ar.from_ccddata(converted[:, 1:]).x.values.tolist() == [1, 2]


def test_a_frame_brings_the_header_of_its_file(night: Path) -> None:
    cube = ar.open_frames(night, chunks="auto")
    converted = ar.to_ccddata(cube.isel(frame=-1))
    raw = fits.getheader(cube.path.values[-1])
    for keyword in ("OBJECT", "EXPTIME", "IMAGETYP", "DATE-OBS", "CCD-TEMP", "EGAIN"):
        assert converted.header[keyword] == raw[keyword], keyword
    assert not {"BITPIX", "BZERO", "NAXIS1"} & set(converted.header)
    assert np.array_equal(converted.data, fits.getdata(cube.path.values[-1]))


def test_a_frame_whose_file_is_gone_wants_its_header_given(night: Path) -> None:
    frame = ar.settle(ar.open_frames(night, chunks="auto").isel(frame=0))
    header = fits.getheader(frame.path.item())
    Path(frame.path.item()).unlink()
    with pytest.raises(FrameError, match="No such file"):
        ar.to_ccddata(frame)
    assert ar.to_ccddata(frame, header).header["INSTRUME"] == "Simulated camera"


def test_a_given_header_is_copied_and_completed() -> None:
    given_header = fits.Header([("OBSERVER", "F. Hartmann"), ("EXPTIME", 1.0)])
    header = ar.to_ccddata(image(), given_header).header
    assert (header["OBSERVER"], header["EXPTIME"], header["NCOMBINE"]) == ("F. Hartmann", 600.0, 3)
    assert (given_header["EXPTIME"], len(given_header)) == (1.0, 2)


def test_the_header_tells_coordinates_and_history() -> None:
    header = ar.to_ccddata(image(remarks=["the sky is cut"])).header
    cards = {
        "EXPTIME": 600.0, "EXPTOTAL": 1800.0, "NCOMBINE": 3, "ARMETHOD": "median", "EGAIN": 1.3,
        "DATE-OBS": "2020-11-03T01:02:03.500000", "CCD-TEMP": -40.0, "XBINNING": 2, "YBINNING": 2,
        "XORGSUBF": 8, "YORGSUBF": 16, "READOUTM": "8 MHz", "DISPAXIS": 2,
    }  # fmt: skip
    assert {keyword: header[keyword] for keyword in cards} == cards
    assert "arrayred: median of 3 frames" in list(header["HISTORY"])
    assert "arrayred: the sky is cut" in list(header["COMMENT"])


def test_a_header_that_came_along_follows_what_was_done_since() -> None:
    two = [ar.from_ccddata(ccd()).drop_vars(["variance", "dq"]) for _ in range(2)]
    joined = xr.concat([frame.assign_coords(frame=i) for i, frame in enumerate("ab")
                        for frame in [two[i].assign_coords(frame=frame)]], "frame")  # fmt: skip
    header = ar.to_ccddata(ar.combine(joined)).header
    assert (header["NCOMBINE"], header["OBJECT"]) == (2, "59 Cyg")
    assert list(header["HISTORY"])[-1] == "arrayred: average of 2 frames"


def test_the_gain_of_electrons_is_one_whatever_the_camera_says() -> None:
    source = CCDData([[1.0]], unit="electron", meta=fits.Header([("EGAIN", 1.3)]))
    found = ar.from_ccddata(source)
    assert found.gain == 1.0
    assert ar.to_ccddata(found).header["EGAIN"] == 1.0


def test_any_mapping_is_a_header() -> None:
    meta = {"object": "Vega", "a long keyword": 3, "EXPTIME": 60}
    header = ar.to_ccddata(ar.from_ccddata(CCDData([[1.0]], unit="adu", meta=meta))).header
    assert (header["OBJECT"], header["A LONG KEYWORD"], header["EXPTIME"]) == ("Vega", 3, 60)


def test_the_cards_of_a_wcs_are_kept() -> None:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [314.9, 47.5]
    back = ar.to_ccddata(ar.from_ccddata(CCDData([[1.0]], unit="adu", wcs=wcs)))
    assert WCS(back.header).wcs.crval.tolist() == [314.9, 47.5]


def changed(**values: Any) -> CCDData:
    source = ccd()
    for name, value in values.items():
        setattr(source, name, value)
    return source


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a cube": (lambda: ar.to_ccddata(image().expand_dims(frame=4)), "cube has 4 frames"),
    "a spectrum": (lambda: ar.to_ccddata(xr.Dataset({"flux": ("x", [1.0])})), "counts"),
    "a step": (lambda: ar.to_ccddata(image().isel(x=[0, 2])), "along x are not adjacent"),
    "other units": (lambda: ar.from_ccddata(changed(unit="Jy")), "'Jy'.*adu, electron"),
    "three axes": (lambda: ar.from_ccddata(CCDData(np.ones((2, 2, 2)), unit="adu")), "3 axes"),
    "a number": (
        lambda: ar.from_ccddata(changed(meta={"EXPTIME": float("nan")})),
        "'EXPTIME' is nan.*ccd.meta",
    ),
    "an object": (lambda: ar.from_ccddata(changed(meta={"LIST": [1]})), "'LIST' is .1."),
    "wide flags": (
        lambda: ar.from_ccddata(changed(flags=BITS.astype(int))),
        "flags are int64.*uint8.*ccd.flags = None",
    ),
    "no uncertainty": (
        lambda: ar.from_ccddata(changed(uncertainty=UnknownUncertainty(np.ones((2, 3))))),
        "kind 'unknown'",
    ),
    "its unit": (
        lambda: ar.from_ccddata(
            changed(uncertainty=StdDevUncertainty(np.ones((2, 3)), unit="1000 adu"))
        ),
        "'std' in 1000 adu, the image in adu",
    ),
    "no flux": (lambda: ar.to_spectrum(image()), r"'flux' with dims \('x',\)"),
    "chunked flux": (
        lambda: ar.to_spectrum(xr.Dataset({"flux": ("x", [1.0])}, {"x": [1]}).chunk()),
        "in memory",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_counterpart_is_refused(case: str) -> None:
    convert, message = REFUSED[case]
    with pytest.raises(MismatchError, match=message):
        convert()


def test_a_missing_specutils_is_told_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "specutils", None)
    with pytest.raises(UsageError, match=r"not installed. .*pip install specutils"):
        ar.to_spectrum(xr.Dataset({"flux": ("x", [1.0])}, {"x": [1]}))


def test_a_spectrum_keeps_flux_noise_mask_and_columns() -> None:
    along = xr.Dataset(
        {
            "flux": ("x", np.array([5.0, 7.0, 9.0]), {"units": "electron"}),
            "variance": ("x", np.array([4.0, 9.0, 16.0])),
            "dq": ("x", np.array([0, 2, 0], np.uint8)),
        },
        coords={"x": [11, 12, 13], "exptime": 600.0},
        attrs={"first_row": 484, "history": ["rows 484 to 518 summed"]},
    )
    found = ar.to_spectrum(along)
    assert np.array_equal(found.flux, [5, 7, 9] * u.electron)
    assert np.array_equal(found.uncertainty.array, [2, 3, 4])
    assert found.mask.tolist() == [False, True, False]
    assert np.array_equal(found.spectral_axis.value, [11, 12, 13])
    assert found.spectral_axis.unit == u.pix
    header = found.meta["header"]
    assert (header["EXPTIME"], header["SPFIRST"]) == (600.0, 484)
    found.flux.value[...] = 0
    assert along.flux.values.tolist() == [5, 7, 9]


def test_a_spectrum_without_noise_has_none() -> None:
    found = ar.to_spectrum(xr.Dataset({"flux": ("x", [1.0, 2.0])}, {"x": [1, 2]}))
    assert found.uncertainty is None
    assert found.mask is None


# Pixel positions in the cards of a part of an image


@pytest.mark.parametrize("how", ["sel", "isel", "trim"])
def test_the_reference_pixel_follows_a_selection(tmp_path: Path, how: str) -> None:
    cards = {"CRPIX1": 4.5, "CRPIX2": 2, "CRVAL1": 500.0, "CDELT1": 2.0, "CRPIX1A": 1.0}
    cards |= {"DATASEC": "[1:8,1:6]", "LTV2": -100.0}
    pixels = np.arange(48, dtype=np.uint16).reshape(6, 8)
    fits.PrimaryHDU(pixels, fits.Header(cards)).writeto(tmp_path / "a.fits")
    cube = ar.open_frames(tmp_path / "a.fits")
    part = {
        "sel": lambda: cube.sel(y=slice(2, 5), x=slice(3, 7)),
        "isel": lambda: cube.isel(y=slice(1, 5), x=slice(2, 7)),
        "trim": lambda: ar.trim(cube, ar.Section(columns=(3, 7), rows=(2, 5))),
    }[how]()
    ccd = ar.to_ccddata(part.isel(frame=0))
    ccd.write(tmp_path / "part.fits")
    header = fits.getheader(tmp_path / "part.fits")
    assert [header[k] for k in ("CRPIX1", "CRPIX2", "CRPIX1A")] == [2.5, 1, -1.0]
    assert [header[k] for k in ("LTV1", "LTV2")] == [-2, -101.0]
    assert "DATASEC" not in header
    whole, cut = WCS(fits.Header(cards)), WCS(header)
    assert np.allclose(whole.wcs_pix2world(6, 3, 1), cut.wcs_pix2world(4, 2, 1))
    back = ar.from_ccddata(CCDData.read(tmp_path / "part.fits"))
    assert back.x.values.tolist() == [3, 4, 5, 6, 7]
    again = ar.to_ccddata(back.sel(x=slice(5, 7))).header
    assert (again["CRPIX1"], again["LTV1"], again["CRPIX2"]) == (0.5, -4, 1)
