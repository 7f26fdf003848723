"""Where the light of a star lies on the rows, as a smooth function of the column.

Columns are binned, since one of them rarely has light enough. The lean of the trace is found
first, for all bins at once, by shifting them against each other until the rows stand out most; each
bin's centre is then measured near that line, and a polynomial of as low an order as does is laid
through the centres.

A centre is the mean of the light under a bell curve that follows it and is as wide as the light
(the windowed centre of SExtractor): least squares reach 1.0 times, a plain mean over ten rows 2
times its scatter, and other light a few widths away does not pull it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

FWHM_PER_SIGMA = 2.3548200450309493
_ROUNDS = 12
_LEANS = 61
_SLIDE = 0.02
"""Rows: how well a centre is known at best; pixels do not answer all alike."""
_CLIP = 4.0
_CLIP_ROUNDS = 5


class Bins(NamedTuple):
    """Rows of binned columns.

    Parameters
    ----------
    light : (bin, y), means of the good pixels less the background beside the star.
    variance : (bin, y) of it.
    middle : (bin), the columns' mean, from -1 at the first column to 1 at the last.
    """

    light: Values
    variance: Values
    middle: Values


class Centres(NamedTuple):
    """The centre of the light in each bin (bin): position in rows, variance, signal to noise."""

    position: Values
    variance: Values
    snr: Values


class Curve(NamedTuple):
    """A polynomial through centres: Legendre coefficients, the scatter about it, the bins used."""

    coefficients: Values
    rms: float
    used: Flags


def binned(
    counts: Values, variance: Values | None, good: Flags, n_bins: int, beside: tuple[int, int]
) -> Bins:
    """Return columns in bins, less a line through the rows at both ends.

    Parameters
    ----------
    counts : (y, x), the rows about a star.
    variance : (y, x) of them, or None: it is taken from the rows at the ends.
    good : (y, x), which pixels count.
    n_bins : how many bins.
    beside : how many rows hold the background, below the star and above it; with none on one side
        the other's counts for both.

    Examples
    --------
    >>> counts = np.tile([[3.0], [3.0], [9.0], [3.0], [3.0]], (1, 8))
    >>> binned(counts, None, counts > 0, 2, (2, 2)).light
    array([[0., 0., 6., 0., 0.],
           [0., 0., 6., 0., 0.]])
    """
    n_rows, n_columns = counts.shape
    n_bins = min(n_bins, n_columns)
    starts = np.arange(n_bins) * n_columns // n_bins
    number = np.add.reduceat(good, starts, axis=1, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        light = np.add.reduceat(np.where(good, counts, 0.0), starts, axis=1) / number
    known = number > 0
    light = np.where(known, light, 0.0)
    sides = _sides(np.where(known, light, 0.0), beside)
    light -= _background(sides, n_rows, beside)
    light[~known] = 0.0
    if variance is None:
        ends = np.concatenate(_sides(light, beside))
        spread = 1.4826 * np.median(np.abs(ends), axis=0) if ends.size else np.ones(n_bins)
        noise = np.broadcast_to(np.maximum(spread, 1e-12) ** 2, light.shape)
    else:
        summed = np.add.reduceat(np.where(good, variance, 0.0), starts, axis=1)
        noise = np.where(known, summed / np.maximum(number, 1.0) ** 2, np.inf)
    stops = np.append(starts[1:], n_columns)
    middle = (starts + stops - 1) / max(n_columns - 1, 1) - 1.0
    return Bins(np.ascontiguousarray(light.T), np.ascontiguousarray(noise.T), middle)


def _sides(light: Values, beside: tuple[int, int]) -> list[Values]:
    """Return the rows below and above a star (y, bin) that hold the background."""
    below, above = beside
    return [light[:below], light[len(light) - above :]]


def _background(sides: list[Values], n_rows: int, beside: tuple[int, int]) -> Values | float:
    """Return the line (y, bin) through the medians of the rows on both sides."""
    levels = [np.median(side, axis=0) for side in sides if len(side)]
    if len(levels) < 2:
        return np.asarray(levels[0]) if levels else 0.0
    below, above = beside
    first, last = (below - 1) / 2, n_rows - 1 - (above - 1) / 2
    rows = np.arange(n_rows, dtype=np.float64)[:, np.newaxis]
    low, high = levels
    return np.asarray(low + (high - low) * (rows - first) / max(last - first, 1.0))


def shifted(light: Values, shift: Values) -> Values:
    """Return rows (bin, y) moved down by some rows (bin) each, in between by straight lines.

    Examples
    --------
    >>> shifted(np.array([[0.0, 2.0, 4.0]]), np.array([0.5]))
    array([[1., 3., 4.]])
    """
    n_rows = light.shape[1]
    place = np.clip(np.arange(n_rows) + shift[:, np.newaxis], 0, n_rows - 1)
    low = np.minimum(place.astype(np.intp), n_rows - 2)
    part = place - low
    below = np.take_along_axis(light, low, axis=1)
    return np.asarray(below + part * (np.take_along_axis(light, low + 1, axis=1) - below))


def lean_of(bins: Bins, most: float) -> tuple[float, Values]:
    """Return how far the trace rises from the middle to the last column, and its rows set upright.

    Parameters
    ----------
    bins : binned columns.
    most : the steepest lean looked for, rows.

    Returns
    -------
    lean, upright : rows; and the mean of the bins (y) when each is moved back by the lean.
    """
    best, energy, upright = 0.0, -np.inf, np.zeros(bins.light.shape[1])
    leans = np.linspace(-most, most, _LEANS)
    for lean in leans[np.argsort(np.abs(leans), kind="stable")]:
        rows = np.add.reduce(shifted(bins.light, lean * bins.middle), axis=0) / len(bins.light)
        smooth = (rows[:-2] + rows[1:-1] + rows[2:]) / 3
        if (power := float(np.add.reduce(np.maximum(smooth, 0.0) ** 2))) > energy:
            best, energy, upright = float(lean), power, rows
    return best, upright


def peak_of(light: Values, sigma: float = 1.0) -> tuple[float, float]:
    """Return centre and width (standard deviation) of the brightest light on rows (y).

    Parameters
    ----------
    light : (y), less the background.
    sigma : a guess of the width.

    Examples
    --------
    >>> rows = np.arange(60.0)
    >>> centre, sigma = peak_of(np.exp(-((rows - 31.3) ** 2) / (2 * 2.0**2)))
    >>> round(centre, 2), round(sigma, 2)
    (31.3, 2.0)
    """
    rows = np.arange(light.size, dtype=np.float64)
    smooth = (light[:-2] + light[1:-1] + light[2:]) / 3
    centre = float(np.argmax(smooth)) + 1.0
    for _ in range(4 * _ROUNDS):
        weight = np.exp(-0.5 * ((rows - centre) / sigma) ** 2)
        total = float(np.add.reduce(weight * light))
        if total <= 0:
            break
        away = rows - centre
        centre += 2 * float(np.add.reduce(weight * light * away)) / total
        spread = 2 * float(np.add.reduce(weight * light * away**2)) / total
        centre = min(max(centre, 0.0), light.size - 1.0)
        sigma = min(max(spread, 0.25) ** 0.5, light.size / 4)
    return centre, sigma


def width_of(bins: Bins, position: Values, sigma: float) -> float:
    """Return the width (standard deviation) of the light about its centres (bin), all together.

    Parameters
    ----------
    bins : binned columns.
    position : rows of the centres.
    sigma : a guess.
    """
    away = np.arange(bins.light.shape[1], dtype=np.float64) - position[:, np.newaxis]
    for _ in range(_ROUNDS):
        weighted = np.exp(-0.5 * (away / sigma) ** 2) * bins.light
        total = float(np.add.reduce(weighted, axis=None))
        spread = 2 * float(np.add.reduce(weighted * away**2, axis=None))
        if total <= 0:
            break
        sigma = min(max(spread / total, 0.25) ** 0.5, bins.light.shape[1] / 4)
    return sigma


def centres(bins: Bins, guess: Values, sigma: float) -> Centres:
    """Return the centre of each bin's light near a guess (bin), under a bell of width sigma."""
    rows = np.arange(bins.light.shape[1], dtype=np.float64)
    position = np.asarray(guess, np.float64).copy()
    with np.errstate(invalid="ignore", divide="ignore"):
        for _ in range(_ROUNDS):
            away = rows - position[:, np.newaxis]
            weighted = np.exp(-0.5 * (away / sigma) ** 2) * bins.light
            step = 2 * np.add.reduce(weighted * away, axis=1) / np.add.reduce(weighted, axis=1)
            position += np.clip(np.where(np.isfinite(step), step, 0.0), -sigma, sigma)
            position = np.clip(position, guess - 3 * sigma, guess + 3 * sigma)
        away = rows - position[:, np.newaxis]
        weight = np.exp(-0.5 * (away / sigma) ** 2)
        noise = np.where(np.isfinite(bins.variance), bins.variance, 0.0)
        total = np.add.reduce(weight * bins.light, axis=1)
        snr = total / np.sqrt(np.add.reduce(weight**2 * noise, axis=1))
        variance = 4 * np.add.reduce((weight * away) ** 2 * noise, axis=1) / total**2
    known = np.isfinite(snr) & np.isfinite(variance)
    return Centres(position, np.where(known, variance, np.inf), np.where(known, snr, 0.0))


def curve(middle: Values, found: Centres, least_snr: float, most_order: int) -> Curve | None:
    """Return a polynomial through centres, outliers left out; None where too few have light.

    Parameters
    ----------
    middle : (bin), where the bins are, from -1 to 1.
    found : their centres.
    least_snr : of a bin that counts.
    most_order : the highest order tried. The lowest counts beyond which chi-square falls by less
        than the logarithm of the number of bins each time (Schwarz 1978), in units of what the
        highest leaves.
    """
    lit = found.snr >= least_snr
    if np.count_nonzero(lit) < 4:
        return None
    reach = float(np.ptp(middle[lit]))
    most_order = min(most_order, int(np.count_nonzero(lit)) // 3, 3 if reach > 1.0 else 1)
    fits = [_clipped_fit(middle, found, lit, order) for order in range(most_order, -1, -1)]
    used = fits[0].used
    n = int(np.count_nonzero(used))
    weight = 1.0 / (found.variance[used] + _SLIDE**2)
    fits = [
        fits[0],
        *(_clipped_fit(middle, found, used, f.coefficients.size - 1) for f in fits[1:]),
    ]
    chi2 = [_chi2(middle, found, used, weight, fit) for fit in fits]
    scale = max(chi2[0] / max(n - fits[0].coefficients.size, 1), 1.0)
    costs = [c / scale + f.coefficients.size * np.log(n) for c, f in zip(chi2, fits, strict=True)]
    return fits[int(np.argmin(costs))]


def _chi2(middle: Values, found: Centres, used: Flags, weight: Values, fit: Curve) -> float:
    """Return the weighted sum of squares of what a fit leaves of the bins used."""
    left = found.position[used] - at(fit.coefficients, middle[used])
    return float(np.add.reduce(weight * left**2))


def _clipped_fit(middle: Values, found: Centres, lit: Flags, order: int) -> Curve:
    """Return the polynomial of an order through lit bins, leaving out what is far from it."""
    used, sigma2 = lit.copy(), found.variance + _SLIDE**2
    coefficients, rms = np.zeros(order + 1), 0.0
    for _ in range(_CLIP_ROUNDS):
        design = np.polynomial.legendre.legvander(middle[used], order)
        scale = 1.0 / np.sqrt(sigma2[used])
        scaled = (design * scale[:, np.newaxis], found.position[used] * scale)
        coefficients = np.asarray(np.linalg.lstsq(*scaled, rcond=None)[0], np.float64)
        left = found.position - at(coefficients, middle)
        weight = 1.0 / sigma2[used]
        rms = float(np.sqrt(np.add.reduce(weight * left[used] ** 2) / np.add.reduce(weight)))
        typical = 1.4826 * float(np.median(np.abs(left[used] / np.sqrt(sigma2[used]))))
        near = lit & (np.abs(left) <= _CLIP * max(typical, 1.0) * np.sqrt(sigma2))
        if np.array_equal(near, used) or np.count_nonzero(near) < max(4, order + 2):
            break
        used = near
    return Curve(coefficients, rms, used)


def at(coefficients: Values, place: Values) -> Values:
    """Return a Legendre polynomial at places from -1 to 1.

    Examples
    --------
    >>> at(np.array([5.0, 2.0]), np.array([-1.0, 0.0, 1.0]))
    array([3., 5., 7.])
    """
    return np.asarray(np.polynomial.legendre.legval(place, coefficients), np.float64)
