"""One header card: 80 characters of text, and the value they mean.

FITS Standard 4.0, sections 4.1 and 4.2, with long texts on CONTINUE cards. The tests hold every
card read and written against astropy.
"""

from __future__ import annotations

import math
import re

from arrayred.errors import HeaderError

CARD = 80
Value = str | bool | int | float | None

_VALUELESS = ("COMMENT", "HISTORY", "CONTINUE", "END")
_STRING = re.compile(r"'((?:[^']|'')*)'\s*(?:/(.*))?$")
_PLAIN = re.compile(r"([^/]*?)\s*(?:/(.*))?$")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([EDed][+-]?\d+)?$")
_PRINTABLE = re.compile(r"[ -~]*\Z")


def keyword_of(card: str) -> str:
    """Return the keyword of a card image; HIERARCH keywords whole.

    Examples
    --------
    >>> keyword_of("HIERARCH ESO DET ID = 'x'")
    'HIERARCH ESO DET ID'
    """
    if card.startswith("HIERARCH ") and "=" in card:
        return card.partition("=")[0].rstrip()
    return card[:8].rstrip()


def parse(card: str) -> tuple[Value, str]:
    """Return value and comment of a card image.

    Raises
    ------
    HeaderError
        The value is of no FITS type.

    Examples
    --------
    >>> parse("EXPTIME =                600.0 / seconds")
    (600.0, 'seconds')
    >>> parse("OBJECT  = 'Barnard''s star'")
    ("Barnard's star", '')
    """
    keyword = keyword_of(card)
    text = card.partition("=")[2].strip(" \0")
    if text.startswith("'"):
        if match := _STRING.match(text):
            return match[1].replace("''", "'").rstrip(), (match[2] or "").strip()
    elif match := _PLAIN.match(text):
        comment = (match[2] or "").strip()
        if match[1] == "":
            return None, comment
        if match[1] in ("T", "F"):
            return match[1] == "T", comment
        if number := _NUMBER.match(match[1]):
            whole = number[2] is None and "." not in number[1]
            return (int(match[1]) if whole else float(re.sub("[Dd]", "E", match[1]))), comment
    raise HeaderError(
        f"The card {card.rstrip()!r} cannot be understood",
        keyword=keyword,
        value=text,
        hint=f"Mend {keyword} in the header.",
    )


def card_images(keyword: str, value: Value, comment: str = "") -> list[str]:
    """Return the card image(s) of 80 characters for a value; long strings continue.

    Raises
    ------
    HeaderError
        The keyword or the value cannot stand in a FITS header.

    Examples
    --------
    >>> card_images("NCOMBINE", 3)[0].rstrip()
    'NCOMBINE=                    3'
    """
    if not re.fullmatch(r"[A-Z0-9_-]{1,8}", keyword):
        raise HeaderError(
            f"{keyword!r} is no FITS keyword", keyword=keyword, hint="Take up to 8 of A-Z 0-9 _ -."
        )
    if keyword in _VALUELESS:
        raise HeaderError(f"{keyword} takes no value", keyword=keyword, value=value)
    if isinstance(value, str):
        return _string_cards(keyword, value, comment)
    return [_with_comment(f"{keyword:8}= {_plain_text(keyword, value):>20}", comment)]


def _with_comment(card: str, comment: str) -> str:
    """Return a card image with as much of the comment as has meaning: all of it or none."""
    whole = f"{card} / {ascii_of(comment)}"
    return (whole if comment and len(whole) <= CARD else card).ljust(CARD)


def require_card_text(keyword: str, text: str) -> None:
    """Raise HeaderError unless text can stand in a card: printable ASCII only."""
    if not _PRINTABLE.match(text):
        odd = next(c for c in text if not " " <= c <= "~")
        raise HeaderError(
            f"{keyword} = {text!r} holds {odd!r}, which no FITS header can",
            keyword=keyword,
            value=text,
            hint="Take printable ASCII characters.",
        )


def _plain_text(keyword: str, value: bool | float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, int) and len(str(value)) <= CARD - 10:
        return str(value)
    if isinstance(value, int) or not math.isfinite(value):
        raise HeaderError(
            f"{keyword} is {value}, which no FITS header can hold", keyword=keyword, value=value
        )
    return repr(float(value)).upper()


def _string_cards(keyword: str, value: str, comment: str) -> list[str]:
    require_card_text(keyword, value)
    quoted = value.replace("'", "''")
    if len(quoted) <= 68:
        return [_with_comment(f"{keyword:8}= " + f"'{quoted:8}'".ljust(20), comment)]
    pieces = _pieces(quoted, 67)
    first = f"{keyword:8}= '{pieces[0]}&'"
    rest = [f"CONTINUE  '{piece}&'" for piece in pieces[1:-1]] + [f"CONTINUE  '{pieces[-1]}'"]
    return [card.ljust(CARD) for card in [first, *rest]]


def _pieces(quoted: str, size: int) -> list[str]:
    """Cut a quoted text into pieces without parting a doubled quote."""
    pieces, start = [], 0
    while start < len(quoted):
        stop = start + size
        run = len(quoted[start:stop]) - len(quoted[start:stop].rstrip("'"))
        stop -= run % 2 if stop < len(quoted) else 0
        pieces.append(quoted[start:stop])
        start = stop
    return pieces


def ascii_of(text: str) -> str:
    """Return text with what a header cannot hold replaced by question marks."""
    if _PRINTABLE.match(text):
        return text
    return "".join(c if " " <= c <= "~" else "?" for c in text)
