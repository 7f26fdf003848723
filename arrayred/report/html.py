"""HTML as text: `tag` is the one place where texts of headers and files become markup.

A text is escaped unless it is `Markup`, which only this module makes. Names of elements and
attributes are ours; what an attribute may hold is narrowed further: a link leads into the page or
to a path below it, a picture is part of the page. So no name of a target, however it is spelt, can
become an element, an attribute, a script or a visit to another host.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from arrayred.errors import printable

_VOID = frozenset({"img", "input", "link", "meta"})
_NOTHING: Mapping[str, str] = MappingProxyType({})
_LINK = re.compile(r"(?!/)[\w./+%-]*(#[\w.+%-]+)?")
_PICTURE = "data:image/png;base64,"
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


Node = str | Iterable["Markup"]
"""What may stand in an element: a text, which is escaped, or pieces of markup."""


def tag(name: str, *children: Node, attributes: Mapping[str, str] = _NOTHING) -> Markup:
    """Return an element.

    Parameters
    ----------
    name : of the element, its classes behind dots.
    children : texts, which are escaped, and pieces of markup, which are not.
    attributes : by name; their values are escaped.

    Raises
    ------
    ValueError
        A link or a picture would lead out of the page and the folders below it: our own mistake.

    Examples
    --------
    >>> tag("p.note", "a < b", tag("b", "!"), attributes={"id": "x"})
    '<p class="note" id="x">a &lt; b<b>!</b></p>'
    """
    name, *classes = name.split(".")
    told = {"class": " ".join(classes)} if classes else {}
    told.update(attributes)
    if "href" in told and not _LINK.fullmatch(told["href"]):
        raise ValueError(f"{told['href']!r} leads out of the page")
    if not told.get("src", _PICTURE).startswith(_PICTURE):
        raise ValueError("a picture must be part of the page")
    head = "".join(f' {key}="{_escaped(value)}"' for key, value in told.items())
    if name in _VOID:
        return Markup(f"<{name}{head}>")
    return Markup(f"<{name}{head}>{joined(*children)}</{name}>")


def joined(*nodes: Node) -> Markup:
    """Return nodes one behind the other, texts escaped."""
    return Markup("".join(map(_text, nodes)))


def _text(node: Node) -> str:
    if isinstance(node, Markup):
        return node
    return _escaped(node) if isinstance(node, str) else joined(*node)


def _escaped(text: str) -> str:
    """Return a text that is nothing but text, whatever it was."""
    return escape(text if text.isprintable() else printable(text), quote=True)


def anchor(name: str) -> str:
    """Return a link to the element of an id in this page.

    Examples
    --------
    >>> anchor("target-59_Cyg")
    '#target-59_Cyg'
    """
    return f"#{quote(name, safe='', errors='replace')}"


def path_below(*names: str) -> str:
    """Return a link to a file in a folder below that of the page, given by the names of its parts.

    Examples
    --------
    >>> path_below("2020-11-03", "report.html")
    '2020-11-03/report.html'
    """
    return "/".join(quote(name, safe="+", errors="replace") for name in names)


def picture(png: bytes, told: str, name: str = "img") -> Markup:
    """Return a picture as part of the page.

    Parameters
    ----------
    png : its bytes.
    told : what it shows, for who does not see it.
    name : the element with its classes.
    """
    source = _PICTURE + base64.b64encode(png).decode("ascii")
    return tag(name, attributes={"src": source, "alt": told})


def page(title: str, body: Node, *, script: str = "") -> bytes:
    """Return a whole page, in UTF-8.

    Parameters
    ----------
    title : of the page.
    body : all of it.
    script : the file of this package with the only script that may run, or "".
    """
    style, code = read("style.css"), read(script) if script else ""
    allowed = f"; script-src '{_hash_of(code)}'" if code else ""
    head = tag(
        "head",
        tag("meta", attributes={"charset": "utf-8"}),
        tag("meta", attributes={"http-equiv": "Content-Security-Policy",
                                "content": f"{_POLICY}{allowed}"}),
        tag("meta", attributes={"name": "viewport",
                                "content": "width=device-width, initial-scale=1"}),
        tag("meta", attributes={"name": "color-scheme", "content": "light dark"}),
        tag("meta", attributes={"name": "referrer", "content": "no-referrer"}),
        tag("title", title),
        Markup(f"<style>\n{style}</style>"),
    )  # fmt: skip
    run = [Markup(f"<script>{code}</script>")] if code else []
    whole = tag("html", head, tag("body", body, run), attributes={"lang": "en"})
    return f"<!DOCTYPE html>\n{whole}\n".encode()


@cache
def read(name: str) -> str:
    """Return a file of this package: the style sheet, or the script of the index."""
    return Path(__file__).with_name(name).read_text("utf-8")


def _hash_of(code: str) -> str:
    digest = hashlib.sha256(code.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
