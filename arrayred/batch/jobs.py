"""A night to be reduced, and what became of it: `Job`, `Report`; both travel between processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from arrayred.batch.orders import Order
from arrayred.batch.summary import Line
from arrayred.config import NightFile, Recipe
from arrayred.config.recipe import paths_beside
from arrayred.night.night import Caching


@dataclass(frozen=True)
class Job:
    """One night to be reduced; it travels to other processes and machines.

    Parameters
    ----------
    label : tells the night from the others.
    folder : where its frames lie.
    order : what to write, and where.
    file : what is known of it.
    recipe : what to do.
    depth : how many folders deep its frames may lie.
    allow_missing : leave required cards blank if nobody gives them.
    break_lock : write although another run holds the lock.
    scheduler : how dask works, or "" for its own choice.
    wait : for so many seconds, if another run writes to the same folder.
    caching : the library into which a night behind a URL goes before it is reduced; None: its
        frames are copied each time.
    """

    label: str
    folder: Path
    order: Order
    file: NightFile = field(default_factory=NightFile)
    recipe: Recipe = field(default_factory=Recipe)
    depth: int = 3
    allow_missing: bool = False
    break_lock: bool = False
    scheduler: str = ""
    wait: float = 0.0
    caching: Caching | None = None


@dataclass(frozen=True)
class Report:
    """What became of one night.

    Parameters
    ----------
    label : the night's.
    lines : one for each target, or one for the night if it failed as a whole.
    warnings : what is odd about it.
    exit_code : of the first thing that failed; 0 if nothing did.
    lacks : it failed for want of calibration frames.
    lends : it has calibration frames.
    bug : the traceback, if what failed was the program.
    seconds : the time it took.
    """

    label: str
    lines: tuple[Line, ...]
    warnings: tuple[str, ...] = ()
    exit_code: int = 0
    lacks: bool = False
    lends: bool = False
    bug: str = ""
    seconds: float = 0.0


def with_whole_paths(job: Job) -> Job:
    """Return a job that means the same to a process in another folder."""
    return dataclasses.replace(
        job,
        folder=job.folder.absolute(),
        order=dataclasses.replace(job.order, out=job.order.out.absolute()),
        file=_with_whole_paths(job.file),
        recipe=job.recipe.replace(**_whole({"bad_pixels": job.recipe.bad_pixels})),
    )


def _with_whole_paths(file: NightFile) -> NightFile:
    is_path = file.instrument.endswith(".toml")
    return dataclasses.replace(
        file,
        instrument=str(Path(file.instrument).absolute()) if is_path else file.instrument,
        calibrations=tuple(path.absolute() for path in file.calibrations),
        masters={kind: path.absolute() for kind, path in file.masters.items()},
        recipe=_whole(file.recipe),
        targets={
            name: dataclasses.replace(target, recipe=_whole(target.recipe))
            for name, target in file.targets.items()
        },
    )


def _whole(settings: Mapping[str, Any]) -> dict[str, Any]:
    return paths_beside(Path.cwd() / "here", settings)
