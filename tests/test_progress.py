"""Stages: who hears of them, in what order, and that nobody need listen."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from arrayred import progress
from arrayred.progress import Stage, count_read, ended, progressed, stage, watched


class Heard:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.told: list[Any] = []
        self.stages: list[Stage] = []

    def begins(self, stage: Stage) -> None:
        self.told.append(f"begin {stage.path}")

    def advances(self, done: int, total: int) -> None:
        self.told.append((done, total))

    def ends(self, stage: Stage) -> None:
        self.told.append(f"end {stage.path}")
        self.stages.append(stage)


def test_a_watcher_hears_of_stages_within_stages() -> None:
    with watched(heard := Heard()), stage("Vega"), stage("combine"):
        progressed(1, 2)
    expected = ["begin Vega", "begin Vega: combine", (1, 2), "end Vega: combine", "end Vega"]
    assert heard.told == expected


def test_what_was_read_within_a_stage_in_any_thread_is_counted() -> None:
    with watched(heard := Heard()), stage("combine"):
        thread = threading.Thread(target=count_read, args=(700,))
        thread.start()
        thread.join()
        count_read(300)
    assert [stage.n_read for stage in heard.stages] == [1000]


def test_a_stage_that_fails_has_ended() -> None:
    with watched(heard := Heard()):
        with pytest.raises(ValueError, match="no"), stage("combine"):
            raise ValueError("no")
        with stage("extract"):
            pass
    assert heard.told[1:3] == ["end combine", "begin extract"]


def test_one_who_comes_later_finds_what_has_ended() -> None:
    with watched():
        with stage("plan"):
            pass
        with watched(late := Heard()), stage("combine"):
            pass
        assert [stage.path for stage in ended()] == ["plan", "combine"]
    assert late.told == ["begin combine", "end combine"]
    assert not ended()


def test_a_function_can_be_a_stage_each_time_it_is_called() -> None:
    @stage("double")
    def double(number: int) -> int:
        """Return twice the number."""
        return 2 * number

    with watched(heard := Heard()):
        assert (double(2), double(4)) == (4, 8)
    assert heard.told == ["begin double", "end double"] * 2
    assert double.__doc__ == "Return twice the number."


def test_where_nobody_watches_nothing_is_kept() -> None:
    with stage("combine"):
        progressed(1, 2)
    assert not progress.is_watched()
    assert not ended()
