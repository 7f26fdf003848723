"""What I want done with a night: `Recipe`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from arrayred.config.toml import errors_name, read_toml, require_known
from arrayred.errors import UsageError

Method = Literal["average", "median"]
Combination = Literal["average", "median", "clip", "minmax"]
Overscan = Literal["mean", "median", "off"]
RowRange = tuple[int, int]
BETRAYED_BY = {"dark": ("dark",), "flat": ("flat",), "dark+flat": ("dark", "flat")}
"""What `bad_pixels` may be instead of a file: the masters in which bad pixels stand out."""
PER_NIGHT = frozenset({"dark_method", "keep_duplicates", "max_frame_mb", "overscan"})
"""Settings that cannot differ between the targets of a night."""


@dataclass(frozen=True)
class Recipe:
    """What to do with a night.

    Parameters
    ----------
    dark_method : how the darks of one exposure become a master dark.
    dark : subtract a master dark; without it only a bias is subtracted, where there is one.
    dark_tolerance : largest difference between the exposures of a light and its dark, s, inclusive.
    scale_dark : where no dark fits in exposure, scale one that does not: "down" from a longer one
        only, "both" from a shorter one too, whose noise grows; a bias is needed for it.
    overscan : subtract the level of the overscan, and trim, where the instrument file or the
        headers tell the sections: "mean" or "median" of each row; "off": the frames stay whole.
    flat : divide by a master flat, where one fits.
    temperature_tolerance : largest difference between the temperatures of a light and its dark,
        deg C; more than 1 is remarked on.
    keep_duplicates : use a frame as often as it is in the folder.
    max_frame_mb : a frame of more megabytes is taken for a mistake.
    cosmic_rays : how they are found: "compare" the frames of a target with each other; "lacosmic",
        by their sharp edges in each frame; "auto": compared from three frames on; or "off". What
        is found is left out of the spectrum, never of the procedure's text tables.
    detect : how the rows of a spectrum are found: the procedure's "threshold"; "robust", which also
        finds what is weak or all lines; "auto": the threshold, and if that finds nothing the other.
    near_row : of several spectra take the one nearest to this row; None: the brightest.
    all_spectra : extract each spectrum that is found.
    combine : how the calibrated lights of a target become one image. The procedure's own, of which
        the text tables are made, is their average, or their median; the best estimate beside it is
        the median of frames scaled to each other, "clip", the mean of what their noise explains, or
        "minmax", the mean without the extremes of each pixel.
    clip_sigma : of "clip": how many standard deviations of its noise a value may lie off.
    minmax_low, minmax_high : of "minmax": how many of the lowest and of the highest are left out.
    scale : what brings frames to one level before values are compared: the star's "flux" above the
        sky; their "level", a constant; "none".
    weights : of frames in a mean: "none", which is best for a bright star; "noise", the inverse
        variance of the sky, for a faint one.
    n_sigma : a row belongs to the spectrum if its mean exceeds the background's mean by this many
        standard deviations of the background's pixels.
    background_rows : the rows of the background sample.
    skip_last_column : leave the last column out of the background sample.
    max_gap : dark rows that do not part a spectrum.
    whole_span : take every row from the lowest to the highest bright one, whatever lies between,
        instead of the run that holds the brightest row.
    rows : the rows of the spectrum; None: find them.
    trace : "fit" lets the extraction follow the star's row along the columns; "straight" does not.
    extraction : how the rows become a spectrum: with "optimal" weights; by their "sum" or "mean".
    per_frame : extract each frame by itself as well.
    sky : subtract the sky.
    sky_model : the sky under the spectrum: the clipped "mean", the "median" or a "linear" fit along
        the rows of bands on both sides; or "band", the procedure's one band.
    sky_rows : the rows of the sky band; None: choose them.
    sky_offset : how many rows above the spectrum's last row the sky band begins.
    sky_side : where the sky band lies; "auto" is above, or below where above is off the image;
        "clipped" is above, cut at the image's edge without a word, as the procedure does.
    sky_per_bright_row : divide the sky-subtracted sum by the number of bright rows instead of the
        number of rows summed.
    calibrated : keep the calibrated frames as well, each with its noise and flags.
    bad_pixels : a FITS image whose pixels other than 0 are bad, beside the file that names it;
        "dark", "flat", "dark+flat": those that behave unlike their neighbours in these masters;
        "": none.
    units : of images and spectra; "electron" needs the gain. The text tables are in adu always.
    output_dtype : the type in which images are written. Tables are float64 always.

    Examples
    --------
    >>> Recipe(n_sigma=5).n_sigma
    5
    """

    dark_method: Method = "median"
    dark: bool = True
    dark_tolerance: float = 0.5
    scale_dark: Literal["no", "down", "both"] = "no"
    overscan: Overscan = "mean"
    flat: bool = True
    temperature_tolerance: float = 3.0
    max_frame_mb: float = 2048.0
    keep_duplicates: bool = False
    cosmic_rays: Literal["auto", "compare", "lacosmic", "off"] = "auto"
    detect: Literal["auto", "threshold", "robust"] = "auto"
    near_row: int | None = None
    all_spectra: bool = False
    combine: Combination = "average"
    clip_sigma: float = 3.0
    minmax_low: int = 1
    minmax_high: int = 1
    scale: Literal["flux", "level", "none"] = "flux"
    weights: Literal["none", "noise"] = "none"
    n_sigma: float = 4.0
    background_rows: RowRange = (1, 50)
    skip_last_column: bool = False
    max_gap: int = 5
    whole_span: bool = False
    rows: RowRange | None = None
    trace: Literal["fit", "straight"] = "fit"
    extraction: Literal["optimal", "sum", "mean"] = "optimal"
    per_frame: bool = False
    sky: bool = True
    sky_model: Literal["mean", "median", "linear", "band"] = "linear"
    sky_rows: RowRange | None = None
    sky_offset: int = 50
    sky_side: Literal["auto", "above", "below", "clipped"] = "auto"
    sky_per_bright_row: bool = False
    calibrated: bool = False
    bad_pixels: str = ""
    units: Literal["adu", "electron"] = "adu"
    output_dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        """Check every field by its annotation, and those of the combination together."""
        for setting in dataclasses.fields(self):
            check_value(setting.name, getattr(self, setting.name))
        if self.weights != "none" and self.combine in ("median", "minmax"):
            raise UsageError(
                f"weights are of frames in a mean, and combine is {self.combine!r}",
                keyword="weights",
                value=self.weights,
                hint="Combine by average or clip, or leave the weights.",
            )
        chosen = self.near_row is not None or self.all_spectra
        if chosen and (self.rows is not None or self.whole_span):
            wish = "all_spectra" if self.all_spectra else "near_row"
            given = "rows are given" if self.rows is not None else "the whole span is taken"
            raise UsageError(
                f"{wish} chooses among the spectra that are found, but {given}",
                keyword=wish,
                hint="Leave one of the two.",
            )
        if not self.clip_sigma >= 1:
            raise UsageError(
                f"clip_sigma {self.clip_sigma:g} would leave out more than it keeps",
                keyword="clip_sigma",
                value=self.clip_sigma,
                hint="Give 1 or more; 3 is usual.",
            )

    def __repr__(self) -> str:
        """Return the fields that are not their defaults.

        Examples
        --------
        >>> Recipe(combine="median", n_sigma=4.0)
        Recipe(combine='median')
        """
        told = (f"{name}={value!r}" for name, value in self.changed().items())
        return f"Recipe({', '.join(told)})"

    def _repr_html_(self) -> str:
        """Return the fields for a notebook, those that are not their defaults in bold."""
        changed = self.changed()
        rows = []
        for setting in dataclasses.fields(self):
            cells = setting.name, escape(repr(getattr(self, setting.name)))
            marks = ("<b>", "</b>") if setting.name in changed else ("", "")
            rows.append("".join(f"<td>{cell.join(marks)}</td>" for cell in cells))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<details><summary>{escape(repr(self))}</summary><table>{body}</table></details>"

    def changed(self) -> dict[str, Any]:
        """Return the fields that are not their defaults, by name."""
        return {
            setting.name: getattr(self, setting.name)
            for setting in dataclasses.fields(self)
            if getattr(self, setting.name) != setting.default
        }

    @classmethod
    def reference(cls) -> Self:
        """Return the published procedure to the letter.

        Its quirks: a frame that is there twice counts twice; the background sample leaves out the
        last column; the spectrum spans the lowest to the highest bright row; the sky band is cut
        at the image's edge unsaid; the sky-subtracted sum is divided by the number of bright rows.
        It knows neither flats nor overscans nor cosmic rays, one straight band of rows and their
        sum. Images are float64.
        """
        return cls(
            keep_duplicates=True,
            overscan="off",
            flat=False,
            cosmic_rays="off",
            detect="threshold",
            trace="straight",
            extraction="sum",
            sky_model="band",
            skip_last_column=True,
            whole_span=True,
            sky_side="clipped",
            sky_per_bright_row=True,
            output_dtype="float64",
        )

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read a recipe from a TOML file; what it leaves out keeps its default."""
        settings = read_toml(path)
        with errors_name(path):
            if "recipe" in settings:
                raise UsageError(
                    "A table [recipe] is of night files",
                    keyword="recipe",
                    hint="Leave that line out here, or give the file with --night-file.",
                )
            return cls().replace(**paths_beside(path, settings))

    def replace(self, **changes: Any) -> Self:
        """Return the recipe with some fields changed, checked by name, type and choice.

        Raises
        ------
        UsageError
            A field does not exist, or its value is none of the choices or no valid range.
        """
        if not changes:
            return self
        known = {f.name for f in dataclasses.fields(self)}
        for name, value in changes.items():
            require_known(name, known, "setting")
            check_value(name, value)
        pairs: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
        return dataclasses.replace(self, **pairs)


def paths_beside(path: Path | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings that stand in a file, paths in them as seen from here."""
    named = settings.get("bad_pixels", "")
    if path is None or not isinstance(named, str) or named in ("", *BETRAYED_BY):
        return dict(settings)
    return {**settings, "bad_pixels": str(path.parent / Path(named).expanduser())}


@cache
def _hints() -> dict[str, Any]:
    return get_type_hints(Recipe)


def check_value(name: str, value: object) -> None:
    """Raise UsageError unless a value fits the annotation of its field of Recipe."""
    kind = _hints()[name]
    if type(None) in get_args(kind):
        if value is None:
            return
        kind = get_args(kind)[0]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is bool:
        fits, wanted = isinstance(value, bool), "true or false"
    elif get_origin(kind) is Literal:
        fits, wanted = value in get_args(kind), f"one of {', '.join(get_args(kind))}"
    elif kind is str:
        fits, wanted = isinstance(value, str), "a text"
    elif kind is int:
        fits = is_number and isinstance(value, int) and value >= 0
        wanted = "a whole number from 0"
    elif kind is float:
        fits, wanted = is_number and 0 <= float(str(value)) < float("inf"), "a number from 0"
    else:
        fits = _is_range(value)
        wanted = "two rows [first, last], 1 <= first <= last"
    if not fits:
        raise UsageError(f"{name} must be {wanted}, not {value!r}", keyword=name, value=value)


def _is_range(value: object) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    first, last = value
    return type(first) is type(last) is int and 1 <= first <= last
