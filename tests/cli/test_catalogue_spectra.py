"""The catalogue of bad nights, continued: spectra that hide, are doubled, cut off, or not there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from arrayred.io import write_frames
from arrayred.simulate import Detector, SimulatedNight, Star
from tests.cli.conftest import Call, contents
from tests.procedure import run_procedure

DETECTOR = Detector(shape=(160, 120), hot_fraction=0.0)
STAR = Star("Vega", flux=60.0, row=85.0, lines=())
FOLDER = Path("out/targets/Vega")
REDUCE = ("reduce", "night", "-o", "out", "--no-figures")


def taken(
    star: Star, *companions: Star, hot: float = 0.0, shape: tuple[int, int] = (160, 120)
) -> None:
    """Write a night of two darks and two lights; hot: adu on every pixel of row 150."""
    detector = Detector(shape=shape, hot_fraction=0.0)
    night = SimulatedNight(detector, star, companions, n_darks=2, n_lights=2, seed=5)
    folder = Path("night")
    write_frames(night.frames(), folder)
    for path in folder.glob("light-*"):
        pixels, header = fits.getdata(path), fits.getheader(path)
        for keyword in ("BZERO", "BSCALE", "DATASUM", "CHECKSUM"):
            header.remove(keyword, ignore_missing=True)
        changed = pixels.astype(np.float64)
        changed[149:150] += hot
        fits.writeto(path, changed.astype(np.uint16), header, overwrite=True)


def faint(flux: float, name: str = "Vega", row: float = 85.0) -> Star:
    return Star(name, flux=flux, row=row, lines=())


def frames(kind: str) -> list[NDArray[np.float64]]:
    return [fits.getdata(p).astype(np.float64) for p in sorted(Path("night").glob(f"{kind}-*"))]


def header(name: str = "Vega_spectrum.fits") -> fits.Header:
    return fits.getheader(FOLDER / name)


def span(name: str = "Vega_spectrum.fits") -> tuple[int, int]:
    found = header(name)
    return found["SPFIRST"], found["SPLAST"]


def table(name: str) -> NDArray[np.float64]:
    return np.loadtxt(FOLDER / name, skiprows=1)


def test_56_where_nothing_is_found_the_image_and_a_picture_are_published(arrayred: Call) -> None:
    taken(faint(0.0))
    told = arrayred("reduce", "night", "-o", "out", "-q")
    assert told.code == 4
    for text in ("Vega", "background", "brightest is row", "then row", "obust detection", "--rows"):
        assert text in told.err
    assert {path.name for path in FOLDER.iterdir()} == {"Vega_combined.fits", "Vega.png"}
    assert (FOLDER / "Vega.png").read_bytes().startswith(b"\x89PNG")


def test_56_a_spectrum_under_the_threshold_is_an_error_only_where_that_is_asked(
    arrayred: Call,
) -> None:
    taken(faint(0.5))
    told = arrayred(*REDUCE, "-q", "--detect", "threshold")
    assert told.code == 4
    assert "robust" not in told.err
    told = arrayred(*REDUCE)
    assert told.code == 0, told.err
    assert re.search("Note +no row is above the threshold", told.out)
    assert header()["SPRULE"] == "robust"
    assert span()[0] < 85 < span()[1]


def test_57_a_spectrum_at_the_edge_is_truncated_and_its_header_says_so(arrayred: Call) -> None:
    taken(faint(60.0, row=159.0))
    told = arrayred(*REDUCE)
    assert told.code == 0, told.err
    assert re.search("Check +the spectrum is truncated: it touches the last row", told.out)
    assert "the spectrum is truncated" in repr(header())


def test_58_a_spectrum_within_the_background_sample(arrayred: Call) -> None:
    taken(Star("Vega", flux=60.0, row=25.0, seeing=12.0, lines=()))
    told = arrayred(*REDUCE, "--reference")
    assert told.code == 4
    assert "contains signal" in told.err
    assert "--background-rows" in told.err
    told = arrayred(*REDUCE, "--overwrite")
    assert told.code == 0, told.err
    assert re.search("Note +the background sample .* robust detection used", told.out)
    assert span()[0] < 25 < span()[1]


def test_60_the_brighter_of_two_is_taken_and_the_other_named(arrayred: Call) -> None:
    taken(faint(60.0), faint(20.0, "B", 130.0))
    told = arrayred(*REDUCE)
    assert told.code == 0, told.err
    assert re.search(
        r"Check +another spectrum in rows 12\d:13\d \(S/N \d+\) was not extracted", told.out
    )
    assert span()[0] < 85 < span()[1]
    assert arrayred(*REDUCE, "--near-row", 120, "--overwrite").code == 0
    assert span()[0] < 130 < span()[1]
    told = arrayred(*REDUCE, "--near-row", 161)
    assert (told.code, told.out) == (2, "")
    assert "--near-row 161 is outside Vega, which has rows 1:160" in told.err


def test_60_all_spectra_have_products_of_their_own(arrayred: Call) -> None:
    taken(faint(60.0), faint(20.0, "B", 130.0))
    told = arrayred("reduce", "night", "-o", "out", "--all-spectra")
    assert told.code == 0, told.err
    spoken = told.out.partition("\nVega ")[2].partition("\n\n")[0].partition("\n")[2]
    again = arrayred("reduce", "night", "-o", "out", "--all-spectra", "-v").out
    assert set(spoken.splitlines()) <= set(again.splitlines())
    said = again.split("Spectrum 2 of 2, Vega_2\n")
    own = {"raw_extraction.txt", "skysubtracted.txt", "spectrum.fits", "spectrum.ecsv"}
    expected = {f"{stem}_{name}" for stem in ("Vega", "Vega_2") for name in own}
    pictures = {"Vega_combined.fits", "Vega.png", "Vega_2.png"}
    assert {path.name for path in FOLDER.iterdir()} == expected | pictures
    for name, row in (("Vega", 85), ("Vega_2", 130)):
        first, last = span(f"{name}_spectrum.fits")
        assert first < row < last
        assert f"Bottom edge of the spectrum: y= {first}\n" in said["_2" in name]
        image = fits.getdata(FOLDER / "Vega_combined.fits")[first - 1 : last]
        assert np.allclose(table(f"{name}_raw_extraction.txt")[:, 1], image.mean(axis=0))


def test_60_further_spectra_of_an_earlier_run_do_not_stay(arrayred: Call) -> None:
    taken(faint(60.0), faint(20.0, "B", 130.0))
    arrayred(*REDUCE, "--all-spectra")
    (FOLDER / "Vega_2_notes.txt").write_text("mine")
    assert arrayred(*REDUCE, "--overwrite").code == 0
    assert {path.name for path in FOLDER.glob("Vega_2*")} == {"Vega_2_notes.txt"}
    before = contents(Path("out"))
    assert arrayred(*REDUCE).code == 0
    assert contents(Path("out")) == before


def test_56_a_target_without_light_fails_alone_and_is_told_in_the_end(arrayred: Call) -> None:
    taken(STAR)
    clouds = SimulatedNight(DETECTOR, faint(0.0, "Clouds"), n_darks=0, prefix="c-", seed=5)
    write_frames(clouds.frames(), Path("night"))
    told = arrayred(*REDUCE)
    assert told.code == 3
    assert re.search(r"\nClouds +failed.*\n  Files +1 in out/targets/Clouds\n", told.out)
    assert re.search("error: Clouds: No row's mean exceeds", told.err)
    assert re.search(r"\n1 target reduced, 1 failed, 0 frames unused, .* s\n$", told.out)


def test_62_a_hot_row_is_no_part_of_the_spectrum(arrayred: Call) -> None:
    taken(STAR, hot=20000.0)
    told = arrayred(*REDUCE)
    assert told.code == 0, told.err
    assert re.search("Note +signal in row 150 .*too narrow", told.out)
    assert "too narrow for a star" in told.out
    assert span()[0] < 85 < span()[1] < 100


def test_62_the_reference_takes_all_between_with_a_warning(arrayred: Call) -> None:
    taken(STAR, hot=20000.0)
    told = arrayred(*REDUCE, "--reference")
    assert told.code == 0, told.err
    expected = run_procedure({600.0: frames("dark")}, [(600.0, f) for f in frames("light")])
    assert re.search("Check +the rows contain 2 separate runs", told.out)
    assert span()[1] == 150
    assert (FOLDER / "Vega_raw_extraction.txt").read_text() == expected.raw_extraction
    assert (FOLDER / "Vega_skysubtracted.txt").read_text() == expected.skysubtracted


@pytest.mark.parametrize("shape", [(60, 120), (80, 300)])
def test_63_on_a_low_image_the_sample_leaves_the_spectrum_out(
    arrayred: Call, shape: tuple[int, int]
) -> None:
    taken(Star("Vega", flux=60.0, row=30.0, lines=()), shape=shape)
    told = arrayred(*REDUCE, "--no-sky")
    assert told.code == 0, told.err
    first, last = span()
    assert first < 30 < last
    image = fits.getdata(FOLDER / "Vega_combined.fits").astype(np.float64)
    kept = np.delete(image[:50], range(first - 1, last), axis=0)
    assert header()["BKGMEAN"] == pytest.approx(kept.mean(), rel=1e-5)
    assert table("Vega_raw_extraction.txt")[:, 0].tolist() == list(range(1, shape[1] + 1))


@pytest.mark.usefixtures("bands_alone")
def test_the_rows_depend_on_neither_scheduler_nor_bands(arrayred: Call) -> None:
    taken(faint(0.5))
    assert arrayred(*REDUCE).code == 0
    options = ("--memory", "64K", "--scheduler", "synchronous")
    assert arrayred("reduce", "night", "-o", "other", "--no-figures", *options).code == 0
    one, other = (contents(Path(out)) for out in ("out", "other"))
    assert {name: content for name, (content, _) in one.items()} == {
        name: content for name, (content, _) in other.items()
    }
