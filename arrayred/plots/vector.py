"""A figure as SVG text to be put into a page: `svg`."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from arrayred.plots.canvas import styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NOTHING = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def svg(figure: Figure, *, label: str = "") -> str:
    """Return a figure as SVG text, the same for the same figure, that needs nothing else.

    Parameters
    ----------
    figure : as a function of this package gives it.
    label : for those who cannot see it.

    Examples
    --------
    >>> import arrayred as ar
    >>> text = ar.plots.svg(ar.plots.spectrum(ar.SimulatedNight().truth()))
    >>> text.startswith("<svg"), text.rstrip().endswith("</svg>")
    (True, True)
    """
    buffer = io.StringIO()
    with styled():
        figure.savefig(buffer, format="svg", dpi=100, metadata=_NOTHING)
    figure.set_layout_engine("none")
    text = buffer.getvalue()
    return text[text.index("<svg") :]
