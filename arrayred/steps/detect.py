"""Find the rows that hold the spectrum: `detect_rows`.

The rule is the published procedure's: a row is bright if its mean exceeds the mean of the
background sample by n_sigma standard deviations of the sample's *pixels*. That is a high bar (a
row mean of 1536 pixels scatters 39 times less), which is why it rarely takes sky for spectrum.

Why the run that holds the brightest row, not all bright rows: one hot row far away would otherwise
widen the aperture to itself and cost up to 91 % of the flux.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import NoSpectrumError, UsageError
from arrayred.kernels import rows as kernel
from arrayred.model import COUNTS, Rows, Run, Y, check_image

if TYPE_CHECKING:
    import xarray as xr

RowRange = tuple[int, int]


def detect_rows(
    image: xr.Dataset,
    *,
    n_sigma: float = 4.0,
    background_rows: RowRange = (1, 50),
    skip_last_column: bool = False,
    max_gap: int = 5,
    whole_span: bool = False,
    rows: RowRange | None = None,
) -> Rows:
    """Return the rows whose mean stands out from the background.

    Parameters
    ----------
    image : counts (y, x) in adu or electron, settled.
    n_sigma : standard deviations of the background's pixels that a row's mean must exceed.
    background_rows : rows of the background sample, FITS numbers, both included.
    skip_last_column : leave the last column out of the sample.
    max_gap : dark rows that do not part a spectrum.
    whole_span : take all from the lowest to the highest bright row, not one run of them.
    rows : take these rows and measure only the background.

    Raises
    ------
    NoSpectrumError
        No row is above the threshold.
    UsageError
        The background sample or the rows lie off the image.
    """
    check_image(image)
    counts = image[COUNTS].values
    last_column = counts.shape[1] - skip_last_column
    sample = counts[_up_to(image, background_rows), :last_column]
    mean, std = kernel.background(sample)
    threshold = mean + std * n_sigma
    row_means = kernel.row_means(counts)
    bright = row_means > threshold
    if rows is None:
        start, stop, others = _choose(bright, row_means, max_gap, whole_span)
        if stop == 0:
            raise _nothing_found(
                row_means, Rows(0, 0, 0, mean, std, n_sigma, threshold), int(image[Y][0])
            )
    else:
        span = _within(image, rows)
        start, stop, others = span.start, span.stop, []
    first_label = int(image[Y][0])
    return Rows(
        first=start + first_label,
        last=stop - 1 + first_label,
        n_bright=int(np.count_nonzero(bright[start:stop])),
        background_mean=mean,
        background_std=std,
        n_sigma=n_sigma,
        threshold=threshold,
        others=tuple(Run(a + first_label, b - 1 + first_label) for a, b in others),
        rule="threshold" if rows is None else "given",
    )


def _up_to(image: xr.Dataset, span: RowRange) -> slice:
    """Return rows first..last, or as far as the image goes, as positions."""
    first, last = span
    top = int(image[Y][-1])
    return _within(image, (first, min(last, top) if first <= top else last))


def _within(image: xr.Dataset, span: RowRange) -> slice:
    """Return rows first..last as positions; off the image is an error."""
    low, high = int(image[Y][0]), int(image[Y][-1])
    first, last = span
    if not low <= first <= last <= high:
        raise UsageError(
            f"Rows {first}:{last} were asked for, but the image has {low}:{high}",
            value=span,
            hint="Give rows that exist, both ends included.",
        )
    return slice(first - low, last - low + 1)


def _choose(
    bright: NDArray[np.bool_], row_means: NDArray[np.float64], max_gap: int, whole_span: bool
) -> tuple[int, int, list[tuple[int, int]]]:
    """Return start and stop of the spectrum, 0 and 0 for none, and the runs left out."""
    found = kernel.runs(bright, max_gap=max_gap)
    if not found:
        return 0, 0, []
    if whole_span:
        return found[0][0], found[-1][1], []
    peak = int(np.argmax(np.where(bright, row_means, -np.inf)))
    chosen = next(run for run in found if run[0] <= peak < run[1])
    return *chosen, [run for run in found if run != chosen]


def _nothing_found(row_means: NDArray[np.float64], rule: Rows, first_label: int) -> NoSpectrumError:
    peak = int(np.nanargmax(row_means)) if np.isfinite(row_means).any() else 0
    return NoSpectrumError(
        f"No row's mean exceeds {rule.threshold:.2f} (background {rule.background_mean:.2f} + "
        f"{rule.n_sigma:g} x {rule.background_std:.2f}); the brightest is row {peak + first_label} "
        f"with {row_means[peak]:.2f}",
        value=rule.threshold,
        hint="Lower --sigma, choose --background-rows A:B off the spectrum, or give --rows A:B.",
    )
