"""The rows of a spectrum are summed column by column; everything known travels along."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import arrayred as ar
from arrayred.errors import MismatchError
from arrayred.model import Rows, Run
from tests.steps import Array, image_of

ROWS = Rows(4, 8, 3, 10.0, 2.0, 4.0, 18.0)


@pytest.fixture
def counts() -> Array:
    return np.random.default_rng(0).normal(100, 30, (12, 20))


def test_flux_is_the_sum_of_the_rows_both_ends_included(counts: Array) -> None:
    spectrum = ar.extract(image_of(counts), ROWS)
    expected = [math.fsum(counts[3:8, x]) for x in range(20)]
    assert spectrum.flux.values == pytest.approx(expected, rel=1e-15)
    assert spectrum.flux.dtype == np.float64


def test_the_mean_of_a_row_is_that_of_the_published_script(counts: Array) -> None:
    spectrum = ar.extract(image_of(counts), ROWS)
    assert np.array_equal(spectrum.counts_mean, counts[3:8].mean(axis=0))


def test_rows_are_chosen_by_their_number_in_the_file(counts: Array) -> None:
    whole = ar.extract(image_of(counts), ROWS)
    part = ar.extract(image_of(counts).sel(y=slice(3, 9)), ROWS)
    assert np.array_equal(part.flux, whole.flux)


def test_a_single_row_is_its_own_spectrum(counts: Array) -> None:
    spectrum = ar.extract(image_of(counts), Rows(12, 12, 1, 0.0, 1.0, 4.0, 4.0))
    assert np.array_equal(spectrum.flux, counts[11])
    assert np.array_equal(spectrum.counts_mean, counts[11])


def test_the_numbers_that_found_the_rows_are_attributes(counts: Array) -> None:
    attrs = ar.extract(image_of(counts).assign_attrs(instrument="generic"), ROWS).attrs
    assert {name: value for name, value in attrs.items() if name != "history"} == {
        "instrument": "generic",
        "rule": "threshold",
        "first_row": 4,
        "last_row": 8,
        "n_rows": 5,
        "n_bright_rows": 3,
        "n_sigma": 4.0,
        "threshold": 18.0,
        "background_mean": 10.0,
        "background_std": 2.0,
    }
    assert attrs["history"] == ["opened", "rows 4 to 8 summed"]


def test_other_bright_rows_become_remarks(counts: Array) -> None:
    rows = Rows(4, 8, 3, 10.0, 2.0, 4.0, 18.0, others=(Run(1, 2), Run(11, 11)))
    remarks = ar.extract(image_of(counts), rows).attrs["remarks"]
    assert [re.findall(r"rows? ([0-9:]+)", text) for text in remarks] == [["1:2"], ["11"]]
    assert "remarks" not in ar.extract(image_of(counts), ROWS).attrs


def test_columns_scalar_coordinates_and_units_are_kept(counts: Array) -> None:
    image = image_of(counts).isel(x=slice(5, 15)).assign_coords(n_frames=3, exptime=600.0)
    image.counts.attrs["units"] = "electron"
    spectrum = ar.extract(image, ROWS)
    assert spectrum.indexes["x"].equals(image.indexes["x"])
    assert (spectrum.n_frames.item(), spectrum.exptime.item()) == (3, 600.0)
    assert set(spectrum.coords) == {"x", "n_frames", "exptime"}
    assert {variable.attrs["units"] for variable in spectrum.values()} == {"electron"}


def test_the_image_is_not_changed(counts: Array) -> None:
    image = image_of(counts)
    before = image.copy(deep=True)
    ar.extract(image, ROWS)
    assert image.identical(before)


def test_a_chunked_image_is_refused(counts: Array) -> None:
    with pytest.raises(MismatchError, match="chunked"):
        ar.extract(image_of(counts).chunk({"y": 3}), ROWS)
