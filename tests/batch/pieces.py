"""What processes are asked to do, in a module whose import takes no time in each of them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def square(number: int) -> int:
    return number**2


def die_of(piece: tuple[Path, int]) -> int:
    """Note the attempt, then die if the number is odd; a 3 only the first time."""
    folder, number = piece
    tries = len(list(folder.glob(f"{number}-*")))
    (folder / f"{number}-{tries}").touch()
    if number % 2 and not (number == 3 and tries):
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def fail(number: int) -> int:
    raise ZeroDivisionError(number)


def linger(folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(60)


def wait_for_a_file(path: Path) -> int:
    """Answer once a file is there."""
    while not path.exists():
        time.sleep(0.01)
    return 1
