"""The lines of a lamp are named on the page, and fitted as the command fits them."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import arrayred as ar
from arrayred.cli import cli
from arrayred.cli.options import settle_settings
from arrayred.errors import InputError, LampError, UsageError
from arrayred.explore import ExplorerModel, View, app
from arrayred.explore.data import LampLines, ReduceCommand
from arrayred.night import open_night
from arrayred.steps.wavelength import listed_lines, read_line_list

STAR = View("light/Simulated_star")


def model_for(night: Path, out: Path) -> ExplorerModel:
    command = ReduceCommand(out, out / "night.toml", partial(settle_settings, {}))
    return ExplorerModel(open_night(night), command=command)


@pytest.fixture(scope="module")
def found(lamp_night: Path, tmp_path_factory: pytest.TempPathFactory) -> LampLines:
    return model_for(lamp_night, tmp_path_factory.mktemp("out")).lamp_lines(STAR)


def test_lines_are_named_as_they_were_identified(found: LampLines) -> None:
    assert found.lamps == ["arc-001", "arc-002"]
    assert (found.lamp, found.gas) == ("arc-001", "Ne")
    assert found.named is not None
    solved = found.solved().dispersion
    assert solved.n_lines == found.named.sizes["line"] >= 12
    assert found.found.sizes["line"] > solved.n_lines
    x = found.named.x.values
    truth = ar.simulate.Lamps().wavelength_of(x, 384)
    assert np.abs(found.named.wavelength.values - truth).max() < 0.5 * abs(truth[1] - truth[0])


def test_a_wrong_name_shows_in_the_residuals_and_can_be_removed(found: LampLines) -> None:
    assert found.named is not None
    x, wave = (float(found.named[name].values[5]) for name in ("x", "wavelength"))
    wrong = found.with_name(x, f"{wave + 30:.2f}")
    assert wrong.name_of(x) == (round(wave + 30, 2), "")
    assert wrong.named is not None
    assert wrong.named.sizes == found.named.sizes
    good, bad = found.solved(), wrong.solved()
    assert bad.dispersion.rms > 5 * good.dispersion.rms
    assert np.abs(bad.lines.residual.values).argmax() == 5
    rest = wrong.without_name(x)
    assert rest.name_of(x) is None
    assert rest.solved().dispersion.n_lines == good.dispersion.n_lines - 1


def test_two_lines_named_by_hand_suggest_the_others(found: LampLines) -> None:
    assert found.named is not None
    lines = replace(found, named=None)
    with pytest.raises(LampError, match="No line is named"):
        lines.solved()
    assert lines.listed(100.0, None)[0] == listed_lines("Ne")
    rows = list(zip(found.named.x.values, found.named.wavelength.values, strict=True))
    for x, wave in (rows[2], rows[-2]):
        lines = lines.with_name(float(x), str(wave))
    solved = lines.solved()
    assert "no residuals" in app.solution_line(solved)
    for x, wave in rows[3:-3]:
        near, _ = lines.listed(float(x), solved)
        assert min(abs(line.wave - wave) for line in near) < 3.0
        assert len(near) == 15


def test_a_listed_wavelength_brings_its_ion(found: LampLines) -> None:
    lines = replace(found, named=None).with_name(100.0, "6143.0626")
    assert lines.name_of(100.0) == (6143.0626, "NeI")


@pytest.mark.parametrize("text", ["", "blue", "nan", "-5"])
def test_what_is_no_wavelength_is_refused(text: str, found: LampLines) -> None:
    with pytest.raises(UsageError, match="wavelength"):
        found.with_name(100.0, text)


def test_a_list_in_nanometres_is_refused_as_in_a_file(found: LampLines) -> None:
    with pytest.raises(UsageError, match="nanometres"):
        replace(found, named=None).with_name(100.0, "614.3")


def test_a_click_picks_the_nearest_line(found: LampLines) -> None:
    x = found.found.x.values
    near = found.nearest(x[3] + 0.05)  # each of two lamps shows it, 0.2 pixels apart
    assert near == pytest.approx(x[3], abs=0.001)
    assert found.nearest(-500.0) is None


def test_saved_lines_give_the_command_the_solution_that_was_shown(
    lamp_night: Path, tmp_path: Path
) -> None:
    cli.main(["reduce", str(lamp_night), "-o", str(tmp_path), "-q"], standalone_mode=False)
    model = model_for(lamp_night, tmp_path)
    lines = model.lamp_lines(STAR)
    assert lines.named is not None
    lines = lines.without_name(float(lines.named.x.values[4]))
    path = lines.save()
    assert path == tmp_path / "Simulated_star_lines.txt"
    assert read_line_list(path).equals(lines.named)
    words = ["wavelength", tmp_path, "Simulated_star", "--lines", path, "-q"]
    cli.main([*map(str, words)], standalone_mode=False)
    folder = tmp_path / "targets" / "Simulated_star"
    written = tomllib.loads((folder / "Simulated_star_solution.toml").read_text())
    shown = lines.solved().dispersion
    # the files have the square root of the variance, and so an error in the last digit
    np.testing.assert_allclose(written["solution"]["coefficients"], shown.coefficients, rtol=1e-12)
    spectrum = ar.open_product(folder / "Simulated_star_spectrum.fits")
    expected = shown.wavelength(spectrum.x.values)
    np.testing.assert_allclose(spectrum.wavelength, expected, rtol=1e-12)
    again = model_for(lamp_night, tmp_path).lamp_lines(STAR, "arc-002")
    assert again.lamp == "arc-002"
    assert again.named is not None
    assert again.named.equals(lines.named)


def test_a_list_that_was_edited_by_hand_is_not_replaced(found: LampLines) -> None:
    assert found.path is not None
    found.path.write_text("100 6143.06 NeI  # mine\n")
    with pytest.raises(UsageError, match="edited by hand"):
        found.save()
    assert found.path.read_text().endswith("# mine\n")
    found.path.unlink()


def test_a_target_without_a_lamp_says_so(night: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No arc frame was found for Simulated_star"):
        model_for(night, tmp_path).lamp_lines(STAR)
