"""Compressed frames: a lazy cube unpacks what is looked at, when it is looked at."""

from __future__ import annotations

import gzip
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

import arrayred as ar
from arrayred.errors import FrameError, MismatchError
from arrayred.io import PackedStack, pixels
from arrayred.io.scan import scan

PIXELS = np.random.default_rng(5).integers(0, 60000, (3, 8, 10)).astype("u2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a gzipped, a tile-compressed and a plain frame."""
    zipped, tiled, plain = (tmp_path / name for name in ("a.fit.gz", "b.fits.fz", "c.fit"))
    fits.PrimaryHDU(PIXELS[2]).writeto(plain)
    with gzip.open(zipped, "wb") as file:
        fits.PrimaryHDU(PIXELS[0]).writeto(file)
    fits.CompImageHDU(PIXELS[1], compression_type="RICE_1").writeto(tiled)
    return tmp_path


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the frames that are unpacked, as they are."""
    names: list[str] = []
    real = pixels.plain_pixels

    def plain(image: Any) -> Any:
        names.append(image.source.path.name)
        return real(image)

    monkeypatch.setattr(pixels, "plain_pixels", plain)
    return names


@pytest.mark.parametrize("chunks", [None, 3, "auto"])
def test_compressed_frames_hold_what_astropy_reads(chunks: Any, folder: Path) -> None:
    cube = ar.open_frames(folder, chunks)
    assert np.array_equal(cube.counts, PIXELS)
    assert cube.counts.dtype == np.uint16


def test_nothing_is_unpacked_before_it_is_asked_for(folder: Path, unpacked: list[str]) -> None:
    cubes = ar.open_frames(folder, 3), xr.open_dataset(folder, engine="arrayred", cache=False)
    assert unpacked == []
    for cube in cubes:
        unpacked.clear()
        assert np.array_equal(cube.counts.isel(frame=1, y=4), PIXELS[1, 4])
        assert set(unpacked) == {"b.fits.fz"}


CHOICES: list[tuple[Any, Any, Any]] = [
    (0, slice(None), slice(None)),
    (slice(1, 3), slice(2, 5), slice(None, None, -2)),
    (np.array([2, 0]), 3, 4),
    (slice(0, 0), slice(1, 2), 3),
    (slice(None), slice(0, 0), slice(None)),
]


@pytest.mark.parametrize("key", CHOICES, ids=str)
def test_any_indices_equal_those_of_numpy(key: tuple[Any, Any, Any], folder: Path) -> None:
    stack = PackedStack([scan(path) for path in sorted(folder.iterdir())])
    found = stack[key]
    assert found.shape == PIXELS[key].shape
    assert np.array_equal(found, PIXELS[key])


def test_frames_of_other_dtypes_are_read_in_the_one_that_holds_all(folder: Path) -> None:
    fits.PrimaryHDU(np.full((8, 10), -5, "i2")).writeto(folder / "d.fit")
    cube = ar.open_frames(folder, chunks=4, unsigned="as-declared")
    assert cube.counts.dtype == np.int32
    assert cube.counts.isel(frame=0).values.dtype == np.int32
    assert cube.counts.identical(ar.open_frames(folder, unsigned="as-declared").counts)


def test_a_packed_cube_travels_between_processes(folder: Path) -> None:
    cube = ar.open_frames(folder, 3)
    assert pickle.loads(pickle.dumps(cube)).identical(cube.compute())


def test_a_packed_frame_that_changed_is_an_error_not_other_numbers(folder: Path) -> None:
    cube = ar.open_frames(folder, 3)
    with gzip.open(folder / "a.fit.gz", "wb") as file:
        fits.PrimaryHDU(PIXELS[2] + 1).writeto(file)
    with pytest.raises(FrameError, match=r"a\.fit\.gz.*changed"):
        cube.counts.values  # noqa: B018
    assert np.array_equal(cube.counts.isel(frame=1), PIXELS[1])


def test_packed_frames_of_other_shapes_are_refused_by_name(folder: Path) -> None:
    fits.PrimaryHDU(np.zeros((4, 4), "u2")).writeto(folder / "odd.fit")
    with pytest.raises(MismatchError, match=r"odd\.fit"):
        ar.open_frames(folder, chunks="auto")


def test_a_limit_of_the_user_on_memory_is_kept_by_the_decoder(tmp_path: Path) -> None:
    counts = np.arange(64 * 96, dtype=np.int16).reshape(64, 96)
    path = tmp_path / "x.fits.fz"
    hdus = [fits.PrimaryHDU(), fits.CompImageHDU(counts, compression_type="RICE_1")]
    fits.HDUList(hdus).writeto(path)
    code = (
        "import resource, sys; limit = 1_500_000_000\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "import arrayred as ar; print(int(ar.open_frames([sys.argv[1]]).counts.values.sum()))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
    )
    assert (told.stdout, told.returncode) == (f"{counts.sum(dtype=int)}\n", 0), told.stderr
