"""``arrayred combine FILES... -o OUT``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from arrayred.cli.options import Size, Wishes, wish, wishes_of
from arrayred.cli.options import files as complete_files
from arrayred.cli.progress import showing

if TYPE_CHECKING:
    from arrayred.combine_files import How

_METHODS = ("median", "average", "clip", "minmax")


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILES...", shell_complete=complete_files)
@click.option(
    "-o", "--out", required=True, metavar="FILE", type=click.Path(path_type=Path), help="The image."
)
@wish("--minus", metavar="FILE", type=click.Path(path_type=Path), help="Subtract this image first.")
@wish(
    "--method", type=click.Choice(_METHODS), help="How frames become one image. [default: median]"
)
@wish(
    "--n-sigma",
    metavar="X",
    type=click.FloatRange(0, 1e6, min_open=True),
    help="How far from the mean clip keeps values. [default: 3]",
)
@wish(
    "--iterations",
    metavar="N",
    type=click.IntRange(1, 1000),
    help="How often clip looks again. [default: 1]",
)
@wish("--any-exposure", is_flag=True, help="Let frames differ in exposure.")
@wish("--memory", type=Size(), help="What may be held at once. [default: 512M]")
@wish(
    "--threads",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Bands at once. [default: what suits the machine]",
)
@wish("--dtype", type=click.Choice(["float32", "float64"]), help="Of the image. [default: float32]")
@wish("--no-checksums", is_flag=True, help="Leave out the SHA-256 of the inputs: faster.")
@wish("--overwrite", is_flag=True, help="Replace a file that has other content.")
@wish("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.pass_context
def combine(ctx: click.Context, files: tuple[str, ...], out: Path) -> None:
    """Combine frames of one kind into one image.

    FILES are FITS files, folders of them, or @LIST, a text file with a path a line.

    \b
    arrayred combine dark-*.fit -o master_dark.fits
    arrayred combine light-*.fit -o light.fits --minus master_dark.fits --method average
    """
    from arrayred.combine_files import Rules, carry_out, prepare
    from arrayred.errors import printable

    wishes = wishes_of(ctx)
    rules = Rules(any_exposure=wishes.get("any_exposure", False))
    combination = prepare(files, out, _how(wishes), minus=wishes.get("minus"), rules=rules)
    if not wishes.get("quiet"):
        for warning in combination.warnings:
            click.echo(f"arrayred: warning: {printable(warning)}", err=True)
    with showing(quiet=wishes.get("quiet", False)):
        carry_out(combination, overwrite=wishes.get("overwrite", False))
    if not wishes.get("quiet"):
        n_rows, n_columns = combination.shape
        what = f"{combination.how} of {len(combination.frames)} frames"
        click.echo(f"{printable(str(out))}: {what}, {n_columns} x {n_rows}")


def _how(wishes: Wishes) -> How:
    from arrayred.combine_files import How
    from arrayred.errors import UsageError

    for option in ("n_sigma", "iterations"):
        if option in wishes and wishes.get("method") != "clip":
            raise UsageError(
                f"--{option.replace('_', '-')} is for clipping",
                value=wishes[option],
                hint="Give --method clip as well, or leave it out.",
            )
    names = ("method", "n_sigma", "iterations", "dtype", "memory", "threads")
    given = {name: wishes[name] for name in names if name in wishes}
    return How(**given, checksums=not wishes.get("no_checksums", False))
