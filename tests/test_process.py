"""A process of arrayred's own keeps its memory; one it is imported into is left alone."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys

import pytest

from arrayred.batch import in_processes

FAULTS = """
import resource, sys
from arrayred.process import make_process_own
if sys.argv[1] == "own":
    make_process_own()
import numpy as np

def use():
    images = [np.ones((1024, 1536)) for _ in range(4)]
    return sum(image[0, 0] for image in images)

use(), use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
IN_A_CALLBACK = """
import os, signal, sys, weakref
{setup}
class Thing: pass

def callback(_):
    os.kill(os.getpid(), signal.{name})
    for _ in range(1000):
        pass

def work(*_, **__):
    thing = Thing()
    reference = weakref.ref(thing, callback)
    try:
        del thing
        for _ in range(100):
            __import__("time").sleep(0.1)
    finally:
        print("taken away", flush=True)

{run}
"""
SETTINGS = "import gc, os; before = gc.get_threshold(), dict(os.environ)"


def run(script: str, *args: str) -> str:
    environment = {name: value for name, value in os.environ.items() if "THREADS" not in name}
    command = [sys.executable, "-c", script, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.strip()


def settings(_: object) -> tuple[tuple[int, int, int], str | None]:
    return gc.get_threshold(), os.environ.get("OPENBLAS_NUM_THREADS")


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_memory_that_was_freed_is_not_asked_for_again() -> None:
    assert int(run(FAULTS, "own")) < 100 < 5000 < int(run(FAULTS, "as it was"))


def test_who_imports_arrayred_keeps_their_settings() -> None:
    use = "import arrayred as ar; ar.open_night, ar.reduce_night"
    told = run(f"{SETTINGS}; {use}; print(before == (gc.get_threshold(), dict(os.environ)))")
    assert told == "True"


def test_what_is_left_at_the_end_is_not_looked_at() -> None:
    last = "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 1000))"
    assert (
        run(f"{last}; from arrayred.process import make_process_own as own; own(); own()") == "True"
    )


def test_a_process_of_a_crew_is_arrayreds_own() -> None:
    ((_, (thresholds, n_threads)),) = in_processes(settings, [0], 1)
    assert thresholds == (100_000, 50, 50)
    assert n_threads == os.environ.get("OPENBLAS_NUM_THREADS", "1")


@pytest.mark.parametrize(("options", "is_shown"), [([], False), (["-W", "default"], True)])
def test_warnings_of_libraries_are_printed_on_request_alone(
    options: list[str], is_shown: bool
) -> None:
    script = (
        "from arrayred.process import make_process_own; make_process_own()\n"
        "import numpy; numpy.float32(3e38) * numpy.float32(10)"
    )
    command = [sys.executable, *options, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ("overflow" in done.stderr) is is_shown
    assert is_shown or not done.stderr


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals of POSIX")
@pytest.mark.parametrize(
    ("name", "setup", "run", "code", "said"),
    [
        (
            name,
            "from arrayred import cli",
            "cli.cli.main = work; cli.main()",
            code,
            f"arrayred: {said}\n",
        )
        for name, code, said in (("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated"))
    ]
    + [
        (
            "SIGTERM",
            "from arrayred.batch import nights; from multiprocessing import Pipe",
            "ours, theirs = Pipe(); ours.send(1); nights._run_worker(theirs, work)",
            143,
            "",
        )
    ],
    ids=["ctrl-c", "terminated", "a worker terminated"],
)
def test_a_signal_ends_a_program_even_where_python_ignores_what_is_raised(
    name: str, setup: str, run: str, code: int, said: str
) -> None:
    program = IN_A_CALLBACK.format(name=name, setup=setup, run=run)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (code, "taken away\n", said)
