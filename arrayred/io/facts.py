"""Facts of a header under whatever keywords they stand, and what is wrong with them.

A fact that is missing or makes no sense is kept as a problem, not raised.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime

from arrayred.config import Instrument
from arrayred.errors import ArrayredError, HeaderError
from arrayred.io.card import Value
from arrayred.io.cards import Header
from arrayred.io.sources import ImageHDU
from arrayred.io.times import start_of
from arrayred.model import Unit

_SECONDS = re.compile(r"(?<!')\bs(ec|econds?)?\b", re.IGNORECASE)
_AUTO_DARK = re.compile(r"auto-?dark", re.IGNORECASE)
_MILLISECONDS = re.compile(r"\bm(illi)?s(ec|econds?)?\b", re.IGNORECASE)
_SETTINGS = ("x_binning", "y_binning", "x_origin", "y_origin", "gain_setting")


class Facts:
    """Looks facts up under their keywords and collects what is wrong with them."""

    def __init__(self, image: ImageHDU, instrument: Instrument) -> None:
        self._header: Header = image.header
        self._path = image.source.path
        self._keywords = instrument.keywords
        self._detector = instrument.detector
        self.problems: list[ArrayredError] = []
        self.refusals: list[ArrayredError] = []
        self.warnings: list[str] = []
        if odd := self._header.odd_keywords():
            self.warnings.append(f"characters that FITS does not allow, in {', '.join(odd)}")

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
        """Return a fact as text, stripped, or ""."""
        return self._text(self._keywords[fact])

    def text_of(self, keyword: str) -> str:
        """Return one card as text, stripped, or ""."""
        return self._text([keyword])

    def _text(self, keywords: Iterable[str]) -> str:
        value = self._first(keywords)[1]
        return "" if value is None else str(value).strip()

    def number(self, fact: str) -> float | None:
        """Return a fact as a number, or None; a number written as text counts."""
        value = self._first(self._keywords[fact])[1]
        return None if isinstance(value, bool) else _as_number(value)

    def frame_type(self, instrument: Instrument) -> str:
        """Return the frame type as spelt; a refusal where two cards mean different ones."""
        keyword, value = self._first(self._keywords["frame_type"])
        cards = self._header.all(keyword) if keyword else []
        spelt = ["" if found is None else str(found) for found in cards]
        if len({instrument.frame_type_of(found) or found for found in spelt}) > 1:
            self.refusals.append(self._contradiction(keyword, spelt))
        return "" if value is None else str(value).strip()

    def _contradiction(self, keyword: str, values: Sequence[Value]) -> HeaderError:
        return HeaderError(
            f"{keyword} stands {len(values)} times in the header, and says {_listed(values)}",
            path=self._path,
            keyword=keyword,
            value=tuple(values),
            hint="Leave one of the cards, or exclude the frame.",
        )

    def calstat(self) -> str:
        """Return the letters of the corrections applied; a program may only say so in HISTORY."""
        found = self.text("calstat").upper()
        letters = found if set(found) <= set("BDFM") else ""
        told = any(_AUTO_DARK.search(line) for line in self._header.lines("HISTORY"))
        return letters if letters or not told else "D"

    def flip(self) -> str | None:
        """Return how the camera program flipped the image, "" being not at all; None if unknown."""
        known = (k for k in self._keywords["flip"] if k in self._header)
        value = next((self._header.readable(k) for k in known), None)
        return None if value is None else str(value).strip()

    def gain(self) -> float | None:
        """Return electrons per adu: where GAIN alone stands it may be the camera's setting."""
        told = self.number("gain") or self._detector.get("gain")
        if told is None and self.number("read_noise") is not None:
            told = self.number("gain_setting")
        return told if told is not None and told > 0 else None

    def read_noise(self) -> float | None:
        """Return the read noise in electrons, from the header or else the instrument file."""
        told = self.number("read_noise") or self._detector.get("read_noise")
        return told if told is not None and told > 0 else None

    def exptime(self) -> float | None:
        """Return the exposure in s; None, with a problem, where no card gives it."""
        n_before = len(self.problems)
        keyword, value = self._first(self._keywords["exptime"])
        if value is None and len(self.problems) > n_before:
            return None
        cards = self._header.all(keyword) if keyword else []
        if len(set(map(_as_number, cards))) > 1:
            self.problems.append(self._contradiction(keyword, cards))
            return None
        seconds = None if isinstance(value, bool) else _as_number(value)
        if seconds is not None and 0 <= seconds < 1e7 and self._is_in_seconds(keyword):
            self._compare_exposures(keyword, value, seconds)
            return seconds
        self.problems.append(self._no_exposure(keyword, value))
        return None

    def _no_exposure(self, keyword: str, value: object) -> HeaderError:
        """Return the error of a card that is no exposure, or of none at all."""
        if keyword == "":
            what = "No card gives the exposure"
            hint = "Mend EXPTIME in the header, name its card in an instrument file"
        else:
            what = f"{keyword} is {value!r}, which is no exposure in seconds"
            hint = "Mend EXPTIME in the header"
        return HeaderError(
            what,
            path=self._path,
            keyword=keyword or "EXPTIME",
            value=value,
            hint=f"{hint}, or exclude the frame.",
        )

    def _compare_exposures(self, keyword: str, value: Value, seconds: float) -> None:
        """Warn of an exposure that is text, or that another card contradicts."""
        if isinstance(value, str):
            self.warnings.append(f"{keyword} is the text {value!r}, taken as a number")
        other = _as_number(self._first(["EXPOSURE"])[1]) if keyword != "EXPOSURE" else None
        if other is not None and self._is_in_seconds("EXPOSURE") and other != seconds:
            self.warnings.append(f"{keyword} is {seconds:g}, but EXPOSURE is {other:g}")

    def _is_in_seconds(self, keyword: str) -> bool:
        """EXPOSURE is milliseconds with some programs: it counts only where its comment says s."""
        comment = self._header.card(keyword).partition("/")[2]
        if keyword == "EXPOSURE":
            return _SECONDS.search(comment) is not None
        return _MILLISECONDS.search(comment) is None

    def time(self) -> datetime | None:
        """Return the start in UTC, date and clock possibly on two cards; both are needed."""
        dates = filter(None, map(self.text_of, self._keywords["time"]))
        starts = (start_of(date) or start_of(date, self.text("clock")) for date in dates)
        return next(filter(None, starts), None)

    def unit(self, instrument: Instrument) -> Unit:
        """Return the unit of the pixels; adu, with a warning, where it is unknown."""
        spelt = self.text("unit")
        unit = instrument.unit_of(spelt) if spelt else "adu"
        if unit is None:
            self.warnings.append(f"the unit {spelt!r} of the pixels is unknown, taken for adu")
        return unit or "adu"

    def _plain(self, fact: str) -> str:
        """Return a fact as text, numbers in their shortest form: 1.0 and 1 are the same binning."""
        number = self.number(fact)
        return self.text(fact) if number is None else f"{number:g}"

    def setup(self) -> tuple[tuple[str, str], ...]:
        """Return what must agree between frames and their calibrations, where known."""
        plain = {fact: self._plain(fact) for fact in _SETTINGS}
        pairs = {
            "binning": f"{plain['x_binning']}x{plain['y_binning']}".strip("x"),
            "origin": f"{plain['x_origin']},{plain['y_origin']}".strip(","),
            "readout": self.text("readout"),
            "gain_setting": plain["gain_setting"],
        }
        return tuple((name, value) for name, value in pairs.items() if value)


def _listed(values: Sequence[Value]) -> str:
    return " and ".join(map(repr, values))


def _as_number(value: Value) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and abs(number) < float("inf") else None
