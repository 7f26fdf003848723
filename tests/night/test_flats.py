"""Which flat serves which target, what corrects it, and which darks are made of others."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import arrayred as ar
from arrayred.errors import NoDarkError
from arrayred.io import write_frames
from arrayred.night import SyntheticDark
from arrayred.pipeline import make_master
from arrayred.simulate import SimulatedFrame

COUNTER = itertools.count()
LEVELS = {"bias": 500.0, "dark": 520.0, "flat": 20000.0, "light": 900.0}
OPTICS = {"GRATING": "1200", "GRATANG": 26.0, "FILTER": "V", "SLIT": "2"}


def frame(
    name: str, kind: str, exptime: float = 60.0, minute: int = 0, **cards: Any
) -> SimulatedFrame:
    """Return a noisy frame of a type at its usual level, without bias where CALSTAT says so."""
    rng = np.random.default_rng(next(COUNTER))
    level = cards.pop("level", LEVELS[kind] - 500.0 * ("B" in cards.get("CALSTAT", "")))
    shape = cards.pop("shape", (24, 40))
    known = {
        "DATE-OBS": f"2024-03-09T20:{minute:02}:00", "IMAGETYP": kind, "EXPTIME": exptime,
        "OBJECT": "star" if kind == "light" else "", **cards,
    }  # fmt: skip
    pixels = np.rint(rng.normal(level, 4 + 0.002 * level, shape)).astype(np.int32)
    return SimulatedFrame(f"{name}.fit", known, pixels)


def plan_of(folder: Path, *frames: SimulatedFrame, **recipe: Any) -> ar.Plan:
    write_frames(frames, folder)
    return ar.make_plan(ar.open_night(folder), ar.Recipe().replace(**recipe))


def night(**flat: Any) -> list[SimulatedFrame]:
    """Return a bias, a dark, a flat of 10 s and a light of one set of optics."""
    return [
        frame("b", "bias", 0.0), frame("d", "dark"),
        frame("f-1", "flat", minute=10, **{"exptime": 10.0, **OPTICS, **flat}),
        frame("l", "light", minute=30, **OPTICS),
    ]  # fmt: skip


def test_a_flat_serves_the_lights_of_its_optics(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, *night())
    (target,) = plan.targets
    assert target.flat is not None
    assert [group and group.key for group in target.flat.darks] == ["bias/bias"]
    assert target.calstat == "BDF"
    assert "master flat 1200_26.0_V_2: 1 frame" in str(plan)
    assert "flat 1200_26.0_V_2" in str(plan).splitlines()[-1]
    assert plan.warnings == (
        "star: the master dark is a single frame, whose noise remains in every light frame",
    )


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"GRATING": "600"}, "different optics"),
        ({"GRATANG": 27.0}, "different optics"),
        ({"FILTER": "R"}, "different optics"),
        ({"SLIT": "5"}, "different optics"),
        ({"XBINNING": 2, "YBINNING": 2}, "different binning"),
        ({"READOUTM": "Fast"}, "different readout"),
    ],
)
def test_a_flat_of_another_setup_serves_nobody_and_is_said(
    tmp_path: Path, other: dict[str, Any], why: str
) -> None:
    frames = night(**other, CALSTAT="BD")
    frames[-1].cards.update({"XBINNING": 1, "YBINNING": 1, "READOUTM": "Slow"})
    plan = plan_of(tmp_path, *frames)
    (target,) = plan.targets
    assert target.flat is None
    assert any("not divided by a flat" in text and why in text for text in target.remarks)
    assert dict(plan.left_out)["f-1"].startswith("of type flat, not used")


def test_of_several_the_nearest_in_time_is_taken(tmp_path: Path) -> None:
    far = frame("f-9", "flat", 10.0, **OPTICS)
    far.cards["DATE-OBS"] = "2024-03-06T20:00:00"
    (target,) = plan_of(tmp_path, *night(), far).targets
    assert target.flat is not None
    assert [f.label for f in target.flat.frames.frames] == ["f-1"]


def test_without_optics_one_kind_serves_with_a_remark_and_two_serve_nobody(tmp_path: Path) -> None:
    blank = dict.fromkeys(OPTICS, "")
    frames = [*night(**blank), frame("g-1", "flat", 10.0, 12)]
    frames[3].cards.update(blank)
    (one,) = plan_of(tmp_path / "one", *frames[:4]).targets
    (two,) = plan_of(tmp_path / "two", *frames).targets
    assert one.flat is not None
    assert any("cannot check that the flat" in text for text in one.remarks)
    assert two.flat is None
    assert any("shows which of f-1, g-1 to use" in text for text in two.remarks)


def test_flats_of_two_exposures_are_one_master_each_with_its_own_dark(tmp_path: Path) -> None:
    frames = [*night(), frame("f-2", "flat", 60.0, 12, **OPTICS)]
    (target,) = plan_of(tmp_path, *frames).targets
    assert target.flat is not None
    assert [group and group.key for group in target.flat.darks] == ["bias/bias", "dark/60s"]
    assert target.flat.calstat == "B"


def test_a_flat_without_dark_and_bias_is_refused_by_name(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, *night()[1:])
    assert plan.targets[0].flat is None
    assert dict(plan.left_out)["f-1"] == (
        "of type flat, not used: no matching dark of 10 s and no matching bias"
    )


@pytest.mark.parametrize(("level", "why"), [(500.0, "too faint"), (60000.0, "saturated")])
def test_a_flat_that_corrects_nothing_is_refused_by_name(
    tmp_path: Path, level: float, why: str
) -> None:
    frames = [*night(), frame("f-2", "flat", 10.0, 11, **OPTICS, level=level)]
    if why == "saturated":
        np.minimum(frames[-1].pixels, 60000, out=frames[-1].pixels)
    plan = plan_of(tmp_path, *frames)
    (target,) = plan.targets
    assert target.flat is not None
    assert [f.label for f in target.flat.frames.frames] == ["f-1"]
    assert why in dict(plan.left_out)["f-2"]


def test_no_flat_is_divided_by_when_none_is_wanted(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, *night(), flat=False)
    assert plan.targets[0].flat is None
    assert dict(plan.left_out)["f-1"] == "of type flat, not used"


# Bias and dark: (lights, darks, biases, exposure of the darks, scale_dark) -> what is subtracted
DARKS = [
    ("", "", True, 60.0, "no", "60s"),
    ("", "", False, 60.0, "no", "60s"),
    ("", "B", True, 60.0, "no", "60s_with_bias"),
    ("", "B", False, 60.0, "no", None),
    ("B", "", True, 60.0, "no", "60s_less_bias"),
    ("B", "", False, 60.0, "no", None),
    ("B", "B", False, 60.0, "no", "60s"),
    ("", "", True, 600.0, "no", None),
    ("", "", True, 600.0, "down", "60s_from_600s"),
    ("", "", False, 600.0, "down", None),
    ("", "B", True, 600.0, "down", "60s_from_600s_with_bias"),
    ("B", "", True, 600.0, "down", "60s_from_600s_less_bias"),
    ("B", "B", False, 600.0, "down", "60s_from_600s"),
    ("", "", True, 6.0, "down", None),
    ("", "", True, 6.0, "both", "60s_from_6s"),
]


@pytest.mark.parametrize(("light", "dark", "has_bias", "exptime", "scale", "name"), DARKS)
def test_what_a_light_gets_subtracted(
    tmp_path: Path,
    light: str,
    dark: str,
    has_bias: bool,
    exptime: float,
    scale: str,
    name: str | None,
) -> None:
    frames = [frame(f"d{i}", "dark", exptime, i, CALSTAT=dark) for i in range(2)]
    frames += [frame("b", "bias", 0.0)] if has_bias else []
    plan = plan_of(tmp_path, *frames, frame("l", "light", 60.0, 9, CALSTAT=light), scale_dark=scale)
    assert [type(problem) for problem in plan.problems] == ([NoDarkError] if name is None else [])
    assert [t.dark and t.dark.name for t in plan.targets] == ([] if name is None else [name])
    assert all(t.calstat == "BD" for t in plan.targets)
    told = [text for t in plan.targets for text in t.remarks if "scaled" in text]
    assert len(told) == (name is not None and "from" in name)


def test_a_bias_that_has_lost_itself_makes_no_dark(tmp_path: Path) -> None:
    frames = [frame("d", "dark", 600.0), frame("b", "bias", 0.0, CALSTAT="B")]
    plan = plan_of(tmp_path, *frames, frame("l", "light", 60.0, 9), scale_dark="down")
    assert [type(problem) for problem in plan.problems] == [NoDarkError]


@pytest.mark.parametrize("row", [row for row in DARKS if row[-1]], ids=lambda row: row[-1])
def test_the_dark_that_is_subtracted_is_bias_plus_scaled_current(tmp_path: Path, row: Any) -> None:
    light, dark, has_bias, exptime, scale, _ = row
    frames = [frame("d", "dark", exptime, CALSTAT=dark)]
    frames += [frame("b", "bias", 0.0)] if has_bias else []
    lights = frame("l", "light", 60.0, 9, CALSTAT=light)
    plan = plan_of(tmp_path, *frames, lights, scale_dark=scale)
    (master,) = plan.masters
    bias = frames[-1].pixels.astype(float) if has_bias else np.zeros((24, 40))
    current = frames[0].pixels - (bias if "B" not in dark else 0.0)
    expected = current * 60.0 / exptime + (bias if "B" not in light else 0.0)
    if not isinstance(master, SyntheticDark):
        expected = frames[0].pixels
    np.testing.assert_allclose(make_master(master, "median").counts, expected, rtol=0, atol=1e-9)


def test_electrons_without_a_gain_fail_the_target_by_name(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, *night(), units="electron")
    (problem,) = plan.problems
    assert "EGAIN" in str(problem)
    assert str(problem.path).endswith("l.fit")
