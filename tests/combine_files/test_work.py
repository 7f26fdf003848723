"""Files become one image: the pixels are numpy's, the header tells the truth."""

from __future__ import annotations

import gzip
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.stats import sigma_clip
from numpy.typing import NDArray

from arrayred.bands import COMBINING
from arrayred.combine_files import (
    CombineChecks,
    CombineOptions,
    prepare_combination,
    write_combination,
)
from arrayred.errors import FrameError, MismatchError, StorageError, UsageError
from arrayred.io import pixels as reading
from tests.combine_files.conftest import Write, write_frame

Array = NDArray[Any]


def combined(
    files: list[str], out: Path, how: CombineOptions | None = None, **options: Any
) -> Path:
    minus, rules = options.pop("minus", None), options.pop("rules", None)
    write_combination(
        prepare_combination(files, out, how or CombineOptions(), minus=minus, rules=rules),
        **options,
    )
    return out


def pixels_of(path: Path) -> Array:
    with fits.open(path, checksum=True) as hdus:
        return np.array(hdus[0].data)


def numpys(cube: Array, method: str) -> Array:
    frames = cube.astype(np.float64)
    if method == "clip":
        clipped = sigma_clip(frames, sigma=1.5, maxiters=2, cenfunc="mean", axis=0, masked=True)
        return np.asarray(clipped.mean(axis=0))
    if method == "minmax":
        return np.sort(frames, axis=0)[1:-1].mean(axis=0)
    return np.asarray(np.median(frames, axis=0) if method == "median" else frames.mean(axis=0))


HOWS = [
    CombineOptions("median"),
    CombineOptions("average"),
    CombineOptions("clip", n_sigma=1.5, iterations=2),
    CombineOptions("minmax"),
]


@pytest.mark.parametrize("how", HOWS, ids=str)
@pytest.mark.parametrize("dark", [False, True])
def test_the_pixels_are_those_of_numpy(
    how: CombineOptions, dark: bool, cube: Array, write: Write, tmp_path: Path
) -> None:
    master = np.full(cube.shape[1:], 1000.5) if dark else np.zeros(cube.shape[1:])
    minus = Path(write_frame(tmp_path / "master.fits", master)) if dark else None
    out = combined(write(cube), tmp_path / "out.fits", how, minus=minus)
    expected = numpys(cube, how.method) - master
    assert pixels_of(out).dtype == np.dtype(">f4")
    assert np.allclose(pixels_of(out), expected, rtol=1e-7, atol=0.004)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_a_median_in_float64_equals_numpys_exactly(
    dtype: str, write: Write, tmp_path: Path
) -> None:
    cube = np.random.default_rng(3).integers(0, 100, (6, 5, 4)).astype(dtype)
    out = combined(write(cube), tmp_path / "out.fits", CombineOptions(dtype="float64"))
    assert np.array_equal(pixels_of(out), np.median(cube.astype(float), axis=0))


def content(out: Path) -> bytes:
    """Return a product without what names it."""
    return out.read_bytes().replace(out.name.encode(), b"out.fits")


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_bytes_do_not_depend_on_threads_memory_or_the_order_of_files(
    how: CombineOptions, cube: Array, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = np.tile(cube, (1, 20, 20))
    files, out = write(big), tmp_path / "out.fits"
    once = combined(files, out, how).read_bytes()
    monkeypatch.setattr(reading, "READ_PIECE", 4096)
    for threads, memory in [(1, 8), (2, 8), (3, 8), (3, 64)]:
        out.unlink()
        limits = CombineOptions(
            how.method,
            how.n_sigma,
            how.iterations,
            memory=COMBINING + (memory << 20),
            threads=threads,
        )
        assert combined(files[::-1], out, limits).read_bytes() == once


def test_missing_pixels_are_left_out(write: Write, tmp_path: Path) -> None:
    cube = np.arange(24, dtype=np.float32).reshape(4, 2, 3)
    cube[0, 0, 0] = cube[1, 0, 0] = np.nan
    cube[:, 1, 2] = np.nan
    files = write(cube)
    with np.errstate(all="ignore"), pytest.warns(RuntimeWarning):
        expected = np.nanmedian(cube, axis=0)
    assert np.array_equal(pixels_of(combined(files, tmp_path / "o.fits")), expected, equal_nan=True)


def test_the_header_tells_inputs_sums_method_and_times(
    cube: Array, write: Write, tmp_path: Path
) -> None:
    files = write(cube)
    minus = Path(write_frame(tmp_path / "bias.fits", cube[0], IMAGETYP="bias", EXPTIME=0.0))
    header = fits.getheader(combined(files, tmp_path / "out.fits", minus=minus))
    for i, path in enumerate([*files, str(minus)], 1):
        assert header[f"ARIN{i:04}"] == Path(path).name
        assert header[f"ARSH{i:04}"] == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    told = (header["NCOMBINE"], header["EXPTIME"], header["EXPTOTAL"], header["ARMETHOD"])
    assert told == (7, 60.0, 420.0, "median")
    assert header["CALSTAT"] == "B"
    assert header["DATE-END"].startswith("2026-01-02T03:01:00")
    history = " ".join(header["HISTORY"])
    assert "bias.fits subtracted" in history
    assert "median of 7 frames" in history


def test_checksums_can_be_left_out(cube: Array, write: Write, tmp_path: Path) -> None:
    out = combined(write(cube), tmp_path / "out.fits", CombineOptions(checksums=False))
    header = fits.getheader(out)
    assert "ARIN0007" in header
    assert not [keyword for keyword in header if keyword.startswith("ARSH")]
    assert np.array_equal(pixels_of(out), np.median(cube, axis=0))


def test_unsigned_counts_written_as_signed_are_recognised(write: Write, tmp_path: Path) -> None:
    cube = np.random.default_rng(0).normal(1000, 5, (5, 20, 30)).astype(np.uint16)
    cube[:, 4, 7] = 65535
    out = combined(write(cube.view(np.int16)), tmp_path / "out.fits")
    assert pixels_of(out)[4, 7] == 65535
    assert fits.getheader(out)["ARUNSIGN"] is True


@pytest.mark.parametrize("suffix", [".fits.gz", ".fits.fz"])
def test_compressed_frames_and_masters_are_what_they_hold(
    suffix: str, cube: Array, tmp_path: Path
) -> None:
    files = []
    for i, pixels in enumerate([*cube, cube[3]]):
        path = tmp_path / f"c{i}{suffix}"
        plain = write_frame(tmp_path / f"c{i}.fits", pixels)
        if suffix.endswith("gz"):
            path.write_bytes(gzip.compress(Path(plain).read_bytes()))
        else:
            fits.CompImageHDU(pixels, fits.getheader(plain)).writeto(path)
        files.append(str(path))
    out = combined(files[:-1], tmp_path / "out.fits", minus=Path(files[-1]))
    assert np.array_equal(pixels_of(out), np.median(cube, axis=0) - cube[3])
    first = hashlib.sha256(Path(files[0]).read_bytes()).hexdigest()
    assert fits.getheader(out)["ARSH0001"] == first


def test_each_byte_is_read_once(
    cube: Array, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write(np.tile(cube, (1, 30, 30)))
    seen: list[tuple[str, int, int]] = []
    read_at = reading._read_at

    def watching(handle: int, view: memoryview, offset: int) -> int:
        count = read_at(handle, view, offset)
        seen.append((str(Path(f"/proc/self/fd/{handle}").readlink()), offset, count))
        return count

    plan = prepare_combination(
        files, tmp_path / "out.fits", CombineOptions(memory=COMBINING + (8 << 20), threads=2)
    )
    monkeypatch.setattr(reading, "_read_at", watching)
    write_combination(plan)
    for path in files:
        pieces = sorted((at, n) for name, at, n in seen if name == path)
        assert [at for at, _ in pieces] == [0, *np.cumsum([n for _, n in pieces])[:-1]]
        assert sum(n for _, n in pieces) == Path(path).stat().st_size


def test_frames_of_other_shape_are_refused_by_name(tmp_path: Path) -> None:
    one = write_frame(tmp_path / "a.fits", np.zeros((3, 4)))
    other = write_frame(tmp_path / "b.fits", np.zeros((4, 3)))
    with pytest.raises(MismatchError, match=r"b\.fits.*\(4, 3\).*a\.fits.*\(3, 4\)"):
        prepare_combination([one, other], tmp_path / "out.fits", CombineOptions())


def test_the_output_cannot_be_an_input(cube: Array, write: Write, tmp_path: Path) -> None:
    files = write(cube)
    (tmp_path / "link.fits").symlink_to(files[2])
    for out in (Path(files[2]), tmp_path / "link.fits"):
        with pytest.raises(UsageError, match="one of the inputs"):
            prepare_combination(files, out, CombineOptions())


def test_the_same_again_is_left_alone_and_another_refused_at_once(
    cube: Array, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write(cube)
    out = combined(files, tmp_path / "out.fits")
    os.utime(out, (1e9, 1e9))
    combined(files, out)
    assert out.stat().st_mtime == 1e9
    monkeypatch.setattr("arrayred.combine_files.visit_into", None)
    with pytest.raises(UsageError, match="--overwrite"):
        combined(files, out, CombineOptions("average"))
    monkeypatch.undo()
    combined(files, out, CombineOptions("average"), overwrite=True)
    assert np.array_equal(pixels_of(out), cube.mean(axis=0).astype("f4"))


def test_a_frame_that_changes_while_it_is_read_leaves_no_product(
    cube: Array, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, out = write(cube), tmp_path / "out.fits"
    kernel = np.median

    def touching(block: Array, axis: int = 0) -> Array:
        os.utime(files[4], (1e9, 1e9))
        return np.asarray(kernel(block, axis=axis))

    monkeypatch.setattr(CombineOptions, "kernel", property(lambda self: touching))
    with pytest.raises(FrameError, match="changed") as caught:
        combined(files, out)
    assert caught.value.path == files[4]
    assert {path.name for path in tmp_path.iterdir()} == {Path(file).name for file in files}


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_error_in_one_thread_ends_all_and_leaves_no_temporary(
    threads: int, cube: Array, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, calls = write(np.tile(cube, (1, 40, 40))), []

    def failing(block: Array) -> Array:
        calls.append(block.shape)
        if len(calls) == 3:
            raise ZeroDivisionError("third band")
        return np.asarray(block[0], np.float64)

    monkeypatch.setattr(CombineOptions, "kernel", property(lambda self: failing))
    with pytest.raises(ZeroDivisionError, match="third band"):
        combined(
            files,
            tmp_path / "out.fits",
            CombineOptions(memory=COMBINING + (8 << 20), threads=threads),
        )
    assert {path.name for path in tmp_path.iterdir()} == {Path(file).name for file in files}


def test_too_few_frames_for_minmax_are_refused(cube: Array, write: Write, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 frames"):
        prepare_combination(write(cube[:2]), tmp_path / "out.fits", CombineOptions("minmax"))


def test_a_folder_in_the_way_is_refused(cube: Array, write: Write, tmp_path: Path) -> None:
    (tmp_path / "out.fits").mkdir()
    with pytest.raises(StorageError, match="folder"):
        combined(write(cube), tmp_path / "out.fits")


def test_any_exposure_lets_exposures_differ(cube: Array, write: Write, tmp_path: Path) -> None:
    files = write(cube[:3])
    files.append(write_frame(tmp_path / "long.fits", cube[3], EXPTIME=600.0))
    with pytest.raises(MismatchError, match="600 s"):
        prepare_combination(files, tmp_path / "out.fits", CombineOptions())
    out = combined(files, tmp_path / "out.fits", rules=CombineChecks(any_exposure=True))
    assert fits.getheader(out)["EXPTIME"] == pytest.approx(195.0)


# Masks of the files

METHODS = {"median": 150.0, "average": 150.0, "clip": 150.0}


def masked_files(folder: Path, kind: str, values: list[float]) -> list[str]:
    """Write frames of one value each; the last is masked but for its first pixel."""
    mask = np.ones((3, 4), np.uint8)
    mask[0, 0] = 0
    files = [
        write_frame(folder / f"f{i}.fits", np.full((3, 4), v, kind)) for i, v in enumerate(values)
    ]
    fits.append(files[-1], mask, fits.Header({"EXTNAME": "MASK"}))
    return files


@pytest.mark.parametrize("kind", ["u2", "i4", "f4"])
@pytest.mark.parametrize("method", METHODS)
def test_masked_pixels_are_left_out(kind: str, method: Any, tmp_path: Path) -> None:
    files = masked_files(tmp_path, kind, [100.0, 200.0, 60_000.0])
    found = pixels_of(combined(files, tmp_path / "out.fits", CombineOptions(method)))
    expected = np.full((3, 4), METHODS[method])
    expected[0, 0] = 200.0 if method == "median" else 60_300 / 3
    assert np.allclose(found, expected, rtol=1e-6)
    history = str(fits.getheader(tmp_path / "out.fits")["HISTORY"])
    assert "flagged in the masks of the files excluded" in history


def test_pixels_that_the_master_flags_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "dark").mkdir()
    master = masked_files(tmp_path / "dark", "u2", [100.0])[0]
    files = [write_frame(tmp_path / f"f{i}.fits", np.full((3, 4), 300, "u2")) for i in range(2)]
    found = pixels_of(combined(files, tmp_path / "out.fits", minus=Path(master)))
    assert found[0, 0] == 200
    assert np.isnan(found).sum() == 11
