"""Which frames are meant by files, folders and lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from arrayred.combine_files import input_frames
from arrayred.config import Instrument
from arrayred.errors import ForeignFileError, FrameError, InputError, NightError, UsageError
from tests.combine_files.conftest import Write, write_frame

PIXELS = np.zeros((2, 3), np.int16)


def names(*arguments: str) -> list[str]:
    return [frame.path.name for frame in input_frames(arguments, Instrument.load("generic")).frames]


def warnings(*arguments: str) -> str:
    return "\n".join(input_frames(arguments, Instrument.load("generic")).warnings)


def test_files_folders_and_lists_name_the_same_frames(
    cube: NDArray[Any], write: Write, tmp_path: Path
) -> None:
    files = write(cube)
    listed = tmp_path / "frames.txt"
    listed.write_text("# darks\n\n" + "\n".join(f" {file} " for file in files[::-1]) + "\n")
    expected = [f"f{i}.fits" for i in range(7)]
    assert names(*files) == names(str(tmp_path)) == names(f"@{listed}") == expected


def test_a_list_may_name_a_folder(cube: NDArray[Any], write: Write, tmp_path: Path) -> None:
    write(cube[:2])
    (tmp_path / "list").write_text(f"{tmp_path}\n")
    assert names(f"@{tmp_path / 'list'}") == ["f0.fits", "f1.fits"]


def test_frames_come_in_order_of_time_then_name(tmp_path: Path) -> None:
    late = write_frame(tmp_path / "a.fits", PIXELS, DATE_OBS="2026-01-03T00:00:00")
    early = write_frame(tmp_path / "b.fits", PIXELS, DATE_OBS="2026-01-02T00:00:00")
    assert names(late, early) == ["b.fits", "a.fits"]


def test_a_file_named_twice_is_used_once_and_said(tmp_path: Path) -> None:
    path = write_frame(tmp_path / "a.fits", PIXELS)
    (tmp_path / "z.fits").symlink_to(path)
    assert names(path, str(tmp_path / "z.fits"), path) == ["a.fits"]
    assert "z.fits: named twice" in warnings(path, str(tmp_path / "z.fits"))


def test_what_lies_in_a_folder_but_is_no_raw_frame_is_left_out_and_said(tmp_path: Path) -> None:
    write_frame(tmp_path / "a.fits", PIXELS)
    write_frame(tmp_path / "master.fits", PIXELS, COMBINED=True)
    (tmp_path / "notes.fits").write_text("no frame at all")
    assert names(str(tmp_path)) == ["a.fits"]
    assert "master.fits: a combined image" in warnings(str(tmp_path))
    assert "notes.fits: This is not a FITS file; not used" in warnings(str(tmp_path))


def test_a_product_named_by_itself_is_a_frame(tmp_path: Path) -> None:
    write_frame(tmp_path / "a.fits", PIXELS)
    master = write_frame(tmp_path / "master.fits", PIXELS, COMBINED=True)
    assert names(str(tmp_path / "a.fits"), master) == ["a.fits", "master.fits"]


def test_a_file_named_by_itself_must_be_a_frame(tmp_path: Path) -> None:
    (tmp_path / "notes.fits").write_text("no frame at all")
    with pytest.raises(ForeignFileError, match=r"notes\.fits"):
        names(write_frame(tmp_path / "a.fits", PIXELS), str(tmp_path / "notes.fits"))


def test_a_damaged_file_in_a_folder_is_an_error(tmp_path: Path) -> None:
    path = Path(write_frame(tmp_path / "a.fits", np.zeros((90, 90))))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(FrameError, match=r"a\.fits.*5000 bytes"):
        names(str(tmp_path))


def test_all_damaged_files_are_named_at_once(tmp_path: Path) -> None:
    for name in ("a.fits", "b.fits"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(NightError, match=r"a\.fits(.|\n)*b\.fits"):
        names(str(tmp_path / "a.fits"), str(tmp_path / "b.fits"))


def test_nothing_is_an_error_that_says_where(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "list").write_text("\n# nothing\n")
    for argument in (str(tmp_path / "empty"), f"@{tmp_path / 'list'}"):
        with pytest.raises(InputError, match=r"No frames found in .*(empty|list)"):
            names(argument)


def test_a_folder_without_frames_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.fits").write_text("no frame at all")
    with pytest.raises(InputError, match="None of the files is a frame"):
        names(str(tmp_path))


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="list of files cannot be read") as caught:
        names(f"@{tmp_path / 'gone.txt'}")
    assert caught.value.path == str(tmp_path / "gone.txt")
