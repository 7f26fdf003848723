"""What goes wrong on a cluster, in our words: `told_as_ours`, `as_ours`.

Where a client of dask.distributed is active, dask computes on its cluster, and there more can go
wrong than in one process: workers die, and the scheduler goes away. Such errors say nothing of the
frames, so they become a ResourceError: the target fails, what is finished stays, and the run can be
begun again. Errors of ours come back from workers as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any

from arrayred.errors import ArrayredError, ResourceError

AGAIN = "What is finished is not done again: run the same once more."


@contextmanager
def told_as_ours() -> Iterator[None]:
    """Raise ResourceError for what a cluster does to a computation; let all else pass.

    Whatever computes is decorated with it: not only whole images are, but samples of frames too.
    """
    try:
        yield
    except ArrayredError:
        raise
    except Exception as error:
        told = as_ours(error)
        if told is None:
            raise
        raise told from error


def as_ours(error: Exception) -> ResourceError | None:
    """Return an error of dask.distributed as ours; None of any other.

    Parameters
    ----------
    error : what a computation raised, or what the result of a task is.
    """
    if "distributed" not in sys.modules:
        return None
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError
    from distributed.scheduler import NoValidWorkerError, NoWorkerError

    if isinstance(error, KilledWorker):
        return _killed(error)
    if isinstance(error, NoWorkerError | NoValidWorkerError):
        return ResourceError("No worker took it on", hint="Start workers. " + AGAIN)
    if isinstance(error, CancelledError | CommClosedError):
        return gone(getattr(error, "reason", "") or str(error))
    return None


def gone(why: str) -> ResourceError:
    """Return the error of a scheduler that does not answer any more."""
    found = " ".join(why.replace("-", " ").split()) or "it does not answer"
    return ResourceError(f"The scheduler of the cluster has gone ({found})", hint=AGAIN)


def _killed(error: Any) -> ResourceError:
    """Return the error of work whose workers died, each time."""
    worker = error.last_worker
    deaths = error.allowed_failures + 1
    limit = f", which may hold {worker.memory_limit >> 20} MiB" if worker.memory_limit else ""
    return ResourceError(
        f"{deaths} worker{'s' * (deaths > 1)} died of it, the last at "
        f"{PurePath(worker.address).name}{limit}",
        hint="Give workers more memory, or less to hold with --memory; their logs tell more.",
    )
