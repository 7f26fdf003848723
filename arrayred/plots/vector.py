"""A figure as SVG text to be put into a page: `svg`.

matplotlib writes the text, `compact` makes it small and harmless for the page around it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from arrayred.plots.canvas import painting
from arrayred.plots.compact import compacted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NOTHING = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_DPI = 76
"""Dots an inch of the pictures within: 640 columns in a figure of 9 inches."""


def svg(figure: Figure, *, label: str = "") -> str:
    """Return a figure as SVG text, the same for the same figure, that needs nothing else.

    Lines are thinned to what can be seen, pictures have 32 greys, texts stay texts. Several may
    stand in one HTML page: no style leaks out of them, and what they refer to within has names of
    its own.

    Parameters
    ----------
    figure : as a function of this package gives it.
    label : for those who cannot see it.

    Examples
    --------
    >>> import arrayred as ar
    >>> text = ar.plots.svg(ar.plots.spectrum(ar.SimulatedNight().truth()), label="a star")
    >>> text.startswith("<svg"), text.endswith("</svg>"), len(text) < 60_000
    (True, True, True)
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    with painting(figure, _DPI):
        paint = FigureCanvasSVG(figure).print_svg
        paint(buffer, metadata=_NOTHING)  # type: ignore[no-untyped-call]
    return compacted(buffer.getvalue(), label)
