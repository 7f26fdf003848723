"""Reduce many nights, each independently of the others: `reduce_nights`.

Nights that lack calibration frames are reduced last, with those of all the others. So a night with
all its own calibration frames depends on that night alone, none waits for the headers of a thousand
others, and none is reduced twice: what a first pass had written without the others' frames would
differ from what a second pass makes with them.
"""

from __future__ import annotations

import dataclasses
import gc
import io
import json
import logging
import os
import platform
import shlex
import signal
import stat
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from arrayred._version import __version__
from arrayred.batch.run import (
    Outcome,
    OutputOptions,
    Status,
    SummaryLine,
    check_night,
    each_spectrum,
    is_ready_master,
    mask_checksum,
    master_entry_name,
    missing_target_cards,
    procedure_lines,
    reduce_to,
    require_cards,
    write_night_report,
)
from arrayred.config import Instrument, NightFile, Recipe
from arrayred.config.recipe import paths_beside
from arrayred.errors import (
    ArrayredError,
    NightError,
    NoDarkError,
    ResourceError,
    StorageError,
    UsageError,
    lines_of,
)
from arrayred.io.files import list_files
from arrayred.io.ledger import (
    LOG_FILE,
    PAGE_ENTRY,
    Entry,
    Hashes,
    Ledger,
    fingerprint,
    has_manifest,
    load_saved_cards,
)
from arrayred.io.pixel_checks import forget_samples
from arrayred.io.publish import output_lock, publish, storage_error
from arrayred.io.remote import without_secrets
from arrayred.model import level_of
from arrayred.night import Flat, Group, Night, Plan, open_night
from arrayred.night.groups import slug
from arrayred.night.night import CachePolicy, with_local_pixels
from arrayred.process import end_from_handler, interrupts_held, make_process_own
from arrayred.progress import handled, note
from arrayred.report import VERSION

if TYPE_CHECKING:
    from logging.handlers import MemoryHandler
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess


@dataclass(frozen=True)
class Job:
    """One night to be reduced; it can be sent to other processes and machines.

    Parameters
    ----------
    label : unique name of the night.
    folder : of its frames.
    output : what to write, and where.
    file : its night file.
    recipe : settings of the reduction.
    depth : how many levels of folders are searched for frames.
    allow_missing : leave required cards blank if they are not given.
    break_lock : write although another run holds the lock.
    scheduler : the scheduler of dask, or "" for its default.
    wait : time to wait if another run is writing to the same folder, s.
    caching : where a night behind a URL is cached before it is reduced; None: its frames are copied
        each time.
    waits : if it lacks calibration frames, nothing is made of it yet.
    """

    label: str
    folder: Path
    output: OutputOptions
    file: NightFile = field(default_factory=NightFile)
    recipe: Recipe = field(default_factory=Recipe)
    depth: int = 3
    allow_missing: bool = False
    break_lock: bool = False
    scheduler: str = ""
    wait: float = 0.0
    caching: CachePolicy | None = None
    waits: bool = False


@dataclass(frozen=True)
class Report:
    """The result of reducing one night.

    Parameters
    ----------
    label : the night's.
    lines : one for each target, or one for the night if it failed as a whole.
    warnings : about the night.
    exit_code : of the first failure; 0 if there was none.
    lacks : it failed for lack of calibration frames.
    lends : it has calibration frames.
    bug : the traceback of an internal error, or "".
    seconds : the time it took, s.
    """

    label: str
    lines: tuple[SummaryLine, ...]
    warnings: tuple[str, ...] = ()
    exit_code: int = 0
    lacks: bool = False
    lends: bool = False
    bug: str = ""
    seconds: float = 0.0


def with_absolute_paths(job: Job) -> Job:
    """Return a job with absolute paths, for a process with another working folder."""
    return dataclasses.replace(
        job,
        folder=job.folder.absolute(),
        output=dataclasses.replace(job.output, out=job.output.out.absolute()),
        file=_night_file_absolute(job.file),
        recipe=job.recipe.replace(**_settings_absolute({"bad_pixels": job.recipe.bad_pixels})),
    )


def _night_file_absolute(file: NightFile) -> NightFile:
    is_path = file.instrument.endswith(".toml")
    return dataclasses.replace(
        file,
        instrument=str(Path(file.instrument).absolute()) if is_path else file.instrument,
        calibrations=tuple(path.absolute() for path in file.calibrations),
        masters={kind: path.absolute() for kind, path in file.masters.items()},
        recipe=_settings_absolute(file.recipe),
        targets={
            name: dataclasses.replace(target, recipe=_settings_absolute(target.recipe))
            for name, target in file.targets.items()
        },
    )


def _settings_absolute(settings: Mapping[str, Any]) -> dict[str, Any]:
    return paths_beside(Path.cwd() / "here", settings)


_EXIT_BUG = 1


def reduce_one(job: Job) -> Report:
    """Reduce one night; errors are in the report."""
    started = time.perf_counter()
    try:
        saved_cards = load_saved_cards(job.output.out)
        job = dataclasses.replace(
            job, output=dataclasses.replace(job.output, saved_cards=saved_cards)
        )
        report = _finished_report(job)
        if report is None:
            with run_records() as records, dask_scheduler(job.scheduler):
                report = _reduce_night_of(job, records)
    except ArrayredError as error:
        report = failed_report(job, error)
    except Exception:  # one night's bug is not the others'
        told = traceback.format_exc()
        line = SummaryLine(
            job.label,
            "",
            "failed",
            {},
            0.0,
            f"internal error, please report it: {told.splitlines()[-1]}",
        )
        report = Report(job.label, (line,), exit_code=_EXIT_BUG, bug=told)
    finally:
        forget_samples()
    return dataclasses.replace(report, seconds=time.perf_counter() - started)


def _finished_report(job: Job) -> Report | None:
    """Return the report of a night that was finished before; None of any other."""
    if job.output.force or not has_manifest(job.output.out):
        return None
    with output_lock(job.output.out, break_lock=job.break_lock, wait=job.wait):
        return load_finished_report(job)


def _reduce_night_of(job: Job, records: MemoryHandler) -> Report:
    night = open_night(job.folder, job.file, depth=job.depth, caching=job.caching)
    lends = any(frame.frame_type in ("bias", "dark", "flat") for frame in night.frames)
    try:
        plan = check_night(night, job.recipe, job.output)
        if job.waits:
            _require_calibrations(plan)
        missing = missing_target_cards(night, plan, job.output)
        if not job.allow_missing:
            require_cards(missing)
        if job.caching is not None and (near := with_local_pixels(night, job.caching)) is not night:
            night, plan = near, check_night(near, job.recipe, job.output)
    except ArrayredError as error:
        return dataclasses.replace(failed_report(job, error), lends=lends)
    warnings = (*plan.warnings, *(f"left blank in {t}: {', '.join(c)}" for t, c in missing.items()))
    with (
        output_lock(job.output.out, break_lock=job.break_lock, wait=job.wait),
        night_log(night, plan, job.output, records) as log,
    ):
        finished = partial(_finished_state, job, plan, warnings, lends)
        report = _run_plan(job, night, plan, log, finished)
    return dataclasses.replace(report, lends=lends, warnings=(*warnings, *report.warnings))


def _require_calibrations(plan: Plan) -> None:
    """Raise NoDarkError if a target of a plan has no calibration frames."""
    for _, error in plan.failed:
        if isinstance(error, NoDarkError):
            raise error


def _run_plan(
    job: Job,
    night: Night,
    plan: Plan,
    log: OutcomeLog,
    finished: Callable[[Hashes], Mapping[str, Any]],
) -> Report:
    """Return the report on each target, with warnings about damaged products and the page."""
    lines: list[SummaryLine] = []
    codes: list[int] = []
    damage: list[str] = []
    lacks = False
    outcomes: list[Outcome] = []
    last = time.perf_counter()
    for outcome in reduce_to(night, plan, job.recipe, job.output):
        outcomes.append(dataclasses.replace(outcome, spectrum=None))
        log(outcome)
        now = time.perf_counter()
        lines.append(_summary_line(job.label, outcome, now - last))
        last = now
        if outcome.spectrum is not None and job.output.figures:
            gc.collect(1)  # a figure is a ring of references around 4 MiB; it is young
        for name, what in outcome.damage.items():
            damage.append(f"{name} was {what} after it was written, and is made again")
        if outcome.error is not None:
            codes.append(outcome.error.exit_code)
            lacks |= isinstance(outcome.error, NoDarkError)
    try:
        damage += write_night_report(
            night, plan, job.recipe, job.output, outcomes, None if codes else finished
        )
    except StorageError as error:
        told = f"no report was written: {error}"
        lines.append(SummaryLine(job.label, "", "failed", {}, 0.0, told))
        codes.append(error.exit_code)
    return Report(job.label, tuple(lines), tuple(damage), codes[0] if codes else 0, lacks)


def _summary_line(night: str, outcome: Outcome, seconds: float) -> SummaryLine:
    status: Status = "failed" if outcome.error else "kept" if outcome.kept else "reduced"
    reason = str(outcome.error) if outcome.error else ""
    return SummaryLine(night, outcome.name, status, outcome.facts, seconds, reason)


def failed_report(job: Job, error: ArrayredError) -> Report:
    """Return the report of a night that an error stopped."""
    causes = error.problems if isinstance(error, NightError) else (error,)
    reason = "; ".join(lines_of(causes))
    lacks = any(isinstance(cause, NoDarkError) for cause in causes)
    line = SummaryLine(job.label, "", "failed", {}, 0.0, reason)
    return Report(job.label, (line,), exit_code=error.exit_code, lacks=lacks)


def dask_scheduler(name: str) -> AbstractContextManager[object]:
    """Return a context manager that sets dask's scheduler; "" keeps the default."""
    if not name:
        return nullcontext()
    import dask.config

    chosen: AbstractContextManager[object] = dask.config.set(scheduler=name)
    return chosen


Executor = Callable[[Sequence[Job]], Iterator[Report]]
"""Runs jobs in this process, in several or on a cluster; yields each report when it is done."""


def serial_executor(jobs: Sequence[Job]) -> Iterator[Report]:
    """Run jobs in this process."""
    return map(reduce_one, jobs)


def process_executor(n_processes: int) -> Executor:
    """Return the executor of jobs in several processes; one that dies fails only its night."""

    def way(jobs: Sequence[Job]) -> Iterator[Report]:
        """Yield the report of each job as it is done."""
        for i, done in in_processes(reduce_one, jobs, n_processes):
            yield done if isinstance(done, Report) else failed_report(jobs[i], done)

    return way


def reduce_nights(
    jobs: Sequence[Job], way: Executor = serial_executor
) -> Generator[tuple[Report, bool], None, None]:
    """Reduce many nights; those that lack calibration frames last, with the others' frames.

    Parameters
    ----------
    jobs : the nights.
    way : the executor of the jobs.

    Yields
    ------
    report, is_final : of each night as it is done; not final if the night is still to be reduced.
    """
    by_label = {job.label: job for job in jobs}
    needy: list[Job] = []
    lenders: dict[str, Path] = {}
    together = len(jobs) > 1
    for report in way([dataclasses.replace(job, waits=together) for job in jobs]):
        job = by_label[report.label]
        if report.lends:
            lenders[report.label] = job.folder
        waits = report.lacks and together
        if waits:
            needy.append(job)
        yield report, not waits
    for report in way([_with_lent_frames(job, lenders) for job in needy]):
        yield report, True


def _with_lent_frames(job: Job, lenders: Mapping[str, Path]) -> Job:
    """Return a job with the calibration frames of the other nights."""
    others = tuple(lenders[label] for label in sorted(lenders) if label != job.label)
    file = dataclasses.replace(job.file, calibrations=(*job.file.calibrations, *others))
    told = "".join(f" --calibrations {shlex.quote(str(folder))}" for folder in others)
    output = dataclasses.replace(
        job.output, command=job.output.command and job.output.command + told
    )
    return dataclasses.replace(job, file=file, output=output)


def night_labels(folders: Sequence[Path]) -> list[str]:
    """Return a label for each night: the shortest end of its path that no other has, as a slug.

    Folders below the nights that all of them have, such as ``raw``, are left out. A label does not
    change when another night of another name is added.

    Examples
    --------
    >>> night_labels([Path("/data/2020-11-03/raw"), Path("/data/2020-11-04/raw")])
    ['2020-11-03', '2020-11-04']
    >>> night_labels([Path("/a/n1"), Path("/b/n1"), Path("/b/n2")])
    ['a_n1', 'b_n1', 'n2']
    """
    paths = [folder.resolve().parts for folder in folders]
    if len(paths) == 1:
        return [slug(paths[0][-1])]
    shared = _n_shared_parts([tuple(reversed(parts)) for parts in paths])
    ends = [_ends_of(parts[1 : len(parts) - shared]) or [slug(parts[-1])] for parts in paths]
    taken = Counter(label for own in ends for label in set(own))
    labels = [next((label for label in own if taken[label] == 1), own[-1]) for own in ends]
    if len(set(labels)) < len(labels):
        raise UsageError(
            "Two of the nights have the same name",
            path=folders[0],
            hint="Name each folder once.",
        )
    return labels


def _ends_of(parts: Sequence[str]) -> list[str]:
    """Return the ends of a path as slugs, the shortest first."""
    return [slug("_".join(parts[i:])) for i in range(len(parts) - 1, -1, -1)]


def _n_shared_parts(sequences: Sequence[Sequence[str]]) -> int:
    """Return the number of first items that all sequences have in common."""
    n = 0
    for items in zip(*sequences, strict=False):
        if len(set(items)) > 1:
            break
        n += 1
    return n


# Nights in separate processes, each one night at a time: `in_processes`.
#
# Why not an executor of the standard library: there a killed process breaks the whole pool, and the
# piece that it died on is unknown. Here each process has one piece and its own pipe, so that the
# piece is known and tried again, and the others are unaffected. Processes are spawned, not forked:
# a fork would inherit locks and threads. No port is opened. When the caller dies, however it dies,
# its processes end at once. `multiprocessing` is imported late: that takes 15 ms, and one night
# needs no process.

Piece = TypeVar("Piece")
Result = TypeVar("Result")
MAX_DEATHS = 3
"""Processes or workers that may die of a piece of work before it is given up; more where the
scheduler of a cluster has a higher limit."""
_STOP_TIMEOUT_S = 3.0


@dataclass
class _Worker:
    """One process, our end of its pipe, and the index of its piece."""

    process: SpawnProcess
    pipe: Connection
    piece: int | None = None


def in_processes(
    work: Callable[[Piece], Result], pieces: Sequence[Piece], n_processes: int
) -> Iterator[tuple[int, Result | ResourceError]]:
    """Run pieces of work in separate processes.

    Parameters
    ----------
    work : a module-level function that returns its errors rather than raising them.
    pieces : its arguments, picklable.
    n_processes : number of processes at once.

    Yields
    ------
    index, result : of each piece as it is done; a ResourceError for one whose process died each
        time it was tried. An error that `work` raises nevertheless is raised here.
    """
    from multiprocessing import connection

    waiting = deque(range(len(pieces)))
    deaths = dict.fromkeys(waiting, 0)
    workers = [_start_worker(work) for _ in range(min(n_processes, len(pieces)))]
    try:
        while waiting or any(worker.piece is not None for worker in workers):
            for worker in workers:
                if worker.piece is None and waiting:
                    worker.piece = waiting.popleft()
                    with suppress(OSError):  # of a process that died idle: seen below
                        worker.pipe.send(pieces[worker.piece])
            ready = connection.wait([worker.pipe for worker in workers if worker.piece is not None])
            for worker in [worker for worker in workers if worker.pipe in ready]:
                piece = worker.piece
                if piece is None:
                    continue
                try:
                    done = _received_result(worker)
                except (EOFError, OSError):
                    workers[workers.index(worker)] = _start_worker(work)
                    deaths[piece] += 1
                    cause = _cause_of_death(worker)
                    if deaths[piece] < MAX_DEATHS:
                        waiting.appendleft(piece)
                    else:
                        yield piece, _abandoned_error(cause)
                else:
                    worker.piece = None
                    yield piece, done
    finally:
        _stop_workers(workers)


def _start_worker(work: Callable[[Any], Any]) -> _Worker:
    from multiprocessing import get_context

    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run_worker, args=(theirs, work), daemon=True)
    with interrupts_held(spawned=True):
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _run_worker(pipe: Connection, work: Callable[[Any], Any]) -> None:
    """Work on the pieces received through the pipe until it is closed."""
    make_process_own()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller gets it too, and ends this process
    signal.signal(signal.SIGTERM, _exit_quietly)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):  # the caller has closed its end, perhaps before an answer
        while True:
            piece = pipe.recv()
            try:
                answer = work(piece)
            except Exception as error:  # a bug, to be told where somebody listens
                pipe.send((False, error))
            else:
                pipe.send((True, answer))


def _exit_quietly(number: int, _frame: object) -> None:
    end_from_handler(number, SystemExit(143))  # so that what is half written is taken away


def _end_with_parent() -> None:
    """End this process when its parent has ended."""
    from multiprocessing import parent_process

    caller = parent_process()
    if caller is not None:
        caller.join()
        os._exit(1)


def _received_result(worker: _Worker) -> Any:
    is_done, answer = worker.pipe.recv()
    if not is_done:
        raise answer
    return answer


def _cause_of_death(worker: _Worker) -> str:
    """Return how a process ended, as text."""
    worker.pipe.close()
    worker.process.join(_STOP_TIMEOUT_S)
    code = worker.process.exitcode
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _abandoned_error(cause: str) -> ResourceError:
    return ResourceError(
        f"The process that worked on it {cause}, {MAX_DEATHS} times",
        hint="Increase its memory, or lower --memory.",
    )


def _stop_workers(workers: Sequence[_Worker]) -> None:
    """End all processes: busy ones are terminated, and killed if they do not stop."""
    for worker in workers:
        worker.pipe.close()
        if worker.piece is not None:
            worker.process.terminate()
    until = time.monotonic() + _STOP_TIMEOUT_S
    for worker in workers:
        worker.process.join(max(until - time.monotonic(), 0.0))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


# Recognise a finished night without opening it: `load_finished_report`.
#
# A rerun over many nights should cost a check of their files, not reading their headers: opening a
# night of 8 frames takes some 20 ms, asking the system about its files less than one. So a run of
# which every target is finished leaves in the manifest its options, the SHA-256 of every file in
# the night's folders, and the names of its entries (`_finished_state`). If all of these are
# unchanged, the night is finished.
#
# This is only a shortcut. A night without it, or with one that does not match, is opened; the
# entries then decide which of its targets are finished.


def load_finished_report(job: Job) -> Report | None:
    """Return the report of a night that is finished and unchanged; None of any other.

    Parameters
    ----------
    job : the night; with `verify` every file is hashed, else those whose stamp changed.
    """
    ledger = Ledger(job.output.out, verify=job.output.verify)
    told = ledger.finished
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError, ArrayredError):
        if told["key"] != _job_fingerprint(job):
            return None
        if told["files"] != _input_checksums(job, ledger.hashes):
            return None
        entries = {name: ledger.read(f"targets/{name}") for name in told["targets"]}
        others = (ledger.read(name) for name in told["others"])
        if any(entry is None or ledger.damaged(entry) for entry in [*entries.values(), *others]):
            return None
        ledger.save()
        lines = tuple(
            _summary_line_of_entry(job.label, name, entry)
            for name, entry in entries.items()
            if entry
        )
        return Report(job.label, lines, tuple(told["warnings"]), lends=told["lends"])
    return None


def _summary_line_of_entry(night: str, target: str, entry: Entry) -> SummaryLine:
    return SummaryLine(night, target, "kept", entry.facts, 0.0)


def _finished_state(
    job: Job, plan: Plan, warnings: Sequence[str], lends: bool, hashes: Hashes
) -> dict[str, Any]:
    """Return what tells that a night whose every target is finished need not be opened again.

    Parameters
    ----------
    job, plan, warnings, lends : the night, its plan, and what its report says.
    hashes : the known sha256 of files.
    """
    masters: list[Group | Flat] = [*plan.masters, *plan.flats.values()]
    names = [master_entry_name(group) for group in masters if not is_ready_master(group)]
    try:
        files = _input_checksums(job, hashes)
    except OSError:  # of a file that cannot be read, and so cannot be told unchanged
        return {}
    return {
        "key": _job_fingerprint(job),
        "files": files,
        "targets": [target.name for target in plan.targets],
        "others": sorted([*names, *([PAGE_ENTRY] if job.output.figures else [])]),
        "warnings": list(warnings),
        "lends": lends,
    }


def _input_checksums(job: Job, hashes: Hashes) -> dict[str, str]:
    """Return the SHA-256 of every file that opening the night would read."""
    return {str(path): hashes.of(path) for path in _input_paths(job)}


def _input_paths(job: Job) -> Iterator[Path]:
    for folder in (job.folder, *job.file.calibrations):
        yield from (path.absolute() for path in list_files(folder, depth=job.depth))
    yield from (path.absolute() for path in job.file.masters.values())


def _job_fingerprint(job: Job) -> str:
    """Return the key of a job's options, versions and paths."""
    output, file = job.output, job.file
    masks = (job.recipe.bad_pixels, *(t.recipe.get("bad_pixels") for t in file.targets.values()))
    settings: dict[str, Any] = {
        "version": [__version__, np.__version__],
        "night": [str(job.folder.absolute()), job.depth],
        "recipe": dataclasses.asdict(job.recipe),
        "file": _night_file_as_dict(file),
        "instrument": repr(Instrument.load(file.instrument)),
        "masks": [mask_checksum(name) for name in masks if name],
        "cards": [dict(output.cards), dataclasses.asdict(output.saved_cards)],
        "targets": output.targets,
        "options": [output.figures, job.allow_missing],
        "report": [VERSION, output.command] if output.figures else [],
    }
    return fingerprint({}, settings)


def _night_file_as_dict(file: NightFile) -> dict[str, Any]:
    return {field.name: getattr(file, field.name) for field in dataclasses.fields(file)}


# The log beside the products: of one night, `night_log`, and of many, `logged_reports`.
#
# A JSON object a line, in ASCII, so that no name of a file or star can contain terminal control
# codes. Each run appends its lines to those of earlier runs. It is no product: it contains times
# and differs from run to run, no key depends on it, and `arrayred verify` ignores it. It is opened
# when the lock of the folder is held; what came before is kept until then (`run_records`).

OutcomeLog = Callable[[Outcome], None]
_MAX_LOG_BYTES = 1 << 20
"""A log that is longer when a run begins loses its oldest lines."""


class _LogFile(logging.Handler):
    """The log of an output folder, which only this run writes to.

    A `FileHandler` of the standard library prints an error of writing and goes on; this one keeps
    the first, which the end of the run raises: a full disk is exit code 5.
    """

    def __init__(self, out: Path) -> None:
        super().__init__(logging.INFO)
        self._path = out / LOG_FILE
        self._error: StorageError | None = None
        try:
            self._file = _opened_log(self._path)
        except OSError as error:
            raise storage_error(error, self._path, 0) from error

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line: time, event, and facts as JSON (others as `str`)."""
        now = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        event = {"event": getattr(record, "event", record.levelname.lower())}
        facts = getattr(record, "facts", None) or {"text": record.getMessage()}
        told = without_secrets(json.dumps({"time": now, **event, **facts}, default=str))
        line = told.encode("ascii") + b"\n"
        if self._error is None:
            try:
                left = memoryview(line)
                while left:
                    left = left[self._file.write(left) :]
            except OSError as error:
                self._error = storage_error(error, self._path, len(line))

    def close(self) -> None:
        """Close the file.

        Raises
        ------
        StorageError
            A line could not be written.
        """
        super().close()
        self._file.close()
        error, self._error = self._error, None  # the interpreter closes handlers again
        if error is not None:
            raise error


def _opened_log(path: Path) -> io.FileIO:
    """Return the file of a log, to append lines to; a link of its name is replaced."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            path.unlink()
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    file = io.FileIO(os.open(path, flags, 0o666), "rb+")
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - _MAX_LOG_BYTES, 0))
    if size > _MAX_LOG_BYTES:
        last = file.read()
        file.close()
        publish({path: last[last.find(b"\n") + 1 :]}, overwrite=True, durable=False)
        return _opened_log(path)
    if not file.read().endswith((b"\n", b"")[: 1 if size else 2]):  # a line cut by others
        file.write(b"\n")
    return file


@contextmanager
def run_records(*, apart: bool = True) -> Iterator[MemoryHandler]:
    """Keep the records of the run within, until `night_log` writes them.

    Parameters
    ----------
    apart : as in `progress.handled`.
    """
    from logging.handlers import MemoryHandler

    records = MemoryHandler(capacity=1, flushOnClose=False)
    records.setLevel(logging.INFO)
    facts = {"arrayred": __version__, "python": platform.python_version()}
    with handled(records, apart=apart):
        note("run", {**facts, "pid": os.getpid(), "command": shlex.join(sys.argv)})
        yield records


@contextmanager
def _written(records: MemoryHandler, out: Path) -> Iterator[dict[str, Any]]:
    """Write the records of a run to the log of a folder; its lock must be held.

    Yields
    ------
    facts : to be filled with what the last line says of the end.

    Raises
    ------
    StorageError
        The log cannot be written.
    """
    begun = records.buffer[0].created
    file = _LogFile(out)
    records.setTarget(file)
    records.flush()
    facts: dict[str, Any] = {"status": "done"}
    try:
        yield facts
    except BaseException as error:
        facts = {"status": "interrupted", "error": _error_text(error)}
        raise
    finally:
        note("end", {**facts, "seconds": round(time.time() - begun, 3)})
        records.setTarget(None)
        with suppress(StorageError) if facts["status"] != "done" else nullcontext():
            file.close()


@contextmanager
def night_log(
    night: Night, plan: Plan, output: OutputOptions, records: MemoryHandler
) -> Iterator[OutcomeLog]:
    """Write the log of a run, beside the products; the folder's lock must be held.

    Parameters
    ----------
    night, plan, output : as for `reduce_to`.
    records : those of the run, from `run_records`.

    Yields
    ------
    log : to be called with each outcome.

    Raises
    ------
    StorageError
        The log cannot be written.
    """
    with _written(records, output.out) as end:
        note("night", {"folder": str(night.folder), "frames": len(night.frames)})
        for text in _night_warnings(night, plan, output):
            level, told = level_of(text)
            note(level, {"text": told}, logging.WARNING if level == "check" else logging.INFO)
        end["failed"] = 0

        def log(outcome: Outcome) -> None:
            """Log the outcome of a target."""
            end["failed"] += outcome.error is not None
            level = logging.INFO if outcome.error is None else logging.ERROR
            note("target", _outcome_record(outcome), level)

        yield log


def logged_reports(
    reports: Generator[tuple[Report, bool], None, None], out: Path
) -> Generator[tuple[Report, bool], None, None]:
    """Yield the reports of many nights, and log each of them that is final.

    Parameters
    ----------
    reports : of `reduce_nights`; closed with this generator.
    out : the folder with the output folders of the nights; its lock must be held.

    Raises
    ------
    StorageError
        The log cannot be written.
    """
    with closing(reports), run_records() as records, _written(records, out):
        for report, is_final in reports:
            if is_final:
                note("night", _night_record(report))
            yield report, is_final


def _night_record(report: Report) -> dict[str, Any]:
    """Return the log record of a night."""
    counts = Counter(line.status for line in report.lines)
    reasons = [line.reason for line in report.lines if line.reason]
    told: dict[str, Any] = {"night": report.label}
    told |= {str(status): n for status, n in counts.items()}
    told |= {"seconds": round(report.seconds, 3)}
    return told | ({"errors": reasons} if reasons else {})


def _night_warnings(night: Night, plan: Plan, output: OutputOptions) -> Iterator[str]:
    yield from plan.warnings
    for target, cards in missing_target_cards(night, plan, output).items():
        yield f"{target}: left blank: {', '.join(cards)}"


def _outcome_record(outcome: Outcome) -> dict[str, Any]:
    """Return the log record of a target."""
    status = "failed" if outcome.error else "kept" if outcome.kept else "reduced"
    told: dict[str, Any] = {"target": outcome.name, "status": status, "files": len(outcome.files)}
    if outcome.damage:
        told["damaged"] = dict(outcome.damage)
    if every := each_spectrum(outcome.facts):
        told["procedure"] = [procedure_lines(facts) for facts in every]
    if remarks := outcome.facts.get("remarks"):
        told["remarks"] = list(remarks)
    if outcome.error:
        told |= {"error": str(outcome.error), "exit_code": outcome.error.exit_code}
    return told


def _error_text(error: BaseException) -> str:
    """Return the text of an error, with its type unless it is an ArrayredError."""
    is_ours = isinstance(error, ArrayredError)
    return str(error) if is_ours else ": ".join(filter(None, (type(error).__name__, str(error))))
