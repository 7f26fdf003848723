"""``arrayred inspect NIGHT``: list the frames of a night with their header values, or its plan."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arrayred.cli.layout import Level, coloured, labelled, message, shown_stages, table, wrapped
from arrayred.cli.options import (
    Sectioned,
    exit_code_of,
    night_file_of,
    night_options,
    one_of,
    open_with_progress,
    options_of,
    output_options_of,
    recipe_options,
    settle_settings,
)
from arrayred.errors import UsageError, counted, lines_of, printable

if TYPE_CHECKING:
    from arrayred.batch import OutputOptions
    from arrayred.config import Recipe
    from arrayred.io.frames import Frame
    from arrayred.night import Night

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
    from arrayred.io.publish import publish
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
