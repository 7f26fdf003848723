"""The client of a cluster: one that is there, `connected`, or one begun here, `local_cluster`.

Whoever can talk to a scheduler of dask can run code as the one who started it, so a cluster that is
begun here listens on 127.0.0.1 only and speaks TLS with a certificate that lives as long as it:
other users of the machine are refused. It has no dashboard unless one is asked for, since that
speaks plain HTTP; the HTTP server that dask starts all the same then has no pages.

Nothing here is done silently: no cluster begins unless it was asked for.
"""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arrayred.errors import ResourceError, UsageError

if TYPE_CHECKING:
    from distributed import Client

_INSTALL = "pip install 'arrayred[cluster]'"
CONNECT_S = 10.0
"""How long a scheduler has to answer, s."""
_DASHBOARD_PORT = 8787
_NO_DEATH_IS_REPEATED = 0
_SETTINGS = {
    "distributed.scheduler.allowed-failures": _NO_DEATH_IS_REPEATED,  # `cluster` tries again, alone
    "distributed.scheduler.worker-saturation": 1.0,  # no night waits at a worker that may die
    "distributed.scheduler.worker-ttl": "60 s",
    "distributed.deploy.lost-worker-timeout": "1 hour",  # or two deaths in a row end a worker
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.admin.large-graph-warning-threshold": "1GB",  # masters travel with their bands
}
_NO_PAGES: dict[str, Any] = {
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
}


@contextmanager
def local_cluster(n_workers: int, *, dashboard: bool = False) -> Iterator[Client]:
    """Begin a cluster on this machine that nobody else can use, and end it on leaving.

    Parameters
    ----------
    n_workers : processes, of one thread each.
    dashboard : serve dask's dashboard, on 127.0.0.1 too, to every user of this machine.

    Yields
    ------
    client : the active one.

    Raises
    ------
    UsageError
        What it needs is not installed.
    ResourceError
        The workers do not start.
    """
    _require("distributed", "A cluster")
    _require("cryptography", "TLS, without which any user of this machine could run code as you,")
    if dashboard:
        _require("bokeh", "The dashboard", "pip install 'bokeh>=3.8.2'")
    import dask.config
    from distributed import Client, LocalCluster, Security

    port = _free_port() if dashboard else 0
    pages = _only_asked_from(port) if dashboard else _NO_PAGES
    with ExitStack() as stack:
        stack.enter_context(dask.config.set({**_SETTINGS, **pages}))
        stack.enter_context(_silenced())
        try:
            cluster = LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                host="127.0.0.1",
                protocol="tls",
                security=Security.temporary(),
                dashboard_address=f"127.0.0.1:{port}",
                scheduler_kwargs={"dashboard": dashboard},
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
def connected(where: str) -> Iterator[Client]:
    """Connect to a scheduler that is there.

    Parameters
    ----------
    where : its address, as ``tls://host:8786``, or the path of its scheduler file.

    Yields
    ------
    client : the active one; the keys of TLS are those of dask's configuration.

    Raises
    ------
    UsageError
        The file is none, or `distributed` is not installed.
    ResourceError
        Nobody answers there.
    """
    _require("distributed", "A cluster")
    address = address_of(where)
    import dask.config
    from distributed import Client

    with ExitStack() as stack:
        threshold = "distributed.admin.large-graph-warning-threshold"
        stack.enter_context(dask.config.set({threshold: _SETTINGS[threshold]}))
        stack.enter_context(_silenced())
        try:
            client = stack.enter_context(Client(address, timeout=CONNECT_S, name="arrayred"))
        except (OSError, TimeoutError, ValueError, TypeError) as error:
            cause = " ".join(str(error).split())
            raise ResourceError(
                f"No scheduler answers at {address} ({cause})",
                hint="Start it, or mend the address; tls:// needs keys in dask's configuration.",
            ) from error
        yield client


@contextmanager
def _silenced() -> Iterator[None]:
    """Let a client not print the traceback of a connection that is lost: it is told as an error."""
    logger = logging.getLogger("distributed.client")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def address_of(where: str) -> str:
    """Return a scheduler's address, read from its file if it is one.

    Raises
    ------
    UsageError
        The file cannot be read, or names no address.

    Examples
    --------
    >>> address_of("tls://node7:8786"), address_of("node7:8786")
    ('tls://node7:8786', 'tcp://node7:8786')
    """
    if not where.endswith(".json"):
        return where if "://" in where else f"tcp://{where}"
    try:
        return str(json.loads(Path(where).read_bytes())["address"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"This is no scheduler file ({error})",
            path=where,
            keyword="scheduler",
            hint="Start 'dask scheduler --scheduler-file FILE.json', and name its file.",
        ) from error


def is_open_to_others(address: str) -> bool:
    """Tell whether others on the way to a scheduler can listen or pretend to be it.

    Examples
    --------
    >>> [is_open_to_others(a) for a in ("tcp://node7:8786", "tls://node7:8786")]
    [True, False]
    """
    return not address.startswith(("tls://", "wss://", "inproc://"))


def _require(package: str, what: str, install: str = _INSTALL) -> None:
    """Raise UsageError unless a package is installed."""
    if find_spec(package) is None:
        raise UsageError(
            f"{what} needs {package}, which is not installed",
            keyword=package,
            hint=f"{install}, or use --jobs, which opens no port.",
        )


def _free_port() -> int:
    """Return the dashboard's usual port, or if that is taken another one."""
    for port in (_DASHBOARD_PORT, 0):
        with socket.socket() as trial:
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(trial.getsockname()[1])
    return 0


def _only_asked_from(port: int) -> dict[str, Any]:
    """Return the setting that lets no page of another site talk to the dashboard."""
    names = [f"{host}:{port}" for host in ("127.0.0.1", "localhost")]
    return {"distributed.scheduler.dashboard.bokeh-application.allow_websocket_origin": names}
