"""``arrayred reduce NIGHT... -o OUT``: one night here, many in `cli.nights`."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arrayred.cli.asking import ask, may_ask
from arrayred.cli.choosing import (
    about_the_night,
    about_the_recipe,
    night_file_of,
    opened,
    order_of,
    settle_settings,
)
from arrayred.cli.clusters import about_clusters, dask_way, working
from arrayred.cli.completion import folders
from arrayred.cli.keeping import is_remote, keep, near
from arrayred.cli.nights import PARTIAL, folders_of, run_many, warn_unless
from arrayred.cli.progress import showing
from arrayred.cli.sections import Sectioned
from arrayred.cli.told import command_of
from arrayred.cli.wishes import Card, Wishes, wish, wishes_of
from arrayred.errors import UsageError, printable
from arrayred.io.ledger import require_of_one
from arrayred.io.remote import located

if TYPE_CHECKING:
    from arrayred.batch import Order, Outcome
    from arrayred.night import Night, Plan


@click.command(cls=Sectioned)
@click.argument("nights", nargs=-1, required=True, metavar="NIGHT...", shell_complete=folders)
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Output folder.")
@about_the_night
@wish(
    "--target",
    "targets",
    metavar="NAME",
    multiple=True,
    help="Reduce only this of the night's targets.",
)
@wish("--object", metavar="NAME", help="Name of the star: OBJECT of the products.")
@wish("--grating", metavar="NAME", help="GRATING of the products.")
@wish("--grating-angle", metavar="DEG", help="GRATANG of the products, degrees.")
@wish("--card", "cards", type=Card(), multiple=True, help="Any further card of the products.")
@about_the_recipe
@wish("--no-figures", is_flag=True, help="Draw no pictures, make no report.")
@about_clusters
@wish("--no-input", is_flag=True, help="Never ask for missing cards.")
@wish("--allow-missing", is_flag=True, help="Leave required cards blank if nobody gives them.")
@wish("--overwrite", is_flag=True, help="Replace products that have other content.")
@wish("--force", is_flag=True, help="Do everything anew and replace what is there.")
@wish("--verify", is_flag=True, help="Hash all files and caches again, trusting no note of them.")
@wish(
    "--break-lock", is_flag=True, help="Write though another run holds the lock: its host is gone."
)
@wish("-q", "--quiet", is_flag=True, help="Print errors only.")
@wish("-v", "--verbose", is_flag=True, help="Print files too, and what each stage took.")
@click.pass_context
def reduce(ctx: click.Context, nights: tuple[str, ...], out: Path) -> None:
    """Reduce the frames in the folder NIGHT to spectra in the folder OUT.

    Many nights, as folders, globs, or @LIST, a text file with a folder a line, go to folders of
    their own in OUT. What is finished is not done again: an interrupted run goes on where it was.

    \b
    arrayred reduce 2020-11-03/raw -o reduced
    arrayred reduce raw -o reduced --object "59 Cyg" --grating 1200 --grating-angle 26.0
    arrayred reduce raw -o reduced --frames "*hr8047*" --rows 484:518
    arrayred reduce raw -o reduced --night-file night.toml --target Vega
    arrayred reduce 2020-*/raw -o reduced --jobs 2
    arrayred reduce s3://bucket/2020-11-03 -o reduced
    arrayred reduce @nights -o reduced --scheduler tls://head-node:8786
    """
    wishes = wishes_of(ctx)
    if is_remote(located(out)):
        raise UsageError("Products are written to a local folder", path=located(out),
                         hint="Name one, and copy it.")  # fmt: skip
    folders = folders_of(nights)
    try:
        if len(folders) > 1:
            sys.exit(run_many(folders, out, wishes))
        with showing(quiet=wishes.get("quiet", False), verbose=wishes.get("verbose", False)):
            outcomes = run(folders[0], out, wishes)
    except KeyboardInterrupt:
        click.echo("What is finished stays; the same command goes on.", err=True)
        raise
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in failed:
        click.echo(f"arrayred: error: {outcome.name}: {outcome.error}", err=True)
    if failed:
        if len(failed) < len(outcomes) and not wishes.get("quiet"):
            n_failed = f"{len(failed)} of {len(outcomes)} targets failed"
            click.echo(f"\n{n_failed}, the others are published")
        error = failed[0].error
        code = error.exit_code if error is not None else 1
        sys.exit(PARTIAL if len(failed) < len(outcomes) else code)


def run(folder: Path, out: Path, wishes: Wishes) -> list[Outcome]:
    """Reduce a night as wished, telling what is found."""
    from arrayred.batch import check_night, logged, reduce_to, report_on, scheduled
    from arrayred.io.ledger import load_answers
    from arrayred.io.publish import one_writer

    started = time.perf_counter()
    require_of_one(out)
    recipe, file = settle_settings(wishes, night_file_of(wishes, out))
    order = replace(order_of(wishes, out), answers=load_answers(out), command=command_of(wishes))
    night = opened(folder, file, wishes)
    plan = check_night(night, recipe, order)
    quiet = wishes.get("quiet", False)
    for warning in () if quiet else plan.warnings:
        click.echo(f"arrayred: warning: {printable(warning)}", err=True)
    if not quiet:
        _tell_plan(night, plan)
    order = _complete(night, plan, order, wishes)
    if (here := near(night, wishes)) is not night:
        night, plan = here, check_night(here, recipe, order)
    outcomes = []
    with (
        one_writer(out, break_lock=wishes.get("break_lock", False)) as is_locked,
        scheduled(dask_way(wishes)),
        working(wishes) as client,
        logged(night, plan, order) as log,
    ):
        warn_unless(is_locked, out, quiet=quiet)
        if client is not None:
            from arrayred.batch import room_for_bands
            from arrayred.batch.cluster import require_bands_seen

            require_bands_seen(client, plan, room_for_bands(plan, order))
        for outcome in reduce_to(night, plan, recipe, order):
            outcomes.append(outcome)
            log(outcome)
            if not quiet:
                tell(outcome, verbose=wishes.get("verbose", False))
        warnings = report_on(night, plan, recipe, order, outcomes)
    _tell_report(order, warnings, quiet=quiet)
    keep(night, wishes)
    if wishes.get("verbose"):
        click.echo(f"{len(night.frames)} frames, {time.perf_counter() - started:.3f} s")
    return outcomes


def _complete(night: Night, plan: Plan, order: Order, wishes: Wishes) -> Order:
    """Return the order with missing cards asked for, or left blank if that was allowed."""
    from arrayred.batch import missing_of, require_cards

    missing = missing_of(night, plan, order)
    if missing and may_ask(no_input=wishes.get("no_input", False)):
        return replace(order, answers=ask(missing, order.answers, order.out))
    if not wishes.get("allow_missing"):
        require_cards(missing)
    for target, cards in missing.items():
        click.echo(f"arrayred: warning: {target}: left blank: {', '.join(cards)}", err=True)
    return order


def _tell_plan(night: Night, plan: Plan) -> None:
    click.echo(f"{printable(str(night.folder))}: {len(night.frames)} frames")
    if night.file.path is not None:
        click.echo(f"  settings of {printable(str(night.file.path))}")
    for line in str(plan).splitlines():
        click.echo(f"  {printable(line)}")


def _tell_report(order: Order, warnings: Sequence[str], *, quiet: bool) -> None:
    """Tell where the page of the night is, or why there is none."""
    from arrayred.io.ledger import PAGE

    for warning in warnings:
        click.echo(f"arrayred: warning: {warning}", err=True)
    if order.figures and not warnings and not quiet:
        click.echo(f"\nA page to look at: {printable(str(order.out / PAGE))}")


def tell(outcome: Outcome, *, verbose: bool = False) -> None:
    """Print what was found on a target, in the procedure's own terms."""
    from arrayred.batch import each_of

    state = " (finished before, and intact)" if outcome.kept else " (failed)"
    click.echo(f"\n{outcome.name}{state if outcome.kept or outcome.error else ''}")
    for name, what in outcome.damage.items():
        click.echo(f"  Note: {printable(name)} was {what} since it was made, and is made anew")
    every = each_of(outcome.facts)
    for i, facts in enumerate(every, 1):
        if i > 1:
            click.echo(f"  Spectrum {i} of {len(every)}, {outcome.name}_{i}:")
        _tell_spectrum(facts)
    if outcome.files:
        folder = min(outcome.files, key=lambda path: len(path.parts)).parent
        n_files = "1 file" if len(outcome.files) == 1 else f"{len(outcome.files)} files"
        click.echo(f"  {n_files} in {folder}")
    if verbose:
        for path in outcome.files:
            click.echo(f"    {path.name}")


def _tell_spectrum(facts: Mapping[str, Any]) -> None:
    """Print what is known of one spectrum."""
    n_sigma = facts["n_sigma"]
    sigma = facts["background_std"] * n_sigma
    click.echo(f"  The average pixel value of the sky sample is {facts['background_mean']}")
    click.echo(f"  The pixel value of Sigma ({n_sigma:g} x std) is {sigma}")
    click.echo(f"  The pixel value of the spectrum must be more than {facts['threshold']}")
    click.echo(f"  Bottom edge of the spectrum: y= {facts['first_row']}")
    click.echo(f"  Top edge of the spectrum: y= {facts['last_row']}")
    click.echo(f"  Thickness of the spectrum: {facts['n_bright_rows']}")
    click.echo(f"  Number of spectrum rows selected: {facts['n_rows']}")
    for line in (*about_spectrum(facts), *(f"Note: {r}" for r in facts.get("remarks", ()))):
        click.echo(f"  {line}")


def about_spectrum(facts: Mapping[str, Any]) -> list[str]:
    """Return what is told of the spectrum itself: how it was extracted, and how good it is.

    Parameters
    ----------
    facts : the attributes of a spectrum; without `extraction` it is the procedure's.

    Examples
    --------
    >>> facts = {"extraction": "optimal", "half_height": 17.25, "center_middle": 495.5,
    ...          "tilt": 1.31, "trace": "fit", "fwhm": 5.06, "snr": 87.2,
    ...          "enclosed_fraction": 0.9921, "sky_model": "linear", "sky_below": (420, 460),
    ...          "sky_above": (540, 580)}
    >>> for line in about_spectrum(facts):
    ...     print(line)
    Spectrum: optimal, rows 478.2 to 512.8 along a trace tilted by 1.3 rows, seeing 5.1 rows
    Sky: linear, rows 420:460 and 540:580
    Signal to noise 87 (median of the central half), 99.2 % of the light enclosed
    """
    if "extraction" not in facts:
        return []
    middle, half = facts.get("center_middle"), facts.get("half_height")
    where = "" if middle is None else f", rows {middle - half:.1f} to {middle + half:.1f}"
    tilted = f" along a trace tilted by {facts.get('tilt', 0.0):.1f} rows"
    how = tilted if facts.get("trace") == "fit" else ", straight"
    seeing = f", seeing {facts['fwhm']:.1f} rows" if is_known(facts.get("fwhm")) else ""
    lines = [f"Spectrum: {facts['extraction']}{where}{how}{seeing}"]
    sides = [facts[name] for name in ("sky_below", "sky_above") if name in facts]
    if sides:
        bands = " and ".join(f"{first}:{last}" for first, last in sides)
        lines.append(f"Sky: {facts.get('sky_model', 'band')}, rows {bands}")
    quality = []
    if is_known(facts.get("snr")):
        quality.append(f"signal to noise {facts['snr']:.0f} (median of the central half)")
    if is_known(facts.get("enclosed_fraction")):
        quality.append(f"{facts['enclosed_fraction']:.1%} of the light enclosed".replace("%", " %"))
    return [*lines, ", ".join(quality).capitalize()] if quality else lines


def is_known(value: float | None) -> bool:
    """Tell whether a number is there and finite."""
    return value is not None and math.isfinite(value)
