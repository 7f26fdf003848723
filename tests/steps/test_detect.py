"""Rows of a spectrum: the published rule, and which of the bright rows are taken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arrayred as ar
from arrayred.errors import MismatchError, NoSpectrumError, UsageError
from arrayred.simulate import SimulatedNight
from tests.steps import Array, image_of


def with_bright_rows(*rows: int, n_rows: int = 120, level: float = 9.0) -> Array:
    """Return an image of background 1 and 3 (mean 2, deviation 1) with rows of one level."""
    counts = np.full((n_rows, 8), [1.0, 3.0] * 4)
    for row in rows:
        counts[row - 1] = level
    return counts


def published_rule(counts: Array, x: float, last_column: int) -> tuple[float, list[int]]:
    """Return threshold and bright rows as the published script has them."""
    sky = counts[0:50, 0:last_column]
    sample = np.mean(sky) + np.std(sky) * x
    return sample, [y + 1 for y in range(len(counts)) if sample < np.mean(counts, axis=1)[y]]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    x=st.floats(0, 8),
    strength=st.floats(0, 30),
    skip_last_column=st.booleans(),
)
def test_rows_are_those_of_the_published_rule(
    seed: int, x: float, strength: float, skip_last_column: bool
) -> None:
    counts = np.random.default_rng(seed).normal(10, 3, (90, 41))
    counts[60:70] += strength
    options: dict[str, Any] = {"n_sigma": x, "skip_last_column": skip_last_column}
    threshold, bright = published_rule(counts, x, 40 if skip_last_column else 41)
    if not bright:
        with pytest.raises(NoSpectrumError):
            ar.detect_rows(image_of(counts), whole_span=True, **options)
        return
    rows = ar.detect_rows(image_of(counts), whole_span=True, **options)
    assert (rows.threshold, rows.n_sigma) == (threshold, x)
    assert (rows.first, rows.last, rows.n_bright) == (bright[0], bright[-1], len(bright))


def test_the_star_of_a_simulated_night_is_found(simulated: SimulatedNight) -> None:
    star = simulated.truth().star
    rows = ar.detect_rows(image_of(star.values + np.random.default_rng(0).normal(0, 5, star.shape)))
    assert rows.first < 85 < rows.last
    assert float(star.sel(y=rows.span).sum() / star.sum()) > 0.95
    assert rows.rule == "threshold"


@pytest.mark.parametrize(("level", "found"), [(6.0, False), (np.nextafter(6.0, 7.0), True)])
def test_a_row_must_exceed_the_threshold(level: float, found: bool) -> None:
    image = image_of(with_bright_rows(80, level=level))
    if found:
        assert ar.detect_rows(image, n_sigma=4).first == 80
    else:
        with pytest.raises(NoSpectrumError):
            ar.detect_rows(image, n_sigma=4)


def test_the_numbers_that_found_the_rows_are_kept() -> None:
    rows = ar.detect_rows(image_of(with_bright_rows(80, 81, 83)), n_sigma=4)
    assert (rows.background_mean, rows.background_std, rows.threshold) == (2.0, 1.0, 6.0)
    assert (rows.first, rows.last, rows.n_rows, rows.n_bright) == (80, 83, 4, 3)


def test_the_run_with_the_brightest_row_is_taken_and_the_others_reported() -> None:
    counts = with_bright_rows(60, 61, 62, 80, 81, 110)
    counts[80] = 50.0
    rows = ar.detect_rows(image_of(counts))
    assert (rows.first, rows.last, rows.n_bright) == (80, 81, 2)
    assert [(run.first, run.last) for run in rows.others] == [(60, 62), (110, 110)]


@pytest.mark.parametrize(
    ("max_gap", "span"), [(0, (80, 80)), (4, (80, 80)), (5, (80, 86)), (9, (80, 86))]
)
def test_small_gaps_are_bridged(max_gap: int, span: tuple[int, int]) -> None:
    counts = with_bright_rows(80, 86)
    counts[79] = 50.0
    rows = ar.detect_rows(image_of(counts), max_gap=max_gap)
    assert (rows.first, rows.last) == span
    assert rows.n_bright + len(rows.others) == 2


def test_gaps_of_five_rows_are_bridged_by_default() -> None:
    assert ar.detect_rows(image_of(with_bright_rows(80, 86))).n_rows == 7
    assert ar.detect_rows(image_of(with_bright_rows(80, 87))).n_rows == 1


@pytest.mark.parametrize("max_gap", [0, 5])
def test_the_whole_span_is_from_the_lowest_to_the_highest(max_gap: int) -> None:
    image = image_of(with_bright_rows(60, 61, 80, 110))
    rows = ar.detect_rows(image, whole_span=True, max_gap=max_gap)
    assert (rows.first, rows.last, rows.n_bright, rows.others) == (60, 110, 4, ())


def test_given_rows_are_taken_and_the_background_measured() -> None:
    rows = ar.detect_rows(image_of(with_bright_rows(80, 81, 100)), rows=(79, 90))
    assert (rows.first, rows.last, rows.n_bright, rows.rule) == (79, 90, 2, "given")
    assert (rows.threshold, rows.others) == (6.0, ())


def test_given_rows_need_not_be_bright() -> None:
    rows = ar.detect_rows(image_of(with_bright_rows()), rows=(79, 90))
    assert (rows.first, rows.last, rows.n_bright) == (79, 90, 0)


def test_without_a_bright_row_the_error_gives_the_numbers() -> None:
    image = image_of(with_bright_rows(80, level=5.5), first_row=11)
    with pytest.raises(NoSpectrumError) as caught:
        ar.detect_rows(image, n_sigma=4, background_rows=(11, 50))
    message = str(caught.value)
    for number in ("6.00 (", "2.00 + 4 x 1.00", "row 90", "5.50"):
        assert number in message
    assert caught.value.value == 6.0


@pytest.mark.parametrize("spoilt", [slice(None), slice(3, 4)])
def test_missing_pixels_of_background_and_spectrum_are_left_out(spoilt: slice) -> None:
    counts = with_bright_rows(80)
    whole = ar.detect_rows(image_of(counts))
    counts[spoilt, 2] = np.nan
    counts[80, 1] = np.nan
    rows = ar.detect_rows(image_of(counts))
    assert (rows.first, rows.last) == (whole.first, whole.last)
    sample = counts[:50]
    assert rows.background_mean == pytest.approx(np.nanmean(sample))


def test_a_background_without_a_pixel_finds_nothing() -> None:
    counts = with_bright_rows(80)
    counts[:50] = np.nan
    with pytest.raises(NoSpectrumError):
        ar.detect_rows(image_of(counts))


@pytest.mark.parametrize("span", [(121, 130), (0, 20), (30, 20), (-5, 5)])
def test_a_background_sample_off_the_image_is_refused(span: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="1:120"):
        ar.detect_rows(image_of(with_bright_rows(80)), background_rows=span)


@pytest.mark.parametrize("span", [(115, 121), (0, 20), (30, 20)])
def test_given_rows_off_the_image_are_refused(span: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="1:120") as caught:
        ar.detect_rows(image_of(with_bright_rows(80)), rows=span)
    assert caught.value.value == span


def test_the_background_sample_includes_both_ends() -> None:
    counts = with_bright_rows(20, 31)
    for span in ((21, 30), (20, 30), (21, 31)):
        rows = ar.detect_rows(image_of(counts), background_rows=span, rows=(80, 80))
        sample = counts[span[0] - 1 : span[1]]
        assert (rows.background_mean, rows.background_std) == (np.mean(sample), np.std(sample))


@pytest.mark.parametrize("n_rows", [1, 2, 30, 49])
def test_on_a_small_image_the_sample_ends_with_the_image(n_rows: int) -> None:
    counts = with_bright_rows(n_rows, n_rows=n_rows, level=9.0)
    rows = ar.detect_rows(image_of(counts), rows=(1, 1))
    assert rows.background_mean == np.mean(counts)
    assert rows.background_std == np.std(counts)


def test_rows_are_those_of_the_file_in_a_part_of_an_image() -> None:
    image = image_of(with_bright_rows(80, 81)).sel(y=slice(51, 120))
    rows = ar.detect_rows(image, background_rows=(51, 70))
    assert (rows.first, rows.last) == (80, 81)
    with pytest.raises(UsageError, match="51:120"):
        ar.detect_rows(image, background_rows=(1, 50))


def test_a_row_with_a_missing_pixel_is_not_bright() -> None:
    counts = with_bright_rows(60, 80)
    counts[99, 3] = np.nan
    counts[79] = 20.0
    assert ar.detect_rows(image_of(counts)).first == 80


def test_a_chunked_image_is_refused() -> None:
    with pytest.raises(MismatchError, match="chunked"):
        ar.detect_rows(image_of(with_bright_rows(80)).chunk({"y": 10}))
