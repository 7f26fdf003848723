"""A plan told at length, before anything is reduced: `explain`."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator

from arrayred.bands import edges
from arrayred.config import Recipe
from arrayred.io.ledger import PAGE
from arrayred.io.products import product_names
from arrayred.model import Sections
from arrayred.night.flats import Flat
from arrayred.night.group import Group
from arrayred.night.matching import age_in_days, warmer
from arrayred.night.plan import Plan, Target, served
from arrayred.night.records import Night


def explain(night: Night, plan: Plan, memory: int | None = None) -> str:
    """Return what will be done and why, as text.

    Parameters
    ----------
    night : the frames.
    plan : what `make_plan` made of them.
    memory : bytes that bands of frames may take, if there is a bound.

    Returns
    -------
    text : masters, targets and what calibrates them, passes over the pixels with bytes and memory,
        products, what is left out and why, warnings and problems.
    """
    sections = {
        "masters": [
            *(f"{group.title}: {_described(group)}" for group in plan.masters),
            *(_flat(flat) for flat in plan.flats.values()),
        ],
        "targets": [*map(_target, plan.targets), *(f"{name}: {e}" for name, e in plan.failed)],
        "passes": list(_passes(night, plan, memory)),
        "products": list(_products(plan)),
        "left out": plan.left_out_lines(),
        "warnings": plan.warnings,
        "problems": [str(problem) for problem in plan.problems],
    }
    lines = []
    for title, entries in sections.items():
        lines += [title, *(f"  {line}" for line in entries)] if entries else []
    return "\n".join(lines)


def _described(group: Group) -> str:
    rows, columns = group.frames[0].shape
    at = "" if group.temperature is None else f", {group.temperature:.1f} deg C"
    told = f"{group.size} of {group.exptime:g} s, {columns} x {rows}{at}"
    return told + _sections(group.frames[0].sections)


def _sections(sections: Sections | None) -> str:
    """Return what is done with the overscan of frames, or ""."""
    if sections is None:
        return ""
    overscan = f", overscan {sections.overscan} subtracted" if sections.overscan else ""
    return overscan + (f", trimmed to {sections.trim}" if sections.trim else "")


def _flat(flat: Flat) -> str:
    """Return a flat and what is subtracted from its frames."""
    darks = ", ".join(f"{group.kind} {group.name}" for group in flat.masters)
    return f"{flat.frames.title}: {_described(flat.frames)}; {darks or 'nothing subtracted'}"


def _target(target: Target) -> str:
    """Return a target and what serves it, with age and temperature."""
    master, what = target.master, f"{target.name}: {_described(target.lights)}; {served(target)}"
    if master is not None:
        age, difference = age_in_days(target.lights, master), warmer(target.lights, master)
        what += "" if age is None else f", {age:.1f} days apart"
        what += "" if difference is None else f", {difference:+.1f} deg C"
    what += f"; rows of {target.rows_from}" if target.rows_from else ""
    if target.lamps:
        what += f"; lamps: {', '.join(frame.label for frame in target.lamps.frames)}"
    own = _differences(target.recipe)
    return what + (f"; {own}" if own else "")


def _differences(recipe: Recipe) -> str:
    """Return the settings that are not the default ones."""
    default = dataclasses.asdict(Recipe())
    told = dataclasses.asdict(recipe)
    return ", ".join(f"{name} = {value}" for name, value in told.items() if value != default[name])


def _passes(night: Night, plan: Plan, memory: int | None) -> Iterator[str]:
    """Yield the passes over the files, each with why and how much is read."""
    yield f"headers: {len(night.frames)} files, no pixels"
    yield from _verdicts(night)
    asked = sum(bool(frame.maybe_arc) for frame in night.frames)
    if asked:
        yield f"probe of some rows: {asked} frames may show a lamp"
    flats = [flat.frames for flat in plan.flats.values()]
    for group in [*plan.masters, *flats, *(target.lights for target in plan.targets)]:
        n_bands = len(list(edges(group.frames[0].shape[0], group.band_rows(memory))))
        held = group.n_bytes / n_bands
        yield (
            f"bands of {group.name}: {group.n_bytes / 1e6:.1f} MB in {n_bands} "
            f"band{'s' * (n_bands != 1)}, {held / 1e6:.1f} MB held at a time"
        )
    compared = [len(t.lights.frames) for t in plan.targets if len(t.lights.frames) > 1]
    if compared:
        yield f"probe of the lights: {sum(compared)} frames compared within {len(compared)} targets"


def _verdicts(night: Night) -> Iterator[str]:
    """Yield what was decided about frames' pixels, each with what it was decided by."""
    told = Counter(verdict for frame in night.frames for verdict in frame.verdicts)
    by = {"probe": "probe of some rows", "header": "header", "option": "option"}
    for verdict, n_frames in told.items():
        yield f"{by[verdict.source]}: {n_frames} frames {verdict.text}"


def _products(plan: Plan) -> Iterator[str]:
    """Yield the files to come."""
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
            arc=target.lamps is not None,
            frames=target.recipe.per_frame,
        )
        endings = ",".join(name.removeprefix(target.name) for name in names)
        yield f"targets/{target.name}/{target.name}{{{endings}}}"
    if plan.targets:
        yield PAGE
