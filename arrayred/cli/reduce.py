"""``arrayred reduce NIGHT... -o OUT``: one night, or many."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arrayred.cli.options import (
    CardParam,
    Options,
    Sectioned,
    ask,
    cache_if_wanted,
    cache_policy_of,
    cluster_client,
    cluster_options,
    command_of,
    dask_way,
    executor_of,
    folders,
    is_remote,
    may_ask,
    night_file_of,
    night_options,
    open_with_progress,
    option,
    options_of,
    output_options_of,
    recipe_options,
    require_folders,
    settle_settings,
    tell,
    with_pixels_at_hand,
)
from arrayred.cli.progress import night_counter, shown_stages
from arrayred.errors import ArrayredError, StorageError, UsageError, printable

if TYPE_CHECKING:
    from logging.handlers import MemoryHandler

    from arrayred.batch import Job, Outcome, OutputOptions, Report, SummaryLine
    from arrayred.night import Night, Plan


@click.command(cls=Sectioned)
@click.argument("nights", nargs=-1, required=True, metavar="NIGHT...", shell_complete=folders)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Output folder.")
@night_options
@option(
    "--target",
    "targets",
    metavar="NAME",
    multiple=True,
    help="Target to reduce; may be repeated.",
)
@option("--object", metavar="NAME", help="OBJECT of the products.")
@option("--grating", metavar="NAME", help="GRATING of the products.")
@option("--grating-angle", metavar="DEG", help="GRATANG of the products, in degrees.")
@option("--card", "cards", type=CardParam(), multiple=True, help="Header card of the products.")
@recipe_options
@option("--no-figures", is_flag=True, help="Do not write figures or reports.")
@cluster_options
@option("--no-input", is_flag=True, help="Never prompt for missing header cards.")
@option("--allow-missing", is_flag=True, help="Allow required cards to be blank.")
@option("--overwrite", is_flag=True, help="Overwrite products made with other settings.")
@option("--force", is_flag=True, help="Redo everything and overwrite existing products.")
@option(
    "--verify", is_flag=True, help="Recompute all checksums instead of trusting the saved ones."
)
@option(
    "--break-lock", is_flag=True, help="Ignore the lock of another run (only if its host is down)."
)
@option("-q", "--quiet", is_flag=True, help="Print only errors.")
@option("-v", "--verbose", is_flag=True, help="Also print files and the time of each stage.")
@click.pass_context
def reduce(ctx: click.Context, nights: tuple[str, ...], out: Path) -> None:
    """Reduce the raw frames in the folder NIGHT to spectra in the folder OUT.

    Several nights may be given as folders, globs, or @LIST (a text file with one folder per
    line); each gets a folder in OUT. Finished products are not made again, so repeat the command
    to continue an interrupted run.

    \b
    arrayred reduce 2020-11-03/raw -o reduced
    arrayred reduce raw -o reduced --object "59 Cyg" --grating 1200 --grating-angle 26.0
    arrayred reduce raw -o reduced --frames "*hr8047*" --rows 484:518
    arrayred reduce raw -o reduced --night-file night.toml --target Vega
    arrayred reduce 2020-*/raw -o reduced --jobs 2
    arrayred reduce s3://bucket/2020-11-03 -o reduced
    arrayred reduce @nights -o reduced --scheduler tls://head-node:8786
    """
    from arrayred.io.remote import path_or_address

    options = options_of(ctx)
    if is_remote(path_or_address(out)):
        raise UsageError("The output must be a local folder", path=path_or_address(out),
                         hint="Use a local folder, then copy it.")  # fmt: skip
    folders = night_folders(nights)
    if len(folders) > 1:
        sys.exit(run_many(folders, out, options))
    outcomes = reduce_one_night(folders[0], out, options)
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in failed:
        click.echo(f"arrayred: error: {outcome.name}: {outcome.error}", err=True)
    if failed:
        if len(failed) < len(outcomes) and not options.get("quiet"):
            n_failed = f"{len(failed)} of {len(outcomes)} targets failed"
            click.echo(f"\n{n_failed}, the others were reduced")
        error = failed[0].error
        code = error.exit_code if error is not None else 1
        sys.exit(EXIT_PARTIAL if len(failed) < len(outcomes) else code)


def reduce_one_night(folder: Path, out: Path, options: Options) -> list[Outcome]:
    """Reduce a night with these options and print the results of its targets."""
    from arrayred.batch import run_records

    quiet, verbose = options.get("quiet", False), options.get("verbose", False)
    with shown_stages(quiet=quiet, verbose=verbose), run_records(apart=False) as records:
        return _reduce_logged(folder, out, options, records)


def _reduce_logged(
    folder: Path, out: Path, options: Options, records: MemoryHandler
) -> list[Outcome]:
    """Reduce a night and print its results; its log begins with the records of before."""
    from arrayred.batch import check_night, dask_scheduler, night_log, reduce_to, write_night_report
    from arrayred.io.ledger import load_saved_cards, require_single_night
    from arrayred.io.publish import output_lock

    started = time.perf_counter()
    require_single_night(out)
    recipe, file = settle_settings(options, night_file_of(options, out))
    output = replace(
        output_options_of(options, out),
        saved_cards=load_saved_cards(out),
        command=command_of(options),
    )
    night = open_with_progress(folder, file, options)
    plan = check_night(night, recipe, output)
    quiet = options.get("quiet", False)
    for remark in () if quiet else plan.warnings:
        tell(remark)
    if not quiet:
        _print_night_and_masters(night, plan)
    output = _with_missing_cards(night, plan, output, options)
    if (here := with_pixels_at_hand(night, options)) is not night:
        night, plan = here, check_night(here, recipe, output)
    outcomes = []
    with (
        output_lock(out, break_lock=options.get("break_lock", False)) as is_locked,
        dask_scheduler(dask_way(options)),
        cluster_client(options) as client,
        night_log(night, plan, output, records) as log,
    ):
        warn_unless_locked(is_locked, out, quiet=quiet)
        if client is not None:
            from arrayred.batch import band_memory
            from arrayred.batch.cluster import require_frames_visible

            require_frames_visible(client, plan, band_memory(plan, output))
        for outcome in reduce_to(night, plan, recipe, output):
            outcomes.append(outcome)
            log(outcome)
            if not quiet:
                print_outcome(outcome, verbose=options.get("verbose", False))
        warnings = write_night_report(night, plan, recipe, output, outcomes)
    _print_report_path(output, warnings, quiet=quiet)
    cache_if_wanted(night, options)
    if options.get("verbose"):
        click.echo(f"{len(night.frames)} frames, {time.perf_counter() - started:.3f} s")
    return outcomes


def _with_missing_cards(
    night: Night, plan: Plan, output: OutputOptions, options: Options
) -> OutputOptions:
    """Return the output options with missing cards asked for, or left blank if allowed."""
    from arrayred.batch import missing_target_cards, require_cards

    missing = missing_target_cards(night, plan, output)
    if missing and may_ask(no_input=options.get("no_input", False)):
        return replace(output, saved_cards=ask(missing, output.saved_cards, output.out))
    if not options.get("allow_missing"):
        require_cards(missing)
    for target, cards in missing.items():
        click.echo(f"arrayred: warning: {target}: blank: {', '.join(cards)}", err=True)
    return output


def _print_night_and_masters(night: Night, plan: Plan) -> None:
    click.echo(f"{printable(str(night.folder))}: {len(night.frames)} frames")
    if night.file.path is not None:
        click.echo(f"  settings of {printable(str(night.file.path))}")
    for line in str(plan).splitlines():
        click.echo(f"  {printable(line)}")


def _print_report_path(output: OutputOptions, warnings: Sequence[str], *, quiet: bool) -> None:
    """Print the path of the report, or warnings why there is none."""
    from arrayred.io.ledger import PAGE

    for warning in warnings:
        click.echo(f"arrayred: warning: {warning}", err=True)
    if output.figures and not warnings and not quiet:
        click.echo(f"\nReport: {printable(str(output.out / PAGE))}")


def print_outcome(outcome: Outcome, *, verbose: bool = False) -> None:
    """Print the results of a target, in the terms of the published procedure."""
    from arrayred.batch import each_spectrum

    state = " (up to date)" if outcome.kept else " (failed)"
    click.echo(f"\n{outcome.name}{state if outcome.kept or outcome.error else ''}")
    for name, what in outcome.damage.items():
        click.echo(f"  Note: {printable(name)} was {what} after it was written, and is made again")
    every = each_spectrum(outcome.facts)
    for i, facts in enumerate(every, 1):
        if i > 1:
            click.echo(f"  Spectrum {i} of {len(every)}, {outcome.name}_{i}:")
        _print_spectrum(facts)
    if outcome.files:
        folder = min(outcome.files, key=lambda path: len(path.parts)).parent
        n_files = "1 file" if len(outcome.files) == 1 else f"{len(outcome.files)} files"
        click.echo(f"  {n_files} in {folder}")
    if verbose:
        for path in outcome.files:
            click.echo(f"    {path.name}")


def _print_spectrum(facts: Mapping[str, Any]) -> None:
    """Print the results of one spectrum."""
    n_sigma = facts["n_sigma"]
    sigma = facts["background_std"] * n_sigma
    click.echo(f"  The average pixel value of the sky sample is {facts['background_mean']}")
    click.echo(f"  The pixel value of Sigma ({n_sigma:g} x std) is {sigma}")
    click.echo(f"  The pixel value of the spectrum must be more than {facts['threshold']}")
    click.echo(f"  Bottom edge of the spectrum: y= {facts['first_row']}")
    click.echo(f"  Top edge of the spectrum: y= {facts['last_row']}")
    click.echo(f"  Thickness of the spectrum: {facts['n_bright_rows']}")
    click.echo(f"  Number of spectrum rows selected: {facts['n_rows']}")
    for line in (*spectrum_lines(facts), *map(_remark_line, facts.get("remarks", ()))):
        click.echo(f"  {line}")


def _remark_line(remark: str) -> str:
    """Return a remark under its level."""
    from arrayred.model import is_check, without_level

    return f"{'Check' if is_check(remark) else 'Note'}: {without_level(remark)}"


def spectrum_lines(facts: Mapping[str, Any]) -> list[str]:
    """Return lines on extraction, sky and quality of a spectrum.

    Parameters
    ----------
    facts : the attributes of a spectrum; without `extraction` (published procedure) no lines.

    Examples
    --------
    >>> facts = {"extraction": "optimal", "half_height": 17.25, "center_middle": 495.5,
    ...          "tilt": 1.31, "trace": "fit", "fwhm": 5.06, "snr": 87.2,
    ...          "enclosed_fraction": 0.9921, "sky_model": "linear", "sky_below": (420, 460),
    ...          "sky_above": (540, 580)}
    >>> for line in spectrum_lines(facts):
    ...     print(line)
    Spectrum: optimal, rows 478.2 to 512.8 along a trace tilted by 1.3 rows, seeing 5.1 rows
    Sky: linear, rows 420:460 and 540:580
    Signal to noise 87 per column (median of the central half), 99.2 % of the light enclosed
    """
    if "extraction" not in facts:
        return []
    middle, half = facts.get("center_middle"), facts.get("half_height")
    where = "" if middle is None else f", rows {middle - half:.1f} to {middle + half:.1f}"
    tilted = f" along a trace that rises by {facts.get('tilt', 0.0):.1f} rows"
    how = tilted if facts.get("trace") == "fit" else ", straight"
    seeing = f", spatial FWHM {facts['fwhm']:.1f} rows" if is_known(facts.get("fwhm")) else ""
    lines = [f"Extraction: {facts['extraction']}{where}{how}{seeing}"]
    if facts.get("rule") == "given" and facts.get("trace") == "fit":
        lines.append(f"Text tables: rows {facts['first_row']} to {facts['last_row']}, as given")
    sides = [facts[name] for name in ("sky_below", "sky_above") if name in facts]
    if sides:
        bands = " and ".join(f"{first}:{last}" for first, last in sides)
        lines.append(f"Sky: {facts.get('sky_model', 'band')}, rows {bands}")
    quality = []
    of = facts.get("snr_columns", "central half")
    if is_known(facts.get("snr")):
        note = f"; {facts['snr_note']}" if "snr_note" in facts else ""
        median = f"median of the {of}{note}"
        quality.append(f"signal to noise {facts['snr']:.0f} per column ({median})")
    if is_known(facts.get("enclosed_fraction")):
        quality.append(f"{facts['enclosed_fraction']:.1%} of the light enclosed".replace("%", " %"))
    lines += [", ".join(quality).capitalize()] if quality else []
    if "wavelength_first" in facts:
        from arrayred.steps.solution import wavelength_texts

        lines += [f"Wavelengths: {text}" for text in wavelength_texts(facts)]
    return lines


def is_known(value: float | None) -> bool:
    """Return whether a number is given and finite."""
    return value is not None and math.isfinite(value)


# ``arrayred reduce`` of many nights: folders, progress, and a summary of the targets.
#
# There are no prompts, and the failure of one night does not affect another. The results of all are
# written to ``OUT/summary.ecsv``, also if the run is interrupted.

EXIT_PARTIAL = 3
_SUMMARY_HEADINGS = {
    "night": "night",
    "target": "target",
    "status": "status",
    "rows": "rows",
    "rule": "method",
    "snr": "S/N per column",
    "snr_note": "S/N note",
    "n_saturated": "saturated",
    "n_cosmic_rays": "cosmic rays",
    "dark_age": "dark age, d",
    "seconds": "seconds",
    "reason": "reason",
}
_GLOB_CHARACTERS = set("*?[")
_STATUS_STYLES = {"failed": "red", "interrupted": "yellow", "kept": "dim"}


def night_folders(arguments: Iterable[str]) -> list[Path]:
    """Return the folders of nights named by folders, globs and ``@lists``, each once.

    Raises
    ------
    UsageError
        A list cannot be read, nothing is named, or frames are named instead of their folders.
    """
    from arrayred.io.files import paths_in

    folders: dict[Path, Path] = {}
    for argument in arguments:
        names = map(str, paths_in(Path(argument[1:]))) if argument.startswith("@") else [argument]
        for folder in (folder for name in names for folder in _matching_folders(name)):
            folders.setdefault(folder.resolve(), folder)
    if not folders:
        raise UsageError(
            "The list contains no night", hint="Name one or more folders of raw frames."
        )
    found = list(folders.values())
    require_folders(found)
    return found


def _matching_folders(name: str) -> list[Path]:
    """Return the folders that match a glob; a path that exists or is not a glob as it is."""
    from arrayred.io.remote import Address, matches, path_or_address

    path = path_or_address(name)
    if path.exists() or not _GLOB_CHARACTERS & set(name):
        return [path]
    if isinstance(path, Address):
        return list(matches(path))
    start = Path(path.anchor)
    found = sorted(p for p in start.glob(str(path.relative_to(start))) if p.is_dir())
    if not found:
        raise UsageError(
            "No folder matches", path=name, hint="Name one or more folders of raw frames."
        )
    return found


def run_many(folders: Sequence[Path], out: Path, options: Options) -> int:
    """Reduce nights, print their results, and return the exit code."""
    from arrayred.batch import logged_reports, reduce_nights
    from arrayred.io.ledger import INDEX, require_many_nights
    from arrayred.io.publish import output_lock

    require_many_nights(out)
    jobs = _jobs_for(folders, out, options)
    quiet = options.get("quiet", False)
    reports: dict[str, Report] = {}
    with output_lock(out, break_lock=options.get("break_lock", False)) as is_locked:
        warn_unless_locked(is_locked, out, quiet=quiet)
        try:
            with (
                cluster_client(options) as client,
                night_counter(len(jobs), quiet=quiet) as tell,
                closing(
                    logged_reports(reduce_nights(jobs, executor_of(client, options)), out)
                ) as done,
            ):
                for report, is_final in done:
                    if is_final:
                        reports[report.label] = report
                        _print_warnings(report, quiet=quiet)
                        tell(_error_in_one_line(report))
        except BaseException:
            _save_summary(out, _all_summary_lines(jobs, reports))
            raise
        _save_summary(out, _all_summary_lines(jobs, reports))
        if not options.get("no_figures"):
            _write_index_page(out)
    if not quiet:
        _print_summary(_all_summary_lines(jobs, reports), out)
        if (out / INDEX).is_file():
            click.echo(f"Report: {printable(str(out / INDEX))}")
    return _exit_code([reports[job.label] for job in jobs])


def warn_unless_locked(is_locked: bool, out: Path, *, quiet: bool) -> None:
    """Print a warning if a second run could write to the same folder."""
    if not is_locked and not quiet:
        told = f"{printable(str(out))}: this file system has no locks; do not start a second run"
        click.echo(f"arrayred: warning: {told}", err=True)


def _jobs_for(folders: Sequence[Path], out: Path, options: Options) -> list[Job]:
    """Return the jobs of the nights to be reduced, with all settings read and checked."""
    from arrayred.batch import Job, night_labels
    from arrayred.io.remote import Address

    for folder in folders:
        if folder.resolve() in (out.resolve(), *out.resolve().parents):
            raise UsageError(
                f"The output folder is inside the night {printable(str(folder))}",
                path=out,
                hint="Choose another folder.",
            )
    jobs = []
    for label, folder in zip(night_labels(folders), folders, strict=True):
        recipe, file = settle_settings(options, night_file_of(options, out / label))
        job = Job(
            label,
            folder,
            dataclasses.replace(
                output_options_of(options, out / label), command=command_of(options)
            ),
            file,
            recipe,
            depth=options.get("depth", 3),
            allow_missing=options.get("allow_missing", False),
            break_lock=options.get("break_lock", False),
            scheduler=dask_way(options),
            caching=cache_policy_of(options) if isinstance(folder, Address) else None,
        )
        jobs.append(job)
    return jobs


def _all_summary_lines(jobs: Iterable[Job], reports: Mapping[str, Report]) -> list[SummaryLine]:
    """Return the summary lines of the targets, by night; "interrupted" for a night not done."""
    from arrayred.batch import SummaryLine

    lines: list[SummaryLine] = []
    for job in jobs:
        report = reports.get(job.label)
        lines += report.lines if report else [SummaryLine(job.label, "", "interrupted", {}, 0.0)]
    return lines


def _save_summary(out: Path, lines: Iterable[SummaryLine]) -> None:
    from arrayred.batch import as_ecsv
    from arrayred.io.ledger import SUMMARY
    from arrayred.io.publish import publish

    if (out / SUMMARY).is_dir():
        raise StorageError(
            "A folder with the name of the summary exists",
            path=out / SUMMARY,
            hint="Move or rename it.",
        )
    publish({out / SUMMARY: as_ecsv(lines)}, overwrite=True)


def _write_index_page(out: Path) -> None:
    """Write the index of the nights; if that fails, print a warning only."""
    from arrayred.report.pages import write_index

    try:
        write_index(out)
    except ArrayredError as error:
        click.echo(f"arrayred: warning: no index was written: {error}", err=True)


def _print_warnings(report: Report, *, quiet: bool) -> None:
    """Print the errors of a night, and its warnings unless `quiet`."""
    from arrayred.model import remark_about

    for remark in () if quiet else report.warnings:
        tell(remark_about(report.label, remark))
    for line in report.lines:
        if line.status == "failed":
            where = f"{report.label}: {line.target}" if line.target else report.label
            is_told = line.reason.startswith(f"{where}: ")  # a reason that names the folder
            told = line.reason if is_told else f"{where}: {line.reason}"
            click.echo(f"arrayred: error: {told}", err=True)
    if report.bug:
        click.echo(report.bug, err=True)


def _error_in_one_line(report: Report) -> str:
    return f"{report.label}: {_status_counts(report.lines)}, {report.seconds:.2f} s"


def _status_counts(lines: Iterable[SummaryLine]) -> str:
    counts = Counter(line.status for line in lines)
    return ", ".join(f"{n} {status}" for status, n in counts.items())


def _exit_code(reports: Sequence[Report]) -> int:
    """Return 0 if no night failed, 1 for a bug, 3 if some targets failed, else the first code."""
    codes = [report.exit_code for report in reports if report.exit_code]
    if any(report.bug for report in reports) or not codes:
        return 1 if codes else 0
    is_published = any(line.status != "failed" for report in reports for line in report.lines)
    return EXIT_PARTIAL if is_published else codes[0]


def _print_summary(lines: Sequence[SummaryLine], out: Path) -> None:
    """Print a line for each target: a table on a terminal, plain columns elsewhere."""
    from arrayred.io.ledger import SUMMARY

    rows = [_summary_cells(line) for line in lines]
    shown = [name for name in _SUMMARY_HEADINGS if any(row[name] for row in rows)]
    if sys.stdout.isatty():
        _print_summary_table(lines, rows, shown)
    else:
        widths = [max(len(row[name]) for row in [_SUMMARY_HEADINGS, *rows]) for name in shown]
        for row in [_SUMMARY_HEADINGS, *rows]:
            cells = (row[name].ljust(width) for name, width in zip(shown, widths, strict=True))
            click.echo("  ".join(cells).rstrip())
    click.echo(f"{_status_counts(lines)}; details in {printable(str(out / SUMMARY))}")


def _print_summary_table(
    lines: Sequence[SummaryLine], rows: Sequence[Mapping[str, str]], shown: Sequence[str]
) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in shown:
        table.add_column(_SUMMARY_HEADINGS[name], overflow="fold")
    for line, row in zip(lines, rows, strict=True):
        table.add_row(*(Text(row[name]) for name in shown), style=_STATUS_STYLES.get(line.status))
    Console(highlight=False).print(table)


def _summary_cells(line: SummaryLine) -> dict[str, str]:
    """Return the texts of a summary line, by column; "" where a value is unknown."""
    facts = line.cells()
    rows = (facts["first_row"], facts["last_row"])
    facts["rows"] = None if None in rows else f"{rows[0]}:{rows[1]}"
    return {name: printable("".join(_cell_text(facts[name]))) for name in _SUMMARY_HEADINGS}


def _cell_text(value: Any) -> Iterator[str]:
    if isinstance(value, float):
        yield f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"
    elif value is not None:
        yield str(value)
