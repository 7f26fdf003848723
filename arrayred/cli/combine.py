"""``arrayred combine FILES... -o OUT``: combine frames of one type into one image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from arrayred.cli.layout import message, shown_stages
from arrayred.cli.options import EXTENSION, Options, SizeParam, option, options_of
from arrayred.cli.options import files as complete_files
from arrayred.config import Combination

if TYPE_CHECKING:
    from arrayred.combine_files import CombineOptions


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILES...", shell_complete=complete_files)
@click.option(
    "-o",
    "--out",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Output file.",
)
@option(
    "--minus",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Image to subtract from each frame first.",
)
@option(
    "--method",
    type=click.Choice(get_args(Combination)),
    help="Combination method. [default: median]",
)
@option(
    "--n-sigma",
    metavar="X",
    type=click.FloatRange(0, 1e6, min_open=True),
    help="Rejection threshold for clip, in sigma. [default: 3]",
)
@option(
    "--iterations",
    metavar="N",
    type=click.IntRange(1, 1000),
    help="Number of clipping iterations. [default: 1]",
)
@EXTENSION
@option("--any-exposure", is_flag=True, help="Allow different exposure times.")
@option("--memory", type=SizeParam(), help="Memory limit of the process. [default: 512M]")
@option(
    "--threads",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Number of threads. [default: automatic]",
)
@option(
    "--dtype",
    type=click.Choice(["float32", "float64"]),
    help="Data type of the image. [default: float32; float64 for integers of more than 16 bits]",
)
@option(
    "--no-checksums", is_flag=True, help="Omit the SHA-256 of the inputs from the header (faster)."
)
@option("--overwrite", is_flag=True, help="Overwrite an existing file.")
@option("-q", "--quiet", is_flag=True, help="Print only errors.")
@click.pass_context
def combine(ctx: click.Context, files: tuple[str, ...], out: Path) -> None:
    """Combine FITS frames of the same type into a single image.

    FILES are FITS files, folders, or @LIST (a text file with one path per line).

    \b
    arrayred combine dark-*.fit -o dark.fits
    arrayred combine light-*.fit -o light.fits --minus dark.fits --method average
    """
    from arrayred.combine_files import CombineChecks, prepare_combination, write_combination
    from arrayred.errors import printable

    options = options_of(ctx)
    combination = prepare_combination(
        files,
        out,
        _combine_options(options),
        minus=options.get("minus"),
        rules=CombineChecks(any_exposure=options.get("any_exposure", False)),
        extension=options.get("extension", ""),
    )
    if not options.get("quiet"):
        for warning in combination.warnings:
            message("warning", printable(warning))
    with shown_stages(quiet=options.get("quiet", False)):
        write_combination(combination, overwrite=options.get("overwrite", False))
    if not options.get("quiet"):
        n_rows, n_columns = combination.shape
        what = f"{combination.how} of {len(combination.frames)} frames"
        click.echo(f"{printable(str(out))}: {what}, {n_columns} x {n_rows}")


def _combine_options(options: Options) -> CombineOptions:
    from arrayred.combine_files import CombineOptions
    from arrayred.errors import UsageError

    for name in ("n_sigma", "iterations"):
        if name in options and options.get("method") != "clip":
            raise UsageError(
                f"--{name.replace('_', '-')} is for --method clip only",
                value=options[name],
                hint="Add --method clip, or remove it.",
            )
    names = ("method", "n_sigma", "iterations", "dtype", "memory", "threads")
    given = {name: options[name] for name in names if name in options}
    return CombineOptions(**given, checksums=not options.get("no_checksums", False))
