"""What the numbers should be, and whether they are: `misses`.

An aim is missed where a number lies further off than allowed by more than three times its own
statistical error: with 100 cells of 8 aims each, two would cry wolf every other time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.truth.cells import N_DARKS, Cell, peak_row_snr
from benchmarks.truth.measures import Measure, Measures

_ERRORS = 3.0
FOUND_FROM = 5.0
FALSE_FINDS = 0.01


class Aim(NamedTuple):
    """The range that a measure should lie in."""

    measure: str
    low: float
    high: float


KNOWN = (
    Aim("mean", -0.02, 0.02),
    Aim("robust_mean", -0.02, 0.02),
    Aim("width", 0.95, 1.05),
    Aim("robust_width", 0.95, 1.05),
)
"""Where the night is as the model has it."""
SURPRISED = (Aim("bias", -1.0, 1.0), Aim("width", 0.9, 1.2), Aim("robust_width", 0.9, 1.2))
"""Where it has effects that the model does not know."""
EFFICIENT = Aim("efficiency", 0.97, 1.1)
"""At S/N 50 in a seeing of 5 rows; asked of S/N 30 and 100."""
BRIGHT = Aim("bias", -0.2, 0.2)
"""From S/N 100 on."""


def aims_of(cell: Cell) -> Iterator[Aim]:
    """Yield what is asked of a cell."""
    if cell.surprise:
        yield from SURPRISED
        return
    yield from KNOWN
    if cell.seeing == 5 and cell.snr in (30, 100) and not (cell.hot or cell.rays):
        yield EFFICIENT
    if cell.snr >= 100:
        yield BRIGHT


def misses(cell: Cell, found: Measures) -> list[str]:
    """Return what is not as it should be, in words; [] if all is."""
    told = []
    if found.failed:
        told.append(f"{found.failed} of {found.nights} nights failed: {'; '.join(found.why)}")
    if found.elsewhere:
        told.append(f"{found.elsewhere} of {found.nights} nights show something else")
    if found.found < 0.99 and is_findable(cell):
        told.append(f"found in {found.found:.1%} of the nights, aim 99%")
    for aim in aims_of(cell):
        measure: Measure | None = getattr(found, aim.measure)
        if measure is not None and _off(measure, aim):
            name = aim.measure.replace("_", " ")
            value = f"{measure.value:.3f} +- {measure.error:.3f}"
            told.append(f"{name} {value}, aim {aim.low:g} to {aim.high:g}")
    return told


def is_findable(cell: Cell) -> bool:
    """Tell whether the star's brightest row stands out enough to be found."""
    return peak_row_snr(cell.night(0).truth(), cell.n_frames, N_DARKS) >= FOUND_FROM


def _off(measure: Measure, aim: Aim) -> bool:
    slack = _ERRORS * measure.error
    return not aim.low - slack <= measure.value <= aim.high + slack
