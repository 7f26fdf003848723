"""Figures of a target, drawn without pyplot's global state: `quick_look`, `search_look`.

The second is of a target in which no spectrum was found.
The bytes of a PNG depend on the numbers alone.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.rows import robust_std, row_means
from arrayred.model import BAD_PIXEL, COSMIC_RAY, COUNTS, DQ_MEANINGS, NO_DATA, SATURATED, X, Y

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY = "#56B4E9", "#D55E00", "#666666"
_FLAG_COLOURS = {
    BAD_PIXEL: "#000000",
    SATURATED: "#CC79A7",
    COSMIC_RAY: "#0072B2",
    NO_DATA: "#009E73",
}
"""From the palette of Okabe and Ito, which the colour-blind tell apart."""


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
    for edge in _aperture(spectrum):
        axes.plot(spectrum[X].values, edge, color=_ORANGE, linewidth=1.2)
    for first, last in _sky_bands(spectrum):
        for row in (first - 0.5, last + 0.5):
            axes.axhline(row, color=_BLUE, linewidth=1.2)


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
    axes.set(xlim=extent[:2], ylim=extent[2:], xlabel="column", ylabel="row")
    axes.set_title("combined image")


def _draw_profile(axes: Axes, combined: xr.Dataset, spectrum: xr.Dataset) -> None:
    """Draw the mean of each row beside the image, with the threshold."""
    means, threshold = row_means(combined[COUNTS].values), spectrum.attrs["threshold"]
    axes.plot(means, combined[Y].values, color=_GREY, linewidth=0.8)
    axes.axvline(
        threshold, color="black", linestyle=":", linewidth=1, label=f"threshold {threshold:.1f}"
    )
    low, high = min(float(np.nanmin(means)), 0.0), float(np.nanmax(means))
    if high > threshold > 0:
        axes.set_xscale("symlog", linthresh=2 * threshold)
    high = max(high, threshold)
    axes.set_xlim(low, high + 0.3 * max(abs(high), 1e-9))
    for first, last, colour, label in _bands(spectrum):
        axes.axhspan(first - 0.5, last + 0.5, color=colour, alpha=0.35, lw=0, label=label)
    axes.set(xlabel=f"mean of a row ({_units(spectrum)})", title="rows")
    axes.tick_params(labelleft=False)
    middle = (spectrum.attrs["first_row"] + spectrum.attrs["last_row"]) / 2
    is_low = middle < combined[Y].values.mean()
    axes.legend(fontsize="small", loc="upper right" if is_low else "lower right")


def _aperture(spectrum: xr.Dataset) -> list[NDArray[np.float64]]:
    """Return the lower and the upper edge (x) of what was summed, rows."""
    facts = spectrum.attrs
    if "trace" in spectrum.data_vars and "half_height" in facts:
        center, half = spectrum["trace"].values, facts["half_height"]
        return [center - half, center + half]
    level = np.ones(spectrum.sizes[X])
    return [level * (facts["first_row"] - 0.5), level * (facts["last_row"] + 0.5)]


def _sky_bands(spectrum: xr.Dataset) -> list[tuple[int, int]]:
    """Return first and last row of each band of sky: the spectrum's, else the procedure's."""
    facts = spectrum.attrs
    found = [facts[name] for name in ("sky_below", "sky_above") if name in facts]
    if not found and facts.get("sky_first_row", 1) <= facts.get("sky_last_row", 0):
        found = [(facts["sky_first_row"], facts["sky_last_row"])]
    return [(int(first), int(last)) for first, last in found]


def _bands(spectrum: xr.Dataset) -> list[tuple[float, float, str, str]]:
    """Return first row, last row, colour and label of the spectrum, its sky, other spectra."""
    facts = spectrum.attrs
    first, last = facts["first_row"], facts["last_row"]
    bands: list[tuple[float, float, str, str]] = [
        (first, last, _ORANGE, f"spectrum {first}:{last}"),
        *((low, high, _BLUE, f"sky {low}:{high}") for low, high in _sky_bands(spectrum)),
    ]
    others = [(run[0], run[1]) for run in facts.get("other_rows", ())]
    return bands + [(low, high, _GREY, f"not taken {low}:{high}") for low, high in others]


def _units(spectrum: xr.Dataset) -> str:
    return str(spectrum["flux"].attrs.get("units", "adu"))


def _draw_spectrum(axes: Axes, spectrum: xr.Dataset) -> None:
    """Draw the flux with three standard deviations about it, and mark flagged columns."""
    x, flux = spectrum[X].values, spectrum["flux"].values
    if "variance" in spectrum:
        reach = 3 * np.sqrt(spectrum["variance"].values)
        axes.fill_between(
            x, flux - reach, flux + reach, color=_GREY, alpha=0.35, lw=0, label="3 sigma"
        )
    axes.plot(x, flux, color=_ORANGE, linewidth=0.8)
    if "dq" in spectrum:
        _mark_flags(axes, x, spectrum["dq"].values)
    sky = "spectrum less the sky" if "sky" in spectrum else "spectrum, sky included"
    way = spectrum.attrs.get("extraction")
    axes.set(
        xlabel="column",
        ylabel=f"flux ({_units(spectrum)})",
        title=sky if way is None else f"{sky} ({way})",
        xlim=(int(x[0]), int(x[-1])),
    )
    if axes.get_legend_handles_labels()[1]:
        legend = axes.legend(fontsize="small", ncols=5, frameon=False, loc="lower right")
        legend.set_bbox_to_anchor((1.0, 1.0), axes.transAxes)
    axes.grid(alpha=0.3)


def _mark_flags(axes: Axes, x: NDArray[np.int64], flags: NDArray[np.uint8]) -> None:
    """Mark the columns of each flag by strokes along the lower edge, one line for each flag."""
    shown = [(bit, name) for bit, name in DQ_MEANINGS.items() if (flags & bit).any()]
    for i, (bit, name) in enumerate(shown):
        where = x[(flags & bit) != 0]
        axes.plot(
            where,
            np.full(where.size, 0.02 + 0.035 * i),
            transform=axes.get_xaxis_transform(),
            linestyle="none",
            marker="|",
            markersize=6,
            color=_FLAG_COLOURS[bit],
            label=f"{name.replace('_', ' ')}: {where.size} columns",
        )
