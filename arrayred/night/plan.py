"""Plan the reduction of a night, and print the plan: `make_plan`, `Plan`, `Target`."""

from __future__ import annotations

import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path

from arrayred.bands import band_edges
from arrayred.config import BETRAYED_BY, NightFile, Recipe, TargetFile
from arrayred.config.night_file import CARDS
from arrayred.config.toml import errors_name, require_known, toml_lines, toml_text
from arrayred.errors import (
    ArrayredError,
    HeaderError,
    InputError,
    MismatchError,
    NoDarkError,
    UnknownGainError,
    UsageError,
    counted,
    lines_of,
    printable,
)
from arrayred.io.frames import (
    Frame,
    type_warning,
    without_suffix,
    without_type_warnings,
)
from arrayred.io.header import Value
from arrayred.io.ledger import PAGE, Ledger
from arrayred.io.products import product_names
from arrayred.model import (
    FRAME_TYPES,
    Sections,
    is_check,
    level_of,
    remark_about,
    to_check,
    without_level,
)
from arrayred.night.groups import (
    Group,
    biases_of,
    darks_of,
    lights_of,
    list_of_names,
    names_by_text,
    select_by_any,
    shortest_patterns,
    slug,
    stem_and_number,
)
from arrayred.night.match import (
    Flat,
    Lamp,
    SyntheticDark,
    age_in_days,
    dark_for,
    dark_remarks,
    gain_remarks,
    lamp_remarks,
    lamps_for,
    match_bias,
    match_flat,
    nearest_lamps,
    pixel_remarks,
    plan_flats,
    warmer,
    why_lamp_unfit,
)
from arrayred.night.night import PRODUCT, Night, pattern_mismatch


@dataclass(frozen=True)
class Target:
    """The light (science) frames of one target, their calibration frames and their recipe.

    Parameters
    ----------
    lights : the frames.
    recipe : settings of their reduction.
    dark : the frames of the master dark; None: none is subtracted.
    bias : the frames of the master bias, if there is no dark; None: none is subtracted.
    flat : the frames of the master flat; None: no flat-field correction.
    lamps : arc (comparison lamp) frames, each extracted with the target's aperture.
    rows_from : the name of the target whose rows are used, or "".
    cards : cards of the products that the night file gives.
    remarks : notes on what is not ideal.
    """

    lights: Group
    recipe: Recipe = field(default_factory=Recipe)
    dark: Group | None = None
    bias: Group | None = None
    flat: Flat | None = None
    lamps: tuple[Lamp, ...] = ()
    rows_from: str = ""
    cards: Mapping[str, Value] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return name, lights, calibration, changed settings and number of remarks, in a line."""
        told = [f"{self.lights.size} of {self.lights.exptime:g} s", calibration_summary(self)]
        if self.lamps:
            told.append(f"lamps {list_of_names([lamp.name for lamp in self.lamps])}")
        if self.recipe.changed():
            told.append(repr(self.recipe))
        if self.remarks:
            told.append(f"{len(self.remarks)} remark{'s' * (len(self.remarks) > 1)}")
        return printable(f"Target({self.name}: {', '.join(told)})")

    @property
    def name(self) -> str:
        """Return the target's name."""
        return self.lights.name

    @property
    def master(self) -> Group | None:
        """Return the frames of the master that is subtracted: a dark, else a bias, else None."""
        return self.dark or self.bias

    @property
    def masters(self) -> tuple[Group, ...]:
        """Return the frames of all master darks and biases that are needed."""
        own = (self.master, *(lamp.master for lamp in self.lamps))
        wanted = (*own, *(self.flat.masters if self.flat else ()))
        return tuple({group.key: group for group in wanted if group is not None}.values())

    @property
    def inputs(self) -> tuple[Frame, ...]:
        """Return all frames that are used for it."""
        groups = [self.lights, *self.masters, *(lamp.frames for lamp in self.lamps)]
        flats = self.flat.frames.inputs if self.flat else ()
        return (*(frame for group in groups for frame in group.inputs), *flats)

    @property
    def calstat(self) -> str:
        """Return the CALSTAT letters of the reduced target."""
        here = ("BD" if self.dark else "B" if self.bias else "") + ("F" if self.flat else "")
        return "".join(letter for letter in "BDF" if letter in self.lights.state + here)


@dataclass(frozen=True)
class Plan:
    """The masters and targets to be made, the unused frames, and the problems of a night.

    Parameters
    ----------
    masters : the groups that become master darks and biases.
    targets : the targets that will be reduced, in this order.
    left_out : frames that are not used, each with the reason.
    problems : errors that prevent the reduction of the whole night.
    odd : warnings about the night.
    failed : targets that cannot be reduced while others can, each with the reason.
    """

    masters: tuple[Group, ...]
    targets: tuple[Target, ...]
    left_out: tuple[tuple[str, str], ...]
    problems: tuple[ArrayredError, ...]
    odd: tuple[str, ...] = ()
    failed: tuple[tuple[str, ArrayredError], ...] = ()

    @property
    def flats(self) -> dict[str, Flat]:
        """Return the flats that targets need, by key."""
        return {target.flat.key: target.flat for target in self.targets if target.flat}

    def __repr__(self) -> str:
        """Return the plan as text, the numbers of masters, targets and problems first."""
        sizes = {"master": self.masters, "target": self.targets, "problem": self.problems}
        counts = [f"{len(some)} {what}{'s' * (len(some) != 1)}" for what, some in sizes.items()]
        return "\n  ".join([f"Plan: {', '.join(counts)}", *map(printable, str(self).splitlines())])

    def _repr_html_(self) -> str:
        """Return the plan for a notebook."""
        return f"<pre>{escape(repr(self))}</pre>"

    def __str__(self) -> str:
        """Return the plan as a few lines of text."""
        lines = [f"master {g.title}: {g.size} of {g.exptime:g} s" for g in self.masters]
        lines += [f"master {f.frames.title}: {f.frames.size}" for f in self.flats.values()]
        for target in self.targets:
            size = f"{target.lights.size} of {target.lights.exptime:g} s"
            lines.append(f"target {target.name}: {size}, {calibration_summary(target)}")
        lines += [f"target {name} cannot be reduced" for name, _ in self.failed]
        lines += [f"not used: {line}" for line in self.left_out_lines()]
        return "\n".join([*lines, *(f"problem: {problem}" for problem in self.problems)])

    @property
    def masters_in_order(self) -> tuple[Group | Flat, ...]:
        """Return the groups whose masters are products: biases and darks, then flats."""
        return (*self.masters, *self.flats.values())

    @property
    def masters_to_make(self) -> tuple[Group, ...]:
        """Return the master biases and darks, each once and after those that it is made from."""
        in_order = [group for master in self.masters for group in (*master.parts, master)]
        return tuple({group.key: group for group in in_order}.values())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return the warnings about the night, and the remarks on its targets, each once."""
        told = ((target.name, remark) for target in self.targets for remark in target.remarks)
        return (*self.odd, *(remark_about(who, text) for text, who in names_by_text(told).items()))

    def left_out_lines(self) -> list[str]:
        """Return the frames that are not used, a line for each reason."""
        return [f"{who}: {why}" for why, who in names_by_text(self.left_out).items()]

    def only(self, names: Collection[str]) -> Plan:
        """Return the plan for some targets, and those whose rows they use.

        Raises
        ------
        UsageError
            There is no target of that name.
        """
        known = {target.name for target in self.targets} | {name for name, _ in self.failed}
        spelt = {name.lower(): name for name in known}
        asked = [spelt.get(name.lower()) or spelt.get(slug(name).lower(), name) for name in names]
        for name in asked:
            require_known(name, known, "target of this night")
        wanted = set(asked)
        for target in reversed(self.targets):
            if target.name in wanted and target.rows_from:
                wanted.add(target.rows_from)
        targets = tuple(target for target in self.targets if target.name in wanted)
        out = [
            (frame.label, "of a target that was not selected")
            for target in self.targets
            if target.name not in wanted
            for frame in target.lights.frames
        ]
        needed = {group.key for target in targets for group in target.masters}
        return replace(
            self,
            masters=tuple(group for group in self.masters if group.key in needed),
            targets=targets,
            left_out=(*self.left_out, *out),
            failed=tuple(entry for entry in self.failed if entry[0] in wanted),
        )


def calibration_summary(target: Target) -> str:
    """Return the calibrations of a target, in a few words."""
    flat = f", {target.flat.frames.title}" if target.flat else ""
    if target.master is None:
        gone = target.lights.is_dark_subtracted
        return ("dark already subtracted" if gone else "no dark") + flat
    if target.dark is None:
        why = "dark already subtracted" if target.lights.is_dark_subtracted else "no dark"
        return f"{why}, only {target.master.title}{flat}"
    return f"{target.dark.title}{flat}"


# Decide from the records of frames what will be done with a night: `make_plan`.
#
# All problems are collected instead of stopping at the first, and every unused frame is listed in
# `left_out` with the reason.


def make_plan(night: Night, recipe: Recipe | None = None) -> Plan:
    """Decide which frames become which masters and targets.

    Parameters
    ----------
    night : the frames, and the targets of its night file.
    recipe : settings of the reduction; by default those of the night file. `dark_tolerance` and
        `temperature_tolerance` limit the differences between a light and its dark, `max_frame_mb`
        the size of a frame.

    Returns
    -------
    plan : with all problems, not only the first. It can be carried out if there are none. A target
        without a dark fails alone, unless it is the only one.

    Raises
    ------
    UsageError
        The night file contradicts itself or the frames.
    """
    recipe = Recipe().replace(**night.file.recipe) if recipe is None else recipe
    night = _with_literal_types(night) if recipe.literal_types else night
    usable, left_out, problems = sort_frames(
        night, {} if recipe.keep_duplicates else night.duplicates
    )
    too_large = too_large_errors(night, recipe.max_frame_mb)
    paths = {error.path for error in too_large}
    for kind, frames in usable.items():
        usable[kind] = [frame for frame in frames if str(frame.path) not in paths]
    problems += too_large
    if recipe.overscan == "off":
        for kind, frames in usable.items():
            usable[kind] = [replace(frame, sections=None) for frame in frames]
    named = night.file.masters
    chosen = {
        kind: [f for f in usable[kind] if f.path == named.get(kind, f.path)]
        for kind in ("bias", "dark", "flat")
    }  # of a kind whose master is named, only that one
    calibrations = {"bias": biases_of(chosen["bias"]), "dark": darks_of(chosen["dark"])}
    wanted = chosen["flat"] if recipe.flat else []
    flats, unfit = plan_flats(wanted, calibrations, recipe)
    with errors_name(night.file.path):
        lights = lights_of(usable["light"], night.file.targets, usable["arc"])
        by_target = _settings_by_target(night.file, lights)
        targets: list[Target] = []
        failed: list[tuple[str, ArrayredError]] = []
        for group in lights:
            try:
                target = _plan_target(group, calibrations, recipe, by_target.get(group.name))
                odd = (*gain_remarks(group, target.dark or target.bias), *pixel_remarks(group))
                target = replace(target, remarks=(*target.remarks, *odd))
                target = _with_matching_flat(target, flats)
                own = by_target.get(group.name, TargetFile())
                targets.append(_with_lamps(target, usable["arc"], calibrations, own, lights))
            except (MismatchError, NoDarkError, UnknownGainError) as error:
                failed.append((group.name, error))
        targets = _in_dependency_order(targets)
    targets = [replace(one, remarks=(*one.remarks, *_checks_of(one.inputs))) for one in targets]
    targets, spoilt = _without_spoilt(targets, problems, night)
    failed += spoilt
    spoilt_alone = [] if targets else list({str(error): error for _, error in failed}.values())
    problems = [*spoilt_alone, *no_lights_error(night, problems)]
    problems += [_unknown_type_error(night, *found) for found in _unknown_types(night) if problems]
    masters, left_out = _used_and_left_out(targets, calibrations, usable, unfit, left_out)
    used = {frame.label for target in targets for frame in target.inputs}
    odd = tuple(map(without_level, warnings_of(night, used)))
    return Plan(
        masters,
        tuple(targets),
        tuple(left_out),
        tuple(problems),
        odd,
        tuple(failed if targets else ()),
    )


def _checks_of(frames: Iterable[Frame]) -> tuple[str, ...]:
    """Return what is to be checked of the frames of a target, a line each."""
    odd = ((frame.label, text) for frame in frames for text in filter(is_check, frame.warnings))
    return tuple(remark_about(who, text) for text, who in names_by_text(dict.fromkeys(odd)).items())


def _without_spoilt(
    targets: Sequence[Target], errors: Iterable[ArrayredError], night: Night
) -> tuple[list[Target], list[tuple[str, ArrayredError]]]:
    """Return the targets that no bad file belongs to, and the others with the error of the file.

    A file that cannot be used belongs to the targets of its OBJECT, and to those for which a frame
    is used whose name differs from its own by the running number alone. One of no target, or of
    targets that failed already, fails under its own name. No lamp costs a target its spectrum.
    """
    failed: dict[str, ArrayredError] = {}
    objects = {str(f.path): f.target for f in night.frames if f.frame_type != "arc"}
    bare = [replace(target, lamps=()) for target in targets]
    for error in errors:
        name, shown = Path(error.path or "").name, objects.get(str(error.path), "")
        stem = stem_and_number(without_suffix(name))[0]
        hit = [
            target.name
            for target in bare
            if (shown and shown in {frame.target for frame in target.lights.frames})
            or stem in {stem_and_number(Path(f.label).name)[0] for f in target.inputs}
        ]
        fresh = [one for one in hit if one not in failed]
        for one in fresh or [name]:
            failed.setdefault(one, error)
    return [target for target in targets if target.name not in failed], list(failed.items())


def _with_literal_types(night: Night) -> Night:
    """Return a night whose darks and biases that are typed as lights are lights."""
    frames = tuple(
        replace(frame, frame_type="light", warnings=without_type_warnings(frame))
        if frame.frame_type in ("bias", "dark")
        and type_warning(frame)
        and night.instrument.frame_type_of(frame.type_found) == "light"
        else frame
        for frame in night.frames
    )
    return replace(night, frames=frames)


def _settings_by_target(file: NightFile, lights: Sequence[Group]) -> dict[str, TargetFile]:
    """Return the night file's settings for each target, by the target's name."""
    given = {slug(name) for name, file_settings in file.targets.items() if file_settings.frames}
    names = {group.name for group in lights} | given
    by_slug = {slug(name): file_settings for name, file_settings in file.targets.items()}
    for name, file_settings in file.targets.items():
        require_known(slug(name), names, "target of this night")
        if file_settings.rows_from:
            require_known(
                slug(file_settings.rows_from), names, f"target to take the rows of {name!r} from"
            )
    if len(by_slug) < len(file.targets):
        raise UsageError(
            f"Two of the targets {', '.join(file.targets)} would have one file name",
            path=file.path,
            hint="Rename one.",
        )
    return by_slug


def _plan_target(
    lights: Group,
    calibrations: Mapping[str, list[Group]],
    recipe: Recipe,
    file_settings: TargetFile | None,
) -> Target:
    file_settings = file_settings or TargetFile()
    target = Target(
        lights,
        _for_window(recipe.replace(**file_settings.recipe), lights),
        rows_from=slug(file_settings.rows_from) if file_settings.rows_from else "",
        cards=file_settings.cards,
    )
    if {"B", "D"} <= {*lights.state}:
        return target
    own, degrees = target.recipe, target.recipe.temperature_tolerance
    bias = match_bias(lights, calibrations["bias"], degrees)
    _require_correctable(lights, bias, own)
    if lights.is_dark_subtracted:
        return replace(target, bias=bias)
    dark = _dark_of(lights, bias, calibrations, own) if own.dark else None
    if dark is not None:
        made = dark.remarks if isinstance(dark, SyntheticDark) else ()
        return replace(target, dark=dark, remarks=(*made, *dark_remarks(lights, dark)))
    if bias is None:
        return replace(target, remarks=("no dark or bias was subtracted, as requested",))
    why = "no dark frames" if own.dark else "no dark was subtracted, as requested"
    told = (f"{why}: only the bias was subtracted", *dark_remarks(lights, bias))
    return replace(target, bias=bias, remarks=told)


def _dark_of(
    lights: Group, bias: Group | None, calibrations: Mapping[str, list[Group]], recipe: Recipe
) -> Group | None:
    """Return the darks for lights; None for a night without darks that has a fitting bias.

    Raises
    ------
    NoDarkError
        The night has darks, but none fits; or there is no bias either.
    """
    try:
        return dark_for(lights, calibrations, recipe)
    except NoDarkError:
        if bias is None or any(group.is_own for group in calibrations["dark"]):
            raise
        return None


def _require_correctable(lights: Group, bias: Group | None, recipe: Recipe) -> None:
    """Raise an error if the bias or dark still in the lights can no longer be subtracted."""
    frame = lights.frames[0]
    if "F" in lights.state and (recipe.dark or bias is not None):
        raise MismatchError(
            f"{lights.name} was flat-fielded before dark subtraction (CALSTAT {frame.calstat!r}), "
            "and no dark matches the result",
            path=frame.path,
            keyword="CALSTAT",
            value=frame.calstat,
            hint="Use the raw frames, correct CALSTAT, or exclude the frame"
            + (", or use --no-dark." if bias is None else "."),
        )
    if lights.is_dark_subtracted and bias is None:
        raise NoDarkError(
            f"{lights.name} is dark-subtracted but not bias-subtracted (CALSTAT "
            f"{frame.calstat!r}), and no bias matches it",
            path=frame.path,
            keyword="CALSTAT",
            value=frame.calstat,
            hint="Add a matching bias, or a folder of them with --calibrations, or exclude the "
            "frame.",
        )


def _for_window(recipe: Recipe, lights: Group) -> Recipe:
    """Return a recipe whose default background sample starts at the first row left by trimming.

    Rows given by the user are unchanged.
    """
    light, (first, last) = lights.frames[0], Recipe().background_rows
    lowest = light.window[0 if light.dispersion_axis == 1 else 1]
    if recipe.background_rows != (first, last):
        return recipe
    return recipe.replace(background_rows=(first + lowest - 1, last + lowest - 1))


def _with_matching_flat(target: Target, flats: Sequence[Flat]) -> Target:
    """Return a target with its matching flat, or with remarks on why there is none."""
    own = target.recipe
    if own.units == "electron":
        for frame in target.lights.frames:
            if frame.gain is None:
                raise UnknownGainError.of(frame.path)
    flat, remarks = match_flat(target.lights, flats) if own.flat and flats else (None, ())
    target = replace(target, flat=flat, remarks=(*target.remarks, *remarks))
    there = {"dark": target.master, "flat": target.flat}
    unknown = [kind for kind in BETRAYED_BY.get(own.bad_pixels, ()) if there[kind] is None]
    told = tuple(f"no {kind} to detect bad pixels in" for kind in unknown)
    return replace(target, remarks=(*target.remarks, *told))


def _with_lamps(
    target: Target,
    arcs: Sequence[Frame],
    calibrations: Mapping[str, list[Group]],
    settings: TargetFile,
    lights: Sequence[Group],
) -> Target:
    """Return a target with its lamps: those that the night file names, else those that fit."""
    named = select_by_any(arcs, settings.lamps)
    if settings.lamps and not named:
        return replace(target, remarks=(*target.remarks, to_check("its arc frames cannot be used")))
    lamps = lamps_for(target.lights, arcs, named, calibrations, target.recipe, lights)
    remarks = lamp_remarks(lamps)
    if arcs and not lamps and target.recipe.wavelength:
        why = {why_lamp_unfit(target.lights.frames[0], arc): None for arc in arcs}
        names = list_of_names([arc.label for arc in arcs])
        remarks = (to_check(f"no arc frame of its setup: {names}: different {' or '.join(why)}"),)
    return replace(target, lamps=lamps, remarks=(*target.remarks, *remarks))


def _used_and_left_out(
    targets: Sequence[Target],
    calibrations: Mapping[str, list[Group]],
    usable: Mapping[str, list[Frame]],
    unfit: Mapping[str, str],
    left_out: Sequence[tuple[str, str]],
) -> tuple[tuple[Group, ...], list[tuple[str, str]]]:
    """Return the masters that targets need, and all frames not used, each with the reason."""
    needed = {group.key: group for target in targets for group in target.masters}
    in_order = {g.key: g for g in (*calibrations["bias"], *calibrations["dark"])} | needed
    used = {frame.label for group in needed.values() for frame in group.inputs}
    used |= {f.label for t in targets if t.flat for f in t.flat.inputs}
    used |= {lamp.name for t in targets for lamp in t.lamps}
    spare = [
        (f, "a {} that no light frame needs") for kind in ("bias", "dark") for f in usable[kind]
    ]
    spare += [(f, "of type {}, not used") for kind in ("flat", "arc") for f in usable[kind]]
    reasons = [
        (f.label, why.format(f.frame_type) + (f": {unfit[f.label]}" if f.label in unfit else ""))
        for f, why in spare
        if f.label not in used
    ]
    masters = tuple(group for key, group in in_order.items() if key in needed)
    return masters, [*left_out, *reasons]


def _in_dependency_order(targets: Sequence[Target]) -> list[Target]:
    """Return the targets, each after the one whose rows it uses."""
    waiting, ordered, done = list(targets), list[Target](), set[str]()
    missing = {t.rows_from for t in targets} - {t.name for t in targets}
    while waiting:
        ready = [t for t in waiting if not t.rows_from or t.rows_from in done | missing]
        if not ready:
            names = ", ".join(target.name for target in waiting)
            raise UsageError(
                f"The targets {names} use the rows of each other",
                keyword="rows_from",
                hint="Set rows for one of them.",
            )
        ordered.append(ready[0])
        done.add(ready[0].name)
        waiting.remove(ready[0])
    return ordered


# Sort frames into usable and unusable ones: `sort_frames`, `problems_of`, `warnings_of`.


def sort_frames(
    night: Night, duplicates: Mapping[str, str]
) -> tuple[dict[str, list[Frame]], list[tuple[str, str]], list[ArrayredError]]:
    """Return the usable frames by type, the unused ones with reasons, and the problems.

    Parameters
    ----------
    night : the frames.
    duplicates : labels of frames that are not used, with the label of the frame that they repeat.
    """
    usable: dict[str, list[Frame]] = defaultdict(list)
    left_out, problems = [*night.left_out, *night.foreign], list(night.problems)
    for frame in night.frames:
        wrong = problems_of(frame)
        if wrong and frame.library:
            left_out.append((frame.label, str(wrong[0].args[0])))
        elif wrong:
            problems += wrong
        elif frame.label in duplicates:
            left_out.append((frame.label, f"duplicate of {duplicates[frame.label]}"))
        elif frame.frame_type in FRAME_TYPES and not _is_spoilt_dark(frame):
            usable[frame.frame_type].append(frame)
        else:
            left_out.append((frame.label, _why_left_out(frame)))
    return usable, left_out, problems


def problems_of(frame: Frame) -> list[ArrayredError]:
    """Return the errors that prevent the use of a frame that should be used."""
    if frame.frame_type is None and not frame.type_found:
        return [_untyped_error(frame), *frame.problems]
    if any(isinstance(refusal, HeaderError) for refusal in frame.refusals):
        return list(frame.refusals)
    if frame.frame_type not in ("dark", "light"):
        return []
    if frame.exptime == 0:
        return [_unexposed_error(frame)]
    return [*frame.refusals, *(frame.problems if frame.exptime is None else ())]


def _is_spoilt_dark(frame: Frame) -> bool:
    """Return whether a dark was subtracted from this dark, which makes it useless."""
    return frame.frame_type == "dark" and "D" in frame.calstat


def _why_left_out(frame: Frame) -> str:
    if frame.frame_type is None:
        return _UNKNOWN_TYPE.format(frame.type_found)
    if _is_spoilt_dark(frame):
        return f"a dark from which a dark was subtracted (CALSTAT={frame.calstat!r})"
    return f"of type {frame.frame_type}, not used"


def warnings_of(night: Night, used: Collection[str] = ()) -> tuple[str, ...]:
    """Return the warnings about a night, a line each.

    A warning shared by many frames is one line that names the first and the last.

    Parameters
    ----------
    night : the frames.
    used : labels of the frames of targets: what is to be checked of these is left to the targets.
    """
    odd = [
        (label, f"{_UNKNOWN_TYPE.format(spelt)}; set it in {_type_line(night, labels)}")
        for spelt, labels in _unknown_types(night)
        for label in labels
    ]
    for frame in night.frames:
        known = frame.label in used
        odd += [(frame.label, text) for text in frame.warnings if not (known and is_check(text))]
    foreign = [f"{name}: {reason}; not used" for name, reason in night.foreign]
    return (*foreign, *(remark_about(who, text) for text, who in names_by_text(odd).items()))


_UNKNOWN_TYPE = "the frame type {!r} is unknown"


def _unknown_types(night: Night) -> list[tuple[str, list[str]]]:
    """Return each unknown type as the headers spell it, with the labels of its frames."""
    found: dict[str, list[str]] = defaultdict(list)
    for frame in night.frames:
        if frame.frame_type is None and frame.type_found:
            found[frame.type_found].append(frame.label)
    return list(found.items())


def _type_line(night: Night, labels: Sequence[str], frame_type: str = "TYPE") -> str:
    names = toml_text(shortest_patterns(night.frames, labels))
    return f"a night file ([types] {frame_type} = {names})"


def _unknown_type_error(night: Night, spelt: str, labels: Sequence[str]) -> InputError:
    told = f"{list_of_names(labels)}: {_UNKNOWN_TYPE.format(spelt)}"
    hint = f"Set it in {_type_line(night, labels)}, or add the spelling to an instrument file."
    return InputError(told, path=night.folder, value=spelt, hint=hint)


def too_large_errors(night: Night, max_frame_mb: float) -> list[ArrayredError]:
    """Return an error for every frame larger than a limit, MB."""
    return [
        InputError(
            f"The frame has {frame.image.source.n_bytes / 1e6:.0f} MB",
            path=frame.path,
            hint="If this is correct, raise max_frame_mb in the recipe.",
        )
        for frame in night.frames
        if frame.image.source.n_bytes / 1e6 > max_frame_mb and not frame.library
    ]


def _unexposed_error(frame: Frame) -> InputError:
    name = without_suffix(frame.path.name)
    return InputError(
        f"A {frame.frame_type} of 0 s is impossible",
        path=frame.path,
        keyword="EXPTIME",
        value=0.0,
        hint=f'Set its exposure time ([exptime] "{name}" = SECONDS) or set its type to bias '
        f'([types] bias = ["{name}"]) in a night file, or exclude the frame.',
    )


def no_lights_error(night: Night, problems: Iterable[ArrayredError]) -> list[ArrayredError]:
    """Return the error of a night without light frames; none if a problem explains it.

    Parameters
    ----------
    night : the frames.
    problems : the other problems: a file that cannot be read may be a light frame.
    """
    if any(frame.frame_type == "light" for frame in night.frames):
        return []
    made = [label for label, why in night.left_out if why == PRODUCT]
    if made and not night.frames:
        inputs = (path for entry in Ledger(night.folder).entries() for path in entry.inputs)
        raw = next((str(Path(path).parent) for path in inputs), "")
        where = f": arrayred inspect {shlex.quote(raw)}" if raw else "."
        hint = f"Name the folder of the raw frames{where}"
        told = f"These are products of a reduction ({list_of_names(made)}), not raw frames"
        return [InputError(told, path=night.folder, hint=hint)]
    others = {str(frame.path) for frame in night.frames if frame.frame_type is not None}
    if any(problem.path is not None and problem.path not in others for problem in problems):
        return []
    if night.file.frames == "*":
        hint = "Check the frame types; add other spellings to an instrument file."
        if retyped := [frame for frame in night.frames if type_warning(frame)]:
            why = type_warning(retyped[0])
            labels = [frame.label for frame in retyped if type_warning(frame) == why]
            line = _type_line(night, labels, "light")
            hint = f"If they are light frames ({list_of_names(labels)}: {why}), say so in {line}."
        elif night.foreign:
            hint = f"Look at {night.foreign[0][0]}, {night.foreign[0][1]}."
        return [InputError("No light (science) frames found", path=night.folder, hint=hint)]
    if other := _pattern_of_other_case(night):
        hint = f"Upper and lower case differ: use --frames {shlex.quote(other)}."
        told = f"No light frame has a name that matches {night.file.frames!r}"
        return [InputError(told, path=night.folder, hint=hint)]
    reason = pattern_mismatch(night.file.frames)
    lights = [label for label, why in night.left_out if why == reason]
    there = (
        f"The light frames are {list_of_names(lights)}"
        if lights
        else "There are no light frames at all"
    )
    return [
        InputError(
            f"No light frame has a name that matches {night.file.frames!r}",
            path=night.folder,
            hint=f"{there}; in a shell, quote patterns with an asterisk."
            if lights
            else f"{there}.",
        )
    ]


def _pattern_of_other_case(night: Night) -> str:
    """Return the pattern of the frames in lower or upper case, if it then matches a light frame."""
    names = [frame.path for frame in night.scanned if frame.frame_type == "light"]
    pattern = night.file.frames
    for other in (pattern.lower(), pattern.upper()):
        if any(path.match(other) for path in names):
            return other
    return ""


def _untyped_error(frame: Frame) -> InputError:
    return InputError(
        "Frame type unknown: no IMAGETYP in the header",
        path=frame.path,
        keyword="IMAGETYP",
        hint="Add IMAGETYP to the header, name its keyword in an instrument file, set its type in "
        "a night file, or exclude it.",
    )


# The detailed plan, for `arrayred inspect --plan`: `plan_sections`.


def plan_sections(
    night: Night, plan: Plan, memory: int | None = None
) -> dict[str, list[tuple[str, str]]]:
    """Return what will be done and why.

    Parameters
    ----------
    night : the frames.
    plan : of `make_plan`.
    memory : bytes that bands of frames may take, if limited.

    Returns
    -------
    sections : lines of text, each with a label, under the titles Calibration, Targets, Passes (over
        the pixels, with bytes and memory), Products, Notes, Not used (frames, with reasons), Memory
        and Problems. A section of a single line without label fits beside its title.
    """
    flats = list(plan.flats.values())
    calibration = [(f"master {group.title}", _group_text(group)) for group in plan.masters]
    calibration += [(f"master {flat.frames.title}", _flat_text(flat)) for flat in flats]
    failed = [(name, f"cannot be reduced: {error}") for name, error in plan.failed]
    held = [_bands_of(group, memory)[1] for group in _groups_read(plan)]
    sections = {
        "Calibration": calibration or [("", "none")],
        "Targets": [*failed, *(line for one in plan.targets for line in _target_lines(one))],
        "Passes": [("", line) for line in _read_pass_lines(night, plan, memory)],
        "Products": [("", line) for line in _product_lines(plan)],
        "Notes": [*_decision_lines(night), *map(level_of, plan.warnings)],
        "Not used": [("", line) for line in plan.left_out_lines()] or [("", "none")],
        "Memory": [("", f"at most {max(held, default=0) / 1e6:.1f} MB of pixels at a time")],
        "Problems": [("", line) for line in lines_of(plan.problems)],
    }
    return {title: lines for title, lines in sections.items() if lines}


def _group_text(group: Group) -> str:
    """Return the number of frames, their temperature and overscan."""
    at = "" if group.temperature is None else f", CCD {group.temperature:.1f} °C"
    told = (
        f"{group.size}{at}"
        if group.frames[0].frame_type != "light"
        else (f"{len(group.frames)} x {group.exptime:g} s{at}")
    )
    return told + _overscan_text(group.frames[0].sections)


def _overscan_text(sections: Sections | None) -> str:
    """Return the overscan correction and trimming of frames as text, or ""."""
    if sections is None:
        return ""
    overscan = f", overscan {sections.overscan} subtracted" if sections.overscan else ""
    return overscan + (f", trimmed to {sections.trim}" if sections.trim else "")


def _flat_text(flat: Flat) -> str:
    """Return a flat's frames, and what is subtracted from them."""
    darks = ", ".join(group.title for group in flat.masters)
    return f"{_group_text(flat.frames)}; {darks or 'nothing'} subtracted"


def _target_lines(target: Target) -> Iterator[tuple[str, str]]:
    """Yield a line on the light frames of a target, and one for each of its calibrations."""
    state = "; dark already subtracted" if target.lights.is_dark_subtracted else ""
    yield target.name, _group_text(target.lights) + state
    used = [group for group in (target.master, target.flat and target.flat.frames) if group]
    for group in used:
        yield f"  {group.title}", _distance_text(target.lights, group)
    for lamp in nearest_lamps(target.lamps):
        yield "  arc", lamp.text + lamp.slew
    if n := len(target.lamps) - len(nearest_lamps(target.lamps)):
        yield "  arc", f"{n} more"
    if target.rows_from:
        yield "  rows", f"those of {target.rows_from}"
    if own := target.recipe.changed():
        yield "  settings", ", ".join(f"{name} = {value}" for name, value in own.items())


def _distance_text(lights: Group, group: Group) -> str:
    """Return how far in time and temperature calibration frames are from light frames."""
    age, difference = age_in_days(lights, group), warmer(lights, group)
    told = [] if age is None else [f"taken {age:.1f} d apart"]
    if difference is not None:
        told.append(f"{abs(difference):.1f} °C {'warmer' if difference > 0 else 'colder'}")
    return ", ".join(told) or "time and temperature unknown"


def _groups_read(plan: Plan) -> list[Group]:
    """Return the groups of frames whose pixels are read, in bands of rows."""
    flats = [flat.frames for flat in plan.flats.values()]
    return [*plan.masters, *flats, *(target.lights for target in plan.targets)]


def _bands_of(group: Group, memory: int | None) -> tuple[int, float]:
    """Return the number of bands in which a group is read, and the bytes of one."""
    n_bands = len(list(band_edges(group.frames[0].shape[0], group.band_rows(memory))))
    return n_bands, group.n_bytes / n_bands


def _read_pass_lines(night: Night, plan: Plan, memory: int | None) -> Iterator[str]:
    """Yield the passes over the files, each with its purpose and the amount of data read."""
    yield f"headers: {len(night.frames)} files, no pixels"
    asked = sum(frame.doubt is not None for frame in night.frames)
    if asked:
        yield f"probe of some rows: {asked} frames may have another type"
    for group in _groups_read(plan):
        n_bands, held = _bands_of(group, memory)
        yield (
            f"bands of {group.name}: {group.n_bytes / 1e6:.1f} MB in {n_bands} "
            f"band{'s' * (n_bands != 1)}, {held / 1e6:.1f} MB held at a time"
        )
    compared = [len(t.lights.frames) for t in plan.targets if len(t.lights.frames) > 1]
    if compared:
        yield (
            f"probe of the light frames: {sum(compared)} frames compared within {len(compared)} "
            "targets"
        )


def _decision_lines(night: Night) -> Iterator[tuple[str, str]]:
    """Yield the decisions about frames' pixels, with the number of frames."""
    told = Counter(verdict for frame in night.frames for verdict in frame.verdicts)
    for verdict, n_frames in told.items():
        source = " (from option)" if verdict.source == "option" else ""
        yield counted(n_frames, "frame"), f"{verdict.text}{source}"


def _product_lines(plan: Plan) -> Iterator[str]:
    """Yield the files that will be written."""
    for group in plan.masters:
        if not group.is_master:
            yield f"masters/{group.master_name}"
    for flat in plan.flats.values():
        if not flat.is_finished:
            yield f"masters/{flat.master_name}"
    for target in plan.targets:
        names = product_names(
            target.name,
            sky=target.recipe.sky,
            arc=bool(target.lamps),
            frames=target.recipe.per_frame,
        )
        endings = ",".join(name.removeprefix(target.name) for name in names)
        yield f"targets/{target.name}/{target.name}{{{endings}}}"
    if plan.targets:
        yield PAGE


# Write a night file from a plan: `night_file_text`.
#
# Read back unchanged it gives the same plan; comments show where something may be added.

_NIGHT_FILE_HEAD = """\
# What arrayred understood of this night. Edit it, then:
#   arrayred reduce NIGHT -o OUT --night-file THIS-FILE
# Frames are labels, file names, globs, or ranges such as hr8047-10..12. All entries are optional.
"""
_NIGHT_FILE_SETTINGS = """\
# Any field of the recipe, for all targets; under a target, for that one.
[recipe]
# combine = "median"
# n_sigma = 3.0
# background_rows = [1, 50]
"""


def night_file_text(night: Night, plan: Plan, recipe: Recipe, path: Path) -> str:
    """Return a night file with the automatic decisions of a plan.

    Parameters
    ----------
    night : the frames.
    plan : of the night.
    recipe : settings for all targets.
    path : of the file to be written; paths in it are relative to its folder.

    Returns
    -------
    text : TOML.
    """
    sections = [
        [_NIGHT_FILE_HEAD.rstrip(), *_night_file_top(night, path)],
        ["# Files that are not what their headers say.", "[types]", *_night_file_types(night)],
        *_night_file_exposures(night),
        _NIGHT_FILE_SETTINGS.rstrip().splitlines() + toml_lines(recipe.changed().items()),
        ["# Cards of all products.", "[cards]", *toml_lines(night.file.cards.items())],
        *[[*_target_table(target, recipe)] for target in plan.targets],
    ]
    remarks = [f"# not used: {printable(line)}" for line in plan.left_out_lines()]
    remarks += [f"# {printable(name)} cannot be reduced: {error}" for name, error in plan.failed]
    return "\n\n".join("\n".join(lines) for lines in [*sections, remarks] if lines) + "\n"


def _night_file_top(night: Night, path: Path) -> Iterator[str]:
    file, folder = night.file, path.absolute().parent
    calibrations = [os.path.relpath(where, folder) for where in file.calibrations]
    own = file.instrument.endswith(".toml")
    instrument = os.path.relpath(file.instrument, folder) if own else file.instrument
    yield f"instrument = {toml_text(instrument)}"
    if file.frames != "*":
        yield f"frames = {toml_text(file.frames)}"
    yield f"exclude = {toml_text(list(file.exclude))}"
    more = "more folders of raw or master darks, biases"
    yield f"calibrations = {toml_text(calibrations)}  # {more}"
    if file.unsigned != "auto":
        yield f"unsigned = {toml_text(file.unsigned)}"
    if file.extension:
        yield f"extension = {toml_text(file.extension)}"
    turned = {f.dispersion_axis for f in night.frames if f.frame_type == "light"} == {2}
    if turned or file.dispersion_axis != "auto":
        yield f"dispersion_axis = {toml_text('y' if turned else file.dispersion_axis)}"
    if file.masters:
        yield "\n[masters]"
        yield from toml_lines(
            (kind, os.path.relpath(p, folder)) for kind, p in file.masters.items()
        )


def _night_file_types(night: Night) -> Iterator[str]:
    """Yield the types that are not from headers alone, those of an earlier night file included."""
    given = {name for names in night.file.types.values() for name in names}
    for kind in FRAME_TYPES:
        known = list(night.file.types.get(kind, ()))
        found = [
            frame.label
            for frame in night.frames
            if frame.frame_type == kind and frame.label not in given and type_warning(frame)
        ]
        if known or found:
            yield f"{kind} = {toml_text([*known, *found])}"
    if not any(frame.frame_type == "arc" for frame in night.frames):
        yield '# arc = ["*neon*"]'


def _night_file_exposures(night: Night) -> Iterator[list[str]]:
    """Yield the exposures that no header gives, as a table, if there are any."""
    keywords = night.instrument.keywords["exptime"]
    found = {
        frame.label: frame.exptime
        for frame in night.frames
        if frame.exptime is not None and any(error.keyword in keywords for error in frame.problems)
    }
    if told := {**found, **night.file.exptime}:
        lines = [f"{toml_text(name)} = {toml_text(seconds)}" for name, seconds in told.items()]
        yield ["# Exposures in s.", "[exptime]", *lines]


def _target_table(target: Target, recipe: Recipe) -> Iterator[str]:
    lights = target.lights
    yield f"# {lights.size} of {lights.exptime:g} s"
    for remark in target.remarks:
        yield f"# note: {printable(remark)}"
    yield f"[targets.{toml_text(target.name)}]"
    yield f"frames = {toml_text([frame.label for frame in lights.frames])}"
    known = {**_cards_to_edit(target), **target.cards}
    for key, card in CARDS.items():
        given = card in target.cards
        yield f"{'' if given else '# '}{key} = {toml_text(known.get(card, ''))}"
    if target.rows_from:
        yield f"rows_from = {toml_text(target.rows_from)}"
    elif target.recipe.rows is None:
        yield '# rows = [100, 120]  # or rows_from = "another target"'
    if target.lamps:
        yield f"lamps = {toml_text([lamp.name for lamp in target.lamps])}"
    yield from toml_lines(target.recipe.changed(recipe).items())
    named = CARDS.values()
    others = {card: value for card, value in target.cards.items() if card not in named}
    if others:
        yield f"cards = {{ {', '.join(toml_lines(others.items()))} }}"


def _cards_to_edit(target: Target) -> dict[str, object]:
    """Return the first frame's values of the cards that are most often corrected."""
    header = target.lights.frames[0].image.header
    found = {card: header.readable(card) for card in CARDS.values()}
    return {card: value for card, value in found.items() if value is not None}
