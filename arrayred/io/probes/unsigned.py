"""Unsigned counts that a camera program wrote as if they were signed: recognised and unwrapped.

Such a file says BITPIX=16 (or 32), BZERO=0, and its brightest pixels are negative: -1 stands for
65535. The verdict needs pixels, so a few rows of the camera's raw darks and biases are probed: a
camera adds an offset so that noise never reaches zero. If their level B exceeds ten times their
noise s, no true count lies between 0 and B - 10 s, and every negative value of the camera's raw
frames is a wrapped one. On the night that taught this no pixel lies between 0 and B - 6 s.

A frame with many pixels in that gap has lost its bias, whatever its header says: if its level is
near zero it is signed data and left alone. Frames that were already corrected (CALSTAT), floats and
frames with their own BZERO are never touched. Where nothing decides and a frame does hold negative
pixels, it is refused by name: `unsigned="wrapped"` or `"as-declared"` says what they are.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Literal

from arrayred.config import Instrument
from arrayred.errors import FrameError, HeaderError, InputError
from arrayred.io.folders import find_image, folders_in, list_files
from arrayred.io.frames import Frame, Verdict, describe
from arrayred.io.kinds import words_of
from arrayred.io.probes.sample import Sample, affordable, holds_negative, sample_of
from arrayred.model import Unsigned

_JUDGES = ("bias", "dark")
_PROBED_FRAMES = 3
_WORDS = 3
"""A longer name of a folder may speak of darks without holding them."""
_STRAY = 0.01
"""The share of pixels that dead columns may leave in the gap below a raw frame's level."""
_PROVEN = "hold unsigned counts written as signed"


@dataclass(frozen=True)
class _Ruling:
    """What the judges of a camera say.

    Parameters
    ----------
    counts : "wrapped", "signed", or "undecided".
    why : what they showed.
    floor : below which no raw pixel lies, adu, where counts are wrapped.
    """

    counts: Literal["wrapped", "signed", "undecided"]
    why: str
    floor: float = 0.0


def unwrap(
    frames: Sequence[Frame], instrument: Instrument, unsigned: Unsigned = "auto"
) -> list[Frame]:
    """Return the frames, those with wrapped counts marked to be read as unsigned.

    Parameters
    ----------
    frames : raw frames of any cameras. Each camera is judged by its own raw biases and darks, else
        by all of its BITPIX; where none is among the frames, by those in the same folders, else
        in folders beside them that are named after biases or darks.
    instrument : what headers mean.
    unsigned : "auto" probes; "wrapped" takes every raw frame with BZERO 0 for unsigned;
        "as-declared" takes every file by its word.

    Returns
    -------
    frames : those about which nothing decides, and which do hold negative pixels, with a refusal.
    """
    if unsigned == "as-declared":
        return list(frames)
    if unsigned == "wrapped":
        told = Verdict("option", "are taken for unsigned counts written as signed")
        return [_as_unsigned(f, told) if _may_be_wrapped(f) else f for f in frames]
    doubtful = [frame for frame in frames if _may_be_wrapped(frame)]
    judges = [*_judges_among(doubtful)]
    known = {_bitpix(judge) for judge in judges}
    judges += _judges_beside([f for f in doubtful if _bitpix(f) not in known], instrument)
    rulings = {camera: _ruling_on(camera, judges) for camera in set(map(_camera_of, doubtful))}
    probed = {frame.label for frame in affordable(doubtful)}
    return [
        _judged(f, rulings[_camera_of(f)], probe=f.label in probed) if _may_be_wrapped(f) else f
        for f in frames
    ]


def _camera_of(frame: Frame) -> tuple[int, str]:
    return _bitpix(frame), str(frame.image.header.readable("INSTRUME") or "").strip()


def _bitpix(frame: Frame) -> int:
    return frame.image.source.pixels.bitpix


def _may_be_wrapped(frame: Frame) -> bool:
    pixels = frame.image.source.pixels
    as_stored = pixels.bitpix in (16, 32) and (pixels.bzero, pixels.bscale) == (0.0, 1.0)
    return as_stored and not frame.calstat and not frame.is_product


def _judges_among(frames: Iterable[Frame]) -> Iterator[Frame]:
    return affordable(f for f in frames if _may_be_wrapped(f) and f.frame_type in _JUDGES)


def _judges_beside(frames: Iterable[Frame], instrument: Instrument) -> list[Frame]:
    """Return the first raw biases and darks of each BITPIX in the frames' folders, or beside."""
    wanted: dict[int, set[Path]] = defaultdict(set)
    for frame in frames:
        wanted[_bitpix(frame)].add(frame.path.parent)
    judges: list[Frame] = []
    for bitpix, folders in wanted.items():
        beside = (other for folder in sorted(folders) for other in _siblings(folder, instrument))
        places = [f for where in (sorted(folders), beside) for f in where]
        found = (j for place in places for j in _judges_in(place, instrument))
        judges += islice((j for j in found if _bitpix(j) == bitpix), _PROBED_FRAMES)
    return judges


def _siblings(folder: Path, instrument: Instrument) -> list[Path]:
    """Return the folders beside one whose names' words mean bias or dark."""
    meant = {
        word for kind in _JUDGES for word in (*instrument.types[kind], *instrument.words[kind])
    }
    with contextlib.suppress(InputError, OSError):
        others = sorted(folders_in(folder.absolute().parent))
        return [p for p in others if p.name != folder.name and _is_named_after(p.name, meant)]
    return []


def _is_named_after(name: str, meant: set[str]) -> bool:
    words = words_of(name)
    return len(words) <= _WORDS and not meant.isdisjoint(words)


def _judges_in(folder: Path, instrument: Instrument) -> Iterator[Frame]:
    """Yield the raw biases and darks of a folder."""
    with contextlib.suppress(InputError, OSError):
        for path in list_files(folder, depth=1):
            with contextlib.suppress(FrameError, HeaderError):
                yield from _judges_among([describe(path.name, find_image(path), instrument)])


def _ruling_on(camera: tuple[int, str], judges: Sequence[Frame]) -> _Ruling:
    """Return what a camera's own judges say; where it has none, all of its BITPIX."""
    own = [judge for judge in judges if _camera_of(judge) == camera]
    others = [judge for judge in judges if _bitpix(judge) == camera[0]]
    samples = ((judge.path.name, sample_of(judge)) for judge in own or others)
    told = list(islice(((name, s) for name, s in samples if s is not None), _PROBED_FRAMES))
    if not told:
        return _Ruling("undecided", "there is no raw dark or bias to judge by")
    why = "; ".join(f"{name}: {sample}" for name, sample in told)
    if all(sample.is_far_from_zero for _, sample in told):
        floor = min(sample.level - 10.0 * sample.noise for _, sample in told)
        return _Ruling("wrapped", f"{told[0][0]}: {told[0][1]}", floor)
    levels = [sample for _, sample in told]
    if any(s.straddles_zero for s in levels) and not any(s.is_far_from_zero for s in levels):
        return _Ruling("signed", why)
    return _Ruling("undecided", f"the raw darks or biases do not decide ({why})")


def _judged(frame: Frame, ruling: _Ruling, *, probe: bool) -> Frame:
    """Return a frame marked, left alone, or refused, as its camera's judges and pixels say."""
    if ruling.counts == "signed":
        return frame
    shelf = frame.image.source.shelf
    if ruling.counts == "undecided" and shelf is not None and shelf.proof:
        return _as_unsigned(frame, Verdict("probe", shelf.proof))
    sample = sample_of(frame) if probe else None
    if ruling.counts == "wrapped":
        stray = 0.0 if sample is None else sample.share(0.0, ruling.floor)
        if stray <= _STRAY:
            return _as_unsigned(frame, Verdict("probe", f"{_PROVEN} ({ruling.why})"))
        why = f"{stray:.0%} of the pixels lie below what a raw frame can have ({ruling.why})"
        is_signed = sample is not None and abs(sample.level) < ruling.floor / 2
    else:
        why, is_signed = ruling.why, sample is not None and _is_noise_around_zero(sample)
    if is_signed or not holds_negative(frame):
        return frame
    return replace(frame, refusals=(*frame.refusals, _undecided(frame, why)))


def _is_noise_around_zero(sample: Sample) -> bool:
    return abs(sample.level) <= 3.0 * sample.noise


def _undecided(frame: Frame, why: str) -> FrameError:
    return FrameError(
        "Negative pixels may be unsigned counts written as signed, or signed data, and "
        f"nothing decides: {why}",
        path=frame.path,
        keyword="BZERO",
        value=0.0,
        hint="Add raw darks or biases of the camera, or give --unsigned wrapped or as-declared.",
    )


def _as_unsigned(frame: Frame, verdict: Verdict) -> Frame:
    source = frame.image.source
    image = replace(
        frame.image, source=replace(source, pixels=replace(source.pixels, wrapped=True))
    )
    return replace(frame, image=image, verdicts=(*frame.verdicts, verdict))
