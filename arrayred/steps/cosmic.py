"""Detect cosmic rays by comparing the frames of a target, or with L.A.Cosmic.

The frames of a target are compared with each other (`compare_frames`). With three frames the
outlier is identified by the other two; with two that differ the lower value is used.

In a single frame only the sharp edges of hits identify them, which is what L.A.Cosmic uses (van
Dokkum 2001, PASP 113, 1420; `ccdproc.cosmicray_lacosmic`). It is not the default: for stars 2 rows
wide it flags 1 to 6 % of the core as hits where the comparison flags less than 0.1 %, on bright
ones it finds half as many, and importing it takes a second.

The procedure's image `counts`, and with it the text tables, is unchanged; `clean` is the image from
which the spectrum is extracted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import UsageError
from arrayred.kernels import reject as kernel
from arrayred.kernels.combine import mean_of_strip, median
from arrayred.kernels.noise import PixelNoise, finite_median, finite_medians
from arrayred.kernels.reject import FrameOutliers, PixelOutliers, mean_without
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
    REPAIRED,
    SPOILT,
    VARIANCE,
    X,
    Y,
    add_check,
    add_history,
    check_image,
    dq_attrs,
    is_upright,
    string_coord,
    with_pixels_of,
)
from arrayred.steps.noise import (
    MasterNoise,
    find_gain,
    find_read_noise,
    master_noise,
    pixels_at,
    sample_pixels,
)

if TYPE_CHECKING:
    import xarray as xr

Search = Literal["auto", "compare", "lacosmic", "off"]
Values = NDArray[np.float64]
Real = TypeVar("Real", bound=np.floating[Any])
_Plane = tuple[tuple[str, str], NDArray[Any], dict[str, object]]

_MIN_FRAMES = 2
_N_SIGMA, _LESS_CERTAIN = 5.0, 8.0
_HIT_COLUMN_SIGMA = 3.0
"""Standard deviations above the mean of the frames beyond which the flux of their average holds a
cosmic ray: without one the two differ by 0.3."""
_SHARP, _CONTRAST = 5.0, 10.0


def moved_outliers(
    outliers: FrameOutliers, shifts: NDArray[np.intp], grid: TileGrid
) -> FrameOutliers:
    """Return rejected values at the pixels from which frames were moved.

    Parameters
    ----------
    outliers : in frames as they were moved.
    shifts : (frame, 2), by which frames were moved back across and along the dispersion.
    grid : tiles of the image.
    """
    frame = outliers.outliers.frame.astype(np.intp)
    y, x = np.divmod(outliers.outliers.where.astype(np.intp), grid.shape[1])
    across, along = shifts[frame].T
    y, x = (y + along, x + across) if grid.upright else (y + across, x + along)
    inside = (y >= 0) & (y < grid.shape[0]) & (x >= 0) & (x < grid.shape[1])
    where = (y * grid.shape[1] + x)[inside]
    return FrameOutliers(outliers.frames, PixelOutliers.of(frame[inside], where))


def flag_cosmic_rays(
    image: xr.Dataset,
    lights: xr.Dataset,
    *,
    minus: xr.Dataset | None = None,
    search: Search = "auto",
) -> xr.Dataset:
    """Add a best estimate without cosmic rays to a combined image.

    Parameters
    ----------
    image : counts (y, x), computed, not flat-fielded; `variance`, `dq` and `clean`, where it has
        them.
    lights : its light frames, counts (frame, y, x), eager or chunked.
    minus : the master (y, x) that was subtracted.
    search : "compare" the frames, two at least; "lacosmic", each by itself; "auto" compares two
        or more unless they were clipped already (`n_rejected`); "off".

    Returns
    -------
    image : where hits were found, with `clean` (y, x), float64, from the remaining frames, NaN
        where there is none; `n_rejected` (y, x), uint8, the number of rejected frames; `dq` with
        the bit repaired, and cosmic_ray and no_data where no frame remains; `variance`
        of the remaining frames. `counts` is unchanged. HISTORY records the number of pixels.

    Raises
    ------
    UsageError
        The search is unknown.
    MismatchError
        `minus` or the lights lack pixels of the image.

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
    noise: PixelNoise | None = None,
) -> tuple[xr.Dataset, FrameOutliers | None]:
    """Return the image of `flag_cosmic_rays`, and the values rejected from each frame.

    Parameters and errors are those of `flag_cosmic_rays`; `noise` is that of a frame, measured
    where it is not given. None: nothing was searched or found.
    """
    check_image(image)
    lights = with_pixels_of(image, lights, (FRAME, Y, X))
    minus = None if minus is None else with_pixels_of(image, minus)
    if search not in ("auto", "compare", "lacosmic", "off"):
        raise UsageError(
            f"Cosmic rays cannot be detected by {search!r}",
            keyword="cosmic_rays",
            value=search,
            hint="Use auto, compare, lacosmic or off.",
        )
    if not _is_search_wanted(search, image, lights.sizes[FRAME]):
        if search == "auto" and lights.sizes[FRAME] == 1:
            line = "cosmic rays: one frame, detected by the profile of the spectrum alone"
            return add_history(image, line), None
        alone = search == "compare" and lights.sizes[FRAME] < 2
        why = "cosmic rays not detected: a single frame cannot be compared with others"
        return add_check(image, why) if alone else image, None
    if noise is None:
        gain, _ = find_gain(image, lights, minus)
        floor = find_read_noise(image, lights, minus, gain)
        if floor is None:
            return add_history(image, "cosmic rays not detected: the noise is not known"), None
        noise = floor.of_pixel(gain)
    scene = comparison_input(image, lights, minus, noise)
    found, told = (_lacosmic_outliers if search == "lacosmic" else _compared_outliers)(scene)
    image, outliers = _without_outliers(scene, found, told), found.outliers
    frames = tuple(map(str, lights[FRAME].values))
    return image, FrameOutliers(frames, outliers) if outliers.where.size else None


def without_hits(image: xr.Dataset, where: Indices, struck: Flags) -> xr.Dataset:
    """Return the image (y, x) of one frame without its cosmic rays: NaN there, and flagged.

    Parameters
    ----------
    image : counts (y, x), computed, with `dq` where known.
    where, struck : pixels and their flags (frame, pixel), of `FrameOutliers.of` for this frame.
    """
    own = where[struck[0]]
    counts, flags = image[COUNTS].values.copy(), _flag_plane(image)
    counts.flat[own] = np.nan
    flags[1].flat[own] |= np.uint8(COSMIC_RAY)
    return image.assign({COUNTS: image[COUNTS].copy(data=counts), DQ: flags})


def replace_hit_columns(spectrum: xr.Dataset, frames: xr.Dataset) -> xr.Dataset:
    """Return a spectrum with the mean flux of its frames where cosmic rays are left in their image.

    The spectra of the frames are compared like their pixels (`kernels.reject.compare_tiles`), with
    one slow scale along all of a spectrum, and the values that are too high are left out.

    Parameters
    ----------
    spectrum : `flux`, `variance` and `dq` (x), of the average of the frames.
    frames : `flux`, `variance` and `dq` (frame, x), two frames at least; values with
        a flag are not used.

    Returns
    -------
    spectrum : where the flux without a flag is more than 3 standard deviations above the mean of
        the frames it is replaced, and flagged as repaired; HISTORY tells the number of columns.

    Examples
    --------
    >>> import xarray as xr
    >>> flux = np.full((3, 50), 900.0)
    >>> flux[1, 20] = 2400.0
    >>> names = ("flux", "variance", "dq")
    >>> planes = (flux, np.full((3, 50), 900.0), np.zeros((3, 50), np.uint8))
    >>> frames = xr.Dataset({name: (("frame", "x"), a) for name, a in zip(names, planes)})
    >>> average = frames.mean("frame").assign(dq=frames.dq[0])
    >>> found = replace_hit_columns(average, frames)
    >>> [round(float(found[name][20]), 1) for name in names]
    [900.0, 1350.0, 16.0]
    """
    values = frames["flux"].values
    there = np.isfinite(values) & (frames[DQ].values & SPOILT == 0)
    values, variance = np.where(there, values, np.nan), np.where(there, frames[VARIANCE], np.inf)
    nothing = np.zeros_like(values)
    compared = kernel.compare_tiles(
        values[:, np.newaxis],
        nothing[:, np.newaxis],
        PixelNoise(0.0, 0.0, 0.0),
        variance[:, np.newaxis],
    )
    hit = compared.excess[:, 0] > _threshold(len(values))
    mean = mean_without(values, nothing, compared.scale[:, 0], hit)
    flux, flags = spectrum["flux"].values.copy(), spectrum[DQ].values.copy()
    sound = (flags & ~np.uint8(REPAIRED) == 0) & np.isfinite(mean) & np.isfinite(flux)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean *= finite_median((flux / mean)[sound & (mean > 0)])
    noise = spectrum[VARIANCE].values.copy()
    high = sound & (flux - mean > _HIT_COLUMN_SIGMA * np.sqrt(noise))
    if not high.any():
        return spectrum
    n_there = np.count_nonzero(there, axis=0)
    n_left = np.count_nonzero(there & ~hit, axis=0)
    flux[high], flags[high] = mean[high], flags[high] | np.uint8(REPAIRED)
    noise[high] *= (n_there / np.maximum(n_left, 1))[high]
    planes = {"flux": flux, VARIANCE: noise, DQ: flags}
    spectrum = spectrum.assign(
        {name: spectrum[name].copy(data=plane) for name, plane in planes.items()}
    )
    n = int(np.count_nonzero(high))
    what = "1 column is" if n == 1 else f"{n} columns are"
    return add_history(
        spectrum, f"cosmic rays: the flux of {what} the mean of the spectra of single frames"
    )


def _is_search_wanted(search: Search, image: xr.Dataset, n_frames: int) -> bool:
    """Return whether to search; "auto" skips frames that were clipped already."""
    if search == "auto":
        return n_frames >= _MIN_FRAMES and N_REJECTED not in image
    return search != "off" and n_frames >= (2 if search == "compare" else 1)


def _threshold(n_frames: int, is_gain_known: bool = True) -> float:
    """Return the excess from which on a value is a hit: 5 sigma; 8 where the gain is unknown.

    8 of two frames too: the lower of two values is lower by the noise of both.
    """
    return _N_SIGMA if is_gain_known and n_frames > 2 else _LESS_CERTAIN


def _compared_outliers(scene: ComparisonInput) -> tuple[FrameComparison, str]:
    """Return the values above the other frames."""
    known = scene.noise.per_photon > 0
    n_sigma = _threshold(scene.lights.sizes[FRAME], known)
    told = f"flagged by comparison at {n_sigma:g} sigma"
    found = compare_frames(scene, n_sigma)
    return found, told if known else f"{told}, gain unknown"


def _lacosmic_outliers(scene: ComparisonInput) -> tuple[FrameComparison, str]:
    """Return the pixels with sharp edges in each frame."""
    found = [np.flatnonzero(_lacosmic_mask(scene, i)) for i in range(scene.lights.sizes[FRAME])]
    frame = np.repeat(np.arange(len(found)), [where.size for where in found])
    outliers = PixelOutliers.of(frame, np.concatenate(found))
    return FrameComparison(outliers), "flagged by their sharp edges (L.A.Cosmic)"


def _lacosmic_mask(scene: ComparisonInput, i: int) -> Flags:
    """Return the pixels (y, x) that L.A.Cosmic, working in electrons, flags in a frame.

    Its contrast to fine structure, 10 where 5 is usual, spares a quarter of the pixels that it
    flags on narrow stars; it finds as many hits off the star, and up to a fifth fewer on it.
    """
    import ccdproc  # takes a second, which few reductions need

    frame = scene.lights[COUNTS].isel({FRAME: i}).values - scene.dark
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


class PixelMeans(NamedTuple):
    """Means of some pixels without their hits.

    Parameters
    ----------
    where : flat indices (pixel) of (y, x), each once.
    values : the means, adu; NaN where no frame remains.
    n_there, n_rejected : number of frames with a value, and of those that are rejected.
    """

    where: Indices
    values: Values
    n_there: Indices
    n_rejected: Indices


def _without_outliers(scene: ComparisonInput, found: FrameComparison, told: str) -> xr.Dataset:
    """Return the image with its planes computed without the hits."""
    image, n = scene.image, scene.lights.sizes[FRAME]
    where = np.unique(found.outliers.where).astype(np.intp)
    n_frames = f"{n} frame{'s' * (n > 1)}"
    n_pixels = f"{where.size} pixel{'s' * (where.size != 1)}"
    image = add_history(image, f"cosmic rays: {n_pixels} in {n_frames} {told}")
    if not where.size:
        return image
    best = {**image[COUNTS].attrs, "long_name": "best estimate of the pixel values"}
    excluded: dict[str, object] = {"units": "", "long_name": "frames excluded in a pixel"}
    planes = {
        CLEAN: _copied_plane(image, CLEAN, best, COUNTS),
        N_REJECTED: _copied_plane(image, N_REJECTED, excluded),
        DQ: _flag_plane(image),
    }
    if VARIANCE in image:
        planes[VARIANCE] = _copied_plane(image, VARIANCE, {})
    equal = _means_of_equal_frames(scene, found)
    _replace_pixels(scene, equal, planes)
    others = np.setdiff1d(where, equal.where, assume_unique=True)
    for pixels in _means_of_scaled_frames(scene, others, found.outliers):
        _replace_pixels(scene, pixels, planes)
    return image.assign(planes).assign_coords({CLEAN_METHOD: string_coord(_cleaned_method(image))})


def _means_of_equal_frames(scene: ComparisonInput, found: FrameComparison) -> PixelMeans:
    """Return the means of those pixels with hits that are dark and present in all frames.

    There every frame has the scale 1, and the mean follows from that of all frames and the values
    of the hits: no frame is read again.
    """
    n, grid, planes = scene.lights.sizes[FRAME], scene.grid, found.planes
    if planes is None or found.above is None:
        nothing = np.empty(0, np.intp)
        return PixelMeans(nothing, np.empty(0), nothing, nothing)
    where, first, n_hits = np.unique(found.outliers.where, return_index=True, return_counts=True)
    of_hits = np.add.reduceat(found.above, first) + n_hits * planes.common.flat[where]
    equal = np.isfinite(planes.mean.flat[where]) & ~planes.may_shine[grid.tile_of(where)]
    where, n_hits, of_hits = where[equal].astype(np.intp), n_hits[equal], of_hits[equal]
    sky = (np.add.reduce(scene.sky, axis=0) / n)[grid.column_of(where)]
    values = planes.mean.flat[where] - _dark_at(scene, where)[0] - sky
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = (n * values - of_hits) / np.where(n_hits < n, n - n_hits, np.nan)
    return PixelMeans(where, sky + rest, np.full(where.size, n), n_hits)


def _means_of_scaled_frames(
    scene: ComparisonInput, wanted: Indices, outliers: PixelOutliers
) -> Iterator[PixelMeans]:
    """Yield the means of some pixels, few at once, from the frames and their scales."""
    is_wanted = np.zeros(scene.image[COUNTS].size, np.bool_)
    is_wanted[wanted] = True
    for band, own in _bands(scene, scene.grid.holding(wanted)):
        for tiles in _split_tiles(scene, own):
            where, given = _tile_data(scene, band, tiles, outliers)
            chosen = is_wanted[where] & scene.grid.own(tiles)
            order = np.argsort(where[chosen])
            pixels, of_tiles = where[chosen][order], (*given[:2], kernel.tile_scales(*given))
            values, sky, scale = (each[:, chosen][:, order] for each in of_tiles)
            flagged = outliers.flags(len(values), pixels)
            n_there, n_flagged = (np.count_nonzero(a, axis=0) for a in (~np.isnan(values), flagged))
            yield PixelMeans(pixels, mean_without(values, sky, scale, flagged), n_there, n_flagged)


def _replace_pixels(
    scene: ComparisonInput, pixels: PixelMeans, planes: Mapping[str, _Plane]
) -> None:
    """Replace some pixels of the planes by their values without the hits, in place."""
    if VARIANCE in planes:
        planes[VARIANCE][1].flat[pixels.where] += _variance_change(scene, pixels)
    planes[CLEAN][1].flat[pixels.where] = pixels.values
    rejected = planes[N_REJECTED][1].flat
    n_rejected = np.minimum(pixels.n_rejected, 255).astype(np.uint8)
    rejected[pixels.where] = np.maximum(rejected[pixels.where], n_rejected)
    bits = np.where(np.isnan(pixels.values), COSMIC_RAY | NO_DATA, REPAIRED).astype(np.uint8)
    planes[DQ][1].flat[pixels.where] |= bits


def _cleaned_method(image: xr.Dataset) -> str:
    """Return the text for `clean_method`: the earlier method, where known, and cosmic rays."""
    known = [str(image[name].item()) for name in (CLEAN_METHOD, METHOD) if name in image.coords]
    return ", ".join([*known[:1], "cosmic rays excluded"])


def _copied_plane(
    image: xr.Dataset, name: str, attrs: dict[str, object], base: str | None = None
) -> _Plane:
    """Return a copy of a plane (y, x) of the image; where it has none, of its base, or zeros."""
    if name in image:
        return (Y, X), image[name].values.copy(), dict(image[name].attrs)
    nothing = np.zeros(image[COUNTS].shape, np.uint8)
    return (Y, X), nothing if base is None else image[base].values.copy(), attrs


def _flag_plane(image: xr.Dataset) -> _Plane:
    """Return a copy of the flags of the pixels (y, x)."""
    return _copied_plane(image, DQ, dq_attrs("flags of a pixel"))


def _variance_change(scene: ComparisonInput, pixels: PixelMeans) -> Values:
    """Return the change in variance of pixels, from the number and the flux of frames left.

    The variance of the dark is common to all frames and unchanged. The variance of the combination
    relative to that of a frame is taken from the effective gain where there is one.
    """
    image, noise, n_frames = scene.image, scene.noise, scene.lights.sizes[FRAME]
    share = 1.0 / n_frames
    if "gain_effective" in image.attrs and noise.per_photon:
        share = 1.0 / (noise.per_photon * image.attrs["gain_effective"])
    counts = image[CLEAN if CLEAN in image else COUNTS].values.flat[pixels.where]
    n_there = pixels.n_there
    with np.errstate(divide="ignore", invalid="ignore"):
        after = noise.variance(pixels.values) * (n_there / (n_there - pixels.n_rejected))
    change = (after - noise.variance(counts)) * (share * n_frames / n_there)
    return np.where(np.isfinite(change), change, np.nan)


# Comparison of the frames of a target, value by value: `compare_frames`.
#
# The arithmetic is in `kernels.reject`; this section chooses where to apply it:
#
# 1. In one pass over the frames, band by band, each value is compared with the median of its pixel.
#    Without light all frames have one scale, so that only values well above the median are looked
#    at, each with the rest of its tile in its frame: a few operations a value. Tiles that a star
#    illuminates are compared as a whole, in all frames, since its flux differs between them.
# 2. A value beside a hit is one itself from a lower threshold on (`_with_neighbours`). Lines and
#    stars that lie elsewhere in other frames are left alone.
# 3. Lit tiles beside hits are compared once more, without these hits in their scale.
#
# The sky of each frame is subtracted first, by column, because its lines do not scale with the
# star's flux: it is the median of a few dozen of the darker rows.

_TileData = tuple[Values, Values, PixelNoise, Values, "Flags | None"]
"""The arguments of `kernels.reject.compare_tiles`."""

_NEIGHBOUR_SIGMA = 3.5
"""Excess from which on the neighbour of a hit is rejected too, sigma."""
_SIGMA_AGAIN = 1.0
"""By which a value beside a known hit must be higher than another: the core of a bright star two
rows wide has neighbours that are high by its profile (14 of 14,600 of its pixels were taken, not
33)."""
_LIT_TILE_SIGMA = 2.0
"""Mean signal of a tile, in sigma of the sky, from which on it is lit by more than its hits."""
_ROWS_OF_SKY = 64
_TILE_VALUES_AT_ONCE = 1 << 17
_STRIP_VALUES_AT_ONCE = 1 << 19


class ComparisonInput(NamedTuple):
    """Input of the comparison.

    Parameters
    ----------
    image, lights : counts (y, x), computed, and (frame, y, x).
    dark : the subtracted master (y, x), or 0.
    master : noise of the dark, whose hot pixels add to that of a frame.
    grid : the tiles.
    sky : (frame, position along the dispersion), sky of each frame.
    noise : noise of a frame.
    """

    image: xr.Dataset
    lights: xr.Dataset
    dark: Values
    master: MasterNoise
    grid: TileGrid
    sky: Values
    noise: PixelNoise


class ComparedPlanes(NamedTuple):
    """What the comparison tells of each pixel and tile.

    Parameters
    ----------
    common : (y, x), median of the frames, less dark and sky.
    mean : (y, x), mean of the raw frames, NaN where one has no value.
    may_shine : (tile), whether a tile may be bright, so that its frames are to be scaled.
    """

    common: NDArray[np.float32]
    mean: Values
    may_shine: Flags


class FrameComparison(NamedTuple):
    """Values that lie above those of the other frames.

    Parameters
    ----------
    outliers : the values.
    above : (outlier), by how much they exceed the median of their pixel, adu.
    planes : None where the frames were not compared.
    """

    outliers: PixelOutliers
    above: Values | None = None
    planes: ComparedPlanes | None = None


def comparison_input(
    image: xr.Dataset, lights: xr.Dataset, minus: xr.Dataset | None, noise: PixelNoise
) -> ComparisonInput:
    """Return the input of the comparison, with the sky of each frame."""
    grid = grid_of(image)
    dark = np.broadcast_to(0.0, grid.shape) if minus is None else minus[COUNTS].values
    master, sky = master_noise(minus, noise.floor), _sky_of_frames(image, lights, grid)
    return ComparisonInput(image, lights, dark, master, grid, sky, noise)


def grid_of(image: xr.Dataset) -> TileGrid:
    """Return the tiles of an image."""
    n_rows, n_columns = image[COUNTS].shape
    return TileGrid((n_rows, n_columns), is_upright(image))


def _sky_of_frames(image: xr.Dataset, lights: xr.Dataset, grid: TileGrid) -> Values:
    """Return the sky (frame, position along the dispersion) of each dark-subtracted frame."""
    combined, frames = _sampled_rows(image, grid), _sampled_rows(lights, grid)
    levels = finite_medians(combined)
    darker = np.sort(np.argsort(levels, kind="stable")[: max(len(levels) // 2, 1)])
    average = sum(frame[darker].astype(np.float64) for frame in frames) / len(frames)
    apart = np.empty((len(frames), grid.length))
    for i, frame in enumerate(frames):
        apart[i] = median((frame[darker] - average)[:, np.newaxis])[0]
    common = median(combined[darker][:, np.newaxis])
    return np.nan_to_num(common) + np.nan_to_num(apart)


def _sampled_rows(ds: xr.Dataset, grid: TileGrid) -> NDArray[Any]:
    """Return a sample of rows (..., row, x) of frames, transposed where dispersed along y."""
    if grid.upright:
        frames = [dim for dim in ds[COUNTS].dims if dim == FRAME]
        plain = ds[[COUNTS]].drop_vars([Y, X], errors="ignore")
        ds = plain.rename({X: Y, Y: X}).transpose(*frames, Y, X)
    return sample_pixels(ds, _ROWS_OF_SKY * grid.length)


def compare_frames(scene: ComparisonInput, n_sigma: float) -> FrameComparison:
    """Return the values that lie above those of the other frames.

    Parameters
    ----------
    scene : at least two frames.
    n_sigma : rejection threshold; for a neighbour of a rejected value it is 3.5.
    """
    grid = scene.grid
    planes = ComparedPlanes(
        np.full(grid.shape, np.nan, np.float32),
        np.empty(grid.shape),
        np.zeros(grid.n_tiles, np.bool_),
    )
    found = merge_outliers(_outliers_of_frames(scene, n_sigma, planes))
    outliers, _ = _by_pixel(merge_outliers(_with_neighbours(scene, found, planes.common)))
    beside = grid.holding(grid.around(np.unique(outliers.where).astype(np.intp)))
    lit = beside[_are_lit(scene, planes.mean, beside)]
    again = (_outliers_of_band(scene, *some, n_sigma, outliers) for some in _bands(scene, lit))
    found += merge_outliers(chain.from_iterable(again))
    hits = merge_outliers(_with_neighbours(scene, found, planes.common))
    del found, outliers  # as large as all that follows
    return FrameComparison(*_by_pixel(hits), planes)


def _are_lit(scene: ComparisonInput, mean: Values, tiles: Indices) -> Flags:
    """Return which tiles shine in the mean (y, x) of the raw frames, or lack a value.

    The median does not show a star or a line that moves from frame to frame.
    """
    where, (_, place) = scene.grid.pixels(tiles), scene.grid.places(tiles)
    sky = (np.add.reduce(scene.sky, axis=0) / len(scene.sky))[place]
    light = np.add.reduce(mean.flat[where] - _dark_at(scene, where)[0] - sky, axis=-1)
    sigma = np.add.reduce(np.sqrt(scene.noise.variance(sky)), axis=-1)
    return np.asarray(~(light <= _LIT_TILE_SIGMA * sigma))


def _outliers_of_frames(
    scene: ComparisonInput, n_sigma: float, planes: ComparedPlanes
) -> Iterator[OutlierRecords]:
    """Yield the values that are high enough to be the neighbour of a hit, and fill the planes."""
    for band, tiles in _bands(scene, np.arange(scene.grid.n_tiles)):
        yield from _outliers_without_light(scene, band, n_sigma, planes)
        yield from _outliers_of_band(scene, band, tiles[planes.may_shine[tiles]], n_sigma)


def _outliers_without_light(
    scene: ComparisonInput,
    band: FrameBand,
    n_sigma: float,
    planes: ComparedPlanes,
) -> Iterator[OutlierRecords]:
    """Yield the same of those tiles of a band that are dark, strip by strip."""
    grid, noise = scene.grid, scene.noise
    n_frames, n_rows, n_columns = band.raw.shape
    column, blocks = band.column + np.arange(n_columns), np.arange(grid.n_blocks)[band.blocks]
    sky = scene.sky[:, column]
    screen = sky.astype(np.result_type(band.raw.dtype, np.float32)), np.minimum.reduce(sky, axis=0)
    mean_sky = np.add.reduce(sky, axis=0) / n_frames
    n_alike = noise.variance(mean_sky) * np.add.reduce(1.0 / noise.variance(sky), axis=0)
    places = grid.starts[blocks, np.newaxis] - band.column + np.arange(grid.width)
    tiles = partial(_pieces, width=grid.width)
    skies, mean_skies, numbers_alike = tiles(sky), tiles(mean_sky), tiles(n_alike)
    step = max(_STRIP_VALUES_AT_ONCE // (n_frames * n_columns), 1)
    for top in range(0, n_rows, step):
        raw = band.raw[:, top : top + step]
        row = band.row + top + np.arange(raw.shape[1])[:, np.newaxis]
        strip = slice(row[0, 0], row[-1, 0] + 1), slice(band.column, band.column + n_columns)
        dark = grid.along_x(scene.dark)[strip]
        more = _charge_noise(scene, dark)
        found = kernel.screen_strip(raw, screen, noise, dark, more, places)
        grid.along_x(planes.common)[strip] = found.common
        grid.along_x(planes.mean)[strip] = mean_of_strip(raw, None)
        planes.may_shine[row * grid.n_blocks + blocks] = found.may_shine
        y, x = np.divmod(found.where, n_columns)
        tile = grid.tile_of(grid.flat(row[y, 0], column[x]))
        is_dark = (tile % grid.n_blocks <= blocks[-1]) & ~planes.may_shine[tile]
        pair = np.unique((found.frame * grid.n_tiles + tile)[is_dark])
        frame, tile = np.divmod(pair, grid.n_tiles)
        at, first = tile // grid.n_blocks - row[0, 0], places[tile % grid.n_blocks - blocks[0], 0]
        of_sky, present = skies[frame, first], tiles(found.n_there)[at, first] / n_frames
        values = tiles(raw)[frame, at, first] - of_sky - tiles(dark)[at, first]
        excess = kernel.dark_excess(
            values,
            of_sky,
            noise,
            tiles(more)[at, first],
            tiles(found.reference)[at, first],
            (mean_skies[first], numbers_alike[first] * present),
            n_frames,
        )
        i, x = np.nonzero((excess > _NEIGHBOUR_SIGMA) & grid.own(tile))
        place = first[i] + x
        above = values[i, x] - found.common[at[i], place]
        where = grid.flat(row[at[i], 0], column[place])
        yield _records(frame[i], where, above, excess[i, x] > n_sigma)


def _pieces(rows: NDArray[Any], width: int) -> NDArray[Any]:
    """Return a view (..., start, x) of all pieces of rows (..., x): one is copied as a whole."""
    return np.lib.stride_tricks.sliding_window_view(rows, width, axis=-1)


def _records(frame: Indices, where: Indices, above: Values, hit: Flags) -> OutlierRecords:
    """Return records of outliers."""
    records = np.empty(frame.size, OUTLIER_DTYPE)
    for name, values in zip(OUTLIER_DTYPE.names or (), (frame, where, above, hit), strict=True):
        records[name] = values
    return records


def _outliers_of_band(
    scene: ComparisonInput,
    band: FrameBand,
    tiles: Indices,
    n_sigma: float,
    hits: PixelOutliers | None = None,
) -> Iterator[OutlierRecords]:
    """Yield the values of whole tiles that are high enough to be the neighbour of a hit.

    With known hits, of values beside them alone; these have no part in the scale of their tile.
    """
    for some in _split_tiles(scene, tiles):
        where, given = _tile_data(scene, band, some, hits)
        excess = kernel.compare_tiles(*given).excess
        high = (excess > _NEIGHBOUR_SIGMA) & scene.grid.own(some)
        if given[4] is not None:
            high &= given[4] & (excess > n_sigma + _SIGMA_AGAIN)
        pixels = high.any(axis=0)
        chosen, values = high[:, pixels], given[0][:, pixels]
        frame, pixel = np.nonzero(chosen)
        above = values[chosen] - median(values[:, np.newaxis])[0][pixel]
        is_hit = excess[:, pixels][chosen] > n_sigma
        yield _records(frame, where[pixels][pixel], above, is_hit)


class FrameBand(NamedTuple):
    """Rows of all frames along the dispersion, which hold whole tiles.

    Parameters
    ----------
    raw : counts (frame, row, x).
    row, column : the first ones.
    blocks : tiles along a row.
    """

    raw: NDArray[Any]
    row: int
    column: int
    blocks: slice


def _bands(scene: ComparisonInput, tiles: Indices) -> Iterator[tuple[FrameBand, Indices]]:
    """Yield the bands that hold some tiles, ascending, each with its own; each is read once.

    A tile along a row lies in one band. One along a column lies across several: rows are kept until
    their tiles are complete. Where bands are lower than a tile this is done for a part of the
    columns at a time, so that as much is held as of a few bands; they are read once for each part.
    """
    grid, counts = scene.grid, scene.lights[COUNTS]
    heights = (counts.sizes[Y],) if counts.chunks is None else counts.chunksizes[Y]
    if grid.upright:
        n_parts = 1 if counts.chunks is None else -(-grid.width // max(heights))
        edges = np.linspace(0, grid.shape[1], n_parts + 1).astype(np.intp)
        cuts = np.searchsorted(tiles, edges * grid.n_blocks)
        for (left, right), (first, stop) in zip(pairwise(edges), pairwise(cuts), strict=True):
            part = counts.isel({X: slice(left, right)})
            for raw, block in _rows_of_blocks(part, heights, tiles[first:stop], grid):
                own = tiles[first:stop][tiles[first:stop] % grid.n_blocks == block]
                column, blocks = int(grid.starts[block]), slice(block, block + 1)
                yield FrameBand(raw.swapaxes(1, 2), int(left), column, blocks), own
        return
    stops = np.cumsum(heights)
    for height, stop, own in zip(
        heights, stops, np.split(tiles, np.searchsorted(tiles, stops * grid.n_blocks)), strict=False
    ):
        if own.size:
            raw = counts.isel({Y: slice(stop - height, stop)}).values
            yield FrameBand(raw, int(stop - height), 0, slice(None)), own


def _rows_of_blocks(
    counts: xr.DataArray, heights: Sequence[int], tiles: Indices, grid: TileGrid
) -> Iterator[tuple[NDArray[Any], int]]:
    """Yield the rows (frame, y, x) of the tiles along columns, with their place along a column."""
    waiting = np.unique(tiles % grid.n_blocks).tolist()
    rows, top, first = counts[:, :0].values, 0, 0
    for height in heights:
        stop = first + height
        if waiting and grid.starts[waiting[0]] < stop:
            new = counts.isel({Y: slice(first, stop)}).values
            rows, top = (np.concatenate([rows, new], axis=1), top) if rows.size else (new, first)
            while waiting and grid.starts[waiting[0]] + grid.width <= stop:
                block = waiting.pop(0)
                at = grid.starts[block] - top
                yield rows[:, at : at + grid.width], block
            left = min(grid.starts[waiting[0]], stop) if waiting else stop
            rows, top = rows[:, left - top :].copy(), left
        first = stop


def _split_tiles(scene: ComparisonInput, tiles: Indices) -> Iterator[Indices]:
    """Yield tiles, few enough for the CPU cache at once."""
    n = max(_TILE_VALUES_AT_ONCE // (scene.lights.sizes[FRAME] * scene.grid.width), 1)
    for first in range(0, len(tiles), n):
        yield tiles[first : first + n]


def _tile_data(
    scene: ComparisonInput, band: FrameBand, tiles: Indices, hits: PixelOutliers | None = None
) -> tuple[Indices, _TileData]:
    """Return the pixels (tile, x) of tiles, few enough for the CPU cache, and their data."""
    where, (row, place) = scene.grid.pixels(tiles), scene.grid.places(tiles)
    sky = np.take(scene.sky, place, axis=1)
    each = np.arange(len(sky))[:, np.newaxis, np.newaxis]
    values = np.subtract(band.raw[each, row - band.row, place - band.column], sky, dtype=np.float64)
    dark, more = _dark_at(scene, where)
    values -= dark
    struck = None if hits is None else _struck_values(scene, where, hits)
    return where, (values, sky, scene.noise, more, struck)


def _dark_at(scene: ComparisonInput, where: Indices) -> tuple[Values, Values]:
    """Return the dark at pixels (...), and the variance of the charge of hot ones."""
    dark = scene.dark.reshape(-1)[where]
    return dark, _charge_noise(scene, dark)


def _charge_noise(scene: ComparisonInput, dark: Values) -> Values:
    """Return the variance of the charge that a dark may have.

    By that of hot pixels alone, four more values of a real night were hits, in warm ones.
    """
    return np.fmax(dark - scene.master.level, 0.0) * scene.noise.per_photon


def _struck_values(scene: ComparisonInput, where: Indices, hits: PixelOutliers) -> Flags:
    """Return which values (frame, ...) at pixels (...) are hits, or lie beside one."""
    grid, n_frames = scene.grid, scene.lights.sizes[FRAME]
    near = grid.around(where.ravel())
    ends = np.array([near[0], near[-1] + 1], hits.where.dtype)  # else all are converted
    first, stop = np.searchsorted(hits.where, ends)
    frame, place = hits.frame[first:stop], hits.where[first:stop].astype(np.intp)
    here = near[np.searchsorted(near, place)] == place
    frame, place = frame[here], place[here]
    across, along = grid.steps
    beside = [place + i * across + j * along for i in (-1, 0, 1) for j in (-1, 0, 1)]
    pixels, at = np.unique(where, return_inverse=True)
    every = PixelOutliers.of(np.tile(frame, len(beside)), np.concatenate(beside))
    return every.flags(n_frames, pixels)[:, at.reshape(where.shape)]


def _with_neighbours(
    scene: ComparisonInput, found: Sequence[OutlierRecords], common: NDArray[np.float32]
) -> Iterator[OutlierRecords]:
    """Yield the hits of each frame with their neighbours, without guiding shifts, by pixel.

    Parameters
    ----------
    found : blocks of records, each by frame.
    common : (y, x), median of the frames, less dark and sky.
    """
    grid, n_frames = scene.grid, scene.lights.sizes[FRAME]
    near, least = Neighbours(grid), 3.0 * float(np.sqrt(scene.noise.floor))
    stops = [np.cumsum(np.bincount(block["frame"], minlength=n_frames)) for block in found]
    for frame in range(n_frames):
        own = _each_once(
            block[stop[frame - 1] if frame else 0 : stop[frame]]
            for block, stop in zip(found, stops, strict=True)
        )
        if own["hit"].any():
            around = near.of(own["where"].astype(np.intp), 1)
            own = own[((around >= 0) & own["hit"][around]).any(axis=0)]
            where = own["where"].astype(np.intp)
            light_of_frame = partial(_light_of_frame, scene, frame)
            moved = guiding_shift_pixels(where, own["above"], common, light_of_frame, near, least)
            moved |= moved_star_pixels(where, grid)
            yield own[~np.isin(where, _connected_pixels(where, where[moved], grid))]


def _by_pixel(hits: list[OutlierRecords]) -> tuple[PixelOutliers, Values]:
    """Return the hits of all frames by pixel and frame, and their excess, adu; empty the list."""
    hits.append(np.empty(0, OUTLIER_DTYPE))
    where, frame, above = (
        np.concatenate([some[name] for some in hits]) for name in ("where", "frame", "above")
    )
    hits.clear()
    order = np.argsort(where, kind="stable")
    return PixelOutliers(frame[order], where[order]), above[order]


def _light_of_frame(scene: ComparisonInput, frame: int, pixels: Indices) -> Values:
    """Return the values of one frame at pixels (...), less dark and sky."""
    background = _dark_at(scene, pixels)[0] + scene.sky[frame, scene.grid.column_of(pixels)]
    return np.asarray(values_at(scene.lights.isel({FRAME: [frame]}), pixels)[0] - background)


# Tiles, short pieces of an image along its dispersion: `TileGrid`.
#
# A tile is one row, or one column where the dispersion runs along y, by some 48 pixels. Tiles are
# fixed by the shape of the image alone, so that the result in a tile does not depend on chunks or
# bands.

Indices = NDArray[np.intp]
Flags = NDArray[np.bool_]

_FARTHEST = 2
"""Rows in which neighbours are looked for."""
TILE_WIDTH = 48
"""Approximate length of a tile along the dispersion, pixels: ten times that of a cosmic ray, and
short against the distance in which a trace crosses a row."""


@dataclass(frozen=True)
class TileGrid:
    """The tiles of an image.

    Parameters
    ----------
    shape : (n_rows, n_columns).
    upright : the dispersion runs along the columns.

    Examples
    --------
    >>> grid = TileGrid((40, 300))
    >>> grid.edges.tolist(), grid.width, grid.n_blocks
    ([0, 50, 100, 150, 200, 250, 300], 50, 6)
    """

    shape: tuple[int, int]
    upright: bool = False

    @property
    def length(self) -> int:
        """Return the number of pixels along the dispersion."""
        return self.shape[0 if self.upright else 1]

    @cached_property
    def n_blocks(self) -> int:
        """Return the number of tiles along the dispersion."""
        return max(round(self.length / TILE_WIDTH), 1)

    @cached_property
    def edges(self) -> Indices:
        """Return the first pixel of each tile, and the end of the last one."""
        return np.asarray(np.linspace(0, self.length, self.n_blocks + 1).astype(np.intp))

    @cached_property
    def width(self) -> int:
        """Return the length of a tile, pixels; where they do not fit evenly, tiles overlap."""
        return int(np.diff(self.edges).max())

    @cached_property
    def starts(self) -> Indices:
        """Return the first pixel of each tile, which may be the last one of the tile before."""
        return np.minimum(self.edges[:-1], self.length - self.width)

    @property
    def n_tiles(self) -> int:
        """Return the number of tiles."""
        return self.shape[1 if self.upright else 0] * self.n_blocks

    def places(self, tiles: Indices) -> tuple[Indices, Indices]:
        """Return the row (tile, 1) and the column (tile, x) of the pixels, dispersion along x."""
        row, block = np.divmod(tiles, self.n_blocks)
        return row[:, np.newaxis], self.starts[block, np.newaxis] + np.arange(self.width)

    def flat(self, row: Indices, column: Indices) -> Indices:
        """Return the flat indices of pixels in the image (y, x), dispersion along x."""
        return column * self.shape[1] + row if self.upright else row * self.shape[1] + column

    def along_x(self, image: NDArray[Real]) -> NDArray[Real]:
        """Return a view of an image (y, x) whose dispersion is along x."""
        return image.T if self.upright else image

    def column_of(self, pixels: Indices) -> Indices:
        """Return the columns of pixels, dispersion along x, given by their flat indices."""
        return pixels // self.shape[1] if self.upright else pixels % self.shape[1]

    def pixels(self, tiles: Indices) -> Indices:
        """Return the flat indices (tile, x) of the pixels of tiles in the image (y, x)."""
        return self.flat(*self.places(tiles))

    def own(self, tiles: Indices) -> Flags:
        """Return which pixels (tile, x) belong to the tile itself, not to the one before."""
        _, column = self.places(tiles)
        block = tiles[:, np.newaxis] % self.n_blocks
        return np.asarray((column >= self.edges[block]) & (column < self.edges[block + 1]))

    @property
    def steps(self) -> tuple[int, int]:
        """Return the steps of flat indices across and along the dispersion."""
        return (1, self.shape[1]) if self.upright else (self.shape[1], 1)

    def around(self, pixels: Indices) -> Indices:
        """Return the flat indices of pixels and of their eight neighbours, ascending."""
        y, x = np.divmod(pixels, self.shape[1])
        ys, xs = (np.stack([at - 1, at, at + 1]) for at in (y, x))
        inside = (ys >= 0) & (ys < self.shape[0]), (xs >= 0) & (xs < self.shape[1])
        near = ys[:, np.newaxis] * self.shape[1] + xs
        return np.unique(near[inside[0][:, np.newaxis] & inside[1]])

    def holding(self, pixels: Indices) -> Indices:
        """Return the tiles that hold some pixels, given by their flat indices, ascending."""
        return np.unique(self.tile_of(pixels))

    def tile_of(self, pixels: Indices) -> Indices:
        """Return the tile of each of some pixels, given by their flat indices."""
        row, column = np.divmod(pixels, self.shape[1])
        if self.upright:
            row, column = column, row
        block = np.searchsorted(self.edges, column, side="right") - 1
        return np.asarray(row * self.n_blocks + block, np.intp)


class Neighbours:
    """Finds those outlying pixels of a frame that lie beside each other, by a plane of positions.

    Parameters
    ----------
    grid : tiles of the image.
    """

    def __init__(self, grid: TileGrid) -> None:
        self.grid = grid
        self._stride = grid.shape[1] + 2 * _FARTHEST
        n_rows = grid.shape[0] + 2 * _FARTHEST
        self._position = np.full(n_rows * self._stride, -1, np.int32)

    def of(self, where: Indices, n_across: int) -> NDArray[np.int32]:
        """Return the positions (neighbour, pixel) of neighbours and itself; -1 where there is none.

        Parameters
        ----------
        where : flat indices (pixel) of (y, x), each once.
        n_across : how many rows away across the dispersion; along it, one.
        """
        y, x = np.divmod(where, self.grid.shape[1])
        place = (y + _FARTHEST) * self._stride + x + _FARTHEST
        across, along = (1, self._stride) if self.grid.upright else (self._stride, 1)
        steps = [i * across + j * along for i in range(-n_across, n_across + 1) for j in (-1, 0, 1)]
        self._position[place] = np.arange(where.size)
        around: NDArray[np.int32] = self._position[place + np.array(steps)[:, np.newaxis]]
        self._position[place] = -1
        return around


def values_at(cube: xr.Dataset, pixels: Indices) -> NDArray[np.float64]:
    """Return the values (frame, ...) at flat indices (...) of (y, x), in any order."""
    order = np.argsort(pixels, axis=None, kind="stable")
    values = np.empty((cube.sizes[FRAME], pixels.size))
    values[:, order] = pixels_at(cube, pixels.ravel()[order])
    return values.reshape(-1, *pixels.shape)


# Guiding shifts, lines moved along the slit between frames, are not hits: `guiding_shift_pixels`.
#
# The lines of a nebula, or of a badly guided star, can lie many rows from their position in the
# other frames; on a real night by 30. Where all frames but one are dark nothing can be scaled, and
# a whole line would be flagged as a hit. It is recognised by its extent, several rows by several
# columns, and by a line of similar strength in the other frames, in the same columns and a few rows
# away; at the place itself the other frames are dark. A line on the continuum of a star must be
# missing there in this frame, since a star that moved takes its lines with it: else a track beside
# the lines of a star that stays is kept, and with five tracks on it in each of five frames, 6 % of
# its columns were off by more than 6 sigma.

_EXTENDED_PIXELS = 9
"""Number of pixels, of five rows x three columns, from which on a feature is extended."""
_N_NEIGHBOUR_STEPS = 3
_FULL_TILE, _STAR_TILE, _FEWEST_FULL = 0.5, 0.2, 3
_MIN_CONTRAST = 0.3
_MOST_OWN_LIGHT = 0.5
"""Light of the other frames at the place itself, in units of the excess, above which it is no moved
line: else a track on a star is taken for the star's own lines, and kept."""
_CONTRAST_ROWS = np.arange(-24, 25, 4)
_CONTRAST_COLUMNS = np.array([0, -8, 8])


def guiding_shift_pixels(
    where: Indices,
    above: Values,
    common: NDArray[np.float32],
    light_of_frame: Callable[[Indices], Values],
    near: Neighbours,
    least: float,
) -> Flags:
    """Return which outlying pixels of one frame are those of a line that moved, or its core.

    Parameters
    ----------
    where : flat indices (pixel) of (y, x), ascending.
    above : (pixel), excess over the other frames, adu.
    common : (y, x), median of the frames, less dark and sky.
    light_of_frame : returns the values of this frame at pixels.
    near : finds neighbours.
    least : the least significant signal, adu.
    """
    around = near.of(where, 2)
    core = np.flatnonzero(np.count_nonzero(around >= 0, axis=0) >= _EXTENDED_PIXELS)
    found = np.zeros(where.size, np.bool_)
    if not core.size:
        return found
    strongest = above
    for _ in range(_N_NEIGHBOUR_STEPS):
        strongest = np.where(around >= 0, strongest[around], -np.inf).max(axis=0)
    core = core[common.flat[where[core]] < np.maximum(_MOST_OWN_LIGHT * strongest[core], least)]
    wanted = np.maximum(_MIN_CONTRAST * strongest[core], least)[:, np.newaxis]
    pixels = _pixels_of_contrast(where[core], near.grid)
    light = common.flat[pixels].astype(np.float64)
    lines = _contrast(light) > wanted
    may_move = lines.any(axis=1)  # few of the frames that hold an extended hit have to be read
    core, light, wanted = core[may_move], light[may_move], wanted[may_move]
    if core.size:
        missing = light - light_of_frame(pixels[may_move])
        found[core] = (_moved_contrast(light, missing) > wanted).any(axis=1)
    return found


def moved_star_pixels(where: Indices, grid: TileGrid) -> Flags:
    """Return which outlying pixels of one frame are a star that lies elsewhere in the others.

    They fill its tiles, all along the dispersion: those of a frame's tiles of which a fifth are
    outlying, where in half of the columns one is outlying to the half.

    Parameters
    ----------
    where : flat indices (pixel) of (y, x), ascending.
    grid : tiles of the image.
    """
    tile = grid.tile_of(where)
    tiles, number, count = np.unique(tile, return_inverse=True, return_counts=True)
    full = tiles[count > _FULL_TILE * grid.width]
    if 2 * np.unique(full % grid.n_blocks).size < max(grid.n_blocks, 2 * _FEWEST_FULL):
        return np.zeros(where.size, np.bool_)
    return np.asarray(count[number] > _STAR_TILE * grid.width)


def _pixels_of_contrast(where: Indices, grid: TileGrid) -> Indices:
    """Return the pixels (pixel, row, 3) in the columns of some pixels, and left and right of it."""
    y, x = np.divmod(where, grid.shape[1])
    row, column = (x, y) if grid.upright else (y, x)
    rows = np.clip(row[:, np.newaxis] + _CONTRAST_ROWS, 0, grid.shape[1 if grid.upright else 0] - 1)
    columns = np.clip(column[:, np.newaxis] + _CONTRAST_COLUMNS, 0, grid.length - 1)
    return grid.flat(rows[:, :, np.newaxis], columns[:, np.newaxis])


def _contrast(light: Values) -> Values:
    """Return how much brighter light (..., 3) is in a column than on both sides."""
    return np.asarray(light[..., 0] - np.maximum(light[..., 1], light[..., 2]))


def _moved_contrast(light: Values, missing: Values) -> Values:
    """Return the contrast (pixel, row) of a line in the other frames, as far as it may have moved.

    A line fainter than the continuum of its place is a star's, and counts as far as the frame lacks
    it there; another one, unless the frame has twice of it: hits of several frames are no line.
    """
    line, lacking = _contrast(light), _contrast(missing)
    beside = np.maximum(light[..., 1], light[..., 2])
    on_star = beside - np.fmin.reduce(beside, axis=-1)[:, np.newaxis] > line
    return np.minimum(line, lacking + np.where(on_star, 0.0, line))


def _connected_pixels(where: Indices, some: Indices, grid: TileGrid) -> Indices:
    """Return the pixels connected with some of them, over gaps of one pixel."""
    before = -1
    while some.size != before:
        before = some.size
        some = where[np.isin(where, grid.around(grid.around(some)))]
    return some


# Storage of outliers of single frames, until they are `PixelOutliers`.
#
# A night of 320 light frames of 2048 x 2048 has two million outliers. They are found tile by tile,
# a few hundred at a time, and are collected in large blocks: as many small arrays would, once
# freed, leave 60 MiB of fragmented memory that nothing else fits into.

OUTLIER_DTYPE = np.dtype([("frame", "u4"), ("where", "u4"), ("above", "f8"), ("hit", "?")])
"""A value high enough to be the neighbour of a hit: its frame and pixel, its excess over the median
of its pixel, adu, and whether it is a hit by itself."""
_MERGED_OUTLIERS = 1 << 19
OutlierRecords = NDArray[np.void]


def merge_outliers(parts: Iterable[OutlierRecords]) -> list[OutlierRecords]:
    """Merge parts into few large blocks, each by frame: freed small ones fragment the memory."""
    blocks: list[OutlierRecords] = []
    n_used = _MERGED_OUTLIERS
    for part in parts:
        while part.size:
            if n_used == _MERGED_OUTLIERS:
                blocks.append(np.empty(_MERGED_OUTLIERS, OUTLIER_DTYPE))
                n_used = 0
            fits = part[: _MERGED_OUTLIERS - n_used]
            blocks[-1][n_used : n_used + fits.size] = fits
            n_used, part = n_used + fits.size, part[fits.size :]
    if blocks:
        blocks[-1] = blocks[-1][:n_used]
    for block in blocks:
        block[:] = np.take(block, np.argsort(block["frame"], kind="stable"))
    return blocks


def _each_once(parts: Iterable[OutlierRecords]) -> OutlierRecords:
    """Return values of one frame by pixel, each once: as a hit where any part has it as one."""
    found = np.concatenate([np.empty(0, OUTLIER_DTYPE), *parts])
    found = np.take(found, np.lexsort((~found["hit"], found["where"])))
    return np.compress(np.append(True, np.diff(found["where"]) != 0)[: found.size], found)
