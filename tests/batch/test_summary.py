"""The summary reads as ECSV, and its facts are those of the spectrum."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import cast

import numpy as np
import xarray as xr
from astropy.io import ascii as astropy_ascii

from arrayred.batch import SummaryLine, as_ecsv, spectrum_values
from arrayred.model import COSMIC_RAY, SATURATED
from arrayred.night import Target

NO_DARK = cast(Target, SimpleNamespace(master=None))


def spectrum(n: int = 9) -> xr.Dataset:
    rng = np.random.default_rng(0)
    flux, variance = rng.normal(100, 9, n), rng.uniform(1, 4, n)
    dq = np.zeros(n, np.uint8)
    dq[1], dq[2] = SATURATED, SATURATED | COSMIC_RAY
    planes = {"flux": ("x", flux), "variance": ("x", variance), "dq": ("x", dq)}
    return xr.Dataset(planes, attrs={"first_row": np.int64(3), "history": "x", "n_sigma": 4.0})


def test_facts_are_those_of_the_spectrum() -> None:
    for n in (8, 9, 10, 11):
        given = spectrum(n)
        facts = spectrum_values(given, NO_DARK)
        snr = (given["flux"] / given["variance"] ** 0.5).values[n // 4 : n - n // 4]
        assert facts["snr"] == float(np.median(snr))
        assert (facts["n_saturated"], facts["n_cosmic_rays"]) == (2, 1)
        assert json.loads(json.dumps(facts)) == facts
        assert set(facts) == {"snr", "n_saturated", "n_cosmic_rays", "first_row", "n_sigma"}


def test_a_spectrum_without_noise_has_no_signal_to_noise() -> None:
    given = spectrum()
    assert "snr" not in spectrum_values(given[["flux"]], NO_DARK)
    given["variance"][:] = np.nan
    assert spectrum_values(given, NO_DARK)["snr"] is None


def test_astropy_reads_the_summary() -> None:
    odd = 'a, "quoted" one\nand \x1b[31m another'
    lines = [
        SummaryLine(
            "2020-11-03", "Vega", "reduced", {"first_row": 3, "last_row": 9, "snr": 12.5}, 0.5
        ),
        SummaryLine("2020-11-04", "", "failed", {}, 0.25, odd),
    ]
    table = astropy_ascii.read(as_ecsv(lines).decode(), format="ecsv")
    assert list(table["status"]) == ["done", "failed"]
    assert (table["first_row"][0], table["snr"][0]) == (3, 12.5)
    assert "seconds" not in table.colnames
    assert table["first_row"].mask.tolist() == [False, True]
    assert table["reason"][1] == 'a, "quoted" one\\nand \\x1b[31m another'
    assert str(table["dark_age"].unit) == "d"


def test_the_summary_tells_nothing_of_the_run_that_wrote_it() -> None:
    facts = {"first_row": 3, "last_row": 9}
    reduced, kept = (
        SummaryLine("a", "Vega", "reduced", facts, 0.5),
        SummaryLine("a", "Vega", "kept", facts, 0.0),
    )
    assert as_ecsv([reduced]) == as_ecsv([kept])
    assert as_ecsv([reduced]) != as_ecsv([SummaryLine("a", "Vega", "interrupted", facts, 0.0)])
