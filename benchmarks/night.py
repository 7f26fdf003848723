"""A whole night: ``arrayred reduce`` beside the published procedure as a script of ccdproc calls.

Each runs in a fresh process, in turns, and so does the floor: a process that only imports what
arrayred builds upon. The tables of both programs must agree byte for byte, or nothing is timed.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from arrayred.io import write_frames
from arrayred.simulate import Detector, SimulatedNight
from benchmarks.contenders import RIVALS
from benchmarks.measure import Result, Settings
from benchmarks.process import ContenderError, timed

FLOOR = "import numpy, click, xarray as xr; xr.Dataset({'a': ('x', numpy.zeros(3))})"
TABLES = ("raw_extraction.txt", "skysubtracted.txt")


def measure_night(
    night: Path | None, settings: Settings, folder: Path, *, say: Callable[[str], None] = print
) -> list[Result]:
    """Measure one night.

    Parameters
    ----------
    night : a folder with darks and lights of one exposure; None simulates 5 darks and 3 lights,
        1024 x 1536.
    folder : for what is simulated and written.

    Returns
    -------
    results of the series "night"; the names of its stack and job are those of the night.
    """
    frames = night or simulated(folder / "night")
    work = folder / "night-out"
    commands = _commands(frames, work)
    results = {
        name: Result("night", frames.name, "night", name, group)
        for name, (group, _) in commands.items()
    }
    for i in range(settings.rounds + 1):
        for name, (_, command) in commands.items():
            run_once(results[name], command, work / _place(name), settings, warm=i > 0)
        if i == 0:
            _compare(results, work)
            say(f"{frames.name}: {'; '.join(_verdicts(results)) or 'the tables agree'}")
    shutil.rmtree(work, ignore_errors=True)
    return list(results.values())


def simulated(folder: Path) -> Path:
    """Write the default night."""
    write_frames(SimulatedNight(Detector(shape=(1024, 1536))).frames(), folder)
    return folder


def _commands(night: Path, work: Path) -> dict[str, tuple[str, list[str]]]:
    python, frames = sys.executable, str(night.absolute())
    reduce = [python, "-m", "arrayred", "reduce", frames, "-o", str(work / "arrayred/out")]
    script = [python, str(RIVALS / "night_with_ccdproc.py"), frames, str(work / "ccdproc/out")]
    return {
        "arrayred reduce": ("arrayred", [*reduce, "--reference", "--no-figures", "-q"]),
        "ccdproc script": ("Python", script),
        "floor: imports numpy, click, xarray": ("floor", [python, "-c", FLOOR]),
    }


def _place(name: str) -> str:
    return name.split()[0].rstrip(":")


def run_once(
    result: Result, command: list[str], place: Path, settings: Settings, *, warm: bool
) -> None:
    """Run a command in an empty folder and note what it took, unless it is to warm up."""
    if result.error is not None:
        return
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        took = timed(command, place, settings.limit)
    except ContenderError as error:
        result.error = str(error)
        return
    if warm:
        result.seconds.append(took.seconds)
        result.cpu_seconds.append(took.cpu_seconds)
        result.peak_mib = max(result.peak_mib or 0.0, took.peak_mib)


def _compare(results: dict[str, Result], work: Path) -> None:
    """Note whether the tables of both programs agree byte for byte."""
    both = [results["arrayred reduce"], results["ccdproc script"]]
    if any(result.error for result in both):
        return
    for name in TABLES:
        ours = sorted((work / "arrayred/out").rglob(f"*_{name}"))
        if len(ours) != 1 or ours[0].read_bytes() != (work / "ccdproc/out" / name).read_bytes():
            for result in both:
                result.error = f"the tables {name} differ"
            return
    for result in both:
        result.verdict = "equal"


def _verdicts(results: dict[str, Result]) -> list[str]:
    return [f"{name} FAILED: {result.error}" for name, result in results.items() if result.error]
