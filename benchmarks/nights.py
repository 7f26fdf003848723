"""Many nights and long series: ``python -m benchmarks.nights``, beside a script of ccdproc calls.

Each night has 5 darks and 3 lights of 1024 x 1536 pixels, a long one 5 darks and up to 400 lights
of 512 x 512. Every frame of every night is simulated by a seed of its own: links to the same frames
are hashed once, and told a third too little. The page cache is warm.

What one more night, or light, costs is the difference of two runs over its number, in wall time and
in the time of the processor, which a machine busy otherwise stretches less. Siril, IRAF and others
that combine frames, but reduce no night, are measured by ``python -m benchmarks``.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arrayred.io import write_frames
from arrayred.simulate import Detector, SimulatedNight, Star
from benchmarks.contenders import RIVALS
from benchmarks.process import Timing, timed
from benchmarks.publish import publish_section
from benchmarks.results import machine
from benchmarks.tables import machine_line

SHAPE, LONG_SHAPE = (1024, 1536), (512, 512)
SERIES = (30, 100, 300, 400)
LIMIT = 7200.0
_TOLD = """Nights of 5 darks and 3 lights of {} x {} pixels, each of its own frames, reduced to
tables and FITS images, the page cache warm. *One more* is what a night adds to a run: the
difference of two runs over that of their nights. The ccdproc script is started once a night; it
makes the master, the image and the procedure's tables, without noise, flags, cosmic rays, trace,
optimal spectrum and checksums."""
_TOLD_OF_SERIES = (
    """One night of 5 darks and so many lights of {} x {} pixels; *one more* is a light."""
)


@dataclass(frozen=True)
class Row:
    """What a number of nights, or one night of a number of lights, took in some way."""

    way: str
    n: int
    took: Timing

    def per_one(self, few: Row | None) -> tuple[float, float]:
        """Return wall and processor seconds of one of them, without the start if a run is given."""
        if few is None or few.n == self.n:
            return self.took.seconds / self.n, self.took.cpu_seconds / self.n
        more, less, n = self.took, few.took, self.n - few.n
        return (more.seconds - less.seconds) / n, (more.cpu_seconds - less.cpu_seconds) / n


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="arrayred-nights-", dir=options.folder) as temporary:
        folder = Path(temporary)
        facts = machine()
        print(f"load {facts['load_before']:.1f} on {facts['cores']} processors", file=sys.stderr)
        nights = simulated_nights(folder / "nights", options.nights, SHAPE)
        of_nights = table("nights", of_many(nights, folder, options.few, options.rivals))
        series = [folder / f"series-{n}" for n in options.series]
        for night, n in zip(series, options.series, strict=True):
            simulated_night(night, LONG_SHAPE, n_lights=n)
        of_series = table("lights", of_long(dict(zip(options.series, series, strict=True)), folder))
    page = section(facts, of_nights, of_series)
    print(publish_section("nights", page) if options.publish else page)
    return 0


def section(facts: Mapping[str, Any], of_nights: str, of_series: str) -> str:
    """Return what the page of the benchmarks says: what was measured, where, and the tables."""
    where, load = machine_line(facts), facts["load_before"]
    if load > 1:
        where += f" It was busy otherwise (load {load:.0f}): only the processor's seconds count."
    parts = ["## Many nights", _TOLD.format(*SHAPE), where, of_nights]
    parts += ["## Long series", _TOLD_OF_SERIES.format(*LONG_SHAPE), of_series]
    return "\n\n".join(parts)


def simulated_nights(folder: Path, n_nights: int, shape: tuple[int, int]) -> list[Path]:
    """Write nights, each of another seed."""
    made = [folder / f"night-{i:04d}" for i in range(n_nights)]
    for seed, night in enumerate(made):
        simulated_night(night, shape, seed=seed)
    return made


def simulated_night(
    night: Path, shape: tuple[int, int], *, n_lights: int = 3, seed: int = 0
) -> None:
    """Write the frames of a night."""
    star = Star(row=shape[0] / 2)
    write_frames(
        SimulatedNight(Detector(shape=shape), star, n_lights=n_lights, seed=seed).frames(), night
    )


def of_many(nights: Sequence[Path], folder: Path, few: int, rivals: int) -> Iterator[Row]:
    """Yield what each way took: few nights before all, so that the start can be told apart."""
    out = folder / "out"
    for way, options in (
        ("reduce, with figures", ()),
        ("reduce", ("--no-figures",)),
        ("reduce, 2 at once", ("--no-figures", "--jobs", "2")),
    ):
        for some in (nights[:few], nights):
            shutil.rmtree(out, ignore_errors=True)
            yield Row(way, len(some), _reduced(some, out, *options))
    for way, options in (
        ("done before, first look", ()),
        ("done before", ()),
        ("done before, --verify", ("--verify",)),
    ):
        yield Row(way, len(nights), _reduced(nights, out, "--no-figures", *options))
    shutil.rmtree(out)
    yield Row("ccdproc script", min(rivals, len(nights)), _rival(nights[:rivals], folder))


def of_long(series: Mapping[int, Path], folder: Path) -> Iterator[Row]:
    """Yield what nights of a number of lights take in each way."""
    out = folder / "out"
    for n, night in series.items():
        for way, options in (("reduce, with figures", ()), ("reduce", ("--no-figures",))):
            yield Row(way, n, _reduced([night], out, *options))
            shutil.rmtree(out)
        yield Row("ccdproc script", n, _rival([night], folder))


def _reduced(nights: Sequence[Path], out: Path, *options: str) -> Timing:
    out.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "arrayred", "reduce", *map(str, nights), "-o", str(out), "-q"]
    return timed([*command, *options], out.parent, LIMIT)


def _rival(nights: Sequence[Path], folder: Path) -> Timing:
    """Return what a script of ccdproc calls takes, started once a night."""
    script = str(RIVALS / "night_with_ccdproc.py")
    took = [
        timed([sys.executable, script, str(night), str(folder / "ccdproc")], folder)
        for night in nights
    ]
    seconds, cpu = sum(t.seconds for t in took), sum(t.cpu_seconds for t in took)
    return Timing(seconds, cpu, max(t.peak_mib for t in took))


def table(of: str, rows: Iterable[Row]) -> str:
    """Return the rows as Markdown; a way measured twice tells what one more costs."""
    lines = [f"| | {of} | s | one more: s | processor s | peak MiB |", "|---|---|---|---|---|---|"]
    first: dict[str, Row] = {}
    for row in rows:
        wall, cpu = row.per_one(first.setdefault(row.way, row))
        cells = (row.n, f"{row.took.seconds:.1f}", f"{wall:.4f}", f"{cpu:.4f}")
        lines.append(f"| {row.way} | {' | '.join(map(str, cells))} | {row.took.peak_mib:.0f} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nights", description=__doc__)
    add = parser.add_argument
    add("--nights", type=int, default=40, help="how many nights [40]")
    add("--few", type=int, default=5, help="the smaller number, to tell the start apart [5]")
    add("--series", type=int, nargs="*", default=SERIES, help="lights of long nights [30 to 400]")
    add("--rivals", type=int, default=5, help="nights that ccdproc gets [5]")
    add("--publish", action="store_true", help="write the table into benchmarks/README.md")
    add("--folder", type=Path, metavar="DIR", help="for frames and products, 4 GB [temporary]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
