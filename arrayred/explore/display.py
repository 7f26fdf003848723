"""From pixel values to the levels of a screen: `picture`, `limits`, `levels`.

What goes to the browser is one byte for each dot, at most a million of them, whatever the detector:
4096 x 4096 pixels of 8 bytes would be 134 MB a step. The window that is zoomed into is made smaller
by itself, so that single pixels are seen as soon as they have room.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.explore.look import Blocks, Stretch
from arrayred.kernels.blocks import block_factor, block_mean, block_peak

MOST_DOTS = 1_000_000
"""Dots that are sent for one image, at most."""
N_LEVELS = 255
"""Levels of brightness, 1 to 255; 0 means no data."""
_SOFTENING = {"asinh": 20.0, "log": 500.0}
_SAMPLE = 200_000
_BLOCKS = {"mean": block_mean, "peak": block_peak}


class Window(NamedTuple):
    """A part of an image, in array numbers: rows and columns, the second of each left out."""

    row: int
    row_stop: int
    column: int
    column_stop: int

    @classmethod
    def whole(cls, shape: tuple[int, int]) -> Window:
        """Return the window that shows all of an image."""
        return cls(0, shape[0], 0, shape[1])

    @classmethod
    def around(cls, y: tuple[float, float], x: tuple[float, float], shape: Any) -> Window:
        """Return the window of all pixels that lie between two edges along y and x.

        Parameters
        ----------
        y, x : edges in array numbers, 0 being the lower edge of the first pixel.
        shape : (n_rows, n_columns) of the image.

        Examples
        --------
        >>> Window.around((-3.0, 4.2), (1.5, 99.0), (10, 20))
        Window(row=0, row_stop=5, column=1, column_stop=20)
        """
        edges = []
        for (low, high), n in zip((y, x), shape, strict=True):
            start = min(max(int(np.floor(low)), 0), n - 1)
            edges += [start, max(min(int(np.ceil(high)), n), start + 1)]
        return cls(*edges)


class Picture(NamedTuple):
    """A window of an image made small enough: its values (y, x), and the side of a block."""

    values: NDArray[np.float64]
    factor: int


def picture(
    pixels: NDArray[Any], window: Window, blocks: Blocks = "mean", most: int = MOST_DOTS
) -> Picture:
    """Return a window of an image, in blocks where it has too many pixels.

    Parameters
    ----------
    pixels : (y, x), any real dtype.
    window : the part that is shown.
    blocks : what is shown of a block.
    most : dots it may have.
    """
    part = pixels[window.row : window.row_stop, window.column : window.column_stop]
    factor = block_factor((part.shape[0], part.shape[1]), most)
    values = part.astype(np.float64) if factor == 1 else _BLOCKS[blocks](part, factor)
    return Picture(values, factor)


def limits(values: NDArray[Any], low: float, high: float) -> tuple[float, float]:
    """Return two percentiles of the finite values, of a regular sample where they are many.

    Parameters
    ----------
    values : of any shape.
    low, high : percentiles.

    Examples
    --------
    >>> limits(np.array([0.0, 1.0, 2.0, np.nan]), 0, 100)
    (0.0, 2.0)
    """
    step = max(values.size // _SAMPLE, 1)
    sample = values.reshape(-1)[::step]
    finite = sample[np.isfinite(sample)]
    if not finite.size:
        return 0.0, 1.0
    first, second = np.percentile(finite, (low, high))
    return float(first), float(second if second > first else first + 1.0)


def levels(
    values: NDArray[Any], between: tuple[float, float], stretch: Stretch
) -> NDArray[np.uint8]:
    """Return brightness, 1 to 255, of values; 0 where there is no number.

    Parameters
    ----------
    values : of any shape.
    between : the values of the lowest and the highest brightness.
    stretch : how it grows between them.

    Examples
    --------
    >>> levels(np.array([np.nan, -5.0, 0.0, 50.0, 100.0, 1e9]), (0.0, 100.0), "linear")
    array([  0,   1,   1, 128, 255, 255], dtype=uint8)
    """
    low, high = between
    share = np.clip((values - low) / (high - low), 0.0, 1.0)
    if stretch == "asinh":
        share = np.arcsinh(share * _SOFTENING["asinh"]) / np.arcsinh(_SOFTENING["asinh"])
    elif stretch == "log":
        share = np.log1p(share * _SOFTENING["log"]) / np.log1p(_SOFTENING["log"])
    known = np.isfinite(share)
    shown = np.rint(np.where(known, share, 0.0) * (N_LEVELS - 1)) + 1
    return np.where(known, shown, 0).astype(np.uint8)
