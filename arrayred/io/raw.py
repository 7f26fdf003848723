"""Write frames that were made, not taken: a simulated night becomes a folder of FITS files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from arrayred.io.cards import Header
from arrayred.io.hdu import image_bytes
from arrayred.io.publish import publish


class RawFrame(Protocol):
    """A frame to be written: name, cards, pixels."""

    @property
    def name(self) -> str:
        """Return the file's name."""

    @property
    def cards(self) -> Mapping[str, str | float | int]:
        """Return the cards of its header."""

    @property
    def pixels(self) -> NDArray[Any]:
        """Return its pixels (y, x)."""


def write_frames(
    frames: Iterable[RawFrame], folder: Path, *, overwrite: bool = False
) -> list[Path]:
    """Write frames into a folder, one at a time, and return their paths.

    Parameters
    ----------
    frames : any iterable; each frame may be dropped once it is written.
    folder : made if it does not exist.
    overwrite : replace files that have other content.
    """
    paths = []
    for frame in frames:
        header = Header()
        for keyword, value in frame.cards.items():
            header.set(keyword, value)
        path = folder / frame.name
        content = image_bytes(header, frame.pixels, frame.pixels.dtype.name)
        publish({path: content}, overwrite=overwrite)
        paths.append(path)
    return paths
