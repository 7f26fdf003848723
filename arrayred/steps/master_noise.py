"""How well a master bias or dark is known: `with_own_noise`.

The frames of a master scatter by what `measure_noise` notes on it; of their combination a share of
that is left, and in hot pixels the same share of their charge's photon noise::

    variance = k(m)/m (r_dark^2 + hot / gain)

It is what `estimate_noise` counts once in each combined image that the master is subtracted from,
so it is computed anew there, and serves here for those who use the master elsewhere.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from arrayred.model import COUNTS, VARIANCE, X, Y, check_image, note_history
from arrayred.steps.floor import Floor
from arrayred.steps.noise import part_of_master

if TYPE_CHECKING:
    import xarray as xr


def with_own_noise(master: xr.Dataset) -> xr.Dataset:
    """Give a master bias or dark the variance of its pixels.

    Parameters
    ----------
    master : counts (y, x), settled, of `measure_noise`: its attribute `noise` and its coordinates
        `n_frames`, `method` and `gain` are believed.

    Returns
    -------
    master : with `variance` (y, x), float32, in the square of its unit; as it was where a single
        frame, or one from elsewhere, does not tell its noise. Without a gain that of the charge in
        hot pixels is left out.

    Examples
    --------
    >>> import xarray as xr
    >>> counts = (("y", "x"), np.zeros((2, 3)), {"units": "adu"})
    >>> labels = {"y": [1, 2], "x": [1, 2, 3], "method": "average", "n_frames": 4}
    >>> master = xr.Dataset({"counts": counts}, labels, {"noise": 6.0, "history": []})
    >>> float(with_own_noise(master).variance[0, 0])
    9.0
    """
    check_image(master)
    if "noise" not in master.attrs or "n_frames" not in master.coords:
        return master
    noise, gain = float(master.attrs["noise"]), master.coords.get("gain")
    own = part_of_master(master, Floor(noise**2, 0.0, ""))
    variance = np.full(master[COUNTS].shape, own.share * own.variance, np.float32)
    if gain is not None:
        variance.flat[own.where] += own.share * own.charge / float(gain.item())
    units = master[COUNTS].attrs.get("units", "adu")
    attrs = {"units": f"{units}2", "long_name": "variance of a pixel"}
    sigma = f"{noise:.4g} {units} a frame, {math.sqrt(own.share):.3g} of it left"
    line = f"variance: noise of a pixel {sigma}{'' if gain is not None else '; gain unknown'}"
    return note_history(master.assign({VARIANCE: ((Y, X), variance, attrs)}), line)
