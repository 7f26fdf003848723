"""Nights on a cluster are those of one process, whoever dies, and nobody else may use it."""

from __future__ import annotations

import dataclasses
import platform
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("distributed")
pytest.importorskip("cryptography")
from distributed import Client, LocalCluster, Security

from arrayred import __version__
from arrayred.batch import (
    cluster,
    cluster_executor,
    connect_client,
    local_cluster,
    reduce_nights,
    reduce_on_worker,
    reduce_one,
    require_frames_visible,
)
from arrayred.config import Recipe
from arrayred.errors import ArrayredError, FrameError, InputError, NightError, ResourceError
from arrayred.io import open_frames, write_frames
from arrayred.night import make_plan, open_night
from arrayred.pipeline import reduce_night, settle
from arrayred.simulate import SimulatedNight
from tests.batch.clusters import LOAD, Trap, jobs_of, listening, trapped, truth_of
from tests.batch.disturbed import DETECTOR, job_of, products


def test_nights_are_those_of_one_process(
    client: Client, three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = truth_of(three, tmp_path / "alone")
    monkeypatch.chdir(tmp_path)  # where no worker is
    for status in ("reduced", "kept"):
        jobs = jobs_of(Path("nights"), Path("out"))
        reports = [report for report, _ in reduce_nights(jobs, cluster_executor(client))]
        assert sorted(report.label for report in reports) == [job.label for job in jobs]
        assert {line.status for report in reports for line in report.lines} == {status}
    assert products(Path("out")) == truth


def test_a_night_without_darks_takes_those_of_the_others(
    client: Client, three: Path, tmp_path: Path
) -> None:
    for path in (three / "night-1").glob("dark*"):
        path.unlink()
    truth = truth_of_all(three, tmp_path / "alone")
    reports = list(reduce_nights(jobs_of(three, tmp_path / "out"), cluster_executor(client)))
    assert [is_final for _, is_final in reports].count(False) == 1
    assert products(tmp_path / "out") == truth


def truth_of_all(nights: Path, out: Path) -> dict[str, bytes]:
    assert len(list(reduce_nights(jobs_of(nights, out)))) == 4
    return products(out)


def test_a_night_that_is_done_twice_at_once_is_made_once(
    client: Client, three: Path, tmp_path: Path
) -> None:
    truth = reduce_one(job_of(three / "night-0", tmp_path / "alone"))
    job = dataclasses.replace(job_of(three / "night-0", tmp_path / "out"), wait=60.0)
    with trapped(client, Trap(LOAD, str(three), "linger", tmp_path / "once")):
        workers = list(client.nthreads())
        tasks = [
            client.submit(reduce_on_worker, job, __version__, workers=[worker], pure=False)
            for worker in workers
        ]
        reports = client.gather(tasks)
    assert sorted(report.lines[0].status for report in reports) == ["kept", "reduced"]
    assert truth.exit_code == 0
    assert products(tmp_path / "out") == products(tmp_path / "alone")


def test_a_worker_of_another_version_does_nothing(
    client: Client, three: Path, tmp_path: Path
) -> None:
    job = job_of(three / "night-0", tmp_path / "out")
    report = client.submit(reduce_on_worker, job, "0.0.1", pure=False).result()
    assert (report.exit_code, f"{platform.node()} has arrayred" in report.lines[0].reason) == (7, 1)
    assert not (tmp_path / "out").exists()


def test_a_path_that_a_worker_does_not_see_is_named_with_the_worker(
    client: Client, three: Path, tmp_path: Path
) -> None:
    job = job_of(tmp_path / "elsewhere", tmp_path / "out")
    report, _ = next(reduce_nights([job], cluster_executor(client)))
    told = report.lines[0].reason
    assert f"{tmp_path}/elsewhere: The worker on {platform.node()} cannot see it" in told
    plan = make_plan(open_night(three / "night-0"), Recipe())
    (three / "night-0" / "light-001.fit").unlink()
    with pytest.raises(InputError, match=r"light-001\.fit: The worker on"):
        require_frames_visible(client, plan, 300 << 10)
    require_frames_visible(client, plan, None)  # what is small is read here


def test_what_a_worker_cannot_even_begin_fails_its_night(
    client: Client, three: Path, tmp_path: Path
) -> None:
    job = job_of(three / "night-0", tmp_path / "out", cards={"OBJECT": NeverThere()})
    report, _ = next(reduce_nights([job], cluster_executor(client)))
    assert report.exit_code == 7
    assert "The cluster cannot run this task (" in report.lines[0].reason


class NeverThere:
    """Something that cannot be read again where it was sent."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return __import__, ("no_module_of_this_name",)


# One large night


def test_a_large_night_is_read_by_the_workers_and_has_the_same_bytes(
    client: Client, three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reduce_one(job_of(three / "night-0", tmp_path / "alone")).exit_code == 0
    get, computed = client.get, []
    monkeypatch.setattr(client, "get", lambda *a, **o: computed.append(a) or get(*a, **o))
    job = job_of(three / "night-0", tmp_path / "out", memory=300 << 10)
    assert reduce_one(job).exit_code == 0
    assert products(tmp_path / "out") == products(tmp_path / "alone")
    assert len(computed) >= 2  # the dark, and the lights


def test_the_result_in_memory_is_the_same_too(client: Client, three: Path) -> None:
    lazy = reduce_night(three / "night-0", chunks=7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DASK_SCHEDULER", "synchronous")
        eager = reduce_night(three / "night-0", chunks=None)
    for name in ("combined", "spectrum"):
        for variable, values in eager[f"targets/Vega/{name}"].data_vars.items():
            np.testing.assert_array_equal(lazy[f"targets/Vega/{name}"][variable], values)


def test_a_file_that_has_changed_gives_a_new_result_in_the_same_client(
    client: Client, tmp_path: Path
) -> None:
    def first_pixel(seed: int) -> int:
        frames = SimulatedNight(DETECTOR, seed=seed, n_lights=0).frames()
        write_frames(frames, tmp_path, overwrite=True)
        cube = open_frames(tmp_path, chunks=64)
        kept.append(client.persist(cube.counts))
        return int(kept[-1][0, 0, 0])

    kept: list[object] = []
    values = [first_pixel(seed) for seed in (1, 2, 1)]
    assert values[0] == values[2] != values[1]


def test_an_error_of_a_band_names_its_file(client: Client, three: Path) -> None:
    cube = open_frames(sorted((three / "night-0").glob("light*")), chunks=10)
    (three / "night-0" / "light-001.fit").write_bytes(b"cut")
    with pytest.raises(FrameError, match=r"light-001\.fit: The file has changed"):
        settle(cube)


# Errors travel


def family(error: type[ArrayredError]) -> list[type[ArrayredError]]:
    return [error, *(child for sub in error.__subclasses__() for child in family(sub))]


ALL = [
    NightError((InputError("Odd", path="a.fit"),))
    if kind is NightError
    else kind("Odd", path=Path("a/b.fit"), keyword="EXPTIME", value=60.0, hint="Mend it.")
    for kind in family(ArrayredError)
]


def raise_it(error: ArrayredError) -> None:
    raise error


def facts(error: ArrayredError) -> tuple[object, ...]:
    return type(error), str(error), error.path, error.keyword, error.value, error.hint


def test_all_errors_survive_a_cluster_and_a_pool_of_processes(client: Client) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for error in ALL:
            task, call = client.submit(raise_it, error, pure=False), pool.submit(raise_it, error)
            for came in (task.exception(), call.exception()):
                assert isinstance(came, ArrayredError)
                assert facts(came) == facts(error)


# Who may use a cluster, and what becomes of one that is gone


def pids(client: Client) -> list[int]:
    import os

    return [os.getpid(), *client.run(lambda: __import__("os").getpid()).values()]


def test_a_cluster_listens_on_the_loopback_only_and_has_no_pages(client: Client) -> None:
    import urllib.error
    import urllib.request

    addresses = listening(lambda: pids(client))
    assert len(addresses) >= 4
    assert set(addresses) == {"0100007F"}
    for page in ("status", "info/main/workers.html", "json/counts.json", "proxy/80/x/"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{client.dashboard_link.removesuffix('status')}{page}")


def test_a_dashboard_is_for_pages_of_this_machine_alone() -> None:
    import urllib.error
    import urllib.request

    pytest.importorskip("bokeh")
    with local_cluster(1, dashboard=True) as client:
        address, port = client.dashboard_link, int(client.dashboard_link.split(":")[2][:-7])
        assert address == f"http://localhost:{port}/status"
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/status").status == 200
        for origin, code in ((f"http://localhost:{port}", 101), ("http://evil.example", 403)):
            assert answer_to_websocket(port, origin) == code


def answer_to_websocket(port: int, origin: str) -> int:
    """Return the status with which the dashboard answers a page of some origin."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Origin": origin}
    headers |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    connection.request("GET", "/status/ws", headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_nobody_without_its_key_can_use_a_cluster(client: Client) -> None:
    address = client.scheduler.address
    assert address.startswith("tls://127.0.0.1:")
    for other, security in (
        (address.replace("tls", "tcp"), None),
        (address, Security.temporary()),
    ):
        with pytest.raises((OSError, TimeoutError)):
            Client(other, security=security, timeout="2 s")


def test_a_cluster_is_given_up_after_its_patience_and_not_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, workers = [0.0], {"tcp://a": 1}
    monkeypatch.setattr(cluster.time, "monotonic", lambda: now[0])
    answering = SimpleNamespace(
        status="running", scheduler=SimpleNamespace(ncores=None), sync=lambda *_a, **_o: workers
    )
    seen = 0.0
    for now[0], worker in ((100.0, "tcp://a"), (150.0, ""), (160.0, "")):
        workers = {worker: 1} if worker else {}
        seen = cluster._last_seen(answering, seen, 60.0)  # type: ignore[arg-type]
        assert seen == 100.0
    now[0] = 161.0
    with pytest.raises(ResourceError, match="no workers for 60 s"):
        cluster._last_seen(answering, seen, 60.0)  # type: ignore[arg-type]
    answering.status = "connecting"
    with pytest.raises(ResourceError, match="cluster scheduler lost"):
        cluster._last_seen(answering, now[0], 60.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limit", "own", "memory"),
    [
        (None, None, None),
        (16 << 30, None, None),
        (600 << 20, None, 100 << 20),
        (210 << 20, None, 32 << 20),
        (600 << 20, 1 << 20, 1 << 20),
    ],
)
def test_a_night_holds_no_more_than_its_worker_may(
    monkeypatch: pytest.MonkeyPatch, limit: int | None, own: int | None, memory: int | None
) -> None:
    manager, state = SimpleNamespace(memory_limit=limit), SimpleNamespace(nthreads=2)
    worker = SimpleNamespace(memory_manager=manager, state=state)
    monkeypatch.setattr("distributed.get_worker", lambda: worker)
    job = job_of(Path("night"), Path("out"), memory=own)
    assert cluster._with_free_memory(job).output.memory == memory


NO_PAGES = {"dashboard": False}


def test_a_cluster_without_workers_is_waited_for_in_vain(three: Path, tmp_path: Path) -> None:
    with (
        LocalCluster(
            n_workers=0, host="127.0.0.1", dashboard_address=None, scheduler_kwargs=NO_PAGES
        ) as alone,
        connect_client(alone.scheduler_address) as client,
    ):
        way = cluster_executor(client, no_workers_limit=1.0)
        with pytest.raises(ResourceError, match="no workers for 1 s"):
            list(reduce_nights(jobs_of(three, tmp_path / "out"), way))
