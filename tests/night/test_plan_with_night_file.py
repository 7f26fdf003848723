"""What the night file says of types, targets, rows, cards and settings decides the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import arrayred as ar
from arrayred.config import NightFile
from arrayred.errors import ArrayredError, UsageError
from arrayred.io import write_frames
from arrayred.night import plan_sections
from arrayred.pipeline import with_rows
from arrayred.simulate import SimulatedFrame
from tests.test_night import dark, frame, light

Tables = dict[str, Any]


def planned(folder: Path, frames: list[SimulatedFrame], tables: Tables, **recipe: Any) -> ar.Plan:
    write_frames(frames, folder)
    night = ar.open_night(folder, NightFile.from_tables(tables))
    return ar.make_plan(night, ar.Recipe().replace(**(night.file.recipe | recipe)))


def targets_of(plan: ar.Plan) -> dict[str, list[str]]:
    return {t.name: [f.label for f in t.lights.frames] for t in plan.targets}


def refused(folder: Path, frames: list[SimulatedFrame], tables: Tables) -> str:
    with pytest.raises(UsageError) as caught:
        planned(folder, frames, tables)
    return str(caught.value)


@pytest.fixture
def frames() -> list[SimulatedFrame]:
    """Return a dark, three lights of Vega, two of Deneb and one without an OBJECT."""
    vega = [light(f"v-{i}", minute=30 + i, OBJECT="Vega") for i in (1, 2, 3)]
    deneb = [light(f"d-{i}", minute=40 + i, OBJECT="Deneb") for i in (1, 2)]
    return [dark("dark"), *vega, *deneb, light("x-1", minute=50, OBJECT=None)]


def test_frames_may_be_retyped_by_glob_whatever_headers_say(
    tmp_path: Path, frames: list[SimulatedFrame]
) -> None:
    more = [frame("flat-1", "Flat Field", minute=1), frame("q-1", "Quux", minute=2)]
    types = {"arc": ["v-[12]"], "dark": ["q-*"], "light": ["flat-1"], "bias": ["dark"]}
    plan = planned(tmp_path, [*frames, *more], {"types": types})
    lights = {"flat-1": ["flat-1"], "Vega": ["v-3"], "Deneb": ["d-1", "d-2"], "x-1": ["x-1"]}
    assert targets_of(plan) == lights
    assert [f.label for group in plan.masters for f in group.frames] == ["q-1"]
    assert not any("taken for" in remark for remark in plan.warnings)


def test_a_target_has_the_frames_it_names_and_the_rest_is_grouped_as_ever(
    tmp_path: Path, frames: list[SimulatedFrame]
) -> None:
    tables = {"targets": {"59 Cyg": {"frames": ["v-1", "d-*", "x-1"]}}}
    plan = planned(tmp_path, frames, tables)
    assert targets_of(plan) == {"59_Cyg": ["v-1", "d-1", "d-2", "x-1"], "Vega": ["v-2", "v-3"]}


def test_a_name_that_is_taken_is_lengthened_for_those_nobody_named(
    tmp_path: Path, frames: list[SimulatedFrame]
) -> None:
    plan = planned(tmp_path, frames, {"targets": {"Vega": {"frames": ["v-1"]}}})
    assert targets_of(plan) == {
        "Vega": ["v-1"],
        "Vega_2": ["v-2", "v-3"],
        "Deneb": ["d-1", "d-2"],
        "x-1": ["x-1"],
    }


def test_what_headers_type_otherwise_is_a_light_where_a_target_names_it(tmp_path: Path) -> None:
    frames = [dark("dark"), frame("neon-1", "Dark Frame", minute=5), frame("y", None, minute=6)]
    plan = planned(tmp_path, frames, {"targets": {"lamp": {"frames": ["neon-1", "y"]}}})
    assert targets_of(plan) == {"lamp": ["neon-1", "y"]}
    assert plan.problems == ()


def test_a_frame_in_two_targets_is_refused(tmp_path: Path, frames: list[SimulatedFrame]) -> None:
    tables = {"targets": {"a": {"frames": ["v-1..2"]}, "b": {"frames": ["*-2"]}}}
    assert "v-2 belongs to both 'a' and 'b'. Name it for one of them." in refused(
        tmp_path, frames, tables
    )


@pytest.mark.parametrize(
    "other",
    [{"exptime": 61.0}, {"shape": (5, 6)}, {"GRATING": "600"}, {"XBINNING": 2}, {"CALSTAT": "D"}],
)
def test_frames_that_cannot_be_combined_are_refused(tmp_path: Path, other: Tables) -> None:
    frames = [dark("dark"), light("v-1"), light("v-2", minute=31, **other)]
    said = refused(tmp_path, frames, {"targets": {"Vega": {"frames": ["v-*"]}}})
    assert "Target 'Vega' has both v-1 and v-2, which differ in exposure time, shape" in said


def test_two_names_of_one_file_name_are_refused(
    tmp_path: Path, frames: list[SimulatedFrame]
) -> None:
    tables = {"targets": {"59 Cyg": {"frames": ["v-1"]}, "59_Cyg": {"frames": ["v-2"]}}}
    assert "would have one file name" in refused(tmp_path, frames, tables)


@pytest.mark.parametrize(
    ("targets", "order"),
    [
        ({}, ["Vega", "Deneb", "x-1"]),
        ({"Vega": {"rows_from": "Deneb"}}, ["Deneb", "Vega", "x-1"]),
        ({"Vega": {"rows_from": "x-1"}, "Deneb": {"rows_from": "Vega"}}, ["x-1", "Vega", "Deneb"]),
    ],
)
def test_a_target_comes_behind_the_one_whose_rows_it_takes(
    tmp_path: Path, frames: list[SimulatedFrame], targets: Tables, order: list[str]
) -> None:
    assert list(targets_of(planned(tmp_path, frames, {"targets": targets}))) == order


@pytest.mark.parametrize(
    "targets",
    [
        {"Vega": {"rows_from": "Vega"}},
        {"Vega": {"rows_from": "Deneb"}, "Deneb": {"rows_from": "Vega"}},
    ],
)
def test_rows_that_are_taken_in_a_circle_are_refused(
    tmp_path: Path, frames: list[SimulatedFrame], targets: Tables
) -> None:
    assert "use the rows of each other" in refused(tmp_path, frames, {"targets": targets})


def test_rows_of_an_unknown_target_name_the_nearest(
    tmp_path: Path, frames: list[SimulatedFrame]
) -> None:
    said = refused(tmp_path, frames, {"targets": {"Vega": {"rows_from": "Denep"}}})
    assert (
        "'Denep' is not a known target to take the rows of 'Vega' from. Did you mean 'Deneb'"
        in said
    )


def test_rows_of_a_target_without_a_dark_leave_the_other_planned(tmp_path: Path) -> None:
    frames = [dark("dark"), light("a", OBJECT="a"), light("b", 5.0, minute=40, OBJECT="b")]
    plan = planned(tmp_path, frames, {"targets": {"a": {"rows_from": "b"}}})
    assert (list(targets_of(plan)), [name for name, _ in plan.failed]) == (["a"], ["b"])
    with pytest.raises(ArrayredError, match="uses the rows of b, which has none"):
        with_rows(plan.targets[0], {})


def test_settings_are_those_of_the_target_over_those_of_all(
    tmp_path: Path, frames: list[SimulatedFrame]
) -> None:
    tables = {
        "recipe": {"combine": "median", "n_sigma": 5},
        "targets": {"Vega": {"n_sigma": 3, "rows": [1, 2]}},
    }
    plan = planned(tmp_path, frames, tables)
    recipes = {t.name: (t.recipe.combine, t.recipe.n_sigma, t.recipe.rows) for t in plan.targets}
    assert recipes["Vega"] == ("median", 3, (1, 2))
    assert recipes["Deneb"] == ("median", 5, None)


def test_without_a_recipe_the_night_files_counts(
    tmp_path: Path, frames: list[SimulatedFrame]
) -> None:
    write_frames(frames, tmp_path)
    night = ar.open_night(tmp_path, NightFile.from_tables({"recipe": {"n_sigma": 7}}))
    assert {target.recipe.n_sigma for target in ar.make_plan(night).targets} == {7}


def test_cards_of_a_target_stay_with_it(tmp_path: Path, frames: list[SimulatedFrame]) -> None:
    plan = planned(tmp_path, frames, {"targets": {"Vega": {"object": "alf Lyr"}}})
    cards = {target.name: dict(target.cards) for target in plan.targets}
    assert cards == {"Vega": {"OBJECT": "alf Lyr"}, "Deneb": {}, "x-1": {}}


def test_one_target_may_go_without_a_dark(tmp_path: Path, frames: list[SimulatedFrame]) -> None:
    plan = planned(tmp_path, frames, {"targets": {"Vega": {"dark": False}}})
    assert {t.name: t.dark is None for t in plan.targets} == {
        "Vega": True,
        "Deneb": False,
        "x-1": False,
    }


def test_an_unknown_target_is_refused(tmp_path: Path, frames: list[SimulatedFrame]) -> None:
    said = refused(tmp_path, frames, {"targets": {"Vgea": {"n_sigma": 3}}})
    assert "'Vgea' is not a known target of this night. Did you mean 'Vega'" in said


# Frames that are named but cannot be used


def test_a_named_frame_that_is_excluded_is_not_missed(
    tmp_path: Path, frames: list[SimulatedFrame]
) -> None:
    targets = {"59 Cyg": {"frames": ["v-1", "v-2"]}, "moon": {"frames": ["x-1"], "n_sigma": 3}}
    plan = planned(tmp_path, frames, {"targets": targets, "exclude": ["v-1", "x-*"]})
    assert targets_of(plan) == {"59_Cyg": ["v-2"], "Vega": ["v-3"], "Deneb": ["d-1", "d-2"]}
    assert {"v-1.fit", "x-1.fit"} <= {name for name, _ in plan.left_out}


def test_a_named_frame_that_cannot_be_read_hides_no_problem(
    tmp_path: Path, frames: list[SimulatedFrame]
) -> None:
    write_frames(frames, tmp_path)
    (tmp_path / "v-1.fit").write_bytes((tmp_path / "v-1.fit").read_bytes()[:1000])
    bad = light("d-1", None, minute=41, OBJECT="Deneb")
    targets = {"a": {"frames": ["v-1"]}, "b": {"frames": ["d-1"]}}
    (tmp_path / "d-1.fit").unlink()
    plan = planned(tmp_path, [bad], {"targets": targets})
    assert {Path(error.path or "").name for _, error in plan.failed} == {"v-1.fit", "d-1.fit"}


def test_lamps_that_are_excluded_are_missed_aloud(
    tmp_path: Path, frames: list[SimulatedFrame]
) -> None:
    lamp = frame("neon", "Arc", minute=55)
    tables = {"targets": {"Vega": {"lamps": ["neon"]}}, "exclude": ["neon"]}
    plan = planned(tmp_path, [*frames, lamp], tables)
    assert "check: Vega: its arc frames cannot be used" in plan.warnings


def test_only_a_frame_that_is_used_is_to_be_checked(
    tmp_path: Path, frames: list[SimulatedFrame]
) -> None:
    spare = dark("dark-5", 5.0, BUNIT="furlong")
    used = light("v-9", minute=56, OBJECT="Vega", BUNIT="furlong")
    plan = planned(tmp_path, [*frames, spare, used], {})
    told = "the unit 'furlong' of the pixels is unknown; ADU assumed"
    assert f"dark-5: {told}" in plan.warnings
    assert f"check: Vega: v-9: {told}" in plan.warnings


# A part of a plan


def test_only_keeps_a_target_and_those_whose_rows_it_takes(
    tmp_path: Path, frames: list[SimulatedFrame]
) -> None:
    more = [dark("dark-5", 5.0), light("y", 5.0, minute=55, OBJECT="y")]
    targets = {"Vega": {"rows_from": "x-1"}, "Deneb": {"rows_from": "Vega"}}
    plan = planned(tmp_path, [*frames, *more], {"targets": targets})
    part = plan.only(["Deneb"])
    assert list(targets_of(part)) == ["x-1", "Vega", "Deneb"]
    assert [group.name for group in part.masters] == ["60s"]
    assert ("y", "of a target that was not selected") in part.left_out
    assert [group.name for group in plan.only(["y"]).masters] == ["5s"]


@pytest.mark.parametrize("names", [["Vgea"], ["Vega", "Denep"], [""]])
def test_only_refuses_names_of_no_target(
    tmp_path: Path, frames: list[SimulatedFrame], names: list[str]
) -> None:
    with pytest.raises(UsageError, match="is not a known target of this night"):
        planned(tmp_path, frames, {}).only(names)


def test_only_a_target_that_fails_keeps_its_error(tmp_path: Path) -> None:
    frames = [dark("dark"), light("a", OBJECT="a"), light("b", 5.0, minute=40, OBJECT="b")]
    plan = planned(tmp_path, frames, {})
    assert [name for name, _ in plan.only(["b"]).failed] == ["b"]
    assert plan.only(["a"]).failed == ()


# Lamps, those that are named and those that fit


def lamps_of(plan: ar.Plan) -> dict[str, str]:
    return {
        target.name: ", ".join(lamp.text + lamp.slew for lamp in target.lamps)
        for target in plan.targets
    }


def test_a_named_lamp_of_another_grating_is_refused(tmp_path: Path) -> None:
    star = light("v-1", GRATING="1200", GRATANG=21.0)
    lamps = [frame("n-1", "Arc", minute=31, GRATING="600")]
    tables = {"targets": {"star": {"lamps": ["n-*"]}}}
    said = refused(tmp_path, [dark("dark"), star, *lamps], tables)
    assert "The lamp n-1 has a different grating or angle from star" in said


def test_lamps_of_other_exposures_are_each_a_lamp(tmp_path: Path) -> None:
    lamps = [frame("n-1", "Arc", minute=31), frame("n-2", "Arc", minute=32, exptime=1.0)]
    plan = planned(tmp_path, [dark("dark"), light("v-1"), *lamps], {})
    assert [lamp.name for lamp in plan.targets[0].lamps] == ["n-1", "n-2"]


def test_a_target_has_the_lamps_beside_it_and_the_plan_names_gap_and_slew(tmp_path: Path) -> None:
    frames = [
        dark("dark"),
        frame("n-1", "Arc", minute=10),
        light("v-1", minute=15, OBJECT="Vega"),
        frame("n-2", "Arc", minute=20),
        frame("n-3", "Arc", minute=22),
        light("d-1", minute=30, OBJECT="Deneb"),
        frame("n-4", "Arc", minute=40),
    ]
    plan = planned(tmp_path, frames, {})
    assert lamps_of(plan) == {
        "Vega": "n-1, 4 min before, n-2, 4 min after, n-3, 6 min after",
        "Deneb": "n-2, 9 min before, n-3, 7 min before, n-4, 9 min after",
    }
    assert not any("lamp" in warning for warning in plan.warnings)
    lines = plan_sections(ar.open_night(tmp_path), plan)["Targets"]
    told = [text for label, text in lines if label == "  arc"]
    assert told[:3] == ["n-1, 4 min before", "n-2, 4 min after", "1 more"]


@pytest.mark.parametrize(
    ("date", "told"),
    [
        ("2024-03-09T21:50:00", "n-1, 109 min before"),
        ("2024-03-10T20:10:00", "n-1, 24.1 h before, on another night"),
    ],
)
def test_a_far_lamp_is_warned_of_and_the_star_in_between_is_named(
    tmp_path: Path, date: str, told: str
) -> None:
    frames = [
        dark("dark"),
        frame("n-1", "Arc", minute=0),
        light("v-1", minute=30, OBJECT="Vega"),
        light("d-1", OBJECT="Deneb", DATE_OBS=date),
    ]
    plan = planned(tmp_path, frames, {})
    assert lamps_of(plan)["Deneb"] == f"{told.removesuffix(', on another night')} (Vega in between)"
    far = f"check: Deneb: its nearest arc frame is {told}: the spectrograph may have flexed"
    assert [warning for warning in plan.warnings if "arc frame" in warning] == [far]


def test_lamps_of_its_own_night_are_preferred(tmp_path: Path) -> None:
    frames = [
        dark("dark"),
        frame("n-0", "Arc", DATE_OBS="2024-03-08T23:59:00"),
        light("v-1", minute=30),
        frame("n-1", "Arc", minute=40),
    ]
    plan = planned(tmp_path, frames, {})
    assert lamps_of(plan) == {"star": "n-1, 9 min after"}


@pytest.mark.parametrize(
    "other", [{"shape": (5, 6)}, {"GRATING": "600"}, {"GRATANG": 25.0}, {"XBINNING": 2}]
)
def test_a_lamp_of_another_setting_is_not_used(tmp_path: Path, other: Tables) -> None:
    setting = {"GRATING": "1200", "GRATANG": 21.0, "XBINNING": 1}
    frames = [
        dark("dark"),
        light("v-1", **setting),
        frame("n-1", "Arc", minute=31, **setting),
        frame("n-2", "Arc", **{"minute": 32, **setting, **other}),
        frame("n-3", "Arc", minute=33, FILTER="B", **setting),
    ]
    plan = planned(tmp_path, frames, {})
    assert [lamp.name for lamp in plan.targets[0].lamps] == ["n-1", "n-3"]
    assert ("n-2", "of type arc, not used") in plan.left_out


def test_lamps_are_left_alone_where_no_wavelengths_are_wanted(tmp_path: Path) -> None:
    frames = [dark("dark"), light("v-1"), frame("n-1", "Arc", minute=31)]
    plan = planned(tmp_path, frames, {"recipe": {"wavelength": False}})
    assert plan.targets[0].lamps == ()
