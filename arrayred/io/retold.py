"""An image's scalar coordinates, history and pixel numbers as header cards, and back again.

A product is a Dataset again only if its header tells what its coordinates told; the same cards
carry them through a CCDData. What the camera's own cards say already is read from them (`Frame`),
and no card is written twice: ARMETHOD (how frames were combined), ARCLEAN (how the best estimate
beside that was made) and ARPIXELS (which columns and rows of the file an image holds, where they do
not begin at 1) are all that is added.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arrayred.config import Instrument
from arrayred.errors import MismatchError
from arrayred.io.card import Value, keyword_of
from arrayred.io.cards import Header
from arrayred.io.frames import Frame, describe
from arrayred.io.remote.store import Stamp
from arrayred.io.sources import ImageHDU, PixelFormat, PixelSource
from arrayred.io.table import NOISE_FACTS, noise_cards
from arrayred.model import CLEAN_METHOD, COUNTS, METHOD, X, Y

if TYPE_CHECKING:
    import xarray as xr

FLUX = "flux"
PIXELS_CARD, METHOD_CARD, CLEAN_CARD = "ARPIXELS", "ARMETHOD", "ARCLEAN"
_PREFIX = "arrayred: "
_FULL = 71
"""A note's card that is full but for one blank goes on in the next one."""
_SECTION = re.compile(r"\[(\d+):(\d+),(\d+):(\d+)\]")
_CARDS = {
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
    "object": ("OBJECT", "what it shows"),
    "frame_type": ("IMAGETYP", "type of frame"),
}
_PAIRS = {"binning": (("XBINNING", "YBINNING"), "x"), "origin": (("XORGSUBF", "YORGSUBF"), ",")}


def own_cards(image: xr.Dataset) -> list[tuple[str, Value, str]]:
    """Return the cards that only arrayred writes: the methods, and the pixels' numbers."""
    known = [name for name in (METHOD, CLEAN_METHOD) if name in image.coords]
    cards: list[tuple[str, Value, str]] = [
        (_CARDS[name][0], str(image[name].item()), _CARDS[name][1]) for name in known
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
            f"The pixels along {dim} are no neighbours in their file",
            keyword=dim,
            hint="Select a range without a step.",
        )
    return int(numbers[0]), int(numbers[-1])


def labels_of(header: Header, shape: tuple[int, int]) -> dict[str, Any]:
    """Return the pixel numbers `y` and `x` of an image of a shape (n_rows, n_columns).

    Raises
    ------
    MismatchError
        ARPIXELS tells of an image of another shape: it was cut by somebody who did not say so.
    """
    told = header.readable(PIXELS_CARD)
    match = _SECTION.fullmatch(told) if isinstance(told, str) else None
    first_x, last_x, first_y, last_y = map(int, match.groups()) if match else (1, 0, 1, 0)
    found = (last_y - first_y + 1, last_x - first_x + 1)
    if match and found != shape:
        raise MismatchError(
            f"{PIXELS_CARD} is {told}, but the image has {shape[0]} rows and {shape[1]} columns",
            keyword=PIXELS_CARD,
            value=told,
            hint="Mend the card, or remove it: pixels are then numbered from 1.",
        )
    return {Y: first_y + np.arange(shape[0]), X: first_x + np.arange(shape[1])}


def coords_of(header: Header, instrument: Instrument, path: Path = Path()) -> dict[str, Any]:
    """Return the scalar coordinates that a header tells, under the names of the data model.

    Parameters
    ----------
    header : of a product, or of anything made from a frame.
    instrument : what its cards mean.
    path : the file, for errors.
    """
    frame = _frame(header, instrument, path)
    told = {
        "exptime": frame.exptime,
        "exptime_total": _number(header, "EXPTOTAL"),
        "n_frames": _number(header, "NCOMBINE"),
        METHOD: header.readable(METHOD_CARD),
        CLEAN_METHOD: header.readable(CLEAN_CARD),
        "time": None if frame.time is None else _moment(frame.time),
        "ccd_temp": frame.ccd_temp,
        "gain": frame.gain,
        "read_noise": frame.read_noise,
        "saturation": frame.saturation,
        "dispersion_axis": 2 if frame.dispersion_axis == 2 else None,
        **dict(frame.setup),
    }
    return {name: value for name, value in told.items() if value is not None}


def _frame(header: Header, instrument: Instrument, path: Path = Path()) -> Frame:
    """Return what a header says, as if it were that of a frame."""
    source = PixelSource(path, 0, (0, 0), PixelFormat(8), Stamp(0, 0, 0))
    return describe("", ImageHDU(source, header, 0, "plain"), instrument)


def _number(header: Header, keyword: str) -> float | int | None:
    value = header.readable(keyword)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and not isinstance(value, str) else None


def _moment(time: datetime) -> np.datetime64:
    return np.datetime64(time.astimezone(UTC).replace(tzinfo=None), "ns")


def complete(header: Header, image: xr.Dataset) -> None:
    """Set the cards of an image's or spectrum's coordinates and history that a header lacks.

    What it tells already stays as it is, to the byte.
    """
    told = _told(header, image)
    for name, (keyword, comment) in _CARDS.items():
        value = _value_of(image, name)
        if value is not None and _value(told.get(name)) != value:
            header.set(keyword, value, comment)
    for name, (keywords, separator) in _PAIRS.items():
        value = _value_of(image, name)
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
        known = notes(header, commentary)
        for line in image.attrs.get(attr, ()):
            if line not in known:
                header.note(commentary, f"{_PREFIX}{line}")


def _told(header: Header, image: xr.Dataset) -> dict[str, Any]:
    """Return the coordinates that a header tells of pixels in an image's unit."""
    known = header.copy()
    values = image[COUNTS if COUNTS in image else FLUX]
    known.set("BUNIT", values.attrs.get("units", "adu"))
    generic = Instrument.load("generic")
    frame = _frame(known, generic)
    told = {"object": frame.target, "frame_type": frame.frame_type}
    return told | coords_of(known, generic)


def _value_of(image: xr.Dataset, name: str) -> Value:
    """Return a scalar coordinate as the value of a card, None where there is none."""
    is_there = name in image.coords and not image[name].dims
    return _value(image[name].values[()]) if is_there else None


def _value(found: Any) -> Value:
    """Return a scalar as the value of a card; unknown ones (NaN, NaT, blank) as None."""
    if isinstance(found, np.datetime64):
        return None if np.isnat(found) else str(found.astype("datetime64[us]"))
    plain = found.item() if isinstance(found, np.generic) else found
    return None if plain != plain or plain == "" else plain


def attrs_of(header: Header) -> dict[str, Any]:
    """Return the attributes that a header tells: history, remarks, and the cards themselves."""
    remarks = notes(header, "COMMENT")
    return {
        "history": notes(header, "HISTORY"),
        **({"remarks": remarks} if remarks else {}),
        "unsigned_unwrapped": int(header.readable("ARUNSIGN") is True),
        **_noise(header),
        "header": "\n".join(card.rstrip() for card in header.images()),
    }


def _noise(header: Header) -> dict[str, float]:
    """Return the gain and noise of a combination, where they are told."""
    told = {name: _number(header, keyword) for name, (keyword, _) in NOISE_FACTS.items()}
    return {name: value for name, value in told.items() if value is not None}


def header_of(attrs: Mapping[Any, Any]) -> Header | None:
    """Return the header that `attrs_of` kept, or None."""
    text = attrs.get("header")
    return None if text is None else Header(str(text).split("\n") if text else ())


def notes(header: Header, keyword: str) -> list[str]:
    """Return what arrayred noted on commentary cards, long notes put together again.

    Examples
    --------
    >>> header = Header()
    >>> header.note("HISTORY", "arrayred: " + "a long story " * 8)
    >>> notes(header, "HISTORY") == [("a long story " * 8).rstrip()]
    True
    """
    found: list[str] = []
    goes_on = False
    for text in (card[8:] for card in header.images() if keyword_of(card) == keyword):
        if text.startswith(_PREFIX):
            found.append(text.removeprefix(_PREFIX))
        elif goes_on:
            found[-1] += text
        goes_on = len(text.rstrip()) >= _FULL and (goes_on or text.startswith(_PREFIX))
    return [note.rstrip() for note in found]
