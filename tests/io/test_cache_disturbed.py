"""Whatever the disk does while a cache is built, it is complete or absent, and is built later."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import arrayred as ar
from arrayred.errors import StorageError
from arrayred.io import caching
from tests.io.conftest import cached

ROOT = Path(__file__).parents[2]
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("error", "how", "first", "step"),
    [
        ("ENOSPC", "lasting", 1, 80),
        ("EIO", "once", 2, 60),
        pytest.param("ENOSPC", "lasting", 3, 31, marks=SLOW),
        pytest.param("EIO", "once", 5, 29, marks=SLOW),
        pytest.param("EDQUOT", "once", 7, 37, marks=SLOW),
    ],
)
def test_wherever_the_disk_refuses_a_cache_is_complete_or_absent(
    error: str, how: str, first: int, step: int, frames: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.io.cache_failing", str(frames), str(tmp_path / "work")]
    numbers = map(str, (first, step))
    told = subprocess.run(
        [*command, error, how, *numbers], cwd=ROOT, capture_output=True, text=True, timeout=900
    )
    assert told.returncode == 0, told.stderr
    nth, n_refused = map(int, told.stdout.split())
    assert n_refused >= 3
    assert nth > 100


def test_a_disk_too_small_is_known_before_a_cache_is_begun(
    frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 4 * 100 * 40 * 2 // 4
    monkeypatch.setattr(caching, "_write_store", lambda *_: pytest.fail("something was written"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=needed))
    with pytest.raises(StorageError, match=f"{needed} bytes free, and the cache needs"):
        cached(frames, tmp_path / "x.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_file_size_limit_of_the_system_leaves_no_cache(frames: Path, tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
import arrayred as ar
from arrayred.night.night import cache_night
night = ar.open_night(sys.argv[1])
sys.dont_write_bytecode = True  # it would be cut, and used by later tests
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    cache_night(night, Path(sys.argv[2]))
except ar.StorageError as error:
    print(error)
"""
    place = tmp_path / "x.zarr"
    told = subprocess.run(
        [sys.executable, "-c", code, str(frames), str(place)], capture_output=True, text=True
    )
    assert f"{place}: The cache cannot be written (File too large)" in told.stdout, told.stderr
    assert list(tmp_path.iterdir()) == []
    assert len(ar.open_night(cached(frames, place)).frames) == 4
