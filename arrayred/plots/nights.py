"""Draw what changes through a night: frames in time, light curves, drifts.

A lane for each group, a bar for each exposure; below it what drifts: the temperature of the
detector, as headers tell it, and the level, the median of a few rows (0.3 ms a frame). Where
nothing was exposed for hours the time axis is cut, so that a month of nights shows its exposures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import UsageError
from arrayred.io.pixel_checks import affordable, sample_of
from arrayred.kernels.noise import finite_median
from arrayred.kernels.rows import robust_std
from arrayred.model import COUNTS, FRAME, VARIANCE, X, Y
from arrayred.plots.style import (
    BLACK,
    BLUE,
    FLUX,
    GREY,
    ORANGE,
    PURPLE,
    SERIES,
    VERMILION,
    add_legend,
    cube_of,
    name_axes,
    name_figure,
    name_time,
    sheet,
    spectra_of,
    styled,
    times_of,
    units_of,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from arrayred.plots.style import Given

if TYPE_CHECKING:
    from datetime import datetime

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from arrayred.io.frames import Frame

    class _Group(Protocol):
        """What is drawn of a group: its frames."""

        @property
        def frames(self) -> tuple[Frame, ...]: ...

    class _Night(Protocol):
        """What is drawn of a night: its folder, and its groups by name."""

        @property
        def folder(self) -> Path: ...

        @property
        def groups(self) -> Mapping[str, _Group]: ...


_COLOURS = {"bias": GREY, "dark": BLACK, "flat": ORANGE, "arc": PURPLE, "light": BLUE}
_MOST_LANES = 40
_MOST_PARTS = 6
_PAUSE = timedelta(hours=5)
"""What is longer without an exposure is cut out."""


class _Bar(NamedTuple):
    """An exposure: its frame, when it began and ended, its lane."""

    frame: Frame
    start: datetime
    end: datetime
    lane: str

    @property
    def colour(self) -> str:
        return _COLOURS.get(self.lane.partition("/")[0], VERMILION)


def night(night: _Night, *, title: str = "", levels: bool = True) -> Figure:
    """Draw the frames of a night in time, and the temperature and the level of the detector.

    Parameters
    ----------
    night : as `open_night` gives it.
    title : written over the figure.
    levels : whether a few rows of each frame are read for its level.

    Raises
    ------
    UsageError
        It is no night, or no frame tells when it was taken.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import arrayred as ar
    >>> from arrayred.io.products import write_frames
    >>> with TemporaryDirectory() as folder:
    ...     _ = write_frames(ar.SimulatedNight().frames(), Path(folder))
    ...     figure = ar.plots.night(ar.open_night(folder))
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['', 'CCD (deg C)', 'level (adu)']
    """
    bars = list(_bars_of(night))
    lanes = list(dict.fromkeys(bar.lane for bar in bars))[:_MOST_LANES]
    shown = [bar for bar in bars if bar.lane in set(lanes)]
    parts, below = _parts_of(shown), _quantities(shown, levels=levels)
    with styled():
        heights = (0.5 + 0.24 * len(lanes), *(1.2 for _ in below))
        widths = _widths_of(parts)
        figure = sheet(8, sum(heights) + 0.6)
        panels = figure.subplots(
            len(heights),
            len(parts),
            sharex="col",
            sharey="row",
            height_ratios=heights,
            width_ratios=widths,
            squeeze=False,
        )
        for column, part, width in zip(panels.T, parts, widths, strict=True):
            _draw_part(column, part, lanes, list(below.values()))
            ticks = max(int(8 * width / sum(widths)), 2)
            span = part[0].start, part[0].start + _length_of(part)
            name_time(column[-1], np.array([_utc(time) for time in span]), label=False, most=ticks)
        for axes, name in zip(panels[1:, 0], below, strict=True):
            name_axes(axes, y=name)
        figure.supxlabel("time (UTC)", fontsize="medium")
        name_figure(figure, title)
    return figure


def _bars_of(night: Any) -> Iterator[_Bar]:
    """Yield the exposures that tell their time, by group, the earliest group first."""
    if not isinstance(getattr(night, "groups", None), Mapping):
        raise UsageError(
            f"This figure is drawn of a night, not of {type(night).__name__}",
            hint="Give what open_night returns.",
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
            f"{night.folder} has no frame that tells when it was taken",
            keyword="DATE-OBS",
            hint="Nothing can be drawn in time.",
        )
    for _, lane in known:
        yield from lane


def _parts_of(bars: list[_Bar]) -> list[list[_Bar]]:
    """Return the exposures in parts between long pauses; all at once where they are too many."""
    parts: list[list[_Bar]] = []
    latest = None
    for bar in sorted(bars, key=lambda bar: (bar.start, bar.lane)):
        if latest is None or bar.start - latest > _PAUSE:
            parts.append([])
        parts[-1].append(bar)
        latest = bar.end if latest is None else max(latest, bar.end)
    return parts if len(parts) <= _MOST_PARTS else [[bar for part in parts for bar in part]]


def _quantities(bars: list[_Bar], *, levels: bool) -> dict[str, dict[str, float]]:
    """Return what is known of the frames, by label, under the name of its axis."""
    frames = [bar.frame for bar in bars]
    found = {"CCD (deg C)": {f.label: f.ccd_temp for f in frames if f.ccd_temp is not None}}
    if levels:
        samples = {frame.label: sample_of(frame) for frame in affordable(frames)}
        found["level (adu)"] = {name: one.level for name, one in samples.items() if one is not None}
    return {name: values for name, values in found.items() if values}


def _draw_part(
    panels: Any, part: list[_Bar], lanes: list[str], quantities: list[dict[str, float]]
) -> None:
    """Draw the exposures of one part, and the quantities of their frames below."""
    _draw_bars(panels[0], part, lanes)
    for axes, values in zip(panels[1:], quantities, strict=True):
        _draw_values(axes, part, values)
    for axes in panels:
        axes.grid(axis="x", alpha=0.25, linewidth=0.5)


def _length_of(part: list[_Bar]) -> timedelta:
    """Return how long a part lasts, ten minutes at least."""
    whole = max(bar.end for bar in part) - part[0].start
    return max(whole, timedelta(minutes=10))


def _widths_of(parts: list[list[_Bar]]) -> list[float]:
    """Return how wide the parts are drawn: as long as they last, but not too narrow for a date."""
    hours = [_length_of(part) / timedelta(hours=1) for part in parts]
    return [max(each, 0.25 * max(hours)) for each in hours]


def _utc(time: datetime) -> np.datetime64:
    return np.datetime64(time.replace(tzinfo=None), "us")


def _draw_bars(axes: Axes, part: list[_Bar], lanes: list[str]) -> None:
    """Draw a bar for each exposure, white between them where they are long enough to part."""
    from matplotlib.dates import date2num

    axes.xaxis_date()
    for bar in part:
        start = float(date2num(_utc(bar.start)))  # type: ignore[no-untyped-call]
        length = bar.end - bar.start
        edge = "white" if length > _length_of(part) / 80 else bar.colour
        span = [(start, length / timedelta(days=1))]
        axes.broken_barh(
            span, (lanes.index(bar.lane) - 0.35, 0.7),
            facecolor=bar.colour, edgecolor=edge, linewidth=0.7,
        )  # fmt: skip
    axes.set(ylim=(len(lanes) - 0.4, -0.6))
    axes.set_yticks(range(len(lanes)), labels=lanes, parse_math=False)
    axes.tick_params(axis="y", length=0)


def _draw_values(axes: Axes, part: list[_Bar], values: Mapping[str, float]) -> None:
    """Draw a quantity of each frame in the colour of its type, levels far apart by their order."""
    for colour in dict.fromkeys(bar.colour for bar in part):
        known = [bar for bar in part if bar.colour == colour and bar.frame.label in values]
        axes.plot(
            [_utc(bar.start + (bar.end - bar.start) / 2) for bar in known],
            [values[bar.frame.label] for bar in known],
            "o",
            markersize=3,
            color=colour,
        )
    axes.margins(y=0.15)
    every = list(values.values())
    if min(every) > 0 and max(every) > 20 * min(every):
        axes.set_yscale("log")


# What changes from frame to frame: `frames` of a star, `drift` of levels, `pixel_history`.

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
