"""Time along the axis: dates as ISO writes them, in UTC; numbers of frames where no time is known.

Months by name would depend on the language of the machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from arrayred.model import FRAME
from arrayred.plots.canvas import name_axes

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440)
"""Minutes from one tick to the next."""
_FORMATS = ["%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M", "%S.%f"]
_AT_ZERO = ["", "%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M"]
_BESIDE = ["", "%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%d", "%Y-%m-%d %H:%M"]
_MINUTE = np.timedelta64(60, "s")


def times_of(found: xr.Dataset, name: str) -> NDArray[Any]:
    """Return the times of frames, or their numbers from 1 where not all are known."""
    if name in found.coords and found[name].dims == (FRAME,):
        when = found[name].values
        if np.issubdtype(when.dtype, np.datetime64) and not np.isnat(when).any():
            return np.asarray(when)
    return np.arange(1, found.sizes[FRAME] + 1)


def name_time(axes: Axes, when: NDArray[Any], *, label: bool = True, most: int = 8) -> None:
    """Let time in UTC run along the axes, or the number of the frame.

    Parameters
    ----------
    axes : where something is drawn over the times.
    when : datetime64, or numbers of frames; the axes reach from the first to the last.
    label : whether to say what it is.
    most : ticks there is room for.
    """
    from matplotlib.ticker import MaxNLocator

    if not np.issubdtype(when.dtype, np.datetime64):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        name_axes(axes, x="frame")
        return
    if label:
        name_axes(axes, x="time (UTC)")
    if not when.size:
        return
    first, last = (time.astype("datetime64[s]") for time in (when.min(), when.max()))
    pad = max((last - first) / 25, 10 * _MINUTE if first == last else 0 * _MINUTE)
    axes.set_xlim(_day(first - pad), _day(last + pad))
    steps = [step for step in _STEPS if (last - first + 2 * pad) / (step * _MINUTE) <= most]
    if steps:
        ticks = _ticks(first - pad, last + pad, steps[0] * _MINUTE)
        axes.set_xticks(list(map(_day, ticks)), labels=_names(ticks))
    else:
        _adapt(axes, most)


def _ticks(first: np.datetime64, last: np.datetime64, step: np.timedelta64) -> NDArray[Any]:
    """Return the times between two that are full steps from midnight."""
    day = first.astype("datetime64[D]").astype("datetime64[s]")
    ticks = np.arange(day, last + step, step)
    return np.asarray(ticks[(ticks >= first) & (ticks <= last)])


def _names(ticks: NDArray[Any]) -> list[str]:
    r"""Return hours and minutes, with the date below the first of each day.

    Examples
    --------
    >>> _names(np.array(["2020-11-02T22:00", "2020-11-02T23:00", "2020-11-03T00:00"], "M8[s]"))
    ['22:00\n2020-11-02', '23:00', '00:00\n11-03']
    """
    days = ticks.astype("datetime64[D]")
    names = [str(tick)[11:16] for tick in ticks]
    for i, day in enumerate(days):
        if i == 0 or day != days[i - 1]:
            names[i] += f"\n{str(day) if i == 0 else str(day)[5:]}"
    return names


def _day(time: np.datetime64) -> float:
    """Return a time as days since 1970, as matplotlib counts them."""
    return float((time - np.datetime64(0, "s")) / np.timedelta64(86400, "s"))


def _adapt(axes: Axes, most: int) -> None:
    """Let matplotlib choose the dates of weeks, months and years."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(minticks=2, maxticks=max(most, 3))  # type: ignore[no-untyped-call]
    formatter = ConciseDateFormatter(  # type: ignore[no-untyped-call]
        locator, formats=_FORMATS, zero_formats=_AT_ZERO, offset_formats=_BESIDE
    )
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter)
