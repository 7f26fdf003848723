"""Check frames by a few of their pixels for errors that headers do not show.

Target changes (`target_change_warnings`): two stars exposed alike cannot be told apart by their
headers. In each frame with a clear trace three quantities are measured: the row of the trace, its
flux, and the structure of its spectrum, that is the spectrum in bins of eight columns divided by
its own smooth continuum, minus one. A frame is reported as unlike the one before it if the trace
has moved by more than its width and three rows, if the flux differs by more than a factor of
three, or if the structures, both well above their noise, correlate by less than 0.3 at any shift
of up to two bins.

Each frame is compared with the next, not all with the first, so that slow drifts do not add up.
Exposures of one star on real nights differ by one row and 20 % in flux and correlate above 0.9;
two stars that were once mixed up lay seven rows apart and correlated at -0.50.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.config import Instrument
from arrayred.errors import FrameError, HeaderError, InputError, MismatchError
from arrayred.io.files import find_image, folders_in, list_files
from arrayred.io.frames import (
    Frame,
    PixelDecision,
    frame_from_header,
    taken_for,
    without_type_warnings,
    words_of,
)
from arrayred.io.pixels import MOST_PROBED, FrameStack, plain_pixels, read_rows
from arrayred.io.remote import Address
from arrayred.io.scan import (
    OVERSCAN_CARD,
    ImageHDU,
    PixelFormat,
    PixelSource,
    stored_dtype,
    turned,
    unreadable,
)
from arrayred.kernels.combine import median, without_impossible
from arrayred.kernels.rows import bright_runs, matched_filter, robust_std, runs_of_light
from arrayred.model import Section, Sections, Unsigned, to_check

Values = NDArray[np.float64]

_MOST_BYTES = 64 << 20
_MIN_PROBED_ROWS = 128
_TRACE_COLUMNS = 128
_STANDS_OUT = 20.0
_SHIFT_LIMIT = 3.0
_RATIO = 3.0
_CORRELATED = 0.3
_RELIABLE = 0.8
_BIN = 8
_SATURATED = 0.01
_EVERY_SKY_ROW = 2
_SHIFTS = 2


@dataclass(frozen=True)
class TraceProbe:
    """Measurements of the brightest trace of one frame.

    Parameters
    ----------
    stands_out : whether a trace is clearly detected.
    peak : median over the columns of its brightest row, adu; without a trace the detection limit.
    row : its centroid, from 1.
    width : full width at half maximum, rows.
    light : its flux, the profile (median over the columns) summed over the width, adu.
    structure : of the spectrum, by bins; dimensionless.
    reliability : fraction of the structure's variance that is not noise.
    """

    stands_out: bool
    peak: float
    row: float = 0.0
    width: float = 0.0
    light: float = 0.0
    structure: Values = field(default_factory=lambda: np.empty(0))
    reliability: float = 0.0


def target_change_warnings(frames: Sequence[Frame]) -> list[str]:
    """Return a line for every light frame that seems to show another target than the one before.

    Parameters
    ----------
    frames : light frames of one group, in canonical order. In a group above 64 MB only some rows
        of each frame are read.
    """
    if len(frames) < 2:
        return []
    n_bytes = sum(frame.image.source.n_bytes for frame in frames)
    step = max(1, min(-(-n_bytes // _MOST_BYTES), _length(frames[0]) // _MIN_PROBED_ROWS))
    traces = ((frame, probe_trace(frame, step)) for frame in frames_to_probe(frames))
    readable = [(frame, trace) for frame, trace in traces if trace is not None]
    return [
        f"{after.label} seems to show a different target from {before.label}: {difference}"
        for (before, one), (after, other) in pairwise(readable)
        if (difference := _target_difference(one, other, step))
    ]


def probe_trace(frame: Frame, step: int = 1) -> TraceProbe | None:
    """Return the trace of a frame's brightest spectrum; None where the frame cannot be read."""
    try:
        return _trace_in_image(frame.image, frame.dispersion_axis == 2, step)
    except FrameError:
        return None


def _length(frame: Frame) -> int:
    return frame.shape[1 if frame.dispersion_axis == 2 else 0]


def _target_difference(one: TraceProbe, other: TraceProbe, step: int) -> str:
    """Return the differences that indicate two targets, with all numbers; "" if there are none."""
    if not (one.stands_out and other.stands_out):
        return _missing_trace(one, other)
    moved, ratio = abs(one.row - other.row), other.light / one.light
    is_known = min(one.reliability, other.reliability) >= _RELIABLE
    correlation = _correlation(one.structure, other.structure) if is_known else None
    is_unlike = (
        moved > max(_SHIFT_LIMIT, 2.0 * step, one.width, other.width)
        or max(ratio, 1 / ratio) > _RATIO
        or (correlation is not None and correlation < _CORRELATED)
    )
    if not is_unlike:
        return ""
    told = "" if correlation is None else f", spectra with correlation {correlation:.2f}"
    return f"trace at row {other.row:.0f}, not {one.row:.0f}, {ratio:.2g} times the light{told}"


def _missing_trace(one: TraceProbe, other: TraceProbe) -> str:
    """Return text if only one frame has a trace, three times above the other's limit; else ""."""
    if one.stands_out == other.stands_out:
        return ""
    seen, hidden = (one.peak, other.peak) if one.stands_out else (other.peak, one.peak)
    if seen <= _RATIO * hidden:
        return ""
    if other.stands_out:
        return f"a trace at row {other.row:.0f}, where there was none above {one.peak:.3g} adu"
    return f"no trace above {other.peak:.3g} adu, where there was one of {one.peak:.3g}"


@lru_cache(maxsize=1024)
def _trace_in_image(image: ImageHDU, is_vertical: bool, step: int) -> TraceProbe | None:
    stack = FrameStack([plain_pixels(image)])
    if is_vertical:
        pixels = stack[0, :, ::step].T
    elif step == 1:
        pixels = stack[0, :, :]
    else:
        pixels = stack.rows(0, range(0, stack.shape[1], step))
    return _measured_trace(pixels, step)


def _measured_trace(pixels: NDArray[Any], step: int) -> TraceProbe | None:
    if pixels.dtype.kind == "f":
        pixels = without_impossible(pixels)
    every = max(pixels.shape[1] // _TRACE_COLUMNS, 1)
    some = np.ascontiguousarray(pixels[:, every // 2 :: every])
    profile = _medians(some)
    if not np.isfinite(profile).all():
        return None
    profile -= np.median(profile)
    peak = int(np.argmax(profile))
    hidden = _STANDS_OUT * max(robust_std(profile), robust_std(np.diff(profile)) / 2**0.5, 1e-9)
    if profile[peak] < hidden:
        return TraceProbe(stands_out=False, peak=hidden)
    first, stop = next(
        run for run in bright_runs(profile > profile[peak] / 2) if run[0] <= peak < run[1]
    )
    weights = profile[first:stop]
    centre = float(np.average(np.arange(first, stop), weights=weights))
    sky = median(_sky_beside(pixels, first, stop)[:, np.newaxis])[0]
    spectrum = median(pixels[first:stop, np.newaxis])[0]
    structure, reliability = _structure_of(spectrum - sky)
    return TraceProbe(
        stands_out=True,
        peak=float(profile[peak]),
        row=1.0 + step * centre,
        width=float(step * (stop - first)),
        light=float(step * np.sum(weights)),
        structure=structure,
        reliability=0.0 if _is_saturated(spectrum) else reliability,
    )


def _sky_beside(pixels: NDArray[Any], first: int, stop: int) -> NDArray[Any]:
    """Return rows on both sides of a trace, twice its width away."""
    width = stop - first
    below = pixels[max(first - 3 * width, 0) : max(first - 2 * width, 0)]
    above = pixels[stop + 2 * width : stop + 3 * width]
    beside = np.concatenate([below, above])[::_EVERY_SKY_ROW]
    return beside if len(beside) else pixels[:: max(len(pixels) // 16, 1)]


def _structure_of(spectrum: Values) -> tuple[Values, float]:
    """Return the binned spectrum over its continuum, minus one, and its non-noise fraction."""
    n_bins = spectrum.size // _BIN
    binned = spectrum[: n_bins * _BIN].reshape(n_bins, _BIN).mean(axis=1)
    course = _running_means(binned, max(n_bins // 6, 3))
    scale = np.maximum(course, max(float(course.max()) / 20, 1e-9))
    structure = (binned - course) / scale
    noise = robust_std(np.diff(spectrum)) / (2.0 * _BIN) ** 0.5 / scale
    variance = float(np.mean(structure**2))
    if n_bins < 8 or variance == 0.0:
        return structure, 0.0
    return structure, 1.0 - float(np.mean(noise**2)) / variance


def _is_saturated(spectrum: Values) -> bool:
    """Return whether more than 1 % of the columns have the brightest value: no structure known."""
    return float(np.mean(spectrum == spectrum.max())) > _SATURATED


def _running_means(values: Values, width: int) -> Values:
    """Return running means, over fewer values at the ends."""
    window = np.ones(width)
    counts = np.convolve(np.ones_like(values), window, "same")
    return np.asarray(np.convolve(values, window, "same") / counts)


def _correlation(one: Values, other: Values) -> float:
    """Return the highest correlation of two structures at any shift of up to two bins."""
    n = min(one.size, other.size)
    shifts = range(-_SHIFTS, _SHIFTS + 1)
    pairs = [(one[max(s, 0) : n + min(s, 0)], other[max(-s, 0) : n + min(-s, 0)]) for s in shifts]
    return max(_correlated(a - a.mean(), b - b.mean()) for a, b in pairs)


def _correlated(a: Values, b: Values) -> float:
    size = float(np.sum(a**2)) ** 0.5 * float(np.sum(b**2)) ** 0.5
    return float(np.sum(a * b)) / size if size > 0 else 0.0


# Blocks of missing pixels not declared by BLANK: `warn_of_blocks`.
#
# Such a block is -32768 throughout in signed files, and 32768 where counts wrapped. One pixel may
# have that value by chance; where more than 0.2 % of a frame's sampled pixels have it, and at most
# half as many the next value, a warning is given. The pixels are not changed.

_BLOCK_FRACTION = 0.002


def warn_of_blocks(frames: Iterable[Frame]) -> list[Frame]:
    """Return the frames, with a warning where many pixels have the lowest value of their dtype."""
    return [_with_block_warning(f) if _may_hold_a_block(f) else f for f in frames]


def _may_hold_a_block(frame: Frame) -> bool:
    """Return whether a frame is an uncompressed raw one of signed integers without BLANK."""
    pixels = frame.image.source.pixels
    is_signed = pixels.bitpix in (16, 32) and (pixels.bzero, pixels.bscale) == (0.0, 1.0)
    return (
        is_signed
        and not frame.is_product
        and pixels.blank is None
        and frame.image.packing == "plain"
    )


def _with_block_warning(frame: Frame) -> Frame:
    sample, pixels = sample_frame(frame), frame.image.source.pixels
    if sample is None:
        return frame
    lowest = float(2 ** (pixels.bitpix - 1)) * (1 if pixels.wrapped else -1)
    there, beside = sample.share(lowest, lowest + 1), sample.share(lowest + 1, lowest + 2)
    if there <= _BLOCK_FRACTION or beside > there / 2:
        return frame
    told = (
        f"{there:.1%} of the pixels are {lowest:.0f}, as if missing, but BLANK is not set; they "
        "are used as counts"
    )
    return _with_warning(frame, to_check(told))


# Duplicate frames: a copy under another name, or a compressed copy.
#
# Frames of one type, exposure, start and shape are compared by a hash of their pixels; only such
# frames are read. The camera cannot have taken both.


def repeated_frames(frames: Sequence[Frame]) -> dict[str, str]:
    """Return the labels of frames that duplicate an earlier one, each with the earlier label.

    Parameters
    ----------
    frames : in canonical order. Those above 256 MB are assumed to be unique.
    """
    alike: dict[tuple[object, ...], list[Frame]] = defaultdict(list)
    for frame in frames:
        if frame.image.source.n_bytes <= MOST_PROBED:
            alike[frame.frame_type, frame.exptime, frame.time, frame.shape].append(frame)
    repeated: dict[str, str] = {}
    for suspects in alike.values():
        first_of: dict[str, str] = {}
        for frame in sorted(suspects, key=_is_from_library) if len(suspects) > 1 else []:
            first = first_of.setdefault(_digest(frame), frame.label)
            if first != frame.label:
                repeated[frame.label] = first
    return repeated


def _whole_image(image: ImageHDU) -> NDArray[Any]:
    """Return all pixels (y, x) of an image, as stored."""
    return np.asarray(FrameStack([plain_pixels(image)])[0, slice(None), slice(None)])


def _is_from_library(frame: Frame) -> bool:
    return bool(frame.library)


def _digest(frame: Frame) -> str:
    """Return the sha256 of a frame's pixels, or its label where they cannot be read."""
    try:
        pixels = _whole_image(frame.image)
    except FrameError:
        return frame.label
    return hashlib.sha256(pixels.tobytes()).hexdigest()


# Unusable flats: saturated, too faint, or not illuminated (`why_flat_unusable`).
#
# A flat is refused where one bright pixel in a hundred is at the highest value that occurs, more
# than by chance: the converter or the pixels were saturated, and their response is unknown. It is
# refused where the level that one pixel in twenty exceeds is within three times the noise of its
# dark above it: the lamp was off. And it is refused where less than a tenth of the pixels reach a
# tenth of the brightest signal: that is a star labelled as a flat, not an illuminated slit.

_PLATEAU_FRACTION = 0.01
_MIN_FULL_PIXELS = 5
_MIN_FLAT_SNR = 3.0
_MOST_LIGHT = 1e12
_BRIGHT_QUANTILE = 0.95
_BRIGHTEST_QUANTILE = 0.995
_TENTH = 0.1


def why_flat_unusable(flat: Frame, dark: Frame | None) -> str:
    """Return the reason why a flat cannot be used, or "".

    Parameters
    ----------
    flat : the frame.
    dark : one of the darks that are subtracted from it, or None if already subtracted.
    """
    sample = sample_frame(flat)
    if sample is None:
        return ""
    bright = sample.values[sample.values > 0.5 * (sample.values[0] + sample.values[-1])]
    top = float(sample.values[-1])
    n_full = int(np.count_nonzero(bright == top))
    if n_full >= max(_MIN_FULL_PIXELS, _PLATEAU_FRACTION * bright.size) and _is_plateau(
        bright, n_full
    ):
        return f"saturated: {n_full} of {sample.values.size} sampled pixels are at {top:g}"
    below = sample_frame(dark) if dark is not None else None
    level = below.level if below is not None else 0.0
    noise = below.noise if below is not None else sample.noise
    lights = sample.values - level
    light = float(lights[int(_BRIGHT_QUANTILE * (lights.size - 1))])
    if light > 0 and not 1 / _MOST_LIGHT < light < _MOST_LIGHT:
        return f"not a flat: {light:g} above its dark cannot be counts, nor counts over their mean"
    if light <= (_MIN_FLAT_SNR * noise if below is not None else 0.0):
        return f"too faint: {light:g} above its dark, whose noise is {noise:.3g}"
    brightest = float(lights[int(_BRIGHTEST_QUANTILE * (lights.size - 1))])
    lit = np.count_nonzero(lights > _TENTH * brightest) / lights.size
    return f"lit on {100 * lit:.0f} % of its pixels only" if lit < _TENTH else ""


def _is_plateau(bright: np.ndarray[tuple[int], np.dtype[np.float64]], n_full: int) -> bool:
    """Return whether the highest value is far more frequent than those below it."""
    _, counts = np.unique(bright, return_counts=True)
    return counts.size == 1 or n_full > 3 * int(counts[:-1].max())


# Traces and lines: narrow peaks of the means along each axis, `probe_peaks`.
#
# The spectrum of a star is narrow across the dispersion and runs along all of it: a peak of the
# medians over the columns (for a dispersion along the rows), and none of the medians over the rows.
# A lamp, a nebula and the night sky fill the slit: their lines are at the same columns in every
# row, many peaks of the medians over the rows. So the two kinds of frame look alike if the axes are
# exchanged, but for the number of peaks.

_PROBED_LINES = 64
_PEAK_SIGMA = 8.0
_NARROW = 0.1
_MOST_PEAKS = 20
_QUANTUM = 0.5  # adu


class Peak(NamedTuple):
    """A narrow peak of a profile: its pixel from 0, height above the median around it, and width.

    The height is in adu, the width that at half height, in pixels.
    """

    place: int
    height: float
    width: int


@dataclass(frozen=True)
class PeaksProbe:
    """The peaks of the row and the column profiles of a frame, in order of height."""

    of_rows: tuple[Peak, ...]
    of_columns: tuple[Peak, ...]

    def traces(self, dispersion_axis: int) -> tuple[Peak, ...]:
        """Return the peaks across the dispersion, but those of one pixel: hot rows or columns."""
        found = self.of_rows if dispersion_axis == 1 else self.of_columns
        return tuple(peak for peak in found if peak.width > 1)

    def lines(self, dispersion_axis: int) -> tuple[Peak, ...]:
        """Return the peaks along the dispersion."""
        return self.of_columns if dispersion_axis == 1 else self.of_rows


def probe_peaks(frame: Frame) -> PeaksProbe | None:
    """Return the peaks of a frame's profiles; None where it is not to be read, or cannot be."""
    if frame.image.source.n_bytes > MOST_PROBED:
        return None
    try:
        return _peaks_in_image(frame.image, frame.sections)
    except FrameError:
        return None


@lru_cache(maxsize=256)
def _peaks_in_image(image: ImageHDU, sections: Sections | None) -> PeaksProbe:
    pixels = _whole_image(image)
    if sections is not None and sections.trim is not None:  # no edge of an overscan is a peak
        row, column, n_rows, n_columns = sections.trim.window
        kept = pixels[row - 1 : row - 1 + n_rows, column - 1 : column - 1 + n_columns]
        around = [(row - 1, len(pixels) - len(kept) - row + 1)]
        around += [(column - 1, pixels.shape[1] - kept.shape[1] - column + 1)]
        pixels = np.pad(kept, around, "edge")
    pixels = without_impossible(pixels) if pixels.dtype.kind == "f" else pixels
    every, step = (max(n // _PROBED_LINES, 1) for n in reversed(pixels.shape))
    rows = np.ascontiguousarray(pixels[:, every // 2 :: every])
    columns = np.ascontiguousarray(pixels[step // 2 :: step].T)
    return PeaksProbe(_peaks_of(rows), _peaks_of(columns))


def _medians(lines: NDArray[Any]) -> Values:
    """Return the upper median of each row."""
    middle = lines.shape[1] // 2
    return np.partition(lines, middle, axis=1)[:, middle].astype(np.float64)


def _peaks_of(lines: NDArray[Any]) -> tuple[Peak, ...]:
    """Return the peaks of the medians of lines that are at most a twentieth, or 5 pixels, wide.

    The noise of a median is that of the profile's steps, but at least half a count: the medians of
    quiet integers are equal.
    """
    profile = _medians(lines)
    if not np.isfinite(profile).all():
        return ()
    above = profile - _running_median(profile)
    least = _QUANTUM if lines.dtype.kind in "iu" else 1e-9
    noise = max(robust_std(above), robust_std(np.diff(profile)) / 2**0.5, least)
    high = np.flatnonzero(above > _PEAK_SIGMA * noise)
    found: list[Peak] = []
    free = np.ones(profile.size, bool)
    for place in high[np.argsort(above[high], kind="stable")[::-1]]:
        if not free[place] or len(found) == _MOST_PEAKS:
            continue
        low = np.flatnonzero(above <= above[place] / 2)
        after = int(np.searchsorted(low, place))
        first = int(low[after - 1]) + 1 if after > 0 else 0
        stop = int(low[after]) if after < low.size else profile.size
        free[max(2 * first - stop, 0) : 2 * stop - first] = False
        if stop - first <= max(_NARROW / 2 * profile.size, 5):
            found.append(Peak(int(place), float(above[place]), stop - first))
    return tuple(found)


def _running_median(profile: Values) -> Values:
    """Return the median over a tenth of a profile around each value, interpolated."""
    width = max(int(_NARROW * profile.size), 3) | 1
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(profile, width // 2, "edge"), width)
    at = np.arange(0, len(windows), max(width // 8, 1))
    return np.interp(np.arange(profile.size), at, np.median(windows[at], axis=-1))


def _highest(peaks: Sequence[Peak]) -> float:
    """Return the height of the highest peak, adu, or 0."""
    return peaks[0].height if peaks else 0.0


# The dispersion axis where no card gives it: `find_dispersion_axis`.
#
# Raw frames hardly ever have DISPAXIS, which is IRAF's. One decision holds for all frames of one
# shape: what the card of any of them says (with a remark where the pixels contradict it), else what
# the pixels of the lights, arcs and flats show.
# A light shows a spectrum along an axis if the profile across it has one or two peaks, and that
# along it many: the lines of the sky; else if the profile across has one or two, and that along it
# none or such of a third of their height. More than two are the lines of a nebula as well as
# several stars, and even one or two may be either. So arcs, which have many, overrule the lights.
# Without them frames are turned only if no light shows the rows; if targets contradict each other
# there is a hint. Of a target no more frames are read than the first that shows an axis (4.5 ms for
# 1024 x 1536 pixels).
#
# A bad column, and one line of the sky that fills the slit of targets too faint to be seen, look
# like the only trace along the columns. So a trace without lines is believed only where a dark or
# bias has no such column, other targets have not the same counts per second there, no arc or flat
# shows the rows, and the robust rule finds no star too faint for a profile along the rows; else
# there is a hint.

_MOST_LIGHTS = 8
_MOST_LAMPS = 3
_RATIO_OF_PEAKS = 3.0
_MOST_TRACES = 2
_LINES_OF_SKY = {1: 3, 2: 5}  # along an axis: more evidence is asked of the columns
_BORDER = 0.02  # of the length: overscan and edges
_SAME_COLUMN = 2  # pixels
_MOST_GAP = 5  # dark rows within a spectrum
_BESIDE_PEAK = 12  # pixels
_SAME_RATE = 0.15


def find_dispersion_axis(
    frames: Sequence[Frame], instrument: Instrument, told: int | None = None
) -> list[Frame]:
    """Return the frames with their dispersion axis, decided once for each shape.

    Parameters
    ----------
    frames : of a night.
    instrument : its keywords, and the axis of its detector.
    told : the axis that the user gave for the night, 1 or 2, or None.
    """
    told = told or instrument.dispersion_axis
    if told is not None:
        return [replace(frame, dispersion_axis=told) for frame in frames]
    keywords = instrument.keywords["dispersion_axis"]
    by_shape: dict[tuple[int, int], list[Frame]] = defaultdict(list)
    for frame in frames:
        by_shape[frame.shape].append(frame)
    decided: dict[tuple[int, int], tuple[int, str]] = {}
    for shape, alike in by_shape.items():
        carded = [f for f in alike if any(k in f.image.header for k in keywords)]
        axes = {frame.dispersion_axis for frame in carded}
        if not carded:
            decided[shape] = _axis_of_pixels(alike)
        elif len(axes) == 1:
            axis = axes.pop()
            is_doubted = axis == 1 and _axis_of_pixels(alike)[0] == 2
            decided[shape] = axis, to_check(_CARD_DOUBTED) if is_doubted else ""
    return [_with_axis(f, *decided[f.shape]) if f.shape in decided else f for f in frames]


def _with_axis(frame: Frame, axis: int, told: str) -> Frame:
    frame = frame if frame.dispersion_axis == axis else replace(frame, dispersion_axis=axis)
    return _with_warning(frame, told) if told and frame.frame_type == "light" else frame


def _axis_of_pixels(frames: Sequence[Frame]) -> tuple[int, str]:
    """Return the dispersion axis that frames of one shape show, 1 if none, and a warning or "".

    Frames behind a URL are looked at when they are here: whole ones would be fetched.
    """
    frames = [frame for frame in frames if not frame.image.is_far]
    lights = [f for f in frames if f.frame_type == "light" and f.doubt is None]
    arcs = [f for f in frames if f.frame_type == "arc"][:_MOST_LAMPS] if lights else []
    of_arcs = {_axis_of_arc(peaks) for _, peaks in _probed(arcs)} - {0}
    shown: dict[int, dict[str, tuple[Frame, PeaksProbe]]] = {0: {}, 1: {}, 2: {}}  # by target
    sample = lights[:: max(len(lights) // _MOST_LIGHTS, 1)][:_MOST_LIGHTS]
    for frame, peaks in _probed(f for f in sample if f.target not in shown[1] | shown[2]):
        shown[_axis_of_light(peaks, frame.shape)][frame.target] = frame, peaks
    found = list(shown[2].values())
    if not found or (shown[1] and of_arcs):
        return (2, _TURNED.format(_ARC_LINES)) if of_arcs == {2} else (1, "")
    flats = [f for f in frames if f.frame_type == "flat"][:_MOST_LAMPS]
    rows_shown = 1 in of_arcs or any(_axis_of_light(p, f.shape) == 1 for f, p in _probed(flats))
    traces = [(f, _inner(peaks.traces(2), f.shape[1])[0]) for f, peaks in found]
    is_bad = _is_bad_column(traces[0][1].place, frames)
    frame = found[0][0]
    where = f"of {frame.label} runs along column {traces[0][1].place + 1}"
    is_crossed = any(len(peaks.lines(2)) >= _LINES_OF_SKY[2] for _, peaks in found)
    is_of_sky = _is_line_of_sky(traces)
    is_alone = is_bad is False and not is_of_sky
    is_clear = is_crossed or (is_alone and not _rows_hold_light(frame, frames, traces[0][1].place))
    if not shown[1] and not rows_shown and not is_bad and (is_clear or 2 in of_arcs):
        return 2, _TURNED.format(f"the trace {where}")
    if is_bad or (shown[1] and is_of_sky):
        return 1, ""
    along_rows = next((f"{f.label} shows a spectrum" for f, _ in shown[1].values()), _NONE)
    return 1, to_check(_MAY_BE_TURNED.format(along_rows, where))


_TURNED = (
    "dispersed along the columns (no DISPAXIS card): {}; use --dispersion-axis x if this is wrong"
)
_MAY_BE_TURNED = "{} along the rows, but a peak {}: if it is the spectrum, use --dispersion-axis y"
_CARD_DOUBTED = (
    "DISPAXIS is 1, but the spectrum seems to run along the columns: then use --dispersion-axis y"
)
_ARC_LINES = "the arc lines run along the rows"
_NONE = "no spectrum is detected"


def _probed(frames: Iterable[Frame]) -> Iterator[tuple[Frame, PeaksProbe]]:
    """Yield the frames that can be probed, each with its peaks."""
    for frame in frames_to_probe(frames):
        peaks = probe_peaks(frame)
        if peaks is not None:
            yield frame, peaks


def _inner(peaks: Iterable[Peak], length: int) -> tuple[Peak, ...]:
    """Return the peaks that do not lie at an end of their axis."""
    border = max(_BORDER * length, 8)
    return tuple(peak for peak in peaks if border <= peak.place < length - border)


def _axis_of_light(peaks: PeaksProbe, shape: tuple[int, int]) -> int:
    """Return the axis along which a frame shows a spectrum, or 0."""
    alone = 0
    for axis in (2, 1):
        traces = _inner(peaks.traces(axis), shape[axis - 1])
        lines = _inner(peaks.lines(axis), shape[2 - axis])
        are_few = 0 < len(traces) <= _MOST_TRACES
        if are_few and len(lines) >= _LINES_OF_SKY[axis]:
            return axis
        is_alone = _highest(traces) > _RATIO_OF_PEAKS * _highest(lines)
        alone = axis if is_alone and are_few else alone
    return alone


def _axis_of_arc(peaks: PeaksProbe) -> int:
    """Return the axis along which the lines of an arc lie, or 0."""
    for axis in (1, 2):
        n_lines = len(peaks.lines(axis))
        if n_lines >= _MANY_LINES and n_lines >= _RATIO_OF_PEAKS * len(peaks.traces(axis)):
            return axis
    return 0


def _is_line_of_sky(traces: Sequence[tuple[Frame, Peak]]) -> bool:
    """Return whether another target has the first one's peak, with the same counts per second."""
    (first, peak), *others = traces
    return any(
        other.target != first.target
        and abs(same.place - peak.place) <= _SAME_COLUMN
        and abs(same.height / (other.exptime or 1.0) - peak.height / (first.exptime or 1.0))
        <= _SAME_RATE * peak.height / (first.exptime or 1.0)
        for other, same in others
    )


def _rows_hold_light(light: Frame, frames: Sequence[Frame], column: int) -> bool:
    """Return whether a faint spectrum lies along the rows of a light, less a dark if there is one.

    A peak along the columns about `column`, from 0, is left out.
    """
    if light.image.source.n_bytes > MOST_PROBED:
        return False
    try:
        counts = _whole_image(light.image).astype(np.float64)
        for dark in [f for f in frames if f.frame_type in ("dark", "bias")][:1]:
            counts -= _whole_image(dark.image)
    except FrameError:
        return False
    counts[:, max(column - _BESIDE_PEAK, 0) : column + _BESIDE_PEAK + 1] = np.nan
    return any(True for _ in runs_of_light(matched_filter(without_impossible(counts)), _MOST_GAP))


def _is_bad_column(column: int, frames: Sequence[Frame]) -> bool | None:
    """Return whether darks or biases have a peak at a column, from 0; None if there is none."""
    unlit = [f for f in frames if f.frame_type in ("dark", "bias")][:_MOST_LAMPS]
    near = [
        any(abs(peak.place - column) <= _SAME_COLUMN for peak in peaks.of_columns)
        for _, peaks in _probed(unlit)
    ]
    return any(near) if near else None


# Frame types confirmed by the pixels, where the headers leave a doubt: `confirm_types`.

_LONGEST_LAMP = 120.0  # s, of one that only the symbol of an element proposes
_SHORT_SHARE = 0.1
_MANY_LINES = 3


def confirm_types(frames: Sequence[Frame], told: Collection[str] = ()) -> list[Frame]:
    """Return the frames, each of the type that its pixels decide for where there is a doubt.

    A light whose exposure is a tenth of the longest or less, and whose pixels show lines alone, is
    not retyped, but gets a warning.

    Parameters
    ----------
    frames : of a night.
    told : labels of the frames whose types the user gave.
    """
    lights = [f.exptime or 0.0 for f in frames if f.frame_type == "light" and f.doubt is None]
    short = _SHORT_SHARE * max(lights, default=0.0)
    return [frame if frame.label in told else _confirmed(frame, short) for frame in frames]


def _confirmed(frame: Frame, short: float) -> Frame:
    """Return a frame of the type that its pixels decide for; `short` is a short exposure, s."""
    is_short = frame.exptime is not None and 0 < frame.exptime <= short
    doubt = frame.doubt
    if doubt is None and not (is_short and frame.frame_type == "light"):
        return frame
    peaks = probe_peaks(frame)
    if peaks is None:
        return frame
    traces, lines = peaks.traces(frame.dispersion_axis), peaks.lines(frame.dispersion_axis)
    is_other_axis = _axis_of_arc(peaks) not in (0, frame.dispersion_axis)
    has_trace = _highest(traces) > _highest(lines) and not is_other_axis
    has_lines = _highest(lines) > _highest(traces)
    if doubt is None:
        seems_an_arc = len(lines) >= _MANY_LINES and not traces
        return _with_warning(frame, to_check(_SEEMS_AN_ARC)) if seems_an_arc else frame
    if doubt.where == "trace":
        told = f"{doubt.witness}, but the pixels show a star: used as a light frame"
        return _of_type(frame, doubt.other, told) if has_trace else frame
    is_alike = doubt.where == "lines or short" or (frame.exptime or 0.0) <= _LONGEST_LAMP
    if has_lines and is_alike:
        shown = "lines that fill the slit"
    elif doubt.where == "lines or short" and is_short and not has_trace:
        shown = "a short exposure"
    else:
        return frame
    return _of_type(frame, doubt.other, taken_for(doubt.other, f"{doubt.witness} and {shown}"))


_SEEMS_AN_ARC = (
    "seems to be an arc frame: lines fill the slit and the exposure is short; if so, set [types] "
    "arc = [...] in a night file"
)


def _of_type(frame: Frame, frame_type: str, told: str) -> Frame:
    """Return a frame of another type, with a warning in place of what was said of its type."""
    warnings = (*without_type_warnings(frame), told)
    return replace(frame, frame_type=frame_type, doubt=None, warnings=warnings)


def _with_warning(frame: Frame, told: str) -> Frame:
    return replace(frame, warnings=(*frame.warnings, told))


# Frame levels compared with the corrections stated in the header: `compare_levels`.
#
# Dark current and signal only add counts, so no raw frame lies below a raw dark or bias of the
# same or a shorter exposure. With D the level and s the noise of those raw frames (D > 10 s, else
# levels are not conclusive), and comparing the 5 % quantiles of the pixels, which a star does not
# change:
#
# - Without letters, but below D by more than 10 s: a dark has been subtracted though no card says
#   so, if the frame lies under D / 2 (at Stony Brook such frames lie at 0.06 to 0.37 D); else
#   refused.
# - CALSTAT with B or D, yet from 3 s below D to 10 s above, where raw frames of a dark sky lie:
#   the letters are wrong, refused. Subtracting or not would both be a guess.
# - CALSTAT with D but not B, below D but not below a raw bias: the dark that was subtracted was
#   bias-subtracted, and the frame still has its own bias, until a bias is subtracted. With both
#   letters the frame is then refused. A frame with a PEDESTAL card may lie anywhere.
# - A dark below D is bias-subtracted, and so is one whose noise straddles zero where no other raw
#   frame lies far from it: it gets the letter B, and is used only for light frames that are
#   bias-subtracted too.

_PROBED_FRAMES = 3
_SAME_EXPOSURE = 0.5  # s
_SAME_TEMPERATURE = 3.0  # deg C: dark current doubles in 6
_FAR, _WITHIN = 10.0, 3.0  # times the noise

CameraSetup = tuple[object, ...]


@dataclass(frozen=True)
class _Reference:
    """A raw dark or bias whose level is far from zero, with which others are compared."""

    frame: Frame
    sample: PixelSample

    @property
    def exptime(self) -> float:
        """Return its exposure time, s."""
        return self.frame.exptime or 0.0

    @property
    def told(self) -> str:
        """Return name, exposure, level and noise as text."""
        return f"{self.frame.path.name} of {self.exptime:g} s ({self.sample})"


def compare_levels(frames: Sequence[Frame]) -> list[Frame]:
    """Return the frames, with the CALSTAT letters that their levels show, or refused.

    Parameters
    ----------
    frames : of a night, wrapped counts unwrapped. Light frames, flats, darks and biases are
        compared with the raw darks and biases of the same shape, setup and temperature.
    """
    probed = list(
        frames_to_probe(f for f in frames if f.frame_type in _COMPARED_TYPES and _is_known(f))
    )
    found: dict[CameraSetup, list[Frame]] = defaultdict(list)
    for frame in probed:
        if frame.frame_type in ("bias", "dark") and not set(frame.calstat) & set("BD"):
            found[_camera_setup(frame)].append(frame)
    calibrations = {camera: _own_first(members) for camera, members in found.items()}
    references = {camera: _level_references(members) for camera, members in calibrations.items()}
    straddling = {
        camera: not references[camera]
        and all(map(_straddles_zero, islice(members, _PROBED_FRAMES)))
        for camera, members in calibrations.items()
    }
    labels = {frame.label for frame in probed if not frame.refusals}
    compared = []
    for frame in frames:
        camera = _camera_setup(frame)
        if frame.label in labels and straddling.get(camera, False):
            compared.append(_bias_gone_with_the_darks(frame))
        elif frame.label in labels:
            compared.append(_checked_level(frame, references.get(camera, [])))
        else:
            compared.append(frame)
    return compared


_COMPARED_TYPES = ("bias", "dark", "flat", "light")


def _own_first(frames: Sequence[Frame]) -> Sequence[Frame]:
    """Return the frames of the night itself; those of libraries only where it has none."""
    return [frame for frame in frames if not frame.library] or frames


def _is_known(frame: Frame) -> bool:
    """Return whether a frame is raw, or a master; one less its overscan has a level of its own."""
    is_levelled = OVERSCAN_CARD in frame.image.header and not frame.is_own
    return (frame.is_master or not frame.is_product) and not is_levelled


def _camera_setup(frame: Frame) -> CameraSetup:
    return frame.shape, frame.setup


def _level_references(calibrations: Sequence[Frame]) -> list[_Reference]:
    """Return the raw frames with noise whose level is far from zero, up to three per exposure."""
    by_exposure: dict[tuple[str | None, float], list[_Reference]] = defaultdict(list)
    for frame in calibrations:
        found = by_exposure[frame.frame_type, frame.exptime or 0.0]
        sample = sample_frame(frame) if len(found) < _PROBED_FRAMES else None
        if sample is not None and sample.noise > 0 and sample.is_far_from_zero:
            found.append(_Reference(frame, sample))
    return _not_below_the_biases(
        [reference for references in by_exposure.values() for reference in references]
    )


def _not_below_the_biases(references: Sequence[_Reference]) -> list[_Reference]:
    """Return the references without darks below the biases: those are bias-subtracted."""
    biases = _bias_references(references)
    if not biases:
        return list(references)
    bias = _median_reference(biases, biases[0].exptime).sample
    lowest = bias.low - _FAR * bias.noise
    return [j for j in references if j.frame.frame_type == "bias" or j.sample.low >= lowest]


def _bias_references(references: Sequence[_Reference]) -> list[_Reference]:
    return [reference for reference in references if reference.frame.frame_type == "bias"]


def _straddles_zero(frame: Frame) -> bool:
    """Return whether noise reaches below zero, as it never does in a raw frame."""
    sample = sample_frame(frame)
    return sample is not None and sample.straddles_zero and sample.low < 0


def _reference_below(frame: Frame, references: Sequence[_Reference]) -> _Reference | None:
    """Return the reference of the longest exposure that is not longer than this frame's, or None.

    Of several of that exposure it is the one of median level. Where all are longer, it is one of
    the shortest, if exposures at least twice as long show no dark current.
    """
    as_warm = [reference for reference in references if _is_as_warm(reference.frame, frame)]
    if not as_warm:
        return None
    fitting = [j for j in as_warm if j.exptime <= (frame.exptime or 0.0) + _SAME_EXPOSURE]
    if fitting:
        return _median_reference(fitting, max(reference.exptime for reference in fitting))
    shortest = _median_reference(as_warm, min(reference.exptime for reference in as_warm))
    longest = _median_reference(as_warm, max(reference.exptime for reference in as_warm))
    grown = longest.sample.level - shortest.sample.level
    is_dark_free = grown <= _WITHIN * shortest.sample.noise
    return shortest if longest.exptime >= 2 * shortest.exptime and is_dark_free else None


def _median_reference(references: Sequence[_Reference], exptime: float) -> _Reference:
    """Return the reference of median level among those of an exposure."""
    alike = [reference for reference in references if reference.exptime == exptime]
    return sorted(alike, key=lambda reference: reference.sample.low)[(len(alike) - 1) // 2]


def _is_as_warm(one: Frame, other: Frame) -> bool:
    if one.ccd_temp is None or other.ccd_temp is None:
        return True
    return abs(one.ccd_temp - other.ccd_temp) <= _SAME_TEMPERATURE


def _checked_level(frame: Frame, references: Sequence[_Reference]) -> Frame:
    """Return a frame with the letter its level shows, or refused, or unchanged."""
    floor = _reference_below(frame, references)
    sample = sample_frame(frame) if floor is not None else None
    if floor is None or sample is None:
        return frame
    steps = sample.step, floor.sample.step
    if all(steps) and steps[0] != steps[1]:
        frame = _with_warning(
            frame, to_check(_OTHER_STEPS.format(steps[0], floor.frame.path.name, steps[1]))
        )
    noise = max(floor.sample.noise, sample.noise if floor.frame.is_master else 0.0)
    below = floor.sample.low - sample.low
    if set(frame.calstat) & set("BD"):
        at_raw_level = -_FAR * noise <= below <= _WITHIN * noise
        if at_raw_level:
            return _with_refusal(
                frame,
                sample,
                floor,
                _DARK_IS_THERE if "D" in frame.calstat else _BIAS_NOT_SUBTRACTED,
            )
        is_below_the_darks = "D" in frame.calstat and below > 0
        return _with_its_bias(frame, sample, references) if is_below_the_darks else frame
    if below <= _FAR * noise:
        return frame
    if _AS_FRACTIONS in floor.frame.warnings and _AS_FRACTIONS not in frame.warnings:
        return _with_refusal(frame, sample, floor, _OTHER_SCALE, "Store both as counts")
    if abs(sample.low) >= floor.sample.level / 2:
        return _with_refusal(frame, sample, floor, _TOO_LOW)
    letter = "B" if frame.frame_type in ("bias", "dark") else "D"
    why = (
        f"5% of its pixels are below {sample.low:g}, but below {floor.sample.low:g} in {floor.told}"
    )
    return _with_calstat_letter(frame, letter, why)


_OTHER_STEPS = (
    "its counts have steps of {}, but those of {} steps of {}: one of them was scaled, and their "
    "difference is wrong"
)
_DARK_IS_THERE = "records dark subtraction, but the pixels are those of a raw frame"
_BIAS_NOT_SUBTRACTED = "records bias subtraction, but the pixels are those of a raw frame"
_BIAS_IS_THERE = "records bias subtraction, but the pixels are not below the bias level"
_OTHER_SCALE = (
    "records nothing, but the pixels are below those of frames stored as fractions, whose full "
    "scale may be another than 65535"
)
_TOO_LOW = "records nothing, but the pixels are below those of any raw frame"


def _with_its_bias(frame: Frame, sample: PixelSample, references: Sequence[_Reference]) -> Frame:
    """Return a dark-subtracted frame, marked or refused if its level still includes the bias."""
    biases = _bias_references(references)
    if not biases or frame.image.header.readable("PEDESTAL"):
        return frame
    bias = _median_reference(biases, biases[0].exptime)
    noise = max(bias.sample.noise, sample.noise if bias.frame.is_master else 0.0)
    if sample.low < bias.sample.low - _WITHIN * noise:
        return frame
    if "B" in frame.calstat:
        return _with_refusal(frame, sample, bias, _BIAS_IS_THERE)
    told = (
        f"a dark has been subtracted, but not the bias: 5% of its pixels are below {sample.low:g}, "
        f"and below {bias.sample.low:g} in {bias.told}"
    )
    return replace(frame, keeps_bias=True, warnings=(*frame.warnings, told))


def _with_refusal(
    frame: Frame,
    sample: PixelSample,
    floor: _Reference,
    finding: str,
    remedy: str = "Correct CALSTAT in the header",
) -> Frame:
    error = MismatchError(
        f"CALSTAT {frame.calstat!r} {finding}: 5% of the pixels are below {sample.low:g}, "
        f"and below {floor.sample.low:g} in {floor.told}",
        path=frame.path,
        keyword="CALSTAT",
        value=frame.calstat,
        hint=f"{remedy}, or exclude the frame.",
    )
    return replace(frame, refusals=(*frame.refusals, error))


def _with_calstat_letter(frame: Frame, letter: str, why: str) -> Frame:
    lost = {"D": "a dark has been subtracted", "B": "the bias has been subtracted"}[letter]
    made = "a processed frame of floating-point pixels: " if _bitpix(frame) < 0 else ""
    told = f"{made}{lost}, although no header keyword records it: {why}"
    letters = "".join(known for known in "BDFM" if known in frame.calstat + letter)
    return replace(frame, calstat=letters, warnings=(*frame.warnings, told))


def _bias_gone_with_the_darks(frame: Frame) -> Frame:
    """Return a frame with the letter B if it is bias-subtracted like its camera's darks."""
    if set(frame.calstat) & set("BD"):
        return frame
    sample = sample_frame(frame)
    if sample is None or sample.low > _FAR * sample.noise:
        return frame
    return _with_calstat_letter(frame, "B", f"{sample}, and the darks' noise straddles zero")


# Pedestals: a constant that a camera program added to keep dark-subtracted values positive.
#
# MaxIm DL writes PEDESTAL=-100 ("add this to get the true values") where others write 100, so the
# sign is ignored and the absolute value subtracted. It is believed only for frames whose header
# says that a dark was subtracted, and whose pixels agree: their median must reach the pedestal
# minus three times their noise. The shift is part of the decoding (BZERO), so it applies to every
# reader.


def subtract_pedestals(frames: Iterable[Frame]) -> list[Frame]:
    """Return the frames, with pedestals subtracted from dark-subtracted ones that contain them."""
    frames = list(frames)
    concerned = {f.label for f in frames_to_probe(f for f in frames if _pedestal_of(f))}
    return [_without_pedestal(f) if f.label in concerned else f for f in frames]


def _pedestal_of(frame: Frame) -> float:
    """Return the pedestal (absolute value) of a dark-subtracted frame, adu, or 0."""
    value = frame.image.header.readable("PEDESTAL")
    if isinstance(value, bool) or not isinstance(value, int | float) or "D" not in frame.calstat:
        return 0.0
    return abs(float(value))


def _without_pedestal(frame: Frame) -> Frame:
    size, sample = _pedestal_of(frame), sample_frame(frame)
    if sample is None or any("pedestal" in verdict.text for verdict in frame.verdicts):
        return frame
    if sample.level < size - 3.0 * sample.noise:
        told = f"PEDESTAL is {size:g}, but the pixels do not contain it ({sample}); left as is"
        return _with_warning(frame, to_check(told))
    verdict = PixelDecision("header", f"read with the pedestal {size:g} subtracted")
    return _read_with(frame, verdict, bzero=frame.image.source.pixels.bzero - size)


def _read_with(frame: Frame, verdict: PixelDecision, **changes: Any) -> Frame:
    """Return a frame whose pixels are decoded with some changes, and the decision to do so."""
    image = frame.image.decoded_with(**changes)
    return replace(frame, image=image, verdicts=(*frame.verdicts, verdict))


# Pixel samples: a few sorted pixels that give a frame's level and noise.
#
# Twelve rows across the frame, every n-th pixel of them, about 1024 pixels: the median is then
# known to 0.04 of the noise, and a frame takes 0.3 ms whatever its size. A compressed frame must
# be unpacked for it, so those are sampled only up to 256 MB together. Of an uncompressed frame
# behind a URL only the twelve rows are fetched.

_N_SAMPLED_ROWS = 12
_N_SAMPLED_VALUES = 1024
_LOW_QUANTILE = 0.05
_BAND_BYTES = 4 << 20


_LEAST_STEPS = 8
"""Steps between the lowest and highest value: fewer values may be multiples by chance."""


@dataclass(frozen=True)
class PixelSample:
    """Some pixels of a frame, with their level and noise.

    Parameters
    ----------
    values : finite pixels in adu, sorted, float64.
    level : their median, adu.
    low : their 5 % quantile, adu; in a star's frame this is still the background.
    noise : their robust standard deviation, adu.
    """

    values: NDArray[np.float64]
    level: float
    low: float
    noise: float

    def share(self, first: float, stop: float) -> float:
        """Return the fraction of the pixels in [first, stop)."""
        start, end = np.searchsorted(self.values, [first, stop])
        return float(end - start) / self.values.size

    @property
    def step(self) -> int:
        """Return what all values are multiples of; 0 if they are no integers, or hardly differ."""
        lowest, highest = self.values[[0, -1]]
        is_whole = max(-lowest, highest) < 2**53 and np.array_equal(
            self.values, np.rint(self.values)
        )
        if self.noise <= 0 or not is_whole:
            return 0
        step = int(np.gcd.reduce(self.values.astype(np.int64)))
        return step if highest - lowest >= _LEAST_STEPS * step else 0

    @property
    def is_far_from_zero(self) -> bool:
        """Return whether the level exceeds ten times the noise: noise then never reaches zero."""
        return self.level > 0 and self.level > 10.0 * self.noise

    @property
    def straddles_zero(self) -> bool:
        """Return whether the level is within three times the noise of zero, or below it."""
        return self.level <= 3.0 * self.noise

    def __str__(self) -> str:
        """Return level and noise as text."""
        return f"level {self.level:g}, noise {self.noise:.3g}"


def sample_frame(frame: Frame) -> PixelSample | None:
    """Return a sample of a frame's pixels; None if unreadable (the full read gives the error)."""
    if not may_be_probed(frame):
        return None
    try:
        return _sample_image(frame.image)
    except FrameError:
        return None


def forget_samples() -> None:
    """Drop what was sampled of frames, up to 40 kB each: of many nights it would add up."""
    for sampled in (_sample_image, _stored_pixels, _trace_in_image, _peaks_in_image):
        sampled.cache_clear()


def frames_to_probe(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Yield the frames that may be sampled: all plain ones, packed ones up to 256 MB together."""
    unpacked = 0
    for frame in frames:
        if frame.image.packing != "plain":
            unpacked += frame.image.source.n_bytes
        if frame.image.packing == "plain" or unpacked <= MOST_PROBED:
            yield frame


def may_be_probed(frame: Frame) -> bool:
    """Return whether a single frame may be sampled: plain, or packed and not above 256 MB."""
    return frame.image.packing == "plain" or frame.image.source.n_bytes <= MOST_PROBED


def holds_negative(frame: Frame) -> bool:
    """Return whether any pixel of a frame is negative, reading all of it in bands of 4 MB.

    False also for a packed frame above 256 MB, and for one that cannot be read.
    """
    return _any_pixel(frame, lambda pixels: pixels < 0)


def _any_pixel(frame: Frame, test: Callable[[NDArray[Any]], NDArray[np.bool_]]) -> bool:
    """Return whether any pixel of a frame passes a test; see `holds_negative`."""
    if not may_be_probed(frame):
        return False
    try:
        stack = FrameStack([plain_pixels(frame.image)])
        _, n_rows, n_columns = stack.shape
        height = max(_BAND_BYTES // (n_columns * stack.dtype.itemsize), 1)
        return any(
            bool(test(stack[0, first : first + height, :]).any())
            for first in range(0, n_rows, height)
        )
    except FrameError:
        return False


@lru_cache(maxsize=4096)
def _sample_image(image: ImageHDU) -> PixelSample | None:
    pixels, stored = image.source.pixels, _stored_sample(image)
    values = stored.astype(np.float64)
    if pixels.wrapped:
        values %= 2.0**pixels.bitpix
    values = np.sort(values * pixels.bscale + pixels.bzero)
    values = values[np.isfinite(values) & (values != _blank_of(pixels))]
    if values.size == 0:
        return None
    middle = float(values[(values.size - 1) // 2] + values[values.size // 2]) / 2
    return PixelSample(
        values, middle, float(values[int(_LOW_QUANTILE * values.size)]), robust_std(values)
    )


def sample_bytes(image: ImageHDU) -> bytes:
    """Return the sampled stored pixels of an image, little-endian, to be saved in a cache.

    Raises
    ------
    FrameError
        They cannot be read.
    """
    stored = _stored_sample(image)
    return stored.astype(stored.dtype.newbyteorder("<")).tobytes()


def _stored_sample(image: ImageHDU) -> NDArray[Any]:
    """Return the sampled stored pixels of an image, native byte order, in reading order."""
    shelf, pixels = image.source.cached, PixelFormat(image.source.pixels.bitpix)
    if shelf is not None and shelf.sample:
        kept = np.frombuffer(shelf.sample, stored_dtype(pixels).newbyteorder("<"))
        return kept.astype(kept.dtype.newbyteorder("="))
    source = image.source if image.packing == "plain" else plain_pixels(image)
    return _stored_pixels(replace(source, pixels=pixels))


def _blank_of(pixels: PixelFormat) -> float:
    """Return the decoded value of missing pixels (BLANK), or NaN."""
    return np.nan if pixels.blank is None else pixels.blank * pixels.bscale + pixels.bzero


@lru_cache(maxsize=4096)
def _stored_pixels(source: PixelSource) -> NDArray[Any]:
    """Return the sampled stored pixels; the file is opened once, which is most of the cost."""
    n_rows, n_columns = source.shape
    step = max(n_rows // _N_SAMPLED_ROWS, 1)
    rows = range(step // 2, n_rows, step)
    taken = np.empty((len(rows), n_columns), stored_dtype(source.pixels))
    if source.cached is not None:
        read_rows(source, rows, taken)
        return _every_nth_pixel(taken)
    if isinstance(source.path, Address):
        return _every_nth_pixel(_fetched_rows(source, source.path, rows))
    try:
        with source.path.open("rb", buffering=0) as file:
            source.require_unchanged(os.fstat(file.fileno()))
            for row, y in zip(taken, rows, strict=True):
                file.seek(source.offset + y * row.nbytes)
                if file.readinto(row.view(np.uint8).data) != row.nbytes:
                    raise FrameError("The file is truncated: pixels are missing", path=source.path)
    except OSError as error:
        raise unreadable(source.path, error) from error
    return _every_nth_pixel(taken)


def _fetched_rows(source: PixelSource, address: Address, rows: range) -> NDArray[Any]:
    """Return some rows of an uncompressed frame behind a URL."""
    from arrayred.io.remote import ByteRange, read_ranges

    stored = stored_dtype(source.pixels)
    size = source.shape[1] * stored.itemsize
    starts = [source.offset + y * size for y in rows]
    found = read_ranges([ByteRange(address, start, start + size) for start in starts])
    if any(len(raw) < size for raw in found):
        raise FrameError("The file is truncated: pixels are missing", path=address)
    return np.frombuffer(b"".join(found), stored).reshape(len(rows), source.shape[1])


def _every_nth_pixel(rows: NDArray[Any]) -> NDArray[Any]:
    """Return every n-th pixel of rows, about 1024, in native byte order."""
    return rows.ravel()[:: max(rows.size // _N_SAMPLED_VALUES, 1)].astype(
        rows.dtype.newbyteorder("=")
    )


# Unsigned counts stored as signed integers: `unwrap_unsigned`.
#
# Such a file has BITPIX=16 (or 32), BZERO=0, and its brightest pixels are negative: -1 stands for
# 65535. Deciding needs pixels, so a few rows of the camera's raw darks and biases are sampled: a
# camera adds an offset so that noise never reaches zero. If their level B exceeds ten times their
# noise s, no true count lies between 0 and B - 10 s, and every negative value of the camera's raw
# frames is a wrapped one. On the night where this was first found no pixel lies between 0 and
# B - 6 s.
#
# A frame with many pixels in that gap is bias-subtracted, whatever its header says: if its level
# is near zero it is signed data and not changed. Frames that were already corrected (CALSTAT),
# floats and frames with their own BZERO are never changed. Where the references do not decide and
# a frame does have negative pixels, it is refused by name: `unsigned="wrapped"` or `"as-declared"`
# then decides.

_REFERENCE_TYPES = ("bias", "dark")
_MOST_WORDS = 3
"""A folder with a longer name may mention darks without containing them."""
_STRAY_FRACTION = 0.01
"""The fraction of pixels, from dead columns, allowed in the gap below a raw frame's level."""
_PROVEN = "unsigned counts stored as signed; read as unsigned"


@dataclass(frozen=True)
class _WrapEvidence:
    """Evidence from the reference frames of a camera.

    Parameters
    ----------
    counts : "wrapped", "signed", or "undecided".
    why : their levels and noise, or why they do not decide.
    floor : lower limit of raw pixels, adu, where counts are wrapped.
    """

    counts: Literal["wrapped", "signed", "undecided"]
    why: str
    floor: float = 0.0


def unwrap_unsigned(
    frames: Sequence[Frame], instrument: Instrument, unsigned: Unsigned = "auto"
) -> list[Frame]:
    """Return the frames, those with wrapped counts marked to be read as unsigned.

    Parameters
    ----------
    frames : raw frames of any cameras. The references of each camera are its own raw biases and
        darks, else all of its BITPIX; where none is among the frames, those in the same folders,
        else in folders beside them that are named after biases or darks.
    instrument : meaning of the header keywords.
    unsigned : "auto" samples pixels; "wrapped" reads every raw frame with BZERO 0 as unsigned;
        "as-declared" reads every file as its header declares.

    Returns
    -------
    frames : with a refusal where nothing decides and the frame has negative pixels.
    """
    if unsigned == "as-declared":
        return list(frames)
    if unsigned == "wrapped":
        told = PixelDecision("option", _PROVEN)
        return [_read_with(f, told, wrapped=True) if _may_be_wrapped(f) else f for f in frames]
    doubtful = [frame for frame in frames if _may_be_wrapped(frame)]
    references = [*_unsigned_references(doubtful)]
    known = {_bitpix(reference) for reference in references}
    references += _references_nearby([f for f in doubtful if _bitpix(f) not in known], instrument)
    rulings = {
        camera: _wrap_evidence(camera, references) for camera in set(map(_writer_of, doubtful))
    }
    probed = {frame.label for frame in frames_to_probe(doubtful)}
    return [
        _unwrapped_if_proven(f, rulings[_writer_of(f)], probe=f.label in probed)
        if _may_be_wrapped(f)
        else f
        for f in frames
    ]


def _writer_of(frame: Frame) -> tuple[int, str]:
    return _bitpix(frame), str(frame.image.header.readable("INSTRUME") or "").strip()


def _bitpix(frame: Frame) -> int:
    return frame.image.source.pixels.bitpix


def _may_be_wrapped(frame: Frame) -> bool:
    pixels = frame.image.source.pixels
    as_stored = pixels.bitpix in (16, 32) and (pixels.bzero, pixels.bscale) == (0.0, 1.0)
    return as_stored and not frame.calstat and not frame.is_product


def _unsigned_references(frames: Iterable[Frame]) -> Iterator[Frame]:
    return frames_to_probe(
        f for f in frames if _may_be_wrapped(f) and f.frame_type in _REFERENCE_TYPES
    )


def _references_nearby(frames: Iterable[Frame], instrument: Instrument) -> list[Frame]:
    """Return the first raw biases and darks of each BITPIX in the frames' folders, or siblings."""
    wanted: dict[int, set[Path]] = defaultdict(set)
    for frame in frames:
        wanted[_bitpix(frame)].add(frame.path.parent)
    references: list[Frame] = []
    for bitpix, folders in wanted.items():
        beside = (
            other
            for folder in sorted(folders)
            for other in _calibration_siblings(folder, instrument)
        )
        places = [f for where in (sorted(folders), beside) for f in where]
        found = (j for place in places for j in _references_in(place, instrument))
        references += islice((j for j in found if _bitpix(j) == bitpix), _PROBED_FRAMES)
    return references


def _calibration_siblings(folder: Path, instrument: Instrument) -> list[Path]:
    """Return the sibling folders of a folder that are named after biases or darks."""
    meant = {
        word
        for kind in _REFERENCE_TYPES
        for word in (*instrument.types[kind], *instrument.words[kind])
    }
    with contextlib.suppress(InputError, OSError):
        others = sorted(folders_in(folder.absolute().parent))
        return [p for p in others if p.name != folder.name and _is_named_after(p.name, meant)]
    return []


def _is_named_after(name: str, meant: set[str]) -> bool:
    words = words_of(name)
    return len(words) <= _MOST_WORDS and not meant.isdisjoint(words)


def _references_in(folder: Path, instrument: Instrument) -> Iterator[Frame]:
    """Yield the raw biases and darks of a folder."""
    with contextlib.suppress(InputError, OSError):
        for path in list_files(folder, depth=1):
            with contextlib.suppress(FrameError, HeaderError):
                yield from _unsigned_references(
                    [frame_from_header(path.name, find_image(path), instrument)]
                )


def _wrap_evidence(camera: tuple[int, str], references: Sequence[Frame]) -> _WrapEvidence:
    """Return the evidence of a camera's own references; where it has none, of all of its BITPIX."""
    own = [reference for reference in references if _writer_of(reference) == camera]
    others = [reference for reference in references if _bitpix(reference) == camera[0]]
    judges = _own_first(own or others)
    samples = ((reference.path.name, sample_frame(reference)) for reference in judges)
    told = list(islice(((name, s) for name, s in samples if s is not None), _PROBED_FRAMES))
    if not told:
        return _WrapEvidence("undecided", "there is no raw dark or bias to compare with")
    why = "; ".join(f"{name}: {sample}" for name, sample in told)
    if all(sample.is_far_from_zero for _, sample in told):
        floor = min(sample.level - 10.0 * sample.noise for _, sample in told)
        return _WrapEvidence("wrapped", f"{told[0][0]}: {told[0][1]}", floor)
    levels = [sample for _, sample in told]
    if any(s.straddles_zero for s in levels) and not any(s.is_far_from_zero for s in levels):
        return _WrapEvidence("signed", why)
    return _WrapEvidence("undecided", f"the raw darks or biases are inconclusive ({why})")


def _unwrapped_if_proven(frame: Frame, ruling: _WrapEvidence, *, probe: bool) -> Frame:
    """Return a frame marked as wrapped, unchanged, or refused, by the evidence and its pixels."""
    if ruling.counts == "signed":
        return frame
    shelf = frame.image.source.cached
    if ruling.counts == "undecided" and shelf is not None and shelf.proof:
        return _read_with(frame, PixelDecision("probe", shelf.proof), wrapped=True)
    sample = sample_frame(frame) if probe else None
    if ruling.counts == "wrapped":
        stray = 0.0 if sample is None else sample.share(0.0, ruling.floor)
        if stray <= _STRAY_FRACTION:
            return _read_with(
                frame, PixelDecision("probe", f"{_PROVEN} ({ruling.why})"), wrapped=True
            )
        why = f"{stray:.0%} of the pixels are below the minimum of a raw frame ({ruling.why})"
        is_signed = sample is not None and abs(sample.level) < ruling.floor / 2
    else:
        why, is_signed = ruling.why, sample is not None and _is_noise_around_zero(sample)
    if is_signed or not holds_negative(frame):
        return frame
    return replace(frame, refusals=(*frame.refusals, _undecided_error(frame, why)))


def _is_noise_around_zero(sample: PixelSample) -> bool:
    return abs(sample.level) <= 3.0 * sample.noise


def _undecided_error(frame: Frame, why: str) -> FrameError:
    return FrameError(
        "Negative pixels may be unsigned counts stored as signed, or signed data; which is "
        f"unknown, because {why}",
        path=frame.path,
        keyword="BZERO",
        value=0.0,
        hint="Add raw darks or biases of the camera, or use --unsigned wrapped or as-declared.",
    )


# Frames written as fractions, 0 to 1: `scale_fractions`.
#
# Siril and PixInsight write counts divided by 65535 as floats by default. A raw frame has an offset
# and a noise of counts, so one of floats whose pixels all lie within 0 and 1 is such a frame (where
# the bias was subtracted, some pixels are negative or above 1), and is multiplied by 65535 in
# decoding (BSCALE). A flat may have been normalised to 1, which is as good for a flat: flats are
# scaled with other frames of the night only.

_FULL_SCALE = 65535.0
_AS_FRACTIONS = "stored as fractions, 0 to 1; multiplied by 65535"


def scale_fractions(frames: Sequence[Frame]) -> list[Frame]:
    """Return the frames, those written as fractions of the full scale multiplied by it."""
    suspects = [frame for frame in frames_to_probe(frames) if _may_be_fractions(frame)]
    fractions = {frame.label for frame in suspects if _lies_within_one(frame)}
    if all(frame.frame_type == "flat" for frame in suspects if frame.label in fractions):
        return list(frames)
    return [_as_counts(frame) if frame.label in fractions else frame for frame in frames]


def _may_be_fractions(frame: Frame) -> bool:
    source = frame.image.source
    is_raw = not frame.is_own and not frame.calstat and "BUNIT" not in frame.image.header
    return is_raw and source.pixels.bitpix < 0 and source.pixels.bscale == 1.0


def _lies_within_one(frame: Frame) -> bool:
    """Return whether all pixels lie within 0 and 1, and not all are equal."""
    sample = sample_frame(frame)
    if sample is None or sample.values[0] < 0 or not 0 < sample.values[-1] <= 1:
        return False
    return sample.values[0] < sample.values[-1] and not _any_pixel(
        frame, lambda pixels: (pixels < 0) | (pixels > 1)
    )


def _as_counts(frame: Frame) -> Frame:
    pixels, verdict = frame.image.source.pixels, PixelDecision("header", _AS_FRACTIONS)
    scale, offset = pixels.bscale * _FULL_SCALE, pixels.bzero * _FULL_SCALE
    frame = _read_with(frame, verdict, bscale=scale, bzero=offset)
    return _with_warning(frame, _AS_FRACTIONS)


# Frames whose rows were written in opposite orders: `in_one_row_order`.
#
# ROWORDER is TOP-DOWN or BOTTOM-UP. Where all frames have the same, or only some have the card,
# nothing is turned, and row numbers are those of the files. The header of a frame that is turned
# says so, as that of a master made of it must: else the master would be turned again.

_ROW_ORDERS = ("TOP-DOWN", "BOTTOM-UP")


def in_one_row_order(frames: Sequence[Frame]) -> list[Frame]:
    """Return the frames, those turned whose ROWORDER is not that of most lights."""
    orders = {frame.label: row_order(frame) for frame in frames}
    if len(set(filter(None, orders.values()))) < 2:
        return list(frames)
    lights = [orders[frame.label] for frame in frames if frame.frame_type == "light"]
    known = [order for order in lights if order] or [o for o in orders.values() if o]
    common = max(_ROW_ORDERS, key=known.count)
    others = {label: order for label, order in orders.items() if order not in ("", common)}
    return [_turned(f, others[f.label], common) if f.label in others else f for f in frames]


def row_order(frame: Frame) -> str:
    """Return ROWORDER, or "" where it is not known."""
    value = str(frame.image.header.readable("ROWORDER") or "").strip().upper()
    return value if value in _ROW_ORDERS else ""


def _turned(frame: Frame, order: str, common: str) -> Frame:
    told = f"upside down (ROWORDER is {order}, elsewhere {common}); flipped"
    sections, image = frame.sections, turned(frame.image)
    image.header.set("ROWORDER", common, "order of the rows, as flipped")  # products are, too
    return replace(
        frame,
        image=image,
        sections=None if sections is None else sections.upside_down(frame.shape[0]),
        verdicts=(*frame.verdicts, PixelDecision("header", told)),
        warnings=(*frame.warnings, told),
    )


# Overscan that no card names: `find_overscan`.
#
# Pixels outside of DATASEC may be overscan, masked columns or the end of the slit. They are taken
# for overscan if the brightest frames of the night, flats or else lights, do not reach them: light
# of 100 times their noise raises them by less than 0.5 %. The charge that trails behind the last
# lit column decays over some columns of a flat (158 adu of 14,000 in the first, 1 in the 20th),
# and the first of them settle (22 adu too low): those that lie off the outermost by 0.1 % of the
# light, or by three errors in a frame without light, are not used.

_OUTERMOST = 0.25
_LEAST_LIGHT, _LARGEST_RISE, _LARGEST_TRAIL = 100.0, 0.005, 0.001
_FEWEST_OVERSCAN, _MOST_LOOKED_AT = 4, 3


def find_overscan(frames: Sequence[Frame]) -> list[Frame]:
    """Return frames with the overscan columns beside their image section, if they look like some.

    Parameters
    ----------
    frames : raw frames of any cameras. Those of one shape and one image section get the same.
    """
    groups: dict[object, list[Frame]] = {}
    for frame in frames:
        if frame.sections is not None and frame.sections.overscan is None:
            groups.setdefault((frame.shape, frame.sections, frame.setup), []).append(frame)
    found = dict(frame for group in groups.values() for frame in _with_overscan(group))
    return [found.get(frame.label, frame) for frame in frames]


def _with_overscan(group: Sequence[Frame]) -> Iterator[tuple[str, Frame]]:
    """Yield the frames of a group by label, with its overscan."""
    trim = group[0].sections.trim if group[0].sections is not None else None
    columns = None if trim is None else _overscan_beside(trim, group)
    for frame in group:
        if columns is not None and trim is not None:
            overscan = Section(columns, trim.rows)
            told = f"overscan {overscan}, found from the pixels: no signal there"
            verdicts = (*frame.verdicts, PixelDecision("header", told))
            frame = replace(frame, sections=Sections(overscan, trim), verdicts=verdicts)
        yield frame.label, frame


def _overscan_beside(trim: Section, group: Sequence[Frame]) -> tuple[int, int] | None:
    """Return the first and last of the overscan columns beside an image section, or None."""
    (first, last), n_columns = trim.columns, group[0].shape[1]
    right = n_columns - last >= first - 1
    beside = slice(last, n_columns) if right else slice(0, first - 1)
    biases, darks, flats, lights = (
        [frame for frame in group if frame.frame_type == kind][:_MOST_LOOKED_AT]
        for kind in ("bias", "dark", "flat", "light")
    )
    unlit, lit = biases or darks, flats or lights
    if not (unlit and lit and all(map(may_be_probed, (*unlit, *lit)))):
        return None
    size = beside.stop - beside.start
    outermost = slice(-max(int(_OUTERMOST * size), 1), None)
    usable, levels = np.ones(size, bool), []
    for i, frame in enumerate((*unlit, *lit)):
        image = _whole_image(frame.image)[trim.rows[0] - 1 : trim.rows[1]].astype(np.float64)
        strip = image[:, beside] if right else image[:, beside][:, ::-1]
        columns, outer = np.median(strip, axis=0), float(np.median(strip[:, outermost]))
        noise = robust_std(strip[:, outermost].ravel())
        light = float(np.median(image[:, first - 1 : last])) - outer
        allowed = 3 * 1.25 * noise / len(strip) ** 0.5 + 0.5
        levels.append(outer)
        if i >= len(unlit):
            allowed = _LARGEST_TRAIL * light
            dark = float(np.median(levels[: len(unlit)]))
            if light < _LEAST_LIGHT * noise or outer - dark > _LARGEST_RISE * light:
                return None
        usable &= np.abs(columns - outer) <= allowed
    n = size - int(np.max(np.flatnonzero(~usable), initial=-1)) - 1
    if n < _FEWEST_OVERSCAN:
        return None
    return (n_columns - n + 1, n_columns) if right else (1, n)


# All checks of single frames by their pixels, in order: `check_night_pixels`.
#
# First the order of rows and the scale, then whether counts wrapped, since every level depends on
# them; then which corrections the levels show, since only dark-subtracted frames have a pedestal;
# then pedestals, and blocks of missing data.


def check_night_pixels(
    frames: Sequence[Frame], instrument: Instrument, unsigned: Unsigned = "auto"
) -> list[Frame]:
    """Return a night's raw frames, corrected by what their pixels show.

    Parameters
    ----------
    frames : raw frames of any cameras.
    instrument : meaning of the header keywords.
    unsigned : reading of counts that may be unsigned stored as signed; see `unwrap_unsigned`.

    Returns
    -------
    frames : with the encoding and the CALSTAT letters that their pixels show, and a refusal where
        header and pixels contradict each other.
    """
    unwrapped = unwrap_unsigned(scale_fractions(in_one_row_order(frames)), instrument, unsigned)
    if not instrument.sections:
        unwrapped = find_overscan(unwrapped)
    return warn_of_blocks(subtract_pedestals(compare_levels(unwrapped)))


def read_alike(
    frames: Sequence[Frame], instrument: Instrument, unsigned: Unsigned = "auto"
) -> list[Frame]:
    """Return frames as `check_night_pixels` reads them, without a comparison of their levels."""
    unwrapped = unwrap_unsigned(scale_fractions(in_one_row_order(frames)), instrument, unsigned)
    return subtract_pedestals(unwrapped)
