"""How much of a bound on memory is left for bands of frames: `room_for_bands`.

The bound is that of the whole process, which is what whoever shares a machine asks for. What does
not shrink with the bands comes first: the program with its libraries, what is known of each frame,
the masters that wait for their targets, and the images of the one target that is worked on. The
rest goes to the bands, and where that holds no row, the plan refuses, rather than that the night
takes more than it may.

Bytes a pixel were counted, stage by stage, and then held against nights of 2048 x 2048: 60 frames
peak at 0.8 of what is reckoned here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from arrayred.config import Recipe
from arrayred.errors import ResourceError
from arrayred.night import Group, Plan, Target
from arrayred.pipeline import cleaning

if TYPE_CHECKING:
    from arrayred.batch.orders import Order

_MIB = 1 << 20
_PROGRAM, _FIGURES = 152 << 20, 64 << 20
_OF_A_FRAME, _OF_VALUES = 24 << 10, 16
"""Bytes of what is known of a frame; of how many values of a target's frames one is for the list of
those that stand out: 40 bytes each of the 0.15 % that cosmic rays strike in 600 s."""
_MASTER, _FLAT = 8, 12
_TARGET, _CLEANED, _CALIBRATED, _DIVIDED, _ELECTRONS = 46, 24, 40, 20, 20
_DOUBLE = 16
"""Bytes a pixel, beside the bands: of masters that are kept, of a target, more where its best
estimate is made apart, single frames are written, it is divided, it is in electrons, or written in
float64."""


def room_for_bands(plan: Plan, recipe: Recipe, order: Order) -> int | None:
    """Return how many bytes bands of frames may take; None: there is no bound.

    Parameters
    ----------
    plan, recipe, order : what is to be done.

    Raises
    ------
    ResourceError
        The bound holds not even the images and a row of all frames.
    """
    if order.memory is None:
        return None
    beside = needed_beside_bands(plan, recipe, order)
    for group in _groups(plan):
        needed = beside + group.least_memory
        if needed > order.memory:
            raise ResourceError(
                f"{_mib(needed)} MiB are needed for the program, the images and one row of "
                f"{group.size} of {group.title} a thread, but --memory allows "
                f"{order.memory / _MIB:.0f} MiB",
                keyword="memory",
                value=order.memory,
                hint=f"Give --memory {_mib(needed)}M or more.",
            )
    return order.memory - beside


def needed_beside_bands(plan: Plan, recipe: Recipe, order: Order) -> int:
    """Return how many bytes a night takes at most, but for its bands of frames."""
    n_frames = sum(len(group.inputs) for group in _groups(plan))
    program = _PROGRAM + order.figures * _FIGURES + n_frames * _OF_A_FRAME
    masters = sum(_MASTER * _pixels(group) for group in plan.to_settle)
    flats = sum(_FLAT * _pixels(flat.frames) for flat in plan.flats.values())
    made = (_TARGET * _pixels(group) for group in _groups(plan))
    worked_on = (_of_a_pixel(target) * _pixels(target.lights) for target in plan.targets)
    return program + masters + flats + max([*made, *worked_on], default=0)


def _of_a_pixel(target: Target) -> int:
    """Return how many bytes a pixel the images of a target take at most."""
    recipe = target.recipe
    return (
        _TARGET
        + len(target.lights.frames) // _OF_VALUES
        + _CLEANED * (not cleaning(recipe).is_plain)
        + _CALIBRATED * recipe.calibrated
        + _DIVIDED * (target.flat is not None)
        + _ELECTRONS * (recipe.units == "electron")
        + _DOUBLE * (recipe.output_dtype == "float64")
    )


def _groups(plan: Plan) -> list[Group]:
    """Return all groups whose frames are read in bands."""
    groups = [*plan.to_settle, *(flat.frames for flat in plan.flats.values())]
    for target in plan.targets:
        groups += [lights for lights in (target.lights, target.lamps) if lights is not None]
    return groups


def _pixels(group: Group) -> int:
    return math.prod(group.frames[0].shape)


def _mib(n_bytes: int) -> int:
    return -(-n_bytes // _MIB)
