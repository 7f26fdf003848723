"""Detect the rows of spectra on a combined image, and measure row statistics.

The published procedure's rule comes first (`detect_rows`): a row is bright if its mean exceeds the
mean of the background sample by n_sigma standard deviations of the sample's *pixels*. That is a
high threshold (a row mean of 1536 pixels scatters 39 times less), which is why it rarely takes sky
for a spectrum.

Why the run that holds the brightest row, not all bright rows: one hot row far away would otherwise
widen the aperture to itself and cost up to 91 % of the flux.

The threshold has two limits. It compares row means with the scatter of *pixels*, 130 to 160
standard deviations of a row's mean on real nights, so that faint spectra stay below it; and a hot
row or a few cosmic rays exceed it. Therefore `find_rows`

- excludes runs narrower than any star, and reports them (the rows beside a star of a FWHM of 2 rows
  reach half its peak, those beside a hot row nothing);
- where nothing is left, or the background sample holds the spectrum itself, uses the robust rule
  (`kernels.rows.matched_filter`): signal that many columns, or at least three lines, share over
  neighbouring rows.

The robust rule's threshold is 5 standard deviations: of 2,000 blank frames 0.5 % exceed it by
chance. A spectrum then extends over the rows above 4 standard deviations of a row's mean, or above
2 % of its peak, so that the rows of a bright star do not include its wings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import NoSpectrumError, UsageError
from arrayred.kernels import rows as kernel
from arrayred.kernels.noise import finite_median
from arrayred.kernels.rows import (
    SURE_SNR,
    MatchedRows,
    blurred_means,
    fit_baseline,
    matched_filter,
    runs_of_light,
    step_noise,
)
from arrayred.model import (
    BAD_PIXEL,
    CLEAN,
    COUNTS,
    DQ,
    SATURATED,
    Rows,
    Run,
    X,
    Y,
    check_image,
    check_pixels,
    to_check,
)
from arrayred.steps.sky import column_medians
from arrayred.steps.trace import StarInRows, stars_in_rows, touching_rows

if TYPE_CHECKING:
    import xarray as xr

RowRange = tuple[int, int]
_MIN_LIGHT_EXCESS = 10.0
_MIN_STD_EXCESS = 2.0
_LEAST_ROWS, _DARK_PART, _BETWEEN_PART = 20, 0.03, 0.15
"""Of light that fills the slit: rows of an image, part of them that is dark, part in between."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """Options of the procedure's threshold, and of the choice among bright rows.

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
    """Return the rows whose mean exceeds the background by the procedure's threshold.

    Parameters
    ----------
    image : counts (y, x) in adu or electron, computed.
    n_sigma : threshold for a row's mean, in standard deviations of the background's pixels.
    background_rows : rows of the background sample, FITS numbers, both included.
    skip_last_column : exclude the last column from the sample.
    max_gap : largest number of dark rows within a spectrum.
    whole_span : use all rows from the lowest to the highest bright one, not one run of them.
    rows : use these rows and measure only the background.

    Raises
    ------
    NoSpectrumError
        No row is above the threshold.
    UsageError
        The background sample or the rows are outside the image.
    """
    check_image(image)
    counts, low = image[COUNTS].values, int(image[Y][0])
    sample = background_sample(image, background_rows, skip_last_column=skip_last_column)
    mean, std = kernel.background(sample)
    threshold = mean + std * n_sigma
    row_means = kernel.row_means(counts)
    bright = row_means > threshold
    if rows is None:
        start, stop, others = _choose_run(bright, row_means, max_gap, whole_span)
    else:
        span = rows_slice(image, rows)
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
        raise _threshold_error(row_means, found, low, sample)
    snr = snr_of_rows(row_means)
    return replace(
        found,
        others=tuple(Run(a + low, b - 1 + low, peak_snr(snr, a, b)) for a, b in others),
        snr=peak_snr(snr, start, stop),
        remarks=_gap_remark(bright, max_gap, low) if whole_span and rows is None else (),
    )


def background_sample(
    image: xr.Dataset, span: RowRange, *, skip_last_column: bool = False
) -> NDArray[np.float64]:
    """Return the pixels (y, x) of a background sample, cut at the edge of the image."""
    counts: NDArray[np.float64] = image[COUNTS].values
    return counts[_rows_on_image(image, span), : counts.shape[1] - skip_last_column]


def snr_of_rows(row_means: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the S/N of each row (y): its excess in standard deviations of a row's mean.

    None where there is no scatter.
    """
    finite = np.isfinite(row_means)
    if np.count_nonzero(finite) < 5:
        return None
    means = np.where(finite, row_means, finite_median(row_means))
    noise = step_noise(means)
    return (means - fit_baseline(means)[0]) / noise if noise > 0 else None


def peak_snr(snr: NDArray[np.float64] | None, start: int, stop: int) -> float | None:
    """Return the S/N of the brightest of rows start..stop, as positions, to a tenth."""
    return None if snr is None else round(float(np.max(snr[start:stop])), 1)


def holds_light(sample: NDArray[np.float64], row_means: NDArray[np.float64]) -> bool:
    """Return whether a background sample holds a spectrum, from its mean and scatter.

    Its mean is then ten standard deviations of a row's mean above the typical row, and the standard
    deviation of its pixels twice their robust one.
    """
    mean, std = kernel.background(sample)
    finite = row_means[np.isfinite(row_means)]
    pixels = sample[np.isfinite(sample)]
    if not finite.size or not pixels.size:
        return False
    above = mean - finite_median(finite)
    return above > _MIN_LIGHT_EXCESS * step_noise(
        finite
    ) and std > _MIN_STD_EXCESS * kernel.robust_std(pixels)


def _gap_remark(bright: NDArray[np.bool_], max_gap: int, low: int) -> tuple[str, ...]:
    """Return a remark where the span from the lowest to the highest bright row has wide gaps."""
    found = kernel.bright_runs(bright, max_gap=max_gap)
    if len(found) < 2:
        return ()
    parts = ", ".join(str(Run(a + low, b - 1 + low)).partition(" are ")[0].partition(" is ")[0]
                      for a, b in found[:5])  # fmt: skip
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    told = f"the rows contain {len(found)} separate runs, and dark rows between them: {parts}{more}"
    return (to_check(told),)


def _rows_on_image(image: xr.Dataset, span: RowRange) -> slice:
    """Return rows first..last as positions, cut at the top of the image."""
    first, last = span
    top = int(image[Y][-1])
    return rows_slice(image, (first, min(last, top) if first <= top else last))


def rows_slice(image: xr.Dataset, span: RowRange) -> slice:
    """Return rows first..last as positions; raise UsageError off the image."""
    low, high = int(image[Y][0]), int(image[Y][-1])
    first, last = span
    if not low <= first <= last <= high:
        raise UsageError(
            f"Rows {first}:{last} are outside the image, which has {low}:{high}",
            value=span,
            hint="Use rows of the image; both ends are included.",
        )
    return slice(first - low, last - low + 1)


def _choose_run(
    bright: NDArray[np.bool_], row_means: NDArray[np.float64], max_gap: int, whole_span: bool
) -> tuple[int, int, list[tuple[int, int]]]:
    """Return start and stop of the spectrum, 0 and 0 for none, and the other runs."""
    found = kernel.bright_runs(bright, max_gap=max_gap)
    if not found:
        return 0, 0, []
    if whole_span:
        return found[0][0], found[-1][1], []
    peak = int(np.argmax(np.where(bright, row_means, -np.inf)))
    chosen = next(run for run in found if run[0] <= peak < run[1])
    return *chosen, [run for run in found if run != chosen]


def _threshold_error(
    row_means: NDArray[np.float64], rule: Rows, low: int, sample: NDArray[np.float64]
) -> NoSpectrumError:
    """Return the error with the rule, the brightest rows, and whether the sample holds signal."""
    finite = np.flatnonzero(np.isfinite(row_means))
    order = finite[np.argsort(-row_means[finite], kind="stable")][:3]
    told = [f"row {row + low} with {row_means[row]:.2f}" for row in order] or ["none"]
    held = ""
    if holds_light(sample, row_means):
        held = (
            "; the background sample contains signal: its mean is far above that of a typical "
            f"row, {finite_median(row_means):.2f}"
        )
    return NoSpectrumError(
        f"No row's mean exceeds {rule.threshold:.2f} (background {rule.background_mean:.2f} + "
        f"{rule.n_sigma:g} x {rule.background_std:.2f}); the brightest is {', then '.join(told)}"
        f"{held}",
        value=rule.threshold,
        hint="Choose --background-rows A:B off the spectrum, use --rows A:B, "
        + ("" if held else "lower --sigma, ")
        + "or use --dispersion-axis if the spectrum runs along the other axis.",
    )


Detect = Literal["auto", "threshold", "robust"]
DEFAULT_THRESHOLD = Threshold()


def find_rows(
    image: xr.Dataset,
    threshold: Threshold = DEFAULT_THRESHOLD,
    *,
    method: Detect = "auto",
    near_row: int | None = None,
    rows: RowRange | None = None,
) -> Rows:
    """Return the rows of the spectrum of an image.

    Parameters
    ----------
    image : counts (y, x) in adu or electron, computed, dispersed along x; the robust rule uses
        `clean` where there is one, and masks the bad pixels of `dq`.
    threshold : the procedure's rule.
    method : "threshold", exactly that rule; "robust", which also finds faint and emission-line
        spectra; "auto": the threshold, without runs too narrow for a star; if none is left, or the
        background sample holds the spectrum, the robust rule.
    near_row : take the spectrum nearest to this row; None: the brightest.
    rows : use these rows and measure only the background.

    Returns
    -------
    rows : `rule` is the method that found them, `others` the other bright runs, `remarks` warnings.

    Raises
    ------
    NoSpectrumError
        No spectrum is found, or none within 50 rows of `near_row`.
    UsageError
        The background sample, the rows or `near_row` are outside the image.

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
    return _rows_of_each(image, threshold, method, near_row, rows)[0]


def find_all_rows(
    image: xr.Dataset,
    threshold: Threshold = DEFAULT_THRESHOLD,
    *,
    method: Detect = "auto",
    near_row: int | None = None,
    rows: RowRange | None = None,
) -> tuple[Rows, ...]:
    """Return the rows of every spectrum of an image: the chosen first, then by decreasing S/N.

    Parameters and errors are those of `find_rows`. Spectra among `others` have the state "taken".
    """
    every = _rows_of_each(image, threshold, method, near_row, rows)
    return tuple(replace(rows, others=tuple(map(_marked_as_taken, rows.others))) for rows in every)


def _marked_as_taken(run: Run) -> Run:
    return replace(run, state="taken") if run.state == "left" else run


def _rows_of_each(
    image: xr.Dataset,
    threshold: Threshold,
    method: Detect,
    near_row: int | None,
    rows: RowRange | None,
) -> tuple[Rows, ...]:
    """Return the rows of every spectrum, the chosen first."""
    check_image(image)
    if near_row is not None:
        _require_row_on_image(image, near_row)
    if rows is not None:
        return (_given_rows(image, threshold, method, rows),)
    found, runs = _detected_runs(image, threshold, method, near_row)
    if method != "threshold":
        glows = _saturated_patches(image, threshold)
        runs = [*runs, *(glow for glow in glows if not _touches(glow, runs))]
    spectra = [run for run in runs if run.state == "left"]
    if near_row is not None:
        spectra, told = by_distance(spectra, near_row, found.threshold)
        found = replace(found, remarks=(*found.remarks, *told))
    return tuple(_rows_of_run(image, found, run, runs) for run in spectra)


def _given_rows(image: xr.Dataset, threshold: Threshold, method: Detect, rows: RowRange) -> Rows:
    """Return rows that were given, and the spectra beside them, if there are any.

    A run that peaks outside the rows is another star's, even where it reaches into them. The whole
    span of the procedure knows no other spectra.
    """
    given = _detect_by_threshold(image, threshold, rows)
    if threshold.whole_span:
        return given
    try:
        _, runs = _detected_runs(image, threshold, method, None)
    except NoSpectrumError:
        return given
    told = [
        _second_star_text(*run.second)
        for run in runs
        if run.second is not None and rows[0] <= run.first and run.last <= rows[1]
    ]
    remarks = (*given.remarks, *told)
    return replace(given, others=tuple(_beside(runs, rows)), remarks=remarks)


def _beside(runs: list[Run], rows: RowRange) -> Iterator[Run]:
    """Yield the runs that peak outside of some rows, as far as they lie outside."""
    first, last = rows
    for run in runs:
        row = (run.first + run.last) / 2 if run.row is None else run.row
        if row < first and run.first < first:
            yield replace(run, last=min(run.last, first - 1))
        elif row > last and run.last > last:
            yield replace(run, first=max(run.first, last + 1))


def _require_row_on_image(image: xr.Dataset, row: int) -> None:
    low, high = int(image[Y][0]), int(image[Y][-1])
    if not low <= row <= high:
        raise UsageError(
            f"The spectrum nearest to row {row} is outside the image, which has rows {low}:{high}",
            keyword="near_row",
            value=row,
            hint="Use a row of the image.",
        )


def _detected_runs(
    image: xr.Dataset, threshold: Threshold, method: Detect, near_row: int | None
) -> tuple[Rows, list[Run]]:
    """Return the detection, and the runs by decreasing S/N, at least one of them a spectrum."""
    if method == "robust":
        return _detect_robustly(image, threshold, "")
    seen = image if method == "threshold" else _without_saturated(image)
    try:
        found = _detect_by_threshold(seen, threshold)
    except NoSpectrumError as error:
        if method == "threshold":
            raise
        return _detect_robustly(image, threshold, _why_robust(seen, threshold), error)
    runs = [Run(found.first, found.last, found.snr), *found.others]
    sample = Run(*threshold.background_rows)
    held = _touches(sample, runs[:1])
    if method == "threshold" or threshold.whole_span:
        text = (
            f"{_sample_text(sample)} contains rows of the spectrum: choose --background-rows off it"
        )
        return replace(
            found, remarks=(*found.remarks, to_check(text)) if held else found.remarks
        ), runs
    runs = [_checked_for_light(seen, threshold, run, found.threshold) for run in _by_snr(runs)]
    runs = _checked_for_columns(seen, runs)
    spectra = [run for run in runs if run.state == "left"]
    if not spectra or _touches(sample, spectra[:1]) or _is_torn(seen, spectra):
        return _detect_robustly(image, threshold, _why_robust(seen, threshold, runs), sharp=runs)
    if near_row is not None and _distance(near_row, spectra) > threshold.max_gap:
        spectra = _with_faint_runs(image, threshold, spectra)
    return found, [*_parted(image, spectra), *(run for run in runs if run.state != "left")]


def _is_torn(image: xr.Dataset, runs: list[Run]) -> bool:
    """Return whether the threshold tears the first of some runs from another.

    The rows between them, by the height of their mean, are no darker than half of the fainter one.
    """
    chosen, others = runs[0], runs[1:]
    snr = snr_of_rows(kernel.row_means(image[COUNTS].values)) if others else None
    if snr is None:
        return False
    low = int(image[Y][0])
    heights = [float(np.max(snr[run.first - low : run.last - low + 1])) for run in runs]
    for run, height in zip(others, heights[1:], strict=True):
        first, last = sorted((chosen, run), key=lambda one: one.first)
        between = snr[first.last - low + 1 : last.first - low]
        if float(np.min(between, initial=np.inf)) > max(0.5 * min(height, heights[0]), SURE_SNR):
            return True
    return False


def _saturated_in_part(image: xr.Dataset) -> NDArray[np.bool_]:
    """Return which pixels (y, x) are saturated, in rows that have such pixels in few columns.

    A glow or a corner that is saturated is no spectrum; a star saturates in many columns.
    """
    if DQ not in image:
        return np.zeros(image[COUNTS].shape, bool)
    saturated = (image[DQ].values & SATURATED) != 0
    few = 2 * np.count_nonzero(saturated, axis=1) < saturated.shape[1]
    return np.asarray(saturated & few[:, np.newaxis])


def _without_saturated(image: xr.Dataset) -> xr.Dataset:
    """Return an image whose pixels are NaN where a part of their row is saturated."""
    saturated = _saturated_in_part(image)
    if not saturated.any():
        return image
    counts = np.where(saturated, np.nan, image[COUNTS].values)
    return image.assign({COUNTS: image[COUNTS].copy(data=counts)})


def _saturated_patches(image: xr.Dataset, threshold: Threshold) -> list[Run]:
    """Return the runs of rows that are saturated in part, higher than hot pixels in a row."""
    low = int(image[Y][0])
    groups = kernel.bright_runs(np.logical_or.reduce(_saturated_in_part(image), axis=1))
    least = 2 * threshold.max_gap
    return [Run(a + low, b - 1 + low, state="patch") for a, b in groups if b - a > least]


def _with_faint_runs(image: xr.Dataset, threshold: Threshold, runs: list[Run]) -> list[Run]:
    """Return runs with those added that the robust rule alone finds, for a row far from all."""
    try:
        _, faint = _detect_robustly(image, threshold, "")
    except NoSpectrumError:
        return runs
    return [*runs, *(run for run in faint if run.state == "left" and not _touches(run, runs))]


def _parted(image: xr.Dataset, runs: list[Run]) -> list[Run]:
    """Return runs with those of two or more stars parted at the dips between them.

    Stars beside a run, too faint for it, become runs of their own; nearer to another run they would
    be its wing. The parts of the first run come
    first, each run's by decreasing height.
    """
    best = image.assign({COUNTS: image[CLEAN if CLEAN in image else COUNTS]})
    low, high = int(image[Y][0]), int(image[Y][-1])
    parted: list[Run] = []
    for run in runs:
        ends = [(other.last + run.first) // 2 + 1 for other in runs if other.last < run.first]
        bottom = max([low, run.first - _MARGIN, *ends])
        ends = [(other.first + run.last) // 2 for other in runs if other.first > run.last]
        top = min([high, run.last + _MARGIN, *ends])
        own = run.first - bottom, run.last - bottom
        stars = stars_in_rows(best, slice(bottom - low, top - low + 1), own)
        parted += _parts_of_run(run, stars, bottom, top)
    return parted


def _parts_of_run(run: Run, stars: list[StarInRows], bottom: int, top: int) -> list[Run]:
    """Return the part of a run for each of its stars, by decreasing height.

    Parameters
    ----------
    run : the run.
    stars : the stars in its rows and beside them.
    bottom, top : the first and the last row searched.
    """
    own = [star for star in stars if run.first <= star.peak + bottom <= run.last]
    if not own:
        return [run]
    tallest = max(star.height for star in own)
    parts: list[tuple[float, Run]] = []
    lowest = bottom
    for star in stars:
        row, highest = star.peak + bottom, min(star.dip + bottom, top)
        if star in own:
            first = run.first if star == own[0] else lowest
            last = run.last if star == own[-1] else highest
        elif row < run.first:
            first, last = max(lowest, 2 * row - highest), min(highest, run.first - 2)
        else:
            first, last = max(lowest, run.last + 2), min(highest, 2 * row - lowest + 1)
        lowest = highest + 1
        if star in own or (first <= last and star.height < tallest):
            snr = None if run.snr is None else round(run.snr * star.height / tallest, 1)
            part = replace(run, first=first, last=last, snr=snr, row=float(row))
            if star.pair is not None:
                apart, ratio = star.pair.fainter - star.pair.brighter, star.pair.ratio
                part = replace(part, second=(round(apart, 1), ratio / (1 + ratio)))
            parts.append((star.height, part))
    return [part for _, part in sorted(parts, key=lambda part: -part[0])]


def _by_snr(runs: list[Run]) -> list[Run]:
    """Return runs, the first unchanged, the others by decreasing S/N."""
    return [runs[0], *sorted(runs[1:], key=lambda run: -(run.snr or 0.0))]


def _detect_by_threshold(
    image: xr.Dataset, threshold: Threshold, rows: RowRange | None = None
) -> Rows:
    return detect_rows(
        image,
        n_sigma=threshold.n_sigma,
        background_rows=threshold.background_rows,
        skip_last_column=threshold.skip_last_column,
        max_gap=threshold.max_gap,
        whole_span=threshold.whole_span,
        rows=rows,
    )


_MARGIN = 12
"""Rows beside a run from which its background is taken."""
_LIT_SIGMA, _LIT_PART = 5.0, 0.1
_REST_SIGMA, _REST_PART = 3.0, 0.05
_LIT_BLOCKS = 64
_LEAST_DARK, _MOST_DARK = 5, 30
_LEAST_LINES = 3


def _checked_for_columns(image: xr.Dataset, runs: list[Run]) -> list[Run]:
    """Return runs, marked "patch" where their light stands in few columns only.

    A spectrum is longer than high, or it has several lines. A glow or a reflection is neither.
    """
    return [
        replace(run, state="patch") if run.state == "left" and _is_patch(image, run, runs) else run
        for run in runs
    ]


def _is_patch(image: xr.Dataset, run: Run, runs: list[Run]) -> bool:
    """Return whether the light of a run is one patch, less than twice as long as high.

    Nothing is left of a patch beyond its own length on both sides, or less than a twentieth.
    """
    light, noise, starts = light_of_blocks(image, run, runs)
    bright = light > np.maximum(_LIT_SIGMA * noise, _LIT_PART * float(light.max()))
    groups = kernel.bright_runs(bright)
    if not groups or len(groups) >= _LEAST_LINES:
        return False
    edges = np.append(starts, image.sizes[X])
    n_lit = sum(int(edges[stop] - edges[start]) for start, stop in groups)
    rest = noise > 0
    for start, stop in groups:
        rest[max(2 * start - stop, 0) : 2 * stop - start] = False
    left = float(np.add.reduce(light[rest]))
    spread = float(np.sqrt(np.add.reduce(noise[rest] ** 2)))
    little = max(_REST_SIGMA * spread, _REST_PART * float(np.add.reduce(light)))
    return n_lit < 2 * (run.last - run.first + 1) and left <= little


def light_of_blocks(
    image: xr.Dataset, run: Run, runs: list[Run]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
    """Return the light of a run of rows in at most 64 blocks of columns, and its noise.

    Parameters
    ----------
    image : counts (y, x), computed.
    run : the rows.
    runs : all bright runs of the image: the background is that of rows beyond them.

    Returns
    -------
    light, noise, starts (block) : sum over the columns of a block of the mean of the rows, its
        standard deviation from the scatter of the dark rows, 0 where there is none; and the first
        column, as a position.
    """
    low, counts = int(image[Y][0]), image[COUNTS].values
    n_columns = counts.shape[1]
    n_blocks = min(_LIT_BLOCKS, n_columns)
    starts = np.arange(n_blocks) * n_columns // n_blocks
    dark = np.ones(len(counts), np.bool_)
    for other in runs:
        dark[max(other.first - low - 2, 0) : other.last - low + 3] = False
    rows = np.flatnonzero(dark)
    if rows.size < _LEAST_DARK:
        return np.zeros(n_blocks), np.zeros(n_blocks), starts
    away = np.abs(rows + low - (run.first + run.last) / 2)
    rows = np.sort(rows[np.argsort(away, kind="stable")[:_MOST_DARK]])
    beside, own = counts[rows], counts[run.first - low : run.last - low + 1]
    there = np.isfinite(beside)
    level = column_medians(beside, there)
    noise = 1.4826 * column_medians(np.abs(beside - level), there)
    present = np.isfinite(own)
    n = np.count_nonzero(present, axis=0)
    known = (n > 0) & np.isfinite(noise)
    light = np.add.reduce(np.where(present, own, 0.0), axis=0) / np.maximum(n, 1) - level
    variance = noise**2 * (1.0 / np.maximum(n, 1) + 1.6 / rows.size)
    total = np.add.reduceat(np.where(known, light, 0.0), starts)
    return total, np.sqrt(np.add.reduceat(np.where(known, variance, 0.0), starts)), starts


def _checked_for_light(image: xr.Dataset, rule: Threshold, run: Run, threshold: float) -> Run:
    """Return a run of bright rows, marked "sharp" if its blurred rows fail the threshold."""
    low, counts = int(image[Y][0]), image[COUNTS].values
    start, stop = run.first - low, run.last - low + 1
    first = max(start - 4, 0)
    sample = background_sample(image, rule.background_rows, skip_last_column=rule.skip_last_column)
    means = blurred_means(counts[first : stop + 4], sample)
    bright = means[start - first : stop - first] > threshold
    return run if bright.any() else replace(run, state="sharp")


def _why_robust(image: xr.Dataset, rule: Threshold, runs: list[Run] | None = None) -> str:
    """Return the reason for the robust rule: signal in the sample, no spectrum, or no row."""
    sample = background_sample(image, rule.background_rows, skip_last_column=rule.skip_last_column)
    if holds_light(sample, kernel.row_means(image[COUNTS].values)):
        return f"{_sample_text(Run(*rule.background_rows))} contains signal"
    if runs and any(run.state == "left" for run in runs):
        return "the threshold splits the spectrum"
    return (
        "the rows above the threshold are not a spectrum"
        if runs
        else "no row is above the threshold"
    )


def _sample_text(sample: Run) -> str:
    return f"the background sample (rows {sample.first} to {sample.last})"


def _detect_robustly(
    image: xr.Dataset,
    threshold: Threshold,
    why: str,
    error: NoSpectrumError | None = None,
    sharp: list[Run] | None = None,
) -> tuple[Rows, list[Run]]:
    """Return the background, and the runs found by the robust rule; or raise.

    Parameters
    ----------
    why : the reason for a remark; "" for none.
    error : error of the threshold, where it found nothing either.
    sharp : runs found by the threshold; those that are no spectrum are returned as well.
    """
    seen = _without_saturated(image.assign({COUNTS: (image[COUNTS].dims, _best_counts(image))}))
    light, low = matched_filter(seen[COUNTS].values), int(image[Y][0])
    runs = [
        Run(start + low, stop - 1 + low, round(float(np.max(light.snr[start:stop])), 1))
        for start, stop in runs_of_light(light, threshold.max_gap)
    ]
    runs = _checked_for_columns(seen, runs)
    patches = [run for run in (*(sharp or ()), *runs) if run.state == "patch"]
    runs = [run for run in runs if run.state == "left"]
    if not runs:
        raise _robust_error(light, seen, error, patches)
    runs = _parted(image, runs)
    taken = np.zeros(len(light.snr), np.bool_)
    for run in runs:
        taken[run.first - low : run.last - low + 1] = True
    sample = Run(*threshold.background_rows)
    if why and _touches(sample, runs):
        why = f"{_sample_text(sample)} contained rows of a spectrum, now excluded"
    remarks = (f"{why}: robust detection used",) if why else ()
    left = [run for run in sharp or () if run.state == "sharp" and not _touches(run, runs)]
    left += [run for run in _distinct(patches) if not _touches(run, runs)]
    return replace(_background_rows(image, threshold, taken), remarks=remarks), [*runs, *left]


def _distinct(runs: list[Run]) -> list[Run]:
    """Return runs without those that touch an earlier one."""
    kept: list[Run] = []
    for run in runs:
        kept += [] if _touches(run, kept) else [run]
    return kept


def _touches(run: Run, runs: list[Run]) -> bool:
    return any(run.first <= other.last and other.first <= run.last for other in runs)


def _best_counts(image: xr.Dataset) -> NDArray[np.float64]:
    """Return the best estimate of an image (y, x), bad pixels NaN."""
    values = np.asarray(image[CLEAN if CLEAN in image else COUNTS].values, np.float64)
    if DQ not in image:
        return values
    return np.where(image[DQ].values & BAD_PIXEL, np.nan, values)


def _background_rows(image: xr.Dataset, rule: Threshold, taken: NDArray[np.bool_]) -> Rows:
    """Return the statistics of the background sample without the spectra in it.

    Where no row of the sample is left, all rows off the spectra are used.
    """
    low, counts = int(image[Y][0]), image[COUNTS].values
    first, last = rule.background_rows
    labels = np.arange(len(taken)) + low
    dark = ~taken & (labels >= first) & (labels <= last)
    chosen = dark if dark.any() else ~taken
    mean, std = kernel.background(counts[chosen, : counts.shape[1] - rule.skip_last_column])
    return Rows(0, 0, 0, mean, std, rule.n_sigma, mean + std * rule.n_sigma, rule="robust")


def _robust_error(
    light: MatchedRows, image: xr.Dataset, error: NoSpectrumError | None, patches: list[Run]
) -> NoSpectrumError:
    """Return the error of the robust rule, after that of the threshold."""
    low, n_rows = int(image[Y][0]), image.sizes[Y]
    filled = _filled_rows(kernel.row_means(image[COUNTS].values))
    if filled is not None:
        start, stop = filled
        return NoSpectrumError(
            f"Signal fills rows {start + low} to {stop - 1 + low}, {(stop - start) / n_rows:.0%} "
            "of the image, and no spectrum stands out",
            value=float("nan") if error is None else error.value,
            hint="Use --rows A:B to extract some of them, with --sky-rows C:D or --no-sky.",
        )
    if patches:
        run = patches[0]
        return NoSpectrumError(
            f"The only signal is in rows {run.first} to {run.last}, but in few columns: a glow, a "
            "reflection or a single line, not the spectrum of a star",
            value=float("nan") if error is None else error.value,
            hint="Use --rows A:B if it is the spectrum.",
        )
    peak = int(np.argmax(light.score))
    told = (
        f"robust detection finds nothing either; the best candidate is row {peak + low}, with "
        f"{light.score[peak]:.1f} of the {SURE_SNR:g} standard deviations needed"
    )
    if error is None:
        return NoSpectrumError(
            f"R{told[1:]}".replace("finds nothing either", "finds nothing"),
            value=float("nan"),
            hint="Use --rows A:B.",
        )
    return NoSpectrumError(f"{error.args[0]}; {told}", value=error.value, hint=error.hint)


def _filled_rows(means: NDArray[np.float64]) -> tuple[int, int] | None:
    """Return start and stop of light with sharp ends that fills half of the rows (y) or more.

    Its level and that of the dark rows beyond it are ten standard deviations of a row's mean apart,
    and few rows lie between them, as they would on a gradient.
    """
    known = np.isfinite(means)
    if np.count_nonzero(known) < _LEAST_ROWS:
        return None
    means = np.where(known, means, finite_median(means))
    dark, level = np.quantile(means, (_DARK_PART, 0.5))
    part = (means - dark) / max(float(level - dark), 1e-12)
    lit = np.flatnonzero(part > 0.5)
    between = np.count_nonzero((part > 0.2) & (part < 0.8))
    sharp = between <= _BETWEEN_PART * means.size and 2 * lit.size >= means.size
    if not sharp or level - dark < _MIN_LIGHT_EXCESS * step_noise(means):
        return None
    return int(lit[0]), int(lit[-1]) + 1


def _rows_of_run(image: xr.Dataset, found: Rows, run: Run, runs: list[Run]) -> Rows:
    """Return the rows of one run, with the others beside it."""
    low, high = int(image[Y][0]), int(image[Y][-1])
    means = kernel.row_means(image[COUNTS].values[run.first - low : run.last - low + 1])
    ends = [(run.first == low, "first"), (run.last == high, "last")]
    cut = [
        to_check(f"the spectrum is truncated: it touches the {name} row of the image")
        for touches, name in ends
        if touches
    ]
    rows = replace(
        found,
        first=run.first,
        last=run.last,
        snr=run.snr,
        n_bright=int(np.count_nonzero(means > found.threshold)),
        others=tuple(other for other in runs if other != run),
        remarks=(*found.remarks, *cut),
    )
    whole = touching_rows(rows)
    if whole != (run.first, run.last):
        told = "another spectrum overlaps: the aperture ends at the minimum between them"
        rows = replace(rows, remarks=(*rows.remarks, to_check(told)))
    if run.second is not None:
        rows = replace(rows, remarks=(*rows.remarks, _second_star_text(*run.second)))
    tallest = all(
        (other.snr or 0.0) <= (run.snr or 0.0) for other in runs if _lies_in(other, whole)
    )
    if whole == (run.first, run.last) or found.rule != "threshold" or not tallest:
        return rows
    return replace(rows, procedure=whole)


def _second_star_text(apart: float, part: float) -> str:
    """Return a remark on two stars that are not parted, by their distance in rows."""
    side = "above" if apart > 0 else "below"
    return to_check(
        f"a second star {abs(apart):.1f} rows {side} the first is in the aperture, about "
        f"{part:.0%} of the flux, or the star trailed or is out of focus: check the profile, and "
        f"use --rows A:B {'below' if apart > 0 else 'above'} their middle to exclude most of it"
    )


def _lies_in(run: Run, rows: RowRange) -> bool:
    return rows[0] <= run.first and run.last <= rows[1]


# Choice of one of several spectra by a row near it: `by_distance`.
#
# A row is read off an image viewer, in some column of a tilted trace, so that it is rarely exact.
# Yet the nearest spectrum is not accepted at any distance: a mistyped row, or one of another night,
# would silently yield another star.

FARTHEST = 50
"""Largest distance from `near_row` to its spectrum, rows."""


def by_distance(
    spectra: Iterable[Run], row: int, threshold: float
) -> tuple[list[Run], tuple[str, ...]]:
    """Return spectra by their distance from a row, and a remark on the first.

    Parameters
    ----------
    spectra : runs of rows, at least one.
    row : FITS number.
    threshold : threshold of the detection, for the error.

    Returns
    -------
    spectra, remarks : the nearest first; its distance, unless the row is one of its own.

    Raises
    ------
    NoSpectrumError
        The nearest is more than 50 rows away.

    Examples
    --------
    >>> by_distance([Run(3, 5), Run(40, 48)], 38, 0.0)[1]
    ('the spectrum nearest to row 38 is that of rows 40 to 48, 2 rows away',)
    """
    ordered = sorted(spectra, key=lambda run: _distance(row, [run]))
    taken = ordered[0]
    n = _distance(row, [taken])
    which = f"the spectrum nearest to row {row} is that of rows {taken.first} to {taken.last}"
    off = f"{which}, {n} row{'s' * (n != 1)} away"
    if n > FARTHEST:
        raise NoSpectrumError(
            f"No spectrum is within {FARTHEST} rows of row {row}: {off}",
            keyword="near_row",
            value=threshold,
            hint="Correct --near-row, or remove it to use the brightest.",
        )
    return ordered, (off,) if n else ()


def _distance(row: int, runs: list[Run]) -> int:
    """Return the distance of a row from the nearest of some runs, rows."""
    return min(max(run.first - row, row - run.last, 0) for run in runs)


_STATISTICS = ("mean", "std", "median")


def row_statistics(cube: xr.Dataset) -> xr.Dataset:
    """Return mean, standard deviation and median along x of every row.

    Parameters
    ----------
    cube : counts (..., y, x) in adu or electron, eager or chunked.

    Returns
    -------
    statistics : `mean`, `std` (population) and `median` (..., y), float64, lazy if the cube is.
        Bit-identical for any chunks.
    """
    import xarray as xr

    check_pixels(cube)
    counts = cube[COUNTS]
    statistics = _statistics_lazily(counts.data)
    coords = {name: coord for name, coord in cube.coords.items() if X not in coord.dims}
    attrs = {"units": counts.attrs.get("units", "adu")}
    return xr.Dataset(
        {name: (counts.dims[:-1], statistics[i], attrs) for i, name in enumerate(_STATISTICS)},
        coords=coords,
    )


def _statistics_lazily(pixels: Any) -> Any:
    if isinstance(pixels, np.ndarray):
        return kernel.statistics_of_rows(pixels)
    import dask.array as da

    whole_rows = pixels.rechunk({pixels.ndim - 1: -1})
    return da.map_blocks(
        kernel.statistics_of_rows,
        whole_rows,
        drop_axis=pixels.ndim - 1,
        new_axis=0,
        chunks=((len(_STATISTICS),), *whole_rows.chunks[:-1]),
        dtype=np.float64,
        meta=np.empty((0,) * pixels.ndim),
    )
