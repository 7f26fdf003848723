"""Find the rows that hold the spectrum: `detect_rows`.

The rule is the published procedure's: a row is bright if its mean exceeds the mean of the
background sample by n_sigma standard deviations of the sample's *pixels*. That is a high bar (a
row mean of 1536 pixels scatters 39 times less), which is why it rarely takes sky for spectrum.

Why the run that holds the brightest row, not all bright rows: one hot row far away would otherwise
widen the aperture to itself and cost up to 91 % of the flux.

`steps.find` asks this rule first, and another where it finds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import NoSpectrumError, UsageError
from arrayred.kernels import rows as kernel
from arrayred.kernels.drift import slow_drift, step_noise
from arrayred.kernels.noise import finite_median
from arrayred.model import COUNTS, Rows, Run, Y, check_image

if TYPE_CHECKING:
    import xarray as xr

RowRange = tuple[int, int]
_HELD = 10.0
_WIDENED = 2.0


@dataclass(frozen=True, slots=True)
class Threshold:
    """How the procedure's threshold is set, and which bright rows make a spectrum.

    Parameters
    ----------
    n_sigma, background_rows, skip_last_column, max_gap, whole_span : as in `detect_rows`.
    """

    n_sigma: float = 4.0
    background_rows: RowRange = (1, 50)
    skip_last_column: bool = False
    max_gap: int = 5
    whole_span: bool = False


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
    counts, low = image[COUNTS].values, int(image[Y][0])
    sample = sample_of(image, background_rows, skip_last_column=skip_last_column)
    mean, std = kernel.background(sample)
    threshold = mean + std * n_sigma
    row_means = kernel.row_means(counts)
    bright = row_means > threshold
    if rows is None:
        start, stop, others = _choose(bright, row_means, max_gap, whole_span)
    else:
        span = within(image, rows)
        start, stop, others = span.start, span.stop, []
    found = Rows(
        first=start + low,
        last=stop - 1 + low,
        n_bright=int(np.count_nonzero(bright[start:stop])),
        background_mean=mean,
        background_std=std,
        n_sigma=n_sigma,
        threshold=threshold,
        rule="threshold" if rows is None else "given",
    )
    if stop == 0:
        raise _nothing_found(row_means, found, low, sample)
    snr = snr_of_rows(row_means)
    return replace(
        found,
        others=tuple(Run(a + low, b - 1 + low, peak_snr(snr, a, b)) for a, b in others),
        snr=peak_snr(snr, start, stop),
        remarks=_on_span(bright, max_gap, low) if whole_span and rows is None else (),
    )


def sample_of(
    image: xr.Dataset, span: RowRange, *, skip_last_column: bool = False
) -> NDArray[np.float64]:
    """Return the pixels (y, x) of a background sample, as far as the image goes."""
    counts: NDArray[np.float64] = image[COUNTS].values
    return counts[_up_to(image, span), : counts.shape[1] - skip_last_column]


def snr_of_rows(row_means: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return by how many standard deviations of a row's mean each row (y) stands out.

    None where nothing scatters.
    """
    finite = np.isfinite(row_means)
    if np.count_nonzero(finite) < 5:
        return None
    means = np.where(finite, row_means, finite_median(row_means))
    noise = step_noise(means)
    return (means - slow_drift(means)[0]) / noise if noise > 0 else None


def peak_snr(snr: NDArray[np.float64] | None, start: int, stop: int) -> float | None:
    """Return the S/N of the brightest of rows start..stop, as positions, to a tenth."""
    return None if snr is None else round(float(np.max(snr[start:stop])), 1)


def holds_light(sample: NDArray[np.float64], row_means: NDArray[np.float64]) -> bool:
    """Tell whether a background sample holds a spectrum: brighter and wider than its pixels are.

    Its mean is ten standard deviations of a row's mean above the typical row, and its pixels'
    deviation twice what most of them scatter.
    """
    mean, std = kernel.background(sample)
    finite = row_means[np.isfinite(row_means)]
    pixels = sample[np.isfinite(sample)]
    if not finite.size or not pixels.size:
        return False
    above = mean - finite_median(finite)
    return above > _HELD * step_noise(finite) and std > _WIDENED * kernel.robust_std(pixels)


def _on_span(bright: NDArray[np.bool_], max_gap: int, low: int) -> tuple[str, ...]:
    """Return a remark where the span from the lowest to the highest bright row has wide gaps."""
    found = kernel.runs(bright, max_gap=max_gap)
    if len(found) < 2:
        return ()
    parts = ", ".join(str(Run(a + low, b - 1 + low)).partition(" are ")[0].partition(" is ")[0]
                      for a, b in found[:5])  # fmt: skip
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return (f"the span holds {len(found)} separate runs, and the dark between: {parts}{more}",)


def _up_to(image: xr.Dataset, span: RowRange) -> slice:
    """Return rows first..last, or as far as the image goes, as positions."""
    first, last = span
    top = int(image[Y][-1])
    return within(image, (first, min(last, top) if first <= top else last))


def within(image: xr.Dataset, span: RowRange) -> slice:
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


def _nothing_found(
    row_means: NDArray[np.float64], rule: Rows, low: int, sample: NDArray[np.float64]
) -> NoSpectrumError:
    """Return the error that tells the rule, the brightest rows, and a sample that holds light."""
    finite = np.flatnonzero(np.isfinite(row_means))
    order = finite[np.argsort(-row_means[finite], kind="stable")][:3]
    told = [f"row {row + low} with {row_means[row]:.2f}" for row in order] or ["none"]
    held = ""
    if holds_light(sample, row_means):
        held = (
            f"; the background sample holds light: its mean is far above the typical row's "
            f"{finite_median(row_means):.2f}"
        )
    return NoSpectrumError(
        f"No row's mean exceeds {rule.threshold:.2f} (background {rule.background_mean:.2f} + "
        f"{rule.n_sigma:g} x {rule.background_std:.2f}); the brightest is {', then '.join(told)}"
        f"{held}",
        value=rule.threshold,
        hint=(
            "Choose --background-rows A:B off the spectrum, or give --rows A:B."
            if held
            else "Lower --sigma, choose --background-rows A:B off the spectrum, or give --rows A:B."
        ),
    )
