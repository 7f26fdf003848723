"""Where the work is done, as the command line says it: the bytes are the same everywhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from arrayred.batch import cluster as connecting
from arrayred.cli import options as clusters
from tests.batch.disturbed import products, write_nights
from tests.batch.test_disturbed import Reducing
from tests.cli.conftest import Call, Told

cluster_extra = pytest.mark.skipif(
    any(connecting.find_spec(name) is None for name in ("distributed", "cryptography")),
    reason="the extra 'cluster' is not installed",
)
NIGHTS = [f"nights/night-{i}" for i in range(3)]


@pytest.fixture
def three(tmp_path: Path) -> Path:
    write_nights(tmp_path / "nights", 3)
    return tmp_path / "nights"


def reduced(arrayred: Call, out: str, *options: object, code: int = 0) -> Told:
    told = arrayred("reduce", *NIGHTS, "-o", out, "--no-figures", *options)
    assert told.code == code, told.err
    return told


@cluster_extra
@pytest.mark.slow
@pytest.mark.usefixtures("three", "bands_alone")
def test_workers_change_no_byte_of_many_nights_and_of_one(arrayred: Call) -> None:
    reduced(arrayred, "alone")
    told = reduced(arrayred, "out", "--workers", "2", "--worker-timeout", "30")
    assert "3 reduced; details in out/summary.ecsv" in told.out
    assert products(Path("out")) == products(Path("alone"))
    large = ("--workers", "1", "--memory", "300K", "--no-figures")
    assert arrayred("reduce", NIGHTS[0], "-o", "large", *large).code == 0
    assert products(Path("large")) == products(Path("alone/night-0"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--workers", "2", "--jobs", "2"), "--jobs and --workers cannot be used together"),
        (("--scheduler", "h:1", "--jobs", "2"), "--jobs and --scheduler cannot be used together"),
        (("--scheduler", "h:1", "--workers", "2"), "--workers and --scheduler cannot be used"),
        (("--scheduler", "threads", "--workers", "2"), "--workers and --scheduler cannot be used"),
        (("--dashboard",), "--dashboard needs --workers"),
        (
            ("--scheduler", "fast"),
            "'fast' is not one of threads, synchronous, processes, HOST:PORT",
        ),
        (("--scheduler", "none.json"), "none.json: This is not a scheduler file ("),
    ],
)
@pytest.mark.usefixtures("three")
def test_what_cannot_be_meant_is_refused(
    arrayred: Call, options: tuple[str, ...], message: str
) -> None:
    pytest.importorskip("distributed")
    assert message in reduced(arrayred, "out", *options, code=2).err
    assert not products(Path("out"))


@pytest.mark.parametrize("missing", ["distributed", "cryptography", "bokeh"])
@pytest.mark.usefixtures("three")
def test_what_is_not_installed_is_named(
    arrayred: Call, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(connecting, "find_spec", lambda name: None if name == missing else name)
    told = reduced(arrayred, "out", "--workers", "2", "--dashboard", code=2)
    assert f"needs {missing}, which is not installed" in told.err
    assert "pip install '" in told.err
    assert "--jobs, which opens no port" in told.err


@cluster_extra
@pytest.mark.parametrize("way", ["option", "file", "environment"])
@pytest.mark.usefixtures("three")
def test_a_scheduler_that_does_not_answer_is_named(
    arrayred: Call, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(connecting, "CONNECT_S", 0.2)
    address = "tcp://127.0.0.1:9"
    Path("scheduler.json").write_text(f'{{"address": "{address}"}}')
    options = {"option": ["--scheduler", address], "file": ["--scheduler", "scheduler.json"]}
    if way == "environment":
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    told = reduced(arrayred, "out", *options.get(way, []), code=7)
    assert f"No scheduler answers at {address}" in told.err
    assert f"{address} is not tls://: anyone who can reach it can run code as you" in told.err


def test_daskss_own_ways_need_no_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", "tls://node:1")
    for way in ("threads", "synchronous", "processes"):
        assert clusters.dask_way({"scheduler": way}) == way
        with clusters.cluster_client({"scheduler": way}) as client:
            assert client is None
    assert clusters.dask_way({"scheduler": "tls://node:1"}) == ""


@cluster_extra
@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("who", ["scheduler", "worker"])
def test_a_run_on_a_scheduler_ends_as_it_should_whoever_dies(tmp_path: Path, who: str) -> None:
    from tests.batch.clusters import started

    write_nights(tmp_path / "nights", 8)
    assert reducing(tmp_path, "alone").ended()[0] == 0
    with started(tmp_path, 2) as cluster:
        run = reducing(tmp_path, "out", "--scheduler", str(tmp_path / "scheduler.json"))
        assert "not tls://" in run.said.readline()
        assert "[1/8]" in run.said.readline()
        {"scheduler": cluster.scheduler, "worker": cluster.workers[0]}[who].kill()
        exit_code, said = run.ended()
    assert exit_code == (7 if who == "scheduler" else 0), said
    assert "Traceback" not in said
    told = (tmp_path / "out" / "summary.ecsv").read_text()
    assert (",interrupted," in told) == (who == "scheduler")
    assert reducing(tmp_path, "out").ended()[0] == 0
    assert products(tmp_path / "out") == products(tmp_path / "alone")


@cluster_extra
@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_with_workers_that_is_interrupted_stops_soon(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    write_nights(tmp_path / "nights", 8)
    run = reducing(tmp_path, "out", "--workers", "2")
    assert "[1/8]" in run.said.readline()
    os.kill(run.process.pid, number)
    exit_code, said = run.ended()
    assert (exit_code, "Traceback" in said) == (code, False), said
    assert len(list((tmp_path / "out").rglob("Vega_spectrum.fits"))) < 8
    assert reducing(tmp_path, "out").ended()[0] == 0
    assert len(list((tmp_path / "out").rglob("Vega_spectrum.fits"))) == 8


@cluster_extra
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked for there")
@pytest.mark.parametrize(
    ("moment", "way", "n_signals"),  # each two of the three together
    [
        *((0.2, "--workers", 1), (0.2, "--jobs", 2), (1.2, "--workers", 2), (1.2, "--jobs", 1)),
        *((2.0, "--workers", 1), (2.0, "--jobs", 2), (3.2, "--workers", 2), (3.2, "--jobs", 1)),
        *(("working", "--workers", 1), ("working", "--jobs", 2)),
    ],
)
def test_ctrl_c_ends_all_processes_of_a_terminal_with_a_line(
    tmp_path: Path, way: str, n_signals: int, moment: float | str
) -> None:
    write_nights(tmp_path / "nights", 60)  # more than are finished within 3.2 s
    run = in_session_of_its_own(tmp_path, "out", "-q", way, "2")
    if isinstance(moment, float):
        time.sleep(moment)
    else:
        wait_for(lambda: list((tmp_path / "out").rglob("Vega_*.fits")))
    for _ in range(n_signals):
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGINT)
            time.sleep(0.15)
    code = run.wait(30)
    assert len(list((tmp_path / "out").rglob("Vega_spectrum.fits"))) < 60
    said = run.communicate()[1]
    assert "Traceback" not in said
    assert len(said.splitlines()) == 1
    if moment != 0.2:  # while Python itself starts, it is all that answers
        assert code == 130
        assert "arrayred: interrupted" in said
    wait_for(lambda: not in_session(run.pid))


@cluster_extra
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked for there")
def test_workers_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    write_nights(tmp_path / "nights", 12)
    run = in_session_of_its_own(tmp_path, "out", "--workers", "2")
    assert run.stderr is not None
    assert "[1/12]" in run.stderr.readline()
    assert len(in_session(run.pid)) > 2
    run.kill()
    run.communicate()
    wait_for(lambda: not in_session(run.pid), 5)
    finished = products(tmp_path / "out")
    time.sleep(1)
    assert products(tmp_path / "out") == finished


def reducing(folder: Path, out: str, *options: str) -> Reducing:
    return Reducing(folder / "nights", folder / out, *options)


def in_session(session: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, own = path.read_text().rpartition(")")[2].split()[:4]
            found += [int(path.parent.name)] if int(own) == session and state != "Z" else []
    return found


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def in_session_of_its_own(folder: Path, out: str, *options: str) -> subprocess.Popen[str]:
    nights = sorted(map(str, (folder / "nights").iterdir()))
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)]), "CI": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "arrayred", "reduce", *nights, "-o", out, "--no-figures", *options],
        cwd=folder,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
