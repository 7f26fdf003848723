"""Write small images and figures: thumbnails, sparklines, the bytes of a PNG, compact SVG."""

from __future__ import annotations

import base64
import io
import re
import struct
import zlib
from collections.abc import Iterator
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple
from xml.etree.ElementTree import Element, fromstring
from xml.sax.saxutils import escape as escape_text
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from arrayred.errors import UsageError, printable
from arrayred.model import COUNTS, FLUX
from arrayred.plots.given import image_of, spectrum_of
from arrayred.plots.paper import painting
from arrayred.plots.style import USUAL, VERMILION, Counts, Stretch, reduced, stretch_of, thinned

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from arrayred.plots.given import Given


# `thumbnail` and `sparkline` are so small and fast that an index can show thousands of them. Both
# need numpy alone, since matplotlib takes 40 ms for the smallest figure.


def thumbnail(image2d: Given, *, width: int = 160, stretch: tuple[float, float] = USUAL) -> bytes:
    """Return an image as a small grey PNG, row 1 at the bottom.

    Parameters
    ----------
    image2d : counts (y, x).
    width : most columns, and most rows, of the PNG.
    stretch : the percentiles of the counts that are black and white.

    Raises
    ------
    UsageError
        It is not an image, or the width is less than 1.

    Examples
    --------
    >>> import arrayred as ar, xarray as xr
    >>> frame = next(ar.SimulatedNight().frames())
    >>> picture = ar.plots.thumbnail(xr.DataArray(frame.pixels, dims=("y", "x")))
    >>> picture[1:4], len(picture) < 20_000
    (b'PNG', True)
    """
    _require_size("width", width)
    pixels = image_of(image2d)[COUNTS].values
    small = reduced(pixels, width, width)
    return grey_png(small, stretch_of(small, stretch), (width, width))


def grey_png(counts: Counts, stretch: Stretch, most: tuple[int, int], n_greys: int = 256) -> bytes:
    """Return counts (y, x) as a grey PNG, row 1 at the bottom.

    Parameters
    ----------
    counts : of any size; averaged in blocks where they have more pixels than the PNG.
    stretch : scale of greys against counts.
    most : most rows and columns of the PNG.
    n_greys : number of grey levels. Noise does not compress: 24 greys take half the bytes of 256,
        and look the same beside a letter of text.
    """
    grey = np.round(stretch.grey(reduced(counts, *most))[::-1] * (n_greys - 1))
    return encode_png(np.round(grey * (255 / (n_greys - 1))).astype(np.uint8))


def sparkline(
    spectrum: Given, *, width: int = 160, height: int = 36, colour: str = VERMILION, label: str = ""
) -> str:
    """Return a spectrum as a small, self-contained SVG text.

    Parameters
    ----------
    spectrum : flux (x).
    width, height : in pixels.
    colour : of the line, in CSS notation.
    label : alternative text.

    Raises
    ------
    UsageError
        It is not a spectrum, or a size is less than 1.

    Examples
    --------
    >>> import arrayred as ar
    >>> text = ar.plots.sparkline(ar.SimulatedNight().truth(), label="a star")
    >>> text.startswith('<svg xmlns="http://www.w3.org/2000/svg"'), len(text) < 4_000
    (True, True)
    """
    _require_size("width", width)
    _require_size("height", height)
    path = _sparkline_path(spectrum_of(spectrum)[FLUX].values, width, height)
    name = f' aria-label="{escape(printable(label))}"' if label else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img"{name}>'
        f'<path d="{path}" fill="none" stroke="{escape(colour)}" stroke-width="1" '
        'stroke-linejoin="round"/></svg>'
    )


def _require_size(name: str, size: int) -> None:
    if size < 1:
        raise UsageError(
            f"A picture with a {name} of {size} was asked for",
            keyword=name,
            value=size,
            hint="Give at least 1 pixel.",
        )


def _sparkline_path(flux: NDArray[np.float64], width: int, height: int) -> str:
    """Return the path of a flux (x): lowest and highest value of each pixel, broken at gaps."""
    finite = np.flatnonzero(np.isfinite(flux))
    if not finite.size:
        return ""
    low, high = float(flux[finite].min()), float(flux[finite].max())
    scale = (height - 2) / (high - low) if high > low else 0.0
    x = np.asarray((np.arange(flux.size) + 0.5) * (width / flux.size), np.float64)
    y = np.asarray(height - 1 - (flux - low) * scale, np.float64)
    keep = thinned(x[finite], y[finite], 1.0)
    chosen = finite[keep]
    breaks = np.zeros(chosen.size, bool)
    breaks[0] = True
    gaps = np.cumsum(~np.isfinite(flux))
    breaks[1:] = np.diff(gaps[chosen]) > 0
    words = ["M" if start else "L" for start in breaks]
    places = zip(words, x[chosen].round(1), y[chosen].round(1), strict=True)
    return "".join(f"{word}{a:g} {b:g}" for word, a, b in places)


# PNG encoding with numpy and zlib: `encode_png`.
#
# A dozen lines, a tenth of the time that the import of a library takes, and the same bytes wherever
# zlib is the same.

_GREY, _PALETTE = 0, 3
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode_png(pixels: NDArray[np.uint8], palette: NDArray[np.uint8] | None = None) -> bytes:
    r"""Return greys, or indices of a palette, as a PNG.

    Parameters
    ----------
    pixels : (row, column), the first row on top; greys from 0 to 255, or indices of the palette.
    palette : (n, 4), red, green, blue and opacity, n <= 256; None: greys.

    Examples
    --------
    >>> encode_png(np.zeros((2, 3), np.uint8))[:8]
    b'\x89PNG\r\n\x1a\n'
    """
    n_rows, n_columns = pixels.shape
    kind = _GREY if palette is None else _PALETTE
    lines = np.zeros((n_rows, n_columns + 1), np.uint8)
    lines[:, 1:] = pixels
    parts = [_chunk(b"IHDR", struct.pack(">IIBBBBB", n_columns, n_rows, 8, kind, 0, 0, 0))]
    if palette is not None:
        parts.append(_chunk(b"PLTE", palette[:, :3].tobytes()))
        if (palette[:, 3] < 255).any():
            parts.append(_chunk(b"tRNS", palette[:, 3].tobytes()))
    parts += [_chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)), _chunk(b"IEND", b"")]
    return _SIGNATURE + b"".join(parts)


def _chunk(name: bytes, content: bytes) -> bytes:
    check = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", check)


# A figure as SVG text for an HTML page: `svg`.
#
# matplotlib writes the text, `compacted` makes it small and harmless for the page around it.

_NOTHING = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_DPI = 76
"""Dots an inch of the images in an SVG: 640 columns in a figure of 9 inches."""


def svg(figure: Figure, *, label: str = "") -> str:
    """Return a figure as self-contained SVG text, the same for the same figure.

    Curves are thinned to the visible points, images have 32 greys, texts stay texts. Several may be
    put into one HTML page: their styles do not affect the page, and their ids are unique.

    Parameters
    ----------
    figure : from a function of this package.
    label : alternative text.

    Examples
    --------
    >>> import arrayred as ar
    >>> text = ar.plots.svg(ar.plots.spectrum(ar.SimulatedNight().truth()), label="a star")
    >>> text.startswith("<svg"), text.endswith("</svg>"), len(text) < 60_000
    (True, True, True)
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    with painting(figure, _DPI):
        paint = FigureCanvasSVG(figure).print_svg
        paint(buffer, metadata=_NOTHING)  # type: ignore[no-untyped-call]
    return compacted(buffer.getvalue(), label)


# Compact SVG text, harmless for the page around it: `compacted`.
#
# A page of a night shows a dozen figures, and matplotlib needs 173 kB for a spectrum of 1536
# columns with its noise, 640 kB for a frame. Here a curve keeps, in each 0.75 points of x, its
# lowest and its highest point; coordinates are relative, to a tenth of a point; identical marks are
# one path; there are 32 greys and images have palettes: 40 kB and 140 kB. The result has no style
# elements, which would apply to the whole page, and no ids except those that are referred to, which
# a checksum makes different from those of other figures.

_XLINK = "{http://www.w3.org/1999/xlink}href"
_FONTS = "font-family=\"'DejaVu Sans',Verdana,Arial,sans-serif\""
_STEP = 0.75
"""Resolution of a curve along x, points (1/72 inch)."""
_MANY = 60
"""Vertices: a curve of no more keeps all of them, to a hundredth of a point."""
_GREYS, _VEILS = 32, 8
"""Number of greys and of opacity levels: 256 together."""
_NUMBER = re.compile(r"-?\d+\.\d+")
_STROKE = re.compile(r"\s*M(\s+[-.\d]+){2}\s+L(\s+[-.\d]+){2}\s*")
_ROUNDED = ("x", "y", "width", "height", "transform", "viewBox")
_DROPPED = ("metadata", "style", "title", "desc")


def compacted(text: str, label: str = "") -> str:
    """Return an SVG text of matplotlib as a smaller one that looks the same.

    Parameters
    ----------
    text : SVG written by matplotlib with ``svg.fonttype: none``.
    label : alternative text.

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
    """New ids by old ones, and the paths that have an id."""

    names: dict[str, str]
    shapes: dict[str, str]


def _names_of(root: Element, prefix: str) -> dict[str, str]:
    """Return a new id for each id that is referred to."""
    used: dict[str, str] = {}
    for node in root.iter():
        told = node.get(_XLINK, "") + " " + node.get("clip-path", "")
        for name in re.findall(r"#([\w.-]+)", told if not told.startswith("data:") else ""):
            used.setdefault(name, f"{prefix}-{len(used)}")
    return used


def _written(node: Element, known: _Known) -> Iterator[str]:
    """Yield an element with its content, without groups that have no attributes or no content."""
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
    """Yield the content of an element, consecutive marks of one shape and style together."""
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
    """Yield marks of one shape and style, each position once."""
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
    """Return a straight stroke from one point to another."""
    x, y, to_x, to_y = (round(10 * end) for end in ends)
    return f"M{_joined([x, y], 1)}l{_joined([to_x - x, to_y - y], 1)}"


def _attributes(node: Element, known: _Known) -> Iterator[tuple[str, str]]:
    """Yield the attributes that are needed, numbers shortened."""
    for name, value in node.attrib.items():
        if name == "id":
            if value in known.names:
                yield name, known.names[value]
        elif name == _XLINK:
            yield "xlink:href", _link(value, known)
        elif name == "clip-path":
            yield name, f"url(#{known.names[value[5:-1]]})"
        elif name == "d":
            yield name, _compact_path(value)
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
    """Return a style without spaces and without fonts, which are set for the whole figure.

    Examples
    --------
    >>> _style("font-size: 9px; font-family: 'DejaVu Sans', sans-serif; text-anchor: middle")
    'font-size:9px;text-anchor:middle'
    """
    parts = [part.strip().replace(": ", ":") for part in text.split(";")]
    return ";".join(part for part in parts if part and not part.startswith("font-family"))


def _rounded(text: str) -> str:
    """Return text with its numbers rounded to a hundredth.

    Examples
    --------
    >>> _rounded("translate(12.345678 -0.001)")
    'translate(12.35 0)'
    """
    return _NUMBER.sub(lambda found: _short(float(found[0]), 2), text)


def _short(number: float, digits: int) -> str:
    """Return a number in its shortest notation.

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


def _compact_path(text: str) -> str:
    """Return a path of straight lines, thinned and in relative steps; any other path rounded."""
    if "C" in text or "Q" in text:
        return " ".join(_rounded(text).split())
    return "".join(_line(part) for part in text.split("M") if part.strip())


def _line(text: str) -> str:
    """Return one polyline of a path."""
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
    """Return numbers, given in units of their last digit, joined with the fewest spaces.

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
    """Return a PNG with fewer greys and a palette; one of more than 256 colours unchanged."""
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
    """Return each value from 0 to 255 rounded to one of n levels."""
    steps = np.round(np.arange(256) * ((n - 1) / 255))
    return np.round(steps * (255 / (n - 1))).astype(np.uint8)
