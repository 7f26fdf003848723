"""What a master or a target depends on, as a key: `key_of_master`, `key_of_flat`, `key_of_target`.

A frame counts by its content and by what we understood of it: a night file or an instrument file
that changes the meaning of a header changes the key, one that does not leaves it. So do settings.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from arrayred.config import Recipe
from arrayred.errors import ArrayredError
from arrayred.io.frames import Frame
from arrayred.io.header import Value
from arrayred.io.ledger import Examined, key_of
from arrayred.night import Flat, Group, Made, Target

_MEANING = (
    "label",
    "frame_type",
    "exptime",
    "time",
    "ccd_temp",
    "gain",
    "read_noise",
    "saturation",
    "calstat",
    "state",
    "unit",
    "setup",
    "dispersion_axis",
    "sections",
)
_OF_MASTERS = ("dark_method", "overscan", "output_dtype")


def key_of_master(group: Group, recipe: Recipe, examined: Examined) -> str:
    """Return the key of a master dark or bias.

    Parameters
    ----------
    group : its frames, or what it is made of.
    recipe : some of its settings count.
    examined : the sha256 of each input, or what is wrong with it.
    """
    return _key({"frames": _group(group)}, _settings(recipe, _OF_MASTERS), [group], examined)


def key_of_flat(flat: Flat, recipe: Recipe, examined: Examined) -> str:
    """Return the key of a master flat."""
    roles = {"frames": _group(flat.frames), "darks": list(map(_group, flat.darks))}
    return _key(roles, _settings(recipe, _OF_MASTERS), [flat.frames, *flat.masters], examined)


def key_of_target(
    target: Target,
    examined: Examined,
    *,
    cards: Mapping[str, Value],
    dark_method: str,
    figures: bool,
) -> str:
    """Return the key of a target, its rows being settled.

    Parameters
    ----------
    target : as planned.
    examined : the sha256 of each input, or what is wrong with it.
    cards : that it is given.
    dark_method : how its masters are made.
    figures : whether a picture is drawn of it.
    """
    flat = target.flat
    roles = {
        "name": target.name,
        "lights": _group(target.lights),
        "master": _group(target.master),
        "lamps": _group(target.lamps),
        "lamp_master": _group(target.lamp_master),
        "flat": _group(flat.frames if flat else None),
        "flat_darks": [_group(group) for group in (flat.darks if flat else ())],
        "remarks": target.remarks,
    }
    settings = {
        **dataclasses.asdict(target.recipe),
        "dark_method": dark_method,
        "cards": dict(cards),
        "figures": figures,
        "mask": mask_content(target.recipe.bad_pixels),
    }
    groups = [target.lights, *target.masters, *(g for g in [target.lamps] if g)]
    groups += [flat.frames] if flat else []
    return _key(roles, settings, groups, examined)


def _key(
    roles: Mapping[str, Any],
    settings: Mapping[str, Any],
    groups: Iterable[Group],
    examined: Examined,
) -> str:
    frames = {frame.path: frame for group in groups for frame in group.inputs}
    content = sorted(f"{path.name} {_sha256(examined, path)}" for path in frames)
    numpy = ".".join(np.__version__.split(".")[:2])
    return key_of({"content": content}, {"roles": roles, "numpy": numpy, **settings})


def _settings(recipe: Recipe, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(recipe, name) for name in names}


def _sha256(examined: Examined, path: Path) -> str:
    """Return the sha256 of an input; of one that must not be used, why."""
    found = examined[path]
    return str(found) if isinstance(found, ArrayredError) else found


def _group(group: Group | None) -> Any:
    """Return what a group's frames mean."""
    if group is None:
        return None
    frames = [[frame.path.name, _meaning(frame)] for frame in group.inputs]
    if isinstance(group, Made):
        return [group.wanted, group.factor, group.has_bias, group.keep_bias, frames]
    return [group.master_name, group.is_master, frames]


def _meaning(frame: Frame) -> list[str]:
    pixels = repr(frame.image.source.pixels)
    return [pixels, *(repr(getattr(frame, name)) for name in _MEANING)]


def mask_content(bad_pixels: str) -> str:
    """Return the sha256 of a file of bad pixels; of what is no file, its name."""
    path = Path(bad_pixels)
    if not bad_pixels or not path.is_file():
        return bad_pixels
    return hashlib.sha256(path.read_bytes()).hexdigest()
