"""Nights made from first principles, to check the reduction against: `IndependentNight`.

It shares nothing with `arrayred.simulate` and imports nothing of arrayred: a mistake that the
program and its own simulator made alike would otherwise cancel. Light falls on a grid ten times as
fine as the pixels along the slit, photons are drawn, electrons fill wells, and a converter counts
them. Rows and columns are FITS numbers, from 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

Values = NDArray[np.float64]
_FINE = 10
_FWHM_PER_SIGMA = 2.3548200450309493


@dataclass(frozen=True)
class Source:
    """A star, or anything else that shines through the slit.

    Parameters
    ----------
    row : its centre in the middle column.
    flux : electrons of a column in one exposure, a number or an array (x).
    fwhm : of its profile along the slit, rows; a number or an array (x).
    tilt : rows from the first column to the last.
    bend : rows by which the middle lies above the line through both ends.
    beta : exponent of a Moffat profile; None: a Gaussian.
    lines : emission lines: column, electrons of the whole line, standard deviation in columns.
    """

    row: float
    flux: float | Values = 0.0
    fwhm: float | Values = 4.0
    tilt: float = 0.0
    bend: float = 0.0
    beta: float | None = None
    lines: tuple[tuple[float, float, float], ...] = ()


@dataclass(frozen=True)
class Exposure:
    """What differs from light to light: transparency, seeing, and where the star fell.

    Parameters
    ----------
    transparency, seeing : factors of the light and of its width.
    rows : by which all sources moved along the slit; its lean moves their light along the columns.
    columns : by which their light moved along the dispersion.
    shining : the sources that are in the slit; None: all.
    """

    transparency: float = 1.0
    seeing: float = 1.0
    rows: float = 0.0
    columns: float = 0.0
    shining: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Camera:
    """A detector and its converter.

    Parameters
    ----------
    shape : rows and columns.
    gain : electrons per adu.
    read_noise : electrons.
    bias : adu.
    dark : electrons of a pixel in one exposure, a number or an array (y, x).
    hot : part of the pixels with 800 electrons more.
    full_well : electrons; None: the converter saturates first.
    well_scatter : standard deviation of the wells from pixel to pixel, parts.
    largest : largest number of the converter, adu.
    step : all numbers are multiples of it.
    response : of the pixels to light, a number or an array (y, x).
    """

    shape: tuple[int, int] = (200, 400)
    gain: float = 1.5
    read_noise: float = 5.0
    bias: float = 1000.0
    dark: float | Values = 20.0
    hot: float = 0.003
    full_well: float | None = None
    well_scatter: float = 0.01
    largest: int = 65535
    step: int = 1
    response: float | Values = 1.0


@dataclass(frozen=True)
class Sky:
    """Light that fills the slit.

    Parameters
    ----------
    level : electrons of a pixel in one exposure, a number or an array (y, x).
    lines : column in the middle row, electrons of a pixel at the peak, standard deviation in
        columns.
    lean : columns by which lines move from row to row.
    """

    level: float | Values = 30.0
    lines: tuple[tuple[float, float, float], ...] = ()
    lean: float = 0.0


@dataclass(frozen=True)
class IndependentNight:
    """A night whose truth is known.

    Parameters
    ----------
    sources : what is in the slit; the first is the star that is meant.
    exposures : one for each light.
    tracks : cosmic rays on each light: each a line of 4 to 15 pixels, two pixels wide, of 600 to
        3,000 electrons a pixel.
    on_star : as many more whose middle lies on the star.
    cards : header cards of all frames, over the usual ones.
    n_flats : flats; 0: none.
    flat : electrons of a flat's pixel, a number or an array (y, x).
    lamp : brightness of the lamp in each flat, cycled.
    """

    sources: Sequence[Source]
    camera: Camera = Camera()
    sky: Sky = Sky()
    exposures: Sequence[Exposure] = (Exposure(), Exposure(), Exposure())
    n_darks: int = 5
    tracks: int = 0
    on_star: int = 0
    cards: Mapping[str, Any] = field(default_factory=dict)
    n_flats: int = 0
    flat: float | Values = 20_000.0
    lamp: Sequence[float] = (1.0,)
    exptime: float = 60.0
    seed: int = 0

    def center(self, which: int = 0, exposure: Exposure | None = None) -> Values:
        """Return the row of a source in each column (x)."""
        source, n = self.sources[which], self.camera.shape[1]
        along = np.linspace(-0.5, 0.5, n)
        moved = 0.0 if exposure is None else exposure.rows
        return source.row + source.tilt * along + source.bend * (1 - 4 * along**2) + moved

    def light_of(self, which: int = 0, exposure: Exposure | None = None) -> Values:
        """Return the electrons (y, x) expected of a source in one exposure, before response."""
        exposure = exposure or Exposure()
        source, (ny, nx) = self.sources[which], self.camera.shape
        fine = (np.arange(ny * _FINE) + 0.5) / _FINE + 0.5
        away = fine[:, np.newaxis] - self.center(which, exposure)
        width = np.broadcast_to(np.asarray(source.fwhm, np.float64), nx) * exposure.seeing
        if source.beta is None:
            shape = np.exp(-0.5 * (away * _FWHM_PER_SIGMA / width) ** 2)
        else:
            radius = width / 2 / np.sqrt(2 ** (1 / source.beta) - 1)
            shape = (1 + (away / radius) ** 2) ** -source.beta
        shape = shape.reshape(ny, _FINE, nx).sum(axis=1) / shape.sum(axis=0)
        leant = replace(exposure, columns=exposure.columns + self.sky.lean * exposure.rows)
        return np.asarray(shape * self.spectrum_of(which, leant))

    def spectrum_of(self, which: int = 0, exposure: Exposure | None = None) -> Values:
        """Return the electrons (x) that a source sends into each column in one exposure."""
        exposure = exposure or Exposure()
        source, n = self.sources[which], self.camera.shape[1]
        column = np.arange(1.0, n + 1)
        flux = np.broadcast_to(np.asarray(source.flux, np.float64), n).copy()
        if exposure.columns:
            flux = np.interp(column - exposure.columns, column, flux)
        for middle, total, sigma in source.lines:
            bell = np.exp(-0.5 * ((column - exposure.columns - middle) / sigma) ** 2)
            flux += total * bell / (sigma * np.sqrt(2 * np.pi))
        return np.asarray(flux * exposure.transparency)

    def true_flux(self, which: int = 0) -> Values:
        """Return the mean over its lights of a source's light in each column (x), adu."""
        own = [one for one in self.exposures if one.shining is None or which in one.shining]
        each = [self.spectrum_of(which, exposure) for exposure in own]
        return np.asarray(np.mean(each, axis=0) / self.camera.gain)

    def sky_light(self) -> Values:
        """Return the electrons (y, x) expected of the sky."""
        ny, nx = self.camera.shape
        row, column = np.arange(1.0, ny + 1)[:, np.newaxis], np.arange(1.0, nx + 1)
        light = np.broadcast_to(np.asarray(self.sky.level, np.float64), (ny, nx)).copy()
        for middle, peak, sigma in self.sky.lines:
            place = middle + self.sky.lean * (row - (ny + 1) / 2)
            light += peak * np.exp(-0.5 * ((column - place) / sigma) ** 2)
        return light

    def frames(self) -> dict[str, tuple[NDArray[Any], fits.Header]]:
        """Return the pixels and header of every frame, by file name."""
        rng = np.random.default_rng(self.seed)
        camera, shape = self.camera, self.camera.shape
        dark = np.broadcast_to(np.asarray(camera.dark, np.float64), shape).copy()
        dark[rng.random(shape) < camera.hot] += 800.0
        wells = None
        if camera.full_well is not None:
            wells = camera.full_well * rng.normal(1.0, camera.well_scatter, shape)
        made: dict[str, tuple[NDArray[Any], fits.Header]] = {}

        def add(
            name: str,
            kind: str,
            light: Values | float,
            exposure: Exposure | None = None,
            **cards: Any,
        ) -> None:
            electrons = rng.poisson(np.maximum(camera.response * light + dark, 0.0)).astype(float)
            if "light" in kind.lower():
                electrons += self._rays(rng, exposure)
            if wells is not None:
                electrons = np.minimum(electrons, wells)
            electrons += rng.normal(0.0, camera.read_noise, shape)
            number = np.rint((electrons / camera.gain + camera.bias) / camera.step) * camera.step
            pixels = np.clip(number, 0, camera.largest).astype(np.uint16)
            made[f"{name}.fits"] = pixels, self._header(kind, len(made), **cards)

        for n in range(self.n_darks):
            add(f"dark-{n + 1:03d}", "Dark Frame", 0.0)
        for n in range(self.n_flats):
            lamp = self.lamp[n % len(self.lamp)]
            add(f"flat-{n + 1:03d}", "Flat Field", lamp * np.asarray(self.flat, np.float64))
        sky = self.sky_light()
        for n, exposure in enumerate(self.exposures):
            shining = exposure.shining or range(len(self.sources))
            light = sky + sum(self.light_of(i, exposure) for i in shining)
            add(f"star-{n + 1:03d}", "Light Frame", light, exposure, OBJECT="Star")
        return made

    def write(self, folder: Path) -> Path:
        """Write the frames into a folder, and return it."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, (pixels, header) in self.frames().items():
            fits.PrimaryHDU(pixels, header).writeto(folder / name, overwrite=True)
        return folder

    def _header(self, kind: str, n: int, **cards: Any) -> fits.Header:
        usual = {
            "IMAGETYP": kind,
            "EXPTIME": self.exptime,
            "DATE-OBS": f"2024-01-01T{18 + n // 30:02d}:{n % 30 * 2:02d}:00",
            "EGAIN": self.camera.gain,
            "RDNOISE": self.camera.read_noise,
        }
        header = fits.Header()
        for name, value in {**usual, **self.cards, **cards}.items():
            if value is not None:
                header[name] = value
        return header

    def _rays(self, rng: np.random.Generator, exposure: Exposure | None) -> Values:
        """Return the electrons (y, x) of the cosmic rays of one frame."""
        (ny, nx), hit = self.camera.shape, np.zeros(self.camera.shape)
        for n in range(self.tracks + self.on_star):
            column = float(rng.uniform(0, nx - 1))
            row = float(rng.uniform(0, ny - 1))
            if n >= self.tracks:
                row = float(self.center(0, exposure)[int(column)] - 1 + rng.uniform(-2, 2))
            angle, length = rng.uniform(0, np.pi), rng.uniform(4, 15)
            strength = rng.uniform(600, 3000)
            for step in np.arange(-length / 2, length / 2, 0.5):
                y, x = row + step * np.sin(angle), column + step * np.cos(angle)
                for dy, dx in ((0, 0), (1, 0), (0, 1)):
                    if 0 <= y + dy < ny and 0 <= x + dx < nx:
                        hit[int(y + dy), int(x + dx)] = strength
        return hit
