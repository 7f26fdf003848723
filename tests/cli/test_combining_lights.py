"""``reduce --combine``: four ways for lights; the procedure's tables stay the procedure's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData

import arrayred as ar
from arrayred.io import write_frames
from arrayred.simulate import Detector, SimulatedNight, Star
from tests.cli.conftest import Call

STAR = Path("targets/Simulated_star")
QUIET = ("--no-figures", "-q", "--cosmic-rays", "off")


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """Return a night whose three lights differ in flux and were hit by cosmic rays."""
    star = Star(row=85.0, flux=200.0)
    made = SimulatedNight(
        Detector(shape=(160, 120)), star, flux_scatter=0.1, cosmic_rays=200.0, seed=7
    )
    write_frames(made.frames(), tmp_path / "night")
    return tmp_path / "night"


def extensions(out: str) -> list[str]:
    with fits.open(Path(out) / STAR / "Simulated_star_combined.fits") as hdus:
        return [hdu.name for hdu in hdus]


def tables(out: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((Path(out) / STAR).glob("*.txt"))]


@pytest.mark.parametrize("method", ["clip", "minmax"])
def test_the_tables_stay_those_of_the_average(arrayred: Call, night: Path, method: str) -> None:
    assert arrayred("reduce", night, "-o", "plain", *QUIET).code == 0
    assert arrayred("reduce", night, "-o", "other", "--combine", method, *QUIET).code == 0
    assert tables("other") == tables("plain")
    assert extensions("plain") == ["PRIMARY", "UNCERT", "MASK", "DQ"]
    assert extensions("other")[:2] == ["PRIMARY", "CLEAN"]


def test_the_tables_of_a_median_are_those_of_the_unscaled_one(arrayred: Call, night: Path) -> None:
    for scale in ("none", "flux"):
        asked = ("--combine", "median", "--scale", scale)
        assert arrayred("reduce", night, "-o", scale, *asked, *QUIET).code == 0
    assert tables("flux") == tables("none")
    assert ("CLEAN" in extensions("flux"), "CLEAN" in extensions("none")) == (True, False)


@pytest.mark.parametrize("method", ["clip", "minmax"])
def test_a_plain_read_leaves_out_what_the_best_estimate_excludes(
    arrayred: Call, night: Path, method: str
) -> None:
    with fits.open(night / "light-002.fit", mode="update") as hdus:
        hdus[0].data[30, 20:25] += 9000
    assert arrayred("reduce", night, "-o", "out", "--combine", method, *QUIET).code == 0
    path = Path("out") / STAR / "Simulated_star_combined.fits"
    plain, best = CCDData.read(path), CCDData.read(path, hdu="CLEAN")
    assert plain.mask[30, 20:25].all()
    assert plain.mask.mean() < 0.1
    off = (plain.data - best.data)[~plain.mask] / plain.uncertainty.array[~plain.mask]
    assert np.abs(off).max() <= 3.01
    passed = ar.to_ccddata(ar.open_product(path))
    assert np.array_equal(passed.data, best.data)
    assert not passed.mask[30, 20:25].any()


def test_clipping_maps_what_it_left_out(arrayred: Call, night: Path) -> None:
    assert arrayred("reduce", night, "-o", "out", "--combine", "clip", *QUIET).code == 0
    assert extensions("out") == ["PRIMARY", "CLEAN", "UNCERT", "MASK", "DQ", "NREJECT"]
    image = ar.open_product(Path("out") / STAR / "Simulated_star_combined.fits")
    off = np.abs((image.counts - image.clean).values) / np.sqrt(image.variance.values)
    assert image.n_rejected.dtype == np.uint8
    assert image.n_rejected.max() < 3
    assert off[image.n_rejected.values == 0].max() < 1e-3
    assert off[image.n_rejected.values > 0].min() > 0.5
    assert "clipped at 3 sigma of their noise" in "".join(image.attrs["history"])


def test_a_wider_clip_leaves_out_less(arrayred: Call, night: Path) -> None:
    found = []
    for sigma in ("3", "8"):
        asked = ("--combine", "clip", "--clip-sigma", sigma)
        assert arrayred("reduce", night, "-o", sigma, *asked, *QUIET).code == 0
        path = Path(sigma) / STAR / "Simulated_star_combined.fits"
        found.append(int(fits.getdata(path, "NREJECT").sum()))
    assert 0 < found[1] < found[0]


def test_extremes_that_leave_nothing_are_said_before_anything_is_done(
    arrayred: Call, night: Path
) -> None:
    asked = ("--combine", "minmax", "--minmax-high", "2", "--minmax-low", "1")
    said = arrayred("reduce", night, "-o", "out", *asked, *QUIET)
    assert said.code == 2
    assert "1 lowest and 2 highest" in said.err
    assert "Simulated_star has 3" in said.err
    assert not Path("out").exists()


@pytest.mark.parametrize("method", ["median", "minmax"])
def test_weights_are_of_means_alone(arrayred: Call, night: Path, method: str) -> None:
    asked = ("--combine", method, "--weights", "noise")
    said = arrayred("reduce", night, "-o", "out", *asked, *QUIET)
    assert said.code == 2
    assert "weights apply to a mean of frames" in said.err


def test_a_night_file_may_ask_for_it(arrayred: Call, night: Path) -> None:
    lines = '[recipe]\ncombine = "clip"\nclip_sigma = 4.0\nweights = "noise"\n'
    Path("night.toml").write_text(lines, encoding="utf-8")
    asked = ("--night-file", "night.toml")
    assert arrayred("reduce", night, "-o", "out", *asked, *QUIET).code == 0
    history = str(fits.getheader(Path("out") / STAR / "Simulated_star_combined.fits")["HISTORY"])
    assert "weighted by their noise, clipped at 4 sigma" in history.replace("\n", "")


def test_electrons_are_those_of_the_best_estimate_too(night: Path) -> None:
    adu, electrons = (
        ar.reduce_night(night, ar.Recipe(combine="clip", units=unit))[str(STAR / "combined")]
        for unit in ("adu", "electron")
    )
    assert np.allclose(electrons.clean, 1.5 * adu.clean)
    assert electrons.clean.attrs["units"] == "electron"
    assert np.array_equal(electrons.n_rejected, adu.n_rejected)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--combine", "clip"), "clip"),
        (("--combine", "clip", "--weights", "noise"), "clip, weighted by noise"),
        (("--combine", "minmax"), "minmax"),
        (("--cosmic-rays", "compare"), "average, cosmic rays excluded"),
        ((), None),
    ],
)
@pytest.mark.usefixtures("night")
def test_the_header_tells_what_is_in_which_extension(
    arrayred: Call, options: tuple[str, ...], told: str | None
) -> None:
    assert arrayred("reduce", "night", "-o", "out", *QUIET, *options).code == 0
    with fits.open(Path("out") / STAR / "Simulated_star_combined.fits") as hdus:
        header, uncert = hdus[0].header, hdus["UNCERT"].header
    assert (header["ARMETHOD"], header.get("ARCLEAN")) == ("average", told)
    of = "CLEAN" if told else "the image"
    assert uncert.comments["UTYPE"] == f"standard deviation of {of}"
    for name in ("combined", "spectrum"):
        product = ar.open_product(Path("out") / STAR / f"Simulated_star_{name}.fits")
        assert product.coords.get("clean_method", None) == told
