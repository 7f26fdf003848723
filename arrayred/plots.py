"""Figures of a target, drawn without pyplot's global state: `quick_look`, `search_look`.

The second is of a target in which no spectrum was found.
The bytes of a PNG depend on the numbers alone.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from arrayred.kernels.rows import robust_std, row_means
from arrayred.model import COUNTS, X, Y

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY = "#56B4E9", "#D55E00", "#666666"


def quick_look(combined: xr.Dataset, spectrum: xr.Dataset, title: str) -> Figure:
    """Draw a combined image with its rows and sky band, the row profile, and the spectrum.

    Parameters
    ----------
    combined : counts (y, x) in adu or electron, settled.
    spectrum : what was extracted from it, in the same unit.
    title : the target's name.
    """
    from matplotlib import style

    with style.context("default"):
        return _drawn(combined, spectrum, title)


def _drawn(combined: xr.Dataset, spectrum: xr.Dataset, title: str) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), layout="constrained", dpi=110)
    grid = figure.add_gridspec(2, 2, width_ratios=(3, 1), height_ratios=(1.2, 1))
    image_axes = figure.add_subplot(grid[0, 0])
    _draw_image(image_axes, combined, spectrum)
    _draw_profile(figure.add_subplot(grid[0, 1], sharey=image_axes), combined, spectrum)
    _draw_spectrum(figure.add_subplot(grid[1, :]), spectrum)
    figure.suptitle(title, parse_math=False)
    return figure


def search_look(combined: xr.Dataset, title: str, *, threshold: object = None) -> Figure:
    """Draw a combined image in which no spectrum was found, and the means of its rows.

    Parameters
    ----------
    combined : counts (y, x) in adu or electron, settled.
    title : the target's name.
    threshold : what no row's mean exceeds, in the same unit; drawn where it is a number.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    counts = combined[COUNTS].values
    with style.context("default"):
        figure = Figure(figsize=(11, 5), layout="constrained", dpi=110)
        grid = figure.add_gridspec(1, 2, width_ratios=(3, 1))
        axes = figure.add_subplot(grid[0, 0])
        finite = counts[np.isfinite(counts)]
        level = float(np.median(finite)) if finite.size else 0.0
        noise = (robust_std(finite) if finite.size else 0.0) or 1.0
        _show(axes, combined, level - 3 * noise, level, noise, 10 * noise + level)
        _draw_search(figure.add_subplot(grid[0, 1], sharey=axes), combined, threshold)
        figure.suptitle(f"{title}: no spectrum found", parse_math=False)
    return figure


def _draw_search(axes: Axes, combined: xr.Dataset, threshold: object) -> None:
    """Draw the mean of each row, and the threshold that none exceeds."""
    axes.plot(row_means(combined[COUNTS].values), combined[Y].values, color=_GREY, linewidth=0.8)
    if isinstance(threshold, float) and np.isfinite(threshold):
        label = f"threshold {threshold:.1f}"
        axes.axvline(threshold, color="black", linestyle=":", linewidth=1, label=label)
        axes.legend(fontsize="small", loc="upper right")
    units = combined[COUNTS].attrs.get("units", "adu")
    axes.set(xlabel=f"mean of a row ({units})", title="rows")
    axes.tick_params(labelleft=False)


def png(figure: Figure) -> bytes:
    """Return a figure as PNG bytes, the same for the same figure."""
    from matplotlib import style

    buffer = io.BytesIO()
    with style.context("default"):
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    figure.set_layout_engine("none")
    return buffer.getvalue()


def _draw_image(axes: Axes, combined: xr.Dataset, spectrum: xr.Dataset) -> None:
    """Draw the image with a stretch that shows the sky's noise and the star at once."""
    counts, facts = combined[COUNTS].values, spectrum.attrs
    noise = max(facts["background_std"], 1.0)
    high = max(float(np.nanpercentile(counts, 99.9)), noise)
    _show(axes, combined, facts["background_mean"] - 5 * noise, 0.0, noise, high)
    for first, last, colour, _ in _bands(spectrum):
        for edge in (first - 0.5, last + 0.5):
            axes.axhline(edge, color=colour, linewidth=1.2)


def _show(
    axes: Axes, combined: xr.Dataset, low: float, centre: float, noise: float, high: float
) -> None:
    """Draw an image, linear within twice its noise about a level."""
    from matplotlib.colors import AsinhNorm

    x, y = combined[X].values, combined[Y].values
    extent = (x[0] - 0.5, x[-1] + 0.5, y[0] - 0.5, y[-1] + 0.5)
    norm = AsinhNorm(2 * noise, vmin=low - centre, vmax=max(high - centre, low - centre + noise))
    axes.imshow(combined[COUNTS].values - centre, origin="lower", aspect="auto", extent=extent,
                cmap="gray", norm=norm)  # fmt: skip
    axes.set(xlabel="column", ylabel="row", title="combined image")


def _draw_profile(axes: Axes, combined: xr.Dataset, spectrum: xr.Dataset) -> None:
    """Draw the mean of each row beside the image, with the threshold."""
    means, threshold = row_means(combined[COUNTS].values), spectrum.attrs["threshold"]
    axes.plot(means, combined[Y].values, color=_GREY, linewidth=0.8)
    axes.axvline(
        threshold, color="black", linestyle=":", linewidth=1, label=f"threshold {threshold:.1f}"
    )
    axes.set_xscale("symlog", linthresh=2 * max(abs(threshold), 1.0))
    low, high = min(float(np.nanmin(means)), 0.0), float(np.nanmax(means))
    axes.set_xlim(low, high + 0.3 * max(abs(high), 1e-9))
    for first, last, colour, name in _bands(spectrum):
        label = f"{name} {first}:{last}"
        axes.axhspan(first - 0.5, last + 0.5, color=colour, alpha=0.35, label=label)
    axes.set(xlabel=f"mean of a row ({_units(spectrum)})", title="rows")
    axes.tick_params(labelleft=False)
    middle = (spectrum.attrs["first_row"] + spectrum.attrs["last_row"]) / 2
    is_low = middle < combined[Y].values.mean()
    axes.legend(fontsize="small", loc="upper right" if is_low else "lower right")


def _bands(spectrum: xr.Dataset) -> list[tuple[int, int, str, str]]:
    """Return first row, last row, colour and name of the spectrum and its sky."""
    facts = spectrum.attrs
    bands = [(facts["first_row"], facts["last_row"], _ORANGE, "spectrum")]
    if facts.get("sky_first_row", 1) <= facts.get("sky_last_row", 0):
        bands.append((facts["sky_first_row"], facts["sky_last_row"], _BLUE, "sky"))
    return bands


def _units(spectrum: xr.Dataset) -> str:
    return str(spectrum["counts_mean"].attrs.get("units", "adu"))


def _draw_spectrum(axes: Axes, spectrum: xr.Dataset) -> None:
    sky_subtracted = "counts_mean_sky_subtracted" in spectrum
    name = "counts_mean_sky_subtracted" if sky_subtracted else "counts_mean"
    x, y = spectrum[X].values, spectrum[name].values
    if "variance" in spectrum:
        sigma = np.sqrt(spectrum["variance"].values) / spectrum.attrs["n_rows"]
        band = axes.fill_between(x, y - 3 * sigma, y + 3 * sigma, color=_GREY, alpha=0.35, lw=0)
        band.set_label("3 sigma")
        axes.legend(fontsize="small", loc="upper right")
    axes.plot(x, y, color=_ORANGE, linewidth=0.8)
    axes.set(
        xlabel="column",
        ylabel=f"mean of a row ({_units(spectrum)})",
        title="spectrum less the sky" if sky_subtracted else "spectrum, sky included",
        xlim=(int(x[0]), int(x[-1])),
    )
    axes.grid(alpha=0.3)
