"""Find the spectra of an image, whatever it takes: `find_rows`, `find_all`.

The procedure's threshold comes first (`steps.detect`): it rarely takes sky for a spectrum. Two
things it cannot do. It compares row means with the scatter of *pixels*, 130 to 160 standard
deviations of a row's mean on real nights, so weak spectra stay below it; and a hot row or a few
cosmic rays pass it. So here

- what is sharper than any star is set aside, and said (a star of a full width of 2 rows gives its
  neighbours half its peak, a hot row nothing);
- where nothing is left, or the background sample holds the spectrum itself, the robust rule looks
  (`kernels.faint`): light that many columns, or at least three lines, share over neighbouring rows.

Its bar is 5 standard deviations: of 2,000 blank frames 0.5 % pass it by chance. A spectrum then
reaches as far as rows stand out by 4 standard deviations of a row's mean, or by 2 % of its peak, so
that a bright star does not bring its wings along.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import NoSpectrumError, UsageError
from arrayred.kernels import rows as kernel
from arrayred.kernels.faint import FaintLight, faint_light
from arrayred.kernels.runs import SURE, runs_of_light
from arrayred.kernels.sharp import blurred_means
from arrayred.model import BAD_PIXEL, CLEAN, COUNTS, DQ, Rows, Run, Y, check_image
from arrayred.steps.detect import (
    RowRange,
    Threshold,
    detect_rows,
    holds_light,
    sample_of,
)
from arrayred.steps.nearest import by_distance

if TYPE_CHECKING:
    import xarray as xr

Detect = Literal["auto", "threshold", "robust"]
USUAL = Threshold()


def find_rows(
    image: xr.Dataset,
    threshold: Threshold = USUAL,
    *,
    method: Detect = "auto",
    near_row: int | None = None,
    rows: RowRange | None = None,
) -> Rows:
    """Return the rows of the spectrum of an image.

    Parameters
    ----------
    image : counts (y, x) in adu or electron, settled, dispersed along x; the robust rule looks at
        `clean` where there is one, and leaves out the bad pixels of `dq`.
    threshold : the procedure's rule.
    method : "threshold", that rule to the letter; "robust", which also finds what is weak or all
        lines; "auto": the threshold, less what is too sharp for a star, and if that finds nothing,
        or its background sample holds the spectrum, the robust rule.
    near_row : of several spectra take the one nearest to this row; None: the brightest.
    rows : take these rows and measure only the background.

    Returns
    -------
    rows : `rule` says what found them, `others` what else is bright, `remarks` what to know.

    Raises
    ------
    NoSpectrumError
        Nothing stands out, or nothing within 50 rows of `near_row`.
    UsageError
        The background sample, the rows or `near_row` lie off the image.

    Examples
    --------
    >>> import xarray as xr
    >>> counts = np.random.default_rng(0).normal(10.0, 5.0, (100, 300))
    >>> counts[60:66] += 4.0
    >>> labels = {"y": np.arange(1, 101), "x": np.arange(1, 301)}
    >>> image = xr.Dataset({"counts": (("y", "x"), counts)}, labels)
    >>> found = find_rows(image)
    >>> found.rule, found.first, found.last
    ('robust', 61, 66)
    """
    return _every(image, threshold, method, near_row, rows)[0]


def find_all(
    image: xr.Dataset,
    threshold: Threshold = USUAL,
    *,
    method: Detect = "auto",
    near_row: int | None = None,
    rows: RowRange | None = None,
) -> tuple[Rows, ...]:
    """Return the rows of every spectrum of an image: the chosen first, then by falling S/N.

    Parameters, errors : as in `find_rows`. What of `others` is a spectrum here too is "taken".
    """
    every = _every(image, threshold, method, near_row, rows)
    return tuple(replace(rows, others=tuple(map(_taken, rows.others))) for rows in every)


def _taken(run: Run) -> Run:
    return replace(run, state="taken") if run.state == "left" else run


def _every(
    image: xr.Dataset,
    threshold: Threshold,
    method: Detect,
    near_row: int | None,
    rows: RowRange | None,
) -> tuple[Rows, ...]:
    """Return the rows of every spectrum, the chosen first."""
    check_image(image)
    if near_row is not None:
        _require_on(image, near_row)
    if rows is not None:
        return (_detected(image, threshold, rows),)
    found, runs = _found(image, threshold, method)
    spectra = [run for run in runs if run.state != "sharp"]
    if near_row is not None:
        spectra, told = by_distance(spectra, near_row, found.threshold)
        found = replace(found, remarks=(*found.remarks, *told))
    return tuple(_rows_of(image, found, run, runs) for run in spectra)


def _require_on(image: xr.Dataset, row: int) -> None:
    low, high = int(image[Y][0]), int(image[Y][-1])
    if not low <= row <= high:
        raise UsageError(
            f"The spectrum nearest to row {row} was asked for, but the image has rows {low}:{high}",
            keyword="near_row",
            value=row,
            hint="Give a row that exists.",
        )


def _found(image: xr.Dataset, threshold: Threshold, method: Detect) -> tuple[Rows, list[Run]]:
    """Return what was measured, and the runs by falling S/N, at least one a spectrum."""
    if method == "robust":
        return _robustly(image, threshold, "")
    try:
        found = _detected(image, threshold)
    except NoSpectrumError as error:
        if method == "threshold":
            raise
        return _robustly(image, threshold, _why(image, threshold), error)
    runs = [Run(found.first, found.last, found.snr), *found.others]
    sample = Run(*threshold.background_rows)
    held = _touches(sample, runs[:1])
    if method == "threshold" or threshold.whole_span:
        text = f"{_of_sample(sample)} holds rows of the spectrum: choose --background-rows off it"
        return replace(found, remarks=(*found.remarks, text) if held else found.remarks), runs
    runs = [_judged(image, threshold, run, found.threshold) for run in _by_light(runs)]
    if all(run.state == "sharp" for run in runs) or held:
        return _robustly(image, threshold, _why(image, threshold, runs), sharp=runs)
    return found, runs


def _by_light(runs: list[Run]) -> list[Run]:
    """Return runs, the first still first, the others by falling S/N."""
    return [runs[0], *sorted(runs[1:], key=lambda run: -(run.snr or 0.0))]


def _detected(image: xr.Dataset, threshold: Threshold, rows: RowRange | None = None) -> Rows:
    return detect_rows(
        image,
        n_sigma=threshold.n_sigma,
        background_rows=threshold.background_rows,
        skip_last_column=threshold.skip_last_column,
        max_gap=threshold.max_gap,
        whole_span=threshold.whole_span,
        rows=rows,
    )


def _judged(image: xr.Dataset, rule: Threshold, run: Run, threshold: float) -> Run:
    """Return a run of bright rows, "sharp" if no light blurred by optics passes the threshold."""
    low, counts = int(image[Y][0]), image[COUNTS].values
    start, stop = run.first - low, run.last - low + 1
    first = max(start - 4, 0)
    sample = sample_of(image, rule.background_rows, skip_last_column=rule.skip_last_column)
    means = blurred_means(counts[first : stop + 4], sample)
    bright = means[start - first : stop - first] > threshold
    return run if bright.any() else replace(run, state="sharp")


def _why(image: xr.Dataset, rule: Threshold, runs: list[Run] | None = None) -> str:
    """Return why the robust rule was asked: of nothing, or of runs none of which will do."""
    sample = sample_of(image, rule.background_rows, skip_last_column=rule.skip_last_column)
    if holds_light(sample, kernel.row_means(image[COUNTS].values)):
        return f"{_of_sample(Run(*rule.background_rows))} holds light"
    return "what is above the threshold is no spectrum" if runs else "no row is above the threshold"


def _of_sample(sample: Run) -> str:
    return f"the background sample (rows {sample.first} to {sample.last})"


def _robustly(
    image: xr.Dataset,
    threshold: Threshold,
    why: str,
    error: NoSpectrumError | None = None,
    sharp: list[Run] | None = None,
) -> tuple[Rows, list[Run]]:
    """Return what the robust rule finds, and the background beside it; or raise.

    Parameters
    ----------
    why : the reason for a remark; "" for none.
    error : of the threshold, which found nothing either.
    sharp : what the threshold found, to be kept where it is no spectrum.
    """
    light, low = faint_light(_best(image)), int(image[Y][0])
    runs = [
        Run(start + low, stop - 1 + low, round(float(np.max(light.snr[start:stop])), 1))
        for start, stop in runs_of_light(light, threshold.max_gap)
    ]
    if not runs:
        raise _nothing(light, low, error)
    taken = np.zeros(len(light.snr), np.bool_)
    for run in runs:
        taken[run.first - low : run.last - low + 1] = True
    sample = Run(*threshold.background_rows)
    if why and _touches(sample, runs):
        why = f"{_of_sample(sample)} holds rows of a spectrum, now left out of it"
    remarks = (f"{why}: the rows were found by the robust rule",) if why else ()
    left = [run for run in sharp or () if run.state == "sharp" and not _touches(run, runs)]
    return replace(_background(image, threshold, taken), remarks=remarks), [*runs, *left]


def _touches(run: Run, runs: list[Run]) -> bool:
    return any(run.first <= other.last and other.first <= run.last for other in runs)


def _best(image: xr.Dataset) -> NDArray[np.float64]:
    """Return the best estimate of an image (y, x), bad pixels NaN."""
    values = np.asarray(image[CLEAN if CLEAN in image else COUNTS].values, np.float64)
    if DQ not in image:
        return values
    return np.where(image[DQ].values & BAD_PIXEL, np.nan, values)


def _background(image: xr.Dataset, rule: Threshold, taken: NDArray[np.bool_]) -> Rows:
    """Return the numbers of the background sample without the spectra in it.

    Where nothing of the sample is left, all rows without light serve.
    """
    low, counts = int(image[Y][0]), image[COUNTS].values
    first, last = rule.background_rows
    labels = np.arange(len(taken)) + low
    dark = ~taken & (labels >= first) & (labels <= last)
    chosen = dark if dark.any() else ~taken
    mean, std = kernel.background(counts[chosen, : counts.shape[1] - rule.skip_last_column])
    return Rows(0, 0, 0, mean, std, rule.n_sigma, mean + std * rule.n_sigma, rule="robust")


def _nothing(light: FaintLight, low: int, error: NoSpectrumError | None) -> NoSpectrumError:
    """Return the error of the robust rule, after that of the threshold."""
    peak = int(np.argmax(light.score))
    told = (
        f"nor does the robust rule find light: it is most likely at row {peak + low}, with "
        f"{light.score[peak]:.1f} standard deviations of the {SURE:g} needed"
    )
    if error is None:
        return NoSpectrumError(
            f"N{told[1:]}".replace("Nor does the robust rule find", "The robust rule finds no"),
            value=float("nan"),
            hint="Give --rows A:B.",
        )
    return NoSpectrumError(f"{error.args[0]}; {told}", value=error.value, hint=error.hint)


def _rows_of(image: xr.Dataset, found: Rows, run: Run, runs: list[Run]) -> Rows:
    """Return the rows of one run, with the others beside it."""
    low, high = int(image[Y][0]), int(image[Y][-1])
    means = kernel.row_means(image[COUNTS].values[run.first - low : run.last - low + 1])
    ends = [(run.first == low, "first"), (run.last == high, "last")]
    cut = [
        f"the spectrum is truncated: it touches the {name} row of the image"
        for touches, name in ends
        if touches
    ]
    return replace(
        found,
        first=run.first,
        last=run.last,
        snr=run.snr,
        n_bright=int(np.count_nonzero(means > found.threshold)),
        others=tuple(other for other in runs if other != run),
        remarks=(*found.remarks, *cut),
    )
