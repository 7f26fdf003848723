"""One night, whole processes side by side: ``python -m benchmarks.night --night DIR``.

Compares ``arrayred reduce --no-figures`` with the same work as a script of ccdproc calls, each in
a fresh process, in turns, and with the floor: a process that only imports what arrayred builds
upon. The tables of the last round are compared. Without ``--night`` a night of 5 darks and
3 lights, 1024 x 1536, is simulated.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from arrayred.io.raw import write_frames
from arrayred.simulate import Detector, SimulatedNight

FLOOR = "import numpy, click, xarray as xr; xr.Dataset({'a': ('x', numpy.zeros(3))})"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--night", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        night = options.night or simulated(where / "night")
        ours, theirs = where / "ours", where / "theirs"
        reduce = [sys.executable, "-m", "arrayred", "reduce", night, "-o", ours]
        commands: dict[str, tuple[list[object], Path]] = {
            "floor: imports numpy, click, xarray": ([sys.executable, "-c", FLOOR], where / "none"),
            "arrayred reduce --no-figures": ([*reduce, "--reference", "--no-figures", "-q"], ours),
            "ccdproc script": (
                [sys.executable, "-m", "benchmarks.ccdproc_night", night, theirs],
                theirs,
            ),
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for i in range(options.rounds + 1):
            for name, (command, out) in commands.items():
                elapsed = timed(command, out)
                if i > 0:
                    seconds[name].append(elapsed)
        require_equal_tables(ours, theirs)
    report(seconds)


def simulated(folder: Path) -> Path:
    """Write the default night."""
    write_frames(SimulatedNight(Detector(shape=(1024, 1536))).frames(), folder)
    return folder


def timed(command: list[object], out: Path) -> float:
    """Return the seconds of a whole process whose products were removed before."""
    shutil.rmtree(out, ignore_errors=True)
    started = time.perf_counter()
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return time.perf_counter() - started


def require_equal_tables(ours: Path, theirs: Path) -> None:
    """Compare the tables of both programs, byte for byte."""
    for name in ("raw_extraction.txt", "skysubtracted.txt"):
        (table,) = ours.rglob(f"*_{name}")
        if table.read_bytes() != (theirs / name).read_bytes():
            raise SystemExit(f"the tables differ: {table.name}")


def report(seconds: dict[str, list[float]]) -> None:
    """Print medians and ratios."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    floor, _, rival = medians.values()
    print("| process | s | above the floor, s | of the ccdproc script |\n|---|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {median:.2f} | {median - floor:.2f} | {median / rival:.2f} |")


if __name__ == "__main__":
    main()
