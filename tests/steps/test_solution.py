"""Wavelengths of a star from its lamps, and the motion of the Earth, against astropy."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from astropy import units as u
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.time import Time
from astropy.utils import iers

from arrayred.errors import LampError
from arrayred.steps.solution import carry_identities, earth_motion, lamp_notes, solve_lamps

SITES = {
    "La Palma": {"LATITUDE": 28.760459, "LONGITUD": -17.881589, "HEIGHT": 2344.0},
    "text": {"SITELAT": "-31 16 22", "SITELONG": "+149 04 15"},
}


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize(
    "date", ["1999-03-01T02:00:00", "2018-08-02T03:00:17", "2026-11-30T20:00:00"]
)
@pytest.mark.parametrize("place", [("21:52:25.5", "+02:23:23"), ("05:34:32", "-69:10:00")])
def test_the_motion_of_the_earth_is_that_of_astropy(
    site: str, date: str, place: tuple[str, str]
) -> None:
    cards = {"RA": place[0], "DEC": place[1], **SITES[site]}
    found = earth_motion(cards, np.datetime64(date))
    star = SkyCoord(*place, unit=(u.hourangle, u.deg))
    latitude, longitude = {
        "La Palma": (28.760459, -17.881589),
        "text": (-31.272778, 149.070833),
    }.get(site, (0.0, 0.0))
    height = 2344.0 if site == "La Palma" else 0.0
    there = EarthLocation.from_geodetic(longitude, latitude, height)
    with warnings.catch_warnings(), iers.conf.set_temp("auto_download", False):
        warnings.simplefilter("ignore")
        time = Time(date, scale="utc", location=there)
        time.delta_ut1_utc = 0.0
        expected = star.radial_velocity_correction("barycentric", obstime=time)
        light = time.light_travel_time(star, "barycentric")
        day = (time.tdb + light).jd
    assert found["barycentric_velocity"] == pytest.approx(expected.to_value(u.km / u.s), abs=0.01)
    assert found["barycentric_date"] == pytest.approx(day, abs=2e-7)
    anywhere = earth_motion({"RA": place[0], "DEC": place[1]}, np.datetime64(date))
    assert abs(anywhere["geocentric_velocity"] - found["barycentric_velocity"]) < 0.5


@pytest.mark.parametrize(
    "cards", [{}, {"RA": "N/A", "DEC": "N/A"}, {"RA": "1 2 3"}, {"RA": "", "DEC": ""}]
)
def test_without_a_place_there_is_no_motion(cards: dict[str, str]) -> None:
    assert earth_motion(cards, np.datetime64("2020-01-01T00:00:00")) == {}


def test_a_longitude_without_a_sign_is_not_believed() -> None:
    cards = {"RA": "1 2 3", "DEC": "4 5 6", "SITELAT": "39 51 30", "SITELONG": "89 53 30"}
    assert "geocentric_velocity" in earth_motion(cards, np.datetime64("2020-01-01T00:00:00"))


def known_lines() -> xr.Dataset:
    x = np.sort(np.random.default_rng(4).uniform(20, 1000, 25))
    wave = 6000 + 0.5 * x + 2e-5 * x**2
    return xr.Dataset(
        {"x": ("line", x), "wavelength": ("line", wave), "element": ("line", ["NeI"] * x.size)},
        attrs={"lamp": "Ne", "log10_nfa": -9.0, "other": 1},
    )


@pytest.mark.parametrize("shift", [-25.0, -0.4, 0.0, 3.3, 28.0])
@pytest.mark.parametrize("scale", [0.996, 1.0, 1.004])
def test_lines_are_known_again_though_shifted_and_stretched(shift: float, scale: float) -> None:
    known, rng = known_lines(), np.random.default_rng(5)
    x = 510 + shift + scale * (known["x"].values - 510) + rng.normal(0, 0.05, 25)
    there = np.delete(np.arange(25), [3, 11, 20])
    more = rng.uniform(20, 1000, 40)
    more = more[np.abs(more[:, np.newaxis] - x).min(axis=1) > 5]
    place = np.concatenate([x[there], more])
    order = np.argsort(place)
    lines = xr.Dataset({"x": ("line", place[order])}, attrs={"fwhm": 3.0})
    found = carry_identities(lines, known)
    truth = np.concatenate([known["wavelength"].values[there], np.full(more.size, np.nan)])[order]
    true = np.isfinite(truth)
    assert np.array_equal(found["wavelength"].values[true], truth[true])
    assert found.attrs["lamp"] == "Ne"
    assert "other" not in found.attrs


def test_other_lines_are_refused() -> None:
    known, rng = known_lines(), np.random.default_rng(6)
    lines = xr.Dataset({"x": ("line", np.sort(rng.uniform(20, 1000, 25)))}, attrs={"fwhm": 3.0})
    with pytest.raises(LampError, match=r"\d+ of the \d+ lines of the known solution"):
        carry_identities(lines, known)


@pytest.mark.parametrize(
    ("name", "lamp", "explained", "words"),
    [
        ("Xenon-5s", "Ne+Xe", 0.99, ["its name says Xe, its lines are those of Ne+Xe"]),
        ("neon_argon", "Ne", 0.7, ["says Ar+Ne", "Ne explains 70 % of the light"]),
        ("argon neon", "Ne+Ar", 0.95, []),
        ("hg-0001", "Kr", 0.95, ["its name says Hg"]),
        ("Then.there.are.lamps", "Ne", 0.95, []),
        ("lamp1", "Ne", 0.95, []),
    ],
)
def test_a_name_of_another_gas_and_light_of_no_list_are_told(
    name: str, lamp: str, explained: float, words: list[str]
) -> None:
    told = lamp_notes(name, xr.Dataset(attrs={"lamp": lamp, "flux_explained": explained}))
    assert len(told) == len(words)
    assert all(word in text for word, text in zip(words, told, strict=True))


def test_what_speaks_against_a_lamp_is_told_with_its_solution() -> None:
    x = np.arange(1.0, 1021)
    known = known_lines()
    light = 100 + sum(9e3 * np.exp(-((x - at) ** 2) / 4) for at in known["x"].values)
    arc = xr.Dataset(
        {
            "flux": (("lamp", "x"), light[np.newaxis]),
            "variance": (("lamp", "x"), light[np.newaxis]),
        },
        {
            "x": x,
            "lamp": ["argon"],
            "minutes": ("lamp", [5.0]),
            "time_mid": ("lamp", [np.datetime64("NaT", "ns")]),
        },
    )
    solved = solve_lamps(arc, lambda _: known.assign_attrs(flux_explained=0.75), None)
    assert "argon: its name says Ar, its lines are those of Ne" in solved.told
    assert any("75 % of the light" in text for text in solved.told)
