"""Where the light of a star lies, and how well its trace follows it: `trace`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arrayred.errors import UsageError
from arrayred.model import X, turn
from arrayred.plots.canvas import (
    BLACK,
    BLUE,
    GREY,
    VERMILION,
    add_legend,
    name_axes,
    name_figure,
    sheet,
    styled,
)
from arrayred.plots.given import image_of, spectrum_of
from arrayred.plots.marks import aperture
from arrayred.steps.trace import measure_centres

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from arrayred.plots.given import Given


def trace(image: Given, spectrum: Given, *, title: str = "") -> Figure:
    """Draw the centres of a star's light along the columns, its trace, and what the fit leaves.

    Parameters
    ----------
    image : counts (y, x), the spectrum was extracted from; the centres are measured anew in it.
    spectrum : with `trace` (x), FITS rows.
    title : written over the figure.

    Raises
    ------
    UsageError
        The image or the spectrum is none, or the spectrum has no trace.
    """
    shown, cut = turn(image_of(image)), spectrum_of(spectrum)
    if "trace" not in cut:
        raise UsageError(
            "The trace was asked for, but this spectrum has straight rows and none",
            hint="Extract it along the trace, see fit_trace and extract_along.",
        )
    found = measure_centres(shown, cut)
    x, rows = found[X].values, found["row"].values
    error, left = found["error"].values, rows - found["trace"].values
    with styled():
        figure = sheet(8, 4.5)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
        points = {"fmt": "o", "markersize": 3, "linewidth": 0.8, "color": BLUE}
        above.errorbar(x, rows, yerr=error, label="centres of the light", **points)
        above.plot(cut[X].values, cut["trace"].values, color=VERMILION, label="trace", zorder=3)
        for edge in aperture(cut):
            above.plot(cut[X].values, edge, color=GREY, linestyle="--", linewidth=0.7)
        below.errorbar(x, left, yerr=error, **points)
        below.axhline(0.0, color=VERMILION, linewidth=0.9)
        if "trace_rms" in cut.attrs:
            rms = cut.attrs["trace_rms"]
            below.axhspan(-rms, rms, color=BLACK, alpha=0.15, lw=0, label=f"rms {rms:.3f} rows")
        name_axes(above, y="row")
        name_axes(below, x="column", y="residual (rows)")
        below.set_xlim(float(cut[X][0]), float(cut[X][-1]))
        finite = np.abs(left[np.isfinite(left)])
        most = max(float(finite.max(initial=0.0)), cut.attrs.get("trace_rms", 0.0), 0.01)
        below.set_ylim(-1.4 * most, 1.4 * most)
        add_legend(above)
        add_legend(below)
        name_figure(figure, title)
    return figure
