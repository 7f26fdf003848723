"""One writer per folder: the second is told who the first is, and a dead one holds nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from arrayred.errors import LockedError, StorageError
from arrayred.io import STATE_FOLDER, output_lock, publish

HOLD = """
import sys
import threading
import time
from pathlib import Path
from arrayred.io.publish import output_lock
with output_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def ended(process: subprocess.Popen[str]) -> None:
    process.communicate("")
    process.wait()


def test_the_second_writer_is_told_who_the_first_is(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    told = rf"process {holder.pid} on .*since 20"
    with pytest.raises(LockedError, match=told) as caught, output_lock(tmp_path):
        pass
    assert caught.value.path == str(tmp_path)
    assert caught.value.exit_code == 6
    ended(holder)
    with output_lock(tmp_path) as locked:
        assert locked


def test_a_killed_holder_holds_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    ended(holder)
    with output_lock(tmp_path) as locked:
        assert locked


def test_a_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    with output_lock(tmp_path):
        child = subprocess.Popen(["sleep", "30"], close_fds=False)
    with output_lock(tmp_path) as locked:
        assert locked
    child.kill()
    child.wait()


def test_a_broken_lock_is_a_new_one(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with output_lock(tmp_path, break_lock=True) as locked:
        assert locked
        with pytest.raises(LockedError), output_lock(tmp_path):
            pass
    ended(holder)


def test_a_lock_of_garbage_is_a_lock(tmp_path: Path) -> None:
    with output_lock(tmp_path):
        (tmp_path / STATE_FOLDER / "lock").write_bytes(b"\xff{")
        with pytest.raises(LockedError, match="unknown process"), output_lock(tmp_path):
            pass


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "out" / STATE_FOLDER).mkdir(parents=True)
    (tmp_path / "out" / STATE_FOLDER / "lock").symlink_to(victim)
    with pytest.raises(StorageError), output_lock(tmp_path / "out"):
        pass
    assert victim.read_text() == "mine"


def test_where_the_kernel_cannot_lock_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_handle: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(publish.fcntl, "flock", refuse)
    with output_lock(tmp_path) as locked, output_lock(tmp_path) as second:
        assert not locked
        assert not second


def test_who_may_wait_writes_after_the_holder(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    is_let_go = threading.Event()

    def let_go() -> None:
        is_let_go.set()
        ended(holder)

    letting_go = threading.Timer(0.4, let_go)
    letting_go.start()
    with output_lock(tmp_path, wait=30) as locked:
        assert locked
        assert is_let_go.is_set()
    letting_go.join()


def test_a_wait_has_an_end(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(LockedError, match=f"process {holder.pid}"), output_lock(tmp_path, wait=0.3):
        pass
    ended(holder)
