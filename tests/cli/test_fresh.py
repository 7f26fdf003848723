"""What a new interpreter imports for a command, and that it speaks to nobody."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.conftest import Call

PRODUCT = "undisturbed/targets/Simulated_star/Simulated_star_spectrum.fits"
HEAVY = {"xarray", "dask", "astropy", "matplotlib", "rich", "zarr", "ccdproc", "pandas", "scipy"}
LIBRARIES = {"astropy", "matplotlib", "ccdproc", "zarr", "numcodecs", "google_crc32c"}
WATCHED = """
import sys

def watch(event, args):
    if event.removeprefix("socket.") in ("bind", "listen", "connect", "getaddrinfo", "sendto"):
        sys.stderr.write(f"NETWORK {event} {args}\\n")

sys.addaudithook(watch)
for words in COMMANDS:
    if words[0] == "open_product":
        import arrayred
        arrayred.open_product(words[1])
        continue
    sys.argv = ["arrayred", *words]
    try:
        from arrayred.cli import main
        main()
    except SystemExit as stop:
        assert not stop.code, (words, stop.code)
print()
print(*sys.modules)
"""


def in_a_new_interpreter(commands: Sequence[Sequence[object]], cwd: Path) -> set[str]:
    """Run commands one after the other, and return the names of all modules they imported."""
    script = WATCHED.replace("COMMANDS", repr([[*map(str, words)] for words in commands]))
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
    assert "NETWORK" not in done.stderr
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.usefixtures("undisturbed")
@pytest.mark.parametrize(
    ("commands", "never"),
    [
        ([("--help",), ("--version",), ("reduce", "--help"), ("demo", "--help"),
          ("combine", "--help")], HEAVY | {"numpy"}),
        ([("combine", "night/dark-001.fit", "night/dark-002.fit", "-o", "x.fits", "--minus",
           "m.fits")], HEAVY | {"tempfile", "subprocess"}),
        ([("verify", PRODUCT), ("verify", "--explain", PRODUCT)], HEAVY),
        ([("inspect", "night", *form) for form in
          (("--format", "csv"), ("--format", "json"), (), ("--plan",))],
         HEAVY - {"rich"}),
        ([("simulate", "made", "--shape", "24x30"), ("open_product", PRODUCT),
          ("reduce", "night", "-o", "out", "--no-figures")],
         LIBRARIES | {"arrayred.report.pages"}),
    ],
    ids=["help", "combine", "verify", "inspect", "reduce"],
)  # fmt: skip
def test_a_command_imports_nothing_that_it_does_not_need_and_uses_no_network(
    night: Path, arrayred: Call, commands: list[tuple[str, ...]], never: set[str]
) -> None:
    assert arrayred("combine", *night.glob("dark*"), "-o", "m.fits", "-q").code == 0
    assert not never & in_a_new_interpreter(commands, night.parent)


def test_the_watch_sees_a_port() -> None:
    script = WATCHED.replace("COMMANDS", "[]")
    words = [sys.executable, "-c", f"{script}\nimport socket\nsocket.socket().bind(('', 0))"]
    assert "NETWORK socket.bind" in subprocess.run(words, capture_output=True, text=True).stderr
