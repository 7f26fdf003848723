"""Products read back: `open_product` gives the Dataset that was written.

The bytes are read as they were written, by a dozen lines instead of astropy's 0.4 s: images of
floats and flags, tables of three types. Every HDU is held against its DATASUM, as raw frames are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.config import Instrument
from arrayred.errors import ForeignFileError, FrameError
from arrayred.io.card import parse
from arrayred.io.cards import Header
from arrayred.io.hdu import COLUMN_FORMS, TABLE_UNITS, is_structural, ones_complement_sum
from arrayred.io.headers import data_size, header_bytes, open_regular
from arrayred.io.planes import (
    BEST,
    FLAGS,
    LEFT_OUT,
    MASK,
    REJECTED_ATTRS,
    UNCERT,
    Variables,
    labelled_planes,
    variance_of,
)
from arrayred.io.retold import attrs_of, coords_of, labels_of
from arrayred.io.sections import PRODUCT_CARD
from arrayred.io.sources import unreadable
from arrayred.io.table import SPECTRUM, facts_of
from arrayred.model import CLEAN, DQ, N_REJECTED, VARIANCE, X, Y, dq_attrs

if TYPE_CHECKING:
    import xarray as xr

_PIXELS = {8: "u1", -32: ">f4", -64: ">f8"}
_FLAGS = {DQ: "flags of the pixels summed", "sky_dq": "flags of the pixels of the sky band"}
"""What the columns of flags are; with the names of the bits that is too long for a card."""
_DAMAGED = "Copy it again, or reduce the night again."


class _HDU(NamedTuple):
    header: Header
    raw: bytes


def open_product(path: str | os.PathLike[str], *, instrument: str = "generic") -> xr.Dataset:
    """Open an image or a spectrum that arrayred wrote.

    Parameters
    ----------
    path : such as TARGET_combined.fits, a master, a calibrated frame, or TARGET_spectrum.fits.
    instrument : what the camera's cards mean: a name or the path of a TOML file.

    Returns
    -------
    product : an image with `counts` (y, x), or a spectrum with `flux` (x) and the rest; `clean`,
        `variance`, `dq` and `n_rejected` where they were written. Scalar coordinates, history,
        remarks and the rows of a spectrum are those that the header tells; all its cards are the
        attribute `header`. Counts are float64, so that an image goes on as `settle` left it; those
        of a float32 file are rounded to that (``output_dtype="float64"`` writes them whole).

    Raises
    ------
    FrameError
        The file is no product of arrayred, was cut short, or its data are not those of DATASUM.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from arrayred.io.hdu import image_bytes
    >>> header = Header()
    >>> header.set("ARVERSN", "1.0")
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder) / "star_combined.fits"
    ...     _ = file.write_bytes(image_bytes(header, np.eye(3), "float32"))
    ...     image = open_product(file)
    >>> image.counts.sel(y=3, x=3).item()
    1.0
    """
    import xarray as xr

    place = Path(path)
    first, *others = _product(place)
    named = {hdu.header.readable("EXTNAME"): hdu for hdu in others}
    header = first.header.copy()
    header.drop([keyword for keyword in header if is_structural(keyword)])
    attrs = attrs_of(header)
    coords = coords_of(header, Instrument.load(instrument), place)
    if SPECTRUM in named:
        attrs |= facts_of(header)
        variables = _spectrum(named[SPECTRUM], place, along="extraction" in attrs)
        coords[X] = variables.pop("x")[1]
    else:
        unit = str(header.get("BUNIT", "adu"))
        counts = _pixels(first, place).astype(np.float64)
        variables = _image(named, counts, unit, place)
        coords |= labels_of(header, counts.shape)
    return xr.Dataset(variables, coords=coords, attrs=attrs)


def header_of_product(path: Path) -> Header:
    """Return the header of a product, every HDU of it being held against its DATASUM.

    Raises
    ------
    FrameError
        As `open_product`.
    """
    return _product(path)[0].header


def _product(path: Path) -> list[_HDU]:
    hdus = _read(path)
    if PRODUCT_CARD not in hdus[0].header:
        raise ForeignFileError(
            f"This is no product of arrayred: its header has no {PRODUCT_CARD}",
            path=path,
            keyword=PRODUCT_CARD,
            hint="Open raw frames with open_frames.",
        )
    return hdus


def _read(path: Path) -> list[_HDU]:
    try:
        with open_regular(path) as file:
            return list(_hdus(path, file))
    except FileNotFoundError as error:
        raise ForeignFileError("There is no such file", path=path) from error
    except OSError as error:
        raise unreadable(path, error) from error


def _hdus(path: Path, file: Any) -> Iterator[_HDU]:
    first = True
    while (head := header_bytes(path, file, first=first)) is not None:
        header, first = Header.from_bytes(head), False
        n_bytes = data_size(header)
        raw = file.read(n_bytes)
        if len(raw) < n_bytes:
            raise FrameError(
                f"The data end after {len(raw)} of {n_bytes} bytes", path=path, hint=_DAMAGED
            )
        told, found = header.readable("DATASUM"), ones_complement_sum(raw)
        if told is not None and str(told) != str(found):
            raise FrameError(
                f"The checksum of the data is {found}, but DATASUM says {told}",
                path=path,
                keyword="DATASUM",
                value=told,
                hint=_DAMAGED,
            )
        yield _HDU(header, raw)


def _image(
    named: Mapping[Any, _HDU], counts: NDArray[np.float64], unit: str, path: Path
) -> Variables:
    """Return the pixels (y, x) of an image and of its extensions as variables."""
    known = [name for name in (UNCERT, MASK, FLAGS, BEST, LEFT_OUT) if name in named]
    planes = {name: _pixels(named[name], path) for name in known}
    flags = planes.get(FLAGS, planes.get(MASK))
    variables = labelled_planes(
        counts, unit, planes.get(UNCERT), None if flags is None else flags.copy()
    )
    if BEST in planes:
        told = {"units": unit, "long_name": "best estimate of the pixel values"}
        variables[CLEAN] = ((Y, X), planes[BEST].astype(np.float64), told)
    if LEFT_OUT in planes:
        variables[N_REJECTED] = ((Y, X), planes[LEFT_OUT].copy(), REJECTED_ATTRS)
    return variables


def _pixels(hdu: _HDU, path: Path) -> NDArray[Any]:
    """Return the pixels (y, x) of an image HDU as they were stored."""
    header = hdu.header
    bitpix, n_axes = header.readable("BITPIX"), header.readable("NAXIS")
    scaled = "BZERO" in header or "BSCALE" in header
    if not isinstance(bitpix, int) or bitpix not in _PIXELS or n_axes != 2 or scaled:
        raise FrameError(
            f"The image has {n_axes} axes and BITPIX {bitpix}, which arrayred does not write",
            path=path,
            keyword="BITPIX",
            value=bitpix,
            hint="Open it with open_frames.",
        )
    n_rows, n_columns = int(str(header["NAXIS2"])), int(str(header["NAXIS1"]))
    return np.frombuffer(hdu.raw, _PIXELS[bitpix], n_rows * n_columns).reshape(n_rows, n_columns)


def _spectrum(hdu: _HDU, path: Path, *, along: bool) -> Variables:
    """Return the columns of a table as variables along x; `x` itself among them.

    Parameters
    ----------
    hdu, path : the table, and where it is from.
    along : the spectrum was extracted along a trace, not summed by rows.
    """
    columns = _columns(hdu, path)
    sigma = columns.pop("uncertainty", None)
    if sigma is not None and not np.isnan(sigma[1]).all():
        told = {"units": f"{sigma[2]['units']}2", "long_name": "variance of the flux"}
        columns[VARIANCE] = (X, variance_of(sigma[1]), told)
    flags = _FLAGS | ({DQ: "flags of the pixels in the aperture"} if along else {})
    for name in columns.keys() & flags.keys():
        columns[name] = (X, columns[name][1].astype(np.uint8), dq_attrs(flags[name]))
    return columns


def _columns(hdu: _HDU, path: Path) -> Variables:
    types = {form: f">{np.dtype(name).str[1:]}" for name, form in COLUMN_FORMS.items()}
    header, numbers = hdu.header, range(1, int(str(hdu.header["TFIELDS"])) + 1)
    forms = [header.readable(f"TFORM{i}") for i in numbers]
    if not set(forms) <= set(types):
        raise FrameError(
            f"The columns are of the forms {forms}, which arrayred does not write",
            path=path,
            keyword="TFORM1",
            hint="Read it with astropy.table.Table.",
        )
    fields = [(str(header[f"TTYPE{i}"]), types[str(form)]) for i, form in enumerate(forms, 1)]
    records = np.frombuffer(hdu.raw, np.dtype(fields), int(str(header["NAXIS2"])))
    units: dict[Any, str] = {spelled: unit for unit, spelled in TABLE_UNITS.items()}
    variables: Variables = {}
    for i, (name, kind) in enumerate(fields, 1):
        values = records[name].astype(np.dtype(kind).newbyteorder("="))
        unit = header.get(f"TUNIT{i}")
        told = {"units": units.get(unit, unit), "long_name": parse(header.card(f"TTYPE{i}"))[1]}
        variables[name] = (X, values, {key: value for key, value in told.items() if value})
    return variables
