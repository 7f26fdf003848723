"""Reduce one night from disk to disk, target by target: `reduce_to`.

Errors of the reduction become outcomes here, one per target, so a failed target does not stop the
others.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import math
import shlex
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from arrayred import pipeline
from arrayred.bands import (
    COMPARED,
    FLAT,
    FURTHER,
    MASTER,
    TARGET,
    VALUES_OF_A_HIT,
    left_for_bands,
    program_bytes,
)
from arrayred.config import BETRAYED_BY, OF_MASTERS, Method, Recipe, RowRange
from arrayred.config.night_file import CARDS
from arrayred.config.toml import errors_name
from arrayred.errors import (
    ArrayredError,
    InputError,
    MissingCardsError,
    NightError,
    NoSpectrumError,
    StorageError,
    UsageError,
    printable,
)
from arrayred.io.cube import read_mask
from arrayred.io.frames import Frame
from arrayred.io.header import Value
from arrayred.io.ledger import (
    Entry,
    Examined,
    Hashes,
    Ledger,
    SavedCards,
    examine,
    fingerprint,
    products_of,
    required_checksums,
)
from arrayred.io.products import (
    Provenance,
    arc_file,
    calibrated_files,
    checked_cards,
    frames_file,
    image_file,
    is_product,
    missing_cards,
    product_header,
    solution_files,
    spectrum_files,
)
from arrayred.io.publish import Content, publish, remove, require_room
from arrayred.io.remote import without_secrets
from arrayred.model import (
    COSMIC_RAY,
    DQ,
    REPAIRED,
    SATURATED,
    VARIANCE,
    Chunks,
    transpose_to_x,
)
from arrayred.night import Flat, Group, Night, Plan, SyntheticDark, Target, make_plan
from arrayred.night.match import age_in_days
from arrayred.night.night import CachePolicy, cache_night
from arrayred.pipeline import (
    Masters,
    ReadOptions,
    combine_settings,
    compute,
    in_wanted_units,
    median_snr,
    with_rows,
)
from arrayred.process import release_freed_memory
from arrayred.progress import stage
from arrayred.steps.noise import with_own_noise

if TYPE_CHECKING:
    import xarray as xr

_CARD_OF = {"bias": "ARBIAS", "dark": "ARDARK", "flat": "ARFLAT"}


@dataclass(frozen=True)
class Outcome:
    """The result of reducing one target.

    Parameters
    ----------
    name : the target's.
    files : its products.
    spectrum : the spectrum, if made now; None if the target failed or was finished before.
    error : the error that stopped it, or None.
    facts : values describing its spectrum, made now or before, and each further one
        (`each_spectrum`); empty if it failed.
    kept : it was finished before, and nothing was done.
    damage : its products that were lost or changed since it was finished.
    """

    name: str
    files: tuple[Path, ...] = ()
    spectrum: xr.Dataset | None = None
    error: ArrayredError | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    kept: bool = False
    damage: Mapping[str, str] = field(default_factory=dict)


def reduce_to(
    night: Night, plan: Plan, recipe: Recipe, output: OutputOptions, *, chunks: Chunks = "auto"
) -> Iterator[Outcome]:
    """Carry out a plan and write its products, target by target.

    Parameters
    ----------
    night, plan : the frames, and their plan from `check_night`. Required cards that are still
        missing are written blank.
    recipe : settings of the reduction.
    output : what to write, and where.
    chunks : as in `reduce_night`.

    Yields
    ------
    outcome : of each target, those that cannot be reduced first.
    """
    if output.limit is not None:
        release_freed_memory()
    missing = missing_target_cards(night, plan, output)
    cards = {
        target.name: checked_cards(
            dict.fromkeys(missing.get(target.name, {}), "") | target_cards(target, night, output)
        )
        for target in plan.targets
    }
    groups = [*plan.masters, *(target.lights for target in plan.targets)]
    groups += [lamp.frames for target in plan.targets for lamp in target.lamps]
    groups += [flat.frames for flat in plan.flats.values()]
    frames = [frame for group in groups for frame in group.inputs]
    ledger = Ledger(output.out, verify=output.verify)
    with _in_background(lambda stop: examine(frames, ledger.hashes, stop)) as checksums:
        shelf = OutputFolder(output, ledger, checksums)
        room = band_memory(plan, output)
        reading = ReadOptions(chunks, room, recipe.overscan, widened=needs_float64_bands(plan))
        masters = _WrittenMasters(recipe, reading, shelf, {group.key for group in plan.masters})
        desk = _NightRun(recipe, output, cards, shelf, reading, masters)
        yield from (Outcome(name, error=error) for name, error in plan.failed)
        for group in plan.masters_in_order:
            masters.ensure(group)
        found: dict[str, RowRange] = {}
        for target in plan.targets:
            with stage(target.name):
                outcome = desk.make_products(target, found)
            if outcome.facts:
                facts = outcome.facts
                found[target.name] = (facts["first_row"], facts["last_row"])
            yield outcome
        checksums.result()
        ledger.save()


@contextmanager
def _in_background(work: Callable[[Event], Examined]) -> Iterator[Future[Examined]]:
    """Run work in a thread; on leaving, its stop event is set."""
    stop = Event()
    with ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(work, stop)
        finally:
            stop.set()


@dataclass(frozen=True)
class _NightRun:
    """The settings shared by all products of one night, and the methods that make them."""

    recipe: Recipe
    output: OutputOptions
    cards: Mapping[str, Mapping[str, Value]]
    folder: OutputFolder
    reading: ReadOptions
    masters: _WrittenMasters

    def make_products(self, target: Target, found: Mapping[str, RowRange]) -> Outcome:
        """Reduce and write one target, unless it is finished."""
        try:
            own = with_rows(target, found)
            entry = self.folder.finished(_target_entry_name(own), lambda: self._key(own))
            if entry is not None:
                paths = tuple(self.output.out / name for name in entry.products)
                return Outcome(target.name, paths, facts=entry.facts, kept=True)
            for group in (own.master, own.flat):
                self.masters.of(group)
        except ArrayredError as error:
            return Outcome(target.name, error=error)
        return self.write_target(own)

    def _key(self, target: Target) -> str:
        return target_fingerprint(
            target,
            self.folder.examined,
            cards=self.cards[target.name],
            dark_method=self.recipe.dark_method,
            figures=self.output.figures,
        )

    def write_target(self, target: Target) -> Outcome:
        """Reduce and write one target; on an error write what was made, and return the error."""
        files: dict[str, Content] = {}
        written: list[Path] = []
        told: list[dict[str, Any]] = []
        provenance: Provenance | None = None
        combined: xr.Dataset | None = None
        arc: xr.Dataset | None = None
        spectrum, failure = None, None
        try:
            for name, product in pipeline.target(target, self.masters, self.reading):
                provenance = self._provenance(target) if provenance is None else provenance
                if name.startswith("calibrated/"):
                    content = _calibrated_file(name, product, provenance, target.recipe)
                    written += self.folder.put(f"{_target_entry_name(target)}/calibrated", content)
                    continue
                files |= _product_files(name, product, provenance, target)
                if name == "combined":
                    combined = product
                elif name.startswith("arc"):
                    arc = product
                elif name.startswith("lines") and self.output.figures and arc is not None:
                    files |= arc_figure(arc, product, _product_stem(name, target))
                elif name.startswith("spectrum"):
                    spectrum = product if spectrum is None else spectrum
                    told.append(spectrum_values(product, target))
                    if self.output.figures and combined is not None:
                        stem = _product_stem(name, target)
                        files[f"{stem}.png"] = quick_look_png(combined, product, stem)
        except ArrayredError as error:
            failure = error
            if combined is not None and isinstance(error, NoSpectrumError) and self.output.figures:
                files[f"{target.name}.png"] = quick_look_png(combined, None, target.name, error)
        facts = {} if failure else with_other_spectra(told)
        try:
            written = self.folder.put(_target_entry_name(target), files) + written
            self._remove_stale(target, files)
            if facts and provenance is not None:
                self.folder.finish(
                    _target_entry_name(target), self._key(target), provenance.checksums, facts
                )
        except ArrayredError as error:
            failure = failure or error
        self.folder.drop()
        damage = self.folder.damage(_target_entry_name(target))
        if failure is not None:
            return Outcome(target.name, tuple(written), error=failure, damage=damage)
        return Outcome(target.name, tuple(written), spectrum, facts=facts, damage=damage)

    def _remove_stale(self, target: Target, files: Mapping[str, Content]) -> None:
        """With overwrite, remove products of an earlier run that this one did not make."""
        if self.output.overwrite:
            folder = self.output.out / _target_entry_name(target)
            for path in folder.iterdir() if folder.is_dir() else ():
                if path.name not in files and is_product(path.name, target.name):
                    self.folder.remove(_target_entry_name(target), path.name)

    def _provenance(self, target: Target) -> Provenance:
        flat = target.flat
        used = [(master.kind, master.master_name) for master in (target.master,) if master]
        used += [("flat", flat.master_name)] if flat else []
        groups = [*target.masters, *(lamp.frames for lamp in target.lamps)]
        others = [frame for group in groups for frame in group.inputs]
        others += flat.frames.frames if flat else ()
        others = list({frame.path: frame for frame in others}.values())
        return Provenance(
            target.lights.frames,
            others,
            method=target.recipe.combine,
            remarks=target.remarks,
            calstat=target.calstat,
            facts=[(_CARD_OF[kind], name, f"master {kind}") for kind, name in used],
            cards=self.cards[target.name],
            checksums=required_checksums(self.folder.examined, [*target.lights.frames, *others]),
            unit="electron" if target.recipe.units == "electron" else None,
        )


def _target_entry_name(target: Target) -> str:
    return f"targets/{target.name}"


def _product_stem(name: str, target: Target) -> str:
    """Return the stem of the files of a product, such as ``star_2`` for "spectrum_2"."""
    return "_".join([target.name, *name.split("_")[1:]])


def _product_files(
    name: str, product: xr.Dataset, provenance: Provenance, target: Target
) -> dict[str, Content]:
    """Return the files of a product that `pipeline.target` yields."""
    stem, wanted = _product_stem(name, target), in_wanted_units(product, target.recipe)
    if name == "combined":
        return image_file(wanted, provenance, f"{stem}_combined.fits", target.recipe.output_dtype)
    if name.startswith("spectrum"):
        return spectrum_files(wanted, provenance, stem, product)
    if name.startswith("frames"):
        return frames_file(wanted, provenance, stem)
    if name.startswith("lines"):
        told = {
            frame.label: provenance.checksums.get(frame.path, "")
            for lamp in target.lamps
            for frame in lamp.frames.frames
            if frame.label in product.attrs["lamps"]
        }
        header = product_header(provenance, "")
        return solution_files(product.assign_attrs(lamps=told), header, stem)
    return arc_file(product, provenance, stem)


def _calibrated_file(
    name: str, frame: xr.Dataset, provenance: Provenance, recipe: Recipe
) -> dict[str, Content]:
    """Return the file of one calibrated frame, computed here, so that only one is in memory."""
    label = name.removeprefix("calibrated/")
    own = dataclasses.replace(
        provenance, frames=[one for one in provenance.frames if one.label == label]
    )
    return dict(calibrated_files(in_wanted_units(compute(frame), recipe), own, recipe.output_dtype))


@stage("draw")
def arc_figure(arc: xr.Dataset, lines: xr.Dataset, stem: str) -> dict[str, Content]:
    """Return the figure of the lamps of a spectrum and their lines, by its name."""
    from arrayred.plots.figures import arc as describe_arc
    from arrayred.plots.paper import drawn_png

    return {f"{stem}_arc.png": drawn_png(describe_arc(arc, lines, title=stem))}


@stage("draw")
def quick_look_png(
    combined: xr.Dataset,
    spectrum: xr.Dataset | None,
    title: str,
    error: NoSpectrumError | None = None,
) -> bytes:
    """Return the figure of a target, or, without a spectrum, of the rows that were searched."""
    from arrayred.plots.figures import quick_look, search_look
    from arrayred.plots.paper import drawn_png

    if spectrum is None:
        threshold = None if error is None else error.value
        return drawn_png(search_look(transpose_to_x(combined), title, threshold=threshold))
    return drawn_png(quick_look(transpose_to_x(combined), spectrum, title))


# Masters, each written when it is made.


class _WrittenMasters(Masters):
    """The masters that targets need, written when they are made.

    Parameters
    ----------
    recipe : settings by which they are made.
    reading : how frames are read.
    shelf : the output folder.
    wanted : the keys of those that are products; the others are only used to make these.
    """

    def __init__(
        self, recipe: Recipe, reading: ReadOptions, shelf: OutputFolder, wanted: Collection[str]
    ) -> None:
        super().__init__(recipe.dark_method, reading)
        self._recipe, self._folder, self._wanted = recipe, shelf, wanted

    def ensure(self, group: Group | Flat) -> None:
        """Make a master unless it is finished; an error is raised later, on access to it."""
        if (
            is_ready_master(group)
            or self._folder.finished(master_entry_name(group), self._key(group)) is not None
        ):
            return
        with suppress(ArrayredError):
            self.of(group)

    def make(self, group: Group | Flat) -> xr.Dataset:
        """Make a master, and write it if it is a product and not an input file."""
        master = super().make(group)
        checksums = required_checksums(self._folder.examined, group.inputs)
        if is_ready_master(group):
            return master
        if isinstance(group, Flat):
            self._write(group, master, flat_provenance(group, checksums))
        elif group.key in self._wanted:
            provenance = master_provenance(group, self.method, checksums)
            self._write(group, with_own_noise(master), provenance)
        return master

    def _key(self, group: Group | Flat) -> Callable[[], str]:
        if isinstance(group, Flat):
            return lambda: flat_fingerprint(group, self._recipe, self._folder.examined)
        return lambda: master_fingerprint(group, self._recipe, self._folder.examined)

    def _write(self, group: Group | Flat, master: xr.Dataset, provenance: Provenance) -> None:
        content = image_file(master, provenance, group.master_name, self._recipe.output_dtype)
        self._folder.put("masters", content)
        self._folder.finish(master_entry_name(group), self._key(group)(), provenance.checksums)


def master_entry_name(group: Group | Flat) -> str:
    """Return the name of a master's entry in the ledger."""
    return f"masters/{group.master_name.removesuffix('.fits')}"


def is_ready_master(group: Group | Flat) -> bool:
    """Return whether a master is an input file that need not be made."""
    return group.is_finished if isinstance(group, Flat) else group.is_master


# The output folder of a night: written products and finished entries: `OutputFolder`.


class OutputFolder:
    """The folder that products are written to.

    Parameters
    ----------
    output : the folder, and whether products of other content are replaced.
    ledger : its ledger.
    checksums : future of the SHA-256 of all inputs.

    Products of one name, such as ``targets/star``, are written one after the other and become
    finished together. Finished products that were damaged since are replaced without asking.
    """

    def __init__(self, output: OutputOptions, ledger: Ledger, checksums: Future[Examined]) -> None:
        self._order, self._ledger, self._checksums = output, ledger, checksums
        self._put: dict[str, str] = {}
        self._damaged: dict[str, dict[str, str]] = {}

    @property
    def examined(self) -> Examined:
        """Return the SHA-256 of all inputs; waits until they are computed."""
        return self._checksums.result()

    def finished(self, name: str, key: Callable[[], str]) -> Entry | None:
        """Return the entry of a master or target if it is finished and intact, else None.

        Parameters
        ----------
        name : of the master or target.
        key : returns its key; called only if there is an entry, since it waits for the checksums.
        """
        entry = None if self._order.force else self._ledger.read(name)
        if entry is None or entry.key != key():
            return None
        self._damaged[name] = self._ledger.damaged(entry)
        return None if self._damaged[name] else entry

    def damage(self, name: str) -> Mapping[str, str]:
        """Return the finished products that were lost or changed since, with what happened."""
        return self._damaged.get(name, {})

    @stage("write")
    def put(self, folder: str, files: Mapping[str, Content]) -> list[Path]:
        """Publish files in a folder; they enter the ledger when their name is finished."""
        where = self._order.out / folder
        paths = {where / name: content for name, content in files.items()}
        may_replace = self._order.overwrite or self._order.force or self._is_ours(paths)
        publish(paths, overwrite=may_replace)
        self._put |= products_of(self._order.out, paths)
        return list(paths)

    def _is_ours(self, paths: Mapping[Path, Content]) -> bool:
        """Return whether any of the files replaces one that was damaged since it was finished."""
        names = {path.relative_to(self._order.out).as_posix() for path in paths}
        return any(names & found.keys() for found in self._damaged.values())

    def finish(
        self,
        name: str,
        key: str,
        inputs: Mapping[Path, str],
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the entry of the files put since the last entry."""
        told = {str(path.absolute()): sha256 for path, sha256 in inputs.items()}
        entry = Entry(name, key, told, self._put, facts or {})
        self._ledger.finish(entry)
        self._put = {}

    def drop(self) -> None:
        """Forget the files put since the last entry: they will not be finished."""
        self._put = {}

    def remove(self, folder: str, name: str) -> None:
        """Remove a product of an earlier run."""
        remove(self._order.out / folder / name)


# Provenance of masters, for their headers: `master_provenance`, `flat_provenance`.


def master_provenance(group: Group, method: Method, checksums: Mapping[Path, str]) -> Provenance:
    """Return the provenance of a master dark or bias.

    Parameters
    ----------
    group : its frames, or the groups it was made from.
    method : how they were combined.
    checksums : SHA-256 of every input.
    """
    others = group.inputs[len(group.frames) :]
    facts = _synthetic_dark_cards(group) if isinstance(group, SyntheticDark) else []
    return Provenance(group.frames, others, method=method, checksums=checksums, facts=facts)


def _synthetic_dark_cards(group: SyntheticDark) -> list[tuple[str, Value, str]]:
    """Return the cards in which a synthetic dark differs from the headers of its darks."""
    exposure = "[s] exposure" if group.factor == 1 else f"[s] scaled from {group.dark.exptime:g} s"
    state = "" if group.keep_bias else "B"
    return [("EXPTIME", group.wanted, exposure), ("CALSTAT", state, "corrections applied")]


def flat_provenance(flat: Flat, checksums: Mapping[Path, str]) -> Provenance:
    """Return the provenance of a master flat: a relative response, without unit."""
    return Provenance(
        flat.frames.frames,
        flat.inputs[len(flat.frames.frames) :],
        method="median",
        calstat=flat.calstat,
        checksums=checksums,
        facts=[("BUNIT", "", "response relative to the middle of the slit")],
    )


# Keys of all that a master or target depends on: `master_fingerprint`, `flat_fingerprint`,
# `target_fingerprint`.
#
# A frame enters by its content and by its interpreted header: a night file or an instrument file
# that changes the meaning of a header changes the key, one that does not leaves it unchanged. So
# do settings.

_FINGERPRINT_FIELDS = (
    "label",
    "frame_type",
    "exptime",
    "time",
    "ccd_temp",
    "gain",
    "gain_from",
    "read_noise",
    "saturation",
    "calstat",
    "state",
    "unit",
    "setup",
    "dispersion_axis",
    "sections",
)


def master_fingerprint(group: Group, recipe: Recipe, examined: Examined) -> str:
    """Return the key of a master dark or bias.

    Parameters
    ----------
    group : its frames, or the groups it is made from.
    recipe : only the settings that masters depend on are used (`OF_MASTERS`).
    examined : the SHA-256 of each input, or its error.
    """
    return _fingerprint_of(
        {"frames": _group_fingerprint(group)}, _settings_of_masters(recipe), [group], examined
    )


def flat_fingerprint(flat: Flat, recipe: Recipe, examined: Examined) -> str:
    """Return the key of a master flat."""
    roles = {
        "frames": _group_fingerprint(flat.frames),
        "darks": list(map(_group_fingerprint, flat.darks)),
    }
    return _fingerprint_of(
        roles, _settings_of_masters(recipe), [flat.frames, *flat.masters], examined
    )


def target_fingerprint(
    target: Target,
    examined: Examined,
    *,
    cards: Mapping[str, Value],
    dark_method: str,
    figures: bool,
) -> str:
    """Return the key of a target whose rows are filled in (`with_rows`).

    Parameters
    ----------
    target : as planned.
    examined : the SHA-256 of each input, or its error.
    cards : the cards given for it.
    dark_method : how its masters are combined.
    figures : whether its figure is drawn.
    """
    flat, lamps = target.flat, target.lamps
    roles = {
        "name": target.name,
        "lights": _group_fingerprint(target.lights),
        "master": _group_fingerprint(target.master),
        "lamps": [_group_fingerprint(lamp.frames) for lamp in lamps] or None,
        "lamp_master": [_group_fingerprint(lamp.master) for lamp in lamps] or None,
        "flat": _group_fingerprint(flat.frames if flat else None),
        "flat_darks": [_group_fingerprint(group) for group in (flat.darks if flat else ())],
        "remarks": target.remarks,
    }
    settings = {
        **dataclasses.asdict(target.recipe),
        "dark_method": dark_method,
        "cards": dict(cards),
        "figures": figures,
        "mask": mask_checksum(target.recipe.bad_pixels),
        "lamp_solution": mask_checksum(target.recipe.lamp_solution),
    }
    groups = [target.lights, *target.masters, *(lamp.frames for lamp in lamps)]
    groups += [flat.frames] if flat else []
    return _fingerprint_of(roles, settings, groups, examined)


def _fingerprint_of(
    roles: Mapping[str, Any],
    settings: Mapping[str, Any],
    groups: Iterable[Group],
    examined: Examined,
) -> str:
    frames = {frame.path: frame for group in groups for frame in group.inputs}
    content = sorted(f"{path.name} {_sha256(examined, path)}" for path in frames)
    numpy = ".".join(np.__version__.split(".")[:2])
    return fingerprint({"content": content}, {"roles": roles, "numpy": numpy, **settings})


def _settings_of_masters(recipe: Recipe) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in OF_MASTERS}


def _sha256(examined: Examined, path: Path) -> str:
    """Return the SHA-256 of an input, or the error of an unusable one as text."""
    found = examined[path]
    return str(found) if isinstance(found, ArrayredError) else found


def _group_fingerprint(group: Group | None) -> Any:
    """Return the interpreted headers of a group's frames, for the key."""
    if group is None:
        return None
    frames = [[frame.path.name, _frame_fingerprint(frame)] for frame in group.inputs]
    if isinstance(group, SyntheticDark):
        return [group.wanted, group.factor, group.has_bias, group.keep_bias, frames]
    return [group.master_name, group.is_master, frames]


def _frame_fingerprint(frame: Frame) -> list[str]:
    image = frame.image
    pixels = [repr(image.source.pixels)]
    pixels += [image.note, f"{len(image.parts)} parts"] if image.note or image.parts else []
    return [*pixels, *(repr(getattr(frame, name)) for name in _FINGERPRINT_FIELDS)]


def mask_checksum(bad_pixels: str) -> str:
    """Return the SHA-256 of a bad-pixel mask; the setting itself if it is not a file."""
    path = Path(bad_pixels)
    if not bad_pixels or not path.is_file():
        return bad_pixels
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Output options, and the checks before a night is reduced: `OutputOptions`, `check_night`.

_FLAG_BYTES = 2  # MASK and DQ
_MASK_CHOICES = ", ".join(BETRAYED_BY)
OPTIONS = {card: f"--{key.replace('_', '-')}" for key, card in CARDS.items()}
"""The command-line options that give one card each, by card."""


@dataclass(frozen=True)
class OutputOptions:
    """What to write, and where.

    Parameters
    ----------
    out : the output folder.
    cards : cards given by the user, which override those of the instrument file and the frames.
    overwrite : replace products that have other content.
    saved_cards : cards given at a prompt, now or before.
    figures : draw a figure of each target, and write a report.
    targets : reduce only the targets of these names.
    memory : bytes that bands of frames may take beyond the results, if limited.
    limit : bytes that the whole process may take, if limited; it takes precedence over `memory`.
    force : redo everything, finished products too.
    verify : hash every file, instead of trusting the saved checksums of unchanged ones.
    command : the command line that repeats the run, for the report.
    """

    out: Path
    cards: Mapping[str, Value]
    overwrite: bool = False
    saved_cards: SavedCards = field(default_factory=SavedCards)
    figures: bool = True
    targets: tuple[str, ...] = ()
    memory: int | None = None
    limit: int | None = None
    force: bool = False
    verify: bool = False
    command: str = ""


@stage("plan")
def _require_own_output(night: Night, out: Path) -> None:
    """Raise UsageError if an output folder holds the products of another night.

    A night that was moved is known by a frame of the same name and content.
    """
    ledger = Ledger(out)
    entries = [entry for entry in ledger.entries() if entry.name.startswith("targets/")]
    if not entries or any(_is_made_of(night, entry, ledger) for entry in entries):
        return
    folders = Counter(str(Path(path).parent) for entry in entries for path in entry.inputs)
    other = printable(f"{out}-{night.folder.resolve().name}")
    whose = f" ({folders.most_common(1)[0][0]})" if folders else ""
    raise UsageError(
        f"The output folder contains products of another night{whose}",
        path=out,
        hint=f"Choose another with -o, such as -o {shlex.quote(other)}, or name both nights in one "
        "command: each gets its own.",
    )


def _is_made_of(night: Night, entry: Entry, ledger: Ledger) -> bool:
    """Return whether a frame of a night itself is among the inputs of a target."""
    own = {str(frame.path.absolute()): frame for frame in night.scanned if not frame.library}
    if not own.keys().isdisjoint(entry.inputs):
        return True
    names = {Path(path).name: sha256 for path, sha256 in entry.inputs.items()}
    return any(
        names.get(frame.path.name) == ledger.hashes.of(frame.path)
        for frame in own.values()
        if frame.path.name in names and not frame.image.is_remote
    )


def command_with(command: str, folder: Path, out: Path) -> str:
    """Return a command with the real folders in place of NIGHT and OUT.

    Examples
    --------
    >>> command_with("arrayred reduce NIGHT -o OUT --object '59 Cyg'", Path("/raw"), Path("/out"))
    "arrayred reduce /raw -o /out --object '59 Cyg'"
    """
    real = {"NIGHT": without_secrets(str(folder.absolute())), "OUT": str(out.absolute())}
    return shlex.join(real.get(word, word) for word in shlex.split(command))


def require_outside(folder: Path, out: Path) -> None:
    """Raise UsageError if an output folder is that of a night, or lies in it."""
    if folder.resolve() in (out.resolve(), *out.resolve().parents):
        place = shlex.quote(printable(str(folder.parent / "reduced")))
        raise UsageError(
            f"The output lies inside the night {printable(str(folder))}",
            path=out,
            hint=f"Choose a folder outside of it, such as -o {place}.",
        )


def check_night(night: Night, recipe: Recipe, output: OutputOptions) -> Plan:
    """Return the plan of a night, after checking all but missing cards.

    Raises
    ------
    NightError
        The plan has problems; the error lists all of them.
    UsageError
        The options do not fit the night: one OBJECT or row range is given for several targets, or
        the output is inside the input.
    ResourceError
        The images and a row of all frames do not fit into the limit.
    StorageError
        The output folder cannot be written, or the disk is too small.
    """
    require_outside(night.folder, output.out)
    plan = make_plan(night, recipe)
    if plan.problems:
        raise NightError(plan.problems)
    _require_own_output(night, output.out)
    if output.targets:
        plan = plan.only(output.targets)
    names = [target.name for target in plan.targets]
    given = {"--object": "OBJECT" in output.cards, "--rows": recipe.rows is not None}
    for option, is_given in given.items():
        if len(names) > 1 and is_given:
            raise UsageError(
                f"{option} is for a single target, but the night has {len(names)}: "
                f"{', '.join(names)}",
                hint="Choose one with --target NAME.",
            )
    for target in plan.targets:
        _require_rows(target)
        settings = combine_settings(target.recipe)
        settings.require_enough(len(target.lights.frames), target.name)
        _require_mask(target)
    band_memory(plan, output)
    require_room(output.out, _bytes_to_write(plan, recipe))
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
            f"--near-row {recipe.near_row} is outside {target.name}, which has rows {lowest}:{top}",
            value=recipe.near_row,
            hint="Use a row of the image.",
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
                f"{option} {first}:{last} is outside {target.name}, which has rows {lowest}:{top}",
                value=(first, last),
                hint="Use rows of the image; both ends are included.",
            )


def _require_mask(target: Target) -> None:
    """Raise UsageError unless the bad-pixel mask, if any, has the shape of the target's frames."""
    path = target.recipe.bad_pixels
    if path in ("", *BETRAYED_BY):
        return
    try:
        shape, wanted = read_mask(path).shape, target.lights.frames[0].shape
    except InputError as error:
        raise UsageError(
            f"--bad-pixels is not a valid mask: {error.args[0]}",
            path=path,
            keyword="bad_pixels",
            hint=f"Use a FITS image that is nonzero where pixels are bad, or {_MASK_CHOICES}.",
        ) from error
    if shape != wanted:
        raise UsageError(
            f"--bad-pixels has {shape[1]} x {shape[0]} pixels, but {target.name} has "
            f"{wanted[1]} x {wanted[0]}",
            path=path,
            keyword="bad_pixels",
            hint="Use a mask with the shape and binning of the frames.",
        )


def _bytes_to_write(plan: Plan, recipe: Recipe) -> int:
    """Return the largest size of all images, bytes: masters, and targets with noise and flags."""
    n_bytes = 0
    for group in plan.masters:
        n_bytes += 2 * _n_pixels(group) * _bytes_per_value(recipe) * (not group.is_master)
    for flat in plan.flats.values():
        n_bytes += 2 * _n_pixels(flat.frames) * _bytes_per_value(recipe) * (not flat.is_finished)
    for target in plan.targets:
        own, lights = _bytes_per_value(target.recipe), target.lights
        n_images = 1 + target.recipe.calibrated * len(lights.frames)
        n_bytes += n_images * _n_pixels(lights) * (2 * own + _FLAG_BYTES)
        n_bytes += _n_pixels(lights) * (own + 1) * (not combine_settings(target.recipe).is_plain)
    return n_bytes


def _n_pixels(group: Group) -> int:
    return math.prod(group.frames[0].shape)


def _bytes_per_value(recipe: Recipe) -> int:
    return int(recipe.output_dtype.removeprefix("float")) // 8


def missing_target_cards(
    night: Night, plan: Plan, output: OutputOptions
) -> dict[str, dict[str, Value]]:
    """Return, by target, the required cards without a value, with that of some frames or None."""
    missing = {
        target.name: missing_cards(
            target.lights.frames, night.instrument.required, target_cards(target, night, output)
        )
        for target in plan.targets
    }
    return {name: cards for name, cards in missing.items() if cards}


def require_cards(missing: Mapping[str, Mapping[str, Value]]) -> None:
    """Raise MissingCardsError, naming the options that give them, if cards are missing."""
    keywords = list(dict.fromkeys(k for cards in missing.values() for k in cards))
    if keywords:
        raise MissingCardsError(
            f"{', '.join(keywords)} must be in every product, but no header or option supplies "
            "them",
            keyword=keywords[0],
            hint=f"Use {', '.join(map(_card_option, keywords))}, or use --allow-missing to leave "
            "them blank.",
        )


def target_cards(target: Target, night: Night, output: OutputOptions) -> dict[str, Value]:
    """Return the cards of a target, later overriding: instrument, prompt, night file, options."""
    with errors_name(night.file.path):
        own = checked_cards({**night.file.cards, **target.cards})
    return {
        **night.instrument.cards,
        **output.saved_cards.cards_of(target.name),
        **own,
        **output.cards,
    }


def _card_option(keyword: str) -> str:
    return f"{OPTIONS[keyword]} ..." if keyword in OPTIONS else f"--card {keyword}=..."


# The part of a memory limit that is left for bands of frames: `band_memory`.
#
# The limit is that of the whole process, as users of a shared machine need it. First comes what
# does not shrink with the bands: the program with its libraries, the records of the frames, the
# masters held for their targets, and the images of the one target being reduced. Most of these are
# held when the bands are read and gone: a spectrum is extracted, files are written. Their sizes are
# in `arrayred.bands`.

_MOST_BANDS = 128
"""More bands would cost more than they save: each opens all files."""


def band_memory(plan: Plan, output: OutputOptions) -> int | None:
    """Return the bytes that bands of frames may take; None: no limit.

    Parameters
    ----------
    plan, output : of the night.

    Raises
    ------
    ResourceError
        The limit is too small for the images and low bands of all frames.
    UsageError
        The memory is too small for one row of all frames.
    """
    widened, groups = needs_float64_bands(plan), _groups_read_in_bands(plan)
    if output.limit is None:
        for group in groups:
            group.band_rows(output.memory, widened=widened)
        return output.memory
    lowest = max((_least_bytes(group, widened) for group in groups), default=0)
    beside, after = memory_of_images(plan, output)
    return left_for_bands(output.limit, beside, max(lowest, after - beside))


def _least_bytes(group: Group, widened: bool) -> int:
    """Return the bytes of the lowest bands of a group."""
    n_rows = group.frames[0].shape[0]
    return -(-n_rows // _MOST_BANDS) * group.least_memory(widened=widened)


def needs_float64_bands(plan: Plan) -> bool:
    """Return whether frames are clipped or scaled, so that bands are held in float64."""
    return not all(combine_settings(target.recipe).is_plain for target in plan.targets)


def memory_of_images(plan: Plan, output: OutputOptions) -> tuple[int, int]:
    """Return the largest memory of a night beside bands of frames, and after them, bytes."""
    groups = _groups_read_in_bands(plan)
    held = program_bytes(sum(len(group.inputs) for group in groups), figures=output.figures)
    held += sum(MASTER * _n_pixels(group) for group in plan.masters_to_make)
    held += sum(FLAT * _n_pixels(flat.frames) for flat in plan.flats.values())
    beside = [COMPARED * _n_pixels(group) for group in groups]
    after = [TARGET * _n_pixels(group) for group in groups]
    for target in plan.targets:
        n_pixels, best = _n_pixels(target.lights), not combine_settings(target.recipe).is_plain
        hits = len(target.lights.frames) // VALUES_OF_A_HIT
        beside.append((COMPARED + hits + best * FURTHER["best"]) * n_pixels)
        after.append(_image_bytes(target, output) * n_pixels)
    return held + max(beside, default=0), held + max(after, default=0)


def _image_bytes(target: Target, output: OutputOptions) -> int:
    """Return the largest memory of the images of a target, bytes per pixel."""
    recipe = target.recipe
    wanted = {
        "best": not combine_settings(recipe).is_plain,
        "calibrated": recipe.calibrated,
        "divided": target.flat is not None,
        "electrons": recipe.units == "electron",
        "float64": recipe.output_dtype == "float64",
        "drawn": output.figures,
    }
    return TARGET + sum(FURTHER[name] for name, is_wanted in wanted.items() if is_wanted)


def _groups_read_in_bands(plan: Plan) -> list[Group]:
    """Return all groups whose frames are read in bands."""
    groups = [*plan.masters_to_make, *(flat.frames for flat in plan.flats.values())]
    for target in plan.targets:
        groups += [target.lights, *(lamp.frames for lamp in target.lamps)]
    return groups


# The report of a night, written after its reduction: `write_night_report`.
#
# All products are published by then. An error in the report is a warning and not a failure of the
# reduction, unless it is the disk, which would stop the next product too. An internal error is
# issued as a Python warning, which is an error in our tests.


def write_night_report(
    night: Night,
    plan: Plan,
    recipe: Recipe,
    output: OutputOptions,
    outcomes: Iterable[Outcome],
    finished: Callable[[Hashes], Mapping[str, Any]] | None = None,
) -> tuple[str, ...]:
    """Write the account of a night's run and its report, unless they exist.

    Parameters
    ----------
    night, plan, recipe, output : of the run; without figures there is no report.
    outcomes : of the targets.
    finished : returns what tells that the night need not be opened again (`Ledger.finished`), from
        the known sha256 of files.

    Returns
    -------
    warnings : why there is no report.

    Raises
    ------
    StorageError
        The disk is full or not writable.
    """
    from arrayred.report.run import account_of, forget_report

    errors = {outcome.name: outcome.error for outcome in outcomes if outcome.error is not None}
    replaced = output.overwrite or output.force
    try:
        ledger = Ledger(output.out)
        command = command_with(output.command, night.folder, output.out)
        account = account_of(night, plan, recipe, errors, command)
        ledger.close_run(
            dataclasses.asdict(account), {} if finished is None else finished(ledger.hashes)
        )
        if output.figures:
            from arrayred.report.pages import write_report

            write_report(output.out, overwrite=replaced, verify=output.verify)
        elif replaced:
            forget_report(output.out)
    except StorageError:
        raise
    except ArrayredError as error:
        return (f"no report was written: {error}",)
    except Exception as error:  # its products are published, and a page is not worth their run
        warnings.warn(f"a bug of arrayred kept the report away: {error!r}", stacklevel=2)
    return ()


# Cache a night after its reduction: `cache_quietly`.


def cache_quietly(night: Night, caching: CachePolicy) -> None:
    """Put a night into the cache folder; an error is only a warning, since products are written.

    Parameters
    ----------
    night : opened from its files.
    caching : the cache folder, and where warnings go.
    """
    try:
        cache_night(night, caching.cache_folder)
    except ArrayredError as error:
        caching.say(f"no cache was written: {error}")


# The summary of many nights, a line for each target: `SummaryLine`, `as_ecsv`, `spectrum_values`.
#
# The file describes the nights and their products, not the run that wrote it: whether a target was
# reduced now or in an earlier run, and the seconds it took, are in the logs and on the terminal. So
# the same nights give the same bytes, however often they are reduced.

Status = Literal["reduced", "kept", "failed", "interrupted"]
_SUMMARY_COLUMNS = {
    "night": ("string", "", "name of the night"),
    "target": ("string", "", "blank if the whole night failed"),
    "status": ("string", "", "done, failed, or interrupted (not reached before the run ended)"),
    "first_row": ("int64", "", "first row of the spectrum"),
    "last_row": ("int64", "", "last row of the spectrum"),
    "rule": ("string", "", "detection method"),
    "snr": ("float64", "", "S/N per pixel, median over the central half of flux / sigma"),
    "snr_note": ("string", "", "noise not included in the S/N"),
    "n_saturated": ("int64", "", "columns with saturated pixels"),
    "n_cosmic_rays": ("int64", "", "columns with pixels hit by cosmic rays"),
    "dark_age": ("float64", "d", "days between the light frames and their dark"),
    "reason": ("string", "", "reason of the failure"),
}
_STATUS_IN_SUMMARY = {"reduced": "done", "kept": "done"}


@dataclass(frozen=True)
class SummaryLine:
    """The summary of one target.

    Parameters
    ----------
    night : label of the night.
    target : its name, or "" if the night failed as a whole.
    status : "reduced", "kept" from an earlier run, "failed", or "interrupted" before it was done.
    facts : of `spectrum_values`; None for unknown values.
    seconds : the time it took, s.
    reason : why it failed, or "".
    """

    night: str
    target: str
    status: Status
    facts: Mapping[str, Any]
    seconds: float
    reason: str = ""

    def cells(self) -> dict[str, Any]:
        """Return the values of the target by name: the columns of the summary, and seconds."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "facts"}
        return {**{name: self.facts.get(name) for name in _SUMMARY_COLUMNS}, **own}


def spectrum_values(spectrum: xr.Dataset, target: Target) -> dict[str, Any]:
    """Return the values that describe a spectrum, saved so that it need not be read again.

    Parameters
    ----------
    spectrum : flux, and variance and dq if known (x).
    target : of the spectrum.

    Returns
    -------
    facts : its attributes except its history, and `snr`, `n_saturated`, `n_cosmic_rays`,
        `dark_age` (days) if known; plain numbers and strings.
    """
    facts = {name: value for name, value in spectrum.attrs.items() if name != "history"}
    if VARIANCE in spectrum:
        facts.setdefault("snr", median_snr(spectrum))
    if DQ in spectrum:
        for name, bit in (("n_saturated", SATURATED), ("n_cosmic_rays", COSMIC_RAY | REPAIRED)):
            facts[name] = int(np.count_nonzero(spectrum[DQ].values & bit))
    if target.master is not None:
        facts["dark_age"] = age_in_days(target.lights, target.master)
    return {str(name): _json_value(value) for name, value in facts.items()}


_OTHER_SPECTRA = "further"


def with_other_spectra(told: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the facts of a target's first spectrum, with a list of those of the others."""
    if len(told) < 2:
        return {name: value for facts in told for name, value in facts.items()}
    return {**told[0], _OTHER_SPECTRA: [dict(facts) for facts in told[1:]]}


def procedure_lines(facts: Mapping[str, Any]) -> list[str]:
    """Return the seven lines that the published procedure prints of a spectrum, word for word.

    Parameters
    ----------
    facts : of one spectrum, from `each_spectrum`.
    """
    n_sigma = facts["n_sigma"]
    sigma = facts["background_std"] * n_sigma
    return [
        f"The average pixel value of the sky sample is {facts['background_mean']}",
        f"The pixel value of Sigma ({n_sigma:g} x std) is {sigma}",
        f"The pixel value of the spectrum must be more than {facts['threshold']}",
        f"Bottom edge of the spectrum: y= {facts['first_row']}",
        f"Top edge of the spectrum: y= {facts['last_row']}",
        f"Thickness of the spectrum: {facts['n_bright_rows']}",
        f"Number of spectrum rows selected: {facts['n_rows']}",
    ]


def each_spectrum(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the facts of each spectrum of a target, from those of `with_other_spectra`.

    Examples
    --------
    >>> each_spectrum(with_other_spectra([{"first_row": 3}, {"first_row": 9}]))
    [{'first_row': 3}, {'first_row': 9}]
    """
    own = {name: value for name, value in facts.items() if name != _OTHER_SPECTRA}
    return [own, *facts.get(_OTHER_SPECTRA, [])] if facts else []


def _json_value(value: Any) -> Any:
    """Return a value as plain JSON data; None for NaN."""
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float) and plain != plain:
        return None
    return list(plain) if isinstance(plain, tuple) else plain


def as_ecsv(lines: Iterable[SummaryLine]) -> bytes:
    """Return a summary as ECSV 1.0; unknown values are empty cells.

    Examples
    --------
    >>> text = as_ecsv([SummaryLine("2020-11-03", "hr8047", "failed", {}, 0.5, "no dark")]).decode()
    >>> print(text.splitlines()[-1])
    2020-11-03,hr8047,failed,,,,,,,,,no dark
    """
    head = ["%ECSV 1.0", "---", "delimiter: ','", "datatype:"]
    for name, (datatype, unit, description) in _SUMMARY_COLUMNS.items():
        told = {"name": name, "unit": unit, "datatype": datatype, "description": description}
        pairs = ", ".join(f"{key}: {json.dumps(value)}" for key, value in told.items() if value)
        head.append(f"- {{{pairs}}}")
    head.append("schema: astropy-2.0")
    body = io.StringIO()
    writer = csv.writer(body, lineterminator="\n")
    writer.writerow(_SUMMARY_COLUMNS)
    for line in lines:
        known = line.cells()
        known["status"] = _STATUS_IN_SUMMARY.get(line.status, line.status)
        writer.writerow(_ecsv_cell(known[name]) for name in _SUMMARY_COLUMNS)
    return "".join([*(f"# {text}\n" for text in head), body.getvalue()]).encode()


def _ecsv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(str(value))
