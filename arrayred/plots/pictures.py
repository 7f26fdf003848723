"""Pixels as pictures: `image`, `frame`, and a sheet of a cube's frames, `cube`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from arrayred.errors import UsageError
from arrayred.model import COUNTS, DQ, DQ_MEANINGS, FRAME, X, Y, turn
from arrayred.plots.canvas import (
    FLAG_COLOURS,
    SKY_BLUE,
    VERMILION,
    add_legend,
    name_axes,
    name_figure,
    sheet,
    styled,
)
from arrayred.plots.given import cube_of, image_of, spectrum_of, units_of
from arrayred.plots.marks import aperture, counted, sky_bands
from arrayred.plots.stretch import Stretch, Values, reduced, stretch_of

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from arrayred.plots.given import Given

_MOST_ROWS, _MOST_COLUMNS = 600, 1200
"""Pixels of a picture: what is finer is averaged in blocks."""
USUAL = (1.0, 99.7)


def image(
    image: Given,
    spectrum: Given | None = None,
    *,
    title: str = "",
    stretch: tuple[float, float] = USUAL,
    flags: bool = True,
) -> Figure:
    """Draw an image with the aperture and the bands of sky of its spectrum, and flagged pixels.

    Parameters
    ----------
    image : counts (y, x) in adu or electron; `dq` where it has flags. With a spectrum along the
        columns it is turned: its rows then are the file's columns.
    spectrum : what was extracted from it, or None.
    title : written over the figure.
    stretch : the percentiles of the counts that are black and white.
    flags : whether flagged pixels are coloured.

    Raises
    ------
    UsageError
        The image is none, such as a cube; or the stretch makes no sense.

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
    shown = image_of(image) if cut is None else turn(image_of(image))
    grey = stretch_of(shown[COUNTS].values, stretch)
    with styled():
        figure = sheet(9, 0.9 + 7.2 * _shape(shown, 0.25, 0.6))
        axes = figure.add_subplot()
        draw_pixels(axes, shown, grey)
        _add_scale(axes, grey, units_of(shown, COUNTS))
        if cut is not None:
            draw_apertures(axes, cut)
        if flags and DQ in shown:
            _draw_flags(axes, shown)
        add_legend(axes)
        name_figure(figure, title)
    return figure


def frame(image2d: Given, *, title: str = "", stretch: tuple[float, float] = USUAL) -> Figure:
    """Draw one raw frame.

    Parameters
    ----------
    image2d : counts (y, x) in adu; a cube of a single frame does as well.
    title : written over the figure; by default the frame's name and type, where it has them.
    stretch : the percentiles of the counts that are black and white.

    Raises
    ------
    UsageError
        It is no image.
    """
    shown = image_of(image2d)
    return image(shown, title=title or _name_of(shown), stretch=stretch)


def _name_of(shown: xr.Dataset) -> str:
    """Return what a frame is called by its scalar coordinates, or nothing."""
    told = [str(shown[name].item()) for name in (FRAME, "frame_type") if name in shown.coords]
    if "exptime" in shown.coords:
        told.append(f"{shown['exptime'].item():g} s")
    return ", ".join(told)


def cube(
    cube: Given, *, n: int = 12, title: str = "", stretch: tuple[float, float] = USUAL
) -> Figure:
    """Draw a sheet of a cube's frames, all with the same greys.

    Parameters
    ----------
    cube : counts (frame, y, x), eager or lazy; one frame is read at a time.
    n : how many frames, evenly spread, the first and the last among them.
    title : written over the figure.
    stretch : the percentiles of the counts of all frames shown that are black and white.

    Raises
    ------
    UsageError
        It is no cube, or `n` is less than 1.
    """
    frames = cube_of(cube)
    if n < 1:
        raise UsageError(f"{n} frames were asked for", keyword="n", value=n, hint="Give 1 or more.")
    total = frames.sizes[FRAME]
    chosen = np.unique(np.linspace(0, total - 1, min(n, total)).round().astype(int))
    columns = math.ceil(math.sqrt(chosen.size))
    shown = [frames.isel({FRAME: int(i)}) for i in chosen]
    small = [reduced(one[COUNTS].values, 300, 400) for one in shown]
    grey = stretch_of(np.concatenate([one.reshape(-1) for one in small]), stretch)
    with styled():
        n_rows = math.ceil(chosen.size / columns)
        height = (9 / columns) * _shape(shown[0], 0.15, 1.2) + 0.22
        figure = sheet(9, 0.4 + n_rows * height)
        for i, (one, pixels) in enumerate(zip(shown, small, strict=True)):
            axes = figure.add_subplot(n_rows, columns, i + 1)
            _show(axes, pixels, _extent(one), grey)
            axes.set_xticks([])
            axes.set_yticks([])
            name_axes(axes, title=_shortened(_name_of(one), 160 // columns))
            axes.title.set_fontsize("small")
        name_figure(figure, title)
    return figure


def _shape(shown: xr.Dataset, least: float, most: float) -> float:
    """Return how high an image is by its width, within limits."""
    return min(max(shown.sizes[Y] / shown.sizes[X], least), most)


def _shortened(text: str, most: int) -> str:
    """Return a text, its middle left out where it is too long.

    Examples
    --------
    >>> _shortened("a-long-name-0017", 9)
    'a-lo…0017'
    """
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def draw_pixels(axes: Axes, shown: xr.Dataset, grey: Stretch) -> None:
    """Draw counts (y, x) under FITS pixel numbers, in blocks where they are finer than paper."""
    _show(axes, reduced(shown[COUNTS].values, _MOST_ROWS, _MOST_COLUMNS), _extent(shown), grey)
    name_axes(axes, x="column", y="row")


def _show(
    axes: Axes, pixels: Values, extent: tuple[float, float, float, float], grey: Stretch
) -> None:
    axes.imshow(
        pixels,
        origin="lower",
        aspect="auto",
        extent=extent,
        cmap="gray",
        norm=grey.norm,
        interpolation_stage="data",
    )
    axes.set(xlim=extent[:2], ylim=extent[2:])


def _extent(shown: xr.Dataset) -> tuple[float, float, float, float]:
    """Return the edges of the outer pixels in FITS numbers: left, right, bottom, top."""
    x, y = shown[X].values, shown[Y].values
    return float(x[0]) - 0.5, float(x[-1]) + 0.5, float(y[0]) - 0.5, float(y[-1]) + 0.5


def _add_scale(axes: Axes, grey: Stretch, units: str) -> None:
    """Add the scale of greys, its ticks evenly spread."""
    bar = axes.figure.colorbar(axes.images[0], ax=axes, pad=0.01, fraction=0.04)
    ticks = grey.ticks()
    bar.set_ticks(ticks, labels=[f"{tick:.10g}" for tick in ticks])
    bar.ax.minorticks_off()
    name_axes(bar.ax, y=f"counts ({units})")


def draw_apertures(axes: Axes, spectrum: xr.Dataset) -> None:
    """Draw the edges of a spectrum's aperture along its trace, and of its bands of sky."""
    for i, edge in enumerate(aperture(spectrum)):
        label = None if i else "aperture"
        axes.plot(spectrum[X].values, edge, color=VERMILION, linewidth=1.2, label=label)
    for i, (first, last) in enumerate(sky_bands(spectrum)):
        for row in (first - 0.5, last + 0.5):
            label = "sky" if i == 0 and row < first else None
            axes.axhline(row, color=SKY_BLUE, linewidth=1.2, label=label)


def _draw_flags(axes: Axes, shown: xr.Dataset) -> None:
    """Colour flagged pixels; those that fall onto one dot of the picture are one."""
    from matplotlib.colors import to_rgba

    flags = shown[DQ].values
    colours = np.zeros((*reduced_shape(flags.shape), 4))
    for bit, name in DQ_MEANINGS.items():
        hit = (flags & bit) != 0
        if hit.any():
            dots = reduced(hit, _MOST_ROWS, _MOST_COLUMNS) > 0
            colours[dots] = to_rgba(FLAG_COLOURS[bit])
            label = f"{name.replace('_', ' ')}: {counted(int(np.count_nonzero(hit)), 'pixel')}"
            axes.plot([], [], "s", markersize=4, color=FLAG_COLOURS[bit], label=label)
    if colours.any():
        axes.imshow(colours, origin="lower", aspect="auto", extent=_extent(shown),
                    interpolation="nearest")  # fmt: skip


def reduced_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return the shape of a picture of pixels of a shape."""
    n_rows, n_columns = shape
    blocks = -(-n_rows // _MOST_ROWS), -(-n_columns // _MOST_COLUMNS)
    return -(-n_rows // blocks[0]), -(-n_columns // blocks[1])
