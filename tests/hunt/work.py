"""What is done while it is disturbed: small nights, commands, and what they make undisturbed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import numpy as np
from astropy.io import fits

from arrayred.io import Ledger
from arrayred.io.ledger import SUMMARY
from tests.batch.disturbed import inodes, products, temporaries, write_night
from tests.hunt import shim

QUIET = ("--no-figures", "--allow-missing", "--no-input")


@dataclass
class Task:
    """A command over small nights, and its products undisturbed.

    Parameters
    ----------
    name : of the task.
    arguments : of ``arrayred``; OUT stands for the output folder.
    """

    name: str
    arguments: tuple[str, ...]
    truth: dict[str, bytes] = field(default_factory=dict)

    def command(self, out: Path) -> list[str]:
        """Return the arguments for an output folder."""
        return [argument.replace("OUT", str(out)) for argument in self.arguments]

    def run(
        self,
        out: Path,
        said: Path,
        before: Callable[[], object] = lambda: None,
        after: Callable[[], object] = lambda: None,
    ) -> int:
        """Run the command in a fork of this process, and return its exit code.

        Parameters
        ----------
        out : the output folder; the cache folder lies in it as well.
        said : file of what the command prints.
        before, after : are called in the fork, before and after the command.
        """

        def work() -> int:
            from arrayred.cli import main

            os.environ["XDG_CACHE_HOME"] = str(out / ".cache")
            os.chdir(out.parent)
            sys.argv = ["arrayred", *self.command(out)]
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
            before()
            try:
                main()
            finally:
                after()
            return 0

        return shim.in_fork(work, said)


def tasks(folder: Path) -> list[Task]:
    """Write the nights below a folder, and return what is done with them."""
    nights = folder / "nights"
    for number in range(4):
        write_night(nights / f"night-{number}", number)
    compressed = nights / "compressed"
    write_night(compressed, 4)
    for path in sorted(compressed.iterdir()):
        pixels, header = fits.getdata(path, header=True)
        header.remove("CHECKSUM", ignore_missing=True)
        packed = fits.CompImageHDU(pixels.astype(np.int16), header, compression_type="RICE_1")
        packed.writeto(path.with_suffix(".fits.fz"))
        path.unlink()
    plain = [str(nights / f"night-{number}") for number in range(4)]
    lights = sorted(str(path) for path in (nights / "night-0").glob("*light*"))
    found = [
        Task("four nights", ("reduce", *plain, "-o", "OUT", *QUIET)),
        Task("calibrated frames", ("reduce", plain[0], "-o", "OUT", *QUIET, "--save-calibrated")),
        Task("frame by frame", ("reduce", plain[1], "-o", "OUT", *QUIET, "--per-frame")),
        Task("compressed", ("reduce", str(compressed), "-o", "OUT", *QUIET)),
        Task("combine", ("combine", *lights, "-o", "OUT/c.fits")),
        Task("figures", ("reduce", plain[0], "-o", "OUT", *QUIET[1:])),
    ]
    for task in found:
        import_all(task, folder / "warm")
        out = folder / "truth" / task.name.replace(" ", "-")
        out.mkdir(parents=True)
        code = task.run(out, folder / "said")
        if code:
            raise RuntimeError(f"{task.name} fails undisturbed: {(folder / 'said').read_text()}")
        task.truth = made(out)
    return found


def import_all(task: Task, out: Path) -> None:
    """Import in this process what a task imports, so that forks need not.

    The task is done in a fork: a thread that ran here would not be in later forks.
    """
    listing = out.parent / "modules"
    out.mkdir()

    def listed() -> None:
        listing.write_text("\n".join(sorted(set(sys.modules) - {"__main__"})))

    task.run(out, out.parent / "said", after=listed)
    for name in listing.read_text().splitlines():
        with suppress(ImportError):
            import_module(name)
    shutil.rmtree(out)


def finished(out: Path) -> list[str]:
    """Return the products of everything that is finished in an output folder.

    Pages are not: they tell of the last run, and are made again where it went otherwise.
    """
    nights = [out, *(path for path in out.iterdir() if path.is_dir())]
    return [
        (night / name).relative_to(out).as_posix()
        for night in nights
        for entry in Ledger(night).entries()
        for name in entry.products
        if (night / name).exists() and not name.endswith(".html")
    ]


def made(out: Path) -> dict[str, bytes]:
    """Return the products in an output folder, by path: every .txt, .fits, .ecsv and figure."""
    found = {
        name: content
        for name, content in products(out).items()
        if not name.startswith(".cache") and not name.endswith((".html", ".tmp"))
    }
    summary = out / SUMMARY
    return {**found, SUMMARY: summary.read_bytes()} if summary.exists() else found


def faults_of(task: Task, out: Path, code: int, said: str, *, allowed: Sequence[int]) -> list[str]:
    """Return what is wrong after a run that was disturbed."""
    faults = []
    if code not in allowed:
        faults.append(f"exit code {code}")
    if "Traceback" in said or "bug of arrayred" in said:
        faults.append("a traceback")
    if code > 0 and "arrayred: error: " not in said and code not in (130, 143):
        faults.append("no error line")
    left = made(out)
    for name, content in left.items():
        if task.truth.get(name) != content and (code == 0 or name != SUMMARY):
            faults.append(f"{name} differs" if name in task.truth else f"{name} is too many")
    if code == 0 and left != task.truth:
        faults.append("exit code 0, but products are missing")
    if code >= 0 and temporaries(out):
        faults.append(f"temporary files: {', '.join(path.name for path in temporaries(out))}")
    return faults


def faults_after(task: Task, out: Path, said: Path) -> list[str]:
    """Return what is wrong after the same command has run again, undisturbed."""
    done = finished(out)
    before = inodes(out, done)
    code = task.run(out, said)
    faults = [f"again: exit code {code}: {said.read_text(errors='replace')[-300:]}"] if code else []
    if all((out / name).exists() for name in done) and inodes(out, done) != before:
        faults.append("again: what was finished was done again")
    if made(out) != task.truth:
        faults.append("again: other products")
    if temporaries(out):
        faults.append("again: temporary files")
    return faults
