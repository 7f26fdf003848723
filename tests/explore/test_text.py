"""What the page says cannot do anything but be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import xarray as xr

from arrayred.explore import (
    ExplorerModel,
    View,
    header_table,
    pixel_text,
    rows_line,
)
from arrayred.night import open_night
from arrayred.report.render import fragment

MARKUP = "<img src=x onerror=alert(1)>&\x1b[31m"


@pytest.mark.parametrize("macro", ["title", "heading", "message"])
def test_no_markup_gets_through(macro: str) -> None:
    said = fragment("explorer.html", macro, MARKUP)
    assert "<img" not in said
    assert "\x1b" not in said
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;" in said


def test_no_markup_of_a_header_gets_through(night: Path) -> None:
    frame = ExplorerModel(open_night(night)).frame(View("light/Simulated_star"))
    said = header_table(replace(frame, target=MARKUP, label=f"{MARKUP}.fit", frame_type=MARKUP))
    assert "<img" not in said
    assert said.count("&lt;img") == 3


def test_what_is_unknown_is_not_told(night: Path) -> None:
    frame = ExplorerModel(open_night(night)).frame(View("light/Simulated_star"))
    said = header_table(replace(frame, exptime=None, time=None, ccd_temp=None, target=""))
    assert not any(word in said for word in ("exposure", "begun", "detector", "object"))


def test_a_pixel_is_told_with_its_place_and_unit() -> None:
    said = pixel_text(12, 34, 1178.0, "adu", (1.0, 2000.0))
    assert all(word in said for word in ("column 12, row 34", "1178 adu", "1 to 2000"))


def test_a_spectrum_without_sky_and_noise_tells_its_rows_alone() -> None:
    facts = {"first_row": 3, "last_row": 5, "snr": float("nan")}
    assert rows_line(xr.Dataset(attrs=facts)) == "rows 3:5"
