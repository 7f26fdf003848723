"""Masters: many frames become one image that serves others: `make_master`, `make_flat`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from arrayred.config import Method
from arrayred.io.pixels import file_of
from arrayred.io.products import open_product
from arrayred.model import COUNTS, FRAME, VARIANCE
from arrayred.night import Flat, Group, Made
from arrayred.steps.calibrate import adapt_dark, combine_flats, flat_level, normalise_flat, with_bad
from arrayred.steps.combine import combine
from arrayred.steps.noise import drop_absurd, estimate_flat_noise, measure_noise
from arrayred.watching import stage

if TYPE_CHECKING:
    import xarray as xr
from arrayred.pipeline.elsewhere import told_as_ours
from arrayred.pipeline.images import calibrate
from arrayred.pipeline.progress import told
from arrayred.pipeline.reading import Reading, settle

_USUAL = Reading()


@told_as_ours()
def make_master(
    frames: Group,
    method: Method,
    reading: Reading = _USUAL,
    ready: Mapping[str, xr.Dataset] | None = None,
) -> xr.Dataset:
    """Return the settled master (y, x) of biases or of the darks of one exposure.

    Parameters
    ----------
    frames : the frames; or one that is a master already and is taken as it is; or what is made of
        other masters.
    method : how frames become one image.
    reading : how frames are read.
    ready : masters that are settled already, by key: what is made of them reads no frame again.
    """
    if isinstance(frames, Made):
        known = ready or {}
        dark, *others = (
            known[part.key] if part.key in known else make_master(part, method, reading)
            for part in frames.parts
        )
        bias = others[0] if others else None
        kept = {"has_bias": frames.has_bias, "keep_bias": frames.keep_bias}
        return adapt_dark(dark, bias, factor=frames.factor, **kept)
    cube = reading.open(frames)
    if frames.is_master:
        master = _with_number(settle(cube.isel({FRAME: 0})), frames)
    else:
        with stage("combine"), told(cube):
            master = measure_noise(settle(combine(drop_absurd(cube), method)), cube)
    return master.assign_attrs(kind=frames.kind)


def _with_number(master: xr.Dataset, frames: Group) -> xr.Dataset:
    """Return a ready master with the number of its frames, where its header tells it."""
    n_frames = frames.frames[0].image.header.readable("NCOMBINE")
    known = isinstance(n_frames, int) and n_frames > 0
    return master.assign_coords(n_frames=n_frames) if known else master


@told_as_ours()
def make_flat(
    flat: Flat, masters: Mapping[str, xr.Dataset], reading: Reading = _USUAL
) -> xr.Dataset:
    """Return the settled master flat (y, x), about 1, with `variance` and the coordinate `bad`.

    Its own noise is known where its frames are at hand, or its file tells it (UNCERT).

    Parameters
    ----------
    flat : its frames, or one that is a master already.
    masters : the darks and biases that it needs, by key.
    reading : how frames are read.
    """
    cube = reading.open(flat.frames)
    if flat.is_finished:
        return with_bad(_with_own_noise(settle(cube.isel({FRAME: 0})), flat.frames))
    darks = [None if group is None else masters[group.key] for group in flat.darks]
    singles = [calibrate(cube.isel({FRAME: [i]}), dark) for i, dark in enumerate(darks)]
    levels = [flat_level(settle(single.isel({FRAME: 0}))) for single in singles]
    image = settle(combine_flats(cube, levels, darks))
    if not flat.frames.is_master:
        image = estimate_flat_noise(image, cube, levels, darks)
    return normalise_flat(image).assign_attrs(kind="flat")


def _with_own_noise(master: xr.Dataset, frames: Group) -> xr.Dataset:
    """Return a master that arrayred made with the noise that its file tells, if it does."""
    image = frames.frames[0].image
    if image.packing != "plain":
        return master
    product = open_product(file_of(image))
    if VARIANCE not in product or product[VARIANCE].shape != master[COUNTS].shape:
        return master
    return master.assign({VARIANCE: product[VARIANCE].variable})
