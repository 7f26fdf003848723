"""Masks, flags and noise beside an image are read with it, whoever wrote them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy import units as u
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance, StdDevUncertainty, VarianceUncertainty

import arrayred as ar
from arrayred.io import Header, image_bytes, planes_of
from arrayred.model import BAD_PIXEL, COSMIC_RAY, NO_DATA, REPAIRED

SHAPE = (5, 4)
NOISES = {
    "std": StdDevUncertainty(np.full(SHAPE, 2.0)),
    "var": VarianceUncertainty(np.full(SHAPE, 4.0)),
    "ivar": InverseVariance(np.full(SHAPE, 0.25)),
}


def mask_at(y: int, x: int) -> Any:
    mask = np.zeros(SHAPE, bool)
    mask[y, x] = True
    return mask


def ccd_file(path: Path, value: float, mask: Any = None, noise: Any = None) -> Path:
    """Write a CCDData of one value, as ccdproc's users do."""
    ccd = CCDData(np.full(SHAPE, value), unit="adu", mask=mask, uncertainty=noise)
    ccd.header["EXPTIME"], ccd.header["IMAGETYP"] = 1.0, "Light Frame"
    ccd.write(path)
    return path


def own_file(path: Path, bits: Any, **more: Any) -> Path:
    """Write an image with flags as arrayred does."""
    planes = {"counts": np.full(SHAPE, 7.0), "dq": bits, **more}
    image = xr.Dataset({name: (("y", "x"), plane) for name, plane in planes.items()})
    header = Header()
    header.set("BUNIT", "adu")
    header.set("ARVERSN", "1.0")
    path.write_bytes(
        image_bytes(header, image.counts.values, "float32", planes_of(image, "float32"))
    )
    return path


@pytest.mark.parametrize("chunks", [None, 2])
@pytest.mark.parametrize("kind", ["std", "var", "ivar"])
def test_mask_and_noise_of_a_ccddata_come_with_the_frame(
    tmp_path: Path, kind: str, chunks: int | None
) -> None:
    path = ccd_file(tmp_path / "a.fits", 5.0, mask_at(1, 2), NOISES[kind])
    cube = ar.open_frames(path, chunks)
    assert np.array_equal(cube.dq[0] == BAD_PIXEL, mask_at(1, 2))
    assert (cube.variance == 4.0).all()
    assert cube.variance.attrs["units"] == "adu2"
    assert (cube.dq.chunks is None) == (chunks is None)


def test_a_masked_value_is_no_part_of_a_combination_of_files(tmp_path: Path) -> None:
    for i, value in enumerate((1.0, 2.0)):
        ccd_file(tmp_path / f"{i}.fits", value)
    ccd_file(tmp_path / "2.fits", 1e5, np.ones(SHAPE, bool))
    cube = ar.open_frames(tmp_path)
    assert (ar.combine(cube).counts == 1.5).all()
    xr.testing.assert_identical(ar.open_frames(tmp_path, 3).compute(), cube)
    with xr.open_dataset(tmp_path, engine="arrayred", cache=False) as lazy:
        for name in ("counts", "dq"):
            assert np.array_equal(lazy[name], cube[name], equal_nan=True)
        part = {"frame": [0, 2], "y": slice(1, 4), "x": 2}
        for name in ("counts", "dq"):
            assert np.array_equal(lazy[name].isel(part), cube[name].isel(part), equal_nan=True)


def test_our_own_flags_keep_their_bits(tmp_path: Path) -> None:
    bits = np.zeros(SHAPE, np.uint8)
    bits[0] = NO_DATA, COSMIC_RAY, REPAIRED, REPAIRED | COSMIC_RAY
    variance = np.full(SHAPE, 9.0, np.float32)
    cube = ar.open_frames(own_file(tmp_path / "own.fits", bits, variance=variance))
    assert np.array_equal(cube.dq[0], bits)
    assert (cube.variance == 9.0).all()


def test_the_noise_of_the_best_estimate_is_not_that_of_the_image(tmp_path: Path) -> None:
    planes = {"variance": np.full(SHAPE, 9.0, np.float32), "clean": np.full(SHAPE, 7.5)}
    cube = ar.open_frames(own_file(tmp_path / "own.fits", np.zeros(SHAPE, np.uint8), **planes))
    assert "variance" not in cube
    assert "dq" in cube


def test_any_bit_of_another_program_is_bad_where_it_has_no_mask(tmp_path: Path) -> None:
    flags = np.zeros(SHAPE, np.int16)
    flags[2, 1] = 4096
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(np.ones(SHAPE), name="SCI")]
    hdus += [fits.ImageHDU(flags, name="DQ")]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    cube = ar.open_frames(tmp_path / "a.fits")
    assert np.array_equal(cube.dq[0] == BAD_PIXEL, mask_at(2, 1))


def test_a_mask_belongs_to_the_image_before_it(tmp_path: Path) -> None:
    hdus: list[Any] = [fits.PrimaryHDU()]
    for name, at in (("BLUE", (0, 0)), ("RED", (4, 3))):
        hdus += [fits.ImageHDU(np.ones(SHAPE), name=name)]
        hdus += [fits.ImageHDU(mask_at(*at).astype(np.uint8), name="MASK")]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    blue = ar.open_frames(tmp_path / "a.fits", extension="BLUE")
    red = ar.open_frames(tmp_path / "a.fits", extension="RED")
    assert np.array_equal(blue.dq[0] != 0, mask_at(0, 0))
    assert np.array_equal(red.dq[0] != 0, mask_at(4, 3))


def test_a_mask_in_a_compressed_file_counts(tmp_path: Path) -> None:
    plain = ccd_file(tmp_path / "a.fits", 5.0, mask_at(3, 0))
    packed = tmp_path / "b.fits.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for chunks in (None, 2):
        assert np.array_equal(ar.open_frames(packed, chunks).dq[0] != 0, mask_at(3, 0))


def test_a_mask_of_another_shape_is_said_and_not_used(tmp_path: Path) -> None:
    hdus = [fits.PrimaryHDU(np.ones(SHAPE)), fits.ImageHDU(np.ones((2, 2), np.uint8), name="MASK")]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    cube = ar.open_frames(tmp_path / "a.fits")
    assert "dq" not in cube
    assert "MASK was not used" in cube.attrs["remarks"][0]


def test_a_file_that_ends_within_its_mask_is_named(tmp_path: Path) -> None:
    path = ccd_file(tmp_path / "a.fits", 5.0, mask_at(3, 0))
    path.write_bytes(path.read_bytes()[:-2880])
    with pytest.raises(ar.InputError, match="truncated"):
        ar.open_frames(path)


def test_a_frame_without_extensions_has_no_flags(tmp_path: Path) -> None:
    assert set(ar.open_frames(ccd_file(tmp_path / "a.fits", 5.0))) == {"counts"}
    assert CCDData.read(tmp_path / "a.fits").unit == u.adu


@pytest.mark.parametrize("n_masks", [1, 2])
def test_masks_of_amplifiers_are_put_together_as_their_pixels_are(
    n_masks: int, tmp_path: Path
) -> None:
    hdus = fits.HDUList([fits.PrimaryHDU(header=fits.Header({"IMAGETYP": "Light", "EXPTIME": 9}))])
    for number, place in enumerate(("[1:8,1:6]", "[16:9,1:6]")):
        pixels = np.full((6, 10), 100 * (number + 1), np.int16)
        cards = fits.Header({"DETSEC": place, "DATASEC": "[3:10,1:6]"})
        hdus.append(fits.ImageHDU(pixels, cards, name=f"AMP{number}"))
        mask = np.zeros((6, 10), np.uint8)
        mask[4, 2] = 1
        if number < n_masks:
            hdus.append(fits.ImageHDU(mask, name="MASK"))
    hdus.writeto(tmp_path / "x.fits")
    cube = ar.open_frames([tmp_path / "x.fits"])
    assert np.array_equal(cube.counts.values[0], np.repeat([[100] * 8 + [200] * 8], 6, axis=0))
    if n_masks == 1:
        assert "MASK not used" in str(cube.attrs["remarks"])
        assert "dq" not in cube
    else:
        assert np.argwhere(cube.dq.values[0]).tolist() == [[4, 0], [4, 15]]
