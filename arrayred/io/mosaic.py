"""Join the images of a file into one frame, or transpose a frame: `with_all_images`, `turned`.

A detector read by several amplifiers, or several detectors, are often one image extension each.
DETSEC (else CCDSEC) of each says which of the detector's pixels it holds, the first number of a
pair being the end from which it was read; DATASEC where they lie in the image; BIASSEC where its
overscan is (IRAF's mosaic conventions; NOAO, Gemini and Keck write them). The images are joined if
these sections agree with them, do not overlap and fill a rectangle. Otherwise only the first image
is read, and `ImageHDU.warning` reports that with the remedy.

The amplifiers differ in level and gain, and the frame would have a step between them: from each the
level of its own overscan is subtracted row by row, and its counts are multiplied by its gain over
that of the first. Different read noises become their root mean square.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.io.header import Header
from arrayred.io.scan import (
    OVERSCAN_CARD,
    ImageHDU,
    Part,
    PixelFormat,
    PixelSource,
    dtype_of,
    stored_dtype,
)
from arrayred.kernels.rows import overscan_levels
from arrayred.model import DQ, Section, Sections, consistent_sections, section_numbers

_PLACES = ("DETSEC", "CCDSEC")
_GAINS = ("EGAIN", "GAIN")
_READ_NOISES = ("RDNOISE", "READNOIS")
_OF_ONE_IMAGE = re.compile(
    r"(DATA|BIAS|TRIM|DET|CCD|AMP|ORIG)SEC|EXT(NAME|VER)|CHECKSUM|DATASUM"
    r"|(CRPIX|CRVAL|CDELT|CTYPE|CUNIT|CROTA)\d[A-Z]?|(CD|PC)\d_\d[A-Z]?|(LT|AT|DT)[VM]\d(_\d)?"
)
"""Cards that describe the pixels of one image, not of the frame."""


def with_all_images(image: ImageHDU, given: str = "") -> ImageHDU:
    """Return the frame that the images of a file are parts of, or the first with a warning.

    Parameters
    ----------
    image : the first image of a file, with the further ones.
    given : the image that the user asked for, or "": `image` is that one then.
    """
    if given:
        return replace(image, note=f"read from image {image.title} of their files, as requested")
    images = (replace(image, further=()), *image.further)
    names = ", ".join(one.title for one in images)
    parts, why = _placed_parts(images)
    if why:
        told = (
            f"{len(images)} images per file ({names}): only the first, {image.title}, is read "
            f"because {why}; use --extension NAME for another"
        )
        return replace(image, further=(), warning=told)
    levelled = any(part.sections.overscan is not None for part in parts)
    scaled = any(part.factor != 1.0 for part in parts)
    corrected = ["each overscan-subtracted"] * levelled + ["in the ADU of the first"] * scaled
    told = f"joined from {len(images)} images ({names})"
    return ImageHDU(
        replace(
            image.source,
            shape=_frame_shape(parts),
            pixels=_frame_format(parts),
        ),
        _frame_header(images, levelled=levelled),
        image.hdu,
        "parts",
        parts,
        note=", ".join([told, *corrected]),
        planes=(planes := _planes_of(parts)),
        warning=_planes_left_out(parts, planes),
    )


def _planes_of(parts: Sequence[Part]) -> tuple[ImageHDU, ...]:
    """Return the masks and flags of a frame, put together as its pixels are."""
    planes = []
    for kind in dict.fromkeys(plane.kind for plane in parts[0].image.planes_of(DQ)):
        found = [next((p for p in q.image.planes if p.kind == kind), None) for q in parts]
        own = tuple(
            replace(part, image=plane, sections=replace(part.sections, overscan=None), factor=1.0)
            for part, plane in zip(parts, found, strict=True)
            if plane is not None
        )
        if len(own) == len(parts):
            shape, pixels = _frame_shape(own), _frame_format(own)
            source = replace(own[0].image.source, shape=shape, pixels=pixels)
            planes.append(replace(own[0].image, source=source, packing="parts", parts=own))
    return tuple(planes)


def _planes_left_out(parts: Sequence[Part], planes: Sequence[ImageHDU]) -> str:
    """Return which extensions of the parts are not used, as a warning."""
    kinds = {plane.kind for plane in planes}
    unused = [p.title for part in parts for p in part.image.planes if p.kind not in kinds]
    if not unused:
        return ""
    return (
        f"{', '.join(unused)} not used: the noise of the images is not joined, and masks only if "
        "each image has one"
    )


def turned(image: ImageHDU) -> ImageHDU:
    """Return an image with its rows in the opposite order."""
    n_rows, n_columns = image.source.shape
    whole = Sections(None, Section((1, n_columns), (1, n_rows)))
    header = image.header.copy()
    header.drop(["CHECKSUM", "DATASUM"])
    return replace(
        image,
        source=replace(image.source, cached=None),
        header=header,
        packing="parts",
        parts=(Part(image, whole, rows_reversed=True),),
        planes=tuple(map(turned, image.planes)),
    )


# From the sections of the images to the parts of a frame.


class _Span(NamedTuple):
    """First and last pixel along one axis, in the order of the read-out."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return abs(self.last - self.first) + 1


def _placed_parts(images: Sequence[ImageHDU]) -> tuple[tuple[Part, ...], str]:
    """Return the parts of a frame, or none and the reason."""
    keyword = next((k for k in _PLACES if all(k in image.header for image in images)), None)
    if keyword is None:
        return (), "DETSEC is missing"
    placed = []
    for image in images:
        section, kept = _spans(image.header, keyword), _section_kept(image)
        if section is None or kept is None:
            return (), f"{keyword} and DATASEC of {image.title} cannot be understood"
        placed.append((image, section, kept))
    binnings = {
        tuple(round(span.length / n) for span, n in zip(section, _size(kept), strict=True))
        for _, section, kept in placed
    }
    x_binning, y_binning = next(iter(binnings))
    if len(binnings) > 1 or not (x_binning and y_binning):
        return (), f"{keyword} and DATASEC differ in size"
    left = min(min(columns) for _, (columns, _), _ in placed)
    bottom = min(min(rows) for _, (_, rows), _ in placed)
    factors = _gain_factors(images)
    parts = []
    for (image, (columns, rows), kept), factor in zip(placed, factors, strict=True):
        overscan = _own_section(image, "BIASSEC")
        sections, why = consistent_sections(overscan, kept, image.source.shape)
        if sections is None:
            return (), f"BIASSEC and DATASEC of {image.title} do not fit: {why}"
        parts.append(
            Part(
                image,
                sections,
                (min(rows) - bottom) // y_binning,
                (min(columns) - left) // x_binning,
                rows.first > rows.last,
                columns.first > columns.last,
                factor,
            )
        )
    if not _fill_a_rectangle(parts):
        return (), f"their {keyword} overlap or leave gaps"
    return tuple(parts), ""


def _spans(header: Header, keyword: str) -> tuple[_Span, _Span] | None:
    """Return the columns and rows of a section, either of which may run backwards."""
    found = section_numbers(str(header.readable(keyword) or ""))
    return None if found is None else (_Span(*found[:2]), _Span(*found[2:]))


def _own_section(image: ImageHDU, keyword: str) -> Section | None:
    return Section.parse(str(image.header.readable(keyword) or ""))


def _section_kept(image: ImageHDU) -> Section | None:
    """Return the section of an image that holds the detector's pixels: all without a DATASEC."""
    n_rows, n_columns = image.source.shape
    known = [k for k in ("DATASEC", "TRIMSEC") if k in image.header]
    kept = _own_section(image, known[0]) if known else Section((1, n_columns), (1, n_rows))
    return kept if kept is not None and kept.lies_in(image.source.shape) else None


def _size(section: Section) -> tuple[int, int]:
    """Return the numbers of columns and rows of a section."""
    _, _, n_rows, n_columns = section.window
    return n_columns, n_rows


def _area_of(part: Part) -> tuple[slice, slice]:
    """Return the rows and columns of the frame that a part fills."""
    assert part.sections.trim is not None
    n_columns, n_rows = _size(part.sections.trim)
    return (
        slice(part.first_row, part.first_row + n_rows),
        slice(part.first_column, part.first_column + n_columns),
    )


def _frame_shape(parts: Sequence[Part]) -> tuple[int, int]:
    areas = [_area_of(part) for part in parts]
    return max(rows.stop for rows, _ in areas), max(columns.stop for _, columns in areas)


def _fill_a_rectangle(parts: Sequence[Part]) -> bool:
    """Return whether parts fill their rectangle, each pixel once."""
    edges_y = sorted({edge for rows, _ in map(_area_of, parts) for edge in (rows.start, rows.stop)})
    edges_x = sorted({edge for _, xs in map(_area_of, parts) for edge in (xs.start, xs.stop)})
    n_parts = np.zeros((len(edges_y) - 1, len(edges_x) - 1), int)
    for rows, columns in map(_area_of, parts):
        n_parts[
            edges_y.index(rows.start) : edges_y.index(rows.stop),
            edges_x.index(columns.start) : edges_x.index(columns.stop),
        ] += 1
    return bool(np.all(n_parts == 1))


def _gain_factors(images: Sequence[ImageHDU]) -> list[float]:
    """Return the gain of each image over that of the first; 1 where no card tells them apart."""
    for keyword in _GAINS:
        gains = [_positive(image.header, [keyword]) for image in images]
        known = [gain for gain in gains if gain is not None]
        if len(known) == len(images) and len(set(known)) > 1:
            return [gain / known[0] for gain in known]
    return [1.0] * len(images)


def _positive(header: Header, keywords: Sequence[str]) -> float | None:
    """Return the first of some cards that is a positive number, or None."""
    values = (header.readable(keyword) for keyword in keywords)
    numbers = (v for v in values if isinstance(v, int | float) and not isinstance(v, bool))
    return next((float(number) for number in numbers if number > 0), None)


def _frame_format(parts: Sequence[Part]) -> PixelFormat:
    """Return the encoding of a frame: that of all images, or single or double floats."""
    formats = [part.image.source.pixels for part in parts]
    if not _is_computed(parts):
        return formats[0]
    is_short = all(dtype_of(each).itemsize <= 2 or each.bitpix == -32 for each in formats)
    return PixelFormat(-32 if is_short else -64)


def _is_computed(parts: Sequence[Part]) -> bool:
    """Return whether the pixels of a frame are computed, not only moved."""
    changed = any(p.sections.overscan is not None or p.factor != 1.0 for p in parts)
    return changed or len({part.image.source.pixels for part in parts}) > 1


def _frame_header(images: Sequence[ImageHDU], *, levelled: bool) -> Header:
    """Return the header of a frame: the first image's, less the cards of that image alone."""
    header = images[0].header.copy()
    header.drop([keyword for keyword in header if _OF_ONE_IMAGE.fullmatch(keyword)])
    noises = [_positive(image.header, _READ_NOISES) for image in images]
    known = [noise for noise in noises if noise is not None]
    if len(known) == len(images) and len(set(known)) > 1:
        card = next(keyword for keyword in _READ_NOISES if keyword in header)
        mean_square = sum(noise**2 for noise in known) / len(known)
        header.set(card, mean_square**0.5, "root mean square of the amplifiers'")
    if levelled:
        header.set(OVERSCAN_CARD, "of each amplifier", "overscan that was subtracted")
    return header


# The pixels of a frame from those of its parts.


def put_together(
    target: IO[bytes],
    image: ImageHDU,
    sources: Iterable[PixelSource],
    pixels_of: Callable[[PixelSource], NDArray[Any]],
) -> None:
    """Write the stored pixels of a frame, big-endian, into a new file.

    One part is held in memory at a time.

    Parameters
    ----------
    target : the file.
    image : the frame.
    sources : of the plain pixels of each part.
    pixels_of : returns the pixels (y, x) of a source.
    """
    stored, n_columns = stored_dtype(image.source.pixels), image.source.shape[1]
    is_computed = _is_computed(image.parts)
    for part, source in zip(image.parts, sources, strict=True):
        if is_computed:
            values = _corrected(part, pixels_of(source))
        else:  # the bits, whatever they were found to mean
            bits = PixelFormat(source.pixels.bitpix)
            values = _kept(part, pixels_of(replace(source, pixels=bits)))
        ordered = values[
            :: -1 if part.rows_reversed else 1, :: -1 if part.columns_reversed else 1
        ].astype(stored)
        for row, y in zip(
            ordered, range(part.first_row, part.first_row + len(ordered)), strict=True
        ):
            target.seek((y * n_columns + part.first_column) * stored.itemsize)
            target.write(row.tobytes())


def _kept(part: Part, values: NDArray[Any]) -> NDArray[Any]:
    assert part.sections.trim is not None
    row, column, n_rows, n_columns = part.sections.trim.window
    return values[row - 1 : row - 1 + n_rows, column - 1 : column - 1 + n_columns]


def _corrected(part: Part, values: NDArray[Any]) -> NDArray[Any]:
    """Return the part that is kept, less its overscan level, times its factor, float64."""
    kept = _kept(part, values).astype(np.float64)
    overscan, trim = part.sections.overscan, part.sections.trim
    if overscan is not None and trim is not None:
        (x0, x1), (y0, y1) = overscan.columns, overscan.rows
        if part.sections.by_row:
            (first, last) = trim.rows
            kept -= overscan_levels(values[first - 1 : last, x0 - 1 : x1])[:, np.newaxis]
        else:
            (first, last) = trim.columns
            kept -= overscan_levels(values[y0 - 1 : y1, first - 1 : last].T)
    kept *= part.factor
    return kept
