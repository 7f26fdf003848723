"""The centres of a star's light beside its trace, for who wants to see it: `measure_centres`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arrayred.errors import UsageError
from arrayred.kernels import trace as kernel
from arrayred.model import BAD_PIXEL, CLEAN, COUNTS, DQ, VARIANCE, X, Y, check_image

if TYPE_CHECKING:
    import xarray as xr

_N_BINS = 32
_BESIDE = 12
_LEAST_SNR = 3.0


def measure_centres(image: xr.Dataset, spectrum: xr.Dataset) -> xr.Dataset:
    """Return the centres of a star's light in bins of columns, near the trace of its spectrum.

    Parameters
    ----------
    image : counts (y, x) in adu or electron, settled, dispersed along x; `clean`, `variance` and
        `dq` count where it has them.
    spectrum : `trace` (x) with the attributes `fwhm` and `half_height`, rows.

    Returns
    -------
    centres : `row`, its standard deviation `error`, and `trace` there, rows; `x` are the middles
        of the bins. Bins without light enough are left out.

    Raises
    ------
    UsageError
        The spectrum has no trace, or another number of columns.
    """
    import xarray as xr

    check_image(image)
    if "trace" not in spectrum or spectrum.sizes[X] != image.sizes[X]:
        raise UsageError(
            f"Centres lie along the trace of a spectrum of {image.sizes[X]} columns, but this has "
            f"{'no trace' if 'trace' not in spectrum else spectrum.sizes[X]}",
            hint="Give the image and the spectrum that was extracted from it.",
        )
    center, sigma = spectrum["trace"].values, _width_of(spectrum)
    lowest, counts, reach = int(image[Y][0]), image[CLEAN if CLEAN in image else COUNTS].values, 0.0
    reach = float(spectrum.attrs.get("half_height", 4 * sigma)) + _BESIDE
    first = max(int(np.floor(center.min() - reach)) - lowest, 0)
    span = slice(first, max(int(np.ceil(center.max() + reach)) - lowest + 1, first + 2))
    counts = counts[span]
    variance = image[VARIANCE].values[span] if VARIANCE in image else None
    good = np.isfinite(counts) if variance is None else np.isfinite(counts + variance)
    if DQ in image:
        good &= (image[DQ].values[span] & BAD_PIXEL) == 0
    beside = min(_BESIDE // 2, counts.shape[0] // 4)
    bins = kernel.binned(counts, variance, good, _N_BINS, (beside, beside))
    place = np.linspace(-1.0, 1.0, center.size)
    at_bins = np.interp(bins.middle, place, center)
    found = kernel.centres(bins, at_bins - lowest - first, sigma)
    lit = (found.snr >= _LEAST_SNR) & np.isfinite(found.variance)
    columns = np.interp(bins.middle, place, image[X].values.astype(np.float64))
    variables = {
        "row": found.position + lowest + first,
        "error": np.sqrt(np.maximum(found.variance, 0.0)),
        "trace": at_bins,
    }
    attrs = {"units": "pix"}
    return xr.Dataset(
        {name: (X, value[lit], attrs) for name, value in variables.items()}, {X: columns[lit]}
    )


def _width_of(spectrum: xr.Dataset) -> float:
    """Return the width (standard deviation) of the light, rows."""
    half = float(spectrum.attrs.get("half_height", 6.0))
    return float(spectrum.attrs.get("fwhm", half * 2 / 3)) / kernel.FWHM_PER_SIGMA
