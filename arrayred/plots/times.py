"""Time along the axis: dates as ISO writes them, in UTC; numbers of frames where no time is known.

Months by name would depend on the language of the machine, and what matplotlib chooses on its
version: ticks are whole steps of the clock, as many as there is room for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from arrayred.model import FRAME
from arrayred.plots.canvas import name_axes

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

_STEPS: tuple[tuple[Literal["m", "D", "M", "Y"], int], ...] = (
    *(("m", step) for step in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720)),
    *(("D", step) for step in (1, 2, 5, 10)),
    *(("M", step) for step in (1, 2, 3, 6)),
    *(("Y", step) for step in (1, 2, 5, 10, 20, 50)),
)
"""From one tick to the next: minutes, days, months, years."""
_LEAST = np.timedelta64(600, "s")
"""The shortest time that is drawn."""


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
    pad = max((last - first) / 25, (_LEAST - (last - first)) / 2)
    axes.set_xlim(_day(first - pad), _day(last + pad))
    unit, ticks = _ticks(first - pad, last + pad, most)
    axes.set_xticks([_day(tick) for tick in ticks], labels=_names(ticks, unit))


def _ticks(first: np.datetime64, last: np.datetime64, most: int) -> tuple[str, NDArray[Any]]:
    """Return at most so many round times between two, but one at least; and what they count.

    Examples
    --------
    >>> unit, ticks = _ticks(np.datetime64("2020-11-02T22:10"), np.datetime64("2020-11-03T05"), 3)
    >>> unit, ticks.astype(str).tolist()
    ('m', ['2020-11-03T00:00', '2020-11-03T02:00', '2020-11-03T04:00'])
    """
    found: tuple[str, NDArray[Any]] = ("m", np.array([first], "datetime64[m]"))
    for unit, step in _STEPS:
        low, high = (int(time.astype(f"datetime64[{unit}]").astype(int)) for time in (first, last))
        if (high - low) // step > 20 * most:
            continue
        counts = np.arange(-(-low // step) * step, high + 1, step)
        ticks = counts.astype(f"datetime64[{unit}]")
        ticks = ticks[ticks >= first]
        if not ticks.size:
            break
        found = unit, ticks
        if ticks.size <= most:
            break
    return found


def _names(ticks: NDArray[Any], unit: str) -> list[str]:
    r"""Return what stands at ticks: the part that changes, and below it the rest where it does.

    Examples
    --------
    >>> _names(np.array(["2020-11-02T22:00", "2020-11-02T23:00", "2020-11-03T00:00"], "M8[m]"), "m")
    ['22:00\n2020-11-02', '23:00', '00:00\n11-03']
    >>> _names(np.array(["2020-12-30", "2021-01-01"], "M8[D]"), "D")
    ['12-30\n2020', '01-01\n2021']
    """
    texts = [str(tick) for tick in ticks]
    if unit in ("M", "Y"):
        return texts
    split = 10 if unit == "m" else 4
    names = []
    for i, text in enumerate(texts):
        rest = text[:split] if i == 0 or unit == "D" else text[5:split]
        is_new = i == 0 or text[:split] != texts[i - 1][:split]
        names.append(text[split + 1 :] + (f"\n{rest}" if is_new else ""))
    return names


def _day(time: np.datetime64) -> float:
    """Return a time as days since 1970, as matplotlib counts them."""
    return float((time - np.datetime64(0, "s")) / np.timedelta64(86400, "s"))
