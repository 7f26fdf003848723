"""``arrayred reduce`` of many nights: which they are, how they fare, what became of each target.

Nobody is asked anything, and one night's failure is not another's. What became of all is in
``OUT/summary.ecsv``, also of a run that was interrupted.
"""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arrayred.cli.choosing import night_file_of, order_of, require_folders, settle_settings
from arrayred.cli.clusters import dask_way, way_of, working
from arrayred.cli.keeping import caching_of
from arrayred.cli.progress import nights_done
from arrayred.cli.told import command_of
from arrayred.cli.wishes import Wishes
from arrayred.errors import ArrayredError, StorageError, UsageError, printable
from arrayred.io.files import paths_in
from arrayred.io.ledger import INDEX, SUMMARY, require_of_many
from arrayred.io.remote import Address, located, matches

if TYPE_CHECKING:
    from arrayred.batch import Job, Line, Report

PARTIAL = 3
_HEADINGS = {
    "night": "night",
    "target": "target",
    "status": "status",
    "rows": "rows",
    "rule": "found by",
    "snr": "S/N",
    "n_saturated": "saturated",
    "n_cosmic_rays": "cosmic rays",
    "dark_age": "dark, d",
    "seconds": "seconds",
    "reason": "reason",
}
_MAGIC = set("*?[")
_STYLES = {"failed": "red", "interrupted": "yellow", "kept": "dim"}


def folders_of(arguments: Iterable[str]) -> list[Path]:
    """Return the nights that folders, globs and ``@lists`` name, each once.

    Raises
    ------
    UsageError
        A list cannot be read, nothing is named, or frames are named instead of their folders.
    """
    folders: dict[Path, Path] = {}
    for argument in arguments:
        names = map(str, paths_in(Path(argument[1:]))) if argument.startswith("@") else [argument]
        for folder in (folder for name in names for folder in _matching(name)):
            folders.setdefault(folder.resolve(), folder)
    if not folders:
        raise UsageError("The list names no night", hint="Name folders of raw frames.")
    found = list(folders.values())
    require_folders(found)
    return found


def _matching(name: str) -> list[Path]:
    """Return the folders that a glob means; what is there, or is no glob, means itself."""
    path = located(name)
    if path.exists() or not _MAGIC & set(name):
        return [path]
    if isinstance(path, Address):
        return list(matches(path))
    start = Path(path.anchor)
    found = sorted(p for p in start.glob(str(path.relative_to(start))) if p.is_dir())
    if not found:
        raise UsageError("No folder matches", path=name, hint="Name folders of raw frames.")
    return found


def run_many(folders: Sequence[Path], out: Path, wishes: Wishes) -> int:
    """Reduce nights as wished, tell what became of them, and return the exit code."""
    from arrayred.batch import noted, reduce_nights
    from arrayred.io.publish import one_writer

    require_of_many(out)
    jobs = _jobs(folders, out, wishes)
    quiet = wishes.get("quiet", False)
    reports: dict[str, Report] = {}
    with one_writer(out, break_lock=wishes.get("break_lock", False)) as is_locked:
        warn_unless(is_locked, out, quiet=quiet)
        try:
            with (
                working(wishes) as client,
                nights_done(len(jobs), quiet=quiet) as tell,
                closing(noted(reduce_nights(jobs, way_of(client, wishes)), out)) as done,
            ):
                for report, is_final in done:
                    if is_final:
                        reports[report.label] = report
                        _warn(report, quiet=quiet)
                        tell(_in_short(report))
        except BaseException:
            _save(out, _lines(jobs, reports))
            raise
        _save(out, _lines(jobs, reports))
        if not wishes.get("no_figures"):
            _index(out)
    if not quiet:
        _print(_lines(jobs, reports), out)
        if (out / INDEX).is_file():
            click.echo(f"A page to look at: {printable(str(out / INDEX))}")
    return _exit_code([reports[job.label] for job in jobs])


def warn_unless(is_locked: bool, out: Path, *, quiet: bool) -> None:
    """Say so if nothing keeps a second run from writing to the same folder."""
    if not is_locked and not quiet:
        told = f"{printable(str(out))}: nothing can be locked here; start no second run"
        click.echo(f"arrayred: warning: {told}", err=True)


def _jobs(folders: Sequence[Path], out: Path, wishes: Wishes) -> list[Job]:
    """Return the nights to be reduced, all settings read and understood."""
    from arrayred.batch import Job, labels_of

    for folder in folders:
        if folder.resolve() in (out.resolve(), *out.resolve().parents):
            raise UsageError(
                f"The output lies inside the night {printable(str(folder))}",
                path=out,
                hint="Choose another folder.",
            )
    jobs = []
    for label, folder in zip(labels_of(folders), folders, strict=True):
        recipe, file = settle_settings(wishes, night_file_of(wishes, out / label))
        job = Job(
            label,
            folder,
            dataclasses.replace(order_of(wishes, out / label), command=command_of(wishes)),
            file,
            recipe,
            depth=wishes.get("depth", 3),
            allow_missing=wishes.get("allow_missing", False),
            break_lock=wishes.get("break_lock", False),
            scheduler=dask_way(wishes),
            caching=caching_of(wishes) if isinstance(folder, Address) else None,
        )
        jobs.append(job)
    return jobs


def _lines(jobs: Iterable[Job], reports: Mapping[str, Report]) -> list[Line]:
    """Return what became of each target, nights in their order; of a night not done, that."""
    from arrayred.batch import Line

    lines: list[Line] = []
    for job in jobs:
        report = reports.get(job.label)
        lines += report.lines if report else [Line(job.label, "", "interrupted", {}, 0.0)]
    return lines


def _save(out: Path, lines: Iterable[Line]) -> None:
    from arrayred.batch import as_ecsv
    from arrayred.io.publish import publish

    if (out / SUMMARY).is_dir():
        raise StorageError("A folder has the summary's name", path=out / SUMMARY, hint="Move it.")
    publish({out / SUMMARY: as_ecsv(lines)}, overwrite=True)


def _index(out: Path) -> None:
    """Make the index of the nights; what keeps it away is said, but the nights are there."""
    from arrayred.report.pages import write_index

    try:
        write_index(out)
    except ArrayredError as error:
        click.echo(f"arrayred: warning: no index was made: {error}", err=True)


def _warn(report: Report, *, quiet: bool) -> None:
    """Tell what is wrong with a night, and, unless that is unwanted, what is odd about it."""
    for warning in () if quiet else report.warnings:
        click.echo(f"arrayred: warning: {report.label}: {printable(warning)}", err=True)
    for line in report.lines:
        if line.status == "failed":
            where = f"{report.label}: {line.target}" if line.target else report.label
            is_told = line.reason.startswith(f"{where}: ")  # the folder that is named by itself
            told = line.reason if is_told else f"{where}: {line.reason}"
            click.echo(f"arrayred: error: {told}", err=True)
    if report.bug:
        click.echo(report.bug, err=True)


def _in_short(report: Report) -> str:
    return f"{report.label}: {_counted(report.lines)}, {report.seconds:.2f} s"


def _counted(lines: Iterable[Line]) -> str:
    counts = Counter(line.status for line in lines)
    return ", ".join(f"{n} {status}" for status, n in counts.items())


def _exit_code(reports: Sequence[Report]) -> int:
    """Return 0 if all went well, 1 if a bug was met, PARTIAL if some of it did not go well."""
    codes = [report.exit_code for report in reports if report.exit_code]
    if any(report.bug for report in reports) or not codes:
        return 1 if codes else 0
    is_published = any(line.status != "failed" for report in reports for line in report.lines)
    return PARTIAL if is_published else codes[0]


def _print(lines: Sequence[Line], out: Path) -> None:
    """Print a line for each target: a table on a terminal, plain columns elsewhere."""
    rows = [_cells(line) for line in lines]
    shown = [name for name in _HEADINGS if any(row[name] for row in rows)]
    if sys.stdout.isatty():
        _print_table(lines, rows, shown)
    else:
        widths = [max(len(row[name]) for row in [_HEADINGS, *rows]) for name in shown]
        for row in [_HEADINGS, *rows]:
            cells = (row[name].ljust(width) for name, width in zip(shown, widths, strict=True))
            click.echo("  ".join(cells).rstrip())
    click.echo(f"{_counted(lines)}; all of it is in {printable(str(out / SUMMARY))}")


def _print_table(
    lines: Sequence[Line], rows: Sequence[Mapping[str, str]], shown: Sequence[str]
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in shown:
        table.add_column(_HEADINGS[name], overflow="fold")
    for line, row in zip(lines, rows, strict=True):
        table.add_row(*(Text(row[name]) for name in shown), style=_STYLES.get(line.status))
    Console(highlight=False).print(table)


def _cells(line: Line) -> dict[str, str]:
    """Return what is shown of a target, "" where it is unknown."""
    facts = line.cells()
    rows = (facts["first_row"], facts["last_row"])
    facts["rows"] = None if None in rows else f"{rows[0]}:{rows[1]}"
    return {name: printable("".join(_text(facts[name]))) for name in _HEADINGS}


def _text(value: Any) -> Iterator[str]:
    if isinstance(value, float):
        yield f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
    elif value is not None:
        yield str(value)
