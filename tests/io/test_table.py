"""Spectra as text, ECSV and FITS: byte for byte the procedure's, and read by the neighbours."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import astropy.io.ascii
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

from arrayred.io import (
    Header,
    ecsv_table,
    fits_table,
    frames_table,
    spectrum_attrs_of,
    spectrum_cards,
    spectrum_columns,
    text_table,
)
from arrayred.model import dq_attrs

Values = NDArray[np.float64]
QUICK = settings(deadline=None, max_examples=40)
ODD = [0.0, -0.0, 1e16, 9999999999999998.0, 1e-5, 1e-4, 0.1, 1 / 3, 5e-324, 2.2e-308, -1.8e308]
FLUX = np.array([23798.666666666668, -3.5, 1e16, 5e-324, 0.1])


UNITS = {"x": "pix", "flux": "adu", "uncertainty": "adu", "counts_mean": "adu", "sky": "adu"}
CARDS: dict[str, Any] = {"OBJECT": "59 Cyg"}


def astropy_table(values: Values) -> bytes:
    """Return what the procedure's call of astropy writes."""
    numbers = np.arange(start=1, stop=values.size + 1, step=1, dtype=np.float64)
    target = io.StringIO()
    astropy.io.ascii.write([numbers, values], target, names=["x", "y"])
    return target.getvalue().encode()


@given(arrays_of.arrays("f8", st.integers(1, 60), elements=st.floats(allow_nan=False)))
@QUICK
def test_text_tables_are_those_of_astropy_to_the_byte(values: Values) -> None:
    assert text_table(values) == astropy_table(values)


@pytest.mark.parametrize("value", [*ODD, np.inf, -np.inf, np.nan])
def test_odd_numbers_are_spelt_as_astropy_spells_them(value: float) -> None:
    values = np.array([value, 1.0])
    assert text_table(values) == astropy_table(values)


@given(st.floats(-1e9, 1e9, width=32))
@QUICK
def test_text_tables_read_back_as_the_same_numbers(value: float) -> None:
    lines = text_table(np.array([value])).decode().split("\n")
    assert (lines[0], lines[2]) == ("x y", "")
    assert float(lines[1].split(" ")[1]) == value


def spectrum(**attrs: Any) -> xr.Dataset:
    """Return a spectrum of five columns whose variables differ."""

    def column(values: Values, name: str) -> tuple[str, Values, dict[str, str]]:
        return "x", values, {"units": "adu", "long_name": name}

    return xr.Dataset(
        {
            "flux": column(FLUX, "sum over the rows"),
            "counts_mean": column(abs(FLUX) + 1, "mean of a row"),
            "sky": column(np.arange(1.0, 6.0), 'sum over the "sky" band: all'),
        },
        coords={"x": np.arange(101, 106), "exptime": 600.0},
        attrs=attrs,
    )


def read_ecsv(content: bytes) -> Table:
    return Table.read(io.BytesIO(content), format="ascii.ecsv")


def test_columns_begin_with_x_flux_and_uncertainty() -> None:
    columns = spectrum_columns(spectrum())
    assert [column.name for column in columns][:3] == ["x", "flux", "uncertainty"]
    assert {column.name: column.unit for column in columns} == UNITS
    assert list(columns[0].values) == [101, 102, 103, 104, 105]


def test_ecsv_comes_back_with_units_names_and_values() -> None:
    source = spectrum()
    table = read_ecsv(ecsv_table(source, CARDS))
    for name in ("flux", "counts_mean", "sky"):
        assert np.array_equal(table[name], source[name].values)
        assert (str(table[name].unit), table[name].dtype) == ("adu", np.float64)
        assert table[name].description == source[name].attrs["long_name"]
    assert (str(table["x"].unit), table["x"].dtype) == ("pix", np.int64)
    assert list(table["x"]) == list(source["x"].values)


@given(arrays_of.arrays("f8", 5))
@QUICK
def test_ecsv_keeps_every_number_to_the_bit(values: Values) -> None:
    flux = spectrum().flux.copy(data=values)
    table = read_ecsv(ecsv_table(spectrum().assign(flux=flux), CARDS))
    assert np.array_equal(np.asarray(table["flux"]), values, equal_nan=True)


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z0-9_-]{1,8}", fullmatch=True),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(max_codepoint=255)),
        min_size=1,
        max_size=6,
    )
)
@settings(deadline=None, max_examples=60)
def test_ecsv_keeps_every_card_and_its_type(meta: dict[str, Any]) -> None:
    read = dict(read_ecsv(ecsv_table(spectrum(), meta)).meta)
    assert read == meta
    assert [type(read[key]) for key in meta] == [type(value) for value in meta.values()]


@pytest.mark.parametrize("value", [1e-05, 1e16, -2.5e-10, 1e300])
def test_ecsv_keeps_small_and_large_numbers_as_numbers(value: float) -> None:
    assert read_ecsv(ecsv_table(spectrum(), {"XPIXSZ": value})).meta["XPIXSZ"] == value


def test_ecsv_without_cards_can_be_read() -> None:
    assert len(read_ecsv(ecsv_table(spectrum(), {}))) == 5


def test_ecsv_is_plain_ascii_with_every_comment_marked() -> None:
    lines = ecsv_table(spectrum(), {"HISTORY": "one\ntwo", "OBSERVER": "René"}).decode("ascii")
    head, _, body = lines.partition("\nx flux")
    assert all(line.startswith("# ") for line in head.splitlines())
    assert re.match(r"# %ECSV 1\.0$", head.splitlines()[0])
    assert len(body.splitlines()) == 1 + 5


def test_a_fits_table_comes_back_with_header_units_and_values() -> None:
    header = Header()
    header.set("OBJECT", "59 Cyg")
    source = spectrum()
    with fits.open(io.BytesIO(fits_table(source, header)), checksum=True) as hdus:
        hdus.verify("exception")
        table = Table.read(hdus["SPECTRUM"])
        assert hdus[0].header["OBJECT"] == "59 Cyg"
    assert {name: str(table[name].unit) for name in table.colnames} == UNITS
    for name in ("x", "flux", "counts_mean", "sky"):
        assert np.array_equal(table[name], source[name].values)


@pytest.mark.parametrize(("kind", "suffix"), [("ECSV", "ecsv"), ("tabular-fits", "fits")])
@pytest.mark.parametrize("chosen", [True, False])
def test_specutils_reads_flux_axis_and_cards(
    tmp_path: Path, kind: str, suffix: str, chosen: bool
) -> None:
    read = read_by_specutils(tmp_path, suffix, kind if chosen else None)
    assert np.array_equal(read.flux.value, FLUX)
    assert str(read.flux.unit) == "adu"
    assert np.array_equal(read.spectral_axis.value, np.arange(101, 106))
    assert str(read.spectral_axis.unit) == "pix"
    assert read.meta["header"]["OBJECT"] == "59 Cyg"


@pytest.mark.parametrize("suffix", ["ecsv", "fits"])
def test_specutils_takes_no_other_column_for_the_uncertainty(tmp_path: Path, suffix: str) -> None:
    assert np.isnan(read_by_specutils(tmp_path, suffix).uncertainty.array).all()


@pytest.mark.parametrize("suffix", ["ecsv", "fits"])
def test_specutils_finds_a_known_uncertainty(tmp_path: Path, suffix: str) -> None:
    attrs = {"units": "adu2", "long_name": "variance of the flux"}
    known = spectrum().assign(variance=("x", np.arange(1.0, 6.0) ** 2, attrs))
    uncertainty = read_by_specutils(tmp_path, suffix, source=known).uncertainty
    assert uncertainty.uncertainty_type == "std"
    assert np.array_equal(uncertainty.array, [1, 2, 3, 4, 5])


def flagged() -> xr.Dataset:
    """Return the spectrum with flags, as `dq` along x."""
    flags = np.array([0, 1, 2, 3, 255], np.uint8)
    return spectrum().assign(dq=("x", flags, dq_attrs("flags of a column")))


def test_flags_are_a_column_of_bytes_without_a_unit() -> None:
    table = read_ecsv(ecsv_table(flagged(), CARDS))
    with fits.open(io.BytesIO(fits_table(flagged(), Header())), checksum=True) as hdus:
        hdus.verify("exception")
        tables = [table, Table.read(hdus["SPECTRUM"])]
    for read in tables:
        assert (read["dq"].dtype, read["dq"].unit) == (np.uint8, None)
        assert read["dq"].tolist() == [0, 1, 2, 3, 255]
    assert table["dq"].description.startswith("flags of a column: 1 bad_pixel, 2 satu")


@pytest.mark.parametrize("suffix", ["ecsv", "fits"])
def test_specutils_reads_a_spectrum_with_flags(tmp_path: Path, suffix: str) -> None:
    read = read_by_specutils(tmp_path, suffix, source=flagged())
    assert np.array_equal(read.flux.value, FLUX)
    assert np.isnan(read.uncertainty.array).all()


def read_by_specutils(
    folder: Path, suffix: str, kind: str | None = None, source: xr.Dataset | None = None
) -> Any:
    """Write a spectrum in one form and let specutils read it."""
    from specutils import Spectrum

    header = Header()
    header.set("OBJECT", "59 Cyg")
    source = spectrum() if source is None else source
    content = {"fits": fits_table(source, header), "ecsv": ecsv_table(source, header.values())}
    path = folder / f"star_spectrum.{suffix}"
    path.write_bytes(content[suffix])
    return Spectrum.read(str(path), format=kind)


def test_facts_become_cards() -> None:
    cards = spectrum_cards(spectrum(first_row=484, last_row=518, threshold=62.6, history=["x"]))
    assert [card[:2] for card in cards] == [("SPFIRST", 484), ("SPLAST", 518), ("THRESH", 62.6)]


FACTS: dict[str, Any] = {
    "first_row": 484, "last_row": 518, "n_rows": 35, "rule": "robust", "trace": "fit", "tilt": 1.5,
    "fwhm": 5.25, "trace_rms": 0.02, "half_height": 17.25, "extraction": "optimal",
    "enclosed_fraction": 0.9921, "masked_fraction": 0.001, "snr": 87.5, "sky_model": "linear",
    "sky_below": (420, 460), "sky_above": (540, 580), "sky_rows_used": 81, "sky_scatter": 1.01,
}  # fmt: skip


def test_cards_tell_how_a_spectrum_was_found_traced_extracted_and_freed_of_sky() -> None:
    header = Header()
    for card in spectrum_cards(spectrum(**FACTS)):
        header.set(*card)
    told = {keyword: header[keyword] for keyword in ("SPRULE", "TRTILT", "SPFWHM", "ENCLOSED")}
    assert told == {"SPRULE": "robust", "TRTILT": 1.5, "SPFWHM": 5.25, "ENCLOSED": 0.9921}
    assert [header[f"SKY{name}"] for name in ("BEL1", "BEL2", "ABV1", "ABV2")] == [
        420, 460, 540, 580,
    ]  # fmt: skip
    assert (header["EXTRACT"], header["SKYMODEL"]) == ("optimal", "linear")
    assert "[pix]" in header.card("TRTILT")
    assert spectrum_attrs_of(header) == FACTS


def test_unknown_numbers_and_a_missing_side_make_no_cards() -> None:
    source = spectrum(**{**FACTS, "snr": float("nan"), "trace_rms": float("inf")})
    del source.attrs["sky_below"]
    keywords = {keyword for keyword, _, _ in spectrum_cards(source)}
    assert not {"SNR", "TRRMS", "SKYBEL1", "SKYBEL2"} & keywords
    assert {"SKYABV1", "SKYABV2"} < keywords


def test_sky_flags_and_trace_stand_before_the_procedures_columns() -> None:
    trace = ("x", np.full(5, 500.5), {"units": "pix", "long_name": "row of the light"})
    names = [column.name for column in spectrum_columns(flagged().assign(trace=trace))]
    assert names == ["x", "flux", "uncertainty", "sky", "dq", "trace", "counts_mean"]


def of_frames() -> xr.Dataset:
    """Return the spectra of two frames, the second at an unknown time."""
    starts = np.array(["2024-03-09T20:00:30", "NaT"], "datetime64[ns]")
    adu = {"units": "adu", "long_name": "sky-subtracted flux"}
    flux = np.arange(10.0).reshape(2, 5)
    return xr.Dataset(
        {
            "flux": (("frame", "x"), flux, adu),
            "variance": (("frame", "x"), (flux + 1) ** 2, {"units": "adu2"}),
            "dq": (("frame", "x"), np.eye(2, 5, dtype=np.uint8), dq_attrs("flags of a column")),
        },
        coords={
            "frame": ["star-1", "star-22"],
            "x": np.arange(101, 106),
            "time_mid": ("frame", starts),
            "exptime": ("frame", [60.0, 61.0]),
            "offset": ("frame", [0.0, -0.5]),
            "extraction": ("frame", ["optimal", "sum"]),
        },
    )


def test_spectra_of_frames_are_a_table_with_a_row_for_each(tmp_path: Path) -> None:
    path = tmp_path / "star_frames.fits"
    path.write_bytes(frames_table(of_frames(), Header()))
    with fits.open(path, checksum=True) as hdus:
        hdus.verify("exception")
    table = Table.read(path)
    assert np.array_equal(table["flux"], of_frames().flux)
    assert np.array_equal(table["uncertainty"], of_frames().flux + 1)
    assert [str(table[name].unit) for name in ("flux", "mjd_mid", "exptime")] == ["adu", "d", "s"]
    assert list(table["frame"]) == ["star-1", "star-22"]
    assert table["dq"].tolist() == np.eye(2, 5).tolist()


def test_the_time_of_a_frame_is_its_date_and_its_modified_julian_date(tmp_path: Path) -> None:
    path = tmp_path / "star_frames.fits"
    path.write_bytes(frames_table(of_frames(), Header()))
    table = Table.read(path)
    assert table["date_mid"][0] == "2024-03-09T20:00:30.000"
    assert abs(table["mjd_mid"][0] - Time(table["date_mid"][0]).mjd) < 1e-9
    assert np.isnan(np.ma.filled(table["mjd_mid"][1], np.nan))


def test_frames_without_times_noise_or_sky_are_a_table_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "star_frames.fits"
    bare = of_frames().drop_vars(["time_mid", "exptime", "variance", "dq"])
    path.write_bytes(frames_table(bare, Header()))
    with fits.open(path) as hdus:
        records = hdus["FRAMES"].data
        assert np.isnan(records["uncertainty"]).all()
        assert np.isnan(records["mjd_mid"]).all()
        assert list(records["date_mid"]) == ["", ""]
