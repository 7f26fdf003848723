"""Products as bytes, ready to be published: images and spectra with their headers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from arrayred.io.hdu import image_bytes
from arrayred.io.planes import planes_of
from arrayred.io.product_header import Story, product_header
from arrayred.io.publish import Content
from arrayred.io.retold import own_cards
from arrayred.io.table import (
    TABLES,
    ecsv_table,
    fact_cards,
    fits_table,
    frames_table,
    noise_cards,
    text_table,
)
from arrayred.model import COUNTS, FRAME, X

if TYPE_CHECKING:
    import xarray as xr


def product_names(
    target: str, *, sky: bool = True, arc: bool = True, frames: bool = True
) -> list[str]:
    """Return the names of all files that a target's folder may have.

    Parameters
    ----------
    target : its name.
    sky, arc, frames : with the table less the sky, with that of lamps, with the frames' spectra.
    """
    tables = [f"{target}_{name}.txt" for name in TABLES.values() if sky or "sky" not in name]
    tables += [f"{target}_arc.txt"] if arc else []
    images = [f"{target}_combined.fits", f"{target}.png"]
    spectra = [f"{target}_spectrum.fits", f"{target}_spectrum.ecsv"]
    spectra += [f"{target}_frames.fits"] if frames else []
    return [*images, *tables, *spectra]


def is_product(name: str, target: str) -> bool:
    """Tell whether a file's name is one that a target's folder may have, of any of its spectra.

    Examples
    --------
    >>> is_product("Vega_2_spectrum.fits", "Vega"), is_product("Vega_2_notes.txt", "Vega")
    (True, False)
    """
    stem = re.match(rf"{re.escape(target)}(_[0-9]+)?(?=[_.])", name)
    return stem is not None and name in product_names(stem[0])


def image_file(image: xr.Dataset, story: Story, name: str, dtype: str) -> dict[str, Content]:
    """Return an image (y, x) as a FITS file, its variance and flags as extensions: by name."""
    facts = [*story.facts, *own_cards(image), *noise_cards(image)]
    header = product_header(
        replace(story, steps=image.attrs["history"], facts=facts), name.rpartition("/")[2]
    )
    return {name: image_bytes(header, image[COUNTS].values, dtype, planes_of(image, dtype))}


def calibrated_files(cube: xr.Dataset, story: Story, dtype: str) -> Iterator[tuple[str, Content]]:
    """Yield each frame of a calibrated cube as a FITS file, in folders as the raw ones lie."""
    for i, frame in enumerate(story.frames):
        own = replace(story, frames=[frame])
        name = f"{cube[FRAME].values[i]}_calibrated.fits"
        yield from image_file(cube.isel({FRAME: i}), own, name, dtype).items()


def arc_file(arc: xr.Dataset, stem: str) -> dict[str, Content]:
    """Return the spectrum of a lamp as a text table: content by name."""
    return {f"{stem}_arc.txt": text_table(arc["counts_mean"].values, int(arc[X][0]))}


def frames_file(frames: xr.Dataset, story: Story, stem: str) -> dict[str, Content]:
    """Return the spectra of a target's frames (frame, x) as a FITS table: content by name."""
    name = f"{stem}_frames.fits"
    told = replace(
        story,
        steps=frames.attrs["history"],
        remarks=[*story.remarks, *frames.attrs.get("remarks", ())],
        facts=[*story.facts, ("XFIRST", int(frames[X][0]), "column of the first number of a row")],
    )
    return {name: frames_table(frames, product_header(told, name))}


def spectrum_files(
    spectrum: xr.Dataset, story: Story, stem: str, counts: xr.Dataset | None = None
) -> dict[str, Content]:
    """Return a spectrum as the procedure's text tables, ECSV and FITS: content by name.

    Parameters
    ----------
    spectrum : in adu or electron.
    story : how it came to be.
    stem : begins each file's name.
    counts : the same in adu, for the text tables, if the spectrum is in electron.
    """
    tables = spectrum if counts is None else counts
    told = replace(
        story,
        steps=spectrum.attrs["history"],
        remarks=[*story.remarks, *spectrum.attrs.get("remarks", ())],
        facts=[*story.facts, *own_cards(spectrum), *fact_cards(spectrum)],
    )
    files: dict[str, Content] = {
        f"{stem}_{name}.txt": text_table(tables[variable].values, int(tables[X][0]))
        for variable, name in TABLES.items()
        if variable in tables
    }
    header = product_header(told, f"{stem}_spectrum.fits")
    meta = header.values() | {"FILENAME": f"{stem}_spectrum.ecsv"}
    return files | {
        f"{stem}_spectrum.fits": fits_table(spectrum, header),
        f"{stem}_spectrum.ecsv": ecsv_table(spectrum, meta),
    }
