"""A column's flux from the pixels of its aperture: by their sum, or with optimal weights.

Horne (1986, PASP 98, 609): with P the part of the light that falls on a pixel and V its variance,
``F = sum(P D / V) / sum(P^2 / V)`` has the least noise of all that are unbiased. Two things decide
whether it is: V must come from a model of the light, for where it follows the noise of the counts,
low counts weigh more and the flux is low by one electron a pixel; and P must not hold the noise of
the column that it weighs, which is why P is fitted to all columns with a flux that is smooth where
the light is faint (`template`).

Both fluxes are those of the aperture: P sums to 1 over the pixels inside, those at the edges
counted by their part. Pixels that do not count change what is known, not what is meant.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

_STEADY = 2
"""Rounds in which the variance follows the flux of a column that lost a pixel."""
_REJECTED = 5.0
"""Standard deviations from the model beyond which a pixel does not count."""
_MODEL_ERROR, _PEAK_ERROR = 0.05, 0.01
"""By how much of itself, and of the column's brightest pixel, a model may be wrong: lines lean."""
_MOST_ROUNDS = 12
_SUSPECT, _CORE = 3.0, 0.3
_SMOOTH = 200.0
"""Columns that a profile's flux is smoothed over, times their signal to noise: a flux that holds
the noise of its own pixels widens the profile, by 0.04 % of the light at 50, else by 0.01 %."""
_LINE = 4.0
_HITS = 2
"""Columns that a cosmic ray may take for a line."""
_FLOOR = 0.5
_LEAST = 0.05
"""What part of the profile must be left for a flux to be told."""


class Pixels(NamedTuple):
    """Gathered pixels (row, x) of an aperture.

    Parameters
    ----------
    counts : less the sky.
    sky : what was subtracted.
    floor : variance without light.
    per_count : variance that a count brings.
    level : of the light that the floor holds already.
    part : of the pixel that lies inside.
    good : whether it counts.
    """

    counts: Values
    sky: Values
    floor: Values
    per_count: float
    level: float
    part: Values
    good: Flags

    def variance(self, light: Values) -> Values:
        """Return the variance of pixels that get some light of the star (row, x)."""
        received = light + (self.sky - self.level)
        return self.floor + self.per_count * np.maximum(received, 0.0)


class Flux(NamedTuple):
    """What was extracted: flux and its variance (x), the sum of the weights (x), pixels used."""

    flux: Values
    variance: Values
    weight: Values
    good: Flags


def floor_of(
    variance: Values, counts: Values, per_count: float, level: float, good: Flags
) -> Values:
    """Return the variance that pixels would have without light.

    Parameters
    ----------
    variance, counts : of the pixels, the variance being that of these counts.
    per_count, level : as in `Pixels`.
    good : which pixels count. The floor is no lower than half of their median's: a flat makes
        bright pixels a little more or less certain than their counts tell.

    Examples
    --------
    >>> counts = np.array([[-3.0, 100.0]])
    >>> floor_of(9.0 + 0.5 * np.maximum(counts, 0), counts, 0.5, 0.0, counts == counts)
    array([[9., 9.]])
    """
    light = np.where(good, np.maximum(counts - level, 0.0), 0.0)
    floor = np.where(good, variance, 1.0) - per_count * light
    known = floor[good]
    typical = float(np.median(known)) if known.size else 1.0
    least = _FLOOR * typical if typical > 0 else float(np.median(variance[good])) * 1e-3
    return np.maximum(floor, least)


def summed(pixels: Pixels, profile: Values, variance: Values) -> Flux:
    """Return the sum over the aperture; what does not count is filled by the profile.

    Parameters
    ----------
    pixels : of the aperture.
    profile : the part of the light on each pixel (row, x), 1 in all inside the aperture.
    variance : of the pixels (row, x).

    Returns
    -------
    The flux: the sum of the good pixels, divided by the part of the light that they get, where
    others are missing; NaN where next to nothing is left.
    """
    weight = np.where(pixels.good, pixels.part, 0.0)
    total = np.add.reduce(weight * np.where(pixels.good, pixels.counts, 0.0), axis=0)
    noise = np.add.reduce(weight**2 * variance, axis=0)
    missing = ((pixels.part > 0) & ~pixels.good).any(axis=0)
    left = np.where(missing, np.add.reduce(weight * profile, axis=0), 1.0)
    left = np.where(left >= _LEAST, left, np.nan)
    all_weight = np.add.reduce(weight, axis=0)
    return Flux(total / left, noise / left**2, all_weight / left, pixels.good)


def weighted(pixels: Pixels, profile: Values, model: Values, *, reject: bool = True) -> Flux:
    """Return the flux with optimal weights; outliers are left out one at a time in each column.

    Parameters
    ----------
    pixels, profile : as in `summed`.
    model : about what the flux is (x): the variance is made of it. Where it is a `template`, the
        uncertainty of a faint flux does not follow its noise.
    reject : leave out what lies 5 standard deviations from the model, the worst first.

    Examples
    --------
    >>> shape = np.array([[0.2], [0.6], [0.2]]) * np.ones(2)
    >>> counts, nothing = np.array([[20.0, 20], [60, 60], [20, 900]]), np.zeros((3, 2))
    >>> inside = shape > 0
    >>> pixels = Pixels(counts, nothing, nothing + 4, 0.5, 0.0, inside * 1.0, inside)
    >>> found = weighted(pixels, shape, np.array([100.0, 100]))
    >>> found.flux.round(6).tolist(), found.good[2].tolist()
    ([100.0, 100.0], [True, False])
    """
    usable = pixels.part > 0
    pixels = pixels._replace(good=pixels.good & usable)
    flux = np.where(np.isfinite(model), model, 0.0)
    found = _weighted_once(pixels, profile, flux)
    if not reject:
        return found
    own = _unspoilt(pixels, profile, found)
    good, columns = pixels.good.copy(), np.arange(flux.size)
    for _ in range(_MOST_ROUNDS):
        few = _of(pixels._replace(good=good), columns)
        worst = _worst(few, profile[:, columns], own[columns])
        outlying = worst >= 0
        columns = columns[outlying]
        if not columns.size:
            break
        good[worst[outlying], columns] = False
        few = _of(pixels._replace(good=good), columns)
        for _ in range(_STEADY):
            again = _weighted_once(few, profile[:, columns], own[columns])
            own[columns] = np.where(np.isfinite(again.flux), again.flux, 0.0)
        flux[columns] = own[columns]
    return _weighted_once(pixels._replace(good=good), profile, flux)


def _of(pixels: Pixels, columns: NDArray[np.intp]) -> Pixels:
    """Return the pixels of some columns."""
    return Pixels(
        pixels.counts[:, columns],
        pixels.sky[:, columns],
        pixels.floor[:, columns],
        pixels.per_count,
        pixels.level,
        pixels.part[:, columns],
        pixels.good[:, columns],
    )


def _weighted_once(pixels: Pixels, profile: Values, flux: Values) -> Flux:
    """Return the flux with weights from the variance that a flux makes."""
    variance = pixels.variance(np.maximum(flux, 0.0) * profile)
    weight = np.where(pixels.good, profile / variance, 0.0)
    power = np.add.reduce(weight * profile, axis=0)
    left = np.add.reduce(np.where(pixels.good, profile * pixels.part, 0.0), axis=0)
    power = np.where((power > 0) & (left >= _LEAST), power, np.nan)
    total = np.add.reduce(weight * np.where(pixels.good, pixels.counts, 0.0), axis=0)
    return Flux(total / power, 1.0 / power, np.add.reduce(weight, axis=0) / power, pixels.good)


def _unspoilt(pixels: Pixels, profile: Values, found: Flux) -> Values:
    """Return fluxes (x) to compare pixels with, which hits on a star's core do not raise.

    Two bright pixels in the core raise the flux until neither stands out; the median of what the
    pixels of the core tell, each by itself, does not follow them. It counts where it is far off.
    """
    own = np.where(np.isfinite(found.flux), found.flux, 0.0)
    columns = np.flatnonzero(_squares(pixels, profile, own).max(axis=0) > _SUSPECT**2)
    few, shape = _of(pixels, columns), profile[:, columns]
    core = few.good & (shape > _CORE * shape.max(axis=0, initial=0.0))
    told = np.sort(np.where(core, few.counts / np.where(core, shape, 1.0), np.inf), axis=0)
    number = np.count_nonzero(core, axis=0)
    middle = np.take_along_axis(told, np.maximum(number - 1, 0)[np.newaxis] // 2, axis=0)[0]
    error = np.sqrt(2 * found.variance[columns]) + _MODEL_ERROR * np.abs(own[columns])
    off = (number > 2) & (np.abs(middle - own[columns]) > _SUSPECT * error)
    own[columns[off]] = middle[off]
    return own


def _squares(pixels: Pixels, profile: Values, flux: Values) -> Values:
    """Return how far pixels are from the model, in squares of what is to be expected."""
    light = np.maximum(flux, 0.0) * profile
    error = _MODEL_ERROR * light + _PEAK_ERROR * np.max(light, axis=0)
    left = np.where(pixels.good, pixels.counts - flux * profile, 0.0)
    return np.asarray(left**2 / (pixels.variance(light) + error**2))


def _worst(pixels: Pixels, profile: Values, flux: Values) -> NDArray[np.intp]:
    """Return the row of the worst outlier of each column (x), -1 where there is none."""
    square = _squares(pixels, profile, flux)
    worst = np.argmax(square, axis=0)
    far = np.take_along_axis(square, worst[np.newaxis], axis=0)[0] > _REJECTED**2
    enough = np.count_nonzero(pixels.good, axis=0) > 2
    return np.where(far & enough, worst, -1)


def template(flux: Values, variance: Values) -> Values:
    """Return a flux (x) to fit profiles with: smooth where it is noise, as it is in lines.

    A running mean over the more columns the fainter they are; where a column lies 4 standard
    deviations from it, the column itself.

    Examples
    --------
    >>> flux = np.array([1.0, -1.0, 1.0, -1.0, 50.0, 1.0, -1.0, 1.0])
    >>> template(flux, np.ones(8))[4]
    np.float64(50.0)
    """
    known = np.isfinite(flux) & np.isfinite(variance) & (variance > 0)
    if not known.any():
        return np.zeros_like(flux)
    values, noise = np.where(known, flux, 0.0), np.where(known, variance, 0.0)
    snr = float(np.median(flux[known] / np.sqrt(variance[known])))
    most = max(flux.size // 4, 1)
    half = int(min(_SMOOTH / max(snr, 1e-3), most)) // 2
    smooth = running_mean(values, known, half) if half else values
    level = running_mean(noise, known, half)
    line = known & (np.abs(values - smooth) > _LINE * np.sqrt(np.maximum(noise, level)))
    return np.maximum(np.where(line, values, smooth), 0.0)


def running_mean(values: Values, known: Flags, half: int) -> Values:
    """Return the mean of known values (x) up to half a window away, cut at the ends.

    Examples
    --------
    >>> running_mean(np.array([1.0, 2.0, 6.0]), np.array([True, True, True]), 1)
    array([1.5, 3. , 4. ])
    """
    sums = np.concatenate(([0.0], np.cumsum(np.where(known, values, 0.0))))
    number = np.concatenate(([0], np.cumsum(known)))
    place = np.arange(values.size)
    low, high = np.maximum(place - half, 0), np.minimum(place + half + 1, values.size)
    return np.asarray((sums[high] - sums[low]) / np.maximum(number[high] - number[low], 1))


def snr_of(found: Flux) -> float:
    """Return the signal to noise of all light of a spectrum: evenly spread, or in lines.

    Examples
    --------
    >>> flux = Flux(np.full(100, 2.0), np.ones(100), np.ones(100), np.ones((1, 100), bool))
    >>> snr_of(flux)
    20.0
    """
    known = np.isfinite(found.flux) & np.isfinite(found.variance) & (found.variance > 0)
    flux, variance = found.flux[known], found.variance[known]
    if not flux.size:
        return 0.0
    spread = float(np.add.reduce(flux) / np.sqrt(np.add.reduce(variance)))
    ratio = flux / np.sqrt(variance)
    lines = np.sort(ratio)[: max(ratio.size - _HITS, 0)]
    in_lines = float(np.sqrt(np.add.reduce(lines[lines > _LINE] ** 2)))
    return max(spread, in_lines)
