"""Commands in processes of their own that cost no imports: forks of one that has imported all.

What a new interpreter does before its command line is claimed by other tests; here a process is
needed for its terminal, its signals or its end.
"""

from __future__ import annotations

import importlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.reduction
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from arrayred.cli import main

T = TypeVar("T")
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "pytest",
        "arrayred.cli.reduce",
        "arrayred.cli.commands",
        "arrayred.batch",
        "arrayred.report.run",
        "arrayred.pipeline",
        "arrayred.io.cube",
        "arrayred.io.products",
        "astropy.io.fits",
        "dask.array",
        "rich.progress",
        "rich.table",
    ]
)


class _Handed:
    """A file descriptor that another process gets a copy of."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[object, ...]:
        return _received, (multiprocessing.reduction.DupFd(self.number),)  # type: ignore[attr-defined]


def _received(copy: multiprocessing.reduction.DupFd) -> int:  # type: ignore[name-defined]
    return int(copy.detach())


def start(
    args: Sequence[str],
    streams: Sequence[int],
    cwd: Path,
    env: Mapping[str, str],
    patches: Mapping[str, object] = MappingProxyType({}),
) -> multiprocessing.process.BaseProcess:
    """Start a command line, its standard streams being copies of three descriptors.

    Patches are values by the names of what they stand for there.
    """
    handed = [_Handed(number) for number in streams]
    given = (list(args), handed, str(cwd), dict(env), dict(patches))
    process = _FORKS.Process(target=_command, args=given)
    process.start()
    return process


def run(
    *args: object,
    cwd: Path,
    timeout: float = 120.0,
    patches: Mapping[str, object] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    """Run a command line to its end, and return what it said."""
    words = [str(arg) for arg in args]
    with (
        open(os.devnull, "rb") as nothing,
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):
        streams = [nothing.fileno(), out.fileno(), err.fileno()]
        process = start(words, streams, cwd, os.environ, patches)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, timeout)
        said = [file.read() for file in (out, err) if file.seek(0) == 0]
    return subprocess.CompletedProcess(words, int(process.exitcode), *said)


class Interrupting:
    """A function of `os` that raises a signal in its process the so-manieth time it is called."""

    def __init__(self, name: str, moment: int, number: signal.Signals) -> None:
        self.name, self.left, self.number = name, moment, number
        self.step = getattr(os, name)

    def __reduce__(self) -> tuple[object, ...]:
        """Return how it is made in the other process, of the function as it is there."""
        return Interrupting, (self.name, self.left, self.number)

    def __call__(self, *args: object) -> object:
        self.left -= 1
        if not self.left:
            signal.raise_signal(self.number)
        return self.step(*args)


def begin(function: Callable[..., object], *args: object) -> multiprocessing.process.BaseProcess:
    """Start a function of a module in a fork; what it prints is not caught."""
    process = _FORKS.Process(target=function, args=args)
    process.start()
    return process


def result(function: Callable[..., T], *args: object) -> T:
    """Return what a function of a module returns in a fork, or raise `EOFError` if it fails."""
    ours, theirs = _FORKS.Pipe(duplex=False)
    process = begin(_answer, theirs, function, args)
    theirs.close()
    with ours:
        answer: T = ours.recv()
    process.join()
    return answer


def _answer(
    to: multiprocessing.connection.Connection, function: Callable[..., object], args: object
) -> None:
    to.send(function(*args))  # type: ignore[misc]


def _command(
    args: list[str], streams: list[int], cwd: str, env: dict[str, str], patches: dict[str, object]
) -> None:
    for standard, number in enumerate(streams):
        os.dup2(number, standard)
        os.close(number)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(i, "r" if i == 0 else "w") for i in range(3))
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["arrayred", *args]
    for name, value in patches.items():
        module, _, attribute = name.rpartition(".")
        setattr(importlib.import_module(module), attribute, value)
    main()
