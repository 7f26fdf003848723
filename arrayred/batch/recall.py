"""A night that is finished, known for such without opening it: `recall`, `remember`.

A rerun over many nights should cost what it takes to look, not what it takes to understand: opening
a night of 8 frames takes some 20 ms, asking the system about its files less than one. So a night of
which every target was finished leaves a note: what was asked for, the sha256 of every file in its
folders, and which entries of the ledger are its own. If all of that is as it was, the night is.

The note is a hint. A night without one, or with one that does not fit, is opened; which of its
targets are finished is then decided by the ledger.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from arrayred._version import __version__
from arrayred.batch.jobs import Job, Report
from arrayred.batch.keys import mask_content
from arrayred.batch.summary import Line
from arrayred.config import Instrument, NightFile
from arrayred.errors import ArrayredError
from arrayred.io.files import list_files
from arrayred.io.ledger import Entry, Ledger, key_of
from arrayred.io.publish import STATE, publish
from arrayred.report import VERSION

_FILE = "night.json"


def is_remembered(out: Path) -> bool:
    """Tell whether a night was noted in its output folder."""
    return (out / STATE / _FILE).is_file()


def recall(job: Job) -> Report | None:
    """Return the report of a night that is finished and unchanged; None of any other.

    Parameters
    ----------
    job : the night; if its order says so, every file is hashed, else those whose stamp changed.
    """
    ledger = Ledger(job.order.out, verify=job.order.verify)
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, ArrayredError):
        told = json.loads((job.order.out / STATE / _FILE).read_bytes())
        if told["key"] != _key(job) or told["files"] != _files(job, ledger):
            return None
        entries = {name: ledger.read(f"targets/{name}") for name in told["targets"]}
        masters = (ledger.read(name) for name in told["masters"])
        if any(entry is None or ledger.damaged(entry) for entry in [*entries.values(), *masters]):
            return None
        ledger.hashes.save()
        lines = tuple(_line(job.label, name, entry) for name, entry in entries.items() if entry)
        return Report(job.label, lines, tuple(told["warnings"]), lends=told["lends"])
    return None


def _line(night: str, target: str, entry: Entry) -> Line:
    return Line(night, target, "kept", entry.facts, 0.0)


def remember(job: Job, report: Report, masters: Iterable[str]) -> None:
    """Note a night of which every target is finished.

    Parameters
    ----------
    job, report : the night, and what became of it.
    masters : the names of its masters' entries.
    """
    ledger = Ledger(job.order.out)
    with suppress(OSError):  # of a file that cannot be read, and so cannot be told unchanged
        told = {
            "key": _key(job),
            "files": _files(job, ledger),
            "targets": [line.target for line in report.lines],
            "masters": sorted(masters),
            "warnings": report.warnings,
            "lends": report.lends,
        }
        ledger.hashes.save()
        content = (json.dumps(told, indent=1) + "\n").encode("utf-8", "backslashreplace")
        publish({job.order.out / STATE / _FILE: content}, overwrite=True, durable=False)


def _files(job: Job, ledger: Ledger) -> dict[str, str]:
    """Return the sha256 of every file that opening the night would look at."""
    return {str(path): ledger.hashes.of(path) for path in _listed(job)}


def _listed(job: Job) -> Iterator[Path]:
    for folder in (job.folder, *job.file.calibrations):
        yield from (path.absolute() for path in list_files(folder, depth=job.depth))
    yield from (path.absolute() for path in job.file.masters.values())


def _key(job: Job) -> str:
    """Return the key of all that is asked for."""
    order, file = job.order, job.file
    masks = (job.recipe.bad_pixels, *(t.recipe.get("bad_pixels") for t in file.targets.values()))
    settings: dict[str, Any] = {
        "version": [__version__, np.__version__],
        "night": [str(job.folder.absolute()), job.depth],
        "recipe": dataclasses.asdict(job.recipe),
        "file": _plain(file),
        "instrument": repr(Instrument.load(file.instrument)),
        "masks": [mask_content(name) for name in masks if name],
        "cards": [dict(order.cards), dataclasses.asdict(order.answers)],
        "targets": order.targets,
        "options": [order.figures, job.allow_missing],
        "report": [VERSION, order.command] if order.figures else [],
    }
    return key_of({}, settings)


def _plain(file: NightFile) -> dict[str, Any]:
    return {field.name: getattr(file, field.name) for field in dataclasses.fields(file)}
