"""Check the input of a figure: an image, a cube or a spectrum; the error says what it is instead.

A node of a reduced night's tree or a labelled DataArray is accepted as well as a Dataset. Labels
that are missing are counted from 1, as in FITS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from arrayred.errors import UsageError
from arrayred.model import COUNTS, FLUX, FRAME, X, Y

if TYPE_CHECKING:
    import xarray as xr

    Given = xr.Dataset | xr.DataArray | xr.DataTree

_KINDS = {
    (Y, X): ("an image (y, x)", "plots.image or plots.frame"),
    (FRAME, Y, X): ("a cube (frame, y, x)", "plots.cube, or select a frame"),
    (X,): ("a spectrum (x)", "plots.spectrum"),
    (FRAME, X): ("spectra of frames (frame, x)", "plots.frames"),
}


def image_of(given: Given) -> xr.Dataset:
    """Return an image: counts (y, x), in memory; a cube of a single frame is accepted.

    Raises
    ------
    UsageError
        It is something else.
    """
    found = _dataset(given, COUNTS)
    if COUNTS in found and found[COUNTS].dims == (FRAME, Y, X) and found.sizes[FRAME] == 1:
        found = found.isel({FRAME: 0})
    return _labelled(_expected(found, COUNTS, (Y, X))).load()


def cube_of(given: Given) -> xr.Dataset:
    """Return a cube: counts (frame, y, x), as lazy as it came.

    Raises
    ------
    UsageError
        It is something else, or has no frame.
    """
    return _labelled(_expected(_dataset(given, COUNTS), COUNTS, (FRAME, Y, X)))


def spectrum_of(given: Given) -> xr.Dataset:
    """Return a spectrum: flux (x), in memory.

    Raises
    ------
    UsageError
        It is something else.
    """
    return _labelled(_expected(_dataset(given, FLUX), FLUX, (X,))).load()


def spectra_of(given: Given) -> xr.Dataset:
    """Return spectra of frames: flux (frame, x), in memory.

    Raises
    ------
    UsageError
        It is something else.
    """
    return _labelled(_expected(_dataset(given, FLUX), FLUX, (FRAME, X))).load()


def units_of(found: xr.Dataset, name: str) -> str:
    """Return the unit of a variable as figures show it; ADU where it has none."""
    units = str(found[name].attrs.get("units", "adu"))
    return "ADU" if units == "adu" else units


def _dataset(given: Given, name: str) -> xr.Dataset:
    import xarray as xr

    if isinstance(given, xr.DataTree):
        if not given.data_vars and given.children:
            inside = ", ".join(repr(child) for child in given.children)
            raise UsageError(
                f"{given.path} of the tree has no pixels itself, but {inside}",
                hint="Use one of those.",
            )
        return given.to_dataset()
    if isinstance(given, xr.DataArray):
        return given.rename(name).to_dataset()
    if isinstance(given, xr.Dataset):
        return given
    raise UsageError(
        f"A figure needs a Dataset or DataArray with named dims, not {_kind(given)}",
        hint="Use the result of open_product, reduce_night or a step.",
    )


def _kind(given: Any) -> str:
    shape = getattr(given, "shape", None)
    return type(given).__name__ + ("" if shape is None else f" of shape {tuple(shape)}")


def _expected(found: xr.Dataset, name: str, dims: tuple[str, ...]) -> xr.Dataset:
    """Return a Dataset with a non-empty numeric variable of these dims; else raise UsageError."""
    if name in found and found[name].dims == dims:
        if found[name].size and np.issubdtype(found[name].dtype, np.number):
            return found
        raise UsageError(
            f"Nothing to draw: {name} is {found[name].dtype} of shape {found[name].shape}",
            hint="Use numbers, at least one along each dim.",
        )
    wanted, (what, where) = _KINDS[dims], _found(found)
    raise UsageError(
        f"This figure needs {wanted[0]} with {name!r}, but this is {what}",
        hint=f"Use {where}." if where else "Select or transpose first.",
    )


def _found(found: xr.Dataset) -> tuple[str, str]:
    """Return a description of a Dataset, and the function that draws it."""
    for name in (COUNTS, FLUX):
        if name in found:
            dims = tuple(map(str, found[name].dims))
            return _KINDS.get(dims, (f"{name} {dims}", ""))
    if {"mean", "median"} <= set(found.data_vars):
        return "statistics of rows", "plots.rows"
    return f"a Dataset of {', '.join(map(str, found.data_vars)) or 'nothing'}", ""


def _labelled(found: xr.Dataset) -> xr.Dataset:
    """Return a Dataset with labels along y and x, from 1 where it has none."""
    missing = [dim for dim in (Y, X) if dim in found.sizes and dim not in found.coords]
    return found.assign_coords({dim: np.arange(1, found.sizes[dim] + 1) for dim in missing})
