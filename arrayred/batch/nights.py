"""Many nights: each is reduced by itself, in a process of its own or elsewhere: `reduce_nights`.

What a night lacks, the others lend: nights that fail for want of a bias, dark or flat are reduced
once more with the calibration frames of all the others. That comes last, so that what a night can
do by itself depends on that night alone, and none waits for the headers of a thousand others.
"""

from __future__ import annotations

import dataclasses
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from arrayred.batch.desk import Outcome, reduce_to
from arrayred.batch.orders import Order, check_night, missing_of, require_cards
from arrayred.batch.summary import Line
from arrayred.config import NightFile, Recipe
from arrayred.errors import ArrayredError, NightError, NoDarkError, UsageError
from arrayred.io.answers import load_answers
from arrayred.io.lock import one_writer
from arrayred.night import open_night
from arrayred.night.naming import slug

_BUG = 1


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
    """

    label: str
    folder: Path
    order: Order
    file: NightFile = field(default_factory=NightFile)
    recipe: Recipe = field(default_factory=Recipe)
    depth: int = 3
    allow_missing: bool = False
    break_lock: bool = False


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


def reduce_one(job: Job) -> Report:
    """Reduce one night; whatever goes wrong is in the report."""
    started = time.perf_counter()
    try:
        with one_writer(job.order.out, break_lock=job.break_lock):
            report = _reduced(job)
    except ArrayredError as error:
        report = _failed(job, error)
    except Exception:  # one night's bug is not the others'
        told = traceback.format_exc()
        line = Line(job.label, "", "failed", {}, 0.0, f"a bug of arrayred: {told.splitlines()[-1]}")
        report = Report(job.label, (line,), exit_code=_BUG, bug=told)
    return dataclasses.replace(report, seconds=time.perf_counter() - started)


def _reduced(job: Job) -> Report:
    order = dataclasses.replace(job.order, answers=load_answers(job.order.out))
    night = open_night(job.folder, job.file, depth=job.depth)
    lends = any(frame.frame_type in ("bias", "dark", "flat") for frame in night.frames)
    try:
        plan = check_night(night, job.recipe, order)
    except ArrayredError as error:
        return dataclasses.replace(_failed(job, error), lends=lends)
    missing = missing_of(night, plan, order)
    if not job.allow_missing:
        require_cards(missing)
    lines, codes, lacks = [], [], False
    last = time.perf_counter()
    for outcome in reduce_to(night, plan, job.recipe, order):
        now = time.perf_counter()
        lines.append(_line(job.label, outcome, now - last))
        last = now
        if outcome.error is not None:
            codes.append(outcome.error.exit_code)
            lacks |= isinstance(outcome.error, NoDarkError)
    warnings = (*plan.warnings, *(f"left blank in {t}: {', '.join(c)}" for t, c in missing.items()))
    return Report(job.label, tuple(lines), warnings, codes[0] if codes else 0, lacks, lends)


def _line(night: str, outcome: Outcome, seconds: float) -> Line:
    status = "failed" if outcome.error else "kept" if outcome.kept else "reduced"
    reason = str(outcome.error) if outcome.error else ""
    return Line(night, outcome.name, status, outcome.facts, seconds, reason)  # type: ignore[arg-type]


def _failed(job: Job, error: ArrayredError) -> Report:
    causes = error.problems if isinstance(error, NightError) else (error,)
    reason = "; ".join(str(cause) for cause in causes)
    lacks = any(isinstance(cause, NoDarkError) for cause in causes)
    line = Line(job.label, "", "failed", {}, 0.0, reason)
    return Report(job.label, (line,), exit_code=error.exit_code, lacks=lacks)


Way = Callable[[Sequence[Job]], Iterator[Report]]
"""How jobs are done: in this process, in several, on a cluster; each report as it comes."""


def one_by_one(jobs: Sequence[Job]) -> Iterator[Report]:
    """Do jobs in this process."""
    return map(reduce_one, jobs)


def reduce_nights(jobs: Sequence[Job], way: Way = one_by_one) -> Iterator[tuple[Report, bool]]:
    """Reduce many nights, and once more those that others can help.

    Parameters
    ----------
    jobs : the nights.
    way : how they are done.

    Yields
    ------
    report, is_final : of each night as it is done; not final if the night is tried once more.
    """
    by_label = {job.label: job for job in jobs}
    needy: list[Job] = []
    lenders: dict[str, Path] = {}
    for report in way(jobs):
        job = by_label[report.label]
        if report.lends:
            lenders[report.label] = job.folder
        if report.lacks:
            needy.append(job)
        yield report, not report.lacks
    for report in way([_helped(job, lenders) for job in needy]):
        yield report, True


def _helped(job: Job, lenders: Mapping[str, Path]) -> Job:
    """Return a job with the calibration frames of the other nights."""
    others = tuple(lenders[label] for label in sorted(lenders) if label != job.label)
    file = dataclasses.replace(job.file, calibrations=(*job.file.calibrations, *others))
    return dataclasses.replace(job, file=file)


def labels_of(folders: Sequence[Path]) -> list[str]:
    """Return a label for each night: what tells its path from the others', safe as a file name.

    Examples
    --------
    >>> labels_of([Path("/data/2020-11-03/raw"), Path("/data/2020-11-04/raw")])
    ['2020-11-03', '2020-11-04']
    """
    paths = [folder.resolve().parts for folder in folders]
    if len(paths) == 1:
        return [slug(paths[0][-1])]
    start = _n_alike(paths)
    stop = _n_alike([tuple(reversed(parts[start:])) for parts in paths])
    labels = [slug("_".join(parts[start : len(parts) - stop])) for parts in paths]
    if len(set(labels)) < len(labels) or not all(labels):
        raise UsageError(
            "Two of the nights would have the same name",
            path=folders[0],
            hint="Give each folder once.",
        )
    return labels


def _n_alike(sequences: Sequence[Sequence[str]]) -> int:
    """Return how many of their first items all sequences have in common."""
    n = 0
    for items in zip(*sequences, strict=False):
        if len(set(items)) > 1:
            break
        n += 1
    return n
