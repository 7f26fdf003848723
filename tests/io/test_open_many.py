"""One cube from many nights: folders, patterns and lists of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

import arrayred as ar
from arrayred.errors import InputError
from arrayred.io import write_frames
from arrayred.simulate import Detector, SimulatedNight

EVENINGS = [f"2024-03-{day:02}" for day in (9, 10, 12)]


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with three nights of darks, each file named alike in each."""
    folder = tmp_path_factory.mktemp("month")
    for evening in EVENINGS:
        start = datetime.fromisoformat(evening) + timedelta(hours=20)
        night = SimulatedNight(Detector(shape=(12, 16)), n_darks=2, n_lights=0, start=start)
        write_frames(night.frames(), folder / evening / "darks")
    return folder


def test_frames_of_several_nights_are_labelled_by_folder_and_know_their_night(month: Path) -> None:
    cube = ar.open_frames([month / evening for evening in EVENINGS], chunks=5)
    expected = [f"{evening}/darks/dark-00{i}" for evening in EVENINGS for i in (1, 2)]
    assert list(cube.frame.values) == expected
    assert list(cube.night.values) == [evening for evening in EVENINGS for _ in (1, 2)]
    assert cube.counts.chunks == ((6,), (5, 5, 2), (16,))


def test_every_way_to_name_the_folders_gives_the_same_cube(
    month: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(month)
    folders = [month / evening for evening in EVENINGS]
    whole = ar.open_frames(folders)
    ways: list[Any] = [month, f"{month}/2024-*", f"{month}/*/darks/*.fit", [*folders, month]]
    ways += [[str(folders[0]), f"{month}/2024-03-1?"], [*folders, *folders[0].rglob("*.fit")]]
    assert all(ar.open_frames(way).identical(whole) for way in ways)
    assert ar.open_frames("2024-*").drop_vars("path").identical(whole.drop_vars("path"))
    cube = xr.open_dataset(f"{month}/2024-*", engine="arrayred", root=month)
    assert list(cube.frame.values) == list(whole.frame.values)
    assert np.array_equal(cube.counts, whole.counts)


def test_each_frame_of_a_long_cube_is_that_of_its_file(month: Path) -> None:
    cube = ar.open_frames(f"{month}/*")
    for label, path in zip(cube.frame.values, cube.path.values, strict=True):
        assert np.array_equal(cube.counts.sel(frame=label), fits.getdata(path))
    assert list(ar.headers(cube)) == list(cube.frame.values)


def test_one_night_of_a_cube_is_that_nights_cube(month: Path) -> None:
    cube = ar.open_frames(f"{month}/*", chunks="auto")
    one = cube.sel(frame=cube.night == EVENINGS[1])
    assert np.array_equal(one.counts, ar.open_frames(month / EVENINGS[1]).counts)


def test_a_single_night_needs_no_prefix(month: Path) -> None:
    night = month / EVENINGS[0]
    assert list(ar.open_frames(night).frame.values) == ["darks/dark-001", "darks/dark-002"]
    assert list(ar.open_frames([night / "darks"]).frame.values) == ["dark-001", "dark-002"]


def test_a_pattern_passes_by_what_is_no_frame(month: Path, tmp_path: Path) -> None:
    dark = (month / EVENINGS[0] / "darks" / "dark-001.fit").read_bytes()
    (tmp_path / "notes.txt").write_text("cloudy")
    (tmp_path / "night [1]").mkdir()
    (tmp_path / "night [1]" / "a.fit").write_bytes(dark)
    assert list(ar.open_frames(f"{tmp_path}/*").frame.values) == ["a"]
    assert list(ar.open_frames(f"{tmp_path}/night [1]").frame.values) == ["a"]


@pytest.mark.parametrize("pattern", ["1999-*", "2024-*/*.fit"])
def test_a_pattern_that_matches_nothing_is_an_error_with_its_text(
    pattern: str, month: Path
) -> None:
    with pytest.raises(InputError) as caught:
        ar.open_frames([month, f"{month}/{pattern}"])
    assert pattern in str(caught.value)


@pytest.mark.parametrize(("depth", "n"), [(1, 0), (2, 0), (3, 6)])
def test_folders_are_searched_to_the_depth_that_is_asked_for(
    depth: int, n: int, month: Path
) -> None:
    if n:
        assert ar.open_frames(month, depth=depth).sizes["frame"] == n
    else:
        with pytest.raises(InputError, match="No frames"):
            ar.open_frames(month, depth=depth)
