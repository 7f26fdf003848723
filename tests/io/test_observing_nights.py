"""Which night a frame belongs to, told from times alone, at many longitudes."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrayred.config import Instrument
from arrayred.io import (
    Frame,
    Header,
    ImageHDU,
    PixelFormat,
    PixelSource,
    Stamp,
    frame_from_header,
    observing_runs,
    with_observing_nights,
)

EVENING = date(2024, 3, 9)
PLACES = {"La Palma": -1.2, "Illinois": -5.9, "Hawaii": -10.4, "France": 0.4, "Siding Spring": 9.9}
PLACES |= {"New Zealand": 11.4}
"""Hours by which the sun is ahead of Greenwich."""


def frame(label: str, kind: str, time: datetime | None, exptime: float = 60.0) -> Frame:
    source = PixelSource(Path(f"{label}.fit"), 0, (2, 2), PixelFormat(16), Stamp(0, 0, 0))
    image = ImageHDU(source, Header(), 0, "plain")
    plain = frame_from_header(label, image, Instrument.load("generic"))
    return replace(plain, frame_type=kind, time=time, exptime=exptime)


def at(hours: float, place: str = "France") -> datetime:
    """Return a moment, hours after the local midnight that follows EVENING's day."""
    midnight = datetime(EVENING.year, EVENING.month, EVENING.day, tzinfo=UTC) + timedelta(days=1)
    return midnight + timedelta(hours=hours - PLACES[place])


def nights(*frames: Frame) -> dict[str, str]:
    return {frame.label: frame.night for frame in with_observing_nights(frames)}


@pytest.mark.parametrize("place", PLACES)
def test_a_whole_night_is_called_after_its_evening_anywhere(place: str) -> None:
    lights = [frame(f"l{i}", "light", at(-5.5 + i, place)) for i in range(12)]
    assert set(nights(*lights).values()) == {"2024-03-09"}


@pytest.mark.parametrize("place", [place for place, hours in PLACES.items() if abs(hours) < 7])
@pytest.mark.parametrize("hour", [-5, 0, 5])
def test_one_frame_is_enough_within_seven_hours_of_greenwich(place: str, hour: int) -> None:
    assert nights(frame("l", "light", at(hour, place))) == {"l": "2024-03-09"}


def test_six_hours_without_light_part_nights_and_less_do_not() -> None:
    first, second = frame("a", "light", at(-4), 60), frame("b", "light", at(2, "France"), 60)
    assert len(observing_runs([first, second])) == 1
    assert len(observing_runs([first, replace(second, time=at(2.1))])) == 2
    long = replace(first, exptime=600.0)
    assert len(observing_runs([long, replace(second, time=at(2.1))])) == 1


@pytest.mark.parametrize(
    ("hours", "night"),
    [(-9, "2024-03-09"), (8, "2024-03-09"), (11, "2024-03-09"), (12, "2024-03-10")],
)
def test_a_dark_of_the_day_belongs_to_the_nearest_night(hours: float, night: str) -> None:
    lights = [frame(f"l{day}{h}", "light", at(24 * day + h)) for day in (0, 1) for h in (-2, 0, 1)]
    assert nights(*lights, frame("dark", "dark", at(hours)))["dark"] == night


def test_darks_far_from_any_light_are_nights_of_their_own() -> None:
    light = frame("light", "light", at(0))
    library = [frame(f"d{day}", "dark", at(24 * day - 1)) for day in (-60, -59, 1)]
    found = nights(light, *library)
    assert found == {
        "light": "2024-03-09", "d-60": "2024-01-09", "d-59": "2024-01-10", "d1": "2024-03-10",
    }  # fmt: skip


def test_darks_round_the_clock_are_parted_at_noon() -> None:
    darks = [frame(f"d{h:02}", "dark", at(h, "La Palma"), 3590.0) for h in range(-10, 40)]
    found = nights(*darks)
    assert found["d-10"] == found["d00"] == "2024-03-09"
    assert found["d24"] == "2024-03-10"
    assert list(found.values()) == sorted(found.values())


def test_without_a_time_there_is_no_night() -> None:
    assert nights(frame("a", "light", None), frame("b", "dark", None)) == {"a": "", "b": ""}


@given(
    st.lists(
        st.tuples(st.sampled_from(["light", "dark", "bias"]), st.floats(-200, 200)), max_size=25
    ),
    st.randoms(use_true_random=False),
)
def test_nights_do_not_depend_on_the_order_of_frames(
    drawn: list[tuple[str, float]], rng: random.Random
) -> None:
    frames = [frame(f"f{i}", kind, at(hours)) for i, (kind, hours) in enumerate(drawn)]
    shuffled = rng.sample(frames, len(frames))
    assert nights(*shuffled) == nights(*frames)
    assert [f.label for f in with_observing_nights(shuffled)] == [f.label for f in shuffled]
    assert all(nights(*frames).values())


@pytest.mark.parametrize(("hours", "night"), [(12.0, "2024-03-09"), (12.05, "2024-03-10")])
def test_half_a_day_from_all_light_is_another_night(hours: float, night: str) -> None:
    light = frame("light", "light", at(0, "La Palma"))
    assert nights(light, frame("dark", "dark", at(hours, "La Palma")))["dark"] == night
