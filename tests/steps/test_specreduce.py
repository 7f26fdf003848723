"""Our spectra beside those of specreduce, of the same images, trace and sky."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from arrayred.steps import extract_along, fit_trace
from tests.stars import Drawn, draw, flat_sky


def theirs(star: Drawn, center: np.ndarray, width: float, way: str) -> Any:
    """Return the flux (x) that specreduce finds, the sky being known."""
    import astropy.units as u
    from astropy.nddata import NDData, StdDevUncertainty
    from specreduce.extract import BoxcarExtract, HorneExtract
    from specreduce.tracing import ArrayTrace

    counts = star.image.counts.values - 20.0
    sigma = np.sqrt(star.image.variance.values)
    image = NDData(counts * u.DN, uncertainty=StdDevUncertainty(sigma * u.DN))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace = ArrayTrace(image, center - 1)
        if way == "boxcar":
            return BoxcarExtract(image, trace, width=width).spectrum.flux.value
        return HorneExtract(image, trace).spectrum.flux.value


@pytest.mark.parametrize("tilt", [0.0, 3.0, 8.0])
def test_sums_are_those_of_its_boxcar(tilt: float) -> None:
    star = draw(100.0, tilt=tilt)
    trace = fit_trace(star.image, star.rows)
    ours = extract_along(star.image, trace, flat_sky(20.0), half_height=7.5, weights="sum")
    assert np.allclose(ours.flux, theirs(star, trace.center.values, 15, "boxcar"), rtol=1e-9)


@pytest.mark.parametrize(("seeing", "tilt"), [(5.0, 0.0), (12.0, 0.0), (2.0, 8.0), (5.0, 8.0)])
def test_fluxes_are_nearer_to_the_truth_than_those_of_its_horne(seeing: float, tilt: float) -> None:
    star = draw(300.0, seeing=seeing, tilt=tilt)
    trace = fit_trace(star.image, star.rows)
    ours = extract_along(star.image, trace, flat_sky(20.0), half_height=1.6 * seeing).flux.values
    horne = theirs(star, trace.center.values, 16, "horne")
    wrong = [float(np.nanmean(np.abs(flux / star.flux - 1))) for flux in (ours, horne)]
    assert np.isfinite(ours).all()
    assert wrong[0] < 0.004
    assert wrong[0] < wrong[1]
