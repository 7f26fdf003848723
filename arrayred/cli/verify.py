"""``arrayred verify OUT...``: whether products and inputs are as they were, and of what each is."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from arrayred.cli.progress import showing
from arrayred.errors import UsageError, printable
from arrayred.io.ledger import Verdict, Verification
from arrayred.io.ledger import verify as verified

CHANGED = 3
_SHORT = 12


@click.command()
@click.argument(
    "places", nargs=-1, required=True, metavar="OUT...", type=click.Path(path_type=Path)
)
@click.option("--explain", is_flag=True, help="Tell how a product came to be, from its header.")
@click.option("-q", "--quiet", is_flag=True, help="Print only what is not as it was.")
def verify(places: tuple[Path, ...], explain: bool, quiet: bool) -> None:
    """Hash every input and product of the output folders OUT, and compare with what was noted.

    Folders are searched for nights; a product is verified with its own inputs. The exit code is 0
    if all is as it was, else 3.

    \b
    arrayred verify reduced
    arrayred verify reduced/targets/Vega/Vega_spectrum.fits
    arrayred verify reduced/targets/Vega/Vega_spectrum.fits --explain
    """
    if explain:
        for place in places:
            _explain(place)
        return
    is_intact = True
    for place in places:
        with showing(quiet=quiet):
            for verification in verified(place):
                is_intact &= verification.is_intact
                for line in _told(verification, quiet=quiet):
                    click.echo(printable(line))
    sys.exit(0 if is_intact else CHANGED)


def _explain(place: Path) -> None:
    from arrayred.io.products import explain

    if place.is_dir():
        raise UsageError("A folder has no story", path=place, hint="Name one of its products.")
    click.echo(explain(place))


def _told(verification: Verification, *, quiet: bool) -> Iterator[str]:
    """Yield what is to be said of an output folder, line by line."""
    if not quiet:
        yield f"{verification.out}"
    for verdict in verification.verdicts:
        if not quiet:
            yield from _of_what(verdict)
        for name, state in verdict.products.items():
            yield f"  {verification.out / name}: {state}"
        for name, state in verdict.inputs.items():
            yield f"  {name}: {state}; it is an input of {verdict.entry.name}"
    for path in verification.unreadable:
        yield f"  {path}: makes no sense; what it tells of is not known to be finished"
    if not quiet:
        for path in verification.unknown:
            yield f"  {path}: no finished work knows it"
        yield f"  {_sum(verification)}"


def _of_what(verdict: Verdict) -> Iterator[str]:
    """Yield the products of an entry, and the inputs that they came from."""
    entry = verdict.entry
    yield f"  {entry.name}"
    for kind, files in (("product", entry.products), ("from", entry.inputs)):
        for name, sha256 in files.items():
            yield f"    {kind:7}  {sha256[:_SHORT]}  {name}"


def _sum(verification: Verification) -> str:
    verdicts = verification.verdicts
    products = sum(len(verdict.entry.products) for verdict in verdicts)
    inputs = {name for verdict in verdicts for name in verdict.entry.inputs}
    wrong = {name for verdict in verdicts for name in (*verdict.products, *verdict.inputs)}
    state = "all as they were" if verification.is_intact else f"{len(wrong)} are not as they were"
    made = "1 product" if products == 1 else f"{products} products"
    given = "1 input" if len(inputs) == 1 else f"{len(inputs)} inputs"
    return f"{made} of {given}: {state}"
