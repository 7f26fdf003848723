"""A plan told at length, before anything is reduced: `explain`."""

from __future__ import annotations

from collections.abc import Iterator

from arrayred.bands import edges
from arrayred.config import Recipe
from arrayred.night.groups import Group
from arrayred.night.matching import age_in_days, warmer
from arrayred.night.plan import Plan, Target
from arrayred.night.records import Night


def explain(night: Night, plan: Plan, recipe: Recipe) -> str:
    """Return what will be done and why, as text.

    Parameters
    ----------
    night : the frames.
    plan : what `make_plan` made of them.
    recipe : what is to be done with them.

    Returns
    -------
    text : masters, targets and what calibrates them, passes over the pixels with bytes and memory,
        products, what is left out and why, warnings and problems.
    """
    sections = {
        "masters": [f"dark {_described(group)}" for group in plan.darks],
        "targets": [*map(_target, plan.targets), *(f"{name}: {e}" for name, e in plan.failed)],
        "passes": list(_passes(night, plan)),
        "products": list(_products(plan, recipe)),
        "left out": plan.left_out_lines(),
        "warnings": list(plan.warnings),
        "problems": [str(problem) for problem in plan.problems],
    }
    lines = []
    for title, entries in sections.items():
        lines += [title, *(f"  {line}" for line in entries)] if entries else []
    return "\n".join(lines)


def _described(group: Group) -> str:
    rows, columns = group.frames[0].shape
    at = "" if group.temperature is None else f", {group.temperature:.1f} deg C"
    return f"{group.name}: {group.size} of {group.exptime:g} s, {columns} x {rows}{at}"


def _target(target: Target) -> str:
    if target.darks is None:
        return f"{_described(target.lights)}; a dark has been subtracted already"
    age, difference = age_in_days(target.lights, target.darks), warmer(target.lights, target.darks)
    when = "" if age is None else f", {age:.1f} days apart"
    how = "" if difference is None else f", {difference:+.1f} deg C"
    return f"{_described(target.lights)}; dark {target.darks.name}{when}{how}"


def _passes(night: Night, plan: Plan) -> Iterator[str]:
    """Yield the passes over the files, each with why and how much is read."""
    yield f"headers: {len(night.frames)} files, no pixels"
    wrapped = sum(frame.image.source.pixels.wrapped for frame in night.frames)
    if wrapped:
        yield f"probe of some dark rows: {wrapped} frames hold unsigned counts written as signed"
    asked = sum(bool(frame.maybe_arc) for frame in night.frames)
    if asked:
        yield f"probe of some rows: {asked} frames may show a lamp"
    for group in [*plan.darks, *(target.lights for target in plan.targets)]:
        n_bands = len(list(edges(group.frames[0].shape[0], group.band_rows)))
        held = group.n_bytes / n_bands
        yield (
            f"bands of {group.name}: {group.n_bytes / 1e6:.1f} MB in {n_bands} "
            f"band{'s' * (n_bands != 1)}, {held / 1e6:.1f} MB held at a time"
        )


def _products(plan: Plan, recipe: Recipe) -> Iterator[str]:
    """Yield the files to come."""
    for group in plan.darks:
        yield f"masters/master_dark_{group.name}.fits"
    kinds = ["combined.fits", "raw_extraction.txt", "spectrum.fits", "spectrum.ecsv"]
    kinds += ["skysubtracted.txt"] if recipe.sky else []
    for target in plan.targets:
        yield f"targets/{target.name}/{target.name}_{{{','.join(kinds)}}}"
