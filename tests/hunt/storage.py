"""Kills and storage errors at any call: nothing false stays, and the next run completes it."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.hunt import shim
from tests.hunt.findings import Hunt
from tests.hunt.work import Task, faults_after, faults_of, tasks

ROOT = Path(__file__).parents[2]
ERRORS = {
    "open": ("ENOSPC", "EACCES", "EMFILE", "EIO", "EDQUOT"),
    "read": ("EIO", "ESTALE"),
    "write": ("ENOSPC", "EIO", "EDQUOT"),
    "fsync": ("ENOSPC", "EIO", "EDQUOT"),
    "rename": ("ENOSPC", "EACCES", "EIO"),
    "mkdir": ("ENOSPC", "EACCES", "EDQUOT"),
    "unlink": ("EACCES", "EIO"),
}
_REFUSALS = (0, 3, 4, 5, 6, 7)
_RANDOM_MOMENTS = 6
"""Of so many kills one hits a process of its own at a random moment, which costs seconds."""


def hunt_kills(hunt: Hunt) -> None:
    """Kill runs at random calls that change a file, and at random moments."""
    rng = random.Random(hunt.seed)
    todo = tasks(hunt.folder)
    n_calls = {task.name: _count(task, hunt.folder, "change") for task in todo}
    seconds: dict[str, float] = {}
    for number in hunt.trials():
        task = rng.choice(todo)
        out, said = _place(hunt)
        if number % _RANDOM_MOMENTS == _RANDOM_MOMENTS - 1:
            what, case = "kills at a random moment", _kill_at_random(task, out, said, rng, seconds)
            code = -signal.SIGKILL
        else:
            what, nth = "kills at a file operation", rng.randint(1, n_calls[task.name])
            strike = shim.Strike("change", nth, shim.KILL, False, out)
            code = task.run(out, said, lambda strike=strike: shim.arm(strike))
            case = {"task": task.name, "nth": nth}
        text = said.read_text(errors="replace")
        faults = faults_of(task, out, code, text, allowed=(-signal.SIGKILL, 0))
        faults += faults_after(task, out, said)
        hunt.report(what, "killed" if code else "ended before", faults, case, said)
        shutil.rmtree(out)


def _kill_at_random(
    task: Task, out: Path, said: Path, rng: random.Random, seconds: dict[str, float]
) -> dict[str, object]:
    """Start a process of its own, and kill it and its children at a random moment."""
    jobs = rng.choice((1, 2)) if task.name == "two nights" else 1
    command = [sys.executable, "-m", "arrayred", *task.command(out)]
    command += ["--jobs", str(jobs)] if jobs > 1 else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(out / ".cache")}
    moment = rng.uniform(0.3, 1) * seconds.get(task.name, 4.0)
    with said.open("wb") as output:
        begun = time.monotonic()
        process = subprocess.Popen(
            command, cwd=out.parent, env=environment, stdout=output, stderr=output
        )
        try:
            process.wait(moment)
            seconds[task.name] = time.monotonic() - begun
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return {"task": task.name, "jobs": jobs, "seconds": moment}


def hunt_errors(hunt: Hunt) -> None:
    """Let random calls of an operation fail, once or from then on."""
    rng = random.Random(hunt.seed)
    todo = tasks(hunt.folder)
    n_calls: dict[tuple[str, str], int] = {}
    for _ in hunt.trials():
        task, operation = rng.choice(todo), rng.choice(sorted(ERRORS))
        key = task.name, operation
        if key not in n_calls:
            n_calls[key] = _count(task, hunt.folder, operation)
        if not n_calls[key]:
            continue
        out, said = _place(hunt)
        name, nth, lasting = (
            rng.choice(ERRORS[operation]),
            rng.randint(1, n_calls[key]),
            rng.random() < 0.5,
        )
        where = _struck_folder(hunt.folder, out, operation)
        strike = shim.Strike(operation, nth, getattr(errno, name), lasting, where)
        code = task.run(out, said, lambda strike=strike: shim.arm(strike))
        text = said.read_text(errors="replace")
        kept = said.with_name("said-first")
        shutil.copy(said, kept)
        faults = faults_of(task, out, code, text, allowed=_REFUSALS)
        faults += faults_after(task, out, said)
        case = {"task": task.name, "operation": operation, "errno": name, "nth": nth}
        hunt.report(
            f"{operation} errors", f"exit {code}", faults, {**case, "lasting": lasting}, kept
        )
        shutil.rmtree(out)


def _struck_folder(folder: Path, out: Path, operation: str) -> Path:
    """Return the folder below which calls are struck: reading fails for the frames, too."""
    return folder if operation == "read" else out


def _count(task: Task, folder: Path, operation: str) -> int:
    """Return how many calls of an operation a task makes undisturbed."""
    out, told = folder / "counted", folder / "calls"
    out.mkdir()
    strike = shim.Strike(operation, 0, 0, False, _struck_folder(folder, out, operation))
    task.run(
        out,
        folder / "said",
        lambda: shim.arm(strike),
        lambda: told.write_text(str(shim.calls())),
    )
    shutil.rmtree(out)
    return int(told.read_text())


def _place(hunt: Hunt) -> tuple[Path, Path]:
    out = hunt.folder / "out"
    out.mkdir()
    return out, hunt.folder / "said"
