"""Stages: who hears of them, in what order, and that nobody need listen."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from arrayred import progress
from arrayred.progress import LOGGER, Stage, count_read, handled, note, progressed, stage


class Heard(logging.Handler):
    """A handler that remembers."""

    def __init__(self, level: int = logging.DEBUG) -> None:
        super().__init__(level)
        self.told: list[Any] = []
        self.stages: list[Stage] = []

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "begun"):
            self.told.append(f"begin {record.begun.path}")
        elif hasattr(record, "progress"):
            self.told.append(record.progress)
        elif hasattr(record, "ended"):
            self.told.append(f"end {record.ended.path}")
            self.stages.append(record.ended)
        else:
            self.told.append(record.getMessage())


def test_a_handler_hears_of_stages_within_stages() -> None:
    with handled(heard := Heard()), stage("Vega"), stage("combine"):
        progressed(1, 2)
    expected = ["begin Vega", "begin Vega: combine", (1, 2), "end Vega: combine", "end Vega"]
    assert heard.told == expected


def test_what_was_read_within_a_stage_in_any_thread_is_counted() -> None:
    with handled(heard := Heard()), stage("combine"):
        thread = threading.Thread(target=count_read, args=(700,))
        thread.start()
        thread.join()
        count_read(300)
    assert [stage.n_read for stage in heard.stages] == [1000]


def test_a_stage_that_fails_has_ended() -> None:
    with handled(heard := Heard()):
        with pytest.raises(ValueError, match="no"), stage("combine"):
            raise ValueError("no")
        with stage("extract"):
            pass
    assert heard.told[1:3] == ["end combine", "begin extract"]


def test_a_level_decides_what_is_heard_and_whether_progress_is_made() -> None:
    with handled(heard := Heard(logging.INFO)), stage("combine"):
        assert not progress.is_watched()
        progressed(1, 2)
        note("target", {"target": "Vega", "status": "kept"})
    assert heard.told == ["target: target Vega, status kept", "end combine"]


def test_a_run_apart_is_heard_by_its_own_handlers_alone() -> None:
    with handled(outer := Heard()), stage("nights"):
        with handled(inner := Heard(), apart=True):
            note("night", {"n": 1})
        with handled(late := Heard()):
            note("night", {"n": 2})
    assert inner.told == ["night: n 1"]
    assert late.told == ["night: n 2"]
    assert outer.told == ["begin nights", "night: n 2", "end nights"]


def test_runs_in_threads_at_once_are_heard_apart() -> None:
    heard = {name: Heard() for name in ("a", "b")}
    both = threading.Barrier(2)

    def run(name: str) -> None:
        with handled(heard[name]), stage(name):
            both.wait(10)

    threads = [threading.Thread(target=run, args=(name,)) for name in heard]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: one.told for name, one in heard.items()} == {
        name: [f"begin {name}", f"end {name}"] for name in heard
    }


def test_a_function_can_be_a_stage_each_time_it_is_called() -> None:
    @stage("double")
    def double(number: int) -> int:
        """Return twice the number."""
        return 2 * number

    with handled(heard := Heard()):
        assert (double(2), double(4)) == (4, 8)
    assert heard.told == ["begin double", "end double"] * 2
    assert double.__doc__ == "Return twice the number."


def test_where_nobody_listens_nothing_is_made_and_the_level_is_as_before() -> None:
    assert LOGGER.level == logging.NOTSET
    with handled(Heard()):
        assert progress.is_watched()
    with stage("combine"):
        progressed(1, 2)
    assert not progress.is_watched()
    assert LOGGER.level == logging.NOTSET
    assert [type(handler) for handler in LOGGER.handlers] == [logging.NullHandler]


def test_a_program_that_listens_to_the_logger_hears_what_happened(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "arrayred"), stage("combine"):
        progressed(1, 2)
    (record,) = caplog.records
    assert record.getMessage().startswith("combine: 0.0")
