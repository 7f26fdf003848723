"""What a combination makes of the variance of its frames: `share_of`, `Share`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from arrayred.errors import UsageError
from arrayred.kernels.order import clip_factor, median_factor, minmax_factor


class Share(NamedTuple):
    """The variance of a combination in terms of that of one of its frames.

    Parameters
    ----------
    floor : of the noise without light, which is the same in all frames.
    photons : of the noise of the light, of which bright frames have more.
    method : whose share it is where a pixel has fewer frames: as in `share_of`.
    left_out : as in `share_of`.
    common : of the noise that all frames share, the master's: 1 but for weighted frames.
    """

    floor: float
    photons: float
    method: str = "average"
    left_out: tuple[int, int] = (0, 0)
    common: float = 1.0

    @classmethod
    def of_equal(cls, method: str, n_frames: int, left_out: tuple[int, int] = (0, 0)) -> Share:
        """Return the share of a combination of equal frames."""
        share = share_of(method, n_frames, left_out)
        return cls(share, share, method, left_out)

    def of_fewer(self, n_frames: int) -> list[float]:
        """Return by how much the variance grows where 0 ... n_frames frames are left of all."""
        own = [share_of(self.method, n, self.left_out) for n in range(1, n_frames + 1)]
        return [math.nan, *(share / own[-1] for share in own)]


def share_of(method: str, n_frames: int, left_out: Sequence[int] = (0, 0)) -> float:
    """Return the variance of a combination of equal frames in terms of that of one of them.

    Parameters
    ----------
    method : "average" or "clip", which leaves out too little to matter; "median"; "minmax".
    n_frames : how many frames.
    left_out : of "minmax": how many of the lowest and of the highest values.

    Raises
    ------
    UsageError
        The noise of frames that were combined in this way is not known.

    Examples
    --------
    >>> round(share_of("median", 5), 3), round(share_of("minmax", 5, (1, 1)), 3)
    (0.287, 0.227)
    """
    if method in ("average", "clip"):
        return 1.0 / n_frames
    if method == "median":
        return median_factor(n_frames) / n_frames
    if method == "minmax":
        low, high = left_out
        return minmax_factor(n_frames, low, high) / n_frames if low + high < n_frames else math.nan
    raise UsageError(
        f"The noise of frames combined by {method!r} is not known",
        keyword="method",
        value=method,
        hint="Combine by average, median, clip or minmax.",
    )


def share_of_mean(weights: Sequence[float], flux: Sequence[float], n_sigma: float | None) -> Share:
    """Return the share of a mean of frames of different brightness, weighted and perhaps clipped.

    The mean is ``sum(w (frame - level)) / sum(w flux)``.

    Parameters
    ----------
    weights, flux : of the frames.
    n_sigma : where values were clipped by their known noise; None: nowhere.

    Examples
    --------
    >>> share_of_mean((1.0, 1.0), (0.5, 1.5), None)
    Share(floor=0.5, photons=0.5, method='average', left_out=(0, 0), common=1.0)
    """
    both = list(zip(weights, flux, strict=True))
    total = math.fsum(weight * scale for weight, scale in both)
    factor = 1.0 if n_sigma is None else clip_factor(len(both), n_sigma)
    floor = math.fsum(weight**2 for weight in weights)
    photons = math.fsum(weight**2 * scale for weight, scale in both)
    common = (math.fsum(weights) / total) ** 2
    return Share(factor * floor / total**2, factor * photons / total**2, common=common)


def share_of_order(method: str, flux: Sequence[float], left_out: tuple[int, int] = (0, 0)) -> Share:
    """Return the share of a median or of a mean without extremes of frames scaled to each other.

    Scaling up a faint frame scales its noise. A mean pays for that with the mean of the squares; a
    median holds to the quieter frames and pays nothing in the first order; what leaves extremes out
    lies between, by how much it keeps. Against random numbers of up to 20 % scatter the variance
    holds to 4 %.

    Parameters
    ----------
    method : "median" or "minmax".
    flux : of the frames, 1 on average.
    left_out : as in `share_of`.

    Examples
    --------
    >>> [round(share, 3) for share in share_of_order("minmax", (0.8, 1.2))[:2]]
    [0.564, 0.521]
    """
    n_frames = len(flux)
    share = share_of(method, n_frames, left_out)
    if method == "median" or n_frames < 2:
        return Share(share, share, method, left_out)
    pays = (n_frames - sum(left_out) - 1) / (n_frames - 1)
    of_floor = math.fsum(1 / scale**2 for scale in flux) / n_frames - 1
    of_photons = math.fsum(1 / scale for scale in flux) / n_frames - 1
    of_floor, of_photons = 1 + pays * of_floor, 1 + pays * of_photons
    return Share(share * of_floor, share * of_photons, method, left_out)
