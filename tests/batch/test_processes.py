"""Work in processes: every piece is done once, a death has a name, nothing is left running."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from arrayred.batch import MAX_DEATHS, in_processes, nights
from arrayred.errors import ResourceError
from tests.batch.pieces import die_of, fail, square, wait_for_a_file


@pytest.mark.parametrize("n_processes", [1, 7])  # fewer than pieces, and more
def test_every_piece_is_done_once(n_processes: int) -> None:
    done = list(in_processes(square, [3, 1, 2], n_processes))
    assert sorted(done) == [(0, 9), (1, 1), (2, 4)]


def test_no_piece_starts_no_process() -> None:
    assert list(in_processes(square, [], 4)) == []


def test_a_death_is_that_of_its_piece_alone(tmp_path: Path) -> None:
    pieces = [(tmp_path, number) for number in (0, 1, 2, 3, 4)]
    done = dict(in_processes(die_of, pieces, 2))
    assert {i: result for i, result in done.items() if i != 1} == {0: 0, 2: 2, 3: 3, 4: 4}
    assert isinstance(done[1], ResourceError)
    assert "SIGKILL" in str(done[1])
    assert len(list(tmp_path.glob("1-*"))) == MAX_DEATHS
    assert [len(list(tmp_path.glob(f"{n}-*"))) for n in (0, 2, 3, 4)] == [1, 1, 2, 1]


def test_what_the_work_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_processes(fail, [1, 2], 2))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_their_caller(tmp_path: Path, number: signal.Signals) -> None:
    code = textwrap.dedent(f"""
        from pathlib import Path
        from tests.batch.pieces import linger
        from arrayred.batch import in_processes
        if __name__ == "__main__":
            list(in_processes(linger, [Path({str(tmp_path)!r})] * 2, 2))
    """)
    script = tmp_path / "script.py"
    script.write_text(code)
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    caller = subprocess.Popen(
        [sys.executable, script], env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 60
    while len(pids := [int(p.name) for p in tmp_path.glob("[0-9]*")]) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    caller.send_signal(number)
    caller.wait(20)
    while any(map(is_alive, pids)):
        assert time.monotonic() < until + 20
        time.sleep(0.05)


def test_a_process_whose_caller_listens_no_more_ends_without_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    worker = nights._start_worker(wait_for_a_file)
    worker.pipe.send(tmp_path / "go")
    worker.pipe.close()
    (tmp_path / "go").touch()
    worker.process.join(60)
    assert worker.process.exitcode == 0
    assert capfd.readouterr() == ("", "")
