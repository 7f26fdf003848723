"""What belongs together in a night and what serves what, decided from headers of written frames."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arrayred as ar
from arrayred.errors import InputError, NightError, NoDarkError
from arrayred.io import write_frames
from arrayred.night import slug
from arrayred.simulate import SimulatedFrame, SimulatedNight

LEVELS = itertools.count()
"""A level for each frame, so that no two are the same."""


def frame(
    name: str,
    kind: str | None,
    exptime: float | None = 60.0,
    minute: int = 0,
    shape: tuple[int, int] = (4, 6),
    **cards: Any,
) -> SimulatedFrame:
    """Return a frame that began at a minute past 20:00; a card of None is left out."""
    all_cards = {
        "DATE-OBS": f"2024-03-09T20:{minute:02}:00",
        "IMAGETYP": kind,
        "EXPTIME": exptime,
        **{keyword.replace("_", "-"): value for keyword, value in cards.items()},
    }
    present = {keyword: value for keyword, value in all_cards.items() if value is not None}
    return SimulatedFrame(f"{name}.fit", present, np.full(shape, next(LEVELS), np.uint16))


def dark(name: str, exptime: float = 60.0, minute: int = 0, **cards: Any) -> SimulatedFrame:
    return frame(name, "Dark Frame", exptime, minute, **cards)


def light(name: str, exptime: float = 60.0, minute: int = 30, **cards: Any) -> SimulatedFrame:
    return frame(name, "Light Frame", exptime, minute, **{"OBJECT": "star", **cards})


def plan_of(folder: Path, *frames: SimulatedFrame, **recipe: Any) -> ar.Plan:
    write_frames(frames, folder)
    return ar.make_plan(ar.open_night(folder), ar.Recipe().replace(**recipe))


def labels(frames: tuple[Any, ...]) -> list[str]:
    return [frame.label for frame in frames]


def test_a_simulated_night_is_one_target_with_its_dark(night: Path) -> None:
    plan = ar.make_plan(ar.open_night(night))
    assert [(g.name, len(g.frames), g.exptime) for g in plan.masters] == [("600s", 5, 600.0)]
    (target,) = plan.targets
    assert (target.name, target.dark) == ("Simulated_star", plan.masters[0])
    assert labels(target.lights.frames) == ["light-001", "light-002", "light-003"]
    assert (plan.left_out, plan.problems) == ((), ())


@pytest.mark.parametrize(
    ("of_light", "of_dark", "tolerance", "matched"),
    [
        (60.0, 60.0, 0.5, True),
        (60.0, 60.5, 0.5, True),
        (60.5, 60.0, 0.5, True),
        (60.0, 60.51, 0.5, False),
        (60.51, 60.0, 0.5, False),
        (0.1, 0.6, 0.5, True),
        (60.0, 600.0, 0.5, False),
        (60.0, 61.0, 1.0, True),
        (60.0, 60.25, 0.0, False),
        (60.0, 60.0, 0.0, True),
    ],
)
def test_a_dark_within_the_tolerance_inclusive_is_matched(
    tmp_path: Path, of_light: float, of_dark: float, tolerance: float, matched: bool
) -> None:
    plan = plan_of(tmp_path, dark("d", of_dark), light("l", of_light), dark_tolerance=tolerance)
    assert [type(problem) for problem in plan.problems] == ([] if matched else [NoDarkError])
    assert [labels(target.dark.frames) for target in plan.targets if target.dark] == (
        [["d"]] if matched else []
    )


def test_a_missing_dark_is_said_with_what_is_there(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, dark("d1", 600.0), dark("d2", 600.0), light("ne-13", 60.0))
    (problem,) = plan.problems
    assert problem.path == str(tmp_path / "ne-13.fit")
    assert problem.value == 60.0
    for words in ("0.5 s", "60 s", "2 x 600 s", "--scale-dark"):
        assert words in str(problem)


@pytest.mark.parametrize(
    ("exposures", "taken"),
    [((59.8, 60.1), 60.1), ((60.1, 59.8), 60.1), ((60.4, 59.7), 59.7), ((59.5, 60.5), 59.5)],
)
def test_the_nearest_dark_wins(
    tmp_path: Path, exposures: tuple[float, float], taken: float
) -> None:
    plan = plan_of(tmp_path, *(dark(f"d{i}", e, i) for i, e in enumerate(exposures)), light("l"))
    (target,) = plan.targets
    assert target.dark is not None
    assert target.dark.exptime == taken


@pytest.mark.parametrize("first", [59.5, 60.5])
@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_on_a_tie_the_first_in_canonical_order_wins(
    tmp_path: Path, first: float, names: tuple[str, str]
) -> None:
    darks = [dark(names[0], first, minute=1), dark(names[1], 120 - first, minute=2)]
    (target,) = plan_of(tmp_path, *darks, light("l")).targets
    assert target.dark is not None
    assert target.dark.exptime == first


@pytest.mark.parametrize(
    "other",
    [
        {"shape": (4, 7)},
        {"shape": (6, 4)},
        {"XBINNING": 2, "YBINNING": 2},
        {"XBINNING": 1, "YBINNING": 2},
        {"XORGSUBF": 8, "YORGSUBF": 0},
        {"READOUTM": "Fast"},
    ],
)
def test_a_dark_of_other_pixels_is_not_matched(tmp_path: Path, other: dict[str, Any]) -> None:
    same = {"XBINNING": 1, "YBINNING": 1, "XORGSUBF": 0, "YORGSUBF": 0, "READOUTM": "Slow"}
    plan = plan_of(tmp_path, dark("d", **{**same, **other}), light("l", **same))
    assert [type(problem) for problem in plan.problems] == [NoDarkError]
    assert plan.targets == ()


def test_a_dark_that_does_not_know_its_setup_is_matched(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, dark("d"), light("l", XBINNING=1, YBINNING=1))
    assert plan.problems == ()


def test_targets_are_those_of_the_object_cards_in_order_of_time(tmp_path: Path) -> None:
    frames = [
        light("c", minute=30, OBJECT="59 Cyg (SAO 50335)"),
        light("a", minute=40, OBJECT="HR 8047"),
        light("b", minute=50, OBJECT="59 Cyg (SAO 50335)"),
        light("y", minute=35, OBJECT=None),
        light("z", minute=25, OBJECT=None),
    ]
    plan = plan_of(tmp_path, dark("d"), *frames)
    assert {target.name: labels(target.lights.frames) for target in plan.targets} == {
        "59_Cyg_SAO_50335": ["c", "b"],
        "HR_8047": ["a"],
        "y": ["y"],
        "z": ["z"],
    }
    in_order = [target.name for target in plan.targets]
    assert in_order == ["z", "59_Cyg_SAO_50335", "y", "HR_8047"]


def test_blank_objects_are_parted_by_stem_and_numbering(tmp_path: Path) -> None:
    names = ["hr8047-9", "hr8047-10", "hr8047-11", "hr8047-13", "hr8047-14", "ne-15", "moon"]
    frames = [light(name, minute=30 + i, OBJECT=None) for i, name in enumerate(names)]
    plan = plan_of(tmp_path, dark("d"), *frames)
    assert {target.name: labels(target.lights.frames) for target in plan.targets} == {
        "hr8047-9-11": ["hr8047-9", "hr8047-10", "hr8047-11"],
        "hr8047-13-14": ["hr8047-13", "hr8047-14"],
        "ne-15": ["ne-15"],
        "moon": ["moon"],
    }


def test_the_numbering_decides_whatever_the_order_of_time(tmp_path: Path) -> None:
    frames = [light(f"s-{i:02}", minute=59 - i, OBJECT="  ") for i in (8, 9, 10)]
    (target,) = plan_of(tmp_path, dark("d"), *frames).targets
    assert labels(target.lights.frames) == ["s-10", "s-09", "s-08"]


@pytest.mark.parametrize(("name", "parted"), [("star", False), (None, True)])
def test_a_lamp_between_parts_only_lights_without_a_name(
    tmp_path: Path, name: str | None, parted: bool
) -> None:
    lights = [light(f"l-{i}", minute=10 * i, OBJECT=name) for i in (1, 2, 3)]
    neon = light("neon-lamp", minute=25, OBJECT=None)
    plan = plan_of(tmp_path, dark("d"), *lights, neon)
    found = [labels(target.lights.frames) for target in plan.targets]
    assert found == ([["l-1", "l-2"], ["l-3"]] if parted else [["l-1", "l-2", "l-3"]])


@pytest.mark.parametrize(
    "cards",
    [
        {"exptime": 61.0},
        {"shape": (5, 6)},
        {"GRATING": "600"},
        {"FILTER": "R"},
        {"XBINNING": 2, "YBINNING": 2},
        {"CALSTAT": "D"},
    ],
)
@pytest.mark.parametrize("name", ["star", None])
def test_lights_that_are_not_alike_are_two_groups(
    tmp_path: Path, cards: dict[str, Any], name: str | None
) -> None:
    plan = plan_of(
        tmp_path,
        dark("d"),
        dark("e", **{key: value for key, value in cards.items() if key != "CALSTAT"}),
        light("l-1", OBJECT=name),
        light("l-2", minute=31, **{"OBJECT": name, **cards}),
    )
    assert [labels(target.lights.frames) for target in plan.targets] == [["l-1"], ["l-2"]]
    assert len({target.name for target in plan.targets}) == 2


@pytest.mark.parametrize(
    ("exposures", "groups"),
    [
        ((60.0, 60.05), [2]),
        ((60.0, 60.1), [1, 1]),
        ((0.1, 0.105), [2]),
        ((0.1, 0.12), [1, 1]),
        ((600.0, 600.5, 601.0), [2, 1]),
    ],
)
def test_exposures_within_a_thousandth_are_one_group(
    tmp_path: Path, exposures: tuple[float, ...], groups: list[int]
) -> None:
    darks = [dark(f"d{i}", e, i) for i, e in enumerate(exposures)]
    lights = [light(f"l{i}", e, OBJECT=f"o{i}") for i, e in enumerate(exposures)]
    plan = plan_of(tmp_path, *darks, *lights, dark_tolerance=0.3)
    assert [len(group.frames) for group in plan.masters] == groups


def test_master_darks_are_named_by_the_shortest_that_is_unique(tmp_path: Path) -> None:
    binned = {"XBINNING": 2, "YBINNING": 2}
    plain = {"XBINNING": 1, "YBINNING": 1}
    darks = [dark("a", 600.0, 1, **plain), dark("b", 60.0, 2, **plain), dark("c", 0.5, 3, **plain)]
    lights = [light(f"l{d.name}", d.cards["EXPTIME"], OBJECT=d.name, **plain) for d in darks]
    more = [dark("d", 60.0, 4, **binned), light("m", 60.0, OBJECT="m", **binned)]
    plan = plan_of(tmp_path, *darks, *lights, *more)
    assert [group.name for group in plan.masters] == ["600s", "60s_1x1", "0.5s", "60s_2x2"]
    assert plan.problems == ()


def test_unknown_types_are_left_out_with_the_reason(tmp_path: Path) -> None:
    odd = [
        frame("odd", "Tricolor Image", exptime=None),
        frame("flat", "Flat Field", exptime=None),
        frame("arc", "comp", 1.0, shape=(9, 9)),
        dark("spare", 5.0),
        dark("done", CALSTAT="BD"),
    ]
    plan = plan_of(tmp_path, dark("d"), light("l"), *odd)
    reasons = dict(plan.left_out)
    assert set(reasons) == {"odd", "flat", "arc", "spare", "done"}
    for label, word in [("odd", "'Tricolor Image'"), ("flat", "flat"), ("arc", "arc")]:
        assert word in reasons[label]
    assert "no light frame needs" in reasons["spare"]
    assert "CALSTAT='BD'" in reasons["done"]
    assert plan.problems == ()


def test_lights_already_dark_subtracted_need_no_dark(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, light("l", CALSTAT="BD"))
    assert [target.dark for target in plan.targets] == [None]
    assert plan.problems == ()


def test_a_frame_without_a_type_is_a_problem(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, dark("d"), light("l"), frame("what", None), frame("blank", "  "))
    assert sorted((error.keyword, error.path) for _, error in plan.failed) == [
        ("IMAGETYP", str(tmp_path / "blank.fit")),
        ("IMAGETYP", str(tmp_path / "what.fit")),
    ]


@pytest.mark.parametrize(
    ("kind", "exptime"),
    [
        *(("Light Frame", wrong) for wrong in (None, "long", -1.0, True, 0.0)),
        *(("Dark Frame", wrong) for wrong in (None, "long", -1.0, True)),
    ],
)
def test_a_needed_frame_without_an_exposure_is_a_problem(
    tmp_path: Path, kind: str, exptime: Any
) -> None:
    plan = plan_of(tmp_path, dark("d"), light("l"), frame("odd", kind, exptime, OBJECT="o"))
    ((_, problem),) = plan.failed
    assert isinstance(problem, InputError)
    assert (problem.keyword, problem.path) == ("EXPTIME", str(tmp_path / "odd.fit"))
    assert [target.name for target in plan.targets] == ["star"]


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    write_frames(
        [
            dark("d", 600.0),
            light("short", 60.0, OBJECT="a"),
            light("long", 1200.0, OBJECT="b"),
            light("blind", None, OBJECT="c"),  # type: ignore[arg-type]
            frame("what", None),
        ],
        tmp_path,
    )
    (tmp_path / "cut.fit").write_bytes((tmp_path / "d.fit").read_bytes()[:2900])
    with pytest.raises(NightError) as caught:
        ar.reduce_night(tmp_path)
    told = {Path(str(problem.path)).name for problem in caught.value.problems}
    assert told == {"short.fit", "long.fit", "blind.fit", "what.fit", "cut.fit"}
    assert all(name in str(caught.value) for name in told)


@pytest.mark.parametrize("frames", [[dark("d")], [frame("f", "flat")]])
def test_a_night_without_lights_is_a_problem(tmp_path: Path, frames: list[SimulatedFrame]) -> None:
    (problem,) = plan_of(tmp_path, *frames).problems
    assert "No light (science) frames" in str(problem)


def test_products_are_ignored(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, dark("d"), light("l"), light("made", ARVERSN="0.1"))
    assert [labels(target.lights.frames) for target in plan.targets] == [["l"]]
    assert [label for label, _ in plan.left_out] == ["made"]
    assert "not a raw frame" in dict(plan.left_out)["made"]


def test_files_that_are_no_frames_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("clouds")
    (tmp_path / "fake.fit").write_text("no frame at all".ljust(5000))
    (tmp_path / ".hidden.fit").write_text("resource fork")
    plan = plan_of(tmp_path, dark("d"), light("l"))
    assert [Path(label).name for label, _ in plan.left_out] == ["fake.fit"]
    assert plan.problems == ()


def test_folders_are_searched_three_deep_and_labels_are_unique(night: Path) -> None:
    for folder in ("a", "a/b", "a/b/c"):
        (night / folder).mkdir()
        shutil.copy(night / "light-001.fit", night / folder)
    found = labels(ar.open_night(night).frames)
    assert {"light-001", "a/light-001", "a/b/light-001"} <= set(found)
    assert len(set(found)) == len(found) == 10


def test_a_pattern_chooses_lights_and_leaves_darks(night: Path) -> None:
    opened = ar.open_night(night, ar.NightFile(frames="*-002*"))
    kinds = [frame.frame_type for frame in opened.frames]
    assert (kinds.count("dark"), kinds.count("light"), len(opened.left_out)) == (5, 1, 2)
    (problem,) = ar.make_plan(ar.open_night(night, ar.NightFile(frames="moon*"))).problems
    assert "'moon*'" in str(problem)


@pytest.mark.parametrize("name", ["missing", "light-001.fit"])
def test_a_folder_that_is_none_is_said(night: Path, name: str) -> None:
    with pytest.raises(InputError, match=name):
        ar.open_night(night / name)


def test_frames_come_by_time_then_name_and_those_without_time_last(tmp_path: Path) -> None:
    frames = [
        light("z", minute=1),
        light("y", minute=0),
        light("b", minute=5),
        light("a", minute=5),
        light("c", DATE_OBS=None),
    ]
    write_frames(frames, tmp_path)
    assert labels(ar.open_night(tmp_path).frames) == ["y", "z", "a", "b", "c"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("59 Cyg (SAO 50335)", "59_Cyg_SAO_50335"),
        ("../../etc/x", "etc_x"),
        ("BD+30 3639", "BD+30_3639"),
        ("CON", "CON_"),
        ("nul", "nul_"),
        ("com1", "com1_"),
        ("...", "target"),
        ("", "target"),
        ("星", "target"),
        ("Lyræ é", "Lyr_e"),
        ("a\x00b\nc", "a_b_c"),
        ("x" * 300, "x" * 60),
    ],
)
def test_names_are_safe_and_readable(text: str, name: str) -> None:
    assert slug(text) == name


PORTS = {f"{port}{i}" for port in ("com", "lpt") for i in "123456789"}
RESERVED = {"con", "prn", "aux", "nul"} | PORTS
SUFFIXES = ["", ".x", ".tar.gz"]


@settings(max_examples=300, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=()))
    | st.text("./\\ _-+aCON1", max_size=80)
    | st.tuples(st.sampled_from(sorted(RESERVED)), st.sampled_from(SUFFIXES)).map("".join)
)
def test_any_text_becomes_a_safe_file_name(text: str) -> None:
    name = slug(text)
    assert re.fullmatch(r"[A-Za-z0-9._+-]{1,61}", name)
    assert not name.startswith((".", "-"))
    assert not name.endswith(".")
    assert name.partition(".")[0].lower() not in RESERVED


@pytest.mark.parametrize("objects", [("a b", "a_b", "a/b"), ("?", "??", "???"), ("a", "a_2", "a ")])
def test_targets_that_would_share_a_name_are_told_apart(
    tmp_path: Path, objects: tuple[str, ...]
) -> None:
    lights = [light(f"l-{i}", 60.0 + i, OBJECT=name) for i, name in enumerate(objects)]
    plan = plan_of(tmp_path, dark("d"), *lights, dark_tolerance=9)
    assert len({target.name for target in plan.targets}) == len(plan.targets) == 3


@pytest.mark.parametrize(("limit", "n_problems"), [(1.0, 0), (0.99, 2)])
def test_frames_larger_than_allowed_are_problems(
    tmp_path: Path, limit: float, n_problems: int
) -> None:
    megabyte = {"shape": (500, 1000)}
    plan = plan_of(tmp_path, dark("d", **megabyte), light("l", **megabyte), max_frame_mb=limit)
    assert len(plan.problems) == n_problems
    assert all("max_frame_mb" in str(problem) for problem in plan.problems)


def test_what_is_odd_but_no_obstacle_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "fake.fit").write_text("no frame at all".ljust(5000))
    textual = frame("t", "Light Frame", minute=31, OBJECT="star", EXPTIME="60.0")
    plan = plan_of(tmp_path, dark("d"), light("l"), textual, frame("odd", "Tricolor Image"))
    assert plan.problems == ()
    assert [labels(target.lights.frames) for target in plan.targets] == [["l", "t"]]
    for words in ("fake.fit", "odd: ", "'Tricolor Image'", "t: EXPTIME is the string '60.0'"):
        assert any(words in warning for warning in plan.warnings)
    assert plan.warnings[3:] == tuple(f"star: {remark}" for remark in plan.targets[0].remarks)


def test_a_plan_reads_as_text(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        dark("d1", 600.0, 0),
        dark("d2", 600.0, 1),
        light("s-1", 600.0, OBJECT="59 Cyg"),
        light("r", 600.0, 40, OBJECT="done", CALSTAT="D"),
        light("n-13", 60.0, 50, OBJECT="Nunki"),
        frame("odd", "Tricolor Image"),
    )
    lines = str(plan).splitlines()
    assert lines[:4] == [
        "master dark 600s: 2 frames of 600 s",
        "target 59_Cyg: 1 frame of 600 s, dark 600s",
        "target done: 1 frame of 600 s, dark already subtracted",
        "target Nunki cannot be reduced",
    ]
    assert lines[4:] == ["not used: odd: the frame type 'Tricolor Image' is unknown"]
    assert "1 x 60 s" in str(dict(plan.failed)["Nunki"])


def test_the_plan_does_not_depend_on_the_order_of_writing(
    simulated: SimulatedNight, tmp_path: Path
) -> None:
    frames = list(simulated.frames())
    one, two = plan_of(tmp_path / "one", *frames), plan_of(tmp_path / "two", *frames[::-1])
    assert str(one) == str(two)
