"""A run's account of its night: `account_of`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from arrayred._version import __version__
from arrayred.config import Recipe
from arrayred.errors import ArrayredError, NoSpectrumError
from arrayred.io.frames import Frame
from arrayred.night import Flat, Group, Night, Plan, Target, problems_of
from arrayred.night.match import age_in_days, warmer
from arrayred.report.account import Account, FrameLine, Served, TargetLine


def account_of(
    night: Night,
    plan: Plan,
    recipe: Recipe,
    errors: Mapping[str, ArrayredError],
    command: str = "",
) -> Account:
    """Return the account of a night.

    Parameters
    ----------
    night, plan, recipe : what was to be done.
    errors : what stopped targets, by their names.
    command : what makes it again.
    """
    uses, out = _uses(plan), dict(plan.left_out)
    frames = night.scanned or night.frames
    labels = {frame.label for frame in frames}
    planned = {target.name: _target(target, errors) for target in plan.targets}
    failed = [TargetLine(name, error=str(error)) for name, error in plan.failed]
    return Account(
        frames=tuple(_frame(frame, uses, out) for frame in frames),
        targets=(*failed, *planned.values()),
        left_out=tuple((who, why) for who, why in plan.left_out if who not in labels),
        warnings=plan.warnings,
        command=command,
        settings=_differences(recipe),
        versions={"arrayred": __version__, "numpy": np.__version__},
    )


def _uses(plan: Plan) -> dict[str, str]:
    """Return what each frame became part of, by label."""
    masters: list[Group | Flat] = [*plan.to_settle, *plan.flats.values()]
    uses = {
        frame.label: f"master {_title(master)}"
        for master in reversed(masters)
        for frame in master.inputs
    }
    for flat in plan.flats.values():
        uses |= {frame.label: f"master {flat.frames.title}" for frame in flat.frames.frames}
    for target in plan.targets:
        if target.lamps:
            uses |= {frame.label: f"lamps of {target.name}" for frame in target.lamps.frames}
    for target in plan.targets:
        uses |= {frame.label: target.name for frame in target.lights.frames}
    return uses


def _title(master: Group | Flat) -> str:
    return master.frames.title if isinstance(master, Flat) else master.title


def _frame(frame: Frame, uses: Mapping[str, str], out: Mapping[str, str]) -> FrameLine:
    use = uses.get(frame.label, "")
    wrong = [str(problem.args[0]) for problem in problems_of(frame)]
    reason = "" if use else out.get(frame.label) or out.get(frame.path.name) or "; ".join(wrong)
    decided = (verdict.text for verdict in frame.verdicts)
    return FrameLine(
        label=frame.label,
        path=str(frame.path.absolute()),
        kind=frame.frame_type or frame.type_found or "unknown",
        exptime=frame.exptime,
        time="" if frame.time is None else frame.time.replace(tzinfo=None).isoformat(),
        evening=frame.night,
        temperature=frame.ccd_temp,
        shows=frame.target,
        shape=frame.shape,
        use=use,
        out=reason if use or reason else "not needed",
        remarks=(*decided, *frame.warnings),
        wrapped=frame.image.source.pixels.wrapped,
    )


def _target(target: Target, errors: Mapping[str, ArrayredError]) -> TargetLine:
    error = errors.get(target.name)
    masters: list[Group | Flat] = [target.master] if target.master else []
    masters += [target.flat] if target.flat else []
    return TargetLine(
        name=target.name,
        n_frames=len(target.lights.frames),
        exptime=target.lights.frames[0].exptime,
        masters=tuple(_served(target.lights, master) for master in masters),
        remarks=target.remarks,
        error="" if error is None else str(error),
        threshold=_threshold(error),
        settings=_differences(target.recipe),
    )


def _threshold(error: ArrayredError | None) -> float | None:
    """Return what the mean of a row had to exceed, where none did."""
    found = error.value if isinstance(error, NoSpectrumError) else None
    return found if isinstance(found, float) and np.isfinite(found) else None


def _served(lights: Group, master: Group | Flat) -> Served:
    frames = master.frames if isinstance(master, Flat) else master
    return Served(
        kind=frames.kind,
        title=frames.title,
        file=master.master_name,
        n_frames=len(frames.frames),
        age=age_in_days(lights, frames),
        warmer=warmer(lights, frames),
    )


def _differences(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that are not the default ones."""
    default, told = dataclasses.asdict(Recipe()), dataclasses.asdict(recipe)
    return {name: value for name, value in told.items() if value != default[name]}
