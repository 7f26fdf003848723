"""What is looked at: `Look`, and rows as people type them: `rows_from`, `rows_text`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

from arrayred.config.recipe import RowRange
from arrayred.errors import UsageError

Stage = Literal["raw", "calibrated", "combined"]
Stretch = Literal["asinh", "linear", "log"]
Blocks = Literal["mean", "peak"]


@dataclass(frozen=True)
class Look:
    """What is looked at, and how.

    Parameters
    ----------
    group : the group of frames, ``<type>/<name>``.
    frame : the number of the frame in its group, from 0.
    stage : what is shown: the frame as it is in the file, less its dark, or all frames combined.
    row, column : the position of the cuts, FITS numbers; None: the middle.
    low, high : the percentiles of the pixels that are shown darkest and brightest.
    stretch : how brightness goes with the pixel values in between.
    blocks : what is shown of pixels that share a dot on the screen.
    rows : the rows of the spectrum; None: they are found.
    sky_rows : the rows of the sky; None: they are chosen.

    Examples
    --------
    >>> Look("light/Vega", frame=2).on("light/Deneb").frame
    0
    """

    group: str
    frame: int = 0
    stage: Stage = "raw"
    row: int | None = None
    column: int | None = None
    low: float = 1.0
    high: float = 99.7
    stretch: Stretch = "asinh"
    blocks: Blocks = "mean"
    rows: RowRange | None = None
    sky_rows: RowRange | None = None

    def on(self, group: str) -> Self:
        """Return the same look at another group: its first frame, its own rows."""
        return replace(self, group=group, frame=0, stage="raw", rows=None, sky_rows=None)

    def at(self, row: int, column: int, shape: tuple[int, int], first: tuple[int, int]) -> Self:
        """Return the look with its cuts at a pixel, or at the nearest one that exists.

        Parameters
        ----------
        row, column : FITS numbers.
        shape : (n_rows, n_columns) of the image.
        first : row and column of its first pixel.
        """
        nearest = (
            min(max(wanted, start), start + n - 1)
            for wanted, start, n in zip((row, column), first, shape, strict=True)
        )
        row, column = nearest
        return replace(self, row=row, column=column)


def rows_from(text: str) -> RowRange | None:
    """Return the rows that a text names; None of an empty one.

    Raises
    ------
    UsageError
        It is not A:B with A from 1 on and not above B.

    Examples
    --------
    >>> rows_from(" 484:518 "), rows_from("")
    ((484, 518), None)
    """
    if not text.strip():
        return None
    first, colon, last = (part.strip() for part in text.partition(":"))
    if colon and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last):
        return int(first), int(last)
    raise UsageError(
        f"{text!r} is not A:B, two rows from 1 on, A not above B", hint="Type such as 484:518."
    )


def rows_text(rows: RowRange | None) -> str:
    """Return rows as people type them.

    Examples
    --------
    >>> rows_text((484, 518)), rows_text(None)
    ('484:518', '')
    """
    return "" if rows is None else f"{rows[0]}:{rows[1]}"
