"""The xarray entry point: ``xr.open_dataset(file_or_folder, engine="arrayred", chunks={})``.

One file opens as (y, x); a folder, a pattern or a list of them as (frame, y, x). Pixels
stay on disk until they are needed; with `chunks={}` the chunks are bands of rows across all
frames. Values and dtype are those of `open_frames`. The adapters of `xarray.core.indexing` used
here are the documented way to write a lazy backend; a contract test checks them.

It is a module of its own since it must import xarray, which takes longer than planning a night.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from arrayred.bands import band_rows
from arrayred.io.cube import (
    Paths,
    frames_at,
    labelled_cube,
    make_stack,
    plane_stacks,
    with_planes,
)
from arrayred.io.pixels import FrameStack, PackedStack, PlaneStack
from arrayred.io.remote import is_fits_name, path_or_address
from arrayred.io.scan import MAGIC
from arrayred.model import FRAME, Unsigned, X, Y


class FrameArray(BackendArray):  # type: ignore[misc, unused-ignore]
    """Frames, their flags or variance, that xarray indexes lazily.

    Parameters
    ----------
    stack : the frames.
    """

    def __init__(self, stack: FrameStack | PackedStack | PlaneStack) -> None:
        self.stack = stack
        self.shape = stack.shape
        self.dtype = stack.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        """Return the pixels of an index."""
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.BASIC, self.stack.__getitem__
        )

    def __dask_tokenize__(self) -> str:
        """Return the stack's token."""
        return self.stack.token


class ArrayredBackend(BackendEntrypoint):  # type: ignore[misc, unused-ignore]
    """xarray backend for FITS frames."""

    description = "FITS frames of a detector, lazily, in bands of rows"
    open_dataset_parameters = ("filename_or_obj", "drop_variables", "instrument", "unsigned")

    def open_dataset(  # type: ignore[override, unused-ignore]
        self,
        filename_or_obj: Paths,
        *,
        drop_variables: str | Iterable[str] | None = None,
        instrument: str = "generic",
        unsigned: Unsigned = "auto",
    ) -> xr.Dataset:
        """Open a file as (y, x); a folder, a pattern or a list of them as (frame, y, x).

        Parameters
        ----------
        filename_or_obj : a FITS file, a folder, a pattern, or a list of these.
        drop_variables : variables and coordinates to drop.
        instrument, unsigned : as in `open_frames`.
        """
        frames = frames_at(filename_or_obj, instrument, unsigned)
        stack = make_stack(frames, lazy=True)
        pixels = indexing.LazilyIndexedArray(FrameArray(stack))
        cube = labelled_cube(stack, frames, xr.Variable((FRAME, Y, X), pixels))
        planes = {
            name: xr.Variable((FRAME, Y, X), indexing.LazilyIndexedArray(FrameArray(plane)))
            for name, plane in plane_stacks(frames).items()
        }
        cube = with_planes(cube, planes)
        rows = band_rows(stack.shape, stack.dtype)
        for variable in cube.data_vars.values():
            variable.encoding = {
                "preferred_chunks": {FRAME: stack.shape[0], Y: rows, X: stack.shape[2]},
                "source": str(filename_or_obj),
            }
        is_one = (
            isinstance(filename_or_obj, str | os.PathLike)
            and path_or_address(filename_or_obj).is_file()
        )
        opened = _one_frame(cube) if is_one else cube
        unwanted = [drop_variables] if isinstance(drop_variables, str) else drop_variables or ()
        return opened.drop_vars(unwanted, errors="ignore")

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Return whether this is a FITS file, or a folder of FITS files and not a Zarr store."""
        if not isinstance(filename_or_obj, str | os.PathLike):
            return False
        path = Path(filename_or_obj)
        if path.is_dir():
            names = os.listdir(path)
            return any(map(is_fits_name, names)) and not {"zarr.json", ".zgroup", ".zarray"} & set(
                names
            )
        return path.is_file() and is_fits_name(path.name) and _starts_like_fits(path)


def _starts_like_fits(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(9)
    return start == b"SIMPLE  =" or start.startswith(tuple(MAGIC))


def _one_frame(cube: xr.Dataset) -> xr.Dataset:
    """Return the only frame as (y, x), with its preferred chunks."""
    image = cube.isel({FRAME: 0})
    for pixels in image.data_vars.values():
        preferred = pixels.encoding["preferred_chunks"]
        pixels.encoding["preferred_chunks"] = {dim: preferred[dim] for dim in (Y, X)}
    return image
