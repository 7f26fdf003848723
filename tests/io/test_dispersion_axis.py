"""The axis along which a night is dispersed, where no card says it: decided once, from pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from arrayred.config import Instrument
from arrayred.io import Frame, find_dispersion_axis, read_frames

GENERIC = Instrument.load("generic")
SHAPE = (200, 300)
Image = NDArray[np.float64]
STAR, SKY, LAMP = {"star": 400.0}, {"lines": (40, 90, 130, 170, 220, 260)}, {"level": 0.0}
NEBULA = {"lines": (100, 180, 230), "lit": (40, 160)}
ONE_LINE = {"lines": (140,), "height": 300.0}


def seen(
    star: float = 0.0,
    lines: tuple[int, ...] = (),
    height: float = 150.0,
    lit: tuple[int, int] = (0, SHAPE[0]),
    level: float = 50.0,
) -> Image:
    """Return the light of a frame dispersed along the rows."""
    y, x = (np.arange(n, dtype=np.float64) for n in SHAPE)
    light = np.full(SHAPE, level)
    slit = ((y >= lit[0]) & (y < lit[1]))[:, np.newaxis]
    for line in lines:
        light += slit * height * np.exp(-0.5 * ((x - line) / 1.5) ** 2)
    response = 0.4 + 0.6 * np.sin(np.pi * x / SHAPE[1])
    return light + star * np.exp(-0.5 * ((y - 110) / 1.7) ** 2)[:, np.newaxis] * response


class Written:
    """Frames written one after the other, turned or not."""

    def __init__(self, folder: Path, *, turned: bool, overscan: tuple[int, int] = (0, 0)) -> None:
        self.folder, self.turned, self.overscan = folder, turned, overscan
        self.rng = np.random.default_rng(3)

    def add(self, kind: str, light: Image | float, bad_column: int = 0, **cards: Any) -> None:
        """Write a frame."""
        light = np.broadcast_to(light, SHAPE)
        image = 1000 + self.rng.poisson(light) + self.rng.normal(0, 3, SHAPE)
        image = image.T if self.turned else image
        image[:, bad_column : bad_column + 2] += 200 * bool(bad_column)
        image = np.pad(image, [(0, n) for n in self.overscan], constant_values=300)
        path = self.folder / f"{kind}-{len(list(self.folder.iterdir()))}.fits"
        head = fits.Header({"IMAGETYP": kind, "EXPTIME": 60.0, **cards})
        fits.writeto(path, np.rint(image).astype(np.uint16), head)

    def frames(self, told: int | None = None) -> list[Frame]:
        """Return the frames with their axis."""
        found, _ = read_frames(sorted(self.folder.iterdir()), GENERIC)
        return find_dispersion_axis(found, GENERIC, told)


def axis_and_warning(frames: list[Frame]) -> tuple[int, str]:
    (axis,) = {frame.dispersion_axis for frame in frames}
    return axis, " ".join(dict.fromkeys(text for frame in frames for text in frame.warnings))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("light", [STAR, {**STAR, **SKY}, {"star": 60.0, **SKY}, {"star": 25.0}])
def test_a_star_shows_the_axis_with_and_without_lines_of_the_sky(
    tmp_path: Path, light: dict[str, Any], *, turned: bool
) -> None:
    night = Written(tmp_path, turned=turned)
    night.add("dark", 0.0)
    night.add("light", seen(**light))
    axis, warning = axis_and_warning(night.frames())
    assert axis == 1 + turned
    assert ("use --dispersion-axis x" in warning) == turned


@pytest.mark.parametrize("light", [SKY, NEBULA, {}, {"level": 5000.0}, {"lines": (80, 90, 200)}])
def test_lines_that_fill_the_slit_turn_no_night(tmp_path: Path, light: dict[str, Any]) -> None:
    night = Written(tmp_path, turned=False)
    night.add("dark", 0.0)
    for _ in range(3):
        night.add("light", seen(**light))
    assert axis_and_warning(night.frames()) == (1, "")


def test_one_line_of_the_sky_in_two_faint_targets_gives_a_hint_only(tmp_path: Path) -> None:
    night = Written(tmp_path, turned=False)
    night.add("dark", 0.0)
    for name in ("NGC 1", "NGC 2"):
        night.add("light", seen(**ONE_LINE), OBJECT=name)
    axis, warning = axis_and_warning(night.frames())
    assert axis == 1
    assert "a peak of light-1 runs along column 141" in warning
    assert "use --dispersion-axis y" in warning


@pytest.mark.parametrize("turned", [False, True])
def test_targets_that_contradict_each_other_turn_nothing_and_give_a_hint(
    tmp_path: Path, *, turned: bool
) -> None:
    night = Written(tmp_path, turned=turned)
    night.add("dark", 0.0)
    night.add("light", seen(**ONE_LINE), OBJECT="NGC 1")
    night.add("light", seen(**STAR), OBJECT="Vega")
    axis, warning = axis_and_warning(night.frames())
    assert axis == 1
    along_rows, along_columns = ("light-1", "light-2") if turned else ("light-2", "light-1")
    assert f"{along_rows} shows a spectrum along the rows, but a peak of {along_columns}" in warning
    assert "use --dispersion-axis y" in warning


@pytest.mark.parametrize("turned", [False, True])
def test_many_lines_of_a_nebula_do_not_speak_against_the_star_beside_it(
    tmp_path: Path, *, turned: bool
) -> None:
    night = Written(tmp_path, turned=turned)
    night.add("dark", 0.0)
    night.add("light", seen(**NEBULA), OBJECT="M57")
    night.add("light", seen(**STAR), OBJECT="Vega")
    assert axis_and_warning(night.frames())[0] == 1 + turned


@pytest.mark.parametrize("with_dark", [False, True])
def test_a_bad_column_turns_no_night(tmp_path: Path, *, with_dark: bool) -> None:
    night = Written(tmp_path, turned=False)
    if with_dark:
        night.add("dark", 0.0, bad_column=120)
    night.add("light", seen(), bad_column=120)
    axis, warning = axis_and_warning(night.frames())
    assert axis == 1
    assert ("use --dispersion-axis y" in warning) == (not with_dark)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("light", [{}, ONE_LINE, NEBULA])
def test_arcs_decide_where_lights_show_nothing_or_lines(
    tmp_path: Path, light: dict[str, Any], *, turned: bool
) -> None:
    night = Written(tmp_path, turned=turned)
    night.add("light", seen(**light))
    night.add("arc", seen(lines=(40, 90, 130, 170, 220, 260), height=900.0))
    axis, warning = axis_and_warning(night.frames())
    assert axis == 1 + turned
    assert ("the arc lines run along the rows" in warning) == turned


def test_arcs_along_the_rows_forbid_to_turn(tmp_path: Path) -> None:
    night = Written(tmp_path, turned=False)
    night.add("dark", 0.0)
    night.add("light", seen(**ONE_LINE))
    night.add("arc", seen(lines=(40, 90, 130, 170, 220, 260), height=900.0))
    axis, warning = axis_and_warning(night.frames())
    assert axis == 1
    assert "use --dispersion-axis y" in warning


def test_a_card_of_one_frame_holds_for_all_of_its_shape_and_the_user_wins(tmp_path: Path) -> None:
    night = Written(tmp_path, turned=True)
    night.add("dark", 0.0)
    night.add("light", seen(**STAR), DISPAXIS=2)
    assert axis_and_warning(night.frames()) == (2, "")
    assert axis_and_warning(night.frames(told=1)) == (1, "")


def test_a_night_whose_first_light_shows_the_rows_is_read_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from arrayred.io import pixel_checks

    read: list[str] = []
    probe = pixel_checks.probe_peaks
    monkeypatch.setattr(
        pixel_checks, "probe_peaks", lambda frame: read.append(frame.label) or probe(frame)
    )
    night = Written(tmp_path, turned=False)
    night.add("dark", 0.0)
    for _ in range(4):
        night.add("light", seen(**STAR))
    night.frames()
    assert read == ["light-1"]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("overscan", [(20, 0), (0, 20), (20, 20)])
def test_an_overscan_hides_no_axis(
    tmp_path: Path, overscan: tuple[int, int], *, turned: bool
) -> None:
    night = Written(tmp_path, turned=turned, overscan=overscan)
    n_rows, n_columns = SHAPE[::-1] if turned else SHAPE
    cards = {"TRIMSEC": f"[1:{n_columns},1:{n_rows}]"}
    night.add("dark", 0.0, **cards)
    night.add("light", seen(**STAR), **cards)
    assert axis_and_warning(night.frames())[0] == 1 + turned


@pytest.mark.parametrize("turned", [False, True])
def test_a_card_that_the_trace_contradicts_counts_with_a_remark(
    tmp_path: Path, *, turned: bool
) -> None:
    night = Written(tmp_path, turned=turned)
    night.add("dark", 0.0, DISPAXIS=1)
    night.add("light", seen(**STAR), DISPAXIS=1)
    axis, warning = axis_and_warning(night.frames())
    assert axis == 1
    assert ("DISPAXIS is 1, but" in warning and "use --dispersion-axis y" in warning) == turned
