"""What is looked at, and rows as people type them."""

from __future__ import annotations

import pytest

from arrayred.errors import UsageError
from arrayred.explore import View, format_rows, parse_rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [("484:518", (484, 518)), (" 1 : 1 ", (1, 1)), ("", None), ("   ", None)],
)
def test_rows_are_read_as_they_are_typed(text: str, rows: tuple[int, int] | None) -> None:
    assert parse_rows(text) == rows


@pytest.mark.parametrize("text", ["5", "5:", ":5", "0:5", "6:5", "-1:5", "a:b", "1:2:3", "1.5:3"])
def test_what_are_no_rows_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match="A <= B") as refused:
        parse_rows(text)
    assert repr(text) in str(refused.value)


def test_rows_survive_being_shown_and_read() -> None:
    assert parse_rows(format_rows((3, 40))) == (3, 40)
    assert parse_rows(format_rows(None)) is None


def test_cuts_off_the_image_come_to_its_edge() -> None:
    view = View("light/a").at(999, -3, (10, 20), (101, 1))
    assert (view.row, view.column) == (110, 1)


def test_another_group_has_its_own_rows_and_the_same_stretch() -> None:
    view = View("a", 5, "combined", stretch="log", rows=(1, 2), sky_rows=(3, 4)).on("b")
    assert view == View("b", stretch="log")
