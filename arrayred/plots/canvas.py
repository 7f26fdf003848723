"""The paper that figures are drawn on: its style, its colours, texts as they are, and `png`.

A figure is made under the style of this module and of no user, so that the same numbers give the
same bytes everywhere. Texts of headers and files are drawn letter by letter: a dollar in the name
of a target is no formula, and what cannot be printed is escaped.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Literal

from arrayred.errors import printable
from arrayred.model import BAD_PIXEL, COSMIC_RAY, NO_DATA, SATURATED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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
