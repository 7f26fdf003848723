"""A night from its plan to its products, target by target: `reduce_to`.

This is the only place that catches errors: one target's failure is not another's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from arrayred.batch.keys import key_of_target
from arrayred.batch.masters import Masters
from arrayred.batch.orders import Order, cards_of, missing_of
from arrayred.batch.room import room_for_bands, widens
from arrayred.batch.shelf import Shelf
from arrayred.batch.summary import facts_of, with_further
from arrayred.config import Recipe, RowRange
from arrayred.errors import ArrayredError, NoSpectrumError
from arrayred.io.header import Value
from arrayred.io.ledger import Examined, Ledger, examine, required
from arrayred.io.products import (
    Story,
    arc_file,
    calibrated_files,
    checked_cards,
    frames_file,
    image_file,
    is_product,
    spectrum_files,
)
from arrayred.io.publish import Content
from arrayred.model import FRAME, Chunks, turn
from arrayred.night import Night, Plan, Target
from arrayred.pipeline import (
    Reading,
    calibrate,
    combine_frames,
    cut_arc,
    extract_each,
    extract_spectrum,
    in_units,
    numbered,
    recipe_for,
    rows_to_extract,
    settle,
)
from arrayred.process import hold_little
from arrayred.steps.cosmic import judge_frames
from arrayred.watching import stage

if TYPE_CHECKING:
    import xarray as xr

_CARD_OF = {"bias": "ARBIAS", "dark": "ARDARK", "flat": "ARFLAT"}


@dataclass(frozen=True)
class Outcome:
    """What became of one target.

    Parameters
    ----------
    name : the target's.
    files : its products.
    spectrum : what was made now; None of what failed or was kept.
    error : what stopped it, or None.
    facts : what is known of its spectrum, made now or kept, and of each further one (`each_of`);
        empty if it failed.
    kept : it was finished already, and nothing was done.
    damage : its products that had been lost or changed since it was finished.
    """

    name: str
    files: tuple[Path, ...] = ()
    spectrum: xr.Dataset | None = None
    error: ArrayredError | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    kept: bool = False
    damage: Mapping[str, str] = field(default_factory=dict)


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
    if order.limit is not None:
        hold_little()
    missing = missing_of(night, plan, order)
    cards = {
        target.name: checked_cards(
            dict.fromkeys(missing.get(target.name, {}), "") | cards_of(target, night, order)
        )
        for target in plan.targets
    }
    groups = [*plan.masters, *(target.lights for target in plan.targets)]
    groups += [target.lamps for target in plan.targets if target.lamps]
    groups += [flat.frames for flat in plan.flats.values()]
    frames = [frame for group in groups for frame in group.inputs]
    ledger = Ledger(order.out, verify=order.verify)
    with _aside(lambda stop: examine(frames, ledger.hashes, stop)) as checksums:
        shelf = Shelf(order, ledger, checksums)
        room = room_for_bands(plan, order)
        reading = Reading(chunks, room, recipe.overscan, widened=widens(plan))
        masters = Masters(recipe, reading, shelf, {group.key for group in plan.masters})
        desk = _Desk(recipe, order, cards, shelf, reading, masters)
        yield from (Outcome(name, error=error) for name, error in plan.failed)
        for group in plan.masters:
            masters.ensure(group)
        for flat in plan.flats.values():
            masters.ensure(flat)
        found: dict[str, RowRange] = {}
        for target in plan.targets:
            with stage(target.name):
                outcome = desk.serve(target, found)
            if outcome.facts:
                facts = outcome.facts
                found[target.name] = (facts["first_row"], facts["last_row"])
            yield outcome
        checksums.result()
        ledger.hashes.save()


@contextmanager
def _aside(work: Callable[[Event], Examined]) -> Iterator[Future[Examined]]:
    """Do work in a thread; it is told to stop when nobody waits for it any more."""
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(work, stop)
        finally:
            stop.set()


@dataclass(frozen=True)
class _Desk:
    """What all products of one night have in common, and the making of them."""

    recipe: Recipe
    order: Order
    cards: Mapping[str, Mapping[str, Value]]
    shelf: Shelf
    reading: Reading
    masters: Masters

    def serve(self, target: Target, found: Mapping[str, RowRange]) -> Outcome:
        """Reduce and write one target, or find it finished."""
        try:
            own = dataclasses.replace(target, recipe=recipe_for(target, found))
            entry = self.shelf.finished(_name(own), lambda: self._key(own))
            if entry is not None:
                paths = tuple(self.order.out / name for name in entry.products)
                return Outcome(target.name, paths, facts=entry.facts, kept=True)
            needed = (target.master, target.lamp_master, target.flat)
            settled = [self.masters.require(group) for group in needed]
        except ArrayredError as error:
            return Outcome(target.name, error=error)
        return self.write_target(own, *settled)

    def _key(self, target: Target) -> str:
        return key_of_target(
            target,
            self.shelf.examined,
            cards=self.cards[target.name],
            dark_method=self.recipe.dark_method,
            figures=self.order.figures,
        )

    def write_target(
        self,
        target: Target,
        master: xr.Dataset | None,
        lamp_master: xr.Dataset | None,
        flat: xr.Dataset | None = None,
    ) -> Outcome:
        """Reduce and write one target; an error becomes its outcome, what was made is written."""
        recipe = target.recipe
        files: dict[str, Content] = {}
        written: list[Path] = []
        spectrum, failure = None, None
        told: list[dict[str, Any]] = []
        try:
            lights, story = self.reading.open(target.lights), self._story(target)
            combined, hits = combine_frames(lights, master, recipe, flat)
            files |= image_file(
                in_units(combined, recipe),
                story,
                f"{target.name}_combined.fits",
                recipe.output_dtype,
            )
            if recipe.calibrated:
                judged = judge_frames(lights, master, combined, hits)
                one_by_one = partial(calibrate, dark=master, flat=flat, judged=judged)
                for name, content in _calibrated(lights, one_by_one, story, recipe):
                    written += self.shelf.put(f"{_name(target)}/calibrated", {name: content})
            for stem, found in _spectra(combined, target):
                spectrum = found if spectrum is None else spectrum
                told.append(facts_of(found, target))
                files |= spectrum_files(in_units(found, recipe), story, stem, found)
                if recipe.per_frame:
                    frames = extract_each(lights, master, recipe, flat, found)
                    files |= frames_file(in_units(frames, recipe), story, stem)
                if target.lamps:
                    arc = cut_arc(self.reading.open(target.lamps), lamp_master, found, recipe)
                    files |= arc_file(arc, stem)
                if self.order.figures:
                    files[f"{stem}.png"] = _picture(combined, found, stem)
        except ArrayredError as error:
            failure = error
            if isinstance(error, NoSpectrumError) and self.order.figures:
                files[f"{target.name}.png"] = _picture(combined, None, target.name, error)
        facts = {} if failure else with_further(told)
        try:
            written = self.shelf.put(_name(target), files) + written
            self._remove_stale(target, files)
            if facts:
                self.shelf.finish(_name(target), self._key(target), story.checksums, facts)
        except ArrayredError as error:
            failure = failure or error
        self.shelf.drop()
        damage = self.shelf.damage(_name(target))
        if failure is not None:
            return Outcome(target.name, tuple(written), error=failure, damage=damage)
        return Outcome(target.name, tuple(written), spectrum, facts=facts, damage=damage)

    def _remove_stale(self, target: Target, files: Mapping[str, Content]) -> None:
        """With overwrite, remove products of an earlier run that this one does not make."""
        if self.order.overwrite:
            folder = self.order.out / _name(target)
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.name not in files and is_product(path.name, target.name):
                    self.shelf.remove(_name(target), path.name)

    def _story(self, target: Target) -> Story:
        flat = target.flat
        used = [(master.kind, master.master_name) for master in (target.master,) if master]
        used += [("flat", flat.master_name)] if flat else []
        groups = [group for group in (*target.masters, target.lamps) if group]
        others = [frame for group in groups for frame in group.inputs]
        others += flat.frames.frames if flat else ()
        others = list({frame.path: frame for frame in others}.values())
        return Story(
            target.lights.frames,
            others,
            method=target.recipe.combine,
            remarks=target.remarks,
            calstat=target.calstat,
            facts=[(_CARD_OF[kind], name, f"master {kind}") for kind, name in used],
            cards=self.cards[target.name],
            checksums=required(self.shelf.examined, [*target.lights.frames, *others]),
            unit="electron" if target.recipe.units == "electron" else None,
        )


def _name(target: Target) -> str:
    return f"targets/{target.name}"


def _calibrated(
    lights: xr.Dataset, calibrated: Callable[[xr.Dataset], xr.Dataset], story: Story, recipe: Recipe
) -> Iterator[tuple[str, Content]]:
    """Yield the calibrated frames as files, one at a time so that only one is held."""
    for i, frame in enumerate(story.frames):
        one = in_units(settle(calibrated(lights.isel({FRAME: [i]}))), recipe)
        yield from calibrated_files(
            one, dataclasses.replace(story, frames=[frame]), recipe.output_dtype
        )


def _spectra(combined: xr.Dataset, target: Target) -> Iterator[tuple[str, xr.Dataset]]:
    """Yield each spectrum of a target with the stem of its files."""
    for i, rows in enumerate(rows_to_extract(combined, target.recipe)):
        yield numbered(target.name, i), extract_spectrum(combined, target.recipe, rows)


@stage("draw")
def _picture(
    combined: xr.Dataset,
    spectrum: xr.Dataset | None,
    title: str,
    error: NoSpectrumError | None = None,
) -> bytes:
    """Return the picture of a target, or, without a spectrum, of what was searched."""
    from arrayred.plots import png, quick_look, search_look

    if spectrum is None:
        threshold = None if error is None else error.value
        return png(search_look(turn(combined), title, threshold=threshold))
    return png(quick_look(turn(combined), spectrum, title))
