"""Do the frames of a group show one target? `unlike` compares each light with the one before it.

Two stars exposed alike look the same to every header. Of each frame whose trace stands out clearly
three things are measured: where the trace lies, how much light it holds, and the structure of its
spectrum, that is the spectrum in bins of eight columns over its own smooth course, less one. A
frame is told to be unlike the one before it if the trace has moved by more than its width and three
rows, if the light differs by more than a factor of three, or if the structures, both well above
their noise, correlate by less than 0.3 at any shift of up to two bins.

Each frame is compared with the next, not all with the first, so that slow drifts add up to nothing.
Exposures of one star on real nights differ by one row and 20 % in light and correlate above 0.9;
two stars that were once mixed up lay seven rows apart and correlated at -0.50.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import FrameError
from arrayred.io.frames import Frame
from arrayred.io.probes.sample import affordable
from arrayred.io.sources import ImageHDU
from arrayred.io.spool import plain
from arrayred.io.stack import FrameStack
from arrayred.kernels.combine import median
from arrayred.kernels.rows import robust_std, runs

Values = NDArray[np.float64]

_MOST_BYTES = 64 << 20
_FEWEST_ROWS = 128
_COLUMNS = 128
_STANDS_OUT = 20.0
_MOVED = 3.0
_RATIO = 3.0
_CORRELATED = 0.3
_RELIABLE = 0.8
_BIN = 8
_SATURATED = 0.01
_EVERY_SKY_ROW = 2
_SHIFTS = 2


@dataclass(frozen=True)
class Trace:
    """What one frame shows of a spectrum.

    Parameters
    ----------
    stands_out : a trace is seen clearly.
    peak : its highest row, median over the columns, adu; else how high one could be and hide.
    row : where its light is centred, from 1.
    width : rows above half of its peak.
    light : its sum over the rows, mean over the columns, adu.
    structure : of the spectrum, by bins; without dimension.
    reliability : which share of the structure's variance is no noise.
    """

    stands_out: bool
    peak: float
    row: float = 0.0
    width: float = 0.0
    light: float = 0.0
    structure: Values = field(default_factory=lambda: np.empty(0))
    reliability: float = 0.0


def unlike(frames: Sequence[Frame]) -> list[str]:
    """Return a line for every light that seems to show another target than the one before it.

    Parameters
    ----------
    frames : lights of one group, in canonical order. Of a group above 64 MB only some rows of each
        frame are read.
    """
    if len(frames) < 2:
        return []
    n_bytes = sum(frame.image.source.n_bytes for frame in frames)
    step = max(1, min(-(-n_bytes // _MOST_BYTES), _length(frames[0]) // _FEWEST_ROWS))
    traces = ((frame, trace_of(frame, step)) for frame in affordable(frames))
    readable = [(frame, trace) for frame, trace in traces if trace is not None]
    return [
        f"{after.label} seems to show another target than {before.label}: {difference}"
        for (before, one), (after, other) in pairwise(readable)
        if (difference := _difference(one, other, step))
    ]


def trace_of(frame: Frame, step: int = 1) -> Trace | None:
    """Return the trace of a frame's brightest spectrum; None where the frame cannot be read."""
    try:
        return _trace(frame.image, frame.dispersion_axis == 2, step)
    except FrameError:
        return None


def _length(frame: Frame) -> int:
    return frame.shape[1 if frame.dispersion_axis == 2 else 0]


def _difference(one: Trace, other: Trace, step: int) -> str:
    """Return in what two frames differ as two targets do, with all numbers; "" if they do not."""
    if not (one.stands_out and other.stands_out):
        return _missing(one, other)
    moved, ratio = abs(one.row - other.row), other.light / one.light
    is_known = min(one.reliability, other.reliability) >= _RELIABLE
    correlation = _correlation(one.structure, other.structure) if is_known else None
    is_unlike = (
        moved > max(_MOVED, 2.0 * step, one.width, other.width)
        or max(ratio, 1 / ratio) > _RATIO
        or (correlation is not None and correlation < _CORRELATED)
    )
    if not is_unlike:
        return ""
    told = "" if correlation is None else f", spectra that correlate at {correlation:.2f}"
    return f"trace at row {other.row:.0f}, not {one.row:.0f}, {ratio:.2g} times the light{told}"


def _missing(one: Trace, other: Trace) -> str:
    """Return that one frame lacks a trace that in the other is thrice as bright as could hide."""
    if one.stands_out == other.stands_out:
        return ""
    seen, hidden = (one.peak, other.peak) if one.stands_out else (other.peak, one.peak)
    if seen <= _RATIO * hidden:
        return ""
    if other.stands_out:
        return f"a trace at row {other.row:.0f}, where there was none above {one.peak:.3g} adu"
    return f"no trace above {other.peak:.3g} adu, where there was one of {one.peak:.3g}"


@lru_cache(maxsize=1024)
def _trace(image: ImageHDU, is_vertical: bool, step: int) -> Trace | None:
    stack = FrameStack([plain(image)])
    if is_vertical:
        pixels = stack[0, :, ::step].T
    elif step == 1:
        pixels = stack[0, :, :]
    else:
        pixels = stack.rows(0, range(0, stack.shape[1], step))
    return _measured(pixels, step)


def _measured(pixels: NDArray[Any], step: int) -> Trace | None:
    every = max(pixels.shape[1] // _COLUMNS, 1)
    some = np.ascontiguousarray(pixels[:, every // 2 :: every])
    middle = some.shape[1] // 2
    profile = np.partition(some, middle, axis=1)[:, middle].astype(np.float64)
    if not np.isfinite(profile).all():
        return None
    profile -= np.median(profile)
    peak = int(np.argmax(profile))
    hidden = _STANDS_OUT * max(robust_std(profile), robust_std(np.diff(profile)) / 2**0.5, 1e-9)
    if profile[peak] < hidden:
        return Trace(stands_out=False, peak=hidden)
    first, stop = next(run for run in runs(profile > profile[peak] / 2) if run[0] <= peak < run[1])
    weights = profile[first:stop]
    centre = float(np.average(np.arange(first, stop), weights=weights))
    sky = median(_sky_beside(pixels, first, stop)[:, np.newaxis])[0]
    spectrum = median(pixels[first:stop, np.newaxis])[0]
    structure, reliability = _structure_of(spectrum - sky)
    return Trace(
        stands_out=True,
        peak=float(profile[peak]),
        row=1.0 + step * centre,
        width=float(step * (stop - first)),
        light=float(step * np.sum(weights)),
        structure=structure,
        reliability=0.0 if _is_saturated(spectrum) else reliability,
    )


def _sky_beside(pixels: NDArray[Any], first: int, stop: int) -> NDArray[Any]:
    """Return some rows on both sides of a trace, twice its width away."""
    width = stop - first
    below = pixels[max(first - 3 * width, 0) : max(first - 2 * width, 0)]
    above = pixels[stop + 2 * width : stop + 3 * width]
    beside = np.concatenate([below, above])[::_EVERY_SKY_ROW]
    return beside if len(beside) else pixels[:: max(len(pixels) // 16, 1)]


def _structure_of(spectrum: Values) -> tuple[Values, float]:
    """Return a spectrum over its smooth course, less one, in bins; and how much is no noise."""
    n_bins = spectrum.size // _BIN
    binned = spectrum[: n_bins * _BIN].reshape(n_bins, _BIN).mean(axis=1)
    course = _smooth(binned, max(n_bins // 6, 3))
    scale = np.maximum(course, max(float(course.max()) / 20, 1e-9))
    structure = (binned - course) / scale
    noise = robust_std(np.diff(spectrum)) / (2.0 * _BIN) ** 0.5 / scale
    variance = float(np.mean(structure**2))
    if n_bins < 8 or variance == 0.0:
        return structure, 0.0
    return structure, 1.0 - float(np.mean(noise**2)) / variance


def _is_saturated(spectrum: Values) -> bool:
    """Tell whether the brightest value stands in many columns: they say nothing but that."""
    return float(np.mean(spectrum == spectrum.max())) > _SATURATED


def _smooth(values: Values, width: int) -> Values:
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
