"""The rows of an image as curves: `profile` with what was found, `rows` with their statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import UsageError
from arrayred.kernels.rows import row_means
from arrayred.model import COUNTS, FRAME, Rows, Y, turn
from arrayred.plots.canvas import (
    BLACK,
    BLUE,
    GREY,
    SERIES,
    add_legend,
    name_axes,
    name_figure,
    sheet,
    styled,
)
from arrayred.plots.given import image_of, spectrum_of, units_of
from arrayred.plots.marks import Values, bands

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from arrayred.plots.given import Given

_RULES = {
    "threshold": "found by the threshold",
    "robust": "found by the robust rule",
    "given": "given by the user",
}


def profile(
    image: Given,
    spectrum: Given | Rows | None = None,
    *,
    title: str = "",
    threshold: float | None = None,
) -> Figure:
    """Draw the mean of each row of an image, the threshold, and the candidates among the rows.

    Parameters
    ----------
    image : counts (y, x) in adu or electron; turned where its dispersion runs along the columns.
    spectrum : what was extracted from it, or the rows that `find_rows` found, which tell the signal
        to noise of every candidate; or None.
    title : written over the figure.
    threshold : what the mean of a row must exceed, in the unit of the counts; by default that of
        the spectrum.

    Raises
    ------
    UsageError
        The image or the spectrum is none.

    Examples
    --------
    >>> import arrayred as ar, xarray as xr
    >>> frames = list(ar.SimulatedNight().frames())
    >>> light = xr.DataArray(frames[-1].pixels - 1.0 * frames[0].pixels, dims=("y", "x"))
    >>> figure = profile(light, threshold=40.0)
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['threshold 40.0']
    """
    shown = turn(image_of(image))
    found = spectrum if spectrum is None or isinstance(spectrum, Rows) else spectrum_of(spectrum)
    level = _threshold_of(found) if threshold is None else threshold
    with styled():
        figure = sheet(8, 3.6)
        axes = figure.add_subplot()
        means = row_means(shown[COUNTS].values.astype(np.float64))
        axes.plot(shown[Y].values, means, color=BLACK, linewidth=0.8)
        _scale(axes, means, level)
        if level is not None and np.isfinite(level):
            axes.axhline(level, color=BLACK, linestyle=":", label=f"threshold {level:.1f}")
        if found is not None:
            _shade(axes, found)
            axes.set_title(_rule_of(found), loc="left", fontsize="medium")
        name_axes(axes, x="row", y=f"mean of a row ({units_of(shown, COUNTS)})")
        axes.set_xlim(float(shown[Y][0]) - 0.5, float(shown[Y][-1]) + 0.5)
        add_legend(axes, place="best")
        name_figure(figure, title)
    return figure


def _threshold_of(found: xr.Dataset | Rows | None) -> float | None:
    if found is None:
        return None
    return found.threshold if isinstance(found, Rows) else found.attrs.get("threshold")


def _rule_of(found: xr.Dataset | Rows) -> str:
    """Return what found the rows, and how far they stand out."""
    if isinstance(found, Rows):
        rule, snr = str(found.rule), found.snr
    else:
        rule, snr = str(found.attrs.get("rule", "threshold")), found.attrs.get("row_snr")
    told = "" if snr is None else f", brightest row at S/N {snr:.0f}"
    return f"{_RULES.get(rule, rule)}{told}"


def _scale(axes: Axes, means: Values, level: float | None) -> None:
    """Show what lies below twice the threshold linearly, and what is far above it as well."""
    from matplotlib.ticker import StrMethodFormatter, SymmetricalLogLocator

    finite = means[np.isfinite(means)]
    if level is None or not np.isfinite(level) or not finite.size:
        return
    if finite.max() > 8 * level > 0:
        axes.set_yscale("symlog", linthresh=2 * level, linscale=0.7)
        ticks = SymmetricalLogLocator(base=10, linthresh=2 * level, subs=[1, 2, 5])
        axes.yaxis.set_major_locator(ticks)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _shade(axes: Axes, found: xr.Dataset | Rows) -> None:
    for band in bands(found):
        axes.axvspan(
            band.first - 0.5, band.last + 0.5, color=band.colour, alpha=0.3, lw=0, label=band.label
        )


def rows(statistics: xr.Dataset, *, title: str = "") -> Figure:
    """Draw the statistics of rows: mean and median of each, and the scatter of its pixels.

    Parameters
    ----------
    statistics : `mean`, `median`, `std` (y), or (frame, y), as `row_statistics` gives them.
    title : written over the figure.

    Raises
    ------
    UsageError
        It is something else.

    Examples
    --------
    >>> import arrayred as ar, xarray as xr
    >>> frame = next(ar.SimulatedNight().frames())
    >>> image = xr.Dataset({"counts": (("y", "x"), frame.pixels)})
    >>> figure = ar.plots.rows(ar.row_statistics(image))
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['level (adu)', 'scatter (adu)']
    """
    names = ("mean", "median", "std")
    if not all(name in statistics for name in names) or statistics["mean"].dims[-1:] != (Y,):
        raise UsageError(
            f"Statistics of rows are {', '.join(names)} (y), but this has "
            f"{', '.join(map(str, statistics)) or 'nothing'}",
            hint="Give what row_statistics returns.",
        )
    seen = statistics[list(names)].load()
    units = units_of(seen, "mean")
    y: NDArray[Any] = seen[Y].values if Y in seen.coords else np.arange(1.0, seen.sizes[Y] + 1)
    with styled():
        figure = sheet(8, 4.5)
        level, scatter = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        if seen["mean"].ndim == 1:
            level.plot(y, seen["mean"].values, color=BLUE, label="mean")
            level.plot(y, seen["median"].values, color=SERIES[1], label="median")
            scatter.plot(y, seen["std"].values, color=GREY)
        else:
            _draw_each(level, scatter, seen, y)
        name_axes(level, y=f"level ({units})")
        name_axes(scatter, x="row", y=f"scatter ({units})")
        scatter.set_xlim(float(y[0]), float(y[-1]))
        add_legend(level)
        name_figure(figure, title)
    return figure


def _draw_each(level: Axes, scatter: Axes, seen: xr.Dataset, y: NDArray[Any]) -> None:
    """Draw the medians and the scatter of each frame, from blue over to yellow."""
    from matplotlib import colormaps

    flat = seen.stack(each=[dim for dim in seen["mean"].dims if dim != Y]).transpose("each", Y)
    n = flat.sizes["each"]
    names = flat[FRAME].values if FRAME in flat.coords else [str(i + 1) for i in range(n)]
    for i in range(n):
        colour = colormaps["cividis"](i / max(n - 1, 1))
        label = f"median of {names[i]}" if i in (0, n - 1) else None
        level.plot(y, flat["median"].values[i], color=colour, label=label)
        scatter.plot(y, flat["std"].values[i], color=colour)
