"""Options about where the work is done, and what they amount to: threads, processes, a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from arrayred.cli.wishes import Wishes, wish
from arrayred.errors import UsageError, printable

if TYPE_CHECKING:
    from distributed import Client

    from arrayred.batch.nights import Way

_ADDRESS = "DASK_SCHEDULER_ADDRESS"
_DASK = ("threads", "synchronous", "processes")
_PATIENCE_S = 60.0


class Scheduler(click.ParamType[str]):
    """A way in which dask works by itself, a scheduler's address, or its file."""

    name = "HOW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it, if it is one of these."""
        text = str(value)
        host, colon, port = text.partition("://")[-1].rpartition(":")
        if "://" not in text:
            host, colon, port = text.rpartition(":")
        if text in _DASK or text.endswith(".json") or (host and colon and port.isdecimal()):
            return text
        return self.fail(
            f"{text!r} is none of {', '.join(_DASK)}, HOST:PORT, FILE.json", param, ctx
        )


_OPTIONS = (
    wish("--jobs", type=click.IntRange(1, 256), metavar="N",
         help="Nights at once, in processes. [default: 1]"),
    wish("--workers", type=click.IntRange(1, 1024), metavar="N",
         help="Begin a cluster of dask with so many workers, here and for this run only."),
    wish("--dashboard", is_flag=True, help="Of --workers: serve dask's dashboard on 127.0.0.1."),
    wish("--scheduler", type=Scheduler(), metavar="threads|synchronous|processes|ADDRESS|FILE.json",
         help="How dask works, or where the scheduler of a cluster is. "
         f"[default: threads, or what {_ADDRESS} says]"),
    wish("--worker-timeout", type=click.FloatRange(min=1), metavar="SECONDS",
         help="How long a cluster may be without workers. [default: 60]"),
)  # fmt: skip


def about_clusters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options about where its work is done."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def dask_way(wishes: Wishes) -> str:
    """Return how dask works by itself, "" for its own choice."""
    scheduler: str = wishes.get("scheduler", "")
    return scheduler if scheduler in _DASK else ""


@contextmanager
def working(wishes: Wishes) -> Iterator[Client | None]:
    """Yield the client of the cluster that was asked for, begun here or there; None of none.

    Raises
    ------
    UsageError
        The options exclude each other, or something is not installed.
    ResourceError
        The cluster does not start, or does not answer.
    """
    where, quiet = _cluster_of(wishes), wishes.get("quiet", False)
    if "workers" in wishes:
        from arrayred.batch.cluster import local_cluster

        dashboard = wishes.get("dashboard", False)
        with local_cluster(wishes["workers"], dashboard=dashboard) as client:
            if dashboard and not quiet:
                click.echo(f"dashboard: {client.dashboard_link}", err=True)
            yield client
    elif where:
        from arrayred.batch.cluster import address_of, connected, is_open_to_others

        address = address_of(where)
        if is_open_to_others(address) and not quiet:
            click.echo(
                f"arrayred: warning: {printable(address)} is not tls://: whoever can reach it can "
                "run code as you",
                err=True,
            )
        with connected(where) as client:
            yield client
    else:
        yield None


def _cluster_of(wishes: Wishes) -> str:
    """Return the address of the cluster that was asked for, or ""."""
    scheduler: str = wishes.get("scheduler", "")
    is_address = scheduler not in ("", *_DASK)
    asked = [f"--{name}" for name in ("jobs", "workers") if name in wishes]
    asked += ["--scheduler"] if is_address or (asked and "workers" in wishes and scheduler) else []
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} exclude each other", hint="Give one of them.")
    if "dashboard" in wishes and "workers" not in wishes:
        raise UsageError("--dashboard is of --workers", hint="Give --workers N too.")
    if asked or scheduler:
        return scheduler if is_address else ""
    return os.environ.get(_ADDRESS, "")


def way_of(client: Client | None, wishes: Wishes) -> Way:
    """Return the way to do many nights."""
    from arrayred.batch import in_crew, one_by_one

    if client is not None:
        from arrayred.batch.cluster import on_cluster

        return on_cluster(client, patience=wishes.get("worker_timeout", _PATIENCE_S))
    n_jobs = wishes.get("jobs", 1)
    return one_by_one if n_jobs == 1 else in_crew(n_jobs)
