"""Export spectra to archives and to other programs, on a linear wavelength scale.

The products keep each pixel of the detector, with its wavelength beside it. Archives and older
programs want the wavelength of the first value and a step instead. `to_linear` makes such a
spectrum, `export_file` writes it for BeSS, the archive of Be stars, or for IRAF, and
`check_bess_file` says what keeps any program's file out of the archive.

The cards of BeSS are those that the programs of its contributors write; its spectra are
topocentric, with ``BSS_VHEL`` 0, and not corrected for the response of the instrument.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from arrayred._version import __version__
from arrayred.config.toml import errors_name, read_toml, require_known, toml_lines
from arrayred.errors import FrameError, HeaderError, MissingCardsError, UsageError
from arrayred.io.header import Header, Plane, Value, ascii_of, image_bytes
from arrayred.io.products import header_of, open_product, sigma_of
from arrayred.io.scan import data_size, header_bytes, open_regular, unreadable
from arrayred.kernels.rows import bright_runs
from arrayred.model import DQ, FLUX, SPOILT, VARIANCE, check_dataset
from arrayred.steps.solution import angle_of, lacks_sign, place_of

if TYPE_CHECKING:
    import xarray as xr

Format = Literal["bess", "iraf"]
Spoilt = Literal["interpolate", "refuse"]
WAVELENGTH, INTERPOLATED = "wavelength", "interpolated"
_MOST_SPOILT = 0.2
"""Part of the covered columns that may be interpolated: beyond, the spectrum is mostly made up."""


# A linear wavelength scale: `to_linear`.


def to_linear(
    spectrum: xr.Dataset, step: float | None = None, *, spoilt: Spoilt = "interpolate"
) -> xr.Dataset:
    """Resample a spectrum to bins of equal width in wavelength; the counts are conserved.

    The flux of a pixel is spread evenly between its edges, which lie halfway to its neighbours,
    and shared among the bins that it overlaps. Pixels with extrapolated wavelengths are excluded.

    Parameters
    ----------
    spectrum : `flux` (x) with the coordinate `wavelength` (x), Angstrom; `variance`, `dq` and
        `extrapolated` where known.
    step : width of a bin, Angstrom; by default the median width of a pixel.
    spoilt : how flagged columns and those without a flux are treated: "interpolate" between their
        neighbours, or "refuse" the spectrum.

    Returns
    -------
    linear : `flux` and `variance` (wavelength), per bin, and `interpolated` (wavelength). The
        attribute `correlation` is that of neighbouring bins, which share pixels, and
        `interpolated_ranges` lists the wavelengths that were interpolated, Angstrom.

    Raises
    ------
    UsageError
        There are no wavelengths, they do not rise or fall throughout, the step is not positive or
        wider than the spectrum, or columns are spoilt and may not be interpolated.

    Examples
    --------
    >>> import xarray as xr
    >>> flux = xr.DataArray([1.0, 2.0, 3.0, 4.0], dims="x", coords={"x": [1, 2, 3, 4]})
    >>> wave = ("x", [5000.0, 5002.0, 5004.0, 5006.0])
    >>> linear = to_linear(xr.Dataset({"flux": flux}, coords={"wavelength": wave}), 4.0)
    >>> linear.wavelength.values.tolist(), linear.flux.values.tolist()
    ([5001.0, 5005.0], [3.0, 7.0])
    """
    wave, flux, variance, bad = _covered(spectrum)
    if bad.any():
        flux, variance = _interpolated(wave, flux, variance, bad, spoilt)
    middles = (wave[1:] + wave[:-1]) / 2
    edges = np.concatenate(([2 * wave[0] - middles[0]], middles, [2 * wave[-1] - middles[-1]]))
    width = float(np.median(np.diff(edges))) if step is None else step
    n_bins = math.floor((edges[-1] - edges[0]) / width + 1e-6) if width > 0 else 0
    if not n_bins:
        raise UsageError(
            f"A bin width of {width:g} Angstrom does not fit {wave[0]:.1f} to {wave[-1]:.1f} "
            "Angstrom",
            keyword="step",
            value=step,
            hint="Omit it to use the median width of a pixel.",
        )
    bins = edges[0] + width * np.arange(n_bins + 1)
    inner = edges[(edges > bins[0]) & (edges < bins[-1])]
    breaks = np.unique(np.concatenate((bins, inner)))
    middle = (breaks[1:] + breaks[:-1]) / 2
    pixel = np.clip(np.searchsorted(edges, middle) - 1, 0, flux.size - 1)
    of_bin = np.clip(np.searchsorted(bins, middle) - 1, 0, n_bins - 1)
    share = np.diff(breaks) / np.diff(edges)[pixel]
    linear_flux = np.asarray(np.bincount(of_bin, share * flux[pixel], n_bins), np.float64)
    linear_variance = np.asarray(
        np.bincount(of_bin, share**2 * variance[pixel], n_bins), np.float64
    )
    shared = (pixel[1:] == pixel[:-1]) & (of_bin[1:] != of_bin[:-1])
    both = np.where(shared, share[1:] * share[:-1] * variance[pixel[1:]], 0.0)
    covariance = np.bincount(of_bin[:-1], both, n_bins)[:-1]
    scale = np.sqrt(linear_variance[1:] * linear_variance[:-1])
    known = scale > 0
    correlation = float(np.median(covariance[known] / scale[known])) if known.any() else math.nan
    return _linear_dataset(
        spectrum,
        bins,
        linear_flux,
        linear_variance,
        np.bincount(of_bin, bad[pixel], n_bins) > 0,
        {"correlation": correlation, "interpolated_ranges": _ranges(wave, bad)},
    )


def _covered(
    spectrum: xr.Dataset,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Return wavelength, flux, variance and whether a column is spoilt, by rising wavelength.

    What is extrapolated is left out, and so are spoilt columns at either end.
    """
    check_dataset(spectrum, "the spectrum")
    if WAVELENGTH not in spectrum.variables or FLUX not in spectrum:
        raise UsageError(
            "The spectrum has no wavelengths",
            hint="Reduce the night with its arc frames, or run arrayred wavelength --solution.",
        )
    wave, flux = (np.asarray(spectrum[name].values, np.float64) for name in (WAVELENGTH, FLUX))
    variance = np.full(flux.size, np.nan)
    if VARIANCE in spectrum:
        variance = np.asarray(spectrum[VARIANCE].values, np.float64)
    bad = ~np.isfinite(flux)
    if DQ in spectrum:
        bad |= spectrum[DQ].values & SPOILT != 0
    inside = np.isfinite(wave)
    if "extrapolated" in spectrum.variables:
        inside &= ~spectrum["extrapolated"].values.astype(bool)
    usable = np.flatnonzero(inside & ~bad)
    if usable.size < 2:
        raise UsageError(
            f"{usable.size} columns have both a flux and a wavelength that is not extrapolated",
            hint="Use a lamp with lines over more of the detector.",
        )
    kept = slice(usable[0], usable[-1] + 1)
    wave, flux, variance, bad = wave[kept], flux[kept], variance[kept], bad[kept]
    rise = np.diff(wave)
    if not ((rise > 0).all() or (rise < 0).all()):
        raise UsageError(
            "The wavelengths are not monotonic",
            hint="Fit a lower order: arrayred wavelength --order.",
        )
    if rise[0] < 0:
        return wave[::-1], flux[::-1], variance[::-1], bad[::-1]
    return wave, flux, variance, bad


def _interpolated(
    wave: NDArray[np.float64],
    flux: NDArray[np.float64],
    variance: NDArray[np.float64],
    bad: NDArray[np.bool_],
    spoilt: Spoilt,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return flux and variance, interpolated where columns are spoilt, or refuse them."""
    n, part = int(np.count_nonzero(bad)), float(np.mean(bad))
    where = _listed(_ranges(wave, bad))
    columns = "1 column is" if n == 1 else f"{n} columns are"
    if spoilt == "refuse":
        raise UsageError(
            f"{columns} flagged: {where}", hint="Interpolate them: remove --spoilt refuse."
        )
    if part > _MOST_SPOILT:
        raise UsageError(
            f"{columns} of {bad.size} flagged, too many to interpolate: {where}",
            hint="See the flags (dq) of the spectrum, and remove the cause.",
        )
    at = np.arange(wave.size)
    return tuple(  # type: ignore[return-value]
        np.where(bad, np.interp(at, at[~bad], values[~bad]), values) for values in (flux, variance)
    )


def _ranges(wave: NDArray[np.float64], bad: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Return the first and last wavelength of each run of spoilt columns."""
    return [(float(wave[first]), float(wave[stop - 1])) for first, stop in bright_runs(bad)]


def _listed(ranges: Sequence[tuple[float, float]]) -> str:
    """Return ranges of wavelengths as text, the first ones of many.

    Examples
    --------
    >>> _listed([(5000.04, 5000.04), (6000.0, 6001.5)])
    '5000.0, 6000.0 to 6001.5 Angstrom'
    """
    told = [f"{a:.1f}" if a == b else f"{a:.1f} to {b:.1f}" for a, b in ranges[:20]]
    more = f" and {len(ranges) - 20} more" if len(ranges) > 20 else ""
    return f"{', '.join(told)}{more} Angstrom"


def _linear_dataset(
    spectrum: xr.Dataset,
    bins: NDArray[np.float64],
    flux: NDArray[np.float64],
    variance: NDArray[np.float64],
    interpolated: NDArray[np.bool_],
    attrs: dict[str, Any],
) -> xr.Dataset:
    import xarray as xr

    unit = str(spectrum[FLUX].attrs.get("units", "adu"))
    told = spectrum[WAVELENGTH].attrs
    wave = {"units": "Angstrom", "standard_name": "radiation_wavelength"}
    wave |= {name: told[name] for name in ("medium", "frame") if name in told}
    return xr.Dataset(
        {
            FLUX: (WAVELENGTH, flux, {"units": unit, "long_name": "flux per bin"}),
            VARIANCE: (WAVELENGTH, variance, {"units": f"{unit}2"}),
            INTERPOLATED: (WAVELENGTH, interpolated),
        },
        coords={WAVELENGTH: (WAVELENGTH, (bins[1:] + bins[:-1]) / 2, wave)},
        attrs={**attrs, "step": float(bins[1] - bins[0])},
    )


# Who observed, where and with what: `Observer`, a file that is written once.

OBSERVER_FILE = "observer.toml"


@dataclass(frozen=True)
class Observer:
    """Who observed, where and with what, for the archives.

    Parameters
    ----------
    observer : name, or up to three names.
    site : name of the observatory or the place.
    longitude : degrees, east positive.
    latitude : degrees, north positive.
    elevation : metres above the sea.
    instrument : telescope, spectrograph and camera, as they are to appear in the archive.
    """

    observer: str = ""
    site: str = ""
    longitude: float | None = None
    latitude: float | None = None
    elevation: float | None = None
    instrument: str = ""

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Observer:
        """Read an observer file, `observer.toml`.

        Raises
        ------
        UsageError
            The file cannot be read, a key is unknown, or a value is invalid.
        """
        place = Path(path)
        with errors_name(place):
            return cls.of(read_toml(place))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Observer:
        """Return the observer of the keys and values of a file.

        Examples
        --------
        >>> Observer.of({"site": "Home", "longitude": "-89 30 00"}).longitude
        -89.5
        """
        known: dict[str, Any] = {}
        for key, value in values.items():
            require_known(key, {field.name for field in fields(cls)}, "key of an observer")
            if key in ("longitude", "latitude", "elevation"):
                known[key] = _degrees_of(key, value)
            elif key == "observer" and isinstance(value, list):
                known[key] = ", ".join(map(str, value))
            elif isinstance(value, str):
                known[key] = value.strip()
            else:
                raise UsageError(f"{key} must be text, not {value!r}", keyword=key, value=value)
        if known.get("observer", "").count(",") > 2:
            raise UsageError(
                "There are more than three observers",
                keyword="observer",
                hint="The archives accept up to three names.",
            )
        return cls(**known)


def _degrees_of(key: str, value: Any) -> float:
    """Return an angle as degrees (or a height as metres); a text in three parts needs its sign."""
    limit = {"longitude": 360.0, "latitude": 90.0}.get(key, 9000.0)
    number = angle_of(value)
    if number is None:
        raise UsageError(
            f"{key} is {value!r}, which is not a number",
            keyword=key,
            value=value,
            hint='Write degrees, such as -89.892, or "-89 53 30".',
        )
    if key == "longitude" and lacks_sign(value):
        raise UsageError(
            f"longitude is {value!r}without a sign: east or west?",
            keyword=key,
            value=value,
            hint=f'Write "+{value}" for east or "-{value}" for west of Greenwich.',
        )
    if not abs(number) <= limit:
        raise UsageError(
            f"{key} is {number:g}", keyword=key, value=value, hint=f"It is at most {limit:g}."
        )
    return number


# Files: `export_file`.


def export_file(
    path: str | PathLike[str],
    to: Format,
    *,
    observer: Observer | None = None,
    step: float | None = None,
    spoilt: Spoilt = "interpolate",
) -> bytes:
    """Return a spectrum as a FITS file for an archive or another program.

    Parameters
    ----------
    path : of TARGET_spectrum.fits, with wavelengths; where its frames named no object, it is that
        TARGET.
    to, observer, step, spoilt : as in `exported`.

    Returns
    -------
    content : as of `exported`.

    Raises
    ------
    FrameError
        The file cannot be read.
    UsageError
        As `exported`.
    """
    place = Path(path)
    with errors_name(place):
        spectrum = open_product(place)
        told = header_of(spectrum.attrs) or Header()
        if told.readable("OBJECT") in (None, ""):
            told.set("OBJECT", ascii_of(place.name.removesuffix("_spectrum.fits")), "target")
            spectrum = spectrum.assign_attrs(header="\n".join(told.images()))
        return exported(spectrum, to, observer=observer, step=step, spoilt=spoilt)


def exported(
    spectrum: xr.Dataset,
    to: Format,
    *,
    observer: Observer | None = None,
    step: float | None = None,
    spoilt: Spoilt = "interpolate",
) -> bytes:
    """Return a spectrum, as `open_product` opens it, as the bytes of a FITS file.

    Parameters
    ----------
    spectrum : `flux` (x) with `wavelength`, and the cards of its file as the attribute `header`.
    to : "bess": the archive of Be stars, or "iraf".
    observer : who observed, where and with what; what it leaves out is taken from the header.
    step, spoilt : as in `to_linear`.

    Returns
    -------
    content : one image of one axis, float32; for IRAF also its standard deviation, as STD.

    Raises
    ------
    UsageError
        The spectrum has no wavelengths, or they are not topocentric, as the archive wants them.
    MissingCardsError
        A keyword that the archive requires is neither in the header nor in the observer file.
    """
    told = header_of(spectrum.attrs) or Header()
    if to == "bess":
        _require_topocentric(told)
    linear = to_linear(spectrum, step, spoilt=spoilt)
    header = _header_of_linear(told, linear, to, observer or Observer())
    planes = []
    if to == "iraf":
        sigma = sigma_of(linear[VARIANCE].values, "float32")
        card = ("UTYPE", "StdDevUncertainty", "standard deviation of the image")
        # The only name by which specutils (2.4) reads a standard deviation.
        planes.append(Plane("STD", [card], sigma, "float32"))
    return bytes(image_bytes(header, linear[FLUX].values, "float32", planes))


def _require_topocentric(told: Header) -> None:
    frame = told.readable("SPECSYS")
    if frame not in (None, "", "TOPOCENT"):
        raise UsageError(
            f"The wavelengths are corrected for the Earth's motion (SPECSYS is {frame}); "
            "the archive wants them as observed",
            keyword="SPECSYS",
            value=frame,
            hint="Make them without --heliocentric: arrayred wavelength.",
        )


def _header_of_linear(told: Header, linear: xr.Dataset, to: Format, observer: Observer) -> Header:
    """Return the cards of a linear spectrum, without the structural ones."""
    wave, step = linear[WAVELENGTH].values, float(linear.attrs["step"])
    header = Header() if to == "bess" else told.copy()
    for keyword, value, comment in (
        ("CRPIX1", 1.0, "pixel of CRVAL1"),
        ("CRVAL1", float(wave[0]), "[Angstrom] wavelength of the first bin"),
        ("CDELT1", step, "[Angstrom] width of a bin"),
        ("CTYPE1", "Wavelength" if to == "bess" else "LINEAR", ""),
        ("CUNIT1", "Angstrom", "in air"),
    ):
        header.set(keyword, value, comment)
    if to == "iraf":
        for keyword, number in (("WCSDIM", 1), ("CD1_1", step), ("DC-FLAG", 0)):
            header.set(keyword, number)
        header.set("WAT0_001", "system=equispec")
        header.set("WAT1_001", "wtype=linear label=Wavelength units=angstroms")
        header.set("APNUM1", "1 1")
    else:
        _set_bess_cards(header, told, observer)
    unit = str(linear[FLUX].attrs["units"])
    header.set("BUNIT", unit, "per bin")
    for line in (*_told_of(linear), *_zero_points_of(told)):
        header.note("COMMENT", line)
    return header


def _told_of(linear: xr.Dataset) -> Iterator[str]:
    """Yield what a reader must know of a linear spectrum, one line each."""
    step, n = linear.attrs["step"], linear.attrs["correlation"]
    yield f"arrayred {__version__}: counts conserved in bins of {step:.6g} Angstrom, air"
    if math.isfinite(n):
        yield f"neighbouring bins share pixels: the correlation of their noise is {n:.2f}"
    yield "not corrected for the response of the instrument"
    ranges = linear.attrs["interpolated_ranges"]
    if ranges:
        yield f"interpolated: {_listed(ranges)}"


def _zero_points_of(told: Header) -> Iterator[str]:
    """Yield which zero points were measured, and which is applied, one line each."""
    applied = told.readable("WLZERO")
    for keyword, lines in (
        ("WLZSKY", "lines of the sky"),
        ("WLZOXY", "lines of the air's oxygen"),
        ("WLZSTAR", "lines of the star"),
    ):
        shift, error = told.readable(keyword), told.readable(f"{keyword}E")
        if isinstance(shift, int | float) and isinstance(error, int | float):
            state = "corrected" if shift == applied else "not corrected"
            yield (
                f"{lines} are shifted by {shift:+.2f} +- {error:.2f} pixel from the arc lines: "
                f"{state}"
            )


_JD_OF_MJD = 2400000.5


def _set_bess_cards(header: Header, told: Header, observer: Observer) -> None:
    """Set the cards that the archive requires, and the optional ones.

    Raises
    ------
    MissingCardsError
        Required ones are neither in the header nor in the observer file; all are named.
    """
    own = {name: told.readable(name) for name in told if name not in ("HISTORY", "COMMENT", "")}
    instrument = observer.instrument or _text(own, "BSS_INST", "INSTRUME", "DETNAM")
    total = own.get("EXPTOTAL", own.get("EXPTIME"))
    demanded: dict[str, tuple[Value, str, str]] = {
        "OBJNAME": (_text(own, "OBJECT", "OBJNAME"), "name of the star", "OBJECT in the frames"),
        "DATE-OBS": (_text(own, "DATE-OBS"), "start of the first exposure", "DATE-OBS there"),
        "EXPTIME": (total, "[s] exposure of all frames together", "EXPTIME there"),
        "OBSERVER": (observer.observer or _text(own, "OBSERVER"), "", "observer"),
        "BSS_INST": (instrument, "telescope, spectrograph, camera", "instrument"),
        "BSS_SITE": (observer.site or _text(own, "BSS_SITE", "SITENAME", "OBSERVAT"), "", "site"),
    }
    missing = {key: where for key, (value, _, where) in demanded.items() if value in (None, "")}
    if missing:
        asked = [where for where in missing.values() if " " not in where]
        example = "; ".join(toml_lines([(name, "...") for name in asked]))
        hint = f"Add them to OUT/{OBSERVER_FILE}: {example}." if asked else ""
        frames = [where for where in missing.values() if " " in where]
        hint += f" Give {' and '.join(frames)} with --card when reducing." if frames else ""
        raise MissingCardsError(
            f"BeSS requires {', '.join(missing)}, not found in the headers or {OBSERVER_FILE}",
            keyword=next(iter(missing)),
            hint=hint.strip(),
        )
    for keyword, (value, comment, _) in demanded.items():
        header.set(keyword, ascii_of(value) if isinstance(value, str) else value, comment)
    header.set("BSS_VHEL", 0.0, "[km/s] velocity applied: none, topocentric")
    number, place = own.get("NCOMBINE"), place_of(own)
    if isinstance(number, int) and isinstance(own.get("EXPTIME"), int | float):
        header.set("EXPTIME2", f"{number} x {own['EXPTIME']:g} s", "exposures")
    optional: list[tuple[str, Value, str]] = [
        ("MJD-OBS", own.get("MJD-OBS"), "[d] start of the first exposure"),
        ("DATE-END", own.get("DATE-END"), "end of the last exposure"),
        ("MJD-END", own.get("MJD-END"), "[d] end of the last exposure"),
        ("JD-OBS", _julian_date(own.get("MJD-OBS")), "[d] start, UTC"),
        ("JD-MID", _julian_date(own.get("MJD-AVG")), "[d] mean of the mid-exposures, UTC"),
        ("SPE_RPOW", own.get("SPE_RPOW"), "resolving power, of the lamp's lines"),
        ("BSS_RA", place[0] if place else None, "[deg] right ascension"),
        ("BSS_DEC", place[1] if place else None, "[deg] declination"),
        ("GEO_LONG", observer.longitude, "[deg] east positive"),
        ("GEO_LAT", observer.latitude, "[deg] north positive"),
        ("GEO_ELEV", observer.elevation, "[m]"),
        ("BSS_NORM", "None", "normalised to the continuum"),
        ("BSS_TELL", "None", "telluric lines removed"),
        ("BSS_COSM", "Removed" if own.get("ARCLEAN") else "None", "cosmic rays"),
        ("VERSION", f"arrayred {__version__}", "program"),
    ]
    for keyword, value, comment in optional:
        if value not in (None, ""):
            header.set(keyword, value, comment)


def _text(cards: Mapping[str, Value], *keywords: str) -> str:
    """Return the first of some cards that is filled, as text."""
    found = (cards.get(keyword) for keyword in keywords)
    return next((str(value).strip() for value in found if value not in (None, "")), "")


def _julian_date(mjd: Value) -> float | None:
    return float(mjd) + _JD_OF_MJD if isinstance(mjd, int | float) else None


# Files of any program: `check_bess_file`.

_INSTRUMENT_CARDS = ("DETNAM", "INSTRUME", "TELESCOP")


def check_bess_file(path: str | PathLike[str]) -> list[str]:
    """Return the reasons why BeSS, the archive of Be stars, would not accept a FITS file.

    Parameters
    ----------
    path : a file of any program.

    Raises
    ------
    FrameError
        It cannot be read as FITS.
    """
    place = Path(path)
    try:
        with open_regular(place) as file:
            head = header_bytes(place, file, first=True)
            header = Header.from_bytes(head or b"")
            raw = file.read(data_size(header)) if header.get("NAXIS") == 1 else b""
    except OSError as error:
        raise unreadable(place, error) from error
    except HeaderError as error:
        raise FrameError(str(error.args[0]), path=place, keyword=error.keyword) from error
    return [*_layout_problems(header, raw), *_scale_problems(header), *_card_problems(header)]


def _layout_problems(header: Header, raw: bytes) -> Iterator[str]:
    n_axes, bits = header.readable("NAXIS"), header.readable("BITPIX")
    if n_axes != 1:
        yield f"NAXIS is {n_axes}: a spectrum is an image of one axis in the primary HDU"
        return
    if bits != -32:
        yield f"BITPIX is {bits}: write float32, BITPIX -32"
        return
    n = header.readable("NAXIS1")
    if not isinstance(n, int) or len(raw) < 4 * n:
        yield f"NAXIS1 is {n}, but {len(raw) // 4} values are there"
        return
    values = np.frombuffer(raw, ">f4", n)
    n_bad = int(np.count_nonzero(~np.isfinite(values)))
    if n_bad:
        yield f"{n_bad} of {n} values are NaN: interpolate or cut them"


def _scale_problems(header: Header) -> Iterator[str]:
    for keyword, right in (("CRPIX1", 1), ("CTYPE1", "Wavelength"), ("CUNIT1", "Angstrom")):
        value = header.readable(keyword)
        same = str(value).strip().lower() == str(right).lower() or value == right
        if not same:
            yield f"{keyword} is {_shown(value)}: it must be {right}"
    first, step = (header.readable(keyword) for keyword in ("CRVAL1", "CDELT1"))
    for keyword, value in (("CRVAL1", first), ("CDELT1", step)):
        if not isinstance(value, int | float) or not value > 0:
            yield f"{keyword} is {_shown(value)}: it must be a number above 0, in Angstrom"
    if isinstance(first, int | float) and 0 < first < 2000:
        yield f"CRVAL1 is {first:g}: is this nanometres? It must be Angstrom"


def _card_problems(header: Header) -> Iterator[str]:
    for keyword in ("OBJNAME", "DATE-OBS", "OBSERVER", "BSS_SITE", "BSS_VHEL"):
        if header.readable(keyword) in (None, ""):
            yield f"{keyword} is missing or empty"
    if header.readable("BSS_INST") in (None, "") and any(
        header.readable(keyword) in (None, "") for keyword in _INSTRUMENT_CARDS
    ):
        yield f"BSS_INST is missing (or {', '.join(_INSTRUMENT_CARDS)} together)"
    start, end = (_moment(header.readable(keyword)) for keyword in ("DATE-OBS", "DATE-END"))
    exposure = header.readable("EXPTIME")
    if header.readable("DATE-OBS") not in (None, "") and start is None:
        yield f"DATE-OBS is {_shown(header.readable('DATE-OBS'))}: it must be YYYY-MM-DDThh:mm:ss"
    if exposure is None and end is None:
        yield "EXPTIME (total, seconds) or DATE-END is missing"
    elif exposure is not None and not (isinstance(exposure, int | float) and exposure > 0):
        yield f"EXPTIME is {_shown(exposure)}: it must be seconds above 0"
    if start and end:
        seconds = (end - start) / timedelta(seconds=1)
        if seconds <= 0:
            yield "DATE-END is not after DATE-OBS"
        elif isinstance(exposure, int | float) and exposure > seconds + 1:
            yield f"EXPTIME is {exposure:g} s, but DATE-OBS to DATE-END are {seconds:g} s"
    velocity = header.readable("BSS_VHEL")
    if velocity not in (None, "") and not (
        isinstance(velocity, int | float) and abs(velocity) < 32
    ):
        yield f"BSS_VHEL is {_shown(velocity)}: km/s already applied, 0 for none, below 32"
    if str(header.readable("OBSERVER") or "").count(",") > 2:
        yield "OBSERVER names more than three"
    if (header.readable("BSS_RA") is None) != (header.readable("BSS_DEC") is None):
        yield "BSS_RA and BSS_DEC: both or neither"


def _moment(value: Value) -> datetime | None:
    """Return the time of a card; None if it is missing or invalid."""
    text = str(value or "").strip()
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None) if "T" in text else None
    except ValueError:
        return None


def _shown(value: Value) -> str:
    return "missing" if value is None else repr(value)
