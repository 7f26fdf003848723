"""The light before it meets the detector: stars, sky and lamps, electrons per second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float64]
Line = tuple[float, float, float]

_FWHM_PER_SIGMA = 2.3548200450309493
_MOFFAT_BETA = 3.0


@dataclass(frozen=True)
class Star:
    """A star's spectrum, dispersed along the rows.

    Parameters
    ----------
    name : what the frames' OBJECT card says.
    flux : electrons per second and column at the blue end of the continuum.
    row : where the trace crosses the middle column, FITS row number; None: the middle row.
    tilt : rows by which the trace rises from the first column to the last.
    seeing : full width at half maximum across the trace, rows.
    profile : its shape; the Moffat's exponent is 3.
    lines : (column, depth, sigma in columns); a negative depth is emission.
    """

    name: str = "Simulated star"
    flux: float = 60.0
    row: float | None = None
    tilt: float = 1.5
    seeing: float = 5.0
    profile: Literal["gaussian", "moffat"] = "gaussian"
    lines: tuple[Line, ...] = ((90.0, 0.6, 3.0), (210.0, 0.4, 2.0), (300.0, -0.5, 2.5))


@dataclass(frozen=True)
class Sky:
    """The sky: electrons per second and pixel, and lines on top.

    Parameters
    ----------
    level : electrons per second and pixel in the middle row.
    lines : (column in the middle row, electrons per second and pixel, sigma in columns).
    gradient : the part by which sky and lines brighten from the first row to the last.
    tilt : columns by which a line leans from the first row to the last.
    """

    level: float = 0.05
    lines: tuple[Line, ...] = ((250.0, 0.3, 1.5),)
    gradient: float = 0.0
    tilt: float = 0.0


@dataclass(frozen=True)
class Lamps:
    """A lamp for flats and one for arcs.

    Parameters
    ----------
    flat_level : electrons per second and pixel at the brightest column.
    arc_lines : (column at the middle row, electrons per second and pixel, sigma).
    arc_tilt : columns by which an arc line leans from the first row to the last.
    exptime : exposure of a flat or arc, s.
    """

    flat_level: float = 2000.0
    arc_lines: tuple[Line, ...] = ((60.0, 300.0, 1.5), (180.0, 500.0, 1.5), (330.0, 200.0, 1.5))
    arc_tilt: float = 1.0
    exptime: float = 10.0


def star_rate(shape: tuple[int, int], star: Star, drift: float = 0.0) -> Image:
    """Return a star's light on each pixel (y, x), electrons per second."""
    n_rows, n_columns = shape
    x = columns_of(shape)
    y = np.arange(1, n_rows + 1, dtype=np.float64)[:, np.newaxis]
    flux = star.flux * (1.0 - 0.3 * x / n_columns)
    for column, depth, sigma in star.lines:
        flux *= 1.0 - depth * np.exp(-0.5 * ((x - column) / sigma) ** 2)
    middle = (n_rows + 1) / 2 if star.row is None else star.row
    trace = middle + drift + star.tilt * ((x - 1) / max(n_columns - 1, 1) - 0.5)
    return np.asarray(flux * _profile(y - trace, star))


def _profile(distance: Image, star: Star) -> Image:
    """Return the part of the light per row at a distance from the trace; all of it sums to 1.

    Moffat (1969, A&A 3, 455): the profile integrated along the dispersion, exponent beta - 1/2.
    """
    if star.profile == "gaussian":
        sigma = star.seeing / _FWHM_PER_SIGMA
        return np.asarray(np.exp(-0.5 * (distance / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi)))
    exponent = _MOFFAT_BETA - 0.5
    width = star.seeing / (2 * np.sqrt(2 ** (1 / exponent) - 1))
    shape = (1 + (distance / width) ** 2) ** -exponent
    return np.asarray(shape * 3 / (4 * width))


def sky_rate(shape: tuple[int, int], sky: Sky) -> Image:
    """Return the sky's light on each pixel (y, x), electrons per second."""
    across = np.linspace(-0.5, 0.5, shape[0])[:, np.newaxis] if shape[0] > 1 else np.zeros((1, 1))
    light = sky_in_the_middle(columns_of(shape) - sky.tilt * across, sky)
    return np.asarray(light * np.maximum(1.0 + sky.gradient * across, 0.0))


def sky_in_the_middle(x: Image, sky: Sky) -> Image:
    """Return the sky's light at columns x of the middle row, electrons per second and pixel."""
    return _with_lines(np.full(x.shape, sky.level), x, sky.lines)


def flat_rate(shape: tuple[int, int], lamps: Lamps) -> Image:
    """Return the flat lamp's light (y, x), electrons per second: a smooth colour along x."""
    x = np.linspace(-1, 1, shape[1])
    colour = lamps.flat_level * (1.0 - 0.4 * (x - 0.2) ** 2)
    return np.broadcast_to(colour, shape).copy()


def arc_rate(shape: tuple[int, int], lamps: Lamps) -> Image:
    """Return the arc lamp's light (y, x), electrons per second: lines that lean along y."""
    n_rows, _ = shape
    lean = lamps.arc_tilt * np.linspace(-0.5, 0.5, n_rows)[:, np.newaxis]
    x = columns_of(shape) - lean
    return _with_lines(np.zeros(shape), x, lamps.arc_lines)


def _with_lines(light: Image, x: Image, lines: tuple[Line, ...]) -> Image:
    for column, strength, sigma in lines:
        light += strength * np.exp(-0.5 * ((x - column) / sigma) ** 2)
    return light


def columns_of(shape: tuple[int, int]) -> Image:
    """Return the FITS column numbers (x)."""
    return np.arange(1, shape[1] + 1, dtype=np.float64)
