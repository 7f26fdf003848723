"""``arrayred combine FILES... -o OUT``: combine frames of one type into one image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from arrayred.cli.layout import message
from arrayred.cli.options import EXTENSION, Options, SizeParam, option, options_of
from arrayred.cli.options import files as complete_files
from arrayred.cli.progress import shown_stages
from arrayred.config import Combination

if TYPE_CHECKING:
    from arrayred.combine_files import CombineOptions


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILES...", shell_complete=complete_files)
@click.option(
    "-o", "--out", required=True, metavar="FILE", type=click.Path(path_type=Path), help="The image."
)
@option(
    "--minus", metavar="FILE", type=click.Path(path_type=Path), help="Subtract this image first."
)
@option(
    "--method",
    type=click.Choice(get_args(Combination)),
    help="How frames become one image. [default: median]",
)
@option(
    "--n-sigma",
    metavar="X",
    type=click.FloatRange(0, 1e6, min_open=True),
    help="How far from the mean clip keeps values. [default: 3]",
)
@option(
    "--iterations",
    metavar="N",
    type=click.IntRange(1, 1000),
    help="How often clip looks again. [default: 1]",
)
@EXTENSION
@option("--any-exposure", is_flag=True, help="Let frames differ in exposure.")
@option("--memory", type=SizeParam(), help="What the process may hold. [default: 512M]")
@option(
    "--threads",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Bands at once. [default: what suits the machine]",
)
@option(
    "--dtype",
    type=click.Choice(["float32", "float64"]),
    help="Of the image. [default: float32; float64 for integers of more than 16 bits]",
)
@option("--no-checksums", is_flag=True, help="Leave out the SHA-256 of the inputs: faster.")
@option("--overwrite", is_flag=True, help="Replace a file that has other content.")
@option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.pass_context
def combine(ctx: click.Context, files: tuple[str, ...], out: Path) -> None:
    """Combine frames of one kind into one image.

    FILES are FITS files, folders of them, or @LIST, a text file with a path a line.

    \b
    arrayred combine dark-*.fit -o master_dark.fits
    arrayred combine light-*.fit -o light.fits --minus master_dark.fits --method average
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
                f"--{name.replace('_', '-')} is for clipping",
                value=options[name],
                hint="Give --method clip as well, or leave it out.",
            )
    names = ("method", "n_sigma", "iterations", "dtype", "memory", "threads")
    given = {name: options[name] for name in names if name in options}
    return CombineOptions(**given, checksums=not options.get("no_checksums", False))
