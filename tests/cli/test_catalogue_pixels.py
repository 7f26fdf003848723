"""The catalogue of bad nights, continued: what only pixels tell, and cards that lie about them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from tests.cli.conftest import Call, whole
from tests.cli.test_catalogue import (
    QUIET,
    REDUCE,
    assert_each_is_named,
    combined_counts,
    tables,
    write_card,
)

LOUD = ("reduce", "night", "-o", "out", "--no-figures")
COMBINED = Path("targets/Simulated_star/Simulated_star_combined.fits")
Change = Callable[[NDArray[Any]], NDArray[Any]]


@pytest.fixture
def plain_tables(arrayred: Call, undisturbed: dict[str, bytes]) -> list[bytes]:
    """Return the tables of the night as it is."""
    assert undisturbed
    return tables("undisturbed")


def rewrite(path: Path, change: Change, **cards: Any) -> None:
    """Write a frame anew with other pixels, and cards added or replaced."""
    pixels, header = fits.getdata(path), fits.getheader(path)
    for keyword in ("BZERO", "BSCALE", "DATASUM", "CHECKSUM"):
        header.remove(keyword, ignore_missing=True)
    header.update(cards)
    fits.writeto(path, change(pixels), header, overwrite=True)


def as_wrapped(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return unsigned counts as a careless program stores them: the same bits, called signed."""
    return pixels.astype(np.uint16).view(np.int16)


def less_dark(level: float, kind: type = np.int16) -> Change:
    """Return a change that takes the bias and the dark off, and adds a level."""
    return lambda pixels: np.rint(pixels - np.median(pixels) + level).astype(kind)


def lights(night: Path) -> list[Path]:
    return sorted(night.glob("light-*.fit"))


def warned(told: Any) -> list[str]:
    return [line for line in told.err.splitlines() if re.match("arrayred: (check|note): ", line)]


# 34: flips


def test_lights_and_darks_that_are_flipped_in_different_ways_are_warned_of(
    night: Path, arrayred: Call, plain_tables: list[bytes]
) -> None:
    for path in night.iterdir():
        fits.setval(path, "FLIPSTAT", value="Mirror" if "light" in path.name else "")
    told = arrayred(*LOUD)
    assert (told.code, tables()) == (0, plain_tables)
    (line,) = warned(told)
    assert re.search(r"Simulated_star: frames are flipped differently: '', 'Mirror'", line)


# 38, 39: letters and pedestals


def test_a_dark_subtracted_frame_with_a_pedestal_is_a_target_of_its_own(
    night: Path, arrayred: Call, plain_tables: list[bytes]
) -> None:
    path = night / "ne-13.fit"
    shutil.copy(night / "light-001.fit", path)
    rewrite(path, less_dark(118), CALSTAT="D", PEDESTAL=-100, OBJECT="ne")
    assert arrayred(*REDUCE).code == 0
    assert tables() == plain_tables
    image, header = fits.getdata("out/targets/ne/ne_combined.fits", header=True)
    assert np.array_equal(image, fits.getdata(path) - 100.0)
    assert np.median(image) == 18.0
    assert "frames: read with the pedestal 100 subtracted" in str(header["HISTORY"])
    assert ("ARDARK" in header, "PEDESTAL" in header, header["CALSTAT"]) == (False, False, "BD")


@pytest.mark.parametrize(("found", "written"), [("bdf", "BDF"), (" bd ", "BD"), ("D", "BD")])
def test_letters_of_frames_that_were_corrected_are_believed_in_any_case(
    night: Path, arrayred: Call, found: str, written: str
) -> None:
    for path in lights(night):
        rewrite(path, less_dark(0, np.float32), CALSTAT=found)
    assert arrayred(*REDUCE).code == 0
    header = fits.getheader(Path("out") / COMBINED)
    assert ("ARDARK" in header, header["CALSTAT"]) == (False, written)


def test_blank_letters_are_none(night: Path, arrayred: Call, plain_tables: list[bytes]) -> None:
    for path in night.iterdir():
        fits.setval(path, "CALSTAT", value="  ")
    assert arrayred(*REDUCE).code == 0
    assert tables() == plain_tables


def test_letters_that_the_level_contradicts_are_refused_by_name(
    night: Path, arrayred: Call
) -> None:
    fits.setval(night / "light-002.fit", "CALSTAT", value="D")
    told = arrayred(*REDUCE)
    assert told.code == 4
    assert_each_is_named(told.err, {"light-002.fit": "CALSTAT 'D' records dark subtraction"})
    assert not Path("out").exists()


def test_lights_dark_subtracted_without_a_word_are_not_corrected_twice(
    night: Path, arrayred: Call
) -> None:
    for path in lights(night):
        rewrite(path, less_dark(15, np.float32))
    told = arrayred(*LOUD)
    assert told.code == 0
    assert all(any(path.stem in line for line in warned(told)) for path in lights(night))
    assert all(
        "a dark has been subtracted, although no header keyword records it" in w
        for w in warned(told)
    )
    mean = np.mean([fits.getdata(path) for path in lights(night)], axis=0, dtype=float)
    assert np.array_equal(fits.getdata(Path("out") / COMBINED), mean.astype(np.float32))


# 40, 41: cards


def second_card(path: Path, card: str) -> None:
    """Add a card before the END, as an editor may, though the keyword stands there already."""
    raw = path.read_bytes()
    end = raw.index(b"END".ljust(80))
    path.write_bytes(raw[:end] + card.ljust(80).encode() + raw[end : end + 80] + raw[end + 160 :])


@pytest.mark.parametrize(
    ("card", "finding"),
    [
        ("EXPTIME =                 60.0", r"EXPTIME appears 2 times .* with 600.0 and 60.0"),
        ("IMAGETYP= 'Flat Field'", r"IMAGETYP appears 2 times .*'Light Frame' and 'Flat Field'"),
    ],
)
def test_cards_that_contradict_each_other_are_refused_by_name(
    night: Path, arrayred: Call, card: str, finding: str
) -> None:
    second_card(night / "light-002.fit", card)
    told = arrayred(*REDUCE)
    assert told.code == 4
    assert_each_is_named(told.err, {"light-002.fit": finding})
    assert not Path("out").exists()


def test_cards_that_say_the_same_twice_hurt_nobody(
    night: Path, arrayred: Call, plain_tables: list[bytes]
) -> None:
    cards = ["EXPTIME =                  600", "EXPTIME = '600.0'", "IMAGETYP= 'LIGHT'"]
    for path, card in zip(lights(night), cards, strict=True):
        second_card(path, card)
    told = arrayred(*REDUCE)
    assert (told.code, combined_counts()) == (0, {"master_dark_600s.fits": 5, COMBINED.name: 3})
    assert tables() == plain_tables


ODD_BYTES = "b\xe9ta a\x1b[31mred nul\0inside"


def test_bytes_that_no_header_may_hold_are_told_and_escaped(
    night: Path, arrayred: Call, plain_tables: list[bytes]
) -> None:
    for path in night.iterdir():
        second_card(path, "OBSERVER= 'x'")
        raw = path.read_bytes()
        card = f"OBSERVER= '{ODD_BYTES}'".ljust(80).encode("latin-1")
        path.write_bytes(raw.replace(b"OBSERVER= 'x'".ljust(80), card))
    told = arrayred(*LOUD)
    assert (told.code, tables()) == (0, plain_tables)
    (line,) = warned(told)
    assert "dark-001 to light-003 (8): characters not allowed by FITS in OBSERVER" in line
    assert "\x1b" not in told.out + told.err
    assert fits.getheader(Path("out") / COMBINED)["OBSERVER"].isascii()


def test_odd_bytes_in_a_card_that_is_needed_are_an_error_with_its_name(
    night: Path, arrayred: Call
) -> None:
    write_card("EXPTIME = 6\0\x1b0.0")(night / "light-002.fit")
    told = arrayred(*REDUCE)
    assert told.code == 4
    assert_each_is_named(told.err, {"light-002.fit": r"EXPTIME.*\\x00\\x1b"})


# 42: checksums


def with_datasum(path: Path) -> None:
    with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
        hdus[0].add_datasum()


def flip_a_bit(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"END".ljust(80)) // 2880 * 2880 + 2880 + 4321] ^= 4
    path.write_bytes(raw)


def test_a_flipped_bit_fails_its_target_by_name_and_no_other(
    night: Path, arrayred: Call, plain_tables: list[bytes]
) -> None:
    for path in [*lights(night), *night.glob("dark-*")]:
        with_datasum(path)
    shutil.copy(night / "light-001.fit", night / "other-009.fit")
    rewrite(night / "other-009.fit", lambda pixels: pixels + 1, OBJECT="other")
    with_datasum(night / "other-009.fit")
    flip_a_bit(night / "other-009.fit")
    told = arrayred(*REDUCE)
    assert told.code == 3
    assert_each_is_named(told.err, {"other-009.fit": r"checksum of the pixels is \d+, but DATASUM"})
    assert tables() == plain_tables
    assert not Path("out/targets/other").exists()


def test_a_flipped_bit_of_a_dark_fails_all_that_its_master_serves(
    night: Path, arrayred: Call
) -> None:
    with_datasum(night / "dark-003.fit")
    assert arrayred("reduce", night, "-o", "whole", *QUIET).code == 0
    flip_a_bit(night / "dark-003.fit")
    told = arrayred(*REDUCE)
    assert told.code == 4
    assert_each_is_named(told.err, {"dark-003.fit": "DATASUM"})
    assert whole("out") == {}


# 43 to 48: wrapped counts


def brighten(pixels: NDArray[Any]) -> NDArray[Any]:
    """Add a line of 38000 adu, and hot pixels around 32768 and at the top."""
    pixels = pixels.astype(np.uint16)
    pixels[80:91, 60:63] += 38000
    pixels[5, 7], pixels[6, 8], pixels[7, 9], pixels[8, 2] = 32708, 32768, 32828, 65535
    return pixels


@pytest.mark.parametrize("which", ["*.fit", "dark-*.fit", "light-*.fit"])
def test_wrapped_counts_give_the_tables_of_unsigned_ones(
    night: Path, arrayred: Call, which: str
) -> None:
    for path in night.iterdir():
        rewrite(path, brighten if "light" in path.name else np.asarray)
    assert arrayred("reduce", night, "-o", "unsigned", *QUIET).code == 0
    for path in night.glob(which):
        rewrite(path, as_wrapped)
    told = arrayred(*REDUCE)
    if which == "light-*.fit":
        assert told.code == 4
        assert told.err.count("--unsigned wrapped") == 1
        assert arrayred(*REDUCE, "--unsigned", "wrapped").code == 0
    assert tables() == tables("unsigned")
    image, header = fits.getdata(Path("out") / COMBINED, header=True)
    assert np.array_equal(image, fits.getdata(Path("unsigned") / COMBINED))
    assert header.get("ARUNSIGN", False) is (which != "dark-*.fit")


def test_the_plan_says_what_told_that_counts_wrapped(night: Path, arrayred: Call) -> None:
    for path in night.iterdir():
        rewrite(path, as_wrapped)
    told = arrayred("inspect", night, "--plan")
    assert re.search(
        r"8 frames +unsigned counts stored as signed; read as unsigned "
        r"\(dark-001\.fit: level 1\d{3}, noise [\d.]+\)$",
        told.out,
        re.MULTILINE,
    )
    told = arrayred("inspect", night, "--plan", "--unsigned", "wrapped")
    assert re.search(r"8 frames +unsigned counts .*read as unsigned \(from option\)", told.out)


def test_dark_subtracted_signed_lights_stay_signed_among_wrapped_darks(
    night: Path, arrayred: Call
) -> None:
    for path in night.iterdir():
        rewrite(path, as_wrapped if "dark" in path.name else less_dark(0))
    assert arrayred(*REDUCE).code == 0
    image = fits.getdata(Path("out") / COMBINED)
    assert image.min() > -1000
    assert np.array_equal(
        image, np.mean([fits.getdata(p) for p in lights(night)], axis=0).astype(np.float32)
    )


def test_an_ambiguous_frame_is_refused_by_name(night: Path, arrayred: Call) -> None:
    draw = np.random.default_rng(3)

    def spoil(pixels: NDArray[Any]) -> NDArray[Any]:
        pixels = as_wrapped(pixels).copy()
        pixels[draw.random(pixels.shape) < 0.4] = 500
        pixels[draw.random(pixels.shape) < 0.05] = -20000
        return pixels

    for path in night.iterdir():
        rewrite(path, spoil if path.name == "light-002.fit" else as_wrapped)
    told = arrayred(*REDUCE)
    assert told.code == 4
    assert_each_is_named(told.err, {"light-002.fit": "Negative pixels may be unsigned counts"})
    assert not Path("out").exists()


# 51, 53, 54: blocks, types, duplicates


def test_an_unmarked_block_of_the_lowest_value_is_warned_of(night: Path, arrayred: Call) -> None:
    def spoil(pixels: NDArray[Any]) -> NDArray[Any]:
        pixels = less_dark(0)(pixels)
        pixels[120:140, 20:50] = -32768
        return np.asarray(pixels)

    for path in lights(night):
        rewrite(path, spoil if path.name == "light-002.fit" else less_dark(0), CALSTAT="D")
    told = arrayred(*LOUD)
    assert told.code == 0
    assert [w for w in warned(told) if "light-002" in w and "are -32768, as if missing" in w]


def test_frames_of_all_types_give_one_result(
    night: Path, arrayred: Call, plain_tables: list[bytes]
) -> None:
    kinds = [np.int16, np.uint16, np.int32, np.float32, np.float64, np.uint32, np.int64, np.float32]
    for path, kind in zip(sorted(night.iterdir()), kinds, strict=True):
        rewrite(path, lambda pixels, kind=kind: pixels.astype(kind))  # type: ignore[misc]
    assert arrayred(*REDUCE).code == 0
    assert tables() == plain_tables


def test_differences_that_no_input_type_could_hold_are_exact(night: Path, arrayred: Call) -> None:
    def far(value: int) -> Change:
        def change(pixels: NDArray[Any]) -> NDArray[Any]:
            pixels = pixels.astype(np.int16)
            pixels[10, :] = value
            return pixels

        return change

    for path in night.iterdir():
        rewrite(path, far(-30000 if "dark" in path.name else 30000))
    assert arrayred(*REDUCE, "--unsigned", "as-declared").code == 0
    assert np.all(fits.getdata(Path("out") / COMBINED)[10] == 60000.0)


@pytest.mark.parametrize("frame", ["light-002.fit", "dark-003.fit"])
def test_a_copy_of_a_frame_is_used_once_and_said(
    night: Path, arrayred: Call, plain_tables: list[bytes], frame: str
) -> None:
    shutil.copy(night / frame, night / f"copy of {frame}")
    told = arrayred(*LOUD)
    assert (told.code, tables()) == (0, plain_tables)
    assert re.search(r"not used .*duplicate of", told.out)
    assert set(combined_counts().values()) == {3, 5}


# 36 and further: two targets that look like one


def test_two_stars_taken_for_one_are_warned_of(night: Path, arrayred: Call) -> None:
    rewrite(night / "light-003.fit", lambda pixels: np.roll(pixels[:, ::-1], -40, axis=0))
    told = arrayred(*LOUD)
    assert told.code == 0
    (line,) = warned(told)
    assert re.search(
        r"light-003 seems to show a different target from light-002: trace at row", line
    )
    assert "seems to show a different target" in str(
        fits.getheader(Path("out") / COMBINED)["COMMENT"]
    )


# Scale and row order of other programs' frames


def as_fractions(pixels: NDArray[Any]) -> NDArray[Any]:
    return (pixels / 65535).astype(np.float32)


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("dark-*", r"dark-001 to dark-005 \(5\)"),
        ("light-*", r"light-001, light-002, light-003"),
        ("*", r"dark-001 to light-003 \(8\)"),
    ],
)
def test_frames_of_0_to_1_are_read_as_counts_and_said(
    night: Path, arrayred: Call, plain_tables: list[bytes], pattern: str, named: str
) -> None:
    for path in night.glob(pattern):
        rewrite(path, as_fractions)
    told = arrayred(*LOUD)
    assert told.code == 0
    line = rf"arrayred: note: {named}: stored as fractions, 0 to 1; multiplied by 65535\n"
    assert re.fullmatch(line, told.err), told.err
    for found, expected in zip(tables(), plain_tables, strict=True):
        assert np.allclose(
            *(np.loadtxt(text.splitlines(), skiprows=1) for text in (found, expected)), atol=0.1
        )


def test_a_combination_of_fractions_and_counts_is_one_of_counts(
    night: Path, arrayred: Call
) -> None:
    rewrite(night / "dark-002.fit", as_fractions)
    expected = np.median([fits.getdata(p).astype(float) for p in sorted(night.glob("dark-0*"))], 0)
    assert expected.max() > 100
    told = arrayred("combine", *sorted(night.glob("dark-*")), "-o", "m.fits")
    assert told.err.startswith("arrayred: warning: dark-002: stored as fractions")
    others = [fits.getdata(p) for p in sorted(night.glob("dark-*")) if p.name != "dark-002.fit"]
    assert abs(np.median(fits.getdata("m.fits")) - np.median(others)) < 2


def test_a_float_dark_less_its_bias_is_no_fraction(night: Path, arrayred: Call) -> None:
    bias = int(np.median(fits.getdata(night / "dark-001.fit")))
    for path in night.iterdir():
        rewrite(path, lambda pixels: (pixels.astype(float) - bias).astype(np.float32), CALSTAT="B")
    assert arrayred(*LOUD).err == ""


def upside_down(pixels: NDArray[Any]) -> NDArray[Any]:
    return pixels[::-1]


def test_darks_in_the_other_row_order_are_turned_and_said(
    night: Path, arrayred: Call, plain_tables: list[bytes]
) -> None:
    for path in night.iterdir():
        is_dark = path.name.startswith("dark")
        order = "BOTTOM-UP" if is_dark else "TOP-DOWN"
        rewrite(path, upside_down if is_dark else np.asarray, ROWORDER=order)
    told = arrayred(*LOUD)
    assert told.err == (
        "arrayred: note: dark-001 to dark-005 (5): upside down (ROWORDER is BOTTOM-UP, elsewhere "
        "TOP-DOWN); flipped\n"
    )
    assert (told.code, tables()) == (0, plain_tables)
    cached = ("reduce", "night", "-o", "cached", "--no-figures", "--cache")
    for _ in range(2):  # makes the cache, and reads it
        assert arrayred(*cached, "--force", "--overwrite").err == told.err
        assert tables("cached") == plain_tables


def test_a_master_of_darks_that_were_turned_is_not_turned_again(
    night: Path, arrayred: Call
) -> None:
    for path in night.iterdir():
        is_dark = path.name.startswith("dark")
        order = "BOTTOM-UP" if is_dark else "TOP-DOWN"
        rewrite(path, upside_down if is_dark else np.asarray, ROWORDER=order)
    arrayred(*LOUD)
    (master,) = Path("out/masters").iterdir()
    for path in night.glob("dark*"):
        path.unlink()
    arrayred("reduce", "night", "-o", "again", "--no-figures", "--master-dark", master)
    assert tables("again") == tables()


def test_row_orders_of_which_some_are_unknown_are_to_be_checked(
    night: Path, arrayred: Call
) -> None:
    for path in night.glob("dark*"):
        rewrite(path, upside_down, ROWORDER="BOTTOM-UP")
    told = arrayred(*LOUD)
    assert "arrayred: check: Simulated_star: only some frames have ROWORDER" in told.err


def test_fractions_of_another_scale_are_refused(night: Path, arrayred: Call) -> None:
    for path in night.glob("dark*"):
        rewrite(path, lambda pixels: (pixels / 4095).clip(0, 1).astype(np.float32))
    told = arrayred(*LOUD)
    assert told.code == 4
    assert "stored as fractions, whose full scale may be another than 65535" in told.err


def test_rows_of_a_night_in_one_order_keep_their_numbers(
    night: Path, arrayred: Call, plain_tables: list[bytes]
) -> None:
    for path in night.iterdir():
        rewrite(path, np.asarray, ROWORDER="BOTTOM-UP")
    assert arrayred(*LOUD).err == ""
    assert tables() == plain_tables


@pytest.mark.parametrize("clock", ["TIME-OBS", "UT", "UTC"])
def test_the_time_of_a_day_is_taken_from_its_own_card(
    night: Path, arrayred: Call, clock: str
) -> None:
    for path in night.iterdir():
        day, _, time = fits.getval(path, "DATE-OBS").partition("T")
        rewrite(path, np.asarray, **{"DATE-OBS": day, clock: time})
    first = fits.getheader(night / "light-001.fit")
    assert arrayred(*LOUD).code == 0
    began = fits.getval(Path("out") / COMBINED, "DATE-OBS")
    assert began.startswith(f"{first['DATE-OBS']}T{first[clock]}")
