"""Small images with a spectrum at the edge of what can be seen, or with everything but one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arrayred.simulate import cosmic_ray_track

SHAPE = (160, 240)
Image = NDArray[np.float64]


@dataclass(frozen=True)
class Field:
    """An image and where its star is: row, FITS number, and by how much its trace spreads."""

    counts: Image
    row: float = 0.0
    reach: float = 0.0


def blank_field(seed: int, shape: tuple[int, int] = SHAPE, *, hot_row: bool = True) -> Field:
    """Return noise, gradient, drift of the bias, hot pixels, cosmic rays, sky lines, a hot row."""
    counts, _ = _blank(np.random.default_rng((seed, 1)), shape, hot_row=hot_row)
    return Field(counts)


def star_field(
    seed: int, shape: tuple[int, int] = SHAPE, *, snr: float | None = None, lines: bool = False
) -> Field:
    """Return such an image with a star whose brightest row has a mean of snr (5 to 8) noises.

    Seeing 2 to 12 rows, tilt up to 8 rows either way; `lines`: three lines and no continuum.
    """
    rng = np.random.default_rng((seed, 2))
    counts, noise = _blank(rng, shape, hot_row=bool(rng.random() < 0.3))
    n_rows, n_columns = shape
    seeing, tilt, row = rng.uniform(2, 12), rng.uniform(-8, 8), rng.uniform(12, n_rows - 12)
    x = np.arange(n_columns)
    trace = row + tilt * (x / (n_columns - 1) - 0.5)
    flux = 1 - 0.3 * x / n_columns
    if lines:
        centres = rng.uniform((0.05, 0.35, 0.7), (0.3, 0.6, 0.95)) * n_columns
        widths, heights = rng.uniform(1, 2.5, 3), rng.uniform(0.6, 1, 3)
        flux = heights @ np.exp(-0.5 * ((x - centres[:, None]) / widths[:, None]) ** 2)
    light = np.exp(-0.5 * ((np.arange(n_rows)[:, None] - trace) / (seeing / 2.355)) ** 2) * flux
    wanted = rng.uniform(5, 8) if snr is None else snr
    light *= wanted * noise / np.sqrt(n_columns) / light.mean(axis=1).max()
    light += rng.normal(0, 1, shape) * np.sqrt(light / 1.5)
    return Field(counts + light, row + 1, 3 + seeing / 2 + abs(tilt) / 2)


def _blank(
    rng: np.random.Generator, shape: tuple[int, int], *, hot_row: bool
) -> tuple[Image, float]:
    n_rows, n_columns = shape
    noise = rng.uniform(3, 15)
    of_mean = noise / np.sqrt(n_columns)
    y, x = np.linspace(-1, 1, n_rows)[:, None], np.linspace(-1, 1, n_columns)
    counts = rng.normal(rng.uniform(0, 300), noise, shape)
    counts += noise * (rng.normal() * y + rng.normal() * x + rng.normal(0, 0.5) * y**2)
    counts += rng.uniform(0, 4) * of_mean * np.sin(y * rng.uniform(0, np.pi) + rng.uniform(0, 7))
    walk = np.cumsum(rng.normal(0, 1, n_rows))
    counts += (0.3 * rng.random() * of_mean * (walk - walk.mean()) / walk.std())[:, None]
    hot = rng.random(shape) < rng.uniform(0, 0.003)
    counts[hot] += 10 ** rng.uniform(0.5, 3.5, hot.sum()) * noise / 5
    for _ in range(rng.poisson(rng.uniform(0, 25))):
        for row, column, charge in cosmic_ray_track(shape, rng):
            counts[row - 1, column - 1] += charge / 1.5
    for centre in rng.uniform(0, n_columns, rng.integers(0, 3)):
        counts += rng.uniform(0, 20) * noise * np.exp(-((np.arange(n_columns) - centre) ** 2) / 4.5)
    if hot_row:
        counts[rng.integers(0, n_rows)] += 10 ** rng.uniform(-1.2, 2) * noise
    return counts, noise
