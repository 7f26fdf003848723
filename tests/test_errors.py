"""Errors carry their facts, print as one harmless line, and travel between processes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrayred import errors
from arrayred.errors import ArrayredError, HeaderError, NightError, NoDarkError, printable


def family(error: type[ArrayredError]) -> list[type[ArrayredError]]:
    return [error, *(child for sub in error.__subclasses__() for child in family(sub))]


PLAIN = [error for error in family(ArrayredError) if error is not NightError]
ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize("error", PLAIN, ids=lambda error: error.__name__)
def test_every_error_survives_pickling_with_its_facts(error: type[ArrayredError]) -> None:
    raised = error("It is odd.", path=Path("a/b.fit"), keyword="EXPTIME", value=(1, 2), hint="Go.")
    copy = pickle.loads(pickle.dumps(raised))
    assert type(copy) is error
    facts = (copy.args, copy.path, copy.keyword, copy.value, copy.hint)
    assert facts == (("It is odd.",), str(Path("a/b.fit")), "EXPTIME", (1, 2), "Go.")
    assert str(copy) == str(raised)


def test_facts_added_later_survive_pickling() -> None:
    error = HeaderError("EXPTIME is missing", keyword="EXPTIME")
    error.path = "late.fit"
    assert pickle.loads(pickle.dumps(error)).path == "late.fit"


@pytest.mark.parametrize("error", family(ArrayredError), ids=lambda error: error.__name__)
def test_every_error_stands_in_the_tree_with_its_exit_code(error: type[ArrayredError]) -> None:
    assert errors.__doc__
    assert error.__name__ in errors.__doc__
    codes = {"UsageError": 2, "InputError": 4, "StorageError": 5, "ArrayredError": 1}
    codes |= {"LockedError": 6, "ResourceError": 7}
    parent = next(ancestor for ancestor in error.__mro__ if ancestor.__name__ in codes)
    assert error.exit_code == codes[parent.__name__]


@pytest.mark.parametrize(
    ("message", "path", "hint", "line"),
    [
        ("It is odd", None, "", "It is odd."),
        ("It is odd.", None, "", "It is odd."),
        ("It is odd", "a.fit", "", "a.fit: It is odd."),
        ("It is odd", "a.fit", "Mend it.", "a.fit: It is odd. Mend it."),
        ("It is odd", None, "Mend it.", "It is odd. Mend it."),
    ],
)
def test_an_error_is_one_line_of_file_message_and_hint(
    message: str, path: str | None, hint: str, line: str
) -> None:
    assert str(ArrayredError(message, path=path, hint=hint)) == line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("a\u202eb", r"a\u202eb"),
        ("a\u2066b\u200f", r"a\u2066b\u200f"),
        ("a\x00b\x7f", r"a\x00b\x7f"),
        ("a\x9bb", r"a\x9bb"),
        ("a\udcffb", r"a\udcffb"),
        ("a\u2028b", r"a\u2028b"),
        ("59 Cyg, β Lyræ 星", "59 Cyg, β Lyræ 星"),
    ],
)
def test_what_could_deceive_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert str(ArrayredError(text, path=text, hint=text)) == f"{shown}: {shown}. {shown}"


@given(text=ANY_TEXT)
def test_any_text_becomes_printable_and_printable_text_stays(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert (shown == text) is text.isprintable()


@given(messages=st.lists(ANY_TEXT.filter(bool), min_size=1, max_size=5, unique=True))
def test_a_night_error_is_a_line_for_each_problem(messages: list[str]) -> None:
    problems = tuple(NoDarkError(message, path="a.fit") for message in messages)
    error = NightError(problems)
    assert str(error).splitlines() == [str(problem) for problem in problems]


def test_files_with_the_same_problem_share_a_line() -> None:
    paths = ["raw/1.fit", "raw/2.fit", "raw/3.fit", "raw/4.fit", "raw/4.fit"]
    error = NightError(
        (
            *(NoDarkError("No dark", path=path, hint="Take one.") for path in paths),
            NoDarkError("No dark", path="raw/1.fit", hint="Take two."),
            *(HeaderError("Odd", path=path) for path in ("a/1.fit", "b/1.fit")),
        )
    )
    assert str(error).splitlines() == [
        "raw/1.fit, 2.fit, 3.fit, 4.fit: No dark. Take one.",
        "raw/1.fit: No dark. Take two.",
        "a/1.fit, b/1.fit: Odd.",
    ]


def test_a_night_error_survives_pickling_with_its_problems() -> None:
    problems = (NoDarkError("No dark", path="a.fit", value=60.0), HeaderError("Odd", hint="Mend."))
    copy = pickle.loads(pickle.dumps(NightError(problems)))
    assert str(copy) == str(NightError(problems)) == "a.fit: No dark.\nOdd. Mend."
    assert [(type(p), p.path, p.value, p.hint) for p in copy.problems] == [
        (NoDarkError, "a.fit", 60.0, ""),
        (HeaderError, None, None, "Mend."),
    ]
    assert copy.exit_code == 4
