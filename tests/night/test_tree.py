"""A night's pixels by name: lazy, in bands, and no byte more than is asked for."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

import arrayred as ar
from arrayred.io import pixels, write_frames
from arrayred.night import cube_at
from arrayred.simulate import Detector, SimulatedNight
from tests.test_night import dark, frame, light, plan_of

SHAPE = (40, 60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a night with every type of frame."""
    path = tmp_path_factory.mktemp("tree") / "night"
    counts = {"n_darks": 4, "n_lights": 3, "n_biases": 2, "n_flats": 2, "n_arcs": 2}
    write_frames(SimulatedNight(Detector(shape=SHAPE), **counts).frames(), path)
    return path


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes of all reads of pixels, as they happen."""
    sizes: list[int] = []
    read_at = pixels._read_at

    def counting(handle: int, view: memoryview, offset: int) -> int:
        sizes.append(read_at(handle, view, offset))
        return sizes[-1]

    monkeypatch.setattr(pixels, "_read_at", counting)
    return sizes


def leaves(tree: xr.DataTree) -> dict[str, int]:
    return {leaf.path: leaf.sizes["frame"] for leaf in tree.leaves}


def test_every_group_is_a_cube_under_its_type_and_name(folder: Path) -> None:
    assert leaves(ar.open_night(folder).tree) == {
        "/raw/bias/bias": 2,
        "/raw/dark/600s": 4,
        "/raw/flat/Flat_lamp": 2,
        "/raw/arc/Neon_lamp": 2,
        "/raw/light/Simulated_star": 3,
    }


def test_a_group_holds_its_files_pixels_under_fits_numbers(folder: Path) -> None:
    night = ar.open_night(folder)
    cube = night["light/Simulated_star"]
    assert cube.identical(night.tree["raw/light/Simulated_star"].to_dataset())
    assert list(cube.frame.values) == ["light-001", "light-002", "light-003"]
    expected = [fits.getdata(path) for path in sorted(folder.glob("light*"))]
    assert np.array_equal(cube.counts, expected)
    assert cube.counts.sel(y=40, x=60, frame="light-002") == expected[1][39, 59]


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ({"y": slice(4, 6)}, 4 * 2 * 60 * 2),
        ({"y": 4, "frame": 1}, 60 * 2),
        ({"frame": 2}, 40 * 60 * 2),
        ({"y": slice(4, 6), "x": 7}, 4 * 2 * 60 * 2),
        ({}, 4 * 40 * 60 * 2),
    ],
    ids=str,
)
def test_a_slice_reads_whole_rows_of_the_wanted_frames_and_nothing_else(
    choice: dict[str, Any], wanted: int, folder: Path, bytes_read: list[int]
) -> None:
    night = ar.open_night(folder)
    bytes_read.clear()  # of the probe of some dark rows
    cube = night.tree["raw/dark/600s"]
    assert bytes_read == []
    assert cube.counts.isel(choice).values.size > 0
    assert sum(bytes_read) == wanted


def test_a_slice_of_one_band_is_a_task_or_two(folder: Path) -> None:
    groups = ar.open_night(folder).groups
    cube = cube_at(groups, "dark/600s", chunks=8)
    assert cube.counts.chunks == ((4,), (8,) * 5, (60,))
    rows = cube.counts.isel(y=slice(9, 12)).data
    assert len(dask.optimize(rows)[0].dask) <= 2


def test_frames_that_are_no_one_array_are_nodes_of_their_own(tmp_path: Path) -> None:
    plan_of(
        tmp_path,
        *(dark(f"d{i}", shape=(4 + i, 6)) for i in range(2)),
        dark("e1", BUNIT="electron"),
        dark("e2", 30.0),
    )
    tree = ar.open_night(tmp_path).tree
    assert sorted(tree["raw/dark"]) == ["30s", "60s_adu", "60s_adu_2", "60s_electron"]
    assert tree["raw/dark/60s_electron"].counts.attrs["units"] == "electron"


def test_duplicates_stand_once_and_unknown_types_under_their_own_name(tmp_path: Path) -> None:
    write_frames([light("a"), frame("odd", "Quux", OBJECT="moon")], tmp_path)
    (tmp_path / "b.fit").write_bytes((tmp_path / "a.fit").read_bytes())
    assert leaves(ar.open_night(tmp_path).tree) == {"/raw/light/star": 1, "/raw/unknown/moon": 1}


def test_lights_have_the_names_of_the_plans_targets(nights: Path) -> None:
    for name in ("barber-2020-11-03/raw", "stonybrook-2017-10", "toronto-2019-10"):
        night = ar.open_night(nights / name)
        lights = [key.partition("/")[2] for key in night.groups if key.startswith("light/")]
        assert lights == [target.name for target in ar.make_plan(night).targets]


def test_a_name_that_is_none_is_an_error_with_those_there_are(folder: Path) -> None:
    night = ar.open_night(folder)
    with pytest.raises(KeyError, match=r"dark/60s.*dark/600s"):
        night["dark/60s"]
    assert night._ipython_key_completions_() == list(night) == list(night.groups)
    assert "dark/600s" in night


def test_a_night_travels_between_processes_with_its_tree(folder: Path) -> None:
    night = ar.open_night(folder)
    tree = night.tree
    other = pickle.loads(pickle.dumps(night))
    assert other.tree.identical(tree)
    assert repr(other) == repr(night)


def test_a_light_in_electrons_is_not_served_by_a_dark_in_adu(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, dark("d"), light("l", BUNIT="electron"))
    assert plan.targets == ()
    (problem,) = plan.problems
    assert "in adu, the light frame in electron" in str(problem)


def test_lights_of_two_units_are_two_targets_each_with_its_dark(tmp_path: Path) -> None:
    frames = [dark("d"), dark("e", BUNIT="e-"), light("l"), light("m", BUNIT="electron")]
    plan = plan_of(tmp_path, *frames)
    served = [(target.lights, target.dark) for target in plan.targets]
    assert [(a.name, b.name) for a, b in served if b] == [
        ("star_adu", "60s_adu"),
        ("star_electron", "60s_electron"),
    ]
    assert all(b and a.frames[0].unit == b.frames[0].unit for a, b in served)
