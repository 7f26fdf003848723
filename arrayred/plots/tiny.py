"""Pictures so small and fast that an index shows thousands: `thumbnail` and `sparkline`.

Both are numpy alone, since matplotlib takes 40 ms for the smallest figure.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from arrayred.errors import UsageError, printable
from arrayred.model import COUNTS
from arrayred.plots.canvas import VERMILION
from arrayred.plots.given import FLUX, image_of, spectrum_of
from arrayred.plots.portable import encode_png
from arrayred.plots.stretch import reduced, stretch_of
from arrayred.plots.thin import thinned

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from arrayred.plots.given import Given


def thumbnail(
    image2d: Given, *, width: int = 160, stretch: tuple[float, float] = (1.0, 99.7)
) -> bytes:
    """Return an image as a small grey PNG, row 1 at the bottom.

    Parameters
    ----------
    image2d : counts (y, x).
    width : columns of the picture at most; a high image is no higher than wide.
    stretch : the percentiles of the counts that are black and white.

    Raises
    ------
    UsageError
        It is no image, or the width is less than 1.

    Examples
    --------
    >>> import arrayred as ar, xarray as xr
    >>> frame = next(ar.SimulatedNight().frames())
    >>> picture = ar.plots.thumbnail(xr.DataArray(frame.pixels, dims=("y", "x")))
    >>> picture[1:4], len(picture) < 20_000
    (b'PNG', True)
    """
    _require_size("width", width)
    pixels = image_of(image2d)[COUNTS].values
    small = reduced(pixels, width, width)
    grey = stretch_of(small, stretch).grey(small)
    return encode_png(np.round(grey[::-1] * 255).astype(np.uint8))


def sparkline(
    spectrum: Given, *, width: int = 160, height: int = 36, colour: str = VERMILION, label: str = ""
) -> str:
    """Return the shape of a spectrum as a small SVG text that needs nothing else.

    Parameters
    ----------
    spectrum : flux (x).
    width, height : in pixels.
    colour : of the line, as CSS writes it.
    label : for those who cannot see it.

    Raises
    ------
    UsageError
        It is no spectrum, or a size is less than 1.

    Examples
    --------
    >>> import arrayred as ar
    >>> text = ar.plots.sparkline(ar.SimulatedNight().truth(), label="a star")
    >>> text.startswith('<svg xmlns="http://www.w3.org/2000/svg"'), len(text) < 4_000
    (True, True)
    """
    _require_size("width", width)
    _require_size("height", height)
    path = _path(spectrum_of(spectrum)[FLUX].values, width, height)
    name = f' aria-label="{escape(printable(label))}"' if label else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img"{name}>'
        f'<path d="{path}" fill="none" stroke="{escape(colour)}" stroke-width="1" '
        'stroke-linejoin="round"/></svg>'
    )


def _require_size(name: str, size: int) -> None:
    if size < 1:
        raise UsageError(
            f"A picture with a {name} of {size} was asked for",
            keyword=name,
            value=size,
            hint="Give at least 1 pixel.",
        )


def _path(flux: NDArray[np.float64], width: int, height: int) -> str:
    """Return the line of a flux (x): the lowest and the highest of each pixel, gaps left open."""
    finite = np.flatnonzero(np.isfinite(flux))
    if not finite.size:
        return ""
    low, high = float(flux[finite].min()), float(flux[finite].max())
    scale = (height - 2) / (high - low) if high > low else 0.0
    x = np.asarray((np.arange(flux.size) + 0.5) * (width / flux.size), np.float64)
    y = np.asarray(height - 1 - (flux - low) * scale, np.float64)
    keep = thinned(x[finite], y[finite], 1.0)
    chosen = finite[keep]
    breaks = np.zeros(chosen.size, bool)
    breaks[0] = True
    gaps = np.cumsum(~np.isfinite(flux))
    breaks[1:] = np.diff(gaps[chosen]) > 0
    words = ["M" if start else "L" for start in breaks]
    places = zip(words, x[chosen].round(1), y[chosen].round(1), strict=True)
    return "".join(f"{word}{a:g} {b:g}" for word, a, b in places)
