"""Frames of one star that cosmic rays have struck, and what is true of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import arrayred as ar
from arrayred.kernels import PixelNoise
from arrayred.simulate import EmissionLine, Sky, Star, sky_rate, star_rate
from arrayred.steps import compare_frames, comparison_input
from tests.steps import cube_of

GAIN, READ_NOISE, BIAS = 1.5, 12.0, 1000.0
Array = NDArray[Any]


@dataclass(frozen=True)
class Scene:
    """What is simulated: exposures of one star differ in flux, seeing and place.

    Parameters
    ----------
    snr : of a column of a frame's spectrum.
    seeing, tilt, drift : rows; the drift is that from one frame to the next.
    n_frames, n_hits : the hits are tracks, in each frame.
    scatter, breathing : of the flux and of the seeing between frames.
    sky_line : electrons at the peak of the brighter sky line.
    shape : of a frame.
    seed : of everything.
    """

    snr: float = 60.0
    seeing: float = 5.0
    tilt: float = 2.0
    drift: float = 0.5
    n_frames: int = 3
    n_hits: int = 20
    scatter: float = 0.2
    breathing: float = 0.1
    sky_line: float = 2000.0
    shape: tuple[int, int] = (96, 400)
    seed: int = 0

    @property
    def flux(self) -> float:
        """Return electrons of the star in a column that make its signal to noise ratio."""
        noise = READ_NOISE**2 * 2 * self.seeing
        return float(self.snr**2 + np.sqrt(self.snr**4 + 4 * self.snr**2 * noise)) / 2


@dataclass(frozen=True)
class Struck:
    """Frames that were struck.

    Parameters
    ----------
    lights, dark, image : the frames, their master dark, their average less it with its noise.
    hits : (frame, y, x), what cosmic rays brought, in sigma of the pixel.
    star, sky : (frame, y, x) and (frame, x), the light without noise, adu.
    """

    lights: xr.Dataset
    dark: xr.Dataset
    image: xr.Dataset
    hits: Array
    star: Array
    sky: Array


def struck(scene: Scene) -> Struck:
    """Return the frames of a scene; every second track goes through the star."""
    rng = np.random.default_rng(scene.seed)
    sky = Sky(50.0, ((150.0, scene.sky_line, 1.5), (250.0, 600.0, 1.5)))
    glow = sky_rate(scene.shape, sky)[0]
    charge = np.full(scene.shape, 30.0)
    hot = rng.random(scene.shape) < 0.002
    charge[hot] *= 10 ** rng.uniform(0.5, 3.0, int(hot.sum()))
    darks = np.stack([_exposed(charge, rng) for _ in range(5)])
    star, sky, hits, frames = [], [], [], []
    for i in range(scene.n_frames):
        star.append(_star(scene, i, rng))
        sky.append(glow * max(1 + 0.1 * rng.standard_normal(), 0.5))
        light = star[-1] + sky[-1] + charge
        hits.append(_tracks(scene, rng))
        frames.append(_exposed(light + hits[-1] * np.sqrt(light + READ_NOISE**2), rng))
    lights = cube_of(np.stack(frames), gain=GAIN, frame=[f"f{i}" for i in range(len(frames))])
    told = cube_of(darks, frame_type=("frame", ["dark"] * 5))
    dark = ar.measure_noise(ar.combine(told, "median"), told)
    return Struck(
        lights,
        dark,
        averaged(lights, dark),
        np.stack(hits),
        np.stack(star) / GAIN,
        np.stack(sky) / GAIN,
    )


def averaged(lights: xr.Dataset, dark: xr.Dataset, method: Any = "average") -> xr.Dataset:
    """Return the combined image of lights, settled, with its noise and flags."""
    image = ar.flag(ar.settle(ar.combine_with_peak(lights, method, minus=dark)), lights)
    return ar.estimate_noise(image, lights, minus=dark)


def _star(scene: Scene, i: int, rng: np.random.Generator) -> Array:
    """Return the star's light on a frame (y, x), electrons."""
    lines: tuple[EmissionLine, ...] = ((90.0, 0.6, 3.0), (210.0, 0.4, 2.0), (300.0, -1.5, 2.5))
    seeing = scene.seeing * (1 + scene.breathing * rng.uniform(-1, 1))
    row = scene.shape[0] / 2 + 0.3
    star = Star(flux=scene.flux, row=row, tilt=scene.tilt, seeing=seeing, lines=lines)
    flux = max(1 + scene.scatter * rng.standard_normal(), 0.3)
    return flux * star_rate(scene.shape, star, scene.drift * (i - (scene.n_frames - 1) / 2))


def _exposed(electrons: Array, rng: np.random.Generator) -> Array:
    noise = rng.normal(0, READ_NOISE, electrons.shape)
    counts = np.rint((rng.poisson(electrons) + noise) / GAIN + BIAS)
    return np.clip(counts, 0, 65535).astype("u2")


def _tracks(scene: Scene, rng: np.random.Generator) -> Array:
    """Return what tracks bring (y, x), 8 to 300 sigma a pixel."""
    n_rows, n_columns = scene.shape
    hits = np.zeros(scene.shape)
    for i in range(scene.n_hits):
        on_star = rng.normal(n_rows / 2, scene.seeing)
        y = on_star if i % 2 else rng.uniform(1, n_rows)
        x, angle = rng.uniform(1, n_columns), rng.uniform(0, 2 * np.pi)
        strength, length = 10 ** rng.uniform(0.9, 2.5), int(rng.geometric(0.3))
        steps = np.arange(length)
        track = {(round(y + k * np.sin(angle)), round(x + k * np.cos(angle))) for k in steps}
        for row, column in sorted(track):
            if 1 <= row <= n_rows and 1 <= column <= n_columns:
                hits[row - 1, column - 1] += strength
    return hits


class Score:
    """How many of the hits were found, and of the other pixels taken for hits."""

    def __init__(self) -> None:
        self.counts = np.zeros(6)

    def add(self, of: Struck, found: Array) -> None:
        """Count what was found (frame, y, x)."""
        profile = of.star / of.star.max(axis=1, keepdims=True)
        on, hit = profile > 0.1, of.hits > 8
        core = (profile > 0.5) & (of.hits == 0)
        groups = hit & on, hit & ~on, core
        self.counts += [part for of in groups for part in ((found & of).sum(), of.sum())]

    @property
    def on_star(self) -> float:
        """Return the part of the hits on the star that was found."""
        return float(self.counts[0] / self.counts[1])

    @property
    def off_star(self) -> float:
        """Return the part of the hits off the star that was found."""
        return float(self.counts[2] / self.counts[3])

    @property
    def core_taken(self) -> float:
        """Return the part of the star's core that was taken for a hit."""
        return float(self.counts[4] / self.counts[5])


def found_by(of: Struck) -> Array:
    """Return the hits (frame, y, x) that the comparison of the frames finds."""
    gain = float(of.image["gain"].item())
    noise = PixelNoise(of.dark.attrs["noise"] ** 2, 0.0, 1 / gain)
    hits = compare_frames(comparison_input(of.image, of.lights, of.dark, noise), 5.0).outliers
    found = np.zeros(of.hits.shape, bool)
    found.reshape(len(found), -1)[hits.frame, hits.where] = True
    return found
