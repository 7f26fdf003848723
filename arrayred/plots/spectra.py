"""Draw spectra, spatial profiles, traces and the quick look of a target.

A spectrum that knows its wavelengths is drawn over them, and the columns stand above.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import UsageError
from arrayred.kernels.noise import finite_median
from arrayred.kernels.rows import robust_std, row_means
from arrayred.model import COUNTS, DQ, FRAME, VARIANCE, Rows, X, Y, turn
from arrayred.plots.images import draw_apertures, draw_pixels
from arrayred.plots.style import (
    BLACK,
    BLUE,
    FLUX,
    GREY,
    SERIES,
    VERMILION,
    Stretch,
    Values,
    add_legend,
    aperture,
    bands,
    image_of,
    mark_flags,
    name_axes,
    name_figure,
    sheet,
    spectrum_of,
    styled,
    units_of,
)
from arrayred.steps.trace import measure_centres

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from arrayred.plots.style import Given

SIGMAS = 3.0
"""How many standard deviations the band of a spectrum's noise reaches."""


def spectrum(spectrum: Given, *, title: str = "") -> Figure:
    """Draw a spectrum with its noise and flagged columns, and the sky below it.

    Parameters
    ----------
    spectrum : flux (x) in adu or electron; `variance`, `dq`, `sky` and `wavelength` where it has
        them.
    title : written over the figure.

    Raises
    ------
    UsageError
        It is no spectrum.

    Examples
    --------
    >>> import arrayred as ar
    >>> figure = ar.plots.spectrum(ar.SimulatedNight().truth(), title="what is true")
    >>> figure.axes[0].get_ylabel()
    'flux (adu)'
    """
    shown = spectrum_of(spectrum)
    has_sky = "sky" in shown and bool(np.isfinite(shown["sky"].values).any())
    with styled():
        figure = sheet(8, 4.2 if has_sky else 3.4)
        ratios = (3.2, 1) if has_sky else (1,)
        axes = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios, squeeze=False)
        draw_flux(axes[0, 0], shown)
        name_axes(axes[0, 0], y=f"flux ({units_of(shown, FLUX)})")
        add_legend(axes[0, 0], place=_free_place(shown))
        if has_sky:
            axes[1, 0].plot(_along(shown), shown["sky"].values, color=BLUE)
            name_axes(axes[1, 0], y=f"sky ({units_of(shown, 'sky')})")
        _name_dispersion(axes[-1, 0], axes[0, 0], shown)
        name_figure(figure, title)
    return figure


def draw_flux(axes: Axes, shown: xr.Dataset) -> None:
    """Draw the flux with its noise about it, and mark flagged columns."""
    x, flux = _along(shown), shown[FLUX].values
    if VARIANCE in shown:
        reach = SIGMAS * np.sqrt(shown[VARIANCE].values)
        axes.fill_between(
            x, flux - reach, flux + reach, color=GREY, alpha=0.35, lw=0, label=f"{SIGMAS:g} sigma"
        )
    axes.plot(x, flux, color=VERMILION, linewidth=0.8)
    if DQ in shown:
        mark_flags(axes, x, shown[DQ].values)
    axes.grid(alpha=0.25, linewidth=0.5)


def compare(
    spectra: Mapping[str, Given],
    *,
    title: str = "",
    stacked: bool = False,
    normalised: bool = False,
) -> Figure:
    """Draw several spectra over each other, or each a step above the one before.

    Parameters
    ----------
    spectra : flux (x) by name, in the order in which they are drawn.
    title : written over the figure.
    stacked : draw each above the one before, apart by the range most of its flux lies in.
    normalised : divide each by the median of its flux.

    Raises
    ------
    UsageError
        There is none, one is no spectrum, or they differ in unit and are not normalised.

    Examples
    --------
    >>> import arrayred as ar
    >>> night = ar.SimulatedNight()
    >>> figure = ar.plots.compare({"one": night.truth(), "other": 2 * night.truth()})
    >>> len(figure.axes[0].lines)
    2
    """
    shown = {name: spectrum_of(one) for name, one in spectra.items()}
    units = {units_of(one, FLUX) for one in shown.values()}
    if not shown or (len(units) > 1 and not normalised):
        found = f"in {' and in '.join(sorted(units))}" if units else "none"
        raise UsageError(
            f"Spectra to compare must share a unit, but these are {found}",
            hint="Give spectra of one unit, or normalised=True.",
        )
    has_scale = all("wavelength" in one for one in shown.values())
    with styled():
        figure = sheet(8, 3.8 if not stacked else min(2.4 + 0.7 * len(shown), 14))
        axes = figure.add_subplot()
        offset = 0.0
        for i, (name, one) in enumerate(shown.items()):
            flux = one[FLUX].values
            flux = flux / _scale_of(flux) if normalised else flux
            x = _along(one) if has_scale else one[X].values
            axes.plot(x, flux + offset, color=SERIES[i % len(SERIES)], label=name, linewidth=0.8)
            offset += _step(flux) if stacked else 0.0
        what = "flux / median" if normalised else f"flux ({units.pop()})"
        name_axes(axes, y=f"{what} + step" if stacked else what)
        _name_dispersion(axes, None, next(iter(shown.values())), has_scale=has_scale)
        axes.grid(alpha=0.25, linewidth=0.5)
        add_legend(axes)
        name_figure(figure, title)
    return figure


def _scale_of(flux: Values) -> float:
    """Return the median of a flux, 1 where there is none to divide by."""
    middle = finite_median(flux)
    return middle if np.isfinite(middle) and middle != 0 else 1.0


def _step(flux: Values) -> float:
    """Return by how much the next spectrum is drawn higher."""
    finite = flux[np.isfinite(flux)]
    return float(np.subtract(*np.percentile(finite, (98, 2)))) * 1.1 if finite.size else 0.0


def noise(spectrum: Given, *, title: str = "") -> Figure:
    """Draw the signal to noise of each column of a spectrum, and its median.

    Parameters
    ----------
    spectrum : flux and variance (x).
    title : written over the figure.

    Raises
    ------
    UsageError
        It is no spectrum, or its noise is unknown.

    Examples
    --------
    >>> import arrayred as ar, numpy as np
    >>> truth = ar.SimulatedNight().truth()
    >>> figure = ar.plots.noise(truth.assign(variance=truth.flux))
    >>> figure.axes[0].get_ylabel()
    'signal to noise of a column'
    """
    shown = spectrum_of(spectrum)
    if VARIANCE not in shown:
        raise UsageError(
            "The signal to noise was asked for, but this spectrum has no variance",
            hint="Extract it from an image whose noise is known, see estimate_noise.",
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = shown[FLUX].values / np.sqrt(shown[VARIANCE].values)
    snr = np.where(np.isfinite(snr), snr, np.nan)
    with styled():
        figure = sheet(8, 3.2)
        axes = figure.add_subplot()
        axes.plot(_along(shown), snr, color=BLUE, linewidth=0.8)
        middle = float(shown.attrs.get("snr", finite_median(snr)))
        if np.isfinite(middle):
            label = (
                f"median of the central half {middle:.0f}"
                if "snr" in shown.attrs
                else (f"median {middle:.0f}")
            )
            axes.axhline(middle, color=BLACK, linestyle=":", label=label)
        name_axes(axes, y="signal to noise of a column")
        _name_dispersion(axes, axes, shown)
        axes.grid(alpha=0.25, linewidth=0.5)
        add_legend(axes, place=_free_place(shown))
        name_figure(figure, title)
    return figure


def _free_place(shown: xr.Dataset) -> Literal["best", "above"]:
    """Return where a legend has room: above the axes, unless columns stand there."""
    return "best" if "wavelength" in shown else "above"


def _along(shown: xr.Dataset) -> Any:
    """Return the wavelength of each column where it is known, else the column's number."""
    return shown["wavelength"].values if "wavelength" in shown else shown[X].values


def _name_dispersion(
    lowest: Axes, top: Axes | None, shown: xr.Dataset, *, has_scale: bool = True
) -> None:
    """Say what runs along the axes: columns; or wavelengths, with the columns above."""
    from matplotlib.ticker import MaxNLocator

    x = shown[X].values
    if "wavelength" not in shown or not has_scale:
        name_axes(lowest, x="column")
        lowest.set_xlim(float(x[0]), float(x[-1]))
        return
    scale = shown["wavelength"].values
    unit = shown["wavelength"].attrs.get("units", "Angstrom")
    name_axes(lowest, x=f"wavelength ({unit})")
    known = np.isfinite(scale)
    if known.any():
        lowest.set_xlim(float(scale[known].min()), float(scale[known].max()))
    if top is not None and known.sum() > 1:
        rising = np.argsort(scale[known])
        pair = (scale[known][rising], x[known][rising].astype(np.float64))
        columns = np.sort(pair[1]), pair[0][np.argsort(pair[1])]
        above = top.secondary_xaxis(
            "top", functions=(partial(np.interp, xp=pair[0], fp=pair[1]),
                              partial(np.interp, xp=columns[0], fp=columns[1])),
        )  # fmt: skip
        ticks = MaxNLocator(8, integer=True).tick_values(float(pair[1].min()), float(pair[1].max()))
        above.set_xticks([tick for tick in ticks if pair[1].min() <= tick <= pair[1].max()])
        above.set_xlabel("column")
        top.tick_params(top=False)


# The rows of an image as curves: `profile` with what was found, `rows` with their statistics.

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


# Where the light of a star lies, and how well its trace follows it: `trace`.


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


# The picture of a target on one sheet: `quick_look`, and `search_look` where nothing was found.


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
