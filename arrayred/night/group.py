"""Frames of one kind that become one image: `Group`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from arrayred.bands import rows_within
from arrayred.io.cube import bytes_of_a_row, cube_of, rows_of_bands
from arrayred.io.frames import Frame
from arrayred.io.scan import dtype_of
from arrayred.model import Chunks

if TYPE_CHECKING:
    import xarray as xr

_EAGER_BYTES = 256 << 20


@dataclass(frozen=True)
class Group:
    """Frames of one kind that become one image.

    Parameters
    ----------
    name : unique among the plan's groups of its kind, safe as a file name.
    frames : its frames, in canonical order.
    """

    name: str
    frames: tuple[Frame, ...]

    def __repr__(self) -> str:
        """Return name, number and kind of frames, in a line."""
        rows, columns = self.frames[0].shape
        kind, exposure = self.frames[0].frame_type or "unknown", seconds_of(self.frames[0])
        return f"Group({self.name}: {self.size}, {kind}, {exposure}, {columns} x {rows})"

    @property
    def kind(self) -> str:
        """Return the type of the frames."""
        return self.frames[0].frame_type or ""

    @property
    def key(self) -> str:
        """Return what tells the group from all others of a night: type and name."""
        return f"{self.kind}/{self.name}"

    @property
    def title(self) -> str:
        """Return what the group is called in a text: "dark 600s", "bias"."""
        return self.name if self.kind == self.name.partition("_")[0] else f"{self.kind} {self.name}"

    @property
    def is_master(self) -> bool:
        """Tell whether this is one image that was made from frames already."""
        return self.frames[0].is_master

    @property
    def master_name(self) -> str:
        """Return the file name of the group's master."""
        if self.is_master:
            return self.frames[0].path.name
        return f"master_{self.title.replace(' ', '_')}.fits"

    @property
    def inputs(self) -> tuple[Frame, ...]:
        """Return all frames that go into the group's image."""
        return self.frames

    @property
    def parts(self) -> tuple[Group, ...]:
        """Return the groups whose images it is made of; none: it is made of its own frames."""
        return ()

    @property
    def exptime(self) -> float:
        """Return the exposure of one frame, s."""
        return self.frames[0].exptime or 0.0

    @property
    def size(self) -> str:
        """Return how many frames, in words."""
        return "1 frame" if len(self.frames) == 1 else f"{len(self.frames)} frames"

    @property
    def temperature(self) -> float | None:
        """Return the mean temperature of the detector, deg C, where every frame knows it."""
        known = [frame.ccd_temp for frame in self.frames if frame.ccd_temp is not None]
        return sum(known) / len(known) if len(known) == len(self.frames) else None

    @property
    def state(self) -> str:
        """Return what is gone from every frame: letters of "BDF" (`Frame.state`)."""
        return self.frames[0].state

    @property
    def is_dark_subtracted(self) -> bool:
        """Tell whether the camera program has already subtracted a dark."""
        return "D" in self.state

    @property
    def n_bytes(self) -> int:
        """Return the size of all pixels on disk, inflated."""
        return sum(frame.image.source.n_bytes for frame in self.frames)

    def least_memory(self, *, widened: bool = True) -> int:
        """Return how many bytes the lowest bands take: one row of all frames for every thread."""
        shape = (len(self.frames), *self.frames[0].shape)
        return bytes_of_a_row(shape, self._dtype, widened=widened)

    @property
    def _dtype(self) -> np.dtype[Any]:
        return np.result_type(*{dtype_of(frame.image.source.pixels) for frame in self.frames})

    def band_rows(self, memory: int | None = None, *, widened: bool = True) -> int:
        """Return how many rows are read at a time: all of a small group.

        Parameters
        ----------
        memory : bytes that may be held, beyond the results; None: 256 MB at once, or bands of 64 MB
            a thread.
        widened : as in `bands.bytes_per_pixel`.

        Raises
        ------
        UsageError
            The memory does not hold one row of all frames for every thread.
        """
        n_rows, n_columns = self.frames[0].shape
        shape = (len(self.frames), n_rows, n_columns)
        dtype = self._dtype
        step = max(frame.image.source.step for frame in self.frames)
        at_once = self.n_bytes <= _EAGER_BYTES
        if memory is not None:
            enough = self.n_bytes
            at_once = rows_within(shape, dtype, memory, widened=widened, enough=enough) >= n_rows
        return n_rows if at_once else rows_of_bands(shape, dtype, memory, step, widened=widened)

    def cube(
        self, chunks: Chunks = "auto", memory: int | None = None, *, widened: bool = True
    ) -> xr.Dataset:
        """Open the frames as a cube; "auto" reads at once what is small and chunks the rest."""
        if chunks != "auto":
            return cube_of(self.frames, chunks)
        rows = self.band_rows(memory, widened=widened)
        return cube_of(self.frames, None if rows >= self.frames[0].shape[0] else rows)


def seconds_of(frame: Frame) -> str:
    """Return a frame's exposure as a name: ``600s``."""
    return "unknown" if frame.exptime is None else f"{frame.exptime:g}s"
