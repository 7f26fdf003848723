"""Stars drawn straight onto an image, with everything known: for tests of what is extracted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from arrayred.model import Rows

Array = NDArray[Any]
GAIN, FLOOR = 4.5, 25.0
"""Electrons per count, and counts^2 of noise without light."""


@dataclass(frozen=True)
class Drawn:
    """An image and its truth: flux and trace (x), the light's share of each pixel (y, x)."""

    image: xr.Dataset
    flux: Array
    center: Array
    profile: Array
    rows: Rows

    def enclosed(self, trace: xr.Dataset, half_height: float) -> Array:
        """Return the flux (x) that falls into an aperture along a trace."""
        away = self.image.y.values[:, np.newaxis] - trace.center.values
        edges = np.minimum(away + 0.5, half_height) - np.maximum(away - 0.5, -half_height)
        return np.asarray(self.flux * (self.profile * np.clip(edges, 0, 1)).sum(axis=0))


def draw(
    snr: float = 50.0,
    *,
    seeing: float | Array = 5.0,
    tilt: float = 0.0,
    sky: float = 20.0,
    seed: int | None = 0,
    shape: tuple[int, int] = (100, 600),
) -> Drawn:
    """Return a star of about a signal to noise in each column; seed None: without noise.

    The seeing is a number, or that of each column.
    """
    y, x = np.arange(1.0, shape[0] + 1)[:, np.newaxis], np.linspace(-0.5, 0.5, shape[1])
    center = 50.3 + tilt * x
    sigma = seeing / 2.3548
    profile = np.exp(-0.5 * ((y - center) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    peak, pixels = 1 / (sigma * 2.5), np.arange(shape[1])
    effective = (FLOOR + sky / GAIN) / peak / np.sqrt(2)
    level = (snr**2 / GAIN + np.sqrt(snr**4 / GAIN**2 + 4 * snr**2 * effective)) / 2
    line = 1 - 0.6 * np.exp(-0.5 * ((pixels - 0.3 * shape[1]) / 3) ** 2)
    flux = level * (1 - 0.3 * (x + 0.5)) * line
    light = flux * profile + sky
    counts = light
    if seed is not None:
        rng = np.random.default_rng(seed)
        counts = rng.poisson(light * GAIN) / GAIN + rng.normal(0, np.sqrt(FLOOR), shape)
    reach = float(np.max(seeing)) + abs(tilt) / 2
    first, last = round(50.3 - reach), round(50.3 + reach)
    rows = Rows(first, last, last - first + 1, sky, 6.0, 4.0, sky + 24)
    return Drawn(image_of(counts), flux, center, profile, rows)


def image_of(counts: Array) -> xr.Dataset:
    """Return counts as an image whose variance follows them, as that of a combined one does."""
    variance = (FLOOR + np.maximum(counts, 0) / GAIN).astype(np.float32)
    return xr.Dataset(
        {
            "counts": (("y", "x"), counts, {"units": "adu"}),
            "variance": (("y", "x"), variance, {"units": "adu2"}),
            "dq": (("y", "x"), np.zeros(counts.shape, np.uint8)),
        },
        {"y": np.arange(1, counts.shape[0] + 1), "x": np.arange(1, counts.shape[1] + 1)},
        {"gain_effective": GAIN},
    )


def flat_sky(level: float, n_columns: int = 600) -> xr.Dataset:
    """Return a sky that is known without error."""
    nothing = ("x", np.zeros(n_columns))
    return xr.Dataset(
        {"level": ("x", np.full(n_columns, level)), "slope": nothing, "variance": nothing}
    )
