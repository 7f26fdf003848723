"""What is measured, in which order: `Plan`, `carry_out`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from benchmarks.contenders import Contender
from benchmarks.frames import Stack, make
from benchmarks.jobs import JOBS, Job
from benchmarks.measure import Settings, base_mib, measure
from benchmarks.night import measure_night
from benchmarks.peers import contenders, of_threads
from benchmarks.planes import measure_planes
from benchmarks.results import Report

Part = Literal["table", "frames", "pixels", "threads", "planes", "night"]
PARTS: tuple[Part, ...] = ("table", "frames", "pixels", "threads", "planes", "night")
STACKS = ("s5", "s25", "s100", "l25", "l50")
_FRAMES = ("s5", "s10", "s25", "s50", "s100", "s200", "s400")
_PIXELS = ("25x256x384", "25x512x768", "s25", "25x2048x3072", "l25")
_THREADS = ("s100", "l25")
_PLANES = ("s25", "l25")
_ON_CURVES = (
    "arrayred combine",
    "numpy (plain reads)",
    "reducers (plain reads)",
    "Siril",
    "IRAF",
    "gnuastro",
    "CPL",
)
# Among fewer frames none can lie further than 3 standard deviations from their mean.
_FEWEST_TO_CLIP = 11


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Parameters
    ----------
    parts : the table of all contenders; curves over frames, pixels and threads; what noise and
        flags cost; a whole night.
    stacks : of the table.
    jobs : of the table.
    only : words, one of which a contender's name must contain; none takes all.
    night : a folder of a night's frames; None simulates one.
    settings : how long to measure.
    """

    parts: Sequence[Part] = PARTS
    stacks: Sequence[str] = STACKS
    jobs: Sequence[str] = tuple(JOBS)
    only: Sequence[str] = ()
    night: Path | None = None
    settings: Settings = field(default_factory=Settings)

    @classmethod
    def quick(cls) -> Plan:
        """Return what fits into two minutes on two cores."""
        settings = Settings(rounds=3, budget=1.5, sessions=0)
        return cls(("table",), ("s25",), ("median", "minus-mean", "clip"), settings=settings)


@dataclass(frozen=True)
class _Cell:
    part: Part
    stack: Stack
    job: Job
    entrants: tuple[Contender, ...]


def carry_out(
    plan: Plan,
    folder: Path,
    report: Report,
    *,
    save: Callable[[Report], None],
    say: Callable[[str], None] = print,
) -> None:
    """Measure everything in a plan.

    Parameters
    ----------
    folder : for the frames, which stay, and for what contenders write, which does not.
    report : gets the results.
    save : is handed the report after each cell.
    say : is told how it goes.
    """
    cells = list(_cells(plan, folder))
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    say("making frames")
    planes = [Stack.named(name, folder) for name in _PLANES if "planes" in plan.parts]
    make([*(cell.stack for cell in cells), *planes])
    bases = {one.name: base_mib(one, work) for cell in cells[:1] for one in cell.entrants}
    for cell in cells:
        found = measure(
            cell.stack,
            cell.job,
            cell.entrants,
            plan.settings,
            folder=work,
            series=cell.part,
            say=say,
        )
        report.results += [replace(one, base_mib=bases.get(one.contender)) for one in found]
        save(report)
    if planes:
        report.results += measure_planes(planes, plan.night, plan.settings, work, say=say)
        save(report)
    if "night" in plan.parts:
        report.results += measure_night(plan.night, plan.settings, work, say=say)
        save(report)
    shutil.rmtree(work, ignore_errors=True)


def _cells(plan: Plan, folder: Path) -> Iterator[_Cell]:
    """Yield the cells of all parts but the night."""
    everyone = _present(contenders(), plan.only)
    few = tuple(one for one in everyone if one.name in _ON_CURVES)
    parts: dict[Part, tuple[Sequence[str], Sequence[str], tuple[Contender, ...]]] = {
        "table": (plan.stacks, plan.jobs, everyone),
        "frames": (_FRAMES, ("median", "minus-mean"), few),
        "pixels": (_PIXELS, ("median",), few),
        "threads": (_THREADS, ("median", "minus-mean", "clip"), _present(of_threads(), ())),
    }
    for part, (stacks, jobs, entrants) in parts.items():
        if part in plan.parts:
            for stack in (Stack.named(name, folder) for name in stacks):
                for job in (JOBS[name] for name in jobs):
                    if stack.n >= _FEWEST_TO_CLIP or not job.method.startswith("clip"):
                        yield _Cell(part, stack, job, entrants)


def _present(everyone: Iterable[Contender], only: Sequence[str]) -> tuple[Contender, ...]:
    """Return the contenders that are installed and asked for."""
    wanted = [
        one
        for one in everyone
        if not only or any(word.lower() in one.name.lower() for word in only)
    ]
    return tuple(one for one in wanted if one.missing() is None)
