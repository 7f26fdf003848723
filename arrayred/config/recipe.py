"""The settings of a reduction: `Recipe`.

Each field is declared once, by `setting`: its type and default, and in a `Setting` its help, its
section, its command-line option, and the options that it excludes or needs. The options of the
commands, the keys of settings files, the keys that identify finished products, ``help(Recipe)`` and
the table of all settings in the documentation are made from that. So a new field is declared here,
and used by the pipeline and by its step.

This module imports neither click nor numpy, since the help of a command reads it.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, Concatenate, Literal, ParamSpec, Self, get_args, get_origin, get_type_hints

from arrayred.config.toml import errors_name, read_toml, require_known
from arrayred.errors import UsageError

LampName = Literal[
    "Ne", "Ar", "He", "Hg", "Kr", "Xe", "Cd", "Ne+Ar", "He+Ar", "Hg+Ar", "Hg+Cd", "Ne+Xe", "Cu+Ar",
    "Fe+Ar", "Ne+Ar+He", "Hg+Ne+Ar", "Cu+Ne+Ar"
]  # fmt: skip
"""Lamps that are known, by the elements that shine in them; the simplest first."""
Method = Literal["average", "median"]
Combination = Literal["average", "median", "clip", "minmax"]
Overscan = Literal["mean", "median", "off"]
RowRange = tuple[int, int]
BETRAYED_BY = {"dark": ("dark",), "flat": ("flat",), "dark+flat": ("dark", "flat")}
"""Values of `bad_pixels` other than a file: the masters in which bad pixels are detected."""
HelpSection = Literal[
    "Frames",
    "Calibration",
    "Combination and cosmic rays",
    "Detection",
    "Extraction and sky",
    "Wavelengths",
    "Products",
]
"""Headings of the help and of the documentation."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The description of a field of `Recipe`, in addition to its type and default.

    Parameters
    ----------
    section : its heading in the help and in the documentation.
    help : one sentence: the help of its option, and the first of its entry in the documentation.
    more : further sentences for the documentation, such as the meaning of each choice.
    unit : of a number.
    at_least : the smallest number allowed.
    option : its command-line option; "": none, it is set in settings files and Python only.
    sets : the value that its option sets, if that is a flag; None: it takes a value.
    option_help : replaces `help` in the help of a flag that sets something else.
    metavar : the name of the value in the help; by default its type or choices.
    default_help : the default as shown in the help; by default its value.
    excludes : options that cannot be used together with this one, by name.
    only_with : a field and the value that it must have for this option to have an effect.
    per_night : whether it cannot differ between the targets of a night.
    of_masters : whether master biases, darks and flats depend on it.
    """

    section: HelpSection
    help: str
    more: str = ""
    unit: str = ""
    at_least: float = 0
    option: str = ""
    sets: object = None
    option_help: str = ""
    metavar: str | None = None
    default_help: str = ""
    excludes: tuple[str, ...] = ()
    only_with: tuple[str, str] | None = None
    per_night: bool = False
    of_masters: bool = False


P = ParamSpec("P")


def _declared_with(make: Callable[P, Setting]) -> Callable[Concatenate[Any, P], Any]:
    """Return the function that makes a field from its default and the parameters of a `Setting`."""

    def declare(default: Any, /, *args: P.args, **known: P.kwargs) -> Any:
        return field(default=default, metadata={"setting": make(*args, **known)})

    return declare


setting = _declared_with(Setting)
"""A field of `Recipe`: its default, and the parameters of its `Setting` by name."""


@dataclass(frozen=True)
class Recipe:
    """What to do with a night.

    Every field is a key of a recipe file and of ``[recipe]`` in a night file.

    Examples
    --------
    >>> Recipe(n_sigma=5).n_sigma
    5
    """

    max_frame_mb: float = setting(
        2048.0,
        section="Frames",
        help="Largest frame size; larger files are refused.",
        unit="MB",
        per_night=True,
    )
    keep_duplicates: bool = setting(
        False,
        section="Frames",
        help="Use duplicate frames as often as they occur, instead of once.",
        per_night=True,
    )
    literal_types: bool = setting(
        False,
        section="Frames",
        help="Keep the header type light even if other keywords, OBJECT or the file name indicate "
        "a dark or bias.",
        per_night=True,
    )

    dark_method: Method = setting(
        "median",
        section="Calibration",
        help="Method for combining the darks of one exposure into a master dark.",
        per_night=True,
        of_masters=True,
    )
    dark: bool = setting(
        True,
        section="Calibration",
        help="Subtract a master dark.",
        more="Without it only a bias is subtracted, if there is one.",
        option="--no-dark",
        sets=False,
        option_help="Do not subtract a dark; only the bias, if there is one.",
        excludes=("master_dark", "scale_dark"),
    )
    dark_tolerance: float = setting(
        0.5,
        section="Calibration",
        help="Largest difference between the exposure times of a light frame and its dark, "
        "inclusive.",
        unit="s",
    )
    scale_dark: Literal["no", "down", "both"] = setting(
        "no",
        section="Calibration",
        help="Scale a dark of another exposure if none matches (needs a bias).",
        more='"down": longer darks only; "both": shorter ones too, which increases their noise.',
        option="--scale-dark",
        sets="down",
        option_help="Scale a longer dark if none matches the exposure (needs a bias).",
    )
    flat: bool = setting(
        True,
        section="Calibration",
        help="Divide by a master flat, if one matches.",
        option="--no-flat",
        sets=False,
        option_help="Do not divide by a flat.",
        excludes=("master_flat",),
    )
    overscan: Overscan = setting(
        "mean",
        section="Calibration",
        help="Statistic of each row's overscan that is subtracted; frames are then trimmed.",
        more='The instrument file or the headers must give the sections. "off": frames stay whole.',
        option="--no-overscan",
        sets="off",
        option_help="Neither subtract the overscan nor trim.",
        per_night=True,
        of_masters=True,
    )
    temperature_tolerance: float = setting(
        3.0,
        section="Calibration",
        help="Largest difference between the CCD temperatures of a light frame and its dark.",
        more="More than 1 °C gives a note.",
        unit="°C",
    )
    bad_pixels: str = setting(
        "",
        section="Calibration",
        help="Bad-pixel mask (nonzero = bad), or detect bad pixels in the master dark and/or flat.",
        more='A FITS image, with a path relative to the settings file; "": none.',
        option="--bad-pixels",
        metavar="FILE|dark|flat|dark+flat",
    )

    combine: Combination = setting(
        "average",
        section="Combination and cosmic rays",
        help="Method for combining light frames.",
        more='For the spectrum, "median" is of scaled frames, "clip" the mean without outliers, '
        '"minmax" the mean without the extremes of each pixel. The text tables use the average '
        "or median of the published procedure.",
        option="--combine",
    )
    clip_sigma: float = setting(
        3.0,
        section="Combination and cosmic rays",
        help="Rejection threshold for clip, in sigma of a value's noise.",
        at_least=1,
        option="--clip-sigma",
        only_with=("combine", "clip"),
    )
    minmax_low: int = setting(
        1,
        section="Combination and cosmic rays",
        help="Number of lowest values that minmax rejects.",
        option="--minmax-low",
        only_with=("combine", "minmax"),
    )
    minmax_high: int = setting(
        1,
        section="Combination and cosmic rays",
        help="Number of highest values that minmax rejects.",
        option="--minmax-high",
        only_with=("combine", "minmax"),
    )
    scale: Literal["flux", "level", "none"] = setting(
        "flux",
        section="Combination and cosmic rays",
        help="Normalise light frames before comparing them.",
        more='"flux": by the star\'s flux above the sky; "level": by a constant.',
        option="--scale",
    )
    weights: Literal["none", "noise"] = setting(
        "none",
        section="Combination and cosmic rays",
        help="Weight light frames in a mean by the inverse variance of their sky: for faint stars.",
        more='"none" is best for a bright star.',
        option="--weights",
    )
    cosmic_rays: Literal["auto", "compare", "lacosmic", "off"] = setting(
        "auto",
        section="Combination and cosmic rays",
        help="Detect cosmic rays by comparing frames, by edges in each (L.A.Cosmic), or not at "
        "all.",
        more='"auto" compares from two frames on. Cosmic rays are excluded from the spectrum, '
        "never from the procedure's text tables.",
        option="--cosmic-rays",
        default_help="auto, compare from two frames on",
    )

    n_sigma: float = setting(
        4.0,
        section="Detection",
        help="Detection threshold of a row's mean above the background, in standard deviations of "
        "the background pixels.",
        option="--sigma",
    )
    background_rows: RowRange = setting(
        (1, 50),
        section="Detection",
        help="Rows of the background sample.",
        option="--background-rows",
    )
    skip_last_column: bool = setting(
        False,
        section="Detection",
        help="Exclude the last column from the background sample.",
    )
    max_gap: int = setting(
        5,
        section="Detection",
        help="Number of adjacent rows below the threshold that do not split a spectrum.",
    )
    whole_span: bool = setting(
        False,
        section="Detection",
        help="Use all rows from the lowest to the highest bright one, instead of the contiguous "
        "run with the brightest row.",
    )
    rows: RowRange | None = setting(
        None,
        section="Detection",
        help="Aperture rows, instead of detecting them.",
        option="--rows",
    )
    detect: Literal["auto", "threshold", "robust"] = setting(
        "auto",
        section="Detection",
        help="Detection method; robust also finds faint and emission-line spectra.",
        more='"threshold" is the published procedure; "auto" uses robust if it finds nothing.',
        option="--detect",
        default_help="auto, robust if threshold finds nothing",
    )
    near_row: int | None = setting(
        None,
        section="Detection",
        help="Extract the spectrum nearest to this row instead of the brightest.",
        at_least=1,
        option="--near-row",
        metavar="ROW",
    )
    all_spectra: bool = setting(
        False,
        section="Detection",
        help="Extract all detected spectra.",
        option="--all-spectra",
        sets=True,
    )

    trace: Literal["fit", "straight"] = setting(
        "fit",
        section="Extraction and sky",
        help="Follow the trace along the dispersion axis, or extract straight rows.",
        option="--trace",
    )
    extraction: Literal["optimal", "sum", "mean"] = setting(
        "optimal",
        section="Extraction and sky",
        help="Method for extracting a spectrum from its rows.",
        more='"optimal" weights (Horne 1986), "sum", or "mean" of the rows.',
        option="--extraction",
    )
    sky_rows: RowRange | None = setting(
        None,
        section="Extraction and sky",
        help="Sky rows; aperture rows are excluded.",
        option="--sky-rows",
    )
    sky_model: Literal["mean", "median", "linear", "band"] = setting(
        "linear",
        section="Extraction and sky",
        help="Sky model under the spectrum, from both sides.",
        more='Clipped "mean", "median" or "linear" fit along the slit; or "band", the single sky '
        "region of the published procedure.",
        option="--sky-model",
    )
    sky: bool = setting(
        True,
        section="Extraction and sky",
        help="Subtract the sky.",
        option="--no-sky",
        sets=False,
        option_help="Do not subtract the sky.",
        excludes=("sky_rows", "sky_model"),
    )
    sky_offset: int = setting(
        50,
        section="Extraction and sky",
        help="Number of rows from the last aperture row to the sky region of the published "
        "procedure.",
    )
    sky_side: Literal["auto", "above", "below", "clipped"] = setting(
        "auto",
        section="Extraction and sky",
        help="Side of the published procedure's sky region.",
        more='"auto": above, or below if there is no room; "clipped": above, cut at the '
        "edge of the image without a warning, as in the published procedure.",
    )
    sky_per_bright_row: bool = setting(
        False,
        section="Extraction and sky",
        help="Divide the sky-subtracted sum by the number of bright rows, instead of the number "
        "of rows summed.",
    )

    wavelength: bool = setting(
        True,
        section="Wavelengths",
        help="Extract arc (lamp) frames and calibrate wavelengths.",
        more="If false, only arc frames named in the night file are extracted.",
        option="--no-wavelength",
        sets=False,
        option_help="Ignore arc frames: no arc spectra, no wavelengths.",
    )
    lamp: Literal["auto", LampName] = setting(
        "auto",
        section="Wavelengths",
        help="Elements of the lamp, e.g. Ne or Ne+Ar; auto: the simplest lamp that fits.",
        option="--lamp",
        metavar="NAME",
    )
    lamp_dispersion: float | None = setting(
        None,
        section="Wavelengths",
        help="Approximate dispersion (within 5%), if needed to identify the lamp.",
        unit="Angstrom/pixel",
        option="--dispersion",
    )
    lamp_center: float | None = setting(
        None,
        section="Wavelengths",
        help="Approximate wavelength of the middle column, if needed to identify the lamp.",
        unit="Angstrom",
        option="--center",
    )
    lamp_solution: str = setting(
        "",
        section="Wavelengths",
        help="Known dispersion solution (TARGET_solution.toml) to start from.",
        option="--solution",
        metavar="FILE",
    )
    wavelength_order: int | None = setting(
        None,
        section="Wavelengths",
        help="Order of the dispersion solution, 1 to 5; by default chosen by leave-one-out error.",
        option="--order",
        at_least=1,
    )
    zero_point: Literal["none", "sky", "oxygen", "star"] = setting(
        "none",
        section="Wavelengths",
        help="Lines to measure the wavelength zero point, which is then applied. Sky and oxygen "
        "lines are always measured.",
        option="--zero-point",
    )
    star_velocity: float | None = setting(
        None,
        section="Wavelengths",
        help="Barycentric velocity of the star, for --zero-point star.",
        more="Positive: receding.",
        unit="km/s",
        option="--star-velocity",
        at_least=-1000,
    )
    heliocentric: bool = setting(
        False,
        section="Wavelengths",
        help="Correct the wavelengths to the barycentre of the solar system.",
        option="--heliocentric",
        sets=True,
    )

    per_frame: bool = setting(
        False,
        section="Products",
        help="Extract each frame, too: TARGET_frames.fits.",
        option="--per-frame",
        sets=True,
    )
    units: Literal["adu", "electron"] = setting(
        "adu",
        section="Products",
        help="Unit of images and spectra; text tables are always in ADU.",
        more='"electron" needs the gain.',
        option="--electrons",
        sets="electron",
        option_help="Write images and spectra in electrons (needs the gain).",
    )
    calibrated: bool = setting(
        False,
        section="Products",
        help="Write the calibrated frames, too.",
        more="With noise and flags.",
        option="--save-calibrated",
        sets=True,
    )
    output_dtype: Literal["float32", "float64"] = setting(
        "float32",
        section="Products",
        help="Data type of images; tables are always float64.",
        of_masters=True,
    )

    def __post_init__(self) -> None:
        """Check every field by its annotation, and the fields that exclude each other."""
        for name in SETTINGS:
            check_value(name, getattr(self, name))
        if self.weights != "none" and self.combine in ("median", "minmax"):
            raise UsageError(
                f"weights apply to a mean of frames, but combine is {self.combine!r}",
                keyword="weights",
                value=self.weights,
                hint="Use --combine average or clip, or remove --weights.",
            )
        chosen = self.near_row is not None or self.all_spectra
        if chosen and (self.rows is not None or self.whole_span):
            name = "all_spectra" if self.all_spectra else "near_row"
            given = "rows are given" if self.rows is not None else "the whole span is taken"
            raise UsageError(
                f"{name} chooses among detected spectra, but {given}",
                keyword=name,
                hint="Remove one of the two.",
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
        for name in SETTINGS:
            cells = name, escape(repr(getattr(self, name)))
            marks = ("<b>", "</b>") if name in changed else ("", "")
            rows.append("".join(f"<td>{cell.join(marks)}</td>" for cell in cells))
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<details><summary>{escape(repr(self))}</summary><table>{body}</table></details>"

    def changed(self, other: Recipe | None = None) -> dict[str, Any]:
        """Return the fields that differ from another recipe's, or from their defaults, by name."""
        usual = vars(Recipe() if other is None else other)
        return {name: value for name, value in vars(self).items() if value != usual[name]}

    @classmethod
    def reference(cls) -> Self:
        """Return the recipe that reproduces the published procedure exactly.

        Duplicate frames count twice, and the header type light is kept. The background sample
        excludes the last column. The spectrum spans the lowest to the highest bright row, and is
        the sum of straight rows. The sky region is cut silently at the edge of the image, and the
        sky-subtracted sum is divided by the number of bright rows. There is no flat-field,
        overscan or cosmic-ray correction. Images are float64.
        """
        return cls(
            keep_duplicates=True,
            literal_types=True,
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
            wavelength=False,
            output_dtype="float64",
        )

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read a recipe from a TOML file; missing fields have their defaults."""
        settings = read_toml(path)
        with errors_name(path):
            if "recipe" in settings:
                raise UsageError(
                    "A table [recipe] is for night files only",
                    keyword="recipe",
                    hint="Remove that line here, or pass the file with --night-file.",
                )
            return cls().replace(**paths_beside(path, settings))

    def replace(self, **changes: Any) -> Self:
        """Return the recipe with some fields changed, checked by name, type and choice.

        Raises
        ------
        UsageError
            A field does not exist, or its value is not one of the choices or not in range.
        """
        if not changes:
            return self
        for name, value in changes.items():
            require_known(name, set(SETTINGS), "setting")
            check_value(name, value)
        pairs: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
        return dataclasses.replace(self, **pairs)


SETTINGS: Mapping[str, Setting] = {
    declared.name: declared.metadata["setting"] for declared in dataclasses.fields(Recipe)
}
"""The description of each field of `Recipe`, by name."""
PER_NIGHT = frozenset(name for name, known in SETTINGS.items() if known.per_night)
"""Settings that cannot differ between the targets of a night."""
OF_MASTERS = tuple(name for name, known in SETTINGS.items() if known.of_masters)
"""Settings that master biases, darks and flats depend on."""
IN_WAVELENGTH = {
    known.option.removeprefix("--").replace("-", "_"): name
    for name, known in SETTINGS.items()
    if known.section == "Wavelengths" and known.option and name != "wavelength"
}
"""Settings that `arrayred wavelength` shares with `reduce`, by the names of their options: the keys
of a table [wavelength]."""


def default_of(name: str) -> Any:
    """Return the default of a field of `Recipe`, which is an attribute of the class."""
    return getattr(Recipe, name)


@cache
def _annotations() -> dict[str, Any]:
    return get_type_hints(Recipe)


def type_of(name: str) -> tuple[Any, tuple[Any, ...]]:
    """Return the type of a field of `Recipe` when it is not None, and its choices, if any.

    Examples
    --------
    >>> type_of("near_row"), type_of("units")
    ((<class 'int'>, ()), (<class 'str'>, ('adu', 'electron')))
    """
    kind = _annotations()[name]
    if is_optional(name):
        kind = get_args(kind)[0]
    return (str, get_args(kind)) if get_origin(kind) is Literal else (kind, ())


def value_name(name: str) -> str:
    """Return the name of an option's value in the help; "" for a flag.

    Examples
    --------
    >>> value_name("n_sigma"), value_name("units"), value_name("sky_model")
    ('X', '', 'mean|median|linear|band')
    """
    known, (kind, choices) = SETTINGS[name], type_of(name)
    if known.sets is not None:
        return ""
    return known.metavar or "|".join(choices) or {int: "N", float: "X"}.get(kind, "A:B")


def is_optional(name: str) -> bool:
    """Return whether a field of `Recipe` may be None."""
    return type(None) in get_args(_annotations()[name])


def paths_beside(path: Path | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings from a file, their paths resolved against that file's folder."""
    found = dict(settings)
    for key in ("bad_pixels", "lamp_solution"):
        named = found.get(key, "")
        if path is not None and isinstance(named, str) and named not in ("", *BETRAYED_BY):
            found[key] = str(path.parent / Path(named).expanduser())
    return found


def check_value(name: str, value: object) -> None:
    """Raise UsageError unless a value fits the annotation of its field of Recipe."""
    if value is None and is_optional(name):
        return
    (kind, choices), least = type_of(name), SETTINGS[name].at_least
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if choices:
        fits, wanted = value in choices, f"one of {', '.join(choices)}"
    elif kind is bool:
        fits, wanted = isinstance(value, bool), "true or false"
    elif kind is str:
        fits, wanted = isinstance(value, str), "a string"
    elif kind is int:
        fits = is_number and isinstance(value, int) and value >= least
        wanted = f"an integer of at least {least:g}"
    elif kind is float:
        fits = is_number and least <= float(str(value)) < float("inf")
        wanted = f"a number of at least {least:g}"
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


# The meaning of the fields: for the documentation, and the parameters of ``help(Recipe)``.


def meaning_of(name: str) -> str:
    """Return the description of a field, with the choices that its option does not show."""
    known, (_, choices) = SETTINGS[name], type_of(name)
    sentences = [known.help, known.more]
    if choices and (not known.option or known.sets is not None):
        sentences.append(f"Choices: {', '.join(choices)}.")
    if known.per_night:
        sentences.append("The same for all targets of a night.")
    return " ".join(sentence for sentence in sentences if sentence)


def _with_parameters(docstring: str) -> str:
    """Return the docstring of `Recipe` with a section Parameters before its Examples."""
    before, examples, after = docstring.partition("    Examples\n")
    parameters = "\n".join(
        textwrap.fill(
            f"{name} : {meaning_of(name)}" + (f" Unit: {known.unit}." if known.unit else ""),
            width=100,
            initial_indent="    ",
            subsequent_indent="        ",
            break_on_hyphens=False,
        )
        for name, known in SETTINGS.items()
    )
    return f"{before}    Parameters\n    ----------\n{parameters}\n\n{examples}{after}"


if Recipe.__doc__ is not None:  # python -OO has none
    Recipe.__doc__ = _with_parameters(Recipe.__doc__)
