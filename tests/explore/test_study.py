"""What is shown is what `reduce` writes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import xarray as xr

import arrayred as ar
from arrayred.cli import cli
from arrayred.config import read_night_file
from arrayred.config.night_file import entry_text
from arrayred.errors import ArrayredError, InputError, SkyBandError
from arrayred.explore import ExplorerModel, View, app
from arrayred.explore.data import RecentCache
from arrayred.night import open_night
from arrayred.plots.figures import SUMS, extraction, sky_bands
from arrayred.plots.panels import Curve

STAR = View("light/Simulated_star")
BY_HAND = replace(STAR, rows=(80, 90), sky_rows=(110, 130))
TARGET = "targets/Simulated_star"
OUTS = ("file", "options")


def reduced(*args: object) -> None:
    """Run `arrayred reduce`; what goes wrong is raised."""
    cli.main(["reduce", *map(str, args), "--no-figures", "-q"], standalone_mode=False)


@pytest.fixture
def model(night: Path) -> ExplorerModel:
    return ExplorerModel(open_night(night))


def test_lights_come_first_and_can_be_calibrated(model: ExplorerModel) -> None:
    assert list(model.groups) == ["light/Simulated_star", "dark/600s"]
    assert model.stages(STAR) == ("raw", "calibrated", "combined")
    assert model.stages(View("dark/600s")) == ("raw", "combined")


def test_calibrated_is_the_frame_less_its_dark(model: ExplorerModel, night: Path) -> None:
    darks = ar.open_frames([night / f"dark-00{i}.fit" for i in range(1, 6)]).counts.values
    light = ar.open_frames(night / "light-002.fit").counts.values[0]
    shown = model.image(replace(STAR, frame=1, stage="calibrated"))
    np.testing.assert_array_equal(shown.pixels, light - np.median(darks, axis=0))
    assert model.corrected(replace(STAR, stage="calibrated")) == "dark 600s subtracted"


def test_combined_is_what_the_reduction_combines(model: ExplorerModel, night: Path) -> None:
    shown = model.image(replace(STAR, stage="combined"))
    combined = ar.reduce_night(night)[f"{TARGET}/combined"].counts
    np.testing.assert_array_equal(shown.pixels, combined)
    assert shown.value(85, 1) == combined.sel(y=85, x=1)
    assert shown.value(161, 1) is shown.value(0, 1) is None


def test_combined_darks_are_their_master(model: ExplorerModel) -> None:
    shown = model.image(View("dark/600s", stage="combined"))
    assert shown.pixels.dtype == np.float64


@pytest.mark.parametrize("view", [STAR, BY_HAND], ids=["found", "by hand"])
def test_the_spectrum_is_the_one_that_reduce_writes(
    view: View, model: ExplorerModel, night: Path, tmp_path: Path
) -> None:
    options = () if view is STAR else ("--rows", "80:90", "--sky-rows", "110:130")
    reduced(night, "-o", tmp_path / "out", *options)
    written = ar.open_product(tmp_path / "out" / TARGET / "Simulated_star_spectrum.fits")
    shown = model.spectrum(view)
    for name in ("flux", "counts_mean", "counts_mean_sky_subtracted", "sky"):
        np.testing.assert_array_equal(shown[name], written[name], err_msg=name)


def test_the_entry_gives_reduce_the_rows_that_were_settled(night: Path, tmp_path: Path) -> None:
    (tmp_path / "night.toml").write_text(entry_text("Simulated_star", (80, 90), (110, 130)))
    reduced(night, "-o", tmp_path / "file", "--night-file", tmp_path / "night.toml")
    options = ("--rows", "80:90", "--sky-rows", "110:130")
    reduced(night, "-o", tmp_path / "options", *options)
    for name in ("raw_extraction.txt", "skysubtracted.txt", "spectrum.ecsv"):
        file, option = (tmp_path / out / TARGET / f"Simulated_star_{name}" for out in OUTS)
        assert file.read_bytes() == option.read_bytes()


@pytest.mark.parametrize("rows", [None, (3, 9)])
@pytest.mark.parametrize("name", ["59_Cyg", 'a"]\n[x', "<img src=x>"])
def test_an_entry_of_any_name_is_read_back(
    name: str, rows: tuple[int, int] | None, tmp_path: Path
) -> None:
    path = tmp_path / "night.toml"
    path.write_text(entry_text(name, rows, rows))
    expected = {} if rows is None else {"rows": list(rows), "sky_rows": list(rows)}
    assert {n: dict(t.recipe) for n, t in read_night_file(path).targets.items()} == {name: expected}


def test_rows_off_the_image_are_an_error_with_a_reason(model: ExplorerModel) -> None:
    with pytest.raises(ArrayredError, match="900"):
        model.spectrum(replace(STAR, rows=(900, 910)))
    with pytest.raises(SkyBandError):
        model.spectrum(replace(STAR, sky_rows=(500, 510)))


def test_products_are_looked_at_with_the_rows_of_their_spectrum(
    night: Path, tmp_path: Path
) -> None:
    options = ("--rows", "80:90", "--save-calibrated")
    reduced(night, "-o", tmp_path / "out", *options)
    products = ExplorerModel(open_night(tmp_path / "out", depth=4))
    assert [*products.groups][:2] == ["combined/Simulated_star", "calibrated/Simulated_star"]
    view = View("combined/Simulated_star")
    spectrum = products.spectrum(view)
    assert (spectrum.first_row, spectrum.last_row) == (80, 90)
    assert products.stages(view) == ("raw",)
    assert len(products.groups["calibrated/Simulated_star"].frames) == 3


def test_a_night_that_cannot_be_reduced_can_be_looked_at(night: Path) -> None:
    for path in night.glob("dark-*.fit"):
        path.unlink()
    model = ExplorerModel(open_night(night))
    assert model.image(STAR).pixels.dtype == np.uint16
    with pytest.raises(InputError):
        model.image(replace(STAR, stage="combined"))


def test_opening_reads_one_frame_and_makes_no_plan(
    night: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a plan looks at every frame")

    monkeypatch.setattr("arrayred.explore.data.make_plan", refused)
    model = ExplorerModel(open_night(night))
    assert model.image(STAR).shape == (160, 120)


def test_the_sky_of_a_spectrum_is_both_its_bands_or_the_one_given(model: ExplorerModel) -> None:
    assert len(sky_bands(model.spectrum(STAR))) == 2
    assert sky_bands(model.spectrum(BY_HAND)) == [(110, 130)]


def test_lines_of_a_spectrum_are_sums_over_its_rows_and_its_flux(model: ExplorerModel) -> None:
    spectrum, image = model.spectrum(BY_HAND), model.combined(BY_HAND).counts.values
    curves = [mark for mark in extraction(spectrum).marks if isinstance(mark, Curve)]
    lines = {curve.label: curve.y for curve in curves}
    assert tuple(lines) == SUMS
    band = image[79:90]
    np.testing.assert_allclose(lines["aperture sum"], band.sum(axis=0))
    sky = image[109:130].mean(axis=0) * 11
    np.testing.assert_allclose(lines["sky-subtracted sum"], band.sum(axis=0) - sky)
    np.testing.assert_array_equal(lines["extracted flux"], spectrum.flux)


def test_the_published_night_shows_the_published_rows(barber: Path) -> None:
    model = ExplorerModel(open_night(barber))
    spectrum = model.spectrum(View(next(iter(model.groups))))
    assert (spectrum.first_row, spectrum.last_row) == (484, 518)


def test_a_spectrum_along_the_columns_is_taken_through_columns(nights: Path) -> None:
    model = ExplorerModel(open_night(nights / "formats" / "isis"))
    view = View("light/G93-48")
    assert model.is_turned(view)
    assert model.image(view).shape == (4200, 966)
    assert model.spectrum(view).sizes["x"] == 4096


def test_what_was_seen_last_is_cached_until_it_takes_too_many_bytes() -> None:
    cached = RecentCache(most_bytes=250)
    for i in (1, 2, 1, 3):
        cached.get(("image", i), lambda: np.zeros(10))
    cached.get(("combined", "a"), lambda: np.zeros(1000))
    assert [("image", i) in cached for i in (1, 2, 3)] == [False] * 3
    assert ("combined", "a") in cached
    cached.get(("image", 4), lambda: np.zeros(10))
    assert ("combined", "a") not in cached


def test_a_raw_frame_does_not_wait_until_others_are_combined() -> None:
    cached, combining, shown = RecentCache(1000), Event(), Event()

    def combine() -> np.ndarray:
        combining.set()
        assert shown.wait(10)
        return np.zeros(1)

    with ThreadPoolExecutor(2) as pool:
        twice = [pool.submit(cached.get, ("combined", "a"), combine) for _ in range(2)]
        assert combining.wait(10)
        cached.get(("raw", 0), lambda: np.zeros(1))
        shown.set()
        assert twice[0].result() is twice[1].result()


def test_work_for_a_server_that_has_stopped_ends_with_the_band_at_work(
    model: ExplorerModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(app.make_result(model.combined, STAR), xr.Dataset)
    monkeypatch.setattr(app, "_server_has_stopped", Event())
    app._server_has_stopped.set()
    other = ExplorerModel(model.night)
    assert app.make_result(other.combined, STAR) is None
    assert not other.is_combined(STAR)
