"""Workers die at any moment: what is finished stays, the rest is done again, the guilty named.

What becomes of a run whose scheduler dies is told in tests/cli/test_clusters.py.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("distributed")
pytest.importorskip("cryptography")
import dask.config
from distributed import Client, LocalCluster

from arrayred.batch import (
    MAX_DEATHS,
    Job,
    Report,
    cluster_executor,
    local_cluster,
    reduce_nights,
)
from tests.batch.clusters import COMBINE, LOAD, WRITE, Trap, jobs_of, trapped, truth_of
from tests.batch.disturbed import job_of, products, temporaries, write_nights

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="signals")]


def reduced(jobs: list[Job], client: Client) -> dict[str, Report]:
    return {report.label: report for report, _ in reduce_nights(jobs, cluster_executor(client))}


@pytest.mark.parametrize(
    ("where", "place"), [(LOAD, "nights"), (COMBINE, "nights"), (WRITE, "out")]
)
def test_a_worker_killed_at_its_work_changes_no_byte(
    client: Client, three: Path, tmp_path: Path, where: str, place: str
) -> None:
    truth, once = truth_of(three, tmp_path / "alone"), tmp_path / "once"
    with trapped(client, Trap(where, str(tmp_path / place / "night-1"), "kill", once)):
        reports = reduced(jobs_of(three, tmp_path / "out"), client)
    assert once.exists()
    assert not any(report.exit_code for report in reports.values())
    assert products(tmp_path / "out") == truth
    assert not temporaries(tmp_path / "out")


def test_a_night_that_kills_its_workers_is_named_and_the_others_are_published(
    client: Client, three: Path, tmp_path: Path
) -> None:
    truth = truth_of(three, tmp_path / "alone")
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    with trapped(client, Trap(LOAD, str(three / "night-1"), "die noted", deaths)):
        reports = reduced(jobs_of(three, tmp_path / "out"), client)
    assert {label: r.exit_code for label, r in reports.items()} == {
        "night-0": 0, "night-1": 7, "night-2": 0,
    }  # fmt: skip
    assert f"{three}/night-1: 1 worker died, the last at" in reports["night-1"].lines[0].reason
    assert len(list(deaths.iterdir())) == MAX_DEATHS
    there = products(tmp_path / "out")
    assert there == {name: truth[name] for name in truth if not name.startswith("night-1")}
    assert not any(r.exit_code for r in reduced(jobs_of(three, tmp_path / "out"), client).values())
    assert products(tmp_path / "out") == truth


def test_a_night_over_the_memory_of_its_worker_is_told_so(three: Path, tmp_path: Path) -> None:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            memory_limit="450MiB",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
        trapped(client, Trap(LOAD, str(three / "night-1"), "hold")),
    ):
        reports = reduced(jobs_of(three, tmp_path / "out"), client)
    assert [reports[f"night-{i}"].exit_code for i in range(3)] == [0, 7, 0]
    reason = reports["night-1"].lines[0].reason
    assert "with a limit of 450 MiB; its files have 0 MiB" in reason
    assert "--memory" in reason


def test_a_large_night_whose_worker_is_killed_has_the_same_bytes(
    client: Client, three: Path, tmp_path: Path
) -> None:
    truth, once = truth_of(three, tmp_path / "alone"), tmp_path / "once"
    trap = Trap("arrayred.io.pixels.read_band", str(three / "night-0/light"), "kill", once)
    with trapped(client, trap):
        jobs = [job_of(three / f"night-{i}", tmp_path / f"out/night-{i}", memory=300 << 10)
                for i in range(3)]  # fmt: skip
        reports = [report for report, _ in reduce_nights(jobs)]
    assert once.exists()
    codes = [report.exit_code for report in reports]
    if codes[0]:  # nothing died but the bands of that night
        assert "worker died" in reports[0].lines[0].reason
        assert not any(report.exit_code for report, _ in reduce_nights(jobs))
    assert codes[1:] == [0, 0]
    assert products(tmp_path / "out") == truth


def test_ten_random_deaths_leave_the_same_bytes(tmp_path: Path) -> None:
    write_nights(tmp_path / "nights", 8)
    truth, out = truth_of(tmp_path / "nights", tmp_path / "alone"), tmp_path / "out"
    jobs = jobs_of(tmp_path / "nights", out)
    forced = [replace(job, output=replace(job.output, force=True)) for job in jobs]
    with local_cluster(4) as client:
        killer = threading.Thread(target=kill_at_work, args=(client, 10))
        killer.start()
        while killer.is_alive():
            assert {report.exit_code for report in reduced(forced, client).values()} <= {0, 7}
        killer.join()
        assert not any(report.exit_code for report in reduced(jobs, client).values())
    assert (products(out) == truth, temporaries(out)) == (True, [])


def kill_at_work(client: Client, times: int) -> None:
    """Kill a worker that has something to do, some time after it began, again and again."""
    moments, dead = random.Random(0), set[int]()
    while len(dead) < times:
        time.sleep(moments.uniform(0.0, 1.2))
        known = list(client.cluster.scheduler.workers.values())
        busy = [worker.pid for worker in known if worker.processing and worker.pid not in dead]
        if busy:
            pid = moments.choice(busy)
            os.kill(pid, signal.SIGKILL)
            dead.add(pid)
