"""Measure how a star moves between the light frames of a target, and align frames it moved in.

Between ordinary light frames a star drifts by a fraction of its width: their mean holds all its
flux, and its profile is measured from that mean. Where it moves by more than a third of its FWHM,
on purpose (a nod) or not, the mean holds a part of the flux in each place: half of it for a nod of
two positions. Then the calibrated frames are moved by whole pixels, so that no noise is shared
between pixels, and combined anew (`align_frames`, `combine_aligned`). In a tilted slit the
spectrum shifts along the columns as well; that shift is measured from the spectra, as is a drift
along the dispersion (`spectral_shifts`), and the frame is interpolated by it.

Two stars observed under one name look like a nod too. Their spectra differ (`other_stars`).

Cost: on an ordinary night the rows about the star are read once more; the whole slit is examined
only if these show a motion, or a frame lacks the star.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from arrayred.kernels.combine import median
from arrayred.kernels.noise import finite_median
from arrayred.model import (
    BAD_PIXEL,
    COUNTS,
    DQ,
    FRAME,
    NO_DATA,
    SATURATED,
    VARIANCE,
    X,
    Y,
    add_history,
    is_upright,
    to_check,
)
from arrayred.steps.combine import combine
from arrayred.steps.extract import running_mean
from arrayred.steps.trace import FWHM_PER_SIGMA, peak_of

if TYPE_CHECKING:
    import xarray as xr

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

MOVED_FWHM = 1.0 / 3.0
"""Range of positions along the slit, in FWHM, under which frames are never aligned: a mean of two
positions is 1 % wider than each of them there."""
LARGEST_DRIFT = 0.2
"""Drift along the dispersion, pixels, above which it is a remark: it widens a line of 2.5 pixels
by 1 %."""
_QUICK_FWHM = 0.2
_MISSING_LIGHT = 0.6
"""Part of the brightest frame's flux under which a frame may have its star elsewhere."""
_N_BLOCKS = 16
_SAMPLED_ROWS = 4
_SKY_ROWS = 12
_BYTES_AT_ONCE = 4 << 20
_BACKGROUND_ROWS = 32
_LEAST_SIGNIFICANCE = 8.0
_SMALLEST_SHIFT = 0.1
"""Shift along the dispersion, pixels, that is left as it is by alignment: an interpolation widens
lines of 2.5 pixels by 2 % at most, and shares noise between columns."""
_LEAST_SHARPENING, _OF_POINTS = 1.2, 1.02
"""How much sharper alignment must make the profile, and that of a point source: by 1.02, which a
drift by a third of the FWHM reaches, it adds 1 % to the S/N of a faint star."""
_LARGEST_LOSS = 0.15
"""Light of a frame outside the aperture above which any sharper profile is reason to align."""
_SAME_PROFILE = 0.1
"""Part of the differences between the profiles of the frames that alignment may leave of a point
source: it left 0.06 at most of stars, and 0.2 to 0.4 of nebulae, which show another part of
themselves in each frame, and which alignment smears."""
_HIGH_PASS = 15
_FARTHEST_SHIFT = 8
_LEAST_POWER = 4.0
_LARGEST_SHIFT_ERROR = 0.05
_SHIFT_ROUNDS = 3
_TEMPLATE_ERROR = 0.1
_N_RATIOS = 48
_DIFFERENT_COLOUR = 0.25
"""Scatter of the ratio of two spectra, in parts, from which on they are of two stars: nods of one
star differ by slit losses and flat fields, some 5 %."""
_SAME_LINES, _LINE_SIGMA, _LEAST_COLUMNS = 0.3, 5.0, 10
"""Correlation of the ranks of the lines of two spectra under which they are of two stars; and the
height and the least number of columns of lines that tell."""


class StarMotion(NamedTuple):
    """Where a star is in each frame.

    Parameters
    ----------
    rows : (frame), rows from its place in the combined image; NaN: not seen in this frame.
    columns : (frame), shift along the dispersion, pixels; NaN where it cannot be measured.
    by : what told the shift along the dispersion: "the star's lines", "sky lines" or "".
    moved : whether the star moved too far for the plain combination.
    fwhm : of the star, rows.
    error : standard deviation of a shift along the dispersion, pixels.
    """

    rows: Values
    columns: Values
    by: str = ""
    moved: bool = False
    fwhm: float = 0.0
    error: float = 0.0

    @property
    def drift_rows(self) -> float:
        """Return the range of positions along the slit, rows; NaN where unknown."""
        return _range_of(self.rows)

    @property
    def drift_columns(self) -> float:
        """Return the range of positions along the dispersion, pixels; NaN where unknown."""
        return _range_of(self.columns)

    @property
    def whole(self) -> NDArray[np.intp]:
        """Return the whole pixels (frame, 2) across and along the dispersion; 0 where unknown."""
        return np.stack((_whole(self.rows), _whole(self.columns)), axis=-1)

    @property
    def drift_columns_left(self) -> float:
        """Return the range along the dispersion, less what noise makes of 0; 0 if aligned."""
        if self.moved:
            return 0.0
        by_noise = 2.0 * self.error * math.sqrt(2.0 * math.log(max(self.rows.size, 2)))
        return math.sqrt(max(self.drift_columns**2 - by_noise**2, 0.0))


def _range_of(values: Values) -> float:
    known = values[np.isfinite(values)]
    return float(np.ptp(known)) if known.size > 1 else math.nan


class FrameLight(NamedTuple):
    """Light of each frame about a trace.

    Parameters
    ----------
    profiles : (frame, row), mean of the columns by their distance from the trace.
    star, sky : (frame, x), sum of the rows of the star less the sky, and mean of a row of sky.
    """

    profiles: Values
    star: Values
    sky: Values

    def of(self, frames: Flags) -> FrameLight:
        """Return the light of some frames."""
        return FrameLight(*(each[frames] for each in self))


def measure_motion(
    lights: xr.Dataset, image: xr.Dataset, spectrum: xr.Dataset, minus: xr.Dataset | None = None
) -> StarMotion:
    """Measure the place of a star in each light frame.

    Parameters
    ----------
    lights : counts (frame, y, x), eager or chunked.
    image : their combination (y, x), computed, with `dq`, oriented like the lights.
    spectrum : `trace` (x) with the attributes `fwhm` and `half_height`, of that image.
    minus : the master (y, x) that was subtracted.

    Returns
    -------
    motion : rows relative to the trace.
    """
    n_frames = lights.sizes[FRAME]
    fwhm = float(spectrum.attrs["fwhm"])
    if n_frames < 2:
        return StarMotion(np.zeros(n_frames), np.full(n_frames, np.nan), fwhm=fwhm)
    light = light_about(lights, image, spectrum, minus)
    middle = light.profiles.shape[1] // 2
    core = slice(middle - round(fwhm / 2), middle + round(fwhm / 2) + 1)
    reference = _brightest(light.profiles)
    near = np.array([_shift_of(one, light.profiles[reference])[0] for one in light.profiles])
    rows = near - finite_median(near)
    flux = np.add.reduce(light.profiles[:, core], axis=1)
    settled = np.ptp(near) <= _QUICK_FWHM * fwhm and flux.min() > _MISSING_LIGHT * flux.max()
    if not settled:
        found = _motion_in_slit(lights, spectrum, minus, light.profiles[:, core])
        if found is not None:
            return found
    return along_dispersion(StarMotion(rows, np.full(n_frames, np.nan), fwhm=fwhm), light)


def _brightest(profiles: Values) -> int:
    """Return the frame with the highest peak of five rows, whatever the order of the frames."""
    kernel = np.ones(5)
    return int(np.argmax([np.convolve(one, kernel, "same").max() for one in profiles]))


def light_about(
    lights: xr.Dataset, image: xr.Dataset, spectrum: xr.Dataset, minus: xr.Dataset | None = None
) -> FrameLight:
    """Return the light of each frame about a trace; only the rows near it are read.

    Parameters and conventions are those of `measure_motion`.
    """
    upright = is_upright(lights)
    across = X if upright else Y
    center = spectrum["trace"].values - float(image[across].values[0])
    half = math.ceil(float(spectrum.attrs.get("half_height", 6.0)))
    away = np.arange(-half - _SKY_ROWS, half + _SKY_ROWS + 1)[:, np.newaxis]
    place = np.rint(center).astype(np.intp) + away
    n_rows, column = image.sizes[across], np.arange(center.size)
    on_image = (place >= 0) & (place < n_rows)
    place = np.clip(place, 0, n_rows - 1)
    window = slice(int(place.min()), int(place.max()) + 1)
    place -= window.start

    def cut(ds: xr.Dataset, name: str, **frames: slice) -> NDArray[Any]:
        values = ds[name].isel({across: window, **frames}).values
        return np.swapaxes(values, -1, -2) if upright else values

    of_frame = (window.stop - window.start) * center.size * lights[COUNTS].dtype.itemsize
    step = max(_BYTES_AT_ONCE // of_frame, 1)
    starts = range(0, lights.sizes[FRAME], step)
    frames = chain.from_iterable(
        cut(lights, COUNTS, **{FRAME: slice(first, first + step)}) for first in starts
    )

    usable = on_image
    if DQ in image:
        usable = usable & (cut(image, DQ)[place, column] & (BAD_PIXEL | SATURATED) == 0)
    dark = 0.0 if minus is None else cut(minus, COUNTS)[place, column]
    below, star, above = slice(0, _SKY_ROWS), slice(_SKY_ROWS, -_SKY_ROWS), slice(-_SKY_ROWS, None)
    where = place * center.size + column
    profiles, stars, skies = [], [], []
    for frame in frames:
        values = np.subtract(np.take(frame, where), dark, dtype=np.float64)
        good = usable & np.isfinite(values)
        values[~good] = 0.0
        n_sky, n_star = (
            np.add.reduce([np.count_nonzero(good[part], axis=0) for part in parts])
            for parts in ((below, above), (star,))
        )
        sky = np.add.reduce(values[below], axis=0) + np.add.reduce(values[above], axis=0)
        sky /= np.maximum(n_sky, 1)
        stars.append(np.add.reduce(values[star], axis=0) - n_star * sky)
        skies.append(sky)
        profiles.append(_trimmed(_block_means(values, good)))
    return FrameLight(_without_background(np.array(profiles)), np.array(stars), np.array(skies))


def _block_means(values: Values, good: Flags) -> Values:
    """Return the means (row, block) of blocks of columns."""
    edges = np.linspace(0, values.shape[1], _N_BLOCKS + 1)[:-1].astype(np.intp)
    edges = np.unique(edges)
    total = np.add.reduceat(values, edges, axis=1)
    return np.asarray(total / np.maximum(np.add.reduceat(good, edges, axis=1, dtype=float), 1.0))


def _trimmed(blocks: Values) -> Values:
    """Return the mean of blocks (..., block) without the lowest and the highest: cosmic rays."""
    n = blocks.shape[-1]
    in_order = np.sort(blocks, axis=-1)[..., 1 if n > 3 else 0 : n - 1 if n > 3 else n]
    return np.asarray(np.add.reduce(in_order, axis=-1) / in_order.shape[-1])


def _without_background(profiles: Values, step: int = 0) -> Values:
    """Return profiles (frame, row) less their sky: lines through medians of blocks of rows.

    With no step, less the median of the rows at both ends.
    """
    n = profiles.shape[1]
    if not step or n < 3 * step:
        ends = np.concatenate((profiles[:, :_SKY_ROWS], profiles[:, -_SKY_ROWS:]), axis=1)
        return np.asarray(profiles - np.median(ends, axis=1)[:, np.newaxis])
    starts = np.arange(0, n - step + 1, step)
    middles = starts + (step - 1) / 2
    left = np.empty_like(profiles)
    for one, out in zip(profiles, left, strict=True):
        levels = [np.median(one[first : first + step]) for first in starts]
        out[:] = one - np.interp(np.arange(n), middles, levels)
    return left


def _shift_of(values: Values, reference: Values, most: int | None = None) -> tuple[float, float]:
    """Return by how much values lie above a reference, pixels, and their common product there.

    Examples
    --------
    >>> bell = np.exp(-((np.arange(40) - 15) ** 2) / 8)
    >>> round(_shift_of(np.roll(bell, 7), bell)[0], 6)
    7.0
    """
    n = reference.size
    if most is None:
        most = n - 1
        product = np.correlate(values, reference, "full")
    else:
        product = np.correlate(values, reference[most : n - most], "valid")
    at = int(np.argmax(product))
    if not 0 < at < product.size - 1:
        return float(at - most), float(product[at])
    below, top, above = product[at - 1 : at + 2]
    bend = below - 2 * top + above
    return float(at - most + (0.5 * (below - above) / bend if bend < 0 else 0.0)), float(top)


# Motion along the whole slit: `_motion_in_slit`.


def _motion_in_slit(
    lights: xr.Dataset,
    spectrum: xr.Dataset,
    minus: xr.Dataset | None,
    at_trace: Values,
) -> StarMotion | None:
    """Return the motion where it is too large for the plain combination; None where it is not.

    Parameters
    ----------
    at_trace : (frame, row), profiles in the rows of the trace.
    """
    trace = spectrum["trace"].values
    blocks = _slit_blocks(lights, minus)
    edges = np.linspace(0, trace.size, blocks.shape[2] + 1).astype(np.intp)
    lean = [finite_median(trace[first:stop]) for first, stop in pairwise(edges)]
    level = finite_median(np.array(lean))
    upright = [_moved_values(blocks[:, :, i], -round(at - level)) for i, at in enumerate(lean)]
    step = max(_BACKGROUND_ROWS, 8 * math.ceil(float(spectrum.attrs["fwhm"])))
    profiles = _without_background(_trimmed(np.stack(upright, axis=-1)), step)
    reference = _brightest(profiles)
    own = profiles[reference]
    energy = float(np.add.reduce(own**2))
    found = [_shift_of(one, own) for one in profiles]
    rows = np.array([shift for shift, _ in found])
    part = np.array([top for _, top in found]) / energy
    seen = np.array([_is_seen(one, own) for one in profiles])
    if np.count_nonzero(seen) < 2:
        return None
    fwhm = min(float(spectrum.attrs["fwhm"]), FWHM_PER_SIGMA * peak_of(own)[1])
    middle = level - float(lights[X if is_upright(lights) else Y].values[0])
    half = float(spectrum.attrs["half_height"])
    inside = slice(max(round(middle - half), 0), round(middle + half) + 1)
    if np.ptp(rows[seen]) <= MOVED_FWHM * fwhm:
        return None
    if not _needs_alignment(profiles[seen], rows[seen], inside):
        return None
    share = np.where(seen, np.add.reduce(at_trace, axis=1) / np.maximum(part, 1e-9), -np.inf)
    rows = np.where(seen, rows - rows[int(np.argmax(share))], np.nan)
    return StarMotion(rows, np.full(rows.size, np.nan), moved=True, fwhm=fwhm)


def _slit_blocks(lights: xr.Dataset, minus: xr.Dataset | None) -> Values:
    """Return means (frame, row, block) of blocks of columns, for all rows of the slit."""
    if is_upright(lights):
        size = lights.sizes[Y]
        starts = np.linspace(0, size, _N_BLOCKS + 1)[:-1].astype(np.intp)
        parts = []
        for start in starts + size // (2 * _N_BLOCKS):
            some = {Y: slice(start, min(start + _SAMPLED_ROWS, size))}
            values = lights[COUNTS].isel(some).values.astype(np.float64)
            if minus is not None:
                values = values - minus[COUNTS].isel(some).values
            good = np.isfinite(values)
            total = np.add.reduce(np.where(good, values, 0.0), axis=1)
            parts.append(total / np.maximum(np.count_nonzero(good, axis=1), 1))
        return np.stack(parts, axis=-1)
    frames = lights[COUNTS].data
    dark = np.zeros(frames.shape[1:]) if minus is None else minus[COUNTS].values
    if isinstance(frames, np.ndarray):
        return _blocks_of_band(frames, dark)
    import dask.array as da

    bands = frames.rechunk({0: -1, 2: -1})
    n_blocks = min(_N_BLOCKS, frames.shape[2])
    of_dark = da.from_array(dark, chunks=(bands.chunks[1], -1))[np.newaxis]
    chunks = (bands.chunks[0], bands.chunks[1], (n_blocks,))
    found = da.map_blocks(_blocks_of_band, bands, of_dark, chunks=chunks, dtype=np.float64)
    return np.asarray(found)


def _blocks_of_band(frames: NDArray[Any], dark: Values) -> Values:
    """Return means (frame, row, block) of a band of frames less the dark."""
    dark = dark.reshape(dark.shape[-2:])
    means = []
    for frame in frames:
        values = frame.astype(np.float64) - dark
        good = np.isfinite(values)
        means.append(_block_means(np.where(good, values, 0.0), good))
    return np.array(means)


def _moved_values(values: Values, by: int) -> Values:
    """Return values (..., row) moved up by some rows; 0 where none come from.

    Examples
    --------
    >>> _moved_values(np.array([1.0, 2.0, 3.0]), 1).tolist()
    [0.0, 1.0, 2.0]
    """
    moved = np.zeros_like(values)
    n = values.shape[-1]
    if abs(by) < n:
        moved[..., max(by, 0) : n + min(by, 0)] = values[..., max(-by, 0) : n - max(by, 0)]
    return moved


def _is_seen(profile: Values, reference: Values) -> bool:
    """Return whether a profile holds the light of a reference somewhere, beyond its noise."""
    product = np.correlate(profile, reference, "same")
    noise = 1.4826 * float(np.median(np.abs(product - np.median(product))))
    return bool(product.max() > _LEAST_SIGNIFICANCE * noise)


def _needs_alignment(profiles: Values, rows: Values, inside: slice) -> bool:
    """Return whether aligning profiles (frame, row) makes their sum sharper, or saves light.

    Parameters
    ----------
    inside : the rows of the aperture.
    """
    aligned = [_moved_values(one, -by) for one, by in zip(profiles, _whole(rows), strict=True)]
    before, after = (np.add.reduce(some, axis=0) for some in (profiles, np.array(aligned)))
    sharper = float(np.add.reduce(after**2) / np.add.reduce(before**2))
    row = np.arange(profiles.shape[1], dtype=np.float64)
    exact = [np.interp(row + by, row, one) for one, by in zip(profiles, rows, strict=True)]
    if _differences(np.array(exact)) < _SAME_PROFILE * _differences(profiles):
        return sharper > _OF_POINTS
    held = np.add.reduce(profiles[:, inside], axis=1) / np.add.reduce(
        np.maximum(profiles, 0.0), axis=1
    )
    lost = 1.0 - float(held.min() / held.max())
    return sharper > _LEAST_SHARPENING or (sharper > 1.0 and lost > _LARGEST_LOSS)


def _differences(profiles: Values) -> float:
    """Return by how much profiles (frame, row) differ from the sum of the others, in parts of it.

    Each is compared with the others at its own brightness.
    """
    total, left = np.add.reduce(profiles, axis=0), 0.0
    for one in profiles:
        others = total - one
        height = float(np.add.reduce(one * others) / np.add.reduce(others**2))
        left += float(np.add.reduce((one - height * others) ** 2) / np.add.reduce(one**2))
    return left


def _whole(shifts: Values | float) -> NDArray[np.intp]:
    return np.rint(np.nan_to_num(shifts)).astype(np.intp)


# Shift along the dispersion: `spectral_shifts`.


def along_dispersion(motion: StarMotion, light: FrameLight) -> StarMotion:
    """Return a motion with the shifts along the dispersion, by the star's lines or those of sky."""
    for spectra, by in ((light.star, "the star's lines"), (light.sky, "sky lines")):
        shifts, error = spectral_shifts(spectra)
        if np.isfinite(shifts).all():
            return motion._replace(columns=shifts, by=by, error=error)
    return motion._replace(columns=np.full(len(light.star), np.nan), by="", error=0.0)


def spectral_shifts(spectra: Values) -> tuple[Values, float]:
    """Return by how much the lines of spectra lie above those of their median, pixels.

    Parameters
    ----------
    spectra : (frame, x), at least two.

    Returns
    -------
    shifts (frame), 0 on average: those of highest likelihood, outliers having little weight; all
    NaN where the lines are too weak to tell them to 0.05 pixel. And their standard deviation.

    Examples
    --------
    >>> x = np.arange(300.0)
    >>> lines = [sum(np.exp(-((x - at - by) ** 2) / 8) for at in (60, 151, 222)) for by in (0, 0.4)]
    >>> spectral_shifts(np.array(lines))[0].round(1).tolist()
    [-0.2, 0.2]
    """
    n_frames, n = spectra.shape
    unknown = np.full(n_frames, np.nan)
    if n < 4 * _HIGH_PASS:
        return unknown, math.inf
    fine = _lines_of(spectra)
    reference = int(np.argmax(np.add.reduce(np.abs(fine), axis=1)))
    shifts = np.array([_shift_of(one, fine[reference], _FARTHEST_SHIFT)[0] for one in fine])
    column = np.arange(n, dtype=np.float64)
    errors = unknown
    for _ in range(_SHIFT_ROUNDS):
        shifts = shifts - float(np.median(shifts))
        aligned = [
            np.interp(column + by, column, one) for one, by in zip(fine, shifts, strict=True)
        ]
        template = median(np.array(aligned)[:, np.newaxis])[0]
        found = [_shift_left(one, template, n_frames) for one in np.array(aligned)]
        shifts = shifts + np.array([by for by, _ in found])
        errors = np.array([error for _, error in found])
    if not ((errors < _LARGEST_SHIFT_ERROR).all() and _have_common_lines(aligned)):
        return unknown, math.inf
    error = math.sqrt(float(np.add.reduce(errors**2)) / n_frames)
    return shifts - float(np.add.reduce(shifts) / n_frames), error


def _lines_of(spectra: Values) -> Values:
    """Return the fine structure (frame, x) of spectra, without cosmic rays.

    None is higher than two thirds of the frames have one in reach; of two frames or three, the
    lowest counts. Left in, cosmic rays are what the frames have in common once they are shifted
    onto each other: lights with two tracks each were said to have moved by pixels. They are taken
    off twice, since the running mean is too high beside them at first.
    """
    reach = ((0, 0), (_FARTHEST_SHIFT, _FARTHEST_SHIFT))
    third = (len(spectra) - 1) // 3
    for _ in range(2):
        fine = np.array([_fine_structure(one) for one in spectra])
        near = sliding_window_view(np.pad(fine, reach, "edge"), 2 * _FARTHEST_SHIFT + 1, axis=1)
        reached = near.max(axis=-1)
        spikes = np.maximum(fine - np.partition(reached, third, axis=0)[third], 0.0)
        spectra = spectra - spikes * np.array([[_level_of(one)] for one in spectra])
    return np.asarray(fine - spikes)


def _have_common_lines(aligned: Sequence[Values]) -> bool:
    """Return whether aligned spectra show the same lines, beyond their noise.

    Three spectra of nothing but noise, each shifted to where it is most like the others, resemble
    their median well enough to pass for lines (40 % of trials). Halves of the spectra do not: the
    product of theirs was 4.2 times its noise at most, and 11 or more for lines that tell a shift
    to 0.05 pixel. Of two spectra the highest line does not count, for tracks of cosmic rays in
    both, some pixels apart, look like one line that moved.
    """
    first, second = (
        np.min(half, axis=0) if len(half) < 3 else median(np.array(half)[:, np.newaxis])[0]
        for half in (aligned[::2], aligned[1::2])
    )
    apart = np.abs(first - second)
    sigma = 1.4826 * _middle_of(apart) / math.sqrt(2.0)
    # Of bright stars, what interpolating leaves of a line is more than their noise.
    highest = np.maximum(np.abs(first), np.abs(second))
    calm = apart <= 5.0 * math.sqrt(2.0) * sigma + 0.5 * highest
    if len(aligned) == 2:
        at = int(np.argmax(np.minimum(first, second)))
        calm[max(at - _FARTHEST_SHIFT, 0) : at + _FARTHEST_SHIFT + 1] = False
    product = float(np.add.reduce((first * second)[calm]))
    powers = [float(np.add.reduce(one[calm] ** 2)) for one in (first, second)]
    noise = sigma * math.sqrt(math.sqrt(powers[0] * powers[1]))
    return product > _LEAST_SIGNIFICANCE * noise


def _fine_structure(spectrum: Values) -> Values:
    """Return the lines (x) of a spectrum, as parts of its median flux or of their own sum."""
    smooth = running_mean(spectrum, np.isfinite(spectrum), _HIGH_PASS)
    return np.asarray((spectrum - smooth) / _level_of(spectrum))


def _level_of(spectrum: Values) -> float:
    """Return the median of the flux (x) without its sign; 1 where that is 0."""
    return _middle_of(np.abs(spectrum)) or 1.0


def _middle_of(values: Values) -> float:
    """Return the upper median of values (x): in a third of the time of that of numpy."""
    return float(np.partition(values, values.size // 2)[values.size // 2])


def _shift_left(spectrum: Values, template: Values, n_frames: int) -> tuple[float, float]:
    """Return the shift of a spectrum (x) from a template, and its standard deviation, pixels.

    The noise of the template makes slopes of its own; where they hold a quarter of the power of
    all slopes, the standard deviation is infinite.
    """
    slope = np.gradient(template)
    least = _TEMPLATE_ERROR * math.sqrt(float(np.add.reduce(template**2)) / template.size)
    weight = np.ones_like(template)
    shift, sigma = 0.0, 0.0
    for _ in range(_SHIFT_ROUNDS):
        of_template, of_slope = weight * template, weight * slope
        tt, ts, ss = (
            float(np.add.reduce(one * other))
            for one, other in ((of_template, template), (of_template, slope), (of_slope, slope))
        )
        ft, fs = (float(np.add.reduce(one * spectrum)) for one in (of_template, of_slope))
        if not (tt * ss > ts * ts and least > 0):
            return 0.0, math.inf
        height = (ft * ss - fs * ts) / (tt * ss - ts * ts)
        product = (ft * ts - fs * tt) / (tt * ss - ts * ts)
        left = spectrum - height * template + product * slope
        sigma = 1.4826 * _middle_of(np.abs(left))
        weight = 1.0 / (1.0 + (left / (3.0 * max(sigma, least))) ** 2) ** 2
        shift = float(product / height) if height > 0 else math.inf
    power = float(np.add.reduce(weight * slope**2))
    by_noise = slope.size * sigma**2 / (2 * n_frames)
    if power < _LEAST_POWER * by_noise or not abs(shift) < _FARTHEST_SHIFT:
        return 0.0, math.inf
    return shift, sigma / math.sqrt(power - by_noise)


# Two stars of one name: `other_stars`.


def other_stars(light: FrameLight, motion: StarMotion) -> Flags:
    """Return which frames (frame) show another star than those in which it is at the trace.

    Parameters
    ----------
    light : of the aligned frames.
    motion : their motion, frames in which the star is unseen left out.
    """
    groups = _positions(motion.rows, motion.fwhm)
    own = groups == groups[int(np.argmin(np.abs(motion.rows)))]
    first = _common_spectrum(light.star[own])
    other = np.zeros(own.size, np.bool_)
    for group in np.unique(groups[~own]):
        there = groups == group
        other |= there & differ(first, _common_spectrum(light.star[there]))
    return other


def _positions(rows: Values, fwhm: float) -> NDArray[np.intp]:
    """Return the number (frame) of the position of each frame: gaps of a FWHM part positions."""
    order = np.argsort(rows, kind="stable")
    number = np.empty(rows.size, np.intp)
    number[order] = np.cumsum(np.append(0, np.diff(rows[order]) > fwhm))
    return number


def differ(one: Values, other: Values) -> bool:
    """Return whether two spectra (x) are of different stars, by their colours or their lines.

    Spectra too faint to tell are not said to differ.
    """
    edges = np.linspace(0, one.size, min(_N_RATIOS, one.size // 4) + 1).astype(np.intp)[:-1]
    sizes = np.diff(np.append(edges, one.size))
    fine, levels, noises = [], [], []
    for spectrum in (one, other):
        fine.append(_fine_structure(spectrum) * float(np.median(np.abs(spectrum))))
        noises.append(1.4826 * float(np.median(np.abs(np.diff(spectrum)))) / math.sqrt(2))
        levels.append(np.add.reduceat(spectrum, edges) / sizes)
    error = [noise / np.sqrt(sizes) for noise in noises]
    lit = (levels[0] > 10 * error[0]) & (levels[1] > 10 * error[1])
    if np.count_nonzero(lit) > edges.size // 2:
        ratio = levels[1][lit] / levels[0][lit]
        scatter = 1.4826 * float(np.median(np.abs(ratio / np.median(ratio) - 1.0)))
        if scatter > _DIFFERENT_COLOUR:
            return True
    by = round(_shift_of(fine[1], fine[0], _FARTHEST_SHIFT)[0])
    fine[1] = _moved_values(fine[1], -by)
    lines = [np.abs(f) > _LINE_SIGMA * noise for f, noise in zip(fine, noises, strict=True)]
    if min(map(np.count_nonzero, lines)) < _LEAST_COLUMNS:
        return False
    first, second = (_ranks(f[lines[0] | lines[1]]) for f in fine)
    return bool(np.corrcoef(first, second)[0, 1] < _SAME_LINES)


def _ranks(values: Values) -> Values:
    """Return the rank of each value: in ranks, a cosmic ray weighs no more than a line."""
    ranks = np.empty(values.size)
    ranks[np.argsort(values, kind="stable")] = np.arange(values.size)
    return ranks


def _common_spectrum(spectra: Values) -> Values:
    """Return the sum of spectra (frame, x) by their median, or the lower of two: no cosmic rays."""
    flux = np.median(spectra, axis=1)
    scaled = spectra / np.where(flux > 0, flux, 1.0)[:, np.newaxis]
    common = np.median(scaled, axis=0) if len(spectra) > 2 else scaled.min(axis=0)
    return np.asarray(common * float(np.add.reduce(flux)))


# Aligned frames and their combination: `align_star`, `align_frames`, `combine_aligned`.


def align_star(
    cube: xr.Dataset, combined: xr.Dataset, spectrum: xr.Dataset, motion: StarMotion
) -> tuple[xr.Dataset, StarMotion, NDArray[np.intp], list[str]]:
    """Return the calibrated frames that show a star that moved, aligned by whole pixels.

    Parameters
    ----------
    cube : counts and `dq` (frame, y, x), and `variance` where known.
    combined : the plain combination (y, x) of all frames.
    spectrum : extracted from it.
    motion : of the star, along the slit.

    Returns
    -------
    cube : the frames that are used, as lazy as they came.
    motion : of all frames, along the dispersion too.
    shifts : (frame, 2) of those used, whole pixels.
    remarks : on the frames that are not used.
    """
    used = np.isfinite(motion.rows)
    own = motion._replace(rows=motion.rows[used])
    names = np.atleast_1d(cube[FRAME].values)
    cube = align_frames(cube.isel({FRAME: used}), own.rows, np.zeros(own.rows.size))
    light = light_about(cube[[COUNTS]], combined[[COUNTS]], spectrum)
    other = other_stars(light, own)
    told = _unused_frames(names, ~used, np.flatnonzero(used)[other])
    used[used] = ~other
    cube, light = cube.isel({FRAME: ~other}), light.of(~other)
    own = along_dispersion(own._replace(rows=own.rows[~other]), light)
    own = own._replace(columns=own.columns - own.columns[int(np.argmin(np.abs(own.rows)))])
    if (np.abs(own.columns) > _SMALLEST_SHIFT).any():
        cube = align_frames(cube, np.zeros(own.rows.size), own.columns)
    rows, columns = np.full((2, used.size), np.nan)
    rows[used], columns[used] = own.rows, own.columns
    return cube, own._replace(rows=rows, columns=columns), own.whole, told


def _unused_frames(
    names: NDArray[Any], unseen: NDArray[np.bool_], other: NDArray[np.intp]
) -> list[str]:
    """Return remarks on the lights that do not show the star, or show another one."""
    told = []
    if unseen.any():
        told.append(to_check(f"not used, star not detected: {', '.join(map(str, names[unseen]))}"))
    if other.size:
        told.append(
            to_check(
                f"another star, by its spectrum, in {', '.join(map(str, names[other]))}: not used; "
                "set another object for these frames in the night file"
            )
        )
    return told


def align_frames(cube: xr.Dataset, rows: Values, columns: Values) -> xr.Dataset:
    """Return calibrated frames moved back so that a star lies where it should.

    They move by whole pixels across the dispersion, and along it where that leaves less than 0.1;
    else two columns are interpolated, since the star's lines would be blurred and displaced.

    Parameters
    ----------
    cube : counts and `dq` (frame, y, x), and `variance` where known, eager or chunked.
    rows, columns : (frame), shifts across and along the dispersion; NaN: not moved.

    Returns
    -------
    cube : of the same shape. Counts are NaN where a pixel is bad or saturated, or comes from
        outside the frame.
    """
    across, along = (X, Y) if is_upright(cube) else (Y, X)
    spoilt = (cube[DQ] & (BAD_PIXEL | SATURATED | NO_DATA)) != 0
    good = cube.assign({COUNTS: cube[COUNTS].where(~spoilt).assign_attrs(cube[COUNTS].attrs)})
    names = [name for name in (COUNTS, VARIANCE, DQ) if name in good]
    moved = []
    for i, (row, column) in enumerate(zip(rows, columns, strict=True)):
        one, part = good.isel({FRAME: [i]}), float(np.nan_to_num(column) - _whole(column))
        by = {across: -int(_whole(row)), along: -int(_whole(column))}
        planes = {name: _shifted(one[name], by) for name in names}
        if abs(part) > _SMALLEST_SHIFT:
            by[along] -= int(np.sign(part))
            planes = {
                name: _interpolated(plane, _shifted(one[name], by), abs(part))
                for name, plane in planes.items()
            }
        moved.append(one.assign(planes))
    return frames_as_cube(moved)


def _shifted(plane: xr.DataArray, by: dict[str, int]) -> xr.DataArray:
    """Return a plane of frames moved by whole pixels; no data comes from outside."""
    return plane.shift(by, fill_value=NO_DATA if plane.name == DQ else np.nan)


def _interpolated(near: xr.DataArray, far: xr.DataArray, part: float) -> xr.DataArray:
    """Return a plane between two, at a part of the way to the far one: its flags are of both."""
    if near.name == DQ:
        return near | far
    power = 2 if near.name == VARIANCE else 1
    return ((1 - part) ** power * near + part**power * far).assign_attrs(near.attrs)


def frames_as_cube(frames: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return single frames (frame, y, x) as one cube."""
    import xarray as xr

    cube: xr.Dataset = xr.concat(
        frames,
        FRAME,
        data_vars="minimal",
        coords="minimal",
        compat="override",
        join="exact",
        combine_attrs="override",
    )
    return cube


def combine_aligned(
    cube: xr.Dataset, common: Values | None, shifts: NDArray[np.intp], fwhm: float
) -> xr.Dataset:
    """Return the average of aligned frames (y, x), with its variance and flags.

    Parameters
    ----------
    cube : of `align_frames`, computed or chunked.
    common : variance (y, x) that frames at one position share, such as that of the master dark;
        None: unknown.
    shifts : (frame, 2), the whole pixels by which frames were moved, across and along.
    fwhm : of the star along the slit, rows: frames whose positions are nearer share a part of it.

    Returns
    -------
    image : `counts`, `variance` and `dq` (y, x), as lazy as the cube came. A pixel is flagged where
        no frame has a good value.
    """
    image = combine(cube)
    if VARIANCE in image:
        plane = image[VARIANCE]
        if common is not None:
            plane = plane + _shared_variance(common, shifts, fwhm, is_upright(cube))
        image = image.assign(
            {VARIANCE: plane.astype(np.float32).assign_attrs(cube[VARIANCE].attrs)}
        )
    return add_history(image, f"average of {len(shifts)} frames, aligned")


def _shared_variance(
    common: Values, shifts: NDArray[np.intp], fwhm: float, upright: bool
) -> Values:
    """Return what variance that frames share adds to that of a mean of independent frames.

    A pixel of the dark that lies in the star of two frames, some rows apart, adds twice to its
    flux, as far as the profile and the moved profile overlap: `4 ** -(rows / fwhm)**2` for a
    Gaussian. In units of a pixel this is variance that both frames share; without it the errors of
    a star that drifts by half its FWHM were a tenth too small.
    """
    n = len(shifts)
    plane = common.T if upright else common
    total = np.zeros_like(plane)
    for shift in np.unique(shifts, axis=0):
        across, along = (shifts - shift).T
        overlap = np.where(along == 0, 4.0 ** -((across / fwhm) ** 2), 0.0)
        here = np.count_nonzero((across == 0) & (along == 0))
        others = float(np.add.reduce(overlap)) - 1.0
        moved = _moved_values(_moved_values(plane.T, -int(shift[0])).T, -int(shift[1]))
        total += moved * (here * others / n**2)
    return total.T if upright else total
