"""``python -m benchmarks.cache``: a night from FITS, from zarr, and compressed, side by side.

Whole processes in turns, as in the rest of the suite: wall time, CPU time, peak memory. What a
cache is worth depends on what it replaces, so each job is timed on plain FITS, on gzip, and on the
cache. All reductions must write the same tables and images.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from arrayred.io import write_frames
from arrayred.simulate import Detector, SimulatedNight
from benchmarks.process import Timing, timed

_ROW = """
import sys, arrayred as ar
night = ar.open_night(sys.argv[1])
print(sum(int(night[name].counts.sel(y=500).values.sum()) for name in night))
"""
_ROW_BY_XARRAY = """
import sys, xarray as xr
tree = xr.open_datatree(sys.argv[1], engine="zarr", chunks=None)
print(sum(int(node.counts.sel(y=500).values.sum()) for node in tree.leaves))
"""
_FRAME = """
import sys, arrayred as ar
night = ar.open_night(sys.argv[1])
print(int(night[next(iter(night))].counts.isel(frame=7).values.sum()))
"""
_ARRAYRED = (sys.executable, "-m", "arrayred")
_KINDS = {"fits": "plain FITS", "gzip": "gzip", "zarr": "cache"}


def main() -> int:
    """Measure and print; return 1 if two reductions differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100, help="half of them darks")
    parser.add_argument("--shape", type=int, nargs=2, default=(1024, 1024))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="arrayred-benchmarks-") as temporary:
        folder = Path(temporary)
        _make(folder, options.frames, (options.shape[0], options.shape[1]))
        built = timed(_cache(folder), folder)
        sizes = {kind: _bytes_of(folder / kind) for kind in _KINDS}
        jobs = _jobs(folder)
        taken: dict[str, list[Timing]] = {name: [] for name in jobs}
        for _ in range(options.rounds):
            for name, command in jobs.items():
                shutil.rmtree(folder / "out", ignore_errors=True)
                taken[name].append(timed(command, folder))
                _require_same(folder, name)
    for kind, n_bytes in sizes.items():
        print(f"{_KINDS[kind]}: {n_bytes / 1e6:.1f} MB, {n_bytes / sizes['fits']:.3f} of FITS")
    print(_line("build the cache", [built]))
    for name, timings in taken.items():
        print(_line(name, timings))
    return 0


def _make(folder: Path, n_frames: int, shape: tuple[int, int]) -> None:
    """Write a night as plain FITS, and gzipped."""
    n_darks = n_frames // 2
    night = SimulatedNight(Detector(shape=shape), n_darks=n_darks, n_lights=n_frames - n_darks)
    write_frames(night.frames(), folder / "fits")
    (folder / "gzip").mkdir()
    for path in (folder / "fits").iterdir():
        packed = gzip.compress(path.read_bytes(), compresslevel=6)
        (folder / "gzip" / f"{path.name}.gz").write_bytes(packed)


def _cache(folder: Path) -> tuple[str, ...]:
    return (*_ARRAYRED, "cache", str(folder / "fits"), "--to", str(folder / "zarr"))


def _jobs(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return what is timed, in turns; the library is filled by the first run that uses it."""
    python, library = (sys.executable, "-c"), ("--cache-dir", str(folder / "library"))
    places = {kind: str(folder / kind) for kind in _KINDS}
    tail = ("-o", str(folder / "out"), "--allow-missing", "--no-figures", "-q")
    reduce = (*_ARRAYRED, "reduce")
    jobs = {
        "reduce plain FITS": (*reduce, places["fits"], *tail),
        "reduce the cache": (*reduce, places["zarr"], *tail),
        "reduce gzip without cache": (*reduce, places["gzip"], *tail, "--no-cache"),
        "reduce gzip with its cache": (*reduce, places["gzip"], *tail, *library),
    }
    for kind, what in _KINDS.items():
        jobs[f"one row of all frames, {what}"] = (*python, _ROW, places[kind])
    jobs["one row of all frames, cache, xarray alone"] = (*python, _ROW_BY_XARRAY, places["zarr"])
    for kind, what in _KINDS.items():
        jobs[f"one frame, {what}"] = (*python, _FRAME, places[kind])
    return jobs


def _require_same(folder: Path, name: str) -> None:
    """Raise RuntimeError if a reduction wrote other tables than the first one."""
    tables = {p.name: p.read_bytes() for p in sorted((folder / "out").rglob("*.txt"))}
    known = folder / "tables"
    if not tables:
        return
    if not known.exists():
        known.mkdir()
        for table, content in tables.items():
            (known / table).write_bytes(content)
    if tables != {path.name: path.read_bytes() for path in sorted(known.iterdir())}:
        raise RuntimeError(f"{name}: other tables than from plain FITS")


def _bytes_of(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def _line(name: str, timings: list[Timing]) -> str:
    """Return the first run and the median of the later ones, as a line."""
    later = timings[1:] or timings
    seconds, cpu = (statistics.median(getattr(t, f) for t in later) for f in _FIELDS)
    peak = max(timing.peak_mib for timing in timings)
    first = timings[0].seconds
    return f"{name:44} {seconds:7.2f} s  (first {first:6.2f})  cpu {cpu:6.2f} s  {peak:6.0f} MiB"


_FIELDS = ("seconds", "cpu_seconds")

if __name__ == "__main__":
    sys.exit(main())
