"""Options about the night itself, which `inspect` and `reduce` share, and what they amount to.

What an option says comes before the night file, and that before the headers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from arrayred.cli.clashes import require_sense
from arrayred.cli.completion import instruments
from arrayred.cli.keeping import ABOUT_CACHES, caching_of
from arrayred.cli.progress import counting
from arrayred.cli.wishes import RowRange, Size, Wishes, wish
from arrayred.errors import UsageError, printable

if TYPE_CHECKING:
    from arrayred.batch import Order
    from arrayred.config import NightFile, Recipe
    from arrayred.night import Night

BESIDE = "night.toml"
_FIELDS = {
    "combine": "combine",
    "clip_sigma": "clip_sigma",
    "minmax_low": "minmax_low",
    "minmax_high": "minmax_high",
    "scale": "scale",
    "weights": "weights",
    "cosmic_rays": "cosmic_rays",
    "sigma": "n_sigma",
    "background_rows": "background_rows",
    "rows": "rows",
    "detect": "detect",
    "near_row": "near_row",
    "trace": "trace",
    "extraction": "extraction",
    "sky_rows": "sky_rows",
    "sky_model": "sky_model",
    "bad_pixels": "bad_pixels",
}
_FLAGS: dict[str, tuple[str, object]] = {
    "no_sky": ("sky", False),
    "no_dark": ("dark", False),
    "no_flat": ("flat", False),
    "no_overscan": ("overscan", "off"),
    "scale_dark": ("scale_dark", "down"),
    "electrons": ("units", "electron"),
    "save_calibrated": ("calibrated", True),
    "all_spectra": ("all_spectra", True),
    "per_frame": ("per_frame", True),
}
_PATH = click.Path(path_type=Path)
_NIGHT = (
    wish("--night-file", type=_PATH, metavar="FILE", help="What is known of the night: TOML, or "
         "an observing log in CSV or ECSV. [default: night.toml in the output folder]"),
    wish("--instrument", metavar="NAME|FILE.toml", shell_complete=instruments,
         help="What headers and detector mean, and which cards products must have. "
         "[default: generic]"),
    wish("--frames", metavar="GLOB",
         help="Take only lights whose file name matches, such as '*vega*'."),
    wish("--exclude", metavar="GLOB", multiple=True, help="Leave out files whose name matches."),
    wish("--unsigned", type=click.Choice(["auto", "wrapped", "as-declared"]),
         help="Whether raw counts with BZERO 0 are unsigned ones, written as signed. "
         "[default: auto, what the pixels betray]"),
    wish("--depth", type=click.IntRange(min=1), metavar="N",
         help="How many folders deep frames may lie. [default: 3]"),
    wish("--calibrations", type=_PATH, metavar="DIR", multiple=True,
         help="A further folder of raw or master darks, biases and flats."),
    wish("--master-dark", type=_PATH, metavar="FILE",
         help="The one dark to use, already combined."),
    wish("--master-bias", type=_PATH, metavar="FILE",
         help="The one bias to use, already combined."),
    wish("--master-flat", type=_PATH, metavar="FILE",
         help="The one flat to use, already combined."),
    *ABOUT_CACHES,
)  # fmt: skip
_RECIPE = (
    wish("--combine", type=click.Choice(["average", "median", "clip", "minmax"]),
         help="How lights are combined. [default: average]"),
    wish("--clip-sigma", type=click.FloatRange(min=1), metavar="X",
         help="Of clip: how many sigma of the noise a value may lie off. [default: 3]"),
    wish("--minmax-low", type=click.IntRange(min=0), metavar="N",
         help="Of minmax: how many of the lowest are left out. [default: 1]"),
    wish("--minmax-high", type=click.IntRange(min=0), metavar="N",
         help="Of minmax: how many of the highest are left out. [default: 1]"),
    wish("--scale", type=click.Choice(["flux", "level", "none"]),
         help="What brings lights to one level before they are compared. [default: flux]"),
    wish("--weights", type=click.Choice(["none", "noise"]),
         help="Weigh lights in a mean by the inverse variance of their sky: for faint stars. "
         "[default: none]"),
    wish("--cosmic-rays", type=click.Choice(["auto", "compare", "lacosmic", "off"]),
         help="How they are found: by comparing frames, or by sharp edges in each. "
         "[default: compared from three frames on]"),
    wish("--sigma", type=click.FloatRange(min=0), metavar="X",
         help="How many standard deviations of the background sample a row must stand out. "
         "[default: 4]"),
    wish("--background-rows", type=RowRange(),
         help="The rows of the background sample. [default: 1:50]"),
    wish("--rows", type=RowRange(), help="Take these rows as the spectrum."),
    wish("--detect", type=click.Choice(["auto", "threshold", "robust"]),
         help="By the procedure's threshold, or by a rule that finds weak and emission spectra "
         "too. [default: auto, the second where the first finds nothing]"),
    wish("--near-row", type=click.IntRange(min=1), metavar="ROW",
         help="Of several spectra take the one nearest to this row, not the brightest."),
    wish("--all-spectra", is_flag=True, help="Take each spectrum that is found."),
    wish("--trace", type=click.Choice(["fit", "straight"]),
         help="Whether the extraction follows the star's row along the columns. [default: fit]"),
    wish("--extraction", type=click.Choice(["optimal", "sum", "mean"]),
         help="How rows become a spectrum. [default: optimal]"),
    wish("--sky-rows", type=RowRange(),
         help="Take these rows as the sky; the spectrum's own are left out."),
    wish("--sky-model", type=click.Choice(["mean", "median", "linear", "band"]),
         help="The sky under the spectrum, from both sides of it. [default: linear]"),
    wish("--per-frame", is_flag=True, help="Extract each frame too: TARGET_frames.fits."),
    wish("--no-dark", is_flag=True, help="Subtract no dark; only the bias, where there is one."),
    wish("--scale-dark", is_flag=True,
         help="Scale a longer dark where none fits in exposure; a bias is needed."),
    wish("--no-flat", is_flag=True, help="Divide by no flat."),
    wish("--no-overscan", is_flag=True, help="Neither subtract the overscan nor trim."),
    wish("--electrons", is_flag=True, help="Images and spectra in electrons."),
    wish("--no-sky", is_flag=True, help="Do not subtract the sky."),
    wish("--bad-pixels", metavar="FILE|dark|flat|dark+flat",
         help="A FITS image that is not 0 where pixels are bad, or those the masters betray."),
    wish("--save-calibrated", is_flag=True, help="Write the calibrated frames too."),
    wish("--memory", type=Size(),
         help="What the process may take, such as 512M: images, and bands of frames."),
    wish("--recipe", metavar="FILE.toml", type=_PATH,
         help="Settings from a file: any field of arrayred.Recipe."),
    wish("--reference", is_flag=True, help="Follow the published procedure to the letter."),
)  # fmt: skip


def about_the_night(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options about its night."""
    for option in reversed(_NIGHT):
        command = option(command)
    return command


def about_the_recipe(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options about what is done with a night."""
    for option in reversed(_RECIPE):
        command = option(command)
    return command


def night_file_of(wishes: Wishes, out: Path | None = None) -> NightFile:
    """Return what is known of the night: the night file, and the options over it.

    Parameters
    ----------
    wishes : the options.
    out : the output folder; its night.toml counts where no other file is named.
    """
    from arrayred.config import NightFile
    from arrayred.config.night_file import read_night_file

    beside = None if out is None else out / BESIDE
    file = NightFile()
    if "night_file" in wishes:
        file = read_night_file(wishes["night_file"])
    elif beside is not None and beside.is_file():
        file = read_night_file(beside)
    masters = {kind: wishes[f"master_{kind}"] for kind in ("bias", "dark", "flat")
               if f"master_{kind}" in wishes}  # fmt: skip
    return dataclasses.replace(
        file,
        instrument=wishes.get("instrument", file.instrument),
        frames=wishes.get("frames", file.frames),
        exclude=(*file.exclude, *wishes.get("exclude", ())),
        calibrations=(*file.calibrations, *wishes.get("calibrations", ())),
        masters={**file.masters, **masters},
        unsigned=wishes.get("unsigned", file.unsigned),
    )


def settle_settings(wishes: Wishes, file: NightFile) -> tuple[Recipe, NightFile]:
    """Return the recipe, and the night file without what the options decide."""
    from arrayred.config import Recipe

    if "recipe" in wishes and "reference" in wishes:
        raise UsageError("--recipe and --reference exclude each other", hint="Give one of them.")
    recipe = Recipe.from_toml(wishes["recipe"]) if "recipe" in wishes else Recipe()
    decided = {field: wishes[name] for name, field in _FIELDS.items() if name in wishes}
    decided |= {field: value for name, (field, value) in _FLAGS.items() if wishes.get(name)}
    if wishes.get("reference"):
        recipe, file = Recipe.reference(), file.without(dataclasses.asdict(recipe))
    else:
        file = file.without(decided)
        recipe = recipe.replace(**file.recipe)
    recipe = recipe.replace(**decided)
    require_sense(wishes, recipe, file)
    return recipe, file


def cards_of(wishes: Wishes) -> dict[str, Any]:
    """Return the cards that the options give, checked."""
    from arrayred.config.night_file import CARDS
    from arrayred.io.products import checked_cards

    named = {keyword: wishes[name] for name, keyword in CARDS.items() if name in wishes}
    return checked_cards({**named, **dict(wishes.get("cards", ()))})


def order_of(wishes: Wishes, out: Path) -> Order:
    """Return what is to be written to an output folder; what was answered before is not read."""
    from arrayred.batch import Order

    return Order(
        out,
        cards_of(wishes),
        overwrite=wishes.get("overwrite", False),
        figures=not wishes.get("no_figures", False),
        targets=tuple(wishes.get("targets", ())),
        limit=wishes.get("memory"),
        force=wishes.get("force", False),
        verify=wishes.get("verify", False),
    )


def opened(folder: Path, file: NightFile, wishes: Wishes) -> Night:
    """Open a night, counting on a terminal."""
    from arrayred.night import open_night

    depth, caching = wishes.get("depth", 3), caching_of(wishes)
    return open_night(folder, file, depth=depth, advance=counting(), caching=caching)


def one_of(nights: Sequence[Path]) -> Path:
    """Return the only night; raise UsageError of several, or of frames instead of their folder."""
    require_folders(nights)
    if len(nights) > 1:
        raise UsageError(f"{len(nights)} nights were named", hint="Name one at a time.")
    return nights[0]


def require_folders(nights: Sequence[Path]) -> None:
    """Raise UsageError if frames are named, as by a glob, instead of their folder."""
    if len(nights) > 1 and all(path.is_file() for path in nights):
        raise UsageError(
            f"{len(nights)} files were named, but a night is a folder of frames",
            path=nights[0],
            hint=f"Name the folder, {printable(str(nights[0].parent))}.",
        )
