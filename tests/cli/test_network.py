"""A run opens no port and speaks to nobody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WATCHED = """
import sys

def refuse(event, args):
    if event.removeprefix("socket.") in ("bind", "listen", "connect", "getaddrinfo", "sendto"):
        sys.stderr.write(f"NETWORK {event} {args}\\n")

sys.addaudithook(refuse)
from arrayred.cli import main
main()
"""


@pytest.mark.parametrize(
    "command",
    [
        ("reduce", "night", "-o", "out", "--memory", "400M"),
        ("reduce", "night", "other", "-o", "out", "--jobs", "2", "--no-figures"),
        ("combine", "night/dark-001.fit", "night/dark-002.fit", "-o", "dark.fits"),
        ("inspect", "night", "--plan"),
    ],
    ids=["reduce", "nights", "combine", "inspect"],
)
def test_a_run_uses_no_network(night: Path, command: tuple[str, ...]) -> None:
    (night.parent / "other").symlink_to(night)
    words = [sys.executable, "-c", WATCHED, *command]
    done = subprocess.run(words, cwd=night.parent, capture_output=True, text=True, check=False)
    assert "NETWORK" not in done.stderr
    assert done.returncode == 0, done.stderr


def test_the_watch_sees_a_port() -> None:
    words = [sys.executable, "-c", WATCHED.replace("from arrayred.cli import main\nmain()", PORT)]
    assert "NETWORK socket.bind" in subprocess.run(words, capture_output=True, text=True).stderr


PORT = "import socket\nsocket.socket().bind(('127.0.0.1', 0))"
