"""A synthetic night with known truth: `simulate_night`.

The detector adds a bias level, read noise and a dark current with hot pixels; a star's light falls
on rows around a trace that may be tilted, blurred by the seeing, with absorption lines; the sky
shines everywhere. Photons and dark electrons are Poisson distributed, read noise is normal, and
counts are rounded to whole adu, as a camera's converter does.

Frames are made one by one as they are asked for, each from its own random stream, so that a night
of any size fits into memory and the same seed gives the same frames in any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from arrayred.model import X, Y

if TYPE_CHECKING:
    import xarray as xr

Image = NDArray[np.float64]
_EVENING = datetime(2024, 3, 9, 19, 30)


@dataclass(frozen=True)
class Detector:
    """A CCD.

    Parameters
    ----------
    shape : (n_rows, n_columns).
    bias_level : the offset that the electronics add, adu.
    read_noise : electrons.
    gain : electrons per adu.
    dark_current : electrons per second and pixel.
    hot_fraction : the part of the pixels whose dark current is up to a thousand times that.
    dtype : of the frames; its largest value is where pixels saturate.
    """

    shape: tuple[int, int] = (256, 384)
    bias_level: float = 1000.0
    read_noise: float = 12.0
    gain: float = 1.5
    dark_current: float = 0.05
    hot_fraction: float = 0.002
    dtype: str = "uint16"


@dataclass(frozen=True)
class Star:
    """A star's spectrum on the detector, dispersed along the rows.

    Parameters
    ----------
    name : what the frames' OBJECT card says.
    flux : electrons per second and column at the blue end of the continuum.
    row : where the trace crosses the middle column, FITS row number; None: the middle row.
    tilt : rows by which the trace rises from the first column to the last.
    seeing : full width at half maximum across the trace, rows.
    lines : absorption lines as (column, depth from 0 to 1, sigma in columns).
    sky : electrons per second and pixel.
    """

    name: str = "Simulated star"
    flux: float = 60.0
    row: float | None = None
    tilt: float = 1.5
    seeing: float = 5.0
    lines: tuple[tuple[float, float, float], ...] = ((90.0, 0.6, 3.0), (210.0, 0.4, 2.0))
    sky: float = 0.05


@dataclass(frozen=True)
class SimulatedFrame:
    """One frame: its file name, the cards of its header, its pixels (y, x)."""

    name: str
    cards: dict[str, str | float | int]
    pixels: NDArray[Any]


@dataclass(frozen=True)
class SimulatedNight:
    """A night to be written or used as it is.

    Parameters
    ----------
    detector, star : what it was made of.
    n_darks, n_lights : how many frames of each.
    exptime : exposure of every frame, s.
    seed : of the random numbers.
    """

    detector: Detector = field(default_factory=Detector)
    star: Star = field(default_factory=Star)
    n_darks: int = 5
    n_lights: int = 3
    exptime: float = 600.0
    seed: int = 0

    def frames(self) -> Iterator[SimulatedFrame]:
        """Yield the darks, then the lights, each made when it is asked for."""
        dark_rate = _dark_rate(self.detector, self.seed)
        light_rate = dark_rate + _star_rate(self.detector, self.star) + self.star.sky
        for i in range(self.n_darks + self.n_lights):
            is_dark = i < self.n_darks
            number = i + 1 if is_dark else i + 1 - self.n_darks
            electrons = (dark_rate if is_dark else light_rate) * self.exptime
            yield SimulatedFrame(
                name=f"{'dark' if is_dark else 'light'}-{number:03}.fit",
                cards=self._cards(i, "Dark Frame" if is_dark else "Light Frame"),
                pixels=_exposed(self.detector, electrons, np.random.default_rng((self.seed, 1, i))),
            )

    def truth(self) -> xr.Dataset:
        """Return what a perfect observer would find.

        Returns
        -------
        truth : `flux` (x), the star's light in adu per frame; `star` (y, x), its image without
            noise; `dark` (y, x), bias level and dark current; all in adu, float64.
        """
        import xarray as xr

        n_rows, n_columns = self.detector.shape
        to_adu = self.exptime / self.detector.gain
        star = _star_rate(self.detector, self.star) * to_adu
        dark = _dark_rate(self.detector, self.seed) * to_adu + self.detector.bias_level
        return xr.Dataset(
            {"flux": (X, star.sum(axis=0)), "star": ((Y, X), star), "dark": ((Y, X), dark)},
            coords={Y: np.arange(1, n_rows + 1), X: np.arange(1, n_columns + 1)},
            attrs={"units": "adu", "exptime": self.exptime},
        )

    def _cards(self, index: int, frame_type: str) -> dict[str, str | float | int]:
        """Return a header in the dialect of a common camera program."""
        start = _EVENING + timedelta(seconds=index * (self.exptime + 20.0))
        return {
            "DATE-OBS": start.isoformat(timespec="milliseconds"),
            "EXPTIME": float(self.exptime),
            "CCD-TEMP": -20.0 + 0.1 * (index % 3),
            "XBINNING": 1,
            "YBINNING": 1,
            "IMAGETYP": frame_type,
            "EGAIN": float(self.detector.gain),
            "RDNOISE": float(self.detector.read_noise),
            "OBJECT": self.star.name if frame_type == "Light Frame" else "",
            "INSTRUME": "Simulated camera",
        }


def simulate_night(
    detector: Detector | None = None,
    star: Star | None = None,
    *,
    n_darks: int = 5,
    n_lights: int = 3,
    exptime: float = 600.0,
    seed: int = 0,
) -> SimulatedNight:
    """Describe a synthetic night; its frames are made as they are asked for.

    Parameters
    ----------
    detector, star : what it is made of; the defaults of their classes if left out.
    n_darks, n_lights : how many frames of each.
    exptime : exposure of every frame, s.
    seed : the same seed gives the same night.

    Examples
    --------
    >>> night = simulate_night(Detector(shape=(40, 60)), n_darks=1, n_lights=1)
    >>> [(frame.name, frame.pixels.dtype.name) for frame in night.frames()]
    [('dark-001.fit', 'uint16'), ('light-001.fit', 'uint16')]
    """
    return SimulatedNight(detector or Detector(), star or Star(), n_darks, n_lights, exptime, seed)


def _dark_rate(detector: Detector, seed: int) -> Image:
    """Return the dark current of each pixel, electrons per second."""
    rng = np.random.default_rng((seed, 0))
    rate = np.full(detector.shape, detector.dark_current)
    hot = rng.random(detector.shape) < detector.hot_fraction
    rate[hot] *= 10.0 ** rng.uniform(0.5, 3.0, int(hot.sum()))
    return rate


def _star_rate(detector: Detector, star: Star) -> Image:
    """Return the star's light on each pixel, electrons per second."""
    n_rows, n_columns = detector.shape
    x = np.arange(1, n_columns + 1, dtype=np.float64)
    y = np.arange(1, n_rows + 1, dtype=np.float64)[:, np.newaxis]
    flux = star.flux * (1.0 - 0.3 * x / n_columns)
    for column, depth, sigma in star.lines:
        flux *= 1.0 - depth * np.exp(-0.5 * ((x - column) / sigma) ** 2)
    middle = (n_rows + 1) / 2 if star.row is None else star.row
    trace = middle + star.tilt * ((x - 1) / max(n_columns - 1, 1) - 0.5)
    sigma_y = star.seeing / 2.3548
    profile = np.exp(-0.5 * ((y - trace) / sigma_y) ** 2) / (sigma_y * np.sqrt(2 * np.pi))
    return np.asarray(flux * profile)


def _exposed(detector: Detector, electrons: Image, rng: np.random.Generator) -> NDArray[Any]:
    """Return a frame in adu: photon noise, read noise, bias level, rounding, saturation."""
    collected = rng.poisson(electrons) + rng.normal(0.0, detector.read_noise, electrons.shape)
    counts = np.rint(collected / detector.gain + detector.bias_level)
    kind = np.dtype(detector.dtype)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        counts = np.clip(counts, limits.min, limits.max)
    return counts.astype(kind)
