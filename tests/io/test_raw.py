"""Frames that were made become FITS files, one at a time."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from arrayred.errors import ArrayredError, UsageError
from arrayred.io import write_frames


@dataclass
class Made:
    """A frame with a name, cards and pixels."""

    name: str = "light-001.fit"
    cards: dict[str, str | float | int] = field(default_factory=dict)
    pixels: NDArray[Any] = field(default_factory=lambda: np.arange(6, dtype="u2").reshape(2, 3))


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_a_frame_is_read_back_as_it_was_made(tmp_path: Path, dtype: str) -> None:
    cards: dict[str, str | float | int] = {"IMAGETYP": "Light Frame", "EXPTIME": 600.0, "XBIN": 1}
    pixels = (np.arange(6).reshape(2, 3) * 21).astype(dtype)
    (path,) = write_frames([Made("a b.fit", cards, pixels)], tmp_path / "new" / "night")
    assert path == tmp_path / "new" / "night" / "a b.fit"
    with fits.open(path, checksum=True) as hdus:
        hdus.verify("exception")
        assert np.array_equal(hdus[0].data, pixels)
        assert hdus[0].data.dtype.newbyteorder("=") == np.dtype(dtype)
        assert {keyword: hdus[0].header[keyword] for keyword in cards} == cards


def test_a_frame_may_be_dropped_once_it_is_written(tmp_path: Path) -> None:
    alive: list[weakref.ref[Made]] = []

    def frames() -> Iterator[Made]:
        for i in range(4):
            gc.collect()
            assert sum(ref() is not None for ref in alive) <= 1
            frame = Made(f"{i}.fit")
            alive.append(weakref.ref(frame))
            yield frame
            del frame

    gc.freeze()  # so that only what is made here is looked through
    paths = write_frames(frames(), tmp_path)
    assert [path.name for path in paths] == ["0.fit", "1.fit", "2.fit", "3.fit"]


def test_the_same_frames_leave_the_files_alone_and_others_do_not_replace_them(
    tmp_path: Path,
) -> None:
    (path,) = write_frames([Made()], tmp_path)
    before = (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes())
    write_frames([Made()], tmp_path)
    with pytest.raises(UsageError, match="different content"):
        write_frames([Made(pixels=np.zeros((2, 3), "u2"))], tmp_path)
    assert (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes()) == before
    write_frames([Made(pixels=np.zeros((2, 3), "u2"))], tmp_path, overwrite=True)
    assert not fits.getdata(path).any()


@pytest.mark.parametrize("cards", [{"exptime": 1}, {"EXPTIME": float("nan")}, {"OBJECT": "é"}])
def test_a_card_that_no_header_can_hold_is_refused_before_anything_is_written(
    tmp_path: Path, cards: dict[str, str | float | int]
) -> None:
    with pytest.raises(ArrayredError):
        write_frames([Made(cards=cards)], tmp_path / "night")
    assert not (tmp_path / "night").exists()
