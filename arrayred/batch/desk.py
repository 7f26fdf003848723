"""A night from its plan to its products, target by target: `reduce_to`.

This is the only place that catches errors: one target's failure is not another's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from arrayred.batch.orders import Order, cards_of, missing_of
from arrayred.batch.stories import story_of_flat, story_of_master
from arrayred.config import Recipe, RowRange
from arrayred.errors import ArrayredError, NoSpectrumError
from arrayred.io.card import Value
from arrayred.io.checksums import Examined, examine, required
from arrayred.io.product_header import Story, checked_cards
from arrayred.io.products import (
    arc_file,
    calibrated_files,
    frames_file,
    image_file,
    is_product,
    spectrum_files,
)
from arrayred.io.publish import Content, publish, remove
from arrayred.model import FRAME, Chunks, turn
from arrayred.night import Flat, Group, Night, Plan, Target
from arrayred.pipeline import (
    Reading,
    calibrate,
    combine_target,
    cut_arc,
    extract_each,
    extract_spectrum,
    in_units,
    make_flat,
    make_master,
    numbered,
    recipe_for,
    rows_of,
    rows_to_extract,
    settle,
)
from arrayred.steps.frame_planes import judge_frames

if TYPE_CHECKING:
    import xarray as xr

_CARD_OF = {"bias": "ARBIAS", "dark": "ARDARK", "flat": "ARFLAT"}


@dataclass(frozen=True)
class Outcome:
    """What became of one target: its spectrum and files, or the error that stopped it."""

    name: str
    files: tuple[Path, ...] = ()
    spectrum: xr.Dataset | None = None
    error: ArrayredError | None = None


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
            dict.fromkeys(missing.get(target.name, {}), "") | cards_of(target, night, order)
        )
        for target in plan.targets
    }
    groups = [*plan.masters, *(target.lights for target in plan.targets)]
    groups += [target.lamps for target in plan.targets if target.lamps]
    groups += [flat.frames for flat in plan.flats.values()]
    frames = [frame for group in groups for frame in group.inputs]
    with ThreadPoolExecutor(1) as aside:
        reading = Reading(chunks, order.memory, recipe.overscan)
        desk = _Desk(recipe, order, cards, aside.submit(examine, frames), reading)
        yield from (Outcome(name, error=error) for name, error in plan.failed)
        wanted = {group.key for group in plan.masters}
        masters: dict[str, xr.Dataset | ArrayredError] = {}
        for group in plan.to_settle:
            masters[group.key] = desk.make_master(group, masters, write=group.key in wanted)
        masters |= {key: desk.make_flat(flat, masters) for key, flat in plan.flats.items()}
        found: dict[str, RowRange] = {}
        for target in plan.targets:
            outcome = desk.serve(target, masters, found)
            if outcome.spectrum is not None:
                found[target.name] = rows_of(outcome.spectrum)
            yield outcome


@dataclass(frozen=True)
class _Desk:
    """What all products of one night have in common, and the writing of them."""

    recipe: Recipe
    order: Order
    cards: Mapping[str, Mapping[str, Value]]
    checksums: Future[Examined]
    reading: Reading

    def make_master(
        self, group: Group, masters: Mapping[str, xr.Dataset | ArrayredError], *, write: bool
    ) -> xr.Dataset | ArrayredError:
        """Return a settled master, written unless it came as a file; or what went wrong.

        Parameters
        ----------
        group : its frames, or what it is made of.
        masters : those that are settled already, its parts among them.
        write : it is one of the night's products.
        """
        try:
            ready = _ready(masters, group.parts)
            master = make_master(group, self.recipe.dark_method, self.reading, ready)
            checksums = required(self.checksums.result(), group.inputs)
            if write and not group.is_master:
                story = story_of_master(group, self.recipe.dark_method, checksums)
                content = image_file(master, story, group.master_name, self.recipe.output_dtype)
                self._publish("masters", content)
        except ArrayredError as error:
            return error
        return master

    def make_flat(
        self, flat: Flat, masters: Mapping[str, xr.Dataset | ArrayredError]
    ) -> xr.Dataset | ArrayredError:
        """Return a settled master flat, written unless it came as one; or what went wrong."""
        try:
            master = make_flat(flat, _ready(masters, flat.masters), self.reading)
            if not flat.is_finished:
                story = story_of_flat(flat, required(self.checksums.result(), flat.inputs))
                name, dtype = flat.master_name, self.recipe.output_dtype
                self._publish("masters", image_file(master, story, name, dtype))
        except ArrayredError as error:
            return error
        return master

    def serve(
        self,
        target: Target,
        masters: Mapping[str, xr.Dataset | ArrayredError],
        found: Mapping[str, RowRange],
    ) -> Outcome:
        """Reduce and write one target, its master and the rows it takes being at hand or not."""
        try:
            own = dataclasses.replace(target, recipe=recipe_for(target, found))
            needed = (target.master, target.lamp_master, target.flat)
            settled = [_require(masters, group) for group in needed]
        except ArrayredError as error:
            return Outcome(target.name, error=error)
        return self.write_target(own, *settled)

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
        try:
            lights, story = self.reading.open(target.lights), self._story(target)
            combined = combine_target(lights, master, recipe, flat)
            files |= image_file(
                in_units(combined, recipe),
                story,
                f"{target.name}_combined.fits",
                recipe.output_dtype,
            )
            if recipe.calibrated:
                judged = judge_frames(lights, master, combined)
                one_by_one = partial(calibrate, dark=master, flat=flat, judged=judged)
                for name, content in _calibrated(lights, one_by_one, story, recipe):
                    written += self._publish(f"targets/{target.name}/calibrated", {name: content})
            for stem, found in _spectra(combined, target):
                spectrum = found if spectrum is None else spectrum
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
        try:
            written = self._publish(f"targets/{target.name}", files) + written
            self._remove_stale(target.name, files)
        except ArrayredError as error:
            failure = failure or error
        return Outcome(target.name, tuple(written), spectrum if failure is None else None, failure)

    def _remove_stale(self, target: str, files: Mapping[str, Content]) -> None:
        """With overwrite, remove products of an earlier run that this one does not make."""
        if self.order.overwrite:
            folder = self.order.out / "targets" / target
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.name not in files and is_product(path.name, target):
                    remove(path)

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
            checksums=required(self.checksums.result(), [*target.lights.frames, *others]),
            unit="electron" if target.recipe.units == "electron" else None,
        )

    def _publish(self, folder: str, files: Mapping[str, Content]) -> list[Path]:
        paths = {self.order.out / folder / name: content for name, content in files.items()}
        publish(paths, overwrite=self.order.overwrite)
        return list(paths)


def _ready(
    masters: Mapping[str, xr.Dataset | ArrayredError], groups: Iterable[Group]
) -> dict[str, xr.Dataset]:
    """Return the masters of groups by key, or raise what went wrong with one of them."""
    found = {group.key: _require(masters, group) for group in groups}
    return {key: master for key, master in found.items() if master is not None}


def _require(
    masters: Mapping[str, xr.Dataset | ArrayredError], group: Group | Flat | None
) -> xr.Dataset | None:
    """Return a group's master, or raise what went wrong when it was made."""
    master = None if group is None else masters[group.key]
    if isinstance(master, ArrayredError):
        raise master
    return master


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
