"""Where the light of each spectrum begins and ends: `runs_of_light`.

A spectrum reaches as far as its rows stand out by 4 standard deviations of a row's mean, or by 2 %
of its brightest: a bright star does not bring its wings along. Two real nebulae, whose rows were
read off by eye, end within 2 rows of that.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.faint import FaintLight
from arrayred.kernels.rows import runs

Values = NDArray[np.float64]

SURE = 5.0
"""The score from which on light is believed in."""
_EDGE = 4.0
_FAINTEST_PART = 0.02
_DIP = 0.2
_SCATTERED = 0.01
_MOST = 8


def runs_of_light(light: FaintLight, max_gap: int) -> Iterator[tuple[int, int]]:
    """Yield start and stop of each run of rows that surely hold light, by falling S/N.

    Near a bright spectrum every width that reaches it sees light. So a further one must stand out
    in a row by itself, and be a hundredth of the brightest, or it is scattered light.

    Parameters
    ----------
    light : what each row shows.
    max_gap : dark rows that do not part a spectrum.

    Examples
    --------
    >>> snr = np.zeros(40)
    >>> snr[10:14], snr[30:33] = 50.0, 20.0
    >>> list(runs_of_light(FaintLight(snr, snr, np.ones(40, np.int64)), 5))
    [(10, 14), (30, 33)]
    """
    free = light.score > SURE
    taken: list[tuple[int, int]] = []
    least = -np.inf
    while free.any() and len(taken) < _MOST:
        peak = int(np.argmax(np.where(free, light.snr, -np.inf)))
        free[peak] = False
        if light.snr[peak] < least:
            return
        if not _stands_apart(light.snr, peak, taken):
            continue
        start, stop = _reach(light, peak, max_gap, widen=not taken)
        for other_start, other_stop in taken:
            start = max(start, other_stop) if other_stop <= peak else start
            stop = min(stop, other_start) if other_start > peak else stop
        least = least if taken else max(SURE, _SCATTERED * float(light.snr[peak]))
        free[max(start - max_gap, 0) : stop + max_gap] = False
        taken.append((start, stop))
        yield start, stop


def _stands_apart(snr: NDArray[np.float64], peak: int, taken: list[tuple[int, int]]) -> bool:
    """Tell whether a peak is no wing of a run: between them it is darker by 4, and by a fifth."""
    for start, stop in taken:
        between = snr[stop : peak + 1] if stop <= peak else snr[peak:start]
        if snr[peak] - float(np.min(between, initial=snr[peak])) < max(_EDGE, _DIP * snr[peak]):
            return False
    return True


def _reach(light: FaintLight, peak: int, max_gap: int, *, widen: bool) -> tuple[int, int]:
    """Return start and stop of the rows about a peak that hold its light.

    At least as many as the width that matches it, if it is to be widened to that.
    """
    level = max(_EDGE, _FAINTEST_PART * float(light.snr[peak]))
    start, stop = peak, peak + 1
    for a, b in runs(light.snr > level, max_gap=max_gap):
        if a <= peak < b:
            start, stop = a, b
    lacking = int(light.width[peak]) - (stop - start)
    if widen and lacking > 0:
        start = max(start - lacking // 2, 0)
        stop = min(stop + lacking - lacking // 2, len(light.snr))
    return start, stop
