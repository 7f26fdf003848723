"""``arrayred reduce NIGHT -o OUT``."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arrayred.cli.asking import ask, may_ask
from arrayred.cli.progress import counted
from arrayred.cli.wishes import Card, RowRange, Wishes, wish, wishes_of
from arrayred.errors import printable

if TYPE_CHECKING:
    from arrayred.batch import Order, Outcome
    from arrayred.config import Recipe
    from arrayred.night import Night, Plan

PARTIAL = 3
_FIELDS = {
    "combine": "combine",
    "sigma": "n_sigma",
    "background_rows": "background_rows",
    "rows": "rows",
}
_CARDS = {"object": "OBJECT", "grating": "GRATING", "grating_angle": "GRATANG"}


@click.command(short_help="Reduce a night to spectra.")
@click.argument("night", type=click.Path(path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Output folder.")
@wish("--instrument", metavar="NAME|FILE.toml", help="What headers mean. [default: generic]")
@wish("--frames", metavar="GLOB", help="Take only lights whose file name matches.")
@wish("--exclude", metavar="GLOB", multiple=True, help="Leave out files whose name matches.")
@wish("--object", metavar="NAME", help="OBJECT of the products.")
@wish("--grating", metavar="NAME", help="GRATING of the products.")
@wish("--grating-angle", metavar="DEG", help="GRATANG of the products, degrees.")
@wish("--card", "cards", type=Card(), multiple=True, help="Any further card of the products.")
@wish("--combine", type=click.Choice(["average", "median"]), help="How lights are combined.")
@wish("--sigma", type=click.FloatRange(min=0), help="Threshold in standard deviations.")
@wish(
    "--background-rows", type=RowRange(), help="The sample that sets the threshold. [default: 1:50]"
)
@wish("--rows", type=RowRange(), help="Take these rows as the spectrum.")
@wish("--no-sky", is_flag=True, help="Do not subtract the sky.")
@wish("--save-calibrated", is_flag=True, help="Write the calibrated frames too.")
@wish("--no-figures", is_flag=True, help="Draw no pictures.")
@wish(
    "--recipe", metavar="FILE.toml", type=click.Path(path_type=Path), help="Settings from a file."
)
@wish("--reference", is_flag=True, help="Follow the published procedure to the letter.")
@wish("--scheduler", type=click.Choice(["threads", "synchronous"]), help="How dask works.")
@wish("--no-input", is_flag=True, help="Never ask.")
@wish("--allow-missing", is_flag=True, help="Leave required cards blank if nobody gives them.")
@wish("--overwrite", is_flag=True, help="Replace products that have other content.")
@wish("-q", "--quiet", is_flag=True, help="Print errors only.")
@wish("-v", "--verbose", is_flag=True, help="Print files and timings too.")
@click.pass_context
def reduce(ctx: click.Context, night: Path, out: Path) -> None:
    """Reduce the frames in the folder NIGHT to spectra in the folder OUT.

    \b
    arrayred reduce 2020-11-03/raw -o reduced
    arrayred reduce raw -o reduced --object "59 Cyg" --grating 1200 --grating-angle 26.0
    arrayred reduce raw -o reduced --frames "*hr8047*" --rows 484:518
    """
    wishes = wishes_of(ctx)
    outcomes = run(night, out, wishes)
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in failed:
        click.echo(f"arrayred: error: {outcome.name}: {outcome.error}", err=True)
    if failed:
        error = failed[0].error
        code = error.exit_code if error is not None else 1
        sys.exit(PARTIAL if len(failed) < len(outcomes) else code)


def run(folder: Path, out: Path, wishes: Wishes) -> list[Outcome]:
    """Reduce a night as wished, telling what is found."""
    from arrayred.batch import Order, check_night, reduce_to
    from arrayred.io.answers import load_answers

    started = time.perf_counter()
    recipe = recipe_of(wishes)
    order = Order(
        out,
        cards_of(wishes),
        overwrite=wishes.get("overwrite", False),
        answers=load_answers(out),
        figures=not wishes.get("no_figures", False),
    )
    night = _open(folder, wishes)
    plan = check_night(night, recipe, order)
    quiet = wishes.get("quiet", False)
    for warning in () if quiet else plan.warnings:
        click.echo(f"arrayred: warning: {printable(warning)}", err=True)
    if not quiet:
        _tell_plan(night, plan)
    order = _complete(night, plan, order, wishes)
    outcomes = []
    with _scheduler(wishes.get("scheduler")):
        for outcome in reduce_to(night, plan, recipe, order):
            outcomes.append(outcome)
            if not quiet:
                tell(outcome, recipe, verbose=wishes.get("verbose", False))
    if wishes.get("verbose"):
        click.echo(f"{len(night.frames)} frames, {time.perf_counter() - started:.3f} s")
    return outcomes


def _open(folder: Path, wishes: Wishes) -> Night:
    from arrayred.night import open_night

    with counted("reading headers") as advance:
        return open_night(
            folder,
            instrument=wishes.get("instrument", "generic"),
            pattern=wishes.get("frames", "*"),
            exclude=wishes.get("exclude", ()),
            advance=advance,
        )


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


def recipe_of(wishes: Wishes) -> Recipe:
    """Return the recipe that the options ask for."""
    from arrayred.config import Recipe
    from arrayred.errors import UsageError

    if "recipe" in wishes and "reference" in wishes:
        raise UsageError("--recipe and --reference exclude each other", hint="Give one of them.")
    recipe = Recipe.from_toml(wishes["recipe"]) if "recipe" in wishes else Recipe()
    recipe = Recipe.reference() if wishes.get("reference") else recipe
    changes = {field: wishes[name] for name, field in _FIELDS.items() if name in wishes}
    changes |= {"sky": False} if wishes.get("no_sky") else {}
    changes |= {"calibrated": True} if wishes.get("save_calibrated") else {}
    return recipe.replace(**changes)


def cards_of(wishes: Wishes) -> dict[str, Any]:
    """Return the cards that the options give, checked."""
    from arrayred.io.product_header import checked_cards

    named = {keyword: wishes[name] for name, keyword in _CARDS.items() if name in wishes}
    return checked_cards({**named, **dict(wishes.get("cards", ()))})


def _scheduler(name: str | None) -> contextlib.AbstractContextManager[object]:
    if name is None:
        return contextlib.nullcontext()
    import dask.config

    chosen: contextlib.AbstractContextManager[object] = dask.config.set(scheduler=name)
    return chosen


def _tell_plan(night: Night, plan: Plan) -> None:
    click.echo(f"{printable(str(night.folder))}: {len(night.frames)} frames")
    for line in str(plan).splitlines():
        click.echo(f"  {printable(line)}")


def tell(outcome: Outcome, recipe: Recipe, *, verbose: bool = False) -> None:
    """Print what was found on a target, in the procedure's own terms."""
    click.echo(f"\n{outcome.name}")
    if outcome.spectrum is not None:
        facts = outcome.spectrum.attrs
        sigma = facts["background_std"] * recipe.n_sigma
        click.echo(f"  The average pixel value of the sky sample is {facts['background_mean']}")
        click.echo(f"  The pixel value of Sigma ({recipe.n_sigma:g} x std) is {sigma}")
        click.echo(f"  The pixel value of the spectrum must be more than {facts['threshold']}")
        click.echo(f"  Bottom edge of the spectrum: y= {facts['first_row']}")
        click.echo(f"  Top edge of the spectrum: y= {facts['last_row']}")
        click.echo(f"  Thickness of the spectrum: {facts['n_bright_rows']}")
        click.echo(f"  Number of spectrum rows selected: {facts['n_rows']}")
        for remark in facts.get("remarks", ()):
            click.echo(f"  Note: {remark}")
    if outcome.files:
        folder = min(outcome.files, key=lambda path: len(path.parts)).parent
        click.echo(f"  {len(outcome.files)} files in {folder}")
    if verbose:
        for path in outcome.files:
            click.echo(f"    {path.name}")
