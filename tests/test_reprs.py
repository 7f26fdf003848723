"""What an interactive session shows: short, the same each time, without reading a pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import arrayred as ar
from arrayred.model import Run


@pytest.fixture
def plan(night: Path) -> ar.Plan:
    return ar.make_plan(ar.open_night(night), ar.Recipe(combine="median"))


def test_a_recipe_shows_what_is_not_usual() -> None:
    assert repr(ar.Recipe()) == "Recipe()"
    assert repr(ar.Recipe(n_sigma=5.0, rows=(3, 9))) == "Recipe(n_sigma=5.0, rows=(3, 9))"
    assert eval(repr(ar.Recipe.reference()), {"Recipe": ar.Recipe}) == ar.Recipe.reference()


def test_a_recipe_in_a_notebook_obeys_no_name() -> None:
    html = ar.Recipe(bad_pixels="<script>x</script>")._repr_html_()
    assert "<script>" not in html
    assert "<td><b>bad_pixels</b></td><td><b>&#x27;&lt;script&gt;" in html
    assert "<td>n_sigma</td><td>4.0</td>" in html


def test_a_target_tells_its_lights_and_what_serves_them(plan: ar.Plan) -> None:
    (target,) = plan.targets
    told = "3 frames of 600 s, dark 600s, Recipe(combine='median')"
    assert repr(target) == f"Target(Simulated_star: {told})"


def test_a_plan_in_a_notebook_is_its_text(plan: ar.Plan) -> None:
    html = plan._repr_html_()
    assert html.startswith("<pre>Plan: 1 master, 1 target, 0 problems")
    assert html.count("<") == 2


def test_rows_are_told_by_their_fits_numbers() -> None:
    other = ar.Rows(3, 9, 5, 1.0, 2.0, 4.0, 9.0, (Run(20, 25),), "robust", 7.2)
    assert repr(other) == "Rows(3:9, 5 above 9.00 by robust detection, S/N 7, 1 other)"


def test_rows_in_a_notebook_are_a_table_that_obeys_no_remark() -> None:
    remarks = ("<script>x</script>",)
    html = ar.Rows(3, 9, 5, 1.0, 2.0, 4.0, 9.0, (Run(20, 25),), remarks=remarks)._repr_html_()
    assert html.startswith("<table><tbody><tr><th>rows</th><td>3:9 (7)</td></tr>")
    assert "<td>9.00 adu = 1.00 + 4 x 2.00</td>" in html
    assert "another spectrum in rows 20:25" in html
    assert "<script>" not in html
    assert "S/N" not in html


def test_nothing_that_is_shown_reads_a_pixel(night: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = ar.open_night(night)
    plan = ar.make_plan(there)  # some rows are looked at
    cube = ar.open_frames(night, chunks=40)

    def read(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("arrayred.io.pixels.read_band", read)
    first = [repr(x) for x in (there, plan, *plan.targets, there.frames[0], cube)]
    shown = (there._repr_html_(), plan._repr_html_(), cube._repr_html_())
    assert all(first)
    assert all(shown)
    assert first[:4] == [repr(x) for x in (there, plan, *plan.targets, there.frames[0])]
