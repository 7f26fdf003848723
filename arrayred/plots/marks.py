"""What a spectrum tells of an image: its aperture, its bands of sky, other light, its flags."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.model import DQ_MEANINGS, Rows, X
from arrayred.plots.canvas import FLAG_COLOURS, GREY, SKY_BLUE, VERMILION

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

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
