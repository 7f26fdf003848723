"""A night counted in electrons: its products say so, wherever they name a unit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table

import arrayred as ar
from tests.cli.conftest import Call
from tests.conftest import Run

TABLES = ("spectrum", "frames")


def test_products_are_in_the_unit_of_the_frames(night: Path, fork: Run, tmp_path: Path) -> None:
    for path in night.iterdir():
        fits.setval(path, "BUNIT", value="ELECTRONS")
    result = fork("reduce", night, "-o", tmp_path / "out", "--no-figures")
    assert (result.returncode, result.stderr) == (0, "")
    products = sorted((tmp_path / "out").rglob("*.fits"))
    assert len(products) == 3
    for path in products:
        assert fits.getheader(path)["BUNIT"] == "electron"
    spectrum = Table.read(next((tmp_path / "out").rglob("*.ecsv")))
    assert spectrum["flux"].unit == spectrum["uncertainty"].unit == u.electron
    header = fits.getheader(products[-1])
    assert fits.getheader(products[-1], 1)["TUNIT2"] == "ct"  # FITS knows no electron
    assert "[electron]" in header.comments["THRESH"] + header.comments["BKGMEAN"]
    assert header["GAINEFF"] == 3  # frames; a count is an electron


def test_tables_in_electrons_are_read_by_the_neighbours(
    arrayred: Call, night: Path, tmp_path: Path
) -> None:
    specutils = pytest.importorskip("specutils")
    arrayred("reduce", night, "-o", tmp_path / "out", "--electrons", "--per-frame", "--no-figures")
    (path,), (frames,) = ((tmp_path / "out").rglob(f"*_{name}.fits") for name in TABLES)
    spectrum, own = specutils.Spectrum.read(path), ar.open_product(path)
    assert spectrum.flux.unit == Table.read(frames)["flux"].unit == u.ct
    assert np.array_equal(spectrum.flux.value, own.flux.values)
    assert spectrum.uncertainty is not None
    assert (own.flux.units, own.sky.units, own.variance.units) == (*["electron"] * 2, "electron2")
    assert ar.to_spectrum(own).flux.unit == u.electron


def test_lights_in_electrons_do_not_take_darks_in_adu(
    night: Path, fork: Run, tmp_path: Path
) -> None:
    for path in night.glob("light*"):
        fits.setval(path, "BUNIT", value="electron")
    result = fork("reduce", night, "-o", tmp_path / "out")
    assert result.returncode == 4
    assert "in adu, the light frame in electron" in result.stderr
    assert not (tmp_path / "out").exists()


def test_images_in_electrons_have_a_gain_of_one(arrayred: Call, night: Path) -> None:
    gain = fits.getval(next(night.glob("light*")), "EGAIN")
    assert gain != 1.0
    assert arrayred("reduce", night, "-o", "out", "--electrons", "--no-figures").code == 0
    for path in Path("out/targets").rglob("*.fits"):
        header = fits.getheader(path)
        assert (header["BUNIT"], header["EGAIN"]) == ("electron", 1.0)
    for path in Path("out/masters").rglob("*.fits"):
        assert (fits.getval(path, "BUNIT"), fits.getval(path, "EGAIN")) == ("adu", gain)
