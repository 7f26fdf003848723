"""``python -m benchmarks.long_night``: a night larger than the memory it may take.

400 frames of 2048 x 2048 pixels (3.4 GB) are reduced within ``--memory 512M`` from FITS and from
their cache; both must write the same bytes. Then one row is read through all lights, in a process
that has opened the night, from FITS, from the cache, and from the cache behind a URL
(``memory://``, where what travels is counted).

Each frame is drawn by itself, which takes two minutes: with a few drawn ones each cosmic ray lies
in many frames, and the list of hits is ten times as long as that of a real night.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from arrayred.io import write_frames
from arrayred.simulate import Detector, SimulatedNight, Star
from benchmarks.process import Timing, timed

_ARRAYRED = (sys.executable, "-m", "arrayred")
_ROW = """
import os, sys, time
from pathlib import Path
import numpy as np
import arrayred as ar

def n_read():
    return int(Path("/proc/self/io").read_text().split()[1])

where, row = sys.argv[1], int(sys.argv[2])
travelled = []
if where.startswith("memory://"):
    import fsspec
    system = fsspec.filesystem("memory")
    folder = Path(sys.argv[3])
    for path in folder.rglob("*"):
        if path.is_file():
            system.pipe_file(f"/bucket/{path.relative_to(folder)}", path.read_bytes())
    real = type(system).cat_file
    def cat_file(self, path, start=None, end=None, **_):
        raw = bytes(real(self, path, start=start, end=end))
        travelled.append(len(raw))
        return raw
    type(system).cat_file = cat_file
night = ar.open_night(where)
cube = night[next(name for name in night if name.startswith("light/"))]
opened = len(travelled), sum(travelled)
_ = cube.counts.sel(y=1).compute(scheduler="synchronous")  # imports what is imported late
travelled.clear()
before, started = n_read(), time.perf_counter()
values = cube.counts.sel(y=row).compute(scheduler="synchronous").values
took, read = time.perf_counter() - started, n_read() - before
print(int(values.astype(np.int64).sum()), values.shape[0], read, round(took * 1e3, 1),
      len(travelled), sum(travelled), *opened)
"""


def main() -> int:
    """Measure and print; return 1 if the two reductions differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=400, help="a fifth of them darks")
    parser.add_argument("--size", type=int, default=2048, help="rows and columns of a frame")
    parser.add_argument("--memory", default="512M")
    parser.add_argument("--work", type=Path, help="where the night is written for a while")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="arrayred-long-", dir=options.work) as temporary:
        folder = Path(temporary)
        n_darks = max(options.frames // 5, 2)
        night = SimulatedNight(
            Detector(shape=(options.size, options.size)),
            Star(row=0.55 * options.size, lines=()),
            n_darks=n_darks,
            n_lights=options.frames - n_darks,
        )
        write_frames(night.frames(), folder / "fits")
        cache = ("cache", str(folder / "fits"), "--to", str(folder / "zarr"), "-q")
        _print("build the cache", timed((*_ARRAYRED, *cache), folder))
        sizes = {kind: _bytes_of(folder / kind) for kind in ("fits", "zarr")}
        print(f"FITS {sizes['fits'] / 1e6:.0f} MB, cache {sizes['zarr'] / 1e6:.0f} MB")
        for kind in sizes:
            out = ("-o", str(folder / f"from-{kind}"), "--memory", options.memory)
            command = ("reduce", str(folder / kind), *out, "--allow-missing", "--no-figures", "-q")
            _print(f"reduce from {kind}", timed((*_ARRAYRED, *command), folder, 3600.0))
        is_same = _products(folder / "from-fits") == _products(folder / "from-zarr")
        print("the same bytes" if is_same else "OTHER BYTES")
        for place in (str(folder / "fits"), str(folder / "zarr"), "memory://bucket"):
            _print_row(place, options.size // 2, folder)
        return 0 if is_same else 1


def _products(out: Path) -> dict[str, bytes]:
    """Return all files but what is hidden, and the log with its seconds, by name."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not path.relative_to(out).parts[0].startswith((".", "arrayred.log"))
    }


def _print_row(place: str, row: int, folder: Path) -> None:
    """Read a row of all lights in a process of its own, and print what that took."""
    timed((sys.executable, "-c", _ROW, place, str(row), str(folder / "zarr")), folder)
    said = (folder / "log.txt").read_text().split()
    total, n_frames, n_read, took, n_asked, n_travelled, n_opening, n_bytes = said
    travelled = (
        f", {n_asked} requests for {int(n_travelled) / 1e6:.2f} MB "
        f"({n_opening} for {int(n_bytes) / 1e6:.2f} MB to open)"
        if place.startswith("memory")
        else f", {int(n_read) / 1e6:.2f} MB read"
    )
    print(f"row {row} of {n_frames} lights, {place}: {took} ms{travelled} (sum {total})")


def _bytes_of(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def _print(name: str, took: Timing) -> None:
    print(
        f"{name:20} {took.seconds:7.2f} s, cpu {took.cpu_seconds:7.2f} s, "
        f"{took.peak_mib:6.0f} MiB at most",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
