"""The frames that every contender combines: `make`, `Stack`.

A stack is n light frames of a simulated night (a spectrum, sky, bias level, dark current, hot
pixels, cosmic rays; uint16 with BZERO 32768) and one float32 master dark, the median of 5 darks.
Frames of one size lie in one folder, and frame 7 is the same however many there are, so that all
stacks of that size share their files and the result of a stack is known once it was computed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from arrayred.io import write_frames
from arrayred.simulate import Detector, SimulatedFrame, SimulatedNight

SHAPES = {"t": (48, 64), "s": (1024, 1536), "l": (2048, 4096)}
MASTER = "master_dark.fit"
# Cosmic rays per pixel and hour: 1 a minute and cm2 on pixels of 20 um gives 2e-4.
_RAYS = 2e-4
_NAME = re.compile(r"([tsl])(\d+)|(\d+)x(\d+)x(\d+)")


@dataclass(frozen=True)
class Stack:
    """Frames on disk.

    Parameters
    ----------
    n : how many frames.
    shape : (n_rows, n_columns) of each.
    folder : where the folders of all sizes lie.
    """

    n: int
    shape: tuple[int, int]
    folder: Path

    @classmethod
    def named(cls, name: str, folder: Path) -> Stack:
        """Return the stack that a name stands for.

        Parameters
        ----------
        name : "s25", "l50", "t5" (1024 x 1536, 2048 x 4096, tiny) or "25x512x768".
        folder : where the folders of all sizes lie.

        Examples
        --------
        >>> Stack.named("l50", Path()).shape, Stack.named("25x512x768", Path()).name
        ((2048, 4096), '25x512x768')
        """
        found = _NAME.fullmatch(name)
        if found is None or not int(found[2] or found[3]):
            raise ValueError(f"{name!r} is no stack: write s25, l50, t5 or 25x512x768")
        if found[1]:
            return cls(int(found[2]), SHAPES[found[1]], folder)
        return cls(int(found[3]), (int(found[4]), int(found[5])), folder)

    @property
    def name(self) -> str:
        """Return the shortest name."""
        letters = {shape: letter for letter, shape in SHAPES.items()}
        if self.shape in letters:
            return f"{letters[self.shape]}{self.n}"
        return f"{self.n}x{self.shape[0]}x{self.shape[1]}"

    @property
    def title(self) -> str:
        """Return how many frames of what size.

        Examples
        --------
        >>> Stack.named("s25", Path()).title
        '25 x 1024 x 1536'
        """
        return f"{self.n} x {self.shape[0]} x {self.shape[1]}"

    @property
    def home(self) -> Path:
        """Return the folder of all frames of this size."""
        return self.folder / f"{self.shape[0]}x{self.shape[1]}"

    @property
    def files(self) -> list[Path]:
        """Return the paths of the frames."""
        return [self.home / "lights" / f"light-{i:03d}.fit" for i in range(1, self.n + 1)]

    @property
    def master(self) -> Path:
        """Return the path of the master dark."""
        return self.home / MASTER

    @property
    def n_bytes(self) -> int:
        """Return the size of all pixels on disk."""
        return 2 * self.n * self.shape[0] * self.shape[1]


def make(stacks: Iterable[Stack]) -> None:
    """Write the frames of all stacks that are not there yet, each size once."""
    for _, same in groupby(sorted(stacks, key=lambda i: (i.shape, i.n)), key=lambda i: i.shape):
        largest = list(same)[-1]
        if not all(path.exists() for path in (*largest.files, largest.master)):
            night = _night(largest)
            write_frames(_lights(night), largest.files[0].parent)
            write_frames([_master(night)], largest.home)


def _night(stack: Stack) -> SimulatedNight:
    """Return a night of as many lights, all of whose darks come first."""
    rays = max(_RAYS * stack.shape[0] * stack.shape[1], 20.0)
    return SimulatedNight(Detector(shape=stack.shape), n_lights=stack.n, cosmic_rays=rays, seed=1)


def _lights(night: SimulatedNight) -> Iterator[SimulatedFrame]:
    return (frame for frame in night.frames() if frame.name.startswith("light"))


def _master(night: SimulatedNight) -> SimulatedFrame:
    """Return the median of the darks, with the cards of the first."""
    darks = [frame for frame, _ in zip(night.frames(), range(night.n_darks), strict=False)]
    pixels = np.median([frame.pixels for frame in darks], axis=0).astype(np.float32)
    return SimulatedFrame(MASTER, darks[0].cards, pixels)
