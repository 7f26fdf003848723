"""The commands but `reduce` and `combine`: `inspect`, `report`, `verify`, `export` and so on."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import click

from arrayred.cli.layout import (
    Level,
    coloured,
    countdown,
    labelled,
    message,
    shown_stages,
    table,
    wrapped,
)
from arrayred.cli.options import (
    BESIDE,
    Options,
    OwnOptions,
    Sectioned,
    cache_folder_of,
    exit_code_of,
    is_remote,
    night_file_of,
    night_options,
    one_of,
    open_with_progress,
    option,
    options_of,
    output_options_of,
    recipe_options,
    settle_settings,
    wavelength_options,
    with_options,
    words_of,
)
from arrayred.errors import MissingCardsError, UsageError, counted, lines_of, printable
from arrayred.io.publish import publish
from arrayred.progress import stage

if TYPE_CHECKING:
    import xarray as xr

    from arrayred.batch import OutputOptions
    from arrayred.config import Recipe
    from arrayred.export import Format, Observer
    from arrayred.io.frames import Frame
    from arrayred.io.ledger import EntryCheck, Verification
    from arrayred.night import Night
    from arrayred.simulate import SimulatedNight

COLUMNS = (
    "file",
    "type_found",
    "type",
    "exptime",
    "object",
    "size",
    "date",
    "temperature",
    "calstat",
)
_DROPPED = ("size", "found", "CALSTAT", "start (UTC)", "object", "CCD (°C)")
"""Columns of the table that a narrow terminal does without, the first to go first."""
_MOST_LISTED = 40
"""Frames that are listed one by one; of more the groups are, unless all are asked for."""
_VERBOSE_SECTIONS = ("Passes", "Products")
_WITH_OBJECT = ("light", "flat", "arc")


@click.command(cls=Sectioned)
@click.argument("nights", metavar="NIGHT", nargs=-1, required=True, type=click.Path(path_type=Path))
@night_options
@recipe_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    help="Output format: table, CSV or JSON.",
)
@click.option(
    "--plan", "show_plan", is_flag=True, help="Show what `reduce` would do and why (dry run)."
)
@click.option("--all", "list_all", is_flag=True, help="List each frame of more than 40.")
@click.option("-v", "--verbose", is_flag=True, help="With --plan: passes over the files, products.")
@click.option(
    "--write",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="Write a night file to edit.",
)
@click.pass_context
def inspect(
    ctx: click.Context,
    nights: tuple[Path, ...],
    form: str,
    show_plan: bool,
    list_all: bool,
    verbose: bool,
    write: Path | None,
) -> None:
    """List the frames of the folder NIGHT with their types, exposure times and problems.

    \b
    arrayred inspect 2020-11-03/raw
    arrayred inspect 2020-11-03/raw --format csv > frames.csv
    arrayred inspect s3://bucket/2020-11-03
    arrayred inspect 2020-11-03/raw --plan
    arrayred inspect 2020-11-03/raw --write night.toml
    """
    options, night = options_of(ctx), one_of(nights)
    recipe, file = settle_settings(options, night_file_of(options))
    with shown_stages():
        there = open_with_progress(night, file, options)
    if write is not None:
        _write_night_file(there, recipe, write)
    elif show_plan:
        _print_plan_and_exit(there, recipe, output_options_of(options, Path()), verbose=verbose)
    else:
        _require_frames(there, recipe)
        _print_frames(there, form, list_all=list_all)
        _exit_as_reduce_would(there, recipe)


def _require_frames(night: Night, recipe: Recipe) -> None:
    """Raise NightError, as `reduce` does, for a folder without a raw frame, such as its output."""
    from arrayred.errors import NightError
    from arrayred.night import make_plan

    if not night.frames and not night.problems:
        raise NightError(make_plan(night, recipe).problems)


def _exit_as_reduce_would(night: Night, recipe: Recipe) -> None:
    """Exit with the code of `reduce` if a frame cannot be used; else no plan is made."""
    from arrayred.night import make_plan, problems_of

    if night.problems or any(problems_of(frame) for frame in night.frames):
        sys.exit(exit_code_of(make_plan(night, recipe)))


def _print_frames(night: Night, form: str, *, list_all: bool) -> None:
    rows = [_frame_row(frame, night) for frame in night.frames]
    if form == "json":
        problems = [text for _, text in _remarks(night)]
        click.echo(json.dumps({"frames": rows, "problems": problems}, indent=1))
    elif form == "csv":
        click.echo(_csv_text(rows), nl=False)
        for level, text in _remarks(night):
            message(level, text)
    else:
        _print_heading(rows, night)
        if len(rows) > _MOST_LISTED and not list_all:
            _print_groups(night)
        else:
            _print_each(rows, night)
        _print_remarks(night)
        _print_next(night, is_short=len(rows) > _MOST_LISTED and not list_all)


def _print_plan_and_exit(
    night: Night, recipe: Recipe, output: OutputOptions, *, verbose: bool
) -> None:
    """Print the plan; exit with the code of `reduce` if some of it cannot be carried out."""
    from arrayred.batch import band_memory
    from arrayred.night import make_plan, plan_sections

    plan = make_plan(night, recipe)
    for title, lines in plan_sections(night, plan, band_memory(plan, output)).items():
        if title in _VERBOSE_SECTIONS and not verbose:
            continue
        if [label for label, _ in lines] == [""]:
            click.echo(labelled(title, printable(lines[0][1]), indent=0))
            continue
        click.echo(title)
        for label, text in lines:
            shown = printable(text)
            click.echo(labelled(printable(label), shown) if label else wrapped(f"  {shown}"))
    sys.exit(exit_code_of(plan))


def _write_night_file(night: Night, recipe: Recipe, path: Path) -> None:
    """Write a night file with the plan that arrayred made of the headers."""
    from arrayred.night import make_plan, night_file_text

    text = night_file_text(night, make_plan(night, recipe), recipe, path)
    try:
        publish({path: text.encode()})
    except UsageError as error:  # its hint is for products
        raise UsageError(
            "A file with different content already exists",
            path=path,
            hint="Move it or choose another file name.",
        ) from error
    click.echo(f"{path}: edit it, then `arrayred reduce {night.folder} -o OUT --night-file {path}`")


def _frame_row(frame: Frame, night: Night) -> dict[str, Any]:
    """Return the header values of one frame, ready for JSON."""
    n_rows, n_columns = frame.shape
    return {
        "file": Path(os.path.relpath(frame.path, night.folder)).as_posix(),
        "type_found": frame.type_found,
        "type": frame.frame_type,
        "exptime": frame.exptime,
        "object": frame.target,
        "size": f"{n_columns} x {n_rows}",
        "date": None if frame.time is None else frame.time.strftime("%Y-%m-%dT%H:%M:%S"),
        "temperature": frame.ccd_temp,
        "calstat": frame.calstat,
    }


def _remarks(night: Night) -> list[tuple[Level, str]]:
    """Return a line for each problem, each remark and each file that is not used, by level."""
    from arrayred.model import level_of
    from arrayred.night import problems_of, warnings_of

    wrong = [*night.problems, *(error for frame in night.frames for error in problems_of(frame))]
    lines: list[tuple[Level, str]] = [("problem", line) for line in lines_of(wrong)]
    lines += map(level_of, warnings_of(night))
    lines += [("note", f"{name}: {reason}; not used") for name, reason in night.left_out]
    return [(level, printable(text)) for level, text in lines]


def _csv_text(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    shown = [{k: printable(v) if isinstance(v, str) else v for k, v in r.items()} for r in rows]
    writer.writerows(shown)
    return text.getvalue()


def _print_heading(rows: list[dict[str, Any]], night: Night) -> None:
    """Print the folder, the number of frames of each type, and the size if it is common."""
    sizes = {row["size"] for row in rows}
    size = f", all {sizes.pop()} pixels" if len(sizes) == 1 else ""
    counts = f"{counted(len(rows), 'frame')} ({_type_counts(rows)}){size}"
    click.echo(wrapped(f"{printable(str(night.folder))}: {counts}"))


def _print_each(rows: list[dict[str, Any]], night: Night) -> None:
    """Print a line for each frame."""
    cells: dict[str, list[str]] = {
        "file": [printable(row["file"]) for row in rows],
        "type": [row["type"] or "unknown" for row in rows],
        "found": [printable(_type_that_differs(row, night)) for row in rows],
        "exp (s)": ["" if row["exptime"] is None else f"{row['exptime']:g}" for row in rows],
        "start (UTC)": [(row["date"] or "").replace("T", " ")[:16] for row in rows],
        "CCD (°C)": [_temperature(row["temperature"]) for row in rows],
        "object": [_object_shown(row) for row in rows],
        "CALSTAT": [printable(row["calstat"]) for row in rows],
        "size": [row["size"] for row in rows] if len({row["size"] for row in rows}) > 1 else [],
    }
    always = ("file", "type", "exp (s)")
    _print_table({name: col for name, col in cells.items() if name in always or any(col)})


def _type_that_differs(row: dict[str, Any], night: Night) -> str:
    """Return the type as in the header, if it does not mean the frame's; else ""."""
    found: str = row["type_found"]
    meant = night.instrument.frame_type_of(found)
    return "" if meant is not None and meant == row["type"] else found


def _object_shown(row: dict[str, Any]) -> str:
    """Return OBJECT of what shows light, "(none)" where a light frame has none."""
    if row["type"] in _WITH_OBJECT or row["type"] is None:
        return printable(row["object"]) or ("(none)" if row["type"] == "light" else "")
    return ""


def _temperature(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _print_groups(night: Night) -> None:
    """Print a line for each group of frames of one type, exposure and target."""
    from arrayred.night import summarise_night

    headings = ("type", "group", "frames", "exposure", "size", "CCD (°C)", "night")
    rows = summarise_night(night).rows
    columns = dict(zip(headings, zip(*rows, strict=True), strict=True)) if rows else {}
    columns = {"group": columns["group"], **columns} if columns else {}
    cells = {name: list(col) for name, col in columns.items() if any(col)}
    if len(set(cells.get("size", ()))) == 1:
        del cells["size"]
    if cells:
        _print_table(cells)


def _print_table(cells: dict[str, list[str]]) -> None:
    click.echo()
    for line in table(cells, ("exp (s)", "CCD (°C)", "frames", "exposure"), _DROPPED):
        click.echo(line)


def _print_remarks(night: Night) -> None:
    remarks = _remarks(night)
    if remarks:
        click.echo()
    for level, text in remarks:
        line = wrapped(f"{level}: {text}")
        click.echo(line.replace(level, coloured(level, level), 1))


def _print_next(night: Night, *, is_short: bool) -> None:
    """Print the commands that show more."""
    command = f"arrayred inspect {shlex.quote(printable(str(night.folder)))}"
    click.echo(f"\nNext: {command} --plan")
    if is_short:
        click.echo(f"      {command} --all")


def _type_counts(rows: list[dict[str, Any]]) -> str:
    kinds = [row["type"] or "unknown" for row in rows]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


@click.command()
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Overwrite the report, whatever it contains.")
@click.option(
    "--interactive",
    is_flag=True,
    help="Also write interactive pages with zoom and hover (needs bokeh).",
)
@click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
def report(out: Path, overwrite: bool, interactive: bool, quiet: bool) -> None:
    """Make the page of the night in the folder OUT, or those of many nights and their index.

    Reports are built from the products and, where they have not been moved, the raw frames. Each
    report is a single file that works offline in any browser. `reduce` writes them too.

    \b
    arrayred report reduced
    arrayred report reduced --interactive
    """
    from arrayred.io.publish import output_lock

    _require_products(out)
    with output_lock(out):
        for page in _write_pages(out, overwrite=overwrite, interactive=interactive):
            if not quiet:
                click.echo(printable(str(page)))


def _require_products(out: Path) -> None:
    """Raise UsageError for a folder that is no output, before anything is written into it."""
    from arrayred.report.pages import is_night, nights_in
    from arrayred.report.run import nothing_finished_error

    if not out.is_dir():
        hint = "Name an output folder of `arrayred reduce`."
        raise UsageError("No such folder", path=out, hint=hint)
    if not is_night(out) and not nights_in(out):
        raise nothing_finished_error(out)


def _write_pages(out: Path, *, overwrite: bool, interactive: bool) -> Iterator[Path]:
    """Yield each page as it is made: those of the nights, then their index."""
    from arrayred.io.publish import output_lock
    from arrayred.report.pages import is_night, nights_in, write_index, write_report

    nights = nights_in(out)
    if is_night(out) or not nights:
        yield write_report(out, overwrite=overwrite)
        if interactive:
            yield _write_interactive(out, overwrite=overwrite)
    for night in nights:
        with output_lock(night):
            yield write_report(night, overwrite=overwrite)
            if interactive:
                yield _write_interactive(night, overwrite=overwrite)
    if nights:
        yield write_index(out, overwrite=overwrite)


def _write_interactive(out: Path, *, overwrite: bool) -> Path:
    with explorer_needed():
        from arrayred.explore.figures import write_interactive
    return write_interactive(out, overwrite=overwrite)


@contextmanager
def explorer_needed() -> Iterator[None]:
    """Raise UsageError where the extra that draws interactive pages is not installed."""
    try:
        yield
    except ImportError as error:
        raise UsageError(
            f"The explorer needs panel and bokeh ({error})",
            hint="Install them: pip install 'arrayred[explore]'.",
        ) from error


# ``arrayred wavelength OUT``: identify the lamps of reduced targets anew.


@click.command()
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.argument("targets", metavar="[TARGET...]", nargs=-1)
@click.option(
    "--lines",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Identified lines: x and wavelength (air, Angstrom), one per row.",
)
@click.option(
    "--zero-point-of",
    metavar="TARGET",
    help="Apply the zero point that was measured in another target of the night, such as a star "
    "of known velocity.",
)
@wavelength_options
@click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
@click.pass_context
def wavelength(
    ctx: click.Context,
    out: Path,
    targets: tuple[str, ...],
    lines: Path | None,
    zero_point_of: str | None,
    quiet: bool,
) -> None:
    """Identify the arc lines of targets in OUT again, and update the wavelengths of their spectra.

    Nothing is reduced again: the arc spectra are stored with the targets. Without TARGET, all
    targets with arc spectra are updated. If a lamp is not identified, the spectrum is not changed.
    --solution also accepts the name of another target.

    \b
    arrayred wavelength reduced
    arrayred wavelength reduced Vega --lamp Ne+Ar --dispersion 0.57 --center 6600
    arrayred wavelength reduced Deneb --solution Vega
    arrayred wavelength reduced Deneb --zero-point-of Vega
    """
    from arrayred.batch.wavelengths import redo
    from arrayred.config import Recipe
    from arrayred.io.publish import output_lock
    from arrayred.steps.solution import wavelength_texts

    recipe = Recipe().replace(**options_of(ctx))
    if lines is not None and recipe.lamp_solution:
        raise UsageError(
            "--lines and --solution cannot be used together", hint="Remove one of the two."
        )
    if zero_point_of is not None and recipe.zero_point != "none":
        raise UsageError(
            "--zero-point and --zero-point-of cannot be used together",
            hint="Remove one of the two.",
        )
    _require_products(out)
    failed = None
    with output_lock(out):
        for one in redo(out, targets, recipe, lines, zero_point_of):
            if one.solved is None:
                failed = one.error
                message("error", printable(f"{one.name}: {one.error}"))
            elif not quiet:
                for text in wavelength_texts(one.facts):
                    click.echo(printable(f"{one.name}: {text}"))
                for line in one.solved.told:
                    click.echo(printable(f"  Note: {line}"))
        if (out / "report.html").exists():
            for _ in _write_pages(out, overwrite=True, interactive=False):
                pass
    if failed is not None:
        sys.exit(failed.exit_code)


# ``arrayred verify OUT...``: check that products and inputs are unchanged, and show provenance.

EXIT_CHANGED = 3
_SHORT_HASH = 12


@click.command()
@click.argument(
    "places", nargs=-1, required=True, metavar="OUT...", type=click.Path(path_type=Path)
)
@click.option("--explain", is_flag=True, help="Print the processing history of a product.")
@click.option("-q", "--quiet", is_flag=True, help="Print only differences.")
def verify(places: tuple[Path, ...], explain: bool, quiet: bool) -> None:
    """Check that the inputs and products of the output folders OUT are unchanged (SHA-256).

    Folders are searched for nights; a product is verified with its own inputs. The exit code is 0
    if everything is unchanged, else 3.

    \b
    arrayred verify reduced
    arrayred verify reduced/targets/Vega/Vega_spectrum.fits
    arrayred verify reduced/targets/Vega/Vega_spectrum.fits --explain
    """
    from arrayred.io.ledger import verify_outputs as verified

    if explain:
        for place in places:
            _print_provenance(place)
        return
    is_intact = True
    for place in places:
        with shown_stages(quiet=quiet):
            for verification in verified(place):
                is_intact &= verification.is_intact
                for line in _verification_lines(verification, quiet=quiet):
                    click.echo(printable(line))
    sys.exit(0 if is_intact else EXIT_CHANGED)


def _print_provenance(place: Path) -> None:
    from arrayred.io.products import explain

    if place.is_dir():
        raise UsageError(
            "--explain needs a product file, not a folder",
            path=place,
            hint="Name a product in this folder.",
        )
    click.echo(explain(place))


def _verification_lines(verification: Verification, *, quiet: bool) -> Iterator[str]:
    """Yield the report of an output folder, line by line."""
    if not quiet:
        yield f"{verification.out}"
    for verdict in verification.verdicts:
        if not quiet:
            yield from _entry_lines(verdict)
        for name, state in verdict.products.items():
            yield f"  {verification.out / name}: {state}"
        for name, state in verdict.inputs.items():
            yield f"  {name}: {state}; it is an input of {verdict.entry.name}"
    for path in verification.unreadable:
        yield f"  {path}: unreadable; the products it lists may be incomplete"
    if not quiet:
        for path in verification.unknown:
            yield f"  {path}: unknown file, not a finished product"
        yield f"  {_verification_summary(verification)}"


def _entry_lines(verdict: EntryCheck) -> Iterator[str]:
    """Yield the products of a ledger entry, and the inputs that they were made of."""
    entry = verdict.entry
    yield f"  {entry.name}"
    for kind, files in (("product", entry.products), ("from", entry.inputs)):
        for name, sha256 in files.items():
            yield f"    {kind:7}  {sha256[:_SHORT_HASH]}  {name}"


def _verification_summary(verification: Verification) -> str:
    verdicts = verification.verdicts
    products = sum(len(verdict.entry.products) for verdict in verdicts)
    inputs = {name for verdict in verdicts for name in verdict.entry.inputs}
    wrong = {name for verdict in verdicts for name in (*verdict.products, *verdict.inputs)}
    state = "all unchanged" if verification.is_intact else f"{len(wrong)} changed or missing"
    made = "1 product" if products == 1 else f"{products} products"
    given = "1 input" if len(inputs) == 1 else f"{len(inputs)} inputs"
    return f"{made} of {given}: {state}"


# ``arrayred export OUT --to bess|iraf``: spectra for archives and other programs.


@click.command()
@click.argument("places", nargs=-1, metavar="[OUT...]", type=click.Path(path_type=Path))
@click.option(
    "--to", type=click.Choice(["bess", "iraf"]), help="Format: bess (archive of Be stars) or iraf."
)
@click.option(
    "-o",
    "--output",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Output folder. [default: OUT/bess or OUT/iraf]",
)
@click.option(
    "--observer",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Observer file: observer, site, instrument. [default: observer.toml in OUT or in your "
    "settings]",
)
@click.option("--step", metavar="A", type=float, help="Bin width. [default: width of a pixel]")
@click.option(
    "--spoilt",
    type=click.Choice(("interpolate", "refuse")),
    default="interpolate",
    show_default=True,
    help="Interpolate flagged columns, or refuse the spectrum.",
)
@click.option(
    "--check",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Check a file of any program for BeSS; write nothing.",
)
@click.option("--overwrite", is_flag=True, help="Overwrite existing files.")
@click.option("-q", "--quiet", is_flag=True, help="Print only errors.")
def export(
    places: tuple[Path, ...],
    to: Format | None,
    check: tuple[Path, ...],
    quiet: bool,
    **options: Any,
) -> None:
    """Write wavelength-calibrated spectra as one-dimensional FITS with a linear scale.

    OUT is an output folder of `reduce`, of one or many nights, or one TARGET_spectrum.fits. Only
    what the lamp's lines cover is written; counts are conserved, wavelengths are in air and as
    observed.

    \b
    arrayred export reduced --to bess
    arrayred export reduced/targets/Vega/Vega_spectrum.fits --to iraf -o for-iraf
    arrayred export --check Vega_bess.fits
    """
    from arrayred.export import export_file

    if check:
        sys.exit(EXIT_CHANGED if _print_checks(check, quiet=quiet) else 0)
    if not places or to is None:
        raise UsageError(
            "No spectrum given" if not places else "No format given",
            hint="Name an output folder and --to bess or --to iraf.",
        )
    failed = 0
    nights = [(place, out, spectra) for place in places for out, spectra in _spectra_in(place)]
    n_spectra = sum(len(spectra) for _, _, spectra in nights)
    for place, out, spectra in nights:
        # Targets of two nights may have one name: under -o each night has a folder of its own.
        below = out.relative_to(place) if place.is_dir() else Path()
        folder = options["output"] / below if options["output"] else out / to
        observer = _observer_of(options["observer"], out, place)
        for path in spectra:
            try:
                content = export_file(
                    path, to, observer=observer, step=options["step"], spoilt=options["spoilt"]
                )
            except MissingCardsError:
                raise  # what one lacks, all lack
            except UsageError as error:
                if n_spectra == 1:
                    raise
                failed += 1
                click.echo(f"Error: {error}", err=True)
                continue
            name = path.name.removesuffix("_spectrum.fits")
            product = folder / f"{name}_{to}.fits"
            publish({product: content}, overwrite=options["overwrite"])
            if not quiet:
                click.echo(printable(str(product)))
    sys.exit(EXIT_CHANGED if failed else 0)


def _spectra_in(place: Path) -> list[tuple[Path, list[Path]]]:
    """Return the nights of an output folder, each with its finished spectra, or those of a file."""
    from arrayred.io.ledger import Ledger, output_folders
    from arrayred.report.run import nothing_finished_error

    if not place.is_dir():
        return [(place.parent, [place])]
    nights = []
    for out in output_folders(place):
        made = (name for entry in Ledger(out).entries() for name in entry.products)
        nights.append((out, [out / name for name in made if name.endswith("_spectrum.fits")]))
    if not nights:
        raise nothing_finished_error(place)
    if not any(spectra for _, spectra in nights):
        raise UsageError("No spectrum found here", path=place, hint="Reduce the night first.")
    return nights


def _observer_of(file: Path | None, out: Path, place: Path) -> Observer | None:
    """Return what the file of the observer says, or the one of the night, of OUT or the user."""
    from platformdirs import user_config_path

    from arrayred.export import OBSERVER_FILE, Observer

    folders = [out, place, user_config_path("arrayred")]
    places = [file] if file else [folder / OBSERVER_FILE for folder in folders]
    found = next((place for place in places if file or place.is_file()), None)
    return None if found is None else Observer.load(found)


def _print_checks(files: tuple[Path, ...], *, quiet: bool) -> int:
    """Print what is wrong with files for the archive; return the number of problems."""
    from arrayred.export import check_bess_file

    n = 0
    for file in files:
        problems = check_bess_file(file)
        n += len(problems)
        for problem in problems:
            click.echo(printable(f"{file}: {problem}"))
        if not problems and not quiet:
            click.echo(printable(f"{file}: meets the BeSS requirements"))
    return n


# ``arrayred cache NIGHT``: a night's pixels and headers as a zarr store.


@click.command(cls=Sectioned)
@click.argument("night", required=False, type=click.Path(path_type=Path))
@option("--to", metavar="PATH|URL", help="Folder or URL of the cache. [default: in --cache-dir]")
@option("--info", is_flag=True, help="List the caches, or describe the cache NIGHT.")
@option("--clear", is_flag=True, help="Remove all caches.")
@option("--overwrite", is_flag=True, help="Overwrite an existing cache.")
@option("-q", "--quiet", is_flag=True, help="Print only errors.")
@night_options
@click.pass_context
def cache(ctx: click.Context, night: Path | None) -> None:
    """Store the frames of the folder NIGHT as Zarr: pixels, headers, labels.

    Any command accepts a cache instead of the raw folder, with the same results, and xarray opens
    it with open_datatree(PATH, engine="zarr").

    \b
    arrayred cache raw                      for later runs
    arrayred cache raw --to night.zarr      in a place of your own
    arrayred cache raw --to s3://bucket/night.zarr
    arrayred cache s3://bucket/raw          for later runs on remote frames
    arrayred reduce night.zarr -o reduced
    arrayred cache --info
    arrayred cache --clear
    """
    options = options_of(ctx)
    if options.get("clear"):
        _clear_caches(options)
    elif options.get("info"):
        _print_cache(night, options)
    else:
        _build_cache(night, options)


def _build_cache(night: Path | None, options: Options) -> None:
    from arrayred.io.cache import open_cache
    from arrayred.night.night import cache_night

    if night is None:
        raise UsageError("No night given", hint="Name a folder of frames, --info or --clear.")
    started = time.perf_counter()
    with shown_stages(quiet=options.get("quiet", False)):
        there = open_with_progress(night, night_file_of(options), {**options, "no_cache": True})
    target = options["to"] if "to" in options else cache_folder_of(options)
    with shown_stages(quiet=options.get("quiet", False)):
        place = cache_night(there, target, overwrite=options.get("overwrite", False))
    if not options.get("quiet"):
        seconds = time.perf_counter() - started
        click.echo(f"{printable(str(place))}: {_cache_size_text(place)}, {seconds:.1f} s")
        rows = open_cache(place).band_rows
        chunks = f'{{"frame": -1, "y": {rows}}}'
        click.echo(f'xarray.open_datatree({str(place)!r}, engine="zarr", chunks={chunks})')


def _print_cache(cache: Path | None, options: Options) -> None:
    from arrayred.io.cache import open_cache
    from arrayred.io.remote import path_or_address

    if cache is not None:
        cache = path_or_address(cache)
        with shown_stages(), stage("hashing the cache"):
            open_cache(cache, wholly=True)
        click.echo(f"{printable(str(cache))}: {_cache_size_text(cache)}; all files unchanged")
        return
    library = cache_folder_of(options)
    entries = library.entries()
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        click.echo(f"{entry.place.name}  {entry.n_bytes / 1e6:9.1f} MB  used {used}")
    total = sum(entry.n_bytes for entry in entries)
    most = library.most_bytes / 1e6
    where = printable(str(library.folder))
    click.echo(f"{where}: {len(entries)} caches, {total / 1e6:.1f} of {most:.0f} MB")


def _clear_caches(options: Options) -> None:
    library = cache_folder_of(options)
    gone = library.clear()
    freed = sum(entry.n_bytes for entry in gone) / 1e6
    click.echo(f"{printable(str(library.folder))}: removed {len(gone)} caches, {freed:.1f} MB")


def _cache_size_text(place: Path) -> str:
    """Return number of frames and size of a cache, as text."""
    from arrayred.io.cache import open_cache

    contents = open_cache(place)
    images, packed = contents.images.values(), contents.n_bytes
    plain = sum(image.source.n_bytes for image in images)
    n_frames = len(images)
    frames = "1 frame" if n_frames == 1 else f"{n_frames} frames"
    return f"{frames}, {packed / 1e6:.1f} MB for {plain / 1e6:.1f} MB of pixels"


# ``arrayred explore NIGHT``: view a night in the browser.


@click.command(cls=OwnOptions)
@click.argument("night", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Output folder of Reduce, where night.toml is read and saved. [default: NIGHT-reduced]",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    metavar="N",
    help="Port to listen on (localhost only). [default: a free port]",
)
@click.option("--no-browser", is_flag=True, help="Print the address only; do not open a browser.")
@night_options
@recipe_options
@click.pass_context
def explore(
    ctx: click.Context, night: Path, out: Path | None, port: int | None, no_browser: bool
) -> None:
    """Browse NIGHT in a web browser, choose aperture and sky rows, save them and reduce.

    NIGHT is a folder of raw frames, a cache, or an output folder of `reduce`. The page is served
    to this machine only, under an unguessable address. Press Ctrl-C to stop.

    \b
    arrayred explore 2020-11-03/raw -o reduced
    arrayred explore reduced
    arrayred explore raw --no-browser --port 5006
    """
    with explorer_needed():
        from arrayred.explore.app import serve_page
    from arrayred.batch import require_outside
    from arrayred.explore.data import ExplorerModel, ReduceCommand
    from arrayred.io.remote import path_or_address

    options, there = options_of(ctx), path_or_address(night).resolve()
    if out is None:
        out = (Path() if is_remote(there) else there.parent) / f"{there.name}-reduced"
    require_outside(there, out)
    recipe, file = settle_settings(options, night_file_of(options, out))
    command = ReduceCommand(
        out,
        options.get("night_file", out / BESIDE),
        partial(settle_settings, options),
        tuple(words_of(options, without={"night_file"})),
    )
    opened = open_with_progress(night, file, options)
    model = ExplorerModel(opened, recipe, options.get("memory"), command)
    with TemporaryDirectory(prefix="arrayred-") as folder:

        def announce(address: str) -> None:
            click.echo(f"{printable(str(night))}: {address}\nPress Ctrl-C to stop.")
            if not no_browser:
                _open_browser(address, Path(folder))

        serve_page(model, port or 0, announce=announce)


def _open_browser(address: str, folder: Path) -> None:
    """Open a browser with a file in a private folder that redirects to an address.

    The address itself would be visible to other users of the machine in its list of processes.
    """
    import webbrowser

    door = folder / "arrayred.html"
    door.write_text(f'<meta http-equiv="refresh" content="0; url={address}">')
    webbrowser.open(door.as_uri())


_LARGEST_NUMBER = 1e9


class FiniteRange(click.FloatRange):
    """A number from a range, not NaN and not above 1e9."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        number = super().convert(value, param, ctx)
        if not abs(number) <= _LARGEST_NUMBER:
            self.fail(f"{value!r} is not a number up to {_LARGEST_NUMBER:g}.", param, ctx)
        return number


class Number(click.ParamType[float]):
    """A number of either sign, not NaN and not above 1e9."""

    name = "NUMBER"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        return FiniteRange().convert(value, param, ctx)


class Shape(click.ParamType[tuple[int, int]]):
    """``ROWSxCOLUMNS``."""

    name = "ROWSxCOLUMNS"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Return (rows, columns)."""
        rows, cross, columns = str(value).lower().partition("x")
        if cross and rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns):
            return int(rows), int(columns)
        return self.fail(f"{value!r} is not ROWSxCOLUMNS, such as 1024x1536.", param, ctx)


_WHOLE, _ANY, _TEXT = click.IntRange(min=0), Number(), click.STRING
_FROM_0, _ABOVE_0 = FiniteRange(min=0), FiniteRange(min=0, min_open=True)
_DIALECTS = click.Choice(["maxim", "nina", "observatory"])
_DTYPES = click.Choice(["uint8", "int16", "uint16", "int32", "uint32", "float32"])
_PROFILES = click.Choice(["gaussian", "moffat"])
_SIMULATED: Mapping[str, Sequence[tuple[str, str, click.ParamType[Any], str]]] = {
    "Frames": (
        ("--lights", "n_lights", _WHOLE, "Number of light frames. [default: 3]"),
        ("--darks", "n_darks", _WHOLE, "Number of dark frames. [default: 5]"),
        ("--biases", "n_biases", _WHOLE, "Number of bias frames. [default: 0]"),
        ("--flats", "n_flats", _WHOLE, "Number of flat frames. [default: 0]"),
        ("--arcs", "n_arcs", _WHOLE, "Number of arc frames. [default: 0]"),
        ("--exptime", "exptime", FiniteRange(0, 1e6, min_open=True),
         "Exposure time, s. [default: 600]"),
        ("--dialect", "dialect", _DIALECTS,
         "Camera program whose file names and headers are imitated. [default: maxim]"),
        ("--prefix", "prefix", _TEXT, "Prefix of the file names."),
        ("--seed", "seed", _WHOLE, "Random seed. [default: 0]"),
        ("--cosmic-rays", "cosmic_rays", _FROM_0, "Cosmic-ray hits per frame and hour."),
        ("--flux-scatter", "flux_scatter", _FROM_0,
         "Relative variation of the star's flux between frames."),
        ("--trace-drift", "trace_drift", _ANY, "Drift of the trace between light frames, rows."),
        ("--shape", "detector.shape", Shape(), "Size of the frames. [default: 256x384]"),
        ("--dtype", "detector.dtype", _DTYPES, "Data type of the pixels."),
    ),
    "Detector": (
        ("--gain", "detector.gain", _ABOVE_0, "Gain, electron/ADU."),
        ("--stated-gain", "detector.stated_gain", _ABOVE_0,
         "Gain stated in the headers, if different."),
        ("--read-noise", "detector.read_noise", _FROM_0, "Read noise, electrons."),
        ("--bias-level", "detector.bias_level", _ANY, "Bias level, ADU."),
        ("--bias-drift", "detector.bias_drift", _ANY, "Rise of the bias, ADU per hour."),
        ("--response-scatter", "detector.response_scatter", _FROM_0,
         "Relative scatter of the pixel response."),
        ("--vignetting", "detector.vignetting", FiniteRange(0, 1),
         "Vignetting: fraction of the light lost in the corners."),
        ("--full-well", "detector.full_well", _FROM_0, "Full-well capacity, electrons."),
    ),
    "Star": (
        ("--name", "star.name", _TEXT, "OBJECT of the star."),
        ("--flux", "star.flux", _FROM_0, "Flux, electrons per second and column."),
        ("--row", "star.row", _ANY, "Row of the trace in the middle column."),
        ("--tilt", "star.tilt", _ANY, "Trace tilt, rows from the first to the last column."),
        ("--seeing", "star.seeing", _ABOVE_0, "Seeing (FWHM), rows."),
        ("--profile", "star.profile", _PROFILES, "Spatial profile of the star."),
    ),
    "Sky": (
        ("--sky", "sky.level", _FROM_0, "Sky level, electrons per second and pixel."),
        ("--sky-gradient", "sky.gradient", FiniteRange(-2, 2),
         "Relative sky brightening along the slit."),
        ("--sky-tilt", "sky.tilt", _ANY, "Tilt of the sky lines, columns."),
    ),
}  # fmt: skip
"""The options of a simulated night by heading: each with the field that it sets, of the night or of
a part of it, its type and its help."""
_FIELDS = {
    name[2:].replace("-", "_"): field
    for options in _SIMULATED.values()
    for name, field, _, _ in options
}


class _Simulate(Sectioned):
    """The command with its headings: frames, detector, star and sky."""

    headings: ClassVar[Mapping[str, str]] = {
        title: " ".join(name[2:].replace("-", "_") for name, *_ in options)
        for title, options in _SIMULATED.items()
    }


_METAVARS: dict[type, str] = {FiniteRange: "X", Number: "X", click.IntRange: "N"}
_simulated_options = partial(
    with_options,
    options=[
        option(name, type=kind, metavar=_METAVARS.get(type(kind)), help=text)
        for options in _SIMULATED.values()
        for name, _, kind, text in options
    ],
)
"""Add the options of a simulated night to a command."""


@click.command(cls=_Simulate)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@_simulated_options
@option("--overwrite", is_flag=True, help="Overwrite existing files.")
@click.pass_context
def simulate(ctx: click.Context, folder: Path) -> None:
    """Write simulated frames to DIR, with their true values in truth.ecsv and truth.json.

    \b
    arrayred simulate night
    arrayred simulate night --shape 1024x1536 --flats 5 --arcs 2 --cosmic-rays 300
    arrayred simulate stack --shape 2048x2048 --lights 400 --darks 25
    """
    from arrayred.io.products import write_frames, write_truth

    options = options_of(ctx)
    _require_names(options)
    night, overwrite = simulated_night(options), options.get("overwrite", False)
    left = len(night.exposures())
    truth = write_truth(night.truth(), night.facts(), folder, overwrite=overwrite)
    with shown_stages(), stage("writing frames"):
        advance = countdown()

        def written() -> None:
            nonlocal left
            left -= 1
            if advance is not None:
                advance(left)

        paths = write_frames(night.frames(), folder, overwrite=overwrite, written=written)
    click.echo(
        f"{len(paths)} frames in {folder}; true values in {truth[0].name} and {truth[1].name}"
    )


def _require_names(options: Options) -> None:
    """Raise UsageError if the name of the star or the prefix of the files is invalid."""
    from arrayred.io.products import checked_cards

    checked_cards({"OBJECT": options.get("name", "")})
    prefix = options.get("prefix", "")
    if not prefix.isprintable() or "/" in prefix or "\\" in prefix:
        raise UsageError(
            f"{prefix!r} cannot be the start of a file name", hint="Use letters and digits."
        )


def simulated_night(options: Options) -> SimulatedNight:
    """Return the night described by the options."""
    from arrayred.simulate import Detector, SimulatedNight, Sky, Star

    parts: dict[str, dict[str, Any]] = {"": {}, "detector": {}, "star": {}, "sky": {}}
    for name in _FIELDS.keys() & options.keys():
        part, _, field = _FIELDS[name].rpartition(".")
        parts[part][field] = options[name]
    detector, star, sky = Detector(**parts["detector"]), Star(**parts["star"]), Sky(**parts["sky"])
    return SimulatedNight(detector, star, sky=sky, **parts[""])


# ``arrayred demo``: a simulated night, start to finish.


@click.command()
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("arrayred-demo"),
    show_default=True,
    help="Folder for the night and its products.",
)
@click.option("--no-figures", is_flag=True, help="Do not write figures.")
def demo(out: Path, no_figures: bool) -> None:
    """Simulate a night, reduce it, and compare the spectrum with the true one."""
    from arrayred.cli.reduce import reduce_one_night
    from arrayred.io.products import write_frames
    from arrayred.simulate import SimulatedNight

    night = SimulatedNight(n_biases=3, n_arcs=2)
    with shown_stages(), stage("writing frames"):
        paths = write_frames(night.frames(), out / "night", overwrite=True)
    click.echo(f"Simulated {len(paths)} frames in {out / 'night'}\n")
    options = {"force": True, "overwrite": True, "no_figures": no_figures}
    (outcome,) = reduce_one_night(out / "night", out / "reduced", options)
    if outcome.error is not None or outcome.spectrum is None:
        raise outcome.error or RuntimeError("a target without error has no spectrum")
    _print_comparison(outcome.spectrum, night.truth())
    click.echo("\nLook at:")
    for path in outcome.files:
        if path.name.endswith(("_skysubtracted.txt", "_spectrum.fits", ".png")):
            click.echo(f"  {path}")


def _print_comparison(spectrum: xr.Dataset, truth: xr.Dataset) -> None:
    """Print measured and true wavelength, Angstrom, and flux, adu, at some columns."""
    found, true = spectrum["flux"].values, truth["flux"].values
    wave, true_wave = (one["wavelength"].values for one in (spectrum, truth))
    sigma = spectrum["variance"].values ** 0.5
    click.echo("\ncolumn   wavelength, A      true   flux, adu   true flux   sigma")
    for i in range(len(found) // 16, len(found), len(found) // 8):
        click.echo(
            f"{i + 1:6}   {wave[i]:13.2f}   {true_wave[i]:7.2f}   {found[i]:9.0f}   {true[i]:9.0f}"
            f"   {sigma[i]:5.0f}"
        )
    click.echo(
        f"   all                             {found.sum():9.0f}   {true.sum():9.0f}"
        f"   {found.sum() / true.sum():.1%} found"
    )
