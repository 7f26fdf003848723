"""Mean of a block (frame, y, x) without what its noise does not explain: `likely_mean`.

Of few values none lies far from their mean in terms of their own scatter: at most (n - 1)/sqrt(n)
standard deviations, 1.15 for three. So the scatter is not asked. What a value may differ by is
known beforehand: the noise of a pixel without light, and that of its photons; its place is the
median of the frames at one level.

No model of the noise knows how the air moves a star's light. Where a whole line along the
dispersion repeats worse from frame to frame than its noise allows, because trace or seeing changed,
its values are judged by how well it does repeat. That width is the median, over the pixels of the
line, of the variance between frames in terms of the known one, which few cosmic rays cannot move;
the median of a chi squared variable is that of Wilson & Hilferty (1931, PNAS 17, 684).

What is kept is added up and divided by the sum of the frames' fluxes. So a pixel that lost no value
has the average of its frames, to the rounding, and bright frames count by their light.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.scale import Scales, at_one_level, pixels_of
from arrayred.kernels.stack import corrected, median
from arrayred.kernels.strips import Block, Flags, Image, count, strips

Values = NDArray[np.float64]

_FEWEST = 3
"""Two values cannot tell which of them is wrong."""
_SHORTEST = 16
"""A line of fewer pixels does not tell how well it repeats."""


class Noise(NamedTuple):
    """The noise of a pixel of one frame, and what it allows.

    Parameters
    ----------
    n_sigma : how many standard deviations a value may lie off.
    floor : variance without light.
    per_photon : variance that a count of light brings.
    """

    n_sigma: float
    floor: float
    per_photon: float = 0.0


def likely_mean(
    block: Block,
    minus: Image | None = None,
    charge: Image | None = None,
    *,
    scales: Scales,
    weights: tuple[float, ...],
    noise: Noise | None,
    widths: Values | None = None,
) -> Values:
    """Return the mean of the values that their noise explains, and how many it does not.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype; NaN is missing.
    minus : image (y, x) to subtract from every frame.
    charge : what else brings noise (y, x), in counts: dark charge of hot pixels, light that is in
        `minus`.
    scales : of the frames.
    weights : of the frames; all 1 where they count by their light.
    noise : of a frame; None: every value is kept.
    widths : how much worse than its noise a column (x) repeats; None: that of each row is found.

    Returns
    -------
    planes (2, y, x), float64: the mean, NaN where every frame is missing, and the number of values
    left out.

    Examples
    --------
    >>> frames = np.array([[[100.0]], [[104.0]], [[900.0]]])
    >>> three = (1.0, 1.0, 1.0)
    >>> scales = Scales(three, (0.0, 0.0, 0.0))
    >>> likely_mean(frames, scales=scales, weights=three, noise=Noise(3.0, 25.0))[:, 0, 0]
    array([102.,   1.])
    """
    planes = np.empty((2, *block.shape[1:]), np.float64)
    shape = (-1, 1, 1)
    flux, level = np.reshape(scales.flux, shape), np.reshape(scales.level, shape)
    weight = np.reshape(weights, shape)
    for rows in strips(block, pixels_of(block)):
        dark = None if minus is None else minus[rows]
        hot = None if charge is None else charge[rows]
        frames = np.asarray(corrected(block[:, rows], dark))
        kept = np.isfinite(frames)
        if noise is not None:
            n_present = count(kept)
            kept &= _explained(frames, hot, scales, noise, widths)
            planes[1, rows] = n_present - count(kept).astype(np.int64)
        else:
            planes[1, rows] = 0.0
        light = np.where(kept, (frames - level) * weight, 0.0)
        with np.errstate(invalid="ignore"):
            planes[0, rows] = _added(light) / _added(kept * (weight * flux))
    return planes


def _added(frames: Values) -> Values:
    """Return the sum of frames, one by one in order."""
    total = np.zeros(frames.shape[1:])
    for frame in frames:
        total += frame
    return total


def _explained(
    frames: Values, charge: Image | None, scales: Scales, noise: Noise, widths: Values | None
) -> Flags:
    """Tell which values the noise explains; where hardly any are present, all of them."""
    centre = median(at_one_level(frames, None, scales))
    off = distances(frames, centre, charge, scales, noise)
    found = line_widths(off, axis=1)[:, np.newaxis] if widths is None else widths
    reach = noise.n_sigma * np.maximum(found, 1.0) * _leeway(scales.flux)
    present = np.isfinite(frames)
    kept = present & (np.abs(off) <= reach)
    lonely = np.flatnonzero(present.any(axis=0) & ~kept.any(axis=0))
    if lonely.size:
        _keep_the_lower(kept, frames, lonely, charge, scales, noise, reach)
    return kept | (present & (count(present) < _FEWEST))


def _leeway(flux: tuple[float, ...]) -> Values:
    """Return how much farther from the centre frames (frame, 1, 1) may lie that are not equal.

    The centre is scaled to each frame and brings its noise along, of which a faint frame's is most:
    a bright one lies off by the sum. It is reckoned as that of a mean, in terms of equal frames.
    """
    n = len(flux)
    if n < _FEWEST:
        return np.ones((n, 1, 1))
    of_centre = math.fsum(one**-2 for one in flux) / n
    own = np.reshape(flux, (-1, 1, 1))
    return np.asarray(np.sqrt(np.maximum((n - 2 + own**2 * of_centre) / (n - 1), 1.0)))


def _keep_the_lower(
    kept: Flags,
    frames: Values,
    where: NDArray[np.intp],
    charge: Image | None,
    scales: Scales,
    noise: Noise,
    reach: Values,
) -> None:
    """Judge pixels that agree with no centre by their lower middle value: stray light adds."""
    n_frames = frames.shape[0]
    own = frames.reshape(n_frames, 1, -1)[:, :, where]
    in_order = np.sort(at_one_level(own, None, scales), axis=0)
    n_present = np.count_nonzero(np.isfinite(own), axis=0)
    centre = np.take_along_axis(in_order, ((n_present - 1) // 2)[np.newaxis], axis=0)[0]
    hot = None if charge is None else charge.reshape(1, -1)[:, where]
    off = distances(own, centre, hot, scales, noise)
    bound = np.broadcast_to(reach, frames.shape).reshape(n_frames, 1, -1)[:, :, where]
    kept.reshape(n_frames, 1, -1)[:, :, where] = np.isfinite(own) & (np.abs(off) <= bound)


def distances(
    frames: Values, centre: Image, charge: Image | None, scales: Scales, noise: Noise
) -> Values:
    """Return how many standard deviations values lie from what a centre lets expect.

    Parameters
    ----------
    frames : counts (frame, y, x), float64, less the master.
    centre : (y, x), of the frames at one level.
    charge, scales, noise : as in `likely_mean`.

    Examples
    --------
    >>> scales = Scales((0.5, 1.5), (0.0, 0.0))
    >>> frames = np.array([[[50.0]], [[160.0]]])
    >>> distances(frames, np.array([[100.0]]), None, scales, Noise(3.0, 25.0))[:, 0, 0]
    array([0., 2.])
    """
    off = np.empty_like(frames)
    for i, (flux, level) in enumerate(zip(scales.flux, scales.level, strict=True)):
        expected = flux * centre + level
        light = np.maximum(expected, 0.0)
        if charge is not None:
            light += charge
        light *= noise.per_photon
        light += noise.floor
        off[i] = (frames[i] - expected) / np.sqrt(light, out=light)
    return off


def line_widths(off: Values, axis: int) -> Values:
    """Return how much worse than their noise lines repeat from frame to frame.

    Parameters
    ----------
    off : distances (frame, y, x) of values from a common centre, in standard deviations.
    axis : along which a line runs, of (y, x): 0 or 1.

    Returns
    -------
    widths : of every line, about 1 where the noise explains all; 1 where nothing tells.

    Examples
    --------
    >>> off = np.random.default_rng(0).normal(0, 2, (4, 1, 20_000))
    >>> line_widths(off, axis=1).round(1)
    array([2.])
    """
    n_free = off.shape[0] - 1
    lines = off.shape[2 - axis]
    if n_free < 1:
        return np.ones(lines)
    deviation = off - _added(off) / off.shape[0]
    squares = _added(deviation**2)
    typical = n_free * (1 - 2 / (9 * n_free)) ** 3
    there = np.isfinite(squares)
    in_order = np.sort(np.where(there, squares, np.inf), axis=axis)
    n_there = np.count_nonzero(there, axis=axis)
    middle = np.expand_dims(np.maximum(n_there - 1, 0) // 2, axis)
    found = np.take_along_axis(in_order, middle, axis).squeeze(axis)
    return np.where(n_there >= _SHORTEST, np.sqrt(found / typical), 1.0)
