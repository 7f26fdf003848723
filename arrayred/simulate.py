"""Simulate a night with known true values: `SimulatedNight`.

The spectra of stars lie along a trace that may be tilted, blurred by the spatial FWHM, with
absorption and emission lines; the sky is everywhere, with lines too; lamps make flats and arcs. The
detector has its own response in every pixel, adds a dark current with hot pixels, a bias level and
read noise, and is hit by cosmic rays. Photons and dark electrons are Poisson distributed, read
noise is normal, and counts are rounded to whole adu, as by the converter of a camera.

Frames are made one by one as they are requested, each from random numbers of its own, so that a
night of any size fits into memory and the same seed gives the same frames in any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from arrayred.model import (
    COUNTS,
    FRAME,
    FRAME_TYPES,
    WAVELENGTH,
    WAVELENGTH_ATTRS,
    FrameType,
    X,
    Y,
)

if TYPE_CHECKING:
    import xarray as xr

Image = NDArray[np.float64]


@dataclass(frozen=True)
class Detector:
    """A CCD.

    Parameters
    ----------
    shape : (n_rows, n_columns).
    bias_level : the offset that the electronics add, adu.
    bias_drift : rise of the bias level, adu per hour.
    read_noise : electrons.
    gain : electrons per adu.
    stated_gain : gain in the headers, electrons per adu; None: the true gain.
    dark_current : electrons per second and pixel.
    hot_fraction : fraction of the pixels whose dark current is up to a thousand times higher.
    hot_rows : (FITS row, electrons per second) of rows whose dark current is higher by that much.
    raised_rows : (FITS row, adu) of rows that the electronics raise in light frames, but not in
        darks.
    response_scatter : standard deviation of the pixels' response, relative to a mean of 1.
    vignetting : fraction of the flux lost in the corners.
    full_well : most electrons that a pixel holds.
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
    def header_gain(self) -> float:
        """Return the gain stated in the headers, electrons per adu."""
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


def row_offsets(detector: Detector) -> Image:
    """Return the offset that the electronics add to each row of a light frame (y, 1), adu."""
    levels = np.zeros((detector.shape[0], 1))
    for row, more in detector.raised_rows:
        levels[row - 1] += more
    return levels


def response_of(detector: Detector, seed: int) -> Image:
    """Return the response of each pixel (y, x), relative to the mean response in the middle."""
    rng = np.random.default_rng((seed, 6))
    n_rows, n_columns = detector.shape
    y = np.linspace(-1, 1, n_rows)[:, np.newaxis]
    x = np.linspace(-1, 1, n_columns)
    falloff = 1.0 - detector.vignetting * (x**2 + y**2) / 2
    scatter = 1.0 + detector.response_scatter * rng.standard_normal(detector.shape)
    return np.asarray(np.maximum(falloff, 0.0) * np.maximum(scatter, 0.0))


def cosmic_ray_track(
    shape: tuple[int, int], rng: np.random.Generator
) -> Iterator[tuple[int, int, float]]:
    """Yield the pixels of one straight cosmic-ray track: FITS row, column, electrons."""
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
    detector : the detector.
    electrons : expected in each pixel (y, x).
    level : bias level, adu; a number, or of each row (y, 1).
    rng : random generator of this frame.
    """
    collected = np.minimum(rng.poisson(electrons), detector.full_well)
    counts = collected + rng.normal(0.0, detector.read_noise, electrons.shape)
    counts = np.rint(counts / detector.gain + level)
    kind = np.dtype(detector.dtype)
    if kind.kind in "iu":
        counts = np.clip(counts, np.iinfo(kind).min, np.iinfo(kind).max)
    return counts.astype(kind)


# File names and header cards as written by camera programs: MaxIm DL, NINA, an observatory.

SimulatedValue = str | float | int
Dialect = Literal["maxim", "nina", "observatory"]


@dataclass(frozen=True)
class Exposure:
    """An exposure of a night: type, number, time and target.

    Parameters
    ----------
    frame_type, number : its type, and its number among those, from 1.
    start : start of the exposure, UTC.
    hours : from the start of the night to that of the exposure.
    exptime : exposure time, s.
    shows : value of its OBJECT card.
    """

    frame_type: FrameType
    number: int
    start: datetime
    hours: float
    exptime: float
    shows: str


def frame_file_name(exposure: Exposure, dialect: Dialect, prefix: str) -> str:
    """Return the file name of a frame."""
    kind, number = exposure.frame_type, exposure.number
    if dialect == "nina":
        return f"{kind.upper()}/{prefix}{number:04}.fits"
    if dialect == "observatory":
        return f"{prefix}{kind}{number:04}.fits"
    return f"{prefix}{kind}-{number:03}.fit"


def frame_cards(
    exposure: Exposure, dialect: Dialect, gain: float, read_noise: float
) -> dict[str, SimulatedValue]:
    """Return the header cards of a frame.

    Parameters
    ----------
    exposure : the frame.
    dialect : of the camera program.
    gain : electrons per adu.
    read_noise : electrons.
    """
    facts: dict[str, SimulatedValue] = {
        "EXPTIME": float(exposure.exptime),
        "OBJECT": exposure.shows,
        "INSTRUME": "Simulated camera",
    }
    if dialect == "observatory":
        return {
            "OBSTYPE": {"bias": "zero", "light": "object"}.get(
                exposure.frame_type, exposure.frame_type
            ),
            "DATE-OBS": f"{exposure.start:%Y-%m-%d}",
            "UTSTART": f"{exposure.start:%H:%M:%S}",
            "GAIN": float(gain),
            "RDNOISE": float(read_noise),
            **facts,
        }
    facts |= {
        "DATE-OBS": exposure.start.isoformat(timespec="milliseconds"),
        "CCD-TEMP": -20.0 + 0.1 * (exposure.number % 3),
        "XBINNING": 1,
        "YBINNING": 1,
        "EGAIN": float(gain),
    }
    if dialect == "nina":
        return {"IMAGETYP": exposure.frame_type.upper(), "GAIN": 100, "OFFSET": 50, **facts}
    is_flat = exposure.frame_type == "flat"
    spelling = "Flat Field" if is_flat else f"{exposure.frame_type.capitalize()} Frame"
    return {"IMAGETYP": spelling, **facts}


# Signal before the response of the detector: stars, sky and lamps, electrons per second.

EmissionLine = tuple[float, float, float]

_FWHM_PER_SIGMA = 2.3548200450309493
_MOFFAT_BETA = 3.0


@dataclass(frozen=True)
class Star:
    """A star's spectrum, dispersed along the rows.

    Parameters
    ----------
    name : value of the OBJECT card of its frames.
    flux : electrons per second and column at the blue end of the continuum.
    row : of the trace in the middle column, FITS row number; None: the middle row.
    tilt : rows by which the trace rises from the first column to the last.
    seeing : spatial FWHM (across the trace), rows.
    profile : shape across the trace; the exponent (beta) of the Moffat profile is 3.
    lines : (column, depth, sigma in columns); a negative depth is emission.
    """

    name: str = "Simulated star"
    flux: float = 60.0
    row: float | None = None
    tilt: float = 1.5
    seeing: float = 5.0
    profile: Literal["gaussian", "moffat"] = "gaussian"
    lines: tuple[EmissionLine, ...] = ((90.0, 0.6, 3.0), (210.0, 0.4, 2.0), (300.0, -0.5, 2.5))


@dataclass(frozen=True)
class Sky:
    """The sky: electrons per second and pixel, and lines on top.

    Parameters
    ----------
    level : electrons per second and pixel in the middle row.
    lines : (column in the middle row, electrons per second and pixel, sigma in columns).
    gradient : rise of sky and lines from the first row to the last, as a fraction of the level.
    tilt : shift of a line from the first row to the last, columns.
    """

    level: float = 0.05
    lines: tuple[EmissionLine, ...] = ((250.0, 0.3, 1.5),)
    gradient: float = 0.0
    tilt: float = 0.0


@dataclass(frozen=True)
class Lamps:
    """A lamp for flats and one for arcs (comparison lamp).

    Parameters
    ----------
    flat_level : electrons per second and pixel at the brightest column.
    arc_lines : (column at the middle row, electrons per second and pixel, sigma); None: those of
        neon, with a sigma of 1.2 columns, where `wavelength_of` puts them.
    arc_level : electrons per second and pixel of the brightest line of neon.
    arc_tilt : shift of an arc line from the first row to the last, columns.
    arc_drift : columns per hour by which arc lines move; they are in place in the middle of the
        light frames.
    center : wavelength in the middle column, Angstrom, air.
    dispersion : Angstrom per column there, which falls by 6 % along 384 columns; below 0, the
        wavelengths decrease along the columns.
    exptime : exposure time of a flat or arc, s.
    """

    flat_level: float = 2000.0
    arc_lines: tuple[EmissionLine, ...] | None = None
    arc_level: float = 4000.0
    arc_tilt: float = 1.0
    arc_drift: float = 0.4
    center: float = 6450.0
    dispersion: float = 3.2
    exptime: float = 10.0

    def wavelength_of(self, x: Image, n_columns: int) -> Image:
        """Return the wavelengths in air of columns x of the middle row, Angstrom.

        Examples
        --------
        >>> Lamps().wavelength_of(np.array([1.0, 192.5, 384.0]), 384).round(1).tolist()
        [5827.8, 6450.0, 7053.4]
        """
        away = x - (n_columns + 1) / 2
        return np.asarray(self.center + self.dispersion * away * (1 - _CURVATURE * away))

    def lines_on(self, n_columns: int) -> tuple[EmissionLine, ...]:
        """Return the arc lines on a detector."""
        if self.arc_lines is not None:
            return self.arc_lines
        with resources.files("arrayred").joinpath("lamps", "Ne.txt").open() as file:
            rows = [line.split() for line in file if " NeI " in line]
        known = {float(wave): float(strength) for wave, strength, *_ in rows}
        reach = min(n_columns / 2 + 5, 0.4 / _CURVATURE)
        x = (n_columns + 1) / 2 + np.linspace(-reach, reach, 20 * n_columns)
        waves = self.wavelength_of(x, n_columns)
        x, waves = (x, waves) if self.dispersion > 0 else (x[::-1], waves[::-1])
        seen = {wave: one for wave, one in known.items() if waves[0] < wave < waves[-1]}
        brightest = max(seen.values(), default=1.0)
        return tuple(
            (float(np.interp(wave, waves, x)), self.arc_level * one / brightest, _ARC_SIGMA)
            for wave, one in seen.items()
        )


_CURVATURE = 8e-5
"""Part by which the dispersion falls in half a column: that of a grating at a small angle."""
_ARC_SIGMA = 1.2


def star_rate(shape: tuple[int, int], star: Star, drift: float = 0.0) -> Image:
    """Return the signal of a star in each pixel (y, x), electrons per second."""
    n_rows, n_columns = shape
    x = column_numbers(shape)
    y = np.arange(1, n_rows + 1, dtype=np.float64)[:, np.newaxis]
    flux = star.flux * (1.0 - 0.3 * x / n_columns)
    for column, depth, sigma in star.lines:
        flux *= 1.0 - depth * np.exp(-0.5 * ((x - column) / sigma) ** 2)
    middle = (n_rows + 1) / 2 if star.row is None else star.row
    trace = middle + drift + star.tilt * ((x - 1) / max(n_columns - 1, 1) - 0.5)
    return np.asarray(flux * _spatial_profile(y - trace, star))


def _spatial_profile(distance: Image, star: Star) -> Image:
    """Return the fraction of the flux per row at a distance from the trace; its integral is 1.

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
    """Return the sky signal in each pixel (y, x), electrons per second."""
    across = np.linspace(-0.5, 0.5, shape[0])[:, np.newaxis] if shape[0] > 1 else np.zeros((1, 1))
    light = sky_in_the_middle(column_numbers(shape) - sky.tilt * across, sky)
    return np.asarray(light * np.maximum(1.0 + sky.gradient * across, 0.0))


def sky_in_the_middle(x: Image, sky: Sky) -> Image:
    """Return the sky signal at columns x of the middle row, electrons per second and pixel."""
    return _with_lines(np.full(x.shape, sky.level), x, sky.lines)


def flat_rate(shape: tuple[int, int], lamps: Lamps) -> Image:
    """Return the signal of the flat lamp (y, x), electrons per second, smooth along x."""
    x = np.linspace(-1, 1, shape[1])
    colour = lamps.flat_level * (1.0 - 0.4 * (x - 0.2) ** 2)
    return np.broadcast_to(colour, shape).copy()


def arc_rate(shape: tuple[int, int], lamps: Lamps, drift: float = 0.0) -> Image:
    """Return the signal of the arc lamp (y, x), electrons per second: lines tilted along y.

    All lines are shifted by a drift, columns.
    """
    n_rows, n_columns = shape
    lean = drift + lamps.arc_tilt * np.linspace(-0.5, 0.5, n_rows)[:, np.newaxis]
    light, x = np.zeros(shape), column_numbers(shape)
    for column, strength, sigma in lamps.lines_on(n_columns):
        reach = 7 * sigma + float(np.abs(lean).max())  # beyond, a line is below 1e-10
        near = slice(*np.searchsorted(x, (column - reach, column + reach)))
        _with_lines(light[:, near], x[near] - lean, ((column, strength, sigma),))
    return light


def _with_lines(light: Image, x: Image, lines: tuple[EmissionLine, ...]) -> Image:
    for column, strength, sigma in lines:
        light += strength * np.exp(-0.5 * ((x - column) / sigma) ** 2)
    return light


def column_numbers(shape: tuple[int, int]) -> Image:
    """Return the FITS column numbers (x)."""
    return np.arange(1, shape[1] + 1, dtype=np.float64)


READOUT = timedelta(seconds=20)


@dataclass(frozen=True)
class SimulatedFrame:
    """One frame: file name, header cards, pixels (y, x) in adu."""

    name: str
    cards: dict[str, SimulatedValue]
    pixels: NDArray[Any]


@dataclass(frozen=True)
class SimulatedNight:
    """A simulated night, to be written as files or used in memory.

    Parameters
    ----------
    detector, star : the CCD and the target.
    companions : further stars on the same frames.
    sky, lamps : the sky, and the lamps of flats and arcs.
    n_darks, n_lights, n_biases, n_flats, n_arcs : number of frames of each type.
    exptime : exposure time of a light frame or dark, s.
    flux_scatter : standard deviation of the stars' flux from frame to frame, relative to the flux.
    trace_drift : rows by which the traces move from one light frame to the next.
    cosmic_rays : mean number of hits in an exposure of an hour.
    dialect : style of file names and headers: MaxIm DL, NINA or an observatory.
    prefix : of all file names.
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
        """Yield the frames in order of time, each when requested.

        Biases, darks and flats come first; half of the arcs before the light frames, half after.

        Parameters
        ----------
        frame_types : only these types, if any are given; the frames are the same in any case.
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
            rows = row_offsets(detector) if exposure.frame_type == "light" else 0.0
            yield SimulatedFrame(
                frame_file_name(exposure, self.dialect, self.prefix),
                frame_cards(exposure, self.dialect, detector.header_gain, detector.read_noise),
                read_out(detector, electrons, level + rows, rng),
            )

    def exposures(self) -> list[Exposure]:
        """Return all exposures in order of time."""
        before = (self.n_arcs + 1) // 2
        planned: list[tuple[FrameType, int, float, str]] = [
            ("bias", self.n_biases, 0.0, ""),
            ("dark", self.n_darks, self.exptime, ""),
            ("flat", self.n_flats, self.lamps.exptime, "Flat lamp"),
            ("arc", before, self.lamps.exptime, "Neon lamp"),
            ("light", self.n_lights, self.exptime, self.star.name),
            ("arc", self.n_arcs - before, self.lamps.exptime, "Neon lamp"),
        ]
        exposures: list[Exposure] = []
        clock = timedelta()
        for i, (frame_type, n, exptime, shows) in enumerate(planned):
            done = before if i == len(planned) - 1 else 0
            for number in range(done + 1, done + n + 1):
                hours = clock / timedelta(hours=1)
                start = self.start + clock
                exposures.append(Exposure(frame_type, number, start, hours, exptime, shows))
                clock += timedelta(seconds=exptime) + READOUT
        return exposures

    def hits(self, exposure: Exposure) -> list[tuple[int, int, float]]:
        """Return the pixels of a frame that cosmic rays hit: FITS row, column, electrons."""
        rng = self._rng(2, exposure)
        n_rays = rng.poisson(self.cosmic_rays * exposure.exptime / 3600)
        return [hit for _ in range(n_rays) for hit in cosmic_ray_track(self.detector.shape, rng)]

    def facts(self) -> dict[str, Any]:
        """Return all parameters of the night, and every cosmic-ray hit, ready for JSON."""
        rays = {
            frame_file_name(exposure, self.dialect, self.prefix): self.hits(exposure)
            for exposure in self.exposures()
        }
        return {**asdict(self), "start": self.start.isoformat(), "cosmic_ray_hits": rays}

    def truth(self) -> xr.Dataset:
        """Return the true values of a light frame, without noise, adu.

        Returns
        -------
        truth : of one light frame of mean brightness, in adu of the true gain, float64: `flux` (x)
            of the first star, and `flux_recorded` (x), the flux times the response of the detector,
            which is all that can be measured without a flat; `sky` (x) of the middle row, and with
            a lamp of neon its `wavelength` (x), in air, Angstrom, as a coordinate; `star`
            (y, x), all stars, `glow` (y, x), the sky, `dark` (y, x), bias level and dark current,
            and `response` (y, x), all without noise; `light_variance` and `dark_variance` (y, x),
            adu^2, including the rounding to whole adu.
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
            "sky": (sky_in_the_middle(column_numbers(shape), self.sky), "sky on the middle row"),
        }
        truth = xr.Dataset(
            {
                **{
                    name: (X, values * to_adu, {"units": "adu", "long_name": what})
                    for name, (values, what) in lines.items()
                },
                **{name: ((Y, X), plane) for name, plane in planes.items()},
            },
            coords={Y: np.arange(1, shape[0] + 1), X: np.arange(1, shape[1] + 1)},
        )
        if self.n_arcs and self.lamps.arc_lines is None:
            wave = self.lamps.wavelength_of(column_numbers(shape), shape[1])
            truth = truth.assign_coords({WAVELENGTH: (X, wave, WAVELENGTH_ATTRS)})
        return truth

    def arc_shift(self, exposure: Exposure) -> float:
        """Return the shift of the lines of an arc frame, columns."""
        lights = [one for one in self.exposures() if one.frame_type == "light"]
        if not lights:
            return 0.0
        middle = (lights[0].hours + lights[-1].hours + self.exptime / 3600) / 2
        return self.lamps.arc_drift * (exposure.hours + exposure.exptime / 7200 - middle)

    def brightness_of(self, exposure: Exposure) -> float:
        """Return the brightness of the stars in a light frame, relative to the mean."""
        return self._brightness(self._rng(1, exposure))

    def cube(self, frame_type: FrameType) -> xr.Dataset:
        """Return the frames of a type as a cube, as `open_frames` would read them from files.

        Parameters
        ----------
        frame_type : bias, dark, flat, arc or light.

        Returns
        -------
        cube : `counts` (frame, y, x) in adu, in memory, with frame types, exposure times, s, start
            times, and the gain stated in the headers.

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
                "gain": self.detector.header_gain,
            },
        )

    def _rng(self, purpose: int, exposure: Exposure) -> np.random.Generator:
        """Return the random generator of a purpose and frame."""
        kind = FRAME_TYPES.index(exposure.frame_type)
        return np.random.default_rng((self.seed, purpose, kind, exposure.number))

    def _light(self, exposure: Exposure, rng: np.random.Generator) -> Image:
        """Return the signal that falls on each pixel (y, x), electrons per second."""
        shape = self.detector.shape
        if exposure.frame_type == "flat":
            return flat_rate(shape, self.lamps)
        if exposure.frame_type == "arc":
            return arc_rate(shape, self.lamps, self.arc_shift(exposure))
        if exposure.frame_type != "light":
            return np.zeros(shape)
        brightness = self._brightness(rng)
        stars = self._stars(self.trace_drift * (exposure.number - 1))
        return brightness * stars + sky_rate(shape, self.sky)

    def _brightness(self, rng: np.random.Generator) -> float:
        """Return the relative brightness of the stars, from the first random number of a frame."""
        return max(1.0 + self.flux_scatter * rng.standard_normal(), 0.0)

    def _stars(self, drift: float) -> Image:
        """Return the signal of all stars (y, x), electrons per second, traces shifted by rows."""
        light = np.zeros(self.detector.shape)
        for star in (self.star, *self.companions):
            light += star_rate(self.detector.shape, star, drift)
        return light
