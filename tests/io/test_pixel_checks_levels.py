"""Levels against letters: what the pixels prove, and what they contradict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

import arrayred as ar
from arrayred.io import Frame
from tests.io.test_pixel_checks_unsigned import counts, write

BIAS, DARK = 1000.0, 60.0


def frame(path: Path, level: float, kind: str = "Light Frame", seed: int = 9, **cards: Any) -> Path:
    """Write a frame, with a star in it where it is a light."""
    values = counts(level, seed=seed)
    if kind == "Light Frame":
        values[20:24] += 3000
    return write(path, values.astype(np.float32), kind, **cards)


def night(folder: Path, dark: float = BIAS + DARK, **exposure: float) -> Path:
    for i in range(3):
        frame(folder / f"dark-{i}.fit", dark, "Dark Frame", seed=i, **exposure)
    return folder


def opened(folder: Path, name: str = "light") -> Frame:
    return next(found for found in ar.open_night(folder).frames if found.label == name)


@pytest.mark.parametrize("level", [0.0, 30.0, -20.0, 400.0])
def test_a_light_below_the_raw_darks_is_dark_subtracted(level: float, tmp_path: Path) -> None:
    frame(night(tmp_path) / "light.fit", level)
    found = opened(tmp_path)
    assert (found.calstat, found.refusals) == ("D", ())
    (warning,) = found.warnings
    assert "a dark has been subtracted, although no header keyword records it" in warning
    assert "dark-" in warning
    assert "level 1060" in warning


def test_a_raw_light_stays_raw(tmp_path: Path) -> None:
    frame(night(tmp_path) / "light.fit", BIAS + DARK + 20)
    assert (opened(tmp_path).calstat, opened(tmp_path).warnings) == ("", ())


def test_a_light_slightly_below_the_darks_stays_raw(tmp_path: Path) -> None:
    frame(night(tmp_path) / "light.fit", BIAS + DARK - 9 * 12)
    assert opened(tmp_path).calstat == ""


@pytest.mark.parametrize("level", [600.0, 900.0])
def test_a_light_far_below_the_darks_but_not_near_zero_is_refused(
    level: float, tmp_path: Path
) -> None:
    frame(night(tmp_path) / "light.fit", level)
    (refusal,) = opened(tmp_path).refusals
    assert str(refusal).startswith(f"{tmp_path / 'light.fit'}: CALSTAT '' records nothing, but")
    problems = ar.make_plan(ar.open_night(tmp_path)).problems
    assert [str(problem) for problem in problems] == [str(refusal)]


def test_letters_that_say_dark_over_raw_pixels_are_refused(tmp_path: Path) -> None:
    frame(night(tmp_path) / "light.fit", BIAS + DARK + 10, CALSTAT="BD")
    (refusal,) = opened(tmp_path).refusals
    assert "light.fit: CALSTAT 'BD' records dark subtraction, but" in str(refusal)


@pytest.mark.parametrize("level", [0.0, 300.0, 2000.0])
def test_letters_that_agree_with_the_level_are_believed(level: float, tmp_path: Path) -> None:
    frame(night(tmp_path) / "light.fit", level, CALSTAT="D")
    assert (opened(tmp_path).calstat, opened(tmp_path).refusals) == ("D", ())


@pytest.mark.parametrize(
    ("exptime", "calstat"), [(1200.0, "D"), (600.4, "D"), (300.0, ""), (30.0, "")]
)
def test_darks_of_a_longer_exposure_prove_nothing(
    exptime: float, calstat: str, tmp_path: Path
) -> None:
    frame(night(tmp_path) / "light.fit", 20.0, EXPTIME=exptime)
    assert opened(tmp_path).calstat == calstat


def test_longer_darks_without_dark_current_stand_for_shorter_ones(tmp_path: Path) -> None:
    night(tmp_path, EXPTIME=600.0)
    frame(tmp_path / "dark-long.fit", BIAS + DARK + 5, "Dark Frame", EXPTIME=1200.0)
    frame(tmp_path / "light.fit", 20.0, EXPTIME=30.0)
    assert opened(tmp_path).calstat == "D"


def test_longer_darks_with_dark_current_prove_nothing(tmp_path: Path) -> None:
    night(tmp_path, EXPTIME=600.0)
    frame(tmp_path / "dark-long.fit", BIAS + 2 * DARK, "Dark Frame", EXPTIME=1200.0)
    frame(tmp_path / "light.fit", 20.0, EXPTIME=30.0)
    assert opened(tmp_path).calstat == ""


@pytest.mark.parametrize("cards", [{"CCD-TEMP": 20.0}, {"XBINNING": 2, "YBINNING": 2}])
def test_darks_of_another_temperature_or_binning_prove_nothing(
    cards: dict[str, Any], tmp_path: Path
) -> None:
    frame(night(tmp_path, **{"CCD-TEMP": -20.0}) / "light.fit", 20.0, **cards)
    assert opened(tmp_path).calstat == ""


def test_one_odd_dark_does_not_mislead_the_lights(tmp_path: Path) -> None:
    frame(night(tmp_path) / "light.fit", BIAS + DARK + 10)
    frame(tmp_path / "dark-1.fit.new", 5000.0, "Dark Frame").rename(tmp_path / "dark-1.fit")
    assert opened(tmp_path).calstat == ""


def test_a_dark_below_the_biases_has_lost_its_bias(tmp_path: Path) -> None:
    night(tmp_path, DARK)
    for i in range(2):
        frame(tmp_path / f"bias-{i}.fit", BIAS, "Bias Frame", EXPTIME=0.0)
    assert {opened(tmp_path, f"dark-{i}").calstat for i in range(3)} == {"B"}
    frame(tmp_path / "light.fit", BIAS + DARK + 10)
    (target,) = ar.make_plan(ar.open_night(tmp_path)).targets
    assert (target.dark and target.dark.name, target.calstat) == ("600s_with_bias", "BD")
    recipe = ar.Recipe(rows=(21, 24), background_rows=(1, 9), sky=False, flat=False)
    image = ar.reduce_night(tmp_path, recipe)["targets/light/combined"]
    assert float(image.counts[30:].mean()) == pytest.approx(10, abs=1.5)


def test_darks_around_zero_serve_only_lights_that_lost_their_bias_too(tmp_path: Path) -> None:
    frame(night(tmp_path, 0.5) / "light.fit", BIAS + 10)
    (problem,) = ar.make_plan(ar.open_night(tmp_path)).problems
    assert "bias subtracted from one of them only" in str(problem)
    frame(tmp_path / "other.fit", 10.0).replace(tmp_path / "light.fit")
    plan = ar.make_plan(ar.open_night(tmp_path))
    assert (plan.problems, [target.lights.frames[0].calstat for target in plan.targets]) == (
        (),
        ["B"],
    )


def test_a_camera_without_an_offset_keeps_its_raw_frames(tmp_path: Path) -> None:
    for name, kind, level in (("dark", "Dark Frame", 1.0), ("light", "Light Frame", 90.0)):
        pixels = np.clip(counts(level, 3.0), 0, 255).astype(np.uint8)
        write(tmp_path / f"{name}.fit", pixels, kind)
    assert {found.calstat for found in ar.open_night(tmp_path).frames} == {""}


def test_a_master_from_elsewhere_is_compared_with_the_frames_own_noise(tmp_path: Path) -> None:
    for name, level, seed in (("master-dark", BIAS + DARK, 1), ("light", BIAS + DARK - 40, 2)):
        values = np.full((48, 64), level, np.float32)
        values += counts(0.0, 1.0 if name == "master-dark" else 12.0, seed).astype(np.float32)
        kind = "Light Frame" if name == "light" else "Master Dark"
        write(tmp_path / f"{name}.fit", values, kind, NCOMBINE=1 if name == "light" else 20)
    assert (opened(tmp_path).calstat, opened(tmp_path).refusals) == ("", ())
    frame(tmp_path / "other.fit", 10.0)
    assert opened(tmp_path, "other").calstat == "D"


def test_auto_darks_are_told_by_their_level_alone(nights: Path, tmp_path: Path) -> None:
    folder = nights / "stonybrook-2017-10"
    names = [*folder.glob("L2-dark-*"), *folder.glob("L2-star-*"), *folder.glob("L2-sci-*")]
    for path in names:
        with fits.open(path, do_not_scale_image_data=True) as hdus:
            hdus[0].header.remove("HISTORY", ignore_missing=True, remove_all=True)
            hdus.writeto(tmp_path / path.name, output_verify="silentfix")
    letters = {found.label.split(".")[0]: found.calstat for found in ar.open_night(tmp_path).frames}
    assert {name for name, letter in letters.items() if letter} == {
        "L2-star-hg-10",
        "L2-star-neon-40",
    }
    assert set(letters.values()) == {"", "D"}


@pytest.mark.parametrize(("of_light", "of_dark"), [(16, 1), (1, 16), (16, 16), (1, 1)])
def test_counts_that_were_scaled_on_one_side_only_are_told(
    of_light: int, of_dark: int, tmp_path: Path
) -> None:
    """As by a program that shifts 12 bits to 16 in light frames alone."""
    for i in range(3):
        scaled = of_dark * counts(BIAS + DARK, seed=i)
        write(tmp_path / f"dark-{i}.fit", scaled.astype(np.uint16), "Dark Frame")
    light = of_light * counts(BIAS + DARK + 20, seed=9)
    write(tmp_path / "light.fit", light.astype(np.uint16), "Light Frame")
    told = [text for text in opened(tmp_path).warnings if "one of them was scaled" in text]
    assert len(told) == (of_light != of_dark)
    if told:
        assert f"its counts have steps of {of_light}, but those of dark-" in told[0]
        assert f"steps of {of_dark}:" in told[0]
