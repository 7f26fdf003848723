"""Run pieces of work in separate processes, each one piece at a time: `in_processes`.

Why not an executor of the standard library: there a killed process breaks the whole pool, and the
piece that it died on is unknown. Here each process has one piece and its own pipe, so that the
piece is known and tried again, and the others are unaffected. Processes are spawned, not forked: a
fork would inherit locks and threads. No port is opened. When the caller dies, however it dies, its
processes end at once.

It stands apart from `nights` since its import takes 15 ms, and one night needs no process.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from typing import TYPE_CHECKING, Any, TypeVar

from arrayred.errors import ResourceError
from arrayred.process import make_process_own

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

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
    pipe: connection.Connection
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
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run_worker, args=(theirs, work), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _run_worker(pipe: connection.Connection, work: Callable[[Any], Any]) -> None:
    """Work on the pieces received through the pipe until it is closed."""
    make_process_own()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller gets it too, and ends this process
    signal.signal(signal.SIGTERM, _exit_quietly)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError):
        while True:
            piece = pipe.recv()
            try:
                answer = work(piece)
            except Exception as error:  # a bug, to be told where somebody listens
                pipe.send((False, error))
            else:
                pipe.send((True, answer))


def _exit_quietly(_number: int, _frame: object) -> None:
    sys.exit(143)  # so that what is half written is taken away


def _end_with_parent() -> None:
    """End this process when its parent has ended."""
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
        hint="Give it more memory, or less to hold with --memory.",
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
