"""Nights from disk to disk: open, reduce, write; one target's failure is not another's.

This is the only place that catches errors. Everything the headers can tell is checked first, so
that a night that cannot be reduced says so, completely, before a pixel is read or a file written.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from arrayred.config import Recipe
from arrayred.errors import ArrayredError, MissingCardsError, NightError, UsageError
from arrayred.io.answers import Answers
from arrayred.io.card import Value
from arrayred.io.frames import Frame
from arrayred.io.product_header import Story, checked_cards, checksums_of, missing_cards
from arrayred.io.products import calibrated_files, image_file, product_names, spectrum_files
from arrayred.io.publish import Content, publish, remove, require_room
from arrayred.model import FRAME, Chunks, turn
from arrayred.night import Group, Night, Plan, Target, make_plan
from arrayred.pipeline import calibrate, combine_target, extract_spectrum, make_dark

if TYPE_CHECKING:
    import xarray as xr

OPTIONS = {"OBJECT": "--object", "GRATING": "--grating", "GRATANG": "--grating-angle"}
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
    """

    out: Path
    cards: Mapping[str, Value]
    overwrite: bool = False
    answers: Answers = field(default_factory=Answers)
    figures: bool = True


@dataclass(frozen=True)
class Outcome:
    """What became of one target: its spectrum and files, or the error that stopped it."""

    name: str
    files: tuple[Path, ...] = ()
    spectrum: xr.Dataset | None = None
    error: ArrayredError | None = None


def check_night(night: Night, recipe: Recipe, order: Order) -> Plan:
    """Return the plan of a night that can be reduced as ordered, but for missing cards.

    Raises
    ------
    NightError
        The plan has problems: all of them.
    UsageError
        The order does not fit the night: one card or row range is given for several targets, or the
        output lies inside the input.
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
    names = [target.name for target in plan.targets]
    given = {"--object": "OBJECT" in order.cards, "--rows": recipe.rows is not None}
    for option, is_given in given.items():
        if len(names) > 1 and is_given:
            raise UsageError(
                f"{option} is for one target, but the night has {len(names)}: {', '.join(names)}",
                hint="Choose the frames of one with --frames GLOB.",
            )
    for target in plan.targets:
        _require_rows(recipe, target)
    require_room(order.out, _bytes_to_write(plan, recipe))
    return plan


def _require_rows(recipe: Recipe, target: Target) -> None:
    """Raise UsageError if the recipe asks for rows that the target's frames do not have."""
    first_light = target.lights.frames[0]
    n_rows = first_light.shape[first_light.dispersion_axis - 1]
    background, rows = recipe.background_rows, recipe.rows or (1, 1)
    too_high = {"--background-rows": (background, background[0]), "--rows": (rows, rows[1])}
    for option, ((first, last), highest) in too_high.items():
        if highest > n_rows:
            raise UsageError(
                f"{option} {first}:{last} was asked for, but {target.name} has rows 1:{n_rows}",
                value=(first, last),
                hint="Give rows that exist, both ends included.",
            )


def _bytes_to_write(plan: Plan, recipe: Recipe) -> int:
    """Return about how large the images will be."""
    per_pixel = int(recipe.output_dtype.removeprefix("float")) // 8
    groups = [(dark, 1) for dark in plan.darks]
    groups += [
        (target.lights, 1 + recipe.calibrated * len(target.lights.frames))
        for target in plan.targets
    ]
    return sum(n * per_pixel * math.prod(group.frames[0].shape) for group, n in groups)


def missing_of(night: Night, plan: Plan, order: Order) -> dict[str, dict[str, Value]]:
    """Return for each target the required cards that nobody gives, with what some frames say."""
    missing = {
        target.name: missing_cards(
            target.lights.frames, night.instrument.required, _cards_of(target.name, night, order)
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


def _cards_of(target: str, night: Night, order: Order) -> dict[str, Value]:
    """Return the cards given for a target: by its instrument, at a prompt, in the order."""
    return {**night.instrument.cards, **order.answers.cards_of(target), **order.cards}


def _option(keyword: str) -> str:
    return f"{OPTIONS[keyword]} ..." if keyword in OPTIONS else f"--card {keyword}=..."


def reduce_to(
    night: Night, plan: Plan, recipe: Recipe, order: Order, *, chunks: Chunks = "auto"
) -> Iterator[Outcome]:
    """Carry out a plan and write its products, target by target.

    Parameters
    ----------
    night, plan : the frames, and what `check_night` returned for them. Required cards that are
        missing still are written blank.
    recipe : what to do.
    order : what to write, and where.
    chunks : as in `reduce_night`.

    Yields
    ------
    outcome : of each target, those that cannot be reduced first.
    """
    missing = missing_of(night, plan, order)
    cards = {
        target.name: checked_cards(
            {
                **dict.fromkeys(missing.get(target.name, {}), ""),
                **_cards_of(target.name, night, order),
            }
        )
        for target in plan.targets
    }
    groups = [*plan.darks, *(target.lights for target in plan.targets)]
    paths = [frame.path for group in groups for frame in group.frames]
    with ThreadPoolExecutor(1) as aside:
        desk = _Desk(recipe, order, cards, aside.submit(checksums_of, paths), chunks)
        yield from (Outcome(name, error=error) for name, error in plan.failed)
        masters: dict[str, xr.Dataset | ArrayredError] = {}
        for group in plan.darks:
            try:
                masters[group.name] = desk.write_master(group)
            except ArrayredError as error:
                masters[group.name] = error
        for target in plan.targets:
            dark = masters[target.darks.name] if target.darks else None
            if isinstance(dark, ArrayredError):
                yield Outcome(target.name, error=dark)
            else:
                yield desk.write_target(target, dark)


@dataclass(frozen=True)
class _Desk:
    """What all products of one night have in common, and the writing of them."""

    recipe: Recipe
    order: Order
    cards: Mapping[str, Mapping[str, Value]]
    checksums: Future[dict[Path, str]]
    chunks: Chunks

    def write_master(self, darks: Group) -> xr.Dataset:
        """Make and write a master dark; return it as written, in float64."""
        master = make_dark(darks, self.recipe, self.chunks)
        story = Story(
            darks.frames, method=self.recipe.dark_method, checksums=self.checksums.result()
        )
        name = _master_name(darks)
        self._publish("masters", image_file(master, story, name, self.recipe.output_dtype))
        return master

    def write_target(self, target: Target, dark: xr.Dataset | None) -> Outcome:
        """Reduce and write one target; an error becomes its outcome, what was made is written."""
        files: dict[str, Content] = {}
        written: list[Path] = []
        spectrum, failure = None, None
        try:
            lights, story = target.lights.cube(self.chunks), self._story(target)
            combined = combine_target(lights, dark, self.recipe)
            files |= image_file(
                combined, story, f"{target.name}_combined.fits", self.recipe.output_dtype
            )
            if self.recipe.calibrated:
                for name, content in self._calibrated(lights, dark, story):
                    written += self._publish(f"targets/{target.name}/calibrated", {name: content})
            spectrum = extract_spectrum(combined, self.recipe)
            files |= spectrum_files(spectrum, story, target.name)
            if self.order.figures:
                files[f"{target.name}.png"] = _picture(combined, spectrum, target.name)
        except ArrayredError as error:
            failure = error
        try:
            written = self._publish(f"targets/{target.name}", files) + written
            self._remove_stale(target.name, files)
        except ArrayredError as error:
            failure = failure or error
        return Outcome(target.name, tuple(written), spectrum if failure is None else None, failure)

    def _remove_stale(self, target: str, files: Mapping[str, Content]) -> None:
        """With overwrite, remove products of an earlier run that this one does not make."""
        if self.order.overwrite:
            for name in product_names(target):
                if name not in files:
                    remove(self.order.out / "targets" / target / name)

    def _calibrated(
        self, lights: xr.Dataset, dark: xr.Dataset | None, story: Story
    ) -> Iterator[tuple[str, Content]]:
        """Yield the calibrated frames as files, one at a time so that only one is held."""
        for i, frame in enumerate(story.frames):
            one = calibrate(lights.isel({FRAME: [i]}), dark)
            own = dataclasses.replace(story, frames=[frame])
            yield from calibrated_files(one, own, self.recipe.output_dtype)

    def _story(self, target: Target) -> Story:
        darks: Sequence[Frame] = target.darks.frames if target.darks else ()
        return Story(
            target.lights.frames,
            darks,
            method=self.recipe.combine,
            remarks=target.remarks,
            calstat=_calstat(target.lights),
            facts=[("ARDARK", _master_name(target.darks), "master dark")] if target.darks else [],
            cards=self.cards[target.name],
            checksums=self.checksums.result(),
        )

    def _publish(self, folder: str, files: Mapping[str, Content]) -> list[Path]:
        paths = {self.order.out / folder / name: content for name, content in files.items()}
        publish(paths, overwrite=self.order.overwrite)
        return list(paths)


def _calstat(lights: Group) -> str:
    """Return the letters of what was corrected: bias and dark here, and what was before."""
    before = {letter for frame in lights.frames for letter in frame.calstat}
    return "".join(letter for letter in "BDF" if letter in before | {"B", "D"})


def _master_name(darks: Group) -> str:
    return f"master_dark_{darks.name}.fits"


def _picture(combined: xr.Dataset, spectrum: xr.Dataset, title: str) -> bytes:
    from arrayred.plots import png, quick_look

    return png(quick_look(turn(combined), spectrum, title))
