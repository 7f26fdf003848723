"""Extensions of images as CCDData.read understands them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from astropy.nddata import CCDData, StdDevUncertainty
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import arrayred as ar
from arrayred.errors import FrameError
from arrayred.io import Header, image_bytes, planes_of, sigma_of, variance_of

BITS = np.array([[0, 1, 2], [4, 8, 15]], np.uint8)
COUNTS = np.arange(6.0).reshape(2, 3)
VARIANCE = (COUNTS + 2).astype("f4")


def image(*names: str) -> xr.Dataset:
    known = {"counts": COUNTS, "variance": VARIANCE, "dq": BITS, "clean": COUNTS + 0.5}
    known["n_rejected"] = BITS
    return xr.Dataset({name: (("y", "x"), known[name]) for name in ("counts", *names)})


def written(source: xr.Dataset, dtype: str = "float32") -> bytes:
    header = Header()
    header.set("BUNIT", "adu")
    return bytes(image_bytes(header, source.counts.values, dtype, planes_of(source, dtype)))


def opened(content: bytes) -> fits.HDUList:
    as_stored = {"disable_image_compression": True}
    with fits.open(io.BytesIO(content), memmap=False, **as_stored) as hdus:
        assert all(hdu.verify_checksum() == hdu.verify_datasum() == 1 for hdu in hdus)
    hdus = fits.open(io.BytesIO(content), checksum=True, memmap=False)
    hdus.verify("exception")
    return hdus


@pytest.mark.parametrize(
    ("known", "names"),
    [
        ((), ["PRIMARY"]),
        (("variance",), ["PRIMARY", "UNCERT"]),
        (("dq",), ["PRIMARY", "MASK", "DQ"]),
        (("variance", "dq"), ["PRIMARY", "UNCERT", "MASK", "DQ"]),
        (("clean",), ["PRIMARY", "CLEAN"]),
        (("variance", "dq", "n_rejected"), ["PRIMARY", "UNCERT", "MASK", "DQ", "NREJECT"]),
    ],
)
def test_what_is_known_is_an_extension_that_verifies(known: Any, names: list[str]) -> None:
    with opened(written(image(*known))) as hdus:
        assert [hdu.name for hdu in hdus] == names
        assert all(hdu.shape == (2, 3) for hdu in hdus)
        assert ("EXTEND" in hdus[0].header) == (len(names) > 1)


def test_an_image_of_which_nothing_more_is_known_is_one_hdu_as_ever() -> None:
    header = Header()
    header.set("BUNIT", "adu")
    assert written(image()) == image_bytes(header, COUNTS, "float32")


def test_the_first_hdu_is_the_same_image_with_extensions() -> None:
    with opened(written(image())) as alone, opened(written(image("variance", "dq"))) as hdus:
        assert np.array_equal(alone[0].data, hdus[0].data)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ccddata_reads_noise_mask_and_flags(tmp_path: Any, dtype: str) -> None:
    path = tmp_path / "image.fits"
    path.write_bytes(written(image("variance", "dq"), dtype))
    ccd = CCDData.read(path, hdu_flags="DQ")
    assert isinstance(ccd.uncertainty, StdDevUncertainty)
    assert np.array_equal(ccd.uncertainty.array, np.sqrt(VARIANCE.astype("f8")).astype(dtype))
    assert (ccd.uncertainty.unit, ccd.unit) == ("adu", "adu")
    assert np.array_equal(ccd.mask, BITS != 0)
    assert np.array_equal(ccd.flags, BITS)
    assert np.array_equal(ccd.data, COUNTS)


def test_the_best_estimate_and_what_was_left_out_are_written_as_they_are() -> None:
    with opened(written(image("clean", "n_rejected"), "float64")) as hdus:
        assert np.array_equal(hdus["CLEAN"].data, COUNTS + 0.5)
        assert hdus["CLEAN"].header["BUNIT"] == "adu"
        assert np.array_equal(hdus["NREJECT"].data, BITS)
        assert hdus["NREJECT"].data.dtype == np.uint8


def test_the_mask_is_zero_or_one_and_the_bits_are_named() -> None:
    with opened(written(image("dq"))) as hdus:
        assert np.array_equal(hdus["MASK"].data, (BITS != 0).astype("u1"))
        assert hdus["DQ"].data.dtype == np.uint8
        names = [hdus["DQ"].header[f"FLAG{bit}"] for bit in (1, 2, 4, 8)]
        assert names == ["bad_pixel", "saturated", "cosmic_ray", "no_data"]


@given(arrays_of.arrays("f8", 5, elements=st.floats(1e-150, 1e150) | st.sampled_from([0, np.nan])))
def test_a_standard_deviation_survives_its_square(sigma: Any) -> None:
    assert np.array_equal(sigma_of(variance_of(sigma)), sigma, equal_nan=True)


@given(arrays_of.arrays("f4", 5, elements=st.floats(0, 2**120, width=32) | st.just(np.nan)))
def test_the_root_of_a_float32_is_that_of_float64_rounded(variance: Any) -> None:
    found, wide = sigma_of(variance, "float32"), sigma_of(variance)
    assert found.dtype == np.float32
    assert np.array_equal(found, wide.astype("f4"), equal_nan=True)


def test_a_negative_variance_has_no_standard_deviation() -> None:
    assert np.isnan(sigma_of(np.array([-1.0]))).all()


@pytest.fixture
def large() -> xr.Dataset:
    """Return an image of three tiles with few flags, and noise that differs everywhere."""
    rng, shape = np.random.default_rng(1), (150, 90)
    flags = np.zeros(shape, np.uint8)
    flags[rng.integers(0, 150, 30), rng.integers(0, 90, 30)] = 4
    known = {"counts": rng.normal(size=shape), "variance": rng.random(shape), "dq": flags}
    return xr.Dataset({name: (("y", "x"), values) for name, values in known.items()})


def product(folder: Path, large: xr.Dataset) -> Path:
    header = Header()
    header.set("BUNIT", "adu")
    header.set("ARVERSN", "1.0")
    path = folder / "star_combined.fits"
    path.write_bytes(
        image_bytes(header, large.counts.values, "float64", planes_of(large, "float64"))
    )
    return path


def test_flags_are_compressed_and_noise_only_where_that_makes_it_small(
    large: xr.Dataset, tmp_path: Path
) -> None:
    for variance, kind in ((large.variance, fits.ImageHDU), (large.dq + 1.0, fits.CompImageHDU)):
        one = large.assign(variance=variance)
        path = product(tmp_path, one)
        with opened(path.read_bytes()) as hdus:
            assert [type(hdu) for hdu in hdus][1:] == [kind, fits.CompImageHDU, fits.CompImageHDU]
            assert np.array_equal(hdus["DQ"].data, large.dq)
            assert np.array_equal(hdus["UNCERT"].data, np.sqrt(variance))
        found = ar.open_product(path)
        assert all(np.allclose(found[name], one[name], rtol=1e-15) for name in one)
        frames = ar.open_frames([path])
        assert np.array_equal(frames.dq.values[0], large.dq)


def test_a_damaged_tile_is_refused_by_name(large: xr.Dataset, tmp_path: Path) -> None:
    path = product(tmp_path, large)
    content = bytearray(path.read_bytes())
    with fits.open(path, disable_image_compression=True) as hdus:
        place = hdus["DQ"].fileinfo()["datLoc"] + 8 * 3 + 12
    content[place : place + 6] = b"damage"
    path.write_bytes(content)
    with pytest.raises(FrameError, match=r"star_combined\.fits"):
        ar.open_product(path)
    with pytest.raises(FrameError, match=r"star_combined\.fits"):
        ar.open_frames([path]).dq.load()
    without = content.replace(b"DATASUM ", b"DATASUN ")
    path.write_bytes(without)
    with pytest.raises(FrameError, match="image is damaged"):
        ar.open_product(path)
