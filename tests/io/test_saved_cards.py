"""Answers given at a prompt come back from their file as they were, or the file is named."""

from __future__ import annotations

import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arrayred.errors import UsageError
from arrayred.io import CARDS_FILE, SavedCards, Value, load_saved_cards, write_saved_cards

KEYWORDS = st.from_regex(r"[A-Z][A-Z0-9_-]{0,4}", fullmatch=True).map("AR{}".format)
TEXTS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=90)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
CARDS = st.dictionaries(KEYWORDS, TEXTS | NUMBERS | st.booleans(), max_size=5)
TARGETS = st.dictionaries(TEXTS, CARDS, max_size=4)


def typed(cards: dict[str, Value]) -> list[tuple[str, str, str]]:
    """Return cards so that 1, 1.0 and True differ."""
    return [(keyword, type(value).__name__, repr(value)) for keyword, value in cards.items()]


@settings(deadline=None, max_examples=80)
@given(cards=CARDS, targets=TARGETS)
def test_every_answer_comes_back_as_it_was(
    cards: dict[str, Value], targets: dict[str, dict[str, Value]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_saved_cards(Path(folder), SavedCards(cards, targets))
        found = load_saved_cards(Path(folder))
    assert typed(dict(found.cards)) == typed(cards)
    assert list(found.targets) == list(targets)
    assert [typed(dict(own)) for own in found.targets.values()] == [
        typed(own) for own in targets.values()
    ]


@settings(deadline=None, max_examples=50)
@given(cards=CARDS, targets=TARGETS)
def test_the_file_is_toml_with_a_table_for_all_and_one_for_each_target(
    cards: dict[str, Value], targets: dict[str, dict[str, Value]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        write_saved_cards(Path(folder), SavedCards(cards, targets))
        text = (Path(folder) / CARDS_FILE).read_text("ascii")
    expected = {"cards": cards} | ({"targets": targets} if targets else {})
    assert tomllib.loads(text) == expected
    assert text.startswith("# ")


def test_without_a_file_or_a_folder_there_are_no_answers(tmp_path: Path) -> None:
    assert load_saved_cards(tmp_path) == load_saved_cards(tmp_path / "nowhere") == SavedCards()


@pytest.mark.parametrize(
    ("cards", "targets", "expected"),
    [
        ({}, {}, {}),
        ({"GRATING": "600"}, {}, {"GRATING": "600"}),
        ({"GRATING": "600"}, {"a": {"OBJECT": "A"}}, {"GRATING": "600", "OBJECT": "A"}),
        ({"GRATING": "600"}, {"a": {"GRATING": "1200"}}, {"GRATING": "1200"}),
        ({"GRATING": "600"}, {"b": {"GRATING": "1200"}}, {"GRATING": "600"}),
        ({"GRATING": "600"}, {"A": {"GRATING": "1200"}}, {"GRATING": "600"}),
    ],
)
def test_a_targets_own_cards_go_before_those_of_all(
    cards: dict[str, Value], targets: dict[str, dict[str, Value]], expected: dict[str, Value]
) -> None:
    assert SavedCards(cards, targets).cards_of("a") == expected


def test_an_object_is_its_targets_and_any_other_card_is_for_all() -> None:
    before = SavedCards({"GRATING": "600"}, {"a": {"OBJECT": "A"}})
    after = before.with_cards("b", "OBJECT", "B").with_cards("b", "GRATANG", 26.0)
    assert after.cards_of("a") == {"GRATING": "600", "GRATANG": 26.0, "OBJECT": "A"}
    assert after.cards_of("b") == {"GRATING": "600", "GRATANG": 26.0, "OBJECT": "B"}
    assert before == SavedCards({"GRATING": "600"}, {"a": {"OBJECT": "A"}})


def test_a_further_answer_replaces_the_former() -> None:
    answers = SavedCards().with_cards("a", "OBJECT", "A").with_cards("a", "OBJECT", "B")
    answers = answers.with_cards("a", "SLIT", 1).with_cards("b", "SLIT", 2)
    assert answers == SavedCards({"SLIT": 2}, {"a": {"OBJECT": "B"}})


def test_saving_again_replaces_the_file_and_the_same_answers_leave_it_alone(tmp_path: Path) -> None:
    write_saved_cards(tmp_path, SavedCards({"SLIT": 1}))
    write_saved_cards(tmp_path, SavedCards({"SLIT": 2}))
    before = (tmp_path / CARDS_FILE).stat()
    write_saved_cards(tmp_path, load_saved_cards(tmp_path))
    assert (tmp_path / CARDS_FILE).stat() == before
    assert load_saved_cards(tmp_path) == SavedCards({"SLIT": 2})
    assert [path.name for path in tmp_path.iterdir()] == [CARDS_FILE]


def test_an_angle_written_by_hand_is_read_as_degrees(tmp_path: Path) -> None:
    (tmp_path / CARDS_FILE).write_text('[cards]\nGRATANG = "26.0 degrees"\n')
    assert load_saved_cards(tmp_path).cards == {"GRATANG": 26.0}


def test_either_table_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / CARDS_FILE).write_text('targets.a.OBJECT = "A"\n')
    assert load_saved_cards(tmp_path) == SavedCards({}, {"a": {"OBJECT": "A"}})
    (tmp_path / CARDS_FILE).write_text("")
    assert load_saved_cards(tmp_path) == SavedCards()


DAMAGED = {
    "truncated": b"[cards",
    "no text": b"[cards]\nOBJECT = '\xff\xfe'\n",
    "zeros": b"\0" * 100,
    "twice": b"[cards]\nA = 1\nA = 2\n",
    "cards a number": b"cards = 7\n",
    "cards a list": b"[[cards]]\nA = 1\n",
    "targets a text": b"targets = 'x'\n",
    "target a number": b"[targets]\na = 7\n",
    "a list": b"[cards]\nOBJECT = ['A', 'B']\n",
    "a table": b"[cards.OBJECT]\nname = 'A'\n",
    "a date": b"[cards]\nDATE = 2024-03-09\n",
    "a time": b"[targets.a]\nUT = 19:30:00\n",
    "not finite": b"[cards]\nSLIT = inf\n",
    "a long number": b"[cards]\nSLIT = 1" + b"0" * 80 + b"\n",
    "no keyword": b"[cards]\nobject = 'A'\n",
    "an unknown table": b"[card]\nOBJECT = 'A'\n",
    "no header's text": "[cards]\nOBJECT = 'Mitä'\n".encode(),
    "a line break": b'[cards]\nOBJECT = "A\\nEND"\n',
    "a structural card": b"[cards]\nNAXIS = 3\n",
    "not an angle": b"[cards]\nGRATANG = 'steep'\n",
    "no angle for a target": b"[targets.a]\nGRATANG = 'steep'\n",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_file_that_is_no_table_of_cards_is_named_with_what_to_do(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / CARDS_FILE).write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_saved_cards(tmp_path)
    assert caught.value.path == str(tmp_path / CARDS_FILE)
    assert caught.value.hint
    assert (tmp_path / CARDS_FILE).read_bytes() == content
