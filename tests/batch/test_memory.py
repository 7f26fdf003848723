"""What the process may take goes to the program and the images first, and then to the bands."""

from __future__ import annotations

from pathlib import Path

import pytest

import arrayred as ar
from arrayred.batch import OutputOptions, band_memory
from arrayred.errors import ResourceError
from arrayred.night import Plan, make_plan, open_night

MIB = 1 << 20


@pytest.fixture
def plan(night: Path) -> Plan:
    return make_plan(open_night(night))


def order(
    limit: int | None = None, memory: int | None = None, *, figures: bool = False
) -> OutputOptions:
    return OutputOptions(Path("out"), {}, limit=limit, memory=memory, figures=figures)


def test_without_a_limit_bands_may_take_what_they_are_given(plan: Plan) -> None:
    assert band_memory(plan, order()) is None
    assert band_memory(plan, order(memory=3 * MIB)) == 3 * MIB
    with pytest.raises(ar.UsageError, match="not enough for one row"):
        band_memory(plan, order(memory=100))


def test_what_a_limit_grows_by_goes_to_the_bands(plan: Plan) -> None:
    one, other = (band_memory(plan, order(limit * MIB)) for limit in (300, 340))
    assert one is not None
    assert other == one + 40 * MIB


def test_figures_take_room_from_the_bands(plan: Plan) -> None:
    drawn, plain = (band_memory(plan, order(1 << 30, figures=figures)) for figures in (True, False))
    assert drawn is not None
    assert plain is not None
    assert drawn < plain


def test_a_limit_that_is_too_small_is_refused_with_what_is_needed(plan: Plan) -> None:
    with pytest.raises(ResourceError, match=r"need \d+ MiB, but --memory allows 20 MiB") as refused:
        band_memory(plan, order(20 * MIB))
    needed = int(refused.value.hint.partition("--memory ")[2].partition("M")[0])
    assert band_memory(plan, order(needed * MIB)) is not None
    with pytest.raises(ResourceError):
        band_memory(plan, order((needed - 1) * MIB))
