"""The whole reduction, seen from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

import arrayred as ar
from arrayred.batch import OutputOptions, check_night, reduce_to
from arrayred.errors import NoSpectrumError
from arrayred.io import read_band, write_frames
from arrayred.night import SyntheticDark
from arrayred.pipeline import make_master
from tests.night.test_flats import frame


def test_a_vertical_spectrum_equals_its_horizontal_twin(night: Path) -> None:
    target = "targets/Simulated_star/spectrum"
    flat = ar.reduce_night(night)[target]
    for path in night.iterdir():
        image, header = fits.getdata(path, header=True)
        header["DISPAXIS"] = 2
        fits.writeto(path, np.ascontiguousarray(image.T), header, overwrite=True)
    upright = ar.reduce_night(night)[target]
    for name in ("counts_mean", "counts_mean_sky_subtracted", "dq"):
        assert np.array_equal(upright[name], flat[name])
    assert np.allclose(upright["variance"], flat["variance"], rtol=0.03)
    assert np.allclose(upright["flux"], flat["flux"], rtol=0.01)
    assert upright.attrs["first_row"] == flat.attrs["first_row"]
    assert "columns" in upright.attrs["remarks"][0]


def made_twice(folder: Path) -> Path:
    """Write lights with and without their bias: the darks serve some, and some less the bias."""
    frames = [frame(f"d{i}", "dark", minute=i) for i in range(3)]
    frames += [frame(f"b{i}", "bias", 0.0, minute=i) for i in range(3)]
    frames += [frame("l", "light", minute=9, OBJECT="raw")]
    frames += [frame("m", "light", minute=10, OBJECT="done", CALSTAT="B")]
    write_frames(frames, folder / "night")
    return folder / "night"


RECIPE = ar.Recipe(rows=(9, 12), background_rows=(1, 5), sky=False)


def by_batch(folder: Path, recipe: ar.Recipe) -> None:
    order, opened = OutputOptions(folder.parent / "out", {}, figures=False), ar.open_night(folder)
    recipe = recipe.replace(rows=None)
    outcomes = list(reduce_to(opened, check_night(opened, recipe, order), recipe, order))
    assert [type(outcome.error) for outcome in outcomes] == [NoSpectrumError] * 2


@pytest.mark.parametrize("reduce", [ar.reduce_night, by_batch])
def test_each_row_of_a_calibration_frame_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reduce: Callable[..., Any]
) -> None:
    night, rows = made_twice(tmp_path), Counter[str]()

    def counted(sources: Any, first: int, band: Any) -> None:
        rows.update({source.path.name: band.shape[1] for source in sources})
        read_band(sources, first, band)

    monkeypatch.setattr("arrayred.io.pixels.read_band", counted)
    reduce(night, RECIPE)
    assert {name: rows[name] for name in rows if name[0] in "bd"} == dict.fromkeys(
        ("b0.fit", "b1.fit", "b2.fit", "d0.fit", "d1.fit", "d2.fit"), 24
    )


def test_only_masters_that_are_subtracted_are_products(tmp_path: Path) -> None:
    night = made_twice(tmp_path)
    assert set(ar.reduce_night(night, RECIPE)["masters/dark"]) == {"60s", "60s_less_bias"}
    by_batch(night, RECIPE)
    assert {path.name for path in (tmp_path / "out/masters").iterdir()} == {
        "master_dark_60s.fits", "master_dark_60s_less_bias.fits"
    }  # fmt: skip


def test_a_ready_master_is_not_made_again(tmp_path: Path) -> None:
    plan = ar.make_plan(ar.open_night(made_twice(tmp_path)))
    made = next(group for group in plan.masters if isinstance(group, SyntheticDark))
    ready = {part.key: make_master(part, "average") for part in made.parts}
    found = make_master(made, "median", ready=ready)
    expected = ready["dark/60s"].counts - ready["bias/bias"].counts
    assert np.array_equal(found.counts, expected)
