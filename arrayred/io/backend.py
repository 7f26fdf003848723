"""The xarray entry point: ``xr.open_dataset(path, engine="arrayred", chunks={})``.

Frames open as (frame, y, x), a single file too, so that ``xr.open_mfdataset("NIGHT/*.fit",
engine="arrayred")`` makes a cube; a spectrum that arrayred wrote opens as that. Pixels stay on
disk until they are needed; with `chunks={}` the chunks are bands of rows across all frames. Values
and dtype are those of `open_frames`. Two things differ, since xarray joins what it opens singly:

- A frame is labelled by its path. xarray takes datasets that begin with the same label for parts
  of one, and drops all but the last of them without an error; `root` gives shorter labels.
- Gain, binning and the like are coordinates (frame) that are always there: of scalars that differ
  xarray's defaults to be take the first.

The adapters of `xarray.core.indexing` used here are the documented way to write a lazy backend; a
contract test checks them. It is a module of its own since it must import xarray, which takes longer
than planning a night.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.core import indexing

from arrayred.bands import rows_of_chunks
from arrayred.io.cube import (
    Paths,
    frames_at,
    gain_source,
    labelled_cube,
    make_stack,
    plane_stacks,
    with_cards,
    with_planes,
    with_remarks,
)
from arrayred.io.frames import Frame
from arrayred.io.pixels import FrameStack, PackedStack, PlaneStack
from arrayred.io.products import holds_spectrum, open_product
from arrayred.io.remote import Address, is_fits_name
from arrayred.io.scan import MAGIC
from arrayred.model import (
    FLUX,
    FRAME,
    SETUP_COORDS,
    VARIANCE,
    Unsigned,
    X,
    Y,
    string_coord,
)

_UNKNOWN = {name: string_coord("") for name in ("gain_from", *SETUP_COORDS)}
_UNKNOWN |= {name: np.array(np.nan) for name in ("gain", "read_noise", "saturation")}
"""The coordinates that differ from frame to frame where nights do, and their values if unknown."""


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


class FrameLabels(xr.Variable):  # type: ignore[misc, unused-ignore]
    """A coordinate (frame) that stays in memory: xarray cannot group by a dask array."""

    __slots__ = ()
    _in_memory = True  # xarray shows it, and does not look for chunks of its strings

    def chunk(self, *_: Any, **__: Any) -> FrameLabels:
        """Return the same, as xarray's own index variables do."""
        return self.copy(deep=False)


class ArrayredBackend(BackendEntrypoint):  # type: ignore[misc, unused-ignore]
    """xarray backend for FITS frames, and for spectra that arrayred wrote."""

    description = "FITS frames of a detector, lazily, in bands of rows; spectra of arrayred"
    open_dataset_parameters = (
        "filename_or_obj",
        "drop_variables",
        "instrument",
        "unsigned",
        "cards",
        "root",
    )

    def open_dataset(  # type: ignore[override, unused-ignore]
        self,
        filename_or_obj: Paths,
        *,
        drop_variables: str | Iterable[str] | None = None,
        instrument: str = "generic",
        unsigned: Unsigned = "auto",
        cards: Sequence[str] = (),
        root: str | os.PathLike[str] | None = None,
    ) -> xr.Dataset:
        """Open files, folders and patterns as (frame, y, x), or a spectrum of arrayred.

        Parameters
        ----------
        filename_or_obj : a FITS file, a folder, a pattern, or a list of these.
        drop_variables : variables and coordinates to drop.
        instrument, unsigned, cards : as in `open_frames`.
        root : the folder that labels are relative to, without suffix; None: labels are the paths of
            the files, those in the working directory relative to that.
        """
        if isinstance(filename_or_obj, str | os.PathLike) and holds_spectrum(
            os.fspath(filename_or_obj)
        ):
            opened = _spectrum(os.fspath(filename_or_obj), instrument)
        else:
            frames = frames_at(filename_or_obj, instrument, unsigned, root=root)
            if root is None:
                frames = [replace(frame, label=_path_label(frame.path)) for frame in frames]
            opened = with_cards(_cube(frames, str(filename_or_obj)), frames, cards)
        unwanted = [drop_variables] if isinstance(drop_variables, str) else drop_variables or ()
        return _labels_in_memory(opened.drop_vars(unwanted, errors="ignore"))

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


def _path_label(path: Path) -> str:
    if isinstance(path, Address):
        return str(path)
    whole, here = path.absolute(), Path.cwd()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)


def _cube(frames: Sequence[Frame], source: str) -> xr.Dataset:
    """Return frames as a cube whose pixels are not read, each coordinate but y and x by frame."""
    stack = make_stack(frames, lazy=True)
    pixels = indexing.LazilyIndexedArray(FrameArray(stack))
    cube = labelled_cube(stack, frames, xr.Variable((FRAME, Y, X), pixels))
    planes = {
        name: xr.Variable((FRAME, Y, X), indexing.LazilyIndexedArray(FrameArray(plane)))
        for name, plane in plane_stacks(frames).items()
    }
    cube = with_remarks(with_planes(cube, planes), frames)
    rows = rows_of_chunks(stack.shape, stack.dtype, step=stack.step)
    for variable in cube.data_vars.values():
        # Frames and columns are undivided unless asked: of those named here xarray warns.
        preferred = {Y: rows} if rows < stack.shape[1] else {}
        variable.encoding = {"preferred_chunks": preferred, "source": source}
    return cube.assign_coords({name: (FRAME, _by_frame(frames, name)) for name in _UNKNOWN})


def _by_frame(frames: Sequence[Frame], name: str) -> Any:
    """Return a setting of each frame."""
    unknown = _UNKNOWN[name]
    if name == "gain_from":
        return string_coord([gain_source(frame) for frame in frames])
    found = [dict(f.setup).get(name) if name in SETUP_COORDS else getattr(f, name) for f in frames]
    return np.array([unknown.item() if one is None else one for one in found], unknown.dtype)


def _spectrum(path: str, instrument: str) -> xr.Dataset:
    """Return a spectrum with the uncertainty of its file beside the variance."""
    spectrum = open_product(path, instrument=instrument)
    if VARIANCE not in spectrum:
        return spectrum
    attrs = {"units": spectrum[FLUX].attrs["units"], "long_name": "standard deviation of the flux"}
    sigma = np.sqrt(spectrum[VARIANCE].values)
    return spectrum.assign(uncertainty=(spectrum[VARIANCE].dims, sigma, attrs))


def _labels_in_memory(ds: xr.Dataset) -> xr.Dataset:
    """Return a Dataset whose coordinates are never chunked."""
    labels = {
        name: FrameLabels(coord.dims, coord.values, coord.attrs)
        for name, coord in ds.coords.items()
        if name not in ds.indexes and coord.dims
    }
    return ds.reset_coords(list(labels)).assign(labels).set_coords(list(labels))
