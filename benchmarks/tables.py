"""Results as Markdown: `section` for docs/speed.md, `page` for this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.frames import Stack
from benchmarks.jobs import JOBS
from benchmarks.measure import Result
from benchmarks.results import Report, median

Cell = Callable[[Result | None], str]
OURS = "arrayred combine"
_COLUMNS = (
    ("s25", "median"),
    ("s100", "median"),
    ("l50", "median"),
    ("l25", "minus-mean"),
    ("s25", "clip"),
    ("l25", "clip"),
)


def section(report: Report) -> str:
    """Return the table of whole processes: the jobs that matter most."""
    results = {(one.stack, one.job, one.contender): one for one in report.of("table")}
    columns = [pair for pair in _COLUMNS if any(key[:2] == pair for key in results)]
    names = dict.fromkeys(name for stack, job, name in results if (stack, job) in columns)
    order = dict.fromkeys([*report.versions, *names])
    rows = []
    for name in (name for name in order if name in names):
        found = [results.get((*pair, name)) for pair in columns]
        rows.append([name, *map(_process, found)])
    head = ["seconds", *(f"{JOBS[job].title}, {_size(stack)}" for stack, job in columns)]
    notes = "\\* differs from numpy by definition: see [benchmarks](../benchmarks/README.md)."
    return "\n\n".join(
        [
            "Whole processes from files to a file, imports included, page cache warm, median of "
            f"up to {_rounds(report)} runs in turns. {machine_line(report.machine)}",
            table(head, [*rows, *_ratios(report, columns)]),
            f"{notes} `python -m benchmarks --quick` measures your machine.",
        ]
    )


def page(report: Report, plots: Sequence[tuple[str, str]]) -> str:
    """Return the page of everything.

    Parameters
    ----------
    plots : file name and caption of each.
    """
    parts = [machine_line(report.machine), *(f"![{caption}]({name})" for name, caption in plots)]
    for job in JOBS.values():
        of_job = list(report.of("table", job.name))
        if of_job:
            parts += [f"## {job.title.capitalize()}", *_job_tables(report, of_job)]
    for series, title in (
        ("frames", "Frames of 1024 x 1536"),
        ("pixels", "25 frames of more pixels"),
        ("threads", "Threads"),
    ):
        for job in JOBS.values():
            of_job = list(report.of(series, job.name))
            if of_job:
                parts += [f"## {title}: {job.title}", _by_stack(of_job, _process)]
    parts += [*planes(report), *_night(report), *_definitions(report), *_contenders(report)]
    return "\n\n".join(parts)


def _job_tables(report: Report, results: list[Result]) -> list[str]:
    """Return a job's tables: seconds, and peak memory."""
    stacks = list(dict.fromkeys(one.stack for one in results))
    last = _ratios(report, [(stack, results[0].job) for stack in stacks])
    last.append(["arrayred in Python / limit", *(_above_limit(results, i) for i in stacks)])
    return [
        "Seconds of the whole process (of the job alone, within a process):",
        _by_stack(results, _both, last),
        "Peak memory of the process, MiB (above that of its imports):",
        _by_stack([one for one in results if one.group != "floor"], _peak),
    ]


def _by_stack(results: list[Result], cell: Cell, last: Sequence[list[str]] = ()) -> str:
    """Return a table of contenders by stacks."""
    stacks = list(dict.fromkeys(one.stack for one in results))
    names = list(dict.fromkeys(one.contender for one in results))
    at = {(one.contender, one.stack): one for one in results}
    rows = [[name, *(cell(at.get((name, stack))) for stack in stacks)] for name in names]
    return table(["", *map(_size, stacks)], [*rows, *last])


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Return a table: names to the left, numbers to the right."""
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _process(result: Result | None) -> str:
    if result is None:
        return ""
    if result.error is not None:
        return "failed"
    if result.is_wrong:
        return "wrong"
    return _seconds(median(result.seconds)) + _star(result)


def _star(result: Result) -> str:
    """Return the mark of numbers that differ in more than a handful of pixels."""
    return "\\*" if result.verdict == "differs" and not result.is_alike else ""


def _both(result: Result | None) -> str:
    alone = "" if result is None else _seconds(median(result.session_seconds))
    return _process(result) + (f" ({alone})" if alone else "")


def _peak(result: Result | None) -> str:
    if result is None or result.peak_mib is None:
        return ""
    above = f" ({result.peak_mib - result.base_mib:.0f})" if result.base_mib else ""
    return f"{result.peak_mib:.0f}{above}"


def _seconds(value: float | None) -> str:
    """Return seconds with three digits that count, at most four decimals.

    Examples
    --------
    >>> _seconds(0.012345), _seconds(0.12345), _seconds(12.345)
    ('0.0123', '0.123', '12.3')
    """
    if value is None:
        return ""
    decimals = 4 if value < 0.1 else 3 if value < 1 else 2 if value < 10 else 1
    return f"{value:.{decimals}f}"


def _ratios(report: Report, columns: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Return rows of our time in parts of the fastest rival's, by stack and job."""
    return [
        ["arrayred combine / fastest rival", *(_ratio(report, *i, alike=False) for i in columns)],
        [
            "arrayred combine / fastest rival with the same numbers",
            *(_ratio(report, *i, alike=True) for i in columns),
        ],
    ]


def _ratio(report: Report, stack: str, job: str, *, alike: bool) -> str:
    """Return our time in parts of the fastest rival's, or of those whose numbers are alike."""
    timed = [
        one
        for one in report.of("table", job)
        if one.stack == stack and one.seconds and one.error is None
    ]
    ours = [one for one in timed if one.contender == OURS]
    rivals = [
        one
        for one in timed
        if one.group in ("Python", "program") and (one.is_alike or not (alike or one.is_wrong))
    ]
    if not ours or not rivals:
        return ""
    best = min(rivals, key=lambda one: median(one.seconds) or 0.0)
    return f"{_quotient(ours[0], best)} x {best.contender}{_star(best)}"


def _quotient(ours: Result, other: Result) -> str:
    return f"{(median(ours.seconds) or 0.0) / (median(other.seconds) or 1.0):.2f}"


def _above_limit(results: list[Result], stack: str) -> str:
    """Return the time of the job alone in parts of that of reading and writing."""
    alone = {one.contender: median(one.session_seconds) for one in results if one.stack == stack}
    ours, limit = alone.get("arrayred in Python"), alone.get("limit: read and write")
    return f"{ours / limit:.1f}" if ours and limit else ""


def _size(stack: str) -> str:
    return Stack.named(stack, Path()).title


def _rounds(report: Report) -> int:
    return max((len(one.seconds) for one in report.of("table")), default=0)


def machine_line(facts: Mapping[str, Any]) -> str:
    """Say what was measured on, and when."""
    return (
        f"Measured on {facts['date'][:10]}: {facts['cores']} cores of {facts['cpu']}, "
        f"{facts['memory_gib']:.0f} GiB, {facts['system']}, Python {facts['python']}."
    )


def _night(report: Report) -> list[str]:
    """Return the table of the whole night."""
    results = list(report.of("night"))
    if not results:
        return []
    floor = next((median(one.seconds) for one in results if one.group == "floor"), None) or 0.0
    rows = [
        [
            one.contender,
            one.error or _seconds(median(one.seconds)),
            _seconds((median(one.seconds) or floor) - floor),
            _peak(one),
        ]
        for one in results
    ]
    head = ["", "whole process, s", "above the floor, s", "peak, MiB"]
    return [f"## A whole night, {results[0].stack}", table(head, rows)]


def planes(report: Report) -> list[str]:
    """Return the tables of the same work with and without noise and flags."""
    results = list(report.of("planes"))
    if not results:
        return []
    rows = [
        [
            one.contender,
            _size(one.stack) if one.job == "steps" else f"the night {one.stack}",
            one.error or _seconds(median(one.seconds)),
            _seconds(median(one.cpu_seconds)),
            _peak(one),
        ]
        for one in results
    ]
    head = ["", "frames", "whole process, s", "of processors, s", "peak, MiB"]
    return ["## What noise and flags cost", table(head, rows)]


def _definitions(report: Report) -> list[str]:
    """Return how far each contender's numbers lie from numpy's."""
    checked = [one for one in report.of("table") if one.verdict is not None]
    if not checked:
        return []
    jobs = list(dict.fromkeys(one.job for one in checked))
    rows = []
    for name in dict.fromkeys(one.contender for one in checked):
        own = [[one for one in checked if (one.contender, one.job) == (name, job)] for job in jobs]
        rows.append([name, *(_agreement(max(i, key=_badness)) if i else "" for i in own)])
    reasons = dict.fromkeys(
        f"- {one.contender}: {one.note}."
        for one in checked
        if one.verdict == "differs" and one.note
    )
    return [
        "## Do they compute the same?",
        "The largest difference from numpy's answer in float64, adu, and the part of the pixels "
        "that are off by more than 0.01 adu. *equal* is that answer rounded to float32.",
        table(["", *(JOBS[job].title for job in jobs)], rows),
        *(["\n".join(reasons)] if reasons else []),
    ]


def _badness(result: Result) -> tuple[bool, float]:
    return result.verdict == "differs", float("inf") if result.largest is None else result.largest


def _agreement(result: Result) -> str:
    if result.verdict == "equal":
        return "equal"
    largest = "not a number" if result.largest is None else f"{result.largest:.2g}"
    wrong = "wrong: " if result.is_wrong else ""
    part = f", {100 * (result.fraction or 0.0):.2g} %" if result.verdict == "differs" else ""
    return f"{wrong}{largest}{part}"


def _contenders(report: Report) -> list[str]:
    """Return who took part, who was missing, and what failed."""
    lines = [f"- {name}: {version}" for name, version in report.versions.items()]
    lines += [
        f"- {name}: missing ({facts['what']}); `{facts['install']}`"
        for name, facts in report.missing.items()
    ]
    lines += [
        f"- {one.contender} failed at {one.job} of {one.stack}: {one.error}"
        for one in report.results
        if one.error is not None
    ]
    return ["## Contenders", "\n".join(lines)]
