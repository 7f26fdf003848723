"""Numbers of a cell from its nights: `Measures`, each with its statistical error.

Errors come from the scatter of the nights: columns of one night share its dark, trace and profile,
so that they are no independent proofs. No error is below that of as many independent columns: the
scatter of six nights is half as large as it should be once in twenty times.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.truth.nights import Outcome, Values

_MAD = 1.482602218505602
_OF_MEAN, _OF_WIDTH, _OF_MEDIAN, _OF_MAD = 1.0, 0.71, 1.25, 1.17
"""The errors of statistics of n normal values, in units of their width over sqrt(n)."""


@dataclass(frozen=True)
class Measure:
    """A number and its statistical error."""

    value: float
    error: float


@dataclass(frozen=True)
class Measures:
    """What the nights of a cell say about one way of reducing them.

    Parameters
    ----------
    nights : how many were made.
    found : the part of them whose star was found.
    elsewhere, failed : how many had something else found, or an error.
    why : the errors.
    mean, width : of the pulls (flux - truth) / sigma, plain. Truth is the part of the light that
        the flux says it holds.
    robust_mean, robust_width : median and scaled median absolute deviation of the pulls.
    efficiency : S/N achieved, in parts of the best possible; from the robust scatter.
    bias, total_bias : of the flux, %: beside the part of the light it says it holds, and beside all
        of the light.
    enclosed : that part, on average.
    missing : the part of the columns without a finite flux or sigma.
    extraction : how the spectra say they were made, and how often.
    """

    nights: int
    found: float
    elsewhere: int
    failed: int
    why: tuple[str, ...] = ()
    mean: Measure | None = None
    width: Measure | None = None
    robust_mean: Measure | None = None
    robust_width: Measure | None = None
    efficiency: Measure | None = None
    bias: Measure | None = None
    total_bias: Measure | None = None
    enclosed: float | None = None
    missing: float | None = None
    extraction: tuple[tuple[str, int], ...] = ()


def measures_of(outcomes: Sequence[Outcome]) -> Measures:
    """Return the numbers of a cell."""
    kinds = Counter(outcome.found for outcome in outcomes)
    made = [outcome for outcome in outcomes if outcome.found == "found"]
    why = tuple(sorted({outcome.why for outcome in outcomes if outcome.found == "failed"}))
    counted = (len(outcomes), kinds["found"] / len(outcomes), kinds["elsewhere"], kinds["failed"])
    if not made:
        return Measures(*counted, why)
    nights = [_Night.of(outcome) for outcome in made]
    pulls = [night.pulls for night in nights]
    return Measures(
        *counted,
        why,
        mean=_over(pulls, np.mean, _OF_MEAN),
        width=_over(pulls, np.std, _OF_WIDTH),
        robust_mean=_over(pulls, np.median, _OF_MEDIAN),
        robust_width=_over(pulls, _mad, _OF_MAD),
        efficiency=_over([night.loss for night in nights], lambda loss: 1.0 / _mad(loss), 0.0),
        bias=_ratio([night.excess for night in nights], [night.light for night in nights]),
        total_bias=_ratio(
            [night.total_excess for night in nights], [night.light for night in nights]
        ),
        enclosed=float(np.mean([outcome.enclosed.mean() for outcome in made])),
        missing=float(np.mean([night.missing for night in nights])),
        extraction=tuple(sorted(Counter(outcome.extraction for outcome in made).items())),
    )


@dataclass(frozen=True)
class _Night:
    """A night's columns that have numbers: pulls, losses in best sigmas, and sums of light."""

    pulls: Values
    loss: Values
    excess: float
    total_excess: float
    light: float
    missing: float

    @classmethod
    def of(cls, outcome: Outcome) -> _Night:
        there = np.isfinite(outcome.flux) & np.isfinite(outcome.sigma) & (outcome.sigma > 0)
        flux, truth = outcome.flux[there], outcome.truth[there]
        enclosed = outcome.enclosed[there]
        off = flux - truth * enclosed
        return cls(
            pulls=off / outcome.sigma[there],
            loss=off / (outcome.best[there] * enclosed),
            excess=float(off.sum()),
            total_excess=float((flux - truth).sum()),
            light=float(truth.sum()),
            missing=1.0 - float(there.mean()),
        )


def _over(
    nights: Sequence[Values], statistic: Callable[[Values], np.floating | float], least: float
) -> Measure:
    """Return a statistic of all columns of all nights, and its error.

    Parameters
    ----------
    nights : values (x) of each.
    statistic : what is wanted of them.
    least : its error for n independent values, in units of their width over sqrt(n).
    """
    values = np.concatenate(nights)
    each = [float(statistic(night)) for night in nights]
    independent = least * _mad(values) / math.sqrt(values.size)
    return Measure(float(statistic(values)), max(_error(each), independent))


def _ratio(parts: Sequence[float], wholes: Sequence[float]) -> Measure:
    """Return a sum in parts of another, %, and its error."""
    each = [100.0 * part / whole for part, whole in zip(parts, wholes, strict=True)]
    return Measure(100.0 * sum(parts) / sum(wholes), _error(each))


def _error(each: Sequence[float]) -> float:
    """Return the error of the mean of some numbers; of a single one it is unknown: infinite."""
    return float(np.std(each, ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else math.inf


def _mad(values: Values) -> float:
    """Return the standard deviation of a normal distribution of the same median deviation."""
    return _MAD * float(np.median(np.abs(values - np.median(values))))
