"""What a hunt reports: how much was tried, and cases that can be played again."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any


@dataclass
class Hunt:
    """A hunt in progress.

    Parameters
    ----------
    kind : kills, faults, fuzz or surroundings.
    seed : of the random numbers.
    folder : scratch space.
    cases : where findings are written.
    seconds : after which no further trial begins.
    most : number of trials after which none begins.
    """

    kind: str
    seed: int
    folder: Path
    cases: Path
    seconds: float
    most: int = 1 << 40
    tried: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    found: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    def trials(self) -> Iterator[int]:
        """Yield the numbers of trials, from 0, until time or number is up."""
        number = 0
        while number < self.most and time.monotonic() - self.begun < self.seconds:
            yield number
            number += 1

    def report(
        self, what: str, outcome: str, faults: list[str], case: dict[str, Any], *files: Path
    ) -> None:
        """Count a trial; write a case if something was wrong.

        Parameters
        ----------
        what : was tried, to be counted.
        outcome : how it ended, to be counted.
        faults : what was wrong.
        case : what repeats it.
        files : that belong to the case.
        """
        self.tried[what] += 1
        self.outcomes[outcome] += 1
        if not faults:
            return
        self.found.append(f"{what}: {'; '.join(faults)} ({case})")
        home = self.cases / f"{self.kind}-{self.seed}-{len(self.found):03}"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        told = {"hunt": self.kind, "seed": self.seed, "what": what, "faults": faults, **case}
        (home / "case.json").write_text(json.dumps(told, indent=1))
        for file in files:
            if file.is_file():
                shutil.copy(file, home)

    def section(self, day: date) -> str:
        """Return what the page of promises says of it."""
        minutes = (time.monotonic() - self.begun) / 60
        tried = [f"| {what} | {n:,} |" for what, n in sorted(self.tried.items())]
        ended = ", ".join(f"{n:,} {how}" for how, n in sorted(self.outcomes.items()))
        return "\n".join(
            [
                f"| {self.kind}, {day}, seed {self.seed}, {minutes:.0f} minutes | tried |",
                "| --- | --: |",
                *tried,
                f"| **faults found** | **{len(self.found)}** |",
                "",
                f"They ended with: {ended}.",
            ]
        )

    def lines(self) -> list[str]:
        """Return what was tried and found."""
        tried = ", ".join(f"{n} {what}" for what, n in sorted(self.tried.items()))
        ended = ", ".join(f"{n} {how}" for how, n in sorted(self.outcomes.items()))
        lines = [
            f"{self.kind} (seed {self.seed}): {sum(self.tried.values())} tried: {tried}",
            ended,
        ]
        return [*lines, *self.found, f"{len(self.found)} faults"]
