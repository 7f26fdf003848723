"""A target drawn: its image with aperture and sky, the means of its rows, its spectrum.

What is marked is what the figures mark (`plots.marks`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from arrayred.kernels.rows import row_means
from arrayred.model import COUNTS, DQ, DQ_MEANINGS, VARIANCE, X, Y
from arrayred.plots.style import aperture, bands, sky_bands
from arrayred.report import charts
from arrayred.report.axes import Axis, around, bent, linear
from arrayred.report.html import Markup, joined, tag
from arrayred.report.pixels import framed
from arrayred.report.texts import counted, is_number, number

if TYPE_CHECKING:
    import xarray as xr

_NOISES = 3
"""Standard deviations of the band about a spectrum."""
_KIND_OF = {"spectrum": "aperture", "sky": "sky"}
"""Which class of the style sheet draws what a band is called by its first word."""


def _axes_of(image: xr.Dataset) -> tuple[Axis, Axis]:
    """Return the axes of an image: its columns and rows, at the outer edges of its pixels."""
    x, y = image[X].values, image[Y].values
    return (
        linear("column", float(x[0]) - 0.5, float(x[-1]) + 0.5),
        linear("row", float(y[0]) - 0.5, float(y[-1]) + 0.5, n_ticks=5),
    )


def pictures(image: xr.Dataset, spectrum: xr.Dataset, name: str) -> Markup:
    """Return image, rows and spectrum of a target.

    Parameters
    ----------
    image : the combined image, counts (y, x), upright.
    spectrum : flux (x).
    name : what they are called.
    """
    return joined(
        tag(
            "div.pair",
            _figure(_image(image, spectrum, name), "Combined image", _keys(spectrum)),
            _figure(_profile(image, spectrum), "Mean of each row", _rows_keys(spectrum)),
        ),
        _figure(_spectrum(spectrum, name), _title(spectrum, name), _flag_keys(spectrum)),
    )


def _figure(drawn: Markup, title: str, keys: list[tuple[str, str]]) -> Markup:
    """Return a chart under its title and the meaning of its colours."""
    shown = [tag("span.key", tag(f"i.{kind}"), text) for kind, text in keys]
    return tag("figure", tag("figcaption", tag("b", title), shown), drawn)


def _image(image: xr.Dataset, spectrum: xr.Dataset, name: str) -> Markup:
    x, y = _axes_of(image)
    marks = [charts.rows("sky", y, a - 0.5, b + 0.5) for a, b in sky_bands(spectrum)]
    columns = spectrum[X].values.astype(np.float64)
    marks += [charts.line("aperture", x, y, columns, edge) for edge in aperture(spectrum)]
    first, last = spectrum.attrs.get("first_row"), spectrum.attrs.get("last_row")
    told = f"Combined image of {name}: the spectrum lies in rows {first} to {last}"
    return charts.chart("image", x, y, marks, told, png=framed(image[COUNTS].values))


def _keys(spectrum: xr.Dataset) -> list[tuple[str, str]]:
    return [("aperture", "aperture")] + [("sky", "sky")] * bool(sky_bands(spectrum))


def _profile(image: xr.Dataset, spectrum: xr.Dataset) -> Markup:
    """Return the mean of each row beside the image, with what was found and the threshold."""
    threshold = float(spectrum.attrs.get("threshold", np.nan))
    marks = [(_KIND_OF.get(b.label.split()[0], "other"), b) for b in bands(spectrum)]
    return _rows_chart(
        image,
        threshold,
        [(kind, found.first - 0.5, found.last + 0.5) for kind, found in marks],
        "Mean of each row; " + ", ".join(found.label for _, found in marks),
    )


def _rows_chart(
    image: xr.Dataset, threshold: float, spans: list[tuple[str, float, float]], told: str
) -> Markup:
    means = row_means(image[COUNTS].values)
    y = dataclasses.replace(_axes_of(image)[1], label="")
    finite = means[np.isfinite(means)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    known = is_number(threshold)
    top = max(high, threshold) if known else high
    room = 0.15 * max(abs(top), 1e-9)
    width = 2 * threshold if known and threshold > 0 else 0.0
    unit = image[COUNTS].attrs.get("units", "adu")
    name = f"mean ({unit})"
    x = bent(name, min(low, 0.0) - room / 4, top + room, width) if width else around(name, means)
    marks = [charts.rows(kind, y, first, last) for kind, first, last in spans]
    marks += [charts.upright("threshold", x, threshold)] if known else []
    marks.append(charts.profile("means", x, y, image[Y].values.astype(np.float64), means))
    return charts.chart("rows", x, y, marks, told)


def _rows_keys(spectrum: xr.Dataset) -> list[tuple[str, str]]:
    keys = []
    if is_number(spectrum.attrs.get("threshold")):
        keys.append(("threshold", f"threshold {spectrum.attrs['threshold']:.1f}"))
    others = [found for found in bands(spectrum) if found.label.split()[0] not in _KIND_OF]
    return keys + [("other", found.label) for found in others[:3]]


def _spectrum(spectrum: xr.Dataset, name: str) -> Markup:
    """Return the flux with its noise and its flags."""
    columns = spectrum[X].values.astype(np.float64)
    flux = spectrum["flux"].values.astype(np.float64)
    x = linear("column", float(columns[0]), float(columns[-1]), n_ticks=8)
    unit = spectrum["flux"].attrs.get("units", "adu")
    y = around(f"flux ({unit})", flux)
    marks = []
    if y.low < 0 < y.high:
        marks.append(charts.across("zero", y, 0.0))
    if VARIANCE in spectrum:
        reach = _NOISES * np.sqrt(spectrum[VARIANCE].values.astype(np.float64))
        marks.append(charts.band("noise", x, y, columns, flux - reach, flux + reach))
    marks.append(charts.line("flux", x, y, columns, flux))
    for i, (kind, where) in enumerate(_flags(spectrum)):
        marks.append(charts.ticks(kind, x, columns[where], 0.02 + 0.04 * i))
    told = f"Spectrum of {name}: {flux.size} columns, {_quality(spectrum)}"
    return charts.chart("spectrum", x, y, marks, told)


def _quality(spectrum: xr.Dataset) -> str:
    return f"median signal to noise {number(spectrum.attrs.get('snr'))}"


def _title(spectrum: xr.Dataset, name: str) -> str:
    sky = "less the sky" if "sky" in spectrum else "sky included"
    return f"Spectrum of {name}, {sky}"


def _flags(spectrum: xr.Dataset) -> Iterator[tuple[str, Any]]:
    """Yield each flag that is set in some column, as a class of the style sheet, with where."""
    if DQ in spectrum:
        flags = spectrum[DQ].values
        for bit, name in DQ_MEANINGS.items():
            if (flags & bit).any():
                yield f"flag-{name.replace('_', '-')}", (flags & bit) != 0


def _flag_keys(spectrum: xr.Dataset) -> list[tuple[str, str]]:
    keys = [("noise", f"± {_NOISES} sigma")] if VARIANCE in spectrum else []
    for kind, where in _flags(spectrum):
        name = kind.removeprefix("flag-").replace("-", " ")
        keys.append((kind, f"{name}: {counted(int(np.count_nonzero(where)), 'column')}"))
    return keys


def searched(image: xr.Dataset, threshold: float | None) -> Markup:
    """Return what was searched where nothing was found.

    Parameters
    ----------
    image : the combined image, counts (y, x), upright.
    threshold : what no row's mean exceeded, where it is known.
    """
    x, y = _axes_of(image)
    told = "Combined image in which no spectrum was found"
    drawn = charts.chart("image", x, y, [], told, png=framed(image[COUNTS].values))
    level = float("nan") if threshold is None else threshold
    rows = _rows_chart(image, level, [], "Mean of each row; none exceeds the threshold")
    keys = [("threshold", f"threshold {threshold:.1f}")] if threshold is not None else []
    return tag(
        "div.pair",
        _figure(drawn, "Combined image, no spectrum found", []),
        _figure(rows, "Mean of each row", keys),
    )
