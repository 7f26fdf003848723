"""What a look at a night shows, computed by the steps that reduce it: `Study`.

A page may be looked at in several windows, so that what takes long is kept here and made once: the
plan, the masters, and the combined images looked at last. All of it is made when it is first
wanted: to open a page of 2,000 frames reads one, while their plan, which looks at rows of each,
takes half a minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from arrayred.config import Recipe
from arrayred.config.recipe import RowRange
from arrayred.errors import InputError
from arrayred.explore.groups import Made, groups_of, made_of
from arrayred.explore.kept import Kept
from arrayred.explore.look import Look, Stage
from arrayred.explore.rolls import Roll
from arrayred.io.frames import Frame
from arrayred.model import COUNTS, FRAME, X, Y
from arrayred.night import Group, Night, Plan, Target, make_plan
from arrayred.pipeline import (
    Reading,
    calibrate,
    combine_target,
    extract_spectrum,
    in_units,
    make_flat,
    make_master,
    rows_of,
    settle,
)

if TYPE_CHECKING:
    import xarray as xr

LINES = "sum of the rows", "less the sky", "as reduce extracts it"
"""What shows a spectrum: two plain sums, and its flux."""
_MOST = 2
"""Images that are kept, of each kind."""


class Image(NamedTuple):
    """An image as it is shown: pixels (y, x), the FITS numbers of the first one, their unit."""

    pixels: NDArray[Any]
    first: tuple[int, int]
    unit: str

    @property
    def shape(self) -> tuple[int, int]:
        """Return (n_rows, n_columns)."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def value(self, row: int, column: int) -> float | None:
        """Return the value of a pixel by its FITS numbers; None off the image."""
        y, x = row - self.first[0], column - self.first[1]
        inside = 0 <= y < self.shape[0] and 0 <= x < self.shape[1]
        return float(self.pixels[y, x]) if inside else None


class Study:
    """A night to be looked at.

    Parameters
    ----------
    night : its frames.
    recipe : what is done with them.
    memory : bytes that may be held while frames are combined, if there is a bound.
    """

    def __init__(self, night: Night, recipe: Recipe | None = None, memory: int | None = None):
        self.night, self.recipe = night, recipe or Recipe()
        self.groups: Mapping[str, Group] = groups_of(night)
        if not self.groups:
            raise InputError(
                "There is nothing to look at", path=night.folder, hint="Name a folder of frames."
            )
        self._reading = Reading("auto", memory, self.recipe.overscan)
        self._plan: Kept[Plan] = Kept()
        self._rolls: Kept[Roll] = Kept(_MOST)
        self._images: Kept[Image] = Kept(_MOST)
        self._combined: Kept[xr.Dataset] = Kept(_MOST)
        self._products: Kept[Made] = Kept(_MOST)
        self._masters: Kept[xr.Dataset] = Kept()
        self._flats: Kept[xr.Dataset] = Kept()

    @property
    def title(self) -> str:
        """Return what the night is called: its folder, and that folder's if it is but "raw"."""
        return "/".join(self.night.folder.resolve().parts[-2:])

    def target(self, look: Look) -> Target | None:
        """Return the target whose lights are looked at; None of frames that are no lights.

        Raises
        ------
        ArrayredError
            They cannot be reduced.
        """
        if not self._is_light(look):
            return None
        plan = self._plan.get(None, lambda: make_plan(self.night, self.recipe))
        name = self.name(look)
        found = next((target for target in plan.targets if target.name == name), None)
        if found is None:
            causes = dict(plan.failed)
            raise (
                causes.get(name)
                or next(iter(plan.problems), None)
                or InputError(
                    f"{name} is no target of the plan", hint="See `arrayred inspect --plan`."
                )
            )
        return found

    def stages(self, look: Look) -> tuple[Stage, ...]:
        """Return what can be shown of a group."""
        group = self.groups[look.group]
        if self._is_light(look):
            return "raw", "calibrated", "combined"
        kind = look.group.partition("/")[0]
        return ("raw", "combined") if kind in ("bias", "dark") and not group.is_master else ("raw",)

    def corrected(self, look: Look) -> str:
        """Return in words what is taken off the frames that are looked at."""
        target = self.target(look)
        if target is None or look.stage == "raw":
            return "as in the file" if look.stage == "raw" else self.groups[look.group].size
        less = [] if target.master is None else [f"less {target.master.title}"]
        less += [] if target.flat is None else [f"divided by {target.flat.frames.title}"]
        return ", ".join(less) or "nothing subtracted"

    def frame(self, look: Look) -> Frame:
        """Return what is known of the frame that is looked at."""
        return self.groups[look.group].frames[look.frame]

    def image(self, look: Look) -> Image:
        """Return the image that is looked at.

        Raises
        ------
        ArrayredError
            It cannot be read or made.
        """
        if look.stage == "combined":
            return _as_image(self.combined(look))
        if look.stage == "calibrated":
            self._serving(self.target(look))  # now: a frame as it is need not wait for masters
        key = look.group, look.frame, look.stage
        return self._images.get(key, lambda: self._one_frame(look))

    def through_frames(self, look: Look, row: int, column: int) -> NDArray[np.float64]:
        """Return one pixel in every frame of the group, as it is in the files."""
        return self._roll(look).through(row, column).astype(np.float64)

    def combined(self, look: Look) -> xr.Dataset:
        """Return all frames of the group as one image (y, x), as `reduce` combines them."""
        return self._combined.get(look.group, lambda: self._combine(look))

    def can_combine(self, look: Look) -> bool:
        """Tell whether a spectrum can be taken from what is looked at."""
        return self._is_light(look) or self._made(look).image is not None

    def is_combined(self, look: Look) -> bool:
        """Tell whether the combined image is there already."""
        return look.group in self._combined

    def spectrum(self, look: Look) -> xr.Dataset:
        """Return the spectrum of the combined image through the rows that are looked at.

        Rows that are not given are found, and so is the sky: it is what `reduce` writes with these
        rows.

        Raises
        ------
        NoSpectrumError, SkyBandError
            There is none, or no room for its sky.
        """
        recipe = self._recipe(look)
        return in_units(extract_spectrum(self.combined(look), recipe), recipe)

    def name(self, look: Look) -> str:
        """Return the name that a night file knows the group by."""
        return self.groups[look.group].name

    def is_turned(self, look: Look) -> bool:
        """Tell whether the rows of the spectrum are the file's columns."""
        return self.frame(look).dispersion_axis == 2

    def _is_light(self, look: Look) -> bool:
        return look.group.startswith("light/")

    def _recipe(self, look: Look) -> Recipe:
        target = self.target(look)
        recipe = self.recipe if target is None else target.recipe
        rows = look.rows or self._rows_from_elsewhere(look, target)
        if rows is not None:
            recipe = recipe.replace(rows=rows, near_row=None, all_spectra=False, whole_span=False)
        return recipe if look.sky_rows is None else recipe.replace(sky_rows=look.sky_rows)

    def _rows_from_elsewhere(self, look: Look, target: Target | None) -> RowRange | None:
        """Return the rows that the night file or a product's spectrum gives, if any does."""
        if target is not None and target.rows_from:
            return rows_of(self.spectrum(Look(f"light/{target.rows_from}")))
        return None if target is not None else self._made(look).rows

    def _roll(self, look: Look) -> Roll:
        return self._rolls.get(look.group, lambda: Roll(self.groups[look.group]))

    def _one_frame(self, look: Look) -> Image:
        if look.stage == "raw":
            roll = self._roll(look)
            return Image(roll.frame(look.frame), roll.first_pixel, self.frame(look).unit)
        target = self.target(look)
        alone = Group(self.name(look), (self.frame(look),))
        master, flat = self._serving(target)
        cube = calibrate(self._reading.open(alone), master, flat)
        return _as_image(settle(cube.isel({FRAME: 0})))

    def _combine(self, look: Look) -> xr.Dataset:
        target, product = self.target(look), self._made(look).image
        if target is not None:
            master, flat = self._serving(target)
            lights = self._reading.open(target.lights)
            return combine_target(lights, master, target.recipe, flat)
        return self._master(self.groups[look.group]) if product is None else product

    def _made(self, look: Look) -> Made:
        """Return the combined image that the group is, if it is a product."""
        path: Path = self.frame(look).path
        return self._products.get(path, lambda: made_of(path))

    def _serving(self, target: Target | None) -> tuple[xr.Dataset | None, xr.Dataset | None]:
        """Return the master dark or bias of a target, and its flat."""
        if target is None:
            return None, None
        master = None if target.master is None else self._master(target.master)
        if target.flat is None:
            return master, None
        flat = target.flat
        darks = {group.key: self._master(group) for group in flat.masters}
        made = self._flats.get(flat.key, lambda: make_flat(flat, darks, self._reading))
        return master, made

    def _master(self, group: Group) -> xr.Dataset:
        method = self.recipe.dark_method
        ready = {part.key: self._master(part) for part in group.parts}
        return self._masters.get(
            group.key, lambda: make_master(group, method, self._reading, ready)
        )


def _as_image(image: xr.Dataset) -> Image:
    first = int(image[Y].values[0]), int(image[X].values[0])
    return Image(image[COUNTS].values, first, str(image[COUNTS].attrs.get("units", "adu")))


def lines_of(spectrum: xr.Dataset) -> dict[str, tuple[Any, Any]]:
    """Return x and y of the lines that show a spectrum, by names of `LINES`.

    Parameters
    ----------
    spectrum : (x), of `Study.spectrum`.
    """
    x, n_rows = spectrum["x"].values, spectrum.attrs["n_rows"]
    means = zip(LINES, ("counts_mean", "counts_mean_sky_subtracted"), strict=False)
    lines = {name: (x, spectrum[key].values * n_rows) for name, key in means if key in spectrum}
    return lines | {LINES[-1]: (x, spectrum["flux"].values)}
