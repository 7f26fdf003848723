"""Cosmic rays through the whole reduction: what they must not change, and what real nights show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

import arrayred as ar
from arrayred.io import write_frames
from arrayred.pipeline import combine_frames
from arrayred.simulate import SimulatedNight
from tests.cli import forked
from tests.steps.struck import Scene, Struck, struck


@pytest.fixture(scope="module")
def hit() -> Struck:
    return struck(Scene(snr=150))


def reduced(hit: Struck, **settings: object) -> dict[str, xr.Dataset]:
    recipe = ar.Recipe(background_rows=(1, 20), sky_offset=5).replace(**settings)
    return ar.reduce_target(hit.lights, hit.dark, recipe)


def test_the_procedures_tables_do_not_know_of_cosmic_rays(hit: Struck) -> None:
    searched, plain = reduced(hit), reduced(hit, cosmic_rays="off")
    assert "clean" in searched["combined"]
    assert "clean" not in plain["combined"]
    own = searched["combined"].drop_vars("clean_method").counts
    assert own.identical(plain["combined"].counts)
    for name in ("counts_mean", "counts_mean_sky_subtracted"):
        assert np.array_equal(searched["spectrum"][name], plain["spectrum"][name])


def test_the_stars_light_in_the_best_image_is_the_truth(hit: Struck) -> None:
    image = reduced(hit)["combined"]
    rows = slice(30, 66)
    light = (hit.star + hit.sky[:, np.newaxis]).mean(axis=0)[rows]
    pull = (image.clean.values[rows] - light).sum(axis=0)
    pull /= np.sqrt(image.variance.values[rows].sum(axis=0))
    plain = (image.counts.values[rows] - light).sum(axis=0)
    struck_columns = hit.hits[:, rows].max(axis=(0, 1)) > 20
    assert abs(pull[struck_columns].mean()) < 0.35
    assert np.mean(np.abs(pull) > 5) < 0.01
    noise = np.sqrt(image.variance.values[rows].sum(axis=0))
    assert np.mean(plain[struck_columns] / noise[struck_columns]) > 3


def test_a_flat_divides_the_best_image_too(hit: Struck) -> None:
    response = xr.full_like(hit.dark.counts, 0.8).drop_attrs()
    flat = xr.Dataset({"counts": response}, {"bad": response < 0})
    divided, _ = combine_frames(hit.lights, hit.dark, ar.Recipe(), flat)
    plain, _ = combine_frames(hit.lights, hit.dark, ar.Recipe())
    np.testing.assert_allclose(divided.clean, plain.clean / 0.8, rtol=1e-12)


def test_the_reference_procedure_knows_none(hit: Struck) -> None:
    recipe = ar.Recipe.reference().replace(background_rows=(1, 20), sky=False)
    image = ar.reduce_target(hit.lights, hit.dark, recipe)["combined"]
    assert "clean" not in image
    assert not any("cosmic" in line for line in image.attrs["history"])


def test_the_option_decides(simulated: SimulatedNight, tmp_path: Path) -> None:
    night = tmp_path / "night"
    write_frames(replace(simulated, cosmic_rays=600.0).frames(), night)
    told = {}
    for search in ("auto", "off"):
        result = forked.run("reduce", night, "-o", tmp_path / search, "--cosmic-rays", search,
                            "--no-figures", cwd=tmp_path)  # fmt: skip
        assert result.returncode == 0, result.stderr
        (path,) = (tmp_path / search).rglob("*_combined.fits")
        told[search] = "\n".join(fits.getheader(path)["HISTORY"])
    assert "flagged by comparison" in told["auto"]
    assert "cosmic" not in told["off"]
    tables = [sorted((tmp_path / s).rglob("*.txt")) for s in told]
    assert [p.read_bytes() for p in tables[0]] == [p.read_bytes() for p in tables[1]]


def test_the_published_stars_core_is_untouched(reduced_barber: xr.DataTree) -> None:
    image = reduced_barber["targets/201103hr8047-10-12/combined"]
    rejected = image.n_rejected.sel(y=slice(484, 518)).values
    assert 0 < np.count_nonzero(rejected) < 1e-3 * rejected.size
    assert 1000 < np.count_nonzero(image.n_rejected.values) < 2000
    assert image.n_rejected.values.max() == 1


def test_the_lines_of_a_nebula_that_moved_are_kept(nights: Path) -> None:
    night = ar.open_night(nights / "stonybrook-2017-10")
    (target,) = (t for t in ar.make_plan(night).targets if "hg-240" in t.name)
    assert target.dark is not None
    dark = ar.settle(ar.combine(target.dark.cube(), "median"))
    lights = target.lights.cube(None)
    found = ar.flag_cosmic_rays(ar.settle(ar.combine(lights, minus=dark)), lights, minus=dark)
    for column in (383, 411, 442):
        line = found.n_rejected.sel(y=slice(50, 95), x=slice(column - 3, column + 3)).values
        assert np.count_nonzero(line) < 0.05 * line.size
    assert np.count_nonzero(found.n_rejected.values) > 300
