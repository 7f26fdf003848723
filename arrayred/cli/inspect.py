"""``arrayred inspect NIGHT``: list the frames of a night with their header values, or its plan."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arrayred.cli.options import (
    Options,
    Sectioned,
    night_file_of,
    night_options,
    one_of,
    open_with_progress,
    options_of,
    output_options_of,
    recipe_options,
    settle_settings,
)
from arrayred.cli.progress import shown_stages

if TYPE_CHECKING:
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
_TYPE_STYLES = {"light": "bold", "dark": "blue", "bias": "blue", "flat": "yellow", "arc": "magenta"}


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
@click.option(
    "--write",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="Write a night file to edit.",
)
@click.pass_context
def inspect(
    ctx: click.Context, nights: tuple[Path, ...], form: str, show_plan: bool, write: Path | None
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
        _print_plan_and_exit(there, recipe, options)
    else:
        _print_frames(there, form)


def _print_frames(night: Night, form: str) -> None:
    rows = [_frame_row(frame, night) for frame in night.frames]
    if form == "json":
        click.echo(json.dumps({"frames": rows, "problems": _problems(night)}, indent=1))
    elif form == "csv":
        click.echo(_csv_text(rows), nl=False)
        for problem in _problems(night):
            click.echo(f"arrayred: problem: {problem}", err=True)
    else:
        _print_frame_table(rows, night)


def _print_plan_and_exit(night: Night, recipe: Recipe, options: Options) -> None:
    """Print the plan; exit with the code of `reduce` if it cannot be carried out."""
    from arrayred.batch import band_memory
    from arrayred.errors import NightError, printable
    from arrayred.night import explain_plan, make_plan

    plan = make_plan(night, recipe)
    room = band_memory(plan, output_options_of(options, Path()))
    for line in explain_plan(night, plan, room).splitlines():
        click.echo(printable(line))
    if plan.problems:
        sys.exit(NightError.exit_code)


def _write_night_file(night: Night, recipe: Recipe, path: Path) -> None:
    """Write a night file with the plan that arrayred made of the headers."""
    from arrayred.io.publish import publish
    from arrayred.night import make_plan, night_file_text

    text = night_file_text(night, make_plan(night, recipe), recipe, path)
    publish({path: text.encode()})
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


def _problems(night: Night) -> list[str]:
    """Return a line for each problem, each warning and each file that is not used."""
    from arrayred.errors import printable
    from arrayred.night import problems_of, warnings_of

    lines = [str(problem) for problem in night.problems]
    lines += [str(problem) for frame in night.frames for problem in problems_of(frame)]
    lines += warnings_of(night)
    lines += [f"{name}: {reason}; not used" for name, reason in night.left_out]
    return [printable(line) for line in lines]


def _csv_text(rows: list[dict[str, Any]]) -> str:
    from arrayred.errors import printable

    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    shown = [{k: printable(v) if isinstance(v, str) else v for k, v in r.items()} for r in rows]
    writer.writerows(shown)
    return text.getvalue()


def _print_frame_table(rows: list[dict[str, Any]], night: Night) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from arrayred.errors import printable

    filled = [name for name in COLUMNS if any(row[name] not in (None, "") for row in rows)]
    title = Text(printable(str(night.folder)))
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", padding=(0, 1, 0, 0))
    for name in filled:
        heading = {"type_found": "found", "temperature": "deg C"}.get(name, name)
        table.add_column(heading, overflow="fold", no_wrap=name in ("file", "date", "size"))
    for row in rows:
        shown = [
            "" if row[name] is None else printable(_shown_value(name, row[name])) for name in filled
        ]
        table.add_row(*map(Text, shown), style=_TYPE_STYLES.get(row["type"], "red"))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    console.print(table)
    console.print(f"{len(rows)} frames: {_type_counts(rows)}")
    for problem in _problems(night):
        console.print(Text(f"problem: {problem}", style="red"), soft_wrap=True)


def _shown_value(name: str, value: Any) -> str:
    """Return a header value as text, short enough for a terminal of 80 columns."""
    if name == "date":
        return str(value).replace("T", " ")[2:16]
    if name == "temperature":
        return f"{value:.1f}"
    return f"{value:g}" if isinstance(value, float) else str(value).replace(" x ", "x")


def _type_counts(rows: list[dict[str, Any]]) -> str:
    kinds = [row["type"] or "unknown" for row in rows]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
