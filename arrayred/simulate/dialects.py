"""How camera programs name frames and spell headers: MaxIm DL, NINA, an observatory."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from arrayred.model import FrameType

Card = str | float | int
Dialect = Literal["maxim", "nina", "observatory"]


@dataclass(frozen=True)
class Exposure:
    """Which frame of a night this is.

    Parameters
    ----------
    frame_type, number : its type, and its number among those, from 1.
    start : when it began, UTC.
    hours : since the night began.
    exptime : exposure, s.
    shows : what its OBJECT card says.
    """

    frame_type: FrameType
    number: int
    start: datetime
    hours: float
    exptime: float
    shows: str


def name_of(exposure: Exposure, dialect: Dialect, prefix: str) -> str:
    """Return a frame's file name."""
    kind, number = exposure.frame_type, exposure.number
    if dialect == "nina":
        return f"{kind.upper()}/{prefix}{number:04}.fits"
    if dialect == "observatory":
        return f"{prefix}{kind}{number:04}.fits"
    return f"{prefix}{kind}-{number:03}.fit"


def cards_of(
    exposure: Exposure, dialect: Dialect, gain: float, read_noise: float
) -> dict[str, Card]:
    """Return a frame's cards.

    Parameters
    ----------
    exposure : the frame.
    dialect : of the camera program.
    gain : electrons per adu.
    read_noise : electrons.
    """
    facts: dict[str, Card] = {
        "EXPTIME": float(exposure.exptime),
        "OBJECT": exposure.shows,
        "INSTRUME": "Simulated camera",
    }
    if dialect == "observatory":
        return {
            "OBSTYPE": {"bias": "zero", "light": "object"}.get(
                exposure.frame_type, exposure.frame_type
            ),
            "DATE-OBS": f"{exposure.start:%Y-%m-%d}",
            "UTSTART": f"{exposure.start:%H:%M:%S}",
            "GAIN": float(gain),
            "RDNOISE": float(read_noise),
            **facts,
        }
    facts |= {
        "DATE-OBS": exposure.start.isoformat(timespec="milliseconds"),
        "CCD-TEMP": -20.0 + 0.1 * (exposure.number % 3),
        "XBINNING": 1,
        "YBINNING": 1,
        "EGAIN": float(gain),
    }
    if dialect == "nina":
        return {"IMAGETYP": exposure.frame_type.upper(), "GAIN": 100, "OFFSET": 50, **facts}
    is_flat = exposure.frame_type == "flat"
    spelling = "Flat Field" if is_flat else f"{exposure.frame_type.capitalize()} Frame"
    return {"IMAGETYP": spelling, **facts}
