"""Reduce many nights on a dask cluster, one task per night: `cluster_executor`.

A task is a whole night, reduced within its worker by dask's synchronous scheduler: 10 000 nights
are 10 000 tasks, of which only the reports are sent back. If a night is given to a second worker,
because the first was thought dead, the second waits for the lock of the night's folder and finds
the night finished.

When a worker dies, the scheduler blames all nights that it had, since it cannot know which one
killed it. So nights that were given up are tried again at the end, each alone in the cluster: one
whose workers die then is the cause, and is reported.

Everything here trusts the scheduler: anyone who can connect to it can run code as its owner.
"""

from __future__ import annotations

import json
import logging
import platform
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from arrayred._version import __version__
from arrayred.batch.nights import (
    MAX_DEATHS,
    Executor,
    Job,
    Report,
    failed_report,
    reduce_one,
    with_absolute_paths,
)
from arrayred.errors import ArrayredError, InputError, ResourceError, UsageError
from arrayred.io.files import list_files
from arrayred.io.remote import Address
from arrayred.night import Plan
from arrayred.pipeline import cluster_error, scheduler_lost_error
from arrayred.process import interrupts_held

if TYPE_CHECKING:
    from distributed import Client, KilledWorker

NO_WORKERS_LIMIT_S = 60.0
"""Longest time that a cluster may be without workers, s."""
_HEARTBEAT_S, _POLL_S = 1.0, 0.02
_LOCK_WAIT_S = 3600.0
_LEAST_MEMORY, _PLENTY = 32 << 20, 1 << 30
_BYTES_OF_IMPORTS = 200 << 20
"""Memory of a worker before its first task, bytes."""


def cluster_executor(client: Client, *, no_workers_limit: float = NO_WORKERS_LIMIT_S) -> Executor:
    """Return the executor of jobs on a cluster, for `reduce_nights`.

    Parameters
    ----------
    client : of dask.distributed. Its workers must see the same files under the same names, and have
        this version of arrayred.
    no_workers_limit : longest time that the cluster may be without workers, s.

    Examples
    --------
    >>> from arrayred.batch import reduce_nights
    >>> def reduced(jobs, client):
    ...     return [report for report, _ in reduce_nights(jobs, cluster_executor(client))]
    """

    def way(jobs: Sequence[Job]) -> Iterator[Report]:
        """Yield the report of each job as it is done.

        Raises
        ------
        ResourceError
            The scheduler is gone, or there was no worker for too long.
        """
        suspects: list[tuple[Job, KilledWorker]] = []
        for job, done in _completed(client, jobs, no_workers_limit):
            if isinstance(done, Report):
                yield done
            else:
                suspects.append((job, done))
        for job, death in suspects:
            yield _run_alone(client, job, death, no_workers_limit)

    return way


def _run_alone(client: Client, job: Job, death: KilledWorker, no_workers_limit: float) -> Report:
    """Return the report of a night run alone on the cluster; failed if too many workers died."""
    n_deaths = death.allowed_failures + 1
    while n_deaths < MAX_DEATHS:
        ((_, done),) = _completed(client, [job], no_workers_limit)
        if isinstance(done, Report):
            return done
        death = done
        n_deaths += death.allowed_failures + 1
    error = cluster_error(death) or ResourceError(str(death))
    return failed_report(job, _with_file_sizes(error, job))


def _with_file_sizes(error: ResourceError, job: Job) -> ResourceError:
    """Return the error of a night that killed its workers, with the size of its files."""
    n_bytes = 0
    with suppress(OSError, ArrayredError):
        n_bytes = sum(path.stat().st_size for path in list_files(job.folder, depth=job.depth))
    told = f"{error.args[0]}; its files have {n_bytes / 2**20:.0f} MiB"
    return ResourceError(told, path=job.folder, hint=error.hint)


def _completed(
    client: Client, jobs: Sequence[Job], no_workers_limit: float
) -> Iterator[tuple[Job, Report | KilledWorker]]:
    """Yield each job with its report or its workers' death; on early exit the rest is cancelled."""
    from distributed import as_completed

    batch = f"reduce-{uuid.uuid4().hex[:12]}"  # a name of its own: nothing old is taken for it
    left = {}
    for job in jobs:
        sent = replace(with_absolute_paths(job), scheduler="", wait=_LOCK_WAIT_S)
        key = (batch, job.label)
        left[key] = client.submit(reduce_on_worker, sent, __version__, key=key, pure=False), job
    ended = as_completed([future for future, _ in left.values()], with_results=True)
    last_seen = last_check = time.monotonic()
    try:
        while left:
            done = ended.next_batch(block=False)  # blocking, it would not end with the cluster
            for future, result in done:
                _, job = left.pop(future.key)
                yield job, _report_or_death(job, result)
            if done:
                last_seen = last_check = time.monotonic()
            elif time.monotonic() - last_check > _HEARTBEAT_S:
                last_seen = _last_seen(client, last_seen, no_workers_limit)
                last_check = time.monotonic()
            else:
                time.sleep(_POLL_S)
    finally:
        with suppress(Exception):  # a cluster that has gone cancels nothing
            client.cancel([future for future, _ in left.values()], force=True)


def _last_seen(client: Client, last_seen: float, limit: float) -> float:
    """Return when a worker was last seen, on the clock of `time.monotonic`, s: now if there is one.

    Raises
    ------
    ResourceError
        The scheduler is gone, or there was no worker for longer than the limit, s.
    """
    if client.status != "running":
        raise scheduler_lost_error("")
    try:
        workers = client.sync(client.scheduler.ncores, callback_timeout=NO_WORKERS_LIMIT_S)
    except (OSError, TimeoutError) as error:
        raise scheduler_lost_error(str(error)) from error
    if workers:
        return time.monotonic()
    if time.monotonic() - last_seen > limit:
        raise ResourceError(
            f"The cluster has had no workers for {limit:g} s",
            hint="Start workers, or wait longer for them with --worker-timeout.",
        )
    return last_seen


def _report_or_death(job: Job, result: Any) -> Report | KilledWorker:
    """Return the report of a night, a failed one where no worker could begin, or a death.

    Parameters
    ----------
    result : of the task: a report, or the type, value and traceback of its error.

    Raises
    ------
    ResourceError
        The scheduler is gone.
    """
    from distributed import CancelledError, KilledWorker

    error = result[1] if isinstance(result, tuple) else result
    if isinstance(error, Report | KilledWorker):
        return error
    if isinstance(error, CancelledError):
        raise scheduler_lost_error(getattr(error, "reason", "")) from error
    told = cluster_error(error) or ResourceError(
        f"The cluster cannot run this task ({type(error).__name__}: {error})",
        hint=f"Install arrayred {__version__} and its dependencies on every worker.",
    )
    return failed_report(job, told)


def reduce_on_worker(job: Job, version: str) -> Report:
    """Reduce one night on a worker; errors are in the report.

    Parameters
    ----------
    job : the night.
    version : of arrayred on the machine that started the run.
    """
    try:
        if version != __version__:
            raise ResourceError(
                f"The worker on {platform.node()} has arrayred {__version__}, but this run has "
                f"{version}",
                hint="Install the same version on every worker.",
            )
        require_paths_visible([job.folder, *job.file.calibrations, *job.file.masters.values()])
    except ArrayredError as error:
        return failed_report(job, error)
    with _dask_synchronous():
        return reduce_one(_with_free_memory(job))


def require_paths_visible(paths: Sequence[Path]) -> None:
    """Raise InputError, naming this machine, unless all paths exist on it."""
    for path in paths:
        if not isinstance(path, Address) and not path.exists():
            raise InputError(
                f"The worker on {platform.node()} cannot see it",
                path=path,
                hint="Put it on a disk that all workers share, under the same path.",
            )


def require_frames_visible(client: Client, plan: Plan, memory: int | None) -> None:
    """Raise InputError, naming worker and path, unless all workers see the files they will read.

    Parameters
    ----------
    client : its workers read the groups of frames that are too large to be read at once.
    plan : of the night being reduced.
    memory : bytes that its bands may take, or None.
    """
    lamps = (lamp.frames for target in plan.targets for lamp in target.lamps)
    groups = [*plan.masters_to_make, *(flat.frames for flat in plan.flats.values()), *lamps]
    groups += [target.lights for target in plan.targets]
    large = [group for group in groups if group.band_rows(memory) < group.frames[0].shape[0]]
    paths = {frame.path.absolute(): None for group in large for frame in group.frames}
    if paths:
        client.run(require_paths_visible, list(paths))


def _with_free_memory(job: Job) -> Job:
    """Return a job whose bands fit into the free memory of this worker, if that is limited."""
    from distributed import get_worker

    worker = get_worker()
    limit = worker.memory_manager.memory_limit
    if (job.output.memory, job.output.limit) != (None, None) or not limit:
        return job
    free = (
        (limit - _BYTES_OF_IMPORTS) // 2 // worker.state.nthreads
    )  # as much again for the results
    if free >= _PLENTY:
        return job
    return replace(job, output=replace(job.output, memory=max(free, _LEAST_MEMORY)))


_nights_here = 0
_nights_lock = Lock()
_before: Any = None


@contextmanager
def _dask_synchronous() -> Iterator[None]:
    """Run dask without threads and without the cluster while any night is reduced here.

    The settings of dask belong to the process, and a worker may reduce several nights at once: the
    first sets them and the last resets them.
    """
    global _nights_here, _before
    import dask.config

    with _nights_lock:
        if _nights_here == 0:
            _before = dask.config.set(scheduler="synchronous")
        _nights_here += 1
    try:
        yield
    finally:
        with _nights_lock:
            _nights_here -= 1
            if _nights_here == 0:
                _before.__exit__(None, None, None)


# The client of a cluster: an existing one, `connect_client`, or a new one, `local_cluster`.
#
# Anyone who can connect to a dask scheduler can run code as the user who started it, so a cluster
# started here listens on 127.0.0.1 only and uses TLS with a temporary certificate, valid as long as
# the cluster: other users of the machine are refused. It has no dashboard unless requested, since
# that uses plain HTTP; the HTTP server that dask starts anyway then has no pages.
#
# No cluster is started unless requested.

_INSTALL = "pip install 'arrayred[cluster]'"
CONNECT_S = 10.0
"""Time that a scheduler has to answer, s."""
_ALLOWED_FAILURES = 0
_CLUSTER_CONFIG = {
    "distributed.scheduler.allowed-failures": _ALLOWED_FAILURES,  # `cluster` tries again, alone
    "distributed.scheduler.worker-saturation": 1.0,  # no night waits at a worker that may die
    "distributed.scheduler.worker-ttl": "60 s",
    "distributed.deploy.lost-worker-timeout": "1 hour",  # or two deaths in a row end a worker
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.admin.large-graph-warning-threshold": "1GB",  # masters travel with their bands
}
_DASHBOARD: dict[str, Any] = {
    # Without other origins bokeh accepts pages from localhost and its own port alone.
    "distributed.scheduler.dashboard.bokeh-application.allow_websocket_origin": [],
    "distributed.dashboard.link": "{scheme}://localhost:{port}/status",
}
_NO_HTTP_PAGES: dict[str, Any] = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,  # each takes 2 % of a processor, for those pages
}


@contextmanager
def local_cluster(n_workers: int, *, dashboard: bool = False) -> Iterator[Client]:
    """Start a cluster on this machine that no other user can use, and stop it on leaving.

    Parameters
    ----------
    n_workers : number of processes, of one thread each.
    dashboard : serve dask's dashboard on 127.0.0.1, open to every user of this machine.

    Yields
    ------
    client : the active one.

    Raises
    ------
    UsageError
        A required package is not installed.
    ResourceError
        The workers do not start.
    """
    _require_package("distributed", "A cluster")
    _require_package(
        "cryptography", "TLS, without which any user of this machine could run code as you,"
    )
    if dashboard:
        _require_package("bokeh", "The dashboard", "pip install 'bokeh>=3.8.2'")
    import dask.config
    from distributed import Client, LocalCluster, Security
    from distributed.utils import LoopRunner

    pages = _DASHBOARD if dashboard else _NO_HTTP_PAGES
    with _left_open_at_exit() as stack:
        stack.enter_context(dask.config.set({**_CLUSTER_CONFIG, **pages}))
        stack.enter_context(_without_tracebacks())
        runner = LoopRunner()
        with interrupts_held(spawned=True):
            runner.start()
        stack.callback(runner.stop)
        try:
            cluster = LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                host="127.0.0.1",
                protocol="tls",
                security=Security.temporary(),
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": dashboard},
                loop=runner.loop,
                silence_logs=logging.CRITICAL,
            )
            client = stack.enter_context(Client(stack.enter_context(cluster)))
            client.wait_for_workers(n_workers, timeout=60)
        except (OSError, TimeoutError, RuntimeError) as error:
            raise ResourceError(
                f"The cluster of {n_workers} workers does not start ({error})",
                hint="Ask for fewer workers, or use --jobs.",
            ) from error
        yield client


@contextmanager
def _left_open_at_exit() -> Iterator[ExitStack]:
    """Yield a stack that is not closed when this process is to end: its workers end with it.

    To close a cluster takes seconds.
    """
    with ExitStack() as stack:
        try:
            yield stack
        except SystemExit:
            stack.pop_all()
            raise


@contextmanager
def connect_client(where: str) -> Iterator[Client]:
    """Connect to a running scheduler.

    Parameters
    ----------
    where : its address, such as ``tls://host:8786``, or the path of its scheduler file.

    Yields
    ------
    client : the active one; its TLS keys are those of dask's configuration.

    Raises
    ------
    UsageError
        The file is not a scheduler file, or `distributed` is not installed.
    ResourceError
        No scheduler answers there.
    """
    _require_package("distributed", "A cluster")
    address = scheduler_address(where)
    import dask.config
    from distributed import Client

    with _left_open_at_exit() as stack:
        threshold = "distributed.admin.large-graph-warning-threshold"
        stack.enter_context(dask.config.set({threshold: _CLUSTER_CONFIG[threshold]}))
        stack.enter_context(_without_tracebacks())
        try:
            client = stack.enter_context(Client(address, timeout=CONNECT_S, name="arrayred"))
        except (OSError, TimeoutError, ValueError, TypeError) as error:
            cause = " ".join(str(error).split())
            raise ResourceError(
                f"No scheduler answers at {address} ({cause})",
                hint="Start it, or correct the address; tls:// needs keys in dask's configuration.",
            ) from error
        yield client


@contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Keep a client from printing the traceback of a lost connection: it is raised as an error."""
    logger = logging.getLogger("distributed.client")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def scheduler_address(where: str) -> str:
    """Return a scheduler's address, read from its scheduler file if one is given.

    Raises
    ------
    UsageError
        The file cannot be read, or has no address.

    Examples
    --------
    >>> scheduler_address("tls://node7:8786"), scheduler_address("node7:8786")
    ('tls://node7:8786', 'tcp://node7:8786')
    """
    if not where.endswith(".json"):
        return where if "://" in where else f"tcp://{where}"
    try:
        return str(json.loads(Path(where).read_bytes())["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"This is not a scheduler file ({error})",
            path=where,
            keyword="scheduler",
            hint="Start 'dask scheduler --scheduler-file FILE.json', and name its file.",
        ) from error


def is_open_to_others(address: str) -> bool:
    """Return whether the connection to a scheduler is neither encrypted nor authenticated.

    Examples
    --------
    >>> [is_open_to_others(a) for a in ("tcp://node7:8786", "tls://node7:8786")]
    [True, False]
    """
    return not address.startswith(("tls://", "wss://", "inproc://"))


def _require_package(package: str, what: str, install: str = _INSTALL) -> None:
    """Raise UsageError unless a package is installed."""
    if find_spec(package) is None:
        raise UsageError(
            f"{what} needs {package}, which is not installed",
            keyword=package,
            hint=f"{install}, or use --jobs, which opens no port.",
        )
