"""The log of a night that is reduced: `logged`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from arrayred.batch.desk import Outcome
from arrayred.batch.orders import Order, missing_of
from arrayred.errors import ArrayredError, StorageError
from arrayred.io.journal import Journal
from arrayred.night import Night, Plan
from arrayred.watching import ended, watched

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
