"""How a product came to be, as its own header tells it: `explain`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from arrayred.errors import ForeignFileError, UsageError, printable
from arrayred.io.card import parse
from arrayred.io.cards import Header
from arrayred.io.reopen import header_of_product
from arrayred.io.retold import METHOD_CARD, notes
from arrayred.io.table import FACTS, NOISE_FACTS

_WHAT = ("OBJECT", "IMAGETYP", "DATE-OBS", "DATE-END", "EXPTOTAL", "NCOMBINE", METHOD_CARD)
_WITH = ("CALSTAT", "ARBIAS", "ARDARK", "ARFLAT", "ARUNSIGN", "BUNIT", "ARVERSN")
_NUMBERS = [keyword for keyword, _ in (NOISE_FACTS | FACTS).values()]
_TELLERS = ("_spectrum.fits", "_combined.fits")


def explain(path: Path) -> str:
    """Return the story of a product: what it shows, its steps, numbers and inputs.

    Parameters
    ----------
    path : an image or a spectrum; a table or picture of a target is told by the FITS file beside
        it that has its name.

    Raises
    ------
    UsageError
        There is no such file.
    FrameError
        The file is no product of arrayred, or is damaged.
    """
    if not path.exists():
        raise UsageError("There is no such file", path=path, hint="Name a product of arrayred.")
    header = header_of_product(_teller(path))
    lines = [printable(str(path))]
    lines += _section("what it is", _told(header, _WHAT))
    lines += _section("what was done", notes(header, "HISTORY"))
    lines += _section("what to know", notes(header, "COMMENT"))
    lines += _section("with what", _told(header, _WITH))
    lines += _section("numbers", _told(header, _NUMBERS))
    lines += _section("inputs, with their sha256", list(_inputs(header)))
    return "\n".join(lines)


def _teller(path: Path) -> Path:
    """Return the FITS file that tells how a file came to be: itself, or one beside it."""
    if path.suffix == ".fits":
        return path
    for suffix in _TELLERS:
        for i in range(len(path.stem), 0, -1):
            beside = path.with_name(path.stem[:i] + suffix)
            if beside.is_file():
                return beside
    raise ForeignFileError(
        "Nothing tells how this file came to be: there is no product in FITS of its name beside it",
        path=path,
        hint="Name a FITS file that arrayred wrote.",
    )


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"{title}:", *(f"  {printable(line)}" for line in lines)] if lines else []


def _told(header: Header, keywords: tuple[str, ...] | list[str]) -> list[str]:
    """Return cards as text, those that are there and not blank."""
    lines = []
    for keyword in keywords:
        value = header.readable(keyword)
        if value is not None and str(value).strip():
            comment = parse(header.card(keyword))[1]
            lines.append(f"{keyword:8} {value}{f'  ({comment})' if comment else ''}")
    return lines


def _inputs(header: Header) -> Iterator[str]:
    for i in range(1, 10_000):
        name = header.readable(f"ARIN{i:04d}")
        if name is None:
            return
        yield f"{header.readable(f'ARSH{i:04d}') or 'unknown':64}  {name}"
