"""One messy night with everything that real nights have, reduced without any option.

Three targets, two exposures, two binnings, three camera programs, folders in folders; lamps between
the exposures that are typed as lights; a duplicate, a frame whose dark is subtracted already, a
product among the raw frames, a text file that is called a frame.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from arrayred.io import write_frames
from arrayred.simulate import Detector, SimulatedFrame, SimulatedNight, Star
from tests.cli.conftest import Call, Told
from tests.procedure import Tables, run_procedure

QUIET = ("--no-figures", "-q")
BINNED = {"XBINNING": 2, "YBINNING": 2}
COARSE, FINE = Detector(shape=(160, 120)), Detector(shape=(320, 240))
TABLES = ("raw_extraction", "skysubtracted")


@dataclass(frozen=True)
class Belongs:
    """What belongs to one target: its lights and darks as paths, and their exposure."""

    lights: tuple[str, ...]
    darks: tuple[str, ...]
    exptime: float


VEGA = Belongs(
    tuple(f"v-light-00{i}.fit" for i in (1, 2, 3)),
    tuple(f"dark-00{i}.fit" for i in range(1, 6)),
    600.0,
)
DENEB = Belongs(
    tuple(f"nina/LIGHT/000{i}.fits" for i in (1, 2)),
    tuple(f"nina/DARK/000{i}.fits" for i in (1, 2, 3)),
    300.0,
)
CYGNI = Belongs(
    tuple(f"a/b/light000{i}.fits" for i in (1, 2)),
    tuple(f"a/b/dark000{i}.fits" for i in (1, 2, 3)),
    600.0,
)
DONE = Belongs(("nina/LIGHT/auto-dark.fits",), (), 300.0)
TARGETS = {"Vega": VEGA, "Deneb": DENEB, "59_Cyg": CYGNI, "Deneb_2": DONE}
TWICE = "v-light-002 (1).fit"


def taken(hour: int, cards: dict[str, Any], **parts: Any) -> Iterator[SimulatedFrame]:
    """Yield the frames of one camera program, with further cards."""
    nothing = {"n_darks": 0, "n_lights": 0, "detector": COARSE, "seed": 11}
    night = SimulatedNight(start=datetime(2024, 3, 9, hour, 10), **{**nothing, **parts})
    for frame in night.frames():
        yield replace(frame, cards={**frame.cards, **cards})


def write_lamps(night: Path) -> None:
    """Write lamps, taken between the lights and typed as such: betrayed by name, OBJECT, a card."""
    betrayed = {
        "neon-arc-004.fit": {"OBJECT": ""},
        "v-light-005.fit": {"OBJECT": "Neon lamp"},
        "v-light-006.fit": {"OBJECT": "Vega", "LAMPS": "Ne"},
    }
    lamps = taken(21, {**BINNED, "IMAGETYP": "Light Frame"}, n_arcs=3)
    for minute, (frame, (name, cards)) in zip(
        (21, 25, 33), zip(lamps, betrayed.items(), strict=True), strict=True
    ):
        moment = {"DATE-OBS": f"2024-03-09T20:{minute}:00", "EXPTIME": 600.0}
        write_frames([replace(frame, name=name, cards={**frame.cards, **moment, **cards})], night)


def write_subtracted(night: Path) -> None:
    """Write a light of Deneb from which the camera program has subtracted a dark."""
    with fits.open(night / "nina/LIGHT/0001.fits") as (hdu,):
        image, header = hdu.data.astype(np.float32), hdu.header.copy()
    dark = np.median(pixels(night, DENEB.darks), axis=0)
    header.update({"CALSTAT": "D", "DATE-OBS": "2024-03-09T23:30:00"})
    for keyword in ("BZERO", "DATASUM", "CHECKSUM"):
        header.remove(keyword, ignore_missing=True)
    fits.writeto(night / DONE.lights[0], (image - dark).astype(np.float32), header)


@pytest.fixture(scope="module")
def _messy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    night = tmp_path_factory.mktemp("messy") / "night"
    lines = {"row": 85.0, "lines": ((40.0, 0.6, 3.0),)}
    write_frames(taken(17, BINNED, n_darks=5), night)
    write_frames(taken(20, BINNED, n_lights=3, star=Star("Vega", **lines), prefix="v-"), night)
    nina = {"dialect": "nina", "exptime": 300.0, "star": Star("Deneb", flux=80.0, **lines)}
    write_frames(taken(22, BINNED, n_darks=3, n_lights=2, **nina), night / "nina")
    cygni: dict[str, Any] = {"dialect": "observatory", "star": Star("59 Cyg", row=150.0)}
    fine = {"XBINNING": 1, "YBINNING": 1}
    write_frames(taken(18, fine, n_darks=3, n_lights=2, detector=FINE, **cygni), night / "a" / "b")
    write_lamps(night)
    write_subtracted(night)
    shutil.copy(night / "v-light-002.fit", night / TWICE)
    (night / "notes.fit").write_text("windy\n")
    return night


@pytest.fixture
def messy(_messy: Path, tmp_path: Path, arrayred: Call) -> Path:
    """Return the night, products of an earlier run among its frames."""
    night = Path(shutil.copytree(_messy, tmp_path / "night"))
    clean(night, "Vega", arrayred)
    for path in Path("alone_Vega").rglob("*.fits"):
        shutil.copy(path, night / "nina")
    return night


def pixels(night: Path, names: tuple[str, ...]) -> list[NDArray[np.float64]]:
    return [fits.getdata(night / name).astype(np.float64) for name in names]


def clean(night: Path, target: str, arrayred: Call) -> Told:
    """Reduce a target alone, with nothing in the folder that is not its own."""
    folder = Path(f"only_{target}")
    for name in (*TARGETS[target].lights, *TARGETS[target].darks):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(night / name, folder / name)
    told = arrayred("reduce", folder, "-o", f"alone_{target}", *QUIET)
    assert told.code == 0, told.err
    return told


def procedure(night: Path, target: str, twice: tuple[str, ...] = ()) -> Tables:
    """Run the published procedure on the frames of a target alone."""
    own = TARGETS[target]
    lights = pixels(night, tuple(sorted((*own.lights, *twice))))
    darks = pixels(night, own.darks) or [np.zeros_like(lights[0])]
    return run_procedure({own.exptime: darks}, [(own.exptime, image) for image in lights])


def table(out: str, target: str, name: str) -> str:
    (path,) = Path(out).glob(f"targets/*/{target}_{name}.txt")
    return path.read_text()


def test_the_published_tables_are_those_of_each_targets_own_frames(
    messy: Path, arrayred: Call
) -> None:
    told = arrayred("reduce", messy, "-o", "out", *QUIET, "--reference")
    assert told == (0, "", "")
    assert {path.name for path in Path("out/targets").iterdir()} == {*TARGETS}
    for target in TARGETS:
        expected = procedure(messy, target, (TWICE,) if target == "Vega" else ())
        image = fits.getdata(f"out/targets/{target}/{target}_combined.fits")
        assert np.array_equal(image, expected.data), target
        assert table("out", target, "raw_extraction") == expected.raw_extraction
        assert table("out", target, "skysubtracted") == expected.skysubtracted


def test_a_target_is_what_it_would_be_alone_and_what_takes_no_part_is_said_with_the_reason(
    messy: Path, arrayred: Call
) -> None:
    told = arrayred("reduce", messy, "-o", "out", "--no-figures")
    assert told.code == 0, told.err
    for target in ("Deneb", "59_Cyg"):
        clean(messy, target, arrayred)
    for target, name in itertools.product(("Vega", "Deneb", "59_Cyg"), TABLES):
        assert table("out", target, name) == table(f"alone_{target}", target, name), target
    start = "  not used             "
    out = [line.removeprefix(start) for line in told.out.splitlines() if line.startswith(start)]
    reasons = {
        name: line.rpartition(": ")[2]
        for line in out
        for name in line.partition(": ")[0].split(", ")
    }
    assert reasons.pop("v-light-002 (1)") == "duplicate of v-light-002"
    assert {reasons.pop(f"nina/{n}") for n in ("master_dark_600s", "Vega_combined")} == {
        "a combined image, not a raw frame"
    }
    arcs = {"neon-arc-004", "v-light-005", "v-light-006"}
    lamps = "".join(path.read_text("utf-8") for path in Path("out").rglob("*_arc.ecsv"))
    used = {name for name in arcs if f'"{name}"' in lamps}
    assert used
    assert {reasons.pop(name) for name in arcs - used} <= {"of type arc, not used"}
    assert not used & reasons.keys()
    assert "notes.fit" in told.err
    assert all(name in told.err for name in arcs)


def test_inspect_lists_each_frame_with_its_true_type(messy: Path, arrayred: Call) -> None:
    told = arrayred("inspect", messy, "--format", "csv")
    kinds = {line.split(",")[0]: line.split(",")[2] for line in told.out.splitlines()[1:]}
    raw = {name: kind for name, kind in kinds.items() if not name.startswith("nina/Vega")}
    lights = {name for name, kind in raw.items() if kind == "light"}
    assert lights == {name for own in TARGETS.values() for name in own.lights} | {TWICE}
    darks = {name for own in TARGETS.values() for name in own.darks}
    assert {name for name, kind in raw.items() if kind == "dark"} == darks
