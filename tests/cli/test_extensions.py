"""Files of several images: masks beside a product, amplifiers of one frame, packed or not."""

from __future__ import annotations

import bz2
import gzip
import itertools
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData

from tests.cli.conftest import Call

TABLES = ("raw_extraction.txt", "skysubtracted.txt")
QUIET = ("--no-figures", "-q")


def tables_of(out: Path) -> list[bytes]:
    return [path.read_bytes() for name in TABLES for path in sorted(out.rglob(f"*_{name}"))]


def with_extensions(path: Path) -> None:
    """Let astropy write noise, mask and flags behind the image of a file."""
    with fits.open(path, mode="append") as hdus:
        shape = hdus[0].shape
        for name, kind in (("UNCERT", "f4"), ("MASK", "u1"), ("DQ", "u1")):
            hdus.append(fits.ImageHDU(np.ones(shape, kind), name=name))


@pytest.mark.parametrize("option", ["--master-dark", "--calibrations"])
def test_a_master_with_extensions_serves_as_one_without(
    arrayred: Call, night: Path, undisturbed: dict[str, bytes], option: str
) -> None:
    assert undisturbed
    (master,) = Path("undisturbed/masters").iterdir()
    with_extensions(master)
    for dark in night.glob("dark*"):
        dark.unlink()
    given = master if option == "--master-dark" else master.parent
    again = arrayred("reduce", night, "-o", "b", *QUIET, option, given)
    assert again.code == 0, again.err
    assert tables_of(Path("b")) == tables_of(Path("undisturbed")) != []


def test_a_product_with_extensions_among_the_frames_is_left_out(
    arrayred: Call, night: Path, undisturbed: dict[str, bytes]
) -> None:
    assert undisturbed
    (combined,) = Path("undisturbed").rglob("*_combined.fits")
    with_extensions(combined)
    (night / combined.name).write_bytes(combined.read_bytes())
    again = arrayred("reduce", night, "-o", "b", *QUIET)
    assert again.code == 0, again.err
    assert tables_of(Path("b")) == tables_of(Path("undisturbed")) != []


def test_masters_know_their_noise_and_nothing_else_does_by_it(
    arrayred: Call, night: Path, undisturbed: dict[str, bytes]
) -> None:
    assert undisturbed
    (path,) = Path("undisturbed/masters").iterdir()
    master = CCDData.read(path)
    one, two = (fits.getdata(dark).astype(float) for dark in sorted(night.glob("dark*"))[:2])
    noise = np.median(np.abs(one - two)) / 0.6745 / np.sqrt(2)
    left = 0.536  # of the median of five: sqrt(1.434 / 5)
    assert np.median(master.uncertainty.array) == pytest.approx(left * noise, rel=0.05)
    with fits.open(path, mode="update") as hdus:
        del hdus["UNCERT"]
    again = arrayred("reduce", night, "-o", "b", *QUIET, "--master-dark", path)
    assert again.code == 0, again.err
    assert tables_of(Path("b")) == tables_of(Path("undisturbed")) != []


# Frames whose pixels are in several image extensions: amplifiers, detectors

SPECTRUM = "out/targets/Simulated_star/Simulated_star_spectrum.fits"


class Amplifier(NamedTuple):
    """Half of the columns of a frame, as one amplifier writes them."""

    left: bool
    level: float = 0.0
    gain: float = 1.0
    backwards: bool = False


def amplifiers(path: Path, *amps: Amplifier, place: str = "DETSEC", overscan: int = 0) -> None:
    """Write a frame anew as the amplifiers would, each in an extension with its overscan."""
    image, header = fits.getdata(path).astype(float), fits.getheader(path)
    n_rows, n_columns = image.shape
    half = n_columns // 2
    hdus = fits.HDUList([fits.PrimaryHDU(header=header)])
    rng = np.random.default_rng(len(path.name))
    for k, amp in enumerate(amps, 1):
        first = 0 if amp.left else half
        part = image[:, first : first + half] / amp.gain + amp.level
        strip = amp.level + rng.normal(0, 2, (n_rows, overscan))
        cards = {"EXTNAME": f"AMP{k}"}
        ends = (first + half, first + 1) if amp.backwards else (first + 1, first + half)
        if place:
            cards[place] = f"[{ends[0]}:{ends[1]},1:{n_rows}]"
        if overscan:
            cards["DATASEC"] = f"[{overscan + 1}:{overscan + half},1:{n_rows}]"
            cards["BIASSEC"] = f"[1:{overscan},1:{n_rows}]"
            part = np.hstack([strip, part[:, ::-1] if amp.backwards else part])
        hdu = fits.ImageHDU(np.clip(np.rint(part), 0, 65535).astype(np.uint16), name=f"AMP{k}")
        hdu.header.update(cards)
        if amp.gain != 1.0:
            hdu.header["GAIN"] = amp.gain
        hdus.append(hdu)
    path.unlink()
    hdus.writeto(path)


def flux(out: str = "out") -> Any:
    path = Path(out, "targets", "Simulated_star", "Simulated_star_spectrum.fits")
    return fits.getdata(path)["flux"]


@pytest.fixture
def whole_flux(undisturbed: dict[str, bytes]) -> Any:
    """Return the flux of the night while each frame is one image."""
    assert undisturbed
    return flux("undisturbed")


def test_amplifiers_side_by_side_make_the_frame_they_were_cut_from(
    arrayred: Call, night: Path, whole_flux: Any
) -> None:
    for path in night.iterdir():
        amplifiers(path, Amplifier(left=True), Amplifier(left=False))
    told = arrayred("reduce", "night", "-o", "out", "--no-figures")
    assert (told.code, told.err) == (0, "")
    assert np.array_equal(flux(), whole_flux)
    history = "".join(fits.getheader(SPECTRUM)["HISTORY"])
    assert "frames: joined from 2 images (AMP1, AMP2)" in history
    planned = arrayred("inspect", "night", "--plan")
    assert re.search(r"8 frames +joined from 2 images \(AMP1, AMP2\)", planned.out)


def test_each_amplifier_loses_its_own_overscan_and_gain(
    arrayred: Call, night: Path, whole_flux: Any
) -> None:
    for path in night.iterdir():
        amplifiers(
            path,
            Amplifier(left=True, level=300.0, gain=1.0001),
            Amplifier(left=False, level=900.0, gain=1.3, backwards=True),
            overscan=20,
        )
    told = arrayred("reduce", "night", "-o", "out", "--no-figures")
    assert (told.code, told.err) == (0, "")
    assert flux() == pytest.approx(whole_flux, rel=0.01, abs=0.01 * np.max(whole_flux))
    combined = fits.getheader(SPECTRUM.replace("_spectrum", "_combined"))
    assert combined["AROVSCAN"] == "of each amplifier"
    assert {"DETSEC", "BIASSEC", "DATASEC"}.isdisjoint(combined)
    assert "each overscan-subtracted, in the ADU of the first" in "".join(combined["HISTORY"])


def test_images_that_nothing_places_are_told_and_each_can_be_had(
    arrayred: Call, night: Path, whole_flux: Any
) -> None:
    for path in night.iterdir():
        amplifiers(path, Amplifier(left=True), Amplifier(left=False), place="")
    told = arrayred("reduce", "night", "-o", "out", "--no-figures")
    assert told.code == 0
    lines = [line for line in told.err.splitlines() if "2 images per file" in line]
    (line,) = lines
    assert re.search(r"dark-001 to light-003 \(8\): .* only the first, AMP1, is read", line)
    assert line.endswith("DETSEC is missing; use --extension NAME for another")
    assert np.size(flux()) == 60
    for named, first in (("2", 60), ("amp2", 60), ("AMP1", 0)):
        told = arrayred(
            "reduce", "night", "-o", "out", "--no-figures", "--overwrite", "--extension", named
        )
        assert (told.code, told.err) == (0, "")
        part = whole_flux[first : first + 60]
        assert flux() == pytest.approx(part, rel=0.02, abs=0.02 * np.max(whole_flux))
    told = arrayred("reduce", "night", "-o", "out2", *QUIET, "--extension", "AMP7")
    assert told.code > 1
    assert "The file has no image AMP7, but AMP1, AMP2" in told.err
    told = arrayred("combine", night / "dark-001.fit", "-o", "m.fits", "--extension", "AMP2")
    assert (told.code, fits.getdata("m.fits").shape) == (0, (160, 60))
    told = arrayred("combine", night / "dark-001.fit", "-o", "m1.fits")
    assert "only the first, AMP1, is read" in told.err


def test_images_that_overlap_are_not_put_together(arrayred: Call, night: Path) -> None:
    for path in night.iterdir():
        amplifiers(path, Amplifier(left=True), Amplifier(left=True))
    told = arrayred("reduce", "night", "-o", "out", "--no-figures")
    assert told.code == 0
    assert "is read because their DETSEC overlap or leave gaps; use --extension NAME" in told.err


def test_amplifiers_of_packed_files_are_put_together_too(
    arrayred: Call, night: Path, whole_flux: Any
) -> None:
    suffixes = itertools.cycle([".gz", ".fz", ".bz2"])
    for path, suffix in zip(sorted(night.iterdir()), suffixes, strict=False):
        amplifiers(path, Amplifier(left=True), Amplifier(left=False))
        packed = path.with_name(f"{path.name}{suffix}")
        if suffix == ".fz":
            with fits.open(path) as hdus:
                tiles = [fits.CompImageHDU(h.data, h.header, name=h.name) for h in hdus[1:]]
                fits.HDUList([fits.PrimaryHDU(header=hdus[0].header), *tiles]).writeto(packed)
        else:
            squeeze = {".gz": gzip.compress, ".bz2": bz2.compress}[suffix]
            packed.write_bytes(squeeze(path.read_bytes()))
        path.unlink()
    told = arrayred("reduce", "night", "-o", "out", "--no-figures")
    assert (told.code, told.err) == (0, "")
    assert np.array_equal(flux(), whole_flux)
    again = arrayred("reduce", "night", "-o", "again", "--no-figures")  # from the cache
    assert (again.code, again.err) == (0, "")
    assert np.array_equal(flux("again"), whole_flux)


# Masks of the frames of a night


def test_masked_pixels_of_lights_are_missing(arrayred: Call, night: Path) -> None:
    for light in night.glob("light*"):
        mask = np.zeros(fits.getdata(light).shape, np.uint8)
        mask[:, 50] = 1
        fits.append(light, mask, fits.Header({"EXTNAME": "MASK"}))
    found = arrayred("reduce", night, "-o", "out", *QUIET)
    assert found.code == 0, found.err
    (combined,) = Path("out").rglob("*_combined.fits")
    assert np.isnan(fits.getdata(combined)[:, 50]).all()
    assert np.isfinite(fits.getdata(combined)[:, 51]).all()


def test_a_night_with_masks_is_not_cached_without_them(arrayred: Call, night: Path) -> None:
    light = next(night.glob("light*"))
    mask = np.zeros(fits.getdata(light).shape, np.uint8)
    fits.append(light, mask, fits.Header({"EXTNAME": "MASK"}))
    refused = arrayred("cache", night, "--to", "cached")
    assert refused.code == 4, refused.err
    assert "which a cache does not hold" in refused.err
