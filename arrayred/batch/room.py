"""How much of a bound on memory is left for bands of frames: `room_for_bands`.

The bound is that of the whole process, which is what whoever shares a machine asks for. What does
not shrink with the bands comes first: the program with its libraries, what is known of each frame,
the masters that wait for their targets, and the images of the one target that is worked on. The
rest goes to the bands, and where that holds no row, the plan refuses, rather than that the night
takes more than it may.

Bytes a pixel were counted, stage by stage, and held against what processes took: 400 frames of
2048 x 2048 peak at 481 MiB of 512, where they took 1658 when the bound was that of the bands.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from arrayred.errors import ResourceError
from arrayred.night import Group, Plan, Target
from arrayred.pipeline import cleaning

if TYPE_CHECKING:
    from arrayred.batch.orders import Order

_MIB = 1 << 20
_PROGRAM, _FIGURES = 160 << 20, 48 << 20
_OF_A_FRAME, _OF_VALUES = 24 << 10, 16
"""Bytes of what is known of a frame; of how many values of a target's frames one is for the list of
those that stand out, when bands are no longer worked on: 40 bytes each of the 0.15 % that cosmic
rays strike in 600 s."""
_MASTER, _FLAT = 8, 26
_TARGET, _CLEANED, _CALIBRATED, _DIVIDED, _ELECTRONS = 50, 24, 60, 20, 20
_DOUBLE, _DRAWN, _LATER = 16, 54, 12
"""Bytes a pixel, beside the bands: of masters that are kept, of a target, more where its best
estimate is made apart, single frames are written, it is divided, it is in electrons, written in
float64, or drawn; and of what comes when bands are no longer worked on."""

_MOST_BANDS = 128
"""More would cost more than they save: each opens all files."""


def room_for_bands(plan: Plan, order: Order) -> int | None:
    """Return how many bytes bands of frames may take; None: there is no bound.

    Parameters
    ----------
    plan, order : what is to be done.

    Raises
    ------
    ResourceError
        The limit holds not even the images and a row of all frames.
    UsageError
        The memory holds no row of all frames.
    """
    if order.limit is None:
        for group in _groups(plan):
            group.band_rows(order.memory, widened=widens(plan))
        return order.memory
    beside = needed_beside_bands(plan, order)
    needed = beside + max((_least(group, widens(plan)) for group in _groups(plan)), default=0)
    if needed > order.limit:
        raise ResourceError(
            f"The program, the images of a target and low bands of its frames need {_mib(needed)} "
            f"MiB, but --memory allows {order.limit / _MIB:.0f} MiB",
            keyword="memory",
            value=order.limit,
            hint=f"Give --memory {_mib(needed)}M or more.",
        )
    return order.limit - beside


def _least(group: Group, widened: bool) -> int:
    """Return how many bytes a group needs beside its images: for bands, or for what comes later."""
    n_rows = group.frames[0].shape[0]
    lowest = -(-n_rows // _MOST_BANDS) * group.least_memory(widened=widened)
    return max(lowest, _pixels(group) * max(len(group.frames) // _OF_VALUES, _LATER))


def widens(plan: Plan) -> bool:
    """Tell whether frames are clipped or scaled, so that bands are held in float64."""
    return not all(cleaning(target.recipe).is_plain for target in plan.targets)


def needed_beside_bands(plan: Plan, order: Order) -> int:
    """Return how many bytes a night takes at most, but for its bands of frames."""
    n_frames = sum(len(group.inputs) for group in _groups(plan))
    program = _PROGRAM + order.figures * _FIGURES + n_frames * _OF_A_FRAME
    masters = sum(_MASTER * _pixels(group) for group in plan.to_settle)
    flats = sum(_FLAT * _pixels(flat.frames) for flat in plan.flats.values())
    made = (_TARGET * _pixels(group) for group in _groups(plan))
    drawn = order.figures * _DRAWN
    worked_on = ((_of_a_pixel(one) + drawn) * _pixels(one.lights) for one in plan.targets)
    return program + masters + flats + max([*made, *worked_on], default=0)


def _of_a_pixel(target: Target) -> int:
    """Return how many bytes a pixel the images of a target take at most."""
    recipe = target.recipe
    return (
        _TARGET
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
