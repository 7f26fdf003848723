"""A night of two stars on disk, what is made of it, and the truth in plain numpy."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from arrayred.io import write_frames
from arrayred.simulate import Detector, Lamps, SimulatedNight, Star
from tests.cli.conftest import Call, Told, contents

QUIET = ("--no-figures", "-q")
DETECTOR = Detector(shape=(160, 120))
DENEB = Star("Deneb", row=85.0, lines=((40.0, 0.6, 3.0),))
VEGA = Star("Vega", flux=90.0, row=80.0, lines=())
LAMPS = Lamps(arc_lines=((60.0, 300.0, 1.5),), arc_tilt=8.0, exptime=600.0)
Pixels = NDArray[np.float64]


def two_stars(folder: Path) -> Path:
    """Write five darks, three lights of Deneb, two lamps and two lights of Vega."""
    taken(folder, "", 18, n_darks=5)
    taken(folder, "d-", 20, star=DENEB, n_lights=3)
    taken(folder, "", 21, n_arcs=2)
    taken(folder, "v-", 22, star=VEGA, n_lights=2)
    return folder


def taken(night: Path, prefix: str, hour: int, **parts: Any) -> None:
    """Add the frames of one star, its calibrations or its lamps to a night."""
    nothing = {"n_darks": 0, "n_lights": 0, "lamps": LAMPS, "detector": DETECTOR, "seed": 7}
    start = datetime(2024, 3, 9, hour, 30)
    frames = SimulatedNight(prefix=prefix, start=start, **{**nothing, **parts}).frames()
    write_frames(frames, night)


def pixels(folder: Path, pattern: str) -> list[Pixels]:
    return [fits.getdata(path).astype(np.float64) for path in sorted(folder.glob(pattern))]


def less(lights: list[Pixels], master: Pixels | float) -> Pixels:
    """Return the mean of lights, each less a master, as arrayred writes it."""
    return np.mean(np.stack(lights) - master, axis=0).astype(np.float32)


def product(target: str, name: str = "combined.fits", out: str = "out") -> Path:
    return Path(out) / "targets" / target / f"{target}_{name}"


def made(out: str = "out") -> set[str]:
    """Return the names of the targets that were published."""
    return {path.name for path in (Path(out) / "targets").glob("*")}


def reduced(arrayred: Call, *options: object, out: str = "out") -> Told:
    told = arrayred("reduce", "night", "-o", out, *QUIET, *options)
    assert told.code == 0, told.err
    return told


def noted(text: str, path: str = "mine.toml") -> tuple[str, str]:
    """Write a night file and return the option that names it."""
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(text, "utf-8")
    return "--night-file", path


def contents_of(out: str) -> dict[str, bytes]:
    """Return the bytes of every product."""
    return {name: content for name, (content, _) in contents(Path(out)).items()}
