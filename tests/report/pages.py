"""Pages read as a browser reads them, by html5lib."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import Element

import html5lib

ELEMENTS = frozenset(
    """
    html head meta title style body header main section article nav footer h1 h2 h3 p ul
    ol li dl dt dd div span b i small strong a figure figcaption img svg path table
    caption thead tbody tr th td pre code details summary script input label output
    """.split()  # noqa: SIM905
)
ATTRIBUTES = frozenset(
    """
    class id href src alt lang style scope role aria-label tabindex d viewBox
    preserveAspectRatio charset http-equiv content name open hidden type autocomplete
    placeholder for data-sort
    """.split()  # noqa: SIM905
)


def read(page: Path | bytes) -> Element:
    """Return a page as a browser understands it."""
    content = page if isinstance(page, bytes) else page.read_bytes()
    parser = html5lib.HTMLParser(namespaceHTMLElements=False)
    tree: Element = parser.parse(content, transport_encoding="utf-8")
    assert not parser.errors, parser.errors
    return tree


def local(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def text_of(tree: Element) -> str:
    """Return what is to be read on a page, a blank between the pieces."""
    body = next(element for element in tree.iter() if local(element) == "body")
    return " ".join(" ".join(body.itertext()).split())


def all_of(tree: Element, name: str, kind: str = "") -> list[Element]:
    """Return the elements of a name, and of a class if one is given."""
    found = [element for element in tree.iter() if local(element) == name]
    return [e for e in found if not kind or kind in e.attrib.get("class", "").split()]


def links_of(tree: Element) -> list[str]:
    return [e.attrib["href"] for e in tree.iter() if "href" in e.attrib]


def require_harmless(tree: Element, *, script: bool = False) -> None:
    """Assert that a page has only elements and attributes of ours, and fetches nothing."""
    for element in tree.iter():
        assert local(element) in ELEMENTS, element.tag
        assert set(element.attrib) <= ATTRIBUTES, element.attrib
        assert element.attrib.get("src", "data:image/png;").startswith("data:image/png;")
        assert urlsplit(element.attrib.get("href", "")).netloc == ""
        assert urlsplit(element.attrib.get("href", "")).scheme == ""
    scripts = [element for element in tree.iter() if local(element) == "script"]
    assert len(scripts) == script
    style = next(element for element in tree.iter() if local(element) == "style")
    assert "url(" not in str(style.text)
    assert "@import" not in str(style.text)


def require_links_resolve(page: Path, tree: Element) -> None:
    """Assert that every link leads to a file that is there, and to an element of its page."""
    for link in links_of(tree):
        path, _, name = link.partition("#")
        target = page.parent / unquote(path) if path else page
        assert target.is_file(), link
        if name:
            ids = {element.attrib.get("id") for element in read(target).iter()}
            assert unquote(name) in ids, link


def policy_of(tree: Element) -> str:
    found = [e.attrib["content"] for e in tree.iter() if "http-equiv" in e.attrib]
    assert len(found) == 1
    return found[0]
