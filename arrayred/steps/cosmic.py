"""Leave out what cosmic rays brought: `flag_cosmic_rays`.

The frames of a target are compared with each other (`steps.comparison`). Of three frames one is
right about the other two; of two that differ the lower one is believed where that is asked for.

A single frame has but the sharp edges of hits to go by, which is what L.A.Cosmic does (van Dokkum
2001, PASP 113, 1420; `ccdproc.cosmicray_lacosmic`). It is not done unasked: of stars 2 rows wide it
takes 1 to 6 % of the core for hits where the comparison takes less than 0.1 %, of bright ones it
finds half as many, and importing it takes a second.

The procedure's image `counts` stays as it is, and with it the text tables; `clean` is the image of
which the spectrum is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import UsageError
from arrayred.kernels.cosmic import Noise, without
from arrayred.model import (
    CLEAN,
    CLEAN_METHOD,
    COSMIC_RAY,
    COUNTS,
    DQ,
    FRAME,
    METHOD,
    N_REJECTED,
    NO_DATA,
    VARIANCE,
    X,
    Y,
    check_cube,
    check_image,
    dq_attrs,
    note_history,
    remark,
    require_same_pixels,
)
from arrayred.steps.borrowed import ccdproc_for
from arrayred.steps.cells import Flags, Indices
from arrayred.steps.comparison import Pixels, Scene, compare_frames, pixels_of, scene_of
from arrayred.steps.floor import find_floor, find_gain
from arrayred.steps.hits import Hits

if TYPE_CHECKING:
    import xarray as xr

Search = Literal["auto", "compare", "lacosmic", "off"]
Values = NDArray[np.float64]
_Plane = tuple[tuple[str, str], NDArray[Any], dict[str, object]]

_FEWEST = 3
_N_SIGMA, _WITHOUT_GAIN = 5.0, 8.0
_SHARP, _CONTRAST = 5.0, 10.0


class FrameHits(NamedTuple):
    """What was left out of each frame.

    Parameters
    ----------
    frames : their labels.
    hits : the values, one by one.
    """

    frames: tuple[str, ...]
    hits: Hits

    def of(self, labels: Iterable[str]) -> tuple[Indices, Flags]:
        """Return the pixels that are left out of some frames, and of which (frame, pixel)."""
        frames = [self.frames.index(label) for label in labels]
        row = np.full(len(self.frames), -1)
        row[frames] = np.arange(len(frames))
        own = row[self.hits.frame] >= 0
        hits = Hits(row[self.hits.frame[own]], self.hits.where[own])
        where = np.unique(hits.where).astype(np.intp)
        return where, hits.flags(len(frames), where)


def flag_cosmic_rays(
    image: xr.Dataset,
    lights: xr.Dataset,
    *,
    minus: xr.Dataset | None = None,
    search: Search = "auto",
) -> xr.Dataset:
    """Give a combined image a best estimate without cosmic rays.

    Parameters
    ----------
    image : counts (y, x), settled, before any flat; `variance` and `dq` where it has them, and
        `clean`, where that is another image already.
    lights : the frames it was made of, counts (frame, y, x), eager or chunked.
    minus : the master (y, x) that was subtracted.
    search : "compare" the frames, two at least; "lacosmic", each by itself; "auto" compares three
        or more unless they were clipped already (`n_rejected`); "off".

    Returns
    -------
    image : where anything was found, with `clean` (y, x), float64, in which the other frames stand
        in for it, NaN where there is none; `n_rejected` (y, x), uint8, how many frames are left
        out; `dq` with the bit cosmic_ray, and no_data where no frame is left; `variance` of what is
        left. `counts` is as it was. The history says what was found.

    Raises
    ------
    UsageError
        There is no such search, or ccdproc is not installed, which L.A.Cosmic needs.
    MismatchError
        `minus` does not hold the same pixels.

    Examples
    --------
    >>> from arrayred.simulate import SimulatedNight
    >>> from arrayred.steps.combine import combine
    >>> import xarray as xr
    >>> frames = [f.pixels for f in SimulatedNight(n_darks=0, n_lights=3).frames()]
    >>> frames[1][40, 100] += 500
    >>> labels = {"y": np.arange(1, 257), "x": np.arange(1, 385), "gain": 1.5}
    >>> lights = xr.Dataset({"counts": (("frame", "y", "x"), np.stack(frames))}, labels)
    >>> image = flag_cosmic_rays(combine(lights), lights)
    >>> int(image.n_rejected[40, 100]), bool(image.clean[40, 100] < image.counts[40, 100] - 100)
    (1, True)
    """
    return find_cosmic_rays(image, lights, minus=minus, search=search)[0]


def find_cosmic_rays(
    image: xr.Dataset,
    lights: xr.Dataset,
    *,
    minus: xr.Dataset | None = None,
    search: Search = "auto",
) -> tuple[xr.Dataset, FrameHits | None]:
    """Return the image of `flag_cosmic_rays`, and which pixels of which frame it leaves out.

    Parameters, errors : as there. None: nothing was searched or found.
    """
    check_image(image)
    check_cube(lights)
    if search not in ("auto", "compare", "lacosmic", "off"):
        raise UsageError(
            f"Cosmic rays cannot be searched by {search!r}",
            keyword="cosmic_rays",
            value=search,
            hint="Take auto, compare, lacosmic or off.",
        )
    if not _wanted(search, image, lights.sizes[FRAME]):
        alone = search == "compare" and lights.sizes[FRAME] < 2
        why = "cosmic rays were not searched: a frame by itself has nothing to be compared with"
        return remark(image, why) if alone else image, None
    if minus is not None:
        require_same_pixels(image, minus)
    gain, _ = find_gain(image, lights, minus)
    floor = find_floor(image, lights, minus, gain)
    if floor is None:
        return note_history(image, "cosmic rays not searched: nothing tells the noise"), None
    noise = Noise(floor.variance, floor.level, 0.0 if gain is None else 1.0 / gain)
    scene = scene_of(image, lights, minus, noise)
    hits, told = (_sharp if search == "lacosmic" else _compared)(scene)
    image = _left_out(scene, hits, told)
    frames = tuple(map(str, lights[FRAME].values))
    return image, FrameHits(frames, hits) if hits.where.size else None


def _wanted(search: Search, image: xr.Dataset, n_frames: int) -> bool:
    """Tell whether to look; unasked not at frames that were clipped already."""
    if search == "auto":
        return n_frames >= _FEWEST and N_REJECTED not in image
    return search != "off" and n_frames >= (2 if search == "compare" else 1)


def _compared(scene: Scene) -> tuple[Hits, str]:
    """Return what stands out of the other frames; without a gain, what does so by far."""
    known = scene.noise.per_photon > 0
    n_sigma = _N_SIGMA if known else _WITHOUT_GAIN
    told = f"flagged by comparison at {n_sigma:g} sigma"
    hits = compare_frames(scene, n_sigma)
    return hits, told if known else f"{told}, the gain being unknown"


def _sharp(scene: Scene) -> tuple[Hits, str]:
    """Return what has sharp edges in its own frame."""
    found = [np.flatnonzero(_lacosmic(scene, i)) for i in range(scene.lights.sizes[FRAME])]
    frame = np.repeat(np.arange(len(found)), [where.size for where in found])
    hits = Hits.of(frame, np.concatenate(found))
    return hits, "flagged by their sharp edges (L.A.Cosmic)"


def _lacosmic(scene: Scene, i: int) -> Flags:
    """Return what L.A.Cosmic finds in a frame, in electrons.

    Its contrast to fine structure, 10 where 5 is usual, spares a quarter of what it takes of narrow
    stars; it finds as much off the star, and up to a fifth less on it.
    """
    ccdproc = ccdproc_for("L.A.Cosmic")
    frame = scene.lights[COUNTS].isel({FRAME: i}).values.astype(np.float64)
    if scene.dark is not None:
        frame -= scene.dark
    gain = 1.0 / scene.noise.per_photon if scene.noise.per_photon else 1.0
    _, mask = ccdproc.cosmicray_lacosmic(
        np.nan_to_num(frame) * gain,
        sigclip=_SHARP,
        objlim=_CONTRAST,
        readnoise=float(np.sqrt(scene.noise.floor)) * gain,
        satlevel=np.inf,
        gain_apply=False,
    )
    return np.asarray(mask, np.bool_) & np.isfinite(frame)


def _left_out(scene: Scene, hits: Hits, told: str) -> xr.Dataset:
    """Return the image with what it is without the hits."""
    image, where = scene.image, np.unique(hits.where).astype(np.intp)
    n = scene.lights.sizes[FRAME]
    n_frames = f"{n} frame{'s' * (n > 1)}"
    n_pixels = f"{where.size} pixel{'s' * (where.size != 1)}"
    image = note_history(image, f"cosmic rays: {n_pixels} in {n_frames} {told}")
    if not where.size:
        return image
    planes = {
        CLEAN: _clean(image),
        N_REJECTED: _n_rejected(image),
        DQ: _flags(image),
    }
    if VARIANCE in image:
        planes[VARIANCE] = _variance(image)
    for pixels in pixels_of(scene, where):
        _leave_out(scene, pixels, hits.flags(n, pixels.where), planes)
    return image.assign(planes).assign_coords({CLEAN_METHOD: _method(image)})


def _leave_out(scene: Scene, pixels: Pixels, flagged: Flags, planes: Mapping[str, _Plane]) -> None:
    """Give some pixels of the planes what they are without the hits."""
    values = without(pixels.values, pixels.sky, pixels.scale, flagged)
    if VARIANCE in planes:
        change = _change(scene, pixels, flagged, values)
        planes[VARIANCE][1].flat[pixels.where] += change
    planes[CLEAN][1].flat[pixels.where] = values
    n_flagged = np.minimum(np.count_nonzero(flagged, axis=0), 255).astype(np.uint8)
    rejected = planes[N_REJECTED][1].flat
    rejected[pixels.where] = np.maximum(rejected[pixels.where], n_flagged)
    bits = np.where(np.isnan(values), COSMIC_RAY | NO_DATA, COSMIC_RAY).astype(np.uint8)
    planes[DQ][1].flat[pixels.where] |= bits


def _method(image: xr.Dataset) -> str:
    """Return how the best estimate without cosmic rays was made, as far as that is known."""
    known = [str(image[name].item()) for name in (CLEAN_METHOD, METHOD) if name in image.coords]
    return ", ".join([*known[:1], "cosmic rays left out"])


def _plane(image: xr.Dataset, name: str, base: str, attrs: dict[str, object]) -> _Plane:
    """Return a copy of a plane of the image, or of another where it has none of this name."""
    known = image[name] if name in image else image[base]
    return (Y, X), known.values.copy(), dict(known.attrs) if name in image else attrs


def _clean(image: xr.Dataset) -> _Plane:
    """Return a copy of the best estimate (y, x) so far."""
    told = {**image[COUNTS].attrs, "long_name": "best estimate of the pixel values"}
    return _plane(image, CLEAN, COUNTS, told)


def _n_rejected(image: xr.Dataset) -> _Plane:
    """Return a copy of how many frames are left out of each pixel (y, x)."""
    attrs: dict[str, object] = {"units": "", "long_name": "frames left out of a pixel"}
    plane = np.zeros(image[COUNTS].shape, np.uint8)
    if N_REJECTED in image:
        plane[:] = image[N_REJECTED].values
    return (Y, X), plane, attrs


def _flags(image: xr.Dataset) -> _Plane:
    """Return a copy of the flags of the pixels (y, x)."""
    attrs = dict(image[DQ].attrs) if DQ in image else dq_attrs("flags of a pixel")
    plane = np.zeros(image[COUNTS].shape, np.uint8)
    if DQ in image:
        plane[:] = image[DQ].values
    return (Y, X), plane, attrs


def _variance(image: xr.Dataset) -> _Plane:
    """Return a copy of the variance (y, x)."""
    return (Y, X), image[VARIANCE].values.copy(), dict(image[VARIANCE].attrs)


def _change(scene: Scene, pixels: Pixels, flagged: Flags, values: Values) -> Values:
    """Return by how much the variance of pixels grows: that of the frames, and the light, left.

    What the dark adds is common to all frames and stays. The variance of the combination in terms
    of a frame's is read from the effective gain where there is one.
    """
    image, noise, n_frames = scene.image, scene.noise, len(flagged)
    share = 1.0 / n_frames
    if "gain_effective" in image.attrs and noise.per_photon:
        share = 1.0 / (noise.per_photon * image.attrs["gain_effective"])
    counts = image[CLEAN if CLEAN in image else COUNTS].values.flat[pixels.where]
    n_there = np.count_nonzero(~np.isnan(pixels.values), axis=0)
    n_left = n_there - np.count_nonzero(flagged & ~np.isnan(pixels.values), axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        after = noise.variance(values) * (n_there / n_left)
    change = (after - noise.variance(counts)) * (share * n_frames / n_there)
    return np.where(np.isfinite(change), change, np.nan)
