"""What there is to look at: the groups of a night, or the products of one: `groups_of`.

A folder without raw frames is looked at for its products: masters, combined images, calibrated
frames. They are FITS images like any other and read in the same way.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from arrayred.config.recipe import RowRange
from arrayred.errors import ForeignFileError
from arrayred.io.frames import Frame
from arrayred.io.products import open_product
from arrayred.night import Group, Night

if TYPE_CHECKING:
    import xarray as xr

_COMBINED, _SPECTRUM, _CALIBRATED = "_combined", "_spectrum.fits", "calibrated"


class Made(NamedTuple):
    """A combined image that is a product, and the rows of the spectrum beside it, if they are."""

    image: xr.Dataset | None = None
    rows: RowRange | None = None


def groups_of(night: Night) -> dict[str, Group]:
    """Return the groups of a night under ``<type>/<name>``; of a folder of products, those."""
    if night.groups:
        lights_first = sorted(night.groups, key=lambda name: not name.startswith("light/"))
        return {name: night.groups[name] for name in lights_first}
    found: dict[str, list[Frame]] = defaultdict(list)
    for frame in night.scanned:
        if frame.is_own:
            found[_place_of(frame)].append(frame)
    in_order = sorted(found, key=lambda name: (not name.startswith("combined/"), name))
    return {name: Group(name.partition("/")[2], tuple(found[name])) for name in in_order}


def made_of(path: Path) -> Made:
    """Return the combined image of a file, with the rows of its spectrum; nothing of others."""
    name = path.stem
    if not name.endswith(_COMBINED):
        return Made()
    try:
        image = open_product(path)
    except ForeignFileError:
        return Made()
    beside = path.with_name(name.removesuffix(_COMBINED) + _SPECTRUM)
    if not beside.is_file():
        return Made(image)
    facts = open_product(beside).attrs
    return Made(image, (facts["first_row"], facts["last_row"]))


def _place_of(frame: Frame) -> str:
    """Return the group of a product: calibrated frames are one, any other stands by itself."""
    folder, name = frame.path.parent, frame.path.stem
    if folder.name == _CALIBRATED:
        return f"calibrated/{folder.parent.name}"
    if name.endswith(_COMBINED):
        return f"combined/{name.removesuffix(_COMBINED)}"
    return f"{frame.frame_type or 'product'}/{name}"
