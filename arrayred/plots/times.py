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

_FORMATS = ["%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M", "%S.%f"]
_AT_ZERO = ["", "%Y", "%Y-%m", "%m-%d", "%H:%M", "%H:%M"]
_BESIDE = ["", "%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%d", "%Y-%m-%d %H:%M"]
_ALONE = np.timedelta64(30, "m")
"""On both sides of a single time."""


def times_of(found: xr.Dataset, name: str) -> NDArray[Any]:
    """Return the times of frames, or their numbers from 1 where not all are known."""
    if name in found.coords and found[name].dims == (FRAME,):
        when = found[name].values
        if np.issubdtype(when.dtype, np.datetime64) and not np.isnat(when).any():
            return np.asarray(when)
    return np.arange(1, found.sizes[FRAME] + 1)


def name_time(axes: Axes, when: NDArray[Any], *, label: bool = True) -> None:
    """Say that time in UTC runs along the axes, or the number of the frame."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.ticker import MaxNLocator

    if not np.issubdtype(when.dtype, np.datetime64):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        name_axes(axes, x="frame")
        return
    locator = AutoDateLocator(minticks=3, maxticks=8)  # type: ignore[no-untyped-call]
    formatter = ConciseDateFormatter(  # type: ignore[no-untyped-call]
        locator, formats=_FORMATS, zero_formats=_AT_ZERO, offset_formats=_BESIDE
    )
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter)
    if when.size and (first := when.min()) == when.max():
        axes.set_xlim(first - _ALONE, first + _ALONE)
    if label:
        name_axes(axes, x="time (UTC)")
