"""The whole reduction, seen from outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits

import arrayred as ar


def test_a_vertical_spectrum_equals_its_horizontal_twin(night: Path) -> None:
    target = "targets/Simulated_star/spectrum"
    flat = ar.reduce_night(night)[target]
    for path in night.iterdir():
        image, header = fits.getdata(path, header=True)
        header["DISPAXIS"] = 2
        fits.writeto(path, np.ascontiguousarray(image.T), header, overwrite=True)
    upright = ar.reduce_night(night)[target]
    for name in ("counts_mean", "counts_mean_sky_subtracted", "dq"):
        assert np.array_equal(upright[name], flat[name])
    assert np.allclose(upright["variance"], flat["variance"], rtol=0.03)
    assert np.allclose(upright["flux"], flat["flux"], rtol=0.01)
    assert upright.attrs["first_row"] == flat.attrs["first_row"]
    assert "columns" in upright.attrs["remarks"][0]
