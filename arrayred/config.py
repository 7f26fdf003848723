"""Settings: `Recipe`, what I want done, and `Instrument`, what the headers and the detector mean.

Both are frozen dataclasses read from TOML; an unknown key is an error that names the nearest valid
one. Rows are FITS row numbers, both ends included, everywhere in settings.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from arrayred.errors import UsageError
from arrayred.model import FRAME_TYPES

Method = Literal["average", "median"]
RowRange = tuple[int, int]


@dataclass(frozen=True)
class Recipe:
    """What to do with a night.

    Parameters
    ----------
    dark_method : how the darks of one exposure become a master dark.
    dark_tolerance : largest difference between the exposures of a light and its dark, s, inclusive.
    temperature_tolerance : largest difference between the temperatures of a light and its dark,
        deg C; more than 1 is remarked on.
    keep_duplicates : use a frame as often as it is in the folder.
    max_frame_mb : a frame of more megabytes is taken for a mistake.
    combine : how the calibrated lights of a target become one image.
    n_sigma : a row belongs to the spectrum if its mean exceeds the background's mean by this many
        standard deviations of the background's pixels.
    background_rows : the rows of the background sample.
    skip_last_column : leave the last column out of the background sample.
    max_gap : dark rows that do not part a spectrum.
    whole_span : take every row from the lowest to the highest bright one, whatever lies between,
        instead of the run that holds the brightest row.
    rows : the rows of the spectrum; None: find them.
    sky : subtract the sky.
    sky_offset : how many rows above the spectrum's last row the sky band begins.
    sky_side : where the sky band lies; "auto" is above, or below where above is off the image;
        "clipped" is above, cut at the image's edge without a word, as the procedure does.
    sky_per_bright_row : divide the sky-subtracted sum by the number of bright rows instead of the
        number of rows summed.
    calibrated : keep the calibrated frames as well.
    output_dtype : the type in which images are written. Tables are float64 always.

    Examples
    --------
    >>> Recipe(n_sigma=5).n_sigma
    5
    """

    dark_method: Method = "median"
    dark_tolerance: float = 0.5
    temperature_tolerance: float = 3.0
    max_frame_mb: float = 2048.0
    keep_duplicates: bool = False
    combine: Method = "average"
    n_sigma: float = 4.0
    background_rows: RowRange = (1, 50)
    skip_last_column: bool = False
    max_gap: int = 5
    whole_span: bool = False
    rows: RowRange | None = None
    sky: bool = True
    sky_offset: int = 50
    sky_side: Literal["auto", "above", "below", "clipped"] = "auto"
    sky_per_bright_row: bool = False
    calibrated: bool = False
    output_dtype: Literal["float32", "float64"] = "float32"

    def __post_init__(self) -> None:
        """Check every field by its annotation."""
        for setting in dataclasses.fields(self):
            _check_value(setting.name, getattr(self, setting.name))

    @classmethod
    def reference(cls) -> Self:
        """Return the published procedure to the letter.

        Its quirks: a frame that is there twice counts twice; the background sample leaves out the
        last column; the spectrum spans the lowest to the highest bright row; the sky band is cut
        at the image's edge unsaid; the sky-subtracted sum is divided by the number of bright rows.
        Images are float64.
        """
        return cls(
            keep_duplicates=True,
            skip_last_column=True,
            whole_span=True,
            sky_side="clipped",
            sky_per_bright_row=True,
            output_dtype="float64",
        )

    @classmethod
    def from_toml(cls, path: Path) -> Self:
        """Read a recipe from a TOML file; what it leaves out keeps its default."""
        settings = _read_toml(path)
        with _errors_name(path):
            return cls().replace(**settings)

    def replace(self, **changes: Any) -> Self:
        """Return the recipe with some fields changed, checked by name, type and choice.

        Raises
        ------
        UsageError
            A field does not exist, or its value is none of the choices or no valid range.
        """
        known = {f.name for f in dataclasses.fields(self)}
        for name, value in changes.items():
            _require_known(name, known, "setting")
            _check_value(name, value)
        pairs: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in changes.items()}
        return dataclasses.replace(self, **pairs)


@dataclass(frozen=True)
class Instrument:
    """What headers mean and which cards a product must have.

    Parameters
    ----------
    name : the instrument file's name.
    keywords : for each fact (frame_type, exptime, time, ...) the keywords that may hold it, in
        order.
    types : for each frame type the spellings that mean it, lower case.
    words : for each frame type the words in a file's name or OBJECT that betray it.
    elements : names of lamps' elements, which propose an arc.
    cards : cards that every product gets.
    required : cards that every product must have, whether from the frames or from the user.
    """

    name: str
    keywords: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    types: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    elements: tuple[str, ...] = ()
    cards: Mapping[str, str | int | float] = field(default_factory=dict)
    required: tuple[str, ...] = ()

    def frame_type_of(self, spelling: str) -> str | None:
        """Return the frame type that a spelling means, or None.

        Examples
        --------
        >>> Instrument.load("generic").frame_type_of("Light Frame")
        'light'
        """
        return self._by_spelling.get(_spelling(spelling))

    @cached_property
    def _by_spelling(self) -> dict[str, str]:
        """Return which type each spelling means."""
        return {
            _spelling(word): frame_type
            for frame_type, words in reversed(tuple(self.types.items()))
            for word in words
        }

    @classmethod
    def load(cls, name: str | Path) -> Self:
        """Return an instrument by the name of a file that comes with arrayred, or from a TOML file.

        What the file says comes before what `generic` says; nothing generic is lost.

        Raises
        ------
        UsageError
            No such instrument, or the file has a key that means nothing.
        """
        path = Path(name)
        if path.suffix == ".toml":
            settings = _read_toml(path)
            with _errors_name(path):
                return cls._from_settings(path.stem, settings)
        return cls._from_settings(str(name), _builtin(str(name)))

    @classmethod
    def _from_settings(cls, name: str, settings: Mapping[str, Any]) -> Self:
        for key in settings:
            _require_known(
                key, set(_INSTRUMENT_TABLES) | _INSTRUMENT_LISTS, "key of an instrument file"
            )
        generic = _builtin("generic")
        for key in _INSTRUMENT_TABLES:
            _require_table(key, settings.get(key, {}), of_lists=key != "cards")
        for key in _INSTRUMENT_LISTS:
            _require_texts(key, settings.get(key, []))
        for frame_type in (*settings.get("types", {}), *settings.get("words", {})):
            _require_known(frame_type, set(FRAME_TYPES), "frame type")
        for fact in settings.get("keywords", {}):
            _require_known(fact, set(generic["keywords"]), "fact")
        return cls(
            name=name,
            keywords=_merged(settings.get("keywords", {}), generic["keywords"]),
            types=_merged(settings.get("types", {}), generic["types"]),
            words=_merged(settings.get("words", {}), generic["words"]),
            elements=tuple(settings.get("elements", generic["elements"])),
            cards=settings.get("cards", {}),
            required=tuple(settings.get("required", ())),
        )


_INSTRUMENT_TABLES = ("keywords", "types", "words", "cards")
_INSTRUMENT_LISTS = {"required", "elements"}


def builtin_instruments() -> list[str]:
    """Return the names of the instrument files that come with arrayred."""
    folder = resources.files("arrayred") / "instruments"
    return sorted(
        p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")
    )


@cache
def _builtin(name: str) -> dict[str, Any]:
    known = builtin_instruments()
    _require_known(name, set(known), "instrument (a file's name ends in .toml)")
    text = (resources.files("arrayred") / "instruments" / f"{name}.toml").read_text("utf-8")
    return tomllib.loads(text)


def _require_table(name: str, table: object, *, of_lists: bool) -> None:
    if not isinstance(table, dict):
        raise UsageError(f"{name} must be a table, not {table!r}", keyword=name, value=table)
    for key, value in table.items():
        if of_lists:
            _require_texts(key, value)
        elif not isinstance(value, str | int | float):
            raise UsageError(f"{key} must be text or a number, not {value!r}", keyword=key)


def _require_texts(name: str, value: object) -> None:
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise UsageError(f"{name} must be a list of texts, not {value!r}", keyword=name)


def _spelling(text: str) -> str:
    """Return a spelling as it is compared: lower case, underscores and blanks alike."""
    return " ".join(text.lower().replace("_", " ").split())


def _merged(own: Mapping[str, Any], generic: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return lists by name, an instrument's own entries before the generic ones."""
    return {key: tuple(dict.fromkeys((*own.get(key, ()), *generic[key]))) for key in generic}


@contextmanager
def _errors_name(path: Path) -> Iterator[None]:
    """Let errors about settings name the file that they stand in."""
    try:
        yield
    except UsageError as error:
        error.path = str(path)
        raise


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(
            f"The settings cannot be read ({error.strerror})", path=path, hint="Name a TOML file."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"This is not TOML: {error}", path=path, hint="Mend it.") from error


def _require_known(name: str, known: set[str], what: str) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"Valid are {', '.join(sorted(known))}."
        raise UsageError(f"{name!r} is no {what}", keyword=name, hint=hint)


@cache
def _hints() -> dict[str, Any]:
    return get_type_hints(Recipe)


def _check_value(name: str, value: object) -> None:
    """Raise UsageError unless a value fits the annotation of its field of Recipe."""
    kind = _hints()[name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is bool:
        fits, wanted = isinstance(value, bool), "true or false"
    elif get_origin(kind) is Literal:
        fits, wanted = value in get_args(kind), f"one of {', '.join(get_args(kind))}"
    elif kind is int:
        fits = is_number and isinstance(value, int) and value >= 0
        wanted = "a whole number from 0"
    elif kind is float:
        fits, wanted = is_number and 0 <= float(str(value)) < float("inf"), "a number from 0"
    else:
        fits = _is_range(value) or (value is None and type(None) in get_args(kind))
        wanted = "two rows [first, last], 1 <= first <= last"
    if not fits:
        raise UsageError(f"{name} must be {wanted}, not {value!r}", keyword=name, value=value)


def _is_range(value: object) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    first, last = value
    return type(first) is type(last) is int and 1 <= first <= last
