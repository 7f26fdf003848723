"""Which nights are made: `Cell`, one point of the grid, and the grids.

A cell says how good the spectrum can be at all: its S/N is that of a column in the middle of the
spectrum, for someone who knows trace, profile, sky and noise. The star's light is chosen for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from arrayred.kernels import median_factor
from arrayred.simulate import Detector, SimulatedNight, Sky, Star

SHAPE, ROW, N_DARKS = (256, 320), 128.3, 5
SURPRISES = {
    "Moffat wings": "stellar profile with wings",
    "pixel response": "1% pixel-to-pixel sensitivity variations, no flat",
    "sky gradient": "sky brightening by 20% along the slit",
    "tilted sky lines": "tilted sky lines (3 columns), as bright as the sky",
    "bias drift": "bias rising by 3 ADU from dark to light frames",
    "wrong gain": "gain 5% too high in the headers",
    "trace drift": "star moving by half a row from the first light frame to the last",
    "all of them": "all of these at once",
    "bright tilted sky lines": "tilted sky lines (3 columns), five times as bright as the sky",
}
"""A lean of 3 columns in 256 rows is what a neon lamp shows on a real chip: 3 in 300."""
_SKY = Sky(level=0.2, lines=((80.0, 0.1, 1.5), (250.0, 0.2, 1.5)))
_BRIGHT_LINES = ((80.0, 0.5, 1.5), (250.0, 1.0, 1.5))
_RAYS_PER_HOUR = 80.0
_HOT = 0.01


@dataclass(frozen=True)
class Cell:
    """One point of the grid.

    Parameters
    ----------
    snr : of a column, at best.
    seeing, tilt : of the trace, rows.
    n_frames : lights.
    hot : 1 % of the pixels are hot, five times as many as usual.
    rays : cosmic rays, 14 on each frame.
    flux_scatter : by which the star's light varies from light to light.
    surprise : an effect that the model does not know, of SURPRISES; "": none.
    nights : how many are made.
    """

    snr: float
    seeing: float = 5.0
    tilt: float = 3.0
    n_frames: int = 3
    hot: bool = False
    rays: bool = False
    flux_scatter: float = 0.0
    surprise: str = ""
    nights: int = 60

    @property
    def name(self) -> str:
        """Return what tells it from the other cells.

        Examples
        --------
        >>> Cell(30.0, rays=True).name
        'S/N 30, seeing 5, tilt 3, 3 frames, cosmic rays'
        """
        parts = [
            f"S/N {self.snr:g}, seeing {self.seeing:g}, tilt {self.tilt:g}, {self.n_frames} frames"
        ]
        parts += ["hot pixels"] * self.hot + ["cosmic rays"] * self.rays
        parts += [f"flux varies by {self.flux_scatter:.0%}"] * (self.flux_scatter > 0)
        return ", ".join([*parts, self.surprise] if self.surprise else parts)

    def night(self, seed: int) -> SimulatedNight:
        """Return one of its nights; different cells and seeds share no random number."""
        return _night(self, _light_for(replace(self, nights=0)), _mixed(self.name, seed))


def _mixed(name: str, seed: int) -> int:
    """Return a seed that depends on both."""
    return int(np.random.SeedSequence([seed, *name.encode()]).generate_state(1)[0])


def _night(cell: Cell, light: float, seed: int) -> SimulatedNight:
    has = {cell.surprise}
    if cell.surprise == "all of them":
        has = {*SURPRISES} - {"bright tilted sky lines"}
    star = Star(
        flux=light,
        row=ROW,
        tilt=cell.tilt,
        seeing=cell.seeing,
        profile="moffat" if "Moffat wings" in has else "gaussian",
    )
    lights: dict[str, Any] = {"n_darks": N_DARKS, "n_lights": cell.n_frames, "exptime": 600.0}
    return SimulatedNight(
        _detector(cell, has),
        star,
        sky=_sky(has),
        flux_scatter=cell.flux_scatter,
        trace_drift=0.5 / max(cell.n_frames - 1, 1) if "trace drift" in has else 0.0,
        cosmic_rays=_RAYS_PER_HOUR if cell.rays else 0.0,
        seed=seed,
        **lights,
    )


def _detector(cell: Cell, has: set[str]) -> Detector:
    hours_between = (N_DARKS + cell.n_frames) / 2 * 620.0 / 3600.0
    usual = Detector(SHAPE)
    return replace(
        usual,
        hot_fraction=_HOT if cell.hot else usual.hot_fraction,
        response_scatter=0.01 if "pixel response" in has else 0.0,
        bias_drift=3.0 / hours_between if "bias drift" in has else 0.0,
        stated_gain=1.05 * usual.gain if "wrong gain" in has else None,
    )


def _sky(has: set[str]) -> Sky:
    if "bright tilted sky lines" in has:
        return replace(_SKY, lines=_BRIGHT_LINES, tilt=3.0)
    if not has & {"sky gradient", "tilted sky lines"}:
        return Sky()
    return replace(
        _SKY,
        gradient=0.2 if "sky gradient" in has else 0.0,
        tilt=3.0 if "tilted sky lines" in has else 0.0,
    )


def blank_night(seed: int) -> SimulatedNight:
    """Return a night without a star, of all that could be taken for one."""
    detector = Detector((160, 200), bias_drift=4.35, raised_rows=((120, 12.0),))
    sky, seed = replace(_SKY, lines=_BRIGHT_LINES, gradient=0.2), _mixed("blank", seed)
    return SimulatedNight(detector, Star(flux=0.0), sky=sky, cosmic_rays=_RAYS_PER_HOUR, seed=seed)


def combined_variance(truth: xr.Dataset, n_lights: int, n_darks: int) -> NDArray[np.float64]:
    """Return the true variance (y, x) of the mean of the lights less the median of the darks."""
    of_dark = truth["dark_variance"].values * median_factor(n_darks) / n_darks
    return np.asarray(truth["light_variance"].values / n_lights + of_dark)


def best_sigma(truth: xr.Dataset, n_lights: int, n_darks: int) -> NDArray[np.float64]:
    """Return the standard deviation (x) of the flux for who knows trace, profile, sky and noise.

    It is 1 / sqrt(sum over the rows of profile^2 / variance) (Horne 1986, PASP 98, 609, eq. 9).
    """
    profile = truth["star"].values / truth["flux"].values
    information = (profile**2 / combined_variance(truth, n_lights, n_darks)).sum(axis=0)
    return np.asarray(1.0 / np.sqrt(information))


def peak_row_snr(truth: xr.Dataset, n_lights: int, n_darks: int) -> float:
    """Return the mean of the star's brightest row over the noise of a row's mean."""
    means = truth["star"].mean("x").values
    row = int(np.argmax(means))
    variance = combined_variance(truth, n_lights, n_darks)[row]
    return float(means[row] / math.sqrt(float(np.median(variance)) / variance.size))


@cache
def _light_for(cell: Cell) -> float:
    """Return the star's light, electrons per second and column, for the S/N that is wanted."""
    light = cell.snr
    for _ in range(12):
        truth = replace(_night(cell, light, 0), seed=0).truth()
        snr = float(np.median(truth["flux"] / best_sigma(truth, cell.n_frames, N_DARKS)))
        light *= (cell.snr / snr) ** (1.0 if snr < 20 else 1.5)
        if abs(snr / cell.snr - 1) < 1e-3:
            break
    return light


def full_grid(nights: int = 60) -> Iterator[Cell]:
    """Yield every cell that is published."""
    snrs = (3.0, 10.0, 30.0, 100.0, 300.0)
    for snr, seeing, tilt in product(snrs, (2.0, 5.0, 12.0), (0.0, 3.0, 8.0)):
        yield Cell(snr, seeing, tilt, nights=nights)
    for n_frames, snr in product((9, 25), (3.0, 30.0, 300.0)):
        yield Cell(snr, n_frames=n_frames, nights=nights)
    for snr in snrs:
        yield Cell(snr, hot=True, nights=nights)
        yield Cell(snr, rays=True, nights=nights)
        yield Cell(snr, hot=True, rays=True, flux_scatter=0.2, nights=nights)
    for seeing, tilt in product((2.0, 12.0), (0.0, 8.0)):
        yield Cell(30.0, seeing, tilt, hot=True, rays=True, nights=nights)
    for surprise, snr in product(SURPRISES, snrs[1:]):
        yield Cell(snr, surprise=surprise, nights=nights)
    for snr, seeing, tilt in product((10.0, 100.0), (2.0, 12.0), (0.0, 8.0)):
        yield Cell(snr, seeing, tilt, surprise="all of them", nights=nights)


def quick_grid(nights: int = 12) -> Iterator[Cell]:
    """Yield a few cells of the grid."""
    for snr, (seeing, tilt) in product((3.0, 30.0, 300.0), ((2.0, 8.0), (5.0, 3.0), (12.0, 0.0))):
        yield Cell(snr, seeing, tilt, nights=nights)
    yield Cell(30.0, n_frames=9, nights=nights)
    yield Cell(30.0, hot=True, rays=True, flux_scatter=0.2, nights=nights)
    for surprise in SURPRISES:
        yield Cell(100.0, surprise=surprise, nights=nights)
