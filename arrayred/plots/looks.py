"""The picture of a target on one sheet: `quick_look`, and `search_look` where nothing was found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arrayred.kernels.rows import robust_std, row_means
from arrayred.model import COUNTS, X, Y
from arrayred.plots.canvas import BLACK, GREY, add_legend, name_axes, name_figure, sheet, styled
from arrayred.plots.given import FLUX, units_of
from arrayred.plots.marks import bands
from arrayred.plots.pictures import draw_apertures, draw_pixels
from arrayred.plots.spectra import draw_flux
from arrayred.plots.stretch import Stretch

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def quick_look(combined: xr.Dataset, spectrum: xr.Dataset, title: str) -> Figure:
    """Draw a combined image with its aperture and sky bands, the row profile, and the spectrum.

    The aperture follows the trace where the spectrum has one; rows that stand out as well but were
    not taken are shaded grey beside the profile.

    Parameters
    ----------
    combined : counts (y, x) in adu or electron, settled.
    spectrum : what was extracted from it, in the same unit.
    title : the target's name.
    """
    with styled():
        figure = sheet(11, 8)
        grid = figure.add_gridspec(2, 2, width_ratios=(3, 1), height_ratios=(1.2, 1))
        image_axes = figure.add_subplot(grid[0, 0])
        _draw_image(image_axes, combined, spectrum)
        _draw_profile(figure.add_subplot(grid[0, 1], sharey=image_axes), combined, spectrum)
        _draw_spectrum(figure.add_subplot(grid[1, :]), spectrum)
        name_figure(figure, title)
    return figure


def search_look(combined: xr.Dataset, title: str, *, threshold: object = None) -> Figure:
    """Draw a combined image in which no spectrum was found, and the means of its rows.

    Parameters
    ----------
    combined : counts (y, x) in adu or electron, settled.
    title : the target's name.
    threshold : what no row's mean exceeds, in the same unit; drawn where it is a number.
    """
    counts = combined[COUNTS].values
    finite = counts[np.isfinite(counts)]
    level = float(np.median(finite)) if finite.size else 0.0
    noise = (robust_std(finite) if finite.size else 0.0) or 1.0
    with styled():
        figure = sheet(11, 5)
        grid = figure.add_gridspec(1, 2, width_ratios=(3, 1))
        axes = figure.add_subplot(grid[0, 0])
        grey = Stretch(level - 3 * noise, level + 10 * noise, level, 2 * noise)
        draw_pixels(axes, combined, grey)
        name_axes(axes, title="combined image")
        _draw_search(figure.add_subplot(grid[0, 1], sharey=axes), combined, threshold)
        name_figure(figure, f"{title}: no spectrum found")
    return figure


def _draw_search(axes: Axes, combined: xr.Dataset, threshold: object) -> None:
    """Draw the mean of each row, and the threshold that none exceeds."""
    axes.plot(row_means(combined[COUNTS].values), combined[Y].values, color=GREY, linewidth=0.8)
    if isinstance(threshold, float) and np.isfinite(threshold):
        label = f"threshold {threshold:.1f}"
        axes.axvline(threshold, color=BLACK, linestyle=":", linewidth=1, label=label)
        add_legend(axes, place="upper right")
    name_axes(axes, x=f"mean of a row ({units_of(combined, COUNTS)})", title="rows")
    axes.tick_params(labelleft=False)


def _draw_image(axes: Axes, combined: xr.Dataset, spectrum: xr.Dataset) -> None:
    """Draw the image with a stretch that shows the sky's noise and the star at once."""
    facts = spectrum.attrs
    noise = max(facts["background_std"], 1.0)
    low = facts["background_mean"] - 5 * noise
    high = max(float(np.nanpercentile(combined[COUNTS].values, 99.9)), low + noise)
    draw_pixels(axes, combined, Stretch(low, high, 0.0, 2 * noise))
    draw_apertures(axes, spectrum)
    name_axes(axes, title="combined image")


def _draw_profile(axes: Axes, combined: xr.Dataset, spectrum: xr.Dataset) -> None:
    """Draw the mean of each row beside the image, with the threshold."""
    means, threshold = row_means(combined[COUNTS].values), spectrum.attrs["threshold"]
    axes.plot(means, combined[Y].values, color=GREY, linewidth=0.8)
    label = f"threshold {threshold:.1f}"
    axes.axvline(threshold, color=BLACK, linestyle=":", linewidth=1, label=label)
    low, high = min(float(np.nanmin(means)), 0.0), float(np.nanmax(means))
    if high > threshold > 0:
        axes.set_xscale("symlog", linthresh=2 * threshold)
    high = max(high, threshold)
    axes.set_xlim(low, high + 0.3 * max(abs(high), 1e-9))
    for first, last, colour, label in bands(spectrum):
        axes.axhspan(first - 0.5, last + 0.5, color=colour, alpha=0.35, lw=0, label=label)
    name_axes(axes, x=f"mean of a row ({units_of(spectrum, FLUX)})", title="rows")
    axes.tick_params(labelleft=False)
    middle = (spectrum.attrs["first_row"] + spectrum.attrs["last_row"]) / 2
    is_low = middle < combined[Y].values.mean()
    add_legend(axes, place="upper right" if is_low else "lower right")


def _draw_spectrum(axes: Axes, spectrum: xr.Dataset) -> None:
    """Draw the flux with three standard deviations about it, and mark flagged columns."""
    draw_flux(axes, spectrum)
    x = spectrum[X].values
    way = spectrum.attrs.get("extraction")
    sky = "spectrum less the sky" if "sky" in spectrum else "spectrum, sky included"
    title = sky if way is None else f"{sky} ({way})"
    name_axes(axes, x="column", y=f"flux ({units_of(spectrum, FLUX)})", title=title)
    axes.set_xlim(int(x[0]), int(x[-1]))
    add_legend(axes)
