"""FrameStack: every way in which FITS stores a frame, read as the values that the standard means.

The table below names each encoding with its pixels, the dtype in which it must be read, and whether
a memory map of the file would do: only there is the file its own array.
"""

from __future__ import annotations

import gzip
import mmap
import os
import pickle
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from arrayred.errors import FrameError, MismatchError
from arrayred.io import FrameStack, plain_pixels
from arrayred.io.scan import scan

Pixels = NDArray[Any]
SHAPE = (7, 11)
COUNTERS, HANDLES = Path("/proc/self/io"), Path("/proc/self/fd")
RNG = np.random.default_rng(3)


def whole_range(dtype: str) -> Pixels:
    """Return integers from the whole range of a type, both ends among them."""
    limits = np.iinfo(dtype)
    values = RNG.integers(limits.min, limits.max, SHAPE, np.dtype(dtype), endpoint=True)
    values[0, :4] = limits.min, limits.max, limits.max // 2, limits.max // 2 + 1
    return values


def reals(dtype: str) -> Pixels:
    values = RNG.normal(1e3, 1e2, SHAPE).astype(dtype)
    values[0, :4] = np.nan, np.inf, -0.0, 1e-40
    return values


@dataclass(frozen=True)
class Variant:
    """One encoding: a file's content, the values it means, the dtype in which we read it."""

    content: bytes
    truth: Pixels
    dtype: str
    suffix: str
    hdu: int

    def write(self, folder: Path) -> Path:
        path = folder / f"frame{self.suffix}"
        path.write_bytes(self.content)
        return path


def variant(hdu: Any, truth: Pixels, dtype: str, *before: Any, suffix: str = ".fits") -> Variant:
    file = BytesIO()
    fits.HDUList([*before, hdu]).writeto(file)
    raw = file.getvalue()
    content = gzip.compress(raw) if suffix.endswith(".gz") else raw
    return Variant(content, truth, dtype, suffix, len(before))


def as_is(values: Pixels, suffix: str = ".fits") -> Variant:
    return variant(fits.PrimaryHDU(values), values, values.dtype.name, suffix=suffix)


def with_cards(raw: Pixels, truth: Pixels, dtype: str, **cards: float) -> Variant:
    hdu = fits.PrimaryHDU(raw)
    hdu.header.update(cards)
    return variant(hdu, truth, dtype)


def scaled(raw: Pixels, zero: float, scale: float) -> Variant:
    truth = raw.astype(np.float64) * scale + zero
    return with_cards(raw, truth, "float64", BZERO=zero, BSCALE=scale)


def with_blank(raw: Pixels, blank: int, dtype: str, zero: int = 0) -> Variant:
    truth = np.where(raw == blank, np.nan, raw.astype(np.float64) + zero)
    return with_cards(raw, truth, dtype, BLANK=blank, **({"BZERO": zero} if zero else {}))


def tiled(values: Pixels, kind: str, **options: float) -> Variant:
    hdu = fits.CompImageHDU(values, compression_type=kind, **options)
    return variant(hdu, values, values.dtype.name, fits.PrimaryHDU(), suffix=".fits.fz")


def tiled_with_blank(raw: Pixels, blank: int) -> Variant:
    hdu = fits.CompImageHDU(raw, compression_type="RICE_1")
    hdu.header["BLANK"] = blank
    truth = np.where(raw == blank, np.nan, raw.astype(np.float64))
    return variant(hdu, truth, "float32", fits.PrimaryHDU(), suffix=".fits.fz")


def in_extension(values: Pixels) -> Variant:
    table = fits.BinTableHDU(np.zeros(5, [("x", "f8")]))
    hdu = fits.ImageHDU(values)
    return variant(hdu, values, values.dtype.name, fits.PrimaryHDU(), table)


SMALL = RNG.integers(0, 4000, SHAPE, np.int16)
MAPPABLE = {
    "BITPIX 8": as_is(whole_range("u1")),
    "BITPIX 16": as_is(whole_range("i2")),
    "BITPIX 32": as_is(whole_range("i4")),
    "BITPIX 64": as_is(whole_range("i8")),
    "BITPIX -32": as_is(reals("f4")),
    "BITPIX -64": as_is(reals("f8")),
    "extension": in_extension(whole_range("i2")),
}
VARIANTS = MAPPABLE | {
    "signed byte": as_is(whole_range("i1")),
    "unsigned 16": as_is(whole_range("u2")),
    "unsigned 32": as_is(whole_range("u4")),
    "unsigned 64": as_is(whole_range("u8")),
    "unsigned 16 in an extension": in_extension(whole_range("u2")),
    "scaled 16": scaled(whole_range("i2"), 100.0, 0.1),
    "scaled 32": scaled(whole_range("i4"), -7.25, 3.0),
    "scaled unsigned": scaled(whole_range("i2"), 32768, 2),
    "offset alone": scaled(whole_range("i2"), 1000, 1),
    "scale of -1": scaled(whole_range("i2"), 0, -1),
    "scaled float": scaled(RNG.normal(1e3, 1e2, SHAPE).astype("f4"), 1.7, 0.3),
    "blank 8": with_blank(whole_range("u1"), 255, "float32"),
    "blank 16": with_blank(whole_range("i2"), -32768, "float32"),
    "blank 32": with_blank(whole_range("i4"), 2**31 - 1, "float64"),
    "blank unsigned 16": with_blank(whole_range("i2"), 32767, "float32", 32768),
    "blank unsigned 32": with_blank(whole_range("i4"), -(2**31), "float64", 2**31),
    "blank out of range": with_blank(whole_range("u1"), 300, "float32"),
    "gzip 16": as_is(whole_range("i2"), ".fits.gz"),
    "gzip unsigned 16": as_is(whole_range("u2"), ".fits.gz"),
    "gzip -32": as_is(reals("f4"), ".fits.gz"),
    "RICE_1 8": tiled(whole_range("u1"), "RICE_1"),
    "RICE_1 16": tiled(whole_range("i2"), "RICE_1"),
    "RICE_1 32": tiled(whole_range("i4"), "RICE_1"),
    "RICE_1 unsigned 16": tiled(whole_range("u2"), "RICE_1"),
    "RICE_1 unsigned 32": tiled(whole_range("u4"), "RICE_1"),
    "RICE_1 blank": tiled_with_blank(whole_range("i2"), -32768),
    "GZIP_1 16": tiled(whole_range("i2"), "GZIP_1"),
    "GZIP_1 -32": tiled(reals("f4"), "GZIP_1", quantize_level=0),
    "GZIP_2 unsigned 16": tiled(whole_range("u2"), "GZIP_2"),
    "GZIP_2 -64": tiled(reals("f8"), "GZIP_2", quantize_level=0),
    "PLIO_1 16": tiled(SMALL, "PLIO_1"),
    "PLIO_1 32": tiled(SMALL.astype("i4"), "PLIO_1"),
}
IN_SINGLE_PRECISION = {"scaled 16", "scaled float"}
BLANK_IGNORED = {"blank unsigned 16", "blank unsigned 32"}


def stack_of(*paths: Path) -> FrameStack:
    return FrameStack([plain_pixels(scan(path)) for path in paths])


def pixels_of(stack: FrameStack) -> Pixels:
    out = np.empty(stack.shape, stack.dtype)
    stack.read(0, stack.shape[1], out)
    return out


def write_all(folder: Path, images: Sequence[Pixels]) -> list[Path]:
    paths = [folder / f"{i:03}.fit" for i in range(len(images))]
    for path, pixels in zip(paths, images, strict=True):
        fits.PrimaryHDU(pixels).writeto(path)
    return paths


@pytest.mark.parametrize("name", VARIANTS)
def test_every_encoding_is_read_as_the_values_it_means(name: str, tmp_path: Path) -> None:
    row = VARIANTS[name]
    stack = stack_of(row.write(tmp_path))
    assert stack.shape == (1, *SHAPE)
    assert stack.dtype == np.dtype(row.dtype)
    assert stack.dtype.isnative
    ours = pixels_of(stack)[0]
    assert np.array_equal(ours, row.truth, equal_nan=ours.dtype.kind == "f")


@pytest.mark.parametrize("name", VARIANTS)
def test_every_encoding_is_read_alike_in_any_bands(name: str, tmp_path: Path) -> None:
    row = VARIANTS[name]
    stack = stack_of(row.write(tmp_path))
    out = np.empty(stack.shape, stack.dtype)
    for first, stop in ((0, 1), (1, 5), (5, 5), (5, 7)):
        stack.read(first, stop, out[:, first:stop])
    assert out.tobytes() == pixels_of(stack).tobytes()


@pytest.mark.parametrize("name", VARIANTS)
def test_astropy_reads_the_same_but_where_it_rounds_or_ignores_blank(
    name: str, tmp_path: Path
) -> None:
    row = VARIANTS[name]
    theirs = fits.getdata(row.write(tmp_path), row.hdu)
    same = np.array_equal(theirs, row.truth, equal_nan=theirs.dtype.kind == "f")
    assert same == (name not in IN_SINGLE_PRECISION | BLANK_IGNORED)
    assert name in BLANK_IGNORED or np.allclose(theirs, row.truth, rtol=1e-6, equal_nan=True)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_memory_map_serves_only_where_the_file_is_its_own_array(
    name: str, tmp_path: Path
) -> None:
    row, owner = VARIANTS[name], None
    with (
        fits.open(row.write(tmp_path), memmap=True) as hdus,
        suppress(ValueError),  # "Cannot load a memory-mapped image: BZERO/BSCALE/BLANK ..."
    ):
        owner = hdus[row.hdu].data
        while isinstance(owner, np.ndarray):
            owner = owner.base
    assert isinstance(owner, mmap.mmap) == (name in MAPPABLE)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[FrameStack, Pixels]:
    """Return a stack of three frames, and their pixels."""
    cube = RNG.integers(0, 2**16, (3, *SHAPE), np.uint16)
    return stack_of(*write_all(tmp_path_factory.mktemp("three"), list(cube))), cube


def one_of_numbers_and_slices(n: int) -> st.SearchStrategy[Any]:
    return st.integers(-n, n - 1) | st.slices(n)


@settings(deadline=None, max_examples=200)
@given(key=st.tuples(*map(one_of_numbers_and_slices, (3, *SHAPE))))
def test_any_numbers_and_slices_are_taken_as_numpy_takes_them(
    three: tuple[FrameStack, Pixels], key: tuple[Any, Any, Any]
) -> None:
    stack, cube = three
    assert stack[key].dtype == cube.dtype
    assert np.array_equal(stack[key], cube[key])


@settings(deadline=None, max_examples=100)
@given(
    slices=st.tuples(st.slices(3), st.slices(7), st.slices(11)),
    axis=st.integers(0, 2),
    data=st.data(),
)
def test_an_array_of_numbers_on_one_axis_is_taken_as_numpy_takes_it(
    three: tuple[FrameStack, Pixels],
    slices: tuple[slice, slice, slice],
    axis: int,
    data: st.DataObject,
) -> None:
    stack, cube = three
    n = cube.shape[axis]
    numbers = data.draw(st.lists(st.integers(-n, n - 1), max_size=6))
    key: Any = [*slices]
    key[axis] = np.array(numbers, np.int64)
    assert np.array_equal(stack[tuple(key)], cube[tuple(key)])


@pytest.mark.parametrize(
    "rows",
    [slice(5, 2), slice(99, 200), slice(None, None, -3), slice(-2, None), slice(-1, -99, -1)],
)
def test_odd_slices_of_rows_equal_those_of_numpy(
    three: tuple[FrameStack, Pixels], rows: slice
) -> None:
    stack, cube = three
    key = (slice(None, None, -2), rows, slice(8, None, -2))
    assert np.array_equal(stack[key], cube[key])


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["uint16", "int32", "float64"])
def test_a_band_fits_into_any_array_that_holds_its_values(
    three: tuple[FrameStack, Pixels], dtype: str, order: Any
) -> None:
    stack, cube = three
    out = np.zeros((3, 4, SHAPE[1]), dtype, order=order)
    stack.read(2, 6, out)
    assert np.array_equal(out, cube[:, 2:6])


@pytest.mark.skipif(not COUNTERS.exists(), reason="the system does not count bytes read")
@pytest.mark.parametrize("kind", ["i2", "u2", "f4", "i1"])
@pytest.mark.parametrize("rows", [7, 100, 300])
def test_a_pass_over_bands_reads_each_pixel_once(kind: str, rows: int, tmp_path: Path) -> None:
    images = [np.full((300, 900), i, kind) for i in range(4)]
    stack = stack_of(*write_all(tmp_path, images))
    buffer = np.empty((4, rows, 900), kind)
    before = int(COUNTERS.read_text().split()[1])
    for first in range(0, 300, rows):
        stop = min(first + rows, 300)
        stack.read(first, stop, buffer[:, : stop - first])
    n_read = int(COUNTERS.read_text().split()[1]) - before
    n_pixel_bytes = sum(image.nbytes for image in images)
    assert n_pixel_bytes <= n_read <= 1.02 * n_pixel_bytes


def rewrite(path: Path) -> None:
    changed, time = bytearray(path.read_bytes()), path.stat().st_mtime_ns
    changed[2880] ^= 1
    path.write_bytes(changed)
    os.utime(path, ns=(time, time + 1))


def swap(path: Path) -> None:
    status = path.stat()
    path.with_suffix(".new").write_bytes(path.read_bytes())
    path.with_suffix(".new").replace(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


CHANGES: dict[str, Callable[[Path], object]] = {
    "rewritten": rewrite,
    "swapped for a copy": swap,
    "cut": lambda path: os.truncate(path, 2900),
    "grown": lambda path: os.truncate(path, 99999),
    "removed": Path.unlink,
    "made a folder": replace_by_folder,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_after_the_scan_is_an_error_with_its_name(
    change: str, tmp_path: Path
) -> None:
    paths = write_all(tmp_path, [whole_range("u2") for _ in range(3)])
    stack = stack_of(*paths)
    CHANGES[change](paths[1])
    with pytest.raises(FrameError) as caught:
        stack.read(3, 4, np.empty((3, 1, SHAPE[1]), "u2"))
    assert str(caught.value).startswith(f"{paths[1]}: ")


def test_frames_that_did_not_change_are_still_read(tmp_path: Path) -> None:
    paths = write_all(tmp_path, [whole_range("u2") for _ in range(3)])
    stack = stack_of(*paths)
    paths[1].unlink()
    assert np.array_equal(stack[::2, :, :][1], fits.getdata(paths[2]))


def test_a_stack_pickles_as_what_it_is(three: tuple[FrameStack, Pixels]) -> None:
    stack, cube = three
    travelled = pickle.loads(pickle.dumps(stack))
    assert len(pickle.dumps(stack)) < 5000
    assert (travelled.shape, travelled.dtype, travelled.token) == (
        stack.shape,
        stack.dtype,
        stack.token,
    )
    assert np.array_equal(pixels_of(travelled), cube)


@pytest.mark.skipif(not HANDLES.exists(), reason="the system does not list open files")
def test_no_file_stays_open(tmp_path: Path) -> None:
    paths = write_all(tmp_path, [whole_range("u2") for _ in range(40)])
    before = set(os.listdir(HANDLES))
    stack = stack_of(*paths)
    pixels_of(stack)
    paths[7].unlink()
    rewrite(paths[3])
    with pytest.raises(FrameError):
        pixels_of(stack)
    assert set(os.listdir(HANDLES)) == before


def test_the_token_follows_the_files(tmp_path: Path) -> None:
    paths = write_all(tmp_path, [whole_range("u2") for _ in range(3)])
    token = stack_of(*paths).token
    assert stack_of(*paths).token == token
    tokens = {token, stack_of(*paths[::-1]).token, stack_of(*paths[:2]).token}
    rewrite(paths[1])
    tokens.add(stack_of(*paths).token)
    swap(paths[2])
    tokens.add(stack_of(*paths).token)
    assert len(tokens) == 5


@pytest.mark.parametrize(
    "kinds",
    [
        ("i2", "u2"),
        ("u1", "i1"),
        ("i4", "u4"),
        ("u2", "f4"),
        ("i4", "f4"),
        ("u1", "u2", "u4", "u8"),
    ],
)
def test_mixed_types_meet_in_one_that_holds_all_values(
    kinds: tuple[str, ...], tmp_path: Path
) -> None:
    images = [reals(kind) if kind[0] == "f" else whole_range(kind) for kind in kinds]
    stack = stack_of(*write_all(tmp_path, images))
    for image, ours in zip(images, pixels_of(stack), strict=True):
        assert np.array_equal(ours, image, equal_nan=ours.dtype.kind == "f")


def test_frames_of_other_shapes_are_refused_by_name(tmp_path: Path) -> None:
    paths = write_all(tmp_path, [np.zeros((4, 5), "i2"), np.zeros((4, 5), "i2"), np.zeros((5, 4))])
    with pytest.raises(MismatchError, match=r"\(5, 4\).*000\.fit has \(4, 5\)") as caught:
        stack_of(*paths)
    assert caught.value.path == str(paths[2])


def test_more_than_64_frames_are_each_themselves(tmp_path: Path) -> None:
    cube = RNG.integers(0, 2**16, (70, 3, 4), np.uint16)
    stack = stack_of(*write_all(tmp_path, list(cube)))
    assert np.array_equal(pixels_of(stack), cube)
    assert np.array_equal(stack[::-9, 1:2, :], cube[::-9, 1:2])


def test_single_rows_are_those_of_the_frame_from_one_opening(
    night: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = FrameStack([plain_pixels(scan(min(night.iterdir())))])
    opened: list[tuple[Any, ...]] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda *given: opened.append(given) or real(*given))
    rows = stack.rows(0, [5, 0, stack.shape[1] - 1])
    assert len(opened) == 1
    assert np.array_equal(rows, stack[0, :, :][[5, 0, -1]])
