"""``python -m tests.hunt kills|faults|fuzz|surroundings --minutes M --seed S``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path

from benchmarks.publish import ROOT, between_markers
from tests.hunt import shim
from tests.hunt.findings import Hunt
from tests.hunt.fuzz import hunt_lies
from tests.hunt.storage import hunt_errors, hunt_kills
from tests.hunt.surroundings import hunt_surroundings

PAGE = ROOT / "docs" / "promises.md"
HUNTS: dict[str, Callable[[Hunt], None]] = {
    "kills": hunt_kills,
    "faults": hunt_errors,
    "fuzz": hunt_lies,
    "surroundings": hunt_surroundings,
}


def main(arguments: list[str]) -> int:
    """Hunt, print what was found, and return 1 if something was."""
    parser = argparse.ArgumentParser(prog="python -m tests.hunt", description=__doc__)
    parser.add_argument("kind", choices=HUNTS)
    parser.add_argument("--minutes", type=float, default=5.0, help="after which no trial begins")
    parser.add_argument("--trials", type=int, default=1 << 40, help="at most")
    parser.add_argument("--seed", type=int, default=1, help="of the random numbers")
    parser.add_argument("--cases", type=Path, default=Path("cases"), help="folder for findings")
    parser.add_argument("--publish", action="store_true", help=f"write the counts to {PAGE.name}")
    options = parser.parse_args(arguments)
    if not shim.is_loaded() and shim.library() is not None:
        return shim.with_library([sys.executable, "-m", "tests.hunt", *arguments])
    with tempfile.TemporaryDirectory(prefix="hunt-") as folder:
        hunt = Hunt(
            options.kind,
            options.seed,
            Path(folder),
            options.cases,
            60 * options.minutes,
            options.trials,
        )
        HUNTS[options.kind](hunt)
    print("\n".join(hunt.lines()))
    if options.publish:
        text = between_markers(PAGE.read_text("utf-8"), hunt.section(date.today()), hunt.kind)
        PAGE.write_text(text, encoding="utf-8")
    return 1 if hunt.found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
