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

from arrayred.cli.layout import coloured, labelled, message, night_counter, remark, shown_stages
from arrayred.cli.options import (
    EXIT_PARTIAL,
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
    target_names,
    with_pixels_at_hand,
)
from arrayred.errors import ArrayredError, StorageError, UsageError, counted, printable

if TYPE_CHECKING:
    from logging.handlers import MemoryHandler

    from arrayred.batch import Job, Outcome, OutputOptions, Report, SummaryLine
    from arrayred.config import Recipe
    from arrayred.night import Night, Plan, Target


@click.command(cls=Sectioned)
@click.argument("nights", nargs=-1, required=True, metavar="NIGHT...", shell_complete=folders)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Output folder.")
@night_options
@option(
    "--target",
    "targets",
    metavar="NAME",
    shell_complete=target_names,
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
    "--break-lock",
    is_flag=True,
    help="Ignore the lock of another run (only if its host is down).",
)
@option("-q", "--quiet", is_flag=True, help="Print only errors.")
@option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Print files and the procedure's lines too, and what each stage took.",
)
@click.pass_context
def reduce(ctx: click.Context, nights: tuple[str, ...], out: Path) -> None:
    """Reduce the raw frames in the folder NIGHT to spectra in the folder OUT.

    Several nights may be given as folders, globs, or @LIST (a text file with one folder per
    line); each gets a folder in OUT. Finished products are not made again, so repeat the command
    to continue an interrupted run.

    \b
    arrayred reduce 2020-11-03/raw -o reduced
    arrayred reduce raw -o reduced --object "59 Cyg" --grating 1200
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
        message("error", f"{outcome.name}: {outcome.error}")
    if failed:
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
    for text in () if quiet else plan.warnings:
        remark(text)
    if not quiet:
        _print_night(night, plan, recipe)
    output = _with_missing_cards(night, plan, output, options)
    if (here := with_pixels_at_hand(night, options)) is not night:
        night, plan = here, check_night(here, recipe, output)
    outcomes = []
    planned = {target.name: target for target in plan.targets}
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
                target = planned.get(outcome.name)
                print_outcome(outcome, target, verbose=options.get("verbose", False))
        warnings = write_night_report(night, plan, recipe, output, outcomes)
    for warning in warnings:
        message("warning", warning)
    if not quiet:
        seconds, paged = time.perf_counter() - started, output.figures and not warnings
        _print_end(plan, outcomes, output, seconds, paged=paged)
    cache_if_wanted(night, options)
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
        message("warning", f"{target}: blank: {', '.join(cards)}")
    return output


def _print_night(night: Night, plan: Plan, recipe: Recipe) -> None:
    """Print the number of frames and targets, the masters, and the frames that are not used."""
    n_targets = counted(len(plan.targets) + len(plan.failed), "target")
    click.echo(
        f"{printable(str(night.folder))}: {counted(len(night.frames), 'frame')}, {n_targets}"
    )
    if night.file.path is not None:
        click.echo(labelled("night file", printable(str(night.file.path))))
    for group in plan.masters:
        how = "as it is" if group.is_master else f"{recipe.dark_method} of {group.size}"
        click.echo(labelled(f"master {printable(group.title)}", how))
    for flat in plan.flats.values():
        click.echo(labelled(f"master {printable(flat.frames.title)}", flat.frames.size))
    for line in plan.left_out_lines():
        click.echo(labelled("not used", printable(line)))


def _print_end(
    plan: Plan, outcomes: Sequence[Outcome], output: OutputOptions, seconds: float, *, paged: bool
) -> None:
    """Print how many targets were reduced, and where the report is."""
    from arrayred.io.ledger import PAGE

    n_failed = sum(outcome.error is not None for outcome in outcomes)
    n_kept = sum(outcome.kept for outcome in outcomes)
    counts = [f"{counted(len(outcomes) - n_failed - n_kept, 'target')} reduced"]
    counts += [f"{n_kept} up to date"] if n_kept else []
    counts += [f"{n_failed} failed", f"{counted(len(plan.left_out), 'frame')} unused"]
    click.echo(f"\n{', '.join(counts)}, {seconds:.1f} s")
    if paged:
        click.echo(f"Report: {printable(str(output.out / PAGE))}")


def print_outcome(outcome: Outcome, target: Target | None = None, *, verbose: bool = False) -> None:
    """Print the results of a target.

    Parameters
    ----------
    outcome : of the target.
    target : as planned; None if no plan could be made.
    verbose : print the lines of the published procedure, and the name of each file.
    """
    from arrayred.batch import each_spectrum

    name = printable(outcome.name)
    state = "failed" if outcome.error else "up to date" if outcome.kept else ""
    told = ", ".join(filter(None, (state, "" if target is None else _target_text(target))))
    click.echo(f"\n{labelled(name, told, indent=0)}")
    for file, what in outcome.damage.items():
        click.echo(
            labelled(
                "Note", f"{printable(file)} was {what} after it was written, and is made again"
            )
        )
    every = each_spectrum(outcome.facts)
    for i, facts in enumerate(every, 1):
        if i > 1:
            click.echo(f"  Spectrum {i} of {len(every)}, {name}_{i}")
        _print_spectrum(facts, verbose=verbose)
    if outcome.files:
        folder = min(outcome.files, key=lambda path: len(path.parts)).parent
        click.echo(labelled("Files", f"{len(outcome.files)} in {printable(str(folder))}"))
    if verbose:
        for path in outcome.files:
            click.echo(f"    {printable(path.name)}")


_COMBINED = {"average": "averaged", "median": "median", "clip": "clipped mean", "minmax": "minmax"}


def _target_text(target: Target) -> str:
    """Return the light frames of a target, what was corrected, and how they were combined."""
    lights, letters = target.lights, target.calstat
    done = ["bias-subtracted"] if target.bias is not None else []
    if "D" in letters:
        done += ["dark already subtracted" if lights.is_dark_subtracted else "dark-subtracted"]
    done += ["flat-fielded"] if "F" in letters else []
    method = [_COMBINED[target.recipe.combine]] if len(lights.frames) > 1 else []
    exposure = f"{len(lights.frames)} x {lights.exptime:g} s"
    return ", ".join([exposure, *(done or ["uncalibrated"]), *method])


def _print_spectrum(facts: Mapping[str, Any], *, verbose: bool) -> None:
    """Print the results of one spectrum."""
    from arrayred.batch import procedure_lines
    from arrayred.model import level_of

    lines = spectrum_lines(facts)
    if verbose or not lines:
        for line in procedure_lines(facts):
            click.echo(f"  {line}")
    for label, text in lines:
        click.echo(labelled(label, text))
    for text in facts.get("remarks", ()):
        level, told = level_of(text)
        line = labelled(level.capitalize(), printable(told))
        is_coloured = level == "check" and sys.stdout.isatty()
        click.echo(line.replace("Check", coloured("Check", "check"), 1) if is_coloured else line)


def spectrum_lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return lines on detection, trace, sky, extraction and S/N of a spectrum, with their labels.

    Parameters
    ----------
    facts : the attributes of a spectrum; without `extraction` (published procedure) no lines.

    Examples
    --------
    >>> facts = {"extraction": "optimal", "half_height": 17.25, "center_middle": 495.5,
    ...          "tilt": 1.31, "trace": "fit", "fwhm": 5.06, "snr": 87.2,
    ...          "enclosed_fraction": 0.9921, "sky_model": "linear", "sky_below": (420, 460),
    ...          "sky_above": (540, 580)}
    >>> for label, text in spectrum_lines(facts):
    ...     print(f"{label}: {text}")
    Trace: rises 1.3 rows
    Sky: rows 420:460 and 540:580, linear fit per column
    Extraction: optimal, 34.5 rows along the trace, FWHM 5.1 rows, 99.2% of flux in aperture
    S/N: 87 per pixel (median, central half)
    """
    if "extraction" not in facts:
        return []
    lines = [
        *_detection_lines(facts),
        ("Trace", _trace_text(facts)),
        ("Sky", _sky_text(facts)),
        ("Cosmic rays", _cosmic_ray_text(facts)),
        ("Extraction", _extraction_text(facts)),
        ("S/N", _snr_text(facts)),
    ]
    if "wavelength_first" in facts:
        from arrayred.steps.solution import wavelength_texts

        lines += [("Wavelengths", text) for text in wavelength_texts(facts)]
    return [(label, text) for label, text in lines if text]


def _detection_lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    if "threshold" not in facts:
        return []
    first, last = facts["first_row"], facts["last_row"]
    rows = f"rows {first}:{last} ({last - first + 1})"
    if facts.get("rule") == "given":
        return [("Detection", f"{rows}, as given")]
    if facts.get("rule") == "robust":
        return [("Detection", f"{rows} by the robust method")]
    mean, std = facts["background_mean"], facts["background_std"]
    return [
        ("Detection", f"{rows} above {facts['threshold']:.2f} ADU"),
        ("", f"= background {mean:.2f} + {facts['n_sigma']:g} x {std:.2f}"),
    ]


def _trace_text(facts: Mapping[str, Any]) -> str:
    if facts.get("trace") != "fit":
        return "straight"
    order, rms, tilt = (facts.get(name) for name in ("trace_order", "trace_rms", "tilt"))
    parts = [] if order is None else [f"order {order}"]
    parts += [] if rms is None else [f"rms {rms:.2f} rows"]
    if tilt is not None and is_known(tilt):
        parts.append(f"{'falls' if tilt < 0 else 'rises'} {abs(tilt):.1f} rows")
    return ", ".join(parts)


_SKY_FITS = {"linear": "linear fit per column", "mean": "mean per column"}


def _sky_text(facts: Mapping[str, Any]) -> str:
    sides = [facts[name] for name in ("sky_below", "sky_above") if name in facts]
    if not sides:
        return ""
    bands = " and ".join(f"{first}:{last}" for first, last in sides)
    model = facts.get("sky_model", "band")
    return f"rows {bands}, {_SKY_FITS.get(model, model)}"


def _cosmic_ray_text(facts: Mapping[str, Any]) -> str:
    n = facts.get("n_cosmic_rays")
    return "" if n is None else f"{counted(n, 'column')} flagged"


def _extraction_text(facts: Mapping[str, Any]) -> str:
    parts = [str(facts["extraction"])]
    if is_known(facts.get("half_height")):
        parts.append(f"{2 * facts['half_height']:.3g} rows along the trace")
    if is_known(facts.get("fwhm")):
        parts.append(f"FWHM {facts['fwhm']:.1f} rows")
    if is_known(facts.get("enclosed_fraction")):
        parts.append(f"{facts['enclosed_fraction']:.1%} of flux in aperture")
    return ", ".join(parts)


def _snr_text(facts: Mapping[str, Any]) -> str:
    if not is_known(facts.get("snr")):
        return ""
    note = f"; {facts['snr_note']}" if "snr_note" in facts else ""
    where = facts.get("snr_columns", "central half")
    return f"{facts['snr']:.0f} per pixel (median, {where}{note})"


def is_known(value: float | None) -> bool:
    """Return whether a number is given and finite."""
    return value is not None and math.isfinite(value)


# ``arrayred reduce`` of many nights: folders, progress, and a summary of the targets.
#
# There are no prompts, and the failure of one night does not affect another. The results of all are
# written to ``OUT/summary.ecsv``, also if the run is interrupted.

_SUMMARY_HEADINGS = {
    "night": "night",
    "target": "target",
    "status": "status",
    "rows": "rows",
    "rule": "method",
    "snr": "S/N per pixel",
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
        message("warning", told)


def _jobs_for(folders: Sequence[Path], out: Path, options: Options) -> list[Job]:
    """Return the jobs of the nights to be reduced, with all settings read and checked."""
    from arrayred.batch import Job, night_labels, require_outside
    from arrayred.io.remote import Address

    for folder in folders:
        require_outside(folder, out)
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
        message("warning", f"no index was written: {error}")


def _print_warnings(report: Report, *, quiet: bool) -> None:
    """Print the errors of a night, and its warnings unless `quiet`."""
    from arrayred.model import remark_about

    for text in () if quiet else report.warnings:
        remark(remark_about(report.label, text))
    for line in report.lines:
        if line.status == "failed":
            where = f"{report.label}: {line.target}" if line.target else report.label
            is_told = line.reason.startswith(f"{where}: ")  # a reason that names the folder
            told = line.reason if is_told else f"{where}: {line.reason}"
            message("error", told)
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
