"""What a frame's header says, in our words: `Frame`, and `read_frames` over folders and files.

Every fact that is missing or makes no sense is kept as a problem beside the others, not raised: a
night reports all its problems at once, and a frame nobody needs may be as odd as it likes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple

from arrayred.config import Instrument
from arrayred.errors import (
    ArrayredError,
    FrameError,
    HeaderError,
    MismatchError,
    printable,
)
from arrayred.io.evenings import with_nights
from arrayred.io.facts import Facts
from arrayred.io.folders import scan_all
from arrayred.io.kinds import kind_of, words_of
from arrayred.io.remote.address import FITS_SUFFIXES
from arrayred.io.sections import OVERSCAN_CARD, PRODUCT_CARD, first_pixel, sections_of
from arrayred.io.sources import ImageHDU
from arrayred.model import Sections, Unit


class Verdict(NamedTuple):
    """What was decided about a frame's pixels, and by what: its header, a probe, or an option."""

    source: Literal["header", "probe", "option"]
    text: str


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
    gain : electrons per unit of the pixels, or None.
    calstat : letters of the corrections already applied, as the header tells them or the pixels
        prove them, or ""; see `state`.
    unit : of the pixel values.
    setup : binning, origin, readout, gain_setting, where known.
    dispersion_axis : 1 along the rows, 2 along the columns.
    optics : grating, angle, filter, slit as found.
    problems : what is missing or makes no sense.
    warnings : what is odd but could be understood.
    maybe_arc : the name of an element that proposes an arc, or "".
    flip : how the camera program flipped the image, "" being not at all; None if unknown.
    refusals : why the frame must not be used, though it can be read.
    verdicts : what was decided about its pixels.
    night : the evening of the night it belongs to, as ``2020-11-02``, or "" (`io.evenings`).
    named_master : the user says that it is a master.
    read_noise : electrons, or None.
    saturation : the lowest raw count that means nothing any more, adu; None where nobody says.
    sections : the overscan to be subtracted and the part to be kept, or None.
    keeps_bias : its level shows that only the dark current was subtracted, not the bias.
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
    maybe_arc: str = ""
    flip: str | None = None
    refusals: tuple[ArrayredError, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    night: str = ""
    named_master: bool = False
    read_noise: float | None = None
    saturation: float | None = None
    sections: Sections | None = None
    keeps_bias: bool = False

    def __repr__(self) -> str:
        """Return what tells the frame from others, in a line."""
        exposure = "? s" if self.exptime is None else f"{self.exptime:g} s"
        shows = [self.target] if self.target else []
        began = [] if self.time is None else [f"{self.time:%Y-%m-%d %H:%M}"]
        size = f"{self.shape[1]} x {self.shape[0]}"
        facts = [f"{self.frame_type or 'unknown'} {exposure}", *shows, size, *began]
        return printable(f"Frame({self.label}: {', '.join(facts)})")

    @property
    def state(self) -> str:
        """Return what is gone: "B" the bias, "D" the dark, "F" the response to light.

        Letters are not what was done, one after the other, but what is left: MaxIm's "D" alone has
        taken the bias away with the dark, unless the level shows otherwise, and "M" says nothing.
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
        """Return the row and column that the first pixel has, or had before it was trimmed."""
        return first_pixel(self.image.header) if self.is_own else (1, 1)

    @property
    def window(self) -> tuple[int, int, int, int]:
        """Return first row, first column, n_rows, n_columns of what is kept of the frame."""
        if self.sections is None or self.sections.trim is None:
            return *self.first_pixel, *self.shape
        return self.sections.trim.window

    @property
    def loses_overscan(self) -> bool:
        """Tell whether the level of the overscan is, or will be, subtracted."""
        to_do = self.sections is not None and self.sections.overscan is not None
        return to_do or (self.is_own and OVERSCAN_CARD in self.image.header)

    @property
    def is_own(self) -> bool:
        """Tell whether arrayred made this file."""
        return PRODUCT_CARD in self.image.header

    @property
    def is_product(self) -> bool:
        """Tell whether this file was made from frames, by arrayred or another program."""
        return self.is_own or self.image.header.readable("COMBINED") is True

    @property
    def is_master(self) -> bool:
        """Tell whether this is a bias, dark or flat that was made from several frames."""
        if self.frame_type not in ("bias", "dark", "flat"):
            return False
        n_combined = self.image.header.readable("NCOMBINE")
        told = "M" in self.calstat or "master" in words_of(f"{self.type_found} {self.path.name}")
        many = isinstance(n_combined, int) and n_combined > 1
        return self.named_master or self.is_product or told or many

    @property
    def order(self) -> tuple[datetime, str]:
        """Return the key of the canonical order: time, then name."""
        return self.time or datetime.max.replace(tzinfo=UTC), self.label


def exposure_tolerance(exptime: float) -> float:
    """Return by how much exposures may differ and still be one, s: 0.01 s or 0.1 %."""
    return max(0.01, 0.001 * exptime)


def require_same_unit(frames: Sequence[Frame], hint: str) -> None:
    """Raise MismatchError, with a hint of what to do, unless all pixels are in one unit."""
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
    return with_nights(sorted(frames, key=lambda frame: frame.order)), failures


def _labels(paths: Sequence[Path], root: Path) -> list[str]:
    """Return relative paths without suffix; with it where two files would share a label."""
    whole = [os.path.relpath(path, root) for path in paths]
    short = [without_suffix(name) for name in whole]
    taken = Counter([*short, *whole])
    return [name if taken[stem] > 1 else stem for name, stem in zip(whole, short, strict=True)]


def without_suffix(name: str) -> str:
    """Return the name of a FITS file without its suffix, double ones such as .fits.gz included."""
    suffix = max((s for s in FITS_SUFFIXES if name.lower().endswith(s)), key=len, default="")
    return name[: len(name) - len(suffix)]


def describe(label: str, image: ImageHDU, instrument: Instrument) -> Frame:
    """Return what a header says, in our words."""
    facts = Facts(image, instrument)
    found, unit = facts.frame_type(instrument), facts.unit(instrument)
    target = facts.text("object")
    name = os.path.basename(label)
    kind = kind_of(found, name, target, facts.text("lamps"), instrument)
    remarks = (
        [f"taken for a frame of type {kind.frame_type}: {kind.betrayed_by}"]
        if kind.betrayed_by
        else []
    )
    sections, odd, wrong = sections_of(image, instrument)
    if image.hdu > 0 and image.header.readable("INHERIT") is False:
        remarks.append("INHERIT=F: the cards of the primary header are not used")
    return Frame(
        label=label,
        image=image,
        type_found=found,
        frame_type=kind.frame_type,
        exptime=facts.exptime(),
        time=facts.time(),
        target=target,
        ccd_temp=facts.number("ccd_temp"),
        gain=facts.gain() if unit == "adu" else 1.0,
        calstat=facts.calstat(),
        unit=unit,
        setup=facts.setup(),
        dispersion_axis=2 if facts.number("dispersion_axis") == 2 else 1,
        optics=tuple(facts.text_of(keyword) for keyword in instrument.keywords["optics"]),
        problems=tuple(facts.problems),
        warnings=(*facts.warnings, *remarks, *odd),
        maybe_arc=kind.maybe_arc,
        flip=facts.flip(),
        refusals=(*facts.refusals, *wrong),
        read_noise=facts.read_noise(),
        saturation=instrument.detector.get("saturation") if unit == "adu" else None,
        sections=sections,
    )
