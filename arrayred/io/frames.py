"""Read the frames of a night from their headers: `Frame`, `read_frames`.

A value that is missing or invalid is recorded as a problem of the frame, not raised: a night
reports all its problems at once, and a frame that is not needed may have any.
"""

from __future__ import annotations

import os
import re
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

from arrayred.config import Instrument
from arrayred.errors import ArrayredError, FrameError, HeaderError, MismatchError, printable
from arrayred.io.files import scan_all
from arrayred.io.header import Header, Value, parse_card
from arrayred.io.remote import FITS_SUFFIXES
from arrayred.io.scan import (
    OVERSCAN_CARD,
    PRODUCT_CARD,
    ImageHDU,
)
from arrayred.model import (
    GUESSED_GAIN,
    INSTRUMENT_FILE,
    Section,
    Sections,
    Unit,
    consistent_sections,
    section_numbers,
    to_check,
)


class PixelDecision(NamedTuple):
    """A decision about a frame's pixels, and its source: header, pixels (probe) or option."""

    source: Literal["header", "probe", "option"]
    text: str


class TypeDoubt(NamedTuple):
    """Another type that a frame may be of; its pixels decide (`io.pixel_checks.confirm_types`).

    Parameters
    ----------
    other : the type that it then is of.
    where : what decides for the other type: "lines" that fill the slit; "lines or short", these or
        a short exposure; "trace", the trace of a star.
    witness : what made the doubt, such as "its name contains 'neon'".
    """

    other: str
    where: Literal["lines", "lines or short", "trace"]
    witness: str


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its image, and the values of its header under one set of names.

    Parameters
    ----------
    label : path relative to the opened folder, without suffix; unique among the frames read.
    image : position and encoding of the pixels, and the header.
    type_found : the frame type as spelt in the header, or "".
    frame_type : bias, dark, flat, arc or light; None where the spelling is unknown.
    exptime : exposure time in s; None where no card gives it.
    time : start of the exposure, UTC; None where no card gives it.
    target : the OBJECT card, stripped, or "".
    ccd_temp : temperature of the detector, deg C, or None.
    gain : electrons per unit of the pixels, or None.
    calstat : letters of the corrections already applied, from the header or shown by the pixels,
        or ""; see `state`.
    unit : of the pixel values.
    setup : binning, origin, readout, gain_setting, where known.
    dispersion_axis : 1 along the rows, 2 along the columns.
    optics : grating, angle, filter, slit as found.
    problems : header values that are missing or invalid.
    warnings : header values that are odd but could be interpreted.
    doubt : the other type that the frame may be of, which the pixels decide; None: no doubt.
    flip : flip that the camera program applied to the image, "" for none; None if unknown.
    refusals : reasons why the frame must not be used, though it can be read.
    verdicts : decisions about its pixels.
    night : evening date of its observing night, as ``2020-11-02``, or ""
        (`with_observing_nights`).
    named_master : declared as a master by the user.
    read_noise : electrons, or None.
    saturation : raw count from which pixels are saturated, adu; None if unknown.
    sections : the overscan to subtract and the section to keep, or None.
    keeps_bias : whether its level shows that only the dark current was subtracted, not the bias.
    library : the folder of calibrations that it is from; "" for a frame of the night itself.
    gain_from : source of the gain: a keyword, `GUESSED_GAIN`, `INSTRUMENT_FILE`, or "".
    """

    label: str
    image: ImageHDU
    type_found: str
    frame_type: str | None
    exptime: float | None
    time: datetime | None
    target: str
    ccd_temp: float | None
    gain: float | None
    calstat: str
    unit: Unit
    setup: tuple[tuple[str, str], ...]
    dispersion_axis: int
    optics: tuple[str, ...]
    problems: tuple[ArrayredError, ...]
    warnings: tuple[str, ...] = ()
    doubt: TypeDoubt | None = None
    flip: str | None = None
    refusals: tuple[ArrayredError, ...] = ()
    verdicts: tuple[PixelDecision, ...] = ()
    night: str = ""
    named_master: bool = False
    read_noise: float | None = None
    saturation: float | None = None
    sections: Sections | None = None
    keeps_bias: bool = False
    library: str = ""
    gain_from: str = ""

    def __repr__(self) -> str:
        """Return label, type, exposure, target, size and start in one line."""
        exposure = "? s" if self.exptime is None else f"{self.exptime:g} s"
        shows = [self.target] if self.target else []
        began = [] if self.time is None else [f"{self.time:%Y-%m-%d %H:%M}"]
        size = f"{self.shape[1]} x {self.shape[0]}"
        facts = [f"{self.frame_type or 'unknown'} {exposure}", *shows, size, *began]
        return printable(f"Frame({self.label}: {', '.join(facts)})")

    @property
    def state(self) -> str:
        """Return the corrections that the pixels have: "B" bias, "D" dark, "F" flat field.

        The letters describe the pixels, not the steps taken: MaxIm's "D" alone includes the bias,
        which was subtracted with the dark, unless the level shows otherwise; "M" is ignored.
        """
        gone = set(self.calstat)
        if "D" in gone and not self.keeps_bias:
            gone.add("B")
        return "".join(letter for letter in "BDF" if letter in gone)

    @property
    def path(self) -> Path:
        """Return the frame's file."""
        return self.image.source.path

    @property
    def shape(self) -> tuple[int, int]:
        """Return (n_rows, n_columns)."""
        return self.image.source.shape

    @property
    def first_pixel(self) -> tuple[int, int]:
        """Return the row and column, from 1, of the first pixel (of products before trimming)."""
        return first_pixel(self.image.header) if self.is_own else (1, 1)

    @property
    def window(self) -> tuple[int, int, int, int]:
        """Return first row, first column, n_rows, n_columns of the section that is kept."""
        if self.sections is None or self.sections.trim is None:
            return *self.first_pixel, *self.shape
        return self.sections.trim.window

    @property
    def loses_overscan(self) -> bool:
        """Return whether the overscan level has been, or will be, subtracted."""
        to_do = self.sections is not None and self.sections.overscan is not None
        return to_do or OVERSCAN_CARD in self.image.header

    @property
    def is_own(self) -> bool:
        """Return whether arrayred made this file."""
        return PRODUCT_CARD in self.image.header

    @property
    def is_product(self) -> bool:
        """Return whether this file was made from other frames, by arrayred or another program."""
        return self.is_own or self.image.header.readable("COMBINED") is True

    @property
    def is_master(self) -> bool:
        """Return whether this is a master: a bias, dark or flat made from several frames."""
        if self.frame_type not in ("bias", "dark", "flat"):
            return False
        n_combined = self.image.header.readable("NCOMBINE")
        told = "M" in self.calstat or "master" in words_of(f"{self.type_found} {self.path.name}")
        many = isinstance(n_combined, int) and n_combined > 1
        return self.named_master or self.is_product or told or many

    @property
    def pixel_warnings(self) -> tuple[str, ...]:
        """Return the warnings about pixels that were scaled, turned or left in the file."""
        decided = [verdict.text for verdict in self.verdicts if verdict.text in self.warnings]
        return tuple(filter(None, (self.image.warning, *decided)))

    @property
    def order(self) -> tuple[datetime, str]:
        """Return the key of the canonical order: time, then name."""
        return self.time or datetime.max.replace(tzinfo=UTC), self.label


ROUNDING_SLACK = 1e-9
"""s: decimals such as 60.06 are not exact."""


def exposure_tolerance(exptime: float) -> float:
    """Return the difference up to which exposures count as equal, s: 0.01 s or 0.1 %."""
    return max(0.01, 0.001 * exptime)


def require_same_unit(frames: Sequence[Frame], hint: str) -> None:
    """Raise MismatchError, with the hint, unless all frames have the same unit."""
    first = frames[0]
    for frame in frames:
        if frame.unit != first.unit:
            raise MismatchError(
                f"The frame is in {frame.unit}, but {first.path.name} is in {first.unit}",
                path=frame.path,
                keyword="BUNIT",
                value=frame.unit,
                hint=hint,
            )


def read_frames(
    paths: Sequence[Path],
    instrument: Instrument,
    root: Path | None = None,
    advance: Callable[[int], None] | None = None,
    extension: str = "",
) -> tuple[list[Frame], list[FrameError | HeaderError]]:
    """Return the frames of files, from their headers, in canonical order, and the read errors.

    Parameters
    ----------
    paths : the files.
    instrument : meaning of the header keywords.
    root : the folder that labels are relative to; by default the files' common one.
    advance : is called after each file with the number of files left.
    extension : number or EXTNAME of the image of a file; see `find_image`.
    """
    root = root or Path(os.path.commonpath([path.parent.absolute() for path in paths]))
    frames, failures = [], []
    images = scan_all(paths, extension=extension)
    for left, label, image in zip(
        range(len(paths) - 1, -1, -1), _frame_labels(paths, root), images, strict=True
    ):
        if isinstance(image, ImageHDU):
            frames.append(frame_from_header(label, image, instrument))
        else:
            failures.append(image)
        if advance is not None:
            advance(left)
    return with_observing_nights(sorted(frames, key=lambda frame: frame.order)), failures


def _frame_labels(paths: Sequence[Path], root: Path) -> list[str]:
    """Return relative paths without suffix, or with it where two files would share a label."""
    whole = [os.path.relpath(path, root) for path in paths]
    short = [without_suffix(name) for name in whole]
    taken = Counter([*short, *whole])
    return [name if taken[stem] > 1 else stem for name, stem in zip(whole, short, strict=True)]


def without_suffix(name: str) -> str:
    """Return the name of a FITS file without its suffix, double ones such as .fits.gz included."""
    suffix = max((s for s in FITS_SUFFIXES if name.lower().endswith(s)), key=len, default="")
    return name[: len(name) - len(suffix)]


def frame_from_header(label: str, image: ImageHDU, instrument: Instrument) -> Frame:
    """Return the frame described by an image's header."""
    facts = HeaderValues(image, instrument)
    (found, *others), unit = facts.frame_types(instrument), facts.unit(instrument)
    target, exptime = facts.text("object"), facts.exptime()
    name = os.path.basename(label)
    gain, gain_from = facts.gain() if unit == "adu" else (1.0, "")
    kind = find_frame_type(found, name, target, facts.text("lamps"), instrument, others)
    remarks = [taken_for(kind.frame_type, kind.known_from)] if kind.known_from else []
    sections, odd, wrong = sections_of(image, instrument)
    if image.hdu > 0 and image.header.readable("INHERIT") is False:
        remarks.append("INHERIT=F: the primary header is not used")
    if image.warning:
        remarks.append(image.warning)
    frame = Frame(
        label=label,
        image=image,
        type_found=found.spelling,
        frame_type=kind.frame_type,
        exptime=exptime,
        time=facts.time(),
        target=target,
        ccd_temp=facts.number("ccd_temp"),
        gain=gain,
        gain_from=gain_from,
        calstat=facts.calstat(),
        unit=unit,
        setup=facts.setup(),
        dispersion_axis=facts.dispersion_axis(instrument) or 1,
        optics=tuple(facts.text_of(keyword) for keyword in instrument.keywords["optics"]),
        problems=tuple(facts.problems),
        warnings=(*facts.warnings, *remarks, *odd),
        doubt=kind.doubt,
        flip=facts.flip(),
        refusals=(*facts.refusals, *wrong),
        verdicts=(PixelDecision("header", image.note),) if image.note else (),
        read_noise=facts.read_noise(),
        saturation=instrument.detector.get("saturation") if unit == "adu" else None,
        sections=sections,
    )
    if frame.frame_type == "dark" and frame.exptime == 0 and not frame.is_master:
        told = taken_for("bias", "a dark of 0 s")
        return replace(frame, frame_type="bias", warnings=(*frame.warnings, told))
    return frame


_TAKEN_FOR = "used as"


def taken_for(frame_type: str | None, witness: str) -> str:
    """Return the warning that a frame's type is not the one of its type card, and why."""
    return f"{_TAKEN_FOR} {frame_type}: {witness}"


def without_type_warnings(frame: Frame) -> tuple[str, ...]:
    """Return the warnings of a frame but those of `taken_for`."""
    return tuple(text for text in frame.warnings if not text.startswith(_TAKEN_FOR))


def type_warning(frame: Frame) -> str:
    """Return the warning of `taken_for` if a frame is not of the type of its type card, or ""."""
    return next((text for text in frame.warnings if text.startswith(_TAKEN_FOR)), "")


# Header values by our names, whatever their keywords, and the problems with them.
#
# A value that is missing or invalid is recorded as a problem, not raised.

_SECONDS = re.compile(r"(?<!')\bs(ec|econds?)?\b", re.IGNORECASE)
_AUTO_DARK = re.compile(r"auto-?dark", re.IGNORECASE)
_TIME_UNITS = (  # s, the unit of an exposure as comments state it; the first that is found counts
    (1e-3, re.compile(r"\bm(illi)?s(ec|econds?)?\b", re.IGNORECASE)),
    (1e-6, re.compile(r"\b([u\xb5]|micro)s(ec|econds?)?\b", re.IGNORECASE)),
    (1.0, _SECONDS),
    (60.0, re.compile(r"\bminutes?\b|[(\[]min[)\]]", re.IGNORECASE)),
    (3600.0, re.compile(r"\bhours?\b|[(\[]hr?[)\]]", re.IGNORECASE)),
)
_ELECTRONS = r"\b(?:photo-?)?e(?:l(?:ec(?:tron)?s?)?)?-?"
_ADU = r"\b(?:adu|count|ct|dn)s?\b"
_ELECTRONS_PER_ADU = re.compile(
    rf"{_ELECTRONS}\s*(?:/|per)\s*{_ADU}|{_ADU}\s*to\s*{_ELECTRONS}", re.IGNORECASE
)
_ADU_PER_ELECTRON = re.compile(
    rf"{_ADU}\s*(?:/|per)\s*{_ELECTRONS}|{_ELECTRONS}\s*to\s*{_ADU}", re.IGNORECASE
)
_USUAL_GAINS = (0.02, 30.0)
"""Electrons per adu of real cameras, beyond which a GAIN without a unit is a setting."""
_PAIR = re.compile(r"(\d+)[\sx,]+(\d+)", re.IGNORECASE)


class TypeCard(NamedTuple):
    """A type card: its keyword, and the frame type as spelt there; both "" where there is none."""

    keyword: str
    spelling: str


class HeaderValues:
    """Values of a header, found under the instrument's keywords, and the problems with them."""

    def __init__(self, image: ImageHDU, instrument: Instrument) -> None:
        self._header: Header = image.header
        self._path = image.source.path
        self._keywords = instrument.keywords
        self._detector = instrument.detector
        self._in_seconds = instrument.in_seconds
        self.problems: list[ArrayredError] = []
        self.refusals: list[ArrayredError] = []
        self.warnings: list[str] = []
        if odd := self._header.odd_keywords():
            self.warnings.append(f"characters not allowed by FITS in {', '.join(odd)}")

    def _first(self, keywords: Iterable[str]) -> tuple[str, Value]:
        """Return keyword and value of the first card that exists, is readable and not blank."""
        for keyword in keywords:
            try:
                value = self._header.get(keyword)
            except HeaderError as error:
                error.path = str(self._path)
                self.problems.append(error)
                continue
            if value is not None and value != "":
                return keyword, value
        return "", None

    def text(self, fact: str) -> str:
        """Return a header value as text, stripped, or ""."""
        return self._text(self._keywords[fact])

    def text_of(self, keyword: str) -> str:
        """Return one card as text, stripped, or ""."""
        return self._text([keyword])

    def _text(self, keywords: Iterable[str]) -> str:
        value = self._first(keywords)[1]
        return "" if value is None else str(value).strip()

    def number(self, fact: str) -> float | None:
        """Return a header value as a number, or None; a number written as text is accepted."""
        value = self._first(self._keywords[fact])[1]
        return None if isinstance(value, bool) else _as_number(value)

    def frame_types(self, instrument: Instrument) -> list[TypeCard]:
        """Return the type cards with their spellings: first the one that counts.

        That is the first of which the instrument knows the meaning, else the first, else an empty
        one. Two meanings under one keyword are a refusal.
        """
        first, value = self._first(self._keywords["frame_type"])
        if value is None:
            return [TypeCard("", "")]
        keywords = [k for k in self._keywords["frame_type"] if k in self._header]
        cards = [
            TypeCard(keyword, str(found).strip())
            for keyword in keywords
            for found in self._header.all(keyword)
            if found is not None and str(found).strip()
        ]
        known = [card for card in cards if instrument.frame_type_of(card.spelling)]
        if not known:
            return [TypeCard(first, str(value).strip())]
        rivals = [card.spelling for card in cards if card.keyword == known[0].keyword]
        meant = {instrument.frame_type_of(spelling) for spelling in rivals}
        if len(meant - {None}) > 1:
            self.refusals.append(self._contradiction(known[0].keyword, rivals))
        elif len(meant) > 1:
            self.warnings.append(
                f"{known[0].keyword} appears {len(rivals)} times in the header: the value that is "
                "a valid frame type is used"
            )
        if known[0].keyword != first:
            self.warnings.append(
                f"{first} is {str(value).strip()!r}, which is not a valid frame type: "
                f"{known[0].keyword} is used"
            )
        return known

    def dispersion_axis(self, instrument: Instrument) -> int | None:
        """Return the dispersion axis, 1 or 2, from the instrument file or the header, or None."""
        found = self.number("dispersion_axis")
        return instrument.dispersion_axis or (int(found) if found in (1, 2) else None)

    def _contradiction(self, keyword: str, values: Sequence[Value]) -> HeaderError:
        told = f", or set its {_told_as(keyword in self._keywords['exptime'], self._path)}"
        return HeaderError(
            f"{keyword} appears {len(values)} times in the header, with {_listed_values(values)}",
            path=self._path,
            keyword=keyword,
            value=tuple(values),
            hint=f"Remove one of the cards, or exclude the frame{told}.",
        )

    def calstat(self) -> str:
        """Return the letters of the corrections applied, from CALSTAT, else HISTORY (auto-dark)."""
        found = self.text("calstat").upper()
        letters = found if set(found) <= set("BDFM") else ""
        told = any(_AUTO_DARK.search(line) for line in self._header.lines("HISTORY"))
        return letters if letters or not told else "D"

    def flip(self) -> str | None:
        """Return the flip that the camera program applied, "" for none; None if unknown."""
        known = (k for k in self._keywords["flip"] if k in self._header)
        value = next((self._header.readable(k) for k in known), None)
        return None if value is None else str(value).strip()

    def gain(self) -> tuple[float | None, str]:
        """Return the gain, electrons per adu, and its source; None and "" where it is unknown.

        The instrument file, which the user wrote, comes first, then EGAIN and ESO's CONAD. GAIN is
        electrons per adu at observatories, adu per electron in ESO's archive (beside CONAD), and
        the camera's setting in the programs of amateurs: its comment decides. Without a unit it is
        a guess where it is a fraction or stands beside a read noise, which no setting does, and has
        the size of a gain; else it is not understood.
        """
        if "gain" in self._detector:
            return self._detector["gain"], INSTRUMENT_FILE
        for fact in ("gain", "gain_setting"):
            keyword, value = self._first(self._keywords[fact])
            gain = None if isinstance(value, bool) else _as_number(value)
            if gain is None or gain <= 0:
                continue
            comment = parse_card(self._header.card(keyword))[1]
            if _ADU_PER_ELECTRON.search(comment):
                return 1.0 / gain, keyword
            if fact == "gain" or _ELECTRONS_PER_ADU.search(comment):
                return gain, keyword
            is_usual = _USUAL_GAINS[0] <= gain <= _USUAL_GAINS[1]
            if is_usual and (gain % 1 or self.number("read_noise") is not None):
                return gain, GUESSED_GAIN
        return None, ""

    def read_noise(self) -> float | None:
        """Return the read noise in electrons, from the header or else the instrument file."""
        told = self.number("read_noise") or self._detector.get("read_noise")
        return told if told is not None and told > 0 else None

    def exptime(self) -> float | None:
        """Return the exposure time in s; None, with a problem, where no card gives it."""
        n_before = len(self.problems)
        keyword, value = self._first(self._keywords["exptime"])
        if value is None and len(self.problems) > n_before:
            for error in self.problems[n_before:]:
                error.hint = self._ways_to_tell_exposure("")
            return None
        cards = self._header.all(keyword) if keyword else []
        if len(set(map(_as_number, cards))) > 1:
            self.problems.append(self._contradiction(keyword, cards))
            return None
        seconds = None if isinstance(value, bool) else _as_number(value)
        if seconds is not None and keyword in self._in_seconds:
            seconds *= self._unit_in_seconds(keyword)
        if seconds is not None and 0 <= seconds < 1e7 and self._is_in_seconds(keyword):
            self._compare_exposures(keyword, value, seconds)
            return seconds
        self.problems.append(self._no_exposure(keyword, value))
        return None

    def _no_exposure(self, keyword: str, value: Value) -> HeaderError:
        """Return the error for an invalid or missing exposure card, with the ways to tell it."""
        what = f"{keyword} is {value!r}, which is not a valid exposure time in seconds"
        if keyword == "":
            what = "The header has no exposure time"
        return HeaderError(
            what,
            path=self._path,
            keyword=keyword or "EXPTIME",
            value=value,
            hint=self._ways_to_tell_exposure(keyword if _as_number(value) is not None else ""),
        )

    def _ways_to_tell_exposure(self, keyword: str) -> str:
        """Return the ways to tell an exposure; a keyword with another unit may be in seconds."""
        named = keyword if keyword not in ("", "EXPTIME") else "KEYWORD"
        return (
            f"Correct EXPTIME, use --card EXPTIME=SECONDS, set its {_told_as(True, self._path)}, "
            f'name its keyword in an instrument file ([keywords] exptime = ["{named}"]), '
            "or exclude the frame."
        )

    def _compare_exposures(self, keyword: str, value: Value, seconds: float) -> None:
        """Warn of an exposure that is text, or that another card of the exposure contradicts."""
        if isinstance(value, str):
            self.warnings.append(f"{keyword} is the string {value!r}, read as a number")
        for name in self._keywords["exptime"]:
            other = _as_number(self._first([name])[1]) if name != keyword else None
            if other in (None, seconds) or self._unit_in_seconds(name) != 1.0:
                continue
            if self._is_in_seconds(name):
                told = f"{keyword} is {seconds:g}, but {name} is {other:g}"
                self.warnings.append(to_check(told))

    def _is_in_seconds(self, keyword: str) -> bool:
        """Return whether a card is in s: EXPOSURE (ms in some programs) only if so commented.

        One that the instrument file names is (or was converted).
        """
        if keyword in self._in_seconds:
            return True
        if keyword == "EXPOSURE":
            return _SECONDS.search(self._comment(keyword)) is not None
        return self._unit_in_seconds(keyword) == 1.0

    def _unit_in_seconds(self, keyword: str) -> float:
        """Return the unit that the comment of a card states, s; 1 where it states none."""
        comment = self._comment(keyword)
        return next((unit for unit, stated in _TIME_UNITS if stated.search(comment)), 1.0)

    def _comment(self, keyword: str) -> str:
        return self._header.card(keyword).partition("/")[2]

    def time(self) -> datetime | None:
        """Return the start in UTC, or None; date and time of day may be on two cards."""
        dates = list(filter(None, map(self.text_of, self._keywords["time"])))
        clocks = list(filter(None, map(self.text_of, self._keywords["clock"])))
        pairs = ((date, clock) for date in dates for clock in ("", *clocks))
        start = next(filter(None, (start_of(date, clock) for date, clock in pairs)), None)
        scale = self.text_of("TIMESYS")
        if start is not None and scale.upper() not in _UTC:
            told = f"the times are on the scale {scale!r} (TIMESYS), but are read as UTC"
            self.warnings.append(to_check(told))
        if start is None and any(clocks or not _DAY.match(date) for date in dates):
            spelt = " ".join([dates[0], *clocks[:1]])
            self.warnings.append(
                f"{spelt!r} is not a valid UTC time: the start of the exposure is unknown"
            )
        return start

    def unit(self, instrument: Instrument) -> Unit:
        """Return the unit of the pixels; adu where none is given, with a warning where unknown."""
        spelt = self.text("unit")
        unit = instrument.unit_of(spelt) if spelt else "adu"
        if unit is None:
            told = f"the unit {spelt!r} of the pixels is unknown; ADU assumed"
            self.warnings.append(to_check(told))
        return unit or "adu"

    def _plain(self, fact: str) -> str:
        """Return a value as text, numbers in shortest form: 1.0 and 1 are the same binning."""
        number = self.number(fact)
        return self.text(fact) if number is None else f"{number:g}"

    def _along(self, axis: str, fact: str) -> str:
        """Return the binning or origin along x or y; one card may give both, also as a section."""
        text = self._plain(f"{axis}_{fact}")
        if numbers := section_numbers(text):
            return f"{min(numbers[:2] if axis == 'x' else numbers[2:]) - 1}"
        pair = _PAIR.fullmatch(text)
        return text if pair is None else pair["xy".index(axis) + 1]

    def setup(self) -> tuple[tuple[str, str], ...]:
        """Return the settings that must agree between frames and calibrations, where known."""
        pairs = {
            "binning": f"{self._along('x', 'binning')}x{self._along('y', 'binning')}".strip("x"),
            "origin": f"{self._along('x', 'origin')},{self._along('y', 'origin')}".strip(","),
            "readout": self.text("readout"),
            "gain_setting": self._plain("gain_setting"),
        }
        return tuple((name, value) for name, value in pairs.items() if value)


def _told_as(is_exposure: bool, path: Path) -> str:
    """Return how a night file tells the exposure or the type of a file, as a phrase."""
    name = without_suffix(path.name)
    if is_exposure:
        return f'exposure time in a night file ([exptime] "{name}" = SECONDS)'
    return f'type in a night file ([types] TYPE = ["{name}"])'


def _listed_values(values: Sequence[Value]) -> str:
    return " and ".join(map(repr, values))


def _as_number(value: Value) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and abs(number) < float("inf") else None


# Start of an exposure from its date and time cards: `start_of`.
#
# Camera programs write date and time in one card (``2020-11-03T01:02:03Z``), or only the day there
# and the time of day in another one, in sexagesimal or decimal hours. Frames older than the year
# 2000 have ``dd/mm/yy``, which the FITS Standard (4.0, 4.4.2.1) reads as 19yy; some programs
# went on writing it, and there was no CCD before 1970, so that years below 70 are taken as 20yy.

_CLOCK_PATTERN = r"(\d\d?)[: ](\d\d?)(?:[: ](\d\d?(?:\.\d*)?))?"
_ZONE = r"(?:Z|[+-]00:?00)?$"
_DATE = re.compile(rf"(\d{{4}})-(\d\d?)-(\d\d?)(?:[T ]{_CLOCK_PATTERN})?{_ZONE}")
_OLD_DATE = re.compile(r"(\d\d)/(\d\d)/(\d\d)$")
_DAY = re.compile(rf"(\d{{4}}-\d\d?-\d\d?|{_OLD_DATE.pattern})$")
_SEXAGESIMAL = re.compile(_CLOCK_PATTERN + _ZONE)
_DECIMAL = re.compile(r"\d\d?(?:\.\d*)?$")
_JULIAN = re.compile(r"(24)?\d{5}\.\d+")
_MJD_EPOCH, _MJD_EPOCH_JD = datetime(1858, 11, 17, tzinfo=UTC), 2400000.5
_UTC = ("", "UTC", "UT", "GMT", "Z", "ZULU")
_FIRST_YEAR_OF_CCDS = 70
_YEARS = range(1900, 2200)  # others are those of a clock that was never set, or mean "unknown"


def start_of(date: str, clock: str = "") -> datetime | None:
    """Return a time in UTC, or None where date and clock together do not give one.

    Parameters
    ----------
    date : a day, with or without the time of day; or a (modified) Julian date with decimals.
    clock : time of day from another card; used only where the date has none of its own.

    Examples
    --------
    >>> start_of("2020-11-03T01:02:03Z"), start_of("2020-11-03")
    (datetime.datetime(2020, 11, 3, 1, 2, 3, tzinfo=datetime.timezone.utc), None)
    >>> start_of("03/11/98", "22.5")
    datetime.datetime(1998, 11, 3, 22, 30, tzinfo=datetime.timezone.utc)
    >>> start_of("59156.25")
    datetime.datetime(2020, 11, 3, 6, 0, tzinfo=datetime.timezone.utc)
    """
    if _JULIAN.fullmatch(date):
        days = float(date) - (_MJD_EPOCH_JD if float(date) > _MJD_EPOCH_JD else 0.0)
        start = _MJD_EPOCH + timedelta(days=days)
        return start if start.year in _YEARS else None
    day, parts = _split_date(date)
    if day is None or day[0] not in _YEARS:
        return None
    time_of_day = _since_midnight(*parts) if parts[0] else _time_of_day(clock)
    try:
        return None if time_of_day is None else datetime(*day, tzinfo=UTC) + time_of_day
    except (ValueError, OverflowError):
        return None


def _split_date(date: str) -> tuple[tuple[int, int, int] | None, tuple[str | None, ...]]:
    """Return year, month and day, and the parts of the time of day, if there is one."""
    if match := _DATE.match(date):
        return (int(match[1]), int(match[2]), int(match[3])), match.groups()[3:]
    if match := _OLD_DATE.match(date):
        year = int(match[3])
        century = 1900 if year >= _FIRST_YEAR_OF_CCDS else 2000
        return (century + year, int(match[2]), int(match[1])), (None,)
    return None, (None,)


def _time_of_day(clock: str) -> timedelta | None:
    if match := _SEXAGESIMAL.match(clock):
        return _since_midnight(*match.groups())
    if _DECIMAL.match(clock) and float(clock) <= 24:
        return timedelta(hours=float(clock))
    return None


def _since_midnight(*clock: str | None) -> timedelta | None:
    hours, minutes, seconds = (float(part or 0) for part in clock)
    if hours > 24 or minutes >= 60 or seconds >= 61:
        return None
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


# Frame type where the type card is missing, incomplete or contradicted: `find_frame_type`.
#
# Camera programs know light frames, darks, flats and biases; an arc frame (comparison lamp) is
# typed as a light frame, and only its OBJECT, its file name or a lamp card identifies it. Some type
# darks as lights. A card that declares bias, dark, flat or arc is believed. Of a light frame the
# witnesses are, in this order: the user (the night file), the pixels, the lamp card, the type
# cards, OBJECT, the file's name. The words propose and the pixels decide
# (`io.pixel_checks.confirm_types`):
#
# - Another type card that means another type, an OBJECT that is the spelling of one, a file's name
#   that consists of the word for darks or biases, and a *role* word (arc, lamp, flat, ...) are
#   believed unless the pixels show the trace of a star (of a flat they are not asked: the image of
#   a short slit is one).
# - A word for a lamp beside one for a star ("comparison star") and the symbol of an element are
#   believed only if lines fill the slit, the name of a lamp's gas also if the exposure is short.
#
# In each text a role beats an element, so that ``sci-hg-240`` is science in a wavelength setting
# named after mercury. Where no card declares a type, only OBJECT as a whole and the words of the
# file's name are used.

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_OFF_WORDS = ("", "off", "none", "no", "f", "false", "0")
_BESIDE_A_TYPE = ("frame", "frames", "master", "image", "calibration", "exposure")
_LONGEST_ABBREVIATION = 3


@dataclass(frozen=True, slots=True)
class TypeFound:
    """A frame's type and its source.

    Parameters
    ----------
    frame_type : bias, dark, flat, arc or light; None if unknown.
    known_from : source of the type, if not the type card; else "".
    doubt : another type that the pixels may decide for, or None.
    """

    frame_type: str | None
    known_from: str = ""
    doubt: TypeDoubt | None = None


def find_frame_type(
    declared: TypeCard | str,
    name: str,
    target: str,
    lamps: str,
    instrument: Instrument,
    others: Sequence[TypeCard] = (),
) -> TypeFound:
    """Return the type of a frame from its type cards, lamp card, target and file name.

    Parameters
    ----------
    declared : the type card that counts, or its value; or "".
    name : the file's name without suffix.
    target : the OBJECT card, or "".
    lamps : value of the card of the comparison lamps, or "".
    instrument : meaning of spellings and words.
    others : further type cards with a meaning.

    Examples
    --------
    >>> generic = Instrument.load("generic")
    >>> find_frame_type("Light Frame", "L2-arc-hg-10", "", "", generic).known_from
    "its name contains 'arc'"
    >>> find_frame_type("Light Frame", "L2-sci-hg-240", "", "", generic)
    TypeFound(frame_type='light', known_from='', doubt=None)
    """
    spelling = declared if isinstance(declared, str) else declared.spelling
    told = instrument.frame_type_of(spelling) if spelling else None
    if spelling and told != "light":
        return TypeFound(told)
    if lamps.strip().lower() not in _OFF_WORDS:
        return TypeFound("arc", f"the lamps {lamps.strip()!r}")
    meant = instrument.frame_type_of(target) if target else None
    if told is None:
        found = next(_roles_of(name, instrument, tuple(instrument.words)), None)
        if meant is not None:
            return TypeFound(meant, f"OBJECT is {target!r}")
        return (
            TypeFound(None)
            if found is None
            else TypeFound(found[0], f"its name contains {found[1]!r}")
        )
    for card in others:
        if (other := instrument.frame_type_of(card.spelling)) not in (None, told):
            return _unless_a_star(str(other), f"{card.keyword} is {card.spelling!r}")
    if meant not in (None, told):
        return _unless_a_star(str(meant), f"OBJECT is {target!r}")
    if unlit := _named_as_unlit(name, instrument):
        return _unless_a_star(*unlit)
    for text in (target, name):
        if (said := _said_by(text, instrument)) is not None:
            return said
    return TypeFound(told)


def _unless_a_star(frame_type: str, witness: str) -> TypeFound:
    """Return a type of a frame typed as a light, which the trace of a star contradicts."""
    doubt = TypeDoubt("light", "trace", witness) if frame_type != "flat" else None
    return TypeFound(frame_type, witness, doubt)


def _named_as_unlit(name: str, instrument: Instrument) -> tuple[str, str] | None:
    """Return bias or dark and its word where a name has no other word that means something."""
    words = [word for word in words_of(name) if len(word) > _LONGEST_ABBREVIATION]
    rest = [word for word in words if word not in _BESIDE_A_TYPE]
    for frame_type in ("bias", "dark"):
        if rest and all(word in instrument.words.get(frame_type, ()) for word in rest):
            return frame_type, f"its name contains {rest[0]!r}"
    return None


def _roles_of(text: str, instrument: Instrument, roles: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the frame types that the words of a text mean, each with the word."""
    for word in words_of(text):
        for role in roles:
            if word in instrument.words.get(role, ()):
                yield role, word


def _said_by(text: str, instrument: Instrument) -> TypeFound | None:
    """Return another type that OBJECT or a name gives a frame that is typed as a light, or None."""
    roles = list(_roles_of(text, instrument, ("flat", "arc", "light")))
    if roles and (roles[0][0] == "flat" or all(role != "light" for role, _ in roles)):
        return _unless_a_star(roles[0][0], f"its name contains {roles[0][1]!r}")
    lamps = [word for role, word in roles if role == "arc"]
    names: tuple[tuple[Collection[str], Literal["lines", "lines or short"]], ...] = (
        (lamps, "lines"),
        (instrument.gases if not roles else (), "lines or short"),
        (instrument.elements if not roles else (), "lines"),
    )
    for known, where in names:
        if word := next((word for word in words_of(text) if word in known), ""):
            return TypeFound("light", doubt=TypeDoubt("arc", where, f"its name contains {word!r}"))
    return None


def words_of(text: str) -> list[str]:
    """Return the words of a name in lower case, split at non-letters and at capitals.

    Examples
    --------
    >>> words_of("NeonCalibration-003"), words_of("L2-sci-hg-240.00000000")
    (['neon', 'calibration'], ['l', 'sci', 'hg'])
    """
    return [word.lower() for word in _WORD.findall(text)]


# Overscan and image sections of a frame: `sections_of`, `correct_section_cards`.
#
# An instrument file is believed, and a frame that its sections do not fit is refused by name.
# Headers are believed where they give both BIASSEC and TRIMSEC (or DATASEC), and both are
# consistent: they lie on the frame, apart from each other, and the overscan runs along the whole
# image. Then they are used by default, since an observatory that writes both intends it: the level
# of the electronics drifts within a night, and pixels that see no sky are not background. To a
# TRIMSEC or DATASEC alone that is smaller than the frame it is trimmed; whether what lies outside
# is overscan the pixels decide (`io.pixel_checks.find_overscan`). A BIASSEC alone is ignored. Where
# they are inconsistent (given in unbinned pixels, for example), a warning says that they were not
# used.

_SECTION_CARDS = ("BIASSEC", "TRIMSEC", "DATASEC")
_FIRST_PIXEL = (("LTV2", "CRPIX2"), ("LTV1", "CRPIX1"))

SectionsFound = tuple[Sections | None, tuple[str, ...], tuple[MismatchError, ...]]


def sections_of(image: ImageHDU, instrument: Instrument) -> SectionsFound:
    """Return the sections of a frame, warnings about the header's, and refusals.

    Parameters
    ----------
    image : its header, and the shape of its pixels.
    instrument : its `sections`; where they are empty the header's are used.
    """
    if image.header.readable(PRODUCT_CARD) is not None:
        return None, (), ()
    given = {key: instrument.sections.get(key) for key in ("overscan", "trim")}
    if any(given.values()):
        return _by_instrument(image, {key: str(text) for key, text in given.items() if text})
    texts = {card: str(image.header.readable(card) or "") for card in _SECTION_CARDS}
    kept = "TRIMSEC" if texts["TRIMSEC"].strip() else "DATASEC"
    if not texts[kept].strip():
        return None, (), ()
    overscan, trim = Section.parse(texts["BIASSEC"]), Section.parse(texts[kept])
    if not texts["BIASSEC"].strip():
        shape = image.source.shape
        is_part = trim is not None and trim.lies_in(shape) and trim.window != (1, 1, *shape)
        return Sections(None, trim) if is_part else None, (), ()
    sections, why = consistent_sections(overscan, trim, image.source.shape)
    if sections is not None:
        return sections, (), ()
    what = f"BIASSEC {texts['BIASSEC'].strip()} and {kept} {texts[kept].strip()}"
    return None, (to_check(f"{what} were not used: {why}"),), ()


def _by_instrument(image: ImageHDU, texts: dict[str, str]) -> SectionsFound:
    """Return the sections given in an instrument file, or a refusal where they do not fit."""
    parsed = {key: Section.parse(text) for key, text in texts.items()}
    overscan, kept = parsed.get("overscan"), parsed.get("trim")
    sections, why = consistent_sections(overscan, kept, image.source.shape)
    if sections is not None:
        return sections, (), ()
    told = " and ".join(f"{key} {text}" for key, text in texts.items())
    refusal = MismatchError(
        f"The instrument file gives {told}: {why}",
        path=image.source.path,
        keyword="detector",
        value=told,
        hint="Correct the instrument file, exclude the frame, or use --no-overscan.",
    )
    return None, (), (refusal,)


def first_pixel(header: Header) -> tuple[int, int]:
    """Return the raw row and column, from 1, of the first pixel of a product."""
    told = [header.readable(ltv) for ltv, _ in _FIRST_PIXEL]
    row, column = (1 - round(v) if isinstance(v, int | float) else 1 for v in told)
    return row, column


def correct_section_cards(header: Header, sections: Sections | None) -> None:
    """Correct the header of a product made from overscan-subtracted or trimmed frames.

    LTV1 and LTV2 are IRAF's: the offset from a raw pixel's number to that of the product.
    """
    if sections is None:
        return
    if sections.overscan is not None:
        header.set(OVERSCAN_CARD, str(sections.overscan), "overscan that was subtracted")
    if sections.trim is None:
        return
    header.drop([ltv for ltv, _ in _FIRST_PIXEL])
    move_pixel_cards(header, sections.trim.rows[0] - 1, sections.trim.columns[0] - 1)


def move_pixel_cards(header: Header, rows: int, columns: int) -> None:
    """Correct the cards that give positions in an image of which a part is kept.

    CRPIXi and CRPIXia of every world coordinate system, so that a pixel keeps its place in the sky
    or in the spectrum, and LTVi; the sections of the whole frame are dropped.

    Parameters
    ----------
    header : of the image before.
    rows, columns : number of those left out before the first that is kept.
    """
    header.drop(_SECTION_CARDS)
    for (ltv, reference), left_out in zip(_FIRST_PIXEL, (rows, columns), strict=True):
        for keyword in [k for k in header if re.fullmatch(f"{reference}[A-Z]?", k)]:
            at: Value = header.readable(keyword)
            if isinstance(at, int | float) and not isinstance(at, bool):
                header.set(keyword, at - left_out, "moved, as the image was trimmed")
        before = header.readable(ltv)
        known = before if isinstance(before, int | float) else 0
        header.set(ltv, known - left_out, "number here less that in the raw frame")


# Observing nights and their names: `with_observing_nights`.
#
# A night is a run of light frames with no gap of more than six hours, and is named by its evening
# date: the date of its middle less twelve hours, in UTC. The longitude of the observatory is not
# used, since its sign differs between camera programs (SITELONG is 89 53 30 in Illinois and 5.7 in
# France); with a run whose middle lies h hours from the local midnight the date is right to within
# 12 - h hours of longitude, so a whole night is named correctly anywhere, and the few frames of
# one morning in Hawaii or one evening in New Zealand may be named after the neighbouring day.
#
# Frames of other types, which may be taken by day, belong to the nearest night within twelve hours
# of them; those farther off (a library of darks, a cloudy night) form nights of their own by the
# same rule. A run that lasts a day or more, such as darks taken round the clock, is not one night:
# each of its frames has its own date less twelve hours.

TimeSpan = tuple[datetime, datetime]
_DAYTIME = timedelta(hours=6)
_HALF_A_DAY = timedelta(hours=12)
_ONE_DAY = timedelta(hours=24)


def with_observing_nights(frames: Iterable[Frame]) -> list[Frame]:
    """Return the frames in their order, each with its observing night; "" where it has no time."""
    there = list(frames)
    dated = sorted((frame for frame in there if frame.time is not None), key=lambda f: f.order)
    nights = observing_runs(frame for frame in dated if frame.frame_type == "light")
    evenings = _nights_of_runs(nights)
    others = [frame for frame in dated if frame.frame_type != "light"]
    evenings |= _nearest_nights(others, [_time_span(night) for night in nights])
    evenings |= _nights_of_runs(
        observing_runs(frame for frame in others if frame.label not in evenings)
    )
    return [replace(frame, night=evenings.get(frame.label, "")) for frame in there]


def observing_runs(frames: Iterable[Frame]) -> list[list[Frame]]:
    """Return runs of frames (in order of time), split at gaps of more than six hours."""
    runs: list[list[Frame]] = []
    for frame in frames:
        if runs and not _hours_lie_between(runs[-1][-1], frame):
            runs[-1].append(frame)
        else:
            runs.append([frame])
    return runs


def _hours_lie_between(before: Frame, frame: Frame) -> bool:
    if before.time is None or frame.time is None:
        return False
    return frame.time - before.time > _DAYTIME + _exposure_length(before)


def _exposure_length(frame: Frame) -> timedelta:
    return timedelta(seconds=frame.exptime or 0.0)


def _time_span(run: Sequence[Frame]) -> TimeSpan:
    """Return the start of the first and the end of the last exposure of a run of dated frames."""
    starts = [frame.time for frame in run if frame.time is not None]
    return starts[0], starts[-1] + _exposure_length(run[-1])


def _nights_of_runs(runs: Sequence[Sequence[Frame]]) -> dict[str, str]:
    """Return the evening date of each frame of some runs, by label."""
    spans = [_time_span(run) for run in runs]
    return {
        frame.label: _observing_night(span, frame)
        for span, run in zip(spans, runs, strict=True)
        for frame in run
    }


def _observing_night(run: TimeSpan, frame: Frame) -> str:
    """Return the evening date of a frame's night; in a run of days or more, the frame's own."""
    start, end = run if run[1] - run[0] < _ONE_DAY else _time_span([frame])
    return f"{start + (end - start) / 2 - _HALF_A_DAY:%Y-%m-%d}"


def _nearest_nights(frames: Sequence[Frame], nights: Sequence[TimeSpan]) -> dict[str, str]:
    """Return the evening date of the nearest night, for frames with one within half a day."""
    starts = [start for start, _ in nights]
    evenings = {}
    for frame in frames:
        began, ended = _time_span([frame])
        after = bisect(starts, began)
        around = nights[max(after - 1, 0) : after + 1]
        distances = [max(start - ended, began - end, timedelta()) for start, end in around]
        if distances and min(distances) <= _HALF_A_DAY:
            evenings[frame.label] = _observing_night(around[distances.index(min(distances))], frame)
    return evenings
