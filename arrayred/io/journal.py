"""Write the log beside the products: commands, warnings, failures and times of each run.

`RunLog` writes a JSON object a line, in ASCII, so that no name of a file or star can contain
terminal control codes. Each run appends its lines to those of earlier runs; above a megabyte the
oldest lines are dropped. It is published like any product (`io.publish`), whole each time: that
costs a millisecond a run, a reader never sees half a line, and a full disk leaves the old log. It
is not a product: it contains times and differs from run to run, no key depends on it, and
`arrayred verify` ignores it.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import stat
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from arrayred._version import __version__
from arrayred.io.publish import publish
from arrayred.io.remote import without_secrets
from arrayred.progress import Stage

LOG_FILE = "arrayred.log"
MAX_LOG_BYTES = 1 << 20
_SAVE_INTERVAL_S = 10.0
_BYTES_PER_MB = 1e6


class RunLog:
    """The log of one run.

    Parameters
    ----------
    out : the output folder, which only this run writes to.
    """

    def __init__(self, out: Path) -> None:
        self._path = out / LOG_FILE
        self._lines: list[bytes] = []
        self._begun = self._saved = time.monotonic()
        command = without_secrets(shlex.join(sys.argv))
        facts = {"arrayred": __version__, "python": platform.python_version()}
        self.note("run", {**facts, "pid": os.getpid(), "command": command})

    def note(self, event: str, facts: Mapping[str, Any]) -> None:
        """Add a line: time, event, and facts as JSON (others as `str`)."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        told = {"time": now, "event": event, **facts}
        self._lines.append(json.dumps(told, default=str).encode("ascii") + b"\n")

    def begins(self, stage: Stage) -> None:
        """Do nothing when a stage begins: it is logged when it ends."""

    def advances(self, done: int, total: int) -> None:
        """Do nothing while a stage advances: progress is not logged."""

    def ends(self, stage: Stage) -> None:
        """Add the time that a stage took, s, and the data read, MB."""
        read = {"mb_read": round(stage.n_read / _BYTES_PER_MB, 3)} if stage.n_read else {}
        self.note("stage", {"stage": stage.path, "seconds": round(stage.seconds, 4), **read})

    def save_now_and_then(self) -> None:
        """Write the log if that was over 10 s ago, so that a killed run has one."""
        if time.monotonic() - self._saved > _SAVE_INTERVAL_S:
            self.save()

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Add the outcome of the run, and write the log.

        Raises
        ------
        StorageError
            The disk is full or cannot be written.
        """
        self.note("end", {**facts, "seconds": round(time.monotonic() - self._begun, 3)})
        self.save()

    def save(self) -> None:
        """Write the lines after those of earlier runs.

        Raises
        ------
        StorageError
            The disk is full or cannot be written.
        """
        whole = last_lines(_read_log(self._path) + b"".join(self._lines), MAX_LOG_BYTES)
        publish({self._path: whole}, overwrite=True, durable=False)
        self._lines, self._saved = [], time.monotonic()


def last_lines(text: bytes, n_bytes: int) -> bytes:
    r"""Return the last complete lines of a text, at most n_bytes long.

    Examples
    --------
    >>> last_lines(b"one\ntwo\nthree\n", 11)
    b'two\nthree\n'
    """
    if len(text) <= n_bytes:
        return text
    return text[text.find(b"\n", len(text) - n_bytes - 1) + 1 :]


def _read_log(path: Path) -> bytes:
    """Return the end of a log; b"" if it is not a regular file or cannot be read."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags)
    except OSError:
        return b""
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            return b""
        os.lseek(handle, max(status.st_size - MAX_LOG_BYTES, 0), os.SEEK_SET)
        text = os.read(handle, MAX_LOG_BYTES)
    finally:
        os.close(handle)
    return text if not text or text.endswith(b"\n") else text + b"\n"
