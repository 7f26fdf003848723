"""The detector: what it adds to the light, and how it turns electrons into counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float64]


@dataclass(frozen=True)
class Detector:
    """A CCD.

    Parameters
    ----------
    shape : (n_rows, n_columns).
    bias_level : the offset that the electronics add, adu.
    bias_drift : by which it rises, adu per hour.
    read_noise : electrons.
    gain : electrons per adu.
    stated_gain : what the headers say it is, electrons per adu; None: the truth.
    dark_current : electrons per second and pixel.
    hot_fraction : the part of the pixels whose dark current is up to a thousand times that.
    hot_rows : (FITS row, electrons per second) of rows whose dark current is higher by so much.
    raised_rows : (FITS row, adu) by which the electronics raise rows of the lights, and of no dark.
    response_scatter : standard deviation of the pixels' response to light, 1 being the mean.
    vignetting : the part of the light that is lost in the corners.
    full_well : electrons that a pixel holds at most.
    dtype : of the frames; its range is that of the converter.
    """

    shape: tuple[int, int] = (256, 384)
    bias_level: float = 1000.0
    bias_drift: float = 0.0
    read_noise: float = 12.0
    gain: float = 1.5
    stated_gain: float | None = None
    dark_current: float = 0.05
    hot_fraction: float = 0.002
    hot_rows: tuple[tuple[int, float], ...] = ()
    raised_rows: tuple[tuple[int, float], ...] = ()
    response_scatter: float = 0.0
    vignetting: float = 0.0
    full_well: float = 1e5
    dtype: str = "uint16"

    @property
    def told_gain(self) -> float:
        """Return what headers say the gain is, electrons per adu."""
        return self.gain if self.stated_gain is None else self.stated_gain


def dark_rate(detector: Detector, seed: int) -> Image:
    """Return the dark current of each pixel (y, x), electrons per second."""
    rng = np.random.default_rng((seed, 0))
    rate = np.full(detector.shape, detector.dark_current)
    hot = rng.random(detector.shape) < detector.hot_fraction
    rate[hot] *= 10.0 ** rng.uniform(0.5, 3.0, int(hot.sum()))
    for row, more in detector.hot_rows:
        rate[row - 1] += more
    return rate


def raised(detector: Detector) -> Image:
    """Return by how much the electronics raise each row of a light (y, 1), adu."""
    levels = np.zeros((detector.shape[0], 1))
    for row, more in detector.raised_rows:
        levels[row - 1] += more
    return levels


def response_of(detector: Detector, seed: int) -> Image:
    """Return each pixel's response to light (y, x), 1 being that of a mean pixel in the middle."""
    rng = np.random.default_rng((seed, 6))
    n_rows, n_columns = detector.shape
    y = np.linspace(-1, 1, n_rows)[:, np.newaxis]
    x = np.linspace(-1, 1, n_columns)
    falloff = 1.0 - detector.vignetting * (x**2 + y**2) / 2
    scatter = 1.0 + detector.response_scatter * rng.standard_normal(detector.shape)
    return np.asarray(np.maximum(falloff, 0.0) * np.maximum(scatter, 0.0))


def ray(shape: tuple[int, int], rng: np.random.Generator) -> Iterator[tuple[int, int, float]]:
    """Yield the pixels of one straight track: FITS row, column, electrons."""
    y, x = rng.uniform(1, shape[0]), rng.uniform(1, shape[1])
    angle, n_pixels = rng.uniform(0, 2 * np.pi), int(rng.geometric(0.3))
    charge = float(np.round(rng.lognormal(8.0, 0.6)))
    pixels = {(round(y + i * np.sin(angle)), round(x + i * np.cos(angle))) for i in range(n_pixels)}
    for row, column in sorted(pixels):
        if 1 <= row <= shape[0] and 1 <= column <= shape[1]:
            yield row, column, charge


def read_out(
    detector: Detector, electrons: Image, level: float | Image, rng: np.random.Generator
) -> NDArray[Any]:
    """Return a frame in adu: photon noise, full well, read noise, bias level, rounding, range.

    Parameters
    ----------
    detector : what reads out.
    electrons : expected on each pixel (y, x).
    level : of the bias, adu; a number, or of each row (y, 1).
    rng : of this frame.
    """
    collected = np.minimum(rng.poisson(electrons), detector.full_well)
    counts = collected + rng.normal(0.0, detector.read_noise, electrons.shape)
    counts = np.rint(counts / detector.gain + level)
    kind = np.dtype(detector.dtype)
    if kind.kind in "iu":
        counts = np.clip(counts, np.iinfo(kind).min, np.iinfo(kind).max)
    return counts.astype(kind)
