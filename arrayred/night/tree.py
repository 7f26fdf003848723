"""A night's pixels under the names of its groups: `raw_groups`, `tree_of`, `cube_at`.

``/raw/<type>/<group>`` is the cube of one group: lights under the names that the plan gives their
targets, darks under their exposures, everything else by what it shows. Frames that are not one
array (other shapes, settings or units) are groups of their own by the rules of `night.groups`, and
what repeats another frame is left out, so that every cube can be combined as it stands. Masters
that came with the frames are cubes of one frame under ``/masters/<type>/<group>``. Nothing is read
before it is asked for, compressed frames included.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING

from arrayred.io.cube import cube_of
from arrayred.io.frames import Frame
from arrayred.model import FRAME_TYPES, Chunks
from arrayred.night.flats import flats_of
from arrayred.night.group import Group
from arrayred.night.groups import biases_of, darks_of, lights_of
from arrayred.night.records import Night

if TYPE_CHECKING:
    import xarray as xr


def raw_groups(night: Night) -> dict[str, Group]:
    """Return the groups of a night's frames under ``<type>/<group>``, in the order of the types.

    Raises
    ------
    UsageError
        The night file says something of targets that cannot be.
    """
    by_type: dict[str, list[Frame]] = defaultdict(list)
    for frame in night.frames:
        if frame.label not in night.duplicates:
            by_type[frame.frame_type or "unknown"].append(frame)
    grouped: dict[str, Callable[[list[Frame]], list[Group]]] = {
        "bias": biases_of,
        "dark": darks_of,
        "flat": flats_of,
        "light": lambda lights: lights_of(lights, night.file.targets, by_type["arc"]),
    }
    return {
        f"{kind}/{group.name}": group
        for kind in (*FRAME_TYPES, "unknown")
        if kind in by_type
        for group in grouped.get(kind, lights_of)(by_type[kind])
    }


def tree_of(groups: Mapping[str, Group], chunks: Chunks = "auto") -> xr.DataTree:
    """Return lazy cubes (frame, y, x) of groups as a tree, each under ``/raw/<type>/<group>``.

    Parameters
    ----------
    groups : what `raw_groups` returned.
    chunks : rows of a dask chunk; "auto": as many as fit into 64 MB.
    """
    import xarray as xr

    cubes = {
        f"/{'masters' if group.is_master else 'raw'}/{name}": cube_of(group.frames, chunks)
        for name, group in groups.items()
    }
    return xr.DataTree.from_dict(cubes)


def cube_at(groups: Mapping[str, Group], name: str, chunks: Chunks = "auto") -> xr.Dataset:
    """Return the lazy cube (frame, y, x) of the group under ``<type>/<group>``.

    Raises
    ------
    KeyError
        There is no such group; the error names what there is.
    """
    if name not in groups:
        near = get_close_matches(name, groups, n=3, cutoff=0.3) or list(groups)[:3]
        meant = ", ".join(map(repr, near)) or "none"
        raise KeyError(f"The night has no group {name!r}; there is {meant}")
    return cube_of(groups[name].frames, chunks)
