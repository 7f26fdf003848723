"""The catalogue of bad nights: pixels that are no counts, frames that show nothing, bad pixels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from tests.cli.conftest import Call

STAR = Path("targets/Simulated_star")
QUIET = ("--no-figures",)


def change(path: Path, where: Any, value: Any, dtype: str = "f4") -> None:
    """Write a frame again, some of its pixels changed."""
    pixels, header = fits.getdata(path, header=True)
    for keyword in ("BZERO", "BSCALE", "DATASUM", "CHECKSUM"):
        header.remove(keyword, ignore_missing=True)
    changed = pixels.astype(dtype)
    changed[where] = value
    fits.writeto(path, changed, header, overwrite=True)


def table_of(out: str) -> Table:
    content = (Path(out) / STAR / "Simulated_star_spectrum.ecsv").read_bytes()
    return Table.read(io.BytesIO(content), format="ascii.ecsv")


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.nan, "light-002.fit"),
        (np.inf, "dark-003.fit"),
        (-np.inf, "light-002.fit"),
        (3e38, "light-002.fit"),
        (3e38, "dark-003.fit"),
    ],
)
def test_a_pixel_that_is_no_count_spoils_nothing(
    night: Path, arrayred: Call, undisturbed: dict[str, bytes], value: float, name: str
) -> None:
    assert undisturbed
    change(night / name, (84, 60), value)
    told = arrayred("reduce", "night", "-o", "holed", *QUIET)
    assert told.code == 0, told.err
    one, other = table_of("undisturbed"), table_of("holed")
    assert one.meta["SPFIRST"] == other.meta["SPFIRST"]
    assert one.meta["SPLAST"] == other.meta["SPLAST"]
    assert np.all(np.abs(one["flux"] - other["flux"]) < 4 * one["uncertainty"])
    assert not other["dq"].any()
    assert ("light-002: 1 pixel has no data" in told.out) == name.startswith("light")


def test_pixels_that_are_no_counts_anywhere_widen_no_spectrum(night: Path, arrayred: Call) -> None:
    for i, value in enumerate([np.nan, np.inf, 3e38]):
        change(night / f"light-00{i + 1}.fit", (3 + 40 * i, slice(10, 20)), value)
    told = arrayred("reduce", "night", "-o", "out", *QUIET)
    assert told.code == 0, told.err
    assert table_of("out").meta["SPLAST"] - table_of("out").meta["SPFIRST"] < 40
    assert told.out.count("10 pixels have no data") == 3


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (np.nan, "no pixel has a value"),
        (1234.0, "every pixel is 1234"),
        (65535, "every pixel is"),
    ],
)
def test_a_light_that_shows_nothing_is_named(
    night: Path, arrayred: Call, value: float, why: str
) -> None:
    change(night / "light-002.fit", ..., value)
    told = arrayred("reduce", "night", "-o", "out", *QUIET)
    assert told.code == 4
    assert "light-002.fit: " in told.err
    assert why in told.err
    assert "Exclude the frame." in told.err
    assert not list(Path("out").glob("targets/*/*.txt"))


def test_a_light_saturated_everywhere_is_named(night: Path, arrayred: Call) -> None:
    change(night / "light-002.fit", ..., 65535, "u2")
    told = arrayred("reduce", "night", "-o", "out", *QUIET)
    assert told.code == 4
    assert "light-002.fit: light-002 has no signal: every pixel is saturated" in told.err


def test_a_saturated_star_is_flagged_and_told(night: Path, arrayred: Call) -> None:
    change(night / "light-001.fit", (slice(82, 87), slice(60, 63)), 65535, "u2")
    told = arrayred("reduce", "night", "-o", "out", *QUIET)
    assert told.code == 0, told.err
    assert list(np.flatnonzero(table_of("out")["dq"] & 2)) == [60, 61, 62]
    assert "3 columns hold saturated pixels" in told.out


def mask(shape: tuple[int, int], name: str = "bad.fits") -> str:
    pixels = np.zeros(shape, "u1")
    pixels[82 % shape[0] : 87 % shape[0], 30] = 1
    fits.writeto(name, pixels)
    return name


def test_bad_pixels_of_a_file_are_flagged(night: Path, arrayred: Call) -> None:
    shape = fits.getdata(night / "light-001.fit").shape
    told = arrayred("reduce", "night", "-o", "out", "--bad-pixels", mask(shape), *QUIET)
    assert told.code == 0, told.err
    assert list(np.flatnonzero(table_of("out")["dq"] & 1)) == [30]


def test_a_mask_named_in_a_recipe_lies_beside_it(night: Path, arrayred: Call) -> None:
    Path("settings").mkdir()
    mask(fits.getdata(night / "light-001.fit").shape, "settings/bad.fits")
    Path("settings/recipe.toml").write_text('bad_pixels = "bad.fits"\n')
    told = arrayred("reduce", "night", "-o", "out", "--recipe", "settings/recipe.toml", *QUIET)
    assert told.code == 0, told.err
    assert list(np.flatnonzero(table_of("out")["dq"] & 1)) == [30]


def test_a_mask_that_cannot_serve_is_told_before_anything_is_written(
    night: Path, arrayred: Call
) -> None:
    assert night.is_dir()
    missing = "is not a valid mask: No such file"
    for path, why in [(mask((50, 60)), "has 60 x 50"), ("nowhere.fits", missing)]:
        told = arrayred("reduce", "night", "-o", "out", "--bad-pixels", path, *QUIET)
        assert told.code == 2
        assert f"{path}: --bad-pixels {why}" in told.err
    assert not Path("out").exists()


def test_hot_pixels_of_the_dark_are_flagged_on_request(night: Path, arrayred: Call) -> None:
    assert night.is_dir()
    told = arrayred("reduce", "night", "-o", "out", "--bad-pixels", "dark", *QUIET)
    assert told.code == 0, told.err
    header = fits.getheader(Path("out") / STAR / "Simulated_star_combined.fits")
    assert "known to be bad" in " ".join(map(str, header["HISTORY"]))


def test_an_instrument_file_tells_what_headers_do_not(night: Path, arrayred: Call) -> None:
    for path in night.iterdir():
        fits.delval(path, "EGAIN")
    Path("camera.toml").write_text("[detector]\ngain = 2.0\nread_noise = 9.0\nsaturation = 900\n")
    told = arrayred("reduce", "night", "-o", "out", "--instrument", "camera.toml", *QUIET)
    assert told.code == 4
    assert "saturated" in told.err
    Path("camera.toml").write_text("[detector]\ngain = 2.0\n")
    told = arrayred("reduce", "night", "-o", "out", "--instrument", "camera.toml", *QUIET)
    assert told.code == 0, told.err
    header = fits.getheader(Path("out") / STAR / "Simulated_star_combined.fits")
    assert header["GAINEFF"] == 6.0
    assert "gain 2 (from instrument file)" in " ".join(map(str, header["HISTORY"]))


@pytest.mark.parametrize(
    "values",
    [
        [((slice(None), slice(20, 50)), np.inf), ((slice(None), slice(60, 80)), np.nan)],
        [((slice(20, 60), slice(None)), np.nan), ((slice(None), slice(20, 22)), 1e36)],
    ],
    ids=["columns", "rows and columns"],
)
def test_pixels_that_are_no_counts_raise_no_warning_of_a_library(
    night: Path, arrayred: Call, values: list[tuple[Any, float]]
) -> None:
    for path in night.glob("light-*"):
        for where, value in values:
            change(path, where, value)
    told = arrayred("reduce", "night", "-o", "out")
    assert (told.code, "Warning" in told.err) == (0, False)


@pytest.mark.parametrize("scale", [1e300, 1e-40])
def test_a_flat_of_impossible_counts_is_left_out_and_said(
    night: Path, arrayred: Call, scale: float
) -> None:
    for n, path in enumerate(sorted(night.glob("dark-*"))[:2], 1):
        flat = night / f"flat-{n}.fit"
        flat.write_bytes(path.read_bytes())
        fits.setval(flat, "IMAGETYP", value="Flat Frame")
        light = np.random.default_rng(n).normal(20000, 140, fits.getdata(path).shape)
        change(flat, slice(None), light * scale, "f8")
    told = arrayred("inspect", "night", "--plan")
    assert told.code == 0
    assert "Warning" not in told.err
    left_out = [line for line in told.out.splitlines() if line.lstrip().startswith("flat-")]
    assert sum("cannot be counts" in line for line in left_out) == 2
    assert arrayred("reduce", "night", "-o", "out", *QUIET).code == 0
