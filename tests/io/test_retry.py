"""What passes by itself is waited for, a few times; what does not is told at once."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arrayred.errors import FrameError
from arrayred.io import TRANSIENT, examine, open_frames, pixels, retry
from arrayred.io import scan as headers
from arrayred.io import scan as patience
from arrayred.io.scan import scan

PASSING = sorted(TRANSIENT)
LASTING = [errno.ENOENT, errno.EACCES, errno.EISDIR]


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Wait for nothing, and return for how long that would have been."""
    waited: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", waited.append)
    return waited


def failing(call: Callable[..., Any], number: int, times: int) -> tuple[Callable[..., Any], list]:
    """Return a call that meets an error so many times first, and the list of its calls."""
    calls: list[object] = []

    def attempt(*args: Any) -> Any:
        calls.append(args)
        if len(calls) <= times:
            raise OSError(number, os.strerror(number))
        return call(*args)

    return attempt, calls


@pytest.mark.parametrize("number", PASSING)
def test_what_passes_is_tried_again_after_growing_waits(number: int, waits: list[float]) -> None:
    attempt, calls = failing(lambda: "read", number, 3)
    assert retry(attempt) == "read"
    assert (len(calls), waits) == (4, [0.2, 1.0, 5.0])


def test_what_does_not_pass_in_time_is_raised(waits: list[float]) -> None:
    attempt, calls = failing(lambda: "read", errno.EIO, 99)
    with pytest.raises(OSError, match="Input/output"):
        retry(attempt)
    assert (len(calls), len(waits)) == (4, 3)


@pytest.mark.parametrize("number", LASTING)
def test_what_lasts_is_raised_at_once(number: int, waits: list[float]) -> None:
    attempt, calls = failing(lambda: "read", number, 1)
    with pytest.raises(OSError, match=os.strerror(number)):
        retry(attempt)
    assert (len(calls), waits) == (1, [])


def test_an_error_of_ours_counts_as_its_cause() -> None:
    calls = []

    def read() -> str:
        calls.append(1)
        if len(calls) < 3:
            raise FrameError("odd") from OSError(errno.ESTALE, "stale")
        return "read"

    assert retry(read) == "read"
    with pytest.raises(FrameError):
        retry(lambda: (_ for _ in ()).throw(FrameError("odd")))


@pytest.mark.parametrize("number", PASSING)
@pytest.mark.parametrize("where", ["open", "read"])
def test_pixels_are_those_of_the_file_after_errors_that_pass(
    night: Path, monkeypatch: pytest.MonkeyPatch, number: int, where: str
) -> None:
    cube = open_frames(night, chunks=50)
    truth = cube.counts.values
    if where == "open":
        attempt, calls = failing(os.open, number, 2)
        monkeypatch.setattr(pixels.os, "open", attempt)
    else:
        attempt, calls = failing(pixels._read_at, number, 2)
        monkeypatch.setattr(pixels, "_read_at", attempt)
    np.testing.assert_array_equal(cube.counts.compute(scheduler="synchronous"), truth)
    assert len(calls) > 2


def test_headers_and_checksums_wait_too(
    night: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    path = night / "light-001.fit"
    before = scan(path)
    monkeypatch.setattr(headers.os, "open", failing(os.open, errno.EIO, 2)[0])
    image = scan(path)
    assert image.source == before.source
    opened, _ = failing(Path.open, errno.ESTALE, 2)
    monkeypatch.setattr(Path, "open", lambda *args: opened(*args))
    frame = type("Frame", (), {"path": path, "image": image})()
    assert len(str(examine([frame])[path])) == 64
    assert len(waits) == 4


def test_a_file_that_is_gone_is_told_once(
    night: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    cube = open_frames(night, chunks=50)
    (night / "light-001.fit").unlink()
    with pytest.raises(FrameError, match=r"light-001\.fit: The file cannot be read"):
        cube.counts.compute(scheduler="synchronous")
    assert not waits
