"""Describe the figures of quantities in time: frames of a night, light curves, drifts.

A lane for each group, a bar for each exposure; below them the quantities that drift: the
temperature of the detector, from the headers, and the level, the median of a few rows (0.3 ms a
frame). Where nothing was exposed for 5 hours the time axis is cut, so that a month of nights shows
its exposures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import UsageError, counted
from arrayred.io.pixel_checks import frames_to_probe, sample_frame
from arrayred.kernels.rows import robust_std
from arrayred.model import COUNTS, FLUX, FRAME, VARIANCE, X, Y
from arrayred.plots.figures import cube_of, median_of, range_of, spectra_of, units_of
from arrayred.plots.panels import (
    COLOURS,
    SERIES,
    Axis,
    Bars,
    Curve,
    Level,
    Mark,
    Panel,
    Points,
    Sheet,
    Span,
    Values,
    around,
    ends_of,
    time_axis,
)

if TYPE_CHECKING:
    from datetime import datetime

    import xarray as xr
    from numpy.typing import ArrayLike

    from arrayred.io.frames import Frame
    from arrayred.plots.figures import Given

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
