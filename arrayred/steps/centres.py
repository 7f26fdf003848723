"""The centres of a star's light beside its trace, for who wants to see it: `measure_centres`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import UsageError
from arrayred.kernels import trace as kernel
from arrayred.model import BAD_PIXEL, CLEAN, COUNTS, DQ, VARIANCE, X, Y, check_image

if TYPE_CHECKING:
    import xarray as xr

Values = NDArray[np.float64]
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

    Examples
    --------
    >>> import xarray as xr
    >>> y, x = np.arange(1.0, 61)[:, np.newaxis], np.arange(1.0, 401)
    >>> counts = 1000 * np.exp(-((y - 30 - x / 200) ** 2) / 8)
    >>> image = xr.Dataset({"counts": (("y", "x"), counts)}, {"y": y[:, 0], "x": x})
    >>> spectrum = xr.Dataset({"trace": ("x", 30 + x / 200)}, attrs={"fwhm": 4.7})
    >>> found = measure_centres(image, spectrum)
    >>> found.sizes["x"], float(abs(found.row - found.trace).max()) < 0.02
    (32, True)
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
    bins, lowest = _bins_about(image, center, float(spectrum.attrs.get("half_height", 4 * sigma)))
    place = np.linspace(-1.0, 1.0, center.size)
    at_bins = np.interp(bins.middle, place, center)
    found = kernel.centres(bins, at_bins - lowest, sigma)
    lit = (found.snr >= _LEAST_SNR) & np.isfinite(found.variance)
    columns = np.interp(bins.middle, place, image[X].values.astype(np.float64))
    variables = {
        "row": found.position + lowest,
        "error": np.sqrt(np.maximum(found.variance, 0.0)),
        "trace": at_bins,
    }
    return xr.Dataset(
        {name: (X, value[lit], {"units": "pix"}) for name, value in variables.items()},
        {X: columns[lit]},
    )


def _bins_about(image: xr.Dataset, center: Values, half_height: float) -> tuple[kernel.Bins, int]:
    """Return the columns about a trace in bins, less the background beside it; and the first row.

    Parameters
    ----------
    image : counts (y, x).
    center : rows of the trace (x).
    half_height : of the aperture.
    """
    reach, lowest = half_height + _BESIDE, int(image[Y][0])
    first = max(int(np.floor(center.min() - reach)) - lowest, 0)
    span = slice(first, max(int(np.ceil(center.max() + reach)) - lowest + 1, first + 2))
    counts = image[CLEAN if CLEAN in image else COUNTS].values[span]
    variance = image[VARIANCE].values[span] if VARIANCE in image else None
    good = np.isfinite(counts) if variance is None else np.isfinite(counts + variance)
    if DQ in image:
        good &= (image[DQ].values[span] & BAD_PIXEL) == 0
    beside = min(_BESIDE // 2, counts.shape[0] // 4)
    return kernel.binned(counts, variance, good, _N_BINS, (beside, beside)), first + lowest


def _width_of(spectrum: xr.Dataset) -> float:
    """Return the width (standard deviation) of the light, rows."""
    half = float(spectrum.attrs.get("half_height", 6.0))
    return float(spectrum.attrs.get("fwhm", half * 2 / 3)) / kernel.FWHM_PER_SIGMA
