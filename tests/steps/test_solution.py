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
from arrayred.model import SATURATED
from arrayred.simulate import Lamps
from arrayred.steps.solution import (
    Solved,
    brightest_rows,
    carry_identities,
    earth_motion,
    lamp_notes,
    solve_lamps,
)
from arrayred.steps.wavelength import find_lamp_lines, identify

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


# Lamps that are refused: what is found, in one line that names the lamp.

COLUMNS = np.arange(1.0, 901)


def lamp_light() -> np.ndarray:
    """Return the counts of a neon lamp (x)."""
    light = np.full(900, 200.0)
    for column, strength, sigma in Lamps(dispersion=1.3).lines_on(900):
        light += 10 * strength * np.exp(-0.5 * ((COLUMNS - column) / sigma) ** 2)
    return light


def solved(light: np.ndarray, known: xr.Dataset | None = None, dq: int = 0) -> Solved:
    """Return what a lamp gives, identified blindly or by known lines."""
    counts = np.random.default_rng(3).poisson(light).astype(float)
    planes = {"counts": counts, "variance": light + 25, "dq": np.full(900, dq, np.uint8)}
    arc = xr.Dataset(
        {name: (("lamp", "x"), values[np.newaxis]) for name, values in planes.items()},
        {"lamp": ["arc-7"], "x": COLUMNS, "minutes": ("lamp", [3.0])},
    ).assign_coords(time_mid=("lamp", np.array(["NaT"], "datetime64[ns]")))

    def identified(names: tuple[str, ...]) -> xr.Dataset:
        lines = find_lamp_lines(arc.sel(lamp=names[0]))
        return identify(lines) if known is None else known

    return solve_lamps(arc, identified, None)


FLAT = 30_000 * np.exp(-(((COLUMNS - 400) / 500) ** 2))
STAR = FLAT * (1 - 0.5 * np.exp(-0.5 * ((COLUMNS - 300) / 6) ** 2))


@pytest.mark.parametrize(
    ("light", "dq"),
    [(FLAT, 0), (STAR, 0), (lamp_light(), SATURATED)],
    ids=["a flat", "a star", "all saturated"],
)
def test_what_is_no_lamp_is_refused_by_its_name(light: np.ndarray, dq: int) -> None:
    with pytest.raises(LampError, match="arc-7: ") as error:
        solved(light, dq=dq)
    assert error.value.hint


def test_a_known_solution_of_another_setting_is_refused() -> None:
    ours = solved(lamp_light())
    used = ours.lines.isel(line=ours.lines["used"].values)
    known = used[["x", "wavelength", "element"]].assign_attrs(rms_pixel=ours.dispersion.rms_pixel)
    again = solved(lamp_light(), known)
    assert again.dispersion.wavelength(450.0) == pytest.approx(ours.dispersion.wavelength(450.0))
    other = known.assign(x=450 + 0.7 * (known["x"] - 450))
    with pytest.raises(LampError, match="lines of the known solution were found"):
        solved(lamp_light(), other)
    # Lines that are found again, but by their places only: the wavelengths are of another setting.
    noise = np.random.default_rng(1).normal(0, 1.5, known.sizes["line"])
    wrong = known.assign(wavelength=known["wavelength"] + noise)
    with pytest.raises(LampError, match=r"pixel about order \d, and by 0\.\d\d in the known"):
        solved(lamp_light(), wrong)


def lamps_asked_for(other: np.ndarray) -> tuple[list[tuple[str, ...]], Solved]:
    """Return the lamps that are identified by themselves, of neon and another one, and the rest."""
    rng = np.random.default_rng(8)
    counts = np.stack([rng.poisson(light).astype(float) for light in (lamp_light(), other)])
    arc = xr.Dataset(
        {"counts": (("lamp", "x"), counts), "variance": (("lamp", "x"), counts + 25)},
        {"lamp": ["first", "second"], "x": COLUMNS, "minutes": ("lamp", [-3.0, 3.0])},
    ).assign_coords(time_mid=("lamp", np.array(["NaT", "NaT"], "datetime64[ns]")))
    asked = []

    def identified(names: tuple[str, ...]) -> xr.Dataset:
        asked.append(names)
        return identify(find_lamp_lines(arc.sel(lamp=names[0])))

    return asked, solve_lamps(arc, identified, None)


def test_the_second_lamp_takes_the_identities_of_the_first_if_they_explain_its_light() -> None:
    moved = np.interp(COLUMNS - 2.5, COLUMNS, lamp_light())
    asked, solution = lamps_asked_for(moved)
    assert asked == [("first",)]
    assert solution.lamps == ("first", "second")
    shift = solution.lines["x"].values[solution.lines["lamp"].values == "second"]
    assert shift.size > 10
    mixed = lamp_light()
    for column in np.random.default_rng(2).uniform(20, 880, 25):
        mixed += 5e3 * np.exp(-0.5 * ((COLUMNS - column) / 1.3) ** 2)
    asked, solution = lamps_asked_for(mixed)
    assert asked[:2] == [("first",), ("second",)]


@pytest.mark.parametrize(
    ("name", "lamp", "explained", "words"),
    [
        ("Xenon-5s", "Ne+Xe", 0.99, ["name states Xe, but its lines are those of Ne+Xe"]),
        ("neon_argon", "Ne", 0.7, ["name states Ar+Ne", "Ne explains 70 % of the flux"]),
        ("argon neon", "Ne+Ar", 0.95, []),
        ("hg-0001", "Kr", 0.95, ["name states Hg"]),
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


def test_the_object_of_a_header_is_compared_with_the_gas_too() -> None:
    found = xr.Dataset(attrs={"lamp": "Ne", "flux_explained": 0.95})
    told = lamp_notes("arc-1", found, "ThAr / Argon")
    assert told == ["arc-1: header states Ar, but its lines are those of Ne"]
    assert lamp_notes("arc-1", found, "Neon lamp") == []


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
            "object": ("lamp", ["Krypton"]),
            "minutes": ("lamp", [5.0]),
            "time_mid": ("lamp", [np.datetime64("NaT", "ns")]),
        },
    )
    solved = solve_lamps(arc, lambda _: known.assign_attrs(flux_explained=0.75), None)
    assert "argon: name states Ar, but its lines are those of Ne" in solved.told
    assert "argon: header states Kr, but its lines are those of Ne" in solved.told
    assert any("75 % of the flux" in text for text in solved.told)


def test_the_brightest_rows_of_a_lamp_are_not_those_without_values() -> None:
    counts = np.ones((60, 100))
    counts[40:50, ::10] = 500.0
    counts[5:20, ::15] = np.nan
    counts[7:9] = np.inf
    rows = {"y": np.arange(1, 61), "x": np.arange(1, 101)}
    trace, half_height = brightest_rows(xr.Dataset({"counts": (("y", "x"), counts)}, rows))
    assert float(trace["center"][0]) == pytest.approx(45.5, abs=half_height)
