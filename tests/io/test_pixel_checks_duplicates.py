"""A frame that is in a folder twice is used once, and that is said."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from astropy.io import fits

import arrayred as ar
from arrayred.io import repeated_frames


@pytest.mark.parametrize(("twin", "packed"), [("light-002.fit.gz", True), ("copy.fits", False)])
def test_a_twin_is_left_out_and_changes_nothing(night: Path, twin: str, packed: bool) -> None:
    target = "targets/Simulated_star/spectrum"
    alone = ar.reduce_night(night)[target]
    content = (night / "light-002.fit").read_bytes()
    (night / twin).write_bytes(gzip.compress(content) if packed else content)
    opened = ar.open_night(night)
    assert len(opened.duplicates) == 1
    assert "duplicate of" in dict(ar.make_plan(opened).left_out)[next(iter(opened.duplicates))]
    assert ar.reduce_night(opened)[target].flux.equals(alone.flux)


def test_the_procedure_counts_a_twin_twice(night: Path) -> None:
    (night / "twin.fit").write_bytes((night / "dark-002.fit").read_bytes())
    plan = ar.make_plan(ar.open_night(night), ar.Recipe.reference())
    assert [len(group.frames) for group in plan.masters] == [6]


def test_a_twin_without_a_start_is_left_out(night: Path) -> None:
    fits.delval(night / "light-002.fit", "DATE-OBS")
    (night / "twin.fit").write_bytes((night / "light-002.fit").read_bytes())
    assert len(ar.open_night(night).duplicates) == 1


def test_frames_that_share_their_start_but_not_their_pixels_are_two(night: Path) -> None:
    image, header = fits.getdata(night / "light-002.fit", header=True)
    image[3, 4] += 1
    fits.writeto(night / "light-004.fit", image, header)
    assert dict(ar.open_night(night).duplicates) == {}


def test_only_suspects_are_read(night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = ar.open_night(night).frames
    monkeypatch.setattr("arrayred.io.pixel_checks.FrameStack", None)
    assert repeated_frames(frames) == {}
