"""Members of a group: one star's exposures are alike, two stars are not, noise is nothing."""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import arrayred as ar
from arrayred.config import NightFile
from arrayred.io import Frame, pixel_checks, probe_trace, target_change_warnings, write_frames
from arrayred.simulate import Detector, SimulatedNight, Star

TWO_LINES = Star(lines=((200.0, 0.4, 6.0), (90.0, 0.3, 4.0)), row=60.0, flux=300.0)
SHAPE = (160, 320)


def lights(folder: Path, star: Star = TWO_LINES, seed: int = 1, **night: float) -> list[Frame]:
    """Return the lights of a simulated night, in order."""
    simulated = SimulatedNight(Detector(shape=SHAPE), star, seed=seed, n_darks=1)
    write_frames(replace(simulated, **night).frames(), folder)  # type: ignore[arg-type]
    opened = ar.open_night(folder, NightFile(dispersion_axis="x"))
    return [frame for frame in opened.frames if frame.frame_type == "light"]


@pytest.mark.parametrize("drift", [0.0, 1.5])
@pytest.mark.parametrize("flux", [60.0, 300.0, 3000.0, 30000.0])
def test_one_stars_exposures_are_alike(flux: float, drift: float, tmp_path: Path) -> None:
    star = replace(TWO_LINES, flux=flux)
    frames = lights(tmp_path, star, n_lights=5, flux_scatter=0.2, trace_drift=drift)
    assert all(trace.stands_out for trace in map(probe_trace, frames) if trace)
    assert target_change_warnings(frames) == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("flux", [0.0, 0.3, 2.0, 6.0])
def test_noise_and_faint_stars_are_alike(flux: float, seed: int, tmp_path: Path) -> None:
    star = replace(TWO_LINES, flux=flux)
    assert target_change_warnings(lights(tmp_path, star, seed, n_lights=4, cosmic_rays=300)) == []


def mixed(folder: Path, other: Star) -> list[Frame]:
    one = lights(folder / "one", n_lights=2)
    return [*one, *lights(folder / "other", other, 2, n_lights=2)]


@pytest.mark.parametrize(
    ("other", "finding"),
    [
        (replace(TWO_LINES, lines=((150.0, 0.5, 5.0), (280.0, 0.5, 5.0))), "spectra with correl"),
        (replace(TWO_LINES, row=100.0), "trace at row 100, not 60"),
        (replace(TWO_LINES, flux=1500.0), "5 times the light"),
        (replace(TWO_LINES, flux=60.0), "0.2 times the light"),
        (replace(TWO_LINES, flux=0.0), "no trace above .* where there was one of"),
    ],
)
def test_two_stars_are_told_apart(other: Star, finding: str, tmp_path: Path) -> None:
    frames = mixed(tmp_path, other)
    (line,) = target_change_warnings(frames)
    assert line.startswith("light-001 seems to show a different target from light-002: ")
    assert re.search(finding, line)


def test_a_trace_out_of_nothing_is_told(tmp_path: Path) -> None:
    frames = mixed(tmp_path, replace(TWO_LINES, flux=0.0))
    (line,) = target_change_warnings(frames[::-1])
    assert "a trace at row 60, where there was none above" in line


def test_spectra_along_the_columns_are_compared_too(tmp_path: Path) -> None:
    frames = mixed(tmp_path, replace(TWO_LINES, row=100.0))
    for frame in frames:
        pixels, header = fits.getdata(frame.path, header=True)
        header["DISPAXIS"] = 2
        fits.writeto(frame.path, np.ascontiguousarray(pixels.T), header, overwrite=True)
    turned = [ar.open_night(f.path.parent).frames for f in (frames[0], frames[2])]
    (line,) = target_change_warnings(
        [f for night in turned for f in night if f.frame_type == "light"]
    )
    assert "trace at row 100, not 60" in line


def test_a_saturated_spectrum_is_not_compared_by_its_lines(tmp_path: Path) -> None:
    frames = mixed(tmp_path, replace(TWO_LINES, lines=((150.0, 0.5, 5.0),)))
    for frame in frames:
        pixels = fits.getdata(frame.path)
        pixels[50:70] = np.minimum(pixels[50:70], 1500)
        fits.writeto(frame.path, pixels, fits.getheader(frame.path), overwrite=True)
    again = [f for n in ("one", "other") for f in ar.open_night(tmp_path / n).frames]
    assert target_change_warnings([f for f in again if f.frame_type == "light"]) == []


def test_large_groups_are_sampled_and_told_apart_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = mixed(tmp_path, replace(TWO_LINES, row=100.0))
    monkeypatch.setattr(
        pixel_checks, "_MOST_BYTES", sum(f.image.source.n_bytes for f in frames) // 4
    )
    monkeypatch.setattr(pixel_checks, "_MIN_PROBED_ROWS", 40)
    (line,) = target_change_warnings(frames)
    assert "seems to show a different target" in line
    assert target_change_warnings(lights(tmp_path / "more", n_lights=4, seed=5)) == []


def test_a_frame_that_cannot_be_read_is_not_compared(tmp_path: Path) -> None:
    frames = mixed(tmp_path, replace(TWO_LINES, row=100.0))
    frames[0].path.unlink()
    assert len(target_change_warnings(frames)) == 1


@pytest.mark.parametrize("night", ["barber-2020-11-03/raw", "stonybrook-2017-10"])
def test_no_group_of_a_real_night_is_told_apart(nights: Path, night: str) -> None:
    plan = ar.make_plan(ar.open_night(nights / night))
    assert any(len(target.lights.frames) > 1 for target in plan.targets)
    assert [w for w in plan.warnings if "a different target" in w] == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("EnifSpec", "NaviSpec"), ("EnifSpec", "ScheatSpec"), ("EnifSpec", "Vega"),
        ("NaviSpec", "ScheatSpec"), ("NaviSpec", "Vega"), ("ScheatSpec", "Vega"),
    ],
)  # fmt: skip
def test_two_real_stars_under_one_name_are_told_apart(
    nights: Path, tmp_path: Path, one: str, other: str
) -> None:
    for number, name in enumerate((one, other), 1):
        source = nights / "toronto-2019-10" / f"{name}.fit"
        shutil.copyfile(source, tmp_path / f"star-{number}.fit")
    for dark in (nights / "toronto-2019-10").glob("*D120s.fit"):
        shutil.copyfile(dark, tmp_path / dark.name)
    night = ar.open_night(tmp_path)
    (line,) = target_change_warnings(
        [frame for frame in night.frames if frame.frame_type == "light"]
    )
    assert "a different target" in line
    if "Vega" not in (one, other):  # taken hours later
        plan = ar.make_plan(night)
        assert plan.targets[0].remarks == (f"check: {line}",)
        assert f"check: {plan.targets[0].name}: {line}" in plan.warnings


def test_a_night_of_three_frames_is_compared_in_milliseconds(barber: Path) -> None:
    frames = [f for f in ar.open_night(barber).frames if f.frame_type == "light"]
    times = []
    for _ in range(7):
        pixel_checks._trace_in_image.cache_clear()
        started = time.process_time()
        assert target_change_warnings(frames) == []
        times.append(time.process_time() - started)
    assert min(times) < 0.05
