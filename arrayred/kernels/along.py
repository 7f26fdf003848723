"""An aperture that follows a trace: its pixels gathered, with what part of each lies inside.

A pixel is a row high, so an aperture whose edges lie between rows takes part of the two pixels at
its ends. Gathered pixels are (row, x), row 0 being the lowest that has a part in its column.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.intp]


class Aperture(NamedTuple):
    """Where the pixels of an aperture are.

    Parameters
    ----------
    position : (row, x), of rows in the image; where it is off the image, of its nearest row.
    away : (row, x), rows from the trace to the middle of the pixel.
    part : (row, x), of the pixel that lies inside, 0 to 1.
    on_image : (row, x).
    """

    position: Indices
    away: Values
    part: Values
    on_image: Flags


def aperture(center: Values, half_height: float, n_rows: int) -> Aperture:
    """Return the pixels within a distance of a trace.

    Parameters
    ----------
    center : (x), of the trace, as positions of rows from 0.
    half_height : rows from the trace to either edge.
    n_rows : of the image.

    Examples
    --------
    >>> found = aperture(np.array([5.0, 5.25]), 1.5, 20)
    >>> found.position.T.tolist(), found.part.T.tolist()
    ([[4, 5, 6, 7], [4, 5, 6, 7]], [[1.0, 1.0, 1.0, 0.0], [0.75, 1.0, 1.0, 0.25]])
    """
    lowest = np.floor(center - half_height + 0.5)
    height = int(np.floor(2 * half_height)) + 2
    place = lowest + np.arange(height)[:, np.newaxis]
    away = place - center
    inside = np.minimum(away + 0.5, half_height) - np.maximum(away - 0.5, -half_height)
    part = np.clip(inside, 0.0, 1.0)
    on_image = (place >= 0) & (place < n_rows)
    held: Any = np.clip(place, 0, n_rows - 1).astype(np.intp)
    used = max(int(np.count_nonzero(part.any(axis=1))), 1)
    return Aperture(held[:used], away[:used], part[:used], on_image[:used])


def gathered(plane: NDArray[Any], found: Aperture) -> NDArray[Any]:
    """Return the pixels (row, x) of a plane (y, x) in an aperture."""
    return np.take_along_axis(plane, found.position, axis=0)
