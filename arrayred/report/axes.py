"""Axes of a chart: where a value lies between two ends, and round numbers along it: `Axis`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR, _DAY = 3600, 86400
_STEPS_OF_TIME = (
    *(60 * minutes for minutes in (1, 2, 5, 10, 20, 30)),
    *(_HOUR * hours for hours in (1, 2, 3, 6, 12)),
    *(_DAY * days for days in (1, 2, 5, 10, 30, 60, 120, 365, 730, 3650)),
)


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Parameters
    ----------
    label : what it is, and its unit.
    low, high : its ends; the high one is above the low one.
    ticks : values where it is labelled, and their labels.
    width : values are linear within this of zero and logarithmic beyond; 0: linear everywhere.
    """

    label: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...] = ()
    width: float = 0.0

    def place(self, values: Any) -> Values:
        """Return where values lie: 0 at the low end, 1 at the high one."""
        low, high = self._bent(self.low), self._bent(self.high)
        return np.asarray((self._bent(values) - low) / (high - low), np.float64)

    def _bent(self, values: Any) -> Values:
        plain = np.asarray(values, np.float64)
        return np.arcsinh(plain / self.width) if self.width else plain


_LEAST = 1e-290
"""What lies closer together than this is one: of less there are no round parts."""


def linear(label: str, low: float, high: float, *, n_ticks: int = 6) -> Axis:
    """Return an axis with round numbers; its ends are those given, parted if they are one.

    Examples
    --------
    >>> [text for _, text in linear("column", 1, 1536, n_ticks=4).ticks]
    ['500', '1000', '1500']
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        low, high = 0.0, 1.0
    if not high - low > _LEAST:
        low, high = low - 0.5 * max(abs(low), 1.0), high + 0.5 * max(abs(high), 1.0)
    step = _round_step((high - low) / max(n_ticks, 1))
    first, last = math.ceil(low / step), math.floor(high / step)
    values = [i * step for i in range(first, last + 1)]
    return Axis(label, low, high, tuple(zip(values, _told(values, step), strict=True)))


def around(label: str, values: Any, *, n_ticks: int = 5, margin: float = 0.06) -> Axis:
    """Return a linear axis that holds all finite values with some room about them."""
    found = np.asarray(values, np.float64)
    found = found[np.isfinite(found)]
    if not found.size:
        return linear(label, 0.0, 1.0, n_ticks=n_ticks)
    low, high = float(found.min()), float(found.max())
    room = margin * ((high - low) or max(abs(high), 1.0))
    return linear(label, low - room, high + room, n_ticks=n_ticks)


def bent(label: str, low: float, high: float, width: float) -> Axis:
    """Return an axis that is linear about zero and logarithmic beyond, labelled by powers of ten.

    Examples
    --------
    >>> [text for _, text in bent("mean", -5, 3000, 60).ticks]
    ['0', '100', '1000']
    """
    if high <= 4 * width:
        return linear(label, low, high, n_ticks=3)
    powers = range(math.ceil(math.log10(1.2 * width)), math.floor(math.log10(high)) + 1)
    values = [0.0, *(10.0**power for power in powers)]
    shown = [value for value in values if low <= value <= high]
    return Axis(label, low, high, tuple((value, short(value)) for value in shown), width)


def times(label: str, low: datetime, high: datetime, *, n_ticks: int = 6) -> Axis:
    """Return an axis of time, in seconds of UTC, labelled by the clock or the calendar."""
    first, last = seconds_of(low), seconds_of(high)
    room = 0.03 * ((last - first) or _HOUR)
    first, last = first - room, last + room
    step = next((s for s in _STEPS_OF_TIME if (last - first) / s <= n_ticks), _STEPS_OF_TIME[-1])
    values = np.arange(math.ceil(first / step) * step, last, step)
    moments = [_EPOCH + timedelta(seconds=float(value)) for value in values]
    ticks = tuple((float(v), _clock(m, step)) for v, m in zip(values, moments, strict=True))
    return Axis(label, first, last, ticks)


def _clock(moment: datetime, step: int) -> str:
    """Return a tick of time: the clock, at midnight the day, of long times the date."""
    if step >= _DAY:
        return f"{moment:%Y-%m-%d}"
    return f"{moment:%H:%M}" if moment.hour or moment.minute else f"{moment:%m-%d}"


def seconds_of(moment: datetime) -> float:
    """Return a moment of UTC as a number."""
    return (moment.replace(tzinfo=UTC) - _EPOCH).total_seconds()


def _round_step(rough: float) -> float:
    """Return 1, 2 or 5 times a power of ten, not less than a rough step."""
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def _told(values: Sequence[float], step: float) -> list[str]:
    """Return ticks as text, as many decimals as their step needs."""
    largest = max(map(abs, values), default=0.0)
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if largest >= 100 * factor or largest >= factor > 1e3:
            return [f"{value / factor:g}{letter}" if value else "0" for value in values]
    decimals = max(-math.floor(math.log10(step)), 0)
    return [f"{value:.{decimals}f}" for value in values]


def short(value: float) -> str:
    """Return a number as a short text.

    Examples
    --------
    >>> short(1000.0), short(2.5e6), short(150000)
    ('1000', '2.5M', '150k')
    """
    for factor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= (100 * factor if letter == "k" else factor):
            return f"{value / factor:.4g}{letter}"
    return f"{value:g}"
