"""The sky band: as many rows as the spectrum has, 50 above it, or below, or none and an error."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import arrayred as ar
from arrayred.errors import MismatchError, SkyBandError
from arrayred.model import Rows
from tests.steps import Array, image_of

N_ROWS = 200
Side = Literal["auto", "above", "below", "clipped"]


@pytest.fixture(scope="module")
def counts() -> Array:
    return np.random.default_rng(0).normal(100, 30, (N_ROWS, 20))


def rows_at(first: int, last: int, n_bright: int | None = None, given: bool = False) -> Rows:
    return Rows(
        first,
        last,
        n_bright or last - first + 1,
        0.0,
        1.0,
        4.0,
        4.0,
        rule="given" if given else "threshold",
    )


def less_sky(
    counts: Array, rows: Rows, *, offset: int = 50, side: Side = "auto", per_bright: bool = False
) -> xr.Dataset:
    image = image_of(counts)
    return ar.subtract_sky(
        ar.extract(image, rows), image, rows, offset=offset, side=side, per_bright_row=per_bright
    )


def band_of(spectrum: xr.Dataset) -> tuple[int, int]:
    return spectrum.attrs["sky_first_row"], spectrum.attrs["sky_last_row"]


@pytest.mark.parametrize(
    ("span", "offset", "side", "band"),
    [
        ((90, 99), 50, "auto", (149, 158)),
        ((90, 99), 50, "above", (149, 158)),
        ((90, 99), 50, "below", (31, 40)),
        ((90, 99), 20, "above", (119, 128)),
        ((90, 99), 20, "below", (61, 70)),
        ((90, 90), 50, "auto", (140, 140)),
        ((132, 141), 50, "auto", (191, 200)),
        ((133, 142), 50, "auto", (74, 83)),
        ((60, 69), 50, "below", (1, 10)),
        ((1, 10), 50, "auto", (60, 69)),
        ((190, 200), 50, "auto", (130, 140)),
    ],
)
def test_the_band_lies_where_the_documentation_says(
    counts: Array, span: tuple[int, int], offset: int, side: Side, band: tuple[int, int]
) -> None:
    spectrum = less_sky(counts, rows_at(*span), offset=offset, side=side)
    assert band_of(spectrum) == band
    assert np.array_equal(spectrum.sky, counts[band[0] - 1 : band[1]].sum(axis=0))


def test_flux_and_mean_are_less_the_sky(counts: Array) -> None:
    spectrum = less_sky(counts, rows_at(90, 99))
    net = counts[89:99].sum(axis=0) - counts[148:158].sum(axis=0)
    assert np.array_equal(spectrum.flux, net)
    assert np.array_equal(spectrum.counts_mean_sky_subtracted, net / 10)
    assert np.array_equal(spectrum.counts_mean, counts[89:99].mean(axis=0))


@pytest.mark.parametrize(("side", "remarked"), [("auto", True), ("below", False)])
def test_the_other_side_is_remarked_unless_asked_for(
    counts: Array, side: Side, remarked: bool
) -> None:
    spectrum = less_sky(counts, rows_at(160, 169), side=side)
    assert ("below" in " ".join(spectrum.attrs.get("remarks", []))) is remarked
    assert "remarks" not in less_sky(counts, rows_at(90, 99), side=side).attrs


@pytest.mark.parametrize(
    ("span", "side"),
    [((40, 169), "auto"), ((133, 142), "above"), ((59, 68), "below"), ((190, 199), "above")],
)
def test_a_band_off_the_image_is_an_error_with_numbers(
    counts: Array, span: tuple[int, int], side: Side
) -> None:
    with pytest.raises(SkyBandError, match="1:200") as caught:
        less_sky(counts, rows_at(*span), side=side)
    first, last = span
    above, below = f"{last + 50}:{2 * last + 50 - first}", f"{2 * first - last - 50}:{first - 50}"
    asked = {"above": [above], "below": [below], "auto": [above, below]}[side]
    assert all(band in str(caught.value) for band in asked)


@settings(deadline=None, max_examples=60)
@given(first=st.integers(1, N_ROWS), height=st.integers(1, 80), offset=st.integers(0, 90))
def test_clipped_is_the_procedure(counts: Array, first: int, height: int, offset: int) -> None:
    last = min(first + height - 1, N_ROWS)
    spectrum = less_sky(counts, rows_at(first, last), offset=offset, side="clipped")
    skybot = (last - 1) + offset
    sky = counts[skybot : skybot + last - first + 1]
    assert np.array_equal(spectrum.sky, sky.sum(axis=0))
    cut = [text for text in spectrum.attrs.get("remarks", []) if f"{len(sky)} of" in text]
    assert len(cut) == (len(sky) < last - first + 1)


@pytest.mark.parametrize(
    ("per_bright", "given", "divisor"),
    [(False, False, 10), (True, False, 7), (True, True, 10), (False, True, 10)],
)
def test_the_sum_is_divided_by_the_bright_rows_only_where_asked(
    counts: Array, per_bright: bool, given: bool, divisor: int
) -> None:
    spectrum = less_sky(counts, rows_at(90, 99, 7, given), per_bright=per_bright)
    assert np.array_equal(spectrum.counts_mean_sky_subtracted, spectrum.flux / divisor)


def with_errors(image: xr.Dataset) -> xr.Dataset:
    shape = image.counts.shape
    variance = np.random.default_rng(1).uniform(50, 200, shape).astype("f4")
    dq = np.zeros(shape, "u1")
    dq[92, 3], dq[95, 3], dq[152, 7] = 2, 8, 1
    return image.assign(variance=(("y", "x"), variance), dq=(("y", "x"), dq))


@pytest.mark.parametrize(("band", "weight"), [(None, 1.0), ((120, 159), 0.25)])
def test_the_variance_is_that_of_the_rows_and_of_the_weighted_band(
    counts: Array, band: tuple[int, int] | None, weight: float
) -> None:
    image, rows = with_errors(image_of(counts)), rows_at(90, 99)
    spectrum = ar.subtract_sky(ar.extract(image, rows), image, rows, band=band)
    first, last = band_of(spectrum)
    pixels = image.variance.values.astype(float)
    expected = pixels[89:99].sum(axis=0) + weight**2 * pixels[first - 1 : last].sum(axis=0)
    assert spectrum.variance.values == pytest.approx(expected, rel=1e-12)
    assert spectrum.variance.attrs["units"] == "adu2"


def test_the_star_in_a_given_band_is_left_out_of_it(counts: Array) -> None:
    image, rows = with_errors(image_of(counts)), rows_at(90, 99)
    spectrum = ar.subtract_sky(ar.extract(image, rows), image, rows, band=(80, 119))
    kept = np.r_[79:89, 99:119]
    assert spectrum.sky.values == pytest.approx(counts[kept].sum(axis=0) / 3, rel=1e-12)
    own = image.variance.values.astype(float)
    expected = own[89:99].sum(axis=0) + own[kept].sum(axis=0) / 9
    assert spectrum.variance.values == pytest.approx(expected, rel=1e-12)
    assert "its rows 90 to 99 are excluded" in spectrum.attrs["remarks"][-1]


def test_a_given_band_on_the_star_is_refused(counts: Array) -> None:
    image, rows = image_of(counts), rows_at(90, 99)
    with pytest.raises(SkyBandError, match=r"92:97 overlap the spectrum, rows 90:99"):
        ar.subtract_sky(ar.extract(image, rows), image, rows, band=(92, 97))


def test_flags_of_the_band_stand_apart_from_those_of_the_rows(counts: Array) -> None:
    image, rows = with_errors(image_of(counts)), rows_at(90, 99)
    spectrum = ar.subtract_sky(ar.extract(image, rows), image, rows)
    assert {x: int(dq) for x, dq in enumerate(spectrum.dq.values) if dq} == {3: 10}
    assert {x: int(dq) for x, dq in enumerate(spectrum.sky_dq.values) if dq} == {7: 1}
    assert spectrum.dq.attrs["flag_masks"] == [1, 2, 4, 8, 16, 32]


def test_no_variance_is_made_up(counts: Array) -> None:
    assert not {"variance", "dq", "sky_dq"} & set(less_sky(counts, rows_at(90, 99)))


def test_rows_are_those_of_the_file_in_a_part_of_an_image(counts: Array) -> None:
    image = image_of(counts).sel(y=slice(31, 180))
    rows = rows_at(90, 99)
    part = ar.subtract_sky(ar.extract(image, rows), image, rows)
    assert part.identical(less_sky(counts, rows))
    with pytest.raises(SkyBandError, match="31:180"):
        ar.subtract_sky(ar.extract(image, rows), image, rows, offset=73)


def test_units_and_history_are_kept_and_the_input_is_not_changed(counts: Array) -> None:
    image, rows = image_of(counts), rows_at(90, 99)
    spectrum = ar.extract(image, rows)
    before = spectrum.copy(deep=True)
    result = ar.subtract_sky(spectrum, image, rows)
    assert spectrum.identical(before)
    assert {variable.attrs["units"] for variable in result.values()} == {"adu"}
    assert result.attrs["history"] == [
        "opened",
        "rows 90 to 99 summed",
        "sky of rows 149 to 158 subtracted",
    ]


def test_a_chunked_image_is_refused(counts: Array) -> None:
    image, rows = image_of(counts), rows_at(90, 99)
    with pytest.raises(MismatchError, match="chunked"):
        ar.subtract_sky(ar.extract(image, rows), image.chunk({"y": 50}), rows)
