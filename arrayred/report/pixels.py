"""Pixels as small pictures: `framed` for the image of a target, `thumbnail` for a raw frame.

Greys are those of the figures (`plots.stretch`), in fewer steps: noise does not compress, and 24
greys take half the bytes of 256 and look the same beside a letter of text.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from arrayred.plots.images import encode_png
from arrayred.plots.style import reduced, stretch_of

_ROWS, _COLUMNS = 220, 480
_SMALL = 72, 96
_STEPS = 24


def framed(counts: NDArray[Any]) -> bytes:
    """Return an image (y, x) as a PNG of at most 220 x 480 pixels, row 1 at the bottom."""
    return _png(counts, _ROWS, _COLUMNS)


def thumbnail(counts: NDArray[Any]) -> bytes:
    """Return a frame (y, x) as a PNG of at most 72 x 96 pixels, row 1 at the bottom."""
    return _png(counts, *_SMALL)


def _png(counts: NDArray[Any], most_rows: int, most_columns: int) -> bytes:
    small = reduced(counts, most_rows, most_columns)
    grey = np.round(stretch_of(small).grey(small)[::-1] * (_STEPS - 1))
    return encode_png(np.round(grey * (255 / (_STEPS - 1))).astype(np.uint8))
