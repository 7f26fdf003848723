"""``python -m benchmarks.truth``: whether spectra are right, and know how well."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

from benchmarks.publish import ROOT, between_markers
from benchmarks.results import machine
from benchmarks.truth.aims import FALSE_FINDS, misses
from benchmarks.truth.cells import Cell, full_grid, quick_grid
from benchmarks.truth.results import Results, measure, measure_blank
from benchmarks.truth.tables import false_finds, missed_cells, page, section

PAGE, MARK = "docs/accuracy.md", "truth"
_BLANK, _BLANK_QUICK = 1000, 100


def main(arguments: list[str] | None = None) -> int:
    """Measure or render, and return the exit code: 1 if an aim is missed."""
    options = _parser().parse_args(arguments)
    results = Results.load(options.load) if options.load else _measured(options)
    if options.publish:
        for path in publish(results):
            print(f"wrote {path}")
    else:
        print(page(results))
    n_blank = len(results.blank.get("default", ()))
    return int(
        bool(missed_cells(results)) or false_finds(results, "default") > FALSE_FINDS * n_blank
    )


def publish(results: Results, root: Path = ROOT) -> list[Path]:
    """Write the page, the results and the section of docs/accuracy.md; return their paths."""
    folder, shown = root / "benchmarks" / "truth", root / PAGE
    (folder / "README.md").write_text(page(results), encoding="utf-8")
    results.save(folder / "results.json")
    text = shown.read_text(encoding="utf-8")
    shown.write_text(between_markers(text, section(results), MARK), encoding="utf-8")
    return [folder / "README.md", folder / "results.json", shown]


def _measured(options: argparse.Namespace) -> Results:
    """Measure what the options ask for, cell by cell."""
    results = Results(machine())
    cells = [cell for cell in _cells(options) if options.only in cell.name]
    began = perf_counter()
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        for i, cell in enumerate(cells, 1):
            results.cells.append((cell, measure(cell, pool)))
            missed = "; ".join(misses(cell, results.cells[-1][1]["default"])) or "ok"
            _say(f"{perf_counter() - began:5.0f} s {i}/{len(cells)} {cell.name}: {missed}")
            if options.json:
                results.save(options.json)
        n_blank = options.blank
        if n_blank is None:
            n_blank = 0 if options.only else _BLANK_QUICK if options.quick else _BLANK
        results.blank = measure_blank(n_blank, pool)
    if options.json:
        results.save(options.json)
    return results


def _cells(options: argparse.Namespace) -> Iterator[Cell]:
    grid = quick_grid if options.quick else full_grid
    return grid(options.nights) if options.nights else grid()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.truth", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="a few cells and nights: under two minutes")
    add("--only", default="", metavar="WORDS", help="cells whose name contains this: 'S/N 30,'")
    add("--nights", type=int, help="nights of a cell")
    add("--blank", type=int, help="nights without a star")
    add("--processes", type=int, default=2)
    add("--json", type=Path, metavar="FILE", help="save the results here after each cell")
    add("--load", type=Path, metavar="FILE", help="measure nothing: take the results of --json")
    add("--publish", action="store_true", help="write benchmarks/truth/ and docs/accuracy.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
