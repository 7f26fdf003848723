"""The variance of a combined image: `estimate_noise`, and of masters: `measure_noise`.

Calibration is linear and the same for all frames of a target, so the variance is made once, for the
combined image, and not carried along the cube::

    of a frame    v = r^2 + (max(light - level, 0) + hot) / gain
    combined      k(n)/n v + k(m)/m (r_dark^2 + hot / gain)

r is the noise of a pixel without light, `light` what is left when the master is subtracted, `hot`
what the master holds above its own median, k the factor of a median (`kernels.noise`). The master's
own noise is common to all n frames and comes once, after the combination: on the night that taught
this the sky scatters by 11.2 counts, 9.2 if it is taken for independent.

`steps.floor` tells where r comes from; `level` is the light that r holds already. A flat divides
the combined image last, and its variance by its square; the flat's own noise, common to all frames
as well (`steps.flat_noise`), is added then, once.

Where the image has a best estimate of its own, `clean`, the variance is that one's, with its share
of the frames' (`steps.share`) in place of k(n)/n; a pixel that lost frames has those that are left.

The estimate follows the count it belongs to, so low counts are thought a little too certain: means
weighted by it come out low by half a sigma divided by the noise in electrons, 0.01 sigma at 50.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.flat import quotient_variance
from arrayred.kernels.noise import finite_median, frame_variance, light_variance
from arrayred.model import (
    CLEAN,
    COUNTS,
    DQ,
    FRAME,
    N_REJECTED,
    NO_DATA,
    VARIANCE,
    X,
    Y,
    check_cube,
    check_image,
    note_history,
    require_same_pixels,
)
from arrayred.steps.floor import Floor, find_floor, find_gain, kind_of_master
from arrayred.steps.sample import pixels_at, sample_of
from arrayred.steps.share import Share
from arrayred.steps.share import share_of as share_of

if TYPE_CHECKING:
    import xarray as xr

_HOT = 5.0
"""How many sigma of the master a pixel must stand out to be hot: its own noise is no light."""


Indices = NDArray[np.intp]
Values = NDArray[np.float64]


class OfMaster(NamedTuple):
    """What the master adds: its share of the variance of one of its frames, and hot pixels.

    Parameters
    ----------
    share : of the variance of a frame; 0 where it is unknown or there is no master.
    variance : of a pixel of one of its frames without light, adu^2.
    where, charge : flat indices of the hot pixels, and what they hold above the rest, adu.
    note : what is to be said of it.
    """

    share: float
    variance: float
    where: Indices
    charge: Values
    note: str = ""


class _Scale(NamedTuple):
    """What a combination makes of a frame's variance, and the gain, electrons per count or None."""

    share: Share
    gain: float | None

    @property
    def per_photon(self) -> float:
        """Return counts per electron; 0 where photon noise is left out."""
        return 0.0 if self.gain is None else 1.0 / self.gain


def measure_noise(master: xr.Dataset, cube: xr.Dataset) -> xr.Dataset:
    """Note on a master how much a pixel of the frames that made it scatters.

    Parameters
    ----------
    master : settled (y, x).
    cube : its frames, counts (frame, y, x) in adu or electron; some rows of them are looked at.

    Returns
    -------
    master : with the coordinate `frame_type`, and the attribute `noise`, standard deviation in the
        master's unit, unless there is but one frame.
    """
    check_cube(cube)
    kinds = set(np.atleast_1d(cube["frame_type"].values)) if "frame_type" in cube.coords else set()
    if len(kinds) == 1:
        master = master.assign_coords(frame_type=str(kinds.pop()))
    if cube.sizes[FRAME] < 2:
        return master
    return master.assign_attrs(noise=math.sqrt(frame_variance(sample_of(cube))))


def estimate_noise(
    image: xr.Dataset,
    lights: xr.Dataset,
    *,
    minus: xr.Dataset | None = None,
    flat: xr.Dataset | None = None,
) -> xr.Dataset:
    """Give a combined image the variance of its pixels.

    Parameters
    ----------
    image : counts (y, x), settled, of `combine`, perhaps with the `clean` of `add_clean`; its
        coordinates `gain` (electron/adu) and `read_noise` (electron) are believed.
    lights : the frames it was made of, counts (frame, y, x), eager or chunked; looked at only where
        the master does not tell their noise.
    minus : the master (y, x) that was subtracted, of `measure_noise`.
    flat : the response (y, x) by which the combined image was divided afterwards; where it has a
        `variance` of its own, that counts.

    Returns
    -------
    image : with `variance` (y, x), float32, in the square of its unit. Without it where nothing
        tells the noise; the history says so, and what was used otherwise. Where some frames lack
        a pixel (`dq`), or were left out of it (`n_rejected`), the rest of them counts.

    Raises
    ------
    UsageError
        The noise of frames that were combined in this way is not known.
    """
    check_image(image)
    if minus is not None:
        require_same_pixels(image, minus)
    share = _share_of(image)
    kept = {name: told for name, told in image.attrs.items() if name != "clean_share"}
    image = image.drop_attrs(deep=False).assign_attrs(kept)
    undivided = image if flat is None else _undone(image, flat)
    gain, gain_by = find_gain(undivided, lights, minus)
    floor = find_floor(undivided, lights, minus, gain)
    if floor is None:
        return note_history(image, "variance unknown: nothing tells the noise of a frame")
    master = part_of_master(minus, floor)
    variance = _variance(undivided, lights, floor, master, _Scale(share, gain))
    if flat is not None:
        of_flat = flat[VARIANCE].values if VARIANCE in flat else None
        variance = quotient_variance(variance, _best(image), flat[COUNTS].values, of_flat)
    units = image[COUNTS].attrs.get("units", "adu")
    attrs = {"units": f"{units}2", "long_name": "variance of a pixel"}
    sigma = f"noise of a pixel without light {math.sqrt(floor.variance):.4g} {units} a frame"
    line = f"variance: {sigma}, {floor.told_by}; gain {gain_by}{master.note}"
    image = note_history(image.assign({VARIANCE: ((Y, X), variance, attrs)}), line)
    return image.assign_attrs(_effective(floor, gain, share))


def _undone(image: xr.Dataset, flat: xr.Dataset) -> xr.Dataset:
    """Return an image as it was before it was divided by a flat."""
    response = flat[COUNTS].values
    names = [name for name in (COUNTS, CLEAN) if name in image]
    return image.assign(
        {name: image[name].copy(data=image[name].values * response) for name in names}
    )


def _share_of(image: xr.Dataset) -> Share:
    """Return what the combination of an image, or of its best estimate, makes of the variance."""
    if "clean_share" in image.attrs:
        return Share(*image.attrs["clean_share"])
    left_out = image.attrs.get("left_out", (0, 0))
    return Share.of_equal(image["method"].item(), int(image["n_frames"].item()), left_out)


def _best(image: xr.Dataset) -> NDArray[np.float64]:
    """Return the pixels (y, x) whose variance is wanted."""
    return np.asarray(image[CLEAN if CLEAN in image else COUNTS].values)


def _variance(
    image: xr.Dataset, lights: xr.Dataset, floor: Floor, master: OfMaster, scale: _Scale
) -> NDArray[np.float32]:
    """Return the variance of a combined image (y, x)."""
    share, per_photon = scale.share, scale.per_photon
    common = share.common * master.share
    of_master = common * master.variance
    variance = light_variance(
        _best(image),
        floor.level,
        share.photons * per_photon,
        share.floor * floor.variance + of_master,
    )
    hot = master.charge * per_photon
    variance.flat[master.where] += (share.floor + common) * hot
    for where, growth in _lacking(image, lights, share):
        rest = of_master + _at(where, master.where, common * hot)
        variance.flat[where] = (variance.flat[where] - rest) * growth + rest
    return variance


def part_of_master(minus: xr.Dataset | None, floor: Floor) -> OfMaster:
    """Return what a master adds; that of a bias has a pattern, but no charge."""
    nowhere, nothing = np.empty(0, np.intp), np.empty(0, np.float64)
    if minus is None:
        return OfMaster(0.0, 0.0, nowhere, nothing)
    variance, share = minus.attrs.get("noise", math.sqrt(floor.variance)) ** 2, 0.0
    note = "; the master's own noise is unknown and left out"
    if "n_frames" in minus.coords:
        method = minus["method"].item() if "method" in minus.coords else "median"
        left_out = minus.attrs.get("left_out", (0, 0))
        share, note = share_of(method, int(minus["n_frames"].item()), left_out), ""
    if kind_of_master(minus) == "bias":
        return OfMaster(share, variance, nowhere, nothing, note)
    counts, level = minus[COUNTS].values, finite_median(sample_of(minus))
    where = np.flatnonzero(counts > level + _HOT * math.sqrt(variance * (share or 1.0)))
    return OfMaster(share, variance, where, counts.flat[where] - level, note)


def _lacking(
    image: xr.Dataset, lights: xr.Dataset, share: Share
) -> Iterator[tuple[Indices, Values]]:
    """Yield the pixels that lack frames, with the growth of the variance there; or nothing."""
    n_frames = lights.sizes[FRAME]
    growth = np.array(share.of_fewer(n_frames))
    rejected = image[N_REJECTED].values if N_REJECTED in image else None
    if rejected is not None:
        where = np.flatnonzero(rejected)
        yield where, growth[np.maximum(n_frames - rejected.flat[where].astype(np.intp), 1)]
    if DQ not in image or lights[COUNTS].dtype.kind != "f":
        return
    where = np.flatnonzero(image[DQ].values & NO_DATA)
    if where.size:
        left = np.count_nonzero(~np.isnan(pixels_at(lights, where)), axis=0)
        if rejected is None:
            yield where, growth[left]
            return
        lost = rejected.flat[where].astype(np.intp)
        yield where, growth[left - lost] / growth[n_frames - lost]


def _at(where: Indices, places: Indices, values: Values) -> Values:
    """Return the values that stand at some places, as seen from others; 0 where none does."""
    position = np.minimum(np.searchsorted(places, where), max(places.size - 1, 0))
    if not places.size:
        return np.zeros(where.size)
    return np.where(places[position] == where, values[position], 0.0)


def _effective(floor: Floor, gain: float | None, share: Share) -> dict[str, float]:
    """Return what gain and noise a single frame would have to have, where they are known.

    And the light that the noise holds already, where there is such.
    """
    if gain is None:
        return {}
    noise = math.sqrt(floor.variance * share.floor) * gain
    level = {"noise_level": floor.level} if floor.level and math.isfinite(floor.level) else {}
    return {"gain_effective": gain / share.photons, "noise_effective": noise, **level}
