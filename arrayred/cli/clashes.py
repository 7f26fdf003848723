"""Options that cannot both be meant: `require_sense`.

One of two options that contradict each other would win in silence, and an option that decides
nothing looks as if it did. Either is a mistake of the one who typed it, who is told so before a
header is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arrayred.cli.wishes import Wishes
from arrayred.errors import UsageError

if TYPE_CHECKING:
    from arrayred.config import NightFile, Recipe

_EXCLUDE = {
    "no_sky": ("sky_rows", "sky_model"),
    "no_dark": ("master_dark", "scale_dark"),
    "no_flat": ("master_flat",),
    "quiet": ("verbose",),
}
"""Which options say nothing beside another."""
_OF_A_COMBINATION = {"clip_sigma": "clip", "minmax_low": "minmax", "minmax_high": "minmax"}


def require_sense(wishes: Wishes, recipe: Recipe, file: NightFile) -> None:
    """Raise UsageError if options exclude each other, or one decides nothing.

    Parameters
    ----------
    wishes : the options.
    recipe, file : what they amount to; a target of the night file may combine its own way.
    """
    for option, others in _EXCLUDE.items():
        for other in others:
            if option in wishes and other in wishes:
                raise UsageError(
                    f"{spelled(option)} and {spelled(other)} exclude each other",
                    hint="Give one of them.",
                )
    ways = {recipe.combine, *(target.recipe.get("combine") for target in file.targets.values())}
    for option, way in _OF_A_COMBINATION.items():
        if option in wishes and way not in ways:
            raise UsageError(
                f"{spelled(option)} is for --combine {way}, but lights are combined by "
                f"{recipe.combine}",
                value=wishes[option],
                hint=f"Give --combine {way} as well, or leave it out.",
            )


def spelled(name: str) -> str:
    """Return an option as it is typed.

    Examples
    --------
    >>> spelled("sky_rows")
    '--sky-rows'
    """
    return f"--{name.replace('_', '-')}"
