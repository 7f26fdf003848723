"""The harness that sets spectra beside their truth is right itself."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from arrayred.simulate import Detector, SimulatedNight, Star
from benchmarks.publish import ROOT, between_markers
from benchmarks.truth.__main__ import MARK, PAGE, main, publish
from benchmarks.truth.aims import misses
from benchmarks.truth.cells import (
    N_DARKS,
    SURPRISES,
    Cell,
    best_sigma,
    blank_night,
    combined_variance,
    full_grid,
    peak_row_snr,
    quick_grid,
)
from benchmarks.truth.measures import Measure, Measures, measures_of
from benchmarks.truth.nights import Outcome, compare, is_blank
from benchmarks.truth.results import Results
from benchmarks.truth.tables import missed_cells, page, section

CELL = Cell(30.0, nights=2)
GOOD = Measures(10, 1.0, 0, 0, mean=Measure(0.01, 0.001), width=Measure(1.01, 0.001))
MACHINE = {"date": "2026-01-02T03:04+00:00", "cpu": "a chip", "cores": 2, "memory_gib": 24.0}
MACHINE |= {"system": "Linux 6", "python": "3.11.7", "load_before": 0.0}


def outcomes(
    bias: float = 0.0, width: float = 1.0, enclosed: float = 1.0, n: int = 40
) -> list[Outcome]:
    """Return nights of 500 columns whose pulls are known."""
    rng = np.random.default_rng(1)
    truth, sigma, held = np.full(500, 1000.0), np.full(500, 20.0), np.full(500, enclosed)
    return [
        Outcome(
            "found",
            flux=truth * enclosed * (1 + bias) + width * rng.normal(0, 20.0, 500),
            sigma=sigma,
            truth=truth,
            best=sigma / 2,
            enclosed=held,
        )
        for _ in range(n)
    ]


# Cells


@pytest.mark.parametrize("snr", [3.0, 30.0, 300.0])
@pytest.mark.parametrize("seeing", [2.0, 12.0])
def test_the_light_of_a_cell_gives_its_snr(snr: float, seeing: float) -> None:
    truth = replace(Cell(snr, seeing).night(0), seed=5).truth()
    best = truth.flux.values / best_sigma(truth, 3, N_DARKS)
    assert np.median(best) == pytest.approx(snr, rel=0.01)


def test_the_best_sigma_is_what_optimal_weights_achieve() -> None:
    truth = SimulatedNight(Detector((40, 6)), Star(row=20.0, lines=())).truth()
    variance = combined_variance(truth, 3, 5)[:, 2]
    profile = truth.star.values[:, 2] / truth.flux.values[2]
    weights = profile / variance / np.sum(profile**2 / variance)
    assert np.sum(weights * profile) == pytest.approx(1.0)
    assert best_sigma(truth, 3, 5)[2] == pytest.approx(math.sqrt(np.sum(weights**2 * variance)))


def test_the_true_variance_is_that_of_the_combined_image() -> None:
    night = SimulatedNight(Detector((40, 40)), Star(lines=()), n_darks=5, n_lights=3)
    images = []
    for seed in range(80):
        dark, light = (replace(night, seed=seed).cube(kind).counts for kind in ("dark", "light"))
        images.append(light.values.mean(axis=0) - np.median(dark.values, axis=0))
    usual = np.median(replace(night, seed=0).truth().dark_variance.values)
    ratio = np.var(images, axis=0) / combined_variance(replace(night, seed=0).truth(), 3, 5)
    assert np.median(ratio) == pytest.approx(1.0, abs=0.02)
    assert usual > 60


def test_the_peak_row_stands_out_by_its_mean_over_that_of_its_noise() -> None:
    night = SimulatedNight(Detector((40, 100)), Star(row=20.0, tilt=0.0, lines=()))
    truth = night.truth()
    noise = math.sqrt(np.median(combined_variance(truth, 3, 5)[19]) / 100)
    assert peak_row_snr(truth, 3, 5) == pytest.approx(truth.star.values[19].mean() / noise)


def test_no_two_nights_share_their_random_numbers() -> None:
    cells = [Cell(3.0), Cell(30.0), Cell(30.0, rays=True)]
    seeds = [cell.night(seed).seed for cell in cells for seed in range(20)]
    assert len({*seeds, *(blank_night(seed).seed for seed in range(20))}) == 80
    assert Cell(3.0).night(7) == Cell(3.0).night(7)


def test_a_surprise_changes_what_it_says_and_no_more() -> None:
    usual = Cell(30.0).night(0)
    odd = {name: Cell(30.0, surprise=name).night(0) for name in SURPRISES}
    assert odd["Moffat wings"].star.profile == "moffat"
    assert odd["pixel response"].detector.response_scatter == 0.01
    assert odd["sky gradient"].sky.gradient == 0.2
    assert odd["tilted sky lines"].sky.tilt == 3.0
    assert odd["all of them"].sky.gradient == 0.2
    assert max(light for _, light, _ in odd["all of them"].sky.lines) == 0.2
    assert max(light for _, light, _ in odd["bright tilted sky lines"].sky.lines) == 1.0
    assert odd["wrong gain"].detector.header_gain == pytest.approx(1.05 * usual.detector.gain)
    assert odd["trace drift"].trace_drift * 2 == 0.5
    assert {name for name, night in odd.items() if night.detector != usual.detector} == {
        "pixel response",
        "bias drift",
        "wrong gain",
        "all of them",
    }


def test_the_bias_drifts_by_3_adu_from_the_darks_to_the_lights() -> None:
    night = Cell(30.0, n_frames=9, surprise="bias drift").night(0)
    hours = {kind: [] for kind in ("dark", "light")}  # type: ignore[var-annotated]
    for exposure in night.exposures():
        hours[exposure.frame_type].append(exposure.hours)
    between = np.mean(hours["light"]) - np.mean(hours["dark"])
    assert night.detector.bias_drift * between == pytest.approx(3.0)


@pytest.mark.parametrize("grid", [full_grid, quick_grid])
def test_a_grid_has_every_kind_of_cell_once(grid: object) -> None:
    cells = list(grid())  # type: ignore[operator]
    assert len({cell.name for cell in cells}) == len(cells)
    assert {cell.surprise for cell in cells} == {"", *SURPRISES}
    assert {cell.seeing for cell in cells} == {2.0, 5.0, 12.0}
    assert min(cell.snr for cell in cells) == 3.0
    assert max(cell.snr for cell in cells) == 300.0
    assert any(cell.rays and cell.hot for cell in cells)


# Measures


@pytest.mark.parametrize("enclosed", [1.0, 0.9])
def test_pulls_of_the_right_width_are_told_as_such(enclosed: float) -> None:
    found = measures_of(outcomes(enclosed=enclosed))
    assert found.mean is not None
    assert found.bias is not None
    for measure, expected in (
        (found.mean, 0.0),
        (found.width, 1.0),
        (found.robust_mean, 0.0),
        (found.robust_width, 1.0),
        (found.efficiency, 0.5 * enclosed),
        (found.bias, 0.0),
        (found.total_bias, 100 * (enclosed - 1)),
    ):
        assert measure is not None
        assert measure.value == pytest.approx(expected, abs=4 * measure.error)
        assert 0 < measure.error < 0.1


def test_a_bias_and_a_wrong_width_are_seen() -> None:
    found = measures_of(outcomes(bias=0.02, width=1.3))
    assert found.bias is not None
    assert found.bias.value == pytest.approx(2.0, abs=0.1)
    told = [why.split()[0] for why in misses(CELL, found)]
    assert told == ["mean", "robust", "width", "robust", "efficiency"]
    assert misses(CELL, found)[2] == f"width {_told(found.width)}, aim 0.95 to 1.05"
    odd = [why.split()[0] for why in misses(replace(CELL, surprise="wrong gain"), found)]
    assert odd == ["bias", "width", "robust"]


def _told(measure: Measure | None) -> str:
    assert measure is not None
    return f"{measure.value:.3f} +- {measure.error:.3f}"


def test_columns_without_a_number_are_left_out_and_counted() -> None:
    nights = outcomes()
    for night in nights:
        night.flux[:50] = np.nan
    found = measures_of(nights)
    assert found.missing == pytest.approx(0.1)
    assert found.width is not None
    assert found.width.value == pytest.approx(1.0, abs=0.02)


def test_nights_where_nothing_was_found_or_something_failed_count() -> None:
    nights = [*outcomes(n=6), Outcome("nothing"), Outcome("elsewhere"), Outcome("failed", "Oops")]
    found = measures_of(nights)
    assert (found.nights, found.elsewhere, found.failed) == (9, 1, 1)
    assert found.found == pytest.approx(6 / 9)
    told = " ".join(misses(CELL, found))
    assert "1 of 9 nights failed: Oops" in told
    assert "1 of 9 nights show something else" in told
    assert "found in 66.7% of the nights" in told


def test_nothing_is_asked_of_a_star_that_none_could_find() -> None:
    assert misses(Cell(0.05), measures_of([Outcome("nothing")])) == []


def test_errors_are_the_scatter_of_the_nights() -> None:
    nights = outcomes(n=30)
    means = [float(np.mean((night.flux - night.truth) / night.sigma)) for night in nights]
    found = measures_of(nights).mean
    assert found is not None
    assert found.value == pytest.approx(np.mean(means))
    scatter = np.std(means, ddof=1) / math.sqrt(30)
    assert found.error == pytest.approx(max(scatter, 1 / math.sqrt(15_000)), rel=0.05)


def test_no_error_is_below_that_of_independent_columns() -> None:
    for seeds in range(2, 8):
        found = measures_of(outcomes(n=seeds))
        assert found.mean is not None
        assert found.width is not None
        assert found.mean.error >= 0.95 / math.sqrt(500 * seeds)
        assert found.width.error >= 0.65 / math.sqrt(500 * seeds)


def test_the_error_of_one_night_is_unknown() -> None:
    found = measures_of(outcomes(n=1)).mean
    assert found is not None
    assert found.error == math.inf


# Nights


def test_a_plain_sum_has_pulls_of_width_one() -> None:
    nights = [compare(replace(CELL, snr=100.0, tilt=0.0), seed)["plain"] for seed in range(6)]
    found = measures_of(nights)
    assert found.found == 1.0
    assert found.width is not None
    assert found.mean is not None
    assert found.width.value == pytest.approx(1.0, abs=0.06)
    assert found.mean.value == pytest.approx(0.0, abs=0.08)


def test_the_same_night_gives_the_same_numbers() -> None:
    one, other = (compare(CELL, 3)["plain"] for _ in range(2))
    assert np.array_equal(one.flux, other.flux)
    assert np.array_equal(one.truth, other.truth)


def test_the_truth_of_lights_that_vary_is_their_mean() -> None:
    cell = replace(CELL, snr=300.0, tilt=0.0, flux_scatter=0.3)
    found = compare(cell, 1)["plain"]
    steady = replace(cell.night(1), flux_scatter=0.0).truth().flux.values
    assert abs(found.truth[0] / steady[0] - 1) > 0.02
    assert np.mean(found.flux / (found.truth * found.enclosed)) == pytest.approx(1.0, abs=0.003)


def test_a_blank_night_has_no_star_in_it() -> None:
    assert blank_night(0).truth().star.max() == 0.0
    assert set(is_blank(0)) == {"default", "plain"}


# Results


@pytest.fixture
def results() -> Results:
    """Return two cells, one of which misses its aims, and five blank nights."""
    bad = measures_of(outcomes(bias=0.05))
    odd = Cell(100.0, surprise="sky gradient")
    cells = [(CELL, {"default": GOOD, "plain": GOOD}), (odd, {"default": bad, "plain": GOOD})]
    return Results(MACHINE, cells, {"default": ["", "", "rows 1 to 9", "", ""], "plain": [""] * 5})


def test_results_are_read_back_as_they_were(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "one.json")
    again = Results.load(tmp_path / "one.json")
    again.save(tmp_path / "two.json")
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    assert again.cells[0] == results.cells[0]
    assert json.loads((tmp_path / "one.json").read_text())["machine"] == MACHINE


def test_the_page_names_what_misses_its_aims(results: Results) -> None:
    assert [cell.surprise for cell, _ in missed_cells(results)] == ["sky gradient"]
    text = page(results)
    assert f"- {results.cells[1][0].name}: bias " in text
    assert "1 of 5 by default" in text
    assert "0 of 5 by the threshold alone" in text


def test_the_section_counts_the_cells_that_hold_their_aims(results: Results) -> None:
    text = section(results)
    assert "1 of 2 test cases meet all criteria" in text
    assert "| 30 | 1 | 0.010 | 1.010 |" in text
    assert "| sky brightening by 20% along the slit | 1 |" in text
    assert "| 0 of 1 |" in text


def test_publishing_fills_the_markers_of_truth_alone(results: Results, tmp_path: Path) -> None:
    (tmp_path / "benchmarks" / "truth").mkdir(parents=True)
    shown = tmp_path / PAGE
    shown.parent.mkdir()
    shown.write_text("<!-- benchmarks:begin -->\n<!-- truth:begin -->old<!-- truth:end -->end")
    written = publish(results, tmp_path)
    text = shown.read_text()
    assert text.startswith("<!-- benchmarks:begin -->\n<!-- truth:begin -->\n\n")
    assert text.endswith("\n\n<!-- truth:end -->end")
    assert section(results) in text
    assert sorted(path.name for path in written) == ["README.md", "accuracy.md", "results.json"]


def test_the_page_of_accuracy_is_the_one_written_from_the_results() -> None:
    results = Results.load(ROOT / "benchmarks" / "truth" / "results.json")
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    assert between_markers(text, section(results), MARK) == text


def test_a_missed_aim_is_told_by_the_exit_code(
    results: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = Results(MACHINE, results.cells[:1], {"default": [""] * 5, "plain": [""] * 5})
    for found, code in ((results, 1), (good, 0)):
        found.save(tmp_path / "results.json")
        assert main(["--load", str(tmp_path / "results.json")]) == code
        assert capsys.readouterr().out.startswith("# Truth")


def test_a_cell_is_measured_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    only = "S/N 300, seeing 12, tilt 0, 3 frames"
    main(["--quick", "--only", only, "--nights", "2", "--blank", "1", "--json", str(path)])
    results = Results.load(path)
    assert [cell.name for cell, _ in results.cells] == [only]
    assert results.cells[0][1]["plain"].found == 1.0
    assert len(results.blank["default"]) == 1
