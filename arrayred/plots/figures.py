"""Describe the figures: of images, spatial profiles, traces and spectra, and of quantities in time.

Each function returns the description of a figure (`panels.Sheet`). `arrayred.plots` draws it with
matplotlib under the same name; the report and the explorer draw the same descriptions, so that a
limit, a stretch, a shaded row or a label is decided here and nowhere else. A spectrum with
wavelengths is drawn over them, with the columns on a second scale above.

What a figure is given is checked first (`image_of`, `cube_of`, `spectrum_of`, `spectra_of`): a node
of a reduced night's tree or a labelled DataArray is accepted as well as a Dataset, the error says
what it is instead, and labels that are missing are counted from 1, as in FITS.

In time, a group of frames has a lane, and an exposure a bar; below them are the quantities that
drift: the temperature of the detector, from the headers, and the level, the median of a few rows
(0.3 ms a frame). Where nothing was exposed for 5 hours the time axis is cut, so that a month of
nights shows its exposures.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import UsageError, counted
from arrayred.io.pixel_checks import frames_to_probe, sample_frame
from arrayred.kernels.noise import finite_median
from arrayred.kernels.rows import robust_std, row_means
from arrayred.model import (
    COUNTS,
    DQ,
    DQ_MEANINGS,
    FLUX,
    FRAME,
    LAMP,
    VARIANCE,
    Rows,
    X,
    Y,
    transpose_to_x,
)
from arrayred.plots.panels import (
    COLOURS,
    SERIES,
    USUAL,
    Along,
    Area,
    Axis,
    Bars,
    Curve,
    Extent,
    Flags,
    Level,
    Mark,
    Panel,
    Pixels,
    Place,
    Points,
    Sheet,
    Span,
    Stretch,
    Strokes,
    Values,
    around,
    ends_of,
    flag_role,
    reduced,
    stretch_of,
    time_axis,
)
from arrayred.steps.trace import measure_centres

if TYPE_CHECKING:
    from datetime import datetime

    import xarray as xr
    from numpy.typing import ArrayLike

    from arrayred.io.frames import Frame

    Given = xr.Dataset | xr.DataArray | xr.DataTree

    class _Group(Protocol):
        """A group as drawn: its frames."""

        @property
        def frames(self) -> tuple[Frame, ...]: ...

    class _Night(Protocol):
        """A night as drawn: its folder, and its groups by name."""

        @property
        def folder(self) -> Path: ...

        @property
        def groups(self) -> Mapping[str, _Group]: ...

    class _Timed(Protocol):
        """A frame as drawn in time: its type, its temperature, deg C, and its start (ISO)."""

        @property
        def label(self) -> str: ...

        @property
        def kind(self) -> str: ...

        @property
        def exptime(self) -> float | None: ...

        @property
        def time(self) -> str: ...

        @property
        def temperature(self) -> float | None: ...


SIGMAS = 3.0
"""Half width of the noise band of a spectrum, standard deviations."""


def aperture(spectrum: xr.Dataset) -> list[Values]:
    """Return the lower and the upper edge of the aperture (x), FITS rows; empty if unknown."""
    facts = spectrum.attrs
    if "trace" in spectrum.data_vars and "half_height" in facts:
        center, half = spectrum["trace"].values, facts["half_height"]
        if "half_height" in spectrum.data_vars:
            half = spectrum["half_height"].values
        return [center - half, center + half]
    if "first_row" not in facts:
        return []
    level = np.ones(spectrum.sizes[X])
    return [level * (facts["first_row"] - 0.5), level * (facts["last_row"] + 0.5)]


def sky_bands(spectrum: xr.Dataset) -> list[tuple[int, int]]:
    """Return first and last row of each sky region, else of the published procedure's region."""
    facts = spectrum.attrs
    found = [facts[name] for name in ("sky_below", "sky_above") if name in facts]
    if not found and facts.get("sky_first_row", 1) <= facts.get("sky_last_row", 0):
        found = [(facts["sky_first_row"], facts["sky_last_row"])]
    return [(int(first), int(last)) for first, last in found]


def row_marks(spectrum: xr.Dataset | Rows, along: Along) -> tuple[Span, ...]:
    """Return the rows of the spectrum, its sky, and other bright rows, as bands across a panel."""
    if isinstance(spectrum, Rows):
        first, last, sky = spectrum.first, spectrum.last, []
        others = [(run.first, run.last, run.snr, str(run.state)) for run in spectrum.others]
    elif "first_row" not in spectrum.attrs:
        return ()
    else:
        facts = spectrum.attrs
        first, last, sky = facts["first_row"], facts["last_row"], sky_bands(spectrum)
        others = [(run[0], run[1], None, "left") for run in facts.get("other_rows", ())]
    return (
        span_of((first, last), along, "aperture", f"spectrum {first}:{last}"),
        *(span_of(rows, along, "sky", f"sky {rows[0]}:{rows[1]}") for rows in sky),
        *(span_of(run[:2], along, "other", _other_label(*run)) for run in others),
    )


def _other_label(first: int, last: int, snr: float | None, state: str) -> str:
    what = {"taken": "separate spectrum", "sharp": "too narrow for a star"}.get(
        state, "not extracted"
    )
    where = f"{first}:{last}" if last > first else str(first)
    return f"{what} {where}" + ("" if snr is None else f", S/N {snr:.0f}")


def span_of(rows: tuple[int, int], along: Along, role: str, label: str = "") -> Span:
    """Return a band of rows (first, last), from edge to edge of their pixels."""
    return Span(rows[0] - 0.5, rows[1] + 0.5, along, role, label)


def _threshold_of(found: xr.Dataset | Rows | None) -> float | None:
    """Return the detection threshold of the row means; None where it is unknown."""
    if found is None:
        return None
    level = found.threshold if isinstance(found, Rows) else found.attrs.get("threshold")
    return level if isinstance(level, int | float) and math.isfinite(level) else None


def image(
    image: Given,
    spectrum: Given | None = None,
    *,
    title: str = "",
    stretch: tuple[float, float] = USUAL,
    flags: bool = True,
) -> Sheet:
    """Draw an image with the aperture and the sky regions of its spectrum, and flagged pixels.

    Parameters
    ----------
    image : counts (y, x) in adu or electron; `dq` where it has flags. With a spectrum along the
        columns it is transposed: its rows then are the file's columns.
    spectrum : the spectrum extracted from it, or None.
    title : written over the figure.
    stretch : the percentiles of the counts that are black and white.
    flags : whether flagged pixels are coloured.

    Raises
    ------
    UsageError
        It is not an image but, for example, a cube; or the stretch is invalid.

    Examples
    --------
    >>> import arrayred as ar
    >>> night = ar.SimulatedNight()
    >>> frames = [frame.pixels for frame in night.frames()]
    >>> import xarray as xr
    >>> figure = ar.plots.image(xr.DataArray(frames[-1], dims=("y", "x")), title="a light")
    >>> figure.axes[0].get_xlabel()
    'column'
    """
    cut = None if spectrum is None else spectrum_of(spectrum)
    shown = image_of(image) if cut is None else transpose_to_x(image_of(image))
    panel = _image_panel(shown, stretch_of(shown[COUNTS].values, stretch), cut)
    pixels, *marks = panel.marks
    assert isinstance(pixels, Pixels)
    scaled = replace(pixels, unit=units_of(shown, COUNTS))
    veil = _flag_marks(shown, pixels.extent) if flags and DQ in shown else []
    panel = replace(panel, marks=(scaled, *marks, *veil), legend="above")
    return Sheet(((panel,),), (9, 0.9 + 7.2 * _shape(shown, 0.25, 0.6)), title)


def _image_panel(
    shown: xr.Dataset, stretch: Stretch, spectrum: xr.Dataset | None, title: str = ""
) -> Panel:
    """Return an image with FITS pixel numbers, the aperture along its trace, and the sky."""
    extent = extent_of(shown)
    marks: list[Mark] = [Pixels(shown[COUNTS].values, extent, stretch)]
    if spectrum is not None:
        columns = spectrum[X].values
        for i, edge in enumerate(aperture(spectrum)):
            marks.append(Curve(columns, edge, "aperture", "" if i else "aperture"))
        for i, (first, last) in enumerate(sky_bands(spectrum)):
            marks.append(Level(first - 0.5, "y", "sky", "" if i else "sky"))
            marks.append(Level(last + 0.5, "y", "sky"))
    x, y = image_axes(extent)
    return Panel(x, y, tuple(marks), title, name="image", legend="")


def image_axes(extent: Extent) -> tuple[Axis, Axis]:
    """Return the axes of an image: columns and rows, FITS numbers."""
    return Axis("column", *extent[:2]), Axis("row", *extent[2:], n_ticks=5)


def cuts(
    pixels: NDArray[Any], extent: Extent, row: int, column: int, unit: str
) -> tuple[Panel, Panel]:
    """Describe the cuts through a pixel: its row below an image, its column beside it.

    Parameters
    ----------
    pixels : (y, x), any real dtype.
    extent : the edges of its outer pixels, FITS numbers.
    row, column : of the pixel, FITS numbers.
    unit : of the pixels.
    """
    x, y = image_axes(extent)
    across, along = (np.arange(low + 0.5, high) for low, high in (extent[:2], extent[2:]))
    of_row = pixels[row - round(extent[2] + 0.5)].astype(np.float64)
    of_column = pixels[:, column - round(extent[0] + 0.5)].astype(np.float64)
    below = Panel(x, Axis(unit, *around(of_row), n_ticks=3), (Curve(across, of_row, "cut"),))
    beside = Panel(
        Axis(unit, *around(of_column), n_ticks=2),
        y,
        (Curve(of_column, along, "cut"),),
        name="rows",
        unnumbered="y",
    )
    return below, beside


def extent_of(shown: xr.Dataset) -> Extent:
    """Return the edges of the outer pixels, FITS numbers: left, right, bottom, top."""
    x, y = shown[X].values, shown[Y].values
    return float(x[0]) - 0.5, float(x[-1]) + 0.5, float(y[0]) - 0.5, float(y[-1]) + 0.5


def _flag_marks(shown: xr.Dataset, extent: Extent) -> list[Mark]:
    """Return the flagged pixels, each flag labelled with its number of pixels."""
    flags = shown[DQ].values
    masks = tuple(
        (flag_role(bit), hit, f"{name.replace('_', ' ')}: {counted(int(hit.sum()), 'pixel')}")
        for bit, name in DQ_MEANINGS.items()
        if (hit := (flags & bit) != 0).any()
    )
    return [Flags(masks, extent)] if masks else []


def frame(image2d: Given, *, title: str = "", stretch: tuple[float, float] = USUAL) -> Sheet:
    """Draw one raw frame.

    Parameters
    ----------
    image2d : counts (y, x) in adu; a cube of a single frame is accepted.
    title : written over the figure; by default the frame's name and type, where it has them.
    stretch : the percentiles of the counts that are black and white.

    Raises
    ------
    UsageError
        It is not an image.
    """
    shown = image_of(image2d)
    return image(shown, title=title or _name_of(shown), stretch=stretch)


def _name_of(shown: xr.Dataset) -> str:
    """Return name, type and exposure time of a frame from its scalar coordinates, or ""."""
    parts = [str(shown[name].item()) for name in (FRAME, "frame_type") if name in shown.coords]
    if "exptime" in shown.coords:
        parts.append(f"{shown['exptime'].item():g} s")
    return ", ".join(parts)


def cube(
    cube: Given, *, n: int = 12, title: str = "", stretch: tuple[float, float] = USUAL
) -> Sheet:
    """Draw a contact sheet of the frames of a cube, all with the same stretch.

    Parameters
    ----------
    cube : counts (frame, y, x), eager or lazy; one frame is read at a time.
    n : number of frames, evenly spread, including the first and the last.
    title : written over the figure.
    stretch : the percentiles of the counts of all frames shown that are black and white.

    Raises
    ------
    UsageError
        It is not a cube, or `n` is less than 1.
    """
    frames = cube_of(cube)
    if n < 1:
        raise UsageError(f"{n} frames requested", keyword="n", value=n, hint="Use 1 or more.")
    total = frames.sizes[FRAME]
    chosen = np.unique(np.linspace(0, total - 1, min(n, total)).round().astype(int))
    columns = math.ceil(math.sqrt(chosen.size))
    shown = [frames.isel({FRAME: int(i)}) for i in chosen]
    small = [reduced(one[COUNTS].values, 300, 400) for one in shown]
    grey = stretch_of(np.concatenate([one.reshape(-1) for one in small]), stretch)
    panels = []
    for one, pixels in zip(shown, small, strict=True):
        extent, name = extent_of(one), _shortened(_name_of(one), 160 // columns)
        x, y = Axis("", *extent[:2], ticks=()), Axis("", *extent[2:], ticks=())
        panels.append(Panel(x, y, (Pixels(pixels, extent, grey),), name, name="frame"))
    rows = tuple(tuple(panels[i : i + columns]) for i in range(0, len(panels), columns))
    height = (9 / columns) * _shape(shown[0], 0.15, 1.2) + 0.22
    return Sheet(rows, (9, 0.4 + len(rows) * height), title, widths=(1.0,) * columns)


def _shape(shown: xr.Dataset, least: float, most: float) -> float:
    """Return the ratio of height to width of an image, within limits."""
    return min(max(shown.sizes[Y] / shown.sizes[X], least), most)


def _shortened(text: str, most: int) -> str:
    """Return a text, its middle replaced by an ellipsis where it is too long.

    Examples
    --------
    >>> _shortened("a-long-name-0017", 9)
    'a-lo…0017'
    """
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


# The rows of an image as curves: `profile` with the detection, `rows` with their statistics.

_RULES = {
    "threshold": "detected by threshold",
    "robust": "detected by robust method",
    "given": "rows given",
}


def profile(
    image: Given,
    spectrum: Given | Rows | None = None,
    *,
    title: str = "",
    threshold: float | None = None,
) -> Sheet:
    """Draw the spatial profile (row means) of an image, the threshold, and the detected rows.

    Parameters
    ----------
    image : counts (y, x) in adu or electron; transposed where its dispersion runs along the
        columns.
    spectrum : the spectrum extracted from it, or the rows found by `find_rows`, which give the
        S/N of every candidate; or None.
    title : written over the figure.
    threshold : detection threshold of the row means, in the unit of the counts; by default that of
        the spectrum.

    Raises
    ------
    UsageError
        `image` is not an image, or `spectrum` is not a spectrum.

    Examples
    --------
    >>> import arrayred as ar, xarray as xr
    >>> frames = list(ar.SimulatedNight().frames())
    >>> light = xr.DataArray(frames[-1].pixels - 1.0 * frames[0].pixels, dims=("y", "x"))
    >>> figure = ar.plots.profile(light, threshold=40.0)
    >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    ['threshold 40.0']
    """
    shown = transpose_to_x(image_of(image))
    found = spectrum if spectrum is None or isinstance(spectrum, Rows) else spectrum_of(spectrum)
    level = _threshold_of(found) if threshold is None else threshold
    means = row_means(shown[COUNTS].values.astype(np.float64))
    marks = [Curve(shown[Y].values, means, "means"), *_threshold_marks(level, "y")]
    marks += [] if found is None else row_marks(found, "x")
    left, right = extent_of(shown)[2:]
    panel = Panel(
        Axis("row", left, right),
        replace(_means_axis(means, level, units_of(shown, COUNTS)), n_ticks=6),
        tuple(marks),
        "" if found is None else _rule_of(found),
        legend="best",
    )
    return Sheet(((panel,),), (8, 3.6), title)


def _rule_of(found: xr.Dataset | Rows) -> str:
    """Return the detection method of the rows, and the S/N of the brightest row."""
    if isinstance(found, Rows):
        rule, snr = str(found.rule), found.snr
    else:
        rule, snr = str(found.attrs.get("rule", "threshold")), found.attrs.get("row_snr")
    snr_text = "" if snr is None else f", brightest row at S/N {snr:.0f}"
    return f"{_RULES.get(rule, rule)}{snr_text}"


def _threshold_marks(level: object, along: Along) -> list[Mark]:
    if not isinstance(level, int | float) or not math.isfinite(level):
        return []
    return [Level(level, along, "threshold", f"threshold {level:.1f}")]


def _means_axis(means: Values, level: float | None, unit: str) -> Axis:
    """Return an axis of row means, linear up to twice the threshold and logarithmic beyond.

    It is linear throughout where no row exceeds a threshold above 0.
    """
    label = f"row mean ({unit})"
    finite = means[np.isfinite(means)]
    low = min(float(finite.min(initial=0.0)), 0.0)
    high = float(finite.max()) if finite.size else 0.0
    if level is None or not math.isfinite(level):
        return Axis(label, *around(finite), n_ticks=3)
    is_bright = high > level > 0
    top = max(high, level)
    top += 0.3 * max(abs(top), 1e-9)
    return Axis(label, low, top, "symlog" if is_bright else "linear", 2 * level, n_ticks=3)


def rows(statistics: xr.Dataset, *, title: str = "") -> Sheet:
    """Draw the statistics of rows: mean and median of each, and the scatter of its pixels.

    Parameters
    ----------
    statistics : `mean`, `median`, `std` (y), or (frame, y), from `row_statistics`.
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
    ['level (ADU)', 'scatter (ADU)']
    """
    names = ("mean", "median", "std")
    if not all(name in statistics for name in names) or statistics["mean"].dims[-1:] != (Y,):
        raise UsageError(
            f"Statistics of rows are {', '.join(names)} (y), but this has "
            f"{', '.join(map(str, statistics)) or 'nothing'}",
            hint="Use the result of row_statistics.",
        )
    seen = statistics[list(names)].load()
    units = units_of(seen, "mean")
    y: NDArray[Any] = seen[Y].values if Y in seen.coords else np.arange(1.0, seen.sizes[Y] + 1)
    x = Axis("row", *ends_of(y))
    if seen["mean"].ndim == 1:
        level = [Curve(y, seen[name].values, f"series-{i}", name)
                 for i, name in enumerate(("mean", "median"))]  # fmt: skip
        scatter = [Curve(y, seen["std"].values, "scatter")]
    else:
        level, scatter = _of_each_frame(seen, y)
    drawn = [
        Panel(x, _holding(f"{name} ({units})", curves), tuple(curves), unnumbered=hidden)
        for name, curves, hidden in (("level", level, "x"), ("scatter", scatter, ""))
    ]
    return Sheet(tuple((panel,) for panel in drawn), (8, 4.5), title, heights=(2, 1))


def _of_each_frame(seen: xr.Dataset, y: NDArray[Any]) -> tuple[list[Curve], list[Curve]]:
    """Return the row medians and scatter of each frame, coloured from blue to yellow."""
    flat = seen.stack(each=[dim for dim in seen["mean"].dims if dim != Y]).transpose("each", Y)
    n = flat.sizes["each"]
    names = flat[FRAME].values if FRAME in flat.coords else [str(i + 1) for i in range(n)]
    roles = [f"ramp-{round(100 * i / max(n - 1, 1))}" for i in range(n)]
    labels = [f"median of {names[i]}" if i in (0, n - 1) else "" for i in range(n)]
    drawn = zip(roles, labels, flat["median"].values, flat["std"].values, strict=True)
    curves = [(Curve(y, a, role, label), Curve(y, b, role)) for role, label, a, b in drawn]
    return [level for level, _ in curves], [scatter for _, scatter in curves]


def _holding(label: str, curves: list[Curve]) -> Axis:
    """Return an axis whose limits include all curves."""
    return Axis(label, *around(*(curve.y for curve in curves)))


def spectrum(spectrum: Given, *, title: str = "") -> Sheet:
    """Draw a spectrum with its noise and flagged columns, and the sky below it.

    Parameters
    ----------
    spectrum : flux (x) in adu or electron; `variance`, `dq`, `sky` and `wavelength` where it has
        them.
    title : written over the figure.

    Raises
    ------
    UsageError
        It is not a spectrum.

    Examples
    --------
    >>> import arrayred as ar
    >>> figure = ar.plots.spectrum(ar.SimulatedNight().truth(), title="what is true")
    >>> figure.axes[0].get_ylabel()
    'flux (ADU)'
    """
    shown = spectrum_of(spectrum)
    x, above = _dispersion(shown)
    flux = replace(_flux_panel(shown, x), above=above, legend=_free_place(shown))
    if "sky" not in shown or not np.isfinite(shown["sky"].values).any():
        return Sheet(((flux,),), (8, 3.4), title)
    sky = Curve(_along(shown), shown["sky"].values, "sky")
    below = Panel(x, _holding(f"sky ({units_of(shown, 'sky')})", [sky]), (sky,))
    rows = (replace(flux, unnumbered="x"),), (below,)
    return Sheet(rows, (8, 4.2), title, heights=(3.2, 1))


def _flux_panel(shown: xr.Dataset, x: Axis, title: str = "") -> Panel:
    """Return the flux with its noise band, and the flagged columns, one line for each flag."""
    columns, flux = _along(shown), shown[FLUX].values
    marks: list[Mark] = []
    ends = [flux]
    if VARIANCE in shown:
        reach = SIGMAS * np.sqrt(shown[VARIANCE].values)
        ends += [flux - reach, flux + reach]
        marks.append(Area(columns, ends[1], ends[2], "noise", f"±{SIGMAS:g}σ"))
    if "wavelength" in shown and "wavelength_first" in shown.attrs:
        known = columns[np.isfinite(columns)]
        first, last = (float(shown.attrs[f"wavelength_{end}"]) for end in ("first", "last"))
        ends_of_it = [(float(known.min()), first), (last, float(known.max()))]
        beyond = [span for span in ends_of_it if span[0] < span[1]]
        told = ["extrapolated", ""]
        marks += [
            Span(*span, "x", "scatter", name) for span, name in zip(beyond, told, strict=False)
        ]
    marks.append(Curve(columns, flux, "flux"))
    flags = shown[DQ].values if DQ in shown else np.zeros(flux.shape, np.uint8)
    raised = [(bit, name) for bit, name in DQ_MEANINGS.items() if (flags & bit).any()]
    for i, (bit, name) in enumerate(raised):
        where = columns[(flags & bit) != 0]
        label = f"{name.replace('_', ' ')}: {counted(where.size, 'column')}"
        marks.append(Strokes(where, flag_role(bit), label, 0.02 + 0.035 * i))
    y = Axis(f"flux ({units_of(shown, FLUX)})", *around(*ends), n_ticks=5)
    return Panel(x, y, tuple(marks), title, grid="xy")


SUMS = ("aperture sum", "sky-subtracted sum", "extracted flux")
"""Curves of `extraction`: two plain sums of the rows, and the extracted flux."""


def extraction(spectrum: xr.Dataset, along: str = "column") -> Panel:
    """Describe a flux together with the plain sums of its rows, with and without their sky.

    Parameters
    ----------
    spectrum : flux (x), and `counts_mean` and `counts_mean_sky_subtracted` where it has them.
    along : what the x axis counts: "column", or "row" where the dispersion runs along the columns
        of the file.
    """
    x, n_rows = spectrum[X].values, spectrum.attrs["n_rows"]
    means = zip(SUMS, ("counts_mean", "counts_mean_sky_subtracted"), strict=False)
    values = {name: spectrum[key].values * n_rows for name, key in means if key in spectrum}
    values[SUMS[-1]] = spectrum[FLUX].values
    roles = dict(zip(SUMS, ("series-0", "series-2", "flux"), strict=True))
    curves = tuple(Curve(x, values[name], roles[name], name) for name in SUMS if name in values)
    band: tuple[Mark, ...] = ()
    if VARIANCE in spectrum:
        flux, reach = values[SUMS[-1]], SIGMAS * np.sqrt(spectrum[VARIANCE].values)
        band = (Area(x, flux - reach, flux + reach, "noise", f"±{SIGMAS:g}σ"),)
    y = Axis(f"flux ({units_of(spectrum, FLUX)})", *around(*values.values()), n_ticks=5)
    return Panel(Axis(along, *ends_of(x), n_ticks=8), y, (*band, *curves))


def compare(
    spectra: Mapping[str, Given],
    *,
    title: str = "",
    stacked: bool = False,
    normalised: bool = False,
) -> Sheet:
    """Draw several spectra over each other, or each a step above the one before.

    Parameters
    ----------
    spectra : flux (x) by name, in the order in which they are drawn.
    title : written over the figure.
    stacked : draw each above the one before, offset by 1.1 times the 2-98 % range of its flux.
    normalised : divide each by the median of its flux.

    Raises
    ------
    UsageError
        There is none, one is not a spectrum, or they differ in unit and are not normalised.

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
            hint="Use spectra of the same unit, or normalised=True.",
        )
    has_scale = all("wavelength" in one for one in shown.values())
    curves, offset = [], 0.0
    for i, (name, one) in enumerate(shown.items()):
        flux = one[FLUX].values
        flux = flux / median_of(flux) if normalised else flux
        x = _along(one) if has_scale else one[X].values
        curves.append(Curve(x, flux + offset, f"series-{i % len(SERIES)}", name))
        offset += 1.1 * range_of(flux) if stacked else 0.0
    what = "Flux / median" if normalised else f"flux ({units.pop()})"
    axis, _ = _dispersion(next(iter(shown.values())), has_scale=has_scale)
    y = _holding(f"{what} + offset" if stacked else what, curves)
    height = 3.8 if not stacked else min(2.4 + 0.7 * len(shown), 14)
    return Sheet(((Panel(axis, y, tuple(curves), grid="xy"),),), (8, height), title)


def median_of(values: Values) -> float:
    """Return the median of the finite values, 1 where it is 0 or there are none."""
    middle = finite_median(values)
    return middle if np.isfinite(middle) and middle != 0 else 1.0


def range_of(flux: Values) -> float:
    """Return the range from the 2nd to the 98th percentile of a flux, 0 if nothing is finite."""
    finite = flux[np.isfinite(flux)]
    return float(np.subtract(*np.percentile(finite, (98, 2)))) if finite.size else 0.0


def noise(spectrum: Given, *, title: str = "") -> Sheet:
    """Draw the S/N per pixel of a spectrum, and its median.

    Parameters
    ----------
    spectrum : flux and variance (x).
    title : written over the figure.

    Raises
    ------
    UsageError
        It is not a spectrum, or its noise is unknown.

    Examples
    --------
    >>> import arrayred as ar, numpy as np
    >>> truth = ar.SimulatedNight().truth()
    >>> figure = ar.plots.noise(truth.assign(variance=truth.flux))
    >>> figure.axes[0].get_ylabel()
    'S/N per pixel'
    """
    shown = spectrum_of(spectrum)
    if VARIANCE not in shown:
        raise UsageError(
            "This spectrum has no variance, which the S/N needs",
            hint="Extract it from an image with known noise (estimate_noise).",
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        snr = shown[FLUX].values / np.sqrt(shown[VARIANCE].values)
    snr = np.where(np.isfinite(snr), snr, np.nan)
    marks: list[Mark] = [Curve(_along(shown), snr, "series-0")]
    middle = float(shown.attrs.get("snr", finite_median(snr)))
    if np.isfinite(middle):
        of = shown.attrs.get("snr_columns", "central half")
        of_what = f"median of the {of}" if "snr" in shown.attrs else "median"
        marks.append(Level(middle, "y", "median", f"{of_what} {middle:.0f}"))
    x, above = _dispersion(shown)
    y = Axis("S/N per pixel", *around(snr, middle))
    place = _free_place(shown)
    panel = Panel(x, y, tuple(marks), above=above, grid="xy", legend=place)
    return Sheet(((panel,),), (8, 3.2), title)


def _free_place(shown: xr.Dataset) -> Place:
    """Return the place of the legend: above the axes, unless the scale of columns is there."""
    return "best" if "wavelength" in shown else "above"


def _along(shown: xr.Dataset) -> Any:
    """Return the wavelengths of the columns where they are known, else the column numbers."""
    return shown["wavelength"].values if "wavelength" in shown else shown[X].values


def _dispersion(
    shown: xr.Dataset, *, has_scale: bool = True
) -> tuple[Axis, tuple[Values, Values, str] | None]:
    """Return the axis of columns; or that of wavelengths, with the scale of columns above it."""
    x = shown[X].values
    if "wavelength" not in shown or not has_scale:
        return Axis("column", *ends_of(x), n_ticks=8), None
    scale = shown["wavelength"].values
    label = f"wavelength ({shown['wavelength'].attrs.get('units', 'Angstrom')})"
    known = np.isfinite(scale)
    if not known.any():
        return Axis(label), None
    axis = Axis(label, float(scale[known].min()), float(scale[known].max()), n_ticks=8)
    rising = np.argsort(scale[known])
    above = scale[known][rising], x[known][rising].astype(np.float64), "column"
    return axis, above if known.sum() > 1 else None


def trace(image: Given, spectrum: Given, *, title: str = "") -> Sheet:
    """Draw the centres of a star along the columns, its trace, and the residuals of the fit.

    Parameters
    ----------
    image : counts (y, x) from which the spectrum was extracted; the centres are measured again.
    spectrum : with `trace` (x), FITS rows.
    title : written over the figure.

    Raises
    ------
    UsageError
        `image` is not an image, `spectrum` is not a spectrum, or it has no trace.
    """
    shown, cut = transpose_to_x(image_of(image)), spectrum_of(spectrum)
    if "trace" not in cut:
        raise UsageError(
            "This spectrum was extracted from straight rows and has no trace",
            hint="Extract it along the trace (fit_trace, extract_along).",
        )
    found = measure_centres(shown, cut)
    x, row, error = (found[name].values for name in (X, "row", "error"))
    left = row - found["trace"].values
    columns = cut[X].values
    edges = [Curve(columns, edge, "edge") for edge in aperture(cut)]
    followed = Curve(columns, cut["trace"].values, "trace", "trace")
    held = around(row - error, row + error, row, *(one.y for one in (followed, *edges)))
    axis = Axis("column", *ends_of(columns))
    above = Panel(
        axis,
        Axis("row", *held),
        (Points(x, row, "series-0", "measured centroids", error), *edges, followed),
        unnumbered="x",
    )
    marks: list[Mark] = [Points(x, left, "series-0", error=error), Level(0.0, "y", "trace")]
    rms = cut.attrs.get("trace_rms")
    if rms is not None:
        marks.append(Span(-rms, rms, "y", "scatter", f"rms {rms:.3f} rows"))
    finite = np.abs(left[np.isfinite(left)])
    most = 1.4 * max(float(finite.max(initial=0.0)), rms or 0.0, 0.01)
    below = Panel(axis, Axis("residual (rows)", -most, most), tuple(marks))
    return Sheet(((above,), (below,)), (8, 4.5), title, heights=(2.2, 1))


# The lamps of a target: `arc`, and `lamp_lines` to name the lines of one.

_LINES_HEIGHT = 0.62
"""Height of the strokes at the lines in the panel; the arcs lie below, the names above."""
_NAME_WIDTH = 0.024
"""Room that a name needs, as a fraction of the panel's width."""


def arc(arc: xr.Dataset, lines: xr.Dataset, *, title: str = "") -> Sheet:
    """Draw the lamps of a target, their identified lines, and the residuals of the solution.

    Parameters
    ----------
    arc : counts (lamp, x) in adu, as `extract_lamp` gives them, or of one lamp (x).
    lines : (line), `x`, `x_err`, `wavelength` and `residual` (Angstrom), `element`, `used`, and
        `lamp` if there are several, as TARGET_lines.ecsv has them.
    title : written over the figure.

    Raises
    ------
    UsageError
        No two lines have a wavelength.

    Examples
    --------
    >>> import arrayred as ar, numpy as np, xarray as xr
    >>> x = np.array([20.0, 50.0, 90.0])
    >>> columns = {"x": x, "x_err": 0.1 + 0 * x, "wavelength": 6000 + 2 * x, "residual": 0.1 * x}
    >>> columns |= {"element": ["NeI"] * 3, "used": [True, True, False]}
    >>> lines = xr.Dataset({name: ("line", values) for name, values in columns.items()})
    >>> lamp = xr.Dataset({"counts": ("x", np.arange(100.0))}, {"x": np.arange(1, 101)})
    >>> [axes.get_ylabel() for axes in ar.plots.arc(lamp, lines).axes]
    ['counts (ADU)', 'residual (pixel)']
    """
    lamps = arc[COUNTS] if LAMP in arc[COUNTS].dims else arc[COUNTS].expand_dims({LAMP: ["lamp"]})
    names = list(map(str, lamps[LAMP].values))
    wave_of, left_of = (lines[name].values for name in ("wavelength", "residual"))
    found = lines.isel(line=np.isfinite(wave_of) & np.isfinite(left_of))
    x, used = found["x"].values, found["used"].values
    if np.unique(x).size < 2:
        raise UsageError(
            "Fewer than two arc lines have a wavelength",
            hint="Use the lines of TARGET_lines.ecsv.",
        )
    whose = found["lamp"].values.astype(str) if LAMP in found else np.full(x.size, names[0])
    axis = Axis("column", *ends_of(lamps[X].values), n_ticks=8)
    roles = {name: f"series-{i % len(SERIES)}" for i, name in enumerate(names)}
    curves = [
        Curve(lamps[X].values, lamps.sel({LAMP: name}).values, role, name)
        for name, role in roles.items()
    ]
    # The lamps of a target have the same lines: those of the one with most of them are named.
    most = max(names, key=lambda name: np.count_nonzero(used & (whose == name)))
    mine = used & (whose == most)
    named = found.isel(line=mine if mine.any() else used)
    strokes = Strokes(
        named["x"].values, "line", "lines used", _LINES_HEIGHT,
        _names_with_room(named, lamps.sel({LAMP: most}), axis),
    )  # fmt: skip
    above = Panel(
        axis,
        _arc_axis(lamps.values, units_of(arc, COUNTS)),
        (*curves, strokes),
        unnumbered="x",
        summary=f"Arc spectra of {title}: {counted(int(used.sum()), 'line')} used",
    )
    below = _residual_panel(axis, found, {name: whose == name for name in names}, roles)
    return Sheet(((above,), (below,)), (9, 5.5), title, heights=(2.4, 1))


def _residual_panel(
    axis: Axis, lines: xr.Dataset, own: Mapping[str, Any], roles: Mapping[str, str]
) -> Panel:
    """Return the residuals of lines (line), pixel, those of each lamp in its role."""
    x, wave, used = (lines[name].values for name in ("x", "wavelength", "used"))
    curve = np.polyfit(x, wave, min(np.unique(x).size - 1, 3))
    step = np.abs(np.polyval(np.polyder(curve), x))
    left, error = lines["residual"].values / step, lines["x_err"].values
    rms = math.sqrt(float(np.add.reduce(left[used] ** 2)) / max(int(used.sum()), 1))
    marks: list[Mark] = [Span(-rms, rms, "y", "scatter", f"rms {rms:.3f} pixel")]
    seen = {name: used & is_own for name, is_own in own.items()}
    marks += [
        Points(x[own], left[own], roles[name], error=error[own])
        for name, own in seen.items()
        if own.any()
    ]
    if not any(own.any() for own in seen.values()):  # of the user: no lamp has its name
        marks.append(Points(x[used], left[used], "series-0", error=error[used]))
    if (~used).any():
        marks.append(Points(x[~used], left[~used], "outlier", "not used"))
    marks.append(Level(0.0, "y", "trace"))
    widest = 1.2 * max(float(np.max(np.abs(left[used]) + error[used], initial=0.0)), 0.05)
    return Panel(
        axis,
        Axis("residual (pixel)", -widest, widest, n_ticks=4),
        tuple(marks),
        summary=f"Residuals of the lines, rms {rms:.3f} pixel",
    )


def lamp_lines(
    lamp: xr.Dataset,
    found: xr.Dataset,
    named: xr.Dataset | None,
    fitted: xr.Dataset | None = None,
    picked: float | None = None,
) -> tuple[Panel, Panel | None]:
    """Describe a lamp with the lines found in it, and the residuals of those that are named.

    Parameters
    ----------
    lamp : counts (x) of one lamp, adu.
    found : `x` (line), of `find_lamp_lines`.
    named : `x`, `wavelength` and `element` (line); None: no line is named.
    fitted : `x`, `x_err`, `wavelength`, `residual` (Angstrom) and `used` (line) of a solution.
    picked : x of the line that is marked, pixel.
    """
    counts, x = lamp[COUNTS], found["x"].values
    axis = Axis("column", *ends_of(lamp[X].values), n_ticks=8)
    is_known = np.zeros(x.size, bool)
    marks: list[Mark] = [Curve(lamp[X].values, counts.values, "arc", "arc")]
    if named is not None:
        near = float(found.attrs["fwhm"])
        away = np.abs(x[:, np.newaxis] - named["x"].values)
        is_known = away.min(axis=1, initial=np.inf) < near
        names = _names_with_room(named, counts, axis)
        marks.append(Strokes(named["x"].values, "line", "named lines", _LINES_HEIGHT, names))
    if not is_known.all():
        label = "lines without a name"
        marks.append(Strokes(x[~is_known], "outlier", label, _LINES_HEIGHT))
    if picked is not None:
        marks.append(Level(picked, "x", "threshold"))
    above = Panel(axis, _arc_axis(counts.values, units_of(lamp, COUNTS)), tuple(marks))
    if fitted is None or np.unique(fitted["x"].values).size < 2:
        return above, None
    return above, _residual_panel(axis, fitted, {}, {})


def _arc_axis(counts: Values, unit: str) -> Axis:
    """Return the axis of the counts of lamps: logarithmic above 0.3 %, with room for names."""
    highest = float(counts[np.isfinite(counts)].max(initial=10.0))
    width = highest / 300
    filled = 10 / 9 + math.log10(highest / width)
    top = width * 10 ** (filled / (_LINES_HEIGHT - 0.05) - 10 / 9)
    decades = range(math.ceil(math.log10(width)), math.floor(math.log10(highest)) + 1)
    named = {i: f"{10**i // 1000}k" if i > 3 else f"{10**i}" for i in decades if i >= 0}
    ticks = ((0.0, "0"), *((10.0**i, name) for i, name in named.items()))
    return Axis(f"counts ({unit})", -0.2 * width, top, "symlog", width, ticks)


def _names_with_room(lines: xr.Dataset, lamp: xr.DataArray, axis: Axis) -> tuple[str, ...]:
    """Return element and wavelength of each line; "" for one too close to a brighter one."""
    x = lines["x"].values
    light = np.nan_to_num(np.interp(x, lamp[X].values, lamp.values))
    place = axis.place(x)
    chosen: list[int] = []
    for i in np.argsort(-light, kind="stable"):
        if all(abs(place[i] - place[j]) >= _NAME_WIDTH for j in chosen):
            chosen.append(int(i))
    told = zip(lines["element"].values, lines["wavelength"].values, strict=True)
    return tuple(
        f"{element} {wave:.2f}" if i in chosen else "" for i, (element, wave) in enumerate(told)
    )


# A target on one sheet: `quick_look`, and `search_look` where nothing was found.


def quick_look(combined: xr.Dataset, spectrum: xr.Dataset, title: str) -> Sheet:
    """Draw a combined image with its aperture and sky bands, the row profile, and the spectrum.

    The aperture follows the trace where the spectrum has one; other rows that were detected but not
    extracted are shaded grey in the profile.

    Parameters
    ----------
    combined : counts (y, x) in adu or electron, computed.
    spectrum : the spectrum extracted from it, in the same unit.
    title : the target's name.
    """
    facts = spectrum.attrs
    first, last = facts.get("first_row"), facts.get("last_row")
    shown = _image_panel(combined, _stretch_about_the_sky(combined, facts), spectrum,
                         "combined image")  # fmt: skip
    shown = replace(shown, summary=f"Combined image of {title}: spectrum in rows {first} to {last}")
    middle = math.nan if first is None or last is None else (first + last) / 2
    is_low = middle < combined[Y].values.mean()
    spans = row_marks(spectrum, "y")
    means, level = row_means(combined[COUNTS].values), _threshold_of(spectrum)
    profile = _rows_panel(combined, shown.y, means, level, spans)
    profile = replace(
        profile,
        summary="Spatial profile (row means); " + ", ".join(span.label for span in spans),
        legend="upper right" if is_low else "lower right",
    )
    way = facts.get("extraction")
    sky = "sky-subtracted spectrum" if "sky" in spectrum else "spectrum without sky subtraction"
    axis, _ = _dispersion(spectrum)
    flux = _flux_panel(spectrum, axis, sky if way is None else f"{sky} ({way})")
    snr = facts.get("snr")
    quality = f"{snr:.0f}" if isinstance(snr, int | float) and math.isfinite(snr) else "unknown"
    flux = replace(
        flux,
        summary=f"Spectrum of {title}: {spectrum.sizes[X]} columns, median S/N per pixel {quality}",
    )
    return Sheet(((shown, profile), (flux,)), (11, 8), title, (3, 1), (1.2, 1))


def _stretch_about_the_sky(combined: xr.Dataset, facts: Mapping[Any, Any]) -> Stretch:
    """Return the stretch that shows both the noise of the sky and the star."""
    counts = combined[COUNTS].values
    finite = counts[np.isfinite(counts)]
    mean, std = (facts.get(f"background_{name}", math.nan) for name in ("mean", "std"))
    if not (math.isfinite(mean) and math.isfinite(std) and finite.size):
        return stretch_of(counts)
    noise = max(std, 1.0)
    low = mean - 5 * noise
    high = max(float(np.percentile(finite, 99.9, overwrite_input=True)), low + noise)
    return Stretch(low, high, 0.0, 2 * noise)


def _rows_panel(
    combined: xr.Dataset,
    y: Axis,
    means: Values,
    threshold: float | None,
    spans: tuple[Span, ...] = (),
) -> Panel:
    """Return the spatial profile (row means) beside the image, with the threshold."""
    x = _means_axis(means, threshold, units_of(combined, COUNTS))
    curve = Curve(means, combined[Y].values, "means")
    marks = (curve, *_threshold_marks(threshold, "x"), *spans)
    return Panel(x, y, marks, "rows", name="rows", unnumbered="y")


def search_look(combined: xr.Dataset, title: str, *, threshold: object = None) -> Sheet:
    """Draw a combined image in which no spectrum was found, and its spatial profile (row means).

    Parameters
    ----------
    combined : counts (y, x) in adu or electron, computed.
    title : the target's name.
    threshold : detection threshold that no row mean exceeds, in the same unit; drawn where it is a
        number.
    """
    counts = combined[COUNTS].values
    finite = counts[np.isfinite(counts)]
    level = float(np.median(finite)) if finite.size else 0.0
    noise = (robust_std(finite) if finite.size else 0.0) or 1.0
    grey = Stretch(level - 3 * noise, level + 10 * noise, level, 2 * noise)
    shown = _image_panel(combined, grey, None, "combined image")
    shown = replace(shown, summary="Combined image; no spectrum detected")
    known = threshold if isinstance(threshold, float) and math.isfinite(threshold) else None
    means = row_means(counts)
    profile = _rows_panel(combined, shown.y, means, known)
    ends = around(means, math.nan if known is None else known)
    profile = replace(
        profile,
        x=Axis(profile.x.label, *ends, n_ticks=3),
        summary="Spatial profile (row means); none exceeds the threshold",
        legend="upper right",
    )
    return Sheet(((shown, profile),), (11, 5), f"{title}: no spectrum detected", (3, 1))


_KINDS = {
    (Y, X): ("an image (y, x)", "plots.image or plots.frame"),
    (FRAME, Y, X): ("a cube (frame, y, x)", "plots.cube, or select a frame"),
    (X,): ("a spectrum (x)", "plots.spectrum"),
    (FRAME, X): ("spectra of frames (frame, x)", "plots.frames"),
}


def image_of(given: Given) -> xr.Dataset:
    """Return an image: counts (y, x), in memory; a cube of a single frame is accepted.

    Raises
    ------
    UsageError
        It is something else.
    """
    found = _dataset(given, COUNTS)
    if COUNTS in found and found[COUNTS].dims == (FRAME, Y, X) and found.sizes[FRAME] == 1:
        found = found.isel({FRAME: 0})
    return _labelled(_expected(found, COUNTS, (Y, X))).load()


def cube_of(given: Given) -> xr.Dataset:
    """Return a cube: counts (frame, y, x), as lazy as it came.

    Raises
    ------
    UsageError
        It is something else, or has no frame.
    """
    return _labelled(_expected(_dataset(given, COUNTS), COUNTS, (FRAME, Y, X)))


def spectrum_of(given: Given) -> xr.Dataset:
    """Return a spectrum: flux (x), in memory.

    Raises
    ------
    UsageError
        It is something else.
    """
    return _labelled(_expected(_dataset(given, FLUX), FLUX, (X,))).load()


def spectra_of(given: Given) -> xr.Dataset:
    """Return spectra of frames: flux (frame, x), in memory.

    Raises
    ------
    UsageError
        It is something else.
    """
    return _labelled(_expected(_dataset(given, FLUX), FLUX, (FRAME, X))).load()


def units_of(found: xr.Dataset, name: str) -> str:
    """Return the unit of a variable as figures show it; ADU where it has none."""
    units = str(found[name].attrs.get("units", "adu"))
    return "ADU" if units == "adu" else units


def _dataset(given: Given, name: str) -> xr.Dataset:
    import xarray as xr

    if isinstance(given, xr.DataTree):
        if not given.data_vars and given.children:
            inside = ", ".join(repr(child) for child in given.children)
            raise UsageError(
                f"{given.path} of the tree has no pixels itself, but {inside}",
                hint="Use one of those.",
            )
        return given.to_dataset()
    if isinstance(given, xr.DataArray):
        return given.rename(name).to_dataset()
    if isinstance(given, xr.Dataset):
        return given
    raise UsageError(
        f"A figure needs a Dataset or DataArray with named dims, not {_kind(given)}",
        hint="Use the result of open_product, reduce_night or a step.",
    )


def _kind(given: Any) -> str:
    shape = getattr(given, "shape", None)
    return type(given).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")


def _expected(found: xr.Dataset, name: str, dims: tuple[str, ...]) -> xr.Dataset:
    """Return a Dataset with a non-empty numeric variable of these dims; else raise UsageError."""
    if name in found and found[name].dims == dims:
        if found[name].size and np.issubdtype(found[name].dtype, np.number):
            return found
        raise UsageError(
            f"Nothing to draw: {name} is {found[name].dtype} of shape {found[name].shape}",
            hint="Use numbers, at least one along each dim.",
        )
    wanted, (what, where) = _KINDS[dims], _found(found)
    raise UsageError(
        f"This figure needs {wanted[0]} with {name!r}, but this is {what}",
        hint=f"Use {where}." if where else "Select or transpose first.",
    )


def _found(found: xr.Dataset) -> tuple[str, str]:
    """Return a description of a Dataset, and the function that draws it."""
    for name in (COUNTS, FLUX):
        if name in found:
            dims = tuple(map(str, found[name].dims))
            return _KINDS.get(dims, (f"{name} {dims}", ""))
    if {"mean", "median"} <= set(found.data_vars):
        return "statistics of rows", "plots.rows"
    return f"a Dataset of {', '.join(map(str, found.data_vars)) or 'nothing'}", ""


def _labelled(found: xr.Dataset) -> xr.Dataset:
    """Return a Dataset with labels along y and x, from 1 where it has none."""
    missing = [dim for dim in (Y, X) if dim in found.sizes and dim not in found.coords]
    return found.assign_coords({dim: np.arange(1, found.sizes[dim] + 1) for dim in missing})


_CCD, _LEVEL = "CCD (°C)", "level (ADU)"
_MOST_LANES = 40
_MOST_PARTS = 6
_PAUSE = timedelta(hours=5)
"""Longer times without an exposure are cut out of the axis."""


class _Bar(NamedTuple):
    """An exposure: its frame, start, end and lane."""

    frame: Frame
    start: datetime
    end: datetime
    lane: str

    @property
    def role(self) -> str:
        """The type of the frame."""
        kind = self.lane.partition("/")[0]
        return kind if kind in COLOURS else "unknown"


def night(night: _Night, *, title: str = "", levels: bool = True) -> Sheet:
    """Draw the frames of a night in time, and the temperature and the level of the detector.

    Parameters
    ----------
    night : from `open_night`.
    title : written over the figure.
    levels : whether a few rows of each frame are read for its level.

    Raises
    ------
    UsageError
        It is not a night, or no frame has a time in its header.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import arrayred as ar
    >>> from arrayred.io.products import write_frames
    >>> with TemporaryDirectory() as folder:
    ...     _ = write_frames(ar.SimulatedNight().frames(), Path(folder))
    ...     figure = ar.plots.night(ar.open_night(folder))
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['', 'CCD (°C)', 'level (ADU)']
    """
    bars = list(_bars_of(night))
    lanes = list(dict.fromkeys(bar.lane for bar in bars))[:_MOST_LANES]
    shown = [bar for bar in bars if bar.lane in set(lanes)]
    parts, below = _parts_of(shown), _quantities(shown, levels=levels)
    widths = _widths_of(parts)
    names = Axis("", len(lanes) - 0.4, -0.6, ticks=tuple(enumerate(lanes)), kind="names")
    times, rows = [], []
    for part, width in zip(parts, widths, strict=True):
        span = np.array([_utc(part[0].start), _utc(part[0].start + _length_of(part))])
        most = max(int(8 * width / sum(widths)), 2)
        times.append(time_axis(span, label="", most=most))
    hidden = "x" if below else ""
    rows.append([_exposures(part, x, names, hidden) for part, x in zip(parts, times, strict=True)])
    for i, (label, values) in enumerate(below.items()):
        hidden = "x" if i < len(below) - 1 else ""
        every = np.array(list(values.values()))
        y = _quantity_axis(label, every)
        drawn = zip(parts, times, strict=True)
        rows.append([_in_time(part, values, x, y, hidden) for part, x in drawn])
    heights = (0.5 + 0.24 * len(lanes), *(1.2 for _ in below))
    only_first = tuple((row[0], *(_beside(panel) for panel in row[1:])) for row in rows)
    size = (8, sum(heights) + 0.6)
    return Sheet(only_first, size, title, widths, heights, "time (UTC)")


def _bars_of(night: Any) -> Iterator[_Bar]:
    """Yield the exposures with a known time, by group, the earliest group first."""
    if not isinstance(getattr(night, "groups", None), Mapping):
        raise UsageError(
            f"This figure needs a night, not {type(night).__name__}",
            hint="Use the result of open_night.",
        )
    lanes = [
        [
            _Bar(f, f.time, f.time + timedelta(seconds=f.exptime or 0.0), name)
            for f in group.frames
            if f.time is not None
        ]
        for name, group in night.groups.items()
    ]
    known = sorted((min(bar.start for bar in lane), lane) for lane in lanes if lane)
    if not known:
        raise UsageError(
            f"{night.folder} has no frame with a time",
            keyword="DATE-OBS",
            hint="This figure needs the times of frames.",
        )
    for _, lane in known:
        yield from lane


def _parts_of(bars: list[_Bar]) -> list[list[_Bar]]:
    """Return the exposures in parts between long pauses; one part if there are more than six."""
    parts: list[list[_Bar]] = []
    latest = None
    for bar in sorted(bars, key=lambda bar: (bar.start, bar.lane)):
        if latest is None or bar.start - latest > _PAUSE:
            parts.append([])
        parts[-1].append(bar)
        latest = bar.end if latest is None else max(latest, bar.end)
    return parts if len(parts) <= _MOST_PARTS else [[bar for part in parts for bar in part]]


def _quantities(bars: list[_Bar], *, levels: bool) -> dict[str, dict[str, float]]:
    """Return temperature and level of the frames, by axis label and frame label."""
    frames = [bar.frame for bar in bars]
    found = {_CCD: {f.label: f.ccd_temp for f in frames if f.ccd_temp is not None}}
    if levels:
        samples = {frame.label: sample_frame(frame) for frame in frames_to_probe(frames)}
        found[_LEVEL] = {name: one.level for name, one in samples.items() if one is not None}
    return {name: values for name, values in found.items() if values}


def _length_of(part: list[_Bar]) -> timedelta:
    """Return the duration of a part, at least ten minutes."""
    whole = max(bar.end for bar in part) - part[0].start
    return max(whole, timedelta(minutes=10))


def _widths_of(parts: list[list[_Bar]]) -> list[float]:
    """Return the relative widths of the parts: their durations, at least 1/4 of the longest."""
    hours = [_length_of(part) / timedelta(hours=1) for part in parts]
    return [max(each, 0.25 * max(hours)) for each in hours]


def _utc(time: datetime) -> np.datetime64:
    return np.datetime64(time.replace(tzinfo=None), "us")


def _exposures(part: list[_Bar], x: Axis, names: Axis, hidden: str) -> Panel:
    """Return a bar for each exposure, in the lane of its group."""
    lanes = {name: int(place) for place, name in names.ticks or ()}
    marks = []
    for role in dict.fromkeys(bar.role for bar in part):
        own = [bar for bar in part if bar.role == role]
        start, end = (np.array([_utc(t) for t in ts]) for ts in
                      ([bar.start for bar in own], [bar.end for bar in own]))  # fmt: skip
        marks.append(Bars(start, end, np.array([lanes[bar.lane] for bar in own]), role))
    return Panel(x, names, tuple(marks), name="drift", unnumbered=hidden, grid="x")


def _quantity_axis(label: str, values: Values) -> Axis:
    """Return the axis of a quantity of the frames, logarithmic over more than a factor of 20."""
    if values.min() > 0 and values.max() > 20 * values.min():
        low, high = around(np.log10(values), margin=0.15)
        return Axis(label, 10**low, 10**high, "log")
    return Axis(label, *around(values, margin=0.15))


def _in_time(part: list[_Bar], values: Mapping[str, float], x: Axis, y: Axis, hidden: str) -> Panel:
    """Return a quantity of each frame at the middle of its exposure, in the colour of its type."""
    known = [bar for bar in part if bar.frame.label in values]
    when = np.array([_utc(bar.start + (bar.end - bar.start) / 2) for bar in known], "M8[us]")
    counts = np.array([values[bar.frame.label] for bar in known])
    marks = _dots(when, counts, [(bar.role, "") for bar in known])
    return Panel(x, y, marks, name="drift", unnumbered=hidden, grid="x")


def _dots(
    when: NDArray[Any], values: Values, series: Sequence[tuple[str, str]]
) -> tuple[Points, ...]:
    """Return values in time as dots, grouped by role and label."""
    marks = []
    for role, label in dict.fromkeys(series):
        own = [i for i, one in enumerate(series) if one == (role, label)]
        marks.append(Points(when[own], values[own], role, label))
    return tuple(marks)


def _beside(panel: Panel) -> Panel:
    """Return a panel whose y axis is numbered by its neighbour."""
    return replace(panel, unnumbered="xy" if panel.unnumbered else "y")


def detector(frames: Sequence[_Timed], levels: Mapping[str, float]) -> Sheet | None:
    """Describe temperature and dark level of the detector in time; None without two times.

    Parameters
    ----------
    frames : of a night, in any order.
    levels : median counts, adu, by label of the frames whose pixels were read.
    """
    timed = [frame for frame in frames if frame.time]
    warm = [frame for frame in timed if frame.temperature is not None]
    dark = [frame for frame in timed if frame.kind in ("bias", "dark") and frame.label in levels]
    exposures = [f"dark {f.exptime:g} s" if f.exptime is not None else "dark" for f in dark]
    names = list(dict.fromkeys(e for f, e in zip(dark, exposures, strict=True) if f.kind == "dark"))
    of_type = [(f.kind, f.kind) if f.kind in COLOURS else ("unknown", "other") for f in warm]
    of_exposure = [
        ("bias", "bias") if frame.kind == "bias" else _dark_series(names.index(exposure), exposure)
        for frame, exposure in zip(dark, exposures, strict=True)
    ]
    temperatures = {frame.label: float(frame.temperature or 0.0) for frame in warm}
    panels = [
        _drift_panel(title, label, group, values, series)
        for title, label, group, values, series in (
            ("temperature of the detector", _CCD, warm, temperatures, of_type),
            ("level of biases and darks", _LEVEL, dark, levels, of_exposure),
        )
        if len({frame.time for frame in group}) > 1
    ]
    return Sheet((tuple(panels),), (8, 2.5)) if panels else None


class Shift(NamedTuple):
    """A shift of lines along x, pixels: what it is of, when, UTC, how much, and its error."""

    of: str
    when: np.datetime64
    pixels: float
    error: float


def shifts(found: Sequence[Shift]) -> Sheet | None:
    """Describe zero points of wavelengths and shifts of lamps in time; None without two times."""
    if len({one.when for one in found}) < 2:
        return None
    when = np.array([one.when for one in found])
    pixels, error = (np.array([getattr(one, of) for one in found]) for of in ("pixels", "error"))
    marks: list[Mark] = [Level(0.0, "y", "median")]
    for i, name in enumerate(dict.fromkeys(one.of for one in found)):
        own = np.array([one.of == name for one in found])
        marks.append(Points(when[own], pixels[own], f"series-{i}", name, error=error[own]))
    y = Axis("shift (pixel)", *around(pixels - error, pixels + error, 0.0, margin=0.15), n_ticks=5)
    title = "wavelength zero points"
    summary = f"{title.capitalize()}, from {pixels.min():.2f} to {pixels.max():.2f} pixel"
    panel = Panel(time_axis(when), y, tuple(marks), title, name="drift", summary=summary)
    return Sheet(((panel,),), (8, 2.5))


def _dark_series(i: int, exposure: str) -> tuple[str, str]:
    """Return role and label of the darks of one exposure; beyond five they share one."""
    return ((f"series-{i}" if i else "dark"), exposure) if i < 5 else ("other", "other darks")


def _drift_panel(
    title: str,
    label: str,
    frames: Sequence[_Timed],
    values: Mapping[str, float],
    series: Sequence[tuple[str, str]],
) -> Panel:
    when = np.array([np.datetime64(frame.time, "us") for frame in frames])
    shown = np.array([values[frame.label] for frame in frames])
    y = Axis(label, *around(shown, margin=0.15), n_ticks=5)
    summary = (
        f"{title.capitalize()}: {label} of {counted(len(frames), 'frame')}, "
        f"from {shown.min():g} to {shown.max():g}"
    )
    marks = _dots(when, shown, series)
    return Panel(time_axis(when, most=4), y, marks, title, name="drift", summary=summary)


# Changes from frame to frame: `frames` of a star, `drift` of quantities, `pixel_history`.

_FAR = 5.0
"""Values further from the median are marked, standard deviations."""
_FEW = 12
"""Most spectra that are drawn a full step above each other."""


def frames(spectra: Given, *, title: str = "") -> Sheet:
    """Draw spectra of frames: the light curve, and the normalised spectra above each other.

    Parameters
    ----------
    spectra : flux (frame, x) in adu or electron, from `reduce_night` with ``per_frame``;
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
    ['Flux / median', 'Flux / median + offset']
    """
    shown = spectra_of(spectra)
    flux = shown[FLUX].values
    shapes = _shapes(shown, flux)
    if shown.sizes[FRAME] == 1:
        return Sheet(((shapes,),), (8, 3.6), title)
    return Sheet(((_light_curve(shown, flux),), (shapes,)), (8, 5.5), title, heights=(1, 2))


def _light_curve(shown: xr.Dataset, flux: Values) -> Panel:
    """Return the summed flux of each frame / median in time, with noise and exposure as bars."""
    sums, when = np.nansum(flux, axis=1), times_of(shown, "time_mid")
    scale = abs(median_of(sums))
    error, half = None, None
    if VARIANCE in shown:
        error = np.sqrt(np.nansum(shown[VARIANCE].values, axis=1)) / scale
    if "exptime" in shown.coords and np.issubdtype(when.dtype, np.datetime64):
        half = np.broadcast_to(shown["exptime"].values, when.shape) * np.timedelta64(500, "ms")
    light = sums / scale
    reach = 0.0 if error is None else error
    x = time_axis(when if half is None else np.concatenate((when - half, when + half)))
    y = Axis("Flux / median", *around(light - reach, light + reach))
    return Panel(x, y, (Points(when, light, "series-0", "", error, half),), grid="xy")


def _shapes(shown: xr.Dataset, flux: Values) -> Panel:
    """Return each spectrum divided by its median, each a step above the one before."""
    shapes = [one / median_of(one) for one in flux]
    spread = [range_of(one) for one in shapes if np.isfinite(one).any()]
    step = (1.1 if len(shapes) <= _FEW else 0.3) * float(np.median(spread or [1.0]))
    step = step if len(shapes) > 1 else 0.0
    names = [str(name) for name in shown[FRAME].values] if FRAME in shown.coords else []
    labels = names if names and len(shapes) <= len(SERIES) else [""] * len(shapes)
    curves = tuple(
        Curve(shown[X].values, one + i * step, f"series-{i % len(SERIES)}", labels[i])
        for i, one in enumerate(shapes)
    )
    x = Axis("column", *ends_of(shown[X].values))
    label = "Flux / median + offset" if step else "Flux / median"
    return Panel(x, Axis(label, *around(*(curve.y for curve in curves))), curves)


def times_of(found: xr.Dataset, name: str) -> NDArray[Any]:
    """Return the times of frames, or the frame numbers from 1 where a time is unknown."""
    if name in found.coords and found[name].dims == (FRAME,):
        when = found[name].values
        if np.issubdtype(when.dtype, np.datetime64) and not np.isnat(when).any():
            return np.asarray(when)
    return np.arange(1, found.sizes[FRAME] + 1)


def drift(times: ArrayLike, quantities: Mapping[str, ArrayLike], *, title: str = "") -> Sheet:
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
    >>> figure = ar.plots.drift(times, {"dark level (ADU)": [1.0, 2.0, 1.5, 2.5, 2.0]})
    >>> figure.axes[0].get_ylabel()
    'dark level (ADU)'
    """
    when = np.asarray(times)
    values = {name: np.asarray(quantity, np.float64) for name, quantity in quantities.items()}
    wrong = [name for name, value in values.items() if value.shape != when.shape]
    if not values or wrong or when.ndim != 1:
        found = ", ".join(f"{name!r} has {values[name].shape}" for name in wrong) or "there is none"
        raise UsageError(
            f"Quantities must have the shape of the times, {when.shape}, but {found}",
            hint="Use one value for each time.",
        )
    x = time_axis(when)
    panels = []
    for i, (name, value) in enumerate(values.items()):
        hidden = "x" if i < len(values) - 1 else ""
        points = Points(when, value, f"series-{i % len(SERIES)}", is_joined=True)
        y = Axis(name, *around(value))
        panels.append((Panel(x, y, (points,), name="drift", unnumbered=hidden, grid="xy"),))
    return Sheet(tuple(panels), (8, 0.9 + 1.6 * len(values)), title)


def pixel_history(cube: Given, y: int, x: int, *, title: str = "") -> Sheet:
    """Draw one pixel through the frames of a cube, with its robust scatter and its outliers.

    Parameters
    ----------
    cube : counts (frame, y, x), eager or lazy; of a lazy one only that pixel's rows are read.
    y, x : FITS numbers of its row and column.
    title : written over the figure; by default the row and column of the pixel.

    Raises
    ------
    UsageError
        It is not a cube, or the pixel is not in it.

    Examples
    --------
    >>> import arrayred as ar, numpy as np, xarray as xr
    >>> frames = [frame.pixels for frame in ar.SimulatedNight(n_lights=0).frames()]
    >>> cube = xr.Dataset({"counts": (("frame", "y", "x"), np.stack(frames))})
    >>> figure = ar.plots.pixel_history(cube, 10, 20)
    >>> figure.axes[0].get_ylabel()
    'counts (ADU)'
    """
    pixels = cube_of(cube)
    for name, place in ((Y, y), (X, x)):
        if place not in pixels.indexes[name]:
            first, last = pixels.indexes[name][[0, -1]]
            raise UsageError(
                f"The pixel in row {y}, column {x} is outside {name}={first}:{last}",
                keyword=name,
                value=place,
                hint="Use a pixel of the cube.",
            )
    values = pixels[COUNTS].sel({Y: y, X: x}).values.astype(np.float64)
    panel = history_panel(times_of(pixels, "time"), values, units_of(pixels, COUNTS))
    return Sheet(((panel,),), (8, 3.4), title or f"row {y}, column {x}")


def history_panel(when: NDArray[Any], values: Values, unit: str, title: str = "") -> Panel:
    """Return values of one pixel in time, their robust scatter, and those beyond 5 sigma of it.

    Parameters
    ----------
    when : (n), datetime64, or numbers of frames.
    values : (n), counts.
    unit : of the counts.
    title : written above.
    """
    finite = values[np.isfinite(values)]
    middle, scatter = (
        (float(np.median(finite)), robust_std(finite)) if finite.size else (np.nan, np.nan)
    )
    marks: list[Mark] = [Points(when, values, "series-0")]
    if np.isfinite(middle):
        marks.append(Level(middle, "y", "median", f"median {middle:.1f}"))
        ends = middle - scatter, middle + scatter
        marks.append(Span(*ends, "y", "scatter", f"robust scatter {scatter:.1f}"))
    far = np.abs(values - middle) > _FAR * scatter
    if far.any():
        label = f"outliers > {_FAR:g}σ: {np.count_nonzero(far)}"
        marks.append(Points(when[far], values[far], "outlier", label))
    y = Axis(f"counts ({unit})", *around(values, middle - scatter, middle + scatter))
    return Panel(time_axis(when), y, tuple(marks), title)
