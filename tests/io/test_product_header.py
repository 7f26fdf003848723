"""A product's header: what the frames agree on stays, what differs never stays as the first's."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from arrayred.config import Instrument
from arrayred.errors import ArrayredError, UsageError
from arrayred.io import (
    Frame,
    Header,
    Provenance,
    Value,
    checked_cards,
    examine,
    frames_at,
    image_bytes,
    missing_cards,
    product_header,
    read_frames,
    required_checksums,
)

Cards = Mapping[str, Any]
BASE: dict[str, Any] = {
    "DATE-OBS": "2020-11-03T23:50:00.000",
    "EXPTIME": 600.0,
    "IMAGETYP": "Light Frame",
    "OBJECT": "59 Cyg",
    "INSTRUME": "SBIG STT-1603",
}


def written(folder: Path, *headers: Cards, pixels: Any = None) -> list[Frame]:
    """Write a frame with each header (None: no such card), in this order, and read them back."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"light-{i}.fit" for i in range(1, len(headers) + 1)]
    data = np.zeros((2, 3), np.int16) if pixels is None else pixels
    for path, own in zip(paths, headers, strict=True):
        header = fits.Header()
        for keyword, value in {**BASE, **own}.items():
            if value is not None:
                header[keyword] = value
        fits.PrimaryHDU(data, header).writeto(path, checksum=True)
    return reread(paths)


def reread(paths: list[Path]) -> list[Frame]:
    frames, failures = read_frames(paths, Instrument.load("generic"))
    assert not failures
    return sorted(frames, key=lambda frame: frame.path)


def sums_of(frames: list[Frame]) -> dict[Path, str]:
    return required_checksums(examine(frames), frames)


def product(frames: list[Frame], **provenance: Any) -> fits.Header:
    """Return the header of what is made of frames, as astropy reads it from the file."""
    checksums = sums_of([*frames, *provenance.get("calibrations", ())])
    header = product_header(Provenance(frames, checksums=checksums, **provenance), "product.fits")
    read = fits.Header.fromstring(bytes(image_bytes(header, np.zeros((2, 3)), "float32")))
    for card in read.cards:
        card.verify("exception")
    return read


def history(header: fits.Header) -> str:
    return "".join(line.ljust(72) for line in header.get("HISTORY", ()))


LONG = "a text longer than one card can hold, that goes on and on and on, and ends in "
DIFFERING = [
    ("JD", (2459157.4, 2459157.5), None),
    ("AIRMASS", (1.1, 1.4), 1.25),
    ("CCD-TEMP", (-20.0, -19.5), -19.75),
    ("CCD-TEMP", (-20, -19), -19.5),
    ("AIRMASS", (1.1, None), None),
    ("AIRMASS", (None, 1.1), None),
    ("AIRMASS", ("1.1", "1.4"), None),
    ("FOCUSPOS", (100, 101), None),
    ("OBSERVER", ("One", "Two"), None),
    ("GUIDED", (True, False), None),
    ("EXTRA", ("only the first has it", None), None),
    ("LONGTEXT", (f"{LONG}one", f"{LONG}two"), None),
    ("HIERARCH ESO DET TEMP", (1.5, 1.6), None),
    ("EXPOSURE", (600.0, 600.1), None),
]


@pytest.mark.parametrize(("keyword", "values", "left"), DIFFERING)
def test_a_card_that_differs_never_stays_as_the_first_frames(
    tmp_path: Path, keyword: str, values: tuple[Value, Value], left: Value
) -> None:
    header = product(written(tmp_path, *({keyword: value} for value in values)))
    assert header.get(keyword.removeprefix("HIERARCH ")) == left
    gone = values[0] is not None and left is None
    assert (keyword in history(header)) == gone


@pytest.mark.parametrize("keyword", ["HISTORY", "COMMENT"])
def test_commentary_stays_if_all_frames_share_it_and_goes_if_not(
    tmp_path: Path, keyword: str
) -> None:
    alike = product(
        written(tmp_path / "alike", {keyword: "flat lamp on"}, {keyword: "flat lamp on"})
    )
    apart = product(written(tmp_path / "apart", {keyword: "flat lamp on"}, {keyword: "lamp off"}))
    assert "flat lamp on" in str(alike[keyword])
    assert "lamp on" not in str(apart.get(keyword, ""))
    assert keyword in history(apart).partition("differ")[2]


def test_a_blank_card_that_differs_goes(tmp_path: Path) -> None:
    header = product(written(tmp_path, {"": "first night"}, {"": "second night"}))
    assert "first night" not in header.tostring()


def test_cards_on_which_all_frames_agree_stay_to_the_byte(tmp_path: Path) -> None:
    own = {
        "OBSERVER": ("F. Rogers", "who was there"),
        "XPIXSZ": (9.0, "microns"),
        "NOTES": LONG * 2,
        "SITELAT": "39 53 30",
        "FLIPPED": True,
        "HIERARCH ESO DET ID": "CCD-1",
    }
    frames = written(tmp_path, own, own, own)
    raw, header = fits.getheader(frames[0].path), product(frames)
    for keyword in own:
        name = keyword.removeprefix("HIERARCH ")
        assert header.cards[name].image == raw.cards[name].image


@pytest.mark.parametrize(("one", "other"), [((9.0, "um"), (9.0, "micron")), ("Vega", "Vega ")])
def test_a_card_of_equal_value_stays_however_it_is_written(
    tmp_path: Path, one: object, other: object
) -> None:
    header = product(written(tmp_path, {"THING": one}, {"THING": other}))
    assert header["THING"] == (one[0] if isinstance(one, tuple) else one)


def test_what_history_calls_dropped_is_gone(tmp_path: Path) -> None:
    headers = [
        {"FILENAME": f"{i}.fit", "EXPTIME": 600.0 + i / 100, "JD": float(i), "DATE-END": f"{i}"}
        | {"CALSTAT": f"{i}", "BUNIT": f"{i}"}
        for i in range(2)
    ]
    header = product(written(tmp_path, *headers), calstat="BD")
    dropped = history(header).rpartition("differ: ")[2].strip().split(", ")
    assert "JD" in dropped
    assert [keyword for keyword in dropped if keyword in header] == []


SPANS = [
    [("2020-11-03T23:50:00.000", 600.0), ("2020-11-04T00:01:00.500", 600.0)],
    [("2020-12-31T23:59:59.999", 0.002), ("2021-01-01T00:00:00.000", 3600.0)],
    [("2024-02-28T22:00:00.123", 1800.0)] * 3,
    [("2019-10-05T00:10:00.000", 120.0), ("2019-10-05T00:00:00.000", 120.0)],
]


@pytest.mark.parametrize("spans", SPANS)
def test_times_are_those_of_the_whole_exposure(
    tmp_path: Path, spans: list[tuple[str, float]]
) -> None:
    header = product(written(tmp_path, *({"DATE-OBS": t, "EXPTIME": s} for t, s in spans)))
    starts = Time([t for t, _ in spans], scale="utc")
    seconds = np.array([s for _, s in spans])
    ends, middles = starts.mjd + seconds / 86400, starts.mjd + seconds / 2 / 86400
    assert header["TIMESYS"] == "UTC"
    assert header["DATE-OBS"] == min(t for t, _ in spans)
    assert Time(header["DATE-END"]).mjd == pytest.approx(ends.max(), abs=2e-8)
    assert Time(header["DATE-AVG"]).mjd == pytest.approx(middles.mean(), abs=2e-8)
    assert header["MJD-AVG"] == pytest.approx(middles.mean(), abs=1e-10)


def test_a_date_and_its_clock_on_two_cards_become_one(tmp_path: Path) -> None:
    clocks = [{"DATE-OBS": "2020-11-03", "TIME-OBS": f"0{i}:30:00"} for i in (1, 3)]
    header = product(written(tmp_path, *clocks))
    assert header["DATE-OBS"] == "2020-11-03T01:30:00.000"
    assert header["MJD-AVG"] == pytest.approx(Time("2020-11-03T02:35:00").mjd, abs=1e-10)
    assert "TIME-OBS" not in header


@pytest.mark.parametrize("date", ["2020-11-03", "03/11/20", ""])
def test_a_date_without_a_clock_is_given_none(tmp_path: Path, date: str) -> None:
    header = product(written(tmp_path, {"DATE-OBS": date}, {"DATE-OBS": date}))
    assert header["DATE-OBS"] == date
    assert not {"DATE-AVG", "DATE-END", "MJD-AVG"} & set(header)


def test_without_every_frames_time_the_first_frames_does_not_stay(tmp_path: Path) -> None:
    header = product(written(tmp_path, {}, {"DATE-OBS": None}))
    assert not {"DATE-OBS", "DATE-AVG", "MJD-AVG"} & set(header)


@pytest.mark.parametrize("exposures", [[600.0], [600.0] * 3, [600, 600], [600.0, 600.3], [0.1] * 7])
def test_exposure_is_the_mean_and_total_of_the_frames(
    tmp_path: Path, exposures: list[float]
) -> None:
    header = product(written(tmp_path, *({"EXPTIME": t} for t in exposures)))
    assert header["EXPTIME"] == pytest.approx(sum(exposures) / len(exposures))
    assert header["EXPTOTAL"] == pytest.approx(sum(exposures))
    assert header["NCOMBINE"] == len(exposures)


@pytest.mark.parametrize("n", [1, 3, 5])
@pytest.mark.parametrize("keyword", ["RDNOISE", "READNOIS"])
def test_an_average_states_its_effective_gain_and_noise(
    tmp_path: Path, n: int, keyword: str
) -> None:
    header = product(written(tmp_path, *([{"EGAIN": 1.5, keyword: 12.0}] * n)))
    assert header["GAINEFF"] == pytest.approx(1.5 * n)
    assert header["RDNEFF"] == pytest.approx(12.0 / n**0.5)


@pytest.mark.parametrize(
    ("headers", "method"),
    [
        ([{"EGAIN": 1.5, "RDNOISE": 12.0}] * 3, "median"),
        ([{"EGAIN": 1.5, "RDNOISE": 9.0}, {"EGAIN": 1.6, "RDNOISE": 8.0}], "average"),
        ([{"EGAIN": "1.5", "RDNOISE": ""}] * 2, "average"),
        ([{"EGAIN": 0.0, "RDNOISE": -1.0}] * 2, "average"),
        ([{}, {}], "average"),
    ],
)
def test_noise_that_is_not_known_is_not_stated(
    tmp_path: Path, headers: list[Cards], method: str
) -> None:
    header = product(written(tmp_path, *headers), method=method)
    assert not {"GAINEFF", "RDNEFF"} & set(header)


def test_the_raw_files_own_layout_and_display_are_gone(tmp_path: Path) -> None:
    own = {"PEDESTAL": -100, "CBLACK": 900, "CWHITE": 2000, "CSTRETCH": "High", "DATAMAX": 65535}
    frames = written(tmp_path, own, own, pixels=np.full((2, 3), 40000, np.uint16))
    raw, header = fits.getheader(frames[0].path), product(frames)
    assert {"BZERO", "BSCALE", "CHECKSUM"} < set(raw)
    assert not {*own, "BZERO", "BSCALE", "BLANK", "EXTEND"} & set(header)
    assert header["CHECKSUM"] != raw["CHECKSUM"]
    assert list(header).count("CHECKSUM") == list(header).count("DATASUM") == 1


def test_blank_of_integer_frames_is_gone(tmp_path: Path) -> None:
    header = product(written(tmp_path, *[{"BLANK": -32768}] * 2))
    assert "BLANK" not in header


@pytest.mark.parametrize("private", [{"SWSERIAL": "ABC-123"}, {"SWOWNER": "J. Doe"}])
def test_licence_and_owner_are_gone_and_one_line_says_so(tmp_path: Path, private: Cards) -> None:
    header = product(written(tmp_path, private, private))
    (value,) = private.values()
    assert value not in header.tostring()
    assert not set(private) & set(header)
    assert sum("license" in line for line in header["HISTORY"]) == 1


def test_no_line_tells_of_a_licence_that_was_not_there(tmp_path: Path) -> None:
    assert "licence" not in history(product(written(tmp_path, {}, {})))


def test_a_replaced_instrument_stays_as_the_detector(tmp_path: Path) -> None:
    header = product(written(tmp_path, {}, {}), cards={"INSTRUME": "10-C Spectrograph"})
    assert header["INSTRUME"] == "10-C Spectrograph"
    assert header["DETECTOR"] == "SBIG STT-1603"
    assert "INSTRUME was 'SBIG STT-1603'" in history(header)


def test_a_detector_that_is_named_already_keeps_its_name(tmp_path: Path) -> None:
    frames = written(tmp_path, *[{"DETECTOR": "KAF-1603"}] * 2)
    assert product(frames, cards={"INSTRUME": "10-C"})["DETECTOR"] == "KAF-1603"


def test_a_card_given_as_it_was_leaves_no_trace_in_history(tmp_path: Path) -> None:
    header = product(written(tmp_path, {}, {}), cards={"OBJECT": "59 Cyg", "GRATING": "1200"})
    assert (header["OBJECT"], header["GRATING"]) == ("59 Cyg", "1200")
    assert "was" not in history(header)


def test_a_product_says_what_it_is(tmp_path: Path) -> None:
    own = {"FILENAME": "raw.fit", "BUNIT": "ADU", "CALSTAT": ""}
    header = product(
        written(tmp_path, own, own),
        calstat="BD",
        facts=[("SPFIRST", 484, "first row")],
        steps=["dark subtracted", "average of 2 frames " + "and more " * 20],
        remarks=["the sky was taken below"],
    )
    told = {k: header[k] for k in ("FILENAME", "CALSTAT", "BUNIT", "SPFIRST", "COMBINED")}
    assert list(told.values()) == ["product.fits", "BD", "adu", 484, True]
    assert "arrayred: dark subtracted" in list(header["HISTORY"])
    assert ("and more " * 20).strip() in history(header)
    assert list(header["COMMENT"]) == ["arrayred: the sky was taken below"]
    assert header["ARVERSN"]


def test_every_input_is_named_with_its_sha256(tmp_path: Path) -> None:
    lights = written(tmp_path / "lights", {}, {})
    darks = written(
        tmp_path / "darks", *[{"IMAGETYP": "Dark Frame", "OBSERVER": str(i)} for i in (1, 2, 3)]
    )
    header = product(lights, calibrations=darks)
    for i, frame in enumerate([*lights, *darks], 1):
        assert header[f"ARIN{i:04}"] == frame.path.name
        assert header[f"ARSH{i:04}"] == hashlib.sha256(frame.path.read_bytes()).hexdigest()
    assert "ARIN0006" not in header


def test_unwrapped_counts_are_recorded(tmp_path: Path) -> None:
    pixels = np.full((40, 50), 1000, np.uint16) + np.arange(50, dtype=np.uint16) % 7
    pixels[3, 4] = 65535
    dark = {"IMAGETYP": "Dark Frame"}
    written(tmp_path, dark, dark, {}, pixels=pixels.view(np.int16))
    frames = frames_at(tmp_path, "generic", "auto")
    assert product(frames)["ARUNSIGN"] is True
    assert "ARUNSIGN" not in product(frames_at(tmp_path, "generic", "as-declared"))


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=200).filter(
        lambda text: not text.endswith("&") and not re.search(r"'\s*/", text)  # astropy misreads
    )
)
@settings(deadline=None, max_examples=100)
def test_any_printable_name_comes_back_from_the_header(text: str) -> None:
    header = Header()
    header.set("OBJECT", text, "what it shows")
    header.set("AFTER", 1)
    read = fits.Header.fromstring(header.to_bytes())
    assert read["OBJECT"] == text.rstrip()
    assert read["AFTER"] == 1


def test_a_long_given_name_comes_back_and_replaces_a_long_old_one(tmp_path: Path) -> None:
    frames = written(tmp_path, *[{"OBJECT": LONG * 3}] * 2)
    header = product(frames, cards={"OBJECT": "it's " * 40 + "end"})
    assert header["OBJECT"] == "it's " * 40 + "end"
    assert header["INSTRUME"] == BASE["INSTRUME"]


@pytest.mark.parametrize(
    ("given_angle", "angle"),
    [
        ("26.0 degrees", 26.0),
        ("26.0", 26.0),
        (" -3.5 Deg ", -3.5),
        ("1e1deg", 10.0),
        (26, 26),
        (26.5, 26.5),
        ("", ""),
    ],
)
def test_the_gratings_angle_becomes_a_number(
    tmp_path: Path, given_angle: Value, angle: Value
) -> None:
    cards = checked_cards({"GRATANG": given_angle})
    header = product(written(tmp_path, {}, {}), cards=cards)
    assert header["GRATANG"] == angle
    assert type(header["GRATANG"]) is type(angle)


@pytest.mark.parametrize(
    ("keyword", "value", "error"),
    [
        ("GRATANG", "steep", UsageError),
        ("GRATANG", "nan", UsageError),
        ("GRATANG", "26,0", UsageError),
        ("OBJECT", "Mitä", UsageError),
        ("OBJECT", "a\nEND", UsageError),
        ("OBJECT", "a\n", UsageError),
        ("TOO-LONG-A", 1, UsageError),
        ("with sp", 1, UsageError),
        ("", 1, UsageError),
        ("X", float("nan"), UsageError),
        ("NAXIS1", 5, UsageError),
        ("BZERO", 0, UsageError),
        ("CHECKSUM", "0", UsageError),
        ("END", 1, ArrayredError),
        ("HISTORY", "x", UsageError),
        ("COMMENT", "x", UsageError),
        ("CONTINUE", "x", UsageError),
    ],
)
def test_a_card_that_cannot_be_given_is_refused(
    keyword: str, value: Value, error: type[ArrayredError]
) -> None:
    with pytest.raises(error) as caught:
        checked_cards({keyword: value})
    assert caught.value.keyword == keyword


@pytest.mark.parametrize(
    ("headers", "given_cards", "missing"),
    [
        ([{}, {}], {}, {"GRATING": None, "GRATANG": None}),
        ([{"GRATING": "1200"}, {"GRATING": ""}], {"GRATANG": 26.0}, {"GRATING": "1200"}),
        ([{"GRATING": "1200", "GRATANG": 0.0}] * 2, {}, {}),
        ([{"OBJECT": None}, {}], {"GRATING": "1"}, {"OBJECT": "59 Cyg", "GRATANG": None}),
        ([{"OBJECT": "   "}] * 2, {"GRATING": "1", "GRATANG": ""}, {"OBJECT": None}),
    ],
)
def test_a_required_card_is_missing_unless_given_or_filled_in_every_frame(
    tmp_path: Path, headers: list[Cards], given_cards: Cards, missing: Cards
) -> None:
    frames = written(tmp_path, *headers)
    assert missing_cards(frames, ["OBJECT", "GRATING", "GRATANG"], given_cards) == missing


@pytest.mark.parametrize(
    ("card", "damaged"),
    [
        (b"AIRMASS =                  1.1", b"AIRMASS =                1.1.1"),
        (b"EGAIN   =                  1.5", b"EGAIN   =                1_5 e"),
        (b"INSTRUME= 'SBIG STT-1603'", b"INSTRUME= SBIG STT-1603  "),
        (b"OBSERVER= 'One     '", b"OBSERVER= 'One      "),
    ],
)
def test_a_card_that_cannot_be_read_stops_no_product(
    tmp_path: Path, card: bytes, damaged: bytes
) -> None:
    headers = [{"AIRMASS": 1.1, "EGAIN": 1.5, "OBSERVER": name} for name in ("One", "Two")]
    path = written(tmp_path, *headers)[0].path
    assert card in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(card, damaged))
    header = product(reread(sorted(tmp_path.iterdir())), cards={"INSTRUME": "10-C"})
    assert header["INSTRUME"] == "10-C"


@pytest.mark.parametrize("odd", [b"\xe9", b"\x1b", b"\0", b"\n"])
def test_bytes_that_no_header_may_hold_do_not_reach_a_product(tmp_path: Path, odd: bytes) -> None:
    own = {"OBSERVER": "Ren#"}
    paths = [frame.path for frame in written(tmp_path, own, own)]
    for path in paths:
        path.write_bytes(path.read_bytes().replace(b"Ren#", b"Ren" + odd))
    frames = reread(paths)
    header = product_header(Provenance(frames, checksums=sums_of(frames)), "product.fits")
    assert all(32 <= byte <= 126 for byte in header.to_bytes())
