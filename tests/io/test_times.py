"""Starts of exposures: every spelling that was met, and what is none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from arrayred.io import start_of

DAY = "2020-11-03"


@pytest.mark.parametrize(
    ("date", "clock", "isot"),
    [
        ("2020-11-03T01:02:03", "", "2020-11-03T01:02:03"),
        ("2020-11-03T01:02:03.25Z", "", "2020-11-03T01:02:03.25"),
        ("2020-11-03T01:02:03+00:00", "", "2020-11-03T01:02:03"),
        ("2020-11-03 01:02:03", "", "2020-11-03T01:02:03"),
        ("2020-11-03T01:02", "23:00:00", "2020-11-03T01:02:00"),
        (DAY, "01:02:03.5", "2020-11-03T01:02:03.5"),
        (DAY, "01:02:03Z", "2020-11-03T01:02:03"),
        (DAY, "01 02 03", "2020-11-03T01:02:03"),
        (DAY, "1:2", "2020-11-03T01:02:00"),
        (DAY, "22.5", "2020-11-03T22:30:00"),
        (DAY, "0.25", "2020-11-03T00:15:00"),
        (DAY, "7", "2020-11-03T07:00:00"),
        (DAY, "24:00:00", "2020-11-04T00:00:00"),
        ("2016-12-31T23:59:60", "", "2017-01-01T00:00:00"),
        ("03/11/98", "01:02:03", "1998-11-03T01:02:03"),
        ("31/12/99", "23.75", "1999-12-31T23:45:00"),
        ("03/11/20", "01:02:03", "2020-11-03T01:02:03"),
        ("59156.0625", "", "2020-11-03T01:30:00"),
        ("2459156.5625", "23:00:00", "2020-11-03T01:30:00"),
    ],
)
def test_a_start_is_read_as_astropy_reads_its_iso_form(date: str, clock: str, isot: str) -> None:
    assert start_of(date, clock) == Time(isot, scale="utc").to_datetime(UTC)


@pytest.mark.parametrize(
    ("date", "clock"),
    [
        *((DAY, clock) for clock in ("", "noon", "25:00", "24.5", "-1", "43200", "1e1", "01:60")),
        *((DAY, clock) for clock in ("01:02:61", "01:02:03 local", "nan")),
        *((date, "01:00") for date in ("11/03/2020", "03-11-98", "32/01/98", "01/13/98", "1/1/98")),
        ("2020-11-03T25:00:00", "01:02:03"),
        ("2020-11-03T01:02:03-05:00", ""),
        *((date, "01:00") for date in ("59156", "0.0", "99999.0.0", "1234567.5", "-59156.5")),
        *((f"{year}-12-31T23:59:59", "") for year in ("0000", "1899", "2200", "9999")),
    ],
)
def test_what_makes_no_sense_is_no_time(date: str, clock: str) -> None:
    assert start_of(date, clock) is None


@given(st.datetimes(datetime(1970, 1, 1), datetime(2069, 12, 31)))
def test_any_moment_is_read_in_every_spelling(moment: datetime) -> None:
    whole = moment.replace(microsecond=0)
    clock = f"{whole:%H:%M:%S}"
    expected = whole.replace(tzinfo=UTC)
    assert start_of(f"{whole:%Y-%m-%dT%H:%M:%S}Z") == expected
    assert start_of(f"{whole:%Y-%m-%d}", clock) == expected
    assert start_of(f"{whole:%d/%m/%y}", clock) == expected


@given(st.text(max_size=25), st.text(max_size=12))
def test_no_text_is_too_odd(date: str, clock: str) -> None:
    assert start_of(date, clock) is None or "-" in date or "/" in date
