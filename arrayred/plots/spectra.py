"""Spectra as curves: `spectrum` with its noise, `compare` several, `noise` as signal to noise.

A spectrum that knows its wavelengths is drawn over them, and the columns stand above.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from arrayred.errors import UsageError
from arrayred.kernels.noise import finite_median
from arrayred.model import DQ, VARIANCE, X
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
from arrayred.plots.given import FLUX, spectrum_of, units_of
from arrayred.plots.marks import Values, mark_flags

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from arrayred.plots.given import Given

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
