"""SVG texts of matplotlib made small, and harmless for the page they stand in: `compacted`.

A page of a night shows a dozen figures, and matplotlib spends 173 kB on a spectrum of 1536 columns
with its noise, 640 kB on a frame. Here a line keeps, in each 0.75 points along it, its lowest and
its highest place; places are told from one to the next, to a tenth of a point; marks of one kind
are one path; greys are 32 and pictures have palettes: 40 kB and 140 kB. What remains is free of
styles, which in a page would count for all of it, and of names but those that are referred to,
made unlike those of other figures by a checksum.
"""

from __future__ import annotations

import base64
import io
import re
import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple
from xml.etree.ElementTree import Element, fromstring
from xml.sax.saxutils import escape as escape_text
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import printable
from arrayred.plots.portable import encode_png
from arrayred.plots.thin import thinned

_XLINK = "{http://www.w3.org/1999/xlink}href"
_FONTS = "font-family=\"'DejaVu Sans',Verdana,Arial,sans-serif\""
_STEP = 0.75
"""Points: how finely a line is resolved along its way."""
_MANY = 60
"""Places: lines of fewer are told to a hundredth of a point, and all of them."""
_GREYS, _VEILS = 32, 8
"""How many greys, and how many degrees of what shines through: 256 together."""
_NUMBER = re.compile(r"-?\d+\.\d+")
_STROKE = re.compile(r"\s*M(\s+[-.\d]+){2}\s+L(\s+[-.\d]+){2}\s*")
_ROUNDED = ("x", "y", "width", "height", "transform", "viewBox")
_DROPPED = ("metadata", "style", "title", "desc")


def compacted(text: str, label: str = "") -> str:
    """Return an SVG text of matplotlib as a smaller one that looks alike.

    Parameters
    ----------
    text : as matplotlib writes it with ``svg.fonttype: none``.
    label : for those who cannot see it.

    Examples
    --------
    >>> start = '<svg xmlns="http://www.w3.org/2000/svg" width="9pt" height="9pt">'
    >>> text = compacted(start + '<g id="axes_1"><path d="M 0 0 L 4.0 5.125 z"/></g></svg>')
    >>> text[text.index("<path") :]
    '<path d="M0 0l4 5.12z"/></svg>'
    """
    root = fromstring(text[text.index("<svg") :])
    names = _names_of(root, f"f{zlib.crc32(text.encode()):08x}")
    shapes = {f"#{node.get('id')}": node.get("d", "") for node in root.iter() if node.get("id")}
    known = _Known(names, shapes)
    size = " ".join(f'{name}="{root.get(name, "")}"' for name in ("width", "height", "viewBox"))
    told = f" aria-label={quoteattr(printable(label))}" if label else ""
    head = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{size} role="img"{told} stroke-linejoin="round" {_FONTS}>'
    )
    return head + "".join(part for child in root for part in _written(child, known)) + "</svg>"


class _Known(NamedTuple):
    """New names by old ones, and the paths that have one."""

    names: dict[str, str]
    shapes: dict[str, str]


def _names_of(root: Element, prefix: str) -> dict[str, str]:
    """Return a new name for each that something refers to."""
    used: dict[str, str] = {}
    for node in root.iter():
        told = node.get(_XLINK, "") + " " + node.get("clip-path", "")
        for name in re.findall(r"#([\w.-]+)", told if not told.startswith("data:") else ""):
            used.setdefault(name, f"{prefix}-{len(used)}")
    return used


def _written(node: Element, known: _Known) -> Iterator[str]:
    """Yield an element and what it holds, groups that say nothing left away."""
    tag = node.tag.rpartition("}")[2]
    if tag in _DROPPED:
        return
    attributes = dict(_attributes(node, known))
    inner = "".join(_children(node, known))
    if tag == "g" and not attributes:
        yield inner
        return
    if tag in ("g", "defs") and not inner:
        return
    told = "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items())
    yield f"<{tag}{told}>{inner}</{tag}>" if inner else f"<{tag}{told}/>"


def _children(node: Element, known: _Known) -> Iterator[str]:
    """Yield what an element holds, marks of one kind and look together."""
    is_text = node.tag.endswith(("text", "tspan"))
    if is_text and node.text:
        yield escape_text(node.text)
    marks: list[Element] = []
    for child in [*node, None]:
        if child is not None and child.tag.endswith("use") and _is_alike(child, marks):
            marks.append(child)
            continue
        yield from _marked(marks, known)
        marks = []
        if child is not None and child.tag.endswith("use"):
            marks = [child]
        elif child is not None:
            yield from _written(child, known)
        if is_text and child is not None and child.tail:
            yield escape_text(child.tail)


def _is_alike(mark: Element, marks: list[Element]) -> bool:
    return not marks or all(mark.get(key) == marks[0].get(key) for key in (_XLINK, "style"))


def _marked(marks: list[Element], known: _Known) -> Iterator[str]:
    """Yield marks that share form and look, each place once."""
    if len(marks) < 3:
        for mark in marks:
            yield from _written(mark, known)
        return
    style = _style(marks[0].get("style", ""))
    old = marks[0].get(_XLINK, "")
    places = np.array([[float(mark.get(name, 0)) for name in ("x", "y")] for mark in marks])
    places = np.unique(places.round(1), axis=0)
    if _STROKE.fullmatch(shape := known.shapes[old]):
        moves = np.array(shape.replace("M", "").replace("L", "").split(), np.float64)
        moved = (np.append(places + moves[:2], places + moves[2:], axis=1)).tolist()
        yield f'<path d="{"".join(map(_stroke, moved))}" style={quoteattr(style)}/>'
        return
    link = f'<use xlink:href="#{known.names[old[1:]]}"'
    told = "".join(f'{link} x="{_short(x, 1)}" y="{_short(y, 1)}"/>' for x, y in places.tolist())
    yield f"<g style={quoteattr(style)}>{told}</g>"


def _stroke(ends: list[float]) -> str:
    """Return a straight stroke from one place to another."""
    x, y, to_x, to_y = (round(10 * end) for end in ends)
    return f"M{_joined([x, y], 1)}l{_joined([to_x - x, to_y - y], 1)}"


def _attributes(node: Element, known: _Known) -> Iterator[tuple[str, str]]:
    """Yield the attributes that count, numbers shortened."""
    for name, value in node.attrib.items():
        if name == "id":
            if value in known.names:
                yield name, known.names[value]
        elif name == _XLINK:
            yield "xlink:href", _link(value, known)
        elif name == "clip-path":
            yield name, f"url(#{known.names[value[5:-1]]})"
        elif name == "d":
            yield name, _path(value)
        elif name == "style":
            yield name, _style(value)
        elif name == "transform" and value.startswith("rotate(-0 "):
            continue
        else:
            yield name, _rounded(value) if name in _ROUNDED else value


def _link(value: str, known: _Known) -> str:
    if value.startswith("#"):
        return f"#{known.names[value[1:]]}"
    kind, _, content = value.partition(",")
    return f"{kind},{base64.b64encode(_picture(base64.b64decode(content))).decode()}"


def _style(text: str) -> str:
    """Return a style without spaces and without the fonts, which are those of the whole.

    Examples
    --------
    >>> _style("font-size: 9px; font-family: 'DejaVu Sans', sans-serif; text-anchor: middle")
    'font-size:9px;text-anchor:middle'
    """
    parts = [part.strip().replace(": ", ":") for part in text.split(";")]
    return ";".join(part for part in parts if part and not part.startswith("font-family"))


def _rounded(text: str) -> str:
    """Return text with its numbers to a hundredth.

    Examples
    --------
    >>> _rounded("translate(12.345678 -0.001)")
    'translate(12.35 0)'
    """
    return _NUMBER.sub(lambda found: _short(float(found[0]), 2), text)


def _short(number: float, digits: int) -> str:
    """Return a number as short as it can be told.

    Examples
    --------
    >>> _short(-0.25, 2), _short(3.0, 1), _short(-0.04, 1)
    ('-.25', '3', '0')
    """
    text = f"{number:.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    sign, digits_of = ("-", text[1:]) if text.startswith("-") else ("", text)
    if digits_of.startswith("0."):
        digits_of = digits_of[1:]
    return "0" if digits_of in ("0", "") else sign + digits_of


def _path(text: str) -> str:
    """Return a path of straight lines, thinned and told from place to place; others rounded."""
    if "C" in text or "Q" in text:
        return " ".join(_rounded(text).split())
    return "".join(_line(part) for part in text.split("M") if part.strip())


def _line(text: str) -> str:
    """Return one line of a path."""
    end = "z" if "z" in text else ""
    places = np.array(text.replace("L", " ").replace("z", " ").split(), np.float64).reshape(-1, 2)
    is_long = len(places) > _MANY
    if is_long:
        places = places[thinned(places[:, 0], places[:, 1], _STEP)]
    digits = 1 if is_long else 2
    whole = np.round(places * 10**digits).astype(np.int64)
    steps = np.diff(whole, axis=0)
    first = f"M{_joined(whole[0].tolist(), digits)}"
    return first + (f"l{_joined(steps.reshape(-1).tolist(), digits)}" if steps.size else "") + end


def _joined(numbers: list[int], digits: int) -> str:
    """Return numbers, given in units of their last digit, with no more space than it needs.

    Examples
    --------
    >>> _joined([15, -20, 3, 4], 1)
    '1.5-2 .3.4'
    """
    told = {number: _short(number / 10**digits, digits) for number in set(numbers)}
    parts = [told[number] for number in numbers]
    joined = parts[:1]
    for before, part in pairwise(parts):
        is_apart = part[0] == "-" or (part[0] == "." and "." in before)
        joined.append(part if is_apart else f" {part}")
    return "".join(joined)


def _picture(content: bytes) -> bytes:
    """Return a PNG with fewer greys and a palette; one of many colours as it is."""
    from matplotlib.image import imread

    pixels = np.round(np.asarray(imread(io.BytesIO(content)), np.float64) * 255).astype(np.uint8)
    if pixels.ndim != 3 or pixels.shape[2] != 4:
        return content
    grey, veil = pixels[..., 0], _coarse(_VEILS)[pixels[..., 3]]
    if (pixels[..., :3] == grey[..., np.newaxis]).all():
        pixels = np.repeat(_coarse(_GREYS)[grey][..., np.newaxis], 4, axis=2)
    packed = np.ascontiguousarray(np.append(pixels[..., :3], veil[..., np.newaxis], axis=2))
    palette, places = np.unique(packed.view(np.uint32)[..., 0], return_inverse=True)
    if palette.size > 256:
        return content
    table = palette.view(np.uint8).reshape(-1, 4)
    return encode_png(places.reshape(veil.shape).astype(np.uint8), table)


def _coarse(n: int) -> NDArray[np.uint8]:
    """Return what each value from 0 to 255 becomes where there are only so many."""
    steps = np.round(np.arange(256) * ((n - 1) / 255))
    return np.round(steps * (255 / (n - 1))).astype(np.uint8)
