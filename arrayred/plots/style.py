"""The style of figures: paper, colours, stretch, marks, times.

A figure is made under the style of this module and of no user, so that the same numbers give the
same bytes everywhere. Texts of headers and files are drawn letter by letter: a dollar in the name
of a target is no formula, and what cannot be printed is escaped.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import UsageError, printable
from arrayred.kernels.rows import robust_std
from arrayred.model import (
    BAD_PIXEL,
    COSMIC_RAY,
    COUNTS,
    DQ_MEANINGS,
    FRAME,
    NO_DATA,
    SATURATED,
    Rows,
    X,
    Y,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.colors import FuncNorm
    from matplotlib.figure import Figure

Place = Literal["above", "best", "upper right", "lower right"]
BLACK, BLUE, SKY_BLUE, GREEN = "#000000", "#0072B2", "#56B4E9", "#009E73"
ORANGE, VERMILION, PURPLE, GREY = "#E69F00", "#D55E00", "#CC79A7", "#666666"
"""From the palette of Okabe and Ito, which the colour-blind tell apart."""
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY_BLUE, BLACK)
"""The colours of several things in one panel, in order."""
FLAG_COLOURS = {BAD_PIXEL: BLACK, SATURATED: PURPLE, COSMIC_RAY: BLUE, NO_DATA: GREEN}
DPI = 110
_LINE = 110
"""Letters of a legend that fit above the axes."""

_STYLE: dict[str, object] = {
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 5),
    "axes.formatter.useoffset": False,
    "axes.linewidth": 0.7,
    "axes.titlesize": 10,
    "font.size": 9,
    "image.composite_image": False,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 0.9,
    "svg.fonttype": "none",
    "svg.hashsalt": "arrayred",
    "xtick.direction": "in",
    "xtick.top": True,
    "ytick.direction": "in",
    "ytick.right": True,
}


def styled() -> AbstractContextManager[None]:
    """Return the style of all figures, whatever a user has set."""
    from matplotlib import style

    return style.context(["default", _STYLE])


def sheet(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, laid out by itself."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=DPI)


def name_figure(figure: Figure, title: str) -> None:
    """Write a title over a figure, letter by letter; nothing where it is blank."""
    if title:
        figure.suptitle(printable(title), parse_math=False)


def name_axes(axes: Axes, *, x: str = "", y: str = "", title: str = "") -> None:
    """Write what the axes are, letter by letter."""
    if x:
        axes.set_xlabel(printable(x), parse_math=False)
    if y:
        axes.set_ylabel(printable(y), parse_math=False)
    if title:
        axes.set_title(printable(title), parse_math=False)


def add_legend(axes: Axes, *, place: Place = "above") -> None:
    """Explain what is labelled, above the right end of the axes or where matplotlib says."""
    handles, names = axes.get_legend_handles_labels()
    if not handles:
        return
    names = [printable(name) for name in names]
    if place == "above":
        longest = max(map(len, names)) + 6
        columns = max(min(len(names), _LINE // longest), 1)
        legend = axes.legend(
            handles, names, ncols=columns, loc="lower right", borderaxespad=0.2, columnspacing=1.2
        )
        legend.set_bbox_to_anchor((1.0, 1.0), axes.transAxes)
    else:
        legend = axes.legend(handles, names, loc=place)
    for text in legend.get_texts():
        text.set_parse_math(False)


def png(figure: Figure, *, dpi: float = DPI) -> bytes:
    """Return a figure as PNG bytes, the same for the same figure.

    Parameters
    ----------
    figure : as a function of this package gives it.
    dpi : pixels an inch.

    Examples
    --------
    >>> import arrayred as ar
    >>> truth = ar.SimulatedNight().truth()
    >>> png(ar.plots.spectrum(truth))[1:4]
    b'PNG'
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    with painting(figure, dpi):
        paint = FigureCanvasAgg(figure).print_png
        paint(buffer, metadata={"Software": None})  # type: ignore[no-untyped-call]
    return buffer.getvalue()


@contextmanager
def painting(figure: Figure, dpi: float) -> Iterator[None]:
    """Let a figure be drawn at a resolution, laid out once for all of them; then all is as before.

    What matplotlib's own `savefig` does beside that, drawing it once in vain, takes a third of it.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas, own_dpi = figure.canvas, figure.dpi
    with styled():
        try:
            figure.set_canvas(FigureCanvasAgg(figure))
            figure.dpi = DPI
            if (engine := figure.get_layout_engine()) is not None:
                engine.execute(figure)
            figure.set_layout_engine("none")
            figure.dpi = dpi
            yield
        finally:
            figure.dpi = own_dpi
            figure.set_canvas(canvas)


# What a figure was given: an image, a cube, a spectrum; or an error that says what it is instead.
#
# A node of a reduced night's tree and a bare array with labels do as well as a Dataset. Labels
# that are missing are counted from 1, as FITS does.

if TYPE_CHECKING:
    import xarray as xr

    Given = xr.Dataset | xr.DataArray | xr.DataTree

FLUX = "flux"
_KINDS = {
    (Y, X): ("an image (y, x)", "plots.image or plots.frame"),
    (FRAME, Y, X): ("a cube (frame, y, x)", "plots.cube, or select a frame"),
    (X,): ("a spectrum (x)", "plots.spectrum"),
    (FRAME, X): ("spectra of frames (frame, x)", "plots.frames"),
}


def image_of(given: Given) -> xr.Dataset:
    """Return an image: counts (y, x), in memory; a cube of a single frame is one.

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
    """Return the unit of a variable, "adu" where nothing tells it."""
    return str(found[name].attrs.get("units", "adu"))


def _dataset(given: Given, name: str) -> xr.Dataset:
    import xarray as xr

    if isinstance(given, xr.DataTree):
        if not given.data_vars and given.children:
            inside = ", ".join(repr(child) for child in given.children)
            raise UsageError(
                f"{given.path} of the tree holds no pixels itself, but {inside}",
                hint="Give one of those.",
            )
        return given.to_dataset()
    if isinstance(given, xr.DataArray):
        return given.rename(name).to_dataset()
    if isinstance(given, xr.Dataset):
        return given
    raise UsageError(
        f"A figure is drawn of a Dataset or DataArray with names of dims, not of {_kind(given)}",
        hint="Give what open_product, reduce_night or a step returns.",
    )


def _kind(given: Any) -> str:
    shape = getattr(given, "shape", None)
    return type(given).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")


def _expected(found: xr.Dataset, name: str, dims: tuple[str, ...]) -> xr.Dataset:
    """Return what has a variable of some dims, of numbers and not empty; else say what it is."""
    if name in found and found[name].dims == dims:
        if found[name].size and np.issubdtype(found[name].dtype, np.number):
            return found
        raise UsageError(
            f"There is nothing to draw: {name} is {found[name].dtype} of shape {found[name].shape}",
            hint="Give numbers, at least one of each dim.",
        )
    wanted, (what, where) = _KINDS[dims], _found(found)
    raise UsageError(
        f"This figure is drawn of {wanted[0]} with {name!r}, but this is {what}",
        hint=f"Use {where}." if where else "Select or transpose first.",
    )


def _found(found: xr.Dataset) -> tuple[str, str]:
    """Return what a Dataset is in our words, and what draws it."""
    for name in (COUNTS, FLUX):
        if name in found:
            dims = tuple(map(str, found[name].dims))
            return _KINDS.get(dims, (f"{name} {dims}", ""))
    if {"mean", "median"} <= set(found.data_vars):
        return "statistics of rows", "plots.rows"
    return f"a Dataset of {', '.join(map(str, found.data_vars)) or 'nothing'}", ""


def _labelled(found: xr.Dataset) -> xr.Dataset:
    """Return it with labels along y and x, from 1 where it has none."""
    missing = [dim for dim in (Y, X) if dim in found.sizes and dim not in found.coords]
    return found.assign_coords({dim: np.arange(1, found.sizes[dim] + 1) for dim in missing})


# What a spectrum tells of an image: its aperture, its bands of sky, other light, its flags.

Values = NDArray[np.float64]


class Band(NamedTuple):
    """Rows of an image, both included, and what they are."""

    first: int
    last: int
    colour: str
    label: str


def aperture(spectrum: xr.Dataset) -> list[Values]:
    """Return the lower and the upper edge of the aperture (x), in FITS rows; none if unknown."""
    facts = spectrum.attrs
    if "trace" in spectrum.data_vars and "half_height" in facts:
        center, half = spectrum["trace"].values, facts["half_height"]
        return [center - half, center + half]
    if "first_row" not in facts:
        return []
    level = np.ones(spectrum.sizes[X])
    return [level * (facts["first_row"] - 0.5), level * (facts["last_row"] + 0.5)]


def sky_bands(spectrum: xr.Dataset) -> list[tuple[int, int]]:
    """Return first and last row of each band of sky: the spectrum's, else the procedure's."""
    facts = spectrum.attrs
    found = [facts[name] for name in ("sky_below", "sky_above") if name in facts]
    if not found and facts.get("sky_first_row", 1) <= facts.get("sky_last_row", 0):
        found = [(facts["sky_first_row"], facts["sky_last_row"])]
    return [(int(first), int(last)) for first, last in found]


def bands(spectrum: xr.Dataset | Rows) -> list[Band]:
    """Return the rows of the spectrum, of its sky, and of what else is bright."""
    if isinstance(spectrum, Rows):
        others = [(run.first, run.last, run.snr, run.state) for run in spectrum.others]
        return [_taken(spectrum.first, spectrum.last), *(_other(*other) for other in others)]
    facts = spectrum.attrs
    if "first_row" not in facts:
        return []
    return [
        _taken(facts["first_row"], facts["last_row"]),
        *(Band(low, high, SKY_BLUE, f"sky {low}:{high}") for low, high in sky_bands(spectrum)),
        *(_other(run[0], run[1], None, "left") for run in facts.get("other_rows", ())),
    ]


def _taken(first: int, last: int) -> Band:
    return Band(first, last, VERMILION, f"spectrum {first}:{last}")


def _other(first: int, last: int, snr: float | None, state: str) -> Band:
    told = "" if snr is None else f", S/N {snr:.0f}"
    what = {"taken": "spectrum of its own", "sharp": "sharper than a star"}.get(state, "not taken")
    where = f"{first}:{last}" if last > first else str(first)
    return Band(first, last, GREY, f"{what} {where}{told}")


def mark_flags(axes: Axes, x: NDArray[np.int64], flags: NDArray[np.uint8]) -> None:
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
            color=FLAG_COLOURS[bit],
            label=f"{name.replace('_', ' ')}: {counted(where.size, 'column')}",
        )


def counted(n: int, what: str) -> str:
    """Return how many of something there are.

    Examples
    --------
    >>> counted(1, "pixel"), counted(1493, "pixel")
    ('1 pixel', '1493 pixels')
    """
    return f"{n} {what}{'s' * (n != 1)}"


# How counts become grey: `stretch_of` shows the noise of the sky and a bright star at once.
#
# Between two percentiles, linear within twice the noise about the sky and logarithmic beyond: the
# inverse hyperbolic sine (Lupton, Gunn and Szalay 1999). What is finer than the paper is averaged
# in blocks first (`reduced`), so that a picture costs what its size does.

Counts = NDArray[np.floating[Any]]
_SAMPLE = 1 << 17


class Stretch(NamedTuple):
    """The grey of counts: black and white, and the level and width about which it is linear."""

    low: float
    high: float
    level: float
    width: float

    @property
    def norm(self) -> FuncNorm:
        """Return it as matplotlib's norm."""
        from matplotlib.colors import FuncNorm

        pair = (partial(_bent, self.level, self.width), partial(_straight, self.level, self.width))
        return FuncNorm(pair, vmin=self.low, vmax=self.high)

    def grey(self, counts: Counts) -> NDArray[np.float64]:
        """Return greys from 0 to 1; what is not finite is 0."""
        low, high = (float(_bent(self.level, self.width, end)) for end in (self.low, self.high))
        grey = (_bent(self.level, self.width, counts) - low) / (high - low)
        return np.where(np.isfinite(grey), np.clip(grey, 0.0, 1.0), 0.0)

    def ticks(self, n: int = 5) -> list[float]:
        """Return counts evenly spread over the greys, as round as their distances allow."""
        low, high = (float(_bent(self.level, self.width, end)) for end in (self.low, self.high))
        counts = _straight(self.level, self.width, np.linspace(low, high, 2 * n + 1)[1::2])
        gaps = np.minimum(np.gradient(counts), np.diff(counts, append=np.inf))
        digits = np.ceil(-np.log10(np.maximum(gaps, 1e-300))).astype(int)
        return [round(float(c), int(d)) for c, d in zip(counts, digits, strict=True)]


def _bent(level: float, width: float, counts: Any) -> Any:
    return np.arcsinh((counts - level) / width)


def _straight(level: float, width: float, bent: Any) -> Any:
    return level + width * np.sinh(bent)


def stretch_of(counts: Counts, percentiles: tuple[float, float] = (1.0, 99.7)) -> Stretch:
    """Return how to show counts (y, x), any dtype; an even or empty image has a stretch too.

    Raises
    ------
    UsageError
        The percentiles are not two rising numbers from 0 to 100.

    Examples
    --------
    >>> stretch = stretch_of(np.arange(101.0).reshape(1, 101), (0, 100))
    >>> stretch.low, stretch.high, stretch.level
    (0.0, 100.0, 50.0)
    """
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise UsageError(
            f"A stretch from {low} to {high} percent was asked for",
            keyword="stretch",
            value=percentiles,
            hint="Give two rising numbers from 0 to 100.",
        )
    flat = np.ascontiguousarray(counts).reshape(-1)
    sample = flat[:: max(flat.size // _SAMPLE, 1)].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return Stretch(0.0, 1.0, 0.0, 1.0)
    first, middle, last = map(float, np.percentile(sample, (low, 50.0, high)))
    noise = robust_std(sample) or (last - first) / 10 or max(abs(middle), 1.0) * 1e-3
    if not last > first:
        first, last = middle - noise, middle + noise
    return Stretch(first, last, middle, 2 * noise)


def reduced(counts: Counts, most_rows: int, most_columns: int) -> NDArray[np.float64]:
    """Return an image (y, x) averaged in blocks, the finite pixels of each, so that it fits.

    Rows and columns that fill no block at the end are a smaller block.

    Examples
    --------
    >>> reduced(np.array([[1.0, 3.0, 5.0], [1.0, np.nan, 5.0]]), 1, 2)
    array([[1.66666667, 5.        ]])
    """
    rows, columns = (
        np.arange(0, size, -(-size // most))
        for size, most in zip(counts.shape, (most_rows, most_columns), strict=True)
    )
    if rows.size == counts.shape[0] and columns.size == counts.shape[1]:
        return np.asarray(counts, np.float64)
    values = np.asarray(counts, np.float64)
    sums = _summed(values, rows, columns)
    if np.isfinite(sums).all():
        high, wide = (
            np.diff(starts, append=size)
            for starts, size in zip((rows, columns), counts.shape, strict=True)
        )
        return np.asarray(sums / (high[:, np.newaxis] * wide))
    known = np.isfinite(values)
    numbers = _summed(known.astype(np.float64), rows, columns)
    with np.errstate(invalid="ignore"):
        return _summed(np.where(known, values, 0.0), rows, columns) / numbers


def _summed(values: NDArray[np.float64], rows: Any, columns: Any) -> NDArray[np.float64]:
    """Return the sums of blocks that begin at some rows and columns."""
    return np.asarray(np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1))


# Time along the axis: dates as ISO writes them, in UTC; numbers of frames where no time is known.
#
# Months by name would depend on the language of the machine, and what matplotlib chooses on its
# version: ticks are whole steps of the clock, as many as there is room for.

_STEPS: tuple[tuple[Literal["m", "D", "M", "Y"], int], ...] = (
    *(("m", step) for step in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720)),
    *(("D", step) for step in (1, 2, 5, 10)),
    *(("M", step) for step in (1, 2, 3, 6)),
    *(("Y", step) for step in (1, 2, 5, 10, 20, 50)),
)
"""From one tick to the next: minutes, days, months, years."""
_LEAST = np.timedelta64(600, "s")
"""The shortest time that is drawn."""


def times_of(found: xr.Dataset, name: str) -> NDArray[Any]:
    """Return the times of frames, or their numbers from 1 where not all are known."""
    if name in found.coords and found[name].dims == (FRAME,):
        when = found[name].values
        if np.issubdtype(when.dtype, np.datetime64) and not np.isnat(when).any():
            return np.asarray(when)
    return np.arange(1, found.sizes[FRAME] + 1)


def name_time(axes: Axes, when: NDArray[Any], *, label: bool = True, most: int = 8) -> None:
    """Let time in UTC run along the axes, or the number of the frame.

    Parameters
    ----------
    axes : where something is drawn over the times.
    when : datetime64, or numbers of frames; the axes reach from the first to the last.
    label : whether to say what it is.
    most : ticks there is room for.
    """
    from matplotlib.ticker import MaxNLocator

    if not np.issubdtype(when.dtype, np.datetime64):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        name_axes(axes, x="frame")
        return
    if label:
        name_axes(axes, x="time (UTC)")
    if not when.size:
        return
    first, last = (time.astype("datetime64[s]") for time in (when.min(), when.max()))
    pad = max((last - first) / 25, (_LEAST - (last - first)) / 2)
    axes.set_xlim(_day(first - pad), _day(last + pad))
    unit, ticks = _ticks(first - pad, last + pad, most)
    axes.set_xticks([_day(tick) for tick in ticks], labels=_names(ticks, unit))


def _ticks(first: np.datetime64, last: np.datetime64, most: int) -> tuple[str, NDArray[Any]]:
    """Return at most so many round times between two, but one at least; and what they count.

    Examples
    --------
    >>> unit, ticks = _ticks(np.datetime64("2020-11-02T22:10"), np.datetime64("2020-11-03T05"), 3)
    >>> unit, ticks.astype(str).tolist()
    ('m', ['2020-11-03T00:00', '2020-11-03T02:00', '2020-11-03T04:00'])
    """
    found: tuple[str, NDArray[Any]] = ("m", np.array([first], "datetime64[m]"))
    for unit, step in _STEPS:
        low, high = (int(time.astype(f"datetime64[{unit}]").astype(int)) for time in (first, last))
        if (high - low) // step > 20 * most:
            continue
        counts = np.arange(-(-low // step) * step, high + 1, step)
        ticks = counts.astype(f"datetime64[{unit}]")
        ticks = ticks[ticks >= first]
        if not ticks.size:
            break
        found = unit, ticks
        if ticks.size <= most:
            break
    return found


def _names(ticks: NDArray[Any], unit: str) -> list[str]:
    r"""Return what stands at ticks: the part that changes, and below it the rest where it does.

    Examples
    --------
    >>> _names(np.array(["2020-11-02T22:00", "2020-11-02T23:00", "2020-11-03T00:00"], "M8[m]"), "m")
    ['22:00\n2020-11-02', '23:00', '00:00\n11-03']
    >>> _names(np.array(["2020-12-30", "2021-01-01"], "M8[D]"), "D")
    ['12-30\n2020', '01-01\n2021']
    """
    texts = [str(tick) for tick in ticks]
    if unit in ("M", "Y"):
        return texts
    split = 10 if unit == "m" else 4
    names = []
    for i, text in enumerate(texts):
        rest = text[:split] if i == 0 or unit == "D" else text[5:split]
        is_new = i == 0 or text[:split] != texts[i - 1][:split]
        names.append(text[split + 1 :] + (f"\n{rest}" if is_new else ""))
    return names


def _day(time: np.datetime64) -> float:
    """Return a time as days since 1970, as matplotlib counts them."""
    return float((time - np.datetime64(0, "s")) / np.timedelta64(86400, "s"))


# Which points of a line are to be seen: `thinned`.


def thinned(x: Values, y: Values, step: float) -> NDArray[np.intp]:
    """Return which points of a line suffice: the lowest and the highest within each step of x.

    Neighbours on the line within one step are one run; the first and the last point stay.

    Parameters
    ----------
    x, y : where the points are, in the order of the line, which may turn back.
    step : of x.

    Examples
    --------
    >>> thinned(np.array([0.0, 0.2, 0.4, 0.6, 1.1]), np.array([1.0, 3.0, 0.0, 2.0, 5.0]), 1.0)
    array([0, 1, 2, 4])
    """
    if x.size < 3:
        return np.arange(x.size)
    starts = np.concatenate(([0], np.flatnonzero(np.diff(np.floor(x / step))) + 1))
    run = np.repeat(np.arange(starts.size), np.diff(np.append(starts, x.size)))
    order = np.lexsort((y, run))
    stops = np.append(starts[1:], x.size) - 1
    return np.unique(np.concatenate((order[starts], order[stops], [0, x.size - 1])))
