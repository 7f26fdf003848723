"""The C library's calls that fail or kill where a hunt wants it: `shim.c`, built once.

Without a compiler nothing can be struck, and the hunts that need it say so.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

KILL = 0
"""The errno that means SIGKILL."""


@dataclass(frozen=True)
class Strike:
    """What happens to which call: the nth `operation` on a file below a folder fails with an errno.

    Parameters
    ----------
    operation : open, read, write, fsync, rename, mkdir, unlink, or change (what changes a file).
    nth : the call, from 1; 0: none.
    errno : of the failure; KILL: the process is killed.
    is_lasting : whether all later calls fail as well.
    folder : beginning of the paths.
    """

    operation: str
    nth: int
    errno: int
    is_lasting: bool
    folder: Path


@cache
def library() -> Path | None:
    """Build the library, or return None where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return None
    built = Path(tempfile.mkdtemp(prefix="hunt-")) / "shim.so"
    source = Path(__file__).with_name("shim.c")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(built), str(source), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return built


def is_loaded() -> bool:
    """Return whether this process runs with the library."""
    return "shim.so" in os.environ.get("LD_PRELOAD", "")


def with_library(command: list[str]) -> int:
    """Run a command with the library loaded, and return its exit code."""
    environment = {**os.environ, "LD_PRELOAD": str(library())}
    return subprocess.run(command, env=environment, check=False).returncode


def arm(strike: Strike) -> None:
    """Arm the library in this process."""
    ctypes.CDLL(None).hunt_arm(
        strike.operation.encode(),
        ctypes.c_long(strike.nth),
        ctypes.c_long(strike.errno),
        ctypes.c_int(strike.is_lasting),
        os.fsencode(strike.folder),
    )


def calls() -> int:
    """Return how many calls there were of the operation that the library was armed for."""
    count: int = ctypes.CDLL(None).hunt_calls()
    return count


def in_fork(work: Callable[[], int], output: Path) -> int:
    """Do work in a fork of this process, its output in a file; return its exit code.

    In the fork all is imported and no thread runs. The exit code of a killed one is -SIGKILL.
    """
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            said = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(said, 1)
            os.dup2(said, 2)
            code = work()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
