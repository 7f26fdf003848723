"""Messy real nights, without any setting, against the reference procedure's own numbers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from astropy.io import fits

import arrayred as ar
from arrayred.errors import NoSpectrumError
from arrayred.io import text_table
from arrayred.kernels import clipped_std
from arrayred.steps import find_rows
from tests.expected_rows import EXPECTED_ROWS
from tests.steps import image_of

TORONTO = {
    "EnifSpec": "toronto-enif-120",
    "NaviSpec": "toronto-navi-120",
    "ScheatSpec": "toronto-scheat-120",
    "Vega": "toronto-vega-120",
}


def oracle(nights: Path, case: str) -> dict[str, Any]:
    return dict(json.loads((nights / "oracles" / case / "oracle.json").read_text()))


@pytest.fixture(scope="module")
def toronto(nights: Path) -> xr.DataTree:
    return ar.reduce_night(nights / "toronto-2019-10", ar.Recipe.reference())


@pytest.mark.parametrize("target", TORONTO)
def test_each_star_equals_its_oracle(toronto: xr.DataTree, nights: Path, target: str) -> None:
    folder = nights / "oracles" / TORONTO[target]
    spectrum = toronto[f"targets/{target}/spectrum"]
    expected = oracle(nights, TORONTO[target])
    found = (spectrum.attrs["background_mean"], spectrum.attrs["threshold"])
    assert found == (expected["sky_average"], expected["threshold"])
    rows = (spectrum.attrs["first_row"], spectrum.attrs["last_row"])
    assert rows == (expected["bottom_y1"], expected["top_y"])
    raw, net = (spectrum[n].values for n in ("counts_mean", "counts_mean_sky_subtracted"))
    assert text_table(raw) == (folder / "raw_extraction.txt").read_bytes()
    assert text_table(net) == (folder / "skysubtracted.txt").read_bytes()


@pytest.mark.parametrize("target", TORONTO)
def test_each_image_equals_its_oracle(toronto: xr.DataTree, nights: Path, target: str) -> None:
    image = toronto[f"targets/{target}/combined"].counts.values.astype("<f8")
    assert (
        hashlib.sha256(image.tobytes()).hexdigest()
        == oracle(nights, TORONTO[target])["combined"]["sha256_f8le"]
    )


def test_the_duplicate_dark_is_used_once_and_named(nights: Path) -> None:
    opened = ar.open_night(nights / "toronto-2019-10")
    left_out = dict(ar.make_plan(opened).left_out)
    assert left_out["DarkBefore-007D120s (1)"] == "duplicate of DarkBefore-007D120s"
    tree = ar.reduce_night(opened, ar.Recipe.reference().replace(keep_duplicates=False))
    dark = tree["masters/dark/120s"].counts.values.astype("<f8")
    expected = oracle(nights, "toronto-vega-120-without-duplicate")["master_dark"]["sha256_f8le"]
    assert hashlib.sha256(dark.tobytes()).hexdigest() == expected


def test_the_lamp_is_no_target(toronto: xr.DataTree) -> None:
    assert set(toronto["targets"].children) == set(TORONTO)


def test_every_group_of_a_messy_night_has_its_dark_or_a_reason(nights: Path) -> None:
    plan = ar.make_plan(ar.open_night(nights / "stonybrook-2017-10"))
    assert plan.problems == ()
    darks = {t.name.split(".")[0]: t.dark and t.dark.name for t in plan.targets}
    assert darks == {
        "L2-sci-hg-240": "240s",
        "L2-sci-neon-1200": "1200s",
        "L2-star-hg-10": None,
        "L2-star-neon-40": None,
    }
    left_out = dict(plan.left_out)
    assert all("not used" in left_out[f"L2-flat-red-180.0000000{i}"] for i in range(5))
    lamps = {lamp.name for target in plan.targets for lamp in target.lamps}
    assert lamps == {"L2-arc-neon.00000000", "L2-arc-hg-10.00000000"}


def test_dark_subtracted_frames_equal_the_observers_own(nights: Path) -> None:
    plan = ar.make_plan(ar.open_night(nights / "stonybrook-2017-10"))
    (target,) = (t for t in plan.targets if t.name.startswith("L2-sci-neon-1200"))
    assert target.dark is not None
    dark = ar.settle(ar.combine(target.dark.cube(), "median"))
    calibrated = ar.subtract_dark(target.lights.cube(), dark)
    theirs = sorted((nights / "stonybrook-2017-10-by-its-observers").iterdir())
    assert len(theirs) == calibrated.sizes["frame"] == 5
    for ours, path in zip(calibrated.counts.values, theirs, strict=True):
        assert np.array_equal(ours, fits.getdata(path))


@pytest.mark.parametrize(("case", "row"), [("stonybrook-hg-240", 66), ("stonybrook-neon-1200", 76)])
def test_a_spectrum_under_the_threshold_is_a_failure_that_names_its_row(
    nights: Path, case: str, row: int
) -> None:
    assert "no row above the threshold" in oracle(nights, case)["error"]
    plan = ar.make_plan(ar.open_night(nights / "stonybrook-2017-10"))
    (target,) = (t for t in plan.targets if case.removeprefix("stonybrook-") in t.name)
    assert target.dark is not None
    dark = ar.settle(ar.combine(target.dark.cube(), "median"))
    with pytest.raises(ar.InputError, match=f"brightest is row {row} "):
        ar.reduce_target(target.lights.cube(), dark, ar.Recipe.reference())


def test_lamps_are_told_by_a_card_of_their_own(nights: Path) -> None:
    frames = ar.open_night(nights / "formats" / "isis").frames
    assert {f.label: f.frame_type for f in frames} == {
        "r2700984": "bias",
        "r2701253": "light",
        "r2701259": "arc",
    }


def test_the_combined_sky_scatters_as_its_variance_says(reduced_barber: xr.DataTree) -> None:
    image = reduced_barber["targets/201103hr8047-10-12/combined"]
    counts, variance = (image[name].values[:200] for name in ("counts", "variance"))
    pulls = (counts - np.median(counts)) / np.sqrt(variance)
    robust = 1.4826 * np.median(np.abs(pulls - np.median(pulls)))
    assert abs(robust - 1) < 0.03
    assert abs(clipped_std(pulls) - 1) < 0.03


def test_the_saturated_pixels_of_the_night_are_flagged(reduced_barber: xr.DataTree) -> None:
    image = reduced_barber["targets/201103hr8047-10-12/combined"]
    where = np.argwhere(image.dq.values & 2) + 1
    assert [tuple(pixel) for pixel in where] == [(88, 474), (104, 467), (105, 467), (106, 467)]


@pytest.fixture(scope="module")
def found(reduced_real: Callable[[str], xr.DataTree]) -> dict[str, xr.Dataset]:
    """Return the spectra of all targets of two nights, reduced without a setting."""
    return {
        f"{night}/{name.split('.')[0]}": target["spectrum"].to_dataset()
        for night in ("stonybrook-2017-10", "toronto-2019-10")
        for name, target in reduced_real(night)["targets"].children.items()
    }


@pytest.mark.parametrize("target", EXPECTED_ROWS)
def test_every_spectrum_is_found_where_it_is_to_be_seen(
    found: dict[str, xr.Dataset], target: str
) -> None:
    facts, (first, last) = found[target].attrs, EXPECTED_ROWS[target]
    assert abs(facts["first_row"] - first) <= 3
    assert abs(facts["last_row"] - last) <= 3
    assert facts["rule"] == ("robust" if "sci" in target else "threshold")


def test_vega_is_one_spectrum_and_the_other_trace_a_remark(found: dict[str, xr.Dataset]) -> None:
    remarks = found["toronto-2019-10/Vega"].attrs["remarks"]
    (told,) = [text for text in remarks if "another spectrum" in text]
    expected = r"check: another spectrum in rows 311:334 \(S/N \d+\) was not extracted"
    assert re.fullmatch(expected, told)


@pytest.mark.parametrize(
    ("night", "exposure"), [("toronto-2019-10", 300.0), ("stonybrook-2017-10", 240.0)]
)
def test_darks_less_a_dark_hold_no_spectrum(nights: Path, night: str, exposure: float) -> None:
    darks = {frame.label: frame for frame in ar.open_night(nights / night).frames}
    chosen = [f for f in darks.values() if f.frame_type == "dark" and f.exptime == exposure]
    pixels = np.stack([fits.getdata(frame.path).astype(np.float64) for frame in chosen])
    for i in range(len(pixels)):
        alone = pixels[i] - np.median(np.delete(pixels, i, axis=0), axis=0)
        with pytest.raises(NoSpectrumError):
            find_rows(image_of(alone))


def test_a_night_of_doubled_type_cards_and_biases_of_0_s_needs_no_option(nights: Path) -> None:
    night = ar.open_night(nights / "kast-red", ar.NightFile(frames="r136*"))
    spectrum = ar.reduce_night(night, ar.Recipe(flat=False))["targets/G191b2b/spectrum"]
    frames = {f.label: fits.getdata(f.path).astype(float) for f in night.scanned}
    bias = np.median([frames[name] for name in ("r112", "r113", "r114")], axis=0)
    assert {str(f.sections.overscan) for f in night.frames if f.sections} == {"[1222:1232,1:250]"}
    assert spectrum.sizes["x"] == 1200
    lit = slice(20, 1180)
    light, trace = (frames["r136"] - bias)[:, lit], spectrum["trace"].values[lit]
    away = np.abs(np.arange(1, 251)[:, np.newaxis] - trace)
    sky = np.nanmedian(np.where((away > 20) & (away < 45), light, np.nan), axis=0)
    plain = np.sum(np.where(away <= 6, light - sky, 0.0), axis=0)
    assert np.nanmedian(spectrum["flux"].values[lit] / plain) == pytest.approx(1.0, abs=0.01)
