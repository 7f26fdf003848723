"""Many nights: ``python -m benchmarks.nights``, beside one ccdproc script a night.

Each night has 5 darks and 3 lights of 1024 x 1536 pixels. A few nights are simulated, each of its
own seed; the others are links to their frames, so that the disk and the simulator do not set the
size of the test: their folders, plans, products and locks are their own. The page cache is warm.

What one more night costs is the difference of two runs over its number, in wall time and in the
time of the processor, which a machine busy otherwise stretches less.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arrayred.io import write_frames
from arrayred.simulate import Detector, SimulatedNight
from benchmarks.contenders import RIVALS
from benchmarks.process import Timing, timed
from benchmarks.publish import publish_section
from benchmarks.results import machine
from benchmarks.tables import machine_line

SHAPE = (1024, 1536)
LIMIT = 7200.0
_TOLD = """Nights of 5 darks and 3 lights of {} x {} pixels, reduced to tables and FITS images, the
page cache warm. *One more* is what a night adds to a run: the difference of two runs over that of
their nights. The ccdproc script is started once a night; it makes the master, the image and the
procedure's tables, without noise, flags, cosmic rays, trace, optimal spectrum and checksums."""


@dataclass(frozen=True)
class Row:
    """What a number of nights took in some way."""

    way: str
    n_nights: int
    took: Timing

    def per_night(self, few: Row | None) -> tuple[float, float]:
        """Return wall and processor seconds of one night, starting left out if a run is given."""
        if few is None or few.n_nights == self.n_nights:
            return self.took.seconds / self.n_nights, self.took.cpu_seconds / self.n_nights
        more, less, n = self.took, few.took, self.n_nights - few.n_nights
        return (more.seconds - less.seconds) / n, (more.cpu_seconds - less.cpu_seconds) / n


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="arrayred-nights-", dir=options.folder) as temporary:
        folder = Path(temporary)
        nights = linked_nights(folder / "nights", options.nights, options.seeds, SHAPE)
        facts = machine()
        print(f"load {facts['load_before']:.1f} on {facts['cores']} processors", file=sys.stderr)
        found = table(measured(nights, folder, options.few, options.rivals))
    print(publish_section("nights", section(facts, found)) if options.publish else found)
    return 0


def section(facts: Mapping[str, Any], found: str) -> str:
    """Return what the page of the benchmarks says: what was measured, where, and the table."""
    where, load = machine_line(facts), facts["load_before"]
    if load > 1:
        where += f" It was busy otherwise (load {load:.0f}): only the processor's seconds count."
    return "\n\n".join(["## Many nights", _TOLD.format(*SHAPE), where, found])


def linked_nights(folder: Path, n_nights: int, n_seeds: int, shape: tuple[int, int]) -> list[Path]:
    """Write nights of some seeds, and fill up with folders of links to their frames."""
    made = [folder / f"night-{i:04d}" for i in range(n_nights)]
    for i, night in enumerate(made):
        if i < n_seeds:
            write_frames(SimulatedNight(Detector(shape=shape), seed=i).frames(), night)
            continue
        night.mkdir(parents=True)
        for path in made[i % n_seeds].iterdir():
            os.link(path, night / path.name)
    return made


def measured(nights: Sequence[Path], folder: Path, few: int, rivals: int) -> Iterator[Row]:
    """Yield what each way took: few nights before all, so that the start can be told apart."""
    out = folder / "out"
    for jobs in (1, 2):
        for some in (nights[:few], nights):
            shutil.rmtree(out, ignore_errors=True)
            yield _reduced(f"reduce, {jobs} at once", some, out, "--jobs", str(jobs))
    for way, options in (
        ("done before, first look", ()),
        ("done before", ()),
        ("done before, --verify", ("--verify",)),
    ):
        yield _reduced(way, nights, out, *options)
    shutil.rmtree(out)
    for some in (nights[: max(few // 5, 1)], nights[:few]):
        shutil.rmtree(out, ignore_errors=True)
        yield _reduced("reduce, with figures", some, out, figures=True)
    shutil.rmtree(out)
    yield _rival(nights[:rivals], folder)


def _reduced(
    way: str, nights: Sequence[Path], out: Path, *options: str, figures: bool = False
) -> Row:
    out.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "arrayred", "reduce", *map(str, nights), "-o", str(out), "-q"]
    command += [*options, *(() if figures else ("--no-figures",))]
    return Row(way, len(nights), timed(command, out.parent, LIMIT))


def _rival(nights: Sequence[Path], folder: Path) -> Row:
    """Return what a script of ccdproc calls takes, started once a night."""
    script = str(RIVALS / "night_with_ccdproc.py")
    took = [
        timed([sys.executable, script, str(night), str(folder / "ccdproc")], folder)
        for night in nights
    ]
    seconds, cpu = sum(t.seconds for t in took), sum(t.cpu_seconds for t in took)
    return Row("ccdproc script", len(took), Timing(seconds, cpu, max(t.peak_mib for t in took)))


def table(rows: Iterator[Row]) -> str:
    """Return the rows as Markdown; a way measured twice tells what one more night costs."""
    lines = ["| | nights | s | nights/s | one more: s | processor s | peak MiB |"]
    lines.append("|---|---|---|---|---|---|---|")
    few: dict[str, Row] = {}
    for row in rows:
        wall, cpu = row.per_night(few.get(row.way))
        few.setdefault(row.way, row)
        took = row.took
        cells = (row.n_nights, f"{took.seconds:.1f}", f"{row.n_nights / took.seconds:.1f}")
        costs = (f"{wall:.4f}", f"{cpu:.4f}", f"{took.peak_mib:.0f}")
        lines.append(f"| {row.way} | {' | '.join(map(str, [*cells, *costs]))} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nights", description=__doc__)
    add = parser.add_argument
    add("--nights", type=int, default=200, help="how many nights [200]")
    add("--few", type=int, default=20, help="the smaller number, to tell the start apart [20]")
    add("--seeds", type=int, default=4, help="nights that are simulated, not linked [4]")
    add("--rivals", type=int, default=5, help="nights that ccdproc gets [5]")
    add("--publish", action="store_true", help="write the table into benchmarks/README.md")
    add("--folder", type=Path, metavar="DIR", help="for frames and products, 6 GB [temporary]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
