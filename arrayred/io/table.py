"""A spectrum as files: the procedure's two text tables, ECSV, and a FITS binary table.

The text tables are the published procedure's to the byte: a line ``x y``, then column number and
value as the shortest decimal that reads back as the same float64. ECSV is astropy's text format
with units; both it and the FITS table are read by astropy and by `Spectrum.read` of specutils.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from arrayred.io.card import Value, ascii_of
from arrayred.io.cards import Header
from arrayred.io.hdu import Column, table_bytes
from arrayred.io.planes import sigma_of
from arrayred.model import COUNTS, FRAME, X

if TYPE_CHECKING:
    import xarray as xr

TABLES = {"counts_mean": "raw_extraction", "counts_mean_sky_subtracted": "skysubtracted"}
"""Which variable of a spectrum is which text table of the procedure."""
SPECTRUM = "SPECTRUM"
"""EXTNAME of the FITS table."""
FRAMES = "FRAMES"
"""EXTNAME of the table of the frames' spectra."""
NOISE_FACTS = {
    "gain_effective": ("GAINEFF", "[electron/{units}] of the combination"),
    "noise_effective": ("RDNEFF", "[electron] noise of the combination without light"),
    "noise_level": ("NOISELEV", "[{units}] light that RDNEFF holds already"),
}
"""Which attribute of a combined image, and of its spectrum, is which card."""
FACTS = {
    "rule": ("SPRULE", "what found the rows: threshold, robust, given"),
    "n_sigma": ("NSIGMA", "standard deviations from BKGMEAN to THRESH"),
    "first_row": ("SPFIRST", "first row of the spectrum"),
    "last_row": ("SPLAST", "last row of the spectrum"),
    "row_snr": ("SPSNR", "noises of a row's mean by which the brightest stands out"),
    "n_bright_rows": ("SPBRIGHT", "rows of it above the threshold"),
    "background_mean": ("BKGMEAN", "[{units}] mean of the background sample"),
    "background_std": ("BKGSTD", "[{units}] standard deviation of its pixels"),
    "threshold": ("THRESH", "[{units}] what the mean of a row must exceed"),
    "sky_first_row": ("SKYFIRST", "first row of the sky band"),
    "sky_last_row": ("SKYLAST", "last row of the sky band"),
    "trace": ("TRACE", "fit: followed along x; straight: not"),
    "tilt": ("TRTILT", "[pix] rise from the first to the last column"),
    "trace_rms": ("TRRMS", "[pix] scatter of the light about the trace"),
    "center_middle": ("TRROW", "[pix] row of the light in the middle column"),
    "n_bins": ("TRBINS", "bins of columns that told the trace"),
    "trace_order": ("TRORDER", "order of the polynomial along x"),
    "fwhm": ("SPFWHM", "[pix] width of the light across the rows"),
    "half_height": ("SPHALF", "[pix] from the trace to the aperture's edge"),
    "extraction": ("EXTRACT", "how the aperture became the flux"),
    "enclosed_fraction": ("ENCLOSED", "part of the light within the aperture"),
    "masked_fraction": ("MASKFRAC", "part of the aperture's pixels left out"),
    "profile_snr": ("PROFSNR", "signal to noise ratio of the profile"),
    "snr": ("SNR", "median signal to noise, central half"),
    "sky_model": ("SKYMODEL", "what was fitted to the sky of a column"),
    "sky_rows_used": ("SKYROWS", "rows of sky that counted"),
    "sky_lean": ("SKYLEAN", "[pix] columns per row by which its lines lean"),
    "sky_scatter": ("SKYSCAT", "noise of the sky over that predicted"),
}
"""Which attribute of a spectrum is which card; its comment names the flux's unit."""
RANGES = {
    "sky_below": (("SKYBEL1", "SKYBEL2"), "sky below the spectrum"),
    "sky_above": (("SKYABV1", "SKYABV2"), "sky above the spectrum"),
}
"""Which attribute of a spectrum, two rows, is which pair of cards."""
_ORDER = ("sky", "dq", "trace")
"""Columns that stand before the procedure's."""


def text_table(values: Any, first: int = 1) -> bytes:
    """Return values (x) as the procedure's text table, its columns numbered from `first` on.

    Examples
    --------
    >>> text_table(np.array([1.5, 2.0])).decode().splitlines()
    ['x y', '1.0 1.5', '2.0 2.0']
    """
    lines = [f"{float(i)!r} {value!r}" for i, value in enumerate(values.tolist(), first)]
    return "\n".join(["x y", *lines, ""]).encode()


def columns_of(spectrum: xr.Dataset) -> list[Column]:
    """Return the columns of a spectrum: x, flux, uncertainty, then the rest.

    The uncertainty stands third even where it is unknown, as NaN: specutils takes the next column
    of the flux's unit for it, whatever its name.
    """
    values = {name: spectrum[name] for name in _ORDER if name in spectrum.data_vars}
    values |= {str(name): variable for name, variable in spectrum.data_vars.items()}
    flux, variance = values.pop("flux"), values.pop("variance", None)
    sigma = np.full(flux.size, np.nan) if variance is None else sigma_of(variance.values)
    described = "standard deviation of the flux" + ("; unknown" if variance is None else "")
    return [
        Column("x", "pix", "column of the image", spectrum[X].values.astype(np.int64)),
        Column("flux", flux.attrs["units"], flux.attrs["long_name"], flux.values),
        Column("uncertainty", flux.attrs["units"], described, sigma),
        *(
            Column(name, variable.attrs.get("units", ""), _described(variable), variable.values)
            for name, variable in values.items()
        ),
    ]


def frame_columns(frames: xr.Dataset) -> list[Column]:
    """Return the spectra of frames as columns: one row for each frame, its spectrum in a cell.

    When and how stand first, so that a light curve is one column against another. Of the middle of
    an exposure there is the date, and the MJD in UTC; both are blank where it is unknown.
    """
    n = frames.sizes[FRAME]
    middles = frames.coords.get("time_mid")
    times = np.full(n, np.datetime64("NaT", "ns")) if middles is None else middles.values
    known = ~np.isnat(times)
    dates = np.where(known, np.datetime_as_string(times, "ms"), "")
    days = (times - np.datetime64("1858-11-17", "ns")) / np.timedelta64(1, "D")
    flux = frames["flux"]
    known_noise = "variance" in frames
    sigma = sigma_of(frames["variance"].values) if known_noise else np.full(flux.shape, np.nan)
    unit = str(flux.attrs["units"])
    columns = [
        Column("frame", "", "name of the frame", _text(frames[FRAME].values)),
        Column("date_mid", "", "middle of the exposure, UTC", _text(dates)),
        Column("mjd_mid", "d", "the same as modified Julian date, UTC", np.asarray(days)),
        Column("exptime", "s", "exposure", _per_frame(frames, "exptime")),
        Column("offset", "pix", "rows from the common trace", _per_frame(frames, "offset")),
        Column("extraction", "", "how the flux was extracted", _text(frames["extraction"].values)),
        Column("flux", unit, str(flux.attrs["long_name"]), flux.values),
        Column("uncertainty", unit, "standard deviation of the flux", sigma),
    ]
    for name in ("sky", "dq"):
        if name in frames:
            values = frames[name]
            text = _described(values)
            columns.append(Column(name, values.attrs.get("units", ""), text, values.values))
    return columns


def _per_frame(frames: xr.Dataset, name: str) -> Any:
    """Return a coordinate of the frames as numbers, NaN where it is unknown."""
    n = frames.sizes[FRAME]
    return np.asarray(frames[name].values, np.float64) if name in frames else np.full(n, np.nan)


def _text(values: Any) -> Any:
    return np.array([ascii_of(str(value)).encode() for value in values] or [b""], np.bytes_)


def _described(variable: xr.DataArray) -> str:
    """Return what a column is; of flags, what each bit means."""
    masks = variable.attrs.get("flag_masks", ())
    meanings = variable.attrs.get("flag_meanings", "").split()
    bits = ", ".join(f"{mask} {name}" for mask, name in zip(masks, meanings, strict=True))
    return f"{variable.attrs['long_name']}{f': {bits}' if bits else ''}"


def fact_cards(spectrum: xr.Dataset) -> list[tuple[str, Value, str]]:
    """Return the rows, the numbers that found them, trace, sky and noise as cards."""
    pairs = [
        (keyword, int(spectrum.attrs[name][i]), f"{('first', 'last')[i]} row of the {what}")
        for name, (keywords, what) in RANGES.items()
        if name in spectrum.attrs
        for i, keyword in enumerate(keywords)
    ]
    return [*noise_cards(spectrum, "flux"), *_cards(spectrum, FACTS, "flux"), *pairs]


def facts_of(header: Header) -> dict[str, Any]:
    """Return the attributes of a spectrum that `fact_cards` made cards of."""
    told: dict[str, Any] = {
        name: header.get(keyword) for name, (keyword, _) in FACTS.items() if keyword in header
    }
    for name, (keywords, _) in RANGES.items():
        if all(keyword in header for keyword in keywords):
            first, last = (int(str(header.get(keyword))) for keyword in keywords)
            told[name] = (first, last)
    if "first_row" in told and "last_row" in told:
        told["n_rows"] = int(str(told["last_row"])) - int(str(told["first_row"])) + 1
    return told


def noise_cards(image: xr.Dataset, variable: str = COUNTS) -> list[tuple[str, Value, str]]:
    """Return gain and noise of a combination as cards, where they are known."""
    return _cards(image, NOISE_FACTS, variable)


def _cards(
    source: xr.Dataset, facts: Mapping[str, tuple[str, str]], variable: str
) -> list[tuple[str, Value, str]]:
    units = source[variable].attrs.get("units", "adu")
    return [
        (keyword, source.attrs[name], comment.format(units=units))
        for name, (keyword, comment) in facts.items()
        if name in source.attrs and _is_told(source.attrs[name])
    ]


def _is_told(value: Value) -> bool:
    """Tell whether a card can hold a value: there is none for what is not finite."""
    return not isinstance(value, float) or math.isfinite(value)


def frames_table(frames: xr.Dataset, header: Header) -> bytearray:
    """Return the spectra of frames as a FITS file: header first, one row a frame in the table."""
    return table_bytes(header, FRAMES, frame_columns(frames))


def fits_table(spectrum: xr.Dataset, header: Header) -> bytearray:
    """Return a spectrum as a FITS file: header in the primary HDU, columns in the table."""
    return table_bytes(header, SPECTRUM, columns_of(spectrum))


def _yaml(value: Value) -> str:
    """Return a value as YAML 1.1, whose floats have a point."""
    text = json.dumps(value)
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text


def ecsv_table(spectrum: xr.Dataset, meta: Mapping[str, Value]) -> bytes:
    """Return a spectrum as ECSV 1.0.

    Parameters
    ----------
    spectrum : its columns.
    meta : what stands in the head beside them.
    """
    columns = columns_of(spectrum)
    head = ["%ECSV 1.0", "---", "datatype:"]
    for column in columns:
        pairs = {
            "name": column.name,
            "unit": column.unit,
            "datatype": column.values.dtype.name,
            "description": column.description,
        }
        known = {key: value for key, value in pairs.items() if value}
        head.append(
            "- {" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in known.items()) + "}"
        )
    head += [
        *(["meta: !!omap"] if meta else []),
        *(f"- {{{json.dumps(key)}: {_yaml(value)}}}" for key, value in meta.items()),
    ]
    head.append("schema: astropy-2.0")
    texts = (map(repr, column.values.tolist()) for column in columns)
    body = map(" ".join, [[column.name for column in columns], *zip(*texts, strict=True)])
    return "\n".join([*(f"# {line}" for line in head), *body, ""]).encode()
