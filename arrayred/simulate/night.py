"""A night of simulated frames: `SimulatedNight`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from arrayred.model import COUNTS, FRAME, FRAME_TYPES, FrameType, X, Y
from arrayred.simulate.detector import Detector, dark_rate, raised, ray, read_out, response_of
from arrayred.simulate.dialects import Card, Dialect, Exposure, cards_of, name_of
from arrayred.simulate.scene import (
    Image,
    Lamps,
    Sky,
    Star,
    arc_rate,
    columns_of,
    flat_rate,
    sky_in_the_middle,
    sky_rate,
    star_rate,
)

if TYPE_CHECKING:
    import xarray as xr

READOUT = timedelta(seconds=20)


@dataclass(frozen=True)
class SimulatedFrame:
    """One frame: its file name, the cards of its header, its pixels (y, x)."""

    name: str
    cards: dict[str, Card]
    pixels: NDArray[Any]


@dataclass(frozen=True)
class SimulatedNight:
    """A night to be written or used as it is.

    Parameters
    ----------
    detector, star : what it is made of.
    companions : further stars on the same frames.
    sky, lamps : further light.
    n_darks, n_lights, n_biases, n_flats, n_arcs : how many frames of each.
    exptime : exposure of a light or dark, s.
    flux_scatter : by which the stars' light varies from frame to frame, 1 being all of it.
    trace_drift : rows by which the traces move from one light to the next.
    cosmic_rays : how many hit a frame of an hour, on average.
    dialect : of the camera program that writes the headers and names the files.
    prefix : begins every file's name.
    start : of the first exposure, UTC.
    seed : the same seed gives the same night.

    Examples
    --------
    >>> night = SimulatedNight(Detector(shape=(40, 60)), n_darks=1, n_lights=1)
    >>> [(frame.name, frame.pixels.dtype.name) for frame in night.frames()]
    [('dark-001.fit', 'uint16'), ('light-001.fit', 'uint16')]
    """

    detector: Detector = field(default_factory=Detector)
    star: Star = field(default_factory=Star)
    companions: tuple[Star, ...] = ()
    sky: Sky = field(default_factory=Sky)
    lamps: Lamps = field(default_factory=Lamps)
    n_darks: int = 5
    n_lights: int = 3
    n_biases: int = 0
    n_flats: int = 0
    n_arcs: int = 0
    exptime: float = 600.0
    flux_scatter: float = 0.0
    trace_drift: float = 0.0
    cosmic_rays: float = 0.0
    dialect: Dialect = "maxim"
    prefix: str = ""
    start: datetime = datetime(2024, 3, 9, 19, 30)
    seed: int = 0

    def frames(self, *frame_types: FrameType) -> Iterator[SimulatedFrame]:
        """Yield biases, darks, flats, arcs and lights in order of time, each when asked for.

        Parameters
        ----------
        frame_types : only these, where any are named; each is the same as among all.
        """
        detector = self.detector
        dark, response = dark_rate(detector, self.seed), response_of(detector, self.seed)
        for exposure in self.exposures():
            if frame_types and exposure.frame_type not in frame_types:
                continue
            rng = self._rng(1, exposure)
            electrons = (self._light(exposure, rng) * response + dark) * exposure.exptime
            for y, x, charge in self.hits(exposure):
                electrons[y - 1, x - 1] += charge
            level = detector.bias_level + detector.bias_drift * exposure.hours
            rows = raised(detector) if exposure.frame_type == "light" else 0.0
            yield SimulatedFrame(
                name_of(exposure, self.dialect, self.prefix),
                cards_of(exposure, self.dialect, detector.told_gain, detector.read_noise),
                read_out(detector, electrons, level + rows, rng),
            )

    def exposures(self) -> list[Exposure]:
        """Return all exposures in order of time."""
        planned: list[tuple[FrameType, int, float, str]] = [
            ("bias", self.n_biases, 0.0, ""),
            ("dark", self.n_darks, self.exptime, ""),
            ("flat", self.n_flats, self.lamps.exptime, "Flat lamp"),
            ("arc", self.n_arcs, self.lamps.exptime, "Neon lamp"),
            ("light", self.n_lights, self.exptime, self.star.name),
        ]
        exposures: list[Exposure] = []
        clock = timedelta()
        for frame_type, n, exptime, shows in planned:
            for number in range(1, n + 1):
                hours = clock / timedelta(hours=1)
                start = self.start + clock
                exposures.append(Exposure(frame_type, number, start, hours, exptime, shows))
                clock += timedelta(seconds=exptime) + READOUT
        return exposures

    def hits(self, exposure: Exposure) -> list[tuple[int, int, float]]:
        """Return the pixels of a frame that cosmic rays hit: FITS row, column, electrons."""
        rng = self._rng(2, exposure)
        n_rays = rng.poisson(self.cosmic_rays * exposure.exptime / 3600)
        return [hit for _ in range(n_rays) for hit in ray(self.detector.shape, rng)]

    def facts(self) -> dict[str, Any]:
        """Return everything the night is made of, and every cosmic ray, ready for JSON."""
        rays = {
            name_of(exposure, self.dialect, self.prefix): self.hits(exposure)
            for exposure in self.exposures()
        }
        return {**asdict(self), "start": self.start.isoformat(), "cosmic_ray_hits": rays}

    def truth(self) -> xr.Dataset:
        """Return what a perfect observer would find.

        Returns
        -------
        truth : of one light frame of mean brightness, in adu of the true gain, float64: `flux` (x),
            the first star's light, and `flux_recorded` (x), what of it the detector answers to: all
            that can be found without a flat; `sky` (x), that of the middle row; `star` (y, x), all
            stars, `glow` (y, x), the sky, `dark` (y, x), bias level and dark current, and
            `response` (y, x), all without noise; `light_variance` and `dark_variance` (y, x),
            adu^2, with the rounding to whole adu.
        """
        import xarray as xr

        detector, to_adu = self.detector, self.exptime / self.detector.gain
        shape, noise = detector.shape, (detector.read_noise / detector.gain) ** 2 + 1 / 12
        response, current = response_of(detector, self.seed), dark_rate(detector, self.seed)
        first, glow = star_rate(shape, self.star), sky_rate(shape, self.sky)
        stars = self._stars(0.0)
        received = (stars + glow) * response + current
        planes = {
            "star": stars * response * to_adu,
            "glow": glow * response * to_adu,
            "dark": current * to_adu + detector.bias_level,
            "response": response,
            "light_variance": received * to_adu / detector.gain + noise,
            "dark_variance": current * to_adu / detector.gain + noise,
        }
        lines = {
            "flux": (first.sum(axis=0), "the star's light"),
            "flux_recorded": ((first * response).sum(axis=0), "what the detector answers to"),
            "sky": (sky_in_the_middle(columns_of(shape), self.sky), "sky on the middle row"),
        }
        return xr.Dataset(
            {
                **{
                    name: (X, values * to_adu, {"units": "adu", "long_name": what})
                    for name, (values, what) in lines.items()
                },
                **{name: ((Y, X), plane) for name, plane in planes.items()},
            },
            coords={Y: np.arange(1, shape[0] + 1), X: np.arange(1, shape[1] + 1)},
        )

    def brightness_of(self, exposure: Exposure) -> float:
        """Return a light's star in parts of a mean one, as `flux_scatter` has it."""
        return self._brightness(self._rng(1, exposure))

    def cube(self, frame_type: FrameType) -> xr.Dataset:
        """Return the frames of a type as `open_frames` would, once they were written.

        Parameters
        ----------
        frame_type : bias, dark, flat, arc or light.

        Returns
        -------
        cube : `counts` (frame, y, x) in adu, in memory, with frame types, exposures, times, and the
            gain that the headers state.

        Examples
        --------
        >>> SimulatedNight(Detector(shape=(40, 60))).cube("dark").sizes["frame"]
        5
        """
        import xarray as xr

        made = [exposure for exposure in self.exposures() if exposure.frame_type == frame_type]
        pixels = [frame.pixels for frame in self.frames(frame_type)]
        shape = self.detector.shape
        counts = np.stack(pixels) if pixels else np.empty((0, *shape), self.detector.dtype)
        return xr.Dataset(
            {COUNTS: ((FRAME, Y, X), counts, {"units": "adu", "long_name": "pixel values"})},
            coords={
                FRAME: [f"{frame_type}-{exposure.number:03}" for exposure in made],
                Y: np.arange(1, shape[0] + 1),
                X: np.arange(1, shape[1] + 1),
                "frame_type": (FRAME, [frame_type for _ in made]),
                "exptime": (FRAME, [exposure.exptime for exposure in made], {"units": "s"}),
                "time": (FRAME, np.array([e.start for e in made], "datetime64[ns]")),
                "gain": self.detector.told_gain,
            },
        )

    def _rng(self, purpose: int, exposure: Exposure) -> np.random.Generator:
        """Return random numbers of its own for each purpose and frame."""
        kind = FRAME_TYPES.index(exposure.frame_type)
        return np.random.default_rng((self.seed, purpose, kind, exposure.number))

    def _light(self, exposure: Exposure, rng: np.random.Generator) -> Image:
        """Return the light that falls on each pixel, electrons per second."""
        shape = self.detector.shape
        if exposure.frame_type == "flat":
            return flat_rate(shape, self.lamps)
        if exposure.frame_type == "arc":
            return arc_rate(shape, self.lamps)
        if exposure.frame_type != "light":
            return np.zeros(shape)
        brightness = self._brightness(rng)
        stars = self._stars(self.trace_drift * (exposure.number - 1))
        return brightness * stars + sky_rate(shape, self.sky)

    def _brightness(self, rng: np.random.Generator) -> float:
        """Return how bright the stars are on a light: its first random number tells."""
        return max(1.0 + self.flux_scatter * rng.standard_normal(), 0.0)

    def _stars(self, drift: float) -> Image:
        """Return the light of all stars, their traces moved by some rows."""
        light = np.zeros(self.detector.shape)
        for star in (self.star, *self.companions):
            light += star_rate(self.detector.shape, star, drift)
        return light
