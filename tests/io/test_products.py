"""Products of a simulated night: right numbers, honest headers, and readable by the neighbours."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from astropy.table import Table
from numpy.typing import NDArray

import arrayred as ar
from arrayred.io import (
    Provenance,
    calibrated_files,
    examine,
    image_file,
    required_checksums,
    spectrum_files,
    write_frames,
)
from arrayred.pipeline import calibrate, extract_spectrum, make_master, reduce_target

STEM = "star"


@dataclass(frozen=True)
class Made:
    """A reduced target, its story, and the pixels of its frames as astropy reads them."""

    combined: xr.Dataset
    calibrated: xr.Dataset
    spectrum: xr.Dataset
    story: Provenance
    lights: NDArray[np.float64]
    dark: NDArray[np.float64]


@pytest.fixture(scope="module")
def made(simulated: Any, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("products")
    write_frames(simulated.frames(), folder)
    (target,) = ar.make_plan(ar.open_night(folder)).targets
    assert target.dark is not None
    recipe = ar.Recipe()
    dark, cube = make_master(target.dark, "median"), target.lights.cube()
    products = reduce_target(cube, dark, recipe)
    frames, darks = target.lights.frames, target.dark.frames
    checksums = required_checksums(examine([*frames, *darks]), [*frames, *darks])
    story = Provenance(frames, darks, calstat="BD", checksums=checksums)
    lights = np.stack([fits.getdata(p) for p in sorted(folder.glob("light*"))]).astype("f8")
    master = np.median([fits.getdata(p) for p in sorted(folder.glob("dark*"))], axis=0)
    calibrated = calibrate(cube, dark)
    return Made(products["combined"], calibrated, products["spectrum"], story, lights, master)


def opened(content: bytes | bytearray) -> fits.HDUList:
    """Open a product as astropy does, checksums and standard verified."""
    with fits.open(io.BytesIO(content), memmap=False, disable_image_compression=True) as hdus:
        assert all(hdu.verify_checksum() == hdu.verify_datasum() == 1 for hdu in hdus)
    hdus = fits.open(io.BytesIO(content), checksum=True, memmap=False)
    hdus.verify("exception")
    return hdus


def every_product(made: Made) -> dict[str, bytes | bytearray]:
    return {
        **image_file(made.combined, made.story, "star_combined.fits", "float32"),
        **dict(calibrated_files(made.calibrated, made.story, "float32")),
        **spectrum_files(made.spectrum, made.story, STEM),
    }


def test_the_products_are_named_after_their_target_and_frames(made: Made) -> None:
    assert set(every_product(made)) == {
        "star_combined.fits",
        "star_raw_extraction.txt",
        "star_skysubtracted.txt",
        "star_spectrum.fits",
        "star_spectrum.ecsv",
        *(f"light-00{i}_calibrated.fits" for i in (1, 2, 3)),
    }


def test_every_fits_product_verifies_and_knows_its_own_name(made: Made) -> None:
    for name, content in every_product(made).items():
        if name.endswith(".fits"):
            with opened(content) as hdus:
                assert hdus[0].header["FILENAME"] == name


def test_the_same_inputs_give_the_same_bytes(made: Made) -> None:
    assert every_product(made) == every_product(made)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_combined_image_is_that_of_numpy(made: Made, dtype: str) -> None:
    (content,) = image_file(made.combined, made.story, "a.fits", dtype).values()
    with opened(content) as hdus:
        assert hdus[0].data.dtype.newbyteorder("=") == np.dtype(dtype)
        assert np.array_equal(hdus[0].data, (made.lights - made.dark).mean(axis=0).astype(dtype))
        assert hdus[0].header["NCOMBINE"] == 3
        steps = "\n".join(hdus[0].header["HISTORY"])
        assert "dark subtracted" in steps
        assert "average of 3 frames" in steps


def test_a_calibrated_frame_tells_of_itself_and_the_darks_alone(made: Made) -> None:
    files = list(calibrated_files(made.calibrated, made.story, "float64"))
    for i, (_, content) in enumerate(files):
        with opened(content) as hdus:
            header = hdus[0].header
            raw = fits.getheader(made.story.frames[i].path)
            assert np.array_equal(hdus[0].data, made.lights[i] - made.dark)
            assert (header["DATE-OBS"], header["CCD-TEMP"]) == (raw["DATE-OBS"], raw["CCD-TEMP"])
            assert (header["NCOMBINE"], header["EXPTOTAL"], header["EXPTIME"]) == (1, 600, 600)
            inputs = [header[f"ARIN{n:04}"] for n in range(1, 7)]
            assert inputs == [f"light-00{i + 1}.fit", *(f"dark-00{n}.fit" for n in range(1, 6))]
            assert "ARIN0007" not in header


def test_a_single_calibrated_frame_is_not_called_combined(made: Made) -> None:
    for _, content in calibrated_files(made.calibrated, made.story, "float32"):
        with opened(content) as hdus:
            assert hdus[0].header.get("COMBINED", False) is False


def test_calibrated_frames_of_two_folders_do_not_share_a_name(made: Made) -> None:
    labels = np.array(["a/b-1", "a_b-1", "a/b_1"], dtype=object)
    cube = made.calibrated.assign_coords(frame=labels)
    assert len(dict(calibrated_files(cube, made.story, "float32"))) == 3


def test_every_product_names_every_input_with_its_sha256(made: Made) -> None:
    frames = [*made.story.frames, *made.story.calibrations]
    expected = {f.path.name: hashlib.sha256(f.path.read_bytes()).hexdigest() for f in frames}
    files = spectrum_files(made.spectrum, made.story, STEM)
    with opened(files["star_spectrum.fits"]) as hdus:
        fits_header = dict(hdus[0].header)
    ecsv_header = Table.read(io.BytesIO(files["star_spectrum.ecsv"]), format="ascii.ecsv").meta
    for header in (fits_header, ecsv_header):
        assert expected == {header[f"ARIN{i:04}"]: header[f"ARSH{i:04}"] for i in range(1, 9)}


def test_text_ecsv_and_fits_hold_the_same_numbers(made: Made) -> None:
    files = spectrum_files(made.spectrum, made.story, STEM)
    ecsv = Table.read(io.BytesIO(files["star_spectrum.ecsv"]), format="ascii.ecsv")
    with opened(files["star_spectrum.fits"]) as hdus:
        table = Table.read(hdus[1])
    assert ecsv.colnames == table.colnames
    assert all(np.array_equal(ecsv[name], table[name]) for name in ecsv.colnames)
    for variable, name in (
        ("counts_mean", "raw_extraction"),
        ("counts_mean_sky_subtracted", "skysubtracted"),
    ):
        text = np.loadtxt(io.BytesIO(files[f"star_{name}.txt"]), skiprows=1)
        assert np.array_equal(text[:, 0], table["x"])
        assert np.array_equal(text[:, 1], table[variable])


def test_the_procedures_spectrum_is_the_sum_over_its_rows_less_its_sky(made: Made) -> None:
    recipe = ar.Recipe(trace="straight", extraction="sum", sky_model="band")
    spectrum = extract_spectrum(made.combined, recipe)
    with opened(spectrum_files(spectrum, made.story, STEM)["star_spectrum.fits"]) as hdus:
        header, table = hdus[0].header, Table.read(hdus[1])
    image = (made.lights - made.dark).mean(axis=0)
    rows = image[header["SPFIRST"] - 1 : header["SPLAST"]]
    sky = image[header["SKYFIRST"] - 1 : header["SKYLAST"]]
    assert len(rows) == len(sky) == 13
    assert np.allclose(table["flux"], rows.sum(axis=0) - sky.sum(axis=0), rtol=1e-12)
    assert np.allclose(table["counts_mean"], rows.mean(axis=0), rtol=1e-12)
    assert header["BKGMEAN"] == pytest.approx(image[:50].mean())
    assert header["THRESH"] == pytest.approx(image[:50].mean() + 4 * image[:50].std())


def test_the_uncertainty_is_the_scatter_about_the_true_light(made: Made, simulated: Any) -> None:
    truth = simulated.truth()["flux"].values
    with opened(spectrum_files(made.spectrum, made.story, STEM)["star_spectrum.fits"]) as hdus:
        table = Table.read(hdus[1])
    caught = np.median(table["flux"] / truth)
    scatter = np.std((table["flux"] - caught * truth) / table["uncertainty"])
    assert 0.8 < scatter < 1.2


def test_ecsv_and_fits_carry_the_same_cards(made: Made) -> None:
    files = spectrum_files(made.spectrum, made.story, STEM)
    ecsv = Table.read(io.BytesIO(files["star_spectrum.ecsv"]), format="ascii.ecsv").meta
    with opened(files["star_spectrum.fits"]) as hdus:
        header = hdus[0].header
        skipped = {"FILENAME", "HISTORY", "COMMENT"}
        assert {k: header[k] for k in ecsv if k not in skipped} == {
            k: v for k, v in ecsv.items() if k not in skipped
        }
        assert ecsv["HISTORY"].split("\n") == list(header["HISTORY"])
        assert {"OBJECT", "NCOMBINE", "SPFIRST", "THRESH", "MJD-AVG", "EXPTIME"} < set(ecsv)


def test_without_sky_there_is_no_table_less_the_sky(made: Made) -> None:
    spectrum = made.spectrum.drop_vars(["sky", "counts_mean_sky_subtracted"])
    assert "star_skysubtracted.txt" not in spectrum_files(spectrum, made.story, STEM)


def test_remarks_reach_the_header(made: Made) -> None:
    spectrum = made.spectrum.assign_attrs(remarks=["another spectrum in rows 9:12"])
    with opened(spectrum_files(spectrum, made.story, STEM)["star_spectrum.fits"]) as hdus:
        assert "arrayred: another spectrum in rows 9:12" in list(hdus[0].header["COMMENT"])


def test_cards_given_reach_every_product(made: Made) -> None:
    story = replace(made.story, cards={"TELESCOP": "Barber20", "GRATANG": 26.0})
    for name, content in every_product(replace(made, story=story)).items():
        if name.endswith(".fits"):
            with opened(content) as hdus:
                assert hdus[0].header["TELESCOP"] == "Barber20"
                assert hdus[0].header["GRATANG"] == 26.0


def test_ccdproc_reads_an_image_with_its_unit_and_header(made: Made, tmp_path: Path) -> None:
    from ccdproc import CCDData

    (content,) = image_file(made.combined, made.story, "star_combined.fits", "float64").values()
    (tmp_path / "star_combined.fits").write_bytes(content)
    ccd = CCDData.read(tmp_path / "star_combined.fits")
    assert np.array_equal(ccd.data, made.combined.counts.values)
    assert str(ccd.unit) == "adu"
    assert ccd.header["OBJECT"] == "Simulated star"


def flagged(image: xr.Dataset) -> xr.Dataset:
    """Return an image or cube with noise and flags."""
    dims, shape = image.counts.dims, image.counts.shape
    variance = (dims, np.linspace(1, 9, image.counts.size).reshape(shape).astype("f4"))
    dq = (dims, (np.arange(image.counts.size) % 16).astype("u1").reshape(shape))
    return image.assign(variance=variance, dq=dq)


def test_what_is_known_of_pixels_stands_beside_them(made: Made) -> None:
    bare = replace(made, combined=made.combined[["counts"]], calibrated=made.calibrated[["counts"]])
    noisy = replace(bare, combined=flagged(bare.combined), calibrated=flagged(bare.calibrated))
    for name, content in every_product(noisy).items():
        if name.endswith(("combined.fits", "calibrated.fits")):
            with opened(content) as hdus, opened(every_product(bare)[name]) as plain:
                assert [hdu.name for hdu in hdus] == ["PRIMARY", "UNCERT", "MASK", "DQ"]
                assert np.array_equal(hdus[0].data, plain[0].data)
                assert len(plain) == 1


def test_each_calibrated_frame_has_its_own_flags(made: Made) -> None:
    cube = flagged(made.calibrated)
    for i, (_, content) in enumerate(calibrated_files(cube, made.story, "float32")):
        with opened(content) as hdus:
            assert np.array_equal(hdus["DQ"].data, cube.dq.values[i])
            assert np.array_equal(hdus["UNCERT"].data, np.sqrt(cube.variance.values[i]))


def test_the_header_says_how_frames_were_combined(made: Made) -> None:
    methods = {}
    for name, content in every_product(made).items():
        if name.endswith(".fits"):
            with opened(content) as hdus:
                methods[name.rpartition("_")[2]] = hdus[0].header.get("ARMETHOD")
    assert methods == {"combined.fits": "average", "spectrum.fits": "average",
                       "calibrated.fits": None}  # fmt: skip


@pytest.mark.parametrize("name", ["star_spectrum.ecsv", "star_spectrum.fits"])
def test_specutils_reads_a_spectrum(made: Made, tmp_path: Path, name: str) -> None:
    from specutils import Spectrum

    (tmp_path / name).write_bytes(spectrum_files(made.spectrum, made.story, STEM)[name])
    read = Spectrum.read(str(tmp_path / name))
    assert np.array_equal(read.flux.value, made.spectrum.flux.values)
    assert (str(read.flux.unit), str(read.spectral_axis.unit)) == ("adu", "pix")
    assert read.meta["header"]["NCOMBINE"] == 3
    assert np.allclose(read.uncertainty.array, np.sqrt(made.spectrum.variance.values), rtol=1e-12)
