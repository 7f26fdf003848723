"""The page of promises counts the tests that there are."""

from __future__ import annotations

import re

import pytest

from benchmarks.promises import HARMS, MARK, PAGE, Counts, count, counted, harm_of, rounded, section
from benchmarks.publish import ROOT, between_markers
from tests.conftest import ALL_ITEMS

TEXT = (ROOT / PAGE).read_text("utf-8")


def shown() -> list[int]:
    """Return the numbers of the page's table, from top to bottom."""
    table = TEXT.partition(f"<!-- {MARK}:begin -->")[2].partition(f"<!-- {MARK}:end -->")[0]
    return [int(n.replace(",", "")) for n in re.findall(r"\| \*?([\d,]+)\*? \|$", table, re.M)]


@pytest.mark.slow
def test_the_counts_are_neither_too_high_nor_long_out_of_date(
    request: pytest.FixtureRequest,
) -> None:
    here = [item for item in request.config.stash[ALL_ITEMS] if item.nodeid.startswith("tests/")]
    without = {*(ROOT / "tests").rglob("test_*.py")} - {item.path for item in here}
    counts = counted() if len(without) > 5 else count(here)  # some need what is not installed
    there = [*counts.tests.values(), counts.made_up]
    for told, n in zip(shown(), there, strict=True):
        assert 0.8 * n < told <= n, section(counts)


def test_the_table_is_one_that_is_written_from_counts() -> None:
    *tests, made_up = shown()
    counts = Counts({harm.what: n for harm, n in zip(HARMS, tests, strict=True)}, made_up)
    assert between_markers(TEXT, section(counts), MARK) == TEXT


def test_each_test_counts_once() -> None:
    assert harm_of("tests/cli/test_catalogue_values.py::test_x[1]") == HARMS[0].what
    assert harm_of("tests/io/test_cache_shelf.py::test_x") == HARMS[2].what
    assert harm_of("tests/kernels/test_rows.py::test_x") == HARMS[-1].what


def test_every_beginning_of_a_name_still_begins_one() -> None:
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")]
    for harm in HARMS:
        for name in harm.tests:
            assert any(file.startswith(name) for file in files), name


def test_numbers_are_rounded_down() -> None:
    assert [rounded(n) for n in (0, 9, 99, 199, 6898)] == [0, 9, 99, 190, 6800]
