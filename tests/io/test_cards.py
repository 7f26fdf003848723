"""Cards, held against astropy: what we write it reads back equal, what it writes we read equal."""

from __future__ import annotations

import math
import re
import string

import pytest
from astropy.io import fits
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from arrayred.errors import HeaderError
from arrayred.io import BLOCK, CARD, Header, Value, parse_card

PRINTABLE = "".join(map(chr, range(32, 127)))
MISREAD_BY_ASTROPY = re.compile("'[ /]|& *$")
COMMENTARY = {"COMMENT", "HISTORY", "CONTINUE", "END"}
keywords = st.text(string.ascii_uppercase + string.digits + "_-", min_size=1, max_size=8).filter(
    lambda word: word not in COMMENTARY
)
texts = st.text(PRINTABLE, max_size=300) | st.text("'& /", max_size=150)
numbers = st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
values = texts | numbers | st.booleans() | st.none()


def card(text: str) -> Header:
    return Header.from_bytes(f"{text:80}{'END':80}".encode("latin-1"))


def by_astropy(header: Header) -> fits.Header:
    return fits.Header.fromstring(header.to_bytes())


def same(one: object, other: object) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one.rstrip() == other.rstrip()
    return type(one) is type(other) and one == other


@settings(deadline=None, max_examples=300)
@given(keywords, values, st.text(PRINTABLE, max_size=60))
@example("OBJECT", "O'" * 40, "")
@example("OBJECT", "x" * 66 + "''" + "y" * 80, "")
@example("OBJECT", "a" * 60 + " " * 30 + "b" * 60, "")
@example("EXPTIME", 1e-300, "comment " * 7)
def test_every_written_card_is_read_back_by_us_and_by_astropy(
    keyword: str, value: Value, comment: str
) -> None:
    header = Header()
    header.set(keyword, value, comment)
    assert same(header[keyword], value)
    assume(not MISREAD_BY_ASTROPY.search(str(value)))
    assert same(by_astropy(header)[keyword], value)


@settings(deadline=None, max_examples=100)
@given(st.text(PRINTABLE, max_size=300))
def test_a_text_that_ends_in_an_ampersand_keeps_it(text: str) -> None:
    header = Header()
    header.set("OBJECT", f"{text}&")
    header.set("NEXT", 1)
    assert header["OBJECT"] == f"{text}&"


@settings(deadline=None, max_examples=200)
@given(keywords, values, st.text(PRINTABLE, max_size=60))
def test_a_written_header_is_whole_blocks_of_whole_cards(
    keyword: str, value: Value, comment: str
) -> None:
    header = Header()
    header.set(keyword, value, comment)
    assert len(header.to_bytes()) % BLOCK == 0
    assert all(len(image) == CARD for image in header.images())
    assert Header.from_bytes(header.to_bytes()).images() == header.images()


@settings(deadline=None, max_examples=200)
@given(keywords, values, st.text(PRINTABLE, max_size=40))
def test_every_card_that_astropy_writes_is_read_back_by_us(
    keyword: str, value: Value, comment: str
) -> None:
    written = fits.Header([(keyword, value, comment if len(str(value)) < 20 else "")])
    raw = written.tostring().encode()
    is_rounded = isinstance(value, float)
    wanted = fits.Header.fromstring(raw)[keyword] if is_rounded else value
    assert same(Header.from_bytes(raw)[keyword], wanted)


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**15), st.text(string.ascii_letters + " .[]", max_size=40))
def test_comments_are_read_as_astropy_reads_them(number: int, comment: str) -> None:
    header = Header()
    header.set("EXPTIME", number, comment)
    assert parse_card(header.card("EXPTIME"))[1] == by_astropy(header).comments["EXPTIME"]


@pytest.mark.parametrize("value", [1, -1.5e-300, "x" * 30, "x" * 66, True, None])
@pytest.mark.parametrize("length", [0, 10, 47, 48, 70, 200])
def test_a_comment_stands_whole_or_not_at_all(value: Value, length: int) -> None:
    header = Header()
    header.set("EXPTIME", value, "c" * length)
    assert by_astropy(header).comments["EXPTIME"] in ("", "c" * length)
    assert same(by_astropy(header)["EXPTIME"], value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("EXPTIME =              1.5D+02 / Fortran", 150.0),
        ("EXPTIME =              1.5d-02", 0.015),
        ("EXPTIME =                1.e2", 100.0),
        ("EXPTIME =                 +.5", 0.5),
        ("EXPTIME =                -600", -600),
        ("EXPTIME =                 007", 7),
        ("EXPTIME = 600.0/no blanks", 600.0),
        ("EXPTIME =                     / nothing given", None),
        ("EXPTIME =", None),
        ("EXPTIME = ''", ""),
        ("EXPTIME = '   '", ""),
        ("EXPTIME = ' 600'", " 600"),
        ("OBJECT  = 'a / b'   / c", "a / b"),
        ("OBJECT  = 'a = b'", "a = b"),
        ("OBJECT  = 'Barnard''s star'/x", "Barnard's star"),
        ("OBJECT  = ''''", "'"),
        ("OBJECT  = 'x'                 /", "x"),
        ("FLIPPED =                    F / not T", False),
        ("exptime =                600.0", 600.0),
        ("EXP-TIME=                600.0", 600.0),
        ("HIERARCH ESO DET CHIP1 ID = 'a=b' / chip", "a=b"),
        ("HIERARCH ESO DET EXP = 12.5", 12.5),
    ],
)
def test_odd_but_legible_cards_are_read(text: str, value: Value) -> None:
    header = card(text)
    assert same(header[next(iter(header))], value)
    assert same(by_astropy(header)[0], value)


@pytest.mark.parametrize(
    "text",
    [
        "OBJECT  = HR 8047              / no quotes",
        "OBJECT  = 'HR 8047             / no end",
        "OBJECT  = 'HR' 8047",
        "EXPTIME = 6oo.0",
        "EXPTIME = 600,0",
        "EXPTIME = 1.2.3",
        "EXPTIME = NaN",
        "EXPTIME = 12:30:00",
        "OBJECT  = t",
    ],
)
def test_an_illegible_card_hurts_only_who_asks_for_it(text: str) -> None:
    header = Header.from_bytes(f"{text:80}{'FILTER  = 1':80}{'END':80}".encode())
    keyword = text[:8].rstrip()
    assert header["FILTER"] == 1
    assert header.card(keyword).rstrip() == text
    assert header.values() == {"FILTER": 1}
    with pytest.raises(HeaderError, match=keyword) as caught:
        header.get(keyword)
    assert caught.value.keyword == keyword


def test_a_missing_card_is_named() -> None:
    with pytest.raises(HeaderError, match="EXPTIME is missing") as caught:
        Header()["EXPTIME"]
    assert caught.value.keyword == "EXPTIME"
    assert Header().get("EXPTIME", 3) == 3


def test_bytes_outside_ascii_are_read_as_latin_1_and_never_written() -> None:
    header = card("OBSERVER= 'J\xf6rg \xb0C'")
    assert header["OBSERVER"] == "J\xf6rg \xb0C"
    assert by_astropy(header)["OBSERVER"] == "Jorg ?C"


@pytest.mark.parametrize("padding", [0, 79, 160, 2720])
def test_what_follows_end_is_no_header(padding: int) -> None:
    raw = f"{'EXPTIME = 1':80}{'END':80}{'':{padding}}{'FILTER  = 2':80}".encode()
    assert list(Header.from_bytes(raw)) == ["EXPTIME"]


def test_blank_cards_before_end_are_not_kept() -> None:
    raw = f"{'EXPTIME = 1':80}{'':80}{'FILTER  = 2':80}{'':160}{'END':80}".encode()
    assert list(Header.from_bytes(raw)) == ["EXPTIME", "", "FILTER"]


def test_the_first_of_two_cards_of_one_keyword_counts_as_in_astropy() -> None:
    header = Header(["EXPTIME = 1", "EXPTIME = 2"])
    assert header["EXPTIME"] == by_astropy(header)["EXPTIME"] == 1


@pytest.mark.parametrize(
    ("old", "new"), [("short", "y" * 200), ("x" * 200, "short"), ("x" * 200, 5), (1, "y" * 300)]
)
def test_set_replaces_a_card_where_it_stands(old: Value, new: Value) -> None:
    header = Header()
    for keyword, value in (("FIRST", "a" * 100), ("OBJECT", old), ("LAST", "b" * 100)):
        header.set(keyword, value)
    header.set("OBJECT", new)
    wanted = [("FIRST", "a" * 100), ("OBJECT", new), ("LAST", "b" * 100)]
    assert list(by_astropy(header).items()) == wanted
    assert list(header.values().items()) == wanted


def test_drop_takes_every_card_and_its_continuations_and_no_other() -> None:
    header = Header(["OBJECT  = 'again'"])
    for keyword in ("LONG", "OBJECT", "TEXT"):
        header.set(keyword, keyword * 40)
    header.note("HISTORY", "kept")
    header.drop(["OBJECT", "LONG", "ABSENT"])
    assert dict(by_astropy(header)) == {
        "TEXT": "TEXT" * 40,
        "HISTORY": by_astropy(header)["HISTORY"],
    }
    assert "LONG" not in header
    assert header["TEXT"] == "TEXT" * 40


def test_a_copy_is_independent() -> None:
    header = Header(["EXPTIME = 1"])
    other = header.copy()
    other.set("EXPTIME", 2)
    other.note("HISTORY", "changed")
    header.images().clear()
    assert header.images() == ["EXPTIME = 1".ljust(80)]


@settings(deadline=None, max_examples=100)
@given(st.text(PRINTABLE, min_size=1, max_size=300).map(str.rstrip))
def test_a_note_of_any_length_is_read_back(text: str) -> None:
    header = Header(["EXPTIME = 1"])
    header.note("HISTORY", "before")
    header.note("HISTORY", text)
    pieces = [text[i : i + 72].rstrip() for i in range(0, max(len(text), 1), 72)]
    assert header.lines("HISTORY") == ["before", *pieces]
    assert [line.rstrip() for line in by_astropy(header)["HISTORY"]] == ["before", *pieces]


def test_what_a_header_cannot_hold_is_marked_in_notes_and_comments() -> None:
    header = Header()
    header.note("HISTORY", "naïve\nline")
    header.set("EXPTIME", 1, "µs\t")
    assert header.lines("HISTORY") == ["naive?line"]
    assert by_astropy(header).comments["EXPTIME"] == "?s?"


def test_an_extension_inherits_what_it_does_not_say_itself() -> None:
    primary = Header(["SIMPLE  = T", "EXPTIME = 600.0", "FILTER  = 'R'", "HISTORY of the primary"])
    extension = Header(["XTENSION= 'IMAGE'", "FILTER  = 'V'"])
    whole = extension.inherit(primary)
    assert whole.values() == {"XTENSION": "IMAGE", "FILTER": "V", "SIMPLE": True, "EXPTIME": 600.0}
    assert list(extension) == ["XTENSION", "FILTER"]


@pytest.mark.parametrize("own", [{}, {"NOTE": "n" * 100}, {"OBJECT": "o" * 100}, {"OBJECT": "o&"}])
def test_inherited_texts_keep_their_continuations_and_no_other_gets_them(
    own: dict[str, str],
) -> None:
    primary = {"OBJECT": "p" * 200, "TARGET": "t" * 200}
    headers = [Header(), Header()]
    for header, pairs in zip(headers, (own, primary), strict=True):
        for keyword, text in pairs.items():
            header.set(keyword, text)
    extension, inherited = (Header.from_bytes(header.to_bytes()) for header in headers)
    assert extension.inherit(inherited).values() == primary | own


@pytest.mark.parametrize(
    "keyword", ["", "exptime", "TOO LONG", "NINELETTE", "A.B", "A B", "Ä", "X\n", "A="]
)
def test_a_keyword_that_no_header_can_hold_is_refused(keyword: str) -> None:
    header = Header()
    with pytest.raises(HeaderError, match="is not a valid FITS keyword"):
        header.set(keyword, 1)
    assert len(header) == 0


@pytest.mark.parametrize("keyword", ["COMMENT", "HISTORY", "CONTINUE", "END"])
def test_a_keyword_that_takes_no_value_is_refused(keyword: str) -> None:
    with pytest.raises(HeaderError, match=keyword):
        Header().set(keyword, "text")


@pytest.mark.parametrize(
    "value",
    [
        *(f"text{odd}" for odd in ("\n", "\t", "\0", "\x7f", "é", "\N{BLACK STAR}", "\n\n", "\r")),
        *("\nfirst", "mid\ndle", math.nan, math.inf, -math.inf, 10**90),
    ],
    ids=ascii,
)
def test_a_value_that_no_header_can_hold_is_refused(value: Value) -> None:
    header = Header(["OBJECT  = 'kept'"])
    with pytest.raises(HeaderError, match="FITS headers do not allow") as caught:
        header.set("OBJECT", value)
    assert caught.value.keyword == "OBJECT"
    assert header["OBJECT"] == "kept"
