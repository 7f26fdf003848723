"""Frames are named as people do in notes: by label, file name, glob, range of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrayred.errors import UsageError
from arrayred.night import is_named, require_named, select_by_any, select_frames, stem_and_number


@dataclass(frozen=True)
class Named:
    """As much of a frame as has a name."""

    label: str
    path: Path


def named(*names: str) -> Any:
    """Return frames of these file names, relative to the night."""
    return [Named(name.rpartition(".")[0], Path("night") / name) for name in names]


def picked(frames: Any, pattern: str) -> list[str]:
    return [frame.label for frame in select_frames(frames, pattern)]


NIGHT = named(
    "a-9.fit", "a-10.fit", "a-011.FIT", "sub/a-12.fit", "b-10.fit", "a-10x.fit", "m31.fit"
)


@pytest.mark.parametrize(
    ("pattern", "labels"),
    [
        ("a-10", ["a-10"]),
        ("a-10.fit", ["a-10"]),
        ("sub/a-12", ["sub/a-12"]),
        ("a-12", ["sub/a-12"]),
        ("a-12.fit", ["sub/a-12"]),
        ("a-1?", ["a-10", "sub/a-12"]),
        ("*.FIT", ["a-011"]),
        ("sub/*", ["sub/a-12"]),
        ("[ab]-10", ["a-10", "b-10"]),
        ("a-9..12", ["a-9", "a-10", "a-011", "sub/a-12"]),
        ("a-10-11", ["a-10", "a-011"]),
        ("a-10:12", ["a-10", "a-011", "sub/a-12"]),
        ("a-10 – 12", ["a-10", "a-011", "sub/a-12"]),
        ("a-009..010", ["a-9", "a-10"]),
        ("sub/a-1..99", ["sub/a-12"]),
        ("a-12..9", []),
        ("a-13..20", []),
        ("A-10", []),
        ("10..12", []),
        ("m31", ["m31"]),
        ("m30..32", ["m31"]),
        ("", []),
    ],
)  # fmt: skip
def test_a_pattern_names_what_a_reader_would_expect(pattern: str, labels: list[str]) -> None:
    assert picked(NIGHT, pattern) == labels


@pytest.mark.parametrize(
    "tail", ["_600s", " 600.0s", "_-20C", "_600s_-20.5C_2x2", "-bin2", "_5ms", "_600sec"]
)
def test_exposure_temperature_and_binning_behind_the_number_do_not_count(tail: str) -> None:
    frames = named(*(f"vega_{i:03}{tail}.fits" for i in range(5, 12)))
    assert picked(frames, "vega_7..9") == [f"vega_00{i}{tail}" for i in (7, 8, 9)]
    assert stem_and_number(f"vega_007{tail}") == ("vega_", 7)


def test_an_exact_name_goes_before_a_range_and_a_glob() -> None:
    frames = named("hr10-12.fit", "hr10.fit", "hr11.fit", "x[1].fit", "x1.fit")
    assert picked(frames, "hr10-12") == ["hr10-12"]
    assert picked(frames, "hr10..12") == ["hr10", "hr11"]
    assert picked(frames, "x[1]") == ["x[1]"]
    assert picked(named("s/hr10-12.fit", "s/hr10.fit"), "hr10-12") == ["s/hr10-12"]


def test_one_name_in_two_folders_names_both() -> None:
    frames = named("one/a-1.fit", "two/a-1.fit", "a-2.fit")
    assert picked(frames, "a-1") == ["one/a-1", "two/a-1"]
    assert picked(frames, "one/a-1") == ["one/a-1"]


@given(
    stem=st.text("ab-_.8 ", max_size=6).filter(lambda s: not s[-1:].isdigit()),
    first=st.integers(0, 120),
    size=st.integers(0, 30),
    width=st.integers(1, 5),
    separator=st.sampled_from(["..", "-", ":", "–", " .. "]),
    written=st.integers(1, 5),
)
def test_a_range_names_the_numbers_from_first_to_last(
    stem: str, first: int, size: int, width: int, separator: str, written: int
) -> None:
    numbers = range(0, 160, 3)
    frames = named(*(f"{stem}{i:0{width}}.fit" for i in numbers), "other-5.fit")
    pattern = f"{stem}{first:0{written}}{separator}{first + size:0{written}}"
    expected = [f"{stem}{i:0{width}}" for i in numbers if first <= i <= first + size]
    assert picked(frames, pattern) == expected


@given(st.lists(st.text(st.characters(exclude_characters="/\0"), min_size=1), unique=True))
def test_every_label_names_its_own_frame_alone(names: list[str]) -> None:
    frames = [Named(name, Path("night") / f"{name}.fit") for name in names]
    assert all(picked(frames, name) == [name] for name in names)


def test_several_patterns_name_each_frame_once_in_the_order_of_the_frames() -> None:
    found = select_by_any(NIGHT, ["b-*", "a-10", "?-10", "a-10.fit", "gone"])
    assert [frame.label for frame in found] == ["a-10", "b-10"]


def test_a_pattern_that_names_nothing_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        require_named(NIGHT, [], ["b-10", "sub/a-13"], "target 'x'")
    assert str(caught.value) == (
        "target 'x' names 'sub/a-13', but no frame has this name. Did you mean 'sub/a-12'?"
    )
    with pytest.raises(UsageError, match="See `arrayred inspect`"):
        require_named(NIGHT, [], ["zzzzzz*"], "target 'x'")


def test_a_file_that_takes_no_part_may_be_named_all_the_same() -> None:
    others = [("c-10", Path("night/c-10.fit"))]
    require_named(NIGHT, others, ["c-10", "c-*", "c-9..11", "a-9"], "target 'x'")
    with pytest.raises(UsageError, match="Did you mean 'c-10'"):
        require_named(NIGHT, others, ["cc-10"], "target 'x'")


@pytest.mark.parametrize("pattern", ["-", "..", "1..", "..2", ":", "[", "[!", "*", "\n", "a\n*"])
def test_no_pattern_is_an_error(pattern: str) -> None:
    assert is_named("a", Path("a.fit"), pattern) == (pattern == "*")
