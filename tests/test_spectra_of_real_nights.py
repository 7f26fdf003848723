"""How well the spectra of real stars are known, told by their own frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.pipeline import ReadOptions, best_estimate, combine_frames, make_master
from arrayred.steps import fit_sky

WINDOW = 41


@pytest.fixture(scope="module")
def lights(barber: Path) -> list[xr.Dataset]:
    """Return the spectra of the three lights, each by itself, in a common aperture."""
    (target,) = ar.make_plan(ar.open_night(barber)).targets
    assert target.dark is not None
    dark, cube = make_master(target.dark, "median"), ReadOptions().open(target.lights)
    combined = best_estimate(combine_frames(cube, dark, ar.Recipe())[0])
    rows = ar.detect_rows(combined)
    trace = ar.fit_trace(combined, rows)
    half = ar.half_height_of(rows, trace)
    spectra = []
    for i in range(3):
        image = best_estimate(combine_frames(cube.isel(frame=[i]), dark, ar.Recipe())[0])
        drift = float(np.median(ar.fit_trace(image, rows).center - trace.center))
        moved = trace.assign(center=trace.center + drift)
        sky = fit_sky(image, moved, rows, half_height=half)
        spectra.append(ar.extract_along(image, moved, sky, half_height=half))
    return spectra


@pytest.mark.parametrize(("one", "other"), [(0, 1), (0, 2), (1, 2)])
def test_ratios_of_one_stars_spectra_scatter_as_predicted(
    lights: list[xr.Dataset], one: int, other: int
) -> None:
    a, b = lights[one], lights[other]
    ratio = (a.flux / b.flux).values
    relative = (a.variance / a.flux**2 + b.variance / b.flux**2).values
    mean = np.convolve(
        np.pad(ratio, WINDOW // 2, mode="reflect"), np.ones(WINDOW) / WINDOW, "valid"
    )
    pulls = (ratio - mean) / (ratio * np.sqrt(relative * (1 - 1 / WINDOW)))
    assert 0.9 < pulls.std() < 1.15
    assert 0.9 < 1.4826 * np.median(np.abs(pulls)) < 1.15


@pytest.mark.parametrize("night", ["barber-2020-11-03/raw", "toronto-2019-10"])
def test_a_bright_stars_sum_and_optimal_flux_agree(
    nights: Path, reduced_real: Callable[[str], xr.DataTree], night: str
) -> None:
    trees = (reduced_real(night), ar.reduce_night(nights / night, ar.Recipe(extraction="sum")))
    for name in trees[0]["targets"].children:
        optimal, summed = (tree[f"targets/{name}/spectrum"] for tree in trees)
        assert optimal.attrs["extraction"] == "optimal"
        ratio = (optimal.flux / summed.flux).values
        assert np.median(ratio) == pytest.approx(1, abs=2e-3)
        assert float(optimal.flux.sum() / summed.flux.sum()) == pytest.approx(1, abs=2e-3)
        assert optimal.attrs["snr"] > summed.attrs["snr"]
