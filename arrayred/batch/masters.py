"""The masters of a night, made when the first target needs them, each written once: `Masters`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from arrayred.batch.keys import key_of_flat, key_of_master
from arrayred.batch.shelf import Shelf
from arrayred.batch.stories import story_of_flat, story_of_master
from arrayred.config import Recipe
from arrayred.errors import ArrayredError
from arrayred.io.ledger import required
from arrayred.io.products import Story, image_file
from arrayred.night import Flat, Group
from arrayred.pipeline import Reading, make_flat, make_master
from arrayred.steps.noise import with_own_noise
from arrayred.watching import stage

if TYPE_CHECKING:
    import xarray as xr


class Masters:
    """The masters that targets need.

    Parameters
    ----------
    recipe : how they are made.
    reading : how frames are read.
    shelf : where they are written.
    wanted : the keys of those that are products; the others only serve to make these.
    """

    def __init__(
        self, recipe: Recipe, reading: Reading, shelf: Shelf, wanted: Collection[str]
    ) -> None:
        self._recipe, self._reading, self._shelf = recipe, reading, shelf
        self._wanted = wanted
        self._made: dict[str, xr.Dataset | ArrayredError] = {}

    def require(self, group: Group | Flat | None) -> xr.Dataset | None:
        """Return the settled master of a group; None of none.

        Raises
        ------
        ArrayredError
            What went wrong when it was made, each time it is asked for.
        """
        if group is None:
            return None
        if group.key not in self._made:
            self._made[group.key] = self._make(group)
        made = self._made[group.key]
        if isinstance(made, ArrayredError):
            raise made
        return made

    def ensure(self, group: Group | Flat) -> None:
        """Make a master that is not finished; what goes wrong is told to who requires it."""
        if is_ready(group) or self._shelf.finished(entry_name(group), self._key(group)) is not None:
            return
        with suppress(ArrayredError):
            self.require(group)

    def _key(self, group: Group | Flat) -> Callable[[], str]:
        if isinstance(group, Flat):
            return lambda: key_of_flat(group, self._recipe, self._shelf.examined)
        return lambda: key_of_master(group, self._recipe, self._shelf.examined)

    def _make(self, group: Group | Flat) -> xr.Dataset | ArrayredError:
        with stage(group.master_name.removesuffix(".fits")):
            return self._flat(group) if isinstance(group, Flat) else self._dark(group)

    def _dark(self, group: Group) -> xr.Dataset | ArrayredError:
        """Return a master dark or bias, written if it is wanted and did not come as a file."""
        try:
            ready = self._each(group.parts)
            master = make_master(group, self._recipe.dark_method, self._reading, ready)
            checksums = required(self._shelf.examined, group.inputs)
            if group.key in self._wanted and not group.is_master:
                story = story_of_master(group, self._recipe.dark_method, checksums)
                self._put(group, with_own_noise(master), story)
        except ArrayredError as error:
            return error
        return master

    def _flat(self, flat: Flat) -> xr.Dataset | ArrayredError:
        """Return a master flat, written unless it came as one."""
        try:
            master = make_flat(flat, self._each(flat.masters), self._reading)
            if not flat.is_finished:
                story = story_of_flat(flat, required(self._shelf.examined, flat.inputs))
                self._put(flat, master, story)
        except ArrayredError as error:
            return error
        return master

    def _each(self, groups: Iterable[Group]) -> dict[str, xr.Dataset]:
        """Return the masters of groups by key."""
        made = {group.key: self.require(group) for group in groups}
        return {key: master for key, master in made.items() if master is not None}

    def _put(self, group: Group | Flat, master: xr.Dataset, story: Story) -> None:
        content = image_file(master, story, group.master_name, self._recipe.output_dtype)
        self._shelf.put("masters", content)
        self._shelf.finish(entry_name(group), self._key(group)(), story.checksums)


def entry_name(group: Group | Flat) -> str:
    """Return the name of a master's entry in the ledger."""
    return f"masters/{group.master_name.removesuffix('.fits')}"


def is_ready(group: Group | Flat) -> bool:
    """Tell whether a master came as a file and is not made."""
    return group.is_finished if isinstance(group, Flat) else group.is_master
