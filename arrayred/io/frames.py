"""What a frame's header says, in our words: `Frame`, and `read_frames` over folders and files.

Every fact that is missing or makes no sense is kept as a problem beside the others, not raised: a
night reports all its problems at once, and a frame nobody needs may be as odd as it likes.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from arrayred.config import Instrument
from arrayred.errors import ArrayredError, FrameError, HeaderError, InputError
from arrayred.io.card import Value
from arrayred.io.cards import Header
from arrayred.io.headers import FITS_SUFFIXES, ImageHDU, is_fits_name, scan_all
from arrayred.io.kinds import kind_of

PRODUCT_CARD = "ARVERSN"
_SECONDS = re.compile(r"(?<!')\bs(ec|econds?)?\b", re.IGNORECASE)
_AUTO_DARK = re.compile(r"auto-?dark", re.IGNORECASE)
_MILLISECONDS = re.compile(r"\bm(illi)?s(ec|econds?)?\b", re.IGNORECASE)
_DATE = re.compile(
    r"(\d{4})-(\d\d?)-(\d\d?)(?:T(\d\d?):(\d\d?)(?::(\d\d?(?:\.\d*)?))?)?(?:Z|[+-]00:?00)?$"
)
_SETTINGS = ("x_binning", "y_binning", "x_origin", "y_origin", "gain_setting")
_CLOCK = re.compile(r"(\d\d?):(\d\d?)(?::(\d\d?(?:\.\d*)?))?$")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame: its image, and what its header says in our words.

    Parameters
    ----------
    label : path relative to the opened folder, without suffix; unique among the frames read.
    image : where the pixels lie, and the header.
    type_found : the frame type as spelt in the header, or "".
    frame_type : bias, dark, flat, arc or light; None where the spelling is unknown.
    exptime : exposure in s; None where no card gives it.
    time : start of the exposure, UTC; None where no card gives it.
    target : the OBJECT card, stripped, or "".
    ccd_temp : temperature of the detector, deg C, or None.
    gain : electrons per adu, or None.
    calstat : letters of the corrections already applied, or "".
    setup : binning, origin, readout, gain_setting, where known.
    dispersion_axis : 1 along the rows, 2 along the columns.
    optics : grating, angle, filter, slit as found.
    problems : what is missing or makes no sense.
    warnings : what is odd but could be understood.
    maybe_arc : the name of an element that proposes an arc, or "".
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
    setup: tuple[tuple[str, str], ...]
    dispersion_axis: int
    optics: tuple[str, ...]
    problems: tuple[ArrayredError, ...]
    warnings: tuple[str, ...] = ()
    maybe_arc: str = ""

    @property
    def path(self) -> Path:
        """Return the frame's file."""
        return self.image.source.path

    @property
    def shape(self) -> tuple[int, int]:
        """Return (n_rows, n_columns)."""
        return self.image.source.shape

    @property
    def is_product(self) -> bool:
        """Tell whether this file was made from frames, by arrayred or another program."""
        header = self.image.header
        return PRODUCT_CARD in header or header.readable("COMBINED") is True

    @property
    def order(self) -> tuple[datetime, str]:
        """Return the key of the canonical order: time, then name."""
        return self.time or datetime.max.replace(tzinfo=UTC), self.label


def list_files(folder: Path, pattern: str = "*", depth: int = 3) -> list[Path]:
    """Return the FITS files of a folder and its subfolders, sorted; links to folders not followed.

    Raises
    ------
    InputError
        The folder does not exist, is no folder, or cannot be read.
    """
    try:
        found = sorted(_walk(folder, depth))
    except OSError as error:
        raise InputError(
            f"The folder cannot be read ({error.strerror})",
            path=error.filename or folder,
            hint="Name the folder of the raw frames.",
        ) from error
    return [path for path in found if is_fits_name(path.name) and path.match(pattern)]


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if depth > 1 and not entry.name.startswith("."):
                    yield from _walk(Path(entry.path), depth - 1)
            elif not entry.name.startswith("."):
                yield Path(entry.path)


def read_frames(
    paths: Sequence[Path],
    instrument: Instrument,
    root: Path | None = None,
    advance: Callable[[int], None] | None = None,
) -> tuple[list[Frame], list[FrameError | HeaderError]]:
    """Read the headers of files: the frames in canonical order, and what could not be read.

    Parameters
    ----------
    paths : the files.
    instrument : what headers mean.
    root : the folder that labels are relative to; by default the files' common one.
    advance : is called after each file with the number of files left.
    """
    root = root or Path(os.path.commonpath([path.parent.absolute() for path in paths]))
    frames, failures = [], []
    for left, label, image in zip(
        range(len(paths) - 1, -1, -1), _labels(paths, root), scan_all(paths), strict=True
    ):
        if isinstance(image, ImageHDU):
            frames.append(describe(label, image, instrument))
        else:
            failures.append(image)
        if advance is not None:
            advance(left)
    return sorted(frames, key=lambda frame: frame.order), failures


def _labels(paths: Sequence[Path], root: Path) -> list[str]:
    """Return relative paths without suffix; with it where two files would share a label."""
    whole = [os.path.relpath(path, root) for path in paths]
    short = [_stem(name) for name in whole]
    taken = Counter([*short, *whole])
    return [name if taken[stem] > 1 else stem for name, stem in zip(whole, short, strict=True)]


def _stem(name: str) -> str:
    suffix = max((s for s in FITS_SUFFIXES if name.lower().endswith(s)), key=len, default="")
    return name[: len(name) - len(suffix)]


def describe(label: str, image: ImageHDU, instrument: Instrument) -> Frame:
    """Return what a header says, in our words."""
    facts = _Facts(image, instrument)
    found = facts.text("frame_type")
    target = facts.text("object")
    name = os.path.basename(label)
    kind = kind_of(found, name, target, facts.text("lamps"), instrument)
    betrayed = f"taken for a frame of type {kind.frame_type}: {kind.betrayed_by}"
    return Frame(
        label=label,
        image=image,
        type_found=found,
        frame_type=kind.frame_type,
        exptime=facts.exptime(),
        time=facts.time(),
        target=target,
        ccd_temp=facts.number("ccd_temp"),
        gain=facts.gain(),
        calstat=facts.calstat(),
        setup=facts.setup(),
        dispersion_axis=2 if facts.number("dispersion_axis") == 2 else 1,
        optics=tuple(facts.text_of(keyword) for keyword in instrument.keywords["optics"]),
        problems=tuple(facts.problems),
        warnings=(*facts.warnings, *([betrayed] if kind.betrayed_by else [])),
        maybe_arc=kind.maybe_arc,
    )


class _Facts:
    """Looks facts up under their keywords and collects what is wrong with them."""

    def __init__(self, image: ImageHDU, instrument: Instrument) -> None:
        self._header: Header = image.header
        self._path = image.source.path
        self._keywords = instrument.keywords
        self.problems: list[ArrayredError] = []
        self.warnings: list[str] = []

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
        value = self._first(self._keywords[fact])[1]
        return "" if value is None else str(value).strip()

    def text_of(self, keyword: str) -> str:
        """Return one card as text, stripped, or ""."""
        value = self._first([keyword])[1]
        return "" if value is None else str(value).strip()

    def number(self, fact: str) -> float | None:
        """Return a fact as a number, or None; a number written as text counts."""
        value = self._first(self._keywords[fact])[1]
        return None if isinstance(value, bool) else _as_number(value)

    def calstat(self) -> str:
        """Return the letters of the corrections applied; a program may only say so in HISTORY."""
        found = self.text("calstat").upper()
        letters = found if set(found) <= set("BDFM") else ""
        told = any(_AUTO_DARK.search(line) for line in self._header.lines("HISTORY"))
        return letters if letters or not told else "D"

    def gain(self) -> float | None:
        """Return electrons per adu: where GAIN alone stands it may be the camera's setting."""
        gain = self.number("gain")
        if gain is None and self.number("read_noise") is not None:
            gain = self.number("gain_setting")
        return gain if gain is not None and gain > 0 else None

    def exptime(self) -> float | None:
        """Return the exposure in s; None, with a problem, where no card gives it."""
        n_before = len(self.problems)
        keyword, value = self._first(self._keywords["exptime"])
        if value is None and len(self.problems) > n_before:
            return None
        seconds = None if isinstance(value, bool) else _as_number(value)
        if seconds is not None and 0 <= seconds < 1e7 and self._is_in_seconds(keyword):
            self._compare_exposures(keyword, value, seconds)
            return seconds
        what = (
            f"{keyword} is {value!r}, which is no exposure in seconds"
            if keyword
            else "No card gives the exposure"
        )
        self.problems.append(
            HeaderError(
                what,
                path=self._path,
                keyword=keyword or "EXPTIME",
                value=value,
                hint="Mend EXPTIME in the header, or exclude the frame.",
            )
        )
        return None

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
        match = _DATE.match(self.text("time"))
        if match is None:
            return None
        clock = match.groups()[3:]
        if clock[0] is None and (other := _CLOCK.match(self.text("clock"))):
            clock = other.groups()
        if clock[0] is None:
            return None
        hours, minutes, seconds = (float(part or 0) for part in clock)
        if hours > 24 or minutes >= 60 or seconds >= 61:
            return None
        try:
            day = datetime(int(match[1]), int(match[2]), int(match[3]), tzinfo=UTC)
            return day + timedelta(hours=hours, minutes=minutes, seconds=seconds)
        except (ValueError, OverflowError):
            return None

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


def _as_number(value: Value) -> float | None:
    try:
        number = float(value) if value is not None else None
    except ValueError:
        return None
    return number if number is not None and abs(number) < float("inf") else None
