"""Which rows are taken for a spectrum: bright ones, faint ones, and never what no star can be."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import xarray as xr

from arrayred.errors import NoSpectrumError, UsageError
from arrayred.model import Rows, Run
from arrayred.steps import Threshold, detect_rows, find_all_rows, find_rows
from benchmarks.truth.independent import Exposure, IndependentNight, Source
from tests.faint_fields import blank_field, star_field
from tests.steps import Array, image_of


def field(*stars: tuple[float, float], n_rows: int = 200, seeing: float = 5.0) -> Array:
    """Return noise of 5 about 20, with stars (row, FITS number; brightest pixel)."""
    counts = np.random.default_rng(1).normal(20, 5, (n_rows, 240))
    y = np.arange(1, n_rows + 1)[:, None]
    for row, peak in stars:
        counts += peak * np.exp(-0.5 * ((y - row) / (seeing / 2.355)) ** 2)
    return counts


def states(rows: Rows) -> list[tuple[int, int, str]]:
    return [(run.first, run.last, run.state) for run in rows.others]


def is_found(seed: int, **options: Any) -> bool:
    star = star_field(seed, **options)
    try:
        rows = find_rows(image_of(star.counts))
    except NoSpectrumError:
        return False
    return rows.first - star.reach <= star.row <= rows.last + star.reach


def is_taken_for_a_star(seed: int) -> bool:
    try:
        find_rows(image_of(blank_field(seed).counts))
    except NoSpectrumError:
        return False
    return True


def test_faint_stars_are_found() -> None:
    assert sum(map(is_found, range(15))) >= 14


def test_blank_frames_hold_no_star() -> None:
    assert sum(map(is_taken_for_a_star, range(40))) <= 1


@pytest.mark.slow
def test_of_150_faint_stars_at_most_one_is_missed() -> None:
    assert sum(is_found(seed, snr=5.0 + seed % 4) for seed in range(150)) >= 149


@pytest.mark.slow
def test_of_500_blank_frames_at_most_one_in_a_hundred_holds_a_star() -> None:
    assert sum(map(is_taken_for_a_star, range(500))) <= 5


def test_three_lines_alone_are_found_where_they_are_plain() -> None:
    assert sum(is_found(seed, snr=15.0, lines=True) for seed in range(20)) >= 19


@pytest.mark.parametrize("method", ["auto", "threshold"])
def test_a_bright_star_has_the_rows_of_the_threshold(method: Any) -> None:
    image = image_of(field((120, 900)))
    assert find_rows(image, method=method) == detect_rows(image)
    assert detect_rows(image).snr == pytest.approx(900 / (5 / np.sqrt(240)), rel=0.25)


def test_a_faint_star_is_found_by_the_robust_rule_which_says_so() -> None:
    rows = find_rows(image_of(field((120, 8))))
    assert rows.rule == "robust"
    assert rows.first <= 118 <= 122 <= rows.last
    assert rows.remarks == ("no row is above the threshold: robust detection used",)
    with pytest.raises(NoSpectrumError):
        find_rows(image_of(field((120, 8))), method="threshold")


@pytest.mark.parametrize("peak", [8.0, 900.0, 20000.0])
def test_the_robust_rule_alone_finds_faint_and_bright(peak: float) -> None:
    rows = find_rows(image_of(field((120, peak))), method="robust")
    assert 112 <= rows.first <= 118 <= 122 <= rows.last <= 128
    assert (rows.others, rows.remarks) == ((), ())


def test_a_hot_row_far_brighter_than_the_star_is_not_taken() -> None:
    counts = field((120, 300))
    counts[179] += 5000
    rows = find_rows(image_of(counts))
    assert rows.first < 120 < rows.last < 130
    assert states(rows) == [(180, 180, "sharp")]
    assert "too narrow for a star" in str(rows.others[0])


def test_four_cosmic_pixels_are_no_spectrum() -> None:
    counts = field((120, 300))
    counts[179, [30, 31, 100, 200]] = 65535
    assert states(find_rows(image_of(counts))) == [(180, 180, "sharp")]


def test_with_nothing_but_a_hot_row_nothing_is_found() -> None:
    counts = field()
    counts[179] += 5000
    with pytest.raises(NoSpectrumError, match="obust detection"):
        find_rows(image_of(counts))


def test_a_faint_star_is_found_beside_a_hot_row() -> None:
    counts = field((120, 8))
    counts[179] += 5000
    rows = find_rows(image_of(counts))
    assert rows.first < 120 < rows.last
    assert states(rows) == [(180, 180, "sharp")]


def test_the_whole_span_is_the_procedures_with_a_warning() -> None:
    counts = field((120, 300))
    counts[179] += 5000
    image, whole = image_of(counts), Threshold(whole_span=True)
    rows = find_rows(image, whole, method="threshold")
    bright = np.flatnonzero(counts.mean(axis=1) > rows.threshold) + 1
    assert (rows.first, rows.last, rows.n_bright) == (bright[0], 180, len(bright))
    assert "2 separate runs" in rows.remarks[0]
    assert "row 180" in rows.remarks[0]


@pytest.mark.parametrize("method", ["auto", "robust"])
def test_of_two_stars_the_brighter_is_taken_and_the_other_told(method: Any) -> None:
    rows = find_rows(image_of(field((80, 400), (150, 900))), method=method)
    assert rows.first < 150 < rows.last
    (other,) = rows.others
    assert other.first < 80 < other.last
    assert other.state == "left"
    assert "(S/N " in str(other)


@pytest.mark.parametrize("method", ["auto", "robust", "threshold"])
@pytest.mark.parametrize(("near", "row"), [(60, 80), (100, 80), (85, 80), (130, 150)])
def test_near_row_chooses(method: Any, near: int, row: int) -> None:
    image = image_of(field((80, 400), (150, 900)))
    rows = find_rows(image, method=method, near_row=near)
    assert rows.first < row < rows.last


def test_all_are_found_the_chosen_first_and_each_knows_the_others() -> None:
    counts = field((70, 400), (120, 900), (180, 600))
    counts[149] += 5000
    every = find_all_rows(image_of(counts))
    assert [round((rows.first + rows.last) / 2) for rows in every] == [120, 180, 70]
    for rows in every:
        assert sorted(run.state for run in rows.others) == ["sharp", "taken", "taken"]


def test_near_row_tells_how_far_off_it_was() -> None:
    image = image_of(field((80, 400), (150, 900)))
    assert find_rows(image, near_row=80).remarks == ()
    (told,) = find_rows(image, near_row=60).remarks
    assert re.fullmatch(
        r"the spectrum nearest to row 60 is that of rows 7\d to 8\d, 1\d rows away", told
    )


def test_a_row_far_from_any_star_is_refused() -> None:
    with pytest.raises(NoSpectrumError, match=r"within 50 rows of row 20: .* rows away"):
        find_rows(image_of(field((80, 400), (150, 900))), near_row=20)


@pytest.mark.parametrize("near", [0, 201])
def test_a_row_off_the_image_is_refused(near: int) -> None:
    with pytest.raises(UsageError, match="1:200"):
        find_rows(image_of(field((120, 900))), near_row=near)


def test_a_wing_is_no_second_star() -> None:
    y = np.arange(1, 201)[:, None]
    counts = field() + 20000 / (1 + ((y - 120) / 3.0) ** 2)
    rows = find_rows(image_of(counts), method="robust")
    assert rows.others == ()
    assert 95 < rows.first < 110 < 130 < rows.last < 145


def test_a_spectrum_within_the_sample_is_found_and_said() -> None:
    image = image_of(field((30, 900), seeing=9.0))
    rows = find_rows(image)
    assert rows.first < 30 < rows.last
    assert rows.background_mean == pytest.approx(20, abs=3)
    assert "background sample (rows 1 to 50)" in rows.remarks[0]
    with pytest.raises(NoSpectrumError, match="contains signal") as caught:
        find_rows(image, method="threshold")
    assert "--background-rows" in caught.value.hint


def test_a_bright_star_that_reaches_into_the_sample_is_found_whole_and_left_out_of_it() -> None:
    image = image_of(field((49, 900), seeing=4.0))
    assert 45 <= detect_rows(image).first <= 50
    rows = find_rows(image)
    assert rows.rule == "robust"
    assert "contained rows of a spectrum, now excluded" in rows.remarks[0]
    assert rows.background_std < 10 < detect_rows(image).background_std
    assert "--background-rows" in find_rows(image, method="threshold").remarks[0]


@pytest.mark.parametrize("shape", [(40, 240), (40, 1000), (60, 1000)])
def test_on_a_low_image_the_sample_leaves_the_spectrum_out(shape: tuple[int, int]) -> None:
    counts = np.random.default_rng(2).normal(20, 5, shape)
    counts[18:23] += 300
    rows = find_rows(image_of(counts))
    assert 18 <= rows.first <= 19 < 23 <= rows.last <= 24
    kept = np.delete(counts[:50], range(rows.first - 1, rows.last), axis=0)
    assert (rows.background_mean, rows.background_std) == (np.mean(kept), np.std(kept))


@pytest.mark.parametrize(("row", "name"), [(1, "first"), (200, "last")])
def test_a_spectrum_at_the_edge_is_said_to_be_truncated(row: int, name: str) -> None:
    rows = find_rows(image_of(field((row, 900))))
    assert row in (rows.first, rows.last)
    assert any(f"truncated: it touches the {name} row" in text for text in rows.remarks)


def test_a_gap_of_five_rows_is_bridged_and_counts() -> None:
    counts = field()
    counts[[100, 101, 102, 108, 109, 110]] += 900
    rows = find_rows(image_of(counts), method="threshold")
    assert (rows.first, rows.last, rows.n_rows, rows.n_bright) == (101, 111, 11, 6)


def test_the_robust_rule_looks_at_the_best_estimate_without_bad_pixels() -> None:
    counts, dq = field(), np.zeros((200, 240), np.uint8)
    clean = counts + field((120, 8)) - field()
    clean[150:156] += 50.0
    dq[150:156] = 1
    image = image_of(counts).assign(clean=(("y", "x"), clean), dq=(("y", "x"), dq))
    rows = find_rows(image)
    assert rows.first < 120 < rows.last
    assert rows.others == ()


def test_given_rows_are_taken_as_they_are() -> None:
    (rows,) = find_all_rows(image_of(field((120, 900))), rows=(10, 20))
    assert (rows.first, rows.last, rows.rule) == (10, 20, "given")


@pytest.mark.parametrize("method", ["auto", "robust", "threshold"])
@pytest.mark.parametrize("given", [(130, 150), (121, 150), (60, 100)])
def test_the_spectra_beside_given_rows_are_known(method: Any, given: tuple[int, int]) -> None:
    rows = find_rows(image_of(field((80, 400), (120, 900))), method=method, rows=given)
    beside = [run for run in rows.others if run.first < 120 < run.last + 2]
    assert len(beside) == 1
    assert beside[0].last < given[0] or beside[0].first > given[1]
    own = given[0] <= 80 <= given[1]
    assert any(run.first < 80 < run.last for run in rows.others) != own


def test_no_spectrum_beside_given_rows_is_no_failure() -> None:
    assert find_rows(image_of(field()), rows=(10, 20)).others == ()
    assert (
        find_rows(image_of(field((120, 900))), Threshold(whole_span=True), rows=(9, 20)).others
        == ()
    )


@pytest.mark.parametrize("apart", [8, 10, 14])
@pytest.mark.parametrize("ratio", [1.01, 0.3, 0.1])
@pytest.mark.parametrize(
    ("peak", "lean"), [(900.0, 0.0), (900.0, 9.0), (20000.0, -4.0), (200.0, 2.0)]
)
def test_two_stars_are_parted_at_the_dip(
    apart: int, ratio: float, peak: float, lean: float
) -> None:
    y, x = np.arange(1, 201)[:, None], np.linspace(-0.5, 0.5, 240)
    counts = np.random.default_rng(1).normal(20, 5, (200, 240))
    for row, height in ((100, 1.0), (100 + apart, ratio)):
        counts += peak * height * np.exp(-0.5 * ((y - row - lean * x) / (4.0 / 2.355)) ** 2)
    first, second = find_all_rows(image_of(counts))
    assert {round(run.row or 0) for one in (first, second) for run in one.others} == {
        100,
        100 + apart,
    }
    low, high = sorted((first, second), key=lambda rows: rows.first)
    assert low.first < 100 < low.last < high.first < 100 + apart < high.last
    assert (first is low) == (ratio < 1)


def pair_of(apart: float, ratio: float, fwhm: float = 4.0) -> xr.Dataset:
    y, x = np.arange(1, 201)[:, None], np.linspace(-0.5, 0.5, 240)
    counts = np.random.default_rng(1).normal(20, 5, (200, 240))
    for row, height in ((100.3, 2000.0), (100.3 + apart, 2000.0 * ratio)):
        counts += height * np.exp(-0.5 * ((y - row - 2 * x) / (fwhm / 2.355)) ** 2)
    return image_of(counts)


@pytest.mark.parametrize(("apart", "ratio"), [(4, 0.5), (5, 1.0), (6, 0.1), (-5, 0.2)])
def test_two_stars_without_a_dip_between_them_are_parted_by_their_joint_profile(
    apart: int, ratio: float
) -> None:
    rows = find_rows(pair_of(apart, ratio))
    (other,) = rows.others
    places = {round(100.3), round(100.3 + apart)}
    if ratio < 1:
        assert other.row == round(100.3 + apart)
    assert other.row in places
    assert "overlaps" in rows.remarks[0]


def test_two_stars_too_near_to_be_parted_are_told_and_so_where_rows_are_given() -> None:
    image = pair_of(3, 0.99)
    told = "a second star 3.0 rows"
    for rows in (find_rows(image), find_rows(image, rows=(85, 120))):
        assert not rows.others
        assert told in rows.remarks[-1]
        assert "--rows A:B" in rows.remarks[-1]
    assert not any(told in text for text in find_rows(image, rows=(85, 99)).remarks)


def test_the_tables_of_parted_stars_are_of_the_rows_of_the_procedure() -> None:
    image = image_of(field((100, 900), (110, 300), seeing=4.0))
    first, second = find_all_rows(image)
    whole = detect_rows(image)
    assert first.procedure == (whole.first, whole.last) == (first.first, second.last)
    assert (first.of_procedure.first, first.of_procedure.last) == first.procedure
    assert second.procedure is None
    assert "overlaps" in first.remarks[0]


@pytest.mark.parametrize("bend", [0.0, 6.0])
def test_a_star_out_of_focus_or_bent_is_one(bend: float) -> None:
    y, x = np.arange(1, 201)[:, None], np.linspace(-1, 1, 240)
    center = 100 + bend * (4 * x**3 - 3 * x)
    ring = sum(np.exp(-0.5 * ((y - center - off) / 3.0) ** 2) for off in (-3.4, 3.4) if not bend)
    light = ring if not bend else np.exp(-0.5 * ((y - center) / 1.5) ** 2)
    counts = np.random.default_rng(1).normal(20, 5, (200, 240)) + 2000 * light
    assert find_rows(image_of(counts)).others == ()


@pytest.mark.parametrize("n_lights", [1, 2])
def test_the_tracks_of_cosmic_rays_are_no_spectrum(n_lights: int) -> None:
    taken = 0
    for seed in range(5):
        lights = (Exposure(),) * n_lights
        night = IndependentNight((Source(100.0),), exposures=lights, tracks=20, seed=seed)
        frames = [(name, pixels.astype(float)) for name, (pixels, _) in night.frames().items()]
        dark = np.median([pixels for name, pixels in frames if "dark" in name], axis=0)
        light = np.mean([pixels for name, pixels in frames if "star" in name], axis=0)
        with suppress(NoSpectrumError):
            find_rows(image_of(light - dark))
            taken += 1
    assert taken == 0


GLOW = np.hypot(np.arange(200)[:, None] - 160.0, np.arange(240) - 239.0)


@pytest.mark.parametrize("near", [None, 60, 90])
@pytest.mark.parametrize("peak", [900.0, 9.0])
@pytest.mark.parametrize("glow", ["edge", "spot", "saturated"])
def test_a_glow_does_not_take_the_find(glow: str, peak: float, near: int | None) -> None:
    counts, dq = field((60, peak)), np.zeros((200, 240), np.uint8)
    if glow == "edge":
        counts += 8000 * np.exp(-GLOW / 12)
    elif glow == "spot":
        counts[110:150, 100:130] += 3000
    else:
        counts[120:190, -5:], dq[120:190, -5:] = 65535, 2
    rows = find_rows(image_of(counts).assign(dq=(("y", "x"), dq)), near_row=near)
    assert 50 < rows.first < 60 < rows.last < 70
    assert {run.state for run in rows.others} <= {"patch"}
    if glow == "saturated":
        assert [(run.first, run.last) for run in rows.others] == [(121, 190)]


def test_a_glow_alone_is_no_spectrum() -> None:
    with pytest.raises(NoSpectrumError, match="in few columns: a glow"):
        find_rows(image_of(field() + 8000 * np.exp(-GLOW / 12)))


def test_lines_of_a_slit_are_no_patch() -> None:
    counts, columns = field(), np.arange(240)
    for column in (40, 120, 190):
        counts[80:130] += 2000 * np.exp(-0.5 * ((columns - column) / 2) ** 2)
    rows = find_rows(image_of(counts))
    assert abs(rows.first - 81) <= 1
    assert abs(rows.last - 130) <= 1


def test_a_row_near_a_faint_star_is_not_that_of_a_bright_one() -> None:
    image = image_of(field((60, 15), (100, 900)))
    assert find_rows(image).first > 90
    assert find_rows(image, near_row=60).last < 70


@pytest.mark.parametrize("part", [0.6, 0.8])
def test_light_that_fills_the_slit_is_the_reason(part: float) -> None:
    counts = field()
    low, high = round(100 - 100 * part), round(100 + 100 * part)
    counts[low:high] += 300
    with pytest.raises(NoSpectrumError, match=rf"Signal fills rows {low + 1} to {high}") as caught:
        find_rows(image_of(counts))
    assert "--rows A:B" in caught.value.hint


def test_a_spectrum_that_the_threshold_tears_is_one() -> None:
    counts = field()
    counts[80:130] += 25
    counts[[82, 90, 101, 110, 120, 128]] -= 8
    counts[:, 30:40] += 1.0
    rows = find_rows(image_of(counts), Threshold(n_sigma=4.0, max_gap=0))
    assert abs(rows.first - 81) <= 2
    assert abs(rows.last - 130) <= 2


def test_the_error_names_the_numbers_and_three_rows() -> None:
    counts = field()
    with pytest.raises(NoSpectrumError) as caught:
        find_rows(image_of(counts))
    brightest = np.argsort(-counts.mean(axis=1))[:3] + 1
    message = str(caught.value)
    assert all(f"row {row} with" in message for row in brightest)
    assert "of the 5 standard deviations needed" in message
    with pytest.raises(NoSpectrumError, match="Robust detection finds nothing"):
        find_rows(image_of(counts), method="robust")


def test_rows_are_those_of_the_file_in_a_part_of_an_image() -> None:
    image: xr.Dataset = image_of(field((120, 8))).sel(y=slice(41, 200))
    rows = find_rows(image, Threshold(background_rows=(41, 80)))
    assert rows.first < 120 < rows.last


def test_a_level_is_no_light_and_the_robust_rule_divides_by_no_noise() -> None:
    with pytest.raises(NoSpectrumError):
        find_rows(image_of(np.full((120, 60), 7.0)))


def test_runs_tell_what_became_of_them() -> None:
    assert str(Run(950, 950, 12.0)) == "another spectrum in row 950 (S/N 12) was not extracted"
    assert str(Run(3, 9, None, "taken")) == "another spectrum in rows 3:9 was extracted separately"
