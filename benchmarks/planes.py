"""What noise and flags cost: the same work with and without them, in fresh processes, in turns.

There is no switch that leaves them out. Of a stack the steps are called one by one; of a night they
are taken out of the program before it starts.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.contenders import RIVALS
from benchmarks.frames import Stack
from benchmarks.measure import Result, Settings
from benchmarks.night import run_once, simulated

METHODS = ("image", "image+flags", "image+flags+noise", "frames", "frames+flags+noise")
_WITHOUT, _WITH = "reduce without noise and flags", "reduce"


def measure_planes(
    stacks: list[Stack],
    night: Path | None,
    settings: Settings,
    folder: Path,
    *,
    say: Callable[[str], None] = print,
) -> list[Result]:
    """Measure stacks, whose frames are there, and one night.

    Parameters
    ----------
    night : a folder with darks and lights of one exposure; None simulates one.
    folder : for what is simulated and written.

    Returns
    -------
    results of the series "planes", jobs "steps" and "night".
    """
    results = []
    for stack in stacks:
        results += _in_turns(stack.name, "steps", _steps(stack), settings, folder)
        say(f"{stack.name}: noise and flags measured")
    frames = night or simulated(folder / "night")
    return results + _in_turns(frames.name, "night", _reductions(frames), settings, folder)


def _in_turns(
    name: str, job: str, commands: dict[str, list[str]], settings: Settings, folder: Path
) -> list[Result]:
    place = folder / "planes-out"
    results = {what: Result("planes", name, job, what, "arrayred") for what in commands}
    for i in range(settings.rounds + 1):
        for what, command in commands.items():
            run_once(results[what], command, place, settings, warm=i > 0)
    shutil.rmtree(place, ignore_errors=True)
    return list(results.values())


def _steps(stack: Stack) -> dict[str, list[str]]:
    script = [sys.executable, str(RIVALS / "planes_with_arrayred.py")]
    files = [str(stack.master.absolute()), "1", *(str(path.absolute()) for path in stack.files)]
    return {method: [*script, method, "out.fits", *files] for method in METHODS}


def _reductions(night: Path) -> dict[str, list[str]]:
    words = ["reduce", str(night.absolute()), "-o", "out", "--no-figures", "-q"]
    without = [sys.executable, str(RIVALS / "night_without_planes.py"), *words]
    return {_WITHOUT: without, _WITH: [sys.executable, "-m", "arrayred", *words]}
