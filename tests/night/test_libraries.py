"""Calibrations from elsewhere serve where a night has none of its own, and change nothing else."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import arrayred as ar
from arrayred.config import NightFile
from arrayred.night import make_plan, open_night
from tests.batch.disturbed import write_night

START = datetime(2024, 3, 1, 20)


@pytest.fixture
def night(tmp_path: Path) -> Path:
    return write_night(tmp_path / "night")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Return darks of the same evening, exposure and shape, from a camera of another level."""
    folder = tmp_path / "library"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i in range(7):
        (source,) = sorted((tmp_path / "night").glob("dark*"))[:1]
        header = fits.getheader(source)
        header["DATE-OBS"] = (START + timedelta(minutes=i)).isoformat()
        header["INSTRUME"] = "another camera"
        pixels = rng.normal(300, 4, (120, 60)).round().astype(np.uint16)
        fits.writeto(folder / f"a{i}.fits", pixels, header)
    return folder


def spectra(tree: object) -> np.ndarray:
    return np.asarray(tree["/targets/Vega/spectrum"]["flux"].values)  # type: ignore[index]


def test_darks_of_another_camera_change_nothing_of_a_complete_night(
    night: Path, library: Path
) -> None:
    alone = open_night(night)
    beside = open_night(night, NightFile(calibrations=(library,)))
    plans = make_plan(alone), make_plan(beside)
    used = [[frame.path for t in plan.targets for frame in t.master.inputs] for plan in plans]
    assert used[0] == used[1] != []
    assert [g.key for g in plans[1].masters] == [g.key for g in plans[0].masters]
    assert np.array_equal(spectra(ar.reduce_night(beside)), spectra(ar.reduce_night(alone)))


def test_they_serve_where_the_night_has_none_of_its_own(night: Path, library: Path) -> None:
    for path in night.glob("dark*"):
        path.unlink()
    for path in library.iterdir():
        fits.setval(path, "INSTRUME", value="")
    (target,) = make_plan(open_night(night, NightFile(calibrations=(library,)))).targets
    assert target.dark is not None
    assert {frame.path.parent for frame in target.dark.frames} == {library}


def test_two_libraries_are_not_mixed(night: Path, library: Path, tmp_path: Path) -> None:
    for path in night.glob("dark*"):
        path.unlink()
    other = tmp_path / "other"
    other.mkdir()
    for path in sorted(library.iterdir())[:3]:
        path.rename(other / path.name)
    (target,) = make_plan(open_night(night, NightFile(calibrations=(library, other)))).targets
    assert target.dark is not None
    assert len({frame.path.parent for frame in target.dark.frames}) == 1


def test_a_broken_file_or_a_dark_of_0_s_of_a_library_is_left_out_and_named(
    night: Path, library: Path
) -> None:
    (library / "broken.fits").write_bytes(b"SIMPLE  =                    T" + b" " * 50)
    fits.setval(library / "a0.fits", "IMAGETYP", value="odd type")
    plan = make_plan(open_night(night, NightFile(calibrations=(library,))))
    assert plan.problems == ()
    assert any("broken.fits" in name for name, _ in plan.left_out)
    assert any(name.endswith("a0") for name, _ in plan.left_out)


def test_the_same_dark_in_a_library_never_displaces_the_nights_own(
    night: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "0-copies"
    folder.mkdir()
    for path in night.glob("dark*"):
        (folder / path.name).write_bytes(path.read_bytes())
    opened = open_night(night, NightFile(calibrations=(folder,)))
    assert all(
        not dataclasses.asdict(frame)["library"]
        for target in make_plan(opened).targets
        if target.dark
        for frame in target.dark.frames
    )
    assert {Path(label).parts[0] for label in opened.duplicates} == {".."}
