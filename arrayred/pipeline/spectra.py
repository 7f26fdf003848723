"""From a combined image to its spectra: where they lie, and what is extracted there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from arrayred.config import Recipe, RowRange
from arrayred.errors import InputError
from arrayred.model import FRAME, Rows, turn
from arrayred.night import Target
from arrayred.pipeline.elsewhere import told_as_ours
from arrayred.pipeline.extraction import frames_of, spectrum_of
from arrayred.steps.extract import extract
from arrayred.steps.find import Threshold, detect_rows, find_all, find_rows
from arrayred.watching import stage

if TYPE_CHECKING:
    import xarray as xr
from arrayred.pipeline.images import cleaning, combine_target


def numbered(name: str, i: int) -> str:
    """Return the name of the i-th spectrum, or what belongs to it: the first has no number.

    Examples
    --------
    >>> numbered("spectrum", 0), numbered("spectrum", 1)
    ('spectrum', 'spectrum_2')
    """
    return f"{name}_{i + 1}" if i else name


def recipe_for(target: Target, found: Mapping[str, RowRange]) -> Recipe:
    """Return what to do with a target, its rows being those of another where that is wanted.

    Parameters
    ----------
    target : as planned.
    found : the rows of the targets that have been reduced.

    Raises
    ------
    InputError
        The other target has no rows.
    """
    if not target.rows_from:
        return target.recipe
    if target.rows_from not in found:
        raise InputError(
            f"{target.name} takes the rows of {target.rows_from}, which has none",
            keyword="rows_from",
            hint="Mend that target, or give rows.",
        )
    return target.recipe.replace(rows=found[target.rows_from], near_row=None, all_spectra=False)


def rows_of(spectrum: xr.Dataset) -> RowRange:
    """Return the first and last row of a spectrum."""
    return spectrum.attrs["first_row"], spectrum.attrs["last_row"]


def rows_to_extract(image: xr.Dataset, recipe: Recipe) -> tuple[Rows, ...]:
    """Return the rows of the spectrum of a combined image, or of each, as the recipe wants."""
    threshold = Threshold(
        recipe.n_sigma,
        recipe.background_rows,
        recipe.skip_last_column,
        recipe.max_gap,
        recipe.whole_span,
    )
    image, method, near, rows = turn(image), recipe.detect, recipe.near_row, recipe.rows
    if recipe.all_spectra:
        return find_all(image, threshold, method=method, near_row=near, rows=rows)
    return (find_rows(image, threshold, method=method, near_row=near, rows=rows),)


@stage("extract")
def extract_spectrum(image: xr.Dataset, recipe: Recipe, rows: Rows | None = None) -> xr.Dataset:
    """Return a spectrum of a combined image: its rows found, and what `extraction` makes of them.

    Parameters
    ----------
    image : counts (y, x), settled; `clean`, `variance`, `dq` where it has them.
    recipe : what to do.
    rows : the rows, one of `rows_to_extract`; found if left out.
    """
    image = turn(image)
    rows = rows_to_extract(image, recipe)[0] if rows is None else rows
    return spectrum_of(image, rows, recipe)


@stage("extract frames")
@told_as_ours()
def extract_each(
    lights: xr.Dataset,
    dark: xr.Dataset | None,
    recipe: Recipe,
    flat: xr.Dataset | None,
    spectrum: xr.Dataset,
) -> xr.Dataset:
    """Return the spectra (frame, x) of a target's lights, each by itself, for its light curve.

    Parameters
    ----------
    lights, dark, recipe, flat : as for `reduce_target`.
    spectrum : of all of them, whose aperture serves each.
    """
    alone = recipe.replace(combine="average", scale="none", weights="none", cosmic_rays="off")
    images = (
        turn(combine_target(lights.isel({FRAME: [i]}), dark, alone, flat))
        for i in range(lights.sizes[FRAME])
    )
    return frames_of(images, lights, spectrum, recipe)


@told_as_ours()
def cut_arc(
    lamps: xr.Dataset, master: xr.Dataset | None, spectrum: xr.Dataset, recipe: Recipe
) -> xr.Dataset:
    """Return the spectrum of lamps through the rows of a star: a line tilts across the chip.

    Parameters
    ----------
    lamps : cube, counts (frame, y, x).
    master : the dark or bias (y, x) to subtract from them, or None.
    spectrum : the star's.
    recipe : how frames are combined: by median if that is wanted, else by average; lamps flicker,
        so that no cosmic rays are looked for.
    """
    plain = recipe.replace(
        combine=cleaning(recipe).plain, scale="none", weights="none", cosmic_rays="off"
    )
    image = turn(combine_target(lamps, master, plain))
    return extract(image, detect_rows(image, rows=rows_of(spectrum)))
