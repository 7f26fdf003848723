"""What ccdproc, specreduce and specutils make of our images and spectra, beside our own steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ccdproc
import numpy as np
import pytest
import xarray as xr
from astropy import units as u
from astropy.nddata import CCDData

import arrayred as ar
from arrayred.io import Provenance, spectrum_files, write_frames


@pytest.fixture(scope="module")
def folder(simulated: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("night")
    write_frames(simulated.frames(), path)
    return path


@pytest.fixture(scope="module")
def cube(folder: Path) -> xr.Dataset:
    return ar.open_frames(folder, chunks=None)


def image_of(cube: xr.Dataset) -> xr.Dataset:
    """Return a combined image with noise and a few bad pixels."""
    image = ar.combine(cube.isel(frame=slice(5, 8)), minus=ar.combine(cube.isel(frame=slice(5))))
    dq = np.zeros(image.counts.shape, np.uint8)
    dq[10, 20] = 2
    variance = np.abs(image.counts.values) / 4.5 + 9
    return image.assign(variance=(("y", "x"), variance), dq=(("y", "x"), dq))


def as_ccds(cube: xr.Dataset) -> list[CCDData]:
    return [ar.to_ccddata(cube.isel(frame=i)) for i in range(cube.sizes["frame"])]


@pytest.mark.parametrize("method", ["average", "median"])
def test_ccdproc_combines_our_frames_as_we_do(cube: xr.Dataset, method: Any) -> None:
    theirs = ccdproc.combine(as_ccds(cube.isel(frame=slice(5))), method=method)
    ours = ar.combine(cube.isel(frame=slice(5)), method)
    assert np.allclose(theirs.data, ours.counts.values, rtol=1e-15)
    back = ar.from_ccddata(theirs)
    assert np.array_equal(back.counts.values, theirs.data)
    assert np.array_equal(np.sqrt(back.variance.values), theirs.uncertainty.array)
    assert back.exptime == 600.0


def test_ccdproc_subtracts_our_dark_as_we_do(cube: xr.Dataset) -> None:
    dark = ar.combine(cube.isel(frame=slice(5)), "median")
    light = cube.isel(frame=slice(5, 6))
    theirs = ccdproc.subtract_dark(
        *as_ccds(light), ar.to_ccddata(dark), exposure_time="EXPTIME", exposure_unit=u.s
    )
    ours = ar.subtract_dark(light, dark).counts.isel(frame=0)
    assert np.array_equal(theirs.data, ours.values)
    assert np.array_equal(ar.from_ccddata(theirs).counts.values, ours.values)


def test_ccdproc_leaves_our_flagged_pixels_out(cube: xr.Dataset) -> None:
    image = image_of(cube)
    spoilt = image.assign(counts=image.counts.copy(deep=True))
    spoilt.counts.values[10, 20] = 1e9
    combined = ccdproc.combine([*[ar.to_ccddata(image.drop_vars("dq"))] * 2, ar.to_ccddata(spoilt)])
    assert combined.data[10, 20] == pytest.approx(image.counts.values[10, 20])


def test_ccdproc_finds_cosmic_rays_that_come_back_as_flags(cube: xr.Dataset) -> None:
    image = image_of(cube)
    image["counts"] = (image.counts * 1.5).assign_attrs(units="electron")
    image.counts.values[100, 60] += 5000
    kept = image.copy(deep=True)
    cleaned = ar.from_ccddata(ccdproc.cosmicray_lacosmic(ar.to_ccddata(image), readnoise=4.0))
    assert (cleaned.dq.values[100, 60], cleaned.dq.values[10, 20]) == (1, 2)
    assert cleaned.counts.attrs["units"] == "electron"
    xr.testing.assert_identical(image, kept)


def test_what_ccddata_writes_and_reads_comes_back(cube: xr.Dataset, tmp_path: Path) -> None:
    image = image_of(cube)
    ar.to_ccddata(image).write(tmp_path / "a.fits")
    back = ar.from_ccddata(CCDData.read(tmp_path / "a.fits"))
    assert np.array_equal(back.counts.values, image.counts.values)
    assert np.array_equal(np.sqrt(back.variance.values), np.sqrt(image.variance.values))
    assert np.array_equal(back.dq.values != 0, image.dq.values != 0)
    for name in ("exptime", "n_frames", "method", "time", "gain", "ccd_temp", "binning"):
        assert back[name] == image[name], name


def test_specreduce_sums_the_rows_that_we_sum(cube: xr.Dataset) -> None:
    from specreduce import extract, tracing

    image = image_of(cube)
    kept, ccd = image.copy(deep=True), ar.to_ccddata(image)
    trace = tracing.FlatTrace(ccd, 84)
    theirs = extract.BoxcarExtract(ccd, trace, width=13)()
    ours = ar.extract(image, ar.detect_rows(image, rows=(79, 91)))
    assert np.allclose(theirs.flux.value, ours.flux.values, rtol=1e-12)
    variance = image.variance.sel(y=slice(79, 91)).values.sum(axis=0)
    assert np.allclose(theirs.uncertainty.array**2, variance, rtol=1e-12)
    xr.testing.assert_identical(image, kept)


@pytest.mark.parametrize("suffix", ["fits", "ecsv"])
def test_specutils_reads_what_to_spectrum_gives(folder: Path, tmp_path: Path, suffix: str) -> None:
    from specutils import Spectrum

    recipe = ar.Recipe()
    (target,) = ar.make_plan(ar.open_night(folder), recipe).targets
    spectrum = ar.reduce_night(folder, recipe)[f"targets/{target.name}/spectrum"].to_dataset()
    story = Provenance(target.lights.frames, checksums={f.path: "0" for f in target.lights.frames})
    path = tmp_path / f"star_spectrum.{suffix}"
    path.write_bytes(spectrum_files(spectrum, story, "star")[path.name])
    read, ours = Spectrum.read(str(path)), ar.to_spectrum(spectrum)
    for theirs, own in ((read.flux, ours.flux), (read.spectral_axis, ours.spectral_axis)):
        assert np.array_equal(theirs, own)
    assert np.array_equal(read.uncertainty.array, ours.uncertainty.array)
    told = ours.meta["header"]
    for keyword in ("EXPTIME", "NCOMBINE", "ARMETHOD", "SPFIRST", "THRESH"):
        assert read.meta["header"][keyword] == told[keyword], keyword
