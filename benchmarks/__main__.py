"""``python -m benchmarks``: how fast arrayred is beside its peers, and whether they agree."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks.jobs import JOBS
from benchmarks.peers import contenders
from benchmarks.publish import publish
from benchmarks.results import Report
from benchmarks.suite import PARTS, Plan, carry_out
from benchmarks.tables import page


def main(arguments: list[str] | None = None) -> int:
    """Measure or render, and return the exit code: 1 if a contender's numbers are wrong."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    report = Report.load(options.load) if options.load else _measured(options)
    if options.publish:
        for path in publish(report):
            print(f"wrote {path}")
    else:
        print(page(report, []))
    return int(any(one.is_wrong for one in report.results))


def _measured(options: argparse.Namespace) -> Report:
    """Measure what the options ask for."""
    report = Report.begun(contenders())
    for name, facts in report.missing.items():
        print(f"{name} is missing ({facts['what']}): {facts['install']}", file=sys.stderr)
    if os.getloadavg()[0] > 0.5:
        print(f"The machine is busy (load {os.getloadavg()[0]:.1f}).", file=sys.stderr)

    def save(current: Report) -> None:
        if options.json:
            current.save(options.json)

    with tempfile.TemporaryDirectory(prefix="arrayred-benchmarks-") as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        carry_out(_plan(options), folder, report, save=save, say=_say)
    return report


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _plan(options: argparse.Namespace) -> Plan:
    plan = Plan.quick() if options.quick else Plan()
    given = {name: getattr(options, name) for name in ("parts", "stacks", "jobs", "only", "night")}
    plan = replace(plan, **{name: value for name, value in given.items() if value})
    seconds = {name: getattr(options, name) for name in ("rounds", "budget", "limit")}
    chosen = {name: value for name, value in seconds.items() if value is not None}
    return replace(plan, settings=replace(plan.settings, **chosen))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="few stacks and rounds: under two minutes")
    add("--parts", type=_words(PARTS), help=f"some of {','.join(PARTS)}")
    add("--stacks", type=_words(), help="such as s25,l50: 1024 x 1536, 2048 x 4096; 25x512x768")
    add("--jobs", type=_words(tuple(JOBS)), help=f"some of {','.join(JOBS)}")
    add("--only", type=_words(), help="contenders whose name contains one of these words")
    add("--night", type=Path, metavar="DIR", help="a night's frames; simulated by default")
    add("--folder", type=Path, metavar="DIR", help="keep the frames here; else in a temporary one")
    add("--rounds", type=int, help="timed processes of each contender")
    add("--budget", type=float, help="seconds a contender may take for one cell of a table")
    add("--limit", type=float, help="seconds after which a process is ended")
    add("--json", type=Path, metavar="FILE", help="save the results here after each cell")
    add("--load", type=Path, metavar="FILE", help="measure nothing: take the results of --json")
    add(
        "--publish", action="store_true", help="write benchmarks/README.md, plots and docs/speed.md"
    )
    return parser


def _words(known: tuple[str, ...] = ()) -> Callable[[str], tuple[str, ...]]:
    """Return a reader of words parted by commas, all of which must be known if any are."""

    def read(text: str) -> tuple[str, ...]:
        words = tuple(word for word in text.split(",") if word)
        strange = [word for word in words if known and word not in known]
        if strange:
            raise argparse.ArgumentTypeError(f"{strange[0]!r} is none of {', '.join(known)}")
        return words

    return read


if __name__ == "__main__":
    sys.exit(main())
