"""The bound on memory holds: arithmetic here, the process itself measured below."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from arrayred.bands import COMBINING
from arrayred.combine_files import CombineOptions, layout_of
from arrayred.config import Instrument
from arrayred.errors import UsageError
from arrayred.io import frame_from_header
from arrayred.io.scan import scan
from tests.combine_files.conftest import write_frame

MB = 1 << 20
LEAST = COMBINING // MB
MEASURE = """
import sys
from pathlib import Path
import arrayred.cli.combine
from arrayred.combine_files import CombineOptions, prepare_combination, write_combination

def held(line):
    text = Path("/proc/self/status").read_text()
    return next(int(l.split()[1]) for l in text.splitlines() if l.startswith(line)) << 10

folder, out, method, memory, threads = sys.argv[1:]
how = CombineOptions(method, memory=int(memory), threads=int(threads))
write_combination(prepare_combination([folder], Path(out), how))
print(held("VmHWM"))
"""


def frame(folder: Path, **cards: Any) -> Any:
    path = Path(write_frame(folder / "one.fits", np.zeros((2, 2)), **cards))
    return frame_from_header("one", scan(path), Instrument.load("generic"))


@pytest.mark.parametrize("method", ["median", "clip"])
@pytest.mark.parametrize("n_frames", [1, 25, 400])
def test_more_memory_never_means_shorter_bands(n_frames: int, method: Any, tmp_path: Path) -> None:
    frames, shape = [frame(tmp_path)] * n_frames, (n_frames, 2048, 4096)
    sizes = [
        layout_of(
            frames, shape, np.dtype("u2"), CombineOptions(method, memory=m * MB, threads=1)
        ).pixels
        for m in (LEAST + 32, 128, 512, 4096)
    ]
    assert sizes == sorted(sizes)
    assert sizes[-1] <= 1 << 16


def test_threads_are_given_up_before_a_bound_is_refused(tmp_path: Path) -> None:
    frames, shape, dtype = [frame(tmp_path)] * 400, (400, 2048, 4096), np.dtype("u2")
    shares = {
        memory: layout_of(frames, shape, dtype, CombineOptions(memory=memory * MB, threads=8))
        for memory in (LEAST + 12, 512)
    }
    assert shares[512].threads == 8
    assert shares[LEAST + 12].threads < 8


def test_a_bound_that_is_too_small_says_what_is_needed(tmp_path: Path) -> None:
    frames, shape, dtype = [frame(tmp_path)] * 400, (400, 2048, 4096), np.dtype("u2")
    with pytest.raises(UsageError, match="1048576 bytes") as caught:
        layout_of(frames, shape, dtype, CombineOptions(memory=MB))
    needed = int(caught.value.hint.partition("--memory ")[2].partition("M")[0])
    assert layout_of(frames, shape, dtype, CombineOptions(memory=needed * MB)).threads >= 1
    with pytest.raises(UsageError):
        layout_of(frames, shape, dtype, CombineOptions(memory=(needed - 1) * MB))


def peak(folder: Path, method: str, memory: int, threads: int = 2) -> int:
    """Return the largest resident size of a process of its own, bytes."""
    arguments = [folder, folder.parent / "out.fits", method, memory, threads]
    command = [sys.executable, "-c", MEASURE, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    (folder.parent / "out.fits").unlink()
    return int(done.stdout)


def written(folder: Path, n_frames: int, shape: tuple[int, int], dtype: str = "u2") -> Path:
    """Write frames of noise, in floats a tenth of the pixels missing."""
    folder.mkdir()
    pixels = np.random.default_rng(0).normal(1000, 30, shape).astype(dtype)
    if dtype[0] == "f":
        pixels[np.random.default_rng(1).random(shape) < 0.1] = np.nan
    for i in range(n_frames):
        write_frame(folder / f"{i:03}.fits", np.roll(pixels, 37 * i))
    return folder


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
@pytest.mark.parametrize("n_frames", [25, 400])
def test_no_more_is_held_than_the_bound_whatever_the_number_of_frames(
    n_frames: int, tmp_path: Path
) -> None:
    folder = written(tmp_path / "frames", n_frames, (128, 192))
    assert sum(path.stat().st_size for path in folder.iterdir()) < 24 * MB
    assert peak(folder, "median", 60 * MB) <= 60 * MB


@linux
@pytest.mark.parametrize("method", ["median", "average", "clip", "minmax"])
def test_the_bound_holds_for_every_method_on_floats_with_gaps(method: str, tmp_path: Path) -> None:
    folder = written(tmp_path / "frames", 40, (256, 256), "f4")
    assert peak(folder, method, 56 * MB) <= 56 * MB


@linux
def test_the_bound_holds_where_files_are_decoded(tmp_path: Path) -> None:
    folder = written(tmp_path / "frames", 12, (700, 1000))
    for path in sorted(folder.iterdir()):
        packed = fits.CompImageHDU(fits.getdata(path), fits.getheader(path))
        packed.writeto(path.with_suffix(".fits.fz"))
        path.unlink()
    assert peak(folder, "median", 108 * MB) <= 108 * MB


@linux
@pytest.mark.slow
@pytest.mark.parametrize("n_frames", [25, 100])
def test_the_bound_holds_for_large_frames(n_frames: int, tmp_path: Path) -> None:
    folder = written(tmp_path / "frames", n_frames, (1024, 1536))
    for method, memory in (("median", 60), ("average", 60), ("clip", 60), ("median", 96)):
        assert peak(folder, method, memory * MB) <= memory * MB, (method, memory)
