"""Whatever the disk does while a cache is built, it is complete or absent, and is built later."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits

import arrayred as ar
from arrayred.errors import StorageError
from arrayred.io import caching
from arrayred.night import cache_night
from tests.cli import forked
from tests.io.cache_failing import refused
from tests.io.conftest import cached

SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("error", "how", "first", "step"),
    [
        ("ENOSPC", "lasting", 1, 83),
        ("EIO", "once", 2, 67),
        pytest.param("EDQUOT", "once", 7, 41, marks=SLOW),
    ],
)
def test_wherever_the_disk_refuses_a_cache_is_complete_or_absent(
    error: str, how: str, first: int, step: int, frames: Path, tmp_path: Path
) -> None:
    nth, n_refused = forked.result(
        refused, frames, tmp_path / "work", error, how == "lasting", first, step
    )
    assert n_refused >= 3
    assert nth > 100


def test_a_disk_too_small_is_known_before_a_cache_is_begun(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 4 * 100 * 40 * 2 // 4
    monkeypatch.setattr(caching, "_write_store", lambda *_: pytest.fail("something was written"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    with pytest.raises(StorageError, match=f"{needed} bytes free, but the cache needs"):
        cached(frames, tmp_path / "x.zarr")
    assert list(tmp_path.iterdir()) == []


def said_of_a_limit(frames: Path, place: Path) -> str:
    """Build a cache where no file may be larger than 4 kB, and return the error."""
    night = ar.open_night(frames)
    sys.dont_write_bytecode = True  # it would be cut, and used by later tests
    resource = pytest.importorskip("resource")
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    with pytest.raises(StorageError) as caught:
        cache_night(night, place)
    return str(caught.value)


def test_a_file_size_limit_of_the_system_leaves_no_cache(frames: Path, tmp_path: Path) -> None:
    place = tmp_path / "x.zarr"
    said = forked.result(said_of_a_limit, frames, place)
    assert f"{place}: The cache cannot be written (File too large)" in said
    assert list(tmp_path.iterdir()) == []
    assert len(ar.open_night(cached(frames, place)).frames) == 4


def test_without_assertions_no_cache_is_written_since_zarr_works_in_them(tmp_path: Path) -> None:
    header = fits.Header({"IMAGETYP": "Light Frame", "EXPTIME": 600.0, "OBJECT": "Vega"})
    (night := tmp_path / "night").mkdir()
    fits.PrimaryHDU(np.ones((16, 16), np.uint16), header).writeto(night / "x.fits")
    command = [sys.executable, "-O", "-m", "arrayred", "cache", night, "--to", tmp_path / "c"]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert "Unset PYTHONOPTIMIZE" in told.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["night"]
