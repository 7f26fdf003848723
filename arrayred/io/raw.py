"""Write frames that were made, not taken: a simulated night becomes a folder of FITS files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from arrayred.io.cards import Header
from arrayred.io.hdu import image_bytes
from arrayred.io.publish import Content, publish
from arrayred.io.table import ecsv_table
from arrayred.model import X

if TYPE_CHECKING:
    import xarray as xr


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


def write_truth(
    truth: xr.Dataset, facts: Mapping[str, Any], folder: Path, *, overwrite: bool = False
) -> list[Path]:
    """Write what a simulated night was made of beside its frames, and return the paths.

    Parameters
    ----------
    truth : its variables along x become ``truth.ecsv``.
    facts : everything else, JSON-ready, becomes ``truth.json``.
    folder : that of the frames.
    overwrite : replace files that have other content.
    """
    along_x = truth[[name for name, variable in truth.data_vars.items() if variable.dims == (X,)]]
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in facts.items())
    files: dict[Path, Content] = {
        folder / "truth.ecsv": ecsv_table(along_x, {}),
        folder / "truth.json": f"{{\n{lines}\n}}\n".encode(),
    }
    publish(files, overwrite=overwrite)
    return list(files)


def write_frames(
    frames: Iterable[RawFrame],
    folder: str | PathLike[str],
    *,
    overwrite: bool = False,
    written: Callable[[], None] | None = None,
) -> list[Path]:
    """Write frames that were made, not taken, into a folder, one at a time.

    Parameters
    ----------
    frames : any iterable of what has a `name`, the file's; `cards`, values by keyword; and
        `pixels` (y, x), such as `SimulatedNight.frames` yields. Each frame may be dropped once it
        is written.
    folder : made if it does not exist.
    overwrite : replace files that have other content.
    written : is called after each frame.

    Returns
    -------
    paths : of the files, in the order of the frames.

    Raises
    ------
    UsageError
        A file with other content is there and `overwrite` is not given.
    StorageError
        The disk is full or refuses.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import arrayred as ar
    >>> with TemporaryDirectory() as folder:
    ...     paths = write_frames(ar.SimulatedNight(n_darks=1, n_lights=2).frames(), folder)
    >>> [path.name for path in paths]
    ['dark-001.fit', 'light-001.fit', 'light-002.fit']
    """
    paths = []
    for frame in frames:
        header = Header()
        for keyword, value in frame.cards.items():
            header.set(keyword, value)
        path = Path(folder) / frame.name
        content = image_bytes(header, frame.pixels, frame.pixels.dtype.name)
        publish({path: content}, overwrite=overwrite)
        paths.append(path)
        if written is not None:
            written()
    return paths
