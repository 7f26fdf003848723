"""Lines of lamps: measured, identified without a guess, fitted; and what is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from astropy.modeling import fitting, models
from numpy.typing import NDArray
from scipy.special import ndtr

import arrayred as ar
from arrayred.errors import LampError, UsageError
from arrayred.model import SATURATED
from arrayred.steps.wavelength import (
    LAMPS,
    Dispersion,
    _comb_of,
    _decide,
    _Evidence,
    air_wavelength,
)
from benchmarks.truth.lamps import Lamp, simulate

Values = NDArray[np.float64]
READ_NOISE = 5.0


def arc_of(x: Values, flux: Values, sigma: float = 1.2, n: int = 400, seed: int = 0) -> xr.Dataset:
    """Return the arc of Gaussians integrated over pixels, with noise and its variance."""
    rng = np.random.default_rng(seed)
    pixel = np.arange(1.0, n + 1)
    away = pixel[:, np.newaxis] - x
    light = 100 + (flux * (ndtr((away + 0.5) / sigma) - ndtr((away - 0.5) / sigma))).sum(axis=1)
    counts = rng.poisson(light) + rng.normal(0, READ_NOISE, n)
    variance = np.maximum(counts, 1) + READ_NOISE**2
    return xr.Dataset({"flux": ("x", counts), "variance": ("x", variance)}, {"x": pixel})


def lines_of(x: Values, wave: Values, error: float = 0.05, **more: object) -> xr.Dataset:
    values = {"x": x, "wavelength": wave, "x_err": np.full(x.size, error), **more}
    return xr.Dataset({name: ("line", np.asarray(value)) for name, value in values.items()})


# What lines are.


def test_the_errors_of_centroids_are_the_scatter_of_centroids() -> None:
    pulls = []
    for seed in range(60):
        x = np.arange(20.0, 390, 23) + np.random.default_rng(seed).uniform(-0.5, 0.5, 17)
        found = ar.find_lamp_lines(arc_of(x, np.geomspace(600, 40_000, 17), seed=seed))
        for at in x:
            i = int(np.argmin(np.abs(found.x.values - at)))
            if abs(found.x.values[i] - at) < 1:
                pulls.append((found.x.values[i] - at) / found.x_err.values[i])
    assert len(pulls) > 950
    assert abs(np.mean(pulls)) < 0.1
    assert 0.9 < np.std(pulls) < 1.1


def test_flux_and_width_are_those_of_the_line() -> None:
    found = ar.find_lamp_lines(arc_of(np.array([100.25, 300.7]), np.array([5e4, 2e4]), sigma=1.5))
    assert found.sizes["line"] == 2
    assert found.flux.values == pytest.approx([5e4, 2e4], rel=0.02)
    assert found.width.values == pytest.approx([3.53, 3.53], rel=0.03)
    assert found.x.values == pytest.approx([100.25, 300.7], abs=0.03)


def test_a_blend_a_saturated_line_and_one_at_the_edge_are_named() -> None:
    x = np.array([2.6, 60.0, 120.0, 122.2, 200.0, 280.0, 340.0])
    arc = arc_of(x, np.full(7, 3e4))
    dq = np.zeros(400, np.uint8)
    dq[198:201] = SATURATED
    found = ar.find_lamp_lines(arc.assign(dq=("x", dq)))
    problem = dict(zip(found.x.values.round().astype(int), found.problem.values, strict=True))
    assert problem[min(problem)] == "edge"
    assert problem[200] == "saturated"
    assert {problem[k] for k in problem if 118 < k < 124} == {"blend"}
    assert {problem[60], problem[280], problem[340]} == {""}


def test_a_cosmic_ray_is_no_line() -> None:
    arc = arc_of(np.array([60.0, 150.0, 220.0, 300.0]), np.full(4, 3e4), sigma=2.0)
    arc.flux.values[100] += 2e4
    found = ar.find_lamp_lines(arc)
    near = np.abs(found.x.values - 101) < 3
    assert not (near & (found.problem.values == "")).any()
    assert found.sizes["line"] - np.count_nonzero(near) == 4


def test_a_line_that_leaves_the_image_while_it_is_fitted_is_none() -> None:
    arc = simulate(51019, "flat").arc
    assert 0 <= ar.find_lamp_lines(arc).x.values.max() <= arc.x.values.max()


def test_noise_has_no_lines_and_an_arc_of_nothing_is_refused() -> None:
    rng = np.random.default_rng(1)
    flat = xr.Dataset({"flux": ("x", rng.normal(0, 1, 3000)), "variance": ("x", np.ones(3000))})
    assert ar.find_lamp_lines(flat.assign_coords(x=np.arange(1, 3001))).sizes["line"] <= 1
    with pytest.raises(LampError, match="0 pixels with data"):
        ar.find_lamp_lines(flat.assign(flux=("x", np.full(3000, np.nan))))
    with pytest.raises(UsageError, match="flux or counts along x"):
        ar.find_lamp_lines(flat.rename(flux="light"))


# What the solution is.


def test_order_is_the_lowest_that_predicts_left_out_lines_as_well() -> None:
    x = np.linspace(20, 980, 30)
    noise = np.random.default_rng(3).normal(0, 0.05, 30)
    for order, wave in ((1, 5000 + 2 * x), (2, 5000 + 2 * x + 2e-4 * x**2)):
        assert ar.fit_dispersion(lines_of(x + noise, wave)).order == order


def test_chi2_is_one_and_rms_is_the_error_where_errors_are_right() -> None:
    x = np.linspace(20, 980, 200)
    noise = np.random.default_rng(3).normal(0, 0.05, 200)
    found = ar.fit_dispersion(lines_of(x + noise, 5000 + 2 * x))
    assert 0.8 < found.chi2 < 1.25
    assert found.rms_pixel == pytest.approx(0.05, rel=0.15)
    assert found.rms == pytest.approx(0.1, rel=0.15)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_equals_specreduce(order: int) -> None:
    wavecal = pytest.importorskip("specreduce.wavecal1d")
    rng = np.random.default_rng(order)
    x = np.sort(rng.uniform(1, 100, 25))  # with 2000 pixels it loses the fifth order: see below
    wave = 6500 - 8 * x + 1e-3 * x**2 + rng.normal(0, 0.05, 25)
    ours = ar.fit_dispersion(lines_of(x, wave, 1.0), order, given=True)
    theirs = wavecal.WavelengthCalibration1D(ref_pixel=50, pix_bounds=(0, 100)).fit_lines(
        x, wave, degree=order, refine_fit=False
    )
    place = np.linspace(x.min(), x.max(), 301)
    assert np.abs(ours.wavelength(place) - theirs.p2w(place)).max() < 1e-6


def exact_fit(x: Values, wave: Values, order: int, place: Values) -> Values:
    """Return the least squares polynomial at places, in fractions: nothing is rounded."""
    powers = range(order + 1)
    xs, waves = [Fraction(one) for one in x], [Fraction(one) for one in wave]
    rows = [
        [sum(one ** (i + j) for one in xs) for j in powers]
        + [sum(w * one**i for one, w in zip(xs, waves, strict=True))]
        for i in powers
    ]
    for i in powers:
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for k in powers:
            if k != i:
                factor = rows[k][i]
                rows[k] = [a - factor * b for a, b in zip(rows[k], rows[i], strict=True)]
    return np.array([float(sum(rows[i][-1] * Fraction(at) ** i for i in powers)) for at in place])


def test_the_fifth_order_is_exact_where_unscaled_powers_of_many_pixels_lose_it() -> None:
    wavecal = pytest.importorskip("specreduce.wavecal1d")
    rng = np.random.default_rng(5)
    x = np.sort(rng.uniform(1, 2000, 25))
    wave = 6500 - 0.8 * x + 1e-5 * x**2 + rng.normal(0, 0.05, 25)
    ours = ar.fit_dispersion(lines_of(x, wave, 1.0), 5, given=True)
    place = np.linspace(x.min(), x.max(), 41)
    exact = exact_fit(x, wave, 5, place)
    assert np.abs(ours.wavelength(place) - exact).max() < 1e-9
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a poor condition
        theirs = wavecal.WavelengthCalibration1D(ref_pixel=1000, pix_bounds=(0, 2000)).fit_lines(
            x, wave, degree=5, refine_fit=False
        )
        # Its fitter leaves out singular values below 25 times the rounding error: the fifth power
        # of 1000 pixels is among them. Where it keeps all of them, it agrees.
        whole = fitting.LinearLSQFitter()(models.Polynomial1D(5), x - 1000, wave, rcond=1e-30)
    assert np.abs(theirs.p2w(place) - exact).max() > 1e-3
    assert np.abs(whole(place - 1000) - exact).max() < 1e-6


def test_an_outlier_is_named_and_not_used_unless_the_user_vouches_for_it() -> None:
    x = np.linspace(20, 980, 20)
    wave = 5000 + 2 * x
    wave[7] += 5
    found = ar.fit_dispersion(lines_of(x, wave))
    assert found.lines is not None
    assert found.lines.why_not.values[7] == "outlier"
    assert found.lines.residual.values[7] == pytest.approx(5)
    assert found.n_lines == 19
    assert ar.fit_dispersion(lines_of(x, wave), given=True).n_lines == 20


def test_two_lines_of_the_user_make_a_solution_without_residuals() -> None:
    lines = lines_of(np.array([23.4, 629.7]), np.array([4358.33, 4916.07]))
    found = ar.fit_dispersion(lines, given=True)
    assert (found.order, found.n_lines, found.has_residuals) == (1, 2, False)
    assert found.wavelength(23.4) == pytest.approx(4358.33)
    with pytest.raises(LampError, match="2 lines can be used, and a solution of order 1 needs 4"):
        ar.fit_dispersion(lines)


def test_lines_of_the_star_may_be_shifted_against_those_of_the_lamp() -> None:
    x = np.linspace(20, 980, 24)
    source = np.where(np.arange(24) % 3 == 0, "star", "lamp")
    source[0] = "lamp"
    wave = 5000 + 2 * (x + np.where(source == "star", 3.2, 0))
    found = ar.fit_dispersion(lines_of(x, wave, source=source), shift_between="source")
    assert found.shift == pytest.approx(3.2, abs=0.01)
    assert found.wavelength(500) == pytest.approx(6000, abs=0.01)


def test_a_solution_that_turns_back_is_refused() -> None:
    x = np.linspace(1, 100, 12)
    with pytest.raises(LampError, match="do not rise or fall steadily"):
        ar.fit_dispersion(lines_of(x, 5000 + (x - 40) ** 2), 2)


def test_problem_lines_and_unidentified_ones_are_not_used() -> None:
    x = np.linspace(20, 980, 12)
    wave = 5000 + 2 * x
    wave[3] = np.nan
    problem = np.array([""] * 5 + ["blend"] + [""] * 6)
    found = ar.fit_dispersion(lines_of(x, wave, problem=problem))
    assert found.lines is not None
    assert found.lines.why_not.values[[3, 5]].tolist() == ["not identified", "blend"]
    assert found.n_lines == 10


def test_what_lies_beyond_the_outermost_lines_is_extrapolated() -> None:
    x = np.linspace(20, 980, 12)
    found = ar.fit_dispersion(lines_of(x, 7000 - 2 * x))
    assert found.is_extrapolated(np.array([19.9, 20.0, 980.0, 980.1])).tolist() == [
        True,
        False,
        False,
        True,
    ]
    assert found.dispersion(500) == pytest.approx(-2)


def test_a_solution_survives_a_file_and_what_is_none_is_refused() -> None:
    x = np.linspace(20, 980, 12)
    found = ar.fit_dispersion(lines_of(x, 5000 + 2 * x, width=np.full(12, 2.5)))
    again = Dispersion.from_dict(found.to_dict())
    assert again == found
    assert found.resolving_power == pytest.approx(6000 / 5, rel=0.01)
    for values in ({}, {**found.to_dict(), "coefficients": ["a"]}, {"coefficients": []}):
        with pytest.raises(UsageError, match="solution"):
            Dispersion.from_dict(values)


def test_between_two_lamps_the_solution_is_in_between() -> None:
    x = np.linspace(20, 980, 30)
    before = ar.fit_dispersion(lines_of(x, 5000 + 2 * x + 1e-4 * x**2), 2)
    after = before.shifted(0.4)
    middle = ar.interpolate_dispersion(before, after, 0.25)
    place = np.linspace(30, 970, 50)
    expected = before.shifted(0.1).wavelength(place)
    assert np.abs(middle.wavelength(place) - expected).max() < 1e-4
    assert (middle.first_pixel, middle.last_pixel) == (20.4, 980)
    with pytest.raises(UsageError, match="fraction"):
        ar.interpolate_dispersion(before, after, 1.5)


# Which line is which.


def solved(lamp: Lamp, name: str = "auto", **hint: float) -> tuple[xr.Dataset, float]:
    """Return the identified lines of a lamp, and the largest error of its range, pixel."""
    known = ar.identify(ar.find_lamp_lines(lamp.arc), name, **hint)  # type: ignore[arg-type]
    solution = ar.fit_dispersion(known)
    x = lamp.arc.x.values
    off = np.abs(solution.wavelength(x) - lamp.wavelength) / np.abs(np.gradient(lamp.wavelength))
    return known, float(off[~solution.is_extrapolated(x)].max())


@pytest.mark.parametrize("seed", [1, 4, 417])
def test_a_lamp_is_told_without_a_guess(seed: int) -> None:
    lamp = simulate(seed)
    known, off = solved(lamp)
    assert off < 0.3
    assert set(LAMPS[known.lamp]) == set(LAMPS[lamp.name])
    assert known.log10_nfa < -2


@pytest.mark.parametrize("seed", [12, 13])
def test_a_hint_narrows_the_search_which_ends_alike_each_time(seed: int) -> None:
    lamp = simulate(seed)
    middle = float(lamp.wavelength[[0, -1]].mean())
    hint = {"dispersion": lamp.dispersion * 1.03, "center": middle + 30}
    known, off = solved(lamp, lamp.name, **hint)
    assert off < 0.3
    assert known.identical(solved(lamp, lamp.name, **hint)[0])


def test_a_strong_variant_does_not_hide_the_solution_that_is_surer() -> None:
    known, off = solved(simulate(20157), "auto")
    assert known.lamp == "Cu+Ar"
    assert off < 0.3


def evidence(wave: Values, bend: float, log10_nfa: float) -> _Evidence:
    """Return a solution of lines 50 pixels apart that names them so."""
    n = int(np.isfinite(wave).sum())
    return _Evidence(
        np.array([6000.0, 500.0, 0.0, bend]), log10_nfa, wave, np.zeros(wave.size),
        np.full(wave.size, "NeI"), 0.95, 0.9, n, "Ne", 1.0,
    )  # fmt: skip


def test_variants_of_a_solution_are_no_rivals_and_lines_in_doubt_are_not_identified() -> None:
    x = np.arange(25.0, 1000, 50)
    wave = 6000 + (x - 500.5)
    lines = lines_of(x, wave, flux=np.full(20, 100.0), width=np.full(20, 3.0), problem=[""] * 20)
    comb = _comb_of(lines.assign_attrs(first_pixel=1.0, last_pixel=1000.0, fwhm=3.0))
    own = wave[comb.number]
    best = evidence(own, 0.0, -9.0)
    last, first = own > own.max() - 10, own < own.min() + 10
    variant = evidence(np.where(last, own + 7, np.where(first, np.nan, own)), 8.0, -7.0)
    found, margin = _decide(comb, [best, variant])
    assert np.array_equal(np.isnan(found.wave), last | first)
    assert (found.n_matched, margin) == (18, np.inf)
    assert found.flux_explained == pytest.approx(0.85)
    faint = variant._replace(log10_nfa=-5.9)
    assert np.isfinite(_decide(comb, [best, faint])[0].wave).all()
    surer = variant._replace(log10_nfa=-22.0, list_seen=0.62)
    with pytest.raises(LampError, match="Two solutions explain the lines almost equally well"):
        _decide(comb, [best, surer])
    rival = evidence(own + 40, 8.0, -7.0)
    with pytest.raises(LampError, match="Two solutions explain the lines almost equally well"):
        _decide(comb, [best, rival])
    half = evidence(np.where(np.arange(20) < 9, np.nan, own), 0.0, -8.9)
    many = evidence(np.where(np.arange(20) % 2, own + 7, own), 8.0, -7.0)
    with pytest.raises(LampError, match="Two solutions"):
        _decide(comb, [half, many])


def test_an_outermost_line_that_no_other_tells_is_not_identified() -> None:
    x = np.append(np.arange(25.0, 360, 16), 980.0)
    wave = 6000 + (x - 500.5)
    n = x.size
    lines = lines_of(x, wave, flux=np.full(n, 100.0), width=np.full(n, 3.0), problem=[""] * n)
    comb = _comb_of(lines.assign_attrs(first_pixel=1.0, last_pixel=1000.0, fwhm=3.0))
    best = evidence(wave[comb.number], 0.0, -9.0)
    found, _ = _decide(comb, [best])
    assert np.array_equal(np.isnan(found.wave), x[comb.number] > 900)
    assert (found.n_matched, best.n_matched) == (n - 1, n)


@pytest.mark.parametrize("seed", [70238, 70342, 70419])
def test_a_solution_ends_where_lines_are_found_that_the_others_place_elsewhere(seed: int) -> None:
    _, off = solved(simulate(seed))
    assert off < 0.5


def test_lines_beyond_a_gap_that_explain_little_of_what_is_there_are_not_identified() -> None:
    with pytest.raises(
        LampError, match="Ar fits, but too few lines are certain: 13 of 35, with 47%"
    ):
        solved(simulate(51281))


def test_a_gap_in_which_no_line_tells_the_wavelengths_is_not_covered() -> None:
    with pytest.raises(LampError, match=r"Between x = 2242\.0 and 3101\.9 .* 1\.\d pixel") as found:
        solved(simulate(51105))
    assert found.value.hint == "Use a shorter exposure of the lamp: lines there are saturated."
    x = np.array([20.0, 30.0, 970.0, 985.0])
    lines = lines_of(x, 6000 + x, problem=[""] * 4).assign_attrs(first_pixel=1.0, last_pixel=1e3)
    with pytest.raises(LampError, match=r"Between x = 30\.0 and 970\.0 no line can be used"):
        ar.fit_dispersion(lines)
    assert ar.fit_dispersion(lines, given=True).order == 1
    x = np.array([20.0, 340.0, 660.0, 985.0])
    assert ar.fit_dispersion(lines.assign(x=("line", x), wavelength=("line", 6000 + x))).order == 1


def test_a_polynomial_does_not_swing_in_a_gap() -> None:
    lamp = simulate(140141)  # of order 5 it would be 1.2 pixels off in the middle of a gap
    identified, off = solved(lamp)
    assert off < 0.2
    with pytest.raises(LampError, match=r"Between x = 1101\.3 and 1676\.1 .* swings") as failure:
        ar.fit_dispersion(identified, 5)
    assert str(failure.value.hint).startswith("Use a lower order")
    # A bend of the detector is no swing where lines hold it.
    x = np.linspace(30.0, 970.0, 24)
    bent = lines_of(x, 6000 + x + 3 * np.sin(x / 120), x_err=np.full(24, 0.02))
    assert ar.fit_dispersion(bent).order == 5


def test_lines_too_few_for_the_order_that_they_ask_for_are_refused() -> None:
    with pytest.raises(LampError, match=r"4 lines can be used, which allow order 1") as found:
        solved(simulate(140251))
    assert found.value.hint == "Use a shorter exposure of the lamp: some lines are saturated."
    x = np.array([20.0, 340.0, 660.0, 985.0])
    wave = 6000 + x + 1e-4 * (x - 500) ** 2
    with pytest.raises(LampError, match="use another lamp"):
        ar.fit_dispersion(lines_of(x, wave, x_err=np.full(4, 0.02)))


def test_a_solution_that_many_lines_contradict_is_refused() -> None:
    x = np.linspace(30, 970, 24)
    wave = 6000 + x + 1e-4 * x**2
    lines = lines_of(x, wave, x_err=np.full(24, 0.02))
    assert ar.fit_dispersion(lines).n_lines == 24
    few, many = wave.copy(), wave.copy()
    few[[4, 9, 15]] += [5.0, -8.0, 6.0]
    many[[2, 6, 9, 13, 17]] += [8.0, -8.0, 6.0, -5.0, 9.0]
    assert ar.fit_dispersion(lines_of(x, few, x_err=np.full(24, 0.02))).n_lines == 21
    with pytest.raises(LampError, match=r"\d of 24 lines contradict the others"):
        ar.fit_dispersion(lines_of(x, many, x_err=np.full(24, 0.02)))


def test_pulls_of_lines_and_chi_squares_are_those_of_exact_errors() -> None:
    pulls, chi2, freedom = [], [], []
    for seed in range(136, 153):
        lamp = simulate(seed)
        middle = float(lamp.wavelength[[0, -1]].mean())
        try:
            known = ar.identify(
                ar.find_lamp_lines(lamp.arc), lamp.name, dispersion=lamp.dispersion, center=middle
            )
            solution = ar.fit_dispersion(known)
        except LampError:
            continue
        lines = solution.lines
        assert lines is not None
        lines = lines.isel(line=lines.used.values)
        order, x = np.argsort(lamp.wavelength), lamp.arc.x.values
        step = np.abs(np.interp(lines.x, x, np.gradient(lamp.wavelength)))
        truth = np.interp(lines.wavelength, lamp.wavelength[order], x[order])
        pulls.append((lines.x.values - truth) / np.hypot(lines.x_err, lines.wavelength_err / step))
        freedom.append(solution.n_lines - solution.order - 1)
        chi2.append(solution.chi2 * freedom[-1])
    away = np.abs(np.concatenate(pulls))
    assert away.size > 300
    assert 0.9 < 1.4826 * np.median(away) < 1.1
    assert 0.9 < np.sqrt(np.mean(np.minimum(away, 5.0) ** 2)) < 1.1
    assert 0.8 < sum(chi2) / sum(freedom) < 1.5


def test_a_solution_of_another_night_is_shifted_onto_the_lamp() -> None:
    lamp = simulate(4)
    x = lamp.arc.x.values.astype(float)
    poly = np.polynomial.Polynomial.fit(x, lamp.wavelength, 3, domain=[x[0], x[-1]])
    other = Dispersion(tuple(poly.coef), x[0], x[-1], 20, 0.1, 0.1, 1.0).shifted(11.3)
    known = ar.identify(ar.find_lamp_lines(lamp.arc), "Kr", near=other)
    solution = ar.fit_dispersion(known)
    middle = x[x.size // 2]
    assert abs(solution.wavelength(middle) - lamp.wavelength[x.size // 2]) < 0.2 * lamp.dispersion
    with pytest.raises(LampError):
        ar.identify(ar.find_lamp_lines(lamp.arc), "Kr", near=other.shifted(60))


@pytest.mark.parametrize(
    ("seed", "kind", "asked"),
    [(4, "lamp", "Ne"), (12, "lamp", "Kr"), (13, "shuffled", "auto"), (10, "random", "Ar")],
)
def test_what_is_not_the_lamp_is_refused(seed: int, kind: str, asked: str) -> None:
    with pytest.raises(LampError, match="Try another --lamp") as caught:
        ar.identify(ar.find_lamp_lines(simulate(seed, kind).arc), asked)
    assert "--lines FILE" in str(caught.value)


def test_few_lines_and_unknown_lamps_are_refused() -> None:
    few = ar.find_lamp_lines(arc_of(np.array([60.0, 150.0, 220.0]), np.full(3, 3e4)))
    with pytest.raises(LampError, match="3 lines can be used, and at least 8"):
        ar.identify(few)
    with pytest.raises(UsageError, match="Unknown lamp 'Nr'"):
        ar.identify(few, "Nr")


def test_short_and_long_exposures_make_one_list() -> None:
    x, flux = np.array([50.0, 120.0, 200.0, 310.0]), np.array([4e5, 2e4, 3e4, 900.0])
    dq = np.zeros(400, np.uint8)
    dq[48:51] = SATURATED
    long = arc_of(x, flux).assign(dq=("x", dq))
    short = arc_of(x, flux / 20, seed=1)
    merged = ar.merge_lines(ar.find_lamp_lines(long), ar.find_lamp_lines(short))
    assert merged.x.values == pytest.approx(x, abs=0.4)
    assert merged.exposure.values.tolist() == [1, 0, 0, 0]
    assert set(merged.problem.values) == {""}
    assert merged.flux.values[0] == pytest.approx(4e5, rel=0.1)


# Lines that the user names.


@pytest.fixture
def listed(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "lines.txt"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_a_list_of_the_user_is_read(listed: Callable[[str], Path]) -> None:
    text = "# mine\n629.7 4916.07 Hg\n\n23.4, 4358.33, HgI  # bright\n300 4861.33 H star\n"
    lines = ar.read_line_list(listed(text), 765)
    assert lines.x.values.tolist() == [23.4, 300, 629.7]
    assert lines.element.values.tolist() == ["HgI", "H", "Hg"]
    assert lines.source.values.tolist() == ["lamp", "star", "lamp"]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("10 5852.49\n20 neon\n", "Line 2: '20 neon' is not two numbers"),
        ("10\n", "Line 1: 1 values"),
        ("10 5852.49\n900 5881.9\n", "Line 2: x 900 lies off the detector, which has pixels 1 to"),
        ("10 5852.49\n10 5881.9\n", "Lines 1 and 2 name the same pixel"),
        ("10 nan\n", "Line 1: x 10 and wavelength nan"),
        ("10 585.249\n20 588.19\n", "seem to be nanometres"),
        ("# nothing\n", "empty"),
        (
            "10 5854.11\n20 5883.53\n40 5946.48\n60 5977.19\n",
            "All wavelengths are those .* in vacuum",
        ),
        (
            "10 5852.49 Ne\n20 5881.89 Ne\n40 5946.48 Ne\n",
            "Of the wavelengths 1 are those .*line 3",
        ),
    ],
)
def test_a_list_that_is_wrong_is_refused_by_line(
    listed: Callable[[str], Path], text: str, match: str
) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        ar.read_line_list(listed(text), 765)
    assert caught.value.path is not None
    assert caught.value.hint


def test_air_is_vacuum_divided_by_its_index() -> None:
    assert air_wavelength(6564.614) == pytest.approx(6562.80, abs=0.01)


# Real lamps, where they are at hand.

REAL = {
    "toronto-2019-10": ("toronto-2019-10", "NeonCalibration.fit", (219, 246), "Ne"),
    "stonybrook-2017-10": ("stonybrook-2017-10", "L2-arc-neon.00000000.FIT", (70, 77), "Ne"),
    "isis-2018-08": ("formats/isis", "r2701259.fit.gz", (468, 477), "Ne+Ar"),
}
NOT_LISTED = {"isis-2018-08": [786.234, 1828.379, 1947.553, 1963.515, 1992.204, 2115.697]}
"""Lines of 77 to 1,236 adu beside bright ones with flat tops: what a Gaussian leaves of these is
taken for further lines, which spoil theirs."""


def real_arc(nights: Path, folder: str, name: str, rows: tuple[int, int]) -> xr.Dataset:
    """Return the mean of the rows of a frame of a lamp, as the list of its lines tells them."""
    path = sorted((nights / folder).rglob(name))[0]
    with fits.open(path) as hdus:
        hdu = next(one for one in hdus if one.data is not None)
        pixels = np.asarray(hdu.data, np.float64)
    if folder.endswith("isis"):
        pixels = pixels.T
    flux = pixels[rows[0] - 1 : rows[1]].mean(axis=0)
    return xr.Dataset({"flux": ("x", flux)}, {"x": np.arange(1, flux.size + 1)})


def known_lines(nights: Path, name: str) -> tuple[Values, Values]:
    """Return x, error and wavelength of lines identified by hand, and their polynomial."""
    path = nights.parent / "lamps" / "identified" / name / "lines.txt"
    if not path.exists():
        pytest.skip(f"identified lamps are not at {path}")
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split()[:3] for line in lines if line.strip() and not line.startswith("#")]
    poly = next((line for line in lines if "polynomial in x" in line), ":").split(":")[1].split()
    return np.array(rows, np.float64), np.array(poly, np.float64)


@pytest.mark.parametrize("name", REAL)
def test_a_real_lamp_is_told_as_by_hand(nights: Path, name: str) -> None:
    folder, frame, rows, lamp = REAL[name]
    reference, poly = known_lines(nights, name)
    found = ar.find_lamp_lines(real_arc(nights, folder, frame, rows))
    known = ar.identify(found)
    solution = ar.fit_dispersion(known)
    assert known.lamp == lamp
    x = np.linspace(solution.first_pixel, solution.last_pixel, 400)
    off = np.abs(solution.wavelength(x) - np.polyval(poly, x)) / np.abs(solution.dispersion(x))
    assert off.max() < 0.2
    away = np.abs(reference[:, :1] - known.x.values)
    near = away.argmin(axis=1)
    within = away.min(axis=1) <= np.maximum(0.1, 3 * reference[:, 1])
    assert reference[~within, 0].tolist() == NOT_LISTED.get(name, [])
    ours = known.isel(line=near[within])
    wave, step = ours.wavelength.values, np.abs(solution.dispersion(ours.x.values))
    told = np.isfinite(wave)
    assert told.mean() > 0.7
    told &= ours.problem.values == ""  # the others are in doubt, and not used
    # By hand a line has one wavelength; where two of the list are not resolved, ours is of both.
    wrong = np.abs(wave - reference[within, 2])
    assert (wrong <= np.maximum(0.2 * step, 3 * ours.wavelength_err.values))[told].all()


def test_two_mercury_lines_are_refused_and_fitted_where_the_user_names_them(
    nights: Path, tmp_path: Path
) -> None:
    reference, _ = known_lines(nights, "stonybrook-2017-10-hg")
    arc = real_arc(nights, "stonybrook-2017-10", "L2-arc-hg*", (46, 52))
    with pytest.raises(LampError, match=r"can be used, and at least|No lamp explains"):
        ar.identify(ar.find_lamp_lines(arc), "Hg")
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{x} {wave} Hg\n" for x, wave in reference[:, :2]), encoding="utf-8")
    found = ar.fit_dispersion(ar.read_line_list(path, 765), given=True)
    assert not found.has_residuals
    assert found.dispersion(300.0) == pytest.approx(0.92, abs=0.01)
