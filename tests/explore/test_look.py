"""What is looked at, and rows as people type them."""

from __future__ import annotations

import pytest

from arrayred.errors import UsageError
from arrayred.explore.data import Look, rows_from, rows_text


@pytest.mark.parametrize(
    ("text", "rows"),
    [("484:518", (484, 518)), (" 1 : 1 ", (1, 1)), ("", None), ("   ", None)],
)
def test_rows_are_read_as_they_are_typed(text: str, rows: tuple[int, int] | None) -> None:
    assert rows_from(text) == rows


@pytest.mark.parametrize("text", ["5", "5:", ":5", "0:5", "6:5", "-1:5", "a:b", "1:2:3", "1.5:3"])
def test_what_are_no_rows_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match="A not above B") as refused:
        rows_from(text)
    assert repr(text) in str(refused.value)


def test_rows_survive_being_shown_and_read() -> None:
    assert rows_from(rows_text((3, 40))) == (3, 40)
    assert rows_from(rows_text(None)) is None


def test_cuts_off_the_image_come_to_its_edge() -> None:
    look = Look("light/a").at(999, -3, (10, 20), (101, 1))
    assert (look.row, look.column) == (110, 1)


def test_another_group_has_its_own_rows_and_the_same_stretch() -> None:
    look = Look("a", 5, "combined", stretch="log", rows=(1, 2), sky_rows=(3, 4)).on("b")
    assert look == Look("b", stretch="log")
