"""Write products and read them back: images, spectra, tables and their headers."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from arrayred._version import __version__
from arrayred.config import Instrument
from arrayred.config.toml import read_toml, toml_lines, toml_text
from arrayred.errors import (
    ArrayredError,
    ForeignFileError,
    FrameError,
    HeaderError,
    MismatchError,
    StorageError,
    UsageError,
    printable,
)
from arrayred.io.frames import (
    Frame,
    HeaderValues,
    correct_section_cards,
    frame_from_header,
    move_pixel_cards,
)
from arrayred.io.header import (
    BLOCK,
    CARD,
    COLUMN_FORMS,
    TABLE_UNITS,
    Column,
    Header,
    Plane,
    Value,
    ascii_of,
    card_images,
    fits_table_bytes,
    fold_sum,
    gzip_tiles,
    image_bytes,
    image_head,
    is_in_gzip_tiles,
    is_structural,
    keyword_of,
    ones_complement_sum,
    parse_card,
)
from arrayred.io.publish import (
    Content,
    drop_temporary,
    open_temporary,
    place_taken_error,
    publish,
    remove_temporaries,
    storage_error,
    sync_folder,
)
from arrayred.io.remote import Stamp
from arrayred.io.scan import (
    PRODUCT_CARD,
    ImageHDU,
    PixelFormat,
    PixelSource,
    data_size,
    header_bytes,
    open_regular,
    unreadable,
)
from arrayred.model import (
    CLEAN,
    CLEAN_METHOD,
    COUNTS,
    DQ,
    DQ_MEANINGS,
    FLUX,
    FRAME,
    GUESSED_GAIN,
    LAMP,
    METHOD,
    N_REJECTED,
    SPOILT,
    VARIANCE,
    WAVELENGTH,
    WAVELENGTH_ATTRS,
    Unit,
    X,
    Y,
    dq_attrs,
    string_coord,
)

if TYPE_CHECKING:
    import xarray as xr


def product_names(
    target: str, *, sky: bool = True, arc: bool = True, frames: bool = True
) -> list[str]:
    """Return the names of all files that a target's folder may have.

    Parameters
    ----------
    target : its name.
    sky, arc, frames : include the sky-subtracted table, that of the lamps, and the frames' spectra.
    """
    tables = [f"{target}_{name}.txt" for name in TABLES.values() if sky or "sky" not in name]
    tables += [f"{target}_{name}" for name in ("arc.ecsv", LINES, SOLUTION)] if arc else []
    images = [f"{target}_combined.fits", f"{target}.png"]
    images += [f"{target}_arc.png"] if arc else []
    spectra = [f"{target}_spectrum.fits", f"{target}_spectrum.ecsv"]
    spectra += [f"{target}_frames.fits"] if frames else []
    return [*images, *tables, *spectra]


def is_product(name: str, target: str) -> bool:
    """Return whether a file name is that of a product of a target, of any of its spectra.

    Examples
    --------
    >>> is_product("Vega_2_spectrum.fits", "Vega"), is_product("Vega_2_notes.txt", "Vega")
    (True, False)
    """
    stem = re.match(rf"{re.escape(target)}(_[0-9]+)?(?=[_.])", name)
    return stem is not None and name in product_names(stem[0])


def image_file(
    image: xr.Dataset, provenance: Provenance, name: str, dtype: str
) -> dict[str, Content]:
    """Return an image (y, x) as a FITS file with variance and flag extensions: content by name."""
    facts = [*provenance.facts, *own_cards(image), *noise_cards(image)]
    header = product_header(
        replace(provenance, steps=image.attrs["history"], facts=facts), name.rpartition("/")[2]
    )
    return {name: image_bytes(header, image[COUNTS].values, dtype, planes_of(image, dtype))}


def calibrated_files(
    cube: xr.Dataset, provenance: Provenance, dtype: str
) -> Iterator[tuple[str, Content]]:
    """Yield each frame of a calibrated cube as a FITS file, in folders as the raw frames."""
    for i, frame in enumerate(provenance.frames):
        own = replace(provenance, frames=[frame])
        name = _name_that_fits(str(cube[FRAME].values[i]), "_calibrated.fits")
        yield from image_file(cube.isel({FRAME: i}), own, name, dtype).items()


def _name_that_fits(label: str, suffix: str) -> str:
    """Return the name of a product of a frame; file systems take 255 bytes, temporary names 30.

    A label that is too long is cut, and told from others by the beginning of its SHA-256.
    """
    folder, _, stem = label.rpartition("/")
    if len(os.fsencode(stem + suffix)) > _LONGEST_NAME:
        mark = f"~{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}"
        n_bytes = _LONGEST_NAME - len(suffix) - len(mark)
        stem = os.fsencode(stem)[:n_bytes].decode(errors="ignore") + mark
    return f"{folder}/{stem}{suffix}" if folder else f"{stem}{suffix}"


def arc_file(arc: xr.Dataset, provenance: Provenance, stem: str) -> dict[str, Content]:
    """Return the lamps of a target (lamp, x) as an ECSV table, one after the other: by name.

    The metadata give the object, exposure and time of each lamp, what was subtracted from it, and
    its SHA-256.
    """
    name = f"{stem}_arc.ecsv"
    n_lamps, n_columns = arc.sizes[LAMP], arc.sizes[X]
    lamps = [
        {
            "name": str(label),
            "object": str(arc["object"].values[i]),
            "exptime": _json_number(arc["exptime"].values[i]),
            "date_mid": "" if np.isnat(times[i]) else str(np.datetime_as_string(times[i], "ms")),
            "minutes": _json_number(arc["minutes"].values[i]),
            "subtracted": str(arc["subtracted"].values[i]),
            "sha256": _checksum_of(str(label), provenance),
        }
        for times in [arc["time_mid"].values]
        for i, label in enumerate(arc[LAMP].values)
    ]
    counts = arc[COUNTS]
    sigma = sigma_of(arc[VARIANCE].values) if VARIANCE in arc else np.full(counts.shape, np.nan)
    columns = [
        Column("lamp", "", "name of the frame", np.repeat(arc[LAMP].values.astype(str), n_columns)),
        Column("x", "pix", "column of the image", np.tile(arc[X].values, n_lamps).astype(np.int64)),
        Column("counts", "adu", counts.attrs["long_name"], counts.values.ravel()),
        Column("uncertainty", "adu", "standard deviation of the counts", sigma.ravel()),
        Column("dq", "", _column_description(arc[DQ]), arc[DQ].values.ravel()),
    ]
    return {name: _ecsv(columns, {"FILENAME": name, PRODUCT_CARD: __version__, "lamps": lamps})}


def _json_number(value: Any) -> float | None:
    """Return a number for JSON, which knows no NaN."""
    return float(value) if math.isfinite(value) else None


_SETTING_CARDS = ("GRATING", "GRATANG", "FILTER", "SLIT", "XBINNING", "YBINNING", "INSTRUME")
LINES, SOLUTION = "lines.ecsv", "solution.toml"
"""Ends of the names of the lines of the lamps, and of the dispersion solution."""


def solution_files(lines: xr.Dataset, header: Header, stem: str) -> dict[str, Content]:
    """Return the lines of a target's lamps as ECSV, and its dispersion solution as TOML: by name.

    Parameters
    ----------
    lines : (line), all that were measured; the attributes `solution`, plain values, and `lamps`,
        the SHA-256 of each lamp that was used by its name. The solution holds the lines that were
        used, so that another target, or another night, finds them again (`solution_of`).
    header : of the target's spectrum.
    stem : first part of each file's name.
    """
    text = {
        "lamp": "name of the frame",
        "element": "element and ion",
        "why_not": "why it was not used",
    }
    numbers = {
        "x": ("pix", "centroid, FITS pixel"),
        "x_err": ("pix", "its standard deviation"),
        "wavelength": ("Angstrom", "in air, from the list of lines"),
        "residual": ("Angstrom", "fitted less listed wavelength"),
    }
    columns = [
        Column(name, unit, told, lines[name].values.astype(np.float64))
        for name, (unit, told) in numbers.items()
    ]
    columns.append(Column("used", "", "whether the solution uses it", lines["used"].values))
    columns += [
        Column(name, "", told, lines[name].values.astype(str)) for name, told in text.items()
    ]
    used = lines["used"].values
    known = {keyword: header.readable(keyword) for keyword in _SETTING_CARDS}
    tables: dict[str, Mapping[str, object]] = {
        "": {
            "target": stem,
            "date": str(header.readable("DATE-OBS") or ""),
            "medium": "air",
            PRODUCT_CARD: __version__,
        },
        "solution": lines.attrs["solution"],
        "setting": {keyword: value for keyword, value in known.items() if value is not None},
        "lamps": {toml_text(name): sha256 for name, sha256 in lines.attrs["lamps"].items()},
        "lines": {
            "x": lines["x"].values[used].tolist(),
            "wavelength": lines["wavelength"].values[used].tolist(),
            "element": lines["element"].values[used].astype(str).tolist(),
        },
    }
    parts = [
        "\n".join([*([f"[{name}]"] if name else []), *toml_lines(table.items())])
        for name, table in tables.items()
    ]
    return {
        f"{stem}_{LINES}": _ecsv(columns, {"FILENAME": f"{stem}_{LINES}"}),
        f"{stem}_{SOLUTION}": ("\n\n".join(parts) + "\n").encode(),
    }


def solution_of(path: Path) -> xr.Dataset:
    """Return the lines (line) of a solution that `solution_files` wrote: x, wavelength, element.

    Raises
    ------
    UsageError
        The file is no solution.
    """
    import xarray as xr

    tables = read_toml(path)
    try:
        lines = tables["lines"]
        known = {
            "x": ("line", np.asarray(lines["x"], np.float64)),
            "wavelength": ("line", np.asarray(lines["wavelength"], np.float64)),
            "element": ("line", np.asarray(lines["element"], str)),
        }
        solution = tables["solution"]
        attrs: dict[str, Any] = {"lamp": str(solution.get("lamp", ""))}
        rms = solution.get("rms_pixel")
        if isinstance(rms, int | float) and math.isfinite(rms):
            attrs["rms_pixel"] = float(rms)
        return xr.Dataset(known, attrs=attrs)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"This is not a dispersion solution of arrayred: {error!r}",
            path=path,
            hint=f"Use a file TARGET_{SOLUTION}.",
        ) from error


def _checksum_of(label: str, provenance: Provenance) -> str:
    """Return the SHA-256 of a frame among the calibrations, by its label, or ""."""
    paths = [frame.path for frame in provenance.calibrations if frame.label == label]
    return next((provenance.checksums[path] for path in paths if path in provenance.checksums), "")


def read_arc(path: Path) -> xr.Dataset:
    """Return the lamps of a target (lamp, x) that `arc_file` wrote; attribute `checksums`.

    Raises
    ------
    FrameError
        The file cannot be read, or holds no lamps.
    """
    import xarray as xr
    from astropy.table import Table

    try:
        table = Table.read(path, format="ascii.ecsv")
        lamps = table.meta["lamps"]
        shape = (len(lamps), len(table) // len(lamps))
        planes = {name: np.asarray(table[name]).reshape(shape) for name in table.colnames[1:]}
        middles = [np.datetime64(lamp["date_mid"] or "NaT", "ns") for lamp in lamps]
        minutes = [np.nan if lamp["minutes"] is None else lamp["minutes"] for lamp in lamps]
        return xr.Dataset(
            {
                COUNTS: ((LAMP, X), planes["counts"], {"units": "adu"}),
                VARIANCE: ((LAMP, X), planes["uncertainty"] ** 2),
                DQ: ((LAMP, X), planes["dq"]),
            },
            coords={
                LAMP: [str(lamp["name"]) for lamp in lamps],
                X: planes["x"][0],
                "object": (LAMP, [str(lamp.get("object", "")) for lamp in lamps]),
                "time_mid": (LAMP, np.array(middles)),
                "minutes": (LAMP, np.array(minutes, np.float64)),
            },
            attrs={"checksums": {str(lamp["name"]): lamp["sha256"] for lamp in lamps}},
        )
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        raise FrameError(
            f"These are not arc spectra of arrayred: {error}", path=path, hint=_DAMAGED_HINT
        ) from error


def read_lines(path: Path) -> xr.Dataset:
    """Return the lines of the lamps of a target (line) that `solution_files` wrote.

    Raises
    ------
    FrameError
        The file cannot be read.
    """
    import xarray as xr
    from astropy.table import Table

    try:
        table = Table.read(path, format="ascii.ecsv")
    except (OSError, ValueError) as error:
        raise FrameError(
            f"These are not arc lines of arrayred: {error}", path=path, hint=_DAMAGED_HINT
        ) from error
    return xr.Dataset({name: ("line", np.asarray(table[name])) for name in table.colnames})


def with_new_wavelengths(path: Path, spectrum: xr.Dataset) -> dict[str, Content]:
    """Return the files of a spectrum whose wavelengths alone were made anew: content by name.

    Parameters
    ----------
    path : of the spectrum's FITS file; its other cards stay as they are.
    spectrum : with its new wavelengths; the last line of its history tells them.
    """
    header = header_of_product(path)
    header.drop([keyword for keyword in header if is_structural(keyword)])
    header.drop([SPECTRUM_CARDS[name][0] for name in SPECTRUM_CARDS if name in WAVELENGTH_CARDS])
    header = _without_notes(header, ("wavelengths: ", "no wavelengths: "))
    for keyword, value, comment in _cards_from_attrs(spectrum, WAVELENGTH_CARDS, FLUX):
        header.set(keyword, value, comment)
    header.note("HISTORY", f"{_PREFIX}{spectrum.attrs['history'][-1]}")
    stem = path.name.removesuffix("_spectrum.fits")
    meta = header.values() | {"FILENAME": f"{stem}_spectrum.ecsv"}
    return {
        path.name: fits_table(spectrum, header),
        f"{stem}_spectrum.ecsv": ecsv_table(spectrum, meta),
    }


def _without_notes(header: Header, starts: tuple[str, ...]) -> Header:
    """Return a header without those of arrayred's notes that start so."""
    kept, skips = [], False
    for card in header.images():
        is_note = keyword_of(card) in ("HISTORY", "COMMENT")
        is_ours = is_note and card[8:].startswith(_PREFIX)
        if is_ours:
            skips = card[8:].removeprefix(_PREFIX).startswith(starts)
        skips = skips and is_note
        if not skips:
            kept.append(card)
        if len(card[8:].rstrip()) < _NOTE_LENGTH:
            skips = False
    return Header(kept)


def frames_file(frames: xr.Dataset, provenance: Provenance, stem: str) -> dict[str, Content]:
    """Return the spectra of a target's frames (frame, x) as a FITS table: content by name."""
    name = f"{stem}_frames.fits"
    told = replace(
        provenance,
        steps=frames.attrs["history"],
        remarks=[*provenance.remarks, *frames.attrs.get("remarks", ())],
        facts=[
            *provenance.facts,
            ("XFIRST", int(frames[X][0]), "column of the first value of a row"),
        ],
    )
    return {name: frames_table(frames, product_header(told, name))}


def spectrum_files(
    spectrum: xr.Dataset, provenance: Provenance, stem: str, counts: xr.Dataset | None = None
) -> dict[str, Content]:
    """Return a spectrum as the procedure's text tables, ECSV and FITS: content by name.

    Parameters
    ----------
    spectrum : in adu or electron.
    provenance : its origin, for the header.
    stem : first part of each file's name.
    counts : the same in adu, for the text tables, if the spectrum is in electron.
    """
    tables = spectrum if counts is None else counts
    told = replace(
        provenance,
        steps=spectrum.attrs["history"],
        remarks=[*provenance.remarks, *spectrum.attrs.get("remarks", ())],
        facts=[*provenance.facts, *own_cards(spectrum), *spectrum_cards(spectrum)],
    )
    files: dict[str, Content] = {
        f"{stem}_{name}.txt": text_table(tables[variable].values, int(tables[X][0]))
        for variable, name in TABLES.items()
        if variable in tables
    }
    header = product_header(told, f"{stem}_spectrum.fits")
    meta = header.values() | {"FILENAME": f"{stem}_spectrum.ecsv"}
    return files | {
        f"{stem}_spectrum.fits": fits_table(spectrum, header),
        f"{stem}_spectrum.ecsv": ecsv_table(spectrum, meta),
    }


# Headers of products: copied from the first light frame, then corrected (`product_header`).
#
# A card whose value differs between the inputs is never copied from the first frame:
# `_WHEN_DIFFERENT` gives the rule for it, and cards without a rule are dropped and listed in
# HISTORY. Times are those of the whole exposure. Cards that describe the raw file's own layout, its
# display, or its owner's licence are removed.

_UNMERGED_KEYWORDS = ("HISTORY", "COMMENT", "", "CONTINUE")
_WHEN_DIFFERENT: Mapping[str, Literal["mean"]] = {"AIRMASS": "mean", "CCD-TEMP": "mean"}
_DISPLAY_CARDS = frozenset({"CBLACK", "CWHITE", "CSTRETCH", "PEDESTAL"})
_PRIVATE_CARDS = ("SWSERIAL", "SWOWNER")
_EPOCH_OF_MJD = datetime(1858, 11, 17, tzinfo=UTC)


@dataclass(frozen=True)
class Provenance:
    """Inputs and processing history of a product, written to its header.

    Parameters
    ----------
    frames : the frames from whose headers its own is made, in canonical order.
    calibrations : further input frames.
    steps : processing steps, one line each, for HISTORY.
    remarks : notes for users of the product, for COMMENT.
    method : method by which the frames were combined, "average" or "median".
    calstat : the letters of the corrections applied, or "".
    cards : cards given by the instrument file and the user.
    facts : further cards: keyword, value, comment.
    checksums : sha256 of the frames by path, where known.
    unit : of the pixel values, where it is not that of the frames.
    """

    frames: Sequence[Frame]
    calibrations: Sequence[Frame] = ()
    steps: Sequence[str] = ()
    remarks: Sequence[str] = ()
    method: str = "average"
    calstat: str = ""
    cards: Mapping[str, Value] = field(default_factory=dict)
    facts: Sequence[tuple[str, Value, str]] = ()
    checksums: Mapping[Path, str] = field(default_factory=dict)
    unit: Unit | None = None


def product_header(provenance: Provenance, filename: str) -> Header:
    """Return the header of a product, without the structural cards.

    Parameters
    ----------
    provenance : its inputs and processing history.
    filename : the product's own name.
    """
    first = provenance.frames[0].image.header
    header = first.copy()
    header.drop(
        [k for k in header if is_structural(k) or k in _DISPLAY_CARDS or k in _PRIVATE_CARDS]
    )
    dropped = _merge_differing_cards(header, provenance.frames)
    _set_decisions(header, provenance.frames[0])
    _set_times(header, provenance.frames)
    _set_exposure(header, provenance.frames)
    if provenance.method == "average":
        _set_noise(header, len(provenance.frames), provenance.unit or provenance.frames[0].unit)
    if provenance.calstat:
        header.set("CALSTAT", provenance.calstat, "corrections applied")
    replaced = _set_cards(header, provenance.cards)
    correct_section_cards(header, provenance.frames[0].sections)
    plain = ascii_of(unicodedata.normalize("NFC", filename))
    header.set("FILENAME", plain, "name of this file")
    header.set("BUNIT", provenance.unit or provenance.frames[0].unit, "unit of the pixel values")
    if header.readable("BUNIT") == "electron":
        set_gain_of_electrons(header)
    header.set(PRODUCT_CARD, __version__, "arrayred version")
    for keyword, value, comment in provenance.facts:
        header.set(keyword, value, comment)
    _name_inputs(header, [*provenance.frames, *provenance.calibrations], provenance.checksums)
    told = (v.text for frame in provenance.frames for v in frame.verdicts if v.source == "header")
    for text in dict.fromkeys(told):
        header.note("HISTORY", f"arrayred: frames: {text}")
    for step in provenance.steps:
        header.note("HISTORY", f"arrayred: {step}")
    for old in replaced:
        header.note("HISTORY", f"arrayred: {old}")
    for remark in provenance.remarks:
        header.note("COMMENT", f"arrayred: {remark}")
    gone = [k for k in dropped if k not in header or k in _UNMERGED_KEYWORDS]
    if gone:
        header.note("HISTORY", f"arrayred: dropped because the inputs differ: {', '.join(gone)}")
    if any(keyword in first for keyword in _PRIVATE_CARDS):
        header.note("HISTORY", "arrayred: dropped the license and owner of the camera program")
    return header


def set_gain_of_electrons(header: Header) -> list[str]:
    """Write 1 into the cards that give electrons per adu, of pixels in electrons; return which.

    A GAIN that is a setting of the camera stays (`HeaderValues.gain`).
    """
    generic, told, changed = Instrument.load("generic"), header.copy(), []
    while source := HeaderValues(_without_pixels(told), generic).gain()[1]:
        settings = (k for k in generic.keywords["gain_setting"] if k in told)
        changed.append(next(settings) if source == GUESSED_GAIN else source)
        header.set(changed[-1], 1.0, "[electron/adu] of pixels in electrons")
        told.drop(changed)
    return changed


def _merge_differing_cards(header: Header, frames: Sequence[Frame]) -> list[str]:
    """Apply the rules for cards that differ; return the keywords that were dropped."""
    others = [frame.image.header for frame in frames[1:]]
    dropped = []
    for keyword in dict.fromkeys(k for k in header if k not in _UNMERGED_KEYWORDS):
        if all(header.agrees(other, keyword) for other in others):
            continue
        values = [frame.image.header.readable(keyword) for frame in frames]
        numbers = [value for value in values if isinstance(value, int | float)]
        if keyword in _WHEN_DIFFERENT and len(numbers) == len(frames):
            header.set(keyword, sum(numbers) / len(numbers), f"mean of {len(numbers)} frames")
        else:
            dropped.append(keyword)
    dropped += [
        keyword
        for keyword in ("HISTORY", "COMMENT", "")
        if any(other.lines(keyword) != header.lines(keyword) for other in others)
    ]
    header.drop(dropped)
    return sorted(filter(None, set(dropped)))


def _set_decisions(header: Header, frame: Frame) -> None:
    """Write type and dispersion axis where a card does not say what was decided.

    A product that is read again is then what it was made as.
    """
    found = Instrument.load("generic").frame_type_of(frame.type_found)
    if frame.frame_type is not None and found != frame.frame_type:
        header.set("IMAGETYP", frame.frame_type, "frame type, as used")
    keyword, comment = _COORD_CARDS["dispersion_axis"]
    if (header.readable(keyword) or 1) != frame.dispersion_axis:
        header.set(keyword, frame.dispersion_axis, comment)


def _set_times(header: Header, frames: Sequence[Frame]) -> None:
    """Write start, end and middle of the whole exposure, if every frame has a time."""
    spans = [
        (f.time, f.time + timedelta(seconds=f.exptime or 0.0)) for f in frames if f.time is not None
    ]
    if len(spans) < len(frames):
        return
    middles = [start + (end - start) / 2 for start, end in spans]
    middle = middles[0] + sum((m - middles[0] for m in middles), timedelta()) / len(middles)
    header.set("TIMESYS", "UTC", "time scale of the dates")
    for suffix, moment, comment in (
        ("OBS", min(start for start, _ in spans), "start of the first exposure"),
        ("END", max(end for _, end in spans), "end of the last exposure"),
        ("AVG", middle, "mean of the mid-exposures"),
    ):
        header.set(f"DATE-{suffix}", _iso_time(moment), comment)
        header.set(f"MJD-{suffix}", (moment - _EPOCH_OF_MJD) / timedelta(days=1), f"[d] {comment}")


def _iso_time(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat(timespec="milliseconds")


def _set_exposure(header: Header, frames: Sequence[Frame]) -> None:
    exposures = [frame.exptime or 0.0 for frame in frames]
    header.set("EXPTIME", sum(exposures) / len(exposures), "[s] mean exposure of a frame")
    header.set("EXPTOTAL", sum(exposures), "[s] exposure of all frames together")
    header.set("NCOMBINE", len(frames), "number of frames combined")
    header.set("COMBINED", len(frames) > 1, "made from several frames")
    if any(frame.image.source.pixels.wrapped for frame in frames):
        header.set("ARUNSIGN", True, "unsigned counts, stored as signed")


def _set_noise(header: Header, n_frames: int, unit: Unit) -> None:
    """Write the effective gain and read noise of an average, where those of a frame are known."""
    gain = ("EGAIN",) if unit == "adu" else ()
    for keyword, source, factor, comment in (
        ("GAINEFF", gain, n_frames, "[electron/adu] of the average"),
        ("RDNEFF", ("RDNOISE", "READNOIS"), n_frames**-0.5, "[electron] read noise of the average"),
    ):
        value = next((header.readable(k) for k in source if k in header), None)
        if isinstance(value, int | float) and value > 0:
            header.set(keyword, value * factor, comment)


def _set_cards(header: Header, cards: Mapping[str, Value]) -> list[str]:
    """Write the given cards; return the replaced values (a replaced INSTRUME goes to DETECTOR)."""
    replaced = []
    for keyword, value in cards.items():
        old = header.readable(keyword)
        if old not in (None, "", value):
            replaced.append(f"{keyword} was {old!r}")
            if keyword == "INSTRUME" and "DETECTOR" not in header and "DETECTOR" not in cards:
                header.set("DETECTOR", old, "INSTRUME of the raw frames")
        header.set(keyword, value, "[deg] angle of the grating" if keyword == "GRATANG" else "")
    return replaced


def _name_inputs(header: Header, frames: Sequence[Frame], checksums: Mapping[Path, str]) -> None:
    for i, frame in enumerate(frames, 1):
        header.set(
            f"ARIN{i:04}", "".join(c if " " <= c <= "~" else "?" for c in frame.path.name), "input"
        )
        if frame.path in checksums:
            header.set(f"ARSH{i:04}", checksums[frame.path], "sha256")


def checked_cards(cards: Mapping[str, Value]) -> dict[str, Value]:
    """Return cards validated for a header, the grating angle as a number, degrees.

    Raises
    ------
    UsageError
        A keyword or value is not allowed in a header, or the angle is not a number of degrees.

    Examples
    --------
    >>> checked_cards({"GRATANG": "26.0 degrees", "GRATING": "1200"})
    {'GRATANG': 26.0, 'GRATING': '1200'}
    """
    checked = {}
    for keyword, value in cards.items():
        is_angle = keyword == "GRATANG" and isinstance(value, str) and value != ""
        checked[keyword] = _degrees(str(value)) if is_angle else value
        try:
            card_images(keyword, checked[keyword])
        except HeaderError as error:
            raise UsageError(
                str(error.args[0]), keyword=keyword, value=value, hint=error.hint
            ) from error
        if is_structural(keyword):
            raise UsageError(
                f"{keyword} describes the file itself",
                keyword=keyword,
                value=value,
                hint="Remove it.",
            )
    return checked


def missing_cards(
    frames: Sequence[Frame], required: Iterable[str], given: Mapping[str, Value]
) -> dict[str, Value]:
    """Return the required cards that are neither given nor filled in every frame.

    Returns
    -------
    missing : keywords, each with the value of the first frame that has it, or None.
    """
    found = {k: [f.image.header.get(k) for f in frames] for k in required if k not in given}
    return {
        keyword: next((value for value in values if value not in (None, "")), None)
        for keyword, values in found.items()
        if any(value in (None, "") for value in values)
    }


def _degrees(text: str) -> float:
    try:
        angle = float(text.lower().strip().removesuffix("degrees").removesuffix("deg"))
        if math.isfinite(angle):
            return angle
        raise ValueError
    except ValueError:
        raise UsageError(
            f"{text!r} is not an angle in degrees",
            keyword="GRATANG",
            value=text,
            hint="Use a number, such as 26.0.",
        ) from None


# Image extensions: variance and flags as a standard deviation and a mask, as related packages do.
#
# In FITS they are the extensions UNCERT, MASK and DQ, which `astropy.nddata.CCDData.read`
# reads (DQ with ``hdu_flags="DQ"``). MASK says whether to use a pixel, DQ why not.
#
# Where an image has a best estimate beside the procedure's own, CLEAN holds it, and UNCERT applies
# to that one; NREJECT counts the frames rejected in a pixel. A program that reads the first HDU
# with UNCERT and MASK must not take an outlier for a value as certain as UNCERT says, so MASK is
# also set where the first HDU is not CLEAN within `_CONSISTENT` standard deviations.
#
# Standard deviations are stored without loss: the square root of a rounded square is the number
# itself (IEEE 754, barring over- and underflow), so that a sigma read is written as the same
# sigma; and a float32 variance, whose root is stored in float64, is recovered exactly.

ImageVariables = dict[str, tuple[Any, NDArray[Any], dict[str, Any]]]
"""Variables of a Dataset: dims, values and attributes by name."""
UNCERT, MASK, FLAGS, BEST, LEFT_OUT = "UNCERT", "MASK", "DQ", "CLEAN", "NREJECT"
_CONSISTENT = 3.0
_AT_ONCE = 1 << 14
"""Pixels that are compared at a time, so that no further plane is held."""
REJECTED_ATTRS = {"units": "", "long_name": "frames excluded in a pixel"}


def planes_of(image: xr.Dataset, dtype: str) -> list[Plane]:
    """Return the extensions of an image (y, x); none if only its counts are known.

    Parameters
    ----------
    image : counts, and `clean`, `variance`, `dq` and `n_rejected` where known.
    dtype : dtype of the standard deviations and of the best estimate.
    """
    planes = []
    best = "CLEAN" if CLEAN in image else "the image"
    if CLEAN in image:
        unit = image[CLEAN].attrs.get("units", "adu")
        told = [("BUNIT", unit, "unit of the pixel values")]
        planes.append(Plane(BEST, told, image[CLEAN].values, dtype))
    if VARIANCE in image:
        cards = [
            ("UTYPE", "StdDevUncertainty", f"standard deviation of {best}"),
            ("BUNIT", _unit_of_sigma(image), "unit of the standard deviation"),
        ]
        planes.append(Plane(UNCERT, cards, sigma_of(image[VARIANCE].values, dtype), dtype, True))
    if DQ in image:
        flags = image[DQ].values
        named = [(f"FLAG{bit}", name, f"meaning of bit {bit}") for bit, name in DQ_MEANINGS.items()]
        spoilt = (flags & SPOILT != 0) | _unlike_the_best(image)
        planes.append(Plane(MASK, [], spoilt, "uint8", True))
        planes.append(Plane(FLAGS, named, flags, "uint8", True))
    if N_REJECTED in image:
        planes.append(Plane(LEFT_OUT, [], image[N_REJECTED].values, "uint8", True))
    return planes


def _unlike_the_best(image: xr.Dataset) -> NDArray[np.bool_]:
    """Return where counts (y, x) differ from the best estimate by more than its noise allows."""
    unlike = np.zeros(image[COUNTS].shape, bool)
    if CLEAN not in image or VARIANCE not in image:
        return unlike
    counts, best, variance = (image[name].values for name in (COUNTS, CLEAN, VARIANCE))
    n_rows = max(_AT_ONCE // unlike.shape[1], 1)
    for first in range(0, unlike.shape[0], n_rows):
        part = slice(first, first + n_rows)
        unlike[part] = (counts[part] - best[part]) ** 2 > _CONSISTENT**2 * variance[part]
    return unlike


def _unit_of_sigma(image: xr.Dataset) -> str:
    """Return the unit of sigma: that of the variance without "2" ("" for a response), or counts."""
    told = image[VARIANCE].attrs.get("units")
    own = image[COUNTS].attrs.get("units", "adu")
    return str(own if told is None else told.removesuffix("2"))


def sigma_of(variance: NDArray[Any], dtype: str = "float64") -> NDArray[Any]:
    """Return standard deviations; NaN where the variance is negative or NaN.

    Parameters
    ----------
    variance : float32 or float64.
    dtype : in which they are written. The root of a float32, taken in float32, is to the bit the
        one that is taken in float64 and rounded: 53 digits are more than twice 24 and 2 more
        (Figueroa 1995, SIGNUM Newsletter 30, 21), so a third of the time suffices.
    """
    kind = np.result_type(variance, np.dtype(dtype))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(variance, dtype=kind))


def variance_of(sigma: NDArray[Any]) -> NDArray[Any]:
    """Return the variances whose `sigma_of` is the given one to the bit, float32 if sufficient.

    Examples
    --------
    >>> variance = np.array([2.0, 3.0], np.float32)
    >>> variance_of(sigma_of(variance)).dtype, variance_of(np.array([1.1])).dtype
    (dtype('float32'), dtype('float64'))
    """
    exact: NDArray[Any] = np.asarray(np.square(sigma, dtype=np.float64))
    with np.errstate(over="ignore"):
        narrow: NDArray[Any] = exact.astype(np.float32)
    # Of sigmas that were rounded to float32 the first piece tells it.
    of_narrow, of_sigma = narrow.reshape(-1), sigma.reshape(-1)
    for first in range(0, sigma.size, _AT_ONCE):
        piece = slice(first, first + _AT_ONCE)
        wide = of_sigma[piece].astype(np.float64)
        if ((sigma_of(of_narrow[piece]) != wide) & (wide == wide)).any():  # a NaN is one in both
            return exact
    return narrow


def labelled_planes(
    counts: NDArray[Any], units: str, sigma: NDArray[Any] | None, flags: NDArray[np.uint8] | None
) -> ImageVariables:
    """Return an image's pixels (y, x) as variables: `counts`, and `variance` and `dq` if known."""
    dims = (Y, X)
    variables: ImageVariables = {
        COUNTS: (dims, counts, {"units": units, "long_name": "pixel values"})
    }
    if sigma is not None:
        told = {"units": f"{units}2" if units else "", "long_name": "variance of a pixel"}
        variables[VARIANCE] = (dims, variance_of(sigma), told)
    if flags is not None:
        variables[DQ] = (dims, flags, dq_attrs("flags of a pixel"))
    return variables


# Spectra as files: the procedure's two text tables, ECSV, and a FITS binary table.
#
# The text tables are the published procedure's to the byte: a line ``x y``, then column number and
# value as the shortest decimal that reads back as the same float64. ECSV is astropy's text format
# with units; both it and the FITS table are read by astropy and by `Spectrum.read` of specutils.

TABLES = {"counts_mean": "raw_extraction", "counts_mean_sky_subtracted": "skysubtracted"}
"""Text table of the procedure for each variable of a spectrum."""
SPECTRUM_EXTENSION = "SPECTRUM"
"""EXTNAME of the FITS table."""
FRAMES_EXTENSION = "FRAMES"
"""EXTNAME of the table of the frames' spectra."""
NOISE_CARDS = {
    "gain_effective": ("GAINEFF", "[electron/{units}] effective gain of the combination"),
    "noise_effective": ("RDNEFF", "[electron] read and dark noise of the combination"),
    "noise_level": ("NOISELEV", "[{units}] sky and dark level included in RDNEFF"),
}
"""Card and comment for each attribute of a combined image and of its spectrum."""
WAVELENGTH_CARDS = {
    "wavelength_medium": ("WLMEDIUM", "of the wavelengths: air"),
    "wavelength_frame": ("SPECSYS", "TOPOCENT: as observed; BARYCENT: at rest"),
    "wavelength_order": ("WLORDER", "order of the dispersion solution"),
    "wavelength_lines": ("WLLINES", "arc lines used"),
    "wavelength_rms": ("WLRMS", "[Angstrom] rms of the line residuals"),
    "wavelength_rms_pixel": ("WLRMSPX", "[pix] rms of the line residuals"),
    "wavelength_first": ("WLFIRST", "[Angstrom] shortest of the lines used"),
    "wavelength_last": ("WLLAST", "[Angstrom] longest of the lines used"),
    "wavelength_lamp": ("WLLAMP", "identified elements of the lamp"),
    "wavelength_gap": ("WLGAP", "[min] to the nearest arc; negative: before"),
    "wavelength_nfa": ("WLNFA", "log10 of expected equally good chance solutions"),
    "wavelength_zero": ("WLZERO", "[pix] zero point applied"),
    "zero_sky": ("WLZSKY", "[pix] zero point from sky lines"),
    "zero_sky_error": ("WLZSKYE", "[pix] its standard deviation"),
    "zero_oxygen": ("WLZOXY", "[pix] zero point from telluric oxygen"),
    "zero_oxygen_error": ("WLZOXYE", "[pix] its standard deviation"),
    "zero_star": ("WLZSTAR", "[pix] zero point from stellar lines"),
    "zero_star_error": ("WLZSTARE", "[pix] its standard deviation"),
    "resolving_power": ("SPE_RPOW", "resolving power from the arc lines"),
    "barycentric_velocity": ("BARYCORR", "[km/s] to add to measured velocities"),
    "geocentric_velocity": ("GEOCORR", "[km/s] same, geocentric"),
    "barycentric_date": ("BJD_TDB", "[d] barycentric mid-exposure, TDB"),
}
"""Those of the attributes that the wavelengths of a spectrum add."""
SPECTRUM_CARDS = {
    "rule": ("SPRULE", "detection: threshold, robust, given"),
    "n_sigma": ("NSIGMA", "standard deviations from BKGMEAN to THRESH"),
    "first_row": ("SPFIRST", "first row of the spectrum"),
    "last_row": ("SPLAST", "last row of the spectrum"),
    "row_snr": ("SPSNR", "S/N of the brightest row mean"),
    "n_bright_rows": ("SPBRIGHT", "number of rows above the threshold"),
    "background_mean": ("BKGMEAN", "[{units}] mean of the background sample"),
    "background_std": ("BKGSTD", "[{units}] standard deviation of its pixels"),
    "threshold": ("THRESH", "[{units}] threshold of the row mean"),
    "sky_first_row": ("SKYFIRST", "first sky row"),
    "sky_last_row": ("SKYLAST", "last sky row"),
    "trace": ("TRACE", "fit: traced along x; straight: not traced"),
    "tilt": ("TRTILT", "[pix] trace tilt, first to last column"),
    "trace_rms": ("TRRMS", "[pix] rms of the centroids about the trace"),
    "center_middle": ("TRROW", "[pix] row of the trace in the middle column"),
    "n_bins": ("TRBINS", "column bins used for the trace"),
    "trace_order": ("TRORDER", "order of the polynomial along x"),
    "fwhm": ("SPFWHM", "[pix] spatial FWHM"),
    "half_height": ("SPHALF", "[pix] half-width of the aperture"),
    "extraction": ("EXTRACT", "extraction method"),
    "enclosed_fraction": ("ENCLOSED", "aperture flux fraction"),
    "masked_fraction": ("MASKFRAC", "fraction of the aperture pixels excluded"),
    "profile_snr": ("PROFSNR", "S/N of the spatial profile"),
    "snr": ("SNR", "median S/N per pixel, central half"),
    "snr_note": ("SNRNOTE", "noise not included in SNR and uncertainty"),
    "snr_columns": ("SNRCOLS", "columns of SNR, if not the central half"),
    "sky_model": ("SKYMODEL", "sky model in a column"),
    "sky_rows_used": ("SKYROWS", "number of sky rows used"),
    "sky_lean": ("SKYLEAN", "sky line tilt, columns per row"),
    "sky_scatter": ("SKYSCAT", "sky noise, measured / predicted"),
    "drift_rows": ("DRIFTROW", "[pix] drift of the star between frames"),
    "drift_columns": ("DRIFTCOL", "[pix] drift along the dispersion"),
    **WAVELENGTH_CARDS,
}
"""Card and comment for each attribute of a spectrum; the comment names the unit of the flux."""
RANGE_CARDS = {
    "sky_below": (("SKYBEL1", "SKYBEL2"), "sky below the spectrum"),
    "sky_above": (("SKYABV1", "SKYABV2"), "sky above the spectrum"),
}
"""Pair of cards for each attribute of a spectrum that is a range of rows."""
_COLUMN_ORDER = ("sky", "dq", "trace")
"""Columns that come before the procedure's."""


def text_table(values: Any, first: int = 1) -> bytes:
    """Return values (x) as the procedure's text table, detector columns numbered from `first`.

    Examples
    --------
    >>> text_table(np.array([1.5, 2.0])).decode().splitlines()
    ['x y', '1.0 1.5', '2.0 2.0']
    """
    lines = [f"{float(i)!r} {value!r}" for i, value in enumerate(values.tolist(), first)]
    return "\n".join(["x y", *lines, ""]).encode()


def spectrum_columns(spectrum: xr.Dataset) -> list[Column]:
    """Return the columns of a spectrum: x, wavelength if known, flux, uncertainty, then the rest.

    The uncertainty follows even where it is unknown (NaN): specutils takes the next column with
    the unit of the flux for it, whatever its name.
    """
    values = {name: spectrum[name] for name in _COLUMN_ORDER if name in spectrum.data_vars}
    values |= {str(name): variable for name, variable in spectrum.data_vars.items()}
    wave = spectrum.coords.get(WAVELENGTH)
    flux, variance = values.pop("flux"), values.pop("variance", None)
    sigma = np.full(flux.size, np.nan) if variance is None else sigma_of(variance.values)
    described = "standard deviation of the flux" + ("; unknown" if variance is None else "")
    return [
        Column("x", "pix", "column of the image", spectrum[X].values.astype(np.int64)),
        *([] if wave is None else [_column_of(WAVELENGTH, wave)]),
        Column("flux", flux.attrs["units"], flux.attrs["long_name"], flux.values),
        Column("uncertainty", flux.attrs["units"], described, sigma),
        *(_column_of(name, variable) for name, variable in values.items()),
    ]


def _column_of(name: str, variable: xr.DataArray) -> Column:
    unit = variable.attrs.get("units", "")
    return Column(name, unit, _column_description(variable), variable.values)


def frame_columns(frames: xr.Dataset) -> list[Column]:
    """Return the spectra of frames as columns: one row for each frame, its spectrum in a cell.

    Time and settings come first, so that a light curve is one column against another. The middle of
    an exposure is given as date and as MJD in UTC; both are blank where it is unknown.
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
        Column("frame", "", "name of the frame", _string_column(frames[FRAME].values)),
        Column("date_mid", "", "middle of the exposure, UTC", _string_column(dates)),
        Column("mjd_mid", "d", "the same as modified Julian date, UTC", np.asarray(days)),
        Column("exptime", "s", "exposure", _per_frame(frames, "exptime")),
        Column("offset", "pix", "rows from the common trace", _per_frame(frames, "offset")),
        Column(
            "extraction",
            "",
            "extraction method",
            _string_column(frames["extraction"].values),
        ),
    ]
    if WAVELENGTH in frames.coords:
        wave = frames[WAVELENGTH]
        told = f"in {wave.attrs['medium']}, {wave.attrs['frame']}, at date_mid"
        columns.append(Column(WAVELENGTH, "Angstrom", told, wave.values))
    columns += [
        Column("flux", unit, str(flux.attrs["long_name"]), flux.values),
        Column("uncertainty", unit, "standard deviation of the flux", sigma),
    ]
    for name in ("sky", "dq"):
        if name in frames:
            values = frames[name]
            text = _column_description(values)
            columns.append(Column(name, values.attrs.get("units", ""), text, values.values))
    return columns


def _per_frame(frames: xr.Dataset, name: str) -> Any:
    """Return a coordinate of the frames as numbers (frame), NaN where unknown."""
    n = frames.sizes[FRAME]
    return np.asarray(frames[name].values, np.float64) if name in frames else np.full(n, np.nan)


def _string_column(values: Any) -> Any:
    return np.array([ascii_of(str(value)).encode() for value in values] or [b""], np.bytes_)


def _column_description(variable: xr.DataArray) -> str:
    """Return the description of a column; for flags with the meaning of each bit."""
    masks = variable.attrs.get("flag_masks", ())
    meanings = variable.attrs.get("flag_meanings", "").split()
    bits = ", ".join(f"{mask} {name}" for mask, name in zip(masks, meanings, strict=True))
    return f"{variable.attrs['long_name']}{f': {bits}' if bits else ''}"


def spectrum_cards(spectrum: xr.Dataset) -> list[tuple[str, Value, str]]:
    """Return aperture rows, detection parameters, trace, sky and noise of a spectrum as cards."""
    pairs = [
        (keyword, int(spectrum.attrs[name][i]), f"{('first', 'last')[i]} row of the {what}")
        for name, (keywords, what) in RANGE_CARDS.items()
        if name in spectrum.attrs
        for i, keyword in enumerate(keywords)
    ]
    return [
        *noise_cards(spectrum, "flux"),
        *_cards_from_attrs(spectrum, SPECTRUM_CARDS, "flux"),
        *pairs,
    ]


def spectrum_attrs_of(header: Header) -> dict[str, Any]:
    """Return the attributes of a spectrum from its cards: inverse of `spectrum_cards`."""
    told: dict[str, Any] = {
        name: header.get(keyword)
        for name, (keyword, _) in SPECTRUM_CARDS.items()
        if keyword in header
    }
    for name, (keywords, _) in RANGE_CARDS.items():
        if all(keyword in header for keyword in keywords):
            first, last = (int(str(header.get(keyword))) for keyword in keywords)
            told[name] = (first, last)
    if "first_row" in told and "last_row" in told:
        told["n_rows"] = int(str(told["last_row"])) - int(str(told["first_row"])) + 1
    return told


def noise_cards(image: xr.Dataset, variable: str = COUNTS) -> list[tuple[str, Value, str]]:
    """Return gain and noise of a combined image as cards, where known.

    With EGAIN, unless it is that of the frames' own header.
    """
    cards = _cards_from_attrs(image, NOISE_CARDS, variable)
    is_own = str(image.attrs.get("gain_told", "(from header)")).endswith("(from header)")
    if is_own or "gain" not in image.coords or image[variable].attrs.get("units") != "adu":
        return cards
    return [("EGAIN", float(image["gain"].item()), "[electron/adu] of a frame"), *cards]


def _cards_from_attrs(
    source: xr.Dataset, facts: Mapping[str, tuple[str, str]], variable: str
) -> list[tuple[str, Value, str]]:
    units = source[variable].attrs.get("units", "adu")
    return [
        (keyword, source.attrs[name], comment.format(units=units))
        for name, (keyword, comment) in facts.items()
        if name in source.attrs and _fits_in_card(source.attrs[name])
    ]


def _fits_in_card(value: Value) -> bool:
    """Return whether a card can hold a value: not for NaN and infinity."""
    return not isinstance(value, float) or math.isfinite(value)


def frames_table(frames: xr.Dataset, header: Header) -> bytearray:
    """Return the spectra of frames as a FITS file: primary header, and a table row per frame."""
    return fits_table_bytes(header, FRAMES_EXTENSION, frame_columns(frames))


def fits_table(spectrum: xr.Dataset, header: Header) -> bytearray:
    """Return a spectrum as a FITS file: header in the primary HDU, columns in the table."""
    return fits_table_bytes(header, SPECTRUM_EXTENSION, spectrum_columns(spectrum))


def ecsv_table(spectrum: xr.Dataset, meta: Mapping[str, Value]) -> bytes:
    """Return a spectrum as ECSV 1.0.

    Parameters
    ----------
    spectrum : its columns.
    meta : metadata for the ECSV header.
    """
    return _ecsv(spectrum_columns(spectrum), meta)


def _ecsv(columns: Sequence[Column], meta: Mapping[str, Any]) -> bytes:
    """Return columns as ECSV 1.0, with metadata that JSON can hold."""
    head = ["%ECSV 1.0", "---", "datatype:"]
    for column in columns:
        kind = column.values.dtype
        pairs = {
            "name": column.name,
            "unit": column.unit,
            "datatype": "string" if kind.kind == "U" else kind.name,
            "description": column.description,
        }
        known = {key: value for key, value in pairs.items() if value}
        head.append(
            "- {" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in known.items()) + "}"
        )
    head += [
        *(["meta: !!omap"] if meta else []),
        *(f"- {{{json.dumps(key)}: {_yaml_value(value)}}}" for key, value in meta.items()),
    ]
    head.append("schema: astropy-2.0")
    texts = (
        map(_quoted if column.values.dtype.kind == "U" else repr, column.values.tolist())
        for column in columns
    )
    body = map(" ".join, [[column.name for column in columns], *zip(*texts, strict=True)])
    return "\n".join([*(f"# {line}" for line in head), *body, ""]).encode()


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _yaml_value(value: Any) -> str:
    """Return a value as YAML 1.1, where floats need a decimal point."""
    text = json.dumps(value)
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text


# Images written band by band, complete or not at all: `open_image_writer`.
#
# An image larger than memory cannot be published as bytes, so its pixels are written directly to a
# temporary file beside the destination. The header holds the checksums, and DATASUM is accumulated
# over the bands, so the header is written last, into the space reserved for it. Temporaries and
# renaming are those of `io.publish`.

_COMPARED_PIECE = 1 << 20
_CHECKSUM_KEYWORDS = (b"DATASUM ", b"CHECKSUM", b"ARSH")
"""Cards whose values are known only after everything is read and written."""


class ImageWriter:
    """Writer of an image's pixels, addressed by their number in reading order.

    Assigning to ``sink[first:stop]`` writes those pixels: each once, in any order, by any thread.

    Parameters
    ----------
    path : destination of the image.
    handle : the temporary file, open for reading and writing.
    header : cards without the structural ones, of the length that the final header will have.
    shape : (n_rows, n_columns).
    dtype : in which the pixels are written, "float32" or "float64".
    """

    def __init__(
        self, path: Path, handle: int, header: Header, shape: tuple[int, int], dtype: str
    ) -> None:
        self._path, self._handle = path, handle
        self._shape, self._dtype = shape, np.dtype(dtype)
        self.head = image_head(header, shape, dtype, 0)
        self._sum, self._lock = 0, Lock()
        self._finished = False
        n_bytes = shape[0] * shape[1] * self._dtype.itemsize
        self.n_bytes = len(self.head) + -(-n_bytes // BLOCK) * BLOCK
        os.ftruncate(handle, self.n_bytes)

    def __setitem__(self, pixels: slice, values: NDArray[Any]) -> None:
        """Write pixels first..stop, numbered row by row from 0."""
        stored = np.array(values, self._dtype, order="C").reshape(-1)
        words = int(stored.view(np.uint32).sum(dtype=np.uint64))
        if sys.byteorder == "little":
            stored.byteswap(inplace=True)
        self._write(stored, len(self.head) + pixels.start * stored.itemsize)
        with self._lock:
            self._sum = fold_sum(self._sum + words)

    def finish(self, header: Header) -> None:
        """Write the header with the checksums of the written data, and sync the file."""
        head = image_head(header, self._shape, self._dtype.name, self._sum)
        if len(head) != len(self.head):
            raise ValueError(f"the header grew from {len(self.head)} to {len(head)} bytes")
        self._write(np.frombuffer(head, np.uint8), 0)
        with _disk_errors_name(self._path, self.n_bytes):
            os.fsync(self._handle)
        self._finished = True

    @property
    def is_finished(self) -> bool:
        """Return whether the header was written."""
        return self._finished

    def _write(self, values: NDArray[Any], offset: int) -> None:
        left = values.view(np.uint8).data
        with _disk_errors_name(self._path, self.n_bytes):
            while left:
                count = self._write_some(left, offset)
                left, offset = left[count:], offset + count

    def _write_some(self, view: memoryview, offset: int) -> int:
        """Write at an offset; seek and write where the system has no pwrite."""
        if sys.platform != "win32":
            return os.pwrite(self._handle, view, offset)
        with self._lock:
            os.lseek(self._handle, offset, os.SEEK_SET)
            return os.write(self._handle, view)


@contextmanager
def open_image_writer(
    path: Path, header: Header, shape: tuple[int, int], dtype: str, *, overwrite: bool = False
) -> Iterator[ImageWriter]:
    """Open an image for writing; if finished, it is renamed to its path when the block ends.

    Parameters
    ----------
    path : its destination; the folder is made.
    header : cards without the structural ones, of the length that the final header will have.
    shape : (n_rows, n_columns).
    dtype : in which the pixels are written, "float32" or "float64".
    overwrite : replace a file that has other content.

    Raises
    ------
    UsageError
        A file with other content is there and `overwrite` is not given.
    StorageError
        The disk is full or cannot be written. An existing file is unchanged.
    """
    if path.is_dir():
        raise StorageError(
            "A folder with the name of the product exists", path=path, hint="Move or rename it."
        )
    handle, temporary = -1, None
    try:
        with _disk_errors_name(path, shape[0] * shape[1] * np.dtype(dtype).itemsize):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_temporaries([path.parent], path.name)
            handle, temporary = open_temporary(path)
            sink = ImageWriter(path, handle, header, shape, dtype)
            is_taken = not overwrite and _is_other_image(path, sink)
        if is_taken:
            raise place_taken_error(path)
        yield sink
        if sink.is_finished:
            with _disk_errors_name(path, sink.n_bytes):
                _put_in_place(handle, temporary, path, overwrite=overwrite)
    finally:
        if handle >= 0:
            os.close(handle)
        if temporary is not None:
            drop_temporary(temporary)


@contextmanager
def _disk_errors_name(path: Path, n_bytes: int) -> Iterator[None]:
    """Turn disk errors into StorageErrors that name the product."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, path, n_bytes) from error


def _is_other_image(path: Path, sink: ImageWriter) -> bool:
    """Return whether a file exists whose size or header shows that it has other content."""
    if not os.path.lexists(path):
        return False
    if path.is_symlink() or path.stat().st_size != sink.n_bytes:
        return True
    with path.open("rb") as there:
        found = there.read(len(sink.head))
    cards = (slice(i, i + CARD) for i in range(0, len(found), CARD))
    return any(
        found[card] != sink.head[card] and not found[card].startswith(_CHECKSUM_KEYWORDS)
        for card in cards
    )


def _put_in_place(handle: int, temporary: Path, path: Path, *, overwrite: bool) -> None:
    """Rename a finished temporary to its path, unless that has the same bytes already."""
    if os.path.lexists(path):
        if _has_content_of(path, handle, overwrite=overwrite):
            return
        if not overwrite:
            raise place_taken_error(path)
    temporary.replace(path)
    sync_folder(path.parent)


def _has_content_of(path: Path, handle: int, *, overwrite: bool) -> bool:
    """Return whether a regular file has the same bytes as an open one.

    One that cannot be read is no other content, unless it may be replaced whatever it holds.
    """
    try:
        if path.is_symlink() or path.stat().st_size != os.fstat(handle).st_size:
            return False
        os.lseek(handle, 0, os.SEEK_SET)
        with path.open("rb") as there:
            while piece := os.read(handle, _COMPARED_PIECE):
                if there.read(len(piece)) != piece:
                    return False
    except OSError:
        if overwrite:
            return False
        raise
    return True


# Scalar coordinates, history and pixel numbers of an image as header cards, and back.
#
# A product can be read as a Dataset only if its header has the values of its coordinates; the same
# cards carry them through a CCDData. Values in the camera's own cards are read from them (`Frame`),
# and no card is written twice: only ARMETHOD (method of combining frames), ARCLEAN (method of the
# best estimate beside that) and ARPIXELS (columns and rows of the file that an image holds, where
# they do not begin at 1) are added.

PIXELS_CARD, METHOD_CARD, CLEAN_CARD = "ARPIXELS", "ARMETHOD", "ARCLEAN"
_LONGEST_NAME = 200
_PREFIX = "arrayred: "
_NOTE_LENGTH = 71
"""A note continues on the next card if its card is full but for one blank."""
_BIN_SECTION = re.compile(r"\[(\d+):(\d+),(\d+):(\d+)\]")
_COORD_CARDS = {
    "exptime": ("EXPTIME", "[s] exposure of a frame"),
    "exptime_total": ("EXPTOTAL", "[s] exposure of all frames together"),
    "n_frames": ("NCOMBINE", "number of frames combined"),
    METHOD: (METHOD_CARD, "how frames were combined"),
    CLEAN_METHOD: (CLEAN_CARD, "how the best estimate, CLEAN, was made"),
    "time": ("DATE-OBS", "start of the first exposure"),
    "ccd_temp": ("CCD-TEMP", "[deg C] temperature of the detector"),
    "gain": ("EGAIN", "[electron/adu] of a frame"),
    "read_noise": ("RDNOISE", "[electron] of a frame"),
    "readout": ("READOUTM", "readout mode"),
    "gain_setting": ("GAIN", "setting of the camera"),
    "dispersion_axis": ("DISPAXIS", "1: along rows, 2: along columns"),
    "object": ("OBJECT", "object"),
    "frame_type": ("IMAGETYP", "type of frame"),
}
_PAIRED_CARDS = {
    "binning": (("XBINNING", "YBINNING"), "x"),
    "origin": (("XORGSUBF", "YORGSUBF"), ","),
}


def own_cards(image: xr.Dataset) -> list[tuple[str, Value, str]]:
    """Return the cards that only arrayred writes: the methods, and the pixel numbers."""
    known = [name for name in (METHOD, CLEAN_METHOD) if name in image.coords]
    cards: list[tuple[str, Value, str]] = [
        (_COORD_CARDS[name][0], str(image[name].item()), _COORD_CARDS[name][1]) for name in known
    ]
    numbers = [_first_and_last(image, dim) for dim in (X, Y) if dim in image.dims]
    if any(first != 1 for first, _ in numbers) and len(numbers) == 2:
        text = ",".join(f"{first}:{last}" for first, last in numbers)
        cards.append((PIXELS_CARD, f"[{text}]", "columns and rows of the file"))
    return cards


def _first_and_last(image: xr.Dataset, dim: str) -> tuple[int, int]:
    numbers = image[dim].values
    if numbers.size == 0 or (np.diff(numbers) != 1).any():
        raise MismatchError(
            f"The pixels along {dim} are not adjacent in their file",
            keyword=dim,
            hint="Select a range without a step.",
        )
    return int(numbers[0]), int(numbers[-1])


def pixel_numbers_of(header: Header, shape: tuple[int, int]) -> dict[str, Any]:
    """Return the pixel numbers `y` and `x` of an image of a shape (n_rows, n_columns).

    Raises
    ------
    MismatchError
        ARPIXELS states another shape: the image was cut without changing the card.
    """
    told = header.readable(PIXELS_CARD)
    match = _BIN_SECTION.fullmatch(told) if isinstance(told, str) else None
    first_x, last_x, first_y, last_y = map(int, match.groups()) if match else (1, 0, 1, 0)
    found = (last_y - first_y + 1, last_x - first_x + 1)
    if match and found != shape:
        raise MismatchError(
            f"{PIXELS_CARD} is {told}, but the image has {shape[0]} rows and {shape[1]} columns",
            keyword=PIXELS_CARD,
            value=told,
            hint="Correct the card, or remove it to number pixels from 1.",
        )
    return {Y: first_y + np.arange(shape[0]), X: first_x + np.arange(shape[1])}


def coords_of(header: Header, instrument: Instrument, path: Path = Path()) -> dict[str, Any]:
    """Return the scalar coordinates from a header, under the names of the data model.

    Parameters
    ----------
    header : of a product, or of anything made from a frame.
    instrument : meaning of its keywords.
    path : the file, for errors.
    """
    frame = _frame_of_header(header, instrument, path)
    told = {
        "exptime": frame.exptime,
        "exptime_total": _card_number(header, "EXPTOTAL"),
        "n_frames": _card_number(header, "NCOMBINE"),
        METHOD: header.readable(METHOD_CARD),
        CLEAN_METHOD: header.readable(CLEAN_CARD),
        "time": None if frame.time is None else _utc_datetime64(frame.time),
        "ccd_temp": frame.ccd_temp,
        "gain": frame.gain,
        "read_noise": frame.read_noise,
        "saturation": frame.saturation,
        "dispersion_axis": 2 if frame.dispersion_axis == 2 else None,
        **dict(frame.setup),
    }
    return {
        name: string_coord(value) if isinstance(value, str) else value
        for name, value in told.items()
        if value is not None
    }


def _frame_of_header(header: Header, instrument: Instrument, path: Path = Path()) -> Frame:
    """Return a header's values as a `Frame` without pixels."""
    return frame_from_header("", _without_pixels(header, path), instrument)


def _without_pixels(header: Header, path: Path = Path()) -> ImageHDU:
    source = PixelSource(path, 0, (0, 0), PixelFormat(8), Stamp(0, 0, 0))
    return ImageHDU(source, header, 0, "plain")


def _card_number(header: Header, keyword: str) -> float | int | None:
    value = header.readable(keyword)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and not isinstance(value, str) else None


def _utc_datetime64(time: datetime) -> np.datetime64:
    return np.datetime64(time.astimezone(UTC).replace(tzinfo=None), "ns")


def complete_header(header: Header, image: xr.Dataset) -> None:
    """Set the cards of an image's or spectrum's coordinates and history that a header lacks.

    Existing cards are unchanged, to the byte, but those of pixel positions, where the image is a
    part of the one that they describe.
    """
    _follow_selection(header, image)
    values = image[COUNTS if COUNTS in image else FLUX]
    in_electrons = values.attrs.get("units") == "electron"
    ones = set_gain_of_electrons(header) if in_electrons else []
    told = _coords_of_header(header, image)
    for name, (keyword, comment) in _COORD_CARDS.items():
        value = _coord_card_value(image, name) if keyword not in ones else None
        if value is not None and _as_card_value(told.get(name)) != value:
            header.set(keyword, value, comment)
    for name, (keywords, separator) in _PAIRED_CARDS.items():
        value = _coord_card_value(image, name)
        if value is not None and told.get(name) != value:
            for keyword, part in zip(keywords, str(value).split(separator), strict=False):
                header.set(keyword, float(part) if "." in part else int(part))
    numbers = [card for card in own_cards(image) if card[0] == PIXELS_CARD]
    if not numbers:
        header.drop([PIXELS_CARD])
    elif header.readable(PIXELS_CARD) != numbers[0][1]:
        header.set(*numbers[0])
    for card in noise_cards(image, FLUX if COUNTS not in image else COUNTS):
        if header.readable(card[0]) != card[1]:
            header.set(*card)
    for commentary, attr in (("HISTORY", "history"), ("COMMENT", "remarks")):
        known = read_notes(header, commentary)
        for line in image.attrs.get(attr, ()):
            if line not in known:
                header.note(commentary, f"{_PREFIX}{line}")


def _follow_selection(header: Header, image: xr.Dataset) -> None:
    """Move the cards of pixel positions to the first pixel of an image (y, x), as it is labelled.

    A header without ARPIXELS describes an image whose pixels are numbered from 1.
    """
    if not {Y, X} <= {*image.dims} or not {Y, X} <= {*image.coords}:
        return
    told = header.readable(PIXELS_CARD)
    match = _BIN_SECTION.fullmatch(told) if isinstance(told, str) else None
    column, row = (int(match[1]), int(match[3])) if match else (1, 1)
    rows, columns = (_first_and_last(image, dim)[0] for dim in (Y, X))
    if (rows, columns) != (row, column):
        move_pixel_cards(header, rows - row, columns - column)


def _coords_of_header(header: Header, image: xr.Dataset) -> dict[str, Any]:
    """Return the coordinates from a header, for pixels in the unit of an image."""
    known = header.copy()
    values = image[COUNTS if COUNTS in image else FLUX]
    known.set("BUNIT", values.attrs.get("units", "adu"))
    generic = Instrument.load("generic")
    frame = _frame_of_header(known, generic)
    told = {"object": frame.target, "frame_type": frame.frame_type}
    return told | coords_of(known, generic)


def _coord_card_value(image: xr.Dataset, name: str) -> Value:
    """Return a scalar coordinate as the value of a card, or None."""
    is_there = name in image.coords and not image[name].dims
    return _as_card_value(image[name].values[()]) if is_there else None


def _as_card_value(found: Any) -> Value:
    """Return a scalar as the value of a card; unknown ones (NaN, NaT, blank) as None."""
    if isinstance(found, np.datetime64):
        return None if np.isnat(found) else str(found.astype("datetime64[us]"))
    plain = found.item() if isinstance(found, np.generic) else found
    return None if plain != plain or plain == "" else plain


def attrs_of(header: Header) -> dict[str, Any]:
    """Return the attributes from a header: history, remarks, and the cards themselves."""
    remarks = read_notes(header, "COMMENT")
    return {
        "history": read_notes(header, "HISTORY"),
        **({"remarks": remarks} if remarks else {}),
        "unsigned_unwrapped": int(header.readable("ARUNSIGN") is True),
        **_noise_attrs_of(header),
        "header": "\n".join(card.rstrip() for card in header.images()),
    }


def _noise_attrs_of(header: Header) -> dict[str, float]:
    """Return the gain and noise of a combined image from its header, where given."""
    told = {name: _card_number(header, keyword) for name, (keyword, _) in NOISE_CARDS.items()}
    return {name: value for name, value in told.items() if value is not None}


def header_of(attrs: Mapping[Any, Any]) -> Header | None:
    """Return the header stored in the attributes by `attrs_of`, or None."""
    text = attrs.get("header")
    return None if text is None else Header(str(text).split("\n") if text else ())


def read_notes(header: Header, keyword: str) -> list[str]:
    """Return arrayred's notes from commentary cards, with split notes rejoined.

    Examples
    --------
    >>> header = Header()
    >>> header.note("HISTORY", "arrayred: " + "a long story " * 8)
    >>> read_notes(header, "HISTORY") == [("a long story " * 8).rstrip()]
    True
    """
    found: list[str] = []
    goes_on = False
    for text in (card[8:] for card in header.images() if keyword_of(card) == keyword):
        if text.startswith(_PREFIX):
            found.append(text.removeprefix(_PREFIX))
        elif goes_on:
            found[-1] += text
        goes_on = len(text.rstrip()) >= _NOTE_LENGTH and (goes_on or text.startswith(_PREFIX))
    return [note.rstrip() for note in found]


# Products read back as the Dataset that was written: `open_product`.
#
# A dozen lines read the images of floats and flags and the tables of three dtypes, instead of
# astropy's 0.4 s. Every HDU is compared with its DATASUM, as for raw frames.

_PRODUCT_DTYPES = {8: "u1", -32: ">f4", -64: ">f8"}
_FLAG_COLUMNS = {DQ: "flags of the pixels summed", "sky_dq": "flags of the pixels of the sky band"}
"""Descriptions of the flag columns; with the names of the bits they are too long for a card."""
_DAMAGED_HINT = "Copy it again, or reduce the night again."


class _HDU(NamedTuple):
    header: Header
    raw: bytes


def open_product(path: str | os.PathLike[str], *, instrument: str = "generic") -> xr.Dataset:
    """Open an image or a spectrum that arrayred wrote.

    Parameters
    ----------
    path : such as TARGET_combined.fits, a master, a calibrated frame, or TARGET_spectrum.fits.
    instrument : meaning of the camera's keywords: a name or the path of a TOML file.

    Returns
    -------
    product : an image with `counts` (y, x), or a spectrum with `flux` (x) and the rest; `clean`,
        `variance`, `dq` and `n_rejected` where they were written. Scalar coordinates, history,
        remarks and the rows of a spectrum are those of the header; all its cards are the attribute
        `header`. Counts are float64, so that processing continues as after `compute`; those of a
        float32 file are rounded to that (``output_dtype="float64"`` writes them unrounded).

    Raises
    ------
    FrameError
        The file is not a product of arrayred, is truncated, or its data do not agree with DATASUM.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from arrayred.io.header import image_bytes
    >>> header = Header()
    >>> header.set("ARVERSN", "1.0")
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder) / "star_combined.fits"
    ...     _ = file.write_bytes(image_bytes(header, np.eye(3), "float32"))
    ...     image = open_product(file)
    >>> image.counts.sel(y=3, x=3).item()
    1.0
    """
    import xarray as xr

    place = Path(path)
    first, *others = _checked_hdus(place)
    named = {hdu.header.readable("EXTNAME"): hdu for hdu in others}
    header = first.header.copy()
    header.drop([keyword for keyword in header if is_structural(keyword)])
    attrs = attrs_of(header)
    coords = coords_of(header, Instrument.load(instrument), place)
    if SPECTRUM_EXTENSION in named:
        attrs |= spectrum_attrs_of(header)
        variables = _spectrum_variables(
            named[SPECTRUM_EXTENSION], place, along="extraction" in attrs
        )
        coords[X] = variables.pop("x")[1]
        if WAVELENGTH in variables:
            dims, values, told = variables.pop(WAVELENGTH)
            coords[WAVELENGTH] = (dims, values, WAVELENGTH_ATTRS | told)
    else:
        unit = str(header.get("BUNIT", "adu"))
        counts = _hdu_pixels(first, place).astype(np.float64)
        variables = _image_variables(named, counts, unit, place)
        coords |= pixel_numbers_of(header, counts.shape)
    return xr.Dataset(variables, coords=coords, attrs=attrs)


def holds_spectrum(path: str) -> bool:
    """Return whether a local file is a spectrum that arrayred wrote; its first header is read."""
    place = Path(path)
    try:
        with open_regular(place) as file:
            header = Header.from_bytes(header_bytes(place, file, first=True) or b"")
    except (ArrayredError, OSError):  # what it is instead, those say who read frames
        return False
    return PRODUCT_CARD in header and header.readable("NAXIS") == 0


def header_of_product(path: Path) -> Header:
    """Return the header of a product, after comparing every HDU with its DATASUM.

    Raises
    ------
    FrameError
        As `open_product`.
    """
    return _checked_hdus(path)[0].header


def _checked_hdus(path: Path) -> list[_HDU]:
    hdus = _read_hdus(path)
    if PRODUCT_CARD not in hdus[0].header:
        raise ForeignFileError(
            f"This is not a product of arrayred: its header has no {PRODUCT_CARD}",
            path=path,
            keyword=PRODUCT_CARD,
            hint="Open raw frames with open_frames.",
        )
    return hdus


def _read_hdus(path: Path) -> list[_HDU]:
    try:
        with open_regular(path) as file:
            return list(_hdus(path, file))
    except FileNotFoundError as error:
        raise ForeignFileError("No such file", path=path) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _hdus(path: Path, file: Any) -> Iterator[_HDU]:
    first = True
    while (head := header_bytes(path, file, first=first)) is not None:
        header, first = Header.from_bytes(head), False
        n_bytes = data_size(header)
        raw = file.read(n_bytes)
        if len(raw) < n_bytes:
            raise FrameError(
                f"The data end after {len(raw)} of {n_bytes} bytes", path=path, hint=_DAMAGED_HINT
            )
        told, found = header.readable("DATASUM"), ones_complement_sum(raw)
        if told is not None and str(told) != str(found):
            raise FrameError(
                f"The checksum of the data is {found}, but DATASUM says {told}",
                path=path,
                keyword="DATASUM",
                value=told,
                hint=_DAMAGED_HINT,
            )
        yield _HDU(header, raw)


def _image_variables(
    named: Mapping[Any, _HDU], counts: NDArray[np.float64], unit: str, path: Path
) -> ImageVariables:
    """Return the pixels (y, x) of an image and of its extensions as variables."""
    known = [name for name in (UNCERT, MASK, FLAGS, BEST, LEFT_OUT) if name in named]
    planes = {name: _hdu_pixels(named[name], path) for name in known}
    flags = planes.get(FLAGS, planes.get(MASK))
    variables = labelled_planes(
        counts, unit, planes.get(UNCERT), None if flags is None else flags.copy()
    )
    if BEST in planes:
        told = {"units": unit, "long_name": "best estimate of the pixel values"}
        variables[CLEAN] = ((Y, X), planes[BEST].astype(np.float64), told)
    if LEFT_OUT in planes:
        variables[N_REJECTED] = ((Y, X), planes[LEFT_OUT].copy(), REJECTED_ATTRS)
    return variables


def _hdu_pixels(hdu: _HDU, path: Path) -> NDArray[Any]:
    """Return the pixels (y, x) of an image HDU as they were stored."""
    header, is_packed = hdu.header, is_in_gzip_tiles(hdu.header)
    prefix = "Z" if is_packed else ""
    bitpix, n_axes = header.readable(f"{prefix}BITPIX"), header.readable(f"{prefix}NAXIS")
    scaled = "BZERO" in header or "BSCALE" in header
    if not isinstance(bitpix, int) or bitpix not in _PRODUCT_DTYPES or n_axes != 2 or scaled:
        raise FrameError(
            f"The image has {n_axes} axes and BITPIX {bitpix}, which arrayred does not write",
            path=path,
            keyword="BITPIX",
            value=bitpix,
            hint="Open it with open_frames.",
        )
    kind = np.dtype(_PRODUCT_DTYPES[bitpix])
    n_rows, n_columns = (int(str(header[f"{prefix}NAXIS{i}"])) for i in (2, 1))
    try:
        raw = b"".join(gzip_tiles(header, hdu.raw, kind.itemsize)) if is_packed else hdu.raw
        return np.frombuffer(raw, kind, n_rows * n_columns).reshape(n_rows, n_columns)
    except ValueError as error:
        raise FrameError(
            f"The image is damaged ({error})", path=path, hint=_DAMAGED_HINT
        ) from error


def _spectrum_variables(hdu: _HDU, path: Path, *, along: bool) -> ImageVariables:
    """Return the columns of a table as variables along x, including `x` itself.

    Parameters
    ----------
    hdu, path : the table, and its file.
    along : whether the spectrum was extracted along a trace, not summed by rows.
    """
    columns = _table_columns(hdu, path)
    sigma = columns.pop("uncertainty", None)
    if sigma is not None and not np.isnan(sigma[1]).all():
        told = {"units": f"{sigma[2]['units']}2", "long_name": "variance of the flux"}
        columns[VARIANCE] = (X, variance_of(sigma[1]), told)
    flags = _FLAG_COLUMNS | ({DQ: "flags of the pixels in the aperture"} if along else {})
    for name in columns.keys() & flags.keys():
        columns[name] = (X, columns[name][1].astype(np.uint8), dq_attrs(flags[name]))
    return columns


def _table_columns(hdu: _HDU, path: Path) -> ImageVariables:
    """Return the columns of a table as variables: (x), or (x, y) where cells hold vectors."""
    types = {form: f">{np.dtype(name).str[1:]}" for name, form in COLUMN_FORMS.items()}
    types |= {"L": "S1", "A": "S"}
    header, numbers = hdu.header, range(1, int(str(hdu.header["TFIELDS"])) + 1)
    forms = [str(header.readable(f"TFORM{i}")) for i in numbers]
    known = [re.fullmatch(f"([0-9]*)([{''.join(types)}])", form) for form in forms]
    if None in known:
        raise FrameError(
            f"The columns are of the forms {forms}, which arrayred does not write",
            path=path,
            keyword="TFORM1",
            hint="Read it with astropy.table.Table.",
        )
    names = [header.readable(f"TTYPE{i}") for i in numbers]
    if None in names:
        keyword = f"TTYPE{names.index(None) + 1}"
        raise FrameError(
            f"A column has no name: {keyword} is missing",
            path=path,
            keyword=keyword,
            hint=_DAMAGED_HINT,
        )
    fields: list[Any] = []
    for name, form in zip(names, known, strict=True):
        n, kind = (form[1], form[2]) if form else ("", "")
        if kind == "A":
            fields.append((str(name), f"S{n or 1}"))
        else:
            fields.append((str(name), types[kind], (int(n),) if n else ()))
    records = np.frombuffer(hdu.raw, np.dtype(fields), int(str(header["NAXIS2"])))
    units: dict[Any, str] = {spelled: unit for unit, spelled in TABLE_UNITS.items()}
    variables: ImageVariables = {}
    for i, (name, form) in enumerate(zip(map(str, names), known, strict=True), 1):
        values = records[name]
        values = values == b"T" if form and form[2] == "L" else values
        values = values.astype(values.dtype.newbyteorder("="))
        unit = header.get(f"TUNIT{i}")
        told = {
            "units": units.get(unit, unit),
            "long_name": parse_card(header.card(f"TTYPE{i}"))[1],
        }
        dims: Any = X if values.ndim == 1 else (X, Y)
        variables[name] = (dims, values, {key: value for key, value in told.items() if value})
    return variables


def read_frames(path: Path) -> xr.Dataset:
    """Return the spectra of frames (frame, x) that `frames_file` wrote, without wavelengths.

    Raises
    ------
    FrameError
        The file cannot be read, or holds no spectra of frames.
    """
    import xarray as xr

    first, *others = _checked_hdus(path)
    hdu = next((o for o in others if o.header.readable("EXTNAME") == FRAMES_EXTENSION), None)
    start = first.header.readable("XFIRST")
    if hdu is None or not isinstance(start, int):
        raise FrameError(
            "The file holds no spectra of frames",
            path=path,
            hint="Reduce the target with --per-frame.",
        )
    columns = _table_columns(hdu, path)
    columns.pop(WAVELENGTH, None)
    sigma = columns.pop("uncertainty")[1]
    found: dict[str, Any] = {
        name: ((FRAME, X), values, {"long_name": "", **told})  # a long comment was not written
        for name, (_, values, told) in columns.items()
        if values.ndim == 2
    }
    if not np.isnan(sigma).all():
        found[VARIANCE] = ((FRAME, X), variance_of(sigma), {})
    dates = [str(date, "ascii") or "NaT" for date in columns["date_mid"][1]]
    coords: dict[str, Any] = {
        FRAME: [str(name, "ascii") for name in columns["frame"][1]],
        X: np.arange(start, start + sigma.shape[1]),
        "time_mid": (FRAME, np.array(dates, "datetime64[ns]")),
        "extraction": (FRAME, [str(how, "ascii") for how in columns["extraction"][1]]),
    }
    coords |= {name: (FRAME, columns[name][1]) for name in ("exptime", "offset")}
    return xr.Dataset(found, coords)


def with_new_frame_wavelengths(path: Path, frames: xr.Dataset) -> dict[str, Content]:
    """Return the file of the spectra of frames whose wavelengths alone were made anew, by name.

    Parameters
    ----------
    path : of the FITS file; its cards stay as they are.
    frames : of `read_frames`, with their new wavelengths.
    """
    header = header_of_product(path)
    header.drop([keyword for keyword in header if is_structural(keyword)])
    return {path.name: frames_table(frames, header)}


# Simulated frames written as a folder of FITS files: `write_frames`, `write_truth`.


class RawFrame(Protocol):
    """A frame to be written: name, cards, pixels."""

    @property
    def name(self) -> str:
        """Return the file's name."""

    @property
    def cards(self) -> Mapping[str, str | float | int]:
        """Return the cards of its header."""

    @property
    def pixels(self) -> NDArray[Any]:
        """Return its pixels (y, x)."""


def write_truth(
    truth: xr.Dataset, facts: Mapping[str, Any], folder: Path, *, overwrite: bool = False
) -> list[Path]:
    """Write the true values of a simulated night beside its frames, and return the paths.

    Parameters
    ----------
    truth : variables along x, written to ``truth.ecsv``.
    facts : all other true values, JSON-ready, written to ``truth.json``.
    folder : that of the frames.
    overwrite : replace files that have other content.
    """
    along_x = truth[[name for name, variable in truth.data_vars.items() if variable.dims == (X,)]]
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items())
    files: dict[Path, Content] = {
        folder / "truth.ecsv": ecsv_table(along_x, {}),
        folder / "truth.json": f"{{\n{lines}\n}}\n".encode(),
    }
    publish(files, overwrite=overwrite)
    return list(files)


def write_frames(
    frames: Iterable[RawFrame],
    folder: str | PathLike[str],
    *,
    overwrite: bool = False,
    written: Callable[[], None] | None = None,
) -> list[Path]:
    """Write simulated frames into a folder, one at a time.

    Parameters
    ----------
    frames : iterable of objects with a `name`, the file's; `cards`, values by keyword; and
        `pixels` (y, x), such as `SimulatedNight.frames` yields. Each frame may be dropped once it
        is written.
    folder : made if it does not exist.
    overwrite : replace files that have other content.
    written : is called after each frame.

    Returns
    -------
    paths : of the files, in the order of the frames.

    Raises
    ------
    UsageError
        A file with other content is there and `overwrite` is not given.
    StorageError
        The disk is full or cannot be written.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import arrayred as ar
    >>> with TemporaryDirectory() as folder:
    ...     paths = write_frames(ar.SimulatedNight(n_darks=1, n_lights=2).frames(), folder)
    >>> [path.name for path in paths]
    ['dark-001.fit', 'light-001.fit', 'light-002.fit']
    """
    paths = []
    for frame in frames:
        header = Header()
        for keyword, value in frame.cards.items():
            header.set(keyword, value)
        path = Path(folder) / frame.name
        content = image_bytes(header, frame.pixels, frame.pixels.dtype.name)
        publish({path: content}, overwrite=overwrite)
        paths.append(path)
        if written is not None:
            written()
    return paths


# Provenance of a product from its own header: `explain`.

_SUBJECT_CARDS = ("OBJECT", "IMAGETYP", "DATE-OBS", "DATE-END", "EXPTOTAL", "NCOMBINE", METHOD_CARD)
_CALIBRATION_CARDS = ("CALSTAT", "ARBIAS", "ARDARK", "ARFLAT", "ARUNSIGN", "BUNIT", "ARVERSN")
_NUMBER_CARDS = [keyword for keyword, _ in (NOISE_CARDS | SPECTRUM_CARDS).values()]
_PROVENANCE_SUFFIXES = ("_spectrum.fits", "_combined.fits")


def explain(path: Path) -> str:
    """Return the provenance of a product as text: subject, steps, remarks, numbers and inputs.

    Parameters
    ----------
    path : an image or a spectrum; for a table or picture of a target the FITS file of that name
        beside it is used.

    Raises
    ------
    UsageError
        There is no such file.
    FrameError
        The file is not a product of arrayred, or is damaged.
    """
    if not path.exists():
        raise UsageError("No such file", path=path, hint="Name a product of arrayred.")
    header = header_of_product(_file_with_provenance(path))
    lines = [printable(str(path))]
    lines += _text_section("product", _card_lines(header, _SUBJECT_CARDS))
    lines += _text_section("processing steps", read_notes(header, "HISTORY"))
    lines += _text_section("notes", read_notes(header, "COMMENT"))
    lines += _text_section("versions and settings", _card_lines(header, _CALIBRATION_CARDS))
    lines += _text_section("numbers", _card_lines(header, _NUMBER_CARDS))
    lines += _text_section("inputs (SHA-256)", list(_input_lines(header)))
    return "\n".join(lines)


def _file_with_provenance(path: Path) -> Path:
    """Return the FITS file with the provenance of a file: itself, or one beside it."""
    if path.suffix == ".fits":
        return path
    for suffix in _PROVENANCE_SUFFIXES:
        for i in range(len(path.stem), 0, -1):
            beside = path.with_name(path.stem[:i] + suffix)
            if beside.is_file():
                return beside
    raise ForeignFileError(
        "The history of this file is not known: no FITS product of its name is beside it",
        path=path,
        hint="Name a FITS file that arrayred wrote.",
    )


def _text_section(title: str, lines: list[str]) -> list[str]:
    return [f"{title}:", *(f"  {printable(line)}" for line in lines)] if lines else []


def _card_lines(header: Header, keywords: tuple[str, ...] | list[str]) -> list[str]:
    """Return cards as text lines, those that exist and are not blank."""
    lines = []
    for keyword in keywords:
        value = header.readable(keyword)
        if value is not None and str(value).strip():
            comment = parse_card(header.card(keyword))[1]
            lines.append(f"{keyword:8} {value}{f'  ({comment})' if comment else ''}")
    return lines


def _input_lines(header: Header) -> Iterator[str]:
    for i in range(1, 10_000):
        name = header.readable(f"ARIN{i:04d}")
        if name is None:
            return
        yield f"{header.readable(f'ARSH{i:04d}') or 'unknown':64}  {name}"
