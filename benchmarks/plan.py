"""What ten thousand nights on a hundred workers would take: ``python -m benchmarks.plan``.

Small things are measured here: what one night costs in seconds of a processor, bytes, files and
calls of the file system; how two workers do beside one; how many tasks a second the scheduler
hands out. From these follows, for any number of nights and workers, how long each resource alone
would be busy. The longest is what the run takes, and what breaks first when workers are added.

Times are those of the processor, so that a machine that is busy otherwise tells the same; only the
wall time of one and of two workers is told beside them. What cannot be measured here is assumed, by
name: bandwidth and calls a second of a disk that all workers share. Give those of your own site.
"""

from __future__ import annotations

import argparse
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from arrayred.batch import Job, OutputOptions, reduce_one
from benchmarks.nights import SHAPE, simulated_nights

if TYPE_CHECKING:
    from distributed import Client

_CALLS = {"open", "os.rename", "os.remove", "os.mkdir", "os.scandir", "os.listdir"}
NIGHTS, WORKERS = 10_000, (1, 10, 100, 1_000)


@dataclass(frozen=True)
class Night:
    """What one night costs.

    Parameters
    ----------
    seconds : of a processor.
    read, written : bytes of frames, and of products. Frames are read twice, for their pixels and
        their checksums, but the second time from the worker's own page cache.
    calls : of the file system: files opened, renamed and removed, folders made and listed.
    sent : bytes of its task and of its report.
    """

    seconds: float
    read: int
    written: int
    calls: int
    sent: int


@dataclass(frozen=True)
class Site:
    """What a cluster can do.

    Parameters
    ----------
    tasks : a second of its processor that the scheduler hands out and takes back; measured.
    efficiency : processor seconds of a night beside no other / beside another; measured.
    bandwidth : bytes a second of the shared disk, all workers together; assumed.
    calls : a second of the shared disk's file system; assumed.
    network : bytes a second of the scheduler's own; assumed.
    """

    tasks: float
    efficiency: float = 1.0
    bandwidth: float = 1e9
    calls: float = 5_000.0
    network: float = 1e8


@dataclass(frozen=True)
class Forecast:
    """How long each resource alone would be busy, seconds."""

    n_nights: int
    n_workers: int
    busy: dict[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Return what the run takes: as long as its busiest resource."""
        return max(self.busy.values())

    @property
    def limit(self) -> str:
        """Return the busiest resource."""
        return max(self.busy, key=lambda name: self.busy[name])


def forecast(night: Night, site: Site, n_nights: int, n_workers: int) -> Forecast:
    """Return how long each resource is busy with so many nights on so many workers.

    Workers beyond the first lose what the second was measured to lose; more is not claimed.

    Examples
    --------
    >>> night, site = Night(1.0, 9_000_000, 1_000_000, 50, 2_000), Site(tasks=500.0)
    >>> plan = forecast(night, site, 10_000, 100)
    >>> plan.seconds, plan.limit
    (100.0, 'processors')
    >>> forecast(night, site, 10_000, 1_000).limit
    'disk: bytes'
    """
    efficiency = site.efficiency if n_workers > 1 else 1.0
    busy = {
        "processors": n_nights * night.seconds / (n_workers * efficiency),
        "scheduler": n_nights / site.tasks,
        "network": n_nights * night.sent / site.network,
        "disk: bytes": n_nights * (night.read + night.written) / site.bandwidth,
        "disk: calls": n_nights * night.calls / site.calls,
    }
    return Forecast(n_nights, n_workers, busy)


def most_workers(night: Night, site: Site) -> tuple[int, str]:
    """Return from how many workers on more are of no use, and which resource says so.

    Examples
    --------
    >>> most_workers(Night(1.0, 9_000_000, 1_000_000, 50, 2_000), Site(tasks=500.0))
    (100, 'disk: bytes')
    """
    alone = forecast(night, site, NIGHTS, 1).busy
    work = alone.pop("processors")
    limit = max(alone, key=lambda name: alone[name])
    return max(1, int(work / site.efficiency / alone[limit])), limit


def cost_of(nights: Sequence[Path], out: Path) -> Night:
    """Return what a night costs, as the mean over some; the first alone pays for imports."""
    jobs = [_job(night, out / night.name) for night in nights]
    reduce_one(jobs[0])
    calls = 0

    def hook(event: str, args: tuple[object, ...]) -> None:
        nonlocal calls
        calls += event in _CALLS and not str(args[0]).endswith((".py", ".pyc"))

    sys.addaudithook(hook)
    began, before = time.process_time(), calls
    reports = [reduce_one(job) for job in jobs[1:]]
    seconds, made, n = time.process_time() - began, calls - before, len(jobs) - 1
    sent = sum(len(pickle.dumps(told)) for told in (*jobs[1:], *reports))
    read = sum(path.stat().st_size for night in nights[1:] for path in night.iterdir())
    written = sum(
        path.stat().st_size
        for job in jobs[1:]
        for path in job.output.out.rglob("*")
        if path.is_file()
    )
    return Night(seconds / n, read // n, written // n, made // n, sent // n)


def _job(night: Path, out: Path) -> Job:
    return Job(night.name, night, OutputOptions(out, cards={}, figures=False))


@dataclass(frozen=True)
class Took:
    """What a night took on a cluster: seconds by the clock, and of its workers' processors."""

    wall: float
    cpu: float


def site_of(nights: Sequence[Path], out: Path) -> tuple[Site, dict[int, Took]]:
    """Return what a cluster of this machine can do, and what a night takes by its workers."""
    from arrayred.batch import cluster_executor, local_cluster

    took: dict[int, Took] = {}
    tasks = 0.0
    for n_workers in (1, 2):
        with local_cluster(n_workers) as client:
            ready = [_job(night, out / f"first-{n_workers}" / night.name) for night in nights]
            list(cluster_executor(client)(ready[: 2 * n_workers]))  # each worker imports
            jobs = [_job(night, out / str(n_workers) / night.name) for night in nights]
            began, before = time.perf_counter(), _worked(client)
            list(cluster_executor(client)(jobs))
            wall, cpu = time.perf_counter() - began, _worked(client) - before
            took[n_workers] = Took(wall / len(jobs), cpu / len(jobs))
            tasks = _tasks_a_second(client, jobs[0])
    return Site(tasks, min(1.0, took[1].cpu / took[2].cpu)), took


def _worked(client: Client) -> float:
    """Return the processor seconds of all workers so far."""
    return sum(client.run(time.process_time).values())


def _tasks_a_second(client: Client, job: Job, n_tasks: int = 1_000) -> float:
    """Return how many tasks of a night's size, that do nothing, this process serves a second.

    It is scheduler and client at once, and the seconds are those of its processor.
    """
    began = time.process_time()
    keys = [f"{began}-{i}" for i in range(n_tasks)]
    client.gather(client.map(_nothing, [job] * n_tasks, key=keys))
    return n_tasks / (time.process_time() - began)


def _nothing(_job: Job) -> None:
    return None


def page(night: Night, site: Site, measured: dict[int, Took]) -> Iterator[str]:
    """Yield what was measured, what is assumed, and the forecast, as lines of Markdown."""
    yield f"Measured: a night is {night.seconds:.3f} s of a processor, {night.read / 1e6:.0f} MB"
    yield f"read, {night.written / 1e6:.1f} MB written, {night.calls} calls of the file system, and"
    yield f"{night.sent / 1e3:.1f} kB to and from the scheduler."
    for n, took in measured.items():
        yield f"{n} worker(s): a night each {took.wall:.3f} s, of processors {took.cpu:.3f} s;"
    yield f"efficiency {site.efficiency:.2f}; the scheduler does {site.tasks:.0f} tasks/s."
    yield f"Assumed: a shared disk of {site.bandwidth / 1e6:.0f} MB/s and {site.calls:.0f} calls/s,"
    yield f"a network of {site.network / 1e6:.0f} MB/s at the scheduler."
    yield ""
    names = list(forecast(night, site, 1, 1).busy)
    yield f"| nights | workers | {' | '.join(f'{name}, s' for name in names)} | takes | limit |"
    yield "|---" * (len(names) + 4) + "|"
    for n_workers in WORKERS:
        plan = forecast(night, site, NIGHTS, n_workers)
        cells = " | ".join(f"{plan.busy[name]:.0f}" for name in names)
        yield f"| {NIGHTS} | {n_workers} | {cells} | {_told(plan.seconds)} | {plan.limit} |"
    n_most, limit = most_workers(night, site)
    yield ""
    yield f"From {n_most} workers on, more are of no use: {limit} is the limit."


def _told(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds > 3600 else f"{seconds / 60:.1f} min"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the plan."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="arrayred-plan-", dir=options.folder) as temporary:
        folder = Path(temporary)
        nights = simulated_nights(folder / "nights", options.nights, SHAPE)
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors", file=sys.stderr)
        night = cost_of(nights[:6], folder / "cost")
        site, measured = site_of(nights, folder / "out")
    night = replace(night, seconds=measured[1].cpu)  # with what a worker does beside its nights
    site = replace(site, bandwidth=options.bandwidth * 1e6, calls=options.calls)
    print("\n".join(page(night, site, measured)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plan", description=__doc__)
    add = parser.add_argument
    add("--nights", type=int, default=40, help="how many are reduced to measure [40]")
    add("--bandwidth", type=float, default=1000.0, help="of the shared disk, MB/s [1000]")
    add("--calls", type=float, default=5000.0, help="of its file system, a second [5000]")
    add("--folder", type=Path, metavar="DIR", help="for frames and products [temporary]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
