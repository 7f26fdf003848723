"""Many nights: each is reduced by itself, in a process of its own or elsewhere: `reduce_nights`.

What a night lacks, the others lend: nights that fail for want of a bias, dark or flat are reduced
once more with the calibration frames of all the others. That comes last, so that what a night can
do by itself depends on that night alone, and none waits for the headers of a thousand others.
"""

from __future__ import annotations

import dataclasses
import gc
import shlex
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from arrayred.batch.desk import Outcome, reduce_to
from arrayred.batch.diary import Log, logged
from arrayred.batch.jobs import Job, Report
from arrayred.batch.masters import entry_name, is_ready
from arrayred.batch.orders import check_night, missing_of, require_cards
from arrayred.batch.recall import is_remembered, recall, remember
from arrayred.batch.reports import report_on
from arrayred.batch.summary import Line, Status
from arrayred.errors import ArrayredError, NightError, NoDarkError, StorageError, UsageError
from arrayred.io.ledger import PAGE_ENTRY, load_answers
from arrayred.io.publish import one_writer
from arrayred.night import Flat, Group, Night, Plan, open_night
from arrayred.night.groups import slug
from arrayred.night.night import brought_near
from arrayred.watching import watched

_BUG = 1


def reduce_one(job: Job) -> Report:
    """Reduce one night; whatever goes wrong is in the report."""
    started = time.perf_counter()
    try:
        answers = load_answers(job.order.out)
        job = dataclasses.replace(job, order=dataclasses.replace(job.order, answers=answers))
        with watched(), scheduled(job.scheduler):
            report = _kept(job) or _reduced(job)
    except ArrayredError as error:
        report = failed(job, error)
    except Exception:  # one night's bug is not the others'
        told = traceback.format_exc()
        line = Line(job.label, "", "failed", {}, 0.0, f"a bug of arrayred: {told.splitlines()[-1]}")
        report = Report(job.label, (line,), exit_code=_BUG, bug=told)
    return dataclasses.replace(report, seconds=time.perf_counter() - started)


def _kept(job: Job) -> Report | None:
    """Return the report of a night that is known to be finished."""
    if job.order.force or not is_remembered(job.order.out):
        return None
    with one_writer(job.order.out, break_lock=job.break_lock, wait=job.wait):
        return recall(job)


def _reduced(job: Job) -> Report:
    night = open_night(job.folder, job.file, depth=job.depth, caching=job.caching)
    lends = any(frame.frame_type in ("bias", "dark", "flat") for frame in night.frames)
    try:
        plan = check_night(night, job.recipe, job.order)
        missing = missing_of(night, plan, job.order)
        if not job.allow_missing:
            require_cards(missing)
        if job.caching is not None and (near := brought_near(night, job.caching)) is not night:
            night, plan = near, check_night(near, job.recipe, job.order)
    except ArrayredError as error:
        return dataclasses.replace(failed(job, error), lends=lends)
    warnings = (*plan.warnings, *(f"left blank in {t}: {', '.join(c)}" for t, c in missing.items()))
    with one_writer(job.order.out, break_lock=job.break_lock, wait=job.wait):
        with logged(night, plan, job.order) as log:
            report = dataclasses.replace(_carried_out(job, night, plan, log), lends=lends)
        whole = dataclasses.replace(report, warnings=warnings)
        if not report.exit_code:
            masters: list[Group | Flat] = [*plan.masters, *plan.flats.values()]
            names = [entry_name(group) for group in masters if not is_ready(group)]
            remember(job, whole, [*names, *([PAGE_ENTRY] if job.order.figures else [])])
    return dataclasses.replace(whole, warnings=(*warnings, *report.warnings))


def _carried_out(job: Job, night: Night, plan: Plan, log: Log) -> Report:
    """Return what became of each target; warnings are of products lost before, and of the page."""
    lines: list[Line] = []
    codes: list[int] = []
    damage: list[str] = []
    lacks = False
    outcomes: list[Outcome] = []
    last = time.perf_counter()
    for outcome in reduce_to(night, plan, job.recipe, job.order):
        outcomes.append(dataclasses.replace(outcome, spectrum=None))
        log(outcome)
        now = time.perf_counter()
        lines.append(_line(job.label, outcome, now - last))
        last = now
        if outcome.spectrum is not None and job.order.figures:
            gc.collect()  # a picture is a ring of references around its images: 58 MiB a target
        for name, what in outcome.damage.items():
            damage.append(f"{name} was {what} since it was made, and is made anew")
        if outcome.error is not None:
            codes.append(outcome.error.exit_code)
            lacks |= isinstance(outcome.error, NoDarkError)
    try:
        damage += report_on(night, plan, job.recipe, job.order, outcomes)
    except StorageError as error:
        damage.append(f"no report was made: {error}")
        codes.append(error.exit_code)
    return Report(job.label, tuple(lines), tuple(damage), codes[0] if codes else 0, lacks)


def _line(night: str, outcome: Outcome, seconds: float) -> Line:
    status: Status = "failed" if outcome.error else "kept" if outcome.kept else "reduced"
    reason = str(outcome.error) if outcome.error else ""
    return Line(night, outcome.name, status, outcome.facts, seconds, reason)


def failed(job: Job, error: ArrayredError) -> Report:
    """Return the report of a night that an error stopped."""
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


def in_crew(n_processes: int) -> Way:
    """Return the way to do jobs in so many processes; one that dies fails its night alone."""

    def way(jobs: Sequence[Job]) -> Iterator[Report]:
        """Yield the report of each job as it is done."""
        from arrayred.batch.crew import in_processes  # 15 ms, and one night needs none

        for i, done in in_processes(reduce_one, jobs, n_processes):
            yield done if isinstance(done, Report) else failed(jobs[i], done)

    return way


def scheduled(name: str) -> AbstractContextManager[object]:
    """Let dask work in a certain way for a while; "" leaves it its choice."""
    if not name:
        return nullcontext()
    import dask.config

    chosen: AbstractContextManager[object] = dask.config.set(scheduler=name)
    return chosen


def reduce_nights(
    jobs: Sequence[Job], way: Way = one_by_one
) -> Generator[tuple[Report, bool], None, None]:
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
    told = "".join(f" --calibrations {shlex.quote(str(folder))}" for folder in others)
    order = dataclasses.replace(job.order, command=job.order.command and job.order.command + told)
    return dataclasses.replace(job, file=file, order=order)


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
    labels = [slug("_".join(parts[start : len(parts) - stop]) or parts[-1]) for parts in paths]
    if len(set(labels)) < len(labels):
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
