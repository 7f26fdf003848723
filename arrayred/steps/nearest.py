"""Which of several spectra is meant by a row near it: `by_distance`.

A row is read off an image viewer, in some column of a tilted trace, so that it is rarely right to
the row. Yet the nearest spectrum is not what is meant wherever it lies: a row that was mistyped, or
one of another night, would silently yield another star.
"""

from __future__ import annotations

from collections.abc import Iterable

from arrayred.errors import NoSpectrumError
from arrayred.model import Run

FARTHEST = 50
"""Rows from `near_row` to its spectrum at most."""


def by_distance(
    spectra: Iterable[Run], row: int, threshold: float
) -> tuple[list[Run], tuple[str, ...]]:
    """Return spectra by their distance from a row, and what to say of the first.

    Parameters
    ----------
    spectra : runs of rows, at least one.
    row : FITS number.
    threshold : what the mean of a row had to exceed; it goes with the error.

    Returns
    -------
    spectra, remarks : the nearest first; how far off it is, unless the row is one of its own.

    Raises
    ------
    NoSpectrumError
        The nearest is more than 50 rows away.

    Examples
    --------
    >>> by_distance([Run(3, 5), Run(40, 48)], 38, 0.0)[1]
    ('the spectrum nearest to row 38 is that of rows 40 to 48, 2 rows away',)
    """

    def away(run: Run) -> int:
        """Return how many rows lie between."""
        return max(run.first - row, row - run.last, 0)

    ordered = sorted(spectra, key=away)
    taken = ordered[0]
    n = away(taken)
    which = f"the spectrum nearest to row {row} is that of rows {taken.first} to {taken.last}"
    off = f"{which}, {n} row{'s' * (n != 1)} away"
    if n > FARTHEST:
        raise NoSpectrumError(
            f"No spectrum is within {FARTHEST} rows of row {row}: {off}",
            keyword="near_row",
            value=threshold,
            hint="Mend --near-row, or leave it out and take the brightest.",
        )
    return ordered, (off,) if n else ()
