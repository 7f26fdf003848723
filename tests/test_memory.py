"""A bound on memory holds for whole nights, and changes no byte of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import arrayred as ar
from arrayred.io import write_frames
from arrayred.simulate import Detector, SimulatedNight, Star

MB = 1 << 20
SHAPE = (400, 640)
MEASURE = """
import sys
from pathlib import Path
import arrayred as ar

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))

small, night, memory = sys.argv[1:]
ar.reduce_night(small, chunks=8)
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
ar.reduce_night(night, memory=int(memory) or None)
print(status("VmHWM") - before)
"""


REDUCE = """
import sys
from pathlib import Path
from arrayred.cli import main
try:
    main()
finally:
    print(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
"""


@pytest.fixture(scope="module")
def long_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("long") / "night"
    star = Star(row=220.0)
    write_frames(SimulatedNight(Detector(SHAPE), star, n_darks=8, n_lights=44).frames(), folder)
    return folder


def peak(small: Path, night: Path, memory: int) -> int:
    command = [sys.executable, "-c", MEASURE, str(small), str(night), str(memory)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_night_holds_no_more_than_the_bound_and_its_results(
    night: Path, long_night: Path
) -> None:
    # dark, counts, clean, mean and median of frames, places of hits, noise and flags, copies,
    # and what the C library keeps: 29.2 to 31.0 MiB of 33.3 were held in three runs
    images = 15
    results = images * SHAPE[0] * SHAPE[1] * 8
    bounded, free = (peak(night, long_night, memory) for memory in (4 * MB, 0))
    assert bounded <= 4 * MB + results
    assert free > 20 * MB


def test_a_bound_changes_no_number(long_night: Path) -> None:
    one = ar.reduce_night(long_night, memory=8 * MB)
    other = ar.reduce_night(long_night)
    assert one.identical(other)


def test_a_bound_that_holds_no_row_is_refused(long_night: Path) -> None:
    with pytest.raises(ar.UsageError, match="not enough for one row"):
        ar.reduce_night(long_night, memory=10_000)


def reduced(night: Path, out: Path, *options: str) -> tuple[int, str, int]:
    """Reduce a night in a process of its own; return exit code, errors, and peak in MiB."""
    command = [sys.executable, "-c", REDUCE, "reduce", str(night), "-o", str(out), "-q"]
    done = subprocess.run([*command, "--allow-missing", *options], capture_output=True, text=True)
    return done.returncode, done.stderr, int(done.stdout.split()[-1]) >> 10


def needed(night: Path, out: Path, *options: str) -> int:
    """Return the least --memory, in MiB, that a night is reduced with."""
    code, told, _ = reduced(night, out, "--memory", "1M", *options)
    assert (code, out.exists()) == (7, False)
    return int(told.partition("Use --memory ")[2].partition("M")[0])


@pytest.fixture(scope="module")
def large_frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large") / "night"
    detector, star = Detector((1024, 1536)), Star(row=520.0)
    write_frames(SimulatedNight(detector, star, n_darks=4, n_lights=10).frames(), folder)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("options", "more"),
    [(("--no-figures",), 64), (("--no-figures", "--combine", "clip"), 0), ((), 0)],
)
def test_the_process_holds_no_more_than_it_may(
    large_frames: Path, tmp_path: Path, options: tuple[str, ...], more: int
) -> None:
    memory = needed(large_frames, tmp_path / "out", *options) + more
    limit = ("--memory", f"{memory}M")
    code, told, peak = reduced(large_frames, tmp_path / "out", *limit, *options)
    assert (code, told) == (0, "")
    assert peak <= memory


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_least_memory_follows_the_images(
    large_frames: Path, long_night: Path, tmp_path: Path
) -> None:
    of_large, of_small = (
        needed(night, tmp_path / "out", "--no-figures") for night in (large_frames, long_night)
    )
    assert of_small < of_large < of_small + 120  # 1.3 million pixels more, 60 bytes each
