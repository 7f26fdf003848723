"""Rows of an image become a spectrum: `extract`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from arrayred.kernels.rows import sum_of_rows
from arrayred.model import (
    COUNTS,
    DQ,
    SATURATED,
    VARIANCE,
    Rows,
    X,
    Y,
    check_image,
    dq_attrs,
    note_history,
    remark,
)

if TYPE_CHECKING:
    import xarray as xr

Span = slice | NDArray[np.int64]
"""Labels of rows: all from a first to a last one, or each by its number."""


def extract(image: xr.Dataset, rows: Rows) -> xr.Dataset:
    """Sum the rows of a spectrum, column by column.

    Parameters
    ----------
    image : counts (y, x) in adu or electron, settled, dispersed along x.
    rows : which rows.

    Returns
    -------
    spectrum : `flux` (x), the sum over the rows, and `counts_mean` (x), the procedure's mean of a
        row, both float64 in the image's unit; the rows and the numbers that found them as
        attributes. Where the image has them, `variance` (x) of the flux, the sum over the rows, and
        `dq` (x), the flags of any of their pixels.
    """
    import xarray as xr

    check_image(image)
    total = sum_of_rows(image[COUNTS].sel({Y: rows.span}).values)
    units = image[COUNTS].attrs.get("units", "adu")
    scalars = {name: coord for name, coord in image.coords.items() if not coord.dims}
    spectrum = xr.Dataset(
        {
            "flux": (X, total, {"units": units, "long_name": "sum over the rows"}),
            "counts_mean": (X, total / rows.n_rows, {"units": units, "long_name": "mean of a row"}),
        },
        coords={X: image[X], **scalars},
        attrs={**image.attrs, **_facts(rows)},
    )
    spectrum = spectrum.assign(with_errors(image, rows.span, f"{units}2"))
    if DQ in spectrum and (n := int(np.count_nonzero(spectrum[DQ].values & SATURATED))):
        columns = "1 column holds" if n == 1 else f"{n} columns hold"
        spectrum = remark(spectrum, f"{columns} saturated pixels")
    for text in (*rows.remarks, *map(str, rows.others)):
        spectrum = remark(spectrum, text)
    return note_history(spectrum, f"rows {rows.first} to {rows.last} summed")


def with_errors(image: xr.Dataset, span: Span, units: str) -> dict[str, Any]:
    """Return the variance of a sum over rows and the flags of its pixels, where the image has them.

    Parameters
    ----------
    image : `variance` and `dq` (y, x), or one of them, or none.
    span : labels of the rows.
    units : of the variance.

    Returns
    -------
    variables (x) by name: pixels are independent, so their variances add up; flags are joined.
    """
    found: dict[str, Any] = {}
    if VARIANCE in image:
        rows = image[VARIANCE].sel({Y: span}).values.astype(np.float64)
        attrs: dict[str, object] = {"units": units, "long_name": "variance of the flux"}
        found[VARIANCE] = (X, sum_of_rows(rows), attrs)
    if DQ in image:
        flags = np.bitwise_or.reduce(image[DQ].sel({Y: span}).values, axis=0)
        found[DQ] = (X, flags, dq_attrs("flags of the pixels summed"))
    return found


def _facts(rows: Rows) -> dict[str, Any]:
    others = [(run.first, run.last) for run in rows.others]
    return {
        **({} if rows.snr is None else {"row_snr": rows.snr}),
        **({"other_rows": others} if others else {}),
        "rule": rows.rule,
        "first_row": rows.first,
        "last_row": rows.last,
        "n_rows": rows.n_rows,
        "n_bright_rows": rows.n_bright,
        "n_sigma": rows.n_sigma,
        "threshold": rows.threshold,
        "background_mean": rows.background_mean,
        "background_std": rows.background_std,
    }
