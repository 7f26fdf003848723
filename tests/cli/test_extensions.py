"""Products with noise, mask and flags beside their image, through the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData

from tests.conftest import Run

TABLES = ("raw_extraction.txt", "skysubtracted.txt")


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
    run: Run, night: Path, tmp_path: Path, option: str
) -> None:
    plain = run("reduce", night, "-o", tmp_path / "a", "--no-figures", "-q")
    assert plain.returncode == 0, plain.stderr
    (master,) = (tmp_path / "a" / "masters").iterdir()
    with_extensions(master)
    for dark in night.glob("dark*"):
        dark.unlink()
    given = master if option == "--master-dark" else master.parent
    again = run("reduce", night, "-o", tmp_path / "b", "--no-figures", "-q", option, given)
    assert again.returncode == 0, again.stderr
    assert tables_of(tmp_path / "b") == tables_of(tmp_path / "a") != []


def test_a_product_with_extensions_among_the_frames_is_left_out(run: Run, night: Path) -> None:
    assert run("reduce", night, "-o", f"{night}-a", "--no-figures", "-q").returncode == 0
    (combined,) = Path(f"{night}-a").rglob("*_combined.fits")
    with_extensions(combined)
    (night / combined.name).write_bytes(combined.read_bytes())
    again = run("reduce", night, "-o", f"{night}-b", "--no-figures", "-q")
    assert again.returncode == 0, again.stderr
    assert tables_of(Path(f"{night}-b")) == tables_of(Path(f"{night}-a")) != []


def test_masters_know_their_noise_and_nothing_else_does_by_it(
    run: Run, night: Path, tmp_path: Path
) -> None:
    assert run("reduce", night, "-o", tmp_path / "a", "--no-figures", "-q").returncode == 0
    (path,) = (tmp_path / "a" / "masters").iterdir()
    master = CCDData.read(path)
    one, two = (fits.getdata(dark).astype(float) for dark in sorted(night.glob("dark*"))[:2])
    noise = np.median(np.abs(one - two)) / 0.6745 / np.sqrt(2)
    left = 0.536  # of the median of five: sqrt(1.434 / 5)
    assert np.median(master.uncertainty.array) == pytest.approx(left * noise, rel=0.05)
    with fits.open(path, mode="update") as hdus:
        del hdus["UNCERT"]
    again = run("reduce", night, "-o", tmp_path / "b", "--no-figures", "-q", "--master-dark", path)
    assert again.returncode == 0, again.stderr
    assert tables_of(tmp_path / "b") == tables_of(tmp_path / "a") != []
