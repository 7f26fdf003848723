"""``python -m benchmarks.promises``: how many tests check each of the promises.

The tests are collected, not run, and counted by the harm they do; the inputs that hypothesis
generates are counted separately. `--publish` writes the table between the marks of
docs/promises.md; a test checks that the numbers are neither too high nor long out of date. They are
rounded down to two digits, so that the table does not change with each test.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from benchmarks.publish import ROOT, between_markers

PAGE, MARK = "docs/promises.md", "promises"


@dataclass(frozen=True)
class Harm:
    """What can go wrong, and the tests that make it happen: prefixes of their names."""

    what: str
    tests: tuple[str, ...]


HARMS = (
    Harm(
        "a bad night: truncated, corrupt, oversized, mislabelled, duplicate or mixed frames; "
        "misleading pixels; spectra that are hard to detect",
        ("tests/cli/test_catalogue", "tests/cli/test_calstat", "tests/cli/test_calibrations"),
    ),
    Harm(
        "a run that is killed, interrupted, locked out, or meets a full disk",
        (
            "tests/batch/test_processes",
            "tests/batch/test_disturbed",
            "tests/io/test_lock",
            "tests/io/test_publish",
        ),
    ),
    Harm(
        "a product, manifest or cache that is truncated, swapped, edited or hostile",
        (
            "tests/batch/test_resume",
            "tests/cli/test_verify",
            "tests/io/test_cache",
            "tests/io/test_ledger",
            "tests/io/test_verification",
        ),
    ),
    Harm("real nights of three observatories", ("tests/test_real", "tests/test_spectra_of_real")),
    Harm("none of these: correct numbers and texts", ("",)),
)
"""In order: a test counts for the first that it belongs to."""


@dataclass(frozen=True)
class Counts:
    """Numbers of tests by harm, and of inputs generated at random."""

    tests: dict[str, int]
    made_up: int


class _Collector:
    """A plugin of pytest that remembers what was collected."""

    def __init__(self) -> None:
        self.counts = Counts({}, 0)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Count the tests of a session."""
        self.counts = count(session.items)


def count(items: Iterable[pytest.Item]) -> Counts:
    """Count tests by harm, and their generated inputs."""
    tests = {harm.what: 0 for harm in HARMS}
    made_up = 0
    for item in items:
        tests[harm_of(item.nodeid)] += 1
        made_up += _made_up(item)
    return Counts(tests, made_up)


def harm_of(name: str) -> str:
    """Return the harm that a test does.

    Examples
    --------
    >>> harm_of("tests/io/test_lock.py::test_x")
    'a run that is killed, interrupted, locked out, or meets a full disk'
    """
    return next(harm.what for harm in HARMS if name.startswith(harm.tests))


def rounded(number: int) -> int:
    """Return a number rounded down to two digits.

    Examples
    --------
    >>> rounded(1234), rounded(99), rounded(7)
    (1200, 99, 7)
    """
    step = 10 ** max(len(str(number)) - 2, 0)
    return number // step * step


def counted() -> Counts:
    """Collect the tests in a process of its own, and return how many there are."""
    command = [sys.executable, "-m", "benchmarks.promises", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    facts = json.loads(done.stdout.splitlines()[-1])
    return Counts(facts["tests"], facts["made_up"])


def section(counts: Counts) -> str:
    """Return the table of docs/promises.md."""
    rows = [f"| {what} | {rounded(n):,} |" for what, n in counts.tests.items()]
    rows.append(f"| *inputs generated at random in each run* | *{rounded(counts.made_up):,}* |")
    return "\n".join(["| what goes wrong | tests, at least |", "| --- | --: |", *rows])


def main(arguments: list[str] | None = None) -> int:
    """Count, and print or publish."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.promises", description=__doc__)
    parser.add_argument(
        "--publish", action="store_true", help="write the section of docs/promises.md"
    )
    parser.add_argument("--json", action="store_true", help="print the numbers for a program")
    options = parser.parse_args(arguments)
    if options.json:
        counts = _collected()
        print(json.dumps({"tests": counts.tests, "made_up": counts.made_up}))
        return 0
    told = section(counted())
    if options.publish:
        page = ROOT / PAGE
        text = between_markers(page.read_text("utf-8"), told, MARK)
        page.write_text(text, encoding="utf-8")
    print(told)
    return 0


def _collected() -> Counts:
    """Collect the tests in this process."""
    collector = _Collector()
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        command = ["--collect-only", "-q", "-p", "no:cacheprovider", "-n0", "-m", "", "tests"]
        code = pytest.main([f"--rootdir={ROOT}", *command], plugins=[collector])
    if code != pytest.ExitCode.OK:
        raise RuntimeError(f"The tests cannot be collected:\n{said.getvalue()}")
    return collector.counts


def _made_up(item: pytest.Item) -> int:
    """Return how many inputs hypothesis makes up for a test; 0 if it makes up none."""
    test = getattr(item, "obj", None)
    settings = getattr(test, "_hypothesis_internal_use_settings", None)
    return int(settings.max_examples) if settings is not None else 0


if __name__ == "__main__":
    sys.exit(main())
