"""Results as Markdown: `section` for docs/accuracy.md, `page` for this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from benchmarks.tables import machine_line, table
from benchmarks.truth.aims import FALSE_FINDS, misses
from benchmarks.truth.cells import SURPRISES, Cell
from benchmarks.truth.measures import Measure, Measures
from benchmarks.truth.results import Results

Row = tuple[Cell, dict[str, Measures]]
_HEAD = (
    "nights, found",
    "pull: mean",
    "width",
    "robust mean",
    "robust width",
    "S/N / best",
    "bias %",
    "of all light %",
    "enclosed",
)


def section(results: Results) -> str:
    """Return the tables of S/N and of surprises, and how many test cases meet all criteria."""
    plain = [row for row in results.cells if not row[0].surprise]
    odd = [row for row in results.cells if row[0].surprise]
    n_cells, missed = len(results.cells), missed_cells(results)
    nights = sum(cell.nights for cell, _ in results.cells)
    verdict = f"{n_cells - len(missed)} of {n_cells} test cases meet all criteria"
    return "\n\n".join(
        [
            f"{nights:,} simulated nights compared with their true values. A pull is "
            "(measured - true) / uncertainty, over all columns and nights; the best S/N is that of "
            "an extraction with known trace, profile, sky and noise. Each row shows its worst "
            "test case.",
            _summary("S/N per pixel", plain, lambda cell: f"{cell.snr:g}"),
            _summary("effect that the model lacks", odd, lambda cell: cell.surprise),
            f"{verdict}; {_blank(results)} [All test cases](../benchmarks/truth/README.md).",
        ]
    )


def page(results: Results) -> str:
    """Return the page of everything."""
    parts = [_HEADING, machine_line(results.machine), "## Aims that are missed"]
    missed = missed_cells(results)
    parts.append("\n".join(f"- {cell.name}: {'; '.join(why)}" for cell, why in missed) or "None.")
    parts.append(f"## Nights without a star\n\n{_blank(results)}")
    for way, title in (("default", "By default"), ("plain", "A band of rows, summed, less a band")):
        rows = [[cell.name, *_row(ways[way])] for cell, ways in results.cells]
        parts += [f"## {title}", table(["cell", *_HEAD], rows)]
    return "\n\n".join(parts) + "\n"


_HEADING = """# Truth

    python -m benchmarks.truth --quick       # two minutes
    python -m benchmarks.truth --publish     # everything, and writes this page

Simulated nights are reduced in memory by the calls that `arrayred reduce` makes, and the flux is
set beside the light that the detector answered to. Every night of every cell has random numbers of
its own. A pull is (flux - truth) / uncertainty; *truth* is the part of the light that the spectrum
says it encloses. Errors come from the scatter of the nights."""


def missed_cells(results: Results) -> list[tuple[Cell, list[str]]]:
    """Return the cells that miss an aim by default, and in what."""
    judged = ((cell, misses(cell, ways["default"])) for cell, ways in results.cells)
    return [(cell, why) for cell, why in judged if why]


def false_finds(results: Results, way: str) -> int:
    """Return the number of blank nights on which a spectrum was detected."""
    return sum(bool(what) for what in results.blank.get(way, ()))


def _blank(results: Results) -> str:
    """Return the number of false detections as text."""
    told = []
    for way, by in (("default", "by default"), ("plain", "by the threshold alone")):
        if n := len(results.blank.get(way, ())):
            wrong = false_finds(results, way)
            aim = f" (criterion: at most {FALSE_FINDS:.0%})" if way == "default" else ""
            told.append(f"{wrong} of {n:,} {by}{aim}")
    if not told:
        return "nights without a star were not simulated."
    return f"false detections on nights without a star: {', '.join(told)}."


def _summary(title: str, rows: Sequence[Row], group: Callable[[Cell], str]) -> str:
    """Return a table with a line for each group of cells: the worst of each number."""
    lines = []
    for name in dict.fromkeys(group(cell) for cell, _ in rows):
        cells = [row for row in rows if group(row[0]) == name]
        ours = [ways["default"] for _, ways in cells]
        plain = [ways["plain"] for _, ways in cells]
        wrong = sum(bool(misses(cell, ways["default"])) for cell, ways in cells)
        lines.append(
            [
                SURPRISES.get(name, name),
                str(len(cells)),
                _worst([one.mean for one in ours], 0.0),
                _worst([one.width for one in ours], 1.0),
                _worst([one.bias for one in ours], 0.0),
                _span([one.efficiency for one in ours]),
                _span([one.efficiency for one in plain]),
                f"{len(cells) - wrong} of {len(cells)}",
            ]
        )
    head = ["test cases", "pull: mean", "width", "bias %", "S/N / best S/N", "same, plain sum"]
    head.append("criteria met")
    return table([title, *head], lines)


def _worst(measures: Iterable[Measure | None], ideal: float) -> str:
    """Return the value that lies furthest from what it should be."""
    known = [one.value for one in measures if one is not None]
    return f"{max(known, key=lambda value: abs(value - ideal)):.3f}" if known else ""


def _span(measures: Iterable[Measure | None]) -> str:
    """Return the smallest and the largest value."""
    known = [one.value for one in measures if one is not None]
    return f"{min(known):.2f} to {max(known):.2f}" if known else ""


def _row(found: Measures) -> list[str]:
    counted = f"{found.nights}, {found.found:.0%}"
    counted += f", {found.elsewhere} elsewhere" * bool(found.elsewhere)
    counted += f", {found.failed} failed" * bool(found.failed)
    pulls = (found.mean, found.width, found.robust_mean, found.robust_width, found.efficiency)
    return [
        counted,
        *(_cell(one) for one in pulls),
        _cell(found.bias),
        _cell(found.total_bias),
        "" if found.enclosed is None else f"{found.enclosed:.4f}",
    ]


def _cell(measure: Measure | None) -> str:
    return "" if measure is None else f"{measure.value:.3f} +- {measure.error:.3f}"
