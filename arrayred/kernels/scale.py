"""How bright each frame shows the same light: slopes of rows, and the one slope they agree on.

A frame is thought to be ``flux * light + level``. Of every row that the light crosses the ratio of
frame and reference is taken, the median of its pixels weighted by their light, which is the
regression through the sky that makes the sum of absolute residuals least; then the median of the
rows, weighted likewise. Medians, because one cosmic ray of 30,000 counts moves the slope of a sum
of squares by as much as a night's haze; and they need no sums that would depend on the bands.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.stack import corrected, mean, median
from arrayred.kernels.strips import Block, Image, StripKernel, strips

Values = NDArray[np.float64]

_VALUES = 1 << 16


class Scales(NamedTuple):
    """What brings frames to one level: a frame is ``flux * light + level``.

    Parameters
    ----------
    flux : of every frame, 1 on average.
    level : of every frame, in its own counts, 0 on average.
    """

    flux: tuple[float, ...]
    level: tuple[float, ...]

    @classmethod
    def none(cls, n_frames: int) -> Scales:
        """Return the scales of frames that are alike."""
        return cls((1.0,) * n_frames, (0.0,) * n_frames)


def weighted_median(values: Values, weights: Values) -> Values:
    """Return the median along the last axis, each value counting by its weight.

    Parameters
    ----------
    values : (..., n).
    weights : (n) or like values, 0 or more.

    Returns
    -------
    medians (...): the least value that has half the weight at or below it; NaN without any weight.

    Examples
    --------
    >>> weighted_median(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 5.0]))
    array(2.)
    """
    weights = np.broadcast_to(weights, values.shape)
    if values.shape[-1] == 0:
        return np.full(values.shape[:-1], np.nan)
    order = np.argsort(values, axis=-1, kind="stable")
    heaped = np.cumsum(np.take_along_axis(weights, order, -1), axis=-1)
    place = np.argmax(2 * heaped >= heaped[..., -1:], axis=-1)[..., np.newaxis]
    chosen = np.take_along_axis(np.take_along_axis(values, order, -1), place, -1)[..., 0]
    return np.asarray(np.where(heaped[..., -1] > 0, chosen, np.nan))


def row_slopes(
    block: Block,
    minus: Image | None,
    usable: NDArray[np.bool_],
    *,
    skies: tuple[float, ...],
    least: float,
) -> Values:
    """Return of each row how bright every frame shows the light, and how much light there is.

    The reference is the median of the frames, of two their mean.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype.
    minus : image (y, x) to subtract from every frame, or None.
    usable : (y, x), False where a pixel is not to be looked at.
    skies : what each frame shows where there is no light, less `minus`.
    least : light of the reference above its sky from which on a pixel is looked at.

    Returns
    -------
    slopes (frame + 2, y), float64: of the frames, NaN where no pixel is bright enough; then the sum
    of the light of such pixels, and the sum of its squares.

    Examples
    --------
    >>> frames = np.array([[[10, 110, 210]], [[10, 90, 170]]])
    >>> row_slopes(frames, None, np.ones((1, 3), bool), skies=(10.0, 10.0), least=5.0)[:, 0]
    array([1.11111111e+00, 8.88888889e-01, 2.70000000e+02, 4.05000000e+04])
    """
    n_frames, n_rows, _ = block.shape
    slopes = np.full((n_frames + 2, n_rows), np.nan)
    slopes[n_frames:] = 0.0
    reference = (median if n_frames > 2 else mean)(block, minus)
    reference -= sorted(skies)[n_frames // 2] if n_frames > 2 else sum(skies) / n_frames
    bright = usable & (reference > least)
    own = np.array(skies)[:, np.newaxis]
    for y in np.flatnonzero(bright.any(axis=1)):
        light = reference[y, bright[y]]
        dark = None if minus is None else minus[y, bright[y]]
        frames = corrected(block[:, y, bright[y]], dark) - own
        there = np.isfinite(frames).all(axis=0)
        frames, light = frames[:, there], light[there]
        slopes[:n_frames, y] = weighted_median(frames / light, light)
        slopes[n_frames:, y] = float(np.sum(light)), float(np.sum(light**2))
    return slopes


def at_one_level(frames: Block, minus: Image | None, scales: Scales) -> Values:
    """Return frames (frame, y, x) less an image, brought to one level, in float64."""
    values = np.asarray(corrected(frames, minus))
    shape = (-1, *[1] * (values.ndim - 1))
    values -= np.reshape(scales.level, shape)
    values /= np.reshape(scales.flux, shape)
    return values


def pixels_of(block: Block) -> int:
    """Return how many pixels of a block are worked on at once: half a megabyte in float64."""
    return int(max(1, _VALUES // max(block.shape[0], 1)))


def scaled(
    block: Block, minus: Image | None = None, *, kernel: StripKernel, scales: Scales
) -> Image:
    """Return the combination of frames that are brought to one level first.

    Parameters
    ----------
    block : counts (frame, y, x), any real dtype; NaN is missing.
    minus : image (y, x) to subtract from every frame.
    kernel : makes the combination.
    scales : of the frames.

    Returns
    -------
    image (y, x), float64.

    Examples
    --------
    >>> frames = np.array([[[110.0]], [[80.0]], [[100.0]]])
    >>> scales = Scales((1.1, 0.8, 1.1), (0.0, 0.0, 0.0))
    >>> scaled(frames, kernel=median, scales=scales).round(9)
    array([[100.]])
    """
    image = np.empty(block.shape[1:], np.float64)
    for rows in strips(block, pixels_of(block)):
        dark = None if minus is None else minus[rows]
        image[rows] = kernel(at_one_level(block[:, rows], dark, scales), None)
    return image
