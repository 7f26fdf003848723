"""A page that is served, and a browser that looks at it, where there is one."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from arrayred.io import write_frames
from arrayred.simulate import Detector, SimulatedNight, Star

QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
NAME = "<b>Vega</b><img src=x onerror=alert(1)> $$x^2$$"


@contextmanager
def served(*args: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serve a page in a process of its own; yield its address and the process."""
    command = [sys.executable, "-m", "arrayred", "explore", "--no-browser", *map(str, args)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None, process.communicate(timeout=20)[1]
        yield found[0], process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a night whose OBJECT is markup."""
    folder = tmp_path_factory.mktemp("hostile") / "night"
    star = Star(name=NAME, lines=((40.0, 0.6, 3.0),), row=85.0)
    write_frames(SimulatedNight(Detector(shape=(160, 120)), star, seed=7).frames(), folder)
    return folder


@pytest.fixture(scope="session")
def lamp_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a night with a neon lamp before and after its star."""
    folder = tmp_path_factory.mktemp("lamps") / "night"
    write_frames(SimulatedNight(Detector(), n_arcs=2, n_biases=3, seed=7).frames(), folder)
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Return a browser, or skip."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"there is no browser: none of {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=found, args=QUIET.split())
        yield launched
        launched.close()
