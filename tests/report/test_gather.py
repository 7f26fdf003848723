"""What a page is made of: frames as the run understood them, few of many."""

from __future__ import annotations

import dataclasses
from io import BytesIO
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray

from arrayred.io import FrameStack, Ledger, sample_frame
from arrayred.night import make_plan, open_night
from arrayred.plots.panels import Pixels, stretch_of
from arrayred.report import MOST_PICTURES, FrameLine, dots, gathered, levelled, pictured, thumbnail
from tests.report.conftest import reduced


def lines(n: int, **changes: object) -> list[FrameLine]:
    one = FrameLine("", "", "dark", 600.0, "2024", "", None, "", (2, 3), use="master")
    return [dataclasses.replace(one, label=str(i), path=str(i), **changes) for i in range(n)]


def test_of_few_frames_each_is_shown_of_many_the_first_of_a_kind() -> None:
    few = lines(MOST_PICTURES)
    assert pictured(few) == few
    many = [*lines(50), *lines(50, kind="light", use="star"), *lines(3, use="", out="twice")]
    assert [(line.kind, line.out) for line in pictured(many)] == [
        ("dark", ""),
        ("light", ""),
        ("dark", "twice"),
    ]


def test_levels_of_many_frames_are_those_of_some_darks_over_the_whole_night() -> None:
    chosen = levelled([*lines(5000), *lines(5000, kind="light")])
    assert 100 < len(chosen) <= 200
    assert {line.kind for line in chosen} == {"dark"}
    assert int(chosen[-1].label) > 4900


def test_frames_are_read_as_the_run_read_them(barber: Path, tmp_path: Path) -> None:
    out = reduced(barber, tmp_path / "out", figures=False)
    frames = gathered(out, Ledger(out)).frames
    night = open_night(barber)
    assert set(frames) == {frame.label for frame in night.frames}
    for frame in night.frames:
        assert frames[frame.label].image.source.pixels.wrapped
        same = (frame, frames[frame.label])
        assert len({sample.level for sample in map(sample_frame, same) if sample}) == 1
        pixels = [FrameStack([one.image.source])[0, :, :] for one in same]
        assert np.array_equal(*pixels)


def test_every_frame_of_a_plan_is_used_or_left_out(nights: Path, tmp_path: Path) -> None:
    night = open_night(nights / "toronto-2019-10")
    out = reduced(night.folder, tmp_path / "out", targets=("Vega",), figures=False)
    told = gathered(out, Ledger(out)).account.frames
    plan = make_plan(night).only(["Vega"])
    used = {
        frame.label for t in plan.targets for g in (t.lights, t.dark) if g for frame in g.frames
    } | {lamp.name for t in plan.targets for lamp in t.lamps}
    assert {line.label for line in told if line.use} == used
    assert all(bool(line.use) != bool(line.out) for line in told)
    reasons = {line.label: line.out for line in told}
    assert reasons["DarkBefore-007D120s (1)"] == "duplicate of DarkBefore-007D120s"
    assert reasons["EnifSpec"] == "of a target that was not selected"


def framed(counts: NDArray[np.float64]) -> bytes:
    """Return the picture of an image, as a target's section shows it."""
    return dots(Pixels(counts, (0.5, 1.5, 0.5, 1.5), stretch_of(counts)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (3000, 2), (1024, 1536)])
def test_pictures_are_small_whatever_the_shape(shape: tuple[int, int]) -> None:
    counts = np.random.default_rng(0).normal(1000, 10, shape)
    assert len(thumbnail(counts)) < 5_000
    assert len(framed(counts)) < 80_000


def test_row_1_is_at_the_bottom_of_a_picture() -> None:
    counts = np.zeros((20, 30))
    counts[:5] = 100.0
    shown = matplotlib.image.imread(BytesIO(framed(counts)))
    assert shown[-1, 0] > shown[0, 0]
