"""Traces of drawn stars, and how far apertures reach."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import xarray as xr

from arrayred.errors import MismatchError
from arrayred.model import Rows, Run
from arrayred.steps import fit_trace, half_height_of
from tests.stars import draw, image_of


@pytest.mark.parametrize("tilt", [0.0, -3.0, 8.0])
@pytest.mark.parametrize("seeing", [2.0, 5.0, 12.0])
@pytest.mark.parametrize("snr", [5.0, 50.0])
def test_a_trace_is_where_the_star_is(snr: float, seeing: float, tilt: float) -> None:
    star = draw(snr, seeing=seeing, tilt=tilt)
    trace = fit_trace(star.image, star.rows)
    off = trace.center.values - star.center
    assert np.sqrt((off**2).mean()) < 0.06 * seeing * min(1, 10 / snr)
    assert trace.attrs["tilt"] == pytest.approx(tilt, abs=0.25 * seeing * min(1, 10 / snr))
    assert trace.attrs["fwhm"] == pytest.approx(seeing, rel=0.15)
    assert trace.attrs["trace"] == "fit"


def test_rows_are_numbered_as_in_the_file() -> None:
    star = draw(50.0)
    part = star.image.sel(y=slice(21, 90))
    whole = fit_trace(star.image, star.rows)
    assert np.allclose(fit_trace(part, star.rows).center, whole.center, atol=1e-6)
    assert whole.center.attrs["units"] == "pix"


def test_a_straight_trace_is_the_middle_of_the_rows() -> None:
    star = draw(50.0, tilt=4.0)
    trace = fit_trace(star.image, star.rows, straight=True)
    assert (trace.center == (star.rows.first + star.rows.last) / 2).all()
    assert (trace.attrs["tilt"], trace.attrs["trace_order"]) == (0.0, 0)
    assert trace.attrs["trace"] == "straight"
    assert half_height_of(star.rows, trace) == star.rows.n_rows / 2


def test_an_order_that_is_asked_for_is_the_highest() -> None:
    star = draw(300.0, tilt=8.0)
    assert fit_trace(star.image, star.rows, order=0).attrs["trace_order"] == 0


def test_a_star_too_faint_to_be_traced_is_taken_to_be_straight_and_said_so() -> None:
    star = draw(0.2, tilt=4.0)
    trace = fit_trace(star.image, star.rows)
    assert np.ptp(trace.center.values) == 0
    assert abs(float(trace.center[0]) - 50.3) < 8
    assert trace.attrs["trace"] == "straight"
    assert "too faint" in trace.attrs["remarks"][0]
    assert "remarks" not in fit_trace(draw(20.0).image, star.rows).attrs


def test_emission_lines_alone_are_traced() -> None:
    star = draw(300.0, tilt=3.0, seed=None)
    x = np.arange(600)
    lines = sum(np.exp(-0.5 * ((x - at) / 2) ** 2) for at in (40, 150, 155, 320, 430, 560))
    light = star.profile * lines * 2000 + 20
    counts = np.random.default_rng(0).poisson(light * 4.5) / 4.5
    trace = fit_trace(image_of(counts), star.rows)
    assert trace.attrs["n_bins"] < 16
    assert np.abs(trace.center - star.center).max() < 0.3


@pytest.mark.parametrize(("away", "run"), [(28, Run(70, 88)), (-28, Run(12, 32))])
def test_a_neighbour_does_not_pull_the_trace(away: int, run: Run) -> None:
    star, other = draw(30.0), draw(300.0, seed=None)
    image = image_of(
        star.image.counts.values + np.roll(other.image.counts.values - 20, away, axis=0)
    )
    rows = dataclasses.replace(star.rows, others=(run,))
    assert np.abs(fit_trace(image, rows).center - star.center).max() < 0.2


@pytest.mark.parametrize("given", [(56, 75), (51, 75), (62, 70)])
def test_given_rows_beside_a_star_are_not_its(given: tuple[int, int]) -> None:
    star = draw(300.0, tilt=2.0)
    others = (Run(45, min(56, given[0] - 1), row=50.0),)
    rows = Rows(*given, 1, 0.0, 1.0, 4.0, 4.0, others=others, rule="given")
    trace = fit_trace(star.image, rows)
    assert (trace.center == sum(given) / 2).all()
    assert "no star in rows" in trace.attrs["remarks"][0]
    assert half_height_of(rows, trace) == rows.n_rows / 2


@pytest.mark.parametrize("tilt", [0.0, 6.0])
@pytest.mark.parametrize("known", [True, False])
def test_the_star_of_given_rows_is_traced_beside_a_brighter_one(tilt: float, known: bool) -> None:
    star, other = draw(30.0, tilt=tilt), draw(300.0, tilt=tilt, seed=None)
    brighter = np.roll(other.image.counts.values - 20, 22, axis=0)
    image = image_of(star.image.counts.values + brighter)
    others = (Run(65, 80, row=72.0),) * known
    rows = Rows(38, 63, 1, 0.0, 1.0, 4.0, 4.0, others=others, rule="given")
    assert np.abs(fit_trace(image, rows).center - star.center).max() < 0.4


def test_an_aperture_ends_at_the_dip_however_the_trace_is_tilted() -> None:
    rows = rows_of(41, 54, Run(55, 66))
    assert half_height_of(rows, trace_at(50.2, tilt=6.0)) == pytest.approx(4.3)


def test_bad_pixels_and_missing_ones_do_not_move_it() -> None:
    star = draw(50.0, tilt=2.0)
    whole = fit_trace(star.image, star.rows).center
    image = star.image.copy(deep=True)
    image.counts[53, 100:300], image.dq[53, 100:300] = 1e6, 1
    image.counts[48, 400:420] = np.nan
    assert np.abs(fit_trace(image, star.rows).center - whole).max() < 0.15


@pytest.mark.parametrize("shape", [(100, 600), (100, 40), (100, 8), (100, 1)])
def test_images_of_any_width_have_a_trace(shape: tuple[int, int]) -> None:
    star = draw(300.0, shape=shape)
    trace = fit_trace(star.image, star.rows)
    assert np.abs(trace.center - star.center).max() < 1.0


@pytest.mark.parametrize("rows", [(1, 100), (48, 100), (1, 53), (50, 50)])
def test_rows_at_the_edges_have_a_trace(rows: tuple[int, int]) -> None:
    star = draw(100.0)
    found = Rows(*rows, 1, 0.0, 1.0, 4.0, 4.0)
    assert np.abs(fit_trace(star.image, found).center - star.center).max() < 0.6


def test_a_blank_image_has_a_straight_trace() -> None:
    trace = fit_trace(image_of(np.zeros((100, 60))), Rows(45, 55, 1, 0.0, 1.0, 4.0, 4.0))
    assert np.isfinite(trace.center).all()
    assert trace.attrs["trace"] == "straight"


def test_a_chunked_image_is_refused() -> None:
    star = draw(50.0)
    with pytest.raises(MismatchError, match="chunked"):
        fit_trace(star.image.chunk({"y": 10}), star.rows)


def trace_at(middle: float, tilt: float = 0.0, **attrs: float) -> xr.Dataset:
    center = ("x", np.linspace(middle - tilt / 2, middle + tilt / 2, 11))
    return xr.Dataset({"center": center}, attrs={"fwhm": 4.0, **attrs})


def rows_of(first: int, last: int, *others: Run, given: bool = False) -> Rows:
    rule = "given" if given else "threshold"
    return Rows(first, last, 1, 0.0, 1.0, 4.0, 4.0, others=others, rule=rule)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "trace", "half"),
    [
        (rows_of(41, 60), trace_at(50.2), 10.0),
        (rows_of(41, 60), trace_at(50.2, tilt=6.0), 7.0),
        (rows_of(49, 51), trace_at(50.2), 6.0),
        (rows_of(49, 51), trace_at(50.2, reach=2.0), 3.0),
        (rows_of(49, 51, Run(56, 60)), trace_at(50.2), 3.3),
        (rows_of(49, 51, Run(40, 44)), trace_at(50.2), 3.7),
        (rows_of(41, 60, Run(62, 70)), trace_at(50.2), 10.0),
        (rows_of(49, 53, given=True), trace_at(51.2), 2.3),
        (rows_of(49, 53, given=True), trace_at(60.0), 2.5),
    ],
)
def test_an_aperture_reaches_as_far_as_the_light(
    rows: Rows, trace: xr.Dataset, half: float
) -> None:
    assert half_height_of(rows, trace) == pytest.approx(half)
