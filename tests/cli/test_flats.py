"""Flats, overscans, scaled darks and electrons through the command line: products and headers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.nddata import CCDData

from arrayred.io import write_frames
from arrayred.simulate import Detector, Lamps, SimulatedNight, Star
from tests.cli.conftest import Call

STAR = "out/targets/Simulated_star/Simulated_star_"
LAMPS = Lamps(flat_level=5000.0)
SMALL = Detector(shape=(130, 70), response_scatter=0.02, vignetting=0.2)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Return a folder with biases, darks, flats and lights."""
    made = SimulatedNight(
        SMALL, Star(lines=(), row=95.0), lamps=LAMPS, n_biases=5, n_flats=3, seed=1
    )
    write_frames(made.frames(), tmp_path / "night")
    return tmp_path / "night"


def image(path: str) -> tuple[np.ndarray, fits.Header]:
    with fits.open(path) as hdus:
        return hdus[0].data.astype("f8"), hdus[0].header


def reduced(arrayred: Call, *args: object) -> tuple[np.ndarray, fits.Header]:
    told = arrayred("reduce", "night", "-o", "out", "--no-figures", "--overwrite", *args)
    assert told.code == 0, told.err
    return image(f"{STAR}combined.fits")


def test_a_flat_is_divided_by_and_told(frames: Path, arrayred: Call) -> None:
    plain, _ = reduced(arrayred, "--no-flat")
    divided, header = reduced(arrayred)
    flat, of_flat = image("out/masters/master_flat_Flat_lamp.fits")
    np.testing.assert_allclose(divided, plain / flat, rtol=3e-7)
    assert (header["CALSTAT"], header["ARFLAT"]) == ("BDF", "master_flat_Flat_lamp.fits")
    assert "arrayred: divided by the flat, with its noise; 0 pixels" in str(header["HISTORY"])
    assert (of_flat["CALSTAT"], of_flat["BUNIT"], of_flat["NCOMBINE"]) == ("B", "", 3)
    inputs = {value for card, value in header.items() if card.startswith("ARIN")}
    assert {"flat-001.fit", "bias-001.fit", "dark-001.fit", "light-001.fit"} <= inputs


def test_calibrated_frames_are_divided_too(frames: Path, arrayred: Call) -> None:
    combined, _ = reduced(arrayred, "--save-calibrated")
    folder = Path("out/targets/Simulated_star/calibrated")
    each = [image(str(path)) for path in sorted(folder.iterdir())]
    np.testing.assert_allclose(np.mean([e[0] for e in each], axis=0), combined, atol=2e-3)
    assert {header["CALSTAT"] for _, header in each} == {"BDF"}


@pytest.mark.usefixtures("bands_alone")
def test_calibrated_frames_carry_their_own_noise_and_flags(frames: Path, arrayred: Call) -> None:
    reduced(arrayred, "--save-calibrated", "--memory", "2M")
    folder = Path("out/targets/Simulated_star/calibrated")
    bits = []
    for path in folder.iterdir():
        frame = CCDData.read(path, hdu_flags="DQ")
        assert 0.9 < np.std(frame.data[:60] - np.median(frame.data[:60])) / np.median(
            frame.uncertainty.array[:60]
        ) < 1.1  # fmt: skip
        assert np.array_equal(frame.mask, frame.flags != 0)
        bits.append(frame.flags)
    assert len(bits) == 3
    assert np.array_equal(np.bitwise_or.reduce(bits), fits.getdata(f"{STAR}combined.fits", "DQ"))


@pytest.mark.parametrize("how", ["--master-flat", "--calibrations"])
def test_a_master_flat_from_elsewhere_gives_the_same(
    frames: Path, arrayred: Call, tmp_path: Path, how: str
) -> None:
    own, _ = reduced(arrayred)
    (tmp_path / "lib").mkdir()
    master = Path("out/masters/master_flat_Flat_lamp.fits").rename(tmp_path / "lib" / "mine.fits")
    excluded = ["--exclude", "flat-*"] if how == "--calibrations" else []
    given = master if how == "--master-flat" else master.parent
    again, header = reduced(arrayred, how, given, *excluded)
    np.testing.assert_allclose(again, own, rtol=3e-7)
    assert header["ARFLAT"] == "mine.fits"
    assert not list(Path("out/masters").glob("*flat*"))


def test_a_column_that_the_lamp_leaves_in_doubt_is_flagged_of_a_ready_flat_too(
    frames: Path, arrayred: Call, tmp_path: Path
) -> None:
    fades = np.minimum(np.exp(0.5 * (np.arange(70.0) - 25)), 1.0)
    for path in frames.glob("flat*"):
        with fits.open(path, mode="update") as hdus:
            level = np.median(fits.getdata(next(frames.glob("bias*"))))
            hdus[0].data[:] = np.rint(level + (hdus[0].data - level) * fades)
    for path in frames.glob("flat*"):
        for card in ("CHECKSUM", "DATASUM"):
            fits.delval(path, card)
    own, _ = reduced(arrayred)
    with fits.open(f"{STAR}spectrum.fits") as hdus:
        table = hdus[1].data.copy()
    assert (table["dq"][:12] & 32).all()
    assert not (table["dq"][36:] & 32).any()
    assert np.isfinite(table["flux"][:12]).any()
    (tmp_path / "lib").mkdir()
    master = Path("out/masters/master_flat_Flat_lamp.fits").rename(tmp_path / "lib" / "mine.fits")
    again, _ = reduced(arrayred, "--master-flat", master)
    np.testing.assert_allclose(again, own, rtol=3e-7)
    with fits.open(f"{STAR}spectrum.fits") as hdus:
        assert np.array_equal(hdus[1].data["dq"], table["dq"])


def test_a_ready_flat_brings_its_noise_only_where_its_file_tells_it(
    frames: Path, arrayred: Call, tmp_path: Path
) -> None:
    reduced(arrayred)
    own = fits.getdata(f"{STAR}combined.fits", "UNCERT")
    flat, counts = Path("out/masters/master_flat_Flat_lamp.fits"), image(f"{STAR}combined.fits")[0]
    assert fits.getval(flat, "BUNIT", "UNCERT") == ""
    (tmp_path / "lib").mkdir()
    flat = flat.rename(tmp_path / "lib" / "mine.fits")
    reduced(arrayred, "--master-flat", flat)
    np.testing.assert_allclose(fits.getdata(f"{STAR}combined.fits", "UNCERT"), own, rtol=1e-6)
    with fits.open(flat) as hdus:
        hdus[:1].writeto(tmp_path / "lib" / "bare.fits")
    reduced(arrayred, "--master-flat", "lib/bare.fits")
    less = fits.getdata(f"{STAR}combined.fits", "UNCERT")
    of_flat = counts / fits.getdata(flat) * fits.getdata(flat, "UNCERT")
    expected = np.sqrt(own**2 - of_flat**2)
    np.testing.assert_allclose(less, expected, rtol=1e-4)


@pytest.mark.parametrize("cards", [{}, {"NCOMBINE": 20}])
def test_a_master_flat_of_another_program_is_taken_for_certain(
    frames: Path, arrayred: Call, tmp_path: Path, cards: dict[str, Any]
) -> None:
    lamp = np.full((130, 70), 5000.0, np.float32)
    header = fits.Header({"IMAGETYP": "Master Flat", "CALSTAT": "BDM", "EGAIN": 1.5, **cards})
    fits.writeto(tmp_path / "f.fits", lamp, header)
    reduced(arrayred, "--no-flat")
    before = fits.getdata(f"{STAR}combined.fits", "UNCERT")
    _, told = reduced(arrayred, "--master-flat", "f.fits")
    assert "divided by the flat; 0 pixels" in str(told["HISTORY"])
    np.testing.assert_allclose(fits.getdata(f"{STAR}combined.fits", "UNCERT"), before, rtol=1e-5)


def test_the_plan_says_which_flat_serves_and_what_corrects_it(frames: Path, arrayred: Call) -> None:
    told = arrayred("inspect", "night", "--plan", "-v").out
    flat = r"^  master flat Flat_lamp\n +3 frames, CCD -19\.9 °C; bias subtracted$"
    assert re.search(flat, told, re.M)
    assert re.search(r"^    dark 600s +taken .*\n    flat Flat_lamp +taken ", told, re.M)
    assert "masters/master_flat_Flat_lamp.fits" in told


def test_a_flat_of_another_shape_is_no_master_for_these(
    frames: Path, arrayred: Call, tmp_path: Path
) -> None:
    fits.writeto(tmp_path / "f.fits", np.ones((5, 5), "f4"),
                 fits.Header([("IMAGETYP", "Master Flat"), ("CALSTAT", "BDM")]))  # fmt: skip
    told = arrayred("reduce", "night", "-o", "out", "--no-figures", "--master-flat", "f.fits")
    assert told.code == 0
    assert "not divided by a flat: none matches" in told.err
    assert "f (different shape)" in told.err


def test_a_master_flat_that_is_not_there_is_a_usage_error(frames: Path, arrayred: Call) -> None:
    told = arrayred("reduce", "night", "-o", "out", "--master-flat", "none.fits")
    assert (told.code, "No such master" in told.err) == (2, True)


def test_a_longer_dark_is_scaled_on_request_only(arrayred: Call, tmp_path: Path) -> None:
    night = SimulatedNight(Detector(shape=(130, 70), hot_fraction=0.0), Star(row=95.0), n_biases=3)
    write_frames(night.frames(), tmp_path / "night")
    for path in Path("night").glob("light*"):
        fits.setval(path, "EXPTIME", value=300.0)
    refused = arrayred("reduce", "night", "-o", "out")
    assert (refused.code, "No dark within" in refused.err) == (4, True)
    _, header = reduced(arrayred, "--scale-dark")
    dark, of_dark = image("out/masters/master_dark_300s_from_600s.fits")
    assert (header["CALSTAT"], header["ARDARK"]) == ("BD", "master_dark_300s_from_600s.fits")
    assert (of_dark["EXPTIME"], of_dark["NCOMBINE"]) == (300.0, 5)
    assert "dark current scaled by 0.5" in str(of_dark["HISTORY"])
    medians = [np.median([fits.getdata(p).astype("f8") for p in Path("night").glob(f"{kind}*")],
                         axis=0) for kind in ("dark", "bias")]  # fmt: skip
    np.testing.assert_allclose(dark, medians[1] + (medians[0] - medians[1]) / 2, rtol=1e-6)


DULL, HOT = (94, 30), (20, 50)


def spoil(folder: Path) -> None:
    """Give the detector a pixel with a third of the others' response, and one that is hot."""
    for path in folder.iterdir():
        with fits.open(path, mode="update") as hdus:
            for pixel, factor, charge in ((DULL, 0.3, 0), (HOT, 1, 20_000 * ("600" in str(
                hdus[0].header["EXPTIME"])))):  # fmt: skip
                level = hdus[0].data[pixel] - 1000.0
                hdus[0].data[pixel] = 1000 + factor * max(level, 0) + charge
            for card in ("CHECKSUM", "DATASUM"):
                del hdus[0].header[card]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("flat", {DULL}), ("dark", {HOT}), ("dark+flat", {DULL, HOT}), ("", set())],
)
def test_bad_pixels_are_those_that_the_masters_betray(
    frames: Path, arrayred: Call, tmp_path: Path, wanted: str, found: set[tuple[int, int]]
) -> None:
    spoil(frames)
    (tmp_path / "mine.toml").write_text(f'[recipe]\nbad_pixels = "{wanted}"\n')
    reduced(arrayred, "--night-file", "mine.toml")
    bad = fits.getdata(f"{STAR}combined.fits", "DQ") & 1
    assert {pixel for pixel in (DULL, HOT) if bad[pixel]} == found
    assert bad.sum() < 40


def test_a_master_that_cannot_betray_bad_pixels_is_said(frames: Path, arrayred: Call) -> None:
    wanted = ("--bad-pixels", "dark+flat", "--no-figures")
    told = arrayred("reduce", "night", "-o", "out", "--no-flat", *wanted)
    assert "Simulated_star: no flat to detect bad pixels in" in told.err
    assert "no dark that could" not in told.err
    for path in [*frames.glob("dark*"), *frames.glob("bias*"), *frames.glob("flat*")]:
        path.unlink()
    told = arrayred("reduce", "night", "-o", "o", "--no-dark", *wanted)
    assert "no dark to detect bad pixels in" in told.err


def test_electrons_are_adu_times_the_gain_but_for_the_text_tables(
    frames: Path, arrayred: Call
) -> None:
    adu, _ = reduced(arrayred)
    tables = [
        Path(f"{STAR}{name}.txt").read_bytes() for name in ("raw_extraction", "skysubtracted")
    ]
    with fits.open(f"{STAR}spectrum.fits") as hdus:
        before, threshold = hdus[1].data.copy(), hdus[0].header["THRESH"]
    electrons, header = reduced(arrayred, "--electrons")
    np.testing.assert_allclose(electrons, adu * 1.5, rtol=3e-7)
    assert header["BUNIT"] == "electron"
    assert "multiplied by 1.5 electrons per ADU" in str(header["HISTORY"])
    with fits.open(f"{STAR}spectrum.fits") as hdus:
        after = hdus[1].data
        assert hdus[0].header["THRESH"] == pytest.approx(1.5 * threshold)
        assert hdus[1].columns["flux"].unit == "ct"
    for name in ("flux", "uncertainty", "sky"):
        np.testing.assert_allclose(after[name], before[name] * 1.5, rtol=1e-12)
    names = ("raw_extraction", "skysubtracted")
    assert tables == [Path(f"{STAR}{name}.txt").read_bytes() for name in names]


def test_electrons_of_an_unknown_gain_are_refused(frames: Path, arrayred: Call) -> None:
    for path in frames.glob("light*"):
        fits.delval(path, "EGAIN")
    told = arrayred("reduce", "night", "-o", "out", "--electrons")
    assert (told.code, "EGAIN" in told.err) == (4, True)


def with_overscan(folder: Path, **cards: Any) -> None:
    """Put an overscan of 12 columns before the image of every frame, drifting from row to row."""
    rng = np.random.default_rng(5)
    for path in folder.iterdir():
        with fits.open(path) as hdus:
            pixels, header = hdus[0].data.astype("f8"), hdus[0].header
        drift = rng.integers(0, 300, (pixels.shape[0], 1))
        strip = rng.integers(998, 1003, (pixels.shape[0], 12))
        header.update(cards)
        for card in ("CHECKSUM", "DATASUM"):
            del header[card]
        whole = np.hstack([strip, pixels]) + drift
        fits.writeto(path, whole.astype(np.uint16), header, overwrite=True)


SECTIONS = {"BIASSEC": "[1:12,1:130]", "TRIMSEC": "[13:82,1:130]"}


def test_an_overscan_takes_out_the_drift_of_rows_and_is_trimmed(
    frames: Path, arrayred: Call
) -> None:
    without, _ = reduced(arrayred)
    with_overscan(frames, **SECTIONS)
    found, header = reduced(arrayred)
    assert found.shape == without.shape
    assert np.abs(found - without).max() < 4
    assert (header["LTV1"], header["LTV2"], header["AROVSCAN"]) == (-12, 0, "[1:12,1:130]")
    assert not {"BIASSEC", "TRIMSEC"} & set(header)
    first = Path(f"{STAR}raw_extraction.txt").read_text().splitlines()[1]
    assert first.startswith("13.0 ")


def test_the_instrument_file_tells_sections_where_headers_do_not(
    frames: Path, arrayred: Call, tmp_path: Path
) -> None:
    with_overscan(frames, **SECTIONS)
    cards, _ = reduced(arrayred)
    for path in frames.iterdir():
        fits.delval(path, "BIASSEC")
    own = f'[detector]\noverscan = "{SECTIONS["BIASSEC"]}"\ntrim = "{SECTIONS["TRIMSEC"]}"\n'
    (tmp_path / "own.toml").write_text(own)
    told, _ = reduced(arrayred, "--instrument", "own.toml")
    assert np.array_equal(told, cards)


@pytest.mark.parametrize("option", ["--no-overscan", "--reference"])
def test_frames_stay_whole_where_that_is_wanted(frames: Path, arrayred: Call, option: str) -> None:
    with_overscan(frames, **SECTIONS)
    arrayred("reduce", "night", "-o", "out", "--no-figures", "--rows", "90:100", option)
    found, header = image(f"{STAR}combined.fits")
    assert found.shape == (130, 82)
    assert header["TRIMSEC"] == SECTIONS["TRIMSEC"]


def test_a_trimmed_master_serves_trimmed_frames(
    frames: Path, arrayred: Call, tmp_path: Path
) -> None:
    with_overscan(frames, **SECTIONS)
    own, _ = reduced(arrayred)
    master = Path("out/masters/master_dark_600s.fits").rename(tmp_path / "dark.fits")
    again, header = reduced(arrayred, "--master-dark", master)
    np.testing.assert_allclose(again, own, atol=1e-3)
    assert header["ARDARK"] == "dark.fits"
    refused = arrayred("reduce", "night", "-o", "out2", "--master-dark", master, "--no-overscan")
    assert (refused.code, "different shape" in refused.err) == (4, True)


def test_a_dark_that_is_not_trimmed_alike_serves_nobody(frames: Path, arrayred: Call) -> None:
    with_overscan(frames, **SECTIONS)
    for path in frames.glob("dark*"):
        for card in SECTIONS:
            fits.delval(path, card)
    told = arrayred("reduce", "night", "-o", "out")
    assert (told.code, "trimmed differently" in told.err) == (4, True)


def test_rows_keep_their_numbers_when_frames_are_trimmed(frames: Path, arrayred: Call) -> None:
    with_overscan(frames, BIASSEC="[1:12,1:130]", TRIMSEC="[13:82,11:130]")
    told = arrayred("reduce", "night", "-o", "out", "--no-figures", "--rows", "90:100")
    assert "rows 90:" in told.out
    refused = arrayred("reduce", "night", "-o", "out", "--rows", "5:50")
    assert (refused.code, "rows 11:130" in refused.err) == (2, True)
