"""What changes from frame to frame: `frames` of a star, `drift` of levels, `pixel_history`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import UsageError
from arrayred.kernels.noise import finite_median
from arrayred.kernels.rows import robust_std
from arrayred.model import COUNTS, FRAME, VARIANCE, X, Y
from arrayred.plots.canvas import (
    BLACK,
    BLUE,
    GREY,
    SERIES,
    VERMILION,
    add_legend,
    name_axes,
    name_figure,
    sheet,
    styled,
)
from arrayred.plots.given import FLUX, cube_of, spectra_of, units_of
from arrayred.plots.times import name_time, times_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from arrayred.plots.given import Given

Values = NDArray[np.float64]
_FAR = 5.0
"""Standard deviations: what lies further off is marked."""
_FEW = 12
"""Spectra that have room above each other."""


def frames(spectra: Given, *, title: str = "") -> Figure:
    """Draw spectra of frames: the light of each in time, and their shapes above each other.

    Parameters
    ----------
    spectra : flux (frame, x) in adu or electron, as `reduce_night` gives with ``per_frame``;
        `variance` and the coordinates `time_mid` and `exptime` (frame) where they are known.
    title : written over the figure.

    Raises
    ------
    UsageError
        It is something else.

    Examples
    --------
    >>> import arrayred as ar, xarray as xr
    >>> one = ar.SimulatedNight().truth()
    >>> figure = ar.plots.frames(xr.concat([one, 1.1 * one], "frame"))
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['light / median', 'flux / median + step']
    """
    shown = spectra_of(spectra)
    flux = shown[FLUX].values
    has_curve = shown.sizes[FRAME] > 1
    with styled():
        figure = sheet(8, 5.5 if has_curve else 3.6)
        ratios = (1, 2) if has_curve else (1,)
        panels = figure.subplots(len(ratios), 1, height_ratios=ratios, squeeze=False)[:, 0]
        if has_curve:
            _draw_light(panels[0], shown, flux)
        _draw_shapes(panels[-1], shown, flux)
        name_figure(figure, title)
    return figure


def _draw_light(axes: Axes, shown: xr.Dataset, flux: Values) -> None:
    """Draw the light of each frame in time, as long as it was exposed, with its noise."""
    sums, when = np.nansum(flux, axis=1), times_of(shown, "time_mid")
    scale = abs(_middle(sums))
    noise = None
    if VARIANCE in shown:
        noise = np.sqrt(np.nansum(shown[VARIANCE].values, axis=1)) / scale
    length = None
    if "exptime" in shown.coords and np.issubdtype(when.dtype, np.datetime64):
        length = np.broadcast_to(shown["exptime"].values, when.shape) * np.timedelta64(500, "ms")
    axes.errorbar(
        when, sums / scale, yerr=noise, xerr=length, fmt="o", markersize=3.5, color=BLUE, lw=0.8
    )
    axes.grid(alpha=0.25, linewidth=0.5)
    name_time(axes, when if length is None else np.concatenate((when - length, when + length)))
    name_axes(axes, y="light / median")


def _middle(values: Values) -> float:
    """Return the median of what is finite, 1 where there is none to divide by."""
    middle = finite_median(values)
    return middle if np.isfinite(middle) and middle != 0 else 1.0


def _draw_shapes(axes: Axes, shown: xr.Dataset, flux: Values) -> None:
    """Draw each spectrum divided by its median, each a step above the one before."""
    shapes = [one / _middle(one) for one in flux]
    finite = [one[np.isfinite(one)] for one in shapes]
    spread = [float(np.subtract(*np.percentile(one, (98, 2)))) for one in finite if one.size]
    step = (1.1 if len(shapes) <= _FEW else 0.3) * float(np.median(spread or [1.0]))
    step = step if len(shapes) > 1 else 0.0
    names = [str(name) for name in shown[FRAME].values] if FRAME in shown.coords else []
    for i, one in enumerate(shapes):
        label = names[i] if names and len(shapes) <= len(SERIES) else None
        colour = SERIES[i % len(SERIES)]
        axes.plot(shown[X].values, one + i * step, color=colour, linewidth=0.7, label=label)
    name_axes(axes, x="column", y="flux / median + step" if step else "flux / median")
    axes.set_xlim(float(shown[X][0]), float(shown[X][-1]))
    add_legend(axes)


def drift(times: ArrayLike, quantities: Mapping[str, ArrayLike], *, title: str = "") -> Figure:
    """Draw quantities in time, each in a panel of its own.

    Parameters
    ----------
    times : (n), datetime64, or numbers such as those of frames.
    quantities : (n) each, by name, unit included, such as ``"CCD temperature (deg C)"``.
    title : written over the figure.

    Raises
    ------
    UsageError
        There is no quantity, or one is not as long as the times.

    Examples
    --------
    >>> import numpy as np
    >>> import arrayred as ar
    >>> times = np.datetime64("2020-11-03T01:00", "s") + np.arange(5) * 600
    >>> figure = ar.plots.drift(times, {"dark level (adu)": [1.0, 2.0, 1.5, 2.5, 2.0]})
    >>> figure.axes[0].get_ylabel()
    'dark level (adu)'
    """
    when = np.asarray(times)
    values = {name: np.asarray(quantity, np.float64) for name, quantity in quantities.items()}
    wrong = [name for name, value in values.items() if value.shape != when.shape]
    if not values or wrong or when.ndim != 1:
        found = ", ".join(f"{name!r} has {values[name].shape}" for name in wrong) or "there is none"
        raise UsageError(
            f"Quantities in time must be as many as the times, {when.shape}, but {found}",
            hint="Give one value for each time.",
        )
    with styled():
        figure = sheet(8, 0.9 + 1.6 * len(values))
        panels = figure.subplots(len(values), 1, sharex=True, squeeze=False)[:, 0]
        for i, (name, value) in enumerate(values.items()):
            panels[i].plot(when, value, "o-", markersize=3, linewidth=0.6, color=SERIES[i % 7])
            name_axes(panels[i], y=name)
            panels[i].grid(alpha=0.25, linewidth=0.5)
        name_time(panels[-1], when)
        name_figure(figure, title)
    return figure


def pixel_history(cube: Given, y: int, x: int, *, title: str = "") -> Figure:
    """Draw one pixel through the frames of a cube, with its robust scatter and what is far off.

    Parameters
    ----------
    cube : counts (frame, y, x), eager or lazy; of a lazy one only that pixel's rows are read.
    y, x : FITS numbers of its row and column.
    title : written over the figure; by default which pixel it is.

    Raises
    ------
    UsageError
        It is no cube, or the pixel lies off it.

    Examples
    --------
    >>> import arrayred as ar, numpy as np, xarray as xr
    >>> frames = [frame.pixels for frame in ar.SimulatedNight(n_lights=0).frames()]
    >>> cube = xr.Dataset({"counts": (("frame", "y", "x"), np.stack(frames))})
    >>> figure = ar.plots.pixel_history(cube, 10, 20)
    >>> figure.axes[0].get_ylabel()
    'counts (adu)'
    """
    pixels = cube_of(cube)
    for name, place in ((Y, y), (X, x)):
        if place not in pixels.indexes[name]:
            first, last = pixels.indexes[name][[0, -1]]
            raise UsageError(
                f"The pixel in row {y}, column {x} was asked for, but {name} runs over "
                f"{first}:{last}",
                keyword=name,
                value=place,
                hint="Give a pixel of the cube.",
            )
    values = pixels[COUNTS].sel({Y: y, X: x}).values.astype(np.float64)
    finite = values[np.isfinite(values)]
    middle, scatter = (
        (float(np.median(finite)), robust_std(finite)) if finite.size else (np.nan, np.nan)
    )
    with styled():
        figure = sheet(8, 3.4)
        axes = figure.add_subplot()
        when = times_of(pixels, "time")
        axes.plot(when, values, "o", markersize=3, color=BLUE)
        _draw_scatter(axes, middle, scatter)
        far = np.abs(values - middle) > _FAR * scatter
        if far.any():
            label = f"beyond {_FAR:g} sigma: {np.count_nonzero(far)}"
            axes.plot(when[far], values[far], "o", markersize=7, mfc="none", color=VERMILION,
                      label=label)  # fmt: skip
        name_time(axes, when)
        name_axes(axes, y=f"counts ({units_of(pixels, COUNTS)})")
        add_legend(axes)
        name_figure(figure, title or f"row {y}, column {x}")
    return figure


def _draw_scatter(axes: Axes, middle: float, scatter: float) -> None:
    """Draw the median, and the robust standard deviation about it."""
    if np.isfinite(middle):
        axes.axhline(middle, color=BLACK, linewidth=0.8, label=f"median {middle:.1f}")
        axes.axhspan(
            middle - scatter, middle + scatter, color=GREY, alpha=0.25, lw=0,
            label=f"robust scatter {scatter:.1f}",
        )  # fmt: skip
