"""``python -m benchmarks.user_code --night DIR``: what a user writes for one night, in two ways.

Two scripts make the same table, flux and variance per pixel, from the raw frames of one star: one
with arrayred, one with ccdproc and specreduce. Each runs in a process of its own, in turns, imports
included. Simulated nights show whether flux and variance are right; the published night, whose
frames are not part of the project, is reduced if its folder is given. `--publish` writes both
scripts, their cost and their results into docs/comparison.md.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.table import Table
from numpy.typing import NDArray

from arrayred.io import write_frames
from arrayred.simulate import Detector, SimulatedNight, Star
from benchmarks.contenders import RIVALS
from benchmarks.process import timed
from benchmarks.publish import ROOT, between_markers
from benchmarks.results import machine
from benchmarks.tables import machine_line, table

PAGE = Path("docs/comparison.md")
OURS, THEIRS = "arrayred", "ccdproc + specreduce"
SCRIPTS = {
    OURS: RIVALS / "spectrum_with_arrayred.py",
    THEIRS: RIVALS / "spectrum_with_specreduce.py",
}
HORNE = "the same, HorneExtract"
PUBLISHED = "published"
_STARS = {"bright star": 120.0, "faint star": 1.0}
"""Flux of the simulated stars; the bright one gives the S/N of the published night."""


@dataclass
class Trial:
    """What a script took for a night, and the spectrum that it wrote.

    Parameters
    ----------
    cpu_seconds, peaks : of each process: seconds of all its threads, MiB.
    flux, variance : of each pixel (x), adu and its square.
    """

    cpu_seconds: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    flux: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    variance: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the scripts, and print or write the page."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="arrayred-user-code-") as temporary:
        folder = Path(temporary)
        nights = {} if options.night is None else {PUBLISHED: options.night.absolute()}
        truth = {}
        for name, flux in _STARS.items():
            nights[name] = folder / name.replace(" ", "-")
            truth[name] = simulate(nights[name], flux)
        trials = {
            name: try_scripts(night, folder, rounds=options.rounds if i == 0 else 1)
            for i, (name, night) in enumerate(nights.items())
        }
    measured = results(trials, truth)
    if options.publish:
        text = (ROOT / PAGE).read_text(encoding="utf-8")
        text = between_markers(text, measured, "measured")
        (ROOT / PAGE).write_text(between_markers(text, code(), "code"), encoding="utf-8")
    else:
        print(measured)
    return 0


def simulate(folder: Path, flux: float) -> NDArray[np.float64]:
    """Write a night like the published one, and return the true flux of each pixel (x), adu."""
    lines = ((300.0, 0.5, 4.0), (700.0, -0.6, 6.0), (1100.0, 0.3, 3.0))
    star = Star(row=500.0, flux=flux, tilt=4.0, seeing=12.8, lines=lines)
    night = SimulatedNight(Detector(shape=(1024, 1536)), star, cosmic_rays=900.0)
    write_frames(night.frames(), folder)
    return np.asarray(night.truth()["flux"].values, np.float64)


def try_scripts(night: Path, folder: Path, *, rounds: int) -> dict[str, Trial]:
    """Run each script on a night, in turns, after one round to warm up if there are several."""
    horne = folder / "horne.py"
    boxcar = SCRIPTS[THEIRS].read_text()
    horne.write_text(boxcar.replace("BoxcarExtract", "HorneExtract").replace(", width=36", ""))
    scripts = SCRIPTS | {HORNE: horne}
    trials = {name: Trial() for name in scripts}
    work = folder / "work"
    for i in range(rounds + (rounds > 1)):
        for name, script in scripts.items():
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            written = work / "spectrum.csv"
            took = timed([sys.executable, str(script), str(night), str(written)], work)
            if i > 0 or rounds == 1:
                trials[name].cpu_seconds.append(took.cpu_seconds)
                trials[name].peaks.append(took.peak_mib)
            spectrum = Table.read(written, format="ascii.csv")
            trials[name].flux = np.asarray(np.ma.filled(spectrum["flux"], np.nan), float)
            trials[name].variance = np.asarray(np.ma.filled(spectrum["variance"], np.nan), float)
            print(f"{night.name}: {name}, {took.cpu_seconds:.1f} s", file=sys.stderr, flush=True)
    return trials


def results(trials: dict[str, dict[str, Trial]], truth: dict[str, NDArray[np.float64]]) -> str:
    """Return the tables of cost and results.

    Parameters
    ----------
    trials : what each script did, by night; seconds are those of the first night.
    truth : true flux (x) of the simulated nights, adu.
    """
    first, timing = next(iter(trials.items()))
    costs = [
        [
            name,
            str(lines_of(script.read_text())),
            f"{statistics.median(timing[name].cpu_seconds):.1f}",
            f"{max(timing[name].peaks):.0f}",
        ]
        for name, script in SCRIPTS.items()
    ]
    rows = [
        [night, name, *_numbers(trial, truth.get(night), by_script[OURS].flux)]
        for night, by_script in trials.items()
        for name, trial in by_script.items()
    ]
    n = len(timing[OURS].cpu_seconds)
    head = ["night", "script", "S/N", "S/N achieved", "flux ratio", "pull: width", "no value"]
    return "\n\n".join(
        [
            f"{machine_line(machine())} Commit {_commit()}. Processor seconds and memory are those "
            f"of the {first} night, median and maximum of {n} runs in turns.",
            table(["", "lines of code", "processor seconds", "peak memory, MiB"], costs),
            table(head, rows),
        ]
    )


def code() -> str:
    """Return both scripts as blocks of a page."""
    return "\n\n".join(
        f"With {name}:\n\n<!-- not run: it is a script -->\n```python\n{path.read_text()}```"
        for name, path in SCRIPTS.items()
    )


def lines_of(script: str) -> int:
    """Return the number of lines of code, without docstring, comments and blank lines."""
    _, _, body = script.split('"""', 2)
    return sum(bool(line.strip()) and not line.startswith("#") for line in body.splitlines())


def _numbers(
    trial: Trial, truth: NDArray[np.float64] | None, ours: NDArray[np.float64]
) -> list[str]:
    """Return S/N, S/N achieved, flux ratio, width of the pulls, and columns without a value.

    All but the last are of the central half of the columns. Without true flux, that of arrayred is
    the standard of the flux ratio.
    """
    n = trial.flux.size
    middle = slice(n // 4, n - n // 4)
    flux, sigma = trial.flux[middle], np.sqrt(trial.variance[middle])
    known = np.isfinite(flux) & (sigma > 0)
    standard = (ours if truth is None else truth)[middle][known]
    flux, sigma = flux[known], sigma[known]
    off = flux - standard
    return [
        f"{np.median(flux / sigma):.1f}",
        "" if truth is None else f"{np.median(standard) / np.std(off):.1f}",
        f"{flux.sum() / standard.sum():.4f}",
        "" if truth is None else f"{np.std(off / sigma):.2f}",
        str(int(np.count_nonzero(~np.isfinite(trial.flux)))),
    ]


def _commit() -> str:
    """Return the commit of the code, and whether it was changed since."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty=, with changes"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return said.stdout.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.user_code", description=__doc__)
    add = parser.add_argument
    add("--night", type=Path, metavar="DIR", help="frames of the published night")
    add("--rounds", type=int, default=3, help="timed processes of each script [3]")
    add("--publish", action="store_true", help=f"write {PAGE}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
