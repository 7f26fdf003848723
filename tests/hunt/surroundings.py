"""Odd surroundings: environment, streams, limits, clocks, folders and names.

A run in them makes the products it makes elsewhere, or refuses by name.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from tests.hunt import shim
from tests.hunt.findings import Hunt
from tests.hunt.work import Task, faults_of, tasks

ROOT = Path(__file__).parents[2]
_REFUSALS = (0, 3, 4, 5, 7)


@dataclass(frozen=True)
class Oddity:
    """One odd thing about the surroundings of a run.

    Parameters
    ----------
    name : of it.
    environment : variables that are set; None: unset.
    shell : commands before the run.
    streams : redirections of the run.
    out : name of the output folder.
    """

    name: str
    environment: dict[str, str | None] = field(default_factory=dict)
    shell: str = ""
    streams: str = ""
    out: str = "out"


ODDITIES = [
    *(
        Oddity(f"{name}={value}", {name: value})
        for name, value in [
            *(("LC_ALL", "C"), ("LC_ALL", "POSIX"), ("LC_ALL", "tr_TR.UTF-8"), ("LANG", "xx")),
            *(("PYTHONUTF8", "0"), ("PYTHONOPTIMIZE", "2"), ("PYTHONHASHSEED", "7")),
            *(("PYTHONUNBUFFERED", "1"), ("PYTHONWARNINGS", "error"), ("PYTHONSAFEPATH", "1")),
            *(("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONIOENCODING", "ascii:strict")),
            *(
                ("TERM", "dumb"),
                ("TERM", ""),
                ("COLUMNS", "1"),
                ("COLUMNS", "0"),
                ("NO_COLOR", "1"),
            ),
            *(("FORCE_COLOR", "1"), ("TZ", "Pacific/Kiritimati"), ("TZ", "nonsense")),
            *(("TMPDIR", "/nowhere"), ("HOME", "/nowhere"), ("XDG_CACHE_HOME", "/proc")),
            *(("HOME", ""), ("OMP_NUM_THREADS", "1"), ("OPENBLAS_NUM_THREADS", "4")),
            *(("DASK_SCHEDULER", "processes"), ("DASK_NUM_WORKERS", "1"), ("MPLBACKEND", "TkAgg")),
            *(
                ("MPLCONFIGDIR", "/nowhere"),
                ("HUNT_CLOCK", "-900000000"),
                ("HUNT_CLOCK", "9999999"),
            ),
            ("HUNT_CLOCK", "-1800000000"),
        ]
    ),
    Oddity("no environment", dict.fromkeys(("HOME", "LANG", "LC_ALL", "TERM", "USER", "PWD"))),
    *(Oddity(f"umask {mask}", shell=f"umask {mask}") for mask in ("000", "027", "077", "0777")),
    *(Oddity(f"ulimit {what}", shell=f"ulimit {what}") for what in ("-n 16", "-n 40", "-f 20")),
    *(Oddity(f"ulimit {what}", shell=f"ulimit {what}") for what in ("-v 900000", "-s 512", "-c 0")),
    *(
        Oddity(f"streams {streams}", streams=streams)
        for streams in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", "| true")
    ),
    Oddity("a folder that is gone", shell='mkdir gone && cd gone && rmdir "$PWD"'),
    Oddity("a folder that nobody may read", shell="mkdir shut && cd shut && chmod 000 ."),
    *(
        Oddity(f"output {name!r}", out=name)
        for name in (
            "Véga",
            "a b",
            "-o",
            "x" * 200,
            "new\nline",
            "'quoted'",
            "$HOME",
            "глаз",
            "a:b",
        )
    ),
    Oddity("output behind a link", shell='mkdir -p real && ln -sfn real "$OUT"'),
    Oddity("an output that is a file", shell='touch "$OUT"'),
    Oddity("an output that none may write", shell='mkdir -p "$OUT" && chmod 555 "$OUT"'),
]


def hunt_surroundings(hunt: Hunt) -> None:
    """Run tasks in one to three odd surroundings at once; first in each alone."""
    rng = random.Random(hunt.seed)
    todo = [task for task in tasks(hunt.folder) if task.name != "figures"]
    for number in hunt.trials():
        alone = number < len(ODDITIES)
        odd = [ODDITIES[number]] if alone else rng.sample(ODDITIES, rng.randint(2, 3))
        task = todo[number % len(todo)]
        place = hunt.folder / "place"
        place.mkdir()
        names = [one.out for one in odd if one.out != "out"]
        out = place / (names[0] if names else "out")
        code, said = run_in(odd, task, place, out)
        faults = faults_of(task, out, code, said, allowed=_REFUSALS)
        if any("2>" in one.streams for one in odd):
            faults = [fault for fault in faults if fault != "no error line"]
        (hunt.folder / "said").write_text(said)
        case = {"task": task.name, "surroundings": [one.name for one in odd]}
        hunt.report("surroundings", f"exit {code}", faults, case, hunt.folder / "said")
        subprocess.run(["chmod", "-R", "u+rwx", str(place)], check=True)
        shutil.rmtree(place)


def run_in(odd: list[Oddity], task: Task, place: Path, out: Path) -> tuple[int, str]:
    """Run a task in odd surroundings, and return its exit code and what it printed."""
    environment: dict[str, str] = {**os.environ, "PYTHONPATH": str(ROOT), "OUT": str(out)}
    environment["XDG_CACHE_HOME"] = str(place / "cache")
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # a limit on files would cut it, for later runs
    if library := shim.library():
        environment["LD_PRELOAD"] = str(library)
    for one in odd:
        for name, value in one.environment.items():
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = value
    arguments = [sys.executable, "-m", "arrayred", *task.command(out)]
    streams = " ".join(dict.fromkeys(one.streams for one in odd))
    script = "\n".join([*(one.shell for one in odd), f'"$@" {streams}', "exit ${PIPESTATUS[0]}"])
    done = subprocess.run(
        ["bash", "-c", script, "hunt", *arguments],
        cwd=place,
        env=environment,
        capture_output=True,
        check=False,
    )
    said = (done.stdout + done.stderr).decode(errors="replace")
    return done.returncode, said
