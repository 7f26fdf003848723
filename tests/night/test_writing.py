"""A night file written from what was understood is TOML, and read back leads to the same plan."""

from __future__ import annotations

import os
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import arrayred as ar
from arrayred.config import NightFile, toml_text
from arrayred.io import write_frames
from arrayred.night import night_file_text
from arrayred.simulate import Detector, SimulatedFrame, SimulatedNight
from tests.test_night import dark, frame, light

Essence = dict[str, Any]


def essence(plan: ar.Plan) -> Essence:
    """Return what a plan decides."""

    def labels(group: Any) -> list[str] | None:
        return group and [frame.label for frame in group.frames]

    def lamps(target: ar.Target) -> list[Any]:
        return [(lamp.text, labels(lamp.master)) for lamp in target.lamps]

    return {
        "masters": [(group.key, labels(group)) for group in plan.masters],
        "targets": [
            (t.name, labels(t.lights), labels(t.master), lamps(t), t.recipe, t.rows_from)
            for t in plan.targets
        ],
        "cards": [dict(target.cards) for target in plan.targets],
        "not used": sorted(plan.left_out),
        "failed": [name for name, _ in plan.failed],
        "problems": [str(problem) for problem in plan.problems],
    }


def and_back(folder: Path, path: Path, file: NightFile | None = None) -> tuple[Essence, Essence]:
    """Return a plan, and that of the night file that is written for it."""
    night = ar.open_night(folder, file)
    recipe = ar.Recipe().replace(**night.file.recipe)
    plan = ar.make_plan(night, recipe)
    path.parent.mkdir(exist_ok=True)
    path.write_text(night_file_text(night, plan, recipe, path), "utf-8")
    again = ar.open_night(folder, NightFile.from_toml(path))
    return essence(plan), essence(ar.make_plan(again))


NIGHTS = [
    "barber-2020-11-03/raw",
    "stonybrook-2017-10",
    "stonybrook-2017-10-by-its-observers",
    "toronto-2019-10",
    "formats/floyds",
    "formats/isis",
    "formats/webcam",
]


@pytest.mark.parametrize("name", NIGHTS)
def test_the_file_of_a_real_night_leads_to_the_same_plan(
    nights: Path, tmp_path: Path, name: str
) -> None:
    plan, again = and_back(nights / name, tmp_path / "night.toml")
    assert again == plan


@pytest.mark.parametrize("dialect", ["maxim", "nina", "observatory"])
def test_the_file_of_a_simulated_night_leads_to_the_same_plan(tmp_path: Path, dialect: Any) -> None:
    parts = {"n_biases": 2, "n_flats": 2, "n_arcs": 2, "prefix": "a b'\"-"}
    night = SimulatedNight(Detector(shape=(24, 30)), dialect=dialect, **parts)  # type: ignore[arg-type]
    write_frames(night.frames(), tmp_path / "night")
    plan, again = and_back(tmp_path / "night", tmp_path / "notes" / "n.toml")
    assert again == plan
    assert len(plan["targets"]) == 1


NAMES = {
    "quotes": "a\"b'c\\d",
    "unicode": "Зоря-é-星",
    "markup": "[x]{y}#=*?!",
    "blanks": "  a  b ",
    "dots": "a..b",
    "control": "a\x01b\x1b[31m\x7f",
    "newline": "a\nb\r\tc",
    "exotic": "a\u2028b\u202ec\x85d",
    "toml": "'''\"\"\"",
    "long": "x" * 200,
}


@pytest.mark.skipif(sys.platform == "win32", reason="such names cannot be there")
@pytest.mark.parametrize("case", NAMES)
def test_odd_names_come_back(tmp_path: Path, case: str) -> None:
    name = NAMES[case]
    frames = [
        dark(f"{name}-d"),
        *(light(f"{name}-{i}", minute=30 + i, OBJECT=None) for i in (1, 2)),
        light(f"other{name}-1", minute=40, OBJECT=None),
        frame(f"{name}-lamp-1", "Light Frame", minute=50),
    ]
    write_frames(frames, tmp_path / "night")
    plan, again = and_back(tmp_path / "night", tmp_path / "n.toml")
    assert again == plan
    assert sorted(len(labels) for _, labels, *_ in plan["targets"]) == [1, 2]


@pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")
@pytest.mark.parametrize("name", [b"\xff\xfe-", b"a\xc3(b-", b"\xed\xa0\x80-"])
def test_names_that_are_no_text_come_back(tmp_path: Path, name: bytes) -> None:
    write_frames([dark("d"), light("x1", minute=31), light("x2", minute=32)], tmp_path / "night")
    for i in (1, 2):
        odd = os.fsencode(tmp_path / "night") + b"/" + name + str(i).encode() + b".fit"
        os.rename(tmp_path / "night" / f"x{i}.fit", odd)
    plan, again = and_back(tmp_path / "night", tmp_path / "n.toml")
    assert again == plan


@pytest.mark.parametrize(
    "object_", ["59 Cyg (SAO 50335)", 'say "x"', "a'b\\c", "#=[]", "x" * 66, "CON", ".."]
)
def test_odd_objects_come_back(tmp_path: Path, object_: str) -> None:
    exposures = (60.0, 5.0)
    frames = [dark(f"d{e:g}", e) for e in exposures]
    lights = [light(f"l{e:g}", e, minute=30, OBJECT="x") for e in exposures]
    named = [replace(f, cards={**f.cards, "OBJECT": object_}) for f in lights]
    write_frames([*frames, *named], tmp_path / "night")
    plan, again = and_back(tmp_path / "night", tmp_path / "n.toml")
    assert again == plan
    assert len(plan["targets"]) == 2


def several(folder: Path) -> Path:
    frames = [
        *(dark(f"d-{i}", minute=i) for i in (1, 2)),
        *(light(f"v-{i}", minute=30 + i, OBJECT="Vega") for i in (1, 2, 3)),
        *(light(f"w-{i}", minute=40 + i, OBJECT="Deneb") for i in (1, 2)),
        frame("neon", "Arc", minute=45),
        light("odd", 5.0, minute=50, OBJECT="odd"),
    ]
    write_frames(frames, folder / "night")
    write_frames([dark("far", 5.0)], folder / "library")
    (folder / "cam.toml").write_text('[types]\narc = ["quux"]\n')
    return folder / "night"


EVERYTHING: dict[str, Any] = {
    "frames": "[vwo]*",
    "exclude": ["v-3"],
    "types": {"arc": ["w-2"]},
    "recipe": {"combine": "median", "background_rows": [2, 4], "dark_tolerance": 1},
    "cards": {"OBSERVER": 'Me "and" you', "DATE-X": 5, "LINES": 1200.5, "SLIT-W": "1e5"},
    "targets": {
        "alf Lyr": {
            "frames": ["v-1..2"],
            "lamps": ["neon", "w-2"],
            "n_sigma": 3,
            "sky_rows": [1, 2],
            "object": "Vega",
            "grating": "0600",
            "cards": {"FILTER": "", "N": 3},
        },
        "Deneb": {"rows_from": "alf Lyr", "sky": False, "output_dtype": "float64"},
    },
}


@pytest.mark.parametrize("where", [".", "notes"])
def test_what_a_night_file_said_before_is_said_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = several(tmp_path)
    (tmp_path / where).mkdir(exist_ok=True)
    paths = {"instrument": "cam.toml", "calibrations": ["library"]}
    file = NightFile.from_tables({**EVERYTHING, **paths})
    plan, again = and_back(folder, tmp_path / where / "n.toml", file)
    assert again == plan
    assert [name for name, *_ in plan["targets"]] == ["alf_Lyr", "Deneb", "odd"]
    back = NightFile.from_toml(tmp_path / where / "n.toml")
    assert back.cards == file.cards
    assert Path(back.instrument).samefile(file.instrument)
    assert [c.resolve() for c in back.calibrations] == [tmp_path / "library"]


def test_a_master_that_was_named_is_named_again(tmp_path: Path) -> None:
    folder = several(tmp_path)
    file = NightFile(masters={"dark": folder / "d-2.fit"})
    plan, again = and_back(folder, tmp_path / "n.toml", file)
    assert again == plan
    assert plan["masters"] == [("dark/60s", ["d-2"])]


def test_the_file_of_the_file_is_the_file(tmp_path: Path) -> None:
    folder, path = several(tmp_path), tmp_path / "n.toml"
    and_back(folder, path)
    first = path.read_text()
    night = ar.open_night(folder, NightFile.from_toml(path))
    assert night_file_text(night, ar.make_plan(night), ar.Recipe(), path) == first


@given(st.text())
def test_any_text_is_toml(text: str) -> None:
    readable = text.encode("utf-8", "replace").decode().replace("\x7f", "?")
    assert tomllib.loads(f"x = {toml_text(text)}") == {"x": readable}
    assert tomllib.loads(f"[{toml_text(text)}]") == {readable: {}}


@given(
    st.recursive(
        st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        lambda values: st.lists(values, max_size=3),
    )
)
def test_any_number_or_list_is_toml(value: object) -> None:
    assert tomllib.loads(f"x = {toml_text(value)}")["x"] == value
    assert type(tomllib.loads(f"x = {toml_text(value)}")["x"]) is type(value)


def test_a_frame_is_commented_on_where_it_is_left_out(tmp_path: Path) -> None:
    frames: list[SimulatedFrame] = [dark("d"), light("v"), frame("a\nb", "Comp", shape=(9, 9))]
    write_frames(frames, tmp_path / "night")
    and_back(tmp_path / "night", tmp_path / "n.toml")
    assert "# not used: a\\nb: of type arc, not used\n" in (tmp_path / "n.toml").read_text()
