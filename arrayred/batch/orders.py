"""What is wanted of a night beside its numbers, and whether it can be had: `check_night`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from arrayred.batch.room import room_for_bands
from arrayred.config import BETRAYED_BY, Recipe
from arrayred.config.night_file import CARDS
from arrayred.config.toml import errors_name
from arrayred.errors import InputError, MissingCardsError, NightError, UsageError
from arrayred.io.cube import read_mask
from arrayred.io.header import Value
from arrayred.io.ledger import Answers
from arrayred.io.products import checked_cards, missing_cards
from arrayred.io.publish import require_room
from arrayred.night import Group, Night, Plan, Target, make_plan
from arrayred.pipeline import cleaning
from arrayred.watching import stage

_FLAG_BYTES = 2  # MASK and DQ
_OF_MASTERS = ", ".join(BETRAYED_BY)
OPTIONS = {card: f"--{key.replace('_', '-')}" for key, card in CARDS.items()}
"""The options of the command line that give a card of its own."""


@dataclass(frozen=True)
class Order:
    """What to write beside the numbers, and where.

    Parameters
    ----------
    out : the output folder.
    cards : cards given by the user, over those of the instrument file and the frames.
    overwrite : replace products that have other content.
    answers : cards given at a prompt, now or before.
    figures : draw a picture of each target.
    targets : reduce only the targets of these names.
    memory : bytes that bands of frames may take beside the results, if there is a bound.
    limit : bytes that the whole process may take, if there is a bound; it comes before `memory`.
    force : do everything anew, even what is finished.
    verify : hash every file, instead of taking unchanged ones for what they were.
    command : that makes it again, for the report.
    """

    out: Path
    cards: Mapping[str, Value]
    overwrite: bool = False
    answers: Answers = field(default_factory=Answers)
    figures: bool = True
    targets: tuple[str, ...] = ()
    memory: int | None = None
    limit: int | None = None
    force: bool = False
    verify: bool = False
    command: str = ""


@stage("plan")
def check_night(night: Night, recipe: Recipe, order: Order) -> Plan:
    """Return the plan of a night that can be reduced as ordered, but for missing cards.

    Raises
    ------
    NightError
        The plan has problems: all of them.
    UsageError
        The order does not fit the night: one card or row range is given for several targets, or the
        output lies inside the input.
    ResourceError
        The images and a row of all frames do not fit into the limit.
    StorageError
        The output folder cannot be written, or the disk is too small.
    """
    out, folder = order.out.resolve(), night.folder.resolve()
    if out == folder or folder in out.parents:
        raise UsageError(
            "The output lies inside the night", path=order.out, hint="Choose another folder."
        )
    plan = make_plan(night, recipe)
    if plan.problems:
        raise NightError(plan.problems)
    if order.targets:
        plan = plan.only(order.targets)
    names = [target.name for target in plan.targets]
    given = {"--object": "OBJECT" in order.cards, "--rows": recipe.rows is not None}
    for option, is_given in given.items():
        if len(names) > 1 and is_given:
            raise UsageError(
                f"{option} is for one target, but the night has {len(names)}: {', '.join(names)}",
                hint="Choose one with --target NAME.",
            )
    for target in plan.targets:
        _require_rows(target)
        _require_frames(target)
        _require_mask(target)
    room_for_bands(plan, order)
    require_room(order.out, _bytes_to_write(plan, recipe))
    return plan


def _require_rows(target: Target) -> None:
    """Raise UsageError if the recipe asks for rows that the target's frames do not have."""
    recipe, first_light = target.recipe, target.lights.frames[0]
    axis = first_light.dispersion_axis - 1
    lowest, n_rows = first_light.window[axis], first_light.window[2 + axis]
    top = lowest + n_rows - 1
    background, rows, sky = recipe.background_rows, recipe.rows, recipe.sky_rows
    if recipe.near_row is not None and not lowest <= recipe.near_row <= top:
        raise UsageError(
            f"--near-row {recipe.near_row} was asked for, but {target.name} has rows "
            f"{lowest}:{top}",
            value=recipe.near_row,
            hint="Give a row that exists.",
        )
    asked = {
        "--background-rows": (background, background[0]),
        "--rows": (rows, rows and rows[1]),
        "--sky-rows": (sky, sky and sky[1]),
    }
    for option, (span, highest) in asked.items():
        if span is None or highest is None:
            continue
        first, last = span
        if highest > top or first < lowest:
            raise UsageError(
                f"{option} {first}:{last} was asked for, but {target.name} has rows {lowest}:{top}",
                value=(first, last),
                hint="Give rows that exist, both ends included.",
            )


def _require_frames(target: Target) -> None:
    """Raise UsageError if a target has too few frames for what is to be left out of them."""
    recipe, n_frames = target.recipe, len(target.lights.frames)
    if recipe.combine == "minmax" and recipe.minmax_low + recipe.minmax_high >= n_frames:
        raise UsageError(
            f"{recipe.minmax_low} lowest and {recipe.minmax_high} highest frames were to be left "
            f"out, but {target.name} has {n_frames}",
            keyword="combine",
            value="minmax",
            hint="Lower minmax_low or minmax_high, or combine by clip or median.",
        )


def _require_mask(target: Target) -> None:
    """Raise UsageError unless the mask of bad pixels, if any, is that of the target's frames."""
    path = target.recipe.bad_pixels
    if path in ("", *BETRAYED_BY):
        return
    try:
        shape, wanted = read_mask(path).shape, target.lights.frames[0].shape
    except InputError as error:
        raise UsageError(
            f"--bad-pixels is no mask: {error.args[0]}",
            path=path,
            keyword="bad_pixels",
            hint=f"Give a FITS image that is not 0 where pixels are bad, or {_OF_MASTERS}.",
        ) from error
    if shape != wanted:
        raise UsageError(
            f"--bad-pixels has {shape[1]} x {shape[0]} pixels, but {target.name} has "
            f"{wanted[1]} x {wanted[0]}",
            path=path,
            keyword="bad_pixels",
            hint="Give a mask of the frames' own shape and binning.",
        )


def _bytes_to_write(plan: Plan, recipe: Recipe) -> int:
    """Return how large the images will be at most: masters, and targets with noise and flags."""
    n_bytes = 0
    for group in plan.masters:
        n_bytes += 2 * _pixels(group) * _width(recipe) * (not group.is_master)
    for flat in plan.flats.values():
        n_bytes += 2 * _pixels(flat.frames) * _width(recipe) * (not flat.is_finished)
    for target in plan.targets:
        own, lights = _width(target.recipe), target.lights
        n_images = 1 + target.recipe.calibrated * len(lights.frames)
        n_bytes += n_images * _pixels(lights) * (2 * own + _FLAG_BYTES)
        n_bytes += _pixels(lights) * (own + 1) * (not cleaning(target.recipe).is_plain)
    return n_bytes


def _pixels(group: Group) -> int:
    return math.prod(group.frames[0].shape)


def _width(recipe: Recipe) -> int:
    return int(recipe.output_dtype.removeprefix("float")) // 8


def missing_of(night: Night, plan: Plan, order: Order) -> dict[str, dict[str, Value]]:
    """Return for each target the required cards that nobody gives, with what some frames say."""
    missing = {
        target.name: missing_cards(
            target.lights.frames, night.instrument.required, cards_of(target, night, order)
        )
        for target in plan.targets
    }
    return {name: cards for name, cards in missing.items() if cards}


def require_cards(missing: Mapping[str, Mapping[str, Value]]) -> None:
    """Raise MissingCardsError, naming every option that gives one, if cards are missing."""
    keywords = list(dict.fromkeys(k for cards in missing.values() for k in cards))
    if keywords:
        raise MissingCardsError(
            f"{', '.join(keywords)} must be in every product, and nothing gives them",
            keyword=keywords[0],
            hint=f"Give {', '.join(map(_option, keywords))}, or --allow-missing for blanks.",
        )


def cards_of(target: Target, night: Night, order: Order) -> dict[str, Value]:
    """Return the cards given for a target: the order's, over its file's, answers, instrument's."""
    with errors_name(night.file.path):
        own = checked_cards({**night.file.cards, **target.cards})
    return {
        **night.instrument.cards,
        **order.answers.cards_of(target.name),
        **own,
        **order.cards,
    }


def _option(keyword: str) -> str:
    return f"{OPTIONS[keyword]} ..." if keyword in OPTIONS else f"--card {keyword}=..."
