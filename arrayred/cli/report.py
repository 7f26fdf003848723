"""``arrayred report OUT``: the pages of what was reduced, made from the output folder alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from arrayred.errors import UsageError, printable


@click.command()
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Replace a file of the page's name in any case.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def report(out: Path, overwrite: bool, quiet: bool) -> None:
    """Make the page of the night in the folder OUT, or those of many nights and their index.

    Pages are made of products, of what was noted beside them, and of the raw frames where those
    still lie as they lay. Each is one file, to be opened in any browser; `reduce` makes them too.

    \b
    arrayred report reduced
    """
    from arrayred.io.publish import one_writer

    if not out.is_dir():
        raise UsageError(
            "There is no such folder", path=out, hint="Name an output folder of arrayred."
        )
    with one_writer(out):
        for page in _pages(out, overwrite=overwrite):
            if not quiet:
                click.echo(printable(str(page)))


def _pages(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield each page as it is made: those of the nights, then their index."""
    from arrayred.io.publish import one_writer
    from arrayred.report.pages import is_night, nights_in, write_index, write_report

    nights = nights_in(out)
    if is_night(out) or not nights:
        yield write_report(out, overwrite=overwrite)
    for night in nights:
        with one_writer(night):
            yield write_report(night, overwrite=overwrite)
    if nights:
        yield write_index(out, overwrite=overwrite)
