"""What a run found, as JSON: `Results`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.truth.cells import Cell
from benchmarks.truth.measures import Measure, Measures, measures_of
from benchmarks.truth.nights import WAYS, compare, is_blank

_DIGITS = 6


@dataclass
class Results:
    """Everything that the tables are made from.

    Parameters
    ----------
    machine : what it ran on, and when.
    cells : each with its numbers by way.
    blank : of each way, what was found on nights without a star: "" is nothing.
    """

    machine: dict[str, Any]
    cells: list[tuple[Cell, dict[str, Measures]]] = field(default_factory=list)
    blank: dict[str, list[str]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write everything."""
        facts = {
            "machine": self.machine,
            "blank": self.blank,
            "cells": [
                {"cell": asdict(cell), **{way: _plain(asdict(one)) for way, one in ways.items()}}
                for cell, ways in self.cells
            ],
        }
        path.write_text(json.dumps(facts, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what was saved."""
        facts = json.loads(path.read_text())
        cells = [
            (Cell(**one.pop("cell")), {way: _measures(found) for way, found in one.items()})
            for one in facts["cells"]
        ]
        return cls(facts["machine"], cells, facts["blank"])


def _plain(value: Any) -> Any:
    """Return values with as many digits as mean something."""
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return value


def _measures(facts: Mapping[str, Any]) -> Measures:
    """Return the numbers of a cell as they were before they were JSON."""
    values: dict[str, Any] = {
        name: Measure(**value) if isinstance(value, dict) else value
        for name, value in facts.items()
    }
    values["why"] = tuple(values["why"])
    values["extraction"] = tuple((way, n) for way, n in values["extraction"])
    return Measures(**values)


def measure(cell: Cell, pool: ProcessPoolExecutor) -> dict[str, Measures]:
    """Make the nights of a cell, and return its numbers by way."""
    nights = list(pool.map(compare, [cell] * cell.nights, range(cell.nights), chunksize=4))
    return {way: measures_of([night[way] for night in nights]) for way in WAYS}


def measure_blank(n_nights: int, pool: ProcessPoolExecutor) -> dict[str, list[str]]:
    """Return what is found on nights without a star."""
    nights = list(pool.map(is_blank, range(n_nights), chunksize=8))
    return {way: [night[way] for night in nights] for way in WAYS}
