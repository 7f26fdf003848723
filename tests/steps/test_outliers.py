"""Values that stand out are kept one by one, and tell the same as planes would."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from arrayred.kernels import FrameOutliers, PixelOutliers
from arrayred.steps import (
    OUTLIER_DTYPE,
    OutlierRecords,
    cosmic,
    merge_outliers,
)

SHAPE = (7, 500)


def planes() -> np.ndarray:
    return np.random.default_rng(3).random(SHAPE) < 0.02


def hits_of(flags: np.ndarray) -> PixelOutliers:
    """Return hits in any order, in the small types in which they are found."""
    frame, where = np.nonzero(flags)
    shuffled = np.random.default_rng(4).permutation(frame.size)
    return PixelOutliers.of(frame[shuffled].astype("u4"), where[shuffled].astype("u4"))


@pytest.mark.parametrize("first", [0, 100, 499])
def test_flags_of_some_pixels_are_those_of_the_planes(first: int) -> None:
    pixels = np.arange(first, min(first + 200, SHAPE[1]))
    assert np.array_equal(hits_of(planes()).flags(SHAPE[0], pixels), planes()[:, pixels])


def test_no_pixel_has_no_flag() -> None:
    assert hits_of(planes()).flags(SHAPE[0], np.empty(0, np.intp)).shape == (SHAPE[0], 0)


def test_frames_are_told_by_their_labels_in_any_order() -> None:
    found = FrameOutliers(tuple("abcdefg"), hits_of(planes()))
    where, flagged = found.of(["e", "b"])
    rows = planes()[[4, 1]]
    assert np.array_equal(where, np.flatnonzero(rows.any(axis=0)))
    assert np.array_equal(flagged, rows[:, where])


def test_parts_are_gathered_in_order_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    def parts() -> Iterator[OutlierRecords]:
        for first, stop in ((0, 3), (3, 3), (3, 30), (30, 34)):
            part = np.zeros(stop - first, OUTLIER_DTYPE)
            part["where"] = np.arange(first, stop)
            yield part

    monkeypatch.setattr(cosmic, "_MERGED_OUTLIERS", 8)
    blocks = merge_outliers(parts())
    assert [block.size for block in blocks] == [8, 8, 8, 8, 2]
    assert np.array_equal(np.concatenate(blocks)["where"], np.arange(34))
    assert merge_outliers(iter(())) == []
