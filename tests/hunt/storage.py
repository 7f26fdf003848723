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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

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
_RANDOM_MOMENTS = 8
"""Of so many runs one is a process of its own, killed at a random moment, which costs seconds."""
_BLOWS = 5
"""The same output folder is struck so often, until a run is left alone."""


def hunt_kills(hunt: Hunt) -> None:
    """Kill runs at random calls that change a file, and at random moments; then complete them."""
    rng = random.Random(hunt.seed)
    todo = tasks(hunt.folder)
    n_calls = {task.name: _count(task, hunt.folder, "change") for task in todo}
    seconds: dict[str, float] = {}

    def kill(struck: _Struck) -> _Blow:
        task, out = struck.task, struck.out
        if rng.random() < 1 / _RANDOM_MOMENTS:
            what, case = "random moment", _kill_at_random(task, out, struck.said, rng, seconds)
        else:
            what, nth = "file operation", struck.nth(n_calls[task.name], rng)
            strike = shim.Strike("change", nth, shim.KILL, False, out)
            case = {"nth": nth, "exit": struck.run(strike)}
        if case["exit"]:
            return _Blow(f"kills at a {what}", "killed", case, (-signal.SIGKILL,))
        return _Blow("runs that ended before the kill", "ended before", case, (0,))

    _strike_again_and_again(hunt, todo, rng, kill)


def hunt_errors(hunt: Hunt) -> None:
    """Let random calls of an operation fail, once or from then on; then complete the runs."""
    rng = random.Random(hunt.seed)
    todo = tasks(hunt.folder)
    n_calls = {
        (task.name, operation): _count(task, hunt.folder, operation)
        for task in todo
        for operation in ERRORS
    }

    def fail(struck: _Struck) -> _Blow:
        task = struck.task
        operation = rng.choice([one for one in sorted(ERRORS) if n_calls[task.name, one]])
        name, is_lasting = rng.choice(ERRORS[operation]), rng.random() < 0.5
        nth = struck.nth(n_calls[task.name, operation], rng)
        where = _struck_folder(hunt.folder, struck.out, operation)
        strike = shim.Strike(operation, nth, getattr(errno, name), is_lasting, where)
        code = struck.run(strike)
        case = {"operation": operation, "errno": name, "nth": nth, "lasting": is_lasting}
        is_hit = struck.n_calls() >= nth
        what = f"{operation} errors" if is_hit else "runs that ended before the error"
        return _Blow(what, f"exit {code}", {**case, "exit": code}, _REFUSALS if is_hit else (0,))

    _strike_again_and_again(hunt, todo, rng, fail)


class _Blow(NamedTuple):
    """What was done to a run, how it ended, what repeats it, and the exit codes that are right."""

    what: str
    outcome: str
    case: dict[str, Any]
    allowed: Sequence[int]


@dataclass
class _Struck:
    """A task in an output folder that is struck several times.

    Parameters
    ----------
    task : that is done.
    out, said : the output folder, and the file of what is printed.
    blows : what was done so far.
    """

    task: Task
    out: Path
    said: Path
    blows: list[dict[str, Any]] = field(default_factory=list)

    def nth(self, n_calls: int, rng: random.Random) -> int:
        """Return a random call: after the first blow an early one, since less is left to do."""
        return rng.randint(1, max(n_calls // (3 if self.blows else 1), 1))

    def run(self, strike: shim.Strike) -> int:
        """Run the task, struck, and return its exit code."""
        told = self.said.with_name("calls")
        return self.task.run(
            self.out,
            self.said,
            lambda: shim.arm(strike),
            lambda: told.write_text(str(shim.calls())),
        )

    def n_calls(self) -> int:
        """Return how many calls the last run made of the operation that was struck."""
        return int(self.said.with_name("calls").read_text())


def _strike_again_and_again(
    hunt: Hunt, todo: list[Task], rng: random.Random, strike: Callable[[_Struck], _Blow]
) -> None:
    """Strike tasks some times each, until one ends well; then let it run, and compare."""
    struck: _Struck | None = None
    for _ in hunt.trials():
        if struck is None:
            out = hunt.folder / "out"
            out.mkdir()
            struck = _Struck(rng.choice(todo), out, hunt.folder / "said")
        blow = strike(struck)
        struck.blows.append(blow.case)
        kept = Path(shutil.copy(struck.said, struck.said.with_name("said-first")))
        text = struck.said.read_text(errors="replace")
        code = blow.case["exit"]
        faults = faults_of(struck.task, struck.out, code, text, allowed=blow.allowed)
        if blow.what.startswith("unlink"):  # what cannot be removed stays, until the next run
            faults = [fault for fault in faults if not fault.startswith("temporary files")]
        is_last = faults or code == 0 or len(struck.blows) == _BLOWS
        if is_last:
            faults += faults_after(struck.task, struck.out, struck.said)
        case = {"task": struck.task.name, "blows": struck.blows}
        hunt.report(blow.what, blow.outcome, faults, case, kept)
        if is_last:
            shutil.rmtree(struck.out)
            struck = None


def _kill_at_random(
    task: Task, out: Path, said: Path, rng: random.Random, seconds: dict[str, float]
) -> dict[str, Any]:
    """Start a process of its own, and kill it and its children at a random moment."""
    jobs = rng.choice((1, 2)) if task.name == "four nights" else 1
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
    return {"jobs": jobs, "seconds": moment, "exit": process.returncode}


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
