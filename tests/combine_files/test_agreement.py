"""What goes together, what is refused by name, and what CALSTAT says afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arrayred.combine_files import (
    CombineChecks,
    calstat_after,
    difference_warnings,
    require_fitting_master,
    require_same_exposure,
)
from arrayred.config import Instrument
from arrayred.errors import HeaderError, MismatchError
from arrayred.io import Frame, frame_from_header
from arrayred.io.scan import scan
from tests.combine_files.conftest import write_frame

ANY = CombineChecks(any_exposure=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def frame(folder: Path, shape: tuple[int, int] = (2, 3), **cards: Any) -> Frame:
    path = folder / f"f{len(list(folder.iterdir()))}.fits"
    write_frame(path, np.zeros(shape, np.uint16), **cards)
    return frame_from_header(path.stem, scan(path), Instrument.load("generic"))


@pytest.mark.parametrize(
    ("exposures", "agree"),
    [
        ((60.0, 60.0), True),
        ((60.0, 60.06), True),
        ((60.0, 60.07), False),
        ((0.0, 0.01), True),
        ((0.0, 0.011), False),
        ((600.0, 600.6), True),
        ((600.0, 600.0, 601.0), False),
    ],
)
def test_exposures_agree_within_a_hundredth_or_a_thousandth(
    exposures: tuple[float, ...], agree: bool, folder: Path
) -> None:
    frames = [frame(folder, EXPTIME=exposure) for exposure in exposures]
    if agree:
        require_same_exposure(frames)
        return
    with pytest.raises(MismatchError, match=f"{exposures[-1]:g} s") as caught:
        require_same_exposure(frames)
    assert caught.value.path == str(frames[-1].path)
    assert caught.value.keyword == "EXPTIME"


@pytest.mark.parametrize("exposure", [None, "600,0", -3.0])
def test_an_exposure_that_is_not_known_is_named(exposure: Any, folder: Path) -> None:
    frames = [frame(folder), frame(folder, EXPTIME=exposure)]
    with pytest.raises(HeaderError, match="exposure") as caught:
        require_same_exposure(frames)
    assert caught.value.path == str(frames[1].path)


def test_frames_that_agree_need_no_remark(folder: Path) -> None:
    assert difference_warnings([frame(folder), frame(folder)]) == []


def test_differences_that_may_be_meant_are_remarked_on(folder: Path) -> None:
    frames = [
        frame(folder),
        frame(folder, XBINNING=2, YBINNING=2),
        frame(folder, IMAGETYP="Light Frame", CALSTAT="BD"),
    ]
    types, corrections, settings = difference_warnings(frames)
    assert types == "the frames are of different types: 2 x dark, 1 x light"
    assert corrections.endswith("2 x none, 1 x BD")
    assert "binning=2x2" in settings


@pytest.mark.parametrize(
    ("cards", "what"),
    [
        ({"EXPTIME": 61.0}, "60 s"),
        ({"XBINNING": 2, "YBINNING": 2}, "binning 1x1"),
        ({"shape": (3, 2)}, r"\(2, 3\) pixels"),
    ],
)
def test_an_image_that_does_not_fit_is_refused_by_name(
    cards: dict[str, Any], what: str, folder: Path
) -> None:
    ours, master = frame(folder, XBINNING=1, YBINNING=1), frame(folder, **cards)
    with pytest.raises(MismatchError, match=what) as caught:
        require_fitting_master(master, [ours], CombineChecks())
    assert caught.value.path == str(ours.path)
    assert master.path.name in str(caught.value)


def test_an_image_fits_within_half_a_second_or_any_exposure(folder: Path) -> None:
    ours = [frame(folder)]
    require_fitting_master(frame(folder, EXPTIME=60.5), ours, CombineChecks())
    require_fitting_master(frame(folder, EXPTIME=300.0), ours, ANY)
    require_fitting_master(frame(folder, EXPTIME=0.0, IMAGETYP="bias"), ours, CombineChecks())


@pytest.mark.parametrize(
    ("before", "master", "after"),
    [
        ("", {}, "BD"),
        ("B", {"CALSTAT": "B"}, "BD"),
        ("", {"IMAGETYP": "bias"}, "B"),
        ("M", {"CALSTAT": "M"}, "BD"),
        ("D", {"IMAGETYP": "light"}, "BD"),
        ("B", {"IMAGETYP": "light"}, "B"),
    ],
)
def test_calstat_tells_what_was_taken_away(
    before: str, master: dict[str, Any], after: str, folder: Path
) -> None:
    ours, theirs = [frame(folder, CALSTAT=before)], frame(folder, **master)
    require_fitting_master(theirs, ours, ANY)
    assert calstat_after(ours, theirs) == after


def test_calstat_counts_only_what_all_frames_have_lost(folder: Path) -> None:
    frames = [frame(folder, CALSTAT="BF"), frame(folder, CALSTAT="B")]
    assert calstat_after(frames, frame(folder, IMAGETYP="light")) == "B"


@pytest.mark.parametrize(
    ("calstat", "master"),
    [
        ("D", {}),
        ("B", {}),
        ("BD", {"CALSTAT": "B"}),
        ("B", {"IMAGETYP": "bias"}),
        ("D", {"IMAGETYP": "bias"}),
    ],
)
def test_nothing_is_subtracted_twice(calstat: str, master: dict[str, Any], folder: Path) -> None:
    raw = [frame(folder)] if "CALSTAT" not in master else []
    done = frame(folder, CALSTAT=calstat)
    with pytest.raises(MismatchError, match=r"already|one of them only") as caught:
        require_fitting_master(frame(folder, **master), [*raw, done], ANY)
    assert caught.value.path == str(done.path)


@pytest.mark.parametrize(
    ("calstat", "master", "why"),
    [
        ("", {"CALSTAT": "B"}, "bias subtracted from one of them only"),
        ("F", {}, "divided by a flat"),
        ("BF", {"CALSTAT": "B"}, "divided by a flat"),
        ("", {"CALSTAT": "D"}, "a dark from which a dark was subtracted"),
    ],
)
def test_what_is_not_in_the_frame_as_in_the_master_is_not_subtracted(
    calstat: str, master: dict[str, Any], why: str, folder: Path
) -> None:
    raw = frame(folder, CALSTAT=calstat)
    with pytest.raises(MismatchError, match=why) as caught:
        require_fitting_master(frame(folder, **master), [raw], ANY)
    assert (caught.value.path, caught.value.keyword) == (str(raw.path), "CALSTAT")


def test_a_frame_is_not_subtracted_from_itself(folder: Path) -> None:
    ours = frame(folder)
    with pytest.raises(MismatchError, match="one of the frames"):
        require_fitting_master(ours, [ours], CombineChecks())
