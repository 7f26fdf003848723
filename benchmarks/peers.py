"""All contenders: `contenders()`, in the order of the tables."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache

from benchmarks.contenders import Contender, Floor, Script, Task
from benchmarks.programs import Cpl, Gnuastro, Iraf, Siril

_TIES = "it compares squares, and a value on the limit may fall on its other side"
_SINGLE = "its float32 arithmetic puts some values on the other side of the limit"
_OPTIONS = {
    "median": ["--method", "median"],
    "mean": ["--method", "average"],
    "clip": ["--method", "clip", "--n-sigma", "3", "--iterations", "1"],
    "clip-all": ["--method", "clip", "--n-sigma", "3", "--iterations", "1000"],
}


class Command(Contender):
    """``arrayred combine``, as a user types it.

    Parameters
    ----------
    threads : how many; None leaves that to the command.
    """

    def __init__(self, threads: int | None = None) -> None:
        super().__init__(f"arrayred combine{_with(threads)}", "arrayred", "pip install .")
        self.threads = threads

    def missing(self) -> str | None:
        """Return the command if this arrayred has none."""
        return None if importlib.util.find_spec("arrayred.cli.combine") else "arrayred combine"

    def version(self) -> str:
        """Return arrayred's version."""
        import arrayred

        return f"arrayred {arrayred.__version__}"

    def command(self, task: Task) -> list[str]:
        """Return ``arrayred combine FILE... -o OUT --method METHOD``."""
        options = [*_OPTIONS[task.job.method], "--quiet"]
        if task.master:
            options += ["--minus", task.master]
        if self.threads:
            options += ["--threads", str(self.threads)]
        start = [sys.executable, "-m", "arrayred", "combine"]
        return [*start, *task.files, "-o", str(task.out), *options]

    def base(self) -> list[str]:
        """Return a command that imports what the command does, and stops."""
        return [sys.executable, "-c", "import numpy, arrayred.cli, arrayred.combine_files"]


class InPython(Script):
    """arrayred's reader, kernels and visitor, called from Python.

    Parameters
    ----------
    threads : how many; None takes two.
    """

    def __init__(self, threads: int | None = None) -> None:
        name = f"arrayred in Python{_with(threads)}"
        super().__init__(name, "arrayred", "with_arrayred.py", packages=("arrayred",))
        self.threads = threads or 2

    def session(self, task: Task, repeat: int) -> list[str]:
        """Return the script's command with the number of threads in its environment."""
        return ["env", f"THREADS={self.threads}", *super().session(task, repeat)]


@cache
def contenders() -> tuple[Contender, ...]:
    """Return all contenders, whether they are installed or not."""
    clips = {"clip": _SINGLE, "clip-all": _SINGLE}
    return (
        Command(),
        InPython(),
        Script("arrayred lazily", "arrayred", "with_lazy_arrayred.py", packages=("arrayred",)),
        Script(
            "numpy (plain reads)",
            "Python",
            "with_plain_numpy.py",
            packages=("numpy",),
            other={"clip": _TIES, "clip-all": _TIES},
        ),
        Script(
            "numpy (astropy)", "Python", "with_numpy.py", packages=("numpy", "astropy"), other=clips
        ),
        Script(
            "bottleneck",
            "Python",
            "with_bottleneck.py",
            packages=("bottleneck", "astropy"),
            methods=("median", "mean"),
        ),
        Script(
            "reducers (plain reads)",
            "Python",
            "with_plain_reducers.py",
            packages=("reducers",),
            other=clips,
        ),
        Script(
            "reducers", "Python", "with_reducers.py", packages=("reducers", "astropy"), other=clips
        ),
        Script(
            "ccdproc",
            "Python",
            "with_ccdproc.py",
            packages=("ccdproc",),
            methods=("median", "mean", "clip"),
        ),
        Siril(),
        Gnuastro(),
        Iraf(),
        Cpl(),
        Floor("limit: read and write", "floor", "limit.py", packages=("numpy",)),
    )


def of_threads() -> tuple[Contender, ...]:
    """Return arrayred with one and with two threads."""
    return Command(threads=1), Command(threads=2), InPython(threads=1), InPython(threads=2)


def _with(threads: int | None) -> str:
    """Return how a name tells the number of threads."""
    return {None: "", 1: " (1 thread)"}.get(threads, f" ({threads} threads)")
