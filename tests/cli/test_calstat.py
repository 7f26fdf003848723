"""The state of calibration, one table: what a light and the masters say and show, what comes out.

Frames are sums of what a detector adds: "B" the bias, "D" the dark current, "d" hardly any; and of
what falls on it. What `reduce` leaves of the bias and the dark is told by the level of the image
beside the star, to a tenth of an adu: nothing here repeats what the program does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from astropy.io import fits

from tests.cli.conftest import Call

LEVELS = {"B": 1000.0, "D": 90.0, "d": 0.5}
SKY, NOISE, SHAPE = 25.0, 4.0, (48, 64)
PATTERN = np.random.default_rng(1).uniform(-6, 6, SHAPE)
"""Of the bias."""
EXPOSURES = {"bias": 0.0, "dark": 60.0, "flat": 10.0, "light": 60.0}
OPTIONS = ("--rows", "20:23", "--background-rows", "1:9", "--no-sky", "--no-figures")


class Taken(NamedTuple):
    """Frames of a kind: the letters of their CALSTAT, what they hold, further cards."""

    kind: str
    letters: str
    holds: str
    cards: dict[str, Any] = {}  # noqa: RUF012


BIAS, DARK, FREE = Taken("bias", "", "B"), Taken("dark", "", "BD"), Taken("dark", "B", "D")
FLAT = Taken("flat", "", "B")
UNSAID, AROUND_ZERO = Taken("dark", "", "D"), Taken("dark", "", "d")
MASTERS = (Taken("bias", "M", "B"), Taken("dark", "BM", "D"))


def take(taken: Taken, n: int = 3) -> None:
    """Write frames of a kind, float32; a master is one frame."""
    rng = np.random.default_rng([len(taken.holds), *map(ord, taken.kind)])
    for i in range(1 if "M" in taken.letters and taken.kind != "light" else n):
        pixels = rng.normal(0.0, NOISE, SHAPE) + sum(LEVELS[part] for part in taken.holds)
        pixels += PATTERN * ("B" in taken.holds)
        pixels += {"light": SKY, "flat": 20_000.0}.get(taken.kind, 0.0)
        if taken.kind == "light":
            pixels[19:23] += 3000.0
        header = fits.Header({"IMAGETYP": taken.kind, "EXPTIME": EXPOSURES[taken.kind]})
        header.update({"CALSTAT": taken.letters, "CCD-TEMP": -20.0, "OBJECT": "x", **taken.cards})
        header["DATE-OBS"] = f"2024-03-09T20:{10 * len(taken.kind) + i:02}:00"
        path = Path("night") / f"{taken.kind}-{i}.fit"
        path.parent.mkdir(exist_ok=True)
        fits.writeto(path, pixels.astype(np.float32), header)


# letters and content of the lights, the masters -> CALSTAT, what is left, what was subtracted
DONE: list[tuple[str, str, tuple[Taken, ...], str, str, str]] = [
    ("", "BD", (DARK,), "BD", "", "master_dark_60s.fits"),
    ("M", "BD", (DARK,), "BD", "", "master_dark_60s.fits"),
    ("", "BD", (DARK, BIAS), "BD", "", "master_dark_60s.fits"),
    ("", "BD", (FREE, BIAS), "BD", "", "master_dark_60s_with_bias.fits"),
    ("", "BD", (UNSAID, BIAS), "BD", "", "master_dark_60s_with_bias.fits"),
    ("", "BD", MASTERS, "BD", "", "master_dark_60s_with_bias.fits"),
    ("B", "D", (DARK, BIAS), "BD", "", "master_dark_60s_less_bias.fits"),
    ("B", "D", (FREE,), "BD", "", "master_dark_60s.fits"),
    ("", "BD", (BIAS,), "B", "D", "master_bias.fits"),
    ("D", "", (DARK, BIAS), "BD", "", ""),
    ("BD", "", (DARK, BIAS), "BD", "", ""),
    ("DM", "", (DARK,), "BD", "", ""),
    ("", "", (DARK, BIAS), "BD", "", ""),
    ("D", "B", (DARK, BIAS), "BD", "", "master_bias.fits"),
    ("D", "", (FREE, BIAS), "BD", "", ""),
    ("BDF", "", (DARK,), "BDF", "", ""),
    ("DF", "", (DARK, BIAS, FLAT), "BDF", "", ""),
    ("", "BD", (DARK, BIAS, FLAT), "BDF", "", "master_dark_60s.fits"),
    ("D", "B", (DARK, BIAS, FLAT), "BDF", "", "master_bias.fits"),
    ("B", "D", (FREE, BIAS, FLAT), "BDF", "", "master_dark_60s.fits"),
]  # fmt: skip


@pytest.mark.parametrize(("letters", "holds", "masters", "calstat", "left", "name"), DONE)
def test_what_is_subtracted_is_what_is_still_there(
    arrayred: Call, letters: str, holds: str, masters: Any, calstat: str, left: str, name: str
) -> None:
    for taken in (Taken("light", letters, holds), *masters):
        take(taken)
    told = arrayred("reduce", "night", "-o", "out", *OPTIONS)
    assert told.code == 0, told.err
    image, header = fits.getdata("out/targets/x/x_combined.fits", header=True)
    assert header["CALSTAT"] == calstat
    assert header.get("ARDARK", header.get("ARBIAS", "")) in (name, name.replace("master_", ""))
    beside, pattern = (np.delete(plane, np.s_[19:23], axis=0) for plane in (image, PATTERN))
    assert beside.mean() == pytest.approx(SKY + sum(LEVELS[part] for part in left), abs=0.5)
    assert abs(np.polyfit(pattern.ravel(), beside.ravel(), 1)[0]) < 0.1


# letters and content of the lights, the masters -> whose fault it is, and what is said
REFUSED: list[tuple[str, str, tuple[Taken, ...], str, str]] = [
    ("", "BD", (FREE,), "light-0", "bias subtracted from one of them only"),
    ("", "Bd", (AROUND_ZERO,), "light-0", "bias subtracted from one of them only"),
    ("B", "D", (DARK,), "light-0", "bias subtracted from one of them only"),
    ("B", "D", (BIAS,), "", "No dark frames found"),
    ("", "BD", (Taken("dark", "BD", ""),), "", "No dark frames found"),
    ("BD", "BD", (DARK,), "light-0", "records dark subtraction, but the pixels are those"),
    ("D", "BD", (DARK, BIAS), "light-0", "records dark subtraction, but the pixels are"),
    ("B", "BD", (DARK, BIAS), "light-0", "records bias subtraction, but the pixels are"),
    ("BD", "B", (DARK, BIAS), "light-0", "but the pixels are not below the bias level"),
    ("", "B", (DARK, BIAS), "light-0", "the pixels are below those of any raw frame"),
    ("", "BD", (Taken("dark", "B", "Bd"), BIAS), "dark-0", "records bias subtraction"),
    ("F", "BD", (DARK,), "light-0", "was flat-fielded before dark subtraction"),
    ("BF", "D", (FREE,), "light-0", "was flat-fielded before dark subtraction"),
    (
        "D",
        "B",
        (DARK, BIAS._replace(cards={"CCD-TEMP": -5.0})),
        "light-0",
        "and no bias matches it",
    ),
]


@pytest.mark.parametrize(("letters", "holds", "masters", "who", "why"), REFUSED)
def test_what_cannot_be_known_or_undone_is_refused_by_name(
    arrayred: Call, letters: str, holds: str, masters: Any, who: str, why: str
) -> None:
    for taken in (Taken("light", letters, holds), *masters):
        take(taken)
    told = arrayred("reduce", "night", "-o", "out", *OPTIONS)
    assert told.code == 4
    assert any(who in line and why in line for line in told.err.splitlines()), told.err
    assert not Path("out").exists()


def test_a_bias_that_stayed_is_said(arrayred: Call) -> None:
    for taken in (Taken("light", "D", "B"), DARK, BIAS):
        take(taken)
    told = arrayred("reduce", "night", "-o", "out", *OPTIONS)
    assert "a dark has been subtracted, but not the bias: 5% of its pixels are below" in told.err
    assert "3 x 60 s, bias-subtracted, dark already subtracted" in told.out


@pytest.mark.parametrize("letters", ["F", "BF"])
def test_a_flat_fielded_light_is_left_as_it_is_on_request(arrayred: Call, letters: str) -> None:
    take(Taken("light", letters, ""))
    told = arrayred("reduce", "night", "-o", "out", *OPTIONS, "--no-dark")
    assert told.code == 0, told.err
    assert fits.getval("out/targets/x/x_combined.fits", "CALSTAT") == letters


def test_letters_of_one_state_are_one_target(arrayred: Call) -> None:
    take(Taken("light", "D", ""))
    for path, letters in zip(sorted(Path("night").iterdir()), ("D", "BD", "BDM"), strict=True):
        fits.setval(path, "CALSTAT", value=letters)
    assert arrayred("reduce", "night", "-o", "out", *OPTIONS).code == 0
    assert fits.getval("out/targets/x/x_combined.fits", "NCOMBINE") == 3
