"""The log of a night that is reduced, `logged`, and of many, `noted`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arrayred.batch.desk import Outcome
from arrayred.batch.orders import Order, missing_of
from arrayred.errors import ArrayredError, StorageError
from arrayred.io.journal import Journal
from arrayred.night import Night, Plan
from arrayred.watching import ended, watched

if TYPE_CHECKING:
    from arrayred.batch.jobs import Report

Log = Callable[[Outcome], None]


@contextmanager
def logged(night: Night, plan: Plan, order: Order) -> Iterator[Log]:
    """Log what happens within, beside the products: the folder's lock must be held.

    Parameters
    ----------
    night, plan, order : as for `reduce_to`.

    Yields
    ------
    log : to be called with each outcome.

    Raises
    ------
    StorageError
        The log cannot be written.
    """
    journal = Journal(order.out)
    journal.note("night", {"folder": str(night.folder), "frames": len(night.frames)})
    for stage in ended():
        journal.ends(stage)
    for text in _warnings(night, plan, order):
        journal.note("warning", {"text": text})
    codes: list[int] = []

    def log(outcome: Outcome) -> None:
        """Note what became of a target."""
        journal.note("target", _of(outcome))
        codes.extend([outcome.error.exit_code] if outcome.error else [])
        with suppress(StorageError):  # the last attempt will tell
            journal.save_now_and_then()

    try:
        with watched(journal):
            yield log
    except BaseException as error:
        with suppress(StorageError):
            journal.finish({"status": "broken off", "error": _text(error)})
        raise
    journal.finish({"status": "done", "failed": len(codes)})


def noted(
    reports: Generator[tuple[Report, bool], None, None], out: Path
) -> Generator[tuple[Report, bool], None, None]:
    """Yield the reports of many nights, and log each of them that is final.

    Parameters
    ----------
    reports : of `reduce_nights`; closed with this.
    out : the folder that holds those of the nights; its lock must be held.

    Raises
    ------
    StorageError
        The log cannot be written.
    """
    journal = Journal(out)
    with closing(reports):
        try:
            for report, is_final in reports:
                if is_final:
                    journal.note("night", _of_night(report))
                    with suppress(StorageError):
                        journal.save_now_and_then()
                yield report, is_final
        except BaseException as error:
            with suppress(StorageError):
                journal.finish({"status": "broken off", "error": _text(error)})
            raise
    journal.finish({"status": "done"})


def _of_night(report: Report) -> dict[str, Any]:
    """Return what a line tells of a night."""
    counts = Counter(line.status for line in report.lines)
    reasons = [line.reason for line in report.lines if line.reason]
    told: dict[str, Any] = {"night": report.label}
    told |= {str(status): n for status, n in counts.items()}
    told |= {"seconds": round(report.seconds, 3)}
    return told | ({"errors": reasons} if reasons else {})


def _warnings(night: Night, plan: Plan, order: Order) -> Iterator[str]:
    yield from plan.warnings
    for target, cards in missing_of(night, plan, order).items():
        yield f"{target}: left blank: {', '.join(cards)}"


def _of(outcome: Outcome) -> dict[str, Any]:
    """Return what a line tells of a target."""
    status = "failed" if outcome.error else "kept" if outcome.kept else "reduced"
    told: dict[str, Any] = {"target": outcome.name, "status": status, "files": len(outcome.files)}
    if outcome.damage:
        told["damaged"] = dict(outcome.damage)
    if remarks := outcome.facts.get("remarks"):
        told["remarks"] = list(remarks)
    if outcome.error:
        told |= {"error": str(outcome.error), "exit_code": outcome.error.exit_code}
    return told


def _text(error: BaseException) -> str:
    """Return what an error says: its kind too where it is none of ours."""
    is_ours = isinstance(error, ArrayredError)
    return str(error) if is_ours else ": ".join(filter(None, (type(error).__name__, str(error))))
