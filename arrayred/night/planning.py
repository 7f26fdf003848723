"""What will be done with a night, decided from its frames' records: `make_plan`.

Every problem is collected instead of stopping at the first, and a frame that is not used stands in
`left_out` with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from arrayred.config import BETRAYED_BY, NightFile, Recipe, TargetFile
from arrayred.config.toml import errors_name, require_known
from arrayred.errors import MismatchError, NoDarkError, UnknownGainError, UsageError
from arrayred.io.frames import Frame
from arrayred.night.flats import Flat, match_flat, plan_flats
from arrayred.night.group import Group
from arrayred.night.groups import biases_of, darks_of, lights_of, require_one_kind
from arrayred.night.making import Made, dark_for
from arrayred.night.matching import match_bias, remarks_from_pixels, remarks_on
from arrayred.night.naming import slug
from arrayred.night.picking import pick_any
from arrayred.night.plan import Plan, Target
from arrayred.night.records import Night
from arrayred.night.usable import no_lights, sort_out, too_large, warnings_of


def make_plan(night: Night, recipe: Recipe | None = None) -> Plan:
    """Decide which frames become which masters and targets.

    Parameters
    ----------
    night : the frames, and what its night file says of targets.
    recipe : what to do; by default what the night file says. Its `dark_tolerance` and
        `temperature_tolerance` say how far a light and its dark may differ, its `max_frame_mb` how
        large a frame may be.

    Returns
    -------
    plan : with every problem found, not only the first. It can be carried out if there is none.
        A target without a dark fails alone, unless no other is left.

    Raises
    ------
    UsageError
        The night file says something of targets or frames that cannot be.
    """
    recipe = Recipe().replace(**night.file.recipe) if recipe is None else recipe
    usable, left_out, problems = sort_out(night, {} if recipe.keep_duplicates else night.duplicates)
    problems += too_large(night, recipe.max_frame_mb)
    if recipe.overscan == "off":
        for kind, frames in usable.items():
            usable[kind] = [replace(frame, sections=None) for frame in frames]
    calibrations = _calibrations(usable, night.file)
    wanted = _flat_frames(usable, night.file) if recipe.flat else []
    flats, unfit = plan_flats(wanted, calibrations, recipe)
    with errors_name(night.file.path):
        lights = lights_of(usable["light"], night.file.targets, usable["arc"])
        wishes = _wishes(night.file, lights)
        targets, failed = [], []
        for group in lights:
            try:
                target = _target(group, calibrations, recipe, wishes.get(group.name))
                target = replace(target, remarks=(*target.remarks, *remarks_from_pixels(group)))
                target = _with_flat(target, flats)
                targets.append(_with_lamps(target, usable["arc"], calibrations, wishes))
            except (MismatchError, NoDarkError, UnknownGainError) as error:
                failed.append((group.name, error))
        targets = _in_order(targets)
    problems += no_lights(night, problems)
    problems += [] if targets else [error for _, error in failed]
    masters, left_out = _used(targets, calibrations, usable, unfit, left_out)
    return Plan(
        masters,
        tuple(targets),
        tuple(left_out),
        tuple(problems),
        warnings_of(night),
        tuple(failed if targets else ()),
    )


def _calibrations(usable: Mapping[str, list[Frame]], file: NightFile) -> dict[str, list[Group]]:
    """Return the groups of biases and darks; where a master was named, that one alone."""
    chosen = {
        kind: [f for f in usable[kind] if f.path == file.masters.get(kind, f.path)]
        for kind in ("bias", "dark")
    }
    return {"bias": biases_of(chosen["bias"]), "dark": darks_of(chosen["dark"])}


def _flat_frames(usable: Mapping[str, list[Frame]], file: NightFile) -> list[Frame]:
    """Return the flats; where a master was named, that one alone."""
    named = file.masters.get("flat")
    return [frame for frame in usable["flat"] if named is None or frame.path == named]


def _wishes(file: NightFile, lights: Sequence[Group]) -> dict[str, TargetFile]:
    """Return what the night file says of each target, by the target's name."""
    given = {slug(name) for name, wish in file.targets.items() if wish.frames}
    names = {group.name for group in lights} | given
    by_slug = {slug(name): wish for name, wish in file.targets.items()}
    for name, wish in file.targets.items():
        require_known(slug(name), names, "target of this night")
        if wish.rows_from:
            require_known(slug(wish.rows_from), names, f"target to take the rows of {name!r} from")
    if len(by_slug) < len(file.targets):
        raise UsageError(
            f"Two of the targets {', '.join(file.targets)} would have one file name",
            path=file.path,
            hint="Rename one.",
        )
    return by_slug


def _target(
    lights: Group, calibrations: Mapping[str, list[Group]], recipe: Recipe, wish: TargetFile | None
) -> Target:
    wish = wish or TargetFile()
    target = Target(
        lights,
        _for_window(recipe.replace(**wish.recipe), lights),
        rows_from=slug(wish.rows_from) if wish.rows_from else "",
        cards=wish.cards,
    )
    if {"B", "D"} <= {*lights.state}:
        return target
    own, degrees = target.recipe, target.recipe.temperature_tolerance
    bias = match_bias(lights, calibrations["bias"], degrees)
    _require_correctable(lights, bias, own)
    if lights.is_dark_subtracted:
        return replace(target, bias=bias)
    if own.dark and (calibrations["dark"] or bias is None):
        dark = dark_for(lights, calibrations, own)
        made = dark.remarks if isinstance(dark, Made) else ()
        return replace(target, dark=dark, remarks=(*made, *remarks_on(lights, dark)))
    if bias is None:
        return replace(target, remarks=("no dark and no bias was subtracted, as asked",))
    why = "there is no dark" if own.dark else "no dark was subtracted, as asked"
    told = (f"{why}: only the bias was subtracted", *remarks_on(lights, bias))
    return replace(target, bias=bias, remarks=told)


def _require_correctable(lights: Group, bias: Group | None, recipe: Recipe) -> None:
    """Raise an error if what is still in lights cannot be subtracted from them any more."""
    frame = lights.frames[0]
    if "F" in lights.state and (recipe.dark or bias is not None):
        raise MismatchError(
            f"{lights.name} was divided by a flat with its dark still in it "
            f"(CALSTAT {frame.calstat!r}), and no dark fits what came out",
            path=frame.path,
            keyword="CALSTAT",
            value=frame.calstat,
            hint="Take the raw frames, mend CALSTAT, or exclude the frame"
            + (", or give --no-dark." if bias is None else "."),
        )
    if lights.is_dark_subtracted and bias is None:
        raise NoDarkError(
            f"The bias is still in {lights.name}, whose dark is gone "
            f"(CALSTAT {frame.calstat!r}), and no bias fits it",
            path=frame.path,
            keyword="CALSTAT",
            value=frame.calstat,
            hint="Take a matching bias, name a folder of them with --calibrations, or exclude it.",
        )


def _for_window(recipe: Recipe, lights: Group) -> Recipe:
    """Return a recipe whose background sample is the first rows that are left of trimmed frames.

    Rows that were given count as they stand.
    """
    light, (first, last) = lights.frames[0], Recipe().background_rows
    lowest = light.window[0 if light.dispersion_axis == 1 else 1]
    if recipe.background_rows != (first, last):
        return recipe
    return recipe.replace(background_rows=(first + lowest - 1, last + lowest - 1))


def _with_flat(target: Target, flats: Sequence[Flat]) -> Target:
    """Return a target with the flat that serves it, or with why none does and what that means."""
    own = target.recipe
    if own.units == "electron":
        for frame in target.lights.frames:
            if frame.gain is None:
                raise UnknownGainError.of(frame.path)
    flat, remarks = match_flat(target.lights, flats) if own.flat and flats else (None, ())
    target = replace(target, flat=flat, remarks=(*target.remarks, *remarks))
    there = {"dark": target.master, "flat": target.flat}
    unknown = [kind for kind in BETRAYED_BY.get(own.bad_pixels, ()) if there[kind] is None]
    told = tuple(f"there is no {kind} that could betray bad pixels" for kind in unknown)
    return replace(target, remarks=(*target.remarks, *told))


def _with_lamps(
    target: Target,
    arcs: Sequence[Frame],
    calibrations: Mapping[str, list[Group]],
    wishes: Mapping[str, TargetFile],
) -> Target:
    """Return a target with the lamps that the night file gives it, and what serves them."""
    names = wishes[target.name].lamps if target.name in wishes else ()
    lamps = Group(target.name, tuple(pick_any(arcs, names)))
    if not lamps.frames:
        unusable = ("its lamps cannot be used",) if names else ()
        return replace(target, remarks=(*target.remarks, *unusable))
    require_one_kind(f"The lamps of {target.name!r} are", lamps.frames)
    odd = [f.label for f in lamps.frames if f.shape != target.lights.frames[0].shape]
    if odd:
        raise UsageError(
            f"The lamp {odd[0]} has another shape than {target.name}",
            value=odd[0],
            hint="Name lamps of the same shape and binning.",
        )
    recipe, master = target.recipe, match_bias(lamps, calibrations["bias"])
    if not lamps.is_dark_subtracted:
        with suppress(NoDarkError):
            master = dark_for(lamps, calibrations, recipe)
    if master is not None or lamps.is_dark_subtracted:
        return replace(target, lamps=lamps, lamp_master=master)
    told = "no dark or bias fits its lamps: nothing was subtracted from them"
    return replace(target, lamps=lamps, remarks=(*target.remarks, told))


def _used(
    targets: Sequence[Target],
    calibrations: Mapping[str, list[Group]],
    usable: Mapping[str, list[Frame]],
    unfit: Mapping[str, str],
    left_out: Sequence[tuple[str, str]],
) -> tuple[tuple[Group, ...], list[tuple[str, str]]]:
    """Return the masters that targets need, and all that is left out, each with the reason."""
    needed = {group.key: group for target in targets for group in target.masters}
    in_order = {g.key: g for g in (*calibrations["bias"], *calibrations["dark"])} | needed
    used = {frame.label for group in needed.values() for frame in group.inputs}
    used |= {f.label for t in targets if t.flat for f in t.flat.inputs}
    used |= {frame.label for t in targets if t.lamps for frame in t.lamps.frames}
    spare = [(f, "a {} that no light needs") for kind in ("bias", "dark") for f in usable[kind]]
    spare += [(f, "of type {}, not used") for kind in ("flat", "arc") for f in usable[kind]]
    reasons = [
        (f.label, why.format(f.frame_type) + (f": {unfit[f.label]}" if f.label in unfit else ""))
        for f, why in spare
        if f.label not in used
    ]
    masters = tuple(group for key, group in in_order.items() if key in needed)
    return masters, [*left_out, *reasons]


def _in_order(targets: Sequence[Target]) -> list[Target]:
    """Return the targets, each behind the one whose rows it takes."""
    waiting, ordered, done = list(targets), list[Target](), set[str]()
    missing = {t.rows_from for t in targets} - {t.name for t in targets}
    while waiting:
        ready = [t for t in waiting if not t.rows_from or t.rows_from in done | missing]
        if not ready:
            names = ", ".join(target.name for target in waiting)
            raise UsageError(
                f"The targets {names} take their rows from each other",
                keyword="rows_from",
                hint="Give one of them rows of its own.",
            )
        ordered.append(ready[0])
        done.add(ready[0].name)
        waiting.remove(ready[0])
    return ordered
