"""Products opened again: what was written, and errors for what is none."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

import arrayred as ar
from arrayred.errors import ForeignFileError, FrameError
from arrayred.io import (
    REJECTED_ATTRS,
    Provenance,
    calibrated_files,
    image_file,
    spectrum_files,
    write_frames,
)
from arrayred.model import dq_attrs
from arrayred.pipeline import extract_spectrum

RECIPE = ar.Recipe(combine="median", output_dtype="float64", calibrated=True)

NOT_KEPT = ("history", "gain_told")
"""Attributes that products hold in other words: cards and HISTORY."""


@dataclass(frozen=True)
class Made:
    """The products of a reduced target in memory, and what tells of them."""

    combined: xr.Dataset
    calibrated: xr.Dataset
    spectrum: xr.Dataset
    story: Provenance


@pytest.fixture(scope="module")
def made(simulated: Any, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("night")
    write_frames(simulated.frames(), folder)
    opened = ar.open_night(folder)
    (target,) = ar.make_plan(opened, RECIPE).targets
    tree = ar.reduce_night(opened, RECIPE)["targets"][target.name]
    frames = target.lights.frames
    story = Provenance(
        frames, method="median", checksums=dict.fromkeys((f.path for f in frames), "0")
    )
    return Made(*(tree[n].to_dataset() for n in ("combined", "calibrated", "spectrum")), story)


def flagged(image: xr.Dataset) -> xr.Dataset:
    """Return an image with noise and flags, as reductions will give them."""
    variance = np.abs(image.counts.values).astype("f4") + np.float32(7.3)
    dq = np.zeros(image.counts.shape, np.uint8)
    dq[3, 4], dq[5, 6] = 1, 10
    rejected = np.where(dq == 10, np.uint8(2), np.uint8(0))
    return image.assign(
        n_rejected=(("y", "x"), rejected, REJECTED_ATTRS),
        variance=(("y", "x"), variance, {"units": "adu2", "long_name": "variance of a pixel"}),
        dq=(("y", "x"), dq, dq_attrs("flags of a pixel")),
    )


def reopened(image: xr.Dataset, made: Made, folder: Path, dtype: str = "float64") -> xr.Dataset:
    (content,) = image_file(image, made.story, "star_combined.fits", dtype).values()
    (folder / "star_combined.fits").write_bytes(content)
    return ar.open_product(folder / "star_combined.fits")


def bare(product: xr.Dataset) -> xr.Dataset:
    """Return the coordinates alone."""
    return product.coords.to_dataset().drop_attrs()


def test_an_image_comes_back_to_the_bit(made: Made, tmp_path: Path) -> None:
    source = flagged(made.combined)
    image = reopened(source, made, tmp_path)
    for name in ("counts", "clean", "variance", "dq", "n_rejected"):
        assert np.array_equal(image[name].values, source[name].values), name
        assert image[name].dtype == source[name].dtype
        assert image[name].attrs == source[name].attrs
    xr.testing.assert_identical(bare(image), bare(source))
    assert image.attrs["history"][: len(source.attrs["history"])] == source.attrs["history"]


def test_extraction_from_a_reopened_image_gives_the_same_bits(made: Made, tmp_path: Path) -> None:
    image = reopened(made.combined, made, tmp_path)
    again = extract_spectrum(image, RECIPE)
    xr.testing.assert_identical(again.drop_attrs(), made.spectrum.drop_attrs())
    facts = {
        k: v
        for k, v in made.spectrum.attrs.items()
        if k not in {*NOT_KEPT, "drift_rows", "drift_columns"}
    }
    assert {k: again.attrs[k] for k in facts} == facts


def test_a_float32_image_comes_back_as_it_was_written(made: Made, tmp_path: Path) -> None:
    image = reopened(flagged(made.combined), made, tmp_path, "float32")
    assert image.counts.dtype == np.float64
    assert np.array_equal(image.counts, made.combined.counts.values.astype("f4"))
    sigma = np.sqrt(flagged(made.combined).variance.values.astype("f8")).astype("f4")
    assert np.array_equal(np.sqrt(image.variance.values), sigma)


def test_a_reopened_image_is_written_with_the_same_bytes(made: Made, tmp_path: Path) -> None:
    (first,) = image_file(flagged(made.combined), made.story, "a.fits", "float32").values()
    (tmp_path / "a.fits").write_bytes(first)
    image = ar.open_product(tmp_path / "a.fits")
    assert image_file(image, made.story, "a.fits", "float32") == {"a.fits": first}


def test_a_spectrum_comes_back_to_the_bit(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "star_spectrum.fits"
    dq = np.arange(made.spectrum.sizes["x"]).astype(np.uint8) % 16
    variance = (
        "x",
        made.spectrum.flux.values**2,
        {"units": "adu2", "long_name": "variance of the flux"},
    )
    source = made.spectrum.assign(
        dq=("x", dq, dq_attrs("flags of the pixels in the aperture")), variance=variance
    )
    path.write_bytes(spectrum_files(source, made.story, "star")[path.name])
    spectrum = ar.open_product(path)
    assert set(spectrum) == set(source)
    for name in set(source) - {"variance"}:
        assert np.array_equal(spectrum[name].values, source[name].values), name
        assert spectrum[name].dtype == source[name].dtype
        assert spectrum[name].attrs == source[name].attrs
    assert np.array_equal(np.sqrt(spectrum.variance), np.sqrt(source.variance))
    xr.testing.assert_identical(bare(spectrum), bare(source))


def test_a_spectrum_brings_its_rows_units_and_history(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "star_spectrum.fits"
    path.write_bytes(spectrum_files(made.spectrum, made.story, "star")[path.name])
    spectrum = ar.open_product(path)
    facts = {k: v for k, v in made.spectrum.attrs.items() if k not in NOT_KEPT}
    assert {k: spectrum.attrs[k] for k in facts} == facts
    assert (
        spectrum.attrs["history"][: len(made.spectrum.attrs["history"])]
        == (made.spectrum.attrs["history"])
    )
    for name in made.spectrum:
        assert spectrum[name].attrs == made.spectrum[name].attrs


def test_a_spectrum_without_noise_has_none(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "star_spectrum.fits"
    source = made.spectrum.drop_vars("variance", errors="ignore")
    path.write_bytes(spectrum_files(source, made.story, "star")[path.name])
    assert set(ar.open_product(path)) == set(source)


def test_a_calibrated_frame_and_its_numbers_come_back(made: Made, tmp_path: Path) -> None:
    cut = made.calibrated.isel(frame=[0], y=slice(20, 90), x=slice(5, 50))
    story = replace(made.story, frames=made.story.frames[:1])
    ((_, content),) = calibrated_files(cut, story, "float64")
    (tmp_path / "frame.fits").write_bytes(content)
    frame = ar.open_product(tmp_path / "frame.fits")
    assert np.array_equal(frame.counts.sel(y=30, x=7), cut.counts.isel(frame=0).sel(y=30, x=7))
    assert (int(frame.y[0]), int(frame.x[-1])) == (21, 50)
    assert "method" not in frame.coords


def test_remarks_and_long_history_come_back_whole(made: Made, tmp_path: Path) -> None:
    told = ["w" * 62 + " and on", "dark " * 40 + "end", "short"]
    source = made.combined.assign_attrs(history=told)
    assert reopened(source, made, tmp_path).attrs["history"][:3] == told


@pytest.mark.parametrize(("vertical", "axis"), [(True, 2), (False, None)])
def test_the_dispersion_axis_comes_back(
    made: Made, tmp_path: Path, vertical: bool, axis: int | None
) -> None:
    header = {"DISPAXIS": 2} if vertical else {}
    (content,) = image_file(
        made.combined, Provenance(made.story.frames, cards=header, checksums=made.story.checksums),
        "a.fits", "float32",
    ).values()  # fmt: skip
    (tmp_path / "a.fits").write_bytes(content)
    coords = ar.open_product(tmp_path / "a.fits").coords
    assert (coords["dispersion_axis"].item() if "dispersion_axis" in coords else None) == axis


def test_all_cards_are_at_hand(made: Made, tmp_path: Path) -> None:
    image = reopened(flagged(made.combined), made, tmp_path)
    header = ar.to_ccddata(image).header
    with fits.open(tmp_path / "star_combined.fits") as hdus:
        told = hdus[0].header
        for keyword in ("OBJECT", "MJD-AVG", "FILENAME", "ARIN0001", "ARSH0001"):
            assert header.cards[keyword].image == told.cards[keyword].image
    assert not {"NAXIS", "CHECKSUM", "EXTEND"} & set(header)


def damaged(content: bytearray, where: int) -> bytes:
    changed = bytearray(content)
    changed[where] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("hdu", [0, 1, 2, 3])
def test_a_flipped_bit_in_any_plane_is_an_error(made: Made, tmp_path: Path, hdu: int) -> None:
    (content,) = image_file(flagged(made.combined), made.story, "a.fits", "float32").values()
    with fits.open(io.BytesIO(content)) as hdus:
        where = hdus[hdu].fileinfo()["datLoc"] + 100
    (tmp_path / "a.fits").write_bytes(damaged(content, where))
    with pytest.raises(FrameError, match=r"checksum of the data is .* DATASUM says"):
        ar.open_product(tmp_path / "a.fits")


def raw_frame(path: Path) -> None:
    fits.PrimaryHDU(np.ones((3, 4), "f4")).writeto(path)


def product(path: Path, *hdus: Any) -> None:
    primary = fits.PrimaryHDU(hdus[0])
    primary.header["ARVERSN"] = "1"
    fits.HDUList([primary, *hdus[1:]]).writeto(path)


def complex_table() -> fits.BinTableHDU:
    column = fits.Column("flux", "C", array=np.ones(3))
    return fits.BinTableHDU.from_columns([column], name="SPECTRUM")


def nameless_table(path: Path) -> None:
    column = fits.Column("flux", "D", array=np.ones(3))
    product(path, None, fits.BinTableHDU.from_columns([column], name="SPECTRUM"))
    path.write_bytes(path.read_bytes().replace(b"TTYPE1  =", b"TTYPEX  ="))


NO_PRODUCTS: dict[str, tuple[Any, type[FrameError], str]] = {
    "nothing": (lambda path: None, ForeignFileError, "No such file"),
    "a folder": (lambda path: path.mkdir(), ForeignFileError, "not a regular file"),
    "text": (lambda path: path.write_text("x y\n" * 2000), ForeignFileError, "not a FITS file"),
    "an empty file": (lambda path: path.touch(), FrameError, "is empty"),
    "a raw frame": (raw_frame, ForeignFileError, "no ARVERSN.*open_frames"),
    "integers": (
        lambda path: product(path, np.ones((3, 4), "i2")),
        FrameError,
        "BITPIX 16, which arrayred does not write",
    ),
    "a cube": (lambda path: product(path, np.ones((2, 3, 4), "f4")), FrameError, "has 3 axes"),
    "a table of others": (
        lambda path: product(path, None, complex_table()), FrameError, r"forms \['C'\]",
    ),
    "a table without names": (nameless_table, FrameError, "TTYPE1"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_PRODUCTS)
def test_what_is_no_product_is_refused_by_name(tmp_path: Path, case: str) -> None:
    make, error, message = NO_PRODUCTS[case]
    make(tmp_path / "a.fits")
    with pytest.raises(error, match=f"a.fits: .*{message}"):
        ar.open_product(tmp_path / "a.fits")


@pytest.mark.parametrize("end", [3000, 12000, -2881, -1])
def test_a_product_cut_short_is_an_error(made: Made, tmp_path: Path, end: int) -> None:
    (content,) = image_file(flagged(made.combined), made.story, "a.fits", "float32").values()
    (tmp_path / "a.fits").write_bytes(content[:end])
    with pytest.raises(FrameError, match=r"the header is incomplete|The data end after"):
        ar.open_product(tmp_path / "a.fits")


def test_our_own_readers_take_the_image_of_a_product(made: Made, tmp_path: Path) -> None:
    image = reopened(flagged(made.combined), made, tmp_path)
    cube = ar.open_frames(tmp_path, chunks="auto")
    assert np.array_equal(cube.counts.isel(frame=0).values, image.counts.values)
